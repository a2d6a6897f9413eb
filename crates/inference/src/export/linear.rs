//! Linear models: a product of matrices for the dense columns, rows of a table for the slots, summed in double
//! precision.

use super::graph::{Graph, Keep};
use super::{Blocks, Sums};
use crate::import::onnx::proto::ElementType;
use crate::linear::LinearModel;

/// The sums before the link, in double precision.
pub(super) fn sums(graph: &mut Graph, model: &LinearModel, blocks: &Blocks) -> Sums {
    let parts = model.parts();
    let outputs = parts.bias.len();
    let mut sum = graph.doubles(&[1, outputs], &parts.bias);
    if let Some(dense) = &blocks.dense {
        // A missing value adds nothing.
        let missing = graph.node("IsNaN", &[dense]);
        let zero = graph.float(0.0);
        let present = graph.node("Where", &[&missing, &zero, dense]);
        let present = graph.cast(&present, ElementType::Double);
        let weights = graph.doubles(&[parts.dense.len() / outputs, outputs], &parts.dense);
        let product = graph.node("MatMul", &[&present, &weights]);
        sum = graph.node("Add", &[&product, &sum]);
    }
    if let Some(slots) = &blocks.slots {
        let table = graph.floats(&[parts.table.len() / outputs, outputs], &parts.table);
        let weights = graph.gather(&table, slots);
        let weights = graph.cast(&weights, ElementType::Double);
        let added = graph.sum(&weights, Keep::Nothing);
        sum = graph.node("Add", &[&added, &sum]);
    }
    Sums { name: sum, link: parts.link, outputs }
}
