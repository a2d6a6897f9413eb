//! Learning from the command line: every learner, several classes, tuning, smaller versions, reasons, runs that are cut
//! off and go on.

use crate::lifecycle::wait_ready;
use crate::support::{PATIENCE, Project, Random, Server, homeostat, order, refused, told};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Flowers of three kinds that petal and stem tell apart, mostly.
fn flowers(rows: usize) -> String {
    let mut random = Random(5);
    let mut csv = String::from("petal,stem,soil,kind\n");
    for _ in 0..rows {
        let kind = (3.0 * random.unit()) as usize;
        let petal = kind as f64 + 1.6 * random.unit();
        let stem = 10.0 - 2.0 * kind as f64 + 5.0 * random.unit();
        let soil = ["clay", "loam", "sand"][(3.0 * random.unit()) as usize];
        csv.push_str(&format!("{petal:.3},{stem:.3},{soil},{}\n", ["aster", "lily", "rose"][kind]));
    }
    csv
}

fn garden(rows: usize) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("flowers.csv"), flowers(rows)).unwrap();
    told(folder.path(), &["init", "garden", "--data", "flowers.csv", "--target", "kind"]);
    let root = folder.path().join("garden");
    (folder, root)
}

#[test]
fn every_learner_learns_and_says_the_same_on_any_number_of_threads() {
    let project = Project::orders(6000);
    for learner in ["linear", "trees", "network"] {
        let train = |threads: &str| told(&project.root(), &["train", "--learner", learner, "--threads", threads]);
        let (one, two) = (train("1"), train("2"));
        assert_eq!(one["digest"], two["digest"], "{learner}");
        assert_eq!(one["learner"], learner);
        let auc = one["metrics"]["auc"].as_f64().unwrap();
        assert!(auc > 0.7, "{learner}: {auc}");
    }
    let best = told(&project.root(), &["train", "--learner", "auto"]);
    assert!(best["metrics"]["auc"].as_f64().unwrap() > 0.7, "{best}");
    let again = told(&project.root(), &["reproduce", "returned@3", "--threads", "2"]);
    assert_eq!((&again["same"], &again["data_same"]), (&json!(true), &json!(true)), "{again}");
}

#[test]
fn several_classes_are_trained_served_explained_and_judged() {
    let (_folder, root) = garden(3000);
    for learner in ["trees", "linear", "network"] {
        let version = told(&root, &["train", "--learner", learner]);
        assert_eq!(version["task"], "multiclass");
        let accuracy = version["metrics"]["accuracy"].as_f64().unwrap();
        assert!(accuracy > 0.75, "{learner}: {version}");
    }
    told(&root, &["predict", "kind@1", "--data", "data/flowers.csv", "--out", "scored.csv"]);
    let scored = std::fs::read_to_string(root.join("scored.csv")).unwrap();
    assert!(
        scored.starts_with("row,label,probability:aster,probability:lily,probability:rose,version"),
        "{scored:.200}"
    );
    let difference = told(&root, &["compare", "kind@1", "kind@2"]);
    assert!(difference["differences"]["logloss"]["value"].is_number(), "{difference}");
    told(&root, &["release", "kind@1", "--now"]);
    let server = Server::start(&root);
    wait_ready(&server);
    let rows = json!([{ "petal": 0.2, "stem": 14.0, "soil": "clay" }, { "petal": 3.0, "stem": 7.0, "soil": null }]);
    let (status, answer) =
        server.post("/v1/models/kind/predict", &json!({ "rows": rows, "options": { "explain": true } }));
    assert_eq!(status, 200, "{answer}");
    for (prediction, label) in answer["predictions"].as_array().unwrap().iter().zip(["aster", "rose"]) {
        assert_eq!(prediction["label"], label);
        let all = prediction["probabilities"].as_object().unwrap();
        let sum: f64 = all.values().map(|p| p.as_f64().unwrap()).sum();
        assert!(all.len() == 3 && (sum - 1.0).abs() < 1e-9, "{prediction}");
        assert_eq!(prediction["probability"], all[label]);
        adds_up(prediction, prediction["probability"].as_f64().unwrap().ln());
    }
    let id = answer["predictions"][0]["id"].as_str().unwrap();
    let (status, taken) = server.post("/v1/outcomes", &json!({ "outcomes": [{ "id": id, "value": "aster" }] }));
    assert_eq!((status, &taken["accepted"]), (200, &json!(1)), "{taken}");
    let (status, _) = server.post("/v1/outcomes", &json!({ "outcomes": [{ "id": id, "value": "tulip" }] }));
    assert_eq!(status, 422);
    let tensors = json!({ "inputs": [
        { "name": "petal", "shape": [1], "datatype": "FP64", "data": [3.0] },
        { "name": "stem", "shape": [1], "datatype": "FP64", "data": [7.0] }] });
    let (status, answer) = server.post("/v2/models/kind/infer", &tensors);
    assert_eq!((status, &answer["outputs"][0]["shape"]), (200, &json!([1, 3])), "{answer}");
    let replayed = told(&root, &["replay", id]);
    assert_eq!(replayed["same"], 1, "{replayed}");
    server.stop();
    let replayed = told(&root, &["replay", "--sample", "9"]);
    assert_eq!(replayed["same"], replayed["replayed"]);
}

