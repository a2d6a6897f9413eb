//! Operations in virtual time: requests, a queue, versions with their losses, outcomes that come late, troubles of all kinds;
//! and the loop's judgement over them, the same that the server uses. Knows nothing of disk, network or clocks.

pub mod release;
pub mod scenario;
pub mod serving;
pub mod shift;

use vocabulary::ModelSpec;

/// A binary model of which nothing is declared that need not be.
///
/// # Panics
/// Never: the declaration is this program's own.
pub fn model() -> ModelSpec {
    let declared = serde_json::json!({ "name": "m", "contract": "c", "task": "binary", "target": "y",
        "data": { "file": "none" } });
    serde_json::from_value(declared).expect("the declaration is complete")
}
