//! Networks with numbers from a small generator: answers, reasons, bytes and what shrinking leaves.

use super::tower::Slopes;
use super::*;
use crate::model::{Link, load_model};
use proptest::prelude::*;
use vocabulary::inputs::DenseColumn;

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
        let size = (1.0 / inputs as f32).sqrt();
        let weights = self.some(inputs * outputs).iter().map(|w| w * size * 1.7).collect();
        Dense { inputs: inputs as u32, outputs: outputs as u32, weights, bias: self.some(outputs) }
    }

    fn table(&mut self, ids: u32, dimension: u32, place: Place) -> Table {
        Table { ids, dimension, place, weights: self.some(place.rows(ids) * dimension as usize) }
    }
}

const IDS: [u32; 3] = [7, 1000, 50];

fn layout() -> Layout {
    let column = |name: &str| DenseColumn { name: name.to_owned(), categorical: false };
    Layout {
        dense: ["plain", "linear", "periodic"].map(column).to_vec(),
        slots: ["direct", "both", "hashed"].map(str::to_owned).to_vec(),
        table_bits: 0,
        tables: IDS.to_vec(),
    }
}

/// Every kind of encoding, table and layer.
fn parts(link: Link, outputs: usize) -> NetworkParts {
    let mut numbers = Numbers(7);
    let tables = vec![
        numbers.table(IDS[0], 3, Place::Direct),
        numbers.table(IDS[1], 4, Place::QuotientRemainder { remainders: 40 }),
        numbers.table(IDS[2], 2, Place::Hashed { rows: 20 }),
    ];
    let width = 1 + 3 + 4 + 3 + 4 + 2;
    let hidden =
        |numbers: &mut Numbers, inputs, units, residual| Hidden { dense: numbers.dense(inputs, units), residual };
    NetworkParts {
        link,
        numeric: vec![
            Numeric::Plain,
            Numeric::PiecewiseLinear { edges: vec![-1.0, -0.25, 0.0, 2.0] },
            Numeric::Periodic { frequencies: vec![0.3, 1.1] },
        ],
        tables,
        slots: vec![Some(0), Some(1), Some(2)],
        cross: vec![numbers.dense(width, width), numbers.dense(width, width)],
        hidden: vec![
            hidden(&mut numbers, width, 24, false),
            hidden(&mut numbers, 24, 24, true),
            hidden(&mut numbers, 24, 9, false),
        ],
        output: numbers.dense(9, outputs),
        mean: if link == Link::Identity { 100.0 } else { 0.0 },
        deviation: if link == Link::Identity { 20.0 } else { 1.0 },
        baseline: numbers.some(width),
    }
}

fn model(link: Link, outputs: usize) -> NetworkModel {
    NetworkModel::new(parts(link, outputs), layout()).unwrap()
}

fn rows(count: usize) -> Inputs {
    let mut numbers = Numbers(99);
    let mut dense: Vec<f32> = (0..count * 3).map(|_| 2.0 * numbers.next()).collect();
    dense.iter_mut().step_by(11).for_each(|value| *value = f32::NAN);
    let slots = (0..count * 3).map(|at| ((numbers.next() + 1.0) * 0.499 * IDS[at % 3] as f32) as u32).collect();
    Inputs { rows: count, dense_width: 3, dense, slot_width: 3, slots }
}

fn one(inputs: &Inputs, row: usize) -> Inputs {
    let (dense, slots) = (inputs.dense_row(row).to_vec(), inputs.slot_row(row).to_vec());
    Inputs { rows: 1, dense_width: 3, dense, slot_width: 3, slots }
}

fn predict(model: &dyn Model, inputs: &Inputs) -> Vec<f64> {
    let mut out = Vec::new();
    model.predict(inputs, &mut out).unwrap();
    out
}

