//! Taking a plan's statistics from the rows that are learned from.

mod categories;
mod recency;
mod statistics;

use super::derived::Derived;
use super::plan::{Planned, derived, plan, widened};
use super::program::{Scale, Source};
use super::reduce::{self, PCA_COLUMNS_MAX};
use super::step::{NumberSource, Standard, Step, layout};
use super::table::{Census, share_out};
use super::transform;
use super::{
    Fitted, InputColumn, PIPELINE_FORMAT, PIPELINE_FORMAT_ENCODED, PIPELINE_FORMAT_PLAIN, Pipeline, Recipe, Stored,
    TrainingOrder,
};
use crate::FeatureError;
use crate::canonical::arrow_type;
use crate::columns::{Values, column_index};
use crate::statistics::{edges, mean_and_deviation, quantile, sorted_finite};
use arrow::datatypes::{Field, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use vocabulary::ModelSpec;
use vocabulary::contract::Contract;
use vocabulary::inputs::Layout;
use vocabulary::model::{ReduceMethod, TimePart};

/// Bins of a number for linear models. A judgement: fine enough to bend a line, coarse enough that each has rows.
const BINS: usize = 16;
/// Numbers are clipped to these quantiles, in thousandths, before they are standardised.
const CLIP_THOUSANDTHS: [usize; 2] = [1, 999];

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
    let mut derived = derived(spec, contract)?;
    let wide = widened(contract, &derived);
    let batch = with_derived(contract, &derived, data.batch)?;
    let data = &FitData { batch: &batch, ..*data };
    let planned = plan(spec, &wide, &derived, recipe)?;
    let (columns, notes) = (HashMap::new(), planned.notes);
    let mut fitter = Fitter { data, spec, contract: &wide, recipe, seed, columns, censuses: Vec::new(), notes };
    let mut steps = Vec::new();
    for planned in planned.steps {
        steps.extend(fitter.step(planned)?);
    }
    fitter.fill_tables(&mut steps);
    derived.retain(|made| steps.iter().any(|step| step.columns().contains(&made.name.as_str())));
    let used = |name: &str| {
        steps.iter().any(|step| step.columns().contains(&name))
            || derived.iter().any(|made| made.columns().contains(&name))
    };
    let columns = contract.columns.iter().filter(|column| used(&column.name));
    let columns = columns.map(|column| InputColumn { name: column.name.clone(), kind: column.kind }).collect();
    let layout = layout(recipe, &steps, spec.learner.linear.table_bits);
    let order = TrainingOrder { time: spec.time.clone(), outcome_at: spec.outcome_at.clone() };
    let mut notes = fitter.notes;
    if steps.is_empty() {
        let what = format!("model \"{}\": no column is left to learn from: {}", spec.name, notes.join("; "));
        return Err(FeatureError::Declaration(what));
    }
    let inputs = layout.dense.len() + layout.slots.len();
    if inputs > data.rows.len() {
        notes.push(format!(
            "{inputs} inputs for {} rows to learn from: the model can fit them by heart; add rows, name fewer columns, \
             or set features.reduce",
            data.rows.len()
        ));
    }
    let newest = steps.iter().any(Step::is_of_format_4);
    let newer = newest || !derived.is_empty() || steps.iter().any(Step::is_of_format_3);
    if newer && let Some(name) = given_twice(&layout) {
        let what = format!("model \"{}\": two declarations of features give \"{name}\"; take one out", spec.name);
        return Err(FeatureError::Declaration(what));
    }
    let format = match (newest, newer) {
        (true, _) => PIPELINE_FORMAT,
        (false, true) => PIPELINE_FORMAT_ENCODED,
        (false, false) => PIPELINE_FORMAT_PLAIN,
    };
    let stored = Stored { format, recipe, seed, columns, derived, steps, layout, order };
    let pipeline = Pipeline::try_from(stored).map_err(FeatureError::Pipeline)?;
    Ok(Fitted { pipeline, notes })
}

/// The batch with the derived columns behind its own.
fn with_derived(contract: &Contract, derived: &[Derived], batch: &RecordBatch) -> Result<RecordBatch, FeatureError> {
    if derived.is_empty() {
        return Ok(batch.clone());
    }
    let mut fields = batch.schema_ref().fields().to_vec();
    let mut arrays = batch.columns().to_vec();
    for made in derived {
        let view = |name: &str| {
            let kind = contract.column(name).expect("what is derived names declared columns").kind;
            let index = column_index(batch.schema_ref(), name, usize::MAX)?;
            Values::new(batch.column(index), name, kind)
        };
        let views = made.columns().into_iter().map(view).collect::<Result<Vec<_>, _>>()?;
        arrays.push(made.column(&views, batch.num_rows()));
        fields.push(Arc::new(Field::new(&made.name, arrow_type(made.kind), true)));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?)
}

