//! What a quickstart ends with: figures from the server's interface, checked against the log on disk.

use super::timeline::Timeline;
use crate::client::Client;
use crate::project::Project;
use anyhow::Result;
use serde_json::{Map, Value, json};
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use storage::log::Logged;
use storage::parquet_log::Columns;
use vocabulary::record::Prediction;
use vocabulary::{PredictionId, Span, Timestamp};

/// How long a newcomer is compared with the version that it replaced.
const FOLLOWING: Span = Span::days(30);

pub async fn collect(
    client: &Client,
    timeline: &Timeline,
    project: &Project,
    memory: Option<u64>,
    took: Duration,
) -> Result<Value> {
    let model = super::MODEL;
    let status = client.get(&format!("/v1/models/{model}")).await?;
    let findings = client.get("/v1/findings").await?;
    let audit = client.get("/v1/audit").await?;
    let jobs = client.get("/v1/jobs").await?;
    let logged = storage::log::read(&project.log_path(), model, Columns::WithoutRow)?;
    let outcomes: HashSet<_> = logged.outcomes.iter().map(|outcome| outcome.id).collect();
    let lost = (timeline.flights() as i64 - logged.predictions.len() as i64).max(0)
        + (timeline.outcomes() as i64 - outcomes.len() as i64).max(0);
    let deeds = |action: &str| -> Vec<Value> {
        let entries = audit["entries"].as_array().into_iter().flatten();
        entries
            .filter(|entry| entry["action"] == action && entry["actor"] == "control" && entry["because"] != "first version")
            .map(|entry| {
                json!({ "version": entry["subject"], "at": entry["at"], "because": entry["because"], "detail": entry["detail"] })
            })
            .collect()
    };
    let alarms: Vec<&Value> =
        findings["findings"].as_array().into_iter().flatten().filter(|finding| finding["alarm"] == true).collect();
    let retrainings = jobs["jobs"].as_array().into_iter().flatten().filter(|job| job["state"] == "done").count();
    Ok(json!({
        "replayed": timeline.flights(),
        "predictions": logged.predictions.len(),
        "outcomes": outcomes.len(),
        "retrainings": retrainings,
        "releases": releases(deeds("promote"), &audit, &logged),
        "rollbacks": deeds("roll_back"),
        "alarms": alarms,
        "versions": status["versions"].as_array().into_iter().flatten()
            .map(|version| json!({ "version": version["version"], "digest": version["digest"] })).collect::<Vec<_>>(),
        "metrics": { "frozen": side(&status, "frozen"), "live": side(&status, "live") },
        "cost_per_correct_prediction": status["cost"],
        "latency_ms": { "p50": status["latency_ms"]["p50"], "p99": status["latency_ms"]["p99"] },
        "server_peak_memory_bytes": memory,
        "seconds": took.as_secs_f64(),
        "lost": lost,
    }))
}

/// Adds to each release what came of it: newcomer and replaced version on the same rows of the following month, as far
/// as both of them scored those rows.
fn releases(mut releases: Vec<Value>, audit: &Value, logged: &Logged) -> Vec<Value> {
    let number = |subject: &Value| subject.as_str()?.rsplit('@').next()?.parse::<u32>().ok();
    let mut live = None;
    let mut replaced: HashMap<(u32, String), u32> = HashMap::new();
    for entry in audit["entries"].as_array().into_iter().flatten() {
        if ["promote", "roll_back"].contains(&entry["action"].as_str().unwrap_or_default()) {
            let next = number(&entry["subject"]);
            if let (Some(old), Some(new)) = (live, next) {
                replaced.insert((new, entry["at"].to_string()), old);
            }
            live = next;
        }
    }
    let scored = Scored::of(logged);
    for release in &mut releases {
        let newcomer = number(&release["version"]);
        let old = newcomer.and_then(|new| replaced.get(&(new, release["at"].to_string())).copied());
        let at = release["at"].as_str().and_then(|at| at.parse::<Timestamp>().ok());
        if let (Some(new), Some(old), Some(at)) = (newcomer, old, at) {
            release["replaced"] = json!(format!("{}@{old}", super::MODEL));
            release["following"] = scored.following(at, new, old);
        }
    }
    releases
}

/// What each version said about each row, and what then happened.
struct Scored {
    rows: Vec<(Timestamp, HashMap<u32, f64>, f64)>,
}

