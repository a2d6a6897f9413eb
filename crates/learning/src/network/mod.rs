//! Embeddings of categories and a tower of dense layers, learned in minibatches. The same bytes come out for the same
//! rows, declaration and seed on any number of threads, and after a stop at any step.
//!
//! The layers learn by Adam, the embeddings' rows by row-wise AdaGrad; gradients are our own kernels'
//! (`inference::network::tower`), so that a gradient of an embedding never has the size of its table.

mod embeddings;
mod grow;
mod learner;
mod noise;
mod optimizer;
mod plan;
mod rows;
mod sparse;
mod state;
mod warm;

use crate::error::LearnError;
use crate::fit::{Goal, Sample, Stopping, Watch, loss};
use crate::keyed::{Purpose, bits};
use inference::network::Place;
use inference::{Model, NetworkModel, NetworkParts};
use learner::{Batch, Learner};
use rayon::prelude::*;
use vocabulary::inputs::{Inputs, Layout};
use vocabulary::model::NetworkSpec;

pub(crate) use warm::Start;

const DIVERGED: LearnError = LearnError::Diverged { parameter: "learner.network.learning_rate" };

/// Validation rows that one task scores.
const SCORE_ROWS: usize = 4096;

/// Fits for `epochs`, watching no validation rows.
pub(crate) fn fit(
    spec: &NetworkSpec,
    goal: Goal,
    layout: &Layout,
    sample: &Sample,
    epochs: u32,
    watch: &Watch,
) -> Result<Box<dyn Model>, LearnError> {
    fit_from(spec, goal, layout, sample, None, epochs, watch)
}

/// As [`fit`], going on from `start` where there is one.
pub(crate) fn fit_from(
    spec: &NetworkSpec,
    goal: Goal,
    layout: &Layout,
    sample: &Sample,
    start: Option<&Start>,
    epochs: u32,
    watch: &Watch,
) -> Result<Box<dyn Model>, LearnError> {
    let mut run = Run::new(spec, goal, layout, sample, start, watch)?;
    while run.epoch < epochs {
        run.pass(sample, watch)?;
        run.next_epoch();
        watch.step(u64::from(run.epoch), u64::from(epochs), None);
    }
    Ok(Box::new(run.learner.finished(layout, sample)?))
}

/// Fits until the loss on the validation rows stops falling.
pub(crate) fn fit_stopping(
    spec: &NetworkSpec,
    goal: Goal,
    layout: &Layout,
    sample: &Sample,
    validation: &Sample,
    watch: &Watch,
) -> Result<Stopping, LearnError> {
    fit_stopping_from(spec, goal, layout, sample, validation, None, watch)
}

/// As [`fit_stopping`], going on from `start` where there is one.
pub(crate) fn fit_stopping_from(
    spec: &NetworkSpec,
    goal: Goal,
    layout: &Layout,
    sample: &Sample,
    validation: &Sample,
    start: Option<&Start>,
    watch: &Watch,
) -> Result<Stopping, LearnError> {
    let mut run = Run::new(spec, goal, layout, sample, start, watch)?;
    let total = u64::from(spec.epochs.max(1));
    while run.epoch < spec.epochs.max(1) && !run.tired() {
        run.pass(sample, watch)?;
        run.next_epoch();
        let now = match NetworkModel::new(run.learner.parts(), layout.clone()) {
            Ok(model) => {
                let scores = scores(&model, &validation.inputs)?;
                let now = loss(goal.task, &scores, &validation.target);
                if now < run.least {
                    run.least = now;
                    run.best = Stopping { rounds: run.epoch, scores, notes: Vec::new() };
                }
                now
            }
            // Weights that left finite numbers end the fit; what was found before stays.
            Err(_) => break,
        };
        watch.step(u64::from(run.epoch), total, Some(now));
    }
    if run.best.rounds == 0 {
        return Err(DIVERGED);
    }
    run.best.notes = run.notes();
    Ok(run.best)
}

/// Goes on learning from where `parts` are, for `epochs`, with the declaration's rates from their beginning.
pub(crate) fn fine_tune(
    spec: &NetworkSpec,
    parts: &NetworkParts,
    layout: &Layout,
    sample: &Sample,
    epochs: u32,
    watch: &Watch,
) -> Result<NetworkModel, LearnError> {
    let mut run = Run::from(Learner::going_on(spec, parts, watch.seed), watch);
    while run.epoch < epochs {
        run.pass(sample, watch)?;
        run.next_epoch();
        watch.step(u64::from(run.epoch), u64::from(epochs), None);
    }
    run.learner.finished(layout, sample)
}

