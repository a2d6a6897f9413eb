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
    use proptest::prelude::*;
    use std::collections::BTreeMap;
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

    proptest! {
        #[test]
        fn rows_have_equal_bytes_where_all_their_cells_are_equal(
            rows in proptest::collection::vec(
                (
                    proptest::option::of(prop_oneof![Just(0.0f64), Just(-0.0), Just(1.5)]),
                    proptest::option::of("[a\\x00\\x01]{0,2}"),
                    proptest::option::of("[a\\x00\\x01]{0,2}"),
                    proptest::option::of(any::<bool>()),
                ),
                1..60,
            ),
        ) {
            let floats: Float64Array = rows.iter().map(|row| row.0).collect();
            let texts: StringArray = rows.iter().map(|row| row.1.clone()).collect();
            let others: StringArray = rows.iter().map(|row| row.2.clone()).collect();
            let flags: BooleanArray = rows.iter().map(|row| row.3).collect();
            let columns: Vec<(&str, ArrayRef)> =
                vec![("f", Arc::new(floats)), ("s", Arc::new(texts)), ("t", Arc::new(others)), ("b", Arc::new(flags))];
            let batch = RecordBatch::try_from_iter(columns).unwrap();
            let mut seen = BTreeMap::new();
            for (row, bytes) in rows.iter().zip(bytes(&batch, &names(&["f", "s", "t", "b"]))) {
                let cells = (row.0.map(f64::to_bits), row.1.clone(), row.2.clone(), row.3);
                prop_assert_eq!(seen.entry(bytes).or_insert_with(|| cells.clone()), &cells);
            }
            let distinct: std::collections::BTreeSet<_> =
                rows.iter().map(|row| (row.0.map(f64::to_bits), row.1.clone(), row.2.clone(), row.3)).collect();
            prop_assert_eq!(seen.len(), distinct.len());
        }
    }
}
