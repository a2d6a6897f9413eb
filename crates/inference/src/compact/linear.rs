//! Linear models whose table weights are 8-bit numbers.
//!
//! ```text
//! "HSCLIN1 "  u8 link  u32 outputs  f64 bias for each output
//! u32 dense columns; f64 for each column and output
//! f32 scale for each output
//! u32 places with a weight that is not zero; each a variable-length gap to the place before and an i8 for each output
//! 8 bytes of BLAKE3 of all the above
//! ```
//! Numbers are little-endian; a gap has seven bits a byte, the lowest first, and the top bit where more follow.

use crate::linear::{LinearModel, LinearParts};
use crate::model::{Contributions, Link, Model, ModelError};
use vocabulary::inputs::{Inputs, Layout};
use vocabulary::model::CLASSES_MAX;

const MAGIC: &[u8; 8] = b"HSCLIN1 ";
const CHECKSUM: usize = 8;

/// Largest whole number that a weight becomes.
const MOST: f32 = 127.0;

pub struct CompactLinearModel {
    /// As it answers: after rounding.
    linear: LinearModel,
    bytes: Vec<u8>,
}

impl CompactLinearModel {
    pub const KIND: &'static str = "compact_linear";

    /// Rounds each output's table weights to 255 levels of its largest one. Bias and dense weights, which are few, stay.
    pub fn quantized(model: &LinearModel) -> Result<Self, ModelError> {
        let parts = model.parts();
        let outputs = parts.bias.len();
        let mut scales = vec![0.0f32; outputs];
        for weights in parts.table.chunks_exact(outputs) {
            scales.iter_mut().zip(weights).for_each(|(most, weight)| *most = most.max(weight.abs()));
        }
        scales.iter_mut().for_each(|most| *most /= MOST);
        let mut bytes = MAGIC.to_vec();
        bytes.push(parts.link.code());
        bytes.extend((outputs as u32).to_le_bytes());
        parts.bias.iter().for_each(|bias| bytes.extend(bias.to_le_bytes()));
        bytes.extend(((parts.dense.len() / outputs) as u32).to_le_bytes());
        parts.dense.iter().for_each(|weight| bytes.extend(weight.to_le_bytes()));
        scales.iter().for_each(|scale| bytes.extend(scale.to_le_bytes()));
        let (mut body, mut used, mut next) = (Vec::new(), 0u32, 0usize);
        for (place, weights) in parts.table.chunks_exact(outputs).enumerate() {
            let whole = |(weight, scale): (&f32, &f32)| if *scale > 0.0 { (weight / scale).round() as i8 } else { 0 };
            let wholes: Vec<i8> = weights.iter().zip(&scales).map(whole).collect();
            if wholes.iter().any(|whole| *whole != 0) {
                gap(&mut body, place - next);
                body.extend(wholes.iter().map(|whole| whole.to_le_bytes()[0]));
                (used, next) = (used + 1, place + 1);
            }
        }
        bytes.extend(used.to_le_bytes());
        bytes.extend(body);
        let checksum = blake3::hash(&bytes);
        bytes.extend(&checksum.as_bytes()[..CHECKSUM]);
        Self::from_bytes(&bytes, model.layout())
    }

    pub fn from_bytes(bytes: &[u8], layout: &Layout) -> Result<Self, ModelError> {
        let damaged = |what: &str| ModelError::Damaged { kind: Self::KIND, what: what.to_owned() };
        let parts = decode(bytes, layout).map_err(damaged)?;
        Ok(CompactLinearModel { linear: LinearModel::new(parts, layout.clone())?, bytes: bytes.to_vec() })
    }

    /// In single precision, as it answers.
    pub fn linear(&self) -> &LinearModel {
        &self.linear
    }
}

fn gap(bytes: &mut Vec<u8>, mut gap: usize) {
    while gap >= 0x80 {
        bytes.push(gap as u8 | 0x80);
        gap >>= 7;
    }
    bytes.push(gap as u8);
}

