//! Training the `linear` learner on rows that need not fit into memory, which a source gives as often as it is asked.
//!
//! 1. A pass counts the rows: with time, the newest are the test and those before them the validation, as in memory.
//! 2. A pass takes a sample of the train rows, on which the pipeline is fitted and which is the reference, and one of
//!    the validation rows, which choose the number of epochs and the calibration. A row's key decides.
//! 3. Passes over the train rows learn: chunk by chunk, each with rows from all over them, shuffled.
//! 4. As in memory, the same number of epochs on train and validation rows gives the model that the test rows (or a
//!    sample of them) judge, and with `split.refit` that on all rows the one that is kept. The pipeline stays that of
//!    step 2. (Going on from train rows to the validation rows would cost less, but then weights end with the habits of
//!    the validation days: on three million flights a log loss of .471 instead of .461.)
//!
//! In memory are, at any time, the samples, the weights, two chunks, and of each of 32 lanes three batches.

mod chunks;
mod course;
mod online;
mod reading;
mod survey;
#[cfg(test)]
mod tests;

pub use online::{ContinueRequest, continue_linear};

use crate::calibrate;
use crate::checkpoint::Checkpoints;
use crate::error::LearnError;
use crate::fit::{Goal, Phase, Progress, Watch, loss};
use crate::keyed::Purpose;
use crate::linear::Learner;
use crate::metrics::evaluate;
use crate::train::{HeldOut, REFIT_ROWS_MAX, Trained, loss_reference, loss_scale};
use arrow::record_batch::RecordBatch;
use chunks::{Selection, each_chunk, lanes};
use course::Course;
use features::{Pipeline, Recipe};
use inference::{Bundle, Calibration, MANIFEST_FORMAT, Manifest, Model, TimeSpan, section};
use survey::{Count, Part, Survey, chosen, count, survey};
use vocabulary::model::{LearnerKind, Task};
use vocabulary::profile::{REFERENCE_FORMAT, Reference};
use vocabulary::{Contract, Digest, Inputs, Metrics, ModelSpec};

/// Rows that can be read again and again.
pub trait RowSource: Sync {
    /// The rows from place `first` on, in the data's order: canonical, contract enforced, sorted by the time column where
    /// there is one. Each call gives the same rows; how they are cut into batches makes no difference but to memory,
    /// where a hundred are held at a time (8192 rows each are a good size). Up to 32 passes run at the same time, each in a
    /// thread of its own. Failures of the source itself are
    /// [`LearnError::Source`].
    fn pass(&self, first: u64) -> Result<Batches<'_>, LearnError>;
}

/// Batches of a pass.
pub type Batches<'a> = Box<dyn Iterator<Item = Result<RecordBatch, LearnError>> + 'a>;

/// How many rows are held at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Train rows that the pipeline is fitted on and the reference counts, in canonical columns.
    pub sample_rows: usize,
    /// Validation rows that choose the epochs and the calibration.
    pub validation_rows: usize,
    /// Test rows that the metrics are of: 16 bytes each.
    pub test_rows: usize,
}

/// About 150 MB for twenty columns.
impl Default for Limits {
    fn default() -> Limits {
        Limits { sample_rows: 500_000, validation_rows: 200_000, test_rows: 2_000_000 }
    }
}

pub struct StreamRequest<'a> {
    pub spec: &'a ModelSpec,
    pub contract: &'a Contract,
    pub source: &'a dyn RowSource,
    pub limits: Limits,
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
    pub checkpoints: Option<&'a dyn Checkpoints>,
}

/// Trains a version with the `linear` learner. See the module for the steps. `Progress` counts chunks of 65,536 rows.
pub fn train_streaming(request: &StreamRequest) -> Result<Trained, LearnError> {
    let threads = request.threads.max(1);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|error| LearnError::Threads(threads, error))?.install(|| Job::new(request)?.run())
}

/// A request, surveyed.
struct Job<'a> {
    request: &'a StreamRequest<'a>,
    goal: Goal,
    count: Count,
    survey: Survey,
    pipeline: Pipeline,
    notes: Vec<String>,
    reference: Reference,
    /// What absolute errors are divided by.
    loss_scale: f64,
    validation: Inputs,
}

