//! Embedding tables while they learn: gradients of a batch's rows, brought together by stored row, and the step of the
//! rows that were touched. Others cost nothing.

use super::optimizer::adagrad_row;
use super::plan::TablePlan;

/// Numbers of a table, and the sums that AdaGrad keeps.
#[derive(Clone, Debug)]
pub(super) struct Embeddings {
    pub plan: TablePlan,
    /// Row-major, as [`inference::network::Table`] has them.
    pub weights: Vec<f32>,
    /// One for each stored row.
    pub sums: Vec<f32>,
    /// The slots that read the table.
    slots: Vec<usize>,
    /// Memory that is used again at each step.
    entries: Vec<u64>,
    gradients: Vec<f32>,
    rows: Vec<usize>,
}

/// A batch's gradients of the input vectors.
pub(super) struct BatchSlopes<'a> {
    /// Ids of each row, `slot_width` a row.
    pub ids: &'a [u32],
    pub slot_width: usize,
    /// Where each slot's block begins in a row of slopes.
    pub offsets: &'a [usize],
    /// The slopes of a row of the batch.
    pub slopes: &'a (dyn Fn(usize) -> &'a [f32] + Sync),
}

impl Embeddings {
    /// All vectors zero, so that a category that was never seen says nothing. A quotient's row begins at one: zero times
    /// zero would never learn.
    pub fn new(plan: TablePlan, slots: Vec<usize>) -> Embeddings {
        let mut weights = vec![0.0; plan.rows() * plan.dimension];
        if let inference::network::Place::QuotientRemainder { remainders } = plan.place {
            weights[remainders as usize * plan.dimension..].fill(1.0);
        }
        let sums = vec![0.0; plan.rows()];
        Embeddings { plan, weights, sums, slots, entries: Vec::new(), gradients: Vec::new(), rows: Vec::new() }
    }

    /// One step of row-wise AdaGrad. Gradients of one stored row are added in the order of the batch first.
    pub fn step(&mut self, batch: &BatchSlopes, rate: f32) {
        let TablePlan { dimension, place, .. } = self.plan;
        self.entries.clear();
        for (row, ids) in batch.ids.chunks_exact(batch.slot_width).enumerate() {
            for slot in &self.slots {
                let at = (row * batch.slot_width + slot) as u64;
                let (first, second) = place.of(ids[*slot]);
                self.entries.push((first as u64) << 32 | at);
                self.entries.extend(second.map(|second| (second as u64) << 32 | at));
            }
        }
        self.entries.sort_unstable();
        self.rows.clear();
        self.gradients.clear();
        for entry in &self.entries {
            let (stored, at) = ((entry >> 32) as usize, (entry & u64::from(u32::MAX)) as usize);
            if self.rows.last() != Some(&stored) {
                self.rows.push(stored);
                self.gradients.resize(self.gradients.len() + dimension, 0.0);
            }
            let (row, slot) = (at / batch.slot_width, at % batch.slot_width);
            let from = batch.offsets[slot];
            let slopes = &(batch.slopes)(row)[from..from + dimension];
            let end = self.gradients.len();
            let sums = self.gradients[end - dimension..].iter_mut().zip(slopes);
            match place.of(batch.ids[at]) {
                (_, None) => sums.for_each(|(sum, slope)| *sum += slope),
                (first, Some(second)) => {
                    // The vector is a product: each factor's gradient is the slope times the other factor.
                    let other = if stored == first { second } else { first };
                    let factors = &self.weights[other * dimension..(other + 1) * dimension];
                    sums.zip(factors).for_each(|((sum, slope), factor)| *sum += slope * factor);
                }
            }
        }
        for (row, gradient) in self.rows.iter().zip(self.gradients.chunks_exact(dimension.max(1))) {
            let weights = &mut self.weights[row * dimension..(row + 1) * dimension];
            adagrad_row(weights, &mut self.sums[*row], gradient, rate);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use inference::network::Place;

    /// Two slots that read one table of two numbers a row; three rows.
    fn stepped(place: Place) -> Embeddings {
        let plan = TablePlan { ids: 6, dimension: 2, place };
        let mut table = Embeddings::new(plan, vec![0, 1]);
        table.weights.iter_mut().enumerate().for_each(|(at, weight)| *weight = 1.0 + at as f32);
        let slopes: Vec<[f32; 4]> = vec![[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0], [9.0, 10.0, 11.0, 12.0]];
        let of = |row: usize| &slopes[row][..];
        let batch = BatchSlopes { ids: &[5, 0, 1, 5, 0, 1], slot_width: 2, offsets: &[0, 2], slopes: &of };
        // A second life for the closure's borrow is not needed: the step ends before the slopes do.
        table.step(&batch, 1.0);
        table
    }

    #[test]
    fn duplicates_are_added_before_the_step_and_others_stay() {
        let table = stepped(Place::Direct);
        // Id 5 stood in rows 0 and 1: (1, 2) + (7, 8).
        let sum = (64.0 + 100.0) / 2.0;
        assert_eq!(table.sums, [(144.0 + 196.0) / 2.0, (256.0 + 324.0) / 2.0, 0.0, 0.0, 0.0, sum]);
        assert_eq!(table.weights[4..10], [5.0, 6.0, 7.0, 8.0, 9.0, 10.0]);
        assert!((table.weights[10] - (11.0 - 8.0 / sum.sqrt())).abs() < 1e-6);
    }

    #[test]
    fn factors_of_a_product_get_each_others_slopes() {
        let table = stepped(Place::QuotientRemainder { remainders: 4 });
        // Id 5 is remainder 1 and quotient 1 (rows 1 and 5); ids 0 and 1 are remainders 0 and 1 of quotient 0 (row 4).
        let before = |row: usize| [1.0 + 2.0 * row as f32, 2.0 + 2.0 * row as f32];
        let gradient = |other: [f32; 2], slope: [f32; 2]| [other[0] * slope[0], other[1] * slope[1]];
        let quotient = gradient(before(1), [8.0, 10.0]);
        assert_eq!(table.sums[5], (quotient[0] * quotient[0] + quotient[1] * quotient[1]) / 2.0);
        assert_eq!((table.sums[2], table.sums[3]), (0.0, 0.0));
        let of_five = gradient(before(5), [8.0, 10.0]);
        let of_one = gradient(before(4), [16.0, 18.0]);
        let both = [of_five[0] + of_one[0], of_five[1] + of_one[1]];
        assert_eq!(table.sums[1], (both[0] * both[0] + both[1] * both[1]) / 2.0);
    }
}
