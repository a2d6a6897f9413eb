//! Training: from canonical rows to a bundle with its metrics.
//!
//! 1. Rows with an outcome are split by time into train, validation and test.
//! 2. Pipeline and model are fitted on the train rows; the validation rows choose the number of rounds, the learner
//!    (`auto`) and the calibration. They are out of time, as the rows of tomorrow will be.
//! 3. Pipeline and model are fitted again on train and validation rows for that number of rounds, and measured on the
//!    test rows with the calibration of step 2. Beyond [`REFIT_ROWS_MAX`] rows the model of step 2 is measured instead.
//! 4. With `split.refit`, or without test rows, the same is done on all rows, and that model goes into the bundle. The
//!    metrics stay those of step 3: no row judges a model that learned from it.

use crate::calibrate;
use crate::data;
use crate::error::LearnError;
use crate::fit::{Phase, Progress, Sample, Stopping, Watch, loss};
use crate::metrics::evaluate;
use crate::split::{Split, split};
use crate::{linear, trees};
use arrow::record_batch::RecordBatch;
use features::{Pipeline, Recipe, target_values};
use inference::elementary::exp;
use inference::{Bundle, Calibration, MANIFEST_FORMAT, Manifest, Model, Predictor, TimeSpan, section};
use vocabulary::model::{LearnerKind, Task};
use vocabulary::profile::{LossReference, REFERENCE_FORMAT, Reference, bounded_loss};
use vocabulary::{Contract, Digest, Metrics, ModelSpec, Timestamp};

/// Fewer rows with an outcome cannot be split into three parts that say anything.
const ROWS_MIN: usize = 50;

/// Above this many rows the validation rows are not learned from: so many change little, and a second fit costs as much
/// as the first.
const REFIT_ROWS_MAX: usize = 20_000_000;

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
    /// Version of the program, for lineage.
    pub program: &'a str,
    pub progress: &'a (dyn Fn(Progress) + Sync),
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
    /// Linear or trees.
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
struct Job<'a> {
    request: &'a TrainRequest<'a>,
    target: Vec<f64>,
    times: Option<Vec<Timestamp>>,
    rows_without_outcome: u64,
    split: Split,
}

/// What a learner found on the validation rows.
struct Found {
    learner: LearnerKind,
    pipeline: Pipeline,
    stopping: Stopping,
    loss: f64,
    notes: Vec<String>,
}

