//! What stands between a table and who reads it: the contract is enforced, the whole table is held against it, rows that
//! are set aside are kept for a person, and corrected ones take their place.

use crate::project::Project;
use crate::quarantine::{Aside, Corrections, Quarantine};
use anyhow::{Result, bail};
use arrow::array::RecordBatch;
use features::{Enforced, Enforcer, Observed, Report, Validator};
use inference::section;
use vocabulary::profile::{FeatureReference, Reference};
use vocabulary::{Contract, ModelSpec, Timestamp};

/// A contract made ready for one source.
pub struct Screen {
    validator: Validator,
    enforcer: Enforcer,
    corrections: Corrections,
    quarantine: Option<Quarantine>,
    source: String,
}

/// What a screen saw.
#[derive(Default)]
pub struct Screened {
    pub seen: Observed,
    pub aside: Aside,
}

impl Screen {
    /// For a source of rows of `contract`, which is brought into the project's environment. `registered` is what
    /// distributions are compared with, where the contract does not say; `files` limits the corrections.
    pub fn new(
        project: &Project,
        contract: &Contract,
        registered: &[FeatureReference],
        source: &str,
        files: Option<&[String]>,
    ) -> Result<Screen> {
        let contract = project.in_force(contract);
        let columns: Vec<String> = contract.column_names().map(str::to_owned).collect();
        let enforcer = Enforcer::new(&contract, &columns)?;
        let quarantine = Quarantine::of(project, &contract.name);
        let corrections = quarantine.corrections(&contract, &enforcer, source, &columns, files)?;
        Ok(Screen {
            validator: Validator::new(&contract, registered)?,
            enforcer,
            corrections,
            quarantine: Some(quarantine),
            source: source.to_owned(),
        })
    }

    /// The same, keeping nothing of what is set aside: for rows that were read before.
    pub fn reading_again(self) -> Screen {
        Screen { quarantine: None, ..self }
    }

    /// Without corrections and without a place for what is set aside.
    #[cfg(test)]
    pub fn bare(contract: &Contract) -> Result<Screen> {
        let columns: Vec<String> = contract.column_names().map(str::to_owned).collect();
        Ok(Screen {
            validator: Validator::new(contract, &[])?,
            enforcer: Enforcer::new(contract, &columns)?,
            corrections: Corrections::default(),
            quarantine: None,
            source: String::new(),
        })
    }

    /// The files of corrections that are used.
    pub fn corrections(&self) -> &[String] {
        &self.corrections.files
    }

    /// What the contract leaves of a batch; `place` says where a row of it stands in the source.
    pub fn clean(&self, batch: &RecordBatch, place: &dyn Fn(usize) -> u64) -> Result<Enforced> {
        let enforced = self.enforcer.enforce(batch, &mut features::Violations::default())?;
        Ok(self.corrections.mend(batch, place, enforced)?.0)
    }

    /// The same, counting what is seen and collecting what is set aside.
    pub fn count(
        &self,
        batch: &RecordBatch,
        place: &dyn Fn(usize) -> u64,
        screened: &mut Screened,
    ) -> Result<Enforced> {
        let first = if batch.num_rows() > 0 { place(0) } else { 0 };
        let enforced = self.validator.observe(batch, first, &mut screened.seen)?;
        let (enforced, mended) = self.corrections.mend(batch, place, enforced)?;
        screened.seen.corrected(mended);
        screened.aside.add(batch, place, &enforced.quarantined)?;
        Ok(enforced)
    }

    /// Keeps what was set aside, for a person.
    pub fn keep(&self, aside: Aside) -> Result<()> {
        match &self.quarantine {
            Some(quarantine) => quarantine.keep(&self.source, aside),
            None => Ok(()),
        }
    }

    pub fn report(&self, seen: &Observed, as_of: Option<Timestamp>) -> Report {
        self.validator.report(seen, as_of)
    }

    /// Bad data stop a training before it begins, with the reason.
    pub fn stop_if_bad(&self, spec: &ModelSpec, seen: &Observed, as_of: Option<Timestamp>) -> Result<()> {
        let reasons = self.report(seen, as_of).reasons_to_stop();
        if reasons.is_empty() {
            return Ok(());
        }
        bail!(
            "model \"{}\": its data are not what contract \"{}\" expects, and nothing is learned from them: {}; `homeostat \
             check` shows all; correct the data, or change the expectation or its severity",
            spec.name,
            spec.contract,
            reasons.join("; ")
        );
    }
}

/// What the inputs of the version that is live, or else of the newest, looked like when it was trained.
pub async fn registered(project: &Project, model: &str) -> Result<Vec<FeatureReference>> {
    let wanted = |contract: &Contract| contract.columns.iter().any(|column| column.distribution.is_some());
    let Some(spec) = project.models.get(model).filter(|spec| wanted(project.contract_of(spec))) else {
        return Ok(Vec::new());
    };
    let digest = match project.routing()?.models.get(&spec.name) {
        Some(route) => Some(route.live.digest),
        None => project.catalog().await?.versions(Some(model)).await?.pop().map(|version| version.digest),
    };
    let Some(digest) = digest else { return Ok(Vec::new()) };
    let bundle = project.bundle(&digest)?;
    Ok(bundle.json::<Reference>(section::REFERENCE)?.features)
}
