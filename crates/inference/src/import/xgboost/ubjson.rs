//! Universal Binary JSON, as XGBoost writes it, for serde: big-endian numbers, lists with or without a type and a count.

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Deeper nesting is damage; XGBoost's own files have seven levels.
const DEPTH_MAX: usize = 64;

#[derive(Debug)]
pub struct Error {
    pub at: usize,
    pub what: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Error {
        Error { at: 0, what: message.to_string() }
    }
}

/// Reads a value from its bytes, of which none may be left.
pub fn from_slice<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Error> {
    let mut reader = Reader { bytes, at: 0, depth: 0 };
    let value = T::deserialize(Value { reader: &mut reader, marker: None });
    let at = reader.at;
    match value {
        Ok(value) if at == bytes.len() => Ok(value),
        Ok(_) => Err(Error { at, what: "more follows after the end of the model".to_owned() }),
        Err(error) => Err(Error { at: if error.at == 0 { at } else { error.at }, ..error }),
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn error<T>(&self, what: impl Into<String>) -> Result<T, Error> {
        Err(Error { at: self.at, what: what.into() })
    }

    fn slice(&mut self, length: usize) -> Result<&'a [u8], Error> {
        let end = self.at.checked_add(length);
        match end.and_then(|end| self.bytes.get(self.at..end)) {
            Some(slice) => {
                self.at += length;
                Ok(slice)
            }
            None => self.error(format!("{length} bytes are expected and fewer are left")),
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let mut array = [0; N];
        array.copy_from_slice(self.slice(N)?);
        Ok(array)
    }

    fn marker(&mut self) -> Result<u8, Error> {
        // N stands for nothing.
        loop {
            match self.array::<1>()? {
                [b'N'] => (),
                [marker] => return Ok(marker),
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn integer(&mut self, marker: u8) -> Result<Option<i64>, Error> {
        Ok(Some(match marker {
            b'i' => i64::from(i8::from_be_bytes(self.array()?)),
            b'U' => i64::from(u8::from_be_bytes(self.array()?)),
            b'I' => i64::from(i16::from_be_bytes(self.array()?)),
            b'l' => i64::from(i32::from_be_bytes(self.array()?)),
            b'L' => i64::from_be_bytes(self.array()?),
            _ => return Ok(None),
        }))
    }

    fn length(&mut self) -> Result<usize, Error> {
        let marker = self.marker()?;
        let length = self.integer(marker)?.and_then(|length| usize::try_from(length).ok());
        match length {
            Some(length) => Ok(length),
            None => self.error("a length is no whole number from zero on"),
        }
    }

    fn text(&mut self) -> Result<&'a str, Error> {
        let length = self.length()?;
        let bytes = self.slice(length)?;
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text),
            Err(_) => self.error("a text is no UTF-8"),
        }
    }

    /// What follows a bracket or brace: the type and the number of the elements, where they are given.
    fn header(&mut self) -> Result<(Option<u8>, Option<usize>), Error> {
        let mut kind = None;
        if self.peek() == Some(b'$') {
            self.at += 1;
            kind = Some(self.marker()?);
            if self.peek() != Some(b'#') {
                return self.error("a list has a type and no length");
            }
        }
        if self.peek() != Some(b'#') {
            return Ok((None, None));
        }
        self.at += 1;
        let count = self.length()?;
        // Each element takes a byte at least; only null, true and false of a typed list take none.
        if count > self.bytes.len() - self.at {
            return self.error(format!("a list of {count} elements is longer than the file"));
        }
        Ok((kind, Some(count)))
    }

    fn enter(&mut self) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > DEPTH_MAX { self.error(format!("it nests deeper than {DEPTH_MAX} levels")) } else { Ok(()) }
    }
}

/// The next value; in a typed list its marker is known.
struct Value<'r, 'a> {
    reader: &'r mut Reader<'a>,
    marker: Option<u8>,
}

