//! A table against its contract: the expectations of each row, as they are enforced, and those of all rows together.
//! One pass over batches; what was seen of parts of a table adds up to what was seen of the whole.

mod columns;
mod distance;
mod report;
#[cfg(test)]
mod tests;

pub use report::{Example, Finding, Report, Status};

use crate::FeatureError;
use crate::columns::{Values, column_index};
use crate::enforce::{Action, Enforced, Enforcer, Offence, RowExpectation, Violations};
use crate::rows::value_of;
use arrow::record_batch::RecordBatch;
use columns::{ColumnPlan, ColumnSeen, EXAMPLES_MAX};
use serde_json::Map;
use std::collections::BTreeMap;
use vocabulary::contract::{Contract, Expectation, REFUSED_SHARE_MAX, Severity};
use vocabulary::profile::FeatureReference;
use vocabulary::time::Timestamp;

/// A contract made ready to be held against tables.
#[derive(Clone, Debug)]
pub struct Validator {
    contract: Contract,
    enforcer: Enforcer,
    expectations: Vec<RowExpectation>,
    /// Columns of which something is expected over all rows.
    plans: Vec<ColumnPlan>,
    /// The places of the contract's time column.
    time: Option<(String, usize)>,
}

/// What was seen of a stretch of rows.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    pub rows: u64,
    pub violations: Violations,
    /// Rows that were set aside and are there again, corrected.
    pub corrected_rows: u64,
    expectations: Vec<Counted>,
    columns: Vec<ColumnSeen>,
    newest: Option<i64>,
}

/// How often an expectation was broken.
#[derive(Clone, Debug, Default)]
struct Counted {
    actions: BTreeMap<Action, u64>,
    examples: Vec<Example>,
}

impl Validator {
    /// For tables of the contract's columns, in its order (see [`crate::canonical`]). `contract` is as in its environment
    /// (see [`Contract::in_environment`]); `registered` are a version's references, for distributions.
    pub fn new(contract: &Contract, registered: &[FeatureReference]) -> Result<Validator, FeatureError> {
        let columns: Vec<String> = contract.column_names().map(str::to_owned).collect();
        let enforcer = Enforcer::new(contract, &columns)?;
        let plans = contract.columns.iter().enumerate();
        let plans = plans.map(|(guess, column)| ColumnPlan::new(contract, column, guess, registered));
        let place = |name: &String| Some((name.clone(), columns.iter().position(|column| column == name)?));
        Ok(Validator {
            expectations: enforcer.expectations(),
            plans: plans.filter(|plan| !plan.is_idle()).collect(),
            time: contract.time.as_ref().and_then(place),
            contract: contract.clone(),
            enforcer,
        })
    }

    pub fn contract(&self) -> &Contract {
        &self.contract
    }

    /// Takes a canonical batch whose first row is at place `first` of the table, and gives what the contract leaves of it.
    pub fn observe(&self, batch: &RecordBatch, first: u64, into: &mut Observed) -> Result<Enforced, FeatureError> {
        into.expectations.resize_with(self.expectations.len(), Counted::default);
        into.columns.resize_with(self.plans.len(), ColumnSeen::default);
        let times = match &self.time {
            Some((name, guess)) => {
                let index = column_index(batch.schema_ref(), name, *guess)?;
                Some(Values::of_any(batch.column(index), name)?)
            }
            None => None,
        };
        into.rows += batch.num_rows() as u64;
        if let Some(times) = &times {
            into.newest = into.newest.max((0..batch.num_rows()).filter_map(|row| times.micros(row)).max());
        }
        for (plan, seen) in self.plans.iter().zip(&mut into.columns) {
            let index = column_index(batch.schema_ref(), &plan.column.name, plan.guess)?;
            let values = Values::new(batch.column(index), &plan.column.name, plan.column.kind)?;
            plan.observe(&values, first, times.as_ref(), seen);
        }
        let Observed { violations, expectations, .. } = into;
        let mut note = |offence: Offence| {
            let counted = &mut expectations[offence.expectation];
            *counted.actions.entry(offence.action).or_default() += 1;
            if counted.examples.len() < EXAMPLES_MAX {
                let about = &self.expectations[offence.expectation].columns;
                counted.examples.push(self.example(batch, first, offence.row, about));
            }
        };
        self.enforcer.enforce_noting(batch, violations, &mut note)
    }

    /// The row with the values in question, its key and its time.
    fn example(&self, batch: &RecordBatch, first: u64, row: usize, about: &[String]) -> Example {
        let mut values = Map::new();
        for name in [&self.contract.key, &self.contract.time].into_iter().flatten().chain(about) {
            let array = batch.column_by_name(name);
            if let Some(value) = array.and_then(|array| Values::of_any(array, name).ok()) {
                values.insert(name.clone(), value_of(&value, row));
            }
        }
        Example { row: first + row as u64, values }
    }

