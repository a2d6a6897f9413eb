//! Streamed departures: as good as in memory, the same bytes however they come, and going on after a stop or later.

use super::*;
use crate::testing::{StopAt, contract, departures, spec};
use crate::train::{TrainRequest, train};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::{AtomicU64, Ordering};
use vocabulary::Span;
use vocabulary::model::ClassWeights;

/// Some rows, cut into batches of a size.
struct Cut<'a> {
    rows: &'a RecordBatch,
    size: usize,
    /// Rows handed out over all passes.
    read: AtomicU64,
}

impl Cut<'_> {
    fn new(rows: &RecordBatch, size: usize) -> Cut<'_> {
        Cut { rows, size, read: AtomicU64::new(0) }
    }
}

impl RowSource for Cut<'_> {
    fn pass(&self, first: u64) -> Result<Batches<'_>, LearnError> {
        let places = (first as usize..self.rows.num_rows()).step_by(self.size);
        Ok(Box::new(places.map(|at| {
            let batch = self.rows.slice(at, self.size.min(self.rows.num_rows() - at));
            self.read.fetch_add(batch.num_rows() as u64, Ordering::Relaxed);
            Ok(batch)
        })))
    }
}

const LIMITS: Limits = Limits { sample_rows: 4000, validation_rows: 3000, test_rows: 5000 };

fn request<'a>(spec: &'a ModelSpec, contract: &'a Contract, source: &'a dyn RowSource) -> StreamRequest<'a> {
    StreamRequest {
        spec,
        contract,
        source,
        limits: LIMITS,
        seed: 42,
        threads: 2,
        parent: None,
        earlier: &[],
        program: "0.0.0",
        progress: &|_| {},
        checkpoints: None,
    }
}

fn linear(task: Task, epochs: u32) -> ModelSpec {
    let mut spec = spec(task);
    spec.learner.linear.epochs = epochs;
    spec.learner.linear.table_bits = 12;
    spec
}

#[test]
fn as_good_as_in_memory_with_the_same_parts() {
    let (rows, contract) = (departures(20_000), contract());
    for task in [Task::Binary, Task::Regression, Task::Multiclass] {
        let spec = linear(task, 8);
        let streamed = train_streaming(&request(&spec, &contract, &Cut::new(&rows, 999))).unwrap();
        let whole = train(&TrainRequest {
            spec: &spec,
            contract: &contract,
            rows: &rows,
            learner: LearnerKind::Linear,
            seed: 42,
            threads: 2,
            parent: None,
            earlier: &[],
            start: None,
            teacher: None,
            program: "0.0.0",
            progress: &|_| {},
            checkpoints: None,
        })
        .unwrap();
        let name = if task == Task::Regression { "rmse" } else { "logloss" };
        let (ours, theirs) = (streamed.metrics.get(name).unwrap(), whole.metrics.get(name).unwrap());
        assert!(ours < 1.01 * theirs, "{task:?}: {ours} streamed, {theirs} in memory");
        let (a, b) = (&streamed.manifest, &whole.manifest);
        assert_eq!((a.rows, a.rows_without_outcome, a.rows_learned), (b.rows, b.rows_without_outcome, b.rows_learned));
        assert_eq!((a.rows_tested, b.rows_tested), (b.rows_tested.min(5000), b.rows / 5));
        assert_eq!(a.time, b.time);
        assert_eq!(streamed.digest, Bundle::decode(&streamed.encoded).unwrap().digest());
        assert!(inference::Predictor::load(&streamed.bundle).is_ok());
        let reference: Reference = streamed.bundle.json(section::REFERENCE).unwrap();
        assert!((3500..4500).contains(&reference.rows) && reference.loss.unwrap().rows == a.rows_tested);
    }
}

#[test]
fn the_same_bytes_on_any_number_of_threads_and_however_the_rows_are_cut() {
    // Two chunks a pass.
    let (rows, contract) = (departures(120_000), contract());
    let mut spec = linear(Task::Binary, 2);
    spec.learner.half_life = Some(Span::days(300));
    spec.learner.class_weights = ClassWeights::Balanced;
    spec.split.refit = true;
    spec.learner.linear.keep_state = true;
    let digests = [(1, 5000), (2, 777), (8, 120_000)].map(|(threads, size)| {
        let source = Cut::new(&rows, size);
        train_streaming(&StreamRequest { threads, ..request(&spec, &contract, &source) }).unwrap().digest
    });
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
    spec.learner.half_life = None;
    assert_ne!(train_streaming(&request(&spec, &contract, &Cut::new(&rows, 5000))).unwrap().digest, digests[0]);
}

