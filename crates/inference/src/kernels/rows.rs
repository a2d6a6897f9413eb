//! Rows of embedding tables in 8 or 4 bits, each with a scale and an offset of its own: x = unit * (scale * q + offset).
//! Scale and offset are half-precision numbers that stand before the row's integers, so that a look-up touches memory
//! once. Everything rounds in single operations: a row has the same bits on any machine. Knows nothing of models.

use half::f16;

/// Bytes of a row's scale and offset.
const HEAD: usize = 4;

/// The search for the best range moves its ends by this part of the row's range, and ends where this part is left:
/// the values of Guan et al. 2019, arXiv:1911.02079, section 3.
const SEARCH_STEPS: u32 = 200;
const SEARCH_LEFT: f32 = 0.84;

/// How many bits a number has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowBits {
    Eight,
    Four,
}

impl RowBits {
    fn largest(self) -> f32 {
        match self {
            RowBits::Eight => 255.0,
            RowBits::Four => 15.0,
        }
    }

    /// Bytes of a row of `width` numbers.
    pub fn stride(self, width: usize) -> usize {
        HEAD + self.packed(width)
    }

    /// Bytes of its integers.
    fn packed(self, width: usize) -> usize {
        match self {
            RowBits::Eight => width,
            RowBits::Four => width.div_ceil(2),
        }
    }
}

/// Why a table cannot be made.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum TableError {
    #[error("{found} {what} for {rows} rows of {width}, where {wanted} are expected")]
    Count { what: &'static str, found: usize, rows: usize, width: usize, wanted: usize },
    #[error("row {row} has a number, scale or offset that is not finite")]
    NotFinite { row: usize },
    #[error("the unit {0} of the scales is no positive number")]
    Unit(f32),
}

/// A table of `rows` rows of `width` numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedTable {
    rows: usize,
    width: usize,
    bits: RowBits,
    /// What scales and offsets are multiplied with: the largest magnitude of the table, since half precision has few
    /// digits far from 1.
    unit: f32,
    /// For each row scale, offset and integers; of four bits, the first of two in the lower half.
    packed: Vec<u8>,
}

/// Scale and offset of a row, in parts of the unit.
#[derive(Clone, Copy)]
struct Steps {
    scale: f16,
    offset: f16,
}

impl QuantizedTable {
    /// Rounds a row-major table of rows of `width` numbers: in 8 bits from the row's smallest to its largest, in 4 bits
    /// over the part of that range with the least squared error (the greedy search of Guan et al. 2019).
    pub fn quantize(table: &[f32], width: usize, bits: RowBits) -> Result<QuantizedTable, TableError> {
        let rows = table.len().checked_div(width).unwrap_or(0);
        check_count("numbers", table.len(), rows, width, rows.checked_mul(width))?;
        if let Some(at) = table.iter().position(|value| !value.is_finite()) {
            return Err(TableError::NotFinite { row: at / width });
        }
        let largest = table.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        let unit = if largest < f32::MIN_POSITIVE { 1.0 } else { largest };
        let mut packed = Vec::with_capacity(rows * bits.stride(width));
        let mut scaled = vec![0.0; width];
        for row in table.chunks_exact(width.max(1)) {
            scaled.iter_mut().zip(row).for_each(|(scaled, value)| *scaled = value / unit);
            let (low, high) = scaled.iter().fold((f32::MAX, f32::MIN), |(l, h), value| (l.min(*value), h.max(*value)));
            let steps = match bits {
                RowBits::Eight => Steps::over(low, high, bits),
                RowBits::Four => search(&scaled, low, high, bits),
            };
            packed.extend(steps.scale.to_le_bytes());
            packed.extend(steps.offset.to_le_bytes());
            let integers = scaled.iter().map(|value| steps.nearest(*value, bits) as u8);
            match bits {
                RowBits::Eight => packed.extend(integers),
                RowBits::Four => {
                    let integers: Vec<u8> = integers.collect();
                    packed.extend(integers.chunks(2).map(|two| two[0] | two.get(1).copied().unwrap_or(0) << 4));
                }
            }
        }
        Ok(QuantizedTable { rows, width, bits, unit, packed })
    }