    /// What everything that was seen came to. Freshness is measured against `as_of`, or else against the newest event.
    pub fn report(&self, seen: &Observed, as_of: Option<Timestamp>) -> Report {
        let as_of = as_of.or(seen.newest.map(Timestamp));
        let none = Counted::default();
        let mut findings = Vec::new();
        for (place, expectation) in self.expectations.iter().enumerate() {
            let counted = seen.expectations.get(place).unwrap_or(&none);
            let count = counted.actions.values().sum();
            findings.push(Finding {
                name: expectation.name.clone(),
                expectation: expectation.expectation,
                severity: expectation.severity,
                declared: expectation.declared.clone(),
                status: Status::of_actions(&counted.actions),
                count,
                share: if seen.rows == 0 { 0.0 } else { count as f64 / seen.rows as f64 },
                actions: counted.actions.clone(),
                found: None,
                examples: counted.examples.clone(),
            });
        }
        let empty = ColumnSeen::default();
        for (place, plan) in self.plans.iter().enumerate() {
            findings.extend(plan.findings(seen.columns.get(place).unwrap_or(&empty), seen.rows, as_of));
        }
        // In the order of the contract: a person reads column by column.
        let order = |finding: &Finding| self.contract.columns.iter().position(|column| column.name == finding.name);
        findings.sort_by_key(|finding| order(finding).unwrap_or(usize::MAX));
        findings.extend(self.of_all_rows(seen));
        let Violations { rejected_rows, quarantined_rows, .. } = seen.violations;
        Report {
            contract: self.contract.name.clone(),
            version: self.contract.version,
            rows: seen.rows,
            rejected_rows,
            quarantined_rows,
            corrected_rows: seen.corrected_rows,
            as_of,
            ok: rejected_rows + quarantined_rows == 0
                && findings.iter().all(|finding| finding.status != Status::Failed),
            expectations: findings,
            violations: seen.violations.clone(),
        }
    }

    fn of_all_rows(&self, seen: &Observed) -> Vec<Finding> {
        let rules = &self.contract.table;
        let mut found = Vec::new();
        let declared = match (rules.rows_min, rules.rows_max) {
            (None, None) => None,
            (Some(least), None) => Some(format!("at least {least} rows")),
            (None, Some(most)) => Some(format!("at most {most} rows")),
            (Some(least), Some(most)) => Some(format!("{least} to {most} rows")),
        };
        if let Some(declared) = declared {
            let few = rules.rows_min.is_some_and(|least| seen.rows < least);
            let many = rules.rows_max.is_some_and(|most| seen.rows > most);
            let severity = rules.severity.of(Expectation::Rows);
            let said = format!("{} rows", seen.rows);
            found.push(of_table("table", Expectation::Rows, severity, declared, few || many, said));
        }
        let most = rules.refused_share.unwrap_or(REFUSED_SHARE_MAX);
        let refused = seen.violations.rejected_rows + seen.violations.quarantined_rows;
        let share = if seen.rows == 0 { 0.0 } else { refused as f64 / seen.rows as f64 };
        if rules.refused_share.is_some() || share > most {
            let severity = rules.severity.of(Expectation::RefusedShare);
            let declared = format!("at most {} % of the rows refused", 100.0 * most);
            let said = format!("{refused} of {} rows break the contract", seen.rows);
            let finding = of_table("table", Expectation::RefusedShare, severity, declared, share > most, said);
            found.push(Finding { count: refused, share, ..finding });
        }
        found
    }
}

impl Observed {
    /// Rows that were set aside have been replaced by corrected ones.
    pub fn corrected(&mut self, rows: u64) {
        self.corrected_rows += rows;
        self.violations.quarantined_rows -= rows;
    }

    /// Adds what was seen of later rows of the same table by the same validator.
    pub fn merge(&mut self, later: Observed) {
        self.rows += later.rows;
        self.violations.merge(&later.violations);
        self.corrected_rows += later.corrected_rows;
        self.newest = self.newest.max(later.newest);
        if self.columns.is_empty() {
            (self.expectations, self.columns) = (later.expectations, later.columns);
            return;
        }
        for (mine, theirs) in self.expectations.iter_mut().zip(later.expectations) {
            for (action, count) in theirs.actions {
                *mine.actions.entry(action).or_default() += count;
            }
            let room = EXAMPLES_MAX - mine.examples.len();
            mine.examples.extend(theirs.examples.into_iter().take(room));
        }
        for (mine, theirs) in self.columns.iter_mut().zip(later.columns) {
            mine.merge(theirs);
        }
    }
}

/// An expectation of all rows together.
fn of_table(
    name: &str,
    expectation: Expectation,
    severity: Severity,
    declared: String,
    broken: bool,
    said: String,
) -> Finding {
    let status = match (broken, severity) {
        (false, _) => Status::Passed,
        (true, Severity::Warn) => Status::Warned,
        (true, Severity::Error) => Status::Failed,
    };
    Finding {
        name: name.to_owned(),
        expectation,
        severity,
        declared,
        status,
        count: 0,
        share: 0.0,
        actions: BTreeMap::new(),
        found: Some(said),
        examples: Vec::new(),
    }
}
