//! What training reads off a canonical batch besides features: its digest, its times, and selections of rows.

use crate::error::LearnError;
use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use features::FeatureError;
use vocabulary::{Digest, ModelSpec, Timestamp};

/// Digest of a canonical batch: names, types and values, whatever buffers they lie in.
pub fn digest(batch: &RecordBatch) -> Result<Digest, LearnError> {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(batch.num_rows() as u64).to_le_bytes());
    let mut buffer = Vec::new();
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        hasher.update(&(field.name().len() as u64).to_le_bytes());
        hasher.update(field.name().as_bytes());
        let (tag, put) = encoding(field.name(), column)?;
        hasher.update(&[tag]);
        hash_values(&mut hasher, &mut buffer, column, &*put);
    }
    Ok(Digest(*hasher.finalize().as_bytes()))
}

/// Digest of canonical rows that come in batches: the same however they are cut. It is not that of [`digest`], which
/// wants a whole column after the other.
#[derive(Default)]
pub(crate) struct StreamDigest {
    rows: u64,
    columns: Vec<(String, u8, blake3::Hasher)>,
    buffer: Vec<u8>,
}

impl StreamDigest {
    pub(crate) fn add(&mut self, batch: &RecordBatch) -> Result<(), LearnError> {
        self.rows += batch.num_rows() as u64;
        for (at, (field, column)) in batch.schema().fields().iter().zip(batch.columns()).enumerate() {
            let (tag, put) = encoding(field.name(), column)?;
            if at == self.columns.len() {
                self.columns.push((field.name().clone(), tag, blake3::Hasher::new()));
            }
            let (name, known, hasher) = &mut self.columns[at];
            if name != field.name() || *known != tag {
                let found = format!("{} after a batch with another", column.data_type());
                return Err(LearnError::NotCanonical { column: field.name().clone(), found });
            }
            hash_values(hasher, &mut self.buffer, column, &*put);
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Digest {
        let mut whole = blake3::Hasher::new();
        whole.update(b"rows in batches").update(&self.rows.to_le_bytes());
        for (name, tag, hasher) in &self.columns {
            whole.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
            whole.update(&[*tag]).update(hasher.finalize().as_bytes());
        }
        Digest(*whole.finalize().as_bytes())
    }
}

/// Appends the bytes of a row's value.
type Put<'a> = Box<dyn Fn(usize, &mut Vec<u8>) + 'a>;

/// The tag of a column's type and how its values become bytes.
fn encoding<'a>(name: &str, column: &'a ArrayRef) -> Result<(u8, Put<'a>), LearnError> {
    Ok(match column.data_type() {
        DataType::Boolean => {
            let values = column.as_boolean();
            (1, Box::new(move |row, buffer: &mut Vec<u8>| buffer.push(u8::from(values.value(row)))))
        }
        DataType::Int64 => {
            let values = column.as_primitive::<Int64Type>();
            (2, Box::new(move |row, buffer: &mut Vec<u8>| buffer.extend(values.value(row).to_le_bytes())))
        }
        DataType::Float64 => {
            let values = column.as_primitive::<Float64Type>();
            (3, Box::new(move |row, buffer: &mut Vec<u8>| buffer.extend(values.value(row).to_bits().to_le_bytes())))
        }
        DataType::Utf8 => {
            let values = column.as_string::<i32>();
            let put = move |row, buffer: &mut Vec<u8>| {
                let text: &str = values.value(row);
                buffer.extend((text.len() as u64).to_le_bytes());
                buffer.extend(text.as_bytes());
            };
            (4, Box::new(put))
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let values = column.as_primitive::<TimestampMicrosecondType>();
            (5, Box::new(move |row, buffer: &mut Vec<u8>| buffer.extend(values.value(row).to_le_bytes())))
        }
        other => return Err(LearnError::NotCanonical { column: name.to_owned(), found: other.to_string() }),
    })
}

/// Values are hashed in chunks, nulls as a zero byte and values as a one and their bytes.
fn hash_values(
    hasher: &mut blake3::Hasher,
    buffer: &mut Vec<u8>,
    column: &ArrayRef,
    put: &dyn Fn(usize, &mut Vec<u8>),
) {
    for row in 0..column.len() {
        if column.is_null(row) {
            buffer.push(0);
        } else {
            buffer.push(1);
            put(row, buffer);
        }
        if buffer.len() >= 1 << 16 {
            hasher.update(buffer);
            buffer.clear();
        }
    }
    hasher.update(buffer);
    buffer.clear();
}

/// The weight of each row, where the model declares a column for it. Null counts as 1.
pub(crate) fn weights(spec: &ModelSpec, batch: &RecordBatch) -> Result<Option<Vec<f64>>, LearnError> {
    let weights = some_weights(spec, batch)?;
    match &weights {
        Some(values) if !values.is_empty() && values.iter().all(|weight| *weight == 0.0) => Err(no_weight(spec)),
        _ => Ok(weights),
    }
}

/// None of the rows counts.
pub(crate) fn no_weight(spec: &ModelSpec) -> LearnError {
    let column = spec.weight.clone().unwrap_or_default();
    LearnError::Weight { model: spec.name.clone(), column, value: 0.0, row: 0 }
}

/// As [`weights`], of some of the rows: all of them may be zero.
pub(crate) fn some_weights(spec: &ModelSpec, batch: &RecordBatch) -> Result<Option<Vec<f64>>, LearnError> {
    let Some(name) = &spec.weight else { return Ok(None) };
    let Some(column) = batch.column_by_name(name) else {
        return Err(FeatureError::Declaration(format!(
            "model \"{}\": weight names column \"{name}\", which the data does not hold",
            spec.name
        ))
        .into());
    };
    let values: Vec<f64> = match column.data_type() {
        DataType::Float64 => column.as_primitive::<Float64Type>().iter().map(|value| value.unwrap_or(1.0)).collect(),
        DataType::Int64 => {
            column.as_primitive::<Int64Type>().iter().map(|value| value.map_or(1.0, |n| n as f64)).collect()
        }
        other => {
            return Err(LearnError::NotCanonical { column: name.clone(), found: other.to_string() });
        }
    };
    match values.iter().position(|weight| !(weight.is_finite() && *weight >= 0.0)) {
        Some(row) => {
            Err(LearnError::Weight { model: spec.name.clone(), column: name.clone(), value: values[row], row })
        }
        None => Ok(Some(values)),
    }
}

/// The time of each row, where the model declares a time column. Rows must be in its order.
pub(crate) fn times(spec: &ModelSpec, batch: &RecordBatch) -> Result<Option<Vec<Timestamp>>, LearnError> {
    let Some(name) = &spec.time else { return Ok(None) };
    let Some(column) = batch.column_by_name(name) else {
        let column = name.clone();
        return Err(features::FeatureError::MissingColumn { column, hint: String::new() }.into());
    };
    let Some(values) = column.as_primitive_opt::<TimestampMicrosecondType>() else {
        return Err(LearnError::NotCanonical { column: name.clone(), found: column.data_type().to_string() });
    };
    let disorder =
        (0..values.len()).find(|row| values.is_null(*row) || (*row > 0 && values.value(*row) < values.value(*row - 1)));
    match disorder {
        Some(row) => Err(LearnError::Time { model: spec.name.clone(), column: name.clone(), row }),
        None => Ok(Some(values.values().iter().map(|at| Timestamp(*at)).collect())),
    }
}

/// The given rows, ascending, of a batch; no copy is made where they follow one another.
pub(crate) fn select(batch: &RecordBatch, rows: &[u32]) -> Result<RecordBatch, LearnError> {
    match (rows.first(), rows.last()) {
        (Some(first), Some(last)) if (last - first) as usize + 1 == rows.len() => {
            Ok(batch.slice(*first as usize, rows.len()))
        }
        _ => Ok(take_record_batch(batch, &UInt32Array::from(rows.to_vec()))?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float64Array, Int32Array, StringArray};
    use std::sync::Arc;

    fn batch(numbers: Vec<Option<f64>>, names: Vec<Option<&str>>) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Float64Array::from(numbers));
        let names: ArrayRef = Arc::new(StringArray::from(names));
        RecordBatch::try_from_iter_with_nullable([("x", numbers, true), ("s", names, true)]).unwrap()
    }

