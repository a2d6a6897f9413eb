//! The steps of a pipeline as they land on disk, and the layout of what they give.

use super::Recipe;
use super::bag::Content;
use super::calendar;
use super::means::{ClassMean, Mean, Statistics};
use super::recency::Recency;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use vocabulary::inputs::{DenseColumn, Layout};
use vocabulary::model::{TEXT_SLOTS_MAX, TextScale, TimePart};

/// One fitted step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Step {
    /// A number as it is: one dense column.
    Number { from: NumberSource },
    /// A number clipped to `[low, high]`, less `mean`, divided by `scale`; whether it is missing; and the slot of its
    /// bin: two dense columns and a slot.
    Scaled { from: NumberSource, low: f64, high: f64, mean: f64, scale: f64, edges: Vec<f64> },
    /// A number clipped, less its mean, divided by its deviation; and whether it is missing: two dense columns.
    Standard(Standard),
    /// Weighted sums of standardised numbers, times `factor`; a missing number counts as its mean: one dense column for
    /// each row of `weights`.
    Projection { name: String, inputs: Vec<Standard>, factor: f64, weights: Vec<Vec<f64>> },
    /// The place of a category among `values`; any other has the place after the last: one dense column.
    Codes { column: String, values: Vec<String> },
    /// The target's mean where these columns have these values, and how often that was seen: two dense columns.
    Means { columns: Vec<String>, prior: f64, smoothing: f64, entries: BTreeMap<String, Mean> },
    /// The share of each of some classes where these columns have these values, and how often that was seen: one dense
    /// column for each class, and one.
    ClassMeans {
        columns: Vec<String>,
        classes: Vec<Class>,
        priors: Vec<f64>,
        smoothing: f64,
        entries: BTreeMap<String, ClassMean>,
    },
    /// The values of these columns taken as one category: one slot of the shared table.
    Category { columns: Vec<String> },
    /// The values of these columns taken as one category: one slot with a table of its own. Row 0 is null, rows 1 and
    /// up are `values`, and the last `buckets` rows are shared by all others.
    Vocabulary { columns: Vec<String>, values: Vec<String>, buckets: u32 },
    /// Parts of an instant in a time zone: one dense column each for trees, one slot of the shared table otherwise.
    Parts { column: String, zone: String, parts: Vec<TimePart> },
    /// Parts of an instant in a time zone: one slot each with a table of its own, where row 0 is null, and the sine and
    /// cosine of those that come round. `years` are those that were seen, ascending.
    Calendar { column: String, zone: String, parts: Vec<TimePart>, years: Vec<i32> },
    /// Statistics of the values of some columns: a dense column each, and a flag where they are standardised.
    Statistics(Statistics),
    /// How long before the row's time a key was last seen: a dense column, and a flag where it is standardised.
    Recency(Recency),
    /// Parts of an instant in a time zone as places on a circle: two dense columns each.
    Cyclic { column: String, zone: String, parts: Vec<TimePart> },
    /// What a text or a list holds, counted: a dense column for each slot.
    Bag { column: String, content: Content, scale: TextScale, slots: u32 },
}

/// How a number is standardised.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Standard {
    pub(super) from: NumberSource,
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) mean: f64,
    pub(super) scale: f64,
}

/// One class of a multiclass target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Class {
    /// Its place among the declared classes.
    pub(super) place: u32,
    pub(super) name: String,
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

impl Standard {
    fn sound(&self) -> bool {
        scale_is_sound(self.low, self.high, self.mean, self.scale)
    }
}

fn scale_is_sound(low: f64, high: f64, mean: f64, scale: f64) -> bool {
    [low, high, mean, scale].iter().all(|value| value.is_finite()) && low <= high && scale > 0.0
}

