//! How long the pipeline takes for one row and for a batch, over columns such as those of the flights example:
//! `cargo run --release -p features --example transform_rate`. Prints the median of several runs; knows no model.

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use features::{Pipeline, Recipe, canonical_schema};
use serde_json::json;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;
use vocabulary::contract::Contract;
use vocabulary::model::ModelSpec;

const ROWS: usize = 20_000;
const SINGLES: usize = 20_000;
const RUNS: usize = 7;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let contract = contract();
    let batch = batch(&contract)?;
    let target: Vec<f64> = (0..ROWS).map(|row| f64::from(u8::from(hash(row, 99).is_multiple_of(4)))).collect();
    let rows: Vec<u32> = (0..ROWS as u32).collect();
    println!("columns\trecipe\tdense\tslots\tone row, µs\ta row of a batch, µs");
    for (name, features) in [("flights", flights()), ("flights, encoded", encoded())] {
        let spec = spec(features);
        for recipe in [Recipe::Trees, Recipe::Linear, Recipe::Network] {
            let pipeline = Pipeline::fit(&spec, &contract, recipe, &batch, &rows, &target, 1)?.pipeline;
            let singles: Vec<RecordBatch> = (0..512).map(|row| batch.slice(row, 1)).collect();
            let single = median(|| {
                let start = Instant::now();
                for round in 0..SINGLES {
                    black_box(pipeline.transform(&singles[round % singles.len()]).expect("the batch fits"));
                }
                start.elapsed().as_secs_f64() * 1e6 / SINGLES as f64
            });
            let whole = median(|| {
                let start = Instant::now();
                black_box(pipeline.transform(&batch).expect("the batch fits"));
                start.elapsed().as_secs_f64() * 1e6 / ROWS as f64
            });
            let layout = pipeline.layout();
            let (dense, slots) = (layout.dense.len(), layout.slots.len());
            println!("{name}\t{recipe:?}\t{dense}\t{slots}\t{single:.3}\t{whole:.3}");
        }
    }
    Ok(())
}

fn median(mut run: impl FnMut() -> f64) -> f64 {
    let mut times: Vec<f64> = (0..RUNS).map(|_| run()).collect();
    times.sort_by(f64::total_cmp);
    times[RUNS / 2]
}

/// As the flights example declares them.
fn flights() -> serde_json::Value {
    json!({ "exclude": ["tailnum"],
        "time_parts": [{ "column": "sched_dep", "zone": "America/New_York", "parts": ["weekday"] }] })
}

/// With some of everything.
fn encoded() -> serde_json::Value {
    json!({
        "time_parts": [{ "column": "sched_dep", "zone": "America/New_York", "parts": ["weekday"] }],
        "expression": [
            { "name": "backlog", "sql": "origin_backlog + COALESCE(carrier_backlog, 0)" },
            { "name": "gusty", "sql": "wind_gust > 1.5 * wind_speed OR visib < 3" },
            { "name": "night", "sql": "EXTRACT(HOUR FROM (sched_dep AT TIME ZONE 'America/New_York')) NOT BETWEEN 6 AND 21" }
        ],
        "distance": [{ "name": "from_new_york", "from": ["dest_lat", "dest_lon"], "to": ["temp", "dewp"] }],
        "target_statistics": [{ "columns": ["carrier", "dest"] }],
        "counts": [{ "columns": ["tailnum"] }],
        "cyclic": [{ "column": "sched_dep", "zone": "America/New_York", "parts": ["hour", "month"] }]
    })
}

fn spec(features: serde_json::Value) -> ModelSpec {
    serde_json::from_value(json!({
        "name": "arrival", "contract": "flights", "task": "binary", "target": "late", "time": "event_time",
        "data": { "file": "x.parquet" }, "features": features
    }))
    .expect("the declaration is sound")
}

const FLOATS: [&str; 20] = [
    "dest_lat",
    "dest_lon",
    "temp",
    "dewp",
    "humid",
    "wind_dir",
    "wind_speed",
    "wind_gust",
    "precip",
    "pressure",
    "visib",
    "origin_delay",
    "origin_delayed_share",
    "carrier_delay",
    "dest_arrivals_delay",
    "arrivals_delay",
    "x1",
    "x2",
    "x3",
    "x4",
];
const INTS: [&str; 10] = [
    "late",
    "distance",
    "dep_minute",
    "scheduled_minutes",
    "dest_alt",
    "origin_scheduled",
    "origin_departures",
    "origin_backlog",
    "carrier_backlog",
    "tail_departure_delay",
];
const TEXTS: [(&str, usize); 4] = [("carrier", 16), ("origin", 3), ("dest", 100), ("tailnum", 4000)];
const INSTANTS: [&str; 2] = ["event_time", "sched_dep"];

fn contract() -> Contract {
    let kinds = FLOATS.map(|name| (name, "float")).into_iter();
    let kinds = kinds.chain(INTS.map(|name| (name, "int"))).chain(TEXTS.map(|(name, _)| (name, "string")));
    let columns: Vec<_> = kinds
        .chain(INSTANTS.map(|name| (name, "timestamp")))
        .map(|(name, kind)| json!({ "name": name, "type": kind }))
        .collect();
    serde_json::from_value(json!({ "name": "flights", "column": columns })).expect("the contract is sound")
}

fn batch(contract: &Contract) -> Result<RecordBatch, arrow::error::ArrowError> {
    let mut arrays: Vec<ArrayRef> = Vec::new();
    for place in 0..FLOATS.len() {
        let cell = |row| (!hash(row, place).is_multiple_of(20)).then(|| (hash(row, place) >> 40) as f64 / 1e5);
        arrays.push(Arc::new((0..ROWS).map(cell).collect::<Float64Array>()));
    }
    for place in 0..INTS.len() {
        arrays.push(Arc::new(Int64Array::from_iter_values((0..ROWS).map(|row| (hash(row, 50 + place) % 1000) as i64))));
    }
    for (place, (_, values)) in TEXTS.iter().enumerate() {
        let cell = |row| format!("N{:05}", hash(row, 80 + place) % *values as u64);
        arrays.push(Arc::new(StringArray::from_iter_values((0..ROWS).map(cell))));
    }
    for place in 0..INSTANTS.len() {
        let at = (0..ROWS).map(|row| 1_364_774_400_000_000 + (row + place * 7) as i64 * 300_000_000);
        arrays.push(Arc::new(TimestampMicrosecondArray::from_iter_values(at).with_timezone("UTC")));
    }
    RecordBatch::try_new(canonical_schema(contract), arrays)
}

fn hash(row: usize, salt: usize) -> u64 {
    let mut z = (row as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (salt as u64) << 32;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 27)
}
