//! Files that are quantized and run on ONNX Runtime beside the ones they came from.

use super::*;
use crate::import::onnx::proto::*;
use crate::onnxruntime::wire::{Fields, Value, put_bytes};
use crate::onnxruntime::{OnnxOptions, OnnxRuntimeModel, Rows, check_rows, open_library};
use crate::tensor::{Data, TensorModel};
use proptest::prelude::*;
use prost::Message;

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

/// Numbers between -1 and 1 that look like noise.
fn noise(count: usize, seed: u32) -> Vec<f32> {
    let number = |at: usize| {
        let bits = (at as u32).wrapping_add(seed.wrapping_mul(77_777)).wrapping_mul(2_654_435_761);
        let bits = (bits ^ (bits >> 15)).wrapping_mul(0x2c1b_3c6d);
        ((bits ^ (bits >> 12)) >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..count).map(number).collect()
}

fn floats(name: &str, shape: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        dims: shape.to_vec(),
        data_type: ElementType::Float as i32,
        name: name.to_owned(),
        raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        ..TensorProto::default()
    }
}

fn node(operator: &str, inputs: &[&str], output: &str, ints: &[(&str, i64)]) -> NodeProto {
    let int = |(name, i): &(&str, i64)| AttributeProto {
        name: (*name).to_owned(),
        i: *i,
        r#type: AttributeType::Int as i32,
        ..AttributeProto::default()
    };
    NodeProto {
        input: inputs.iter().map(|name| (*name).to_owned()).collect(),
        output: vec![output.to_owned()],
        op_type: operator.to_owned(),
        attribute: ints.iter().map(int).collect(),
        ..NodeProto::default()
    }
}

/// A tensor of a free number of rows.
fn value(name: &str, element: ElementType, columns: i64) -> ValueInfoProto {
    let rows = DimensionProto { value: Some(DimensionValue::Name("rows".to_owned())) };
    let columns = DimensionProto { value: Some(DimensionValue::Length(columns)) };
    let shape = Some(TensorShapeProto { dim: vec![rows, columns] });
    let tensor = TensorTypeProto { elem_type: element as i32, shape };
    let r#type = Some(TypeProto { value: Some(TypeValue::Tensor(tensor)), denotation: String::new() });
    ValueInfoProto { name: name.to_owned(), r#type, doc_string: String::new() }
}

fn model(graph: GraphProto, operators: i64) -> Vec<u8> {
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: operators }];
    ModelProto { ir_version: 8, opset_import, graph: Some(graph), ..ModelProto::default() }.encode_to_vec()
}

/// As PyTorch writes a tower: x -> Gemm (transposed weights) -> Relu -> MatMul -> Add -> Relu -> Gemm of one column.
fn tower_graph(inputs: usize, hidden: usize) -> GraphProto {
    let (i, h) = (inputs as i64, hidden as i64);
    let scaled = |count: usize, seed: u32, by: usize| -> Vec<f32> {
        noise(count, seed).iter().map(|value| value * (3.0 / by as f32).sqrt()).collect()
    };
    GraphProto {
        name: "tower".to_owned(),
        node: vec![
            node("Gemm", &["x", "w1", "b1"], "h1", &[("transB", 1)]),
            node("Relu", &["h1"], "r1", &[]),
            node("MatMul", &["r1", "w2"], "h2", &[]),
            node("Add", &["h2", "b2"], "s2", &[]),
            node("Relu", &["s2"], "r2", &[]),
            node("Gemm", &["r2", "w3", "b3"], "y", &[("transB", 1)]),
        ],
        initializer: vec![
            floats("w1", &[h, i], &scaled(inputs * hidden, 1, inputs)),
            floats("b1", &[h], &noise(hidden, 2)),
            floats("w2", &[h, h], &scaled(hidden * hidden, 3, hidden)),
            floats("b2", &[h], &noise(hidden, 4)),
            floats("w3", &[1, h], &scaled(hidden, 5, hidden)),
            floats("b3", &[1], &noise(1, 6)),
        ],
        input: vec![value("x", ElementType::Float, i)],
        output: vec![value("y", ElementType::Float, 1)],
        ..GraphProto::default()
    }
}

