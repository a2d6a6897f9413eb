//! What streams know about the rows of a batch, as columns `STREAM.FEATURE` beside the batch's own: keys and instants
//! of rows, and values as arrays. Knows no stream at work and no history; who calls brings the values.

use super::engine::Engine;
use super::event::Value;
use super::history::values_array;
use super::key::Key;
use super::reader::batch_part;
use crate::FeatureError;
use crate::columns::{Values, column_index};
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema};
use std::sync::Arc;
use vocabulary::contract::ColumnKind;
use vocabulary::model::WindowFeatures;
use vocabulary::stream::StreamFeature;
use vocabulary::time::Timestamp;

/// The key of each row from columns of a canonical batch; none where a part is null.
pub fn keys_of(batch: &RecordBatch, columns: &[String]) -> Result<Vec<Option<Key>>, FeatureError> {
    let views = columns.iter().map(|name| {
        let place = column_index(batch.schema_ref(), name, usize::MAX)?;
        Values::of_any(batch.column(place), name)
    });
    let views = views.collect::<Result<Vec<_>, _>>()?;
    let key = |row: usize| views.iter().map(|values| batch_part(values, row)).collect::<Option<Vec<_>>>().map(Key::of);
    Ok((0..batch.num_rows()).map(key).collect())
}

/// The instant of each row; none where it is null.
pub fn instants_of(batch: &RecordBatch, column: &str) -> Result<Vec<Option<Timestamp>>, FeatureError> {
    let place = column_index(batch.schema_ref(), column, usize::MAX)?;
    let times = Values::new(batch.column(place), column, ColumnKind::Timestamp)?;
    Ok((0..batch.num_rows()).map(|row| times.micros(row).map(Timestamp)).collect())
}

/// Where the features that a model takes are among those that a look-up gives.
///
/// # Errors
/// Where the stream no longer gives one of them, or gives it another type.
pub fn places(declared: &WindowFeatures, given: &[StreamFeature]) -> Result<Vec<usize>, FeatureError> {
    let place = |(name, kind): (&String, ColumnKind)| {
        let found = given.iter().position(|feature| feature.name == *name && feature.kind == kind);
        found.ok_or_else(|| {
            FeatureError::Declaration(format!(
                "stream \"{}\" no longer gives feature \"{name}\" of type {}; take its declaration back, or train the \
                 model again",
                declared.stream,
                kind.name()
            ))
        })
    };
    declared.types.iter().map(|taken| place((&taken.name, taken.kind))).collect()
}

/// The values of empty windows: what is known about a key that was never seen.
pub fn empty_values(engine: &Engine) -> Vec<Value> {
    let mut row = Vec::new();
    // Beyond all instants nothing is too old.
    let at = Timestamp(i64::MAX);
    match engine.lookup(&Key::default(), at, &mut row) {
        Ok(()) => row,
        Err(_) => vec![Value::Null; engine.features().len()],
    }
}

/// A column of values, one a row; no value where a row has none.
pub fn column_of(kind: ColumnKind, rows: &[Vec<Value>], place: usize) -> ArrayRef {
    values_array(kind, rows.iter().map(|row| row.get(place).unwrap_or(&Value::Null)))
}

/// The batch with more columns behind its own; one of a name that it has takes that one's place.
pub fn with_columns(batch: &RecordBatch, more: Vec<(String, ArrayRef)>) -> Result<RecordBatch, FeatureError> {
    let mut fields = batch.schema_ref().fields().to_vec();
    let mut arrays = batch.columns().to_vec();
    for (name, array) in more {
        let field = Arc::new(Field::new(&name, array.data_type().clone(), true));
        match fields.iter().position(|field| *field.name() == name) {
            Some(place) => (fields[place], arrays[place]) = (field, array),
            None => {
                fields.push(field);
                arrays.push(array);
            }
        }
    }
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?)
}
