//! What a contract expects of several columns of one row, in a small language:
//!
//! ```text
//! expression := [ "if" conditions "then" ] conditions
//! conditions := condition { "and" condition }
//! condition  := column ( comparison operand | "in" "[" value { "," value } "]" | [ "is" ] [ "not" ] "null" )
//! comparison := "<=" | "<" | ">=" | ">" | "=" | "==" | "!="
//! operand    := column | value
//! value      := number | "text" | 'text' | true | false
//! ```
//!
//! A column whose name is more than letters, digits and underscores stands in backticks. A comparison with null is
//! neither true nor false, as in SQL: it breaks no expectation, and an `if` that is not true asks for nothing.

use super::{Repair, Scalar, Severity};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// `[[check]]` in a contract's file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckRule {
    pub name: String,
    pub expect: Expression,
    /// The column that is repaired; by default the first that is expected something of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    #[serde(default, skip_serializing_if = "is_error")]
    pub severity: Severity,
    #[serde(default, skip_serializing_if = "is_reject")]
    pub repair: Repair,
}

fn is_error(severity: &Severity) -> bool {
    *severity == Severity::Error
}

fn is_reject(repair: &Repair) -> bool {
    *repair == Repair::Reject
}

impl CheckRule {
    pub fn new(name: impl Into<String>, expect: Expression) -> CheckRule {
        CheckRule { name: name.into(), expect, column: None, severity: Severity::Error, repair: Repair::Reject }
    }

    /// The column that is repaired.
    pub fn blamed(&self) -> &str {
        let first = || self.expect.then.first().map(|condition| condition.column.as_str());
        self.column.as_deref().or_else(first).unwrap_or_default()
    }
}

