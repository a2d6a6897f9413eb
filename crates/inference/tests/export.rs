//! Native models as ONNX files on the real ONNX Runtime: every kind of model, link and calibration, over rows with
//! missing, extreme and unseen values.

use hessboost::config::TrainingParams;
use hessboost::data::{DMatrix, FeatureType};
use hessboost::objective::{Multiclass, Objective, RegLoss};
use inference::export::{Export, Exported, InputForm, Member, export_onnx};
use inference::import::import;
use inference::network::quantized::{DenseForm, QuantizeOptions, TableForm, quantize_network};
use inference::network::{Dense, Hidden, Numeric, Place, Table};
use inference::{
    Calibration, CompactLinearModel, CompactTreesModel, Data, LeafBits, LinearModel, LinearParts, Link, Model,
    NetworkModel, NetworkParts, OnnxOptions, OnnxRuntimeModel, Predictor, Quantization, Tensor, TensorModel,
    TreesModel, open_library,
};
use vocabulary::inputs::{DenseColumn, Inputs, Layout};
use vocabulary::model::Task;

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

/// Numbers between -1 and 1.
struct Numbers(u32);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as f32 / (1 << 23) as f32 - 1.0
    }

    fn some(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| self.next()).collect()
    }

    fn dense(&mut self, inputs: usize, outputs: usize) -> Dense {
        let size = (1.0 / inputs.max(1) as f32).sqrt() * 1.7;
        let weights = self.some(inputs * outputs).iter().map(|weight| weight * size).collect();
        Dense { inputs: inputs as u32, outputs: outputs as u32, weights, bias: self.some(outputs) }
    }
}

fn layout(dense: usize, slots: usize, tables: &[u32], table_bits: u8) -> Layout {
    let dense = (0..dense).map(|at| DenseColumn { name: format!("x{at}"), categorical: false }).collect();
    let slots = (0..slots).map(|at| format!("s{at}")).collect();
    Layout { dense, slots, table_bits, tables: tables.to_vec() }
}

fn task(link: Link) -> Task {
    match link {
        Link::Identity => Task::Regression,
        Link::Logistic => Task::Binary,
        Link::Softmax => Task::Multiclass,
    }
}

fn export(predictors: &[&Predictor], task: Task, inputs: InputForm) -> Exported {
    let members: Vec<Member> = predictors.iter().map(|predictor| Member { predictor, inputs }).collect();
    let classes =
        if task == Task::Regression { Vec::new() } else { ["no", "yes", "perhaps"].map(String::from).to_vec() };
    let export = Export { model: "arrival", version: "0", task, target: "late", classes: &classes, members: &members };
    export_onnx(&export).unwrap()
}

fn tensors(exported: &Exported, inputs: &Inputs) -> Vec<Tensor> {
    let tensor = |(at, input): (usize, &inference::export::ExportedInput)| {
        let slots: Vec<i64> = inputs.slots.iter().map(|slot| i64::from(*slot)).collect();
        let (data, width) = match input.name.as_str() {
            "dense" | "dense_2" => (Data::Fp32(inputs.dense.clone()), inputs.dense_width),
            "slots" => (Data::Int64(slots), inputs.slot_width),
            _ if at < inputs.dense_width => {
                let column = (0..inputs.rows).map(|row| inputs.dense_row(row)[at]);
                (Data::Fp32(column.collect()), 1)
            }
            _ => {
                let column = (0..inputs.rows).map(|row| i64::from(inputs.slot_row(row)[at - inputs.dense_width]));
                (Data::Int64(column.collect()), 1)
            }
        };
        Tensor::new(input.name.clone(), vec![inputs.rows, width], data)
    };
    exported.inputs.iter().enumerate().map(tensor).collect()
}

fn doubles(tensor: &Tensor) -> &[f64] {
    match &tensor.data {
        Data::Fp64(values) => values,
        other => panic!("{} is {}", tensor.name, other.datatype()),
    }
}

fn predict(predictor: &Predictor, inputs: &Inputs) -> Vec<f64> {
    let mut out = Vec::new();
    predictor.predict(inputs, &mut out).unwrap();
    out
}

