//! Rows of a source as events, or what is wrong with each. A row that can't be read is set aside and counted; a table
//! without a column that the stream needs stops the stream, since no row of it would do.

use arrow::array::RecordBatch;
use features::windows::{Event, EventReader};
use features::{FeatureError, RowProblem, RowReader};
use serde_json::{Map, Value};
use storage::streams::{JsonRow, Rows};
use vocabulary::Timestamp;
use vocabulary::contract::{Column, Contract};
use vocabulary::stream::StreamSpec;

/// Characters of a row that are kept of one that was set aside.
const SHOWN_MAX: usize = 4096;

/// Reads the rows of a stream; made once.
pub struct Decoder {
    reader: EventReader,
    /// Names every column that is wrong, where the other names the first.
    strict: RowReader,
    columns: Vec<String>,
    /// Whether the instant of arrival says when an event became known.
    knows_by_arrival: bool,
}

/// A row, read.
pub struct Taken {
    pub number: u64,
    pub arrived: Option<Timestamp>,
    pub event: Result<Event, String>,
}

impl Decoder {
    pub fn new(spec: &StreamSpec) -> Result<Decoder, FeatureError> {
        let columns: Vec<String> = spec.used_columns().into_iter().map(str::to_owned).collect();
        let used = spec.columns.iter().filter(|column| columns.contains(&column.name));
        let contract = Contract::new(&spec.name, used.map(|column| Column::new(&column.name, column.kind)).collect());
        Ok(Decoder {
            reader: EventReader::new(spec)?,
            strict: RowReader::new(&contract, &columns),
            columns,
            knows_by_arrival: spec.known_at.is_none(),
        })
    }

    /// The columns that are used.
    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    /// Everything that is wrong with an event, by column; nothing where it is right.
    pub fn problems(&self, event: &Map<String, Value>) -> Vec<RowProblem> {
        let Err(first) = self.reader.read(event) else { return Vec::new() };
        let used = event.iter().filter(|(name, _)| self.columns.contains(name));
        let used: Map<String, Value> = used.map(|(name, value)| (name.clone(), value.clone())).collect();
        let mut found = self.strict.read(&[used]).err().unwrap_or_default();
        if !found.iter().any(|problem| problem.column == first.column) {
            found.insert(0, first);
        }
        found
    }

    /// Every row that is not blank, in order.
    ///
    /// # Errors
    /// Where the rows are a table that lacks a column or has one of a type that can't be read as declared.
    pub fn decode(&self, rows: &Rows) -> Result<Vec<Taken>, FeatureError> {
        match rows {
            Rows::Columns { first, batch } => self.table(*first, batch),
            Rows::Json(rows) => Ok(rows.iter().filter(|row| !is_blank(row)).map(|row| self.text(row)).collect()),
        }
    }

    fn text(&self, row: &JsonRow) -> Taken {
        let parsed: Result<Map<String, Value>, _> = serde_json::from_slice(&row.text);
        let event = match parsed {
            Ok(parsed) => self.reader.read(&parsed).map_err(|_| said(&self.problems(&parsed))),
            Err(error) => Err(format!("is not a JSON object: {error}")),
        };
        Taken { number: row.number, arrived: row.arrived, event: event.map(|event| self.known(event, row.arrived)) }
    }

    fn known(&self, mut event: Event, arrived: Option<Timestamp>) -> Event {
        if self.knows_by_arrival {
            event.known_at = arrived;
        }
        event
    }

    fn table(&self, first: u64, batch: &RecordBatch) -> Result<Vec<Taken>, FeatureError> {
        let taken = |(row, event)| Taken { number: first + row as u64, arrived: None, event };
        match self.reader.read_batch(batch) {
            Ok(events) => Ok(events.into_iter().map(Ok).enumerate().map(taken).collect()),
            // One row of them can't be read: each by itself, then.
            Err(FeatureError::Value { .. }) => {
                let each = (0..batch.num_rows()).map(|row| {
                    let event = match self.reader.read_batch(&batch.slice(row, 1)) {
                        Ok(mut events) => events.pop().ok_or_else(String::new),
                        Err(FeatureError::Value { column, value, expected, .. }) => {
                            Err(format!("column \"{column}\": {value} is not {expected}"))
                        }
                        Err(error) => return Err(error),
                    };
                    Ok(taken((row, event)))
                });
                each.collect()
            }
            Err(error) => Err(error),
        }
    }
}

