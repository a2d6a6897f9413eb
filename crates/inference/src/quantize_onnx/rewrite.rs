//! The file with its candidates replaced; everything else is copied field by field.

use super::build::{Builder, INITIALIZER, NODE, int, put_node};
use super::graph::Opened;
use super::ranges::Ranges;
use super::weights::{Candidate, Integers, Kind, candidates};
use super::{QuantizeError, Quantized, Report, WeightRange};
use crate::import::onnx::proto::ElementType;
use crate::onnxruntime::wire::{Field, Fields, Value, put_bytes};
use std::collections::{HashMap, HashSet};

/// Where the ranges of activations come from.
pub(super) enum Activations {
    Dynamic,
    Static(Ranges),
}

pub(super) fn rewrite(
    opened: &Opened,
    file: &[u8],
    range: WeightRange,
    activations: &Activations,
) -> Result<Quantized, QuantizeError> {
    let (candidates, left) = candidates(opened, range);
    if candidates.is_empty() {
        let reasons: Vec<String> =
            left.iter().map(|left| format!("{} {}: {}", left.operator, left.node, left.why)).collect();
        let none = "it has no MatMul, Gemm or Gather".to_owned();
        return Err(QuantizeError::Nothing(if reasons.is_empty() { none } else { reasons.join("; ") }));
    }
    let mut rewriter = Rewriter {
        builder: Builder::new(opened.names()),
        activations,
        inputs: HashMap::new(),
        matrices: HashMap::new(),
        replaced: HashMap::new(),
    };
    candidates.iter().for_each(|candidate| rewriter.replace(candidate));
    let unused = unused(opened, &candidates);
    let Rewriter { replaced, builder, .. } = rewriter;
    let mut bytes = Vec::with_capacity(file.len());
    for field in Fields::of(file) {
        let damaged = |_| QuantizeError::Damaged("its protocol buffer breaks off".to_owned());
        match field.map_err(damaged)? {
            Field { number: 7, value: Value::Bytes(graph), .. } => {
                put_bytes(&mut bytes, 7, &copy(graph, &replaced, &unused, &builder.tensors)?);
            }
            field => bytes.extend_from_slice(field.encoded),
        }
    }
    Ok(Quantized { bytes, report: Report { quantized: candidates.len(), left } })
}

fn copy(
    graph: &[u8],
    replaced: &HashMap<usize, Vec<u8>>,
    unused: &Unused,
    tensors: &[u8],
) -> Result<Vec<u8>, QuantizeError> {
    let mut copy = Vec::with_capacity(graph.len());
    let (mut node, mut initializer) = (0, 0);
    for field in Fields::of(graph) {
        let field = field.map_err(|_| QuantizeError::Damaged("its graph breaks off".to_owned()))?;
        match field.number {
            NODE => {
                match replaced.get(&node) {
                    Some(nodes) => copy.extend_from_slice(nodes),
                    None if unused.nodes.contains(&node) => {}
                    None => copy.extend_from_slice(field.encoded),
                }
                node += 1;
            }
            INITIALIZER => {
                if !unused.initializers.contains(&initializer) {
                    copy.extend_from_slice(field.encoded);
                }
                initializer += 1;
            }
            _ => copy.extend_from_slice(field.encoded),
        }
    }
    copy.extend_from_slice(tensors);
    Ok(copy)
}

/// Places of constants that only replaced nodes have read.
struct Unused {
    initializers: HashSet<usize>,
    nodes: HashSet<usize>,
}

fn unused(opened: &Opened, candidates: &[Candidate]) -> Unused {
    let mut readers = opened.readers();
    for Candidate { node, kind, .. } in candidates {
        let weights = match kind {
            Kind::Product { .. } => &node.input[1],
            Kind::Table(_) => &node.input[0],
        };
        if let Some(count) = readers.get_mut(weights.as_str()) {
            *count -= 1;
        }
    }
    let (graph, constants) = (opened.graph(), opened.constants());
    let read_no_more = |name: &str| readers.get(name) == Some(&0);
    let initializers = graph.initializer.iter().enumerate();
    let initializers = initializers.filter(|(_, tensor)| read_no_more(&tensor.name)).map(|(place, _)| place).collect();
    let nodes = constants.iter().filter(|(name, _)| read_no_more(name)).filter_map(|(_, constant)| constant.node);
    Unused { initializers, nodes: nodes.collect() }
}

struct Rewriter<'a> {
    builder: Builder,
    activations: &'a Activations,
    /// For each tensor that products take, its quantized form; made once.
    inputs: HashMap<String, Input>,
    /// For each constant, the names of its integers and scales.
    matrices: HashMap<(String, Layout), (String, String)>,
    /// For each replaced node the fields that take its place.
    replaced: HashMap<usize, Vec<u8>>,
}