/// The largest difference, relative where the answer is above 1.
fn difference(found: &[f64], wanted: &[f64]) -> f64 {
    assert_eq!(found.len(), wanted.len());
    let off = |(a, b): (&f64, &f64)| if a.is_nan() && b.is_nan() { 0.0 } else { (a - b).abs() / b.abs().max(1.0) };
    let offs: Vec<f64> = found.iter().zip(wanted).map(off).collect();
    assert!(offs.iter().all(|off| off.is_finite()), "an answer is NaN or infinite on one side");
    offs.iter().copied().fold(0.0, f64::max)
}

/// Runs the file on ONNX Runtime, all rows at once and one alone, and checks answers and labels.
fn check(name: &str, exported: &Exported, task: Task, inputs: &Inputs, wanted: &[f64]) {
    let model = OnnxRuntimeModel::open(&exported.bytes, &OnnxOptions::default())
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(model.signature().batches, "{name}");
    let names: Vec<&str> = model.signature().outputs.iter().map(|output| output.name.as_str()).collect();
    assert_eq!(names, exported.outputs, "{name}");
    let given = tensors(exported, inputs);
    let places: Vec<usize> = (0..names.len()).collect();
    let answers = model.run(&given, &places).unwrap_or_else(|error| panic!("{name}: {error}"));
    let off = difference(doubles(&answers[0]), wanted);
    println!("{name}: {off:e}");
    assert!(off <= 1e-6, "{name}: {off:e}");
    let outputs = wanted.len() / inputs.rows;
    if task != Task::Regression {
        let label = |row: &[f64]| match row {
            [p] => i64::from(*p >= 0.5),
            row => vocabulary::answer::most_probable(row) as i64,
        };
        let Data::Int64(labels) = &answers[1].data else { panic!("{name}: labels of another type") };
        // A row whose answer is at the border may have either label.
        let sure = |row: &[f64]| row.len() > 1 || (row[0] - 0.5).abs() > 1e-6;
        let wrong = wanted.chunks(outputs).zip(labels).filter(|(row, found)| sure(row) && label(row) != **found);
        assert!(wrong.count() <= usize::from(outputs > 1), "{name}: labels");
    }
    for row in [0, inputs.rows / 2, inputs.rows - 1] {
        let alone: Vec<Tensor> = given.iter().map(|tensor| tensor.slice_rows(row, row + 1)).collect();
        let answers = model.run(&alone, &[0]).unwrap();
        let off = difference(doubles(&answers[0]), &wanted[row * outputs..(row + 1) * outputs]);
        assert!(off <= 1e-6, "{name}, row {row} alone: {off:e}");
    }
}

fn check_forms(name: &str, predictor: &Predictor, link: Link, inputs: &Inputs) {
    let wanted = predict(predictor, inputs);
    for form in [InputForm::Blocks, InputForm::Columns] {
        let exported = export(&[predictor], task(link), form);
        check(&format!("{name} {form:?}"), &exported, task(link), inputs, &wanted);
    }
}

const LINKS: [(Link, usize); 3] = [(Link::Identity, 1), (Link::Logistic, 1), (Link::Softmax, 3)];

fn calibrations(link: Link) -> Vec<Calibration> {
    let scores = vec![0.01, 0.2, 0.200_001, 0.6, 0.95];
    match link {
        Link::Identity => vec![Calibration::Identity],
        Link::Logistic => vec![
            Calibration::Identity,
            Calibration::Platt { a: 0.7, b: -0.2 },
            Calibration::Isotonic { scores, values: vec![0.0, 0.1, 0.11, 0.7, 1.0] },
            Calibration::Isotonic { scores: vec![0.4], values: vec![0.3] },
        ],
        Link::Softmax => vec![Calibration::Identity, Calibration::Temperature { temperature: 1.7 }],
    }
}

/// Rows with gaps, and numbers as large and as small as there are where `extremes` says how large.
fn rows(dense: usize, slots: &[u32], rows: usize, extreme: f32) -> Inputs {
    let mut numbers = Numbers(99);
    let mut values: Vec<f32> = numbers.some(rows * dense).iter().map(|value| 3.0 * value).collect();
    values.iter_mut().step_by(11).for_each(|value| *value = f32::NAN);
    values.iter_mut().skip(3).step_by(37).for_each(|value| *value = extreme);
    values.iter_mut().skip(5).step_by(41).for_each(|value| *value = -extreme);
    values.iter_mut().skip(7).step_by(43).for_each(|value| *value = 1e-42);
    let slot = |numbers: &mut Numbers, at: usize| ((numbers.next() + 1.0) * 0.499_9 * slots[at] as f32) as u32;
    let slots_of = (0..rows * slots.len()).map(|at| slot(&mut numbers, at % slots.len().max(1))).collect();
    Inputs { rows, dense_width: dense, dense: values, slot_width: slots.len(), slots: slots_of }
}

