//! From rows with outcomes to a version: split, fit, calibrate, evaluate, put into a bundle. Knows neither HTTP nor the
//! catalog, reads no clock, and gives the same bytes for the same data, declaration and seed on any number of threads.

mod calibrate;
mod checkpoint;
pub mod compress;
mod data;
mod direct;
mod error;
#[cfg(test)]
mod exported;
mod fit;
mod keyed;
mod linear;
mod metrics;
mod network;
mod paired;
pub mod select;
mod split;
mod start;
mod stream;
mod taught;
#[cfg(test)]
mod testing;
mod train;
mod trees;
pub mod tune;

pub use calibrate::choose as choose_calibration;
pub use checkpoint::{Checkpoints, Folder};
pub use data::digest as data_digest;
pub use direct::{DirectFit, fit_inputs};
pub use error::LearnError;
pub use fit::{Phase, Progress, class_loss, log_loss};
pub use metrics::{ECE_BINS, evaluate};
pub use paired::{Difference, paired};
pub use split::{Split, split};
pub use start::Start;
pub use stream::{Batches, ContinueRequest, Limits, RowSource, StreamRequest, continue_linear, train_streaming};
pub use train::{HeldOut, Measured, Teacher, TrainRequest, Trained, train};
pub use trees::{Continuation, continue_trees};
