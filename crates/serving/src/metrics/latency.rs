//! Our fine buckets as Prometheus's histograms: classic ones at each doubling, and native ones at full resolution for
//! scrapes in protobuf (text leaves those out).

use crate::histogram::{Histogram, upper_ms};
use crate::series::{Labels, Series};
use prometheus_client::encoding::{DescriptorEncoder, NativeHistogram, NativeHistogramBuckets, NoLabelSet};
use prometheus_client::metrics::MetricType;
use std::fmt;
use std::sync::Arc;

/// Every so many of our fine buckets make one classic bucket: a factor of two.
const FINE_BUCKETS: usize = 16;
/// From 64 µs to 33 s.
const DOUBLINGS: std::ops::RangeInclusive<usize> = 6..=25;

/// Native buckets of schema 4 have our width, and are counted from one second, ours from one microsecond:
/// 16 · log2(10⁶) is 318.9 buckets apart. Rounding that moves their ends by 0.4 %, a tenth of their width.
const SCHEMA: i32 = 4;
const NATIVE_SHIFT: i32 = 319;
/// Prometheus's own default (https://prometheus.io/docs/specs/native_histograms/).
const ZERO_THRESHOLD: f64 = 2.938735877055719e-39;

/// Which of a series' histograms.
pub(super) type Of = fn(&Series) -> &Histogram;

pub(super) fn encode(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    series: &[(Labels, Arc<Series>)],
    of: Of,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for ((model, version, tenant), series) in series {
        let histogram = of(series);
        let fine = histogram.snapshot();
        let (spans, deltas) = sparse(&fine);
        let none = NativeHistogramBuckets { spans: &[], deltas: &[] };
        let native = NativeHistogram {
            schema: SCHEMA,
            zero_threshold: ZERO_THRESHOLD,
            zero_count: 0,
            negative: none,
            positive: NativeHistogramBuckets { spans: &spans, deltas: &deltas },
            created: None,
        };
        let labels = [("model", model.as_str()), ("version", version), ("tenant", tenant)];
        family.encode_family(&labels)?.encode_histogram_with_native::<NoLabelSet>(
            histogram.sum_seconds(),
            fine.iter().sum(),
            &classic(&fine),
            None,
            native,
        )?;
    }
    Ok(())
}

/// Upper ends in seconds, and how many lie in each.
fn classic(fine: &[u64]) -> Vec<(f64, u64)> {
    let mut buckets = Vec::with_capacity(DOUBLINGS.count() + 1);
    let mut from = 0;
    for doubling in DOUBLINGS {
        let to = doubling * FINE_BUCKETS;
        buckets.push((upper_ms(to) / 1e3, fine[from..=to].iter().sum()));
        from = to + 1;
    }
    buckets.push((f64::INFINITY, fine[from..].iter().sum()));
    buckets
}

/// Runs of buckets that are not empty, each with its distance from the one before, and every bucket's difference from
/// the one before.
fn sparse(fine: &[u64]) -> (Vec<(i32, u32)>, Vec<i64>) {
    let (mut spans, mut deltas): (Vec<(i32, u32)>, Vec<i64>) = (Vec::new(), Vec::new());
    // The first distance is from native bucket 0.
    let (mut next, mut before) = (0, 0);
    for (bucket, count) in fine.iter().enumerate().filter(|(_, count)| **count > 0) {
        let index = bucket as i32 - NATIVE_SHIFT;
        match spans.last_mut() {
            Some((_, length)) if index == next => *length += 1,
            _ => spans.push((index - next, 1)),
        }
        deltas.push(*count as i64 - before);
        (next, before) = (index + 1, *count as i64);
    }
    (spans, deltas)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn doublings_hold_what_the_fine_buckets_hold() {
        let histogram = Histogram::default();
        for us in [1, 64, 65, 128, 129, 1_000_000, 60_000_000] {
            histogram.record(Duration::from_micros(us));
        }
        let buckets = classic(&histogram.snapshot());
        assert_eq!(buckets.iter().map(|(_, count)| count).sum::<u64>(), 7);
        let in_bucket = |end: f64| buckets.iter().find(|(upper, _)| (upper / end - 1.0).abs() < 1e-9).unwrap().1;
        assert_eq!((in_bucket(64e-6), in_bucket(128e-6), in_bucket(256e-6)), (2, 2, 1));
        assert_eq!(*buckets.last().unwrap(), (f64::INFINITY, 1));
    }

    #[test]
    fn native_buckets_lie_where_the_values_are() {
        let histogram = Histogram::default();
        for us in [100, 100, 100, 3_000, 3_100, 2_000_000] {
            histogram.record(Duration::from_micros(us));
        }
        let (spans, deltas) = sparse(&histogram.snapshot());
        let (mut index, mut count, mut seen) = (0, 0, Vec::new());
        let mut deltas = deltas.iter();
        for (distance, length) in spans {
            index += distance;
            for _ in 0..length {
                count += deltas.next().unwrap();
                seen.push((2_f64.powf(f64::from(index) / 16.0), count));
                index += 1;
            }
        }
        let expected = [(100e-6, 3), (3e-3, 1), (3.1e-3, 1), (2.0, 1)];
        assert_eq!(seen.len(), expected.len());
        for ((value, wanted), (upper, count)) in expected.into_iter().zip(seen) {
            assert_eq!(count, wanted, "{value}");
            assert!(value / upper < 1.005 && value / upper > 0.95, "{value} in the bucket up to {upper}");
        }
    }
}
