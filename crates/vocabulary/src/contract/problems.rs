//! Whether a contract agrees with itself.

use super::{
    CheckRule, Column, ColumnKind, Comparison, ConditionTest, Contract, Expectation, KNOWN_AT_EVENT, NullPolicy,
    Operand, Repair, Scalar,
};
use crate::suggest;

#[derive(Debug, thiserror::Error, PartialEq)]
pub enum ContractError {
    #[error("contract \"{contract}\": column \"{column}\" is declared twice")]
    Twice { contract: String, column: String },
    #[error("contract \"{contract}\": {role} names column \"{column}\", which is not declared{hint}")]
    Unknown { contract: String, role: String, column: String, hint: String },
    #[error("contract \"{contract}\": column \"{column}\": {what}")]
    Column { contract: String, column: String, what: String },
    #[error("contract \"{contract}\": {what}")]
    Whole { contract: String, what: String },
}

impl Contract {
    /// Checks that the declaration agrees with itself; every problem found is returned.
    pub fn problems(&self) -> Vec<ContractError> {
        let mut found = Vec::new();
        let contract = || self.name.clone();
        for (i, column) in self.columns.iter().enumerate() {
            if self.columns[..i].iter().any(|earlier| earlier.name == column.name) {
                found.push(ContractError::Twice { contract: contract(), column: column.name.clone() });
            }
            if let Some(what) = column.problem().or_else(|| self.alias_problem(column)) {
                found.push(ContractError::Column { contract: contract(), column: column.name.clone(), what });
            }
            for (role, name) in [("observed_at", &column.observed_at), ("known_at", &column.known_at)] {
                let name = name.as_ref().filter(|name| role != "known_at" || *name != KNOWN_AT_EVENT);
                found.extend(self.instant_problem(&format!("{role} of column \"{}\"", column.name), name));
            }
        }
        found.extend(self.instant_problem("time", self.time.as_ref()));
        found.extend(self.key.as_ref().and_then(|name| self.unknown("key", name)));
        for (i, check) in self.checks.iter().enumerate() {
            let twice = self.checks[..i].iter().any(|earlier| earlier.name == check.name);
            let what = match (twice, self.column(&check.name)) {
                (true, _) => Some(format!("check \"{}\" is declared twice", check.name)),
                (_, Some(_)) => Some(format!("check \"{}\" has the name of a column; call it otherwise", check.name)),
                _ => None,
            };
            found.extend(what.map(|what| ContractError::Whole { contract: contract(), what }));
            found.extend(self.check_problems(check));
        }
        let mut whole = Vec::new();
        whole.extend(self.table.problem().map(|what| format!("[table]: {what}")));
        for (environment, place) in self.severities_of_nothing() {
            let columns = self.column_names().map(str::to_owned);
            let checks = self.checks.iter().map(|check| check.name.clone());
            let each = self.column_names().flat_map(|name| Expectation::ALL.map(|e| format!("{name}.{}", e.name())));
            let known: Vec<String> = columns.chain(checks).chain(each).collect();
            let hint = suggest::hint(place, known.iter().map(String::as_str));
            whole.push(format!(
                "[environments.{environment}.severity] names \"{place}\", which is no column, column.expectation, check, rows \
                 or refused_share{hint}"
            ));
        }
        found.extend(whole.into_iter().map(|what| ContractError::Whole { contract: contract(), what }));
        found
    }

    fn unknown(&self, role: &str, name: &str) -> Option<ContractError> {
        if self.column(name).is_some() {
            return None;
        }
        let hint = suggest::hint(name, self.column_names());
        let (contract, role) = (self.name.clone(), role.to_owned());
        Some(ContractError::Unknown { contract, role, column: name.to_owned(), hint })
    }

    fn instant_problem(&self, role: &str, name: Option<&String>) -> Option<ContractError> {
        let name = name?.as_str();
        match self.column(name) {
            None => self.unknown(role, name),
            Some(column) if column.kind != ColumnKind::Timestamp => Some(ContractError::Whole {
                contract: self.name.clone(),
                what: format!("{role} names \"{name}\", which is of type {}, not timestamp", column.kind.name()),
            }),
            Some(_) => None,
        }
    }

