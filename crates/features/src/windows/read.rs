//! A window's values, read from a key's tiles: for look-ups, for what is emitted, and for backfills alike.

use super::event::Value;
use super::plan::{Plan, Shape, WindowPlan, floor, span};
use super::slot::{Part, read};
use super::tile::Tile;
use super::tiles::{Run, Tiles};
use std::ops::Range;

/// The features of a key at an instant, windows as declared.
pub(super) fn row(plan: &Plan, grids: &[Tiles], at: i64, values: &mut Vec<Value>) {
    for window in &plan.windows {
        let (tiles, grid) = (&grids[window.grid], &plan.grids[window.grid]);
        match window.shape {
            Shape::Aligned { slide, .. } => aligned(plan, window, tiles, floor(at, slide), values),
            Shape::Sliding { .. } => {
                let places = tiles.within(span(window.shape, grid, at));
                // The tile that the instant is in, where it has events from then on.
                let cut = places.clone().last().filter(|place| tiles.0[*place].last >= at);
                let head = cut.and_then(|place| tiles.0[place].before(grid, at));
                let places = places.start..cut.unwrap_or(places.end);
                Source { plan, window, tiles, places, head }.read(at, values);
            }
            Shape::Session { gap } => open_session(plan, window, tiles, at, gap).read(at, values),
        }
    }
}

/// The values of an aligned window that ends at `end`.
pub(super) fn aligned(plan: &Plan, window: &WindowPlan, tiles: &Tiles, end: i64, values: &mut Vec<Value>) {
    let places = tiles.within(span(window.shape, &plan.grids[window.grid], end));
    Source { plan, window, tiles, places, head: None }.read(end, values);
}

/// The values of a whole session that ends at `end`.
pub(super) fn session(plan: &Plan, window: &WindowPlan, tiles: &Tiles, run: &Run, end: i64, values: &mut Vec<Value>) {
    Source { plan, window, tiles, places: run.places.clone(), head: None }.read(end, values);
}

/// Tiles, by place, and the part of one more that lies before the instant asked for.
struct Source<'a> {
    plan: &'a Plan,
    window: &'a WindowPlan,
    tiles: &'a Tiles,
    places: Range<usize>,
    head: Option<Tile>,
}

impl Source<'_> {
    fn read(&self, at: i64, values: &mut Vec<Value>) {
        let grid = &self.plan.grids[self.window.grid];
        let whole = self.tiles.0.range(self.places.clone());
        let parts = whole.chain(&self.head).map(|tile| -> Part<'_> { tile.part(grid) });
        for reading in &self.window.readings {
            read(reading, parts.clone(), at, values);
        }
    }
}

/// The session that is open at `at`, of the events before it; without tiles where none is.
fn open_session<'a>(plan: &'a Plan, window: &'a WindowPlan, tiles: &'a Tiles, at: i64, gap: i64) -> Source<'a> {
    let grid = &plan.grids[window.grid];
    let source = |places, head| Source { plan, window, tiles, places, head };
    // Behind the tile of the last instant before `at`.
    let mut end = tiles.place(grid.index(at - 1) + 1).unwrap_or_else(|place| place);
    let mut head = None;
    if end > 0 && tiles.0[end - 1].last >= at {
        end -= 1;
        head = tiles.0[end].before(grid, at);
    }
    let newest = head.as_ref().or_else(|| end.checked_sub(1).map(|place| &tiles.0[place]));
    let Some(newest) = newest.filter(|tile| at - tile.last < gap) else {
        return source(0..0, None);
    };
    let mut first = newest.first;
    let mut start = if head.is_some() { end } else { end - 1 };
    while start > 0 && first - tiles.0[start - 1].last < gap {
        start -= 1;
        first = tiles.0[start].first;
    }
    source(start..end, head)
}
