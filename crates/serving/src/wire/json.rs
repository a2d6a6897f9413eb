//! Requests and responses as JSON, alone or as the head of a body with binary tensors. Data is read straight into its
//! datatype; what comes before its datatype is known takes a slower way. Numbers that JSON can't write (NaN, infinities)
//! become null; whoever wants their bits asks for binary outputs.

use super::{InferRequest, InferResponse, Parameter, Parameters, Wanted, binary};
use crate::refusal::{Answer, Refusal};
use half::{bf16, f16};
use inference::{Data, Datatype, Tensor, each_data};
use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;

/// The parsed JSON of a request, whose binary tensors are still to come.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Head {
    id: Option<Id>,
    parameters: Option<Parameters>,
    inputs: Vec<InputHead>,
    outputs: Option<Vec<WantedHead>>,
}

/// The protocol says that an id is text; numbers are taken too.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Id {
    Text(String),
    Number(serde_json::Number),
}

#[derive(Debug, Deserialize)]
struct WantedHead {
    name: String,
    #[serde(default)]
    parameters: Option<Parameters>,
}

#[derive(Debug)]
struct InputHead {
    name: String,
    shape: Vec<usize>,
    datatype: Datatype,
    binary_size: Option<usize>,
    values: Option<Values>,
}

/// Elements, and the places of nulls where the datatype has no NaN to stand for them.
#[derive(Debug)]
struct Values {
    data: Data,
    nulls: Vec<usize>,
}

/// A request, and for each input the places that were null in it.
pub struct Read {
    pub request: InferRequest,
    pub nulls: Vec<Vec<usize>>,
}

/// Reads the JSON `head`, and its binary tensors from `blobs`.
pub fn read(head: &[u8], blobs: &[u8]) -> Answer<Read> {
    assembled(parsed(head)?, blobs)
}

/// The same where the binary tensors were read as little-endian words: a single tensor of four-byte numbers is made of
/// them without a copy.
pub fn read_words(head: &[u8], words: Vec<u32>) -> Answer<Read> {
    let mut head = parsed(head)?;
    if let [input] = &mut head.inputs[..]
        && input.values.is_none()
        && input.binary_size == words.len().checked_mul(4)
        && elements(&input.shape) == Some(words.len())
    {
        let data = match input.datatype {
            Datatype::Fp32 => Data::Fp32(words.into_iter().map(f32::from_bits).collect()),
            Datatype::Int32 => Data::Int32(words.into_iter().map(|word| word as i32).collect()),
            Datatype::Uint32 => Data::Uint32(words),
            _ => return assembled(head, &binary::bytes_of(&words)),
        };
        (input.binary_size, input.values) = (None, Some(Values { data, nulls: Vec::new() }));
        return assembled(head, b"");
    }
    assembled(head, &binary::bytes_of(&words))
}

fn parsed(head: &[u8]) -> Answer<Head> {
    serde_json::from_slice(head).or_else(|error| {
        let again = bare_numbers_quoted(head).and_then(|text| serde_json::from_slice(&text).ok());
        again.ok_or_else(|| Refusal::malformed(format!("the body is not an inference request: {error}")))
    })
}

