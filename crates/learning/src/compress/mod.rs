//! Smaller models from trained ones, measured on rows that they did not learn from.

mod trees;

pub use trees::{PrunedTrees, Pruning, Rows, prune_trees};
