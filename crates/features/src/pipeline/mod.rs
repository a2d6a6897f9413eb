//! The compiled pipeline: fitted once from the declaration and the data's statistics, identified by its digest, and
//! from then on a pure function of a row.
//!
//! Guarantees: the same row gives the same bits in a batch of any length; NaN is always `f32::NAN` and zero is always
//! positive; every sum has a fixed order; nothing at transform time calls a function whose last bit may differ between
//! platforms (logarithms are taken at fit and stored).

mod bag;
mod calendar;
mod collisions;
mod derived;
mod describe;
mod extend;
mod fit;
mod graph;
mod means;
mod plan;
mod program;
mod recency;
mod reduce;
mod step;
mod table;
mod tensors;
#[cfg(test)]
mod tests;
mod training;
mod transform;

pub use collisions::CollisionReport;
pub use describe::StepCard;
pub use extend::{Extended, Growth};
pub(crate) use transform::local;

use crate::FeatureError;
use crate::columns::Values;
use arrow::array::ArrayRef;
use arrow::record_batch::RecordBatch;
use derived::Derived;
use program::Program;
use serde::{Deserialize, Serialize};
use step::Step;
use vocabulary::contract::{ColumnKind, Contract};
use vocabulary::inputs::{Inputs, Layout};
use vocabulary::{Digest, ModelSpec};

/// Version of the pipeline's form on disk. 2 brought tables of their own, means of classes and projections; 3 derived
/// columns, statistics, circles and bags; 4 recency. What an earlier one had is written as before, and what needs nothing of 3 is
/// written as 2, what needs nothing of 4 as 3, so that a training of before gives the bytes of before.
pub const PIPELINE_FORMAT: u32 = 4;
/// The form of what has derived columns, statistics, circles or bags, and nothing newer.
const PIPELINE_FORMAT_ENCODED: u32 = 3;
/// The form of what needs nothing newer.
const PIPELINE_FORMAT_PLAIN: u32 = 2;
/// The oldest form that is still read.
const PIPELINE_FORMAT_OLDEST: u32 = 1;

/// Which kind of learner the inputs are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recipe {
    /// Dense columns: numbers as they are, codes of small category sets, target means of large ones.
    Trees,
    /// Standardised dense columns and hashed slots.
    Linear,
    /// Standardised dense columns and categories with a table each, from which embeddings are looked up.
    Network,
}

/// A fitted pipeline and what was noticed on the way.
#[derive(Clone, Debug)]
pub struct Fitted {
    pub pipeline: Pipeline,
    /// Sentences for a person: columns that were left out, and why.
    pub notes: Vec<String>,
}

/// From canonical columns to [`Inputs`]. Serialises to JSON and back without loss.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Pipeline {
    stored: Stored,
    names: Vec<String>,
    digest: Digest,
    program: Program,
}

/// What lands on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    recipe: Recipe,
    /// Seed of the slots' hash.
    seed: u64,
    columns: Vec<InputColumn>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    derived: Vec<Derived>,
    steps: Vec<Step>,
    layout: Layout,
    order: TrainingOrder,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct InputColumn {
    name: String,
    #[serde(rename = "type")]
    kind: ColumnKind,
}

/// The columns that say which targets were known when; used by [`Pipeline::transform_training`] alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrainingOrder {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    time: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outcome_at: Option<String>,
}

impl PartialEq for Pipeline {
    fn eq(&self, other: &Pipeline) -> bool {
        self.digest == other.digest
    }
}

impl Pipeline {
    /// Compiles the declaration and takes statistics from `fit_rows` of `batch` (canonical; see [`crate::canonical`]).
    /// `target` has one value for each row of `batch`; rows whose target is NaN give no target statistics.
    pub fn fit(
        spec: &ModelSpec,
        contract: &Contract,
        recipe: Recipe,
        batch: &RecordBatch,
        fit_rows: &[u32],
        target: &[f64],
        seed: u64,
    ) -> Result<Fitted, FeatureError> {
        fit::fit(spec, &spec.widened(contract), recipe, &fit::FitData { batch, rows: fit_rows, target }, seed)
    }

    /// Whether the declaration can be planned over the contract's columns, expressions included, without any data.
    pub fn check(spec: &ModelSpec, contract: &Contract, recipe: Recipe) -> Result<(), FeatureError> {
        let contract = spec.widened(contract);
        let derived = plan::derived(spec, &contract)?;
        plan::plan(spec, &plan::widened(&contract, &derived), &derived, recipe).map(|_| ())
    }

    /// Names and kinds of what [`Pipeline::transform`] gives.
    pub fn layout(&self) -> &Layout {
        &self.stored.layout
    }

    pub fn recipe(&self) -> Recipe {
        self.stored.recipe
    }

    /// The columns that a batch must have, canonically typed; more do no harm. In the contract's order.
    pub fn input_columns(&self) -> &[String] {
        &self.names
    }

