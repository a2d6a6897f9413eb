//! XGBoost's linear booster: the bias, then each feature's share in the features' order, in single precision.

use super::BoosterModel;
use crate::import::tree_model::Kernel;
use crate::import::{Format, ImportError};

pub(super) struct Linear {
    features: usize,
    outputs: usize,
    /// For each feature, one weight an output; then the biases.
    weights: Vec<f32>,
}

impl Linear {
    pub(super) fn new(
        format: Format,
        features: usize,
        outputs: usize,
        model: Option<BoosterModel>,
    ) -> Result<Linear, ImportError> {
        let weights = model.map(|model| model.weights).unwrap_or_default();
        if weights.len() != (features + 1) * outputs {
            let what = format!("it has {} numbers, expected are {}", weights.len(), (features + 1) * outputs);
            return Err(ImportError::damaged(format, "the weights", what));
        }
        Ok(Linear { features, outputs, weights })
    }
}

impl Kernel for Linear {
    type Input = f32;
    type Sum = f32;

    fn features(&self) -> usize {
        self.features
    }

    fn add_to(&self, rows: &[f32], sums: &mut [f32]) {
        let biases = &self.weights[self.features * self.outputs..];
        for (row, sums) in rows.chunks_exact(self.features).zip(sums.chunks_exact_mut(self.outputs)) {
            for (output, sum) in sums.iter_mut().enumerate() {
                *sum += biases[output];
                // What is missing adds nothing.
                for (feature, value) in row.iter().enumerate().filter(|(_, value)| !value.is_nan()) {
                    *sum += value * self.weights[feature * self.outputs + output];
                }
            }
        }
    }

    /// Only NaNs are alike.
    fn canonical(&self, row: &mut [f32]) {
        row.iter_mut().filter(|value| value.is_nan()).for_each(|value| *value = f32::NAN);
    }

    fn bytes(&self) -> usize {
        self.weights.len() * 4
    }
}
