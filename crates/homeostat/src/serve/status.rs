//! What the page shows, gathered from where it is kept.

use super::state::App;
use crate::clock;
use crate::project::ClockKind;
use anyhow::Result;
use serde_json::{Value, json};
use serving::histogram::quantile_ms;
use std::collections::HashSet;
use std::sync::atomic::Ordering::Relaxed;
use storage::{Catalog, StorageError};

pub async fn all(app: &App) -> Result<Value, StorageError> {
    let mut models = Vec::new();
    for name in app.models.keys() {
        models.push(model(app, name).await?);
    }
    Ok(json!({ "models": models }))
}

pub async fn model(app: &App, name: &str) -> Result<Value, StorageError> {
    let state = &app.models[name];
    let versions = versions(app, name).await?;
    let counts = state.latency.snapshot();
    let quantile = |q: f64| quantile_ms(&counts, q);
    let refused = state.refused.lock().clone();
    let violations = state.violations.lock().clone();
    let mut control = state.control.lock().await;
    let (predictions, outcomes, corrected) = {
        let ledger = state.ledger();
        (ledger.predictions, ledger.outcomes, ledger.corrected)
    };
    let cost = cost_of(app, name, control.book.correct());
    Ok(json!({
        "model": name,
        "task": state.spec.task.name(),
        "event_time": match app.clock.kind {
            ClockKind::Event => app.clock.now(),
            ClockKind::Wall => Some(clock::wall()),
        },
        "clock": app.clock.kind,
        "replay": *app.replay.lock(),
        "traffic": {
            "requests": state.requests.load(Relaxed),
            "predictions": predictions,
            "outcomes": outcomes,
            "outcomes_corrected": corrected,
            "outcomes_duplicate": state.duplicate_outcomes.load(Relaxed),
            "outcomes_unknown": state.unknown_outcomes.load(Relaxed),
            "shadow_rows_dropped": state.worker.dropped_rows.load(Relaxed),
            "rate_per_second": control.rate(predictions),
            "refused": refused,
            "violations": violations,
        },
        "latency_ms": { "p50": quantile(0.5), "p90": quantile(0.9), "p99": quantile(0.99) },
        "routing": routing(app, name),
        "accuracy": { "total": control.book.total(), "months": control.book.months(), "days": control.book.days() },
        "trial": control.trial_shown(),
        "watch": control.watch_shown(),
        "monitors": control.monitors_shown(),
        "objectives": control.watching.summary(app.clock.now().unwrap_or_else(clock::wall)),
        "cost": cost,
        "versions": versions,
    }))
}

pub fn routing(app: &App, name: &str) -> Value {
    let routes = app.routes.load();
    let mut shown = json!(routes.route(name));
    if shown.is_null() {
        shown =
            json!({ "live": null, "candidate": null, "fallback": null, "frozen": null, "retraining_frozen": false });
    }
    shown["number"] = json!(routes.routing.number);
    shown["reason"] = json!(routes.routing.reason);
    shown
}

/// Versions that were promoted or discarded, as far as the audit log was read: it only grows.
#[derive(Default)]
pub struct Ends {
    sequence: i64,
    promoted: HashSet<String>,
    discarded: HashSet<String>,
}

impl Ends {
    /// Reads what was added to the log since the last time.
    async fn catch_up(&mut self, catalog: &Catalog) -> Result<(), StorageError> {
        for entry in catalog.audit(self.sequence).await? {
            self.sequence = entry.sequence;
            match entry.action.as_str() {
                "promote" => self.promoted.insert(entry.subject),
                "discard" => self.discarded.insert(entry.subject),
                _ => false,
            };
        }
        Ok(())
    }
}

