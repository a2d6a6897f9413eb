//! What a model's pipelines do with its data: whether a whole data set gives the same bits as its rows one by one, and how
//! many hashed values share a slot.

use crate::output;
use anyhow::Result;
use arrow::array::RecordBatch;
use features::parity::ParityReport;
use features::{CollisionReport, FeatureError, Pipeline, Recipe};
use rayon::prelude::*;
use serde_json::{Map, Value, json};
use std::ops::Range;
use vocabulary::model::LearnerKind;
use vocabulary::{Contract, ModelSpec};

/// Rows that one thread compares at a time.
const CHUNK_ROWS: u64 = 4096;

/// The kinds of pipeline that the model may have.
pub fn recipes(spec: &ModelSpec) -> &'static [Recipe] {
    match spec.learner.kind {
        LearnerKind::Trees => &[Recipe::Trees],
        LearnerKind::Linear => &[Recipe::Linear],
        LearnerKind::Network => &[Recipe::Network],
        LearnerKind::Auto => &[Recipe::Trees, Recipe::Linear, Recipe::Network],
    }
}

/// Rows that a contract let pass, and their outcomes; not a number where there is none.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    pub spec: &'a ModelSpec,
    pub contract: &'a Contract,
    pub rows: &'a RecordBatch,
    pub target: &'a [f64],
}

/// The pipelines of a model, fitted on its rows, each with the name of its kind.
pub struct Pipelines<'a> {
    rows: &'a RecordBatch,
    fitted: Vec<(String, Pipeline)>,
}

impl<'a> Ground<'a> {
    pub fn fit(&self) -> Result<Pipelines<'a>> {
        let target = self.target;
        let known: Vec<u32> = (0..target.len() as u32).filter(|row| !target[*row as usize].is_nan()).collect();
        let fit = |recipe: &Recipe| {
            let fitted = Pipeline::fit(self.spec, self.contract, *recipe, self.rows, &known, target, 1)?;
            Ok((format!("{recipe:?}").to_lowercase(), fitted.pipeline))
        };
        let fitted = recipes(self.spec).iter().map(fit).collect::<Result<_>>()?;
        Ok(Pipelines { rows: self.rows, fitted })
    }
}

impl Pipelines<'_> {
    /// How many values of hashed columns share a slot, by kind of pipeline.
    pub fn collisions(&self) -> Result<Map<String, Value>> {
        let report = |(name, pipeline): &(String, Pipeline)| {
            let report: CollisionReport = pipeline.collisions(self.rows)?;
            Ok((name.clone(), serde_json::to_value(report)?))
        };
        self.fitted.iter().map(report).collect()
    }

    /// A report for each kind of pipeline, and whether none differs.
    pub fn parity(&self, compared: &Compared) -> Result<(Map<String, Value>, bool)> {
        let (mut reports, mut same) = (Map::new(), true);
        for (name, pipeline) in &self.fitted {
            let found = compared.compare(pipeline, self.rows)?;
            same &= found.differences == 0;
            let mut report = json!({ "rows": found.rows, "differences": found.differences, "first": found.first });
            if let Some(seed) = compared.perturb {
                report["perturb"] = json!(seed);
            }
            reports.insert(name.clone(), report);
        }
        Ok((reports, same))
    }
}

/// Which rows are compared.
#[derive(Clone, Copy)]
pub struct Compared {
    /// So many, the data set's again and again; each of them once where it is none.
    pub rows: Option<u64>,
    /// The seed by which cells are changed; none are without one.
    pub perturb: Option<u64>,
}

impl Compared {
    /// On all threads, with no more than a stretch of rows in memory for each.
    fn compare(&self, pipeline: &Pipeline, rows: &RecordBatch) -> Result<ParityReport> {
        if rows.num_rows() == 0 {
            return Ok(ParityReport::default());
        }
        let total = self.rows.unwrap_or(rows.num_rows() as u64);
        let bar = output::bar("comparing");
        bar.set_length(total);
        let inputs = inputs(pipeline, rows)?;
        let compare = |from: u64| {
            let to = total.min(from + CHUNK_ROWS);
            let mut report = features::parity::compare(pipeline, &self.stretch(&inputs, from..to)?)?;
            report.first.iter_mut().for_each(|first| first.row += from);
            bar.inc(to - from);
            Ok(report)
        };
        let stretches = (0..total.div_ceil(CHUNK_ROWS)).into_par_iter().map(|stretch| compare(stretch * CHUNK_ROWS));
        let found = stretches.try_reduce(ParityReport::default, |a, b| Ok(a.and(b)));
        bar.finish_and_clear();
        found
    }

    fn stretch(&self, rows: &RecordBatch, stretch: Range<u64>) -> Result<RecordBatch, FeatureError> {
        match self.perturb {
            Some(seed) => features::perturbed(rows, seed, stretch),
            None => features::repeated(rows, stretch),
        }
    }
}

/// The columns that the pipeline reads.
fn inputs(pipeline: &Pipeline, rows: &RecordBatch) -> Result<RecordBatch> {
    let place = |name: &String| rows.schema_ref().index_of(name);
    let places = pipeline.input_columns().iter().map(place).collect::<Result<Vec<_>, _>>()?;
    Ok(rows.project(&places)?)
}

/// A report of collisions as a table.
pub fn collided(name: &str, report: &Value) -> String {
    let rows: Vec<Vec<String>> = report["columns"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(column, found)| vec![column.clone(), found["values"].to_string(), found["colliding_values"].to_string()])
        .collect();
    if rows.is_empty() {
        return format!("  {name} pipeline: nothing is hashed\n");
    }
    let figure = |field: &str| report[field].as_f64().unwrap_or_default() * 100.0;
    format!(
        "  {name} pipeline: {} values in {} of {} slots, {:.2} % share one ({:.2} % expected)\n{}\n",
        report["values"],
        report["slots_used"],
        report["slots"],
        figure("share"),
        figure("expected_share"),
        output::table(&["  column", "values", "sharing a slot"], &rows)
    )
}
