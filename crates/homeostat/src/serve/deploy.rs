//! Putting a routing snapshot into force: opened first, then kept on disk, then swapped, then recorded.

use super::state::{App, Happened, Routes, versions_of};
use crate::artifact::Artifact;
use crate::clock;
use crate::project::Project;
use crate::routing::Deed;
use anyhow::{Context, Result};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use storage::Catalog;
use storage::catalog::{Deed as AuditDeed, Version};
use vocabulary::{Routing, Timestamp};

/// Writes a snapshot where a restart finds it, and into the catalog's history.
pub async fn keep(project: &Project, catalog: &Catalog, routing: &Routing) -> Result<()> {
    storage::write_atomically(&project.routing_path(), &serde_json::to_vec_pretty(routing)?)?;
    catalog.put_routing(routing).await?;
    Ok(())
}

/// Appends an operator's deed to the audit log.
pub async fn record(
    catalog: &Catalog,
    model: &str,
    deed: &Deed,
    actor: &str,
    because: &str,
    at: Timestamp,
) -> Result<storage::catalog::AuditEntry> {
    let subject = match deed {
        Deed::Shadow { version, .. } | Deed::Canary { version, .. } | Deed::Now { version, .. } => {
            format!("{model}@{version}")
        }
        Deed::RollBack { to: Some((version, _)) } => format!("{model}@{version}"),
        _ => model.to_owned(),
    };
    let deed = AuditDeed {
        at,
        recorded_at: clock::wall(),
        actor: actor.to_owned(),
        action: deed.name().to_owned(),
        model: model.to_owned(),
        subject,
        because: because.to_owned(),
        detail: String::new(),
    };
    Ok(catalog.record(&deed).await?)
}

/// Opens every version that `routing` names; those that are open already are kept.
pub fn open(app: &App, routing: Routing, versions: &[Version]) -> Result<Routes> {
    let before = app.routes.load();
    let mut artifacts: BTreeMap<(String, u32), Arc<Artifact>> = BTreeMap::new();
    // Imported models are loaded by the registry when they are asked for.
    for (model, route) in routing.models.iter().filter(|(model, _)| app.models.contains_key(*model)) {
        for number in versions_of(route) {
            let place = (model.clone(), number);
            let artifact = match before.artifacts.get(&place) {
                Some(open) => Arc::clone(open),
                None => {
                    let version = versions.iter().find(|version| version.model == *model && version.number == number);
                    let version = version
                        .with_context(|| format!("{model}@{number} is routed, but the catalog does not know it"))?;
                    Artifact::load(&app.project, version)?
                }
            };
            artifacts.insert(place, artifact);
        }
    }
    let known = routing.models.keys().map(|model| (model.clone(), known(&app.project, model, &artifacts))).collect();
    let mut windows = BTreeMap::new();
    for (model, route) in &routing.models {
        // The live version first: where two name the same stream by other keys, its key is asked.
        let others = versions_of(route).into_iter().filter(|number| *number != route.live.version);
        let versions = std::iter::once(route.live.version).chain(others);
        let deployed = versions.filter_map(|number| artifacts.get(&(model.clone(), number)));
        let wanted = super::windows::together(deployed.map(|artifact| &artifact.spec));
        if !wanted.is_empty() {
            windows.insert(model.clone(), wanted);
        }
    }
    Ok(Routes { routing, artifacts, known, windows })
}

fn known(project: &Project, model: &str, artifacts: &BTreeMap<(String, u32), Arc<Artifact>>) -> HashSet<String> {
    let deployed = artifacts.iter().filter(|((name, _), _)| name == model).map(|(_, artifact)| &artifact.contract);
    let today = project.models.get(model).map(|spec| project.contract_of(spec));
    let columns = deployed.chain(today).flat_map(|contract| &contract.columns);
    columns.flat_map(|column| std::iter::once(&column.name).chain(&column.aliases)).cloned().collect()
}

/// Puts `routing` into force.
pub async fn adopt(app: &App, routing: Routing) -> Result<()> {
    let versions = app.catalog.versions(None).await?;
    let routes = tokio::task::block_in_place(|| open(app, routing, &versions))?;
    keep(&app.project, &app.catalog, &routes.routing).await?;
    app.imported.list(&app.plane, &versions, &routes.routing);
    app.routes.store(Arc::new(routes));
    Ok(())
}

/// Tells the page about an audit entry.
pub fn announce(app: &App, entry: &storage::catalog::AuditEntry) {
    if let Ok(value) = serde_json::to_value(entry) {
        // Nobody listening is no failure.
        let _ = app.happened.send(Happened::Audit(Arc::new(value)));
    }
}
