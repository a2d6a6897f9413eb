//! Operators that treat each element by itself: arithmetic, comparisons, conversions, and `Softmax` along a row.

use super::attributes::Attributes;
use super::graph::{Context, Operator, Outputs, Stop, mismatch};
use super::post;
use super::shapes::dimension;
use super::tensors;
use super::{Unsupported, unsupported};
use crate::elementary::exp;
use crate::forest::Real;
use crate::import::links::single::exp32;
use crate::tensor::{Data, Datatype, Tensor};

/// Measured with ONNX Runtime 1.32 on x86-64, whose Sigmoid is a polynomial.
const NOTE: &str = "e^x is rounded once: ONNX Runtime's own Exp and Softmax may differ by two units in the last place, \
    its Sigmoid by 2e-7";

fn one(shape: &[usize], data: Data) -> Outputs {
    Ok(vec![Tensor::new(String::new(), shape.to_vec(), data)])
}

struct Cast(Datatype);

pub(super) fn cast(attributes: &Attributes) -> Result<Box<dyn Operator>, Unsupported> {
    let to = i32::try_from(attributes.int("to", 0)).ok().and_then(tensors::datatype);
    match to {
        Some(
            to @ (Datatype::Fp32
            | Datatype::Fp64
            | Datatype::Int64
            | Datatype::Int32
            | Datatype::Bool
            | Datatype::Bytes),
        ) => Ok(Box::new(Cast(to))),
        _ => Err(unsupported("Cast", "its type is left to ONNX Runtime")),
    }
}

/// As the processor's conversion has it, what does not fit becomes the smallest number.
macro_rules! whole {
    ($value:expr, $type:ty, $limit:expr) => {
        if ($value >= -$limit && $value < $limit) { $value as $type } else { <$type>::MIN }
    };
}

macro_rules! convert {
    ($values:expr, $to:expr, $int64:expr, $int32:expr, $bool:expr) => {
        match $to {
            Datatype::Fp32 => Data::Fp32($values.iter().map(|value| *value as f32).collect()),
            Datatype::Fp64 => Data::Fp64($values.iter().map(|value| *value as f64).collect()),
            Datatype::Int64 => Data::Int64($values.iter().map($int64).collect()),
            Datatype::Int32 => Data::Int32($values.iter().map($int32).collect()),
            Datatype::Bool => Data::Bool($values.iter().map($bool).collect()),
            other => return mismatch(format!("a conversion to {other} is left to ONNX Runtime")),
        }
    };
}

impl Operator for Cast {
    fn run(&self, _: &Context, inputs: &[&Tensor]) -> Outputs {
        let [input] = inputs else { return mismatch("it takes one input") };
        const I64: f64 = 9_223_372_036_854_775_808.0;
        const I32: f64 = 2_147_483_648.0;
        let data = match (&input.data, self.0) {
            (data, to) if data.datatype() == to => data.clone(),
            (Data::Int64(values), Datatype::Bytes) => {
                Data::Bytes(values.iter().map(|value| value.to_string().into_bytes()).collect())
            }
            (Data::Fp32(values), to) => convert!(
                values,
                to,
                |value| whole!(f64::from(*value), i64, I64),
                |value| whole!(f64::from(*value), i32, I32),
                |value| *value != 0.0
            ),
            (Data::Fp64(values), to) => {
                convert!(values, to, |value| whole!(*value, i64, I64), |value| whole!(*value, i32, I32), |value| {
                    *value != 0.0
                })
            }
            (Data::Int64(values), to) => {
                convert!(values, to, |value| *value, |value| *value as i32, |value| *value != 0)
            }
            (Data::Int32(values), to) => {
                convert!(values, to, |value| i64::from(*value), |value| *value, |value| *value != 0)
            }
            (Data::Bool(values), to) => {
                let values: Vec<i32> = values.iter().map(|value| i32::from(*value)).collect();
                convert!(values, to, |value| i64::from(*value), |value| *value, |value| *value != 0)
            }
            (other, to) => {
                return mismatch(format!("a conversion from {} to {to} is left to ONNX Runtime", other.datatype()));
            }
        };
        one(&input.shape, data)
    }

    fn keeps_order_only(&self) -> bool {
        true
    }
}

#[derive(Clone, Copy)]
enum Single {
    Neg,
    Abs,
    Relu,
    Sqrt,
    Exp,
    Sigmoid,
    Not,
    IsNan,
}

pub(super) fn single(attributes: &Attributes) -> Result<Box<dyn Operator>, Unsupported> {
    Ok(Box::new(match attributes.op() {
        "Neg" => Single::Neg,
        "Abs" => Single::Abs,
        "Relu" => Single::Relu,
        "Sqrt" => Single::Sqrt,
        "Exp" => Single::Exp,
        "Sigmoid" => Single::Sigmoid,
        "Not" => Single::Not,
        "IsNaN" => Single::IsNan,
        other => return Err(unsupported(other, "it is not one of the operators that run here")),
    }))
}

