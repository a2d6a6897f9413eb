//! The trait that every kind of model implements, and loading one from its bytes.

use crate::compact::{CompactLinearModel, CompactTreesModel};
use crate::elementary::{logistic, softmax};
use crate::linear::LinearModel;
use crate::network::NetworkModel;
use crate::network::quantized::QuantizedNetwork;
use crate::trees::TreesModel;
use serde::{Deserialize, Serialize};
use vocabulary::inputs::{Inputs, Layout};
use vocabulary::model::Task;

/// A trained function from inputs to one number a row, or to one for each class. It gives the same bits for a row whatever rows are beside it and
/// however many threads there are.
pub trait Model: Send + Sync {
    /// The name under which [`load_model`] knows it.
    fn kind(&self) -> &'static str;

    /// What its inputs are.
    fn layout(&self) -> &Layout;

    /// Numbers a row: one, or the probability of each class of a multiclass target.
    fn outputs(&self) -> usize {
        1
    }

    /// Replaces the content of `out` by the raw scores of each row, row-major with [`Model::outputs`] a row: before
    /// calibration, probabilities for a classification, otherwise the quantity.
    fn predict(&self, inputs: &Inputs, out: &mut Vec<f64>) -> Result<(), ModelError>;

    /// Takes each output's sum before the link apart.
    fn contributions(&self, inputs: &Inputs) -> Result<Contributions, ModelError>;

    /// What [`load_model`] reads.
    fn to_bytes(&self) -> Vec<u8>;
}

/// Why a model gave what it gave: for each row and output a base and one part for each column of the layout (dense
/// columns, then slots). Base and parts add up to the output's sum before the link: log odds for a probability, the
/// quantity itself for a regression, the logit of each class for a multiclass target.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contributions {
    pub rows: usize,
    pub outputs: usize,
    /// Parts of a row and output: the layout's dense columns and slots.
    pub width: usize,
    /// Row-major, `rows * outputs`.
    pub base: Vec<f64>,
    /// Row-major, `rows * outputs * width`.
    pub parts: Vec<f64>,
}

/// From a model's sum to its score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    Identity,
    Logistic,
    /// Over the outputs of a row.
    Softmax,
}

impl Link {
    pub fn of(task: Task) -> Link {
        match task {
            Task::Binary => Link::Logistic,
            Task::Regression => Link::Identity,
            Task::Multiclass => Link::Softmax,
        }
    }

    /// The score of one sum. A softmax over a single output would be 1: it needs [`Link::apply_row`].
    pub fn apply(self, sum: f64) -> f64 {
        match self {
            Link::Identity | Link::Softmax => sum,
            Link::Logistic => logistic(sum),
        }
    }

    /// Replaces the sums of one row's outputs by their scores.
    pub fn apply_row(self, row: &mut [f64]) {
        match self {
            Link::Softmax => softmax(row),
            _ => row.iter_mut().for_each(|sum| *sum = self.apply(*sum)),
        }
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            Link::Identity => 0,
            Link::Logistic => 1,
            Link::Softmax => 2,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Link> {
        [Link::Identity, Link::Logistic, Link::Softmax].into_iter().find(|link| link.code() == code)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    #[error(
        "\"{kind}\" is no kind of model that this program knows (linear, trees, network, or a compact or quantized form of them); use the program that wrote it"
    )]
    Kind { kind: String },
    #[error("the {kind} model's bytes are damaged: {what}; fetch the version again")]
    Damaged { kind: &'static str, what: String },
    #[error("the inputs do not fit the {kind} model: {what}; they must come from the pipeline in the same bundle")]
    Inputs { kind: &'static str, what: String },
    #[error("the {kind} model cannot be made: {what}")]
    Parts { kind: &'static str, what: String },
    #[error("the trees cannot be evaluated or stored")]
    Trees(#[from] hessboost::error::HessboostError),
}

/// Reads a model of the given kind from what [`Model::to_bytes`] wrote.
pub fn load_model(kind: &str, bytes: &[u8], layout: &Layout) -> Result<Box<dyn Model>, ModelError> {
    match kind {
        LinearModel::KIND => Ok(Box::new(LinearModel::from_bytes(bytes, layout)?)),
        CompactLinearModel::KIND => Ok(Box::new(CompactLinearModel::from_bytes(bytes, layout)?)),
        CompactTreesModel::KIND => Ok(Box::new(CompactTreesModel::from_bytes(bytes, layout)?)),
        TreesModel::KIND => Ok(Box::new(TreesModel::from_bytes(bytes, layout)?)),
        NetworkModel::KIND => Ok(Box::new(NetworkModel::from_bytes(bytes, layout)?)),
        QuantizedNetwork::KIND => Ok(Box::new(QuantizedNetwork::from_bytes(bytes, layout)?)),
        _ => Err(ModelError::Kind { kind: kind.to_owned() }),
    }
}

/// Checks that `inputs` have the widths of `layout` and whole rows.
pub(crate) fn check_inputs(kind: &'static str, layout: &Layout, inputs: &Inputs) -> Result<(), ModelError> {
    let wrong = |what: String| Err(ModelError::Inputs { kind, what });
    if inputs.dense_width != layout.dense.len() || inputs.slot_width != layout.slots.len() {
        return wrong(format!(
            "{} dense columns and {} slots were given, {} and {} are expected",
            inputs.dense_width,
            inputs.slot_width,
            layout.dense.len(),
            layout.slots.len()
        ));
    }
    if inputs.dense.len() != inputs.rows * inputs.dense_width || inputs.slots.len() != inputs.rows * inputs.slot_width {
        return wrong(format!("{} rows are announced, but the values are not as many", inputs.rows));
    }
    Ok(())
}
