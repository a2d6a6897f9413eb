//! From rows with outcomes to a version: split, fit, calibrate, evaluate, put into a bundle. Knows neither HTTP nor the
//! catalog, reads no clock, and gives the same bytes for the same data, declaration and seed on any number of threads.

mod calibrate;
mod checkpoint;
mod compress;
mod data;
mod error;
mod fit;
mod keyed;
mod linear;
mod metrics;
mod network;
mod paired;
mod split;
#[cfg(test)]
mod testing;
mod train;
mod trees;

pub use calibrate::choose as choose_calibration;
pub use checkpoint::{Checkpoints, Folder};
pub use compress::{FineTuning, PrunedNetwork, Rows, fine_tune_network, prune_network};
pub use data::digest as data_digest;
pub use error::LearnError;
pub use fit::{Phase, Progress, class_loss, log_loss};
pub use metrics::{ECE_BINS, brier, evaluate, most_probable};
pub use paired::{Difference, paired};
pub use split::{Split, split};
pub use train::{TrainRequest, Trained, train};
