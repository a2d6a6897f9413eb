//! Models that we make ourselves (`testdata/onnx/make_onnx.py`) on the real ONNX Runtime, and files of scikit-learn and
//! others with the answers that their libraries gave.

mod flights;

use std::path::Path;
use std::sync::Barrier;

use flights::{Flights, NUMBERS};
use inference::{
    Data, Datatype, EngineError, Memory, OnnxOptions, OnnxRuntimeModel, Rows, RunError, Tensor, TensorModel,
    check_rows, open_library,
};

/// Whether ONNX Runtime is installed; a test without it is skipped by its name, or fails where services are required.
fn library(test: &str) -> bool {
    match open_library(None) {
        Ok(_) => true,
        Err(error) if std::env::var_os("HOMEOSTAT_REQUIRE_SERVICES").is_some_and(|value| value == "1") => {
            panic!("{test}: {error}")
        }
        Err(error) => {
            eprintln!("skipped: {test}: {error}");
            false
        }
    }
}

fn file(name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/onnx").join(name).with_extension("onnx");
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn open(name: &str) -> OnnxRuntimeModel {
    OnnxRuntimeModel::open(&file(name), &OnnxOptions::default()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn refusal(name: &str) -> EngineError {
    match OnnxRuntimeModel::open(&file(name), &OnnxOptions::default()) {
        Ok(_) => panic!("{name} was opened"),
        Err(error) => error,
    }
}

fn floats(name: &str, shape: &[usize], values: Vec<f32>) -> Tensor {
    Tensor::new(name, shape.to_vec(), Data::Fp32(values))
}

/// Numbers between -1 and 1 that look like noise.
fn noise(count: usize) -> Vec<f32> {
    (0..count).map(|place| ((place as f32 + 1.0) * 12.9898).sin()).collect()
}

fn fp32(tensor: &Tensor) -> &[f32] {
    match &tensor.data {
        Data::Fp32(values) => values,
        other => panic!("{} is {}", tensor.name, other.datatype()),
    }
}

#[test]
fn every_datatype_goes_through_unchanged() {
    if !library("every_datatype_goes_through_unchanged") {
        return;
    }
    let model = open("identity");
    let datatypes: Vec<Datatype> = model.signature().inputs.iter().map(|input| input.datatype).collect();
    assert_eq!(datatypes[..14], Datatype::ALL);
    assert_eq!(model.signature().inputs[0].shape, [-1, 2]);
    assert_eq!(model.signature().inputs[14].shape, [0i64; 0]);
    assert!(!model.signature().batches, "a scalar has no rows");

    let data = vec![
        Data::Bool(vec![true, false, false, true]),
        Data::Uint8(vec![0, 1, 254, 255]),
        Data::Uint16(vec![0, 1, 2, u16::MAX]),
        Data::Uint32(vec![0, 1, 2, u32::MAX]),
        Data::Uint64(vec![0, 1, 2, u64::MAX]),
        Data::Int8(vec![i8::MIN, -1, 0, i8::MAX]),
        Data::Int16(vec![i16::MIN, -1, 0, i16::MAX]),
        Data::Int32(vec![i32::MIN, -1, 0, i32::MAX]),
        Data::Int64(vec![i64::MIN, -1, 0, i64::MAX]),
        Data::Fp16(vec![0x3c00, 0xc000, 0x7bff, 0x0001]),
        Data::Bf16(vec![0x3f80, 0xc000, 0x7f7f, 0x0001]),
        Data::Fp32(vec![0.1, -0.0, f32::MAX, f32::INFINITY]),
        Data::Fp64(vec![0.1, -0.0, f64::MAX, f64::MIN_POSITIVE]),
        Data::Bytes(vec![b"".to_vec(), "größe".into(), b"a".to_vec(), vec![b'x'; 100_000]]),
    ];
    let named = |(spec, data): (&inference::TensorSpec, Data)| Tensor::new(spec.name.clone(), vec![2, 2], data);
    let mut inputs: Vec<Tensor> = model.signature().inputs.iter().zip(data).map(named).collect();
    inputs.push(floats("scalar", &[], vec![7.5]));
    let everything: Vec<usize> = (0..15).collect();
    let outputs = model.run(&inputs, &everything).unwrap();
    for (input, output) in inputs.iter().zip(&outputs) {
        assert_eq!(output.name, format!("{}_out", input.name));
        assert_eq!((&output.shape, &output.data), (&input.shape, &input.data));
    }

    // No rows at all.
    let empty: Vec<Tensor> = inputs
        .iter()
        .map(|input| if input.shape.is_empty() { input.clone() } else { input.slice_rows(0, 0) })
        .collect();
    let outputs = model.run(&empty, &everything).unwrap();
    assert!(
        empty.iter().zip(&outputs).all(|(input, output)| (&input.shape, &input.data) == (&output.shape, &output.data))
    );

    // What ONNX's strings can't hold.
    for bad in [vec![0xff, 0xfe], vec![b'a', 0, b'b']] {
        inputs[13].data = Data::Bytes(vec![b"".to_vec(), b"".to_vec(), bad, b"".to_vec()]);
        let error = model.run(&inputs, &everything).unwrap_err();
        assert!(
            matches!(&error, RunError::Input(why) if why.contains("\"bytes\"") && why.contains("element 2")),
            "{error}"
        );
    }
}

#[test]
fn only_the_wanted_outputs_are_given_in_the_wanted_order() {
    if !library("only_the_wanted_outputs_are_given_in_the_wanted_order") {
        return;
    }
    let model = open("two_by_two");
    assert!(model.signature().batches);
    let inputs = [floats("a", &[2, 2], vec![5., 6., 7., 8.]), floats("b", &[2, 2], vec![1., 2., 3., 4.])];
    let names = |wanted: &[usize]| {
        let outputs = model.run(&inputs, wanted).unwrap();
        outputs.iter().map(|output| (output.name.clone(), fp32(output)[3])).collect::<Vec<_>>()
    };
    let sum = ("sum".to_owned(), 12.0);
    let difference = ("difference".to_owned(), 4.0);
    assert_eq!(names(&[0, 1]), [sum.clone(), difference.clone()]);
    assert_eq!(names(&[1, 0]), [difference.clone(), sum]);
    assert_eq!(names(&[1]), [difference]);
    assert_eq!(names(&[]), []);
}

#[test]
fn a_free_number_of_rows_is_a_batch_and_weights_are_no_inputs() {
    if !library("a_free_number_of_rows_is_a_batch_and_weights_are_no_inputs") {
        return;
    }
    let model = open("perceptron");
    let signature = model.signature();
    assert!(signature.batches && !model.exact());
    assert_eq!(signature.inputs.iter().map(|input| input.name.as_str()).collect::<Vec<_>>(), ["x"]);
    assert_eq!((&signature.inputs[0].shape, &signature.outputs[0].shape), (&vec![-1, 8], &vec![-1, 3]));
    assert!(model.bytes() >= file("perceptron").len());

    let rows = floats("x", &[64, 8], noise(64 * 8));
    let together = model.run(std::slice::from_ref(&rows), &[0]).unwrap();
    assert_eq!(together[0].shape, [64, 3]);
    for row in 0..64 {
        let alone = model.run(&[rows.slice_rows(row, row + 1)], &[0]).unwrap();
        for (a, b) in fp32(&together[0])[row * 3..row * 3 + 3].iter().zip(fp32(&alone[0])) {
            assert!((a - b).abs() < 1e-6, "row {row}: {a} and {b}");
        }
    }
    assert!(matches!(check_rows(&model), Rows::Same | Rows::Close { .. }));

    let fixed = open("fixed");
    assert!(!fixed.signature().batches);
    assert_eq!(fixed.signature().inputs[0].shape, [1, 3, 6, 6]);
    assert_eq!(fixed.run(&[floats("image", &[1, 3, 6, 6], noise(108))], &[0]).unwrap()[0].shape, [1, 2, 6, 6]);
}

#[test]
fn words_come_back_as_numbers() {
    if !library("words_come_back_as_numbers") {
        return;
    }
    let model = open("text");
    let words: Vec<Vec<u8>> = ["grün", "blue", "", "red"].iter().map(|word| word.as_bytes().to_vec()).collect();
    let outputs = model.run(&[Tensor::new("word", vec![4], Data::Bytes(words.clone()))], &[0, 1]).unwrap();
    assert_eq!(outputs[0].data, Data::Int64(vec![2, -1, 3, 1]));
    assert_eq!(outputs[1].data, Data::Bytes(words));
}

#[test]
fn what_scales_rows_together_is_not_batched() {
    if !library("what_scales_rows_together_is_not_batched") {
        return;
    }
    for name in ["quantized", "quantized_in_function"] {
        let model = open(name);
        assert!(!model.signature().batches, "{name}");
        assert!(model.notes()[0].contains("DynamicQuantizeLinear"), "{:?}", model.notes());
        assert!(matches!(check_rows(&model), Rows::Dependent { .. }), "{name}: {:?}", check_rows(&model));
    }
    // Its shapes promise independent rows; only trying tells.
    let model = open("summed");
    assert!(model.signature().batches);
    assert!(matches!(check_rows(&model), Rows::Dependent { .. }));
}

#[test]
fn a_list_of_maps_is_served_as_a_tensor() {
    if !library("a_list_of_maps_is_served_as_a_tensor") {
        return;
    }
    let model = open("maps");
    let signature = model.signature();
    assert!(signature.batches);
    assert_eq!(signature.outputs[1].name, "probabilities");
    assert_eq!((signature.outputs[1].datatype, &signature.outputs[1].shape), (Datatype::Fp32, &vec![-1, 3]));
    assert!(model.notes()[0].contains("3, 5, 9"), "{:?}", model.notes());
    let outputs = model.run(&[floats("x", &[2, 4], noise(8))], &[0, 1]).unwrap();
    let Data::Int64(labels) = &outputs[0].data else { panic!("labels are whole numbers") };
    for (row, label) in fp32(&outputs[1]).chunks(3).zip(labels) {
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        let likeliest = (0..3).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
        assert_eq!([3, 5, 9][likeliest], *label);
    }
}

#[test]
fn what_cannot_be_served_is_refused_with_its_reason() {
    if !library("what_cannot_be_served_is_refused_with_its_reason") {
        return;
    }
    let check = |name: &str, parts: &[&str]| {
        let error = refusal(name).to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{name}: {error}");
    };
    check("refused_sequence", &["output \"parts\"", "a sequence"]);
    check("refused_external", &["\"w\"", "another file", "onnx.save"]);
    check("refused_external_inside", &["\"w\"", "another file"]);
    check("refused_element", &["output \"y\"", "f8_e4m3fn"]);
    check("refused_shape", &["input \"x\"", "no shape"]);
    check("refused_operator", &["NoSuchOperator"]);
    for bytes in [&b""[..], b"\x00", b"no model", &file("perceptron")[..400]] {
        let error = OnnxRuntimeModel::open(bytes, &OnnxOptions::default()).err().expect("it was opened");
        assert!(matches!(error, EngineError::NotOnnx(_)), "{error}");
    }
}

#[test]
fn a_failed_call_says_whose_fault_it_is_and_harms_no_later_one() {
    if !library("a_failed_call_says_whose_fault_it_is_and_harms_no_later_one") {
        return;
    }
    let model = open("failing");
    let run =
        |index: &[i64]| model.run(&[Tensor::new("index", vec![index.len()], Data::Int64(index.to_vec()))], &[0, 1]);
    assert!(run(&[0, 1]).is_ok());
    let out_of_bounds = run(&[0, 9]).unwrap_err();
    assert!(matches!(&out_of_bounds, RunError::Input(why) if why.contains("idx=9")), "{out_of_bounds}");
    let odd = run(&[0, 1, 0]).unwrap_err();
    assert!(matches!(odd, RunError::Input(_)), "{odd}");
    assert!(run(&[1, 0]).is_ok());

    let model = open("two_by_two");
    let unequal = [floats("a", &[3, 2], noise(6)), floats("b", &[2, 2], noise(4))];
    assert!(matches!(model.run(&unequal, &[0]), Err(RunError::Input(_))));
    // Inputs that break the trait's contract are still no reason to panic.
    let wrong_type = [Tensor::new("a", vec![1, 2], Data::Int8(vec![1, 2])), floats("b", &[1, 2], noise(2))];
    assert!(matches!(model.run(&wrong_type, &[0]), Err(RunError::Input(_))));
    assert!(matches!(model.run(&unequal[..1], &[0]), Err(RunError::Input(_))));
    let too_many = [unequal[1].clone(), unequal[1].clone(), unequal[1].clone()];
    assert!(matches!(model.run(&too_many, &[0]), Err(RunError::Input(_))));
    let wrong_length = [floats("a", &[2, 2], noise(3)), unequal[1].clone()];
    assert!(matches!(model.run(&wrong_length, &[0]), Err(RunError::Input(_))));
}

#[test]
fn four_threads_share_two_sessions() {
    if !library("four_threads_share_two_sessions") {
        return;
    }
    for memory in [Memory::Kept, Memory::Shrinking, Memory::Direct] {
        let options = OnnxOptions { sessions: 2, threads: 1, memory };
        let bytes = file("perceptron");
        let model = OnnxRuntimeModel::open(&bytes, &options).unwrap();
        assert_eq!(model.bytes(), 2 * bytes.len(), "one session, and the file for the second");
        let rows = floats("x", &[8, 8], noise(64));
        let expected = model.run(std::slice::from_ref(&rows), &[0]).unwrap();
        let start = Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    start.wait();
                    for _ in 0..500 {
                        assert_eq!(model.run(std::slice::from_ref(&rows), &[0]).unwrap(), expected);
                    }
                });
            }
        });
        assert!(model.bytes() <= 2 * bytes.len(), "{} bytes", model.bytes());
    }
}

