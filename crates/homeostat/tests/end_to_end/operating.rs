//! What whoever runs a server does while others ask it: stops it, swaps models, changes keys, imports files.

use crate::clients::{COLUMNS, testdata};
use crate::support::{PATIENCE, Project, Server, order, refused, request, told};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const TREES: &str = "import/lightgbm_binary.txt";
/// The same inputs and outputs, other answers.
const OTHER_TREES: &str = "import/lightgbm_entropy.txt";

fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "in {PATIENCE:?} not: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn wait_ready(server: &Server) {
    wait("the server is ready", || server.get("/v2/health/ready").0 == 200);
}

fn features(rows: &[[f64; 5]]) -> Value {
    json!({ "inputs": [{ "name": "input", "datatype": "FP64", "shape": [rows.len(), 5], "data": rows }] })
}

const ROWS: [[f64; 5]; 3] = [[0.1, -0.2, 0.3, 8.0, 0.5], [-1.0, 0.7, 0.0, 60.0, -0.5], [2.0, 1.0, -1.5, 3.0, 1.0]];

/// The version that answered, and its first output: the probabilities.
fn answer(server: &Server, path: &str) -> (Value, Value) {
    let (status, answer) = server.post(path, &features(&ROWS));
    assert_eq!(status, 200, "{answer}");
    (answer["model_version"].clone(), answer["outputs"][0]["data"].clone())
}

#[test]
fn a_stopping_server_is_not_ready_but_answers_and_finishes_what_it_began() {
    let project = Project::trained(1500);
    project.set("server", "drain_grace_ms = 2000");
    let server = Server::start(&project.root());
    wait_ready(&server);
    let body = json!({ "rows": [order(1)] }).to_string();
    let (first, rest) = body.split_at(body.len() / 2);
    let mut slow = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    slow.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = "POST /v1/models/returned/predict HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: ";
    write!(slow, "{head}{}\r\n\r\n{first}", body.len()).unwrap();
    slow.flush().unwrap();
    server.predict(&[order(2)]);

    server.terminate();
    let told = Instant::now();
    wait("it says that it is not ready", || server.get("/v2/health/ready").0 == 503);
    let mut answered = 0;
    while told.elapsed() < Duration::from_millis(1500) {
        server.predict(&[order(answered)]);
        assert_eq!(server.get("/v2/health/ready").0, 503);
        answered += 1;
    }
    assert!(answered > 5 && server.get("/v2/health/live").0 == 200, "{answered}");
    wait("it takes no more connections", || TcpStream::connect(("127.0.0.1", server.port)).is_err());
    write!(slow, "{rest}").unwrap();
    let mut answer = String::new();
    slow.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"probability\""), "{answer}");
    server.ended();
}

#[test]
fn models_are_swapped_under_load_and_no_request_fails() {
    let project = Project::trained(1500);
    let root = project.root();
    told(&root, &["import", &testdata(TREES), "--as", "trees"]);
    told(&root, &["import", &testdata(OTHER_TREES), "--as", "trees"]);
    let server = Server::start(&root);
    wait_ready(&server);
    let answers = [1, 2].map(|version| answer(&server, &format!("/v2/models/trees/versions/{version}/infer")).1);
    assert_ne!(answers[0], answers[1]);
    let (server, stop, swaps) = (&server, AtomicBool::new(false), 30u64);
    let (asked, versions) = std::thread::scope(|scope| {
        let askers: Vec<_> = (0..4)
            .map(|_| {
                let (stop, answers) = (&stop, &answers);
                scope.spawn(move || {
                    let mut by_version = [0; 2];
                    while !stop.load(Ordering::Relaxed) {
                        let (version, data) = answer(server, "/v2/models/trees/infer");
                        let place = if version == "1" { 0 } else { 1 };
                        assert_eq!(data, answers[place], "the answer of version {version}");
                        by_version[place] += 1;
                    }
                    by_version
                })
            })
            .collect();
        let swapping = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for swap in 0..swaps {
                let begun = Instant::now();
                if swap % 3 == 0 {
                    let release = json!({ "action": "release", "version": 2 - swap / 3 % 2, "how": "now" });
                    let (status, said) = server.post("/v1/models/trees/routing", &release);
                    assert_eq!(status, 200, "{said}");
                }
                let (status, said) = server.post("/v2/repository/models/trees/load", &json!({}));
                assert_eq!(status, 200, "{said}");
                std::thread::sleep(Duration::from_millis(100).saturating_sub(begun.elapsed()));
            }
        }));
        stop.store(true, Ordering::Relaxed);
        let counts: Vec<[usize; 2]> = askers.into_iter().map(|asker| asker.join().expect("no request fails")).collect();
        assert!(swapping.is_ok());
        let sum = |place: usize| counts.iter().map(|count| count[place]).sum::<usize>();
        (sum(0) + sum(1), [sum(0), sum(1)])
    });
    println!("{asked} requests during {swaps} swaps, by version {versions:?}");
    assert!(versions.iter().all(|count| *count > 20), "both versions answered: {versions:?}");
    let generation = &server.ok("/v2/models/trees")["properties"]["generation"];
    assert!(generation.as_str().unwrap().parse::<u64>().unwrap() >= swaps / 2, "{generation}");
}

