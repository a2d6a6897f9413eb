//! Answers of a declared model that were given before: the same numbers, logged again, and never an old version's.

use crate::support::{PATIENCE, Project, Server, order, told};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A counter of the model, from the metrics.
fn counted(server: &Server, name: &str) -> u64 {
    let metrics = server.ok("/metrics");
    let line = format!("homeostat_{name}_total{{model=\"returned\"}} ");
    let value = metrics.as_str().expect("text").lines().find_map(|found| found.strip_prefix(&line).map(str::to_owned));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {line} in {metrics}"))
}

fn ask(server: &Server, rows: &[Value]) -> Vec<Value> {
    server.predict(rows)["predictions"].as_array().expect("predictions").clone()
}

fn values(answers: &[Value]) -> Vec<&Value> {
    answers.iter().map(|answer| &answer["value"]).collect()
}

#[test]
fn a_row_that_was_answered_is_answered_again_logged_again_and_by_the_version_in_force() {
    let project = Project::trained(1500);
    let root = project.root();
    told(&root, &["train", "--seed", "9"]);
    let server = Server::start(&root);
    let deadline = Instant::now() + PATIENCE;
    while server.get("/v2/health/ready").0 != 200 {
        assert!(Instant::now() < deadline, "it gets ready");
        std::thread::sleep(Duration::from_millis(20));
    }
    let rows: Vec<Value> = (0..5).map(order).collect();
    let first = ask(&server, &rows);
    assert_eq!((counted(&server, "prediction_cache_hits"), counted(&server, "prediction_cache_misses")), (0, 5));
    let mut others = rows.clone();
    for (n, row) in others.iter_mut().enumerate() {
        row["order_id"] = json!(format!("another-{n}"));
    }
    others.push(order(50));
    let second = ask(&server, &others);
    assert_eq!(values(&first), values(&second[..5]), "the key is no input");
    assert_eq!((counted(&server, "prediction_cache_hits"), counted(&server, "prediction_cache_misses")), (5, 6));
    let mut ids: Vec<&str> = first.iter().chain(&second).map(|answer| answer["id"].as_str().expect("an id")).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 11, "every answer has an id of its own");
    for (id, key) in [(&first[0]["id"], "new-0"), (&second[0]["id"], "another-0")] {
        let logged = server.ok(&format!("/v1/predictions/{}", id.as_str().expect("an id")));
        assert_eq!((&logged["key"], &logged["value"]), (&json!(key), &first[0]["value"]));
    }

    // The newest version is live from the start.
    let release = json!({ "action": "release", "version": 1, "how": "now" });
    let (status, said) = server.post("/v1/models/returned/routing", &release);
    assert_eq!(status, 200, "{said}");
    let released = ask(&server, &rows);
    assert!(released.iter().all(|answer| answer["version"] == 1), "{released:?}");
    assert_eq!(counted(&server, "prediction_cache_hits"), 5, "nothing of the version before");
    assert_eq!(values(&ask(&server, &rows)), values(&released));
    assert_eq!(counted(&server, "prediction_cache_hits"), 10);
    let (status, said) = server.post("/v1/models/returned/routing", &json!({ "action": "rollback" }));
    assert_eq!(status, 200, "{said}");
    assert_eq!(values(&ask(&server, &rows)), values(&first));
    assert_eq!(counted(&server, "predictions"), 5 + 6 + 5 + 5 + 5);
    server.stop();
}

#[test]
fn versions_that_share_a_pipeline_share_its_work() {
    let project = Project::trained(1500);
    let root = project.root();
    // Another model on the same features.
    let file = root.join("models/returned.toml");
    let declared = std::fs::read_to_string(&file).expect("the model's file");
    std::fs::write(&file, declared.replace("learning_rate = 0.06", "learning_rate = 0.2")).expect("it can be written");
    told(&root, &["train"]);
    let pipeline = |version: &str| told(&root, &["show", version])["lineage"]["pipeline"].clone();
    assert_eq!(pipeline("returned@1"), pipeline("returned@2"));
    let server = Server::start(&root);
    let release = json!({ "action": "release", "version": 1, "how": "shadow" });
    let deadline = Instant::now() + PATIENCE;
    while server.post("/v1/models/returned/routing", &release).0 != 200 {
        assert!(Instant::now() < deadline, "it is released");
        std::thread::sleep(Duration::from_millis(20));
    }
    let rows: Vec<Value> = (0..20).map(order).collect();
    ask(&server, &rows);
    while counted(&server, "shadow_rows") < 20 {
        assert!(Instant::now() < deadline, "the shadow scores them");
        std::thread::sleep(Duration::from_millis(20));
    }
    let (hits, misses) = (counted(&server, "feature_cache_hits"), counted(&server, "feature_cache_misses"));
    assert_eq!((hits, misses), (20, 20), "each row is transformed once, for both versions");
    server.stop();
}

#[test]
fn without_memory_nothing_is_kept() {
    let project = Project::trained(1500);
    project.set("server", "prediction_cache_bytes_max = 0\nfeature_cache_bytes_max = 0");
    let server = Server::start(&project.root());
    let deadline = Instant::now() + PATIENCE;
    while server.get("/v2/health/ready").0 != 200 {
        assert!(Instant::now() < deadline, "it gets ready");
        std::thread::sleep(Duration::from_millis(20));
    }
    let first = ask(&server, &[order(1), order(1)]);
    assert_eq!(values(&first), values(&ask(&server, &[order(1), order(1)])));
    for name in ["prediction_cache_hits", "prediction_cache_misses", "prediction_cache_bypassed", "feature_cache_hits"]
    {
        assert_eq!(counted(&server, name), 0, "{name}");
    }
    server.stop();
}
