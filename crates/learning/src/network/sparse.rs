//! Sparse groups: weights that pull each other to zero together, by a proximal step after each step of the optimizer
//! (Yuan and Lin 2006; with an l1 part, Simon et al., "A Sparse-Group Lasso", 2013). Knows no gradient.
//!
//! An input group holds all weights that read one block of inputs: a dense column's encoding, or a slot's embedding. A
//! unit's group holds the weights that read it. Each is pulled by `rate * group_l2 * sqrt(its size)`, each weight by
//! `rate * group_l1` before that; the optimizer's own scaling of weights does not enter.

use super::plan::Plan;
use std::ops::Range;
use vocabulary::model::NetworkSpec;

pub(super) fn wanted(spec: &NetworkSpec) -> bool {
    spec.group_l1 > 0.0 || spec.group_l2 > 0.0
}

pub(super) fn shrink(spec: &NetworkSpec, plan: &Plan, weights: &mut [f32], rate: f64) {
    if wanted(spec) {
        for group in groups(plan) {
            pull(weights, &group, rate * spec.group_l1, rate * spec.group_l2);
        }
    }
}

/// Each group as ranges of weights.
fn groups(plan: &Plan) -> Vec<Vec<Range<usize>>> {
    let places = plan.shape.places();
    let (cross, tower) = places.split_at(plan.shape.cross);
    let rows = |layer: &inference::network::tower::LayerPlace, inputs: Range<usize>| {
        layer.weights.start + inputs.start * layer.outputs..layer.weights.start + inputs.end * layer.outputs
    };
    let widths = plan.numeric.iter().map(|numeric| numeric.width());
    let widths = widths.chain(plan.slots.iter().map(|table| plan.tables[*table].dimension));
    let mut at = 0;
    let mut groups = Vec::new();
    for width in widths {
        let block = at..at + width;
        at = block.end;
        if width > 0 {
            groups.push(cross.iter().chain(&tower[..1]).map(|layer| rows(layer, block.clone())).collect());
        }
    }
    for layer in &tower[1..] {
        groups.extend((0..layer.inputs).map(|unit| vec![rows(layer, unit..unit + 1)]));
    }
    groups
}

fn pull(weights: &mut [f32], group: &[Range<usize>], l1: f64, l2: f64) {
    let (mut squares, mut size) = (0.0, 0);
    for range in group {
        size += range.len();
        for weight in &mut weights[range.clone()] {
            let left = (f64::from(weight.abs()) - l1).max(0.0);
            *weight = (left as f32).copysign(*weight);
            squares += left * left;
        }
    }
    let length = squares.sqrt();
    let factor = 1.0 - l2 * (size as f64).sqrt() / length.max(f64::MIN_POSITIVE);
    for range in group {
        // Exactly zero, not minus zero: it is what the model's bytes and `shrink` look for.
        weights[range.clone()]
            .iter_mut()
            .for_each(|w| *w = if factor > 0.0 && *w != 0.0 { (f64::from(*w) * factor) as f32 } else { 0.0 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weak_group_reaches_zero_and_a_strong_one_loses_length() {
        let mut weights = [0.1, -0.1, 9.0, 3.0, -4.0];
        pull(&mut weights, std::slice::from_ref(&(0..2)), 0.0, 0.2);
        assert_eq!(weights[..3], [0.0, 0.0, 9.0]);
        pull(&mut weights, std::slice::from_ref(&(3..5)), 0.0, 1.0);
        let left = 1.0 - 2.0_f32.sqrt() / 5.0;
        assert!((weights[3] - 3.0 * left).abs() < 1e-6 && (weights[4] + 4.0 * left).abs() < 1e-6, "{weights:?}");
        pull(&mut weights, std::slice::from_ref(&(2..3)), 1.0, 0.0);
        assert_eq!(weights[2], 8.0);
    }
}
