//! A network as bytes: magic with the format's version, then the parts in the order of their declaration, little-endian.
//! Of an embedding table only the rows that are not all zero are written: ids that were never seen cost nothing.

use super::NetworkModel;
use super::parts::{DIMENSION_MAX, Dense, Hidden, NetworkParts, Numeric, Place, TABLE_NUMBERS_MAX, Table, WIDTH_MAX};
use crate::model::{Link, ModelError};
use vocabulary::inputs::Layout;

const MAGIC: &[u8; 8] = b"HSNETWK1";

pub(super) fn write(parts: &NetworkParts) -> Vec<u8> {
    let mut out = Writer { bytes: MAGIC.to_vec() };
    out.bytes.push(parts.link.code());
    out.bytes.extend(parts.mean.to_le_bytes());
    out.bytes.extend(parts.deviation.to_le_bytes());
    out.list(&parts.numeric, Writer::numeric);
    out.list(&parts.tables, Writer::table);
    out.list(&parts.slots, |out, slot| out.count(slot.map_or(u32::MAX, |table| table) as usize));
    out.list(&parts.cross, Writer::dense);
    out.list(&parts.hidden, |out, layer| {
        out.bytes.push(u8::from(layer.residual));
        out.dense(&layer.dense);
    });
    out.dense(&parts.output);
    out.floats(&parts.baseline);
    out.bytes
}

pub(super) struct Writer {
    pub bytes: Vec<u8>,
}

impl Writer {
    pub fn count(&mut self, count: usize) {
        self.bytes.extend((count as u32).to_le_bytes());
    }

    pub fn list<T>(&mut self, list: &[T], each: impl Fn(&mut Writer, &T)) {
        self.count(list.len());
        list.iter().for_each(|item| each(self, item));
    }

    pub fn values(&mut self, values: &[f32]) {
        values.iter().for_each(|value| self.bytes.extend(value.to_le_bytes()));
    }

    pub fn floats(&mut self, values: &[f32]) {
        self.count(values.len());
        self.values(values);
    }

    pub fn numeric(&mut self, numeric: &Numeric) {
        match numeric {
            Numeric::Unused => self.bytes.push(0),
            Numeric::Plain => self.bytes.push(1),
            Numeric::PiecewiseLinear { edges } => {
                self.bytes.push(2);
                self.floats(edges);
            }
            Numeric::Periodic { frequencies } => {
                self.bytes.push(3);
                self.floats(frequencies);
            }
        }
    }

    /// What a table is, before its rows.
    pub fn table_head(&mut self, ids: u32, dimension: u32, place: Place) {
        self.count(ids as usize);
        self.count(dimension as usize);
        let (code, size) = match place {
            Place::Direct => (0, 0),
            Place::Hashed { rows } => (1, rows),
            Place::QuotientRemainder { remainders } => (2, remainders),
        };
        self.bytes.push(code);
        self.count(size as usize);
    }

    pub fn table(&mut self, table: &Table) {
        self.table_head(table.ids, table.dimension, table.place);
        let rows = table.weights.chunks_exact((table.dimension as usize).max(1)).enumerate();
        let used: Vec<_> = rows.filter(|(_, row)| row.iter().any(|weight| weight.to_bits() != 0)).collect();
        self.list(&used, |out, (place, row)| {
            out.count(*place);
            out.values(row);
        });
    }

    pub fn dense(&mut self, dense: &Dense) {
        self.count(dense.inputs as usize);
        self.count(dense.outputs as usize);
        self.values(&dense.weights);
        self.values(&dense.bias);
    }
}

/// Fails on anything but what [`write`] writes; shapes are checked by [`NetworkParts::check`] afterwards.
pub(super) fn read(bytes: &[u8], layout: &Layout) -> Result<NetworkParts, ModelError> {
    let mut from = Reader { bytes, kind: NetworkModel::KIND };
    if from.take::<8>()? != *MAGIC {
        return Err(from.damaged("they do not begin with HSNETWK1"));
    }
    let [link] = from.take::<1>()?;
    let link = Link::from_code(link).ok_or_else(|| from.damaged("the link is unknown"))?;
    let mean = f64::from_le_bytes(from.take()?);
    let deviation = f64::from_le_bytes(from.take()?);
    let numeric = from.list(1, Reader::numeric)?;
    let mut numbers = 0;
    let tables = from.list(17, |from| from.table(&mut numbers))?;
    let slots = from.list(4, |from| Ok(Some(from.number()?).filter(|table| *table != u32::MAX)))?;
    let cross = from.list(8, Reader::dense)?;
    let hidden = from.list(9, |from| {
        let residual = match from.take::<1>()? {
            [0] => false,
            [1] => true,
            _ => return Err(from.damaged("a layer is of an unknown kind")),
        };
        Ok(Hidden { residual, dense: from.dense()? })
    })?;
    let parts = NetworkParts {
        link,
        numeric,
        tables,
        slots,
        cross,
        hidden,
        output: from.dense()?,
        mean,
        deviation,
        baseline: from.floats()?,
    };
    if !from.bytes.is_empty() {
        return Err(from.damaged("there are bytes after the last number"));
    }
    parts.check(layout)?;
    Ok(parts)
}

