//! A version as it is used: its bundle opened, checked and ready to answer.

use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use features::{Enforcer, Pipeline, RowReader};
use inference::{Bundle, Manifest, Predictor, section};
use std::sync::Arc;
use storage::catalog::Version;
use vocabulary::profile::Reference;
use vocabulary::{Contract, Digest, ModelSpec};

use crate::project::Project;
use crate::transforms::Transforms;

/// A version, opened.
pub struct Artifact {
    pub number: u32,
    pub digest: Digest,
    pub manifest: Manifest,
    pub spec: ModelSpec,
    pub contract: Contract,
    pipeline: Pipeline,
    predictor: Predictor,
    /// Earlier trainings, whose answers are averaged with this one's.
    earlier: Vec<(Pipeline, Predictor)>,
    pub reference: Reference,
    pub enforcer: Enforcer,
    pub reader: RowReader,
    /// The columns that the answers follow from.
    pub inputs: Vec<String>,
    /// The columns that a row may or must bring: the inputs, and time and key.
    pub columns: Vec<String>,
}

impl Artifact {
    /// Opens a bundle; every byte is checked against the digest first.
    pub fn open(number: u32, bytes: &[u8]) -> Result<Artifact> {
        let bundle = Bundle::decode(bytes)?;
        let manifest: Manifest = bundle.json(section::MANIFEST)?;
        let spec: ModelSpec = bundle.json(section::SPEC)?;
        let contract: Contract = bundle.json(section::CONTRACT)?;
        let pipeline: Pipeline = bundle.json(section::PIPELINE)?;
        let reference: Reference = bundle.json(section::REFERENCE)?;
        let predictor = Predictor::load(&bundle)?;
        let earlier = bundle
            .earlier()
            .map(|bundle| {
                let bundle = bundle?;
                Ok((bundle.json::<Pipeline>(section::PIPELINE)?, Predictor::load(&bundle)?))
            })
            .collect::<Result<Vec<_>>>()?;
        let mut inputs = pipeline.input_columns().to_vec();
        for column in earlier.iter().flat_map(|(pipeline, _)| pipeline.input_columns()) {
            if !inputs.contains(column) {
                inputs.push(column.clone());
            }
        }
        let columns = request_columns(&spec, &inputs);
        let enforcer = Enforcer::new(&contract, &columns)?;
        let reader = RowReader::new(&contract, &columns);
        let digest = bundle.digest();
        Ok(Artifact {
            number,
            digest,
            manifest,
            spec,
            contract,
            pipeline,
            predictor,
            earlier,
            reference,
            inputs,
            enforcer,
            reader,
            columns,
        })
    }

    pub fn load(project: &Project, version: &Version) -> Result<Arc<Artifact>> {
        let bytes = project.blobs().get(&version.digest)?;
        let opened =
            Artifact::open(version.number, &bytes).with_context(|| format!("{} can't be used", version.name()))?;
        Ok(Arc::new(opened))
    }

    /// One answer a row: a probability, or the quantity.
    pub fn answer(&self, batch: &RecordBatch) -> Result<Vec<f64>> {
        self.answer_from(&mut Transforms::of(batch))
    }

    /// The same, sharing features with other versions that answer the same batch.
    pub fn answer_from(&self, features: &mut Transforms) -> Result<Vec<f64>> {
        let mut out = Vec::new();
        self.predictor.predict(&*features.by(&self.pipeline)?, &mut out)?;
        if self.earlier.is_empty() {
            return Ok(out);
        }
        let mut other = Vec::with_capacity(out.len());
        for (pipeline, predictor) in &self.earlier {
            predictor.predict(&*features.by(pipeline)?, &mut other)?;
            out.iter_mut().zip(&other).for_each(|(sum, answer)| *sum += answer);
        }
        let count = (self.earlier.len() + 1) as f64;
        out.iter_mut().for_each(|sum| *sum /= count);
        Ok(out)
    }
}

/// Input columns, then time and key where the model declares them.
fn request_columns(spec: &ModelSpec, inputs: &[String]) -> Vec<String> {
    let mut columns = inputs.to_vec();
    for column in [&spec.time, &spec.key].into_iter().flatten() {
        if !columns.contains(column) {
            columns.push(column.clone());
        }
    }
    columns
}
