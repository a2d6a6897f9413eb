//! From trees as files describe them to the flat arrays that are walked. Checks here what the walk relies on: each node
//! is reached once, so that a walk ends.

use super::slots::{Prepare, Slots};
use super::{Forest, Kind, Leaves, NODES_MAX, Node, Real};

/// A set's number is kept as a threshold, and single precision counts to 2^24.
const SETS_MAX: usize = 1 << 24;

/// Sets of categories may take this many words of 32 bits.
const SET_WORDS_MAX: usize = 1 << 26;

/// What a node asks of one feature.
#[derive(Clone, Debug, PartialEq)]
pub enum Test<F> {
    /// `x <= threshold`.
    AtMost(F),
    /// `x < threshold`.
    Below(F),
    /// `x == value`.
    Equal(F),
    /// Whether the bit of the category is set.
    Member(Vec<u32>),
}

/// How a feature's numbers become categories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Codes {
    /// Towards zero first, then below zero is no category: -0.5 is category 0 (LightGBM).
    Truncated,
    /// Below zero is no category, then towards zero: -0.5 is none (XGBoost).
    NonNegative,
}

/// What counts as missing, for a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Missing {
    Nan,
    /// NaN, and what is within [`ZERO_THRESHOLD`](super::ZERO_THRESHOLD) of zero.
    NanOrZero,
}

/// One node of a tree, its children named by their places in the tree's list.
#[derive(Clone, Debug, PartialEq)]
pub enum Described<F, S> {
    Branch {
        feature: usize,
        test: Test<F>,
        missing: Missing,
        /// Whether what is missing goes where what passes the test goes.
        missing_passes: bool,
        passes: usize,
        fails: usize,
    },
    /// Adds to the tree's output.
    Leaf(S),
    /// Adds to several outputs.
    LeafOf(Vec<(u32, S)>),
}

#[derive(Debug, thiserror::Error, PartialEq)]
pub enum BuildError {
    #[error("tree {tree} has no nodes")]
    Empty { tree: usize },
    #[error("node {node} of tree {tree} names node {child}, of which there are {nodes}")]
    Child { tree: usize, node: usize, child: usize, nodes: usize },
    #[error("node {node} of tree {tree} is reached twice: the tree has a cycle or a shared branch")]
    Twice { tree: usize, node: usize },
    #[error("node {node} of tree {tree} reads feature {feature}, of which there are {features}")]
    Feature { tree: usize, node: usize, feature: usize, features: usize },
    #[error("tree {tree} adds to output {output}, of which there are {outputs}")]
    Output { tree: usize, output: usize, outputs: usize },
    #[error("the trees have more than {NODES_MAX} nodes, or more sets of categories than fit in 256 MB")]
    Size,
}

/// Collects trees.
pub struct Builder<F, S> {
    features: usize,
    outputs: usize,
    codes: Codes,
    slots: Slots<F>,
    nodes: Vec<Node<F>>,
    values: Vec<S>,
    vectors: Vec<(u32, Vec<(u32, S)>)>,
    roots: Vec<u32>,
    tree_outputs: Vec<u32>,
    plain: Vec<bool>,
    set_starts: Vec<u32>,
    set_words: Vec<u32>,
}

impl<F: Real, S: Real> Builder<F, S> {
    pub fn new(features: usize, outputs: usize, codes: Codes) -> Self {
        Builder {
            features,
            outputs,
            codes,
            slots: Slots::new(features),
            nodes: Vec::new(),
            values: Vec::new(),
            vectors: Vec::new(),
            roots: Vec::new(),
            tree_outputs: Vec::new(),
            plain: Vec::new(),
            set_starts: vec![0],
            set_words: Vec::new(),
        }
    }

    /// Adds a tree whose root is node `root`; its plain leaves add to `output`. Nodes that the root does not reach are
    /// left out. Brothers come to lie side by side, level by level.
    pub fn tree(&mut self, output: usize, root: usize, described: &[Described<F, S>]) -> Result<(), BuildError> {
        let tree = self.roots.len();
        if output >= self.outputs {
            return Err(BuildError::Output { tree, output, outputs: self.outputs });
        }
        if described.get(root).is_none() {
            return Err(BuildError::Empty { tree });
        }
        let base = self.nodes.len();
        let mut reached = vec![false; described.len()];
        reached[root] = true;
        let mut order = vec![root];
        let mut at = 0;
        self.plain.push(true);
        while let Some(&place) = order.get(at) {
            let here = base + at;
            match &described[place] {
                Described::Leaf(value) => self.leaf(here, *value),
                Described::LeafOf(values) => {
                    self.check_outputs(tree, values)?;
                    self.vectors.push((here as u32, values.clone()));
                    self.leaf(here, S::ZERO);
                }
                Described::Branch { feature, test, missing, missing_passes, passes, fails } => {
                    if *feature >= self.features {
                        let (feature, features) = (*feature, self.features);
                        return Err(BuildError::Feature { tree, node: place, feature, features });
                    }
                    let (node, swapped) = self.branch(*feature, test, *missing, *missing_passes, base + order.len());
                    let children = if swapped { [*fails, *passes] } else { [*passes, *fails] };
                    for child in children {
                        match reached.get_mut(child) {
                            None => {
                                return Err(BuildError::Child { tree, node: place, child, nodes: described.len() });
                            }
                            Some(true) => return Err(BuildError::Twice { tree, node: child }),
                            Some(seen) => *seen = true,
                        }
                        order.push(child);
                    }
                    self.nodes.push(node);
                    self.values.push(S::ZERO);
                }
            }
            at += 1;
        }
        let sets = self.set_starts.len() > SETS_MAX || self.set_words.len() > SET_WORDS_MAX;
        if self.nodes.len() > NODES_MAX || sets {
            return Err(BuildError::Size);
        }
        self.roots.push(base as u32);
        self.tree_outputs.push(output as u32);
        Ok(())
    }

