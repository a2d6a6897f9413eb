//! The loop: at each tick, what happened since the last one is fed to the monitors, the trial and the book; then
//! `control` says what was found and what to do, and this does it. Everything that decides is in `control`.

use super::api::OperatorRequest;
use super::book::Book;
use super::deploy;
use super::error::{ApiError, ApiResult, stored};
use super::jobs::Running;
use super::ledger::Entry;
use super::state::{App, ModelState, Routes};
use super::steps::take_step;
use super::watching::Watching;
use super::worker::Profiled;
use crate::alerts::Alert;
use crate::clock;
use crate::project::ClockKind;
use crate::routing::{Deed, first, operated};
use anyhow::{Context, Result};
use axum::http::StatusCode;
use chrono_tz::Tz;
use control::retraining::Worth;
use control::{Jobs, MonitorSet, RowView, Trial, World};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;
use storage::catalog::{Deed as AuditDeed, Job, JobState, Version};
use vocabulary::incident::HEAL;
use vocabulary::model::RetrainingPolicy;
use vocabulary::{Cause, Finding, FindingKind, ModelSpec, Share, Timestamp};

/// Who acts in the audit log where the loop does by itself.
pub const CONTROL: &str = "control";
/// Points of the candidate's evidence that the page draws.
const EVIDENCE_POINTS_MAX: usize = 400;

/// What the loop remembers of one model between ticks. All of it can be made again from the log and the catalog.
pub struct Loop {
    spec: ModelSpec,
    pub book: Book,
    monitors: Option<(u32, MonitorSet)>,
    trial: Option<Compared>,
    /// After a promotion: the version that was replaced against the one that replaced it.
    watch: Option<Compared>,
    running: Option<Running>,
    failed_jobs: u32,
    last_failure: Option<Timestamp>,
    /// Versions that had their trial, or were released by hand.
    tried: BTreeSet<u32>,
    /// Findings that are in the catalog, with the cause that they have there.
    told: BTreeMap<String, Option<Cause>>,
    /// When which version went into shadow, as the audit log has it.
    turns: Vec<(Timestamp, u32)>,
    last_training: Option<Timestamp>,
    outcomes_since_training: u64,
    last_tick: Option<Timestamp>,
    /// Unit of a regression's errors.
    scale: f64,
    latency_before: Vec<u64>,
    pub watching: Watching,
    rate: (Instant, u64, f64),
}

/// What was seen beside the monitors.
struct Watched {
    findings: Vec<Finding>,
    worth: Option<Worth>,
}

struct Compared {
    incumbent: u32,
    /// Who was the newcomer from when on: a line of candidates, each the newest when its turn began.
    line: Vec<(Timestamp, u32)>,
    trial: Trial,
    history: Vec<Value>,
}

impl Compared {
    /// The newcomer whose turn it was when an event happened.
    fn newcomer(&self, at: Timestamp) -> Option<u32> {
        self.line.iter().rev().find(|(since, _)| *since <= at).map(|(_, version)| *version)
    }

    fn newest(&self) -> u32 {
        self.line.last().map_or(0, |(_, version)| *version)
    }
}

impl Loop {
    pub fn new(spec: &ModelSpec, zone: Tz) -> Self {
        Loop {
            spec: spec.clone(),
            book: Book::new(spec.task, spec.objective.threshold, zone),
            monitors: None,
            trial: None,
            watch: None,
            running: None,
            failed_jobs: 0,
            last_failure: None,
            tried: BTreeSet::new(),
            told: BTreeMap::new(),
            turns: Vec::new(),
            last_training: None,
            outcomes_since_training: 0,
            last_tick: None,
            scale: 1.0,
            latency_before: Vec::new(),
            watching: Watching::new(spec),
            rate: (Instant::now(), 0, 0.0),
        }
    }

