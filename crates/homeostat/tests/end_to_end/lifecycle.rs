//! A project from a file to answers: init, check, train, evaluate, predict, serve, outcomes, replay.

use crate::support::{Project, Server, homeostat, order, text, told};
use serde_json::json;

#[test]
fn a_data_file_becomes_a_model_that_answers() {
    let project = Project::orders(3000);
    let root = project.root();
    let checked = told(&root, &["check", "--parity"]);
    assert_eq!(checked["models"]["returned"]["parity"]["trees"]["differences"], 0);
    assert_eq!(checked["models"]["returned"]["parity"]["trees"]["rows"], 3000);

    let trained = told(&root, &["train"]);
    let auc = trained["metrics"]["auc"].as_f64().unwrap();
    assert!(auc > 0.65, "auc {auc}");
    for name in ["version", "digest", "learner", "rows", "seconds", "bytes"] {
        assert!(!trained[name].is_null(), "{name} in {trained}");
    }
    let evaluated = told(&root, &["evaluate", "returned@1", "--data", "data/orders.csv", "--slices", "shop"]);
    assert_eq!(evaluated["slices"]["shop"].as_array().unwrap().len(), 3);
    assert_eq!(evaluated["rows"], 3000);
    let scored = told(&root, &["predict", "returned@1", "--data", "data/orders.csv", "--out", "scored.parquet"]);
    assert_eq!(scored["rows"], 3000);
    assert!(root.join("scored.parquet").exists());

    let linear = told(&root, &["train", "--learner", "linear"]);
    assert_eq!(linear["version"], "returned@2");
    let compared = told(&root, &["compare", "returned@1", "returned@2"]);
    assert!(compared["differences"]["logloss"]["interval"]["low"].is_number());
    let shown = told(&root, &["show", "returned@2"]);
    assert!(shown["lineage"]["data"].is_string() && shown["lineage"]["order"]["seed"] == 1);
    assert_eq!(told(&root, &["audit", "verify"])["whole"], true);
}

#[test]
fn the_same_data_and_seed_give_the_same_bytes_on_any_number_of_threads() {
    let project = Project::orders(2000);
    for learner in ["trees", "linear"] {
        let digests: Vec<_> = ["1", "2", "4"]
            .iter()
            .map(|threads| {
                told(&project.root(), &["train", "--learner", learner, "--threads", threads])["digest"].clone()
            })
            .collect();
        assert!(digests.iter().all(|digest| *digest == digests[0]), "{learner}: {digests:?}");
    }
    // The same bytes are the same version.
    assert_eq!(told(&project.root(), &["versions"]).as_array().unwrap().len(), 2);
}

#[test]
fn a_served_model_answers_learns_outcomes_and_repeats_itself() {
    let project = Project::trained(3000);
    let server = Server::start(&project.root());
    wait_ready(&server);
    let rows: Vec<_> = (0..20).map(order).collect();
    let answer = server.predict(&rows);
    assert_eq!(answer["version"], "returned@1");
    assert_eq!(answer["trace"].as_str().unwrap().len(), 32);
    let predictions = answer["predictions"].as_array().unwrap();
    assert_eq!(predictions.len(), 20);
    let id = predictions[3]["id"].as_str().unwrap().to_owned();
    let p = predictions[3]["probability"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&p) && predictions[3]["value"] == predictions[3]["probability"]);

    // One row alone gets the bits that it got among twenty.
    let alone = server.predict(&rows[3..4]);
    assert_eq!(alone["predictions"][0]["value"], predictions[3]["value"]);

    let outcomes = json!({ "outcomes": [
        { "id": id, "value": 1, "at": "2024-03-02T00:00:00Z" },
        { "key": "new-4", "value": false },
        { "key": "nobody", "value": 1 },
    ]});
    let (status, taken) = server.post("/v1/outcomes", &outcomes);
    assert_eq!((status, &taken["accepted"], &taken["unknown"]), (200, &json!(2), &json!(1)), "{taken}");
    let again =
        json!({ "outcomes": [{ "id": id, "value": 1 }, { "id": id, "value": 0, "at": "2024-03-03T00:00:00Z" }]});
    let (_, taken) = server.post("/v1/outcomes", &again);
    assert_eq!((&taken["duplicate"], &taken["corrected"]), (&json!(1), &json!(1)), "{taken}");

    let logged = server.ok(&format!("/v1/predictions/{id}"));
    assert_eq!(logged["row"]["order_id"], "new-3");
    assert_eq!(logged["outcomes"].as_array().unwrap().len(), 2);
    assert_eq!(told(&project.root(), &["replay", &id])["same"], 1);
    assert_eq!(told(&project.root(), &["replay", "--sample", "100"])["different"], json!([]));

    // The same named request again is the same answer, logged once.
    let body = json!({ "rows": [order(77)] }).to_string();
    let named = [("idempotency-key", "k-77")];
    let first = server.raw("/v1/models/returned/predict", body.as_bytes(), &named).1;
    let second = server.raw("/v1/models/returned/predict", body.as_bytes(), &named).1;
    assert_eq!(first["predictions"], second["predictions"]);
    let status = server.ok("/v1/models/returned");
    assert_eq!(status["traffic"]["predictions"], 22);
    let metrics = server.get("/metrics").1.as_str().unwrap().to_owned();
    assert!(metrics.contains("homeostat_predictions_total{model=\"returned\"} 22"), "{metrics}");
    assert!(metrics.trim_end().ends_with("# EOF"));
    server.stop();
}

