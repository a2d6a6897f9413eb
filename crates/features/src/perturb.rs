//! Rows for the release gate: those of a table again and again, some cells missing, some extreme, some a little off.
//! Keyed by seed, row and column, so that any stretch of them can be made by itself. Knows no pipeline.

use crate::columns::Values;
use crate::hash::finish;
use crate::{FeatureError, canonical::MICROS_MAX, canonical::MICROS_MIN};
use arrow::array::{Array, UInt64Array};
use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::compute::take;
use arrow::record_batch::RecordBatch;
use std::ops::Range;
use std::sync::Arc;

/// Of 64 cells, so many are missing, so many extreme, and so many a little off. A judgement: nearly every row of a usual
/// width has some of each, and most cells still look like data.
const MISSING: u64 = 4;
const EXTREME: u64 = 4;
const OFF: u64 = 16;

const FLOATS: [f64; 12] = [
    f64::INFINITY,
    f64::NEG_INFINITY,
    -0.0,
    f64::MAX,
    f64::MIN,
    f64::MIN_POSITIVE,
    5e-324,
    f32::MAX as f64 * 2.0,
    1e-50,
    9_007_199_254_740_993.0,
    0.1,
    -1.0,
];
const INTS: [i64; 8] = [i64::MIN, i64::MAX, 0, -1, 9_007_199_254_740_993, -9_007_199_254_740_993, 1 << 32, 20_130_401];
const INSTANTS: [i64; 7] =
    [MICROS_MIN, MICROS_MAX, 0, -1, 1_362_812_400_000_000, 1_383_454_800_000_001, 951_782_400_000_000];
const TEXTS: [&str; 9] =
    ["", " ", "\u{0}", "null", "a*b|c,d;e", "\"quoted\\\"", "Straße ﬁ İ ∑", "e\u{301}\u{200d}👩‍🚀", "1e999"];

/// Rows `rows` of the endless table that repeats `batch`, whose columns are canonical. A canonical batch has no NaN, and
/// this one has none.
pub fn perturbed(batch: &RecordBatch, seed: u64, rows: Range<u64>) -> Result<RecordBatch, FeatureError> {
    assert!(batch.num_rows() > 0, "there is a row to repeat");
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).zip(0..);
    let column = |((field, array), place): ((&Arc<_>, &ArrayRef), u64)| {
        let field: &arrow::datatypes::Field = field;
        Ok(one(&Values::of_any(array, field.name())?, finish(finish(seed) ^ place), rows.clone()))
    };
    let arrays = columns.map(column).collect::<Result<Vec<_>, FeatureError>>()?;
    Ok(RecordBatch::try_new(schema, arrays)?)
}

/// As [`perturbed`], with every cell as it is.
pub fn repeated(batch: &RecordBatch, rows: Range<u64>) -> Result<RecordBatch, FeatureError> {
    let length = batch.num_rows() as u64;
    assert!(length > 0, "there is a row to repeat");
    if rows.end <= length {
        return Ok(batch.slice(rows.start as usize, (rows.end - rows.start) as usize));
    }
    let places: UInt64Array = rows.map(|row| row % length).collect::<Vec<_>>().into();
    let arrays = batch.columns().iter().map(|array| take(array, &places, None)).collect::<Result<Vec<_>, _>>()?;
    Ok(RecordBatch::try_new(batch.schema(), arrays)?)
}

/// What becomes of a cell.
enum Fate {
    Missing,
    /// One of the extremes, by a number to choose with.
    Extreme(usize),
    /// A little off, by a number to draw with.
    Off(u64),
    Kept,
}

fn fate(key: u64, row: u64) -> Fate {
    let dice = finish(key ^ row);
    let (kind, rest) = (dice % 64, dice / 64);
    match kind {
        0..MISSING => Fate::Missing,
        kind if kind < MISSING + EXTREME => Fate::Extreme((rest % 1024) as usize),
        kind if kind < MISSING + EXTREME + OFF => Fate::Off(rest),
        _ => Fate::Kept,
    }
}