impl Operator for Single {
    fn run(&self, _: &Context, inputs: &[&Tensor]) -> Outputs {
        let [input] = inputs else { return mismatch("it takes one input") };
        let data = match (&input.data, self) {
            (Data::Bool(values), Single::Not) => Data::Bool(values.iter().map(|value| !value).collect()),
            (Data::Fp32(values), Single::IsNan) => Data::Bool(values.iter().map(|value| value.is_nan()).collect()),
            (Data::Fp64(values), Single::IsNan) => Data::Bool(values.iter().map(|value| value.is_nan()).collect()),
            (Data::Fp32(values), operator) => {
                let function: fn(f32) -> f32 = match operator {
                    Single::Neg => |x| -x,
                    Single::Abs => f32::abs,
                    Single::Relu => |x| if x > 0.0 || x.is_nan() { x } else { 0.0 },
                    Single::Sqrt => f32::sqrt,
                    Single::Exp => exp32,
                    Single::Sigmoid => post::logistic,
                    Single::Not | Single::IsNan => return mismatch("its input has the wrong type"),
                };
                Data::Fp32(values.iter().map(|value| function(*value)).collect())
            }
            (Data::Fp64(values), Single::Neg | Single::Abs | Single::Exp) => {
                let function: fn(f64) -> f64 = match self {
                    Single::Neg => |x| -x,
                    Single::Abs => f64::abs,
                    _ => exp,
                };
                Data::Fp64(values.iter().map(|value| function(*value)).collect())
            }
            (other, _) => return mismatch(format!("inputs of type {} are left to ONNX Runtime", other.datatype())),
        };
        one(&input.shape, data)
    }

    fn keeps_order_only(&self) -> bool {
        true
    }

    fn note(&self) -> Option<&'static str> {
        matches!(self, Single::Exp | Single::Sigmoid).then_some(NOTE)
    }
}

struct Softmax(i64);

pub(super) fn softmax(attributes: &Attributes, set: i64) -> Result<Box<dyn Operator>, Unsupported> {
    // Before version 13 all dimensions from the axis on were one; of a matrix, that is the same.
    Ok(Box::new(Softmax(attributes.int("axis", if set < 13 { 1 } else { -1 }))))
}

impl Operator for Softmax {
    fn run(&self, _: &Context, inputs: &[&Tensor]) -> Outputs {
        let [input] = inputs else { return mismatch("it takes one input") };
        let (Data::Fp32(values), [_, width]) = (&input.data, &input.shape[..]) else {
            return mismatch("only matrices of single precision are taken");
        };
        if dimension(self.0, 2)? != 1 {
            return mismatch("rows are mixed");
        }
        let mut values = values.clone();
        values.chunks_exact_mut((*width).max(1)).for_each(post::softmax);
        one(&input.shape, Data::Fp32(values))
    }

