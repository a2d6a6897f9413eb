//! A network whose dense layers multiply 8-bit integers and whose embedding tables hold 8 or 4 bits a number. Made from
//! a [`NetworkModel`], answers like it within rounding, and gives the same bits for a row in any batch, on any machine.
//! Knows nothing of training.

mod bytes;
mod make;

pub use make::{DenseForm, QuantizeOptions, TableForm, quantize_network};

use super::encode::{Encoder, read};
use super::parts::DIMENSION_MAX;
use super::{BLOCK_ROWS, Dense, Hidden, NetworkModel, NetworkParts, Numeric, Place, Table};
use crate::kernels::dense::{Packed, multiply};
use crate::kernels::int8::{Finish, Int8Layer, QuantizedRows, Range};
use crate::kernels::rows::QuantizedTable;
use crate::model::{Contributions, Link, Model, ModelError, check_inputs};
use std::sync::OnceLock;
use vocabulary::inputs::{Inputs, Layout};

/// A network after rounding. The way of a row is that of [`NetworkParts`].
pub struct QuantizedNetwork {
    parts: Parts,
    layout: Layout,
    encoders: Vec<Encoder>,
    /// The network of the rounded numbers, which reasons are found with; made when they are first asked for.
    numbers: OnceLock<NetworkModel>,
}

/// As [`NetworkParts`] has them.
#[derive(Debug)]
struct Parts {
    link: Link,
    numeric: Vec<Numeric>,
    tables: Vec<TableRows>,
    slots: Vec<Option<u32>>,
    /// Cross layers, hidden layers, output layer.
    cross: Vec<Layer>,
    hidden: Vec<(Layer, Residual)>,
    output: Layer,
    mean: f64,
    deviation: f64,
    baseline: Vec<f32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Residual {
    No,
    /// The layer adds its inputs.
    Yes,
}

#[derive(Debug)]
struct TableRows {
    ids: u32,
    dimension: u32,
    place: Place,
    rows: Stored,
}

#[derive(Debug)]
enum Stored {
    Single(Vec<f32>),
    Rounded(QuantizedTable),
}

/// An affine map, with a rectifier in hidden layers.
#[derive(Debug)]
enum Layer {
    Single(SingleLayer),
    Int8(Int8Step),
}

#[derive(Debug)]
struct SingleLayer {
    dense: Dense,
    packed: Packed,
    finish: Finish,
}

#[derive(Debug)]
struct Int8Step {
    layer: Int8Layer,
    /// Powers of two that the inputs are multiplied with, and the weights divided by, so that inputs of different sizes
    /// share one scale (Xiao et al., "SmoothQuant", ICML 2023); empty where there are none.
    factors: Vec<f32>,
    /// Found by calibration; without, each row has its own.
    range: Option<Range>,
}

/// A layer of integers as plain data, for export.
pub(crate) struct Integers {
    pub inputs: usize,
    /// Row-major, `inputs * outputs`.
    pub weights: Vec<i8>,
    /// One for each output, like the bias.
    pub scales: Vec<f32>,
    pub bias: Vec<f32>,
    /// What each input is multiplied with first; empty for nothing.
    pub factors: Vec<f32>,
    /// Without, each row has its own.
    pub range: Option<Range>,
}

/// Memory of a call, made once.
#[derive(Default)]
struct Work {
    inputs: Vec<f32>,
    current: Vec<f32>,
    next: Vec<f32>,
    factors: Vec<f32>,
    scaled: Vec<f32>,
    rows: QuantizedRows,
}

/// What looks at the inputs of each layer on their way; layers are numbered in the order of the way.
type Observer<'a> = &'a mut dyn FnMut(usize, &[f32]);

impl QuantizedNetwork {
    pub const KIND: &'static str = "quantized_network";

