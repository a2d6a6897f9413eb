//! Growing a network whose answers stay the same: more units, layers, cross layers, numbers and rows of embeddings,
//! intervals. Knows neither a declaration nor how the network goes on learning.
//!
//! Layers after Chen, Goodfellow and Shlens, "Net2Net: Accelerating Learning via Knowledge Transfer" (ICLR 2016). Their
//! units of a wider layer are copies of those that are there, with parts of the weights that read them. Copies get the
//! same gradients, or opposite ones, until something tells them apart; new units that nothing reads yet keep the answers
//! too, and came closer to the large network's loss in all that was measured (`examples/growth_rate.rs`).

use crate::keyed::{Purpose, bits};
use inference::network::{Dense, Hidden, NetworkParts, Numeric, Place, Table};

/// Where the randomness of new weights comes from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grower {
    pub seed: u64,
}

/// What an input of the grown vector is.
#[derive(Clone, Copy, Debug)]
enum Input {
    /// A part of an input before: all parts times their shares add up to it.
    Of(usize, f64),
    /// One that says nothing yet since it is zero: what reads it is drawn.
    Zero,
    /// One that nothing reads yet.
    Unread,
}

impl Grower {
    /// Uniform between -1 and 1.
    fn draw(&self, what: u64, layer: usize, at: usize) -> f64 {
        let drawn = bits(self.seed, Purpose::Growth, what << 32 | layer as u64, at as u64) >> 11;
        drawn as f64 / (1u64 << 52) as f64 - 1.0
    }

    /// Gives a hidden layer new units until it has `units`, and the residual layers upon it, which are as wide. What they
    /// read is drawn, and nothing reads them yet. The layer itself must not be residual.
    pub fn widen(&self, parts: &mut NetworkParts, layer: usize, units: usize) {
        if units <= parts.hidden[layer].dense.outputs as usize {
            return;
        }
        self.add_units(&mut parts.hidden[layer].dense, units, layer);
        let mut above = layer + 1;
        while let Some(Hidden { dense, residual: true }) = parts.hidden.get_mut(above) {
            self.add_units(dense, units, above);
            add_unread(dense, units);
            above += 1;
        }
        add_unread(parts.hidden.get_mut(above).map_or(&mut parts.output, |layer| &mut layer.dense), units);
    }

    /// Units with weights as a network begins with.
    fn add_units(&self, dense: &mut Dense, units: usize, layer: usize) {
        let (inputs, old) = (dense.inputs as usize, dense.outputs as usize);
        let size = (6.0 / inputs.max(1) as f64).sqrt();
        let weight = |input: usize, unit: usize| match unit < old {
            true => dense.weights[input * old + unit],
            false => (size * self.draw(1, layer, input * units + unit)) as f32,
        };
        let weight = &weight;
        dense.weights = (0..inputs).flat_map(|input| (0..units).map(move |unit| weight(input, unit))).collect();
        dense.bias.resize(units, 0.0);
        dense.outputs = units as u32;
    }

    /// Puts a layer above a hidden layer, as wide as that. A plain one passes its inputs on, which are rectified sums. A
    /// residual one adds them to themselves, which the layers above make up for: a branch of zeros, which would need no
    /// more, could never learn behind a rectifier. The first hidden layer must not be residual: it would add the input
    /// vector, which may be below zero.
    pub fn deepen(&self, parts: &mut NetworkParts, above: usize, residual: bool) {
        let units = parts.hidden[above].dense.outputs as usize;
        let mut weights = vec![0.0; units * units];
        weights.iter_mut().step_by(units + 1).for_each(|weight| *weight = 1.0);
        let dense = Dense { inputs: units as u32, outputs: units as u32, weights, bias: vec![0.0; units] };
        if residual {
            let mut upper = parts.hidden[above + 1..].iter_mut();
            // Twice the inputs, and twice the bias, give twice the outputs; a reader that is not residual takes half.
            let reader = upper.find_map(|layer| {
                if !layer.residual {
                    return Some(&mut layer.dense);
                }
                layer.dense.bias.iter_mut().for_each(|bias| *bias *= 2.0);
                None
            });
            reader.unwrap_or(&mut parts.output).weights.iter_mut().for_each(|weight| *weight *= 0.5);
        }
        parts.hidden.insert(above + 1, Hidden { dense, residual });
    }