fn tower() -> Vec<u8> {
    model(tower_graph(96, 64), 17)
}

fn rows(count: usize, width: usize, seed: u32) -> Vec<Tensor> {
    let values = noise(count * width, seed).iter().map(|value| value * 3.0).collect();
    vec![Tensor::new("x", vec![count, width], Data::Fp32(values))]
}

fn open(file: &[u8]) -> OnnxRuntimeModel {
    OnnxRuntimeModel::open(file, &OnnxOptions::default()).unwrap()
}

fn run(file: &[u8], inputs: &[Tensor]) -> Vec<f32> {
    match open(file).run(inputs, &[0]).unwrap().remove(0).data {
        Data::Fp32(values) => values,
        other => panic!("{}", other.datatype()),
    }
}

/// Root mean squared difference, in parts of the standard deviation of `exact`.
fn error(exact: &[f32], rounded: &[f32]) -> f64 {
    let count = exact.len() as f64;
    let mean = exact.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
    let spread: f64 = exact.iter().map(|value| (f64::from(*value) - mean).powi(2)).sum();
    let squares: f64 = exact.iter().zip(rounded).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    (squares / spread).sqrt()
}

fn graph(file: &[u8]) -> GraphProto {
    ModelProto::decode(file).unwrap().graph.unwrap()
}

fn operators(file: &[u8]) -> Vec<String> {
    graph(file).node.into_iter().map(|node| node.op_type).collect()
}

#[test]
fn a_tower_with_dynamic_ranges_answers_nearly_the_same() {
    let quantized = quantize_dynamic(&tower(), WeightRange::Full).unwrap();
    assert_eq!(quantized.report.quantized, 2);
    let [left] = &quantized.report.left[..] else { panic!("{:?}", quantized.report) };
    assert_eq!((left.node.as_str(), left.operator.as_str()), ("y", "Gemm"));
    assert!(left.why.contains("64 x 1 weights"), "{}", left.why);
    assert!(quantized.bytes.len() * 3 < tower().len(), "{} bytes", quantized.bytes.len());
    let product = ["DynamicQuantizeLinear", "MatMulInteger", "Cast", "Mul", "Mul", "Add", "Relu"];
    assert_eq!(operators(&quantized.bytes), [&product[..], &product, &["Gemm"]].concat());

    if !library("a_tower_with_dynamic_ranges_answers_nearly_the_same") {
        return;
    }
    let inputs = rows(300, 96, 9);
    let exact = run(&tower(), &inputs);
    let full = error(&exact, &run(&quantized.bytes, &inputs));
    let reduced = quantize_dynamic(&tower(), WeightRange::Reduced).unwrap();
    let reduced = error(&exact, &run(&reduced.bytes, &inputs));
    assert!(full < 0.02 && reduced < 0.03, "{full} and {reduced} of a standard deviation");
    assert!(!open(&quantized.bytes).signature().batches, "one range for all rows of a call");
}

#[test]
fn a_tower_with_fixed_ranges_keeps_its_rows_apart() {
    if !library("a_tower_with_fixed_ranges_keeps_its_rows_apart") {
        return;
    }
    let calls = [rows(100, 96, 1), rows(50, 96, 2)];
    for cut in [Cut::MinMax, Cut::Share(0.9999)] {
        let quantized = quantize_static(&tower(), WeightRange::Full, &calls, cut).unwrap();
        assert_eq!(quantized.report.quantized, 2);
        let names = operators(&quantized.bytes);
        assert_eq!(names.iter().filter(|name| *name == "QuantizeLinear").count(), 2);
        let inputs = rows(300, 96, 9);
        let error = error(&run(&tower(), &inputs), &run(&quantized.bytes, &inputs));
        assert!(error < 0.03, "{cut:?}: {error} of a standard deviation");
        let model = open(&quantized.bytes);
        assert!(model.signature().batches);
        assert!(matches!(check_rows(&model), Rows::Same | Rows::Close { .. }), "{:?}", check_rows(&model));
    }
    let refused =
        |calls: &[Vec<Tensor>], cut| quantize_static(&tower(), WeightRange::Full, calls, cut).unwrap_err().to_string();
    assert!(refused(&[], Cut::MinMax).contains("there are none"));
    assert!(refused(&[Vec::new()], Cut::MinMax).contains("0 tensors where the file takes 1"));
    assert!(refused(&calls, Cut::Share(0.1)).contains("cannot hold 0.1"));
    let infinite = vec![Tensor::new("x", vec![1, 96], Data::Fp32(vec![f32::INFINITY; 96]))];
    assert!(refused(&[infinite], Cut::MinMax).contains("becomes"));
}