#[test]
fn keys_take_effect_and_end_without_a_restart() {
    let project = Project::trained(1500);
    let root = project.root();
    let create = |tenant: &str| -> String {
        let told = told(&root, &["token", "create", "--role", "client", "--tenant", tenant]);
        told["key"].as_str().unwrap().to_owned()
    };
    let first = create("first");
    let server = Server::start(&root);
    wait_ready(&server);
    let body = json!({ "rows": [order(1)] }).to_string();
    let status = |key: &str| -> u16 {
        let bearer = format!("Bearer {key}");
        server.raw("/v1/models/returned/predict", body.as_bytes(), &[("authorization", &bearer)]).0
    };
    assert_eq!((status(&first), status("hs_wrong")), (200, 401));
    assert_eq!(server.raw("/v1/models/returned/predict", body.as_bytes(), &[]).0, 401);

    let second = create("second");
    wait("the new key is known", || status(&second) == 200);
    assert_eq!(status(&first), 200, "the other tenant's stays");

    // A file that can't be read changes nothing.
    let file = root.join("homeostat.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("[[tenants]]", "[[tenants")).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!((status(&first), status(&second)), (200, 200));

    let keep = text.find("[[tenants]]").expect("tenants");
    let others: String = text[keep..].split("[[tenants]]").filter(|part| part.contains("\"second\"")).collect();
    std::fs::write(&file, format!("{}[[tenants]]{others}", &text[..keep])).unwrap();
    wait("the removed key is refused", || status(&first) == 401);
    assert_eq!(status(&second), 200);
    server.stop();
}

#[test]
fn connections_beyond_the_limit_are_turned_away_and_counted() {
    let project = Project::trained(1500);
    project.set("server", "connections_max = 4");
    let server = Server::start(&project.root());
    wait_ready(&server);
    let held: Vec<TcpStream> = (0..4).map(|_| TcpStream::connect(("127.0.0.1", server.port)).unwrap()).collect();
    let knock = || -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut said = String::new();
        let _ = stream.write_all(b"GET /v2/health/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        let _ = stream.read_to_string(&mut said);
        said
    };
    wait("one too many is turned away", || knock().starts_with("HTTP/1.1 503"));
    drop(held);
    wait("there is room again", || knock().starts_with("HTTP/1.1 200"));
    let metrics = server.ok("/metrics");
    let line = |metrics: &str| {
        metrics
            .lines()
            .find(|line| line.starts_with("homeostat_requests_refused_total") && line.contains("\"connections\""))
            .map(str::to_owned)
    };
    let line = line(metrics.as_str().expect("text")).unwrap_or_else(|| panic!("not counted: {metrics}"));
    assert!(line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() >= 1.0, "{line}");
    server.stop();
}

#[test]
fn recorded_requests_outlive_a_restart_and_damage_to_them_harms_nobody() {
    let project = Project::trained(1500);
    let root = project.root();
    told(&root, &["import", &testdata(TREES), "--as", "trees"]);
    let folder = root.join(".homeostat/warm");
    let kept = || -> Vec<(std::path::PathBuf, Vec<u8>)> {
        let Ok(entries) = std::fs::read_dir(&folder) else { return Vec::new() };
        let paths = entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some());
        paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    };
    let server = Server::start(&root);
    wait_ready(&server);
    let first = answer(&server, "/v2/models/trees/infer");
    server.stop();
    let [(path, whole)] = &kept()[..] else { panic!("one file for the one model that was asked") };
    for damaged in [&whole[..whole.len() / 2], b"", &whole[1..]] {
        std::fs::write(path, damaged).unwrap();
        let server = Server::start(&root);
        wait_ready(&server);
        assert_eq!(answer(&server, "/v2/models/trees/infer"), first);
        server.stop();
        assert_eq!(kept()[0].1, *whole, "the next request takes the place of what was damaged");
    }
}

#[test]
fn who_sends_a_byte_a_second_is_let_go() {
    let project = Project::trained(1500);
    project.set("server", "body_ms_max = 1500");
    let server = Server::start(&project.root());
    wait_ready(&server);
    for path in ["/v1/models/returned/predict", "/v2/models/returned/infer", "/v1/outcomes"] {
        let mut slow = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        slow.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(slow, "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n").unwrap();
        let mut writing = slow.try_clone().unwrap();
        let sender = std::thread::spawn(move || {
            // Ends when the server closes the connection.
            while writing.write_all(b" ").is_ok() {
                std::thread::sleep(Duration::from_secs(1));
            }
        });
        let mut said = [0; 12];
        slow.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"HTTP/1.1 408", "{path}");
        sender.join().unwrap();
    }
    let metrics = server.ok("/metrics");
    let metrics = metrics.as_str().expect("text");
    assert!(metrics.contains("homeostat_requests_refused_total{reason=\"too_slow\"} 3"), "{metrics}");
    server.stop();
}

/// The known rows of a model file, as a table with its answers.
fn known_table(folder: &Path, name: &str, off: f64) -> String {
    let text = std::fs::read_to_string(testdata("import/expected.json")).unwrap();
    let known: Value = serde_json::from_str(&text).unwrap();
    let case = known["cases"].as_array().unwrap().iter().find(|case| case["file"] == "lightgbm_binary.txt").unwrap();
    let input = known["inputs"][case["inputs"].as_str().unwrap()][0]["data"].as_array().unwrap();
    let outputs = case["outputs"].as_array().unwrap();
    let answers = outputs.iter().find(|output| output["name"] == "probability").unwrap()["data"].as_array().unwrap();
    let mut csv = format!("{COLUMNS},expected\n");
    for (row, answer) in input.chunks(5).zip(answers) {
        if row.iter().any(Value::is_string) {
            continue;
        }
        let cells: Vec<String> =
            row.iter().map(|cell| cell.as_f64().map_or(String::new(), |v| v.to_string())).collect();
        csv.push_str(&format!("{},{}\n", cells.join(","), answer.as_f64().unwrap() + off));
    }
    let path = folder.join(name);
    std::fs::write(&path, csv).unwrap();
    path.to_string_lossy().into_owned()
}

#[test]
fn an_import_is_checked_against_known_answers_before_it_counts() {
    let project = Project::trained(1500);
    let root = project.root();
    let (right, wrong) = (known_table(&root, "right.csv", 0.0), known_table(&root, "wrong.csv", 0.01));
    let file = testdata(TREES);
    let said = refused(&root, &["import", &file, "--as", "trees", "--inputs", COLUMNS, "--expect", &wrong], 1);
    let none = told(&root, &["versions"]);
    let named = |listed: &Value| listed.to_string().contains("\"trees@");
    assert!(!named(&none), "{said} {none}");

    let done = told(&root, &["import", &file, "--as", "trees", "--inputs", COLUMNS, "--expect", &right]);
    assert_eq!(
        (&done["version"], &done["live"], &done["checked"]["different"]),
        (&json!("trees@1"), &json!(true), &json!(0))
    );
    assert!(done["checked"]["rows"].as_u64().unwrap() > 10, "{done}");
    assert!(named(&told(&root, &["versions"])));

    let rows = |data: Value| json!([{ "name": "probability", "datatype": "FP64", "shape": [3], "data": data }]);
    let server = Server::start(&root);
    wait_ready(&server);
    let (_, data) = answer(&server, "/v2/models/trees/infer");
    let known = json!({ "inputs": features(&ROWS)["inputs"], "outputs": rows(data.clone()) });
    let path = root.join("known.json");
    std::fs::write(&path, known.to_string()).unwrap();
    let done = told(&root, &["import", &file, "--as", "again", "--expect", &path.to_string_lossy()]);
    assert_eq!((&done["live"], &done["checked"]["largest_difference"]), (&json!(true), &json!(0.0)), "{done}");
    // A running server knows it at once.
    wait("the new model answers", || server.post("/v2/models/again/infer", &features(&ROWS)).0 == 200);
    assert_eq!(answer(&server, "/v2/models/again/infer").1, data);

    let named_rows: Vec<Value> = ROWS
        .iter()
        .map(|row| row.iter().enumerate().map(|(at, value)| (format!("Column_{at}"), json!(value))).collect::<Value>())
        .collect();
    let (status, answer) = request(
        server.port,
        "POST",
        "/v1/models/trees/predict",
        json!({ "rows": named_rows }).to_string().as_bytes(),
        &[],
    );
    assert_eq!(status, 200, "{answer}");
    let tensors = server.post("/v2/models/trees/infer", &features(&ROWS)).1;
    let probabilities = tensors["outputs"].as_array().unwrap().iter().find(|o| o["name"] == "probability").unwrap();
    let values: Vec<&Value> = answer["predictions"].as_array().unwrap().iter().map(|p| &p["value"]).collect();
    assert_eq!(json!(values), probabilities["data"], "{answer}");
    server.stop();
}
