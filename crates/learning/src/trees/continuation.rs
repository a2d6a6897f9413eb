//! Boosting that goes on from the trees of a stored version, on rows that came since.

use super::boost;
use crate::error::LearnError;
use crate::fit::{Goal, Phase, Progress, Sample, Watch};
use inference::{Link, Model, TreesModel};
use vocabulary::inputs::Inputs;
use vocabulary::model::{LearnerKind, Task, TreesSpec};

/// What a version's trees are to be continued with.
pub struct Continuation<'a> {
    pub spec: &'a TreesSpec,
    pub task: Task,
    /// By the pipeline of the version.
    pub inputs: Inputs,
    /// 0 or 1, the quantity, or the place of the class; one a row.
    pub target: Vec<f64>,
    /// One a row, with mean 1; all rows weigh the same without.
    pub weights: Option<Vec<f32>>,
    /// Rounds more than the version has.
    pub rounds: u32,
    pub seed: u64,
    pub progress: &'a (dyn Fn(Progress) + Sync),
}

/// Goes on from the trees of `start`: the new trees learn on the given rows what the old ones leave. The old trees stay
/// as they are. As many rounds on the very rows of `start`, with its seed and declaration, end with the bytes of a fit
/// of all the rounds.
///
/// Fails where `start` holds no trees, or has another number of outputs or another link than the task.
pub fn continue_trees(start: &dyn Model, more: Continuation) -> Result<Box<dyn Model>, LearnError> {
    let Continuation { spec, task, inputs, target, weights, rounds, seed, progress } = more;
    let watch = Watch { seed, learner: LearnerKind::Trees, phase: Phase::Fit, progress, checkpoints: None };
    let goal = Goal { task, outputs: start.outputs() };
    continue_from(spec, goal, start, Sample { inputs, target, weights }, rounds, &watch)
}

pub(crate) fn continue_from(
    spec: &TreesSpec,
    goal: Goal,
    start: &dyn Model,
    sample: Sample,
    rounds: u32,
    watch: &Watch,
) -> Result<Box<dyn Model>, LearnError> {
    let wrong = |what: String| Err(LearnError::Start { what });
    if start.kind() != TreesModel::KIND {
        return wrong(format!("it is a {} model, not trees", start.kind()));
    }
    let layout = start.layout();
    let first = TreesModel::from_bytes(&start.to_bytes(), layout)?;
    let link = Link::of(goal.task);
    if first.link() != link || first.outputs() != goal.outputs {
        return wrong(format!(
            "its {} outputs with the link {:?} do not fit a {} target of {}",
            first.outputs(),
            first.link(),
            goal.task.name(),
            goal.outputs
        ));
    }
    if sample.inputs.dense_width != layout.dense.len() || sample.target.len() != sample.inputs.rows {
        return wrong(format!(
            "it reads {} columns; {} rows of {} columns with {} outcomes were given",
            layout.dense.len(),
            sample.inputs.rows,
            sample.inputs.dense_width,
            sample.target.len()
        ));
    }
    let booster = boost(spec, goal, layout, sample, Some(first.booster().clone()), rounds, watch)?;
    Ok(Box::new(TreesModel::new(booster, link, layout.clone())?))
}