#[test]
fn rows_without_time_are_split_by_their_keys() {
    let (rows, contract) = (departures(20_000), contract());
    let mut spec = linear(Task::Binary, 3);
    spec.time = None;
    spec.split.shuffle = true;
    spec.features.exclude.push("at".to_owned());
    let trained = train_streaming(&request(&spec, &contract, &Cut::new(&rows, 1000))).unwrap();
    assert!(trained.metrics.get("auc").unwrap() > 0.70);
    let manifest = trained.manifest;
    let share = (manifest.rows - manifest.rows_learned) as f64 / manifest.rows as f64;
    assert!((share - 0.2).abs() < 0.01, "{share}");
    assert_eq!(manifest.time, None);
}

#[test]
fn a_run_that_is_stopped_goes_on_where_it_was() {
    static STOP: AtomicBool = AtomicBool::new(false);
    let (rows, contract) = (departures(120_000), contract());
    let mut spec = linear(Task::Binary, 2);
    spec.split.refit = true;
    let source = Cut::new(&rows, 5000);
    let whole = train_streaming(&request(&spec, &contract, &source)).unwrap();
    let read = source.read.swap(0, Ordering::Relaxed);
    // Two chunks in each epoch of each of three fits.
    for boundary in [0, 4, 7] {
        let folder = tempfile::tempdir().unwrap();
        let attempt = |left| {
            let checkpoints = StopAt::new(folder.path(), &STOP, left);
            train_streaming(&StreamRequest { checkpoints: Some(&checkpoints), ..request(&spec, &contract, &source) })
        };
        assert!(matches!(attempt(boundary), Err(LearnError::Stopped)), "at {boundary}");
        source.read.store(0, Ordering::Relaxed);
        assert_eq!(attempt(u32::MAX).unwrap().digest, whole.digest, "stopped at {boundary}");
        assert!(boundary == 0 || source.read.load(Ordering::Relaxed) < read, "what was learned is not read again");
    }
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = StopAt::new(folder.path(), &STOP, u32::MAX);
    let other = StreamRequest { seed: 1, checkpoints: Some(&checkpoints), ..request(&spec, &contract, &source) };
    train_streaming(&other).unwrap();
    let again = StreamRequest { seed: 2, ..other };
    assert!(matches!(train_streaming(&again), Err(LearnError::OtherRun)));
}

/// Gives its first batch, then fails.
struct Broken<'a>(&'a RecordBatch);

impl RowSource for Broken<'_> {
    fn pass(&self, _: u64) -> Result<Batches<'_>, LearnError> {
        let failure = || LearnError::Source("the disk is gone".into());
        Ok(Box::new([Ok(self.0.clone()), Err(failure())].into_iter()))
    }
}

#[test]
fn what_cannot_be_learned_is_refused_in_words() {
    let contract = contract();
    let error = |spec: &ModelSpec, source: &dyn RowSource| match train_streaming(&request(spec, &contract, source)) {
        Ok(_) => panic!("the training should have been refused"),
        Err(error) => error.to_string(),
    };
    let (spec, rows) = (linear(Task::Binary, 2), departures(4000));
    assert!(error(&spec, &Cut::new(&rows.slice(0, 40), 7)).contains("39 rows have an outcome, 50 are needed"));
    assert!(error(&spec, &Cut::new(&rows.slice(0, 0), 7)).contains("null in all 0 rows"));
    assert!(error(&spec, &Broken(&rows)).contains("could not be read"));
    let backwards =
        arrow::compute::concat_batches(&rows.schema(), &[rows.slice(2000, 2000), rows.slice(0, 2000)]).unwrap();
    assert!(
        error(&spec, &Cut::new(&backwards, 500)).contains("row 2000 of the data"),
        "{}",
        error(&spec, &Cut::new(&backwards, 500))
    );
    let mut timeless = spec.clone();
    timeless.time = None;
    timeless.learner.half_life = Some(Span::days(1));
    assert!(error(&timeless, &Cut::new(&rows, 500)).contains("half_life needs a time column"));
    let mut one = spec.clone();
    (one.target, one.features.exclude) = ("delay".to_owned(), vec!["late".to_owned()]);
    assert!(error(&one, &Cut::new(&rows, 500)).contains("\"delay\""));
}