fn assembled(head: Head, blobs: &[u8]) -> Answer<Read> {
    let (mut inputs, mut nulls) = (Vec::with_capacity(head.inputs.len()), Vec::new());
    let mut rest = blobs;
    for input in head.inputs {
        let name = &input.name;
        let count = elements(&input.shape)
            .ok_or_else(|| Refusal::malformed(format!("input \"{name}\": shape {:?} is too large", input.shape)))?;
        let values = match (input.binary_size, input.values) {
            (Some(size), None) => {
                let (blob, after) = rest.split_at_checked(size).ok_or_else(|| {
                    let left = rest.len();
                    let what = format!("input \"{name}\": binary_data_size is {size}, only {left} bytes follow");
                    Refusal::malformed(what)
                })?;
                rest = after;
                Values { data: binary::read(name, input.datatype, count, blob)?, nulls: Vec::new() }
            }
            (None, Some(values)) => values,
            (Some(_), Some(_)) => {
                let what = format!("input \"{name}\" has both data and binary_data_size; give one of them");
                return Err(Refusal::malformed(what));
            }
            (None, None) => {
                let what = format!("input \"{name}\" has no data and no binary_data_size");
                return Err(Refusal::malformed(what));
            }
        };
        if values.data.len() != count {
            let (given, shape) = (values.data.len(), &input.shape);
            let what = format!("input \"{name}\": {given} values are given, its shape {shape:?} says {count}");
            return Err(Refusal::malformed(what));
        }
        inputs.push(Tensor { name: input.name, shape: input.shape, data: values.data });
        nulls.push(values.nulls);
    }
    if !rest.is_empty() {
        return Err(Refusal::malformed(format!("{} bytes follow the last binary tensor", rest.len())));
    }
    let outputs = head.outputs.unwrap_or_default().into_iter().map(wanted).collect();
    let id = head.id.map(|id| match id {
        Id::Text(text) => text,
        Id::Number(number) => number.to_string(),
    });
    let request = InferRequest { id, parameters: head.parameters.unwrap_or_default(), inputs, outputs };
    Ok(Read { request, nulls })
}

fn wanted(head: WantedHead) -> Wanted {
    let parameters = head.parameters.unwrap_or_default();
    let classification = parameters.get("classification").and_then(Parameter::as_int);
    Wanted {
        name: head.name,
        binary: parameters.get("binary_data").and_then(Parameter::as_bool),
        classification: classification.and_then(|k| usize::try_from(k).ok()).filter(|k| *k > 0),
    }
}

/// Product of the lengths; none where it does not fit.
pub fn elements(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |product, length| product.checked_mul(*length))
}

/// Python's writers put NaN, Infinity and -Infinity bare, which is no JSON: the same text with them in quotes, or none
/// where there are none.
fn bare_numbers_quoted(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() + 64);
    let (mut at, mut found) = (0, false);
    while at < text.len() {
        let rest = &text[at..];
        if rest[0] == b'"' {
            let mut end = 1;
            while end < rest.len() && rest[end] != b'"' {
                end += 1 + usize::from(rest[end] == b'\\');
            }
            let end = (end + 1).min(rest.len());
            out.extend_from_slice(&rest[..end]);
            at += end;
            continue;
        }
        let word = [&b"NaN"[..], b"Infinity", b"-Infinity"].into_iter().find(|word| rest.starts_with(word));
        if let Some(word) = word {
            found = true;
            out.push(b'"');
            out.extend_from_slice(word);
            out.push(b'"');
            at += word.len();
        } else {
            out.push(rest[0]);
            at += 1;
        }
    }
    found.then_some(out)
}

