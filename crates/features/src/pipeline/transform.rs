//! Running a program over columns. Each op walks its column and writes its own places of each row.

use super::InputColumn;
use super::means::with_key;
use super::program::{DerivedOp, Op, Program, Scale, Source};
use crate::FeatureError;
use crate::canonical::is_writable;
use crate::columns::{Values, column_index};
use crate::hash::{Atom, SlotHash, slot};
use arrow::array::ArrayRef;
use arrow::record_batch::RecordBatch;
use chrono::{DateTime, Datelike, TimeZone, Timelike};
use chrono_tz::Tz;
use vocabulary::inputs::Inputs;
use vocabulary::model::TimePart;

impl Program {
    /// Finds the input columns in a batch.
    pub(super) fn columns<'a>(
        &self,
        batch: &'a RecordBatch,
        inputs: &[InputColumn],
    ) -> Result<Vec<Values<'a>>, FeatureError> {
        let schema = batch.schema_ref();
        let view = |(guess, input): (usize, &InputColumn)| {
            let index = column_index(schema, &input.name, guess)?;
            Values::new(batch.column(index), &input.name, input.kind)
        };
        inputs.iter().enumerate().map(view).collect()
    }

    /// The derived columns, which stand behind those of the batch.
    pub(super) fn derive(&self, columns: &[Values<'_>], rows: usize) -> Vec<ArrayRef> {
        let one = |op: &DerivedOp| {
            let read: Vec<Values<'_>> = op.places.iter().map(|place| columns[*place]).collect();
            op.derived.column(&read, rows)
        };
        self.derived.iter().map(one).collect()
    }

    pub(super) fn run(&self, columns: &[Values<'_>], rows: usize) -> Inputs {
        let (dense_width, slot_width) = (self.dense_width, self.slot_width);
        let mut dense = vec![0.0; rows * dense_width];
        let mut slots = vec![0; rows * slot_width];
        let mut buffer = String::new();
        for op in &self.ops {
            for row in 0..rows {
                let dense = &mut dense[row * dense_width..(row + 1) * dense_width];
                let slots = &mut slots[row * slot_width..(row + 1) * slot_width];
                self.run_one(op, columns, row, &mut buffer, dense, slots);
            }
        }
        Inputs { rows, dense_width, dense, slot_width, slots }
    }

    #[inline]
    fn run_one(
        &self,
        op: &Op,
        columns: &[Values<'_>],
        row: usize,
        buffer: &mut String,
        dense: &mut [f32],
        slots: &mut [u32],
    ) {
        match op {
            Op::Number { from, dense: at } => dense[*at] = optional(number(columns, *from, row)),
            Op::Scaled { from, scale, bins, dense: at, slot: slot_at } => {
                let value = number(columns, *from, row);
                dense[*at] = value.map_or(0.0, |value| finite(scale.apply(value)));
                dense[*at + 1] = if value.is_none() { 1.0 } else { 0.0 };
                slots[*slot_at] = slot(bins.hash(value), self.table_bits);
            }
            Op::Standard { from, scale, dense: at } => {
                let value = number(columns, *from, row);
                dense[*at] = value.map_or(0.0, |value| finite(scale.apply(value)));
                dense[*at + 1] = if value.is_none() { 1.0 } else { 0.0 };
            }
            Op::Projection { inputs, factor, weights, dense: at } => {
                let value =
                    |(from, scale): &(Source, Scale)| number(columns, *from, row).map_or(0.0, |v| scale.apply(v));
                let values: Vec<f64> = inputs.iter().map(value).collect();
                for (place, weights) in weights.iter().enumerate() {
                    dense[*at + place] = finite(factor * projected(&values, weights));
                }
            }
            Op::Codes { columns: places, codes, unseen, dense: at } => {
                let code = with_key(columns, places, row, buffer, |key| codes.get(key).copied());
                dense[*at] = code.map_or(f32::NAN, |code| code.unwrap_or(*unseen));
            }
            Op::Means { encoder, dense: at } => {
                let entry = encoder.entry(columns, row, buffer);
                encoder.write(entry, &mut dense[*at..]);
            }
            Op::Cyclic { column, zone, circles, dense: at } => {
                let local = local(columns[*column].micros(row), *zone);
                let places = dense[*at..].as_chunks_mut::<2>().0.iter_mut();
                places.zip(circles).for_each(|(place, circle)| *place = circle.point(local.as_ref()));
            }
            Op::Recency { encoder, dense: at } => encoder.write(columns, row, buffer, &mut dense[*at..]),
            Op::Bag { bag, dense: at } => bag.write(columns, row, &mut dense[*at..]),
            Op::Category { columns: places, prefix, slot: at } => {
                slots[*at] = category(columns, places, *prefix, row).slot(self.table_bits);
            }
            Op::Vocabulary { table, slot: at } => slots[*at] = table.row(columns, row, buffer),
            Op::DenseParts { column, zone, parts, dense: at } => {
                let local = local(columns[*column].micros(row), *zone);
                for (place, part) in parts.iter().enumerate() {
                    dense[*at + place] = local.as_ref().map_or(f32::NAN, |local| part_of(local, *part) as f32);
                }
            }
            Op::SlotParts { column, zone, parts, slot: at } => {
                let local = local(columns[*column].micros(row), *zone);
                for (place, (part, prefix)) in parts.iter().enumerate() {
                    slots[*at + place] = part_hash(local.as_ref(), *part, *prefix).slot(self.table_bits);
                }
            }
            Op::Calendar { column, zone, parts, dense: at, slot: slot_at } => {
                let local = local(columns[*column].micros(row), *zone);
                let mut circles = dense[*at..].as_chunks_mut::<2>().0.iter_mut();
                for (part, slot) in parts.iter().zip(&mut slots[*slot_at..]) {
                    if let Some(circle) = part.write(local.as_ref(), slot) {
                        circles.next().expect("a place for each circle").copy_from_slice(&circle);
                    }
                }
            }
        }
    }
}

/// The sum runs in the order of the columns, without fused operations.
#[inline]
pub(super) fn projected(values: &[f64], weights: &[f64]) -> f64 {
    let mut sum = 0.0;
    for (value, weight) in values.iter().zip(weights) {
        sum += value * weight;
    }
    sum
}

/// The hash of the values of some columns taken as one category.
#[inline]
pub(super) fn category(columns: &[Values<'_>], places: &[usize], prefix: SlotHash, row: usize) -> SlotHash {
    places.iter().fold(prefix, |hash, place| hash.with(columns[*place].atom(row)))
}

/// The hash of a part of an instant.
pub(super) fn part_hash(local: Option<&DateTime<Tz>>, part: TimePart, prefix: SlotHash) -> SlotHash {
    prefix.with(local.map_or(Atom::Null, |local| Atom::Int(i64::from(part_of(local, part)))))
}

#[inline]
pub(super) fn number(columns: &[Values<'_>], from: Source, row: usize) -> Option<f64> {
    match from {
        Source::Column(place) => columns[place].number(row),
        Source::Difference { later, earlier } => {
            let (later, earlier) = (columns[later].micros(row)?, columns[earlier].micros(row)?);
            Some((i128::from(later) - i128::from(earlier)) as f64 / 1e6)
        }
    }
}

/// Missing is the canonical NaN.
#[inline]
fn optional(value: Option<f64>) -> f32 {
    value.map_or(f32::NAN, finite)
}

/// To single precision, with +0 for -0. What it cannot hold, infinities included, becomes its largest magnitude:
/// learners order that like any other number.
#[inline]
fn finite(value: f64) -> f32 {
    (value as f32).clamp(f32::MIN, f32::MAX) + 0.0
}

/// An instant on the clocks of a zone. What RFC 3339 cannot write is taken as missing.
#[inline]
pub(crate) fn local(micros: Option<i64>, zone: Tz) -> Option<DateTime<Tz>> {
    let micros = micros.filter(|micros| is_writable(*micros))?;
    Some(zone.from_utc_datetime(&DateTime::from_timestamp_micros(micros)?.naive_utc()))
}

pub(super) fn part_of(local: &DateTime<Tz>, part: TimePart) -> i32 {
    let weekday = || local.weekday().num_days_from_monday();
    match part {
        TimePart::Hour => local.hour() as i32,
        TimePart::MinuteOfDay => (local.hour() * 60 + local.minute()) as i32,
        TimePart::Weekday => weekday() as i32,
        TimePart::HourOfWeek => (weekday() * 24 + local.hour()) as i32,
        TimePart::Day => local.day() as i32,
        TimePart::Month => local.month() as i32,
        TimePart::DayOfYear => local.ordinal() as i32,
        TimePart::Year => local.year(),
    }
}
