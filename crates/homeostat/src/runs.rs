//! Runs: what a command that takes long keeps under the state folder, so that one that was cut off can go on. A run is a
//! folder with its order and its checkpoints; it is removed when the run is done.

use crate::clock;
use crate::project::Project;
use anyhow::{Context, Result, bail};
use learning::Folder;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A run keeps its state this often: what a `kill -9` costs at most, beside one step.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);

const ORDER: &str = "order.json";

pub struct Run {
    pub id: String,
    path: PathBuf,
}

impl Run {
    /// Begins a run of the given order.
    pub fn begin(project: &Project, order: &impl Serialize) -> Result<Run> {
        let mut unique = [0; 4];
        rustix::rand::getrandom(&mut unique, rustix::rand::GetRandomFlags::empty())?;
        let time: String = clock::wall().to_string().chars().filter(char::is_ascii_digit).take(14).collect();
        let run = Run::at(project, &format!("{time}-{:08x}", u32::from_le_bytes(unique)));
        std::fs::create_dir_all(&run.path).with_context(|| format!("can't create {}", run.path.display()))?;
        storage::write_atomically(&run.path.join(ORDER), &serde_json::to_vec_pretty(order)?)?;
        Ok(run)
    }

    /// A run that was cut off, and its order.
    pub fn resume<T: DeserializeOwned>(project: &Project, id: &str) -> Result<(Run, T)> {
        let run = Run::at(project, id);
        if !run.path.join(ORDER).exists() {
            let known = known(project);
            let hint = vocabulary::suggest::hint(id, known.iter().map(String::as_str));
            let what = if known.is_empty() { "no run waits to be resumed".to_owned() } else { known.join(", ") };
            bail!("there is no run \"{id}\" to resume{hint}; there is: {what}");
        }
        let order = run.order()?;
        Ok((run, order))
    }

    /// What the run was asked for.
    pub fn order<T: DeserializeOwned>(&self) -> Result<T> {
        let place = self.path.join(ORDER);
        let bytes = std::fs::read(&place).with_context(|| format!("can't read {}", place.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("{} can't be read; begin a new run", place.display()))
    }

    /// The folder of a run with this id, which may be new: a job's.
    pub fn at(project: &Project, id: &str) -> Run {
        Run { id: id.to_owned(), path: project.state().join("runs").join(id) }
    }

    pub fn folder(&self) -> &Path {
        &self.path
    }

    pub fn checkpoints(&self) -> Result<Folder> {
        Ok(Folder::open(&self.path, CHECKPOINT_EVERY, &STOP)?)
    }

    /// Nothing is left to resume.
    pub fn done(self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!("{} could not be removed: {error}", self.path.display());
        }
    }
}

/// Runs that can be resumed.
pub fn known(project: &Project) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(project.state().join("runs")) else { return Vec::new() };
    let mut names: Vec<String> = entries
        .flatten()
        .filter(|entry| entry.path().join(ORDER).exists())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

static STOP: AtomicBool = AtomicBool::new(false);

pub fn stop() -> &'static AtomicBool {
    &STOP
}

/// From now on SIGTERM and SIGINT ask the run to stop at its next step instead of ending the process; a second one ends it.
pub fn stop_when_asked() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut asked = signal(kind).context("can't listen for signals")?;
        tokio::spawn(async move {
            while asked.recv().await.is_some() {
                if STOP.swap(true, Ordering::Relaxed) {
                    std::process::exit(i32::from(crate::EXIT_FAILED));
                }
                eprintln!("stopping at the next step; once more ends at once");
            }
        });
    }
    Ok(())
}
