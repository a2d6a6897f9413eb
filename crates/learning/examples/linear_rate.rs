//! How many rows a second one core learns with the `linear` learner, and how well: for a Parquet file whose columns are
//! canonical, with a time column `at` and a target `late`, the newest fifth as the test.
//!
//! `cargo run --release -p learning --example linear_rate -- FILE [key=value ...]`: `threads`, `epochs`, `rows`,
//! `cross` (such as `a*b,a*c`), `stream=yes`, `vw=FILE` (writes the same features as Vowpal Wabbit reads them), and any
//! key of `learner.linear`.

use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use features::{InferHints, Pipeline, Recipe, infer_contract, target_values};
use learning::{LearnError, Phase, TrainRequest, train};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::Mutex;
use std::time::Instant;
use vocabulary::model::LearnerKind;
use vocabulary::{Contract, ModelSpec};

type Fallible<T> = Result<T, Box<dyn Error>>;

fn main() -> Fallible<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("which Parquet file?")?;
    let options: BTreeMap<String, String> = arguments
        .filter_map(|pair| pair.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())))
        .collect();
    let rows = read(&path, options.get("rows").map_or(Ok(usize::MAX), |rows| rows.parse())?)?;
    let hints =
        InferHints { name: "rows".to_owned(), target: "late".to_owned(), time: Some("at".to_owned()), key: None };
    let contract = infer_contract(&rows, &hints)?;
    let rows = features::canonical(&rows, &contract)?;
    let spec = declaration(&options)?;
    if let Some(out) = options.get("vw") {
        return export(&spec, &contract, &rows, out);
    }
    learn(&spec, &contract, &rows, options.get("threads").map_or(Ok(1), |threads| threads.parse())?)
}

fn read(path: &str, most: usize) -> Fallible<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?.with_limit(most).build()?;
    let batches = reader.collect::<Result<Vec<_>, _>>()?;
    Ok(concat_batches(&batches.first().ok_or("no rows")?.schema(), &batches)?)
}

/// A declaration, with the keys of `learner.linear` that the command line gives.
fn declaration(options: &BTreeMap<String, String>) -> Fallible<ModelSpec> {
    let crosses: Vec<Vec<&str>> = options
        .get("cross")
        .map(|crosses| crosses.split(',').map(|cross| cross.split('*').collect()).collect())
        .unwrap_or_default();
    let mut linear = serde_json::Map::new();
    for (key, value) in options {
        if !["threads", "rows", "cross", "vw", "target"].contains(&key.as_str()) {
            let value = serde_json::from_str(value).unwrap_or_else(|_| serde_json::Value::String(value.clone()));
            linear.insert(key.clone(), value);
        }
    }
    Ok(serde_json::from_value(serde_json::json!({
        "name": "rate", "contract": "rows", "task": "binary", "target": "late", "time": "at",
        "data": {"file": "rows.parquet"},
        "features": {"cross": crosses},
        "learner": {"kind": "linear", "linear": linear},
        "split": {"test": 0.2, "validation": 0.05, "refit": false},
    }))?)
}

/// Seconds that all threads of this process have computed.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    // User and system time in hundredths, fields 14 and 15 of proc(5).
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

fn learn(spec: &ModelSpec, contract: &Contract, rows: &RecordBatch, threads: usize) -> Fallible<()> {
    let start = Instant::now();
    // When each phase began, and the epochs of fits: (phase, wall, processor, done).
    let seen = Mutex::new(Vec::new());
    let note = |progress: learning::Progress| {
        let at = (progress.phase, start.elapsed().as_secs_f64(), processor_seconds(), progress.done, progress.loss);
        seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(at);
    };
    let trained = train(&TrainRequest {
        spec,
        contract,
        rows,
        learner: LearnerKind::Linear,
        seed: 1,
        threads,
        parent: None,
        earlier: &[],
        start: None,
        teacher: None,
        program: "0",
        progress: &note,
        checkpoints: None,
    })?;
    let whole = (start.elapsed().as_secs_f64(), processor_seconds());
    let seen = seen.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    for (phase, wall, processor, done, loss) in &seen {
        println!(
            "{:>9} {done:>3}  {wall:>7.2} s  {processor:>7.2} s of processor  {}",
            phase.name(),
            loss.map_or(String::new(), |loss| format!("{loss:.5}"))
        );
    }
    // The epochs of the refit after its first: nothing but learning lies between them.
    let refits: Vec<_> = seen.iter().filter(|at| at.0 == Phase::Refit).collect();
    let learned = trained.manifest.rows_learned as f64;
    if let [first, .., last] = refits[..] {
        let epochs = (last.3 - first.3) as f64;
        println!(
            "learning alone: {:.0} rows a second, {:.0} a second of processor",
            learned * epochs / (last.1 - first.1),
            learned * epochs / (last.2 - first.2)
        );
    }
    let layout = &trained.manifest.layout;
    println!(
        "{learned} rows of {} dense columns and {} slots, {} epochs kept",
        layout.dense.len(),
        layout.slots.len(),
        trained.manifest.rounds
    );
    println!("whole training: {:.2} s, {:.2} s of processor", whole.0, whole.1);
    println!(
        "test: log loss {:.5}, AUC {:.5}; digest {}",
        trained.metrics.get("logloss").unwrap_or(f64::NAN),
        trained.metrics.get("auc").unwrap_or(f64::NAN),
        trained.digest
    );
    Ok(())
}

/// One line a row in the data's order, as Vowpal Wabbit reads it: slots are numbers, which it takes as they are.
fn export(spec: &ModelSpec, contract: &Contract, rows: &RecordBatch, out: &str) -> Fallible<()> {
    let target = target_values(spec, rows)?;
    let learned: Vec<u32> =
        (0..(rows.num_rows() * 4 / 5) as u32).filter(|row| !target[*row as usize].is_nan()).collect();
    let pipeline = Pipeline::fit(spec, contract, Recipe::Linear, rows, &learned, &target, 1)?.pipeline;
    let inputs = pipeline.transform(rows)?;
    let mut file = BufWriter::new(File::create(out)?);
    for (row, outcome) in target.iter().enumerate().filter(|(_, outcome)| !outcome.is_nan()) {
        write!(file, "{} |s", if *outcome == 1.0 { 1 } else { -1 })?;
        for slot in inputs.slot_row(row) {
            write!(file, " {slot}")?;
        }
        write!(file, " |d")?;
        for (at, value) in inputs.dense_row(row).iter().enumerate().filter(|(_, value)| **value != 0.0) {
            write!(file, " {at}:{value}")?;
        }
        writeln!(file)?;
    }
    file.flush().map_err(|error| LearnError::Source(error.into()).into())
}