#[test]
fn the_open_inference_protocol_is_spoken() {
    let project = Project::trained(2000);
    let server = Server::start(&project.root());
    wait_ready(&server);
    assert_eq!(server.ok("/v2/health/live"), json!({ "live": true }));
    let metadata = server.ok("/v2/models/returned");
    let inputs: Vec<&str> =
        metadata["inputs"].as_array().unwrap().iter().map(|i| i["name"].as_str().unwrap()).collect();
    assert!(inputs.contains(&"price") && !inputs.contains(&"returned"), "{metadata}");
    let tensor =
        |name: &str, datatype: &str, data| json!({ "name": name, "datatype": datatype, "shape": [2], "data": data });
    let body = json!({ "id": "q", "inputs": [
        tensor("price", "FP64", json!([20.0, null])),
        tensor("shop", "BYTES", json!(["web", "north"])),
        tensor("express", "BOOL", json!([true, false])),
        tensor("order_id", "BYTES", json!(["a", "b"])),
        tensor("at", "BYTES", json!(["2024-03-01T10:00:00Z", "2024-03-01T10:00:00Z"])),
    ]});
    let (status, answer) = server.post("/v2/models/returned/infer", &body);
    assert_eq!(status, 200, "{answer}");
    assert_eq!((&answer["id"], &answer["outputs"][0]["shape"]), (&json!("q"), &json!([2])));
    let named = server.predict(&[order(0)]);
    assert_eq!(answer["outputs"][0]["data"][0], named["predictions"][0]["value"]);
    let described = server.ok("/openapi.json");
    assert!(described["paths"]["/v1/models/{model}/predict"]["post"].is_object());
    server.stop();
}

#[test]
fn a_version_is_released_and_rolled_back_with_and_without_a_server() {
    let project = Project::trained(2000);
    let root = project.root();
    let server = Server::start(&root);
    wait_ready(&server);
    told(&root, &["train", "--learner", "linear"]);
    let route = told(&root, &["release", "returned@2", "--canary", "50%"]);
    assert_eq!((&route["candidate"]["version"], &route["candidate"]["share"]), (&json!(2), &json!("50%")));
    let rows: Vec<_> = (0..200).map(order).collect();
    let answered = server.predict(&rows);
    let by = |answer: &serde_json::Value| -> Vec<u64> {
        answer["predictions"].as_array().unwrap().iter().map(|p| p["version"].as_u64().unwrap()).collect()
    };
    let second = by(&answered).iter().filter(|version| **version == 2).count();
    assert!((60..140).contains(&second), "{second} of 200 by the canary");
    assert_eq!(by(&answered), by(&server.predict(&rows)), "the share is sticky");
    told(&root, &["release", "returned@2", "--now"]);
    assert_eq!(server.predict(&rows[..1])["version"], "returned@2");
    told(&root, &["rollback", "returned"]);
    assert_eq!(server.predict(&rows[..1])["version"], "returned@1");
    assert_eq!(told(&root, &["freeze", "returned"])["retraining_frozen"], true);
    server.stop();
    told(&root, &["release", "returned@2", "--now"]);
    let server = Server::start(&root);
    assert_eq!(server.predict(&rows[..1])["version"], "returned@2");
    let nothing = homeostat(&root, &["release", "returned@9", "--now"]);
    assert_eq!(nothing.status.code(), Some(3));
    assert!(text(&nothing.stderr).contains("there is no returned@9"), "{}", text(&nothing.stderr));
    server.stop();
}

pub fn wait_ready(server: &Server) {
    let deadline = std::time::Instant::now() + crate::support::PATIENCE;
    while server.get("/v2/health/ready").0 != 200 {
        assert!(std::time::Instant::now() < deadline, "no version became ready");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
