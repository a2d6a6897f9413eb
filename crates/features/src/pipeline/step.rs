//! The steps of a pipeline: as they land on disk, and as they run.

use super::means::{Encoder, Mean};
use super::{InputColumn, Recipe, Stored};
use crate::hash::{Atom, Purpose, SlotHash};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use vocabulary::inputs::{DenseColumn, Layout};
use vocabulary::model::TimePart;

/// One fitted step. The recipe says whether time parts become dense columns or slots.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Step {
    /// A number as it is: one dense column.
    Number { from: NumberSource },
    /// A number clipped to `[low, high]`, less `mean`, divided by `scale`; whether it is missing; and the slot of its
    /// bin: two dense columns and a slot.
    Scaled { from: NumberSource, low: f64, high: f64, mean: f64, scale: f64, edges: Vec<f64> },
    /// The place of a category among `values`; any other has the place after the last: one dense column.
    Codes { column: String, values: Vec<String> },
    /// The target's mean where these columns have these values, and how often that was seen: two dense columns.
    Means { columns: Vec<String>, prior: f64, smoothing: f64, entries: BTreeMap<String, Mean> },
    /// The values of these columns taken as one category: one slot.
    Category { columns: Vec<String> },
    /// Parts of an instant in a time zone: one dense column or slot each.
    Parts { column: String, zone: String, parts: Vec<TimePart> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum NumberSource {
    Column(String),
    /// Seconds from `earlier` to `later`.
    Difference {
        later: String,
        earlier: String,
    },
}

impl NumberSource {
    pub(super) fn name(&self) -> String {
        match self {
            NumberSource::Column(name) => name.clone(),
            NumberSource::Difference { later, earlier } => format!("{later}-{earlier}"),
        }
    }

    pub(super) fn columns(&self) -> Vec<&str> {
        match self {
            NumberSource::Column(name) => vec![name],
            NumberSource::Difference { later, earlier } => vec![later, earlier],
        }
    }
}

impl Step {
    /// Figures that would make a transform fail are refused when the pipeline is read.
    fn check(&self) -> Result<(), String> {
        let sound = match self {
            Step::Scaled { low, high, mean, scale, edges, .. } => {
                let finite = [low, high, mean, scale].iter().all(|value| value.is_finite());
                finite && low <= high && *scale > 0.0 && edges.windows(2).all(|pair| pair[0] < pair[1])
            }
            Step::Means { columns, .. } | Step::Category { columns } => !columns.is_empty(),
            Step::Number { .. } | Step::Codes { .. } | Step::Parts { .. } => true,
        };
        match sound {
            true => Ok(()),
            false => Err(format!("the scale or bins of {:?} are not sound; the file was changed", self.columns())),
        }
    }

    /// The columns that the step reads.
    pub(super) fn columns(&self) -> Vec<&str> {
        match self {
            Step::Number { from } | Step::Scaled { from, .. } => from.columns(),
            Step::Codes { column, .. } | Step::Parts { column, .. } => vec![column],
            Step::Means { columns, .. } | Step::Category { columns } => columns.iter().map(String::as_str).collect(),
        }
    }
}

pub(super) fn part_name(part: TimePart) -> &'static str {
    match part {
        TimePart::Hour => "hour",
        TimePart::MinuteOfDay => "minute_of_day",
        TimePart::Weekday => "weekday",
        TimePart::HourOfWeek => "hour_of_week",
        TimePart::Day => "day",
        TimePart::Month => "month",
        TimePart::DayOfYear => "day_of_year",
        TimePart::Year => "year",
    }
}

/// The steps, ready to run: names are places, categories are tables, hashes have their prefixes.
#[derive(Clone, Debug)]
pub(super) struct Program {
    pub(super) ops: Vec<Op>,
    pub(super) dense_width: usize,
    pub(super) slot_width: usize,
    pub(super) table_bits: u8,
}

/// A step in a program. `dense` and `slot` are the places of its first output columns.
#[derive(Clone, Debug)]
pub(super) enum Op {
    Number { from: Source, dense: usize },
    Scaled { from: Source, scale: Scale, bins: BinSlots, dense: usize, slot: usize },
    Codes { column: usize, codes: HashMap<String, f32>, unseen: f32, dense: usize },
    Means { encoder: Encoder, dense: usize },
    Category { columns: Vec<usize>, prefix: SlotHash, slot: usize },
    DenseParts { column: usize, zone: Tz, parts: Vec<TimePart>, dense: usize },
    SlotParts { column: usize, zone: Tz, parts: Vec<(TimePart, SlotHash)>, slot: usize },
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    Column(usize),
    Difference { later: usize, earlier: usize },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) mean: f64,
    pub(super) scale: f64,
}

/// The hash of each bin, computed ahead: null first, then from the lowest.
#[derive(Clone, Debug)]
pub(super) struct BinSlots {
    pub(super) edges: Vec<f64>,
    pub(super) hashes: Vec<u64>,
}

impl BinSlots {
    fn new(prefix: SlotHash, edges: &[f64]) -> BinSlots {
        let bins = (0..=edges.len() as i64).map(|bin| prefix.with(Atom::Int(bin)).finish());
        let hashes = std::iter::once(prefix.with(Atom::Null).finish()).chain(bins).collect();
        BinSlots { edges: edges.to_vec(), hashes }
    }

