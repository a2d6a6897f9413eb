//! A key's state: its tiles, and which of its windows were emitted how often while they can still be corrected.

use super::event::Value;
use super::key::Key;
use super::outcome::{Counters, Emission, Window};
use super::plan::{Plan, Shape, ceil};
use super::read;
use super::tiles::{Run, Tiles, needed_until};
use vocabulary::time::Timestamp;

#[derive(Clone, Debug)]
pub(super) struct Keyed {
    pub(super) key: Key,
    /// The watermark at which there is something to do for this key, or an earlier one.
    pub(super) due: i64,
    /// By grid.
    pub(super) grids: Box<[Tiles]>,
    pub(super) fired: Vec<Fired>,
}

/// A window that was emitted and is not final.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fired {
    pub(super) window: u32,
    pub(super) start: i64,
    pub(super) end: i64,
    /// How often; the next pane's number.
    pub(super) panes: u32,
}

/// Where emissions go, and what decides about them.
pub(super) struct Sink<'a> {
    pub(super) plan: &'a Plan,
    pub(super) watermark: i64,
    /// Each with the end that puts it in order.
    pub(super) emitted: Vec<(i64, Window)>,
    pub(super) counters: &'a mut Counters,
}

impl Sink<'_> {
    /// Windows that end by then are final.
    pub(super) fn horizon(&self) -> i64 {
        self.watermark - self.plan.lateness
    }

    fn emit(&mut self, order: i64, key: &Key, fired: &Fired, emission: Emission, values: Vec<Value>) {
        match emission {
            Emission::Closed => self.counters.closed += 1,
            Emission::Corrected => self.counters.corrected += 1,
            Emission::Withdrawn => self.counters.withdrawn += 1,
        }
        let window = Window {
            window: fired.window as usize,
            key: key.clone(),
            start: Timestamp(fired.start),
            end: Timestamp(fired.end),
            pane: fired.panes,
            emission,
            values,
        };
        self.emitted.push((order, window));
    }
}

