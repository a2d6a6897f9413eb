//! Why a file could not be read.

use super::Format;
use crate::forest::BuildError;

#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error(
        "{name} is no model that is read here ({begins}); save it as LightGBM text (save_model), XGBoost JSON or UBJSON \
         (save_model with .json or .ubj), CatBoost JSON or cbm (save_model), or ONNX"
    )]
    Unknown { name: String, begins: String },
    #[error("the {format} file is damaged: {place}: {what}; save it again")]
    Damaged { format: Format, place: String, what: String },
    #[error("the {format} file cannot be read as JSON")]
    Json { format: Format, source: serde_json::Error },
    #[error("the {format} file has {what}, which is not read here; {remedy}")]
    Unsupported { format: Format, what: String, remedy: String },
    #[error("the {format} file's trees do not fit together; save it again")]
    Trees { format: Format, source: BuildError },
}

impl ImportError {
    pub(super) fn damaged(format: Format, place: impl Into<String>, what: impl Into<String>) -> ImportError {
        ImportError::Damaged { format, place: place.into(), what: what.into() }
    }

    pub(super) fn unsupported(format: Format, what: impl Into<String>, remedy: impl Into<String>) -> ImportError {
        ImportError::Unsupported { format, what: what.into(), remedy: remedy.into() }
    }

    pub(super) fn trees(format: Format) -> impl Fn(BuildError) -> ImportError {
        move |source| ImportError::Trees { format, source }
    }
}
