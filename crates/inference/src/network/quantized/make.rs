//! From a network to a quantized one. First the tables are rounded, then the layers, with what the rounded tables give.

use super::{Int8Step, Layer, Parts, QuantizedNetwork, Residual, SingleLayer, Stored, TableRows, own};
use crate::kernels::int8::{Finish, Int8Layer, Range};
use crate::kernels::rows::{QuantizedTable, RowBits};
use crate::model::{Model, ModelError, check_inputs};
use crate::network::{Dense, NetworkModel, Numeric, Table};
use vocabulary::inputs::Inputs;

/// Layers of fewer weights stay in single precision: rounding their inputs would cost more than it gains.
const WEIGHTS_MIN: usize = 512;

/// So do those of fewer outputs, which as a rule are the last: whatever they round reaches the answer as it is.
const OUTPUTS_MIN: usize = 8;

/// How large a standardised column is taken to be where no rows tell: three standard deviations.
const PLAIN_REACH: f32 = 3.0;

/// How activations are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DenseForm {
    /// Not at all: layers stay in single precision.
    None,
    /// Each row by the range of its own values.
    #[default]
    Dynamic,
    /// By ranges that calibration rows have; a value beyond becomes the nearest inside.
    Static,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum TableForm {
    F32,
    #[default]
    Int8,
    Int4,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct QuantizeOptions {
    pub dense: DenseForm,
    pub tables: TableForm,
}

/// Rounds a network. Calibration rows are needed for static ranges; where they are given, they also tell how large each
/// input gets, so that large and small ones can share a scale.
pub fn quantize_network(
    network: &NetworkModel,
    options: &QuantizeOptions,
    calibration: Option<&Inputs>,
) -> Result<QuantizedNetwork, ModelError> {
    let wrong = |what: String| Err(ModelError::Parts { kind: QuantizedNetwork::KIND, what });
    let calibration = calibration.filter(|inputs| inputs.rows > 0);
    if options.dense == DenseForm::Static && calibration.is_none() {
        return wrong("static ranges need calibration rows, and there are none".to_owned());
    }
    if let Some(inputs) = calibration {
        check_inputs(QuantizedNetwork::KIND, network.layout(), inputs)?;
    }
    let from = network.parts();
    let tables = from.tables.iter().map(|table| round_table(table, options.tables)).collect::<Result<_, _>>()?;
    let rectified = |dense: &Dense| Layer::single(dense.clone(), Finish::Relu);
    let residual = |residual: bool| if residual { Residual::Yes } else { Residual::No };
    let single = Parts {
        link: from.link,
        numeric: from.numeric.clone(),
        tables,
        slots: from.slots.clone(),
        cross: from.cross.iter().map(|dense| Layer::single(dense.clone(), Finish::Linear)).collect(),
        hidden: from.hidden.iter().map(|layer| (rectified(&layer.dense), residual(layer.residual))).collect(),
        output: Layer::single(from.output.clone(), Finish::Linear),
        mean: from.mean,
        deviation: from.deviation,
        baseline: from.baseline.clone(),
    };
    let mut made = QuantizedNetwork::new(single, network.layout().clone())?;
    if options.dense == DenseForm::None {
        return Ok(made);
    }
    let reach = match calibration {
        Some(inputs) => seen_reach(&made, inputs)?,
        None => reach_by_parts(&made),
    };
    let factors = all_factors(&made.parts, &reach);
    let ranges = match (options.dense, calibration) {
        (DenseForm::Static, Some(inputs)) => Some(ranges(&made, inputs, &factors)?),
        _ => None,
    };
    round_layers(&mut made.parts, factors, ranges.as_deref())?;
    Ok(made)
}

fn round_table(table: &Table, form: TableForm) -> Result<TableRows, ModelError> {
    let bits = match form {
        TableForm::F32 => None,
        TableForm::Int8 => Some(RowBits::Eight),
        TableForm::Int4 => Some(RowBits::Four),
    };
    // Scale and offset weigh as much as one number: a row of one gains nothing.
    let bits = bits.filter(|_| table.dimension > 1);
    let rows = match bits {
        None => Stored::Single(table.weights.clone()),
        Some(bits) => {
            let rounded = QuantizedTable::quantize(&table.weights, table.dimension as usize, bits);
            let wrong = |error: crate::kernels::rows::TableError| ModelError::Parts {
                kind: QuantizedNetwork::KIND,
                what: error.to_string(),
            };
            Stored::Rounded(rounded.map_err(wrong)?)
        }
    };
    Ok(TableRows { ids: table.ids, dimension: table.dimension, place: table.place, rows })
}

/// The largest magnitude of each input over the rows.
fn seen_reach(network: &QuantizedNetwork, inputs: &Inputs) -> Result<Vec<f32>, ModelError> {
    let width = network.parts.baseline.len();
    let (mut reach, mut vector) = (vec![0f32; width], Vec::new());
    for row in 0..inputs.rows {
        network.encode(inputs, row..row + 1, &mut vector)?;
        reach.iter_mut().zip(&vector).for_each(|(reach, value)| *reach = reach.max(value.abs()));
    }
    Ok(reach)
}

/// What is known of it without rows.
fn reach_by_parts(network: &QuantizedNetwork) -> Vec<f32> {
    let parts = &network.parts;
    let mut reach = Vec::with_capacity(parts.baseline.len());
    for numeric in &parts.numeric {
        match numeric {
            Numeric::Plain => reach.push(PLAIN_REACH),
            others => reach.resize(reach.len() + others.width(), 1.0),
        }
    }
    for table in parts.slots.iter().flatten().map(|table| &parts.tables[*table as usize]) {
        let mut largest = vec![0f32; table.dimension as usize];
        for row in table.numbers().chunks_exact(largest.len().max(1)) {
            largest.iter_mut().zip(row).for_each(|(largest, value)| *largest = largest.max(value.abs()));
        }
        reach.extend(largest);
    }
    reach
}

/// For each layer that is to be rounded its factors: those behind the input vector have some, those behind rectified
/// units have none, as such units are alike.
fn all_factors(parts: &Parts, reach: &[f32]) -> Vec<Option<Vec<f32>>> {
    let behind_inputs = parts.cross.len();
    let factors = |(at, layer): (usize, &&Layer)| {
        let Layer::Single(SingleLayer { dense, .. }) = layer else { return None };
        if dense.weights.len() < WEIGHTS_MIN || (dense.outputs as usize) < OUTPUTS_MIN {
            return None;
        }
        Some(if at <= behind_inputs { smoothing(dense, reach) } else { Vec::new() })
    };
    parts.layers().iter().enumerate().map(factors).collect()
}

/// For each input the power of two next to sqrt(largest weight / largest value): what is hard to round is shared between
/// inputs and weights in equal parts.
fn smoothing(dense: &Dense, reach: &[f32]) -> Vec<f32> {
    let rows = dense.weights.chunks_exact(dense.outputs as usize);
    let factor = |(row, reach): (&[f32], &f32)| {
        let largest = row.iter().fold(0f32, |largest, weight| largest.max(weight.abs()));
        let squared = f64::from(largest) / f64::from(*reach);
        // Inputs that are always zero, or ignored, have no say.
        if largest == 0.0 || *reach == 0.0 || !squared.is_finite() { 1.0 } else { power_of_two(squared.sqrt()) }
    };
    rows.zip(reach).map(factor).collect()
}

/// The power of two below, at most 2^30 and at least 2^-30.
fn power_of_two(value: f64) -> f32 {
    let exponent = ((value.to_bits() >> 52) & 0x7ff) as i32 - 1023;
    f32::from_bits(((exponent.clamp(-30, 30) + 127) as u32) << 23)
}

/// The range of each layer's scaled inputs over the rows.
fn ranges(network: &QuantizedNetwork, inputs: &Inputs, factors: &[Option<Vec<f32>>]) -> Result<Vec<Range>, ModelError> {
    let mut ranges = vec![Range { low: 0.0, high: 0.0 }; factors.len()];
    let mut observer = |at: usize, values: &[f32]| {
        let range = &mut ranges[at];
        let mut see = |value: f32| {
            range.low = range.low.min(value);
            range.high = range.high.max(value);
        };
        match &factors[at] {
            Some(factors) if !factors.is_empty() => {
                let rows = values.chunks_exact(factors.len());
                rows.for_each(|row| row.iter().zip(factors).for_each(|(value, factor)| see(value * factor)));
            }
            _ => values.iter().for_each(|value| see(*value)),
        }
    };
    network.sums(inputs, Some(&mut observer), &mut Vec::new())?;
    Ok(ranges)
}

fn round_layers(parts: &mut Parts, factors: Vec<Option<Vec<f32>>>, ranges: Option<&[Range]>) -> Result<(), ModelError> {
    let layers =
        parts.cross.iter_mut().chain(parts.hidden.iter_mut().map(|(layer, _)| layer)).chain([&mut parts.output]);
    for (at, (layer, factors)) in layers.zip(factors).enumerate() {
        let (Layer::Single(single), Some(factors)) = (&*layer, factors) else { continue };
        let (dense, outputs) = (&single.dense, single.dense.outputs as usize);
        let mut weights = dense.weights.clone();
        for (row, factor) in weights.chunks_exact_mut(outputs).zip(&factors) {
            row.iter_mut().for_each(|weight| *weight /= factor);
        }
        let made = Int8Layer::quantize(dense.inputs as usize, outputs, &weights, &dense.bias, single.finish);
        let wrong = |error: crate::kernels::int8::LayerError| ModelError::Parts {
            kind: QuantizedNetwork::KIND,
            what: error.to_string(),
        };
        let range = ranges.map(|ranges| ranges[at]);
        *layer = Layer::Int8(Int8Step { layer: made.map_err(wrong).map_err(own)?, factors, range });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_powers_of_two() {
        assert_eq!(
            [1.0, 1.99, 0.5, 0.3, 1e30, 1e-30, 0.0].map(power_of_two),
            [1.0, 1.0, 0.5, 0.25, (1 << 30) as f32, 1.0 / (1 << 30) as f32, 1.0 / (1 << 30) as f32,]
        );
    }
}
