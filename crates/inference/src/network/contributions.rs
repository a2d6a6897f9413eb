//! Reasons of a network: integrated gradients (Sundararajan et al., "Axiomatic Attribution for Deep Networks", ICML
//! 2017) along the straight way from the training mean to the row, in the space of the input vector. A column's part is
//! the sum over its block of (input - mean) times the mean gradient along the way.
//!
//! The integral is a mean over [`POINTS`] midpoints, so base and parts miss the row's sum by a little; that residual is
//! spread over the parts in proportion to their size, and they add up then.

use super::NetworkModel;
use super::tower::{Direction, Slopes, Tower, Trace};
use crate::model::{Contributions, Model, ModelError};
use vocabulary::inputs::Inputs;

/// Midpoints of the integral (a judgement). Rectified units bend the sum wherever the way crosses their edges, so more
/// points leave less residual to be spread; the time of an explanation grows with them.
const POINTS: usize = 32;

impl NetworkModel {
    pub(super) fn path_integrated(&self, inputs: &Inputs) -> Result<Contributions, ModelError> {
        let mut tower = Tower::new(self.parts.shape(), Direction::Both { inputs_from: 0 });
        tower.load(&self.parts.weights());
        let (outputs, width) = (self.outputs(), inputs.dense_width + inputs.slot_width);
        let (mut vector, mut trace) = (Vec::new(), Trace::default());
        tower.forward(&self.parts.baseline, 1, &mut trace, None);
        let start: Vec<f64> = trace.outputs.iter().map(|sum| self.scaled(*sum)).collect();
        let mut found = Contributions { rows: inputs.rows, outputs, width, base: Vec::new(), parts: Vec::new() };
        let mut way = Way { tower, trace, points: Vec::new(), slopes: Vec::new(), gradients: Vec::new() };
        let blocks = self.parts.blocks();
        for row in 0..inputs.rows {
            self.encode(inputs, row..row + 1, &mut vector)?;
            way.tower.forward(&vector, 1, &mut way.trace, None);
            let sums: Vec<f64> = way.trace.outputs.iter().map(|sum| self.scaled(*sum)).collect();
            way.walk(&self.parts.baseline, &vector);
            for (output, (sum, start)) in sums.into_iter().zip(&start).enumerate() {
                let mut products = way.products(output, &self.parts.baseline, &vector);
                products.iter_mut().for_each(|product| *product *= self.parts.deviation);
                let mut at = 0;
                let mut parts: Vec<f64> = blocks
                    .iter()
                    .map(|width| {
                        at += width;
                        products[at - width..at].iter().sum()
                    })
                    .collect();
                let base = spread(&mut parts, *start, sum);
                found.base.push(base);
                found.parts.extend(parts);
            }
        }
        Ok(found)
    }
}

/// Makes `parts` add up to `sum - base` and returns the base, which takes the residual where all parts are zero.
fn spread(parts: &mut [f64], base: f64, sum: f64) -> f64 {
    let residual = sum - base - parts.iter().sum::<f64>();
    let size: f64 = parts.iter().map(|part| part.abs()).sum();
    if size == 0.0 {
        return base + residual;
    }
    parts.iter_mut().for_each(|part| *part += residual * (part.abs() / size));
    base
}

/// The points between the mean and a row, and the gradients there.
struct Way {
    tower: Tower,
    trace: Trace,
    points: Vec<f32>,
    slopes: Vec<f32>,
    gradients: Vec<f32>,
}

impl Way {
    fn walk(&mut self, from: &[f32], to: &[f32]) {
        self.points.clear();
        for point in 0..POINTS {
            let share = (point as f32 + 0.5) / POINTS as f32;
            self.points.extend(from.iter().zip(to).map(|(from, to)| from + share * (to - from)));
        }
        self.tower.forward(&self.points, POINTS, &mut self.trace, None);
    }

    /// (input - mean) times the mean gradient of an output, for each place of the input vector.
    fn products(&mut self, output: usize, from: &[f32], to: &[f32]) -> Vec<f64> {
        let outputs = self.tower.shape().outputs;
        self.slopes.clear();
        self.slopes.extend((0..POINTS * outputs).map(|at| if at % outputs == output { 1.0 } else { 0.0 }));
        let slopes = Slopes { sums: &self.slopes, scale: 1.0 };
        self.tower.backward(&self.points, POINTS, &mut self.trace, slopes, None, &mut self.gradients);
        let mut sums = vec![0.0; from.len()];
        for gradients in self.gradients.chunks_exact(from.len().max(1)) {
            sums.iter_mut().zip(gradients).for_each(|(sum, slope)| *sum += f64::from(*slope));
        }
        let way = from.iter().zip(to).map(|(from, to)| (f64::from(*to) - f64::from(*from)) / POINTS as f64);
        sums.iter_mut().zip(way).for_each(|(sum, way)| *sum *= way);
        sums
    }
}
