//! Rounding an ensemble: fewer thresholds a column, leaves as whole numbers of a scale.

use super::code::{scale_of, whole};
use crate::ensemble::{Ensemble, Node, Test};
use std::collections::BTreeMap;

/// How far to round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantization {
    /// Thresholds of a column at most, 1 to 256. A column that has no more keeps them, and its splits decide as before.
    pub thresholds: usize,
    pub leaves: LeafBits,
}

impl Default for Quantization {
    fn default() -> Self {
        Quantization { thresholds: 256, leaves: LeafBits::Sixteen }
    }
}

/// The width of a leaf; each tree has a scale of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeafBits {
    Sixteen,
    Eight,
}

impl LeafBits {
    fn bits(self) -> u32 {
        match self {
            LeafBits::Sixteen => 16,
            LeafBits::Eight => 8,
        }
    }
}

/// What rounding did.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quantized {
    pub splits: usize,
    /// Splits whose threshold moved, so that some rows may go another way.
    pub moved: usize,
    /// Largest distance of a leaf to what it became.
    pub leaf_error: f32,
}

pub(super) fn rounded(ensemble: &Ensemble, how: Quantization) -> (Ensemble, Quantized) {
    let mut ensemble = ensemble.clone();
    let mut report = Quantized::default();
    let tables = tables(&ensemble, how.thresholds.clamp(1, 256));
    for tree in &mut ensemble.trees {
        let scale = scale_of(tree, how.leaves.bits());
        for node in &mut tree.nodes {
            match node {
                Node::Leaf(value) => {
                    let near = whole(*value, scale, how.leaves.bits()) as f32 * scale;
                    report.leaf_error = report.leaf_error.max((near - *value).abs());
                    *value = near;
                }
                Node::Split(split) => {
                    report.splits += 1;
                    if let Test::Below(threshold) = &mut split.test {
                        let near = nearest(&tables[&split.feature], *threshold);
                        report.moved += usize::from(near != *threshold);
                        *threshold = near;
                    }
                }
            }
        }
    }
    (ensemble, report)
}

/// The thresholds that each column keeps: all of them, or those that split its splits into equal parts.
fn tables(ensemble: &Ensemble, most: usize) -> BTreeMap<u32, Vec<f32>> {
    let mut tables: BTreeMap<u32, Vec<f32>> = BTreeMap::new();
    for node in ensemble.trees.iter().flat_map(|tree| &tree.nodes) {
        if let Node::Split(split) = node
            && let Test::Below(threshold) = split.test
        {
            tables.entry(split.feature).or_default().push(threshold + 0.0);
        }
    }
    for all in tables.values_mut() {
        all.sort_unstable_by(f32::total_cmp);
        let mut distinct = all.clone();
        distinct.dedup();
        if distinct.len() > most {
            let every = |part: usize| all[(2 * part + 1) * all.len() / (2 * most)];
            distinct = (0..most).map(every).collect();
            distinct.dedup();
        }
        *all = distinct;
    }
    tables
}

/// The nearest of an ascending list; the lower of two that are equally near.
fn nearest(table: &[f32], value: f32) -> f32 {
    let place = table.partition_point(|known| *known < value);
    let distance = |known: f32| (f64::from(known) - f64::from(value)).abs();
    let around = [place.checked_sub(1), Some(place)].into_iter().flatten().filter_map(|place| table.get(place));
    around.copied().min_by(|a, b| distance(*a).total_cmp(&distance(*b))).unwrap_or(value)
}
