//! Tensors as models outside the pipeline take and give them, and the trait of such models. The datatypes are those of
//! the Open Inference Protocol v2. Knows no wire format.

use std::fmt;

/// The protocol's names, for each what one element is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Datatype {
    Bool,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Int8,
    Int16,
    Int32,
    Int64,
    /// IEEE half precision.
    Fp16,
    /// The upper half of a single-precision number.
    Bf16,
    Fp32,
    Fp64,
    /// Bytes of any length: text or binary.
    Bytes,
}

impl Datatype {
    pub const ALL: [Datatype; 14] = [
        Datatype::Bool,
        Datatype::Uint8,
        Datatype::Uint16,
        Datatype::Uint32,
        Datatype::Uint64,
        Datatype::Int8,
        Datatype::Int16,
        Datatype::Int32,
        Datatype::Int64,
        Datatype::Fp16,
        Datatype::Bf16,
        Datatype::Fp32,
        Datatype::Fp64,
        Datatype::Bytes,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Datatype::Bool => "BOOL",
            Datatype::Uint8 => "UINT8",
            Datatype::Uint16 => "UINT16",
            Datatype::Uint32 => "UINT32",
            Datatype::Uint64 => "UINT64",
            Datatype::Int8 => "INT8",
            Datatype::Int16 => "INT16",
            Datatype::Int32 => "INT32",
            Datatype::Int64 => "INT64",
            Datatype::Fp16 => "FP16",
            Datatype::Bf16 => "BF16",
            Datatype::Fp32 => "FP32",
            Datatype::Fp64 => "FP64",
            Datatype::Bytes => "BYTES",
        }
    }

    pub fn parse(name: &str) -> Option<Datatype> {
        Datatype::ALL.into_iter().find(|datatype| datatype.name() == name)
    }

    /// Bytes of one element; none where elements differ in length.
    pub fn size(self) -> Option<usize> {
        match self {
            Datatype::Bool | Datatype::Uint8 | Datatype::Int8 => Some(1),
            Datatype::Uint16 | Datatype::Int16 | Datatype::Fp16 | Datatype::Bf16 => Some(2),
            Datatype::Uint32 | Datatype::Int32 | Datatype::Fp32 => Some(4),
            Datatype::Uint64 | Datatype::Int64 | Datatype::Fp64 => Some(8),
            Datatype::Bytes => None,
        }
    }
}

impl fmt::Display for Datatype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The elements of a tensor, row-major. Half-precision numbers are kept as their bits.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    Bool(Vec<bool>),
    Uint8(Vec<u8>),
    Uint16(Vec<u16>),
    Uint32(Vec<u32>),
    Uint64(Vec<u64>),
    Int8(Vec<i8>),
    Int16(Vec<i16>),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Fp16(Vec<u16>),
    Bf16(Vec<u16>),
    Fp32(Vec<f32>),
    Fp64(Vec<f64>),
    Bytes(Vec<Vec<u8>>),
}

/// Evaluates `$body` with `$values` bound to the vector inside, whatever its type.
#[macro_export]
macro_rules! each_data {
    ($data:expr, $values:ident => $body:expr) => {
        match $data {
            $crate::Data::Bool($values) => $body,
            $crate::Data::Uint8($values) => $body,
            $crate::Data::Uint16($values) => $body,
            $crate::Data::Uint32($values) => $body,
            $crate::Data::Uint64($values) => $body,
            $crate::Data::Int8($values) => $body,
            $crate::Data::Int16($values) => $body,
            $crate::Data::Int32($values) => $body,
            $crate::Data::Int64($values) => $body,
            $crate::Data::Fp16($values) => $body,
            $crate::Data::Bf16($values) => $body,
            $crate::Data::Fp32($values) => $body,
            $crate::Data::Fp64($values) => $body,
            $crate::Data::Bytes($values) => $body,
        }
    };
}

impl Data {
    pub fn datatype(&self) -> Datatype {
        match self {
            Data::Bool(_) => Datatype::Bool,
            Data::Uint8(_) => Datatype::Uint8,
            Data::Uint16(_) => Datatype::Uint16,
            Data::Uint32(_) => Datatype::Uint32,
            Data::Uint64(_) => Datatype::Uint64,
            Data::Int8(_) => Datatype::Int8,
            Data::Int16(_) => Datatype::Int16,
            Data::Int32(_) => Datatype::Int32,
            Data::Int64(_) => Datatype::Int64,
            Data::Fp16(_) => Datatype::Fp16,
            Data::Bf16(_) => Datatype::Bf16,
            Data::Fp32(_) => Datatype::Fp32,
            Data::Fp64(_) => Datatype::Fp64,
            Data::Bytes(_) => Datatype::Bytes,
        }
    }

