//! Data that says little: each recipe makes what it can of it, and says what it left out.

use super::*;

fn fitted(recipe: Recipe, data: &RecordBatch, contract: &Contract) -> Fitted {
    let rows: Vec<u32> = (0..data.num_rows() as u32).collect();
    let target: Vec<f64> = (0..data.num_rows()).map(|row| f64::from((row % 2) as u8)).collect();
    let fitted = Pipeline::fit(&spec("y"), contract, recipe, data, &rows, &target, 3).unwrap();
    let inputs = fitted.pipeline.transform_training(data, &target, 3).unwrap();
    assert!(recipe == Recipe::Trees || inputs.dense.iter().all(|value| value.is_finite()));
    fitted
}

#[track_caller]
fn notes_hold(fitted: &Fitted, parts: &[&str]) {
    for part in parts {
        assert!(fitted.notes.iter().any(|note| note.contains(part)), "{part}: {:?}", fitted.notes);
    }
}

#[test]
fn constant_and_missing_columns_and_values_that_never_come_back() {
    let rows = 60;
    let names: Vec<String> = (0..rows).map(|row| format!("one in a million {row}")).collect();
    let text =
        |value: &dyn Fn(usize) -> Option<String>| Arc::new((0..rows).map(value).collect::<StringArray>()) as ArrayRef;
    let number =
        |value: &dyn Fn(usize) -> Option<f64>| Arc::new((0..rows).map(value).collect::<Float64Array>()) as ArrayRef;
    let whole = |value: Option<i64>| Arc::new(Int64Array::from(vec![value; rows])) as ArrayRef;
    let data = batch(&[
        ("good", &number(&|row| Some(row as f64))),
        ("constant", &number(&|_| Some(7.5))),
        ("infinite", &number(&|_| Some(f64::INFINITY))),
        ("absent", &number(&|_| None)),
        ("whole", &whole(Some(3))),
        ("word", &text(&|_| Some("always".to_owned()))),
        ("unnamed", &text(&|_| None)),
        ("name", &text(&|row| Some(names[row].clone()))),
    ]);
    let float = |name: &str| column(name, ColumnKind::Float);
    let string = |name: &str| column(name, ColumnKind::String);
    let contract = contract(vec![
        float("good"),
        float("constant"),
        float("infinite"),
        float("absent"),
        column("whole", ColumnKind::Int),
        string("word"),
        string("unnamed"),
        string("name"),
        column("y", ColumnKind::Bool),
    ]);
    for recipe in RECIPES {
        let fitted = fitted(recipe, &data, &contract);
        notes_hold(
            &fitted,
            &[
                "\"constant\" has the one value 7.5",
                "\"absent\" has no value",
                "\"whole\" has the one value 3",
                "\"word\" has the one value \"always\"",
                "\"unnamed\" has no value",
                "\"name\" has no value that occurs",
            ],
        );
        let used = fitted.pipeline.input_columns();
        assert!(!["absent", "unnamed", "name"].iter().any(|name| used.contains(&(*name).to_owned())), "{used:?}");
        assert!(used.contains(&"good".to_owned()));
    }
}

#[test]
fn more_columns_than_rows_is_noted() {
    let names: Vec<String> = (0..50).map(|place| format!("x{place}")).collect();
    let arrays: Vec<ArrayRef> = (0..50)
        .map(|place| {
            Arc::new(Float64Array::from_iter_values((0..20).map(|row| f64::from(row * place % 17)))) as ArrayRef
        })
        .collect();
    let data = batch(&names.iter().map(String::as_str).zip(&arrays).collect::<Vec<_>>());
    let mut columns: Vec<_> = names.iter().map(|name| column(name, ColumnKind::Float)).collect();
    columns.push(column("y", ColumnKind::Bool));
    for recipe in RECIPES {
        notes_hold(&fitted(recipe, &data, &contract(columns.clone())), &["inputs for 20 rows to learn from"]);
    }
    let mut reduced = spec("y");
    reduced.features.reduce = Some(ReduceSpec { method: ReduceMethod::Pca, columns: Vec::new(), components: 30 });
    let rows: Vec<u32> = (0..20).collect();
    let fitted = Pipeline::fit(&reduced, &contract(columns), Recipe::Network, &data, &rows, &[0.0; 20], 3).unwrap();
    // Twenty rows span nineteen directions at most.
    assert!(fitted.pipeline.layout().dense.len() < 20, "{:?}", fitted.pipeline.layout());
}

#[test]
fn nothing_but_empty_columns_is_an_error_that_says_so() {
    let data = batch(&[("s", &strings(&[None, None, None]))]);
    let contract = contract(vec![column("s", ColumnKind::String), column("y", ColumnKind::Bool)]);
    for recipe in RECIPES {
        let error =
            Pipeline::fit(&spec("y"), &contract, recipe, &data, &[0, 1, 2], &[0.0; 3], 3).unwrap_err().to_string();
        assert!(error.contains("no column is left") && error.contains("\"s\" has no value"), "{error}");
    }
}
