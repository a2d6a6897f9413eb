//! An event as the windows see it.

use super::key::Key;
use std::sync::Arc;
use vocabulary::time::Timestamp;

/// One event. [`super::EventReader`] makes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When it happened.
    pub time: Timestamp,
    /// When it became known: the declared column, or the time of its arrival that the source keeps.
    pub known_at: Option<Timestamp>,
    pub key: Key,
    /// Without one the event is never a duplicate.
    pub id: Option<Key>,
    /// The aggregated columns, in the order of [`super::Engine::columns`].
    pub values: Vec<Value>,
}

/// A value of an event or of a feature. NaN and the infinities do not occur: they are null, and +0 stands for -0.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    #[default]
    Null,
    Number(f64),
    Text(Arc<str>),
}

impl Value {
    /// A number, or null where it is not finite.
    pub fn number(value: f64) -> Value {
        if value.is_finite() { Value::Number(value + 0.0) } else { Value::Null }
    }

    pub fn as_number(&self) -> Option<f64> {
        match self {
            Value::Number(value) => Some(*value),
            _ => None,
        }
    }

    /// Whether both are the same to the last bit.
    pub fn same(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Number(a), Value::Number(b)) => a.to_bits() == b.to_bits(),
            _ => self == other,
        }
    }

    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Value::Null => serde_json::Value::Null,
            Value::Number(value) => serde_json::Value::from(*value),
            Value::Text(text) => serde_json::Value::from(&**text),
        }
    }
}