    fn check_outputs(&self, tree: usize, values: &[(u32, S)]) -> Result<(), BuildError> {
        match values.iter().find(|(output, _)| *output as usize >= self.outputs) {
            Some((output, _)) => Err(BuildError::Output { tree, output: *output as usize, outputs: self.outputs }),
            None => Ok(()),
        }
    }

    /// A leaf leads to itself: slot 0 always holds 0, which is at most infinity.
    fn leaf(&mut self, here: usize, value: S) {
        self.nodes.push(Node { threshold: F::INFINITY, slot: 0, child: here as u32 });
        self.values.push(value);
    }

    /// The node, and whether what passes goes to the second child.
    fn branch(
        &mut self,
        feature: usize,
        test: &Test<F>,
        missing: Missing,
        missing_passes: bool,
        child: usize,
    ) -> (Node<F>, bool) {
        let (kind, threshold, prepare, swapped) = match test {
            Test::AtMost(t) => self.at_most(*t, missing, missing_passes),
            // Nothing is below minus infinity, nor below what is no number.
            Test::Below(t) if *t == -F::INFINITY => self.at_most(F::NAN, missing, missing_passes),
            Test::Below(t) => self.at_most(t.next_down(), missing, missing_passes),
            Test::Equal(value) => {
                let kind = if missing_passes { Kind::EqualOrNan } else { Kind::Equal };
                (kind, *value, Prepare::Raw(missing), false)
            }
            Test::Member(bits) => {
                let set = F::from_f64((self.set_starts.len() - 1) as f64);
                self.set_words.extend(bits);
                self.set_starts.push(self.set_words.len() as u32);
                (Kind::Member, set, Prepare::Category(self.codes, missing_passes), false)
            }
        };
        self.slots.note(feature, test);
        if kind != Kind::AtMost
            && let Some(plain) = self.plain.last_mut()
        {
            *plain = false;
        }
        let slot = self.slots.slot(feature, prepare) as u32 | (kind as u32) << Kind::SHIFT;
        (Node { threshold, slot, child: child as u32 }, swapped)
    }

    /// Most nodes: what is missing was replaced by an end of the number line before the walk.
    fn at_most(&self, threshold: F, missing: Missing, missing_passes: bool) -> (Kind, F, Prepare, bool) {
        if threshold == F::INFINITY && !missing_passes {
            // All but what is missing passes, which no end of the line can tell.
            return (Kind::EqualOrNan, F::NAN, Prepare::Raw(missing), true);
        }
        if threshold.is_nan() && missing_passes {
            return (Kind::EqualOrNan, F::NAN, Prepare::Raw(missing), false);
        }
        (Kind::AtMost, threshold, Prepare::Number(missing, missing_passes), false)
    }

    pub fn build(mut self) -> Forest<F, S> {
        let leaves = if self.vectors.is_empty() { Leaves::Single } else { self.vectors_of_leaves() };
        Forest {
            outputs: self.outputs,
            nodes: self.nodes.into_boxed_slice(),
            values: self.values.into_boxed_slice(),
            leaves,
            roots: self.roots.into_boxed_slice(),
            tree_outputs: self.tree_outputs.into_boxed_slice(),
            plain: self.plain.into_boxed_slice(),
            set_starts: self.set_starts.into_boxed_slice(),
            set_words: self.set_words.into_boxed_slice(),
            slots: self.slots.finish(),
        }
    }

    /// Once one leaf has several outputs, all leaves are written that way.
    fn vectors_of_leaves(&mut self) -> Leaves<S> {
        let mut several = std::mem::take(&mut self.vectors).into_iter().peekable();
        let (mut starts, mut entries) = (vec![0u32], Vec::new());
        let mut tree = 0;
        for (place, node) in self.nodes.iter().enumerate() {
            while self.roots.get(tree + 1).is_some_and(|root| *root as usize <= place) {
                tree += 1;
            }
            if several.peek().is_some_and(|(at, _)| *at as usize == place) {
                entries.extend(several.next().into_iter().flat_map(|(_, values)| values));
            } else if node.child as usize == place {
                entries.push((self.tree_outputs[tree], self.values[place]));
            }
            starts.push(entries.len() as u32);
        }
        Leaves::Several { starts: starts.into_boxed_slice(), entries: entries.into_boxed_slice() }
    }
}
