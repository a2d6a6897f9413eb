//! As much of FlatBuffers as a reader needs: tables find their fields through a table of 16-bit offsets. Every place is
//! checked against the buffer's end; nothing is followed more than once, so that reading ends.

use super::super::{Format, ImportError};

fn damaged(at: usize, what: &str) -> ImportError {
    ImportError::damaged(Format::CatboostCbm, format!("byte {at} of its FlatBuffer"), what)
}

/// A table in a buffer.
#[derive(Clone, Copy)]
pub(super) struct Table<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The offsets of its fields.
    fields: &'a [u8],
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], ImportError> {
    let end = at.checked_add(N);
    let slice = end.and_then(|end| bytes.get(at..end)).ok_or_else(|| damaged(at, "it ends before its content"))?;
    let mut array = [0; N];
    array.copy_from_slice(slice);
    Ok(array)
}

/// Where the 32-bit offset at `at` leads.
fn follow(bytes: &[u8], at: usize) -> Result<usize, ImportError> {
    let offset = u32::from_le_bytes(array(bytes, at)?) as usize;
    at.checked_add(offset).filter(|to| *to < bytes.len()).ok_or_else(|| damaged(at, "an offset leads outside"))
}

impl<'a> Table<'a> {
    pub(super) fn root(bytes: &'a [u8]) -> Result<Table<'a>, ImportError> {
        Table::at(bytes, follow(bytes, 0)?)
    }

    fn at(bytes: &'a [u8], at: usize) -> Result<Table<'a>, ImportError> {
        let back = i64::from(i32::from_le_bytes(array(bytes, at)?));
        let vtable = usize::try_from(at as i64 - back).map_err(|_| damaged(at, "its table of fields is outside"))?;
        let length = usize::from(u16::from_le_bytes(array(bytes, vtable)?));
        let fields = vtable.checked_add(length).and_then(|end| bytes.get(vtable.checked_add(4)?..end));
        let fields = fields.ok_or_else(|| damaged(vtable, "its table of fields is cut off"))?;
        Ok(Table { bytes, at, fields })
    }

    /// Where field number `field` is, if it is there.
    fn place(&self, field: usize) -> Option<usize> {
        let offset = self.fields.get(2 * field..2 * field + 2)?;
        let offset = usize::from(u16::from_le_bytes([offset[0], offset[1]]));
        if offset == 0 { None } else { self.at.checked_add(offset) }
    }

    fn scalar<const N: usize>(&self, field: usize) -> Result<Option<[u8; N]>, ImportError> {
        self.place(field).map(|at| array(self.bytes, at)).transpose()
    }

    pub(super) fn byte(&self, field: usize, default: u8) -> Result<u8, ImportError> {
        Ok(self.scalar(field)?.map_or(default, u8::from_le_bytes))
    }

    pub(super) fn int(&self, field: usize, default: i32) -> Result<i32, ImportError> {
        Ok(self.scalar(field)?.map_or(default, i32::from_le_bytes))
    }

    pub(super) fn double(&self, field: usize, default: f64) -> Result<f64, ImportError> {
        Ok(self.scalar(field)?.map_or(default, f64::from_le_bytes))
    }

    pub(super) fn table(&self, field: usize) -> Result<Option<Table<'a>>, ImportError> {
        self.place(field).map(|at| Table::at(self.bytes, follow(self.bytes, at)?)).transpose()
    }

    /// The elements, of `N` bytes each.
    pub(super) fn vector<const N: usize>(&self, field: usize) -> Result<Vec<[u8; N]>, ImportError> {
        let Some(at) = self.place(field) else { return Ok(Vec::new()) };
        let (_, bytes) = self.span(at, N)?;
        Ok(bytes.chunks_exact(N).map(|chunk| std::array::from_fn(|byte| chunk[byte])).collect())
    }

    /// Where the elements of the vector to which `at` leads begin, and their bytes.
    fn span(&self, at: usize, size: usize) -> Result<(usize, &'a [u8]), ImportError> {
        let at = follow(self.bytes, at)?;
        let count = u32::from_le_bytes(array(self.bytes, at)?) as usize;
        let first = at + 4;
        let end = count.checked_mul(size).and_then(|length| first.checked_add(length));
        let bytes = end.and_then(|end| self.bytes.get(first..end));
        bytes.map(|bytes| (first, bytes)).ok_or_else(|| damaged(at, "a list is longer than the file"))
    }

    pub(super) fn text(&self, field: usize) -> Result<Option<&'a str>, ImportError> {
        let Some(at) = self.place(field) else { return Ok(None) };
        let (first, bytes) = self.span(at, 1)?;
        std::str::from_utf8(bytes).map(Some).map_err(|_| damaged(first, "a text is no UTF-8"))
    }

    pub(super) fn tables(&self, field: usize) -> Result<Vec<Table<'a>>, ImportError> {
        let Some(at) = self.place(field) else { return Ok(Vec::new()) };
        let (first, bytes) = self.span(at, 4)?;
        (0..bytes.len() / 4).map(|number| Table::at(self.bytes, follow(self.bytes, first + 4 * number)?)).collect()
    }
}
