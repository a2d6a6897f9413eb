//! The words of expressions: literals, functions and parts of instants.

use super::parse::{Read, Typed, fail};
use super::tree::{Constant, InstantPart, Node};
use sqlparser::ast::{DateTimeField, Expr, Value};
use vocabulary::contract::ColumnKind;
use vocabulary::suggest;

/// The functions that there are.
pub(super) const FUNCTIONS: &[&str] = &[
    "abs",
    "btrim",
    "ceil",
    "character_length",
    "char_length",
    "coalesce",
    "concat",
    "date_part",
    "exp",
    "floor",
    "length",
    "ln",
    "lower",
    "ltrim",
    "nullif",
    "round",
    "rtrim",
    "sqrt",
    "substr",
    "substring",
    "trim",
    "upper",
];

pub(super) fn literal(at: &Expr, value: &Value, sign: &str) -> Read<Typed> {
    Ok(match value {
        Value::Null => (Node::Constant(Constant::Null(ColumnKind::Bool)), None),
        Value::Boolean(value) if sign.is_empty() => (Node::Constant(Constant::Bool(*value)), Some(ColumnKind::Bool)),
        Value::Number(text, false) => {
            let text = format!("{sign}{text}");
            let is_int = text.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit());
            match (is_int, text.parse::<i64>(), text.parse::<f64>()) {
                (true, Ok(value), _) => (Node::Constant(Constant::Int(value)), Some(ColumnKind::Int)),
                (false, _, Ok(value)) if value.is_finite() => {
                    (Node::Constant(Constant::Float(value + 0.0)), Some(ColumnKind::Float))
                }
                (true, _, _) => return fail(at, format!("{text} has more than 64 bits; write {text}.0")),
                _ => return fail(at, format!("{text} is not a finite number")),
            }
        }
        Value::SingleQuotedString(text) if sign.is_empty() => {
            (Node::Constant(Constant::String(text.clone())), Some(ColumnKind::String))
        }
        other => return fail(at, format!("the literal {other} is outside the subset")),
    })
}

pub(super) fn part_of(at: &Expr, field: &DateTimeField) -> Read<InstantPart> {
    Ok(match field {
        DateTimeField::Year | DateTimeField::Years => InstantPart::Year,
        DateTimeField::Quarter => InstantPart::Quarter,
        DateTimeField::Month | DateTimeField::Months => InstantPart::Month,
        DateTimeField::Week(None) | DateTimeField::Weeks => InstantPart::Week,
        DateTimeField::Day | DateTimeField::Days => InstantPart::Day,
        DateTimeField::Hour | DateTimeField::Hours => InstantPart::Hour,
        DateTimeField::Minute | DateTimeField::Minutes => InstantPart::Minute,
        DateTimeField::Second | DateTimeField::Seconds => InstantPart::Second,
        DateTimeField::Dow => InstantPart::DayOfWeek,
        DateTimeField::Isodow => InstantPart::IsoDayOfWeek,
        DateTimeField::Doy => InstantPart::DayOfYear,
        DateTimeField::Epoch => InstantPart::Epoch,
        other => return part_named(at, &other.to_string()),
    })
}

pub(super) fn part_named(at: &Expr, name: &str) -> Read<InstantPart> {
    const NAMES: [(&str, InstantPart); 12] = [
        ("year", InstantPart::Year),
        ("quarter", InstantPart::Quarter),
        ("month", InstantPart::Month),
        ("week", InstantPart::Week),
        ("day", InstantPart::Day),
        ("hour", InstantPart::Hour),
        ("minute", InstantPart::Minute),
        ("second", InstantPart::Second),
        ("dow", InstantPart::DayOfWeek),
        ("isodow", InstantPart::IsoDayOfWeek),
        ("doy", InstantPart::DayOfYear),
        ("epoch", InstantPart::Epoch),
    ];
    let lower = name.to_lowercase();
    match NAMES.iter().find(|(known, _)| *known == lower) {
        Some((_, part)) => Ok(*part),
        None => {
            let hint = suggest::hint(&lower, NAMES.iter().map(|(name, _)| *name));
            fail(at, format!("an instant has no part \"{name}\" here{hint}"))
        }
    }
}