impl<'a> Job<'a> {
    fn new(request: &'a TrainRequest<'a>) -> Result<Job<'a>, LearnError> {
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
        let rows_without_outcome = (target.len() - labelled.len()) as u64;
        let split = split(&labelled, &spec.split, spec.time.is_some(), request.seed);
        for (rows, part) in [(&split.train, "train"), (&split.validation, "validation")] {
            check_variety(spec, &target, rows, part)?;
        }
        Ok(Job { request, target, times, rows_without_outcome, split })
    }

    fn run(&self) -> Result<Trained, LearnError> {
        let (found, tried) = self.choose()?;
        self.report(found.learner, Phase::Calibrate, 0, 1);
        let outcome = self.targets(&self.split.validation);
        let calibration = match self.request.spec.task {
            Task::Binary => calibrate::choose(&found.stopping.scores, &outcome),
            Task::Regression => Calibration::Identity,
        };
        let Found { learner, pipeline, stopping, mut notes, .. } = found;
        let rounds = stopping.rounds;
        let refit = |rows: &[u32], phase| self.refit(learner, rows, rounds, phase);

        let (tested, predicted, pipeline, model, mut learned) = if self.split.test.is_empty() {
            let predicted: Vec<f64> = stopping.scores.iter().map(|score| calibration.apply(*score)).collect();
            let rows = merged(&self.split.train, &self.split.validation);
            let (pipeline, model) = refit(&rows, Phase::Refit)?;
            (&self.split.validation, predicted, pipeline, model, rows)
        } else {
            let whole = merged(&self.split.train, &self.split.validation);
            let (pipeline, model, rows) = if whole.len() <= REFIT_ROWS_MAX {
                let (pipeline, model) = refit(&whole, Phase::Refit)?;
                (pipeline, model, whole)
            } else {
                let model = self.fit_rounds(learner, &pipeline, &self.split.train, rounds, Phase::Refit)?;
                (pipeline, model, self.split.train.clone())
            };
            let predictor = Predictor { model, calibration: calibration.clone() };
            let mut predicted = Vec::new();
            let inputs = pipeline.transform(&data::select(self.request.rows, &self.split.test)?)?;
            predictor.predict(&inputs, &mut predicted)?;
            (&self.split.test, predicted, pipeline, predictor.model, rows)
        };
        self.report(learner, Phase::Evaluate, 0, 1);
        let spec = self.request.spec;
        let tested_outcome = self.targets(tested);
        let metrics = evaluate(spec.task, &predicted, &tested_outcome, spec.objective.threshold);
        let loss = self.loss_reference(&predicted, &tested_outcome);

        let refitted_on_all = spec.split.refit && !self.split.test.is_empty();
        let (pipeline, model) = if refitted_on_all {
            learned = merged(&learned, &merged(&self.split.validation, &self.split.test));
            learned.dedup();
            refit(&learned, Phase::RefitAll)?
        } else {
            (pipeline, model)
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
            parent: self.request.parent,
            averaged_with: self.request.earlier.iter().map(Bundle::digest).collect(),
            program: self.request.program.to_owned(),
            layout: pipeline.layout().clone(),
            metrics: metrics.clone(),
        };
        let bundle = self.bundle(&manifest, &pipeline, model.as_ref(), &calibration, &reference)?;
        let encoded = bundle.encode();
        self.report(learner, Phase::Evaluate, 1, 1);
        Ok(Trained { digest: Digest::of(&encoded), bundle, encoded, manifest, metrics, learner, tried, notes })
    }

    /// Fits each learner that is asked for with early stopping; the lower validation loss wins, trees where equal.
    fn choose(&self) -> Result<(Found, Vec<(LearnerKind, f64)>), LearnError> {
        let kinds: &[LearnerKind] = match self.request.learner {
            LearnerKind::Auto => &[LearnerKind::Trees, LearnerKind::Linear],
            LearnerKind::Trees => &[LearnerKind::Trees],
            LearnerKind::Linear => &[LearnerKind::Linear],
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

    fn try_learner(&self, learner: LearnerKind) -> Result<Found, LearnError> {
        let (pipeline, notes) = self.fit_pipeline(learner, &self.split.train)?;
        let sample = self.sample(&pipeline, &self.split.train)?;
        let validation = Sample {
            inputs: pipeline.transform(&data::select(self.request.rows, &self.split.validation)?)?,
            target: self.targets(&self.split.validation),
            weights: None,
        };
        let (spec, task, layout) = (&self.request.spec.learner, self.request.spec.task, pipeline.layout());
        self.report(learner, Phase::Fit, 0, 1);
        let watch = self.watch(learner, Phase::Fit);
        let outcome = validation.target.clone();
        let stopping = match learner {
            LearnerKind::Linear => linear::fit_stopping(&spec.linear, task, layout, &sample, &validation, &watch)?,
            _ => trees::fit_stopping(&spec.trees, task, layout, sample, validation, &watch)?,
        };
        let loss = loss(task, &stopping.scores, &outcome);
        Ok(Found { learner, pipeline, stopping, loss, notes })
    }

    fn refit(
        &self,
        learner: LearnerKind,
        rows: &[u32],
        rounds: u32,
        phase: Phase,
    ) -> Result<(Pipeline, Box<dyn Model>), LearnError> {
        let (pipeline, _) = self.fit_pipeline(learner, rows)?;
        let model = self.fit_rounds(learner, &pipeline, rows, rounds, phase)?;
        Ok((pipeline, model))
    }

    fn fit_rounds(
        &self,
        learner: LearnerKind,
        pipeline: &Pipeline,
        rows: &[u32],
        rounds: u32,
        phase: Phase,
    ) -> Result<Box<dyn Model>, LearnError> {
        let sample = self.sample(pipeline, rows)?;
        let (spec, task, layout) = (&self.request.spec.learner, self.request.spec.task, pipeline.layout());
        self.report(learner, phase, 0, 1);
        let watch = self.watch(learner, phase);
        match learner {
            LearnerKind::Linear => linear::fit(&spec.linear, task, layout, &sample, rounds, &watch),
            _ => trees::fit(&spec.trees, task, layout, sample, rounds, &watch),
        }
    }

    fn fit_pipeline(&self, learner: LearnerKind, rows: &[u32]) -> Result<(Pipeline, Vec<String>), LearnError> {
        self.report(learner, Phase::Features, 0, 1);
        let TrainRequest { spec, contract, rows: batch, seed, .. } = *self.request;
        let recipe = match learner {
            LearnerKind::Linear => Recipe::Linear,
            _ => Recipe::Trees,
        };
        let fitted = Pipeline::fit(spec, contract, recipe, batch, rows, &self.target, seed)?;
        Ok((fitted.pipeline, fitted.notes))
    }

    fn sample(&self, pipeline: &Pipeline, rows: &[u32]) -> Result<Sample, LearnError> {
        let batch = data::select(self.request.rows, rows)?;
        let target = self.targets(rows);
        let inputs = pipeline.transform_training(&batch, &target, self.request.seed)?;
        Ok(Sample { inputs, target, weights: self.weights(rows) })
    }

    /// Halved with each half-life before the newest of the rows, then brought to mean 1.
    fn weights(&self, rows: &[u32]) -> Option<Vec<f32>> {
        let (half_life, times) = (self.request.spec.learner.half_life?, self.times.as_ref()?);
        let newest = times[*rows.last()? as usize];
        let weight = |row: &u32| {
            let age = (newest - times[*row as usize]).0 as f64 / half_life.0.max(1) as f64;
            exp(-std::f64::consts::LN_2 * age.min(1000.0))
        };
        let raw: Vec<f64> = rows.iter().map(weight).collect();
        let mean = raw.iter().sum::<f64>() / raw.len() as f64;
        Some(raw.iter().map(|weight| (weight / mean) as f32).collect())
    }

    fn targets(&self, rows: &[u32]) -> Vec<f64> {
        rows.iter().map(|row| self.target[*row as usize]).collect()
    }

    fn watch(&self, learner: LearnerKind, phase: Phase) -> Watch<'a> {
        Watch { seed: self.request.seed, learner, phase, progress: self.request.progress }
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
        let binary = self.request.spec.task == Task::Binary;
        let scale = if binary { 1.0 } else { loss_scale(self.targets(&self.split.train)) };
        let losses: Vec<f64> =
            predicted.iter().zip(outcome).map(|(p, y)| bounded_loss(binary, scale, *p, *y)).collect();
        let count = losses.len() as f64;
        let mean = losses.iter().sum::<f64>() / count;
        let variance = losses.iter().map(|l| (l - mean) * (l - mean)).sum::<f64>() / (count - 1.0).max(1.0);
        LossReference { rows: losses.len() as u64, mean, standard_deviation: variance.sqrt(), scale }
    }

    fn reference(&self, pipeline: &Pipeline, rows: &[u32], loss: LossReference) -> Result<Reference, LearnError> {
        let TrainRequest { spec, rows: batch, .. } = *self.request;
        let features = features::profile::reference(pipeline.input_columns(), batch, rows, spec.time.as_deref())?;
        Ok(Reference { format: REFERENCE_FORMAT, rows: rows.len() as u64, features, loss: Some(loss) })
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

/// What an absolute error is divided by, so that it rarely exceeds 1: the 99th percentile of the outcomes' distance from
/// their median. It follows from the outcomes alone, so that versions of one model have nearly the same scale.
fn loss_scale(mut target: Vec<f64>) -> f64 {
    let quantile = |values: &mut [f64], q: f64| -> f64 {
        values.sort_unstable_by(f64::total_cmp);
        values[((values.len() - 1) as f64 * q) as usize]
    };
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

fn check_target(spec: &ModelSpec, target: &[f64]) -> Result<(), LearnError> {
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
    let mut values = rows.iter().map(|row| target[*row as usize]);
    match values.next() {
        Some(value) if values.all(|other| other == value) => {
            Err(LearnError::OneValue { model: spec.name.clone(), target: spec.target.clone(), value, part })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
