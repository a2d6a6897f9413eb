//! Contracts as a person meets them: a report on a file, rows set aside and their way back, a change beside a live model,
//! bad data before a training, a column that knows the outcome.

use crate::lifecycle::wait_ready;
use crate::support::{Project, Server, homeostat, order, orders, refused, text, told};
use arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch};
use arrow::datatypes::Float64Type;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use storage::parts::{Format, TableWriter};

/// Runs a command with `--json` that must end with status 1: done, and the answer is no.
fn denied(folder: &Path, args: &[&str]) -> Value {
    let mut args = args.to_vec();
    args.push("--json");
    let output = homeostat(folder, &args);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {}\n{}", text(&output.stderr), text(&output.stdout));
    serde_json::from_slice(&output.stdout).expect("a JSON document")
}

/// Changes the contract's file.
fn contract(root: &Path, edit: impl FnOnce(&mut toml::Table)) {
    let path = root.join("contracts/returned.toml");
    let mut table: toml::Table = std::fs::read_to_string(&path).unwrap().parse().unwrap();
    edit(&mut table);
    std::fs::write(path, toml::to_string(&table).unwrap()).unwrap();
}

fn column<'a>(contract: &'a mut toml::Table, name: &str) -> &'a mut toml::Table {
    let columns = contract["column"].as_array_mut().unwrap();
    let column = columns.iter_mut().find(|column| column["name"].as_str() == Some(name)).unwrap();
    column.as_table_mut().unwrap()
}

fn parsed(text: &str) -> toml::Table {
    text.parse().unwrap()
}

/// The orders with a price no order has, in two rows, and one unknown shop.
fn spoiled(rows: usize) -> String {
    let lines = orders(rows);
    let spoil = |(place, line): (usize, &str)| {
        let mut cells: Vec<String> = line.split(',').map(str::to_owned).collect();
        match place {
            11 | 18 => cells[2] = "-5.00".into(),
            21 => cells[3] = "moon".into(),
            _ => {}
        }
        cells.join(",") + "\n"
    };
    lines.lines().enumerate().map(spoil).collect()
}

fn setting_aside(root: &Path) {
    contract(root, |contract| {
        column(contract, "price").extend(parsed("range = [0.0, 200.0]\nrepair = \"quarantine\""));
        column(contract, "shop").extend(parsed("closed = true\nrepair = \"reject\""));
    });
}

#[test]
fn a_file_is_held_against_its_contract_and_the_report_can_be_read() {
    let project = Project::orders(500);
    let root = project.root();
    setting_aside(&root);
    assert_eq!(told(&root, &["check", "--data", "data/orders.csv"])["ok"], true);
    std::fs::write(root.join("bad.csv"), spoiled(500)).unwrap();
    let report = denied(&root, &["check", "--data", "bad.csv", "--html", "report.html"]);
    assert_eq!(
        (&report["rows"], &report["rejected_rows"], &report["quarantined_rows"]),
        (&json!(500), &json!(1), &json!(2))
    );
    let of = |name: &str, expectation: &str| {
        let all = report["expectations"].as_array().unwrap();
        all.iter().find(|e| e["name"] == name && e["expectation"] == expectation).unwrap().clone()
    };
    let range = of("price", "range");
    assert_eq!((&range["status"], &range["count"]), (&json!("refused"), &json!(2)));
    assert_eq!((&range["examples"][0]["row"], &range["examples"][0]["values"]["price"]), (&json!(10), &json!(-5.0)));
    assert_eq!(of("shop", "categories")["examples"][0]["values"]["shop"], "moon");
    let said = text(&homeostat(&root, &["check", "--data", "bad.csv"]).stdout);
    assert!(said.contains("price range: row 10 ") && said.contains("2 rows would be set aside"), "{said}");
    let page = std::fs::read_to_string(root.join("report.html")).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.contains("&quot;shop&quot;:&quot;moon&quot;"), "{page}");
    std::fs::write(root.join("other.csv"), "order_id,at,pice\nx,2024-01-01,1\n").unwrap();
    let unfit = denied(&root, &["check", "--data", "other.csv"]);
    assert!(unfit["error"].as_str().unwrap().contains("did you mean \"pice\"?"), "{unfit}");
}