    fn alias_problem(&self, column: &Column) -> Option<String> {
        column.aliases.iter().find_map(|alias| {
            let of = |other: &&Column| other.name != column.name && (other.name == *alias || other.is_also(alias));
            let other = self.columns.iter().find(of);
            match other {
                _ if *alias == column.name => Some(format!("its alias \"{alias}\" is its own name")),
                Some(other) => Some(format!("its alias \"{alias}\" is also a name of column \"{}\"", other.name)),
                None => None,
            }
        })
    }

    fn check_problems(&self, check: &CheckRule) -> Vec<ContractError> {
        let role = format!("check \"{}\"", check.name);
        let mut found: Vec<ContractError> =
            check.expect.columns().into_iter().filter_map(|name| self.unknown(&role, name)).collect();
        if found.is_empty() {
            let conditions = check.expect.when.iter().chain(&check.expect.then);
            let kinds = conditions.filter_map(|condition| self.condition_problem(&condition.column, &condition.test));
            let of_repair = self.check_repair_problem(check);
            found.extend(
                kinds
                    .chain(of_repair)
                    .map(|what| ContractError::Whole { contract: self.name.clone(), what: format!("{role}: {what}") }),
            );
        }
        found
    }

    fn condition_problem(&self, name: &str, test: &ConditionTest) -> Option<String> {
        let column = self.column(name)?;
        match test {
            ConditionTest::Null | ConditionTest::NotNull => None,
            ConditionTest::OneOf(values) => values.iter().find_map(|value| mismatch(column, value)),
            ConditionTest::Compare(comparison, Operand::Value(value)) => {
                mismatch(column, value).or_else(|| unordered(column, *comparison))
            }
            ConditionTest::Compare(comparison, Operand::Column(other)) => {
                let other = self.column(other)?;
                if family(column.kind) != family(other.kind) {
                    let (a, b) = (column.kind.name(), other.kind.name());
                    return Some(format!(
                        "\"{name}\" is of type {a} and \"{}\" of type {b}; they can't be compared",
                        other.name
                    ));
                }
                unordered(column, *comparison)
            }
        }
    }

    fn check_repair_problem(&self, check: &CheckRule) -> Option<String> {
        let blamed = check.blamed();
        let column = match self.column(blamed) {
            Some(column) if check.expect.columns().contains(&blamed) => column,
            _ => return Some(format!("column = \"{blamed}\" is none of the columns that it is about")),
        };
        match check.repair {
            Repair::Clip => Some("repair = \"clip\" is for a column's range".into()),
            Repair::Default if column.default.is_none() => {
                Some(format!("repair = \"default\" needs a default of column \"{blamed}\""))
            }
            Repair::Null if column.nulls == NullPolicy::Forbid => {
                Some(format!("repair = \"null\" needs nulls = \"allow\" of column \"{blamed}\""))
            }
            _ => None,
        }
    }
}

/// Kinds that can be compared with each other.
fn family(kind: ColumnKind) -> u8 {
    match kind {
        ColumnKind::Int | ColumnKind::Float => 0,
        ColumnKind::Bool => 1,
        ColumnKind::String => 2,
        ColumnKind::Timestamp => 3,
    }
}

fn mismatch(column: &Column, value: &Scalar) -> Option<String> {
    let fits = match (column.kind, value) {
        (ColumnKind::Int | ColumnKind::Float, Scalar::Int(_) | Scalar::Float(_)) => true,
        (ColumnKind::Bool, Scalar::Bool(_)) | (ColumnKind::String, Scalar::Text(_)) => true,
        (ColumnKind::Timestamp, Scalar::Text(text)) => text.parse::<crate::Timestamp>().is_ok(),
        _ => false,
    };
    let (name, kind, value) = (&column.name, column.kind.name(), value.text());
    (!fits).then(|| format!("\"{name}\" is of type {kind}, which {value} is not"))
}

fn unordered(column: &Column, comparison: Comparison) -> Option<String> {
    let equality = matches!(comparison, Comparison::Equal | Comparison::NotEqual);
    (column.kind == ColumnKind::Bool && !equality)
        .then(|| format!("\"{}\" is true or false, which have no order; use = or !=", column.name))
}

