//! Searches for a declaration's best values as they lie under the state folder: finished ones as files of their own, running
//! or cut off ones as their run with its journal. Knows neither how they are made nor who asks.

use crate::project::Project;
use crate::runs;
use anyhow::{Context, Result};
use learning::tune::{self, Trial};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::PathBuf;
use vocabulary::suggest;

const FORMAT: u32 = 1;
const FOLDER: &str = "searches";
const FILE: &str = "search.json";
const PLOT: &str = "search.svg";
/// The journal of a search, in its run's folder.
pub const JOURNAL: &str = "search.journal";

/// A search and what was tried.
#[derive(Serialize, Deserialize)]
pub struct Search {
    format: u32,
    pub id: String,
    pub model: String,
    /// When it ended; none of one that has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<vocabulary::Timestamp>,
    /// What trials are judged by on the validation rows; less is better.
    pub measure: String,
    /// Share of the rows that trials learn from at each rung.
    #[serde(default)]
    pub shares: Vec<f64>,
    /// The winner; none before the end.
    #[serde(default)]
    pub best: Value,
    /// Why it ended, or that it has not.
    pub ending: String,
    pub cpu_seconds: f64,
    pub trials: Vec<Trial>,
}

/// What a finished search says of itself.
pub struct Ended<'a> {
    pub id: &'a str,
    pub model: &'a str,
    pub at: vocabulary::Timestamp,
    pub tuned: &'a tune::Tuned,
    pub best: Value,
}

/// Keeps a finished search and its figure; the figure's path is returned.
pub fn keep(project: &Project, ended: Ended) -> Result<PathBuf> {
    let folder = project.state().join(FOLDER).join(ended.id);
    let search = Search {
        format: FORMAT,
        id: ended.id.to_owned(),
        model: ended.model.to_owned(),
        at: Some(ended.at),
        measure: ended.tuned.metric.name().to_owned(),
        shares: ended.tuned.shares.clone(),
        best: ended.best,
        ending: ended.tuned.ending.reason().to_owned(),
        cpu_seconds: ended.tuned.cpu_seconds,
        trials: ended.tuned.trials.clone(),
    };
    storage::write_atomically(&folder.join(FILE), &serde_json::to_vec(&search)?)?;
    storage::write_atomically(&folder.join(PLOT), search.plot().as_bytes())?;
    Ok(folder.join(PLOT))
}

impl Search {
    /// The search as a figure, SVG.
    pub fn plot(&self) -> String {
        tune::plot(&self.trials, &self.measure)
    }

    /// All but the trials.
    pub fn summary(&self) -> Value {
        let failed = self.trials.iter().filter(|trial| trial.failure.is_some()).count();
        let least = tune::best_of(&self.trials).map(|place| &self.trials[place]);
        json!({ "id": self.id, "model": self.model, "at": self.at, "measure": self.measure, "ending": self.ending,
            "cpu_seconds": self.cpu_seconds, "trials": self.trials.len(), "failed": failed, "best": self.best,
            "least": least.and_then(|trial| trial.losses.last()), "rungs": least.map(|trial| trial.losses.len()) })
    }
}

/// All searches, the newest first; ids begin with the time. What cannot be read is left out, and the log says so.
pub fn list(project: &Project) -> Vec<Search> {
    let mut ids: Vec<String> = names(project.state().join(FOLDER));
    ids.extend(runs::known(project));
    ids.sort_unstable_by(|a, b| b.cmp(a));
    ids.dedup();
    let read = |id: &String| match find(project, id) {
        Ok(search) => search,
        Err(error) => {
            tracing::warn!("search {id}: {error:#}");
            None
        }
    };
    ids.iter().filter_map(read).collect()
}

/// One search; none where there is none of this id.
pub fn find(project: &Project, id: &str) -> Result<Option<Search>> {
    // An id names a folder: it may not lead elsewhere.
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Ok(None);
    }
    let path = project.state().join(FOLDER).join(id).join(FILE);
    if path.exists() {
        let bytes = std::fs::read(&path).with_context(|| format!("can't read {}", path.display()))?;
        let search: Search =
            serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))?;
        return Ok(Some(search).filter(|search| search.format == FORMAT));
    }
    let run = runs::Run::at(project, id);
    let journal = run.folder().join(JOURNAL);
    if !journal.exists() {
        return Ok(None);
    }
    let order: Value = run.order()?;
    let model = order["order"]["model"].as_str().unwrap_or_default().to_owned();
    let measure = project.model(&model)?.tuning.metric.name().to_owned();
    let trials = tune::trials_so_far(&journal)?;
    Ok(Some(Search {
        format: FORMAT,
        id: id.to_owned(),
        model,
        at: None,
        measure,
        shares: Vec::new(),
        best: Value::Null,
        ending: format!("running, or cut off: `homeostat tune --resume {id}`"),
        cpu_seconds: trials.iter().map(|trial| trial.cpu_seconds).sum(),
        trials,
    }))
}

/// What to say where there is no search of an id.
pub fn unknown(project: &Project, id: &str) -> String {
    let known: Vec<String> = list(project).into_iter().map(|search| search.id).collect();
    format!(
        "there is no search \"{id}\"{}; GET /v1/searches lists them",
        suggest::hint(id, known.iter().map(String::as_str))
    )
}

fn names(folder: PathBuf) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
