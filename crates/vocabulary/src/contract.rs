//! The data contract: what each column means, what it may hold, and what happens to a value that breaks it. Knows
//! nothing of data: what is declared here is enforced in `features`.

mod check;
pub mod evolution;
mod problems;
mod severity;
mod table;

pub use check::{CheckRule, Comparison, Condition, ConditionTest, Expression, Operand};
pub use evolution::{Compatibility, Incompatibility, Registered, incompatibilities};
pub use problems::ContractError;
pub use severity::{Environment, Expectation, Severities, Severity};
pub use table::{Distribution, Measure, REFUSED_SHARE_MAX, TableRules};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What `known_at` says of a value that is known when its event is.
pub const KNOWN_AT_EVENT: &str = "event";

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
    /// Which changes of this file are allowed, beside the versions that are deployed or registered.
    #[serde(default, skip_serializing_if = "Compatibility::is_default")]
    pub compatibility: Compatibility,
    /// What is expected of all rows together.
    #[serde(default, skip_serializing_if = "TableRules::is_default")]
    pub table: TableRules,
    #[serde(rename = "column")]
    pub columns: Vec<Column>,
    /// What is expected of several columns of a row together.
    #[serde(rename = "check", default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckRule>,
    /// What is different where the project runs as `--env NAME` or `[project] environment` says.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environments: BTreeMap<String, Environment>,
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
    /// How old the value may be when it is used, such as `"2h"`. Of an instant, and of a value with `observed_at`: against
    /// the event's time, row by row. Of the contract's time column, and of any other value: the newest event that has
    /// one, against the end of the data or the instant of the check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub freshness: Option<crate::time::Span>,
    /// The column that says when the value was observed; for `freshness`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_at: Option<String>,
    /// The column that says when the value became known. What was known only after the event cannot be an input: `check`
    /// refuses it. The contract's time column, or `"event"`, states that the value is known when the event is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_at: Option<String>,
    /// Names that the column had, or has elsewhere: accepted wherever its name is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Whether a file may lack the column, which then is null there. (A row of a request may always lack it.)
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// A regular expression that the whole of a value must match. Strings only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// Least and greatest number of characters, both included. Strings only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<[u64; 2]>,
    /// Whether no value may occur twice in a table.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unique: bool,
    /// Share of a table's rows that may be null at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub null_share: Option<f64>,
    /// What happens to a value that breaks the declaration.
    #[serde(default)]
    pub repair: Repair,
    /// The value that `repair = "default"` puts in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Scalar>,
    /// How far the values' distribution may be from a reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distribution: Option<Distribution>,
    /// Whether a broken expectation is an error, which is the default, or a warning.
    #[serde(default, skip_serializing_if = "Severities::is_default")]
    pub severity: Severities,
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

/// What happens to a value that breaks the declaration, where that is an error. Each use is counted by column and kind of
/// violation.
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

impl Contract {
    /// A contract that expects types alone.
    pub fn new(name: impl Into<String>, columns: Vec<Column>) -> Contract {
        Contract {
            name: name.into(),
            version: 1,
            time: None,
            key: None,
            compatibility: Compatibility::default(),
            table: TableRules::default(),
            columns,
            checks: Vec::new(),
            environments: BTreeMap::new(),
        }
    }

    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    pub fn column_names(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(|column| column.name.as_str())
    }

    /// The column with this name, or the one that had it once.
    pub fn column_or_alias(&self, name: &str) -> Option<&Column> {
        self.column(name).or_else(|| self.columns.iter().find(|column| column.is_also(name)))
    }

    /// Every name under which data may bring one of these columns.
    pub fn names_in_data<'a>(&'a self, columns: &'a [String]) -> impl Iterator<Item = &'a str> {
        columns.iter().flat_map(|name| {
            let aliases = self.column(name).map(|column| column.aliases.as_slice()).unwrap_or_default();
            std::iter::once(name.as_str()).chain(aliases.iter().map(String::as_str))
        })
    }

    /// This contract of before, able to read what `today` describes: a column that was renamed since, with its name of
    /// then among the aliases of now, is found under all of them.
    pub fn taught_by(mut self, today: &Contract) -> Contract {
        for new in &today.columns {
            if self.column(&new.name).is_some() {
                continue;
            }
            if let Some(old) = self.columns.iter_mut().find(|old| new.is_also(&old.name)) {
                let names = std::iter::once(&new.name).chain(&new.aliases);
                let unknown: Vec<String> =
                    names.filter(|name| **name != old.name && !old.is_also(name)).cloned().collect();
                old.aliases.extend(unknown);
            }
        }
        self
    }
}

impl Column {
    /// A column of which nothing but its type is expected.
    pub fn new(name: impl Into<String>, kind: ColumnKind) -> Column {
        Column {
            name: name.into(),
            kind,
            unit: None,
            range: None,
            categories: None,
            closed: false,
            nulls: NullPolicy::Allow,
            freshness: None,
            observed_at: None,
            known_at: None,
            aliases: Vec::new(),
            optional: false,
            pattern: None,
            length: None,
            unique: false,
            null_share: None,
            repair: Repair::Reject,
            default: None,
            distribution: None,
            severity: Severities::default(),
        }
    }

    /// Whether this is one of its other names.
    pub fn is_also(&self, name: &str) -> bool {
        self.aliases.iter().any(|alias| alias == name)
    }

    /// Whether a file may lack it.
    pub fn may_be_absent(&self) -> bool {
        self.optional || self.default.is_some()
    }

    pub fn severity_of(&self, expectation: Expectation) -> Severity {
        self.severity.of(expectation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a declaration leaves out stays out of the file, so that bundles of before keep their bytes.
    #[test]
    fn a_contract_of_before_is_read_and_written_with_the_same_bytes() {
        let before = concat!(
            r#"{"name":"flights","version":3,"time":"at","column":[{"name":"delay","type":"float","unit":"minutes","#,
            r#""range":[-60.0,600.0],"nulls":"forbid","freshness":"2h","repair":"default","default":0.5},"#,
            r#"{"name":"carrier","type":"string","categories":["UA"],"closed":true,"nulls":"allow","repair":"reject"}]}"#
        );
        let contract: Contract = serde_json::from_str(before).unwrap();
        assert_eq!(serde_json::to_string(&contract).unwrap(), before);
    }

    #[test]
    fn a_renamed_column_is_found_under_its_names_of_then_and_now() {
        let old = Contract::new("c", vec![Column::new("dest", ColumnKind::String)]);
        let renamed = Column { aliases: vec!["dest".into(), "dst".into()], ..Column::new("to", ColumnKind::String) };
        let new = Contract::new("c", vec![renamed]);
        assert_eq!(new.column_or_alias("dest").map(|column| column.name.as_str()), Some("to"));
        let taught = old.taught_by(&new);
        assert_eq!(taught.columns[0].aliases, ["to", "dst"]);
        let columns = ["dest".to_owned()];
        assert_eq!(taught.names_in_data(&columns).collect::<Vec<_>>(), ["dest", "to", "dst"]);
    }
}
