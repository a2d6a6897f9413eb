//! ONNX files with 8-bit weights: made from a file's bytes, run by ONNX Runtime. What is not replaced is copied as it is
//! encoded, fields that nobody here knows included. Knows neither where files lie nor who serves them.
//!
//! Dynamic: activations are rounded by the range that a call finds in them. ONNX has one range for a whole tensor, so an
//! answer depends on the rows of its call, and such a model's calls are never joined. Static: ranges are fixed by
//! calibration, rows stay apart.

mod build;
mod graph;
mod ranges;
mod rewrite;
mod weights;

use crate::import::ImportError;
use crate::onnxruntime::EngineError;
use crate::tensor::{RunError, Tensor};

pub use ranges::Cut;

/// How weights are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum WeightRange {
    /// To -64 … 64. On processors without VNNI, ONNX Runtime adds two products in 16 bits, which then suffice; the file
    /// gives the same answers everywhere.
    #[default]
    Reduced,
    /// To -127 … 127: half the error, for processors with VNNI only.
    Full,
}

impl WeightRange {
    fn largest(self) -> f32 {
        match self {
            WeightRange::Reduced => 64.0,
            WeightRange::Full => 127.0,
        }
    }
}

/// A quantized file.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantized {
    pub bytes: Vec<u8>,
    pub report: Report,
}

/// What became of the nodes that hold weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Nodes that now take 8-bit weights.
    pub quantized: usize,
    pub left: Vec<Left>,
}

/// A node that stayed as it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Left {
    /// Its name; its first output's, where it has none.
    pub node: String,
    pub operator: String,
    pub why: String,
}

#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    #[error(transparent)]
    File(#[from] ImportError),
    #[error("the file is damaged: {0}; export the model again")]
    Damaged(String),
    #[error(
        "the file uses version {found} of ONNX's operators and {wanted} or later is needed; convert it with \
         onnx.version_converter"
    )]
    Operators { found: i64, wanted: i64 },
    #[error("no node can be quantized: {0}")]
    Nothing(String),
    #[error("the calibration rows do not fit: {0}")]
    Calibration(String),
    #[error("the file with its intermediate tensors as outputs cannot be run")]
    Engine(#[from] EngineError),
    #[error("a calibration run failed")]
    Run(#[from] RunError),
}

/// MatMul and Gemm with constant weights become `DynamicQuantizeLinear` and `MatMulInteger` with a scale for each output
/// channel, tables that Gather reads become 8-bit rows with a scale each. Needs no rows.
pub fn quantize_dynamic(file: &[u8], weights: WeightRange) -> Result<Quantized, QuantizeError> {
    let graph = graph::Opened::new(file)?;
    rewrite::rewrite(&graph, file, weights, &rewrite::Activations::Dynamic)
}

/// As [`quantize_dynamic`], but with `QuantizeLinear` and ranges found by running the file on ONNX Runtime: each of
/// `calls` holds the tensors of one call, in the signature's order.
///
/// The products are `MatMulInteger` here too, rather than a MatMul between `DequantizeLinear` nodes that ONNX Runtime is
/// to recognise: it does not where nothing quantizes the product again, and unpacks the weights at each call (a tower of
/// 333-256-128-1 took 187 µs in that form and 114 µs in this one for 256 rows, 46 and 7 for a single one, with 1.32).
pub fn quantize_static(
    file: &[u8],
    weights: WeightRange,
    calls: &[Vec<Tensor>],
    cut: Cut,
) -> Result<Quantized, QuantizeError> {
    let graph = graph::Opened::new(file)?;
    let found = ranges::find(&graph, file, weights, calls, cut)?;
    rewrite::rewrite(&graph, file, weights, &rewrite::Activations::Static(found))
}

#[cfg(test)]
mod tests;