#[test]
fn linear_models() {
    if !library("linear_models") {
        return;
    }
    for (link, outputs) in LINKS {
        for (dense, slots) in [(4, 3), (4, 0), (0, 3)] {
            let mut numbers = Numbers(5);
            let layout = layout(dense, slots, &[], if slots > 0 { 10 } else { 0 });
            let table = if slots > 0 { numbers.some(1024 * outputs) } else { Vec::new() };
            let double = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<_>>();
            let (bias, weights) = (double(numbers.some(outputs)), double(numbers.some(dense * outputs)));
            let parts = LinearParts { link, bias, dense: weights, table };
            let inputs = rows(dense, &vec![1024; slots], 200, 1e30);
            for calibration in calibrations(link) {
                let model = LinearModel::new(parts.clone(), layout.clone()).unwrap();
                let compact = CompactLinearModel::quantized(&model).unwrap();
                let models: [Box<dyn Model>; 2] = [Box::new(model), Box::new(compact)];
                for model in models {
                    let name = format!("{} {link:?} {dense}+{slots} {}", model.kind(), calibration.name());
                    let calibration = calibration.clone();
                    check_forms(&name, &Predictor { model, calibration }, link, &inputs);
                }
            }
        }
    }
}

const IDS: [u32; 4] = [7, 1000, 50, 3_000_000];

/// Each kind of table, a cross layer, and hidden layers of these sizes.
fn network(link: Link, outputs: usize, hidden: &[usize], numeric: Vec<Numeric>) -> NetworkModel {
    let mut numbers = Numbers(7);
    let mut table = |ids: u32, dimension: u32, place: Place| Table {
        ids,
        dimension,
        place,
        weights: numbers.some(place.rows(ids) * dimension as usize),
    };
    let tables = vec![
        table(IDS[0], 3, Place::Direct),
        table(IDS[1], 4, Place::QuotientRemainder { remainders: 40 }),
        table(IDS[2], 2, Place::Hashed { rows: 20 }),
        table(IDS[3], 5, Place::Hashed { rows: 1000 }),
    ];
    let width = numeric.iter().map(Numeric::width).sum::<usize>() + 3 + 4 + 2 + 5;
    let mut layers = Vec::new();
    let mut inputs = width;
    for units in hidden {
        layers.push(Hidden { dense: numbers.dense(inputs, *units), residual: *units == inputs });
        inputs = *units;
    }
    let parts = NetworkParts {
        link,
        numeric,
        tables,
        slots: (0..4).map(Some).collect(),
        cross: vec![numbers.dense(width, width)],
        hidden: layers,
        output: numbers.dense(inputs, outputs),
        mean: if link == Link::Identity { 40.0 } else { 0.0 },
        deviation: if link == Link::Identity { 20.0 } else { 1.0 },
        baseline: vec![0.0; width],
    };
    NetworkModel::new(parts, layout(4, 4, &IDS, 0)).unwrap()
}

#[test]
fn networks() {
    if !library("networks") {
        return;
    }
    let numeric = vec![
        Numeric::PiecewiseLinear { edges: vec![-1.0, -0.25, 0.0, 2.0] },
        Numeric::Periodic { frequencies: vec![0.3, 1.1] },
        Numeric::Plain,
        Numeric::Unused,
    ];
    let one = vec![Numeric::PiecewiseLinear { edges: vec![-1.0, 1.0] }; 4];
    for (link, outputs) in LINKS {
        for numeric in [&numeric, &one] {
            for calibration in calibrations(link) {
                let name = format!("network {link:?} {}", calibration.name());
                let model = network(link, outputs, &[128, 64, 64, 9], numeric.clone());
                let predictor = Predictor { model: Box::new(model), calibration };
                check_forms(&name, &predictor, link, &rows(4, &IDS, 300, 30.0));
            }
        }
    }
}

