//! Keys and identifiers: a few typed values as one string of bytes that sorts as they do.

use std::cmp::Ordering;
use std::fmt;
use vocabulary::time::Timestamp;

/// One or more typed values as bytes: equal values have equal bytes, different ones different, and the order of the bytes
/// is the order of the values (bools, then ints, then instants, then texts). Keys of events and identifiers alike.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Box<[u8]>);

/// A value of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part<'a> {
    Bool(bool),
    Int(i64),
    Time(Timestamp),
    Text(&'a str),
}

/// Bytes of a key or an identifier at most: a judgement; longer ones are payload, and cost memory for each key.
pub const KEY_BYTES_MAX: usize = 1024;

const BOOL: u8 = 1;
const INT: u8 = 2;
const TIME: u8 = 3;
const TEXT: u8 = 4;
/// Ends a text; a zero byte within it is followed by [`ZERO`].
const END: u8 = 1;
const ZERO: u8 = 0xff;

impl Key {
    pub fn of<'a>(parts: impl IntoIterator<Item = Part<'a>>) -> Key {
        let mut bytes = Vec::with_capacity(16);
        parts.into_iter().for_each(|part| write(part, &mut bytes));
        Key(bytes.into_boxed_slice())
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// None where the bytes are not those of any key.
    pub fn from_bytes(bytes: &[u8]) -> Option<Key> {
        let key = Key(bytes.into());
        key.texts().is_some().then_some(key)
    }

    /// Its values as JSON, in order.
    pub fn to_json(&self) -> Vec<serde_json::Value> {
        self.texts().unwrap_or_default()
    }

    fn texts(&self) -> Option<Vec<serde_json::Value>> {
        let mut values = Vec::new();
        let mut rest = &self.0[..];
        while let Some((tag, after)) = rest.split_first() {
            let (value, after) = read(*tag, after)?;
            values.push(value);
            rest = after;
        }
        Some(values)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, value) in self.to_json().iter().enumerate() {
            write!(f, "{}{value}", if i == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

impl std::borrow::Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq<[u8]> for Key {
    fn eq(&self, other: &[u8]) -> bool {
        self.0.as_ref().cmp(other) == Ordering::Equal
    }
}

/// Turns the order of signed numbers into that of their bytes.
fn ordered(value: i64) -> [u8; 8] {
    (value as u64 ^ 1 << 63).to_be_bytes()
}

fn unordered(bytes: [u8; 8]) -> i64 {
    (u64::from_be_bytes(bytes) ^ 1 << 63) as i64
}

fn write(part: Part<'_>, bytes: &mut Vec<u8>) {
    match part {
        Part::Bool(value) => bytes.extend([BOOL, u8::from(value)]),
        Part::Int(value) => {
            bytes.push(INT);
            bytes.extend(ordered(value));
        }
        Part::Time(at) => {
            bytes.push(TIME);
            bytes.extend(ordered(at.0));
        }
        Part::Text(text) => {
            bytes.push(TEXT);
            if text.contains('\0') {
                text.bytes().for_each(|byte| bytes.extend([byte, ZERO].iter().take(1 + usize::from(byte == 0))));
            } else {
                bytes.extend(text.as_bytes());
            }
            bytes.extend([0, END]);
        }
    }
}

fn read(tag: u8, bytes: &[u8]) -> Option<(serde_json::Value, &[u8])> {
    match tag {
        BOOL => {
            let (value, rest) = bytes.split_first()?;
            (*value <= 1).then_some((serde_json::Value::from(*value == 1), rest))
        }
        INT | TIME => {
            let (value, rest) = bytes.split_first_chunk::<8>()?;
            let value = unordered(*value);
            let shown = if tag == INT { value.into() } else { Timestamp(value).to_string().into() };
            Some((shown, rest))
        }
        TEXT => {
            let mut text = Vec::new();
            let mut i = 0;
            loop {
                match (*bytes.get(i)?, bytes.get(i + 1)) {
                    (0, Some(&END)) => break,
                    (0, Some(&ZERO)) => i += 2,
                    (0, _) => return None,
                    (byte, _) => {
                        text.push(byte);
                        i += 1;
                        continue;
                    }
                }
                text.push(0);
            }
            Some((String::from_utf8(text).ok()?.into(), &bytes[i + 2..]))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
    enum Owned {
        Bool(bool),
        Int(i64),
        Time(i64),
        Text(String),
    }

    fn parts() -> impl Strategy<Value = Vec<Owned>> {
        let part = prop_oneof![
            any::<bool>().prop_map(Owned::Bool),
            any::<i64>().prop_map(Owned::Int),
            (-60_000_000_000_000_000i64..250_000_000_000_000_000).prop_map(Owned::Time),
            "[\0a-c\u{1}\u{ff}]{0,4}".prop_map(Owned::Text),
        ];
        proptest::collection::vec(part, 1..4)
    }

    fn key(parts: &[Owned]) -> Key {
        Key::of(parts.iter().map(|part| match part {
            Owned::Bool(value) => Part::Bool(*value),
            Owned::Int(value) => Part::Int(*value),
            Owned::Time(at) => Part::Time(Timestamp(*at)),
            Owned::Text(text) => Part::Text(text),
        }))
    }

    proptest! {
        #[test]
        fn keys_sort_as_their_values_and_read_back(a in parts(), b in parts()) {
            prop_assert_eq!(key(&a).cmp(&key(&b)), a.cmp(&b));
            let back = Key::from_bytes(key(&a).as_bytes()).unwrap();
            let shown: Vec<serde_json::Value> = a.iter().map(|part| match part {
                Owned::Bool(value) => (*value).into(),
                Owned::Int(value) => (*value).into(),
                Owned::Time(at) => Timestamp(*at).to_string().into(),
                Owned::Text(text) => text.as_str().into(),
            }).collect();
            prop_assert_eq!(back.to_json(), shown);
        }

        #[test]
        fn strange_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..24)) {
            if let Some(key) = Key::from_bytes(&bytes) {
                prop_assert_eq!(key.as_bytes(), &bytes[..]);
            }
        }
    }
}
