//! Exact Shapley values of tree ensembles in double precision. A column that is left out is replaced by the way the rows
//! went that the trees learned from (the path-dependent values of Lundberg et al., "From Local Explanations to Global
//! Understanding with Explainable AI for Trees", Nature Machine Intelligence 2, 2020).
//!
//! For a leaf of value v on whose path the columns 1..n lie, let z be the share of rows that a column's splits alone let
//! through to it, and o be 1 if the row itself passes them, else 0. With the weights of Shapley written as the integral
//! of t^s (1-t)^(n-1-s), the part of column i is
//!
//! v (o_i - z_i) ∫ Π_{j≠i} (z_j + t (o_j - z_j)) dt,
//!
//! a polynomial of degree n - 1, which Gauss's rule integrates exactly with n / 2 points. The products are carried down
//! the tree and their sums up, once for each split, so that a tree costs its size times the points. A column that is
//! split on again further down replaces its factor (as in Yu et al., "Linear TreeShap", NeurIPS 2022).

use super::quadrature::rule;
use crate::ensemble::{Ensemble, Node, Tree};
use crate::model::Contributions;
use vocabulary::inputs::Inputs;

/// A split that let no row through to one side still gets this share of them, so that nothing is divided by zero.
const SHARE_MIN: f64 = 1e-9;

/// An ensemble prepared for explaining rows.
pub(crate) struct Explainer {
    width: usize,
    outputs: usize,
    trees: Vec<Paths>,
    /// Rules of four points, and of as many blocks of eight as a tree needs.
    short: Vec<([f64; 4], [f64; 4])>,
    long: Vec<Vec<([f64; 8], [f64; 8])>>,
}

/// A tree, and for each node the way into it.
struct Paths {
    tree: Tree,
    /// Blocks of eight points, or 0 where four points do.
    blocks: usize,
    ways: Vec<Way>,
}

#[derive(Clone, Copy)]
struct Way {
    parent: u32,
    feature: u32,
    /// The nearest node above it that is entered by the same column; 0 where there is none.
    above: u32,
    /// Share of rows that the column's splits on the way from the root let through to here.
    share: f64,
}

/// What is kept for each node of the tree at hand.
#[derive(Clone, Copy)]
struct Step<const N: usize> {
    /// Whether the row passes all splits of this way's column so far.
    passes: bool,
    product: [f64; N],
    /// One over the column's factor.
    inverse: [f64; N],
    below: [f64; N],
}

impl Explainer {
    /// For rows of `width` columns.
    pub(crate) fn new(ensemble: &Ensemble, width: usize) -> Explainer {
        let trees: Vec<Paths> = ensemble.trees.iter().map(|tree| paths(tree.clone())).collect();
        let blocks = trees.iter().map(|paths| paths.blocks).max().unwrap_or(0);
        Explainer {
            width,
            outputs: ensemble.outputs(),
            trees,
            short: rule(4),
            long: (0..=blocks).map(|blocks| if blocks == 0 { Vec::new() } else { rule(8 * blocks) }).collect(),
        }
    }

    /// The parts of each row and output; the bases make them add up to `sums`.
    pub(crate) fn contributions(&self, inputs: &Inputs, sums: &[f64]) -> Contributions {
        let mut parts = vec![0.0; sums.len() * self.width];
        let mut scratch = Scratch::default();
        for (row, parts) in parts.chunks_exact_mut((self.width * self.outputs).max(1)).enumerate() {
            let values = inputs.dense_row(row);
            for paths in &self.trees {
                let output = paths.tree.output * self.width;
                let parts = &mut parts[output..output + self.width];
                if paths.blocks == 0 {
                    add_parts(paths, values, &self.short, &mut scratch.short, parts);
                } else {
                    add_parts(paths, values, &self.long[paths.blocks], &mut scratch.long, parts);
                }
            }
        }
        let of_parts = parts.chunks_exact(self.width.max(1)).map(|parts| parts.iter().sum::<f64>());
        let base = sums.iter().zip(of_parts).map(|(sum, parts)| sum - parts).collect();
        Contributions { rows: inputs.rows, outputs: self.outputs, width: self.width, base, parts }
    }
}

#[derive(Default)]
struct Scratch {
    short: Vec<Step<4>>,
    long: Vec<Step<8>>,
}

