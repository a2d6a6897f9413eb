//! What one column must be, value by value: the offenders of a whole column at a time.

use super::cell::Cell;
use super::counts::Action;
use crate::FeatureError;
use crate::columns::{Values, column_index};
use arrow::array::{Array, ArrayRef, Float64Array, Int64Array, StringArray};
use arrow::datatypes::Schema;
use regex::Regex;
use std::collections::HashSet;
use vocabulary::contract::{Column, ColumnKind, Contract, Expectation, NullPolicy, Repair, Severity};
use vocabulary::time::Span;

/// Values that are looked at together; only where one of them offends is each looked at.
const STRETCH: usize = 64;

#[derive(Clone, Debug)]
pub(super) struct Rule {
    pub(super) column: String,
    /// Where the column stands in batches of exactly the enforced columns.
    pub(super) guess: usize,
    pub(super) kind: ColumnKind,
    pub(super) tests: Vec<Test>,
    nulls: NullPolicy,
    range: Option<[f64; 2]>,
    repair: Repair,
    default: Option<Cell>,
}

#[derive(Clone, Debug)]
pub(super) struct Test {
    /// Its place among the enforcer's expectations.
    pub(super) place: usize,
    pub(super) expectation: Expectation,
    pub(super) severity: Severity,
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    NotNull,
    Range([f64; 2]),
    Closed(HashSet<String>),
    Pattern(Regex, String),
    Length([u64; 2]),
    /// At most so many microseconds from `observed`, or the value itself, to `used`.
    Fresh {
        most: i64,
        observed: Option<Place>,
        used: Place,
    },
}

/// Another column of the batch.
#[derive(Clone, Debug)]
struct Place {
    column: String,
    guess: usize,
}

/// What happens to one offending value.
pub(super) enum Verdict {
    Refuse(Action),
    Repair(Action, Option<Cell>),
}

impl Rule {
    /// `columns` are all that are enforced; `place` is that of the first test.
    pub(super) fn new(
        contract: &Contract,
        column: &Column,
        columns: &[String],
        place: usize,
    ) -> Result<Rule, FeatureError> {
        let wrong = |what: String| {
            FeatureError::Declaration(format!("contract \"{}\": column \"{}\": {what}", contract.name, column.name))
        };
        let default = match &column.default {
            None => None,
            Some(scalar) => Some(
                Cell::from_scalar(scalar, column.kind)
                    .ok_or_else(|| wrong(format!("its default {scalar:?} is not of type {}", column.kind.name())))?,
            ),
        };
        let mut forms = Vec::new();
        if column.nulls == NullPolicy::Forbid {
            forms.push((Expectation::Nulls, Form::NotNull));
        }
        forms.extend(column.range.map(|range| (Expectation::Range, Form::Range(range))));
        if let Some(values) = column.categories.as_ref().filter(|_| column.closed) {
            forms.push((Expectation::Categories, Form::Closed(values.iter().cloned().collect())));
        }
        if let Some(pattern) = &column.pattern {
            let whole =
                Regex::new(&format!("^(?:{pattern})$")).map_err(|error| wrong(format!("its pattern: {error}")))?;
            forms.push((Expectation::Pattern, Form::Pattern(whole, pattern.clone())));
        }
        forms.extend(column.length.map(|length| (Expectation::Length, Form::Length(length))));
        forms.extend(fresh(contract, column, columns).map(|form| (Expectation::Freshness, form)));
        let test = |(at, (expectation, form))| {
            let severity = column.severity_of(expectation);
            Test { place: place + at, expectation, severity, form }
        };
        Ok(Rule {
            column: column.name.clone(),
            guess: columns.iter().position(|name| *name == column.name).unwrap_or_default(),
            kind: column.kind,
            tests: forms.into_iter().enumerate().map(test).collect(),
            nulls: column.nulls,
            range: column.range,
            repair: column.repair,
            default,
        })
    }