/// The definition, in double precision and without any of the kernels.
fn plainly(parts: &NetworkParts, inputs: &Inputs, row: usize) -> Vec<f64> {
    let mut x0: Vec<f64> = Vec::new();
    for (value, numeric) in inputs.dense_row(row).iter().zip(&parts.numeric) {
        let x = if value.is_nan() { 0.0 } else { f64::from(*value) };
        match numeric {
            Numeric::Unused => {}
            Numeric::Plain => x0.push(x),
            Numeric::PiecewiseLinear { edges } => {
                let last = edges.len() - 2;
                x0.extend((0..=last).map(|at| {
                    let (low, high) = (f64::from(edges[at]), f64::from(edges[at + 1]));
                    let share = (x - low) / (high - low);
                    share.max(if at == 0 { f64::MIN } else { 0.0 }).min(if at == last { f64::MAX } else { 1.0 })
                }));
            }
            Numeric::Periodic { frequencies } => {
                let angle = |c: &f32| std::f64::consts::TAU * f64::from(*c) * x;
                x0.extend(frequencies.iter().map(|c| angle(c).sin()));
                x0.extend(frequencies.iter().map(|c| angle(c).cos()));
            }
        }
    }
    for (id, table) in inputs.slot_row(row).iter().zip(&parts.slots) {
        let Some(table) = table else { continue };
        let table = &parts.tables[*table as usize];
        let (first, second) = table.place.of(*id);
        let number = |row: usize, at: u32| f64::from(table.weights[row * table.dimension as usize + at as usize]);
        x0.extend((0..table.dimension).map(|at| number(first, at) * second.map_or(1.0, |second| number(second, at))));
    }
    let affine = |dense: &Dense, x: &[f64]| -> Vec<f64> {
        let column =
            |at: usize| x.iter().enumerate().map(move |(i, x)| x * f64::from(dense.weights[i * dense.bias.len() + at]));
        (0..dense.bias.len()).map(|at| column(at).sum::<f64>() + f64::from(dense.bias[at])).collect()
    };
    let mut x = x0.clone();
    for cross in &parts.cross {
        let factors = affine(cross, &x);
        x = x0.iter().zip(factors).zip(&x).map(|((x0, factor), x)| x0 * factor + x).collect();
    }
    for layer in &parts.hidden {
        let units = affine(&layer.dense, &x).into_iter().map(|sum| sum.max(0.0));
        x = if layer.residual { units.zip(&x).map(|(unit, x)| unit + x).collect() } else { units.collect() };
    }
    let mut sums: Vec<f64> = affine(&parts.output, &x).iter().map(|sum| sum * parts.deviation + parts.mean).collect();
    parts.link.apply_row(&mut sums);
    sums
}

#[test]
fn answers_are_what_the_definition_gives() {
    let inputs = rows(200);
    for (link, outputs) in [(Link::Identity, 1), (Link::Logistic, 1), (Link::Softmax, 4)] {
        let model = model(link, outputs);
        let found = predict(&model, &inputs);
        for row in 0..inputs.rows {
            for (ours, plain) in found[row * outputs..].iter().zip(plainly(model.parts(), &inputs, row)) {
                assert!((ours - plain).abs() <= 1e-4 * plain.abs().max(1.0), "{link:?} row {row}: {ours} {plain}");
            }
        }
    }
}

#[test]
fn a_row_has_the_same_bits_alone_and_in_any_batch() {
    let (model, inputs) = (model(Link::Softmax, 3), rows(150));
    let whole = predict(&model, &inputs);
    for row in 0..inputs.rows {
        assert_eq!(predict(&model, &one(&inputs, row)), whole[row * 3..row * 3 + 3], "row {row}");
    }
}

#[test]
fn slots_outside_their_table_are_refused() {
    let mut inputs = rows(2);
    inputs.slots[4] = IDS[1];
    let error = model(Link::Logistic, 1).predict(&inputs, &mut Vec::new()).unwrap_err().to_string();
    assert!(error.contains("slot 1 of row 1 is 1000"), "{error}");
}

#[test]
fn reasons_add_up_to_the_sum_before_the_link() {
    let inputs = rows(40);
    for (link, outputs) in [(Link::Identity, 1), (Link::Logistic, 1), (Link::Softmax, 3)] {
        let model = model(link, outputs);
        let found = model.contributions(&inputs).unwrap();
        assert_eq!((found.rows, found.outputs, found.width), (40, outputs, 6));
        let mut sums: Vec<f64> = (found.base.iter().zip(found.parts.chunks_exact(6)))
            .map(|(base, parts)| base + parts.iter().sum::<f64>())
            .collect();
        sums.chunks_exact_mut(outputs).for_each(|row| link.apply_row(row));
        for (sum, answer) in sums.iter().zip(predict(&model, &inputs)) {
            assert!((sum - answer).abs() <= 1e-6 * answer.abs(), "{link:?}: {sum} {answer}");
        }
        assert!(found.parts.iter().any(|part| part.abs() > 0.1), "{:?}", &found.parts[..6]);
    }
}

