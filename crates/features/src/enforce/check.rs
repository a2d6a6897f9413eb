//! What several columns of one row must be together, compiled.

use super::cell::{Cell, shown};
use crate::FeatureError;
use crate::columns::{Values, column_index};
use arrow::array::ArrayRef;
use arrow::datatypes::Schema;
use std::cmp::Ordering;
use vocabulary::contract::{
    CheckRule, ColumnKind, Comparison, Condition, ConditionTest, Contract, Operand, Repair, Scalar, Severity,
};

#[derive(Clone, Debug)]
pub(super) struct Check {
    /// Its place among the enforcer's expectations.
    pub(super) place: usize,
    pub(super) name: String,
    pub(super) text: String,
    pub(super) columns: Vec<Input>,
    /// Which of the columns is repaired.
    pub(super) blamed: usize,
    pub(super) severity: Severity,
    pub(super) repair: Repair,
    pub(super) default: Option<Cell>,
    when: Vec<Term>,
    then: Vec<Term>,
}

#[derive(Clone, Debug)]
pub(super) struct Input {
    pub(super) name: String,
    kind: ColumnKind,
    guess: usize,
}

/// A condition; columns are places among the check's inputs.
#[derive(Clone, Debug)]
struct Term {
    column: usize,
    test: TermTest,
}

#[derive(Clone, Debug)]
enum TermTest {
    Column(Comparison, usize),
    Value(Comparison, Cell),
    OneOf(Vec<Cell>),
    Null,
    NotNull,
}

impl Check {
    /// None where one of its columns is not among those that are enforced.
    pub(super) fn new(
        contract: &Contract,
        rule: &CheckRule,
        enforced: &[String],
        place: usize,
    ) -> Result<Option<Check>, FeatureError> {
        let names = rule.expect.columns();
        let mut columns = Vec::with_capacity(names.len());
        for name in &names {
            let declared =
                contract.column(name).ok_or_else(|| wrong(contract, rule, &format!("no column \"{name}\"")))?;
            let Some(guess) = enforced.iter().position(|column| column == name) else { return Ok(None) };
            columns.push(Input { name: (*name).to_owned(), kind: declared.kind, guess });
        }
        let of = |name: &str| columns.iter().position(|input| input.name == name).unwrap_or_default();
        let cell = |scalar: &Scalar, column: usize| {
            let kind = columns[column].kind;
            // A whole column is compared with a fraction as a number.
            let kind = match (kind, scalar) {
                (ColumnKind::Int, Scalar::Float(_)) => ColumnKind::Float,
                _ => kind,
            };
            let what = || format!("{} is not of type {}", scalar.text(), kind.name());
            Cell::from_scalar(scalar, kind).ok_or_else(|| wrong(contract, rule, &what()))
        };
        let term = |condition: &Condition| -> Result<Term, FeatureError> {
            let column = of(&condition.column);
            let test = match &condition.test {
                ConditionTest::Null => TermTest::Null,
                ConditionTest::NotNull => TermTest::NotNull,
                ConditionTest::Compare(comparison, Operand::Column(other)) => TermTest::Column(*comparison, of(other)),
                ConditionTest::Compare(comparison, Operand::Value(value)) => {
                    TermTest::Value(*comparison, cell(value, column)?)
                }
                ConditionTest::OneOf(values) => {
                    TermTest::OneOf(values.iter().map(|value| cell(value, column)).collect::<Result<_, _>>()?)
                }
            };
            Ok(Term { column, test })
        };
        let when = rule.expect.when.iter().map(term).collect::<Result<_, _>>()?;
        let then = rule.expect.then.iter().map(term).collect::<Result<_, _>>()?;
        let blamed = of(rule.blamed());
        let declared = contract.column(rule.blamed());
        let default = declared.and_then(|column| Cell::from_scalar(column.default.as_ref()?, column.kind));
        Ok(Some(Check {
            place,
            name: rule.name.clone(),
            text: rule.expect.to_string(),
            columns,
            blamed,
            severity: rule.severity,
            repair: rule.repair,
            default,
            when,
            then,
        }))
    }