/// One constant may be read in several ways.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Layout {
    Columns { transposed: bool },
    Rows,
}

/// Names of a tensor's bytes, their scale and their zero.
type Input = [String; 3];

impl Rewriter<'_> {
    fn replace(&mut self, candidate: &Candidate) {
        let (node, mut nodes) = (candidate.node, Vec::new());
        let output = &node.output[0];
        match &candidate.kind {
            Kind::Product { weights, transposed, bias } => {
                let sum = match bias {
                    Some(_) => self.builder.name(output, "product"),
                    None => output.clone(),
                };
                let layout = Layout::Columns { transposed: *transposed };
                let matrix = self.matrix(&node.input[1], weights, layout);
                self.product(&mut nodes, &node.input[0], matrix, &sum);
                if let Some(bias) = bias {
                    put_node(&mut nodes, "Add", &[&sum, bias], &[output], Vec::new());
                }
            }
            Kind::Table(rows) => self.table(&mut nodes, &node.input[0], &node.input[1], rows, output),
        }
        self.replaced.insert(candidate.place, nodes);
    }

    fn product(&mut self, nodes: &mut Vec<u8>, input: &str, (integers, scales): (String, String), output: &str) {
        let [bytes, scale, zero] = self.input(nodes, input);
        let [sums, floats, scaled] = ["sums", "floats", "scales"].map(|what| self.builder.name(output, what));
        put_node(nodes, "MatMulInteger", &[&bytes, &integers, &zero], &[&sums], Vec::new());
        put_node(nodes, "Cast", &[&sums], &[&floats], vec![int("to", ElementType::Float as i64)]);
        put_node(nodes, "Mul", &[&scale, &scales], &[&scaled], Vec::new());
        put_node(nodes, "Mul", &[&floats, &scaled], &[output], Vec::new());
    }

    /// The quantized form of what a product takes; its nodes stand before the first product that does.
    fn input(&mut self, nodes: &mut Vec<u8>, input: &str) -> Input {
        if let Some(made) = self.inputs.get(input) {
            return made.clone();
        }
        let made = match self.activations {
            Activations::Dynamic => {
                let outputs = ["bytes", "scale", "zero"].map(|what| self.builder.name(input, what));
                let [bytes, scale, zero] = &outputs;
                put_node(nodes, "DynamicQuantizeLinear", &[input], &[bytes, scale, zero], Vec::new());
                outputs
            }
            Activations::Static(ranges) => {
                let (scale, zero) = ranges.steps(input);
                let scale = self.builder.floats(input, "scale", &[], &[scale]);
                let zero = self.builder.tensor(input, "zero", &[], ElementType::Uint8, vec![zero]);
                let bytes = self.builder.name(input, "bytes");
                put_node(nodes, "QuantizeLinear", &[input, &scale, &zero], &[&bytes], Vec::new());
                [bytes, scale, zero]
            }
        };
        self.inputs.insert(input.to_owned(), made.clone());
        made
    }

    /// Rows of integers times their scales; both are picked by the same indices.
    fn table(&mut self, nodes: &mut Vec<u8>, constant: &str, indices: &str, rows: &Integers, output: &str) {
        let (integers, scales) = self.matrix(constant, rows, Layout::Rows);
        let [bytes, floats, scale] = ["bytes", "floats", "scale"].map(|what| self.builder.name(output, what));
        put_node(nodes, "Gather", &[&integers, indices], &[&bytes], Vec::new());
        put_node(nodes, "Cast", &[&bytes], &[&floats], vec![int("to", ElementType::Float as i64)]);
        put_node(nodes, "Gather", &[&scales, indices], &[&scale], Vec::new());
        put_node(nodes, "Mul", &[&floats, &scale], &[output], Vec::new());
    }

    fn matrix(&mut self, constant: &str, matrix: &Integers, layout: Layout) -> (String, String) {
        let key = (constant.to_owned(), layout);
        if let Some(names) = self.matrices.get(&key) {
            return names.clone();
        }
        let integers = self.builder.integers(constant, "integers", &[matrix.rows, matrix.columns], &matrix.values);
        let shape: &[usize] = match layout {
            Layout::Columns { .. } => &[matrix.columns],
            Layout::Rows => &[matrix.rows, 1],
        };
        let scales = self.builder.floats(constant, "scales", shape, &matrix.scales);
        self.matrices.insert(key, (integers.clone(), scales.clone()));
        (integers, scales)
    }
}
