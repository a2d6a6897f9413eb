//! Recorded requests as bytes, so that a version can be warmed up with them after a restart: a format number, for each
//! request its inputs, and a digest of it all. Bytes that are not whole, not of this format or too many are refused.

use crate::wire::binary;
use crate::wire::json::elements;
use inference::{Datatype, Tensor};

const MAGIC: &[u8; 8] = b"hs-warm\x01";

/// Bytes of a file at most: four requests of 64 KiB with their heads are less.
pub const BYTES_MAX: usize = 1 << 20;

const DIGEST_BYTES: usize = 32;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordedError {
    #[error("it is larger than {BYTES_MAX} bytes")]
    Large,
    #[error("it is not of this format, or not whole")]
    Damaged,
}

pub fn to_bytes(requests: &[Vec<Tensor>]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    let number = |out: &mut Vec<u8>, number: usize| out.extend_from_slice(&(number as u64).to_le_bytes());
    let text = |out: &mut Vec<u8>, bytes: &[u8]| {
        number(out, bytes.len());
        out.extend_from_slice(bytes);
    };
    number(&mut out, requests.len());
    for inputs in requests {
        number(&mut out, inputs.len());
        for input in inputs {
            text(&mut out, input.name.as_bytes());
            text(&mut out, input.datatype().name().as_bytes());
            number(&mut out, input.shape.len());
            input.shape.iter().for_each(|length| number(&mut out, *length));
            number(&mut out, binary::size(&input.data));
            binary::write(&input.data, &mut out);
        }
    }
    let digest = blake3::hash(&out);
    out.extend_from_slice(digest.as_bytes());
    out
}

pub fn from_bytes(bytes: &[u8]) -> Result<Vec<Vec<Tensor>>, RecordedError> {
    if bytes.len() > BYTES_MAX {
        return Err(RecordedError::Large);
    }
    read(bytes).ok_or(RecordedError::Damaged)
}

fn read(bytes: &[u8]) -> Option<Vec<Vec<Tensor>>> {
    let (body, digest) = bytes.split_at_checked(bytes.len().checked_sub(DIGEST_BYTES)?)?;
    if blake3::hash(body).as_bytes() != digest {
        return None;
    }
    let mut rest = Rest(body.strip_prefix(MAGIC)?);
    let count = rest.number()?;
    let mut requests = Vec::new();
    for _ in 0..count {
        let count = rest.number()?;
        let mut inputs = Vec::new();
        for _ in 0..count {
            inputs.push(rest.tensor()?);
        }
        requests.push(inputs);
    }
    rest.0.is_empty().then_some(requests)
}

/// What is still to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<usize> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        usize::try_from(u64::from_le_bytes(*bytes)).ok()
    }

    fn text(&mut self) -> Option<&'a str> {
        let count = self.number()?;
        std::str::from_utf8(self.take(count)?).ok()
    }

    fn tensor(&mut self) -> Option<Tensor> {
        let (name, datatype) = (self.text()?, Datatype::parse(self.text()?)?);
        let dimensions = self.number()?;
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.push(self.number()?);
        }
        let size = self.number()?;
        let data = binary::read(name, datatype, elements(&shape)?, self.take(size)?).ok()?;
        Some(Tensor::new(name, shape, data))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use inference::Data;
    use proptest::prelude::*;

    fn requests() -> Vec<Vec<Tensor>> {
        let text = Data::Bytes(vec![b"gr\xc3\xbcn".to_vec(), Vec::new()]);
        vec![
            vec![Tensor::new("x", vec![2, 2], Data::Fp32(vec![0.5, f32::INFINITY, -0.0, 3.0]))],
            vec![Tensor::new("t", vec![2], text), Tensor::new("one", vec![], Data::Int64(vec![-7]))],
            Vec::new(),
        ]
    }

    #[test]
    fn requests_come_back_and_a_changed_byte_is_noticed() {
        let bytes = to_bytes(&requests());
        assert_eq!(from_bytes(&bytes), Ok(requests()));
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1;
            assert_eq!(from_bytes(&damaged), Err(RecordedError::Damaged), "byte {place}");
            assert_eq!(from_bytes(&bytes[..place]), Err(RecordedError::Damaged), "cut at {place}");
        }
        assert_eq!(from_bytes(&vec![0; BYTES_MAX + 1]), Err(RecordedError::Large));
    }

    proptest! {
        /// Under a right digest, too.
        #[test]
        fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut bytes = MAGIC.to_vec();
            bytes.extend_from_slice(&noise);
            bytes.extend_from_slice(blake3::hash(&bytes.clone()).as_bytes());
            let _ = from_bytes(&bytes);
        }
    }
}