/// A fit on its way.
struct Run<'a> {
    learner: Learner<'a>,
    /// Epochs that are done.
    epoch: u32,
    /// Steps of the present epoch that are done.
    step: usize,
    best: Stopping,
    least: f64,
}

impl<'a> Run<'a> {
    /// From the beginning, or where an earlier run was stopped.
    fn new(
        spec: &'a NetworkSpec,
        goal: Goal,
        layout: &Layout,
        sample: &Sample,
        start: Option<&Start>,
        watch: &Watch,
    ) -> Result<Run<'a>, LearnError> {
        let start = start.map(|start| start.grown(spec, goal, layout, sample, watch.seed)).transpose()?;
        let learner = Learner::new(spec, goal, layout, sample, watch.seed, start.as_ref())?;
        Ok(Run::from(learner, watch))
    }

    fn from(learner: Learner<'a>, watch: &Watch) -> Run<'a> {
        let best = Stopping { rounds: 0, scores: Vec::new(), notes: Vec::new() };
        let mut run = Run { learner, epoch: 0, step: 0, best, least: f64::INFINITY };
        if let Some(state) = watch.resume() {
            // A state that cannot be read changes nothing: the fit then begins anew.
            let _ = run.restore(&state);
        }
        run
    }

    /// The rest of an epoch, in an order that the seed and the epoch choose.
    fn pass(&mut self, sample: &Sample, watch: &Watch) -> Result<(), LearnError> {
        let epoch = self.epoch;
        let key = |row: u32| bits(watch.seed, Purpose::RowOrder, u64::from(epoch), u64::from(row));
        let mut order: Vec<(u64, u32)> =
            (0..sample.inputs.rows as u32).into_par_iter().map(|row| (key(row), row)).collect();
        order.par_sort_unstable();
        let order: Vec<u32> = order.into_iter().map(|(_, row)| row).collect();
        let batches = order.chunks((self.learner.spec.batch_rows as usize).max(1));
        let steps = batches.len();
        for (step, rows) in batches.enumerate().skip(self.step) {
            self.learner.step(sample, &Batch { rows, epoch, step, steps });
            self.step = step + 1;
            watch.keep(&|| self.to_bytes())?;
        }
        Ok(())
    }

    fn next_epoch(&mut self) {
        self.epoch += 1;
        self.step = 0;
        self.learner.noise = self.learner.noise.halved();
    }

    /// Whether the validation loss has not fallen for as long as the declaration allows.
    fn tired(&self) -> bool {
        let patience = self.learner.spec.patience;
        patience > 0 && self.best.rounds > 0 && self.epoch - self.best.rounds >= patience
    }

    /// What a person should know: which tables share rows, and how large batches may be.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for (at, table) in self.learner.plan.tables.iter().enumerate() {
            if table.place != Place::Direct {
                notes.push(format!(
                    "embedding table {at} of {} ids has {} rows of {} numbers, so that all fit learner.network.embedding_mb; \
                     its ids share rows",
                    table.ids,
                    table.rows(),
                    table.dimension
                ));
            }
        }
        let (noise, rows) = (self.learner.noise, self.learner.spec.batch_rows);
        match noise.scale() {
            Some(scale) => notes.push(format!(
                "gradient noise scale at the end: {scale:.0} rows; a batch of about that many is the largest that is still \
                 worth its rows (batch_rows is {rows})"
            )),
            None if noise.steps > 0.0 => notes.push(format!(
                "gradient noise scale at the end: too large to be measured by batches of {rows} rows; larger ones would \
                 be worth their rows"
            )),
            None => {}
        }
        notes
    }
}

/// Scores of all rows, row-major; tasks of fixed size, and a row's bits do not depend on its batch.
fn scores(model: &NetworkModel, inputs: &Inputs) -> Result<Vec<f64>, LearnError> {
    let task = |task: usize| {
        let rows = task * SCORE_ROWS..inputs.rows.min((task + 1) * SCORE_ROWS);
        let part = Inputs {
            rows: rows.len(),
            dense_width: inputs.dense_width,
            dense: inputs.dense[rows.start * inputs.dense_width..rows.end * inputs.dense_width].to_vec(),
            slot_width: inputs.slot_width,
            slots: inputs.slots[rows.start * inputs.slot_width..rows.end * inputs.slot_width].to_vec(),
        };
        let mut out = Vec::new();
        model.predict(&part, &mut out).map(|()| out)
    };
    let parts: Result<Vec<Vec<f64>>, _> = (0..inputs.rows.div_ceil(SCORE_ROWS)).into_par_iter().map(task).collect();
    Ok(parts?.concat())
}

#[cfg(test)]
mod tests;
