//! Compact trees answer as the trees they came from, and what is damaged is refused.

use super::*;
use crate::ensemble::{Node, Split, Test, Tree};
use crate::{TreesModel, load_model};
use hessboost::config::{GrowPolicy, TrainingParams, TreeMethod};
use hessboost::data::{DMatrix, FeatureType};
use hessboost::objective::{Multiclass, Objective, RegLoss};
use proptest::prelude::*;
use vocabulary::inputs::DenseColumn;

const COLUMNS: usize = 5;

fn layout() -> Layout {
    let column = |name: &str, categorical| DenseColumn { name: name.to_owned(), categorical };
    let dense = [("a", false), ("b", false), ("few", true), ("hour", false), ("many", true)];
    Layout { dense: dense.map(|(name, categorical)| column(name, categorical)).to_vec(), ..Layout::default() }
}

/// Numbers with gaps, whole numbers, and categories of 12 and of 900 codes.
fn rows(count: usize) -> Inputs {
    let mut dense = Vec::new();
    for i in 0..count as u32 {
        let noise = |salt: u32| (i.wrapping_add(salt).wrapping_mul(2_654_435_761) >> 8) as f32 / 1e6;
        let gap = |salt: u32, value: f32| if i.wrapping_mul(salt) % 11 == 3 { f32::NAN } else { value };
        dense.extend([noise(1), gap(7, noise(999) - 8.0), gap(5, (i * 7 % 12) as f32), (i % 24) as f32]);
        dense.push(gap(3, (i.wrapping_mul(31) % 900) as f32));
    }
    Inputs { rows: count, dense_width: COLUMNS, dense, ..Inputs::default() }
}

fn part(inputs: &Inputs, from: usize, to: usize) -> Inputs {
    let dense = inputs.dense[from * COLUMNS..to * COLUMNS].to_vec();
    Inputs { rows: to - from, dense_width: COLUMNS, dense, ..Inputs::default() }
}

fn grown(objective: Objective, link: Link, rounds: usize) -> TreesModel {
    let inputs = rows(3000);
    let label = |row: &[f32]| {
        let sum =
            row[0] / 6.0 + f32::from(row[2] % 3.0 == 1.0) + f32::from(row[4] % 7.0 < 2.0) + f32::from(row[1] > 0.0);
        (sum / 1.5).floor().clamp(0.0, 2.0)
    };
    let top = if link == Link::Logistic { 1.0 } else { 2.0 };
    let labels: Vec<f32> = (0..inputs.rows).map(|i| label(inputs.dense_row(i)).min(top)).collect();
    let kind = |categorical| if categorical { FeatureType::Categorical } else { FeatureType::Numerical };
    let types = layout().dense.iter().map(|column| kind(column.categorical)).collect::<Vec<_>>();
    let matrix = DMatrix::from_dense(&inputs.dense, inputs.rows, COLUMNS).unwrap();
    let matrix = matrix.with_labels(&labels).unwrap().with_feature_types(&types).unwrap();
    let params = TrainingParams::builder()
        .objective(objective)
        .tree_method(TreeMethod::Hist)
        .grow_policy(GrowPolicy::LossGuide)
        .unlimited_depth()
        .max_leaves(31)
        .build();
    let booster = hessboost::training::train(&params.unwrap(), &matrix, rounds).unwrap();
    TreesModel::new(booster, link, layout()).unwrap()
}

fn models() -> [TreesModel; 3] {
    [
        grown(Objective::BinaryLogistic(RegLoss::default()), Link::Logistic, 40),
        grown(Objective::SquaredError(RegLoss::default()), Link::Identity, 21),
        grown(Objective::Softprob(Multiclass::new(3).unwrap()), Link::Softmax, 9),
    ]
}

fn exact(model: &TreesModel) -> CompactTreesModel {
    CompactTreesModel::exact(&model.ensemble(), model.link(), model.layout()).unwrap()
}

fn scores(model: &dyn Model, inputs: &Inputs) -> Vec<f64> {
    let mut out = Vec::new();
    model.predict(inputs, &mut out).unwrap();
    out
}

