//! A network with fewer units, embedding numbers and columns. What matters least for the loss on rows that it did not
//! learn from is set to its mean and removed, until a share of the products of a row is gone; then it learns on.

use super::trees::Rows;
use crate::error::LearnError;
use crate::fit::{Phase, Sample, Watch};
use crate::network::fine_tune;
use inference::elementary::{logistic, softmax};
use inference::kernels::dense::{Packed, multiply};
use inference::network::tower::{Direction, Shape, Slopes, Tower, Trace};
use inference::network::{Dense, Numeric};
use inference::{Link, NetworkModel, NetworkParts};
use rayon::prelude::*;
use vocabulary::inputs::Layout;
use vocabulary::model::{LearnerKind, NetworkSpec};

/// Rows of one task. Sums over tasks are added in order.
const TASK_ROWS: usize = 256;

/// A network after pruning, and what it lost.
pub struct PrunedNetwork {
    pub parts: NetworkParts,
    /// Products of weights and values that the layers need for one row.
    pub products_before: usize,
    pub products_after: usize,
    pub units_before: usize,
    pub units_after: usize,
    /// Numbers of the input vector.
    pub inputs_before: usize,
    pub inputs_after: usize,
}

/// Removes at least `share` of the products of a row, as far as a unit of each layer and one input stay. `rows` are best
/// the validation rows. Units of residual layers, and of layers below one, stay: their number has to agree.
///
/// Whatever can be removed is ranked by how much the loss changes, to first order, when it is set to its mean (Molchanov
/// et al., "Pruning Convolutional Neural Networks", ICLR 2017, with the mean in the place of 0), for each product that
/// it needs. The mean stays in the bias of whoever has read it.
pub fn prune_network(model: &NetworkModel, rows: Rows, share: f64) -> Result<PrunedNetwork, LearnError> {
    if !(0.0..=0.99).contains(&share) {
        return Err(LearnError::Share { share });
    }
    let parts = model.parts();
    let found = Importance::measure(model, rows)?;
    let mut candidates = candidates(parts, &found);
    candidates.sort_by(|a, b| a.rank().total_cmp(&b.rank()));
    let candidates = spared(parts, candidates);
    let before = products(parts);
    let most = (before as f64 * (1.0 - share)) as usize;
    // Tables are large and have no say in the number of products.
    let mut light = parts.clone();
    light.tables.iter_mut().for_each(|table| table.weights.clear());
    let (mut low, mut high) = (0, candidates.len());
    while low < high {
        let middle = (low + high) / 2;
        if products(&removed(&light, &candidates[..middle], &found)) <= most {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    let pruned = removed(parts, &candidates[..low], &found);
    Ok(PrunedNetwork {
        products_before: before,
        products_after: products(&pruned),
        units_before: units(parts),
        units_after: units(&pruned),
        inputs_before: parts.width(),
        inputs_after: pruned.width(),
        parts: pruned,
    })
}

/// How a pruned network learns on.
#[derive(Clone, Copy)]
pub struct FineTuning<'a> {
    pub spec: &'a NetworkSpec,
    pub epochs: u32,
    pub seed: u64,
}

/// Goes on learning from `parts`; `rows` are best those that the network learned from.
pub fn fine_tune_network(
    parts: &NetworkParts,
    layout: &Layout,
    rows: Rows,
    how: FineTuning,
) -> Result<NetworkModel, LearnError> {
    let sample = Sample { inputs: rows.inputs.clone(), target: rows.target.to_vec(), weights: None };
    let watch = Watch {
        seed: how.seed,
        learner: LearnerKind::Network,
        phase: Phase::Refit,
        progress: &|_| {},
        checkpoints: None,
    };
    fine_tune(how.spec, parts, layout, &sample, how.epochs, &watch)
}

/// Products of a row through all layers.
fn products(parts: &NetworkParts) -> usize {
    let layers = parts.cross.iter().chain(parts.hidden.iter().map(|layer| &layer.dense)).chain([&parts.output]);
    layers.map(|dense| dense.inputs as usize * dense.outputs as usize).sum()
}

fn units(parts: &NetworkParts) -> usize {
    parts.hidden.iter().map(|layer| layer.dense.outputs as usize).sum()
}

/// What can be removed by itself.
#[derive(Clone, Debug, PartialEq)]
enum What {
    Unit {
        layer: usize,
        unit: usize,
    },
    /// Inputs that stand and fall together: a column's encoding, or a number of an embedding in all slots that read it.
    Inputs(Vec<usize>),
}

#[derive(Clone, Debug)]
struct Candidate {
    what: What,
    /// Mean change of a row's loss.
    importance: f64,
    products: usize,
}

impl Candidate {
    fn rank(&self) -> f64 {
        self.importance / self.products.max(1) as f64
    }
}

fn candidates(parts: &NetworkParts, found: &Importance) -> Vec<Candidate> {
    let mut candidates = Vec::new();
    for (layer, hidden) in parts.hidden.iter().enumerate() {
        let above = parts.hidden.get(layer + 1);
        if hidden.residual || above.is_some_and(|above| above.residual) {
            continue;
        }
        let reader = above.map_or(&parts.output, |above| &above.dense);
        let products = (hidden.dense.inputs + reader.outputs) as usize;
        let unit = |(unit, importance): (usize, &f64)| Candidate {
            what: What::Unit { layer, unit },
            importance: *importance,
            products,
        };
        candidates.extend(found.units[layer].iter().enumerate().map(unit));
    }
    let reader = parts.hidden.first().map_or(&parts.output, |layer| &layer.dense);
    // In a cross layer an input is one of the outputs as well.
    let each = reader.outputs as usize + 2 * parts.cross.iter().map(|dense| dense.outputs as usize).sum::<usize>();
    let groups = input_groups(parts).into_iter().zip(&found.groups);
    candidates.extend(groups.map(|(inputs, importance)| Candidate {
        products: each * inputs.len(),
        what: What::Inputs(inputs),
        importance: *importance,
    }));
    candidates
}

/// Inputs that stand and fall together; none where a residual layer adds the input vector.
fn input_groups(parts: &NetworkParts) -> Vec<Vec<usize>> {
    if parts.hidden.first().is_some_and(|layer| layer.residual) {
        return Vec::new();
    }
    let mut at = 0;
    let mut block = |width: usize| {
        at += width;
        at - width
    };
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for width in parts.numeric.iter().map(Numeric::width) {
        let from = block(width);
        groups.push((from..from + width).collect());
    }
    let mut numbers: Vec<Vec<Vec<usize>>> =
        parts.tables.iter().map(|table| vec![Vec::new(); table.dimension as usize]).collect();
    for table in parts.slots.iter().flatten() {
        let numbers = &mut numbers[*table as usize];
        let from = block(numbers.len());
        numbers.iter_mut().enumerate().for_each(|(place, inputs)| inputs.push(from + place));
    }
    groups.extend(numbers.into_iter().flatten());
    groups.retain(|inputs| !inputs.is_empty());
    groups
}

/// Those that may go, in their order: of each layer a unit stays, and one input.
fn spared(parts: &NetworkParts, candidates: Vec<Candidate>) -> Vec<Candidate> {
    let mut units: Vec<usize> = parts.hidden.iter().map(|layer| layer.dense.outputs as usize).collect();
    let mut inputs = parts.width();
    let take = |left: &mut usize, count: usize| {
        let enough = *left > count;
        if enough {
            *left -= count;
        }
        enough
    };
    let mut may_go = |candidate: &Candidate| match &candidate.what {
        What::Unit { layer, .. } => take(&mut units[*layer], 1),
        What::Inputs(group) => take(&mut inputs, group.len()),
    };
    candidates.into_iter().filter(|candidate| may_go(candidate)).collect()
}

/// The network without `what`.
fn removed(parts: &NetworkParts, what: &[Candidate], found: &Importance) -> NetworkParts {
    let mut parts = parts.clone();
    for candidate in what {
        match &candidate.what {
            What::Unit { layer, unit } => {
                let reader = match parts.hidden.get_mut(layer + 1) {
                    Some(above) => &mut above.dense,
                    None => &mut parts.output,
                };
                forget(reader, *unit, found.means[*layer][*unit] as f32);
            }
            What::Inputs(inputs) => {
                for input in inputs {
                    parts.cross.iter_mut().for_each(|cross| forget(cross, *input, 0.0));
                    // Behind cross layers, it is no more than 0 that an input can be replaced by.
                    let mean = if parts.cross.is_empty() { parts.baseline[*input] } else { 0.0 };
                    let reader = match parts.hidden.first_mut() {
                        Some(first) => &mut first.dense,
                        None => &mut parts.output,
                    };
                    forget(reader, *input, mean);
                }
            }
        }
    }
    parts.shrink();
    parts
}

/// Makes a layer read `mean` in the place of an input.
fn forget(dense: &mut Dense, input: usize, mean: f32) {
    let outputs = dense.outputs as usize;
    for (weight, bias) in dense.weights[input * outputs..(input + 1) * outputs].iter_mut().zip(&mut dense.bias) {
        *bias += mean * *weight;
        *weight = 0.0;
    }
}

/// What was seen on the rows.
struct Importance {
    /// Mean output of each unit, by layer.
    means: Vec<Vec<f64>>,
    /// Mean change of a row's loss when a unit is set to its mean.
    units: Vec<Vec<f64>>,
    /// For each of [`input_groups`].
    groups: Vec<f64>,
}

impl Importance {
    fn measure(model: &NetworkModel, rows: Rows) -> Result<Importance, LearnError> {
        let probe = Probe::new(model);
        let count = rows.inputs.rows.max(1) as f64;
        let tasks = rows.inputs.rows.div_ceil(TASK_ROWS);
        let task = |task: usize| task * TASK_ROWS..rows.inputs.rows.min((task + 1) * TASK_ROWS);
        let means: Result<Vec<_>, LearnError> =
            (0..tasks).into_par_iter().map(|at| probe.sums(rows, task(at))).collect();
        let means = added(&means?, &probe.zeros(), count);
        let seen: Result<Vec<_>, LearnError> =
            (0..tasks).into_par_iter().map(|at| probe.changes(rows, task(at), &means)).collect();
        let mut zeros = probe.zeros();
        zeros.push(vec![0.0; probe.groups.len()]);
        let mut units = added(&seen?, &zeros, count);
        let groups = units.pop().unwrap_or_default();
        Ok(Importance { means, units, groups })
    }
}

/// Sums of the tasks in their order, divided by `count`.
fn added(tasks: &[Vec<Vec<f64>>], zeros: &[Vec<f64>], count: f64) -> Vec<Vec<f64>> {
    let mut sums = zeros.to_vec();
    for task in tasks {
        for (sums, parts) in sums.iter_mut().zip(task) {
            sums.iter_mut().zip(parts).for_each(|(sum, part)| *sum += part);
        }
    }
    sums.iter_mut().flatten().for_each(|sum| *sum /= count);
    sums
}

/// A network made ready for gradients by its inputs and by the outputs of each hidden layer.
struct Probe<'a> {
    model: &'a NetworkModel,
    groups: Vec<Vec<usize>>,
    whole: Tower,
    /// For each hidden layer the layer itself, packed, and the tower behind it.
    behind: Vec<(Packed, Tower)>,
}

