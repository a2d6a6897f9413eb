//! What a model said about one row.

use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// On disk and on the wire a number, or a list of numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    /// The probability of the positive class, or the predicted quantity.
    One(f64),
    /// The probability of each class, in the order of the declaration.
    Classes(Arc<[f64]>),
}

impl Answer {
    /// The answers of rows that have `outputs` numbers each, row-major.
    pub fn of_rows(values: &[f64], outputs: usize) -> Vec<Answer> {
        match outputs {
            1 => values.iter().map(|value| Answer::One(*value)).collect(),
            _ => values.chunks_exact(outputs).map(|row| Answer::Classes(row.into())).collect(),
        }
    }

    pub fn values(&self) -> &[f64] {
        match self {
            Answer::One(value) => std::slice::from_ref(value),
            Answer::Classes(probabilities) => probabilities,
        }
    }

    /// One number that stands for the answer: the probability of the positive class, the quantity, or the place of the
    /// most probable class.
    pub fn value(&self) -> f64 {
        match self {
            Answer::One(value) => *value,
            Answer::Classes(probabilities) => most_probable(probabilities) as f64,
        }
    }

    pub fn same_bits(&self, other: &Answer) -> bool {
        let bits = |answer: &Answer| answer.values().iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        bits(self) == bits(other)
    }
}

/// The place of the largest probability; the first of equal ones.
pub fn most_probable(probabilities: &[f64]) -> usize {
    let mut best = 0;
    for (place, p) in probabilities.iter().enumerate() {
        if *p > probabilities[best] {
            best = place;
        }
    }
    best
}

/// Squared differences of the class probabilities from what came true, summed over the classes: 0 to 2. (Brier,
/// "Verification of forecasts expressed in terms of probability", Monthly Weather Review 1950.)
pub fn brier(probabilities: &[f64], class: f64) -> f64 {
    let truth = |place: usize| f64::from(place == class as usize);
    probabilities.iter().enumerate().map(|(place, p)| (p - truth(place)) * (p - truth(place))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_or_a_list_as_json() {
        let one = Answer::One(0.25);
        let classes = Answer::Classes([0.1, 0.7, 0.2].into());
        for (answer, text, value) in [(one, "0.25", 0.25), (classes, "[0.1,0.7,0.2]", 1.0)] {
            assert_eq!(serde_json::to_string(&answer).unwrap(), text);
            assert_eq!(serde_json::from_str::<Answer>(text).unwrap(), answer);
            assert_eq!(answer.value(), value);
        }
        assert_eq!(Answer::of_rows(&[0.5, 0.5, 0.9, 0.1], 2)[1], Answer::Classes([0.9, 0.1].into()));
        assert!((brier(&[0.7, 0.2, 0.1], 0.0) - 0.14).abs() < 1e-12);
    }
}
