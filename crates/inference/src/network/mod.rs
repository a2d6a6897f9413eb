//! Embeddings of categories, encodings of numbers, and a tower of dense layers. Knows nothing of training.

mod bytes;
mod contributions;
pub mod encode;
mod parts;
pub mod quantized;
mod shrink;
pub mod tower;

pub use parts::{DIMENSION_MAX, Dense, Hidden, NetworkParts, Numeric, Place, TABLE_NUMBERS_MAX, Table, slot_ids};

use crate::model::{Contributions, Model, ModelError, check_inputs};
use encode::{Encoder, look_up};
use tower::{Direction, Shape, Tower, Trace, Units};
use vocabulary::inputs::{Inputs, Layout};

/// Rows that go through the layers at once: their activations stay in the cache (a few hundred numbers each).
const BLOCK_ROWS: usize = 64;

/// Scores of a row: see [`NetworkParts`] for its way. In single precision up to the output's sums, each a chain of fused
/// multiply-adds in fixed order; scale and link in double precision.
pub struct NetworkModel {
    parts: NetworkParts,
    layout: Layout,
    encoders: Vec<Encoder>,
    tower: Tower,
}

impl NetworkModel {
    pub const KIND: &'static str = "network";

    pub fn new(parts: NetworkParts, layout: Layout) -> Result<Self, ModelError> {
        parts.check(&layout)?;
        let encoders = parts.numeric.iter().map(Encoder::new).collect();
        let mut tower = Tower::new(parts.shape(), Direction::Forward);
        tower.load(&parts.weights());
        Ok(NetworkModel { parts, layout, encoders, tower })
    }

    pub fn parts(&self) -> &NetworkParts {
        &self.parts
    }

    pub fn from_bytes(bytes: &[u8], layout: &Layout) -> Result<Self, ModelError> {
        NetworkModel::new(bytes::read(bytes, layout)?, layout.clone())
    }

    /// The input vectors of `rows`, row-major, into `out`.
    pub fn encode(&self, inputs: &Inputs, rows: std::ops::Range<usize>, out: &mut Vec<f32>) -> Result<(), ModelError> {
        let width = self.tower.shape().inputs;
        out.resize(rows.len() * width, 0.0);
        for (row, out) in rows.zip(out.chunks_exact_mut(width.max(1))) {
            let mut at = 0;
            for (value, encoder) in inputs.dense_row(row).iter().zip(&self.encoders) {
                let end = at + encoder.width();
                encoder.encode(*value, &mut out[at..end]);
                at = end;
            }
            for (slot, (&id, table)) in inputs.slot_row(row).iter().zip(&self.parts.slots).enumerate() {
                let Some(table) = table else { continue };
                let table = &self.parts.tables[*table as usize];
                if id >= table.ids {
                    let what = format!("slot {slot} of row {row} is {id}, its table is for {} ids", table.ids);
                    return Err(ModelError::Inputs { kind: Self::KIND, what });
                }
                let end = at + table.dimension as usize;
                look_up(table, id, &mut out[at..end]);
                at = end;
            }
        }
        Ok(())
    }

    /// An output's sum before the link.
    fn scaled(&self, sum: f32) -> f64 {
        f64::from(sum) * self.parts.deviation + self.parts.mean
    }
}

impl NetworkParts {
    pub fn shape(&self) -> Shape {
        let units = |layer: &Hidden| Units { count: layer.dense.outputs as usize, residual: layer.residual };
        Shape {
            inputs: self.width(),
            cross: self.cross.len(),
            hidden: self.hidden.iter().map(units).collect(),
            outputs: self.output.outputs as usize,
        }
    }

    /// The numbers of all layers in the order of [`Shape::places`].
    pub fn weights(&self) -> Vec<f32> {
        let layers = self.cross.iter().chain(self.hidden.iter().map(|layer| &layer.dense)).chain([&self.output]);
        layers.flat_map(|dense| dense.weights.iter().chain(&dense.bias)).copied().collect()
    }
}

impl Model for NetworkModel {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn outputs(&self) -> usize {
        self.parts.output.outputs as usize
    }

    fn predict(&self, inputs: &Inputs, out: &mut Vec<f64>) -> Result<(), ModelError> {
        check_inputs(Self::KIND, &self.layout, inputs)?;
        let outputs = self.outputs();
        out.clear();
        out.reserve(inputs.rows * outputs);
        let (mut block, mut trace) = (Vec::new(), Trace::default());
        for start in (0..inputs.rows).step_by(BLOCK_ROWS) {
            let rows = start..inputs.rows.min(start + BLOCK_ROWS);
            let count = rows.len();
            self.encode(inputs, rows, &mut block)?;
            self.tower.forward(&block, count, &mut trace, None);
            out.extend(trace.outputs.iter().map(|sum| self.scaled(*sum)));
        }
        out.chunks_exact_mut(outputs).for_each(|row| self.parts.link.apply_row(row));
        Ok(())
    }

    fn contributions(&self, inputs: &Inputs) -> Result<Contributions, ModelError> {
        check_inputs(Self::KIND, &self.layout, inputs)?;
        self.path_integrated(inputs)
    }

    fn to_bytes(&self) -> Vec<u8> {
        bytes::write(&self.parts)
    }
}

#[cfg(test)]
mod tests;
