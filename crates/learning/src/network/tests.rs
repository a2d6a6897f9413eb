//! Fits on made-up laws: what is learned, that nothing depends on threads or stops, what sparse groups remove.

use super::*;
use crate::checkpoint::Checkpoints;
use crate::fit::{Phase, Progress};
use inference::elementary::logistic;
use inference::network::Numeric;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use vocabulary::inputs::DenseColumn;
use vocabulary::model::{EmbeddingStorage, LearnerKind, NumericEncoding, Task};

fn silent(_: Progress) {}

fn watch(checkpoints: Option<&dyn Checkpoints>) -> Watch<'_> {
    Watch { seed: 3, learner: LearnerKind::Network, phase: Phase::Fit, progress: &silent, checkpoints }
}

fn goal(task: Task) -> Goal {
    Goal { task, outputs: if task == Task::Multiclass { 3 } else { 1 } }
}

fn uniform(row: usize, what: u64) -> f64 {
    (bits(99, Purpose::Split, what, row as u64) >> 11) as f64 / (1u64 << 53) as f64
}

/// Columns x (missing in each ninth row) and z (of no use); slots a (13 ids) and b (200 ids). The law bends in x, and
/// turns with the parity of a; ids of b move it up or down.
fn sum(row: usize) -> f64 {
    let (x, a, b) = (x(row), row % 13, (uniform(row, 3) * 200.0) as usize);
    let bend = if x.is_nan() { 0.0 } else { 2.0 * f64::from(x).abs() - 1.0 };
    bend * (if a.is_multiple_of(2) { 1.0 } else { -1.0 }) + if b.is_multiple_of(3) { 1.0 } else { -0.5 }
}

fn x(row: usize) -> f32 {
    if row.is_multiple_of(9) { f32::NAN } else { (4.0 * uniform(row, 1) - 2.0) as f32 }
}

fn layout(own_tables: Option<[u32; 2]>) -> Layout {
    let column = |name: &str| DenseColumn { name: name.to_owned(), categorical: false };
    Layout {
        dense: vec![column("x"), column("z")],
        slots: vec!["a".to_owned(), "b".to_owned()],
        table_bits: if own_tables.is_some() { 0 } else { 12 },
        tables: own_tables.map_or(Vec::new(), |tables| tables.to_vec()),
    }
}

const OWN: Option<[u32; 2]> = Some([13, 200]);

fn sample(task: Task, rows: std::ops::Range<usize>, layout: &Layout) -> Sample {
    let b = |row: usize| (uniform(row, 3) * 200.0) as u32;
    let id = |row: usize| {
        let (a, b) = ((row % 13) as u32, b(row));
        if layout.tables.is_empty() { [(a * 2_654_435) % 4096, (b * 40_503 + 77) % 4096] } else { [a, b] }
    };
    let target = |row: usize| match task {
        Task::Regression => 100.0 + 20.0 * sum(row) + uniform(row, 5),
        Task::Binary => f64::from(uniform(row, 5) < logistic(3.0 * sum(row))),
        Task::Multiclass if sum(row) < -0.5 => 0.0,
        Task::Multiclass => f64::from(u8::from(sum(row) >= 0.7)) + 1.0,
    };
    let inputs = Inputs {
        rows: rows.len(),
        dense_width: 2,
        dense: rows.clone().flat_map(|row| [x(row), (4.0 * uniform(row, 2) - 2.0) as f32]).collect(),
        slot_width: 2,
        slots: rows.clone().flat_map(id).collect(),
    };
    Sample { inputs, target: rows.map(target).collect(), weights: None }
}

fn small() -> NetworkSpec {
    NetworkSpec { hidden: vec![32, 16], cross_layers: 0, bins: 16, ..NetworkSpec::default() }
}

fn found(spec: &NetworkSpec, task: Task, tables: Option<[u32; 2]>) -> (Stopping, f64) {
    let layout = layout(tables);
    let (train, valid) = (sample(task, 0..12_000, &layout), sample(task, 12_000..15_000, &layout));
    let found = fit_stopping(spec, goal(task), &layout, &train, &valid, &watch(None)).unwrap();
    let error = loss(task, &found.scores, &valid.target);
    (found, error)
}

