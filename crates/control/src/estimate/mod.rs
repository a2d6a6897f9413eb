//! Quality before outcomes are known: what a model's own answers, calibrated on rows with outcomes, say about rows without.
//! It sees changes of the inputs and is blind to changes of what they mean; the loss watch sees those. Knows answers and
//! outcomes, nothing of features but what a weight of a row carries (see [`density_ratio`]).

mod ratio;

pub use ratio::density_ratio;

use serde::Serialize;
use vocabulary::Interval;

/// Cells that answers are sorted into, by reference quantiles.
pub const CELLS: usize = 20;
/// 95 %, two sided.
const NORMAL_95: f64 = 1.959_964;
/// Step of the numeric derivatives; the figures are smooth in the rates of the cells.
const STEP: f64 = 1e-4;

/// A row of the reference, with what came true.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// The probability that the model gave, in (0, 1).
    pub answer: f64,
    /// 0 or 1.
    pub outcome: f64,
    /// How many live rows there are for each reference row like it; 1 where that is not asked.
    pub weight: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    pub value: f64,
    /// 95 %: the outcomes are drawn by chance, and the reference that the rates come from was too.
    pub interval: Interval,
}

/// Estimates for a binary model.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimates {
    pub accuracy: Estimate,
    pub f1: Estimate,
    pub roc_auc: Estimate,
    pub log_loss: Estimate,
    pub brier: Estimate,
}

/// How often the positive class came true by what was answered: confidence-based estimation with rates by cell in place of a
/// curve, so that their uncertainty is known (as NannyML's CBPE; with weights its density-weighted form, Białek et al.,
/// arXiv 2401.08348).
#[derive(Clone, Debug)]
pub struct RateMap {
    /// Upper ends of all cells but the last. The threshold is one, so that all rows of a cell get the same label.
    edges: Vec<f64>,
    /// Rate of the positive class, and how many unweighted rows would say as much.
    rates: Vec<(f64, f64)>,
    threshold: f64,
}

/// Live answers by cell: all that the figures need.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    rows: f64,
    answers: f64,
    squares: f64,
    logs: f64,
    logs_of_rest: f64,
    positive: bool,
}

impl RateMap {
    /// None without rows of the reference.
    pub fn fit(known: &[Known], threshold: f64) -> Option<RateMap> {
        let edges = quantile_edges(known.iter().map(|row| row.answer), Some(threshold))?;
        let mut sums = vec![(0.0, 0.0, 0.0); edges.len() + 1];
        for row in known {
            let sum = &mut sums[cell_of(&edges, row.answer)];
            sum.0 += row.weight;
            sum.1 += row.weight * row.outcome;
            sum.2 += row.weight * row.weight;
        }
        let all: (f64, f64) = sums.iter().fold((0.0, 0.0), |all, sum| (all.0 + sum.0, all.1 + sum.1));
        let rate = |(weight, positive, squares): &(f64, f64, f64)| {
            // An empty cell is as the whole is, and as little known as one row.
            if *squares <= 0.0 {
                (all.1 / all.0.max(1e-12), 1.0)
            } else {
                (positive / weight, weight * weight / squares)
            }
        };
        Some(RateMap { rates: sums.iter().map(rate).collect(), edges, threshold })
    }

