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
    /// Too many answers were slower than promised: the error budget burns too fast. An alarm.
    LatencyBurn,
    /// Too many requests got no answer through our fault. An alarm.
    AvailabilityBurn,
    /// Too many answers turned out wrong. An alarm.
    AccuracyBurn,
    /// A million predictions cost more than promised. An alarm.
    CostHigh,
    /// What the live version learned from is older than promised. An alarm.
    Stale,
    /// Rows are answered, but their outcomes have stopped to arrive. An alarm.
    OutcomesSilent,
    /// No rows or events arrive where they should. An alarm.
    SourceSilent,
    /// Requests are refused because there are too many. An alarm.
    Surge,
    /// Answers miss their deadlines while something that they wait for is slow. An alarm.
    DependencySlow,
    /// The disk has less room than is kept free. An alarm.
    DiskFull,
    /// A canary answers later, or fails more often, than the live version beside it. An alarm.
    CanaryHarmful,
    /// A retraining is expected to save more than it costs.
    RetrainWorth,
}

/// How soon a person has to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Moves the loop only.
    #[default]
    Info,
    /// Within days.
    Ticket,
    /// At once.
    Page,
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Ticket => "ticket",
            Severity::Page => "page",
        }
    }
}

/// Evidence by this name above zero makes a finding that would page a ticket: a budget that burns slowly.
pub const SLOW: &str = "slow";

impl Finding {
    pub fn severity(&self) -> Severity {
        let slow = self.evidence.get(SLOW).is_some_and(|slow| *slow > 0.0);
        match self.kind.severity() {
            Severity::Page if slow => Severity::Ticket,
            severity => severity,
        }
    }
}

impl FindingKind {
    /// Alarms call a person's attention; the others only move the loop.
    pub fn is_alarm(self) -> bool {
        use FindingKind::*;
        !matches!(
            self,
            RetrainDue
                | LabelVolume
                | CandidateReady
                | CandidateBetter
                | CandidateWorse
                | CandidateUndecided
                | RetrainWorth
        )
    }

    pub fn severity(self) -> Severity {
        use FindingKind::*;
        match self {
            LatencyBurn
            | AvailabilityBurn
            | LiveWorseThanFallback
            | DiskFull
            | SourceSilent
            | Surge
            | DependencySlow
            | CanaryHarmful => Severity::Page,
            kind if kind.is_alarm() => Severity::Ticket,
            _ => Severity::Info,
        }
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
            LatencyBurn => "latency_burn",
            AvailabilityBurn => "availability_burn",
            AccuracyBurn => "accuracy_burn",
            CostHigh => "cost_high",
            Stale => "stale",
            OutcomesSilent => "outcomes_silent",
            SourceSilent => "source_silent",
            Surge => "surge",
            DependencySlow => "dependency_slow",
            DiskFull => "disk_full",
            CanaryHarmful => "canary_harmful",
            RetrainWorth => "retrain_worth",
        }
    }
}
