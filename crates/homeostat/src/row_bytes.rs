//! The columns that an answer follows from, as bytes, row by row: equal bytes are equal rows. Of one list of columns
//! with their kinds; whoever makes a key of them adds what names that list.

use arrow::array::{Array, AsArray, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::array::{TimestampMicrosecondArray, cast::as_boolean_array};
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType};

enum Cells<'a> {
    Bool(&'a BooleanArray),
    Int(&'a Int64Array),
    Float(&'a Float64Array),
    Time(&'a TimestampMicrosecondArray),
    Text(&'a StringArray),
}

pub struct RowBytes<'a>(Vec<Cells<'a>>);

impl<'a> RowBytes<'a> {
    /// None where the batch lacks a column, or has one that is not in canonical form.
    pub fn of(batch: &'a RecordBatch, columns: &[String]) -> Option<RowBytes<'a>> {
        let cells = |name: &String| {
            let column = batch.column_by_name(name)?;
            Some(match column.data_type() {
                DataType::Boolean => Cells::Bool(as_boolean_array(column)),
                DataType::Int64 => Cells::Int(column.as_primitive::<Int64Type>()),
                DataType::Float64 => Cells::Float(column.as_primitive::<Float64Type>()),
                DataType::Timestamp(TimeUnit::Microsecond, _) => {
                    Cells::Time(column.as_primitive::<TimestampMicrosecondType>())
                }
                DataType::Utf8 => Cells::Text(column.as_string::<i32>()),
                _ => return None,
            })
        };
        columns.iter().map(cells).collect::<Option<Vec<_>>>().map(RowBytes)
    }

    /// Replaces `out` by the row's bytes: for each cell whether there is a value, and its bits; text after its length.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) {
        out.clear();
        for cells in &self.0 {
            let array: &dyn Array = match cells {
                Cells::Bool(cells) => cells,
                Cells::Int(cells) => cells,
                Cells::Float(cells) => cells,
                Cells::Time(cells) => cells,
                Cells::Text(cells) => cells,
            };
            if array.is_null(row) {
                out.push(0);
                continue;
            }
            out.push(1);
            match cells {
                Cells::Bool(cells) => out.push(u8::from(cells.value(row))),
                Cells::Int(cells) => out.extend_from_slice(&cells.value(row).to_le_bytes()),
                Cells::Float(cells) => out.extend_from_slice(&cells.value(row).to_bits().to_le_bytes()),
                Cells::Time(cells) => out.extend_from_slice(&cells.value(row).to_le_bytes()),
                Cells::Text(cells) => {
                    let text = cells.value(row);
                    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
                    out.extend_from_slice(text.as_bytes());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::ArrayRef;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    fn bytes(batch: &RecordBatch, columns: &[String]) -> Vec<Vec<u8>> {
        let rows = RowBytes::of(batch, columns).unwrap();
        let one = |row| {
            let mut out = vec![9];
            rows.write(row, &mut out);
            out
        };
        (0..batch.num_rows()).map(one).collect()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn only_the_columns_that_are_read_count() {
        let column = |values: &[i64]| Arc::new(Int64Array::from(values.to_vec())) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("a", column(&[1, 1, 2])), ("id", column(&[7, 8, 9]))]).unwrap();
        let of = bytes(&batch, &names(&["a"]));
        assert!(of[0] == of[1] && of[0] != of[2]);
        assert!(RowBytes::of(&batch, &names(&["b"])).is_none());
    }

    #[test]
    fn rows_that_differ_in_a_cell_have_other_bytes() {
        let floats = [None, Some(0.0f64), Some(-0.0), Some(1.5)];
        let texts = [None, Some(""), Some("a"), Some("\0"), Some("\u{1}"), Some("a\0\0\0\0\0\0\0\0\u{1}")];
        let flags = [None, Some(false), Some(true)];
        let mut rows = Vec::new();
        for (float, text) in floats.into_iter().flat_map(|float| texts.map(|text| (float, text))) {
            for (other, flag) in texts.into_iter().flat_map(|other| flags.map(|flag| (other, flag))) {
                rows.push((float, text, other, flag));
            }
        }
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("f", Arc::new(rows.iter().map(|row| row.0).collect::<Float64Array>())),
            ("s", Arc::new(rows.iter().map(|row| row.1).collect::<StringArray>())),
            ("t", Arc::new(rows.iter().map(|row| row.2).collect::<StringArray>())),
            ("b", Arc::new(rows.iter().map(|row| row.3).collect::<BooleanArray>())),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(n, c)| (n, c, true))).unwrap();
        let columns = names(&["f", "s", "t", "b"]);
        let of = bytes(&batch, &columns);
        assert_eq!(of.iter().collect::<BTreeSet<_>>().len(), rows.len());
        assert_eq!(bytes(&batch.slice(7, 5), &columns), of[7..12], "the same row elsewhere");
    }
}
