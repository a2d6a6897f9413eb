//! Data that need not fit into memory: training that reads its file in pieces, scoring that goes on where it was cut off.

use crate::support::{Project, homeostat, orders, refused, text, told};
use arrow::array::RecordBatch;
use arrow::compute::{concat_batches, take_record_batch};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use storage::parts::{Format, ParquetFile, TableWriter};

fn write(path: &Path, batches: &[RecordBatch]) {
    let mut writer =
        TableWriter::create(&path.with_extension("new"), Format::Parquet, &batches[0].schema()).expect("it is begun");
    batches.iter().for_each(|batch| writer.write(batch).expect("it is written"));
    writer.finish(path, &[]).expect("it is whole");
}

/// A project over a Parquet file of orders, and the file.
fn project(rows: usize) -> (Project, PathBuf) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("orders.csv"), orders(rows)).expect("the data can be written");
    let all = storage::engine::read_file(&folder.path().join("orders.csv")).expect("the data can be read");
    write(&folder.path().join("orders.parquet"), &[all]);
    let args =
        ["init", "shop", "--data", "orders.parquet", "--target", "returned", "--time", "at", "--key", "order_id"];
    told(folder.path(), &args);
    let file = folder.path().join("shop/data/orders.parquet");
    (Project { folder }, file)
}

/// A price beyond the contract's range in every tenth row, and the contract refuses such rows.
fn break_some(project: &Project, file: &Path) {
    let contract = project.root().join("contracts/returned.toml");
    let text = std::fs::read_to_string(&contract).unwrap();
    std::fs::write(contract, text.replace("repair = \"clip\"", "repair = \"reject\"")).unwrap();
    let all = storage::engine::read_file(file).unwrap();
    let (place, _) = all.schema().column_with_name("price").map(|(place, field)| (place, field.clone())).unwrap();
    let prices = all.column(place).as_any().downcast_ref::<arrow::array::Float64Array>().unwrap();
    let broken = prices.iter().enumerate().map(|(row, price)| if row % 10 == 3 { Some(1e9) } else { price });
    let mut columns = all.columns().to_vec();
    columns[place] = std::sync::Arc::new(broken.collect::<arrow::array::Float64Array>());
    write(file, &[RecordBatch::try_new(all.schema(), columns).unwrap()]);
}

#[test]
fn training_in_pieces_gives_the_same_bytes_again_on_any_number_of_threads() {
    let (project, file) = project(20_000);
    break_some(&project, &file);
    let root = project.root();
    let train = |threads: &str, more: &[&str]| {
        let args = [&["train", "--learner", "linear", "--threads", threads], more].concat();
        told(&root, &args)
    };
    let first = train("1", &["--stream"]);
    assert!(first["metrics"]["auc"].as_f64().unwrap() > 0.65, "{first}");
    assert_eq!(train("2", &["--stream"])["digest"], first["digest"]);
    let shown = told(&root, &["show", "returned@1"]);
    assert_eq!(shown["lineage"]["streamed"], true);
    assert_eq!(shown["lineage"]["violations"]["rejected_rows"], 2000);
    assert_eq!(told(&root, &["reproduce", "returned@1", "--threads", "2"])["same"], true);

    // Loaded whole, unless the file is too large for that.
    let loaded = train("0", &[]);
    assert_ne!(loaded["digest"], first["digest"]);
    assert_eq!(told(&root, &["show", "returned@2"])["lineage"]["streamed"], false);
    project.set("engine", "load_bytes_max = 100000");
    assert_eq!(train("0", &[])["digest"], first["digest"]);
    assert_eq!(told(&root, &["reproduce", "returned@2"])["same"], true, "as it was made, whatever is declared now");

    // A part of the time, known by then.
    let until = train("2", &["--to", "2024-05-01T00:00:00Z", "--stream"]);
    assert!(until["rows"].as_u64() < first["rows"].as_u64(), "{until}");
    let number = until["version"].as_str().unwrap();
    assert_eq!(told(&root, &["reproduce", number])["same"], true);
}

#[test]
fn what_cannot_be_read_in_pieces_is_refused_in_words() {
    let (project, file) = project(3000);
    let root = project.root();
    let said = refused(&root, &["train", "--learner", "trees", "--stream"], 3);
    assert!(said.contains("--stream") && said.contains("linear") && said.contains("trees"), "{said}");
    let all = storage::engine::read_file(&file).unwrap();
    let backwards = arrow::array::UInt32Array::from_iter_values((0..all.num_rows() as u32).rev());
    write(&file, &[take_record_batch(&all, &backwards).unwrap()]);
    told(&root, &["train", "--learner", "linear"]);
    let said = refused(&root, &["train", "--learner", "linear", "--stream"], 3);
    assert!(said.contains("not sorted") && said.contains("\"at\"") && said.contains("orders.parquet"), "{said}");
    write(&file, &[all.project(&[0, 1, 3, 4, 5]).unwrap()]);
    let said = refused(&root, &["train", "--learner", "linear", "--stream"], 3);
    assert!(said.contains("\"price\" is missing"), "{said}");
}

