//! From the text of an expression to its typed tree. The grammar is `sqlparser`'s, as DataFusion reads it; what is outside
//! the subset is refused by name and place.

use super::text::{Letters, Pattern};
use super::tree::{Arithmetic, Comparison, Constant, InstantPart, Math, Node, TextFunction, Zone};
use super::words::{FUNCTIONS, literal, part_named, part_of};
use super::{Expression, ExpressionError};
use sqlparser::ast::{
    BinaryOperator, CeilFloorKind, DataType, DateTimeField, ExactNumberInfo, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArguments, Ident, Spanned, TrimWhereField, UnaryOperator,
};
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::Parser;
use sqlparser::tokenizer::Token;
use vocabulary::contract::ColumnKind;
use vocabulary::suggest;
use vocabulary::time::Timestamp;

/// Operations of one expression at most: a judgement, far above what a person writes.
const NODES_MAX: usize = 2000;
/// Bytes of its text at most, and operations within operations: what is deeper could not be read back from a pipeline's
/// file, whose reader goes 128 levels deep.
const BYTES_MAX: usize = 4000;
const DEPTH_MAX: usize = 60;
/// Levels of a pipeline's file around an expression, with some to spare.
const LEVELS_AROUND: usize = 12;
/// Places of ROUND at most: powers of ten are exact up to 22.
const PLACES_MAX: i64 = 15;

/// A node with its type; none is that of a bare NULL, which fits any.
pub(super) type Typed = (Node, Option<ColumnKind>);
pub(super) type Read<T> = Result<T, ExpressionError>;

/// Reads an expression over `columns`; gives its type beside it.
pub(crate) fn parse(sql: &str, columns: &[(&str, ColumnKind)]) -> Read<(Expression, ColumnKind)> {
    if sql.len() > BYTES_MAX {
        let what = format!("it has more than {BYTES_MAX} bytes; make columns of its parts");
        return Err(ExpressionError { at: None, what });
    }
    let read = || {
        let mut parser = Parser::new(&GenericDialect {}).try_with_sql(sql)?;
        let expression = parser.parse_expr()?;
        Ok((expression, parser.peek_token()))
    };
    let (expression, next) = read().map_err(|error: sqlparser::parser::ParserError| unread(&error.to_string()))?;
    if next.token != Token::EOF {
        let what = format!("\"{}\" is not expected here; one expression is", next.token);
        return Err(ExpressionError { at: Some((next.span.start.line, next.span.start.column)), what });
    }
    let mut reader = Reader { columns, used: Vec::new(), nodes: 0, depth: 0 };
    let (tree, kind) = reader.read(&expression)?;
    let Some(kind) = kind else { return fail(&expression, "it is null whatever the row; leave it out") };
    if !can_be_read_back(&tree) {
        return fail(&expression, DEEP);
    }
    let names = reader.used.iter().map(|place| columns[*place].0.to_owned()).collect();
    let expression = Expression { sql: sql.to_owned(), columns: names, tree };
    Ok((expression, kind))
}

/// The parser's words, with its place taken out of them.
fn unread(text: &str) -> ExpressionError {
    let text = text.strip_prefix("sql parser error: ").unwrap_or(text);
    let place = text.rsplit_once(" at Line: ").and_then(|(what, place)| {
        let (line, column) = place.split_once(", Column: ")?;
        Some((what, (line.trim().parse().ok()?, column.trim().parse().ok()?)))
    });
    match place {
        Some((what, at)) => ExpressionError { at: Some(at), what: what.to_owned() },
        None => ExpressionError { at: None, what: text.to_owned() },
    }
}

pub(super) fn fail<T>(at: &Expr, what: impl Into<String>) -> Read<T> {
    let start = at.span().start;
    let at = (start.line > 0).then_some((start.line, start.column));
    Err(ExpressionError { at, what: what.into() })
}