    fn note(&self) -> Option<&'static str> {
        Some(NOTE)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Several {
    Add,
    Sub,
    Mul,
    Div,
    Where,
    Equal,
    Less,
    Greater,
    LessOrEqual,
    GreaterOrEqual,
}

pub(super) fn several(attributes: &Attributes) -> Result<Box<dyn Operator>, Unsupported> {
    attributes.without(&["broadcast"])?;
    Ok(Box::new(match attributes.op() {
        "Add" | "Sum" => Several::Add,
        "Sub" => Several::Sub,
        "Mul" => Several::Mul,
        "Div" => Several::Div,
        "Where" => Several::Where,
        "Equal" => Several::Equal,
        "Less" => Several::Less,
        "Greater" => Several::Greater,
        "LessOrEqual" => Several::LessOrEqual,
        "GreaterOrEqual" => Several::GreaterOrEqual,
        other => return Err(unsupported(other, "it is not one of the operators that run here")),
    }))
}

/// The common shape of two, by the standard's rules: lengths are aligned at the end, and 1 stretches.
fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, Stop> {
    let rank = a.len().max(b.len());
    let length = |shape: &[usize], at: usize| (at + shape.len()).checked_sub(rank).map_or(1, |at| shape[at]);
    let shape: Result<Vec<usize>, Stop> = (0..rank)
        .map(|at| match (length(a, at), length(b, at)) {
            (a, b) if a == b => Ok(a),
            (1, other) | (other, 1) => Ok(other),
            _ => mismatch(format!("the shapes {a:?} and {b:?} do not fit")),
        })
        .collect();
    let shape = shape?;
    if tensors::elements(&shape).is_some() { Ok(shape) } else { mismatch("the result is too large") }
}

/// For each element of `shape`, the place of the element of `from` that is stretched over it.
fn places(from: &[usize], shape: &[usize]) -> Vec<usize> {
    let mut places = vec![0];
    let mut stride = 1;
    // From the last dimension to the first, each repeats what is inside it.
    for (at, length) in shape.iter().enumerate().rev() {
        let own = (at + from.len()).checked_sub(shape.len()).map_or(1, |at| from[at]);
        let step = if own == 1 { 0 } else { stride };
        places = (0..*length).flat_map(|outer| places.iter().map(move |inner| outer * step + inner)).collect();
        stride *= own;
    }
    places
}

fn pairs<T: Copy, R>(
    shapes: [&Tensor; 2],
    a: &[T],
    b: &[T],
    function: impl Fn(T, T) -> R,
) -> Result<(Vec<usize>, Vec<R>), Stop> {
    let [first, second] = shapes;
    if first.shape == second.shape {
        return Ok((first.shape.clone(), a.iter().zip(b).map(|(a, b)| function(*a, *b)).collect()));
    }
    let shape = broadcast(&first.shape, &second.shape)?;
    let (left, right) = (places(&first.shape, &shape), places(&second.shape, &shape));
    Ok((shape, left.into_iter().zip(right).map(|(left, right)| function(a[left], b[right])).collect()))
}

impl Several {
    fn arithmetic<T: Real>(self, shapes: [&Tensor; 2], a: &[T], b: &[T]) -> Outputs {
        let function: fn(T, T) -> T = match self {
            Several::Add => |a, b| a + b,
            Several::Sub => |a, b| a - b,
            Several::Mul => |a, b| a * b,
            Several::Div => |a, b| a / b,
            _ => return self.comparison(shapes, a, b),
        };
        let (shape, values) = pairs(shapes, a, b, function)?;
        one(&shape, T::data(values))
    }

    fn comparison<T: Copy + PartialOrd>(self, shapes: [&Tensor; 2], a: &[T], b: &[T]) -> Outputs {
        let function: fn(T, T) -> bool = match self {
            Several::Equal => |a, b| a == b,
            Several::Less => |a, b| a < b,
            Several::Greater => |a, b| a > b,
            Several::LessOrEqual => |a, b| a <= b,
            Several::GreaterOrEqual => |a, b| a >= b,
            _ => return mismatch("whole numbers are not calculated with here"),
        };
        let (shape, values) = pairs(shapes, a, b, function)?;
        one(&shape, Data::Bool(values))
    }

    fn two(self, a: &Tensor, b: &Tensor) -> Outputs {
        match (&a.data, &b.data) {
            (Data::Fp32(x), Data::Fp32(y)) => self.arithmetic([a, b], x, y),
            (Data::Fp64(x), Data::Fp64(y)) => self.arithmetic([a, b], x, y),
            (Data::Int64(x), Data::Int64(y)) => self.comparison([a, b], x, y),
            (x, y) => {
                mismatch(format!("inputs of types {} and {} are left to ONNX Runtime", x.datatype(), y.datatype()))
            }
        }
    }

    fn choose(condition: &Tensor, yes: &Tensor, no: &Tensor) -> Outputs {
        let Data::Bool(chosen) = &condition.data else { return mismatch("its condition has the wrong type") };
        if yes.datatype() != no.datatype() {
            return mismatch("its inputs differ in type");
        }
        let shape = broadcast(&condition.shape, &broadcast(&yes.shape, &no.shape)?)?;
        let (at, yes_at, no_at) =
            (places(&condition.shape, &shape), places(&yes.shape, &shape), places(&no.shape, &shape));
        let mut data = Data::empty(yes.datatype());
        for ((at, yes_at), no_at) in at.into_iter().zip(yes_at).zip(no_at) {
            if chosen[at] {
                data.extend(&yes.data, yes_at, yes_at + 1);
            } else {
                data.extend(&no.data, no_at, no_at + 1);
            }
        }
        one(&shape, data)
    }
}

impl Operator for Several {
    fn run(&self, _: &Context, inputs: &[&Tensor]) -> Outputs {
        match (self, inputs) {
            (Several::Where, [condition, yes, no]) => Several::choose(condition, yes, no),
            (Several::Where, _) => mismatch("it takes three inputs"),
            (_, [a, b]) => self.two(a, b),
            // `Sum` takes any number.
            (Several::Add, [first, rest @ ..]) => {
                rest.iter().try_fold(vec![(*first).clone()], |sum, next| self.two(&sum[0], next))
            }
            _ => mismatch("it takes two inputs"),
        }
    }
}
