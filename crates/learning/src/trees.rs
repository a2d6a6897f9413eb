//! Gradient-boosted trees by hessboost: histograms, leaf-wise growth, early stopping.

use crate::error::LearnError;
use crate::fit::{Goal, Sample, Stopping, Watch};
use hessboost::config::{GrowPolicy, TrainingParams, TreeMethod};
use hessboost::data::{DMatrix, FeatureType};
use hessboost::metric::EvalMetric;
use hessboost::model::Iterations;
use hessboost::objective::{Objective, RegLoss};
use hessboost::training::Trainer;
use inference::{Link, Model, TreesModel};
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use vocabulary::inputs::Layout;
use vocabulary::model::{Task, TreesSpec};

/// Fits for `rounds`, watching no validation rows.
pub(crate) fn fit(
    spec: &TreesSpec,
    goal: Goal,
    layout: &Layout,
    sample: Sample,
    rounds: u32,
    watch: &Watch,
) -> Result<Box<dyn Model>, LearnError> {
    let params = params(spec, goal.task, &sample, watch.seed)?;
    let matrix = matrix(layout, sample)?;
    let trainer = Trainer::new(&params, &matrix, rounds as usize).on_round(|round| {
        watch.step(round.iteration() as u64 + 1, u64::from(rounds), None);
        ControlFlow::Continue(())
    });
    let model = trainer.train()?.model;
    Ok(Box::new(TreesModel::new(model, Link::of(goal.task), layout.clone())?))
}

/// Fits until the loss on the validation rows stops falling.
pub(crate) fn fit_stopping(
    spec: &TreesSpec,
    goal: Goal,
    layout: &Layout,
    sample: Sample,
    validation: Sample,
    watch: &Watch,
) -> Result<Stopping, LearnError> {
    let params = params(spec, goal.task, &sample, watch.seed)?;
    let matrix_of = |sample| matrix(layout, sample);
    let (train, valid) = (matrix_of(sample)?, matrix_of(validation)?);
    let total = u64::from(spec.rounds);
    let mut trainer =
        Trainer::new(&params, &train, spec.rounds as usize).eval(&valid, "validation").on_round(|round| {
            watch.step(round.iteration() as u64 + 1, total, round.values().last().copied());
            ControlFlow::Continue(())
        });
    if let Some(patience) = NonZeroUsize::new(spec.patience as usize) {
        trainer = trainer.early_stopping_rounds(patience);
    }
    let trained = trainer.train()?;
    let model = trained.model;
    let rounds = model.best_iteration().map_or(model.num_boost_rounds(), |best| best + 1);
    let margins = model.predict_margin(&valid, Iterations::Best)?;
    let link = Link::of(goal.task);
    let scores = margins.as_slice().iter().map(|&margin| link.apply(f64::from(margin))).collect();
    Ok(Stopping { rounds: rounds as u32, scores, notes: Vec::new() })
}

fn params(spec: &TreesSpec, task: Task, sample: &Sample, seed: u64) -> Result<TrainingParams, LearnError> {
    let (objective, metric) = match task {
        Task::Binary => (Objective::BinaryLogistic(RegLoss::default()), EvalMetric::LogLoss),
        Task::Regression | Task::Multiclass => (Objective::SquaredError(RegLoss::default()), EvalMetric::Rmse),
    };
    let params = TrainingParams::builder()
        .objective(objective)
        .eval_metric(metric)
        .tree_method(TreeMethod::Hist)
        .grow_policy(GrowPolicy::LossGuide)
        .unlimited_depth()
        .max_leaves(spec.leaves.max(2) as usize)
        .eta(spec.learning_rate)
        .lambda(spec.l2)
        .min_child_weight(f64::from(spec.min_rows) * curvature(task, sample))
        .colsample_bytree(spec.column_share)
        .subsample(spec.row_share)
        .seed(seed)
        .build()?;
    Ok(params)
}

/// Second derivative of the loss of an average row before boosting: `min_rows` such rows are what a leaf must hold. For
/// a probability that is the variance of the outcome, so that where outcomes are all but certain a leaf needs more rows.
fn curvature(task: Task, sample: &Sample) -> f64 {
    match task {
        Task::Regression | Task::Multiclass => 1.0,
        Task::Binary => {
            let rate = sample.target.iter().sum::<f64>() / sample.target.len() as f64;
            rate * (1.0 - rate)
        }
    }
}

fn matrix(layout: &Layout, sample: Sample) -> Result<DMatrix, LearnError> {
    let labels: Vec<f32> = sample.target.iter().map(|y| *y as f32).collect();
    let types: Vec<FeatureType> = layout
        .dense
        .iter()
        .map(|column| if column.categorical { FeatureType::Categorical } else { FeatureType::Numerical })
        .collect();
    let inputs = sample.inputs;
    let matrix = DMatrix::from_dense_vec(inputs.dense, inputs.rows, inputs.dense_width)?
        .with_labels(&labels)?
        .with_feature_types(&types)?;
    match sample.weights {
        Some(weights) => Ok(matrix.with_weights(&weights)?),
        None => Ok(matrix),
    }
}