/// The scores by the library that grew the trees.
fn of_hessboost(model: &TreesModel, inputs: &Inputs) -> Vec<f64> {
    let sums = model.booster().predict_margin_rows(&inputs.dense, ..).unwrap();
    let mut scores: Vec<f64> = sums.as_slice().iter().map(|sum| f64::from(*sum)).collect();
    scores.chunks_exact_mut(model.outputs()).for_each(|row| model.link().apply_row(row));
    scores
}

fn bits(scores: &[f64]) -> Vec<u64> {
    scores.iter().map(|score| score.to_bits()).collect()
}

#[test]
fn the_exact_form_gives_the_very_bits_in_fewer_bytes() {
    for model in models() {
        let compact = exact(&model);
        assert_eq!(bits(&scores(&compact, &rows(3500))), bits(&of_hessboost(&model, &rows(3500))));
        let (small, large) = (compact.to_bytes().len(), model.to_bytes().len());
        // Half where splits compare numbers; sets of many hundred categories are what they are.
        assert!(small < large, "{small} of {large} bytes");
        assert!(model.booster().trees().iter().any(|tree| tree.has_categorical_splits()));
    }
}

#[test]
fn the_same_bits_in_any_batch() {
    for model in models() {
        let (compact, inputs) = (exact(&model), rows(300));
        let whole = bits(&scores(&compact, &inputs));
        for size in [1, 3, 15, 16, 17, 63, 64, 65] {
            let mut parts = Vec::new();
            for from in (0..inputs.rows).step_by(size) {
                parts.extend(scores(&compact, &part(&inputs, from, (from + size).min(inputs.rows))));
            }
            assert_eq!(bits(&parts), whole, "batches of {size}");
        }
    }
}

#[test]
fn odd_values_go_where_they_went() {
    for model in models() {
        let compact = exact(&model);
        let odd = [f32::NAN, f32::MAX, f32::MIN, 0.0, -0.0, 31.0, 32.0, 899.0, 900.0, 65_536.0, 2e9];
        let mut dense = Vec::new();
        for number in odd {
            for category in odd.iter().filter(|code| code.is_nan() || (**code >= 0.0 && **code < 1e9)) {
                dense.extend([number, -number, *category, number, *category]);
            }
        }
        let inputs = Inputs { rows: dense.len() / COLUMNS, dense_width: COLUMNS, dense, ..Inputs::default() };
        assert_eq!(bits(&scores(&compact, &inputs)), bits(&of_hessboost(&model, &inputs)));
    }
}

#[test]
fn bytes_come_back() {
    for model in models() {
        let (quantized, _) =
            CompactTreesModel::quantized(&model.ensemble(), model.link(), model.layout(), Quantization::default())
                .unwrap();
        for compact in [exact(&model), quantized] {
            let loaded = load_model("compact_trees", &compact.to_bytes(), model.layout()).unwrap();
            assert_eq!(loaded.to_bytes(), compact.to_bytes());
            assert_eq!(loaded.outputs(), model.outputs());
            assert_eq!(scores(loaded.as_ref(), &rows(200)), scores(&compact, &rows(200)));
            // Written again, the trees have the same bytes.
            let again = CompactTreesModel::exact(&compact.ensemble().unwrap(), model.link(), model.layout()).unwrap();
            assert_eq!(scores(&again, &rows(200)), scores(&compact, &rows(200)));
        }
    }
}

