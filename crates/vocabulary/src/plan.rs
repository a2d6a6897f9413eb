//! What is to be done next, and why.

use crate::id::Share;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Steps for one model. A plan made for another routing snapshot than the one in force is stale and refused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub model: String,
    /// Number of the routing snapshot that it was made for.
    pub parent: u64,
    pub at: Timestamp,
    pub steps: Vec<PlannedStep>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedStep {
    pub step: Step,
    /// Id of the finding that caused it.
    pub because: String,
}

/// Imperatives. Version numbers are those of the plan's model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Step {
    Retrain,
    StartShadow { version: u32 },
    StartCanary { version: u32, share: Share },
    Promote { version: u32 },
    RollBack { to: u32 },
    Discard { version: u32 },
    Freeze,
    Thaw,
}

impl Step {
    /// Risky steps change who answers requests; a plan holds at most one.
    pub fn is_risky(&self) -> bool {
        matches!(self, Step::StartCanary { .. } | Step::Promote { .. } | Step::RollBack { .. })
    }

    pub fn name(&self) -> &'static str {
        match self {
            Step::Retrain => "retrain",
            Step::StartShadow { .. } => "start_shadow",
            Step::StartCanary { .. } => "start_canary",
            Step::Promote { .. } => "promote",
            Step::RollBack { .. } => "roll_back",
            Step::Discard { .. } => "discard",
            Step::Freeze => "freeze",
            Step::Thaw => "thaw",
        }
    }
}