#[test]
fn laws_with_turns_are_found_in_every_task() {
    for tables in [OWN, None] {
        let (_, error) = found(&small(), Task::Regression, tables);
        assert!(error < 5.0, "{tables:?}: rmse {error} of a target with deviation 24");
        let (_, error) = found(&small(), Task::Binary, tables);
        assert!(error < 0.37, "{tables:?}: log loss {error}; that of the law itself is 0.33");
        let (_, error) = found(&small(), Task::Multiclass, tables);
        assert!(error < 0.25, "{tables:?}: log loss {error} of three classes");
    }
}

#[test]
fn every_encoding_and_layer_learns() {
    for numeric in [NumericEncoding::Plain, NumericEncoding::PiecewiseLinear, NumericEncoding::Periodic] {
        let spec =
            NetworkSpec { numeric, cross_layers: 1, residual: true, hidden: vec![32, 32], ..NetworkSpec::default() };
        let (_, error) = found(&spec, Task::Regression, OWN);
        assert!(error < 6.0, "{numeric:?}: rmse {error}");
    }
    let spec = NetworkSpec { dropout: 0.1, weight_decay: 0.01, ..small() };
    assert!(found(&spec, Task::Regression, OWN).1 < 8.0);
}

#[test]
fn a_memory_too_small_makes_ids_share_rows_and_says_so() {
    let spec = NetworkSpec { embedding_mb: 0.008, ..small() };
    let (found, error) = found(&spec, Task::Regression, OWN);
    assert!(error < 9.0, "rmse {error}");
    assert!(found.notes.iter().any(|note| note.contains("table 1 of 200 ids")), "{:?}", found.notes);
}

#[test]
fn rows_of_half_the_bits_lose_little() {
    for task in [Task::Regression, Task::Binary] {
        let spec = NetworkSpec { embedding_storage: EmbeddingStorage::Bf16, ..small() };
        let (half, full) = (found(&spec, task, OWN).1, found(&small(), task, OWN).1);
        assert!(half < 1.03 * full, "{task:?}: {half} beside {full}");
    }
}

#[test]
fn the_noise_scale_is_reported() {
    let (found, _) = found(&small(), Task::Binary, OWN);
    assert!(found.notes.iter().any(|note| note.starts_with("gradient noise scale")), "{:?}", found.notes);
}

#[test]
fn rare_rows_with_large_weights_win() {
    let layout = layout(OWN);
    let mut train = sample(Task::Binary, 0..4000, &layout);
    train.target.iter_mut().enumerate().for_each(|(row, target)| *target = f64::from(row.is_multiple_of(4)));
    let mean = |weights: Option<Vec<f32>>| {
        let train = Sample { inputs: train.inputs.clone(), target: train.target.clone(), weights };
        let model = fit(&small(), goal(Task::Binary), &layout, &train, 2, &watch(None)).unwrap();
        let mut scores = Vec::new();
        model.predict(&train.inputs, &mut scores).unwrap();
        scores.iter().sum::<f64>() / scores.len() as f64
    };
    assert!((mean(None) - 0.25).abs() < 0.08);
    let weights = (0..4000).map(|row: usize| if row.is_multiple_of(4) { 2.0 } else { 2.0 / 3.0 }).collect();
    assert!((mean(Some(weights)) - 0.5).abs() < 0.08);
}

/// Everything that can depend on order: all tables, layers, dropout, groups, a part of a batch at the end.
fn thorny() -> NetworkSpec {
    NetworkSpec {
        cross_layers: 1,
        dropout: 0.2,
        weight_decay: 0.01,
        group_l2: 0.0001,
        batch_rows: 300,
        epochs: 4,
        embedding_mb: 0.01,
        embedding_storage: EmbeddingStorage::Bf16,
        ..small()
    }
}

#[test]
fn the_same_bytes_on_any_number_of_threads() {
    for tables in [OWN, None] {
        let layout = layout(tables);
        let train = sample(Task::Binary, 0..2000, &layout);
        let bytes = [1, 2, 8].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| fit(&thorny(), goal(Task::Binary), &layout, &train, 3, &watch(None)).unwrap().to_bytes())
        });
        assert!(bytes.iter().all(|each| *each == bytes[0]), "{tables:?}");
    }
}

/// Keeps each state and asks to stop after so many steps.
struct StopAfter {
    steps: AtomicUsize,
    kept: Mutex<Option<Vec<u8>>>,
}

impl StopAfter {
    fn new(steps: usize, kept: Option<Vec<u8>>) -> StopAfter {
        StopAfter { steps: AtomicUsize::new(steps), kept: Mutex::new(kept) }
    }
}

