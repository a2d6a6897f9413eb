//! What both learners share: a sample to learn from, progress, and losses.

use crate::checkpoint::Checkpoints;
use crate::error::LearnError;
use inference::elementary::ln;
use vocabulary::Inputs;
use vocabulary::model::{LearnerKind, ModelSpec, Task};

/// What a learner is to predict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Goal {
    pub task: Task,
    /// Numbers a row: one, or one for each class.
    pub outputs: usize,
}

impl Goal {
    pub fn of(spec: &ModelSpec) -> Goal {
        Goal { task: spec.task, outputs: spec.outputs() }
    }
}

/// A step of training, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Compiling the pipeline and making inputs.
    Features,
    /// Fitting while the validation rows are watched.
    Fit,
    /// Choosing how scores become probabilities.
    Calibrate,
    /// Fitting on train and validation rows for the number of rounds found.
    Refit,
    /// Metrics and the reference.
    Evaluate,
    /// Fitting on all rows, test included.
    RefitAll,
}

impl Phase {
    pub fn name(self) -> &'static str {
        match self {
            Phase::Features => "features",
            Phase::Fit => "fit",
            Phase::Calibrate => "calibrate",
            Phase::Refit => "refit",
            Phase::Evaluate => "evaluate",
            Phase::RefitAll => "refit on all rows",
        }
    }
}

/// How far training is. `done` of `total` rounds or epochs, where early stopping may end a phase before `total`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    pub learner: LearnerKind,
    pub phase: Phase,
    pub done: u64,
    pub total: u64,
    /// Log loss or root mean squared error on the validation rows.
    pub loss: Option<f64>,
}

/// Where a learner reports to, and its seed.
pub(crate) struct Watch<'a> {
    pub seed: u64,
    pub learner: LearnerKind,
    pub phase: Phase,
    pub progress: &'a (dyn Fn(Progress) + Sync),
    pub checkpoints: Option<&'a dyn Checkpoints>,
}

impl Watch<'_> {
    /// The learner's own state as it was last kept in this phase, when the run was cut off in it.
    pub fn resume(&self) -> Option<Vec<u8>> {
        self.checkpoints?.load(&self.stage())
    }

    /// To be called at each step boundary: keeps `state` when it is time to. An error ends the fit: the run was asked to
    /// stop, and the state is kept.
    pub fn keep(&self, state: &dyn Fn() -> Vec<u8>) -> Result<(), LearnError> {
        match self.checkpoints {
            Some(checkpoints) => checkpoints.offer(&self.stage(), state),
            None => Ok(()),
        }
    }

    /// Whether [`Watch::keep`] would keep the state now.
    pub fn due(&self) -> bool {
        self.checkpoints.is_some_and(Checkpoints::due)
    }

    /// What this phase ended with, when the run was cut off after it.
    pub fn finished(&self) -> Option<Vec<u8>> {
        self.checkpoints?.load(&format!("{}.done", self.stage()))
    }

    pub fn finish(&self, result: &[u8]) -> Result<(), LearnError> {
        match self.checkpoints {
            Some(checkpoints) => checkpoints.finish(&format!("{}.done", self.stage()), result),
            None => Ok(()),
        }
    }

    fn stage(&self) -> String {
        format!("{}.{}", self.learner.name(), self.phase.name().replace(' ', "-"))
    }

    pub fn step(&self, done: u64, total: u64, loss: Option<f64>) {
        (self.progress)(Progress { learner: self.learner, phase: self.phase, done, total, loss });
    }
}

/// Rows to learn from.
pub(crate) struct Sample {
    pub inputs: Inputs,
    /// 0 or 1, the quantity, or the place of the class.
    pub target: Vec<f64>,
    /// One a row, with mean 1; all rows weigh the same without.
    pub weights: Option<Vec<f32>>,
}

/// What a fit with early stopping found.
pub(crate) struct Stopping {
    /// Rounds or epochs with the least validation loss.
    pub rounds: u32,
    /// Raw scores of the validation rows at that point, row-major.
    pub scores: Vec<f64>,
    /// Sentences for a person.
    pub notes: Vec<String>,
}

impl Stopping {
    /// Rounds, the number of scores, the scores, then the notes, each ended by a zero.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.rounds.to_le_bytes().to_vec();
        bytes.extend((self.scores.len() as u64).to_le_bytes());
        bytes.extend(self.scores.iter().flat_map(|score| score.to_le_bytes()));
        bytes.extend(self.notes.iter().flat_map(|note| note.bytes().filter(|byte| *byte != 0).chain([0])));
        bytes
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Stopping> {
        let (rounds, rest) = bytes.split_first_chunk()?;
        let (count, rest) = rest.split_first_chunk()?;
        let count = usize::try_from(u64::from_le_bytes(*count)).ok()?;
        let (scores, notes) = rest.split_at_checked(count.checked_mul(8)?)?;
        let notes = std::str::from_utf8(notes).ok()?;
        Some(Stopping {
            rounds: u32::from_le_bytes(*rounds),
            scores: scores.as_chunks::<8>().0.iter().map(|score| f64::from_le_bytes(*score)).collect(),
            notes: notes.split_terminator('\0').map(str::to_owned).collect(),
        })
    }
}

/// Mean log loss, or root mean squared error. `predicted` holds the scores of each outcome, row-major.
pub(crate) fn loss(task: Task, predicted: &[f64], outcome: &[f64]) -> f64 {
    let pairs = predicted.iter().zip(outcome);
    let count = outcome.len().max(1) as f64;
    match task {
        Task::Multiclass => {
            let rows = predicted.chunks_exact((predicted.len() / outcome.len().max(1)).max(1));
            rows.zip(outcome).map(|(row, class)| class_loss(row, *class)).sum::<f64>() / count
        }
        Task::Binary => pairs.map(|(p, y)| log_loss(*p, *y)).sum::<f64>() / count,
        Task::Regression => (pairs.map(|(p, y)| (p - y) * (p - y)).sum::<f64>() / count).sqrt(),
    }
}

/// Log loss of one row of class probabilities; that of the class that came true is kept 1e-15 away from 0.
pub fn class_loss(probabilities: &[f64], class: f64) -> f64 {
    -ln(probabilities[class as usize].max(1e-15))
}

/// Log loss of one row; the probability is kept 1e-15 away from 0 and 1.
pub fn log_loss(p: f64, y: f64) -> f64 {
    let p = p.clamp(1e-15, 1.0 - 1e-15);
    -(y * ln(p) + (1.0 - y) * ln(1.0 - p))
}
