//! Embedding tables while they learn: gradients of a batch's rows, brought together by stored row, and the step of the
//! rows that were touched. Others cost nothing.

use super::optimizer::adagrad_row;
use super::plan::TablePlan;
use super::rows::Rows;
use inference::network::Place;
use vocabulary::model::EmbeddingStorage;

/// Numbers of a table, and the sums that AdaGrad keeps.
#[derive(Clone, Debug)]
pub(super) struct Embeddings {
    pub plan: TablePlan,
    /// Row-major, as [`inference::network::Table`] has them.
    pub weights: Rows,
    /// One for each stored row.
    pub sums: Vec<f32>,
    /// The slots that read the table.
    slots: Vec<usize>,
    /// Memory that is used again at each step.
    entries: Vec<u64>,
    gradients: Vec<f32>,
    rows: Vec<usize>,
    row: Vec<f32>,
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
    pub fn new(plan: TablePlan, slots: Vec<usize>, storage: EmbeddingStorage) -> Embeddings {
        let count = plan.rows() * plan.dimension;
        let ones_from = match plan.place {
            Place::QuotientRemainder { remainders } => remainders as usize * plan.dimension,
            _ => count,
        };
        Embeddings {
            weights: Rows::new(storage, count, ones_from),
            sums: vec![0.0; plan.rows()],
            row: vec![0.0; plan.dimension],
            plan,
            slots,
            entries: Vec::new(),
            gradients: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// The vector of an id.
    pub fn read(&self, id: u32, out: &mut [f32]) {
        let dimension = self.plan.dimension;
        let (first, second) = self.plan.place.of(id);
        self.weights.read(first * dimension..(first + 1) * dimension, out);
        if let Some(second) = second {
            self.weights.multiply(second * dimension..(second + 1) * dimension, out);
        }
    }

    /// One step of row-wise AdaGrad. Gradients of one stored row are added in the order of the batch first. `draw` gives
    /// random bits for a stored row and each four of its numbers.
    pub fn step(&mut self, batch: &BatchSlopes, rate: f32, draw: impl Fn(usize, u64) -> u64) {
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
                    self.weights.read(other * dimension..(other + 1) * dimension, &mut self.row);
                    sums.zip(&self.row).for_each(|((sum, slope), factor)| *sum += slope * factor);
                }
            }
        }
        for (row, gradient) in self.rows.iter().zip(self.gradients.chunks_exact(dimension.max(1))) {
            let range = row * dimension..(row + 1) * dimension;
            self.weights.read(range.clone(), &mut self.row);
            adagrad_row(&mut self.row, &mut self.sums[*row], gradient, rate);
            self.weights.write(range, &self.row, |block| draw(*row, block));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two slots that read one table of two numbers a row; three rows.
    fn stepped(place: Place) -> Embeddings {
        let plan = TablePlan { ids: 6, dimension: 2, place };
        let mut table = Embeddings::new(plan, vec![0, 1], EmbeddingStorage::F32);
        (0..table.weights.len()).for_each(|at| table.weights.restore(at, 1.0 + at as f32));
        let slopes: Vec<[f32; 4]> = vec![[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0], [9.0, 10.0, 11.0, 12.0]];
        let of = |row: usize| &slopes[row][..];
        let batch = BatchSlopes { ids: &[5, 0, 1, 5, 0, 1], slot_width: 2, offsets: &[0, 2], slopes: &of };
        table.step(&batch, 1.0, |_, _| 0);
        table
    }

    #[test]
    fn duplicates_are_added_before_the_step_and_others_stay() {
        let table = stepped(Place::Direct);
        // Id 5 stood in rows 0 and 1: (1, 2) + (7, 8).
        let sum = (64.0 + 100.0) / 2.0;
        assert_eq!(table.sums, [(144.0 + 196.0) / 2.0, (256.0 + 324.0) / 2.0, 0.0, 0.0, 0.0, sum]);
        let weights = table.weights.to_f32();
        assert_eq!(weights[4..10], [5.0, 6.0, 7.0, 8.0, 9.0, 10.0]);
        assert!((weights[10] - (11.0 - 8.0 / sum.sqrt())).abs() < 1e-6);
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
