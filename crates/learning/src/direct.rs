//! A fit on model inputs that are there already: what measures a learner alone needs it, and who makes inputs by other
//! means. Knows no pipeline, split, early stopping or calibration.

use crate::error::LearnError;
use crate::fit::{Goal, Phase, Progress, Sample, Watch};
use crate::{linear, network, trees};
use inference::Model;
use vocabulary::Inputs;
use vocabulary::inputs::Layout;
use vocabulary::model::{LearnerKind, LearnerSpec, Task};

pub struct DirectFit<'a> {
    /// Its kind says which learner; `auto` is refused, for it needs validation rows.
    pub learner: &'a LearnerSpec,
    pub task: Task,
    /// Numbers that the model gives a row: one, or one for each class.
    pub outputs: usize,
    pub layout: &'a Layout,
    pub inputs: Inputs,
    /// One a row: 0 or 1, the quantity, or the place of the class.
    pub target: Vec<f64>,
    /// Boosting rounds, or passes over the rows.
    pub rounds: u32,
    pub seed: u64,
    /// Threads to use; the result does not depend on it.
    pub threads: usize,
    pub progress: &'a (dyn Fn(Progress) + Sync),
}

/// Fits for exactly `rounds`.
pub fn fit_inputs(request: DirectFit) -> Result<Box<dyn Model>, LearnError> {
    let DirectFit { learner, layout, rounds, .. } = request;
    let Inputs { rows, dense_width, slot_width, .. } = request.inputs;
    if (rows, dense_width, slot_width) != (request.target.len(), layout.dense.len(), layout.slots.len()) {
        return Err(LearnError::Direct(format!(
            "inputs of {rows} rows with {dense_width} dense columns and {slot_width} slots do not fit {} outcomes and a \
             layout of {} and {}",
            request.target.len(),
            layout.dense.len(),
            layout.slots.len()
        )));
    }
    let goal = Goal { task: request.task, outputs: request.outputs };
    let sample = Sample { inputs: request.inputs, target: request.target, weights: None };
    let watch = Watch {
        seed: request.seed,
        learner: learner.kind,
        phase: Phase::Fit,
        progress: request.progress,
        checkpoints: None,
    };
    let threads = request.threads.max(1);
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    pool.map_err(|error| LearnError::Threads(threads, error))?.install(|| match learner.kind {
        LearnerKind::Linear => linear::fit(&learner.linear, goal, layout, &sample, rounds, &watch),
        LearnerKind::Trees => trees::fit(&learner.trees, goal, layout, sample, rounds, &watch),
        LearnerKind::Network => network::fit(&learner.network, goal, layout, &sample, rounds, &watch),
        LearnerKind::Auto => Err(LearnError::Direct(
            "\"auto\" chooses by validation rows, and a fit on inputs has none; name one learner".to_owned(),
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fit::log_loss;
    use vocabulary::inputs::DenseColumn;

    fn layout() -> Layout {
        let dense = vec![DenseColumn { name: "wind".to_owned(), categorical: false }];
        Layout { dense, slots: vec!["carrier".to_owned()], table_bits: 8, tables: Vec::new() }
    }

    /// The outcome is the first bit of the carrier.
    fn inputs(rows: usize) -> (Inputs, Vec<f64>) {
        let slots: Vec<u32> = (0..rows as u32).map(|row| row.wrapping_mul(2_654_435_761) >> 28).collect();
        let target = slots.iter().map(|slot| f64::from(slot & 1)).collect();
        let dense = (0..rows).map(|row| (row % 7) as f32 - 3.0).collect();
        (Inputs { rows, dense_width: 1, dense, slot_width: 1, slots }, target)
    }

    fn fit(kind: LearnerKind, threads: usize, outcomes: usize) -> Result<Box<dyn Model>, LearnError> {
        let (inputs, target) = inputs(4000);
        let learner = LearnerSpec { kind, ..LearnerSpec::default() };
        fit_inputs(DirectFit {
            learner: &learner,
            task: Task::Binary,
            outputs: 1,
            layout: &layout(),
            inputs,
            target: target[..outcomes].to_vec(),
            rounds: 8,
            seed: 1,
            threads,
            progress: &|_| {},
        })
    }

    #[test]
    fn inputs_are_learned_from_as_they_are_and_alike_on_any_number_of_threads() {
        let model = fit(LearnerKind::Linear, 1, 4000).unwrap();
        let (inputs, target) = inputs(4000);
        let mut scores = Vec::new();
        model.predict(&inputs, &mut scores).unwrap();
        let loss = scores.iter().zip(&target).map(|(p, y)| log_loss(*p, *y)).sum::<f64>() / 4000.0;
        assert!(loss < 0.3, "the carrier tells the outcome: {loss}");
        assert_eq!(fit(LearnerKind::Linear, 2, 4000).unwrap().to_bytes(), model.to_bytes());
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let refused = |kind, outcomes| fit(kind, 1, outcomes).err().unwrap().to_string();
        assert!(refused(LearnerKind::Linear, 3999).contains("4000 rows"));
        assert!(refused(LearnerKind::Auto, 4000).contains("name one learner"));
    }
}
