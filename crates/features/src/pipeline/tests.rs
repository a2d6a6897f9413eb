//! Stories and properties of the pipeline as a whole.

mod encodings;
mod extend;
mod files;
mod network;
mod odd;
mod reduced;

use super::*;
use crate::parity;
use crate::testing::{canonical_batches, column, contract, spec, wide_contract};
use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use proptest::prelude::*;
use std::sync::Arc;
use vocabulary::contract::Scalar;
use vocabulary::model::{Difference, FeatureSpec, ReduceMethod, ReduceSpec, Task, TimePart, TimeParts};

const HOUR: i64 = 3_600_000_000;

/// Every feature that there is, over [`wide_contract`].
fn wide_spec() -> ModelSpec {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let all = vec![TimePart::Hour, TimePart::MinuteOfDay, TimePart::Weekday, TimePart::HourOfWeek];
    let more = vec![TimePart::Day, TimePart::Month, TimePart::DayOfYear, TimePart::Year];
    let parts = |column: &str, zone: &str, parts: Vec<TimePart>| TimeParts {
        column: column.to_owned(),
        zone: zone.to_owned(),
        parts,
    };
    ModelSpec {
        features: FeatureSpec {
            columns: names(&["bool_b", "int_a", "int_b", "float_a", "float_b", "string_a", "string_b"]),
            time_parts: vec![parts("timestamp_a", "America/New_York", all), parts("timestamp_b", "UTC", more)],
            cross: vec![names(&["string_a", "int_a"]), names(&["string_a", "string_b", "bool_b"])],
            difference: vec![Difference { later: "timestamp_b".to_owned(), earlier: "timestamp_a".to_owned() }],
            target_mean: names(&["string_b", "string_a*string_b"]),
            numeric_categories: names(&["int_b"]),
            ..FeatureSpec::default()
        },
        ..spec("bool_a")
    }
}

fn fit(spec: &ModelSpec, contract: &Contract, recipe: Recipe, batch: &RecordBatch, target: &[f64]) -> Pipeline {
    let rows: Vec<u32> = (0..batch.num_rows() as u32).collect();
    Pipeline::fit(spec, contract, recipe, batch, &rows, target, 11).unwrap().pipeline
}

fn wide_fit(recipe: Recipe, batch: &RecordBatch) -> Pipeline {
    let target: Vec<f64> = (0..batch.num_rows()).map(|row| f64::from(row.is_multiple_of(3))).collect();
    fit(&wide_spec(), &wide_contract(), recipe, batch, &target)
}

fn strings(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn instants(values: &[i64]) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from(values.to_vec()).with_timezone("UTC"))
}

fn batch(columns: &[(&str, &ArrayRef)]) -> RecordBatch {
    RecordBatch::try_from_iter(columns.iter().map(|(name, array)| (*name, Arc::clone(array)))).unwrap()
}

fn dense_names(pipeline: &Pipeline) -> Vec<&str> {
    pipeline.layout().dense.iter().map(|column| column.name.as_str()).collect()
}

const RECIPES: [Recipe; 3] = [Recipe::Trees, Recipe::Linear, Recipe::Network];

/// Each recipe over everything, with and without reduction, and means of one class and of several.
fn wide_fits(seen: &RecordBatch) -> Vec<Pipeline> {
    let reduce = |method| ModelSpec {
        features: FeatureSpec {
            reduce: Some(ReduceSpec { method, columns: Vec::new(), components: 2 }),
            ..wide_spec().features
        },
        ..wide_spec()
    };
    let classes = ModelSpec {
        task: Task::Multiclass,
        classes: ["x", "y", "z"].map(|name| Scalar::Text(name.to_owned())).to_vec(),
        ..wide_spec()
    };
    let specs = [wide_spec(), reduce(ReduceMethod::Pca), reduce(ReduceMethod::RandomProjection), classes];
    let target: Vec<f64> = (0..seen.num_rows()).map(|row| f64::from(row.is_multiple_of(3))).collect();
    let each = RECIPES.iter().flat_map(|recipe| specs.iter().map(move |spec| (spec, *recipe)));
    each.filter_map(|(spec, recipe)| {
        let rows: Vec<u32> = (0..seen.num_rows() as u32).collect();
        let fitted = Pipeline::fit(spec, &wide_contract(), recipe, seen, &rows, &target, 11);
        fitted.ok().map(|fitted| fitted.pipeline)
    })
    .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// The release gate: alone, in a batch and through JSON, with a pipeline fitted on other rows.
    #[test]
    fn a_row_gives_the_same_bits_everywhere(seen in canonical_batches(1..40), new in canonical_batches(1..12)) {
        let pipelines = wide_fits(&seen);
        prop_assert!(pipelines.len() >= 3);
        for pipeline in pipelines {
            for batch in [&seen, &new] {
                let report = parity::compare(&pipeline, batch).unwrap();
                prop_assert_eq!(report.first, None);
                let inputs = pipeline.transform(batch).unwrap();
                let canonical = |x: &f32| x.to_bits() == f32::NAN.to_bits() || (x.is_finite() && x.to_bits() != 1 << 31);
                prop_assert!(inputs.dense.iter().all(canonical), "{:?}", inputs.dense);
                let layout = pipeline.layout();
                let rows = |slot: usize| layout.tables.get(slot).copied().unwrap_or(1 << layout.table_bits);
                for row in 0..inputs.rows {
                    prop_assert!((0..).zip(inputs.slot_row(row)).all(|(slot, place)| *place < rows(slot)));
                }
                prop_assert_eq!(inputs.dense_width, layout.dense.len());
                prop_assert_eq!(inputs.slot_width, layout.slots.len());
            }
        }
    }

    #[test]
    fn a_pipeline_survives_its_file(seen in canonical_batches(1..40), new in canonical_batches(1..12)) {
        for (pipeline, again) in wide_fits(&seen).into_iter().zip(wide_fits(&seen)) {
            let back = Pipeline::from_json(&pipeline.to_json()).unwrap();
            prop_assert_eq!(back.digest(), pipeline.digest());
            let bits = |p: &Pipeline| {
                let inputs = p.transform(&new).unwrap();
                (inputs.dense.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), inputs.slots)
            };
            prop_assert_eq!(bits(&back), bits(&pipeline));
            prop_assert_eq!(again.digest(), pipeline.digest());
        }
    }
}