fn one(values: &Values<'_>, key: u64, rows: Range<u64>) -> ArrayRef {
    let length = values.len() as u64;
    let cells = rows.map(|row| ((row % length) as usize, fate(key, row)));
    match values {
        Values::Bool(array) => {
            let value = |(row, fate)| match fate {
                Fate::Missing => None,
                Fate::Extreme(choice) => Some(choice % 2 == 0),
                Fate::Off(_) => array.is_valid(row).then(|| !array.value(row)),
                Fate::Kept => array.is_valid(row).then(|| array.value(row)),
            };
            Arc::new(cells.map(value).collect::<BooleanArray>())
        }
        Values::Int(array) => {
            let value = |(row, fate)| match fate {
                Fate::Missing => None,
                Fate::Extreme(choice) => Some(INTS[choice % INTS.len()]),
                Fate::Off(by) => array.is_valid(row).then(|| array.value(row).wrapping_add((by % 7) as i64 - 3)),
                Fate::Kept => array.is_valid(row).then(|| array.value(row)),
            };
            Arc::new(cells.map(value).collect::<Int64Array>())
        }
        Values::Float(array) => {
            let value = |(row, fate)| match fate {
                Fate::Missing => None,
                Fate::Extreme(choice) => Some(FLOATS[choice % FLOATS.len()]),
                // The last bits: what is easily lost on the way through text or single precision.
                Fate::Off(by) => array.is_valid(row).then(|| array.value(row)).map(|x| last_bits(x, by)),
                Fate::Kept => array.is_valid(row).then(|| array.value(row)),
            };
            Arc::new(cells.map(value).collect::<Float64Array>())
        }
        Values::Text(array) => {
            let value = |(row, fate)| match fate {
                Fate::Missing => None,
                Fate::Extreme(choice) => Some(TEXTS[choice % TEXTS.len()].to_owned()),
                Fate::Off(by) => array.is_valid(row).then(|| respelt(array.value(row), by)),
                Fate::Kept => array.is_valid(row).then(|| array.value(row).to_owned()),
            };
            Arc::new(cells.map(value).collect::<StringArray>())
        }
        Values::Time(array) => {
            let value = |(row, fate)| match fate {
                Fate::Missing => None,
                Fate::Extreme(choice) => Some(INSTANTS[choice % INSTANTS.len()]),
                // Up to 12 days to either side.
                Fate::Off(by) => array.is_valid(row).then(|| {
                    let by = (by & 0x1ff_ffff_ffff) as i64 - 0x100_0000_0000;
                    array.value(row).saturating_add(by).clamp(MICROS_MIN, MICROS_MAX)
                }),
                Fate::Kept => array.is_valid(row).then(|| array.value(row)),
            };
            let array: TimestampMicrosecondArray = cells.map(value).collect();
            Arc::new(array.with_timezone("UTC"))
        }
    }
}

fn last_bits(x: f64, by: u64) -> f64 {
    let near = f64::from_bits(x.to_bits() ^ (by & 0xff));
    if near.is_nan() { x } else { near }
}

fn respelt(text: &str, by: u64) -> String {
    match by % 4 {
        0 => text.to_lowercase(),
        1 => format!(" {text}"),
        2 => format!("{text}{}", by % 1000),
        _ => text.chars().rev().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{bits, wide_batch};

    #[test]
    fn a_stretch_is_the_same_by_itself_and_holds_what_is_odd() {
        let batch = wide_batch();
        let whole = perturbed(&batch, 3, 0..4000).unwrap();
        let (head, tail) = (perturbed(&batch, 3, 0..1234).unwrap(), perturbed(&batch, 3, 1234..4000).unwrap());
        for place in 0..batch.num_columns() {
            let parts = [bits(head.column(place)), bits(tail.column(place))].concat();
            assert_eq!(bits(whole.column(place)), parts);
            assert!(whole.column(place).null_count() > 100);
        }
        let floats = Float64Array::from(whole.column(4).to_data());
        assert!(floats.iter().flatten().all(|x| !x.is_nan()));
        let has = |wanted: f64| floats.iter().flatten().any(|x| x.to_bits() == wanted.to_bits());
        assert!(FLOATS.iter().all(|wanted| has(*wanted)));
        let ours = |x: &f64| {
            (0..8)
                .filter(|row| batch.column(4).is_valid(*row))
                .any(|row| Float64Array::from(batch.column(4).to_data()).value(row).to_bits() == x.to_bits())
        };
        let kept = floats.iter().flatten().filter(ours).count();
        assert!((1500..3500).contains(&kept), "{kept}");
        assert_ne!(bits(perturbed(&batch, 4, 0..4000).unwrap().column(4)), bits(whole.column(4)));
    }
}
