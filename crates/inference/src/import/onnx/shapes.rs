//! Operators that move elements: `Reshape` and its like, `Concat`, `ArgMax`.

use super::attributes::Attributes;
use super::graph::{Context, Operator, Outputs, Stop, mismatch};
use super::tensors::{ELEMENTS_MAX, elements};
use super::{Unsupported, unsupported};
use crate::tensor::{Data, Tensor};

pub(super) fn operator(attributes: &Attributes, set: i64) -> Result<Box<dyn Operator>, Unsupported> {
    // From version 13 on, the axes are an input.
    let axes = if set < 13 { attributes.ints("axes").to_vec() } else { Vec::new() };
    Ok(match attributes.op() {
        "Identity" => Box::new(Same),
        "Flatten" => Box::new(Flatten(attributes.int("axis", 1))),
        "Squeeze" => Box::new(Squeeze(axes)),
        "Unsqueeze" => Box::new(Unsqueeze(axes)),
        "Concat" => Box::new(Concat(attributes.int("axis", 1))),
        _ if set < 5 => return Err(unsupported("Reshape", "its first version is left to ONNX Runtime")),
        _ => Box::new(Reshape { zero_is_zero: attributes.int("allowzero", 0) != 0 }),
    })
}

/// The dimension that `axis` names, which counts from the end where it is below zero.
pub(super) fn dimension(axis: i64, rank: usize) -> Result<usize, Stop> {
    let place = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
    match usize::try_from(place) {
        Ok(place) if place < rank => Ok(place),
        _ => mismatch(format!("the axis {axis} is outside of {rank} dimensions")),
    }
}

fn ints(tensor: &Tensor) -> Result<&[i64], Stop> {
    match &tensor.data {
        Data::Int64(values) => Ok(values),
        _ => mismatch("a shape is no list of whole numbers"),
    }
}

fn shaped(input: &Tensor, shape: Vec<usize>) -> Outputs {
    Ok(vec![Tensor::new(String::new(), shape, input.data.clone())])
}

/// `Identity`, and `ZipMap` without its maps.
pub(super) struct Same;

impl Operator for Same {
    fn run(&self, _: &Context, inputs: &[&Tensor]) -> Outputs {
        match inputs {
            [input] => shaped(input, input.shape.clone()),
            _ => mismatch("it takes one input"),
        }
    }

    fn keeps_order_only(&self) -> bool {
        true
    }
}

struct Reshape {
    zero_is_zero: bool,
}

impl Operator for Reshape {
    fn run(&self, _: &Context, inputs: &[&Tensor]) -> Outputs {
        let [input, wanted] = inputs else { return mismatch("it takes two inputs") };
        let wanted = ints(wanted)?;
        let mut shape = Vec::with_capacity(wanted.len());
        let mut open = None;
        for (at, length) in wanted.iter().enumerate() {
            shape.push(match *length {
                0 if !self.zero_is_zero => match input.shape.get(at) {
                    Some(length) => *length,
                    None => return mismatch("a length is to be kept that is not there"),
                },
                -1 if open.is_none() => {
                    open = Some(at);
                    1
                }
                length => match usize::try_from(length) {
                    Ok(length) => length,
                    Err(_) => return mismatch(format!("{length} is no length")),
                },
            });
        }
        let count = input.data.len();
        if let (Some(open), Some(known)) = (open, elements(&shape)) {
            shape[open] = count.checked_div(known).unwrap_or(0);
        }
        if elements(&shape) != Some(count) {
            return mismatch(format!("{count} elements do not fill the shape {shape:?}"));
        }
        shaped(input, shape)
    }

    fn keeps_order_only(&self) -> bool {
        true
    }
}

struct Flatten(i64);

impl Operator for Flatten {
    fn run(&self, _: &Context, inputs: &[&Tensor]) -> Outputs {
        let [input] = inputs else { return mismatch("it takes one input") };
        let axis =
            if self.0 == input.shape.len() as i64 { input.shape.len() } else { dimension(self.0, input.shape.len())? };
        let (before, after) = input.shape.split_at(axis);
        shaped(input, vec![before.iter().product(), after.iter().product()])
    }

