//! Native models as ONNX files: the pipeline's part that tensors can express, the model, its calibration, and the mean
//! of trainings that are averaged. Knows neither where versions are kept nor what a pipeline is beyond
//! [`TensorSteps`].
//!
//! Answers agree with ours to 1e-6 (relative above 1). Single-precision sums, of trees and of a network's layers, are
//! laid out so that ONNX Runtime rounds them as we do; where it adds in another order (few rows through many trees on
//! several threads, layers on other machines than x86-64), last bits differ.

mod answers;
mod columns;
mod graph;
mod inputs;
mod linear;
mod network;
mod trees;

pub use inputs::{ExportedInput, Missing, Source};

use crate::compact::{CompactLinearModel, CompactTreesModel};
use crate::linear::LinearModel;
use crate::model::{Link, ModelError};
use crate::network::NetworkModel;
use crate::network::quantized::QuantizedNetwork;
use crate::predictor::Predictor;
use crate::trees::TreesModel;
use graph::Graph;
use inputs::Registry;
use vocabulary::inputs::Layout;
use vocabulary::model::Task;
use vocabulary::tensors::TensorSteps;

/// What is exported.
pub struct Export<'a> {
    /// The model's name.
    pub model: &'a str,
    /// The version's digest, as text.
    pub version: &'a str,
    pub task: Task,
    pub target: &'a str,
    /// Names of the classes, in the order of the outputs; of a binary task the negative one first.
    pub classes: &'a [String],
    /// The version's own training first, then those that are averaged with it.
    pub members: &'a [Member<'a>],
}

/// One training.
pub struct Member<'a> {
    pub predictor: &'a Predictor,
    pub inputs: InputForm<'a>,
}

/// What the graph takes.
#[derive(Clone, Copy, Debug)]
pub enum InputForm<'a> {
    /// `dense`, single precision with NaN for what is missing, and `slots`, both with a column for each of the layout's.
    /// Of several trainings each has its own (`dense_2`), since their pipelines differ.
    Blocks,
    /// An input for each column of the layout, by its name.
    Columns,
    /// The pipeline's columns, as far as its steps can be part of the graph.
    Pipeline(&'a TensorSteps),
}

/// An ONNX file, and what it takes and gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Exported {
    pub bytes: Vec<u8>,
    pub inputs: Vec<ExportedInput>,
    pub outputs: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    #[error(
        "\"{0}\" is no kind of model that can be exported (linear, trees, network, or a compact or quantized form of them)"
    )]
    Kind(String),
    #[error("the model cannot be taken apart")]
    Model(#[from] ModelError),
    #[error("there is nothing to export: no training, or one without inputs")]
    NoInputs,
    #[error("the trainings that are averaged give {0} and {1} numbers a row; export one of them alone")]
    Outputs(usize, usize),
    #[error(
        "the file would take {megabytes} MB, and ONNX files end at 2 GB; lower learner.linear.table_bits or \
         learner.network.embedding_mb"
    )]
    TooLarge { megabytes: usize },
    #[error("splits by {sets} sets of {codes} categories take too much memory; use target means for the column")]
    Categories { codes: usize, sets: usize },
    #[error("the pipeline's steps do not give the model's inputs: {0}; they must come from the same bundle")]
    Steps(String),
    #[error(
        "column \"{column}\" has {found} where the step reads {wanted}; the pipeline must come from the same bundle"
    )]
    Column { column: String, found: &'static str, wanted: &'static str },
}

/// The names under which the server gives answers.
const TASK_OUTPUTS: [(Task, &str); 3] =
    [(Task::Binary, "probability"), (Task::Regression, "value"), (Task::Multiclass, "probabilities")];

/// Sums before the link.
struct Sums {
    name: String,
    link: Link,
    outputs: usize,
}

/// Names of the matrices that a model reads; none of no columns.
#[derive(Clone, Debug, Default)]
struct Blocks {
    dense: Option<String>,
    slots: Option<String>,
}

