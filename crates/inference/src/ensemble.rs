//! Tree ensembles as plain data: what explaining and compressing read, whoever grew the trees.

use hessboost::model::BoostedModel;
use hessboost::tree::RegTree;

/// Trees whose leaves add up, for each output, to a base.
#[derive(Clone, Debug, PartialEq)]
pub struct Ensemble {
    /// What each output's sum begins with.
    pub base: Vec<f32>,
    /// In the order in which their leaves are added.
    pub trees: Vec<Tree>,
}

/// Nodes in preorder: the root first, and after each split all of its left branch.
#[derive(Clone, Debug, PartialEq)]
pub struct Tree {
    /// The output that its leaves add to.
    pub output: usize,
    pub nodes: Vec<Node>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    Leaf(f32),
    Split(Split),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    pub feature: u32,
    /// What passes goes left, to the next node.
    pub test: Test,
    /// Where a missing value goes.
    pub missing_left: bool,
    /// Place of the right branch.
    pub right: u32,
    /// Share of the rows (by the weight they had in learning) that went left.
    pub left_share: f32,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// `x < threshold`.
    Below(f32),
    /// The category is one of these, ascending.
    Member(Vec<u32>),
}

impl Split {
    /// Whether a value (NaN: missing) goes left.
    pub fn goes_left(&self, value: f32) -> bool {
        match &self.test {
            _ if value.is_nan() => self.missing_left,
            Test::Below(threshold) => value < *threshold,
            Test::Member(categories) => categories.binary_search(&(value as u32)).is_ok(),
        }
    }
}

impl Tree {
    /// The leaf that a row comes to.
    pub fn leaf(&self, row: &[f32]) -> usize {
        let mut at = 0;
        while let Node::Split(split) = &self.nodes[at] {
            at = if split.goes_left(row[split.feature as usize]) { at + 1 } else { split.right as usize };
        }
        at
    }

    /// What the leaf adds; 0 for a split.
    pub fn value(&self, node: usize) -> f32 {
        match self.nodes[node] {
            Node::Leaf(value) => value,
            Node::Split(_) => 0.0,
        }
    }
}

impl Ensemble {
    pub fn outputs(&self) -> usize {
        self.base.len()
    }

    /// One more than the largest place of a column that any split reads.
    pub fn width(&self) -> usize {
        let splits = self.trees.iter().flat_map(|tree| &tree.nodes);
        let features = splits.map(|node| if let Node::Split(split) = node { split.feature as usize + 1 } else { 0 });
        features.max().unwrap_or(0)
    }

    /// The trees of a booster; the weights of trees are multiplied into their leaves.
    pub fn of(booster: &BoostedModel) -> Ensemble {
        let trees = booster.trees().iter().zip(booster.tree_outputs()).zip(booster.tree_weights());
        let trees = trees.map(|((tree, outputs), weight)| {
            let mut nodes = Vec::with_capacity(tree.num_nodes());
            lay_out(tree, weight, &mut nodes);
            Tree { output: outputs.start, nodes }
        });
        Ensemble { base: booster.base_scores().to_vec(), trees: trees.collect() }
    }

    /// The sums of one row before the link, in the order and precision in which boosters add.
    pub fn sums(&self, row: &[f32]) -> Vec<f32> {
        let mut sums = self.base.clone();
        for tree in &self.trees {
            sums[tree.output] += tree.value(tree.leaf(row));
        }
        sums
    }
}

/// Writes the tree in preorder, without recursion: a tree may be as deep as it has leaves.
fn lay_out(tree: &RegTree, weight: f32, nodes: &mut Vec<Node>) {
    // Nodes to write, and the split whose right branch begins there.
    let mut waiting: Vec<(usize, Option<usize>)> = vec![(0, None)];
    while let Some((id, parent)) = waiting.pop() {
        let here = nodes.len();
        if let Some(Node::Split(split)) = parent.and_then(|parent| nodes.get_mut(parent)) {
            split.right = here as u32;
        }
        let node = tree.node(id);
        if node.is_leaf() {
            nodes.push(Node::Leaf(weight * node.leaf_value));
            continue;
        }
        let (left, right) = (node.left as usize, node.right as usize);
        let (went_left, went_right) = (f64::from(tree.node(left).sum_hess), f64::from(tree.node(right).sum_hess));
        let share = went_left / (went_left + went_right);
        let test = if node.is_categorical {
            let mut categories = tree.split_categories(id).to_vec();
            categories.sort_unstable();
            Test::Member(categories)
        } else {
            Test::Below(node.split_cond)
        };
        nodes.push(Node::Split(Split {
            feature: node.split_feature,
            test,
            missing_left: node.default_left,
            right: 0,
            left_share: if share.is_finite() { share as f32 } else { 0.5 },
        }));
        waiting.push((right, Some(here)));
        waiting.push((left, None));
    }
}
