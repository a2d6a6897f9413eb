//! Event-time windows over keyed streams: one engine of tiles that answers on-line look-ups, emits closed windows with
//! their corrections, and computes training sets. Knows no clock, no disk and no network: times come with the events,
//! and who calls says when a partition is idle.
//!
//! The way of an event: [`EventReader`] (JSON or Arrow, strictly typed) → [`Engine::push`] → tiles → [`Engine::lookup`]
//! and [`Engine::take_emitted`]. What the windows mean stands at [`vocabulary::stream`].
//!
//! Every aggregate is a function of the set of values in the window, not of the order in which they came: sums are exact
//! and rounded once, sketches are unions. So the value after any order of arrival, any cut into tiles and any restart has
//! the same bits, and [`backfill`] gives them too.

mod backfill;
mod bytes;
mod codec;
mod decay;
mod distinct;
mod duplicates;
mod engine;
mod event;
mod exact;
mod history;
mod key;
mod keyed;
mod last;
mod lookup;
mod outcome;
mod plan;
mod quantile;
mod read;
mod reader;
mod slot;
mod slots_bytes;
#[cfg(test)]
mod tests;
mod tile;
mod tiles;

pub use backfill::{Backfill, Knowledge, Query, backfill};
pub use engine::Engine;
pub use event::{Event, Value};
pub use history::{Counted, EventTable, key_from_json};
pub use key::{Key, Part};
pub use lookup::{column_of, empty_values, instants_of, keys_of, places, with_columns};
pub use outcome::{Counters, Emission, Limit, LookupError, Partition, PartitionWatermark, Pushed, Sizes, Window};
pub use reader::EventReader;
