//! What is counted of one model beside its answers, look by look: promises, guardrails, what is true and since when, and
//! the minutes that incidents are told with. What follows from it is decided in `control`.

use super::state::{App, ModelState, Routes};
use crate::project::ClockKind;
use anyhow::{Context, Result};
use control::guard::{Arm, harm};
use control::objective::{BudgetSummary, Counts, Facts, Objectives};
use control::playbook::History;
use control::retraining::{Question, Worth, worth};
use control::share::{Count, Tally};
use serde::{Deserialize, Serialize};
use serving::histogram::{quantile_ms, upper_ms};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use storage::catalog::{AuditEntry, JobState, Version};
use vocabulary::incident::{HEAL, Moment};
use vocabulary::model::RetrainingPolicy;
use vocabulary::plan::PlaybookStepRef;
use vocabulary::profile::bounded_loss;
use vocabulary::record::{Route, Stage};
use vocabulary::{Answer, Finding, ModelSpec, Span, Task, Timestamp};

/// Minutes that are kept for incidents: three days, twice what an incident looks back and a weekend.
const MOMENTS_MAX: usize = 3 * 24 * 60;
/// How often what was counted is written down.
const KEPT_EVERY: Span = Span(5 * 60_000_000);
/// Version of that file.
const FORMAT: u32 = 1;
const MINUTE: i64 = 60_000_000;
/// Predictions before which a price a million is not said.
const PRICED_ROWS_MIN: u64 = 1000;
/// Over which the number of predictions a day is counted.
const RATE_WINDOW: Span = Span::days(7);

/// Refused because there is too much to do.
const CONTENDED: [&str; 8] = [
    "contended",
    "queue_full",
    "late",
    "tenant_queue_full",
    "tenant_requests",
    "log_queue_full",
    "stream_behind",
    "connections",
];
/// Given up because the deadline had passed.
const DEADLINE: &str = "deadline";
/// Rows that broke their contract.
const CONTRACT: &str = "contract";
/// Neither ours to answer nor our fault.
const CALLERS: [&str; 11] = [
    "malformed",
    "unauthorized",
    "forbidden",
    "not_found",
    "too_large",
    "too_slow",
    "quota",
    "operator",
    "conflict",
    "method",
    CONTRACT,
];

pub struct Watching {
    spec: ModelSpec,
    objectives: Objectives,
    pub history: History,
    /// Alarms that are true.
    alarmed: BTreeSet<String>,
    /// The finding for which the loop stopped retraining.
    pub frozen_by: Option<String>,
    /// Predictions by minute.
    rows: Tally,
    before: Before,
    heard: Heard,
    minute: Minute,
    moments: VecDeque<Moment>,
    guarded: Option<Guarded>,
    kept_at: Option<Timestamp>,
    /// What was counted before a restart came from the file.
    recalled: bool,
}

/// Counters as they stood at the last look.
#[derive(Default)]
struct Before {
    latency: Vec<u64>,
    refused: BTreeMap<&'static str, u64>,
    requests: u64,
    predictions: u64,
    cpu_seconds: Option<f64>,
}

/// Outcomes since the last look.
#[derive(Clone, Copy, Default)]
struct Heard {
    outcomes: u64,
    wrong: u64,
    loss: f64,
    gap: f64,
}

/// The minute that is not over.
#[derive(Default)]
struct Minute {
    at: i64,
    latency: Vec<u64>,
    requests: u64,
    failed: u64,
    refused: u64,
    heard: Heard,
    cost: f64,
}

/// Both arms as they stood when a canary began.
struct Guarded {
    version: u32,
    since: Timestamp,
    canary: Arm,
    live: Arm,
}

/// What is written down, so that a restart forgets no spent budget.
#[derive(Serialize, Deserialize)]
struct Kept {
    format: u32,
    spec: vocabulary::objective::ObjectiveSpec,
    objectives: Objectives,
    moments: VecDeque<Moment>,
}

impl Watching {
    pub fn new(spec: &ModelSpec) -> Self {
        Watching {
            spec: spec.clone(),
            objectives: Objectives::new(spec),
            history: History::default(),
            alarmed: BTreeSet::new(),
            frozen_by: None,
            rows: Tally::default(),
            before: Before::default(),
            heard: Heard::default(),
            minute: Minute::default(),
            moments: VecDeque::new(),
            guarded: None,
            kept_at: None,
            recalled: false,
        }
    }