#[test]
fn networks_of_integers() {
    if !library("networks_of_integers") {
        return;
    }
    let numeric = vec![
        Numeric::PiecewiseLinear { edges: vec![-1.0, -0.25, 0.0, 2.0] },
        Numeric::Plain,
        Numeric::Plain,
        Numeric::Periodic { frequencies: vec![0.3, 1.1] },
    ];
    let calibration = rows(4, &IDS, 200, 5.0);
    for (link, outputs) in LINKS {
        // Wider than one chain of sums, and than what single precision multiplies exactly.
        let model = network(link, outputs, &[600, 100, 64], numeric.clone());
        for dense in [DenseForm::None, DenseForm::Dynamic, DenseForm::Static] {
            for tables in [TableForm::Int8, TableForm::Int4] {
                let options = QuantizeOptions { dense, tables };
                let model = quantize_network(&model, &options, Some(&calibration)).unwrap();
                let name = format!("integers {link:?} {dense:?} {tables:?}");
                let predictor = Predictor { model: Box::new(model), calibration: Calibration::Identity };
                check_forms(&name, &predictor, link, &rows(4, &IDS, 300, 30.0));
            }
        }
    }
}

#[test]
fn a_network_of_which_nothing_is_left() {
    if !library("a_network_of_which_nothing_is_left") {
        return;
    }
    let mut numbers = Numbers(3);
    let parts = NetworkParts {
        link: Link::Logistic,
        numeric: vec![Numeric::Unused; 2],
        tables: Vec::new(),
        slots: Vec::new(),
        cross: Vec::new(),
        hidden: vec![Hidden { dense: numbers.dense(0, 5), residual: false }],
        output: numbers.dense(5, 1),
        mean: 0.0,
        deviation: 1.0,
        baseline: Vec::new(),
    };
    let model = Box::new(NetworkModel::new(parts, layout(2, 0, &[], 0)).unwrap());
    let predictor = Predictor { model, calibration: Calibration::Identity };
    check_forms("nothing", &predictor, Link::Logistic, &rows(2, &[], 20, 3.0));
}

