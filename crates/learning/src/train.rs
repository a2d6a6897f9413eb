//! Training: from canonical rows to a bundle with its metrics.
//!
//! 1. Rows with an outcome are split by time into train, validation and test.
//! 2. Pipeline and model are fitted on the train rows; the validation rows choose the number of rounds, the learner
//!    (`auto`) and the calibration. They are out of time, as the rows of tomorrow will be.
//! 3. Pipeline and model are fitted again on train and validation rows for that number of rounds, and measured on the
//!    test rows with the calibration of step 2. Beyond [`REFIT_ROWS_MAX`] rows the model of step 2 is measured instead.
//! 4. With `split.refit`, or without test rows, the same is done on all rows, and that model goes into the bundle. The
//!    metrics stay those of step 3: no row judges a model that learned from it.
//!
//! With a start all of it goes on from that version, with its pipeline.

use crate::calibrate;
use crate::checkpoint::Checkpoints;
use crate::data;
use crate::error::LearnError;
use crate::fit::{Goal, Phase, Progress, Sample, Stopping, Watch, loss};
use crate::metrics::evaluate;
use crate::split::{Split, split};
use crate::start::{Compiled, Opened, Start};
use crate::{linear, network, taught, trees};
use arrow::record_batch::RecordBatch;
use features::{Pipeline, Recipe, target_values};
use inference::elementary::exp;
use inference::{Bundle, Calibration, MANIFEST_FORMAT, Manifest, Model, Predictor, TimeSpan, load_model, section};
use std::sync::Arc;
use vocabulary::model::{ClassWeights, LearnerKind, Task};
use vocabulary::profile::{LossReference, REFERENCE_FORMAT, Reference, bounded_loss};
use vocabulary::{Contract, Digest, Metrics, ModelSpec, Timestamp};

/// Fewer rows with an outcome cannot be split into three parts that say anything.
pub(crate) const ROWS_MIN: usize = 50;

/// Above this many rows the validation rows are not learned from: so many change little, and a second fit costs as much
/// as the first.
pub(crate) const REFIT_ROWS_MAX: usize = 20_000_000;

pub struct TrainRequest<'a> {
    pub spec: &'a ModelSpec,
    pub contract: &'a Contract,
    /// Canonical, contract enforced, sorted by the time column where there is one.
    pub rows: &'a RecordBatch,
    pub learner: LearnerKind,
    pub seed: u64,
    /// Threads to use; the result does not depend on it.
    pub threads: usize,
    /// The version that this one replaces, for lineage.
    pub parent: Option<Digest>,
    /// Earlier trainings whose answers are averaged with this one's.
    pub earlier: &'a [Bundle],
    /// A version to go on from; it is then the parent.
    pub start: Option<Start<'a>>,
    /// A version that teaches: what is learned is what it says, beside what came true.
    pub teacher: Option<Teacher<'a>>,
    /// Version of the program, for lineage.
    pub program: &'a str,
    pub progress: &'a (dyn Fn(Progress) + Sync),
    /// Where the run keeps its state; one that is given what an earlier run of the same request kept goes on there, and
    /// ends with the same bytes.
    pub checkpoints: Option<&'a dyn Checkpoints>,
}

/// A model that has not seen the test rows, with its pipeline.
pub struct Measured {
    pub pipeline: Pipeline,
    pub predictor: Predictor,
}

/// None where the rows were streamed.
#[derive(Clone, Debug, Default)]
pub struct HeldOut {
    pub validation: Vec<u32>,
    pub test: Vec<u32>,
}

/// A teacher's word on each row (distillation: Hinton, Vinyals & Dean, "Distilling the Knowledge in a Neural Network",
/// 2015, at temperature 1). Rows without an outcome are learned from too, where they are not newer than the train part.
#[derive(Clone, Copy)]
pub struct Teacher<'a> {
    /// Its answers to the request's rows, row-major: calibrated probabilities, or quantities.
    pub answers: &'a [f64],
    /// Share of its word in what is learned; the rest is what came true. From 0 to 1.
    pub share: f64,
}

