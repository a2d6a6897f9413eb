//! Nodes and tensors that take the place of others, as they are encoded.

use crate::import::onnx::proto::{AttributeProto, AttributeType, ElementType, NodeProto, TensorProto};
use crate::onnxruntime::wire::put_bytes;
use prost::Message;
use std::collections::HashSet;

/// Field numbers of a graph.
pub(super) const NODE: u32 = 1;
pub(super) const INITIALIZER: u32 = 5;
pub(super) const OUTPUT: u32 = 12;

/// What is made for one graph, under names that it does not have yet.
pub(super) struct Builder {
    names: HashSet<String>,
    /// Encoded fields of the graph.
    pub tensors: Vec<u8>,
}

impl Builder {
    pub fn new(names: HashSet<String>) -> Builder {
        Builder { names, tensors: Vec::new() }
    }

    /// `base` and `what`, with a number where that name is taken.
    pub fn name(&mut self, base: &str, what: &str) -> String {
        let first = format!("{base}_{what}");
        let numbered = (2..).map(|number| format!("{first}_{number}"));
        let name = std::iter::once(first.clone()).chain(numbered).find(|name| !self.names.contains(name));
        let name = name.unwrap_or(first);
        self.names.insert(name.clone());
        name
    }

    /// Adds an initializer and gives its name.
    pub fn tensor(&mut self, base: &str, what: &str, shape: &[usize], element: ElementType, raw: Vec<u8>) -> String {
        let name = self.name(base, what);
        let tensor = TensorProto {
            dims: shape.iter().map(|length| *length as i64).collect(),
            data_type: element as i32,
            name: name.clone(),
            raw_data: raw,
            ..TensorProto::default()
        };
        put_bytes(&mut self.tensors, INITIALIZER, &tensor.encode_to_vec());
        name
    }

    pub fn floats(&mut self, base: &str, what: &str, shape: &[usize], values: &[f32]) -> String {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensor(base, what, shape, ElementType::Float, raw)
    }

    pub fn integers(&mut self, base: &str, what: &str, shape: &[usize], values: &[i8]) -> String {
        let raw = values.iter().map(|value| *value as u8).collect();
        self.tensor(base, what, shape, ElementType::Int8, raw)
    }
}

/// A node of ONNX's own operators, named by its first output.
pub(super) fn put_node(
    graph: &mut Vec<u8>,
    operator: &str,
    inputs: &[&str],
    outputs: &[&str],
    attributes: Vec<AttributeProto>,
) {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let node = NodeProto {
        input: owned(inputs),
        output: owned(outputs),
        name: format!("{}_{operator}", outputs.first().unwrap_or(&"")),
        op_type: operator.to_owned(),
        attribute: attributes,
        ..NodeProto::default()
    };
    put_bytes(graph, NODE, &node.encode_to_vec());
}

pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    let r#type = AttributeType::Int as i32;
    AttributeProto { name: name.to_owned(), i: value, r#type, ..AttributeProto::default() }
}
