//! A version's model and calibration: they are refused in words, or they answer.
#![no_main]

use hessboost::config::TrainingParams;
use hessboost::data::DMatrix;
use hessboost::objective::{Objective, RegLoss};
use inference::{Calibration, LinearModel, LinearParts, Link, Model, TreesModel, load_model};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;
use vocabulary::Inputs;
use vocabulary::inputs::{DenseColumn, Layout};

/// Dense columns of a row, and of the linear model hashed ones.
const COLUMNS: usize = 3;

fn layout(slots: bool) -> Layout {
    let column = |at: usize| DenseColumn { name: format!("c{at}"), categorical: false };
    let slots: Vec<String> = if slots { vec!["s".to_owned(), "t".to_owned()] } else { Vec::new() };
    let table_bits = if slots.is_empty() { 0 } else { 4 };
    Layout { dense: (0..COLUMNS).map(column).collect(), slots, table_bits, tables: Vec::new() }
}

/// What [`load_model`] reads, whole.
static TREES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let values: Vec<f32> = (0..600u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 16) as f32 / 1e3).collect();
    let labels: Vec<f32> = values.chunks(COLUMNS).map(|row| f32::from(row[0] > row[1])).collect();
    let matrix = DMatrix::from_dense(&values, values.len() / COLUMNS, COLUMNS).expect("a matrix");
    let matrix = matrix.with_labels(&labels).expect("labels");
    let params = TrainingParams::builder().objective(Objective::BinaryLogistic(RegLoss::default())).build();
    let booster = hessboost::training::train(&params.expect("parameters"), &matrix, 3).expect("a model");
    TreesModel::new(booster, Link::Logistic, layout(false)).expect("trees").to_bytes()
});

static LINEAR: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut table = vec![0.0; 16];
    table[3] = 1.5;
    let parts = LinearParts { link: Link::Logistic, bias: vec![0.25], dense: vec![1.0, -2.0, 0.5], table };
    LinearModel::new(parts, layout(true)).expect("a linear model").to_bytes()
});

// The first byte picks the kind and whether the rest is the model's bytes, changes to those of a good model (two bytes
// of place and the new byte), or a calibration.
fuzz_target!(|data: &[u8]| {
    let Some(([choice], rest)) = fuzz::steered::<1>(data) else { return };
    if choice & 0x04 != 0 {
        return calibrate(rest);
    }
    let linear = choice & 0x01 != 0;
    let bytes = if choice & 0x02 != 0 {
        rest.to_vec()
    } else {
        let mut bytes = if linear { LINEAR.clone() } else { TREES.clone() };
        for [low, high, byte] in rest.as_chunks::<3>().0 {
            let at = usize::from(u16::from_le_bytes([*low, *high])) % bytes.len();
            bytes[at] = *byte;
        }
        bytes
    };
    match load_model(if linear { "linear" } else { "trees" }, &bytes, &layout(linear)) {
        Ok(model) => ask(&*model),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});

fn calibrate(text: &[u8]) {
    let Ok(calibration) = serde_json::from_slice::<Calibration>(text) else { return };
    if calibration.check().is_err() {
        return;
    }
    for score in [0.0, 1.0, 0.5, 1e-300, f64::NAN] {
        assert_eq!(calibration.apply(score).is_nan(), score.is_nan(), "{calibration:?} of {score}");
    }
}

/// A row has the same answer alone and among others.
fn ask(model: &dyn Model) {
    let row = |at: usize| [[0.5, f32::NAN, -3e38], [1e30, 7.0, 12.0]][at % 2];
    let rows = |count: usize| {
        let slot_width = model.layout().slots.len();
        let slots = (0..count * slot_width).map(|at| at as u32 % 16).collect();
        let dense = (0..count).flat_map(row).collect();
        Inputs { rows: count, dense_width: COLUMNS, dense, slot_width, slots }
    };
    let (mut one, mut many) = (Vec::new(), Vec::new());
    if model.predict(&rows(1), &mut one).is_ok() && model.predict(&rows(20), &mut many).is_ok() {
        assert_eq!((one.len(), many.len()), (1, 20));
        assert_eq!(one[0].to_bits(), many[0].to_bits(), "{} and {}", one[0], many[0]);
    }
}
