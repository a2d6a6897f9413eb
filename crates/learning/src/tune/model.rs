//! A model's declaration as the objective of a search: the loss on the validation rows of a model that was fitted on train
//! rows, as training itself would choose by. The test rows are never looked at.
//!
//! **The resource is rows.** A rung fits on a share of the train rows, each time with early stopping. Fewer rounds of
//! boosting or epochs instead of fewer rows would cost as little, but favour high learning rates: what is ahead after a
//! tenth of the rounds is not what is ahead at the end, whereas fewer rows only ask for somewhat more regularisation. A
//! share of the rows also means the same for every learner, so that `auto` compares them at each rung. A row's place in
//! the shares follows from the seed: each rung's rows are among the next one's, and spread over the whole time. A rung
//! does not go on with the model of the one before; that costs at most 1/(eta - 1) of the whole.
//!
//! The pipeline is fitted once for each learner, on all train rows, and shared by all trials.

use super::declared::Declared;
use super::error::TuneError;
use super::logic::Settings;
use super::search::{Budget, Call, Ending, Failure, Measured, Objective, Progress, Runtime, Search};
use super::space::Point;
use super::trial::Trial;
use crate::checkpoint::Checkpoints;
use crate::data;
use crate::error::LearnError;
use crate::fit::{Goal, Phase, Sample, Stopping, Watch, loss};
use crate::keyed::{Purpose, bits};
use crate::metrics::evaluate;
use crate::train::{Job, TrainRequest};
use crate::{linear, network, trees};
use arrow::record_batch::RecordBatch;
use serde_json::{Map, Value};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use vocabulary::inputs::Layout;
use vocabulary::model::{LearnerKind, LearnerSpec, TuningMetric};
use vocabulary::{Contract, Inputs, ModelSpec, Task};

/// Rows of the first rung at least: on fewer, losses differ by chance more than by what is tried. A judgement.
const ROWS_MIN: f64 = 1000.0;

/// Rows of the rarer class of a binary target at the first rung at least, for the same reason.
const RARER_MIN: f64 = 50.0;

pub struct TuneRequest<'a> {
    /// Tuned by its `[tuning]`, whose `trials` the budget may replace.
    pub spec: &'a ModelSpec,
    pub contract: &'a Contract,
    /// Canonical, contract enforced, sorted by the time column where there is one.
    pub rows: &'a RecordBatch,
    /// `auto` searches over all learners at once.
    pub learner: LearnerKind,
    /// Of the training; of the search too, unless `[tuning]` has its own.
    pub seed: u64,
    /// Evaluations at once; no decision depends on it, nor on `threads`.
    pub workers: usize,
    /// Threads of all workers together.
    pub threads: usize,
    pub budget: Budget,
    /// Where to keep what was measured; gone on with where it exists.
    pub journal: Option<&'a Path>,
    /// Version of the program: another one may measure other losses, so that its journal is another search's.
    pub program: &'a str,
    pub clocks: Clocks<'a>,
    /// When set, evaluations in flight are given up and the search ends; it can go on from its journal.
    pub stop: &'a AtomicBool,
    pub progress: &'a (dyn Fn(&Progress) + Sync),
}

/// What the budgets are measured with.
#[derive(Clone, Copy)]
pub struct Clocks<'a> {
    /// A clock that never goes back, in seconds.
    pub seconds: &'a (dyn Fn() -> f64 + Sync),
    /// CPU time that the calling thread has used, in seconds.
    pub thread_cpu_seconds: &'a (dyn Fn() -> f64 + Sync),
}

#[derive(Debug)]
pub struct Tuned {
    /// The declaration with the best trial's values and learner, to be trained as any other.
    pub spec: ModelSpec,
    /// The best trial's values by their keys, such as `learner.trees.leaves`.
    pub values: Map<String, Value>,
    /// Place of the best trial among `trials`.
    pub best: usize,
    pub trials: Vec<Trial>,
    /// Last loss of the declared values, for each learner that was searched; none where they were not measured.
    pub declared: Vec<(LearnerKind, Option<f64>)>,
    pub metric: TuningMetric,
    /// Share of the train rows at each rung.
    pub shares: Vec<f64>,
    pub ending: Ending,
    pub cpu_seconds: f64,
    /// Sentences for a person.
    pub notes: Vec<String>,
}

