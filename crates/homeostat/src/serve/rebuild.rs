//! Starting again: everything that the server keeps in memory is made anew from the log, the catalog and the routing
//! snapshot, so that a server that was killed goes on as if it had not been.

use super::deploy;
use super::ledger::{Entry, key_hash};
use super::looping::kept_instant;
use super::state::{App, ModelState, Routes, versions_of};
use super::worker::Profiled;
use crate::project::Project;
use crate::transforms::Transforms;
use crate::windows;
use anyhow::Result;
use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use storage::Record;
use storage::parquet_log::Columns;
use vocabulary::record::{Prediction, ShadowScore};
use vocabulary::{PredictionId, Span, Timestamp};

/// Rows of the log that are read back into columns at once.
const CHUNK_ROWS: usize = 2048;

/// Where an event clock's position is kept.
pub fn clock_path(project: &Project) -> PathBuf {
    project.state().join("clock")
}

/// Writes down where an event clock stands. Replaced whole, but not flushed: it moves thousands of times a minute, and
/// after a loss of power a replay goes on from an earlier hour, which changes nothing.
pub fn keep_clock(project: &Project, now: Timestamp) -> Result<()> {
    Ok(storage::replace(&clock_path(project), now.to_string().as_bytes())?)
}

pub async fn all(app: &Arc<App>) -> Result<()> {
    let routing = app.project.routing()?;
    let at = kept_instant(&clock_path(&app.project))?;
    if let Some(at) = at {
        app.clock.advance(at);
    }
    if !routing.models.is_empty() {
        let versions = app.catalog.versions(None).await?;
        let routes = tokio::task::block_in_place(|| deploy::open(app, routing, &versions))?;
        // A crash between the file and the catalog leaves a snapshot that the catalog does not know yet.
        app.catalog.put_routing(&routes.routing).await?;
        app.imported.list(&app.plane, &versions, &routes.routing);
        app.routes.store(Arc::new(routes));
    }
    let routes = app.routes.load_full();
    for (name, state) in &app.models {
        let mut control = state.control.lock().await;
        control.recall(app).await?;
        control.align(&routes);
        drop(control);
        let missing = tokio::task::block_in_place(|| model(app, &routes, name, state, at))?;
        app.journal.append(&missing).await?;
    }
    Ok(())
}

/// Reads one model's log back. Returns shadow scores that had not reached the log when the server died.
fn model(app: &App, routes: &Routes, name: &str, state: &ModelState, at: Option<Timestamp>) -> Result<Vec<Record>> {
    let log = app.project.log_path();
    let mut logged = storage::log::read(&log, name, Columns::All)?;
    if logged.predictions.is_empty() {
        return Ok(Vec::new());
    }
    let since = routes.route(name).map(|route| {
        let trial = route.candidate.as_ref().map(|candidate| candidate.shadow_since);
        trial.map_or(route.live.since, |trial| trial.min(route.live.since))
    });
    {
        let mut ledger = state.ledger();
        for prediction in &logged.predictions {
            let key = prediction.key.as_deref().map(key_hash);
            let order = key.map_or(0, |key| key as u64);
            let (at, version, value) = (prediction.at, prediction.version, prediction.value.clone());
            ledger.add(prediction.id, key, Entry { at, version, value, shadows: Vec::new(), outcome: None, order });
        }
        for shadow in &logged.shadows {
            ledger.add_shadow(shadow.id, shadow.version, shadow.value.clone());
        }
    }
    let recent: Vec<Prediction> =
        logged.predictions.extract_if(.., |p| since.is_none_or(|since| p.at >= since)).collect();
    for prediction in &logged.predictions {
        state.control.blocking_lock().book.answered(prediction.at);
    }
    let (profiled, missing) = again(routes, name, state, &recent)?;
    logged.outcomes.sort_by_key(|outcome| outcome.at);
    let mut ledger = state.ledger();
    for shadow in &missing {
        ledger.add_shadow(shadow.id, shadow.version, shadow.value.clone());
    }
    for outcome in &logged.outcomes {
        ledger.join(outcome.id, outcome.at, outcome.value);
    }
    drop(ledger);
    refeed(routes, name, state, profiled, at);
    Ok(missing.into_iter().map(Record::Shadow).collect())
}

