//! What a version says about itself. It holds no clock time and no path: the same data, code and seed give the same
//! bytes.

use serde::{Deserialize, Serialize};
use vocabulary::inputs::Layout;
use vocabulary::model::Task;
use vocabulary::{Digest, Metrics, Timestamp};

/// Version of this format on disk. 2 added earlier trainings, whose answers are averaged in; 1 is still read.
pub const MANIFEST_FORMAT: u32 = 2;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// Name of the model.
    pub model: String,
    /// Which kind of learner made it: the kind that [`crate::load_model`] takes.
    pub learner: String,
    pub task: Task,
    pub target: String,
    pub seed: u64,
    /// Of the rows that were given for training, in canonical form.
    pub data: Digest,
    /// Of the compiled pipeline.
    pub pipeline: Digest,
    /// Rows with an outcome, in all parts.
    pub rows: u64,
    /// Rows without an outcome, which were left out.
    pub rows_without_outcome: u64,
    /// Rows that the model in this bundle learned from.
    pub rows_learned: u64,
    /// Rows that `metrics` were measured on.
    pub rows_tested: u64,
    /// Whether the model in this bundle learned from the test rows too: then `metrics` are those of its twin that did
    /// not.
    pub refitted_on_all: bool,
    /// From the first to the last row that the model in this bundle learned from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<TimeSpan>,
    /// Boosting rounds or epochs that were kept.
    pub rounds: u32,
    /// The version that this one was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Digest>,
    /// How it was made from its parent, where it was made smaller or went on from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_by: Option<String>,
    /// Bundles whose own training is averaged into the answers, newest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub averaged_with: Vec<Digest>,
    /// Version of the program that trained it.
    pub program: String,
    /// What the model reads.
    pub layout: Layout,
    /// Measured on the newest rows, which the measured model had not seen; of this training alone, without the earlier
    /// ones that are averaged in, since those may have learned from these rows.
    pub metrics: Metrics,
}

/// Both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeSpan {
    pub first: Timestamp,
    pub last: Timestamp,
}