pub struct Trained {
    pub bundle: Bundle,
    /// `bundle.encode()`: what is stored.
    pub encoded: Vec<u8>,
    /// Of `encoded`.
    pub digest: Digest,
    pub manifest: Manifest,
    /// On the test rows; on the validation rows where there is no test part.
    pub metrics: Metrics,
    /// The model that the metrics were measured with, where the one in the bundle then learned from the test rows too.
    pub measured: Option<Measured>,
    /// Places of the request's rows that were held out.
    pub held_out: HeldOut,
    /// Which one was kept.
    pub learner: LearnerKind,
    /// Validation loss (log loss or root mean squared error, uncalibrated) of each learner that was tried.
    pub tried: Vec<(LearnerKind, f64)>,
    /// Sentences for a person, such as columns that were left out and why.
    pub notes: Vec<String>,
}

/// Trains a version. See the module for the steps.
pub fn train(request: &TrainRequest) -> Result<Trained, LearnError> {
    let threads = request.threads.max(1);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|error| LearnError::Threads(threads, error))?.install(|| Job::new(request)?.run())
}

/// The rows of a request, checked, and what is read off them once.
#[derive(Clone)]
pub(crate) struct Job<'a> {
    pub(crate) request: &'a TrainRequest<'a>,
    pub(crate) target: Vec<f64>,
    times: Option<Vec<Timestamp>>,
    /// Each row's own weight, where the declaration names a column.
    own_weights: Option<Vec<f64>>,
    rows_without_outcome: u64,
    pub(crate) split: Split,
    /// The version to go on from, and what is to be said of the rows that judge.
    start: Option<Arc<Opened>>,
    notes: Vec<String>,
}

/// What a learner found on the validation rows.
pub(crate) struct Found {
    learner: LearnerKind,
    pub(crate) pipeline: Pipeline,
    /// As [`Compiled`] has them.
    origins: Vec<Vec<u32>>,
    pub(crate) stopping: Stopping,
    pub(crate) loss: f64,
    pub(crate) notes: Vec<String>,
}

