//! Looking up what a stream knows about a key at an instant.

use anyhow::{Context, Result, bail};
use features::windows::{Engine, Key, Part};
use serde_json::{Map, Value, json};
use vocabulary::Timestamp;
use vocabulary::contract::ColumnKind;
use vocabulary::stream::StreamSpec;

/// A key as a person writes it: the value of the one key column; of several, a JSON array in their order.
pub fn key_of(spec: &StreamSpec, text: &str) -> Result<Key> {
    let values: Vec<Value> = match spec.key.len() {
        1 => vec![Value::from(text)],
        wanted => {
            let values: Vec<Value> = serde_json::from_str(text)
                .with_context(|| format!("key = {text} is not a JSON array of {}", spec.key.join(", ")))?;
            if values.len() != wanted {
                bail!("key = {text} has {} values; give {wanted}: {}", values.len(), spec.key.join(", "));
            }
            values
        }
    };
    let mut parts = Vec::with_capacity(values.len());
    for (name, value) in spec.key.iter().zip(&values) {
        let kind = spec.column(name).unwrap_or(ColumnKind::String);
        let part =
            part(kind, value).with_context(|| format!("key column \"{name}\": {value} is no {}", kind.name()))?;
        parts.push(part);
    }
    Ok(Key::of(parts))
}

fn part(kind: ColumnKind, value: &Value) -> Option<Part<'_>> {
    let text = value.as_str();
    match kind {
        ColumnKind::Bool => value.as_bool().or_else(|| text?.parse().ok()).map(Part::Bool),
        ColumnKind::Int => value.as_i64().or_else(|| text?.parse().ok()).map(Part::Int),
        ColumnKind::Timestamp => Some(Part::Time(text?.parse().ok()?)),
        ColumnKind::String | ColumnKind::Float => text.map(Part::Text),
    }
}

/// The features of a key at an instant, with the watermark that the answer has seen.
pub fn features(engine: &Engine, key: &Key, at: Timestamp) -> Result<Value> {
    let mut row = Vec::new();
    engine.lookup(key, at, &mut row)?;
    let features: Map<String, Value> =
        engine.features().iter().zip(&row).map(|(feature, value)| (feature.name.clone(), value.to_json())).collect();
    let watermark = Some(engine.watermark()).filter(|at| *at != Timestamp::MIN);
    let stream = &engine.spec().name;
    Ok(json!({ "stream": stream, "key": key.to_json(), "at": at, "watermark": watermark, "features": features }))
}
