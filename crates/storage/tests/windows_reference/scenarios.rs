//! Seeded streams with one window each: arrivals with disorder, duplicates, late and very late events and idle
//! partitions, look-ups between them, and what the engine made of it all.

use features::windows::{Emission, Engine, Event, Key, Part, Partition, Pushed, Value};
use serde_json::json;
use std::collections::BTreeMap;
use vocabulary::stream::StreamSpec;
use vocabulary::time::Timestamp;

pub const SECOND: i64 = 1_000_000;
/// A time after 1970, so that remainders need no care in SQL.
const START: i64 = 1_700_000_000 * SECOND;

/// One window, of lengths in microseconds; what does not apply is 0.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub kind: &'static str,
    pub size: i64,
    /// The size for tumbling windows.
    pub slide: i64,
    pub tile: i64,
    pub gap: i64,
}

#[derive(Clone, Debug)]
pub struct Arrival {
    pub sequence: i64,
    pub partition: i64,
    /// None where the partition is told to be idle.
    pub event: Option<Happened>,
}

#[derive(Clone, Debug)]
pub struct Happened {
    pub time: i64,
    pub key: i64,
    pub id: Option<i64>,
    pub x: Option<f64>,
    pub word: Option<&'static str>,
}

#[derive(Clone, Debug)]
pub struct Answer {
    /// Of the arrivals, those with a lower number had come.
    pub sequence: i64,
    pub key: i64,
    pub at: i64,
    pub values: Vec<Option<f64>>,
}

pub struct Emitted {
    pub end: i64,
    pub values: Vec<Option<f64>>,
}

pub struct Scenario {
    pub seed: i64,
    pub shape: Shape,
    pub lateness: i64,
    pub out_of_order: i64,
    pub partitions: i64,
    pub arrivals: Vec<Arrival>,
    pub answers: Vec<Answer>,
    /// What was emitted and not withdrawn or corrected later, by key and start.
    pub windows: BTreeMap<(i64, i64), Emitted>,
    pub accepted: u64,
    pub late: u64,
    pub not_counted: u64,
}

/// splitmix64 (Steele, Lea & Flood 2014).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: i64) -> i64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % n as u64) as i64
    }

    fn one_in(&mut self, n: i64) -> bool {
        self.below(n) == 0
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as i64) as usize]
    }

    fn shape(&mut self) -> Shape {
        let none = Shape { kind: "", size: 0, slide: 0, tile: 0, gap: 0 };
        match self.below(4) {
            0 => {
                let size = self.of(&[7, 10, 60]) * SECOND;
                Shape { kind: "tumbling", size, slide: size, ..none }
            }
            1 => {
                let (size, slide) = self.of(&[(60, 10), (30, 30), (25, 10), (120, 5)]);
                Shape { kind: "hopping", size: size * SECOND, slide: slide * SECOND, ..none }
            }
            2 => {
                let (size, tile) = self.of(&[(60, 10), (120, 5), (30, 30), (12, 1)]);
                Shape { kind: "sliding", size: size * SECOND, tile: tile * SECOND, ..none }
            }
            _ => {
                let (gap, tile) = self.of(&[(10, 10), (15, 4), (40, 10)]);
                Shape { kind: "session", gap: gap * SECOND, tile: tile * SECOND, ..none }
            }
        }
    }
}

impl Shape {
    fn declared(&self) -> serde_json::Value {
        let aggregates = json!([
            {"name": "events", "as": "count"}, {"name": "values", "of": "x", "as": "count"},
            {"name": "sum", "of": "x", "as": "sum"}, {"name": "mean", "of": "x", "as": "mean"},
            {"name": "variance", "of": "x", "as": "variance"}, {"name": "min", "of": "x", "as": "min"},
            {"name": "max", "of": "x", "as": "max"}, {"name": "words", "of": "word", "as": "distinct"},
            {"name": "newest", "of": "x", "as": "last"},
        ]);
        let mut window = json!({"name": "w", "kind": self.kind, "aggregate": aggregates});
        let lengths = [
            ("size", self.size),
            ("slide", if self.kind == "hopping" { self.slide } else { 0 }),
            ("tile", self.tile),
            ("gap", self.gap),
        ];
        for (name, length) in lengths.into_iter().filter(|(_, length)| *length > 0) {
            window[name] = json!(format!("{}s", length / SECOND));
        }
        window
    }
}

impl Scenario {
    pub fn new(seed: i64) -> Scenario {
        let mut dice = Dice(seed as u64);
        let shape = dice.shape();
        let mut scenario = Scenario {
            seed,
            shape,
            lateness: dice.of(&[0, 10, 60, 300]) * SECOND,
            out_of_order: dice.of(&[0, 3, 20]) * SECOND,
            partitions: dice.of(&[1, 1, 2, 3]),
            arrivals: Vec::new(),
            answers: Vec::new(),
            windows: BTreeMap::new(),
            accepted: 0,
            late: 0,
            not_counted: 0,
        };
        scenario.arrive(&mut dice);
        scenario.run(&mut dice);
        scenario
    }

