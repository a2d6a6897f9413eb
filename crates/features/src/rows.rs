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
use vocabulary::contract::{Column, ColumnKind, Contract};
use vocabulary::suggest;
use vocabulary::time::Timestamp;

/// JSON has no infinity; a float column takes and gives these words.
const INFINITY: &str = "Infinity";
const NEGATIVE_INFINITY: &str = "-Infinity";

/// Reads rows of some columns of a contract; made once, used for each request.
#[derive(Clone, Debug)]
pub struct RowReader {
    schema: SchemaRef,
    columns: Vec<Source>,
    /// Every column that a row may have.
    known: HashSet<String>,
}

/// A column that is read, and the names under which a row may bring it.
#[derive(Clone, Debug)]
struct Source {
    name: String,
    aliases: Vec<String>,
    kind: ColumnKind,
}

/// What becomes of columns that the contract does not declare.
#[derive(Clone, Copy, Debug)]
pub enum Strangers<'a> {
    /// The row is refused.
    Refuse,
    /// Those among these names are passed over; any other makes the row refused.
    PassOver(&'a HashSet<String>),
    /// All are passed over: in rows that were accepted once.
    PassOverAll,
}

impl RowReader {
    /// `columns` are those to read, such as a pipeline's input columns with the time column; those that the contract
    /// does not declare are ignored.
    pub fn new(contract: &Contract, columns: &[String]) -> RowReader {
        let read = columns.iter().filter_map(|name| contract.column(name));
        let source =
            |column: &Column| Source { name: column.name.clone(), aliases: column.aliases.clone(), kind: column.kind };
        let names = contract.columns.iter().flat_map(|column| std::iter::once(&column.name).chain(&column.aliases));
        RowReader::with_known(read.map(source).collect(), names.cloned().collect())
    }

    pub(crate) fn of_kinds<'a>(columns: impl Iterator<Item = (&'a str, ColumnKind)>) -> RowReader {
        let source = |(name, kind): (&str, ColumnKind)| Source { name: name.to_owned(), aliases: Vec::new(), kind };
        let read: Vec<Source> = columns.map(source).collect();
        let known = read.iter().map(|source| source.name.clone()).collect();
        RowReader::with_known(read, known)
    }

    fn with_known(columns: Vec<Source>, known: HashSet<String>) -> RowReader {
        let field = |source: &Source| Field::new(&source.name, arrow_type(source.kind), true);
        let fields: Vec<Field> = columns.iter().map(field).collect();
        RowReader { schema: Arc::new(Schema::new(fields)), columns, known }
    }

    /// A canonical batch with the columns in the order given to [`RowReader::new`]. A column that a row lacks is null
    /// there. Any problem in any row is an error; all of them are returned, by row.
    pub fn read(&self, rows: &[Map<String, Value>]) -> Result<RecordBatch, Vec<RowProblem>> {
        self.read_with(rows, Strangers::Refuse)
    }

    /// As [`RowReader::read`], with rows that may have other columns.
    pub fn read_with(
        &self,
        rows: &[Map<String, Value>],
        strangers: Strangers<'_>,
    ) -> Result<RecordBatch, Vec<RowProblem>> {
        let mut problems = Vec::new();
        let is_strange = |name: &&String| match strangers {
            _ if self.known.contains(*name) => false,
            Strangers::Refuse => true,
            Strangers::PassOver(names) => !names.contains(*name),
            Strangers::PassOverAll => false,
        };
        for (row, map) in rows.iter().enumerate() {
            for name in map.keys().filter(is_strange) {
                problems.push(RowProblem { row, column: name.clone(), what: self.stranger(name) });
            }
        }
        self.note_doubles(rows, &mut problems);
        let arrays = self.columns.iter().map(|source| self.column(source, rows, &mut problems)).collect();
        if !problems.is_empty() {
            problems.sort_by_key(|problem| problem.row);
            return Err(problems);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options);
        Ok(batch.expect("arrays are built to the schema"))
    }

    /// A row that has a column under several of its names says two things at once.
    fn note_doubles(&self, rows: &[Map<String, Value>], problems: &mut Vec<RowProblem>) {
        for source in self.columns.iter().filter(|source| !source.aliases.is_empty()) {
            for (row, map) in rows.iter().enumerate() {
                let mut names = source.names().filter(|name| map.contains_key(*name));
                if let (Some(first), Some(second)) = (names.next(), names.next()) {
                    let what = format!("it is there twice, as \"{first}\" and as \"{second}\"; send one of them");
                    problems.push(RowProblem { row, column: source.name.clone(), what });
                }
            }
        }
    }

    fn column(&self, source: &Source, rows: &[Map<String, Value>], problems: &mut Vec<RowProblem>) -> ArrayRef {
        match source.kind {
            ColumnKind::Bool => Arc::new(parse::<BooleanArray, _>(source, rows, problems, Value::as_bool)),
            ColumnKind::Int => Arc::new(parse::<Int64Array, _>(source, rows, problems, int)),
            ColumnKind::Float => Arc::new(parse::<Float64Array, _>(source, rows, problems, float)),
            ColumnKind::String => Arc::new(parse::<StringArray, _>(source, rows, problems, Value::as_str)),
            ColumnKind::Timestamp => {
                let array: TimestampMicrosecondArray = parse(source, rows, problems, instant);
                Arc::new(array.with_timezone("UTC"))
            }
        }
    }

    fn stranger(&self, name: &str) -> String {
        let hint = suggest::hint(name, self.known.iter().map(String::as_str));
        format!("the contract does not declare it{hint}")
    }
}

