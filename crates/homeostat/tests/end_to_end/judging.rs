//! Alarms that act: real drills against the running server, a webhook, a real Alertmanager and a real Prometheus.

use crate::support::{PATIENCE, Project, Server, homeostat, order, refused, request, text, told};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn wait<T>(what: &str, mut holds: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = holds() {
            return found;
        }
        assert!(Instant::now() < deadline, "in {PATIENCE:?} not: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A program that takes webhooks.
struct Webhook {
    address: String,
    got: Arc<Mutex<Vec<Value>>>,
}

impl Webhook {
    /// The first `failing` requests are answered with 500.
    fn start(mut failing: usize) -> Webhook {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/hook", listener.local_addr().unwrap());
        let got: Arc<Mutex<Vec<Value>>> = Arc::default();
        let kept = Arc::clone(&got);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let Some(body) = body_of(&mut stream) else { continue };
                let answer = if failing > 0 { "500 Not Now" } else { "200 OK" };
                if failing == 0 {
                    kept.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
                }
                failing = failing.saturating_sub(1);
                let _ = write!(stream, "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            }
        });
        Webhook { address, got }
    }

    fn wait_for(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        wait(what, || self.got.lock().unwrap().iter().find(|alert| is(alert)).cloned())
    }
}

fn body_of(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let (mut seen, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut buffer).ok()?;
        seen.extend_from_slice(&buffer[..read]);
        let head = seen.windows(4).position(|w| w == b"\r\n\r\n").map(|at| at + 4);
        if let Some(head) = head {
            let text = text(&seen[..head]).to_lowercase();
            let length: usize =
                text.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok())?;
            if seen.len() >= head + length {
                return Some(seen[head..head + length].to_vec());
            }
        }
        if read == 0 {
            return None;
        }
    }
}

/// A trained project whose loop looks five times a second, with this in its model's objective.
fn promising(objective: &str) -> Project {
    let project = Project::trained(1500);
    project.set("control", "every = \"200ms\"");
    let path = project.root().join("models/returned.toml");
    let model = std::fs::read_to_string(&path).unwrap();
    assert!(model.contains("[objective]"), "{model}");
    std::fs::write(&path, model.replace("[objective]\n", &format!("[objective]\n{objective}\n"))).unwrap();
    project
}