/// Registered versions with what each is now.
pub async fn versions(app: &App, name: &str) -> Result<Vec<Value>, StorageError> {
    let routes = app.routes.load_full();
    let registered = app.catalog.versions(Some(name)).await?;
    let mut ends = app.ends.lock().await;
    ends.catch_up(&app.catalog).await?;
    let state = |number: u32| -> &'static str {
        let Some(route) = routes.route(name) else { return "registered" };
        let subject = format!("{name}@{number}");
        if route.live.version == number {
            "live"
        } else if route.candidate.as_ref().is_some_and(|candidate| candidate.version == number) {
            "candidate"
        } else if route.fallback.as_ref().is_some_and(|fallback| fallback.version == number) {
            "fallback"
        } else if route.frozen.as_ref().is_some_and(|frozen| frozen.version == number) {
            "frozen"
        } else if ends.promoted.contains(&subject) {
            "retired"
        } else if ends.discarded.contains(&subject) {
            "discarded"
        } else {
            "registered"
        }
    };
    let shown = registered.iter().map(|version| {
        json!({
            "version": version.number,
            "digest": version.digest,
            "learner": version.learner,
            "created_at": version.created_at,
            "trained_from": version.trained_from,
            "trained_to": version.trained_to,
            "rows": version.rows,
            "bytes": version.bytes,
            "seconds": version.seconds,
            "metrics": version.metrics.values,
            "state": state(version.number),
        })
    });
    Ok(shown.collect())
}

pub async fn cost(app: &App, name: &str) -> Value {
    let correct = app.models[name].control.lock().await.book.correct();
    cost_of(app, name, correct)
}

/// CPU time of this process and of its jobs, times the stated price, by prediction and by correct prediction. With
/// several models the process's time is divided by their rows.
fn cost_of(app: &App, name: &str, correct: Option<(u64, u64)>) -> Value {
    let rows = |name: &String| app.models[name].ledger().predictions;
    let all: u64 = app.models.keys().map(rows).sum();
    let predictions = app.models[name].ledger().predictions;
    let share = if all == 0 { 0.0 } else { predictions as f64 / all as f64 };
    let serving = app.serving_cpu_seconds() * share;
    let training = app.job_cpu_us.load(Relaxed) as f64 / 1e6 * share;
    let prices = &app.project.config.prices;
    let cost = (serving + training) / 3600.0 * prices.cpu_hour;
    // Rows whose outcome is not known yet count at the accuracy of those that are.
    let correct =
        correct.filter(|(_, known)| *known > 0).map(|(right, known)| predictions as f64 * right as f64 / known as f64);
    json!({
        "currency": prices.currency,
        "price_per_cpu_hour": prices.cpu_hour,
        "cpu_seconds": serving + training,
        "serving_cpu_seconds": serving,
        "training_cpu_seconds": training,
        "cost": cost,
        "predictions": predictions,
        "correct": correct.map(f64::round),
        "per_prediction": (predictions > 0).then(|| cost / predictions as f64),
        "per_correct_prediction": correct.filter(|n| *n > 0.0).map(|n| cost / n),
        "measured": true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use storage::catalog::Deed;
    use vocabulary::Timestamp;

    #[tokio::test]
    async fn the_audit_log_is_read_on_from_where_it_was_left() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(&folder.path().join("catalog.db")).await.unwrap();
        let done = async |action: &str, subject: &str| {
            let at = Timestamp(0);
            let (actor, because, detail) = ("control".to_owned(), String::new(), String::new());
            let (action, subject, model) = (action.to_owned(), subject.to_owned(), "m".to_owned());
            let deed = Deed { at, recorded_at: at, actor, action, model, subject, because, detail };
            catalog.record(&deed).await.unwrap();
        };
        let mut ends = Ends::default();
        done("promote", "m@1").await;
        done("start_shadow", "m@2").await;
        ends.catch_up(&catalog).await.unwrap();
        assert!(ends.promoted.contains("m@1") && ends.discarded.is_empty() && ends.sequence == 2);
        done("discard", "m@2").await;
        ends.catch_up(&catalog).await.unwrap();
        ends.catch_up(&catalog).await.unwrap();
        assert!(ends.promoted.len() == 1 && ends.discarded.contains("m@2") && ends.sequence == 3);
    }
}
