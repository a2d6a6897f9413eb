//! The numbers of an embedding table in memory, in single precision or in bfloat16. Knows no table.
//!
//! A step is often smaller than the distance of neighbouring bfloat16 numbers and would be lost if it were rounded to the
//! nearest; rounding up or down at random, in proportion to the distance, keeps it on average (Gupta et al., ICML 2015).

use std::ops::Range;
use vocabulary::model::EmbeddingStorage;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Rows {
    F32(Vec<f32>),
    Bf16(Vec<u16>),
}

impl Rows {
    /// Zeros, but ones from `ones_from` on.
    pub fn new(storage: EmbeddingStorage, count: usize, ones_from: usize) -> Rows {
        match storage {
            EmbeddingStorage::F32 => Rows::F32(filled(count, ones_from, 1.0)),
            EmbeddingStorage::Bf16 => Rows::Bf16(filled(count, ones_from, 0x3f80)),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Rows::F32(values) => values.len(),
            Rows::Bf16(values) => values.len(),
        }
    }

    pub fn read(&self, range: Range<usize>, out: &mut [f32]) {
        match self {
            Rows::F32(values) => out.copy_from_slice(&values[range]),
            Rows::Bf16(values) => out.iter_mut().zip(&values[range]).for_each(|(out, value)| *out = widened(*value)),
        }
    }

    /// Multiplies `out` by the numbers of `range`.
    pub fn multiply(&self, range: Range<usize>, out: &mut [f32]) {
        match self {
            Rows::F32(values) => out.iter_mut().zip(&values[range]).for_each(|(out, value)| *out *= value),
            Rows::Bf16(values) => out.iter_mut().zip(&values[range]).for_each(|(out, value)| *out *= widened(*value)),
        }
    }

    /// `draw` gives the random bits for each four numbers; they are used by bfloat16 alone.
    pub fn write(&mut self, range: Range<usize>, row: &[f32], draw: impl Fn(u64) -> u64) {
        match self {
            Rows::F32(values) => values[range].copy_from_slice(row),
            Rows::Bf16(values) => {
                for (block, (values, row)) in values[range].chunks_mut(4).zip(row.chunks(4)).enumerate() {
                    let drawn = draw(block as u64);
                    for (at, (value, new)) in values.iter_mut().zip(row).enumerate() {
                        *value = narrowed(*new, (drawn >> (16 * at)) as u16);
                    }
                }
            }
        }
    }

    pub fn to_f32(&self) -> Vec<f32> {
        match self {
            Rows::F32(values) => values.clone(),
            Rows::Bf16(values) => values.iter().map(|value| widened(*value)).collect(),
        }
    }

    /// Takes over numbers, each rounded to the nearest that can be kept.
    pub fn adopt(&mut self, from: &[f32]) {
        match self {
            Rows::F32(values) => values.copy_from_slice(from),
            Rows::Bf16(values) => values.iter_mut().zip(from).for_each(|(value, new)| *value = narrowed(*new, 1 << 15)),
        }
    }

    /// Takes back what [`Rows::to_f32`] gave, number by number.
    pub fn restore(&mut self, at: usize, value: f32) {
        match self {
            Rows::F32(values) => values[at] = value,
            Rows::Bf16(values) => values[at] = (value.to_bits() >> 16) as u16,
        }
    }
}

fn filled<T: Copy + Default>(count: usize, ones_from: usize, one: T) -> Vec<T> {
    let mut values = vec![T::default(); count];
    values[ones_from..].fill(one);
    values
}

fn widened(value: u16) -> f32 {
    f32::from_bits(u32::from(value) << 16)
}

/// Away from zero with the probability of what is cut off, else towards it. Numbers that are not finite stay so: the
/// model's own check has to see them.
fn narrowed(value: f32, random: u16) -> u16 {
    let bits = value.to_bits();
    let rounded = if value.is_finite() { bits.saturating_add(u32::from(random)) } else { bits };
    (rounded >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_right_on_average_and_exact_numbers_stay() {
        let draws = || (0..=u16::MAX).map(|random| f64::from(widened(narrowed(1.001, random))));
        let mean = draws().sum::<f64>() / 65_536.0;
        assert!((mean - f64::from(1.001f32)).abs() < 1e-6, "{mean}");
        assert!([0.0, 1.0, -0.5, 3.0].iter().all(|value| widened(narrowed(*value, u16::MAX)) == *value));
        assert!(!widened(narrowed(f32::NAN, 7)).is_finite() && !widened(narrowed(f32::INFINITY, 7)).is_finite());
        assert!(widened(narrowed(f32::MAX, u16::MAX)) == f32::INFINITY);
    }
}
