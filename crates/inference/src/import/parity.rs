//! Every shared model file against what its own library answered (the column `native_…`, or for ONNX files ONNX
//! Runtime's `onnx_…`) on 2,000 flights with gaps. Skipped by name where the files are not there.

#[path = "../../tests/flights/mod.rs"]
mod flights;

use super::{Imported, import};
use crate::tensor::{Data, Tensor};
use flights::{Flights, NUMBERS};
use std::collections::HashMap;

const CATEGORIES: [&str; 3] = ["carrier", "origin", "dest"];

impl Flights {
    /// Row by row; the categories' codes, where wanted, behind the numbers.
    fn matrix(&self, categories: bool) -> Vec<f64> {
        let mut columns: Vec<Vec<f64>> =
            NUMBERS.iter().map(|name| self.numbers(name).into_iter().map(f64::from).collect()).collect();
        if categories {
            let codes = std::fs::read(self.folder.join("category_codes.json")).unwrap();
            let codes: HashMap<String, Vec<String>> = serde_json::from_slice(&codes).unwrap();
            for name in CATEGORIES {
                let place = |text: &Vec<u8>| codes[name].iter().position(|known| known.as_bytes() == text);
                columns
                    .push(self.texts(name).iter().map(|text| place(text).map_or(f64::NAN, |at| at as f64)).collect());
            }
        }
        (0..self.rows).flat_map(|row| columns.iter().map(move |column| column[row]).collect::<Vec<_>>()).collect()
    }

    fn import(&self, file: &str) -> Imported {
        import(file, &std::fs::read(self.folder.join(file)).unwrap()).unwrap()
    }
}

fn run(model: &Imported, inputs: &[Tensor], output: usize) -> Vec<f64> {
    let model = model.model.as_ref().unwrap();
    let outputs = model.run(inputs, &[output]).unwrap();
    match &outputs[0].data {
        Data::Fp32(values) => values.iter().map(|value| f64::from(*value)).collect(),
        Data::Fp64(values) => values.clone(),
        other => panic!("{other:?}"),
    }
}

/// How many answers have other bits, and the largest difference.
fn differences(file: &str, ours: &[f64], theirs: &[f64]) -> (usize, f64) {
    assert_eq!(ours.len(), theirs.len());
    let other = ours.iter().zip(theirs).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    let most = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    println!("{file}: {other} of {} answers have other bits, the largest difference is {most:e}", ours.len());
    (other, most)
}

#[test]
fn lightgbm_gives_its_own_answers() {
    let Some(flights) = Flights::read() else { return };
    for (file, categories, share) in [
        ("lightgbm_num", false, 0.2),
        ("lightgbm_cat", true, 0.2),
        // No exponential: every bit.
        ("lightgbm_cat_reg", true, 0.0),
    ] {
        let model = flights.import(&format!("{file}.txt"));
        let matrix = flights.matrix(categories);
        let input = Tensor::new("input", vec![flights.rows, matrix.len() / flights.rows], Data::Fp64(matrix));
        let ours = run(&model, &[input], 0);
        let (other, most) = differences(file, &ours, &flights.expected(&format!("native_{file}")));
        assert!(other as f64 <= share * flights.rows as f64 && most <= 2.0 * f64::EPSILON, "{file}");
    }
}

#[test]
fn xgboost_gives_its_own_answers() {
    let Some(flights) = Flights::read() else { return };
    for file in ["xgboost_num.json", "xgboost_num.ubj"] {
        let model = flights.import(file);
        let matrix = flights.matrix(false).into_iter().map(|value| value as f32).collect();
        let input = Tensor::new("input", vec![flights.rows, NUMBERS.len()], Data::Fp32(matrix));
        let (other, _) = differences(file, &run(&model, &[input], 0), &flights.expected("native_xgboost_num"));
        assert_eq!(other, 0);
    }
}

