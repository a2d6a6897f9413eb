//! Quality of predictions against outcomes, with 95 % intervals.
//!
//! | name | what | interval |
//! |---|---|---|
//! | `auc` | area under the ROC curve; ties count half | DeLong (DeLong et al., Biometrics 1988) |
//! | `logloss` | mean of -ln of the probability given to what happened, clipped at 1e-15 | normal |
//! | `brier` | mean squared difference of probability and outcome | normal |
//! | `ece` | expected calibration error: [`ECE_BINS`] bins of equal width, (0, .1], (.1, .2] …; mean over rows of the distance between a bin's mean probability and its share of positives | none |
//! | `accuracy` | share of rows where (probability >= threshold) is the outcome | normal |
//! | `base_rate`, `mean_prediction` | share of positives (or mean outcome); mean prediction | normal; none |
//! | `rmse` | root of the mean squared error | normal, delta method |
//! | `mae` | mean absolute error | normal |
//! For several classes: `logloss`, `accuracy` (share of rows whose most probable class came true), `brier` (sum over
//! classes of the squared differences, from 0 to 2), `ece` (of the probability of the most probable class), and `auc`
//! (mean over the classes that occur of the AUC of each against the rest, without an interval).
//!
//! | `r2` | 1 - squared errors / squared deviations from the mean outcome | none |
//!
//! A normal interval is mean ± 1.96 standard errors of independent rows, kept inside the metric's range. Rows of one
//! storm or one user are not independent: with such data intervals are too narrow.

use crate::fit::{class_loss, log_loss};
use std::collections::BTreeMap;
use vocabulary::answer::{brier, most_probable};
use vocabulary::model::Task;
use vocabulary::{Interval, Metrics};

/// Bins of the expected calibration error.
pub const ECE_BINS: usize = 10;

/// Quantile of the normal distribution that leaves 2.5 % on each side.
pub(crate) const NORMAL_975: f64 = 1.959_963_984_540_054;

/// Measures `predicted` against `outcome`: one prediction for each outcome, or, row-major, the probability of each class.
/// For a binary task outcomes are 0 or 1, and
/// `threshold` is the least probability that counts as a predicted positive. What is not defined (the AUC of one class,
/// anything of no rows) is left out.
pub fn evaluate(task: Task, predicted: &[f64], outcome: &[f64], threshold: f64) -> Metrics {
    let outputs = predicted.len() / outcome.len().max(1);
    assert_eq!(predicted.len(), outputs * outcome.len(), "as many predictions for each outcome");
    assert!(outputs <= 1 || task == Task::Multiclass, "one prediction for each outcome");
    let mut table = Table { rows: outcome.len(), values: BTreeMap::new(), intervals: BTreeMap::new() };
    if !predicted.is_empty() {
        match task {
            Task::Binary => binary(&mut table, predicted, outcome, threshold),
            Task::Regression => regression(&mut table, predicted, outcome),
            Task::Multiclass => multiclass(&mut table, predicted, outputs, outcome),
        }
    }
    Metrics { rows: outcome.len() as u64, values: table.values, intervals: table.intervals }
}

fn binary(table: &mut Table, predicted: &[f64], outcome: &[f64], threshold: f64) {
    let each =
        |f: &dyn Fn(f64, f64) -> f64| -> Vec<f64> { predicted.iter().zip(outcome).map(|(p, y)| f(*p, *y)).collect() };
    if let Some(placements) = Placements::of(predicted, outcome) {
        let (auc, variance) = (placements.auc(), placements.variance());
        table.put("auc", auc, Some(variance.sqrt()), 1.0);
    }
    table.mean("logloss", &each(&log_loss), f64::INFINITY);
    table.mean("brier", &each(&|p, y| (p - y) * (p - y)), 1.0);
    table.mean("accuracy", &each(&|p, y| f64::from((p >= threshold) == (y == 1.0))), 1.0);
    table.mean("base_rate", outcome, 1.0);
    table.put("mean_prediction", mean(predicted), None, 1.0);
    table.put("ece", calibration_error(predicted, outcome), None, 1.0);
}