    fn new(parts: Parts, layout: Layout) -> Result<Self, ModelError> {
        // Every shape is that of the network of the rounded numbers; of tables, only the sizes are looked at.
        parts.numbers(TableRows::zeros).check(&layout).map_err(own)?;
        let encoders = parts.numeric.iter().map(Encoder::new).collect();
        Ok(QuantizedNetwork { parts, layout, encoders, numbers: OnceLock::new() })
    }

    pub fn from_bytes(bytes: &[u8], layout: &Layout) -> Result<Self, ModelError> {
        QuantizedNetwork::new(bytes::read(bytes)?, layout.clone())
    }

    /// The network of the rounded numbers: what it would be without a faster arithmetic.
    pub fn rounded(&self) -> Result<NetworkModel, ModelError> {
        NetworkModel::new(self.parts.numbers(TableRows::numbers), self.layout.clone()).map_err(own)
    }

    /// Layers that multiply integers, of all layers.
    pub fn int8_layers(&self) -> (usize, usize) {
        let layers = self.parts.layers();
        let integers = layers.iter().filter(|layer| matches!(layer, Layer::Int8(_))).count();
        (integers, layers.len())
    }

    /// For each layer in the order of the way, what it multiplies; none where it stays in single precision.
    pub(crate) fn integers(&self) -> Vec<Option<Integers>> {
        let integers = |layer: &&Layer| match layer {
            Layer::Single(_) => None,
            Layer::Int8(Int8Step { layer, factors, range }) => Some(Integers {
                inputs: layer.inputs(),
                weights: layer.integers(),
                scales: layer.scales().to_vec(),
                bias: layer.bias().to_vec(),
                factors: factors.clone(),
                range: *range,
            }),
        };
        self.parts.layers().iter().map(integers).collect()
    }

    /// The input vectors of `rows`, row-major, into `out`.
    fn encode(&self, inputs: &Inputs, rows: std::ops::Range<usize>, out: &mut Vec<f32>) -> Result<(), ModelError> {
        let width = self.parts.baseline.len();
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
                table.look_up(id, &mut out[at..end]);
                at = end;
            }
        }
        Ok(())
    }

    /// The outputs' sums of the rows in `work.inputs` into `out`.
    fn forward(&self, count: usize, work: &mut Work, mut observer: Option<Observer>, out: &mut Vec<f32>) {
        let Work { inputs, current, next, factors, scaled, rows } = work;
        let mut see = |at: usize, values: &[f32]| {
            if let Some(observer) = &mut observer {
                observer(at, values);
            }
        };
        current.clear();
        current.extend_from_slice(inputs);
        for (at, layer) in self.parts.cross.iter().enumerate() {
            see(at, current);
            layer.run(current, count, scaled, rows, factors);
            for ((x, x0), factor) in current.iter_mut().zip(inputs.iter()).zip(factors.iter()) {
                *x += x0 * factor;
            }
        }
        let before = self.parts.cross.len();
        for (at, (layer, residual)) in self.parts.hidden.iter().enumerate() {
            see(before + at, current);
            layer.run(current, count, scaled, rows, next);
            if *residual == Residual::Yes {
                next.iter_mut().zip(current.iter()).for_each(|(unit, x)| *unit += x);
            }
            std::mem::swap(current, next);
        }
        see(before + self.parts.hidden.len(), current);
        self.parts.output.run(current, count, scaled, rows, out);
    }

    /// The sums before the link, row-major.
    fn sums(&self, inputs: &Inputs, mut observer: Option<Observer>, out: &mut Vec<f64>) -> Result<(), ModelError> {
        let (mut work, mut sums) = (Work::default(), Vec::new());
        for start in (0..inputs.rows).step_by(BLOCK_ROWS) {
            let rows = start..inputs.rows.min(start + BLOCK_ROWS);
            let count = rows.len();
            self.encode(inputs, rows, &mut work.inputs)?;
            // Reborrowed by hand: the observer outlives each block.
            let observer: Option<Observer> = match &mut observer {
                Some(observer) => Some(&mut **observer),
                None => None,
            };
            self.forward(count, &mut work, observer, &mut sums);
            out.extend(sums.iter().map(|sum| f64::from(*sum) * self.parts.deviation + self.parts.mean));
        }
        match out.iter().position(|sum| !sum.is_finite()) {
            None => Ok(()),
            Some(at) => {
                let what = format!("row {} has values too large to compute with", at / self.outputs());
                Err(ModelError::Inputs { kind: Self::KIND, what })
            }
        }
    }
}

