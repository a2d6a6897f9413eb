//! A first contract from data, for a person to edit. Guesses are conservative: what is not declared is not enforced.

use crate::FeatureError;
use crate::canonical::{Form, canonical, instant_of_integer};
use crate::columns::Values;
use crate::units::{unit, unit_by_range, words};
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use arrow::record_batch::RecordBatch;
use std::collections::{BTreeSet, HashSet};
use vocabulary::contract::{Column, ColumnKind, Contract, NullPolicy};
use vocabulary::suggest;
use vocabulary::time::Timestamp;

/// Sets of at most this many strings are written into the contract.
const CATEGORIES_MAX: usize = 200;
/// A range is widened by this share of its width at each open end: a judgement, so that the next month's extremes pass.
const RANGE_PADDING: f64 = 0.5;

/// What a person already knows.
#[derive(Clone, Debug, Default)]
pub struct InferHints {
    /// The contract's name.
    pub name: String,
    /// The column to predict; its range is not limited.
    pub target: String,
    pub time: Option<String>,
    pub key: Option<String>,
}

/// A contract that the batch, as it was read, satisfies. Columns whose type nothing here can use are left out.
pub fn infer_contract(batch: &RecordBatch, hints: &InferHints) -> Result<Contract, FeatureError> {
    let schema = batch.schema();
    for name in [Some(&hints.target), hints.time.as_ref(), hints.key.as_ref()].into_iter().flatten() {
        if schema.index_of(name).is_err() {
            let hint = suggest::hint(name, schema.fields().iter().map(|field| field.name().as_str()));
            return Err(FeatureError::MissingColumn { column: name.clone(), hint });
        }
    }
    let mut columns = Vec::new();
    for (field, array) in schema.fields().iter().zip(batch.columns()) {
        let hinted = hints.time.as_deref() == Some(field.name());
        if let Some(kind) = kind_of(field.name(), array, hinted)? {
            columns.push(Column::new(field.name(), kind));
        }
    }
    let mut contract = Contract::new(&hints.name, columns);
    let data = canonical(batch, &contract)?;
    contract.time = hints.time.clone().or_else(|| time_column(&contract, &hints.target));
    contract.key = hints.key.clone().or_else(|| key_column(&contract, &data, hints));
    let (time, key) = (contract.time.clone(), contract.key.clone());
    for (column, array) in contract.columns.iter_mut().zip(data.columns()) {
        let values = Values::of_any(array, &column.name)?;
        let identifies = [&time, &key].into_iter().flatten().any(|name| *name == column.name);
        // Elsewhere a null is a missing value, which models handle; a rejected row helps nobody.
        if identifies && array.null_count() == 0 {
            column.nulls = NullPolicy::Forbid;
        }
        describe(column, &values, data.num_rows(), column.name == hints.target || identifies);
    }
    Ok(contract)
}

fn kind_of(name: &str, array: &ArrayRef, hinted_time: bool) -> Result<Option<ColumnKind>, FeatureError> {
    if hinted_time {
        // If it is none, `canonical` says which value is not.
        return Ok(Some(ColumnKind::Timestamp));
    }
    Ok(Some(match Form::of(array.data_type()) {
        Form::Bool => ColumnKind::Bool,
        Form::Integer | Form::Unsigned => {
            let numbers = cast(array, &DataType::Int64)?;
            let numbers = numbers.as_primitive::<Int64Type>();
            let is_time = speaks_of_time(name) && numbers.null_count() < numbers.len();
            let dates = || numbers.iter().flatten().all(|value| instant_of_integer(value).is_some());
            if array.null_count() < numbers.null_count() {
                // Beyond 63 bits: only a float holds it.
                ColumnKind::Float
            } else if is_time && dates() {
                ColumnKind::Timestamp
            } else {
                ColumnKind::Int
            }
        }
        Form::Real => ColumnKind::Float,
        Form::Text => {
            let strings = cast(array, &DataType::Utf8)?;
            let strings = strings.as_string::<i32>();
            let some = strings.null_count() < strings.len();
            let instants = || strings.iter().flatten().all(|text| text.parse::<Timestamp>().is_ok());
            if some && instants() { ColumnKind::Timestamp } else { ColumnKind::String }
        }
        Form::Instant(_) | Form::Day | Form::Milliseconds => ColumnKind::Timestamp,
        Form::Other if *array.data_type() == DataType::Null => ColumnKind::String,
        Form::Other => return Ok(None),
    }))
}

