//! How a model's declaration is tuned: `[tuning]` of `models/NAME.toml`. What is tried lives in `learning::tune`.

use crate::model::{LearnerKind, Task};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything but `trials` is part of a search's identity: a search that goes on with another one is another search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TuningSpec {
    /// Points of the space that are tried at most.
    pub trials: u32,
    /// Rungs at most: a point is measured on a small share of the rows first, and on `eta` times as many at each rung.
    pub rungs: u32,
    /// The best of each `eta` points of a rung goes on to the next.
    pub eta: u32,
    /// Evaluations that are in flight at once in the search's own time. More workers than this are of no use; fewer
    /// make the same decisions later.
    pub lanes: u32,
    /// Points that are spread over the space before losses guide the search.
    pub startup: u32,
    /// Of the search; the training's where it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// What is made small on the validation rows.
    pub metric: TuningMetric,
    /// What is tried for a key, instead of what the learner's own space holds; by the key's path, such as
    /// `"learner.trees.leaves" = { low = 7, high = 255, log = true, integer = true }`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub space: BTreeMap<String, ParameterSpec>,
}

impl Default for TuningSpec {
    fn default() -> Self {
        TuningSpec {
            trials: 60,
            rungs: 3,
            eta: 3,
            lanes: 8,
            startup: 10,
            seed: None,
            metric: TuningMetric::Loss,
            space: BTreeMap::new(),
        }
    }
}

impl TuningSpec {
    pub fn is_default(&self) -> bool {
        *self == TuningSpec::default()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TuningMetric {
    /// Log loss, or root mean squared error, before calibration.
    #[default]
    Loss,
    /// 1 - AUC
    Auc,
    /// Mean squared distance of the probabilities from what happened.
    Brier,
    /// Share of rows that are predicted wrongly.
    Accuracy,
    /// Mean absolute error.
    Mae,
}

impl TuningMetric {
    /// The name among a version's metrics; none for the loss.
    pub fn metric_name(self) -> Option<&'static str> {
        match self {
            TuningMetric::Loss => None,
            TuningMetric::Auc => Some("auc"),
            TuningMetric::Brier => Some("brier"),
            TuningMetric::Accuracy => Some("accuracy"),
            TuningMetric::Mae => Some("mae"),
        }
    }

    pub fn name(self) -> &'static str {
        self.metric_name().unwrap_or("loss")
    }

    fn suits(self, task: Task) -> bool {
        match self {
            TuningMetric::Loss => true,
            TuningMetric::Mae => task == Task::Regression,
            TuningMetric::Auc | TuningMetric::Brier | TuningMetric::Accuracy => task != Task::Regression,
        }
    }
}

/// A range (`low` and `high`, both included) or a list of values.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ParameterSpec {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub high: Option<f64>,
    /// Whether equal ratios count alike, instead of equal differences.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub log: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub integer: bool,
    /// Values without an order; one value fixes the key.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<TuningValue>,
}

/// A value as it would stand in the declaration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TuningValue {
    Bool(bool),
    Integer(i64),
    Real(f64),
    Text(String),
    List(Vec<TuningValue>),
}

/// Keys that change what the pipeline makes; it is fitted once for all trials of a learner.
const PIPELINE_KEYS: [&str; 1] = ["learner.linear.table_bits"];

/// Integers beyond this are not held exactly by a number of TOML or JSON readers.
const INTEGER_MAX: f64 = 9_007_199_254_740_992.0;

impl ParameterSpec {
    /// What is wrong with it, if anything.
    pub fn problem(&self) -> Option<String> {
        let (low, high) = match (self.low, self.high, self.values.as_slice()) {
            (None, None, [_, ..]) if !self.log && !self.integer => return None,
            (Some(low), Some(high), []) => (low, high),
            _ => return Some("needs either low and high, or values".to_owned()),
        };
        if !(low.is_finite() && high.is_finite() && low < high) {
            return Some(format!("low = {low} is not below high = {high}"));
        }
        if self.log && low <= 0.0 {
            return Some(format!("log needs low above zero, not {low}"));
        }
        let whole = |value: f64| value.trunc() == value && value.abs() <= INTEGER_MAX;
        if self.integer && !(whole(low) && whole(high)) {
            return Some(format!("integer needs whole numbers, not {low} and {high}"));
        }
        None
    }
}

