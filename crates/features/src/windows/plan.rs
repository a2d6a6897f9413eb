//! A stream's declaration, compiled: grids of tiles that windows share, the partial aggregates of each grid, and how a
//! window's values are read from them.

use super::reader::value_columns;
use crate::FeatureError;
use crate::hash::{Atom, Purpose, SlotHash};
use std::ops::Range;
use vocabulary::contract::ColumnKind;
use vocabulary::stream::{
    AggregateFunction, AggregateSpec, DUPLICATES_MAX, StreamFeature, StreamSpec, WindowKind, WindowSpec,
};

/// A partial aggregate; `column` is a place among the event's values, none for the event itself.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum SlotKind {
    Count { column: usize },
    Sum { column: usize },
    Squares { column: usize },
    Min { column: usize },
    Max { column: usize },
    Distinct { column: usize },
    Quantiles { column: usize },
    Last { column: usize, k: usize },
    Decayed { column: Option<usize>, half_life: i64 },
}

impl SlotKind {
    pub(super) fn column(&self) -> Option<usize> {
        match *self {
            SlotKind::Count { column }
            | SlotKind::Sum { column }
            | SlotKind::Squares { column }
            | SlotKind::Min { column }
            | SlotKind::Max { column }
            | SlotKind::Distinct { column }
            | SlotKind::Quantiles { column }
            | SlotKind::Last { column, .. } => Some(column),
            SlotKind::Decayed { column, .. } => column,
        }
    }
}

/// How an aggregate is read from slots.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Reading {
    Events,
    Count { slot: usize },
    Sum { slot: usize },
    Mean { slot: usize },
    Variance { sum: usize, squares: usize },
    Least { slot: usize },
    Greatest { slot: usize },
    Distinct { slot: usize },
    Quantile { slot: usize, q: f64 },
    Last { slot: usize, k: usize },
    Decayed { slot: usize, half_life: i64 },
}

/// Tiles of one length, and what each keeps.
#[derive(Clone, Debug)]
pub(super) struct Grid {
    pub(super) tile: i64,
    /// The gap, where the grid is a session window's; no other window shares it.
    pub(super) gap: Option<i64>,
    pub(super) slots: Vec<SlotKind>,
    /// The windows read from it.
    pub(super) windows: Vec<usize>,
    /// Whether the events of tiles that a look-up may cut are kept whole.
    pub(super) heads: bool,
    /// Whether the events' identifiers are kept with them.
    pub(super) ids: bool,
    /// The columns that its slots use.
    pub(super) columns: Vec<usize>,
}

/// The shape of a window; all in microseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Shape {
    /// Tumbling and hopping: ends every `slide`.
    Aligned {
        size: i64,
        slide: i64,
    },
    Sliding {
        size: i64,
    },
    Session {
        gap: i64,
    },
}

#[derive(Clone, Debug)]
pub(super) struct WindowPlan {
    pub(super) shape: Shape,
    pub(super) grid: usize,
    pub(super) readings: Vec<Reading>,
}

#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) spec: StreamSpec,
    pub(super) columns: Vec<String>,
    pub(super) features: Vec<StreamFeature>,
    pub(super) grids: Vec<Grid>,
    pub(super) windows: Vec<WindowPlan>,
    pub(super) lateness: i64,
    pub(super) out_of_order: i64,
    /// How long identifiers are remembered, and how many.
    pub(super) remembered: i64,
    pub(super) ids_max: usize,
    /// What the state's bytes depend on.
    pub(super) digest: u64,
}

impl Plan {
    pub(super) fn new(spec: &StreamSpec) -> Result<Plan, FeatureError> {
        if let Some(problem) = spec.problems().first() {
            return Err(FeatureError::Declaration(problem.to_string()));
        }
        let columns: Vec<(String, ColumnKind)> = value_columns(spec);
        let names: Vec<String> = columns.into_iter().map(|(name, _)| name).collect();
        let (mut grids, mut windows) = (Vec::new(), Vec::new());
        for (place, window) in spec.windows.iter().enumerate() {
            windows.push(WindowPlan::new(window, place, &names, &mut grids));
        }
        for grid in &mut grids {
            grid.settle();
        }
        Ok(Plan {
            columns: names,
            features: spec.features(),
            grids,
            windows,
            lateness: spec.allowed_lateness.0,
            out_of_order: spec.out_of_order.0,
            remembered: spec.remembered().0,
            ids_max: usize::try_from(spec.duplicates.max.unwrap_or(DUPLICATES_MAX)).unwrap_or(usize::MAX),
            digest: digest(spec),
            spec: spec.clone(),
        })
    }

    /// The first end of a window that contains an event of this time, over all windows; of a sliding window or a session
    /// every instant behind the event is an end.
    pub(super) fn first_end(&self, time: i64) -> i64 {
        let ends = self.windows.iter().map(|window| match window.shape {
            Shape::Aligned { slide, .. } => floor(time, slide) + slide,
            Shape::Sliding { .. } | Shape::Session { .. } => time + 1,
        });
        ends.min().unwrap_or(time + 1)
    }
}

/// The greatest multiple of `step` that is at most `time`.
#[inline]
pub(super) fn floor(time: i64, step: i64) -> i64 {
    time.div_euclid(step) * step
}

/// The least multiple of `step` that is at least `time`.
#[inline]
pub(super) fn ceil(time: i64, step: i64) -> i64 {
    floor(time + step - 1, step)
}

