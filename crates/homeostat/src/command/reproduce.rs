//! `reproduce`: a version trained again from its lineage, compared byte for byte.

use super::versions::resolve;
use crate::output;
use crate::project::Project;
use crate::training::{self, Order, Rows, Training};
use anyhow::{Context, Result, bail};
use inference::{Bundle, Manifest, section};
use serde_json::json;
use vocabulary::{Contract, ModelSpec};

pub async fn run(project: &Project, version: &str, threads: usize, json: bool) -> Result<bool> {
    let version = resolve(project, version).await?;
    let bundle = project.bundle(&version.digest)?;
    let order: Order = serde_json::from_value(version.lineage["order"].clone())
        .with_context(|| format!("{} was not trained here, so that there is nothing to train again", version.name()))?;
    let manifest: Manifest = bundle.json(section::MANIFEST)?;
    if let (Some(steps), false) = (&manifest.made_by, version.lineage["steps"].is_null()) {
        bail!("{} was made from its parent ({steps}); reproduce the parent, then compress it again", version.name());
    }
    let spec: ModelSpec = bundle.json(section::SPEC)?;
    let contract: Contract = bundle.json(section::CONTRACT)?;
    let rows = Rows::again(project, &spec, &order, &version).await?;
    let earlier = bundle.earlier().collect::<Result<Vec<_>, _>>()?;
    let bar = output::bar("training again");
    let progress = |step: learning::Progress| {
        bar.set_length(step.total);
        bar.set_position(step.done);
        bar.set_message(format!("{} {}", step.learner.name(), step.phase.name()));
    };
    let start = training::started_from(project, &order)?;
    let training = Training {
        spec: &spec,
        contract: &contract,
        learner: order.learner.unwrap_or(spec.learner.kind),
        seed: manifest.seed,
        threads: training::threads(threads),
        parent: manifest.parent,
        earlier: &[],
        start: order.start(start.as_ref()),
        program: &manifest.program,
        progress: &progress,
        checkpoints: None,
    };
    let trained = training.of(&rows);
    bar.finish_and_clear();
    let trained = trained.with_context(|| format!("{} could not be trained again", version.name()))?;
    // Earlier trainings that are averaged in are versions of their own: only this training's sections are compared.
    let (before, mut now) = (bundle.own(), trained.bundle.own());
    if !earlier.is_empty() {
        let manifest = Manifest { averaged_with: manifest.averaged_with.clone(), ..trained.manifest.clone() };
        now = now.with([Bundle::json_section(section::MANIFEST, &manifest)?])?;
    }
    let data = trained.manifest.data;
    let different = before.differing(&now);
    let same = different.is_empty();
    let why = match (same, data == manifest.data, manifest.program == env!("CARGO_PKG_VERSION")) {
        (true, ..) => None,
        (_, false, _) => Some("the data is not what it was"),
        (.., false) => Some("it was made by another version of this program"),
        _ => Some("the program makes other bytes of the same data and declaration"),
    };
    let shown = json!({ "version": version.name(), "digest": version.digest, "again": trained.digest, "same": same,
        "different": different, "data_same": data == manifest.data, "why": why });
    output::show(json, &shown, || match why {
        None => format!("{}: the same bytes again (digest {})", version.name(), version.digest.short()),
        Some(why) => format!("{} differs in {}: {why}", version.name(), different.join(", ")),
    })?;
    Ok(same)
}
