//! `replay`: the logged rows again through the logged versions; the answers must have the same bits.

use crate::artifact::Artifact;
use crate::output;
use crate::project::Project;
use crate::windows;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use storage::parquet_log::Columns;
use vocabulary::record::Prediction;
use vocabulary::{Answer, Digest, PredictionId};

#[derive(Serialize)]
struct Replayed {
    replayed: usize,
    same: usize,
    different: Vec<Difference>,
}

#[derive(Serialize)]
struct Difference {
    id: PredictionId,
    version: String,
    logged: Answer,
    again: Answer,
}

pub async fn run(project: &Project, ids: &[String], sample: Option<usize>, seed: u64, json: bool) -> Result<bool> {
    let predictions = match sample {
        Some(count) => choose(project, count, seed)?,
        None => find(project, ids)?,
    };
    let catalog = project.catalog().await?;
    let versions = catalog.versions(None).await?;
    let mut opened: HashMap<Digest, Arc<Artifact>> = HashMap::new();
    let mut result = Replayed { replayed: 0, same: 0, different: Vec::new() };
    for prediction in &predictions {
        let artifact = match opened.entry(prediction.digest) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(place) => {
                let version = versions.iter().find(|version| version.digest == prediction.digest);
                let version = version.with_context(|| {
                    let (id, digest) = (prediction.id, prediction.digest);
                    format!("prediction {id} was given by digest {digest}, which the catalog does not know")
                })?;
                place.insert(Artifact::load(project, version)?)
            }
        };
        let again = once(artifact, prediction)?;
        result.replayed += 1;
        if again.same_bits(&prediction.value) {
            result.same += 1;
        } else {
            let version = format!("{}@{}", prediction.model, prediction.version);
            result.different.push(Difference { id: prediction.id, version, logged: prediction.value.clone(), again });
        }
    }
    output::show(json, &result, || match (predictions.as_slice(), result.different.first()) {
        ([one], None) => format!("{}@{} answers {} again: the same bits", one.model, one.version, shown(&one.value)),
        (_, None) => format!("{} predictions replayed, all with the same bits", result.replayed),
        (_, Some(first)) => format!(
            "{} of {} replayed predictions differ; the first: {} ({}) gave {}, now {}",
            result.different.len(),
            result.replayed,
            first.id,
            first.version,
            shown(&first.logged),
            shown(&first.again)
        ),
    })?;
    Ok(result.different.is_empty())
}

/// As JSON has it.
fn shown(answer: &Answer) -> String {
    serde_json::to_string(answer).unwrap_or_default()
}

fn once(artifact: &Artifact, prediction: &Prediction) -> Result<Answer> {
    let row = serde_json::from_str(&prediction.row).context("the logged row is not JSON")?;
    let batch = artifact.reader.read_with(&[row], features::Strangers::PassOverAll).map_err(|problems| {
        anyhow::anyhow!(
            "the logged row can't be read: {}",
            problems.first().map(ToString::to_string).unwrap_or_default()
        )
    })?;
    let enforced = artifact.enforcer.enforce(&batch, &mut features::Violations::default())?;
    if enforced.batch.num_rows() != 1 {
        bail!("the logged row of {} breaks the contract it was accepted under", prediction.id);
    }
    let looked = [windows::logged(prediction.windows.as_deref())?];
    let batch = windows::attach_logged(&artifact.spec, &enforced.batch, &looked)?;
    artifact.answers(&batch)?.pop().context("the model gave no answer")
}

fn find(project: &Project, ids: &[String]) -> Result<Vec<Prediction>> {
    ids.iter()
        .map(|text| {
            let id: PredictionId = text.parse()?;
            let found = storage::log::find(&project.log_path(), id)?;
            Ok(found.with_context(|| format!("no prediction {id} in the log {}", project.log_path().display()))?.0)
        })
        .collect()
}

/// `count` predictions chosen by hash of their id and the seed: the same ones for the same log and seed.
fn choose(project: &Project, count: usize, seed: u64) -> Result<Vec<Prediction>> {
    let mut all = Vec::new();
    for model in project.models.keys() {
        all.extend(storage::log::read(&project.log_path(), model, Columns::All)?.predictions);
    }
    if all.is_empty() {
        bail!("the log {} holds no predictions yet", project.log_path().display());
    }
    all.sort_by_cached_key(|prediction| Digest::of(format!("{seed}/{}", prediction.id).as_bytes()));
    all.truncate(count);
    Ok(all)
}