#[test]
fn trees_get_numbers_codes_and_means() {
    let carriers = strings(&[Some("UA"), Some("DL"), Some("UA"), None]);
    let distances: ArrayRef = Arc::new(Float64Array::from(vec![Some(-0.0), Some(f64::INFINITY), None, Some(7.5)]));
    let tails = strings(&[Some("N1"), Some("N1"), Some("N2"), None]);
    let data = batch(&[("carrier", &carriers), ("distance", &distances), ("tail", &tails)]);
    let contract = contract(vec![
        column("carrier", ColumnKind::String),
        column("distance", ColumnKind::Float),
        column("tail", ColumnKind::String),
        column("late", ColumnKind::Bool),
    ]);
    let features = FeatureSpec { target_mean: vec!["tail".to_owned()], ..FeatureSpec::default() };
    let spec = ModelSpec { features, ..spec("late") };
    let pipeline = fit(&spec, &contract, Recipe::Trees, &data, &[1.0, 1.0, 0.0, 0.0]);
    assert_eq!(dense_names(&pipeline), ["carrier", "distance", "tail:mean", "tail:log_count"]);
    assert!(pipeline.layout().dense[0].categorical && pipeline.layout().table_bits == 0);
    assert_eq!(pipeline.input_columns(), ["carrier", "distance", "tail"]);

    let inputs = pipeline.transform(&data).unwrap();
    let mean = ((2.0 + 20.0 * 0.5) / 22.0) as f32;
    assert_eq!(inputs.dense_row(0), [0.0, 0.0, mean, 2f64.ln_1p() as f32]);
    // A key seen once counts as unseen: the prior, and no rows.
    assert_eq!(inputs.dense_row(1)[..2], [1.0, f32::MAX]);
    assert_eq!(inputs.dense_row(2)[2..], [0.5, 0.0]);
    assert!(inputs.dense_row(3)[0].is_nan() && inputs.dense_row(3)[2].is_nan());

    let unseen = batch(&[
        ("tail", &strings(&[Some("N9")])),
        ("distance", &distances.slice(0, 1)),
        ("carrier", &strings(&[Some("ZZ")])),
    ]);
    assert_eq!(pipeline.transform(&unseen).unwrap().dense, [2.0, 0.0, 0.5, 0.0]);
}

#[test]
fn many_categories_become_means_by_themselves() {
    let names: Vec<String> = (0..40).map(|i| format!("N{}", i % 20)).collect();
    let tails = strings(&names.iter().map(|name| Some(name.as_str())).collect::<Vec<_>>());
    let contract = contract(vec![column("tail", ColumnKind::String), column("late", ColumnKind::Bool)]);
    let pipeline = fit(&spec("late"), &contract, Recipe::Trees, &batch(&[("tail", &tails)]), &[0.5; 40]);
    assert_eq!(dense_names(&pipeline), ["tail:mean", "tail:log_count"]);
}

