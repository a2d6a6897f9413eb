//! Versions that go on from versions, on synthetic departures.

use super::*;
use crate::testing::{StopAt, contract, departures, spec};
use crate::{Checkpoints, Continuation, TrainRequest, Trained, continue_trees, train};
use arrow::array::{ArrayRef, AsArray, StringArray};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use vocabulary::model::Task;

const LEARNERS: [LearnerKind; 3] = [LearnerKind::Trees, LearnerKind::Linear, LearnerKind::Network];

/// A declaration that learns little, so that there is something left to learn.
fn declared(task: Task) -> ModelSpec {
    let mut spec = spec(task);
    spec.learner.trees.rounds = 12;
    spec.learner.trees.row_share = 0.7;
    spec.learner.linear.epochs = 3;
    spec.learner.linear.table_bits = 10;
    spec.learner.network.hidden = vec![12];
    spec.learner.network.epochs = 3;
    spec
}

fn larger(task: Task) -> ModelSpec {
    let mut spec = declared(task);
    spec.learner.linear.table_bits = 12;
    spec.learner.network.hidden = vec![20, 12];
    spec
}

struct Attempt<'a> {
    spec: ModelSpec,
    rows: RecordBatch,
    learner: LearnerKind,
    threads: usize,
    start: Option<Start<'a>>,
}

impl Attempt<'_> {
    fn run(&self, checkpoints: Option<&dyn Checkpoints>) -> Result<Trained, LearnError> {
        train(&TrainRequest {
            spec: &self.spec,
            contract: &contract(),
            rows: &self.rows,
            learner: self.learner,
            seed: 42,
            threads: self.threads,
            parent: None,
            earlier: &[],
            start: self.start,
            teacher: None,
            program: "0.0.0",
            progress: &|_| {},
            checkpoints,
        })
    }

    fn error(&self) -> String {
        self.run(None).err().map(|error| error.to_string()).unwrap_or_default()
    }
}

fn first(task: Task, learner: LearnerKind) -> Trained {
    Attempt { spec: declared(task), rows: departures(2400), learner, threads: 2, start: None }.run(None).unwrap()
}

fn from(version: &Bundle, task: Task, learner: LearnerKind) -> Attempt<'_> {
    let start = Some(Start { version, shrink: 1.0 });
    Attempt { spec: larger(task), rows: departures(4000), learner, threads: 2, start }
}

#[test]
fn each_learner_goes_on_with_the_same_bytes_on_any_number_of_threads_and_after_stops() {
    for learner in LEARNERS {
        let first = first(Task::Binary, learner);
        let mut attempt = from(&first.bundle, Task::Binary, learner);
        let whole = attempt.run(None).unwrap();
        for threads in [1, 8] {
            attempt.threads = threads;
            assert_eq!(attempt.run(None).unwrap().digest, whole.digest, "{learner:?} on {threads} threads");
        }
        static STOP: AtomicBool = AtomicBool::new(false);
        let folder = tempfile::tempdir().unwrap();
        let mut stops = 0;
        let resumed = loop {
            attempt.threads = 1 + stops as usize % 3;
            STOP.store(false, Ordering::Relaxed);
            match attempt.run(Some(&StopAt::new(folder.path(), &STOP, 4))) {
                Err(LearnError::Stopped) => stops += 1,
                done => break done.unwrap(),
            }
        };
        assert_eq!(resumed.digest, whole.digest, "{learner:?}");
        assert!(stops > 0, "{learner:?}");
        // Another start is another run.
        attempt.start = Some(Start { version: &whole.bundle, shrink: 1.0 });
        let other = attempt.run(Some(&StopAt::new(folder.path(), &STOP, u32::MAX)));
        assert!(matches!(other, Err(LearnError::OtherRun)));
    }
}

