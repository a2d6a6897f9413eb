//! Accuracy against cost: versions with the best columns alone.

use super::{CurvePoint, Proposal, RankedColumn, SelectRequest, SelectStage, only, report, with_job};
use crate::data;
use crate::error::LearnError;
use std::time::Instant;
use vocabulary::ModelSpec;
use vocabulary::model::LearnerKind;

/// Times that the validation rows are scored; the median counts.
const TIMED: usize = 3;

/// The curve, and the fewest columns on it that lose no more than the tolerance.
pub(super) fn draw(
    request: &SelectRequest,
    learner: LearnerKind,
    all: &[String],
    ranked: &[RankedColumn],
) -> Result<(Vec<CurvePoint>, Proposal), LearnError> {
    let kept = ranked.iter().filter(|column| column.kept).count();
    let sizes = sizes(request, kept, all.len());
    let features = |size: usize| {
        let best: Vec<String> = ranked.iter().take(size).map(|column| column.name.clone()).collect();
        // All columns are the declaration as it stands.
        if size == all.len() { request.spec.features.clone() } else { only(request.spec, all, &best) }
    };
    let mut curve = Vec::with_capacity(sizes.len());
    for (done, size) in sizes.iter().enumerate() {
        let spec = ModelSpec { features: features(*size), ..request.spec.clone() };
        curve.push(with_job(request, learner, &spec, |job| point(request, job, learner, *size))?);
        report(request, SelectStage::Curve, done + 1, sizes.len());
    }
    let loss_of_all = curve.last().map_or(f64::NAN, |point| point.loss);
    let most = loss_of_all + request.tolerance.max(0.0) * loss_of_all.abs();
    let best = curve.iter().find(|point| point.loss <= most).or(curve.last());
    let size = best.map_or(all.len(), |point| point.columns);
    let features = features(size);
    let columns = ranked.iter().take(size).map(|column| column.name.clone()).collect();
    let proposal = Proposal { columns, features, loss: best.map_or(loss_of_all, |point| point.loss), loss_of_all };
    Ok((curve, proposal))
}

/// Ascending; the kept columns and all columns are among them.
fn sizes(request: &SelectRequest, kept: usize, all: usize) -> Vec<usize> {
    let mut sizes = request.sizes.clone();
    if sizes.is_empty() {
        sizes.extend(std::iter::successors(Some(1), |size| Some(size * 2)).take_while(|size| *size < kept.max(2)));
    }
    sizes.extend([kept, all]);
    sizes.retain(|size| (1..=all).contains(size));
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

fn point(
    request: &SelectRequest,
    job: &crate::train::Job,
    learner: LearnerKind,
    columns: usize,
) -> Result<CurvePoint, LearnError> {
    let found = job.try_learner(learner)?;
    let rounds = found.stopping.rounds;
    let model = job.fit_rounds_on_train(learner, &found.pipeline, rounds)?;
    let validation = data::select(request.rows, &job.split.validation)?;
    let mut scores = Vec::new();
    let mut seconds = [0.0; TIMED];
    for seconds in &mut seconds {
        let begun = Instant::now();
        model.predict(&found.pipeline.transform(&validation)?, &mut scores)?;
        *seconds = begun.elapsed().as_secs_f64();
    }
    seconds.sort_unstable_by(f64::total_cmp);
    let seconds = seconds[TIMED / 2];
    Ok(CurvePoint {
        columns,
        loss: found.loss,
        seconds_per_1000_rows: seconds * 1000.0 / validation.num_rows().max(1) as f64,
        model_bytes: model.to_bytes().len() + found.pipeline.to_json().len(),
        rounds,
    })
}
