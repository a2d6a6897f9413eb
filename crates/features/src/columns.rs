//! Borrowed views of canonical columns: found by name, read by row.

use crate::FeatureError;
use crate::hash::Atom;
use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::datatypes::Schema;
use vocabulary::contract::ColumnKind;
use vocabulary::suggest;

/// One canonical column.
#[derive(Clone, Copy)]
pub(crate) enum Values<'a> {
    Bool(&'a BooleanArray),
    Int(&'a Int64Array),
    Float(&'a Float64Array),
    Text(&'a StringArray),
    Time(&'a TimestampMicrosecondArray),
}

/// The place of a column. `guess` is where it stands in batches that were made for the asker, so that the usual look-up
/// costs one comparison.
pub(crate) fn column_index(schema: &Schema, name: &str, guess: usize) -> Result<usize, FeatureError> {
    let fields = schema.fields();
    if fields.get(guess).is_some_and(|field| field.name() == name) {
        return Ok(guess);
    }
    fields.iter().position(|field| field.name() == name).ok_or_else(|| FeatureError::MissingColumn {
        column: name.to_owned(),
        hint: suggest::hint(name, fields.iter().map(|field| field.name().as_str())),
    })
}

impl<'a> Values<'a> {
    /// Fails where the column is not of the canonical type of `kind`.
    pub(crate) fn new(array: &'a ArrayRef, name: &str, kind: ColumnKind) -> Result<Values<'a>, FeatureError> {
        let any = array.as_any();
        let found = match kind {
            ColumnKind::Bool => any.downcast_ref().map(Values::Bool),
            ColumnKind::Int => any.downcast_ref().map(Values::Int),
            ColumnKind::Float => any.downcast_ref().map(Values::Float),
            ColumnKind::String => any.downcast_ref().map(Values::Text),
            ColumnKind::Timestamp => any.downcast_ref().map(Values::Time),
        };
        found.ok_or_else(|| not_canonical(array, name, kind.name()))
    }

    /// Whatever canonical type the column has.
    pub(crate) fn of_any(array: &'a ArrayRef, name: &str) -> Result<Values<'a>, FeatureError> {
        let any = array.as_any();
        None.or_else(|| any.downcast_ref().map(Values::Bool))
            .or_else(|| any.downcast_ref().map(Values::Int))
            .or_else(|| any.downcast_ref().map(Values::Float))
            .or_else(|| any.downcast_ref().map(Values::Text))
            .or_else(|| any.downcast_ref().map(Values::Time))
            .ok_or_else(|| not_canonical(array, name, "a canonical type"))
    }

    fn array(&self) -> &'a dyn Array {
        match self {
            Values::Bool(array) => *array,
            Values::Int(array) => *array,
            Values::Float(array) => *array,
            Values::Text(array) => *array,
            Values::Time(array) => *array,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.array().len()
    }

    pub(crate) fn null_count(&self) -> usize {
        self.array().null_count()
    }

    pub(crate) fn is_null(&self, row: usize) -> bool {
        match self {
            Values::Bool(array) => array.is_null(row),
            Values::Int(array) => array.is_null(row),
            Values::Float(array) => array.is_null(row),
            Values::Text(array) => array.is_null(row),
            Values::Time(array) => array.is_null(row),
        }
    }

    /// A bool as 0 or 1, an int or a float; none for null, NaN and what is no number.
    #[inline]
    pub(crate) fn number(&self, row: usize) -> Option<f64> {
        match self {
            Values::Float(array) => Some(array.value(row)).filter(|value| array.is_valid(row) && !value.is_nan()),
            Values::Int(array) => array.is_valid(row).then(|| array.value(row) as f64),
            Values::Bool(array) => array.is_valid(row).then(|| f64::from(u8::from(array.value(row)))),
            Values::Text(_) | Values::Time(_) => None,
        }
    }

    /// Microseconds since 1970 in UTC.
    #[inline]
    pub(crate) fn micros(&self, row: usize) -> Option<i64> {
        match self {
            Values::Time(array) => array.is_valid(row).then(|| array.value(row)),
            _ => None,
        }
    }

    /// The value as a category. Floats and instants are none, and give null.
    #[inline]
    pub(crate) fn atom(&self, row: usize) -> Atom<'a> {
        match self {
            Values::Text(array) if array.is_valid(row) => Atom::Text(array.value(row)),
            Values::Int(array) if array.is_valid(row) => Atom::Int(array.value(row)),
            Values::Bool(array) if array.is_valid(row) => Atom::Bool(array.value(row)),
            _ => Atom::Null,
        }
    }
}

fn not_canonical(array: &ArrayRef, name: &str, expected: &'static str) -> FeatureError {
    FeatureError::Type {
        column: name.to_owned(),
        found: array.data_type().to_string(),
        expected,
        remedy: "cast the batch with features::canonical first".to_owned(),
    }
}
