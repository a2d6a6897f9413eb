//! Dense layers in 8-bit integers: `y = x W + b`, where each row of `x` is `u8` with a scale and a zero of its own and
//! each column of `W` is `i8` with a scale of its own. Products are summed exactly in 32 bits, so that every path below
//! and every order gives the same integers, and a row gets the same bits in any batch. Knows nothing of models.

mod path;
mod portable;
mod quantize;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use path::Path;
pub(crate) use quantize::SPAN_MIN;
pub use quantize::{QuantizedRows, Range};

use crate::kernels::int8::path::Tile;

/// Products summed in one number: 255 * 127 * 65,536 is the last multiple below 2^31.
pub const INPUTS_MAX: usize = 65_536;

/// Weights lie in panels of this many columns, four rows of each column together: the 64 bytes of one vector.
const PANEL: usize = 16;
const GROUP: usize = 4;

/// Weights reach from -127 to 127: -128 would have no opposite.
const WEIGHT_MAX: f32 = 127.0;

/// What follows the sum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    Linear,
    /// Negative sums become 0; not-a-number stays.
    Relu,
}

/// A dense layer whose weights are `i8` with one scale for each output: w = scale * q (Jacob et al. 2018,
/// arXiv:1712.05877, without a zero).
#[derive(Clone, Debug, PartialEq)]
pub struct Int8Layer {
    inputs: usize,
    outputs: usize,
    /// `[panel][group of four inputs][column of the panel][input of the group]`, filled up with zeros.
    packed: Vec<i8>,
    /// Sum of each column's integers, which the zero of a row is multiplied with.
    sums: Vec<i32>,
    /// One for each output, like the sums and the bias filled up to whole panels.
    scales: Vec<f32>,
    bias: Vec<f32>,
    finish: Finish,
}

/// Why a layer cannot be made.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum LayerError {
    #[error("{inputs} inputs and {outputs} outputs; 1 to {INPUTS_MAX} inputs and at least one output are possible")]
    Size { inputs: usize, outputs: usize },
    #[error("{found} {what}, where {wanted} are expected")]
    Count { what: &'static str, found: usize, wanted: usize },
    #[error("a weight, scale or bias is not finite")]
    NotFinite,
    #[error("a weight is -128; weights reach from -127 to 127")]
    Weight,
}

impl Int8Layer {
    /// Rounds `weights`, row-major `inputs x outputs`, to 127 steps of each column's largest magnitude.
    pub fn quantize(
        inputs: usize,
        outputs: usize,
        weights: &[f32],
        bias: &[f32],
        finish: Finish,
    ) -> Result<Self, LayerError> {
        check_counts(inputs, outputs, weights.len(), bias.len(), outputs)?;
        if !weights.iter().all(|weight| weight.is_finite()) {
            return Err(LayerError::NotFinite);
        }
        let mut largest = vec![0f32; outputs];
        for row in weights.chunks_exact(outputs) {
            largest.iter_mut().zip(row).for_each(|(largest, weight)| *largest = largest.max(weight.abs()));
        }
        let scales: Vec<f32> = largest.iter().map(|largest| largest / WEIGHT_MAX).collect();
        let step = |weight: f32, scale: f32| {
            // A scale of 0, or so small that it lost its digits, leaves nothing but zeros.
            if scale < f32::MIN_POSITIVE { 0 } else { (weight / scale).round_ties_even().clamp(-127.0, 127.0) as i8 }
        };
        let integers: Vec<i8> = weights
            .chunks_exact(outputs)
            .flat_map(|row| row.iter().zip(&scales).map(|(weight, scale)| step(*weight, *scale)))
            .collect();
        Self::from_integers(inputs, outputs, &integers, &scales, bias, finish)
    }

