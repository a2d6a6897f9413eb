//! Latencies in fixed logarithmic buckets: exact counts, mergeable, no allocation and no lock when one is recorded.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets a factor of two: a quantile is right to within 4.5 %.
const A_DOUBLING: usize = 16;
/// From 1 µs to about 70 minutes.
const BUCKETS: usize = A_DOUBLING * 32;

pub struct Histogram {
    counts: Vec<AtomicU64>,
    sum_ns: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { counts: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(), sum_ns: AtomicU64::new(0) }
    }
}

impl Histogram {
    pub fn record(&self, took: Duration) {
        let us = took.as_nanos() as f64 / 1e3;
        let bucket = (us.max(1.0).log2() * A_DOUBLING as f64).ceil() as usize;
        self.counts[bucket.min(BUCKETS - 1)].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(took.as_nanos() as u64, Ordering::Relaxed);
    }

    pub fn snapshot(&self) -> Vec<u64> {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }

    pub fn sum_seconds(&self) -> f64 {
        self.sum_ns.load(Ordering::Relaxed) as f64 / 1e9
    }
}

/// Upper end of a bucket, in milliseconds.
pub fn upper_ms(bucket: usize) -> f64 {
    (bucket as f64 / A_DOUBLING as f64).exp2() / 1e3
}

/// The value below which the share `q` of the counted lie, in milliseconds; none where nothing was counted.
pub fn quantile_ms(counts: &[u64], q: f64) -> Option<f64> {
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return None;
    }
    let wanted = ((total as f64 * q).ceil() as u64).max(1);
    let mut seen = 0;
    for (bucket, count) in counts.iter().enumerate() {
        seen += count;
        if seen >= wanted {
            return Some(upper_ms(bucket));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_near_the_truth() {
        let histogram = Histogram::default();
        (1..=1000).for_each(|i| histogram.record(Duration::from_micros(i)));
        let counts = histogram.snapshot();
        for (q, truth) in [(0.5, 0.5), (0.99, 0.99), (1.0, 1.0)] {
            let found = quantile_ms(&counts, q).unwrap();
            assert!((found / truth - 1.0).abs() < 0.05, "{q}: {found}");
        }
        assert_eq!(quantile_ms(&[0, 0], 0.5), None);
    }
}
