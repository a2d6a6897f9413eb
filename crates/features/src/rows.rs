//! JSON rows to canonical batches and back. Types are checked strictly: what a caller sends is what the model sees.

use crate::RowProblem;
use crate::canonical::{arrow_type, expected, integral, is_writable};
use crate::columns::Values;
use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::sync::Arc;
use vocabulary::contract::{ColumnKind, Contract};
use vocabulary::suggest;
use vocabulary::time::Timestamp;

/// JSON has no infinity; a float column takes and gives these words.
const INFINITY: &str = "Infinity";
const NEGATIVE_INFINITY: &str = "-Infinity";

/// Reads rows of some columns of a contract; made once, used for each request.
#[derive(Clone, Debug)]
pub struct RowReader {
    schema: SchemaRef,
    columns: Vec<(String, ColumnKind)>,
    /// Every column that a row may have.
    known: HashSet<String>,
}

impl RowReader {
    /// `columns` are those to read, such as a pipeline's input columns with the time column; those that the contract
    /// does not declare are ignored.
    pub fn new(contract: &Contract, columns: &[String]) -> RowReader {
        let read = columns.iter().filter_map(|name| contract.column(name));
        let read = read.map(|column| (column.name.clone(), column.kind)).collect();
        RowReader::with_known(read, contract.column_names().map(str::to_owned).collect())
    }

    pub(crate) fn of_kinds<'a>(columns: impl Iterator<Item = (&'a str, ColumnKind)>) -> RowReader {
        let read: Vec<(String, ColumnKind)> = columns.map(|(name, kind)| (name.to_owned(), kind)).collect();
        let known = read.iter().map(|(name, _)| name.clone()).collect();
        RowReader::with_known(read, known)
    }

    fn with_known(columns: Vec<(String, ColumnKind)>, known: HashSet<String>) -> RowReader {
        let fields: Vec<Field> = columns.iter().map(|(name, kind)| Field::new(name, arrow_type(*kind), true)).collect();
        RowReader { schema: Arc::new(Schema::new(fields)), columns, known }
    }

    /// A canonical batch with the columns in the order given to [`RowReader::new`]. A column that a row lacks is null
    /// there. Any problem in any row is an error; all of them are returned, by row.
    pub fn read(&self, rows: &[Map<String, Value>]) -> Result<RecordBatch, Vec<RowProblem>> {
        let mut problems = Vec::new();
        for (row, map) in rows.iter().enumerate() {
            for name in map.keys().filter(|name| !self.known.contains(*name)) {
                problems.push(RowProblem { row, column: name.clone(), what: self.stranger(name) });
            }
        }
        let arrays = self.columns.iter().map(|(name, kind)| self.column(name, *kind, rows, &mut problems)).collect();
        if !problems.is_empty() {
            problems.sort_by_key(|problem| problem.row);
            return Err(problems);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options);
        Ok(batch.expect("arrays are built to the schema"))
    }

    fn column(
        &self,
        name: &str,
        kind: ColumnKind,
        rows: &[Map<String, Value>],
        problems: &mut Vec<RowProblem>,
    ) -> ArrayRef {
        match kind {
            ColumnKind::Bool => Arc::new(parse::<BooleanArray, _>(name, kind, rows, problems, Value::as_bool)),
            ColumnKind::Int => Arc::new(parse::<Int64Array, _>(name, kind, rows, problems, int)),
            ColumnKind::Float => Arc::new(parse::<Float64Array, _>(name, kind, rows, problems, float)),
            ColumnKind::String => Arc::new(parse::<StringArray, _>(name, kind, rows, problems, Value::as_str)),
            ColumnKind::Timestamp => {
                let array: TimestampMicrosecondArray = parse(name, kind, rows, problems, instant);
                Arc::new(array.with_timezone("UTC"))
            }
        }
    }

    fn stranger(&self, name: &str) -> String {
        let hint = suggest::hint(name, self.known.iter().map(String::as_str));
        format!("the contract does not declare it{hint}")
    }
}

/// Reads rows once; see [`RowReader`] for reading often.
pub fn rows_from_json(
    contract: &Contract,
    columns: &[String],
    rows: &[Map<String, Value>],
) -> Result<RecordBatch, Vec<RowProblem>> {
    RowReader::new(contract, columns).read(rows)
}

/// One row of a canonical batch as [`rows_from_json`] reads it: the same bits come back, except that NaN is null.
pub fn row_to_json(batch: &RecordBatch, row: usize) -> Map<String, Value> {
    let mut map = Map::new();
    for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        let value = Values::of_any(array, field.name()).map_or(Value::Null, |values| value_of(&values, row));
        map.insert(field.name().clone(), value);
    }
    map
}

fn value_of(values: &Values<'_>, row: usize) -> Value {
    if values.is_null(row) {
        return Value::Null;
    }
    match values {
        Values::Bool(array) => Value::from(array.value(row)),
        Values::Int(array) => Value::from(array.value(row)),
        Values::Float(array) => match array.value(row) {
            f64::INFINITY => Value::from(INFINITY),
            f64::NEG_INFINITY => Value::from(NEGATIVE_INFINITY),
            value => Value::from(value),
        },
        Values::Text(array) => Value::from(array.value(row)),
        Values::Time(array) => Value::from(Timestamp(array.value(row)).to_string()),
    }
}

/// Reads one column of all rows; what cannot be read is noted and null.
fn parse<'a, A, T>(
    name: &str,
    kind: ColumnKind,
    rows: &'a [Map<String, Value>],
    problems: &mut Vec<RowProblem>,
    convert: impl Fn(&'a Value) -> Option<T>,
) -> A
where
    A: FromIterator<Option<T>>,
{
    let read = |(row, map): (usize, &'a Map<String, Value>)| match map.get(name) {
        None | Some(Value::Null) => None,
        Some(value) => {
            let found = convert(value);
            if found.is_none() {
                problems.push(RowProblem { row, column: name.to_owned(), what: refusal(value, kind) });
            }
            found
        }
    };
    rows.iter().enumerate().map(read).collect()
}

