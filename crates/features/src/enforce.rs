//! The contract's enforcement on canonical batches, the same in training, batch scoring and serving.
//! Every violation is counted by column, kind and what was done about it; nothing is dropped silently.

use crate::FeatureError;
use crate::canonical::{integral, is_writable};
use crate::columns::{Values, column_index};
use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray};
use arrow::array::{TimestampMicrosecondArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use vocabulary::contract::{Column, ColumnKind, Contract, NullPolicy, Repair, Scalar};
use vocabulary::time::Timestamp;

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

/// A contract compiled for some of its columns; made once, used on each batch.
#[derive(Clone, Debug)]
pub struct Enforcer {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    column: String,
    /// Where the column stands in batches of exactly the enforced columns.
    guess: usize,
    kind: ColumnKind,
    nulls: NullPolicy,
    range: Option<[f64; 2]>,
    closed: Option<HashSet<String>>,
    repair: Repair,
    default: Option<Cell>,
}

/// One value of a canonical column.
#[derive(Clone, Debug, PartialEq)]
enum Cell {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Time(i64),
}

/// What happens to one offending value.
enum Verdict {
    Refuse(Action),
    Repair(Action, Option<Cell>),
}

impl Enforcer {
    /// `columns` are those to enforce; names that the contract does not declare are an error, and so is a default that
    /// is not of its column's type.
    pub fn new(contract: &Contract, columns: &[String]) -> Result<Enforcer, FeatureError> {
        let rule = |(guess, name): (usize, &String)| {
            let column = contract.column(name).ok_or_else(|| {
                let hint = vocabulary::suggest::hint(name, contract.column_names());
                let what = format!("contract \"{}\" does not declare column \"{name}\"{hint}", contract.name);
                FeatureError::Declaration(what)
            })?;
            Rule::new(contract, column, guess)
        };
        Ok(Enforcer { rules: columns.iter().enumerate().map(rule).collect::<Result<_, _>>()? })
    }

    /// Applies the contract to a canonical batch. Columns that are not enforced pass unchanged.
    pub fn enforce(&self, batch: &RecordBatch, violations: &mut Violations) -> Result<Enforced, FeatureError> {
        let rows = batch.num_rows();
        let mut arrays = batch.columns().to_vec();
        let (mut rejected, mut quarantined) = (Vec::new(), Vec::new());
        for rule in &self.rules {
            let index = column_index(batch.schema_ref(), &rule.column, rule.guess)?;
            let values = Values::new(&arrays[index], &rule.column, rule.kind)?;
            let offences: Vec<(usize, ViolationKind)> =
                (0..rows).filter_map(|row| Some((row, rule.offence(&values, row)?))).collect();
            let mut repairs = BTreeMap::new();
            for (row, kind) in offences {
                let action = match rule.verdict(&values, row, kind) {
                    Verdict::Refuse(action) => {
                        let refused =
                            Rejected { row, column: rule.column.clone(), what: rule.words(&values, row, kind) };
                        let list = if action == Action::Quarantined { &mut quarantined } else { &mut rejected };
                        list.push(refused);
                        action
                    }
                    Verdict::Repair(action, cell) => {
                        repairs.insert(row, cell);
                        action
                    }
                };
                violations.add(&rule.column, kind, action);
            }
            if !repairs.is_empty() {
                arrays[index] = repaired(&values, &repairs);
            }
        }
        violations.rows += rows as u64;
        let batch = RecordBatch::try_new(batch.schema(), arrays)?;
        remove(batch, rejected, quarantined, violations)
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

impl Rule {
    fn new(contract: &Contract, column: &Column, guess: usize) -> Result<Rule, FeatureError> {
        let default = match &column.default {
            None => None,
            Some(scalar) => Some(Cell::from_scalar(scalar, column.kind).ok_or_else(|| {
                FeatureError::Declaration(format!(
                    "contract \"{}\": column \"{}\": its default {scalar:?} is not of type {}",
                    contract.name,
                    column.name,
                    column.kind.name()
                ))
            })?),
        };
        let closed = column.categories.as_ref().filter(|_| column.closed);
        Ok(Rule {
            column: column.name.clone(),
            guess,
            kind: column.kind,
            nulls: column.nulls,
            range: column.range,
            closed: closed.map(|values| values.iter().cloned().collect()),
            repair: column.repair,
            default,
        })
    }

    #[inline]
    fn offence(&self, values: &Values<'_>, row: usize) -> Option<ViolationKind> {
        if values.is_null(row) {
            return (self.nulls == NullPolicy::Forbid).then_some(ViolationKind::Null);
        }
        if let (Some([low, high]), Some(value)) = (self.range, values.number(row)) {
            return (value < low || value > high).then_some(ViolationKind::Range);
        }
        if let (Some(closed), Values::Text(array)) = (&self.closed, values) {
            return (!closed.contains(array.value(row))).then_some(ViolationKind::Category);
        }
        None
    }

    /// The declared repair where it can be done; otherwise the row is refused.
    fn verdict(&self, values: &Values<'_>, row: usize, kind: ViolationKind) -> Verdict {
        match self.repair {
            Repair::Quarantine => Verdict::Refuse(Action::Quarantined),
            Repair::Null if self.nulls == NullPolicy::Allow => Verdict::Repair(Action::MadeNull, None),
            Repair::Default if self.default.is_some() => Verdict::Repair(Action::Defaulted, self.default.clone()),
            Repair::Clip if kind == ViolationKind::Range => match self.nearest(values, row) {
                Some(cell) => Verdict::Repair(Action::Clipped, Some(cell)),
                None => Verdict::Refuse(Action::Rejected),
            },
            _ => Verdict::Refuse(Action::Rejected),
        }
    }

    /// The end of the range that is nearest to the value; none where a range holds no whole number.
    fn nearest(&self, values: &Values<'_>, row: usize) -> Option<Cell> {
        let [low, high] = self.range?;
        let value = values.number(row)?;
        match self.kind {
            ColumnKind::Int => {
                let (low, high) = (low.ceil(), high.floor());
                (low <= high).then(|| Cell::Int(value.clamp(low, high) as i64))
            }
            _ => Some(Cell::Float(value.clamp(low, high))),
        }
    }

    fn words(&self, values: &Values<'_>, row: usize, kind: ViolationKind) -> String {
        match (kind, values) {
            (ViolationKind::Range, _) => {
                let [low, high] = self.range.unwrap_or_default();
                let value = match values {
                    Values::Int(array) => array.value(row).to_string(),
                    _ => values.number(row).unwrap_or(f64::NAN).to_string(),
                };
                format!("{value} is outside {low} to {high}; correct it, widen the range, or declare a repair")
            }
            (ViolationKind::Category, Values::Text(array)) => {
                let value = array.value(row);
                let known = self.closed.iter().flatten().map(String::as_str);
                let hint = vocabulary::suggest::hint(value, known);
                format!("{value:?} is not one of the declared categories{hint}")
            }
            _ => "it is null, where the contract forbids nulls; send a value, or declare a repair".to_owned(),
        }
    }
}

impl Cell {
    fn from_scalar(scalar: &Scalar, kind: ColumnKind) -> Option<Cell> {
        Some(match (kind, scalar) {
            (ColumnKind::Bool, Scalar::Bool(value)) => Cell::Bool(*value),
            (ColumnKind::Int, Scalar::Int(value)) => Cell::Int(*value),
            (ColumnKind::Int, Scalar::Float(value)) => Cell::Int(integral(*value)?),
            (ColumnKind::Float, Scalar::Int(value)) => Cell::Float(*value as f64),
            (ColumnKind::Float, Scalar::Float(value)) if !value.is_nan() => Cell::Float(*value),
            (ColumnKind::String, Scalar::Text(text)) => Cell::Text(text.clone()),
            (ColumnKind::Timestamp, Scalar::Text(text)) => {
                Cell::Time(text.parse::<Timestamp>().ok().map(|at| at.0).filter(|at| is_writable(*at))?)
            }
            _ => return None,
        })
    }
}

/// A copy of the column with some values replaced.
fn repaired(values: &Values<'_>, repairs: &BTreeMap<usize, Option<Cell>>) -> ArrayRef {
    macro_rules! replace {
        ($array:expr, $variant:path) => {
            $array.iter().enumerate().map(|(row, value)| match repairs.get(&row) {
                Some(Some($variant(cell))) => Some(cell.to_owned()),
                Some(_) => None,
                None => value.map(|value| value.to_owned()),
            })
        };
    }
    match values {
        Values::Bool(array) => Arc::new(replace!(array, Cell::Bool).collect::<BooleanArray>()),
        Values::Int(array) => Arc::new(replace!(array, Cell::Int).collect::<Int64Array>()),
        Values::Float(array) => Arc::new(replace!(array, Cell::Float).collect::<Float64Array>()),
        Values::Text(array) => Arc::new(replace!(array, Cell::Text).collect::<StringArray>()),
        Values::Time(array) => {
            let repaired: TimestampMicrosecondArray = replace!(array, Cell::Time).collect();
            Arc::new(repaired.with_timezone("UTC"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{column, contract};

    fn batch() -> RecordBatch {
        let delay = Float64Array::from(vec![Some(5.0), Some(-900.0), None, Some(f64::INFINITY)]);
        let carrier = StringArray::from(vec![Some("UA"), Some("UA"), Some("ZZ"), None]);
        RecordBatch::try_from_iter([("delay", Arc::new(delay) as ArrayRef), ("carrier", Arc::new(carrier) as _)])
            .unwrap()
    }

    fn enforce(delay: Column, carrier: Column) -> (Enforced, Violations) {
        let contract = contract(vec![delay, carrier]);
        let columns = ["delay", "carrier"].map(str::to_owned);
        let mut violations = Violations::default();
        let enforced = Enforcer::new(&contract, &columns).unwrap().enforce(&batch(), &mut violations).unwrap();
        (enforced, violations)
    }

    fn delay(repair: Repair) -> Column {
        Column { range: Some([-60.0, 600.0]), repair, ..column("delay", ColumnKind::Float) }
    }

    fn carrier(repair: Repair) -> Column {
        let categories = Some(vec!["UA".to_owned(), "DL".to_owned()]);
        Column { categories, closed: true, repair, ..column("carrier", ColumnKind::String) }
    }

    fn delays(enforced: &Enforced) -> Vec<Option<f64>> {
        match Values::of_any(enforced.batch.column(0), "delay").unwrap() {
            Values::Float(array) => array.iter().collect(),
            _ => unreachable!(),
        }
    }

    #[test]
    fn bad_rows_are_refused_one_by_one_and_named() {
        let (enforced, violations) = enforce(delay(Repair::Reject), carrier(Repair::Reject));
        assert_eq!(enforced.kept, [0]);
        let named: Vec<(usize, &str)> =
            enforced.rejected.iter().map(|entry| (entry.row, entry.column.as_str())).collect();
        assert_eq!(named, [(1, "delay"), (2, "carrier"), (3, "delay")]);
        assert!(enforced.rejected[0].what.starts_with("-900 is outside -60 to 600"), "{:?}", enforced.rejected[0]);
        assert_eq!(violations.rejected_rows, 3);
        assert_eq!(violations.count("delay", ViolationKind::Range, Action::Rejected), 2);
        assert_eq!(violations.total(), 3);
    }

    #[test]
    fn repairs_change_the_value_and_are_counted() {
        let (clipped, violations) = enforce(delay(Repair::Clip), carrier(Repair::Null));
        assert_eq!(delays(&clipped), [Some(5.0), Some(-60.0), None, Some(600.0)]);
        assert!(clipped.batch.column(1).is_null(2));
        assert_eq!(violations.count("delay", ViolationKind::Range, Action::Clipped), 2);
        assert_eq!(violations.count("carrier", ViolationKind::Category, Action::MadeNull), 1);
        assert_eq!((violations.rows, violations.rejected_rows), (4, 0));

        let default = Some(Scalar::Int(0));
        let declared = Column { default, nulls: NullPolicy::Forbid, ..delay(Repair::Default) };
        let (defaulted, violations) = enforce(declared, column("carrier", ColumnKind::String));
        assert_eq!(delays(&defaulted), [Some(5.0), Some(0.0), Some(0.0), Some(0.0)]);
        assert_eq!(violations.count("delay", ViolationKind::Null, Action::Defaulted), 1);
    }

    #[test]
    fn quarantined_rows_are_set_aside_unless_rejected_too() {
        let nulls = NullPolicy::Forbid;
        let (enforced, violations) = enforce(delay(Repair::Quarantine), Column { nulls, ..carrier(Repair::Reject) });
        assert_eq!(enforced.kept, [0]);
        assert_eq!(enforced.quarantined.iter().map(|entry| entry.row).collect::<Vec<_>>(), [1]);
        let rejected: Vec<(usize, &str)> =
            enforced.rejected.iter().map(|entry| (entry.row, entry.column.as_str())).collect();
        assert_eq!(rejected, [(2, "carrier"), (3, "carrier"), (3, "delay")]);
        assert_eq!((violations.rejected_rows, violations.quarantined_rows), (2, 1));
    }

    #[test]
    fn counts_merge_and_serialise() {
        let (_, first) = enforce(delay(Repair::Reject), carrier(Repair::Null));
        let mut both = first.clone();
        both.merge(&first);
        assert_eq!((both.rows, both.total()), (8, 2 * first.total()));
        let text = serde_json::to_string(&first).unwrap();
        assert_eq!(serde_json::from_str::<Violations>(&text).unwrap(), first);
        assert!(text.contains(r#""carrier":{"category":{"made_null":1}}"#), "{text}");
    }

    #[test]
    fn a_default_of_another_type_is_refused() {
        let wrong = Column { default: Some(Scalar::Text("none".to_owned())), ..delay(Repair::Default) };
        let error = Enforcer::new(&contract(vec![wrong]), &["delay".to_owned()]).unwrap_err().to_string();
        assert!(error.contains("\"delay\"") && error.contains("not of type float"), "{error}");
    }
}