impl Keyed {
    pub(super) fn new(plan: &Plan, key: Key) -> Keyed {
        Keyed { key, due: i64::MAX, grids: plan.grids.iter().map(|_| Tiles::default()).collect(), fired: Vec::new() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.grids.iter().all(|tiles| tiles.0.is_empty())
    }

    /// Emits the windows that end behind `from` and by the watermark.
    pub(super) fn fire(&mut self, from: i64, sink: &mut Sink<'_>) {
        let plan = sink.plan;
        for (place, window) in plan.windows.iter().enumerate() {
            let grid = &plan.grids[window.grid];
            match window.shape {
                Shape::Aligned { .. } => {
                    let mut after = from;
                    while let Some(end) = self.grids[window.grid].next_end(grid, window.shape, after)
                        && end <= sink.watermark
                    {
                        self.fire_aligned(place, end, sink);
                        after = end;
                    }
                }
                Shape::Session { gap } => {
                    let ended = |run: &Run| (from + 1..=sink.watermark).contains(&(run.last + gap));
                    let runs: Vec<Run> = self.grids[window.grid].runs(gap).filter(ended).collect();
                    runs.iter().for_each(|run| self.fire_session(place, run, gap, sink));
                }
                Shape::Sliding { .. } => {}
            }
        }
    }

    /// Emits the windows behind the watermark that contain a late event, which has been added.
    pub(super) fn correct(&mut self, time: i64, sink: &mut Sink<'_>) {
        let plan = sink.plan;
        for (place, window) in plan.windows.iter().enumerate() {
            match window.shape {
                Shape::Aligned { size, slide } => {
                    let mut end = ceil(time + 1, slide);
                    while end <= sink.watermark && end - size <= time {
                        self.fire_aligned(place, end, sink);
                        end += slide;
                    }
                }
                Shape::Session { gap } => {
                    let tiles = &self.grids[window.grid];
                    if let Ok(tile) = tiles.place(plan.grids[window.grid].index(time)) {
                        let run = tiles.run(gap, tile);
                        if run.last + gap <= sink.watermark {
                            self.fire_session(place, &run, gap, sink);
                        }
                    }
                }
                Shape::Sliding { .. } => {}
            }
        }
    }

    fn fire_aligned(&mut self, place: usize, end: i64, sink: &mut Sink<'_>) {
        let plan = sink.plan;
        let window = &plan.windows[place];
        let Shape::Aligned { size, .. } = window.shape else { return };
        let mut values = Vec::new();
        read::aligned(plan, window, &self.grids[window.grid], end, &mut values);
        let fired = self.numbered(place, end - size, end, sink.horizon());
        let emission = if fired.panes == 0 { Emission::Closed } else { Emission::Corrected };
        sink.emit(end, &self.key, &fired, emission, values);
    }

    /// A session that was emitted with another start, and is part of this one now, is taken back.
    fn fire_session(&mut self, place: usize, run: &Run, gap: i64, sink: &mut Sink<'_>) {
        let plan = sink.plan;
        let (window, end) = (&plan.windows[place], run.last + gap);
        let mut values = Vec::new();
        read::session(plan, window, &self.grids[window.grid], run, end, &mut values);
        let absorbed = |fired: &Fired| {
            fired.window == place as u32 && fired.start != run.first && fired.start < end && run.first < fired.end
        };
        for gone in self.fired.extract_if(.., |fired| absorbed(fired)) {
            sink.emit(end, &self.key, &gone, Emission::Withdrawn, Vec::new());
        }
        let fired = self.numbered(place, run.first, end, sink.horizon());
        let emission = if fired.panes == 0 { Emission::Closed } else { Emission::Corrected };
        sink.emit(end, &self.key, &fired, emission, values);
    }

    /// The pane to emit; the next number is kept where the window can be emitted again.
    fn numbered(&mut self, place: usize, start: i64, end: i64, horizon: i64) -> Fired {
        let found = self.fired.iter_mut().find(|fired| fired.window == place as u32 && fired.start == start);
        if let Some(fired) = found {
            let pane = Fired { end, ..fired.clone() };
            fired.end = end;
            fired.panes += 1;
            return pane;
        }
        let pane = Fired { window: place as u32, start, end, panes: 0 };
        if end > horizon {
            self.fired.push(Fired { panes: 1, ..pane.clone() });
        }
        pane
    }

    /// Whether a window that was emitted may be emitted again. A session is kept as long as its tiles: a late event may
    /// have made it part of one that is not final.
    pub(super) fn may_fire_again(plan: &Plan, grids: &[Tiles], fired: &Fired, horizon: i64) -> bool {
        let window = &plan.windows[fired.window as usize];
        let grid = &plan.grids[window.grid];
        fired.end > horizon || (grid.gap.is_some() && grids[window.grid].place(grid.index(fired.start)).is_ok())
    }

    /// Drops what nobody can ask for any more; returns how many tiles and whole events went.
    pub(super) fn expire(&mut self, plan: &Plan, horizon: i64) -> (u64, u64) {
        let mut gone = (0, 0);
        for (tiles, grid) in self.grids.iter_mut().zip(&plan.grids) {
            let (dropped, events) = tiles.expire(plan, grid, horizon);
            gone = (gone.0 + dropped, gone.1 + events);
        }
        let grids = &self.grids;
        self.fired.retain(|fired| Keyed::may_fire_again(plan, grids, fired, horizon));
        gone
    }

    /// The watermark at which there is next something to do.
    pub(super) fn next_due(&self, plan: &Plan, watermark: i64) -> i64 {
        let mut due = i64::MAX;
        for window in &plan.windows {
            let (tiles, grid) = (&self.grids[window.grid], &plan.grids[window.grid]);
            let next = match window.shape {
                Shape::Aligned { .. } => tiles.next_end(grid, window.shape, watermark),
                Shape::Session { gap } => tiles.runs(gap).map(|run| run.last + gap).find(|end| *end > watermark),
                Shape::Sliding { .. } => None,
            };
            due = due.min(next.unwrap_or(i64::MAX));
        }
        let expiries = self.grids.iter().zip(&plan.grids).filter_map(|(tiles, grid)| tiles.next_expiry(plan, grid));
        expiries.map(|horizon| horizon + plan.lateness).fold(due, i64::min)
    }
}

/// A watermark no later than the one at which a new tile, made for an event of this time, needs something done.
pub(super) fn due_for_tile(plan: &Plan, grid: usize, time: i64, watermark: i64) -> i64 {
    let grid = &plan.grids[grid];
    let index = grid.index(time);
    // Its events are kept whole until the horizon passes it.
    let cut = grid.end(index) + plan.lateness;
    let mut due = if grid.heads && cut > watermark { cut } else { i64::MAX };
    if let Some(gap) = grid.gap {
        let end = time + gap;
        return due.min(if end > watermark { end } else { end + plan.lateness });
    }
    due = due.min(needed_until(plan, grid, index) + plan.lateness);
    for window in &grid.windows {
        if let Shape::Aligned { slide, .. } = plan.windows[*window].shape {
            due = due.min(ceil(time.max(watermark) + 1, slide));
        }
    }
    due
}
