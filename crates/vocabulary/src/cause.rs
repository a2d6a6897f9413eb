//! Why an alarm was raised: what changed, where, since when, by how much, and what it is expected to cost. Holds names
//! and figures; how they are found is the monitors' affair.

use crate::metric::Interval;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Examples that a cause carries at most.
pub const EXAMPLES_MAX: usize = 5;

/// The structured reason of an alarm. Of a change that was found only a moment ago some parts may be unknown; they are
/// filled in while the change is young.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cause {
    #[serde(flatten)]
    pub kind: CauseKind,
    #[serde(default)]
    pub place: Place,
    /// When the change began: an estimate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Size>,
    /// Accuracy that is expected to be lost, as a share of the rows; none where nothing can be said without outcomes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_loss: Option<Interval>,
    /// Values of rows after the change, in the words of the feature; [`EXAMPLES_MAX`] at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
    /// Name of the playbook that fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub playbook: Option<String>,
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum CauseKind {
    /// The column has gone: every value is missing.
    Schema,
    /// Values are `factor * before + offset`; `name` says which units those are, where they are known ones.
    UnitChange {
        factor: f64,
        offset: f64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// Missing values are more frequent.
    NullFlood,
    /// Categories that the reference does not have; the most frequent ones first.
    UnseenValues { values: Vec<String> },
    /// The column holds what another one held, and the other way round.
    Swapped { with: String },
    /// The same value again and again.
    Frozen { value: f64 },
    /// The pattern of the day comes this many hours early (positive) or late.
    TimeZone { hours: i32 },
    /// Values are higher or lower than they were.
    Shifted,
    /// The distribution has another form.
    Reshaped,
    /// Predictions are wrong more often, or by more.
    ErrorRate,
    /// Predictions and outcomes differ on average.
    Calibration,
}

impl CauseKind {
    pub fn name(&self) -> &'static str {
        match self {
            CauseKind::Schema => "schema",
            CauseKind::UnitChange { .. } => "unit_change",
            CauseKind::NullFlood => "null_flood",
            CauseKind::UnseenValues { .. } => "unseen_values",
            CauseKind::Swapped { .. } => "swapped",
            CauseKind::Frozen { .. } => "frozen",
            CauseKind::TimeZone { .. } => "time_zone",
            CauseKind::Shifted => "shifted",
            CauseKind::Reshaped => "reshaped",
            CauseKind::ErrorRate => "error_rate",
            CauseKind::Calibration => "calibration",
        }
    }

    /// Which of the playbooks that `init` writes fits: what is broken at the source is to be mended there before anything is
    /// learned from it. None where the world is different: that is for the loop to learn.
    pub fn playbook(&self) -> Option<&'static str> {
        match self {
            CauseKind::Schema
            | CauseKind::UnitChange { .. }
            | CauseKind::NullFlood
            | CauseKind::Swapped { .. }
            | CauseKind::Frozen { .. }
            | CauseKind::TimeZone { .. } => Some("source_interruption"),
            CauseKind::ErrorRate => Some("bad_release"),
            CauseKind::UnseenValues { .. } | CauseKind::Shifted | CauseKind::Reshaped | CauseKind::Calibration => None,
        }
    }

    /// Whether the data is broken, rather than the world different.
    pub fn is_broken_data(&self) -> bool {
        self.playbook() == Some("source_interruption")
    }
}

/// Where the change is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature: Option<String>,
    /// `column=value`; none where it is about all rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segment: Option<String>,
    /// The part of the feature's range that changed most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bin: Option<String>,
}

/// How big the change is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Size {
    /// What is measured, such as `null_share`, `unseen_share`, `rank`, `distance`, `loss`.
    pub measure: String,
    pub before: f64,
    pub now: f64,
    /// Of the difference; it holds at the level of the alarm.
    pub difference: Interval,
}

impl Cause {
    pub fn new(kind: CauseKind, place: Place) -> Self {
        let playbook = kind.playbook().map(str::to_owned);
        Cause { kind, place, began: None, size: None, expected_loss: None, examples: Vec::new(), playbook }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_reads_as_flat_json_and_comes_back() {
        let kind = CauseKind::UnitChange { factor: 1.8, offset: 32.0, name: Some("celsius to fahrenheit".into()) };
        let place = Place { feature: Some("temp".into()), ..Place::default() };
        let cause = Cause::new(kind, place);
        let text = serde_json::to_string(&cause).unwrap();
        assert!(text.starts_with(r#"{"what":"unit_change","factor":1.8,"offset":32.0"#), "{text}");
        assert_eq!(serde_json::from_str::<Cause>(&text).unwrap(), cause);
        assert!(cause.kind.is_broken_data() && !CauseKind::Shifted.is_broken_data());
    }
}
