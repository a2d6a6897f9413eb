//! Whatever comes from outside is read or refused, never a panic: declarations, expressions, rows, events, texts. The
//! cases are drawn from a fixed seed, so that a run finds what the last one found.

use crate::testing::{canonical_batches, column, spec, wide_batch, wide_contract};
use crate::windows::{Engine, EventReader};
use crate::{Enforcer, Observed, Pipeline, Recipe, RowReader, Validator, parity};
use arrow::array::Array;
use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use serde_json::{Map, Value, json};
use vocabulary::contract::{ColumnKind, Contract};
use vocabulary::model::{ExpressionSpec, FeatureSpec, ModelSpec};
use vocabulary::stream::StreamSpec;

fn drawn<S: Strategy>(cases: u32, strategy: S, check: impl Fn(S::Value)) {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let found = runner.run(&strategy, |value| {
        check(value);
        Ok(())
    });
    found.unwrap_or_else(|error| panic!("{error}"));
}

const WORDS: [&str; 76] = [
    "int_a",
    "int_b",
    "float_a",
    "float_b",
    "bool_b",
    "string_a",
    "string_b",
    "timestamp_a",
    "timestamp_b",
    "\"int_a\"",
    "+",
    "-",
    "*",
    "/",
    "%",
    "=",
    "<>",
    "<",
    ">=",
    "(",
    ")",
    "(",
    ")",
    ",",
    "||",
    "'a%'",
    "'1'",
    "''",
    "'\\'",
    "0",
    "1",
    "-1",
    "2.5",
    "1e308",
    "9223372036854775807",
    "99999999999999999999",
    "NULL",
    "TRUE",
    "FALSE",
    "AND",
    "OR",
    "NOT",
    "IS",
    "IS NOT",
    "DISTINCT FROM",
    "BETWEEN",
    "IN",
    "LIKE",
    "ILIKE",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "CAST(",
    "AS BIGINT)",
    "AS DOUBLE)",
    "AS VARCHAR)",
    "COALESCE(",
    "NULLIF(",
    "ABS(",
    "ROUND(",
    "LN(",
    "EXP(",
    "SQRT(",
    "LOWER(",
    "TRIM(",
    "LENGTH(",
    "SUBSTR(",
    "CONCAT(",
    "EXTRACT(HOUR FROM",
    "EXTRACT(WEEK FROM",
    "AT TIME ZONE",
    "'Europe/Berlin'",
    "TIMESTAMP",
    "'2013-04-01T05:00:00Z'",
];

/// Words of the language in any order, and text that is none.
fn sql() -> impl Strategy<Value = String> {
    let soup = prop::collection::vec(prop::sample::select(WORDS.to_vec()), 1..14).prop_map(|words| words.join(" "));
    let whole = crate::expression::tests::ALL.to_vec();
    let torn = (prop::sample::select(whole), any::<prop::sample::Index>(), ".{0,4}");
    let torn = torn.prop_map(|(sql, at, more)| {
        let chars: Vec<char> = sql.chars().collect();
        let at = at.index(chars.len());
        chars[..at].iter().chain(more.chars().collect::<Vec<_>>().iter()).chain(&chars[at..]).collect::<String>()
    });
    let nested = (1..400usize, prop::sample::select(vec!["(", "-", "NOT ", "ABS(", "CASE WHEN "]));
    let nested = nested.prop_map(|(depth, word)| format!("{} int_a", word.repeat(depth)));
    prop_oneof![4 => soup, 3 => torn, 1 => ".{0,40}", 1 => nested]
}

/// Any expression is refused with words, or is a column that keeps the parity of the pipeline.
#[test]
fn any_expression_is_refused_or_keeps_parity() {
    let batch = wide_batch();
    let accepted = std::cell::Cell::new(0);
    drawn(4000, sql(), |sql| {
        let expression = vec![ExpressionSpec { name: "made".to_owned(), sql: sql.clone() }];
        let spec = ModelSpec { features: FeatureSpec { expression, ..FeatureSpec::default() }, ..spec("bool_a") };
        if let Err(error) = Pipeline::check(&spec, &wide_contract(), Recipe::Trees) {
            assert!(error.to_string().contains("features"), "{sql}: {error}");
            return;
        }
        let rows: Vec<u32> = (0..8).collect();
        let target = [0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0];
        let fitted =
            Pipeline::fit(&spec, &wide_contract(), Recipe::Linear, &batch, &rows, &target, 1).expect("planned");
        let report = parity::compare(&fitted.pipeline, &batch).expect("the batch fits");
        assert_eq!(report.first, None, "{sql}");
        accepted.set(accepted.get() + 1);
    });
    assert!(accepted.get() > 200, "the words say something often enough: {}", accepted.get());
}