#[test]
fn another_library_than_the_loaded_one_is_refused() {
    if !library("another_library_than_the_loaded_one_is_refused") {
        return;
    }
    let loaded = open_library(None).unwrap();
    assert!(loaded.version.starts_with("1."), "{loaded:?}");
    assert_eq!(open_library(Some(&loaded.path)).unwrap(), loaded);
    assert!(matches!(open_library(Some(Path::new("/nowhere.so"))), Err(EngineError::OtherLibrary { .. })));
}

/// A tensor for each input: the column of its name, or all numbers side by side.
fn inputs(flights: &Flights, model: &OnnxRuntimeModel) -> Vec<Tensor> {
    let columns: Vec<Vec<f32>> = NUMBERS.iter().map(|name| flights.numbers(name)).collect();
    let rows = flights.rows;
    let input = |spec: &inference::TensorSpec| {
        let data = match (spec.datatype, spec.shape[1]) {
            (Datatype::Bytes, _) => Data::Bytes(flights.texts(&spec.name)),
            (_, 1) => Data::Fp32(flights.numbers(&spec.name)),
            _ => Data::Fp32((0..rows).flat_map(|row| columns.iter().map(move |column| column[row])).collect()),
        };
        Tensor::new(spec.name.clone(), vec![rows, spec.shape[1] as usize], data)
    };
    model.signature().inputs.iter().map(input).collect()
}