    /// Adds a row of numbers to each vector of a table. They are zero, and what reads them is drawn.
    pub fn widen_table(&self, parts: &mut NetworkParts, table: usize, dimension: usize) {
        let old = parts.tables[table].dimension as usize;
        if dimension <= old {
            return;
        }
        let inputs = inputs_by_block(parts, |parts, block, at| {
            let own =
                block.checked_sub(parts.numeric.len()).is_some_and(|slot| parts.slots[slot] == Some(table as u32));
            let mut inputs: Vec<Input> = at.map(|input| Input::Of(input, 1.0)).collect();
            if own {
                inputs.resize(dimension, Input::Zero);
            }
            inputs
        });
        let Table { ids, place, weights, .. } = &mut parts.tables[table];
        let rows = place.rows(*ids);
        // A quotient's factor is one, and a remainder's zero: their product is zero, and can learn.
        let ones_from = match place {
            Place::QuotientRemainder { remainders } => *remainders as usize,
            _ => rows,
        };
        let mut wider = Vec::with_capacity(rows * dimension);
        for row in 0..rows {
            wider.extend_from_slice(&weights[row * old..(row + 1) * old]);
            wider.resize((row + 1) * dimension, if row < ones_from { 0.0 } else { 1.0 });
        }
        *weights = wider;
        parts.tables[table].dimension = dimension as u32;
        self.remap(parts, &inputs);
    }

    /// Lets a slot that nothing read, or a dense column, be read again: the slot by a table of zeros.
    pub fn read_slot(&self, parts: &mut NetworkParts, slot: usize, table: Table) {
        let (dimension, block) = (table.dimension as usize, parts.numeric.len() + slot);
        let inputs = inserted(parts, block, vec![Input::Zero; dimension]);
        parts.slots[slot] = Some(parts.tables.len() as u32);
        parts.tables.push(table);
        self.remap(parts, &inputs);
    }

    pub fn read_column(&self, parts: &mut NetworkParts, column: usize, numeric: Numeric) {
        let inputs = inserted(parts, column, vec![Input::Unread; numeric.width()]);
        parts.numeric[column] = numeric;
        self.remap(parts, &inputs);
    }

    /// Splits intervals of a piecewise-linear encoding at those of `wanted` that lie inside them, until there are `bins`.
    /// An interval's share is the sum of its parts' shares, each times its part of the width.
    pub fn split_intervals(&self, parts: &mut NetworkParts, column: usize, wanted: &[f32], bins: usize) {
        let Numeric::PiecewiseLinear { edges } = &parts.numeric[column] else { return };
        let mut finer = edges.clone();
        for edge in wanted {
            let at = finer.partition_point(|known| known < edge);
            let Some((before, after)) = at.checked_sub(1).zip(finer.get(at)).map(|(low, high)| (finer[low], *high))
            else {
                continue;
            };
            // Parts of less than a hundredth of the interval would have weights of no meaning.
            let (apart, width) = ((edge - before).min(after - edge), after - before);
            if finer.len() <= bins && apart > 0.01 * width && (1.0 / apart).is_normal() {
                finer.insert(at, *edge);
            }
        }
        if finer.len() == edges.len() {
            return;
        }
        let whole = edges.clone();
        let inputs = inputs_by_block(parts, |_, block, at| {
            if block != column {
                return at.map(|input| Input::Of(input, 1.0)).collect();
            }
            let part = |pair: &[f32]| {
                let interval = whole.partition_point(|edge| *edge <= pair[0]) - 1;
                let (low, high) = (f64::from(whole[interval]), f64::from(whole[interval + 1]));
                Input::Of(at.start + interval, (f64::from(pair[1]) - f64::from(pair[0])) / (high - low))
            };
            finer.windows(2).map(part).collect()
        });
        parts.numeric[column] = Numeric::PiecewiseLinear { edges: finer };
        self.remap(parts, &inputs);
    }

