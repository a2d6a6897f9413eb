//! An incident: what was found, what was done about it, and what moved, on one axis of time.

use crate::finding::{FindingKind, Severity};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Something that was done, as the audit log has it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Deed {
    pub at: Timestamp,
    pub actor: String,
    pub action: String,
    pub model: String,
    pub subject: String,
    /// The finding that caused it, or an operator's words.
    pub because: String,
    pub detail: String,
}

/// The deed that says that a finding is no longer true; its `because` names the finding.
pub const HEAL: &str = "heal";

/// A minute's figures of one model. What is not known is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    pub at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
    /// Shares of requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<f64>,
    /// Of outcomes that became known in this minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcomes: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Mean outcome less mean prediction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_per_correct: Option<f64>,
}

/// What a figure is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    System,
    Model,
    Business,
}

impl Moment {
    /// The figures, each with its name and what it is about.
    pub fn figures(&self) -> [(&'static str, Side, Option<f64>); 8] {
        [
            ("requests", Side::Business, self.requests),
            ("p99_ms", Side::System, self.p99_ms),
            ("failed", Side::System, self.failed),
            ("refused", Side::System, self.refused),
            ("outcomes", Side::Business, self.outcomes),
            ("loss", Side::Model, self.loss),
            ("gap", Side::Model, self.gap),
            ("cost_per_correct", Side::Business, self.cost_per_correct),
        ]
    }
}

/// A figure that moved: its mean before and after the change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Move {
    pub at: Timestamp,
    pub figure: String,
    pub side: Side,
    pub before: f64,
    pub after: f64,
}

/// One line of an incident's timeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    pub at: Timestamp,
    pub what: What,
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A figure moved.
    Moved,
    /// Something was found.
    Found,
    /// Something was done.
    Done,
    /// Something found is no longer true.
    Healed,
}

impl What {
    pub fn name(self) -> &'static str {
        match self {
            What::Moved => "moved",
            What::Found => "found",
            What::Done => "done",
            What::Healed => "healed",
        }
    }
}

/// Alarms of one model that overlap in time, and everything about them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// `MODEL-TIME` of the first alarm, which never changes.
    pub id: String,
    pub model: String,
    pub severity: Severity,
    pub title: String,
    pub opened: Timestamp,
    /// When the last alarm healed; none while it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<Timestamp>,
    /// Of each alarm its finding's id and kind.
    pub alarms: Vec<(String, FindingKind)>,
    /// What moved, the first one first.
    pub moved: Vec<Move>,
    pub timeline: Vec<Line>,
    /// What was done about it.
    pub actions: Vec<Deed>,
    /// One sentence on how it ended, or that it lasts.
    pub ending: String,
}
