//! Carrying out a plan's steps: the routing, jobs, alerts and shedding, each with its entry in the audit log. What is to be
//! done is decided elsewhere.

use super::deploy;
use super::error::{ApiError, ApiResult, stored};
use super::jobs::Running;
use super::looping::{CONTROL, record};
use super::state::{App, ModelState};
use crate::alerts::Alert;
use crate::clock;
use crate::training::{LogUse, Order};
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::catalog::{Deed as AuditDeed, Job, JobState, Version};
use vocabulary::plan::{PlannedStep, Step};
use vocabulary::{Finding, Severity, Timestamp};

/// Takes one step, and says what was done. `findings` are those of the look that it was planned at.
pub async fn take_step(
    app: &Arc<App>,
    name: &str,
    state: &ModelState,
    step: &PlannedStep,
    findings: &[Finding],
    versions: &[Version],
    now: Timestamp,
) -> ApiResult<String> {
    let (subject, number) = match &step.step {
        Step::StartShadow { version }
        | Step::StartCanary { version, .. }
        | Step::PauseCanary { version }
        | Step::Promote { version }
        | Step::Discard { version } => (format!("{name}@{version}"), Some(*version)),
        Step::RollBack { to } => (format!("{name}@{to}"), Some(*to)),
        _ => (name.to_owned(), None),
    };
    let because = findings.iter().find(|finding| finding.id == step.because);
    let detail = because.map(|finding| finding.message.clone()).unwrap_or_default();
    match &step.step {
        Step::Retrain => retrain(app, name, state, now).await?,
        Step::Notify | Step::Page => tell(app, step, because),
        Step::Shed { weight_below_milli } => app.shed(name, *weight_below_milli),
        Step::AdmitAll => app.shed(name, 0),
        Step::Pass => {}
        _ => {
            let digests: BTreeMap<u32, vocabulary::Digest> = versions.iter().map(|v| (v.number, v.digest)).collect();
            let current = app.routes.load().routing.clone();
            let next = control::apply(&current, name, &step.step, &digests, now).map_err(ApiError::internal)?;
            if next.number != current.number {
                deploy::adopt(app, next).await.map_err(|error| ApiError::internal(format!("{error:#}")))?;
            }
            let mut control = state.control.lock().await;
            control.taken(number, &app.routes.load());
        }
    }
    let mut control = state.control.lock().await;
    match &step.step {
        Step::Freeze => control.watching.frozen_by = Some(step.because.clone()),
        Step::Thaw => control.watching.frozen_by = None,
        _ => {}
    }
    if let Some(by) = &step.playbook {
        control.watching.history.note(by, &step.because, now);
    }
    drop(control);
    let actor = step.playbook.as_ref().map_or_else(|| CONTROL.to_owned(), |by| by.actor());
    let (action, because) = (step.step.name().to_owned(), step.because.clone());
    let (at, model, recorded_at) = (now, name.to_owned(), clock::wall());
    let deed = AuditDeed { at, recorded_at, actor, action, model, subject: subject.clone(), because, detail };
    record(app, &deed).await?;
    Ok(format!("{} {subject}", step.step.name()))
}

/// Tells the receivers of alerts what a playbook wants them to know.
fn tell(app: &App, step: &PlannedStep, because: Option<&Finding>) {
    // A playbook that tells of a healing has nothing to tell of: the alerts of what healed have ended.
    let Some(finding) = because.cloned() else { return };
    let severity = if step.step == Step::Page { Severity::Page } else { finding.severity() };
    let playbook = step.playbook.as_ref().map(|by| by.playbook.clone());
    app.alerting.tell(Alert { finding, severity, playbook, ended: None });
}

async fn retrain(app: &Arc<App>, name: &str, state: &ModelState, now: Timestamp) -> ApiResult<()> {
    let spec = &state.spec;
    let versions = app.catalog.versions(Some(name)).await.map_err(stored)?;
    let files_to = versions.first().and_then(|first| {
        let order: Order = serde_json::from_value(first.lineage["order"].clone()).ok()?;
        order.to
    });
    let order = Order {
        model: name.to_owned(),
        seed: app.project.config.control.seed,
        threads: app.project.config.control.job_threads,
        from: spec.retraining.window.map(|window| now - window),
        to: Some(now),
        log: Some(LogUse { files_to }),
        parent: app.routes.load().live(name).map(|live| live.digest),
        average_with: retrained(&versions).take(spec.retraining.average.saturating_sub(1) as usize).collect(),
        ..Order::default()
    };
    let job = Job {
        id: format!("train-{name}-{}", now.to_string().replace([':', '.'], "")),
        kind: "train".into(),
        model: name.to_owned(),
        state: JobState::Running,
        at: now,
        request: serde_json::to_value(&order).map_err(ApiError::internal)?,
        progress: None,
        seconds: None,
        error: None,
        version: None,
    };
    app.catalog.put_job(&job).await.map_err(stored)?;
    let running = Running::start(app, job);
    state.control.lock().await.learning(running, now);
    Ok(())
}

/// Versions that a loop made, newest first.
fn retrained(versions: &[Version]) -> impl Iterator<Item = vocabulary::Digest> {
    let by_loop = |version: &&Version| version.lineage["order"]["log"].is_object();
    versions.iter().rev().filter(by_loop).map(|version| version.digest)
}
