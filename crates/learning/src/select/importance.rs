//! What a fitted version loses when a column is permuted, and what a version of shuffled targets would.

use super::{DEVIATIONS_MIN, Importance, place_of};
use crate::error::LearnError;
use crate::fit::loss;
use crate::keyed::{Purpose, bits};
use crate::train::Job;
use arrow::array::UInt32Array;
use arrow::compute::take;
use arrow::record_batch::RecordBatch;
use features::Pipeline;
use inference::Model;

/// A version that was fitted on the train rows, and the rows that judge it.
pub(super) struct Fitted<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) pipeline: &'a Pipeline,
    pub(super) model: &'a dyn Model,
    pub(super) validation: &'a RecordBatch,
    pub(super) outcome: &'a [f64],
}

/// The importance of one column over some repeats.
pub(super) struct Importances {
    pub(super) mean: f64,
    deviation: f64,
}

impl Fitted<'_> {
    /// Of rows like the validation rows.
    pub(super) fn loss(&self, rows: &RecordBatch) -> Result<f64, LearnError> {
        let mut scores = Vec::new();
        self.model.predict(&self.pipeline.transform(rows)?, &mut scores)?;
        Ok(loss(self.job.request.spec.task, &scores, self.outcome))
    }

    /// How much the loss exceeds `base` when the values of column `name` change places among the rows. `place` keys the
    /// permutations: they are the same whichever version is judged.
    pub(super) fn importance(
        &self,
        name: &str,
        place: usize,
        repeats: u32,
        base: f64,
    ) -> Result<Importances, LearnError> {
        let index = place_of(self.validation, name)?;
        let mut losses = Vec::with_capacity(repeats as usize);
        for repeat in 0..u64::from(repeats) {
            let step = (place as u64) << 32 | repeat;
            let order = permutation(self.validation.num_rows(), self.job.request.seed, Purpose::SelectColumn, step);
            let mut columns = self.validation.columns().to_vec();
            columns[index] = take(&columns[index], &UInt32Array::from(order), None)?;
            let permuted = RecordBatch::try_new(self.validation.schema(), columns)?;
            losses.push(self.loss(&permuted)? - base);
        }
        let (mean, deviation) = moments(&losses);
        Ok(Importances { mean, deviation })
    }
}

impl Importances {
    pub(super) fn against(self, shuffled: &[f64]) -> Importance {
        let (shuffled_mean, shuffled_deviation) = moments(shuffled);
        let as_large = shuffled.iter().filter(|null| **null >= self.mean).count() as f64;
        Importance {
            mean: self.mean,
            deviation: self.deviation,
            shuffled_mean,
            shuffled_deviation,
            shuffled_largest: shuffled.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            p: (1.0 + as_large) / (1.0 + shuffled.len() as f64),
        }
    }
}

impl Importance {
    /// Whether chance would hardly give as much.
    pub fn beats_chance(&self) -> bool {
        let bound = self.shuffled_mean + DEVIATIONS_MIN * self.shuffled_deviation;
        self.mean > 0.0 && self.mean > self.shuffled_largest && self.mean > bound
    }
}

/// The targets of the train and validation rows, each at the place of another of them.
pub(super) fn shuffled_target(job: &Job, seed: u64, shuffle: u32) -> Vec<f64> {
    let rows: Vec<u32> = job.split.train.iter().chain(&job.split.validation).copied().collect();
    let order = permutation(rows.len(), seed, Purpose::SelectTarget, u64::from(shuffle));
    let mut target = job.target.clone();
    for (row, other) in rows.iter().zip(order) {
        target[*row as usize] = job.target[rows[other as usize] as usize];
    }
    target
}

fn permutation(rows: usize, seed: u64, purpose: Purpose, step: u64) -> Vec<u32> {
    let mut order: Vec<(u64, u32)> =
        (0..rows as u32).map(|row| (bits(seed, purpose, step, u64::from(row)), row)).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, row)| row).collect()
}

/// Mean and standard deviation (of a sample); 0 for the latter of a single value.
fn moments(values: &[f64]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean) * (value - mean)).sum();
    (mean, (squares / (count - 1.0).max(1.0)).sqrt())
}
