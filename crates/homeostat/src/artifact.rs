//! A version as it is used: its bundle opened, checked and ready to answer.

use anyhow::{Context, Result};
use arrow::array::RecordBatch;
use features::{Enforcer, Pipeline, RowReader};
use inference::export::{Export, Exported, InputForm, Member, export_onnx};
use inference::{Bundle, Calibration, Contributions, Manifest, Predictor, section};
use std::sync::Arc;
use storage::catalog::Version;
use vocabulary::profile::Reference;
use vocabulary::tensors::TensorSteps;
use vocabulary::{Answer, Contract, Digest, ModelSpec};

use crate::project::Project;
use crate::transforms::Transforms;

/// What an ONNX file takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnnxInputs {
    /// Raw columns, as far as tensors can express the pipeline.
    Columns,
    /// The model's inputs as matrices `dense` and `slots`.
    Matrices,
}

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
    /// The columns of the contract that the answers follow from, with the keys and the time of window features.
    pub inputs: Vec<String>,
    /// What the answers follow from: the pipelines' own inputs, window features among them.
    pub follows: Vec<String>,
    /// The columns that a row may or must bring: the inputs, and time and key.
    pub columns: Vec<String>,
}

impl Artifact {
    /// Opens a bundle that holds what lies beside it. The project's contract of today teaches the version's own the names
    /// that columns have now, and the project's environment its severities.
    fn open(project: &Project, number: u32, bundle: &Bundle) -> Result<Artifact> {
        let manifest: Manifest = bundle.json(section::MANIFEST)?;
        let spec: ModelSpec = bundle.json(section::SPEC)?;
        let mut contract = project.in_force(&bundle.json::<Contract>(section::CONTRACT)?);
        if let Some(today) = project.contracts.get(&contract.name) {
            contract = contract.taught_by(today);
        }
        let pipeline: Pipeline = bundle.json(section::PIPELINE)?;
        let reference: Reference = bundle.json(section::REFERENCE)?;
        let predictor = Predictor::load(bundle)?;
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
        let follows = inputs.clone();
        let inputs = raw_inputs(&spec, inputs);
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
            follows,
            enforcer,
            reader,
            columns,
        })
    }

    pub fn load(project: &Project, version: &Version) -> Result<Arc<Artifact>> {
        let opened = || Artifact::open(project, version.number, &project.bundle(&version.digest)?);
        Ok(Arc::new(opened().with_context(|| format!("{} can't be used", version.name()))?))
    }

    /// One answer a row.
    pub fn answers(&self, batch: &RecordBatch) -> Result<Vec<Answer>> {
        Ok(Answer::of_rows(&self.answer(batch)?, self.spec.outputs()))
    }

    /// One answer a row, sharing features with other versions that answer the same batch.
    pub fn answers_from(&self, features: &mut Transforms) -> Result<Vec<Answer>> {
        Ok(Answer::of_rows(&self.answer_from(features)?, self.spec.outputs()))
    }

    /// The answer of each row: a probability, the quantity, or, row-major, the probability of each class.
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

impl Artifact {
    /// The pipeline of this training; earlier ones that are averaged in have their own.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// The version as an ONNX file, earlier trainings included.
    pub fn onnx(&self, form: OnnxInputs) -> Result<Exported> {
        let trainings =
            || std::iter::once((&self.pipeline, &self.predictor)).chain(self.earlier.iter().map(|(p, m)| (p, m)));
        let steps: Vec<TensorSteps> = trainings().map(|(pipeline, _)| pipeline.tensor_steps(&self.contract)).collect();
        let inputs = |steps| match form {
            OnnxInputs::Matrices => InputForm::Blocks,
            OnnxInputs::Columns => InputForm::Pipeline(steps),
        };
        let members: Vec<Member> = trainings()
            .zip(&steps)
            .map(|((_, predictor), steps)| Member { predictor, inputs: inputs(steps) })
            .collect();
        Ok(export_onnx(&Export {
            model: &self.spec.name,
            version: &self.digest.to_string(),
            task: self.spec.task,
            target: &self.spec.target,
            classes: &self.spec.class_names(),
            members: &members,
        })?)
    }

    /// This training's own sums, taken apart, and what calibrates them; earlier trainings that are averaged in are not in
    /// it.
    pub fn contributions(&self, batch: &RecordBatch) -> Result<(Contributions, &Calibration)> {
        let inputs = self.pipeline.transform(batch)?;
        Ok((self.predictor.model.contributions(&inputs)?, &self.predictor.calibration))
    }
}

/// What a row must bring for the inputs: window features come from its keys and its time instead.
fn raw_inputs(spec: &ModelSpec, mut inputs: Vec<String>) -> Vec<String> {
    if spec.features.windows.is_empty() {
        return inputs;
    }
    let made: Vec<String> = spec.window_columns().collect();
    inputs.retain(|column| !made.contains(column));
    let keys = spec.features.windows.iter().flat_map(|windows| &windows.key);
    for column in keys.chain(&spec.time) {
        if !inputs.contains(column) {
            inputs.push(column.clone());
        }
    }
    inputs
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