/// Profiles the recent rows again, and scores them with deployed versions whose answer is not in the log.
fn again(
    routes: &Routes,
    name: &str,
    state: &ModelState,
    recent: &[Prediction],
) -> Result<(Vec<Profiled>, Vec<ShadowScore>)> {
    let (mut profiled, mut missing) = (Vec::new(), Vec::new());
    let (Some(route), Some(live)) = (routes.route(name), routes.live(name)) else { return Ok((profiled, missing)) };
    for chunk in recent.chunks(CHUNK_ROWS) {
        let mut rows = Vec::with_capacity(chunk.len());
        for prediction in chunk {
            rows.push(serde_json::from_str(&prediction.row)?);
        }
        let Ok(batch) = live.reader.read_with(&rows, features::Strangers::PassOverAll) else {
            tracing::warn!(
                "model \"{name}\": logged rows no longer fit the live version's contract; they are not profiled"
            );
            continue;
        };
        let batch = live.enforcer.enforce(&batch, &mut features::Violations::default())?.batch;
        if batch.num_rows() != chunk.len() {
            tracing::warn!("model \"{name}\": logged rows break the live version's contract; they are not profiled");
            continue;
        }
        let looked = chunk.iter().map(|prediction| windows::logged(prediction.windows.as_deref()));
        let looked = looked.collect::<Result<Vec<_>>>()?;
        let mut batch = batch;
        for artifact in versions_of(route).into_iter().filter_map(|version| routes.artifact(name, version)) {
            batch = windows::attach_logged(&artifact.spec, &batch, &looked)?;
        }
        for (row, prediction) in chunk.iter().enumerate() {
            profiled.push(Profiled::of(prediction.at, live.number, &live.reference.features, &batch, row));
        }
        let mut transforms = Transforms::of(&batch);
        for version in versions_of(route) {
            let Some(artifact) = routes.artifact(name, version) else { continue };
            let begun = match &route.candidate {
                Some(candidate) if candidate.version == version => candidate.shadow_since,
                _ => Timestamp::MIN,
            };
            let unknown: HashSet<PredictionId> = {
                let ledger = state.ledger();
                let lacks =
                    |p: &&Prediction| p.at >= begun && ledger.get(&p.id).is_some_and(|e| e.said(version).is_none());
                chunk.iter().filter(lacks).map(|p| p.id).collect()
            };
            if unknown.is_empty() {
                continue;
            }
            for (prediction, value) in chunk.iter().zip(artifact.answers_from(&mut transforms)?) {
                if unknown.contains(&prediction.id) {
                    missing.push(ShadowScore { id: prediction.id, model: name.to_owned(), version, value });
                }
            }
        }
    }
    Ok((profiled, missing))
}

/// Lets the loop live through what it had seen, hour by hour, as it did the first time. Nothing is decided again.
fn refeed(routes: &Routes, name: &str, state: &ModelState, mut profiled: Vec<Profiled>, at: Option<Timestamp>) {
    profiled.sort_by_key(|profiled| profiled.at);
    let Some(until) = at.or_else(|| profiled.last().map(|last| last.at)) else { return };
    let mut control = state.control.blocking_lock();
    let frozen = routes.route(name).and_then(|route| route.frozen.as_ref()).map(|frozen| frozen.version);
    let begin = routes.route(name).map_or(until, |route| route.live.since);
    let early = state.ledger().take_joined(begin);
    for (_, entry) in &early {
        control.learn_outcome(entry, frozen);
    }
    let mut waiting = profiled.into_iter().peekable();
    let mut now = begin;
    while now < until {
        now = (now + Span::hours(1)).min(until);
        while let Some(row) = waiting.next_if(|row| row.at < now) {
            control.book.answered(row.at);
            control.learn_profile(&row);
        }
        let joined = state.ledger().take_joined(now);
        for (_, entry) in &joined {
            control.learn_outcome(entry, frozen);
        }
        control.relive(now);
    }
    state.worker.put_back(waiting.collect());
}
