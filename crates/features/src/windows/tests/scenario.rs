//! Seeded streams: declarations and arrivals with disorder, duplicates, late and very late events, idle partitions.

use super::super::event::{Event, Value};
use super::super::key::{Key, Part};
use super::naive::UNIT;
use crate::hash::finish;
use serde_json::{Value as Json, json};
use vocabulary::stream::StreamSpec;
use vocabulary::time::Timestamp;

/// Numbers of a seed, one after the other.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub fn below(&mut self, n: i64) -> i64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (finish(self.0) % n as u64) as i64
    }

    pub fn one_in(&mut self, n: i64) -> bool {
        self.below(n) == 0
    }

    pub fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as i64) as usize]
    }
}

/// What happens to a stream.
#[derive(Clone, Debug)]
pub enum Step {
    Event(usize, Event),
    Idle(usize),
}

#[derive(Clone, Debug)]
pub struct Scenario {
    pub spec: StreamSpec,
    pub partitions: usize,
    pub keys: Vec<Key>,
    pub steps: Vec<Step>,
}

/// Every aggregate.
pub fn aggregates() -> Json {
    json!([
        {"name": "events", "as": "count"},
        {"name": "values", "of": "x", "as": "count"},
        {"name": "sum", "of": "x", "as": "sum"},
        {"name": "mean", "of": "x", "as": "mean"},
        {"name": "variance", "of": "x", "as": "variance"},
        {"name": "min", "of": "x", "as": "min"},
        {"name": "max", "of": "x", "as": "max"},
        {"name": "median", "of": "x", "as": "quantile", "q": 0.5},
        {"name": "p90", "of": "x", "as": "quantile", "q": 0.9},
        {"name": "words", "of": "word", "as": "distinct"},
        {"name": "different", "of": "x", "as": "distinct"},
        {"name": "newest", "of": "x", "as": "last", "k": 3},
        {"name": "word", "of": "word", "as": "last"},
        {"name": "decayed", "of": "x", "as": "decayed", "half_life": "40s"},
        {"name": "decayed_events", "as": "decayed", "half_life": "90s"},
    ])
}

pub fn spec(windows: Json, more: Json) -> StreamSpec {
    let mut spec = json!({
        "name": "clicks", "time": "at", "key": ["user"], "id": "id", "source": {"kind": "http"},
        "column": [
            {"name": "at", "type": "timestamp"}, {"name": "user", "type": "int"}, {"name": "id", "type": "int"},
            {"name": "x", "type": "float"}, {"name": "word", "type": "string"},
        ],
        "window": windows,
    });
    for (name, value) in more.as_object().unwrap() {
        spec[name] = value.clone();
    }
    serde_json::from_value(spec).unwrap()
}

pub fn event(time: i64, key: i64, id: Option<i64>, x: Value, word: Value) -> Event {
    Event {
        time: Timestamp(time),
        known_at: None,
        key: Key::of([Part::Int(key)]),
        id: id.map(|id| Key::of([Part::Int(id)])),
        values: vec![x, word],
    }
}

pub const SECOND: i64 = 1_000_000;

impl Scenario {
    pub fn new(seed: u64, events: usize) -> Scenario {
        let mut dice = Dice::new(seed);
        let spec = random_spec(&mut dice);
        assert_eq!(spec.problems(), Vec::new());
        let partitions = dice.of(&[1, 1, 2, 3]);
        let keys = dice.of(&[1, 2, 4]);
        // Before and after 1970.
        let mut now = dice.of(&[0, -3_000_000_000, 1_364_774_400_000_000, -7 * SECOND]);
        let disorder = dice.of(&[0, 1, 5, 20]) * SECOND;
        let pace = dice.of(&[SECOND / 3, 2 * SECOND, 9 * SECOND]);
        let with_ids = !dice.one_in(3);
        let late_by = dice.of(&[20, 60, 400]);
        let mut steps = Vec::new();
        let mut sent: Vec<(usize, Event)> = Vec::new();
        for i in 0..events {
            if with_ids && dice.one_in(12) && !sent.is_empty() {
                let (partition, event) = &sent[dice.below(sent.len() as i64) as usize];
                steps.push(Step::Event(*partition, event.clone()));
                continue;
            }
            if dice.one_in(25) {
                steps.push(Step::Idle(dice.below(partitions) as usize));
                continue;
            }
            now += dice.below(2 * pace + 1);
            if dice.one_in(40) {
                now += dice.below(200) * SECOND;
            }
            let late = if dice.one_in(6) { dice.below(late_by) * SECOND } else { dice.below(disorder + 1) };
            // Round times meet the edges of windows.
            let time = if dice.one_in(3) { (now - late).div_euclid(SECOND) * SECOND } else { now - late };
            let x =
                if dice.one_in(8) { Value::Null } else { Value::Number(dice.below(2001) as f64 * UNIT * 40.0 - 39.0) };
            let word = if dice.one_in(8) { Value::Null } else { Value::Text(dice.of(&["a", "b", "", "ö"]).into()) };
            let event = event(time, dice.below(keys), with_ids.then_some(i as i64), x, word);
            let partition = dice.below(partitions) as usize;
            sent.push((partition, event.clone()));
            steps.push(Step::Event(partition, event));
        }
        let keys = (0..=keys).map(|key| Key::of([Part::Int(key)])).collect();
        Scenario { spec, partitions: partitions as usize, keys, steps }
    }
}

fn random_spec(dice: &mut Dice) -> StreamSpec {
    let mut windows = Vec::new();
    for place in 0..dice.of(&[1, 1, 2, 3]) {
        let name = format!("w{place}");
        let aggregates = aggregates();
        windows.push(match dice.below(4) {
            0 => {
                let size = dice.of(&["10s", "1m", "7s"]);
                json!({"name": name, "kind": "tumbling", "size": size, "aggregate": aggregates})
            }
            1 => {
                let (size, slide) = dice.of(&[("1m", "10s"), ("30s", "30s"), ("25s", "10s"), ("2m", "5s")]);
                json!({"name": name, "kind": "hopping", "size": size, "slide": slide, "aggregate": aggregates})
            }
            2 => {
                let (size, tile) = dice.of(&[("1m", "10s"), ("2m", "5s"), ("30s", "30s"), ("12s", "1s")]);
                json!({"name": name, "kind": "sliding", "size": size, "tile": tile, "aggregate": aggregates})
            }
            _ => {
                let (gap, tile) = dice.of(&[("10s", "10s"), ("15s", "4s"), ("40s", "10s")]);
                json!({"name": name, "kind": "session", "gap": gap, "tile": tile, "aggregate": aggregates})
            }
        });
    }
    let lateness = dice.of(&["0s", "10s", "1m", "5m", "5m"]);
    let disorder = dice.of(&["0s", "3s", "20s"]);
    spec(Json::from(windows), json!({"allowed_lateness": lateness, "out_of_order": disorder}))
}