#[test]
fn severity_depends_on_the_environment() {
    let project = Project::orders(500);
    let root = project.root();
    setting_aside(&root);
    contract(&root, |contract| {
        contract.extend(parsed("[environments.staging.severity]\nprice = \"warn\"\n\"shop.categories\" = \"warn\""));
    });
    std::fs::write(root.join("bad.csv"), spoiled(500)).unwrap();
    denied(&root, &["check", "--data", "bad.csv"]);
    let report = told(&root, &["check", "--data", "bad.csv", "--env", "staging"]);
    assert_eq!(
        (&report["rejected_rows"], &report["violations"]["counts"]["price"]["range"]["warned"]),
        (&json!(0), &json!(2))
    );
    assert!(refused(&root, &["check", "--env", "stagin"], 3).contains("did you mean \"staging\"?"));
    project.set("project", "environment = \"staging\"");
    assert_eq!(told(&root, &["check", "--data", "bad.csv"])["environment"], "staging");
}

/// Puts a good price into every row of a file of the quarantine.
fn correct(path: &Path) {
    let rows = storage::engine::read_file(path).unwrap();
    let place = rows.schema().index_of("price").unwrap();
    let mut columns = rows.columns().to_vec();
    let prices = columns[place].as_primitive::<Float64Type>();
    columns[place] = Arc::new(prices.iter().map(|_| Some(55.0)).collect::<Float64Array>()) as ArrayRef;
    let corrected = RecordBatch::try_new(rows.schema(), columns).unwrap();
    let mut writer = TableWriter::create(&path.with_extension("beside"), Format::Parquet, &corrected.schema()).unwrap();
    writer.write(&corrected).unwrap();
    writer.finish(path, &[]).unwrap();
}

#[test]
fn rows_that_were_set_aside_are_corrected_and_learned_from() {
    let project = Project::orders(1000);
    let root = project.root();
    setting_aside(&root);
    contract(&root, |contract| drop(column(contract, "shop").remove("closed")));
    std::fs::write(root.join("data/orders.csv"), spoiled(1000)).unwrap();
    assert_eq!(denied(&root, &["check"])["models"]["returned"]["refused"], 2);
    told(&root, &["train"]);
    let listed = told(&root, &["quarantine", "list"]);
    assert_eq!(
        (&listed[0]["rows"], &listed[0]["sources"], &listed[1]),
        (&json!(2), &json!(["data/orders.csv"]), &Value::Null)
    );
    let file = listed[0]["file"].as_str().unwrap().to_owned();
    let rows = told(&root, &["quarantine", "show", &file]);
    assert_eq!((&rows[0]["_row"], &rows[0]["price"]), (&json!(10), &json!(-5.0)));
    assert!(rows[0]["_reason"].as_str().unwrap().contains("-5 is outside 0 to 200"), "{rows}");

    // What is still wrong waits on; nothing is lost.
    let still = denied(&root, &["quarantine", "replay", &file]);
    assert_eq!((&still["passed"], still["left"].as_array().map(Vec::len)), (&json!(0), Some(2)));
    correct(&root.join(&file));
    let replayed = told(&root, &["quarantine", "replay", &file]);
    assert_eq!(replayed["passed"], 2);
    assert!(!root.join(&file).exists(), "no row of it waits any more");
    assert_eq!(told(&root, &["quarantine", "list"])[0]["state"], "corrected");

    let checked = told(&root, &["check"]);
    assert_eq!(checked["models"]["returned"]["validation"]["corrected_rows"], 2);
    told(&root, &["train"]);
    let lineage = |version: &str| told(&root, &["show", version])["lineage"].clone();
    let (first, second) = (lineage("returned@1"), lineage("returned@2"));
    assert_eq!(first["violations"]["quarantined_rows"], 2);
    assert_eq!(second["violations"]["quarantined_rows"], 0);
    assert_eq!(second["order"]["corrected"].as_array().map(Vec::len), Some(1));
    // The first knew nothing of the corrections, and comes out the same again.
    for version in ["returned@1", "returned@2"] {
        assert_eq!(told(&root, &["reproduce", version])["same"], true, "{version}");
    }
    assert_eq!(told(&root, &["quarantine", "list"]).as_array().map(Vec::len), Some(1), "nothing is set aside twice");
    let scored = denied(&root, &["predict", "returned@2", "--data", "data/orders.csv", "--out", "scored.csv"]);
    assert_eq!(scored["rows_refused"], 2, "batch scoring sets its own rows aside");
}

