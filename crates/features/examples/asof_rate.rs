//! How long a point-in-time join takes: by default 3 million rows with the newest of 30 million that were known by then.
//! `cargo run --release -p features --example asof_rate [left rows] [right rows] [keys]`
//! The right rows are made batch by batch, so that no table of them is held; making them is not counted.

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use features::{Asof, AsofColumns};
use std::sync::Arc;
use std::time::{Duration, Instant};

const ROWS_A_BATCH: i64 = 8192;
const SPAN: i64 = 30_000_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: i64| arguments.next().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (left, right, keys) = (number(3_000_000), number(30_000_000), number(100_000));
    let mut dice = 7;
    let users: ArrayRef = Arc::new(Int64Array::from_iter_values((0..left).map(|_| next(&mut dice, keys))));
    let at: ArrayRef = instants((0..left).map(|_| next(&mut dice, SPAN)));
    let columns = AsofColumns {
        key: vec!["user".into()],
        time: "time".into(),
        known_at: Some("known".into()),
        values: vec!["price".into()],
    };
    let begun = Instant::now();
    let mut join = Asof::new(&[users], &at, columns, None)?;
    let prepared = begun.elapsed();
    let mut offered = Duration::ZERO;
    for from in (0..right).step_by(ROWS_A_BATCH as usize) {
        let rows = ROWS_A_BATCH.min(right - from);
        // In the order of their event times, as most tables are, each known up to ten seconds later.
        let times: Vec<i64> = (from..from + rows).map(|row| (row as f64 / right as f64 * SPAN as f64) as i64).collect();
        let known: Vec<i64> = times.iter().map(|time| time + next(&mut dice, 10_000_000)).collect();
        let users = Int64Array::from_iter_values((0..rows).map(|_| next(&mut dice, keys)));
        let prices = Float64Array::from_iter_values((0..rows).map(|_| next(&mut dice, 10_000) as f64 / 100.0));
        let batch = RecordBatch::try_from_iter([
            ("user", Arc::new(users) as ArrayRef),
            ("time", instants(times.into_iter())),
            ("known", instants(known.into_iter())),
            ("price", Arc::new(prices)),
        ])?;
        let begun = Instant::now();
        join.add(&batch)?;
        offered += begun.elapsed();
    }
    let begun = Instant::now();
    let (values, counts) = join.finish(&[Arc::new(Float64Array::from(Vec::<f64>::new()))])?;
    let finished = begun.elapsed();
    let found = values[0].len() - values[0].null_count();
    let total = prepared + offered + finished;
    println!("{left} left rows, {} right rows, {keys} keys: {found} found", counts.rows);
    println!(
        "  {:.2} s: left side {:.2} s, right side {:.2} s ({:.1} M rows a second), answers {:.2} s",
        total.as_secs_f64(),
        prepared.as_secs_f64(),
        offered.as_secs_f64(),
        right as f64 / offered.as_secs_f64() / 1e6,
        finished.as_secs_f64()
    );
    Ok(())
}

fn instants(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC"))
}

/// Multiplicative congruential numbers (Lehmer's, as in MINSTD), of which the upper bits are used.
fn next(state: &mut u64, below: i64) -> i64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    ((*state >> 33) as i64) % below
}
