//! Target means without leakage, for the rows that are learned from.

use super::TrainingOrder;
use super::program::{Op, Program};
use crate::FeatureError;
use crate::columns::{Values, column_index};
use crate::hash::finish;
use arrow::record_batch::RecordBatch;
use vocabulary::contract::ColumnKind;
use vocabulary::inputs::Inputs;

/// Puts, for each row, the mean of the targets that were known before it in place of the final mean. Counts stay as
/// they are: they do not depend on the target, and at serving they are the final ones too.
pub(super) fn replace_means(
    program: &Program,
    order: &TrainingOrder,
    columns: &[Values<'_>],
    batch: &RecordBatch,
    target: &[f64],
    seed: u64,
    inputs: &mut Inputs,
) -> Result<(), FeatureError> {
    if !program.learns_from_targets() {
        return Ok(());
    }
    let schedule = Schedule::new(order, batch, target, seed)?;
    let mut buffer = String::new();
    for op in &program.ops {
        let Op::Means { encoder, dense } = op else { continue };
        let width = encoder.means();
        if width == 0 {
            continue;
        }
        let keys: Vec<Option<Option<u32>>> =
            (0..inputs.rows).map(|row| encoder.entry(columns, row, &mut buffer)).collect();
        let (mut sums, mut counts) = (vec![0.0; encoder.len() * width], vec![0.0; encoder.len()]);
        schedule.walk(|event| match event {
            Event::Known(row) => {
                if let Some(Some(place)) = keys[row] {
                    let place = place as usize;
                    encoder.add(target[row], &mut sums[place * width..][..width]);
                    counts[place] += 1.0;
                }
            }
            Event::Encode(row) => {
                if let Some(Some(place)) = keys[row] {
                    let place = place as usize;
                    let means = &mut inputs.dense[row * inputs.dense_width + dense..][..width];
                    encoder.write_known(&sums[place * width..][..width], counts[place], means);
                }
            }
        });
    }
    Ok(())
}

enum Event {
    /// The row's target has become known.
    Known(usize),
    /// The row asks for its mean.
    Encode(usize),
}

/// When each row happened and when its target became known, on one scale.
struct Schedule {
    happened: Vec<(i64, usize)>,
    known: Vec<(i64, usize)>,
}

impl Schedule {
    fn new(order: &TrainingOrder, batch: &RecordBatch, target: &[f64], seed: u64) -> Result<Schedule, FeatureError> {
        let rows = batch.num_rows();
        assert_eq!(target.len(), rows, "a target for each row");
        let at = match &order.time {
            Some(time) => instants(batch, time)?.into_iter().map(|at| at.unwrap_or(i64::MIN)).collect(),
            None => permutation(rows, seed),
        };
        let mut known: Vec<(i64, usize)> = (0..rows).map(|row| (at[row], row)).collect();
        if let (Some(_), Some(outcome_at)) = (&order.time, &order.outcome_at) {
            for ((known, row), outcome) in known.iter_mut().zip(instants(batch, outcome_at)?) {
                // Never before the row itself: its own target must not reach it.
                *known = outcome.unwrap_or(at[*row]).max(at[*row]);
            }
        }
        known.retain(|(_, row)| target[*row].is_finite());
        known.sort_unstable();
        let mut happened: Vec<(i64, usize)> = at.into_iter().enumerate().map(|(row, at)| (at, row)).collect();
        happened.sort_unstable();
        Ok(Schedule { happened, known })
    }

    /// Each row asks after exactly those targets have been handed over that were known strictly before it happened.
    fn walk(&self, mut see: impl FnMut(Event)) {
        let mut known = self.known.iter().peekable();
        for (now, row) in &self.happened {
            while let Some((_, learned)) = known.next_if(|(at, _)| at < now) {
                see(Event::Known(*learned));
            }
            see(Event::Encode(*row));
        }
    }
}

fn instants(batch: &RecordBatch, name: &str) -> Result<Vec<Option<i64>>, FeatureError> {
    let index = column_index(batch.schema_ref(), name, usize::MAX)?;
    let values = Values::new(batch.column(index), name, ColumnKind::Timestamp)?;
    Ok((0..batch.num_rows()).map(|row| values.micros(row)).collect())
}

/// The place of each row in an order that only the seed and the number of rows choose.
fn permutation(rows: usize, seed: u64) -> Vec<i64> {
    let mut order: Vec<(u64, usize)> = (0..rows).map(|row| (finish(finish(seed) ^ row as u64), row)).collect();
    order.sort_unstable();
    let mut places = vec![0; rows];
    for (place, (_, row)) in order.into_iter().enumerate() {
        places[row] = place as i64;
    }
    places
}