impl Checkpoints for StopAfter {
    fn load(&self, _: &str) -> Option<Vec<u8>> {
        self.kept.lock().unwrap().clone()
    }

    fn offer(&self, _: &str, state: &dyn Fn() -> Vec<u8>) -> Result<(), LearnError> {
        if self.steps.fetch_sub(1, Ordering::Relaxed) > 1 {
            return Ok(());
        }
        *self.kept.lock().unwrap() = Some(state());
        Err(LearnError::Stopped)
    }

    fn finish(&self, _: &str, _: &[u8]) -> Result<(), LearnError> {
        Ok(())
    }
}

/// Runs `fit`, stopping it after each number of steps and going on from what was kept.
fn interrupted<T>(stops: &[usize], fit: impl Fn(&Watch) -> Result<T, LearnError>) -> T {
    let mut kept = None;
    for steps in stops {
        let checkpoints = StopAfter::new(*steps, kept);
        assert!(matches!(fit(&watch(Some(&checkpoints))), Err(LearnError::Stopped)));
        kept = checkpoints.kept.into_inner().unwrap();
    }
    fit(&watch(Some(&StopAfter::new(usize::MAX, kept)))).unwrap()
}

#[test]
fn a_fit_that_was_stopped_ends_with_the_same_bytes() {
    let layout = layout(OWN);
    let (train, valid) = (sample(Task::Binary, 0..2000, &layout), sample(Task::Binary, 2000..2500, &layout));
    // Seven steps an epoch: within the first, at the end of the second, and one step into the last.
    let stops = [3, 11, 8];
    let whole =
        |watch: &Watch| fit(&thorny(), goal(Task::Binary), &layout, &train, 4, watch).map(|model| model.to_bytes());
    assert_eq!(interrupted(&stops, whole), whole(&watch(None)).unwrap());
    let stopping = |watch: &Watch| fit_stopping(&thorny(), goal(Task::Binary), &layout, &train, &valid, watch);
    assert_eq!(interrupted(&stops, stopping).to_bytes(), stopping(&watch(None)).unwrap().to_bytes());
}

#[test]
fn a_state_of_another_shape_begins_anew() {
    let layout = layout(OWN);
    let train = sample(Task::Binary, 0..1000, &layout);
    let spec = small();
    let bytes = |kept: Option<Vec<u8>>| {
        let checkpoints = StopAfter::new(usize::MAX, kept);
        fit(&spec, goal(Task::Binary), &layout, &train, 1, &watch(Some(&checkpoints))).unwrap().to_bytes()
    };
    let run = Run::new(&spec, goal(Task::Binary), &layout, &train, None, &watch(None)).unwrap();
    let mut state = run.to_bytes();
    state.truncate(state.len() - 4);
    assert_eq!(bytes(Some(state)), bytes(None));
    assert_eq!(bytes(Some(b"nonsense".to_vec())), bytes(None));
}

#[test]
fn early_stopping_gives_what_a_fit_of_as_many_epochs_gives() {
    for task in [Task::Regression, Task::Multiclass] {
        let layout = layout(OWN);
        let (train, valid) = (sample(task, 0..2000, &layout), sample(task, 2000..2500, &layout));
        let spec = NetworkSpec { epochs: 5, ..thorny() };
        let found = fit_stopping(&spec, goal(task), &layout, &train, &valid, &watch(None)).unwrap();
        let again = fit(&spec, goal(task), &layout, &train, found.rounds, &watch(None)).unwrap();
        let mut scores = Vec::new();
        again.predict(&valid.inputs, &mut scores).unwrap();
        // Groups at zero are removed at the end only; the answers are the same.
        assert_eq!(scores, found.scores);
    }
}

#[test]
fn sparse_groups_remove_a_column_of_no_use_and_the_model_shrinks() {
    let layout = layout(OWN);
    let train = sample(Task::Regression, 0..8000, &layout);
    let fitted = |group_l2: f64| {
        let spec = NetworkSpec { group_l2, learning_rate: 0.003, ..small() };
        let model = fit(&spec, goal(Task::Regression), &layout, &train, 12, &watch(None)).unwrap();
        let mut scores = Vec::new();
        model.predict(&train.inputs, &mut scores).unwrap();
        let bytes = model.to_bytes();
        let parts = NetworkModel::from_bytes(&bytes, &layout).unwrap().parts().clone();
        (parts, bytes.len(), loss(Task::Regression, &scores, &train.target))
    };
    let ((_, dense_bytes, _), (parts, bytes, error)) = (fitted(0.0), fitted(0.5));
    assert_eq!(parts.numeric[1], Numeric::Unused, "z says nothing");
    assert_ne!(parts.numeric[0], Numeric::Unused);
    assert!(parts.hidden[0].dense.outputs < 28, "{} units", parts.hidden[0].dense.outputs);
    assert!(bytes < dense_bytes * 9 / 10, "{bytes} of {dense_bytes}");
    assert!(error < 6.0, "rmse {error} of a target with deviation 24");
}

