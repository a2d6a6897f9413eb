//! The small models of `testdata/import` against what their own libraries answered. `make_models.py` makes both.

use super::{Format, Imported, TaskHint, import};
use crate::tensor::{Data, Tensor, TensorModel};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Deserialize)]
struct Expected {
    inputs: BTreeMap<String, Vec<Given>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Given {
    name: String,
    datatype: String,
    shape: Vec<usize>,
    data: Vec<Value>,
}

#[derive(Deserialize)]
struct Case {
    file: String,
    inputs: String,
    outputs: Vec<Given>,
    exact: Vec<String>,
}

impl Given {
    fn tensor(&self) -> Tensor {
        let number = |value: &Value| match value {
            Value::Null => f64::NAN,
            Value::String(text) => text.parse().unwrap(),
            value => value.as_f64().unwrap(),
        };
        let data = match self.datatype.as_str() {
            "FP64" => Data::Fp64(self.data.iter().map(number).collect()),
            "FP32" => Data::Fp32(self.data.iter().map(|value| number(value) as f32).collect()),
            "INT64" => Data::Int64(self.data.iter().map(|value| value.as_i64().unwrap()).collect()),
            "BOOL" => Data::Bool(self.data.iter().map(|value| value.as_i64().unwrap() != 0).collect()),
            _ => Data::Bytes(self.data.iter().map(|value| value.as_str().unwrap().as_bytes().to_vec()).collect()),
        };
        Tensor::new(self.name.clone(), self.shape.clone(), data)
    }
}

pub(super) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/import")
}

