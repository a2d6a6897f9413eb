//! A stream's windows as inputs of a model, from the files to answers: trained as known then, looked up when served,
//! logged, replayed, and computed again from the history.

use crate::lifecycle::wait_ready;
use crate::streams::wait;
use crate::support::{Project, Server, homeostat, refused, text, told};
use serde_json::{Value, json};
use std::path::Path;

const STREAM: &str = r#"
name = "clicks"
time = "at"
key = ["shop"]
id = "id"
out_of_order = "1m"
allowed_lateness = "2h"
commit_every = "20ms"
[source]
kind = "files"
path = "events"
[[column]]
name = "at"
type = "timestamp"
[[column]]
name = "shop"
type = "string"
[[column]]
name = "id"
type = "string"
[[column]]
name = "spent"
type = "float"
[[window]]
name = "hours"
kind = "sliding"
size = "3h"
[[window.aggregate]]
name = "events"
as = "count"
[[window.aggregate]]
name = "spent"
of = "spent"
as = "sum"
[[window]]
name = "visit"
kind = "session"
gap = "40m"
[[window.aggregate]]
name = "newest"
of = "spent"
as = "last"
"#;

const WINDOWS: &str = "\n[[features.windows]]\nstream = \"clicks\"\nkey = [\"shop\"]\n";

/// The rows' grid of quarters of an hour, see `support::orders`.
fn instant(row: usize, minutes: usize) -> String {
    let (month, day, hour) = (1 + row / 2688, 1 + row / 96 % 28, row / 4 % 24);
    format!("2024-{month:02}-{day:02}T{hour:02}:{:02}:00Z", row % 4 * 15 + minutes)
}

fn event(row: usize) -> Value {
    let shop = ["north", "south", "web"][row % 3];
    json!({"id": format!("e{row}"), "at": instant(row, 5), "shop": shop, "spent": (row % 17) as f64 * 1.1})
}

fn write_events(root: &Path, name: &str, events: &[Value]) {
    let lines: Vec<String> = events.iter().map(Value::to_string).collect();
    // Under a name that counts for nothing first, so that it appears whole.
    let hidden = root.join("events").join(format!(".{name}"));
    std::fs::write(&hidden, lines.join("\n") + "\n").unwrap();
    std::fs::rename(hidden, root.join("events").join(name)).unwrap();
}

fn declared(rows: usize, windows: &str) -> Project {
    let project = Project::orders(rows);
    let root = project.root();
    std::fs::create_dir_all(root.join("streams")).unwrap();
    std::fs::create_dir_all(root.join("events")).unwrap();
    std::fs::write(root.join("streams/clicks.toml"), STREAM).unwrap();
    let path = root.join("models/returned.toml");
    let model = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, model + windows).unwrap();
    project
}

fn asked(row: usize, shop: &str) -> Value {
    json!({"order_id": format!("n{row}"), "at": instant(row, 12), "price": 20.0, "shop": shop, "express": false})
}