/// Whether a name is that of an instant: integers are read as dates only under such a name.
fn speaks_of_time(name: &str) -> bool {
    let says = ["date", "datetime", "timestamp", "epoch", "ts"];
    words(name).last().is_some_and(|word| says.contains(&word.as_str()))
}

/// The only timestamp column, or the only one with a name that says so.
fn time_column(contract: &Contract, target: &str) -> Option<String> {
    let instants = || {
        let instant = |column: &&Column| column.kind == ColumnKind::Timestamp && column.name != target;
        contract.columns.iter().filter(instant).map(|column| &column.name)
    };
    let named = |name: &&String| {
        let names = ["time", "timestamp", "ts", "datetime", "date", "event_time", "event_at"];
        names.contains(&name.to_lowercase().as_str())
    };
    only(instants()).or_else(|| only(instants().filter(named))).cloned()
}

fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let first = items.next()?;
    items.next().is_none().then_some(first)
}

/// The only column of strings or ints that is called id or key and has no value twice.
fn key_column(contract: &Contract, data: &RecordBatch, hints: &InferHints) -> Option<String> {
    let candidate = |(column, array): &(&Column, &ArrayRef)| {
        let words = words(&column.name);
        let named = words.iter().any(|word| ["id", "key", "uuid", "guid"].contains(&word.as_str()));
        let typed = matches!(column.kind, ColumnKind::String | ColumnKind::Int);
        let free = column.name != hints.target && contract.time.as_ref() != Some(&column.name);
        named && typed && free && array.null_count() == 0 && unique(array)
    };
    only(contract.columns.iter().zip(data.columns()).filter(candidate)).map(|(column, _)| column.name.clone())
}

fn unique(array: &ArrayRef) -> bool {
    let Ok(values) = Values::of_any(array, "") else { return false };
    let mut seen = HashSet::with_capacity(array.len());
    array.len() > 1 && (0..array.len()).all(|row| seen.insert(values.atom(row)))
}

/// Unit, range and categories. Neither range nor categories for what is predicted or identifies.
fn describe(column: &mut Column, values: &Values<'_>, rows: usize, free: bool) {
    match column.kind {
        ColumnKind::Int | ColumnKind::Float => {
            let finite = || (0..rows).filter_map(|row| values.number(row)).filter(|value| value.is_finite());
            let (low, high) = finite()
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
            column.unit = unit(&column.name).or_else(|| unit_by_range(&column.name, low, high)).map(str::to_owned);
            let infinite = (0..rows).any(|row| values.number(row).is_some_and(f64::is_infinite));
            if low < high && !free && !infinite {
                column.range = Some(widened(low, high, column.kind));
            }
        }
        ColumnKind::String if !free => {
            let mut seen = BTreeSet::new();
            for row in 0..rows {
                if let crate::hash::Atom::Text(text) = values.atom(row) {
                    seen.insert(text);
                }
                if seen.len() > CATEGORIES_MAX {
                    return;
                }
            }
            if !seen.is_empty() {
                column.categories = Some(seen.into_iter().map(str::to_owned).collect());
            }
        }
        _ => {}
    }
}

/// The range with room at both ends, rounded outwards to two digits. What never was negative stays so, and fractions
/// of 1 stay fractions of 1.
fn widened(low: f64, high: f64, kind: ColumnKind) -> [f64; 2] {
    if kind == ColumnKind::Float && low >= 0.0 && high <= 1.0 {
        return [0.0, 1.0];
    }
    let room = (high - low) * RANGE_PADDING;
    let (padded_low, padded_high) = (low - room, high + room);
    if !padded_low.is_finite() || !padded_high.is_finite() {
        return [low, high];
    }
    let least = if low >= 0.0 { outward(padded_low, f64::floor).max(0.0) } else { outward(padded_low, f64::floor) };
    let greatest = if high <= 0.0 { outward(padded_high, f64::ceil).min(0.0) } else { outward(padded_high, f64::ceil) };
    [least + 0.0, greatest + 0.0]
}

