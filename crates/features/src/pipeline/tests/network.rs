//! Stories of the network's inputs: numbers, tables of categories, and parts of instants.

use super::*;

#[test]
fn categories_have_their_own_tables_by_frequency() {
    let mut names = vec![Some("often"); 6];
    names.extend([Some("less"); 4]);
    names.extend([Some("rare"); 3]);
    names.extend([None, Some("once")]);
    let xs: ArrayRef = Arc::new(Float64Array::from_iter((0..15).map(|row| (row != 3).then(|| f64::from(row)))));
    let flags: ArrayRef = Arc::new(BooleanArray::from_iter((0..15).map(|row| Some(row < 5))));
    let data = batch(&[("c", &strings(&names)), ("x", &xs), ("b", &flags)]);
    let contract = contract(vec![
        column("c", ColumnKind::String),
        column("x", ColumnKind::Float),
        column("b", ColumnKind::Bool),
        column("y", ColumnKind::Bool),
    ]);
    let pipeline = fit(&spec("y"), &contract, Recipe::Network, &data, &[0.0; 15]);
    let layout = pipeline.layout();
    assert_eq!(dense_names(&pipeline), ["x", "x:missing"]);
    // Null, two frequent values, and a row for all others.
    assert_eq!(
        (layout.slots.as_slice(), layout.tables.as_slice()),
        (["c", "b"].map(str::to_owned).as_slice(), [4, 4].as_slice())
    );
    assert_eq!(layout.table_bits, 0);
    let inputs = pipeline.transform(&data).unwrap();
    let rows: Vec<u32> = (0..15).map(|row| inputs.slot_row(row)[0]).collect();
    assert_eq!(rows, [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 0, 3]);
    assert_eq!((inputs.slot_row(0)[1], inputs.slot_row(9)[1]), (2, 1));
    assert_eq!(inputs.dense_row(3), [0.0, 1.0]);
    assert_eq!(inputs.dense_row(0)[1], 0.0);
    // Standardised over 14 values, the highest clipped to the one below it.
    let sum: f64 = (0..15).map(|row| f64::from(inputs.dense_row(row)[0])).sum();
    assert!(sum.abs() < 1e-5 && inputs.dense_row(14)[0] == inputs.dense_row(13)[0], "{sum}");
}

#[test]
fn crosses_and_declared_numbers_are_categories() {
    let stores: ArrayRef = Arc::new(Int64Array::from_iter((0..40).map(|row| (row != 7).then_some(row % 4 * 1000))));
    let carriers: Vec<Option<&str>> = (0..40).map(|row| (row % 2 == 0).then_some("UA")).collect();
    let data = batch(&[("store", &stores), ("carrier", &strings(&carriers))]);
    let contract = contract(vec![
        column("store", ColumnKind::Int),
        column("carrier", ColumnKind::String),
        column("y", ColumnKind::Bool),
    ]);
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let features = FeatureSpec {
        numeric_categories: names(&["store"]),
        cross: vec![names(&["store", "carrier"])],
        ..FeatureSpec::default()
    };
    let spec = ModelSpec { features, ..spec("y") };
    let network = fit(&spec, &contract, Recipe::Network, &data, &[0.0; 40]);
    assert_eq!(network.layout().slots, ["store", "carrier", "store*carrier"]);
    assert_eq!(network.layout().tables, [6, 3, 6]);
    assert!(network.layout().dense.is_empty());
    let trees = fit(&spec, &contract, Recipe::Trees, &data, &[0.0; 40]);
    assert!(trees.layout().dense[0].categorical);
    // The most frequent first, and of equally frequent ones the lesser text.
    let codes = trees.transform(&data).unwrap();
    assert_eq!((0..4).map(|row| codes.dense_row(row)[0]).collect::<Vec<_>>(), [0.0, 1.0, 2.0, 3.0]);
    assert!(codes.dense_row(7)[0].is_nan());
    assert_eq!(fit(&spec, &contract, Recipe::Linear, &data, &[0.0; 40]).layout().slots.len(), 3);
}

