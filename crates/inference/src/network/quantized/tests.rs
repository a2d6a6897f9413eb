//! Rounded networks beside the ones they were made from.

use super::*;
use crate::model::load_model;
use proptest::prelude::*;
use vocabulary::inputs::DenseColumn;

/// Numbers between -1 and 1.
struct Numbers(u32);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as f32 / (1 << 23) as f32 - 1.0
    }

    fn some(&mut self, count: usize, size: f32) -> Vec<f32> {
        (0..count).map(|_| self.next() * size).collect()
    }

    fn dense(&mut self, inputs: usize, outputs: usize) -> Dense {
        let weights = self.some(inputs * outputs, (3.0 / inputs as f32).sqrt());
        Dense { inputs: inputs as u32, outputs: outputs as u32, weights, bias: self.some(outputs, 0.5) }
    }
}

const IDS: [u32; 2] = [300, 2000];

fn layout() -> Layout {
    let column = |at: usize| DenseColumn { name: format!("c{at}"), categorical: false };
    let slots = vec!["direct".to_owned(), "both".to_owned()];
    Layout { dense: (0..6).map(column).collect(), slots, table_bits: 0, tables: IDS.to_vec() }
}

/// Every kind of layer, with embeddings a tenth as large as the numbers beside them.
fn network(link: Link, outputs: usize) -> NetworkModel {
    let mut numbers = Numbers(7);
    let place = Place::QuotientRemainder { remainders: 50 };
    let tables = vec![
        Table { ids: IDS[0], dimension: 12, place: Place::Direct, weights: numbers.some(300 * 12, 0.1) },
        Table { ids: IDS[1], dimension: 10, place, weights: numbers.some(90 * 10, 0.3) },
    ];
    let width = 3 + 2 * 3 + 4 + 12 + 10;
    let edges = vec![-1.0, -0.25, 0.0, 2.0];
    let hidden = |dense, residual| Hidden { dense, residual };
    let parts = NetworkParts {
        link,
        numeric: vec![
            Numeric::Plain,
            Numeric::Plain,
            Numeric::Plain,
            Numeric::PiecewiseLinear { edges: edges.clone() },
            Numeric::PiecewiseLinear { edges },
            Numeric::Periodic { frequencies: vec![0.3, 1.1] },
        ],
        tables,
        slots: vec![Some(0), Some(1)],
        cross: vec![numbers.dense(width, width)],
        hidden: vec![
            hidden(numbers.dense(width, 48), false),
            hidden(numbers.dense(48, 48), true),
            hidden(numbers.dense(48, 24), false),
        ],
        output: numbers.dense(24, outputs),
        mean: if link == Link::Identity { 100.0 } else { 0.0 },
        deviation: if link == Link::Identity { 20.0 } else { 1.0 },
        baseline: numbers.some(width, 0.1),
    };
    NetworkModel::new(parts, layout()).unwrap()
}

fn rows(count: usize, seed: u32) -> Inputs {
    let mut numbers = Numbers(seed);
    let mut dense = numbers.some(count * 6, 3.0);
    dense.iter_mut().step_by(11).for_each(|value| *value = f32::NAN);
    let id = |at: usize| ((at as u32).wrapping_mul(2_654_435_761) >> 8) % IDS[at % 2];
    Inputs { rows: count, dense_width: 6, dense, slot_width: 2, slots: (0..count * 2).map(id).collect() }
}

fn part(inputs: &Inputs, from: usize, to: usize) -> Inputs {
    let dense = inputs.dense[from * 6..to * 6].to_vec();
    Inputs { rows: to - from, dense_width: 6, dense, slot_width: 2, slots: inputs.slots[from * 2..to * 2].to_vec() }
}

fn answers(model: &dyn Model, inputs: &Inputs) -> Vec<f64> {
    let mut out = Vec::new();
    model.predict(inputs, &mut out).unwrap();
    out
}

