//! A pass over the rows of a source: read in a thread of its own, a few batches ahead, and labelled.

use super::{RowSource, StreamRequest};
use crate::data;
use crate::error::LearnError;
use crate::train::check_target;
use arrow::record_batch::RecordBatch;
use features::target_values;
use std::ops::ControlFlow;
use std::sync::mpsc::{SyncSender, sync_channel};
use vocabulary::{ModelSpec, Timestamp};

/// Batches that wait for the learner at most.
const READ_AHEAD: usize = 2;

/// Where a pass is: before the row of this place, `rank` rows with an outcome into the data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    pub row: u64,
    pub rank: u64,
}

/// A batch and what is read off it.
pub(super) struct Labelled {
    pub batch: RecordBatch,
    /// NaN where there is none.
    pub target: Vec<f64>,
    pub times: Option<Vec<Timestamp>>,
    /// Each row's own weight, where the declaration names a column.
    pub weights: Option<Vec<f64>>,
    pub at: Cursor,
}

impl Labelled {
    /// The place in the batch of each row with an outcome, with where it is in the data.
    pub fn rows(&self) -> impl Iterator<Item = (u32, Cursor)> + '_ {
        let labelled = self.target.iter().enumerate().filter(|(_, target)| !target.is_nan());
        labelled.enumerate().map(|(rank, (row, _))| {
            (row as u32, Cursor { row: self.at.row + row as u64, rank: self.at.rank + rank as u64 })
        })
    }

    /// Where the next batch begins.
    fn end(&self) -> Cursor {
        let labelled = self.target.iter().filter(|target| !target.is_nan()).count();
        Cursor { row: self.at.row + self.target.len() as u64, rank: self.at.rank + labelled as u64 }
    }
}

/// Shows each batch from `from` on to `see`, until it breaks off.
pub(super) fn read(
    request: &StreamRequest<'_>,
    from: Cursor,
    mut see: impl FnMut(Labelled) -> Result<ControlFlow<()>, LearnError>,
) -> Result<(), LearnError> {
    std::thread::scope(|scope| {
        let (send, receive) = sync_channel(READ_AHEAD);
        scope.spawn(move || fetch(request.source, from.row, &send));
        let (mut at, mut newest) = (from, None);
        for batch in receive {
            let labelled = label_at(request.spec, batch?, at)?;
            if let Some(times) = &labelled.times {
                if newest.is_some_and(|newest| times.first().is_some_and(|first| *first < newest)) {
                    return Err(disorder(request.spec, at.row));
                }
                newest = times.last().copied().or(newest);
            }
            at = labelled.end();
            if see(labelled)?.is_break() {
                break;
            }
        }
        Ok(())
    })
}

/// As [`label`], where errors count rows in the data.
pub(super) fn label_at(spec: &ModelSpec, batch: RecordBatch, at: Cursor) -> Result<Labelled, LearnError> {
    label(spec, batch, at).map_err(|error| counted(error, at.row))
}

/// Sends batches until there are no more, or nobody wants them.
pub(super) fn fetch(source: &dyn RowSource, first: u64, send: &SyncSender<Result<RecordBatch, LearnError>>) {
    match source.pass(first) {
        Ok(batches) => {
            for batch in batches {
                if send.send(batch).is_err() {
                    return;
                }
            }
        }
        // Where nobody listens any more, the pass has failed already.
        Err(error) => drop(send.send(Err(error))),
    }
}

pub(super) fn label(spec: &ModelSpec, batch: RecordBatch, at: Cursor) -> Result<Labelled, LearnError> {
    let target = target_values(spec, &batch)?;
    check_target(spec, &target)?;
    let times = data::times(spec, &batch)?;
    let weights = data::some_weights(spec, &batch)?;
    Ok(Labelled { batch, target, times, weights, at })
}

fn disorder(spec: &ModelSpec, row: u64) -> LearnError {
    LearnError::Time { model: spec.name.clone(), column: spec.time.clone().unwrap_or_default(), row: row as usize }
}

/// Errors count rows in the batch; people count them in the data.
fn counted(mut error: LearnError, before: u64) -> LearnError {
    if let LearnError::Target { row, .. } | LearnError::Time { row, .. } | LearnError::Weight { row, .. } = &mut error {
        *row += before as usize;
    }
    error
}