/// Where all of `when` is true, nothing of `then` is false. On disk: its text.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    text: String,
    pub when: Vec<Condition>,
    pub then: Vec<Condition>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    pub column: String,
    pub test: ConditionTest,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ConditionTest {
    Compare(Comparison, Operand),
    OneOf(Vec<Scalar>),
    Null,
    NotNull,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Operand {
    Column(String),
    Value(Scalar),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    Less,
    AtMost,
    Equal,
    NotEqual,
    AtLeast,
    Greater,
}

impl Comparison {
    pub fn holds(self, order: std::cmp::Ordering) -> bool {
        match self {
            Comparison::Less => order.is_lt(),
            Comparison::AtMost => order.is_le(),
            Comparison::Equal => order.is_eq(),
            Comparison::NotEqual => order.is_ne(),
            Comparison::AtLeast => order.is_ge(),
            Comparison::Greater => order.is_gt(),
        }
    }
}

impl Expression {
    /// The columns that it is about, each once, in the order of the text.
    pub fn columns(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for condition in self.when.iter().chain(&self.then) {
            let other = match &condition.test {
                ConditionTest::Compare(_, Operand::Column(other)) => Some(other.as_str()),
                _ => None,
            };
            for name in std::iter::once(condition.column.as_str()).chain(other) {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Serialize for Expression {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Expression {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[derive(Debug, thiserror::Error, PartialEq)]
#[error(
    "\"{text}\" can't be read at \"{rest}\": {expected} is expected there, as in `landed >= departed` or `if kind = \"a\" then price not null`"
)]
pub struct ExpressionError {
    text: String,
    rest: String,
    expected: &'static str,
}

impl FromStr for Expression {
    type Err = ExpressionError;

    fn from_str(text: &str) -> Result<Self, ExpressionError> {
        let mut reader = Reader { rest: text };
        let parsed = (|| {
            let when = if reader.word("if") {
                let when = reader.conditions()?;
                if !reader.word("then") {
                    return Err("\"and\" or \"then\"");
                }
                when
            } else {
                Vec::new()
            };
            let then = reader.conditions()?;
            match reader.rest.trim_start() {
                "" => Ok((when, then)),
                _ => Err("\"and\" or the end"),
            }
        })();
        match parsed {
            Ok((when, then)) => Ok(Expression { text: text.trim().to_owned(), when, then }),
            Err(expected) => {
                let rest: String = reader.rest.trim_start().chars().take(40).collect();
                Err(ExpressionError { text: text.to_owned(), rest, expected })
            }
        }
    }
}

/// What is left of the text; on an error, from where it went wrong.
struct Reader<'a> {
    rest: &'a str,
}

type Read<T> = Result<T, &'static str>;

const COMPARISONS: [(&str, Comparison); 7] = [
    ("<=", Comparison::AtMost),
    (">=", Comparison::AtLeast),
    ("!=", Comparison::NotEqual),
    ("==", Comparison::Equal),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
    ("=", Comparison::Equal),
];

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

impl<'a> Reader<'a> {
    fn conditions(&mut self) -> Read<Vec<Condition>> {
        let mut conditions = vec![self.condition()?];
        while self.word("and") {
            conditions.push(self.condition()?);
        }
        Ok(conditions)
    }

    fn condition(&mut self) -> Read<Condition> {
        let column = self.column().ok_or("the name of a column")?;
        let test = self.test()?;
        Ok(Condition { column, test })
    }

    fn test(&mut self) -> Read<ConditionTest> {
        for (sign, comparison) in COMPARISONS {
            if self.sign(sign) {
                return Ok(ConditionTest::Compare(comparison, self.operand()?));
            }
        }
        if self.word("in") {
            return Ok(ConditionTest::OneOf(self.list()?));
        }
        let is = self.word("is");
        let not = self.word("not");
        match (self.word("null"), is || not) {
            (true, true) => Ok(if not { ConditionTest::NotNull } else { ConditionTest::Null }),
            (false, true) => Err("null"),
            (_, false) => Err("a comparison, \"in [...]\", \"is null\" or \"not null\""),
        }
    }

    fn operand(&mut self) -> Read<Operand> {
        if let Some(value) = self.value()? {
            return Ok(Operand::Value(value));
        }
        self.column().map(Operand::Column).ok_or("a column or a value")
    }

    fn list(&mut self) -> Read<Vec<Scalar>> {
        if !self.sign("[") {
            return Err("\"[\"");
        }
        let mut values = Vec::new();
        loop {
            values.push(self.value()?.ok_or("a value")?);
            if self.sign("]") {
                return Ok(values);
            }
            if !self.sign(",") {
                return Err("\",\" or \"]\"");
            }
        }
    }

    fn value(&mut self) -> Read<Option<Scalar>> {
        let text = self.rest.trim_start();
        for quote in ['"', '\''] {
            if let Some(inside) = text.strip_prefix(quote) {
                let (value, rest) = inside.split_once(quote).ok_or("the end of the quotes")?;
                self.rest = rest;
                return Ok(Some(Scalar::Text(value.to_owned())));
            }
        }
        for (word, value) in [("true", true), ("false", false)] {
            if self.word(word) {
                return Ok(Some(Scalar::Bool(value)));
            }
        }
        if !text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) {
            return Ok(None);
        }
        let numeric = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        let end = text.find(|c| !numeric(c)).unwrap_or(text.len());
        let (number, rest) = text.split_at(end);
        let value = number.parse::<i64>().map(Scalar::Int).ok();
        let float = || number.parse::<f64>().ok().filter(|value| value.is_finite()).map(Scalar::Float);
        let value = value.or_else(float).ok_or("a number")?;
        self.rest = rest;
        Ok(Some(value))
    }

    fn column(&mut self) -> Option<String> {
        let text = self.rest.trim_start();
        let (name, rest) = match text.strip_prefix('`') {
            Some(inside) => inside.split_once('`')?,
            None => text.split_at(text.find(|c| !is_name(c)).unwrap_or(text.len())),
        };
        if name.is_empty() {
            return None;
        }
        self.rest = rest;
        Some(name.to_owned())
    }

    fn sign(&mut self, sign: &str) -> bool {
        let found = self.rest.trim_start().strip_prefix(sign);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn word(&mut self, word: &str) -> bool {
        let found = self.rest.trim_start().strip_prefix(word).filter(|rest| !rest.starts_with(is_name));
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Expression {
        text.parse().unwrap()
    }

    #[test]
    fn comparisons_and_conditions_are_read() {
        let simple = read("departed <= landed");
        assert!(simple.when.is_empty());
        assert_eq!(simple.then[0].test, ConditionTest::Compare(Comparison::AtMost, Operand::Column("landed".into())));
        let rule = read("if kind in ['a', \"b\"] and `net price`>=-1.5 then price not null and tax != 0");
        assert_eq!(rule.columns(), ["kind", "net price", "price", "tax"]);
        assert_eq!(rule.when[0].test, ConditionTest::OneOf(vec![Scalar::Text("a".into()), Scalar::Text("b".into())]));
        let limit = Operand::Value(Scalar::Float(-1.5));
        assert_eq!(rule.when[1].test, ConditionTest::Compare(Comparison::AtLeast, limit));
        assert_eq!(rule.then[0].test, ConditionTest::NotNull);
        assert_eq!(read("x is null").then[0].test, ConditionTest::Null);
        assert_eq!(read("iffy = true").columns(), ["iffy"], "a name that begins like a word of the language");
    }

    #[test]
    fn what_cannot_be_read_says_where() {
        for (text, rest, expected) in [
            ("", "", "the name of a column"),
            ("a <", "", "a column or a value"),
            ("a ~ b", "~ b", "a comparison"),
            ("if a > 1 b < 2", "b < 2", "\"and\" or \"then\""),
            ("a > 1 or b", "or b", "\"and\" or the end"),
            ("a in ['x'", "", "\",\" or \"]\""),
            ("a = 'x", "'x", "the end of the quotes"),
            ("a is b", "b", "null"),
        ] {
            let error = text.parse::<Expression>().unwrap_err();
            assert_eq!(error.rest, rest, "{text}");
            assert!(error.expected.starts_with(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_rule_is_written_as_it_was_read() {
        let text = r#"{"name":"order","expect":"a <= b"}"#;
        let rule: CheckRule = serde_json::from_str(text).unwrap();
        assert_eq!((rule.blamed(), rule.repair), ("a", Repair::Reject));
        assert_eq!(serde_json::to_string(&rule).unwrap(), text);
    }
}