    fn arrive(&mut self, dice: &mut Dice) {
        let (keys, pace) = (dice.of(&[1, 2, 4]), dice.of(&[SECOND / 3, 2 * SECOND, 9 * SECOND]));
        let (disorder, late_by) = (dice.of(&[0, 1, 5, 20]) * SECOND, dice.of(&[20, 60, 400]));
        let with_ids = !dice.one_in(3);
        let mut now = START;
        let mut sent: Vec<(i64, Happened)> = Vec::new();
        for sequence in 0..30 + dice.below(60) {
            let partition = dice.below(self.partitions);
            if dice.one_in(25) {
                self.arrivals.push(Arrival { sequence, partition, event: None });
                continue;
            }
            if with_ids && dice.one_in(12) && !sent.is_empty() {
                let (partition, event) = sent[dice.below(sent.len() as i64) as usize].clone();
                self.arrivals.push(Arrival { sequence, partition, event: Some(event) });
                continue;
            }
            now += dice.below(2 * pace + 1);
            if dice.one_in(40) {
                now += dice.below(200) * SECOND;
            }
            let late = if dice.one_in(6) { dice.below(late_by) * SECOND } else { dice.below(disorder + 1) };
            // Round times meet the edges of windows.
            let time = if dice.one_in(3) { (now - late) / SECOND * SECOND } else { now - late };
            let event = Happened {
                time,
                key: dice.below(keys),
                id: with_ids.then_some(sequence),
                // Quarters: their sums are exact in any order.
                x: (!dice.one_in(8)).then(|| dice.below(4001) as f64 / 4.0 - 500.0),
                word: (!dice.one_in(8)).then(|| dice.of(&["a", "b", "", "ö"])),
            };
            sent.push((partition, event.clone()));
            self.arrivals.push(Arrival { sequence, partition, event: Some(event) });
        }
    }

    fn engine(&self) -> Engine {
        let spec: StreamSpec = serde_json::from_value(json!({
            "name": "clicks", "time": "at", "key": ["user"], "id": "id", "source": {"kind": "http"},
            "allowed_lateness": format!("{}s", self.lateness / SECOND),
            "out_of_order": format!("{}s", self.out_of_order / SECOND),
            "column": [
                {"name": "at", "type": "timestamp"}, {"name": "user", "type": "int"}, {"name": "id", "type": "int"},
                {"name": "x", "type": "float"}, {"name": "word", "type": "string"},
            ],
            "window": [self.shape.declared()],
        }))
        .unwrap();
        Engine::new(&spec).unwrap()
    }

    fn run(&mut self, dice: &mut Dice) {
        let mut engine = self.engine();
        let columns = engine.columns().to_vec();
        let partitions: Vec<Partition> = (0..self.partitions).map(|i| engine.partition(&i.to_string())).collect();
        for arrival in self.arrivals.clone() {
            let partition = partitions[arrival.partition as usize];
            match &arrival.event {
                None => engine.idle(partition),
                Some(event) => match engine.push(partition, &taken(event, &columns)) {
                    Pushed::Accepted | Pushed::Duplicate | Pushed::TooLate => {}
                    other => panic!("{other:?}"),
                },
            }
            if dice.one_in(8) {
                let watermark = engine.watermark().0.max(START - 60 * SECOND);
                let at = watermark - dice.below(self.lateness + 1) + dice.below(4) * dice.below(90 * SECOND);
                self.ask(&engine, arrival.sequence + 1, dice.below(4), at);
            }
        }
        partitions.iter().for_each(|partition| engine.end(*partition));
        for window in engine.take_emitted() {
            let key = window.key.to_json()[0].as_i64().unwrap();
            let at = (key, window.start.0);
            match window.emission {
                Emission::Withdrawn => drop(self.windows.remove(&at)),
                _ => drop(self.windows.insert(at, Emitted { end: window.end.0, values: numbers(&window.values) })),
            }
        }
        let counters = engine.counters();
        (self.accepted, self.late) = (counters.accepted, counters.late);
        self.not_counted = counters.duplicate + counters.too_late;
    }

    fn ask(&mut self, engine: &Engine, sequence: i64, key: i64, at: i64) {
        let mut row = Vec::new();
        engine.lookup(&Key::of([Part::Int(key)]), Timestamp(at), &mut row).unwrap();
        self.answers.push(Answer { sequence, key, at, values: numbers(&row) });
    }
}

fn numbers(values: &[Value]) -> Vec<Option<f64>> {
    values.iter().map(Value::as_number).collect()
}

fn taken(event: &Happened, columns: &[String]) -> Event {
    let value = |column: &String| match column.as_str() {
        "x" => event.x.map_or(Value::Null, Value::number),
        _ => event.word.map_or(Value::Null, |word| Value::Text(word.into())),
    };
    Event {
        time: Timestamp(event.time),
        known_at: None,
        key: Key::of([Part::Int(event.key)]),
        id: event.id.map(|id| Key::of([Part::Int(id)])),
        values: columns.iter().map(value).collect(),
    }
}
