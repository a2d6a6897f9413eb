//! Training from rows to bundle, on synthetic departures.

use super::*;
use crate::testing::{contract, departures, spec};
use arrow::array::{ArrayRef, Int64Array};
use std::sync::{Arc, Mutex};
use vocabulary::Span;
use vocabulary::model::SplitSpec;

struct Attempt {
    spec: ModelSpec,
    rows: RecordBatch,
    learner: LearnerKind,
    threads: usize,
}

fn attempt(task: Task, learner: LearnerKind) -> Attempt {
    Attempt { spec: spec(task), rows: departures(4000), learner, threads: 2 }
}

impl Attempt {
    fn run(&self) -> Result<Trained, LearnError> {
        self.watched(&|_| {})
    }

    fn watched(&self, progress: &(dyn Fn(Progress) + Sync)) -> Result<Trained, LearnError> {
        train(&TrainRequest {
            spec: &self.spec,
            contract: &contract(),
            rows: &self.rows,
            learner: self.learner,
            seed: 42,
            threads: self.threads,
            parent: None,
            earlier: &[],
            start: None,
            teacher: None,
            program: "0.0.0",
            progress,
            checkpoints: None,
        })
    }

    fn error(&self) -> String {
        match self.run() {
            Ok(_) => panic!("the training should have been refused"),
            Err(error) => error.to_string(),
        }
    }
}

#[test]
fn the_same_bytes_on_any_number_of_threads() {
    for learner in [LearnerKind::Trees, LearnerKind::Linear, LearnerKind::Network] {
        let mut one = attempt(Task::Binary, learner);
        one.spec.learner.trees.row_share = 0.7;
        one.spec.learner.half_life = Some(Span::days(7));
        let digests = [1, 2, 4].map(|threads| {
            one.threads = threads;
            one.run().unwrap().digest
        });
        assert!(digests.iter().all(|digest| *digest == digests[0]), "{learner:?}: {digests:?}");
        one.spec.learner.half_life = None;
        assert_ne!(one.run().unwrap().digest, digests[0], "weights matter");
    }
}

#[test]
fn both_learners_learn_and_the_bundle_answers_as_measured() {
    for learner in [LearnerKind::Trees, LearnerKind::Linear, LearnerKind::Network] {
        let job = attempt(Task::Binary, learner);
        let trained = job.run().unwrap();
        let auc = trained.metrics.get("auc").unwrap();
        assert!(auc > 0.70, "{learner:?}: auc {auc}");
        assert!(trained.metrics.get("ece").unwrap() < 0.08);
        let manifest = &trained.manifest;
        assert_eq!((manifest.rows, manifest.rows_without_outcome), (3920, 80));
        assert_eq!((manifest.rows_learned, manifest.rows_tested), (3920 - 784, 784));
        assert_eq!(trained.digest, Bundle::decode(&trained.encoded).unwrap().digest());

        // What serving does with the stored bytes gives the measured figures again.
        let bundle = Bundle::decode(&trained.encoded).unwrap();
        let pipeline = Pipeline::from_json(bundle.section(section::PIPELINE).unwrap()).unwrap();
        let predictor = Predictor::load(&bundle).unwrap();
        let target = target_values(&job.spec, &job.rows).unwrap();
        let labelled: Vec<u32> = (0..4000).filter(|row| !target[*row as usize].is_nan()).collect();
        let test = split(&labelled, &job.spec.split, true, 42).test;
        let mut predicted = Vec::new();
        let inputs = pipeline.transform(&data::select(&job.rows, &test).unwrap()).unwrap();
        predictor.predict(&inputs, &mut predicted).unwrap();
        let outcome: Vec<f64> = test.iter().map(|row| target[*row as usize]).collect();
        assert_eq!(evaluate(Task::Binary, &predicted, &outcome, 0.5), trained.metrics);
        let reference: Reference = trained.bundle.json(section::REFERENCE).unwrap();
        assert!((reference.loss.unwrap().mean - trained.metrics.get("brier").unwrap()).abs() < 1e-12);
        assert!(!reference.features.is_empty());
    }
}