fn is_blank(row: &JsonRow) -> bool {
    row.text.iter().all(u8::is_ascii_whitespace)
}

fn said(problems: &[RowProblem]) -> String {
    let each: Vec<String> = problems.iter().map(|p| format!("column \"{}\": {}", p.column, p.what)).collect();
    each.join("; ")
}

/// A row as it came, for whoever looks at what was set aside.
pub fn raw(rows: &Rows, number: u64) -> String {
    let text = match rows {
        Rows::Json(rows) => {
            let place = rows.binary_search_by_key(&number, |row| row.number);
            place.map(|place| String::from_utf8_lossy(&rows[place].text).into_owned()).unwrap_or_default()
        }
        Rows::Columns { first, batch } => {
            let row = batch.slice((number - first) as usize, 1);
            let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
            match writer.write(&row).and_then(|()| writer.finish()) {
                Ok(()) => String::from_utf8_lossy(&writer.into_inner()).trim_end().to_owned(),
                Err(error) => error.to_string(),
            }
        }
    };
    text.chars().take(SHOWN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use std::sync::Arc;

    fn decoder() -> Decoder {
        let text = r#"
            name = "clicks"
            time = "at"
            key = ["user"]
            [source]
            kind = "http"
            [[column]]
            name = "at"
            type = "timestamp"
            [[column]]
            name = "user"
            type = "string"
            [[column]]
            name = "price"
            type = "float"
            [[window]]
            name = "hour"
            kind = "tumbling"
            size = "1h"
            [[window.aggregate]]
            name = "paid"
            of = "price"
            as = "sum"
        "#;
        Decoder::new(&toml::from_str(text).unwrap()).unwrap()
    }

    fn texts(column: &str, values: [&str; 3]) -> (String, ArrayRef) {
        (column.to_owned(), Arc::new(StringArray::from(values.to_vec())))
    }

    #[test]
    fn one_bad_row_of_a_table_is_set_aside_and_a_missing_column_stops() {
        let at = texts("at", ["2024-01-01", "soon", "2024-01-02T03:04:05Z"]);
        let (user, price) = (texts("user", ["a", "b", "c"]), Arc::new(Int64Array::from(vec![1, 2, 3])));
        let batch = RecordBatch::try_from_iter([at.clone(), user, ("price".to_owned(), price as ArrayRef)]).unwrap();
        let rows = Rows::Columns { first: 70, batch };
        let taken = decoder().decode(&rows).unwrap();
        let good: Vec<(u64, bool)> = taken.iter().map(|taken| (taken.number, taken.event.is_ok())).collect();
        assert_eq!(good, [(70, true), (71, false), (72, true)]);
        let said = taken[1].event.as_ref().unwrap_err();
        assert!(said.contains("\"at\"") && said.contains("soon"), "{said}");
        assert_eq!(raw(&rows, 71), r#"{"at":"soon","user":"b","price":2}"#);
        let batch = RecordBatch::try_from_iter([at]).unwrap();
        let error = decoder().decode(&Rows::Columns { first: 0, batch }).err().unwrap().to_string();
        assert!(error.contains("missing"), "{error}");
    }

    #[test]
    fn arrival_says_when_an_event_became_known_and_every_wrong_column_is_named() {
        let row = |number, text: &str| JsonRow { number, arrived: Some(Timestamp(5)), text: text.as_bytes().to_vec() };
        let rows = Rows::Json(vec![
            row(3, r#"{"at": "2024-01-01", "user": "a", "price": 1.5, "more": []}"#),
            row(4, " "),
            row(9, r#"{"at": 7, "price": "1"}"#),
        ]);
        let taken = decoder().decode(&rows).unwrap();
        assert_eq!(taken.len(), 2);
        assert_eq!(taken[0].event.as_ref().unwrap().known_at, Some(Timestamp(5)));
        let said = taken[1].event.as_ref().unwrap_err();
        assert!(["\"at\"", "\"user\"", "\"price\""].iter().all(|column| said.contains(column)), "{said}");
        assert_eq!(raw(&rows, 9), r#"{"at": 7, "price": "1"}"#);
    }
}
