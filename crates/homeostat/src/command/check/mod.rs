//! `check`: the project's files agree with each other, with the data, and with what is deployed; no column knows the
//! outcome; with `--data`, a report on one file; with `--parity`, the pipeline gives the same bits for a whole data set as
//! for its rows one by one, or (`--rows`, `--perturb`) for many more rows made of it, and with `--online` the histories of
//! streams give what answers were given with; with `--collisions`, how many hashed values share a slot.

mod evolution;
mod file;
mod online;
mod page;
mod pipelines;
mod words;

use super::train::instant;
use crate::cli::Check;
use crate::output;
use crate::project::Project;
use crate::screening::{self, Screen, Screened};
use crate::training;
use crate::windows::Windows;
use anyhow::{Context, Result};
use features::leakage::Leak;
use features::{FeatureError, Pipeline, Report};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use vocabulary::{ModelSpec, Timestamp};

/// What was found about one model.
#[derive(Serialize)]
struct Checked {
    rows: u64,
    outcomes: usize,
    refused: u64,
    violations: features::Violations,
    validation: Report,
    leaks: Vec<Leak>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parity: Option<Map<String, Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    collisions: Option<Map<String, Value>>,
    #[serde(skip)]
    ok: bool,
}

pub async fn run(project: &Project, args: &Check, json: bool) -> Result<bool> {
    let as_of = instant(&args.as_of)?;
    if let Some(data) = &args.data {
        let contract = match &args.contract {
            Some(name) => project.contract(name)?,
            None => project.only_contract()?,
        };
        let model = project.models.values().find(|spec| spec.contract == contract.name);
        let registered = match model {
            Some(spec) => screening::registered(project, &spec.name).await?,
            None => Vec::new(),
        };
        let held = file::Held { contract, registered: &registered, data, as_of };
        return file::run(project, args, &held, json);
    }
    let specs: Vec<&ModelSpec> = match &args.model {
        Some(name) => vec![project.model(name)?],
        None => project.models.values().collect(),
    };
    if args.online {
        return online::run(project, &specs, json);
    }
    let mut models: Vec<(&ModelSpec, Result<Checked, String>)> = Vec::new();
    for spec in &specs {
        let checked = match model(project, spec, args, as_of).await {
            // A column that is not there, or is not of its type: the answer is no, and the rest can be checked still. A
            // declaration that means nothing cannot be checked at all.
            Err(error) if unfit(&error) => Err(format!("{error:#}")),
            checked => Ok(checked?),
        };
        models.push((spec, checked));
    }
    let evolution = evolution::of(project, &specs).await?;
    let fine = models.iter().all(|(_, checked)| checked.as_ref().is_ok_and(|checked| checked.ok));
    let good = !specs.is_empty() && fine && evolution.iter().all(|evolution| evolution.ok());
    let told = |(spec, checked): &(&ModelSpec, Result<Checked, String>)| -> Result<(String, Value)> {
        let told = match checked {
            Ok(checked) => serde_json::to_value(checked)?,
            Err(unfit) => json!({ "error": unfit }),
        };
        Ok((spec.name.clone(), told))
    };
    let by_name: Map<String, Value> = models.iter().map(told).collect::<Result<_>>()?;
    let compatibility: Map<String, Value> =
        evolution.iter().map(|e| Ok((e.contract.clone(), serde_json::to_value(e)?))).collect::<Result<_>>()?;
    let shown = json!({ "ok": good, "contracts": project.contracts.len(), "environment": project.config.project.environment,
        "models": by_name, "compatibility": compatibility });
    if let Some(html) = &args.html {
        let sections = models.iter().map(|(spec, checked)| page::Section {
            title: format!("{}: {}", spec.name, training::source(project, spec)),
            found: match checked {
                Ok(checked) => Ok((&checked.validation, checked.leaks.as_slice())),
                Err(unfit) => Err(unfit.as_str()),
            },
        });
        write(html, &page::page(&sections.collect::<Vec<_>>(), &evolution))?;
    }
    output::show(json, &shown, || {
        let mut text = format!("{} contracts and {} models read\n", project.contracts.len(), models.len());
        for (spec, checked) in &models {
            text.push_str(&match checked {
                Ok(checked) => words::model(&spec.name, checked),
                Err(unfit) => format!("{}: {unfit}\n", spec.name),
            });
        }
        evolution.iter().for_each(|evolution| text.push_str(&words::evolution(evolution)));
        text + if good { "all is well" } else { "not all is well" }
    })?;
    Ok(good)
}

/// Whether data does not fit its declaration.
fn unfit(error: &anyhow::Error) -> bool {
    let found = error.downcast_ref::<FeatureError>();
    found.is_some_and(|error| !matches!(error, FeatureError::Declaration(_)))
}

fn write(path: &Path, page: &str) -> Result<()> {
    std::fs::write(path, page).with_context(|| format!("can't write {}", path.display()))
}

async fn model(project: &Project, spec: &ModelSpec, args: &Check, as_of: Option<Timestamp>) -> Result<Checked> {
    let contract = project.contract_of(spec);
    pipelines::recipes(spec).iter().try_for_each(|recipe| Pipeline::check(spec, contract, *recipe))?;
    let rows = training::file_rows(project, spec).await?;
    let registered = screening::registered(project, &spec.name).await?;
    let screen = Screen::new(project, contract, &registered, &training::source(project, spec), None)?;
    let mut screened = Screened::default();
    let enforced = screen.count(&rows, &|row| row as u64, &mut screened)?;
    let windows = Windows::open(project, spec, &BTreeMap::new())?;
    let kept = windows.attach(&training::sorted(&enforced.batch, spec)?)?;
    let target = features::target_values(spec, &kept)?;
    let outcomes = target.iter().filter(|value| !value.is_nan()).count();
    let validation = screen.report(&screened.seen, as_of);
    let leaks = features::leakage::leaks(spec, contract, &kept, &target)?;
    let mut ok = outcomes > 0 && validation.ok && leaks.is_empty();
    let ground = pipelines::Ground { spec, contract, rows: &kept, target: &target };
    let pipelines = if args.parity || args.collisions { Some(ground.fit()?) } else { None };
    let compared = pipelines::Compared { rows: args.rows, perturb: args.perturb };
    let parity = pipelines.as_ref().filter(|_| args.parity).map(|all| all.parity(&compared)).transpose()?;
    ok &= parity.as_ref().is_none_or(|(_, same)| *same);
    let collisions =
        pipelines.as_ref().filter(|_| args.collisions).map(pipelines::Pipelines::collisions).transpose()?;
    Ok(Checked {
        rows: validation.rows,
        outcomes,
        refused: validation.rejected_rows + validation.quarantined_rows,
        violations: validation.violations.clone(),
        validation,
        leaks,
        parity: parity.map(|(reports, _)| reports),
        collisions,
        ok,
    })
}
