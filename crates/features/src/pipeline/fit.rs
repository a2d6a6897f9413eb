//! Taking a plan's statistics from the rows that are learned from.

use super::means::{Mean, smoothed, with_key};
use super::plan::{Planned, plan};
use super::step::{NumberSource, Source, Step, layout};
use super::{Fitted, InputColumn, PIPELINE_FORMAT, Pipeline, Recipe, Stored, TrainingOrder};
use crate::FeatureError;
use crate::columns::{Values, column_index};
use crate::hash::Atom;
use crate::statistics::{edges, mean_and_deviation, quantile, sorted_finite};
use arrow::record_batch::RecordBatch;
use std::collections::{BTreeMap, HashMap};
use vocabulary::ModelSpec;
use vocabulary::contract::Contract;

/// String columns with more categories than this get target means instead of codes. As in `FeatureSpec::target_mean`.
const CODES_MAX: usize = 16;
/// Bins of a number for linear models. A judgement: fine enough to bend a line, coarse enough that each has rows.
const BINS: usize = 16;
/// Numbers are clipped to these quantiles, in thousandths, before they are standardised.
const CLIP_THOUSANDTHS: [usize; 2] = [1, 999];
/// Rows' worth of prior in a target mean. A judgement, in the customary range of 10 to 100.
const SMOOTHING: f64 = 20.0;
/// A key seen fewer times is treated as unseen, so that models meet unseen keys while they learn.
const KEY_ROWS_MIN: u64 = 2;
/// Keys of one target mean at most, the most frequent ones: some 10 MB in a pipeline.
const KEYS_MAX: usize = 100_000;

pub(super) struct FitData<'a> {
    pub(super) batch: &'a RecordBatch,
    pub(super) rows: &'a [u32],
    /// One for each row of `batch`.
    pub(super) target: &'a [f64],
}

pub(super) fn fit(
    spec: &ModelSpec,
    contract: &Contract,
    recipe: Recipe,
    data: &FitData<'_>,
    seed: u64,
) -> Result<Fitted, FeatureError> {
    assert_eq!(data.target.len(), data.batch.num_rows(), "a target for each row");
    if data.rows.is_empty() {
        return Err(FeatureError::Declaration(format!("model \"{}\": there are no rows to learn from", spec.name)));
    }
    let planned = plan(spec, contract, recipe)?;
    let mut fitter = Fitter { data, contract, recipe, columns: HashMap::new(), notes: planned.notes };
    let mut steps = Vec::new();
    for planned in planned.steps {
        steps.extend(fitter.step(planned)?);
    }
    let used = |name: &str| steps.iter().any(|step| step.columns().contains(&name));
    let columns = contract.columns.iter().filter(|column| used(&column.name));
    let columns = columns.map(|column| InputColumn { name: column.name.clone(), kind: column.kind }).collect();
    let layout = layout(recipe, &steps, spec.learner.linear.table_bits);
    let order = TrainingOrder { time: spec.time.clone(), outcome_at: spec.outcome_at.clone() };
    let notes = fitter.notes;
    if steps.is_empty() {
        let what = format!("model \"{}\": no column is left to learn from: {}", spec.name, notes.join("; "));
        return Err(FeatureError::Declaration(what));
    }
    let stored = Stored { format: PIPELINE_FORMAT, recipe, seed, columns, steps, layout, order };
    let pipeline = Pipeline::try_from(stored).map_err(FeatureError::Pipeline)?;
    Ok(Fitted { pipeline, notes })
}

struct Fitter<'a> {
    data: &'a FitData<'a>,
    contract: &'a Contract,
    recipe: Recipe,
    /// Views of the columns that were looked at.
    columns: HashMap<String, Values<'a>>,
    notes: Vec<String>,
}

impl<'a> Fitter<'a> {
    fn step(&mut self, planned: Planned) -> Result<Option<Step>, FeatureError> {
        Ok(match planned {
            Planned::Number(from) => self.number(from)?,
            Planned::Slot(columns) => {
                self.views(&columns)?;
                Some(Step::Category { columns })
            }
            Planned::Category { column, means } => self.category(column, means)?,
            Planned::Means(columns) => self.means(columns)?,
            Planned::Parts { column, zone, parts } => {
                self.view(&column)?;
                Some(Step::Parts { column, zone, parts })
            }
        })
    }

