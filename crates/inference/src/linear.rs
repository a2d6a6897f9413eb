//! A linear model over dense columns and a table of hashed slots, with one output or one for each class.
//!
//! ```text
//! "HSLINEA2"  u8 link  u32 outputs  f64 bias for each output
//! u32 dense columns; f64 for each column and output
//! u32 places of the table with a weight that is not zero; u32 place, f32 for each output
//! u64 bytes of the learner's state; the state
//! ```
//! Numbers are little-endian. `HSLINEA1`, which is still read, had one output: u8 link, f64 bias, then columns and table
//! as above, and no state.

use crate::model::{Contributions, Link, Model, ModelError, check_inputs};
use vocabulary::inputs::{Inputs, Layout};
use vocabulary::model::CLASSES_MAX;

const MAGIC: &[u8; 8] = b"HSLINEA2";
const MAGIC_1: &[u8; 8] = b"HSLINEA1";

/// Largest table: 2^28 weights are 1 GiB, the limit that `learner.linear.table_bits` has too.
const TABLE_BITS_MAX: u8 = 28;

/// What a linear model is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearParts {
    pub link: Link,
    /// One for each output.
    pub bias: Vec<f64>,
    /// For each dense column a weight for each output.
    pub dense: Vec<f64>,
    /// For each place of the hashed table (`1 << layout.table_bits`, or none without slots) a weight for each output.
    pub table: Vec<f32>,
}

/// Scores of a row: link(bias + dense weights times values + table weights of the slots), summed in that order in double
/// precision. A missing dense value adds nothing: the pipeline standardises, so that it counts as the mean.
pub struct LinearModel {
    parts: LinearParts,
    layout: Layout,
    /// What the learner that made it needs to go on; it says nothing to predictions.
    learner_state: Option<Vec<u8>>,
}

impl LinearModel {
    pub const KIND: &'static str = "linear";

    pub fn new(parts: LinearParts, layout: Layout) -> Result<Self, ModelError> {
        let wrong = |what: String| Err(ModelError::Parts { kind: Self::KIND, what });
        let outputs = parts.bias.len();
        if !(1..=CLASSES_MAX).contains(&outputs) || (outputs > 1) != (parts.link == Link::Softmax) {
            return wrong(format!("{outputs} outputs with the link {:?}", parts.link));
        }
        if parts.dense.len() != layout.dense.len() * outputs {
            let (weights, columns) = (parts.dense.len(), layout.dense.len());
            return wrong(format!("{weights} dense weights for {columns} columns and {outputs} outputs"));
        }
        if parts.table.len() != table_len(&layout)? * outputs {
            let (weights, bits) = (parts.table.len(), layout.table_bits);
            return wrong(format!("{weights} table weights for {bits} bits and {outputs} outputs"));
        }
        let finite = parts.bias.iter().chain(&parts.dense).all(|weight| weight.is_finite())
            && parts.table.iter().all(|weight| weight.is_finite());
        if !finite {
            return wrong("a weight is not finite; lower learner.linear.alpha".to_owned());
        }
        Ok(LinearModel { parts, layout, learner_state: None })
    }

    /// Keeps what the learner needs to go on beside the weights.
    pub fn with_learner_state(self, state: Vec<u8>) -> LinearModel {
        LinearModel { learner_state: Some(state), ..self }
    }

    pub fn learner_state(&self) -> Option<&[u8]> {
        self.learner_state.as_deref()
    }

    pub fn parts(&self) -> &LinearParts {
        &self.parts
    }

    pub fn from_bytes(bytes: &[u8], layout: &Layout) -> Result<Self, ModelError> {
        let mut reader = Reader { bytes };
        let first = match &reader.take::<8>()? {
            MAGIC => false,
            MAGIC_1 => true,
            _ => return Err(damaged("they begin neither with HSLINEA2 nor with HSLINEA1")),
        };
        let [link] = reader.take::<1>()?;
        let link = Link::from_code(link).ok_or_else(|| damaged("the link is unknown"))?;
        let outputs = if first { 1 } else { reader.count(8)? };
        if !(1..=CLASSES_MAX).contains(&outputs) {
            return Err(damaged("they announce no outputs, or too many"));
        }
        let bias = (0..outputs).map(|_| reader.f64()).collect::<Result<_, _>>()?;
        let dense = (0..reader.count(8 * outputs)? * outputs).map(|_| reader.f64()).collect::<Result<_, _>>()?;
        let entries = reader.count(4 + 4 * outputs)?;
        let mut table = vec![0.0; table_len(layout)? * outputs];
        for _ in 0..entries {
            let place = u32::from_le_bytes(reader.take()?) as usize;
            let weights = table.chunks_exact_mut(outputs).nth(place);
            for weight in weights.ok_or_else(|| damaged("a weight lies outside the table"))? {
                *weight = f32::from_le_bytes(reader.take()?);
            }
        }
        let learner_state = if first { None } else { reader.state()? };
        if !reader.bytes.is_empty() {
            return Err(damaged("there are bytes after the end"));
        }
        let model = LinearModel::new(LinearParts { link, bias, dense, table }, layout.clone())?;
        Ok(LinearModel { learner_state, ..model })
    }
}

