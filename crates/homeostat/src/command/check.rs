//! `check`: the project's files agree with each other and with the data; with `--parity`, the pipeline gives the same
//! bits for a whole data set as for its rows one by one.

use crate::cli::Check;
use crate::output;
use crate::project::Project;
use crate::training;
use anyhow::Result;
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
        let (report, fine) = model(project, spec, args.parity).await?;
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
        }
        text + if good { "all is well" } else { "not all is well" }
    })?;
    Ok(good)
}

async fn model(project: &Project, spec: &ModelSpec, parity: bool) -> Result<(Value, bool)> {
    let contract = project.contract_of(spec);
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
    if parity {
        let recipes: &[Recipe] = match spec.learner.kind {
            LearnerKind::Trees => &[Recipe::Trees],
            LearnerKind::Linear => &[Recipe::Linear],
            LearnerKind::Network => &[Recipe::Network],
            LearnerKind::Auto => &[Recipe::Trees, Recipe::Linear, Recipe::Network],
        };
        let known: Vec<u32> = (0..target.len() as u32).filter(|row| !target[*row as usize].is_nan()).collect();
        let mut reports = Map::new();
        for recipe in recipes {
            let fitted = Pipeline::fit(spec, contract, *recipe, &enforced.batch, &known, &target, 1)?;
            let chunks = enforced.batch.num_rows().div_ceil(CHUNK_ROWS);
            let bar = output::bar("comparing");
            bar.set_length(enforced.batch.num_rows() as u64);
            let compared: Vec<_> = (0..chunks)
                .into_par_iter()
                .map(|chunk| {
                    let from = chunk * CHUNK_ROWS;
                    let rows = CHUNK_ROWS.min(enforced.batch.num_rows() - from);
                    let report = features::parity::compare(&fitted.pipeline, &enforced.batch.slice(from, rows));
                    bar.inc(rows as u64);
                    report
                })
                .collect::<Result<_, _>>()?;
            bar.finish_and_clear();
            let total: u64 = compared.iter().map(|report: &features::parity::ParityReport| report.rows).sum();
            let differences: u64 = compared.iter().map(|report| report.differences).sum();
            let first = compared.iter().find_map(|report| report.first.as_ref());
            fine &= differences == 0;
            let name = format!("{recipe:?}").to_lowercase();
            reports.insert(name, json!({ "rows": total, "differences": differences, "first": first }));
        }
        report["parity"] = Value::Object(reports);
    }
    Ok((report, fine))
}
