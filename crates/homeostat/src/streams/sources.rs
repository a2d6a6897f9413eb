//! A declared source, opened.

use super::decode::Decoder;
use crate::project::Project;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use storage::streams::{Ending, Files, Source, Spool, SpoolSource, fits};
use tokio::runtime::Handle;
use vocabulary::stream::{SourceSpec, StreamSpec};

/// A source, and the spool behind it where it is handed in over HTTP.
pub struct Opened {
    pub source: Box<dyn Source>,
    pub spool: Option<Spool>,
}

/// The partition of a source that has but one and no name for it.
const ONLY: &str = "all";

/// What opening a source takes.
pub struct Order<'a> {
    pub project: &'a Project,
    pub spec: &'a StreamSpec,
    pub ending: Ending,
    /// Drives connections.
    #[cfg_attr(not(feature = "nats"), expect(dead_code, reason = "a broker alone has a connection"))]
    pub runtime: &'a Handle,
    /// The spool that is open already.
    pub spool: Option<Spool>,
}

pub fn open(order: &Order<'_>, decoder: &Decoder) -> Result<Opened> {
    let Order { project, spec, ending, .. } = *order;
    Ok(match &spec.source {
        SourceSpec::Files { path } => {
            let files = Files::new(partitions(&project.root, path)?, decoder.columns().to_vec(), ending);
            Opened { source: Box::new(files), spool: None }
        }
        SourceSpec::Http { spool_bytes_max } => {
            let folder = super::folder(project, &spec.name).join("spool");
            let spool = match &order.spool {
                Some(spool) => spool.clone(),
                None => Spool::open(&folder, *spool_bytes_max, project.config.storage.durability)?,
            };
            Opened { source: Box::new(SpoolSource::new(spool.clone(), ONLY)), spool: Some(spool) }
        }
        #[cfg(not(feature = "nats"))]
        SourceSpec::Nats { .. } => bail!(
            "stream \"{}\" comes from NATS, which this program was built without; build it with the feature \"nats\"",
            spec.name
        ),
        #[cfg(feature = "nats")]
        SourceSpec::Nats { url, stream, subject } => {
            let address =
                storage::streams::Address { url: url.clone(), stream: stream.clone(), subject: subject.clone() };
            let source = storage::streams::JetStream::new(address, order.runtime.clone());
            Opened { source: Box::new(source), spool: None }
        }
    })
}

/// Names and places of a path's partitions. Without `*` in a folder's name there is one.
fn partitions(root: &Path, path: &str) -> Result<Vec<(String, PathBuf)>> {
    let (folders, last) = path.trim_end_matches('/').rsplit_once('/').unwrap_or(("", path));
    if !folders.contains('*') {
        return Ok(vec![(ONLY.to_owned(), root.join(path.trim_end_matches('/')))]);
    }
    let mut found = vec![String::new()];
    for part in folders.split('/') {
        let mut deeper = Vec::new();
        for folder in found {
            let below = |name: &str| if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
            if !part.contains('*') {
                deeper.push(below(part));
                continue;
            }
            let place = root.join(&folder);
            let entries = std::fs::read_dir(&place).with_context(|| format!("can't list {}", place.display()))?;
            let names =
                entries.filter_map(|entry| entry.ok().filter(|e| e.path().is_dir())?.file_name().into_string().ok());
            let mut names: Vec<String> = names.filter(|name| fits(part, name)).collect();
            names.sort();
            deeper.extend(names.iter().map(|name| below(name)));
        }
        found = deeper;
    }
    if found.is_empty() {
        bail!("no folder fits \"{folders}\" in {}; events are expected there", root.display());
    }
    Ok(found.into_iter().map(|folder| (folder.clone(), root.join(folder).join(last))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_that_fit_are_partitions() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["events/b", "events/a", "events/a2", "other"] {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let names = |path: &str| -> Vec<String> {
            partitions(folder.path(), path).unwrap().into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names("events/a"), ["all"]);
        assert_eq!(names("events/*.jsonl"), ["all"]);
        assert_eq!(names("events/*/*.jsonl"), ["events/a", "events/a2", "events/b"]);
        assert_eq!(names("events/a*/x.csv"), ["events/a", "events/a2"]);
        assert!(partitions(folder.path(), "events/c*/x").unwrap_err().to_string().contains("no folder fits"));
    }
}
