//! Events from JSON objects and from Arrow batches, strictly typed. Columns that the stream does not use are passed over.

use super::event::{Event, Value};
use super::key::{KEY_BYTES_MAX, Key, Part};
use crate::canonical::canonical;
use crate::columns::Values;
use crate::hash::Atom;
use crate::rows::{float, instant, int, refusal};
use crate::{FeatureError, RowProblem};
use arrow::record_batch::RecordBatch;
use serde_json::Map;
use vocabulary::contract::{Column, ColumnKind, Contract};
use vocabulary::stream::StreamSpec;
use vocabulary::time::Timestamp;

/// Reads the events of a stream; made once.
#[derive(Clone, Debug)]
pub struct EventReader {
    time: String,
    known_at: Option<String>,
    key: Vec<(String, ColumnKind)>,
    id: Option<(String, ColumnKind)>,
    values: Vec<(String, ColumnKind)>,
    /// The columns used, for casting batches.
    contract: Contract,
}

/// The aggregated columns, each once, in the order in which they are first named.
pub(super) fn value_columns(spec: &StreamSpec) -> Vec<(String, ColumnKind)> {
    let mut columns: Vec<(String, ColumnKind)> = Vec::new();
    for of in spec.windows.iter().flat_map(|window| &window.aggregates).filter_map(|aggregate| aggregate.of.as_ref()) {
        if !columns.iter().any(|(name, _)| name == of)
            && let Some(kind) = spec.column(of)
        {
            columns.push((of.clone(), kind));
        }
    }
    columns
}

impl EventReader {
    /// Fails where the declaration has problems.
    pub fn new(spec: &StreamSpec) -> Result<EventReader, FeatureError> {
        if let Some(problem) = spec.problems().first() {
            return Err(FeatureError::Declaration(problem.to_string()));
        }
        let typed = |name: &String| Some((name.clone(), spec.column(name)?));
        let used = spec.used_columns();
        let columns = spec.columns.iter().filter(|column| used.contains(&column.name.as_str()));
        let columns = columns.map(|column| Column::new(&column.name, column.kind)).collect();
        Ok(EventReader {
            time: spec.time.clone(),
            known_at: spec.known_at.clone(),
            key: spec.key.iter().filter_map(typed).collect(),
            id: spec.id.as_ref().and_then(typed),
            values: value_columns(spec),
            contract: Contract::new(&spec.name, columns),
        })
    }

    /// The event of a JSON object; the problem's row is 0.
    pub fn read(&self, row: &Map<String, serde_json::Value>) -> Result<Event, RowProblem> {
        let mut bytes = Vec::with_capacity(self.key.len());
        for (name, kind) in &self.key {
            bytes.push(json_part(row, name, *kind)?);
        }
        let id = match &self.id {
            Some((name, kind)) => Some(Key::of([json_part(row, name, *kind)?])),
            None => None,
        };
        let known_at = match &self.known_at {
            Some(name) => Some(json_time(row, name)?),
            None => None,
        };
        let values = self.values.iter().map(|(name, kind)| json_value(row, name, *kind)).collect::<Result<_, _>>()?;
        let event = Event { time: json_time(row, &self.time)?, known_at, key: Key::of(bytes), id, values };
        match self.too_long(&event) {
            Some(column) => Err(problem(column, too_long())),
            None => Ok(event),
        }
    }

