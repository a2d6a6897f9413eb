//! SQL expressions over the columns of one row: a documented subset (docs/features.md) with one meaning in batch work and
//! on a single row. Read once into a typed tree, which is what a pipeline keeps; the text is for people. Knows no target
//! and no other row.
//!
//! The meaning is DataFusion's, with three stated differences that keep it total and the same on every machine: what would
//! fail a query (an int divided by zero, a text that is no number) and what would be NaN is null; -0 is 0; and logarithms
//! and exponentials come from [`vocabulary::elementary`].

mod evaluate;
mod parse;
#[cfg(test)]
pub(crate) mod tests;
mod text;
mod tree;
mod words;

pub(crate) use parse::parse;
pub(crate) use tree::Node;

use crate::FeatureError;
use crate::columns::{Values, column_index};
use arrow::array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::record_batch::RecordBatch;
use evaluate::Lane;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use vocabulary::contract::{ColumnKind, Contract};

/// Rows that are computed at a time: some lanes of them fit the second cache.
const CHUNK_ROWS: usize = 1024;

/// A typed expression.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expression {
    /// As it was declared.
    pub(crate) sql: String,
    /// The columns that it reads; the tree names their places here.
    pub(crate) columns: Vec<String>,
    pub(crate) tree: Node,
}

impl Expression {
    /// Checks what was read from a file against the columns' types and the type it should have.
    pub(crate) fn check(&self, kinds: &[ColumnKind], wanted: ColumnKind) -> Result<(), String> {
        match self.tree.kind(kinds)? {
            found if found == wanted => Ok(()),
            found => Err(format!("expression \"{}\" gives {}, not {}", self.sql, found.name(), wanted.name())),
        }
    }

    /// The value of each row as a canonical column; `columns` are those of [`Expression::columns`].
    pub(crate) fn column(&self, columns: &[Values<'_>], rows: usize, kind: ColumnKind) -> ArrayRef {
        let starts = (0..rows.max(1)).step_by(CHUNK_ROWS);
        let chunks = starts.map(|start| self.tree.evaluate(columns, start..rows.min(start + CHUNK_ROWS)));
        match kind {
            ColumnKind::Bool => Arc::new(chunks.flat_map(Lane::bools).collect::<BooleanArray>()),
            ColumnKind::Int => Arc::new(chunks.flat_map(Lane::ints).collect::<Int64Array>()),
            ColumnKind::Float => Arc::new(chunks.flat_map(Lane::floats).collect::<Float64Array>()),
            ColumnKind::String => Arc::new(chunks.flat_map(Lane::texts).collect::<StringArray>()),
            ColumnKind::Timestamp => {
                let instants: TimestampMicrosecondArray = chunks.flat_map(Lane::times).collect();
                Arc::new(instants.with_timezone("UTC"))
            }
        }
    }
}

/// The column that an expression gives over a canonical batch: for trying one out. A pipeline keeps the expressions of
/// `[[features.expression]]` and computes the same.
pub fn column_of(sql: &str, contract: &Contract, batch: &RecordBatch) -> Result<ArrayRef, FeatureError> {
    let scope: Vec<(&str, ColumnKind)> =
        contract.columns.iter().map(|column| (column.name.as_str(), column.kind)).collect();
    let declaration = |error: ExpressionError| FeatureError::Declaration(format!("expression {sql:?}: {error}"));
    let (expression, kind) = parse(sql, &scope).map_err(declaration)?;
    let view = |name: &String| {
        let index = column_index(batch.schema_ref(), name, usize::MAX)?;
        Values::of_any(batch.column(index), name)
    };
    let views = expression.columns.iter().map(view).collect::<Result<Vec<_>, _>>()?;
    Ok(expression.column(&views, batch.num_rows(), kind))
}

/// Why a text is no expression, in words for a person: where in it, and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExpressionError {
    /// Line and column, both from 1.
    pub(crate) at: Option<(u64, u64)>,
    pub(crate) what: String,
}

impl std::fmt::Display for ExpressionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.at {
            Some((1, column)) => write!(f, "at character {column}: {}", self.what),
            Some((line, column)) => write!(f, "at line {line}, character {column}: {}", self.what),
            None => write!(f, "{}", self.what),
        }
    }
}
