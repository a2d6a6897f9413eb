//! Laws that are found again, the same bytes on any number of threads and after a stop.

use super::*;
use crate::checkpoint::Checkpoints;
use crate::fit::{Phase, Progress};
use crate::testing::StopAt;
use std::sync::atomic::AtomicBool;
use vocabulary::Inputs;
use vocabulary::inputs::DenseColumn;
use vocabulary::model::{LearnerKind, LinearMethod, Task};

const REGRESSION: Goal = Goal { task: Task::Regression, outputs: 1 };
const BINARY: Goal = Goal { task: Task::Binary, outputs: 1 };
const CLASSES: Goal = Goal { task: Task::Multiclass, outputs: 3 };

fn layout() -> Layout {
    let column = |name: &str| DenseColumn { name: name.to_owned(), categorical: false };
    let slots = vec!["c".to_owned(), "d".to_owned()];
    Layout { dense: vec![column("x"), column("y")], slots, table_bits: 8, ..Layout::default() }
}

/// The law's sum is 20 x - 10 where the category is odd; x is missing in each ninth row, y and d say nothing.
fn sample(goal: Goal, rows: usize) -> Sample {
    let x = |row: usize| (row * 37 % 101) as f32 / 50.0 - 1.0;
    let gap = |row: usize| row.is_multiple_of(9);
    let dense = (0..rows).flat_map(|row| [if gap(row) { f32::NAN } else { x(row) }, x(row * 7 + 3)]).collect();
    let slots = (0..rows).flat_map(|row| [(row % 13) as u32, 100 + (row * 31 % 29) as u32]).collect();
    let inputs = Inputs { rows, dense_width: 2, dense, slot_width: 2, slots };
    let value = |row: usize| if gap(row) { 0.0 } else { f64::from(x(row)) };
    let sum = |row: usize| 20.0 * value(row) - 10.0 * (row % 13 % 2) as f64;
    let target = |row: usize| match goal.task {
        Task::Regression => 100.0 + sum(row),
        Task::Binary => f64::from(sum(row) > -5.0),
        Task::Multiclass => f64::from(sum(row) > -12.0) + f64::from(sum(row) > 4.0),
    };
    let weights = (goal != REGRESSION).then(|| (0..rows).map(|row| 0.5 + (row % 3) as f32 * 0.5).collect());
    Sample { inputs, target: (0..rows).map(target).collect(), weights }
}

fn silent(_: Progress) {}

fn watch(checkpoints: Option<&dyn Checkpoints>) -> Watch<'_> {
    Watch { seed: 3, learner: LearnerKind::Linear, phase: Phase::Fit, progress: &silent, checkpoints }
}

fn spec(method: LinearMethod) -> LinearSpec {
    LinearSpec { method, l1: 0.01, l2: 0.01, epochs: 20, ..LinearSpec::default() }
}

const METHODS: [LinearMethod; 2] = [LinearMethod::Ftrl, LinearMethod::Adagrad];

fn loss_of(model: &dyn Model, goal: Goal, sample: &Sample) -> f64 {
    let mut scores = Vec::new();
    model.predict(&sample.inputs, &mut scores).unwrap();
    loss(goal.task, &scores, &sample.target)
}

#[test]
fn a_law_is_found_by_either_method_in_the_targets_own_unit() {
    for method in METHODS {
        // A tenth of the deviation of 15; a fifth of the log loss of knowing nothing.
        for (goal, bound) in [(REGRESSION, 1.5), (BINARY, 0.14), (CLASSES, 0.22)] {
            let rows = sample(goal, 20_000);
            let model = fit(&spec(method), goal, &layout(), &rows, 20, &watch(None)).unwrap();
            let error = loss_of(&*model, goal, &rows);
            assert!(error < bound, "{method:?} {goal:?}: {error}");
            assert_eq!(model.outputs(), goal.outputs);
        }
    }
}

#[test]
fn early_stopping_gives_what_a_fit_of_as_many_epochs_gives() {
    for goal in [REGRESSION, CLASSES] {
        let rows = sample(goal, 500);
        let spec = LinearSpec { alpha: 2.0, ..LinearSpec::default() };
        let found = fit_stopping(&spec, goal, &layout(), &rows, &rows, &watch(None)).unwrap();
        let again = fit(&spec, goal, &layout(), &rows, found.rounds, &watch(None)).unwrap();
        let mut scores = Vec::new();
        again.predict(&rows.inputs, &mut scores).unwrap();
        assert_eq!(scores, found.scores);
    }
}

