//! A trial as it stands at the end of a search.

use super::space::Point;

#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// From 0, in the order in which the search proposed them.
    pub number: u32,
    pub point: Point,
    /// At each rung that it reached, from the first.
    pub losses: Vec<f64>,
    /// Why it failed at the next rung, where it did.
    pub failure: Option<String>,
    /// Of all its evaluations.
    pub cpu_seconds: f64,
}

impl Trial {
    pub fn new(number: u32, point: Point) -> Trial {
        Trial { number, point, losses: Vec::new(), failure: None, cpu_seconds: 0.0 }
    }

    /// The last loss, where it did not fail.
    pub fn loss(&self) -> Option<f64> {
        if self.failure.is_none() { self.losses.last().copied() } else { None }
    }
}

/// The place of the trial with the least loss at the highest rung that any reached; losses of lower rungs are of fewer
/// rows and do not compare. The first where equal.
pub(super) fn best_of(trials: &[Trial]) -> Option<usize> {
    let rungs = trials.iter().map(|trial| trial.losses.len()).max().filter(|rungs| *rungs > 0)?;
    let last = |place: &usize| trials[*place].losses[rungs - 1];
    let measured = (0..trials.len()).filter(|place| trials[*place].losses.len() == rungs);
    measured.min_by(|a, b| last(a).total_cmp(&last(b)))
}
