//! `check`: the project's files agree with each other and with the data; with `--parity`, the pipeline gives the same
//! bits for a whole data set as for its rows one by one; with `--collisions`, how many hashed values share a slot.

use crate::cli::Check;
use crate::output;
use crate::project::Project;
use crate::training;
use anyhow::Result;
use arrow::array::RecordBatch;
use features::parity::ParityReport;
use features::{Enforcer, Pipeline, Recipe, Violations};
use rayon::prelude::*;
use serde_json::{Map, Value, json};
use vocabulary::ModelSpec;
use vocabulary::model::LearnerKind;

/// Rows that one thread compares at a time.
const CHUNK_ROWS: usize = 4096;

pub async fn run(project: &Project, args: &Check, json: bool) -> Result<bool> {
    let specs: Vec<&ModelSpec> = match &args.model {
        Some(name) => vec![project.model(name)?],
        None => project.models.values().collect(),
    };
    let mut models = Map::new();
    let mut good = !specs.is_empty();
    for spec in specs {
        let (report, fine) = model(project, spec, args).await?;
        good &= fine;
        models.insert(spec.name.clone(), report);
    }
    let shown = json!({ "ok": good, "contracts": project.contracts.len(), "models": models });
    output::show(json, &shown, || {
        let mut text = format!("{} contracts and {} models read\n", project.contracts.len(), models.len());
        for (name, report) in &models {
            text.push_str(&format!("{name}: {} rows, {} break the contract", report["rows"], report["refused"]));
            if let Some(parity) = report.get("parity") {
                let recipes = parity.as_object().into_iter().flatten();
                for (recipe, report) in recipes {
                    text.push_str(&format!(
                        "; {recipe} pipeline: {} differences in {} rows, whole against one by one",
                        report["differences"], report["rows"]
                    ));
                }
            }
            text.push('\n');
            for (recipe, found) in report.get("collisions").and_then(Value::as_object).into_iter().flatten() {
                text.push_str(&collided(recipe, found));
            }
        }
        text + if good { "all is well" } else { "not all is well" }
    })?;
    Ok(good)
}

async fn model(project: &Project, spec: &ModelSpec, args: &Check) -> Result<(Value, bool)> {
    let contract = project.contract_of(spec);
    let recipes: &[Recipe] = match spec.learner.kind {
        LearnerKind::Trees => &[Recipe::Trees],
        LearnerKind::Linear => &[Recipe::Linear],
        LearnerKind::Network => &[Recipe::Network],
        LearnerKind::Auto => &[Recipe::Trees, Recipe::Linear, Recipe::Network],
    };
    recipes.iter().try_for_each(|recipe| Pipeline::check(spec, contract, *recipe))?;
    let rows = training::sorted(&training::file_rows(project, spec).await?, spec)?;
    let columns: Vec<String> = contract.column_names().map(str::to_owned).collect();
    let mut violations = Violations::default();
    let enforced = Enforcer::new(contract, &columns)?.enforce(&rows, &mut violations)?;
    let target = features::target_values(spec, &enforced.batch)?;
    let outcomes = target.iter().filter(|value| !value.is_nan()).count();
    let refused = violations.rejected_rows + violations.quarantined_rows;
    let mut report =
        json!({ "rows": rows.num_rows(), "outcomes": outcomes, "refused": refused, "violations": violations });
    let mut fine = outcomes > 0 && refused == 0;
    if !(args.parity || args.collisions) {
        return Ok((report, fine));
    }
    let known: Vec<u32> = (0..target.len() as u32).filter(|row| !target[*row as usize].is_nan()).collect();
    let (mut parities, mut collisions) = (Map::new(), Map::new());
    for recipe in recipes {
        let pipeline = Pipeline::fit(spec, contract, *recipe, &enforced.batch, &known, &target, 1)?.pipeline;
        let name = format!("{recipe:?}").to_lowercase();
        if args.parity {
            let (found, same) = parity(&pipeline, &enforced.batch)?;
            fine &= same;
            parities.insert(name.clone(), found);
        }
        if args.collisions {
            collisions.insert(name, serde_json::to_value(pipeline.collisions(&enforced.batch)?)?);
        }
    }
    if args.parity {
        report["parity"] = Value::Object(parities);
    }
    if args.collisions {
        report["collisions"] = Value::Object(collisions);
    }
    Ok((report, fine))
}

/// Compares the whole with its rows one by one; whether no bit differs.
fn parity(pipeline: &Pipeline, batch: &RecordBatch) -> Result<(Value, bool)> {
    let chunks = batch.num_rows().div_ceil(CHUNK_ROWS);
    let bar = output::bar("comparing");
    bar.set_length(batch.num_rows() as u64);
    let compared: Vec<ParityReport> = (0..chunks)
        .into_par_iter()
        .map(|chunk| {
            let from = chunk * CHUNK_ROWS;
            let rows = CHUNK_ROWS.min(batch.num_rows() - from);
            let report = features::parity::compare(pipeline, &batch.slice(from, rows));
            bar.inc(rows as u64);
            report
        })
        .collect::<Result<_, _>>()?;
    bar.finish_and_clear();
    let total: u64 = compared.iter().map(|report| report.rows).sum();
    let differences: u64 = compared.iter().map(|report| report.differences).sum();
    let first = compared.iter().find_map(|report| report.first.as_ref());
    Ok((json!({ "rows": total, "differences": differences, "first": first }), differences == 0))
}

/// The report of collisions as a table.
fn collided(name: &str, report: &Value) -> String {
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
