//! The two passes before learning: one counts, so that the split is known; one takes a sample of each part and the
//! figures that weights and scales rest on.

use super::reading::{Cursor, Labelled, read};
use super::{Limits, StreamRequest};
use crate::data::{StreamDigest, no_weight};
use crate::error::LearnError;
use crate::keyed::{Purpose, bits};
use crate::linear::Scale;
use crate::train::ROWS_MIN;
use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use inference::elementary::exp;
use std::ops::ControlFlow;
use vocabulary::model::{ClassWeights, Task};
use vocabulary::{Digest, ModelSpec, Timestamp};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Train = 0,
    Validation = 1,
    Test = 2,
}

/// Which rows are for what. With time, or without `split.shuffle`, as in memory: by rank. Shuffled, each row's key
/// decides for itself, so that shares are met on average.
#[derive(Clone, Copy, Debug)]
enum Division {
    /// Ranks from which on rows are for validation and test.
    Rank { validation: u64, test: u64 },
    /// The same in shares of all keys.
    Key { validation: f64, test: f64, seed: u64 },
}

impl Division {
    fn of(self, at: Cursor) -> Part {
        let (beyond_test, beyond_validation) = match self {
            Division::Rank { validation, test } => (at.rank >= test, at.rank >= validation),
            Division::Key { validation, test, seed } => {
                let key = (bits(seed, Purpose::Split, 0, at.row) >> 11) as f64 / (1_u64 << 53) as f64;
                (key >= test, key >= validation)
            }
        };
        match (beyond_test, beyond_validation) {
            (true, _) => Part::Test,
            (_, true) => Part::Validation,
            _ => Part::Train,
        }
    }
}

/// What the first pass found.
pub(super) struct Count {
    pub digest: Digest,
    pub rows: u64,
    pub labelled: u64,
    division: Division,
    /// Rows of each part.
    parts: [u64; 3],
    newest: Option<Timestamp>,
}

impl Count {
    pub fn of(&self, part: Part) -> u64 {
        self.parts[part as usize]
    }

    fn part(&self, at: Cursor) -> Part {
        self.division.of(at)
    }

    /// Whether a row with an outcome, between the first and the last of some parts that follow one another, is of them.
    pub fn within(&self, parts: &[Part], row: u64) -> bool {
        match self.division {
            Division::Rank { .. } => true,
            Division::Key { .. } => parts.contains(&self.division.of(Cursor { row, rank: 0 })),
        }
    }
}

pub(super) fn count(request: &StreamRequest<'_>) -> Result<Count, LearnError> {
    let StreamRequest { spec, seed, .. } = *request;
    let (test, validation) = (spec.split.test, spec.split.validation);
    let by_key = Division::Key { validation: 1.0 - test - validation, test: 1.0 - test, seed };
    let mut digest = StreamDigest::default();
    let (mut rows, mut labelled, mut parts, mut newest) = (0, 0, [0; 3], None);
    read(request, Cursor::default(), |batch: Labelled| {
        digest.add(&batch.batch)?;
        rows += batch.target.len() as u64;
        for (_, at) in batch.rows() {
            labelled += 1;
            parts[by_key.of(at) as usize] += 1;
        }
        newest = batch.times.as_ref().and_then(|times| times.last().copied()).or(newest);
        Ok(ControlFlow::Continue(()))
    })?;
    if labelled == 0 {
        let (model, target) = (spec.name.clone(), spec.target.clone());
        return Err(LearnError::NoOutcome { model, target, rows: rows as usize });
    }
    if labelled < ROWS_MIN as u64 {
        return Err(LearnError::TooFewRows { model: spec.name.clone(), rows: labelled as usize, needed: ROWS_MIN });
    }
    let mut count = Count { digest: digest.finish(), rows, labelled, division: by_key, parts, newest };
    if !spec.split.shuffle || spec.time.is_some() {
        // As `split` counts in memory.
        let share = |share: f64| if share > 0.0 { ((labelled as f64 * share).round() as u64).max(1) } else { 0 };
        let test = share(test).min(labelled);
        let validation = share(validation).min(labelled - test);
        count.division = Division::Rank { validation: labelled - test - validation, test: labelled - test };
        count.parts = [labelled - test - validation, validation, test];
    }
    Ok(count)
}

/// Figures of the rows of one part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts {
    /// Its first row, and the row after its last.
    pub start: u64,
    pub end: u64,
    pub span: Option<(Timestamp, Timestamp)>,
    least: f64,
    most: f64,
}

/// Rows that were taken out of a part.
#[derive(Default)]
pub(super) struct Taken {
    pieces: Vec<RecordBatch>,
    pub target: Vec<f64>,
}

impl Taken {
    /// All of them as one batch.
    pub fn batch(&mut self) -> Result<RecordBatch, LearnError> {
        let pieces = std::mem::take(&mut self.pieces);
        Ok(concat_batches(&pieces[0].schema(), &pieces)?)
    }
}