#[test]
fn windows_are_learned_from_as_known_then_and_answers_agree_with_the_history() {
    const ROWS: usize = 3000;
    let project = declared(ROWS, WINDOWS);
    let root = project.root();
    let said = refused(&root, &["check"], 3);
    assert!(said.contains("\"clicks\"") && said.contains("homeostat stream run clicks"), "{said}");

    let events: Vec<Value> = (0..ROWS).map(event).collect();
    write_events(&root, "a.jsonl", &events);
    let ran = told(&root, &["stream", "run", "clicks", "--until-end"]);
    assert_eq!((ran["accepted"].as_u64(), ran["history"]["events"].as_u64()), (Some(3000), Some(3000)), "{ran}");
    assert_eq!(told(&root, &["check", "--parity"])["models"]["returned"]["parity"]["trees"]["differences"], 0);
    told(&root, &["train"]);
    let shown = text(&homeostat(&root, &["show", "returned@1", "--pipeline"]).stdout);
    assert!(shown.contains("clicks.hours_spent") && shown.contains("clicks.visit_newest_1"), "{shown}");
    assert_eq!(told(&root, &["reproduce", "returned@1"])["same"], true);
    assert!(told(&root, &["evaluate", "returned@1", "--data", "../orders.csv"])["metrics"]["auc"].is_number());
    assert_eq!(told(&root, &["predict", "returned", "--data", "../orders.csv", "--out", "out.csv"])["rows"], ROWS);

    let server = Server::start(&root);
    wait_ready(&server);
    let accepted = || server.ok("/v1/streams")["streams"][0]["accepted"].as_u64();
    wait("the stream is open", || accepted() == Some(3000));
    let ask = |at: usize| server.predict(&["north", "south", "web", "nowhere"].map(|shop| asked(at, shop)));
    ask(ROWS - 1);
    // Late ones, duplicates, one that is too late, and those of the next hours.
    let mut more: Vec<Value> = (ROWS..ROWS + 6).map(event).collect();
    for (id, row) in [("l1", ROWS - 3), ("l2", ROWS - 2), ("old", ROWS - 100), ("l1", ROWS - 3), ("e2990", 2990)] {
        more.push(json!({"id": id, "at": instant(row, 7), "shop": "north", "spent": 100.5}));
    }
    write_events(&root, "b.jsonl", &more);
    wait("late events are in", || accepted() == Some(3008));
    ask(ROWS - 1);
    ask(ROWS + 5);
    // So far back that the stream has forgotten: answered all the same, and counted.
    ask(100);
    let (status, body) = server.post(
        "/v1/models/returned/predict",
        &json!({"rows": [{"order_id": "x", "at": instant(1, 0), "price": 1.0, "shop": "web", "express": true, "clicks.hours_spent": 1.0}]}),
    );
    assert_eq!(status, 422, "a caller can't say what a stream knows: {body}");
    let lookups = server.ok("/v1/streams")["streams"][0]["lookups"].clone();
    assert_eq!(lookups["too_old"], 4, "{lookups}");
    assert_eq!(lookups["known"].as_u64().unwrap() + lookups["behind"].as_u64().unwrap(), 12, "{lookups}");
    let metrics = server.get("/metrics").1;
    let wanted = "homeostat_stream_lookups_total{stream=\"clicks\",outcome=\"too_old\"} 4";
    assert!(metrics.as_str().unwrap().contains(wanted), "{metrics}");
    server.stop();

    assert_eq!(told(&root, &["replay", "--sample", "100"])["same"], 16);
    let online = told(&root, &["check", "--parity", "--online"]);
    let found = &online["online"]["returned"];
    assert_eq!(
        (&found["lookups"], &found["values"], &found["differences"]),
        (&json!(12), &json!(36), &json!(0)),
        "{online}"
    );
    assert_eq!((&found["missed"], &found["out_of_history"]), (&json!(4), &json!(0)), "{online}");

    // Another history: the same events, but one had another price.
    std::fs::remove_dir_all(root.join(".homeostat/streams/clicks")).unwrap();
    let mut changed = events.clone();
    changed[ROWS - 1 - (ROWS - 1) % 3]["spent"] = json!(7.25);
    write_events(&root, "a.jsonl", &changed);
    told(&root, &["stream", "run", "clicks", "--until-end"]);
    let output = homeostat(&root, &["check", "--parity", "--online"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("clicks.hours_spent was logged as") && said.contains("not all is well"), "{said}");
}

#[test]
fn a_stream_or_a_feature_that_is_not_there_is_named() {
    for (windows, wanted) in [
        ("\n[[features.windows]]\nstream = \"click\"\nkey = [\"shop\"]\n", "did you mean \"clicks\"?"),
        ("\n[[features.windows]]\nstream = \"clicks\"\nkey = [\"price\"]\n", "key column \"price\" is float"),
        (
            "\n[[features.windows]]\nstream = \"clicks\"\nkey = [\"shop\"]\nfeatures = [\"hour_spent\"]\n",
            "did you mean \"hours_spent\"?",
        ),
    ] {
        let project = declared(200, windows);
        let said = refused(&project.root(), &["check"], 3);
        assert!(said.contains(wanted) && said.contains("returned"), "{wanted} in {said}");
    }
}

#[test]
fn a_full_history_turns_events_away_and_an_old_part_makes_room() {
    let project = declared(200, "");
    let root = project.root();
    let limited = STREAM.replace("[source]", "[history]\nkeep = \"1d\"\nevents_max = 40000\n[source]");
    std::fs::write(root.join("streams/clicks.toml"), limited).unwrap();
    // A first part of one day, then days of which the first part is more than one behind.
    let at = |second: usize| {
        format!(
            "2024-01-{:02}T{:02}:{:02}:{:02}Z",
            1 + second / 86_400,
            second / 3600 % 24,
            second / 60 % 60,
            second % 60
        )
    };
    let event = |n: usize, second: usize| json!({"id": format!("e{n}"), "at": at(second), "shop": "web", "spent": 1.0});
    let crowd: Vec<Value> = (0..45_000).map(|n| event(n, n)).collect();
    write_events(&root, "a.jsonl", &crowd);
    let full = told(&root, &["stream", "run", "clicks", "--until-end"]);
    assert_eq!((full["accepted"].as_u64(), full["history"]["refused"].as_u64()), (Some(40_000), Some(5_000)), "{full}");
    assert_eq!(full["tables"]["not_counted"], 5_000, "{full}");
    let later: Vec<Value> = (45_000..45_010).map(|n| event(n, 5 * 86_400 + n)).collect();
    write_events(&root, "b.jsonl", &later);
    let room = told(&root, &["stream", "run", "clicks", "--until-end"]);
    // The one that moves the watermark finds the history full still.
    assert_eq!((room["accepted"].as_u64(), room["history"]["refused"].as_u64()), (Some(40_009), Some(5_001)), "{room}");
    assert_eq!(room["history"]["events"], 40_009 - 32_768, "{room}");
    let parts: Vec<_> = std::fs::read_dir(root.join(".homeostat/streams/clicks/tables/history")).unwrap().collect();
    assert_eq!(parts.len(), 1, "{parts:?}");
}