struct Reader<'c> {
    columns: &'c [(&'c str, ColumnKind)],
    /// Places among `columns` of those that are read, in the order in which they were met.
    used: Vec<usize>,
    nodes: usize,
    depth: usize,
}

const DEEP: &str = "its operations stand too deep within each other; make columns of its parts, or use IN and CASE";

fn can_be_read_back(tree: &Node) -> bool {
    let text = serde_json::to_string(tree).unwrap_or_default();
    let around = |end: &str| end.repeat(LEVELS_AROUND);
    serde_json::from_str::<serde_json::Value>(&format!("{}{text}{}", around("["), around("]"))).is_ok()
}

fn boxed(node: Node) -> Box<Node> {
    Box::new(node)
}

fn name_of(kind: Option<ColumnKind>) -> &'static str {
    kind.map_or("null", ColumnKind::name)
}

impl Reader<'_> {
    fn read(&mut self, expr: &Expr) -> Read<Typed> {
        if self.depth == DEPTH_MAX {
            return Err(ExpressionError { at: None, what: DEEP.to_owned() });
        }
        self.depth += 1;
        let read = self.read_one(expr);
        self.depth -= 1;
        read
    }

    fn read_one(&mut self, expr: &Expr) -> Read<Typed> {
        use ColumnKind::{Bool, Float, Int, String as Text};
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return fail(expr, format!("it has more than {NODES_MAX} operations; make columns of its parts"));
        }
        Ok(match expr {
            Expr::Nested(inner) => self.read(inner)?,
            Expr::Identifier(name) => self.column(expr, name)?,
            Expr::Value(value) => literal(expr, &value.value, "")?,
            Expr::TypedString(typed) => match (&typed.data_type, typed.value.value.clone().into_string()) {
                (DataType::Timestamp(..), Some(text)) => match text.parse::<Timestamp>() {
                    Ok(at) => (Node::Constant(Constant::Timestamp(at.0)), Some(ColumnKind::Timestamp)),
                    Err(_) => return fail(expr, format!("\"{text}\" is not an instant such as 2013-04-01T05:00:00Z")),
                },
                (other, _) => return fail(expr, format!("{other} is not known; TIMESTAMP '…' is")),
            },
            Expr::UnaryOp { op, expr: inner } => self.unary(expr, op, inner)?,
            Expr::BinaryOp { left, op, right } => self.binary(expr, left, op, right)?,
            Expr::IsNull(value) => (Node::IsNull(boxed(self.read(value)?.0)), Some(Bool)),
            Expr::IsNotNull(value) => (not(Node::IsNull(boxed(self.read(value)?.0))), Some(Bool)),
            Expr::IsTrue(value) => (self.truth(value, false)?, Some(Bool)),
            Expr::IsNotTrue(value) => (not(self.truth(value, false)?), Some(Bool)),
            Expr::IsNotFalse(value) => (self.truth(value, true)?, Some(Bool)),
            Expr::IsFalse(value) => (not(self.truth(value, true)?), Some(Bool)),
            Expr::IsUnknown(value) => (Node::IsNull(boxed(self.expect(value, &[Bool])?)), Some(Bool)),
            Expr::IsNotUnknown(value) => (not(Node::IsNull(boxed(self.expect(value, &[Bool])?))), Some(Bool)),
            Expr::IsDistinctFrom(left, right) | Expr::IsNotDistinctFrom(left, right) => {
                let (left, right, _) = self.pair(expr, left, right)?;
                let differ = Node::Distinct { left: boxed(left), right: boxed(right) };
                (if matches!(expr, Expr::IsDistinctFrom(..)) { differ } else { not(differ) }, Some(Bool))
            }
            Expr::InList { expr: value, list, negated } => (negated_if(*negated, self.among(value, list)?), Some(Bool)),
            Expr::Between { expr: value, negated, low, high } => {
                let parts = vec![self.read(value)?, self.read(low)?, self.read(high)?];
                let (parts, _) = unified(expr, parts)?;
                let [value, low, high] = parts.try_into().expect("three were given");
                let between = Node::Between { value: boxed(value), low: boxed(low), high: boxed(high) };
                (negated_if(*negated, between), Some(Bool))
            }
            Expr::Like { negated, any: false, expr: value, pattern, escape_char: None } => {
                (negated_if(*negated, self.like(value, pattern, Letters::Exact)?), Some(Bool))
            }
            Expr::ILike { negated, any: false, expr: value, pattern, escape_char: None } => {
                (negated_if(*negated, self.like(value, pattern, Letters::AnyCase)?), Some(Bool))
            }
            Expr::Case { operand, conditions, else_result, .. } => {
                let (mut tests, mut results) = (Vec::new(), Vec::new());
                for arm in conditions {
                    tests.push(match operand {
                        None => self.expect(&arm.condition, &[Bool])?,
                        Some(operand) => {
                            let (left, right, _) = self.pair(&arm.condition, operand, &arm.condition)?;
                            compare(Comparison::Equal, left, right)
                        }
                    });
                    results.push(self.read(&arm.result)?);
                }
                results.push(match else_result {
                    Some(other) => self.read(other)?,
                    None => (Node::Constant(Constant::Null(Bool)), None),
                });
                let (mut results, kind) = unified(expr, results)?;
                let otherwise = boxed(results.pop().expect("the last one was pushed above"));
                (Node::Case { arms: tests.into_iter().zip(results).collect(), otherwise }, kind)
            }
            Expr::Cast { expr: value, data_type, array: false, format: None, .. } => {
                let to = self.target(expr, data_type)?;
                let (node, from) = self.read(value)?;
                match (from, to) {
                    (None, to) => (Node::Constant(Constant::Null(to)), Some(to)),
                    (Some(from), to) if from == to => (node, Some(to)),
                    (Some(Bool | Int | Float | Text), Bool | Int | Float) | (Some(Bool | Int), Text) => {
                        (Node::Cast { to, value: boxed(node) }, Some(to))
                    }
                    (Some(Float), Text) => {
                        return fail(expr, "a float has many texts; ROUND it and CAST it to BIGINT first");
                    }
                    (from, to) => return fail(expr, format!("{} cannot be cast to {}", name_of(from), to.name())),
                }
            }
            Expr::Extract { field, expr: value, .. } => self.part(expr, part_of(expr, field)?, value)?,
            Expr::AtTimeZone { .. } => {
                return fail(
                    expr,
                    "AT TIME ZONE is for an instant within EXTRACT or DATE_PART, which alone know zones",
                );
            }
            Expr::Ceil { expr: value, field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) } => {
                self.math(Math::Ceil, value)?
            }
            Expr::Floor { expr: value, field: CeilFloorKind::DateTimeField(DateTimeField::NoDateTime) } => {
                self.math(Math::Floor, value)?
            }
            Expr::Substring { expr: value, substring_from: Some(start), substring_for, .. } => {
                self.substring(value, start, substring_for.as_deref())?
            }
            Expr::Trim { trim_where, trim_what, expr: value, trim_characters: None } => {
                if let Some(what) = trim_what
                    && self.read(what)?.0 != Node::Constant(Constant::String(" ".to_owned()))
                {
                    return fail(what, "TRIM takes spaces away, and nothing else");
                }
                let function = match trim_where {
                    None | Some(TrimWhereField::Both) => TextFunction::Trim,
                    Some(TrimWhereField::Leading) => TextFunction::TrimLeft,
                    Some(TrimWhereField::Trailing) => TextFunction::TrimRight,
                };
                self.text(function, value)?
            }
            Expr::Function(function) => self.function(expr, function)?,
            _ => return fail(expr, "this is outside the subset; docs/features.md lists what there is"),
        })
    }

    fn column(&mut self, expr: &Expr, name: &Ident) -> Read<Typed> {
        let place = |wanted: &str| self.columns.iter().position(|(known, _)| *known == wanted);
        let lower = || name.quote_style.is_none().then(|| place(&name.value.to_lowercase())).flatten();
        let Some(found) = place(&name.value).or_else(lower) else {
            let hint = suggest::hint(&name.value, self.columns.iter().map(|(name, _)| *name));
            return fail(expr, format!("column \"{}\" is not there, or is never an input{hint}", name.value));
        };
        let at = self.used.iter().position(|used| *used == found).unwrap_or_else(|| {
            self.used.push(found);
            self.used.len() - 1
        });
        Ok((Node::Column(at as u32), Some(self.columns[found].1)))
    }

    /// The node of a value of one of some types. An int becomes a float where only that is wanted.
    fn expect(&mut self, expr: &Expr, wanted: &[ColumnKind]) -> Read<Node> {
        let (node, kind) = self.read(expr)?;
        match kind {
            Some(kind) if wanted.contains(&kind) => Ok(node),
            Some(ColumnKind::Int) if wanted.contains(&ColumnKind::Float) => Ok(as_float(node)),
            None => Ok(Node::Constant(Constant::Null(wanted[0]))),
            Some(kind) => {
                let names: Vec<&str> = wanted.iter().map(|kind| kind.name()).collect();
                fail(expr, format!("this is of type {}; {} is expected", kind.name(), names.join(" or ")))
            }
        }
    }

    /// Two values brought to one type.
    fn pair(&mut self, at: &Expr, left: &Expr, right: &Expr) -> Read<(Node, Node, Option<ColumnKind>)> {
        let parts = vec![self.read(left)?, self.read(right)?];
        let (parts, kind) = unified(at, parts)?;
        let [left, right] = parts.try_into().expect("two were given");
        Ok((left, right, kind))
    }

    /// Whether a value holds, with null as `unknown`.
    fn truth(&mut self, value: &Expr, unknown: bool) -> Read<Node> {
        let value = self.expect(value, &[ColumnKind::Bool])?;
        Ok(Node::Coalesce(vec![value, Node::Constant(Constant::Bool(unknown))]))
    }

    fn unary(&mut self, expr: &Expr, operator: &UnaryOperator, inner: &Expr) -> Read<Typed> {
        match (operator, inner) {
            (UnaryOperator::Minus, Expr::Value(value)) => literal(expr, &value.value, "-"),
            (UnaryOperator::Not, _) => Ok((not(self.expect(inner, &[ColumnKind::Bool])?), Some(ColumnKind::Bool))),
            (UnaryOperator::Minus | UnaryOperator::Plus, _) => {
                let (node, kind) = self.number(inner)?;
                Ok(if *operator == UnaryOperator::Plus { (node, kind) } else { (Node::Negate(boxed(node)), kind) })
            }
            _ => fail(expr, format!("operator {operator} is outside the subset; docs/features.md lists what there is")),
        }
    }

    /// An int or a float.
    fn number(&mut self, expr: &Expr) -> Read<Typed> {
        let (node, kind) = self.read(expr)?;
        match kind {
            Some(ColumnKind::Int | ColumnKind::Float) => Ok((node, kind)),
            None => Ok((Node::Constant(Constant::Null(ColumnKind::Float)), Some(ColumnKind::Float))),
            Some(ColumnKind::Timestamp) => {
                fail(expr, "instants do not calculate; features.difference gives the time between two")
            }
            Some(kind) => fail(expr, format!("this is of type {}; CAST it to BIGINT or DOUBLE", kind.name())),
        }
    }

    fn binary(&mut self, at: &Expr, left: &Expr, operator: &BinaryOperator, right: &Expr) -> Read<Typed> {
        use BinaryOperator as B;
        let arithmetic = match operator {
            B::Plus => Some(Arithmetic::Add),
            B::Minus => Some(Arithmetic::Subtract),
            B::Multiply => Some(Arithmetic::Multiply),
            B::Divide => Some(Arithmetic::Divide),
            B::Modulo => Some(Arithmetic::Remainder),
            _ => None,
        };
        if let Some(operator) = arithmetic {
            let parts = vec![self.number(left)?, self.number(right)?];
            let (parts, kind) = unified(at, parts)?;
            let [left, right] = parts.try_into().expect("two were given");
            return Ok((Node::Arithmetic { operator, left: boxed(left), right: boxed(right) }, kind));
        }
        let comparison = match operator {
            B::Eq => Some(Comparison::Equal),
            B::NotEq => Some(Comparison::NotEqual),
            B::Lt => Some(Comparison::Less),
            B::LtEq => Some(Comparison::LessOrEqual),
            B::Gt => Some(Comparison::Greater),
            B::GtEq => Some(Comparison::GreaterOrEqual),
            _ => None,
        };
        if let Some(operator) = comparison {
            let (left, right, _) = self.pair(at, left, right)?;
            return Ok((compare(operator, left, right), Some(ColumnKind::Bool)));
        }
        match operator {
            B::And | B::Or => {
                let left = boxed(self.expect(left, &[ColumnKind::Bool])?);
                let right = boxed(self.expect(right, &[ColumnKind::Bool])?);
                let node = if *operator == B::And { Node::And(left, right) } else { Node::Or(left, right) };
                Ok((node, Some(ColumnKind::Bool)))
            }
            B::StringConcat => {
                let left = boxed(self.expect(left, &[ColumnKind::String])?);
                let right = boxed(self.expect(right, &[ColumnKind::String])?);
                Ok((Node::Join(left, right), Some(ColumnKind::String)))
            }
            _ => fail(at, format!("operator {operator} is outside the subset; docs/features.md lists what there is")),
        }
    }

    fn among(&mut self, value: &Expr, list: &[Expr]) -> Read<Node> {
        let mut parts = vec![self.read(value)?];
        for item in list {
            let part = self.read(item)?;
            if !matches!(part.0, Node::Constant(_)) {
                return fail(item, "IN takes literals here; compare with = and OR instead");
            }
            parts.push(part);
        }
        let (mut parts, _) = unified(value, parts)?;
        let value = boxed(parts.remove(0));
        let among = parts.into_iter().map(|part| match part {
            Node::Constant(constant) => constant,
            // `unified` turns an int among floats into a float at once.
            _ => unreachable!("only constants were taken"),
        });
        Ok(Node::In { value, among: among.collect() })
    }

    fn like(&mut self, value: &Expr, pattern: &Expr, letters: Letters) -> Read<Node> {
        let value = boxed(self.expect(value, &[ColumnKind::String])?);
        match self.read(pattern)?.0 {
            Node::Constant(Constant::String(text)) => Ok(Node::Like { value, pattern: Pattern::new(&text, letters) }),
            _ => fail(pattern, "the pattern of LIKE is a literal text here"),
        }
    }

    fn target(&self, at: &Expr, to: &DataType) -> Read<ColumnKind> {
        Ok(match to {
            DataType::BigInt(None) | DataType::Int64 => ColumnKind::Int,
            DataType::Double(ExactNumberInfo::None) | DataType::DoublePrecision | DataType::Float64 => {
                ColumnKind::Float
            }
            DataType::Varchar(None) | DataType::Text | DataType::String(None) => ColumnKind::String,
            DataType::Boolean | DataType::Bool => ColumnKind::Bool,
            DataType::Int(_) | DataType::Integer(_) => {
                return fail(at, format!("{to} has 32 bits in SQL; write BIGINT"));
            }
            DataType::Float(_) | DataType::Real => {
                return fail(at, format!("{to} is of single precision in SQL; write DOUBLE"));
            }
            other => return fail(at, format!("{other} is not known; there are BIGINT, DOUBLE, VARCHAR and BOOLEAN")),
        })
    }

    fn part(&mut self, at: &Expr, part: InstantPart, value: &Expr) -> Read<Typed> {
        let mut inner = value;
        while let Expr::Nested(nested) = inner {
            inner = nested;
        }
        let (instant, zone) = match inner {
            Expr::AtTimeZone { timestamp, time_zone } => match &**time_zone {
                Expr::Value(name) => (&**timestamp, name.value.clone().into_string().unwrap_or_default()),
                other => return fail(other, "a time zone is a literal text, such as 'America/New_York'"),
            },
            other => (other, "UTC".to_owned()),
        };
        let zone = match Zone::try_from(zone.clone()) {
            Ok(zone) => zone,
            Err(what) => {
                let known = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
                return fail(at, format!("{what}{}", suggest::hint(&zone, known)));
            }
        };
        let value = boxed(self.expect(instant, &[ColumnKind::Timestamp])?);
        let kind = if part == InstantPart::Epoch { ColumnKind::Float } else { ColumnKind::Int };
        Ok((Node::Part { part, zone, value }, Some(kind)))
    }

    fn math(&mut self, function: Math, value: &Expr) -> Read<Typed> {
        let value = boxed(self.expect(value, &[ColumnKind::Float])?);
        Ok((Node::Math { function, value }, Some(ColumnKind::Float)))
    }

    fn text(&mut self, function: TextFunction, value: &Expr) -> Read<Typed> {
        let value = boxed(self.expect(value, &[ColumnKind::String])?);
        Ok((Node::Text { function, value }, Some(ColumnKind::String)))
    }

    fn substring(&mut self, value: &Expr, start: &Expr, length: Option<&Expr>) -> Read<Typed> {
        let value = boxed(self.expect(value, &[ColumnKind::String])?);
        let start = boxed(self.expect(start, &[ColumnKind::Int])?);
        let length = length.map(|length| self.expect(length, &[ColumnKind::Int])).transpose()?.map(boxed);
        Ok((Node::Substring { value, start, length }, Some(ColumnKind::String)))
    }

    fn function(&mut self, at: &Expr, function: &Function) -> Read<Typed> {
        let name = function.name.to_string().to_lowercase();
        let plain = function.filter.is_none() && function.over.is_none() && function.null_treatment.is_none();
        let FunctionArguments::List(list) = &function.args else {
            return fail(at, format!("{name} needs its operands in parentheses"));
        };
        let mut operands = Vec::new();
        for argument in &list.args {
            match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => operands.push(expr),
                _ => return fail(at, format!("{name} takes expressions alone")),
            }
        }
        if !plain || list.duplicate_treatment.is_some() || !list.clauses.is_empty() {
            return fail(at, format!("{name} sees one row; nothing over several rows is there"));
        }
        match (name.as_str(), &operands[..]) {
            ("abs", [value]) => {
                let (node, kind) = self.number(value)?;
                Ok((Node::Math { function: Math::Abs, value: boxed(node) }, kind))
            }
            ("ceil", [value]) => self.math(Math::Ceil, value),
            ("floor", [value]) => self.math(Math::Floor, value),
            ("ln", [value]) => self.math(Math::Ln, value),
            ("exp", [value]) => self.math(Math::Exp, value),
            ("sqrt", [value]) => self.math(Math::Sqrt, value),
            ("round", [value]) => self.round(value, 0),
            ("round", [value, places]) => match self.read(places)?.0 {
                Node::Constant(Constant::Int(count)) if count.abs() <= PLACES_MAX => self.round(value, count as i8),
                _ => fail(places, format!("the places of ROUND are a literal from -{PLACES_MAX} to {PLACES_MAX}")),
            },
            ("lower", [value]) => self.text(TextFunction::Lower, value),
            ("upper", [value]) => self.text(TextFunction::Upper, value),
            ("trim" | "btrim", [value]) => self.text(TextFunction::Trim, value),
            ("ltrim", [value]) => self.text(TextFunction::TrimLeft, value),
            ("rtrim", [value]) => self.text(TextFunction::TrimRight, value),
            ("length" | "character_length" | "char_length", [value]) => {
                let value = boxed(self.expect(value, &[ColumnKind::String])?);
                Ok((Node::Length(value), Some(ColumnKind::Int)))
            }
            ("substr" | "substring", [value, start]) => self.substring(value, start, None),
            ("substr" | "substring", [value, start, length]) => self.substring(value, start, Some(length)),
            ("concat", [_, ..]) => {
                let texts = operands.iter().map(|value| self.expect(value, &[ColumnKind::String]));
                Ok((Node::Concat(texts.collect::<Read<_>>()?), Some(ColumnKind::String)))
            }
            ("coalesce", [_, ..]) => {
                let parts = operands.iter().map(|value| self.read(value)).collect::<Read<_>>()?;
                let (parts, kind) = unified(at, parts)?;
                Ok((Node::Coalesce(parts), kind))
            }
            ("nullif", [left, right]) => {
                let (left, right, kind) = self.pair(at, left, right)?;
                Ok((Node::NullIf { left: boxed(left), right: boxed(right) }, kind))
            }
            ("date_part", [part, value]) => {
                let Node::Constant(Constant::String(name)) = self.read(part)?.0 else {
                    return fail(part, "the part is a literal text, such as 'hour'");
                };
                self.part(at, part_named(part, &name)?, value)
            }
            (known, operands) if FUNCTIONS.contains(&known) => {
                fail(at, format!("{known} does not take {} operands", operands.len()))
            }
            (other, _) => {
                let hint = suggest::hint(other, FUNCTIONS.iter().copied());
                fail(at, format!("function {other} is outside the subset{hint}"))
            }
        }
    }

    fn round(&mut self, value: &Expr, places: i8) -> Read<Typed> {
        match self.number(value)? {
            (node, Some(ColumnKind::Int)) if places >= 0 => Ok((node, Some(ColumnKind::Int))),
            (_, Some(ColumnKind::Int)) => fail(value, "ROUND of an int to tens is not there; CAST it to DOUBLE first"),
            (node, kind) => Ok((Node::Math { function: Math::Round(places), value: boxed(node) }, kind)),
        }
    }
}

