//! Training sets: the features of many keys at many instants, from events in any order, by the same tiles that answer
//! on-line look-ups. One pass over a key's events and instants in the order of time.

use super::engine::{BEGINNING, END};
use super::event::{Event, Value};
use super::key::Key;
use super::plan::Plan;
use super::read;
use super::tiles::Tiles;
use crate::FeatureError;
use std::collections::{HashMap, HashSet};
use vocabulary::stream::{StreamFeature, StreamSpec};
use vocabulary::time::Timestamp;

/// Whose features, and as of when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    pub key: Key,
    pub at: Timestamp,
}

/// Which events count at an instant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Knowledge {
    /// Those before it that were known by then: what a look-up could have seen. An event without a knowledge time was
    /// known when it happened.
    #[default]
    AsKnownThen,
    /// All those before it, however late they came: what a look-up says after the last one came.
    Complete,
}

/// Computes features key by key; for data that do not fit into memory, of which who calls brings one key at a time.
#[derive(Clone, Debug)]
pub struct Backfill {
    plan: Plan,
    knowledge: Knowledge,
}

/// The features of each query, in the order of the queries. An event with an identifier that another of the same key has
/// counts once: the one that was known first. Events that a running engine turned away (too late, or by a limit) are not
/// known here: leave out what is in the side table to get what the engine says.
pub fn backfill(
    spec: &StreamSpec,
    events: &[Event],
    queries: &[Query],
    knowledge: Knowledge,
) -> Result<Vec<Vec<Value>>, FeatureError> {
    let backfill = Backfill::new(spec, knowledge)?;
    let mut keys: HashMap<&Key, (Vec<&Event>, Vec<usize>)> = HashMap::new();
    for (place, query) in queries.iter().enumerate() {
        keys.entry(&query.key).or_default().1.push(place);
    }
    for event in events {
        if let Some((of_key, _)) = keys.get_mut(&event.key) {
            of_key.push(event);
        }
    }
    let mut rows = vec![Vec::new(); queries.len()];
    for (of_key, places) in keys.values_mut() {
        let instants: Vec<Timestamp> = places.iter().map(|place| queries[*place].at).collect();
        for (place, row) in places.iter().zip(backfill.of_key(of_key, &instants)) {
            rows[*place] = row;
        }
    }
    Ok(rows)
}

impl Backfill {
    /// Fails where the declaration has problems.
    pub fn new(spec: &StreamSpec, knowledge: Knowledge) -> Result<Backfill, FeatureError> {
        Ok(Backfill { plan: Plan::new(spec)?, knowledge })
    }

    /// The columns whose values an event brings, in order.
    pub fn columns(&self) -> &[String] {
        &self.plan.columns
    }

    /// What each row holds, in order.
    pub fn features(&self) -> &[StreamFeature] {
        &self.plan.features
    }

    /// The features of one key at each instant, in the order given, from all events of the key in any order; `events` is
    /// sorted, and duplicates are taken out.
    pub fn of_key(&self, events: &mut Vec<&Event>, instants: &[Timestamp]) -> Vec<Vec<Value>> {
        events.sort_by(|a, b| (self.seen_from(a), a.time, &a.id).cmp(&(self.seen_from(b), b.time, &b.id)));
        let mut ids = HashSet::new();
        events.retain(|event| event.id.as_ref().is_none_or(|id| ids.insert(id)));
        self.of_sorted(events, instants)
    }

    /// The same from events that an engine has counted: each counts, whatever its identifier.
    pub fn of_counted(&self, events: &mut [&Event], instants: &[Timestamp]) -> Vec<Vec<Value>> {
        events.sort_by(|a, b| (self.seen_from(a), a.time, &a.id).cmp(&(self.seen_from(b), b.time, &b.id)));
        self.of_sorted(events, instants)
    }

    /// `events` are in the order in which they are seen.
    fn of_sorted(&self, events: &[&Event], instants: &[Timestamp]) -> Vec<Vec<Value>> {
        let mut order: Vec<usize> = (0..instants.len()).collect();
        order.sort_by_key(|place| instants[*place]);
        // An event that becomes known this long after it happened may still lengthen a session.
        let lag = events.iter().map(|event| self.seen_from(event).saturating_sub(event.time.0)).max().unwrap_or(0);
        let mut grids = vec![Tiles::default(); self.plan.grids.len()];
        let mut rows = vec![Vec::new(); instants.len()];
        let mut next = events.iter().peekable();
        for place in order {
            let at = instants[place].0.clamp(BEGINNING, END);
            while let Some(event) = next.next_if(|event| self.seen_from(event) <= at) {
                // Tiles hold nothing of `at` or later, so that no look-up cuts one.
                for (tiles, grid) in grids.iter_mut().zip(&self.plan.grids) {
                    tiles.add(grid, event);
                }
            }
            for (tiles, grid) in grids.iter_mut().zip(&self.plan.grids) {
                let horizon = if grid.gap.is_some() { at.saturating_sub(lag) } else { at };
                tiles.expire(&self.plan, grid, horizon);
            }
            read::row(&self.plan, &grids, at, &mut rows[place]);
        }
        rows
    }

    /// The first instant whose look-up counts the event.
    fn seen_from(&self, event: &Event) -> i64 {
        let happened = event.time.0.saturating_add(1);
        match (self.knowledge, event.known_at) {
            (Knowledge::AsKnownThen, Some(known_at)) => happened.max(known_at.0),
            _ => happened,
        }
    }
}