/// ids -> Gather (twice of one table) -> Add, the table given as a Constant node.
fn words(rows: usize, columns: usize, axis: i64) -> Vec<u8> {
    let table = floats("", &[rows as i64, columns as i64], &noise(rows * columns, 3));
    let mut constant = node("Constant", &[], "table", &[]);
    constant.attribute.push(AttributeProto {
        name: "value".to_owned(),
        t: Some(table),
        r#type: AttributeType::Tensor as i32,
        ..AttributeProto::default()
    });
    let graph = GraphProto {
        name: "words".to_owned(),
        node: vec![
            constant,
            node("Gather", &["table", "ids"], "a", &[("axis", axis)]),
            node("Gather", &["table", "others"], "b", &[]),
            node("Add", &["a", "b"], "y", &[]),
        ],
        input: vec![value("ids", ElementType::Int64, 2), value("others", ElementType::Int64, 2)],
        output: vec![ValueInfoProto { name: "y".to_owned(), ..value("", ElementType::Undefined, 0) }],
        ..GraphProto::default()
    };
    let mut graph = graph;
    graph.output[0].r#type = None;
    model(graph, 13)
}

#[test]
fn tables_become_bytes_with_a_scale_for_each_row() {
    let file = words(50, 16, 0);
    let quantized = quantize_dynamic(&file, WeightRange::Reduced).unwrap();
    assert_eq!(quantized.report, Report { quantized: 2, left: Vec::new() });
    let gather = ["Gather", "Cast", "Gather", "Mul"];
    assert_eq!(operators(&quantized.bytes), [&gather[..], &gather, &["Add"]].concat());
    assert_eq!(graph(&quantized.bytes).initializer.len(), 2, "both read the same integers and scales");

    if !library("tables_become_bytes_with_a_scale_for_each_row") {
        return;
    }
    let ids = |seed: i64| Data::Int64((0..20).map(|at| (at * 7 + seed) % 50).collect());
    let inputs = [Tensor::new("ids", vec![10, 2], ids(0)), Tensor::new("others", vec![10, 2], ids(3))];
    let error = error(&run(&file, &inputs), &run(&quantized.bytes, &inputs));
    assert!(error < 0.006, "{error}");
}

