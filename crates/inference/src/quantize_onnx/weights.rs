//! Which nodes can take 8-bit weights, and the weights as integers.

use super::graph::{Constant, Opened, attribute, name_of};
use super::{Left, WeightRange};
use crate::import::onnx::proto::{AttributeType, ElementType, NodeProto};
use crate::import::onnx::read_tensor;
use crate::tensor::{Data, Tensor};
use std::collections::HashMap;

/// Fewer weights are left alone: rounding the inputs would cost more than it gains.
const WEIGHTS_MIN: usize = 512;

/// So are products with fewer columns, and tables with shorter rows, whose scales weigh as much as the numbers.
const COLUMNS_MIN: usize = 4;

/// A node to be replaced.
pub(super) struct Candidate<'a> {
    /// Its place in the graph.
    pub place: usize,
    pub node: &'a NodeProto,
    pub kind: Kind<'a>,
}

pub(super) enum Kind<'a> {
    /// `y = x W (+ bias)`, where the file may hold the transpose of W.
    Product { weights: Integers, transposed: bool, bias: Option<&'a str> },
    /// `y = table[indices]`.
    Table(Integers),
}

/// An `i8` matrix, row-major, with a scale for each column (of a product) or row (of a table).
pub(super) struct Integers {
    pub rows: usize,
    pub columns: usize,
    pub values: Vec<i8>,
    pub scales: Vec<f32>,
}

/// The nodes that can be replaced, in the graph's order, and those with weights that cannot.
pub(super) fn candidates(opened: &Opened, range: WeightRange) -> (Vec<Candidate<'_>>, Vec<Left>) {
    let constants = opened.constants();
    let (mut found, mut left) = (Vec::new(), Vec::new());
    for (place, node) in opened.graph().node.iter().enumerate() {
        if !(node.domain.is_empty() || node.domain == "ai.onnx") {
            continue;
        }
        let kind = match node.op_type.as_str() {
            "MatMul" | "Gemm" => product(node, &constants, range),
            "Gather" => match table(node, &constants) {
                Some(kind) => kind,
                None => continue,
            },
            "Conv" | "ConvTranspose" | "LSTM" | "GRU" | "RNN" => Err("only MatMul, Gemm and Gather are".to_owned()),
            _ => continue,
        };
        let kind = if opened.has_strange_fields(place) {
            Err("it has fields that are not read here".to_owned())
        } else if !matches!(node.output.as_slice(), [output] if !output.is_empty()) {
            Err("it has another number of outputs than expected".to_owned())
        } else {
            kind
        };
        match kind {
            Ok(kind) => found.push(Candidate { place, node, kind }),
            Err(why) => {
                let (node, operator) = (name_of(node).to_owned(), node.op_type.clone());
                left.push(Left { node, operator, why });
            }
        }
    }
    (found, left)
}

fn constant(name: &str, constants: &HashMap<&str, Constant>) -> Result<(usize, usize, Vec<f32>), String> {
    let constant = constants.get(name).ok_or("its weights are not constant")?;
    if constant.tensor.data_type != ElementType::Float as i32 {
        return Err("its weights are not in single precision".to_owned());
    }
    let Tensor { shape, data: Data::Fp32(values), .. } = read_tensor(constant.tensor)? else {
        return Err("its weights are not in single precision".to_owned());
    };
    let [rows, columns] = shape[..] else { return Err("its weights are no matrix".to_owned()) };
    if !values.iter().all(|value| value.is_finite()) {
        return Err("a weight is not finite".to_owned());
    }
    Ok((rows, columns, values))
}