impl<'de> Deserializer<'de> for Value<'_, 'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        let Value { reader, marker } = self;
        let marker = marker.map_or_else(|| reader.marker(), Ok)?;
        if let Some(number) = reader.integer(marker)? {
            return visitor.visit_i64(number);
        }
        match marker {
            b'Z' => visitor.visit_unit(),
            b'T' => visitor.visit_bool(true),
            b'F' => visitor.visit_bool(false),
            b'd' => visitor.visit_f32(f32::from_be_bytes(reader.array()?)),
            b'D' => visitor.visit_f64(f64::from_be_bytes(reader.array()?)),
            b'C' => visitor.visit_char(char::from(reader.array::<1>()?[0])),
            b'S' | b'H' => visitor.visit_borrowed_str(reader.text()?),
            b'[' | b'{' => {
                reader.enter()?;
                let (kind, left) = reader.header()?;
                let close = if marker == b'[' { b']' } else { b'}' };
                let mut list = List { reader, kind, left, close };
                let value = if marker == b'[' { visitor.visit_seq(&mut list) } else { visitor.visit_map(&mut list) }?;
                // A visitor may stop early.
                if list.more()? {
                    return list.reader.error("a list has more elements than expected");
                }
                list.reader.depth -= 1;
                Ok(value)
            }
            other => reader.error(format!("{} stands where a value begins", other.escape_ascii())),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.marker.or(self.reader.peek()) {
            Some(b'Z') => self.deserialize_any(visitor),
            _ => visitor.visit_some(self),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct List<'r, 'a> {
    reader: &'r mut Reader<'a>,
    kind: Option<u8>,
    /// Elements to come, where the list tells.
    left: Option<usize>,
    close: u8,
}

impl List<'_, '_> {
    /// Whether another element follows; swallows the closing bracket.
    fn more(&mut self) -> Result<bool, Error> {
        match &mut self.left {
            Some(0) => Ok(false),
            Some(left) => {
                *left -= 1;
                Ok(true)
            }
            None => {
                while self.reader.peek() == Some(b'N') {
                    self.reader.at += 1;
                }
                match self.reader.peek() {
                    Some(byte) if byte == self.close => {
                        self.reader.at += 1;
                        self.left = Some(0);
                        Ok(false)
                    }
                    Some(_) => Ok(true),
                    None => self.reader.error("it ends inside a list"),
                }
            }
        }
    }
}

impl<'a> SeqAccess<'a> for &mut List<'_, 'a> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'a>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        if !self.more()? {
            return Ok(None);
        }
        seed.deserialize(Value { reader: self.reader, marker: self.kind }).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        self.left
    }
}

impl<'a> MapAccess<'a> for &mut List<'_, 'a> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'a>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        if !self.more()? {
            return Ok(None);
        }
        let key = self.reader.text()?;
        seed.deserialize(de::value::BorrowedStrDeserializer::new(key)).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'a>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(Value { reader: self.reader, marker: self.kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn lists_with_and_without_a_type() {
        let typed: Vec<f32> = from_slice(b"[$d#U\x02\x3f\x80\x00\x00\xbf\x80\x00\x00").unwrap();
        assert_eq!(typed, [1.0, -1.0]);
        let untyped: Vec<i64> = from_slice(b"[i\xffI\x01\x00NL\x00\x00\x00\x00\x00\x00\x00\x07]").unwrap();
        assert_eq!(untyped, [-1, 256, 7]);
        let map: BTreeMap<String, Option<String>> = from_slice(b"{i\x01aSi\x02hii\x01bZ}").unwrap_or_default();
        assert_eq!(map.get("a"), Some(&Some("hi".to_owned())));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let read = |bytes: &[u8]| from_slice::<de::IgnoredAny>(bytes).unwrap_err().to_string();
        assert!(read(b"[$d#L\x7f\xff\xff\xff\xff\xff\xff\xff").contains("longer than the file"));
        assert!(read(&[b'['; 100]).contains("deeper than 64"));
        assert!(read(b"[").contains("inside a list"));
        assert!(read(b"?").contains("where a value begins"));
        assert!(read(b"TT").contains("more follows"));
    }
}
