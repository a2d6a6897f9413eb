//! Going on with rows that come later: each is predicted before it is learned. And taking over a model without the state
//! of its learner.

use super::learner::{Learner, Rows};
use crate::error::LearnError;
use inference::LinearParts;

impl Learner {
    /// Learns from the rows in their order, once, and gives the score that each had before its mini-batch was learned:
    /// row-major, in the target's own unit.
    pub(crate) fn follow(&self, rows: Rows<'_>) -> Result<Vec<f64>, LearnError> {
        let order: Vec<u32> = (0..rows.inputs.rows as u32).collect();
        let (mut scores, mut predicted) = (Vec::new(), Vec::with_capacity(order.len() * self.goal.outputs));
        for batch in order.chunks(self.batch_rows) {
            let wide: Vec<f32> = self.wide.iter().map(|cell| cell.weight()).collect();
            self.scores(rows.inputs, &wide, batch, &mut scores);
            let scale = self.scale();
            predicted.extend(scores.iter().map(|score| scale.mean + scale.deviation * f64::from(*score)));
            self.learn(rows, batch, 0, 1, &mut |_| Ok(()))?;
        }
        Ok(predicted)
    }

    /// Takes over a model's weights. What each weight's sum of squared gradients was is estimated from `rows`: it is that
    /// of these rows at these weights, as if each of the `seen` rows that the model learned from had been like them.
    pub(crate) fn adopt(&self, parts: &LinearParts, rows: Rows<'_>, seen: f64) {
        let (outputs, scale) = (self.goal.outputs, self.scale());
        let own = |weight: f64| (weight / scale.deviation) as f32;
        let bias = parts.bias.iter().map(|bias| own(bias - scale.mean));
        let wide: Vec<f32> = parts.dense.iter().map(|weight| own(*weight)).chain(bias).collect();
        for (cell, weight) in self.table.iter().zip(&parts.table) {
            cell.put([own(f64::from(*weight)).to_bits(), 0, 0, 0]);
        }
        let order: Vec<u32> = (0..rows.inputs.rows as u32).collect();
        let mut scores = Vec::new();
        self.scores(rows.inputs, &wide, &order, &mut scores);
        let mut squares = vec![0.0_f64; wide.len()];
        for (row, scores) in scores.chunks_exact(outputs).enumerate() {
            let weight = rows.weights.map_or(1.0, |weights| weights[row]);
            for (output, score) in scores.iter().enumerate() {
                let gradient = weight * (score - self.truth(rows.outcome[row], output));
                let values = rows.inputs.dense_row(row).iter().map(|value| if value.is_nan() { 0.0 } else { *value });
                for (column, value) in values.chain([1.0]).enumerate() {
                    squares[column * outputs + output] += f64::from(value * gradient).powi(2);
                }
                for slot in rows.inputs.slot_row(row) {
                    self.table[*slot as usize * outputs + output].add(0.0, gradient * gradient);
                }
            }
        }
        let times = seen / order.len().max(1) as f64;
        for (at, (cell, (weight, squares))) in self.wide.iter().zip(wide.iter().zip(squares)).enumerate() {
            let rule = if at + outputs >= self.wide.len() { self.rule.free() } else { self.rule };
            cell.assume(&rule, *weight, squares * times);
        }
        for cell in &self.table {
            cell.assume(&self.rule, cell.weight(), cell.squares() * times as f32);
        }
    }
}
