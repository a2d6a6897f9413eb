//! Which columns are worth their cost: what each one says about the target by itself, what a fitted version loses without
//! it, whether that is more than chance gives, and how accuracy grows with the number of columns. Everything but the
//! measured seconds is the same for the same data, declaration and seed on any number of threads.
//!
//! 1. Columns that say the same of each row as an earlier one are set aside.
//! 2. A version is fitted on the train rows; each column's importance is what the loss on the validation rows grows by
//!    when the column's values are permuted among them (Breiman, "Random Forests", 2001).
//! 3. The same is done for versions of shuffled targets, with as many rounds: what a column without meaning would get
//!    (Altmann et al., "Permutation importance: a corrected feature importance measure", 2010).
//! 4. Versions are fitted with the best columns alone, for several numbers of columns.
//!
//! The test rows are never looked at.

mod curve;
mod importance;
mod information;
#[cfg(test)]
mod tests;

use crate::data;
use crate::error::LearnError;
use crate::fit::loss;
use crate::train::{Found, Job, TrainRequest};
use arrow::record_batch::RecordBatch;
use features::FeatureError;
use features::profile;
use importance::Fitted;
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use vocabulary::model::{FeatureSpec, LearnerKind};
use vocabulary::profile::FeatureReference;
use vocabulary::{Contract, ModelSpec};

/// A column is kept if its importance exceeds that of all versions of shuffled targets, and their mean by this many of
/// their standard deviations. A judgement: with ten of them some 1 % of meaningless columns come so far (Student's t).
pub const DEVIATIONS_MIN: f64 = 3.0;

pub struct SelectRequest<'a> {
    pub spec: &'a ModelSpec,
    pub contract: &'a Contract,
    /// As for training: canonical, contract enforced, sorted by the time column where there is one.
    pub rows: &'a RecordBatch,
    /// `auto` means trees, the learner that needs the least to be told.
    pub learner: LearnerKind,
    pub seed: u64,
    /// Threads to use; the result does not depend on it.
    pub threads: usize,
    /// How often each column is permuted; the importance is the mean.
    pub repeats: u32,
    /// Versions of shuffled targets. Fewer than five say little.
    pub shuffles: u32,
    /// Numbers of columns to fit with; 1, 2, 4, 8 … when empty. Those kept and all columns are always among them.
    pub sizes: Vec<usize>,
    /// How much more the proposal may lose on the validation rows than all columns do, as a share of their loss.
    pub tolerance: f64,
    pub progress: &'a (dyn Fn(SelectProgress) + Sync),
}

/// A step of a selection, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SelectStage {
    Information,
    Importance,
    Shuffled,
    Curve,
}

/// `done` of `total` columns or versions of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelectProgress {
    pub stage: SelectStage,
    pub done: u64,
    pub total: u64,
}

/// What a selection found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Selection {
    pub learner: LearnerKind,
    /// The best first: those kept, those that are no better than chance, those that repeat another.
    pub columns: Vec<RankedColumn>,
    /// Loss of the version that importances are of, on the validation rows.
    pub loss: f64,
    /// By number of columns.
    pub curve: Vec<CurvePoint>,
    /// The fewest columns that lose no more than the tolerance.
    pub proposal: Proposal,
    /// Sentences for a person.
    pub notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RankedColumn {
    pub name: String,
    /// In nats, of the train rows; corrected for the number of bins, so that it is near 0 (and may be below) for a column
    /// that says nothing. None for instants.
    pub mutual_information: Option<f64>,
    /// An earlier column that tells the same rows apart; such a column has no importance of its own.
    pub repeats: Option<String>,
    pub importance: Option<Importance>,
    pub kept: bool,
}

/// By how much the validation loss grows when the column is permuted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Importance {
    pub mean: f64,
    /// Standard deviation over the repeats.
    pub deviation: f64,
    /// The same of the versions of shuffled targets.
    pub shuffled_mean: f64,
    pub shuffled_deviation: f64,
    pub shuffled_largest: f64,
    /// `(1 + shuffled versions in which it was as large) / (1 + shuffled versions)`.
    pub p: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CurvePoint {
    /// The first this many of the ranked columns; all that the model uses where it is more than were ranked.
    pub columns: usize,
    /// On the validation rows.
    pub loss: f64,
    /// Measured: making the inputs of the validation rows and scoring them, on the threads of the request.
    pub seconds_per_1000_rows: f64,
    /// Of the model and its pipeline.
    pub model_bytes: usize,
    pub rounds: u32,
}