impl Column {
    fn problem(&self) -> Option<String> {
        let number = matches!(self.kind, ColumnKind::Int | ColumnKind::Float);
        let text = self.kind == ColumnKind::String;
        if let Some([low, high]) = self.range {
            if !number {
                return Some(format!("a range needs type int or float, not {}", self.kind.name()));
            }
            if low.is_nan() || high.is_nan() || low > high {
                return Some(format!("range [{low}, {high}] is empty; write [least, greatest]"));
            }
        }
        if self.categories.is_some() && !text {
            return Some(format!("categories need type string, not {}", self.kind.name()));
        }
        if self.pattern.is_some() && !text {
            return Some(format!("a pattern needs type string, not {}", self.kind.name()));
        }
        if let Some([least, most]) = self.length {
            if !text {
                return Some(format!("a length needs type string, not {}", self.kind.name()));
            }
            if least > most {
                return Some(format!("length [{least}, {most}] is empty; write [least, greatest]"));
            }
        }
        if self.closed && self.categories.is_none() {
            return Some("closed = true needs categories".to_owned());
        }
        if let Some(share) = self.null_share.filter(|share| !(0.0..=1.0).contains(share)) {
            return Some(format!("null_share = {share} is no share; write a number from 0 to 1"));
        }
        if self.observed_at.is_some() && self.freshness.is_none() {
            return Some("observed_at is for freshness; declare how old the value may be".to_owned());
        }
        if let Some(problem) = self.distribution.as_ref().and_then(|distribution| distribution.problem(self)) {
            return Some(problem);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Distribution;

    #[track_caller]
    fn problem(edit: impl FnOnce(&mut Contract), expected: &str) {
        let columns = [
            ("at", ColumnKind::Timestamp),
            ("price", ColumnKind::Float),
            ("shop", ColumnKind::String),
            ("express", ColumnKind::Bool),
        ];
        let mut contract = Contract::new("c", columns.map(|(name, kind)| Column::new(name, kind)).to_vec());
        assert_eq!(contract.problems(), []);
        edit(&mut contract);
        let said: Vec<String> = contract.problems().iter().map(ToString::to_string).collect();
        assert!(said.len() == 1 && said[0].contains(expected), "{said:?}");
    }

    fn check(text: &str) -> CheckRule {
        CheckRule::new("rule", text.parse().unwrap())
    }

    #[test]
    fn what_disagrees_is_named() {
        problem(|c| c.columns[1].pattern = Some("a".into()), "column \"price\": a pattern needs type string");
        problem(|c| c.columns[2].length = Some([3, 2]), "length [3, 2] is empty");
        problem(|c| c.columns[1].null_share = Some(5.0), "null_share = 5 is no share");
        problem(|c| c.columns[1].aliases = vec!["shop".into()], "alias \"shop\" is also a name of column \"shop\"");
        problem(|c| c.columns[1].known_at = Some("shop".into()), "which is of type string, not timestamp");
        problem(|c| c.columns[1].known_at = Some("att".into()), "is not declared; did you mean \"at\"?");
        problem(
            |c| {
                c.table.rows_min = Some(2).filter(|_| {
                    c.table.rows_max = Some(1);
                    true
                })
            },
            "more than rows_max",
        );
        let bins = Distribution {
            tolerance: 0.1,
            measure: None,
            edges: Some(vec![1.0]),
            values: None,
            shares: Some(vec![0.4, 0.4]),
        };
        problem(|c| c.columns[1].distribution = Some(bins), "the shares add up to 0.8");
    }

    #[test]
    fn a_check_that_cannot_be_is_told() {
        problem(|c| c.checks = vec![check("price <= cost")], "check \"rule\" names column \"cost\"");
        problem(|c| c.checks = vec![check("price <= shop")], "they can't be compared");
        problem(|c| c.checks = vec![check("price > 'dear'")], "which dear is not");
        problem(|c| c.checks = vec![check("express > true")], "have no order");
        problem(|c| c.checks = vec![check("at > 'soon'")], "is of type timestamp");
        let blamed = CheckRule { column: Some("at".into()), ..check("price > 0") };
        problem(|c| c.checks = vec![blamed], "none of the columns that it is about");
        problem(|c| c.checks = vec![check("price > 0"), check("price > 0")], "declared twice");
        let clip = CheckRule { repair: Repair::Clip, ..check("price > 0") };
        problem(|c| c.checks = vec![clip], "is for a column's range");
    }
}