    /// Takes over what the catalog knows: which versions had their turn, and when was learned last.
    pub async fn recall(&mut self, app: &App) -> Result<()> {
        let model = &self.spec.name;
        let entries = app.catalog.audit(0).await?;
        let mine = entries.iter().filter(|entry| entry.model == *model);
        self.watching.recall(app, mine, &app.catalog.findings().await?);
        for entry in entries {
            let number = entry.subject.strip_prefix(&format!("{model}@")).and_then(|number| number.parse().ok());
            if let Some(number) = number
                && ["start_shadow", "start_canary", "promote", "discard", "roll_back"].contains(&entry.action.as_str())
            {
                self.tried.insert(number);
                if entry.action == "start_shadow" {
                    self.turns.push((entry.at, number));
                }
            }
        }
        for job in app.catalog.jobs().await?.iter().filter(|job| job.model == *model) {
            match job.state {
                JobState::Failed => {
                    self.failed_jobs += 1;
                    self.last_failure = Some(job.at);
                }
                JobState::Done => self.failed_jobs = 0,
                JobState::Running => {}
            }
            self.last_training = self.last_training.max(Some(job.at));
        }
        let versions = app.catalog.versions(Some(model)).await?;
        self.last_training = self.last_training.max(versions.iter().filter_map(|version| version.trained_to).max());
        Ok(())
    }

    /// Makes monitors and comparisons fit the routing. Those that still fit go on.
    pub fn align(&mut self, routes: &Routes) {
        let Some(route) = routes.route(&self.spec.name) else { return };
        let Some(live) = routes.live(&self.spec.name) else { return };
        if self.monitors.as_ref().is_none_or(|(version, _)| *version != live.number) {
            let monitors = MonitorSet::new(&live.reference, &self.spec, route.live.since);
            self.monitors = Some((live.number, monitors));
        }
        let scale = live.reference.loss.map_or(1.0, |loss| loss.scale);
        self.scale = scale;
        let begun = |since: Timestamp, line: Vec<(Timestamp, u32)>| Compared {
            incumbent: live.number,
            line,
            trial: Trial::new(&self.spec.release, self.spec.task, scale, since),
            history: Vec::new(),
        };
        let same = |c: &Compared, since: Timestamp| c.incumbent == live.number && c.trial.since() == since;
        let before = self.trial.take();
        self.trial = route.candidate.as_ref().map(|candidate| {
            let mut compared = before.filter(|c| same(c, candidate.shadow_since)).unwrap_or_else(|| {
                let recalled = self.turns.iter().filter(|(at, _)| *at >= candidate.shadow_since).copied();
                begun(candidate.shadow_since, recalled.collect())
            });
            if compared.line.is_empty() || compared.newest() != candidate.version {
                let since = if compared.line.is_empty() { candidate.shadow_since } else { candidate.since };
                compared.line.push((since, candidate.version));
            }
            compared
        });
        let before = self.watch.take();
        self.watch = route.fallback.as_ref().map(|fallback| {
            let since = route.live.since;
            let kept = before.filter(|c| same(c, since) && c.newest() == fallback.version);
            kept.unwrap_or_else(|| begun(since, vec![(since, fallback.version)]))
        });
    }

    /// A row whose outcome is known.
    pub fn learn_outcome(&mut self, entry: &Entry, frozen: Option<u32>) {
        let Some((known_at, outcome)) = entry.outcome else { return };
        self.book.known(entry, frozen.unwrap_or(entry.version));
        self.watching.learn_outcome(&entry.value, outcome, self.scale);
        if self.last_training.is_none_or(|at| known_at >= at) {
            self.outcomes_since_training += 1;
        }
        if let Some((version, monitors)) = &mut self.monitors
            && let Some(said) = entry.said(*version)
            && entry.at >= monitors.since()
        {
            monitors.observe_outcome(known_at, said, outcome);
        }
        for compared in [&mut self.trial, &mut self.watch].into_iter().flatten() {
            if let Some(newcomer) = compared.newcomer(entry.at)
                && let (Some(old), Some(new)) = (entry.said(compared.incumbent), entry.said(newcomer))
            {
                compared.trial.observe(entry.at, outcome, old, new);
            }
        }
    }

    /// A row that was counted against the reference of `profiled.version`.
    pub fn learn_profile(&mut self, profiled: &Profiled) {
        if let Some((version, monitors)) = &mut self.monitors
            && *version == profiled.version
            && profiled.at >= monitors.since()
        {
            let unseen: Vec<(u16, &str)> =
                profiled.unseen.iter().map(|(place, text)| (*place, text.as_str())).collect();
            monitors.observe_row(&RowView {
                numbers: &profiled.numbers,
                unseen: &unseen,
                ..RowView::of_bins(profiled.at, &profiled.bins)
            });
        }
    }

