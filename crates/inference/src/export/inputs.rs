//! The inputs of an exported graph: their names and types, what a person must give, and how a null is written.

use super::graph::Graph;
use super::{Blocks, InputForm, Member};
use crate::import::onnx::proto::ElementType;
use crate::tensor::Datatype;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::fmt;
use vocabulary::contract::ColumnKind;
use vocabulary::inputs::Layout;
use vocabulary::tensors::{Given, Key, Part, TensorStep, TensorSteps};

/// An input of the graph. Its first length is that of the rows.
#[derive(Clone, Debug, PartialEq)]
pub struct ExportedInput {
    pub name: String,
    pub datatype: Datatype,
    /// Columns of the matrix.
    pub width: usize,
    pub source: Source,
    /// What it is, for a person.
    pub meaning: String,
    pub missing: Missing,
}

/// Where an input comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Inputs of the model, as its pipeline makes them.
    Model,
    /// A column as the contract has it.
    Column,
    /// Something that has to be worked out from a column, since tensors cannot.
    Derived,
}

impl Source {
    pub fn name(self) -> &'static str {
        match self {
            Source::Model => "model",
            Source::Column => "column",
            Source::Derived => "derived",
        }
    }
}

/// How a missing value is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    Nan,
    /// As this number.
    Int(i64),
    Text(String),
    /// There is none.
    Never,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::Nan => write!(f, "NaN"),
            Missing::Int(value) => write!(f, "{value}"),
            Missing::Text(text) => write!(f, "{text:?}"),
            Missing::Never => write!(f, "never missing"),
        }
    }
}

/// A whole number that stands for null: the least, which no column is likely to hold.
pub(super) const NULL_INT: i64 = i64::MIN;

/// What the inputs are so far.
pub(super) struct Registry {
    inputs: Vec<ExportedInput>,
    /// Places by source and meaning.
    known: HashMap<(String, String), String>,
    /// The columns that are read as categories.
    categories: HashSet<String>,
    /// Columns that are computed from others, and how.
    derived: HashMap<String, String>,
    null_text: String,
}

impl Registry {
    pub fn new(members: &[Member]) -> Registry {
        let mut categories = HashSet::new();
        let mut texts = HashSet::new();
        let mut derived = HashMap::new();
        for member in members {
            let InputForm::Pipeline(steps) = member.inputs else { continue };
            derived.extend(steps.derived.iter().map(|(name, meaning)| (name.clone(), meaning.clone())));
            for step in &steps.steps {
                let TensorStep::Table(table) = step else { continue };
                categories.extend(table.columns.iter().cloned());
                let keys = table.keys.iter().flatten().flatten();
                texts.extend(keys.filter_map(|key| if let Key::Text(text) = key { Some(text.as_str()) } else { None }));
            }
        }
        let mut null_text = "<null>".to_owned();
        while texts.contains(null_text.as_str()) {
            null_text = format!("<{null_text}>");
        }
        Registry { inputs: Vec::new(), known: HashMap::new(), categories, derived, null_text }
    }

    pub fn null_text(&self) -> &str {
        &self.null_text
    }

    /// Whether a step reads the column as a category.
    pub fn is_category(&self, column: &str) -> bool {
        self.categories.contains(column)
    }

    pub fn into_inputs(self) -> Vec<ExportedInput> {
        self.inputs
    }

    /// The input with this name and meaning, declared where it is new.
    fn declare(&mut self, graph: &mut Graph, wanted: ExportedInput) -> String {
        let key = (wanted.name.clone(), wanted.meaning.clone());
        if let Some(name) = self.known.get(&key) {
            return name.clone();
        }
        let name = graph.unique(&wanted.name);
        graph.input(&name, element(wanted.datatype), Some(wanted.width));
        self.known.insert(key, name.clone());
        self.inputs.push(ExportedInput { name: name.clone(), ..wanted });
        name
    }

    /// Matrices of one training; the pipelines of two may differ, so that none are shared.
    pub fn blocks(&mut self, graph: &mut Graph, layout: &Layout, training: usize) -> Blocks {
        let mut block = |name: &str, datatype, width: usize, missing| {
            let meaning = format!("the {name} inputs of training {training}, in its layout's order");
            let input =
                ExportedInput { name: name.to_owned(), datatype, width, source: Source::Model, meaning, missing };
            (width > 0).then(|| self.declare(graph, input))
        };
        let dense = block("dense", Datatype::Fp32, layout.dense.len(), Missing::Nan);
        let slots = block("slots", Datatype::Int64, layout.slots.len(), Missing::Never);
        Blocks { dense, slots }
    }