#[test]
fn catboost_gives_its_own_answers() {
    let Some(flights) = Flights::read() else { return };
    for file in ["catboost_num.json", "catboost_num.cbm"] {
        let model = flights.import(file);
        let matrix = flights.matrix(false).into_iter().map(|value| value as f32).collect();
        let input = Tensor::new("input", vec![flights.rows, NUMBERS.len()], Data::Fp32(matrix));
        let ours = run(&model, &[input], 0);
        let (_, most) = differences(file, &ours, &flights.expected("native_catboost_num"));
        assert!(most <= 2.0 * f64::EPSILON, "{file}");
    }
}

/// The second column of the output `name`, or its only one.
fn column(model: &Imported, inputs: &[Tensor], name: &str) -> Vec<f64> {
    let signature = model.model.as_ref().unwrap().signature();
    let place = signature.outputs.iter().position(|output| output.name == name).unwrap();
    let width = *signature.outputs[place].shape.last().unwrap() as usize;
    run(model, inputs, place).into_iter().skip(width - 1).step_by(width).collect()
}

#[test]
fn onnx_trees_give_onnx_runtimes_answers() {
    let Some(flights) = Flights::read() else { return };
    for (file, output) in [
        ("lightgbm_num", "probabilities"),
        ("xgboost_num", "probabilities"),
        ("catboost_num", "probabilities"),
        ("sklearn_hgb", "probabilities"),
        ("sklearn_rf", "probabilities"),
        ("sklearn_hgb_reg", "variable"),
    ] {
        let model = flights.import(&format!("{file}.onnx"));
        assert_eq!(model.unsupported, None, "{file}");
        let matrix = flights.matrix(false).into_iter().map(|value| value as f32).collect();
        let input = Tensor::new(model.feature_names[0].clone(), vec![flights.rows, NUMBERS.len()], Data::Fp32(matrix));
        let ours = column(&model, &[input], output);
        let (other, most) = differences(file, &ours, &flights.expected(&format!("onnx_{file}")));
        // Where the exponential comes in, the platform's is one unit in the last place off in some cases.
        let logistic = !matches!(file, "sklearn_rf" | "sklearn_hgb_reg");
        assert!(if logistic { other <= flights.rows / 200 && most <= 6e-8 } else { other == 0 }, "{file}");
    }
}

/// The file was converted with thresholds in single precision; the native one keeps LightGBM's.
#[test]
fn the_trap_is_told_from_the_model() {
    let Some(flights) = Flights::read() else { return };
    let (native, converted) = (flights.expected("native_lightgbm_num"), flights.expected("onnx_lightgbm_num"));
    let far = native.iter().zip(&converted).filter(|(a, b)| (*a - *b).abs() > 1e-3).count();
    assert_eq!(far, 1);
}

#[test]
fn onnx_pipeline_of_a_linear_model() {
    let Some(flights) = Flights::read() else { return };
    let model = flights.import("sklearn_logreg_mixed.onnx");
    assert_eq!(model.unsupported, None);
    let shape = vec![flights.rows, 1];
    let numbers = NUMBERS.iter().map(|name| Tensor::new(*name, shape.clone(), Data::Fp32(flights.numbers(name))));
    let texts = CATEGORIES.iter().map(|name| Tensor::new(*name, shape.clone(), Data::Bytes(flights.texts(name))));
    let inputs: Vec<Tensor> = numbers.chain(texts).collect();
    let ours = column(&model, &inputs, "probabilities");
    let (_, most) = differences("sklearn_logreg_mixed", &ours, &flights.expected("onnx_sklearn_logreg_mixed"));
    assert!(most <= 4e-7);
}

#[test]
fn nets_are_left_to_onnx_runtime() {
    let Some(flights) = Flights::read() else { return };
    let model = flights.import("sklearn_mlp.onnx");
    assert!(model.model.is_none());
    assert_eq!(model.unsupported.unwrap().op, "MatMul");
}