    /// Looks at everything as a tick at `now` did, without deciding again.
    pub fn relive(&mut self, now: Timestamp) {
        if let Some((_, monitors)) = &mut self.monitors {
            monitors.findings(now);
        }
        self.last_tick = Some(now);
        self.watching.relived(now);
        self.remember_evidence(now);
    }

    /// Keeps the evidence as the page draws it.
    fn remember_evidence(&mut self, now: Timestamp) {
        for compared in [&mut self.trial, &mut self.watch].into_iter().flatten() {
            let evidence = compared.trial.evidence(now);
            if evidence.blocks >= 2 && compared.history.len() < EVIDENCE_POINTS_MAX {
                let last = compared.history.last().map(|point| point["blocks"].clone());
                if last != Some(json!(evidence.blocks)) {
                    compared.history.push(json!({ "at": now, "blocks": evidence.blocks,
                        "mean_gain": evidence.mean_gain, "low": evidence.low, "high": evidence.high }));
                }
            }
        }
    }

    /// `watched` is what is wrong with promises; `worth` what a retraining is worth.
    fn world(&mut self, routes: &Routes, versions: &[Version], watched: Watched, now: Timestamp) -> Option<World> {
        let route = routes.route(&self.spec.name)?;
        let newest = versions.last().filter(|version| !self.tried.contains(&version.number));
        let newest = newest.filter(|version| version.number > route.live.version);
        let mut alarms = self.monitors.as_mut().map(|(_, monitors)| monitors.findings(now)).unwrap_or_default();
        alarms.extend(watched.findings);
        Some(World {
            model: self.spec.name.clone(),
            snapshot: routes.routing.number,
            route: route.clone(),
            versions: versions.iter().map(|version| version.number).collect(),
            data_bad: alarms.iter().any(|alarm| alarm.kind == FindingKind::DataBad),
            alarms,
            trial: self.trial.as_ref().map(|c| c.trial.evidence(now)),
            watch: self.watch.as_ref().map(|c| c.trial.evidence(now)),
            jobs: Jobs {
                running: self.running.is_some(),
                failed_in_a_row: self.failed_jobs,
                last_failure: self.last_failure,
            },
            untried: newest.map(|version| version.number),
            outcomes_since_training: self.outcomes_since_training,
            last_training: self.last_training,
            frozen_by: self.watching.frozen_by.clone(),
            worth: watched.worth,
        })
    }

    /// A step changed the routing; the version that it names has had its turn.
    pub fn taken(&mut self, version: Option<u32>, routes: &Routes) {
        self.tried.extend(version);
        self.align(routes);
    }

    /// A training began at `now`.
    pub fn learning(&mut self, running: Running, now: Timestamp) {
        self.last_training = Some(now);
        self.outcomes_since_training = 0;
        self.running = Some(running);
    }

    /// Rows a second, measured between calls.
    pub fn rate(&mut self, predictions: u64) -> f64 {
        let (then, before, rate) = self.rate;
        let passed = then.elapsed().as_secs_f64();
        if passed < 0.5 {
            return rate;
        }
        let rate = predictions.saturating_sub(before) as f64 / passed;
        self.rate = (Instant::now(), predictions, rate);
        rate
    }

    pub fn trial_shown(&self) -> Value {
        self.trial.as_ref().map_or(Value::Null, |compared| self.shown(compared, "candidate"))
    }

    pub fn watch_shown(&self) -> Value {
        self.watch.as_ref().map_or(Value::Null, |compared| self.shown(compared, "fallback"))
    }

    fn shown(&self, compared: &Compared, role: &str) -> Value {
        let evidence = compared.trial.evidence(self.last_tick.unwrap_or_default());
        let mut shown = json!(evidence);
        shown[role] = json!(compared.newest());
        shown["incumbent"] = json!(compared.incumbent);
        shown["since"] = json!(compared.trial.since());
        shown["history"] = json!(compared.history);
        shown
    }

