//! Tensors as files keep them.

use super::proto::{ElementType, TensorProto};
use crate::tensor::{Data, Datatype, Tensor};

/// The protocol's name of an element type.
pub(super) fn datatype(element: i32) -> Option<Datatype> {
    Some(match ElementType::try_from(element).ok()? {
        ElementType::Float => Datatype::Fp32,
        ElementType::Double => Datatype::Fp64,
        ElementType::Int8 => Datatype::Int8,
        ElementType::Int16 => Datatype::Int16,
        ElementType::Int32 => Datatype::Int32,
        ElementType::Int64 => Datatype::Int64,
        ElementType::Uint8 => Datatype::Uint8,
        ElementType::Uint16 => Datatype::Uint16,
        ElementType::Uint32 => Datatype::Uint32,
        ElementType::Uint64 => Datatype::Uint64,
        ElementType::Bool => Datatype::Bool,
        ElementType::String => Datatype::Bytes,
        ElementType::Float16 => Datatype::Fp16,
        ElementType::Bfloat16 => Datatype::Bf16,
        ElementType::Undefined | ElementType::Complex64 | ElementType::Complex128 => return None,
    })
}

/// A tensor may have this many elements: one call must not fill the memory.
pub(super) const ELEMENTS_MAX: usize = 1 << 28;

/// The number of elements, where no part of the shape is too large.
pub(super) fn elements(shape: &[usize]) -> Option<usize> {
    let stretched = shape.iter().try_fold(1usize, |count, length| count.checked_mul((*length).max(1)));
    stretched.filter(|count| *count <= ELEMENTS_MAX).map(|_| shape.iter().product())
}

/// A tensor of one of the types that are computed with here; else what is wrong with it.
pub(super) fn read(tensor: &TensorProto) -> Result<Tensor, String> {
    if tensor.data_location != 0 {
        return Err("its elements are in another file".to_owned());
    }
    let shape: Option<Vec<usize>> = tensor.dims.iter().map(|length| usize::try_from(*length).ok()).collect();
    let count = shape.as_deref().and_then(elements);
    let (Some(shape), Some(count)) = (shape, count) else { return Err("its shape cannot be".to_owned()) };
    macro_rules! raw {
        ($type:ty) => {
            tensor.raw_data.chunks_exact(size_of::<$type>()).map(|chunk| {
                let mut bytes = [0; size_of::<$type>()];
                bytes.copy_from_slice(chunk);
                <$type>::from_le_bytes(bytes)
            })
        };
    }
    let in_raw = !tensor.raw_data.is_empty();
    let data = match ElementType::try_from(tensor.data_type) {
        Ok(ElementType::Float) if in_raw => Data::Fp32(raw!(f32).collect()),
        Ok(ElementType::Float) => Data::Fp32(tensor.float_data.clone()),
        Ok(ElementType::Double) if in_raw => Data::Fp64(raw!(f64).collect()),
        Ok(ElementType::Double) => Data::Fp64(tensor.double_data.clone()),
        Ok(ElementType::Int64) if in_raw => Data::Int64(raw!(i64).collect()),
        Ok(ElementType::Int64) => Data::Int64(tensor.int64_data.clone()),
        Ok(ElementType::Int32) if in_raw => Data::Int32(raw!(i32).collect()),
        Ok(ElementType::Int32) => Data::Int32(tensor.int32_data.clone()),
        Ok(ElementType::Bool) if in_raw => Data::Bool(tensor.raw_data.iter().map(|byte| *byte != 0).collect()),
        Ok(ElementType::Bool) => Data::Bool(tensor.int32_data.iter().map(|number| *number != 0).collect()),
        Ok(ElementType::String) => Data::Bytes(tensor.string_data.clone()),
        _ => return Err(format!("its element type {} is not computed with here", tensor.data_type)),
    };
    if data.len() != count {
        return Err(format!("it has {} elements where its shape has {count}", data.len()));
    }
    Ok(Tensor::new(String::new(), shape, data))
}