fn given_twice(layout: &Layout) -> Option<&str> {
    let mut seen = HashSet::new();
    let names = layout.dense.iter().map(|column| column.name.as_str());
    names.chain(layout.slots.iter().map(String::as_str)).find(|name| !seen.insert(*name))
}

struct Fitter<'a> {
    data: &'a FitData<'a>,
    spec: &'a ModelSpec,
    contract: &'a Contract,
    recipe: Recipe,
    seed: u64,
    /// Views of the columns that were looked at.
    columns: HashMap<String, Values<'a>>,
    /// What the steps with a table of their own have seen, in their order.
    censuses: Vec<Census>,
    notes: Vec<String>,
}

impl<'a> Fitter<'a> {
    fn step(&mut self, planned: Planned) -> Result<Option<Step>, FeatureError> {
        match planned {
            Planned::Number(from) => self.number(from),
            Planned::Projection { method, sources, components } => self.projection(method, sources, components),
            Planned::Slot(columns) => self.slot(columns),
            Planned::Category { column, means } => self.category(column, means),
            Planned::Key(column) => self.key(column),
            Planned::Means(columns) => self.means(columns),
            Planned::Parts { column, zone, parts } => self.parts(column, zone, parts),
            Planned::Statistics { columns, gives, min_rows } => self.statistics(columns, gives, min_rows),
            Planned::Recency(declared) => self.recency(declared),
            Planned::Cyclic { column, zone, parts } => self.cyclic(column, zone, parts),
            Planned::Bag { column, content, scale, slots } => self.bag(column, content, scale, slots),
        }
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

    fn note(&mut self, note: String) {
        self.notes.push(note);
    }

    /// The columns of a number, and where it is found among them; `first` is the place of the first.
    fn source(&mut self, from: &NumberSource, first: usize) -> Result<(Vec<Values<'a>>, Source), FeatureError> {
        Ok(match from {
            NumberSource::Column(name) => (vec![self.view(name)?], Source::Column(first)),
            NumberSource::Difference { later, earlier } => {
                let views = vec![self.view(later)?, self.view(earlier)?];
                (views, Source::Difference { later: first, earlier: first + 1 })
            }
        })
    }

    fn number(&mut self, from: NumberSource) -> Result<Option<Step>, FeatureError> {
        if self.recipe == Recipe::Trees {
            let (views, source) = self.source(&from, 0)?;
            let present = self.seen(&from, &views, source);
            return Ok(present.then_some(Step::Number { from }));
        }
        let Some((standard, sorted)) = self.standard(from)? else { return Ok(None) };
        if self.recipe == Recipe::Network {
            return Ok(Some(Step::Standard(standard)));
        }
        let Standard { from, low, high, mean, scale } = standard;
        Ok(Some(Step::Scaled { from, low, high, mean, scale, edges: edges(&sorted, BINS) }))
    }

    /// Whether a number has any value in the rows to learn from; notes where it has none, or but one.
    fn seen(&mut self, from: &NumberSource, views: &[Values<'_>], source: Source) -> bool {
        let mut values = self.rows().map(|row| transform::number(views, source, row));
        let first = values.next().flatten();
        let constant = values.clone().all(|value| value == first);
        let present = first.is_some() || values.any(|value| value.is_some());
        let name = from.name();
        match (present, constant) {
            (false, _) => self.note(format!("\"{name}\" has no value in the rows to learn from; it is left out")),
            (true, true) => self.note(constant_note(&name, &first.map_or_else(String::new, |value| value.to_string()))),
            _ => {}
        }
        present
    }

    /// How a number is standardised, and its finite values in order. None, with a note, where it has none.
    fn standard(&mut self, from: NumberSource) -> Result<Option<(Standard, Vec<f64>)>, FeatureError> {
        let (views, source) = self.source(&from, 0)?;
        if !self.seen(&from, &views, source) {
            return Ok(None);
        }
        let value = |row| transform::number(&views, source, row);
        let sorted = sorted_finite(self.rows().map(value));
        if sorted.is_empty() {
            self.note(format!("\"{}\" has no finite value; it is left out", from.name()));
            return Ok(None);
        }
        let [low, high] = CLIP_THOUSANDTHS.map(|part| quantile(&sorted, part, 1000));
        let clipped = self.rows().filter_map(value).map(|value| value.clamp(low, high));
        let (mean, deviation) = mean_and_deviation(clipped).expect("there is a value");
        let usable = mean.is_finite() && deviation.is_finite() && deviation > 0.0;
        let (mean, scale) = if usable { (mean, deviation) } else { (low, 1.0) };
        Ok(Some((Standard { from, low, high, mean: mean + 0.0, scale }, sorted)))
    }

    fn projection(
        &mut self,
        method: ReduceMethod,
        sources: Vec<NumberSource>,
        components: usize,
    ) -> Result<Option<Step>, FeatureError> {
        let (mut inputs, mut views, mut places) = (Vec::new(), Vec::new(), Vec::new());
        for from in sources {
            let Some((standard, _)) = self.standard(from)? else { continue };
            let (own, source) = self.source(&standard.from, views.len())?;
            views.extend(own);
            places.push((source, Scale::from(&standard)));
            inputs.push(standard);
        }
        if inputs.is_empty() {
            self.note("features.reduce finds no column with values; it is left out".to_owned());
            return Ok(None);
        }
        let weights = match method {
            ReduceMethod::Pca if inputs.len() > PCA_COLUMNS_MAX => {
                return Err(FeatureError::Declaration(format!(
                    "model \"{}\": features.reduce takes principal components of {PCA_COLUMNS_MAX} columns at most, \
                     not {}; set method = \"random_projection\", or name fewer columns",
                    self.spec.name,
                    inputs.len()
                )));
            }
            ReduceMethod::Pca => reduce::principal_components(&views, &places, self.data.rows, components),
            ReduceMethod::RandomProjection => {
                let names: Vec<String> = inputs.iter().map(|input| input.from.name()).collect();
                reduce::random_signs(&names, components, self.seed)
            }
        };
        if weights.rows.len() < components {
            let (kept, columns) = (weights.rows.len(), inputs.len());
            self.note(format!("features.reduce finds {kept} components in {columns} columns, not {components}"));
        }
        let name = method.name().to_owned();
        Ok(Some(Step::Projection { name, inputs, factor: weights.factor, weights: weights.rows }))
    }

    fn parts(&mut self, column: String, zone: String, parts: Vec<TimePart>) -> Result<Option<Step>, FeatureError> {
        let values = self.view(&column)?;
        if self.rows().all(|row| values.micros(row).is_none()) {
            self.note(format!("\"{column}\" has no value in the rows to learn from; its parts say nothing yet"));
        }
        if self.recipe != Recipe::Network {
            return Ok(Some(Step::Parts { column, zone, parts }));
        }
        let place: chrono_tz::Tz =
            zone.parse().map_err(|_| FeatureError::Pipeline(format!("no time zone \"{zone}\"")))?;
        let year = |row| Some(transform::part_of(&transform::local(values.micros(row), place)?, TimePart::Year));
        let years: BTreeSet<i32> = match parts.contains(&TimePart::Year) {
            true => self.rows().filter_map(year).collect(),
            false => BTreeSet::new(),
        };
        Ok(Some(Step::Calendar { column, zone, parts, years: years.into_iter().collect() }))
    }

    /// Gives the values of each table their rows, now that all are known.
    fn fill_tables(&mut self, steps: &mut [Step]) {
        let room = self.spec.features.vocabulary.rows as usize;
        let kept = share_out(&self.censuses, room);
        let tables = steps.iter_mut().filter_map(|step| match step {
            Step::Vocabulary { columns, values, buckets } => Some((columns, values, buckets)),
            _ => None,
        });
        for ((columns, values, buckets), (census, kept)) in tables.zip(self.censuses.drain(..).zip(kept)) {
            *buckets = census.buckets(kept);
            if kept < census.ranked.len() {
                let (name, frequent) = (columns.join("*"), census.ranked.len());
                self.notes.push(format!(
                    "of the {frequent} frequent values of \"{name}\" only {kept} have a row of their own; raise \
                     features.vocabulary.rows for more"
                ));
            }
            values.extend(census.ranked.into_iter().take(kept).map(|(value, _)| value));
        }
    }
}

fn constant_note(name: &str, value: &str) -> String {
    format!(
        "\"{name}\" has the one value {value} in all rows to learn from; it says nothing, exclude it unless it will vary"
    )
}