#[test]
fn rates_that_leave_finite_numbers_are_named() {
    let layout = layout(OWN);
    let train = sample(Task::Regression, 0..500, &layout);
    let spec = NetworkSpec { learning_rate: f64::NAN, ..small() };
    let Err(error) = fit(&spec, goal(Task::Regression), &layout, &train, 1, &watch(None)) else { panic!("no error") };
    assert!(error.to_string().contains("learner.network.learning_rate"), "{error}");
    assert!(fit_stopping(&spec, goal(Task::Regression), &layout, &train, &train, &watch(None)).is_err());
}

/// A small network after two epochs, by the declaration.
fn trained(spec: &NetworkSpec, task: Task) -> inference::network::NetworkParts {
    let layout = layout(OWN);
    let model = fit(spec, goal(task), &layout, &sample(task, 0..4000, &layout), 2, &watch(None)).unwrap();
    NetworkModel::from_bytes(&model.to_bytes(), &layout).unwrap().parts().clone()
}

/// Larger in everything that can be.
fn larger() -> NetworkSpec {
    NetworkSpec {
        hidden: vec![48, 48, 24],
        residual: true,
        cross_layers: 1,
        embedding_width: Some(9),
        bins: 24,
        ..small()
    }
}

const SMALL: &[&[u32]] = &[&[32, 16], &[20], &[24, 24]];

#[test]
fn a_grown_network_begins_with_the_answers_of_the_small_one() {
    for (task, hidden) in [Task::Binary, Task::Regression, Task::Multiclass].into_iter().zip(SMALL) {
        let spec = NetworkSpec { hidden: hidden.to_vec(), residual: true, embedding_width: Some(5), ..small() };
        let (parts, layout) = (trained(&spec, task), layout(OWN));
        let start = Start { parts: &parts, spec: &spec, origins: &[], shrink: 1.0 };
        let (rows, new) = (sample(task, 4000..5000, &layout), larger());
        let run = Run::new(&new, goal(task), &layout, &rows, Some(&start), &watch(None)).unwrap();
        let grown = NetworkModel::new(run.learner.parts(), layout.clone()).unwrap();
        let units: Vec<u32> = grown.parts().hidden.iter().map(|layer| layer.dense.outputs).collect();
        assert_eq!((units, grown.parts().cross.len()), (vec![48, 48, 24], 1));
        assert!(grown.parts().tables.iter().all(|table| table.dimension == 9));
        assert!(grown.parts().width() > parts.width() + 8);
        let small = NetworkModel::new(parts, layout).unwrap();
        let of = |model: &NetworkModel| scores(model, &rows.inputs).unwrap();
        let unit = if task == Task::Regression { 20.0 } else { 1.0 };
        assert!(
            of(&small).iter().zip(of(&grown)).all(|(a, b)| (a - b).abs() < 1e-6 * unit * (a / unit).abs().max(1.0))
        );
    }
}

#[test]
fn a_grown_fit_is_the_same_on_any_number_of_threads_and_after_stops_and_goes_down() {
    let task = Task::Binary;
    let (parts, layout, spec) = (trained(&small(), task), layout(OWN), NetworkSpec { cross_layers: 1, ..thorny() });
    let spec = NetworkSpec { hidden: vec![40, 40, 16], embedding_mb: 1.0, ..spec };
    let (train, valid) = (sample(task, 0..2000, &layout), sample(task, 2000..2500, &layout));
    let start = Start { parts: &parts, spec: &small(), origins: &[], shrink: 0.9 };
    let whole = |watch: &Watch| {
        fit_from(&spec, goal(task), &layout, &train, Some(&start), 4, watch).map(|model| model.to_bytes())
    };
    let bytes = [1, 2, 8].map(|threads| {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(|| whole(&watch(None)).unwrap())
    });
    assert!(bytes.iter().all(|each| *each == bytes[0]));
    let stops = [3, 11, 8];
    assert!(interrupted(&stops, whole) == bytes[0]);
    let stopping = |watch: &Watch| fit_stopping_from(&spec, goal(task), &layout, &train, &valid, Some(&start), watch);
    let found = stopping(&watch(None)).unwrap();
    assert_eq!(interrupted(&stops, stopping).to_bytes(), found.to_bytes());
    let anew = fit_stopping(&spec, goal(task), &layout, &train, &valid, &watch(None)).unwrap();
    let error = |found: &Stopping| loss(task, &found.scores, &valid.target);
    assert!(error(&found) < error(&anew), "{} beside {}", error(&found), error(&anew));
}

