//! Reads and writes the fields of a protocol-buffer message in place. Knows the encoding, no message.

/// One field of a message.
pub(crate) struct Field<'a> {
    pub number: u32,
    pub value: Value<'a>,
    /// The field as it is encoded, with its tag.
    pub encoded: &'a [u8],
}

pub(crate) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Four or eight bytes that nobody here reads.
    Fixed,
}

/// The fields of a message, in their order; ends after the first that is malformed.
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

/// Where a message is not one.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("malformed protocol buffer")]
pub(crate) struct Malformed;

impl<'a> Fields<'a> {
    pub fn of(message: &'a [u8]) -> Fields<'a> {
        Fields { rest: message }
    }

    fn read(&mut self) -> Result<Field<'a>, Malformed> {
        let start = self.rest;
        let tag = self.number()?;
        let number = u32::try_from(tag >> 3).map_err(|_| Malformed)?;
        let value = match tag & 7 {
            0 => Value::Number(self.number()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = usize::try_from(self.number()?).map_err(|_| Malformed)?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(Malformed),
        };
        Ok(Field { number, value, encoded: &start[..start.len() - self.rest.len()] })
    }

    fn number(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        for place in 0..10 {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// Numbers that lie together in one field.
pub(crate) fn packed(bytes: &[u8]) -> Result<Vec<u64>, Malformed> {
    let mut fields = Fields::of(bytes);
    let mut numbers = Vec::new();
    while !fields.rest.is_empty() {
        numbers.push(fields.number()?);
    }
    Ok(numbers)
}

pub(crate) fn put_number(message: &mut Vec<u8>, field: u32, number: u64) {
    put_varint(message, u64::from(field) << 3);
    put_varint(message, number);
}

pub(crate) fn put_bytes(message: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    put_varint(message, u64::from(field) << 3 | 2);
    put_varint(message, bytes.len() as u64);
    message.extend_from_slice(bytes);
}

fn put_varint(message: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        message.push(number as u8 | 0x80);
        number >>= 7;
    }
    message.push(number as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_put_is_read_back(
            parts in prop::collection::vec((1u32..1 << 29, any::<u64>(), any::<Vec<u8>>()), 0..9)
        ) {
            let mut message = Vec::new();
            for (field, number, bytes) in &parts {
                put_number(&mut message, *field, *number);
                put_bytes(&mut message, *field, bytes);
            }
            let mut fields = Fields::of(&message);
            let mut copied = Vec::new();
            for (field, number, bytes) in &parts {
                let read = fields.next().unwrap().unwrap();
                prop_assert!(read.number == *field && matches!(read.value, Value::Number(value) if value == *number));
                copied.extend_from_slice(read.encoded);
                let read = fields.next().unwrap().unwrap();
                prop_assert!(read.number == *field && matches!(read.value, Value::Bytes(value) if value == bytes));
                copied.extend_from_slice(read.encoded);
            }
            prop_assert!(fields.next().is_none());
            prop_assert_eq!(copied, message);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in any::<Vec<u8>>()) {
            let _ = Fields::of(&bytes).filter(|field| field.is_ok()).count();
        }
    }
}
