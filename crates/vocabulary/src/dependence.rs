//! How much rows of one hour or one day resemble each other: the reason why a thousand rows may say as little as thirty.
//! Sums by hour, in hours' order; knows nothing of what the scores mean.

use crate::profile::{Dependence, HOURS_OF_WEEK};
use crate::time::{Span, Timestamp};
use std::collections::BTreeMap;

/// Hours that are told apart at most, ten years; scores of further ones are not counted.
pub const HOURS_MAX: usize = 87_660;

/// Collects scores; [`DependenceCounter::estimate`] gives their intraclass correlations.
#[derive(Clone, Debug, Default)]
pub struct DependenceCounter {
    hours: BTreeMap<i64, Sums>,
    /// The hour of the row before: most rows come hour by hour.
    open: Option<(i64, Sums)>,
    left_out: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    rows: f64,
    sum: f64,
    squares: f64,
}

impl DependenceCounter {
    pub fn push(&mut self, at: Timestamp, score: f64) {
        let hour = at.0.div_euclid(Span::hours(1).0);
        if self.open.is_none_or(|(open, _)| open != hour) {
            self.flush();
            self.open = Some((hour, Sums::default()));
        }
        if let Some((_, sums)) = &mut self.open {
            sums.rows += 1.0;
            sums.sum += score;
            sums.squares += score * score;
        }
    }

    fn flush(&mut self) {
        let Some((hour, sums)) = self.open.take() else { return };
        if self.hours.len() >= HOURS_MAX && !self.hours.contains_key(&hour) {
            self.left_out += sums.rows as u64;
            return;
        }
        let all = self.hours.entry(hour).or_default();
        all.rows += sums.rows;
        all.sum += sums.sum;
        all.squares += sums.squares;
    }

    /// Scores that found no place.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Distinct hours by hour of the week.
    pub fn strata_hours(&mut self) -> Vec<u32> {
        self.flush();
        let mut hours = vec![0; HOURS_OF_WEEK];
        for hour in self.hours.keys() {
            hours[stratum(*hour)] += 1;
        }
        hours
    }

    /// The analysis of variance's estimate (Donner, "A review of inference procedures for the intraclass correlation
    /// coefficient", International Statistical Review 1986), within hours of the week, plus one standard error: what is
    /// not known should count as dependent. Nothing counts as independent before it was seen in two weeks.
    pub fn estimate(&mut self) -> Dependence {
        self.flush();
        let mut strata = vec![(Sums::default(), 0.0f64); HOURS_OF_WEEK];
        for (hour, sums) in &self.hours {
            let (all, hours) = &mut strata[stratum(*hour)];
            all.rows += sums.rows;
            all.sum += sums.sum;
            all.squares += sums.squares;
            *hours += 1.0;
        }
        let mut days: BTreeMap<i64, (f64, f64, f64, f64)> = BTreeMap::new();
        let (mut between, mut pairs) = (0.0, 0.0);
        let (mut within, mut rows) = (0.0, 0.0);
        for (hour, sums) in &self.hours {
            let (all, hours) = &strata[stratum(*hour)];
            if *hours < 2.0 {
                continue;
            }
            let mean = all.sum / all.rows;
            // The stratum's mean is made of these rows too; that takes one part in `hours` away.
            let inflate = (hours / (hours - 1.0)).sqrt();
            let off = (sums.sum - sums.rows * mean) * inflate;
            between += off * off;
            pairs += sums.rows * (sums.rows - 1.0);
            within += (sums.squares - 2.0 * mean * sums.sum + sums.rows * mean * mean).max(0.0);
            rows += sums.rows;
            let day = days.entry(hour.div_euclid(24)).or_default();
            day.0 += sums.rows;
            day.1 += off;
            day.2 += sums.rows * sums.rows;
            day.3 += off * off;
        }
        if rows < 2.0 || within <= 0.0 {
            return Dependence { hour: 1.0, day: 0.0 };
        }
        let variance = within / rows;
        let share = |excess: f64, pairs: f64| {
            if pairs <= 0.0 {
                return 0.0;
            }
            (excess / (variance * pairs) + (2.0 / pairs).sqrt()).clamp(0.0, 1.0)
        };
        let hour = share(between - within, pairs);
        let (mut day_excess, mut day_pairs) = (0.0, 0.0);
        for (rows, off, squares, offs) in days.values() {
            day_excess += off * off - offs;
            day_pairs += rows * rows - squares;
        }
        // The error of a day's share: hours are what varies, and there are few of them.
        let spread = variance * (1.0 + hour * (pairs / rows));
        let count = days.len().max(1) as f64;
        let error =
            if day_pairs > 0.0 { (2.0f64 / count).sqrt() * spread * rows / (variance * day_pairs) } else { 0.0 };
        let day = if day_pairs > 0.0 { day_excess / (variance * day_pairs) } else { 0.0 };
        // What is within two errors of nothing is taken for nothing but its error.
        let day = if day > 2.0 * error { day + error } else { error.min(day.max(0.0) + error) };
        Dependence { hour, day: day.clamp(0.0, 1.0) }
    }
}

fn stratum(hour: i64) -> usize {
    usize::from(Timestamp(hour * Span::hours(1).0).hour_of_week())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uniform in [0, 1), a function of its place.
    fn draw(place: u64) -> f64 {
        let mut z = place.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn counted(hourly: f64, daily: f64) -> Dependence {
        let mut counter = DependenceCounter::default();
        for row in 0..80_640i64 {
            let (hour, day) = (row / 40, row / 960);
            let season = if hour % 24 < 12 { 1.0 } else { 0.0 };
            let own = draw(row as u64) - 0.5;
            let shared = hourly * (draw(1_000_000 + hour as u64) - 0.5) + daily * (draw(2_000_000 + day as u64) - 0.5);
            counter.push(Timestamp(hour * Span::hours(1).0), season + own + shared);
        }
        counter.estimate()
    }

    #[test]
    fn independent_rows_are_nearly_called_that_whatever_the_season() {
        let found = counted(0.0, 0.0);
        assert!(found.hour < 0.004 && found.day < 0.001, "{found:?}");
    }

    #[test]
    fn what_an_hour_and_a_day_share_is_measured() {
        let hour = counted(1.0, 0.0);
        assert!((0.45..0.58).contains(&hour.hour) && hour.day < 0.06, "{hour:?}");
        let day = counted(0.0, 1.0);
        assert!((0.35..0.65).contains(&day.day) && day.hour > 0.35, "{day:?}");
    }

    #[test]
    fn a_single_week_says_nothing() {
        let mut counter = DependenceCounter::default();
        (0..1000).for_each(|row| counter.push(Timestamp(row * Span::hours(1).0 / 10), draw(row as u64)));
        assert_eq!(counter.estimate().hour, 1.0);
    }
}
