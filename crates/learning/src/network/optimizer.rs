//! Steps down a gradient: Adam for the layers, row-wise AdaGrad for embeddings, and the rate at each step. Knows no
//! network.

use inference::elementary::cos_turns;
use rayon::prelude::*;
use vocabulary::model::{BatchScaling, NetworkSpec, RateSchedule};

/// Weights that one task updates: enough that handing it out costs little beside it.
pub(super) const TASK: usize = 1 << 14;

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const EPSILON: f32 = 1e-8;

/// As in PBG and legume: gradients of a mean over a batch are small, a larger one would slow rare rows down.
const ADAGRAD_EPSILON: f32 = 1e-10;

/// Adam (Kingma and Ba, ICLR 2015) with its usual constants.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Adam {
    pub first: Vec<f32>,
    pub second: Vec<f32>,
    /// Powers of the two decay rates, for the bias correction.
    pub powers: [f64; 2],
}

impl Adam {
    pub fn new(count: usize) -> Adam {
        Adam { first: vec![0.0; count], second: vec![0.0; count], powers: [1.0; 2] }
    }

    pub fn step(&mut self, weights: &mut [f32], gradient: &[f32], rate: f64) {
        self.powers[0] *= f64::from(BETA1);
        self.powers[1] *= f64::from(BETA2);
        let scale = (rate / (1.0 - self.powers[0])) as f32;
        let correction = (1.0 / (1.0 - self.powers[1])) as f32;
        let states = self.first.par_chunks_mut(TASK).zip(self.second.par_chunks_mut(TASK));
        weights.par_chunks_mut(TASK).zip(gradient.par_chunks(TASK)).zip(states).for_each(
            |((weights, gradient), (first, second))| {
                let states = first.iter_mut().zip(second);
                for ((weight, slope), (first, second)) in weights.iter_mut().zip(gradient).zip(states) {
                    *first += (1.0 - BETA1) * (slope - *first);
                    *second += (1.0 - BETA2) * (slope * slope - *second);
                    *weight -= scale * *first / ((*second * correction).sqrt() + EPSILON);
                }
            },
        );
    }
}

/// Row-wise AdaGrad (FBGEMM's rule): one sum a row, s += mean(g^2), w -= rate / (sqrt(s) + eps) * g.
pub(super) fn adagrad_row(weights: &mut [f32], sum: &mut f32, gradient: &[f32], rate: f32) {
    let squares = gradient.iter().fold(0.0, |sum: f32, slope| sum + slope * slope);
    *sum += squares / gradient.len() as f32;
    let step = rate / (sum.sqrt() + ADAGRAD_EPSILON);
    weights.iter_mut().zip(gradient).for_each(|(weight, slope)| *weight -= step * slope);
}

/// The learning rate of the layers at step `step` of an epoch `epoch` of `steps` steps.
pub(super) fn rate(spec: &NetworkSpec, epoch: u32, step: usize, steps: usize) -> f64 {
    let ratio = f64::from(spec.batch_rows) / f64::from(spec.base_batch_rows);
    let scale = match spec.batch_scaling {
        BatchScaling::None => 1.0,
        BatchScaling::Linear => ratio,
        BatchScaling::SquareRoot => ratio.sqrt(),
    };
    let passed = f64::from(epoch) + step as f64 / steps.max(1) as f64;
    // The first step of the warm-up has a rate above zero.
    let share = (passed + 1.0 / steps.max(1) as f64) / spec.warmup_epochs.max(f64::MIN_POSITIVE);
    let fall = match spec.schedule {
        RateSchedule::Constant => 1.0,
        RateSchedule::Cosine => 0.5 + 0.5 * cos_turns(0.5 * (passed / f64::from(spec.epochs.max(1))).min(1.0)),
    };
    spec.learning_rate * scale * share.min(1.0) * fall
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_falls_and_follows_the_batch() {
        let spec = NetworkSpec { epochs: 10, warmup_epochs: 1.0, learning_rate: 1.0, ..NetworkSpec::default() };
        let at = |spec: &NetworkSpec, epoch, step| rate(spec, epoch, step, 100);
        assert!((at(&spec, 0, 0) - 0.01).abs() < 1e-3);
        assert!((at(&spec, 5, 0) - 0.5).abs() < 1e-12);
        assert!(at(&spec, 9, 99) < 1e-3);
        let constant = NetworkSpec { schedule: RateSchedule::Constant, batch_rows: 1024, ..spec };
        assert_eq!(at(&constant, 9, 99), 1.0);
        assert_eq!(at(&NetworkSpec { batch_scaling: BatchScaling::Linear, ..constant.clone() }, 2, 0), 4.0);
        assert_eq!(at(&NetworkSpec { batch_scaling: BatchScaling::SquareRoot, ..constant }, 2, 0), 2.0);
    }

    #[test]
    fn steps_are_those_of_the_formulas() {
        let (mut adam, mut weights) = (Adam::new(2), [1.0, 1.0]);
        adam.step(&mut weights, &[0.5, -2.0], 0.1);
        // The first step of Adam has the size of the rate, whatever the gradient's.
        assert!((weights[0] - 0.9).abs() < 1e-6 && (weights[1] - 1.1).abs() < 1e-6, "{weights:?}");
        let (mut row, mut sum) = ([1.0, 1.0], 0.0);
        adagrad_row(&mut row, &mut sum, &[3.0, -4.0], 0.1);
        assert_eq!(sum, 12.5);
        assert!((row[0] - (1.0 - 0.1 * 3.0 / 12.5_f32.sqrt())).abs() < 1e-6);
    }
}