impl<'de> Deserialize<'de> for InputHead {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = InputHead;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a tensor with name, datatype, shape and data")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<InputHead, A::Error> {
                let (mut name, mut shape, mut datatype, mut binary_size) = (None::<String>, None, None, None);
                let (mut values, mut untyped) = (None, None::<Value>);
                while let Some(field) = map.next_key::<Cow<'de, str>>()? {
                    match &*field {
                        "name" => name = Some(map.next_value()?),
                        "shape" => shape = Some(map.next_value::<Vec<usize>>()?),
                        "datatype" => {
                            let text: Cow<'de, str> = map.next_value()?;
                            let known = || Datatype::ALL.map(Datatype::name).join(", ");
                            datatype = Some(Datatype::parse(&text).ok_or_else(|| {
                                de::Error::custom(format!("\"{text}\" is no datatype; there are {}", known()))
                            })?);
                        }
                        "parameters" => {
                            let parameters: Option<Parameters> = map.next_value()?;
                            let size = parameters.as_ref().and_then(|p| p.get("binary_data_size"));
                            binary_size = match size {
                                None => None,
                                Some(size) => Some(
                                    size.as_int()
                                        .and_then(|size| usize::try_from(size).ok())
                                        .ok_or_else(|| de::Error::custom("binary_data_size is no number of bytes"))?,
                                ),
                            };
                        }
                        "data" => match datatype {
                            Some(datatype) => values = Some(map.next_value_seed(OfType { datatype, like: &shape })?),
                            None => untyped = Some(map.next_value()?),
                        },
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                let missing = de::Error::missing_field;
                let datatype = datatype.ok_or_else(|| missing("datatype"))?;
                if let Some(value) = untyped {
                    let seed = OfType { datatype, like: &shape };
                    values = Some(seed.deserialize(value).map_err(de::Error::custom)?);
                }
                Ok(InputHead {
                    name: name.ok_or_else(|| missing("name"))?,
                    shape: shape.ok_or_else(|| missing("shape"))?,
                    datatype,
                    binary_size,
                    values,
                })
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// Reads data of one datatype; its shape, where known, says how much to reserve.
struct OfType<'a> {
    datatype: Datatype,
    like: &'a Option<Vec<usize>>,
}

/// More is never reserved on a caller's word.
const RESERVED_ELEMENTS_MAX: usize = 1 << 16;

impl<'de> DeserializeSeed<'de> for OfType<'_> {
    type Value = Values;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Values, D::Error> {
        let count = self.like.as_deref().and_then(elements).unwrap_or(0).min(RESERVED_ELEMENTS_MAX);
        let mut nulls = Vec::new();
        macro_rules! read {
            ($kind:ident, $type:ty) => {{
                let mut values: Vec<$type> = Vec::with_capacity(count);
                deserializer.deserialize_any(Flat { values: &mut values, nulls: &mut nulls })?;
                Data::$kind(values)
            }};
        }
        macro_rules! halves {
            ($kind:ident, $of:expr) => {{
                let mut values: Vec<f32> = Vec::with_capacity(count);
                deserializer.deserialize_any(Flat { values: &mut values, nulls: &mut nulls })?;
                Data::$kind(values.into_iter().map($of).collect())
            }};
        }
        let data = match self.datatype {
            Datatype::Bool => read!(Bool, bool),
            Datatype::Uint8 => read!(Uint8, u8),
            Datatype::Uint16 => read!(Uint16, u16),
            Datatype::Uint32 => read!(Uint32, u32),
            Datatype::Uint64 => read!(Uint64, u64),
            Datatype::Int8 => read!(Int8, i8),
            Datatype::Int16 => read!(Int16, i16),
            Datatype::Int32 => read!(Int32, i32),
            Datatype::Int64 => read!(Int64, i64),
            Datatype::Fp16 => halves!(Fp16, |value| f16::from_f32(value).to_bits()),
            Datatype::Bf16 => halves!(Bf16, |value| bf16::from_f32(value).to_bits()),
            Datatype::Fp32 => read!(Fp32, f32),
            Datatype::Fp64 => read!(Fp64, f64),
            Datatype::Bytes => read!(Bytes, Vec<u8>),
        };
        Ok(Values { data, nulls })
    }
}

/// An element as JSON gives it.
trait Element: Sized {
    const WHAT: &'static str;
    /// What null is; none where it must be remembered beside the data.
    const NULL: Option<Self>;
    fn nothing() -> Self;
    fn of_bool(_: bool) -> Option<Self> {
        None
    }
    fn of_i64(_: i64) -> Option<Self> {
        None
    }
    fn of_u64(_: u64) -> Option<Self> {
        None
    }
    fn of_f64(_: f64) -> Option<Self> {
        None
    }
    fn of_text(_: &str) -> Option<Self> {
        None
    }
}

impl Element for bool {
    const WHAT: &'static str = "BOOL";
    const NULL: Option<bool> = None;
    fn nothing() -> bool {
        false
    }
    fn of_bool(value: bool) -> Option<bool> {
        Some(value)
    }
    fn of_u64(value: u64) -> Option<bool> {
        (value <= 1).then_some(value == 1)
    }
}

macro_rules! integer {
    ($($type:ty, $what:literal);*) => {
        $(impl Element for $type {
            const WHAT: &'static str = $what;
            const NULL: Option<$type> = None;
            fn nothing() -> $type {
                0
            }
            fn of_i64(value: i64) -> Option<$type> {
                value.try_into().ok()
            }
            fn of_u64(value: u64) -> Option<$type> {
                value.try_into().ok()
            }
        })*
    };
}
integer!(u8, "UINT8"; u16, "UINT16"; u32, "UINT32"; u64, "UINT64"; i8, "INT8"; i16, "INT16"; i32, "INT32"; i64, "INT64");