#[test]
fn rounding_costs_little_and_says_what_it_did() {
    for model in models() {
        let (ensemble, inputs) = (model.ensemble(), rows(1000));
        let before = scores(&model, &inputs);
        let mut sizes = vec![exact(&model).to_bytes().len()];
        for (leaves, tolerance) in [(LeafBits::Sixteen, 1e-3), (LeafBits::Eight, 0.05)] {
            let how = Quantization { leaves, ..Quantization::default() };
            let (compact, report) = CompactTreesModel::quantized(&ensemble, model.link(), model.layout(), how).unwrap();
            assert_eq!(report.moved, 0, "no column has more than 256 thresholds");
            assert!(report.leaf_error > 0.0 && report.leaf_error < 0.01, "{report:?}");
            let far = scores(&compact, &inputs).iter().zip(&before).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(far < tolerance, "{far} at {leaves:?}");
            sizes.push(compact.to_bytes().len());
        }
        let how = Quantization { thresholds: 8, ..Quantization::default() };
        let (coarse, report) = CompactTreesModel::quantized(&ensemble, model.link(), model.layout(), how).unwrap();
        assert!(report.moved > 0 && report.moved < report.splits);
        let apart = scores(&coarse, &inputs).iter().zip(&before).map(|(a, b)| (a - b).abs()).sum::<f64>();
        assert!(apart / (before.len() as f64) < 0.1, "{apart}");
        assert!(sizes.is_sorted_by(|a, b| a > b), "{sizes:?}");
    }
}

#[test]
fn reasons_add_up_to_the_compact_sum() {
    for model in models() {
        let (compact, inputs) = (exact(&model), rows(40));
        let (ours, theirs) = (compact.contributions(&inputs).unwrap(), model.contributions(&inputs).unwrap());
        let mut sums = Vec::new();
        compact.sums(&inputs, &mut sums).unwrap();
        for (at, sum) in sums.iter().enumerate() {
            let whole = ours.base[at] + ours.parts[at * COLUMNS..(at + 1) * COLUMNS].iter().sum::<f64>();
            assert!((whole - sum).abs() <= 1e-12 * sum.abs().max(1.0));
        }
        let far = ours.parts.iter().zip(&theirs.parts).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(far < 0.05, "shares in 1/256 move the parts by {far}");
    }
}

#[test]
fn what_does_not_fit_is_refused_in_words() {
    let model = exact(&models()[0]);
    let narrow = Layout { dense: layout().dense[..2].to_vec(), ..Layout::default() };
    let error =
        |bytes: &[u8], layout: &Layout| load_model("compact_trees", bytes, layout).map(|_| ()).unwrap_err().to_string();
    assert!(error(&model.to_bytes(), &narrow).contains("the layout has 2 and 0 slots"));
    assert!(error(b"short", &layout()).contains("they end too soon"));
    let deep = Tree { output: 0, nodes: vec![Node::Leaf(0.0); 70_000] };
    let ensemble = Ensemble { base: vec![0.0], trees: vec![deep] };
    assert!(Forest::new(&ensemble).map(|_| ()).unwrap_err().contains("65535 fit"));
    let infinite = Inputs { rows: 1, dense_width: 5, dense: vec![f32::INFINITY; 5], ..Inputs::default() };
    assert!(model.predict(&infinite, &mut Vec::new()).is_err());
}

#[test]
fn a_lone_leaf_and_no_tree_at_all_have_answers() {
    for trees in [vec![], vec![Tree { output: 0, nodes: vec![Node::Leaf(1.5)] }]] {
        let ensemble = Ensemble { base: vec![0.25], trees };
        let compact = CompactTreesModel::exact(&ensemble, Link::Identity, &layout()).unwrap();
        let expected = f64::from(ensemble.sums(&[0.0; COLUMNS])[0]);
        assert_eq!(scores(&compact, &rows(20)), [expected; 20]);
    }
}

/// A tree of any shape over the five columns.
fn any_tree(outputs: usize) -> impl Strategy<Value = Tree> {
    let leaf = (-100.0f32..100.0).prop_map(|value| vec![Node::Leaf(value)]);
    let test = prop_oneof![
        prop_oneof![-20.0f32..20.0, (0i32..300).prop_map(|whole| whole as f32)].prop_map(Test::Below),
        proptest::collection::btree_set(0u32..40, 1..6).prop_map(|set| Test::Member(set.into_iter().collect())),
        proptest::collection::btree_set(0u32..100_000, 1..6).prop_map(|set| Test::Member(set.into_iter().collect())),
    ];
    let nodes = leaf.prop_recursive(9, 64, 2, move |inner| {
        (0u32..5, test.clone(), any::<bool>(), 1u32..256, inner.clone(), inner).prop_map(
            |(feature, test, missing_left, share, left, right)| {
                let shifted = |nodes: Vec<Node>, by: u32| {
                    nodes.into_iter().map(move |node| match node {
                        Node::Split(split) => Node::Split(Split { right: split.right + by, ..split }),
                        leaf => leaf,
                    })
                };
                let at = left.len() as u32 + 1;
                let left_share = share as f32 / 256.0;
                let root = Node::Split(Split { feature, test, missing_left, right: at, left_share });
                std::iter::once(root).chain(shifted(left, 1)).chain(shifted(right, at)).collect()
            },
        )
    });
    (0..outputs, nodes).prop_map(|(output, nodes)| Tree { output, nodes })
}