fn begin(root: &Path, out: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_homeostat"))
        .args(["predict", "returned@1", "--data", "data/many.parquet", "--out", out])
        .current_dir(root)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts")
}

fn parts(root: &Path, out: &str) -> usize {
    std::fs::read_dir(root.join(format!("{out}.parts"))).map_or(0, |entries| {
        entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with("part-")).count()
    })
}

/// Begins scoring and, with some more parts done, cuts it off; gives what it said.
fn cut_off(root: &Path, out: &str, signal: &str) -> String {
    let (before, deadline) = (parts(root, out), Instant::now() + crate::support::PATIENCE);
    let mut child = begin(root, out);
    while parts(root, out) < before + 3 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be cut off");
        assert!(Instant::now() < deadline, "no part was done");
        std::thread::sleep(Duration::from_millis(1));
    }
    Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill runs");
    let output = child.wait_with_output().expect("it ends");
    assert!(!output.status.success() && !root.join(out).exists(), "{out}: nothing before all is done");
    text(&output.stderr)
}

#[test]
fn scoring_that_is_cut_off_goes_on_and_gives_the_same_file() {
    let (project, file) = project(3000);
    let root = project.root();
    told(&root, &["train", "--learner", "linear"]);
    let all = storage::engine::read_file(&file).unwrap();
    write(&root.join("data/many.parquet"), &vec![all; 40]);
    let predict = |out: &str| told(&root, &["predict", "returned@1", "--data", "data/many.parquet", "--out", out]);
    predict("at-once.parquet");
    project.set("engine", "scoring_rows = 500");
    let undisturbed = predict("undisturbed.parquet");
    assert_eq!((&undisturbed["rows"], &undisturbed["rows_before"]), (&json!(120_000), &json!(0)));

    cut_off(&root, "scored.parquet", "-9");
    let said = cut_off(&root, "scored.parquet", "-TERM");
    assert!(said.contains("of 120000 rows") && said.contains("goes on"), "{said}");
    let done = parts(&root, "scored.parquet");
    let resumed = predict("scored.parquet");
    assert_eq!(resumed["rows_before"], 500 * done);
    let bytes = |name: &str| std::fs::read(root.join(name)).unwrap();
    assert!(bytes("scored.parquet") == bytes("undisturbed.parquet"));
    assert!(!root.join("scored.parquet.parts").exists());

    let rows = |name: &str| {
        let file = ParquetFile::open(&root.join(name)).unwrap();
        let columns: Vec<String> = file.schema().fields().iter().map(|field| field.name().clone()).collect();
        let batches: Vec<RecordBatch> = file.batches(0..file.rows(), &columns).unwrap().map(Result::unwrap).collect();
        concat_batches(file.schema(), &batches).unwrap()
    };
    assert_eq!(rows("scored.parquet"), rows("at-once.parquet"), "to the bit, however it is cut");

    // Another version begins anew, and a table of text holds the same.
    cut_off(&root, "scored.csv", "-9");
    told(&root, &["train", "--learner", "linear", "--seed", "2"]);
    let other: Value = told(&root, &["predict", "returned@2", "--data", "data/many.parquet", "--out", "scored.csv"]);
    assert_eq!(other["rows_before"], 0);
    let csv = std::fs::read_to_string(root.join("scored.csv")).unwrap();
    assert_eq!(csv.lines().count(), 120_001);
    assert!(csv.starts_with("row,key,value,version\n0,o0,") && csv.contains("\n119999,o2999,"), "{}", &csv[..100]);
}

#[test]
fn an_answer_is_the_same_from_any_kind_of_file() {
    let (project, _) = project(3000);
    let root = project.root();
    told(&root, &["train", "--learner", "linear"]);
    for (data, out) in [("data/orders.parquet", "a.csv"), ("../orders.csv", "b.csv")] {
        told(&root, &["predict", "returned@1", "--data", data, "--out", out]);
    }
    let text = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    assert_eq!(text("a.csv"), text("b.csv"));
    let output = homeostat(&root, &["predict", "returned@1", "--data", "data/orders.parquet", "--out", "c.xlsx"]);
    assert_eq!(output.status.code(), Some(3));
}
