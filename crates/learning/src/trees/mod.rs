//! Gradient-boosted trees by hessboost: histograms, leaf-wise growth, early stopping. Knows nothing of the pipeline that
//! makes the inputs.
//!
//! A fit that is cut off goes on from its trees with the same bytes: each round's randomness follows from the seed and
//! the round alone, and the rows' sums are made again by adding the same leaves in the same order.

mod continuation;
mod parameters;
mod state;

pub use continuation::{Continuation, continue_trees};

use crate::error::LearnError;
use crate::fit::{Goal, Sample, Stopping, Watch};
use hessboost::config::TrainingParams;
use hessboost::data::DMatrix;
use hessboost::model::BoostedModel;
use hessboost::training::Trainer;
use inference::{Link, Model, TreesModel};
use parameters::{matrix, parameters};
use state::{Kept, Search};
use std::ops::ControlFlow;
use vocabulary::inputs::Layout;
use vocabulary::model::TreesSpec;

/// Fits for `rounds`, watching no validation rows.
pub(crate) fn fit(
    spec: &TreesSpec,
    goal: Goal,
    layout: &Layout,
    sample: Sample,
    rounds: u32,
    watch: &Watch,
) -> Result<Box<dyn Model>, LearnError> {
    fit_from(spec, goal, layout, sample, None, rounds, watch)
}

/// As [`fit`], for `rounds` more than `start` has where there is one.
pub(crate) fn fit_from(
    spec: &TreesSpec,
    goal: Goal,
    layout: &Layout,
    sample: Sample,
    start: Option<&TreesModel>,
    rounds: u32,
    watch: &Watch,
) -> Result<Box<dyn Model>, LearnError> {
    let start = start.map(|start| start.booster().clone());
    let booster = boost(spec, goal, layout, sample, start, rounds, watch)?;
    Ok(Box::new(TreesModel::new(booster, Link::of(goal.task), layout.clone())?))
}

/// Boosts for `rounds` more than `start` has.
fn boost(
    spec: &TreesSpec,
    goal: Goal,
    layout: &Layout,
    sample: Sample,
    start: Option<BoostedModel>,
    rounds: u32,
    watch: &Watch,
) -> Result<BoostedModel, LearnError> {
    let parameters = parameters(spec, goal, layout, &sample, watch.seed)?;
    let rows = matrix(layout, sample)?;
    let first = start.as_ref().map_or(0, BoostedModel::num_boost_rounds);
    let mut run = Run { parameters: &parameters, rows: &rows, watched: None, first, total: first + rounds as usize };
    let mut booster = match watch.resume().and_then(|bytes| Kept::from_bytes(&bytes, &run)) {
        Some(kept) if kept.booster.num_boost_rounds() > first => Some(kept.booster),
        _ => start,
    };
    while booster.as_ref().map_or(0, BoostedModel::num_boost_rounds) < run.total {
        let grown = run.stride(booster.as_ref(), |round, _| {
            watch.step((round - first) as u64, u64::from(rounds), None);
            if watch.due() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        watch.keep(&|| Kept::bytes(&grown, &Search::default()))?;
        booster = Some(grown);
    }
    booster.ok_or(LearnError::Rounds)
}

/// Fits until the loss on the validation rows stops falling.
pub(crate) fn fit_stopping(
    spec: &TreesSpec,
    goal: Goal,
    layout: &Layout,
    sample: Sample,
    validation: Sample,
    watch: &Watch,
) -> Result<Stopping, LearnError> {
    fit_stopping_from(spec, goal, layout, sample, validation, None, watch)
}

/// As [`fit_stopping`]; the rounds that are found are those beyond `start` where there is one.
pub(crate) fn fit_stopping_from(
    spec: &TreesSpec,
    goal: Goal,
    layout: &Layout,
    sample: Sample,
    validation: Sample,
    start: Option<&TreesModel>,
    watch: &Watch,
) -> Result<Stopping, LearnError> {
    let parameters = parameters(spec, goal, layout, &sample, watch.seed)?;
    let (rows, watched) = (matrix(layout, sample)?, matrix(layout, validation)?);
    let first = start.map_or(0, |start| start.booster().num_boost_rounds());
    let total = first + spec.rounds.max(1) as usize;
    let mut run = Run { parameters: &parameters, rows: &rows, watched: Some(&watched), first, total };
    let (mut booster, mut search) = match watch.resume().and_then(|bytes| Kept::from_bytes(&bytes, &run)) {
        Some(kept) if kept.booster.num_boost_rounds() > first => (Some(kept.booster), kept.search),
        _ => (start.map(|start| start.booster().clone()), Search::after(first)),
    };
    let rounds_of = |booster: &Option<BoostedModel>| booster.as_ref().map_or(0, BoostedModel::num_boost_rounds);
    while rounds_of(&booster) < run.total && !search.is_over(rounds_of(&booster), spec.patience) {
        let grown = run.stride(booster.as_ref(), |round, loss| {
            search.observe(round, loss.unwrap_or(f64::NAN));
            watch.step((round - first) as u64, u64::from(spec.rounds), loss);
            if search.is_over(round, spec.patience) || watch.due() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        watch.keep(&|| Kept::bytes(&grown, &search))?;
        booster = Some(grown);
    }
    let booster = booster.ok_or(LearnError::Rounds)?;
    let rounds = search.rounds(booster.num_boost_rounds(), spec.patience);
    let margins = booster.predict_margin(&watched, ..rounds)?;
    let link = Link::of(goal.task);
    let mut scores: Vec<f64> = margins.as_slice().iter().map(|margin| f64::from(*margin)).collect();
    scores.chunks_exact_mut(goal.outputs).for_each(|row| link.apply_row(row));
    Ok(Stopping { rounds: (rounds - first) as u32, scores, notes: Vec::new() })
}

/// What stays the same from one stride to the next.
struct Run<'a> {
    parameters: &'a TrainingParams,
    rows: &'a DMatrix,
    watched: Option<&'a DMatrix>,
    /// Rounds of the trees that the run goes on from.
    first: usize,
    /// Rounds in all, those among them.
    total: usize,
}

impl Run<'_> {
    /// Boosts on from `booster` until all rounds are done or `after` breaks. `after` is told the number of rounds so far,
    /// and the loss on the watched rows.
    fn stride(
        &mut self,
        booster: Option<&BoostedModel>,
        mut after: impl FnMut(usize, Option<f64>) -> ControlFlow<()> + Send,
    ) -> Result<BoostedModel, LearnError> {
        let done = booster.map_or(0, BoostedModel::num_boost_rounds);
        let mut trainer = Trainer::new(self.parameters, self.rows, self.total - done)
            .on_round(move |round| after(round.iteration() + 1, round.values().last().copied()));
        if let Some(watched) = self.watched {
            trainer = trainer.eval(watched, "validation");
        }
        if let Some(booster) = booster {
            trainer = trainer.init_model(booster);
        }
        Ok(trainer.train()?.model)
    }

    /// Whether the booster can have been grown in this run.
    fn fits(&self, booster: &BoostedModel) -> bool {
        booster.n_features() == self.rows.n_cols()
            && booster.n_outputs() == self.parameters.objective.num_class().unwrap_or(1)
            && booster.num_boost_rounds() <= self.total
    }
}

#[cfg(test)]
mod tests;
