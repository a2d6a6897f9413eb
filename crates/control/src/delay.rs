//! The current loss when outcomes come late, and those that come early are not like the others: a fraud is known within
//! hours, a sale that went well after a month. Knows hours and losses, no reason for the delay.
//!
//! An outcome with delay `d` can be known now only if its row is old enough. So among rows of any age each known outcome
//! stands for as many as there are rows for each row that is old enough for it: inverse probability of censoring, where the
//! ages are known and nothing has to be modelled (Robins & Rotnitzky 1992; for delays alone it gives Kaplan & Meier's
//! estimate). It holds as long as the delays of a kind of outcome are the same throughout the window.

use std::collections::{BTreeMap, VecDeque};
use vocabulary::{Interval, Span, Timestamp};

/// Hours of the window at most, ninety days; older ones are forgotten.
pub const WINDOW_HOURS_MAX: usize = 24 * 90;
/// 95 %, two sided.
const NORMAL_95: f64 = 1.959_964;

#[derive(Clone, Debug, Default)]
struct Hour {
    hour: i64,
    rows: f64,
    /// By delay in hours: outcomes, and the sum of their losses.
    known: BTreeMap<i64, (f64, f64)>,
}

/// Rows and their outcomes by hour of the prediction and delay.
#[derive(Clone, Debug)]
pub struct DelayedLoss {
    window: usize,
    hours: VecDeque<Hour>,
    /// Outcomes of rows that are not in the window, or that were known before they were predicted.
    left_out: u64,
}

/// What is known about the loss of all rows of the window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DelayedEstimate {
    pub mean: f64,
    /// 95 %; hours are what varies.
    pub interval: Interval,
    /// The plain mean of what is known: biased where early outcomes differ.
    pub naive: f64,
    /// Share of the rows whose outcome will be known by the age of the window's oldest.
    pub known_in_the_end: f64,
    /// Outcomes that count.
    pub outcomes: f64,
}

impl DelayedLoss {
    /// A window of `window` hours, which should be longer than nearly all delays.
    pub fn new(window: usize) -> Self {
        DelayedLoss { window: window.clamp(1, WINDOW_HOURS_MAX), hours: VecDeque::new(), left_out: 0 }
    }

    /// Rows answered at `at`; in order of time.
    pub fn predicted(&mut self, at: Timestamp, rows: u64) {
        let hour = hour_of(at);
        if self.hours.back().is_none_or(|last| last.hour < hour) {
            self.hours.push_back(Hour { hour, ..Hour::default() });
        }
        match self.hours.binary_search_by_key(&hour, |own| own.hour) {
            Ok(place) => self.hours[place].rows += rows as f64,
            Err(_) => self.left_out += rows,
        }
        while self.hours.front().is_some_and(|first| first.hour + self.window as i64 <= hour) {
            self.hours.pop_front();
        }
    }

    /// One outcome with its bounded loss.
    pub fn known(&mut self, predicted: Timestamp, known: Timestamp, loss: f64) {
        let delay = (known - predicted).0.div_euclid(Span::hours(1).0);
        let hour = hour_of(predicted);
        let place = self.hours.binary_search_by_key(&hour, |own| own.hour);
        let Some(own) = place.ok().and_then(|place| self.hours.get_mut(place)).filter(|_| delay >= 0) else {
            self.left_out += 1;
            return;
        };
        let sums = own.known.entry(delay).or_default();
        sums.0 += 1.0;
        sums.1 += loss;
    }

    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// Whether all outcomes with a delay have come by `now`, of rows of an hour.
    fn is_settled(hour: i64, delay: i64, now: i64) -> bool {
        hour + delay + 2 <= now
    }

    /// Rows that are old enough for each delay that was seen.
    fn old_enough(&self, now: i64) -> BTreeMap<i64, f64> {
        let delays: Vec<i64> = self.hours.iter().flat_map(|own| own.known.keys().copied()).collect();
        let rows = |delay: i64| -> f64 {
            self.hours.iter().filter(|own| Self::is_settled(own.hour, delay, now)).map(|own| own.rows).sum()
        };
        let mut settled = BTreeMap::new();
        for delay in delays {
            settled.entry(delay).or_insert_with(|| rows(delay));
        }
        settled
    }

