//! How long a table takes: `fit`, `transform` (as one batch, and rows by themselves) or `validate`, on one thread.
//! `cargo run --release -p features --example table_rate -- FILE.parquet CONTRACT.json MODEL.json RECIPE TASK`
//! Prints one line of JSON, for benches/features. The rows are in memory, canonical and complete before a clock starts.

use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use features::{Observed, Pipeline, Recipe, Validator, canonical, target_values};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::error::Error;
use std::fs::File;
use std::hint::black_box;
use std::time::Instant;
use vocabulary::contract::Contract;
use vocabulary::model::ModelSpec;

type Fallible<T> = Result<T, Box<dyn Error>>;

/// Rows that are transformed one by one.
const SINGLES: usize = 200_000;

fn main() -> Fallible<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, contract, model, recipe, task] = arguments.as_slice() else {
        return Err("wanted: FILE.parquet CONTRACT.json MODEL.json trees|linear|network fit|transform|validate".into());
    };
    let contract: Contract = read_json(contract)?;
    let spec: ModelSpec = read_json(model)?;
    let recipe: Recipe = serde_json::from_value(Value::String(recipe.clone()))?;
    let rows = canonical(&read(file)?, &contract)?;
    let told = match task.as_str() {
        "validate" => validate(&contract, &rows)?,
        "fit" | "transform" => pipeline(&spec, &contract, recipe, &rows, task == "fit")?,
        other => return Err(format!("there is no task {other}").into()),
    };
    println!("{told}");
    Ok(())
}

fn read_json<T: DeserializeOwned>(path: &str) -> Fallible<T> {
    Ok(serde_json::from_reader(File::open(path).map_err(|error| format!("{path}: {error}"))?)?)
}

fn read(path: &str) -> Fallible<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?.build()?;
    let batches = reader.collect::<Result<Vec<_>, _>>()?;
    Ok(concat_batches(&batches.first().ok_or("no rows")?.schema(), &batches)?)
}

fn pipeline(
    spec: &ModelSpec,
    contract: &Contract,
    recipe: Recipe,
    rows: &RecordBatch,
    fit_alone: bool,
) -> Fallible<Value> {
    let target = target_values(spec, rows)?;
    let known: Vec<u32> = (0..target.len() as u32).filter(|row| !target[*row as usize].is_nan()).collect();
    let began = Clock::start();
    let pipeline = Pipeline::fit(spec, contract, recipe, rows, &known, &target, 1)?.pipeline;
    let [seconds, cpu_seconds] = began.seconds();
    let layout = pipeline.layout();
    let (dense, slots) = (layout.dense.len(), layout.slots.len());
    let mut told = json!({ "rows": rows.num_rows(), "dense": dense, "slots": slots });
    (told["seconds"], told["cpu_seconds"]) = (json!(seconds), json!(cpu_seconds));
    if fit_alone {
        return Ok(told);
    }
    let began = Clock::start();
    black_box(pipeline.transform(rows)?);
    let [seconds, cpu_seconds] = began.seconds();
    (told["seconds"], told["cpu_seconds"]) = (json!(seconds), json!(cpu_seconds));
    let singles: Vec<RecordBatch> = (0..rows.num_rows().min(4096)).map(|row| rows.slice(row, 1)).collect();
    let mut micros: Vec<f64> = Vec::with_capacity(SINGLES);
    for row in 0..SINGLES {
        let began = Instant::now();
        black_box(pipeline.transform(&singles[row % singles.len()])?);
        micros.push(began.elapsed().as_secs_f64() * 1e6);
    }
    micros.sort_by(f64::total_cmp);
    told["single_us_p50"] = json!(micros[SINGLES / 2]);
    told["single_us_p99"] = json!(micros[SINGLES * 99 / 100]);
    Ok(told)
}

fn validate(contract: &Contract, rows: &RecordBatch) -> Fallible<Value> {
    let began = Clock::start();
    let validator = Validator::new(contract, &[])?;
    let mut seen = Observed::default();
    validator.observe(rows, 0, &mut seen)?;
    let report = validator.report(&seen, None);
    let [seconds, cpu_seconds] = began.seconds();
    let broken: u64 = report.expectations.iter().map(|finding| finding.count).sum();
    Ok(json!({
        "rows": rows.num_rows(), "seconds": seconds, "cpu_seconds": cpu_seconds, "broken": broken,
        "expectations": report.expectations.len(),
    }))
}

/// Wall seconds, and those that this thread has run, from the kernel's scheduler.
struct Clock(Instant, Option<f64>);

impl Clock {
    fn start() -> Clock {
        Clock(Instant::now(), thread_seconds())
    }

    /// Where the kernel does not tell, the wall's twice.
    fn seconds(&self) -> [f64; 2] {
        let wall = self.0.elapsed().as_secs_f64();
        let thread = self.1.zip(thread_seconds()).map(|(before, now)| now - before);
        [wall, thread.unwrap_or(wall)]
    }
}

fn thread_seconds() -> Option<f64> {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(told.split_whitespace().next()?.parse::<f64>().ok()? / 1e9)
}
