//! A trial as it stands at the end of a search.

use super::logic::{Job, Outcome};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// From 0, in the order in which the search proposed them.
    pub number: u32,
    /// Of each parameter that it has, by the name.
    pub values: Map<String, Value>,
    /// At each rung that it reached, from the first.
    pub losses: Vec<f64>,
    /// Why it failed at the next rung, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Of all its evaluations.
    pub cpu_seconds: f64,
}

impl Trial {
    /// The last loss, where it did not fail.
    pub fn loss(&self) -> Option<f64> {
        if self.failure.is_none() { self.losses.last().copied() } else { None }
    }
}

/// The place of the trial with the least loss at the highest rung that any reached; losses of lower rungs are of fewer
/// rows and do not compare. The first where equal.
pub fn best_of(trials: &[Trial]) -> Option<usize> {
    let rungs = trials.iter().map(|trial| trial.losses.len()).max().filter(|rungs| *rungs > 0)?;
    let last = |place: &usize| trials[*place].losses[rungs - 1];
    let measured = (0..trials.len()).filter(|place| trials[*place].losses.len() == rungs);
    measured.min_by(|a, b| last(a).total_cmp(&last(b)))
}

/// Trials from what came of their evaluations, in any order; those without a result are left out.
pub(super) fn trials_of(
    results: impl IntoIterator<Item = (Job, Outcome)>,
    values: impl Fn(u32) -> Map<String, Value>,
) -> Vec<Trial> {
    let mut results: Vec<(Job, Outcome)> = results.into_iter().collect();
    results.sort_by_key(|(job, _)| (job.trial, job.rung));
    let mut trials: Vec<Trial> = Vec::new();
    for (job, outcome) in results {
        let number = job.trial;
        if trials.last().is_none_or(|last| last.number != number) {
            let values = values(number);
            trials.push(Trial { number, values, losses: Vec::new(), failure: None, cpu_seconds: 0.0 });
        }
        if let Some(trial) = trials.last_mut() {
            trial.cpu_seconds += outcome.cpu_seconds;
            match outcome.loss {
                Ok(loss) => trial.losses.push(loss),
                Err(reason) => trial.failure = Some(reason),
            }
        }
    }
    trials
}