fn damaged(what: &str) -> ModelError {
    ModelError::Damaged { kind: LinearModel::KIND, what: what.to_owned() }
}

fn table_len(layout: &Layout) -> Result<usize, ModelError> {
    if layout.table_bits > TABLE_BITS_MAX {
        let what = format!("a table of {} bits; {TABLE_BITS_MAX} are the most", layout.table_bits);
        return Err(ModelError::Parts { kind: LinearModel::KIND, what });
    }
    Ok(if layout.slots.is_empty() { 0 } else { 1 << layout.table_bits })
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], ModelError> {
        let (taken, rest) = self.bytes.split_first_chunk::<N>().ok_or_else(|| damaged("they end too early"))?;
        self.bytes = rest;
        Ok(*taken)
    }

    fn f64(&mut self) -> Result<f64, ModelError> {
        self.take().map(f64::from_le_bytes)
    }

    /// A count of entries of `size` bytes each, which must all be there.
    fn count(&mut self, size: usize) -> Result<usize, ModelError> {
        let count = u32::from_le_bytes(self.take()?) as usize;
        if self.bytes.len() / size < count { Err(damaged("they end too early")) } else { Ok(count) }
    }

    fn state(&mut self) -> Result<Option<Vec<u8>>, ModelError> {
        let length = u64::from_le_bytes(self.take()?) as usize;
        let (state, rest) = self.bytes.split_at_checked(length).ok_or_else(|| damaged("they end too early"))?;
        self.bytes = rest;
        Ok((length > 0).then(|| state.to_vec()))
    }
}

/// A missing value adds nothing.
fn present(value: f32) -> f64 {
    if value.is_nan() { 0.0 } else { f64::from(value) }
}

impl LinearModel {
    /// The weights of a slot, one for each output.
    fn slot(&self, slot: u32, row: usize) -> Result<&[f32], ModelError> {
        let outputs = self.parts.bias.len();
        let from = slot as usize * outputs;
        self.parts.table.get(from..from + outputs).ok_or_else(|| {
            let what = format!("slot {slot} of row {row} is outside the table of {}", self.parts.table.len() / outputs);
            ModelError::Inputs { kind: Self::KIND, what }
        })
    }

    /// Appends the score of each row of a model with one output.
    fn predict_one(&self, inputs: &Inputs, out: &mut Vec<f64>) -> Result<(), ModelError> {
        let LinearParts { link, bias, dense, table } = &self.parts;
        for row in 0..inputs.rows {
            let mut sum = bias[0];
            for (value, weight) in inputs.dense_row(row).iter().zip(dense) {
                if !value.is_nan() {
                    sum += weight * f64::from(*value);
                }
            }
            for &slot in inputs.slot_row(row) {
                sum += match table.get(slot as usize) {
                    Some(weight) => f64::from(*weight),
                    None => f64::from(self.slot(slot, row)?[0]),
                };
            }
            out.push(link.apply(sum));
        }
        Ok(())
    }
}

impl Model for LinearModel {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn outputs(&self) -> usize {
        self.parts.bias.len()
    }