    /// Its columns in the batch.
    pub(super) fn values<'a>(&self, schema: &Schema, arrays: &'a [ArrayRef]) -> Result<Vec<Values<'a>>, FeatureError> {
        let values = |input: &Input| {
            let index = column_index(schema, &input.name, input.guess)?;
            Values::new(&arrays[index], &input.name, input.kind)
        };
        self.columns.iter().map(values).collect()
    }

    /// The rows where all of `when` is true and something of `then` is false, ascending.
    pub(super) fn offenders(&self, values: &[Values<'_>]) -> Vec<usize> {
        let rows = values.first().map_or(0, Values::len);
        let broken = |row: &usize| {
            self.when.iter().all(|term| term.truth(values, *row) == Some(true))
                && self.then.iter().any(|term| term.truth(values, *row) == Some(false))
        };
        (0..rows).filter(broken).collect()
    }

    /// What is wrong with a row.
    pub(super) fn words(&self, values: &[Values<'_>], row: usize) -> String {
        let value = |(input, values): (&Input, &Values<'_>)| {
            format!("{} is {}", input.name, shown(values, row).unwrap_or_else(|| "null".to_owned()))
        };
        let found: Vec<String> = self.columns.iter().zip(values).map(value).collect();
        format!(
            "check \"{}\" expects {}, and {}; correct them, or declare a repair",
            self.name,
            self.text,
            found.join(", ")
        )
    }
}

fn wrong(contract: &Contract, rule: &CheckRule, what: &str) -> FeatureError {
    FeatureError::Declaration(format!("contract \"{}\": check \"{}\": {what}", contract.name, rule.name))
}

impl Term {
    /// None where a null makes it neither true nor false.
    fn truth(&self, values: &[Values<'_>], row: usize) -> Option<bool> {
        let value = &values[self.column];
        match &self.test {
            TermTest::Null => Some(value.is_null(row)),
            TermTest::NotNull => Some(!value.is_null(row)),
            TermTest::Column(comparison, other) => Some(comparison.holds(between(value, &values[*other], row)?)),
            TermTest::Value(comparison, cell) => Some(comparison.holds(against(value, row, cell)?)),
            TermTest::OneOf(cells) => {
                let mut known = false;
                for cell in cells {
                    known |= against(value, row, cell)?.is_eq();
                }
                Some(known)
            }
        }
    }
}

/// The order of two columns' values; none for null.
fn between(a: &Values<'_>, b: &Values<'_>, row: usize) -> Option<Ordering> {
    if a.is_null(row) || b.is_null(row) {
        return None;
    }
    match (a, b) {
        (Values::Int(a), Values::Int(b)) => Some(a.value(row).cmp(&b.value(row))),
        (Values::Bool(a), Values::Bool(b)) => Some(a.value(row).cmp(&b.value(row))),
        (Values::Text(a), Values::Text(b)) => Some(a.value(row).cmp(b.value(row))),
        (Values::Time(a), Values::Time(b)) => Some(a.value(row).cmp(&b.value(row))),
        _ => a.number(row)?.partial_cmp(&b.number(row)?),
    }
}

/// The order of a value and a constant; none for null.
fn against(values: &Values<'_>, row: usize, cell: &Cell) -> Option<Ordering> {
    if values.is_null(row) {
        return None;
    }
    match (values, cell) {
        (Values::Int(array), Cell::Int(constant)) => Some(array.value(row).cmp(constant)),
        (Values::Bool(array), Cell::Bool(constant)) => Some(array.value(row).cmp(constant)),
        (Values::Text(array), Cell::Text(constant)) => Some(array.value(row).cmp(constant.as_str())),
        (Values::Time(array), Cell::Time(constant)) => Some(array.value(row).cmp(constant)),
        (_, Cell::Float(constant)) => values.number(row)?.partial_cmp(constant),
        (_, Cell::Int(constant)) => values.number(row)?.partial_cmp(&(*constant as f64)),
        _ => None,
    }
}