#[test]
fn linear_gets_standardised_numbers_flags_and_slots() {
    let x: ArrayRef = Arc::new(Float64Array::from(vec![Some(1.0), Some(3.0), None, Some(1e9)]));
    let data = batch(&[("x", &x), ("c", &strings(&[Some("a"), Some("a"), Some("b"), None]))]);
    let contract =
        contract(vec![column("x", ColumnKind::Float), column("c", ColumnKind::String), column("y", ColumnKind::Bool)]);
    // Statistics come from the first three rows alone.
    let fitted = Pipeline::fit(&spec("y"), &contract, Recipe::Linear, &data, &[0, 1, 2], &[0.0; 4], 11).unwrap();
    let pipeline = fitted.pipeline;
    assert_eq!(dense_names(&pipeline), ["x", "x:missing"]);
    assert_eq!(pipeline.layout().slots, ["x:bin", "c"]);
    let inputs = pipeline.transform(&data).unwrap();
    // The 99.9 % quantile by the lower nearest rank of two values is the lesser one: both are clipped to it.
    assert_eq!(inputs.dense, [0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
    let slot = |row: usize, column: usize| inputs.slot_row(row)[column];
    assert!(slot(0, 0) != slot(1, 0) && slot(2, 0) != slot(0, 0) && slot(3, 0) != slot(1, 0));
    assert!(slot(0, 1) == slot(1, 1) && slot(2, 1) != slot(0, 1) && slot(3, 1) != slot(2, 1));
}

#[test]
fn local_time_follows_the_zone_through_its_changes() {
    // 2013-03-10: New York springs forward at 07:00 UTC.
    let sunday = "2013-03-10T06:30:00Z".parse::<vocabulary::Timestamp>().unwrap().0;
    let data = batch(&[("at", &instants(&[sunday, sunday + HOUR]))]);
    let contract = contract(vec![column("at", ColumnKind::Timestamp), column("y", ColumnKind::Bool)]);
    let parts = vec![TimePart::Hour, TimePart::MinuteOfDay, TimePart::Weekday, TimePart::DayOfYear];
    let declared = TimeParts { column: "at".to_owned(), zone: "America/New_York".to_owned(), parts };
    let features = FeatureSpec { time_parts: vec![declared], ..FeatureSpec::default() };
    let local = ModelSpec { time: Some("at".to_owned()), features, ..spec("y") };
    let inputs = fit(&local, &contract, Recipe::Trees, &data, &[0.0; 2]).transform(&data).unwrap();
    assert_eq!(inputs.dense, [1.0, 90.0, 6.0, 69.0, 3.0, 210.0, 6.0, 69.0]);

    let plain = ModelSpec { time: Some("at".to_owned()), ..spec("y") };
    let pipeline = fit(&plain, &contract, Recipe::Trees, &data, &[0.0; 2]);
    assert_eq!(dense_names(&pipeline), ["at:hour", "at:weekday"]);
    assert_eq!(pipeline.transform(&data).unwrap().dense, [6.0, 6.0, 7.0, 6.0]);
    assert_eq!(fit(&plain, &contract, Recipe::Linear, &data, &[0.0; 2]).layout().slots, ["at:hour", "at:weekday"]);
}

/// One key, ten rows: each row's mean must follow from the targets known before it, and no others.
#[test]
fn training_means_know_only_what_was_known() {
    let at: Vec<i64> = (0..10).map(|i| i * HOUR).collect();
    let outcome_at: Vec<i64> = at.iter().map(|at| at + 2 * HOUR).collect();
    let target: Vec<f64> = (0..10).map(|i| f64::from(i % 2)).collect();
    let data =
        batch(&[("at", &instants(&at)), ("known", &instants(&outcome_at)), ("tail", &strings(&[Some("N1"); 10]))]);
    let contract = contract(vec![
        column("at", ColumnKind::Timestamp),
        column("known", ColumnKind::Timestamp),
        column("tail", ColumnKind::String),
        column("late", ColumnKind::Bool),
    ]);
    let features = FeatureSpec {
        columns: vec!["tail".to_owned()],
        exclude: vec!["at".to_owned()],
        target_mean: vec!["tail".to_owned()],
        ..FeatureSpec::default()
    };
    let smoothed = |known: &[f64]| ((known.iter().sum::<f64>() + 10.0) / (known.len() as f64 + 20.0)) as f32;
    for (outcome, lag) in [(None, 1), (Some("known".to_owned()), 3)] {
        let time = Some("at".to_owned());
        let spec = ModelSpec { features: features.clone(), time, outcome_at: outcome, ..spec("late") };
        let pipeline = fit(&spec, &contract, Recipe::Trees, &data, &target);
        let inputs = pipeline.transform_training(&data, &target, 1).unwrap();
        for row in 0..10 {
            let known = &target[..(row + 1usize).saturating_sub(lag)];
            assert_eq!(inputs.dense_row(row)[0], smoothed(known), "row {row}, lag {lag}");
        }
        assert_eq!(pipeline.transform(&data).unwrap().dense_row(0)[0], smoothed(&target));
    }
}

/// A category that says nothing must look like nothing in training, though the plain mean would look like the target.
#[test]
fn noise_does_not_leak_the_target() {
    let rows = 3000;
    let noise = |row: usize, salt: u64| crate::hash::finish(row as u64 * 2 + salt);
    let names: Vec<String> = (0..rows).map(|row| format!("k{}", noise(row, 0) % 1000)).collect();
    let target: Vec<f64> = (0..rows).map(|row| f64::from((noise(row, 1) % 2) as u8)).collect();
    let data = batch(&[("k", &strings(&names.iter().map(|name| Some(name.as_str())).collect::<Vec<_>>()))]);
    let contract = contract(vec![column("k", ColumnKind::String), column("y", ColumnKind::Bool)]);
    let pipeline = fit(&spec("y"), &contract, Recipe::Trees, &data, &target);
    let correlation = |inputs: &Inputs| {
        let x: Vec<f64> = (0..rows).map(|row| f64::from(inputs.dense_row(row)[0])).collect();
        let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
        let (mx, my) = (mean(&x), mean(&target));
        let sum = |f: &dyn Fn(usize) -> f64| (0..rows).map(f).sum::<f64>();
        let covariance = sum(&|i| (x[i] - mx) * (target[i] - my));
        covariance / (sum(&|i| (x[i] - mx).powi(2)) * sum(&|i| (target[i] - my).powi(2))).sqrt()
    };
    // A correlation of nothing has a standard deviation of 1 / sqrt(3000) = 0.018.
    assert!(correlation(&pipeline.transform_training(&data, &target, 5).unwrap()).abs() < 0.08);
    assert!(correlation(&pipeline.transform(&data).unwrap()) > 0.3);
}

#[test]
fn collisions_are_counted() {
    let names: Vec<String> = (0..600).map(|i| (i % 300).to_string()).collect();
    let data = batch(&[("k", &strings(&names.iter().map(|name| Some(name.as_str())).collect::<Vec<_>>()))]);
    let contract = contract(vec![column("k", ColumnKind::String), column("y", ColumnKind::Bool)]);
    let mut spec = spec("y");
    for (bits, low, high) in [(8, 0.5, 0.9), (24, 0.0, 0.01)] {
        spec.learner.linear.table_bits = bits;
        let report = fit(&spec, &contract, Recipe::Linear, &data, &[0.0; 600]).collisions(&data).unwrap();
        assert_eq!((report.values, report.columns["k"].values), (300, 300));
        assert!((low..=high).contains(&report.share), "{report:?}");
        assert!((report.share - report.expected_share).abs() < 0.1, "{report:?}");
    }
}

#[test]
fn declarations_that_cannot_be_done_are_explained() {
    let data = crate::testing::wide_batch();
    let refused = |features: FeatureSpec| {
        let spec = ModelSpec { features, ..spec("bool_a") };
        let fitted = Pipeline::fit(&spec, &wide_contract(), Recipe::Trees, &data, &[0], &[0.0; 8], 1);
        fitted.unwrap_err().to_string()
    };
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let target = refused(FeatureSpec { cross: vec![names(&["string_a", "bool_a"])], ..FeatureSpec::default() });
    assert!(target.contains("never inputs"), "{target}");
    let float = refused(FeatureSpec { cross: vec![names(&["string_a", "float_a"])], ..FeatureSpec::default() });
    assert!(float.contains("\"float_a\" of type float; string or int or bool is expected"), "{float}");
    let parts = TimeParts { column: "timestamp_a".to_owned(), zone: "America/NewYork".to_owned(), parts: vec![] };
    let zone = refused(FeatureSpec { time_parts: vec![parts], ..FeatureSpec::default() });
    assert!(zone.contains("did you mean \"America/New_York\"?"), "{zone}");
    let none = refused(FeatureSpec {
        exclude: wide_contract().column_names().map(str::to_owned).collect(),
        ..FeatureSpec::default()
    });
    assert!(none.contains("no column is left"), "{none}");
}

#[test]
fn a_batch_that_does_not_fit_is_refused() {
    let ints: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let contract = contract(vec![column("x", ColumnKind::Int), column("y", ColumnKind::Bool)]);
    let pipeline = fit(&spec("y"), &contract, Recipe::Trees, &batch(&[("x", &ints)]), &[0.0]);
    let bools: ArrayRef = Arc::new(BooleanArray::from(vec![true]));
    assert!(pipeline.transform(&batch(&[("x", &bools)])).unwrap_err().to_string().contains("features::canonical"));
    let missing = pipeline.transform(&batch(&[("y", &bools)])).unwrap_err().to_string();
    assert!(missing.starts_with("column \"x\" is missing"), "{missing}");
}
