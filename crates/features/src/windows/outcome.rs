//! What the engine tells who calls it.

use super::event::Value;
use super::key::Key;
use serde::Serialize;
use vocabulary::time::Timestamp;

/// A partition of the source, as [`super::Engine::partition`] numbered it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub(super) u32);

/// What became of an event. All but the first two belong in the side table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Pushed {
    /// It is counted.
    Accepted,
    /// Its identifier was seen before; nothing changed.
    Duplicate,
    /// A window that contains it is final.
    TooLate,
    /// It claims to have happened further after its arrival than `ahead_max` allows.
    Ahead,
    /// It would have gone over a limit, and is not counted.
    Refused(Limit),
}

/// What is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    Keys,
    Tiles,
    Events,
    /// Identifiers as old as the event's had to be forgotten: nobody knows whether it is a duplicate.
    Duplicates,
}

/// Counts since the state began; they are part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    pub accepted: u64,
    /// Of the accepted: those behind the watermark.
    pub late: u64,
    pub duplicate: u64,
    pub too_late: u64,
    pub ahead: u64,
    /// By a limit, in the order of [`Limit`].
    pub refused_keys: u64,
    pub refused_tiles: u64,
    pub refused_events: u64,
    pub refused_duplicates: u64,
    /// Windows emitted for the first time.
    pub closed: u64,
    /// Windows emitted again.
    pub corrected: u64,
    /// Sessions taken back, because they became part of another.
    pub withdrawn: u64,
}

/// What the state holds at present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sizes {
    pub keys: u64,
    pub tiles: u64,
    /// Events kept whole.
    pub events: u64,
    /// Identifiers remembered.
    pub ids: u64,
}

/// A partition's place in event time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PartitionWatermark {
    pub partition: String,
    /// Its newest event's time; none before the first.
    pub newest: Option<Timestamp>,
    /// Idle partitions do not hold the stream's watermark back.
    pub idle: bool,
    /// It will bring nothing more.
    pub ended: bool,
}

/// A window of one key that the watermark has passed.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Its place among the stream's windows, as declared.
    pub window: usize,
    pub key: Key,
    /// First instant of the window; of a session, its first event's.
    pub start: Timestamp,
    /// First instant behind it.
    pub end: Timestamp,
    /// 0 when the window closed, then one more with each correction. A reader keeps the last for each window, key and
    /// start.
    pub pane: u32,
    pub emission: Emission,
    /// In the order of the window's features; empty where it is withdrawn.
    pub values: Vec<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Emission {
    Closed,
    /// A late event changed a window that was closed; the values are of all its events, not of the late one.
    Corrected,
    /// The session was emitted, and a late event made it part of another with another start: forget it.
    Withdrawn,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    #[error(
        "{at} is before {oldest}, the oldest instant that stream \"{stream}\" still answers; ask for a later one, raise \
         allowed_lateness, or compute it from the events with a backfill"
    )]
    TooOld { stream: String, at: Timestamp, oldest: Timestamp },
}