    pub fn monitors_shown(&self) -> Value {
        match &self.monitors {
            Some((_, monitors)) => {
                let mut shown = json!(monitors.summary());
                shown["since"] = json!(monitors.since());
                shown
            }
            None => json!({ "since": null, "features": [], "loss": null, "calibration": null }),
        }
    }
}

/// Moves an event clock; the loop does there what is due.
pub async fn move_clock(app: &Arc<App>, now: Timestamp) -> ApiResult<Vec<String>> {
    if app.clock.kind != ClockKind::Event {
        let what = "this server follows the machine's clock; set [server] clock = \"event\" to move it by hand";
        return Err(ApiError::new(StatusCode::CONFLICT, "clock", what));
    }
    if let Some(at) = app.clock.now()
        && now < at
    {
        let what = format!("the clock stands at {at} and does not go back to {now}");
        return Err(ApiError::new(StatusCode::CONFLICT, "clock", what));
    }
    tick(app, now).await
}

/// One look at the world, and what follows from it. Returns what was done.
pub async fn tick(app: &Arc<App>, now: Timestamp) -> ApiResult<Vec<String>> {
    let _one = app.applying.lock().await;
    let mut done = Vec::new();
    for (name, state) in &app.models {
        done.extend(tick_model(app, name, state, now).await?);
    }
    app.clock.advance(now);
    if app.clock.kind == ClockKind::Event {
        super::rebuild::keep_clock(&app.project, now).map_err(|error| ApiError::internal(format!("{error:#}")))?;
    }
    app.keep_meter();
    Ok(done)
}

async fn tick_model(app: &Arc<App>, name: &str, state: &ModelState, now: Timestamp) -> ApiResult<Vec<String>> {
    state.worker.flush().await;
    if app.routes.load().route(name).is_none() {
        return begin(app, name, state, now).await;
    }
    let finished = finish_job(app, state).await;
    let routes = app.routes.load_full();
    let versions = app.catalog.versions(Some(name)).await.map_err(stored)?;
    let jobs = match state.spec.retraining.policy {
        RetrainingPolicy::Value => app.catalog.jobs().await.map_err(stored)?,
        RetrainingPolicy::Schedule => Vec::new(),
    };
    let healed;
    let (findings, plan) = {
        let mut control = state.control.lock().await;
        if finished == Some(JobState::Failed) {
            control.last_failure = Some(now);
        }
        feed(state, &mut control, &routes, now);
        let watched = watched(app, state, &mut control, &routes, &versions, &jobs, now);
        let Some(world) = control.world(&routes, &versions, watched, now) else { return Ok(Vec::new()) };
        let findings = control::assess(&world, &state.spec, now);
        healed = control.watching.see(&findings, now);
        let plan = control::decide(&world, &findings, &state.spec, now);
        let (playbooks, history) = (&app.project.playbooks, &control.watching.history);
        let plan = control::playbook::react(&world, &findings, &state.spec, playbooks, history, plan);
        let refusals = control::lint(&plan, &world, &findings, &state.spec);
        if !refusals.is_empty() {
            tracing::error!("model \"{name}\": a plan was refused: {refusals:?}");
            return Ok(Vec::new());
        }
        (findings, plan)
    };
    for finding in &findings {
        let before = state.control.lock().await.told.insert(finding.id.clone(), finding.cause.clone());
        if before.as_ref() == Some(&finding.cause) {
            continue;
        }
        // A cause is read again while the change is young; after a restart it may be newer than the catalog's.
        let is_first = before.is_none();
        let is_new = is_first && app.catalog.put_finding(finding).await.map_err(stored)?;
        if !is_new && finding.cause.is_some() {
            app.catalog.amend_finding(finding).await.map_err(stored)?;
        }
        if is_first && finding.kind.is_alarm() {
            let (finding, severity) = (finding.clone(), finding.severity());
            if is_new {
                audit(app, name, now, "alarm", name, &finding.id, &finding.message).await?;
            }
            app.alerting.tell(Alert { finding, severity, playbook: None, ended: None });
        }
    }
    for id in healed {
        audit(app, name, now, HEAL, name, &id, "no longer true").await?;
        app.alerting.heal(&id, now);
    }
    let mut done = Vec::new();
    for step in &plan.steps {
        done.push(take_step(app, name, state, step, &findings, &versions, now).await?);
    }
    Ok(done)
}

