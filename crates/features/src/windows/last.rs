//! The newest values of a window, by time, then identifier, then value.

use super::event::Value;
use super::key::Key;
use std::cmp::Ordering;

/// A value with its place in the order.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Placed {
    pub(super) time: i64,
    /// Empty where the stream has no identifiers.
    pub(super) id: Key,
    pub(super) value: Value,
}

impl Placed {
    /// Newest first.
    pub(super) fn order(&self, other: &Placed) -> Ordering {
        let values = || match (&self.value, &other.value) {
            (Value::Number(ours), Value::Number(theirs)) => theirs.total_cmp(ours),
            (Value::Text(ours), Value::Text(theirs)) => theirs.cmp(ours),
            // A column has one type.
            _ => Ordering::Equal,
        };
        other.time.cmp(&self.time).then_with(|| other.id.cmp(&self.id)).then_with(values)
    }
}

/// Keeps `placed` among the first `k`.
pub(super) fn keep(kept: &mut Vec<Placed>, k: usize, placed: &Placed) {
    let place = kept.partition_point(|other| other.order(placed).is_le());
    if place < k {
        kept.truncate(k - 1);
        kept.insert(place, placed.clone());
    }
}
