//! `incidents` and `drill`: what went wrong and what was done about it, and what would be done.

use crate::client::Client;
use crate::output;
use crate::project::Project;
use crate::serve::incidents::all;
use crate::serve::watching::kept_moments;
use anyhow::{Result, bail};
use serde_json::json;
use std::collections::BTreeMap;
use vocabulary::incident::{Incident, Moment};
use vocabulary::{Playbook, Span, suggest};

pub async fn incidents(project: &Project, id: Option<&str>, json: bool) -> Result<bool> {
    let found = gathered(project).await?;
    let Some(id) = id else {
        output::show(json, &json!({ "incidents": found }), || listed(&found))?;
        return Ok(true);
    };
    let Some(incident) = found.iter().find(|incident| incident.id == id) else {
        let hint = suggest::hint(id, found.iter().map(|incident| incident.id.as_str()));
        bail!("there is no incident \"{id}\"{hint}; `homeostat incidents` lists them");
    };
    output::show(json, incident, || told(incident))?;
    Ok(true)
}

/// From the running server, which has the newest minutes, or from the files.
async fn gathered(project: &Project) -> Result<Vec<Incident>> {
    if let Some(client) = Client::running(&project.state()).await {
        let answer = client.get("/v1/incidents").await?;
        return Ok(serde_json::from_value(answer["incidents"].clone())?);
    }
    let mut moments: BTreeMap<String, Vec<Moment>> = BTreeMap::new();
    for name in project.models.keys() {
        moments.insert(name.clone(), kept_moments(&project.state(), name)?);
    }
    Ok(all(&project.catalog().await?, &moments, crate::clock::wall()).await?)
}

fn listed(found: &[Incident]) -> String {
    if found.is_empty() {
        return "no incident".to_owned();
    }
    let row = |incident: &Incident| {
        let state = if incident.closed.is_some() { "healed" } else { "lasts" };
        vec![
            incident.id.clone(),
            state.into(),
            incident.severity.name().into(),
            incident.model.clone(),
            incident.title.clone(),
        ]
    };
    output::table(&["incident", "", "severity", "model", "what"], &found.iter().map(row).collect::<Vec<_>>())
}

fn told(incident: &Incident) -> String {
    let rows =
        incident.timeline.iter().map(|line| vec![line.at.to_string(), line.what.name().into(), line.text.clone()]);
    let first = match incident.moved.first() {
        Some(moved) => format!("moved first: {} at {}", moved.figure, moved.at),
        None => "no figure is known to have moved".to_owned(),
    };
    format!(
        "{} ({}, {})\n{}\n{first}\n\n{}\n\n{}",
        incident.id,
        incident.model,
        incident.severity.name(),
        incident.title,
        output::table(&["at", "", "what"], &rows.collect::<Vec<_>>()),
        incident.ending
    )
}

/// Rehearses a playbook for each model that it is about. The answer is no where it does not keep its promise.
pub fn drill(project: &Project, name: &str, json: bool) -> Result<bool> {
    let playbook = named(project, name)?;
    let about = |model: &&String| playbook.when.models.is_empty() || playbook.when.models.contains(model);
    let mut rehearsals = Vec::new();
    let mut unpromised: Vec<String> = Vec::new();
    for model in project.models.keys().filter(about) {
        let spec = &project.models[model];
        let never = control::playbook::never_found(playbook, spec);
        unpromised.extend(never.iter().map(|kind| {
            format!("{model} promises nothing that {} would break ([objective] in its file)", kind.name())
        }));
        rehearsals.extend(control::drill::rehearse(playbook, &project.playbooks, spec));
    }
    let passed = !rehearsals.is_empty() && rehearsals.iter().all(|rehearsal| rehearsal.problems.is_empty());
    let shown: Vec<_> = rehearsals
        .iter()
        .map(|r| {
            json!({ "model": r.model, "finding": r.kind, "passed": r.problems.is_empty(), "problems": r.problems,
                "found_after": r.found_after, "acted_after": r.acted_after, "timeline": r.timeline })
        })
        .collect();
    let body = json!({ "playbook": name, "passed": passed, "rehearsals": shown, "not_rehearsed": unpromised });
    output::show(json, &body, || {
        let mut text = String::new();
        for rehearsal in &rehearsals {
            let rows = rehearsal.timeline.iter().map(|line| {
                let minutes = (line.at.0 / 60_000_000) - 60;
                vec![format!("{minutes:+} min"), line.what.name().into(), line.text.clone()]
            });
            let table = output::table(&["", "", "what"], &rows.collect::<Vec<_>>());
            let verdict = match (rehearsal.problems.is_empty(), rehearsal.acted_after) {
                (true, Some(Span(0))) => "passed: acted at the look that found it".to_owned(),
                (true, Some(after)) => format!("passed: acted {after} after the finding"),
                _ => format!("FAILED: {}", rehearsal.problems.join("; ")),
            };
            text.push_str(&format!("{}, {}\n{table}\n{verdict}\n\n", rehearsal.model, rehearsal.kind.name()));
        }
        for line in &unpromised {
            text.push_str(&format!("not rehearsed: {line}\n"));
        }
        if rehearsals.is_empty() {
            text.push_str("FAILED: nothing that starts this playbook can be found\n");
        }
        text
    })?;
    Ok(passed)
}

fn named<'a>(project: &'a Project, name: &str) -> Result<&'a Playbook> {
    if let Some(playbook) = project.playbooks.iter().find(|playbook| playbook.name == name) {
        return Ok(playbook);
    }
    let names: Vec<&str> = project.playbooks.iter().map(|playbook| playbook.name.as_str()).collect();
    let folder = project.root.join("playbooks");
    if names.is_empty() {
        bail!("no playbook \"{name}\": there is none under {}", folder.display());
    }
    let hint = suggest::hint(name, names.iter().copied());
    bail!("no playbook \"{name}\" in {}{hint} (there are: {})", folder.display(), names.join(", "))
}