impl<'a> Probe<'a> {
    fn new(model: &'a NetworkModel) -> Probe<'a> {
        let parts = model.parts();
        let both = Direction::Both { inputs_from: 0 };
        let mut whole = Tower::new(parts.shape(), both);
        whole.load(&parts.weights());
        let shape = parts.shape();
        let behind = parts.hidden.iter().enumerate().map(|(at, layer)| {
            let dense = &layer.dense;
            let packed = Packed::new(&dense.weights, dense.inputs as usize, dense.outputs as usize);
            let rest = shape.hidden[at + 1..].to_vec();
            let mut tower = Tower::new(
                Shape { inputs: dense.outputs as usize, cross: 0, hidden: rest, outputs: shape.outputs },
                both,
            );
            let layers = parts.hidden[at + 1..].iter().map(|layer| &layer.dense).chain([&parts.output]);
            let weights: Vec<f32> = layers.flat_map(|dense| dense.weights.iter().chain(&dense.bias)).copied().collect();
            tower.load(&weights);
            (packed, tower)
        });
        Probe { model, groups: input_groups(parts), whole, behind: behind.collect() }
    }

    fn zeros(&self) -> Vec<Vec<f64>> {
        self.model.parts().hidden.iter().map(|layer| vec![0.0; layer.dense.outputs as usize]).collect()
    }

    /// The input vectors of some rows, and the outputs of each hidden layer.
    fn outputs(&self, rows: Rows, range: std::ops::Range<usize>) -> Result<(Vec<f32>, Vec<Vec<f32>>), LearnError> {
        let (parts, count) = (self.model.parts(), range.len());
        let mut inputs = Vec::new();
        self.model.encode(rows.inputs, range, &mut inputs)?;
        let mut current = inputs.clone();
        for cross in &parts.cross {
            let width = cross.inputs as usize;
            let mut factors = vec![0.0; count * width];
            let packed = Packed::new(&cross.weights, width, width);
            multiply(&current, count, &packed, Some(&cross.bias), &mut factors);
            for ((x, x0), factor) in current.iter_mut().zip(&inputs).zip(&factors) {
                *x += x0 * factor;
            }
        }
        let mut outputs: Vec<Vec<f32>> = Vec::with_capacity(parts.hidden.len());
        for (layer, (packed, _)) in parts.hidden.iter().zip(&self.behind) {
            let below = outputs.last().unwrap_or(&current);
            let mut units = vec![0.0; count * packed.columns()];
            multiply(below, count, packed, Some(&layer.dense.bias), &mut units);
            units.iter_mut().for_each(|sum| *sum = sum.max(0.0));
            if layer.residual {
                units.iter_mut().zip(below).for_each(|(unit, x)| *unit += x);
            }
            outputs.push(units);
        }
        Ok((inputs, outputs))
    }

    /// Sums of each unit's outputs.
    fn sums(&self, rows: Rows, range: std::ops::Range<usize>) -> Result<Vec<Vec<f64>>, LearnError> {
        let mut sums = self.zeros();
        let (_, outputs) = self.outputs(rows, range)?;
        for (sums, outputs) in sums.iter_mut().zip(&outputs) {
            for row in outputs.chunks_exact(sums.len().max(1)) {
                sums.iter_mut().zip(row).for_each(|(sum, output)| *sum += f64::from(*output));
            }
        }
        Ok(sums)
    }

    /// Sums of the changes of each row's loss: for each layer's units, then for the groups of inputs.
    fn changes(
        &self,
        rows: Rows,
        range: std::ops::Range<usize>,
        means: &[Vec<f64>],
    ) -> Result<Vec<Vec<f64>>, LearnError> {
        let (inputs, outputs) = self.outputs(rows, range.clone())?;
        let (target, parts) = (&rows.target[range.clone()], self.model.parts());
        let (mut trace, mut slopes) = (Trace::default(), Vec::new());
        let mut changes = self.zeros();
        for (((changes, outputs), (_, tower)), means) in changes.iter_mut().zip(&outputs).zip(&self.behind).zip(means) {
            slopes_by_inputs(parts, tower, outputs, target, &mut trace, &mut slopes);
            let units = changes.len().max(1);
            for (outputs, slopes) in outputs.chunks_exact(units).zip(slopes.chunks_exact(units)) {
                for (((change, output), mean), slope) in changes.iter_mut().zip(outputs).zip(means).zip(slopes) {
                    *change += ((f64::from(*output) - mean) * f64::from(*slope)).abs();
                }
            }
        }
        slopes_by_inputs(parts, &self.whole, &inputs, target, &mut trace, &mut slopes);
        let mut of_groups = vec![0.0; self.groups.len()];
        let width = parts.baseline.len().max(1);
        for (inputs, slopes) in inputs.chunks_exact(width).zip(slopes.chunks_exact(width)) {
            let change = |input: &usize| {
                let mean = if parts.cross.is_empty() { parts.baseline[*input] } else { 0.0 };
                f64::from(inputs[*input] - mean) * f64::from(slopes[*input])
            };
            for (change_of, group) in of_groups.iter_mut().zip(&self.groups) {
                *change_of += group.iter().map(change).sum::<f64>().abs();
            }
        }
        changes.push(of_groups);
        Ok(changes)
    }
}

/// Gradients of each row's loss (log loss, or half of the scaled squared error) by what the tower takes.
fn slopes_by_inputs(
    parts: &NetworkParts,
    tower: &Tower,
    inputs: &[f32],
    target: &[f64],
    trace: &mut Trace,
    slopes: &mut Vec<f32>,
) {
    tower.forward(inputs, target.len(), trace, None);
    let outputs = parts.output.outputs as usize;
    let mut sums = Vec::with_capacity(trace.outputs.len());
    for (row, target) in trace.outputs.chunks_exact(outputs).zip(target) {
        let mut row: Vec<f64> = row.iter().map(|sum| f64::from(*sum)).collect();
        match parts.link {
            Link::Identity => row[0] -= (target - parts.mean) / parts.deviation,
            Link::Logistic => row[0] = logistic(row[0]) - target,
            Link::Softmax => {
                softmax(&mut row);
                row[*target as usize] -= 1.0;
            }
        }
        sums.extend(row.iter().map(|slope| *slope as f32));
    }
    tower.backward(inputs, target.len(), trace, Slopes { sums: &sums, scale: 1.0 }, None, slopes);
}

#[cfg(test)]
mod tests;
