//! Rows of a part as inputs, in chunks of a fixed number of rows however the source cuts its batches. While a chunk is
//! learned, the next one is transformed and the batches after it are read.

use super::StreamRequest;
use super::reading::{Cursor, Labelled, read};
use super::survey::Weigher;
use crate::data::select;
use crate::error::LearnError;
use arrow::record_batch::RecordBatch;
use features::Pipeline;
use rayon::prelude::*;
use std::ops::ControlFlow;
use vocabulary::Inputs;

/// Rows of a chunk: what is shuffled together. Some tens of megabytes of raw columns and inputs.
pub(super) const CHUNK_ROWS: usize = 1 << 16;

/// Rows that one thread transforms at a time.
const SLICE_ROWS: usize = 4096;

/// Rows of a part, ready to be learned.
pub(super) struct Chunk {
    pub inputs: Inputs,
    pub target: Vec<f64>,
    pub weights: Option<Vec<f32>>,
    /// After its last row.
    pub next: Cursor,
}

/// Which rows to show, and where they lie.
pub(super) struct Selection<'a> {
    pub from: Cursor,
    /// No row from this place on is wanted.
    pub end: u64,
    pub wanted: &'a (dyn Fn(Cursor) -> bool + Sync),
}

#[derive(Default)]
struct Raw {
    pieces: Vec<RecordBatch>,
    target: Vec<f64>,
    weights: Option<Vec<f32>>,
    next: Cursor,
}

impl Raw {
    fn transform(&self, pipeline: &Pipeline) -> Result<Inputs, LearnError> {
        let slices: Vec<RecordBatch> = self
            .pieces
            .iter()
            .flat_map(|piece| {
                let rows = piece.num_rows();
                (0..rows).step_by(SLICE_ROWS).map(move |at| piece.slice(at, SLICE_ROWS.min(rows - at)))
            })
            .collect();
        let parts: Vec<Inputs> = slices.par_iter().map(|slice| pipeline.transform(slice)).collect::<Result<_, _>>()?;
        let mut whole = Inputs {
            dense_width: pipeline.layout().dense.len(),
            slot_width: pipeline.layout().slots.len(),
            ..Inputs::default()
        };
        for part in parts {
            whole.rows += part.rows;
            whole.dense.extend(part.dense);
            whole.slots.extend(part.slots);
        }
        Ok(whole)
    }
}

/// What is done with each chunk.
pub(super) type Consume<'a> = dyn FnMut(Chunk) -> Result<(), LearnError> + Send + 'a;

struct Conveyor<'a> {
    pipeline: &'a Pipeline,
    consume: &'a mut Consume<'a>,
    gathered: Raw,
    ready: Option<Chunk>,
}

impl Conveyor<'_> {
    /// Takes wanted rows of a batch, and passes chunks on as they become full.
    fn take(&mut self, batch: &Labelled, wanted: &[(u32, Cursor)], weigher: &Weigher) -> Result<(), LearnError> {
        let mut rest = wanted;
        while !rest.is_empty() {
            let (now, later) = rest.split_at(rest.len().min(CHUNK_ROWS - self.gathered.target.len()));
            let rows: Vec<u32> = now.iter().map(|(row, _)| *row).collect();
            self.gathered.pieces.push(select(&batch.batch, &rows)?);
            self.gathered.target.extend(rows.iter().map(|row| batch.target[*row as usize]));
            if let Some(weights) = weigher.weights(batch, &rows) {
                self.gathered.weights.get_or_insert_default().extend(weights);
            }
            if let Some((_, last)) = now.last() {
                self.gathered.next = Cursor { row: last.row + 1, rank: last.rank + 1 };
            }
            if self.gathered.target.len() == CHUNK_ROWS {
                self.advance()?;
            }
            rest = later;
        }
        Ok(())
    }

    /// Transforms what was gathered while the chunk before it is consumed.
    fn advance(&mut self) -> Result<(), LearnError> {
        let raw = std::mem::take(&mut self.gathered);
        let (pipeline, before, consume) = (self.pipeline, self.ready.take(), &mut *self.consume);
        let (consumed, inputs) = rayon::join(move || before.map_or(Ok(()), consume), || raw.transform(pipeline));
        consumed?;
        let Raw { target, weights, next, .. } = raw;
        self.ready = Some(Chunk { inputs: inputs?, target, weights, next });
        Ok(())
    }
}

/// Shows the wanted rows to `consume`, chunk by chunk. A pass that begins where another's chunk ended has the chunks
/// that the other had after it.
pub(super) fn each_chunk<'a>(
    request: &StreamRequest<'_>,
    selection: &Selection<'_>,
    pipeline: &'a Pipeline,
    weigher: &Weigher,
    consume: &'a mut Consume<'a>,
) -> Result<(), LearnError> {
    let mut conveyor = Conveyor { pipeline, consume, gathered: Raw::default(), ready: None };
    read(request, selection.from, |batch| {
        let wanted: Vec<(u32, Cursor)> =
            batch.rows().filter(|(_, at)| at.row < selection.end && (selection.wanted)(*at)).collect();
        conveyor.take(&batch, &wanted, weigher)?;
        let over = batch.at.row + batch.target.len() as u64 >= selection.end;
        Ok(if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    if !conveyor.gathered.target.is_empty() {
        conveyor.advance()?;
    }
    conveyor.ready.take().map_or(Ok(()), &mut *conveyor.consume)
}
