//! A version to go on from: opened, checked against what is to be trained, brought to its learner. Knows neither how rows
//! are learned from nor what the result is put into.

use crate::error::LearnError;
use crate::split::Split;
use crate::train::ROWS_MIN;
use crate::{linear, network};
use arrow::record_batch::RecordBatch;
use features::{Growth, Pipeline};
use inference::network::{NetworkParts, Place};
use inference::{Bundle, LinearModel, Manifest, Model, NetworkModel, TreesModel, section};
use std::fmt::Display;
use vocabulary::contract::ColumnKind;
use vocabulary::model::{LearnerKind, NetworkSpec};
use vocabulary::{Contract, Digest, ModelSpec, Timestamp};

/// How a manifest says that a version went on from another.
const CONTINUED: &str = "continued from ";

/// A version that a training goes on from, in place of a beginning with nothing learned.
///
/// The pipeline stays the version's own, so that columns mean the same; a network's tables get rows for values that came
/// since, a linear model's table grows to a larger `learner.linear.table_bits`. Trees get `learner.trees.rounds` more at
/// most. A network is first grown to `learner.network`'s hidden layers, cross layers, `embedding_width` and `bins`, with
/// the same answers.
#[derive(Clone, Copy)]
pub struct Start<'a> {
    pub version: &'a Bundle,
    /// Share of each weight that is kept, from 0 to 1 (shrink and perturb: Ash and Adams, NeurIPS 2020). The rest of a
    /// network's is what it would begin with anew, of a linear model's nothing. 1, the usual value, keeps all; trees know
    /// no other. Less helps where there are many new rows and the version was trained to the end on few.
    pub shrink: f64,
}

/// A start, opened and checked.
pub(crate) struct Opened {
    pub digest: Digest,
    pub learner: LearnerKind,
    manifest: Manifest,
    pipeline: Pipeline,
    model: Learned,
    /// Of the network that it was trained by.
    network: NetworkSpec,
    pub shrink: f64,
}

#[expect(clippy::large_enum_variant, reason = "there is one of it in a training")]
enum Learned {
    Linear(LinearModel),
    Trees(TreesModel),
    Network(NetworkParts),
}

impl Opened {
    pub fn new(
        start: &Start,
        spec: &ModelSpec,
        contract: &Contract,
        learner: LearnerKind,
    ) -> Result<Opened, LearnError> {
        let bundle = start.version;
        let manifest: Manifest = bundle.json(section::MANIFEST)?;
        let then: ModelSpec = bundle.json(section::SPEC)?;
        let pipeline: Pipeline = bundle.json(section::PIPELINE)?;
        check_learner(&manifest, learner)?;
        check_task(&manifest, &then, spec)?;
        check_columns(&then, &bundle.json(section::CONTRACT)?, spec, contract)?;
        let (bytes, layout) = (bundle.section(section::MODEL)?, pipeline.layout());
        let model = match manifest.learner.as_str() {
            LinearModel::KIND => Learned::Linear(LinearModel::from_bytes(bytes, layout)?),
            TreesModel::KIND => Learned::Trees(TreesModel::from_bytes(bytes, layout)?),
            _ => Learned::Network(NetworkModel::from_bytes(bytes, layout)?.parts().clone()),
        };
        let learner = match model {
            Learned::Linear(_) => LearnerKind::Linear,
            Learned::Trees(_) => LearnerKind::Trees,
            Learned::Network(_) => LearnerKind::Network,
        };
        if !(0.0..=1.0).contains(&start.shrink) {
            return refuse(format!("{} of its weights cannot be kept; name a share from 0 to 1", start.shrink));
        }
        if learner == LearnerKind::Trees && start.shrink != 1.0 {
            return refuse("trees go on as they are; leave the share to keep at 1".to_owned());
        }
        let (digest, network, shrink) = (bundle.digest(), then.learner.network, start.shrink);
        Ok(Opened { digest, learner, manifest, pipeline, model, network, shrink })
    }

    /// The newest row that it learned from.
    pub fn learned_to(&self) -> Option<Timestamp> {
        self.manifest.time.map(|time| time.last)
    }