/// Searches for the values that give the least loss on the validation rows. The same request gives the same trials and
/// winner with any number of workers and threads, and when it was cut off and run again with the same journal.
pub fn run(request: &TuneRequest) -> Result<Tuned, TuneError> {
    let TuneRequest { spec, contract, rows, learner, seed, threads, program, .. } = *request;
    let declared = Declared::new(spec, contract, learner)?;
    let training = TrainRequest {
        spec,
        contract,
        rows,
        learner,
        seed,
        threads,
        parent: None,
        earlier: &[],
        start: None,
        teacher: None,
        program,
        progress: &|_| {},
        checkpoints: None,
    };
    let job = Job::new(&training)?;
    let tuning = &spec.tuning;
    let settings = Settings {
        seed: tuning.seed.unwrap_or(seed),
        eta: tuning.eta,
        shares: shares(&job, tuning.eta, tuning.rungs),
        lanes: tuning.lanes as usize,
        startup: tuning.startup,
    };
    let workers = request.workers.clamp(1, settings.lanes.max(1));
    let of_each = (threads / workers).max(1);
    let pool = |_| rayon::ThreadPoolBuilder::new().num_threads(of_each).build();
    let pools: Result<Vec<_>, _> = (0..workers).map(pool).collect();
    let objective = ModelObjective {
        request,
        declared: &declared,
        job: &job,
        fitted: declared.kinds().iter().map(|kind| (*kind, Mutex::default())).collect(),
        pools: pools.map_err(|error| TuneError::Threads(of_each, error))?,
        halt: Halt(request.stop),
    };
    let about = about(request)?;
    let search = Search {
        space: &declared.space,
        settings: &settings,
        first: &declared.first,
        objective: &objective,
        about: &about,
        journal: request.journal,
    };
    let searched = search.run(&Runtime {
        workers,
        budget: request.budget,
        seconds: request.clocks.seconds,
        stop: request.stop,
        progress: request.progress,
    })?;
    let Some(best) = searched.best else {
        let reason = searched.trials.first().and_then(|trial| trial.failure.clone());
        return Err(match reason {
            Some(reason) => TuneError::NothingMeasured { trials: searched.trials.len(), reason },
            None => LearnError::Stopped.into(),
        });
    };
    let values = searched.trials[best].values.clone();
    let own = |point: &Point| {
        let values = declared.space.json(point);
        searched.trials.iter().find(|trial| trial.values == values).and_then(Trial::loss)
    };
    Ok(Tuned {
        spec: declared.with(&values)?,
        values,
        best,
        declared: declared.first.iter().map(|point| (declared.kind(point), own(point))).collect(),
        metric: tuning.metric,
        shares: settings.shares,
        ending: searched.ending,
        cpu_seconds: searched.cpu_seconds,
        notes: searched.notes,
        trials: searched.trials,
    })
}

/// What the losses depend on beside point and rung.
fn about(request: &TuneRequest) -> Result<Vec<(&'static str, String)>, TuneError> {
    let without = ModelSpec { tuning: Default::default(), ..request.spec.clone() };
    let digest = |value: Result<String, serde_json::Error>| {
        let text = value.map_err(|error| TuneError::Space(error.to_string()))?;
        Ok::<_, TuneError>(blake3::hash(text.as_bytes()).to_hex().to_string())
    };
    Ok(vec![
        ("data", data::digest(request.rows)?.to_string()),
        ("declaration", digest(serde_json::to_string(&without))?),
        ("contract", digest(serde_json::to_string(request.contract))?),
        ("metric", request.spec.tuning.metric.name().to_owned()),
        ("training's seed", request.seed.to_string()),
        ("program", request.program.to_owned()),
    ])
}

/// Share of the train rows at each rung: each `eta` times the one before, as far down as a rung still says something.
fn shares(job: &Job, eta: u32, rungs: u32) -> Vec<f64> {
    let rows = job.split.train.len() as f64;
    let rarer = match job.request.spec.task {
        Task::Binary => {
            let positive = job.targets(&job.split.train).iter().sum::<f64>();
            positive.min(rows - positive)
        }
        Task::Regression | Task::Multiclass => f64::INFINITY,
    };
    let says_something = |share: &f64| rows * share >= ROWS_MIN && rarer * share >= RARER_MIN;
    let below = std::iter::successors(Some(1.0 / f64::from(eta)), |share| Some(share / f64::from(eta)));
    let mut shares: Vec<f64> = below.take(rungs.saturating_sub(1) as usize).take_while(says_something).collect();
    shares.reverse();
    shares.push(1.0);
    shares
}

