//! Planted columns: useful, repeated, of noise, constant.

use super::*;
use crate::keyed::{Purpose, bits};
use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
use inference::elementary::logistic;
use std::sync::{Arc, Mutex};
use vocabulary::contract::{Column, ColumnKind};
use vocabulary::model::Task;

fn uniform(row: usize, salt: u64) -> f64 {
    (bits(5, Purpose::Split, 100 + salt, row as u64) >> 11) as f64 / (1u64 << 53) as f64
}

const NOISE: usize = 6;

/// `strong`, `weak` and `kind` make the target; `again` is `strong` in other units, the rest says nothing.
fn planted(rows: usize) -> RecordBatch {
    let number =
        |value: &dyn Fn(usize) -> f64| Arc::new(Float64Array::from_iter_values((0..rows).map(value))) as ArrayRef;
    let kinds = ["calm", "windy", "storm"];
    let kind = |row| (uniform(row, 2) * 3.0) as usize;
    let sum = |row| 6.0 * (uniform(row, 0) - 0.5) + 2.5 * (uniform(row, 1) - 0.5) + 0.9 * (kind(row) as f64 - 1.0);
    let target = Int64Array::from_iter_values((0..rows).map(|row| i64::from(uniform(row, 3) < logistic(sum(row)))));
    let mut columns: Vec<(String, ArrayRef)> = vec![
        ("constant".to_owned(), number(&|_| 4.0)),
        ("strong".to_owned(), number(&|row| uniform(row, 0))),
        ("weak".to_owned(), number(&|row| uniform(row, 1))),
        ("again".to_owned(), number(&|row| 100.0 + 7.0 * uniform(row, 0))),
        ("kind".to_owned(), Arc::new(StringArray::from_iter_values((0..rows).map(|row| kinds[kind(row)])))),
    ];
    columns.extend((0..NOISE).map(|place| (format!("noise{place}"), number(&|row| uniform(row, 10 + place as u64)))));
    columns.push(("y".to_owned(), Arc::new(target)));
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

fn declared(batch: &RecordBatch) -> (ModelSpec, Contract) {
    let mut contract = crate::testing::contract();
    let template = contract.columns[0].clone();
    let column = |field: &arrow::datatypes::FieldRef| Column {
        name: field.name().clone(),
        kind: match field.data_type() {
            arrow::datatypes::DataType::Utf8 => ColumnKind::String,
            arrow::datatypes::DataType::Int64 => ColumnKind::Int,
            _ => ColumnKind::Float,
        },
        ..template.clone()
    };
    contract.columns = batch.schema().fields().iter().map(column).collect();
    contract.time = None;
    let mut spec = crate::testing::spec(Task::Binary);
    (spec.target, spec.time) = ("y".to_owned(), None);
    spec.features = FeatureSpec::default();
    spec.learner.trees.rounds = 60;
    spec.learner.trees.leaves = 8;
    (spec, contract)
}

fn selected(batch: &RecordBatch, learner: LearnerKind, threads: usize) -> Selection {
    let (spec, contract) = declared(batch);
    selected_for(&spec, &contract, batch, learner, threads)
}

fn selected_for(
    spec: &ModelSpec,
    contract: &Contract,
    batch: &RecordBatch,
    learner: LearnerKind,
    threads: usize,
) -> Selection {
    let stages = Mutex::new(Vec::new());
    let request = SelectRequest {
        spec,
        contract,
        rows: batch,
        learner,
        seed: 3,
        threads,
        repeats: 2,
        shuffles: 8,
        sizes: Vec::new(),
        tolerance: 0.01,
        progress: &|progress| stages.lock().unwrap().push(progress),
    };
    let mut selection = run(&request).unwrap();
    let last = *stages.lock().unwrap().last().unwrap();
    assert_eq!((last.stage, last.done), (SelectStage::Curve, last.total));
    for point in &mut selection.curve {
        assert!(point.seconds_per_1000_rows > 0.0 && point.model_bytes > 100);
        point.seconds_per_1000_rows = 0.0;
    }
    selection
}

fn kept(selection: &Selection) -> Vec<&str> {
    selection.columns.iter().filter(|column| column.kept).map(|column| column.name.as_str()).collect()
}

#[test]
fn planted_columns_are_found_and_noise_is_not() {
    let batch = planted(4000);
    for learner in [LearnerKind::Trees, LearnerKind::Linear] {
        let selection = selected(&batch, learner, 1);
        assert_eq!(kept(&selection), ["strong", "kind", "weak"], "{selection:#?}");
        let named = |name: &str| selection.columns.iter().find(|column| column.name == name).unwrap();
        assert_eq!(named("again").repeats.as_deref(), Some("strong"));
        assert_eq!(named("constant").repeats, None);
        let information = |name: &str| named(name).mutual_information.unwrap();
        assert!(information("strong") > information("weak") && information("weak") > information("noise0").max(0.003));
        assert!(information("noise0").abs() < 0.006, "{}", information("noise0"));
        assert!((information("again") - information("strong")).abs() < 1e-12);
        assert_eq!(named("strong").importance.unwrap().p, 1.0 / 9.0);

        // One column, two, the three that are kept, and all that there are.
        let sizes: Vec<usize> = selection.curve.iter().map(|point| point.columns).collect();
        assert_eq!(sizes, [1, 2, 3, 5 + NOISE]);
        assert!(selection.curve[0].loss > selection.curve[2].loss + 0.02, "{:?}", selection.curve);
        let proposal = &selection.proposal;
        assert_eq!(proposal.features.columns, ["strong", "weak", "kind"]);
        assert!(proposal.loss <= proposal.loss_of_all * 1.01);
        assert!(serde_json::to_string(&selection).unwrap().contains("\"mutual_information\""));
    }
}

#[test]
fn a_quantity_needs_the_one_column_that_it_follows_from() {
    let batch = planted(1500);
    let (mut spec, contract) = declared(&batch);
    (spec.task, spec.target, spec.features.exclude) = (Task::Regression, "strong".to_owned(), vec!["y".to_owned()]);
    let selection = selected_for(&spec, &contract, &batch, LearnerKind::Trees, 1);
    assert_eq!(kept(&selection), ["again"]);
    assert!(selection.columns[0].mutual_information.unwrap() > 2.0);
    assert_eq!(selection.proposal.features.columns, ["again"]);
    assert_eq!(selection.curve.iter().map(|point| point.columns).collect::<Vec<_>>(), [1, 4 + NOISE]);
}

#[test]
fn the_same_selection_on_any_number_of_threads() {
    let batch = planted(1500);
    assert_eq!(selected(&batch, LearnerKind::Trees, 1), selected(&batch, LearnerKind::Trees, 3));
}

#[test]
fn what_is_made_of_left_out_columns_goes_with_them() {
    let (mut spec, _) = declared(&planted(60));
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    spec.time = Some("at".to_owned());
    spec.features.cross = vec![names(&["kind", "zone"]), names(&["kind", "city"])];
    spec.features.target_mean = names(&["city", "kind*city", "zone"]);
    let all = names(&["at", "kind", "zone", "city", "strong"]);
    let features = only(&spec, &all, &names(&["kind", "zone", "strong"]));
    assert_eq!(features.columns, ["kind", "zone", "strong"]);
    assert_eq!(features.exclude, ["at"]);
    assert_eq!(features.cross, [names(&["kind", "zone"])]);
    assert_eq!(features.target_mean, ["zone"]);
}

#[test]
fn shuffled_targets_are_the_same_values_elsewhere_and_leave_the_test_rows_alone() {
    let batch = planted(300);
    let (spec, contract) = declared(&batch);
    let request = SelectRequest {
        spec: &spec,
        contract: &contract,
        rows: &batch,
        learner: LearnerKind::Linear,
        seed: 3,
        threads: 1,
        repeats: 1,
        shuffles: 1,
        sizes: vec![],
        tolerance: 0.0,
        progress: &|_| {},
    };
    with_job(&request, LearnerKind::Linear, &spec, |job| {
        let shuffled = importance::shuffled_target(job, 3, 0);
        assert_ne!(shuffled, job.target);
        assert_eq!(shuffled.iter().sum::<f64>(), job.target.iter().sum::<f64>());
        assert!(job.split.test.iter().all(|row| shuffled[*row as usize] == job.target[*row as usize]));
        Ok(())
    })
    .unwrap();
}