    /// Estimates for rows without outcomes, from their answers. None without any.
    pub fn estimate(&self, answers: &[f64]) -> Option<Estimates> {
        if answers.is_empty() {
            return None;
        }
        let mut cells = vec![Cell::default(); self.rates.len()];
        for answer in answers {
            let place = cell_of(&self.edges, *answer);
            let p = answer.clamp(1e-12, 1.0 - 1e-12);
            let cell = &mut cells[place];
            cell.rows += 1.0;
            cell.answers += p;
            cell.squares += p * p;
            cell.logs += p.ln();
            cell.logs_of_rest += (1.0 - p).ln();
            cell.positive = *answer >= self.threshold;
        }
        let rates: Vec<f64> = self.rates.iter().map(|(rate, _)| *rate).collect();
        let values = figures(&cells, &rates);
        let mut variances = [0.0; 5];
        for (place, (cell, (rate, known))) in cells.iter().zip(&self.rates).enumerate() {
            if cell.rows == 0.0 {
                continue;
            }
            let mut moved = rates.clone();
            let (low, high) = ((rate - STEP).max(0.0), (rate + STEP).min(1.0));
            moved[place] = high;
            let above = figures(&cells, &moved);
            moved[place] = low;
            let below = figures(&cells, &moved);
            // Rates of 0 and 1 in few rows are not known to be that: half a row each way.
            let smooth = (rate * known + 0.5) / (known + 1.0);
            let variance = smooth * (1.0 - smooth) * (1.0 / known + 1.0 / cell.rows);
            for ((sum, above), below) in variances.iter_mut().zip(above).zip(below) {
                let slope = (above - below) / (high - low);
                *sum += slope * slope * variance;
            }
        }
        let estimate = |place: usize| Estimate {
            value: values[place],
            interval: Interval {
                low: values[place] - NORMAL_95 * variances[place].sqrt(),
                high: values[place] + NORMAL_95 * variances[place].sqrt(),
            },
        };
        Some(Estimates {
            accuracy: estimate(0),
            f1: estimate(1),
            roc_auc: estimate(2),
            log_loss: estimate(3),
            brier: estimate(4),
        })
    }
}

/// Accuracy, F1, area under the curve, log loss and Brier score when the cells' rates come true.
fn figures(cells: &[Cell], rates: &[f64]) -> [f64; 5] {
    let (mut tp, mut fp, mut fn_, mut tn) = (0.0, 0.0, 0.0, 0.0);
    let (mut negatives_below, mut area, mut log_loss, mut brier, mut rows) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (cell, rate) in cells.iter().zip(rates) {
        let (yes, no) = (cell.rows * rate, cell.rows * (1.0 - rate));
        if cell.positive {
            tp += yes;
            fp += no;
        } else {
            fn_ += yes;
            tn += no;
        }
        area += yes * (negatives_below + 0.5 * no);
        negatives_below += no;
        log_loss -= rate * cell.logs + (1.0 - rate) * cell.logs_of_rest;
        brier += cell.squares - 2.0 * rate * cell.answers + cell.rows * rate;
        rows += cell.rows;
    }
    let ratio = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
    let pairs = (tp + fn_) * negatives_below;
    [
        (tp + tn) / rows,
        ratio(2.0 * tp, 2.0 * tp + fp + fn_),
        if pairs > 0.0 { area / pairs } else { 0.5 },
        log_loss / rows,
        brier / rows,
    ]
}

/// Mean loss by what was answered: the estimate for a regression.
#[derive(Clone, Debug)]
pub struct LossMap {
    edges: Vec<f64>,
    /// Mean, variance, and how many unweighted rows would say as much.
    cells: Vec<(f64, f64, f64)>,
}

impl LossMap {
    /// From rows of the reference: answer, loss, weight. None without any.
    pub fn fit(known: &[(f64, f64, f64)]) -> Option<LossMap> {
        let edges = quantile_edges(known.iter().map(|row| row.0), None)?;
        let mut sums = vec![[0.0; 4]; edges.len() + 1];
        let mut all = [0.0; 4];
        for (answer, loss, weight) in known {
            for sum in [&mut sums[cell_of(&edges, *answer)], &mut all] {
                sum[0] += weight;
                sum[1] += weight * loss;
                sum[2] += weight * loss * loss;
                sum[3] += weight * weight;
            }
        }
        let moments = |sum: &[f64; 4]| {
            let mean = sum[1] / sum[0];
            (mean, (sum[2] / sum[0] - mean * mean).max(0.0), sum[0] * sum[0] / sum[3])
        };
        let (mean, variance, _) = moments(&all);
        let cell = |sum: &[f64; 4]| if sum[3] > 0.0 { moments(sum) } else { (mean, variance, 1.0) };
        Some(LossMap { cells: sums.iter().map(cell).collect(), edges })
    }

