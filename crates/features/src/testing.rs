//! Small builders for tests.

use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::record_batch::RecordBatch;
use proptest::prelude::*;
use std::ops::Range;
use std::sync::Arc;
use vocabulary::contract::{Column, ColumnKind, Contract};
use vocabulary::model::{DataSpec, ModelSpec, Task};

pub(crate) fn column(name: &str, kind: ColumnKind) -> Column {
    Column::new(name, kind)
}

pub(crate) fn contract(columns: Vec<Column>) -> Contract {
    Contract::new("test", columns)
}

pub(crate) fn spec(target: &str) -> ModelSpec {
    ModelSpec {
        name: "test".to_owned(),
        contract: "test".to_owned(),
        task: Task::Binary,
        target: target.to_owned(),
        positive: None,
        classes: Vec::new(),
        weight: None,
        time: None,
        key: None,
        outcome_at: None,
        data: DataSpec { file: Some("x.parquet".to_owned()), ..Default::default() },
        features: Default::default(),
        learner: Default::default(),
        tuning: Default::default(),
        split: Default::default(),
        objective: Default::default(),
        monitors: Default::default(),
        retraining: Default::default(),
        release: Default::default(),
    }
}

/// A contract with a column of each kind, twice.
pub(crate) fn wide_contract() -> Contract {
    let kinds = [ColumnKind::Bool, ColumnKind::Int, ColumnKind::Float, ColumnKind::String, ColumnKind::Timestamp];
    let columns =
        kinds.iter().flat_map(|kind| ["a", "b"].map(|side| column(&format!("{}_{side}", kind.name()), *kind)));
    contract(columns.collect())
}

fn floats() -> impl Strategy<Value = f64> {
    let odd = [f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0, f64::MAX, f64::MIN_POSITIVE, 5e-324, 1e17, 0.1];
    prop_oneof![3 => -1e3..1e3f64, 1 => proptest::num::f64::NORMAL, 2 => prop::sample::select(odd.to_vec())]
}

fn strings() -> impl Strategy<Value = String> {
    let common = ["", "a", "b", "ab", "null", "1", "\u{0}", "ü€", "a*b", "\"quoted\""];
    prop_oneof![4 => prop::sample::select(common.to_vec()).prop_map(str::to_owned), 1 => ".{0,12}"]
}

/// Canonical batches of [`wide_contract`] with nulls, infinities, -0, empty strings and huge integers. A canonical
/// batch has no NaN.
pub(crate) fn canonical_batches(rows: Range<usize>) -> impl Strategy<Value = RecordBatch> {
    let ints = || prop_oneof![3 => -5..5i64, 1 => any::<i64>()];
    // The years 1 to 9998, and some of the first days.
    let micros =
        || prop_oneof![1 => -62_100_000_000_000_000..253_000_000_000_000_000i64, 1 => 0..90_000_000_000_000i64];
    let row = prop::array::uniform2((
        prop::option::of(any::<bool>()),
        prop::option::of(ints()),
        prop::option::of(floats()),
        prop::option::of(strings()),
        prop::option::of(micros()),
    ));
    prop::collection::vec(row, rows).prop_map(|rows| {
        let mut arrays: Vec<ArrayRef> = Vec::new();
        let sides = [0, 1];
        arrays.extend(sides.map(|i| Arc::new(rows.iter().map(|row| row[i].0).collect::<BooleanArray>()) as ArrayRef));
        arrays.extend(sides.map(|i| Arc::new(rows.iter().map(|row| row[i].1).collect::<Int64Array>()) as ArrayRef));
        arrays.extend(sides.map(|i| Arc::new(rows.iter().map(|row| row[i].2).collect::<Float64Array>()) as ArrayRef));
        arrays.extend(
            sides.map(|i| Arc::new(rows.iter().map(|row| row[i].3.clone()).collect::<StringArray>()) as ArrayRef),
        );
        arrays.extend(sides.map(|i| {
            let instants: TimestampMicrosecondArray = rows.iter().map(|row| row[i].4).collect();
            Arc::new(instants.with_timezone("UTC")) as ArrayRef
        }));
        RecordBatch::try_new(crate::canonical_schema(&wide_contract()), arrays).unwrap()
    })
}

/// The values to the bit.
pub(crate) fn bits(array: &ArrayRef) -> Vec<Option<String>> {
    let values = crate::columns::Values::of_any(array, "").unwrap();
    let show = |row| match values {
        crate::columns::Values::Float(array) => format!("{:x}", array.value(row).to_bits()),
        crate::columns::Values::Time(array) => array.value(row).to_string(),
        _ => format!("{:?}", values.atom(row)),
    };
    (0..array.len()).map(|row| (!values.is_null(row)).then(|| show(row))).collect()
}

/// A few fixed rows of [`wide_contract`].
pub(crate) fn wide_batch() -> RecordBatch {
    let rows = 8;
    let value = |row: usize, side: usize| (row * 7 + side * 3) as i64 - 11;
    let some = |row: usize, side: usize| (row + side) % 5 != 4;
    let mut arrays: Vec<ArrayRef> = Vec::new();
    for kind in 0..5 {
        for side in 0..2 {
            let cells = (0..rows).map(|row| some(row, side + kind).then(|| value(row % 4, side)));
            arrays.push(match kind {
                0 => Arc::new(cells.map(|cell| cell.map(|value| value > 0)).collect::<BooleanArray>()),
                1 => Arc::new(cells.collect::<Int64Array>()),
                2 => Arc::new(cells.map(|cell| cell.map(|value| value as f64 / 3.0)).collect::<Float64Array>()),
                3 => Arc::new(cells.map(|cell| cell.map(|value| format!("v{value}"))).collect::<StringArray>()),
                _ => {
                    let micros = cells.map(|cell| cell.map(|value| 1_364_774_400_000_000 + value * 5_000_000_000));
                    Arc::new(micros.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
                }
            });
        }
    }
    RecordBatch::try_new(crate::canonical_schema(&wide_contract()), arrays).unwrap()
}
