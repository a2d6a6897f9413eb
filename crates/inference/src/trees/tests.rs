//! Trees that give the same bits in any batch, come back from their bytes, and give reasons that add up.

use super::*;
use crate::load_model;
use hessboost::config::TrainingParams;
use hessboost::data::{DMatrix, FeatureType};
use hessboost::objective::{Multiclass, Objective, RegLoss};
use vocabulary::inputs::DenseColumn;

/// 4,000 rows: two numbers with gaps and a category of 12 codes.
fn rows() -> Inputs {
    let mut dense = Vec::new();
    for i in 0u32..4000 {
        let a = (i.wrapping_mul(2_654_435_761) >> 8) as f32 / 1e6;
        let b = if i % 7 == 0 { f32::NAN } else { (i % 101) as f32 };
        dense.extend([a, b, (i % 12) as f32]);
    }
    Inputs { rows: 4000, dense_width: 3, dense, ..Inputs::default() }
}

fn model() -> TreesModel {
    let inputs = rows();
    let labels: Vec<f32> = (0..inputs.rows).map(|i| f32::from(inputs.dense_row(i)[0] > 6.0 || i % 12 == 3)).collect();
    let types = [FeatureType::Numerical, FeatureType::Numerical, FeatureType::Categorical];
    let matrix = DMatrix::from_dense(&inputs.dense, inputs.rows, 3).unwrap();
    let matrix = matrix.with_labels(&labels).unwrap().with_feature_types(&types).unwrap();
    let params = TrainingParams::builder().objective(Objective::BinaryLogistic(RegLoss::default())).build();
    let booster = hessboost::training::train(&params.unwrap(), &matrix, 30).unwrap();
    let column = |name: &str, categorical| DenseColumn { name: name.to_owned(), categorical };
    let dense = vec![column("a", false), column("b", false), column("c", true)];
    TreesModel::new(booster, Link::Logistic, Layout { dense, ..Layout::default() }).unwrap()
}

/// Each class owns a third of the numbers of column a, but for the categories of one class.
fn model_of_three() -> TreesModel {
    let inputs = rows();
    let label = |row: &[f32]| if row[2] == 7.0 { 2.0 } else { (row[0] / 6.0).floor().clamp(0.0, 2.0) };
    let labels: Vec<f32> = (0..inputs.rows).map(|i| label(inputs.dense_row(i))).collect();
    let matrix = DMatrix::from_dense(&inputs.dense, inputs.rows, 3).unwrap();
    let types = [FeatureType::Numerical, FeatureType::Numerical, FeatureType::Categorical];
    let matrix = matrix.with_labels(&labels).unwrap().with_feature_types(&types).unwrap();
    let params = TrainingParams::builder().objective(Objective::Softprob(Multiclass::new(3).unwrap())).build();
    let booster = hessboost::training::train(&params.unwrap(), &matrix, 12).unwrap();
    TreesModel::new(booster, Link::Softmax, model().layout).unwrap()
}

fn part(inputs: &Inputs, from: usize, to: usize) -> Inputs {
    let dense = inputs.dense[from * 3..to * 3].to_vec();
    Inputs { rows: to - from, dense_width: 3, dense, ..Inputs::default() }
}

#[test]
fn the_same_bits_in_any_batch_on_any_number_of_threads() {
    same_bits(&model());
    same_bits(&model_of_three());
}

fn same_bits(model: &TreesModel) {
    let inputs = rows();
    let bits = |out: &[f64]| out.iter().map(|p| p.to_bits()).collect::<Vec<_>>();
    let mut whole = Vec::new();
    model.predict(&inputs, &mut whole).unwrap();
    for threads in [1, 2, 4] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        for size in [1, 3, 16, 17, 255, 1000] {
            let mut parts = Vec::new();
            let mut out = Vec::new();
            for from in (0..inputs.rows).step_by(size) {
                let batch = part(&inputs, from, (from + size).min(inputs.rows));
                pool.install(|| model.predict(&batch, &mut out)).unwrap();
                parts.extend(&out);
            }
            assert_eq!(bits(&parts), bits(&whole), "threads {threads}, batches of {size}");
        }
    }
}

#[test]
fn bytes_come_back_and_unseen_codes_have_an_answer() {
    let model = model();
    let loaded = load_model("trees", &model.to_bytes(), model.layout()).unwrap();
    assert_eq!(loaded.to_bytes(), model.to_bytes());
    let odd =
        Inputs { rows: 2, dense_width: 3, dense: vec![1.0, 2.0, 4000.0, f32::NAN, 0.0, f32::NAN], ..Inputs::default() };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    model.predict(&odd, &mut ours).unwrap();
    loaded.predict(&odd, &mut theirs).unwrap();
    assert_eq!(ours, theirs);
    assert!(ours.iter().all(|p| (0.0..=1.0).contains(p)));
}

