//! Operators that prepare numbers: `Scaler`, `Normalizer`, `Imputer`, `Binarizer`, `FeatureVectorizer`.

use super::attributes::Attributes;
use super::graph::{Context, Operator, Outputs, Stop, mismatch};
use super::{Unsupported, unsupported};
use crate::tensor::{Data, Tensor};
use std::borrow::Cow;

pub(super) fn operator(attributes: &Attributes) -> Result<Box<dyn Operator>, Unsupported> {
    let refuse = |why: String| unsupported(attributes.op(), why);
    Ok(match attributes.op() {
        "Scaler" => {
            let (offset, scale) = (attributes.floats("offset").to_vec(), attributes.floats("scale").to_vec());
            if scale.is_empty() || scale.len() != offset.len() {
                return Err(refuse("its scale and offset differ in length".to_owned()));
            }
            Box::new(Scaler { offset, scale })
        }
        "Normalizer" => Box::new(match attributes.text("norm", "MAX") {
            "MAX" => Normalizer::Max,
            "L1" => Normalizer::L1,
            "L2" => Normalizer::L2,
            other => return Err(refuse(format!("the norm {other} is unknown"))),
        }),
        "Imputer" => {
            let (floats, ints) = (attributes.floats("imputed_value_floats"), attributes.ints("imputed_value_int64s"));
            match (floats.is_empty(), ints.is_empty()) {
                (false, true) => Box::new(Imputer::Floats {
                    replaced: attributes.float("replaced_value_float", 0.0),
                    values: floats.to_vec(),
                }),
                (true, false) => Box::new(Imputer::Ints {
                    replaced: attributes.int("replaced_value_int64", 0),
                    values: ints.to_vec(),
                }),
                _ => return Err(refuse("it needs values of one type".to_owned())),
            }
        }
        "Binarizer" => Box::new(Binarizer(attributes.float("threshold", 0.0))),
        "FeatureVectorizer" => {
            let widths: Option<Vec<usize>> =
                attributes.ints("inputdimensions").iter().map(|width| usize::try_from(*width).ok()).collect();
            Box::new(FeatureVectorizer(widths.ok_or_else(|| refuse("a width is below zero".to_owned()))?))
        }
        other => return Err(unsupported(other, "it is not one of the operators that run here")),
    })
}

/// The elements in single precision.
pub(super) fn as_floats(data: &Data) -> Result<Cow<'_, [f32]>, Stop> {
    Ok(match data {
        Data::Fp32(values) => Cow::Borrowed(values),
        Data::Fp64(values) => values.iter().map(|value| *value as f32).collect(),
        Data::Int64(values) => values.iter().map(|value| *value as f32).collect(),
        Data::Int32(values) => values.iter().map(|value| *value as f32).collect(),
        other => return mismatch(format!("elements of type {} are no numbers", other.datatype())),
    })
}

fn only<'a>(inputs: &[&'a Tensor]) -> Result<&'a Tensor, Stop> {
    match inputs {
        [input] => Ok(input),
        _ => mismatch("it takes one input"),
    }
}

fn floats(shape: &[usize], values: Vec<f32>) -> Outputs {
    Ok(vec![Tensor::new(String::new(), shape.to_vec(), Data::Fp32(values))])
}

/// Columns of a matrix; a list is one column here, since its rows stand apart.
fn columns(tensor: &Tensor) -> Result<usize, Stop> {
    match tensor.shape[..] {
        [_, columns] => Ok(columns),
        _ => mismatch("its input is no matrix"),
    }
}

/// The number for column `at` of a list that has one for each column, or one for all.
fn pick<T: Copy>(list: &[T], at: usize) -> T {
    if list.len() == 1 { list[0] } else { list[at] }
}

fn check_length(length: usize, columns: usize) -> Result<(), Stop> {
    if length == 1 || length == columns {
        Ok(())
    } else {
        mismatch(format!("it has numbers for {length} columns, its input has {columns}"))
    }
}

/// (x - offset) scale.
struct Scaler {
    offset: Vec<f32>,
    scale: Vec<f32>,
}

impl Operator for Scaler {
    fn run(&self, _: &Context, inputs: &[&Tensor]) -> Outputs {
        let input = only(inputs)?;
        let columns = columns(input)?;
        check_length(self.scale.len(), columns)?;
        let number = |at: usize| (pick(&self.offset, at % columns), pick(&self.scale, at % columns));
        let values = match &input.data {
            Data::Fp64(values) => {
                let scaled = |(at, x): (usize, &f64)| {
                    let (offset, scale) = number(at);
                    ((x - f64::from(offset)) * f64::from(scale)) as f32
                };
                values.iter().enumerate().map(scaled).collect()
            }
            data => {
                let scaled = |(at, x): (usize, &f32)| {
                    let (offset, scale) = number(at);
                    (x - offset) * scale
                };
                as_floats(data)?.iter().enumerate().map(scaled).collect()
            }
        };
        floats(&input.shape, values)
    }
}

