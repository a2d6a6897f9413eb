//! Streams against the real binary: `kill -9` at seeded moments, a source that is faster than the stream, events that
//! are none.

use crate::support::{PATIENCE, Random, Server, homeostat, refused, text, told};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Runs that are cut off, of files and of a broker each; `HOMEOSTAT_STREAM_KILLS` asks for more.
const KILLS: usize = 10;

pub fn kills() -> usize {
    std::env::var("HOMEOSTAT_STREAM_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS)
}

/// Clicks of 500 users in order of time, but for one in fifty that is twice there, one in twenty that comes late, and one in a
/// hundred that comes too late.
pub fn clicks(count: usize) -> Vec<String> {
    let mut random = Random(23);
    let start = 1_709_200_000_000_i64;
    let mut events: Vec<(usize, String)> = Vec::new();
    for n in 0..count {
        let at = start + n as i64 * 250;
        let user = (500.0 * random.unit() * random.unit()) as u32;
        let price = (random.unit() * 10_000.0).floor() / 100.0;
        let event =
            json!({"id": format!("c{n}"), "at": instant(at), "user": format!("u{user}"), "price": price}).to_string();
        // 240 events are a minute.
        let place = match random.unit() {
            late if late < 0.01 => n + 20_000 + (5_000.0 * random.unit()) as usize,
            late if late < 0.06 => n + 300 + (1_000.0 * random.unit()) as usize,
            _ => n + (200.0 * random.unit()) as usize,
        };
        if random.unit() < 0.02 {
            events.push((place + (3_000.0 * random.unit()) as usize, event.clone()));
        }
        events.push((place, event));
    }
    events.sort_by_key(|(place, _)| *place);
    events.into_iter().map(|(_, event)| event).collect()
}

fn instant(ms: i64) -> String {
    let (days, ms) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // All of it lies within March 2024, whose first day is day 19,783.
    let (day, second) = (1 + days - 19_783, ms / 1000);
    let (month, day) = if day < 1 { (2, day + 29) } else { (3, day) };
    let (hour, minute) = (second / 3600, second / 60 % 60);
    format!("2024-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}.{:03}Z", second % 60, ms % 1000)
}

const WINDOWS: &str = r#"
[[column]]
name = "at"
type = "timestamp"
[[column]]
name = "user"
type = "string"
[[column]]
name = "id"
type = "string"
[[column]]
name = "price"
type = "float"

[[window]]
name = "minute"
kind = "tumbling"
size = "1m"
[[window.aggregate]]
name = "events"
as = "count"
[[window.aggregate]]
name = "paid"
of = "price"
as = "sum"

[[window]]
name = "hour"
kind = "hopping"
size = "1h"
slide = "15m"
[[window.aggregate]]
name = "median"
of = "price"
as = "quantile"
q = 0.5
[[window.aggregate]]
name = "recent"
of = "price"
as = "last"
k = 2
"#;

/// A project with one stream, `clicks`.
pub struct Clicks {
    folder: tempfile::TempDir,
}

impl Clicks {
    pub fn new(source: &str) -> Clicks {
        Clicks::with(source, "commit_every = \"20ms\"")
    }

    fn with(source: &str, more: &str) -> Clicks {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join("homeostat.toml"), "[project]\nname = \"clicks\"\n").expect("written");
        std::fs::create_dir(folder.path().join("streams")).expect("made");
        let text = format!(
            "name = \"clicks\"\ntime = \"at\"\nkey = [\"user\"]\nid = \"id\"\nout_of_order = \"1m\"\n\
             allowed_lateness = \"10m\"\n{more}\n[source]\n{source}\n{WINDOWS}"
        );
        std::fs::write(folder.path().join("streams/clicks.toml"), text).expect("written");
        Clicks { folder }
    }

    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    fn state(&self) -> PathBuf {
        self.root().join(".homeostat/streams/clicks")
    }

    /// The state's file and those of the tables: all that a stream leaves.
    pub fn left(&self) -> BTreeMap<String, Vec<u8>> {
        let mut left = BTreeMap::from([("state".to_owned(), std::fs::read(self.state().join("state")).expect("it"))]);
        for table in std::fs::read_dir(self.state().join("tables")).expect("tables") {
            let table = table.expect("a table").path();
            for part in std::fs::read_dir(&table).expect("parts") {
                let part = part.expect("a part").path();
                let name = part.strip_prefix(self.state()).expect("below").to_string_lossy().into_owned();
                left.insert(name, std::fs::read(&part).expect("a part"));
            }
        }
        left
    }

    fn begin(&self) -> Child {
        Command::new(env!("CARGO_BIN_EXE_homeostat"))
            .args(["stream", "run", "clicks", "--until-end"])
            .current_dir(self.root())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts")
    }

    /// One run to the end: its summary and how long it took.
    pub fn run(&self) -> (Value, Duration) {
        let begun = Instant::now();
        let summary = told(self.root(), &["stream", "run", "clicks", "--until-end"]);
        (summary, begun.elapsed())
    }

    /// Runs to the end, cut off with SIGKILL so many times before; `whole` is how long a run takes that is not, and
    /// `nothing` one that has nothing to do. How many were really cut off.
    pub fn cut_off(&self, times: usize, (whole, nothing): (Duration, Duration), seed: u64) -> usize {
        let mut random = Random(seed);
        let mut cut = 0;
        let share = whole.saturating_sub(nothing).div_f64(times as f64);
        for _ in 0..times {
            let mut child = self.begin();
            // Each goes on where the one before was committed: together they shall not come to the end.
            std::thread::sleep(nothing.mul_f64(0.8) + share.mul_f64(1.6 * random.unit()));
            if child.try_wait().expect("it can be asked").is_none() {
                cut += 1;
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        self.run();
        cut
    }
}

fn write_files(root: &Path, events: &[String]) {
    let folder = root.join("events");
    std::fs::create_dir_all(&folder).expect("made");
    for (n, part) in events.chunks(events.len() / 3 + 1).enumerate() {
        std::fs::write(folder.join(format!("{n}.jsonl")), part.join("\n") + "\n").expect("written");
    }
}

const FILES: &str = "kind = \"files\"\npath = \"events\"";

#[test]
fn a_stream_of_files_ends_with_the_same_bytes_however_often_it_was_killed() {
    let events = clicks(10_000 * kills());
    let calm = Clicks::new(FILES);
    write_files(calm.root(), &events);
    let (summary, whole) = calm.run();
    let count = |name: &str| summary[name].as_u64().unwrap_or_else(|| panic!("{name}: {summary}"));
    assert_eq!(summary["rows"].as_u64(), Some(events.len() as u64));
    assert_eq!(count("accepted") + count("duplicates") + count("too_late"), events.len() as u64, "{summary}");
    assert!(count("duplicates") > 500 && count("too_late") > 100 && count("late") > 500, "{summary}");
    assert!(count("corrected") > 100, "{summary}");
    assert_eq!(summary["lag"]["bytes"], json!(0), "{summary}");

    let expected = calm.left();
    let (_, nothing) = calm.run();
    let stormy = Clicks::new(FILES);
    write_files(stormy.root(), &events);
    let cut = stormy.cut_off(kills(), (whole, nothing), 5);
    assert!(cut > kills() / 2, "only {cut} runs were cut off");
    let found = stormy.left();
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (name, bytes) in &expected {
        assert!(found[name] == *bytes, "{name} differs");
    }
    // A run that had nothing to do changed nothing.
    assert!(calm.left() == expected);
}

#[test]
fn new_files_are_taken_in_and_closing_emits_what_is_left() {
    let events = clicks(3_000);
    let project = Clicks::new(FILES);
    write_files(project.root(), &events[..2_000]);
    let first = told(project.root(), &["stream", "run", "clicks", "--until-end"]);
    let at = "2024-02-29T10:00:00Z";
    let features = told(project.root(), &["stream", "features", "clicks", "--key", "u1", "--at", at]);
    assert!(features["features"]["hour_recent_1"].is_number(), "{features}");
    let never = told(project.root(), &["stream", "features", "clicks", "--key", "nobody", "--at", at]);
    assert_eq!(never["features"]["minute_events"], json!(0.0), "{never}");
    std::fs::write(project.root().join("events/9.jsonl"), events[2_000..].join("\n")).unwrap();
    let second = told(project.root(), &["stream", "run", "clicks", "--until-end", "--close"]);
    assert_eq!(second["rows"].as_u64(), Some(events.len() as u64 - 2_000));
    assert!(second["closed"].as_u64() > first["closed"].as_u64());
    let seen = told(project.root(), &["stream", "status", "clicks"]);
    let seen = &seen["streams"][0];
    assert_eq!(seen["accepted"], second["accepted"], "{seen}");
    assert_eq!(seen["state"], "stopped");
    let said = refused(project.root(), &["stream", "features", "clicks", "--key", "u1", "--at", at], 3);
    assert!(said.contains("the oldest instant"), "{said}");
    let said = refused(project.root(), &["stream", "run", "click", "--until-end"], 3);
    assert!(said.contains("did you mean \"clicks\"?"), "{said}");
}

#[test]
fn what_is_no_event_is_set_aside_with_its_reason_and_the_rest_is_counted() {
    let project = Clicks::new(FILES);
    let mut lines = clicks(100);
    let whole = lines.len();
    lines.insert(10, "{\"id\": \"x\", \"at\"".to_owned());
    lines.insert(20, "[1, 2]".to_owned());
    lines.insert(30, json!({"id": "y", "at": "yesterday", "user": 7, "price": 1}).to_string());
    lines.insert(40, json!({"id": "z", "at": "2024-02-29T10:00:00Z", "price": 1}).to_string());
    lines.insert(50, "  ".to_owned());
    std::fs::create_dir(project.root().join("events")).unwrap();
    std::fs::write(project.root().join("events/a.jsonl"), lines.join("\n")).unwrap();
    let summary = told(project.root(), &["stream", "run", "clicks", "--until-end"]);
    assert_eq!(summary["malformed"], 4, "{summary}");
    let counted = ["accepted", "duplicates", "too_late"].map(|name| summary[name].as_u64().unwrap());
    assert_eq!(counted.iter().sum::<u64>(), whole as u64, "{summary}");
    assert_eq!(summary["tables"]["not_counted"].as_u64(), Some(4 + counted[2]), "{summary}");

    // A table that lacks a column would do for no row.
    std::fs::write(project.root().join("events/b.csv"), "id,at,usr\n1,2024-02-29T10:00:00Z,u1\n").unwrap();
    let output = homeostat(project.root(), &["stream", "run", "clicks", "--until-end"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("b.csv") && said.contains("user"), "{said}");
}

#[test]
fn events_over_http_are_kept_before_they_are_acknowledged_and_looked_up_when_they_are_in() {
    let project = Clicks::new("kind = \"http\"");
    let events: Vec<Value> = clicks(4_000).iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let mut server = Server::start(project.root());
    let (mut sent, mut random) = (0, Random(3));
    let hand_in = |server: &Server, part: &[Value]| {
        std::panic::catch_unwind(|| server.post("/v1/events/clicks", &json!({ "events": part })))
    };
    wait("the spool is open", || hand_in(&server, &[]).is_ok_and(|(status, _)| status == 200));
    for part in events.chunks(100) {
        let (status, body) = hand_in(&server, part).expect("an answer");
        assert_eq!((status, body["accepted"].as_u64()), (200, Some(part.len() as u64)), "{body}");
        sent += part.len();
        if random.unit() < 0.1 {
            server.kill();
            server = Server::start(project.root());
            wait("the spool is open", || hand_in(&server, &[]).is_ok_and(|(status, _)| status == 200));
            // Whoever was not answered sends again.
            assert_eq!(hand_in(&server, part).expect("an answer").0, 200);
            sent += part.len();
        }
    }
    let counted = |server: &Server| {
        let stream = server.ok("/v1/streams")["streams"][0].clone();
        let sum = |names: &[&str]| names.iter().map(|name| stream[name].as_u64().unwrap()).sum::<u64>();
        (sum(&["accepted", "duplicates", "too_late"]), stream)
    };
    wait("all is taken in", || counted(&server).0 == sent as u64);
    let (_, stream) = counted(&server);
    assert_eq!(stream["state"], "running", "{stream}");
    let found = server.ok("/v1/streams/clicks/features?key=u1&at=2024-02-29T10:00:00Z");
    assert!(found["features"]["hour_recent_1"].is_number(), "{found}");
    assert_eq!(server.get("/v1/streams/clicks/features").0, 400);
    assert_eq!(server.get("/v1/streams/clicks/features?key=u1&at=soon").0, 400);
    let (status, body) = server.get("/v1/streams/clik/features?key=u1");
    assert!(status == 404 && body["error"].as_str().unwrap().contains("did you mean \"clicks\"?"), "{body}");
    let (status, body) = server.post("/v1/events/clik", &json!({ "events": [] }));
    assert!(status == 404 && body["error"].as_str().unwrap().contains("did you mean \"clicks\"?"), "{body}");
    let broken = json!({ "events": [events[0], {"id": "b", "at": 5, "price": "1"}] });
    let (status, body) = server.post("/v1/events/clicks", &broken);
    assert_eq!(status, 422, "{body}");
    let named: Vec<&str> = body["problems"].as_array().unwrap().iter().map(|p| p["column"].as_str().unwrap()).collect();
    assert!(["user", "at", "price"].iter().all(|column| named.contains(column)), "{body}");
    assert!(body["problems"].as_array().unwrap().iter().all(|p| p["row"] == 1), "{body}");
    let metrics = server.get("/metrics").1;
    let metrics = metrics.as_str().unwrap();
    for wanted in [
        "homeostat_stream_events_total{stream=\"clicks\",outcome=\"duplicate\"}",
        "homeostat_stream_lag_rows{stream=\"clicks\"} 0",
        "homeostat_stream_events_broken_total{stream=\"clicks\"} 1",
        "homeostat_stream_watermark_age_seconds{stream=\"clicks\"}",
    ] {
        assert!(metrics.contains(wanted), "{wanted} in {metrics}");
    }
    server.stop();
    // The same events, each once and in the same order, give the same windows.
    let seen = told(project.root(), &["stream", "status"])["streams"][0].clone();
    assert_eq!(seen["accepted"], stream["accepted"]);
}

#[test]
fn a_source_faster_than_the_stream_is_held_back_with_bounded_memory_and_nothing_lost() {
    // What waits is given back only with a commit: 128 kB each half second at most.
    let project = Clicks::with("kind = \"http\"\nspool_bytes_max = 131072", "commit_every = \"500ms\"");
    let events: Vec<Value> = clicks(8_000).iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let server = Server::start(project.root());
    let post = |part: &[Value]| server.post("/v1/events/clicks", &json!({ "events": part }));
    wait("the spool is open", || post(&[]).0 == 200);
    let (mut held_back, deadline) = (0, Instant::now() + PATIENCE);
    for part in events.chunks(50) {
        loop {
            assert!(Instant::now() < deadline, "it does not catch up");
            let (status, body) = post(part);
            match status {
                200 => break,
                429 => held_back += 1,
                _ => panic!("{status}: {body}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    assert!(held_back > 5, "the source was never held back");
    let kept: u64 = std::fs::read_dir(project.state().join("spool"))
        .unwrap()
        .map(|file| file.unwrap().metadata().map(|metadata| metadata.len()).unwrap_or(0))
        .sum();
    assert!(kept <= 131_072, "{kept} bytes wait");
    wait("all is taken in", || {
        let stream = server.ok("/v1/streams")["streams"][0].clone();
        assert!(stream["lag"]["rows"].is_u64(), "{stream}");
        let counted = ["accepted", "duplicates", "too_late"].map(|name| stream[name].as_u64().unwrap());
        counted.iter().sum::<u64>() == events.len() as u64
    });
    assert!(server.get("/metrics").1.as_str().unwrap().contains("homeostat_stream_events_contended_total"));
    assert!(server.peak_memory_bytes() < 400 << 20, "{}", server.peak_memory_bytes());
    let one = json!({ "events": [{"id": "x", "at": "2024-03-01T00:00:00Z", "user": "x".repeat(500), "price": 1,
        "more": "y".repeat(70_000)}] });
    assert_eq!(server.post("/v1/events/clicks", &one).0, 413);
    server.stop();
}

pub fn wait(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