    /// Makes cross layers and what reads the input vector fit a grown one. A cross layer's factor of a part is that of
    /// the whole, so that parts still add up behind it. The first hidden layer must not be residual.
    fn remap(&self, parts: &mut NetworkParts, inputs: &[Input]) {
        let width = inputs.len();
        parts.baseline = inputs
            .iter()
            .map(|input| match input {
                Input::Of(of, _) => parts.baseline[*of],
                _ => 0.0,
            })
            .collect();
        for dense in &mut parts.cross {
            let old = dense.outputs as usize;
            let from = |values: &[f32]| -> Vec<f32> {
                inputs.iter().map(|input| if let Input::Of(of, _) = input { values[*of] } else { 0.0 }).collect()
            };
            let row = |input: &Input| match input {
                Input::Of(of, share) => scaled(from(&dense.weights[of * old..(of + 1) * old]), *share),
                _ => vec![0.0; width],
            };
            dense.weights = inputs.iter().flat_map(row).collect();
            dense.bias = from(&dense.bias);
            (dense.inputs, dense.outputs) = (width as u32, width as u32);
        }
        let spread = if parts.hidden.is_empty() { 3.0 } else { 6.0 };
        let reader = parts.hidden.first_mut().map_or(&mut parts.output, |layer| &mut layer.dense);
        let outputs = reader.outputs as usize;
        let size = (spread / width.max(1) as f64).sqrt();
        let row = |(at, input): (usize, &Input)| match input {
            Input::Of(of, share) => scaled(reader.weights[of * outputs..(of + 1) * outputs].to_vec(), *share),
            Input::Zero => {
                (0..outputs).map(|output| (size * self.draw(4, width, at * outputs + output)) as f32).collect()
            }
            Input::Unread => vec![0.0; outputs],
        };
        reader.weights = inputs.iter().enumerate().flat_map(row).collect();
        reader.inputs = width as u32;
    }
}

/// Adds cross layers above those that are there; with weights of zero they pass their inputs on.
pub(super) fn add_cross(parts: &mut NetworkParts, layers: usize) {
    let width = parts.baseline.len();
    let zeros = || Dense {
        inputs: width as u32,
        outputs: width as u32,
        weights: vec![0.0; width * width],
        bias: vec![0.0; width],
    };
    parts.cross.resize_with(layers.max(parts.cross.len()), zeros);
}

/// Gives a table with a row for each id as many rows as there are `origins`: copies of the rows that these name.
pub(super) fn extend_table(table: &mut Table, origins: &[u32]) {
    let dimension = table.dimension as usize;
    let row = |origin: &u32| table.weights[*origin as usize * dimension..][..dimension].to_vec();
    table.weights = origins.iter().flat_map(row).collect();
    table.ids = origins.len() as u32;
}

/// Lets a layer have inputs that it does not read yet.
fn add_unread(dense: &mut Dense, inputs: usize) {
    dense.weights.resize(inputs * dense.outputs as usize, 0.0);
    dense.inputs = inputs as u32;
}

fn scaled(mut row: Vec<f32>, share: f64) -> Vec<f32> {
    row.iter_mut().for_each(|weight| *weight = (f64::from(*weight) * share) as f32);
    row
}

/// The inputs of all blocks in order; `block` is told a block's place and where its inputs stand now.
fn inputs_by_block(
    parts: &NetworkParts,
    block: impl Fn(&NetworkParts, usize, std::ops::Range<usize>) -> Vec<Input>,
) -> Vec<Input> {
    let mut start = 0;
    let own = |(at, width): (usize, usize)| {
        let inputs = start..start + width;
        start = inputs.end;
        block(parts, at, inputs)
    };
    parts.blocks().into_iter().enumerate().flat_map(own).collect()
}

/// All inputs as they are, and those of a block that had none.
fn inserted(parts: &NetworkParts, block: usize, new: Vec<Input>) -> Vec<Input> {
    inputs_by_block(
        parts,
        |_, at, inputs| {
            if at == block { new.clone() } else { inputs.map(|input| Input::Of(input, 1.0)).collect() }
        },
    )
}

#[cfg(test)]
mod tests;
