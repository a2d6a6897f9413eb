//! From single-precision rows to bytes: x = scale * (q - zero), where 0 is always met exactly (Jacob et al. 2018,
//! arXiv:1712.05877; ONNX's DynamicQuantizeLinear, but row by row).

#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "functions compiled for instructions that were found")
)]

use super::{GROUP, INPUTS_MAX, Path};

/// Adding and subtracting it rounds a number below 2^22 to whole, ties to even.
const ROUNDER: f32 = 12_582_912.0;

/// A range that is narrower counts as none.
pub(crate) const SPAN_MIN: f32 = f32::MIN_POSITIVE * 256.0;

/// Numbers that are looked at together.
const LANES: usize = 16;

/// Where the values of a layer's inputs lie: found on calibration rows, for static quantization.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    pub low: f32,
    pub high: f32,
}

impl Range {
    /// The step, its inverse, and the place of 0 among the steps. The range is widened to hold 0.
    pub(crate) fn steps(self) -> (f32, f32, i32) {
        let (low, high) = (self.low.min(0.0), self.high.max(0.0));
        let span = high - low;
        // Below, a step would have lost its digits; there is nothing but zeros then.
        if span < SPAN_MIN {
            return (0.0, 0.0, 0);
        }
        let scale = span / 255.0;
        if !scale.is_finite() {
            return (f32::NAN, 0.0, 0);
        }
        // Rounded once more from the inverse, which every machine does alike.
        let zero = (-low / scale).round_ties_even().clamp(0.0, 255.0);
        (scale, 1.0 / scale, zero as i32)
    }
}

/// Rows of bytes, each with its scale and zero. Kept by the caller from call to call, so that it allocates once.
#[derive(Clone, Debug, Default)]
pub struct QuantizedRows {
    rows: usize,
    width: usize,
    /// Row-major, each row filled up to a multiple of four.
    values: Vec<u8>,
    scales: Vec<f32>,
    zeros: Vec<i32>,
}

impl QuantizedRows {
    /// Quantizes each row of `x`, row-major `rows x width`, by the range of its own values. A row with a value that is
    /// not finite has a scale that is no number, so that its outputs are none either.
    ///
    /// # Panics
    /// Where `x` has another length, or `width` is not 1 to [`INPUTS_MAX`].
    pub fn dynamic(&mut self, x: &[f32], width: usize) {
        self.fill(x, width, None);
    }

    /// As [`QuantizedRows::dynamic`], by one range for all; values outside it become its ends.
    ///
    /// # Panics
    /// Where `x` has another length, or `width` is not 1 to [`INPUTS_MAX`].
    pub fn within(&mut self, range: Range, x: &[f32], width: usize) {
        self.fill(x, width, Some(range));
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn width(&self) -> usize {
        self.width
    }

    /// Bytes from one row to the next.
    pub(super) fn stride(&self) -> usize {
        self.width.next_multiple_of(GROUP)
    }

    /// A row with what fills it up.
    pub(super) fn row(&self, row: usize) -> &[u8] {
        &self.values[row * self.stride()..(row + 1) * self.stride()]
    }

    /// Rows `from..from + count`.
    pub(super) fn span(&self, from: usize, count: usize) -> &[u8] {
        &self.values[from * self.stride()..(from + count) * self.stride()]
    }

    pub(super) fn scale_and_zero(&self, row: usize) -> (f32, i32) {
        (self.scales[row], self.zeros[row])
    }

    fn fill(&mut self, x: &[f32], width: usize, range: Option<Range>) {
        assert!((1..=INPUTS_MAX).contains(&width) && x.len().is_multiple_of(width), "whole rows of a possible width");
        (self.rows, self.width) = (x.len() / width, width);
        // What fills rows up meets weights of 0: its value does not matter.
        self.values.resize(self.rows * self.stride(), 0);
        self.scales.resize(self.rows, 0.0);
        self.zeros.resize(self.rows, 0);
        let fixed = range.map(Range::steps);
        let stride = self.stride();
        for (row, x) in x.chunks_exact(width).enumerate() {
            let into = &mut self.values[row * stride..row * stride + width];
            let (scale, zero) = quantize_row(x, fixed, into);
            (self.scales[row], self.zeros[row]) = (scale, zero);
        }
    }
}

fn quantize_row(x: &[f32], fixed: Option<(f32, f32, i32)>, into: &mut [u8]) -> (f32, i32) {
    #[cfg(target_arch = "x86_64")]
    match Path::best() {
        // Safety: the path was found on this machine, and with it the instructions that the function is compiled for.
        Path::Avx512Vnni => return unsafe { quantize_row_avx512(x, fixed, into) },
        // Safety: as above.
        Path::AvxVnni | Path::Avx2 => return unsafe { quantize_row_avx2(x, fixed, into) },
        Path::Portable => {}
    }
    quantize_row_inline(x, fixed, into)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn quantize_row_avx512(x: &[f32], fixed: Option<(f32, f32, i32)>, into: &mut [u8]) -> (f32, i32) {
    quantize_row_inline(x, fixed, into)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn quantize_row_avx2(x: &[f32], fixed: Option<(f32, f32, i32)>, into: &mut [u8]) -> (f32, i32) {
    quantize_row_inline(x, fixed, into)
}

#[inline(always)]
fn quantize_row_inline(x: &[f32], fixed: Option<(f32, f32, i32)>, into: &mut [u8]) -> (f32, i32) {
    let (range, finite) = range_of(x);
    let (scale, inverse, zero) = fixed.unwrap_or_else(|| range.steps());
    if !finite || !scale.is_finite() {
        into.fill(0);
        return (f32::NAN, 0);
    }
    let whole = x.len() / LANES * LANES;
    steps_of(&x[..whole], &mut into[..whole], inverse, zero as f32);
    // What is left over goes along as a whole chunk too, rather than one by one.
    let (rest, into) = (&x[whole..], &mut into[whole..]);
    let (mut last, mut bytes) = ([0.0; LANES], [0; LANES]);
    last[..rest.len()].copy_from_slice(rest);
    steps_of(&last, &mut bytes, inverse, zero as f32);
    into.copy_from_slice(&bytes[..rest.len()]);
    (scale, zero)
}

#[inline(always)]
fn steps_of(x: &[f32], into: &mut [u8], inverse: f32, zero: f32) {
    let (low, high, base) = (-zero, 255.0 - zero, ROUNDER + zero);
    for (x, into) in x.iter().zip(into) {
        let steps = x * inverse;
        let steps = if steps < low { low } else { steps };
        let steps = if steps > high { high } else { steps };
        // The whole number of steps stands in the last bits of the sum.
        let whole = (steps + ROUNDER) - ROUNDER;
        *into = (whole + base).to_bits() as u8;
    }
}

/// The smallest and largest value, 0 among them, and whether all are finite. Found by numbers that order as the values
/// do: whole numbers have minima of many lanes.
#[inline(always)]
fn range_of(x: &[f32]) -> (Range, bool) {
    let (low, high) = x.iter().fold((0, 0), |(low, high): (i32, i32), value| {
        let place = place(value.to_bits());
        (low.min(place), high.max(place))
    });
    let value = |place: i32| f32::from_bits(self::place(place as u32) as u32);
    let finite = low > place(f32::NEG_INFINITY.to_bits()) && high < place(f32::INFINITY.to_bits());
    (Range { low: value(low), high: value(high) }, finite)
}

/// From the bits of a number to its place among all numbers, and back.
#[inline(always)]
fn place(bits: u32) -> i32 {
    let sign = (bits as i32) >> 31;
    bits as i32 ^ (sign & i32::MAX)
}
