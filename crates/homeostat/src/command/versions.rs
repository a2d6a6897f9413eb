//! `versions`, `show`, `lineage` and `status`: what there is and where it came from.

use super::train::described;
use crate::artifact::Artifact;
use crate::cli::Show;
use crate::client::Client;
use crate::project::Project;
use crate::{imported, output};
use anyhow::{Result, bail};
use serde_json::{Value, json};
use storage::catalog::Version;

/// The version that a person wrote.
pub async fn resolve(project: &Project, text: &str) -> Result<Version> {
    let wanted = text.parse()?;
    Ok(project.catalog().await?.resolve(&wanted, &project.routing()?).await?)
}

pub async fn list(project: &Project, model: Option<&str>, json: bool) -> Result<bool> {
    if let Some(model) = model {
        project.model(model)?;
    }
    let versions = project.catalog().await?.versions(model).await?;
    let listed: Vec<Value> = versions.iter().map(described).collect();
    output::show(json, &listed, || {
        let rows: Vec<Vec<String>> = versions
            .iter()
            .map(|v| {
                let metric = |names: [&str; 2]| names.iter().find_map(|name| v.metrics.get(name));
                vec![
                    v.name(),
                    v.digest.short(),
                    v.learner.clone(),
                    v.trained_to.map(|t| t.to_string()).unwrap_or_else(|| "-".into()),
                    v.rows.to_string(),
                    output::figure(metric(["auc", "rmse"])),
                    output::figure(metric(["logloss", "mae"])),
                    v.bytes.to_string(),
                ]
            })
            .collect();
        if rows.is_empty() {
            return "no version is registered yet; train one with `homeostat train`".into();
        }
        output::table(
            &["version", "digest", "learner", "trained to", "rows", "auc|rmse", "logloss|mae", "bytes"],
            &rows,
        )
    })?;
    Ok(true)
}

pub async fn show(project: &Project, args: &Show, json: bool) -> Result<bool> {
    let version = resolve(project, &args.version).await?;
    if args.pipeline || args.dot.is_some() || args.svg.is_some() {
        return pipeline(project, &version, args, json);
    }
    let mut shown = described(&version);
    shown["created_at"] = json!(version.created_at);
    shown["trained_from"] = json!(version.trained_from);
    shown["trained_to"] = json!(version.trained_to);
    shown["run"] = json!(version.run);
    shown["lineage"] = version.lineage.clone();
    output::show(json, &shown, || serde_json::to_string_pretty(&shown).unwrap_or_default())?;
    Ok(true)
}

/// The pipeline's table, and its graph where a file for it is named.
fn pipeline(project: &Project, version: &Version, args: &Show, json: bool) -> Result<bool> {
    if imported::is_imported(version) {
        bail!("{} came as a file and has no pipeline; its inputs are what it takes", version.name());
    }
    let artifact = Artifact::load(project, version)?;
    let pipeline = artifact.pipeline();
    for (file, graph) in [(&args.dot, pipeline.to_dot()), (&args.svg, pipeline.to_svg())] {
        if let Some(file) = file {
            storage::write_atomically(file, graph.as_bytes())?;
        }
    }
    let cards = pipeline.cards();
    let layout = pipeline.layout();
    let shown = json!({ "version": version.name(), "pipeline": pipeline.digest(), "steps": cards,
        "dense": layout.dense.len(), "slots": layout.slots.len() });
    output::show(json, &shown, || {
        let rows: Vec<Vec<String>> = cards
            .iter()
            .map(|card| vec![card.reads.join(", "), card.step.to_owned(), card.detail.clone(), card.gives().join(", ")])
            .collect();
        format!(
            "{}, pipeline {}: {} dense inputs, {} slots\n\n{}",
            version.name(),
            pipeline.digest().short(),
            layout.dense.len(),
            layout.slots.len(),
            output::table(&["reads", "step", "how", "gives"], &rows)
        )
    })?;
    Ok(true)
}

pub async fn lineage(project: &Project, text: &str, json: bool) -> Result<bool> {
    let version = resolve(project, text).await?;
    let catalog = project.catalog().await?;
    let deeds: Vec<_> = catalog.audit(0).await?.into_iter().filter(|entry| entry.subject == version.name()).collect();
    let shown =
        json!({ "version": version.name(), "digest": version.digest, "lineage": version.lineage, "history": deeds });
    output::show(json, &shown, || {
        let of = |name: &str| version.lineage[name].as_str().unwrap_or("-").to_owned();
        let mut text = format!(
            "{}\n  data      {}\n  pipeline  {}\n  program   {}\n  parent    {}\n  job       {}\n",
            version.name(),
            of("data"),
            of("pipeline"),
            of("program"),
            of("parent"),
            version.run.as_deref().unwrap_or("-")
        );
        for deed in deeds {
            text.push_str(&format!("  {}  {} by {}: {}\n", deed.at, deed.action, deed.actor, deed.because));
        }
        text
    })?;
    Ok(true)
}

/// Whether there is such a model, declared or imported.
pub async fn known(project: &Project, model: &str) -> Result<()> {
    let is_known = project.models.contains_key(model)
        || project.catalog().await?.versions(Some(model)).await?.iter().any(crate::imported::is_imported);
    if is_known { Ok(()) } else { project.model(model).map(|_| ()) }
}

pub async fn status(project: &Project, model: Option<&str>, json: bool) -> Result<bool> {
    if let Some(model) = model {
        known(project, model).await?;
    }
    let mut shown = serde_json::Map::new();
    let running = Client::running(&project.state()).await;
    let routing = project.routing()?;
    for name in project.models.keys().filter(|name| model.is_none_or(|model| model == name.as_str())) {
        let state = match &running {
            Some(client) => client.get(&format!("/v1/models/{name}")).await?,
            None => json!({ "model": name, "routing": routing.models.get(name) }),
        };
        shown.insert(name.clone(), state);
    }
    let imported = routing.models.iter().filter(|(name, _)| !project.models.contains_key(*name));
    for (name, route) in imported.filter(|(name, _)| model.is_none_or(|model| model == name.as_str())) {
        shown.insert(name.clone(), json!({ "model": name, "imported": true, "routing": route }));
    }
    let body = json!({ "running": running.is_some(), "models": shown });
    output::show(json, &body, || {
        let mut text =
            if running.is_some() { "the server is running\n".to_owned() } else { "no server is running\n".to_owned() };
        for (name, state) in &shown {
            let live = &state["routing"]["live"];
            let live = if live.is_null() { &state["live"] } else { live };
            text.push_str(&format!("{name}: live {}", live["version"]));
            let candidate = &state["routing"]["candidate"];
            if candidate.is_object() {
                text.push_str(&format!(", candidate {} in {}", candidate["version"], candidate["stage"]));
            }
            if state["traffic"].is_object() {
                text.push_str(&format!(
                    ", {} predictions, {} outcomes, p99 {} ms",
                    state["traffic"]["predictions"], state["traffic"]["outcomes"], state["latency_ms"]["p99"]
                ));
            }
            text.push('\n');
        }
        text
    })?;
    Ok(true)
}
