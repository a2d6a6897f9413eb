//! What a quickstart ends with: figures from the server's interface, checked against the log on disk.

use super::timeline::Timeline;
use crate::client::Client;
use crate::project::Project;
use anyhow::Result;
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::time::Duration;
use storage::parquet_log::Columns;

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
        "releases": deeds("promote"),
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