impl<'a> Job<'a> {
    pub(crate) fn new(request: &'a TrainRequest<'a>) -> Result<Job<'a>, LearnError> {
        let spec = request.spec;
        let target = target_values(spec, request.rows)?;
        check_target(spec, &target)?;
        let labelled: Vec<u32> = (0..target.len() as u32).filter(|row| !target[*row as usize].is_nan()).collect();
        let times = data::times(spec, request.rows)?;
        if labelled.is_empty() {
            let (model, target) = (spec.name.clone(), spec.target.clone());
            return Err(LearnError::NoOutcome { model, target, rows: request.rows.num_rows() });
        }
        if labelled.len() < ROWS_MIN {
            return Err(LearnError::TooFewRows { model: spec.name.clone(), rows: labelled.len(), needed: ROWS_MIN });
        }
        if spec.learner.half_life.is_some() && times.is_none() {
            return Err(LearnError::HalfLife { model: spec.name.clone() });
        }
        let own_weights = data::weights(spec, request.rows)?;
        let rows_without_outcome = (target.len() - labelled.len()) as u64;
        let mut split = split(&labelled, &spec.split, spec.time.is_some(), request.seed);
        let start = request.start.as_ref();
        let start = start.map(|start| Opened::new(start, spec, request.contract, request.learner)).transpose()?;
        let notes = start.as_ref().and_then(|start| start.unseen(&labelled, times.as_deref(), &mut split));
        if request.teacher.is_some() {
            split.train = taught::with_unlabelled(&split, &target);
        }
        for (rows, part) in [(&split.train, "train"), (&split.validation, "validation")] {
            check_variety(spec, &target, rows, part)?;
        }
        let (start, notes) = (start.map(Arc::new), notes.into_iter().collect());
        let job = Job { request, target, times, own_weights, rows_without_outcome, split, start, notes };
        job.claim()?;
        Ok(job)
    }

    /// Makes sure that the kept state, if there is any, is of this very request.
    fn claim(&self) -> Result<(), LearnError> {
        let Some(checkpoints) = self.request.checkpoints else { return Ok(()) };
        let TrainRequest { spec, contract, rows, learner, seed, program, teacher, .. } = *self.request;
        let mut hasher = blake3::Hasher::new();
        hasher.update(&data::digest(rows)?.0);
        for (_, bytes) in [Bundle::json_section("spec", spec)?, Bundle::json_section("contract", contract)?] {
            hasher.update(&bytes);
        }
        hasher.update(format!("{} {seed} {program}", learner.name()).as_bytes());
        if let Some(Teacher { answers, share }) = teacher {
            hasher.update(&share.to_le_bytes());
            answers.iter().for_each(|answer| {
                hasher.update(&answer.to_le_bytes());
            });
        }
        if let Some(Opened { digest, shrink, .. }) = self.start.as_deref() {
            hasher.update(format!("{digest} {shrink}").as_bytes());
        }
        let identity = hasher.finalize();
        match checkpoints.load("run") {
            Some(known) if known == identity.as_bytes() => Ok(()),
            Some(_) => Err(LearnError::OtherRun),
            None => checkpoints.finish("run", identity.as_bytes()),
        }
    }

    fn run(&self) -> Result<Trained, LearnError> {
        let (found, tried) = self.choose()?;
        self.report(found.learner, Phase::Calibrate, 0, 1);
        let outcome = self.targets(&self.split.validation);
        let calibration = match self.request.spec.task {
            Task::Binary => calibrate::choose(&found.stopping.scores, &outcome),
            Task::Regression => Calibration::Identity,
            Task::Multiclass => calibrate::choose_temperature(&found.stopping.scores, &outcome),
        };
        let spec = self.request.spec;
        let Found { learner, pipeline, origins, stopping, notes, .. } = found;
        let mut notes = [self.notes.clone(), notes].concat();
        let rounds = stopping.rounds;
        let refit = |rows: &[u32], phase| self.refit(learner, rows, rounds, phase);

        let (tested, predicted, pipeline, model, mut learned) = if self.split.test.is_empty() {
            let mut predicted = stopping.scores;
            predicted.chunks_exact_mut(spec.outputs()).for_each(|row| calibration.apply_row(row));
            let rows = merged(&self.split.train, &self.split.validation);
            let (pipeline, model) = refit(&rows, Phase::Refit)?;
            (&self.split.validation, predicted, pipeline, model, rows)
        } else {
            let whole = merged(&self.split.train, &self.split.validation);
            let (pipeline, model, rows) = if whole.len() <= REFIT_ROWS_MAX {
                let (pipeline, model) = refit(&whole, Phase::Refit)?;
                (pipeline, model, whole)
            } else {
                let model = self.fit_rounds(learner, &pipeline, &origins, &self.split.train, rounds, Phase::Refit)?;
                (pipeline, model, self.split.train.clone())
            };
            let predictor = Predictor { model, calibration: calibration.clone() };
            let mut predicted = Vec::new();
            let inputs = pipeline.transform(&data::select(self.request.rows, &self.split.test)?)?;
            predictor.predict(&inputs, &mut predicted)?;
            (&self.split.test, predicted, pipeline, predictor.model, rows)
        };
        self.report(learner, Phase::Evaluate, 0, 1);
        let tested_outcome = self.targets(tested);
        let metrics = evaluate(spec.task, &predicted, &tested_outcome, spec.objective.threshold);
        let loss = self.loss_reference(&predicted, &tested_outcome);

        let refitted_on_all = spec.split.refit && !self.split.test.is_empty();
        let (pipeline, model, measured) = if refitted_on_all {
            learned = merged(&learned, &merged(&self.split.validation, &self.split.test));
            learned.dedup();
            let predictor = Predictor { model, calibration: calibration.clone() };
            let (whole, model) = refit(&learned, Phase::RefitAll)?;
            (whole, model, Some(Measured { pipeline, predictor }))
        } else {
            (pipeline, model, None)
        };
        if rounds == 1 {
            notes.push(format!(
                "the validation loss never fell after the first round of {}: the newest rows differ from the older \
                 ones, or the features say little",
                learner.name()
            ));
        }
        let reference = self.reference(&pipeline, &learned, loss)?;
        let manifest = Manifest {
            format: MANIFEST_FORMAT,
            model: spec.name.clone(),
            learner: model.kind().to_owned(),
            task: spec.task,
            target: spec.target.clone(),
            seed: self.request.seed,
            data: data::digest(self.request.rows)?,
            pipeline: pipeline.digest(),
            rows: (self.target.len() as u64) - self.rows_without_outcome,
            rows_without_outcome: self.rows_without_outcome,
            rows_learned: learned.len() as u64,
            rows_tested: tested.len() as u64,
            refitted_on_all,
            time: self.span(&learned),
            rounds,
            parent: self.start.as_ref().map_or(self.request.parent, |start| Some(start.digest)),
            made_by: self.start.as_ref().map(|start| start.made_by(model.as_ref(), rounds)).transpose()?,
            averaged_with: self.request.earlier.iter().map(Bundle::digest).collect(),
            program: self.request.program.to_owned(),
            layout: pipeline.layout().clone(),
            metrics: metrics.clone(),
        };
        let bundle = self.bundle(&manifest, &pipeline, model.as_ref(), &calibration, &reference)?;
        let encoded = bundle.encode();
        self.report(learner, Phase::Evaluate, 1, 1);
        let held_out = HeldOut { validation: self.split.validation.clone(), test: self.split.test.clone() };
        let digest = Digest::of(&encoded);
        Ok(Trained { digest, bundle, encoded, manifest, metrics, measured, held_out, learner, tried, notes })
    }

    /// Fits each learner that is asked for with early stopping; the lowest validation loss wins, the first where equal.
    fn choose(&self) -> Result<(Found, Vec<(LearnerKind, f64)>), LearnError> {
        let learner = self.start.as_ref().map_or(self.request.learner, |start| start.learner);
        let kinds: &[LearnerKind] = match learner {
            LearnerKind::Auto => &[LearnerKind::Trees, LearnerKind::Linear, LearnerKind::Network],
            LearnerKind::Trees => &[LearnerKind::Trees],
            LearnerKind::Linear => &[LearnerKind::Linear],
            LearnerKind::Network => &[LearnerKind::Network],
        };
        let mut best = self.try_learner(kinds[0])?;
        let mut tried = vec![(best.learner, best.loss)];
        for kind in &kinds[1..] {
            let found = self.try_learner(*kind)?;
            tried.push((found.learner, found.loss));
            if found.loss < best.loss {
                best = found;
            }
        }
        Ok((best, tried))
    }

    pub(crate) fn try_learner(&self, learner: LearnerKind) -> Result<Found, LearnError> {
        let Compiled { pipeline, notes, origins } = self.compile(learner, &self.split.train)?;
        let sample = self.sample(&pipeline, &self.split.train)?;
        let validation = Sample {
            inputs: pipeline.transform(&data::select(self.request.rows, &self.split.validation)?)?,
            target: self.targets(&self.split.validation),
            weights: None,
        };
        let (spec, goal, layout) = (&self.request.spec.learner, Goal::of(self.request.spec), pipeline.layout());
        self.report(learner, Phase::Fit, 0, 1);
        let watch = self.watch(learner, Phase::Fit);
        let outcome = validation.target.clone();
        let start = self.start.as_deref();
        let fit = || match learner {
            LearnerKind::Linear => {
                let start = start.and_then(Opened::linear);
                linear::fit_stopping_from(&spec.linear, goal, layout, &sample, &validation, start.as_ref(), &watch)
            }
            LearnerKind::Network => {
                let start = start.and_then(|start| start.network(&origins));
                network::fit_stopping_from(&spec.network, goal, layout, &sample, &validation, start.as_ref(), &watch)
            }
            _ => {
                let start = start.and_then(Opened::trees);
                trees::fit_stopping_from(&spec.trees, goal, layout, sample, validation, start, &watch)
            }
        };
        let stopping = match watch.finished().and_then(|bytes| Stopping::from_bytes(&bytes)) {
            Some(stopping) => stopping,
            None => {
                let stopping = fit()?;
                watch.finish(&stopping.to_bytes())?;
                stopping
            }
        };
        let loss = loss(goal.task, &stopping.scores, &outcome);
        let notes = [notes, stopping.notes.clone()].concat();
        Ok(Found { learner, pipeline, origins, stopping, loss, notes })
    }

    /// The same rows with other outcomes.
    pub(crate) fn with_target(&self, target: Vec<f64>) -> Job<'a> {
        Job { target, ..self.clone() }
    }

    /// The model of the train rows alone after this many rounds.
    pub(crate) fn fit_rounds_on_train(
        &self,
        learner: LearnerKind,
        pipeline: &Pipeline,
        rounds: u32,
    ) -> Result<Box<dyn Model>, LearnError> {
        self.fit_rounds(learner, pipeline, &[], &self.split.train, rounds, Phase::Fit)
    }

    fn refit(
        &self,
        learner: LearnerKind,
        rows: &[u32],
        rounds: u32,
        phase: Phase,
    ) -> Result<(Pipeline, Box<dyn Model>), LearnError> {
        let Compiled { pipeline, origins, .. } = self.compile(learner, rows)?;
        let model = self.fit_rounds(learner, &pipeline, &origins, rows, rounds, phase)?;
        Ok((pipeline, model))
    }

    fn fit_rounds(
        &self,
        learner: LearnerKind,
        pipeline: &Pipeline,
        origins: &[Vec<u32>],
        rows: &[u32],
        rounds: u32,
        phase: Phase,
    ) -> Result<Box<dyn Model>, LearnError> {
        let (spec, goal, layout) = (&self.request.spec.learner, Goal::of(self.request.spec), pipeline.layout());
        self.report(learner, phase, 0, 1);
        let watch = self.watch(learner, phase);
        let kept = watch.finished().and_then(|bytes| load_model(learner.name(), &bytes, layout).ok());
        if let Some(model) = kept {
            return Ok(model);
        }
        let sample = self.sample(pipeline, rows)?;
        let start = self.start.as_deref();
        let model = match learner {
            LearnerKind::Linear => {
                let start = start.and_then(Opened::linear);
                linear::fit_from(&spec.linear, goal, layout, &sample, start.as_ref(), rounds, &watch)?
            }
            LearnerKind::Network => {
                let start = start.and_then(|start| start.network(origins));
                network::fit_from(&spec.network, goal, layout, &sample, start.as_ref(), rounds, &watch)?
            }
            _ => {
                let start = start.and_then(Opened::trees);
                trees::fit_from(&spec.trees, goal, layout, sample, start, rounds, &watch)?
            }
        };
        watch.finish(&model.to_bytes())?;
        Ok(model)
    }

    pub(crate) fn fit_pipeline(
        &self,
        learner: LearnerKind,
        rows: &[u32],
    ) -> Result<(Pipeline, Vec<String>), LearnError> {
        self.compile(learner, rows).map(|compiled| (compiled.pipeline, compiled.notes))
    }

    /// The pipeline, fitted to these rows, or the start's own.
    fn compile(&self, learner: LearnerKind, rows: &[u32]) -> Result<Compiled, LearnError> {
        self.report(learner, Phase::Features, 0, 1);
        let TrainRequest { spec, contract, rows: batch, seed, .. } = *self.request;
        if let Some(start) = &self.start {
            return start.compile(spec, batch, rows);
        }
        let recipe = match learner {
            LearnerKind::Linear => Recipe::Linear,
            LearnerKind::Network => Recipe::Network,
            _ => Recipe::Trees,
        };
        let fitted = Pipeline::fit(spec, contract, recipe, batch, rows, &self.target, seed)?;
        Ok(Compiled { pipeline: fitted.pipeline, notes: fitted.notes, origins: Vec::new() })
    }

    pub fn sample(&self, pipeline: &Pipeline, rows: &[u32]) -> Result<Sample, LearnError> {
        let batch = data::select(self.request.rows, rows)?;
        let target = self.targets(rows);
        let inputs = pipeline.transform_training(&batch, &target, self.request.seed)?;
        let sample = Sample { inputs, target, weights: self.weights(rows) };
        Ok(match self.request.teacher {
            Some(teacher) => taught::sample(self.request.spec, sample, rows, teacher),
            None => sample,
        })
    }

    /// Each row's own weight, times that of its class, halved with each half-life before the newest of the rows; then
    /// brought to mean 1. None where all count the same.
    fn weights(&self, rows: &[u32]) -> Option<Vec<f32>> {
        let learner = &self.request.spec.learner;
        let ages = learner.half_life.and_then(|half_life| Some((half_life, self.times.as_ref()?)));
        let classes = self.class_weights(rows);
        if ages.is_none() && classes.is_none() && self.own_weights.is_none() {
            return None;
        }
        let newest = ages.map(|(_, times)| rows.last().map(|row| times[*row as usize]));
        let weight = |row: &u32| {
            let row = *row as usize;
            let mut weight = self.own_weights.as_ref().map_or(1.0, |weights| weights[row]);
            if let Some(classes) = &classes {
                // A row without an outcome, which a teacher speaks for, has the class weight 1.
                weight *= classes.get(self.target[row] as usize).filter(|_| !self.target[row].is_nan()).unwrap_or(&1.0);
            }
            if let (Some((half_life, times)), Some(Some(newest))) = (ages, newest) {
                let age = (newest - times[row]).0 as f64 / half_life.0.max(1) as f64;
                weight *= exp(-std::f64::consts::LN_2 * age.min(1000.0));
            }
            weight
        };
        let raw: Vec<f64> = rows.iter().map(weight).collect();
        let mean = raw.iter().sum::<f64>() / raw.len() as f64;
        let mean = if mean > 0.0 { mean } else { 1.0 };
        Some(raw.iter().map(|weight| (weight / mean) as f32).collect())
    }

    /// The weight of each class among these rows.
    fn class_weights(&self, rows: &[u32]) -> Option<Vec<f64>> {
        let spec = self.request.spec;
        let names = spec.class_names();
        match &spec.learner.class_weights {
            ClassWeights::None => None,
            ClassWeights::By(weights) => {
                Some(names.iter().map(|name| weights.get(name).copied().unwrap_or(1.0)).collect())
            }
            ClassWeights::Balanced => {
                let mut counts = vec![0.0; names.len()];
                let labelled = rows.iter().map(|row| self.target[*row as usize]).filter(|class| !class.is_nan());
                labelled.for_each(|class| counts[class as usize] += 1.0);
                let occurring = counts.iter().filter(|count| **count > 0.0).count() as f64;
                let weight = |count: &f64| if *count > 0.0 { rows.len() as f64 / (occurring * count) } else { 1.0 };
                Some(counts.iter().map(weight).collect())
            }
        }
    }

    pub(crate) fn targets(&self, rows: &[u32]) -> Vec<f64> {
        rows.iter().map(|row| self.target[*row as usize]).collect()
    }

    fn watch(&self, learner: LearnerKind, phase: Phase) -> Watch<'a> {
        let TrainRequest { seed, progress, checkpoints, .. } = *self.request;
        Watch { seed, learner, phase, progress, checkpoints }
    }

    fn report(&self, learner: LearnerKind, phase: Phase, done: u64, total: u64) {
        self.watch(learner, phase).step(done, total, None);
    }

    fn span(&self, rows: &[u32]) -> Option<TimeSpan> {
        let times = self.times.as_ref()?;
        let at = |row: Option<&u32>| row.map(|row| times[*row as usize]);
        Some(TimeSpan { first: at(rows.first())?, last: at(rows.last())? })
    }

    fn loss_reference(&self, predicted: &[f64], outcome: &[f64]) -> LossReference {
        let spec = self.request.spec;
        let scale = if spec.task == Task::Regression { loss_scale(self.targets(&self.split.train)) } else { 1.0 };
        loss_reference(spec, scale, predicted, outcome)
    }

    fn reference(&self, pipeline: &Pipeline, rows: &[u32], loss: LossReference) -> Result<Reference, LearnError> {
        let TrainRequest { spec, rows: batch, .. } = *self.request;
        let features = features::profile::reference(pipeline.input_columns(), batch, rows, spec.time.as_deref())?;
        let detail = features::profile::detail(&features, batch, rows, spec.time.as_deref())?;
        Ok(Reference { format: REFERENCE_FORMAT, rows: rows.len() as u64, features, loss: Some(loss), detail })
    }

    fn bundle(
        &self,
        manifest: &Manifest,
        pipeline: &Pipeline,
        model: &dyn Model,
        calibration: &Calibration,
        reference: &Reference,
    ) -> Result<Bundle, LearnError> {
        let sections = [
            Bundle::json_section(section::MANIFEST, manifest)?,
            Bundle::json_section(section::CONTRACT, self.request.contract)?,
            Bundle::json_section(section::SPEC, self.request.spec)?,
            (section::PIPELINE.to_owned(), pipeline.to_json()),
            (section::MODEL.to_owned(), model.to_bytes()),
            Bundle::json_section(section::CALIBRATION, calibration)?,
            Bundle::json_section(section::REFERENCE, reference)?,
        ];
        Ok(Bundle::new(sections.into())?.with_earlier(self.request.earlier)?)
    }
}

