//! A pipeline for people: for each derived column and step what it reads, what it does, and what it gives.

use super::Pipeline;
use super::bag::Content;
use super::means::{Gives, Statistics};
use super::recency::Recency;
use super::step::{NumberSource, Step, layout, part_name};
use serde::Serialize;
use vocabulary::model::{TextScale, TimePart};
use vocabulary::time::Span;

/// Outputs of one step that are named one by one; of more, the first and the last.
const NAMED_MAX: usize = 8;

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StepCard {
    /// The columns that it reads.
    pub reads: Vec<String>,
    /// What is done, in a word.
    pub step: &'static str,
    /// And more closely.
    pub detail: String,
    /// Dense columns, or the derived column.
    pub dense: Vec<String>,
    pub slots: Vec<String>,
}

impl StepCard {
    /// Names of what it gives, shortened where there are many.
    pub fn gives(&self) -> Vec<String> {
        let short = |names: &[String], what: &str| -> Vec<String> {
            match names {
                [first, .., last] if names.len() > NAMED_MAX => {
                    vec![format!("{first}{what} … {last}{what} ({})", names.len())]
                }
                few => few.iter().map(|name| format!("{name}{what}")).collect(),
            }
        };
        [short(&self.dense, ""), short(&self.slots, " (slot)")].concat()
    }
}

impl Pipeline {
    /// The derived columns first, then the steps in their order.
    pub fn cards(&self) -> Vec<StepCard> {
        let owned = |names: Vec<&str>| names.into_iter().map(str::to_owned).collect::<Vec<_>>();
        let derived = self.stored.derived.iter().map(|derived| StepCard {
            reads: owned(derived.columns()),
            step: "column",
            detail: format!("{}: {}", derived.kind.name(), derived.meaning()),
            dense: vec![derived.name.clone()],
            slots: Vec::new(),
        });
        let steps = self.stored.steps.iter().map(|step| {
            let made = layout(self.stored.recipe, std::slice::from_ref(step), self.stored.layout.table_bits);
            let mut reads = owned(step.columns());
            reads.dedup();
            let (word, detail) = described(step, self.stored.layout.table_bits);
            let dense = made.dense.into_iter().map(|column| column.name).collect();
            StepCard { reads, step: word, detail, dense, slots: made.slots }
        });
        derived.chain(steps).collect()
    }
}

fn described(step: &Step, table_bits: u8) -> (&'static str, String) {
    match step {
        Step::Number { from } => match from {
            NumberSource::Column(_) => ("number", "as it is".to_owned()),
            NumberSource::Difference { .. } => ("number", "seconds between the two".to_owned()),
        },
        Step::Scaled { low, high, mean, scale, edges, .. } => {
            ("standardise", format!("clip to [{low}, {high}], less {mean:.6}, by {scale:.6}; {} bins", edges.len() + 1))
        }
        Step::Standard(standard) => (
            "standardise",
            format!(
                "clip to [{}, {}], less {:.6}, by {:.6}",
                standard.low, standard.high, standard.mean, standard.scale
            ),
        ),
        Step::Projection { name, inputs, weights, .. } => {
            ("project", format!("{name}: {} numbers to {}", inputs.len(), weights.len()))
        }
        Step::Codes { values, .. } => ("code", format!("{} categories, and one for all others", values.len())),
        Step::Means { smoothing, entries, .. } => ("target mean", means(entries.len(), *smoothing)),
        Step::ClassMeans { smoothing, entries, classes, .. } => {
            ("target mean", format!("{} classes, {}", classes.len(), means(entries.len(), *smoothing)))
        }
        Step::Category { .. } => ("hash", format!("one of {} slots", 1u64 << table_bits)),
        Step::Vocabulary { values, buckets, .. } => {
            ("look up", format!("{} values, {buckets} rows for all others, one for null", values.len()))
        }
        Step::Parts { zone, parts, .. } | Step::Calendar { zone, parts, .. } => ("time parts", times(zone, parts)),
        Step::Cyclic { zone, parts, .. } => ("circle", times(zone, parts)),
        Step::Statistics(statistics) => statistic(statistics),
        Step::Recency(recency) => {
            let Recency { last, delay_us, most_us, .. } = recency;
            ("recency", format!("{} keys, {} to {} ago", last.len(), Span(*delay_us), Span(*most_us)))
        }
        Step::Bag { content: Content::Items { separator }, slots, .. } => {
            ("items", format!("between {separator:?}, hashed into {slots}"))
        }
        Step::Bag { content: Content::Text { words, characters, .. }, slots, scale, .. } => {
            let scale = match scale {
                TextScale::Count => "counts",
                TextScale::Presence => "presence",
                TextScale::Unit => "counts of length 1",
            };
            ("text", format!("runs of {words:?} words, {characters:?} characters; {scale}, hashed into {slots}"))
        }
    }
}

fn means(keys: usize, smoothing: f64) -> String {
    format!("{keys} keys, smoothed by {smoothing} rows, ordered in training")
}

fn statistic(statistics: &Statistics) -> (&'static str, String) {
    let keys = statistics.entries.len();
    match &statistics.gives {
        Gives::Means { classes, smoothing, .. } if classes.is_empty() => ("target mean", means(keys, *smoothing)),
        Gives::Means { classes, smoothing, .. } => {
            ("target mean", format!("{} classes, {}", classes.len(), means(keys, *smoothing)))
        }
        Gives::Counts(_) => ("count", format!("{keys} keys of {} rows", statistics.rows)),
    }
}

fn times(zone: &str, parts: &[TimePart]) -> String {
    let parts: Vec<&str> = parts.iter().map(|part| part_name(*part)).collect();
    format!("{} in {zone}", parts.join(", "))
}