fn product<'a>(
    node: &'a NodeProto,
    constants: &HashMap<&str, Constant>,
    range: WeightRange,
) -> Result<Kind<'a>, String> {
    let (weights, bias) = match (node.op_type.as_str(), node.input.as_slice()) {
        ("MatMul", [_, weights]) => (weights, None),
        ("Gemm", [_, weights]) => (weights, None),
        ("Gemm", [_, weights, bias]) => (weights, Some(bias.as_str()).filter(|name| !name.is_empty())),
        _ => return Err("it has another number of inputs than expected".to_owned()),
    };
    let transposed = node.op_type == "Gemm" && gemm_transposes(node, bias.is_some())?;
    let (mut rows, mut columns, mut values) = constant(weights, constants)?;
    if transposed {
        values = (0..columns)
            .flat_map(|row| (0..rows).map(move |column| (column, row)))
            .map(|(from, at)| values[from * columns + at])
            .collect();
        (rows, columns) = (columns, rows);
    }
    if values.len() < WEIGHTS_MIN || columns < COLUMNS_MIN {
        return Err(format!("{rows} x {columns} weights are too few to gain from it"));
    }
    let mut largest = vec![0f32; columns];
    for row in values.chunks_exact(columns) {
        largest.iter_mut().zip(row).for_each(|(largest, weight)| *largest = largest.max(weight.abs()));
    }
    let scales: Vec<f32> = largest.iter().map(|largest| scale(*largest, range)).collect();
    let values = values.chunks_exact(columns).flat_map(|row| row.iter().zip(&scales).map(|(v, s)| step(*v, *s, range)));
    let values = values.collect();
    Ok(Kind::Product { weights: Integers { rows, columns, values, scales }, transposed, bias })
}

/// Whether a Gemm takes the transpose of its weights; refuses what a product and a sum do not say.
fn gemm_transposes(node: &NodeProto, has_bias: bool) -> Result<bool, String> {
    if let Some(other) = node.attribute.iter().find(|attribute| {
        let known = ["alpha", "beta", "transA", "transB"].contains(&attribute.name.as_str());
        let typed = [AttributeType::Float as i32, AttributeType::Int as i32].contains(&attribute.r#type);
        !known || !typed || !attribute.ref_attr_name.is_empty()
    }) {
        return Err(format!("its attribute {} is not read here", other.name));
    }
    let float = |name: &str| attribute(node, name).map_or(1.0, |attribute| attribute.f);
    let int = |name: &str| attribute(node, name).map_or(0, |attribute| attribute.i);
    if float("alpha") != 1.0 || (has_bias && float("beta") != 1.0) {
        return Err("its alpha or beta is not 1".to_owned());
    }
    if int("transA") != 0 {
        return Err("it transposes its input".to_owned());
    }
    Ok(int("transB") != 0)
}

/// None where no constant matrix of numbers is read from: most Gathers pick lengths out of shapes.
fn table<'a>(node: &'a NodeProto, constants: &HashMap<&str, Constant>) -> Option<Result<Kind<'a>, String>> {
    let [table, _] = node.input.as_slice() else { return None };
    let float = |constant: &&Constant| constant.tensor.data_type == ElementType::Float as i32;
    constants.get(table.as_str()).filter(float).filter(|constant| constant.tensor.dims.len() == 2)?;
    Some(constant(table, constants).and_then(|(rows, columns, values)| {
        if attribute(node, "axis").is_some_and(|axis| axis.i != 0) {
            return Err("it does not pick rows".to_owned());
        }
        if values.len() < WEIGHTS_MIN || columns < COLUMNS_MIN {
            return Err(format!("{rows} rows of {columns} numbers are too few to gain from it"));
        }
        let largest = |row: &[f32]| row.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        // A table's numbers are only multiplied with their scale: nothing is added in 16 bits.
        let range = WeightRange::Full;
        let scales: Vec<f32> = values.chunks_exact(columns).map(|row| scale(largest(row), range)).collect();
        let rows_of = values.chunks_exact(columns).zip(&scales);
        let values = rows_of.flat_map(|(row, scale)| row.iter().map(|value| step(*value, *scale, range))).collect();
        Ok(Kind::Table(Integers { rows, columns, values, scales }))
    }))
}

fn scale(largest: f32, range: WeightRange) -> f32 {
    let scale = largest / range.largest();
    // Zeros alone, or nearly: any scale does.
    if scale < f32::MIN_POSITIVE { 1.0 } else { scale }
}

fn step(value: f32, scale: f32, range: WeightRange) -> i8 {
    (value / scale).round_ties_even().clamp(-range.largest(), range.largest()) as i8
}
