//! What can go wrong between raw columns and model inputs.

use serde::Serialize;
use std::fmt;

#[derive(Debug, thiserror::Error)]
pub enum FeatureError {
    #[error("column \"{column}\" is missing{hint}")]
    MissingColumn { column: String, hint: String },
    #[error("column \"{column}\" holds {found}, where {expected} is expected; {remedy}")]
    Type { column: String, found: String, expected: &'static str, remedy: String },
    #[error("column \"{column}\": {value} is not {expected} (row {row}); correct the value or the column's type")]
    Value { column: String, row: usize, value: String, expected: &'static str },
    /// The declaration of a model or a contract asks for what cannot be done.
    #[error("{0}")]
    Declaration(String),
    #[error("target \"{column}\": {what}")]
    Target { column: String, what: String },
    #[error("the pipeline cannot be read: {0}")]
    Pipeline(String),
    #[error("columns could not be put together")]
    Arrow(#[from] arrow::error::ArrowError),
}

/// A value of a JSON row that cannot be read, in words for the caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RowProblem {
    /// Place of the row in the request, from 0.
    pub row: usize,
    pub column: String,
    pub what: String,
}

impl fmt::Display for RowProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "row {}: column \"{}\": {}", self.row, self.column, self.what)
    }
}
