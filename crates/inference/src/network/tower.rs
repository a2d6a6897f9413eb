//! The layers behind the input vector: forward, and backward by hand. Serving, reasons and training all go through
//! here. Knows neither how inputs are encoded nor how weights are changed.
//!
//! All weights stand in one vector in the order of [`Shape::places`], gradients likewise.

use crate::kernels::dense::{Packed, multiply, multiply_transposed};
use std::ops::Range;

/// The sizes of a tower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Length of the input vector.
    pub inputs: usize,
    /// Cross layers.
    pub cross: usize,
    pub hidden: Vec<Units>,
    pub outputs: usize,
}

/// A hidden layer's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Units {
    pub count: usize,
    pub residual: bool,
}

/// Where a layer's numbers stand among all weights: a row-major `inputs x outputs` matrix, then the bias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerPlace {
    pub inputs: usize,
    pub outputs: usize,
    pub weights: Range<usize>,
    pub bias: Range<usize>,
}

impl Shape {
    /// Cross layers, hidden layers, output layer.
    pub fn places(&self) -> Vec<LayerPlace> {
        let mut sizes = vec![(self.inputs, self.inputs); self.cross];
        let mut inputs = self.inputs;
        for units in &self.hidden {
            sizes.push((inputs, units.count));
            inputs = units.count;
        }
        sizes.push((inputs, self.outputs));
        let mut at = 0;
        let place = |(inputs, outputs): (usize, usize)| {
            let weights = at..at + inputs * outputs;
            at = weights.end + outputs;
            LayerPlace { inputs, outputs, bias: weights.end..at, weights }
        };
        sizes.into_iter().map(place).collect()
    }

    /// Numbers of the whole tower.
    pub fn len(&self) -> usize {
        self.places().last().map_or(0, |place| place.bias.end)
    }

    /// Whether there are no numbers at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A layer ready to be multiplied.
#[derive(Clone, Debug)]
struct Layer {
    place: LayerPlace,
    forward: Packed,
    /// The transpose, from the first input whose gradient is wanted on.
    backward: Packed,
    bias: Vec<f32>,
    /// Inputs before this one need no gradient.
    from: usize,
}

/// What a tower is made ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    Forward,
    /// Backward too, giving the gradients of the input vector from this place on.
    Both {
        inputs_from: usize,
    },
}

/// Weights, packed for the kernels.
#[derive(Clone, Debug)]
pub struct Tower {
    shape: Shape,
    direction: Direction,
    layers: Vec<Layer>,
}

/// What a forward pass leaves behind for the backward pass, and memory for both; made once, used for many batches.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    /// Outputs of each cross layer.
    crossed: Vec<Vec<f32>>,
    /// x W + b of each cross layer.
    factors: Vec<Vec<f32>>,
    /// Rectified sums of each hidden layer, after dropout.
    active: Vec<Vec<f32>>,
    /// Outputs of each residual layer; those of others are `active` itself.
    passed: Vec<Vec<f32>>,
    pub outputs: Vec<f32>,
    upper: Vec<f32>,
    lower: Vec<f32>,
    direct: Vec<f32>,
    packed: Packed,
}

/// What a backward pass begins with.
#[derive(Clone, Copy, Debug)]
pub struct Slopes<'a> {
    /// Gradients of the outputs' sums, `rows * shape.outputs`.
    pub sums: &'a [f32],
    /// What dropout scaled kept units by, 1 without.
    pub scale: f32,
}

/// Units to silence: `keep(layer, row, units)` sets dropped units to zero and scales the others.
pub type Dropout<'a> = &'a (dyn Fn(usize, usize, &mut [f32]) + Sync);

