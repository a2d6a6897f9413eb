//! The wire types of the HTTP interface. What lands on disk or lives in memory has types of its own.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use utoipa::ToSchema;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PredictRequest {
    /// Raw rows: column to value. A column left out is null.
    #[schema(value_type = Vec<Object>)]
    pub rows: Vec<Map<String, Value>>,
    #[serde(default)]
    pub options: PredictOptions,
}

#[derive(Deserialize, Default, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PredictOptions {
    /// Milliseconds after which the answer is of no use: 504.
    #[serde(default)]
    pub deadline_ms: Option<f64>,
    /// 1 is the most urgent, 8 the least; left out or 0 is in between.
    #[serde(default)]
    pub priority: Option<u8>,
    /// Say why each row got its answer; takes some times longer. Declared models only.
    #[serde(default)]
    pub explain: bool,
}

#[derive(Serialize, ToSchema)]
pub struct PredictResponse {
    pub model: String,
    /// The version that answered; during a canary, the one of the first row.
    pub version: String,
    /// W3C trace id.
    pub trace: String,
    pub predictions: Vec<PredictionOut>,
}

#[derive(Serialize, ToSchema)]
pub struct PredictionOut {
    /// Hand it back with the outcome. Imported models give none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Probability of the positive class, the predicted quantity, or the place of the most probable class.
    pub value: f64,
    /// Of the positive class, or of the most probable one; none for a regression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// Of a declared binary model 1 where the probability reaches the objective's threshold, otherwise the name or number
    /// of the most probable class.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub label: Option<Value>,
    /// Of each class, for declared models of several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probabilities: Option<BTreeMap<String, f64>>,
    /// With `explain`: parts by column that add up to the log odds of the probability, to the quantity, or for several
    /// classes to the logarithm of the most probable class's probability. What is no column's has a name in parentheses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contributions: Option<BTreeMap<String, f64>>,
    /// The version that answered this row.
    pub version: u32,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OutcomesRequest {
    pub outcomes: Vec<OutcomeIn>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OutcomeIn {
    /// A prediction's id. Either this or `key`.
    #[serde(default)]
    pub id: Option<String>,
    /// An event's key. Either this or `id`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub key: Option<Value>,
    /// The model, where the same key may belong to several.
    #[serde(default)]
    pub model: Option<String>,
    /// 0, 1, true, false or the positive value for a binary model; a number for a regression.
    #[schema(value_type = Object)]
    pub value: Value,
    /// When it became known; now, when left out.
    #[serde(default)]
    pub at: Option<String>,
}

#[derive(Serialize, Default, ToSchema)]
pub struct OutcomesResponse {
    pub accepted: u64,
    /// The same value again.
    pub duplicate: u64,
    /// A different value for a row that had one; both are kept, the later counts.
    pub corrected: u64,
    /// No such prediction.
    pub unknown: u64,
    /// The first hundred that are unknown.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unknown_ids: Vec<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EventsRequest {
    /// Column to value. Columns that the stream does not use are kept, and not looked at.
    #[schema(value_type = Vec<Object>)]
    pub events: Vec<Map<String, Value>>,
}

#[derive(Serialize, ToSchema)]
pub struct EventsResponse {
    pub stream: String,
    /// Events that are kept now: all that were sent.
    pub accepted: u64,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClockRequest {
    /// The instant to move to; the loop does there what it has to do.
    pub now: String,
    /// Progress of a replay, shown on the page.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub replay: Option<Value>,
}

#[derive(Serialize, ToSchema)]
pub struct ClockResponse {
    pub now: String,
    /// Number of the routing snapshot in force.
    pub routing: u64,
    /// What was done.
    pub steps: Vec<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OperatorRequest {
    /// `release`, `rollback`, `freeze` or `thaw`; `register` after a version was registered beside the server.
    pub action: String,
    /// A version's number, for release and rollback.
    #[serde(default)]
    pub version: Option<u32>,
    /// For release: `shadow`, `now`, or a share such as `5%`.
    #[serde(default)]
    pub how: Option<String>,
    #[serde(default)]
    pub actor: Option<String>,
}

/// What went wrong, where, and what to do.
#[derive(Serialize, ToSchema)]
pub struct ErrorResponse {
    pub error: String,
    /// For 422: every offending row and column.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    pub problems: Option<Value>,
}
