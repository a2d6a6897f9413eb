//! What broke the contract, counted.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use vocabulary::contract::Expectation;

/// How a value breaks its declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ViolationKind {
    /// Null where nulls are forbidden.
    Null,
    /// A number outside the range.
    Range,
    /// A string outside a closed set.
    Category,
    /// A string that does not match its pattern.
    Pattern,
    /// A string that is too short or too long.
    Length,
    /// A value that is older than allowed.
    Freshness,
    /// Several columns of a row that do not go together.
    Check,
    /// Not of the declared type; found where rows are read, before enforcement.
    Type,
}

/// What was done about a violation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Rejected,
    Quarantined,
    MadeNull,
    Clipped,
    Defaulted,
    /// Nothing: the value passes as it is.
    Warned,
}

/// Exact counts of violations, mergeable across batches and replicas.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Violations {
    /// Rows looked at.
    pub rows: u64,
    pub rejected_rows: u64,
    pub quarantined_rows: u64,
    /// Column, kind, action: count of values.
    pub counts: BTreeMap<String, BTreeMap<ViolationKind, BTreeMap<Action, u64>>>,
}

impl ViolationKind {
    pub(super) fn of(expectation: Expectation) -> ViolationKind {
        match expectation {
            Expectation::Range => ViolationKind::Range,
            Expectation::Categories => ViolationKind::Category,
            Expectation::Pattern => ViolationKind::Pattern,
            Expectation::Length => ViolationKind::Length,
            Expectation::Freshness => ViolationKind::Freshness,
            Expectation::Check => ViolationKind::Check,
            _ => ViolationKind::Null,
        }
    }
}

impl Action {
    pub fn name(self) -> &'static str {
        match self {
            Action::Rejected => "rejected",
            Action::Quarantined => "quarantined",
            Action::MadeNull => "made null",
            Action::Clipped => "clipped",
            Action::Defaulted => "defaulted",
            Action::Warned => "passed with a warning",
        }
    }

    /// Whether it takes the row out.
    pub fn refuses(self) -> bool {
        matches!(self, Action::Rejected | Action::Quarantined)
    }
}

impl Violations {
    pub fn add(&mut self, column: &str, kind: ViolationKind, action: Action) {
        let kinds = match self.counts.get_mut(column) {
            Some(kinds) => kinds,
            None => self.counts.entry(column.to_owned()).or_default(),
        };
        *kinds.entry(kind).or_default().entry(action).or_default() += 1;
    }

    pub fn merge(&mut self, other: &Violations) {
        self.rows += other.rows;
        self.rejected_rows += other.rejected_rows;
        self.quarantined_rows += other.quarantined_rows;
        for (column, kinds) in &other.counts {
            let mine = self.counts.entry(column.clone()).or_default();
            for (kind, actions) in kinds {
                for (action, count) in actions {
                    *mine.entry(*kind).or_default().entry(*action).or_default() += count;
                }
            }
        }
    }

    /// Offending values in all.
    pub fn total(&self) -> u64 {
        self.counts.values().flat_map(BTreeMap::values).flat_map(BTreeMap::values).sum()
    }

    pub fn count(&self, column: &str, kind: ViolationKind, action: Action) -> u64 {
        let kinds = self.counts.get(column);
        kinds.and_then(|kinds| kinds.get(&kind)?.get(&action)).copied().unwrap_or(0)
    }
}
