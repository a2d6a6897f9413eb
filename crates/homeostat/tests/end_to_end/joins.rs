//! Tables joined to a model's rows as they were known at each row's time, and the snapshot that names the set.

use crate::support::{Project, homeostat, refused, text, told};
use std::path::Path;

const JOINS: &str = r#"
[[data.joins]]
name = "rates"
file = "data/rates.csv"
on = { shop = "store" }
time = "since"
known_at = "published"
tolerance = "60d"
columns = { rate = "rate" }
"#;

/// Of each shop a rate each day, published the day after; some are corrected two days later.
fn rates(root: &Path, factor: f64) {
    let mut csv = String::from("store,since,published,rate\n");
    for day in 1..28 {
        for (place, shop) in ["north", "south", "web"].into_iter().enumerate() {
            let rate = factor * (day * 3 + place) as f64;
            csv.push_str(&format!("{shop},2024-01-{day:02}T00:00:00Z,2024-01-{:02}T00:00:00Z,{rate}\n", day + 1));
            if day % 5 == 0 {
                csv.push_str(&format!(
                    "{shop},2024-01-{day:02}T00:00:00Z,2024-01-{:02}T00:00:00Z,{}\n",
                    day + 3,
                    rate + 0.5
                ));
            }
        }
    }
    std::fs::write(root.join("data/rates.csv"), csv).unwrap();
}

fn declared() -> Project {
    let project = Project::orders(2000);
    let root = project.root();
    rates(&root, 1.0);
    let path = root.join("contracts/returned.toml");
    let contract = std::fs::read_to_string(&path)
        .unwrap_or_else(|_| panic!("{:?}", std::fs::read_dir(root.join("contracts")).unwrap().collect::<Vec<_>>()));
    std::fs::write(&path, contract + "\n[[column]]\nname = \"rate\"\ntype = \"float\"\n").unwrap();
    let path = root.join("models/returned.toml");
    let model = std::fs::read_to_string(&path).unwrap();
    std::fs::write(path, model + JOINS).unwrap();
    project
}

#[test]
fn a_table_is_joined_as_it_was_known_and_the_set_has_a_snapshot() {
    let project = declared();
    let root = project.root();
    let trained = told(&root, &["train"]);
    let shown = told(&root, &["show", "returned@1"]);
    let snapshot = shown["lineage"]["snapshot"].as_str().unwrap_or_else(|| panic!("{shown}")).to_owned();
    assert!(snapshot.len() == 64, "{snapshot}");
    let reads = text(&homeostat(&root, &["show", "returned@1", "--pipeline"]).stdout);
    assert!(reads.contains("rate"), "{reads}");
    let again = told(&root, &["train", "--snapshot", &snapshot[..12]]);
    // The same set and the same seed are the same version.
    assert_eq!((&again["version"], &again["digest"]), (&trained["version"], &trained["digest"]));
    let other = told(&root, &["train", "--snapshot", &snapshot, "--learner", "linear"]);
    assert_eq!(other["version"], "returned@2", "{other}");
    assert_eq!(told(&root, &["show", "returned@2"])["lineage"]["snapshot"], snapshot);
    assert_eq!(told(&root, &["reproduce", "returned@1"])["same"], true);
    let said = refused(&root, &["train", "--snapshot", "0123456789"], 3);
    assert!(said.contains("no version of model \"returned\" was made from snapshot 0123456789"), "{said}");

    rates(&root, 2.0);
    let said = refused(&root, &["train", "--snapshot", &snapshot], 3);
    assert!(said.contains("can't be made again") && said.contains("data file"), "{said}");
}

#[test]
fn a_join_of_what_is_not_there_is_named() {
    let project = declared();
    let root = project.root();
    let path = root.join("models/returned.toml");
    let model = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, model.replace("shop = \"store\"", "shp = \"store\"")).unwrap();
    let said = refused(&root, &["check"], 3);
    assert!(said.contains("data.joins \"rates\"") && said.contains("did you mean \"shop\"?"), "{said}");
    std::fs::write(&path, model.replace("time = \"since\"", "time = \"sinse\"")).unwrap();
    let output = homeostat(&root, &["check"]);
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(!output.status.success() && said.contains("did you mean \"since\"?"), "{said}");
}
