//! The pipeline described as arithmetic and look-ups on whole columns, for whoever must do without it. Where hashes of
//! texts decide, a slot stays something to be given.

use super::calendar;
use super::means::{ClassMean, Mean, Statistics};
use super::step::{NumberSource, Standard, Step, part_name};
use super::{Pipeline, Recipe, Stored};
use crate::hash::{Atom, Purpose, SlotHash, among};
use std::collections::{BTreeMap, HashMap};
use vocabulary::Digest;
use vocabulary::contract::{ColumnKind, Contract};
use vocabulary::model::TimePart;
use vocabulary::tensors::{Bins, Given, Gives, Key, Part, PartGives, Quantity, Scaled, Table, TensorStep, TensorSteps};

/// Combinations of closed columns' categories that are listed at most.
const COMBINATIONS_MAX: usize = 10_000;

/// Years that an instant may have in some zone: RFC 3339 writes 0 to 9999 in UTC.
const YEARS: (i32, u32) = (-1, 10_002);

impl Pipeline {
    /// What the pipeline does to rows that are enforced by `contract`: its closed columns hold no other categories.
    pub fn tensor_steps(&self, contract: &Contract) -> TensorSteps {
        let describer = Describer { stored: &self.stored, contract };
        let own = self.stored.columns.iter().map(|column| (column.name.clone(), column.kind));
        let made = self.stored.derived.iter().map(|derived| (derived.name.clone(), derived.kind));
        let meanings = self.stored.derived.iter().map(|derived| (derived.name.clone(), derived.meaning()));
        TensorSteps {
            columns: own.chain(made).collect(),
            derived: meanings.collect(),
            steps: self.stored.steps.iter().flat_map(|step| describer.step(step)).collect(),
        }
    }
}

struct Describer<'a> {
    stored: &'a Stored,
    contract: &'a Contract,
}

