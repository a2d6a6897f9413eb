//! What the monitors found: the only reasons for which anything is done.

use crate::cause::Cause;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// `model/kind[/subject]/since`: the same finding has the same id, however often it is looked at.
    pub id: String,
    pub model: String,
    pub kind: FindingKind,
    /// The feature, version or job it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// When it was first certain.
    pub at: Timestamp,
    /// The start of the observations that it rests on.
    pub since: Timestamp,
    /// One sentence for a person.
    pub message: String,
    /// The figures behind it, by name.
    #[serde(default)]
    pub evidence: BTreeMap<String, f64>,
    /// What changed, where, since when and by how much, where a monitor can say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// An input's distribution has left its reference by more than the tolerance. An alarm.
    InputDrift,
    /// The live version's loss is above its reference. An alarm.
    LossHigh,
    /// Mean outcome and mean prediction differ by more than the tolerance. An alarm.
    Miscalibrated,
    /// The schedule asks for a retraining.
    RetrainDue,
    /// Enough new outcomes have arrived for a retraining.
    LabelVolume,
    /// A registered version waits for its trial.
    CandidateReady,
    /// The paired test certifies the candidate as better.
    CandidateBetter,
    /// The paired test certifies the candidate as worse, or as not worth a change.
    CandidateWorse,
    /// The trial's horizon passed without evidence either way.
    CandidateUndecided,
    /// After a promotion, the paired test certifies the version that was replaced as better.
    LiveWorseThanFallback,
    /// A job ended in failure.
    JobFailed,
    /// Incoming data breaks its contract too often to learn from.
    DataBad,
}

impl FindingKind {
    /// Alarms call a person's attention; the others only move the loop.
    pub fn is_alarm(self) -> bool {
        use FindingKind::*;
        matches!(self, InputDrift | LossHigh | Miscalibrated | LiveWorseThanFallback | JobFailed | DataBad)
    }

    pub fn name(self) -> &'static str {
        use FindingKind::*;
        match self {
            InputDrift => "input_drift",
            LossHigh => "loss_high",
            Miscalibrated => "miscalibrated",
            RetrainDue => "retrain_due",
            LabelVolume => "label_volume",
            CandidateReady => "candidate_ready",
            CandidateBetter => "candidate_better",
            CandidateWorse => "candidate_worse",
            CandidateUndecided => "candidate_undecided",
            LiveWorseThanFallback => "live_worse_than_fallback",
            JobFailed => "job_failed",
            DataBad => "data_bad",
        }
    }
}