enum Normalizer {
    Max,
    L1,
    L2,
}

impl Operator for Normalizer {
    fn run(&self, _: &Context, inputs: &[&Tensor]) -> Outputs {
        let input = only(inputs)?;
        let columns = columns(input)?;
        let Data::Fp32(values) = &input.data else { return mismatch("only single precision is taken") };
        let mut values = values.clone();
        for row in values.chunks_exact_mut(columns.max(1)) {
            let sum = match self {
                Normalizer::Max => row.iter().fold(f32::MIN, |most, x| if most < *x { *x } else { most }),
                Normalizer::L1 => row.iter().fold(0.0, |sum, x| sum + x.abs()),
                Normalizer::L2 => row.iter().fold(0.0, |sum, x| sum + x * x),
            };
            if sum == 0.0 {
                continue;
            }
            for x in row {
                *x = match self {
                    Normalizer::Max | Normalizer::L1 => *x / sum,
                    Normalizer::L2 if *x < 0.0 => -(*x * *x / sum).sqrt(),
                    Normalizer::L2 => (*x * *x / sum).sqrt(),
                };
            }
        }
        floats(&input.shape, values)
    }
}

/// Puts values in the place of one value, which may be NaN.
enum Imputer {
    Floats { replaced: f32, values: Vec<f32> },
    Ints { replaced: i64, values: Vec<i64> },
}

impl Operator for Imputer {
    fn run(&self, _: &Context, inputs: &[&Tensor]) -> Outputs {
        let input = only(inputs)?;
        let columns = columns(input)?;
        // Values for another number of columns count as one value: so does ONNX Runtime.
        let at = |place: usize, length: usize| if length == columns { place % columns } else { 0 };
        let data = match (self, &input.data) {
            (Imputer::Floats { replaced, values }, Data::Fp32(given)) => {
                let missing = |x: f32| x == *replaced || (x.is_nan() && replaced.is_nan());
                let filled = |(place, x): (usize, &f32)| if missing(*x) { values[at(place, values.len())] } else { *x };
                Data::Fp32(given.iter().enumerate().map(filled).collect())
            }
            (Imputer::Ints { replaced, values }, Data::Int64(given)) => {
                let filled =
                    |(place, x): (usize, &i64)| if x == replaced { values[at(place, values.len())] } else { *x };
                Data::Int64(given.iter().enumerate().map(filled).collect())
            }
            (_, other) => return mismatch(format!("elements of type {} do not fit its values", other.datatype())),
        };
        Ok(vec![Tensor::new(String::new(), input.shape.clone(), data)])
    }
}

struct Binarizer(f32);

impl Operator for Binarizer {
    fn run(&self, _: &Context, inputs: &[&Tensor]) -> Outputs {
        let input = only(inputs)?;
        let Data::Fp32(values) = &input.data else { return mismatch("only single precision is taken") };
        floats(&input.shape, values.iter().map(|x| if *x > self.0 { 1.0 } else { 0.0 }).collect())
    }

    fn keeps_order_only(&self) -> bool {
        true
    }
}

/// Sets matrices side by side.
struct FeatureVectorizer(Vec<usize>);

impl Operator for FeatureVectorizer {
    fn run(&self, _: &Context, inputs: &[&Tensor]) -> Outputs {
        let rows = inputs.first().map_or(0, |input| input.rows());
        if inputs.len() != self.0.len() || inputs.iter().any(|input| input.rows() != rows) {
            return mismatch("its inputs differ in rows");
        }
        let parts = inputs.iter().map(|input| as_floats(&input.data)).collect::<Result<Vec<_>, _>>()?;
        let widths: Vec<usize> = inputs.iter().map(|input| input.row_len()).collect();
        if widths != self.0 {
            return mismatch("its inputs have other widths than announced");
        }
        let mut values = Vec::with_capacity(rows * widths.iter().sum::<usize>());
        for row in 0..rows {
            for (part, width) in parts.iter().zip(&widths) {
                values.extend_from_slice(&part[row * width..(row + 1) * width]);
            }
        }
        floats(&[rows, widths.iter().sum()], values)
    }
}