    pub fn estimate(&self, answers: &[f64]) -> Option<Estimate> {
        let mut counts = vec![0.0; self.cells.len()];
        answers.iter().for_each(|answer| counts[cell_of(&self.edges, *answer)] += 1.0);
        let rows = answers.len() as f64;
        let (mut value, mut variance) = (0.0, 0.0);
        for (count, (mean, spread, known)) in counts.iter().zip(&self.cells).filter(|(count, _)| **count > 0.0) {
            let share: f64 = count / rows;
            value += share * mean;
            variance += share * share * spread * (1.0 / known + 1.0 / count);
        }
        let radius = NORMAL_95 * variance.sqrt();
        (rows > 0.0).then_some(Estimate { value, interval: Interval { low: value - radius, high: value + radius } })
    }
}

fn cell_of(edges: &[f64], answer: f64) -> usize {
    edges.partition_point(|edge| *edge <= answer)
}

fn quantile_edges(answers: impl Iterator<Item = f64>, threshold: Option<f64>) -> Option<Vec<f64>> {
    let mut sorted: Vec<f64> = answers.filter(|answer| answer.is_finite()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    if sorted.is_empty() {
        return None;
    }
    let mut edges: Vec<f64> = (1..CELLS).map(|cell| sorted[cell * sorted.len() / CELLS]).chain(threshold).collect();
    edges.sort_unstable_by(f64::total_cmp);
    edges.dedup();
    Some(edges)
}

/// How often the intervals held what came true: estimates are audited when outcomes arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Audit {
    pub windows: u64,
    pub covered: u64,
}

impl Audit {
    pub fn observe(&mut self, estimate: &Estimate, truth: f64) {
        self.windows += 1;
        self.covered += u64::from(estimate.interval.low <= truth && truth <= estimate.interval.high);
    }

    /// None before the first window.
    pub fn coverage(&self) -> Option<f64> {
        (self.windows > 0).then(|| self.covered as f64 / self.windows as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_like_the_live_rows_gives_its_own_figures_back() {
        let known: Vec<Known> = (0..1000)
            .map(|i| Known {
                answer: if i % 2 == 0 { 0.2 } else { 0.8 },
                outcome: f64::from(u8::from(i % 10 == 0 || (i % 2 == 1 && i % 5 != 1))),
                weight: 1.0,
            })
            .collect();
        let answers: Vec<f64> = known.iter().map(|row| row.answer).collect();
        let truth = known.iter().filter(|row| (row.answer >= 0.5) == (row.outcome == 1.0)).count() as f64 / 1000.0;
        let brier = known.iter().map(|row| (row.answer - row.outcome).powi(2)).sum::<f64>() / 1000.0;
        let found = RateMap::fit(&known, 0.5).unwrap().estimate(&answers).unwrap();
        assert!((found.accuracy.value - truth).abs() < 1e-12 && (found.brier.value - brier).abs() < 1e-12, "{found:?}");
        let interval = found.accuracy.interval;
        assert!(interval.low < truth && interval.high > truth && interval.high - interval.low < 0.1);
        assert!(RateMap::fit(&[], 0.5).is_none());
    }

    #[test]
    fn losses_follow_the_answers() {
        let known: Vec<(f64, f64, f64)> = (0..1000).map(|i| (f64::from(i), f64::from(i % 2 + i / 500), 1.0)).collect();
        let map = LossMap::fit(&known).unwrap();
        let found = map.estimate(&[900.0; 50]).unwrap();
        assert!((found.value - 1.5).abs() < 0.05 && found.interval.low > 1.2, "{found:?}");
        let mut audit = Audit::default();
        audit.observe(&found, 1.5);
        audit.observe(&found, 9.0);
        assert_eq!(audit.coverage(), Some(0.5));
    }
}
