//! How large a share is, from counts: bounds that hold for all looks together, and sums over sliding windows of minutes.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use vocabulary::{Span, Timestamp};

/// Minutes that a tally remembers at most: 92 days, the longest period of an error budget.
pub const MINUTES_MAX: usize = 92 * 24 * 60;

/// Bounds on the probability behind `hits` of `all`: with probability at least `1 - alpha`, the truth is between them
/// at every time. Robbins' mixture over a uniform prior (Robbins, "Statistical methods related to the law of the iterated
/// logarithm", Annals of Mathematical Statistics 1970): shares `p` are kept for which the mixture's likelihood is below
/// `1 / alpha` times that of `p`.
pub fn share_bounds(hits: f64, all: f64, alpha: f64) -> (f64, f64) {
    if all <= 0.0 {
        return (0.0, 1.0);
    }
    let misses = all - hits;
    let mixture = ln_gamma(hits + 1.0) + ln_gamma(misses + 1.0) - ln_gamma(all + 2.0);
    let likelihood = |p: f64| {
        let of = |count: f64, p: f64| if count > 0.0 { count * p.ln() } else { 0.0 };
        of(hits, p) + of(misses, 1.0 - p)
    };
    let kept = |p: f64| mixture - likelihood(p) < -alpha.ln();
    let most_likely = hits / all;
    let halved = |mut outside: f64, mut inside: f64| {
        if kept(outside) {
            return outside;
        }
        for _ in 0..60 {
            let middle = 0.5 * (outside + inside);
            if kept(middle) { inside = middle } else { outside = middle }
        }
        outside
    };
    (halved(0.0, most_likely), halved(1.0, most_likely))
}

/// Logarithm of the gamma function for `x >= 1`: Stirling's series, after stepping up to where it is exact to 1e-12.
fn ln_gamma(mut x: f64) -> f64 {
    let mut stepped = 0.0;
    while x < 12.0 {
        stepped += x.ln();
        x += 1.0;
    }
    let inverse = 1.0 / x;
    let square = inverse * inverse;
    let series = inverse * (1.0 / 12.0 - square * (1.0 / 360.0 - square * (1.0 / 1260.0 - square / 1680.0)));
    (x - 0.5) * x.ln() - x + 0.5 * std::f64::consts::TAU.ln() + series - stepped
}

/// Events, and those among them that were bad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub all: u64,
    pub bad: u64,
}

impl Count {
    pub fn share(self) -> f64 {
        if self.all == 0 { 0.0 } else { self.bad as f64 / self.all as f64 }
    }

    /// Bounds on the share, at any time.
    pub fn bounds(self, alpha: f64) -> (f64, f64) {
        share_bounds(self.bad as f64, self.all as f64, alpha)
    }
}

/// Counts by minute, as sums from the beginning, so that any window is one subtraction. Minutes without events take no
/// room; beyond [`MINUTES_MAX`] the oldest leave.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Tally {
    /// Minute, and events and bad ones up to its end.
    sums: VecDeque<(i64, u64, u64)>,
    /// What had been counted before the first minute that is remembered.
    before: (u64, u64),
    /// When anything was counted last.
    newest: Option<Timestamp>,
}

const MINUTE: i64 = 60_000_000;

impl Tally {
    /// Counts events at `at`. Those before the newest minute count in it.
    pub fn add(&mut self, at: Timestamp, count: Count) {
        if count.all == 0 && count.bad == 0 {
            return;
        }
        self.newest = self.newest.max(Some(at));
        let minute = at.0.div_euclid(MINUTE);
        let (last, all, bad) = self.sums.back().copied().unwrap_or((i64::MIN, self.before.0, self.before.1));
        let sums = (all + count.all, bad + count.bad);
        if let Some(newest) = self.sums.back_mut().filter(|_| minute <= last) {
            (newest.1, newest.2) = sums;
            return;
        }
        self.sums.push_back((minute, sums.0, sums.1));
        if self.sums.len() > MINUTES_MAX
            && let Some((_, all, bad)) = self.sums.pop_front()
        {
            self.before = (all, bad);
        }
    }

    /// What happened in the window that ends at `now`, in whole minutes.
    pub fn within(&self, window: Span, now: Timestamp) -> Count {
        let from = (now.0 - window.0).div_euclid(MINUTE);
        let place = self.sums.partition_point(|(minute, _, _)| *minute <= from);
        let before = match place {
            0 => self.before,
            place => (self.sums[place - 1].1, self.sums[place - 1].2),
        };
        let (_, all, bad) = self.sums.back().copied().unwrap_or((0, self.before.0, self.before.1));
        Count { all: all - before.0, bad: bad - before.1 }
    }

    /// When anything was counted last.
    pub fn newest(&self) -> Option<Timestamp> {
        self.newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    #[test]
    fn the_gamma_function_is_factorials() {
        for (x, factorial) in [(1.0, 1.0f64), (2.0, 1.0), (6.0, 120.0), (11.0, 3_628_800.0)] {
            assert!((ln_gamma(x) - factorial.ln()).abs() < 1e-10, "{x}: {}", ln_gamma(x));
        }
        // CPython 3: math.lgamma(100.5).
        assert!((ln_gamma(100.5) - 361.4355404677776).abs() < 1e-9, "{}", ln_gamma(100.5));
    }

    #[test]
    fn one_error_at_night_proves_nothing_and_many_do() {
        let low = |bad, all| share_bounds(bad, all, 0.01).0;
        assert!(low(1.0, 10.0) < 0.001, "{}", low(1.0, 10.0));
        assert!(low(8.0, 10.0) > 0.1);
        assert!(low(144.0, 10_000.0) > 0.009 && low(144.0, 10_000.0) < 0.0144);
        assert_eq!(share_bounds(0.0, 0.0, 0.01), (0.0, 1.0));
        let (low, high) = share_bounds(5.0, 5.0, 0.05);
        assert!(low > 0.2 && high == 1.0, "{low} {high}");
    }

    #[test]
    fn the_bounds_hold_at_every_time() {
        let (mut left, worlds) = (0, 400);
        for seed in 0..worlds {
            let mut random = Random(seed);
            let mut hits = 0.0;
            let outside = (1..=2000).any(|all| {
                hits += f64::from(u8::from(random.unit() < 0.05));
                let (low, high) = share_bounds(hits, f64::from(all), 0.05);
                !(low..=high).contains(&0.05)
            });
            left += u32::from(outside);
        }
        // 5 % of 400 are 20; Ville's inequality is an upper bound.
        assert!(left <= 20, "{left} of {worlds}");
    }

    #[test]
    fn windows_are_what_happened_in_them() {
        let minute = |n: i64| Timestamp(n * MINUTE);
        let mut tally = Tally::default();
        for n in 0..100 {
            tally.add(minute(n), Count { all: 10, bad: u64::from(n >= 90) });
        }
        assert_eq!(tally.within(Span(20 * MINUTE), minute(99)), Count { all: 200, bad: 10 });
        assert_eq!(tally.within(Span::days(1), minute(99)), Count { all: 1000, bad: 10 });
        assert_eq!(tally.within(Span(5 * MINUTE), minute(500)), Count::default());
        for n in 100..MINUTES_MAX as i64 + 100 {
            tally.add(minute(n), Count { all: 1, bad: 0 });
        }
        assert_eq!(tally.sums.len(), MINUTES_MAX);
        let end = minute(MINUTES_MAX as i64 + 99);
        assert_eq!(tally.within(Span::days(1000), end).all, MINUTES_MAX as u64);
        assert_eq!(tally.newest(), Some(end));
    }
}