    #[test]
    fn the_digest_is_of_values_and_of_nothing_else() {
        let long = batch(vec![Some(9.0), Some(1.0), None], vec![Some("z"), Some("a"), Some("")]);
        let same = batch(vec![Some(1.0), None], vec![Some("a"), Some("")]);
        let other = batch(vec![Some(1.0), None], vec![Some("a"), None]);
        assert_eq!(digest(&long.slice(1, 2)).unwrap(), digest(&same).unwrap());
        assert_ne!(digest(&other).unwrap(), digest(&same).unwrap());
        let raw: ArrayRef = Arc::new(Int32Array::from(vec![1]));
        let error = digest(&RecordBatch::try_from_iter([("n", raw)]).unwrap()).unwrap_err();
        assert!(error.to_string().contains("\"n\" has type Int32"), "{error}");
    }

    #[test]
    fn a_stream_has_one_digest_however_it_is_cut() {
        let all = batch(vec![Some(9.0), Some(1.0), None], vec![Some("z"), None, Some("a")]);
        let of = |cuts: &[(usize, usize)]| {
            let mut stream = StreamDigest::default();
            cuts.iter().for_each(|(from, rows)| stream.add(&all.slice(*from, *rows)).unwrap());
            stream.finish()
        };
        assert_eq!(of(&[(0, 3)]), of(&[(0, 1), (1, 0), (1, 2)]));
        assert_ne!(of(&[(0, 3)]), of(&[(1, 2), (0, 1)]));
        assert_ne!(of(&[(0, 3)]), of(&[(0, 2)]));
        let mut stream = StreamDigest::default();
        stream.add(&all).unwrap();
        assert!(stream.add(&all.project(&[1, 0]).unwrap()).unwrap_err().to_string().contains("after a batch"));
    }

    #[test]
    fn selections_keep_their_order() {
        let all = batch(vec![Some(0.0), Some(1.0), Some(2.0), Some(3.0)], vec![None; 4]);
        let values = |rows: &[u32]| {
            let part = select(&all, rows).unwrap();
            part.column(0).as_primitive::<Float64Type>().values().to_vec()
        };
        assert_eq!(values(&[1, 2]), [1.0, 2.0]);
        assert_eq!(values(&[0, 3]), [0.0, 3.0]);
        assert!(values(&[]).is_empty());
    }
}