/// A declaration that does with fewer columns.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Proposal {
    /// What `features.columns` would be.
    pub columns: Vec<String>,
    /// The whole of `features`, without what is made of columns that are left out.
    pub features: FeatureSpec,
    pub loss: f64,
    pub loss_of_all: f64,
}

/// Runs a selection. See the module for the steps.
pub fn run(request: &SelectRequest) -> Result<Selection, LearnError> {
    let threads = request.threads.max(1);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|error| LearnError::Threads(threads, error))?.install(|| select(request))
}

fn select(request: &SelectRequest) -> Result<Selection, LearnError> {
    let learner = if request.learner == LearnerKind::Auto { LearnerKind::Trees } else { request.learner };
    let whole = request.spec;
    let all = with_job(request, learner, whole, |job| {
        let found = job.try_learner(learner)?;
        Ok(found.pipeline.input_columns().to_vec())
    })?;
    let (information, repeated) = with_job(request, learner, whole, |job| {
        let references = profile::reference(&all, request.rows, &job.split.train, None)?;
        report(request, SelectStage::Information, 0, 1);
        let information = information::of_columns(&references, job)?;
        let repeated = repeats(&references, request.rows, &job.split.train);
        report(request, SelectStage::Information, 1, 1);
        Ok((information, repeated))
    })?;
    let candidates: Vec<String> = all.iter().filter(|name| !repeated.contains_key(*name)).cloned().collect();
    let spec = ModelSpec { features: only(whole, &all, &candidates), ..whole.clone() };
    let (loss, importances, mut notes) =
        with_job(request, learner, &spec, |job| importances(request, job, learner, &candidates))?;
    let columns = ranked(&all, &information, &repeated, &candidates, &importances);
    let (curve, proposal) = curve::draw(request, learner, &all, &columns)?;
    if columns.iter().all(|column| !column.kept) {
        notes.push(
            "no column is better than chance on the validation rows; more rows or other columns are needed".to_owned(),
        );
    }
    Ok(Selection { learner, columns, loss, curve, proposal, notes })
}

/// Hands a job of the request with another declaration to `work`.
fn with_job<T>(
    request: &SelectRequest,
    learner: LearnerKind,
    spec: &ModelSpec,
    work: impl FnOnce(&Job) -> Result<T, LearnError>,
) -> Result<T, LearnError> {
    let training = TrainRequest {
        spec,
        contract: request.contract,
        rows: request.rows,
        learner,
        seed: request.seed,
        threads: request.threads,
        parent: None,
        earlier: &[],
        start: None,
        teacher: None,
        program: "",
        progress: &|_| {},
        checkpoints: None,
    };
    work(&Job::new(&training)?)
}

fn report(request: &SelectRequest, stage: SelectStage, done: usize, total: usize) {
    (request.progress)(SelectProgress { stage, done: done as u64, total: total as u64 });
}

/// Columns whose bins tell the same rows apart as those of an earlier one: the same values, or the same under other
/// names or another scale.
fn repeats(references: &[FeatureReference], batch: &RecordBatch, rows: &[u32]) -> HashMap<String, String> {
    let mut hashers = vec![blake3::Hasher::new(); references.len()];
    // Bins by their order of appearance: a category renamed or a sign turned round is still the same partition.
    let mut names: Vec<HashMap<u16, u32>> = vec![HashMap::new(); references.len()];
    for row in rows {
        for (place, bin) in profile::bins(references, batch, *row as usize).into_iter().enumerate() {
            let next = names[place].len() as u32;
            let name = *names[place].entry(bin).or_insert(next);
            hashers[place].update(&name.to_le_bytes());
        }
    }
    let mut first: HashMap<[u8; 32], &str> = HashMap::new();
    let mut repeated = HashMap::new();
    for (reference, (hasher, bins)) in references.iter().zip(hashers.iter().zip(&names)) {
        // Constant columns are all alike, but there is nothing that they repeat.
        if bins.len() < 2 {
            continue;
        }
        match first.entry(*hasher.finalize().as_bytes()) {
            std::collections::hash_map::Entry::Occupied(earlier) => {
                repeated.insert(reference.name.clone(), (*earlier.get()).to_owned());
            }
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(&reference.name);
            }
        }
    }
    repeated
}