pub(super) struct Reader<'a> {
    pub bytes: &'a [u8],
    /// The model's, for errors.
    pub kind: &'static str,
}

impl<'a> Reader<'a> {
    pub fn damaged(&self, what: &str) -> ModelError {
        ModelError::Damaged { kind: self.kind, what: what.to_owned() }
    }

    pub fn take<const N: usize>(&mut self) -> Result<[u8; N], ModelError> {
        let (taken, rest) = self.bytes.split_first_chunk::<N>().ok_or_else(|| self.damaged("they end too early"))?;
        self.bytes = rest;
        Ok(*taken)
    }

    pub fn number(&mut self) -> Result<u32, ModelError> {
        self.take().map(u32::from_le_bytes)
    }

    /// A list whose entries take `size` bytes each at least, which must all be there.
    pub fn list<T>(
        &mut self,
        size: usize,
        mut each: impl FnMut(&mut Self) -> Result<T, ModelError>,
    ) -> Result<Vec<T>, ModelError> {
        let count = self.number()? as usize;
        if self.bytes.len() / size < count {
            return Err(self.damaged("they end too early"));
        }
        (0..count).map(|_| each(self)).collect()
    }

    /// So many of the next bytes.
    pub fn run(&mut self, len: Option<usize>) -> Result<&'a [u8], ModelError> {
        let taken = len.and_then(|len| self.bytes.split_at_checked(len));
        let (taken, rest) = taken.ok_or_else(|| self.damaged("they end too early"))?;
        self.bytes = rest;
        Ok(taken)
    }

    pub fn values(&mut self, count: usize) -> Result<Vec<f32>, ModelError> {
        let (values, _) = self.run(count.checked_mul(4))?.as_chunks::<4>();
        Ok(values.iter().map(|value| f32::from_le_bytes(*value)).collect())
    }

    pub fn floats(&mut self) -> Result<Vec<f32>, ModelError> {
        let count = self.number()? as usize;
        self.values(count)
    }

    pub fn numeric(&mut self) -> Result<Numeric, ModelError> {
        match self.take::<1>()? {
            [0] => Ok(Numeric::Unused),
            [1] => Ok(Numeric::Plain),
            [2] => Ok(Numeric::PiecewiseLinear { edges: self.floats()? }),
            [3] => Ok(Numeric::Periodic { frequencies: self.floats()? }),
            _ => Err(self.damaged("an encoding is unknown")),
        }
    }

    /// `numbers` counts what all tables hold so far: their rows are not all in the bytes, so a wrong size must not make
    /// the program ask for any amount of memory.
    pub fn table_head(&mut self, numbers: &mut usize) -> Result<(u32, u32, Place), ModelError> {
        let (ids, dimension) = (self.number()?, self.number()?);
        let ([code], size) = (self.take::<1>()?, self.number()?);
        let place = match code {
            0 if size == 0 => Place::Direct,
            1 if size > 0 => Place::Hashed { rows: size },
            2 if size > 0 => Place::QuotientRemainder { remainders: size },
            _ => return Err(self.damaged("a table is of an unknown kind")),
        };
        let (rows, width) = (place.rows(ids), dimension as usize);
        *numbers += rows.saturating_mul(width).min(TABLE_NUMBERS_MAX + 1);
        if *numbers > TABLE_NUMBERS_MAX || width > DIMENSION_MAX {
            return Err(self.damaged("a table is larger than any can be"));
        }
        Ok((ids, dimension, place))
    }

    pub fn table(&mut self, numbers: &mut usize) -> Result<Table, ModelError> {
        let (ids, dimension, place) = self.table_head(numbers)?;
        let (rows, width) = (place.rows(ids), dimension as usize);
        let mut weights = vec![0.0; rows * width];
        let mut next = 0;
        for _ in 0..self.number()? {
            let place = self.number()? as usize;
            if place < next || place >= rows {
                return Err(self.damaged("a row lies outside its table"));
            }
            next = place + 1;
            let row = self.values(width)?;
            if row.iter().all(|weight| weight.to_bits() == 0) {
                return Err(self.damaged("a row of zeros is written"));
            }
            weights[place * width..next * width].copy_from_slice(&row);
        }
        Ok(Table { ids, dimension, place, weights })
    }

    pub fn dense(&mut self) -> Result<Dense, ModelError> {
        let (inputs, outputs) = (self.number()?, self.number()?);
        let (rows, columns) = (inputs as usize, outputs as usize);
        if rows > WIDTH_MAX || columns > WIDTH_MAX {
            return Err(self.damaged("a layer is larger than any can be"));
        }
        Ok(Dense { inputs, outputs, weights: self.values(rows * columns)?, bias: self.values(columns)? })
    }
}