    fn keeps_order_only(&self) -> bool {
        true
    }
}

/// The axes of an attribute, or else of a second input.
fn axes(attribute: &[i64], inputs: &[&Tensor]) -> Result<Vec<i64>, Stop> {
    match inputs {
        [_, axes] => Ok(ints(axes)?.to_vec()),
        _ => Ok(attribute.to_vec()),
    }
}

struct Squeeze(Vec<i64>);

impl Operator for Squeeze {
    fn run(&self, _: &Context, inputs: &[&Tensor]) -> Outputs {
        let Some(input) = inputs.first() else { return mismatch("it takes an input") };
        let axes: Result<Vec<usize>, Stop> =
            axes(&self.0, inputs)?.into_iter().map(|axis| dimension(axis, input.shape.len())).collect();
        let axes = axes?;
        // Without axes, the number of dimensions would depend on the number of rows.
        if axes.is_empty() || axes.iter().any(|axis| input.shape[*axis] != 1) {
            return mismatch("it names no dimensions, or some that are longer than 1");
        }
        let kept = input.shape.iter().enumerate().filter(|(at, _)| !axes.contains(at));
        shaped(input, kept.map(|(_, length)| *length).collect())
    }

    fn keeps_order_only(&self) -> bool {
        true
    }
}

struct Unsqueeze(Vec<i64>);

impl Operator for Unsqueeze {
    fn run(&self, _: &Context, inputs: &[&Tensor]) -> Outputs {
        let Some(input) = inputs.first() else { return mismatch("it takes an input") };
        let axes = axes(&self.0, inputs)?;
        let rank = input.shape.len() + axes.len();
        let places: Result<Vec<usize>, Stop> = axes.into_iter().map(|axis| dimension(axis, rank)).collect();
        let places = places?;
        let mut lengths = input.shape.iter();
        let shape: Vec<usize> =
            (0..rank).filter_map(|at| if places.contains(&at) { Some(1) } else { lengths.next().copied() }).collect();
        if shape.len() != rank {
            return mismatch("it names a dimension twice");
        }
        shaped(input, shape)
    }

    fn keeps_order_only(&self) -> bool {
        true
    }
}

struct Concat(i64);

impl Operator for Concat {
    fn run(&self, _: &Context, inputs: &[&Tensor]) -> Outputs {
        let Some(first) = inputs.first() else { return mismatch("it takes inputs") };
        let axis = dimension(self.0, first.shape.len())?;
        if axis == 0 {
            return mismatch("rows are set below one another");
        }
        let alike = |tensor: &&&Tensor| {
            tensor.datatype() == first.datatype()
                && tensor.shape.len() == first.shape.len()
                && (0..first.shape.len()).all(|at| at == axis || tensor.shape[at] == first.shape[at])
        };
        if !inputs.iter().all(|tensor| alike(&tensor)) {
            return mismatch("its inputs differ in type or shape");
        }
        if inputs.iter().map(|tensor| tensor.data.len()).sum::<usize>() > ELEMENTS_MAX {
            return mismatch("the result is too large");
        }
        let outer: usize = first.shape[..axis].iter().product();
        let widths: Vec<usize> = inputs.iter().map(|tensor| tensor.shape[axis..].iter().product()).collect();
        let mut data = Data::empty(first.datatype());
        for row in 0..outer {
            for (tensor, width) in inputs.iter().zip(&widths) {
                data.extend(&tensor.data, row * width, (row + 1) * width);
            }
        }
        let mut shape = first.shape.clone();
        shape[axis] = inputs.iter().map(|tensor| tensor.shape[axis]).sum();
        Ok(vec![Tensor::new(String::new(), shape, data)])
    }
}

/// The place of the largest number along the last dimension.
struct ArgMax {
    axis: i64,
    keeps: bool,
    last: bool,
}

