//! The typed tree of an expression, as it lands on disk, and the types of its nodes.

use super::text::Pattern;
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use vocabulary::contract::ColumnKind;

/// One operation. Operands have the types that it asks for: conversions are nodes of their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Node {
    /// The place of a column among the expression's.
    Column(u32),
    Constant(Constant),
    Cast {
        to: ColumnKind,
        value: Box<Node>,
    },
    /// An int or a float less than zero by as much as it was above.
    Negate(Box<Node>),
    /// Two ints or two floats.
    Arithmetic {
        operator: Arithmetic,
        left: Box<Node>,
        right: Box<Node>,
    },
    /// Two values of one type.
    Compare {
        operator: Comparison,
        left: Box<Node>,
        right: Box<Node>,
    },
    /// Whether two values of one type differ, where null is a value like any other. Never null.
    Distinct {
        left: Box<Node>,
        right: Box<Node>,
    },
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Not(Box<Node>),
    /// Never null.
    IsNull(Box<Node>),
    Between {
        value: Box<Node>,
        low: Box<Node>,
        high: Box<Node>,
    },
    /// Whether the value is one of these; null where it is none of them and one of them is null.
    In {
        value: Box<Node>,
        among: Vec<Constant>,
    },
    Like {
        value: Box<Node>,
        pattern: Pattern,
    },
    /// The result of the first condition that holds.
    Case {
        arms: Vec<(Node, Node)>,
        otherwise: Box<Node>,
    },
    /// The first that is not null.
    Coalesce(Vec<Node>),
    /// `left`, and null where the two are equal.
    NullIf {
        left: Box<Node>,
        right: Box<Node>,
    },
    Math {
        function: Math,
        value: Box<Node>,
    },
    /// A text from a text.
    Text {
        function: TextFunction,
        value: Box<Node>,
    },
    /// Characters of a text.
    Length(Box<Node>),
    Substring {
        value: Box<Node>,
        start: Box<Node>,
        length: Option<Box<Node>>,
    },
    /// Texts one behind the other; null counts as empty.
    Concat(Vec<Node>),
    /// Texts one behind the other; null where one is null.
    Join(Box<Node>, Box<Node>),
    /// A part of an instant on the clocks of a zone: an int, the epoch a float.
    Part {
        part: InstantPart,
        zone: Zone,
        value: Box<Node>,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Constant {
    Null(ColumnKind),
    Bool(bool),
    Int(i64),
    Float(f64),
    String(String),
    /// Microseconds since 1970 in UTC.
    Timestamp(i64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Math {
    /// Of an int or a float.
    Abs,
    Floor,
    Ceil,
    /// Half away from zero, to so many places.
    Round(i8),
    Ln,
    Exp,
    Sqrt,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum TextFunction {
    Lower,
    Upper,
    /// Without spaces (U+0020) at either end.
    Trim,
    TrimLeft,
    TrimRight,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InstantPart {
    Year,
    Quarter,
    Month,
    /// Of ISO 8601, 1 to 53.
    Week,
    Day,
    Hour,
    Minute,
    Second,
    /// 0 (Sunday) to 6
    DayOfWeek,
    /// 1 (Monday) to 7
    IsoDayOfWeek,
    DayOfYear,
    /// Seconds since 1970 in UTC.
    Epoch,
}

/// A time zone by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Zone(pub(crate) Tz);

impl TryFrom<String> for Zone {
    type Error = String;

    fn try_from(name: String) -> Result<Zone, String> {
        name.parse().map(Zone).map_err(|_| format!("\"{name}\" is not a time zone"))
    }
}

impl From<Zone> for String {
    fn from(zone: Zone) -> String {
        zone.0.name().to_owned()
    }
}

impl Constant {
    pub(crate) fn kind(&self) -> ColumnKind {
        match self {
            Constant::Null(kind) => *kind,
            Constant::Bool(_) => ColumnKind::Bool,
            Constant::Int(_) => ColumnKind::Int,
            Constant::Float(_) => ColumnKind::Float,
            Constant::String(_) => ColumnKind::String,
            Constant::Timestamp(_) => ColumnKind::Timestamp,
        }
    }
}

impl Node {
    /// The type of the value, given those of the columns; why there is none where operands do not fit.
    pub(crate) fn kind(&self, columns: &[ColumnKind]) -> Result<ColumnKind, String> {
        use ColumnKind::{Bool, Float, Int, String as Text, Timestamp};
        let of = |node: &Node| node.kind(columns);
        let must = |node: &Node, wanted: &[ColumnKind]| match of(node)? {
            kind if wanted.contains(&kind) => Ok(kind),
            kind => Err(format!("an operand is {}, not {}", kind.name(), names(wanted))),
        };
        let alike = |left: &Node, right: &Node| match (of(left)?, of(right)?) {
            (left, right) if left == right => Ok(left),
            (left, right) => Err(format!("{} and {} do not go together", left.name(), right.name())),
        };
        Ok(match self {
            Node::Column(place) => {
                *columns.get(*place as usize).ok_or("a column is not there; the file was changed".to_owned())?
            }
            Node::Constant(constant) => constant.kind(),
            Node::Cast { to, value } => match (of(value)?, *to) {
                (from, to) if from == to => to,
                (Bool | Int | Float | Text, Bool | Int | Float) | (Bool | Int, Text) => *to,
                (from, to) => return Err(format!("{} cannot be cast to {}", from.name(), to.name())),
            },
            Node::Negate(value) => must(value, &[Int, Float])?,
            Node::Arithmetic { left, right, .. } => {
                must(left, &[Int, Float])?;
                alike(left, right)?
            }
            Node::Compare { left, right, .. } | Node::Distinct { left, right } => alike(left, right).map(|_| Bool)?,
            Node::And(left, right) | Node::Or(left, right) => {
                must(left, &[Bool])?;
                must(right, &[Bool])?
            }
            Node::Not(value) => must(value, &[Bool])?,
            Node::IsNull(value) => of(value).map(|_| Bool)?,
            Node::Between { value, low, high } => {
                alike(value, low)?;
                alike(value, high).map(|_| Bool)?
            }
            Node::In { value, among } => {
                let kind = of(value)?;
                match among.iter().find(|constant| constant.kind() != kind) {
                    Some(other) => return Err(format!("{} is not among {}s", kind.name(), other.kind().name())),
                    None => Bool,
                }
            }
            Node::Like { value, .. } => must(value, &[Text]).map(|_| Bool)?,
            Node::Case { arms, otherwise } => {
                for (condition, result) in arms {
                    must(condition, &[Bool])?;
                    alike(result, otherwise)?;
                }
                of(otherwise)?
            }
            Node::Coalesce(values) => {
                let (first, rest) = values.split_first().ok_or("coalesce needs a value".to_owned())?;
                rest.iter().try_for_each(|value| alike(first, value).map(|_| ()))?;
                of(first)?
            }
            Node::NullIf { left, right } => alike(left, right)?,
            Node::Math { function: Math::Abs, value } => must(value, &[Int, Float])?,
            Node::Math { value, .. } => must(value, &[Float])?,
            Node::Text { value, .. } => must(value, &[Text])?,
            Node::Length(value) => must(value, &[Text]).map(|_| Int)?,
            Node::Substring { value, start, length } => {
                must(start, &[Int])?;
                length.iter().try_for_each(|length| must(length, &[Int]).map(|_| ()))?;
                must(value, &[Text])?
            }
            Node::Concat(values) => {
                values.iter().try_for_each(|value| must(value, &[Text]).map(|_| ()))?;
                Text
            }
            Node::Join(left, right) => {
                must(left, &[Text])?;
                must(right, &[Text])?
            }
            Node::Part { part, value, .. } => {
                must(value, &[Timestamp])?;
                if *part == InstantPart::Epoch { Float } else { Int }
            }
        })
    }
}

fn names(kinds: &[ColumnKind]) -> String {
    kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>().join(" or ")
}
