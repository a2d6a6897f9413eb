//! What a file's graph says of its nodes, constants and names, before anything is changed.

use super::QuantizeError;
use crate::import::onnx::decode;
use crate::import::onnx::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto};
use crate::onnxruntime::wire::{Fields, Value};
use std::collections::{HashMap, HashSet};

/// Fields of a node that are read here: inputs, outputs, name, operator, attributes, a text about it, domain.
const NODE_FIELDS: [u32; 7] = [1, 2, 3, 4, 5, 6, 7];

/// The version of ONNX's operators that brought `DynamicQuantizeLinear`.
const OPERATORS: i64 = 11;

pub(super) struct Opened {
    model: ModelProto,
    /// By their place in the file, whether a node has fields beside those.
    strange: Vec<bool>,
}

impl Opened {
    /// Refuses a file without a graph, or with ONNX's operators older than those that it will use.
    pub fn new(file: &[u8]) -> Result<Opened, QuantizeError> {
        let model = decode(file)?;
        if model.graph.is_none() {
            return Err(QuantizeError::Damaged("it has no graph".to_owned()));
        }
        let standard = |domain: &str| domain.is_empty() || domain == "ai.onnx";
        let versions = model.opset_import.iter().filter(|set| standard(&set.domain)).map(|set| set.version);
        let found = versions.max().unwrap_or(1);
        if found < OPERATORS {
            return Err(QuantizeError::Operators { found, wanted: OPERATORS });
        }
        let strange = strange_nodes(file)?;
        if strange.len() != model.graph.as_ref().map_or(0, |graph| graph.node.len()) {
            return Err(QuantizeError::Damaged("its graph comes in several parts".to_owned()));
        }
        Ok(Opened { model, strange })
    }

    pub fn graph(&self) -> &GraphProto {
        self.model.graph.as_ref().expect("looked at when it was opened")
    }

    pub fn has_strange_fields(&self, node: usize) -> bool {
        self.strange[node]
    }

    /// Tensors with a value that no call can change, by name, each with the node that holds it.
    pub fn constants(&self) -> HashMap<&str, Constant<'_>> {
        let graph = self.graph();
        // An initializer that is an input too is a default, which a call may replace.
        let inputs: HashSet<&str> = graph.input.iter().map(|input| input.name.as_str()).collect();
        let of_graph = graph.initializer.iter().filter(|tensor| !inputs.contains(tensor.name.as_str()));
        let mut constants: HashMap<&str, Constant> =
            of_graph.map(|tensor| (tensor.name.as_str(), Constant { tensor, node: None })).collect();
        for (place, node) in graph.node.iter().enumerate() {
            if node.op_type == "Constant"
                && let ([output], Some(tensor)) = (node.output.as_slice(), attribute(node, "value"))
                && let Some(tensor) = &tensor.t
            {
                constants.insert(output, Constant { tensor, node: Some(place) });
            }
        }
        constants
    }

    /// How often each name is read: by nodes, by those of graphs inside of them, and as an output.
    pub fn readers(&self) -> HashMap<&str, usize> {
        let mut readers = HashMap::new();
        count_readers(self.graph(), &mut readers);
        readers
    }

    /// Every name of a value.
    pub fn names(&self) -> HashSet<String> {
        let mut names = HashSet::new();
        collect_names(self.graph(), &mut names);
        names
    }
}

#[derive(Clone, Copy)]
pub(super) struct Constant<'a> {
    pub tensor: &'a TensorProto,
    pub node: Option<usize>,
}

pub(super) fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

/// The node's name, or what it gives.
pub(super) fn name_of(node: &NodeProto) -> &str {
    if node.name.is_empty() { node.output.first().map_or("", String::as_str) } else { &node.name }
}

fn inner_graphs(node: &NodeProto) -> impl Iterator<Item = &GraphProto> {
    node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs))
}

fn count_readers<'a>(graph: &'a GraphProto, readers: &mut HashMap<&'a str, usize>) {
    let outputs = graph.output.iter().map(|output| output.name.as_str());
    outputs.for_each(|name| *readers.entry(name).or_default() += 1);
    for node in &graph.node {
        node.input.iter().for_each(|name| *readers.entry(name).or_default() += 1);
        inner_graphs(node).for_each(|graph| count_readers(graph, readers));
    }
}

fn collect_names(graph: &GraphProto, names: &mut HashSet<String>) {
    let declared = graph.input.iter().chain(&graph.output).chain(&graph.value_info);
    names.extend(declared.map(|value| value.name.clone()));
    names.extend(graph.initializer.iter().map(|tensor| tensor.name.clone()));
    for node in &graph.node {
        names.extend(node.input.iter().chain(&node.output).chain([&node.name]).cloned());
        inner_graphs(node).for_each(|graph| collect_names(graph, names));
    }
}

fn strange_nodes(file: &[u8]) -> Result<Vec<bool>, QuantizeError> {
    let damaged = |_| QuantizeError::Damaged("its protocol buffer breaks off".to_owned());
    let (mut strange, mut graphs) = (Vec::new(), 0);
    for field in Fields::of(file) {
        let field = field.map_err(damaged)?;
        let (7, Value::Bytes(graph)) = (field.number, field.value) else { continue };
        graphs += 1;
        for field in Fields::of(graph) {
            let field = field.map_err(damaged)?;
            let (1, Value::Bytes(node)) = (field.number, field.value) else { continue };
            let mut known = true;
            for field in Fields::of(node) {
                known &= NODE_FIELDS.contains(&field.map_err(damaged)?.number);
            }
            strange.push(!known);
        }
    }
    // A second graph would be merged with the first when it is decoded, but not where fields are copied.
    if graphs == 1 { Ok(strange) } else { Err(QuantizeError::Damaged(format!("it has {graphs} graphs"))) }
}
