//! A linear model over dense columns and a table of hashed slots.

use crate::model::{Contributions, Link, Model, ModelError, check_inputs};
use vocabulary::inputs::{Inputs, Layout};

const MAGIC: &[u8; 8] = b"HSLINEA1";

/// Largest table: 2^28 weights are 1 GiB, the limit that `learner.linear.table_bits` has too.
const TABLE_BITS_MAX: u8 = 28;

/// What a linear model is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearParts {
    pub link: Link,
    pub bias: f64,
    /// One weight for each dense column.
    pub dense: Vec<f64>,
    /// One weight for each place of the hashed table: `1 << layout.table_bits`, or none without slots.
    pub table: Vec<f32>,
}

/// Score of a row: link(bias + dense weights times values + table weights of the slots), summed in that order in double
/// precision. A missing dense value adds nothing: the pipeline standardises, so that it counts as the mean.
pub struct LinearModel {
    parts: LinearParts,
    layout: Layout,
}

impl LinearModel {
    pub const KIND: &'static str = "linear";

    pub fn new(parts: LinearParts, layout: Layout) -> Result<Self, ModelError> {
        let wrong = |what: String| Err(ModelError::Parts { kind: Self::KIND, what });
        if parts.dense.len() != layout.dense.len() {
            return wrong(format!("{} dense weights for {} columns", parts.dense.len(), layout.dense.len()));
        }
        if parts.table.len() != table_len(&layout)? {
            return wrong(format!("{} table weights for {} bits", parts.table.len(), layout.table_bits));
        }
        let finite = parts.bias.is_finite()
            && parts.dense.iter().all(|weight| weight.is_finite())
            && parts.table.iter().all(|weight| weight.is_finite());
        if !finite {
            return wrong("a weight is not finite; lower learner.linear.alpha".to_owned());
        }
        Ok(LinearModel { parts, layout })
    }

    pub fn parts(&self) -> &LinearParts {
        &self.parts
    }

    pub fn from_bytes(bytes: &[u8], layout: &Layout) -> Result<Self, ModelError> {
        let mut reader = Reader { bytes };
        if reader.take::<8>()? != *MAGIC {
            return Err(damaged("they do not begin with HSLINEA1"));
        }
        let [link] = reader.take::<1>()?;
        let link = Link::from_code(link).ok_or_else(|| damaged("the link is unknown"))?;
        let bias = f64::from_le_bytes(reader.take()?);
        let dense = (0..reader.count(8)?).map(|_| reader.take().map(f64::from_le_bytes)).collect::<Result<_, _>>()?;
        let mut table = vec![0.0; table_len(layout)?];
        for _ in 0..reader.count(8)? {
            let place = u32::from_le_bytes(reader.take()?) as usize;
            let weight = f32::from_le_bytes(reader.take()?);
            *table.get_mut(place).ok_or_else(|| damaged("a weight lies outside the table"))? = weight;
        }
        if !reader.bytes.is_empty() {
            return Err(damaged("there are bytes after the last weight"));
        }
        LinearModel::new(LinearParts { link, bias, dense, table }, layout.clone())
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

    /// A count of entries of `size` bytes each, which must all be there.
    fn count(&mut self, size: usize) -> Result<usize, ModelError> {
        let count = u32::from_le_bytes(self.take()?) as usize;
        if self.bytes.len() / size < count { Err(damaged("they end too early")) } else { Ok(count) }
    }
}

impl Model for LinearModel {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn layout(&self) -> &Layout {
        &self.layout
    }

    fn predict(&self, inputs: &Inputs, out: &mut Vec<f64>) -> Result<(), ModelError> {
        check_inputs(Self::KIND, &self.layout, inputs)?;
        let LinearParts { link, bias, dense, table } = &self.parts;
        out.clear();
        out.reserve(inputs.rows);
        for row in 0..inputs.rows {
            let mut sum = *bias;
            for (value, weight) in inputs.dense_row(row).iter().zip(dense) {
                if !value.is_nan() {
                    sum += weight * f64::from(*value);
                }
            }
            for &slot in inputs.slot_row(row) {
                let Some(weight) = table.get(slot as usize) else {
                    let what = format!("slot {slot} of row {row} is outside the table of {}", table.len());
                    return Err(ModelError::Inputs { kind: Self::KIND, what });
                };
                sum += f64::from(*weight);
            }
            out.push(link.apply(sum));
        }
        Ok(())
    }

    fn contributions(&self, inputs: &Inputs) -> Result<Contributions, ModelError> {
        check_inputs(Self::KIND, &self.layout, inputs)?;
        let LinearParts { bias, dense, table, .. } = &self.parts;
        let mut parts = Vec::with_capacity(inputs.rows * (inputs.dense_width + inputs.slot_width));
        for row in 0..inputs.rows {
            let value = |value: &f32| if value.is_nan() { 0.0 } else { f64::from(*value) };
            parts.extend(inputs.dense_row(row).iter().zip(dense).map(|(x, weight)| weight * value(x)));
            let weight = |slot: &u32| table.get(*slot as usize).copied().map_or(0.0, f64::from);
            parts.extend(inputs.slot_row(row).iter().map(weight));
        }
        let width = inputs.dense_width + inputs.slot_width;
        Ok(Contributions { rows: inputs.rows, outputs: 1, width, base: vec![*bias; inputs.rows], parts })
    }

    /// Only the table's weights that are not zero are written.
    fn to_bytes(&self) -> Vec<u8> {
        let LinearParts { link, bias, dense, table } = &self.parts;
        let mut bytes = MAGIC.to_vec();
        bytes.push(link.code());
        bytes.extend(bias.to_le_bytes());
        bytes.extend((dense.len() as u32).to_le_bytes());
        dense.iter().for_each(|weight| bytes.extend(weight.to_le_bytes()));
        let used = || table.iter().enumerate().filter(|(_, weight)| **weight != 0.0);
        bytes.extend((used().count() as u32).to_le_bytes());
        for (place, weight) in used() {
            bytes.extend((place as u32).to_le_bytes());
            bytes.extend(weight.to_le_bytes());
        }
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
        LinearModel::new(LinearParts { link, bias: 0.5, dense: vec![2.0, -1.0], table }, layout()).unwrap()
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
        assert!(model(Link::Identity).predict(&inputs(vec![0.0; 2], vec![256]), &mut out).is_err());
    }

    #[test]
    fn only_used_weights_are_stored_and_all_come_back() {
        let model = model(Link::Logistic);
        let bytes = model.to_bytes();
        assert_eq!(bytes.len(), 8 + 1 + 8 + 4 + 2 * 8 + 4 + 2 * 8);
        let loaded = LinearModel::from_bytes(&bytes, &layout()).unwrap();
        assert_eq!((loaded.parts(), loaded.to_bytes()), (model.parts(), bytes));
    }

    proptest! {
        #[test]
        fn damaged_bytes_never_panic(cut in 0usize..64, at in 0usize..64, bits in 0u8..=255) {
            let mut bytes = model(Link::Logistic).to_bytes();
            let at = at % bytes.len();
            bytes[at] ^= bits;
            bytes.truncate(bytes.len() - cut % bytes.len());
            let _ = LinearModel::from_bytes(&bytes, &layout());
        }
    }
}
