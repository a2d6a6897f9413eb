//! Trees of rows whose outcome is known to follow from their columns.

use super::*;
use crate::checkpoint::Checkpoints;
use crate::fit::Phase;
use crate::keyed::{Purpose, bits};
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use vocabulary::inputs::{DenseColumn, Inputs};
use vocabulary::model::{LearnerKind, RowSampling, Task};

fn uniform(row: usize, step: u64) -> f32 {
    (bits(5, Purpose::Split, step, row as u64) >> 40) as f32 / (1u64 << 24) as f32
}

fn layout() -> Layout {
    let column = |name: &str, categorical| DenseColumn { name: name.to_owned(), categorical };
    let dense = vec![column("wind", false), column("hour", false), column("carrier", true)];
    Layout { dense, ..Layout::default() }
}

/// Wind (with gaps), hour and a carrier of 12; the outcome follows from all of them and chance.
fn sample(task: Task, from: usize, rows: usize) -> Sample {
    let (mut dense, mut target) = (Vec::new(), Vec::new());
    for row in from..from + rows {
        let (wind, hour, carrier) = (uniform(row, 1) * 20.0, (uniform(row, 2) * 24.0).floor(), row % 12);
        dense.extend([if row.is_multiple_of(7) { f32::NAN } else { wind }, hour, carrier as f32]);
        let sum = 0.1 * (wind - 10.0) + 0.2 * (hour - 12.0) + if carrier % 3 == 1 { 1.5 } else { -0.5 };
        let noisy = f64::from(sum + 2.0 * (uniform(row, 3) - 0.5));
        target.push(match task {
            Task::Regression => noisy,
            Task::Binary => f64::from(u8::from(noisy > 0.5)),
            Task::Multiclass => f64::from(u8::from(noisy > -1.0)) + f64::from(u8::from(noisy > 1.0)),
        });
    }
    Sample { inputs: Inputs { rows, dense_width: 3, dense, ..Inputs::default() }, target, weights: None }
}

fn weighted(task: Task, from: usize, rows: usize) -> Sample {
    let weights = Some((0..rows).map(|row| if row % 5 == 0 { 3.0 } else { 0.5 }).collect());
    Sample { weights, ..sample(task, from, rows) }
}

fn goal(task: Task) -> Goal {
    Goal { task, outputs: if task == Task::Multiclass { 3 } else { 1 } }
}

fn watch(checkpoints: Option<&dyn Checkpoints>) -> Watch<'_> {
    Watch { seed: 7, learner: LearnerKind::Trees, phase: Phase::Fit, progress: &|_| {}, checkpoints }
}

fn spec(rounds: u32) -> TreesSpec {
    TreesSpec { rounds, row_share: 0.8, learning_rate: 0.3, patience: 4, ..TreesSpec::default() }
}

fn with_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

const TASKS: [Task; 3] = [Task::Binary, Task::Regression, Task::Multiclass];

/// State in memory; stops the run at each `every`-th offer.
struct Cut {
    every: usize,
    offers: Mutex<usize>,
    kept: Mutex<HashMap<String, Vec<u8>>>,
}

impl Checkpoints for Cut {
    fn load(&self, stage: &str) -> Option<Vec<u8>> {
        self.kept.lock().unwrap().get(stage).cloned()
    }

    fn offer(&self, stage: &str, state: &dyn Fn() -> Vec<u8>) -> Result<(), LearnError> {
        let mut offers = self.offers.lock().unwrap();
        *offers += 1;
        if offers.is_multiple_of(self.every) {
            self.kept.lock().unwrap().insert(stage.to_owned(), state());
            return Err(LearnError::Stopped);
        }
        Ok(())
    }

    fn finish(&self, stage: &str, result: &[u8]) -> Result<(), LearnError> {
        self.kept.lock().unwrap().insert(stage.to_owned(), result.to_vec());
        Ok(())
    }
}

/// Runs until it is no longer stopped; how often it was is the second.
fn resumed<T: Send>(every: usize, run: impl Fn(&Watch) -> Result<T, LearnError> + Sync) -> (T, usize) {
    let cut = Cut { every, offers: Mutex::new(0), kept: Mutex::default() };
    for stops in 0.. {
        // Each start has another number of threads than the one before.
        match with_threads([1, 2, 8][stops % 3], || run(&watch(Some(&cut)))) {
            Err(LearnError::Stopped) => {}
            done => return (done.unwrap(), stops),
        }
    }
    unreachable!("a run ends")
}