#[test]
fn a_linear_networks_reasons_are_its_terms() {
    let mut parts = parts(Link::Identity, 1);
    let width = parts.width();
    (parts.cross, parts.hidden) = (Vec::new(), Vec::new());
    parts.output = Numbers(5).dense(width, 1);
    let model = NetworkModel::new(parts, layout()).unwrap();
    let inputs = one(&rows(3), 1);
    let found = model.contributions(&inputs).unwrap();
    let mut vector = Vec::new();
    model.encode(&inputs, 0..1, &mut vector).unwrap();
    let parts = model.parts();
    let mut at = 0;
    for (part, width) in found.parts.iter().zip(parts.blocks()) {
        let term = |at: usize| (vector[at] - parts.baseline[at]) * parts.output.weights[at];
        let terms = f64::from((at..at + width).map(term).sum::<f32>()) * parts.deviation;
        assert!((part - terms).abs() < 1e-4, "{part} {terms}");
        at += width;
    }
}

#[test]
fn gradients_are_the_slopes_of_the_loss() {
    // In 17 inputs, two cross layers, three hidden ones, two outputs; the loss is the sum of outputs times fixed numbers.
    let parts = parts(Link::Softmax, 2);
    let (shape, weights) = (parts.shape(), parts.weights());
    assert_eq!(weights.len(), shape.len());
    let rows = 5;
    let mut numbers = Numbers(31);
    let (inputs, slopes) = (numbers.some(rows * shape.inputs), numbers.some(rows * 2));
    let loss = |weights: &[f32], inputs: &[f32]| -> f64 {
        let (mut tower, mut trace) = (Tower::new(parts.shape(), Direction::Forward), Trace::default());
        tower.load(weights);
        tower.forward(inputs, rows, &mut trace, None);
        trace.outputs.iter().zip(&slopes).map(|(out, slope)| f64::from(*out) * f64::from(*slope)).sum()
    };
    let from = 4;
    let (mut tower, mut trace) = (Tower::new(shape.clone(), Direction::Both { inputs_from: from }), Trace::default());
    tower.load(&weights);
    tower.forward(&inputs, rows, &mut trace, None);
    let (mut gradient, mut inputs_gradient) = (vec![0.0; weights.len()], Vec::new());
    tower.backward(
        &inputs,
        rows,
        &mut trace,
        Slopes { sums: &slopes, scale: 1.0 },
        Some(&mut gradient),
        &mut inputs_gradient,
    );
    // Steps small enough that few units switch; the median error says more than the largest then.
    let step = 1e-3;
    let mut errors: Vec<f64> = Vec::new();
    for at in (0..weights.len()).step_by(7) {
        let moved = |by: f32| {
            let mut weights = weights.clone();
            weights[at] += by;
            loss(&weights, &inputs)
        };
        errors.push(((moved(step) - moved(-step)) / (2.0 * f64::from(step)) - f64::from(gradient[at])).abs());
    }
    let kept = shape.inputs - from;
    for at in (0..inputs.len()).filter(|at| at % shape.inputs >= from) {
        let moved = |by: f32| {
            let mut inputs = inputs.clone();
            inputs[at] += by;
            loss(&weights, &inputs)
        };
        let ours = inputs_gradient[at / shape.inputs * kept + at % shape.inputs - from];
        errors.push(((moved(step) - moved(-step)) / (2.0 * f64::from(step)) - f64::from(ours)).abs());
    }
    errors.sort_by(f64::total_cmp);
    assert!(errors[errors.len() * 95 / 100] < 0.02, "{:?}", &errors[errors.len() - 20..]);
    assert!(gradient.iter().filter(|slope| slope.abs() > 0.1).count() > 100);
}

