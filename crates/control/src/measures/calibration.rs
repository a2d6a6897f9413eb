//! Measures of probabilities: calibration errors, and what a calibrated model says of itself.

/// Expected calibration error in `bins` of equal width (torchmetrics).
pub fn ece_equal_width(probabilities: &[f64], labels: &[f64], bins: usize) -> f64 {
    let mut sums = vec![(0.0, 0.0); bins];
    for (p, y) in probabilities.iter().zip(labels) {
        let sum = &mut sums[((p * bins as f64) as usize).min(bins - 1)];
        sum.0 += p;
        sum.1 += y;
    }
    sums.iter().map(|(p, y): &(f64, f64)| (p - y).abs()).sum::<f64>() / probabilities.len() as f64
}

/// Expected calibration error in `bins` of equal count; the last one takes what is left where it
/// doesn't divide (NannyML).
pub fn ece_equal_count(probabilities: &[f64], labels: &[f64], bins: usize) -> f64 {
    let mut rows: Vec<(f64, f64)> = probabilities.iter().copied().zip(labels.iter().copied()).collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let each = rows.len() / bins;
    let mut error = 0.0;
    for bin in 0..bins {
        let to = if bin + 1 == bins { rows.len() } else { (bin + 1) * each };
        let off: f64 = rows[bin * each..to].iter().map(|(p, y)| p - y).sum();
        error += off.abs();
    }
    error / rows.len() as f64
}

/// What calibrated probabilities say about the quality of a classifier's answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cbpe {
    pub accuracy: f64,
    pub precision: f64,
    pub recall: f64,
    pub specificity: f64,
    pub f1: f64,
    pub roc_auc: f64,
}

/// Confidence-based performance estimation: `calibrated` chances, the `scores` that rank, and the `threshold` from which on a
/// score counts as positive (NannyML; ranks of equal scores are not merged).
pub fn cbpe(calibrated: &[f64], scores: &[f64], threshold: f64) -> Cbpe {
    let (mut tp, mut fp, mut fn_, mut tn) = (0.0, 0.0, 0.0, 0.0);
    for (p, score) in calibrated.iter().zip(scores) {
        if *score >= threshold {
            tp += p;
            fp += 1.0 - p;
        } else {
            fn_ += p;
            tn += 1.0 - p;
        }
    }
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let (mut area, mut positives) = (0.0, 0.0);
    for place in order {
        let p = calibrated[place];
        area += (1.0 - p) * (positives + 0.5 * p);
        positives += p;
    }
    let negatives = scores.len() as f64 - positives;
    Cbpe {
        accuracy: (tp + tn) / (tp + tn + fp + fn_),
        precision: tp / (tp + fp),
        recall: tp / (tp + fn_),
        specificity: tn / (tn + fp),
        f1: tp / (tp + 0.5 * (fp + fn_)),
        roc_auc: area / (positives * negatives),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measures::golden::{close, probabilities};

    #[test]
    fn calibration_errors_are_torchmetrics_and_nannymls() {
        let (p, y) = probabilities();
        close(ece_equal_width(&p, &y, 10), 0.092_887_639_279_391_85, 1e-12);
        close(ece_equal_count(&p, &y, 10), 0.079_558_471_311_048_64, 1e-12);
    }

    #[test]
    fn confidence_based_estimates_are_nannymls() {
        let (p, _) = probabilities();
        let found = cbpe(&p, &p, 0.5);
        // NannyML rounds the points of the curve to five decimals.
        close(found.roc_auc, 0.826_597_948_417_082_3, 2e-5);
        close(found.f1, 0.742_346_133_613_887_3, 1e-12);
        close(found.precision, 0.742_424_242_424_242_3, 1e-12);
        close(found.recall, 0.742_268_041_237_113_3, 1e-12);
        close(found.specificity, 0.747_628_865_979_381_4, 1e-12);
        close(found.accuracy, 0.744_975_528_480_683, 1e-12);
    }
}
