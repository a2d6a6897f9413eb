//! ONNX files. A graph whose operators are all known runs here: classical models and what stands around them. Of any
//! other the caller is told which operator is missing, so that ONNX Runtime may run it.

mod attributes;
mod elementwise;
mod encode;
mod ensemble;
mod graph;
mod linear;
mod numbers;
mod post;
pub mod proto;
mod shapes;
mod tensors;

use super::{Format, ImportError, Imported, TaskHint, Unsupported};
use crate::tensor::{Tensor, TensorModel};
use graph::Graph;
use prost::Message;
use proto::{GraphProto, ModelProto};

const FORMAT: Format = Format::Onnx;

/// Whether the top level is that of an ONNX file: protocol-buffer fields with ONNX's numbers, the graph (7) among them.
/// A graph that is cut off counts where other fields stand before it.
pub(super) fn looks_like(bytes: &[u8]) -> bool {
    let mut at = 0;
    let fits = |length: u64, from: usize| usize::try_from(length).is_ok_and(|length| length <= bytes.len() - from);
    while let Some((key, next)) = varint(bytes, at) {
        let (field, wire) = (key >> 3, key & 7);
        match (field, wire) {
            (7, 2) => return at > 0 || varint(bytes, next).is_some_and(|(length, from)| fits(length, from)),
            (1 | 5, 0) => match varint(bytes, next) {
                Some((_, next)) => at = next,
                None => return false,
            },
            (2..=4 | 6 | 8 | 14 | 20 | 25 | 26, 2) => {
                let Some((length, next)) = varint(bytes, next) else { return false };
                match usize::try_from(length).ok().and_then(|length| next.checked_add(length)) {
                    Some(end) if end <= bytes.len() => at = end,
                    _ => return false,
                }
            }
            _ => return false,
        }
    }
    false
}

/// A number in groups of seven bits, and where it ends.
fn varint(bytes: &[u8], mut at: usize) -> Option<(u64, usize)> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(at)?;
        at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value, at));
        }
    }
    None
}

/// The message, as far as it is read here.
pub fn decode(bytes: &[u8]) -> Result<ModelProto, ImportError> {
    ModelProto::decode(bytes).map_err(|error| ImportError::damaged(FORMAT, "its protocol buffer", error.to_string()))
}

/// A tensor of one of the types that are computed with here; else what is wrong with it.
pub(crate) fn read_tensor(tensor: &proto::TensorProto) -> Result<Tensor, String> {
    tensors::read(tensor)
}

pub(super) fn import(bytes: &[u8]) -> Result<Imported, ImportError> {
    let model = decode(bytes)?;
    let graph = model.graph.as_ref().ok_or_else(|| ImportError::damaged(FORMAT, "the model", "it has no graph"))?;
    let (task, classes) = hint(graph);
    let initial: Vec<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let inputs = graph.input.iter().filter(|input| !initial.contains(&input.name.as_str()));
    let feature_names = inputs.map(|input| input.name.clone()).collect();
    let mut imported =
        Imported { format: FORMAT, model: None, unsupported: None, feature_names, task, classes, notes: Vec::new() };
    match Graph::new(&model, graph) {
        Ok(graph) => {
            imported.notes = graph.notes().to_vec();
            let model: Box<dyn TensorModel> = Box::new(graph);
            imported.model = Some(model);
        }
        Err(unsupported) => imported.unsupported = Some(unsupported),
    }
    Ok(imported)
}

/// What the classifier or regressor in the graph predicts, and its classes.
fn hint(graph: &GraphProto) -> (TaskHint, Vec<String>) {
    for node in &graph.node {
        let attributes = attributes::Attributes::new(node);
        if let Some(labels) = attributes.labels() {
            let names = labels.names();
            return match names.len() {
                0 | 1 => (TaskHint::Unknown, names),
                2 => (TaskHint::Binary, names),
                classes => (TaskHint::Multiclass(classes), names),
            };
        }
        if matches!(node.op_type.as_str(), "TreeEnsembleRegressor" | "LinearRegressor" | "SVMRegressor") {
            return (TaskHint::Regression, Vec::new());
        }
    }
    (TaskHint::Unknown, Vec::new())
}

/// Why a part of a graph does not run here.
fn unsupported(op: &str, why: impl Into<String>) -> Unsupported {
    Unsupported { op: op.to_owned(), why: why.into() }
}
