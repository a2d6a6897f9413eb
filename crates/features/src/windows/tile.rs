//! Tiles: a key's events of one stretch of time, as partial aggregates, and whole where a look-up may cut the stretch.

use super::event::{Event, Value};
use super::key::Key;
use super::plan::Grid;
use super::slot::{Part, Seen, Slot};

#[derive(Clone, Debug)]
pub(super) struct Tile {
    /// Its stretch is `[index * tile, (index + 1) * tile)`.
    pub(super) index: i64,
    pub(super) events: u64,
    /// Times of its first and last event.
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) slots: Box<[Slot]>,
    pub(super) whole: Option<Box<Whole>>,
}

/// Events kept whole, in the order of their arrival.
#[derive(Clone, Debug, Default)]
pub(super) struct Whole {
    pub(super) times: Vec<i64>,
    /// Of each event, where the grid keeps them.
    pub(super) ids: Vec<Key>,
    /// Of each event, the grid's columns.
    pub(super) cells: Vec<Value>,
}

impl Tile {
    pub(super) fn new(grid: &Grid, index: i64) -> Tile {
        let slots = grid.slots.iter().map(Slot::new).collect();
        Tile { index, events: 0, first: i64::MAX, last: i64::MIN, slots, whole: None }
    }

    #[inline]
    pub(super) fn add(&mut self, grid: &Grid, event: &Event) {
        let seen = Seen { time: event.time.0, id: event.id.as_ref(), end: grid.end(self.index) };
        self.note(seen.time);
        for (slot, kind) in self.slots.iter_mut().zip(&grid.slots) {
            let value = kind.column().map_or(&Value::Number(1.0), |column| &event.values[column]);
            slot.add(kind, value, seen);
        }
    }

    fn note(&mut self, time: i64) {
        self.events += 1;
        self.first = self.first.min(time);
        self.last = self.last.max(time);
    }

    /// Keeps the event whole, beside having added it.
    pub(super) fn keep(&mut self, grid: &Grid, event: &Event) {
        let whole = self.whole.get_or_insert_default();
        whole.times.push(event.time.0);
        whole.cells.extend(grid.columns.iter().map(|column| event.values[*column].clone()));
        if grid.ids {
            whole.ids.push(event.id.clone().unwrap_or_default());
        }
    }

    /// The tile as it is of its events before `at`; none without such.
    pub(super) fn before(&self, grid: &Grid, at: i64) -> Option<Tile> {
        let whole = self.whole.as_ref()?;
        let mut tile = Tile::new(grid, self.index);
        for (i, time) in whole.times.iter().enumerate().filter(|(_, time)| **time < at) {
            tile.note(*time);
            let seen = Seen { time: *time, id: whole.ids.get(i), end: grid.end(self.index) };
            let cells = &whole.cells[i * grid.columns.len()..];
            for (slot, kind) in tile.slots.iter_mut().zip(&grid.slots) {
                let place = kind.column().and_then(|column| grid.columns.iter().position(|of| *of == column));
                slot.add(kind, place.map_or(&Value::Number(1.0), |place| &cells[place]), seen);
            }
        }
        (tile.events > 0).then_some(tile)
    }

    pub(super) fn kept(&self) -> u64 {
        self.whole.as_ref().map_or(0, |whole| whole.times.len() as u64)
    }

    pub(super) fn part(&self, grid: &Grid) -> Part<'_> {
        Part { events: self.events, slots: &self.slots, end: grid.end(self.index) }
    }
}
