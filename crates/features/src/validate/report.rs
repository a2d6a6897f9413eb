//! What a person reads about a table: one line for each expectation, with counts, shares and example rows.

use crate::enforce::{Action, Violations};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use vocabulary::contract::{Expectation, Severity};
use vocabulary::time::Timestamp;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub contract: String,
    pub version: u32,
    pub rows: u64,
    pub rejected_rows: u64,
    pub quarantined_rows: u64,
    /// Rows that were set aside once and are there again, corrected; they count among the rows.
    pub corrected_rows: u64,
    /// Against what freshness is measured.
    pub as_of: Option<Timestamp>,
    /// Whether no row is refused and no expectation of the table failed.
    pub ok: bool,
    pub expectations: Vec<Finding>,
    pub violations: Violations,
}

/// How one expectation fared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// A column, a check, or `table`.
    pub name: String,
    pub expectation: Expectation,
    pub severity: Severity,
    /// What is expected, in words.
    pub declared: String,
    pub status: Status,
    /// Offending rows or values, where these can be counted.
    pub count: u64,
    /// Their share of the rows.
    pub share: f64,
    /// What was done about them.
    pub actions: BTreeMap<Action, u64>,
    /// What was found, in words, where counts do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<String>,
    pub examples: Vec<Example>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Passed,
    /// It could not be measured.
    Skipped,
    /// Values were mended, as declared.
    Repaired,
    Warned,
    /// Rows were refused or set aside.
    Refused,
    /// The table is not what was expected: nothing should be learned from it.
    Failed,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Status::Passed => "passed",
            Status::Skipped => "skipped",
            Status::Repaired => "repaired",
            Status::Warned => "warned",
            Status::Refused => "refused",
            Status::Failed => "failed",
        }
    }

    pub fn is_good(self) -> bool {
        !matches!(self, Status::Refused | Status::Failed)
    }

    /// Of a row's expectation, by what was done.
    pub(super) fn of_actions(actions: &BTreeMap<Action, u64>) -> Status {
        match () {
            () if actions.keys().any(|action| action.refuses()) => Status::Refused,
            () if actions.contains_key(&Action::Warned) => Status::Warned,
            () if actions.is_empty() => Status::Passed,
            () => Status::Repaired,
        }
    }
}

/// A row that broke an expectation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// Its place in the file, from 0.
    pub row: u64,
    /// The values in question, with the row's key and time.
    pub values: Map<String, Value>,
}

impl Finding {
    /// `price range`, or `rows` of a table.
    pub fn title(&self) -> String {
        match self.expectation {
            Expectation::Check => format!("check {}", self.name),
            expectation => format!("{} {}", self.name, expectation.name()),
        }
    }

    /// What was found, in one line.
    pub fn sentence(&self) -> String {
        let done: Vec<String> =
            self.actions.iter().map(|(action, count)| format!("{count} {}", action.name())).collect();
        match (&self.found, done.is_empty()) {
            (Some(found), true) => found.clone(),
            (Some(found), false) => format!("{found}; {}", done.join(", ")),
            (None, false) => format!("{:.3} % of rows: {}", 100.0 * self.share, done.join(", ")),
            (None, true) => String::new(),
        }
    }
}

impl Report {
    /// Why nothing should be learned from this table; empty where something may.
    pub fn reasons_to_stop(&self) -> Vec<String> {
        let failed = self.expectations.iter().filter(|finding| finding.status == Status::Failed);
        let sentence = |finding: &Finding| {
            format!("{}: expected {}, found {}", finding.title(), finding.declared, finding.sentence())
        };
        failed.map(sentence).collect()
    }
}