impl Describer<'_> {
    fn step(&self, step: &Step) -> Vec<TensorStep> {
        let one = match step {
            Step::Number { from } => TensorStep::Number(quantity(from)),
            Step::Scaled { from, low, high, mean, scale, edges } => {
                let bins = Some(self.bins(from, edges));
                let (low, high, mean, scale) = (*low, *high, *mean, *scale);
                TensorStep::Standard { from: Scaled { from: quantity(from), low, high, mean, scale }, bins }
            }
            Step::Standard(standard) => TensorStep::Standard { from: scaled(standard), bins: None },
            Step::Projection { inputs, factor, weights, .. } => TensorStep::Projection {
                inputs: inputs.iter().map(scaled).collect(),
                factor: *factor,
                weights: weights.clone(),
            },
            Step::Codes { column, values } => self.codes(column, values),
            Step::Means { columns, prior, entries, .. } => self.means(columns, *prior, entries),
            Step::ClassMeans { columns, priors, entries, .. } => self.class_means(columns, priors, entries),
            Step::Statistics(statistics) => self.statistics(statistics),
            Step::Cyclic { column, zone, parts } => {
                return parts.iter().map(|part| self.circle(column, zone, *part)).collect();
            }
            Step::Recency(recency) => {
                let name = recency.columns.join("*");
                let meaning =
                    format!("how long before \"{}\" the key \"{name}\" was last seen, by the pipeline", recency.time);
                let given = Given { name: format!("{name}:since"), meaning };
                TensorStep::GivenDense { given, width: recency.names().len() as u32 }
            }
            Step::Bag { column, content, slots, .. } => TensorStep::GivenDense {
                given: Given {
                    name: format!("{column}:{}", content.name()),
                    meaning: format!(
                        "the {slots} dense columns of \"{column}\" by the pipeline's hash of its {} (seed {})",
                        content.name(),
                        self.stored.seed
                    ),
                },
                width: *slots,
            },
            Step::Category { columns } => self.category(step, columns),
            Step::Vocabulary { columns, values, buckets } => self.vocabulary(step, columns, values, *buckets),
            Step::Parts { column, zone, parts } => {
                return parts.iter().map(|part| self.part(column, zone, *part)).collect();
            }
            Step::Calendar { column, zone, parts, years } => {
                return parts.iter().map(|part| calendar_part(column, zone, *part, years)).collect();
            }
        };
        vec![one]
    }

    /// The shared table's slot of a value.
    fn slot(&self, prefix: SlotHash, atom: Atom<'_>) -> u32 {
        prefix.with(atom).slot(self.stored.layout.table_bits)
    }

    fn bins(&self, from: &NumberSource, edges: &[f64]) -> Bins {
        let prefix = SlotHash::prefix(self.stored.seed, Purpose::Bin, &from.columns());
        let bins = (0..=edges.len() as i64).map(|bin| self.slot(prefix, Atom::Int(bin)));
        let slots = std::iter::once(self.slot(prefix, Atom::Null)).chain(bins).collect();
        Bins { edges: edges.to_vec(), slots }
    }

    fn kinds(&self, columns: &[String]) -> Vec<ColumnKind> {
        let kind = |name: &String| self.stored.kind(name).unwrap_or(ColumnKind::String);
        columns.iter().map(kind).collect()
    }

    /// Entries whose key can be a row's, and what they stand for.
    fn entries<'e, V>(
        &self,
        columns: &[String],
        entries: impl Iterator<Item = (&'e String, V)>,
    ) -> (Vec<Vec<Option<Key>>>, Vec<V>) {
        let kinds = self.kinds(columns);
        entries.filter_map(|(text, value)| Some((parsed(text, &kinds)?, value))).unzip()
    }

    fn codes(&self, column: &str, values: &[String]) -> TensorStep {
        let columns = vec![column.to_owned()];
        let (keys, places) = self.entries(&columns, values.iter().zip(0u32..));
        let values_of = places.into_iter().map(|place| place as f32).collect();
        let gives = Gives::Dense { values: values_of, unseen: values.len() as f32, missing: f32::NAN };
        TensorStep::Table(Table { columns, keys, gives: vec![gives] })
    }

    fn means(&self, columns: &[String], prior: f64, entries: &BTreeMap<String, Mean>) -> TensorStep {
        let (keys, known) = self.entries(columns, entries.iter());
        let means = dense(known.iter().map(|entry| entry.mean as f32), prior as f32);
        let counts = dense(known.iter().map(|entry| entry.log_count as f32), 0.0);
        TensorStep::Table(Table { columns: columns.to_vec(), keys, gives: vec![means, counts] })
    }

    fn class_means(&self, columns: &[String], priors: &[f64], entries: &BTreeMap<String, ClassMean>) -> TensorStep {
        let (keys, known) = self.entries(columns, entries.iter());
        let means = priors.iter().enumerate();
        let means = means.map(|(class, prior)| dense(known.iter().map(|entry| entry.means[class]), *prior as f32));
        let mut gives: Vec<Gives> = means.collect();
        gives.push(dense(known.iter().map(|entry| entry.log_count as f32), 0.0));
        TensorStep::Table(Table { columns: columns.to_vec(), keys, gives })
    }

    fn statistics(&self, statistics: &Statistics) -> TensorStep {
        let (keys, known) = self.entries(&statistics.columns, statistics.entries.iter());
        let outputs: Vec<Vec<f32>> = known.iter().map(|known| statistics.outputs(Some(known))).collect();
        let unseen = statistics.outputs(None).into_iter().zip(statistics.missing());
        let gives = unseen.enumerate().map(|(place, (unseen, missing))| Gives::Dense {
            values: outputs.iter().map(|outputs| outputs[place]).collect(),
            unseen,
            missing,
        });
        TensorStep::Table(Table { columns: statistics.columns.clone(), gives: gives.collect(), keys })
    }

    fn circle(&self, column: &str, zone: &str, part: TimePart) -> TensorStep {
        let missing = if self.stored.recipe == Recipe::Trees { f32::NAN } else { 0.0 };
        let least = calendar::range(part).map_or(0, |(least, _)| least);
        let points = [&[[missing; 2]], calendar::points(part).as_slice()].concat();
        described(column, zone, part, PartGives::Circle { least, points })
    }

    fn prefix(&self, purpose: Purpose, columns: &[String]) -> SlotHash {
        let names: Vec<&str> = columns.iter().map(String::as_str).collect();
        SlotHash::prefix(self.stored.seed, purpose, &names)
    }

    /// A hashed category: a table where all values can be listed.
    fn category(&self, step: &Step, columns: &[String]) -> TensorStep {
        let prefix = self.prefix(Purpose::Category, columns);
        let bits = self.stored.layout.table_bits;
        let slot = |key: &[Option<Key>]| hashed(prefix, key).slot(bits);
        match self.combinations(columns) {
            Some(keys) => listed(columns, keys, slot),
            None => self.given(step, columns),
        }
    }

    /// A category with a table of its own: without the pipeline where values that have no row share a single one, or
    /// where all values can be listed.
    fn vocabulary(&self, step: &Step, columns: &[String], values: &[String], buckets: u32) -> TensorStep {
        let (mut keys, mut rows) = self.entries(columns, values.iter().zip(1u32..));
        let end = 1 + values.len() as u32;
        if buckets == 1 {
            if columns.len() > 1 {
                keys.push(vec![None; columns.len()]);
                rows.push(0);
            }
            let gives = vec![Gives::Slot { values: rows, unseen: end, missing: 0 }];
            return TensorStep::Table(Table { columns: columns.to_vec(), keys, gives });
        }
        let prefix = self.prefix(Purpose::Unknown, columns);
        let known: HashMap<Vec<Option<Key>>, u32> = keys.into_iter().zip(rows).collect();
        let row = |key: &[Option<Key>]| match known.get(key) {
            _ if key.iter().all(Option::is_none) => 0,
            Some(row) => *row,
            None => end + among(hashed(prefix, key).finish(), buckets),
        };
        match self.combinations(columns) {
            Some(keys) => listed(columns, keys, row),
            None => self.given(step, columns),
        }
    }

    /// All values that the columns can have together, where that is known: of closed texts and of truth values.
    fn combinations(&self, columns: &[String]) -> Option<Vec<Vec<Option<Key>>>> {
        let mut all: Vec<Vec<Option<Key>>> = vec![Vec::new()];
        for (name, kind) in columns.iter().zip(self.kinds(columns)) {
            let mut values = vec![None];
            match kind {
                ColumnKind::Bool => values.extend([false, true].map(|value| Some(Key::Bool(value)))),
                ColumnKind::String => {
                    let column = self.contract.column(name).filter(|column| column.closed)?;
                    values.extend(column.categories.iter().flatten().map(|text| Some(Key::Text(text.clone()))));
                }
                ColumnKind::Int | ColumnKind::Float | ColumnKind::Timestamp => return None,
            }
            if all.len().saturating_mul(values.len()) > COMBINATIONS_MAX {
                return None;
            }
            let longer = |key: &Vec<Option<Key>>| {
                let with = |value: &Option<Key>| [key.as_slice(), std::slice::from_ref(value)].concat();
                values.iter().map(with).collect::<Vec<_>>()
            };
            all = all.iter().flat_map(longer).collect();
        }
        Some(all)
    }

    /// What must be given: named by what it rests on, so that two trainings share it where theirs is the same.
    fn given(&self, step: &Step, columns: &[String]) -> TensorStep {
        let name = columns.join("*");
        let meaning = match step {
            Step::Vocabulary { values, buckets, .. } => format!(
                "the row of {columns:?} in its table: 0 for null, 1 to {} for known values, then one of {buckets} by the \
                 pipeline's hash (seed {}, vocabulary {})",
                values.len(),
                self.stored.seed,
                Digest::of(&serde_json::to_vec(values).expect("texts can be written"))
            ),
            _ => format!(
                "the place of {columns:?} by the pipeline's hash of a category (seed {}, {} bits)",
                self.stored.seed, self.stored.layout.table_bits
            ),
        };
        TensorStep::Given(Given { name, meaning })
    }

    fn part(&self, column: &str, zone: &str, part: TimePart) -> TensorStep {
        let gives = match self.stored.recipe {
            Recipe::Trees => PartGives::Value,
            Recipe::Linear | Recipe::Network => {
                let prefix = SlotHash::prefix(self.stored.seed, Purpose::Part, &[column, part_name(part)]);
                let (least, count) = calendar::range(part).unwrap_or(YEARS);
                let values = (0..i64::from(count)).map(|place| Atom::Int(i64::from(least) + place));
                let slots = std::iter::once(Atom::Null).chain(values).map(|atom| self.slot(prefix, atom)).collect();
                PartGives::Indexed { least, slots, circle: Vec::new() }
            }
        };
        described(column, zone, part, gives)
    }
}