/// The parts of a reason are those of the answer.
fn adds_up(prediction: &Value, whole: f64) {
    let parts = prediction["contributions"].as_object().unwrap();
    let sum: f64 = parts.values().map(|part| part.as_f64().unwrap()).sum();
    assert!((sum - whole).abs() < 1e-6 * whole.abs().max(1.0), "{sum} is not {whole}: {prediction}");
    assert!(parts.contains_key("(base)") && parts.len() > 2, "{prediction}");
}

#[test]
fn reasons_add_up_to_the_log_odds_for_every_learner() {
    let project = Project::orders(4000);
    for (number, learner) in ["linear", "trees", "network"].into_iter().enumerate() {
        told(&project.root(), &["train", "--learner", learner]);
        told(&project.root(), &["release", &format!("returned@{}", number + 1), "--now"]);
        let server = Server::start(&project.root());
        wait_ready(&server);
        let body = json!({ "rows": [order(1), order(40)], "options": { "explain": true } });
        let (status, answer) = server.post("/v1/models/returned/predict", &body);
        assert_eq!(status, 200, "{learner}: {answer}");
        for prediction in answer["predictions"].as_array().unwrap() {
            let p = prediction["probability"].as_f64().unwrap();
            adds_up(prediction, (p / (1.0 - p)).ln());
            assert!(prediction["contributions"]["price"].is_number(), "{prediction}");
        }
        server.stop();
    }
}

#[test]
fn a_search_is_the_same_with_any_number_of_workers_and_after_a_kill() {
    let project = Project::orders(4000);
    let tune =
        |workers: &str| told(&project.root(), &["tune", "--trials", "12", "--learner", "trees", "--workers", workers]);
    let (one, eight) = (tune("1"), tune("8"));
    assert_eq!(one["best"], eight["best"]);
    assert_eq!(one["digest"], eight["digest"]);
    assert_eq!(one["trials"], 12);
    let plot = std::fs::read_to_string(one["plot"].as_str().unwrap()).unwrap();
    assert!(plot.starts_with("<svg"), "{plot:.80}");
    told(&project.root(), &["release", "returned@1", "--now"]);
    let server = Server::start(&project.root());
    let listed = server.ok("/v1/searches");
    let ids: Vec<&Value> = listed["searches"].as_array().unwrap().iter().map(|search| &search["id"]).collect();
    assert_eq!(ids, [&eight["search"], &one["search"]], "{listed}");
    let found = server.ok(&format!("/v1/searches/{}", one["search"].as_str().unwrap()));
    assert_eq!((found["trials"].as_array().unwrap().len(), &found["best"]), (12, &one["best"]));
    assert_eq!(
        (listed["searches"][1]["trials"].as_u64(), &listed["searches"][1]["model"]),
        (Some(12), &json!("returned"))
    );
    for id in ["20260101000000-00000000", "..", "%2e%2e%2fruns", ""] {
        let (status, said) = server.get(&format!("/v1/searches/{id}/plot"));
        assert_eq!(status, 404, "{id}: {said}");
    }

    let runs = project.root().join(".homeostat/runs");
    let args = ["tune", "--trials", "12", "--learner", "trees", "--workers", "2"];
    let run = cut_off(&project.root(), &args, &runs, "-9", |run| {
        std::fs::metadata(run.join("search.journal")).is_ok_and(|journal| journal.len() > 1500)
    });
    let half = server.ok(&format!("/v1/searches/{run}"));
    assert!((1..=12).contains(&half["trials"].as_array().unwrap().len()), "{half}");
    assert!(half["at"].is_null() && half["ending"].as_str().unwrap().contains(&run), "{half}");
    server.stop();
    let resumed = told(&project.root(), &["tune", "--resume", &run]);
    assert_eq!((&resumed["best"], &resumed["digest"]), (&one["best"], &one["digest"]));
    assert!(refused(&project.root(), &["tune", "--resume", &run], 3).contains("there is no run"));
}