#[test]
fn weights_that_somebody_else_reads_stay() {
    let mut graph_of = tower_graph(96, 64);
    graph_of.node.push(node("ReduceSum", &["w2"], "sum", &[]));
    graph_of.output.push(ValueInfoProto { r#type: None, ..value("sum", ElementType::Float, 1) });
    let quantized = quantize_dynamic(&model(graph_of, 17), WeightRange::Reduced).unwrap();
    let names: Vec<String> = graph(&quantized.bytes).initializer.into_iter().map(|tensor| tensor.name).collect();
    assert_eq!(names, ["b1", "w2", "b2", "w3", "b3", "w1_integers", "w1_scales", "w2_integers", "w2_scales"]);
}

#[test]
fn what_cannot_be_quantized_is_named_with_its_reason() {
    let check = |change: &dyn Fn(&mut GraphProto), why: &str| {
        let mut graph = tower_graph(96, 64);
        change(&mut graph);
        let report = quantize_dynamic(&model(graph, 17), WeightRange::Reduced).unwrap().report;
        assert_eq!(report.quantized, 1);
        assert!(report.left.iter().any(|left| left.why.contains(why)), "{why}: {:?}", report.left);
    };
    check(&|graph| graph.node[0].attribute.push(node("", &[], "", &[("transA", 1)]).attribute.remove(0)), "transposes");
    check(
        &|graph| graph.node[0].attribute.push(node("", &[], "", &[("more", 1)]).attribute.remove(0)),
        "more is not read",
    );
    check(&|graph| graph.input.push(value("w1", ElementType::Float, 96)), "not constant");
    check(&|graph| graph.node[2].op_type = "Conv".to_owned(), "only MatMul");
    check(&|graph| graph.node[0].output.clear(), "number of outputs");
    check(&|graph| graph.initializer[0].dims = vec![64, 96, 1], "no matrix");
    check(&|graph| graph.initializer[0].raw_data[2..4].copy_from_slice(&[0xc0, 0x7f]), "not finite");
    let words = quantize_dynamic(&words(50, 16, 1), WeightRange::Reduced).unwrap().report;
    assert!(words.quantized == 1 && words.left[0].why.contains("does not pick rows"), "{words:?}");

    let refused = |file: &[u8]| quantize_dynamic(file, WeightRange::Reduced).unwrap_err().to_string();
    assert!(refused(&model(tower_graph(96, 64), 10)).contains("version 10"));
    assert!(refused(&model(tower_graph(4, 4), 17)).contains("too few"));
    assert!(refused(&model(GraphProto::default(), 17)).contains("no MatMul"));
    assert!(refused(b"").contains("no graph"));
    let twice = [tower(), tower()].concat();
    assert!(refused(&twice).contains("2 graphs"));
}

#[test]
fn fields_that_nobody_knows_are_kept() {
    let strange = |message: &mut Vec<u8>| put_bytes(message, 999, b"from the future");
    let mut file = Vec::new();
    for field in Fields::of(&tower()) {
        let field = field.unwrap();
        let (7, Value::Bytes(graph)) = (field.number, &field.value) else {
            file.extend_from_slice(field.encoded);
            continue;
        };
        let (mut copy, mut nodes) = (Vec::new(), 0);
        for field in Fields::of(graph) {
            let field = field.unwrap();
            match (field.number, &field.value) {
                // The second product and the activation before it come from a later version of the format.
                (1, Value::Bytes(node)) if [1, 2].contains(&nodes) => {
                    let mut node = node.to_vec();
                    strange(&mut node);
                    put_bytes(&mut copy, 1, &node);
                }
                _ => copy.extend_from_slice(field.encoded),
            }
            nodes += usize::from(field.number == 1);
        }
        strange(&mut copy);
        put_bytes(&mut file, 7, &copy);
    }
    strange(&mut file);
    let quantized = quantize_dynamic(&file, WeightRange::Reduced).unwrap();
    assert_eq!(quantized.report.quantized, 1);
    assert!(quantized.report.left.iter().any(|left| left.node == "h2" && left.why.contains("not read")));
    let times = |bytes: &[u8]| bytes.windows(15).filter(|window| window == b"from the future").count();
    assert_eq!((times(&file), times(&quantized.bytes)), (4, 4));
}

proptest! {
    #[test]
    fn damaged_files_never_panic(at in 0usize..1 << 20, byte in any::<u8>(), cut in 0usize..400) {
        for mut file in [words(50, 16, 0), tower()] {
            // Most of a file is weights: the ends, where the messages are, get most of the damage.
            let length = file.len();
            let at = if at % 2 == 0 { at % 400 } else { length - 1 - at % 600 };
            file[at] = byte;
            file.truncate(length - if cut % 3 == 0 { cut } else { 0 });
            if let Ok(quantized) = quantize_dynamic(&file, WeightRange::Reduced) {
                prop_assert!(ModelProto::decode(&quantized.bytes[..]).is_ok());
            }
        }
    }
}
