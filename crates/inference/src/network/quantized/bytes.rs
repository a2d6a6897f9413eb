//! A quantized network as bytes: magic with the format's version, then the parts in the order of their declaration,
//! little-endian, encodings and single-precision layers as a network has them. Of a rounded table a bit for each row
//! tells whether it is written; those that are not are zeros.

use super::{Int8Step, Layer, Parts, QuantizedNetwork, Residual, SingleLayer, Stored, TableRows};
use crate::kernels::int8::{Finish, Int8Layer, Range};
use crate::kernels::rows::{QuantizedTable, RowBits};
use crate::model::{Link, ModelError};
use crate::network::bytes::{Reader, Writer};
use crate::network::parts::WIDTH_MAX;
use crate::network::{Place, Table};

const MAGIC: &[u8; 8] = b"HSQNETW1";

pub(super) fn write(parts: &Parts) -> Vec<u8> {
    let mut out = Writer { bytes: MAGIC.to_vec() };
    out.bytes.push(parts.link.code());
    out.bytes.extend(parts.mean.to_le_bytes());
    out.bytes.extend(parts.deviation.to_le_bytes());
    out.list(&parts.numeric, Writer::numeric);
    out.list(&parts.tables, table);
    out.list(&parts.slots, |out, slot| out.count(slot.map_or(u32::MAX, |table| table) as usize));
    out.list(&parts.cross, layer);
    out.list(&parts.hidden, |out, (hidden, residual)| {
        out.bytes.push(u8::from(*residual == Residual::Yes));
        layer(out, hidden);
    });
    layer(&mut out, &parts.output);
    out.floats(&parts.baseline);
    out.bytes
}

fn table(out: &mut Writer, table: &TableRows) {
    let TableRows { ids, dimension, place, rows } = table;
    match rows {
        Stored::Single(weights) => {
            out.bytes.push(0);
            out.table(&Table { ids: *ids, dimension: *dimension, place: *place, weights: weights.clone() });
        }
        Stored::Rounded(rows) => {
            out.bytes.push(match rows.bits() {
                RowBits::Eight => 8,
                RowBits::Four => 4,
            });
            out.table_head(*ids, *dimension, *place);
            out.bytes.extend(rows.unit().to_le_bytes());
            let stride = rows.bits().stride(rows.width());
            let used = |row: &[u8]| row.iter().any(|byte| *byte != 0);
            let mut bits = vec![0u8; rows.rows().div_ceil(8)];
            let packed = || rows.packed().chunks_exact(stride).enumerate().filter(|(_, row)| used(row));
            packed().for_each(|(row, _)| bits[row / 8] |= 1 << (row % 8));
            out.bytes.extend(bits);
            packed().for_each(|(_, row)| out.bytes.extend(row));
        }
    }
}

fn layer(out: &mut Writer, layer: &Layer) {
    match layer {
        Layer::Single(SingleLayer { dense, .. }) => {
            out.bytes.push(0);
            out.dense(dense);
        }
        Layer::Int8(Int8Step { layer, factors, range }) => {
            out.bytes.push(if range.is_some() { 2 } else { 1 });
            out.count(layer.inputs());
            out.count(layer.outputs());
            out.bytes.extend(layer.integers().iter().map(|integer| *integer as u8));
            out.values(layer.scales());
            out.values(layer.bias());
            out.floats(factors);
            if let Some(Range { low, high }) = range {
                out.values(&[*low, *high]);
            }
        }
    }
}

