//! What answers: the bundle that holds a version, the trait `Model` with its kernels, and calibration. Knows neither
//! HTTP nor how a model is trained.
//!
//! The way of a row: [`Inputs`](vocabulary::Inputs) → [`Model::predict`] (raw score) → [`Calibration::apply`] → answer.
//! All of it gives the same bits on any number of threads, in a batch of any length, on any platform.

mod bundle;
mod calibration;
mod compact;
pub mod elementary;
pub mod ensemble;
pub mod export;
mod forest;
pub mod import;
pub mod kernels;
mod linear;
mod manifest;
mod model;
pub mod network;
mod onnxruntime;
mod predictor;
pub mod quantize_onnx;
mod tensor;
mod trees;

pub use bundle::{Bundle, BundleError, section};
pub use calibration::{Calibration, CalibrationError};
pub use compact::{CompactLinearModel, CompactTreesModel, LeafBits, Quantization, Quantized};
pub use linear::{LinearModel, LinearParts};
pub use manifest::{MANIFEST_FORMAT, Manifest, TimeSpan};
pub use model::{Contributions, Link, Model, ModelError, load_model};
pub use network::{NetworkModel, NetworkParts};
pub use onnxruntime::{
    EngineError, LibraryInfo, Memory, OnnxOptions, OnnxRuntimeModel, Rows, check_rows, open_library,
};
pub use predictor::{LoadError, Predictor};
pub use tensor::{Data, Datatype, RunError, Signature, Tensor, TensorModel, TensorSpec};
pub use trees::TreesModel;