/// Rows as one learner takes them.
struct Fitted {
    layout: Layout,
    train: Sample,
    validation: Sample,
}

struct ModelObjective<'a> {
    request: &'a TuneRequest<'a>,
    declared: &'a Declared,
    job: &'a Job<'a>,
    /// By learner, made by the first trial that needs it.
    fitted: Vec<(LearnerKind, Mutex<Option<Arc<Fitted>>>)>,
    /// One for each worker.
    pools: Vec<rayon::ThreadPool>,
    halt: Halt<'a>,
}

/// No state is kept within an evaluation; but it ends at its next step when the search is to stop.
struct Halt<'a>(&'a AtomicBool);

impl Checkpoints for Halt<'_> {
    fn load(&self, _stage: &str) -> Option<Vec<u8>> {
        None
    }

    fn offer(&self, _stage: &str, _state: &dyn Fn() -> Vec<u8>) -> Result<(), LearnError> {
        if self.0.load(Ordering::Relaxed) { Err(LearnError::Stopped) } else { Ok(()) }
    }

    fn finish(&self, _stage: &str, _result: &[u8]) -> Result<(), LearnError> {
        Ok(())
    }
}

impl Objective for ModelObjective<'_> {
    fn evaluate(&self, call: &Call) -> Result<Measured, Failure> {
        let pool = &self.pools[call.worker];
        // The evaluation runs on the pool's threads alone, so that their clocks hold all of its time.
        let used = || pool.broadcast(|_| (self.request.clocks.thread_cpu_seconds)()).iter().sum::<f64>();
        let before = used();
        let result = pool.install(|| self.measure(call.point, call.share));
        let cpu_seconds = used() - before;
        match result {
            Ok(loss) => Ok(Measured { loss, cpu_seconds }),
            Err(TuneError::Learn(LearnError::Stopped)) => Err(Failure::Stopped),
            Err(TuneError::Learn(error @ (LearnError::Diverged { .. } | LearnError::Trees(_)))) => {
                Err(Failure::Trial { reason: error.to_string(), cpu_seconds })
            }
            Err(error) => Err(Failure::Search(Box::new(error))),
        }
    }
}

impl ModelObjective<'_> {
    fn measure(&self, point: &Point, share: f64) -> Result<f64, TuneError> {
        let kind = self.declared.kind(point);
        let spec = self.declared.spec(point)?;
        let fitted = self.fitted(kind)?;
        let thinned = (share < 1.0).then(|| fitted.train.thinned(share, self.request.seed));
        let train = thinned.as_ref().unwrap_or(&fitted.train);
        let goal = Goal::of(&spec);
        let watch = Watch {
            seed: self.request.seed,
            learner: kind,
            phase: Phase::Fit,
            progress: &|_| {},
            checkpoints: Some(&self.halt),
        };
        let stopping = fitted.fit(kind, &spec.learner, goal, train, &watch)?;
        let (scores, outcome) = (&stopping.scores, &fitted.validation.target);
        let Some(name) = spec.tuning.metric.metric_name() else { return Ok(loss(goal.task, scores, outcome)) };
        let value = evaluate(goal.task, scores, outcome, spec.objective.threshold).get(name).unwrap_or(f64::NAN);
        let rises = matches!(spec.tuning.metric, TuningMetric::Auc | TuningMetric::Accuracy);
        Ok(if rises { 1.0 - value } else { value })
    }

    fn fitted(&self, kind: LearnerKind) -> Result<Arc<Fitted>, LearnError> {
        let slot = self.fitted.iter().find(|(other, _)| *other == kind).map(|(_, slot)| slot);
        let mut slot = match slot {
            Some(slot) => slot.lock().unwrap_or_else(PoisonError::into_inner),
            None => unreachable!("only the searched learners have points"),
        };
        if let Some(fitted) = &*slot {
            return Ok(fitted.clone());
        }
        let job = self.job;
        let (pipeline, _) = job.fit_pipeline(kind, &job.split.train)?;
        let validation = Sample {
            inputs: pipeline.transform(&data::select(job.request.rows, &job.split.validation)?)?,
            target: job.targets(&job.split.validation),
            weights: None,
        };
        let train = job.sample(&pipeline, &job.split.train)?;
        let fitted = Arc::new(Fitted { layout: pipeline.layout().clone(), train, validation });
        *slot = Some(fitted.clone());
        Ok(fitted)
    }
}

