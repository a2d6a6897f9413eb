//! Messages with tensors: requests are read from raw or typed contents, answers are written raw.

use super::proto::infer_parameter::ParameterChoice;
use super::proto::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use super::proto::model_infer_response::InferOutputTensor;
use super::proto::{InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse};
use crate::refusal::{Answer, Refusal};
use crate::wire::json::{Read, elements};
use crate::wire::{InferRequest, InferResponse, Parameter, Parameters, Wanted, binary};
use bytes::Bytes;
use inference::{Data, Datatype, Tensor};
use std::collections::HashMap;

pub fn read(message: ModelInferRequest) -> Answer<Read> {
    let ModelInferRequest { id, parameters, inputs, outputs, raw_input_contents: raw, .. } = message;
    if !raw.is_empty() && raw.len() != inputs.len() {
        let (given, wanted) = (raw.len(), inputs.len());
        let what = format!("raw_input_contents has {given} entries for {wanted} inputs; give one for each, in order");
        return Err(Refusal::malformed(what));
    }
    let mut raw = raw.into_iter();
    let inputs: Vec<Tensor> = inputs.into_iter().map(|input| tensor(input, raw.next())).collect::<Answer<_>>()?;
    let request = InferRequest {
        id: (!id.is_empty()).then_some(id),
        parameters: read_parameters("the request", parameters)?,
        outputs: outputs.into_iter().map(wanted).collect::<Answer<_>>()?,
        inputs,
    };
    let nulls = vec![Vec::new(); request.inputs.len()];
    Ok(Read { request, nulls })
}

pub fn write(response: InferResponse) -> ModelInferResponse {
    let mut outputs = Vec::with_capacity(response.outputs.len());
    let mut raw_output_contents = Vec::with_capacity(response.outputs.len());
    for output in response.outputs {
        let mut raw = Vec::with_capacity(binary::size(&output.data));
        binary::write(&output.data, &mut raw);
        raw_output_contents.push(Bytes::from(raw));
        outputs.push(InferOutputTensor {
            datatype: output.datatype().name().to_owned(),
            shape: output.shape.iter().map(|length| *length as i64).collect(),
            name: output.name,
            ..Default::default()
        });
    }
    ModelInferResponse {
        model_name: response.model_name,
        model_version: response.model_version,
        id: response.id.unwrap_or_default(),
        parameters: response.parameters.into_iter().map(|(name, value)| (name, write_parameter(value))).collect(),
        outputs,
        raw_output_contents,
    }
}

fn tensor(input: InferInputTensor, raw: Option<Bytes>) -> Answer<Tensor> {
    let InferInputTensor { name, datatype, shape, parameters, contents } = input;
    no_shared_memory(&format!("input \"{name}\""), &parameters)?;
    let datatype = Datatype::parse(&datatype).ok_or_else(|| {
        let known = Datatype::ALL.map(Datatype::name).join(", ");
        Refusal::malformed(format!("input \"{name}\": \"{datatype}\" is no datatype; there are {known}"))
    })?;
    let lengths: Option<Vec<usize>> = shape.iter().map(|length| usize::try_from(*length).ok()).collect();
    let counted = lengths.and_then(|lengths| elements(&lengths).map(|count| (lengths, count)));
    let (shape, count) = counted.ok_or_else(|| {
        Refusal::malformed(format!("input \"{name}\": shape {shape:?} has a negative length or is too large"))
    })?;
    let contents = contents.unwrap_or_default();
    let data = match raw {
        None => typed(&name, datatype, count, contents)?,
        Some(_) if filled(&contents).next().is_some() => {
            let what = format!("input \"{name}\" has contents beside raw_input_contents; give one of them");
            return Err(Refusal::malformed(what));
        }
        Some(raw) => binary::read(&name, datatype, count, &raw)?,
    };
    Ok(Tensor { name, shape, data })
}

/// The fields that hold elements.
fn filled(contents: &InferTensorContents) -> impl Iterator<Item = &'static str> {
    let fields = [
        ("bool_contents", contents.bool_contents.is_empty()),
        ("int_contents", contents.int_contents.is_empty()),
        ("int64_contents", contents.int64_contents.is_empty()),
        ("uint_contents", contents.uint_contents.is_empty()),
        ("uint64_contents", contents.uint64_contents.is_empty()),
        ("fp32_contents", contents.fp32_contents.is_empty()),
        ("fp64_contents", contents.fp64_contents.is_empty()),
        ("bytes_contents", contents.bytes_contents.is_empty()),
    ];
    fields.into_iter().filter(|(_, empty)| !empty).map(|(field, _)| field)
}