    pub fn layout_columns(&mut self, graph: &mut Graph, layout: &Layout, training: usize) -> Blocks {
        let mut column = |name: &str, datatype, missing| {
            let meaning = format!("the input \"{name}\" of training {training}");
            let source = Source::Model;
            let input = ExportedInput { name: name.to_owned(), datatype, width: 1, source, meaning, missing };
            self.declare(graph, input)
        };
        let dense: Vec<String> =
            layout.dense.iter().map(|dense| column(&dense.name, Datatype::Fp32, Missing::Nan)).collect();
        let slots: Vec<String> =
            layout.slots.iter().map(|slot| column(slot, Datatype::Int64, Missing::Never)).collect();
        let [dense, slots] = [dense, slots].map(|names| {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            (!names.is_empty()).then(|| graph.beside(&names))
        });
        Blocks { dense, slots }
    }

    /// The input of a column.
    pub fn raw(&mut self, graph: &mut Graph, name: &str, kind: ColumnKind) -> String {
        let (datatype, missing, what) = match kind {
            ColumnKind::Float => (Datatype::Fp64, Missing::Nan, "a number"),
            ColumnKind::Bool => (Datatype::Fp64, Missing::Nan, "0 or 1"),
            ColumnKind::Int if self.categories.contains(name) => {
                (Datatype::Int64, Missing::Int(NULL_INT), "a whole number")
            }
            ColumnKind::Int => (Datatype::Fp64, Missing::Nan, "a whole number"),
            ColumnKind::Timestamp => (Datatype::Int64, Missing::Int(NULL_INT), "microseconds since 1970 in UTC"),
            ColumnKind::String => (Datatype::Bytes, Missing::Text(self.null_text.clone()), "a text"),
        };
        let (source, meaning) = match self.derived.get(name) {
            Some(how) => (Source::Derived, format!("\"{name}\", {what}: {how}")),
            None => (Source::Column, format!("column \"{name}\": {what}")),
        };
        self.declare(graph, ExportedInput { name: name.to_owned(), datatype, width: 1, source, meaning, missing })
    }

    /// The input of a part of an instant.
    pub fn part(&mut self, graph: &mut Graph, part: &Part) -> String {
        let (name, meaning) = (part.name.clone(), part.meaning.clone());
        let (datatype, source, missing) = (Datatype::Fp64, Source::Derived, Missing::Nan);
        self.declare(graph, ExportedInput { name, datatype, width: 1, source, meaning, missing })
    }

    /// The input of a slot that only the pipeline can make.
    pub fn given(&mut self, graph: &mut Graph, given: &Given) -> String {
        let (name, meaning) = (format!("{}:slot", given.name), given.meaning.clone());
        let (datatype, source, missing) = (Datatype::Int64, Source::Derived, Missing::Never);
        self.declare(graph, ExportedInput { name, datatype, width: 1, source, meaning, missing })
    }

    /// The input of dense columns that only the pipeline can make.
    pub fn given_dense(&mut self, graph: &mut Graph, given: &Given, width: usize) -> String {
        let (name, meaning) = (format!("{}:dense", given.name), given.meaning.clone());
        let (datatype, source, missing) = (Datatype::Fp32, Source::Derived, Missing::Nan);
        self.declare(graph, ExportedInput { name, datatype, width, source, meaning, missing })
    }
}

fn element(datatype: Datatype) -> ElementType {
    match datatype {
        Datatype::Fp64 => ElementType::Double,
        Datatype::Int64 => ElementType::Int64,
        Datatype::Bytes => ElementType::String,
        _ => ElementType::Float,
    }
}

/// The inputs as JSON.
pub(super) fn described(inputs: &[ExportedInput]) -> String {
    let one = |input: &ExportedInput| {
        let missing = match &input.missing {
            Missing::Nan => json!("NaN"),
            Missing::Int(value) => json!(value),
            Missing::Text(text) => json!(text),
            Missing::Never => json!(null),
        };
        json!({
            "name": input.name,
            "type": input.datatype.name(),
            "source": input.source.name(),
            "meaning": input.meaning,
            "missing": missing,
        })
    };
    serde_json::Value::from(inputs.iter().map(one).collect::<Vec<_>>()).to_string()
}

/// The type of a column.
pub(super) fn kind_of(steps: &TensorSteps, name: &str) -> Option<ColumnKind> {
    steps.columns.iter().find(|(known, _)| known == name).map(|(_, kind)| *kind)
}
