//! Two versions on the same rows: the difference of each metric, with what the pairing takes out of its uncertainty.

use crate::fit::{class_loss, log_loss};
use crate::metrics::{NORMAL_975, Placements, mean, standard_error};
use serde::Serialize;
use std::collections::BTreeMap;
use vocabulary::Interval;
use vocabulary::answer::{brier, most_probable};
use vocabulary::model::Task;

/// What a row of class probabilities scores, where this class came true.
type Measure = fn(&[f64], f64) -> f64;

/// `first`'s metric less `second`'s, with a 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    pub first: f64,
    pub second: f64,
    pub value: f64,
    pub interval: Interval,
}

/// Compares two sets of predictions of the same rows: `auc`, `logloss` and `brier`; `rmse` and `mae`; or, for several
/// classes (row-major probabilities), `logloss`, `brier` and `accuracy`. AUCs by
/// DeLong's paired test, means by the normal interval of the rows' differences, `rmse` by the delta method. Fewer than
/// two rows give nothing.
pub fn paired(task: Task, first: &[f64], second: &[f64], outcome: &[f64]) -> BTreeMap<String, Difference> {
    let outputs = first.len() / outcome.len().max(1);
    let whole = first.len() == outputs * outcome.len() && first.len() == second.len();
    assert!(whole, "as many predictions of each for each outcome");
    let mut found = BTreeMap::new();
    if outcome.len() < 2 {
        return found;
    }
    let each = |predicted: &[f64], f: fn(f64, f64) -> f64| -> Vec<f64> {
        predicted.iter().zip(outcome).map(|(p, y)| f(*p, *y)).collect()
    };
    let means = |f: fn(f64, f64) -> f64| of_means(&each(first, f), &each(second, f));
    match task {
        Task::Binary => {
            found.insert("logloss".to_owned(), means(log_loss));
            found.insert("brier".to_owned(), means(|p, y| (p - y) * (p - y)));
            if let Some(difference) = of_aucs(first, second, outcome) {
                found.insert("auc".to_owned(), difference);
            }
        }
        Task::Multiclass => {
            let rows = |predicted: &[f64], f: fn(&[f64], f64) -> f64| -> Vec<f64> {
                predicted.chunks_exact(outputs).zip(outcome).map(|(row, class)| f(row, *class)).collect()
            };
            let right = |row: &[f64], class: f64| f64::from(most_probable(row) == class as usize);
            let measures: [(&str, Measure); 3] = [("logloss", class_loss), ("brier", brier), ("accuracy", right)];
            for (name, f) in measures {
                found.insert(name.to_owned(), of_means(&rows(first, f), &rows(second, f)));
            }
        }
        Task::Regression => {
            found.insert("mae".to_owned(), means(|p, y| (p - y).abs()));
            let squares = |p: f64, y: f64| (p - y) * (p - y);
            found.insert("rmse".to_owned(), of_roots(&each(first, squares), &each(second, squares)));
        }
    }
    found
}

fn difference(first: f64, second: f64, error: f64) -> Difference {
    let value = first - second;
    let interval = Interval { low: value - NORMAL_975 * error, high: value + NORMAL_975 * error };
    Difference { first, second, value, interval }
}

fn subtract(first: &[f64], second: &[f64]) -> Vec<f64> {
    first.iter().zip(second).map(|(a, b)| a - b).collect()
}

fn of_means(first: &[f64], second: &[f64]) -> Difference {
    difference(mean(first), mean(second), standard_error(&subtract(first, second)))
}

fn of_roots(first: &[f64], second: &[f64]) -> Difference {
    let (a, b) = (mean(first).sqrt(), mean(second).sqrt());
    let slope = |squares: &[f64], root: f64| -> Vec<f64> {
        squares.iter().map(|square| if root > 0.0 { square / (2.0 * root) } else { 0.0 }).collect()
    };
    difference(a, b, standard_error(&subtract(&slope(first, a), &slope(second, b))))
}

fn of_aucs(first: &[f64], second: &[f64], outcome: &[f64]) -> Option<Difference> {
    let (a, b) = (Placements::of(first, outcome)?, Placements::of(second, outcome)?);
    let part = |x: &[f64], y: &[f64]| if x.len() > 1 { standard_error(&subtract(x, y)).powi(2) } else { 0.0 };
    let variance = part(&a.positives, &b.positives) + part(&a.negatives, &b.negatives);
    Some(difference(a.auc(), b.auc(), variance.sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairing_takes_out_what_both_share() {
        let outcome: Vec<f64> = (0..500).map(|i| f64::from(i % 3 == 0)).collect();
        let good: Vec<f64> = (0..500).map(|i| if i % 3 == 0 { 0.4 } else { 0.3 } + f64::from(i % 7) / 100.0).collect();
        let bad: Vec<f64> = good.iter().enumerate().map(|(i, p)| p + (i % 11) as f64 / 100.0).collect();
        let found = paired(Task::Binary, &good, &bad, &outcome);
        for name in ["auc", "logloss", "brier"] {
            let difference = found[name];
            assert!(difference.interval.low <= difference.value && difference.value <= difference.interval.high);
        }
        assert!(found["auc"].interval.low > 0.0, "the better ranks better for certain: {:?}", found["auc"]);
        let same = paired(Task::Binary, &good, &good, &outcome)["auc"];
        assert_eq!((same.value, same.interval.low, same.interval.high), (0.0, 0.0, 0.0));
    }

    #[test]
    fn regression_has_two_figures() {
        let outcome: Vec<f64> = (0..100).map(f64::from).collect();
        let near: Vec<f64> = outcome.iter().map(|y| y + (y % 3.0) - 1.0).collect();
        let far: Vec<f64> = outcome.iter().map(|y| y + 5.0 * ((y % 3.0) - 1.0)).collect();
        let found = paired(Task::Regression, &near, &far, &outcome);
        assert!(found["rmse"].interval.high < 0.0 && found["mae"].interval.high < 0.0);
        assert!((found["rmse"].value + 4.0 * found["rmse"].first).abs() < 1e-12);
        assert!(paired(Task::Regression, &near[..1], &far[..1], &outcome[..1]).is_empty());
    }
}
