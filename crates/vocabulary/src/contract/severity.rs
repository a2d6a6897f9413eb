//! How bad a broken expectation is, everywhere or in one environment.

use super::Contract;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The value passes as it is; the breach is counted and shown.
    Warn,
    /// The column's repair is done; of a table, the check fails and no training begins.
    #[default]
    Error,
}

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Severity::Warn => "warn",
            Severity::Error => "error",
        }
    }
}

/// What can be expected. The names are those of the keys in the contract's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expectation {
    Nulls,
    Range,
    Categories,
    Pattern,
    Length,
    Freshness,
    Unique,
    NullShare,
    Distribution,
    /// Of several columns of a row.
    Check,
    /// Of the number of rows.
    Rows,
    /// Of the share of rows that are refused.
    RefusedShare,
}

impl Expectation {
    pub const ALL: [Expectation; 12] = [
        Expectation::Nulls,
        Expectation::Range,
        Expectation::Categories,
        Expectation::Pattern,
        Expectation::Length,
        Expectation::Freshness,
        Expectation::Unique,
        Expectation::NullShare,
        Expectation::Distribution,
        Expectation::Check,
        Expectation::Rows,
        Expectation::RefusedShare,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Expectation::Nulls => "nulls",
            Expectation::Range => "range",
            Expectation::Categories => "categories",
            Expectation::Pattern => "pattern",
            Expectation::Length => "length",
            Expectation::Freshness => "freshness",
            Expectation::Unique => "unique",
            Expectation::NullShare => "null_share",
            Expectation::Distribution => "distribution",
            Expectation::Check => "check",
            Expectation::Rows => "rows",
            Expectation::RefusedShare => "refused_share",
        }
    }
}

/// `severity = "warn"` for all expectations, or by expectation: `severity = { range = "warn" }`; what is not named is an
/// error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Severities {
    All(Severity),
    Each(BTreeMap<Expectation, Severity>),
}

impl Default for Severities {
    fn default() -> Self {
        Severities::All(Severity::Error)
    }
}

impl Severities {
    pub fn is_default(&self) -> bool {
        *self == Severities::default()
    }

    pub fn of(&self, expectation: Expectation) -> Severity {
        match self {
            Severities::All(severity) => *severity,
            Severities::Each(each) => each.get(&expectation).copied().unwrap_or_default(),
        }
    }

    fn set(&mut self, expectation: Expectation, severity: Severity) {
        if let Severities::All(all) = self {
            *self = Severities::Each(Expectation::ALL.map(|expectation| (expectation, *all)).into());
        }
        if let Severities::Each(each) = self {
            each.insert(expectation, severity);
        }
    }
}

/// What one environment changes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// By `COLUMN`, `COLUMN.EXPECTATION`, the name of a check, `rows` or `refused_share`. The longer name wins.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub severity: BTreeMap<String, Severity>,
}

impl Contract {
    /// The contract with the severities of an environment in the place of its own. An environment that it does not name
    /// changes nothing.
    pub fn in_environment(&self, name: Option<&str>) -> Contract {
        let mut resolved = self.clone();
        let Some(environment) = name.and_then(|name| self.environments.get(name)) else { return resolved };
        // Names of columns are shorter than what they are the beginning of: the map's order brings them first.
        for (place, severity) in &environment.severity {
            resolved.set_severity(place, *severity);
        }
        resolved
    }

    /// Whether there is what `place` names.
    fn set_severity(&mut self, place: &str, severity: Severity) -> bool {
        if let Some(check) = self.checks.iter_mut().find(|check| check.name == place) {
            check.severity = severity;
            return true;
        }
        if let Some(column) = self.columns.iter_mut().find(|column| column.name == place) {
            column.severity = Severities::All(severity);
            return true;
        }
        if let Some(expectation) =
            [Expectation::Rows, Expectation::RefusedShare].into_iter().find(|expectation| expectation.name() == place)
        {
            self.table.severity.set(expectation, severity);
            return true;
        }
        let Some((name, expectation)) = place.rsplit_once('.') else { return false };
        let column = self.columns.iter_mut().find(|column| column.name == name);
        let expectation = Expectation::ALL.into_iter().find(|known| known.name() == expectation);
        match (column, expectation) {
            (Some(column), Some(expectation)) => {
                column.severity.set(expectation, severity);
                true
            }
            _ => false,
        }
    }

    /// Environment and name, where the name means nothing here.
    pub(super) fn severities_of_nothing(&self) -> Vec<(&str, &str)> {
        let mut trial = self.clone();
        let mut found = Vec::new();
        for (name, environment) in &self.environments {
            let unknown =
                environment.severity.iter().filter(|(place, severity)| !trial.set_severity(place, **severity));
            found.extend(unknown.map(|(place, _)| (name.as_str(), place.as_str())));
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Column, ColumnKind};

    fn contract() -> Contract {
        let mut contract = Contract::new("c", vec![Column::new("price", ColumnKind::Float)]);
        let severity = [("price", Severity::Warn), ("price.range", Severity::Error), ("rows", Severity::Warn)];
        let severity = severity.map(|(place, severity)| (place.to_owned(), severity)).into();
        contract.environments.insert("staging".into(), Environment { severity });
        contract
    }

    #[test]
    fn an_environment_changes_what_it_names_and_the_longer_name_wins() {
        let staging = contract().in_environment(Some("staging"));
        let price = &staging.columns[0];
        assert_eq!(price.severity_of(Expectation::Range), Severity::Error);
        assert_eq!(price.severity_of(Expectation::Nulls), Severity::Warn);
        assert_eq!(staging.table.severity.of(Expectation::Rows), Severity::Warn);
        assert_eq!(staging.table.severity.of(Expectation::RefusedShare), Severity::Error);
        for other in [None, Some("production")] {
            assert_eq!(contract().in_environment(other), contract());
        }
    }

    #[test]
    fn a_name_that_means_nothing_is_told() {
        let mut contract = contract();
        let staging = contract.environments.get_mut("staging").unwrap();
        staging.severity.insert("pirce.range".into(), Severity::Warn);
        staging.severity.insert("price.rnage".into(), Severity::Warn);
        assert_eq!(contract.severities_of_nothing(), [("staging", "pirce.range"), ("staging", "price.rnage")]);
    }

    #[test]
    fn one_word_or_a_word_for_each() {
        let one: Severities = serde_json::from_str("\"warn\"").unwrap();
        assert_eq!(one.of(Expectation::Length), Severity::Warn);
        let each: Severities = serde_json::from_str("{\"range\":\"warn\"}").unwrap();
        assert_eq!((each.of(Expectation::Range), each.of(Expectation::Nulls)), (Severity::Warn, Severity::Error));
        assert_eq!(serde_json::to_string(&each).unwrap(), "{\"range\":\"warn\"}");
    }
}