fn any_ensemble() -> impl Strategy<Value = Ensemble> {
    (1usize..4).prop_flat_map(|outputs| {
        let base = proptest::collection::vec(-5.0f32..5.0, outputs);
        (base, proptest::collection::vec(any_tree(outputs), 0..40)).prop_map(|(base, trees)| Ensemble { base, trees })
    })
}

fn any_row() -> impl Strategy<Value = Vec<f32>> {
    let value = prop_oneof![
        Just(f32::NAN),
        -25.0f32..25.0,
        (0u32..320).prop_map(|whole| whole as f32),
        (0u32..120_000).prop_map(|code| code as f32),
    ];
    proptest::collection::vec(value, COLUMNS)
}

fn link(outputs: usize) -> Link {
    if outputs == 1 { Link::Identity } else { Link::Softmax }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_trees_survive_the_way_to_disk_and_give_the_same_sums(
        ensemble in any_ensemble(),
        rows in proptest::collection::vec(any_row(), 1..40),
    ) {
        let compact = CompactTreesModel::exact(&ensemble, link(ensemble.outputs()), &layout()).unwrap();
        prop_assert_eq!(&compact.ensemble().unwrap(), &ensemble);
        let inputs = Inputs { rows: rows.len(), dense_width: COLUMNS, dense: rows.concat(), ..Inputs::default() };
        let mut sums = Vec::new();
        compact.sums(&inputs, &mut sums).unwrap();
        for (row, sums) in rows.iter().zip(sums.chunks(ensemble.outputs())) {
            let plain: Vec<f64> = ensemble.sums(row).iter().map(|sum| f64::from(*sum)).collect();
            prop_assert_eq!(&plain[..], sums);
        }
    }

    #[test]
    fn damage_is_refused(ensemble in any_ensemble(), at in any::<prop::sample::Index>(), bit in 0u32..8) {
        let mut bytes = code::encode(&ensemble, link(ensemble.outputs()), Leaves::Single).unwrap();
        let place = at.index(bytes.len());
        bytes[place] ^= 1 << bit;
        prop_assert!(CompactTreesModel::from_bytes(&bytes, &layout()).is_err());
        bytes.truncate(place);
        prop_assert!(CompactTreesModel::from_bytes(&bytes, &layout()).is_err());
    }

    /// Even where the checksum agrees, nothing that is read can make the walk leave its tables.
    #[test]
    fn forged_bytes_are_refused_or_walked(
        ensemble in any_ensemble(),
        flips in proptest::collection::vec((any::<prop::sample::Index>(), 0u32..8), 1..4),
        row in any_row(),
    ) {
        let bytes = code::encode(&ensemble, link(ensemble.outputs()), Leaves::Fixed(8)).unwrap();
        let mut body = bytes[..bytes.len() - 8].to_vec();
        for (at, bit) in flips {
            let place = 8 + at.index(body.len() - 8);
            body[place] ^= 1 << bit;
        }
        let checksum = code::checksum(&body);
        body.extend(checksum);
        if let Ok(model) = CompactTreesModel::from_bytes(&body, &layout()) {
            let inputs = Inputs { rows: 1, dense_width: COLUMNS, dense: row, ..Inputs::default() };
            prop_assert_eq!(scores(&model, &inputs).len(), model.outputs());
        }
    }
}
