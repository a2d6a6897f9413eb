//! Smaller models from trained ones, measured on rows that they did not learn from.

mod network;

pub use network::{FineTuning, PrunedNetwork, fine_tune_network, prune_network};

use vocabulary::inputs::Inputs;

/// Rows with their outcomes.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// By the pipeline of the version.
    pub inputs: &'a Inputs,
    /// 0 or 1, the quantity, or the place of the class; one a row.
    pub target: &'a [f64],
}