impl Source {
    fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.name.as_str()).chain(self.aliases.iter().map(String::as_str))
    }

    #[inline]
    fn value<'a>(&self, row: &'a Map<String, Value>) -> Option<&'a Value> {
        row.get(&self.name).or_else(|| self.aliases.iter().find_map(|alias| row.get(alias)))
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

pub(crate) fn value_of(values: &Values<'_>, row: usize) -> Value {
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
    source: &Source,
    rows: &'a [Map<String, Value>],
    problems: &mut Vec<RowProblem>,
    convert: impl Fn(&'a Value) -> Option<T>,
) -> A
where
    A: FromIterator<Option<T>>,
{
    let read = |(row, map): (usize, &'a Map<String, Value>)| match source.value(map) {
        None | Some(Value::Null) => None,
        Some(value) => {
            let found = convert(value);
            if found.is_none() {
                problems.push(RowProblem { row, column: source.name.clone(), what: refusal(value, source.kind) });
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
    fn a_row_may_use_an_old_name_and_columns_of_other_versions_are_passed_over() {
        let miles = Column { aliases: vec!["miles".into()], ..column("distance", ColumnKind::Float) };
        let reader = RowReader::new(&contract(vec![miles]), &["distance".to_owned()]);
        let row = |value: Value| [value.as_object().unwrap().clone()];
        let old = reader.read(&row(json!({"miles": 7.5}))).unwrap();
        assert_eq!(row_to_json(&old, 0)["distance"], 7.5);
        let both = reader.read(&row(json!({"miles": 7.5, "distance": 7.5}))).unwrap_err();
        assert_eq!(both[0].what, "it is there twice, as \"distance\" and as \"miles\"; send one of them");
        let stranger = row(json!({"miles": 1, "tax": 2}));
        let known = HashSet::from(["tax".to_owned()]);
        assert!(reader.read(&stranger).is_err());
        assert!(reader.read_with(&stranger, Strangers::PassOver(&HashSet::new())).is_err());
        assert!(reader.read_with(&stranger, Strangers::PassOver(&known)).is_ok());
        assert!(reader.read_with(&stranger, Strangers::PassOverAll).is_ok());
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