    /// No elements of this type.
    pub fn empty(datatype: Datatype) -> Data {
        match datatype {
            Datatype::Bool => Data::Bool(Vec::new()),
            Datatype::Uint8 => Data::Uint8(Vec::new()),
            Datatype::Uint16 => Data::Uint16(Vec::new()),
            Datatype::Uint32 => Data::Uint32(Vec::new()),
            Datatype::Uint64 => Data::Uint64(Vec::new()),
            Datatype::Int8 => Data::Int8(Vec::new()),
            Datatype::Int16 => Data::Int16(Vec::new()),
            Datatype::Int32 => Data::Int32(Vec::new()),
            Datatype::Int64 => Data::Int64(Vec::new()),
            Datatype::Fp16 => Data::Fp16(Vec::new()),
            Datatype::Bf16 => Data::Bf16(Vec::new()),
            Datatype::Fp32 => Data::Fp32(Vec::new()),
            Datatype::Fp64 => Data::Fp64(Vec::new()),
            Datatype::Bytes => Data::Bytes(Vec::new()),
        }
    }

    pub fn len(&self) -> usize {
        each_data!(self, values => values.len())
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Elements `from..to`.
    pub fn slice(&self, from: usize, to: usize) -> Data {
        let mut part = Data::empty(self.datatype());
        part.extend(self, from, to);
        part
    }

    /// Appends elements `from..to` of `other`, which must have the same datatype.
    pub fn extend(&mut self, other: &Data, from: usize, to: usize) {
        macro_rules! append {
            ($($kind:ident),*) => {
                match (self, other) {
                    $((Data::$kind(mine), Data::$kind(others)) => mine.extend_from_slice(&others[from..to]),)*
                    _ => unreachable!("data of two types is never joined: the batch key holds the datatypes"),
                }
            };
        }
        append!(Bool, Uint8, Uint16, Uint32, Uint64, Int8, Int16, Int32, Int64, Fp16, Bf16, Fp32, Fp64, Bytes);
    }

    /// The elements as the datatype `to`, where every value of this datatype has exactly one there.
    pub fn widened(self, to: Datatype) -> Result<Data, Data> {
        macro_rules! cast {
            ($values:expr, $kind:ident, $type:ty) => {
                Ok(Data::$kind($values.into_iter().map(<$type>::from).collect()))
            };
        }
        match (self, to) {
            (same, to) if same.datatype() == to => Ok(same),
            (Data::Fp32(values), Datatype::Fp64) => cast!(values, Fp64, f64),
            (Data::Int8(values), Datatype::Int16) => cast!(values, Int16, i16),
            (Data::Int8(values), Datatype::Int32) => cast!(values, Int32, i32),
            (Data::Int8(values), Datatype::Int64) => cast!(values, Int64, i64),
            (Data::Int8(values), Datatype::Fp32) => cast!(values, Fp32, f32),
            (Data::Int8(values), Datatype::Fp64) => cast!(values, Fp64, f64),
            (Data::Int16(values), Datatype::Int32) => cast!(values, Int32, i32),
            (Data::Int16(values), Datatype::Int64) => cast!(values, Int64, i64),
            (Data::Int16(values), Datatype::Fp32) => cast!(values, Fp32, f32),
            (Data::Int16(values), Datatype::Fp64) => cast!(values, Fp64, f64),
            (Data::Int32(values), Datatype::Int64) => cast!(values, Int64, i64),
            (Data::Int32(values), Datatype::Fp64) => cast!(values, Fp64, f64),
            (Data::Uint8(values), Datatype::Int16) => cast!(values, Int16, i16),
            (Data::Uint8(values), Datatype::Int32) => cast!(values, Int32, i32),
            (Data::Uint8(values), Datatype::Int64) => cast!(values, Int64, i64),
            (Data::Uint8(values), Datatype::Fp32) => cast!(values, Fp32, f32),
            (Data::Uint8(values), Datatype::Fp64) => cast!(values, Fp64, f64),
            (Data::Uint16(values), Datatype::Int32) => cast!(values, Int32, i32),
            (Data::Uint16(values), Datatype::Int64) => cast!(values, Int64, i64),
            (Data::Uint16(values), Datatype::Fp32) => cast!(values, Fp32, f32),
            (Data::Uint16(values), Datatype::Fp64) => cast!(values, Fp64, f64),
            (Data::Uint32(values), Datatype::Int64) => cast!(values, Int64, i64),
            (Data::Uint32(values), Datatype::Fp64) => cast!(values, Fp64, f64),
            (other, _) => Err(other),
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub name: String,
    pub shape: Vec<usize>,
    pub data: Data,
}

impl Tensor {
    pub fn new(name: impl Into<String>, shape: Vec<usize>, data: Data) -> Tensor {
        Tensor { name: name.into(), shape, data }
    }

    pub fn datatype(&self) -> Datatype {
        self.data.datatype()
    }

    /// Length of the first dimension; 1 for a scalar.
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Elements of one row.
    pub fn row_len(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// Rows `from..to`.
    pub fn slice_rows(&self, from: usize, to: usize) -> Tensor {
        let width = self.row_len();
        let mut shape = self.shape.clone();
        if let Some(rows) = shape.first_mut() {
            *rows = to - from;
        }
        Tensor { name: self.name.clone(), shape, data: self.data.slice(from * width, to * width) }
    }
}

/// Name, datatype and shape of an input or output. -1 is a length that a request chooses.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorSpec {
    pub name: String,
    pub datatype: Datatype,
    pub shape: Vec<i64>,
}

impl TensorSpec {
    /// Whether a tensor of this shape fits.
    pub fn takes(&self, shape: &[usize]) -> bool {
        self.shape.len() == shape.len()
            && self.shape.iter().zip(shape).all(|(wanted, given)| *wanted < 0 || *wanted as usize == *given)
    }
}

/// What a tensor model takes and gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Signature {
    pub inputs: Vec<TensorSpec>,
    pub outputs: Vec<TensorSpec>,
    /// Whether the first dimension of every input and output counts rows that don't touch each other: then requests may
    /// be joined and split along it.
    pub batches: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The caller's inputs are at fault: a client error.
    #[error("{0}")]
    Input(String),
    /// The model or its engine is at fault.
    #[error("the model failed: {0}")]
    Model(String),
}

/// A model whose interface is tensors: imported, without a pipeline of ours.
pub trait TensorModel: Send + Sync {
    fn signature(&self) -> &Signature;

    /// Where it runs, as the protocol's metadata call it: `lightgbm`, `xgboost`, `onnx_native`, `onnxruntime_onnx`, ….
    fn platform(&self) -> &'static str;

    /// Answers with the outputs at the places `wanted` of the signature, in that order. `inputs` are in the signature's
    /// order, with its datatypes and with shapes that it takes.
    fn run(&self, inputs: &[Tensor], wanted: &[usize]) -> Result<Vec<Tensor>, RunError>;

    /// Whether a row gets the same bits whatever rows are beside it: then answers may be cached and joined freely.
    fn exact(&self) -> bool;

    /// Replaces each number of an input row by what the model can tell apart, so that equal results mean equal answers;
    /// false where it does not know how.
    fn canonical(&self, _inputs: &mut [Tensor]) -> bool {
        false
    }

    /// Memory that it holds, in bytes, as far as it is known.
    fn bytes(&self) -> usize;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_out_and_joined_again() {
        let whole = Tensor::new("x", vec![3, 2], Data::Int32(vec![1, 2, 3, 4, 5, 6]));
        let middle = whole.slice_rows(1, 2);
        assert_eq!((middle.shape.as_slice(), &middle.data), (&[1, 2][..], &Data::Int32(vec![3, 4])));
        let mut joined = Data::empty(Datatype::Int32);
        joined.extend(&whole.data, 0, 2);
        joined.extend(&whole.data, 2, 6);
        assert_eq!(joined, whole.data);
    }

    #[test]
    fn only_exact_conversions_are_made() {
        assert_eq!(Data::Fp32(vec![0.1]).widened(Datatype::Fp64), Ok(Data::Fp64(vec![f64::from(0.1f32)])));
        assert!(Data::Fp64(vec![0.1]).widened(Datatype::Fp32).is_err());
        assert!(Data::Int64(vec![1]).widened(Datatype::Fp64).is_err());
    }

    #[test]
    fn names_are_parsed_back() {
        for datatype in Datatype::ALL {
            assert_eq!(Datatype::parse(datatype.name()), Some(datatype));
            assert_eq!(Data::empty(datatype).datatype(), datatype);
        }
    }
}