impl Model for QuantizedNetwork {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn outputs(&self) -> usize {
        self.parts.output.outputs()
    }

    fn predict(&self, inputs: &Inputs, out: &mut Vec<f64>) -> Result<(), ModelError> {
        check_inputs(Self::KIND, &self.layout, inputs)?;
        out.clear();
        out.reserve(inputs.rows * self.outputs());
        self.sums(inputs, None, out)?;
        out.chunks_exact_mut(self.outputs()).for_each(|row| self.parts.link.apply_row(row));
        Ok(())
    }

    /// Those of the network of the rounded numbers; what rounding the activations changes of a sum is spread over the
    /// parts in proportion to their size.
    fn contributions(&self, inputs: &Inputs) -> Result<Contributions, ModelError> {
        check_inputs(Self::KIND, &self.layout, inputs)?;
        let numbers = match self.numbers.get() {
            Some(numbers) => numbers,
            None => {
                let made = self.rounded()?;
                self.numbers.get_or_init(|| made)
            }
        };
        let mut found = numbers.contributions(inputs).map_err(own)?;
        let mut sums = Vec::new();
        self.sums(inputs, None, &mut sums)?;
        let parts = found.parts.chunks_exact_mut(found.width.max(1));
        for ((sum, base), parts) in sums.iter().zip(&mut found.base).zip(parts) {
            let size: f64 = parts.iter().map(|part| part.abs()).sum();
            let residual = sum - *base - parts.iter().sum::<f64>();
            if size == 0.0 {
                *base += residual;
            } else {
                parts.iter_mut().for_each(|part| *part += residual * (part.abs() / size));
            }
        }
        Ok(found)
    }

    fn to_bytes(&self) -> Vec<u8> {
        bytes::write(&self.parts)
    }
}

/// The error of a network under the name of this one.
fn own(error: ModelError) -> ModelError {
    let kind = QuantizedNetwork::KIND;
    match error {
        ModelError::Parts { what, .. } => ModelError::Parts { kind, what },
        ModelError::Inputs { what, .. } => ModelError::Inputs { kind, what },
        other => other,
    }
}

impl Parts {
    fn layers(&self) -> Vec<&Layer> {
        self.cross.iter().chain(self.hidden.iter().map(|(layer, _)| layer)).chain([&self.output]).collect()
    }

    /// The rounded numbers as a network's, with the weights of tables by `weights`.
    fn numbers(&self, weights: fn(&TableRows) -> Vec<f32>) -> NetworkParts {
        let table = |table: &TableRows| {
            let TableRows { ids, dimension, place, .. } = *table;
            Table { ids, dimension, place, weights: weights(table) }
        };
        let hidden = |(layer, residual): &(Layer, Residual)| Hidden {
            dense: layer.numbers(),
            residual: *residual == Residual::Yes,
        };
        NetworkParts {
            link: self.link,
            numeric: self.numeric.clone(),
            tables: self.tables.iter().map(table).collect(),
            slots: self.slots.clone(),
            cross: self.cross.iter().map(Layer::numbers).collect(),
            hidden: self.hidden.iter().map(hidden).collect(),
            output: self.output.numbers(),
            mean: self.mean,
            deviation: self.deviation,
            baseline: self.baseline.clone(),
        }
    }
}