    /// The pipeline to go on with, fitted to `rows` as far as it grows.
    pub fn compile(&self, spec: &ModelSpec, batch: &RecordBatch, rows: &[u32]) -> Result<Compiled, LearnError> {
        match &self.model {
            Learned::Trees(_) => Ok(Compiled::unchanged(self.pipeline.clone())),
            Learned::Linear(model) => {
                let (bits, wanted) = (model.layout().table_bits, spec.learner.linear.table_bits);
                if wanted < bits {
                    return refuse(format!(
                        "its table is for learner.linear.table_bits = {bits}; declare that at least"
                    ));
                }
                Ok(Compiled::unchanged(self.pipeline.with_table_bits(wanted)?))
            }
            Learned::Network(parts) => {
                // Ids that share rows of a table have no row to be given a copy of.
                let shares = |table: u32| parts.tables[table as usize].place != Place::Direct;
                let grows = |slot: usize| !parts.slots[slot].is_some_and(shares);
                let vocabulary = &spec.features.vocabulary;
                let known: u64 = self.pipeline.layout().tables.iter().map(|rows| u64::from(*rows)).sum();
                let room = u64::from(vocabulary.rows).saturating_sub(known) as usize;
                let growth = Growth { min_rows: u64::from(vocabulary.min_rows), room, grows: &grows };
                let extended = self.pipeline.extended(batch, rows, &growth)?;
                let added = extended.added(&self.pipeline);
                let note = (added > 0).then(|| format!("{added} values that came since have rows of their own now"));
                Ok(Compiled {
                    pipeline: extended.pipeline,
                    notes: note.into_iter().collect(),
                    origins: extended.origins,
                })
            }
        }
    }

    pub fn linear(&self) -> Option<linear::Start<'_>> {
        let Learned::Linear(model) = &self.model else { return None };
        let seen = self.manifest.rows_learned as f64 * f64::from(self.manifest.rounds.max(1));
        Some(linear::Start { model, seen, shrink: self.shrink })
    }

    pub fn trees(&self) -> Option<&TreesModel> {
        let Learned::Trees(model) = &self.model else { return None };
        Some(model)
    }

    /// `origins` are those of the pipeline that the inputs are made by.
    pub fn network<'a>(&'a self, origins: &'a [Vec<u32>]) -> Option<network::Start<'a>> {
        let Learned::Network(parts) = &self.model else { return None };
        Some(network::Start { parts, spec: &self.network, origins, shrink: self.shrink })
    }

    /// What the manifest says of how the version came to be.
    pub fn made_by(&self, model: &dyn Model, rounds: u32) -> Result<String, LearnError> {
        let mut said = format!("{CONTINUED}{}", self.digest);
        if self.shrink < 1.0 {
            said += &format!(", {} of its weights kept", self.shrink);
        }
        let mut grew = |what: &str, before: &dyn Display, now: &dyn Display| {
            let (before, now) = (before.to_string(), now.to_string());
            if before != now {
                said += &format!(", {what} {before} -> {now}");
            }
        };
        match &self.model {
            Learned::Trees(before) => {
                said += &format!(", {rounds} rounds upon {}", before.booster().num_boost_rounds())
            }
            Learned::Linear(before) => grew("table bits", &before.layout().table_bits, &model.layout().table_bits),
            Learned::Network(before) => {
                let grown = NetworkModel::from_bytes(&model.to_bytes(), model.layout())?;
                let now = grown.parts();
                let hidden = |parts: &NetworkParts| {
                    let units: Vec<String> = parts.hidden.iter().map(|layer| layer.dense.outputs.to_string()).collect();
                    units.join("-")
                };
                let ids = |parts: &NetworkParts| parts.tables.iter().map(|table| u64::from(table.ids)).sum::<u64>();
                grew("hidden", &hidden(before), &hidden(now));
                grew("cross layers", &before.cross.len(), &now.cross.len());
                grew("inputs", &before.width(), &now.width());
                grew("rows of tables", &ids(before), &ids(now));
            }
        }
        Ok(said)
    }

    /// Rows that judge must not have been learned from: where the rows held out are not all newer than what the version
    /// learned, the newer ones alone are held out, in the same proportion. A note says what was done, or what could not
    /// be. `labelled` are the rows with an outcome, oldest first; `times` of all rows.
    pub fn unseen(&self, labelled: &[u32], times: Option<&[Timestamp]>, split: &mut Split) -> Option<String> {
        let held_out = split.validation.len() + split.test.len();
        let Some((times, learned_to)) = times.zip(self.learned_to()) else {
            return Some(
                "the rows have no time: the version that is continued may have learned from those that judge, and then \
                 the metrics are too good"
                    .to_owned(),
            );
        };
        let first_new = labelled.partition_point(|row| times[*row as usize] <= learned_to);
        let unseen = labelled.len() - first_new;
        if unseen >= held_out {
            return None;
        }
        if unseen < 2 * ROWS_MIN {
            return Some(format!(
                "only {unseen} rows are newer than what the version that is continued learned from, too few to judge: \
                 the metrics are of rows that it may know, and too good"
            ));
        }
        let validation = unseen * split.validation.len() / held_out;
        split.train = labelled[..first_new].to_vec();
        split.validation = labelled[first_new..first_new + validation].to_vec();
        split.test = labelled[first_new + validation..].to_vec();
        Some(format!(
            "{unseen} rows are newer than what the version that is continued learned from; they alone choose and judge"
        ))
    }
}