/// Values that nobody would write, and some that somebody would.
fn odd() -> impl Strategy<Value = Value> {
    let fixed = [
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(1),
        json!(2),
        json!(1e308),
        json!(-1e308),
        json!(5e-324),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(0.5),
        json!(""),
        json!(" "),
        json!("int_a"),
        json!("string_a"),
        json!("float_a"),
        json!("timestamp_a"),
        json!("bool_a"),
        json!("0s"),
        json!("1us"),
        json!("-5m"),
        json!("99999999999d"),
        json!("9223372036854775807s"),
        json!("(["),
        json!("(?i)^a*$"),
        json!("a < b"),
        json!("int_a <= float_b"),
        json!("2013-13-45"),
        json!("year"),
        json!("hour"),
        json!("count"),
        json!("error"),
        json!([]),
        json!([[]]),
        json!({}),
        json!([1]),
        json!(["a", "a"]),
        json!([0.0, -1.0]),
        json!([1e308, -1e308]),
        json!({"column": 1}),
    ];
    prop_oneof![6 => prop::sample::select(fixed.to_vec()), 1 => ".{0,20}".prop_map(Value::String), 1 => any::<f64>().prop_map(|x| json!(x))]
}

/// One place of a document changed: replaced, taken away, or doubled.
#[derive(Clone, Debug)]
enum Change {
    Replace(Value),
    Remove,
    Double,
}

fn change() -> impl Strategy<Value = (prop::sample::Index, Change)> {
    let change =
        prop_oneof![6 => odd().prop_map(Change::Replace), 1 => Just(Change::Remove), 1 => Just(Change::Double)];
    (any::<prop::sample::Index>(), change)
}

fn places(value: &Value) -> usize {
    let inner = match value {
        Value::Array(items) => items.iter().map(places).sum(),
        Value::Object(fields) => fields.values().map(places).sum(),
        _ => 0,
    };
    1 + inner
}

/// Changes the place that is `at` places into the document, counted parents first.
fn changed(value: &mut Value, mut at: usize, change: &Change) {
    if at == 0 {
        match change {
            Change::Replace(by) => *value = by.clone(),
            Change::Remove => *value = Value::Null,
            Change::Double => *value = json!([value.clone(), value.clone()]),
        }
        return;
    }
    at -= 1;
    match value {
        Value::Array(items) => {
            for place in 0..items.len() {
                let inside = places(&items[place]);
                if at < inside {
                    match (at, change) {
                        (0, Change::Remove) => drop(items.remove(place)),
                        (0, Change::Double) => items.insert(place, items[place].clone()),
                        _ => changed(&mut items[place], at, change),
                    }
                    return;
                }
                at -= inside;
            }
        }
        Value::Object(fields) => {
            let names: Vec<String> = fields.keys().cloned().collect();
            for name in names {
                let inside = places(&fields[&name]);
                if at < inside {
                    match (at, change) {
                        (0, Change::Remove) => drop(fields.remove(&name)),
                        _ => changed(fields.get_mut(&name).expect("it is there"), at, change),
                    }
                    return;
                }
                at -= inside;
            }
        }
        _ => {}
    }
}

/// A document with up to three changes.
fn spoilt(sound: Value) -> impl Strategy<Value = Value> {
    prop::collection::vec(change(), 1..4).prop_map(move |changes| {
        let mut spoilt = sound.clone();
        for (at, change) in changes {
            let at = at.index(places(&spoilt));
            changed(&mut spoilt, at, &change);
        }
        spoilt
    })
}

fn rich_contract() -> Value {
    json!({
        "name": "test", "version": 2, "key": "int_a", "time": "timestamp_a",
        "column": [
            {"name": "bool_a", "type": "bool"}, {"name": "bool_b", "type": "bool", "nulls": "forbid"},
            {"name": "int_a", "type": "int", "range": [-5.0, 5.0], "repair": "clip", "unique": true},
            {"name": "int_b", "type": "int", "default": 3, "repair": "default"},
            {"name": "float_a", "type": "float", "range": [-1.0, 1.0], "repair": "null"},
            {"name": "float_b", "type": "float", "severity": {"range": "warn"}, "range": [0.0, 1.0]},
            {"name": "string_a", "type": "string", "categories": ["a", "b"], "closed": true, "repair": "quarantine"},
            {"name": "string_b", "type": "string", "pattern": "^[a-z]*$", "aliases": ["text"]},
            {"name": "timestamp_a", "type": "timestamp", "freshness": "1d"}, {"name": "timestamp_b", "type": "timestamp"},
        ],
        "check": [{"name": "order", "expect": "int_a <= float_b"}],
        "table": {"rows_min": 1, "rows_max": 100},
    })
}