fn calendar_part(column: &str, zone: &str, part: TimePart, years: &[i32]) -> TensorStep {
    let gives = match calendar::range(part) {
        Some((least, count)) => {
            PartGives::Indexed { least, slots: (0..=count).collect(), circle: calendar::circle(part) }
        }
        None => {
            // A year takes the last known one up to it, or else the first: by how many begin before its middle.
            let known = |count: usize| if years.is_empty() { 0 } else { count.max(1) as u32 };
            let edges = years.iter().map(|year| f64::from(*year) - 0.5).collect();
            PartGives::Binned(Bins { edges, slots: std::iter::once(0).chain((0..=years.len()).map(known)).collect() })
        }
    };
    described(column, zone, part, gives)
}

fn described(column: &str, zone: &str, part: TimePart, gives: PartGives) -> TensorStep {
    let which = part_name(part);
    let counted = match calendar::range(part) {
        Some((least, count)) => format!(", {least} to {}", least + count as i32 - 1),
        None => String::new(),
    };
    let monday = if matches!(part, TimePart::Weekday | TimePart::HourOfWeek) { ", from Monday" } else { "" };
    let meaning = format!("{which} of column \"{column}\" in the time zone {zone}{counted}{monday}");
    TensorStep::Part(Part { name: format!("{column}:{which}"), meaning, gives })
}

