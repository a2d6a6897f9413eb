//! The steps as they run: names are places, categories are tables, hashes have their prefixes.

use super::bag::Bag;
use super::calendar::{CalendarPart, Circle};
use super::derived::Derived;
use super::means::Encoder;
use super::recency::RecencyEncoder;
use super::step::{NumberSource, Standard, Step, layout, part_name};
use super::table::Table;
use super::{Recipe, Stored};
use crate::hash::{Atom, Purpose, Quick, SlotHash};
use chrono_tz::Tz;
use std::collections::HashMap;
use vocabulary::model::TimePart;

#[derive(Clone, Debug)]
pub(super) struct Program {
    /// Their columns stand behind those of the batch, in this order.
    pub(super) derived: Vec<DerivedOp>,
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
    Standard { from: Source, scale: Scale, dense: usize },
    Projection { inputs: Vec<(Source, Scale)>, factor: f64, weights: Vec<Vec<f64>>, dense: usize },
    Codes { columns: [usize; 1], codes: HashMap<String, f32, Quick>, unseen: f32, dense: usize },
    Means { encoder: Encoder, dense: usize },
    Category { columns: Vec<usize>, prefix: SlotHash, slot: usize },
    Vocabulary { table: Table, slot: usize },
    DenseParts { column: usize, zone: Tz, parts: Vec<TimePart>, dense: usize },
    SlotParts { column: usize, zone: Tz, parts: Vec<(TimePart, SlotHash)>, slot: usize },
    Calendar { column: usize, zone: Tz, parts: Vec<CalendarPart>, dense: usize, slot: usize },
    Recency { encoder: RecencyEncoder, dense: usize },
    Cyclic { column: usize, zone: Tz, circles: Vec<Circle>, dense: usize },
    Bag { bag: Bag, dense: usize },
}

/// A derived column: the places of what it reads, and what it computes.
#[derive(Clone, Debug)]
pub(super) struct DerivedOp {
    pub(super) places: Vec<usize>,
    pub(super) derived: Derived,
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

impl Scale {
    #[inline]
    pub(super) fn apply(&self, value: f64) -> f64 {
        (value.clamp(self.low, self.high) - self.mean) / self.scale
    }
}

impl From<&Standard> for Scale {
    fn from(standard: &Standard) -> Scale {
        let Standard { low, high, mean, scale, .. } = *standard;
        Scale { low, high, mean, scale }
    }
}

/// The hash of each bin, computed ahead: null first, then from the lowest.
#[derive(Clone, Debug)]
pub(super) struct BinSlots {
    edges: Vec<f64>,
    hashes: Vec<u64>,
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
        let own = stored.layout.tables.len();
        if own > 0 && own != stored.layout.slots.len() {
            return Err("some of its slots have a table of their own, and some do not; the file was changed".to_owned());
        }
        let derived = stored.derived.iter().map(|derived| derived_op(stored, derived)).collect::<Result<_, _>>()?;
        let mut program = Program { derived, ops: Vec::new(), dense_width: 0, slot_width: 0, table_bits };
        for step in &stored.steps {
            step.check()?;
            let op = program.op(step, stored)?;
            program.ops.push(op);
        }
        Ok(program)
    }