/// A contract that can be read either has problems that are said, or enforces any canonical batch.
#[test]
fn any_contract_is_refused_or_enforced() {
    let enforced = std::cell::Cell::new(0);
    drawn(3000, (spoilt(rich_contract()), canonical_batches(1..6)), |(document, batch)| {
        let Ok(contract) = serde_json::from_value::<Contract>(document) else { return };
        if contract.problems().iter().any(|problem| !problem.to_string().is_empty()) {
            return;
        }
        let columns: Vec<String> = contract.column_names().map(str::to_owned).collect();
        let Ok(batch) = crate::canonical(&batch, &contract) else { return };
        if Enforcer::new(&contract, &columns).is_err() {
            return;
        }
        let validator = Validator::new(&contract, &[]).expect("its enforcer can be made");
        let mut seen = Observed::default();
        // Words for a contract whose columns do not go together are as good as words for one that cannot be.
        let Ok(kept) = validator.observe(&batch, 0, &mut seen) else { return };
        assert!(kept.batch.num_rows() <= batch.num_rows());
        assert_eq!(validator.report(&seen, None).rows, batch.num_rows() as u64);
        enforced.set(enforced.get() + 1);
    });
    assert!(enforced.get() > 10, "{}", enforced.get());
}

fn rich_stream() -> Value {
    json!({
        "name": "clicks", "time": "at", "key": ["user"], "id": "id", "source": {"kind": "http"}, "out_of_order": "5s",
        "allowed_lateness": "1m",
        "column": [
            {"name": "at", "type": "timestamp"}, {"name": "user", "type": "string"}, {"name": "id", "type": "int"},
            {"name": "x", "type": "float"}, {"name": "word", "type": "string"},
        ],
        "window": [
            {"name": "m", "kind": "tumbling", "size": "1m", "aggregate": [{"name": "n", "as": "count"}]},
            {"name": "h", "kind": "hopping", "size": "10s", "slide": "5s", "aggregate": [{"name": "x", "of": "x", "as": "mean"}]},
            {"name": "s", "kind": "sliding", "size": "1h", "tile": "1m", "aggregate": [
                {"name": "q", "of": "x", "as": "quantile", "q": 0.5}, {"name": "d", "of": "word", "as": "distinct"},
                {"name": "l", "of": "x", "as": "last", "k": 2}, {"name": "e", "of": "x", "as": "decayed", "half_life": "1m"}]},
            {"name": "v", "kind": "session", "gap": "5m", "aggregate": [{"name": "n", "as": "count"}]},
        ],
    })
}

fn event() -> impl Strategy<Value = Value> {
    let sound = json!({"at": "2013-04-01T05:00:00Z", "user": "a", "id": 1, "x": 0.5, "word": "w"});
    prop_oneof![1 => Just(sound.clone()), 3 => spoilt(sound)]
}

/// A stream that can be read either has problems that are said, or takes any event or refuses it.
#[test]
fn any_stream_and_any_event_are_refused_or_taken() {
    let (refused, taken) = (std::cell::Cell::new(0), std::cell::Cell::new(0));
    let declared = prop_oneof![1 => Just(rich_stream()), 2 => spoilt(rich_stream())];
    drawn(3000, (declared, prop::collection::vec(event(), 1..8)), |(document, events)| {
        let Ok(spec) = serde_json::from_value::<StreamSpec>(document) else { return };
        if !spec.problems().is_empty() {
            return;
        }
        let (Ok(mut engine), Ok(reader)) = (Engine::new(&spec), EventReader::new(&spec)) else { return };
        let partition = engine.partition("p");
        for event in events {
            let row: Option<Map<String, Value>> = serde_json::from_slice(event.to_string().as_bytes()).ok();
            match row.map(|row| reader.read(&row)) {
                Some(Ok(event)) => {
                    let _ = engine.push(partition, &event);
                    taken.set(taken.get() + 1);
                }
                Some(Err(problem)) => {
                    assert!(!problem.what.is_empty());
                    refused.set(refused.get() + 1);
                }
                None => {}
            }
        }
        engine.end(partition);
        engine.take_emitted();
    });
    assert!(refused.get() > 500 && taken.get() > 500, "{} {}", refused.get(), taken.get());
}

