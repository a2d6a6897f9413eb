//! Events a second of one core's time through tumbling windows of a minute with count and mean, by key.
//! `cargo run --release -p features --example tumbling_rate -- [EVENTS] [KEYS]`
//! Prints one line of JSON, for benches/features: its events are made there by the same formula, and the sums over the
//! windows must agree.

use features::windows::{Engine, Event, Key, Part, Value};
use serde_json::json;
use std::time::Instant;
use vocabulary::stream::StreamSpec;
use vocabulary::time::Timestamp;

/// Events between two looks at the windows that closed.
const BETWEEN: usize = 1024;
/// 2023-11-14T22:00:00Z, a whole minute.
const START_US: i64 = 1_699_999_200_000_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let numbers = std::env::args().skip(1).map(|text| text.parse::<i64>()).collect::<Result<Vec<_>, _>>()?;
    let (events, keys) = (*numbers.first().unwrap_or(&2_000_000), *numbers.get(1).unwrap_or(&1000));
    let spec: StreamSpec = serde_json::from_value(json!({
        "name": "rate", "time": "at", "key": ["user"], "source": {"kind": "http"}, "out_of_order": "5s",
        "column": [
            {"name": "at", "type": "timestamp"}, {"name": "user", "type": "int"}, {"name": "x", "type": "float"},
        ],
        "window": [{"name": "minute", "kind": "tumbling", "size": "1m", "aggregate": [
            {"name": "events", "as": "count"}, {"name": "mean", "of": "x", "as": "mean"},
        ]}],
    }))?;
    let mut engine = Engine::new(&spec)?;
    let partition = engine.partition("only");
    let mut dice = 1;
    let made: Vec<Event> = (0..events)
        .map(|place| Event {
            time: Timestamp(START_US + place * 1000 - next(&mut dice, 5_000_000)),
            known_at: None,
            key: Key::of([Part::Int(next(&mut dice, keys))]),
            id: None,
            values: vec![Value::number(next(&mut dice, 1_000_000) as f64 / 100.0)],
        })
        .collect();
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    let (mut windows, mut counted) = (0u64, 0.0);
    let mut take = |engine: &mut Engine| {
        for emitted in engine.take_emitted() {
            windows += 1;
            counted += emitted.values.first().and_then(Value::as_number).unwrap_or_default();
        }
    };
    for (place, event) in made.iter().enumerate() {
        let _ = engine.push(partition, event);
        if place % BETWEEN == 0 {
            take(&mut engine);
        }
    }
    engine.end(partition);
    take(&mut engine);
    let (seconds, cpu_seconds) = (wall.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    println!(
        "{}",
        json!({
            "events": events, "keys": keys, "seconds": seconds, "cpu_seconds": cpu_seconds,
            "events_per_cpu_second": events as f64 / cpu_seconds, "windows": windows, "counted": counted,
        })
    );
    Ok(())
}

/// Knuth's MMIX generator, of which the upper bits are used.
fn next(state: &mut u64, below: i64) -> i64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    ((*state >> 33) as i64) % below
}

/// Seconds that this thread has run, from the kernel's scheduler; those of the wall clock where it does not tell.
fn cpu_seconds() -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = told.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    nanos.map_or_else(
        || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0.0, |t| t.as_secs_f64()),
        |nanos| nanos / 1e9,
    )
}
