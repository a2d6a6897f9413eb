//! The contract's enforcement on canonical batches, the same in training, batch scoring and serving: what can be said of
//! one row alone. Every violation is counted by column, kind and what was done about it; nothing is dropped silently.
//! What can be said only of a whole table is in `validate`.

mod cell;
mod check;
mod counts;
mod rule;
#[cfg(test)]
mod tests;

pub use counts::{Action, ViolationKind, Violations};

use crate::FeatureError;
use crate::columns::{Values, column_index};
use arrow::array::{ArrayRef, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::record_batch::RecordBatch;
use cell::{Cell, repaired};
use check::Check;
use rule::{Rule, Verdict};
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use vocabulary::contract::{Contract, Expectation, Repair, Severity};

/// A value for which its row was taken out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rejected {
    /// Place of the row in the batch that was given, from 0.
    pub row: usize,
    pub column: String,
    pub what: String,
}

/// What is left of a batch.
#[derive(Clone, Debug)]
pub struct Enforced {
    /// The rows that satisfy the contract, repaired where the contract says so. Columns as in the batch given.
    pub batch: RecordBatch,
    /// For each row of `batch`, its place in the batch given.
    pub kept: Vec<u32>,
    /// One entry for each offending value of a refused row, by row, then by column.
    pub rejected: Vec<Rejected>,
    /// The same for rows that were set aside. A row with any rejected value is in `rejected`.
    pub quarantined: Vec<Rejected>,
}

/// A contract compiled for some of its columns; made once, used on each batch.
#[derive(Clone, Debug)]
pub struct Enforcer {
    rules: Vec<Rule>,
    checks: Vec<Check>,
}

/// Something that is expected of each row.
#[derive(Clone, Debug, PartialEq)]
pub struct RowExpectation {
    /// The name of the check, or of the column.
    pub name: String,
    pub expectation: Expectation,
    pub severity: Severity,
    /// In words.
    pub declared: String,
    /// The columns that it is about.
    pub columns: Vec<String>,
}

/// A row that broke an expectation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Offence {
    /// Place among [`Enforcer::expectations`].
    pub expectation: usize,
    pub row: usize,
    pub action: Action,
}

impl Enforcer {
    /// `columns` are those to enforce; names that the contract does not declare are an error, and so are a default that
    /// is not of its column's type and a pattern that cannot be read. Checks of several columns are enforced where all
    /// of these are among `columns`.
    pub fn new(contract: &Contract, columns: &[String]) -> Result<Enforcer, FeatureError> {
        let (mut rules, mut checks): (Vec<Rule>, Vec<Check>) = (Vec::new(), Vec::new());
        let mut places = 0;
        for name in columns {
            let column = contract.column(name).ok_or_else(|| {
                let hint = vocabulary::suggest::hint(name, contract.column_names());
                let what = format!("contract \"{}\" does not declare column \"{name}\"{hint}", contract.name);
                FeatureError::Declaration(what)
            })?;
            let rule = Rule::new(contract, column, columns, places)?;
            places += rule.tests.len();
            rules.push(rule);
        }
        for declared in &contract.checks {
            if let Some(check) = Check::new(contract, declared, columns, places)? {
                places += 1;
                checks.push(check);
            }
        }
        Ok(Enforcer { rules, checks })
    }

    /// All that is expected of each row, in the order of columns, then checks.
    pub fn expectations(&self) -> Vec<RowExpectation> {
        let tests = self.rules.iter().flat_map(|rule| rule.tests.iter().map(move |test| (rule, test)));
        let of_columns = tests.map(|(rule, test)| RowExpectation {
            name: rule.column.clone(),
            expectation: test.expectation,
            severity: test.severity,
            declared: test.declared(),
            columns: vec![rule.column.clone()],
        });
        let of_checks = self.checks.iter().map(|check| RowExpectation {
            name: check.name.clone(),
            expectation: Expectation::Check,
            severity: check.severity,
            declared: check.text.clone(),
            columns: check.columns.iter().map(|input| input.name.clone()).collect(),
        });
        of_columns.chain(of_checks).collect()
    }

    /// Applies the contract to a canonical batch. Columns that are not enforced pass unchanged.
    pub fn enforce(&self, batch: &RecordBatch, violations: &mut Violations) -> Result<Enforced, FeatureError> {
        self.enforce_noting(batch, violations, &mut |_| {})
    }

    /// The same, telling `note` of each row and expectation that it breaks.
    pub fn enforce_noting(
        &self,
        batch: &RecordBatch,
        violations: &mut Violations,
        note: &mut dyn FnMut(Offence),
    ) -> Result<Enforced, FeatureError> {
        let mut work =
            Work { arrays: batch.columns().to_vec(), rejected: Vec::new(), quarantined: Vec::new(), violations, note };
        for rule in &self.rules {
            work.apply(rule, batch)?;
        }
        for check in &self.checks {
            work.apply_check(check, batch)?;
        }
        let Work { arrays, rejected, quarantined, .. } = work;
        violations.rows += batch.num_rows() as u64;
        let batch = RecordBatch::try_new(batch.schema(), arrays)?;
        remove(batch, rejected, quarantined, violations)
    }
}

