//! A linear model over dense columns and hashed slots by FTRL-proximal (McMahan et al., "Ad Click Prediction: a View
//! from the Trenches", KDD 2013, algorithm 1), in several passes over the rows.

use crate::error::LearnError;
use crate::fit::{Goal, Sample, Stopping, Watch, loss};
use crate::keyed::{Purpose, bits};
use inference::elementary::logistic;
use inference::{LinearModel, LinearParts, Link, Model};
use vocabulary::inputs::Layout;
use vocabulary::model::{LinearSpec, Task};

/// Epochs without improvement on the validation rows after which learning stops.
const PATIENCE: u32 = 2;

/// Fits for `epochs`, watching no validation rows.
pub(crate) fn fit(
    spec: &LinearSpec,
    goal: Goal,
    layout: &Layout,
    sample: &Sample,
    epochs: u32,
    watch: &Watch,
) -> Result<Box<dyn Model>, LearnError> {
    let mut learner = Learner::new(spec, goal.task, layout, sample);
    for epoch in 0..epochs {
        learner.epoch(sample, watch.seed, epoch);
        watch.step(u64::from(epoch) + 1, u64::from(epochs), None);
    }
    Ok(Box::new(learner.model(layout)?))
}

/// Fits until the loss on the validation rows stops falling.
pub(crate) fn fit_stopping(
    spec: &LinearSpec,
    goal: Goal,
    layout: &Layout,
    sample: &Sample,
    validation: &Sample,
    watch: &Watch,
) -> Result<Stopping, LearnError> {
    let mut learner = Learner::new(spec, goal.task, layout, sample);
    let mut best = Stopping { rounds: 0, scores: Vec::new(), notes: Vec::new() };
    let mut least = f64::INFINITY;
    let mut scores = Vec::new();
    for epoch in 0..spec.epochs.max(1) {
        learner.epoch(sample, watch.seed, epoch);
        learner.model(layout)?.predict(&validation.inputs, &mut scores)?;
        let now = loss(goal.task, &scores, &validation.target);
        watch.step(u64::from(epoch) + 1, u64::from(spec.epochs), Some(now));
        if now < least {
            least = now;
            best = Stopping { rounds: epoch + 1, scores: scores.clone(), notes: Vec::new() };
        } else if epoch + 1 - best.rounds >= PATIENCE {
            break;
        }
    }
    if best.rounds == 0 { Err(DIVERGED) } else { Ok(best) }
}

const DIVERGED: LearnError = LearnError::Diverged { parameter: "learner.linear.alpha" };

/// State of one coordinate: the paper's z, and the square root of its n, which spares taking it twice a step.
#[derive(Clone, Copy, Default)]
struct Coordinate<F> {
    z: F,
    root: F,
}

/// A regression's target is brought to mean 0 and standard deviation 1, so that the same rates fit any unit.
struct Scale {
    mean: f64,
    deviation: f64,
}

struct Learner {
    task: Task,
    rule: Rule,
    scale: Scale,
    bias: Coordinate<f64>,
    dense: Vec<Coordinate<f64>>,
    table: Vec<Coordinate<f32>>,
    /// Weights of the present row, dense ones before slots; kept to spare the allocation.
    weights: Vec<f64>,
}

#[derive(Clone, Copy)]
struct Rule {
    /// 1 / alpha
    slowness: f64,
    beta: f64,
    l1: f64,
    l2: f64,
}

impl Rule {
    fn weight(&self, z: f64, root: f64) -> f64 {
        if z.abs() <= self.l1 {
            0.0
        } else {
            (self.l1.copysign(z) - z) / ((self.beta + root) * self.slowness + self.l2)
        }
    }

    /// New z and root of n after a gradient at the present weight.
    fn step(&self, z: f64, root: f64, weight: f64, gradient: f64) -> (f64, f64) {
        let more = (root * root + gradient * gradient).sqrt();
        let sigma = (more - root) * self.slowness;
        (z + gradient - sigma * weight, more)
    }
}

impl Learner {
    fn new(spec: &LinearSpec, task: Task, layout: &Layout, sample: &Sample) -> Learner {
        let places = if layout.slots.is_empty() { 0 } else { 1 << layout.table_bits };
        Learner {
            task,
            rule: Rule { slowness: 1.0 / spec.alpha, beta: spec.beta, l1: spec.l1, l2: spec.l2 },
            scale: Scale::of(task, &sample.target),
            bias: Coordinate::default(),
            dense: vec![Coordinate::default(); layout.dense.len()],
            table: vec![Coordinate::default(); places],
            weights: vec![0.0; layout.dense.len() + layout.slots.len()],
        }
    }

    /// One pass in an order that the seed and the epoch choose.
    fn epoch(&mut self, sample: &Sample, seed: u64, epoch: u32) {
        let key = |row: u32| bits(seed, Purpose::RowOrder, u64::from(epoch), u64::from(row));
        let mut order: Vec<(u64, u32)> = (0..sample.inputs.rows as u32).map(|row| (key(row), row)).collect();
        order.sort_unstable();
        for (_, row) in order {
            let row = row as usize;
            let weight = sample.weights.as_ref().map_or(1.0, |weights| f64::from(weights[row]));
            let outcome = (sample.target[row] - self.scale.mean) / self.scale.deviation;
            self.learn(sample.inputs.dense_row(row), sample.inputs.slot_row(row), outcome, weight);
        }
    }