fn forms() -> impl Iterator<Item = QuantizeOptions> {
    let dense = [DenseForm::None, DenseForm::Dynamic, DenseForm::Static];
    let tables = [TableForm::F32, TableForm::Int8, TableForm::Int4];
    dense.into_iter().flat_map(move |dense| tables.map(|tables| QuantizeOptions { dense, tables }))
}

fn quantized(link: Link, outputs: usize, options: &QuantizeOptions) -> QuantizedNetwork {
    quantize_network(&network(link, outputs), options, Some(&rows(500, 3))).unwrap()
}

/// Root mean squared difference in parts of the standard deviation of `exact`.
fn error(exact: &[f64], rounded: &[f64]) -> f64 {
    let mean = exact.iter().sum::<f64>() / exact.len() as f64;
    let spread: f64 = exact.iter().map(|value| (value - mean).powi(2)).sum();
    let squares: f64 = exact.iter().zip(rounded).map(|(a, b)| (a - b).powi(2)).sum();
    (squares / spread).sqrt()
}

#[test]
fn answers_stay_near_those_of_the_network() {
    let inputs = rows(700, 5);
    let exact = answers(&network(Link::Identity, 1), &inputs);
    for options in forms() {
        let model = quantized(Link::Identity, 1, &options);
        let wanted = if options.dense == DenseForm::None { 0 } else { 4 };
        assert_eq!(model.int8_layers(), (wanted, 5));
        let error = error(&exact, &answers(&model, &inputs));
        let bound = match (options.dense, options.tables) {
            (DenseForm::None, TableForm::F32) => 0.0,
            (DenseForm::None, TableForm::Int8) => 0.003,
            (DenseForm::Dynamic, TableForm::F32 | TableForm::Int8) => 0.02,
            (DenseForm::Static, TableForm::F32 | TableForm::Int8) => 0.05,
            (DenseForm::Static, TableForm::Int4) => 0.06,
            (_, TableForm::Int4) => 0.04,
        };
        assert!(error <= bound, "{options:?}: {error} of a standard deviation");
    }
    let classes = quantized(Link::Softmax, 3, &QuantizeOptions::default());
    for row in answers(&classes, &inputs).chunks(3) {
        assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }
}

#[test]
fn calibration_rows_are_needed_where_ranges_are_fixed_and_help_elsewhere() {
    let options = QuantizeOptions { dense: DenseForm::Static, tables: TableForm::Int8 };
    let refused = quantize_network(&network(Link::Logistic, 1), &options, None).err().unwrap().to_string();
    assert!(refused.contains("need calibration rows"), "{refused}");
    let inputs = rows(300, 5);
    let exact = answers(&network(Link::Identity, 1), &inputs);
    let blind = quantize_network(&network(Link::Identity, 1), &QuantizeOptions::default(), None).unwrap();
    let error = error(&exact, &answers(&blind, &inputs));
    assert!(error < 0.025, "{error}");
}

#[test]
fn a_row_gets_the_same_bits_in_any_batch_and_on_any_thread() {
    let inputs = rows(200, 11);
    for options in forms() {
        let model = quantized(Link::Logistic, 1, &options);
        let bits = |out: &[f64]| out.iter().map(|p| p.to_bits()).collect::<Vec<_>>();
        let whole = bits(&answers(&model, &inputs));
        for size in [1, 3, 64, 65] {
            let parts: Vec<f64> = (0..200)
                .step_by(size)
                .flat_map(|from| answers(&model, &part(&inputs, from, (from + size).min(200))))
                .collect();
            assert_eq!(bits(&parts), whole, "{options:?}, batches of {size}");
        }
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..3).map(|_| scope.spawn(|| bits(&answers(&model, &inputs)))).collect();
            threads.into_iter().for_each(|thread| assert_eq!(thread.join().unwrap(), whole));
        });
    }
}

