//! Detectors of the stream literature, as river 0.26 has them. Their false alarms are not bounded: shown beside ours, they
//! decide nothing.

use std::collections::VecDeque;

/// ADWIN (Bifet & Gavaldà, "Learning from time-changing data with adaptive windowing", SDM 2007) with river's defaults.
#[derive(Clone, Debug)]
pub struct Adwin {
    delta: f64,
    clock: u64,
    /// By power of two: totals and variances of the buckets, oldest first.
    rows: Vec<VecDeque<(f64, f64)>>,
    width: f64,
    total: f64,
    variance: f64,
    ticks: u64,
}

const BUCKETS: usize = 5;
const GRACE: f64 = 10.0;
const SHORTEST: f64 = 5.0;

impl Adwin {
    /// `delta` .002 and `clock` 32 are river's defaults: a test every so many values.
    pub fn new(delta: f64, clock: u64) -> Self {
        let rows = vec![VecDeque::new()];
        Adwin { delta, clock, rows, width: 0.0, total: 0.0, variance: 0.0, ticks: 0 }
    }

    /// Whether the window was cut after this value.
    pub fn push(&mut self, value: f64) -> bool {
        self.rows[0].push_back((value, 0.0));
        self.width += 1.0;
        if self.width > 1.0 {
            let off = value - self.total / (self.width - 1.0);
            self.variance += (self.width - 1.0) * off * off / self.width;
        }
        self.total += value;
        self.compress();
        self.ticks += 1;
        let mut changed = false;
        if self.ticks.is_multiple_of(self.clock) && self.width > GRACE {
            while self.cut() {
                changed = true;
                self.forget();
            }
        }
        changed
    }

    pub fn mean(&self) -> f64 {
        if self.width > 0.0 { self.total / self.width } else { 0.0 }
    }

    fn compress(&mut self) {
        let mut row = 0;
        while row < self.rows.len() && self.rows[row].len() > BUCKETS {
            if row + 1 == self.rows.len() {
                self.rows.push(VecDeque::new());
            }
            let size = (1u64 << row) as f64;
            let (Some((u1, v1)), Some((u2, v2))) = (self.rows[row].pop_front(), self.rows[row].pop_front()) else {
                return;
            };
            let off = u1 / size - u2 / size;
            self.rows[row + 1].push_back((u1 + u2, v1 + v2 + 0.5 * size * off * off));
            row += 1;
        }
    }

    /// Whether some split of the window has halves that differ.
    fn cut(&self) -> bool {
        let (mut n0, mut u0, mut n1, mut u1) = (0.0, 0.0, self.width, self.total);
        for (row, buckets) in self.rows.iter().enumerate().rev() {
            let size = (1u64 << row) as f64;
            for (place, (total, _)) in buckets.iter().enumerate() {
                n0 += size;
                n1 -= size;
                u0 += total;
                u1 -= total;
                if row == 0 && place + 1 == buckets.len() {
                    return false;
                }
                if n0 >= SHORTEST && n1 >= SHORTEST && self.differ(n0, n1, u0 / n0 - u1 / n1) {
                    return true;
                }
            }
        }
        false
    }

    fn differ(&self, n0: f64, n1: f64, difference: f64) -> bool {
        let log = (2.0 * self.width.ln() / self.delta).ln();
        let m = 1.0 / (n0 - SHORTEST + 1.0) + 1.0 / (n1 - SHORTEST + 1.0);
        let variance = self.variance / self.width;
        difference.abs() > (2.0 * m * variance * log).sqrt() + 2.0 / 3.0 * log * m
    }

    /// Drops the oldest bucket.
    fn forget(&mut self) {
        let Some((total, variance)) = self.rows.last_mut().and_then(VecDeque::pop_front) else { return };
        let size = (1u64 << (self.rows.len() - 1)) as f64;
        self.width -= size;
        self.total -= total;
        let off = total / size - self.total / self.width;
        self.variance -= variance + size * self.width * off * off / (size + self.width);
        while self.rows.len() > 1 && self.rows.last().is_some_and(VecDeque::is_empty) {
            self.rows.pop();
        }
    }
}

/// Page-Hinkley in both directions, with river's forgetting.
#[derive(Clone, Debug)]
pub struct PageHinkley {
    threshold: f64,
    count: f64,
    mean: f64,
    up: f64,
    down: f64,
    lowest: f64,
    highest: f64,
}

const PH_ROWS_MIN: f64 = 30.0;
const PH_DELTA: f64 = 0.005;
const PH_KEEP: f64 = 1.0 - 0.0001;

impl PageHinkley {
    /// `threshold` 50 is river's default. It is in the unit of the values: nobody can say what its false alarms are.
    pub fn new(threshold: f64) -> Self {
        let (lowest, highest) = (f64::INFINITY, f64::NEG_INFINITY);
        PageHinkley { threshold, count: 0.0, mean: 0.0, up: 0.0, down: 0.0, lowest, highest }
    }

    /// Whether the mean has changed; then it begins anew.
    pub fn push(&mut self, value: f64) -> bool {
        self.count += 1.0;
        self.mean += (value - self.mean) / self.count;
        let off = value - self.mean;
        self.up = PH_KEEP * self.up + off - PH_DELTA;
        self.down = PH_KEEP * self.down + off + PH_DELTA;
        self.lowest = self.lowest.min(self.up);
        self.highest = self.highest.max(self.down);
        let far = self.up - self.lowest > self.threshold || self.highest - self.down > self.threshold;
        let changed = self.count >= PH_ROWS_MIN && far;
        if changed {
            *self = PageHinkley::new(self.threshold);
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream() -> impl Iterator<Item = f64> {
        (0..2000i64).map(|i| {
            let wave = ((i * 7919) % 13 - 6) as f64 / 6.0;
            if i < 1000 { 0.8 + 0.05 * wave } else { 0.4 + 0.02 * wave }
        })
    }

    fn alarms(mut push: impl FnMut(f64) -> bool) -> Vec<usize> {
        stream().enumerate().filter(|(_, value)| push(*value)).map(|(place, _)| place).collect()
    }

    #[test]
    fn they_alarm_where_rivers_do() {
        let (mut adwin, mut eager) = (Adwin::new(0.002, 32), Adwin::new(0.002, 1));
        assert_eq!(alarms(|value| adwin.push(value)).first(), Some(&1023));
        assert_eq!(alarms(|value| eager.push(value)).first(), Some(&1021));
        let (mut slow, mut quick) = (PageHinkley::new(50.0), PageHinkley::new(5.0));
        assert_eq!(alarms(|value| slow.push(value)), [1135]);
        assert_eq!(alarms(|value| quick.push(value)).first(), Some(&1012));
        assert!((adwin.mean() - 0.4).abs() < 0.01);
    }
}