#[test]
fn shrinking_removes_zeros_and_keeps_the_answers() {
    let mut parts = parts(Link::Logistic, 1);
    parts.hidden[1].residual = false;
    let readers = |parts: &mut NetworkParts, input: usize| {
        for dense in parts.cross.iter_mut().chain([&mut parts.hidden[0].dense]) {
            let columns = dense.outputs as usize;
            dense.weights[input * columns..(input + 1) * columns].fill(0.0);
        }
    };
    // The piecewise-linear column, the hashed slot, one number of the direct slot, two units and one that is always 0.
    [1, 2, 3, 9, 15, 16].into_iter().for_each(|input| readers(&mut parts, input));
    parts.output.weights[4] = 0.0;
    parts.hidden[1].dense.weights[3 * 24..4 * 24].fill(0.0);
    parts.hidden[1].dense.weights.iter_mut().skip(5).step_by(24).for_each(|weight| *weight = 0.0);
    parts.hidden[1].dense.bias[5] = -0.5;
    let before = NetworkModel::new(parts.clone(), layout()).unwrap();
    parts.shrink();
    assert_eq!(parts.numeric[1], Numeric::Unused);
    assert_eq!(parts.slots, [Some(0), Some(1), None]);
    assert_eq!(parts.tables.iter().map(|table| table.dimension).collect::<Vec<_>>(), [2, 4]);
    assert_eq!(parts.hidden.iter().map(|layer| layer.dense.outputs).collect::<Vec<_>>(), [23, 23, 8]);
    let after = NetworkModel::new(parts, layout()).unwrap();
    assert!(after.to_bytes().len() < before.to_bytes().len() * 9 / 10);
    let inputs = rows(100);
    assert_eq!(predict(&after, &inputs), predict(&before, &inputs));
}

#[test]
fn what_is_written_is_read_and_rows_of_zeros_cost_nothing() {
    let mut parts = parts(Link::Softmax, 4);
    parts.slots[0] = None;
    let width = parts.width();
    parts.baseline.truncate(width);
    parts.cross.clear();
    parts.hidden[0].dense = Numbers(3).dense(width, 24);
    let full = NetworkModel::new(parts.clone(), layout()).unwrap().to_bytes().len();
    parts.tables[2].weights[..10 * 2].fill(0.0);
    let model = NetworkModel::new(parts, layout()).unwrap();
    let bytes = model.to_bytes();
    assert_eq!(bytes.len(), full - 10 * (4 + 2 * 4));
    let loaded = NetworkModel::from_bytes(&bytes, &layout()).unwrap();
    assert_eq!((loaded.parts(), loaded.to_bytes()), (model.parts(), bytes.clone()));
    assert_eq!(load_model("network", &bytes, &layout()).unwrap().outputs(), 4);
    assert!(NetworkModel::from_bytes(&[&bytes[..], &[0]].concat(), &layout()).is_err());
}

#[test]
fn parts_that_do_not_fit_are_named() {
    let check = |change: &dyn Fn(&mut NetworkParts), expected: &str| {
        let mut parts = parts(Link::Logistic, 1);
        change(&mut parts);
        let Err(error) = NetworkModel::new(parts, layout()) else { panic!("accepted, not: {expected}") };
        assert!(error.to_string().contains(expected), "{error}");
    };
    check(&|parts| parts.output.weights[0] = f32::NAN, "output layer is not finite");
    check(&|parts| parts.tables[0].weights[0] = f32::INFINITY, "an embedding is not finite");
    check(&|parts| parts.slots[1] = Some(0), "slot 1 gives 1000 ids, its table is for 7");
    check(&|parts| parts.hidden[1].dense.outputs = 9, "a hidden layer from 24 to 9");
    check(&|parts| parts.baseline.clear(), "a baseline of 0");
    check(
        &|parts| parts.numeric[1] = Numeric::PiecewiseLinear { edges: vec![1.0, 1.0] },
        "column \"linear\" has edges",
    );
    check(&|parts| parts.deviation = 0.0, "scale");
}

proptest! {
    #[test]
    fn damaged_bytes_never_panic(cut in 0usize..4000, at in 0usize..100_000, bits in 1u8..=255, header in 0usize..2) {
        let mut bytes = model(Link::Logistic, 1).to_bytes();
        let at = if header == 0 { at % bytes.len() } else { at % 200 };
        bytes[at] ^= bits;
        if cut < 2000 {
            bytes.truncate(bytes.len() - cut);
        }
        if let Ok(model) = NetworkModel::from_bytes(&bytes, &layout()) {
            let _ = model.predict(&rows(3), &mut Vec::new());
        }
    }
}
