//! Accepted events as rows of a table and back, for the history that a stream keeps. What is read is the event that was
//! counted, to the bit. Knows no disk: who calls has the table.
//!
//! The columns: `number` (of the events accepted, from 1), `time`, `known_at`, `key.NAME` for each key column, `id` where
//! the stream has one, and `of.NAME` for each aggregated column (a text, or a number as the windows see it).

use super::event::{Event, Value};
use super::key::{Key, Part};
use super::reader::{batch_part, batch_value, value_columns};
use crate::FeatureError;
use crate::columns::{Values, column_index};
use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt64Array,
};
use std::sync::Arc;
use vocabulary::contract::ColumnKind;
use vocabulary::stream::StreamSpec;
use vocabulary::time::Timestamp;

/// An event that was counted.
#[derive(Clone, Debug, PartialEq)]
pub struct Counted {
    /// How many events the stream had accepted with it.
    pub number: u64,
    pub event: Event,
}

/// How a stream's events look as a table.
#[derive(Clone, Debug)]
pub struct EventTable {
    stream: String,
    /// Name in the table, and type.
    key: Vec<(String, ColumnKind)>,
    id: Option<ColumnKind>,
    values: Vec<(String, ColumnKind)>,
}

impl EventTable {
    /// Of a declaration without problems.
    pub fn new(spec: &StreamSpec) -> EventTable {
        let kind = |name: &String| spec.column(name).unwrap_or(ColumnKind::String);
        let value = |kind| if kind == ColumnKind::String { kind } else { ColumnKind::Float };
        EventTable {
            stream: spec.name.clone(),
            key: spec.key.iter().map(|name| (format!("key.{name}"), kind(name))).collect(),
            id: spec.id.as_ref().map(kind),
            values: value_columns(spec).into_iter().map(|(name, kind)| (format!("of.{name}"), value(kind))).collect(),
        }
    }

    /// The events as rows, in order.
    pub fn batch(&self, events: &[Counted]) -> Result<RecordBatch, FeatureError> {
        let of = |instant: &dyn Fn(&Event) -> Option<i64>| -> ArrayRef {
            let all: TimestampMicrosecondArray = events.iter().map(|counted| instant(&counted.event)).collect();
            Arc::new(all.with_timezone("UTC"))
        };
        let numbers = UInt64Array::from_iter_values(events.iter().map(|counted| counted.number));
        let mut columns: Vec<(String, ArrayRef, bool)> = vec![
            ("number".to_owned(), Arc::new(numbers), false),
            ("time".to_owned(), of(&|event| Some(event.time.0)), false),
            ("known_at".to_owned(), of(&|event| event.known_at.map(|at| at.0)), true),
        ];
        let keys: Vec<Vec<serde_json::Value>> = events.iter().map(|counted| counted.event.key.to_json()).collect();
        for (place, (name, kind)) in self.key.iter().enumerate() {
            let parts = keys.iter().map(|key| key.get(place).cloned());
            columns.push((name.clone(), parts_array(*kind, parts), false));
        }
        if let Some(kind) = self.id {
            let ids = events.iter().map(|counted| counted.event.id.as_ref()?.to_json().pop());
            columns.push(("id".to_owned(), parts_array(kind, ids), true));
        }
        for (place, (name, kind)) in self.values.iter().enumerate() {
            let values = events.iter().map(|counted| counted.event.values.get(place).unwrap_or(&Value::Null));
            columns.push((name.clone(), values_array(*kind, values), true));
        }
        Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
    }

    /// The events of rows that [`EventTable::batch`] made.
    ///
    /// # Errors
    /// Where a column is missing or of another type: the table was made under another declaration.
    pub fn read(&self, batch: &RecordBatch) -> Result<Vec<Counted>, FeatureError> {
        let column = |name: &str, kind| {
            let place = column_index(batch.schema_ref(), name, usize::MAX)?;
            Values::new(batch.column(place), name, kind)
        };
        let place = column_index(batch.schema_ref(), "number", 0)?;
        let numbers = batch.column(place).as_any().downcast_ref::<UInt64Array>().ok_or_else(|| self.wrong("number"))?;
        let (time, known) = (column("time", ColumnKind::Timestamp)?, column("known_at", ColumnKind::Timestamp)?);
        let key = self.key.iter().map(|(name, kind)| column(name, *kind)).collect::<Result<Vec<_>, _>>()?;
        let id = self.id.map(|kind| column("id", kind)).transpose()?;
        let values = self.values.iter().map(|(name, kind)| column(name, *kind)).collect::<Result<Vec<_>, _>>()?;
        let mut events = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let parts = key.iter().map(|values| batch_part(values, row)).collect::<Option<Vec<_>>>();
            let event = Event {
                time: time.micros(row).map(Timestamp).ok_or_else(|| self.wrong("time"))?,
                known_at: known.micros(row).map(Timestamp),
                key: Key::of(parts.ok_or_else(|| self.wrong("key"))?),
                id: id.as_ref().and_then(|values| batch_part(values, row)).map(|part| Key::of([part])),
                values: values.iter().map(|values| batch_value(values, row)).collect(),
            };
            events.push(Counted { number: numbers.value(row), event });
        }
        Ok(events)
    }

    fn wrong(&self, column: &str) -> FeatureError {
        let what =
            format!("history of stream \"{}\": column \"{column}\" is not as this program writes it", self.stream);
        FeatureError::Declaration(what)
    }
}