fn not(node: Node) -> Node {
    Node::Not(boxed(node))
}

fn negated_if(negated: bool, node: Node) -> Node {
    if negated { not(node) } else { node }
}

fn compare(operator: Comparison, left: Node, right: Node) -> Node {
    Node::Compare { operator, left: boxed(left), right: boxed(right) }
}

fn as_float(node: Node) -> Node {
    match node {
        Node::Constant(Constant::Int(value)) => Node::Constant(Constant::Float(value as f64)),
        node => Node::Cast { to: ColumnKind::Float, value: boxed(node) },
    }
}

/// Values brought to one type: ints become floats beside floats, and bare nulls what the others are.
fn unified(at: &Expr, parts: Vec<Typed>) -> Read<(Vec<Node>, Option<ColumnKind>)> {
    let mut kind: Option<ColumnKind> = None;
    for (_, found) in &parts {
        kind = match (kind, *found) {
            (None, found) => found,
            (known, None) => known,
            (Some(known), Some(found)) if known == found => kind,
            (Some(ColumnKind::Int), Some(ColumnKind::Float)) | (Some(ColumnKind::Float), Some(ColumnKind::Int)) => {
                Some(ColumnKind::Float)
            }
            (Some(known), Some(found)) => {
                let what = format!("{} and {} do not go together; CAST one of them", known.name(), found.name());
                return fail(at, what);
            }
        };
    }
    let fitted = |(node, found): Typed| match (found, kind) {
        (None, kind) => Node::Constant(Constant::Null(kind.unwrap_or(ColumnKind::Bool))),
        (Some(ColumnKind::Int), Some(ColumnKind::Float)) => as_float(node),
        _ => node,
    };
    Ok((parts.into_iter().map(fitted).collect(), kind))
}