fn multiclass(table: &mut Table, predicted: &[f64], outputs: usize, outcome: &[f64]) {
    let rows = || predicted.chunks_exact(outputs).zip(outcome.iter().copied());
    let each = |f: &dyn Fn(&[f64], f64) -> f64| -> Vec<f64> { rows().map(|(row, class)| f(row, class)).collect() };
    table.mean("logloss", &each(&class_loss), f64::INFINITY);
    table.mean("brier", &each(&brier), 2.0);
    table.mean("accuracy", &each(&|row, class| f64::from(most_probable(row) == class as usize)), 1.0);
    let confidence = each(&|row, _| row[most_probable(row)]);
    let right = each(&|row, class| f64::from(most_probable(row) == class as usize));
    table.put("ece", calibration_error(&confidence, &right), None, 1.0);
    let against_rest = |class: usize| {
        let scores: Vec<f64> = predicted.iter().skip(class).step_by(outputs).copied().collect();
        let is: Vec<f64> = outcome.iter().map(|other| f64::from(*other as usize == class)).collect();
        Placements::of(&scores, &is).map(|placements| placements.auc())
    };
    let aucs: Vec<f64> = (0..outputs).filter_map(against_rest).collect();
    if !aucs.is_empty() {
        table.put("auc", mean(&aucs), None, 1.0);
    }
}

fn regression(table: &mut Table, predicted: &[f64], outcome: &[f64]) {
    let errors: Vec<f64> = predicted.iter().zip(outcome).map(|(p, y)| p - y).collect();
    let squares: Vec<f64> = errors.iter().map(|e| e * e).collect();
    let absolute: Vec<f64> = errors.iter().map(|e| e.abs()).collect();
    let rmse = mean(&squares).sqrt();
    // d sqrt(m) = dm / (2 sqrt(m))
    let error = if rmse > 0.0 { standard_error(&squares) / (2.0 * rmse) } else { 0.0 };
    table.put("rmse", rmse, Some(error), f64::INFINITY);
    table.mean("mae", &absolute, f64::INFINITY);
    let centre = mean(outcome);
    let spread = outcome.iter().map(|y| (y - centre) * (y - centre)).sum::<f64>();
    if spread > 0.0 {
        table.put("r2", 1.0 - squares.iter().sum::<f64>() / spread, None, 1.0);
    }
    table.put("base_rate", centre, None, f64::INFINITY);
    table.put("mean_prediction", mean(predicted), None, f64::INFINITY);
}

struct Table {
    rows: usize,
    values: BTreeMap<String, f64>,
    intervals: BTreeMap<String, Interval>,
}

impl Table {
    fn mean(&mut self, name: &str, values: &[f64], most: f64) {
        self.put(name, mean(values), Some(standard_error(values)), most);
    }

    fn put(&mut self, name: &str, value: f64, error: Option<f64>, most: f64) {
        if !value.is_finite() {
            return;
        }
        self.values.insert(name.to_owned(), value);
        if let Some(error) = error.filter(|error| error.is_finite() && self.rows > 1) {
            let low = (value - NORMAL_975 * error).max(0.0);
            let high = (value + NORMAL_975 * error).min(most);
            self.intervals.insert(name.to_owned(), Interval { low, high });
        }
    }
}

pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Of the mean of independent values.
pub(crate) fn standard_error(values: &[f64]) -> f64 {
    let centre = mean(values);
    let count = values.len() as f64;
    (values.iter().map(|v| (v - centre) * (v - centre)).sum::<f64>() / (count - 1.0) / count).sqrt()
}

fn calibration_error(predicted: &[f64], outcome: &[f64]) -> f64 {
    let mut bins = [(0.0, 0.0); ECE_BINS];
    for (p, y) in predicted.iter().zip(outcome) {
        let bin = ((p * ECE_BINS as f64).ceil() as usize).clamp(1, ECE_BINS) - 1;
        bins[bin].0 += p;
        bins[bin].1 += y;
    }
    bins.iter().map(|(p, y)| (p - y).abs()).sum::<f64>() / predicted.len() as f64
}

/// DeLong's structural components: for each positive the share of negatives that it ranks above, for each negative the
/// share of positives that rank above it, in the order of the rows.
pub(crate) struct Placements {
    pub positives: Vec<f64>,
    pub negatives: Vec<f64>,
}

impl Placements {
    /// None without rows of both classes. By ranks, in O(n log n) (Sun and Xu, "Fast implementation of DeLong's
    /// algorithm", IEEE Signal Processing Letters 2014).
    pub fn of(predicted: &[f64], outcome: &[f64]) -> Option<Placements> {
        let pick = |class: bool| -> Vec<f64> {
            predicted.iter().zip(outcome).filter(|(_, y)| (**y == 1.0) == class).map(|(p, _)| *p).collect()
        };
        let (positive, negative) = (pick(true), pick(false));
        if positive.is_empty() || negative.is_empty() {
            return None;
        }
        let beaten = |scores: &[f64], others: &[f64]| -> Vec<f64> {
            let mut sorted = others.to_vec();
            sorted.sort_unstable_by(f64::total_cmp);
            let half_below = |score: &f64| {
                let below = sorted.partition_point(|other| other < score);
                let through = sorted.partition_point(|other| other <= score);
                (below + through) as f64 / 2.0 / sorted.len() as f64
            };
            scores.iter().map(half_below).collect()
        };
        let negatives = beaten(&negative, &positive).into_iter().map(|below| 1.0 - below).collect();
        Some(Placements { positives: beaten(&positive, &negative), negatives })
    }