#[test]
fn bytes_come_back_and_are_few() {
    let single = network(Link::Logistic, 1).to_bytes().len();
    let inputs = rows(50, 2);
    for options in forms() {
        let model = quantized(Link::Logistic, 1, &options);
        let bytes = model.to_bytes();
        let loaded = load_model("quantized_network", &bytes, &layout()).unwrap();
        assert_eq!((loaded.kind(), loaded.outputs()), ("quantized_network", 1));
        assert_eq!(loaded.to_bytes(), bytes);
        assert_eq!(answers(&*loaded, &inputs), answers(&model, &inputs));
        if options == (QuantizeOptions { dense: DenseForm::Dynamic, tables: TableForm::Int4 }) {
            assert!(bytes.len() * 3 < single, "{} of {single} bytes", bytes.len());
        }
    }
}

#[test]
fn reasons_add_up_to_the_rounded_sum() {
    let inputs = rows(20, 4);
    let model = quantized(Link::Identity, 1, &QuantizeOptions::default());
    let found = model.contributions(&inputs).unwrap();
    assert_eq!((found.rows, found.outputs, found.width), (20, 1, 8));
    for ((answer, base), parts) in answers(&model, &inputs).iter().zip(&found.base).zip(found.parts.chunks(8)) {
        let sum = base + parts.iter().sum::<f64>();
        assert!((sum - answer).abs() < 1e-9 * answer.abs().max(1.0), "{sum} and {answer}");
    }
    let network = network(Link::Identity, 1).contributions(&inputs).unwrap();
    let error = error(&network.parts, &found.parts);
    assert!(error < 0.05, "{error}");
}

#[test]
fn what_does_not_fit_is_refused_in_words() {
    let model = quantized(Link::Logistic, 1, &QuantizeOptions::default());
    let refused = |inputs: &Inputs| model.predict(inputs, &mut Vec::new()).unwrap_err().to_string();
    let mut inputs = rows(3, 1);
    inputs.slots[3] = IDS[1];
    assert!(refused(&inputs).contains("slot 1 of row 1 is 2000"));
    let mut inputs = rows(3, 1);
    inputs.dense[13] = f32::INFINITY;
    assert!(refused(&inputs).contains("row 2 has values too large"));
    let narrow = Inputs { rows: 1, dense_width: 2, dense: vec![0.0; 2], ..Inputs::default() };
    assert!(refused(&narrow).contains("2 dense columns and 0 slots were given"));
    let other = Layout { tables: vec![300, 1999], ..layout() };
    let error = load_model("quantized_network", &model.to_bytes(), &other).err().unwrap().to_string();
    assert!(error.contains("quantized_network") && error.contains("1999"), "{error}");
}

/// What is read is what would be written, bit by bit of the head and by samples of the rest.
#[test]
fn a_flipped_bit_is_refused_or_kept() {
    for (dense, tables) in [(DenseForm::Static, TableForm::Int4), (DenseForm::Dynamic, TableForm::F32)] {
        let whole = quantized(Link::Logistic, 1, &QuantizeOptions { dense, tables }).to_bytes();
        for at in (0..400).chain((400..whole.len()).step_by(97)) {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                if let Ok(model) = load_model("quantized_network", &bytes, &layout()) {
                    assert!(model.to_bytes() == bytes, "bit {bit} of byte {at}");
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn damaged_bytes_never_panic(cut in 0usize..4000, at in any::<u32>(), bits in 1u8..=255) {
        for options in [
            QuantizeOptions { dense: DenseForm::Static, tables: TableForm::Int4 },
            QuantizeOptions { dense: DenseForm::Dynamic, tables: TableForm::F32 },
        ] {
            let mut bytes = quantized(Link::Logistic, 1, &options).to_bytes();
            let length = bytes.len();
            bytes[at as usize % length] ^= bits;
            bytes.truncate(length - if cut % 2 == 0 { cut } else { 0 });
            if let Ok(model) = load_model("quantized_network", &bytes, &layout()) {
                prop_assert!(model.to_bytes() == bytes, "other bytes come back");
                let _ = model.predict(&rows(2, 1), &mut Vec::new());
                let _ = model.contributions(&rows(1, 1));
            }
        }
    }
}
