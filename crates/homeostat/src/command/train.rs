//! `train`, and the child process that runs a server's training jobs.

use crate::cli::{Learner, Train};
use crate::project::Project;
use crate::runs::{self, Run};
use crate::snapshot;
use crate::traced;
use crate::training::{self, Order};
use crate::{clock, output};
use anyhow::{Context, Result, bail};
use learning::Progress;
use serde_json::{Value, json};
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use storage::catalog::Version;
use vocabulary::model::LearnerKind;
use vocabulary::{Digest, Timestamp};

impl From<Learner> for LearnerKind {
    fn from(learner: Learner) -> Self {
        match learner {
            Learner::Linear => LearnerKind::Linear,
            Learner::Trees => LearnerKind::Trees,
            Learner::Network => LearnerKind::Network,
            Learner::Auto => LearnerKind::Auto,
        }
    }
}

pub fn instant(text: &Option<String>) -> Result<Option<Timestamp>> {
    text.as_deref().map(|text| text.parse().map_err(anyhow::Error::from)).transpose()
}

pub async fn run(project: &Project, args: &Train, json: bool) -> Result<bool> {
    if let Some(id) = &args.resume {
        let (run, order) = Run::resume(project, id)?;
        return finish(project, run, &order, json).await;
    }
    let spec = match &args.model {
        Some(name) => project.model(name)?,
        None => project.only_model()?,
    };
    // A version to go on from, or an instant to learn from.
    let named = args.from.as_ref().filter(|text| text.contains('@') || text.parse::<Digest>().is_ok());
    let start = match named {
        Some(name) => Some(super::versions::resolve(project, name).await?.digest),
        None if args.shrink.is_some() => bail!("--shrink is for a version to go on from: --from VERSION"),
        None => None,
    };
    let from = if start.is_some() { Ok(None) } else { instant(&args.from) };
    let known = match &args.snapshot {
        Some(id) => snapshot::order(project, &spec.name, id).await?,
        None => Order { from: from?, to: instant(&args.to)?, ..Order::default() },
    };
    let order = Order {
        model: spec.name.clone(),
        learner: args.learner.map(LearnerKind::from),
        seed: args.seed,
        threads: args.threads,
        start,
        shrink: args.shrink,
        stream: args.stream,
        ..known
    };
    let run = Run::begin(project, &order)?;
    finish(project, run, &order, json).await
}

/// Carries a run to its end and shows the version.
async fn finish(project: &Project, run: Run, order: &Order, json: bool) -> Result<bool> {
    runs::stop_when_asked()?;
    let bar = output::bar("reading");
    let traces = traced::Run::begin(project, &order.model, None)?;
    let progress = |step: Progress| {
        traces.progress(step);
        bar.set_length(step.total);
        bar.set_position(step.done);
        let loss = step.loss.map(|loss| format!(" loss {loss:.5}")).unwrap_or_default();
        bar.set_message(format!("{} {}{loss}", step.learner.name(), step.phase.name()));
    };
    let at = order.to.unwrap_or_else(clock::wall);
    let made = training::make(project, order, at, &run, "operator", &progress).await;
    bar.finish_and_clear();
    traces.end(&made).await;
    let version = made
        .with_context(|| match runs::stop().load(Ordering::Relaxed) {
            true => format!("go on with `homeostat train --resume {}`", run.id),
            false => format!("run {} failed", run.id),
        })?
        .version;
    run.done();
    output::show(json, &described(&version), || sentence(&version))?;
    Ok(true)
}

/// The JSON that `train`, `evaluate` and `show` share.
pub fn described(version: &Version) -> Value {
    json!({
        "version": version.name(),
        "digest": version.digest,
        "learner": version.learner,
        "task": version.task,
        "rows": version.rows,
        "seconds": version.seconds,
        "metrics": version.metrics.values,
        "intervals": version.metrics.intervals,
        "tested_rows": version.metrics.rows,
        "bytes": version.bytes,
    })
}

fn sentence(version: &Version) -> String {
    let rows: Vec<Vec<String>> = version
        .metrics
        .values
        .iter()
        .map(|(name, value)| {
            let interval = version.metrics.intervals.get(name);
            let interval = interval.map(|i| format!("[{:.4}, {:.4}]", i.low, i.high)).unwrap_or_default();
            vec![name.clone(), output::figure(Some(*value)), interval]
        })
        .collect();
    format!(
        "{} ({}, digest {}): learned from {} rows in {:.1} s, {} bytes\n\nmeasured on the newest {} rows, which it had not seen:\n{}",
        version.name(),
        version.learner,
        version.digest.short(),
        version.rows,
        version.seconds,
        version.bytes,
        version.metrics.rows,
        output::table(&["metric", "value", "95 % interval"], &rows)
    )
}

/// Runs the job that the server wrote into the catalog; says how far it is, one JSON line each.
pub async fn job(project: &Project, id: &str) -> Result<bool> {
    // Serving comes first where cores are scarce.
    if let Err(error) = rustix::process::nice(10) {
        tracing::warn!("the job runs at the server's priority: {error}");
    }
    super::end_with_parent();
    let catalog = project.catalog().await?;
    let job = catalog.job(id).await?.with_context(|| format!("no job \"{id}\" in the catalog"))?;
    let order: Order = serde_json::from_value(job.request).context("the job's request can't be read")?;
    runs::stop_when_asked()?;
    let run = Run::at(project, id);
    let traces = traced::Run::begin(project, &order.model, Some(id))?;
    let last = Mutex::new(std::time::Instant::now());
    let progress = |step: Progress| {
        traces.progress(step);
        let Ok(mut last) = last.lock() else { return };
        if last.elapsed().as_millis() > 200 {
            *last = std::time::Instant::now();
            say(&json!({ "progress": { "phase": step.phase.name(), "done": step.done, "total": step.total } }));
        }
    };
    let made = training::make(project, &order, job.at, &run, "control", &progress).await;
    traces.end(&made).await;
    let made = made?;
    run.done();
    say(&json!({ "version": made.version.number, "cpu_seconds": made.cpu_seconds, "seconds": made.version.seconds }));
    Ok(true)
}

fn say(line: &Value) {
    let mut out = std::io::stdout().lock();
    // The server that listened may be gone; the job's result is in the catalog all the same.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
