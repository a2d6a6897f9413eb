//! How long and how many of a stream's events are kept, for training sets and for checking what was answered. Knows no
//! disk: how they are kept is the business of `storage` and of the binary.

use crate::time::Span;
use serde::{Deserialize, Serialize};

/// `[history]` of a stream: the events that it has counted, as they were and with the instant at which each became known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HistorySpec {
    /// Events further behind the watermark than this are let go, in whole parts. `0s` keeps none at all.
    pub keep: Span,
    /// Events kept at most. Beyond it an event is refused, counted and handed to the side table: what were counted but
    /// not kept could be neither learned from nor checked.
    pub events_max: u64,
}

/// How long events are kept where nothing is declared: a year and a season, so that a training set of a year finds the
/// windows of its first rows.
pub const HISTORY_KEPT: Span = Span::days(400);

/// Events kept at most where nothing is declared: a judgement, some 20 to 50 GB.
pub const HISTORY_EVENTS_MAX: u64 = 1_000_000_000;

impl Default for HistorySpec {
    fn default() -> Self {
        HistorySpec { keep: HISTORY_KEPT, events_max: HISTORY_EVENTS_MAX }
    }
}

impl HistorySpec {
    pub fn is_default(&self) -> bool {
        *self == HistorySpec::default()
    }

    /// Whether events are kept.
    pub fn is_on(&self) -> bool {
        self.keep.0 > 0
    }
}
