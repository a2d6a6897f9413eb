//! The loop on the bundled flights: a few weeks at full speed, killed in the middle, twice with the same outcome.

use crate::support::{PATIENCE, text};
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Long enough for a retraining, a trial and the first days of its newcomer.
const UNTIL: &str = "2013-04-24";

fn start(folder: &Path, threads: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_homeostat"))
        .args(["quickstart", "--dir", "flights", "--port", "0", "--until", UNTIL, "--exit-when-done", "--json"])
        .args(["--threads", threads])
        .current_dir(folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the quickstart starts")
}

fn finish(child: Child) -> Value {
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("one JSON document")
}

/// Kills the server once the loop's clock has passed `at`.
fn kill_server_after(folder: &Path, at: &str) {
    let deadline = Instant::now() + 10 * PATIENCE;
    loop {
        let clock = std::fs::read_to_string(folder.join("flights/.homeostat/clock")).unwrap_or_default();
        if clock.as_str() > at {
            break;
        }
        assert!(Instant::now() < deadline, "the clock stands at {clock:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let place: Value =
        serde_json::from_slice(&std::fs::read(folder.join("flights/.homeostat/server.json")).unwrap()).unwrap();
    let status = Command::new("kill").args(["-9", &place["pid"].to_string()]).status().unwrap();
    assert!(status.success());
}

#[test]
fn the_same_seed_decides_alike_even_when_the_server_is_killed_in_the_middle() {
    let (quiet, rough) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let undisturbed = finish(start(quiet.path(), "1"));
    assert_eq!(undisturbed["lost"], 0);
    assert_eq!(undisturbed["predictions"], undisturbed["replayed"]);
    assert!(undisturbed["retrainings"].as_u64().unwrap() >= 1, "{undisturbed}");

    let child = start(rough.path(), "2");
    kill_server_after(rough.path(), "2013-04-08T07");
    kill_server_after(rough.path(), "2013-04-11T06");
    kill_server_after(rough.path(), "2013-04-19T20");
    let disturbed = finish(child);
    for name in
        ["lost", "replayed", "predictions", "outcomes", "retrainings", "releases", "rollbacks", "versions", "metrics"]
    {
        assert_eq!(undisturbed[name], disturbed[name], "{name}");
    }
    let ids = |report: &Value| -> Vec<String> {
        report["alarms"].as_array().unwrap().iter().map(|alarm| format!("{} {}", alarm["id"], alarm["at"])).collect()
    };
    assert_eq!(ids(&undisturbed), ids(&disturbed));

    let replay = Command::new(env!("CARGO_BIN_EXE_homeostat"))
        .args(["replay", "--sample", "1000", "--json"])
        .current_dir(rough.path().join("flights"))
        .output()
        .unwrap();
    let replayed: Value = serde_json::from_slice(&replay.stdout).unwrap();
    assert_eq!((replayed["replayed"].as_u64(), replayed["same"].as_u64()), (Some(1000), Some(1000)));
}
