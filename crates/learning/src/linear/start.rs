//! Beginning with the weights of a trained model. Knows no version and no pipeline.

use super::learner::{Learner, Rows, Scale};
use super::state::Reader;
use crate::fit::{Goal, Sample};
use inference::{LinearModel, LinearParts, Model};
use vocabulary::inputs::Layout;
use vocabulary::model::LinearSpec;

/// What a fit begins with in place of zeros.
pub(crate) struct Start<'a> {
    pub model: &'a LinearModel,
    /// Rows that it learned from, counted by pass.
    pub seen: f64,
    /// Share of each weight that is kept (Ash and Adams, "On Warm-Starting Neural Network Training", NeurIPS 2020;
    /// without their noise, which a convex loss does not need). 1 keeps all; the bias always stays.
    pub shrink: f64,
}

impl Start<'_> {
    /// The learner as the model left it, where that holds its state; else how sure each weight is is estimated from the
    /// rows at hand. A table of the layout may be larger than the model's: see `features::Pipeline::with_table_bits`.
    pub(super) fn learner(&self, spec: &LinearSpec, goal: Goal, layout: &Layout, sample: &Sample) -> Learner {
        let scale = Scale::of(goal.task, &sample.target);
        let new = || Learner::new(spec, goal, layout, scale, sample.inputs.rows);
        let same = self.shrink == 1.0 && layout.table_bits == self.model.layout().table_bits;
        if let Some(state) = self.model.learner_state().filter(|_| same) {
            let mut learner = new();
            if learner.restore(&mut Reader(state)).is_some() {
                return learner;
            }
        }
        let (learner, outcome) = (new(), scale.outcome(&sample.target));
        let rows = Rows { inputs: &sample.inputs, outcome: &outcome, weights: sample.weights.as_deref() };
        learner.adopt(&self.parts(layout, goal.outputs), rows, self.seen);
        learner
    }

    /// The weights to begin with, as many as the layout has.
    fn parts(&self, layout: &Layout, outputs: usize) -> LinearParts {
        let mut parts = self.model.parts().clone();
        let times = 1usize << layout.table_bits.saturating_sub(self.model.layout().table_bits);
        if times > 1 {
            let places = parts.table.chunks_exact(outputs);
            parts.table = places.flat_map(|place| std::iter::repeat_n(place, times)).flatten().copied().collect();
        }
        parts.dense.iter_mut().for_each(|weight| *weight *= self.shrink);
        parts.table.iter_mut().for_each(|weight| *weight = (f64::from(*weight) * self.shrink) as f32);
        parts
    }
}
