//! Sums of trees, by `TreeEnsembleRegressor`. It adds single-precision leaves in the order of the trees, as ours do (on
//! one thread): the base is a tree of one leaf that comes first, so that the sums are rounded as ours are.
//!
//! A split by a set of categories becomes a column that is 0 for its members and 1 for others, looked up by the code:
//! chains of `BRANCH_EQ` would need a branch that several nodes share, and one for each category.

use super::graph::{Graph, floats, int, ints, text, texts};
use super::{Blocks, ExportError, Sums};
use crate::ensemble::{Ensemble, Node, Test};
use crate::import::onnx::proto::ElementType;
use crate::model::Link;
use std::collections::BTreeMap;

/// Numbers that the columns of members may take in all.
const MEMBERS_MAX: usize = 1 << 26;

pub(super) fn sums(
    graph: &mut Graph,
    ensemble: &Ensemble,
    link: Link,
    width: usize,
    blocks: &Blocks,
) -> Result<Sums, ExportError> {
    let dense = blocks.dense.clone().ok_or(ExportError::NoInputs)?;
    let sets = Sets::of(ensemble);
    let mut parts = vec![dense.clone()];
    let mut places = BTreeMap::new();
    let mut at = width;
    for (feature, sets) in &sets.by_feature {
        parts.push(members(graph, &dense, *feature, sets)?);
        for set in sets {
            places.insert((*feature, *set), at);
            at += 1;
        }
    }
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let input = graph.beside(&parts);
    let lists = Lists::of(ensemble, &places);
    let sums = graph.classical("TreeEnsembleRegressor", &input, lists.attributes(ensemble.outputs()));
    let name = graph.cast(&sums, ElementType::Double);
    Ok(Sums { name, link, outputs: ensemble.outputs() })
}

/// The sets that each column's splits ask for, each once.
struct Sets<'a> {
    by_feature: BTreeMap<u32, Vec<&'a [u32]>>,
}

impl<'a> Sets<'a> {
    fn of(ensemble: &'a Ensemble) -> Sets<'a> {
        let mut by_feature: BTreeMap<u32, Vec<&[u32]>> = BTreeMap::new();
        for node in ensemble.trees.iter().flat_map(|tree| &tree.nodes) {
            if let Node::Split(split) = node
                && let Test::Member(categories) = &split.test
            {
                by_feature.entry(split.feature).or_default().push(categories);
            }
        }
        for sets in by_feature.values_mut() {
            sets.sort_unstable();
            sets.dedup();
        }
        Sets { by_feature }
    }
}

/// A column for each set: 0 for its members, 1 for others, NaN where the code is missing.
fn members(graph: &mut Graph, dense: &str, feature: u32, sets: &[&[u32]]) -> Result<String, ExportError> {
    let codes = sets.iter().filter_map(|set| set.last()).max().map_or(0, |last| *last as usize + 1);
    let rows = codes + 2;
    if rows.saturating_mul(sets.len()) > MEMBERS_MAX {
        return Err(ExportError::Categories { codes, sets: sets.len() });
    }
    let mut table = vec![1.0; rows * sets.len()];
    for (at, set) in sets.iter().enumerate() {
        set.iter().for_each(|code| table[*code as usize * sets.len() + at] = 0.0);
    }
    table[(codes + 1) * sets.len()..].fill(f32::NAN);
    let code = graph.column(dense, feature as usize);
    // As in learning: towards zero, and below zero is 0.
    let (zero, beyond, missing) = (graph.float(0.0), graph.float(codes as f32), graph.float((codes + 1) as f32));
    let below = graph.node("Less", &[&code, &zero]);
    let raised = graph.node("Where", &[&below, &zero, &code]);
    let above = graph.node("Greater", &[&raised, &beyond]);
    let within = graph.node("Where", &[&above, &beyond, &raised]);
    let none = graph.node("IsNaN", &[&code]);
    let place = graph.node("Where", &[&none, &missing, &within]);
    let place = graph.cast(&place, ElementType::Int64);
    let table = graph.floats(&[rows, sets.len()], &table);
    Ok(graph.gather(&table, &place))
}

/// The operator's lists.
#[derive(Default)]
struct Lists {
    trees: Vec<i64>,
    nodes: Vec<i64>,
    features: Vec<i64>,
    modes: Vec<Vec<u8>>,
    thresholds: Vec<f32>,
    yes: Vec<i64>,
    no: Vec<i64>,
    missing: Vec<i64>,
    leaf_trees: Vec<i64>,
    leaf_nodes: Vec<i64>,
    leaf_outputs: Vec<i64>,
    leaves: Vec<f32>,
}

impl Lists {
    fn of(ensemble: &Ensemble, places: &BTreeMap<(u32, &[u32]), usize>) -> Lists {
        let mut lists = Lists::default();
        lists.branch([0; 5], 0.0, b"LEAF");
        (0..).zip(&ensemble.base).for_each(|(output, base)| lists.leaf([0, 0, output], *base));
        for (id, tree) in (1..).zip(&ensemble.trees) {
            for (at, node) in (0..).zip(&tree.nodes) {
                let Node::Split(split) = node else {
                    lists.branch([id, at, 0, 0, 0], 0.0, b"LEAF");
                    lists.leaf([id, at, tree.output as i64], tree.value(at as usize));
                    continue;
                };
                let (feature, threshold) = match &split.test {
                    Test::Below(threshold) => (split.feature as usize, *threshold),
                    Test::Member(categories) => (places[&(split.feature, categories.as_slice())], 0.5),
                };
                lists.branch([id, at, feature as i64, at + 1, i64::from(split.right)], threshold, b"BRANCH_LT");
                if let Some(missing) = lists.missing.last_mut() {
                    *missing = i64::from(split.missing_left);
                }
            }
        }
        lists
    }

    fn branch(&mut self, [tree, node, feature, yes, no]: [i64; 5], threshold: f32, mode: &[u8]) {
        self.trees.push(tree);
        self.nodes.push(node);
        self.features.push(feature);
        self.modes.push(mode.to_vec());
        self.thresholds.push(threshold);
        self.yes.push(yes);
        self.no.push(no);
        self.missing.push(0);
    }

    fn leaf(&mut self, [tree, node, output]: [i64; 3], value: f32) {
        self.leaf_trees.push(tree);
        self.leaf_nodes.push(node);
        self.leaf_outputs.push(output);
        self.leaves.push(value);
    }

    fn attributes(self, outputs: usize) -> Vec<crate::import::onnx::proto::AttributeProto> {
        vec![
            int("n_targets", outputs as i64),
            text("aggregate_function", "SUM"),
            text("post_transform", "NONE"),
            ints("nodes_treeids", self.trees),
            ints("nodes_nodeids", self.nodes),
            ints("nodes_featureids", self.features),
            texts("nodes_modes", self.modes),
            floats("nodes_values", self.thresholds),
            ints("nodes_truenodeids", self.yes),
            ints("nodes_falsenodeids", self.no),
            ints("nodes_missing_value_tracks_true", self.missing),
            ints("target_treeids", self.leaf_trees),
            ints("target_nodeids", self.leaf_nodes),
            ints("target_ids", self.leaf_outputs),
            floats("target_weights", self.leaves),
        ]
    }
}
