//! Jobs as child processes: started, listened to, waited for. Their requests and results are in the catalog, so that a
//! server that died in between starts them again.

use super::state::App;
use crate::traced::TRACEPARENT;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use serving::call::Trace;
use serving::spans::Work;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};
use storage::catalog::{Job, JobState};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::task::JoinHandle;

/// A job under way.
pub struct Running {
    pub id: String,
    task: JoinHandle<JobState>,
}

impl Running {
    /// Starts the job's process; it ends when this one does.
    pub fn start(app: &Arc<App>, job: Job) -> Running {
        let id = job.id.clone();
        let app = Arc::clone(app);
        let task = tokio::spawn(async move {
            let (started, start) = (Instant::now(), SystemTime::now());
            let trace = app.exporter.get().map(|exporter| exporter.begin(None));
            let mut job = job;
            match attend(&app, &mut job, trace.as_ref()).await {
                Ok(()) => job.state = JobState::Done,
                Err(error) => {
                    tracing::error!("job {}: {error:#}", job.id);
                    (job.state, job.error) = (JobState::Failed, Some(format!("{error:#}")));
                }
            }
            job.seconds = Some(started.elapsed().as_secs_f64());
            job.progress = None;
            if let (Some(exporter), Some(trace)) = (app.exporter.get(), trace) {
                exporter.record(work(&job, trace, start));
            }
            let mut state = job.state;
            if let Err(error) = app.catalog.put_job(&job).await {
                tracing::error!("job {}: its end could not be written down: {error}", job.id);
                state = JobState::Failed;
            }
            state
        });
        Running { id, task }
    }

    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    pub async fn wait(self) -> JobState {
        self.task.await.unwrap_or(JobState::Failed)
    }
}

/// The job as a span; what its process did is below it.
fn work(job: &Job, trace: Trace, start: SystemTime) -> Work {
    let mut attributes = vec![
        ("homeostat.job", job.id.as_str().into()),
        ("homeostat.job.kind", job.kind.as_str().into()),
        ("homeostat.model", job.model.as_str().into()),
    ];
    attributes.extend(job.version.map(|version| ("homeostat.version", i64::from(version).into())));
    let name = format!("job {}", job.kind);
    Work { name, trace, start, end: SystemTime::now(), attributes, error: job.error.clone() }
}

/// Runs the job's process to its end, passing on its progress.
async fn attend(app: &App, job: &mut Job, trace: Option<&Trace>) -> Result<()> {
    let mut child = Command::new(crate::clock::own_program()?)
        .envs(trace.map(|trace| (TRACEPARENT, trace.traceparent())))
        .args(["job", &job.id, "--project"])
        .arg(&app.project.root)
        .args(app.project.config.project.environment.iter().flat_map(|name| ["--env", name]))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("can't start its process")?;
    let stdout = child.stdout.take().context("its process has no output")?;
    let stderr = child.stderr.take().context("its process has no error output")?;
    let complaints = tokio::spawn(async move {
        let mut lines = BufReader::new(stderr).lines();
        let mut last = String::new();
        while let Ok(Some(line)) = lines.next_line().await {
            tracing::info!("{line}");
            last = line;
        }
        last
    });
    let mut lines = BufReader::new(stdout).lines();
    while let Some(line) = lines.next_line().await? {
        let Ok(said) = serde_json::from_str::<Value>(&line) else { continue };
        if let Some(progress) = said.get("progress") {
            job.progress = Some(progress.clone());
            app.catalog.put_job(job).await?;
        }
        if let Some(version) = said["version"].as_u64() {
            job.version = Some(version as u32);
        }
        if let Some(seconds) = said["cpu_seconds"].as_f64() {
            app.job_cpu_us.fetch_add((seconds * 1e6) as u64, Ordering::Relaxed);
        }
    }
    let status = child.wait().await?;
    let last = complaints.await.unwrap_or_default();
    if !status.success() {
        bail!("its process ended with {status}: {}", last.trim_start_matches("error: "));
    }
    if job.version.is_none() {
        bail!("its process ended well but registered no version");
    }
    Ok(())
}
