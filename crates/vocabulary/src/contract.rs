//! The data contract: what each column means, what it may hold, and what happens to a value that breaks it.

use serde::{Deserialize, Serialize};

/// A declared set of columns. On disk: `contracts/NAME.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    pub name: String,
    /// Raised by a person with each change of meaning.
    #[serde(default = "one")]
    pub version: u32,
    /// The column that says when an event happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// The column that identifies an event; outcomes may join by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    #[serde(rename = "column")]
    pub columns: Vec<Column>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: ColumnKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Least and greatest value allowed, both included. Numbers only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<[f64; 2]>,
    /// The values seen when the contract was written. Strings only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub categories: Option<Vec<String>>,
    /// Whether a value outside `categories` is a violation. Without it an unseen value goes to the unseen bucket.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closed: bool,
    #[serde(default)]
    pub nulls: NullPolicy,
    /// How old the value may be when it is used, such as `"2h"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freshness: Option<crate::time::Span>,
    /// What happens to a value that breaks the declaration.
    #[serde(default)]
    pub repair: Repair,
    /// The value that `repair = "default"` puts in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Scalar>,
}

/// A value in a configuration file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

impl Scalar {
    /// As it reads in a table: a text without quotes.
    pub fn text(&self) -> String {
        match self {
            Scalar::Bool(value) => value.to_string(),
            Scalar::Int(value) => value.to_string(),
            Scalar::Float(value) => value.to_string(),
            Scalar::Text(text) => text.clone(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnKind {
    Bool,
    Int,
    Float,
    String,
    Timestamp,
}

impl ColumnKind {
    pub fn name(self) -> &'static str {
        match self {
            ColumnKind::Bool => "bool",
            ColumnKind::Int => "int",
            ColumnKind::Float => "float",
            ColumnKind::String => "string",
            ColumnKind::Timestamp => "timestamp",
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NullPolicy {
    #[default]
    Allow,
    Forbid,
}

/// What happens to a value that breaks the declaration. Each use is counted by column and kind of violation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repair {
    /// The row is refused: 422 in serving, a named error in batch work.
    #[default]
    Reject,
    /// The row is set aside, in batch work, and refused in serving.
    Quarantine,
    /// The value becomes null, where nulls are allowed.
    Null,
    /// A number outside the range becomes the nearest end of it.
    Clip,
    /// The value becomes the declared default.
    Default,
}

fn one() -> u32 {
    1
}

#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ContractError {
    #[error("contract \"{contract}\": column \"{column}\" is declared twice")]
    Twice { contract: String, column: String },
    #[error("contract \"{contract}\": {role} names column \"{column}\", which is not declared{hint}")]
    Unknown { contract: String, role: &'static str, column: String, hint: String },
    #[error("contract \"{contract}\": column \"{column}\": {what}")]
    Column { contract: String, column: String, what: String },
}

impl Contract {
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    pub fn column_names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_str())
    }

    /// Checks that the declaration agrees with itself; every problem found is returned.
    pub fn problems(&self) -> Vec<ContractError> {
        let mut found = Vec::new();
        let contract = || self.name.clone();
        for (i, column) in self.columns.iter().enumerate() {
            if self.columns[..i].iter().any(|earlier| earlier.name == column.name) {
                found.push(ContractError::Twice { contract: contract(), column: column.name.clone() });
            }
            if let Some(what) = column.problem() {
                found.push(ContractError::Column { contract: contract(), column: column.name.clone(), what });
            }
        }
        for (role, name) in [("time", &self.time), ("key", &self.key)] {
            if let Some(name) = name
                && self.column(name).is_none()
            {
                let hint = crate::suggest::hint(name, self.column_names());
                found.push(ContractError::Unknown { contract: contract(), role, column: name.clone(), hint });
            }
        }
        found
    }
}

impl Column {
    fn problem(&self) -> Option<String> {
        let number = matches!(self.kind, ColumnKind::Int | ColumnKind::Float);
        if let Some([low, high]) = self.range {
            if !number {
                return Some(format!("a range needs type int or float, not {}", self.kind.name()));
            }
            if low.is_nan() || high.is_nan() || low > high {
                return Some(format!("range [{low}, {high}] is empty; write [least, greatest]"));
            }
        }
        if self.categories.is_some() && self.kind != ColumnKind::String {
            return Some(format!("categories need type string, not {}", self.kind.name()));
        }
        if self.closed && self.categories.is_none() {
            return Some("closed = true needs categories".to_owned());
        }
        match self.repair {
            Repair::Default if self.default.is_none() => Some("repair = \"default\" needs a default".to_owned()),
            Repair::Clip if self.range.is_none() => Some("repair = \"clip\" needs a range".to_owned()),
            Repair::Null if self.nulls == NullPolicy::Forbid => {
                Some("repair = \"null\" needs nulls = \"allow\"".to_owned())
            }
            _ => None,
        }
    }
}
