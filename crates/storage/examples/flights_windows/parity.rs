//! Departures as a stream in a seeded disorder, and what its windows said on-line beside the backfill of its history.
//! Knows no clock: an event's arrival is made from its time.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int32Type, TimestampMicrosecondType};
use features::windows::{Backfill, Counted, Engine, Event, EventTable, Key, Knowledge, Part, Pushed, Value};
use serde_json::json;
use std::collections::HashMap;
use std::path::Path;
use storage::StorageError;
use storage::parts::ParquetFile;
use vocabulary::Timestamp;
use vocabulary::stream::StreamSpec;

const MINUTE: i64 = 60_000_000;
const OUT_OF_ORDER: i64 = 15 * MINUTE;
const LATENESS: i64 = 120 * MINUTE;
const DAY: i64 = 1440 * MINUTE;

/// What was found.
#[derive(Debug, Default, PartialEq)]
pub struct Found {
    /// Departures, each once.
    pub events: usize,
    pub duplicates: Pair,
    pub very_late: Pair,
    /// Planted as late; accepted after the watermark had passed.
    pub late: Pair,
    /// Look-ups on-line, values compared, and those that differ.
    pub lookups: usize,
    pub values: usize,
    pub differences: usize,
    /// Events in the side table that were not planted there.
    pub astray: usize,
}

/// How many were planted, and how many the stream counted.
#[derive(Debug, Default, PartialEq)]
pub struct Pair {
    pub planted: usize,
    pub counted: usize,
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: i64) -> i64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % n as u64) as i64
    }
}

pub fn spec() -> StreamSpec {
    let spec = json!({
        "name": "departures", "time": "at", "key": ["origin", "carrier"], "id": "id", "source": {"kind": "http"},
        "out_of_order": "15m", "allowed_lateness": "2h",
        "column": [
            {"name": "at", "type": "timestamp"}, {"name": "origin", "type": "string"},
            {"name": "carrier", "type": "string"}, {"name": "id", "type": "int"},
            {"name": "delay", "type": "float"}, {"name": "dest", "type": "string"},
        ],
        "window": [
            {"name": "hours", "kind": "sliding", "size": "6h", "aggregate": [
                {"name": "departures", "as": "count"}, {"name": "delay", "of": "delay", "as": "mean"},
                {"name": "spread", "of": "delay", "as": "variance"}, {"name": "worst", "of": "delay", "as": "max"},
                {"name": "p90", "of": "delay", "as": "quantile", "q": 0.9},
                {"name": "places", "of": "dest", "as": "distinct"},
                {"name": "newest", "of": "delay", "as": "last", "k": 3},
                {"name": "recent", "of": "delay", "as": "decayed", "half_life": "2h"}]},
            {"name": "day", "kind": "hopping", "size": "1d", "slide": "1h", "aggregate": [
                {"name": "delay", "of": "delay", "as": "sum"}]},
            {"name": "rush", "kind": "session", "gap": "20m", "aggregate": [
                {"name": "departures", "as": "count"}, {"name": "dest", "of": "dest", "as": "last"}]},
        ],
    });
    serde_json::from_value(spec).expect("the declaration is sound")
}

/// Departures in the order of time, up to `most` of them.
pub fn departures(file: &Path, most: usize) -> Result<Vec<Event>, StorageError> {
    let columns = ["time_hour", "sched_dep_time", "dep_delay", "carrier", "origin", "dest"].map(str::to_owned);
    let file = ParquetFile::open(file)?;
    let mut events = Vec::new();
    for batch in file.batches(0..file.rows(), &columns)? {
        let batch = batch?;
        let column = |name: &str| batch.column_by_name(name).unwrap_or_else(|| panic!("the file has no column {name}"));
        let (hour, clock, delay) = (
            column("time_hour").as_primitive::<TimestampMicrosecondType>(),
            column("sched_dep_time").as_primitive::<Int32Type>(),
            column("dep_delay").as_primitive::<Int32Type>(),
        );
        let texts = |name: &str| column(name).as_string::<i32>();
        let (carrier, origin, dest) = (texts("carrier"), texts("origin"), texts("dest"));
        for row in (0..batch.num_rows()).filter(|row| delay.is_valid(*row)) {
            let late = i64::from(delay.value(row));
            let number = events.len() as i64;
            events.push(Event {
                time: Timestamp(hour.value(row) + (i64::from(clock.value(row) % 100) + late) * MINUTE),
                known_at: None,
                key: Key::of([Part::Text(origin.value(row)), Part::Text(carrier.value(row))]),
                id: Some(Key::of([Part::Int(number)])),
                values: vec![Value::number(late as f64), Value::Text(dest.value(row).into())],
            });
        }
        if events.len() >= most {
            break;
        }
    }
    events.truncate(most);
    events.sort_by_key(|event| event.time);
    Ok(events)
}