/// Bytes of a request that are JSON become rows or problems with a column and words.
#[test]
fn any_row_is_read_or_refused_by_column() {
    let contract: Contract = serde_json::from_value(rich_contract()).expect("sound");
    let columns: Vec<String> = contract.column_names().map(str::to_owned).collect();
    let reader = RowReader::new(&contract, &columns);
    let sound = crate::row_to_json(&wide_batch().slice(0, 1), 0);
    let read = std::cell::Cell::new(0);
    drawn(3000, spoilt(Value::Object(sound)), |row| {
        let Ok(row) = serde_json::from_slice::<Map<String, Value>>(row.to_string().as_bytes()) else { return };
        match reader.read(&[row]) {
            Ok(batch) => {
                read.set(read.get() + 1);
                assert_eq!(batch.num_rows(), 1);
            }
            Err(problems) => assert!(problems.iter().all(|problem| !problem.what.is_empty()) && !problems.is_empty()),
        }
    });
    assert!(read.get() > 200, "{}", read.get());
}

fn rich_features() -> Value {
    json!({
        "text": [{"column": "string_a", "slots": 8, "words": [1, 2], "characters": [3], "scale": "unit", "case": "keep"}],
        "lists": [{"column": "string_b", "separator": "|", "gives": ["items", "count", "min", "max", "mean"], "slots": 4}],
        "cyclic": [{"column": "timestamp_a", "zone": "America/New_York", "parts": ["hour", "weekday"]}],
        "time_parts": [{"column": "timestamp_b", "zone": "Europe/Berlin", "parts": ["month", "year"]}],
        "target_statistics": [{"columns": ["string_a", "int_b"], "smoothing": 3.0, "min_rows": 1}],
        "counts": [{"columns": ["int_a"], "gives": ["log", "share"], "min_rows": 1}],
        "distance": [{"name": "far", "from": ["float_a", "float_b"], "to": ["int_a", "float_b"]}],
        "expression": [{"name": "made", "sql": "int_a + int_b"}],
        "cross": [["string_a", "bool_b"]],
        "difference": [{"later": "timestamp_a", "earlier": "timestamp_b"}],
        "vocabulary": {"min_rows": 1, "rows": 100},
        "reduce": {"method": "pca", "components": 2, "columns": ["float_a", "float_b"]},
    })
}

/// Declared features are refused with words, or make a pipeline for every learner that keeps parity on odd texts.
#[test]
fn any_features_are_refused_or_keep_parity() {
    let fitted = std::cell::Cell::new(0);
    let batch = wide_batch();
    drawn(1500, (spoilt(rich_features()), canonical_batches(1..4)), |(document, odd)| {
        let Ok(features) = serde_json::from_value::<FeatureSpec>(document) else { return };
        let spec = ModelSpec { features, ..spec("goal") };
        let mut contract = wide_contract();
        contract.columns.push(column("goal", ColumnKind::Int));
        if !spec.problems(&contract).is_empty() {
            return;
        }
        let target = [0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0];
        for recipe in [Recipe::Trees, Recipe::Linear, Recipe::Network] {
            match Pipeline::fit(&spec, &contract, recipe, &batch, &[0, 1, 2, 3, 4, 5, 6, 7], &target, 1) {
                Ok(made) => {
                    let report = parity::compare(&made.pipeline, &odd).expect("the batch is canonical");
                    assert_eq!(report.first, None, "{:?}", spec.features);
                    let width = made.pipeline.layout().dense.len() + made.pipeline.layout().slots.len();
                    assert!(width > 0);
                    fitted.set(fitted.get() + 1);
                }
                Err(error) => assert!(error.to_string().contains("test"), "{error}"),
            }
        }
    });
    assert!(fitted.get() > 300, "{}", fitted.get());
}

/// Bytes that were a pipeline once: refused, or a pipeline that transforms.
#[test]
fn any_pipeline_file_is_refused_or_transforms() {
    let spec = ModelSpec { features: serde_json::from_value(rich_features()).expect("sound"), ..spec("bool_a") };
    let batch = wide_batch();
    let rows: Vec<u32> = (0..8).collect();
    let fit =
        |recipe| Pipeline::fit(&spec, &wide_contract(), recipe, &batch, &rows, &[1.0; 8], 1).expect("fits").pipeline;
    for recipe in [Recipe::Trees, Recipe::Linear, Recipe::Network] {
        let sound: Value = serde_json::from_slice(&fit(recipe).to_json()).expect("JSON");
        let read = std::cell::Cell::new(0);
        drawn(2000, spoilt(sound), |document| {
            if let Ok(pipeline) = Pipeline::from_json(document.to_string().as_bytes()) {
                read.set(read.get() + 1);
                if let Ok(inputs) = pipeline.transform(&batch) {
                    assert_eq!(inputs.rows, batch.column(0).len());
                }
            }
        });
        assert!(read.get() > 20, "{}", read.get());
    }
}
