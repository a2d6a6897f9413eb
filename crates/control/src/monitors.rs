//! All monitors of one live version, under one budget of false alarms.

use crate::confidence::Confidence;
use crate::drift::{FeatureSummary, InputMonitor, RowView};
use crate::loss::{CalibrationMonitor, CalibrationSummary, LossMonitor, LossSummary};
use serde::Serialize;
use std::collections::BTreeMap;
use vocabulary::cause::{Cause, CauseKind, Place, Size};
use vocabulary::profile::{Reference, bounded_loss};
use vocabulary::{Answer, Finding, FindingKind, Interval, ModelSpec, Task, Timestamp};

/// Of the chance of a false alarm, half is for the inputs and a quarter each for loss and calibration.
const INPUTS_PART: f64 = 0.5;
const LOSS_PART: f64 = 0.25;
const CALIBRATION_PART: f64 = 0.25;

#[derive(Clone, Debug)]
pub struct MonitorSet {
    model: String,
    since: Timestamp,
    task: Task,
    scale: f64,
    inputs: InputMonitor,
    /// None where the version has no reference loss.
    loss: Option<LossMonitor>,
    calibration: CalibrationMonitor,
    confidence: Confidence,
}

/// Since when, and by how much, predictions are worse.
fn error_rate(loss: &LossSummary) -> Cause {
    let mut cause = Cause::new(CauseKind::ErrorRate, Place::default());
    cause.began = loss.began;
    if let (Some(now), Some(interval)) = (loss.mean_since, loss.interval) {
        let before = loss.reference;
        let difference = Interval { low: interval.low - before, high: interval.high - before };
        cause.size = Some(Size { measure: "loss".into(), before, now, difference });
    }
    cause
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MonitorSummary {
    pub features: Vec<FeatureSummary>,
    pub loss: Option<LossSummary>,
    pub calibration: CalibrationSummary,
}

impl MonitorSet {
    /// Monitors of a version that went live at `since`.
    pub fn new(reference: &Reference, spec: &ModelSpec, since: Timestamp) -> Self {
        let monitors = &spec.monitors;
        let budget = monitors.false_alarms;
        let alike = reference.detail.as_ref().and_then(|detail| detail.loss);
        let loss = |loss| LossMonitor::with_dependence(loss, alike, monitors.loss_tolerance, budget * LOSS_PART);
        MonitorSet {
            model: spec.name.clone(),
            since,
            task: spec.task,
            scale: reference.loss.map_or(1.0, |loss| loss.scale),
            inputs: InputMonitor::new(reference, monitors.drift_tolerance, budget * INPUTS_PART, since),
            loss: reference.loss.as_ref().map(loss),
            calibration: CalibrationMonitor::new(monitors.calibration_tolerance, budget * CALIBRATION_PART),
            confidence: Confidence::new(spec.task, spec.objective.threshold),
        }
    }

    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// One answered row; `bins` are in the order of the reference's features.
    pub fn observe_inputs(&mut self, at: Timestamp, bins: &[u16]) {
        self.inputs.observe(at, bins);
    }

    /// One outcome, in order of when it became known.
    pub fn observe_outcome(&mut self, known_at: Timestamp, said: &Answer, outcome: f64) {
        let predicted = said.value();
        let gap = match self.task {
            Task::Binary => outcome - predicted,
            Task::Regression => (outcome - predicted) / self.scale,
            // Whether the most probable class came true, less how probable it was said to be.
            Task::Multiclass => f64::from(outcome == predicted) - said.values()[predicted as usize],
        };
        self.calibration.observe(known_at, gap);
        if let Some(loss) = &mut self.loss {
            loss.observe(known_at, bounded_loss(self.task, self.scale, said.values(), outcome));
        }
    }

    /// One answered row with all that is known of it.
    pub fn observe_row(&mut self, row: &RowView<'_>) {
        self.inputs.observe_row(row);
    }

    /// What was answered to a row, in the order of the rows: then a finding says what a change is expected to cost.
    pub fn observe_answer(&mut self, at: Timestamp, said: &Answer) {
        self.confidence.observe(at, said);
    }

    /// Everything that is certain at `now`.
    pub fn findings(&mut self, now: Timestamp) -> Vec<Finding> {
        self.inputs.look(now);
        let mut found = self.inputs.findings(&self.model);
        for cause in found.iter_mut().filter_map(|finding| finding.cause.as_mut()) {
            cause.expected_loss = cause.began.and_then(|began| self.confidence.lost(began));
        }
        if let Some(loss) = self.loss.as_ref().map(LossMonitor::summary)
            && let (Some(at), Some(mean)) = (loss.certified, loss.mean)
        {
            let message = format!("the loss is {mean:.4} where {:.4} was measured before release", loss.reference);
            let evidence =
                [("mean", mean), ("reference", loss.reference), ("limit", loss.limit), ("e_value", loss.e_value)];
            let mut finding = self.finding(FindingKind::LossHigh, at, message, &evidence);
            finding.cause = Some(error_rate(&loss));
            found.push(finding);
        }
        let calibration = self.calibration.summary();
        if let (Some(at), Some(gap)) = (calibration.certified, calibration.gap) {
            let way = if gap > 0.0 { "low" } else { "high" };
            let message = format!(
                "predictions are too {way} by {:.3} on average [{:.3}, {:.3}]",
                gap.abs(),
                calibration.low,
                calibration.high
            );
            let evidence = [
                ("gap", gap),
                ("low", calibration.low),
                ("high", calibration.high),
                ("tolerance", calibration.tolerance),
            ];
            let mut finding = self.finding(FindingKind::Miscalibrated, at, message, &evidence);
            let difference = Interval { low: calibration.low, high: calibration.high };
            let mut cause = Cause::new(CauseKind::Calibration, Place::default());
            cause.size = Some(Size { measure: "gap".into(), before: 0.0, now: gap, difference });
            finding.cause = Some(cause);
            found.push(finding);
        }
        found
    }

    fn finding(&self, kind: FindingKind, at: Timestamp, message: String, evidence: &[(&str, f64)]) -> Finding {
        let evidence: BTreeMap<String, f64> =
            evidence.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        Finding {
            id: format!("{}/{}/{}", self.model, kind.name(), self.since),
            model: self.model.clone(),
            kind,
            subject: None,
            at,
            since: self.since,
            message,
            evidence,
            cause: None,
        }
    }

    pub fn summary(&self) -> MonitorSummary {
        MonitorSummary {
            features: self.inputs.summary(),
            loss: self.loss.as_ref().map(LossMonitor::summary),
            calibration: self.calibration.summary(),
        }
    }
}