fn decode(bytes: &[u8], layout: &Layout) -> Result<LinearParts, &'static str> {
    const SHORT: &str = "they end too early";
    let content = bytes.len().checked_sub(CHECKSUM).ok_or(SHORT)?;
    let (content, checksum) = bytes.split_at(content);
    if blake3::hash(content).as_bytes()[..CHECKSUM] != *checksum {
        return Err("their checksum does not fit");
    }
    let mut rest = content.strip_prefix(MAGIC).ok_or("they do not begin with HSCLIN1")?;
    let link = Link::from_code(take::<1>(&mut rest)?[0]).ok_or("the link is unknown")?;
    let outputs = u32::from_le_bytes(take(&mut rest)?) as usize;
    if !(1..=CLASSES_MAX).contains(&outputs) {
        return Err("they announce no outputs, or too many");
    }
    let bias = (0..outputs).map(|_| take(&mut rest).map(f64::from_le_bytes)).collect::<Result<_, _>>()?;
    let columns = u32::from_le_bytes(take(&mut rest)?) as usize;
    if columns != layout.dense.len() {
        return Err("they have other columns than the layout");
    }
    let dense = (0..columns * outputs).map(|_| take(&mut rest).map(f64::from_le_bytes)).collect::<Result<_, _>>()?;
    let scales: Vec<f32> = (0..outputs).map(|_| take(&mut rest).map(f32::from_le_bytes)).collect::<Result<_, _>>()?;
    let places = if layout.slots.is_empty() { 0 } else { 1usize.checked_shl(layout.table_bits.into()).ok_or(SHORT)? };
    let mut table = vec![0.0; places * outputs];
    let mut place = 0usize;
    for _ in 0..u32::from_le_bytes(take(&mut rest)?) {
        let (mut ahead, mut shift) = (0usize, 0);
        loop {
            let [byte] = take::<1>(&mut rest)?;
            ahead |= usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
            if shift > 28 {
                return Err("a gap is too long");
            }
        }
        place += ahead;
        let weights = table.chunks_exact_mut(outputs).nth(place).ok_or("a weight lies outside the table")?;
        for (weight, scale) in weights.iter_mut().zip(&scales) {
            *weight = f32::from(i8::from_le_bytes(take(&mut rest)?)) * scale;
        }
        place += 1;
    }
    if rest.is_empty() { Ok(LinearParts { link, bias, dense, table }) } else { Err("there are bytes after the end") }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], &'static str> {
    let (taken, after) = rest.split_first_chunk::<N>().ok_or("they end too early")?;
    *rest = after;
    Ok(*taken)
}

impl Model for CompactLinearModel {
    fn kind(&self) -> &'static str {
        Self::KIND
    }

    fn layout(&self) -> &Layout {
        self.linear.layout()
    }

    fn outputs(&self) -> usize {
        self.linear.outputs()
    }

    fn predict(&self, inputs: &Inputs, out: &mut Vec<f64>) -> Result<(), ModelError> {
        self.linear.predict(inputs, out)
    }

    fn contributions(&self, inputs: &Inputs) -> Result<Contributions, ModelError> {
        self.linear.contributions(inputs)
    }

    fn to_bytes(&self) -> Vec<u8> {
        self.bytes.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load_model;
    use proptest::prelude::*;
    use vocabulary::inputs::DenseColumn;

    fn layout() -> Layout {
        let dense = vec![DenseColumn { name: "x".to_owned(), categorical: false }];
        Layout { dense, slots: vec!["c".to_owned()], table_bits: 10, ..Layout::default() }
    }

    fn model() -> LinearModel {
        let table = (0..1024).map(|place| if place % 3 == 0 { (place as f32 - 500.0) / 300.0 } else { 0.0 }).collect();
        let parts = LinearParts { link: Link::Logistic, bias: vec![0.25], dense: vec![-1.5], table };
        LinearModel::new(parts, layout()).unwrap()
    }

    #[test]
    fn a_third_of_the_bytes_and_weights_within_half_a_level() {
        let (model, compact) = (model(), CompactLinearModel::quantized(&model()).unwrap());
        let level = 524.0 / 300.0 / 127.0;
        for (before, after) in model.parts().table.iter().zip(&compact.linear().parts().table) {
            assert!((before - after).abs() <= level / 2.0 + 1e-6, "{before} {after}");
        }
        assert!(compact.to_bytes().len() * 3 < model.to_bytes().len());
        let loaded = load_model(CompactLinearModel::KIND, &compact.to_bytes(), &layout()).unwrap();
        assert_eq!(loaded.to_bytes(), compact.to_bytes());
        let inputs = Inputs { rows: 2, dense_width: 1, dense: vec![0.5, f32::NAN], slot_width: 1, slots: vec![3, 999] };
        let (mut first, mut second) = (Vec::new(), Vec::new());
        compact.predict(&inputs, &mut first).unwrap();
        loaded.predict(&inputs, &mut second).unwrap();
        assert_eq!(first, second);
    }

    proptest! {
        #[test]
        fn damaged_bytes_are_refused(at in 0usize..2000, bits in 1u8..=255, cut in 0usize..40) {
            let mut bytes = CompactLinearModel::quantized(&model()).unwrap().to_bytes();
            let at = at % bytes.len();
            bytes[at] ^= bits;
            bytes.truncate(bytes.len() - cut);
            prop_assert!(CompactLinearModel::from_bytes(&bytes, &layout()).is_err());
        }
    }
}