    /// Takes over what the catalog and the file know. `entries` are this model's.
    pub fn recall<'a>(&mut self, app: &App, entries: impl Iterator<Item = &'a AuditEntry>, findings: &[Finding]) {
        let mut healed = BTreeSet::new();
        for entry in entries {
            let by = PlaybookStepRef::of_actor(&entry.actor);
            if let Some(step) = &by {
                self.history.note(step, &entry.because, entry.at);
            }
            match entry.action.as_str() {
                HEAL => {
                    self.history.recall_healed(&entry.because, entry.at);
                    healed.insert(entry.because.clone());
                }
                "freeze" => {
                    let ours = by.is_some() || entry.actor == super::looping::CONTROL;
                    self.frozen_by = ours.then(|| entry.because.clone());
                }
                "thaw" => self.frozen_by = None,
                _ => {}
            }
        }
        let mine = |finding: &&Finding| finding.model == self.spec.name && finding.kind.is_alarm();
        for finding in findings.iter().filter(mine).filter(|finding| !healed.contains(&finding.id)) {
            self.history.recall(&finding.id, finding.at);
            self.alarmed.insert(finding.id.clone());
        }
        let kept = std::fs::read(path(app, &self.spec.name)).ok();
        let kept = kept.and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).ok());
        // Budgets of other promises say nothing about these.
        if let Some(kept) = kept.filter(|kept| kept.format == FORMAT && kept.spec == self.spec.objective) {
            (self.objectives, self.moments, self.recalled) = (kept.objectives, kept.moments, true);
        }
    }

    /// An outcome of a served answer.
    pub fn learn_outcome(&mut self, said: &Answer, outcome: f64, scale: f64) {
        let value = said.value();
        let (wrong, gap) = match self.spec.task {
            Task::Binary => ((value >= self.spec.objective.threshold) != (outcome >= 0.5), outcome - value),
            Task::Multiclass => (value != outcome, f64::from(value == outcome) - said.values()[value as usize]),
            Task::Regression => {
                let error = outcome - value;
                (self.spec.objective.error_max.is_some_and(|most| error.abs() > most), error / scale)
            }
        };
        self.heard.outcomes += 1;
        self.heard.wrong += u64::from(wrong);
        self.heard.loss += bounded_loss(self.spec.task, scale, said.values(), outcome);
        self.heard.gap += gap;
    }

    /// After a restart: the outcomes up to `now` were heard again. They count, unless they were counted already.
    pub fn relived(&mut self, now: Timestamp) {
        let heard = std::mem::take(&mut self.heard);
        if !self.recalled {
            let counts = Counts { outcomes: heard.outcomes, wrong: heard.wrong, ..Counts::default() };
            self.objectives.count(now, &counts);
        }
    }

    /// Counts what happened since the last look.
    pub fn measure(&mut self, app: &App, state: &ModelState, now: Timestamp) {
        let wall = app.clock.kind == ClockKind::Wall;
        let latency = state.latency.snapshot();
        self.before.latency.resize(latency.len(), 0);
        let fresh: Vec<u64> = latency.iter().zip(&self.before.latency).map(|(now, before)| now - before).collect();
        let refused = state.refused.lock().clone();
        let since = |reason: &str| {
            refused.get(reason).copied().unwrap_or(0) - self.before.refused.get(reason).copied().unwrap_or(0)
        };
        let requests = state.requests.load(Relaxed);
        let mut counts = Counts {
            requests: requests.saturating_sub(self.before.requests),
            answered: fresh.iter().sum(),
            contract: since(CONTRACT),
            outcomes: self.heard.outcomes,
            wrong: self.heard.wrong,
            ..Counts::default()
        };
        // How long answers take is a matter of the wall's clock: a replay decides nothing by it.
        if wall {
            let most = self.spec.objective.latency_ms;
            counts.slow = fresh.iter().enumerate().filter(|(bucket, _)| upper_ms(*bucket) > most).map(|(_, n)| n).sum();
            counts.contended = CONTENDED.iter().map(|reason| since(reason)).sum();
            counts.late = since(DEADLINE);
            counts.failed = refused.keys().filter(|reason| !CALLERS.contains(reason)).map(|reason| since(reason)).sum();
        }
        self.objectives.count(now, &counts);
        let predictions = state.ledger().predictions;
        self.rows.add(now, Count { all: predictions.saturating_sub(self.before.predictions), bad: 0 });
        self.remember(app, now, &counts, &fresh);
        let cpu_seconds = self.before.cpu_seconds;
        self.before = Before { latency, refused, requests, predictions, cpu_seconds };
        self.heard = Heard::default();
    }

    /// Adds to the minute of `now`; the minutes before it are over.
    fn remember(&mut self, app: &App, now: Timestamp, counts: &Counts, latency: &[u64]) {
        let at = now.0.div_euclid(MINUTE);
        if self.minute.at != at {
            let minute = std::mem::replace(&mut self.minute, Minute { at, ..Minute::default() });
            if minute.at != 0 {
                self.moments.push_back(minute.moment());
            }
            if self.moments.len() > MOMENTS_MAX {
                self.moments.pop_front();
            }
        }
        let minute = &mut self.minute;
        minute.latency.resize(latency.len(), 0);
        minute.latency.iter_mut().zip(latency).for_each(|(sum, count)| *sum += count);
        minute.requests += counts.requests;
        minute.failed += counts.failed;
        minute.refused += counts.contended + counts.contract;
        minute.heard.outcomes += self.heard.outcomes;
        minute.heard.wrong += self.heard.wrong;
        minute.heard.loss += self.heard.loss;
        minute.heard.gap += self.heard.gap;
        let cpu = app.serving_cpu_seconds();
        let spent = cpu - self.before.cpu_seconds.unwrap_or(cpu);
        self.before.cpu_seconds = Some(cpu);
        minute.cost += spent * share(app, &self.spec.name) / 3600.0 * app.project.config.prices.cpu_hour;
    }

    /// What is wrong with promises and with a canary at `now`.
    pub fn findings(
        &mut self,
        app: &App,
        state: &ModelState,
        routes: &Routes,
        trained_to: Option<Timestamp>,
        now: Timestamp,
    ) -> Vec<Finding> {
        let mut facts = Facts { trained_to, ..Facts::default() };
        if app.clock.kind == ClockKind::Wall {
            facts.price_per_million = price(app, &self.spec.name);
            facts.disk_free = disk_free(app);
        }
        let mut found = self.objectives.findings(&self.spec.objective, &facts, now);
        if app.clock.kind == ClockKind::Wall
            && let Some(route) = routes.route(&self.spec.name)
        {
            found.extend(self.guard(state, route, now));
        }
        found
    }

    /// Whether a canary does harm.
    fn guard(&mut self, state: &ModelState, route: &Route, now: Timestamp) -> Option<Finding> {
        let candidate = route.candidate.as_ref().filter(|candidate| candidate.stage == Stage::Canary);
        let Some(candidate) = candidate else {
            self.guarded = None;
            return None;
        };
        let arms = state.arms.lock();
        let arm = |version: u32| arms.get(&version).copied().unwrap_or_default();
        let (canary, live) = (arm(candidate.version), arm(route.live.version));
        if self.guarded.as_ref().is_none_or(|g| (g.version, g.since) != (candidate.version, candidate.since)) {
            self.guarded = Some(Guarded { version: candidate.version, since: candidate.since, canary, live });
        }
        let begun = self.guarded.as_ref()?;
        let since = |now: Arm, then: Arm| Arm {
            answered: now.answered - then.answered,
            slow: now.slow - then.slow,
            failed: now.failed - then.failed,
        };
        let arms = (since(canary, begun.canary), since(live, begun.live));
        harm(&self.spec.name, candidate.version, arms, &self.spec.release, (candidate.since, now))
    }

    /// What a retraining is worth now, where the policy asks for it.
    pub fn worth(
        &self,
        app: &App,
        jobs: &[storage::catalog::Job],
        live: Option<&Version>,
        last_training: Timestamp,
        now: Timestamp,
    ) -> Option<Worth> {
        if self.spec.retraining.policy != RetrainingPolicy::Value {
            return None;
        }
        let done = jobs.iter().filter(|job| job.model == self.spec.name && job.state == JobState::Done).count();
        let metered = (done > 0).then(|| app.job_cpu_us.load(Relaxed) as f64 / 1e6 / done as f64);
        let seconds = metered.or(live.map(|live| live.seconds))?;
        let age = now - last_training;
        let window = age.clamp(Span(MINUTE), RATE_WINDOW);
        worth(&Question {
            rows_per_day: self.rows.within(window, now).all as f64 / window.as_days(),
            outcomes: self.objectives.outcomes_within(age, now),
            reference: live.and_then(|live| live.metrics.get("accuracy")).map(|accuracy| 1.0 - accuracy),
            age,
            past: &[],
            horizon: self.spec.retraining.horizon,
            error_price: self.spec.objective.error_price?,
            training_price: seconds / 3600.0 * app.project.config.prices.cpu_hour,
        })
    }

    /// Takes note of what is true. Returns the alarms that no longer are.
    pub fn see(&mut self, findings: &[Finding], now: Timestamp) -> Vec<String> {
        let healed = self.history.see(findings, now);
        self.alarmed
            .extend(findings.iter().filter(|finding| finding.kind.is_alarm()).map(|finding| finding.id.clone()));
        healed.into_iter().filter(|id| self.alarmed.remove(id)).collect()
    }

    pub fn summary(&self, now: Timestamp) -> BTreeMap<&'static str, BudgetSummary> {
        self.objectives.summary(now)
    }

    pub fn moments(&self) -> Vec<Moment> {
        self.moments.iter().copied().collect()
    }

    /// Writes down what was counted, once in a while.
    pub fn keep_sometimes(&mut self, app: &App, now: Timestamp) {
        if app.clock.kind == ClockKind::Wall && self.kept_at.is_none_or(|at| now - at >= KEPT_EVERY) {
            self.kept_at = Some(now);
            self.keep(app);
        }
    }

    pub fn keep(&self, app: &App) {
        let kept = serde_json::json!({ "format": FORMAT, "spec": self.spec.objective, "objectives": self.objectives,
            "moments": self.moments });
        let path = path(app, &self.spec.name);
        let written = path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(anyhow::Error::from);
        let written = written.and_then(|()| Ok(storage::replace(&path, kept.to_string().as_bytes())?));
        if let Err(error) = written {
            tracing::warn!("what was counted could not be written to {}: {error:#}", path.display());
        }
    }
}

