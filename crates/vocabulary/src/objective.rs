//! What a person promises about a model, in the section `[objective]` of its file. What follows from a broken promise is
//! not known here.

use crate::finding::FindingKind;
use crate::model::Task;
use crate::time::Span;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The shortest and the longest period of an error budget: a day, and a quarter.
pub const PERIOD_MIN: Span = Span::days(1);
pub const PERIOD_MAX: Span = Span::days(92);

/// Promises. Those that are left out promise nothing, and nobody is alarmed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectiveSpec {
    /// Requests answered within this time, in milliseconds.
    pub latency_ms: f64,
    /// A probability at least this high counts as a predicted positive.
    pub threshold: f64,
    /// Metric to its limit, such as `auc = 0.72`: a floor for `auc`, `accuracy` and `r2`, a ceiling for the others.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, f64>,
    /// Bytes of a version at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_max: Option<u64>,
    /// Price of a million predictions at most, in the project's currency.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_max: Option<f64>,
    /// Over which error budgets are counted.
    #[serde(skip_serializing_if = "is_month")]
    pub period: Span,
    /// Share of answers that come within `latency_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency_target: Option<f64>,
    /// Share of requests that are answered, of those that could be: what the caller did wrong does not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub availability: Option<f64>,
    /// Share of answers that turn out right: of classes the right one, of a quantity within `error_max`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// How far a predicted quantity may be off and still be right.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_max: Option<f64>,
    /// How old the newest row may be that the live version learned from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub freshness: Option<Span>,
    /// While rows are answered, an outcome arrives at least this often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcomes_every: Option<Span>,
    /// A request arrives at least this often.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_every: Option<Span>,
    /// What a wrong answer costs, in the project's currency; of a quantity, being off by its usual deviation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_price: Option<f64>,
}

const MONTH: Span = Span::days(30);

fn is_month(span: &Span) -> bool {
    *span == MONTH
}

impl Default for ObjectiveSpec {
    fn default() -> Self {
        ObjectiveSpec {
            latency_ms: 50.0,
            threshold: 0.5,
            limits: BTreeMap::new(),
            bytes_max: None,
            price_max: None,
            period: MONTH,
            latency_target: None,
            availability: None,
            accuracy: None,
            error_max: None,
            freshness: None,
            outcomes_every: None,
            requests_every: None,
            error_price: None,
        }
    }
}

impl ObjectiveSpec {
    /// The promises that are kept as an error budget: what breaks them, and their targets.
    pub fn budgets(&self) -> Vec<(FindingKind, f64)> {
        let all = [
            (FindingKind::LatencyBurn, self.latency_target),
            (FindingKind::AvailabilityBurn, self.availability),
            (FindingKind::AccuracyBurn, self.accuracy),
        ];
        all.into_iter().filter_map(|(kind, target)| Some((kind, target?))).collect()
    }

    pub fn problems(&self, task: Task) -> Vec<String> {
        let mut found = Vec::new();
        for (name, target) in
            [("latency_target", self.latency_target), ("availability", self.availability), ("accuracy", self.accuracy)]
        {
            if let Some(target) = target.filter(|target| !(0.0..1.0).contains(target)) {
                found.push(format!(
                    "objective.{name} = {target} is outside 0 to 1: write .999 for 99.9 %; a promise without exception has no error budget"
                ));
            }
        }
        if !(PERIOD_MIN..=PERIOD_MAX).contains(&self.period) {
            found.push(format!("objective.period = \"{}\" is outside {PERIOD_MIN} to {PERIOD_MAX}", self.period));
        }
        for (name, value) in
            [("latency_ms", Some(self.latency_ms)), ("price_max", self.price_max), ("error_max", self.error_max)]
        {
            if let Some(value) = value.filter(|value| !(value.is_finite() && *value > 0.0)) {
                found.push(format!("objective.{name} = {value} is not above zero"));
            }
        }
        if let Some(price) = self.error_price.filter(|price| !(price.is_finite() && *price > 0.0)) {
            found.push(format!("objective.error_price = {price} is not above zero"));
        }
        match (task, self.accuracy, self.error_max) {
            (Task::Regression, Some(_), None) => found.push(
                "objective.accuracy of a quantity needs objective.error_max: how far off is still right".to_owned(),
            ),
            (Task::Binary | Task::Multiclass, _, Some(_)) => {
                found.push("objective.error_max is for task = \"regression\"".to_owned());
            }
            _ => {}
        }
        for (name, span) in [
            ("freshness", self.freshness),
            ("outcomes_every", self.outcomes_every),
            ("requests_every", self.requests_every),
        ] {
            if span.is_some_and(|span| span <= Span(0)) {
                found.push(format!("objective.{name} must be above zero"));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_that_cannot_be_kept_are_named() {
        assert!(ObjectiveSpec::default().problems(Task::Binary).is_empty());
        let spec = ObjectiveSpec {
            availability: Some(1.0),
            accuracy: Some(0.7),
            period: Span::hours(1),
            outcomes_every: Some(Span(0)),
            error_price: Some(-1.0),
            ..ObjectiveSpec::default()
        };
        let said = spec.problems(Task::Regression).join("\n");
        for name in ["availability", "error_max", "period", "outcomes_every", "error_price"] {
            assert!(said.contains(name), "{name} is not in {said}");
        }
        assert_eq!(spec.budgets().len(), 2);
    }
}