    /// Compiles one step and reserves its places.
    fn op(&mut self, step: &Step, stored: &Stored) -> Result<Op, String> {
        let place = |name: &str| place(stored, name);
        let places = |names: &[String]| names.iter().map(|name| place(name)).collect::<Result<Vec<_>, _>>();
        let source = |from: &NumberSource| source(stored, from);
        Ok(match step {
            Step::Number { from } => Op::Number { from: source(from)?, dense: self.dense(1) },
            Step::Scaled { from, low, high, mean, scale, edges } => Op::Scaled {
                from: source(from)?,
                scale: Scale { low: *low, high: *high, mean: *mean, scale: *scale },
                bins: BinSlots::new(SlotHash::prefix(stored.seed, Purpose::Bin, &from.columns()), edges),
                dense: self.dense(2),
                slot: self.slots(1),
            },
            Step::Standard(standard) => {
                Op::Standard { from: source(&standard.from)?, scale: standard.into(), dense: self.dense(2) }
            }
            Step::Projection { inputs, factor, weights, .. } => {
                let input = |input: &Standard| Ok::<_, String>((source(&input.from)?, input.into()));
                let inputs = inputs.iter().map(input).collect::<Result<_, _>>()?;
                Op::Projection { inputs, factor: *factor, weights: weights.clone(), dense: self.dense(weights.len()) }
            }
            Step::Codes { column, values } => Op::Codes {
                columns: [place(column)?],
                codes: values.iter().enumerate().map(|(code, value)| (value.clone(), code as f32)).collect(),
                unseen: values.len() as f32,
                dense: self.dense(1),
            },
            Step::Means { columns, prior, smoothing, entries } => {
                let encoder = Encoder::of_quantity(places(columns)?, *prior, *smoothing, entries);
                Op::Means { dense: self.dense(encoder.width()), encoder }
            }
            Step::ClassMeans { columns, classes, priors, smoothing, entries } => {
                let classes = classes.iter().map(|class| class.place).collect();
                let encoder = Encoder::of_classes(places(columns)?, classes, priors, *smoothing, entries);
                Op::Means { dense: self.dense(encoder.width()), encoder }
            }
            Step::Category { columns } => {
                let prefix = prefix(stored, Purpose::Category, columns);
                Op::Category { columns: places(columns)?, prefix, slot: self.slots(1) }
            }
            Step::Vocabulary { columns, values, buckets } => {
                let prefix = prefix(stored, Purpose::Unknown, columns);
                let table = Table::new(places(columns)?, values, *buckets, prefix);
                let table = table.ok_or_else(|| format!("{columns:?} know a value twice; the file was changed"))?;
                Op::Vocabulary { table, slot: self.slots(1) }
            }
            Step::Statistics(statistics) => {
                let encoder = Encoder::of_statistics(places(&statistics.columns)?, statistics);
                Op::Means { dense: self.dense(encoder.width()), encoder }
            }
            Step::Recency(recency) => {
                let encoder = RecencyEncoder::new(places(&recency.columns)?, place(&recency.time)?, recency);
                Op::Recency { dense: self.dense(encoder.width()), encoder }
            }
            Step::Cyclic { column, zone, parts } => {
                let circles = parts.iter().filter_map(|part| Circle::new(*part, missing(stored.recipe)));
                let (column, zone, circles) = (place(column)?, time_zone(zone)?, circles.collect());
                Op::Cyclic { column, zone, circles, dense: self.dense(2 * parts.len()) }
            }
            Step::Bag { column, content, scale, slots } => {
                let (place, width) = (place(column)?, *slots as usize);
                let bag =
                    Bag::new([place, width], content.clone(), *scale, (stored.seed, column), missing(stored.recipe));
                Op::Bag { bag, dense: self.dense(width) }
            }
            Step::Parts { column, zone, parts } => self.parts(stored, column, zone, parts)?,
            Step::Calendar { column, zone, parts, years } => {
                let around = parts.iter().filter(|part| super::calendar::comes_round(**part)).count();
                Op::Calendar {
                    column: place(column)?,
                    zone: time_zone(zone)?,
                    parts: parts.iter().map(|part| CalendarPart::new(*part, years)).collect(),
                    dense: self.dense(2 * around),
                    slot: self.slots(parts.len()),
                }
            }
        })
    }

    fn parts(&mut self, stored: &Stored, column: &str, zone: &str, parts: &[TimePart]) -> Result<Op, String> {
        let zone = time_zone(zone)?;
        let place = place(stored, column)?;
        Ok(match stored.recipe {
            Recipe::Trees => {
                Op::DenseParts { column: place, zone, parts: parts.to_vec(), dense: self.dense(parts.len()) }
            }
            Recipe::Linear | Recipe::Network => {
                let prefixed = |part: &TimePart| {
                    (*part, SlotHash::prefix(stored.seed, Purpose::Part, &[column, part_name(*part)]))
                };
                let slot = self.slots(parts.len());
                Op::SlotParts { column: place, zone, parts: parts.iter().map(prefixed).collect(), slot }
            }
        })
    }

    /// Whether rows that are learned from are encoded by the targets of others.
    pub(super) fn learns_from_targets(&self) -> bool {
        self.ops.iter().any(|op| matches!(op, Op::Means { encoder, .. } if encoder.means() > 0))
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

fn prefix(stored: &Stored, purpose: Purpose, columns: &[String]) -> SlotHash {
    let names: Vec<&str> = columns.iter().map(String::as_str).collect();
    SlotHash::prefix(stored.seed, purpose, &names)
}

fn time_zone(name: &str) -> Result<Tz, String> {
    name.parse().map_err(|_| format!("\"{name}\" is not a time zone"))
}

/// What a missing value gives: learners but trees take finite numbers alone.
fn missing(recipe: Recipe) -> f32 {
    if recipe == Recipe::Trees { f32::NAN } else { 0.0 }
}

fn derived_op(stored: &Stored, derived: &Derived) -> Result<DerivedOp, String> {
    let find = |name: &str| stored.columns.iter().position(|column| column.name == name);
    let mut places = Vec::new();
    for name in derived.columns() {
        places.push(
            find(name).ok_or_else(|| format!("\"{}\" reads column \"{name}\", which is not there", derived.name))?,
        );
    }
    let kinds: Vec<_> = places.iter().map(|place| stored.columns[*place].kind).collect();
    derived.check(&kinds)?;
    Ok(DerivedOp { places, derived: derived.clone() })
}

fn source(stored: &Stored, from: &NumberSource) -> Result<Source, String> {
    Ok(match from {
        NumberSource::Column(name) => Source::Column(place(stored, name)?),
        NumberSource::Difference { later, earlier } => {
            Source::Difference { later: place(stored, later)?, earlier: place(stored, earlier)? }
        }
    })
}

fn place(stored: &Stored, name: &str) -> Result<usize, String> {
    stored.place(name).ok_or_else(|| format!("a step reads column \"{name}\", which is not among its columns"))
}