impl Minute {
    fn moment(&self) -> Moment {
        let share = |count: u64| (self.requests > 0).then(|| count as f64 / self.requests as f64);
        let mean = |sum: f64| (self.heard.outcomes > 0).then(|| sum / self.heard.outcomes as f64);
        let right = self.heard.outcomes - self.heard.wrong;
        Moment {
            at: Timestamp(self.at * MINUTE),
            requests: Some(self.requests as f64),
            p99_ms: quantile_ms(&self.latency, 0.99),
            failed: share(self.failed),
            refused: share(self.refused),
            outcomes: Some(self.heard.outcomes as f64),
            loss: mean(self.heard.loss),
            gap: mean(self.heard.gap),
            cost_per_correct: (right > 0).then(|| self.cost / right as f64),
        }
    }
}

/// The minutes that were written down of a model, for a command beside a server that does not run.
pub fn kept_moments(state: &std::path::Path, model: &str) -> Result<Vec<Moment>> {
    let path = state.join("objectives").join(format!("{model}.json"));
    match std::fs::read(&path) {
        Ok(bytes) => {
            let kept: Kept =
                serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged; remove it", path.display()))?;
            Ok(kept.moments.into())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).with_context(|| format!("can't read {}", path.display())),
    }
}

fn path(app: &App, model: &str) -> PathBuf {
    app.project.state().join("objectives").join(format!("{model}.json"))
}

/// A model's part of what the process spends: its part of all rows.
fn share(app: &App, name: &str) -> f64 {
    let rows = |name: &String| app.models[name].ledger().predictions;
    let all: u64 = app.models.keys().map(rows).sum();
    if all == 0 { 0.0 } else { app.models[name].ledger().predictions as f64 / all as f64 }
}

/// What a million predictions cost, serving and training together, once there are enough to say.
fn price(app: &App, name: &str) -> Option<f64> {
    let predictions = app.models[name].ledger().predictions;
    let seconds = app.serving_cpu_seconds() + app.job_cpu_us.load(Relaxed) as f64 / 1e6;
    let cost = seconds * share(app, name) / 3600.0 * app.project.config.prices.cpu_hour;
    (predictions >= PRICED_ROWS_MIN).then(|| cost / predictions as f64 * 1e6)
}

/// Bytes free where the decision log is, and how many are to be kept free.
fn disk_free(app: &App) -> Option<(u64, u64)> {
    let stat = rustix::fs::statvfs(app.project.log_path()).ok()?;
    Some((stat.f_bavail * stat.f_frsize, app.project.config.control.disk_free_min))
}