    fn predict(&self, inputs: &Inputs, out: &mut Vec<f64>) -> Result<(), ModelError> {
        check_inputs(Self::KIND, &self.layout, inputs)?;
        let LinearParts { link, bias, dense, .. } = &self.parts;
        let outputs = bias.len();
        out.clear();
        out.reserve(inputs.rows * outputs);
        if outputs == 1 {
            return self.predict_one(inputs, out);
        }
        for row in 0..inputs.rows {
            let from = out.len();
            out.extend_from_slice(bias);
            let sums = &mut out[from..];
            for (value, weights) in inputs.dense_row(row).iter().zip(dense.chunks_exact(outputs)) {
                let value = present(*value);
                sums.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += weight * value);
            }
            for &slot in inputs.slot_row(row) {
                sums.iter_mut().zip(self.slot(slot, row)?).for_each(|(sum, weight)| *sum += f64::from(*weight));
            }
            link.apply_row(sums);
        }
        Ok(())
    }

    fn contributions(&self, inputs: &Inputs) -> Result<Contributions, ModelError> {
        check_inputs(Self::KIND, &self.layout, inputs)?;
        let LinearParts { bias, dense, .. } = &self.parts;
        let (outputs, width) = (bias.len(), inputs.dense_width + inputs.slot_width);
        let mut parts = Vec::with_capacity(inputs.rows * outputs * width);
        let mut base = Vec::with_capacity(inputs.rows * outputs);
        for row in 0..inputs.rows {
            base.extend_from_slice(bias);
            for output in 0..outputs {
                let weights = dense.iter().skip(output).step_by(outputs);
                parts.extend(inputs.dense_row(row).iter().zip(weights).map(|(x, weight)| weight * present(*x)));
                for &slot in inputs.slot_row(row) {
                    parts.push(f64::from(self.slot(slot, row)?[output]));
                }
            }
        }
        Ok(Contributions { rows: inputs.rows, outputs, width, base, parts })
    }

    /// Only the table's weights that are not zero are written.
    fn to_bytes(&self) -> Vec<u8> {
        let LinearParts { link, bias, dense, table } = &self.parts;
        let outputs = bias.len();
        let mut bytes = MAGIC.to_vec();
        bytes.push(link.code());
        bytes.extend((outputs as u32).to_le_bytes());
        bias.iter().for_each(|weight| bytes.extend(weight.to_le_bytes()));
        bytes.extend(((dense.len() / outputs) as u32).to_le_bytes());
        dense.iter().for_each(|weight| bytes.extend(weight.to_le_bytes()));
        let places = || table.chunks_exact(outputs).enumerate();
        let used = || places().filter(|(_, weights)| weights.iter().any(|weight| *weight != 0.0));
        bytes.extend((used().count() as u32).to_le_bytes());
        for (place, weights) in used() {
            bytes.extend((place as u32).to_le_bytes());
            weights.iter().for_each(|weight| bytes.extend(weight.to_le_bytes()));
        }
        let state = self.learner_state().unwrap_or_default();
        bytes.extend((state.len() as u64).to_le_bytes());
        bytes.extend(state);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use vocabulary::inputs::DenseColumn;

    fn layout() -> Layout {
        let column = |name: &str| DenseColumn { name: name.to_owned(), categorical: false };
        Layout {
            dense: vec![column("a"), column("b")],
            slots: vec!["c".to_owned()],
            table_bits: 8,
            ..Layout::default()
        }
    }

    fn model(link: Link) -> LinearModel {
        let mut table = vec![0.0; 256];
        (table[3], table[255]) = (0.25, -1.5);
        LinearModel::new(LinearParts { link, bias: vec![0.5], dense: vec![2.0, -1.0], table }, layout()).unwrap()
    }

    /// Three classes; the second column says nothing.
    fn classes() -> LinearModel {
        let mut table = vec![0.0; 256 * 3];
        table[3 * 3..4 * 3].copy_from_slice(&[0.25, 0.0, -1.0]);
        let dense = vec![2.0, -1.0, 0.5, 0.0, 0.0, 0.0];
        LinearModel::new(LinearParts { link: Link::Softmax, bias: vec![0.5, 0.0, -0.5], dense, table }, layout())
            .unwrap()
    }

    fn inputs(dense: Vec<f32>, slots: Vec<u32>) -> Inputs {
        Inputs { rows: slots.len(), dense_width: 2, dense, slot_width: 1, slots }
    }

    #[test]
    fn scores_are_link_of_the_sum_and_missing_values_add_nothing() {
        let mut out = Vec::new();
        let rows = inputs(vec![1.0, 3.0, f32::NAN, 1.0], vec![3, 255]);
        model(Link::Identity).predict(&rows, &mut out).unwrap();
        assert_eq!(out, [-0.25, -2.0]);
        model(Link::Logistic).predict(&rows, &mut out).unwrap();
        assert_eq!(out[1], crate::elementary::logistic(-2.0));
        for model in [model(Link::Identity), classes()] {
            let error = model.predict(&inputs(vec![0.0; 2], vec![256]), &mut out).unwrap_err().to_string();
            assert!(error.contains("slot 256 of row 0 is outside the table of 256"), "{error}");
        }
    }

    #[test]
    fn each_class_has_its_probability() {
        let (model, mut out) = (classes(), Vec::new());
        model.predict(&inputs(vec![1.0, 3.0, f32::NAN, 1.0], vec![3, 4]), &mut out).unwrap();
        let mut expected = [2.75, -1.0, -1.0, 0.5, 0.0, -0.5];
        expected.chunks_exact_mut(3).for_each(crate::elementary::softmax);
        assert_eq!(out, expected);
        assert_eq!(model.outputs(), 3);
    }

    #[test]
    fn contributions_add_up_to_the_sum_before_the_link() {
        let rows = inputs(vec![1.0, 3.0, f32::NAN, 1.0], vec![3, 255]);
        for (model, sums) in
            [(model(Link::Logistic), vec![-0.25, -2.0]), (classes(), vec![2.75, -1.0, -1.0, 0.5, 0.0, -0.5])]
        {
            let found = model.contributions(&rows).unwrap();
            assert_eq!((found.rows, found.outputs, found.width), (2, model.outputs(), 3));
            let added = found
                .base
                .iter()
                .zip(found.parts.chunks_exact(3))
                .map(|(base, parts)| base + parts.iter().sum::<f64>());
            assert_eq!(added.collect::<Vec<_>>(), sums);
        }
    }

    #[test]
    fn only_used_weights_are_stored_and_all_come_back() {
        let one = model(Link::Logistic);
        assert_eq!(one.to_bytes().len(), 8 + 1 + 4 + 8 + 4 + 2 * 8 + 4 + 2 * 8 + 8);
        assert_eq!(classes().to_bytes().len(), 8 + 1 + 4 + 3 * 8 + 4 + 6 * 8 + 4 + 16 + 8);
        for model in [one, classes(), model(Link::Identity).with_learner_state(vec![1, 2, 3])] {
            let loaded = LinearModel::from_bytes(&model.to_bytes(), &layout()).unwrap();
            assert_eq!((loaded.parts(), loaded.learner_state()), (model.parts(), model.learner_state()));
            assert_eq!(loaded.to_bytes(), model.to_bytes());
        }
    }

    /// What the first format's program wrote for the model above.
    #[test]
    fn models_of_the_first_format_are_read() {
        let mut bytes = b"HSLINEA1\x01".to_vec();
        bytes.extend(0.5_f64.to_le_bytes());
        bytes.extend(2_u32.to_le_bytes());
        [2.0_f64, -1.0].iter().for_each(|weight| bytes.extend(weight.to_le_bytes()));
        bytes.extend(2_u32.to_le_bytes());
        for (place, weight) in [(3_u32, 0.25_f32), (255, -1.5)] {
            bytes.extend(place.to_le_bytes());
            bytes.extend(weight.to_le_bytes());
        }
        let loaded = LinearModel::from_bytes(&bytes, &layout()).unwrap();
        assert_eq!((loaded.parts(), loaded.learner_state()), (model(Link::Logistic).parts(), None));
        bytes.push(0);
        assert!(LinearModel::from_bytes(&bytes, &layout()).is_err());
    }

    #[test]
    fn parts_that_do_not_fit_together_are_refused() {
        let error = |change: &dyn Fn(&mut LinearParts)| {
            let mut parts = classes().parts.clone();
            change(&mut parts);
            LinearModel::new(parts, layout()).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert!(error(&|parts| parts.link = Link::Logistic).contains("3 outputs with the link Logistic"));
        assert!(error(&|parts| parts.bias = vec![]).contains("0 outputs"));
        assert!(error(&|parts| parts.dense.truncate(5)).contains("5 dense weights for 2 columns and 3 outputs"));
        assert!(error(&|parts| parts.table.truncate(5)).contains("5 table weights"));
        assert!(error(&|parts| parts.table[0] = f32::NAN).contains("not finite"));
    }

    proptest! {
        #[test]
        fn damaged_bytes_never_panic(cut in 0usize..64, at in 0usize..200, bits in 0u8..=255, several in 0..2) {
            let mut bytes = if several == 1 { classes().to_bytes() } else { model(Link::Logistic).to_bytes() };
            let at = at % bytes.len();
            bytes[at] ^= bits;
            bytes.truncate(bytes.len() - cut % bytes.len());
            let _ = LinearModel::from_bytes(&bytes, &layout());
        }
    }
}
