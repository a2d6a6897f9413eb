//! A stream's declaration: where events come from, how late they may be, and the windows that are kept over them.
//! On disk: `streams/NAME.toml`.
//!
//! What the words mean (the engine is `features::windows`):
//! - Every interval is half-open, `[start, end)`, and aligned to 1970-01-01 UTC where it is aligned at all.
//! - `tumbling`: `[n * size, (n + 1) * size)`. `hopping`: every `slide` a window of length `size` ends. Both are emitted
//!   when the watermark reaches their end; a look-up at an instant gives the last one that has ended by then.
//! - `sliding`: for look-ups alone, at any instant `at`: `[floor(at - size, tile), at)`. The head is exact; the far end is
//!   on a tile, so that the window is up to one tile longer than `size` ("sawtooth").
//! - `session`: a run of events of which neighbours lie less than `gap` apart; it ends `gap` after its last event. A
//!   look-up gives the session that is open at that instant, of the events before it.
//! - An event at the instant `at` itself is never part of the look-up at `at`: an event is not its own feature.
//! - Lateness is all or nothing: an event counts in every window that contains it or in none. It is too late, and goes to
//!   the side table, when a window that contains it is final: `watermark >= end + allowed_lateness`, for the first end
//!   behind the event's time; with a sliding or session window that is the event's own time.

mod history;
mod problems;

pub use history::{HISTORY_EVENTS_MAX, HISTORY_KEPT, HistorySpec};
pub use problems::StreamSpecError;

use crate::contract::{ColumnKind, Contract};
use crate::time::Span;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamSpec {
    pub name: String,
    /// The contract that gives the columns their types; or else `[[column]]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract: Option<String>,
    /// The column that says when the event happened.
    pub time: String,
    /// The column that says when the event became known, for `as known then`; without it the time of arrival is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_at: Option<String>,
    /// The columns whose values together say whom an event is about.
    pub key: Vec<String>,
    /// The column that identifies an event: a second one with the same value is a duplicate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    pub source: SourceSpec,
    /// How far behind the newest event of its partition an event may be without being late.
    #[serde(default)]
    pub out_of_order: Span,
    /// How long behind the watermark an event is still counted, with a correction of what was emitted.
    #[serde(default)]
    pub allowed_lateness: Span,
    /// A partition that brought nothing for this long no longer holds the watermark back. Never, without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_after: Option<Span>,
    /// An event further ahead of its arrival than this is refused: one wrong clock would make all others late.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead_max: Option<Span>,
    /// How often state and offsets are written down, which is also how much is done again after a crash. Less often where
    /// writing takes longer than a tenth of it.
    #[serde(default = "commit_every", skip_serializing_if = "is_commit_every")]
    pub commit_every: Span,
    #[serde(default, skip_serializing_if = "DuplicatesSpec::is_default")]
    pub duplicates: DuplicatesSpec,
    #[serde(default, skip_serializing_if = "LimitsSpec::is_default")]
    pub limits: LimitsSpec,
    /// What is kept of the events themselves.
    #[serde(default, skip_serializing_if = "HistorySpec::is_default")]
    pub history: HistorySpec,
    #[serde(default, rename = "column", skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<StreamColumn>,
    #[serde(default, rename = "window")]
    pub windows: Vec<WindowSpec>,
}

/// A column of the events, as far as the stream uses it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamColumn {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: ColumnKind,
}

/// Where events come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum SourceSpec {
    /// JSON lines, CSV or Parquet, relative to the project's folder: a file, or a folder whose files are read in the order
    /// of their names. `*` stands for any part of a name. With it in a folder's name, each folder that fits is a
    /// partition, in the order of their names; otherwise there is one.
    Files { path: String },
    /// `POST /v1/events/NAME`; what is handed in waits on the server's disk until the stream has taken it.
    Http {
        /// Bytes that wait at most; more is refused with 429.
        #[serde(default = "spool_bytes_max", skip_serializing_if = "is_spool_bytes_max")]
        spool_bytes_max: u64,
    },
    /// A stream of NATS JetStream, read by its sequence numbers. It must keep what was read (retention by limits).
    Nats {
        /// Such as `nats://127.0.0.1:4222`, which it is without a value.
        #[serde(default = "broker", skip_serializing_if = "is_broker")]
        url: String,
        stream: String,
        /// Of the stream's messages, those with such a subject.
        subject: String,
    },
}

/// Events that wait at most, in bytes, where nothing is declared: a judgement, about a million small ones.
pub const SPOOL_BYTES_MAX: u64 = 256 << 20;

/// Where a broker listens that says nothing else.
pub const BROKER: &str = "nats://127.0.0.1:4222";

