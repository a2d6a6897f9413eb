//! Embeddings of categories and a tower of dense layers.

use crate::error::LearnError;
use crate::fit::{Goal, Sample, Stopping, Watch};
use inference::Model;
use vocabulary::inputs::Layout;
use vocabulary::model::NetworkSpec;

/// Fits for `epochs`, watching no validation rows.
pub(crate) fn fit(
    spec: &NetworkSpec,
    goal: Goal,
    layout: &Layout,
    sample: &Sample,
    epochs: u32,
    watch: &Watch,
) -> Result<Box<dyn Model>, LearnError> {
    todo!("{spec:?} {goal:?} {layout:?} {} {epochs} {}", sample.target.len(), watch.seed)
}

/// Fits until the loss on the validation rows stops falling.
pub(crate) fn fit_stopping(
    spec: &NetworkSpec,
    goal: Goal,
    layout: &Layout,
    sample: &Sample,
    validation: &Sample,
    watch: &Watch,
) -> Result<Stopping, LearnError> {
    todo!("{spec:?} {goal:?} {layout:?} {} {} {}", sample.target.len(), validation.target.len(), watch.seed)
}
