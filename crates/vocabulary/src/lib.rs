//! The nouns of Homeostat: identifiers, the data contract, the model's declaration, records of what happened,
//! findings and plans. Nothing here does input or output, reads a clock or draws a random number.

pub mod answer;
pub mod cause;
pub mod contract;
pub mod dependence;
pub mod elementary;
pub mod finding;
pub mod id;
pub mod incident;
pub mod inputs;
pub mod metric;
pub mod model;
mod network;
pub mod objective;
pub mod plan;
pub mod playbook;
pub mod profile;
pub mod record;
pub mod stream;
pub mod suggest;
pub mod tensors;
pub mod time;
pub mod tuning;
pub mod turns;

pub use answer::Answer;
pub use cause::{Cause, CauseKind};
pub use contract::{Column, ColumnKind, Contract, NullPolicy, Repair};
pub use finding::{Finding, FindingKind, Severity};
pub use id::{Digest, PredictionId, Share, VersionRef};
pub use inputs::Inputs;
pub use metric::{Interval, Metrics};
pub use model::{ModelSpec, Task};
pub use plan::{Plan, Step};
pub use playbook::Playbook;
pub use record::{Outcome, Prediction, Routing};
pub use stream::StreamSpec;
pub use time::{Span, Timestamp};
