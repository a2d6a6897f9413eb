//! A version of the `linear` learner that goes on learning from rows that came after it.

use super::reading::{Cursor, label};
use super::survey::Weigher;
use crate::data;
use crate::error::LearnError;
use crate::fit::{Goal, loss};
use crate::linear::{Learner, Reader, Rows, Scale, check};
use crate::metrics::evaluate;
use crate::train::{HeldOut, Trained, loss_reference, loss_scale};
use arrow::record_batch::RecordBatch;
use features::Pipeline;
use inference::{Bundle, Calibration, LinearModel, Manifest, Model, TimeSpan, section};
use vocabulary::model::{LearnerKind, Task};
use vocabulary::profile::Reference;
use vocabulary::{Contract, Digest, Inputs, ModelSpec};

pub struct ContinueRequest<'a> {
    /// Its rates may differ from those that the version learned by; task, target and classes may not.
    pub spec: &'a ModelSpec,
    pub contract: &'a Contract,
    /// A version of the `linear` learner.
    pub version: &'a Bundle,
    /// Rows that the version has not learned from: canonical, contract enforced, sorted by the time column where there is
    /// one.
    pub rows: &'a RecordBatch,
    /// Version of the program, for lineage.
    pub program: &'a str,
}

/// Learns from new rows, once and in their order, with the version's own pipeline. Each row is predicted before it is
/// learned, and these predictions are what the metrics and the reference's loss are of. Calibration and the reference's
/// counts stay the version's own.
///
/// With the learner's state in the version (`learner.linear.keep_state`) it goes on as if it had never stopped. Without,
/// how sure each weight is is estimated from the new rows, as if those learned before had been like them.
pub fn continue_linear(request: &ContinueRequest) -> Result<Trained, LearnError> {
    let ContinueRequest { spec, contract, version, rows, program } = *request;
    let before: Manifest = version.json(section::MANIFEST)?;
    check_version(spec, &before)?;
    let pipeline = Pipeline::from_json(version.section(section::PIPELINE)?)?;
    let model = LinearModel::from_bytes(version.section(section::MODEL)?, pipeline.layout())?;
    let calibration: Calibration = version.json(section::CALIBRATION)?;
    let mut reference: Reference = version.json(section::REFERENCE)?;

    let batch = label(spec, rows.clone(), Cursor::default())?;
    let labelled: Vec<u32> = batch.rows().map(|(row, _)| row).collect();
    if labelled.is_empty() {
        let (model, target) = (spec.name.clone(), spec.target.clone());
        return Err(LearnError::NoOutcome { model, target, rows: batch.target.len() });
    }
    let outcome: Vec<f64> = labelled.iter().map(|row| batch.target[*row as usize]).collect();
    let weights = Weigher::of(spec, &batch, &labelled)?.weights(&batch, &labelled);
    let inputs = pipeline.transform(&data::select(rows, &labelled)?)?;
    check(&inputs, pipeline.layout())?;

    let learner = resume(spec, &before, &model, &outcome, &inputs, weights.as_deref())?;
    let own = learner.scale().outcome(&outcome);
    let mut predicted = learner.follow(Rows { inputs: &inputs, outcome: &own, weights: weights.as_deref() })?;
    let tried = vec![(LearnerKind::Linear, loss(spec.task, &predicted, &outcome))];
    predicted.chunks_exact_mut(spec.outputs()).for_each(|row| calibration.apply_row(row));
    let metrics = evaluate(spec.task, &predicted, &outcome, spec.objective.threshold);
    let scale = match (spec.task, reference.loss) {
        (Task::Regression, None) => loss_scale(outcome.clone()),
        (_, known) => known.map_or(1.0, |loss| loss.scale),
    };
    reference.loss = Some(loss_reference(spec, scale, &predicted, &outcome));

    let keep = spec.learner.linear.keep_state || model.learner_state().is_some();
    let model = learner.model(pipeline.layout())?;
    let model = if keep { model.with_learner_state(learner.state()) } else { model };
    let newest = batch.times.as_ref().and_then(|times| labelled.last().map(|row| times[*row as usize]));
    let manifest = Manifest {
        data: data::digest(rows)?,
        rows: outcome.len() as u64,
        rows_without_outcome: (batch.target.len() - outcome.len()) as u64,
        rows_learned: before.rows_learned + outcome.len() as u64,
        rows_tested: outcome.len() as u64,
        refitted_on_all: true,
        time: before.time.zip(newest).map(|(span, last)| TimeSpan { first: span.first, last: last.max(span.last) }),
        parent: Some(version.digest()),
        averaged_with: Vec::new(),
        program: program.to_owned(),
        metrics: metrics.clone(),
        ..before
    };
    let sections = [
        Bundle::json_section(section::MANIFEST, &manifest)?,
        Bundle::json_section(section::CONTRACT, contract)?,
        Bundle::json_section(section::SPEC, spec)?,
        (section::PIPELINE.to_owned(), pipeline.to_json()),
        (section::MODEL.to_owned(), model.to_bytes()),
        Bundle::json_section(section::CALIBRATION, &calibration)?,
        Bundle::json_section(section::REFERENCE, &reference)?,
    ];
    let bundle = Bundle::new(sections.into())?;
    let encoded = bundle.encode();
    let (digest, learner) = (Digest::of(&encoded), LearnerKind::Linear);
    Ok(Trained {
        digest,
        bundle,
        encoded,
        manifest,
        metrics,
        measured: None,
        held_out: HeldOut::default(),
        learner,
        tried,
        notes: Vec::new(),
    })
}

fn check_version(spec: &ModelSpec, before: &Manifest) -> Result<(), LearnError> {
    let refuse = |what: String| Err(LearnError::Continue { model: spec.name.clone(), what });
    if before.learner != LinearModel::KIND {
        return refuse(format!("its learner is {}, and only linear ones learn from new rows alone", before.learner));
    }
    if before.task != spec.task || before.target != spec.target {
        let (then, now) = (before.task.name(), spec.task.name());
        return refuse(format!("it predicts {} ({then}), not {} ({now})", before.target, spec.target));
    }
    Ok(())
}

/// The learner as the version left it.
fn resume(
    spec: &ModelSpec,
    before: &Manifest,
    model: &LinearModel,
    outcome: &[f64],
    inputs: &Inputs,
    weights: Option<&[f32]>,
) -> Result<Learner, LearnError> {
    let goal = Goal::of(spec);
    if model.outputs() != goal.outputs {
        let what = format!("it has {} classes, the declaration {}", model.outputs(), goal.outputs);
        return Err(LearnError::Continue { model: spec.name.clone(), what });
    }
    let scale = Scale::of(spec.task, outcome);
    let mut learner = Learner::new(&spec.learner.linear, goal, model.layout(), scale, outcome.len());
    match model.learner_state() {
        Some(state) => learner.restore(&mut Reader(state)).ok_or_else(|| LearnError::Continue {
            model: spec.name.clone(),
            what: "its learner's state is of another learner.linear.method, or damaged".to_owned(),
        })?,
        None => {
            let own = scale.outcome(outcome);
            let rows = Rows { inputs, outcome: &own, weights };
            learner.adopt(model.parts(), rows, before.rows_learned as f64 * f64::from(before.rounds.max(1)));
        }
    }
    Ok(learner)
}
