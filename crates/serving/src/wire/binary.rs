//! Tensors as bytes: little-endian, row-major, without padding; an element of BYTES is its length as four bytes and
//! then the bytes. (Binary tensor data extension of the Open Inference Protocol; the same in gRPC's raw contents.)

use crate::refusal::{Answer, Refusal};
use inference::{Data, Datatype};

/// The elements that `bytes` hold; there must be exactly `count`.
pub fn read(name: &str, datatype: Datatype, count: usize, bytes: &[u8]) -> Answer<Data> {
    if let Some(size) = datatype.size()
        && count.checked_mul(size) != Some(bytes.len())
    {
        let given = bytes.len();
        let what =
            format!("input \"{name}\": {given} bytes are given, its shape says {count} elements of {size} bytes");
        return Err(Refusal::malformed(what));
    }
    macro_rules! numbers {
        ($kind:ident, $type:ty) => {{
            let (chunks, _) = bytes.as_chunks::<{ size_of::<$type>() }>();
            Data::$kind(chunks.iter().map(|chunk| <$type>::from_le_bytes(*chunk)).collect())
        }};
    }
    Ok(match datatype {
        Datatype::Bool => {
            if let Some(odd) = bytes.iter().find(|byte| **byte > 1) {
                return Err(Refusal::malformed(format!("input \"{name}\": byte {odd} is no BOOL; 0 and 1 are")));
            }
            Data::Bool(bytes.iter().map(|byte| *byte == 1).collect())
        }
        Datatype::Uint8 => Data::Uint8(bytes.to_vec()),
        Datatype::Uint16 => numbers!(Uint16, u16),
        Datatype::Uint32 => numbers!(Uint32, u32),
        Datatype::Uint64 => numbers!(Uint64, u64),
        Datatype::Int8 => Data::Int8(bytes.iter().map(|byte| *byte as i8).collect()),
        Datatype::Int16 => numbers!(Int16, i16),
        Datatype::Int32 => numbers!(Int32, i32),
        Datatype::Int64 => numbers!(Int64, i64),
        Datatype::Fp16 => numbers!(Fp16, u16),
        Datatype::Bf16 => numbers!(Bf16, u16),
        Datatype::Fp32 => numbers!(Fp32, f32),
        Datatype::Fp64 => numbers!(Fp64, f64),
        Datatype::Bytes => Data::Bytes(strings(name, count, bytes)?),
    })
}

/// One length and its bytes, and the rest.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

fn cut(name: &str, at: usize) -> Refusal {
    let what = format!("input \"{name}\": element {at} is cut off; each is a length (four bytes) and its bytes");
    Refusal::malformed(what)
}

fn strings(name: &str, count: usize, mut bytes: &[u8]) -> Answer<Vec<Vec<u8>>> {
    // Each element takes four bytes at least, so that a large shape alone reserves nothing.
    let mut values = Vec::with_capacity(count.min(bytes.len() / 4));
    for at in 0..count {
        let (value, rest) = string(bytes).ok_or_else(|| cut(name, at))?;
        values.push(value.to_vec());
        bytes = rest;
    }
    if !bytes.is_empty() {
        let what = format!("input \"{name}\": {} bytes are left after its {count} elements", bytes.len());
        return Err(Refusal::malformed(what));
    }
    Ok(values)
}

/// How many elements of BYTES there are.
pub fn count_strings(name: &str, mut bytes: &[u8]) -> Answer<usize> {
    let mut count = 0;
    while !bytes.is_empty() {
        (_, bytes) = string(bytes).ok_or_else(|| cut(name, count))?;
        count += 1;
    }
    Ok(count)
}

/// Appends the elements to `out`.
pub fn write(data: &Data, out: &mut Vec<u8>) {
    macro_rules! numbers {
        ($values:expr) => {
            $values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()))
        };
    }
    match data {
        Data::Bool(values) => out.extend(values.iter().map(|value| u8::from(*value))),
        Data::Uint8(values) => out.extend_from_slice(values),
        Data::Uint16(values) | Data::Fp16(values) | Data::Bf16(values) => numbers!(values),
        Data::Uint32(values) => numbers!(values),
        Data::Uint64(values) => numbers!(values),
        Data::Int8(values) => out.extend(values.iter().map(|value| *value as u8)),
        Data::Int16(values) => numbers!(values),
        Data::Int32(values) => numbers!(values),
        Data::Int64(values) => numbers!(values),
        Data::Fp32(values) => numbers!(values),
        Data::Fp64(values) => numbers!(values),
        Data::Bytes(values) => {
            for value in values {
                out.extend_from_slice(&(value.len() as u32).to_le_bytes());
                out.extend_from_slice(value);
            }
        }
    }
}

/// The bytes that were read as these words.
pub fn bytes_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Bytes that [`write`] appends.
pub fn size(data: &Data) -> usize {
    match data {
        Data::Bytes(values) => values.iter().map(|value| 4 + value.len()).sum(),
        data => data.len() * data.datatype().size().unwrap_or(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_does_not_fit_its_shape_is_refused() {
        assert!(read("x", Datatype::Fp32, 2, &[0; 7]).is_err());
        assert!(read("x", Datatype::Fp32, usize::MAX, &[0; 8]).is_err());
        assert!(read("x", Datatype::Bool, 1, &[2]).unwrap_err().error.contains("byte 2 is no BOOL"));
        assert!(read("x", Datatype::Bytes, 1, &[9, 0, 0, 0, 1]).unwrap_err().error.contains("element 0 is cut off"));
        assert!(read("x", Datatype::Bytes, 1, &[0, 0, 0, 0, 1]).unwrap_err().error.contains("1 bytes are left"));
    }

    fn sample(datatype: Datatype) -> Data {
        match datatype {
            Datatype::Bool => Data::Bool(vec![true, false]),
            Datatype::Uint8 => Data::Uint8(vec![0, 255]),
            Datatype::Uint16 => Data::Uint16(vec![1, u16::MAX]),
            Datatype::Uint32 => Data::Uint32(vec![1, u32::MAX]),
            Datatype::Uint64 => Data::Uint64(vec![1, u64::MAX]),
            Datatype::Int8 => Data::Int8(vec![-1, 127]),
            Datatype::Int16 => Data::Int16(vec![-1, i16::MAX]),
            Datatype::Int32 => Data::Int32(vec![-1, i32::MAX]),
            Datatype::Int64 => Data::Int64(vec![-1, i64::MAX]),
            Datatype::Fp16 => Data::Fp16(vec![0x3c00, 0x7e00]),
            Datatype::Bf16 => Data::Bf16(vec![0x3f80, 0]),
            Datatype::Fp32 => Data::Fp32(vec![-0.5, f32::INFINITY]),
            Datatype::Fp64 => Data::Fp64(vec![1e-300, -0.0]),
            Datatype::Bytes => Data::Bytes(vec![b"a\0b".to_vec(), Vec::new()]),
        }
    }

    #[test]
    fn every_datatype_comes_back() {
        for datatype in Datatype::ALL {
            let data = sample(datatype);
            let mut bytes = Vec::new();
            write(&data, &mut bytes);
            assert_eq!(bytes.len(), size(&data));
            assert_eq!(read("x", datatype, 2, &bytes).unwrap(), data);
        }
    }

    proptest! {
        #[test]
        fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..64), count in 0usize..20) {
            for datatype in Datatype::ALL {
                let _ = read("x", datatype, count, &noise);
            }
            let _ = count_strings("x", &noise);
        }
    }
}