impl<'a> Job<'a> {
    fn new(request: &'a StreamRequest<'a>) -> Result<Job<'a>, LearnError> {
        let StreamRequest { spec, contract, seed, .. } = *request;
        survey::check_declaration(spec)?;
        watch(request, Phase::Features).step(0, 1, None);
        let count = count(request)?;
        claim(request, &count)?;
        let mut survey = survey(request, &count)?;
        let sample = survey.sample.batch()?;
        let rows: Vec<u32> = (0..sample.num_rows() as u32).collect();
        let target = std::mem::take(&mut survey.sample.target);
        let fitted = Pipeline::fit(spec, contract, Recipe::Linear, &sample, &rows, &target, seed)?;
        let pipeline = fitted.pipeline;
        let features = features::profile::reference(pipeline.input_columns(), &sample, &rows, spec.time.as_deref())?;
        let reference =
            Reference { format: REFERENCE_FORMAT, rows: rows.len() as u64, features, loss: None, detail: None };
        let loss_scale = if spec.task == Task::Regression { loss_scale(target) } else { 1.0 };
        let validation = pipeline.transform(&survey.validation.batch()?)?;
        let goal = Goal::of(spec);
        Ok(Job { request, goal, count, survey, pipeline, notes: fitted.notes, reference, loss_scale, validation })
    }

    fn run(mut self) -> Result<Trained, LearnError> {
        let spec = self.request.spec;
        let mut course = Course::begin(&self)?;
        course.fit(&self)?;
        course.refit(&self)?;
        let outcome = &self.survey.validation.target;
        let scores = &course.best.scores;
        let calibration = match spec.task {
            Task::Binary => calibrate::choose(scores, outcome),
            Task::Regression => Calibration::Identity,
            Task::Multiclass => calibrate::choose_temperature(scores, outcome),
        };
        let tried = vec![(LearnerKind::Linear, loss(spec.task, scores, outcome))];
        let tests = self.count.of(Part::Test) > 0;
        let (mut predicted, outcome) =
            if tests { self.measure(&course.model(&self)?)? } else { (scores.clone(), outcome.clone()) };
        predicted.chunks_exact_mut(self.goal.outputs).for_each(|row| calibration.apply_row(row));
        watch(self.request, Phase::Evaluate).step(0, 1, None);
        let metrics = evaluate(spec.task, &predicted, &outcome, spec.objective.threshold);
        self.reference.loss = Some(loss_reference(spec, self.loss_scale, &predicted, &outcome));
        let refitted_on_all = spec.split.refit && tests;
        if refitted_on_all {
            course.refit_all(&self)?;
        }
        if course.best.rounds == 1 {
            self.notes.push(
                "the validation loss never fell after the first round of linear: the newest rows differ from the \
                 older ones, or the features say little"
                    .to_owned(),
            );
        }
        let model = course.model(&self)?;
        self.trained(&model, course.best.rounds, &calibration, metrics, refitted_on_all, tried)
    }

    /// Scores and outcomes of the test rows, or of a sample of them.
    fn measure(&self, model: &dyn Model) -> Result<(Vec<f64>, Vec<f64>), LearnError> {
        let (most, tests, seed) = (self.request.limits.test_rows, self.count.of(Part::Test), self.request.seed);
        let (mut predicted, mut outcome, mut scores) = (Vec::new(), Vec::new(), Vec::new());
        let wanted = |row| self.count.within(&[Part::Test], row) && chosen(seed, Purpose::TestSample, row, most, tests);
        let selection = Selection { lanes: self.lanes(&[Part::Test]), wanted: &wanted };
        each_chunk(self.request, &selection, &self.pipeline, &self.survey.weigher, &mut |chunk| {
            model.predict(&chunk.inputs, &mut scores)?;
            predicted.extend_from_slice(&scores);
            outcome.extend(chunk.target);
            Ok(())
        })?;
        Ok((predicted, outcome))
    }

    /// Where the rows of some parts that follow one another are read.
    fn lanes(&self, parts: &[Part]) -> Vec<std::ops::Range<u64>> {
        let facts = parts.iter().filter_map(|part| self.survey.facts[*part as usize]);
        let whole = facts.map(|facts| facts.start..facts.end).reduce(|a, b| a.start.min(b.start)..a.end.max(b.end));
        whole.map_or_else(Vec::new, lanes)
    }

    fn rows(&self, parts: &[Part]) -> u64 {
        parts.iter().map(|part| self.count.of(*part)).sum()
    }

    /// Whether validation rows are learned from, before or without a test.
    fn refits(&self) -> bool {
        self.count.of(Part::Test) == 0 || self.rows(&[Part::Train, Part::Validation]) <= REFIT_ROWS_MAX as u64
    }

    fn learner(&self, parts: &[Part]) -> Learner {
        let (spec, layout) = (&self.request.spec.learner.linear, self.pipeline.layout());
        Learner::new(spec, self.goal, layout, self.survey.scale, self.rows(parts) as usize)
    }

    fn trained(
        self,
        model: &dyn Model,
        rounds: u32,
        calibration: &Calibration,
        metrics: Metrics,
        refitted_on_all: bool,
        tried: Vec<(LearnerKind, f64)>,
    ) -> Result<Trained, LearnError> {
        let StreamRequest { spec, contract, seed, parent, earlier, program, .. } = *self.request;
        let learned: &[Part] = match (refitted_on_all, self.refits()) {
            (true, _) => &[Part::Train, Part::Validation, Part::Test],
            (_, true) => &[Part::Train, Part::Validation],
            _ => &[Part::Train],
        };
        let spans = learned.iter().filter_map(|part| self.survey.facts[*part as usize]?.span);
        let time = spans.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        let manifest = Manifest {
            format: MANIFEST_FORMAT,
            model: spec.name.clone(),
            learner: model.kind().to_owned(),
            task: spec.task,
            target: spec.target.clone(),
            seed,
            data: self.count.digest,
            pipeline: self.pipeline.digest(),
            rows: self.count.labelled,
            rows_without_outcome: self.count.rows - self.count.labelled,
            rows_learned: self.rows(learned),
            rows_tested: metrics.rows,
            refitted_on_all,
            time: time.map(|(first, last)| TimeSpan { first, last }),
            rounds,
            parent,
            made_by: None,
            averaged_with: earlier.iter().map(Bundle::digest).collect(),
            program: program.to_owned(),
            layout: self.pipeline.layout().clone(),
            metrics: metrics.clone(),
        };
        let sections = [
            Bundle::json_section(section::MANIFEST, &manifest)?,
            Bundle::json_section(section::CONTRACT, contract)?,
            Bundle::json_section(section::SPEC, spec)?,
            (section::PIPELINE.to_owned(), self.pipeline.to_json()),
            (section::MODEL.to_owned(), model.to_bytes()),
            Bundle::json_section(section::CALIBRATION, calibration)?,
            Bundle::json_section(section::REFERENCE, &self.reference)?,
        ];
        let bundle = Bundle::new(sections.into())?.with_earlier(earlier)?;
        let encoded = bundle.encode();
        watch(self.request, Phase::Evaluate).step(1, 1, None);
        let (digest, learner) = (Digest::of(&encoded), LearnerKind::Linear);
        Ok(Trained {
            digest,
            bundle,
            encoded,
            manifest,
            metrics,
            measured: None,
            held_out: HeldOut::default(),
            learner,
            tried,
            notes: self.notes,
        })
    }
}

fn watch<'a>(request: &StreamRequest<'a>, phase: Phase) -> Watch<'a> {
    let StreamRequest { seed, progress, checkpoints, .. } = *request;
    Watch { seed, learner: LearnerKind::Linear, phase, progress, checkpoints }
}

/// Makes sure that the kept state, if there is any, is of this very request.
fn claim(request: &StreamRequest<'_>, count: &Count) -> Result<(), LearnError> {
    let Some(checkpoints) = request.checkpoints else { return Ok(()) };
    let identity = survey::identity(request, count)?;
    match checkpoints.load("run") {
        Some(known) if known == identity => Ok(()),
        Some(_) => Err(LearnError::OtherRun),
        None => checkpoints.finish("run", &identity),
    }
}