impl Scored {
    fn of(logged: &Logged) -> Scored {
        let mut outcomes: HashMap<PredictionId, (Timestamp, f64)> = HashMap::new();
        for outcome in &logged.outcomes {
            let newest = outcomes.entry(outcome.id).or_insert((outcome.at, outcome.value));
            if outcome.at > newest.0 {
                *newest = (outcome.at, outcome.value);
            }
        }
        let mut said: HashMap<PredictionId, HashMap<u32, f64>> = HashMap::new();
        for shadow in &logged.shadows {
            said.entry(shadow.id).or_default().insert(shadow.version, shadow.value.value());
        }
        // The log holds rows as they were answered; sums of floats need an order that is the same in each run.
        let mut predictions: Vec<&Prediction> = logged.predictions.iter().collect();
        predictions.sort_by(|a, b| (a.at, &a.key).cmp(&(b.at, &b.key)));
        let rows = predictions.into_iter().filter_map(|prediction| {
            let (_, outcome) = outcomes.get(&prediction.id)?;
            let mut said = said.remove(&prediction.id).unwrap_or_default();
            said.insert(prediction.version, prediction.value.value());
            Some((prediction.at, said, *outcome))
        });
        Scored { rows: rows.collect() }
    }

    fn following(&self, at: Timestamp, newcomer: u32, replaced: u32) -> Value {
        let (mut rows, mut new_loss, mut old_loss) = (0u64, 0.0, 0.0);
        for (_, said, outcome) in self.rows.iter().filter(|(when, ..)| *when >= at && *when < at + FOLLOWING) {
            if let (Some(new), Some(old)) = (said.get(&newcomer), said.get(&replaced)) {
                rows += 1;
                new_loss += learning::log_loss(*new, *outcome);
                old_loss += learning::log_loss(*old, *outcome);
            }
        }
        let mean = |sum: f64| (rows > 0).then(|| sum / rows as f64);
        json!({ "rows": rows, "newcomer_logloss": mean(new_loss), "replaced_logloss": mean(old_loss) })
    }
}

/// The means of the monthly figures, and the months.
fn side(status: &Value, side: &str) -> Value {
    let months: Vec<&Value> = status["accuracy"]["months"].as_array().into_iter().flatten().collect();
    let mut result = Map::new();
    let names: Vec<String> = months
        .first()
        .and_then(|month| month[side].as_object())
        .map(|metrics| metrics.keys().cloned().collect())
        .unwrap_or_default();
    for name in names {
        let values: Vec<f64> = months.iter().filter_map(|month| month[side][&name].as_f64()).collect();
        if !values.is_empty() {
            result.insert(name, json!(values.iter().sum::<f64>() / values.len() as f64));
        }
    }
    let by_month: Map<String, Value> =
        months.iter().filter_map(|month| Some((month["month"].as_str()?.to_owned(), month[side].clone()))).collect();
    result.insert("months".into(), Value::Object(by_month));
    Value::Object(result)
}

pub fn sentence(report: &Value) -> String {
    let figure = |value: &Value| crate::output::figure(value.as_f64());
    let count = |value: &Value| value.as_array().map_or(0, Vec::len);
    let (live, frozen) = (&report["metrics"]["live"], &report["metrics"]["frozen"]);
    let mut text = format!(
        "{} flights replayed, {} predictions, {} outcomes, {} lost\n{} retrainings, {} promotions, {} rollbacks, {} alarms\n\
         AUC by month, mean:      live {}   first model {}\nlog loss by month, mean: live {}   first model {}\n\
         latency p50 {} ms, p99 {} ms; cost of a correct prediction {} {}\n\n",
        report["replayed"],
        report["predictions"],
        report["outcomes"],
        report["lost"],
        report["retrainings"],
        count(&report["releases"]),
        count(&report["rollbacks"]),
        count(&report["alarms"]),
        figure(&live["auc"]),
        figure(&frozen["auc"]),
        figure(&live["logloss"]),
        figure(&frozen["logloss"]),
        figure(&report["latency_ms"]["p50"]),
        figure(&report["latency_ms"]["p99"]),
        figure(&report["cost_per_correct_prediction"]["per_correct_prediction"]),
        report["cost_per_correct_prediction"]["currency"].as_str().unwrap_or_default(),
    );
    let months: Vec<Vec<String>> = live["months"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, live)| {
            let frozen = &frozen["months"][name];
            vec![
                name.clone(),
                figure(&live["auc"]),
                figure(&frozen["auc"]),
                figure(&live["logloss"]),
                figure(&frozen["logloss"]),
            ]
        })
        .collect();
    text.push_str(&crate::output::table(&["month", "AUC live", "first", "log loss live", "first"], &months));
    text
}
