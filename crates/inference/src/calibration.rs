//! From a model's raw score to an answer that can be taken at its word.

use crate::elementary::{ln, logistic, logit, softmax};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Calibration {
    #[default]
    Identity,
    /// p becomes logistic(a logit(p) + b). (Platt, "Probabilistic outputs for support vector machines", 1999, on the
    /// log odds.)
    Platt { a: f64, b: f64 },
    /// Straight lines between the points (`scores[i]`, `values[i]`), flat beyond the ends; both lists ascend.
    Isotonic { scores: Vec<f64>, values: Vec<f64> },
    /// For several classes: each probability to the power of 1 / `temperature`, brought to sum 1. (Guo et al., "On
    /// Calibration of Modern Neural Networks", ICML 2017.)
    Temperature { temperature: f64 },
}

/// Probabilities below this have no logarithm that a temperature could scale.
pub(crate) const PROBABILITY_MIN: f64 = 1e-15;

#[derive(Debug, thiserror::Error, PartialEq)]
#[error("the calibration is unusable: {0}; fetch the version again or train it again")]
pub struct CalibrationError(pub String);

impl Calibration {
    pub fn name(&self) -> &'static str {
        match self {
            Calibration::Identity => "identity",
            Calibration::Platt { .. } => "platt",
            Calibration::Isotonic { .. } => "isotonic",
            Calibration::Temperature { .. } => "temperature",
        }
    }

    /// Checks what [`Calibration::apply`] relies on. Call it on whatever was read from outside.
    pub fn check(&self) -> Result<(), CalibrationError> {
        let wrong = |what: &str| Err(CalibrationError(what.to_owned()));
        match self {
            Calibration::Identity => Ok(()),
            Calibration::Platt { a, b } if !a.is_finite() || !b.is_finite() => wrong("a or b is not finite"),
            Calibration::Platt { .. } => Ok(()),
            Calibration::Temperature { temperature } if !(temperature.is_finite() && *temperature > 0.0) => {
                wrong("the temperature is not above zero")
            }
            Calibration::Temperature { .. } => Ok(()),
            Calibration::Isotonic { scores, values } => {
                if scores.is_empty() || scores.len() != values.len() {
                    return wrong("there must be as many scores as values, and one at least");
                }
                if scores.iter().chain(values).any(|x| !x.is_finite()) {
                    return wrong("a point is not finite");
                }
                if scores.windows(2).any(|w| w[0] >= w[1]) || values.windows(2).any(|w| w[0] > w[1]) {
                    return wrong("the points do not ascend");
                }
                Ok(())
            }
        }
    }

    /// Replaces the scores of one row by its calibrated answer: probabilities of all classes at once, or the one score.
    pub fn apply_row(&self, row: &mut [f64]) {
        match self {
            Calibration::Temperature { temperature } => {
                row.iter_mut().for_each(|p| *p = ln(p.max(PROBABILITY_MIN)) / temperature);
                softmax(row);
            }
            _ => row.iter_mut().for_each(|score| *score = self.apply(*score)),
        }
    }

    /// The calibrated answer of a model with one output. NaN stays NaN.
    pub fn apply(&self, score: f64) -> f64 {
        match self {
            Calibration::Identity | Calibration::Temperature { .. } => score,
            Calibration::Platt { a, b } => logistic(a * logit(score) + b),
            Calibration::Isotonic { scores, values } => interpolate(scores, values, score),
        }
    }
}

fn interpolate(scores: &[f64], values: &[f64], score: f64) -> f64 {
    if score.is_nan() {
        return score;
    }
    let above = scores.partition_point(|s| *s <= score);
    if above == 0 {
        return values[0];
    }
    if above == scores.len() {
        return values[above - 1];
    }
    let (s0, s1) = (scores[above - 1], scores[above]);
    let (v0, v1) = (values[above - 1], values[above]);
    // Rounding must not carry the value past its neighbours, or order would be lost.
    (v0 + (v1 - v0) * ((score - s0) / (s1 - s0))).clamp(v0, v1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_maps_as_it_says() {
        assert_eq!(Calibration::Identity.apply(0.3), 0.3);
        let same = Calibration::Platt { a: 1.0, b: 0.0 };
        assert!((same.apply(0.3) - 0.3).abs() < 1e-15);
        assert!(Calibration::Platt { a: 1.0, b: 1.0 }.apply(0.3) > 0.3);
        let steps = Calibration::Isotonic { scores: vec![0.1, 0.5, 0.9], values: vec![0.2, 0.2, 0.6] };
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-15, "{a} {b}");
        close(steps.apply(0.0), 0.2);
        close(steps.apply(0.5), 0.2);
        close(steps.apply(0.7), 0.4);
        close(steps.apply(1.0), 0.6);
        assert!(steps.apply(f64::NAN).is_nan());
    }

    #[test]
    fn a_temperature_keeps_the_order_and_the_sum() {
        let mut row = [0.7, 0.2, 0.1];
        Calibration::Temperature { temperature: 2.0 }.apply_row(&mut row);
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-15 && row[0] < 0.7 && row[0] > row[1] && row[1] > row[2]);
        assert!(Calibration::Temperature { temperature: 0.0 }.check().is_err());
    }

    #[test]
    fn the_disk_form_comes_back_and_nonsense_is_refused() {
        let steps = Calibration::Isotonic { scores: vec![0.1, 0.5], values: vec![0.2, 0.3] };
        for calibration in [Calibration::Identity, Calibration::Platt { a: 0.1, b: -3.0 }, steps] {
            let text = serde_json::to_string(&calibration).unwrap();
            assert_eq!(serde_json::from_str::<Calibration>(&text).unwrap(), calibration);
            assert_eq!(calibration.check(), Ok(()));
        }
        let bad = |scores: &[f64], values: &[f64]| {
            Calibration::Isotonic { scores: scores.to_vec(), values: values.to_vec() }.check().is_err()
        };
        assert!(bad(&[], &[]) && bad(&[0.1], &[]) && bad(&[0.2, 0.1], &[0.0, 1.0]) && bad(&[0.1, 0.2], &[1.0, 0.0]));
        assert!(Calibration::Platt { a: f64::NAN, b: 0.0 }.check().is_err());
    }
}
