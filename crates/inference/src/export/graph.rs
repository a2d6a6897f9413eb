//! A graph in the making: nodes, constants, inputs and outputs under names that are all different. Knows the protocol
//! buffers, and no model.

use super::ExportError;
use crate::import::onnx::proto::{
    AttributeProto, AttributeType, DimensionProto, DimensionValue, ElementType, GraphProto, ModelProto, NodeProto,
    OperatorSetIdProto, StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto, TypeProto, TypeValue,
    ValueInfoProto,
};
use prost::Message;
use std::collections::HashSet;

/// The least version of ONNX's operators that has all types that are needed here.
const OPSET: i64 = 13;
/// The one that brought exclusive or.
pub(super) const OPSET_BITS: i64 = 18;
const OPSET_CLASSICAL: i64 = 3;

/// A protocol buffer has to stay below 2 GiB.
const BYTES_MAX: usize = (1 << 31) - (1 << 20);

/// The name of the free length, that of the rows.
const ROWS: &str = "rows";

pub(super) const CLASSICAL: &str = "ai.onnx.ml";

#[derive(Default)]
pub(super) struct Graph {
    proto: GraphProto,
    names: HashSet<String>,
    made: usize,
    opset: i64,
    bytes: usize,
}

impl Graph {
    /// `name`, or with a number where that is taken.
    pub fn unique(&mut self, name: &str) -> String {
        let numbered = (2..).map(|number| format!("{name}_{number}"));
        let mut candidates = std::iter::once(name.to_owned()).chain(numbered);
        let found = candidates.find(|candidate| !self.names.contains(candidate)).unwrap_or_default();
        self.names.insert(found.clone());
        found
    }

    fn next(&mut self, what: &str) -> String {
        self.made += 1;
        self.unique(&format!("{}_{}", what.to_lowercase(), self.made))
    }

    pub fn needs_opset(&mut self, version: i64) {
        self.opset = self.opset.max(version);
    }

    pub fn input(&mut self, name: &str, element: ElementType, width: Option<usize>) {
        self.proto.input.push(value(name, element, width));
    }

    /// Renames a value to an output's name.
    pub fn output(&mut self, from: &str, name: &str, element: ElementType, width: Option<usize>) {
        self.push("Identity", "", &[from], name, Vec::new());
        self.proto.output.push(value(name, element, width));
    }

    /// Adds a node of ONNX's own operators and gives the name of its output.
    pub fn node(&mut self, operator: &str, inputs: &[&str]) -> String {
        self.with(operator, inputs, Vec::new())
    }

    pub fn with(&mut self, operator: &str, inputs: &[&str], attributes: Vec<AttributeProto>) -> String {
        let output = self.next(operator);
        self.push(operator, "", inputs, &output, attributes);
        output
    }

    /// As [`Graph::with`], of the operators of classical models.
    pub fn classical(&mut self, operator: &str, input: &str, attributes: Vec<AttributeProto>) -> String {
        let output = self.next(operator);
        self.push(operator, CLASSICAL, &[input], &output, attributes);
        output
    }

    fn push(&mut self, operator: &str, domain: &str, inputs: &[&str], output: &str, attribute: Vec<AttributeProto>) {
        let node = NodeProto {
            input: inputs.iter().map(|name| (*name).to_owned()).collect(),
            output: vec![output.to_owned()],
            name: format!("{output}_node"),
            op_type: operator.to_owned(),
            attribute,
            domain: domain.to_owned(),
        };
        self.bytes += node.encoded_len();
        self.proto.node.push(node);
    }

    fn tensor(&mut self, shape: &[usize], element: ElementType, raw_data: Vec<u8>) -> String {
        let name = self.next("constant");
        self.bytes += raw_data.len();
        self.proto.initializer.push(TensorProto {
            dims: shape.iter().map(|length| *length as i64).collect(),
            data_type: element as i32,
            name: name.clone(),
            raw_data,
            ..TensorProto::default()
        });
        name
    }

