//! The windows of a thousand seeded streams beside two recomputations from the words of the documentation alone: plain SQL
//! in DataFusion, and pandas. Each knows the arrivals and nothing of tiles: watermark, lateness, duplicates, windows and
//! look-ups are computed again.

#[path = "windows_reference/scenarios.rs"]
mod scenarios;
#[path = "windows_reference/tables.rs"]
mod tables;

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::datatypes::{Float64Type, Int64Type};
use datafusion::prelude::SessionContext;
use scenarios::Scenario;
use std::path::{Path, PathBuf};
use tables::{AGGREGATES, Line, Lines};

const SCENARIOS: i64 = 1000;

/// Rows of a query as they are compared: integers that say where, then the aggregates.
async fn lines(session: &SessionContext, sql: &str, places: usize) -> Lines {
    let batches = session.sql(sql).await.unwrap().collect().await.unwrap();
    let mut lines = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let place = (0..places).map(|i| batch.column(i).as_primitive::<Int64Type>().value(row)).collect();
            let value = |i: usize| {
                let column = batch.column(i);
                if column.is_null(row) {
                    return None;
                }
                Some(match column.as_primitive_opt::<Float64Type>() {
                    Some(numbers) => numbers.value(row),
                    None => column.as_primitive::<Int64Type>().value(row) as f64,
                })
            };
            lines.push((place, (places..batch.num_columns()).map(value).collect()));
        }
    }
    Lines::sorted(lines)
}

/// Bit for bit, but for the variance, whose last digits depend on the order of the sums.
fn assert_same(what: &str, found: &Lines, expected: &Lines) {
    let same = |(a, b): (&Line, &Line)| {
        let close = |(i, (a, b)): (usize, (&Option<f64>, &Option<f64>))| match (a, b) {
            (Some(a), Some(b)) if AGGREGATES.get(i) == Some(&"variance") => (a - b).abs() <= 1e-9 * b.abs().max(1.0),
            (a, b) => a.map(f64::to_bits) == b.map(f64::to_bits),
        };
        a.0 == b.0 && a.1.len() == b.1.len() && a.1.iter().zip(&b.1).enumerate().all(close)
    };
    if let Some((a, b)) = found.0.iter().zip(&expected.0).find(|(a, b)| !same((a, b))) {
        panic!("{what}: the engine says {a:?}, the recomputation {b:?}");
    }
    assert_eq!(found.0.len(), expected.0.len(), "{what}: as many from the engine as from the recomputation");
}

fn scenarios() -> Vec<Scenario> {
    (0..SCENARIOS).map(Scenario::new).collect()
}

#[tokio::test]
async fn sql_over_the_arrivals_says_the_same() {
    let scenarios = scenarios();
    let session = SessionContext::new();
    for (name, batch) in tables::batches(&scenarios) {
        session.register_batch(name, batch).unwrap();
    }
    let sql = include_str!("windows_reference/reference.sql");
    let query = |name: &str| {
        let (_, rest) = sql.split_once(&format!("-- view {name}\n")).unwrap();
        rest.split("-- view ").next().unwrap().to_owned()
    };
    for view in ["arrived", "judged", "accepted", "windows", "answers", "counts"] {
        let made = format!("create view {view} as {}", query(view));
        session.sql(&made).await.unwrap_or_else(|error| panic!("{view}: {error}")).collect().await.unwrap();
    }
    let counts = lines(&session, "select * from counts", 1).await;
    assert_same("counts", &tables::counts(&scenarios), &counts);
    assert_same("windows", &tables::windows(&scenarios), &lines(&session, "select * from windows", 4).await);
    assert_same("answers", &tables::answers(&scenarios), &lines(&session, "select * from answers", 2).await);
    // The scenarios hold what they are for.
    let total = |i: usize| counts.0.iter().filter_map(|(_, values)| values[i]).sum::<f64>();
    let [accepted, late, not_counted] = [total(0), total(1), total(2)];
    assert!(accepted > 30_000.0 && late > 3000.0 && not_counted > 3000.0, "{accepted} {late} {not_counted}");
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

#[test]
fn pandas_says_the_same() {
    let python = repository().join(".venv/bin/python");
    if !python.exists() {
        let required = std::env::var("HOMEOSTAT_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
        assert!(!required, ".venv is missing, and HOMEOSTAT_REQUIRE_SERVICES=1; run `make python`");
        println!("skipped: windows beside pandas (.venv is missing; run `make python`)");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let scenarios = scenarios();
    tables::write(&scenarios, folder.path());
    let script = repository().join("scripts/reference/windows.py");
    let run = || std::process::Command::new(&python).arg(&script).arg(folder.path()).output().unwrap();
    let told = run();
    let said = String::from_utf8_lossy(&told.stdout).into_owned() + &String::from_utf8_lossy(&told.stderr);
    assert!(told.status.success(), "{said}");
    assert!(said.contains(&format!("{SCENARIOS} streams")), "{said}");
    // It would say so if one answer were another.
    let path = folder.path().join("answers.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("\"events\":0.0", "\"events\":1.0", 1)).unwrap();
    assert!(!run().status.success(), "a changed answer passes");
}
