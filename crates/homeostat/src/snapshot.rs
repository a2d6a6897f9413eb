//! A training set's snapshot: one digest of everything that decides which rows it has and what is in them. The same
//! snapshot is the same set, whatever is learned from it.

use crate::project::Project;
use crate::training::Order;
use anyhow::{Context, Result};
use serde_json::json;
use std::path::Path;
use vocabulary::{Digest, ModelSpec};

/// The digest of a file's bytes, without holding them.
pub fn digest_of(path: &Path) -> Result<Digest> {
    let unreadable = || format!("can't read {}", path.display());
    let mut hasher = blake3::Hasher::new();
    std::io::copy(&mut std::fs::File::open(path).with_context(unreadable)?, &mut hasher).with_context(unreadable)?;
    Ok(Digest(*hasher.finalize().as_bytes()))
}

/// Of the set that `order` names: the files by their digests, the declaration of data, windows and contract, and the
/// cut: from when, known up to when, which corrections and how many events of each stream.
pub fn of(project: &Project, spec: &ModelSpec, order: &Order) -> Result<String> {
    let mut files = Vec::new();
    for path in storage::engine::files(&project.root, &spec.data) {
        files.push((project.file_name(&path), digest_of(&path)?.to_string()));
    }
    let corrected = order.corrected.clone().unwrap_or_default();
    let said = json!({
        "snapshot": 1,
        "files": files,
        "data": spec.data,
        "windows": spec.features.windows,
        "columns": [&Some(&spec.target), &spec.time.as_ref(), &spec.key.as_ref(), &spec.outcome_at.as_ref()],
        "contract": project.contract_of(spec),
        "from": order.from,
        "to": order.to,
        "log": order.log,
        "corrected": corrected,
        "events": order.events,
    });
    Ok(Digest::of(&serde_json::to_vec(&said)?).to_string())
}

/// The order of a version's training set, to make the same set again; of its learner nothing. `id` may be its beginning.
pub async fn order(project: &Project, model: &str, id: &str) -> Result<Order> {
    let versions = project.catalog().await?.versions(Some(model)).await?;
    let snapshot = |version: &storage::catalog::Version| version.lineage["snapshot"].as_str().map(str::to_owned);
    let found =
        versions.iter().find_map(|version| Some((version, snapshot(version)?)).filter(|(_, s)| s.starts_with(id)));
    let (version, snapshot) = found.filter(|_| id.len() >= SHORTEST).with_context(|| {
        format!("no version of model \"{model}\" was made from snapshot {id}; `homeostat show VERSION` names each one's, give {SHORTEST} characters or more")
    })?;
    let made: Order = serde_json::from_value(version.lineage["order"].clone())
        .with_context(|| format!("{} was not trained here", version.name()))?;
    Ok(Order {
        from: made.from,
        to: made.to,
        log: made.log,
        corrected: Some(made.corrected.unwrap_or_default()),
        events: made.events,
        snapshot: Some(snapshot),
        ..Order::default()
    })
}

/// Characters of a snapshot that name it.
const SHORTEST: usize = 8;