pub(crate) fn int(value: &Value) -> Option<i64> {
    let number = value.as_number()?;
    number.as_i64().or_else(|| number.is_f64().then(|| number.as_f64().and_then(integral)).flatten())
}

pub(crate) fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(word) if word == INFINITY => Some(f64::INFINITY),
        Value::String(word) if word == NEGATIVE_INFINITY => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

pub(crate) fn instant(value: &Value) -> Option<i64> {
    let at: Timestamp = value.as_str()?.parse().ok()?;
    is_writable(at.0).then_some(at.0)
}

/// The value (shortened), what was expected, and what to do.
pub(crate) fn refusal(value: &Value, kind: ColumnKind) -> String {
    const SHOWN: usize = 60;
    let mut shown = value.to_string();
    if shown.chars().count() > SHOWN {
        shown = shown.chars().take(SHOWN).chain("…".chars()).collect();
    }
    let remedy = match (kind, value) {
        (ColumnKind::Bool, _) => "send true, false or null".to_owned(),
        (ColumnKind::Int | ColumnKind::Float, Value::String(text)) if text.trim().parse::<f64>().is_ok() => {
            format!("send {} without quotes", text.trim())
        }
        (ColumnKind::Int, Value::Number(_)) => "send a whole number of 64 bits, or null".to_owned(),
        (ColumnKind::Int | ColumnKind::Float, _) => "send a number, or null where it is not known".to_owned(),
        (ColumnKind::String, Value::Number(number)) => format!("send \"{number}\" in quotes"),
        (ColumnKind::String, _) => "send a string in quotes, or null".to_owned(),
        (ColumnKind::Timestamp, _) => "send RFC 3339 such as \"2013-04-01T05:00:00Z\", or null".to_owned(),
    };
    format!("{shown} is not {}; {remedy}", expected(kind))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{canonical_batches, column, contract};
    use proptest::prelude::*;
    use serde_json::json;

    fn example() -> Contract {
        contract(vec![
            column("late", ColumnKind::Bool),
            column("flight", ColumnKind::Int),
            column("distance", ColumnKind::Float),
            column("carrier", ColumnKind::String),
            column("at", ColumnKind::Timestamp),
        ])
    }

    fn read(row: Value) -> Result<RecordBatch, Vec<RowProblem>> {
        let contract = example();
        let columns: Vec<String> = contract.column_names().map(str::to_owned).collect();
        rows_from_json(&contract, &columns, &[row.as_object().unwrap().clone()])
    }

    #[track_caller]
    fn refused(row: Value, expected: &str) {
        let problems = read(row).unwrap_err();
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(lines, [expected]);
    }

    #[test]
    fn a_row_becomes_a_batch_and_comes_back() {
        let row =
            json!({"late": true, "flight": 1545, "distance": 1400, "carrier": "UA", "at": "2013-04-01T05:15:00Z"});
        let batch = read(row).unwrap();
        let back =
            json!({"late": true, "flight": 1545, "distance": 1400.0, "carrier": "UA", "at": "2013-04-01T05:15:00Z"});
        assert_eq!(Value::Object(row_to_json(&batch, 0)), back);
        assert!(row_to_json(&read(json!({"flight": 3.0})).unwrap(), 0)["carrier"].is_null());
    }

    #[test]
    fn wrong_values_are_explained() {
        refused(
            json!({"flight": "1545"}),
            "row 0: column \"flight\": \"1545\" is not an int (a whole number of 64 bits); send 1545 without quotes",
        );
        refused(
            json!({"flight": 1.5}),
            "row 0: column \"flight\": 1.5 is not an int (a whole number of 64 bits); send a whole number of 64 bits, or null",
        );
        refused(json!({"carrier": 9}), "row 0: column \"carrier\": 9 is not a string; send \"9\" in quotes");
        refused(json!({"late": 1}), "row 0: column \"late\": 1 is not a bool; send true, false or null");
        refused(
            json!({"at": 1364774400}),
            "row 0: column \"at\": 1364774400 is not an instant of the years 0 to 9999; send RFC 3339 such as \"2013-04-01T05:00:00Z\", or null",
        );
        refused(
            json!({"distence": 1}),
            "row 0: column \"distence\": the contract does not declare it; did you mean \"distance\"?",
        );
    }

    #[test]
    fn numbers_beyond_64_bits_are_refused_for_ints() {
        for number in [json!(u64::MAX), json!(1e300), json!(9.3e18)] {
            assert_eq!(read(json!({"flight": number})).unwrap_err().len(), 1);
        }
        assert!(read(json!({"flight": i64::MIN, "distance": u64::MAX})).is_ok());
    }

    proptest! {
        #[test]
        fn rows_survive_json_text_exactly(batch in canonical_batches(1..6)) {
            let contract = crate::testing::wide_contract();
            let columns: Vec<String> = contract.column_names().map(str::to_owned).collect();
            let rows: Vec<Map<String, Value>> = (0..batch.num_rows())
                .map(|row| {
                    let text = serde_json::to_string(&row_to_json(&batch, row)).unwrap();
                    serde_json::from_str(&text).unwrap()
                })
                .collect();
            let back = rows_from_json(&contract, &columns, &rows).unwrap();
            for (a, b) in batch.columns().iter().zip(back.columns()) {
                prop_assert_eq!(crate::testing::bits(a), crate::testing::bits(b));
            }
        }
    }
}
