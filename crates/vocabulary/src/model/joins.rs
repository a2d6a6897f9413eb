//! `[[data.joins]]`: columns of another table, as they were known at a row's time. Knows no files: how tables are read is
//! the business of `storage`.

use crate::contract::{ColumnKind, Contract};
use crate::suggest;
use crate::time::Span;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A table that is joined to a model's rows by key and time. Of the right rows with the row's key, the row gets the last
/// by event time among those that had happened and were known at its instant (both included); of several with that event
/// time the one that became known last, and of these the last in the file's order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinSpec {
    /// For messages and records.
    pub name: String,
    /// A Parquet or CSV file, relative to the project's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// A file with one SQL query, relative to the project's folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sql: Option<String>,
    /// The tables that the query reads: name to file.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tables: BTreeMap<String, String>,
    /// The contract's column to the right table's: what must be equal. A null equals nothing.
    pub on: BTreeMap<String, String>,
    /// The contract's column with the row's instant; the model's time when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// The right column that says when a right row happened.
    pub time: String,
    /// The right column that says when it became known; without it, when it happened. Where it is null, never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_at: Option<String>,
    /// A right row older than this, by event time, is not taken; of any age without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<Span>,
    /// The contract's column to the right table's: what is taken.
    pub columns: BTreeMap<String, String>,
}

impl JoinSpec {
    /// The contract's column with the row's instant.
    pub fn instant<'a>(&'a self, time: Option<&'a String>) -> Option<&'a String> {
        self.at.as_ref().or(time)
    }

    /// What is wrong with it beside the contract; `time` is the model's.
    pub fn problems(&self, contract: &Contract, time: Option<&String>, say: &mut dyn FnMut(String)) {
        let name = &self.name;
        if self.file.is_some() == self.sql.is_some() {
            say(format!("data.joins \"{name}\" needs either file or sql"));
        }
        if self.on.is_empty() || self.columns.is_empty() {
            say(format!("data.joins \"{name}\" needs on (what must be equal) and columns (what is taken)"));
        }
        if self.tolerance.is_some_and(|span| span.0 < 0) {
            say(format!("data.joins \"{name}\": tolerance is negative; leave it out for any age"));
        }
        for column in self.on.keys().chain(self.columns.keys()) {
            if contract.column(column).is_none() {
                let hint = suggest::hint(column, contract.column_names());
                let contract = &contract.name;
                say(format!("data.joins \"{name}\": contract \"{contract}\" does not declare column \"{column}\"{hint}"));
            }
        }
        for column in self.on.keys() {
            if self.columns.contains_key(column) {
                say(format!("data.joins \"{name}\": column \"{column}\" is both compared and taken"));
            }
            if contract.column(column).is_some_and(|column| column.kind == ColumnKind::Float) {
                say(format!("data.joins \"{name}\": column \"{column}\" is a float, which is no key; round it to an int"));
            }
        }
        match self.instant(time) {
            None => say(format!("data.joins \"{name}\" needs at, or the model's time: as of when the table is asked")),
            Some(at) => {
                if contract.column(at).is_none_or(|column| column.kind != ColumnKind::Timestamp) {
                    say(format!("data.joins \"{name}\": \"{at}\" is no timestamp column of contract \"{}\"", contract.name));
                }
            }
        }
    }
}