pub(super) fn read(file: &str) -> Imported {
    import(file, &std::fs::read(folder().join(file)).unwrap()).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn expected() -> Expected {
    serde_json::from_slice(&std::fs::read(folder().join("expected.json")).unwrap()).unwrap()
}

/// Calls `check` with each model, its rows and its case.
fn each(check: impl Fn(&str, &dyn TensorModel, &[Tensor], &Case)) {
    let expected = expected();
    assert!(expected.cases.len() > 80);
    for case in &expected.cases {
        let imported = read(&case.file);
        assert_eq!(imported.unsupported, None, "{}", case.file);
        let model = imported.model.unwrap();
        let inputs: Vec<Tensor> = expected.inputs[&case.inputs].iter().map(Given::tensor).collect();
        check(&case.file, &*model, &inputs, case);
    }
}

fn all(model: &dyn TensorModel) -> Vec<usize> {
    (0..model.signature().outputs.len()).collect()
}

/// The bits of the elements; -0 and 0 stay apart, all NaNs are one.
fn bits(data: &Data) -> Vec<u64> {
    match data {
        Data::Fp32(values) => {
            values.iter().map(|x| if x.is_nan() { u64::MAX } else { u64::from(x.to_bits()) }).collect()
        }
        Data::Fp64(values) => values.iter().map(|x| if x.is_nan() { u64::MAX } else { x.to_bits() }).collect(),
        Data::Int64(values) => values.iter().map(|x| *x as u64).collect(),
        Data::Bool(values) => values.iter().map(|x| u64::from(*x)).collect(),
        Data::Bytes(values) => {
            values.iter().flat_map(|text| text.iter().map(|byte| u64::from(*byte)).chain([256])).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// The largest distance, in units in the last place of the larger number.
fn distance(ours: &Data, theirs: &Data) -> f64 {
    let pairs: Vec<(f64, f64)> = match (ours, theirs) {
        (Data::Fp32(a), Data::Fp32(b)) => a.iter().zip(b).map(|(a, b)| (f64::from(*a), f64::from(*b))).collect(),
        (Data::Fp64(a), Data::Fp64(b)) => a.iter().copied().zip(b.iter().copied()).collect(),
        (a, b) => panic!("{a:?} {b:?}"),
    };
    let unit = if matches!(ours, Data::Fp32(_)) { f64::from(f32::EPSILON) } else { f64::EPSILON };
    pairs
        .into_iter()
        .map(
            |(a, b)| {
                if a == b || (a.is_nan() && b.is_nan()) { 0.0 } else { (a - b).abs() / (unit * a.abs().max(b.abs())) }
            },
        )
        .fold(0.0, f64::max)
}

#[test]
fn the_libraries_answers() {
    let mut failed = Vec::new();
    let failures = std::sync::Mutex::new(&mut failed);
    each(|file, model, inputs, case| {
        let outputs = model.run(inputs, &all(model)).unwrap_or_else(|error| panic!("{file}: {error}"));
        for theirs in &case.outputs {
            let ours = outputs.iter().find(|output| output.name == theirs.name);
            let ours = ours.unwrap_or_else(|| panic!("{file} has no output {}", theirs.name));
            let theirs = theirs.tensor();
            assert_eq!(ours.shape, theirs.shape, "{file} {}", theirs.name);
            assert_eq!(ours.datatype(), theirs.datatype(), "{file} {}", theirs.name);
            let same = bits(&ours.data) == bits(&theirs.data);
            let exact = case.exact.contains(&theirs.name);
            // Linear sums in another order lose more where they cancel.
            let most = if file.contains("linear") || file.contains("logistic.onnx") { 16.0 } else { 4.0 };
            if !(same || (!exact && distance(&ours.data, &theirs.data) <= most)) {
                let wrong = bits(&ours.data).iter().zip(bits(&theirs.data)).filter(|(a, b)| *a != b).count();
                let far = if exact { f64::NAN } else { distance(&ours.data, &theirs.data) };
                failures.lock().unwrap().push(format!("{file} {}: {wrong} differ, by up to {far} ulp", theirs.name));
            }
        }
    });
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn a_row_has_the_same_answer_in_any_batch() {
    each(|file, model, inputs, _| {
        let whole = model.run(inputs, &all(model)).unwrap();
        let rows = inputs[0].rows();
        for size in [1, 3, 8, 17] {
            for from in (0..rows).step_by(size) {
                let to = (from + size).min(rows);
                let part: Vec<Tensor> = inputs.iter().map(|input| input.slice_rows(from, to)).collect();
                for (output, part) in whole.iter().zip(model.run(&part, &all(model)).unwrap()) {
                    assert_eq!(part.shape[0], to - from, "{file}");
                    assert_eq!(bits(&output.slice_rows(from, to).data), bits(&part.data), "{file}, {from} to {to}");
                }
            }
        }
        let none: Vec<Tensor> = inputs.iter().map(|input| input.slice_rows(0, 0)).collect();
        assert!(model.run(&none, &all(model)).unwrap().iter().all(|output| output.data.is_empty()), "{file}");
    });
}

#[test]
fn canonical_rows_have_the_same_answer() {
    each(|file, model, inputs, _| {
        let mut canonical = inputs.to_vec();
        if !model.canonical(&mut canonical) {
            assert_eq!(model.platform(), "onnx_native", "{file}");
            return;
        }
        for (ours, theirs) in
            model.run(&canonical, &all(model)).unwrap().iter().zip(model.run(inputs, &all(model)).unwrap())
        {
            assert_eq!(bits(&ours.data), bits(&theirs.data), "{file}");
        }
        let mut twice = canonical.clone();
        assert!(model.canonical(&mut twice));
        let all_bits = |tensors: &[Tensor]| tensors.iter().flat_map(|tensor| bits(&tensor.data)).collect::<Vec<_>>();
        assert_eq!(all_bits(&twice), all_bits(&canonical), "{file}");
    });
}

#[test]
fn outputs_come_as_wanted() {
    each(|file, model, inputs, _| {
        let whole = model.run(inputs, &all(model)).unwrap();
        for place in all(model) {
            let one = model.run(inputs, &[place]).unwrap();
            assert_eq!((one.len(), &one[0].name), (1, &model.signature().outputs[place].name), "{file}");
            assert_eq!(bits(&one[0].data), bits(&whole[place].data), "{file}");
        }
        assert!(model.run(&[], &[0]).is_err(), "{file}");
        assert!(model.run(inputs, &[9]).is_err(), "{file}");
        assert!(model.bytes() > 0, "{file}");
    });
}

#[test]
fn what_is_not_read_is_refused_by_name() {
    let refused = |file: &str| import(file, &std::fs::read(folder().join(file)).unwrap()).unwrap_err().to_string();
    assert!(refused("lightgbm_linear.txt").contains("linear trees"));
    assert!(refused("xgboost_vectors.json").contains("leaves of several outputs"));
    assert!(refused("catboost_categories.cbm").contains("categorical features"));
    let unknown = import("model.pkl", b"\x80\x04\x95").unwrap_err().to_string();
    assert!(unknown.contains("model.pkl") && unknown.contains("Python pickle (protocol 4)"), "{unknown}");
    assert!(import("empty", b"").unwrap_err().to_string().contains("it is empty"));
    assert!(import("list.json", b"{\"a\": [1]}").unwrap_err().to_string().contains("LightGBM text"));
}

#[test]
fn a_file_tells_what_it_is() {
    let told = |file: &str| {
        let imported = read(file);
        (imported.format, imported.task, imported.classes.join(" "), imported.feature_names.join(" "))
    };
    let own = |text: &str| text.to_owned();
    let multiclass = TaskHint::Multiclass(3);
    for (file, format, task, classes, features) in [
        ("lightgbm_binary.txt", Format::LightgbmText, TaskHint::Binary, "", ""),
        ("lightgbm_multiclass.txt", Format::LightgbmText, multiclass, "", ""),
        ("lightgbm_poisson.txt", Format::LightgbmText, TaskHint::Regression, "", ""),
        ("lightgbm_rank.txt", Format::LightgbmText, TaskHint::Unknown, "", ""),
        ("xgboost_binary.json", Format::XgboostJson, TaskHint::Binary, "", ""),
        ("xgboost_categories.ubj", Format::XgboostUbjson, TaskHint::Regression, "", ""),
        ("xgboost_softmax.json", Format::XgboostJson, multiclass, "", ""),
        ("catboost_binary.json", Format::CatboostJson, TaskHint::Binary, "0 1", "a b c d e"),
        ("catboost_lossguide.cbm", Format::CatboostCbm, multiclass, "low mid top", "a b c d e"),
        ("onnx_sklearn_logistic.onnx", Format::Onnx, multiclass, "low mid top", "input"),
        ("onnx_sklearn_columns.onnx", Format::Onnx, TaskHint::Binary, "0 1", "town size kind"),
        ("onnx_regressor_lt.onnx", Format::Onnx, TaskHint::Regression, "", "input"),
    ] {
        let (classes, features) = (own(classes), own(features));
        // The positive class is 1.0 where the labels were floating-point numbers.
        let (found_format, found_task, found_classes, found_features) = told(file);
        assert_eq!((found_format, found_task, found_features), (format, task, features), "{file}");
        assert_eq!(found_classes.replace(".0", ""), classes, "{file}");
    }
    let notes = |file: &str| read(file).notes.join("\n");
    assert!(notes("xgboost_stopped.json").contains("early stopping: the first"));
    assert!(notes("xgboost_rank.json").contains("it ranks"));
    assert!(notes("onnx_sklearn_linear.onnx").contains("rounded once"));
    assert!(notes("lightgbm_binary.txt").is_empty());
}

/// Numbers between the same thresholds become one; across a threshold they stay apart.
#[test]
fn canonical_numbers_stand_for_intervals() {
    let model = read("lightgbm_binary.txt").model.unwrap();
    let canonical = |row: [f64; 5]| {
        let mut inputs = [Tensor::new("input", vec![1, 5], Data::Fp64(row.to_vec()))];
        assert!(model.canonical(&mut inputs));
        bits(&inputs[0].data)
    };
    let near = canonical([0.3, f64::NAN, -0.0, 3.2, 1.0]);
    assert_eq!(canonical([0.3 + 1e-12, -f64::NAN, 0.0, 3.9, 1.0 + 1e-12]), near);
    assert_ne!(canonical([50.0, f64::NAN, 0.0, 3.0, 1.0]), near);
    assert_ne!(canonical([0.3, f64::NAN, 0.0, 4.0, 1.0]), near);
    assert_ne!(canonical([0.3, 0.0, 0.0, 3.0, 1.0]), near);
    // Categories that no node knows are one.
    assert_eq!(canonical([0.3, 0.0, 0.0, 1e6, 1.0]), canonical([0.3, 0.0, 0.0, -4.0, 1.0]));
}