impl TuningSpec {
    /// What is wrong with it for a model of this task; every problem found is returned.
    pub fn problems(&self, task: Task) -> Vec<String> {
        let mut found = Vec::new();
        for (name, value, low, high) in [
            ("trials", self.trials, 1, 1_000_000),
            ("rungs", self.rungs, 1, 8),
            ("eta", self.eta, 2, 16),
            ("lanes", self.lanes, 1, 1024),
            ("startup", self.startup, 1, 10_000),
        ] {
            if !(low..=high).contains(&value) {
                found.push(format!("tuning.{name} = {value} is outside {low} to {high}"));
            }
        }
        if !self.metric.suits(task) {
            let (metric, task) = (self.metric.name(), task.name());
            found.push(format!("tuning.metric = \"{metric}\" is not for task = \"{task}\""));
        }
        let kinds = [LearnerKind::Trees, LearnerKind::Linear, LearnerKind::Network];
        for (key, parameter) in &self.space {
            let of_learner = |kind: &LearnerKind| {
                let rest = key.strip_prefix("learner.").and_then(|rest| rest.strip_prefix(kind.name()));
                rest.is_some_and(|rest| rest.len() > 1 && rest.starts_with('.'))
            };
            if !kinds.iter().any(of_learner) {
                found.push(format!(
                    "tuning.space names \"{key}\"; a key of a learner is expected, such as \"learner.trees.leaves\""
                ));
            } else if PIPELINE_KEYS.contains(&key.as_str()) {
                found
                    .push(format!("tuning.space: \"{key}\" changes the pipeline, which is fitted once for all trials"));
            } else if let Some(problem) = parameter.problem() {
                found.push(format!("tuning.space: \"{key}\" {problem}"));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> TuningSpec {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_space_of_ranges_and_values() {
        let spec = read(
            r#"{"trials": 20, "metric": "auc", "space": {
                "learner.trees.leaves": {"low": 7, "high": 255, "log": true, "integer": true},
                "learner.network.hidden": {"values": [[64], [128, 64]]}}}"#,
        );
        assert_eq!(spec.problems(Task::Binary), Vec::<String>::new());
        assert_eq!(spec.space["learner.trees.leaves"].low, Some(7.0));
        let hidden = &spec.space["learner.network.hidden"].values;
        assert_eq!(hidden[0], TuningValue::List(vec![TuningValue::Integer(64)]));
        assert_eq!(serde_json::from_str::<TuningSpec>(&serde_json::to_string(&spec).unwrap()).unwrap(), spec);
    }

    #[test]
    fn what_cannot_be_searched_is_said() {
        for (json, task, expected) in [
            (r#"{"eta": 1}"#, Task::Binary, "tuning.eta = 1 is outside 2 to 16"),
            (r#"{"metric": "auc"}"#, Task::Regression, "tuning.metric = \"auc\" is not for task = \"regression\""),
            (r#"{"space": {"features.cross": {"values": [1]}}}"#, Task::Binary, "a key of a learner is expected"),
            (r#"{"space": {"learner.trees": {"values": [1]}}}"#, Task::Binary, "a key of a learner is expected"),
            (r#"{"space": {"learner.linear.table_bits": {"values": [9]}}}"#, Task::Binary, "changes the pipeline"),
            (r#"{"space": {"learner.trees.l2": {"low": 0, "high": 1, "log": true}}}"#, Task::Binary, "above zero"),
            (
                r#"{"space": {"learner.trees.l2": {"low": 2, "high": 1}}}"#,
                Task::Binary,
                "low = 2 is not below high = 1",
            ),
            (r#"{"space": {"learner.trees.l2": {"low": 2}}}"#, Task::Binary, "needs either low and high, or values"),
            (r#"{"space": {"learner.trees.leaves": {"low": 2.5, "high": 9, "integer": true}}}"#, Task::Binary, "whole"),
        ] {
            let problems = read(json).problems(task);
            assert!(problems.len() == 1 && problems[0].contains(expected), "{json}: {problems:?}");
        }
    }
}