/// The field that holds a datatype's elements.
fn field(datatype: Datatype) -> Option<&'static str> {
    Some(match datatype {
        Datatype::Bool => "bool_contents",
        Datatype::Int8 | Datatype::Int16 | Datatype::Int32 => "int_contents",
        Datatype::Int64 => "int64_contents",
        Datatype::Uint8 | Datatype::Uint16 | Datatype::Uint32 => "uint_contents",
        Datatype::Uint64 => "uint64_contents",
        Datatype::Fp32 => "fp32_contents",
        Datatype::Fp64 => "fp64_contents",
        Datatype::Bytes => "bytes_contents",
        Datatype::Fp16 | Datatype::Bf16 => return None,
    })
}

fn typed(name: &str, datatype: Datatype, count: usize, contents: InferTensorContents) -> Answer<Data> {
    let Some(field) = field(datatype) else {
        let what = format!("input \"{name}\": {datatype} has no typed contents; send it in raw_input_contents");
        return Err(Refusal::malformed(what));
    };
    if let Some(other) = filled(&contents).find(|filled| *filled != field) {
        let what = format!("input \"{name}\": elements are in {other}, those of {datatype} belong in {field}");
        return Err(Refusal::malformed(what));
    }
    let data = match datatype {
        Datatype::Bool => Data::Bool(contents.bool_contents),
        Datatype::Int8 => Data::Int8(narrow(name, datatype, contents.int_contents)?),
        Datatype::Int16 => Data::Int16(narrow(name, datatype, contents.int_contents)?),
        Datatype::Int32 => Data::Int32(contents.int_contents),
        Datatype::Int64 => Data::Int64(contents.int64_contents),
        Datatype::Uint8 => Data::Uint8(narrow(name, datatype, contents.uint_contents)?),
        Datatype::Uint16 => Data::Uint16(narrow(name, datatype, contents.uint_contents)?),
        Datatype::Uint32 => Data::Uint32(contents.uint_contents),
        Datatype::Uint64 => Data::Uint64(contents.uint64_contents),
        Datatype::Fp32 => Data::Fp32(contents.fp32_contents),
        Datatype::Fp64 => Data::Fp64(contents.fp64_contents),
        Datatype::Bytes => Data::Bytes(contents.bytes_contents),
        Datatype::Fp16 | Datatype::Bf16 => unreachable!("they have no field"),
    };
    if data.len() != count {
        let given = data.len();
        let what = format!("input \"{name}\": {given} elements are in {field}, its shape says {count}");
        return Err(Refusal::malformed(what));
    }
    Ok(data)
}

/// Elements of a datatype that is narrower than the field which holds it.
fn narrow<From: Copy + std::fmt::Display, To: TryFrom<From>>(
    name: &str,
    datatype: Datatype,
    values: Vec<From>,
) -> Answer<Vec<To>> {
    let one = |(at, value): (usize, From)| {
        let what = || format!("input \"{name}\": element {at} is {value}, which is no {datatype}");
        To::try_from(value).map_err(|_| Refusal::malformed(what()))
    };
    values.into_iter().enumerate().map(one).collect()
}

fn wanted(output: InferRequestedOutputTensor) -> Answer<Wanted> {
    let InferRequestedOutputTensor { name, parameters } = output;
    let place = format!("output \"{name}\"");
    no_shared_memory(&place, &parameters)?;
    let parameters = read_parameters(&place, parameters)?;
    let classification = parameters.get("classification").and_then(Parameter::as_int);
    let classification = classification.and_then(|k| usize::try_from(k).ok()).filter(|k| *k > 0);
    Ok(Wanted { name, binary: None, classification })
}

fn no_shared_memory(place: &str, parameters: &HashMap<String, InferParameter>) -> Answer<()> {
    if parameters.contains_key("shared_memory_region") {
        return Err(Refusal::malformed(format!("{place}: shared memory is not offered; send tensors in the message")));
    }
    Ok(())
}

fn read_parameters(place: &str, parameters: HashMap<String, InferParameter>) -> Answer<Parameters> {
    let one = |(name, parameter): (String, InferParameter)| {
        let value = match parameter.parameter_choice {
            Some(ParameterChoice::BoolParam(value)) => Parameter::Bool(value),
            Some(ParameterChoice::Int64Param(value)) => Parameter::Int(value),
            Some(ParameterChoice::StringParam(value)) => Parameter::Text(value),
            Some(ParameterChoice::DoubleParam(value)) => Parameter::Float(value),
            // As in JSON.
            Some(ParameterChoice::Uint64Param(value)) => {
                i64::try_from(value).map_or(Parameter::Float(value as f64), Parameter::Int)
            }
            None => return Err(Refusal::malformed(format!("{place}: parameter \"{name}\" has no value"))),
        };
        Ok((name, value))
    };
    parameters.into_iter().map(one).collect()
}

