//! The last rows as they came, and the last hours' mean ranks: what a cause is read from. Bounded; decides nothing.

use super::expected::Expected;
use std::collections::VecDeque;

/// Rows that are kept as they came: enough to tell one distribution from another.
pub const ROWS_MAX: usize = 1024;
/// Hours of which the mean ranks are kept: two turns of the day.
pub const HOURS_MAX: usize = 48;
/// Hours that a shift of the clock is looked for in, each way.
const SHIFT_MAX: i32 = 14;
/// A feature whose expected rank varies less over the week (as a variance) says nothing about the clock.
const SEASON_MIN: f64 = 0.004;

#[derive(Clone, Debug, Default)]
pub struct Recent {
    width: usize,
    /// Hour of each row, and its numbers; not a number where there is none. A ring.
    hours: Vec<i64>,
    numbers: Vec<f64>,
    next: usize,
    means: VecDeque<(i64, f64, Vec<f64>)>,
}

impl Recent {
    pub fn new(width: usize) -> Self {
        Recent { width, ..Recent::default() }
    }

    #[inline]
    pub fn row(&mut self, hour: i64, numbers: &[f64]) {
        if numbers.len() != self.width {
            return;
        }
        if self.hours.len() < ROWS_MAX {
            self.hours.push(hour);
            self.numbers.extend_from_slice(numbers);
        } else {
            self.hours[self.next] = hour;
            self.numbers[self.next * self.width..(self.next + 1) * self.width].copy_from_slice(numbers);
            self.next = (self.next + 1) % ROWS_MAX;
        }
    }

    pub fn hour(&mut self, ended: (i64, f64, Vec<f64>)) {
        if self.means.len() == HOURS_MAX {
            self.means.pop_front();
        }
        self.means.push_back(ended);
    }

    /// Places of rows since `begin`, oldest first.
    fn rows(&self, begin: i64) -> impl Iterator<Item = usize> {
        let count = self.hours.len();
        let from = if count < ROWS_MAX { 0 } else { self.next };
        (0..count).map(move |place| (from + place) % count).filter(move |place| self.hours[*place] >= begin)
    }

    /// Numbers of a feature in rows since `begin`, oldest first; missing ones are left out.
    pub fn values(&self, feature: usize, begin: i64) -> Vec<f64> {
        let values = self.rows(begin).map(|place| self.numbers[place * self.width + feature]);
        values.filter(|value| !value.is_nan()).collect()
    }

    /// What the reference expects of a feature in the hours of those rows: counts by bin.
    pub fn expected(&self, feature: usize, begin: i64, expected: &Expected) -> Vec<f64> {
        let range = expected.layout.range(feature);
        let mut counts = vec![0.0; range.len()];
        for place in self.rows(begin) {
            let stratum = expected.stratum(hour_of_week(self.hours[place]));
            let shares = &expected.shares(stratum)[range.clone()];
            counts.iter_mut().zip(shares).for_each(|(count, share)| *count += f64::from(*share));
        }
        counts
    }

    /// Hours by which the week's pattern came early in all features that have one, since `begin`: the shift of the clock
    /// that leaves the least unexplained, if that is much less than no shift leaves, and than a constant change of
    /// each feature does.
    pub fn shift_of_clock(&self, expected: &Expected, begin: i64) -> Option<i32> {
        let seasonal: Vec<usize> =
            (0..self.width).filter(|f| expected.numeric[*f] && expected.season(*f) > SEASON_MIN).collect();
        let hours: Vec<&(i64, f64, Vec<f64>)> = self.means.iter().filter(|(hour, ..)| *hour >= begin).collect();
        if seasonal.is_empty() || hours.len() < 3 {
            return None;
        }
        let unexplained = |shift: i32| -> f64 {
            let of_hour = |(hour, rows, means): &&(i64, f64, Vec<f64>)| -> f64 {
                let week = (hour_of_week(*hour) as i32 + shift).rem_euclid(168) as u16;
                let off = |f: &usize| means[*f] - expected.mean(week, *f);
                rows * seasonal.iter().map(|f| off(f) * off(f)).sum::<f64>()
            };
            hours.iter().map(of_hour).sum()
        };
        let constant: f64 = seasonal
            .iter()
            .map(|f| {
                let off = |(hour, _, means): &&(i64, f64, Vec<f64>)| means[*f] - expected.mean(hour_of_week(*hour), *f);
                let rows: f64 = hours.iter().map(|hour| hour.1).sum();
                let mean = hours.iter().map(|hour| hour.1 * off(hour)).sum::<f64>() / rows;
                hours.iter().map(|hour| hour.1 * (off(hour) - mean).powi(2)).sum::<f64>()
            })
            .sum();
        let unshifted = unexplained(0);
        let shifts = (-SHIFT_MAX..=SHIFT_MAX).filter(|shift| *shift != 0);
        let (least, shift) = shifts
            .map(|shift| (unexplained(shift), shift))
            .min_by(|a, b| a.0.total_cmp(&b.0).then(a.1.abs().cmp(&b.1.abs())))?;
        // What is left over by chance: a rank's variance is about a twelfth, for each hour and feature.
        let chance = (hours.len() * seasonal.len()) as f64 / 12.0;
        let much_less = least < 0.4 * unshifted && least < 0.7 * constant;
        (much_less && least < 3.0 * chance).then_some(shift)
    }
}

fn hour_of_week(hour: i64) -> u16 {
    vocabulary::Timestamp(hour * vocabulary::Span::hours(1).0).hour_of_week()
}