    /// The events of a batch of any types that can be cast, in its order. Fails at the first that cannot be read.
    pub fn read_batch(&self, batch: &RecordBatch) -> Result<Vec<Event>, FeatureError> {
        let batch = canonical(batch, &self.contract)?;
        let column = |name: &str, kind: ColumnKind| {
            let place = self.contract.columns.iter().position(|column| column.name == name);
            Values::new(batch.column(place.expect("a used column is of the contract")), name, kind)
        };
        let columns = |named: &[(String, ColumnKind)]| {
            named.iter().map(|(name, kind)| column(name, *kind)).collect::<Result<Vec<_>, _>>()
        };
        let time = column(&self.time, ColumnKind::Timestamp)?;
        let known_at = self.known_at.as_ref().map(|name| column(name, ColumnKind::Timestamp)).transpose()?;
        let id = self.id.as_ref().map(|(name, kind)| column(name, *kind)).transpose()?;
        let (keys, values) = (columns(&self.key)?, columns(&self.values)?);
        let mut events = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let missing = |name: &str| FeatureError::Value {
                column: name.to_owned(),
                row,
                value: "null".to_owned(),
                expected: "a value that every event of the stream has",
            };
            let instant = |values: &Values<'_>, name| values.micros(row).map(Timestamp).ok_or_else(|| missing(name));
            let mut parts = Vec::with_capacity(keys.len());
            for (values, (name, _)) in keys.iter().zip(&self.key) {
                parts.push(batch_part(values, row).ok_or_else(|| missing(name))?);
            }
            let event = Event {
                time: instant(&time, &self.time)?,
                known_at: match (&known_at, &self.known_at) {
                    (Some(values), Some(name)) => Some(instant(values, name)?),
                    _ => None,
                },
                key: Key::of(parts),
                id: match (&id, &self.id) {
                    (Some(values), Some((name, _))) => {
                        Some(Key::of([batch_part(values, row).ok_or_else(|| missing(name))?]))
                    }
                    _ => None,
                },
                values: values.iter().map(|values| batch_value(values, row)).collect(),
            };
            if let Some(column) = self.too_long(&event) {
                let what = FeatureError::Value {
                    column: column.to_owned(),
                    row,
                    value: "the value".to_owned(),
                    expected: "short enough for a key (1024 bytes)",
                };
                return Err(what);
            }
            events.push(event);
        }
        Ok(events)
    }

    /// The column of the key or identifier that is too long.
    fn too_long(&self, event: &Event) -> Option<&str> {
        let long = |key: &Key| key.as_bytes().len() > KEY_BYTES_MAX;
        if long(&event.key) {
            return self.key.first().map(|(name, _)| name.as_str());
        }
        let id = event.id.as_ref().filter(|id| long(id));
        id.and(self.id.as_ref()).map(|(name, _)| name.as_str())
    }
}

fn problem(column: &str, what: String) -> RowProblem {
    RowProblem { row: 0, column: column.to_owned(), what }
}

fn too_long() -> String {
    format!("the key or identifier is longer than {KEY_BYTES_MAX} bytes; send a shorter one, or its hash")
}

type Row = Map<String, serde_json::Value>;

/// A value that must be there.
fn needed<'a>(row: &'a Row, name: &str) -> Result<&'a serde_json::Value, RowProblem> {
    row.get(name)
        .filter(|value| !value.is_null())
        .ok_or_else(|| problem(name, "is missing; every event of the stream needs it".to_owned()))
}

fn json_part<'a>(row: &'a Row, name: &str, kind: ColumnKind) -> Result<Part<'a>, RowProblem> {
    let value = needed(row, name)?;
    let part = match kind {
        ColumnKind::Bool => value.as_bool().map(Part::Bool),
        ColumnKind::Int => int(value).map(Part::Int),
        ColumnKind::String => value.as_str().map(Part::Text),
        ColumnKind::Timestamp => instant(value).map(|at| Part::Time(Timestamp(at))),
        ColumnKind::Float => None,
    };
    part.ok_or_else(|| problem(name, refusal(value, kind)))
}

fn json_time(row: &Row, name: &str) -> Result<Timestamp, RowProblem> {
    let value = needed(row, name)?;
    instant(value).map(Timestamp).ok_or_else(|| problem(name, refusal(value, ColumnKind::Timestamp)))
}

fn json_value(row: &Row, name: &str, kind: ColumnKind) -> Result<Value, RowProblem> {
    let Some(value) = row.get(name).filter(|value| !value.is_null()) else {
        return Ok(Value::Null);
    };
    let read = match kind {
        ColumnKind::Bool => value.as_bool().map(|value| Value::Number(f64::from(u8::from(value)))),
        ColumnKind::Int => int(value).map(|value| Value::Number(value as f64)),
        ColumnKind::Float => float(value).map(Value::number),
        ColumnKind::String => value.as_str().map(|text| Value::Text(text.into())),
        ColumnKind::Timestamp => instant(value).map(|at| Value::Number(at as f64)),
    };
    read.ok_or_else(|| problem(name, refusal(value, kind)))
}