fn quantity(from: &NumberSource) -> Quantity {
    match from {
        NumberSource::Column(name) => Quantity::Column(name.clone()),
        NumberSource::Difference { later, earlier } => {
            Quantity::Difference { later: later.clone(), earlier: earlier.clone() }
        }
    }
}

fn scaled(standard: &Standard) -> Scaled {
    let Standard { from, low, high, mean, scale } = standard;
    Scaled { from: quantity(from), low: *low, high: *high, mean: *mean, scale: *scale }
}

fn dense(values: impl Iterator<Item = f32>, unseen: f32) -> Gives {
    Gives::Dense { values: values.map(|value| value + 0.0).collect(), unseen: unseen + 0.0, missing: f32::NAN }
}

/// A table of all values there can be; what is none of them counts as null.
fn listed(columns: &[String], keys: Vec<Vec<Option<Key>>>, slot: impl Fn(&[Option<Key>]) -> u32) -> TensorStep {
    let missing = slot(&vec![None; columns.len()]);
    let values = keys.iter().map(|key| slot(key)).collect();
    let gives = vec![Gives::Slot { values, unseen: missing, missing }];
    TensorStep::Table(Table { columns: columns.to_vec(), keys, gives })
}

fn hashed(prefix: SlotHash, key: &[Option<Key>]) -> SlotHash {
    key.iter().fold(prefix, |hash, value| {
        hash.with(match value {
            None => Atom::Null,
            Some(Key::Bool(value)) => Atom::Bool(*value),
            Some(Key::Int(value)) => Atom::Int(*value),
            Some(Key::Text(text)) => Atom::Text(text),
        })
    })
}

/// The values behind a key (see [`super::means::with_key`]); none where no row has the key.
fn parsed(text: &str, kinds: &[ColumnKind]) -> Option<Vec<Option<Key>>> {
    if let [kind] = kinds {
        return Some(vec![Some(value(text, *kind)?)]);
    }
    let (mut rest, mut key) = (text, Vec::new());
    for kind in kinds {
        if let Some(after) = rest.strip_prefix("- ") {
            key.push(None);
            rest = after;
            continue;
        }
        let (length, after) = rest.split_once(':')?;
        let end = if *kind == ColumnKind::String { length.parse().ok()? } else { after.find(' ')? };
        let (found, after) = after.split_at_checked(end)?;
        key.push(Some(value(found, *kind)?));
        rest = after.strip_prefix(' ')?;
    }
    rest.is_empty().then_some(key)
}

fn value(text: &str, kind: ColumnKind) -> Option<Key> {
    match kind {
        ColumnKind::String => Some(Key::Text(text.to_owned())),
        ColumnKind::Int => text.parse().ok().map(Key::Int),
        ColumnKind::Bool => text.parse().ok().map(Key::Bool),
        ColumnKind::Float | ColumnKind::Timestamp => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::Values;
    use crate::pipeline::means::with_key;
    use crate::testing::canonical_batches;
    use proptest::prelude::*;

    proptest! {
        /// Whatever a row's key is made of is found in it again, in one column and in several.
        #[test]
        fn keys_are_read_back(batch in canonical_batches(1..12)) {
            let all = [("string_a", ColumnKind::String), ("bool_a", ColumnKind::Bool), ("int_a", ColumnKind::Int),
                ("string_b", ColumnKind::String)];
            let views: Vec<Values<'_>> = all.iter().map(|(name, kind)| {
                let at = batch.schema_ref().index_of(name).unwrap();
                Values::new(batch.column(at), name, *kind).unwrap()
            }).collect();
            let kinds = all.map(|(_, kind)| kind);
            let mut buffer = String::new();
            for row in 0..batch.num_rows() {
                let atom = |place: usize| match views[place].atom(row) {
                    Atom::Null => None,
                    Atom::Bool(value) => Some(Key::Bool(value)),
                    Atom::Int(value) => Some(Key::Int(value)),
                    Atom::Text(text) => Some(Key::Text(text.to_owned())),
                };
                for places in [&[0usize, 1, 2, 3][..], &[0], &[1], &[2], &[3, 0]] {
                    let kinds: Vec<ColumnKind> = places.iter().map(|place| kinds[*place]).collect();
                    let found = with_key(&views, places, row, &mut buffer, |key| parsed(key, &kinds));
                    let atoms: Vec<Option<Key>> = places.iter().map(|place| atom(*place)).collect();
                    let null = places.len() == 1 && atoms[0].is_none();
                    prop_assert_eq!(found, if null { None } else { Some(Some(atoms)) });
                }
            }
        }
    }
}
