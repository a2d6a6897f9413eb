//! Numbers, bytes and values, little-endian and with their lengths. Reading never trusts a length.

use super::bytes::Wrong;
use super::engine::{BEGINNING, END};
use super::event::Value;

#[derive(Default)]
pub(super) struct Writer(pub(super) Vec<u8>);

pub(super) struct Reader<'a>(pub(super) &'a [u8]);

const SHORT: Wrong = "it ends too early";

impl Writer {
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.raw(&value.to_le_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.raw(&value.to_le_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.raw(&value.to_le_bytes());
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.raw(&value.to_le_bytes());
    }

    pub(super) fn f64(&mut self, value: f64) {
        self.u64(value.to_bits());
    }

    pub(super) fn count(&mut self, value: usize) {
        self.u64(value as u64);
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.raw(bytes);
    }

    pub(super) fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.u8(0),
            Value::Number(number) => {
                self.u8(1);
                self.f64(*number);
            }
            Value::Text(text) => {
                self.u8(2);
                self.bytes(text.as_bytes());
            }
        }
    }
}

impl<'a> Reader<'a> {
    fn chunk<const N: usize>(&mut self) -> Result<[u8; N], Wrong> {
        let (chunk, rest) = self.0.split_first_chunk::<N>().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*chunk)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Wrong> {
        self.chunk::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Wrong> {
        self.chunk().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Wrong> {
        self.chunk().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Wrong> {
        self.chunk().map(u64::from_le_bytes)
    }

    pub(super) fn i64(&mut self) -> Result<i64, Wrong> {
        self.chunk().map(i64::from_le_bytes)
    }

    /// A number of events; more than a float can count is damage.
    pub(super) fn tally(&mut self) -> Result<u64, Wrong> {
        let count = self.u64()?;
        if count <= 1 << 53 { Ok(count) } else { Err("a count is out of range") }
    }

    /// An instant, or the beginning or end of time.
    pub(super) fn instant(&mut self) -> Result<i64, Wrong> {
        let at = self.i64()?;
        if (BEGINNING..=END).contains(&at) { Ok(at) } else { Err("an instant is out of range") }
    }

    /// A finite number that is not -0.
    pub(super) fn f64(&mut self) -> Result<f64, Wrong> {
        let value = f64::from_bits(self.u64()?);
        let canonical = value.is_finite() && value.to_bits() != (-0.0f64).to_bits();
        if canonical { Ok(value) } else { Err("a number is not finite") }
    }

    /// How many things of at least `least` bytes each follow.
    pub(super) fn count(&mut self, least: usize) -> Result<usize, Wrong> {
        let count = usize::try_from(self.u64()?).map_err(|_| SHORT)?;
        if count > self.0.len() / least.max(1) { Err(SHORT) } else { Ok(count) }
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Wrong> {
        let count = self.count(1)?;
        let (bytes, rest) = self.0.split_at(count);
        self.0 = rest;
        Ok(bytes)
    }

    pub(super) fn value(&mut self) -> Result<Value, Wrong> {
        match self.u8()? {
            0 => Ok(Value::Null),
            1 => self.f64().map(Value::Number),
            2 => {
                let text = std::str::from_utf8(self.bytes()?).map_err(|_| "a text is not UTF-8")?;
                Ok(Value::Text(text.into()))
            }
            _ => Err("a value is of no kind"),
        }
    }

    pub(super) fn end(&self) -> Result<(), Wrong> {
        if self.0.is_empty() { Ok(()) } else { Err("it goes on after its end") }
    }
}