/// Starts a command, and ends it by a signal once its run's folder looks as wanted; gives the run's name.
fn cut_off(root: &Path, args: &[&str], runs: &Path, signal: &str, ready: impl Fn(&Path) -> bool) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_homeostat"))
        .args(args)
        .current_dir(root)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    let run = loop {
        let found = std::fs::read_dir(runs).into_iter().flatten().flatten().map(|entry| entry.path());
        if let Some(run) = found.into_iter().find(|run| ready(run)) {
            break run;
        }
        assert!(child.try_wait().unwrap().is_none(), "{args:?} ended before it could be cut off");
        assert!(Instant::now() < deadline, "{args:?} keeps no state");
        std::thread::sleep(Duration::from_millis(2));
    };
    Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(!child.wait().unwrap().success());
    run.file_name().unwrap().to_string_lossy().into_owned()
}

#[test]
fn a_training_that_is_asked_to_stop_goes_on_and_ends_with_the_same_bytes() {
    let project = Project::orders(6000);
    let runs = project.root().join(".homeostat/runs");
    for learner in ["trees", "network"] {
        let undisturbed = told(&project.root(), &["train", "--learner", learner]);
        let args = ["train", "--learner", learner, "--threads", "1"];
        let run = cut_off(&project.root(), &args, &runs, "-TERM", |run| run.join("run.checkpoint").exists());
        assert!(runs.join(&run).join("order.json").exists());
        let resumed = told(&project.root(), &["train", "--resume", &run]);
        assert_eq!(resumed["digest"], undisturbed["digest"], "{learner}");
    }
}

#[test]
fn smaller_versions_are_measured_and_the_cheapest_is_named() {
    let project = Project::trained(6000);
    let root = project.root();
    let small = told(&root, &["compress", "returned@1", "--prune", "50%", "--quantize", "int8"]);
    assert_eq!((&small["learner"], &small["parent"]), (&json!("compact_trees"), &json!("returned@1")));
    assert!(small["bytes"].as_u64().unwrap() < small["parent_bytes"].as_u64().unwrap(), "{small}");
    assert!(small["difference"]["auc"]["value"].as_f64().unwrap() > -0.02, "{small}");
    let student = told(&root, &["compress", "returned@1", "--distill", "linear"]);
    assert_eq!(student["learner"], "linear");
    assert!(student["metrics"]["auc"].as_f64().unwrap() > 0.7, "{student}");
    let lineage = told(&root, &["lineage", small["version"].as_str().unwrap()]);
    assert!(lineage.to_string().contains("prune 50 %, int8"), "{lineage}");
    assert!(refused(&root, &["compress", "returned@2", "--quantize", "int8"], 3).contains("itself made smaller"));
    assert!(refused(&root, &["compress", "returned@1"], 3).contains("--search"));
    let search = homeostat(&root, &["compress", "returned@1", "--search", "--keep", "auc=0.6", "--json"]);
    let search: Value = serde_json::from_slice(&search.stdout).unwrap();
    assert!(search["variants"].as_array().unwrap().len() > 10, "{search}");
    assert!(search["chosen"].is_string(), "{}", search["reason"]);
    let kept = search["variants"].as_array().unwrap().iter().filter(|variant| variant["pareto"] == true).count();
    assert!(kept >= 1);
    told(&root, &["predict", search["chosen"].as_str().unwrap(), "--data", "data/orders.csv", "--out", "scored.csv"]);
}

