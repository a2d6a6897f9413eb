//! The contracts of the files beside the versions that were trained under them before: which of those that are deployed,
//! or of all that are registered, a change would break.

use crate::imported;
use crate::project::Project;
use anyhow::{Context, Result};
use features::Pipeline;
use inference::{Bundle, section};
use serde::Serialize;
use storage::catalog::Version;
use vocabulary::contract::evolution::{incompatibilities, is_unnumbered_change};
use vocabulary::contract::{Compatibility, Incompatibility, Registered};
use vocabulary::record::{Route, Stage};
use vocabulary::{Contract, ModelSpec};

/// What a contract's change means.
#[derive(Serialize)]
pub struct Evolution {
    pub contract: String,
    pub version: u32,
    pub mode: Compatibility,
    /// The versions that it was compared with.
    pub compared: Vec<String>,
    pub changes: Vec<Incompatibility>,
    /// What else a person should know.
    pub notes: Vec<String>,
}

impl Evolution {
    pub fn ok(&self) -> bool {
        !self.changes.iter().any(|change| change.forbidden)
    }
}

/// What a version depends on.
struct Dependence {
    name: String,
    role: Option<String>,
    contract: Contract,
    reads: Vec<String>,
}

/// One for each contract of the models, in the order of their names.
pub async fn of(project: &Project, models: &[&ModelSpec]) -> Result<Vec<Evolution>> {
    let mut names: Vec<&str> = models.iter().map(|spec| spec.contract.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    if !project.catalog_path().exists() {
        return Ok(names.iter().filter_map(|name| Some(alone(project.contracts.get(*name)?))).collect());
    }
    let (versions, routing) = (project.catalog().await?.versions(None).await?, project.routing()?);
    let mut found = Vec::new();
    for name in names {
        let Some(today) = project.contracts.get(name) else { continue };
        let mut dependences = Vec::new();
        for version in versions.iter().filter(|version| !imported::is_imported(version)) {
            // A model that is no longer declared may be deployed still.
            let declared = project.models.get(&version.model);
            if declared.is_some_and(|spec| spec.contract != name) {
                continue;
            }
            let role = routing.models.get(&version.model).and_then(|route| role(route, version.number));
            if role.is_some() || (declared.is_some() && today.compatibility.is_transitive()) {
                dependences.extend(dependence(project, version, role)?.filter(|found| found.contract.name == name));
            }
        }
        found.push(judged(project, today, &dependences));
    }
    Ok(found)
}

fn alone(today: &Contract) -> Evolution {
    let (compared, changes, notes) = Default::default();
    Evolution {
        contract: today.name.clone(),
        version: today.version,
        mode: today.compatibility,
        compared,
        changes,
        notes,
    }
}

fn judged(project: &Project, today: &Contract, dependences: &[Dependence]) -> Evolution {
    let in_force: Vec<Contract> = dependences.iter().map(|found| project.in_force(&found.contract)).collect();
    let registered: Vec<Registered<'_>> = dependences
        .iter()
        .zip(&in_force)
        .map(|(found, contract)| Registered {
            name: found.name.clone(),
            role: found.role.clone(),
            contract,
            reads: found.reads.clone(),
        })
        .collect();
    let mut notes = Vec::new();
    for found in dependences {
        if today.version < found.contract.version {
            let (older, newer) = (today.version, found.contract.version);
            notes
                .push(format!("the file says version = {older}, and {} was trained under version {newer}", found.name));
        } else if is_unnumbered_change(today, &found.contract) {
            let (version, next) = (today.version, today.version + 1);
            notes.push(format!(
                "the file differs from what {} was trained under, and both say version = {version}; write version = {next}",
                found.name
            ));
        }
    }
    Evolution {
        compared: dependences.iter().map(|found| found.name.clone()).collect(),
        changes: incompatibilities(&project.in_force(today), &registered),
        notes,
        ..alone(today)
    }
}

/// What a version is deployed as.
fn role(route: &Route, number: u32) -> Option<String> {
    let deployed =
        |deployed: &Option<vocabulary::record::Deployed>| deployed.as_ref().is_some_and(|d| d.version == number);
    let mut roles = Vec::new();
    if route.live.version == number {
        roles.push("live");
    }
    if let Some(candidate) = route.candidate.as_ref().filter(|candidate| candidate.version == number) {
        roles.push(if candidate.stage == Stage::Canary { "canary" } else { "candidate" });
    }
    if deployed(&route.fallback) {
        roles.push("fallback");
    }
    if deployed(&route.frozen) && roles.is_empty() {
        roles.push("first version, in shadow");
    }
    (!roles.is_empty()).then(|| roles.join(", "))
}

fn dependence(project: &Project, version: &Version, role: Option<String>) -> Result<Option<Dependence>> {
    let unreadable = || format!("{} can't be compared with its contract of today", version.name());
    let bundle =
        Bundle::decode(&project.blobs().get(&version.digest).with_context(unreadable)?).with_context(unreadable)?;
    let spec: ModelSpec = bundle.json(section::SPEC).with_context(unreadable)?;
    let mut reads: Vec<String> = Vec::new();
    let pipelines = bundle.earlier().map(|earlier| earlier?.json::<Pipeline>(section::PIPELINE));
    for pipeline in std::iter::once(bundle.json::<Pipeline>(section::PIPELINE)).chain(pipelines) {
        reads.extend(pipeline.with_context(unreadable)?.input_columns().iter().cloned());
    }
    let made: Vec<String> = spec.window_columns().collect();
    reads.retain(|column| !made.contains(column));
    reads.extend(spec.features.windows.iter().flat_map(|windows| windows.key.iter().cloned()));
    reads.extend([&spec.time, &spec.key].into_iter().flatten().cloned());
    reads.sort_unstable();
    reads.dedup();
    let contract: Contract = bundle.json(section::CONTRACT).with_context(unreadable)?;
    Ok(Some(Dependence { name: version.name(), role, contract, reads }))
}