/// How often a stream commits, where nothing is declared.
pub const COMMIT_EVERY: Span = Span(1_000_000);

fn spool_bytes_max() -> u64 {
    SPOOL_BYTES_MAX
}

fn is_spool_bytes_max(bytes: &u64) -> bool {
    *bytes == SPOOL_BYTES_MAX
}

fn broker() -> String {
    BROKER.to_owned()
}

fn is_broker(url: &str) -> bool {
    url == BROKER
}

fn commit_every() -> Span {
    COMMIT_EVERY
}

fn is_commit_every(every: &Span) -> bool {
    *every == COMMIT_EVERY
}

/// How long and how many identifiers of events are remembered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DuplicatesSpec {
    /// In event time, behind the watermark. As long as an event with that time could still be counted, at least: that is
    /// what it is without a value, and then no event is ever counted twice.
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    pub span: Option<Span>,
    /// Identifiers at most. Beyond it the oldest are forgotten, and events as old as those are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
}

/// Identifiers of events remembered at most, where nothing is declared: about 100 MB.
pub const DUPLICATES_MAX: u64 = 1_000_000;

/// What a stream may hold in memory. Beyond it an event is refused, counted and handed to the side table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsSpec {
    /// Keys with live state.
    pub keys: u64,
    /// Tiles of all keys and windows together. A tile takes 100 bytes and some 50 for each aggregate.
    pub tiles: u64,
    /// Events kept whole, for the exact heads of sliding windows and sessions.
    pub events: u64,
}

impl Default for LimitsSpec {
    fn default() -> Self {
        LimitsSpec { keys: 1_000_000, tiles: 10_000_000, events: 10_000_000 }
    }
}

impl LimitsSpec {
    fn is_default(&self) -> bool {
        *self == LimitsSpec::default()
    }
}

impl DuplicatesSpec {
    fn is_default(&self) -> bool {
        *self == DuplicatesSpec::default()
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowSpec {
    pub name: String,
    pub kind: WindowKind,
    /// The window's length; not for sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<Span>,
    /// How far apart windows end; for hopping windows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slide: Option<Span>,
    /// Time without events that ends a session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<Span>,
    /// The length of the parts that windows are put together from; divides size and slide, and is at most the gap.
    /// [`WindowSpec::tile`] says what it is without a value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tile: Option<Span>,
    #[serde(rename = "aggregate")]
    pub aggregates: Vec<AggregateSpec>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WindowKind {
    Tumbling,
    Hopping,
    Sliding,
    Session,
}

impl WindowKind {
    pub fn name(self) -> &'static str {
        match self {
            WindowKind::Tumbling => "tumbling",
            WindowKind::Hopping => "hopping",
            WindowKind::Sliding => "sliding",
            WindowKind::Session => "session",
        }
    }
}

/// One value of a window. Null, NaN and infinite values of `of` are not counted by any aggregate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AggregateSpec {
    pub name: String,
    /// The column that is aggregated; `count` and `decayed` count events without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    #[serde(rename = "as")]
    pub function: AggregateFunction,
    /// For `quantile`: from 0 (least) to 1 (greatest).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub q: Option<f64>,
    /// For `last`: how many; the features are `WINDOW_NAME_1`, the newest, to `WINDOW_NAME_k`. 1 without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k: Option<u32>,
    /// For `decayed`: age at which a value counts half.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub half_life: Option<Span>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AggregateFunction {
    /// Events, or values of `of`; 0 in an empty window, where all others but `distinct` are null.
    Count,
    /// The exact sum, rounded once to the nearest float. Null without values.
    Sum,
    /// The rounded exact sum over the count.
    Mean,
    /// Of the sample, over count - 1; null below two values.
    Variance,
    Min,
    Max,
    /// Different values: exact up to 1024, then HyperLogLog with a standard error of 1.6 %.
    Distinct,
    /// The lower nearest rank, `sorted[floor((n - 1) * q)]`: exact up to 1024 values, then within 0.4 % of the value.
    Quantile,
    /// The newest values, by time, then identifier, then value.
    Last,
    /// Each value times two to the power of minus its age in half-lives: at the window's end, or at the look-up's instant.
    Decayed,
}

impl AggregateFunction {
    pub fn name(self) -> &'static str {
        match self {
            AggregateFunction::Count => "count",
            AggregateFunction::Sum => "sum",
            AggregateFunction::Mean => "mean",
            AggregateFunction::Variance => "variance",
            AggregateFunction::Min => "min",
            AggregateFunction::Max => "max",
            AggregateFunction::Distinct => "distinct",
            AggregateFunction::Quantile => "quantile",
            AggregateFunction::Last => "last",
            AggregateFunction::Decayed => "decayed",
        }
    }
}