#[test]
fn a_version_says_what_it_went_on_from_and_begins_where_that_ended() {
    for task in [Task::Binary, Task::Regression, Task::Multiclass] {
        for learner in LEARNERS {
            let first = first(task, learner);
            let next = from(&first.bundle, task, LearnerKind::Auto).run(None).unwrap();
            assert_eq!((next.learner, next.manifest.parent), (learner, Some(first.digest)));
            let said = next.manifest.made_by.unwrap();
            let grown = match learner {
                LearnerKind::Trees => format!(" rounds upon {}", first.manifest.rounds),
                LearnerKind::Linear => ", table bits 10 -> 12".to_owned(),
                _ => ", hidden 12 -> 20-12".to_owned(),
            };
            // The carrier of a multiclass target is no input, and then there is no table.
            let tableless = learner == LearnerKind::Linear && first.manifest.layout.slots.is_empty();
            assert!(said.starts_with(&format!("continued from {}", first.digest)), "{said}");
            assert!(said.contains(&grown) || tableless, "{task:?} {learner:?}: {said}");
            // It can be gone on from again.
            let again = from(&next.bundle, task, learner).run(None).unwrap();
            assert_eq!(again.manifest.parent, Some(next.digest));
        }
    }
}

#[test]
fn continued_boosting_is_what_continue_trees_gives() {
    for task in [Task::Binary, Task::Regression, Task::Multiclass] {
        let first = first(task, LearnerKind::Trees);
        let attempt = from(&first.bundle, task, LearnerKind::Trees);
        let next = attempt.run(None).unwrap();
        let pipeline: Pipeline = first.bundle.json(section::PIPELINE).unwrap();
        let start = TreesModel::from_bytes(first.bundle.section(section::MODEL).unwrap(), pipeline.layout()).unwrap();
        let target = features::target_values(&attempt.spec, &attempt.rows).unwrap();
        let labelled: Vec<u32> = (0..4000).filter(|row| !target[*row as usize].is_nan()).collect();
        let learned: Vec<u32> = labelled.into_iter().filter(|row| !next.held_out.test.contains(row)).collect();
        let batch = crate::data::select(&attempt.rows, &learned).unwrap();
        let target: Vec<f64> = learned.iter().map(|row| target[*row as usize]).collect();
        let inputs = pipeline.transform_training(&batch, &target, 42).unwrap();
        let (spec, rounds) = (&attempt.spec.learner.trees, next.manifest.rounds);
        let more = Continuation { spec, task, inputs, target, weights: None, rounds, seed: 42, progress: &|_| {} };
        let continued = continue_trees(&start, more).unwrap();
        assert!(continued.to_bytes() == next.bundle.section(section::MODEL).unwrap(), "{task:?}");
    }
}

#[test]
fn shrinking_changes_networks_and_linear_models_and_no_trees() {
    for learner in LEARNERS {
        let first = first(Task::Binary, learner);
        let mut attempt = from(&first.bundle, Task::Binary, learner);
        let whole = attempt.run(None).unwrap();
        attempt.start = Some(Start { version: &first.bundle, shrink: 0.5 });
        if learner == LearnerKind::Trees {
            assert!(attempt.error().contains("leave the share to keep at 1"), "{}", attempt.error());
            continue;
        }
        let shrunk = attempt.run(None).unwrap();
        assert_ne!(shrunk.bundle.section(section::MODEL).unwrap(), whole.bundle.section(section::MODEL).unwrap());
        assert!(shrunk.manifest.made_by.unwrap().contains("0.5 of its weights kept"));
        attempt.start = Some(Start { version: &first.bundle, shrink: 1.5 });
        assert!(attempt.error().contains("a share from 0 to 1"), "{}", attempt.error());
    }
}

/// The rows with another carrier's name in the place of one, from a row on.
fn renamed(rows: &RecordBatch, at: usize) -> RecordBatch {
    let names = rows.column_by_name("carrier").unwrap().as_string::<i32>();
    let name = |(row, name): (usize, Option<&str>)| {
        if row >= at && name == Some("UA") { Some("NK") } else { name }.map(str::to_owned)
    };
    let carrier: ArrayRef = Arc::new(StringArray::from_iter(names.iter().enumerate().map(name)));
    let columns = rows.schema().fields().iter().cloned().collect::<Vec<_>>();
    let named = columns.iter().zip(rows.columns()).map(|(field, array)| {
        let array = if field.name() == "carrier" { carrier.clone() } else { array.clone() };
        (field.name().clone(), array, true)
    });
    RecordBatch::try_from_iter_with_nullable(named.collect::<Vec<_>>()).unwrap()
}

