//! Declared encodings from the model's file to answers: trained, shown, checked and served on raw columns.

use crate::lifecycle::wait_ready;
use crate::support::{Project, Server, homeostat, order, refused, text, told};

const ENCODINGS: &str = r#"
[[features.expression]]
name = "dear_express"
sql = "CASE WHEN express THEN COALESCE(price, 0.0) ELSE 0.0 END"

[[features.expression]]
name = "place"
sql = "UPPER(shop) || '-' || CASE WHEN EXTRACT(HOUR FROM (at AT TIME ZONE 'Europe/Berlin')) < 12 THEN 'am' ELSE 'pm' END"

[[features.target_statistics]]
columns = ["shop", "express"]
smoothing = 10

[[features.counts]]
columns = ["place"]
gives = ["log", "share"]

[[features.recency]]
columns = ["shop"]
delay = "2h"
most = "30d"

[[features.cyclic]]
column = "at"
zone = "Europe/Berlin"
parts = ["hour", "weekday"]

[[features.text]]
column = "shop"
slots = 8
characters = [3]
"#;

fn declare(project: &Project, more: &str) {
    let path = project.root().join("models/returned.toml");
    let model = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, model + more).unwrap();
}

#[test]
fn encodings_are_trained_shown_and_served_on_raw_columns() {
    let project = Project::orders(3000);
    let root = project.root();
    declare(&project, ENCODINGS);
    let checked = told(&root, &["check", "--parity", "--collisions"]);
    assert_eq!(checked["models"]["returned"]["parity"]["trees"]["differences"], 0);
    assert!(checked["models"]["returned"]["collisions"]["trees"]["columns"]["shop:text"]["values"].as_u64() > Some(3));

    let more = ["check", "--parity", "--rows", "9000", "--perturb", "7"];
    let checked = told(&root, &more);
    let found = &checked["models"]["returned"]["parity"]["trees"];
    assert_eq!(found["rows"], 9000, "three times the data set: {found}");
    assert_eq!((found["differences"].as_u64(), found["perturb"].as_u64()), (Some(0), Some(7)), "{found}");
    assert_eq!(told(&root, &more), checked, "the seed says which cells are changed");

    let trained = told(&root, &["train"]);
    assert!(trained["metrics"]["auc"].as_f64().unwrap() > 0.65, "{trained}");
    let (dot, svg) = (root.join("pipeline.dot"), root.join("pipeline.svg"));
    let files = [dot.to_str().unwrap(), svg.to_str().unwrap()];
    let shown = told(&root, &["show", "returned@1", "--pipeline", "--dot", files[0], "--svg", files[1]]);
    let steps = shown["steps"].as_array().unwrap();
    let step =
        |name: &str| steps.iter().find(|step| step["step"] == name).unwrap_or_else(|| panic!("{name} in {shown}"));
    assert_eq!(step("target mean")["dense"][0], "shop*express:target");
    assert_eq!(step("count")["reads"][0], "place");
    assert_eq!(step("recency")["dense"][0], "shop:since");
    assert_eq!(step("circle")["dense"].as_array().unwrap().len(), 4);
    assert!(std::fs::read_to_string(dot).unwrap().contains("dear_express"));
    assert!(std::fs::read_to_string(svg).unwrap().ends_with("</svg>\n"));
    let table = text(&homeostat(&root, &["show", "returned@1", "--pipeline"]).stdout);
    assert!(table.contains("reads") && table.contains("smoothed by 10 rows"), "{table}");

    told(&root, &["train", "--learner", "linear"]);
    told(&root, &["export", "returned@1", "--out", "returned.onnx"]);

    let server = Server::start(&root);
    wait_ready(&server);
    let rows: Vec<_> = (0..5).map(order).collect();
    let together = server.predict(&rows);
    for (place, row) in rows.iter().enumerate() {
        let alone = server.predict(std::slice::from_ref(row));
        assert_eq!(alone["predictions"][0]["value"], together["predictions"][place]["value"]);
    }
}

#[test]
fn a_wrong_expression_is_named_with_its_place() {
    let project = Project::orders(300);
    declare(&project, "\n[[features.expression]]\nname = \"net\"\nsql = \"price * 0.8 - returned\"\n");
    let said = refused(&project.root(), &["check"], 3);
    assert!(said.contains("features.expression \"net\": at character 15: column \"returned\" is not there"), "{said}");
}
