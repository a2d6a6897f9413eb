//! Streams of events at work: a source is read, its events go through the engine of windows, and what comes of it is
//! committed together with the offsets. One thread a stream; network threads only hand in and look up.

mod decode;
mod history;
mod live;
mod lookup;
mod output;
mod run;
mod sources;

pub use decode::Decoder;
pub use history::History;
pub use live::{Doing, Live, kind, outcomes, shown, stored};
pub use lookup::{features, key_of};
pub use run::{Runner, Until, keep_running};

use crate::project::Project;
use std::path::PathBuf;

/// Where a stream's state and tables are.
pub fn folder(project: &Project, stream: &str) -> PathBuf {
    project.state().join("streams").join(stream)
}