    fn view(&mut self, name: &str) -> Result<Values<'a>, FeatureError> {
        if let Some(values) = self.columns.get(name) {
            return Ok(*values);
        }
        let declared = self.contract.column(name).expect("the plan names declared columns");
        let index = column_index(self.data.batch.schema_ref(), name, usize::MAX)?;
        let values = Values::new(self.data.batch.column(index), name, declared.kind)?;
        self.columns.insert(name.to_owned(), values);
        Ok(values)
    }

    fn views(&mut self, names: &[String]) -> Result<Vec<Values<'a>>, FeatureError> {
        names.iter().map(|name| self.view(name)).collect()
    }

    fn rows(&self) -> impl Iterator<Item = usize> + Clone + 'a {
        self.data.rows.iter().map(|row| *row as usize)
    }

    fn number(&mut self, from: NumberSource) -> Result<Option<Step>, FeatureError> {
        let (views, source) = match &from {
            NumberSource::Column(name) => (vec![self.view(name)?], Source::Column(0)),
            NumberSource::Difference { later, earlier } => {
                (vec![self.view(later)?, self.view(earlier)?], Source::Difference { later: 0, earlier: 1 })
            }
        };
        let value = |row| super::transform::number(&views, source, row);
        let Some(_) = self.rows().find_map(value) else {
            self.notes.push(format!("\"{}\" has no value in the rows to learn from; it is left out", from.name()));
            return Ok(None);
        };
        if self.recipe == Recipe::Trees {
            return Ok(Some(Step::Number { from }));
        }
        let sorted = sorted_finite(self.rows().map(value));
        if sorted.is_empty() {
            self.notes.push(format!("\"{}\" has no finite value; it is left out", from.name()));
            return Ok(None);
        }
        let [low, high] = CLIP_THOUSANDTHS.map(|part| quantile(&sorted, part, 1000));
        let clipped = self.rows().filter_map(value).map(|value| value.clamp(low, high));
        let (mean, deviation) = mean_and_deviation(clipped).expect("there is a value");
        let usable = mean.is_finite() && deviation.is_finite() && deviation > 0.0;
        let (mean, scale) = if usable { (mean, deviation) } else { (low, 1.0) };
        Ok(Some(Step::Scaled { from, low, high, mean: mean + 0.0, scale, edges: edges(&sorted, BINS) }))
    }

    /// Codes for the frequent categories, or means: by the declaration, or else by the number of categories.
    fn category(&mut self, column: String, means: Option<bool>) -> Result<Option<Step>, FeatureError> {
        let values = self.view(&column)?;
        let mut counts: HashMap<&str, u64> = HashMap::new();
        for row in self.rows() {
            if let Atom::Text(text) = values.atom(row) {
                *counts.entry(text).or_default() += 1;
            }
        }
        if counts.is_empty() {
            self.notes.push(format!("\"{column}\" has no value in the rows to learn from; it is left out"));
            return Ok(None);
        }
        if means.unwrap_or(counts.len() > CODES_MAX) {
            return self.means(vec![column]);
        }
        let values = most_frequent(counts, CODES_MAX).into_iter().map(|(value, _)| value.to_owned()).collect();
        Ok(Some(Step::Codes { column, values }))
    }

    fn means(&mut self, columns: Vec<String>) -> Result<Option<Step>, FeatureError> {
        let views = self.views(&columns)?;
        let places: Vec<usize> = (0..columns.len()).collect();
        let target = |row: usize| Some(self.data.target[row]).filter(|value| value.is_finite());
        let prior = mean_and_deviation(self.rows().filter_map(target)).map_or(0.0, |(mean, _)| mean);
        let mut tallies: HashMap<String, Tally> = HashMap::new();
        let mut buffer = String::new();
        for row in self.rows() {
            with_key(&views, &places, row, &mut buffer, |key| {
                let tally = match tallies.get_mut(key) {
                    Some(tally) => tally,
                    None => tallies.entry(key.to_owned()).or_default(),
                };
                tally.add(target(row));
            });
        }
        let keys = tallies.len();
        let counts = tallies.iter().filter(|(_, tally)| tally.rows >= KEY_ROWS_MIN);
        let kept = most_frequent(counts.map(|(key, tally)| (key.as_str(), tally.rows)).collect(), KEYS_MAX);
        let name = columns.join("*");
        if kept.is_empty() {
            self.notes.push(format!("\"{name}\" has no value that occurs {KEY_ROWS_MIN} times; it is left out"));
            return Ok(None);
        }
        if kept.len() == KEYS_MAX {
            self.notes.push(format!("of the {keys} values of \"{name}\" only the {KEYS_MAX} most frequent are kept"));
        }
        let mean = |(key, rows): (&str, u64)| {
            let tally = tallies[key];
            let mean = smoothed(tally.sum, tally.targets, prior, SMOOTHING);
            (key.to_owned(), Mean { mean, log_count: (rows as f64).ln_1p() })
        };
        let entries: BTreeMap<String, Mean> = kept.into_iter().map(mean).collect();
        Ok(Some(Step::Means { columns, prior, smoothing: SMOOTHING, entries }))
    }
}

/// What one key has seen. Sums run in the order of the rows.
#[derive(Clone, Copy, Default)]
struct Tally {
    rows: u64,
    targets: f64,
    sum: f64,
}

impl Tally {
    fn add(&mut self, target: Option<f64>) {
        self.rows += 1;
        if let Some(target) = target {
            self.targets += 1.0;
            self.sum += target;
        }
    }
}

/// The most frequent first; of equally frequent ones the lesser.
fn most_frequent(counts: HashMap<&str, u64>, most: usize) -> Vec<(&str, u64)> {
    let mut ranked: Vec<(&str, u64)> = counts.into_iter().collect();
    ranked.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    ranked.truncate(most);
    ranked
}
