//! What both learners share: a sample to learn from, progress, and losses.

use inference::elementary::ln;
use vocabulary::Inputs;
use vocabulary::model::{LearnerKind, Task};

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
}

impl Watch<'_> {
    pub fn step(&self, done: u64, total: u64, loss: Option<f64>) {
        (self.progress)(Progress { learner: self.learner, phase: self.phase, done, total, loss });
    }
}

/// Rows to learn from.
pub(crate) struct Sample {
    pub inputs: Inputs,
    pub target: Vec<f64>,
    /// One a row, with mean 1; all rows weigh the same without.
    pub weights: Option<Vec<f32>>,
}

/// What a fit with early stopping found.
pub(crate) struct Stopping {
    /// Rounds or epochs with the least validation loss.
    pub rounds: u32,
    /// Raw scores of the validation rows at that point.
    pub scores: Vec<f64>,
}

/// Mean log loss, or root mean squared error.
pub(crate) fn loss(task: Task, predicted: &[f64], outcome: &[f64]) -> f64 {
    let pairs = predicted.iter().zip(outcome);
    let count = predicted.len().max(1) as f64;
    match task {
        Task::Binary => pairs.map(|(p, y)| log_loss(*p, *y)).sum::<f64>() / count,
        Task::Regression => (pairs.map(|(p, y)| (p - y) * (p - y)).sum::<f64>() / count).sqrt(),
    }
}

/// Log loss of one row; the probability is kept 1e-15 away from 0 and 1.
pub fn log_loss(p: f64, y: f64) -> f64 {
    let p = p.clamp(1e-15, 1.0 - 1e-15);
    -(y * ln(p) + (1.0 - y) * ln(1.0 - p))
}
