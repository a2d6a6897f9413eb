//! From a row of [`Inputs`] to the input vector: numbers encoded, slots looked up. Knows no layer.

use super::parts::{Numeric, Place, Table};
use crate::elementary::{cos_turns, sin_turns};

/// A [`Numeric`] made ready: what costs a division is done once.
#[derive(Clone, Debug)]
pub enum Encoder {
    Unused,
    Plain,
    /// Lower edge and 1 / width of each interval.
    PiecewiseLinear(Vec<(f32, f32)>),
    Periodic(Vec<f32>),
}

impl Encoder {
    pub fn new(numeric: &Numeric) -> Encoder {
        match numeric {
            Numeric::Unused => Encoder::Unused,
            Numeric::Plain => Encoder::Plain,
            Numeric::PiecewiseLinear { edges } => {
                Encoder::PiecewiseLinear(edges.windows(2).map(|pair| (pair[0], 1.0 / (pair[1] - pair[0]))).collect())
            }
            Numeric::Periodic { frequencies } => Encoder::Periodic(frequencies.clone()),
        }
    }

    pub fn width(&self) -> usize {
        match self {
            Encoder::Unused => 0,
            Encoder::Plain => 1,
            Encoder::PiecewiseLinear(intervals) => intervals.len(),
            Encoder::Periodic(frequencies) => 2 * frequencies.len(),
        }
    }

    /// Writes the block of `value`, which may be NaN, into `out` of as many places.
    #[inline]
    pub fn encode(&self, value: f32, out: &mut [f32]) {
        let value = if value.is_nan() { 0.0 } else { value };
        match self {
            Encoder::Unused => {}
            Encoder::Plain => out[0] = value,
            Encoder::PiecewiseLinear(intervals) => {
                for ((lower, slope), place) in intervals.iter().zip(out.iter_mut()) {
                    *place = ((value - lower) * slope).clamp(0.0, 1.0);
                }
                // The outer intervals go on where the value is outside.
                let (first, last) = (intervals[0], intervals[intervals.len() - 1]);
                let (before, after) = ((value - first.0) * first.1, (value - last.0) * last.1);
                if before < 0.0 {
                    out[0] = before;
                }
                if after > 1.0 {
                    out[intervals.len() - 1] = after;
                }
            }
            Encoder::Periodic(frequencies) => {
                let (sines, cosines) = out.split_at_mut(frequencies.len());
                for ((frequency, sine), cosine) in frequencies.iter().zip(sines).zip(cosines) {
                    let turns = f64::from(*frequency) * f64::from(value);
                    *sine = sin_turns(turns) as f32;
                    *cosine = cos_turns(turns) as f32;
                }
            }
        }
    }
}

/// Writes the vector of `id` into `out` of `table.dimension` places. The id is below `table.ids`.
#[inline]
pub fn look_up(table: &Table, id: u32, out: &mut [f32]) {
    read(&table.weights, table.place, id, out);
}

/// As [`look_up`], of a table's stored rows.
#[inline]
pub fn read(weights: &[f32], place: Place, id: u32, out: &mut [f32]) {
    let dimension = out.len();
    let row = |row: usize| &weights[row * dimension..(row + 1) * dimension];
    let (first, second) = place.of(id);
    out.copy_from_slice(row(first));
    if let Some(second) = second {
        out.iter_mut().zip(row(second)).for_each(|(place, factor)| *place *= factor);
    }
}
