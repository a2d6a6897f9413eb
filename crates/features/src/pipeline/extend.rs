//! A pipeline whose tables grow with what came since it was fitted: each row of a table keeps its place and its meaning,
//! and each new one says which row its values had before, so that a model can go on with the same answers. Knows no
//! model.

use super::step::{Step, layout};
use super::table::{Census, share_out};
use super::transform;
use super::{Pipeline, Recipe, Stored};
use crate::FeatureError;
use arrow::record_batch::RecordBatch;
use std::collections::BTreeSet;
use vocabulary::inputs::Inputs;
use vocabulary::model::TimePart;

/// What tables may grow by.
pub struct Growth<'a> {
    /// Rows of the batch in which a value must occur to get a row of its own.
    pub min_rows: u64,
    /// New values at most, of all tables together; the most frequent ones get a row.
    pub room: usize,
    /// By slot, whether its table may grow at all.
    pub grows: &'a dyn Fn(usize) -> bool,
}

/// A pipeline with grown tables.
#[derive(Clone, Debug)]
pub struct Extended {
    pub pipeline: Pipeline,
    /// For each slot and each row of its table, the row that the same values had before.
    pub origins: Vec<Vec<u32>>,
}

impl Extended {
    /// Rows that came to the tables.
    pub fn added(&self, before: &Pipeline) -> usize {
        let rows = |pipeline: &Pipeline| pipeline.layout().tables.iter().map(|rows| *rows as usize).sum::<usize>();
        rows(&self.pipeline) - rows(before)
    }
}

impl Pipeline {
    /// Gives rows of their own to values that occur often enough in `fit_rows` of `batch` and have none, and to years
    /// after the last one known. They stand behind the known ones; the rows that all other values share move up. Scales,
    /// means and all the rest stay as they are. For [`Recipe::Network`]; others have no such tables and stay the same.
    pub fn extended(&self, batch: &RecordBatch, fit_rows: &[u32], growth: &Growth) -> Result<Extended, FeatureError> {
        let views = self.program.columns(batch, &self.stored.columns)?;
        let derived = self.program.derive(&views, batch.num_rows());
        let columns = self.with_derived(&views, &derived)?;
        let rows = || fit_rows.iter().map(|row| *row as usize);
        let mut stored = self.stored.clone();
        let (mut slot, mut censuses) = (0, Vec::new());
        for step in &mut stored.steps {
            let first = slot;
            match step {
                Step::Vocabulary { columns: names, values, .. } => {
                    slot += 1;
                    let views: Vec<_> = names.iter().map(|name| columns[place(&self.stored, name)]).collect();
                    let mut census = Census::take(&views, rows(), growth.min_rows);
                    let known: BTreeSet<&str> = values.iter().map(String::as_str).collect();
                    census.ranked.retain(|(value, _)| (growth.grows)(first) && !known.contains(value.as_str()));
                    censuses.push(census);
                }
                Step::Calendar { column, zone, parts, years } => {
                    slot += parts.len();
                    let year = parts.iter().position(|part| *part == TimePart::Year);
                    let Some(year) = year.filter(|year| (growth.grows)(first + year)) else { continue };
                    let zone: chrono_tz::Tz =
                        zone.parse().map_err(|_| FeatureError::Pipeline(format!("no time zone \"{zone}\"")))?;
                    let values = columns[place(&self.stored, column)];
                    let seen = rows().filter_map(|row| transform::local(values.micros(row), zone));
                    let seen: BTreeSet<i32> = seen.map(|local| transform::part_of(&local, parts[year])).collect();
                    let last = years.last().copied();
                    years.extend(seen.into_iter().filter(|year| last.is_none_or(|last| *year > last)));
                }
                Step::Category { .. } | Step::Scaled { .. } => slot += 1,
                Step::Parts { parts, .. } if self.stored.recipe != Recipe::Trees => slot += parts.len(),
                _ => {}
            }
        }
        let kept = share_out(&censuses, growth.room);
        let tables = stored.steps.iter_mut().filter_map(|step| match step {
            Step::Vocabulary { values, .. } => Some(values),
            _ => None,
        });
        for (values, (census, kept)) in tables.zip(censuses.into_iter().zip(kept)) {
            values.extend(census.ranked.into_iter().take(kept).map(|(value, _)| value));
        }
        stored.layout = layout(stored.recipe, &stored.steps, stored.layout.table_bits);
        let pipeline = Pipeline::try_from(stored).map_err(FeatureError::Pipeline)?;
        let (before, now) = (self.transform(batch)?, pipeline.transform(batch)?);
        let origins = origins(self, &pipeline, &before, &now);
        Ok(Extended { pipeline, origins })
    }

    /// The same pipeline with a shared table of `1 << bits` places, no fewer than before: place `p` then holds values that
    /// stood at `p >> (bits - before)`. A pipeline without a shared table stays the same.
    pub fn with_table_bits(&self, bits: u8) -> Result<Pipeline, FeatureError> {
        let mut stored = self.stored.clone();
        if stored.layout.table_bits == 0 || bits <= stored.layout.table_bits {
            return Ok(self.clone());
        }
        stored.layout.table_bits = bits;
        Pipeline::try_from(stored).map_err(FeatureError::Pipeline)
    }
}

fn place(stored: &Stored, name: &str) -> usize {
    stored.place(name).expect("a pipeline names the columns of its steps")
}

/// The rows that values had before, as the batch shows it: each new row stands for a value that occurs there. A row that
/// does not occur was there before, counted from the front, or from the back where it is one of those that values share.
fn origins(old: &Pipeline, new: &Pipeline, before: &Inputs, now: &Inputs) -> Vec<Vec<u32>> {
    let tables = old.layout().tables.iter().zip(&new.layout().tables);
    let shared = old.shared_rows();
    let of = |(slot, (old, new)): (usize, (&u32, &u32))| {
        let (known, added) = (old - shared[slot], new - old);
        let origin = |row: u32| if row < known { row } else { row.saturating_sub(added) };
        let mut origins: Vec<u32> = (0..*new).map(origin).collect();
        for row in 0..now.rows {
            origins[now.slot_row(row)[slot] as usize] = before.slot_row(row)[slot];
        }
        origins
    };
    tables.enumerate().map(of).collect()
}

impl Pipeline {
    /// By slot, how many rows of its table are shared by values without their own; they are the last ones.
    fn shared_rows(&self) -> Vec<u32> {
        let of = |step: &Step| match step {
            Step::Vocabulary { buckets, .. } => vec![*buckets],
            Step::Calendar { parts, .. } => vec![0; parts.len()],
            _ => Vec::new(),
        };
        self.stored.steps.iter().flat_map(of).collect()
    }
}