    pub(super) fn hash(&self, value: Option<f64>) -> u64 {
        let bin = value.map_or(0, |value| 1 + self.edges.partition_point(|edge| *edge < value));
        self.hashes[bin]
    }
}

/// The names of what the steps give, in order.
pub(super) fn layout(recipe: Recipe, steps: &[Step], table_bits: u8) -> Layout {
    let mut layout = Layout { table_bits, ..Layout::default() };
    let dense = |name: String, categorical: bool| DenseColumn { name, categorical };
    for step in steps {
        match step {
            Step::Number { from } => layout.dense.push(dense(from.name(), false)),
            Step::Scaled { from, .. } => {
                let name = from.name();
                layout.slots.push(format!("{name}:bin"));
                let missing = format!("{name}:missing");
                layout.dense.extend([dense(name, false), dense(missing, false)]);
            }
            Step::Codes { column, .. } => layout.dense.push(dense(column.clone(), true)),
            Step::Means { columns, .. } => {
                layout.dense.push(dense(format!("{}:mean", columns.join("*")), false));
                layout.dense.push(dense(format!("{}:log_count", columns.join("*")), false));
            }
            Step::Category { columns } => layout.slots.push(columns.join("*")),
            Step::Parts { column, parts, .. } => {
                for part in parts {
                    let name = format!("{column}:{}", part_name(*part));
                    match recipe {
                        Recipe::Trees => layout.dense.push(dense(name, false)),
                        Recipe::Linear | Recipe::Network => layout.slots.push(name),
                    }
                }
            }
        }
    }
    if layout.slots.is_empty() {
        layout.table_bits = 0;
    }
    layout
}

impl Program {
    /// Checks what was stored and makes it ready. Problems are in words for a person.
    pub(super) fn build(stored: &Stored) -> Result<Program, String> {
        let table_bits = stored.layout.table_bits;
        if stored.layout != layout(stored.recipe, &stored.steps, table_bits) {
            return Err("its layout is not that of its steps; the file was changed".to_owned());
        }
        if table_bits > 32 {
            return Err(format!("a table of {table_bits} bits is too large"));
        }
        let mut program = Program { ops: Vec::new(), dense_width: 0, slot_width: 0, table_bits };
        for step in &stored.steps {
            step.check()?;
            let op = program.op(step, stored)?;
            program.ops.push(op);
        }
        Ok(program)
    }

    /// Compiles one step and reserves its places.
    fn op(&mut self, step: &Step, stored: &Stored) -> Result<Op, String> {
        let place = |name: &str| place(&stored.columns, name);
        let places = |names: &[String]| names.iter().map(|name| place(name)).collect::<Result<Vec<_>, _>>();
        let prefix = |purpose, names: &[&str]| SlotHash::prefix(stored.seed, purpose, names);
        let source = |from: &NumberSource| {
            Ok::<_, String>(match from {
                NumberSource::Column(name) => Source::Column(place(name)?),
                NumberSource::Difference { later, earlier } => {
                    Source::Difference { later: place(later)?, earlier: place(earlier)? }
                }
            })
        };
        Ok(match step {
            Step::Number { from } => Op::Number { from: source(from)?, dense: self.dense(1) },
            Step::Scaled { from, low, high, mean, scale, edges } => Op::Scaled {
                from: source(from)?,
                scale: Scale { low: *low, high: *high, mean: *mean, scale: *scale },
                bins: BinSlots::new(prefix(Purpose::Bin, &from.columns()), edges),
                dense: self.dense(2),
                slot: self.slots(1),
            },
            Step::Codes { column, values } => Op::Codes {
                column: place(column)?,
                codes: values.iter().enumerate().map(|(code, value)| (value.clone(), code as f32)).collect(),
                unseen: values.len() as f32,
                dense: self.dense(1),
            },
            Step::Means { columns, prior, smoothing, entries } => {
                let encoder = Encoder::new(places(columns)?, *prior, *smoothing, entries);
                Op::Means { encoder, dense: self.dense(2) }
            }
            Step::Category { columns } => {
                let names: Vec<&str> = columns.iter().map(String::as_str).collect();
                let prefix = prefix(Purpose::Category, &names);
                Op::Category { columns: places(columns)?, prefix, slot: self.slots(1) }
            }
            Step::Parts { column, zone, parts } => {
                let zone: Tz = zone.parse().map_err(|_| format!("\"{zone}\" is not a time zone"))?;
                let column_place = place(column)?;
                match stored.recipe {
                    Recipe::Trees => {
                        let dense = self.dense(parts.len());
                        Op::DenseParts { column: column_place, zone, parts: parts.clone(), dense }
                    }
                    Recipe::Linear | Recipe::Network => {
                        let prefixed = |part: &TimePart| (*part, prefix(Purpose::Part, &[column, part_name(*part)]));
                        let slot = self.slots(parts.len());
                        Op::SlotParts { column: column_place, zone, parts: parts.iter().map(prefixed).collect(), slot }
                    }
                }
            }
        })
    }

    fn dense(&mut self, width: usize) -> usize {
        self.dense_width += width;
        self.dense_width - width
    }

    fn slots(&mut self, width: usize) -> usize {
        self.slot_width += width;
        self.slot_width - width
    }
}

fn place(columns: &[InputColumn], name: &str) -> Result<usize, String> {
    let found = columns.iter().position(|column| column.name == name);
    found.ok_or_else(|| format!("a step reads column \"{name}\", which is not among its columns"))
}