#[test]
fn bad_data_stop_a_training_with_the_reason() {
    let project = Project::orders(500);
    let root = project.root();
    contract(&root, |contract| {
        contract.extend(parsed("[table]\nrows_min = 600"));
        column(contract, "price").extend(parsed("null_share = 0.001"));
    });
    let said = refused(&root, &["train"], 3);
    for words in ["expected at least 600 rows, found 500 rows", "price null_share", "nothing is learned"] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
    assert_eq!(told(&root, &["versions"]), json!([]));
    contract(&root, |contract| {
        contract.extend(parsed("[environments.trial.severity]\nrows = \"warn\"\nprice = \"warn\""));
    });
    told(&root, &["train", "--env", "trial"]);
}

#[test]
fn a_request_that_breaks_a_rule_of_several_columns_is_told_each_of_them() {
    let project = Project::orders(1500);
    let root = project.root();
    contract(&root, |contract| {
        let rule =
            "[[check]]\nname = \"express_costs\"\nexpect = \"if express = true then price >= 10 and shop != 'moon'\"";
        contract.extend(parsed(rule));
        column(contract, "shop").extend(parsed("pattern = \"[a-z]+\"\nlength = [1, 8]"));
        column(contract, "express").extend(parsed("nulls = \"allow\""));
    });
    // A fifth of the express orders are cheaper: they are left out.
    told(&root, &["train"]);
    let server = Server::start(&root);
    wait_ready(&server);
    let path = "/v1/models/returned/predict";
    let mut row = order(1);
    row["price"] = json!(7.0);
    let (status, said) = server.post(path, &json!({ "rows": [order(0), row] }));
    assert_eq!(status, 422, "{said}");
    let columns: Vec<&str> =
        said["problems"].as_array().unwrap().iter().map(|problem| problem["column"].as_str().unwrap()).collect();
    assert_eq!(columns, ["express", "price", "shop"]);
    assert!(said["error"].as_str().unwrap().contains("check \"express_costs\" expects"), "{said}");
    row["express"] = json!(false);
    assert_eq!(server.post(path, &json!({ "rows": [row] })).0, 200);
    row["shop"] = json!("Web-shop-1");
    let (status, said) = server.post(path, &json!({ "rows": [row] }));
    assert_eq!((status, said["problems"].as_array().map(Vec::len)), (422, Some(2)), "{said}");
}

/// A change of the contract, and what a live version says of it: backward, forward, and words.
type Change = (&'static str, fn(&mut toml::Table), bool, bool, &'static str);

const CHANGES: [Change; 9] = [
    ("nothing", |_| {}, false, false, ""),
    (
        "add required",
        |c| add(c, "name = \"tax\"\ntype = \"float\"\nnulls = \"forbid\""),
        true,
        false,
        "write repair = \"default\" with a default",
    ),
    (
        "add with default",
        |c| {
            add(c, "name = \"tax\"\ntype = \"float\"\nnulls = \"forbid\"\nrepair = \"default\"\ndefault = 0.0");
        },
        false,
        false,
        "",
    ),
    ("add optional", |c| add(c, "name = \"tax\"\ntype = \"float\"\noptional = true"), false, false, ""),
    (
        "rename",
        |c| drop(column(c, "shop").insert("name".into(), "shop_name".into())),
        true,
        true,
        "aliases = [\"shop\"]",
    ),
    (
        "widen",
        |c| drop(column(c, "express").insert("nulls".into(), "allow".into())),
        false,
        true,
        "which returned@1 refuses",
    ),
    (
        "narrow",
        |c| column(c, "price").extend(parsed("range = [10.0, 20.0]\nrepair = \"reject\"")),
        true,
        false,
        "repair = \"clip\"",
    ),
    (
        "category",
        |c| column(c, "shop").extend(parsed("categories = [\"north\"]\nclosed = true")),
        true,
        false,
        "rows of returned@1 may hold",
    ),
    ("unit", |c| drop(column(c, "price").insert("unit".into(), "USD".into())), true, true, "was in EUR and is in USD"),
];

fn add(contract: &mut toml::Table, text: &str) {
    contract["column"].as_array_mut().unwrap().push(toml::Value::Table(parsed(text)));
}