    /// A table from its [`QuantizedTable::packed`] bytes.
    pub fn from_packed(
        rows: usize,
        width: usize,
        bits: RowBits,
        unit: f32,
        packed: Vec<u8>,
    ) -> Result<QuantizedTable, TableError> {
        let wanted = rows.checked_mul(bits.stride(width));
        check_count("bytes", packed.len(), rows, width, wanted)?;
        if !unit.is_finite() || unit <= 0.0 {
            return Err(TableError::Unit(unit));
        }
        let table = QuantizedTable { rows, width, bits, unit, packed };
        let finite = |row: &usize| {
            let (scale, offset) = table.steps(*row);
            scale.is_finite() && (scale * bits.largest() + offset).is_finite()
        };
        match (0..rows).find(|row| !finite(row)) {
            Some(row) => Err(TableError::NotFinite { row }),
            None => Ok(table),
        }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn width(&self) -> usize {
        self.width
    }

    pub fn bits(&self) -> RowBits {
        self.bits
    }

    pub fn unit(&self) -> f32 {
        self.unit
    }

    /// For each row two half-precision numbers, scale and offset, and its integers.
    pub fn packed(&self) -> &[u8] {
        &self.packed
    }

    /// Writes row `row` to `into`.
    ///
    /// # Panics
    /// Where the table has no such row, or `into` another width.
    #[inline]
    pub fn read(&self, row: usize, into: &mut [f32]) {
        assert_eq!(into.len(), self.width, "a row is as wide as its table");
        let (scale, offset) = self.steps(row);
        let integers = &self.row(row)[HEAD..];
        match self.bits {
            RowBits::Eight => {
                for (into, integer) in into.iter_mut().zip(integers) {
                    *into = f32::from(*integer) * scale + offset;
                }
            }
            RowBits::Four => {
                let (pairs, last) = into.as_chunks_mut::<2>();
                for (pair, byte) in pairs.iter_mut().zip(integers) {
                    *pair = [f32::from(byte & 15), f32::from(byte >> 4)].map(|integer| integer * scale + offset);
                }
                if let ([last], [.., byte]) = (last, integers) {
                    *last = f32::from(byte & 15) * scale + offset;
                }
            }
        }
    }

    /// Writes the rows `places` one after the other to `into`: false, and nothing of use there, where one is no row.
    #[must_use]
    pub fn gather(&self, places: &[u32], into: &mut [f32]) -> bool {
        if into.len() != places.len() * self.width || places.iter().any(|place| *place as usize >= self.rows) {
            return false;
        }
        let rows = into.chunks_exact_mut(self.width.max(1));
        rows.zip(places).for_each(|(into, place)| self.read(*place as usize, into));
        true
    }

    /// The whole table as the numbers that [`QuantizedTable::read`] gives.
    pub fn numbers(&self) -> Vec<f32> {
        let mut numbers = vec![0.0; self.rows * self.width];
        let rows = numbers.chunks_exact_mut(self.width.max(1));
        rows.enumerate().for_each(|(row, into)| self.read(row, into));
        numbers
    }

    fn row(&self, row: usize) -> &[u8] {
        let stride = self.bits.stride(self.width);
        &self.packed[row * stride..(row + 1) * stride]
    }

    /// Scale and offset in full.
    fn steps(&self, row: usize) -> (f32, f32) {
        let head = self.row(row);
        let half = |at: usize| f16::from_le_bytes([head[at], head[at + 1]]).to_f32();
        (half(0) * self.unit, half(2) * self.unit)
    }
}

fn check_count(
    what: &'static str,
    found: usize,
    rows: usize,
    width: usize,
    wanted: Option<usize>,
) -> Result<(), TableError> {
    match wanted {
        Some(wanted) if found == wanted => Ok(()),
        wanted => Err(TableError::Count { what, found, rows, width, wanted: wanted.unwrap_or(usize::MAX) }),
    }
}

impl Steps {
    /// From `low` to `high`, as far as half precision has them.
    fn over(low: f32, high: f32, bits: RowBits) -> Steps {
        let offset = f16::from_f32(low);
        Steps { scale: f16::from_f32((high - offset.to_f32()).max(0.0) / bits.largest()), offset }
    }