fn write_parameter(value: Parameter) -> InferParameter {
    let choice = match value {
        Parameter::Bool(value) => ParameterChoice::BoolParam(value),
        Parameter::Int(value) => ParameterChoice::Int64Param(value),
        Parameter::Float(value) => ParameterChoice::DoubleParam(value),
        Parameter::Text(value) => ParameterChoice::StringParam(value),
    };
    InferParameter { parameter_choice: Some(choice) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message;

    fn input(datatype: &str, shape: &[i64], contents: InferTensorContents) -> InferInputTensor {
        let (name, datatype) = ("x".to_owned(), datatype.to_owned());
        InferInputTensor { name, datatype, shape: shape.to_vec(), contents: Some(contents), ..Default::default() }
    }

    fn error(inputs: Vec<InferInputTensor>, raw: Vec<&'static [u8]>) -> String {
        let raw_input_contents = raw.into_iter().map(Bytes::from_static).collect();
        let message = ModelInferRequest { inputs, raw_input_contents, ..Default::default() };
        read(message).err().expect("it is refused").error
    }

    #[test]
    fn typed_contents_become_their_datatype() {
        let ints = || InferTensorContents { int_contents: vec![-128, 127], ..Default::default() };
        let uints = || InferTensorContents { uint_contents: vec![0, 255], ..Default::default() };
        let cases = [
            (
                Data::Bool(vec![true, false]),
                InferTensorContents { bool_contents: vec![true, false], ..Default::default() },
            ),
            (Data::Int8(vec![-128, 127]), ints()),
            (Data::Int16(vec![-128, 127]), ints()),
            (Data::Int32(vec![-128, 127]), ints()),
            (
                Data::Int64(vec![i64::MIN, 1]),
                InferTensorContents { int64_contents: vec![i64::MIN, 1], ..Default::default() },
            ),
            (Data::Uint8(vec![0, 255]), uints()),
            (Data::Uint16(vec![0, 255]), uints()),
            (Data::Uint32(vec![0, 255]), uints()),
            (
                Data::Uint64(vec![u64::MAX, 1]),
                InferTensorContents { uint64_contents: vec![u64::MAX, 1], ..Default::default() },
            ),
            (Data::Fp32(vec![0.5, 1.5]), InferTensorContents { fp32_contents: vec![0.5, 1.5], ..Default::default() }),
            (Data::Fp64(vec![0.5, 1.5]), InferTensorContents { fp64_contents: vec![0.5, 1.5], ..Default::default() }),
            (
                Data::Bytes(vec![b"a".to_vec(), vec![]]),
                InferTensorContents { bytes_contents: vec![b"a".to_vec(), vec![]], ..Default::default() },
            ),
        ];
        for (data, contents) in cases {
            let message = ModelInferRequest {
                inputs: vec![input(data.datatype().name(), &[2, 1], contents)],
                ..Default::default()
            };
            let read = read(message).unwrap_or_else(|refusal| panic!("{}", refusal.error));
            assert_eq!(read.request.inputs, [Tensor::new("x", vec![2, 1], data)]);
        }
    }

    #[test]
    fn contents_that_do_not_fit_are_refused_with_their_place() {
        let none = InferTensorContents::default;
        let floats = || InferTensorContents { fp32_contents: vec![1.0], ..Default::default() };
        assert!(error(vec![input("FP32", &[2], floats())], vec![]).contains("1 elements are in fp32_contents"));
        assert!(error(vec![input("FP32", &[1], none())], vec![]).contains("0 elements are in fp32_contents"));
        assert!(error(vec![input("INT64", &[1], floats())], vec![]).contains("belong in int64_contents"));
        assert!(error(vec![input("FP16", &[1], floats())], vec![]).contains("raw_input_contents"));
        assert!(error(vec![input("FP32", &[1], floats())], vec![&[0; 4]]).contains("give one of them"));
        assert!(error(vec![input("FP32", &[1], none())], vec![&[0; 4], &[0; 4]]).contains("2 entries for 1 inputs"));
        assert!(error(vec![input("FP32", &[1], none())], vec![&[0; 3]]).contains("3 bytes are given"));
        assert!(error(vec![input("FP32", &[-1], none())], vec![]).contains("negative"));
        assert!(error(vec![input("FP32", &[i64::MAX, i64::MAX], none())], vec![]).contains("too large"));
        assert!(error(vec![input("FP99", &[1], none())], vec![]).contains("no datatype"));
        let wide = InferTensorContents { int_contents: vec![0, 300], ..Default::default() };
        assert!(error(vec![input("INT8", &[2], wide)], vec![]).contains("element 1 is 300, which is no INT8"));
        let mut shared = input("FP32", &[1], none());
        shared.parameters.insert("shared_memory_region".to_owned(), InferParameter::default());
        assert!(error(vec![shared], vec![]).contains("shared memory is not offered"));
    }

    proptest! {
        #[test]
        fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(message) = ModelInferRequest::decode(&noise[..]) {
                let _ = read(message);
            }
        }
    }
}