macro_rules! float {
    ($($type:ty, $what:literal);*) => {
        $(impl Element for $type {
            const WHAT: &'static str = $what;
            const NULL: Option<$type> = Some(<$type>::NAN);
            fn nothing() -> $type {
                <$type>::NAN
            }
            fn of_i64(value: i64) -> Option<$type> {
                Some(value as $type)
            }
            fn of_u64(value: u64) -> Option<$type> {
                Some(value as $type)
            }
            fn of_f64(value: f64) -> Option<$type> {
                Some(value as $type)
            }
            fn of_text(value: &str) -> Option<$type> {
                match value {
                    "NaN" => Some(<$type>::NAN),
                    "Infinity" => Some(<$type>::INFINITY),
                    "-Infinity" => Some(<$type>::NEG_INFINITY),
                    _ => None,
                }
            }
        })*
    };
}
float!(f32, "a number"; f64, "a number");

impl Element for Vec<u8> {
    const WHAT: &'static str = "BYTES";
    const NULL: Option<Vec<u8>> = None;
    fn nothing() -> Vec<u8> {
        Vec::new()
    }
    fn of_text(value: &str) -> Option<Vec<u8>> {
        Some(value.as_bytes().to_vec())
    }
}

/// Appends elements from arrays in arrays.
struct Flat<'a, T> {
    values: &'a mut Vec<T>,
    nulls: &'a mut Vec<usize>,
}

impl<T: Element> Flat<'_, T> {
    fn push<E: de::Error>(self, value: Option<T>, given: impl fmt::Display) -> Result<(), E> {
        match value {
            Some(value) => {
                self.values.push(value);
                Ok(())
            }
            None => Err(E::custom(format!("{given} is no {}", T::WHAT))),
        }
    }
}

impl<'de, T: Element> Visitor<'de> for Flat<'_, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} or an array of them", T::WHAT)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Flat { values, nulls } = self;
        while seq.next_element_seed(Flat { values: &mut *values, nulls: &mut *nulls })?.is_some() {}
        Ok(())
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.push(T::of_bool(value), value)
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.push(T::of_i64(value), value)
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        self.push(T::of_u64(value), value)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        self.push(T::of_f64(value), value)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<(), E> {
        self.push(T::of_text(value), format_args!("{value:?}"))
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        let value = T::NULL.unwrap_or_else(|| {
            self.nulls.push(self.values.len());
            T::nothing()
        });
        self.values.push(value);
        Ok(())
    }
}

impl<'de, T: Element> DeserializeSeed<'de> for Flat<'_, T> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// A response's body: JSON, then the outputs for which `binary` says so. Returns the length of the JSON where there are
/// such.
pub fn write(response: &InferResponse, is_binary: impl Fn(&str) -> bool) -> Answer<(Vec<u8>, Option<usize>)> {
    let text = |out: &mut Vec<u8>, value: &str| put(out, &value);
    let mut out = Vec::with_capacity(256 + response.outputs.iter().map(|o| binary::size(&o.data)).sum::<usize>());
    out.extend_from_slice(b"{\"model_name\":");
    text(&mut out, &response.model_name);
    out.extend_from_slice(b",\"model_version\":");
    text(&mut out, &response.model_version);
    if let Some(id) = &response.id {
        out.extend_from_slice(b",\"id\":");
        text(&mut out, id);
    }
    if !response.parameters.is_empty() {
        out.extend_from_slice(b",\"parameters\":");
        put(&mut out, &response.parameters);
    }
    out.extend_from_slice(b",\"outputs\":[");
    let mut blobs = Vec::new();
    for (place, output) in response.outputs.iter().enumerate() {
        if place > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"name\":");
        text(&mut out, &output.name);
        out.extend_from_slice(b",\"datatype\":\"");
        out.extend_from_slice(output.datatype().name().as_bytes());
        out.extend_from_slice(b"\",\"shape\":");
        put(&mut out, &output.shape);
        if is_binary(&output.name) {
            out.extend_from_slice(b",\"parameters\":{\"binary_data_size\":");
            put(&mut out, &binary::size(&output.data));
            out.extend_from_slice(b"}}");
            blobs.push(&output.data);
        } else {
            out.extend_from_slice(b",\"data\":");
            numbers(&output.name, &output.data, &mut out)?;
            out.push(b'}');
        }
    }
    out.extend_from_slice(b"]}");
    if blobs.is_empty() {
        return Ok((out, None));
    }
    let head = out.len();
    blobs.into_iter().for_each(|data| binary::write(data, &mut out));
    Ok((out, Some(head)))
}