/// Mean and deviation of the bounded losses that a monitor will see; absolute errors are divided by `scale`.
pub(crate) fn loss_reference(spec: &ModelSpec, scale: f64, predicted: &[f64], outcome: &[f64]) -> LossReference {
    let rows = predicted.chunks_exact(spec.outputs());
    let losses: Vec<f64> = rows.zip(outcome).map(|(row, y)| bounded_loss(spec.task, scale, row, *y)).collect();
    let count = losses.len() as f64;
    let mean = losses.iter().sum::<f64>() / count;
    let variance = losses.iter().map(|l| (l - mean) * (l - mean)).sum::<f64>() / (count - 1.0).max(1.0);
    LossReference { rows: losses.len() as u64, mean, standard_deviation: variance.sqrt(), scale }
}

/// What an absolute error is divided by, so that it rarely exceeds 1: the 99th percentile of the outcomes' distance from
/// their median. It follows from the outcomes alone, so that versions of one model have nearly the same scale.
pub(crate) fn loss_scale(mut target: Vec<f64>) -> f64 {
    let quantile = |values: &mut [f64], q: f64| -> f64 {
        values.sort_unstable_by(f64::total_cmp);
        values[((values.len() - 1) as f64 * q) as usize]
    };
    target.retain(|value| !value.is_nan());
    let median = quantile(&mut target, 0.5);
    let mut distances: Vec<f64> = target.iter().map(|y| (y - median).abs()).collect();
    [0.99, 1.0].map(|q| quantile(&mut distances, q)).into_iter().find(|scale| *scale > 0.0).unwrap_or(1.0)
}

/// Two ascending lists as one.
fn merged(a: &[u32], b: &[u32]) -> Vec<u32> {
    let mut all = [a, b].concat();
    all.sort_unstable();
    all
}

pub(crate) fn check_target(spec: &ModelSpec, target: &[f64]) -> Result<(), LearnError> {
    let binary = spec.task == Task::Binary;
    let good = |y: f64| y.is_nan() || (y.is_finite() && !(binary && y != 0.0 && y != 1.0));
    match target.iter().position(|y| !good(*y)) {
        None => Ok(()),
        Some(row) => Err(LearnError::Target {
            model: spec.name.clone(),
            target: spec.target.clone(),
            value: target[row],
            row,
            also: if binary { " (0 or 1)" } else { "" },
        }),
    }
}

/// A binary target needs both classes in the train and the validation part, a regression two values.
fn check_variety(spec: &ModelSpec, target: &[f64], rows: &[u32], part: &'static str) -> Result<(), LearnError> {
    let mut values = rows.iter().map(|row| target[*row as usize]).filter(|value| !value.is_nan());
    match values.next() {
        Some(value) if values.all(|other| other == value) => {
            Err(LearnError::OneValue { model: spec.name.clone(), target: spec.target.clone(), value, part })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