pub(super) fn arg_max(attributes: &Attributes) -> Result<Box<dyn Operator>, Unsupported> {
    Ok(Box::new(ArgMax {
        axis: attributes.int("axis", 0),
        keeps: attributes.int("keepdims", 1) != 0,
        last: attributes.int("select_last_index", 0) != 0,
    }))
}

impl Operator for ArgMax {
    fn run(&self, _: &Context, inputs: &[&Tensor]) -> Outputs {
        let [input] = inputs else { return mismatch("it takes one input") };
        let rank = input.shape.len();
        let axis = dimension(self.axis, rank)?;
        let Data::Fp32(values) = &input.data else { return mismatch("only single precision is taken") };
        if axis == 0 || axis + 1 != rank || input.shape[axis] == 0 {
            return mismatch("only the last of several dimensions is searched here");
        }
        let better = |new: f32, best: f32| new > best || (self.last && new == best);
        let place = |row: &[f32]| (1..row.len()).fold(0, |best, at| if better(row[at], row[best]) { at } else { best });
        let places = values.chunks_exact(input.shape[axis]).map(|row| place(row) as i64).collect();
        let mut shape = input.shape[..axis].to_vec();
        if self.keeps {
            shape.push(1);
        }
        Ok(vec![Tensor::new(String::new(), shape, Data::Int64(places))])
    }
}

/// Picks columns of a matrix by constant places.
pub(super) struct Gather(pub i64);

impl Operator for Gather {
    fn run(&self, _: &Context, inputs: &[&Tensor]) -> Outputs {
        let [input, places] = inputs else { return mismatch("it takes two inputs") };
        let [rows, width] = input.shape[..] else { return mismatch("its input is no matrix") };
        if dimension(self.0, 2)? != 1 || places.shape.len() > 1 {
            return mismatch("only columns are picked here, by a list of places");
        }
        let columns: Result<Vec<usize>, Stop> = ints(places)?.iter().map(|place| dimension(*place, width)).collect();
        let columns = columns?;
        if elements(&[rows, columns.len()]).is_none() {
            return mismatch("the result is too large");
        }
        let mut data = Data::empty(input.datatype());
        for row in 0..rows {
            for column in &columns {
                data.extend(&input.data, row * width + column, row * width + column + 1);
            }
        }
        let shape = if places.shape.is_empty() { vec![rows] } else { vec![rows, columns.len()] };
        Ok(vec![Tensor::new(String::new(), shape, data)])
    }
}

/// `Gather` of a constant's entries by places that depend on the rows: a table that is looked up.
pub(super) struct LookUp(pub i64);

impl Operator for LookUp {
    fn run(&self, context: &Context, inputs: &[&Tensor]) -> Outputs {
        let [table, places] = inputs else { return mismatch("it takes two inputs") };
        let rank = table.shape.len();
        if dimension(self.0, rank)? != 0 {
            return mismatch("a table is looked up by its first dimension alone");
        }
        let (entries, width) = (table.shape[0], table.row_len());
        let shape = [places.shape.as_slice(), &table.shape[1..]].concat();
        if elements(&shape).is_none() {
            return mismatch("the result is too large");
        }
        let mut data = Data::empty(table.datatype());
        for place in ints(places)? {
            let found = if *place < 0 { place.checked_add(entries as i64) } else { Some(*place) };
            let found = found.and_then(|place| usize::try_from(place).ok()).filter(|place| *place < entries);
            // Made-up rows may ask for anything.
            let found = if context.trial { found.or((entries > 0).then_some(0)) } else { found };
            let Some(at) = found else {
                return Err(Stop::Value(format!("the place {place} is outside of {entries} entries")));
            };
            data.extend(&table.data, at * width, (at + 1) * width);
        }
        Ok(vec![Tensor::new(String::new(), shape, data)])
    }

    fn keeps_order_only(&self) -> bool {
        true
    }
}
