//! Jobs as child processes: started, listened to, waited for. Their requests and results are in the catalog, so that a
//! server that died in between starts them again.

use super::state::App;
use anyhow::{Context, Result, bail};
use serde_json::Value;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
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
            let started = Instant::now();
            let mut job = job;
            match attend(&app, &mut job).await {
                Ok(()) => job.state = JobState::Done,
                Err(error) => {
                    tracing::error!("job {}: {error:#}", job.id);
                    (job.state, job.error) = (JobState::Failed, Some(format!("{error:#}")));
                }
            }
            job.seconds = Some(started.elapsed().as_secs_f64());
            job.progress = None;
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

/// Runs the job's process to its end, passing on its progress.
async fn attend(app: &App, job: &mut Job) -> Result<()> {
    let mut child = Command::new(crate::clock::own_program()?)
        .args(["job", &job.id, "--project"])
        .arg(&app.project.root)
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
