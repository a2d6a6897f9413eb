//! Tensors to ONNX Runtime's values and back. Numbers go in without a copy and come out with one.

use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};
use ort::session::SessionInputValue;
use ort::value::{DynValue, PrimitiveTensorElementType, Shape, TensorElementType, TensorRef};

use crate::{Data, Datatype, RunError, Tensor};

/// The protocol's datatype of ONNX Runtime's; none for those that the protocol lacks.
pub(super) fn datatype_of(element: TensorElementType) -> Option<Datatype> {
    Some(match element {
        TensorElementType::Bool => Datatype::Bool,
        TensorElementType::Uint8 => Datatype::Uint8,
        TensorElementType::Uint16 => Datatype::Uint16,
        TensorElementType::Uint32 => Datatype::Uint32,
        TensorElementType::Uint64 => Datatype::Uint64,
        TensorElementType::Int8 => Datatype::Int8,
        TensorElementType::Int16 => Datatype::Int16,
        TensorElementType::Int32 => Datatype::Int32,
        TensorElementType::Int64 => Datatype::Int64,
        TensorElementType::Float16 => Datatype::Fp16,
        TensorElementType::Bfloat16 => Datatype::Bf16,
        TensorElementType::Float32 => Datatype::Fp32,
        TensorElementType::Float64 => Datatype::Fp64,
        TensorElementType::String => Datatype::Bytes,
        _ => return None,
    })
}

/// The value that borrows a tensor's elements; text is copied.
pub(super) fn borrowed(tensor: &Tensor) -> Result<SessionInputValue<'_>, RunError> {
    match &tensor.data {
        Data::Bool(values) => numbers(tensor, values),
        Data::Uint8(values) => numbers(tensor, values),
        Data::Uint16(values) => numbers(tensor, values),
        Data::Uint32(values) => numbers(tensor, values),
        Data::Uint64(values) => numbers(tensor, values),
        Data::Int8(values) => numbers(tensor, values),
        Data::Int16(values) => numbers(tensor, values),
        Data::Int32(values) => numbers(tensor, values),
        Data::Int64(values) => numbers(tensor, values),
        Data::Fp16(bits) => numbers::<f16>(tensor, bits.reinterpret_cast()),
        Data::Bf16(bits) => numbers::<bf16>(tensor, bits.reinterpret_cast()),
        Data::Fp32(values) => numbers(tensor, values),
        Data::Fp64(values) => numbers(tensor, values),
        Data::Bytes(values) => text(tensor, values),
    }
}

fn numbers<'a, T>(tensor: &'a Tensor, values: &'a [T]) -> Result<SessionInputValue<'a>, RunError>
where
    T: PrimitiveTensorElementType + std::fmt::Debug + Clone + 'static,
{
    TensorRef::from_array_view((tensor.shape.as_slice(), values))
        .map(SessionInputValue::from)
        .map_err(|error| unfit(tensor, &error.to_string()))
}

/// ONNX's strings are text, and the C interface ends them at a zero byte.
fn text(tensor: &Tensor, values: &[Vec<u8>]) -> Result<SessionInputValue<'static>, RunError> {
    let mut texts = Vec::with_capacity(values.len());
    for (place, value) in values.iter().enumerate() {
        match std::str::from_utf8(value) {
            Ok(text) if !value.contains(&0) => texts.push(text.to_owned()),
            _ => return Err(unfit(tensor, &format!("element {place} is not UTF-8 text without zero bytes"))),
        }
    }
    ort::value::Tensor::from_string_array((tensor.shape.as_slice(), texts.as_slice()))
        .map(SessionInputValue::from)
        .map_err(|error| unfit(tensor, &error.to_string()))
}

fn unfit(tensor: &Tensor, why: &str) -> RunError {
    RunError::Input(format!("input {:?}: {why}", tensor.name))
}

/// A copy of an output's elements.
pub(super) fn copied(name: &str, value: &DynValue) -> Result<Tensor, String> {
    macro_rules! copy {
        ($kind:ident, $type:ty) => {
            value.try_extract_tensor::<$type>().map(|(shape, values)| (shape, Data::$kind(values.to_vec())))
        };
    }
    let datatype = value.dtype().tensor_type().and_then(datatype_of);
    let datatype = datatype.ok_or_else(|| format!("output {name:?} is {}", value.dtype()))?;
    let extracted = match datatype {
        Datatype::Bool => copy!(Bool, bool),
        Datatype::Uint8 => copy!(Uint8, u8),
        Datatype::Uint16 => copy!(Uint16, u16),
        Datatype::Uint32 => copy!(Uint32, u32),
        Datatype::Uint64 => copy!(Uint64, u64),
        Datatype::Int8 => copy!(Int8, i8),
        Datatype::Int16 => copy!(Int16, i16),
        Datatype::Int32 => copy!(Int32, i32),
        Datatype::Int64 => copy!(Int64, i64),
        Datatype::Fp16 => value
            .try_extract_tensor::<f16>()
            .map(|(shape, values)| (shape, Data::Fp16(values.reinterpret_cast().to_vec()))),
        Datatype::Bf16 => value
            .try_extract_tensor::<bf16>()
            .map(|(shape, values)| (shape, Data::Bf16(values.reinterpret_cast().to_vec()))),
        Datatype::Fp32 => copy!(Fp32, f32),
        Datatype::Fp64 => copy!(Fp64, f64),
        Datatype::Bytes => value
            .try_extract_strings()
            .map(|(shape, texts)| (shape, Data::Bytes(texts.into_iter().map(String::into_bytes).collect()))),
    };
    let (shape, data) = extracted.map_err(|error| format!("output {name:?}: {error}"))?;
    Ok(Tensor::new(name, lengths(shape), data))
}

fn lengths(shape: &Shape) -> Vec<usize> {
    shape.iter().map(|length| *length as usize).collect()
}
