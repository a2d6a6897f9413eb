//! A learner's state as bytes, for checkpoints and for models that go on learning.
//!
//! ```text
//! "HSLSTAT1"  u8 method  u32 outputs  u32 columns  u32 mini-batches  f64 mean  f64 deviation
//! for each output of each column: u32 weight, u64 z, u64 n (bits)
//! u32 places; for each place that was touched: u32 place, for each output 4 u32 (bits)
//! ```
//! Numbers are little-endian.

use super::learner::{Learner, Scale};
use std::sync::atomic::Ordering::Relaxed;
use vocabulary::model::LinearMethod;

const MAGIC: &[u8; 8] = b"HSLSTAT1";

fn code(method: LinearMethod) -> u8 {
    match method {
        LinearMethod::Ftrl => 0,
        LinearMethod::Adagrad => 1,
    }
}

/// Takes bytes off the front; none where there are too few.
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl Reader<'_> {
    pub fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    pub fn f64(&mut self) -> Option<f64> {
        self.take().map(f64::from_le_bytes)
    }
}

impl Learner {
    pub(crate) fn state(&self) -> Vec<u8> {
        let outputs = self.goal.outputs;
        let mut bytes = MAGIC.to_vec();
        bytes.push(code(self.rule.method));
        for count in [outputs, self.wide.len() / outputs, self.clock.load(Relaxed) as usize] {
            bytes.extend((count as u32).to_le_bytes());
        }
        bytes.extend(self.scale.mean.to_le_bytes());
        bytes.extend(self.scale.deviation.to_le_bytes());
        for cell in &self.wide {
            let (weight, rest) = cell.bits();
            bytes.extend(weight.to_le_bytes());
            rest.iter().for_each(|part| bytes.extend(part.to_le_bytes()));
        }
        let count_at = bytes.len();
        bytes.extend([0; 4]);
        let mut count = 0_u32;
        for (place, cells) in self.table.chunks_exact(outputs).enumerate() {
            if cells.iter().all(|cell| cell.bits() == [0; 4]) {
                continue;
            }
            count += 1;
            bytes.extend((place as u32).to_le_bytes());
            cells.iter().flat_map(|cell| cell.bits()).for_each(|part| bytes.extend(part.to_le_bytes()));
        }
        bytes[count_at..count_at + 4].copy_from_slice(&count.to_le_bytes());
        bytes
    }

    /// Takes over what [`Learner::state`] gave; none where it is damaged or of a learner of another shape, and then the
    /// learner is not to be used.
    pub(crate) fn restore(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        let outputs = self.goal.outputs;
        let fits = reader.take::<8>()? == *MAGIC
            && reader.take::<1>()? == [code(self.rule.method)]
            && reader.u32()? as usize == outputs
            && reader.u32()? as usize == self.wide.len() / outputs;
        if !fits {
            return None;
        }
        self.clock.store(reader.u32()?, Relaxed);
        self.scale = Scale { mean: reader.f64()?, deviation: reader.f64()? };
        for cell in &self.wide {
            cell.put(reader.u32()?, [reader.u64()?, reader.u64()?]);
        }
        for _ in 0..reader.u32()? {
            let place = reader.u32()? as usize;
            let cells = self.table.chunks_exact(outputs).nth(place)?;
            for cell in cells {
                cell.put([reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?]);
            }
        }
        Some(())
    }
}
