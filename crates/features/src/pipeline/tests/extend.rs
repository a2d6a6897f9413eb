//! Stories of tables that grow: old rows keep their places, and each new one knows where its values stood.

use super::*;
use crate::{Extended, Growth};

/// Carriers "a" and "b" at first; "c" often and "d" seldom since; a year more.
fn carriers(names: &[(&str, usize)], year: i64) -> RecordBatch {
    let names: Vec<Option<&str>> = names.iter().flat_map(|(name, times)| vec![Some(*name); *times]).collect();
    let start = "2012-06-01T00:00:00Z".parse::<vocabulary::Timestamp>().unwrap().0 + year * 366 * 24 * HOUR;
    let at: Vec<i64> = (0..names.len() as i64).map(|row| start + row * HOUR).collect();
    batch(&[("carrier", &strings(&names)), ("at", &instants(&at))])
}

fn fitted(data: &RecordBatch) -> Pipeline {
    let contract = contract(vec![
        column("carrier", ColumnKind::String),
        column("at", ColumnKind::Timestamp),
        column("y", ColumnKind::Bool),
    ]);
    let declared =
        TimeParts { column: "at".to_owned(), zone: "UTC".to_owned(), parts: vec![TimePart::Hour, TimePart::Year] };
    let features = FeatureSpec { time_parts: vec![declared], ..FeatureSpec::default() };
    let spec = ModelSpec { time: Some("at".to_owned()), features, ..spec("y") };
    fit(&spec, &contract, Recipe::Network, data, &vec![0.0; data.num_rows()])
}

fn extended(pipeline: &Pipeline, data: &RecordBatch, room: usize, grows: &dyn Fn(usize) -> bool) -> Extended {
    let rows: Vec<u32> = (0..data.num_rows() as u32).collect();
    pipeline.extended(data, &rows, &Growth { min_rows: 4, room, grows }).unwrap()
}

#[test]
fn known_values_keep_their_rows_and_new_ones_stand_behind_them() {
    let pipeline = fitted(&carriers(&[("a", 9), ("b", 7)], 0));
    assert_eq!(
        (pipeline.layout().slots[0].as_str(), pipeline.layout().tables.as_slice()),
        ("carrier", &[4, 25, 2][..])
    );
    let later = carriers(&[("c", 8), ("a", 6), ("d", 2), ("e", 5)], 1);
    let grown = extended(&pipeline, &later, 100, &|_| true);
    assert_eq!(grown.pipeline.layout().tables, [6, 25, 3]);
    assert_eq!(grown.added(&pipeline), 3);
    // Null, a, b; then c and e, which shared the last row with all others, which is now row 5.
    assert_eq!(grown.origins[0], [0, 1, 2, 3, 3, 3]);
    assert_eq!(grown.origins[1], (0..25).collect::<Vec<u32>>());
    assert_eq!(grown.origins[2], [0, 1, 1]);
    let (before, now) = (pipeline.transform(&later).unwrap(), grown.pipeline.transform(&later).unwrap());
    assert_eq!(before.dense, now.dense);
    let rows: Vec<u32> = [0, 8, 14, 16].map(|row| now.slot_row(row)[0]).to_vec();
    assert_eq!(rows, [3, 1, 5, 4]);
    for row in 0..now.rows {
        let of = |slot: usize| grown.origins[slot][now.slot_row(row)[slot] as usize];
        assert_eq!([of(0), of(1), of(2)], before.slot_row(row));
    }
    let read = Pipeline::from_json(&grown.pipeline.to_json()).unwrap();
    assert_eq!(read, grown.pipeline);
}

#[test]
fn room_goes_to_the_most_frequent_and_a_table_that_may_not_grow_stays() {
    let pipeline = fitted(&carriers(&[("a", 9), ("b", 7)], 0));
    let later = carriers(&[("c", 4), ("e", 5)], 0);
    let grown = extended(&pipeline, &later, 1, &|_| true);
    assert_eq!(grown.pipeline.layout().tables, [5, 25, 2]);
    assert_eq!(grown.pipeline.transform(&later).unwrap().slot_row(4)[0], 3, "e has a row of its own");
    let same = extended(&pipeline, &later, 100, &|_| false);
    assert_eq!((same.added(&pipeline), same.pipeline.digest()), (0, pipeline.digest()));
    assert_eq!(same.origins[0], [0, 1, 2, 3]);
}

#[test]
fn a_larger_shared_table_splits_each_place() {
    let data = carriers(&[("a", 9), ("b", 7), ("c", 20)], 0);
    let contract = contract(vec![column("carrier", ColumnKind::String), column("y", ColumnKind::Bool)]);
    let pipeline = fit(&spec("y"), &contract, Recipe::Linear, &data, &[0.0; 36]);
    let bits = pipeline.layout().table_bits;
    let grown = pipeline.with_table_bits(bits + 3).unwrap();
    assert_eq!(grown.layout().table_bits, bits + 3);
    let (before, now) = (pipeline.transform(&data).unwrap(), grown.transform(&data).unwrap());
    assert!(before.slots.iter().zip(&now.slots).all(|(old, new)| new >> 3 == *old));
    assert_eq!(pipeline.with_table_bits(bits - 1).unwrap(), pipeline);
}
