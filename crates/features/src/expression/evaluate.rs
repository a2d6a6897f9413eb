//! Evaluation, a node at a time over a run of rows: the same for one row and for many.

use super::text::substring;
use super::tree::{Arithmetic, Comparison, Constant, InstantPart, Math, Node, TextFunction};
use crate::canonical::integral;
use crate::columns::Values;
use crate::pipeline::local;
use arrow::compute::kernels::cast_utils::Parser;
use arrow::datatypes::{Float64Type, Int64Type};
use chrono::{DateTime, Datelike, Timelike};
use chrono_tz::Tz;
use std::borrow::Cow;
use std::cmp::Ordering;
use std::ops::Range;
use vocabulary::contract::ColumnKind;
use vocabulary::elementary::{exp, ln};

/// The values of a run of rows. Floats are never NaN, and zero is positive.
#[derive(Clone, Debug)]
pub(super) enum Lane<'a> {
    Bool(Vec<Option<bool>>),
    Int(Vec<Option<i64>>),
    Float(Vec<Option<f64>>),
    Text(Vec<Option<Cow<'a, str>>>),
    Time(Vec<Option<i64>>),
}

const TYPED: &str = "the tree was typed when it was read";

impl<'a> Lane<'a> {
    pub(super) fn bools(self) -> Vec<Option<bool>> {
        if let Lane::Bool(values) = self { values } else { unreachable!("{TYPED}") }
    }

    pub(super) fn ints(self) -> Vec<Option<i64>> {
        if let Lane::Int(values) = self { values } else { unreachable!("{TYPED}") }
    }

    pub(super) fn floats(self) -> Vec<Option<f64>> {
        if let Lane::Float(values) = self { values } else { unreachable!("{TYPED}") }
    }