/// The loss of the version, the importance of each candidate in it, and notes.
fn importances(
    request: &SelectRequest,
    job: &Job,
    learner: LearnerKind,
    candidates: &[String],
) -> Result<(f64, Vec<Importance>, Vec<String>), LearnError> {
    let Found { pipeline, stopping, notes, .. } = job.try_learner(learner)?;
    let rounds = stopping.rounds;
    let model = job.fit_rounds_on_train(learner, &pipeline, rounds)?;
    let validation = data::select(request.rows, &job.split.validation)?;
    let outcome = job.targets(&job.split.validation);
    let fitted = Fitted { job, pipeline: &pipeline, model: model.as_ref(), validation: &validation, outcome: &outcome };
    let base = fitted.loss(&validation)?;
    let count = candidates.len();
    let mut measured = Vec::with_capacity(count);
    for (place, name) in candidates.iter().enumerate() {
        measured.push(fitted.importance(name, place, request.repeats.max(1), base)?);
        report(request, SelectStage::Importance, place + 1, count);
    }
    let shuffles = request.shuffles.max(1);
    let mut shuffled: Vec<Vec<f64>> = vec![Vec::new(); count];
    for shuffle in 0..shuffles {
        let job = job.with_target(importance::shuffled_target(job, request.seed, shuffle));
        let pipeline = job.fit_pipeline(learner, &job.split.train)?.0;
        let model = job.fit_rounds_on_train(learner, &pipeline, rounds)?;
        let outcome = job.targets(&job.split.validation);
        let fitted = Fitted {
            job: &job,
            pipeline: &pipeline,
            model: model.as_ref(),
            validation: &validation,
            outcome: &outcome,
        };
        let base = fitted.loss(&validation)?;
        for (place, name) in candidates.iter().enumerate() {
            // A column that a pipeline of chance does without has no importance in it.
            let importance = match pipeline.input_columns().contains(name) {
                true => fitted.importance(name, place, request.repeats.max(1), base)?.mean,
                false => 0.0,
            };
            shuffled[place].push(importance);
        }
        report(request, SelectStage::Shuffled, shuffle as usize + 1, shuffles as usize);
    }
    let found = measured.into_iter().zip(&shuffled).map(|(measured, null)| measured.against(null)).collect();
    let loss = loss(job.request.spec.task, &stopping.scores, &outcome);
    Ok((loss, found, notes))
}

/// Kept columns by importance, then those that chance explains, then those that repeat another.
fn ranked(
    all: &[String],
    information: &HashMap<String, f64>,
    repeated: &HashMap<String, String>,
    candidates: &[String],
    importances: &[Importance],
) -> Vec<RankedColumn> {
    let importance: HashMap<&String, &Importance> = candidates.iter().zip(importances).collect();
    let column = |name: &String| {
        let importance = importance.get(name).map(|importance| **importance);
        RankedColumn {
            name: name.clone(),
            mutual_information: information.get(name).copied(),
            repeats: repeated.get(name).cloned(),
            importance,
            kept: importance.is_some_and(|importance| importance.beats_chance()),
        }
    };
    let mut columns: Vec<RankedColumn> = all.iter().map(column).collect();
    let order = |column: &RankedColumn| {
        let mean = column.importance.map_or(f64::NEG_INFINITY, |importance| importance.mean);
        (!column.kept, column.repeats.is_some(), mean)
    };
    columns.sort_by(|a, b| {
        let (a, b) = (order(a), order(b));
        (a.0, a.1).cmp(&(b.0, b.1)).then(b.2.total_cmp(&a.2))
    });
    columns
}

/// The features of a model that may read only `kept` of the columns that it reads now (`all`).
fn only(spec: &ModelSpec, all: &[String], kept: &[String]) -> FeatureSpec {
    let kept: HashSet<&String> = kept.iter().collect();
    let dropped: HashSet<&String> = all.iter().filter(|name| !kept.contains(*name)).collect();
    let stays = |name: &String| !dropped.contains(name);
    let mut features = spec.features.clone();
    features.columns = all.iter().filter(|name| kept.contains(*name)).cloned().collect();
    // The time column is used without being named; it has to be ruled out.
    features.exclude.extend(spec.time.iter().filter(|name| dropped.contains(*name)).cloned());
    features.time_parts.retain(|parts| stays(&parts.column));
    features.cross.retain(|columns| columns.iter().all(stays));
    features.difference.retain(|difference| stays(&difference.later) && stays(&difference.earlier));
    features.target_mean.retain(|entry| entry.split('*').all(|name| stays(&name.trim().to_owned())) && stays(entry));
    features.numeric_categories.retain(stays);
    if let Some(reduce) = &mut features.reduce {
        let named = !reduce.columns.is_empty();
        reduce.columns.retain(stays);
        if named && reduce.columns.is_empty() {
            features.reduce = None;
        }
    }
    features
}

/// A column by name, for what must be there.
fn place_of(batch: &RecordBatch, name: &str) -> Result<usize, LearnError> {
    batch
        .schema()
        .index_of(name)
        .map_err(|_| FeatureError::MissingColumn { column: name.to_owned(), hint: String::new() }.into())
}