/// Feeds what happened up to `now`, in an order that is the same in every run.
fn feed(state: &ModelState, control: &mut Loop, routes: &Routes, now: Timestamp) {
    control.align(routes);
    let mut profiled = state.worker.take_profiled(now);
    profiled.sort_by_key(|profiled| profiled.at);
    for row in &profiled {
        control.book.answered(row.at);
        control.learn_profile(row);
    }
    let joined = state.ledger().take_joined(now);
    let frozen = routes.route(&state.spec.name).and_then(|route| route.frozen.as_ref()).map(|frozen| frozen.version);
    for (_, entry) in &joined {
        control.learn_outcome(entry, frozen);
    }
    let counts = state.latency.snapshot();
    if control.latency_before.is_empty() {
        control.latency_before = vec![0; counts.len()];
    }
    let fresh: Vec<u64> = counts.iter().zip(&control.latency_before).map(|(now, before)| now - before).collect();
    control.book.latency(now - vocabulary::Span::hours(1), &fresh);
    control.latency_before = counts;
    control.last_tick = Some(now);
    control.remember_evidence(now);
}

/// Counts what happened beside the answers, and says what is wrong about it.
fn watched(
    app: &App,
    state: &ModelState,
    control: &mut Loop,
    routes: &Routes,
    versions: &[Version],
    jobs: &[Job],
    now: Timestamp,
) -> Watched {
    let live = routes.route(&control.spec.name).map(|route| route.live.version);
    let live = versions.iter().find(|version| Some(version.number) == live);
    let last_training = control.last_training.unwrap_or(now);
    let watching = &mut control.watching;
    watching.measure(app, state, now);
    watching.keep_sometimes(app, now);
    let findings = watching.findings(app, state, routes, live.and_then(|live| live.trained_to), now);
    Watched { findings, worth: watching.worth(app, jobs, live, last_training, now) }
}

/// A model without a route: its newest version goes live at once, as there is nothing to compare it with.
async fn begin(app: &Arc<App>, name: &str, state: &ModelState, now: Timestamp) -> ApiResult<Vec<String>> {
    let Some(version) = app.catalog.versions(Some(name)).await.map_err(stored)?.pop() else { return Ok(Vec::new()) };
    let mut routing = app.routes.load().routing.clone();
    routing.format = crate::routing::FORMAT;
    routing.number += 1;
    routing.at = Some(now);
    routing.reason = format!("{} is the first version", version.name());
    routing.models.insert(name.to_owned(), first(version.number, version.digest, now));
    deploy::adopt(app, routing).await.map_err(|error| ApiError::internal(format!("{error:#}")))?;
    audit(app, name, now, "promote", &version.name(), "first version", "nothing to compare it with").await?;
    let mut control = state.control.lock().await;
    control.tried.insert(version.number);
    control.last_training = version.trained_to;
    control.align(&app.routes.load());
    Ok(vec![format!("promote {}", version.name())])
}

/// The end of a job that is due. On an event clock a job takes no event time: the next tick waits for it.
async fn finish_job(app: &App, state: &ModelState) -> Option<JobState> {
    let mut control = state.control.lock().await;
    let due =
        control.running.as_ref().is_some_and(|running| app.clock.kind == ClockKind::Event || running.is_finished());
    let running = if due { control.running.take() } else { None }?;
    drop(control);
    let id = running.id.clone();
    let ended = running.wait().await;
    tracing::info!("job {id}: {ended:?}");
    let mut control = state.control.lock().await;
    control.failed_jobs = if ended == JobState::Done { 0 } else { control.failed_jobs + 1 };
    Some(ended)
}

/// Starts again what a server that died left running.
pub async fn resume_jobs(app: &Arc<App>) -> Result<()> {
    for job in app.catalog.jobs().await? {
        if job.state == JobState::Running
            && let Some(state) = app.models.get(&job.model)
        {
            tracing::info!("job {} was cut off; it starts again", job.id);
            let mut control = state.control.lock().await;
            control.running = Some(Running::start(app, job));
        }
    }
    Ok(())
}