#[test]
fn the_same_bytes_on_any_number_of_threads_and_after_three_stops() {
    for task in TASKS {
        let run =
            |watch: &Watch| Ok(fit(&spec(14), goal(task), &layout(), weighted(task, 0, 1500), 14, watch)?.to_bytes());
        let whole = with_threads(1, || run(&watch(None))).unwrap();
        for threads in [2, 8] {
            assert!(with_threads(threads, || run(&watch(None))).unwrap() == whole, "{task:?}, {threads} threads");
        }
        let (bytes, stops) = resumed(4, run);
        assert!(bytes == whole, "{task:?}");
        assert_eq!(stops, 3);
    }
}

#[test]
fn early_stopping_survives_a_stop() {
    for task in TASKS {
        let run = |watch: &Watch| {
            let found =
                fit_stopping(&spec(40), goal(task), &layout(), sample(task, 0, 900), sample(task, 900, 300), watch)?;
            Ok(found.to_bytes())
        };
        let whole = with_threads(2, || run(&watch(None))).unwrap();
        let found = Stopping::from_bytes(&whole).unwrap();
        assert!(found.rounds > 1 && found.rounds < 36, "stopped early after {} rounds", found.rounds);
        for every in [3, 5] {
            let (bytes, stops) = resumed(every, run);
            assert!(bytes == whole, "{task:?}, stopped at each {every}th round");
            assert!(stops >= 3, "{stops}");
        }
        // A fit of as many rounds gives the very scores.
        let model = fit(&spec(40), goal(task), &layout(), sample(task, 0, 900), found.rounds, &watch(None)).unwrap();
        let mut scores = Vec::new();
        model.predict(&sample(task, 900, 300).inputs, &mut scores).unwrap();
        assert_eq!(scores, found.scores);
    }
}

#[test]
fn state_of_another_run_is_not_taken() {
    let cut = Cut { every: 5, offers: Mutex::new(0), kept: Mutex::default() };
    let three = || sample(Task::Multiclass, 0, 600);
    let stopped = fit(&spec(9), goal(Task::Multiclass), &layout(), three(), 9, &watch(Some(&cut)));
    assert!(matches!(stopped, Err(LearnError::Stopped)));
    let run = |checkpoints| {
        let watch = watch(checkpoints);
        fit(&spec(4), goal(Task::Binary), &layout(), sample(Task::Binary, 0, 600), 4, &watch).unwrap().to_bytes()
    };
    assert!(run(Some(&cut as &dyn Checkpoints)) == run(None));
}

#[test]
fn several_classes_are_told_apart() {
    let task = Task::Multiclass;
    let model = fit(&spec(30), goal(task), &layout(), weighted(task, 0, 3000), 30, &watch(None)).unwrap();
    let unseen = sample(task, 3000, 1000);
    let mut scores = Vec::new();
    model.predict(&unseen.inputs, &mut scores).unwrap();
    assert_eq!((model.outputs(), scores.len()), (3, 3000));
    let most = |row: &[f64]| (0..3).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap() as f64;
    let right = scores.chunks(3).zip(&unseen.target).filter(|(row, class)| most(row) == **class).count();
    assert!(right > 700, "{right} of 1000");
    for row in scores.chunks(3) {
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }
    let again = inference::load_model("trees", &model.to_bytes(), &layout()).unwrap();
    let mut same = Vec::new();
    again.predict(&unseen.inputs, &mut same).unwrap();
    assert_eq!(scores, same);
}

#[test]
fn boosting_goes_on_from_a_stored_version() {
    for task in TASKS {
        let first = fit(&spec(6), goal(task), &layout(), sample(task, 0, 800), 6, &watch(None)).unwrap();
        let more = |rounds, sample: Sample| {
            let Sample { inputs, target, weights } = sample;
            let spec = spec(6);
            let more = Continuation { spec: &spec, task, inputs, target, weights, rounds, seed: 7, progress: &|_| {} };
            continue_trees(first.as_ref(), more)
        };
        let whole = fit(&spec(6), goal(task), &layout(), sample(task, 0, 800), 10, &watch(None)).unwrap();
        assert!(more(4, sample(task, 0, 800)).unwrap().to_bytes() == whole.to_bytes(), "{task:?}");
        // On new rows the old trees stay, and the new ones lower the loss there.
        let new = || sample(task, 5000, 800);
        let (mut before, mut after) = (Vec::new(), Vec::new());
        first.predict(&new().inputs, &mut before).unwrap();
        more(20, new()).unwrap().predict(&new().inputs, &mut after).unwrap();
        let loss = |scores: &[f64]| crate::fit::loss(task, scores, &new().target);
        assert!(loss(&after) < loss(&before), "{task:?}");
        let other = if task == Task::Regression { Task::Binary } else { Task::Regression };
        let spec = spec(6);
        let Sample { inputs, target, weights } = sample(other, 0, 100);
        let wrong =
            Continuation { spec: &spec, task: other, inputs, target, weights, rounds: 1, seed: 7, progress: &|_| {} };
        let error = continue_trees(first.as_ref(), wrong).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("do not fit a"), "{error}");
    }
}