#[test]
fn shrinking_lies_between_the_start_and_a_beginning() {
    let (task, layout) = (Task::Binary, layout(OWN));
    let (parts, spec, rows) = (trained(&small(), task), small(), sample(task, 0..4000, &layout));
    let begun = |start: Option<&Start>| {
        Run::new(&spec, goal(task), &layout, &rows, start, &watch(None)).unwrap().learner.parts()
    };
    let with = |shrink: f64| begun(Some(&Start { parts: &parts, spec: &spec, origins: &[], shrink }));
    let fresh = begun(None);
    let numbers = |parts: &inference::network::NetworkParts| {
        let tables = parts.tables.iter().flat_map(|table| table.weights.clone());
        parts.weights().into_iter().chain(tables).collect::<Vec<f32>>()
    };
    assert_eq!(numbers(&with(1.0)), numbers(&parts));
    assert_eq!(numbers(&with(0.0)), numbers(&fresh));
    for ((half, start), fresh) in numbers(&with(0.5)).iter().zip(numbers(&parts)).zip(numbers(&fresh)) {
        assert!((half - 0.5 * (start + fresh)).abs() < 1e-6);
    }
}

#[test]
fn what_sparse_groups_removed_grows_back() {
    let (task, layout) = (Task::Regression, layout(OWN));
    let rows = sample(task, 0..8000, &layout);
    let sparse = NetworkSpec { group_l2: 0.5, learning_rate: 0.003, ..small() };
    let model = fit(&sparse, goal(task), &layout, &rows, 12, &watch(None)).unwrap();
    let parts = NetworkModel::from_bytes(&model.to_bytes(), &layout).unwrap().parts().clone();
    assert_eq!(parts.numeric[1], Numeric::Unused);
    let (spec, start) = (small(), Start { parts: &parts, spec: &sparse, origins: &[], shrink: 1.0 });
    let run = Run::new(&spec, goal(task), &layout, &rows, Some(&start), &watch(None)).unwrap();
    let grown = NetworkModel::new(run.learner.parts(), layout.clone()).unwrap();
    assert_ne!(grown.parts().numeric[1], Numeric::Unused);
    assert_eq!(grown.parts().hidden[0].dense.outputs, 32);
    let (mut before, after) = (Vec::new(), scores(&grown, &rows.inputs).unwrap());
    model.predict(&rows.inputs, &mut before).unwrap();
    assert!(before.iter().zip(&after).all(|(a, b)| (a - b).abs() < 1e-4), "of a target around 100");
}

#[test]
fn a_declaration_smaller_than_the_start_is_refused_in_words() {
    let (task, layout) = (Task::Binary, layout(OWN));
    let then = NetworkSpec { hidden: vec![32], cross_layers: 1, embedding_width: Some(6), ..small() };
    let (parts, rows) = (trained(&then, task), sample(task, 0..500, &layout));
    let start = Start { parts: &parts, spec: &then, origins: &[], shrink: 1.0 };
    for (spec, words) in [
        (NetworkSpec { hidden: vec![16], ..then.clone() }, "its hidden layers [32] do not grow into"),
        (NetworkSpec { hidden: vec![], ..then.clone() }, "learner.network.hidden"),
        (NetworkSpec { cross_layers: 0, ..then.clone() }, "cross_layers says; declare at least 1"),
        (NetworkSpec { embedding_width: Some(4), ..then.clone() }, "embedding_width says; declare at least 6"),
        (NetworkSpec { embedding_width: Some(64), embedding_mb: 0.01, ..then.clone() }, "embedding_mb is for 2500"),
    ] {
        let error = fit_from(&spec, goal(task), &layout, &rows, Some(&start), 1, &watch(None)).map(|_| ()).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}