/// Values that `last` keeps at most.
pub const LAST_MAX: u32 = 100;

/// Lengths that a sliding window's tile is chosen from where none is declared: the longest that is at most a twelfth of
/// the window and divides it. The first three are Chronon's resolutions (a day from 12 days on, an hour from 12 hours on,
/// else five minutes).
const TILE_LADDER: [Span; 10] = [
    Span::days(1),
    Span::hours(1),
    Span(300_000_000),
    Span(60_000_000),
    Span(10_000_000),
    Span(1_000_000),
    Span(100_000),
    Span(10_000),
    Span(1_000),
    Span(1),
];

impl WindowSpec {
    /// The length of its tiles: as declared, or else what divides size and slide (`tumbling`, `hopping`), a twelfth of the
    /// size or less (`sliding`), the gap (`session`). Zero where the declaration lacks what it needs.
    pub fn tile(&self) -> Span {
        let zero = Span(0);
        let size = self.size.unwrap_or(zero);
        self.tile.unwrap_or_else(|| match self.kind {
            WindowKind::Tumbling => size,
            WindowKind::Hopping => Span(gcd(size.0, self.slide.unwrap_or(zero).0)),
            WindowKind::Sliding => {
                TILE_LADDER.into_iter().find(|tile| size.0 % tile.0 == 0 && size.0 / tile.0 >= 12).unwrap_or(Span(1))
            }
            WindowKind::Session => self.gap.unwrap_or(zero),
        })
    }
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// A feature that a stream gives: its name, `WINDOW_AGGREGATE` (with `_1` and on for `last`), and its type.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamFeature {
    pub name: String,
    pub kind: ColumnKind,
}

impl StreamSpec {
    /// The type of a column, where it is declared here.
    pub fn column(&self, name: &str) -> Option<ColumnKind> {
        self.columns.iter().find(|column| column.name == name).map(|column| column.kind)
    }

    /// The columns of events that the stream uses, each once: time, knowledge time, key, id, then those aggregated.
    pub fn used_columns(&self) -> Vec<&str> {
        let aggregated = self.windows.iter().flat_map(|window| &window.aggregates).filter_map(|a| a.of.as_ref());
        let all = std::iter::once(&self.time).chain(&self.known_at).chain(&self.key).chain(&self.id).chain(aggregated);
        let mut used: Vec<&str> = Vec::new();
        for name in all {
            if !used.contains(&name.as_str()) {
                used.push(name);
            }
        }
        used
    }

    /// The same stream with the types of its columns taken from the contract that it names; columns that the contract
    /// lacks are left out, for [`StreamSpec::problems`] to name.
    pub fn with_contract(&self, contract: &Contract) -> StreamSpec {
        let columns = self.used_columns().into_iter().filter_map(|name| contract.column(name));
        let columns = columns.map(|column| StreamColumn { name: column.name.clone(), kind: column.kind }).collect();
        StreamSpec { columns, ..self.clone() }
    }

    /// What a look-up gives, in order: windows as declared, in each its aggregates as declared.
    pub fn features(&self) -> Vec<StreamFeature> {
        let mut features = Vec::new();
        for window in &self.windows {
            for aggregate in &window.aggregates {
                let name = format!("{}_{}", window.name, aggregate.name);
                if aggregate.function == AggregateFunction::Last {
                    let kind = match aggregate.of.as_ref().and_then(|of| self.column(of)) {
                        Some(ColumnKind::String) => ColumnKind::String,
                        _ => ColumnKind::Float,
                    };
                    let places = 1..=aggregate.k.unwrap_or(1);
                    features.extend(places.map(|place| StreamFeature { name: format!("{name}_{place}"), kind }));
                } else {
                    features.push(StreamFeature { name, kind: ColumnKind::Float });
                }
            }
        }
        features
    }

    /// How long behind an event's time the first end of a window that contains it may lie: after that, and the allowed
    /// lateness, nothing with that time is counted any more.
    pub fn longest_open(&self) -> Span {
        let open = self.windows.iter().map(|window| match window.kind {
            WindowKind::Tumbling => window.size.unwrap_or_default(),
            WindowKind::Hopping => window.slide.unwrap_or_default(),
            WindowKind::Sliding | WindowKind::Session => Span(0),
        });
        open.min().unwrap_or_default()
    }

    /// How long identifiers are remembered behind the watermark.
    pub fn remembered(&self) -> Span {
        self.duplicates.span.unwrap_or(Span(self.longest_open().0.saturating_add(self.allowed_lateness.0)))
    }
}
