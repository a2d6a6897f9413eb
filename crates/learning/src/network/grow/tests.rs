//! Whatever grows, the answers stay.

use super::*;
use inference::{Link, Model, NetworkModel};
use proptest::prelude::*;
use vocabulary::inputs::{DenseColumn, Inputs, Layout};

/// Numbers between -1 and 1.
struct Numbers(u64, u64);

impl Numbers {
    fn next(&mut self) -> f32 {
        self.1 += 1;
        (bits(self.0, Purpose::Split, 77, self.1) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    fn dense(&mut self, inputs: usize, outputs: usize) -> Dense {
        let size = (3.0 / inputs.max(1) as f32).sqrt();
        Dense {
            inputs: inputs as u32,
            outputs: outputs as u32,
            weights: (0..inputs * outputs).map(|_| size * self.next()).collect(),
            bias: (0..outputs).map(|_| 0.3 * self.next()).collect(),
        }
    }

    fn table(&mut self, ids: u32, dimension: u32, place: Place) -> Table {
        let numbers = place.rows(ids) * dimension as usize;
        Table { ids, dimension, place, weights: (0..numbers).map(|_| self.next()).collect() }
    }
}

const IDS: [u32; 4] = [7, 90, 50, 5];

fn layout(ids: [u32; 4]) -> Layout {
    let column = |name: &str| DenseColumn { name: name.to_owned(), categorical: false };
    Layout {
        dense: ["plain", "linear", "periodic", "removed"].map(column).to_vec(),
        slots: ["direct", "both", "hashed", "unread"].map(str::to_owned).to_vec(),
        table_bits: 0,
        tables: ids.to_vec(),
    }
}

/// Every encoding and place, with layers as asked for; a true one is residual.
fn parts(seed: u64, link: Link, cross: usize, hidden: &[(usize, bool)]) -> NetworkParts {
    let mut numbers = Numbers(seed, 0);
    let outputs = if link == Link::Softmax { 3 } else { 1 };
    let tables = vec![
        numbers.table(IDS[0], 3, Place::Direct),
        numbers.table(IDS[1], 4, Place::QuotientRemainder { remainders: 12 }),
        numbers.table(IDS[2], 2, Place::Hashed { rows: 20 }),
    ];
    let width = 1 + 3 + 4 + 3 + 4 + 2;
    let mut below = width;
    let mut layers = Vec::new();
    for (units, residual) in hidden {
        layers.push(Hidden { dense: numbers.dense(below, *units), residual: *residual });
        below = *units;
    }
    NetworkParts {
        link,
        numeric: vec![
            Numeric::Plain,
            Numeric::PiecewiseLinear { edges: vec![-1.0, -0.25, 0.0, 2.0] },
            Numeric::Periodic { frequencies: vec![0.3, 1.1] },
            Numeric::Unused,
        ],
        tables,
        slots: vec![Some(0), Some(1), Some(2), None],
        cross: (0..cross).map(|_| numbers.dense(width, width)).collect(),
        hidden: layers,
        output: numbers.dense(below, outputs),
        mean: if link == Link::Identity { 100.0 } else { 0.0 },
        deviation: if link == Link::Identity { 20.0 } else { 1.0 },
        baseline: vec![0.5; width],
    }
}

fn rows(seed: u64) -> Inputs {
    let mut numbers = Numbers(seed, 1 << 40);
    let mut dense: Vec<f32> = (0..40 * 4).map(|_| 1.5 * numbers.next()).collect();
    dense.iter_mut().step_by(11).for_each(|value| *value = f32::NAN);
    let slots = (0..40 * 4).map(|at| ((numbers.next() + 1.0) * 0.499 * IDS[at % 4] as f32) as u32).collect();
    Inputs { rows: 40, dense_width: 4, dense, slot_width: 4, slots }
}

/// The answers without mean, in deviations.
fn answers(parts: &NetworkParts, ids: [u32; 4], inputs: &Inputs) -> Vec<f64> {
    let mut out = Vec::new();
    NetworkModel::new(parts.clone(), layout(ids)).unwrap().predict(inputs, &mut out).unwrap();
    out.iter().map(|answer| (answer - parts.mean) / parts.deviation).collect()
}

fn same(before: &[f64], after: &[f64], what: &str) {
    for (a, b) in before.iter().zip(after) {
        assert!((a - b).abs() <= 1e-6 * a.abs().max(1.0), "{what}: {a} became {b}");
    }
    assert_eq!(before.len(), after.len());
}

const LINKS: [Link; 3] = [Link::Logistic, Link::Identity, Link::Softmax];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn wider_and_deeper_networks_answer_the_same(
        seed in any::<u64>(),
        link in 0..3usize,
        cross in 0..2usize,
        sizes in (1..24usize, 1..24usize),
        residual in any::<bool>(),
        more in (0..40usize, 0..40usize),
        above in 0..3usize,
        added_residual in any::<bool>(),
    ) {
        let hidden = [(sizes.0, false), (sizes.0, residual), (sizes.1, false)];
        let mut grown = parts(seed, LINKS[link], cross, &hidden);
        let inputs = rows(seed);
        let before = answers(&grown, IDS, &inputs);
        let grower = Grower { seed };
        grower.deepen(&mut grown, above, added_residual);
        same(&before, &answers(&grown, IDS, &inputs), "deeper");
        add_cross(&mut grown, cross + 1);
        same(&before, &answers(&grown, IDS, &inputs), "a cross layer more");
        for layer in 0..grown.hidden.len() {
            if !grown.hidden[layer].residual {
                let units = grown.hidden[layer].dense.outputs as usize;
                grower.widen(&mut grown, layer, units + if layer == 0 { more.0 } else { more.1 });
                same(&before, &answers(&grown, IDS, &inputs), &format!("layer {layer} wider"));
            }
        }
        prop_assert_eq!(grown.hidden[0].dense.outputs as usize, sizes.0 + more.0);
        prop_assert_eq!(grown.hidden.len(), 4);
    }

    #[test]
    fn more_inputs_leave_the_answers_as_they_are(
        seed in any::<u64>(),
        link in 0..3usize,
        cross in 0..2usize,
        layers in 0..2usize,
        dimension in 4..9usize,
        mut wanted in proptest::collection::vec(-2.0f32..3.0, 0..9),
    ) {
        let mut grown = parts(seed, LINKS[link], cross, &[(9, false); 2][..layers]);
        let inputs = rows(seed);
        let before = answers(&grown, IDS, &inputs);
        let grower = Grower { seed };
        wanted.sort_unstable_by(f32::total_cmp);
        grower.split_intervals(&mut grown, 1, &wanted, 8);
        same(&before, &answers(&grown, IDS, &inputs), "finer intervals");
        for table in 0..3 {
            grower.widen_table(&mut grown, table, dimension);
            same(&before, &answers(&grown, IDS, &inputs), "longer vectors");
        }
        grower.read_column(&mut grown, 3, Numeric::PiecewiseLinear { edges: vec![-1.0, 0.0, 1.0] });
        let table = Table { ids: IDS[3], dimension: 2, place: Place::Direct, weights: vec![0.0; 10] };
        grower.read_slot(&mut grown, 3, table);
        same(&before, &answers(&grown, IDS, &inputs), "a column and a slot read again");
        prop_assert!(grown.slots.iter().all(Option::is_some));
        // Two ids more, which stood for the last of five, which moves up, and for the second.
        let origins = [0, 1, 2, 3, 4, 5, 6, 1];
        extend_table(&mut grown.tables[0], &origins);
        same(&before, &answers(&grown, [8, IDS[1], IDS[2], IDS[3]], &inputs), "a row more");
        let mut other = inputs.clone();
        other.slots.iter_mut().step_by(4).filter(|id| **id == 1).for_each(|id| *id = 7);
        same(&before, &answers(&grown, [8, IDS[1], IDS[2], IDS[3]], &other), "the new row in place of the old");
    }
}

#[test]
fn new_units_differ_and_nothing_reads_them_yet() {
    let small = parts(5, Link::Softmax, 0, &[(4, false), (4, true)]);
    let widened = |seed: u64| {
        let mut parts = small.clone();
        Grower { seed }.widen(&mut parts, 0, 8);
        parts
    };
    let (wide, other) = (widened(1), widened(2));
    let column = |parts: &NetworkParts, unit: usize| -> Vec<f32> {
        parts.hidden[0].dense.weights.iter().skip(unit).step_by(8).copied().collect()
    };
    for unit in 4..8 {
        assert!((0..unit).all(|before| column(&wide, before) != column(&wide, unit)));
        assert_ne!(column(&wide, unit), column(&other, unit));
        assert!(wide.output.weights[unit * 3..][..3].iter().all(|weight| *weight == 0.0));
        assert!(wide.hidden[1].dense.weights[unit * 8..][..8].iter().all(|weight| *weight == 0.0));
    }
    assert!((0..4).all(|unit| column(&wide, unit) == column(&other, unit)));
    assert_eq!(wide.hidden[1].dense.outputs, 8);
}

#[test]
fn a_layer_that_lost_all_its_units_gets_new_ones() {
    let mut empty = parts(5, Link::Logistic, 0, &[(4, false)]);
    let dense = Dense { outputs: 0, weights: Vec::new(), bias: Vec::new(), ..empty.hidden[0].dense.clone() };
    empty.hidden[0].dense = dense;
    empty.output = Dense { inputs: 0, weights: Vec::new(), ..empty.output };
    Grower { seed: 1 }.widen(&mut empty, 0, 6);
    let (units, read) = (&empty.hidden[0].dense.weights, &empty.output.weights);
    assert_eq!((units.len(), read.as_slice()), (17 * 6, &[0.0; 6][..]));
    let answers = answers(&empty, IDS, &rows(5));
    assert!(answers.iter().all(|answer| *answer == answers[0]));
    assert!(units.iter().any(|weight| *weight > 0.1));
}
