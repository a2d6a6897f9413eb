//! Worlds of input rows: features with seasons of their own, segments, traffic that comes and goes, and one change.
//! Everything is a function of a seed.

mod change;
mod kinds;
pub mod trials;
mod world;

pub use change::Change;
pub use kinds::{Kind, UNSEEN};
pub use world::{Live, World, WorldOptions};