fn paths(tree: Tree) -> Paths {
    let root = Way { parent: 0, feature: 0, above: 0, share: 1.0 };
    let mut ways = vec![root; tree.nodes.len()];
    // Distinct columns on the way to a node.
    let mut distinct = vec![0usize; tree.nodes.len()];
    for (place, node) in tree.nodes.iter().enumerate() {
        let Node::Split(split) = node else { continue };
        let mut above = place as u32;
        while above > 0 && ways[above as usize].feature != split.feature {
            above = ways[above as usize].parent;
        }
        let left_share = f64::from(split.left_share).clamp(SHARE_MIN, 1.0 - SHARE_MIN);
        let before = ways[above as usize].share;
        for (child, share) in [(place + 1, left_share), (split.right as usize, 1.0 - left_share)] {
            let share = (share * if above > 0 { before } else { 1.0 }).max(f64::MIN_POSITIVE);
            ways[child] = Way { parent: place as u32, feature: split.feature, above, share };
            distinct[child] = distinct[place] + usize::from(above == 0);
        }
    }
    let most = distinct.into_iter().max().unwrap_or(0);
    Paths { tree, blocks: if most <= 8 { 0 } else { most.div_ceil(16) }, ways }
}

/// Adds the Shapley values of one row in one tree.
fn add_parts<const N: usize>(
    paths: &Paths,
    row: &[f32],
    rule: &[([f64; N], [f64; N])],
    steps: &mut Vec<Step<N>>,
    parts: &mut [f64],
) {
    let nodes = &paths.tree.nodes;
    for (places, weights) in rule {
        steps.clear();
        steps.resize(nodes.len(), Step { passes: true, product: *weights, inverse: [1.0; N], below: [0.0; N] });
        for (place, node) in nodes.iter().enumerate() {
            match node {
                Node::Leaf(value) => {
                    let step = &mut steps[place];
                    step.below = step.product.map(|product| product * f64::from(*value));
                }
                Node::Split(split) => {
                    let taken = match split.goes_left(row[split.feature as usize]) {
                        true => place + 1,
                        false => split.right as usize,
                    };
                    for child in [place + 1, split.right as usize] {
                        descend(&paths.ways[child], child, child == taken, places, steps);
                    }
                }
            }
        }
        for place in (1..nodes.len()).rev() {
            let way = &paths.ways[place];
            parts[way.feature as usize] += part(way, place, &paths.ways, steps);
            let below = steps[place].below;
            let parent = &mut steps[way.parent as usize].below;
            for q in 0..N {
                parent[q] += below[q];
            }
        }
    }
}

#[inline(always)]
fn descend<const N: usize>(way: &Way, child: usize, taken: bool, places: &[f64; N], steps: &mut [Step<N>]) {
    let above = &steps[way.above as usize];
    let passes = taken && above.passes;
    let reach = f64::from(u8::from(passes)) - way.share;
    let (parent, old) = (&steps[way.parent as usize].product, &above.inverse);
    let (mut product, mut inverse) = ([0.0; N], [0.0; N]);
    for q in 0..N {
        let factor = way.share + places[q] * reach;
        // The root's inverse is 1: a column's first factor replaces none.
        product[q] = parent[q] * factor * old[q];
        inverse[q] = 1.0 / factor;
    }
    steps[child] = Step { passes, product, inverse, below: [0.0; N] };
}

