//! From raw columns to model inputs: the contract's enforcement and the compiled pipeline, the only code that makes
//! features, in training, batch scoring and serving alike. Knows no network, no disk and no clock.
//!
//! The way of a batch: [`canonical`] (types) → [`Enforcer`] (what a row must be) → [`Pipeline::transform`] (inputs);
//! [`Validator`] enforces, and holds the whole table against the contract. The way of a request: [`RowReader`] (JSON, strictly typed) → the same [`Enforcer`] → the same transform.

mod asof;
mod canonical;
mod columns;
mod enforce;
mod error;
mod expression;
mod hash;
mod infer;
pub mod leakage;
#[cfg(test)]
mod odd_input;
pub mod parity;
mod perturb;
mod pipeline;
pub mod profile;
mod rows;
mod statistics;
mod target;
#[cfg(test)]
mod testing;
mod units;
mod validate;
pub mod windows;

pub use asof::{Asof, AsofColumns, AsofCounts};
pub use canonical::{canonical, canonical_columns, canonical_schema};
pub use enforce::{Action, Enforced, Enforcer, Offence, Rejected, RowExpectation, ViolationKind, Violations};
pub use error::{FeatureError, RowProblem};
pub use expression::column_of;
pub use infer::{InferHints, infer_contract};
pub use perturb::{perturbed, repeated};
pub use pipeline::{CollisionReport, Extended, Fitted, Growth, Pipeline, Recipe, StepCard};
pub use rows::{RowReader, Strangers, row_to_json, rows_from_json};
pub use target::target_values;
pub use validate::{Example, Finding, Observed, Report, Status, Validator};
