//! A key's tiles of one grid: where a tile is, which sessions the tiles make, and when each is no longer needed.

use super::event::Event;
use super::plan::{Grid, Plan, Shape, ceil, span};
use super::tile::Tile;
use std::collections::VecDeque;
use std::ops::Range;

/// Ascending by index; every tile has events.
#[derive(Clone, Debug, Default)]
pub(super) struct Tiles(pub(super) VecDeque<Tile>);

/// A session: places among the tiles, and the times of its first and last event.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Run {
    pub(super) places: Range<usize>,
    pub(super) first: i64,
    pub(super) last: i64,
}

impl Tiles {
    /// Where the tile of this index is, or would be.
    #[inline]
    pub(super) fn place(&self, index: i64) -> Result<usize, usize> {
        // Most events are of the newest tile, or of one behind it.
        match self.0.back() {
            None => Err(0),
            Some(last) if last.index == index => Ok(self.0.len() - 1),
            Some(last) if last.index < index => Err(self.0.len()),
            Some(_) => self.0.binary_search_by_key(&index, |tile| tile.index),
        }
    }

    /// Adds the event, to a new tile where there is none.
    #[inline]
    pub(super) fn add(&mut self, grid: &Grid, event: &Event) -> &mut Tile {
        let index = grid.index(event.time.0);
        let place = self.place(index).unwrap_or_else(|place| {
            self.0.insert(place, Tile::new(grid, index));
            place
        });
        let tile = &mut self.0[place];
        tile.add(grid, event);
        tile
    }

    /// Places of the tiles with these indices.
    pub(super) fn within(&self, indices: Range<i64>) -> Range<usize> {
        let start = self.place(indices.start).unwrap_or_else(|place| place);
        start..self.place(indices.end).unwrap_or_else(|place| place).max(start)
    }

    /// The first end behind `after` of an aligned window that has events.
    pub(super) fn next_end(&self, grid: &Grid, shape: Shape, after: i64) -> Option<i64> {
        let Shape::Aligned { slide, .. } = shape else { return None };
        let end = ceil(after + 1, slide);
        let within = span(shape, grid, end);
        let tile = self.0.get(self.place(within.start).unwrap_or_else(|place| place))?;
        // Ends before the tile's own are of windows without events.
        Some(if tile.index < within.end { end } else { ceil(grid.end(tile.index), slide) })
    }

    /// The session that the tile at this place is part of. Tiles are no longer than the gap, so that all of a tile's
    /// events are of one session.
    pub(super) fn run(&self, gap: i64, place: usize) -> Run {
        let (mut start, mut end) = (place, place + 1);
        while start > 0 && self.0[start].first - self.0[start - 1].last < gap {
            start -= 1;
        }
        while end < self.0.len() && self.0[end].first - self.0[end - 1].last < gap {
            end += 1;
        }
        Run { places: start..end, first: self.0[start].first, last: self.0[end - 1].last }
    }

    /// All sessions, in order.
    pub(super) fn runs(&self, gap: i64) -> impl Iterator<Item = Run> + '_ {
        let mut next = 0;
        std::iter::from_fn(move || {
            let run = (next < self.0.len()).then(|| self.run(gap, next))?;
            next = run.places.end;
            Some(run)
        })
    }

    /// Drops what no look-up at `horizon` or later and no correction needs; returns how many tiles and whole events went.
    pub(super) fn expire(&mut self, plan: &Plan, grid: &Grid, horizon: i64) -> (u64, u64) {
        let mut gone = 0;
        let mut events = 0;
        let needless = match grid.gap {
            Some(gap) => {
                let ended = self.runs(gap).take_while(|run| run.last + gap <= horizon).last();
                ended.map_or(0, |run| run.places.end)
            }
            None => self.0.iter().take_while(|tile| needed_until(plan, grid, tile.index) <= horizon).count(),
        };
        for tile in self.0.drain(..needless) {
            gone += 1;
            events += tile.kept();
        }
        if grid.heads {
            // Tiles are whole from some place on to the newest: see `Tiles::whole_from`.
            let mut place = self.whole_from();
            while let Some(tile) = self.0.get_mut(place).filter(|tile| grid.end(tile.index) <= horizon) {
                events += tile.kept();
                tile.whole = None;
                place += 1;
            }
        }
        (gone, events)
    }

    /// The place of the first tile whose events are kept whole: those of all newer ones are too, as they are kept for
    /// tiles that end behind the horizon, which only rises.
    fn whole_from(&self) -> usize {
        let cut = self.0.iter().rev().take_while(|tile| tile.whole.is_some()).count();
        self.0.len() - cut
    }

    /// The horizon at which [`Tiles::expire`] next has something to do.
    pub(super) fn next_expiry(&self, plan: &Plan, grid: &Grid) -> Option<i64> {
        let first = self.0.front()?;
        let drop = match grid.gap {
            Some(gap) => self.run(gap, 0).last + gap,
            None => needed_until(plan, grid, first.index),
        };
        let cut = || self.0.get(self.whole_from()).map(|tile| grid.end(tile.index));
        Some(drop.min(if grid.heads { cut().unwrap_or(drop) } else { drop }))
    }
}

/// The horizon from which a tile is in no window that can still be looked up: an aligned window is, until the next has
/// ended.
pub(super) fn needed_until(plan: &Plan, grid: &Grid, index: i64) -> i64 {
    let end = grid.end(index);
    let until = grid.windows.iter().map(|window| match plan.windows[*window].shape {
        Shape::Aligned { size, slide } => ceil(end + size, slide),
        Shape::Sliding { size } => end + size,
        Shape::Session { .. } => i64::MAX,
    });
    until.max().unwrap_or(end)
}
