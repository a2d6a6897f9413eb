//! A training run as spans: the whole, and below it reading, features, each fit, calibration, evaluation and
//! registration, sent where `[telemetry]` says. `TRACEPARENT` in the environment names the trace that it belongs to.
//! Stages follow from the progress that training reports; what it does is none of this file's business.

use crate::project::{FILE, Project};
use crate::training::Made;
use anyhow::{Context, Result};
use learning::{Phase, Progress};
use serving::call::Trace;
use serving::spans::{Attribute, Exporter, Work};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// The variable that carries a trace to a child process
/// (https://opentelemetry.io/docs/specs/otel/context/env-carriers/).
pub const TRACEPARENT: &str = "TRACEPARENT";

/// How long the end of a run waits for its spans to be taken.
const FLUSH: Duration = Duration::from_secs(2);

/// A run under way; nothing is noted without `[telemetry]`.
pub struct Run(Option<Spans>);

struct Spans {
    exporter: Exporter,
    trace: Trace,
    start: SystemTime,
    name: String,
    attributes: Vec<(&'static str, Attribute)>,
    stage: Mutex<Stage>,
}

struct Stage {
    name: String,
    start: SystemTime,
    phase: Option<Progress>,
}

impl Stage {
    fn new(name: String) -> Stage {
        Stage { name, start: SystemTime::now(), phase: None }
    }
}

impl Run {
    /// Within Tokio's runtime.
    pub fn begin(project: &Project, model: &str, job: Option<&str>) -> Result<Run> {
        let Some(options) = &project.config.telemetry else { return Ok(Run(None)) };
        let file = project.root.join(FILE);
        let exporter = Exporter::start(options).with_context(|| format!("{}: [telemetry]", file.display()))?;
        let given = std::env::var(TRACEPARENT).ok().map(|text| Trace::of(Some(&text)));
        let trace = match given.filter(|trace| trace.parent.is_some()) {
            Some(trace) => trace,
            None => exporter.begin(None),
        };
        let mut attributes = vec![("homeostat.model", model.into())];
        attributes.extend(job.map(|job| ("homeostat.job", job.into())));
        let (name, stage) = (format!("train {model}"), Stage::new("read".to_owned()));
        let start = stage.start;
        Ok(Run(Some(Spans { exporter, trace, start, name, attributes, stage: Mutex::new(stage) })))
    }

    /// Training has come so far.
    pub fn progress(&self, step: Progress) {
        let Some(spans) = &self.0 else { return };
        let mut stage = spans.stage.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |before: &Progress| before.phase == step.phase && before.learner == step.learner;
        if !stage.phase.as_ref().is_some_and(same) {
            let learner = step.learner.name();
            let name = match step.phase {
                Phase::Fit | Phase::Refit | Phase::RefitAll => format!("{} {learner}", step.phase.name()),
                _ => step.phase.name().to_owned(),
            };
            spans.close(std::mem::replace(&mut *stage, Stage::new(name)));
        }
        stage.phase = Some(step);
        if step.phase == Phase::Evaluate && step.done == step.total {
            spans.close(std::mem::replace(&mut *stage, Stage::new("register".to_owned())));
        }
    }

    /// The run is over; waits a little until its spans are sent.
    pub async fn end(self, outcome: &Result<Made>) {
        let Some(spans) = self.0 else { return };
        let stage = spans.stage.into_inner().unwrap_or_else(PoisonError::into_inner);
        let error = outcome.as_ref().err().map(|error| format!("{error:#}"));
        let Spans { exporter, trace, start, name, mut attributes, .. } = spans;
        record(&exporter, &trace, stage, error.clone());
        if let Ok(made) = outcome {
            attributes.push(("homeostat.version", i64::from(made.version.number).into()));
            attributes.push(("homeostat.learner", made.version.learner.as_str().into()));
            attributes.push(("homeostat.rows", (made.version.rows as usize).into()));
            attributes.push(("homeostat.cpu_seconds", made.cpu_seconds.into()));
        }
        exporter.record(Work { name, trace, start, end: SystemTime::now(), attributes, error });
        if !exporter.flush(FLUSH).await {
            tracing::warn!("the run's spans could not be sent in {FLUSH:?}");
        }
    }
}

impl Spans {
    fn close(&self, stage: Stage) {
        record(&self.exporter, &self.trace, stage, None);
    }
}

/// A stage that ends now.
fn record(exporter: &Exporter, run: &Trace, stage: Stage, error: Option<String>) {
    let Stage { name, start, phase } = stage;
    let mut attributes: Vec<(&'static str, Attribute)> = Vec::new();
    if let Some(step) = phase {
        attributes.push(("homeostat.learner", step.learner.name().into()));
        if matches!(step.phase, Phase::Fit | Phase::Refit | Phase::RefitAll) {
            attributes.push(("homeostat.rounds", (step.done as usize).into()));
            attributes.extend(step.loss.map(|loss| ("homeostat.loss", loss.into())));
        }
    }
    exporter.record(Work { name, trace: run.child(), start, end: SystemTime::now(), attributes, error });
}