fn outcomes(server: &Server, predictions: &Value, value: impl Fn(&Value) -> u8) {
    let told: Vec<Value> = predictions["predictions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|given| json!({ "id": given["id"], "value": value(&given["label"]) }))
        .collect();
    let (status, answer) = server.post("/v1/outcomes", &json!({ "outcomes": told }));
    assert_eq!(status, 200, "{answer}");
}

fn actions(server: &Server) -> Vec<(String, String)> {
    let entries = server.ok("/v1/audit")["entries"].clone();
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap().to_owned();
    entries.as_array().unwrap().iter().map(|entry| (text(entry, "actor"), text(entry, "action"))).collect()
}

fn done(server: &Server, playbook: &str, action: &str) -> Option<()> {
    let actor = format!("playbook {playbook}#");
    actions(server).iter().any(|(by, what)| by.starts_with(&actor) && what == action).then_some(())
}

#[test]
fn a_bad_release_is_rolled_back_told_to_a_webhook_and_written_up() {
    let project = promising("accuracy = 0.3");
    let root = project.root();
    told(&root, &["train", "--seed", "2"]);
    let hook = Webhook::start(1);
    project.set("alerts", &format!("webhooks = [\"{}\"]", hook.address));
    let server = Server::start(&root);
    wait("the first version is live", || (server.get("/v2/health/ready").0 == 200).then_some(()));
    let live = server.ok("/v1/models/returned/routing")["live"]["version"].as_u64().unwrap();
    let other = 3 - live;
    told(&root, &["release", &format!("returned@{other}"), "--now"]);
    // The version that a person released at once turns out to be always wrong.
    let rows: Vec<Value> = (0..60).map(order).collect();
    let answered = server.predict(&rows);
    outcomes(&server, &answered, |label| u8::from(label == 0));
    wait("the playbook rolls back", || done(&server, "bad_release", "roll_back"));
    assert_eq!(server.ok("/v1/models/returned/routing")["live"]["version"], live);
    let paged = hook.wait_for("the webhook is told", |alert| alert["playbook"] == "bad_release");
    assert_eq!(
        (&paged["severity"], &paged["status"], &paged["kind"]),
        (&json!("page"), &json!("firing"), &json!("accuracy_burn"))
    );
    let listed = server.ok("/v1/incidents")["incidents"].clone();
    let incident = &listed[0];
    assert!(incident["actions"].as_array().unwrap().iter().any(|deed| deed["action"] == "roll_back"), "{incident}");
    let id = incident["id"].as_str().unwrap();
    let shown = server.ok(&format!("/v1/incidents/{id}"));
    assert!(shown["timeline"].as_array().unwrap().len() >= 3, "{shown}");
    assert_eq!(server.get("/v1/incidents/none").0, 404);
    let said = text(&homeostat(&root, &["incidents", id]).stdout);
    assert!(said.contains("accuracy_burn") && said.contains("roll_back"), "{said}");
    let metrics = text(&serde_json::to_vec(&server.get("/metrics").1).unwrap());
    assert!(metrics.contains("homeostat_alerts_total"), "{metrics}");
    server.stop();
    // Beside a server that does not run the files tell the same.
    assert_eq!(told(&root, &["incidents", id])["id"], id);
    let error = refused(&root, &["incidents", "returned-1970"], 3);
    assert!(error.contains("homeostat incidents"), "{error}");
}

#[test]
fn a_label_outage_stops_learning_until_outcomes_arrive_again() {
    let project = promising("outcomes_every = \"2s\"");
    let server = Server::start(&project.root());
    wait("it is ready", || (server.get("/v2/health/ready").0 == 200).then_some(()));
    let mut owed = Vec::new();
    wait("learning stops", || {
        owed.push(server.predict(&[order(owed.len())]));
        done(&server, "label_outage", "freeze")
    });
    assert_eq!(server.ok("/v1/models/returned/routing")["retraining_frozen"], true);
    // While they arrive steadily, the outage is over.
    wait("learning goes on", || {
        let answered = server.predict(&[order(1000 + owed.len())]);
        outcomes(&server, &answered, |_| 1);
        owed.push(answered);
        done(&server, "label_outage", "thaw")
    });
    assert_eq!(server.ok("/v1/models/returned/routing")["retraining_frozen"], false);
    let incidents = server.ok("/v1/incidents")["incidents"].clone();
    let closed = incidents.as_array().unwrap().iter().any(|incident| incident["closed"].is_string());
    assert!(closed, "{incidents}");
}

#[test]
fn a_disk_without_room_stops_learning_before_it_is_full() {
    let project = promising("");
    // More than any disk has: as if it were nearly full.
    project.set("control", "disk_free_min = 1152921504606846976");
    let server = Server::start(&project.root());
    wait("learning stops", || done(&server, "full_disk", "freeze"));
    wait("a person is told", || done(&server, "full_disk", "page"));
    server.predict(&[order(1)]);
}

#[test]
fn in_a_surge_tenants_of_less_weight_wait() {
    let project = promising("");
    let root = project.root();
    project.set("server", "requests_max = 1");
    let path = root.join("playbooks/surge.toml");
    let playbook = std::fs::read_to_string(&path).unwrap();
    let eager = playbook.replace("after = \"2m\"\n", "").replace("weight_below = 1.0", "weight_below = 2.0");
    std::fs::write(&path, eager).unwrap();
    let server = Server::start(&root);
    wait("it is ready", || (server.get("/v2/health/ready").0 == 200).then_some(()));
    let (over, port) = (AtomicBool::new(false), server.port);
    let rows: Vec<Value> = (0..500).map(order).collect();
    let body = json!({ "rows": rows }).to_string();
    let shed = std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    request(port, "POST", "/v1/models/returned/predict", body.as_bytes(), &[]);
                }
            });
        }
        let deadline = Instant::now() + PATIENCE;
        let shed = loop {
            let (status, said) = request(port, "POST", "/v1/models/returned/predict", body.as_bytes(), &[]);
            if status == 429 && said["error"].as_str().is_some_and(|error| error.contains("less weight")) {
                break true;
            }
            if Instant::now() > deadline {
                break false;
            }
        };
        over.store(true, Ordering::Relaxed);
        shed
    });
    assert!(shed, "nobody was told to wait: {:?}", actions(&server));
    wait("the audit log has it", || done(&server, "surge", "shed"));
}

#[test]
fn drills_say_whether_the_right_step_comes_in_time() {
    let project =
        promising("latency_target = 0.99\navailability = 0.999\noutcomes_every = \"1h\"\nrequests_every = \"30m\"");
    let root = project.root();
    for name in ["bad_release", "full_disk", "label_outage", "slow_dependency", "source_interruption", "surge"] {
        let drilled = told(&root, &["drill", name]);
        assert_eq!(drilled["passed"], true, "{name}: {drilled}");
    }
    let error = refused(&root, &["drill", "bad_relaese"], 3);
    assert!(error.contains("did you mean \"bad_release\"?"), "{error}");
    let path = root.join("playbooks/full_disk.toml");
    let playbook = std::fs::read_to_string(&path).unwrap();
    std::fs::write(
        &path,
        playbook
            .replace("step = \"freeze\"", "step = \"thaw\"")
            .replace("step = \"thaw\"\n\n[limits]", "step = \"notify\"\n\n[limits]"),
    )
    .unwrap();
    let failed = homeostat(&root, &["drill", "full_disk"]);
    assert_eq!(failed.status.code(), Some(1), "{}", text(&failed.stderr));
    std::fs::write(&path, playbook.replace("freeze", "retrain").replace("thaw", "notify")).unwrap();
    std::fs::write(
        root.join("playbooks/other.toml"),
        "name = \"other\"\n[when]\nfindings = [\"disk_full\"]\n[[do]]\nstep = \"freeze\"\n",
    )
    .unwrap();
    let error = refused(&root, &["drill", "full_disk"], 3);
    assert!(error.contains("on disk_full playbook"), "{error}");
}