#[test]
fn a_value_that_came_since_gets_a_row_and_known_ones_keep_theirs() {
    let first = first(Task::Binary, LearnerKind::Network);
    let mut attempt = from(&first.bundle, Task::Binary, LearnerKind::Network);
    attempt.rows = renamed(&attempt.rows, 2400);
    let next = attempt.run(None).unwrap();
    let slot = next.manifest.layout.slots.iter().position(|name| name == "carrier").unwrap();
    assert_eq!(next.manifest.layout.tables[slot], first.manifest.layout.tables[slot] + 1);
    assert!(next.notes.iter().any(|note| note.starts_with("1 values that came since")), "{:?}", next.notes);
    assert!(next.manifest.made_by.as_ref().unwrap().contains("rows of tables"));
    let pipelines = [&first, &next].map(|trained| trained.bundle.json::<Pipeline>(section::PIPELINE).unwrap());
    let ids = pipelines.map(|pipeline| pipeline.transform(&attempt.rows).unwrap().slots);
    let width = next.manifest.layout.slots.len();
    let carriers = |ids: &[u32]| ids.iter().skip(slot).step_by(width).copied().collect::<Vec<u32>>();
    let (before, now) = (carriers(&ids[0]), carriers(&ids[1]));
    assert!(before[..2400] == now[..2400]);
    // The last row is for values that are still unknown; the one before it was that, and is the new value's.
    let rows = next.manifest.layout.tables[slot];
    assert!(now[2400..].contains(&(rows - 2)) && now.iter().all(|row| *row < rows - 1));
}

#[test]
fn rows_that_the_start_has_learned_do_not_judge() {
    let first = first(Task::Binary, LearnerKind::Trees);
    let judged = |rows: usize| {
        let attempt = Attempt { rows: departures(rows), ..from(&first.bundle, Task::Binary, LearnerKind::Trees) };
        let next = attempt.run(None).unwrap();
        let newest = first.manifest.time.unwrap().last.0;
        let old = |row: &&u32| i64::from(**row) * 600_000_000 <= newest;
        let held_out = next.held_out.validation.iter().chain(&next.held_out.test);
        (held_out.clone().filter(old).count(), held_out.count(), next.notes)
    };
    // The first learned from the first 80 % of 2400 rows.
    let (old, all, notes) = judged(4000);
    assert_eq!((old, all), (0, 784 + 588));
    assert!(!notes.iter().any(|note| note.contains("newer than")), "{notes:?}");
    let (old, all, notes) = judged(2400);
    assert_eq!(old, 0);
    assert!((460..500).contains(&all) && notes[0].contains("they alone choose and judge"), "{all} {notes:?}");
    let (old, _, notes) = judged(1950);
    assert!(old > 0 && notes[0].contains("too good"), "{notes:?}");
    let mut timeless = from(&first.bundle, Task::Binary, LearnerKind::Trees);
    timeless.spec.time = None;
    assert!(timeless.error().contains("(time, key, outcome_at, weight) changed"), "{}", timeless.error());
}

#[test]
fn a_start_that_does_not_fit_is_refused_in_words() {
    let first = first(Task::Binary, LearnerKind::Trees);
    let attempt = |task, learner| from(&first.bundle, task, learner);
    let error = attempt(Task::Binary, LearnerKind::Network).error();
    assert!(error.contains("its learner is trees, not network; ask for that learner"), "{error}");
    let error = attempt(Task::Regression, LearnerKind::Trees).error();
    assert!(error.contains("it predicts late (binary), not delay (regression)"), "{error}");
    let mut narrower = attempt(Task::Binary, LearnerKind::Trees);
    narrower.spec.features.exclude.push("wind".to_owned());
    assert!(narrower.error().contains("features changed since"), "{}", narrower.error());
    let linear = self::first(Task::Binary, LearnerKind::Linear);
    let mut smaller = from(&linear.bundle, Task::Binary, LearnerKind::Linear);
    smaller.spec.learner.linear.table_bits = 8;
    assert!(smaller.error().contains("declare that at least"), "{}", smaller.error());
    let manifest = Manifest { made_by: Some("prune 0.5".to_owned()), ..first.manifest };
    let pruned = first.bundle.own().with([Bundle::json_section(section::MANIFEST, &manifest).unwrap()]).unwrap();
    let error = from(&pruned, Task::Binary, LearnerKind::Trees).error();
    assert!(error.contains("made smaller (prune 0.5); name the version that it was made from"), "{error}");
}