/// What the second pass found.
pub(super) struct Survey {
    /// None for a part without rows.
    pub facts: [Option<Facts>; 3],
    /// Of the train rows.
    pub sample: Taken,
    pub validation: Taken,
    pub weigher: Weigher,
    pub scale: Scale,
}

/// Whether a row is among about `most` of `count`, chosen by its key; all are where there are no more.
pub(super) fn chosen(seed: u64, purpose: Purpose, row: u64, most: usize, count: u64) -> bool {
    count <= most as u64 || (bits(seed, purpose, 0, row) as f64) < most as f64 / count as f64 * 2.0_f64.powi(64)
}

pub(super) fn survey(request: &StreamRequest<'_>, count: &Count) -> Result<Survey, LearnError> {
    let StreamRequest { spec, seed, limits, .. } = *request;
    let Limits { sample_rows, validation_rows, .. } = limits;
    let mut survey = Survey {
        facts: [None; 3],
        sample: Taken::default(),
        validation: Taken::default(),
        weigher: Weigher::new(spec, count.newest),
        scale: Scale::NONE,
    };
    let mut spread = Spread::default();
    let mut tallies = Tally::of_classes(spec);
    read(request, Cursor::default(), |batch| {
        let mut taken = [Vec::new(), Vec::new()];
        for (row, at) in batch.rows() {
            let (place, part) = (row as usize, count.part(at));
            note(
                &mut survey.facts[part as usize],
                at,
                batch.target[place],
                batch.times.as_ref().map(|times| times[place]),
            );
            let keep = |purpose, most| chosen(seed, purpose, at.row, most, count.of(part));
            match part {
                Part::Train => {
                    spread.add(batch.target[place]);
                    survey.weigher.count(spec, &batch, place, &mut tallies);
                    if keep(Purpose::Sample, sample_rows) {
                        taken[0].push(row);
                    }
                }
                Part::Validation if keep(Purpose::ValidationSample, validation_rows) => taken[1].push(row),
                _ => {}
            }
        }
        for (rows, into) in taken.iter().zip([&mut survey.sample, &mut survey.validation]) {
            if !rows.is_empty() {
                into.pieces.push(owned(&batch.batch, rows)?);
                into.target.extend(rows.iter().map(|row| batch.target[*row as usize]));
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    for (part, name) in [(Part::Train, "train"), (Part::Validation, "validation")] {
        check_variety(spec, survey.facts[part as usize], name)?;
    }
    if survey.validation.pieces.is_empty() || survey.sample.pieces.is_empty() {
        let rows = survey.sample.target.len().min(survey.validation.target.len());
        return Err(LearnError::TooFewRows { model: spec.name.clone(), rows, needed: 1 });
    }
    if spec.task == Task::Regression {
        survey.scale = spread.scale();
    }
    survey.weigher.settle(spec, &tallies)?;
    Ok(survey)
}

/// A copy: a slice would keep the whole batch in memory.
fn owned(batch: &RecordBatch, rows: &[u32]) -> Result<RecordBatch, LearnError> {
    let rows = arrow::array::UInt32Array::from(rows.to_vec());
    Ok(arrow::compute::take_record_batch(batch, &rows)?)
}

fn note(facts: &mut Option<Facts>, at: Cursor, target: f64, time: Option<Timestamp>) {
    let span = time.map(|time| (time, time));
    let facts = facts.get_or_insert(Facts { start: at.row, end: 0, span, least: target, most: target });
    facts.end = at.row + 1;
    facts.least = facts.least.min(target);
    facts.most = facts.most.max(target);
    if let (Some(span), Some(time)) = (&mut facts.span, time) {
        span.1 = time;
    }
}

fn check_variety(spec: &ModelSpec, facts: Option<Facts>, part: &'static str) -> Result<(), LearnError> {
    match facts {
        Some(Facts { least, most, .. }) if least == most => {
            Err(LearnError::OneValue { model: spec.name.clone(), target: spec.target.clone(), value: least, part })
        }
        _ => Ok(()),
    }
}

/// Mean and deviation of values that come one by one (Welford, Technometrics 1962).
#[derive(Default)]
struct Spread {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Spread {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        let from = value - self.mean;
        self.mean += from / self.count;
        self.squares += from * (value - self.mean);
    }

    fn scale(&self) -> Scale {
        let variance = self.squares / self.count.max(1.0);
        Scale { mean: self.mean, deviation: if variance > 0.0 { variance.sqrt() } else { 1.0 } }
    }
}

/// Train rows of one class.
#[derive(Clone, Copy, Default)]
struct Tally {
    rows: f64,
    weight: f64,
}

impl Tally {
    fn of_classes(spec: &ModelSpec) -> Vec<Tally> {
        vec![Tally::default(); spec.class_names().len().max(1)]
    }

    fn add(&mut self, weight: f64) {
        self.rows += 1.0;
        self.weight += weight;
    }
}

/// Each row's own weight, times that of its class, halved with each half-life before the newest of the data; brought to
/// mean 1 over the train rows.
pub(super) struct Weigher {
    /// Half-life, and the data's newest instant.
    age: Option<(f64, Timestamp)>,
    own: bool,
    classes: Option<Vec<f64>>,
    mean: f64,
}

impl Weigher {
    fn new(spec: &ModelSpec, newest: Option<Timestamp>) -> Weigher {
        let half_life = spec.learner.half_life.map(|half_life| half_life.0.max(1) as f64);
        Weigher { age: half_life.zip(newest), own: spec.weight.is_some(), classes: None, mean: 1.0 }
    }

    /// For the rows of one batch.
    pub fn of(spec: &ModelSpec, batch: &Labelled, rows: &[u32]) -> Result<Weigher, LearnError> {
        let newest = batch.times.as_ref().and_then(|times| times.last().copied());
        let mut weigher = Weigher::new(spec, newest);
        let mut tallies = Tally::of_classes(spec);
        rows.iter().for_each(|row| weigher.count(spec, batch, *row as usize, &mut tallies));
        weigher.settle(spec, &tallies)?;
        Ok(weigher)
    }

    fn count(&self, spec: &ModelSpec, batch: &Labelled, row: usize, tallies: &mut [Tally]) {
        let class = if spec.task == Task::Regression { 0 } else { batch.target[row] as usize };
        tallies[class].add(self.raw(batch, row));
    }

    /// Without the class's weight, and before it is brought to mean 1.
    fn raw(&self, batch: &Labelled, row: usize) -> f64 {
        let own = batch.weights.as_ref().map_or(1.0, |weights| weights[row]);
        match (self.age, &batch.times) {
            (Some((half_life, newest)), Some(times)) => {
                let age = (newest - times[row]).0 as f64 / half_life;
                own * exp(-std::f64::consts::LN_2 * age.min(1000.0))
            }
            _ => own,
        }
    }

    fn settle(&mut self, spec: &ModelSpec, tallies: &[Tally]) -> Result<(), LearnError> {
        let rows: f64 = tallies.iter().map(|tally| tally.rows).sum();
        let occurring = tallies.iter().filter(|tally| tally.rows > 0.0).count() as f64;
        self.classes = match &spec.learner.class_weights {
            ClassWeights::None => None,
            ClassWeights::By(weights) => {
                Some(spec.class_names().iter().map(|name| weights.get(name).copied().unwrap_or(1.0)).collect())
            }
            ClassWeights::Balanced => {
                let weight = |tally: &Tally| if tally.rows > 0.0 { rows / (occurring * tally.rows) } else { 1.0 };
                Some(tallies.iter().map(weight).collect())
            }
        };
        let class = |at: usize| self.classes.as_ref().map_or(1.0, |classes| classes[at]);
        let whole: f64 = tallies.iter().enumerate().map(|(at, tally)| tally.weight * class(at)).sum();
        if whole <= 0.0 {
            return Err(no_weight(spec));
        }
        self.mean = whole / rows;
        Ok(())
    }

    /// The weights of some rows of a batch; none where all rows of the data count the same.
    pub fn weights(&self, batch: &Labelled, rows: &[u32]) -> Option<Vec<f32>> {
        if self.age.is_none() && !self.own && self.classes.is_none() {
            return None;
        }
        let class = |row: usize| self.classes.as_ref().map_or(1.0, |classes| classes[batch.target[row] as usize]);
        let weight = |row: &u32| (self.raw(batch, *row as usize) * class(*row as usize) / self.mean) as f32;
        Some(rows.iter().map(weight).collect())
    }
}

/// What identifies the data and how it was read.
pub(super) fn identity(request: &StreamRequest<'_>, count: &Count) -> Result<[u8; 32], LearnError> {
    let StreamRequest { spec, contract, seed, limits, program, .. } = *request;
    let mut hasher = blake3::Hasher::new();
    hasher.update(&count.digest.0);
    for (_, bytes) in
        [inference::Bundle::json_section("spec", spec)?, inference::Bundle::json_section("contract", contract)?]
    {
        hasher.update(&bytes);
    }
    hasher.update(format!("streamed linear {seed} {program} {limits:?}").as_bytes());
    Ok(*hasher.finalize().as_bytes())
}

/// The data cannot be judged by age without a time, and statistics of the target and recency cannot be ordered in rows that are read
/// in pieces.
pub(super) fn check_declaration(spec: &ModelSpec) -> Result<(), LearnError> {
    if !spec.features.target_statistics.is_empty() || !spec.features.recency.is_empty() {
        return Err(LearnError::StreamedStatistics { model: spec.name.clone() });
    }
    if spec.learner.half_life.is_some() && spec.time.is_none() {
        return Err(LearnError::HalfLife { model: spec.name.clone() });
    }
    Ok(())
}