/// Fails on anything but what [`write`] writes; shapes are checked when the network is made.
pub(super) fn read(bytes: &[u8]) -> Result<Parts, ModelError> {
    let mut from = Reader { bytes, kind: QuantizedNetwork::KIND };
    if from.take::<8>()? != *MAGIC {
        return Err(from.damaged("they do not begin with HSQNETW1"));
    }
    let [link] = from.take::<1>()?;
    let link = Link::from_code(link).ok_or_else(|| from.damaged("the link is unknown"))?;
    let mean = f64::from_le_bytes(from.take()?);
    let deviation = f64::from_le_bytes(from.take()?);
    let numeric = from.list(1, Reader::numeric)?;
    let mut numbers = 0;
    let tables = from.list(18, |from| read_table(from, &mut numbers))?;
    let slots = from.list(4, |from| Ok(Some(from.number()?).filter(|table| *table != u32::MAX)))?;
    let cross = from.list(9, |from| read_layer(from, Finish::Linear))?;
    let hidden = from.list(10, |from| {
        let residual = match from.take::<1>()? {
            [0] => Residual::No,
            [1] => Residual::Yes,
            _ => return Err(from.damaged("a layer is of an unknown kind")),
        };
        Ok((read_layer(from, Finish::Relu)?, residual))
    })?;
    let output = read_layer(&mut from, Finish::Linear)?;
    let baseline = from.floats()?;
    if !from.bytes.is_empty() {
        return Err(from.damaged("there are bytes after the last number"));
    }
    Ok(Parts { link, numeric, tables, slots, cross, hidden, output, mean, deviation, baseline })
}

fn read_table(from: &mut Reader, numbers: &mut usize) -> Result<TableRows, ModelError> {
    let bits = match from.take::<1>()? {
        [0] => {
            let Table { ids, dimension, place, weights } = from.table(numbers)?;
            return Ok(TableRows { ids, dimension, place, rows: Stored::Single(weights) });
        }
        [8] => RowBits::Eight,
        [4] => RowBits::Four,
        _ => return Err(from.damaged("a table is of an unknown form")),
    };
    let (ids, dimension, place): (u32, u32, Place) = from.table_head(numbers)?;
    let (rows, width) = (place.rows(ids), dimension as usize);
    let unit = f32::from_le_bytes(from.take()?);
    let used = from.run(Some(rows.div_ceil(8)))?;
    let is_used = |row: usize| used[row / 8] >> (row % 8) & 1 == 1;
    if (rows..used.len() * 8).any(is_used) {
        return Err(from.damaged("a row lies outside its table"));
    }
    let stride = bits.stride(width);
    let mut packed = vec![0; rows * stride];
    for (row, into) in packed.chunks_exact_mut(stride).enumerate() {
        if is_used(row) {
            into.copy_from_slice(from.run(Some(stride))?);
            if into.iter().all(|byte| *byte == 0) {
                return Err(from.damaged("a row of zeros is written"));
            }
        }
    }
    let rows = QuantizedTable::from_packed(rows, width, bits, unit, packed);
    let rows = rows.map_err(|error| from.damaged(&error.to_string()))?;
    Ok(TableRows { ids, dimension, place, rows: Stored::Rounded(rows) })
}

fn read_layer(from: &mut Reader, finish: Finish) -> Result<Layer, ModelError> {
    let is_static = match from.take::<1>()? {
        [0] => return Ok(Layer::single(from.dense()?, finish)),
        [1] => false,
        [2] => true,
        _ => return Err(from.damaged("a layer is of an unknown form")),
    };
    let (inputs, outputs) = (from.number()? as usize, from.number()? as usize);
    if inputs > WIDTH_MAX || outputs > WIDTH_MAX {
        return Err(from.damaged("a layer is larger than any can be"));
    }
    let integers: Vec<i8> = from.run(Some(inputs * outputs))?.iter().map(|byte| *byte as i8).collect();
    let (scales, bias) = (from.values(outputs)?, from.values(outputs)?);
    let layer = Int8Layer::from_integers(inputs, outputs, &integers, &scales, &bias, finish);
    let layer = layer.map_err(|error| from.damaged(&error.to_string()))?;
    let factors = from.floats()?;
    let powers = factors.iter().all(|factor| factor.is_normal() && *factor > 0.0);
    if !powers || !(factors.is_empty() || factors.len() == inputs) {
        return Err(from.damaged("a layer's factors are none"));
    }
    let range = match is_static {
        false => None,
        true => {
            let ends = from.values(2)?;
            if !ends.iter().all(|end| end.is_finite()) || ends[0] > ends[1] {
                return Err(from.damaged("a range is none"));
            }
            Some(Range { low: ends[0], high: ends[1] })
        }
    };
    Ok(Layer::Int8(Int8Step { layer, factors, range }))
}