    pub fn auc(&self) -> f64 {
        mean(&self.positives)
    }

    pub fn variance(&self) -> f64 {
        let part = |values: &[f64]| if values.len() > 1 { standard_error(values).powi(2) } else { 0.0 };
        part(&self.positives) + part(&self.negatives)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: Option<f64>, b: f64) {
        assert!((a.unwrap() - b).abs() < 1e-12, "{a:?} is not {b}");
    }

    /// Expected values in shared/data/goldens/statistics.json, computed with the reference packages.
    #[test]
    fn agrees_with_the_goldens() {
        let p: Vec<f64> = (0..97).map(|i| f64::from((i * 29) % 97 + 1) / 99.0).collect();
        let y: Vec<f64> = (0..97).map(|i| f64::from(f64::from((i * 13) % 97) / 97.0 < p[i as usize])).collect();
        let metrics = evaluate(Task::Binary, &p, &y, 0.5);
        close(metrics.get("ece"), 0.09288763927939185);
        close(metrics.get("brier"), 0.16449615387447317);
    }

    /// Worked by hand: positives .9 .4, negatives .4 .1 .2. Pairs won 5, tied 1 of 6.
    #[test]
    fn auc_counts_ties_half_and_has_delongs_variance() {
        let metrics = evaluate(Task::Binary, &[0.9, 0.4, 0.4, 0.1, 0.2], &[1.0, 1.0, 0.0, 0.0, 0.0], 0.5);
        close(metrics.get("auc"), 5.5 / 6.0);
        close(metrics.get("accuracy"), 0.8);
        let (positives, negatives) = ([1.0, 2.5 / 3.0], [0.75, 1.0, 1.0]);
        let placements = Placements::of(&[0.9, 0.4, 0.4, 0.1, 0.2], &[1.0, 1.0, 0.0, 0.0, 0.0]).unwrap();
        let variance = standard_error(&positives).powi(2) + standard_error(&negatives).powi(2);
        close(Some(placements.variance()), variance);
        assert_eq!(metrics.intervals["auc"].high, 1.0);
    }

    #[test]
    fn regression_by_hand() {
        let metrics = evaluate(Task::Regression, &[1.0, 2.0, 6.0], &[1.0, 4.0, 5.0], 0.5);
        close(metrics.get("rmse"), (5.0_f64 / 3.0).sqrt());
        close(metrics.get("mae"), 1.0);
        close(metrics.get("r2"), 1.0 - 5.0 / (26.0 / 3.0));
        assert!(metrics.intervals["rmse"].low < metrics.values["rmse"]);
    }

    /// Worked by hand: rows (.7 .2 .1) of class 0, (.1 .3 .6) of class 1.
    #[test]
    fn several_classes_by_hand() {
        let metrics = evaluate(Task::Multiclass, &[0.7, 0.2, 0.1, 0.1, 0.3, 0.6], &[0.0, 1.0], 0.5);
        close(metrics.get("logloss"), -(0.7_f64.ln() + 0.3_f64.ln()) / 2.0);
        close(metrics.get("accuracy"), 0.5);
        close(metrics.get("brier"), (0.09 + 0.04 + 0.01 + 0.01 + 0.49 + 0.36) / 2.0);
        // Class 2 never came true; class 0 and class 1 each rank their row first.
        close(metrics.get("auc"), 1.0);
        // Confidences .7 (right) and .6 (wrong) fall into the bins (.6, .7] and (.5, .6].
        close(metrics.get("ece"), (0.3 + 0.6) / 2.0);
        assert_eq!(metrics.rows, 2);
    }

    #[test]
    fn what_is_undefined_is_left_out() {
        let metrics = evaluate(Task::Binary, &[0.0, 1.0], &[0.0, 0.0], 0.5);
        assert_eq!(metrics.get("auc"), None);
        assert!(metrics.get("logloss").unwrap() < 20.0);
        assert_eq!(evaluate(Task::Regression, &[], &[], 0.5), Metrics::default());
        assert_eq!(evaluate(Task::Regression, &[1.0], &[1.0], 0.5).get("r2"), None);
    }
}