/// Makes an ONNX file of a version: of its operators those of version 13 (18 where a network hashes its ids), of the
/// classical ones version 3.
pub fn export_onnx(export: &Export) -> Result<Exported, ExportError> {
    let mut graph = Graph::default();
    let mut registry = Registry::new(export.members);
    let mut answers = Vec::new();
    let mut outputs = None;
    for (training, member) in (1..).zip(export.members) {
        let blocks = blocks(&mut graph, &mut registry, member, training)?;
        let sums = sums(&mut graph, member, &blocks)?;
        match outputs {
            Some(known) if known != sums.outputs => return Err(ExportError::Outputs(known, sums.outputs)),
            _ => outputs = Some(sums.outputs),
        }
        answers.push(answers::answers(&mut graph, &sums, &member.predictor.calibration));
    }
    let classes = outputs.ok_or(ExportError::NoInputs)?;
    let answer = answers::mean(&mut graph, &answers);
    let outputs = answers::outputs(&mut graph, export.task, &answer, classes);
    let inputs = registry.into_inputs();
    let bytes = graph.encode(export.model, &metadata(export, &inputs))?;
    Ok(Exported { bytes, inputs, outputs })
}

fn blocks(graph: &mut Graph, registry: &mut Registry, member: &Member, training: usize) -> Result<Blocks, ExportError> {
    let layout = member.predictor.model.layout();
    match member.inputs {
        InputForm::Blocks => Ok(registry.blocks(graph, layout, training)),
        InputForm::Columns => Ok(registry.layout_columns(graph, layout, training)),
        InputForm::Pipeline(steps) => {
            let made = columns::columns(graph, registry, steps)?;
            check(layout, &made)?;
            Ok(made.blocks)
        }
    }
}

fn check(layout: &Layout, made: &columns::Made) -> Result<(), ExportError> {
    let wanted = (layout.dense.len(), layout.slots.len());
    if (made.dense, made.slots) == wanted {
        return Ok(());
    }
    let Layout { dense, slots, .. } = layout;
    Err(ExportError::Steps(format!(
        "{} dense columns and {} slots instead of {} and {}",
        made.dense,
        made.slots,
        dense.len(),
        slots.len()
    )))
}

fn sums(graph: &mut Graph, member: &Member, blocks: &Blocks) -> Result<Sums, ExportError> {
    let model = &member.predictor.model;
    let layout = model.layout();
    if blocks.dense.is_none() && blocks.slots.is_none() {
        return Err(ExportError::NoInputs);
    }
    // Kinds are told apart by their name, as on disk, so that the trait need not know of exports.
    let bytes = model.to_bytes();
    match model.kind() {
        LinearModel::KIND => Ok(linear::sums(graph, &LinearModel::from_bytes(&bytes, layout)?, blocks)),
        CompactLinearModel::KIND => {
            Ok(linear::sums(graph, CompactLinearModel::from_bytes(&bytes, layout)?.linear(), blocks))
        }
        NetworkModel::KIND => Ok(network::sums(graph, NetworkModel::from_bytes(&bytes, layout)?.parts(), &[], blocks)),
        QuantizedNetwork::KIND => {
            let model = QuantizedNetwork::from_bytes(&bytes, layout)?;
            Ok(network::sums(graph, model.rounded()?.parts(), &model.integers(), blocks))
        }
        TreesModel::KIND => {
            let model = TreesModel::from_bytes(&bytes, layout)?;
            trees::sums(graph, &model.ensemble(), model.link(), layout.dense.len(), blocks)
        }
        CompactTreesModel::KIND => {
            let model = CompactTreesModel::from_bytes(&bytes, layout)?;
            trees::sums(graph, &model.ensemble()?, model.link(), layout.dense.len(), blocks)
        }
        other => Err(ExportError::Kind(other.to_owned())),
    }
}

/// What the file says about itself.
fn metadata(export: &Export, inputs: &[ExportedInput]) -> Vec<(String, String)> {
    let kinds: Vec<&str> = export.members.iter().map(|member| member.predictor.model.kind()).collect();
    let mut metadata = vec![
        ("homeostat.model".to_owned(), export.model.to_owned()),
        ("homeostat.version".to_owned(), export.version.to_owned()),
        ("homeostat.target".to_owned(), export.target.to_owned()),
        ("homeostat.learners".to_owned(), kinds.join(",")),
        ("homeostat.inputs".to_owned(), inputs::described(inputs)),
    ];
    if !export.classes.is_empty() {
        let names = serde_json::Value::from(export.classes.to_vec());
        metadata.push(("homeostat.classes".to_owned(), names.to_string()));
    }
    metadata
}