    fn learn(&mut self, dense: &[f32], slots: &[u32], outcome: f64, importance: f64) {
        let rule = self.rule;
        // The bias is not regularised.
        let free = Rule { l1: 0.0, l2: 0.0, ..rule };
        let bias = free.weight(self.bias.z, self.bias.root);
        let mut sum = bias;
        let (dense_weights, slot_weights) = self.weights.split_at_mut(dense.len());
        for ((value, state), weight) in dense.iter().zip(&self.dense).zip(dense_weights.iter_mut()) {
            *weight = rule.weight(state.z, state.root);
            if !value.is_nan() {
                sum += *weight * f64::from(*value);
            }
        }
        for (slot, weight) in slots.iter().zip(slot_weights.iter_mut()) {
            let state = &self.table[*slot as usize];
            *weight = rule.weight(f64::from(state.z), f64::from(state.root));
            sum += *weight;
        }
        let predicted = match self.task {
            Task::Binary => logistic(sum),
            Task::Regression | Task::Multiclass => sum,
        };
        let gradient = importance * (predicted - outcome);
        (self.bias.z, self.bias.root) = free.step(self.bias.z, self.bias.root, bias, gradient);
        for ((value, state), weight) in dense.iter().zip(&mut self.dense).zip(dense_weights.iter()) {
            if !value.is_nan() {
                (state.z, state.root) = rule.step(state.z, state.root, *weight, gradient * f64::from(*value));
            }
        }
        for (slot, weight) in slots.iter().zip(slot_weights.iter()) {
            let state = &mut self.table[*slot as usize];
            let (z, root) = rule.step(f64::from(state.z), f64::from(state.root), *weight, gradient);
            (state.z, state.root) = (z as f32, root as f32);
        }
    }

    /// The weights so far, in the target's own unit.
    fn model(&self, layout: &Layout) -> Result<LinearModel, LearnError> {
        let Scale { mean, deviation } = self.scale;
        let (rule, free) = (self.rule, Rule { l1: 0.0, l2: 0.0, ..self.rule });
        let parts = LinearParts {
            link: Link::of(self.task),
            bias: mean + deviation * free.weight(self.bias.z, self.bias.root),
            dense: self.dense.iter().map(|state| deviation * rule.weight(state.z, state.root)).collect(),
            table: self
                .table
                .iter()
                .map(|state| (deviation * rule.weight(f64::from(state.z), f64::from(state.root))) as f32)
                .collect(),
        };
        LinearModel::new(parts, layout.clone()).map_err(|_| DIVERGED)
    }
}

impl Scale {
    fn of(task: Task, target: &[f64]) -> Scale {
        match task {
            Task::Binary | Task::Multiclass => Scale { mean: 0.0, deviation: 1.0 },
            Task::Regression => {
                let count = target.len().max(1) as f64;
                let mean = target.iter().sum::<f64>() / count;
                let variance = target.iter().map(|y| (y - mean) * (y - mean)).sum::<f64>() / count;
                Scale { mean, deviation: if variance > 0.0 { variance.sqrt() } else { 1.0 } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::{Phase, Progress};
    use vocabulary::Inputs;
    use vocabulary::inputs::DenseColumn;
    use vocabulary::model::LearnerKind;

    /// y = 100 + 20 x - 10 where the category is odd; x is missing in each ninth row.
    fn sample(rows: usize) -> (Layout, Sample) {
        let column = DenseColumn { name: "x".to_owned(), categorical: false };
        let layout = Layout { dense: vec![column], slots: vec!["c".to_owned()], table_bits: 8, ..Layout::default() };
        let x = |row: usize| (row * 37 % 101) as f32 / 50.0 - 1.0;
        let gap = |row: usize| row.is_multiple_of(9);
        let dense = (0..rows).map(|row| if gap(row) { f32::NAN } else { x(row) }).collect();
        let slots = (0..rows).map(|row| (row % 13) as u32).collect();
        let inputs = Inputs { rows, dense_width: 1, dense, slot_width: 1, slots };
        let value = |row: usize| if gap(row) { 0.0 } else { f64::from(x(row)) };
        let target = (0..rows).map(|row| 100.0 + 20.0 * value(row) - 10.0 * (row % 13 % 2) as f64).collect();
        (layout, Sample { inputs, target, weights: None })
    }

    fn silent(_: Progress) {}

    const WATCH: Watch = Watch { seed: 3, learner: LearnerKind::Linear, phase: Phase::Fit, progress: &silent, checkpoints: None };

    const REGRESSION: Goal = Goal { task: Task::Regression, outputs: 1 };

    #[test]
    fn a_linear_law_is_found_in_the_targets_own_unit() {
        let (layout, sample) = sample(20_000);
        let spec = LinearSpec { l1: 0.0, epochs: 20, ..LinearSpec::default() };
        let model = fit(&spec, REGRESSION, &layout, &sample, 20, &WATCH).unwrap();
        let mut scores = Vec::new();
        model.predict(&sample.inputs, &mut scores).unwrap();
        let error = loss(Task::Regression, &scores, &sample.target);
        assert!(error < 0.5, "rmse {error} of a target with deviation 12");
    }

    #[test]
    fn early_stopping_gives_what_a_fit_of_as_many_epochs_gives() {
        let (layout, sample) = sample(500);
        let spec = LinearSpec::default();
        let found = fit_stopping(&spec, REGRESSION, &layout, &sample, &sample, &WATCH).unwrap();
        let again = fit(&spec, REGRESSION, &layout, &sample, found.rounds, &WATCH).unwrap();
        let mut scores = Vec::new();
        again.predict(&sample.inputs, &mut scores).unwrap();
        assert_eq!(scores, found.scores);
    }

    #[test]
    fn rates_that_leave_finite_numbers_are_named() {
        let (layout, sample) = sample(500);
        let spec = LinearSpec { alpha: f64::NAN, ..LinearSpec::default() };
        let Err(error) = fit(&spec, REGRESSION, &layout, &sample, 1, &WATCH) else { panic!("no error") };
        assert!(error.to_string().contains("learner.linear.alpha"), "{error}");
    }
}
