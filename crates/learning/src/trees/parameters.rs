//! From the declaration and the rows to what hessboost takes.

use crate::error::LearnError;
use crate::fit::{Goal, Sample};
use hessboost::config::{GrowPolicy, Monotone, SamplingMethod, TrainingParams, TreeMethod};
use hessboost::data::{DMatrix, FeatureType};
use hessboost::metric::EvalMetric;
use hessboost::objective::{Multiclass, Objective, RegLoss};
use vocabulary::inputs::Layout;
use vocabulary::model::{RowSampling, Task, TreesSpec};
use vocabulary::suggest;

pub(super) fn parameters(
    spec: &TreesSpec,
    goal: Goal,
    layout: &Layout,
    sample: &Sample,
    seed: u64,
) -> Result<TrainingParams, LearnError> {
    let (objective, metric) = match goal.task {
        Task::Binary => (Objective::BinaryLogistic(RegLoss::default()), EvalMetric::LogLoss),
        Task::Regression => (Objective::SquaredError(RegLoss::default()), EvalMetric::Rmse),
        Task::Multiclass => (Objective::Softprob(Multiclass::new(goal.outputs)?), EvalMetric::MLogLoss),
    };
    let builder = TrainingParams::builder()
        .objective(objective)
        .eval_metric(metric)
        .tree_method(TreeMethod::Hist)
        .grow_policy(GrowPolicy::LossGuide)
        .max_leaves(spec.leaves.max(2) as usize)
        .eta(spec.learning_rate)
        .alpha(spec.l1)
        .lambda(spec.l2)
        .gamma(spec.min_gain)
        .path_smooth(spec.smoothing)
        .max_bin(spec.max_bins as usize)
        .min_child_weight(f64::from(spec.min_rows) * curvature(goal, sample))
        .monotone_constraints(directions(spec, layout)?)
        .colsample_bytree(spec.column_share)
        .colsample_bynode(spec.node_column_share)
        .subsample(spec.row_share)
        .sampling_method(match spec.row_sampling {
            RowSampling::Uniform => SamplingMethod::Uniform,
            RowSampling::Gradient => SamplingMethod::GradientBased,
        })
        .seed(seed);
    let builder = match spec.depth {
        0 => builder.unlimited_depth(),
        depth => builder.max_depth(depth as usize),
    };
    Ok(builder.build()?)
}

/// The constraint of each column; none at all where nothing is declared.
fn directions(spec: &TreesSpec, layout: &Layout) -> Result<Vec<Monotone>, LearnError> {
    if spec.monotone.is_empty() {
        return Ok(Vec::new());
    }
    let mut directions = vec![Monotone::None; layout.dense.len()];
    for (name, direction) in &spec.monotone {
        let Some(place) = layout.dense.iter().position(|column| column.name == *name) else {
            let hint = suggest::hint(name, layout.dense.iter().map(|column| column.name.as_str()));
            return Err(LearnError::Monotone {
                column: name.clone(),
                what: format!("is no column that the trees see{hint}"),
            });
        };
        if layout.dense[place].categorical {
            let what = "is a category, which has no order; take it out, or name it in features.target_mean".to_owned();
            return Err(LearnError::Monotone { column: name.clone(), what });
        }
        directions[place] = if *direction > 0 { Monotone::Increasing } else { Monotone::Decreasing };
    }
    Ok(directions)
}

/// Second derivative of the loss of an average row before boosting: `min_rows` such rows are what a leaf must hold. For
/// a probability that is the variance of the outcome, so that where outcomes are all but certain a leaf needs more rows.
/// Rows count by their weight, as in hessboost's sums. Of several classes it is the mean, doubled as hessboost doubles
/// it.
fn curvature(goal: Goal, sample: &Sample) -> f64 {
    if goal.task == Task::Regression {
        return 1.0;
    }
    let mut weights = vec![0.0; goal.outputs.max(2)];
    for (row, class) in sample.target.iter().enumerate() {
        weights[*class as usize] += sample.weights.as_ref().map_or(1.0, |weights| f64::from(weights[row]));
    }
    let all = weights.iter().sum::<f64>();
    let variance = |weight: f64| weight / all * (1.0 - weight / all);
    match goal.task {
        Task::Multiclass => 2.0 * weights.iter().map(|weight| variance(*weight)).sum::<f64>() / goal.outputs as f64,
        _ => variance(weights[1]),
    }
}

pub(super) fn matrix(layout: &Layout, sample: Sample) -> Result<DMatrix, LearnError> {
    let inputs = sample.inputs;
    if let Some(at) = inputs.dense.iter().position(|value| value.is_infinite()) {
        let (row, column) = (at / inputs.dense_width, layout.dense[at % inputs.dense_width].name.clone());
        return Err(LearnError::Infinite { column, row });
    }
    let labels: Vec<f32> = sample.target.iter().map(|y| *y as f32).collect();
    let types: Vec<FeatureType> = layout
        .dense
        .iter()
        .map(|column| if column.categorical { FeatureType::Categorical } else { FeatureType::Numerical })
        .collect();
    let matrix = DMatrix::from_dense_vec(inputs.dense, inputs.rows, inputs.dense_width)?
        .with_labels(&labels)?
        .with_feature_types(&types)?;
    match sample.weights {
        Some(weights) => Ok(matrix.with_weights(&weights)?),
        None => Ok(matrix),
    }
}