/// An operator's deed.
pub async fn operate(app: &Arc<App>, name: &str, request: &OperatorRequest) -> ApiResult<()> {
    let _one = app.applying.lock().await;
    let now = app.clock.now().unwrap_or_else(clock::wall);
    let versions = app.catalog.versions(Some(name)).await.map_err(stored)?;
    if !versions.iter().any(crate::imported::is_imported) {
        app.model(name)?;
    }
    if request.action == "register" {
        // Somebody registered a version beside the server: look again what there is.
        app.imported.list(&app.plane, &versions_all(app).await?, &app.routes.load().routing);
        return Ok(());
    }
    let wanted = |number: u32| {
        let version = versions.iter().find(|version| version.number == number);
        version
            .map(|version| (number, version.digest))
            .ok_or_else(|| ApiError::not_found(format!("there is no {name}@{number}")))
    };
    let named = request.version.map(wanted).transpose()?;
    let deed = match (request.action.as_str(), named, request.how.as_deref().unwrap_or("shadow")) {
        ("release", None, _) => return Err(ApiError::malformed("release needs a version's number")),
        ("release", Some((version, digest)), "shadow") => Deed::Shadow { version, digest },
        ("release", Some((version, digest)), "now") => Deed::Now { version, digest },
        ("release", Some((version, digest)), share) => {
            let share = Share::parse(share).map_err(|error| ApiError::malformed(error.to_string()))?;
            Deed::Canary { version, digest, share }
        }
        ("rollback", to, _) => Deed::RollBack { to },
        ("freeze", _, _) => Deed::Freeze,
        ("thaw", _, _) => Deed::Thaw,
        (other, _, _) => {
            let hint = vocabulary::suggest::hint(other, ["release", "rollback", "freeze", "thaw", "register"]);
            return Err(ApiError::malformed(format!("there is no action \"{other}\"{hint}")));
        }
    };
    let conflict = |error: anyhow::Error| ApiError::new(StatusCode::CONFLICT, "conflict", error.to_string());
    let next = operated(&app.routes.load().routing, name, &deed, now).map_err(conflict)?;
    deploy::adopt(app, next).await.map_err(|error| ApiError::internal(format!("{error:#}")))?;
    let actor = request.actor.as_deref().unwrap_or("operator");
    let entry = deploy::record(&app.catalog, name, &deed, actor, "asked for", now).await;
    deploy::announce(app, &entry.map_err(|error| ApiError::internal(format!("{error:#}")))?);
    if let Some(state) = app.models.get(name) {
        let mut control = state.control.lock().await;
        control.tried.extend(named.map(|(number, _)| number));
        control.align(&app.routes.load());
        // What a person decides about learning is theirs to change.
        if matches!(deed, Deed::Freeze | Deed::Thaw) {
            control.watching.frozen_by = None;
        }
    }
    Ok(())
}

async fn versions_all(app: &App) -> ApiResult<Vec<Version>> {
    app.catalog.versions(None).await.map_err(stored)
}

async fn audit(
    app: &App,
    model: &str,
    at: Timestamp,
    action: &str,
    subject: &str,
    because: &str,
    detail: &str,
) -> ApiResult<()> {
    let deed = AuditDeed {
        at,
        recorded_at: clock::wall(),
        actor: CONTROL.into(),
        action: action.to_owned(),
        model: model.to_owned(),
        subject: subject.to_owned(),
        because: because.to_owned(),
        detail: detail.to_owned(),
    };
    record(app, &deed).await
}

pub async fn record(app: &App, deed: &AuditDeed) -> ApiResult<()> {
    let entry = app.catalog.record(deed).await.map_err(stored)?;
    deploy::announce(app, &entry);
    Ok(())
}

/// Reads an instant that was kept as text.
pub fn kept_instant(path: &std::path::Path) -> Result<Option<Timestamp>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.parse().with_context(|| format!("{} is damaged; remove it", path.display()))?)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("can't read {}", path.display())),
    }
}
