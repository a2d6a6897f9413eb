//! The ranges of the tensors that products take, found by running the file with these tensors among its outputs.

use super::build::OUTPUT;
use super::graph::Opened;
use super::weights::{Kind, candidates};
use super::{QuantizeError, WeightRange};
use crate::import::onnx::proto::ValueInfoProto;
use crate::onnxruntime::wire::{Field, Fields, Value, put_bytes};
use crate::onnxruntime::{OnnxOptions, OnnxRuntimeModel};
use crate::tensor::{Data, Tensor, TensorModel};
use prost::Message;
use std::collections::{HashMap, HashSet};

/// How much of the values seen a range holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cut {
    /// All.
    MinMax,
    /// This share of them, such as 0.9999, the rest cut off in equal parts below and above. Keeps all values of one
    /// tensor in memory at a time.
    Share(f64),
}

/// Scale and zero of the bytes for each tensor.
pub(super) struct Ranges {
    by_name: HashMap<String, (f32, u8)>,
}

impl Ranges {
    /// As ONNX has it: value = scale * (byte - zero).
    pub fn steps(&self, name: &str) -> (f32, u8) {
        self.by_name.get(name).copied().unwrap_or((1.0, 0))
    }
}

pub(super) fn find(
    opened: &Opened,
    file: &[u8],
    weights: WeightRange,
    calls: &[Vec<Tensor>],
    cut: Cut,
) -> Result<Ranges, QuantizeError> {
    let wrong = |what: String| Err(QuantizeError::Calibration(what));
    if let Cut::Share(share) = cut
        && !(share > 0.5 && share <= 1.0)
    {
        return wrong(format!("a range cannot hold {share} of the values; take 0.5 to 1"));
    }
    let mut wanted = Vec::new();
    for candidate in candidates(opened, weights).0 {
        let input = &candidate.node.input[0];
        if matches!(candidate.kind, Kind::Product { .. }) && !wanted.contains(input) {
            wanted.push(input.clone());
        }
    }
    if wanted.is_empty() {
        return Ok(Ranges { by_name: HashMap::new() });
    }
    if calls.is_empty() {
        return wrong("there are none".to_owned());
    }
    let model = OnnxRuntimeModel::open(&observed(opened, file, &wanted)?, &OnnxOptions::default())?;
    let mut by_name = HashMap::new();
    for name in wanted {
        let values = values_of(&model, calls, &name)?;
        if let Some(value) = values.iter().find(|value| !value.is_finite()) {
            return wrong(format!("{name} becomes {value}"));
        }
        by_name.insert(name, steps(range(values, cut)));
    }
    Ok(Ranges { by_name })
}

/// All values of a tensor: of the calls themselves where it is an input of the graph.
fn values_of(model: &OnnxRuntimeModel, calls: &[Vec<Tensor>], name: &str) -> Result<Vec<f32>, QuantizeError> {
    let signature = model.signature();
    let input = signature.inputs.iter().position(|spec| spec.name == name);
    let output = signature.outputs.iter().position(|spec| spec.name == name);
    let mut values = Vec::new();
    for call in calls {
        if call.len() != signature.inputs.len() {
            let (given, wanted) = (call.len(), signature.inputs.len());
            return Err(QuantizeError::Calibration(format!("{given} tensors where the file takes {wanted}")));
        }
        let data = match (input, output) {
            (Some(place), _) => call[place].data.clone(),
            (None, Some(place)) => model.run(call, &[place])?.remove(0).data,
            (None, None) => return Err(QuantizeError::Damaged(format!("nothing gives {name}"))),
        };
        let Data::Fp32(part) = data else {
            return Err(QuantizeError::Calibration(format!("{name} is not in single precision")));
        };
        values.extend(part);
    }
    Ok(values)
}

/// The smallest and largest of what is not cut off.
fn range(mut values: Vec<f32>, cut: Cut) -> (f32, f32) {
    let off = match cut {
        Cut::MinMax => 0,
        Cut::Share(share) => (values.len() as f64 * (1.0 - share) / 2.0) as usize,
    };
    if values.is_empty() {
        return (0.0, 0.0);
    }
    let last = values.len() - 1;
    let low = *values.select_nth_unstable_by(off, f32::total_cmp).1;
    let high = *values.select_nth_unstable_by(last - off, f32::total_cmp).1;
    (low, high)
}

/// A byte for each 255th of the range; 0 is among the values.
fn steps((low, high): (f32, f32)) -> (f32, u8) {
    let (low, high) = (low.min(0.0), high.max(0.0));
    let scale = (high - low) / 255.0;
    if scale < f32::MIN_POSITIVE || !scale.is_finite() {
        return (1.0, 0);
    }
    (scale, (-low / scale).round_ties_even().clamp(0.0, 255.0) as u8)
}

/// The file with the tensors `wanted` among its outputs.
fn observed(opened: &Opened, file: &[u8], wanted: &[String]) -> Result<Vec<u8>, QuantizeError> {
    let graph = opened.graph();
    let given = graph.input.iter().chain(&graph.output).map(|value| value.name.as_str());
    let given: HashSet<&str> = given.collect();
    let damaged = |_| QuantizeError::Damaged("its protocol buffer breaks off".to_owned());
    let mut bytes = Vec::with_capacity(file.len() + 1024);
    for field in Fields::of(file) {
        match field.map_err(damaged)? {
            Field { number: 7, value: Value::Bytes(graph), .. } => {
                let mut graph = graph.to_vec();
                for name in wanted.iter().filter(|name| !given.contains(name.as_str())) {
                    let output = ValueInfoProto { name: name.clone(), ..ValueInfoProto::default() };
                    put_bytes(&mut graph, OUTPUT, &output.encode_to_vec());
                }
                put_bytes(&mut bytes, 7, &graph);
            }
            field => bytes.extend_from_slice(field.encoded),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_cuts_off_as_much_below_as_above() {
        let values: Vec<f32> = (0..1000).map(|at| ((at * 7) % 1000) as f32).collect();
        assert_eq!(range(values.clone(), Cut::MinMax), (0.0, 999.0));
        assert_eq!(range(values, Cut::Share(0.99)), (5.0, 994.0));
        assert_eq!(range(Vec::new(), Cut::Share(0.99)), (0.0, 0.0));
    }

    #[test]
    fn zero_is_a_value_of_every_range() {
        assert_eq!(steps((0.0, 255.0)), (1.0, 0));
        assert_eq!(steps((10.0, 255.0)), (1.0, 0));
        assert_eq!(steps((-51.0, 204.0)), (1.0, 51));
        assert_eq!(steps((0.0, 0.0)), (1.0, 0));
    }
}