/// What all leaves below a node add to the part of the column it is entered by, less what they add where the column's
/// splits above are counted.
#[inline(always)]
fn part<const N: usize>(way: &Way, place: usize, ways: &[Way], steps: &[Step<N>]) -> f64 {
    let step = &steps[place];
    let reach = |passes: bool, share: f64| f64::from(u8::from(passes)) - share;
    let here = reach(step.passes, way.share);
    let above = &steps[way.above as usize];
    // The root stands for "no split above": its share is 1 and every row passes it, so that its reach is 0.
    let before = reach(above.passes, ways[way.above as usize].share);
    let terms: [f64; N] = std::array::from_fn(|q| step.below[q] * (here * step.inverse[q] - before * above.inverse[q]));
    terms.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ensemble::{Split, Test};

    fn split(feature: u32, test: Test, right: u32, left_share: f32) -> Node {
        Node::Split(Split { feature, test, missing_left: feature == 1, right, left_share })
    }

    /// Column 0 is split on twice on one way; column 2 holds categories.
    fn tree() -> Tree {
        let nodes = vec![
            split(0, Test::Below(4.0), 6, 0.7),
            split(1, Test::Below(2.0), 5, 0.25),
            split(0, Test::Below(1.0), 4, 0.5),
            Node::Leaf(1.0),
            Node::Leaf(-3.0),
            Node::Leaf(0.5),
            split(2, Test::Member(vec![0, 3]), 8, 0.125),
            Node::Leaf(8.0),
            split(1, Test::Below(9.0), 10, 0.9),
            Node::Leaf(-1.0),
            Node::Leaf(2.5),
        ];
        Tree { output: 0, nodes }
    }

    /// The mean answer where only the columns of `known` are known.
    fn mean(tree: &Tree, row: &[f32], known: u32, at: usize) -> f64 {
        match &tree.nodes[at] {
            Node::Leaf(value) => f64::from(*value),
            Node::Split(split) => {
                let (left, right) = (at + 1, split.right as usize);
                if known >> split.feature & 1 == 1 {
                    let taken = if split.goes_left(row[split.feature as usize]) { left } else { right };
                    return mean(tree, row, known, taken);
                }
                let share = f64::from(split.left_share);
                share * mean(tree, row, known, left) + (1.0 - share) * mean(tree, row, known, right)
            }
        }
    }

    /// By the definition: over all sets of the other columns, weighted by the orders in which they come first.
    fn brute_force(tree: &Tree, row: &[f32], column: u32) -> f64 {
        let width = row.len() as u32;
        let factorial = |n: u32| (1..=n).product::<u32>() as f64;
        let others = (0..1u32 << width).filter(|set| set >> column & 1 == 0);
        others
            .map(|set| {
                let size = set.count_ones();
                let weight = factorial(size) * factorial(width - size - 1) / factorial(width);
                weight * (mean(tree, row, set | 1 << column, 0) - mean(tree, row, set, 0))
            })
            .sum()
    }

    #[test]
    fn the_values_are_those_of_the_definition() {
        let ensemble = Ensemble { base: vec![0.25], trees: vec![tree(), tree()] };
        let explainer = Explainer::new(&ensemble, 4);
        let mut seen = 0;
        for a in [0.5, 2.0, 5.0, f32::NAN] {
            for b in [1.0, 3.0, 10.0, f32::NAN] {
                for c in [0.0, 1.0, 3.0, f32::NAN] {
                    let dense = vec![a, b, c, 7.0];
                    let sum = f64::from(ensemble.sums(&dense)[0]);
                    let inputs = Inputs { rows: 1, dense_width: 4, dense, ..Inputs::default() };
                    let reasons = explainer.contributions(&inputs, &[sum]);
                    for column in 0..4 {
                        let exact = 2.0 * brute_force(&tree(), &inputs.dense, column);
                        let part = reasons.parts[column as usize];
                        assert!((part - exact).abs() < 1e-12, "{:?} column {column}: {part}, {exact}", inputs.dense);
                    }
                    let mean = 0.25 + 2.0 * mean(&tree(), &inputs.dense, 0, 0);
                    assert!((reasons.base[0] - mean).abs() < 1e-12);
                    assert_eq!(reasons.parts[3], 0.0);
                    seen += 1;
                }
            }
        }
        assert_eq!(seen, 64);
    }

    #[test]
    fn long_ways_need_more_points() {
        // A chain of 40 columns: each leaf below 1 is worth its depth.
        let depth = 40usize;
        let mut nodes: Vec<Node> = Vec::new();
        for at in 0..depth {
            nodes.push(split(at as u32, Test::Below(0.0), 2 * at as u32 + 2, 0.3));
            nodes.push(Node::Leaf(at as f32));
        }
        nodes.push(Node::Leaf(100.0));
        let ensemble = Ensemble { base: vec![0.0], trees: vec![Tree { output: 0, nodes }] };
        let mean = mean(&ensemble.trees[0], &[], 0, 0);
        let explainer = Explainer::new(&ensemble, depth);
        for falls in [0, 7, 39, 40] {
            let dense: Vec<f32> = (0..depth).map(|at| if at < falls { 1.0 } else { -1.0 }).collect();
            let sum = f64::from(ensemble.sums(&dense)[0]);
            let inputs = Inputs { rows: 1, dense_width: depth, dense, ..Inputs::default() };
            let reasons = explainer.contributions(&inputs, &[sum]);
            assert!(
                (reasons.base[0] - mean).abs() < 1e-10,
                "the parts miss the mean: {} is not {mean}",
                reasons.base[0]
            );
        }
    }
}
