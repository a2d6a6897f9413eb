//! A declared model's version on its lane: rows of several requests are scored as one batch.

use super::answers::Memories;
use crate::artifact::Artifact;
use crate::transforms::{Transforms, Worked};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use inference::RunError;
use serving::lane::{Execute, Lane};
use std::sync::Arc;
use std::time::Duration;

/// Rows of a batch at most.
const BATCH_ROWS_MAX: usize = 1024;

pub struct Scoring {
    pub artifact: Arc<Artifact>,
    pub memories: Arc<Memories>,
    pub worked: Arc<Worked>,
}

pub type ScoringLane = Lane<Scoring>;

impl Scoring {
    pub fn lane(self, batching: bool, time_max: Duration) -> Arc<ScoringLane> {
        Lane::new(self, batching, BATCH_ROWS_MAX, time_max)
    }

    fn answer(&self, batch: &RecordBatch) -> anyhow::Result<Vec<f64>> {
        self.artifact.answer_from(&mut Transforms::cached(batch, &self.memories.features, &self.worked))
    }

    fn alone(&self, batch: &RecordBatch) -> Result<Vec<f64>, RunError> {
        self.answer(batch).map_err(|error| RunError::Model(format!("{error:#}")))
    }
}

impl Execute for Scoring {
    type Input = RecordBatch;
    type Output = Vec<f64>;

    fn execute(&self, parts: &[&RecordBatch]) -> Vec<Result<Vec<f64>, RunError>> {
        if let [first, _, ..] = parts
            && let Ok(joined) = concat_batches(&first.schema(), parts.iter().copied())
            && let Ok(values) = self.answer(&joined)
        {
            let mut rest = values.as_slice();
            let part = |batch: &&RecordBatch| {
                let (mine, others) = rest.split_at(batch.num_rows());
                rest = others;
                Ok(mine.to_vec())
            };
            return parts.iter().map(part).collect();
        }
        parts.iter().map(|batch| self.alone(batch)).collect()
    }
}
