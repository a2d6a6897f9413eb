//! Making versions smaller on purpose: a student learns from a version, what does little is removed, numbers take fewer
//! bits; each result is measured beside the version that it was made from, on rows that neither learned from.

mod measure;
mod network;
mod search;
mod smaller;
mod trees;
mod variant;

pub use measure::{Cost, Measurement};
pub use network::{FineTuning, PrunedNetwork, fine_tune_network, prune_network};
pub use search::{Promises, broken, candidates, judged_by, pareto};
pub use trees::{PrunedTrees, Pruning, Rows, prune_to, prune_trees};
pub use variant::{Ground, Quantize, Steps, Variant};