#[test]
fn the_same_bytes_on_any_number_of_threads() {
    for method in METHODS {
        for goal in [REGRESSION, BINARY, CLASSES] {
            let rows = sample(goal, 3000);
            let spec = LinearSpec { batch_rows: 1000, keep_state: true, ..spec(method) };
            let bytes = [1, 2, 8].map(|threads| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| fit(&spec, goal, &layout(), &rows, 3, &watch(None)).unwrap().to_bytes())
            });
            assert!(bytes.iter().all(|other| *other == bytes[0]), "{method:?} {goal:?}");
        }
    }
}

#[test]
fn weights_count_and_the_seed_orders() {
    let mut rows = sample(BINARY, 500);
    let one = |rows: &Sample, seed| {
        let watch = Watch { seed, ..watch(None) };
        fit(&LinearSpec::default(), BINARY, &layout(), rows, 1, &watch).unwrap().to_bytes()
    };
    let before = one(&rows, 3);
    assert_ne!(before, one(&rows, 4));
    rows.weights = None;
    assert_ne!(before, one(&rows, 3));
}

/// Penalties shrink what the data does not insist on, to zero with l1.
#[test]
fn penalties_shrink() {
    let rows = sample(BINARY, 2000);
    for method in METHODS {
        let zeros = |l1: f64, l2: f64| {
            let spec = LinearSpec { l1, l2, ..spec(method) };
            let model = fit(&spec, BINARY, &layout(), &rows, 5, &watch(None)).unwrap();
            let found = model.contributions(&rows.inputs).unwrap();
            let size: f64 = found.parts.iter().map(|part| part.abs()).sum();
            (found.parts.iter().filter(|part| **part == 0.0).count(), size)
        };
        let (free, sparse, small) = (zeros(0.0, 0.0), zeros(8.0, 0.0), zeros(0.0, 100.0));
        assert!(sparse.0 > 2 * free.0, "{method:?}: {} {}", sparse.0, free.0);
        assert!(small.1 < 0.8 * free.1, "{method:?}: {} {}", small.1, free.1);
    }
}

#[test]
fn a_run_that_is_stopped_and_goes_on_ends_with_the_same_bytes() {
    static STOP: AtomicBool = AtomicBool::new(false);
    let rows = sample(CLASSES, 3000);
    // 94 mini-batches a pass: a boundary within each and one at its end.
    let spec = LinearSpec { batch_rows: 32, keep_state: true, ..spec(LinearMethod::Adagrad) };
    let stopping = |watch: &Watch| fit_stopping(&spec, CLASSES, &layout(), &rows, &rows, watch);
    let whole = stopping(&watch(None)).unwrap();
    let model = fit(&spec, CLASSES, &layout(), &rows, 5, &watch(None)).unwrap().to_bytes();
    for boundary in [0, 3, 8] {
        let folder = tempfile::tempdir().unwrap();
        let open = |left| StopAt::new(folder.path(), &STOP, left);
        assert!(matches!(stopping(&watch(Some(&open(boundary)))), Err(LearnError::Stopped)));
        let after = stopping(&watch(Some(&open(u32::MAX)))).unwrap();
        assert_eq!((after.rounds, &after.scores), (whole.rounds, &whole.scores), "stopped at {boundary}");

        let refit = |left| {
            let checkpoints = open(left);
            let watch = Watch { phase: Phase::Refit, ..watch(Some(&checkpoints)) };
            fit(&spec, CLASSES, &layout(), &rows, 5, &watch)
        };
        assert!(matches!(refit(boundary), Err(LearnError::Stopped)));
        assert!(refit(u32::MAX).unwrap().to_bytes() == model, "stopped at {boundary}");
    }
}

#[test]
fn damaged_state_is_none_and_the_fit_begins_anew() {
    let rows = sample(BINARY, 500);
    let mut course = Course::begin(&spec(LinearMethod::Ftrl), BINARY, &layout(), &rows, None, &watch(None)).unwrap();
    course.pass(&rows, &watch(None)).unwrap();
    let state = course.state(0);
    assert!(course.restore(&state).is_some());
    for length in [0, 4, 20, 60, state.len() - 1] {
        assert!(course.restore(&state[..length]).is_none());
    }
}

#[test]
fn rates_that_leave_finite_numbers_are_named() {
    let rows = sample(REGRESSION, 500);
    let spec = LinearSpec { alpha: f64::NAN, ..LinearSpec::default() };
    let Err(error) = fit(&spec, REGRESSION, &layout(), &rows, 1, &watch(None)) else { panic!("no error") };
    assert!(error.to_string().contains("learner.linear.alpha"), "{error}");
}

#[test]
fn slots_outside_the_table_are_refused() {
    let mut rows = sample(REGRESSION, 50);
    rows.inputs.slots[7] = 256;
    let Err(error) = fit(&LinearSpec::default(), REGRESSION, &layout(), &rows, 1, &watch(None)) else {
        panic!("no error")
    };
    let LearnError::Model(source) = error else { panic!("{error}") };
    assert!(source.to_string().contains("layout"), "{source}");
}