#[test]
fn columns_that_say_nothing_are_told_apart() {
    let project = Project::orders(4000);
    let selection = told(&project.root(), &["select", "--shuffles", "5"]);
    let kept: Vec<&str> = selection["columns"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|column| column["kept"] == true)
        .map(|column| column["name"].as_str().unwrap())
        .collect();
    assert!(kept.contains(&"price") && kept.contains(&"shop"), "{selection}");
    assert!(selection["curve"].as_array().unwrap().len() >= 2);
}

#[test]
fn odd_data_gives_a_model_or_a_clear_word() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(3);
    let mut csv = String::from("constant,empty,id_text,x,y\n");
    for row in 0..1200 {
        csv.push_str(&format!("7,,value-{row},{:.4},{}\n", random.unit(), u8::from(random.unit() < 0.4)));
    }
    std::fs::write(folder.path().join("odd.csv"), csv).unwrap();
    told(folder.path(), &["init", "odd", "--data", "odd.csv", "--target", "y"]);
    let root = folder.path().join("odd");
    for learner in ["linear", "trees", "network"] {
        let version = told(&root, &["train", "--learner", learner]);
        let auc = version["metrics"]["auc"].as_f64().unwrap();
        assert!((0.3..0.7).contains(&auc), "{learner} finds something in noise: {auc}");
    }
    let mut wide = String::from("y");
    (0..60).for_each(|column| wide.push_str(&format!(",x{column}")));
    for row in 0..55 {
        wide.push_str(&format!("\n{}", row % 2));
        (0..60).for_each(|_| wide.push_str(&format!(",{:.3}", random.unit())));
    }
    std::fs::write(folder.path().join("wide.csv"), wide).unwrap();
    told(folder.path(), &["init", "wide", "--data", "wide.csv", "--target", "y"]);
    for learner in ["linear", "trees", "network"] {
        told(&folder.path().join("wide"), &["train", "--learner", learner]);
    }
}

#[test]
fn a_version_goes_on_from_another_and_leaves_as_onnx() {
    let project = Project::orders(4000);
    let root = project.root();
    for learner in ["trees", "linear", "network"] {
        let first = told(&root, &["train", "--learner", learner, "--to", "2024-01-20"]);
        let name = first["version"].as_str().unwrap();
        let next = told(&root, &["train", "--learner", learner, "--from", name]);
        assert_ne!(first["digest"], next["digest"], "{learner}");
        assert!(next["metrics"]["auc"].as_f64().unwrap() > 0.65, "{learner}: {next}");
        let lineage = told(&root, &["lineage", next["version"].as_str().unwrap()]).to_string();
        assert!(lineage.contains(first["digest"].as_str().unwrap()), "{learner}: {lineage}");
        let again = told(&root, &["reproduce", next["version"].as_str().unwrap()]);
        assert_eq!(again["same"], true, "{learner}: {again}");
        let file = format!("{learner}.onnx");
        let exported = told(&root, &["export", next["version"].as_str().unwrap(), "--out", &file]);
        let names: Vec<&str> =
            exported["inputs"].as_array().unwrap().iter().map(|input| input["name"].as_str().unwrap()).collect();
        assert!(names.contains(&"price"), "{learner}: {names:?}");
        assert!(exported["outputs"].to_string().contains("probability"), "{exported}");
        assert!(std::fs::metadata(root.join(&file)).unwrap().len() > 1000);
    }
    assert!(refused(&root, &["train", "--learner", "linear", "--from", "returned@1"], 3).contains("trees"));
}
