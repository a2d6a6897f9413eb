//! The cheapest version that keeps every promise: many variants, the ones that nothing beats, and the one to take.

use super::measure::Measurement;
use super::variant::{Quantize, Steps};
use serde::Serialize;
use std::collections::BTreeMap;
use vocabulary::model::LearnerKind;
use vocabulary::{Metrics, Task};

/// Shares that are tried for pruning: few, since each is made and measured.
const PRUNED: [f64; 2] = [0.3, 0.6];

/// What a version must keep.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Promises {
    /// Metric to its limit: a floor for `auc`, `accuracy` and `r2`, a ceiling for losses and errors. Each slice must keep it
    /// too, where slices are measured.
    pub limits: BTreeMap<String, f64>,
    /// One row by itself, 99th percentile, in milliseconds.
    pub latency_ms: Option<f64>,
    /// Of the bundle.
    pub bytes_max: Option<u64>,
    /// Price of a million predictions, in the project's currency.
    pub price_max: Option<f64>,
}

/// The variants that a search makes: every learner taught by the version and the version itself, each whole and pruned,
/// each in full and in few bits.
pub fn candidates(parent: LearnerKind) -> Vec<Steps> {
    let learners = [LearnerKind::Trees, LearnerKind::Linear, LearnerKind::Network].map(Some);
    let mut all = Vec::new();
    for distill in std::iter::once(None).chain(learners) {
        let kind = distill.unwrap_or(parent);
        for prune in std::iter::once(None).chain(PRUNED.map(Some)) {
            let bits: &[Option<Quantize>] = match kind {
                LearnerKind::Network => &[None, Some(Quantize::Int8), Some(Quantize::Int4)],
                _ => &[None, Some(Quantize::Int8)],
            };
            for quantize in bits {
                let steps = Steps { distill, prune, quantize: *quantize };
                if steps != Steps::default() {
                    all.push(steps);
                }
            }
        }
    }
    all
}

/// Why a version does not keep the promises; nothing where it does. `price` is that of a CPU second.
pub fn broken(promises: &Promises, measurement: &Measurement, price: f64) -> Vec<String> {
    let mut found = Vec::new();
    let mut check = |place: &str, metrics: &Metrics| {
        for (name, limit) in &promises.limits {
            let Some(value) = metrics.get(name) else { continue };
            if is_better(name, *limit, value) {
                found.push(format!("{name}{place} is {value:.4}, promised is {limit:.4}"));
            }
        }
    };
    check("", &measurement.metrics);
    for (slice, metrics) in &measurement.slices {
        check(&format!(" of {slice}"), metrics);
    }
    let cost = &measurement.cost;
    if let Some(limit) = promises.latency_ms.filter(|limit| cost.row_p99_us / 1e3 > *limit) {
        found.push(format!(
            "one row takes {:.3} ms at the 99th percentile, promised are {limit} ms",
            cost.row_p99_us / 1e3
        ));
    }
    if let Some(limit) = promises.bytes_max.filter(|limit| cost.bytes > *limit) {
        found.push(format!("it has {} bytes, promised are {limit}", cost.bytes));
    }
    let million = cost.batch_row_us * price;
    if let Some(limit) = promises.price_max.filter(|limit| million > *limit) {
        found.push(format!("a million predictions cost {million:.4}, promised are {limit}"));
    }
    found
}

/// Whether the first value of a metric is better than the second.
fn is_better(metric: &str, first: f64, second: f64) -> bool {
    match metric {
        "auc" | "accuracy" | "r2" => first > second,
        _ => first < second,
    }
}

/// The metric that a task is judged by.
pub fn judged_by(task: Task) -> &'static str {
    match task {
        Task::Binary => "auc",
        Task::Multiclass => "logloss",
        Task::Regression => "rmse",
    }
}

/// Which of these no other beats in loss, bytes and time at once. Each entry is (a number that is better when it is less,
/// bytes, time).
pub fn pareto(points: &[(f64, u64, f64)]) -> Vec<bool> {
    let beats = |a: &(f64, u64, f64), b: &(f64, u64, f64)| {
        a.0 <= b.0 && a.1 <= b.1 && a.2 <= b.2 && (a.0 < b.0 || a.1 < b.1 || a.2 < b.2)
    };
    points.iter().map(|point| !points.iter().any(|other| beats(other, point))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_beaten_everywhere_is_kept() {
        let points = [(0.1, 100, 5.0), (0.2, 50, 5.0), (0.2, 60, 6.0), (0.1, 100, 5.0), (0.05, 900, 9.0)];
        assert_eq!(pareto(&points), [true, true, false, true, true]);
    }

    #[test]
    fn a_search_tries_each_way_once() {
        let all = candidates(LearnerKind::Trees);
        assert!(all.len() > 20);
        for (place, steps) in all.iter().enumerate() {
            assert!(!all[..place].contains(steps), "{}", steps.name());
        }
    }
}