#[test]
fn promises_come_from_an_openslo_file() {
    let project = Project::orders(300);
    let root = project.root();
    let slo = "apiVersion: openslo/v1\nkind: SLO\nmetadata:\n  name: returned-availability\nspec:\n  budgetingMethod: Occurrences\n  timeWindow:\n    - duration: 28d\n      isRolling: true\n  objectives:\n    - target: 0.995\n";
    std::fs::write(root.join("slo.yaml"), slo).unwrap();
    told(&root, &["import-slo", "slo.yaml"]);
    let model = std::fs::read_to_string(root.join("models/returned.toml")).unwrap();
    assert!(model.contains("availability = 0.995") && model.contains("period = \"4w\""), "{model}");
    std::fs::write(root.join("slo.yaml"), slo.replace("target: 0.995", "target: 1.0")).unwrap();
    let error = refused(&root, &["import-slo", "slo.yaml"], 3);
    assert!(error.contains("availability = 1 is outside"), "{error}");
}

/// A program from the system's packages; none, said aloud, where it is missing and not required.
fn service(program: &'static str, test: &str) -> Option<&'static str> {
    let there = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !there {
        let required = std::env::var("HOMEOSTAT_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
        assert!(!required, "{test}: {program} is missing, and HOMEOSTAT_REQUIRE_SERVICES=1; run `make services`");
        println!("skipped: {test}: {program} is missing; run `make services`");
    }
    there.then_some(program)
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(program: &str, args: &[String], port: u16) -> Running {
    let child = Command::new(program).args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let running = Running(child);
    wait("it listens", || TcpStream::connect(("127.0.0.1", port)).ok());
    running
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn file(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

#[test]
fn a_real_alertmanager_receives_alarms_and_their_end() {
    let Some(program) = service("prometheus-alertmanager", "alarms to Alertmanager") else { return };
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let config = file(folder.path(), "alertmanager.yml", "route:\n  receiver: none\nreceivers:\n  - name: none\n");
    let args = [
        format!("--config.file={config}"),
        format!("--storage.path={}", folder.path().join("state").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
        "--cluster.listen-address=".to_owned(),
    ];
    let _running = start(program, &args, port);
    let project = promising("outcomes_every = \"2s\"");
    project.set("alerts", &format!("alertmanager = [\"http://127.0.0.1:{port}\"]"));
    let server = Server::start(&project.root());
    wait("it is ready", || (server.get("/v2/health/ready").0 == 200).then_some(()));
    let alerts = || {
        let (status, all) = request(port, "GET", "/api/v2/alerts?active=true", b"", &[]);
        assert_eq!(status, 200, "{all}");
        all.as_array().unwrap().clone()
    };
    let about = |alert: &Value| alert["labels"]["alertname"] == "outcomes_silent";
    let mut asked = 0;
    let alert = wait("the alarm arrives", || {
        server.predict(&[order(asked)]);
        asked += 1;
        alerts().into_iter().find(about)
    });
    assert_eq!((&alert["labels"]["model"], &alert["labels"]["severity"]), (&json!("returned"), &json!("ticket")));
    assert!(alert["annotations"]["summary"].as_str().unwrap().contains("no outcome"), "{alert}");
    wait("its end arrives", || {
        let answered = server.predict(&[order(1000 + asked)]);
        asked += 1;
        outcomes(&server, &answered, |_| 1);
        (!alerts().iter().any(about)).then_some(())
    });
}

#[test]
fn a_real_prometheus_scrapes_everything() {
    let Some(program) = service("prometheus", "scraping by Prometheus") else { return };
    let project = promising("");
    let server = Server::start(&project.root());
    wait("it is ready", || (server.get("/v2/health/ready").0 == 200).then_some(()));
    server.predict(&[order(1), order(2)]);
    let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
    let config = format!(
        "global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: homeostat\n    static_configs:\n      - targets: ['127.0.0.1:{}']\n",
        server.port
    );
    let args = [
        format!("--config.file={}", file(folder.path(), "prometheus.yml", &config)),
        format!("--storage.tsdb.path={}", folder.path().join("state").display()),
        format!("--web.listen-address=127.0.0.1:{port}"),
    ];
    let _running = start(program, &args, port);
    let query = |query: &str| {
        let (_, answer) = request(port, "GET", &format!("/api/v1/query?query={query}"), b"", &[]);
        answer["data"]["result"][0]["value"][1].as_str().map(str::to_owned)
    };
    let seen = wait("it has scraped", || query("homeostat_predictions_total"));
    assert_eq!(seen, "2");
    assert_eq!(query("up").as_deref(), Some("1"));
}