/// A batch under way.
struct Work<'a> {
    arrays: Vec<ArrayRef>,
    rejected: Vec<Rejected>,
    quarantined: Vec<Rejected>,
    violations: &'a mut Violations,
    note: &'a mut dyn FnMut(Offence),
}

impl Work<'_> {
    fn apply(&mut self, rule: &Rule, batch: &RecordBatch) -> Result<(), FeatureError> {
        let index = column_index(batch.schema_ref(), &rule.column, rule.guess)?;
        let array = ArrayRef::clone(&self.arrays[index]);
        let values = Values::new(&array, &rule.column, rule.kind)?;
        let mut repairs: BTreeMap<usize, Option<Cell>> = BTreeMap::new();
        for test in &rule.tests {
            for row in test.offenders(&values, batch.schema_ref(), &self.arrays)? {
                // A value is mended once; what it was before breaks nothing more.
                if repairs.contains_key(&row) {
                    continue;
                }
                let action = match test.severity {
                    Severity::Warn => Action::Warned,
                    Severity::Error => match rule.verdict(&values, row, test.expectation) {
                        Verdict::Refuse(action) => {
                            self.refuse(action, row, &rule.column, test.words(&values, row));
                            action
                        }
                        Verdict::Repair(action, cell) => {
                            repairs.insert(row, cell);
                            action
                        }
                    },
                };
                self.count(&rule.column, test.expectation, Offence { expectation: test.place, row, action });
            }
        }
        if !repairs.is_empty() {
            self.arrays[index] = repaired(&values, &repairs);
        }
        Ok(())
    }

    fn apply_check(&mut self, check: &Check, batch: &RecordBatch) -> Result<(), FeatureError> {
        let arrays = self.arrays.clone();
        let values = check.values(batch.schema_ref(), &arrays)?;
        let mut repairs: BTreeMap<usize, Option<Cell>> = BTreeMap::new();
        for row in check.offenders(&values) {
            let refuse = |work: &mut Self, action: Action| {
                let what = check.words(&values, row);
                check.columns.iter().for_each(|input| work.refuse(action, row, &input.name, what.clone()));
                action
            };
            let action = match (check.severity, check.repair) {
                (Severity::Warn, _) => Action::Warned,
                (_, Repair::Quarantine) => refuse(self, Action::Quarantined),
                (_, Repair::Null) => {
                    repairs.insert(row, None);
                    Action::MadeNull
                }
                (_, Repair::Default) if check.default.is_some() => {
                    repairs.insert(row, check.default.clone());
                    Action::Defaulted
                }
                _ => refuse(self, Action::Rejected),
            };
            let blamed = &check.columns[check.blamed].name;
            self.count(blamed, Expectation::Check, Offence { expectation: check.place, row, action });
        }
        if !repairs.is_empty() {
            let index = column_index(batch.schema_ref(), &check.columns[check.blamed].name, usize::MAX)?;
            self.arrays[index] = repaired(&values[check.blamed], &repairs);
        }
        Ok(())
    }

    fn refuse(&mut self, action: Action, row: usize, column: &str, what: String) {
        let list = if action == Action::Quarantined { &mut self.quarantined } else { &mut self.rejected };
        list.push(Rejected { row, column: column.to_owned(), what });
    }

    fn count(&mut self, column: &str, expectation: Expectation, offence: Offence) {
        self.violations.add(column, ViolationKind::of(expectation), offence.action);
        (self.note)(offence);
    }
}

/// Takes refused rows out of the batch. A row that is both rejected and quarantined is rejected.
fn remove(
    batch: RecordBatch,
    mut rejected: Vec<Rejected>,
    mut quarantined: Vec<Rejected>,
    violations: &mut Violations,
) -> Result<Enforced, FeatureError> {
    let rows = batch.num_rows() as u32;
    if rejected.is_empty() && quarantined.is_empty() {
        return Ok(Enforced { batch, kept: (0..rows).collect(), rejected, quarantined });
    }
    let refused: HashSet<usize> = rejected.iter().map(|entry| entry.row).collect();
    let (both, only): (Vec<_>, Vec<_>) = quarantined.into_iter().partition(|entry| refused.contains(&entry.row));
    quarantined = only;
    rejected.extend(both);
    // Stable: within a row, columns keep their order.
    rejected.sort_by_key(|entry| entry.row);
    quarantined.sort_by_key(|entry| entry.row);
    let set_aside: HashSet<usize> = quarantined.iter().map(|entry| entry.row).collect();
    violations.rejected_rows += refused.len() as u64;
    violations.quarantined_rows += set_aside.len() as u64;
    let stays = |row: &u32| !refused.contains(&(*row as usize)) && !set_aside.contains(&(*row as usize));
    let kept: Vec<u32> = (0..rows).filter(stays).collect();
    let batch = take_record_batch(&batch, &UInt32Array::from(kept.clone()))?;
    Ok(Enforced { batch, kept, rejected, quarantined })
}
