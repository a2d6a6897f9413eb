//! Numbers of any width up to 64 bits, one after the other, the lowest bit first.

#[derive(Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
    /// Bits of the last byte that are taken; 0 where it is full.
    taken: u32,
}

impl Writer {
    pub(super) fn push(&mut self, value: u64, width: u32) {
        for bit in 0..width {
            if self.taken == 0 {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((value >> bit & 1) as u8) << self.taken;
            }
            self.taken = (self.taken + 1) % 8;
        }
    }

    pub(super) fn float(&mut self, value: f32) {
        self.push(u64::from(value.to_bits()), 32);
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// What a reader says of bytes that end too soon.
pub(super) const ENDED: &str = "they end too soon";

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    /// Bits that are left.
    pub(super) fn left(&self) -> usize {
        8 * self.bytes.len() - self.at
    }

    pub(super) fn take(&mut self, width: u32) -> Result<u64, &'static str> {
        if self.left() < width as usize {
            return Err(ENDED);
        }
        let mut value = 0;
        let mut done = 0;
        while done < width {
            let shift = (self.at % 8) as u32;
            let count = (8 - shift).min(width - done);
            let part = u64::from(self.bytes[self.at / 8] >> shift) & ((1 << count) - 1);
            value |= part << done;
            done += count;
            self.at += count as usize;
        }
        Ok(value)
    }

    /// A finite number.
    pub(super) fn float(&mut self) -> Result<f32, &'static str> {
        let value = f32::from_bits(self.take(32)? as u32);
        if value.is_finite() { Ok(value) } else { Err("a number is not finite") }
    }

    /// A number that is below `end`.
    pub(super) fn below(&mut self, end: usize) -> Result<usize, &'static str> {
        let value = self.take(width_of(end))? as usize;
        if value < end { Ok(value) } else { Err("a place lies outside its table") }
    }
}

/// Bits that hold every number below `end`.
pub(super) fn width_of(end: usize) -> u32 {
    usize::BITS - end.saturating_sub(1).leading_zeros()
}
