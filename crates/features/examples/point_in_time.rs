//! A point-in-time join of two files beside its peers: for each question the newest fact of its key at or before its
//! instant. `cargo run --release -p features --example point_in_time -- LEFT.parquet RIGHT.parquet`
//! Prints one line of JSON, for benches/features. Both tables (`key`, `at`; `value` on the right) are in memory first.

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, RecordBatch};
use arrow::datatypes::Float64Type;
use features::{Asof, AsofColumns};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::json;
use std::error::Error;
use std::fs::File;
use std::sync::Arc;
use std::time::Instant;

const ROWS_A_BATCH: usize = 8192;

fn main() -> Result<(), Box<dyn Error>> {
    let files: Vec<String> = std::env::args().skip(1).collect();
    let [left, right] = files.as_slice() else { return Err("wanted: LEFT.parquet RIGHT.parquet".into()) };
    let (left, right) = (read(left, usize::MAX)?, read(right, ROWS_A_BATCH)?);
    let left = arrow::compute::concat_batches(&left.first().ok_or("no questions")?.schema(), &left)?;
    let column = |name: &str| left.column_by_name(name).cloned().ok_or_else(|| format!("no column \"{name}\""));
    let (key, at) = (column("key")?, column("at")?);
    let columns =
        AsofColumns { key: vec!["key".into()], time: "at".into(), known_at: None, values: vec!["value".into()] };
    let began = Instant::now();
    let mut join = Asof::new(&[key], &at, columns, None)?;
    for batch in &right {
        join.add(batch)?;
    }
    let empty: ArrayRef = Arc::new(Float64Array::from(Vec::<f64>::new()));
    let (values, _) = join.finish(&[empty])?;
    let seconds = began.elapsed().as_secs_f64();
    let values = values[0].as_primitive::<Float64Type>();
    let (matched, sum) = (values.len() - values.null_count(), values.iter().flatten().sum::<f64>());
    println!("{}", json!({ "rows": values.len(), "seconds": seconds, "matched": matched, "sum": sum }));
    Ok(())
}

fn read(path: &str, rows: usize) -> Result<Vec<RecordBatch>, Box<dyn Error>> {
    let file = ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?;
    Ok(file.with_batch_size(rows.min(1 << 20)).build()?.collect::<Result<Vec<_>, _>>()?)
}