    /// `weights` row-major, `inputs x outputs`; one scale and bias for each output.
    pub fn from_integers(
        inputs: usize,
        outputs: usize,
        weights: &[i8],
        scales: &[f32],
        bias: &[f32],
        finish: Finish,
    ) -> Result<Self, LayerError> {
        check_counts(inputs, outputs, weights.len(), bias.len(), scales.len())?;
        if !scales.iter().chain(bias).all(|number| number.is_finite()) {
            return Err(LayerError::NotFinite);
        }
        if weights.contains(&i8::MIN) {
            return Err(LayerError::Weight);
        }
        let (groups, panels) = (inputs.div_ceil(GROUP), outputs.div_ceil(PANEL));
        let mut packed = vec![0; panels * groups * PANEL * GROUP];
        let mut sums = vec![0; panels * PANEL];
        for (input, row) in weights.chunks_exact(outputs).enumerate() {
            for (output, weight) in row.iter().enumerate() {
                packed[place(groups, input, output)] = *weight;
                sums[output] += i32::from(*weight);
            }
        }
        let padded = |values: &[f32]| {
            let mut values = values.to_vec();
            values.resize(panels * PANEL, 0.0);
            values
        };
        Ok(Int8Layer { inputs, outputs, packed, sums, scales: padded(scales), bias: padded(bias), finish })
    }

    pub fn inputs(&self) -> usize {
        self.inputs
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }

    pub fn finish(&self) -> Finish {
        self.finish
    }

    pub fn scales(&self) -> &[f32] {
        &self.scales[..self.outputs]
    }

    pub fn bias(&self) -> &[f32] {
        &self.bias[..self.outputs]
    }

    /// The integers, row-major `inputs x outputs`.
    pub fn integers(&self) -> Vec<i8> {
        let groups = self.inputs.div_ceil(GROUP);
        let places = (0..self.inputs).flat_map(|input| (0..self.outputs).map(move |output| (input, output)));
        places.map(|(input, output)| self.packed[place(groups, input, output)]).collect()
    }

    /// Memory of the weights and what goes with them, in bytes.
    pub fn bytes(&self) -> usize {
        self.packed.len() + 12 * self.sums.len()
    }

    /// Replaces `out` by the layer's outputs, row-major `rows x outputs`, on the fastest path of this machine.
    ///
    /// # Panics
    /// Where the rows have another width than the layer.
    pub fn run(&self, rows: &QuantizedRows, out: &mut Vec<f32>) {
        self.run_on(Path::best(), rows, out);
    }

    /// As [`Int8Layer::run`], on a path of the caller's choice; one that this machine lacks is the portable one.
    ///
    /// # Panics
    /// Where the rows have another width than the layer.
    pub fn run_on(&self, path: Path, rows: &QuantizedRows, out: &mut Vec<f32>) {
        assert_eq!(rows.width(), self.inputs, "the rows are as wide as the layer");
        // Every place is written below.
        out.resize(rows.rows() * self.outputs, 0.0);
        let panels = self.outputs.div_ceil(PANEL);
        let path = if path.is_here() { path } else { Path::Portable };
        let (rows_at_once, panels_at_once) = path.tile();
        let mut panel = 0;
        while panel < panels {
            // 4, 2 or 1 panels: each number has a kernel of its own.
            let wide = (1..=panels_at_once).rev().find(|wide| wide.is_power_of_two() && panel + wide <= panels);
            let wide = wide.unwrap_or(1);
            for row in (0..rows.rows()).step_by(rows_at_once) {
                let tile = Tile { row, rows: rows_at_once.min(rows.rows() - row), panel, panels: wide };
                path.run(self, rows, tile, out);
            }
            panel += wide;
        }
    }
}

/// Where the packed form has the weight from `input` to `output`.
fn place(groups: usize, input: usize, output: usize) -> usize {
    let block = output / PANEL * groups + input / GROUP;
    (block * PANEL + output % PANEL) * GROUP + input % GROUP
}

fn check_counts(inputs: usize, outputs: usize, weights: usize, bias: usize, scales: usize) -> Result<(), LayerError> {
    if !(1..=INPUTS_MAX).contains(&inputs) || outputs == 0 {
        return Err(LayerError::Size { inputs, outputs });
    }
    let wanted = inputs.checked_mul(outputs).ok_or(LayerError::Size { inputs, outputs })?;
    for (what, found, wanted) in [("weights", weights, wanted), ("biases", bias, outputs), ("scales", scales, outputs)]
    {
        if found != wanted {
            return Err(LayerError::Count { what, found, wanted });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