    /// None before anything is settled.
    pub fn estimate(&self, now: Timestamp) -> Option<DelayedEstimate> {
        let now = hour_of(now);
        let rows = self.old_enough(now);
        let settled = |own: &Hour| -> Vec<(f64, f64, f64)> {
            let cells = own.known.iter().filter(|(delay, _)| Self::is_settled(own.hour, **delay, now));
            cells.filter_map(|(delay, (count, sum))| Some((*count, *sum, *rows.get(delay)?))).collect()
        };
        let (mut share, mut loss, mut outcomes) = (0.0, 0.0, 0.0);
        for (count, sum, rows) in self.hours.iter().flat_map(settled) {
            share += count / rows;
            loss += sum / rows;
            outcomes += count;
        }
        if share <= 0.0 {
            return None;
        }
        let mean = loss / share;
        let off = |own: &Hour| settled(own).iter().map(|(count, sum, rows)| (sum - mean * count) / rows).sum::<f64>();
        let squares: f64 = self.hours.iter().map(|own| off(own) * off(own)).sum();
        let hours = self.hours.len() as f64;
        let radius = NORMAL_95 * (squares * hours / (hours - 1.0).max(1.0)).sqrt() / share;
        let all = self.hours.iter().flat_map(|own| own.known.values());
        let (count, sum) = all.fold((0.0, 0.0), |all, own| (all.0 + own.0, all.1 + own.1));
        Some(DelayedEstimate {
            mean,
            interval: Interval { low: mean - radius, high: mean + radius },
            naive: sum / count,
            known_in_the_end: share.min(1.0),
            outcomes,
        })
    }

    /// Hours within which this share of all outcomes that ever come is known.
    pub fn delay_quantile(&self, share: f64, now: Timestamp) -> Option<i64> {
        let now = hour_of(now);
        let mut by_delay: BTreeMap<i64, f64> = BTreeMap::new();
        let rows = self.old_enough(now);
        for own in &self.hours {
            for (delay, (count, _)) in own.known.iter().filter(|(delay, _)| Self::is_settled(own.hour, **delay, now)) {
                *by_delay.entry(*delay).or_default() += count / rows.get(delay)?;
            }
        }
        let all: f64 = by_delay.values().sum();
        let mut sum = 0.0;
        by_delay.into_iter().find_map(|(delay, own)| {
            sum += own;
            (sum >= share * all).then_some(delay)
        })
    }
}

fn hour_of(at: Timestamp) -> i64 {
    at.0.div_euclid(Span::hours(1).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hour: i64) -> Timestamp {
        Timestamp(hour * Span::hours(1).0)
    }

    #[test]
    fn early_bad_news_does_not_bias_the_estimate() {
        // Each hour ten rows: two lose everything and are known after 1 h, eight lose nothing and are known after 50 h.
        let mut losses = DelayedLoss::new(168);
        for hour in 0..168 {
            losses.predicted(at(hour), 10);
            if hour + 1 < 168 {
                (0..2).for_each(|_| losses.known(at(hour), at(hour + 1), 1.0));
            }
            if hour + 50 < 168 {
                (0..8).for_each(|_| losses.known(at(hour), at(hour + 50), 0.0));
            }
        }
        let found = losses.estimate(at(168)).unwrap();
        assert!((found.mean - 0.2).abs() < 1e-9, "{found:?}");
        assert!(found.naive > 0.25 && (found.known_in_the_end - 1.0).abs() < 1e-9, "{found:?}");
        assert_eq!(losses.delay_quantile(0.1, at(168)), Some(1));
        assert_eq!(losses.delay_quantile(0.9, at(168)), Some(50));
    }

    #[test]
    fn what_never_comes_is_counted_as_missing_and_old_hours_are_forgotten() {
        let mut losses = DelayedLoss::new(48);
        for hour in 0..200 {
            losses.predicted(at(hour), 4);
            losses.known(at(hour), at(hour), 0.5);
        }
        let found = losses.estimate(at(202)).unwrap();
        assert!((found.known_in_the_end - 0.25).abs() < 1e-9 && found.outcomes == 48.0, "{found:?}");
        losses.known(at(3), at(201), 1.0);
        losses.known(at(190), at(180), 1.0);
        assert_eq!(losses.left_out(), 2);
        assert!(DelayedLoss::new(48).estimate(at(0)).is_none());
    }
}