#[derive(Clone, Copy, PartialEq)]
enum Planted {
    Timely,
    Late,
    VeryLate,
    Duplicate,
}

/// The departures as they arrive: 5 % late, 1 % so late that they can't count, 2 % twice.
fn arrivals(events: &[Event], seed: u64) -> Vec<(Planted, Event)> {
    let mut random = Random(seed);
    let last = events.last().map_or(0, |event| event.time.0);
    // (place among the arrivals, when, what)
    let mut arrivals: Vec<((i64, i64), Planted, &Event)> = Vec::new();
    let after = |instant: i64| events.partition_point(|event| event.time.0 < instant) as i64;
    for event in events {
        let time = event.time.0;
        let dice = random.below(1000);
        let (planted, at, behind) = match dice {
            // Behind so many others that the watermark has surely passed.
            0..10 if time < last - DAY => {
                (Planted::VeryLate, time + OUT_OF_ORDER + LATENESS + (1 + random.below(300)) * MINUTE, 100)
            }
            10..60 => (Planted::Late, time + OUT_OF_ORDER + random.below(LATENESS - OUT_OF_ORDER), 0),
            _ => (Planted::Timely, time + random.below(OUT_OF_ORDER), 0),
        };
        arrivals.push(((after(at) + behind, at), planted, event));
        if planted == Planted::Timely && random.below(1000) < 20 {
            let again = at + random.below(30 * MINUTE);
            arrivals.push(((after(again), again), Planted::Duplicate, event));
        }
    }
    arrivals.sort_by_key(|(place, planted, event)| (*place, *planted == Planted::Duplicate, event.time));
    let mut now = i64::MIN;
    let arrived = |((_, at), planted, event): ((i64, i64), Planted, &Event)| {
        now = at.max(event.time.0).max(now + 1);
        (planted, Event { known_at: Some(Timestamp(now)), ..event.clone() })
    };
    arrivals.into_iter().map(arrived).collect()
}

/// Runs the stream, asking at each arrival what is known about the event's key just before it, and then asks the same
/// of the history as it was known then.
pub fn measure(events: &[Event], seed: u64) -> Found {
    let spec = spec();
    let mut engine = Engine::new(&spec).expect("the declaration is sound");
    let partition = engine.partition("only");
    let mut found = Found { events: events.len(), ..Found::default() };
    let mut kept: Vec<Counted> = Vec::new();
    let mut asked: HashMap<Key, Vec<(Timestamp, Vec<Value>)>> = HashMap::new();
    for (planted, event) in arrivals(events, seed) {
        let at = Timestamp(event.known_at.map_or(0, |at| at.0) - 1);
        let mut row = Vec::new();
        engine.lookup(&event.key, at, &mut row).expect("it is not too old");
        asked.entry(event.key.clone()).or_default().push((at, row));
        let late = engine.counters().late;
        let pushed = engine.push(partition, &event);
        engine.take_emitted();
        found.late.planted += usize::from(planted == Planted::Late);
        found.late.counted += (engine.counters().late - late) as usize;
        found.duplicates.planted += usize::from(planted == Planted::Duplicate);
        found.duplicates.counted += usize::from(pushed == Pushed::Duplicate);
        found.very_late.planted += usize::from(planted == Planted::VeryLate);
        found.very_late.counted += usize::from(pushed == Pushed::TooLate);
        found.astray += usize::from((pushed == Pushed::TooLate) != (planted == Planted::VeryLate));
        if pushed == Pushed::Accepted {
            kept.push(Counted { number: engine.counters().accepted, event });
        }
    }
    // Through the table, as the history on the disk is.
    let table = EventTable::new(&spec);
    let kept = table.read(&table.batch(&kept).expect("it is written")).expect("it is read");
    compare(&spec, &kept, &asked, &mut found);
    found
}

fn compare(spec: &StreamSpec, kept: &[Counted], asked: &HashMap<Key, Vec<(Timestamp, Vec<Value>)>>, found: &mut Found) {
    let backfill = Backfill::new(spec, Knowledge::AsKnownThen).expect("the declaration is sound");
    let mut by_key: HashMap<&Key, Vec<&Event>> = HashMap::new();
    for counted in kept {
        by_key.entry(&counted.event.key).or_default().push(&counted.event);
    }
    for (key, asked) in asked {
        let instants: Vec<Timestamp> = asked.iter().map(|(at, _)| *at).collect();
        let again = backfill.of_counted(by_key.entry(key).or_default(), &instants);
        for ((_, online), again) in asked.iter().zip(&again) {
            found.lookups += 1;
            found.values += online.len().max(again.len());
            let same = online.iter().zip(again).filter(|(a, b)| a.same(b)).count();
            found.differences += online.len().max(again.len()) - same;
        }
    }
}