#[test]
fn the_answer_follows_a_monotone_column() {
    let monotone =
        |name: &str, direction| TreesSpec { monotone: BTreeMap::from([(name.to_owned(), direction)]), ..spec(20) };
    let fit = |spec: &TreesSpec| {
        fit(spec, goal(Task::Regression), &layout(), sample(Task::Regression, 0, 2000), 20, &watch(None))
    };
    let answers = |spec: &TreesSpec| {
        let dense = (0..200).flat_map(|step| [step as f32 / 10.0, 11.0, 4.0]).collect();
        let mut scores = Vec::new();
        fit(spec)
            .unwrap()
            .predict(&Inputs { rows: 200, dense_width: 3, dense, ..Inputs::default() }, &mut scores)
            .unwrap();
        scores
    };
    let (free, rising, falling) = (answers(&spec(20)), answers(&monotone("wind", 1)), answers(&monotone("wind", -1)));
    assert!(free.windows(2).any(|pair| pair[0] > pair[1]) && free[199] > free[0]);
    assert!(rising.windows(2).all(|pair| pair[0] <= pair[1]) && rising[199] > rising[0]);
    assert!(falling.windows(2).all(|pair| pair[0] >= pair[1]));

    let error = |spec: &TreesSpec| fit(spec).map(|_| ()).unwrap_err().to_string();
    let unknown = error(&monotone("winds", 1));
    assert!(unknown.contains("\"winds\", which is no column that the trees see; did you mean \"wind\"?"), "{unknown}");
    assert!(error(&monotone("carrier", 1)).contains("is a category"));
}

#[test]
fn each_setting_changes_the_trees() {
    let bytes = |spec: &TreesSpec| {
        let sample = sample(Task::Binary, 0, 1000);
        fit(spec, goal(Task::Binary), &layout(), sample, 5, &watch(None)).unwrap().to_bytes()
    };
    let plain = bytes(&spec(5));
    for changed in [
        TreesSpec { depth: 2, ..spec(5) },
        TreesSpec { node_column_share: 0.4, ..spec(5) },
        TreesSpec { row_sampling: RowSampling::Gradient, ..spec(5) },
        TreesSpec { l1: 2.0, ..spec(5) },
        TreesSpec { min_gain: 3.0, ..spec(5) },
        TreesSpec { smoothing: 20.0, ..spec(5) },
        TreesSpec { max_bins: 8, ..spec(5) },
    ] {
        assert!(bytes(&changed) != plain, "{changed:?}");
    }
}

#[test]
fn a_weight_counts_like_as_many_rows() {
    // Each third row twice, or with twice the weight.
    let rows: Vec<usize> = (0..900).flat_map(|row| vec![row; if row % 3 == 0 { 2 } else { 1 }]).collect();
    let single = sample(Task::Binary, 0, 900);
    let dense = rows.iter().flat_map(|row| single.inputs.dense_row(*row).to_vec()).collect();
    let target = rows.iter().map(|row| single.target[*row]).collect();
    let doubled = Sample {
        inputs: Inputs { rows: rows.len(), dense_width: 3, dense, ..Inputs::default() },
        target,
        weights: None,
    };
    let weights = Some((0..900).map(|row| if row % 3 == 0 { 2.0 } else { 1.0 }).collect());
    let heavy = Sample { weights, ..sample(Task::Binary, 0, 900) };
    let spec = TreesSpec { row_share: 1.0, column_share: 1.0, ..spec(5) };
    let scores = |sample| {
        let mut scores = Vec::new();
        let model = fit(&spec, goal(Task::Binary), &layout(), sample, 5, &watch(None)).unwrap();
        model.predict(&single.inputs, &mut scores).unwrap();
        scores
    };
    let (doubled, heavy, plain) = (scores(doubled), scores(heavy), scores(sample(Task::Binary, 0, 900)));
    let apart = |other: &[f64]| doubled.iter().zip(other).map(|(a, b)| (a - b).abs()).sum::<f64>() / 900.0;
    assert!(apart(&heavy) < 0.01 && apart(&plain) > 2.0 * apart(&heavy), "{}, {}", apart(&heavy), apart(&plain));
}