/// To two significant digits by `round`; whole numbers from ten on stay whole.
fn outward(value: f64, round: impl Fn(f64) -> f64) -> f64 {
    if value == 0.0 {
        return 0.0;
    }
    let exponent = value.abs().log10().floor() as i32 - 1;
    // Dividing by a power of ten rounds to the nearest decimal; multiplying by its inverse does not.
    let rounded = match exponent {
        0.. => round(value / 10f64.powi(exponent)) * 10f64.powi(exponent),
        _ => round(value * 10f64.powi(-exponent)) / 10f64.powi(-exponent),
    };
    if rounded.is_finite() { rounded } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int32Array, Int64Array, StringArray, TimestampMicrosecondArray};
    use std::sync::Arc;

    fn infer(columns: Vec<(&str, ArrayRef)>) -> Contract {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let hints = InferHints { name: "flights".to_owned(), target: "late".to_owned(), ..Default::default() };
        infer_contract(&batch, &hints).unwrap()
    }

    fn late() -> (&'static str, ArrayRef) {
        ("late", Arc::new(Int64Array::from(vec![0, 1, 0])))
    }

    #[test]
    fn a_file_as_it_was_read_gives_a_contract_that_holds() {
        let contract = infer(vec![
            late(),
            ("flight_id", Arc::new(Int64Array::from(vec![7, 8, 9]))),
            ("at", Arc::new(StringArray::from(vec!["2013-01-01 05:00", "2013-01-01 06:00", "2013-01-02 05:00"]))),
            ("distance_miles", Arc::new(Int32Array::from(vec![Some(100), Some(900), None]))),
            ("share", Arc::new(Float64Array::from(vec![0.25, 0.5, f64::NAN]))),
            ("carrier", Arc::new(StringArray::from(vec!["UA", "DL", "UA"]))),
        ]);
        assert!(contract.problems().is_empty());
        assert_eq!((contract.time.as_deref(), contract.key.as_deref()), (Some("at"), Some("flight_id")));
        let column = |name| contract.column(name).unwrap();
        assert_eq!((column("late").kind, column("late").range), (ColumnKind::Int, None));
        assert_eq!((column("at").kind, column("at").nulls), (ColumnKind::Timestamp, NullPolicy::Forbid));
        let distance = column("distance_miles");
        assert_eq!((distance.unit.as_deref(), distance.range), (Some("mi"), Some([0.0, 1300.0])));
        assert_eq!((column("share").range, column("share").nulls), (Some([0.0, 1.0]), NullPolicy::Allow));
        assert_eq!(column("carrier").categories.as_deref(), Some(["DL", "UA"].map(str::to_owned).as_slice()));
        assert!(!column("carrier").closed && column("flight_id").range.is_none());
    }

    #[test]
    fn two_instants_are_ambiguous_unless_one_says_so() {
        let instant = || Arc::new(TimestampMicrosecondArray::from(vec![0, 1, 2])) as ArrayRef;
        assert_eq!(infer(vec![late(), ("a", instant()), ("b", instant())]).time, None);
        assert_eq!(infer(vec![late(), ("a", instant()), ("time", instant())]).time.as_deref(), Some("time"));
    }

    #[test]
    fn integers_are_dates_only_under_a_name_of_time() {
        let days = || Arc::new(Int64Array::from(vec![20_130_101, 20_130_102, 20_130_103])) as ArrayRef;
        let contract = infer(vec![late(), ("date", days()), ("amount", days())]);
        assert_eq!(contract.column("date").unwrap().kind, ColumnKind::Timestamp);
        assert_eq!(contract.column("amount").unwrap().kind, ColumnKind::Int);
    }

    #[test]
    fn ranges_are_widened_and_rounded_outwards() {
        assert_eq!(widened(-43.0, 1301.0, ColumnKind::Float), [-720.0, 2000.0]);
        assert_eq!(widened(1.0, 12.0, ColumnKind::Int), [0.0, 18.0]);
        assert_eq!(widened(983.8, 1042.1, ColumnKind::Float), [950.0, 1100.0]);
        assert_eq!(outward(0.123, f64::ceil), 0.13);
    }

    #[test]
    fn a_hint_that_names_nothing_is_an_error() {
        let batch = RecordBatch::try_from_iter([late()]).unwrap();
        let hints = InferHints { target: "lat".to_owned(), ..Default::default() };
        let error = infer_contract(&batch, &hints).unwrap_err().to_string();
        assert_eq!(error, "column \"lat\" is missing; did you mean \"late\"?");
    }
}