    pub(super) fn texts(self) -> Vec<Option<Cow<'a, str>>> {
        if let Lane::Text(values) = self { values } else { unreachable!("{TYPED}") }
    }

    pub(super) fn times(self) -> Vec<Option<i64>> {
        if let Lane::Time(values) = self { values } else { unreachable!("{TYPED}") }
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Lane::Bool(values) => values[row].is_none(),
            Lane::Int(values) | Lane::Time(values) => values[row].is_none(),
            Lane::Float(values) => values[row].is_none(),
            Lane::Text(values) => values[row].is_none(),
        }
    }

    fn len(&self) -> usize {
        match self {
            Lane::Bool(values) => values.len(),
            Lane::Int(values) | Lane::Time(values) => values.len(),
            Lane::Float(values) => values.len(),
            Lane::Text(values) => values.len(),
        }
    }

    /// How two values of one row compare; none where one is null.
    fn order(&self, other: &Lane<'_>, row: usize) -> Option<Ordering> {
        match (self, other) {
            (Lane::Bool(left), Lane::Bool(right)) => Some(left[row]?.cmp(&right[row]?)),
            (Lane::Int(left), Lane::Int(right)) | (Lane::Time(left), Lane::Time(right)) => {
                Some(left[row]?.cmp(&right[row]?))
            }
            (Lane::Float(left), Lane::Float(right)) => left[row]?.partial_cmp(&right[row]?),
            (Lane::Text(left), Lane::Text(right)) => Some(left[row].as_deref()?.cmp(right[row].as_deref()?)),
            _ => unreachable!("{TYPED}"),
        }
    }

    fn orders<'l>(&'l self, other: &'l Lane<'_>) -> impl Iterator<Item = Option<Ordering>> + 'l {
        (0..self.len()).map(|row| self.order(other, row))
    }

    /// The values of `self` where `keep` holds, and of `other` elsewhere.
    fn choose(self, keep: &[bool], other: Lane<'a>) -> Lane<'a> {
        fn pick<T>(mine: Vec<T>, keep: &[bool], other: Vec<T>) -> Vec<T> {
            mine.into_iter()
                .zip(other)
                .zip(keep)
                .map(|((mine, other), keep)| if *keep { mine } else { other })
                .collect()
        }
        match (self, other) {
            (Lane::Bool(mine), Lane::Bool(other)) => Lane::Bool(pick(mine, keep, other)),
            (Lane::Int(mine), Lane::Int(other)) => Lane::Int(pick(mine, keep, other)),
            (Lane::Float(mine), Lane::Float(other)) => Lane::Float(pick(mine, keep, other)),
            (Lane::Text(mine), Lane::Text(other)) => Lane::Text(pick(mine, keep, other)),
            (Lane::Time(mine), Lane::Time(other)) => Lane::Time(pick(mine, keep, other)),
            _ => unreachable!("{TYPED}"),
        }
    }

    fn nulls(kind: ColumnKind, rows: usize) -> Lane<'a> {
        match kind {
            ColumnKind::Bool => Lane::Bool(vec![None; rows]),
            ColumnKind::Int => Lane::Int(vec![None; rows]),
            ColumnKind::Float => Lane::Float(vec![None; rows]),
            ColumnKind::String => Lane::Text(vec![None; rows]),
            ColumnKind::Timestamp => Lane::Time(vec![None; rows]),
        }
    }

    fn of_column(values: &Values<'a>, rows: Range<usize>) -> Lane<'a> {
        match values {
            Values::Bool(array) => {
                Lane::Bool(rows.map(|row| (!values.is_null(row)).then(|| array.value(row))).collect())
            }
            Values::Int(array) => Lane::Int(rows.map(|row| (!values.is_null(row)).then(|| array.value(row))).collect()),
            Values::Float(_) => Lane::Float(rows.map(|row| values.number(row).map(|value| value + 0.0)).collect()),
            Values::Text(array) => {
                let text = |row| (!values.is_null(row)).then(|| Cow::Borrowed(array.value(row)));
                Lane::Text(rows.map(text).collect())
            }
            Values::Time(_) => Lane::Time(rows.map(|row| values.micros(row)).collect()),
        }
    }

    fn of_constant(constant: &'a Constant, rows: usize) -> Lane<'a> {
        match constant {
            Constant::Null(kind) => Lane::nulls(*kind, rows),
            Constant::Bool(value) => Lane::Bool(vec![Some(*value); rows]),
            Constant::Int(value) => Lane::Int(vec![Some(*value); rows]),
            Constant::Float(value) => Lane::Float(vec![sound(*value); rows]),
            Constant::String(text) => Lane::Text(vec![Some(Cow::Borrowed(text)); rows]),
            Constant::Timestamp(value) => Lane::Time(vec![Some(*value); rows]),
        }
    }
}

/// Null for NaN, and +0 for -0.
#[inline]
fn sound(value: f64) -> Option<f64> {
    (!value.is_nan()).then_some(value + 0.0)
}

fn each<T, U>(values: Vec<Option<T>>, one: impl Fn(T) -> Option<U>) -> Vec<Option<U>> {
    values.into_iter().map(|value| value.and_then(&one)).collect()
}

fn both<T, U>(left: Vec<Option<T>>, right: Vec<Option<T>>, one: impl Fn(T, T) -> Option<U>) -> Vec<Option<U>> {
    left.into_iter().zip(right).map(|(left, right)| one(left?, right?)).collect()
}

impl Node {
    /// The values of `rows`; `columns` are those of the expression. The node was typed against them.
    pub(super) fn evaluate<'a>(&'a self, columns: &[Values<'a>], rows: Range<usize>) -> Lane<'a> {
        let of = |node: &'a Node| node.evaluate(columns, rows.clone());
        match self {
            Node::Column(place) => Lane::of_column(&columns[*place as usize], rows),
            Node::Constant(constant) => Lane::of_constant(constant, rows.len()),
            Node::Cast { to, value } => cast(of(value), *to),
            Node::Negate(value) => match of(value) {
                Lane::Int(values) => Lane::Int(each(values, |value| Some(value.wrapping_neg()))),
                other => Lane::Float(each(other.floats(), |value| sound(-value))),
            },
            Node::Arithmetic { operator, left, right } => arithmetic(*operator, of(left), of(right)),
            Node::Compare { operator, left, right } => {
                let (left, right) = (of(left), of(right));
                Lane::Bool(left.orders(&right).map(|order| order.map(|order| operator.holds(order))).collect())
            }
            Node::Distinct { left, right } => {
                let (left, right) = (of(left), of(right));
                let differ = |row| match (left.is_null(row), right.is_null(row)) {
                    (false, false) => left.order(&right, row) != Some(Ordering::Equal),
                    (left, right) => left != right,
                };
                Lane::Bool((0..left.len()).map(|row| Some(differ(row))).collect())
            }
            Node::And(left, right) => logic(of(left), of(right), false),
            Node::Or(left, right) => logic(of(left), of(right), true),
            Node::Not(value) => Lane::Bool(each(of(value).bools(), |value| Some(!value))),
            Node::IsNull(value) => {
                let values = of(value);
                Lane::Bool((0..values.len()).map(|row| Some(values.is_null(row))).collect())
            }
            Node::Between { value, low, high } => {
                let (value, low, high) = (of(value), of(low), of(high));
                let above = value.orders(&low).map(|order| order.map(Ordering::is_ge)).collect();
                let below = value.orders(&high).map(|order| order.map(Ordering::is_le)).collect();
                logic(Lane::Bool(above), Lane::Bool(below), false)
            }
            Node::In { value, among } => is_among(of(value), among),
            Node::Like { value, pattern } => Lane::Bool(each(of(value).texts(), |text| Some(pattern.fits(&text)))),
            Node::Case { arms, otherwise } => case(arms, of(otherwise), &of),
            Node::Coalesce(values) => {
                let mut lanes = values.iter().map(of);
                let first = lanes.next().expect(TYPED);
                lanes.fold(first, |known, next| {
                    let keep: Vec<bool> = (0..known.len()).map(|row| !known.is_null(row)).collect();
                    known.choose(&keep, next)
                })
            }
            Node::NullIf { left, right } => {
                let (left, right) = (of(left), of(right));
                let keep: Vec<bool> = left.orders(&right).map(|order| order != Some(Ordering::Equal)).collect();
                let nulls = match &left {
                    Lane::Bool(_) => ColumnKind::Bool,
                    Lane::Int(_) => ColumnKind::Int,
                    Lane::Float(_) => ColumnKind::Float,
                    Lane::Text(_) => ColumnKind::String,
                    Lane::Time(_) => ColumnKind::Timestamp,
                };
                left.choose(&keep, Lane::nulls(nulls, keep.len()))
            }
            Node::Math { function, value } => math(*function, of(value)),
            Node::Text { function, value } => Lane::Text(each(of(value).texts(), |text| Some(function.apply(text)))),
            Node::Length(value) => Lane::Int(each(of(value).texts(), |text| Some(text.chars().count() as i64))),
            Node::Substring { value, start, length } => {
                let (texts, starts) = (of(value).texts(), of(start).ints());
                let lengths = length.as_ref().map(|length| of(length).ints());
                let piece = |(row, (text, start)): (usize, (Option<Cow<'a, str>>, Option<i64>))| {
                    let (text, start) = (text?, start?);
                    let length = match &lengths {
                        Some(lengths) => Some(lengths[row]?),
                        None => None,
                    };
                    Some(match text {
                        Cow::Borrowed(text) => Cow::Borrowed(substring(text, start, length)?),
                        Cow::Owned(text) => Cow::Owned(substring(&text, start, length)?.to_owned()),
                    })
                };
                Lane::Text(texts.into_iter().zip(starts).enumerate().map(piece).collect())
            }
            Node::Concat(values) => {
                let lanes: Vec<_> = values.iter().map(|value| of(value).texts()).collect();
                let whole = |row: usize| lanes.iter().filter_map(|lane| lane[row].as_deref()).collect::<String>();
                Lane::Text((0..rows.len()).map(|row| Some(Cow::Owned(whole(row)))).collect())
            }
            Node::Join(left, right) => {
                let join = |left: Cow<'a, str>, right: Cow<'a, str>| Some(Cow::Owned(format!("{left}{right}")));
                Lane::Text(both(of(left).texts(), of(right).texts(), join))
            }
            Node::Part { part: InstantPart::Epoch, value, .. } => {
                Lane::Float(each(of(value).times(), |micros| sound(micros as f64 / 1e6)))
            }
            Node::Part { part, zone, value } => {
                let instants = of(value).times();
                Lane::Int(each(instants, |micros| local(Some(micros), zone.0).map(|local| part.of(&local))))
            }
        }
    }
}

impl Comparison {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Comparison::Equal => order.is_eq(),
            Comparison::NotEqual => order.is_ne(),
            Comparison::Less => order.is_lt(),
            Comparison::LessOrEqual => order.is_le(),
            Comparison::Greater => order.is_gt(),
            Comparison::GreaterOrEqual => order.is_ge(),
        }
    }
}

impl TextFunction {
    fn apply(self, text: Cow<'_, str>) -> Cow<'_, str> {
        let trimmed = |text: &str| -> Option<(usize, usize)> {
            let from =
                if self == TextFunction::TrimRight { 0 } else { text.len() - text.trim_start_matches(' ').len() };
            let rest = &text[from..];
            let kept = if self == TextFunction::TrimLeft { rest } else { rest.trim_end_matches(' ') };
            Some((from, from + kept.len()))
        };
        match self {
            TextFunction::Lower => Cow::Owned(text.to_lowercase()),
            TextFunction::Upper => Cow::Owned(text.to_uppercase()),
            TextFunction::Trim | TextFunction::TrimLeft | TextFunction::TrimRight => {
                let Some((from, to)) = trimmed(&text) else { return text };
                match text {
                    Cow::Borrowed(text) => Cow::Borrowed(&text[from..to]),
                    Cow::Owned(text) => Cow::Owned(text[from..to].to_owned()),
                }
            }
        }
    }
}

impl InstantPart {
    fn of(self, local: &DateTime<Tz>) -> i64 {
        match self {
            InstantPart::Year => i64::from(local.year()),
            InstantPart::Quarter => i64::from(local.month0() / 3 + 1),
            InstantPart::Month => i64::from(local.month()),
            InstantPart::Week => i64::from(local.iso_week().week()),
            InstantPart::Day => i64::from(local.day()),
            InstantPart::Hour => i64::from(local.hour()),
            InstantPart::Minute => i64::from(local.minute()),
            InstantPart::Second => i64::from(local.second()),
            InstantPart::DayOfWeek => i64::from(local.weekday().num_days_from_sunday()),
            InstantPart::IsoDayOfWeek => i64::from(local.weekday().number_from_monday()),
            InstantPart::DayOfYear => i64::from(local.ordinal()),
            InstantPart::Epoch => unreachable!("the epoch is a float and knows no zone"),
        }
    }
}

fn cast(lane: Lane<'_>, to: ColumnKind) -> Lane<'_> {
    match (lane, to) {
        (Lane::Bool(values), ColumnKind::Int) => Lane::Int(each(values, |value| Some(i64::from(value)))),
        (Lane::Bool(values), ColumnKind::Float) => Lane::Float(each(values, |value| Some(f64::from(u8::from(value))))),
        (Lane::Bool(values), ColumnKind::String) => Lane::Text(each(values, |value| Some(value.to_string().into()))),
        (Lane::Int(values), ColumnKind::Bool) => Lane::Bool(each(values, |value| Some(value != 0))),
        (Lane::Int(values), ColumnKind::Float) => Lane::Float(each(values, |value| Some(value as f64))),
        (Lane::Int(values), ColumnKind::String) => Lane::Text(each(values, |value| Some(value.to_string().into()))),
        (Lane::Float(values), ColumnKind::Bool) => Lane::Bool(each(values, |value| Some(value != 0.0))),
        (Lane::Float(values), ColumnKind::Int) => Lane::Int(each(values, |value| integral(value.trunc()))),
        (Lane::Text(values), ColumnKind::Int) => Lane::Int(each(values, |text| Int64Type::parse(&text))),
        (Lane::Text(values), ColumnKind::Float) => {
            Lane::Float(each(values, |text| Float64Type::parse(&text).and_then(sound)))
        }
        (Lane::Text(values), ColumnKind::Bool) => Lane::Bool(each(values, |text| truth(&text))),
        (lane, _) => lane,
    }
}

/// The words that Arrow takes for truth values.
fn truth(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "t" | "tr" | "tru" | "true" | "y" | "ye" | "yes" | "on" | "1" => Some(true),
        "f" | "fa" | "fal" | "fals" | "false" | "n" | "no" | "of" | "off" | "0" => Some(false),
        _ => None,
    }
}

/// Ints wrap around as DataFusion's do; an int divided by zero is null.
fn arithmetic<'a>(operator: Arithmetic, left: Lane<'a>, right: Lane<'a>) -> Lane<'a> {
    match (left, right) {
        (Lane::Int(left), Lane::Int(right)) => Lane::Int(match operator {
            Arithmetic::Add => both(left, right, |a, b| Some(a.wrapping_add(b))),
            Arithmetic::Subtract => both(left, right, |a, b| Some(a.wrapping_sub(b))),
            Arithmetic::Multiply => both(left, right, |a, b| Some(a.wrapping_mul(b))),
            Arithmetic::Divide => both(left, right, i64::checked_div),
            Arithmetic::Remainder => both(left, right, |a, b| if b == -1 { Some(0) } else { a.checked_rem(b) }),
        }),
        (left, right) => {
            let (left, right) = (left.floats(), right.floats());
            Lane::Float(match operator {
                Arithmetic::Add => both(left, right, |a, b| sound(a + b)),
                Arithmetic::Subtract => both(left, right, |a, b| sound(a - b)),
                Arithmetic::Multiply => both(left, right, |a, b| sound(a * b)),
                Arithmetic::Divide => both(left, right, |a, b| sound(a / b)),
                Arithmetic::Remainder => both(left, right, |a, b| sound(a % b)),
            })
        }
    }
}

/// Three-valued AND and OR: `decides` is the value that decides alone (false for AND).
fn logic<'a>(left: Lane<'a>, right: Lane<'a>, decides: bool) -> Lane<'a> {
    let one = |(left, right): (Option<bool>, Option<bool>)| match (left, right) {
        (Some(value), _) | (_, Some(value)) if value == decides => Some(decides),
        (Some(_), Some(_)) => Some(!decides),
        _ => None,
    };
    Lane::Bool(left.bools().into_iter().zip(right.bools()).map(one).collect())
}

fn is_among<'a>(value: Lane<'a>, among: &'a [Constant]) -> Lane<'a> {
    let unknown = among.iter().any(|constant| matches!(constant, Constant::Null(_)));
    let found = |holds: bool| if holds { Some(true) } else { (!unknown).then_some(false) };
    Lane::Bool(match value {
        Lane::Bool(values) => each(values, |value| found(among.contains(&Constant::Bool(value)))),
        Lane::Int(values) => each(values, |value| found(among.contains(&Constant::Int(value)))),
        // -0 equals 0 here, as two floats compare.
        Lane::Float(values) => each(values, |value| found(among.contains(&Constant::Float(value)))),
        Lane::Text(values) => {
            let is = |constant: &Constant, text: &str| matches!(constant, Constant::String(known) if known == text);
            each(values, |text| found(among.iter().any(|constant| is(constant, &text))))
        }
        Lane::Time(values) => each(values, |value| found(among.contains(&Constant::Timestamp(value)))),
    })
}

/// All results are computed, which nothing can tell, since no operation fails.
fn case<'a>(arms: &'a [(Node, Node)], otherwise: Lane<'a>, of: &dyn Fn(&'a Node) -> Lane<'a>) -> Lane<'a> {
    arms.iter().rev().fold(otherwise, |rest, (condition, result)| {
        let holds: Vec<bool> = of(condition).bools().into_iter().map(|holds| holds == Some(true)).collect();
        of(result).choose(&holds, rest)
    })
}

fn math(function: Math, lane: Lane<'_>) -> Lane<'_> {
    if let (Math::Abs, Lane::Int(values)) = (function, &lane) {
        return Lane::Int(each(values.clone(), i64::checked_abs));
    }
    let values = lane.floats();
    Lane::Float(match function {
        Math::Abs => each(values, |value| Some(value.abs())),
        Math::Floor => each(values, |value| sound(value.floor())),
        Math::Ceil => each(values, |value| sound(value.ceil())),
        Math::Round(places) => {
            // Exact, up to 10^22.
            let power = (0..places.unsigned_abs()).fold(1.0, |power, _| power * 10.0);
            let factor = if places < 0 { 1.0 / power } else { power };
            each(values, |value| sound((value * factor).round() / factor))
        }
        Math::Ln => each(values, |value| sound(ln(value))),
        Math::Exp => each(values, |value| sound(exp(value))),
        Math::Sqrt => each(values, |value| sound(value.sqrt())),
    })
}