/// Parts of a key as it shows them in JSON.
fn parts_array(kind: ColumnKind, parts: impl Iterator<Item = Option<serde_json::Value>>) -> ArrayRef {
    match kind {
        ColumnKind::Bool => Arc::new(parts.map(|part| part?.as_bool()).collect::<BooleanArray>()),
        ColumnKind::Int => Arc::new(parts.map(|part| part?.as_i64()).collect::<Int64Array>()),
        ColumnKind::Timestamp => {
            let instants = parts.map(|part| Some(part?.as_str()?.parse::<Timestamp>().ok()?.0));
            Arc::new(instants.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
        }
        ColumnKind::String | ColumnKind::Float => {
            Arc::new(parts.map(|part| Some(part?.as_str()?.to_owned())).collect::<StringArray>())
        }
    }
}

/// Values of events or of features as a column.
pub(super) fn values_array<'a>(kind: ColumnKind, values: impl Iterator<Item = &'a Value>) -> ArrayRef {
    match kind {
        ColumnKind::String => Arc::new(StringArray::from_iter(values.map(|value| match value {
            Value::Text(text) => Some(&**text),
            _ => None,
        }))),
        _ => Arc::new(Float64Array::from_iter(values.map(Value::as_number))),
    }
}

/// A key from the JSON values that [`Key::to_json`] gives; none where one is not of its column's type.
pub fn key_from_json(kinds: &[ColumnKind], values: &[serde_json::Value]) -> Option<Key> {
    if kinds.len() != values.len() {
        return None;
    }
    let part = |(kind, value): (&ColumnKind, &serde_json::Value)| -> Option<PartOf> {
        Some(match kind {
            ColumnKind::Bool => PartOf::Bool(value.as_bool()?),
            ColumnKind::Int => PartOf::Int(value.as_i64()?),
            ColumnKind::Timestamp => PartOf::Time(value.as_str()?.parse().ok()?),
            ColumnKind::String | ColumnKind::Float => PartOf::Text(value.as_str()?.to_owned()),
        })
    };
    let parts = kinds.iter().zip(values).map(part).collect::<Option<Vec<_>>>()?;
    Some(Key::of(parts.iter().map(|part| match part {
        PartOf::Bool(value) => Part::Bool(*value),
        PartOf::Int(value) => Part::Int(*value),
        PartOf::Time(at) => Part::Time(*at),
        PartOf::Text(text) => Part::Text(text),
    })))
}

enum PartOf {
    Bool(bool),
    Int(i64),
    Time(Timestamp),
    Text(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_come_back_to_the_bit_and_another_declaration_is_refused() {
        let spec = json!({
            "name": "clicks", "time": "at", "key": ["user", "day"], "id": "id", "source": {"kind": "http"},
            "column": [{"name": "at", "type": "timestamp"}, {"name": "user", "type": "string"},
                {"name": "day", "type": "timestamp"}, {"name": "id", "type": "int"},
                {"name": "price", "type": "float"}, {"name": "shop", "type": "string"}, {"name": "new", "type": "bool"}],
            "window": [{"name": "day", "kind": "tumbling", "size": "1d", "aggregate": [
                {"name": "paid", "of": "price", "as": "sum"}, {"name": "shops", "of": "shop", "as": "distinct"},
                {"name": "new", "of": "new", "as": "sum"}]}],
        });
        let spec: StreamSpec = serde_json::from_value(spec).unwrap();
        let table = EventTable::new(&spec);
        let event = |number: u64, user: &str, price: Value| Counted {
            number,
            event: Event {
                time: Timestamp(number as i64 * 7),
                known_at: (number != 2).then_some(Timestamp(number as i64 * 9)),
                key: Key::of([Part::Text(user), Part::Time(Timestamp(1_709_200_000_123_456))]),
                id: Some(Key::of([Part::Int(-5)])),
                values: vec![price, Value::Text("Ö\0".into()), Value::Number(1.0)],
            },
        };
        let events =
            [event(1, "a", Value::Number(0.1)), event(2, "", Value::Null), event(9, "z", Value::Number(-3e300))];
        let batch = table.batch(&events).unwrap();
        assert_eq!(table.read(&batch).unwrap(), events);
        let kinds = [ColumnKind::String, ColumnKind::Timestamp];
        assert_eq!(key_from_json(&kinds, &events[0].event.key.to_json()), Some(events[0].event.key.clone()));
        assert_eq!(key_from_json(&kinds, &[json!(1), json!("x")]), None);
        let mut other = spec.clone();
        other.windows[0].aggregates[0].of = Some("other".to_owned());
        other.columns.push(vocabulary::stream::StreamColumn { name: "other".to_owned(), kind: ColumnKind::Float });
        assert!(EventTable::new(&other).read(&batch).unwrap_err().to_string().contains("of.other"));
    }
}