fn version(spec: &ModelSpec, rows: &RecordBatch) -> Bundle {
    train_streaming(&request(spec, &contract(), &Cut::new(rows, 1000))).unwrap().bundle
}

fn later<'a>(
    spec: &'a ModelSpec,
    contract: &'a Contract,
    version: &'a Bundle,
    rows: &'a RecordBatch,
) -> ContinueRequest<'a> {
    ContinueRequest { spec, contract, version, rows, program: "0.0.0" }
}

#[test]
fn a_version_with_its_state_goes_on_as_if_it_had_never_stopped() {
    let (rows, contract) = (departures(20_000), contract());
    let mut spec = linear(Task::Binary, 4);
    spec.learner.linear.keep_state = true;
    spec.learner.linear.batch_rows = 49;
    let first = version(&spec, &rows.slice(0, 10_000));
    // 49 of 50 rows have an outcome: 2000 rows are 40 mini-batches.
    let at_once = continue_linear(&later(&spec, &contract, &first, &rows.slice(10_000, 4000))).unwrap();
    let half = continue_linear(&later(&spec, &contract, &first, &rows.slice(10_000, 2000))).unwrap();
    let halves = continue_linear(&later(&spec, &contract, &half.bundle, &rows.slice(12_000, 2000))).unwrap();
    let model = |bundle: &Bundle| bundle.section(section::MODEL).unwrap().to_vec();
    assert!(model(&halves.bundle) == model(&at_once.bundle));
    assert!(model(&half.bundle) != model(&first));
    assert_eq!(halves.manifest.parent, Some(half.digest));
    assert_eq!(halves.manifest.rows_learned, half.manifest.rows_learned + 1960);
    assert_eq!(at_once.metrics.rows, 3920);
}

#[test]
fn new_rows_teach_with_and_without_state() {
    let (rows, contract) = (departures(20_000), contract());
    for task in [Task::Binary, Task::Regression, Task::Multiclass] {
        let name = if task == Task::Regression { "rmse" } else { "logloss" };
        let mut spec = linear(task, 4);
        let loss = |spec: &ModelSpec, rows: &RecordBatch| {
            let first = version(spec, rows);
            let told =
                continue_linear(&later(spec, &contract, &first, &departures(20_000).slice(4000, 12_000))).unwrap();
            let after = continue_linear(&later(spec, &contract, &told.bundle, &departures(20_000).slice(16_000, 4000)));
            after.unwrap().metrics.get(name).unwrap()
        };
        let few = rows.slice(0, 4000);
        let alone = {
            let first = version(&spec, &few);
            let after = continue_linear(&later(&spec, &contract, &first, &rows.slice(16_000, 4000))).unwrap();
            after.metrics.get(name).unwrap()
        };
        let without = loss(&spec, &few);
        spec.learner.linear.keep_state = true;
        let with = loss(&spec, &few);
        assert!(with < 1.005 * alone && without < 1.01 * alone, "{task:?}: {with} {without} {alone}");
    }
}

#[test]
fn versions_that_cannot_go_on_say_why() {
    let (rows, contract) = (departures(4000), contract());
    let mut spec = linear(Task::Binary, 2);
    spec.learner.linear.keep_state = true;
    let first = version(&spec, &rows);
    let error = |spec: &ModelSpec, rows: &RecordBatch| match continue_linear(&later(spec, &contract, &first, rows)) {
        Ok(_) => panic!("it should have been refused"),
        Err(error) => error.to_string(),
    };
    let other = linear(Task::Regression, 2);
    assert!(error(&other, &rows).contains("it predicts late (binary), not delay (regression)"));
    spec.learner.linear.method = vocabulary::model::LinearMethod::Adagrad;
    assert!(error(&spec, &rows).contains("another learner.linear.method"), "{}", error(&spec, &rows));
    assert!(error(&spec, &rows.slice(0, 0)).contains("null in all 0 rows"));
}