impl Tower {
    /// All numbers zero; [`Tower::load`] sets them.
    pub fn new(shape: Shape, direction: Direction) -> Tower {
        let first = shape.places();
        let from = |layer: usize| match direction {
            // A cross layer's input gradient adds to that of all inputs.
            Direction::Both { inputs_from } if layer == 0 && shape.cross == 0 => inputs_from,
            _ => 0,
        };
        let layer = |(at, place): (usize, LayerPlace)| Layer {
            bias: vec![0.0; place.outputs],
            from: from(at),
            forward: Packed::default(),
            backward: Packed::default(),
            place,
        };
        let layers = first.into_iter().enumerate().map(layer).collect();
        Tower { shape, direction, layers }
    }

    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Takes the numbers over; `weights` has [`Shape::len`] of them.
    pub fn load(&mut self, weights: &[f32]) {
        for layer in &mut self.layers {
            let LayerPlace { inputs, outputs, .. } = layer.place;
            let matrix = &weights[layer.place.weights.clone()];
            layer.forward.set(matrix, inputs, outputs);
            if self.direction != Direction::Forward {
                layer.backward.set_transposed(&matrix[layer.from * outputs..], outputs, inputs - layer.from);
            }
            layer.bias.copy_from_slice(&weights[layer.place.bias.clone()]);
        }
    }

    /// `inputs` is row-major, `rows * shape.inputs`; the sums are in `trace.outputs` then, `rows * shape.outputs`.
    pub fn forward(&self, inputs: &[f32], rows: usize, trace: &mut Trace, dropout: Option<Dropout>) {
        trace.fit(&self.shape, rows);
        let (cross, rest) = self.layers.split_at(self.shape.cross);
        let (hidden, output) = rest.split_at(self.shape.hidden.len());
        let mut current = inputs;
        for ((layer, factors), crossed) in cross.iter().zip(&mut trace.factors).zip(&mut trace.crossed) {
            multiply(current, rows, &layer.forward, Some(&layer.bias), factors);
            for (((out, x0), factor), x) in crossed.iter_mut().zip(inputs).zip(factors.iter()).zip(current) {
                *out = x0 * factor + x;
            }
            current = crossed;
        }
        let places = trace.active.iter_mut().zip(&mut trace.passed);
        for (at, ((layer, units), (active, passed))) in hidden.iter().zip(&self.shape.hidden).zip(places).enumerate() {
            multiply(current, rows, &layer.forward, Some(&layer.bias), active);
            active.iter_mut().for_each(|sum| *sum = if *sum > 0.0 { *sum } else { 0.0 });
            if let Some(keep) = dropout {
                active.chunks_exact_mut(units.count).enumerate().for_each(|(row, units)| keep(at, row, units));
            }
            if units.residual {
                passed.iter_mut().zip(active.iter()).zip(current).for_each(|((out, unit), x)| *out = unit + x);
                current = passed;
            } else {
                current = active;
            }
        }
        multiply(current, rows, &output[0].forward, Some(&output[0].bias), &mut trace.outputs);
    }