    /// The declared repair where it can be done; otherwise the row is refused.
    pub(super) fn verdict(&self, values: &Values<'_>, row: usize, expectation: Expectation) -> Verdict {
        match self.repair {
            Repair::Quarantine => Verdict::Refuse(Action::Quarantined),
            Repair::Null if self.nulls == NullPolicy::Allow => Verdict::Repair(Action::MadeNull, None),
            Repair::Default if self.default.is_some() => Verdict::Repair(Action::Defaulted, self.default.clone()),
            Repair::Clip if expectation == Expectation::Range => match self.nearest(values, row) {
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
}

/// The row-level form of freshness, where there is one and the columns are there.
fn fresh(contract: &Contract, column: &Column, columns: &[String]) -> Option<Form> {
    let Span(most) = column.freshness?;
    let place = |name: &String| {
        let guess = columns.iter().position(|column| column == name)?;
        Some(Place { column: name.clone(), guess })
    };
    let used = contract.time.as_ref().filter(|time| **time != column.name).and_then(place)?;
    let observed = match &column.observed_at {
        Some(name) => Some(place(name)?),
        None if column.kind == ColumnKind::Timestamp => None,
        None => return None,
    };
    Some(Form::Fresh { most, observed, used })
}

impl Test {
    /// The rows that break it, ascending.
    pub(super) fn offenders(
        &self,
        values: &Values<'_>,
        schema: &Schema,
        arrays: &[ArrayRef],
    ) -> Result<Vec<usize>, FeatureError> {
        Ok(match (&self.form, values) {
            (Form::NotNull, _) => nulls(values),
            (Form::Range([low, high]), Values::Float(array)) => floats(array, *low, *high),
            (Form::Range([low, high]), Values::Int(array)) => ints(array, *low, *high),
            (Form::Closed(known), Values::Text(array)) => texts(array, |text| known.contains(text)),
            (Form::Pattern(pattern, _), Values::Text(array)) => texts(array, |text| pattern.is_match(text)),
            (Form::Length([least, most]), Values::Text(array)) => texts(array, |text| {
                // Bytes are characters at least; few texts have to be counted.
                let count = if text.is_ascii() { text.len() } else { text.chars().count() } as u64;
                *least <= count && count <= *most
            }),
            (Form::Fresh { most, observed, used }, _) => {
                let used = instants(schema, arrays, used)?;
                let observed = match observed {
                    Some(place) => instants(schema, arrays, place)?,
                    None => *values,
                };
                let old = |row: &usize| {
                    let age =
                        used.micros(*row).zip(observed.micros(*row)).map(|(used, seen)| used.saturating_sub(seen));
                    !values.is_null(*row) && age.is_some_and(|age| age > *most)
                };
                (0..values.len()).filter(old).collect()
            }
            _ => Vec::new(),
        })
    }

    /// What is wrong with a value, and what to do.
    pub(super) fn words(&self, values: &Values<'_>, row: usize) -> String {
        let value = super::cell::shown(values, row).unwrap_or_else(|| "null".to_owned());
        match &self.form {
            Form::NotNull => {
                "it is null, where the contract forbids nulls; send a value, or declare a repair".to_owned()
            }
            Form::Range([low, high]) => {
                format!("{value} is outside {low} to {high}; correct it, widen the range, or declare a repair")
            }
            Form::Closed(known) => {
                let text = match values {
                    Values::Text(array) => array.value(row),
                    _ => "",
                };
                let hint = vocabulary::suggest::hint(text, known.iter().map(String::as_str));
                format!("{value} is not one of the declared categories{hint}")
            }
            Form::Pattern(_, pattern) => {
                format!("{value} does not match \"{pattern}\"; correct it, or declare another pattern or a repair")
            }
            Form::Length([least, most]) => format!(
                "{value} is not of {least} to {most} characters; correct it, or declare another length or a repair"
            ),
            Form::Fresh { most, .. } => {
                format!("{value} is older than {} at the event; send a newer one, or declare a repair", Span(*most))
            }
        }
    }

    /// What is expected, in words.
    pub(super) fn declared(&self) -> String {
        match &self.form {
            Form::NotNull => "never null".to_owned(),
            Form::Range([low, high]) => format!("{low} to {high}"),
            Form::Closed(known) => format!("one of {} categories", known.len()),
            Form::Pattern(_, pattern) => format!("matches \"{pattern}\""),
            Form::Length([least, most]) => format!("{least} to {most} characters"),
            Form::Fresh { most, .. } => format!("not older than {} at the event", Span(*most)),
        }
    }
}

fn instants<'a>(schema: &Schema, arrays: &'a [ArrayRef], place: &Place) -> Result<Values<'a>, FeatureError> {
    let index = column_index(schema, &place.column, place.guess)?;
    Values::new(&arrays[index], &place.column, ColumnKind::Timestamp)
}

fn nulls(values: &Values<'_>) -> Vec<usize> {
    match values.null_count() {
        0 => Vec::new(),
        _ => (0..values.len()).filter(|row| values.is_null(*row)).collect(),
    }
}

/// What is not within both ends; no null and no NaN is. Written so that the compiler compares several values at once.
fn floats(array: &Float64Array, low: f64, high: f64) -> Vec<usize> {
    let outside = |value: &f64| (*value < low) | (*value > high);
    stretches(array.values(), outside, |row| array.is_valid(row))
}

fn ints(array: &Int64Array, low: f64, high: f64) -> Vec<usize> {
    let outside = |value: &i64| ((*value as f64) < low) | ((*value as f64) > high);
    stretches(array.values(), outside, |row| array.is_valid(row))
}

fn stretches<T>(values: &[T], outside: impl Fn(&T) -> bool, valid: impl Fn(usize) -> bool) -> Vec<usize> {
    let mut found = Vec::new();
    for (place, stretch) in values.chunks(STRETCH).enumerate() {
        if stretch.iter().fold(false, |any, value| any | outside(value)) {
            let rows = (place * STRETCH..).zip(stretch);
            found.extend(rows.filter(|(row, value)| outside(value) && valid(*row)).map(|(row, _)| row));
        }
    }
    found
}

fn texts(array: &StringArray, fine: impl Fn(&str) -> bool) -> Vec<usize> {
    let offends = |(row, text): (usize, Option<&str>)| text.filter(|text| !fine(text)).map(|_| row);
    array.iter().enumerate().filter_map(offends).collect()
}
