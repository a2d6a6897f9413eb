//! How many rows a second one core learns with the `linear` learner, and how well: for a Parquet file whose columns are
//! canonical, with a time column `at` and a target `late`, the newest fifth as the test.
//!
//! `cargo run --release -p learning --example linear_rate -- FILE [key=value ...]`: `threads`, `epochs`, `rows`,
//! `cross` (such as `a*b,a*c`), `vw=FILE` (writes the same features as Vowpal Wabbit reads them), `stream=N` (streams the
//! file's rows N times over, each time later, as rows that need not fit into memory), and any key of `learner.linear`.

use arrow::array::AsArray;
use arrow::compute::concat_batches;
use arrow::datatypes::TimestampMicrosecondType;
use arrow::record_batch::RecordBatch;
use features::{InferHints, Pipeline, Recipe, infer_contract, target_values};
use learning::{
    Batches, LearnError, Limits, Phase, RowSource, StreamRequest, TrainRequest, Trained, train, train_streaming,
};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::{Arc, Mutex};
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
    let threads = options.get("threads").map_or(Ok(1), |threads| threads.parse())?;
    let most = options.get("rows").map_or(Ok(usize::MAX), |rows| rows.parse())?;
    let repeats = options.get("stream").map(|repeats| repeats.parse()).transpose()?;
    let rows = read(&path, if repeats.is_some() { 100_000 } else { most })?;
    let hints =
        InferHints { name: "rows".to_owned(), target: "late".to_owned(), time: Some("at".to_owned()), key: None };
    let contract = infer_contract(&rows, &hints)?;
    let spec = declaration(&options)?;
    if let Some(repeats) = repeats {
        let file = ParquetRecordBatchReaderBuilder::try_new(File::open(&path)?)?;
        let rows = file.metadata().file_metadata().num_rows() as u64;
        return stream(&spec, &contract, &Repeated { path, contract: &contract, rows, repeats }, threads);
    }
    let rows = features::canonical(&rows, &contract)?;
    if let Some(out) = options.get("vw") {
        return export(&spec, &contract, &rows, out);
    }
    learn(&spec, &contract, &rows, threads)
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
        if !["threads", "rows", "cross", "vw", "stream"].contains(&key.as_str()) {
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
    report(&trained);
    Ok(())
}

fn report(trained: &Trained) {
    let metric = |name| trained.metrics.get(name).unwrap_or(f64::NAN);
    println!("test: log loss {:.5}, AUC {:.5}; digest {}", metric("logloss"), metric("auc"), trained.digest);
}

/// A file's rows several times over, each time a year later.
struct Repeated<'a> {
    path: String,
    contract: &'a Contract,
    rows: u64,
    repeats: u64,
}

const YEAR_MICROS: i64 = 366 * 86_400_000_000;

impl Repeated<'_> {
    fn once(&self, repeat: u64, first: u64) -> Fallible<impl Iterator<Item = Fallible<RecordBatch>>> {
        let file = ParquetRecordBatchReaderBuilder::try_new(File::open(&self.path)?)?;
        let batches = file.with_offset(first as usize).with_batch_size(8192).build()?;
        Ok(batches.map(move |batch| {
            let batch = features::canonical(&batch?, self.contract)?;
            let at = batch.schema().index_of("at")?;
            let mut columns = batch.columns().to_vec();
            let times = columns[at].as_primitive::<TimestampMicrosecondType>();
            let later = times.unary::<_, TimestampMicrosecondType>(|time| time + YEAR_MICROS * repeat as i64);
            columns[at] = Arc::new(later.with_timezone("UTC"));
            Ok(RecordBatch::try_new(batch.schema(), columns)?)
        }))
    }
}

fn failed(error: Box<dyn Error>) -> LearnError {
    LearnError::Source(error.to_string().into())
}

impl RowSource for Repeated<'_> {
    fn pass(&self, first: u64) -> Result<Batches<'_>, LearnError> {
        let repeats = first / self.rows..self.repeats;
        Ok(Box::new(repeats.flat_map(move |repeat| -> Batches<'_> {
            match self.once(repeat, first.saturating_sub(repeat * self.rows)) {
                Ok(batches) => Box::new(batches.map(|batch| batch.map_err(failed))),
                Err(error) => Box::new(std::iter::once(Err(failed(error)))),
            }
        })))
    }
}

fn stream(spec: &ModelSpec, contract: &Contract, source: &Repeated<'_>, threads: usize) -> Fallible<()> {
    let start = Instant::now();
    let trained = train_streaming(&StreamRequest {
        spec,
        contract,
        source,
        limits: Limits::default(),
        seed: 1,
        threads,
        parent: None,
        earlier: &[],
        program: "0",
        progress: &|_| {},
        checkpoints: None,
    })?;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("no peak known");
    println!("{} rows learned, {} epochs kept", trained.manifest.rows_learned, trained.manifest.rounds);
    println!(
        "whole training: {:.2} s, {:.2} s of processor; {peak}",
        start.elapsed().as_secs_f64(),
        processor_seconds()
    );
    report(&trained);
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
    Ok(file.flush()?)
}
