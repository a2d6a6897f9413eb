//! What a model's pipelines do with its data: whether a whole data set gives the same bits as its rows one by one, and how
//! many hashed values share a slot.

use crate::output;
use anyhow::Result;
use arrow::array::RecordBatch;
use features::parity::ParityReport;
use features::{CollisionReport, Pipeline, Recipe};
use rayon::prelude::*;
use serde_json::{Map, Value, json};
use vocabulary::model::LearnerKind;
use vocabulary::{Contract, ModelSpec};

/// Rows that one thread compares at a time.
const CHUNK_ROWS: usize = 4096;

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
    pub fn parity(&self) -> Result<(Map<String, Value>, bool)> {
        let (mut reports, mut same) = (Map::new(), true);
        for (name, pipeline) in &self.fitted {
            let chunks = self.rows.num_rows().div_ceil(CHUNK_ROWS);
            let bar = output::bar("comparing");
            bar.set_length(self.rows.num_rows() as u64);
            let compared: Vec<ParityReport> = (0..chunks)
                .into_par_iter()
                .map(|chunk| {
                    let from = chunk * CHUNK_ROWS;
                    let count = CHUNK_ROWS.min(self.rows.num_rows() - from);
                    let report = features::parity::compare(pipeline, &self.rows.slice(from, count));
                    bar.inc(count as u64);
                    report
                })
                .collect::<Result<_, _>>()?;
            bar.finish_and_clear();
            let total: u64 = compared.iter().map(|report| report.rows).sum();
            let differences: u64 = compared.iter().map(|report| report.differences).sum();
            let first = compared.iter().find_map(|report| report.first.as_ref());
            same &= differences == 0;
            reports.insert(name.clone(), json!({ "rows": total, "differences": differences, "first": first }));
        }
        Ok((reports, same))
    }
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
