//! Clients that others wrote, unmodified, against the real binary: Triton's and KServe's, NVIDIA's load generator,
//! pyarrow, and a collector of traces. What each checks stands in its script under `scripts/clients`.

use crate::support::{PATIENCE, Project, Server, told};
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The longest script, perf_analyzer's, takes a quarter of this on two cores.
const SCRIPT_PATIENCE: Duration = Duration::from_secs(300);

/// Names for the columns of models that don't name them.
pub const COLUMNS: &str = "Column_0,Column_1,Column_2,Column_3,Column_4";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Says that a test does less than it could, or fails where everything is required.
fn skipped(what: &str, remedy: &str) {
    let required = std::env::var("HOMEOSTAT_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
    assert!(!required, "{what}, and HOMEOSTAT_REQUIRE_SERVICES=1; run {remedy}");
    println!("skipped: {what}; run {remedy}");
}

/// The interpreter that has the clients' packages.
fn python(test: &str) -> Option<PathBuf> {
    let found = repository().join(".venv/bin/python");
    if found.exists() {
        return Some(found);
    }
    skipped(&format!("{test}: .venv is missing"), "`make python`");
    None
}

fn script(name: &str) -> PathBuf {
    repository().join("scripts/clients").join(name)
}

pub fn testdata(name: &str) -> String {
    repository().join("crates/inference/testdata").join(name).to_string_lossy().into_owned()
}

/// A trained model, four imported ones, and one more where there is a library of ONNX Runtime.
fn project() -> Project {
    let project = Project::trained(2000);
    let root = project.root();
    for (name, file) in [
        ("trees", "import/lightgbm_binary.txt"),
        ("boosted", "import/xgboost_binary.json"),
        ("many", "import/lightgbm_multiclass.txt"),
    ] {
        told(&root, &["import", &testdata(file), "--as", name, "--inputs", COLUMNS]);
    }
    told(&root, &["import", &testdata("onnx/text.onnx"), "--as", "words"]);
    if repository().join("engines/node_modules").exists() {
        told(&root, &["import", &testdata("onnx/identity.onnx"), "--as", "identity"]);
    } else {
        skipped("clients: engines/node_modules is missing, so that no ONNX model is served", "`make onnxruntime`");
    }
    project
}

/// Waits for a program, not for ever.
fn ended(child: &mut Child, patience: Duration) -> Option<std::process::ExitStatus> {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().expect("it can be asked") {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

/// Runs a script against the project's server; its last line must tell of checks that passed, and of none that failed.
fn run(python: &Path, name: &str, root: &Path, more: &[&str]) {
    let place: Value =
        serde_json::from_slice(&std::fs::read(root.join(".homeostat/server.json")).expect("a server")).expect("JSON");
    let output = root.join(format!("{name}.out"));
    let file = File::create(&output).expect("a file for its output");
    let mut child = Command::new(python)
        .arg(script(name))
        .args(["--http", &format!("127.0.0.1:{}", place["port"])])
        .args(["--grpc", &format!("127.0.0.1:{}", place["grpc_port"])])
        .args(more)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::null())
        .stdout(file.try_clone().expect("the file twice"))
        .stderr(file)
        .spawn()
        .expect("Python starts");
    let status = ended(&mut child, SCRIPT_PATIENCE);
    let said = String::from_utf8_lossy(&std::fs::read(&output).expect("its output")).into_owned();
    print!("{said}");
    assert!(status.is_some_and(|status| status.success()), "{name} ended with {status:?}:\n{said}");
    let last = said.lines().rfind(|line| line.contains(" passed, ")).unwrap_or_default();
    assert!(last.contains(" 0 failed") && !last.contains(": 0 passed"), "{name}: {said}");
}

#[test]
fn the_clients_of_triton() {
    let Some(python) = python("the_clients_of_triton") else { return };
    let project = project();
    let server = Server::start(&project.root());
    run(&python, "triton_http.py", &project.root(), &[]);
    run(&python, "triton_grpc.py", &project.root(), &[]);
    server.stop();
}

#[test]
fn the_clients_of_kserve_and_tables_of_arrow() {
    let Some(python) = python("the_clients_of_kserve_and_tables_of_arrow") else { return };
    let project = project();
    let server = Server::start(&project.root());
    run(&python, "kserve_clients.py", &project.root(), &[]);
    run(&python, "arrow_rows.py", &project.root(), &[]);
    server.stop();
}

#[test]
fn all_clients_over_tls_and_with_keys() {
    let Some(python) = python("all_clients_over_tls_and_with_keys") else { return };
    let project = project();
    let root = project.root();
    let made = Command::new(&python).arg(script("certificate.py")).arg(&root).status().expect("Python starts");
    assert!(made.success(), "{made}");
    project.set("server.tls", "cert = \"cert.pem\"\nkey = \"key.pem\"");
    let key = told(&root, &["token", "create", "--role", "client", "--tenant", "tester"])["key"].clone();
    let file = root.join("homeostat.toml");
    let text = std::fs::read_to_string(&file).expect("the project's file");
    let models = r#"models = ["returned", "trees", "boosted", "identity", "words"]"#;
    std::fs::write(&file, text.replace("[[tenants]]\n", &format!("[[tenants]]\n{models}\n")))
        .expect("it can be written");
    let server = Server::start(&root);
    let operator = std::fs::read_to_string(root.join(".homeostat/operator.key")).expect("the operator's key");
    let ca = root.join("cert.pem").to_string_lossy().into_owned();
    let more = ["--ca", &ca, "--key", key.as_str().expect("a key"), "--operator", &operator];
    for name in ["triton_http.py", "triton_grpc.py", "kserve_clients.py"] {
        run(&python, name, &root, &more);
    }
    server.stop();
}

#[test]
fn the_load_generator_of_nvidia() {
    let Some(python) = python("the_load_generator_of_nvidia") else { return };
    let binary = repository().join(".venv-perf/bin/perf_analyzer");
    let libraries = Command::new("sh").args(["-c", "ldconfig -p | grep -q 'libb64\\.so\\.0d'"]).status();
    if !binary.exists() || !libraries.is_ok_and(|status| status.success()) {
        return skipped(
            "the_load_generator_of_nvidia: perf_analyzer or its libb64 is missing",
            "`make services python`",
        );
    }
    let project = project();
    let server = Server::start(&project.root());
    run(&python, "perf_analyzer.py", &project.root(), &[]);
    server.stop();
}

/// The collector for tests; it ends with its standard input.
struct Receiver {
    child: Child,
    spans: PathBuf,
    ports: Value,
}

impl Receiver {
    fn start(python: &Path, folder: &Path) -> Receiver {
        let spans = folder.join("spans.jsonl");
        let child = Command::new(python)
            .arg(script("otlp_receiver.py"))
            .stdin(Stdio::piped())
            .stdout(File::create(&spans).expect("a file for spans"))
            .spawn()
            .expect("Python starts");
        // Dropped, and so waited for, whatever happens from here on.
        let mut receiver = Receiver { child, spans, ports: Value::Null };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let said = std::fs::read_to_string(&receiver.spans).expect("its output");
            if let Some(line) = said.lines().next().filter(|_| said.contains('\n')) {
                receiver.ports = serde_json::from_str(line).expect("ports");
                return receiver;
            }
            assert!(Instant::now() < deadline, "the receiver does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        ended(&mut self.child, Duration::from_secs(10));
    }
}

#[test]
fn traces_reach_a_collector() {
    let Some(python) = python("traces_reach_a_collector") else { return };
    let project = project();
    let root = project.root();
    let receiver = Receiver::start(&python, &root);
    let file = root.join("homeostat.toml");
    let text = std::fs::read_to_string(&file).expect("the project's file");
    for protocol in ["grpc", "http"] {
        let port = &receiver.ports[protocol];
        let section = format!("[telemetry]\nendpoint = \"http://127.0.0.1:{port}\"\nprotocol = \"{protocol}\"");
        std::fs::write(&file, format!("{text}\n{section}\n")).expect("it can be written");
        let server = Server::start(&root);
        let spans = receiver.spans.to_string_lossy();
        run(&python, "otlp.py", &root, &["--spans", &spans, "--protocol", protocol]);
        server.stop();
    }
}

impl Receiver {
    /// The spans of a trace so far, by name.
    fn spans(&self, trace: &str) -> Vec<Value> {
        let said = std::fs::read_to_string(&self.spans).expect("its output");
        // The first line tells the ports; the last may still be written.
        let whole = said.rfind('\n').map_or("", |end| &said[..end]);
        let spans = whole.lines().skip(1).map(|line| serde_json::from_str(line).expect("a span"));
        spans.filter(|span: &Value| span["trace"] == trace).collect()
    }
}

/// Checks a run's span and those of its stages, and gives the run's.
fn run_of(spans: &[Value], name: &str) -> Value {
    let run = spans.iter().find(|span| span["name"] == name).unwrap_or_else(|| panic!("no {name}: {spans:#?}")).clone();
    let below: Vec<&Value> = spans.iter().filter(|span| span["parent"] == run["span"]).collect();
    let mut stages: Vec<(u64, &str)> = Vec::new();
    for span in below {
        assert!(
            span["start"].as_u64() >= run["start"].as_u64() && span["end"].as_u64() <= run["end"].as_u64(),
            "{span}"
        );
        stages.push((span["start"].as_u64().expect("a time"), span["name"].as_str().expect("a name")));
    }
    stages.sort_unstable();
    let names: Vec<&str> = stages.into_iter().map(|(_, name)| name).collect();
    let fits = ["read", "features", "fit linear", "calibrate", "features", "refit linear", "evaluate"];
    let ends = ["features", "refit on all rows linear", "evaluate", "register"];
    let expected: Vec<&str> = fits.into_iter().chain(ends).collect();
    assert_eq!(names, expected, "{spans:#?}");
    assert_eq!(run["attributes"]["homeostat.model"], "returned");
    run
}

#[test]
fn training_and_jobs_are_traced_like_requests() {
    let Some(python) = python("training_and_jobs_are_traced_like_requests") else { return };
    let project = Project::orders(2000);
    let root = project.root();
    let receiver = Receiver::start(&python, &root);
    let section = format!("endpoint = \"http://127.0.0.1:{}\"\nprotocol = \"http\"", receiver.ports["http"]);
    project.set("telemetry", &section);
    let (trace, caller) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let trained = Command::new(env!("CARGO_BIN_EXE_homeostat"))
        .args(["train", "--learner", "linear"])
        .current_dir(&root)
        .env("TRACEPARENT", format!("00-{trace}-{caller}-01"))
        .output()
        .expect("it starts");
    assert!(trained.status.success(), "{trained:?}");
    // The run ends only when its spans were sent.
    let run = run_of(&receiver.spans(trace), "train returned");
    assert_eq!((&run["parent"], &run["attributes"]["homeostat.version"]), (&Value::from(caller), &Value::from(1)));

    // A job that a server finds cut off, which it starts again.
    let order = r#"{"model": "returned", "learner": "linear", "seed": 4, "threads": 1, "log": null}"#;
    let kept = "import sqlite3, sys; catalog = sqlite3.connect(sys.argv[1]); catalog.execute(\"INSERT INTO jobs (id, \
                kind, model, state, at, request) VALUES ('cut-off', 'train', 'returned', 'running', \
                '2024-03-01T00:00:00Z', ?)\", [sys.argv[2]]); catalog.commit()";
    let done = Command::new(&python).args(["-c", kept]).arg(root.join(".homeostat/catalog.db")).arg(order).status();
    assert!(done.is_ok_and(|status| status.success()));
    let server = Server::start(&root);
    let deadline = Instant::now() + PATIENCE;
    let job = loop {
        let said = std::fs::read_to_string(&receiver.spans).expect("its output");
        let lines = said.lines().skip(1).filter_map(|line| serde_json::from_str::<Value>(line).ok());
        if let Some(job) = lines.filter(|span| span["name"] == "job train").last() {
            break job;
        }
        assert!(Instant::now() < deadline, "the job is traced");
        std::thread::sleep(Duration::from_millis(20));
    };
    let run = run_of(&receiver.spans(job["trace"].as_str().expect("a trace")), "train returned");
    assert_eq!(run["parent"], job["span"], "the process continues the server's trace");
    assert_eq!(
        (&job["attributes"]["homeostat.job"], &run["attributes"]["homeostat.job"]),
        (&"cut-off".into(), &"cut-off".into())
    );
    assert_eq!(job["attributes"]["homeostat.version"], 2);
    server.stop();
}
