//! How many events a second of one core's time the windows take in, and how long a look-up takes.
//! `cargo run --release -p features --example windows_rate [events] [keys]`

use features::windows::{Engine, Event, Key, Part, Value};
use serde_json::json;
use std::time::Instant;
use vocabulary::stream::StreamSpec;
use vocabulary::time::Timestamp;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: i64| arguments.next().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (events, keys) = (number(2_000_000), number(10_000));
    let plain = json!([{"name": "minute", "kind": "hopping", "size": "1m", "slide": "10s", "aggregate": [
        {"name": "events", "as": "count"},
        {"name": "mean", "of": "x", "as": "mean"},
        {"name": "max", "of": "x", "as": "max"},
    ]}]);
    let rich = json!([
        {"name": "hour", "kind": "sliding", "size": "1h", "tile": "1m", "aggregate": [
            {"name": "events", "as": "count"},
            {"name": "mean", "of": "x", "as": "mean"},
            {"name": "variance", "of": "x", "as": "variance"},
            {"name": "max", "of": "x", "as": "max"},
            {"name": "p90", "of": "x", "as": "quantile", "q": 0.9},
            {"name": "different", "of": "x", "as": "distinct"},
            {"name": "last", "of": "x", "as": "last", "k": 3},
            {"name": "decayed", "of": "x", "as": "decayed", "half_life": "10m"}]},
        {"name": "visit", "kind": "session", "gap": "5m", "aggregate": [{"name": "events", "as": "count"}]},
    ]);
    println!("{events} events of {keys} keys, 1000 a second of event time, up to 5 s out of order");
    measure("hopping 1m/10s: count, mean, max", &spec(plain.clone(), false), events, keys);
    measure("the same, duplicates dropped by id", &spec(plain, true), events, keys);
    measure("sliding 1h (60 tiles): 8 aggregates; sessions", &spec(rich, true), events / 4, keys / 20);
}

fn spec(windows: serde_json::Value, with_ids: bool) -> StreamSpec {
    let mut spec = json!({
        "name": "rate", "time": "at", "key": ["user"], "source": {"kind": "http"}, "out_of_order": "5s",
        "column": [
            {"name": "at", "type": "timestamp"}, {"name": "user", "type": "int"}, {"name": "id", "type": "int"},
            {"name": "x", "type": "float"},
        ],
        "window": windows,
    });
    if with_ids {
        spec["id"] = json!("id");
    }
    serde_json::from_value(spec).expect("the declaration is sound")
}

/// Multiplicative congruential numbers (Lehmer's, as in MINSTD), of which the upper bits are used.
fn next(state: &mut u64, below: i64) -> i64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    ((*state >> 33) as i64) % below
}

fn measure(name: &str, spec: &StreamSpec, events: i64, keys: i64) {
    let mut engine = Engine::new(spec).expect("the declaration is sound");
    let partition = engine.partition("only");
    let with_id = spec.id.is_some();
    let mut dice = 1;
    let made: Vec<Event> = (0..events)
        .map(|i| Event {
            time: Timestamp(1_700_000_000_000_000 + i * 1000 - next(&mut dice, 5_000_000)),
            known_at: None,
            key: Key::of([Part::Int(next(&mut dice, keys))]),
            id: with_id.then(|| Key::of([Part::Int(i)])),
            values: vec![Value::number(next(&mut dice, 1_000_000) as f64 / 100.0)],
        })
        .collect();
    let (wall, cpu) = (Instant::now(), cpu_seconds());
    let mut windows = 0;
    for event in &made {
        let _ = engine.push(partition, event);
        if event.time.0 % 64 == 0 {
            windows += engine.take_emitted().len();
        }
    }
    windows += engine.take_emitted().len();
    let (wall, cpu) = (wall.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let state = engine.to_bytes().len();
    println!("{name}");
    println!(
        "  {:.2} M events a CPU second ({:.2} M a second); {windows} windows emitted; state of {} keys and {} tiles: \
         {:.1} MB",
        events as f64 / cpu / 1e6,
        events as f64 / wall / 1e6,
        engine.sizes().keys,
        engine.sizes().tiles,
        state as f64 / 1e6
    );
    let mut row = Vec::new();
    let at = Timestamp(made[made.len() - 1].time.0 + 2_000_000);
    let mut nanos: Vec<u128> = (0..200_000)
        .map(|_| {
            let key = Key::of([Part::Int(next(&mut dice, keys))]);
            let begun = Instant::now();
            engine.lookup(&key, at, &mut row).expect("it is not too old");
            begun.elapsed().as_nanos()
        })
        .collect();
    nanos.sort_unstable();
    let place = |share: f64| nanos[((nanos.len() - 1) as f64 * share) as usize] as f64 / 1000.0;
    println!("  look-up: p50 {:.2} µs, p99 {:.2} µs, p99.9 {:.2} µs", place(0.5), place(0.99), place(0.999));
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
