//! Records of what happened. Facts are past tense; none is ever changed.

use crate::answer::Answer;
use crate::id::{Digest, PredictionId, Share};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One answered row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    pub id: PredictionId,
    /// When the event happened: the row's time column, or the moment of the request.
    pub at: Timestamp,
    pub model: String,
    /// The version that gave the answer.
    pub version: u32,
    pub digest: Digest,
    /// Number of the routing snapshot that was in force.
    pub snapshot: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    pub value: Answer,
    /// The raw row as received, after parsing: a JSON object.
    pub row: String,
    /// What streams knew about the row's keys, as it was looked up: a JSON object; none where nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<String>,
}

/// Another version's answer to a row that was answered: given off the hot path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShadowScore {
    pub id: PredictionId,
    pub model: String,
    pub version: u32,
    pub value: Answer,
}

/// What really happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub id: PredictionId,
    pub model: String,
    /// 0 or 1 for a binary target, the place of the class for a multiclass target, otherwise the quantity.
    pub value: f64,
    /// When it became known.
    pub at: Timestamp,
}

/// Who answers what: an immutable, numbered snapshot, swapped whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Routing {
    /// Version of this format.
    pub format: u32,
    pub number: u64,
    pub at: Option<Timestamp>,
    /// Why it came into force.
    pub reason: String,
    pub models: BTreeMap<String, Route>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Route {
    pub live: Deployed,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Candidate>,
    /// The version that a rollback returns to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<Deployed>,
    /// The first version, scored in shadow for ever as the measure of what the loop gains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frozen: Option<Deployed>,
    /// An operator or a finding has stopped retraining.
    #[serde(default)]
    pub retraining_frozen: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployed {
    pub version: u32,
    pub digest: Digest,
    pub since: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    pub version: u32,
    pub digest: Digest,
    pub stage: Stage,
    /// Share of requests that the candidate answers; none while in shadow.
    pub share: Share,
    /// When this stage began.
    pub since: Timestamp,
    /// When the line of candidates that this one continues began: the paired evidence runs from here.
    pub shadow_since: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    Shadow,
    Canary,
}
