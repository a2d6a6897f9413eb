//! Smaller forms of models: fewer bytes on disk and in the cache for the same answers, or nearly the same.

mod linear;
mod trees;

pub use linear::CompactLinearModel;
pub(crate) use trees::Forest;
pub use trees::{CompactTreesModel, LeafBits, Quantization, Quantized};
