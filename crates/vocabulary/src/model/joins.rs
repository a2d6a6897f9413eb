//! `[[data.joins]]`: columns of another table, as they were known at a row's time. Knows no files: how tables are read is
//! the business of `storage`.

use super::DataSpec;
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
    /// The right table.
    pub fn source(&self) -> DataSpec {
        let (file, sql, tables) = (self.file.clone(), self.sql.clone(), self.tables.clone());
        DataSpec { file, sql, tables, joins: Vec::new() }
    }

    /// The contract's column with the row's instant.
    pub fn instant<'a>(&'a self, time: Option<&'a String>) -> Option<&'a String> {
        self.at.as_ref().or(time)
    }

    /// What is wrong with it beside the contract; `time` is the model's.
    pub fn problems(&self, contract: &Contract, time: Option<&String>, say: &mut dyn FnMut(String)) {
        let name = &self.name;
        if !self.tables.is_empty() && self.sql.is_none() {
            say(format!("data.joins \"{name}\": tables is for sql"));
        }
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
                say(format!(
                    "data.joins \"{name}\": contract \"{contract}\" does not declare column \"{column}\"{hint}"
                ));
            }
        }
        for column in self.on.keys() {
            if self.columns.contains_key(column) {
                say(format!("data.joins \"{name}\": column \"{column}\" is both compared and taken"));
            }
            if contract.column(column).is_some_and(|column| column.kind == ColumnKind::Float) {
                say(format!(
                    "data.joins \"{name}\": column \"{column}\" is a float, which is no key; round it to an int"
                ));
            }
        }
        match self.instant(time) {
            None => say(format!("data.joins \"{name}\" needs at, or the model's time: as of when the table is asked")),
            Some(at) => {
                if contract.column(at).is_none_or(|column| column.kind != ColumnKind::Timestamp) {
                    say(format!(
                        "data.joins \"{name}\": \"{at}\" is no timestamp column of contract \"{}\"",
                        contract.name
                    ));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Column;
    use serde_json::json;

    fn problems(change: impl FnOnce(&mut serde_json::Value)) -> Vec<String> {
        let kinds = [("when", ColumnKind::Timestamp), ("shop", ColumnKind::String), ("price", ColumnKind::Float)];
        let contract = Contract::new("orders", kinds.map(|(name, kind)| Column::new(name, kind)).to_vec());
        let mut join = json!({"name": "prices", "file": "prices.csv", "on": {"shop": "shop"}, "time": "since",
            "columns": {"price": "price"}, "tolerance": "3d"});
        change(&mut join);
        let join: JoinSpec = serde_json::from_value(join).unwrap();
        let mut found = Vec::new();
        join.problems(&contract, Some(&"when".to_owned()), &mut |what| found.push(what));
        found
    }

    #[test]
    fn each_slip_is_named() {
        assert_eq!(problems(|_| {}), Vec::<String>::new());
        let said = |change: fn(&mut serde_json::Value), wanted: &str| {
            let found = problems(change);
            assert!(found.len() == 1 && found[0].contains(wanted), "{wanted}: {found:?}");
        };
        said(|join| join["sql"] = json!("q.sql"), "either file or sql");
        said(|join| join["on"] = json!({"shp": "shop"}), "did you mean \"shop\"?");
        said(|join| join["on"] = json!({}), "needs on");
        said(|join| join["at"] = json!("shop"), "no timestamp column");
        said(|join| join["columns"] = json!({"shop": "shop"}), "both compared and taken");
    }
}