impl Fitted {
    fn fit(
        &self,
        kind: LearnerKind,
        spec: &LearnerSpec,
        goal: Goal,
        train: &Sample,
        watch: &Watch,
    ) -> Result<Stopping, LearnError> {
        let Fitted { layout, validation, .. } = self;
        match kind {
            LearnerKind::Linear => linear::fit_stopping(&spec.linear, goal, layout, train, validation, watch),
            LearnerKind::Network => network::fit_stopping(&spec.network, goal, layout, train, validation, watch),
            _ => {
                // Trees keep their rows in a form of their own, and take them.
                let taken = |sample: &Sample| sample.thinned(1.0, 0);
                trees::fit_stopping(&spec.trees, goal, layout, taken(train), taken(validation), watch)
            }
        }
    }
}

impl Sample {
    /// The rows whose place, a number that follows from the seed, is below `share`; weights keep the mean 1.
    fn thinned(&self, share: f64, seed: u64) -> Sample {
        let place = |row: usize| bits(seed, Purpose::Rung, 0, row as u64) as f64 / u64::MAX as f64;
        let kept: Vec<usize> = (0..self.target.len()).filter(|row| share >= 1.0 || place(*row) < share).collect();
        let Inputs { dense_width, slot_width, .. } = self.inputs;
        let inputs = Inputs {
            rows: kept.len(),
            dense_width,
            dense: kept.iter().flat_map(|row| self.inputs.dense_row(*row)).copied().collect(),
            slot_width,
            slots: kept.iter().flat_map(|row| self.inputs.slot_row(*row)).copied().collect(),
        };
        let weights = self.weights.as_ref().map(|weights| {
            let own: Vec<f32> = kept.iter().map(|row| weights[*row]).collect();
            let mean = own.iter().map(|weight| f64::from(*weight)).sum::<f64>() / own.len().max(1) as f64;
            let mean = if mean > 0.0 { mean } else { 1.0 };
            own.iter().map(|weight| (f64::from(*weight) / mean) as f32).collect()
        });
        Sample { inputs, target: kept.iter().map(|row| self.target[*row]).collect(), weights }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{contract, departures, spec};
    use std::sync::atomic::AtomicU32;
    use vocabulary::model::TuningSpec;

    struct Attempt<'a> {
        spec: ModelSpec,
        learner: LearnerKind,
        workers: usize,
        journal: Option<&'a Path>,
        stop_after: u32,
    }

    fn attempt<'a>(task: Task, learner: LearnerKind) -> Attempt<'a> {
        let tuning = TuningSpec { trials: 14, startup: 6, lanes: 4, ..TuningSpec::default() };
        let mut spec = ModelSpec { tuning, ..spec(task) };
        spec.learner.trees.rounds = 60;
        spec.learner.trees.learning_rate = 0.3;
        spec.learner.linear.epochs = 3;
        Attempt { spec, learner, workers: 2, journal: None, stop_after: u32::MAX }
    }