#[test]
fn a_quantity_is_learned_and_auto_takes_the_better_learner() {
    let trained = attempt(Task::Regression, LearnerKind::Auto).run().unwrap();
    assert!(trained.metrics.get("r2").unwrap() > 0.5);
    assert_eq!(trained.tried.len(), 3);
    let least = trained.tried.iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    assert_eq!(trained.learner, least.0);
    let reference: Reference = trained.bundle.json(section::REFERENCE).unwrap();
    let loss = reference.loss.unwrap();
    assert!(loss.scale > 10.0 && loss.mean < 0.5, "{loss:?}");
}

#[test]
fn a_refit_on_all_rows_keeps_the_honest_metrics() {
    let mut job = attempt(Task::Binary, LearnerKind::Trees);
    let plain = job.run().unwrap();
    job.spec.split.refit = true;
    let refitted = job.run().unwrap();
    assert_eq!(refitted.metrics, plain.metrics);
    assert_ne!(refitted.digest, plain.digest);
    assert_eq!((refitted.manifest.rows_learned, refitted.manifest.refitted_on_all), (3920, true));
    assert!(refitted.manifest.time.unwrap().last > plain.manifest.time.unwrap().last);
    job.spec.split = SplitSpec { test: 0.0, ..SplitSpec::default() };
    let untested = job.run().unwrap();
    assert_eq!(untested.manifest.rows_learned, 3920);
    assert_eq!(untested.metrics.rows, 588, "the validation rows judge where there is no test");
}

#[test]
fn progress_goes_through_the_phases() {
    let seen = Mutex::new(Vec::new());
    attempt(Task::Binary, LearnerKind::Trees).watched(&|progress| seen.lock().unwrap().push(progress)).unwrap();
    let seen = seen.into_inner().unwrap();
    let mut phases: Vec<Phase> = seen.iter().map(|progress| progress.phase).collect();
    phases.dedup();
    use Phase::*;
    assert_eq!(phases, [Features, Fit, Calibrate, Features, Refit, Evaluate]);
    assert!(seen.iter().all(|progress| progress.done <= progress.total));
    assert!(seen.iter().any(|progress| progress.phase == Fit && progress.loss.is_some()));
}

fn with_target(values: impl Iterator<Item = Option<i64>>) -> Attempt {
    let mut job = attempt(Task::Binary, LearnerKind::Trees);
    let late: ArrayRef = Arc::new(Int64Array::from_iter(values.take(4000)));
    let columns = job.rows.schema().fields().iter().cloned().collect::<Vec<_>>();
    let named = columns.iter().zip(job.rows.columns()).map(|(field, array)| {
        let array = if field.name() == "late" { late.clone() } else { array.clone() };
        (field.name().clone(), array, true)
    });
    job.rows = RecordBatch::try_from_iter_with_nullable(named.collect::<Vec<_>>()).unwrap();
    job
}

#[test]
fn what_cannot_be_learned_is_refused_in_words() {
    let mut few = attempt(Task::Binary, LearnerKind::Trees);
    few.rows = departures(40);
    assert!(few.error().contains("39 rows have an outcome, 50 are needed"), "{}", few.error());
    let none = with_target(std::iter::repeat(None)).error();
    assert!(none.contains("\"late\" is null in all 4000 rows"), "{none}");
    let one = with_target(std::iter::repeat(Some(1))).error();
    assert!(one.contains("has the one value 1 in all rows of the train part"), "{one}");
    let late = with_target((0..4000).map(|row| Some(i64::from(row < 1000)))).error();
    assert!(late.contains("the one value 0 in all rows of the validation part"), "{late}");
    let mut timeless = attempt(Task::Binary, LearnerKind::Trees);
    timeless.spec.time = None;
    timeless.spec.learner.half_life = Some(Span::days(1));
    assert!(timeless.error().contains("half_life needs a time column"));
    let mut unsorted = attempt(Task::Binary, LearnerKind::Trees);
    let order: Vec<u32> = (0..4000).rev().collect();
    unsorted.rows = arrow::compute::take_record_batch(&unsorted.rows, &arrow::array::UInt32Array::from(order)).unwrap();
    assert!(unsorted.error().contains("sort the rows by time"), "{}", unsorted.error());
    let mut bare = attempt(Task::Binary, LearnerKind::Trees);
    bare.spec.features.exclude.extend(["at", "hour", "carrier", "wind"].map(str::to_owned));
    assert!(bare.error().contains("no column is left to learn from"), "{}", bare.error());
}