fn put<T: serde::Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    // Writing to memory does not fail, and these values have a JSON form.
    let _ = serde_json::to_writer(out, value);
}

fn numbers(name: &str, data: &Data, out: &mut Vec<u8>) -> Answer<()> {
    match data {
        Data::Bytes(values) => {
            let texts: Result<Vec<&str>, _> = values.iter().map(|value| std::str::from_utf8(value)).collect();
            let texts = texts.map_err(|_| {
                let what = format!("output \"{name}\" holds bytes that are no text; ask for it as binary data");
                Refusal::malformed(what)
            })?;
            put(out, &texts);
        }
        Data::Fp16(values) => put(out, &values.iter().map(|v| f16::from_bits(*v).to_f32()).collect::<Vec<_>>()),
        Data::Bf16(values) => put(out, &values.iter().map(|v| bf16::from_bits(*v).to_f32()).collect::<Vec<_>>()),
        data => each_data!(data, values => put(out, values)),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> Answer<InferRequest> {
        read(text.as_bytes(), b"").map(|read| read.request)
    }

    #[test]
    fn data_comes_nested_or_flat_before_or_after_its_datatype() {
        for text in [
            r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[2,2],"data":[1,2.5,-3,null]}]}"#,
            r#"{"inputs":[{"name":"x","data":[[1,2.5],[-3,NaN]],"shape":[2,2],"datatype":"FP32"}]}"#,
        ] {
            let request = parsed(text).unwrap();
            let Data::Fp32(values) = &request.inputs[0].data else { panic!("{request:?}") };
            assert_eq!(values[..3], [1.0, 2.5, -3.0]);
            assert!(values[3].is_nan());
        }
    }

    #[test]
    fn infinities_are_read_and_strings_left_alone() {
        let text = r#"{"id":"a NaN \" b","inputs":[{"name":"x","datatype":"FP64","shape":[3],"data":[-Infinity,Infinity,NaN]}]}"#;
        let request = parsed(text).unwrap();
        assert_eq!(request.id.as_deref(), Some("a NaN \" b"));
        let Data::Fp64(values) = &request.inputs[0].data else { panic!() };
        assert_eq!(values[..2], [f64::NEG_INFINITY, f64::INFINITY]);
    }

    #[test]
    fn words_become_a_tensor_or_are_bytes_again() {
        let input = |datatype: &str, rows: usize, size: usize| {
            format!(
                r#"{{"name":"x","shape":[{rows},2],"datatype":"{datatype}","parameters":{{"binary_data_size":{size}}}}}"#
            )
        };
        let values = [0.5f32, f32::NAN, -0.0, 3e38];
        let words: Vec<u32> = values.iter().map(|value| value.to_bits()).collect();
        let bytes = binary::bytes_of(&words);
        let heads = [
            format!(r#"{{"inputs":[{}]}}"#, input("FP32", 2, 16)),
            format!(r#"{{"inputs":[{}]}}"#, input("INT32", 2, 16)),
            format!(r#"{{"inputs":[{}]}}"#, input("UINT32", 2, 16)),
            format!(r#"{{"inputs":[{}]}}"#, input("FP64", 1, 16)),
            format!(r#"{{"inputs":[{},{}]}}"#, input("FP32", 1, 8), input("UINT8", 4, 8)),
        ];
        for head in heads {
            let (ours, plain) = (read_words(head.as_bytes(), words.clone()), read(head.as_bytes(), &bytes));
            let written = |read: Answer<Read>| -> Vec<(Datatype, Vec<usize>, Vec<u8>)> {
                let bytes = |data: &Data| {
                    let mut out = Vec::new();
                    binary::write(data, &mut out);
                    out
                };
                let inputs = read.unwrap_or_else(|refusal| panic!("{head}: {}", refusal.error)).request.inputs;
                inputs.into_iter().map(|input| (input.datatype(), input.shape.clone(), bytes(&input.data))).collect()
            };
            assert_eq!(written(ours), written(plain));
        }
        for wrong in [input("FP32", 3, 16), input("FP32", 2, 12), input("FP32", 2, 20)] {
            let head = format!(r#"{{"inputs":[{wrong}]}}"#);
            let told = |read: Answer<Read>| read.map(|_| ()).unwrap_err().error;
            assert_eq!(told(read_words(head.as_bytes(), words.clone())), told(read(head.as_bytes(), &bytes)));
        }
    }

    #[test]
    fn errors_say_what_is_wrong() {
        let check = |text: &str, what: &str| {
            let error = parsed(text).unwrap_err();
            assert_eq!(error.status, 400);
            assert!(error.error.contains(what), "{}", error.error);
        };
        let input = |rest: &str| format!(r#"{{"inputs":[{{"name":"x",{rest}}}]}}"#);
        check("{", "not an inference request");
        check(&input(r#""datatype":"FP33","shape":[1],"data":[1]"#), "\"FP33\" is no datatype; there are BOOL");
        check(&input(r#""datatype":"UINT8","shape":[1],"data":[256]"#), "256 is no UINT8");
        check(&input(r#""datatype":"INT64","shape":[1],"data":[1.5]"#), "1.5 is no INT64");
        check(&input(r#""datatype":"BYTES","shape":[1],"data":[1]"#), "1 is no BYTES");
        check(&input(r#""datatype":"FP32","shape":[2],"data":[1]"#), "1 values are given, its shape [2] says 2");
        check(&input(r#""datatype":"FP32","shape":[1]"#), "no data");
        check(&input(r#""datatype":"FP32","shape":[4294967296,4294967296],"data":[1]"#), "too large");
        check(&input(r#""datatype":"FP32","shape":[-1],"data":[1]"#), "not an inference request");
        check(&input(r#""datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}"#), "only 0 bytes follow");
    }

    #[test]
    fn nulls_without_nan_are_remembered() {
        let text = r#"{"inputs":[{"name":"x","datatype":"BYTES","shape":[3],"data":["a",null,""]}]}"#;
        assert_eq!(read(text.as_bytes(), b"").unwrap().nulls, [vec![1]]);
    }

    #[test]
    fn responses_are_json_whatever_the_numbers() {
        let outputs = vec![
            Tensor::new("a", vec![3], Data::Fp32(vec![0.1, f32::NAN, f32::INFINITY])),
            Tensor::new("b", vec![1], Data::Bytes(vec![b"\"x".to_vec()])),
            Tensor::new("c", vec![1], Data::Fp16(vec![0x3c00])),
        ];
        let response =
            InferResponse { model_name: "m\"".into(), model_version: "1".into(), outputs, ..Default::default() };
        let (text, head) = write(&response, |_| false).unwrap();
        let value: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!((head, &value["outputs"][0]["data"]), (None, &serde_json::json!([0.1, null, null])));
        assert_eq!((&value["outputs"][1]["data"][0], &value["outputs"][2]["data"][0]), (&"\"x".into(), &1.0.into()));
        let (body, head) = write(&response, |name| name == "a").unwrap();
        let value: Value = serde_json::from_slice(&body[..head.unwrap()]).unwrap();
        assert_eq!(value["outputs"][0]["parameters"]["binary_data_size"], 12);
        assert_eq!(body.len() - head.unwrap(), 12);
    }

    proptest! {
        #[test]
        fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&noise, b"");
            let _ = bare_numbers_quoted(&noise);
        }
    }
}
