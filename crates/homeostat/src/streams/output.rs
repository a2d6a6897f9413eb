//! What a stream gives, as rows of its tables: for each declared window a table of closed windows and their corrections,
//! and one of the events that are not counted, with the reason.

use super::decode::{Taken, raw};
use anyhow::Result;
use arrow::array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array,
    UInt64Array,
};
use features::windows::{Emission, Limit, Pushed, Value, Window};
use serde_json::Value as Json;
use std::sync::Arc;
use storage::streams::Rows;
use vocabulary::Timestamp;
use vocabulary::contract::ColumnKind;
use vocabulary::stream::{StreamFeature, StreamSpec};

/// The table of events that are not counted.
pub const ASIDE: &str = "not_counted";

/// The name of a window's table; a window can't take the other's.
pub fn table_of(window: &str) -> String {
    format!("window={window}")
}

/// How a declared window's rows look.
pub struct Columns {
    table: String,
    key: Vec<(String, ColumnKind)>,
    features: Vec<StreamFeature>,
}

impl Columns {
    /// Of each window, in order.
    pub fn of(spec: &StreamSpec) -> Vec<Columns> {
        let key: Vec<_> =
            spec.key.iter().map(|name| (name.clone(), spec.column(name).unwrap_or(ColumnKind::String))).collect();
        spec.windows
            .iter()
            .map(|window| {
                let alone = StreamSpec { windows: vec![window.clone()], ..spec.clone() };
                Columns { table: table_of(&window.name), key: key.clone(), features: alone.features() }
            })
            .collect()
    }

    pub fn table(&self) -> &str {
        &self.table
    }

    /// `windows` are all of this one.
    pub fn batch(&self, windows: &[&Window]) -> Result<RecordBatch> {
        let keys: Vec<Vec<Json>> = windows.iter().map(|window| window.key.to_json()).collect();
        let mut columns: Vec<(String, ArrayRef, bool)> = Vec::new();
        for (place, (name, kind)) in self.key.iter().enumerate() {
            let values = keys.iter().map(|key| key.get(place).unwrap_or(&Json::Null));
            columns.push((name.clone(), key_column(*kind, values), false));
        }
        let instants = |values: &mut dyn Iterator<Item = Timestamp>| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from_iter_values(values.map(|at| at.0)).with_timezone("UTC"))
        };
        columns.push(("window_start".to_owned(), instants(&mut windows.iter().map(|w| w.start)), false));
        columns.push(("window_end".to_owned(), instants(&mut windows.iter().map(|w| w.end)), false));
        let panes = UInt32Array::from_iter_values(windows.iter().map(|window| window.pane));
        columns.push(("pane".to_owned(), Arc::new(panes), false));
        let emissions = StringArray::from_iter_values(windows.iter().map(|window| emission(window.emission)));
        columns.push(("emission".to_owned(), Arc::new(emissions), false));
        for (place, feature) in self.features.iter().enumerate() {
            let values = windows.iter().map(|window| window.values.get(place).unwrap_or(&Value::Null));
            let array: ArrayRef = match feature.kind {
                ColumnKind::String => Arc::new(StringArray::from_iter(values.map(|value| match value {
                    Value::Text(text) => Some(&**text),
                    _ => None,
                }))),
                _ => Arc::new(Float64Array::from_iter(values.map(Value::as_number))),
            };
            columns.push((feature.name.clone(), array, true));
        }
        Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
    }
}

fn emission(emission: Emission) -> &'static str {
    match emission {
        Emission::Closed => "closed",
        Emission::Corrected => "corrected",
        Emission::Withdrawn => "withdrawn",
    }
}

fn key_column<'a>(kind: ColumnKind, values: impl Iterator<Item = &'a Json>) -> ArrayRef {
    match kind {
        ColumnKind::Bool => Arc::new(values.map(Json::as_bool).collect::<BooleanArray>()),
        ColumnKind::Int => Arc::new(values.map(Json::as_i64).collect::<Int64Array>()),
        ColumnKind::Timestamp => {
            let instants = values.map(|value| Some(value.as_str()?.parse::<Timestamp>().ok()?.0));
            Arc::new(instants.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
        }
        ColumnKind::String | ColumnKind::Float => Arc::new(values.map(Json::as_str).collect::<StringArray>()),
    }
}

/// Events that are not counted, on their way into their table.
#[derive(Default)]
pub struct Aside {
    partition: Vec<String>,
    number: Vec<u64>,
    arrived: Vec<Option<i64>>,
    time: Vec<Option<i64>>,
    reason: Vec<&'static str>,
    what: Vec<Option<String>>,
    event: Vec<String>,
}

/// Why an event is not counted; none where it is, or was before.
pub fn reason(pushed: Pushed) -> Option<&'static str> {
    match pushed {
        Pushed::Accepted | Pushed::Duplicate => None,
        Pushed::TooLate => Some("too_late"),
        Pushed::Ahead => Some("ahead"),
        Pushed::Refused(Limit::Keys) => Some("limit_keys"),
        Pushed::Refused(Limit::Tiles) => Some("limit_tiles"),
        Pushed::Refused(Limit::Events) => Some("limit_events"),
        Pushed::Refused(Limit::Duplicates) => Some("limit_duplicates"),
    }
}

/// An event that could not be read.
pub const MALFORMED: &str = "malformed";

impl Aside {
    pub fn add(&mut self, partition: &str, taken: &Taken, reason: &'static str, rows: &Rows) {
        self.partition.push(partition.to_owned());
        self.number.push(taken.number);
        self.arrived.push(taken.arrived.map(|at| at.0));
        self.time.push(taken.event.as_ref().ok().map(|event| event.time.0));
        self.reason.push(reason);
        self.what.push(taken.event.as_ref().err().cloned());
        self.event.push(raw(rows, taken.number));
    }

    /// Takes the rows out.
    pub fn batch(&mut self) -> Result<RecordBatch> {
        let Aside { partition, number, arrived, time, reason, what, event } = std::mem::take(self);
        let instants =
            |values: Vec<Option<i64>>| Arc::new(TimestampMicrosecondArray::from(values).with_timezone("UTC"));
        let columns: Vec<(&str, ArrayRef, bool)> = vec![
            ("partition", Arc::new(StringArray::from(partition)), false),
            ("number", Arc::new(UInt64Array::from(number)), false),
            ("arrived", instants(arrived), true),
            ("time", instants(time), true),
            ("reason", Arc::new(StringArray::from(reason)), false),
            ("what", Arc::new(StringArray::from(what)), true),
            ("event", Arc::new(StringArray::from(event)), false),
        ];
        Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
    }
}
