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
    /// The playbook that asked for it; none where the loop did by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub playbook: Option<PlaybookStepRef>,
}

impl PlannedStep {
    /// A step of the loop's own.
    pub fn new(step: Step, because: &str) -> Self {
        PlannedStep { step, because: because.to_owned(), playbook: None }
    }
}

/// A step's place in a playbook: `NAME#PLACE`. The steps of `do` are counted from 0, those of `undo` after them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaybookStepRef {
    pub playbook: String,
    pub place: usize,
}

/// Who acts when a playbook's step is taken, in the audit log: this and `NAME#PLACE`.
const ACTOR: &str = "playbook ";

impl PlaybookStepRef {
    pub fn actor(&self) -> String {
        format!("{ACTOR}{}#{}", self.playbook, self.place)
    }

    /// The step that an entry of the audit log is about, if its actor is a playbook.
    pub fn of_actor(actor: &str) -> Option<PlaybookStepRef> {
        let (playbook, place) = actor.strip_prefix(ACTOR)?.rsplit_once('#')?;
        Some(PlaybookStepRef { playbook: playbook.to_owned(), place: place.parse().ok()? })
    }
}

/// Imperatives. Version numbers are those of the plan's model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum Step {
    Retrain,
    StartShadow {
        version: u32,
    },
    StartCanary {
        version: u32,
        share: Share,
    },
    Promote {
        version: u32,
    },
    RollBack {
        to: u32,
    },
    Discard {
        version: u32,
    },
    Freeze,
    Thaw,
    /// A canary goes back into shadow: it answers nobody, and its trial goes on.
    PauseCanary {
        version: u32,
    },
    /// Tells the receivers of alerts.
    Notify,
    /// Tells the receivers of alerts that a person has to look at once.
    Page,
    /// Refuses the requests of tenants whose weight is below this, in thousandths.
    Shed {
        weight_below_milli: u32,
    },
    /// Takes everybody's requests again.
    AdmitAll,
    /// A playbook's step that has nothing to do here.
    Pass,
}

impl Step {
    /// Risky steps change who answers requests; a plan holds at most one.
    pub fn is_risky(&self) -> bool {
        matches!(
            self,
            Step::StartCanary { .. } | Step::Promote { .. } | Step::RollBack { .. } | Step::PauseCanary { .. }
        )
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
            Step::PauseCanary { .. } => "pause_canary",
            Step::Notify => "notify",
            Step::Page => "page",
            Step::Shed { .. } => "shed",
            Step::AdmitAll => "admit_all",
            Step::Pass => "pass",
        }
    }
}