    /// After a forward pass of the same `inputs`. Sets `weights`, if wanted, to the gradient of all weights, and
    /// `inputs_slopes` to that of the input vector from the tower's `inputs_from` on, row-major.
    pub fn backward(
        &self,
        inputs: &[f32],
        rows: usize,
        trace: &mut Trace,
        slopes: Slopes,
        mut weights: Option<&mut [f32]>,
        inputs_slopes: &mut Vec<f32>,
    ) {
        let Slopes { sums, scale } = slopes;
        let (cross, hidden) = (self.shape.cross, self.shape.hidden.len());
        let Trace { crossed, factors, active, passed, upper, lower, direct, packed, .. } = trace;
        let before_tower: &[f32] = if cross > 0 { &crossed[cross - 1] } else { inputs };
        let before = |layer: usize| -> &[f32] {
            match layer.checked_sub(1) {
                None => before_tower,
                Some(below) if self.shape.hidden[below].residual => &passed[below],
                Some(below) => &active[below],
            }
        };
        // `upper` holds the gradient of the sums of the layer at hand, `lower` that of its inputs.
        upper.clear();
        upper.extend_from_slice(sums);
        for at in (0..=hidden).rev() {
            let layer = &self.layers[cross + at];
            if at < hidden {
                let units = &active[at];
                if self.shape.hidden[at].residual {
                    direct.clear();
                    direct.extend_from_slice(upper);
                }
                upper
                    .iter_mut()
                    .zip(units)
                    .for_each(|(slope, unit)| *slope = if *unit > 0.0 { *slope * scale } else { 0.0 });
            }
            layer.backward(before(at), rows, upper, weights.as_deref_mut(), packed, lower);
            if at < hidden && self.shape.hidden[at].residual {
                let width = layer.place.inputs - layer.from;
                let direct = direct.chunks_exact(layer.place.inputs);
                for (slopes, direct) in lower.chunks_exact_mut(width.max(1)).zip(direct) {
                    slopes.iter_mut().zip(&direct[layer.from..]).for_each(|(slope, direct)| *slope += direct);
                }
            }
            std::mem::swap(upper, lower);
        }
        if cross == 0 {
            std::mem::swap(upper, inputs_slopes);
            return;
        }
        // x' = x0 * f + x with f = x W + b: x0 has a part of its own from each layer.
        inputs_slopes.clear();
        inputs_slopes.resize(inputs.len(), 0.0);
        for at in (0..cross).rev() {
            let layer = &self.layers[at];
            for ((own, slope), factor) in inputs_slopes.iter_mut().zip(upper.iter()).zip(&factors[at]) {
                *own += slope * factor;
            }
            direct.clear();
            direct.extend_from_slice(upper);
            upper.iter_mut().zip(inputs).for_each(|(slope, x0)| *slope *= x0);
            let below = if at > 0 { &crossed[at - 1] } else { inputs };
            layer.backward(below, rows, upper, weights.as_deref_mut(), packed, lower);
            lower.iter_mut().zip(direct.iter()).for_each(|(slope, direct)| *slope += direct);
            std::mem::swap(upper, lower);
        }
        inputs_slopes.iter_mut().zip(upper.iter()).for_each(|(own, slope)| *own += slope);
        if let Direction::Both { inputs_from } = self.direction {
            keep_from(inputs_slopes, self.shape.inputs, inputs_from);
        }
    }
}

impl Layer {
    /// Gradients of the weights and of the inputs from those of the sums.
    fn backward(
        &self,
        inputs: &[f32],
        rows: usize,
        slopes: &[f32],
        weights: Option<&mut [f32]>,
        packed: &mut Packed,
        inputs_slopes: &mut Vec<f32>,
    ) {
        let LayerPlace { inputs: width, outputs, .. } = self.place;
        if let Some(weights) = weights {
            packed.set(slopes, rows, outputs);
            multiply_transposed(inputs, width, packed, &mut weights[self.place.weights.clone()]);
            let bias = &mut weights[self.place.bias.clone()];
            bias.fill(0.0);
            for row in slopes.chunks_exact(outputs) {
                bias.iter_mut().zip(row).for_each(|(sum, slope)| *sum += slope);
            }
        }
        inputs_slopes.resize(rows * (width - self.from), 0.0);
        multiply(slopes, rows, &self.backward, None, inputs_slopes);
    }
}

/// Drops the first `from` of each row's `width` numbers.
fn keep_from(values: &mut Vec<f32>, width: usize, from: usize) {
    let rows = values.len() / width.max(1);
    let kept = width - from;
    for row in 0..rows {
        values.copy_within(row * width + from..(row + 1) * width, row * kept);
    }
    values.truncate(rows * kept);
}

impl Trace {
    fn fit(&mut self, shape: &Shape, rows: usize) {
        let (cross, hidden) = (shape.cross, shape.hidden.len());
        for (buffers, count) in [
            (&mut self.crossed, cross),
            (&mut self.factors, cross),
            (&mut self.active, hidden),
            (&mut self.passed, hidden),
        ] {
            buffers.resize(count, Vec::new());
        }
        for buffer in self.crossed.iter_mut().chain(&mut self.factors) {
            buffer.resize(rows * shape.inputs, 0.0);
        }
        for ((active, passed), units) in self.active.iter_mut().zip(&mut self.passed).zip(&shape.hidden) {
            active.resize(rows * units.count, 0.0);
            passed.resize(if units.residual { rows * units.count } else { 0 }, 0.0);
        }
        self.outputs.resize(rows * shape.outputs, 0.0);
    }
}