#[test]
fn what_does_not_fit_is_refused_in_words() {
    let model = model();
    let mut out = Vec::new();
    let narrow = Inputs { rows: 1, dense_width: 2, dense: vec![0.0; 2], ..Inputs::default() };
    let error = model.predict(&narrow, &mut out).unwrap_err().to_string();
    assert!(error.contains("2 dense columns and 0 slots were given, 3 and 0 are expected"), "{error}");
    let infinite = Inputs { rows: 1, dense_width: 3, dense: vec![0.0, f32::INFINITY, 0.0], ..Inputs::default() };
    assert!(model.predict(&infinite, &mut out).unwrap_err().to_string().contains("column \"b\" is infinite"));
    assert!(load_model("trees", b"HSTREES1\x01junk", model.layout()).is_err());
    assert!(load_model("forest", b"", model.layout()).is_err());
}

#[test]
fn a_number_of_classes_goes_with_its_link() {
    let three = model_of_three();
    assert_eq!(three.outputs(), 3);
    let mut bytes = three.to_bytes();
    bytes[8] = Link::Logistic.code();
    let error = load_model("trees", &bytes, three.layout()).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("3 outputs do not go with the link Logistic"), "{error}");
    assert!(TreesModel::new(model().booster, Link::Softmax, three.layout).is_err());
}

#[test]
fn our_walk_and_plain_trees_give_the_bits_of_hessboost() {
    for model in [model(), model_of_three()] {
        let (ensemble, inputs) = (model.ensemble(), rows());
        let theirs = model.booster.predict_margin_rows(&inputs.dense, ..).unwrap();
        let theirs: Vec<f64> = theirs.as_slice().iter().map(|sum| f64::from(*sum)).collect();
        let mut sums = Vec::new();
        assert!(inputs.rows <= model.walked_rows_max);
        model.sums(&inputs, &mut sums).unwrap();
        assert_eq!(sums, theirs);
        for (row, sums) in sums.chunks(model.outputs()).enumerate() {
            let plain: Vec<f64> = ensemble.sums(inputs.dense_row(row)).iter().map(|sum| f64::from(*sum)).collect();
            assert_eq!(plain, sums, "row {row}");
        }
    }
}

#[test]
fn parts_and_base_add_up_to_the_sum() {
    for model in [model(), model_of_three()] {
        let inputs = part(&rows(), 100, 200);
        let (mut sums, mut bases) = (Vec::new(), Vec::new());
        model.sums(&inputs, &mut sums).unwrap();
        let reasons = model.contributions(&inputs).unwrap();
        assert_eq!((reasons.rows, reasons.outputs, reasons.width), (100, model.outputs(), 3));
        for (at, sum) in sums.iter().enumerate() {
            let whole = reasons.base[at] + reasons.parts[at * 3..at * 3 + 3].iter().sum::<f64>();
            assert!((whole - sum).abs() <= 1e-12 * sum.abs().max(1.0), "{whole} is not {sum}");
            bases.push(reasons.base[at] - reasons.base[at % model.outputs()]);
        }
        // But for single precision's rounding all rows have one base.
        assert!(bases.iter().all(|difference| difference.abs() < 1e-4), "{bases:?}");
        assert!(reasons.parts.iter().any(|part| part.abs() > 0.1));
        let alone = model.contributions(&part(&rows(), 150, 151)).unwrap();
        assert_eq!(alone.parts[..], reasons.parts[50 * 3 * model.outputs()..51 * 3 * model.outputs()]);
    }
}

#[test]
fn parts_agree_with_those_of_hessboost() {
    for model in [model(), model_of_three()] {
        let inputs = part(&rows(), 0, 60);
        let reasons = model.contributions(&inputs).unwrap();
        let matrix = DMatrix::from_dense(&inputs.dense, 60, 3).unwrap();
        let theirs = model.booster.predict_contribs(&matrix, ..).unwrap();
        for (ours, theirs) in reasons.parts.chunks(3).zip(theirs.as_slice().chunks(4)) {
            for (a, b) in ours.iter().zip(theirs) {
                assert!((a - f64::from(*b)).abs() < 1e-4, "{a} is not {b}");
            }
        }
    }
}