/// Fits what is given, and asks for an answer to each row.
fn answers(
    task: Task,
    width: usize,
    categorical: &[usize],
    dense: Vec<f32>,
    target: Vec<f64>,
) -> Result<Vec<f64>, LearnError> {
    let column = |at: usize| DenseColumn { name: format!("c{at}"), categorical: categorical.contains(&at) };
    let layout = Layout { dense: (0..width).map(column).collect(), ..Layout::default() };
    let inputs = Inputs { rows: target.len(), dense_width: width, dense, ..Inputs::default() };
    let sample = Sample { inputs: inputs.clone(), target, weights: None };
    let model = fit(&spec(5), goal(task), &layout, sample, 5, &watch(None))?;
    let mut scores = Vec::new();
    model.predict(&inputs, &mut scores)?;
    let reasons = model.contributions(&inputs)?;
    assert!(reasons.parts.iter().chain(&reasons.base).all(|part| part.is_finite()));
    assert!(scores.iter().all(|score| score.is_finite()));
    Ok(scores)
}

#[test]
fn nothing_to_see_gives_the_mean() {
    let target = |rows: usize| (0..rows).map(|row| f64::from(u8::from(row % 4 == 0))).collect::<Vec<_>>();
    for column in [vec![3.0; 400], vec![f32::NAN; 400]] {
        let scores = answers(Task::Binary, 1, &[], column, target(400)).unwrap();
        // But for what the sampling of rows says.
        assert!(scores.iter().all(|score| (score - 0.25).abs() < 0.02), "{}", scores[0]);
    }
}

#[test]
fn odd_columns_are_borne() {
    let target = |rows: usize| (0..rows).map(|row| (row % 5) as f64).collect::<Vec<_>>();
    // Each row a category of its own, far apart.
    let codes = (0..2000).map(|row| (row * 500) as f32).collect();
    answers(Task::Regression, 1, &[0], codes, target(2000)).unwrap();
    // More columns than rows.
    let wide = (0..30 * 400).map(|at| uniform(at, 4)).collect();
    answers(Task::Regression, 400, &[], wide, target(30)).unwrap();
    // The ends of single precision.
    let ends = (0..300).map(|row| [f32::MAX, f32::MIN, f32::MIN_POSITIVE, 0.0, 1e-45][row % 5]).collect();
    let scores = answers(Task::Regression, 1, &[], ends, target(300)).unwrap();
    assert!(scores[0] < scores[4], "{:?}", &scores[..5]);
}

#[test]
fn infinity_is_refused_by_name() {
    let mut dense: Vec<f32> = (0..100).map(|at| at as f32).collect();
    dense[41] = f32::INFINITY;
    let error = answers(Task::Regression, 2, &[], dense, vec![1.0; 50]).unwrap_err().to_string();
    assert!(error.contains("column \"c1\" is infinite in row 20"), "{error}");
}

#[test]
fn a_declaration_out_of_range_is_named() {
    let mut declared = crate::testing::spec(Task::Multiclass);
    let trees = r#"{"monotone": {"wind": 2}, "node_column_share": 0.0, "row_sampling": "gradient", "depth": 6}"#;
    declared.learner.trees = serde_json::from_str(trees).unwrap();
    assert_eq!((declared.learner.trees.depth, declared.learner.trees.max_bins), (6, 256));
    let problems = declared.problems(&crate::testing::contract());
    let whats: Vec<&str> = problems.iter().map(|problem| problem.what.as_str()).collect();
    for part in
        ["monotone: 2 of \"wind\" is neither 1 nor -1", "not for task = \"multiclass\"", "node_column_share = 0 is"]
    {
        assert!(whats.iter().any(|what| what.contains(part)), "{part} is not among {whats:?}");
    }
    assert_eq!(whats.len(), 3, "{whats:?}");
}
