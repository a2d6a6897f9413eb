//! Measured quality of a version.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A confidence interval; both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    pub low: f64,
    pub high: f64,
}

/// Named figures, such as `auc`, `logloss`, `brier`, `ece`, `accuracy`, `rmse`, `mae`, with 95 % intervals where there
/// is a way to compute one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    pub rows: u64,
    pub values: BTreeMap<String, f64>,
    pub intervals: BTreeMap<String, Interval>,
}

impl Metrics {
    pub fn get(&self, name: &str) -> Option<f64> {
        self.values.get(name).copied()
    }
}