/// A compiled pipeline, what was noticed on the way, and where a grown table's rows come from.
pub(crate) struct Compiled {
    pub pipeline: Pipeline,
    pub notes: Vec<String>,
    /// As [`features::Extended`] has them; empty without a start.
    pub origins: Vec<Vec<u32>>,
}

impl Compiled {
    fn unchanged(pipeline: Pipeline) -> Compiled {
        Compiled { pipeline, notes: Vec::new(), origins: Vec::new() }
    }
}

/// Whether a manifest's `made_by` is of a version that went on from another, which was not made smaller.
pub(crate) fn is_continued(made_by: &str) -> bool {
    made_by.starts_with(CONTINUED)
}

fn refuse<T>(what: String) -> Result<T, LearnError> {
    Err(LearnError::Start { what })
}

fn check_learner(manifest: &Manifest, learner: LearnerKind) -> Result<(), LearnError> {
    if let Some(made_by) = manifest.made_by.as_deref().filter(|made_by| !is_continued(made_by)) {
        return refuse(format!("it was made smaller ({made_by}); name the version that it was made from"));
    }
    let kind = manifest.learner.as_str();
    if ![LinearModel::KIND, TreesModel::KIND, NetworkModel::KIND].contains(&kind) {
        return refuse(format!("its learner is {kind}; name a version of linear, trees or network"));
    }
    if learner != LearnerKind::Auto && learner.name() != kind {
        return refuse(format!(
            "its learner is {kind}, not {}; ask for that learner, or for another version",
            learner.name()
        ));
    }
    Ok(())
}

fn check_task(manifest: &Manifest, then: &ModelSpec, now: &ModelSpec) -> Result<(), LearnError> {
    if (manifest.task, &manifest.target) != (now.task, &now.target) {
        let what = format!(
            "it predicts {} ({}), not {} ({}); name a version of this declaration",
            manifest.target,
            manifest.task.name(),
            now.target,
            now.task.name()
        );
        return refuse(what);
    }
    if then.class_names() != now.class_names() || then.positive != now.positive {
        return refuse("it knows other classes, or they have another order; declare what it was trained by".to_owned());
    }
    Ok(())
}

/// Columns must mean the same: the pipeline goes on.
fn check_columns(then: &ModelSpec, known: &Contract, now: &ModelSpec, contract: &Contract) -> Result<(), LearnError> {
    let columns = |contract: &Contract| -> Vec<(String, ColumnKind)> {
        contract.columns.iter().map(|column| (column.name.clone(), column.kind)).collect()
    };
    let mut features = then.features.clone();
    features.vocabulary = now.features.vocabulary.clone();
    let changed = if columns(known) != columns(contract) {
        "the contract's columns"
    } else if features != now.features {
        "features"
    } else if then.reserved_columns().ne(now.reserved_columns()) {
        "the columns that are no inputs (time, key, outcome_at, weight)"
    } else {
        return Ok(());
    };
    refuse(format!("{changed} changed since it was trained, and it can only go on with what it knows"))
}

#[cfg(test)]
mod tests;
