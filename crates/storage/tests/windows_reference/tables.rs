//! Scenarios as tables: for DataFusion, for pandas, and what the engine said in the form in which it is compared.

use super::scenarios::{Arrival, Emitted, Scenario};
use datafusion::arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray};
use datafusion::arrow::record_batch::RecordBatch;
use serde_json::{Value as Json, json};
use std::path::Path;
use std::sync::Arc;

pub const AGGREGATES: [&str; 9] = ["events", "values", "sum", "mean", "variance", "min", "max", "words", "newest"];

/// Where, and the aggregates.
pub type Line = (Vec<i64>, Vec<Option<f64>>);

/// In the order of where.
pub struct Lines(pub Vec<Line>);

impl Lines {
    pub fn sorted(mut lines: Vec<Line>) -> Lines {
        lines.sort_by(|a, b| a.0.cmp(&b.0));
        Lines(lines)
    }
}

/// Scenario, key, start, end.
pub fn windows(scenarios: &[Scenario]) -> Lines {
    let of = |scenario: &Scenario| {
        let seed = scenario.seed;
        let line = |((key, start), window): (&(i64, i64), &Emitted)| {
            (vec![seed, *key, *start, window.end], window.values.clone())
        };
        scenario.windows.iter().map(line).collect::<Vec<Line>>()
    };
    Lines::sorted(scenarios.iter().flat_map(of).collect())
}

/// Scenario, number of the answer.
pub fn answers(scenarios: &[Scenario]) -> Lines {
    let of = |scenario: &Scenario| {
        let seed = scenario.seed;
        let numbered = scenario.answers.iter().enumerate();
        numbered.map(|(n, answer)| (vec![seed, n as i64], answer.values.clone())).collect::<Vec<Line>>()
    };
    Lines::sorted(scenarios.iter().flat_map(of).collect())
}

/// Accepted, of those late, duplicate or too late.
pub fn counts(scenarios: &[Scenario]) -> Lines {
    let of = |scenario: &Scenario| {
        let counts = [scenario.accepted, scenario.late, scenario.not_counted];
        (vec![scenario.seed], counts.iter().map(|count| Some(*count as f64)).collect())
    };
    Lines::sorted(scenarios.iter().map(of).collect())
}

pub fn batches(scenarios: &[Scenario]) -> Vec<(&'static str, RecordBatch)> {
    let integers = |values: Vec<i64>| Arc::new(Int64Array::from(values)) as ArrayRef;
    let of = |value: fn(&Scenario) -> i64| integers(scenarios.iter().map(value).collect());
    let kinds = StringArray::from_iter_values(scenarios.iter().map(|scenario| scenario.shape.kind));
    let streams = [
        ("scenario", of(|s| s.seed)),
        ("kind", Arc::new(kinds) as ArrayRef),
        ("size", of(|s| s.shape.size)),
        ("slide", of(|s| s.shape.slide)),
        ("tile", of(|s| s.shape.tile)),
        ("gap", of(|s| s.shape.gap)),
        ("lateness", of(|s| s.lateness)),
        ("out_of_order", of(|s| s.out_of_order)),
        ("partitions", of(|s| s.partitions)),
    ];
    let all: Vec<(i64, &Arrival)> =
        scenarios.iter().flat_map(|s| s.arrivals.iter().map(move |arrival| (s.seed, arrival))).collect();
    let happened = || all.iter().map(|(_, arrival)| arrival.event.as_ref());
    let whole = |values: Vec<Option<i64>>| Arc::new(Int64Array::from(values)) as ArrayRef;
    let arrivals = [
        ("scenario", integers(all.iter().map(|(seed, _)| *seed).collect())),
        ("sequence", integers(all.iter().map(|(_, arrival)| arrival.sequence).collect())),
        ("part", integers(all.iter().map(|(_, arrival)| arrival.partition).collect())),
        ("is_event", Arc::new(happened().map(|event| Some(event.is_some())).collect::<BooleanArray>()) as ArrayRef),
        ("time", whole(happened().map(|event| event.map(|event| event.time)).collect())),
        ("key", whole(happened().map(|event| event.map(|event| event.key)).collect())),
        ("id", whole(happened().map(|event| event.and_then(|event| event.id)).collect())),
        ("x", Arc::new(happened().map(|event| event.and_then(|event| event.x)).collect::<Float64Array>()) as ArrayRef),
        ("word", Arc::new(happened().map(|event| event.and_then(|event| event.word)).collect::<StringArray>())),
    ];
    let asked: Vec<[i64; 5]> = scenarios
        .iter()
        .flat_map(|s| {
            let asked = s.answers.iter().enumerate();
            asked.map(move |(n, answer)| [s.seed, n as i64, answer.sequence, answer.key, answer.at])
        })
        .collect();
    let column = |i: usize| integers(asked.iter().map(|row| row[i]).collect());
    let questions =
        [("scenario", column(0)), ("n", column(1)), ("sequence", column(2)), ("key", column(3)), ("at", column(4))];
    let numbers = [("k", integers((0..40).collect()))];
    vec![
        ("streams", RecordBatch::try_from_iter(streams).unwrap()),
        ("arrivals", RecordBatch::try_from_iter(arrivals).unwrap()),
        ("questions", RecordBatch::try_from_iter(questions).unwrap()),
        ("numbers", RecordBatch::try_from_iter(numbers).unwrap()),
    ]
}

fn with_values(mut row: Json, values: &[Option<f64>]) -> Json {
    for (name, value) in AGGREGATES.iter().zip(values) {
        row[*name] = json!(value);
    }
    row
}

/// JSON lines for pandas: `streams`, `arrivals`, `windows` and `answers`.
pub fn write(scenarios: &[Scenario], folder: &Path) {
    let lines = |name: &str, rows: Vec<Json>| {
        let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
        std::fs::write(folder.join(name), text).unwrap();
    };
    let (mut streams, mut arrivals, mut windows, mut answers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for s in scenarios {
        let shape = &s.shape;
        streams.push(json!({
            "scenario": s.seed, "kind": shape.kind, "size": shape.size, "slide": shape.slide, "tile": shape.tile,
            "gap": shape.gap, "lateness": s.lateness, "out_of_order": s.out_of_order, "partitions": s.partitions,
            "accepted": s.accepted, "late": s.late, "not_counted": s.not_counted,
        }));
        for arrival in &s.arrivals {
            let mut row = json!({"scenario": s.seed, "sequence": arrival.sequence, "part": arrival.partition});
            if let Some(event) = &arrival.event {
                let said = [("time", json!(event.time)), ("key", json!(event.key)), ("id", json!(event.id))];
                said.into_iter().for_each(|(name, value)| row[name] = value);
                (row["x"], row["word"]) = (json!(event.x), json!(event.word));
            }
            arrivals.push(row);
        }
        for ((key, start), window) in &s.windows {
            let row = json!({"scenario": s.seed, "key": key, "start": start, "end": window.end});
            windows.push(with_values(row, &window.values));
        }
        for (n, answer) in s.answers.iter().enumerate() {
            let row =
                json!({"scenario": s.seed, "n": n, "sequence": answer.sequence, "key": answer.key, "at": answer.at});
            answers.push(with_values(row, &answer.values));
        }
    }
    lines("streams.jsonl", streams);
    lines("arrivals.jsonl", arrivals);
    lines("windows.jsonl", windows);
    lines("answers.jsonl", answers);
}
