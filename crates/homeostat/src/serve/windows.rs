//! What streams know about the rows of a request: looked up in the streams' own engines after the contract was enforced
//! and before the pipeline runs. A stream that is absent or does not know that far back fails no request: the row goes on
//! with what is known, and it is counted.

use super::error::{ApiError, ApiResult};
use super::state::{App, Routes};
use super::streams::Stream;
use crate::windows::{Looked, LookedUp};
use arrow::array::{ArrayRef, RecordBatch};
use features::windows::{Key, Value, column_of, empty_values, keys_of, with_columns};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use vocabulary::model::WindowFeatures;
use vocabulary::{ModelSpec, Timestamp};

/// What became of look-ups for predictions, by row.
#[derive(Default)]
pub struct Lookups {
    /// Answered with all that the source has brought.
    known: AtomicU64,
    /// Answered while rows waited at the source.
    behind: AtomicU64,
    /// Before the oldest instant that is still held.
    too_old: AtomicU64,
    /// The stream was not open yet, or is not there.
    not_ready: AtomicU64,
}

impl Lookups {
    pub fn counts(&self) -> [(&'static str, u64); 4] {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [
            ("known", of(&self.known)),
            ("behind", of(&self.behind)),
            ("too_old", of(&self.too_old)),
            ("not_ready", of(&self.not_ready)),
        ]
    }
}

/// The rows with their window features, and what was seen of each row.
pub struct Seen {
    pub batch: RecordBatch,
    /// One a row; nothing where the model takes no window features.
    pub looked: Vec<LookedUp>,
}

/// Looks up what the deployed versions need: the one that answers, and those that score the same rows beside it. `at` is
/// each row's instant.
pub fn look(app: &App, routes: &Routes, model: &str, batch: RecordBatch, at: &[Timestamp]) -> ApiResult<Seen> {
    let Some(wanted) = routes.windows.get(model) else { return Ok(Seen { batch, looked: Vec::new() }) };
    let mut looked = vec![LookedUp::new(); batch.num_rows()];
    let mut more: Vec<(String, ArrayRef)> = Vec::new();
    for declared in wanted {
        let keys = match keys_of(&batch, &declared.key) {
            Ok(keys) => keys,
            // Another version's key is no column of this one's.
            Err(_) => vec![None; batch.num_rows()],
        };
        let rows = match app.streams.all.get(&declared.stream) {
            Some(stream) => ask(stream, declared, &keys, at, &mut looked),
            None => vec![Vec::new(); batch.num_rows()],
        };
        for (place, taken) in declared.types.iter().enumerate() {
            more.push((declared.column(&taken.name), column_of(taken.kind, &rows, place)));
        }
    }
    Ok(Seen { batch: with_columns(&batch, more).map_err(ApiError::internal)?, looked })
}

/// The window features of all versions together; where two name one stream, by the key of the first.
pub fn together<'a>(specs: impl Iterator<Item = &'a ModelSpec>) -> Vec<WindowFeatures> {
    let mut wanted: Vec<WindowFeatures> = Vec::new();
    for declared in specs.flat_map(|spec| &spec.features.windows) {
        match wanted.iter_mut().find(|wanted| wanted.stream == declared.stream) {
            Some(wanted) => {
                let more: Vec<_> = declared.types.iter().filter(|one| !wanted.types.contains(one)).cloned().collect();
                wanted.types.extend(more);
            }
            None => wanted.push(declared.clone()),
        }
    }
    wanted
}

/// The values of each row, in the order of the features taken.
fn ask(
    stream: &Stream,
    declared: &WindowFeatures,
    keys: &[Option<Key>],
    at: &[Timestamp],
    looked: &mut [LookedUp],
) -> Vec<Vec<Value>> {
    let (counts, live) = (&stream.lookups, &stream.live);
    let (open, behind) = {
        let standing = live.standing.lock();
        (standing.opened, standing.lag.rows.is_some_and(|rows| rows > 0))
    };
    let engine = live.engine.read();
    let place = |name: &str| engine.features().iter().position(|feature| feature.name == name);
    let places: Vec<Option<usize>> = declared.types.iter().map(|taken| place(&taken.name)).collect();
    let (events, watermark) = (engine.counters().accepted, engine.watermark());
    let watermark = Some(watermark).filter(|at| *at != Timestamp::MIN);
    let empty = empty_values(&engine);
    let (mut rows, mut row) = (Vec::with_capacity(keys.len()), Vec::new());
    for ((key, at), looked) in keys.iter().zip(at).zip(looked) {
        let (count, missed) = match key {
            _ if !open => (&counts.not_ready, Some("not_ready")),
            None => (&counts.known, None),
            Some(key) => match engine.lookup(key, *at, &mut row) {
                Ok(()) if behind => (&counts.behind, None),
                Ok(()) => (&counts.known, None),
                Err(_) => (&counts.too_old, Some("too_old")),
            },
        };
        count.fetch_add(1, Ordering::Relaxed);
        let source = match (missed, key) {
            (Some(_), _) => None,
            (None, None) => Some(&empty),
            (None, Some(_)) => Some(&row),
        };
        let value = |place: &Option<usize>| source?.get((*place)?).cloned();
        let values: Vec<Value> = places.iter().map(|place| value(place).unwrap_or_default()).collect();
        let named = declared.types.iter().zip(&values).map(|(taken, value)| (taken.name.clone(), value.to_json()));
        let seen = Looked {
            key: key.as_ref().map(Key::to_json).unwrap_or_default(),
            events,
            watermark,
            missed: missed.map(str::to_owned),
            values: named.collect::<BTreeMap<_, _>>(),
        };
        looked.insert(declared.stream.clone(), seen);
        rows.push(values);
    }
    rows
}
