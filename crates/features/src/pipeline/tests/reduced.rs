//! Stories of reduction and of means by class.

use super::*;

/// Three columns of which the third is the sum of the others, and one of noise.
fn correlated(rows: usize) -> RecordBatch {
    let uniform =
        |row: usize, salt: u64| (crate::hash::finish(row as u64 * 8 + salt) >> 11) as f64 / (1u64 << 53) as f64;
    let column =
        |value: &dyn Fn(usize) -> f64| Arc::new(Float64Array::from_iter_values((0..rows).map(value))) as ArrayRef;
    batch(&[
        ("a", &column(&|row| uniform(row, 0))),
        ("b", &column(&|row| uniform(row, 0) * 3.0 + 0.1 * uniform(row, 1))),
        ("c", &column(&|row| -uniform(row, 0) + 0.1 * uniform(row, 2))),
        ("noise", &column(&|row| uniform(row, 3))),
    ])
}

fn reduced(method: ReduceMethod, columns: &[&str], components: u32) -> ModelSpec {
    let columns = columns.iter().map(|name| (*name).to_owned()).collect();
    let reduce = Some(ReduceSpec { method, columns, components });
    ModelSpec { features: FeatureSpec { reduce, ..FeatureSpec::default() }, ..spec("y") }
}

fn numbers() -> Contract {
    let mut columns: Vec<_> = ["a", "b", "c", "noise"].iter().map(|name| column(name, ColumnKind::Float)).collect();
    columns.push(column("y", ColumnKind::Bool));
    contract(columns)
}

#[test]
fn the_first_component_is_what_the_columns_share() {
    let data = correlated(500);
    for recipe in RECIPES {
        let pipeline = fit(&reduced(ReduceMethod::Pca, &[], 2), &numbers(), recipe, &data, &[0.0; 500]);
        assert_eq!(dense_names(&pipeline), ["pca:0", "pca:1"]);
        let inputs = pipeline.transform(&data).unwrap();
        let column =
            |place: usize| -> Vec<f64> { (0..500).map(|row| f64::from(inputs.dense_row(row)[place])).collect() };
        let variance = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>() / v.len() as f64;
        assert!((variance(&column(0)) - 1.0).abs() < 1e-4, "{}", variance(&column(0)));
        // The noise has a third of the variance of the three that go together.
        assert!((variance(&column(1)) - 1.0 / 3.0).abs() < 0.03, "{}", variance(&column(1)));
        let a = data.column(0).as_any().downcast_ref::<Float64Array>().unwrap().values();
        let low: f64 = column(0).iter().zip(a).filter(|(_, a)| **a < 0.1).map(|(x, _)| x.signum()).sum();
        assert!(low.abs() > 40.0, "{low}");
    }
}

#[test]
fn named_columns_are_replaced_and_the_others_stay() {
    let data = correlated(100);
    let spec = reduced(ReduceMethod::RandomProjection, &["a", "b", "c"], 5);
    let pipeline = fit(&spec, &numbers(), Recipe::Trees, &data, &[0.0; 100]);
    let projected: Vec<String> = (0..5).map(|place| format!("random_projection:{place}")).collect();
    assert_eq!(dense_names(&pipeline)[0], "noise");
    assert_eq!(dense_names(&pipeline)[1..], projected);
    let error = |spec: &ModelSpec| {
        Pipeline::fit(spec, &numbers(), Recipe::Trees, &data, &[0, 1], &[0.0; 100], 1).unwrap_err().to_string()
    };
    let mut unused = spec.clone();
    unused.features.columns = vec!["noise".to_owned()];
    assert!(error(&unused).contains("\"a\", which is not used as a number"), "{}", error(&unused));
    let few = reduced(ReduceMethod::Pca, &["a", "b"], 5);
    let rows: Vec<u32> = (0..100).collect();
    let fitted = Pipeline::fit(&few, &numbers(), Recipe::Linear, &data, &rows, &[0.0; 100], 1).unwrap();
    assert_eq!(fitted.notes, ["features.reduce finds 2 components in 2 columns, not 5"]);
}

#[test]
fn a_multiclass_target_gives_a_mean_for_each_class() {
    let keys: Vec<String> = (0..60).map(|row| format!("k{}", row % 20)).collect();
    let tails = strings(&keys.iter().map(|key| Some(key.as_str())).collect::<Vec<_>>());
    let data = batch(&[("tail", &tails)]);
    let contract = contract(vec![column("tail", ColumnKind::String), column("y", ColumnKind::String)]);
    let target: Vec<f64> = (0..60).map(|row| f64::from(row % 20 % 3)).collect();
    let classes = |names: &[String]| names.iter().map(|name| Scalar::Text(name.clone())).collect();
    let three =
        ModelSpec { task: Task::Multiclass, classes: classes(&["x", "y", "z"].map(str::to_owned)), ..spec("y") };
    let pipeline = fit(&three, &contract, Recipe::Trees, &data, &target);
    assert_eq!(dense_names(&pipeline), ["tail:mean:x", "tail:mean:y", "tail:mean:z", "tail:log_count"]);
    let inputs = pipeline.transform(&data).unwrap();
    // Three rows of k1, all of class 1, of which there are 21 rows in 60.
    let own = (3.0 + 20.0 * 21.0 / 60.0) / 23.0;
    let row = inputs.dense_row(1);
    assert!((f64::from(row[1]) - own).abs() < 1e-6 && (row[..3].iter().sum::<f32>() - 1.0).abs() < 1e-5, "{row:?}");

    // The first row of a key knows nothing of its target, the third what the two before it were.
    let order: Vec<f32> = {
        let training = pipeline.transform_training(&data, &target, 1).unwrap();
        let mut own: Vec<f32> = [1, 21, 41].map(|row| training.dense_row(row)[1]).to_vec();
        own.sort_by(f32::total_cmp);
        own
    };
    let known = |rows: f64| ((rows + 7.0) / (rows + 20.0)) as f32;
    assert!(order.iter().zip([0.0, 1.0, 2.0]).all(|(found, rows)| (found - known(rows)).abs() < 1e-6), "{order:?}");

    let many: Vec<String> = (0..40).map(|class| format!("c{class}")).collect();
    let forty = ModelSpec { classes: classes(&many), ..three };
    let target: Vec<f64> = (0..60).map(|row| if row < 30 { 39.0 } else { f64::from(row % 20) }).collect();
    let pipeline = fit(&forty, &contract, Recipe::Trees, &data, &target);
    assert_eq!(dense_names(&pipeline).len(), 17);
    assert!(dense_names(&pipeline).contains(&"tail:mean:c39"));
}

#[test]
fn a_number_named_like_a_key_is_a_category_too_where_its_values_come_back() {
    let ids = |spread: i64| Arc::new(Int64Array::from_iter_values((0..200).map(|row| row * 7919 % spread))) as ArrayRef;
    let contract = contract(vec![column("store_id", ColumnKind::Int), column("y", ColumnKind::Bool)]);
    let names = |data: &RecordBatch, recipe: Recipe| {
        let layout = fit(&spec("y"), &contract, recipe, data, &[0.0; 200]).layout().clone();
        (layout.dense.into_iter().map(|column| column.name).collect::<Vec<_>>(), layout.slots)
    };
    let stores = batch(&[("store_id", &ids(30))]);
    assert_eq!(names(&stores, Recipe::Trees).0, ["store_id", "store_id:mean", "store_id:log_count"]);
    assert_eq!(names(&stores, Recipe::Network).1, ["store_id"]);
    let orders = batch(&[("store_id", &ids(199))]);
    assert_eq!(names(&orders, Recipe::Trees).0, ["store_id"]);
}