pub(super) fn batch_part<'a>(values: &Values<'a>, row: usize) -> Option<Part<'a>> {
    if let Some(at) = values.micros(row) {
        return Some(Part::Time(Timestamp(at)));
    }
    match values.atom(row) {
        Atom::Null => None,
        Atom::Bool(value) => Some(Part::Bool(value)),
        Atom::Int(value) => Some(Part::Int(value)),
        Atom::Text(text) => Some(Part::Text(text)),
    }
}

pub(super) fn batch_value(values: &Values<'_>, row: usize) -> Value {
    match (values, values.atom(row)) {
        (Values::Text(_), Atom::Text(text)) => Value::Text(text.into()),
        (Values::Time(_), _) => values.micros(row).map_or(Value::Null, |at| Value::Number(at as f64)),
        _ => values.number(row).map_or(Value::Null, Value::number),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use serde_json::json;
    use std::sync::Arc;

    fn reader() -> EventReader {
        let spec = json!({
            "name": "clicks", "time": "at", "known_at": "seen", "key": ["user", "shop"], "id": "id",
            "source": {"kind": "http"},
            "column": [
                {"name": "at", "type": "timestamp"}, {"name": "seen", "type": "timestamp"},
                {"name": "user", "type": "int"}, {"name": "shop", "type": "string"}, {"name": "id", "type": "string"},
                {"name": "price", "type": "float"}, {"name": "unused", "type": "float"},
            ],
            "window": [{"name": "day", "kind": "tumbling", "size": "1d", "aggregate": [
                {"name": "paid", "of": "price", "as": "sum"}, {"name": "shops", "of": "shop", "as": "distinct"}]}],
        });
        EventReader::new(&serde_json::from_value(spec).unwrap()).unwrap()
    }

    fn read(row: serde_json::Value) -> Result<Event, String> {
        reader().read(row.as_object().unwrap()).map_err(|problem| problem.to_string())
    }

    fn row() -> serde_json::Value {
        json!({"at": "2013-04-01T05:00:00Z", "seen": "2013-04-01T05:00:02Z", "user": 7, "shop": "Ö", "id": "a", "price": -0.0,
               "other": [1]})
    }

    #[test]
    fn json_and_arrow_give_the_same_event() {
        let event = read(row()).unwrap();
        assert_eq!(event.key.to_json(), [json!(7), json!("Ö")]);
        assert!(event.values[0].same(&Value::Number(0.0)) && event.values[1] == Value::Text("Ö".into()));
        let text = |name: &str| Field::new(name, DataType::Utf8, true);
        let fields = ["at", "seen", "shop", "id", "price"].map(text);
        let fields = fields.into_iter().chain([Field::new("user", DataType::Int32, true)]);
        let texts = ["2013-04-01T05:00:00Z", "2013-04-01T05:00:02Z", "Ö", "a", "-0"];
        let mut arrays: Vec<arrow::array::ArrayRef> =
            texts.iter().map(|text| Arc::new(StringArray::from(vec![Some(*text)])) as _).collect();
        arrays.push(Arc::new(Int32Array::from(vec![7])));
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), arrays).unwrap();
        assert_eq!(reader().read_batch(&batch).unwrap(), [event]);
    }

    #[test]
    fn what_cannot_be_read_is_explained() {
        let with = |name: &str, value: serde_json::Value| {
            let mut row = row();
            row[name] = value;
            read(row)
        };
        assert_eq!(with("price", json!(null)).unwrap().values[0], Value::Null);
        assert_eq!(with("price", json!("Infinity")).unwrap().values[0], Value::Null);
        assert_eq!(
            with("user", json!(null)).unwrap_err(),
            "row 0: column \"user\": is missing; every event of the stream needs it"
        );
        assert_eq!(
            with("price", json!("7")).unwrap_err(),
            "row 0: column \"price\": \"7\" is not a float; send 7 without quotes"
        );
        assert!(with("at", json!("soon")).unwrap_err().contains("is not an instant"));
        assert!(with("id", json!("x".repeat(2000))).unwrap_err().contains("longer than 1024 bytes"));
    }
}
