//! Networks of a made-up law, cut down and rounded.

use super::*;
use crate::fit::{Goal, loss};
use crate::keyed::{Purpose, bits};
use crate::metrics::Placements;
use crate::network::fit;
use inference::Model;
use inference::network::quantized::{DenseForm, QuantizeOptions, TableForm, quantize_network};
use vocabulary::inputs::{DenseColumn, Inputs};
use vocabulary::model::Task;

fn uniform(row: usize, what: u64) -> f64 {
    (bits(5, Purpose::Split, what, row as u64) >> 11) as f64 / (1u64 << 53) as f64
}

fn layout() -> Layout {
    let column = |name: &str| DenseColumn { name: name.to_owned(), categorical: false };
    Layout {
        dense: vec![column("x"), column("of no use")],
        slots: vec!["a".to_owned(), "of no use too".to_owned()],
        table_bits: 0,
        tables: vec![20, 40],
    }
}

/// The target bends in x and turns with the parity of a; the other column and slot say nothing.
fn rows(range: std::ops::Range<usize>) -> (Inputs, Vec<f64>) {
    let x = |row: usize| (4.0 * uniform(row, 1) - 2.0) as f32;
    let a = |row: usize| (uniform(row, 2) * 20.0) as u32;
    let law = |row: usize| {
        let turn = if a(row).is_multiple_of(2) { 1.0 } else { -1.0 };
        10.0 * turn * (2.0 * f64::from(x(row)).abs() - 1.0) + uniform(row, 3)
    };
    let inputs = Inputs {
        rows: range.len(),
        dense_width: 2,
        dense: range.clone().flat_map(|row| [x(row), uniform(row, 4) as f32]).collect(),
        slot_width: 2,
        slots: range.clone().flat_map(|row| [a(row), (uniform(row, 5) * 40.0) as u32]).collect(),
    };
    (inputs, range.map(law).collect())
}

fn spec(cross_layers: u32) -> NetworkSpec {
    NetworkSpec { hidden: vec![48, 24], cross_layers, ..NetworkSpec::default() }
}

fn trained(cross_layers: u32, epochs: u32) -> NetworkModel {
    let (inputs, target) = rows(0..6_000);
    let sample = Sample { inputs, target, weights: None };
    let watch =
        Watch { seed: 1, learner: LearnerKind::Network, phase: Phase::Fit, progress: &|_| {}, checkpoints: None };
    let goal = Goal { task: Task::Regression, outputs: 1 };
    let model = fit(&spec(cross_layers), goal, &layout(), &sample, epochs, &watch).unwrap();
    NetworkModel::from_bytes(&model.to_bytes(), &layout()).unwrap()
}

fn error(model: &dyn Model) -> f64 {
    let (inputs, target) = rows(6_000..8_000);
    let mut out = Vec::new();
    model.predict(&inputs, &mut out).unwrap();
    loss(Task::Regression, &out, &target)
}

fn pruned(model: &NetworkModel, share: f64) -> PrunedNetwork {
    let (inputs, target) = rows(6_000..8_000);
    prune_network(model, Rows { inputs: &inputs, target: &target }, share).unwrap()
}

#[test]
fn half_of_the_products_go_and_the_law_stays() {
    let model = trained(0, 12);
    let before = error(&model);
    let smaller = pruned(&model, 0.6);
    assert!(smaller.products_after * 10 <= smaller.products_before * 4, "{}", smaller.products_after);
    assert!(smaller.units_after < smaller.units_before && smaller.inputs_after < smaller.inputs_before);
    assert_eq!(smaller.parts.numeric[1], Numeric::Unused, "a column of no use");
    assert_eq!(smaller.parts.slots, [Some(0), None], "a slot of no use");
    let cut = NetworkModel::new(smaller.parts.clone(), layout()).unwrap();
    let (inputs, target) = rows(0..6_000);
    let how = FineTuning { spec: &spec(0), epochs: 4, seed: 1 };
    let tuned = fine_tune_network(&smaller.parts, &layout(), Rows { inputs: &inputs, target: &target }, how).unwrap();
    let (raw, after) = (error(&cut), error(&tuned));
    assert!(after < 1.15 * before + 0.05 && after < raw, "{before}, cut {raw}, learned on {after}");
    assert_eq!(tuned.parts().slots, [Some(0), None]);
    assert_eq!(tuned.parts().shape(), smaller.parts.shape());
    assert!(tuned.to_bytes().len() * 2 < model.to_bytes().len());
}

#[test]
fn crossed_inputs_can_go_as_well() {
    let model = trained(1, 3);
    let smaller = pruned(&model, 0.5);
    assert!(smaller.products_after * 2 <= smaller.products_before);
    assert!(smaller.inputs_after < smaller.inputs_before);
    let cut = NetworkModel::new(smaller.parts, layout()).unwrap();
    assert!(error(&cut).is_finite());
}

#[test]
fn nothing_goes_without_a_share_and_something_always_stays() {
    let model = trained(0, 1);
    assert_eq!(pruned(&model, 0.0).parts, *model.parts());
    let least = pruned(&model, 0.99);
    assert!(least.units_after >= 2 && least.inputs_after >= 1);
    let (inputs, target) = rows(0..10);
    let refused = prune_network(&model, Rows { inputs: &inputs, target: &target }, 1.0).err().unwrap();
    assert!(refused.to_string().contains("a share of 1"), "{refused}");
}

#[test]
fn the_same_bytes_on_any_number_of_threads() {
    let model = trained(0, 2);
    let (inputs, target) = rows(0..2_000);
    let bytes = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let smaller = pruned(&model, 0.5);
            let how = FineTuning { spec: &spec(0), epochs: 1, seed: 1 };
            let rows = Rows { inputs: &inputs, target: &target };
            fine_tune_network(&smaller.parts, &layout(), rows, how).unwrap().to_bytes()
        })
    };
    assert_eq!(bytes(1), bytes(3));
}

/// Rounding is measured where networks are trained: on weights that mean something.
#[test]
fn rounding_hardly_moves_the_order_of_a_trained_networks_answers() {
    let outcome = |target: &[f64]| target.iter().map(|y| f64::from(*y > 4.0)).collect::<Vec<f64>>();
    let (inputs, target) = rows(0..6_000);
    let sample = Sample { inputs, target: outcome(&target), weights: None };
    let watch =
        Watch { seed: 1, learner: LearnerKind::Network, phase: Phase::Fit, progress: &|_| {}, checkpoints: None };
    let goal = Goal { task: Task::Binary, outputs: 1 };
    // Few epochs, so that the order of the answers is not perfect.
    let model = fit(&spec(0), goal, &layout(), &sample, 2, &watch).unwrap();
    let model = NetworkModel::from_bytes(&model.to_bytes(), &layout()).unwrap();
    let (inputs, target) = rows(6_000..12_000);
    let target = outcome(&target);
    let auc = |model: &dyn Model| {
        let mut out = Vec::new();
        model.predict(&inputs, &mut out).unwrap();
        Placements::of(&out, &target).unwrap().auc()
    };
    let exact = auc(&model);
    assert!((0.6..0.9999).contains(&exact), "{exact}");
    for dense in [DenseForm::None, DenseForm::Dynamic, DenseForm::Static] {
        for tables in [TableForm::Int8, TableForm::Int4] {
            let options = QuantizeOptions { dense, tables };
            let rounded = auc(&quantize_network(&model, &options, Some(&sample.inputs)).unwrap());
            assert!(exact - rounded <= 0.001, "{options:?}: {exact} became {rounded}");
        }
    }
}