#[test]
fn too_many_values_share_what_room_there_is() {
    let frequent = |row: usize| format!("k{}", row % 10);
    let names: Vec<String> = (0..200).map(frequent).collect();
    let more: Vec<String> = (0..200).map(|row| format!("m{}", row % 40)).collect();
    let text = |names: &[String]| strings(&names.iter().map(|name| Some(name.as_str())).collect::<Vec<_>>());
    let data = batch(&[("k", &text(&names)), ("m", &text(&more))]);
    let contract =
        contract(vec![column("k", ColumnKind::String), column("m", ColumnKind::String), column("y", ColumnKind::Bool)]);
    let mut spec = spec("y");
    spec.features.vocabulary.rows = 12;
    let fitted =
        Pipeline::fit(&spec, &contract, Recipe::Network, &data, &(0..200).collect::<Vec<_>>(), &[0.0; 200], 11)
            .unwrap();
    // Ten values of 20 rows each, then two of the forty of 5 rows; the other 38 share buckets.
    assert_eq!(fitted.pipeline.layout().tables, [1 + 10 + 1, 1 + 2 + 1 + 38 / 4]);
    assert_eq!(fitted.notes.len(), 1, "{:?}", fitted.notes);
    assert!(fitted.notes[0].starts_with("of the 40 frequent values of \"m\" only 2 have a row"), "{:?}", fitted.notes);
    let report = fitted.pipeline.collisions(&data).unwrap();
    assert_eq!((report.columns["k"].colliding_values, report.columns["k"].values), (0, 10));
    assert!(report.columns["m"].colliding_values > 25 && report.slots == 25, "{report:?}");
}

#[test]
fn instants_give_rows_and_places_on_a_circle() {
    let start = "2012-12-31T23:30:00Z".parse::<vocabulary::Timestamp>().unwrap().0;
    let data = batch(&[("at", &instants(&[start, start + HOUR, start + 700 * 24 * HOUR]))]);
    let contract = contract(vec![column("at", ColumnKind::Timestamp), column("y", ColumnKind::Bool)]);
    let parts = vec![TimePart::Hour, TimePart::Day, TimePart::Year];
    let declared = TimeParts { column: "at".to_owned(), zone: "UTC".to_owned(), parts };
    let features = FeatureSpec { time_parts: vec![declared], ..FeatureSpec::default() };
    let spec = ModelSpec { time: Some("at".to_owned()), features, ..spec("y") };
    let pipeline = fit(&spec, &contract, Recipe::Network, &data, &[0.0; 3]);
    assert_eq!(pipeline.layout().slots, ["at:hour", "at:day", "at:year"]);
    assert_eq!(pipeline.layout().tables, [25, 32, 4]);
    assert_eq!(dense_names(&pipeline), ["at:hour:sine", "at:hour:cosine"]);
    let inputs = pipeline.transform(&data).unwrap();
    assert_eq!(inputs.slots, [24, 31, 1, 1, 1, 2, 24, 1, 3]);
    assert_eq!(inputs.dense_row(1), [0.0, 1.0]);
    let turn = 23.0 / 24.0 * std::f64::consts::TAU;
    assert!((f64::from(inputs.dense_row(0)[0]) - turn.sin()).abs() < 1e-7);

    // A year that was not seen takes the last one before it; a missing instant has row 0 and no place.
    let later = batch(&[("at", &instants(&[start + 4000 * 24 * HOUR]))]);
    assert_eq!(pipeline.transform(&later).unwrap().slots[2], 3);
    let missing: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![None]).with_timezone("UTC"));
    let inputs = pipeline.transform(&batch(&[("at", &missing)])).unwrap();
    assert_eq!((inputs.slots, inputs.dense), (vec![0; 3], vec![0.0; 2]));
}