    /// The integer whose number is nearest.
    fn nearest(self, value: f32, bits: RowBits) -> f32 {
        let scale = self.scale.to_f32();
        if scale == 0.0 {
            return 0.0;
        }
        ((value - self.offset.to_f32()) / scale).round_ties_even().clamp(0.0, bits.largest())
    }

    /// Sum of the squared errors of a row.
    fn loss(self, row: &[f32], bits: RowBits) -> f64 {
        let (scale, offset) = (self.scale.to_f32(), self.offset.to_f32());
        let error = |value: &f32| f64::from(self.nearest(*value, bits) * scale + offset - value);
        row.iter().map(|value| error(value) * error(value)).sum()
    }
}

/// Takes a step off whichever end costs less, as long as part of the range is left; the best of all is kept.
fn search(row: &[f32], low: f32, high: f32, bits: RowBits) -> Steps {
    let step = (high - low) / SEARCH_STEPS as f32;
    let mut best = Steps::over(low, high, bits);
    let mut least = best.loss(row, bits);
    let (mut from, mut to) = (0, SEARCH_STEPS);
    let end = (SEARCH_STEPS as f32 * SEARCH_LEFT) as u32;
    while to - from > end && least > 0.0 {
        let range = |from: u32, to: u32| {
            let steps = Steps::over(low + step * from as f32, high - step * (SEARCH_STEPS - to) as f32, bits);
            (steps.loss(row, bits), steps)
        };
        let (raised, lowered) = (range(from + 1, to), range(from, to - 1));
        let (loss, steps) = if raised.0 < lowered.0 {
            from += 1;
            raised
        } else {
            to -= 1;
            lowered
        };
        if loss < least {
            (least, best) = (loss, steps);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Rows whose numbers are dense around a middle, as those of embeddings are.
    fn bells(rows: usize, width: usize) -> Vec<f32> {
        let uniform = |at: usize| {
            let bits = (at as u32).wrapping_mul(2_654_435_761);
            let bits = (bits ^ (bits >> 15)).wrapping_mul(0x2c1b_3c6d);
            ((bits ^ (bits >> 12)) >> 8) as f32 / 16_777_216.0 - 0.5
        };
        (0..rows * width).map(|at| 0.02 * (0..6).map(|part| uniform(at * 6 + part)).sum::<f32>()).collect()
    }

    fn error(table: &[f32], quantized: &QuantizedTable) -> f64 {
        let numbers = quantized.numbers();
        let squares = table.iter().zip(&numbers).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
        (squares / table.iter().map(|a| f64::from(*a).powi(2)).sum::<f64>()).sqrt()
    }

    #[test]
    fn eight_bits_lose_little_and_four_bits_a_tenth() {
        let table = bells(500, 32);
        let eight = QuantizedTable::quantize(&table, 32, RowBits::Eight).unwrap();
        let four = QuantizedTable::quantize(&table, 32, RowBits::Four).unwrap();
        assert_eq!((eight.packed().len(), four.packed().len()), (500 * 36, 500 * 20));
        assert!(error(&table, &eight) < 0.006, "{}", error(&table, &eight));
        assert!(error(&table, &four) < 0.1, "{}", error(&table, &four));
    }

    #[test]
    fn the_search_beats_the_whole_range() {
        let table = bells(200, 64);
        let loss = |steps: &dyn Fn(&[f32], f32, f32) -> Steps| -> f64 {
            let row = |row: &[f32]| {
                let (low, high) = row.iter().fold((f32::MAX, f32::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
                steps(row, low, high).loss(row, RowBits::Four)
            };
            table.chunks(64).map(row).sum()
        };
        let whole = loss(&|_, low, high| Steps::over(low, high, RowBits::Four));
        let searched = loss(&|row, low, high| search(row, low, high, RowBits::Four));
        assert!(searched < 0.95 * whole, "{searched} against {whole}");
    }

    #[test]
    fn rows_of_one_number_of_zeros_and_of_odd_width_come_back() {
        let table = [0.0, 0.0, 0.0, 0.5, 0.5, 0.5, -1.0, 0.0, 1.0, 1e-30, -1e-30, 0.0];
        for bits in [RowBits::Eight, RowBits::Four] {
            let numbers = QuantizedTable::quantize(&table, 3, bits).unwrap().numbers();
            assert_eq!(numbers[..6], table[..6]);
            assert!((numbers[6] + 1.0).abs() < 0.07 && numbers[7].abs() < 0.07 && (numbers[8] - 1.0).abs() < 0.07);
            assert!(numbers[9..].iter().all(|number| number.abs() < 1e-6));
        }
        let empty = QuantizedTable::quantize(&[], 3, RowBits::Four).unwrap();
        assert_eq!((empty.rows(), empty.numbers().len()), (0, 0));
    }

    #[test]
    fn a_gather_reads_each_row_and_refuses_what_is_none() {
        let table = QuantizedTable::quantize(&bells(10, 7), 7, RowBits::Four).unwrap();
        let numbers = table.numbers();
        let mut into = vec![0.0; 21];
        assert!(table.gather(&[9, 0, 9], &mut into));
        assert_eq!(into[..7], numbers[63..]);
        assert_eq!(into[7..14], numbers[..7]);
        assert_eq!(into[14..], numbers[63..]);
        assert!(!table.gather(&[9, 10, 0], &mut into));
        assert!(!table.gather(&[9], &mut into));
    }

    #[test]
    fn what_cannot_be_a_table_is_refused() {
        let refused = |table: &[f32]| QuantizedTable::quantize(table, 2, RowBits::Eight).unwrap_err();
        assert_eq!(refused(&[0.0, 0.0, f32::NAN, 0.0]), TableError::NotFinite { row: 1 });
        assert!(matches!(refused(&[0.0; 3]), TableError::Count { found: 3, .. }));
        let packed = |unit: f32, packed: Vec<u8>| QuantizedTable::from_packed(1, 2, RowBits::Eight, unit, packed);
        assert!(packed(1.0, vec![0; 6]).is_ok());
        assert!(packed(1.0, vec![0; 5]).is_err());
        assert!(packed(-1.0, vec![0; 6]).is_err());
        assert_eq!(packed(1.0, vec![0, 0x7c, 0, 0, 0, 0]), Err(TableError::NotFinite { row: 0 }));
        assert!(QuantizedTable::from_packed(usize::MAX, 2, RowBits::Eight, 1.0, Vec::new()).is_err());
    }

    proptest! {
        #[test]
        fn packed_bytes_come_back_and_numbers_stay_in_their_range(
            table in prop::collection::vec(-1e30f32..1e30, 0..60),
            width in 1usize..9,
        ) {
            let table = &table[..table.len() / width * width];
            for bits in [RowBits::Eight, RowBits::Four] {
                let quantized = QuantizedTable::quantize(table, width, bits).unwrap();
                let packed = quantized.packed().to_vec();
                let again = QuantizedTable::from_packed(quantized.rows(), width, bits, quantized.unit(), packed);
                prop_assert_eq!(again.as_ref(), Ok(&quantized));
                for (number, value) in quantized.numbers().iter().zip(table) {
                    // Never farther than a step of 4 bits over the table's whole range, and a clipped part of it.
                    prop_assert!((number - value).abs() <= quantized.unit() * 0.34, "{number} for {value}");
                }
            }
        }
    }
}