impl WindowPlan {
    fn new(window: &WindowSpec, place: usize, columns: &[String], grids: &mut Vec<Grid>) -> WindowPlan {
        let tile = window.tile().0;
        let micros = |span: Option<vocabulary::Span>| span.unwrap_or_default().0;
        let shape = match window.kind {
            WindowKind::Tumbling => Shape::Aligned { size: micros(window.size), slide: micros(window.size) },
            WindowKind::Hopping => Shape::Aligned { size: micros(window.size), slide: micros(window.slide) },
            WindowKind::Sliding => Shape::Sliding { size: micros(window.size) },
            WindowKind::Session => Shape::Session { gap: micros(window.gap) },
        };
        let gap = match shape {
            Shape::Session { gap } => Some(gap),
            _ => None,
        };
        let shared = grids.iter().position(|grid| grid.tile == tile && grid.gap.is_none() && gap.is_none());
        let grid = shared.unwrap_or_else(|| {
            grids.push(Grid::new(tile, gap));
            grids.len() - 1
        });
        grids[grid].windows.push(place);
        grids[grid].heads |= !matches!(shape, Shape::Aligned { .. });
        let readings = window.aggregates.iter().map(|aggregate| grids[grid].reading(aggregate, columns)).collect();
        WindowPlan { shape, grid, readings }
    }
}

impl Grid {
    fn new(tile: i64, gap: Option<i64>) -> Grid {
        Grid { tile, gap, slots: Vec::new(), windows: Vec::new(), heads: false, ids: false, columns: Vec::new() }
    }

    /// How an aggregate is read; adds the slots that it lacks.
    fn reading(&mut self, aggregate: &AggregateSpec, columns: &[String]) -> Reading {
        let of = aggregate.of.as_ref().and_then(|of| columns.iter().position(|name| name == of));
        let half_life = aggregate.half_life.unwrap_or_default().0;
        let Some(column) = of else {
            return match aggregate.function {
                AggregateFunction::Decayed => {
                    Reading::Decayed { slot: self.slot(SlotKind::Decayed { column: None, half_life }), half_life }
                }
                _ => Reading::Events,
            };
        };
        match aggregate.function {
            AggregateFunction::Count => Reading::Count { slot: self.slot(SlotKind::Count { column }) },
            AggregateFunction::Sum => Reading::Sum { slot: self.slot(SlotKind::Sum { column }) },
            AggregateFunction::Mean => Reading::Mean { slot: self.slot(SlotKind::Sum { column }) },
            AggregateFunction::Variance => Reading::Variance {
                sum: self.slot(SlotKind::Sum { column }),
                squares: self.slot(SlotKind::Squares { column }),
            },
            AggregateFunction::Min => Reading::Least { slot: self.slot(SlotKind::Min { column }) },
            AggregateFunction::Max => Reading::Greatest { slot: self.slot(SlotKind::Max { column }) },
            AggregateFunction::Distinct => Reading::Distinct { slot: self.slot(SlotKind::Distinct { column }) },
            AggregateFunction::Quantile => {
                Reading::Quantile { slot: self.slot(SlotKind::Quantiles { column }), q: aggregate.q.unwrap_or(0.5) }
            }
            AggregateFunction::Last => {
                let k = aggregate.k.unwrap_or(1) as usize;
                Reading::Last { slot: self.last(column, k), k }
            }
            AggregateFunction::Decayed => {
                Reading::Decayed { slot: self.slot(SlotKind::Decayed { column: Some(column), half_life }), half_life }
            }
        }
    }

    fn slot(&mut self, kind: SlotKind) -> usize {
        self.slots.iter().position(|slot| *slot == kind).unwrap_or_else(|| {
            self.slots.push(kind);
            self.slots.len() - 1
        })
    }

    /// The column's slot of newest values, with room for `k`.
    fn last(&mut self, column: usize, k: usize) -> usize {
        for (place, slot) in self.slots.iter_mut().enumerate() {
            if let SlotKind::Last { column: of, k: room } = slot
                && *of == column
            {
                *room = k.max(*room);
                return place;
            }
        }
        self.slot(SlotKind::Last { column, k })
    }

    fn settle(&mut self) {
        self.ids = self.slots.iter().any(|slot| matches!(slot, SlotKind::Last { .. }));
        for column in self.slots.iter().filter_map(SlotKind::column) {
            if !self.columns.contains(&column) {
                self.columns.push(column);
            }
        }
    }

    pub(super) fn index(&self, time: i64) -> i64 {
        time.div_euclid(self.tile)
    }

    pub(super) fn start(&self, index: i64) -> i64 {
        index * self.tile
    }

    pub(super) fn end(&self, index: i64) -> i64 {
        (index + 1) * self.tile
    }
}

/// The tiles, by index, that a window ending at `end` (aligned) or looked up at `end` (sliding) reads.
pub(super) fn span(shape: Shape, grid: &Grid, end: i64) -> Range<i64> {
    match shape {
        Shape::Aligned { size, .. } => grid.index(end - size)..grid.index(end),
        Shape::Sliding { size } => grid.index(end - size)..grid.index(end - 1) + 1,
        // Sessions are found by their events.
        Shape::Session { .. } => 0..0,
    }
}

/// A hash of the parts of a declaration that decide what the state means.
fn digest(spec: &StreamSpec) -> u64 {
    let part = |value: serde_json::Result<String>| value.unwrap_or_default();
    let mut hash = SlotHash::prefix(1, Purpose::Distinct, &[]);
    let kinds: Vec<Option<ColumnKind>> = spec.used_columns().into_iter().map(|name| spec.column(name)).collect();
    for text in [
        part(serde_json::to_string(&spec.windows)),
        part(serde_json::to_string(&(&spec.time, &spec.key, &spec.id))),
        part(serde_json::to_string(&kinds)),
        part(serde_json::to_string(&(spec.out_of_order, spec.allowed_lateness, spec.remembered()))),
    ] {
        hash = hash.with(Atom::Text(&text));
    }
    hash.finish()
}