    pub fn floats(&mut self, shape: &[usize], values: &[f32]) -> String {
        self.tensor(shape, ElementType::Float, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    pub fn doubles(&mut self, shape: &[usize], values: &[f64]) -> String {
        self.tensor(shape, ElementType::Double, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    pub fn ints(&mut self, shape: &[usize], values: &[i64]) -> String {
        self.tensor(shape, ElementType::Int64, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    pub fn double(&mut self, value: f64) -> String {
        self.doubles(&[], &[value])
    }

    pub fn float(&mut self, value: f32) -> String {
        self.floats(&[], &[value])
    }

    pub fn int(&mut self, value: i64) -> String {
        self.ints(&[], &[value])
    }

    pub fn cast(&mut self, value: &str, to: ElementType) -> String {
        self.with("Cast", &[value], vec![int("to", to as i64)])
    }

    /// Entries of the first dimension, by places of any shape.
    pub fn gather(&mut self, table: &str, places: &str) -> String {
        self.with("Gather", &[table, places], vec![int("axis", 0)])
    }

    /// One column of a matrix, as a list.
    pub fn column(&mut self, matrix: &str, place: usize) -> String {
        let place = self.int(place as i64);
        self.with("Gather", &[matrix, &place], vec![int("axis", 1)])
    }

    /// Columns of a matrix, as a matrix.
    pub fn columns(&mut self, matrix: &str, places: &[usize]) -> String {
        let places: Vec<i64> = places.iter().map(|place| *place as i64).collect();
        let places = self.ints(&[places.len()], &places);
        self.with("Gather", &[matrix, &places], vec![int("axis", 1)])
    }

    /// Matrices side by side.
    pub fn beside(&mut self, parts: &[&str]) -> String {
        match parts {
            [only] => (*only).to_owned(),
            parts => self.with("Concat", parts, vec![int("axis", 1)]),
        }
    }

    /// One matrix of pieces, each with the places that its columns have in it; none of no pieces.
    pub fn arrange(&mut self, pieces: &[(String, Vec<usize>)]) -> Option<String> {
        let pieces: Vec<_> = pieces.iter().filter(|(_, places)| !places.is_empty()).collect();
        if pieces.is_empty() {
            return None;
        }
        let names: Vec<&str> = pieces.iter().map(|(name, _)| name.as_str()).collect();
        let whole = self.beside(&names);
        let places: Vec<usize> = pieces.iter().flat_map(|(_, places)| places).copied().collect();
        if places.is_sorted() {
            return Some(whole);
        }
        let mut order: Vec<usize> = (0..places.len()).collect();
        order.sort_by_key(|at| places[*at]);
        Some(self.columns(&whole, &order))
    }

    /// The sum over the second dimension, which is kept as one where the first argument says so.
    pub fn sum(&mut self, value: &str, keep: Keep) -> String {
        let axes = self.ints(&[1], &[1]);
        self.with("ReduceSum", &[value, &axes], vec![int("keepdims", i64::from(keep == Keep::Dimension))])
    }

    /// The file.
    pub fn encode(self, name: &str, metadata: &[(String, String)]) -> Result<Vec<u8>, ExportError> {
        if self.bytes > BYTES_MAX {
            return Err(ExportError::TooLarge { megabytes: self.bytes / 1_000_000 });
        }
        let classical = self.proto.node.iter().any(|node| node.domain == CLASSICAL);
        let opset = self.opset.max(OPSET);
        let set = |domain: &str, version| OperatorSetIdProto { domain: domain.to_owned(), version };
        let mut opset_import = vec![set("", opset)];
        if classical {
            opset_import.push(set(CLASSICAL, OPSET_CLASSICAL));
        }
        let entry = |(key, value): &(String, String)| StringStringEntryProto { key: key.clone(), value: value.clone() };
        let model = ModelProto {
            // The versions of the format that came with these versions of the operators.
            ir_version: if opset < OPSET_BITS { 7 } else { 8 },
            producer_name: "homeostat".to_owned(),
            producer_version: env!("CARGO_PKG_VERSION").to_owned(),
            graph: Some(GraphProto { name: name.to_owned(), ..self.proto }),
            opset_import,
            metadata_props: metadata.iter().map(entry).collect(),
            ..ModelProto::default()
        };
        Ok(model.encode_to_vec())
    }
}

/// Whether a dimension that was summed over stays, of length one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    Dimension,
    Nothing,
}

fn value(name: &str, element: ElementType, width: Option<usize>) -> ValueInfoProto {
    let dimension = |value| DimensionProto { value: Some(value) };
    let rows = dimension(DimensionValue::Name(ROWS.to_owned()));
    let width = width.map(|width| dimension(DimensionValue::Length(width as i64)));
    let shape = TensorShapeProto { dim: std::iter::once(rows).chain(width).collect() };
    let tensor = TensorTypeProto { elem_type: element as i32, shape: Some(shape) };
    let r#type = TypeProto { value: Some(TypeValue::Tensor(tensor)), denotation: String::new() };
    ValueInfoProto { name: name.to_owned(), r#type: Some(r#type), doc_string: String::new() }
}

fn attribute(name: &str, r#type: AttributeType) -> AttributeProto {
    AttributeProto { name: name.to_owned(), r#type: r#type as i32, ..AttributeProto::default() }
}

pub(super) fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { i, ..attribute(name, AttributeType::Int) }
}

pub(super) fn ints(name: &str, ints: Vec<i64>) -> AttributeProto {
    AttributeProto { ints, ..attribute(name, AttributeType::Ints) }
}

pub(super) fn floats(name: &str, floats: Vec<f32>) -> AttributeProto {
    AttributeProto { floats, ..attribute(name, AttributeType::Floats) }
}

pub(super) fn text(name: &str, text: &str) -> AttributeProto {
    AttributeProto { s: text.as_bytes().to_vec(), ..attribute(name, AttributeType::String) }
}

pub(super) fn texts(name: &str, texts: Vec<Vec<u8>>) -> AttributeProto {
    AttributeProto { strings: texts, ..attribute(name, AttributeType::Strings) }
}
