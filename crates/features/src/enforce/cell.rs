//! Single values of canonical columns, and columns with some of them replaced.

use crate::canonical::{integral, is_writable};
use crate::columns::Values;
use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use std::collections::BTreeMap;
use std::sync::Arc;
use vocabulary::contract::{ColumnKind, Scalar};
use vocabulary::time::Timestamp;

/// One value of a canonical column.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Time(i64),
}

impl Cell {
    /// None where the value is not of the kind.
    pub(super) fn from_scalar(scalar: &Scalar, kind: ColumnKind) -> Option<Cell> {
        Some(match (kind, scalar) {
            (ColumnKind::Bool, Scalar::Bool(value)) => Cell::Bool(*value),
            (ColumnKind::Int, Scalar::Int(value)) => Cell::Int(*value),
            (ColumnKind::Int, Scalar::Float(value)) => Cell::Int(integral(*value)?),
            (ColumnKind::Float, Scalar::Int(value)) => Cell::Float(*value as f64),
            (ColumnKind::Float, Scalar::Float(value)) if !value.is_nan() => Cell::Float(*value),
            (ColumnKind::String, Scalar::Text(text)) => Cell::Text(text.clone()),
            (ColumnKind::Timestamp, Scalar::Text(text)) => {
                Cell::Time(text.parse::<Timestamp>().ok().map(|at| at.0).filter(|at| is_writable(*at))?)
            }
            _ => return None,
        })
    }
}

/// A value in words; none where it is null.
pub(crate) fn shown(values: &Values<'_>, row: usize) -> Option<String> {
    if values.is_null(row) {
        return None;
    }
    Some(match values {
        Values::Bool(array) => array.value(row).to_string(),
        Values::Int(array) => array.value(row).to_string(),
        Values::Float(array) => array.value(row).to_string(),
        Values::Text(array) => format!("{:?}", array.value(row)),
        Values::Time(array) => Timestamp(array.value(row)).to_string(),
    })
}

/// A copy of the column with some values replaced.
pub(super) fn repaired(values: &Values<'_>, repairs: &BTreeMap<usize, Option<Cell>>) -> ArrayRef {
    macro_rules! replace {
        ($array:expr, $variant:path) => {
            $array.iter().enumerate().map(|(row, value)| match repairs.get(&row) {
                Some(Some($variant(cell))) => Some(cell.to_owned()),
                Some(_) => None,
                None => value.map(|value| value.to_owned()),
            })
        };
    }
    match values {
        Values::Bool(array) => Arc::new(replace!(array, Cell::Bool).collect::<BooleanArray>()),
        Values::Int(array) => Arc::new(replace!(array, Cell::Int).collect::<Int64Array>()),
        Values::Float(array) => Arc::new(replace!(array, Cell::Float).collect::<Float64Array>()),
        Values::Text(array) => Arc::new(replace!(array, Cell::Text).collect::<StringArray>()),
        Values::Time(array) => {
            let repaired: TimestampMicrosecondArray = replace!(array, Cell::Time).collect();
            Arc::new(repaired.with_timezone("UTC"))
        }
    }
}