impl TableRows {
    fn numbers(&self) -> Vec<f32> {
        match &self.rows {
            Stored::Single(weights) => weights.clone(),
            Stored::Rounded(rows) => rows.numbers(),
        }
    }

    /// As many zeros.
    fn zeros(&self) -> Vec<f32> {
        let count = match &self.rows {
            Stored::Single(weights) => weights.len(),
            Stored::Rounded(rows) => rows.rows() * rows.width(),
        };
        vec![0.0; count]
    }

    /// Writes the vector of `id`, which is below `ids`, to `out`.
    #[inline]
    fn look_up(&self, id: u32, out: &mut [f32]) {
        let rows = match &self.rows {
            Stored::Single(weights) => return read(weights, self.place, id, out),
            Stored::Rounded(rows) => rows,
        };
        let (first, second) = self.place.of(id);
        rows.read(first, out);
        if let Some(second) = second {
            let mut factors = [0.0; DIMENSION_MAX];
            let factors = &mut factors[..out.len()];
            rows.read(second, factors);
            out.iter_mut().zip(factors.iter()).for_each(|(place, factor)| *place *= factor);
        }
    }
}

impl Layer {
    fn single(dense: Dense, finish: Finish) -> Layer {
        let packed = Packed::new(&dense.weights, dense.inputs as usize, dense.outputs as usize);
        Layer::Single(SingleLayer { dense, packed, finish })
    }

    fn outputs(&self) -> usize {
        match self {
            Layer::Single(single) => single.dense.outputs as usize,
            Layer::Int8(step) => step.layer.outputs(),
        }
    }

    fn numbers(&self) -> Dense {
        match self {
            Layer::Single(single) => single.dense.clone(),
            Layer::Int8(step) => step.numbers(),
        }
    }

    fn run(&self, x: &[f32], count: usize, scaled: &mut Vec<f32>, rows: &mut QuantizedRows, out: &mut Vec<f32>) {
        match self {
            Layer::Single(SingleLayer { dense, packed, finish }) => {
                out.resize(count * dense.outputs as usize, 0.0);
                multiply(x, count, packed, Some(&dense.bias), out);
                if *finish == Finish::Relu {
                    out.iter_mut().for_each(|sum| *sum = if *sum < 0.0 { 0.0 } else { *sum });
                }
            }
            Layer::Int8(step) => {
                let x = step.scaled(x, scaled);
                match step.range {
                    Some(range) => rows.within(range, x, step.layer.inputs()),
                    None => rows.dynamic(x, step.layer.inputs()),
                }
                step.layer.run(rows, out);
            }
        }
    }
}

impl Int8Step {
    /// The inputs times the factors, in `scaled` where there are some.
    fn scaled<'a>(&self, x: &'a [f32], scaled: &'a mut Vec<f32>) -> &'a [f32] {
        if self.factors.is_empty() {
            return x;
        }
        scaled.resize(x.len(), 0.0);
        for (scaled, x) in scaled.chunks_exact_mut(self.factors.len()).zip(x.chunks_exact(self.factors.len())) {
            scaled.iter_mut().zip(x).zip(&self.factors).for_each(|((scaled, x), factor)| *scaled = x * factor);
        }
        scaled
    }

    fn numbers(&self) -> Dense {
        let (inputs, outputs) = (self.layer.inputs(), self.layer.outputs());
        let integers = self.layer.integers();
        let scales = self.layer.scales();
        let row = |(at, row): (usize, &[i8])| {
            let factor = self.factors.get(at).copied().unwrap_or(1.0);
            row.iter().zip(scales).map(|(integer, scale)| f32::from(*integer) * scale * factor).collect::<Vec<_>>()
        };
        let weights = integers.chunks_exact(outputs).enumerate().flat_map(row).collect();
        Dense { inputs: inputs as u32, outputs: outputs as u32, weights, bias: self.layer.bias().to_vec() }
    }
}

#[cfg(test)]
mod tests;
