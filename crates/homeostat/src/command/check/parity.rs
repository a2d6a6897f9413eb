//! Whether a pipeline gives the same bits for a whole data set as for its rows one by one.

use crate::output;
use anyhow::Result;
use arrow::array::RecordBatch;
use features::parity::ParityReport;
use features::{Pipeline, Recipe};
use rayon::prelude::*;
use serde_json::{Map, Value, json};
use vocabulary::model::LearnerKind;
use vocabulary::{Contract, ModelSpec};

/// Rows that one thread compares at a time.
const CHUNK_ROWS: usize = 4096;

/// A report for each kind of pipeline that the model may have, and whether none differs.
pub fn of(
    spec: &ModelSpec,
    contract: &Contract,
    rows: &RecordBatch,
    target: &[f64],
) -> Result<(Map<String, Value>, bool)> {
    let recipes: &[Recipe] = match spec.learner.kind {
        LearnerKind::Trees => &[Recipe::Trees],
        LearnerKind::Linear => &[Recipe::Linear],
        LearnerKind::Network => &[Recipe::Network],
        LearnerKind::Auto => &[Recipe::Trees, Recipe::Linear, Recipe::Network],
    };
    let known: Vec<u32> = (0..target.len() as u32).filter(|row| !target[*row as usize].is_nan()).collect();
    let (mut reports, mut same) = (Map::new(), true);
    for recipe in recipes {
        let fitted = Pipeline::fit(spec, contract, *recipe, rows, &known, target, 1)?;
        let chunks = rows.num_rows().div_ceil(CHUNK_ROWS);
        let bar = output::bar("comparing");
        bar.set_length(rows.num_rows() as u64);
        let compared: Vec<ParityReport> = (0..chunks)
            .into_par_iter()
            .map(|chunk| {
                let from = chunk * CHUNK_ROWS;
                let count = CHUNK_ROWS.min(rows.num_rows() - from);
                let report = features::parity::compare(&fitted.pipeline, &rows.slice(from, count));
                bar.inc(count as u64);
                report
            })
            .collect::<Result<_, _>>()?;
        bar.finish_and_clear();
        let total: u64 = compared.iter().map(|report| report.rows).sum();
        let differences: u64 = compared.iter().map(|report| report.differences).sum();
        let first = compared.iter().find_map(|report| report.first.as_ref());
        same &= differences == 0;
        let name = format!("{recipe:?}").to_lowercase();
        reports.insert(name, json!({ "rows": total, "differences": differences, "first": first }));
    }
    Ok((reports, same))
}