    /// The input columns with their types.
    pub fn input_kinds(&self) -> impl Iterator<Item = (&str, ColumnKind)> {
        self.stored.columns.iter().map(|column| (column.name.as_str(), column.kind))
    }

    /// BLAKE3 of [`Pipeline::to_json`].
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The canonical form: the same pipeline always gives the same bytes.
    pub fn to_json(&self) -> Vec<u8> {
        self.stored.to_json()
    }

    pub fn from_json(bytes: &[u8]) -> Result<Pipeline, FeatureError> {
        serde_json::from_slice(bytes).map_err(|error| FeatureError::Pipeline(error.to_string()))
    }

    /// The inputs of each row. Rows do not see each other: a batch of n gives the bits of n batches of one.
    pub fn transform(&self, batch: &RecordBatch) -> Result<Inputs, FeatureError> {
        self.over(batch, |columns| Ok(self.program.run(columns, batch.num_rows())))
    }

    /// The inputs of rows that are learned from. Differs from [`Pipeline::transform`] in recency, which
    /// rests on rows that are older by the declared delay, and in the target means: that
    /// of a row rests only on targets of other rows that were known before it. With a time column, those are the rows
    /// whose outcome (`outcome_at`, or else the row's own time) came strictly before the row's time; without one, the
    /// rows before it in a permutation that `seed` chooses. The batch must have the time column, and `outcome_at`.
    /// (Prokhorenkova et al., "CatBoost: unbiased boosting with categorical features", 2018, section 3.2.)
    ///
    /// `target` has one value for each row of `batch`, which should hold the rows that the pipeline was fitted on.
    pub fn transform_training(&self, batch: &RecordBatch, target: &[f64], seed: u64) -> Result<Inputs, FeatureError> {
        self.over(batch, |columns| {
            let mut inputs = self.program.run(columns, batch.num_rows());
            recency::replace(&self.program, columns, batch.num_rows(), &mut inputs);
            training::replace_means(&self.program, &self.stored.order, columns, batch, target, seed, &mut inputs)?;
            Ok(inputs)
        })
    }

    /// Whether [`Pipeline::transform_training`] gives anything else than [`Pipeline::transform`]: whether categories are
    /// replaced by what the target was.
    pub fn learns_from_targets(&self) -> bool {
        self.program.learns_from_targets()
    }

    /// Hands over views of the input columns and, behind them, of the derived ones.
    fn over<R>(
        &self,
        batch: &RecordBatch,
        run: impl FnOnce(&[Values<'_>]) -> Result<R, FeatureError>,
    ) -> Result<R, FeatureError> {
        let columns = self.program.columns(batch, &self.stored.columns)?;
        if self.stored.derived.is_empty() {
            return run(&columns);
        }
        let derived = self.program.derive(&columns, batch.num_rows());
        run(&self.with_derived(&columns, &derived)?)
    }

    fn with_derived<'a>(
        &self,
        columns: &[Values<'a>],
        derived: &'a [ArrayRef],
    ) -> Result<Vec<Values<'a>>, FeatureError> {
        let made = self.stored.derived.iter().zip(derived);
        let made = made.map(|(column, array)| Values::new(array, &column.name, column.kind));
        columns.iter().copied().map(Ok).chain(made).collect()
    }

    /// How often different values share a slot, over the values of `batch`.
    pub fn collisions(&self, batch: &RecordBatch) -> Result<CollisionReport, FeatureError> {
        self.over(batch, |columns| {
            Ok(collisions::report(&self.program, &self.stored.layout, columns, batch.num_rows()))
        })
    }
}

impl Stored {
    /// The place of a column among the batch's and the derived ones behind them.
    fn place(&self, name: &str) -> Option<usize> {
        let own = self.columns.iter().map(|column| &column.name);
        own.chain(self.derived.iter().map(|derived| &derived.name)).position(|known| known == name)
    }

    fn kind(&self, name: &str) -> Option<ColumnKind> {
        let own = self.columns.iter().map(|column| (&column.name, column.kind));
        let all = own.chain(self.derived.iter().map(|derived| (&derived.name, derived.kind)));
        all.into_iter().find(|(known, _)| *known == name).map(|(_, kind)| kind)
    }

    fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a pipeline holds finite numbers and string keys only")
    }
}

impl TryFrom<Stored> for Pipeline {
    type Error = String;

    fn try_from(stored: Stored) -> Result<Pipeline, String> {
        if !(PIPELINE_FORMAT_OLDEST..=PIPELINE_FORMAT).contains(&stored.format) {
            return Err(format!(
                "format {} is not known here, only {PIPELINE_FORMAT_OLDEST} to {PIPELINE_FORMAT}; use the program that wrote it, or train again",
                stored.format
            ));
        }
        let program = Program::build(&stored)?;
        let names = stored.columns.iter().map(|column| column.name.clone()).collect();
        let digest = Digest::of(&stored.to_json());
        Ok(Pipeline { stored, names, digest, program })
    }
}

impl From<Pipeline> for Stored {
    fn from(pipeline: Pipeline) -> Stored {
        pipeline.stored
    }
}
