//! Files that are cut off or changed: they are refused in words or answer, and never do anything else.

use super::fixtures::folder;
use super::{import, sniff};
use crate::tensor::{Data, Datatype, Tensor, TensorModel};
use proptest::prelude::*;

const FILES: [&str; 22] = [
    "lightgbm_binary.txt",
    "lightgbm_multiclass.txt",
    "lightgbm_rf.txt",
    "xgboost_binary.json",
    "xgboost_categories.json",
    "xgboost_dart.json",
    "xgboost_gblinear.json",
    "xgboost_binary.ubj",
    "xgboost_categories.ubj",
    "catboost_binary.json",
    "catboost_depthwise.json",
    "catboost_binary.cbm",
    "catboost_depthwise.cbm",
    "catboost_lossguide.cbm",
    "catboost_categories.cbm",
    "onnx_regressor_mixed.onnx",
    "onnx_classifier_many.onnx",
    "onnx_classifier_both.onnx",
    "onnx_sklearn_columns.onnx",
    "onnx_sklearn_logistic.onnx",
    "onnx_sklearn_linear.onnx",
    "onnx_lightgbm.onnx",
];

/// Wider models are not asked: a damaged width is allowed to be large.
const COLUMNS_MAX: usize = 4096;

/// Asks the model with made-up rows, if it is not too wide.
fn ask(model: &dyn TensorModel) {
    let rows = 3;
    let mut inputs = Vec::new();
    for spec in &model.signature().inputs {
        let shape: Vec<usize> = spec.shape.iter().map(|length| usize::try_from(*length).unwrap_or(rows)).collect();
        let count: usize = shape.iter().product();
        if count > rows * COLUMNS_MAX {
            return;
        }
        let number = |at: usize| [0.0, -1.5, f64::NAN, 3.0, 1e30, f64::NEG_INFINITY][at % 6];
        let data = match spec.datatype {
            Datatype::Fp32 => Data::Fp32((0..count).map(|at| number(at) as f32).collect()),
            Datatype::Fp64 => Data::Fp64((0..count).map(number).collect()),
            Datatype::Int64 => Data::Int64((0..count).map(|at| at as i64 - 2).collect()),
            Datatype::Int32 => Data::Int32((0..count).map(|at| at as i32 - 2).collect()),
            Datatype::Bool => Data::Bool((0..count).map(|at| at % 2 == 0).collect()),
            _ => Data::Bytes((0..count).map(|at| vec![b'a'; at % 3]).collect()),
        };
        inputs.push(Tensor::new(spec.name.clone(), shape, data));
    }
    let wanted: Vec<usize> = (0..model.signature().outputs.len()).collect();
    if let Ok(outputs) = model.run(&inputs, &wanted) {
        for output in outputs {
            assert_eq!(output.shape.iter().product::<usize>(), output.data.len());
        }
    }
    model.canonical(&mut inputs);
}

fn read(bytes: &[u8]) {
    match import("damaged", bytes) {
        Ok(imported) => {
            assert!(imported.model.is_some() || imported.unsupported.is_some());
            if let Some(model) = imported.model {
                ask(&*model);
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn contents(file: &str) -> Vec<u8> {
    std::fs::read(folder().join(file)).unwrap()
}

#[test]
fn a_file_that_is_cut_off_is_refused() {
    for file in FILES {
        let bytes = contents(file);
        let format = sniff(&bytes).unwrap();
        for part in 0..97 {
            let length = bytes.len() * part / 97;
            read(&bytes[..length]);
            // Of ONNX, a file may end between two fields of the top level; behind the end of LightGBM's trees there is
            // only what is not read.
            let whole = bytes[..length].windows(12).any(|window| window == b"end of trees");
            if !file.ends_with(".onnx") && !whole {
                assert!(import(file, &bytes[..length]).is_err(), "{file}, {length} bytes of {format}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn changed_bytes_do_no_harm(
        file in 0..FILES.len(),
        changes in prop::collection::vec((0.0..1.0f64, any::<u8>()), 1..6),
        cut in prop::option::weighted(0.2, 0.0..1.0f64),
    ) {
        let mut bytes = contents(FILES[file]);
        for (place, byte) in changes {
            let place = (place * bytes.len() as f64) as usize;
            bytes[place] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate((cut * bytes.len() as f64) as usize);
        }
        read(&bytes);
    }

    /// In texts, most changed bytes are no numbers any more: here digits become other digits.
    #[test]
    fn changed_digits_do_no_harm(
        file in 0..11usize,
        changes in prop::collection::vec((0.0..1.0f64, 0..14usize), 1..8),
    ) {
        let mut bytes = contents(FILES[file]);
        for (place, digit) in changes {
            let from = (place * bytes.len() as f64) as usize;
            if let Some(at) = bytes[from..].iter().position(u8::is_ascii_digit) {
                bytes[from + at] = b"0123456789-e. "[digit];
            }
        }
        read(&bytes);
    }

    #[test]
    fn random_bytes_are_no_model(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        read(&bytes);
    }

    /// In an ONNX file, words and small numbers take one another's places.
    #[test]
    fn parts_moved_about_do_no_harm(
        file in 15..FILES.len(),
        from in 0.0..1.0f64,
        to in 0.0..1.0f64,
        length in 1..40usize,
    ) {
        let mut bytes = contents(FILES[file]);
        let (from, to) = ((from * bytes.len() as f64) as usize, (to * bytes.len() as f64) as usize);
        let length = length.min(bytes.len() - from.max(to));
        bytes.copy_within(from..from + length, to);
        read(&bytes);
    }
}
