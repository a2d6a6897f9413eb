//! A model with its calibration, loaded from a bundle: what serving, evaluation and replay all ask.

use crate::bundle::{Bundle, BundleError, section};
use crate::calibration::{Calibration, CalibrationError};
use crate::manifest::{MANIFEST_FORMAT, Manifest};
use crate::model::{Model, ModelError, load_model};
use vocabulary::Inputs;

pub struct Predictor {
    pub model: Box<dyn Model>,
    pub calibration: Calibration,
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the bundle cannot be used")]
    Bundle(#[from] BundleError),
    #[error("the bundle's manifest has format {0}, this program reads {MANIFEST_FORMAT}; use a newer program")]
    Format(u32),
    #[error("the bundle's model cannot be used")]
    Model(#[from] ModelError),
    #[error("the bundle's calibration cannot be used")]
    Calibration(#[from] CalibrationError),
}

impl Predictor {
    pub fn load(bundle: &Bundle) -> Result<Predictor, LoadError> {
        let manifest: Manifest = bundle.json(section::MANIFEST)?;
        if !(1..=MANIFEST_FORMAT).contains(&manifest.format) {
            return Err(LoadError::Format(manifest.format));
        }
        let calibration: Calibration = bundle.json(section::CALIBRATION)?;
        calibration.check()?;
        let model = load_model(&manifest.learner, bundle.section(section::MODEL)?, &manifest.layout)?;
        Ok(Predictor { model, calibration })
    }

    /// Numbers a row: one, or the probability of each class.
    pub fn outputs(&self) -> usize {
        self.model.outputs()
    }

    /// Replaces the content of `out` by the answer of each row: a probability, the quantity, or, row-major, the
    /// probability of each class.
    pub fn predict(&self, inputs: &Inputs, out: &mut Vec<f64>) -> Result<(), ModelError> {
        self.model.predict(inputs, out)?;
        if self.calibration != Calibration::Identity {
            out.chunks_exact_mut(self.outputs()).for_each(|row| self.calibration.apply_row(row));
        }
        Ok(())
    }
}