impl Step {
    /// Figures that would make a transform fail are refused when the pipeline is read.
    pub(super) fn check(&self) -> Result<(), String> {
        let sound = match self {
            Step::Scaled { low, high, mean, scale, edges, .. } => {
                scale_is_sound(*low, *high, *mean, *scale) && edges.windows(2).all(|pair| pair[0] < pair[1])
            }
            Step::Standard(standard) => standard.sound(),
            Step::Projection { inputs, weights, factor, .. } => {
                let finite = |row: &Vec<f64>| row.len() == inputs.len() && row.iter().all(|weight| weight.is_finite());
                inputs.iter().all(Standard::sound) && factor.is_finite() && weights.iter().all(finite)
            }
            Step::ClassMeans { columns, classes, priors, entries, .. } => {
                let fits = |entry: &ClassMean| entry.means.len() == classes.len();
                !columns.is_empty() && priors.len() == classes.len() && entries.values().all(fits)
            }
            Step::Vocabulary { columns, values, buckets } => {
                // One more for null.
                let rows = values.len() as u64 + u64::from(*buckets) + 1;
                !columns.is_empty() && *buckets > 0 && rows <= u64::from(u32::MAX)
            }
            Step::Statistics(statistics) => return statistics.check(),
            Step::Recency(recency) => return recency.check(),
            Step::Cyclic { parts, .. } => parts.iter().all(|part| calendar::range(*part).is_some()),
            Step::Bag { slots, content, .. } => (1..=TEXT_SLOTS_MAX).contains(slots) && content.sound(),
            Step::Calendar { years, .. } => years.windows(2).all(|pair| pair[0] < pair[1]),
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
            Step::Standard(standard) => standard.from.columns(),
            Step::Projection { inputs, .. } => inputs.iter().flat_map(|input| input.from.columns()).collect(),
            Step::Statistics(statistics) => statistics.columns.iter().map(String::as_str).collect(),
            Step::Recency(recency) => recency.columns.iter().chain([&recency.time]).map(String::as_str).collect(),
            Step::Codes { column, .. }
            | Step::Parts { column, .. }
            | Step::Calendar { column, .. }
            | Step::Cyclic { column, .. }
            | Step::Bag { column, .. } => vec![column],
            Step::Means { columns, .. }
            | Step::ClassMeans { columns, .. }
            | Step::Category { columns }
            | Step::Vocabulary { columns, .. } => columns.iter().map(String::as_str).collect(),
        }
    }
}

impl Step {
    /// Whether format 3 has no such step.
    pub(super) fn is_of_format_4(&self) -> bool {
        matches!(self, Step::Recency(_))
    }

    /// Whether format 2 has no such step.
    pub(super) fn is_of_format_3(&self) -> bool {
        matches!(self, Step::Statistics(_) | Step::Cyclic { .. } | Step::Bag { .. })
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

/// The names of what the steps give, in order.
pub(super) fn layout(recipe: Recipe, steps: &[Step], table_bits: u8) -> Layout {
    let mut layout = Layout { table_bits, ..Layout::default() };
    for step in steps {
        describe(step, recipe, &mut layout);
    }
    if layout.slots.is_empty() || !layout.tables.is_empty() {
        layout.table_bits = 0;
    }
    layout
}

fn describe(step: &Step, recipe: Recipe, layout: &mut Layout) {
    let Layout { dense, slots, tables, .. } = layout;
    let quantity = |name: String| DenseColumn { name, categorical: false };
    match step {
        Step::Number { from } => dense.push(quantity(from.name())),
        Step::Scaled { from, .. } => {
            let name = from.name();
            slots.push(format!("{name}:bin"));
            dense.extend([name.clone(), format!("{name}:missing")].map(quantity));
        }
        Step::Standard(Standard { from, .. }) => {
            let name = from.name();
            dense.extend([name.clone(), format!("{name}:missing")].map(quantity));
        }
        Step::Projection { name, weights, .. } => {
            dense.extend((0..weights.len()).map(|place| quantity(format!("{name}:{place}"))));
        }
        Step::Codes { column, .. } => dense.push(DenseColumn { name: column.clone(), categorical: true }),
        Step::Means { columns, .. } => {
            dense.push(quantity(format!("{}:mean", columns.join("*"))));
            dense.push(quantity(format!("{}:log_count", columns.join("*"))));
        }
        Step::ClassMeans { columns, classes, .. } => {
            let name = columns.join("*");
            dense.extend(classes.iter().map(|class| quantity(format!("{name}:mean:{}", class.name))));
            dense.push(quantity(format!("{name}:log_count")));
        }
        Step::Category { columns } => slots.push(columns.join("*")),
        Step::Vocabulary { columns, values, buckets } => {
            slots.push(columns.join("*"));
            tables.push(1 + values.len() as u32 + buckets);
        }
        Step::Parts { column, parts, .. } => {
            let names = parts.iter().map(|part| format!("{column}:{}", part_name(*part)));
            match recipe {
                Recipe::Trees => dense.extend(names.map(quantity)),
                Recipe::Linear | Recipe::Network => slots.extend(names),
            }
        }
        Step::Calendar { column, parts, years, .. } => {
            for part in parts {
                let name = format!("{column}:{}", part_name(*part));
                if calendar::comes_round(*part) {
                    dense.extend([format!("{name}:sine"), format!("{name}:cosine")].map(quantity));
                }
                slots.push(name);
                tables.push(calendar::table_rows(*part, years));
            }
        }
        Step::Statistics(statistics) => dense.extend(statistics.names().into_iter().map(quantity)),
        Step::Recency(recency) => dense.extend(recency.names().into_iter().map(quantity)),
        Step::Cyclic { column, parts, .. } => {
            for part in parts {
                let name = format!("{column}:{}:circle", part_name(*part));
                dense.extend([format!("{name}:sine"), format!("{name}:cosine")].map(quantity));
            }
        }
        Step::Bag { column, content, slots, .. } => {
            let what = content.name();
            dense.extend((0..*slots).map(|slot| quantity(format!("{column}:{what}:{slot}"))));
        }
    }
}