/// Two numbers with gaps, and codes of 12 and of 60 categories, of which the last are never learned from.
fn departures(rows: usize) -> Inputs {
    let mut dense = Vec::new();
    for i in 0..rows as u32 {
        let a = (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 1e6;
        let b = if i % 7 == 0 { f32::NAN } else { (i % 101) as f32 };
        let c = if i % 29 == 0 { f32::NAN } else { (i % 12) as f32 };
        dense.extend([a, b, c, (i.wrapping_mul(40_503) >> 3) as f32 % 60.0]);
    }
    Inputs { rows, dense_width: 4, dense, ..Inputs::default() }
}

fn trees(link: Link, rounds: usize) -> TreesModel {
    let inputs = departures(4000);
    let raw = |row: &[f32]| {
        let late = f32::from(row[0] > 6.0) + f32::from(row[2] == 3.0 || row[2] == 7.0) + (row[3] % 5.0) * 0.1;
        match link {
            Link::Identity => 300.0 * late + row[0],
            Link::Logistic => f32::from(late > 1.0),
            Link::Softmax => late.floor().clamp(0.0, 2.0),
        }
    };
    let labels: Vec<f32> = (0..inputs.rows).map(|row| raw(inputs.dense_row(row))).collect();
    let types = [FeatureType::Numerical, FeatureType::Numerical, FeatureType::Categorical, FeatureType::Categorical];
    let matrix = DMatrix::from_dense(&inputs.dense, inputs.rows, 4).unwrap();
    let matrix = matrix.with_labels(&labels).unwrap().with_feature_types(&types).unwrap();
    let objective = match link {
        Link::Identity => Objective::SquaredError(RegLoss::default()),
        Link::Logistic => Objective::BinaryLogistic(RegLoss::default()),
        Link::Softmax => Objective::Softprob(Multiclass::new(3).unwrap()),
    };
    let params = TrainingParams::builder().objective(objective).build().unwrap();
    let booster = hessboost::training::train(&params, &matrix, rounds).unwrap();
    TreesModel::new(booster, link, layout(4, 0, &[], 0)).unwrap()
}

/// Rows as learned from, and then values at thresholds, codes that no split knows, and numbers as large as there are.
fn asked(model: &TreesModel) -> Inputs {
    let mut inputs = departures(300);
    for tree in &model.ensemble().trees {
        for node in &tree.nodes {
            if let inference::ensemble::Node::Split(split) = node
                && let inference::ensemble::Test::Below(threshold) = split.test
            {
                for value in [threshold, threshold.next_down(), threshold.next_up()] {
                    let mut row = [1.0, 2.0, 3.0, 4.0];
                    row[split.feature as usize] = value;
                    inputs.dense.extend(row);
                }
            }
        }
    }
    inputs.dense.extend([f32::MAX, f32::MIN, 1e6, 12.0]);
    inputs.dense.extend([f32::MIN, -0.0, 59.0, 16_777_216.0]);
    inputs.dense.extend([f32::NAN; 4]);
    inputs.rows = inputs.dense.len() / 4;
    inputs
}

#[test]
fn trees_and_compact_trees() {
    if !library("trees_and_compact_trees") {
        return;
    }
    for (link, _) in LINKS {
        let model = trees(link, 120);
        let inputs = asked(&model);
        let ensemble = model.ensemble();
        let layout = model.layout().clone();
        let exact = CompactTreesModel::exact(&ensemble, link, &layout).unwrap();
        let how = Quantization { thresholds: 64, leaves: LeafBits::Eight };
        let (rounded, _) = CompactTreesModel::quantized(&ensemble, link, &layout, how).unwrap();
        let models: [Box<dyn Model>; 3] = [Box::new(model), Box::new(exact), Box::new(rounded)];
        for (kind, model) in ["trees", "compact", "quantized"].into_iter().zip(models) {
            let mut predictor = Predictor { model, calibration: Calibration::Identity };
            for calibration in calibrations(link) {
                let name = format!("{kind} {link:?} {}", calibration.name());
                predictor.calibration = calibration;
                check_forms(&name, &predictor, link, &inputs);
            }
        }
    }
}

#[test]
fn trees_come_back_through_our_own_importer() {
    for link in [Link::Identity, Link::Logistic] {
        let predictor = Predictor { model: Box::new(trees(link, 60)), calibration: Calibration::Identity };
        let inputs = asked(&trees(link, 60));
        let exported = export(&[&predictor], task(link), InputForm::Blocks);
        let imported = import("trees.onnx", &exported.bytes).unwrap();
        let model = imported.model.unwrap_or_else(|| panic!("{:?}", imported.unsupported));
        let answers = model.run(&tensors(&exported, &inputs), &[0]).unwrap();
        let off = difference(doubles(&answers[0]), &predict(&predictor, &inputs));
        assert!(off <= 1e-15, "{link:?}: {off:e}");
    }
}

#[test]
fn several_trainings_are_averaged_and_the_file_says_what_it_is() {
    let inputs = departures(100);
    let [first, second] = [40, 70].map(|rounds| Predictor {
        model: Box::new(trees(Link::Logistic, rounds)),
        calibration: Calibration::Platt { a: 1.1, b: rounds as f64 / 100.0 },
    });
    let exported = export(&[&first, &second], Task::Binary, InputForm::Blocks);
    let proto = inference::import::onnx::decode(&exported.bytes).unwrap();
    let property = |key: &str| {
        let found = proto.metadata_props.iter().find(|entry| entry.key == format!("homeostat.{key}"));
        found.map(|entry| entry.value.clone()).unwrap_or_default()
    };
    assert_eq!([property("model"), property("version"), property("target")], ["arrival", "0", "late"]);
    assert_eq!(property("learners"), "trees,trees");
    assert_eq!(property("classes"), r#"["no","yes","perhaps"]"#);
    assert!(property("inputs").contains(r#""name":"dense""#), "{}", property("inputs"));
    let names: Vec<&str> = exported.inputs.iter().map(|input| input.name.as_str()).collect();
    assert_eq!(names, ["dense", "dense_2"], "each has a pipeline of its own");
    if library("several_trainings_are_averaged_and_the_file_says_what_it_is") {
        let both = predict(&first, &inputs).into_iter().zip(predict(&second, &inputs));
        let wanted: Vec<f64> = both.map(|(a, b)| (a + b) / 2.0).collect();
        check("two trainings", &exported, Task::Binary, &inputs, &wanted);
    }
}