#[test]
fn a_change_names_the_live_version_and_the_column_that_it_would_break() {
    let project = Project::orders(1000);
    let root = project.root();
    contract(&root, |contract| {
        column(contract, "shop").insert("nulls".into(), "forbid".into());
        column(contract, "express").insert("nulls".into(), "forbid".into());
        column(contract, "price").extend(parsed("unit = \"EUR\"\nrepair = \"reject\""));
    });
    told(&root, &["train"]);
    told(&root, &["release", "returned@1", "--now"]);
    let kept = std::fs::read_to_string(root.join("contracts/returned.toml")).unwrap();
    for (name, edit, backward, forward, words) in CHANGES {
        std::fs::write(root.join("contracts/returned.toml"), &kept).unwrap();
        contract(&root, edit);
        for (mode, is_bad) in [("backward", backward), ("forward", forward), ("full", backward || forward)] {
            contract(&root, |contract| drop(contract.insert("compatibility".into(), mode.into())));
            let output = homeostat(&root, &["check", "--json"]);
            let checked: Value = serde_json::from_slice(&output.stdout).expect("a JSON document");
            let changes = checked["compatibility"]["returned"]["changes"].as_array().unwrap();
            let forbidden: Vec<&Value> = changes.iter().filter(|change| change["forbidden"] == true).collect();
            assert_eq!(!forbidden.is_empty(), is_bad, "{name}, {mode}: {checked}");
            assert!(forbidden.iter().all(|change| change["version"] == "returned@1" && change["role"] == "live"));
            if is_bad {
                assert_eq!(output.status.code(), Some(1), "{name}, {mode}");
                let said = text(&homeostat(&root, &["check"]).stdout);
                assert!(said.contains("breaks returned@1 (live)") && said.contains(words), "{name}, {mode}: {said}");
            }
        }
    }
}

#[test]
fn a_column_renamed_with_an_alias_breaks_nobody() {
    let project = Project::trained(1500);
    let root = project.root();
    told(&root, &["release", "returned@1", "--now"]);
    contract(&root, |contract| {
        let shop = column(contract, "shop");
        shop.extend(parsed("name = \"shop_name\"\naliases = [\"shop\"]"));
        contract.extend(parsed("version = 2\ncompatibility = \"full\""));
        add(contract, "name = \"tax\"\ntype = \"float\"\noptional = true");
    });
    assert_eq!(told(&root, &["check"])["compatibility"]["returned"]["changes"], json!([]));
    let server = Server::start(&root);
    wait_ready(&server);
    let (old, mut new) = (order(3), order(3));
    let shop = new.as_object_mut().unwrap().remove("shop").unwrap();
    new["shop_name"] = shop;
    new["tax"] = json!(1.5);
    let answers = server.predict(&[old, new.clone()]);
    assert_eq!(answers["predictions"][0]["value"], answers["predictions"][1]["value"]);
    new["shpo"] = json!("web");
    assert_eq!(
        server.post("/v1/models/returned/predict", &json!({ "rows": [new] })).0,
        422,
        "a slip is none of the names"
    );
    server.stop();
    // The next version is trained under the new name, from the same file.
    told(&root, &["train"]);
    let scored = told(&root, &["predict", "returned@2", "--data", "data/orders.csv", "--out", "scored.csv"]);
    assert_eq!(scored["rows"], 1500);
}

#[test]
fn a_column_that_knows_the_outcome_is_caught() {
    let folder = tempfile::tempdir().unwrap();
    let csv: String = orders(1200)
        .lines()
        .enumerate()
        .map(|(place, line)| match (place, line.ends_with(",1")) {
            (0, _) => format!("{line},refund\n"),
            (_, true) => format!("{line},{}.50\n", place % 90 + 5),
            (_, false) => format!("{line},\n"),
        })
        .collect();
    std::fs::write(folder.path().join("orders.csv"), csv).unwrap();
    told(
        folder.path(),
        &["init", "shop", "--data", "orders.csv", "--target", "returned", "--time", "at", "--key", "order_id"],
    );
    let root = folder.path().join("shop");
    let checked = denied(&root, &["check"]);
    let leaks = checked["models"]["returned"]["leaks"].as_array().unwrap();
    assert_eq!((leaks.len(), &leaks[0]["column"], &leaks[0]["sign"]), (1, &json!("refund"), &json!("tells_target")));
    let said = text(&homeostat(&root, &["check"]).stdout);
    assert!(
        said.contains("column \"refund\" may know the outcome") && said.contains("exclude = [\"refund\"]"),
        "{said}"
    );
    let path = root.join("models/returned.toml");
    let mut model: toml::Table = std::fs::read_to_string(&path).unwrap().parse().unwrap();
    model.insert("features".into(), toml::Value::Table(parsed("exclude = [\"refund\"]")));
    std::fs::write(&path, toml::to_string(&model).unwrap()).unwrap();
    assert_eq!(told(&root, &["check"])["ok"], true);
}