#[test]
fn files_of_other_libraries_give_the_answers_that_were_recorded() {
    let test = "files_of_other_libraries_give_the_answers_that_were_recorded";
    let Some(flights) = library(test).then(Flights::read).flatten() else { return };
    let check = |name: &str, tolerance: f64| {
        let bytes = std::fs::read(flights.folder.join(name).with_extension("onnx")).unwrap();
        let model = OnnxRuntimeModel::open(&bytes, &OnnxOptions::default()).unwrap();
        let outputs = model.run(&inputs(&flights, &model), &[model.signature().outputs.len() - 1]).unwrap();
        let width = outputs[0].shape[1];
        let answers = fp32(&outputs[0]).chunks(width).map(|row| f64::from(row[width - 1]));
        let recorded = flights.expected(&format!("onnx_{name}"));
        assert_eq!(outputs[0].rows(), recorded.len());
        for (row, (answer, recorded)) in answers.zip(recorded).enumerate() {
            assert!((answer - recorded).abs() <= tolerance, "{name}, row {row}: {answer}, recorded is {recorded}");
        }
    };
    for name in [
        "sklearn_mlp",
        "sklearn_rf",
        "sklearn_hgb",
        "sklearn_logreg_mixed",
        "xgboost_num",
        "lightgbm_num",
        "catboost_num",
    ] {
        check(name, 1e-6);
    }
    // Minutes of delay.
    check("sklearn_hgb_reg", 1e-4);
}