    impl Attempt<'_> {
        fn run(&self) -> Result<Tuned, TuneError> {
            let (stop, done) = (AtomicBool::new(false), AtomicU32::new(0));
            let seconds = || 0.0;
            run(&TuneRequest {
                spec: &self.spec,
                contract: &contract(),
                rows: &departures(6000),
                learner: self.learner,
                seed: 42,
                workers: self.workers,
                threads: 2,
                budget: Budget { trials: self.spec.tuning.trials, seconds: None, money: None },
                journal: self.journal,
                program: "0.0.0",
                clocks: Clocks { seconds: &seconds, thread_cpu_seconds: &seconds },
                stop: &stop,
                progress: &|_| {
                    if done.fetch_add(1, Ordering::Relaxed) + 1 >= self.stop_after {
                        stop.store(true, Ordering::Relaxed);
                    }
                },
            })
        }
    }

    #[test]
    fn a_declaration_gets_better_and_the_same_with_any_number_of_workers() {
        let mut attempt = attempt(Task::Binary, LearnerKind::Trees);
        let tuned = attempt.run().unwrap();
        assert_eq!(tuned.shares, [1.0 / 3.0, 1.0], "3800 rows are enough for two rungs");
        let best = tuned.trials[tuned.best].loss().unwrap();
        let [(LearnerKind::Trees, Some(declared))] = tuned.declared[..] else { panic!("{:?}", tuned.declared) };
        assert!(best < declared, "{best} {declared}");
        assert_eq!(
            serde_json::to_value(tuned.spec.learner.trees.leaves).unwrap(),
            tuned.values["learner.trees.leaves"]
        );
        attempt.workers = 1;
        let again = attempt.run().unwrap();
        assert_eq!((again.spec, again.trials), (tuned.spec, tuned.trials));
    }

    #[test]
    fn what_the_search_measured_is_what_training_finds() {
        for learner in [LearnerKind::Trees, LearnerKind::Linear] {
            let attempt = attempt(Task::Regression, learner);
            let tuned = attempt.run().unwrap();
            let (rows, contract) = (departures(6000), contract());
            let trained = crate::train(&TrainRequest {
                spec: &tuned.spec,
                contract: &contract,
                rows: &rows,
                learner,
                seed: 42,
                threads: 1,
                parent: None,
                earlier: &[],
                start: None,
                teacher: None,
                program: "0.0.0",
                progress: &|_| {},
                checkpoints: None,
            });
            let tried = trained.unwrap().tried;
            assert_eq!(tried, [(learner, tuned.trials[tuned.best].loss().unwrap())], "to the bit");
        }
    }

    #[test]
    fn a_search_over_learners_compares_them_and_goes_on_after_a_stop() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("search.journal");
        let mut attempt = attempt(Task::Binary, LearnerKind::Linear);
        attempt.spec.tuning.metric = TuningMetric::Auc;
        let whole = attempt.run().unwrap();
        assert!(whole.trials.iter().all(|trial| trial.losses.iter().all(|loss| (0.0..0.5).contains(loss))));
        attempt.journal = Some(&path);
        attempt.stop_after = 5;
        let stopped = attempt.run().unwrap();
        assert_eq!(stopped.ending, Ending::Stopped);
        attempt.stop_after = u32::MAX;
        let again = attempt.run().unwrap();
        assert_eq!((again.spec, again.trials), (whole.spec, whole.trials));
        attempt.spec.learner.half_life = Some(vocabulary::Span::days(7));
        let refused = attempt.run().unwrap_err().to_string();
        assert!(refused.contains("other declaration"), "{refused}");
    }

    #[test]
    fn a_thinner_sample_is_part_of_the_next_and_keeps_its_mean_weight() {
        let rows = 1000;
        let inputs = Inputs {
            rows,
            dense_width: 1,
            dense: (0..rows).map(|row| row as f32).collect(),
            slot_width: 0,
            slots: Vec::new(),
        };
        let target: Vec<f64> = (0..rows).map(|row| row as f64).collect();
        let weights = Some((0..rows).map(|row| (row % 2) as f32 * 2.0).collect());
        let whole = Sample { inputs, target, weights };
        let (third, ninth) = (whole.thinned(1.0 / 3.0, 1), whole.thinned(1.0 / 9.0, 1));
        assert!((250..420).contains(&third.target.len()) && (80..140).contains(&ninth.target.len()));
        assert!(ninth.target.iter().all(|row| third.target.contains(row)), "each rung's rows are among the next one's");
        assert!(third.target.iter().zip(&third.inputs.dense).all(|(a, b)| *a == f64::from(*b)));
        let mean = |sample: &Sample| sample.weights.as_ref().unwrap().iter().sum::<f32>() / sample.target.len() as f32;
        assert!((mean(&third) - 1.0).abs() < 1e-4, "{}", mean(&third));
        assert_eq!(whole.thinned(1.0, 1).target, whole.target);
    }
}
