//! The Open Inference Protocol v2 as the data plane sees it: requests and responses without the form that they had on
//! the wire. `json`, `binary` and `grpc` make these and are made from them.

pub mod binary;
pub mod json;

use inference::Tensor;
use serde::de::{self, Deserializer, Visitor};
use serde::ser::Serializer;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A value of the protocol's `parameters`.
#[derive(Clone, Debug, PartialEq)]
pub enum Parameter {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

pub type Parameters = BTreeMap<String, Parameter>;

impl Parameter {
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Parameter::Bool(value) => Some(*value),
            _ => None,
        }
    }

    pub fn as_int(&self) -> Option<i64> {
        match self {
            Parameter::Int(value) => Some(*value),
            Parameter::Float(value) if value.fract() == 0.0 && value.abs() < 9e15 => Some(*value as i64),
            _ => None,
        }
    }

    /// The value as text that is the same for the same value, for keys.
    pub fn canonical(&self) -> String {
        match self {
            Parameter::Bool(value) => format!("b{value}"),
            Parameter::Int(value) => format!("i{value}"),
            Parameter::Float(value) => format!("f{:x}", value.to_bits()),
            Parameter::Text(value) => format!("s{value}"),
        }
    }
}

impl<'de> Deserialize<'de> for Parameter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl Visitor<'_> for Any {
            type Value = Parameter;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a parameter: a string, a number or a boolean")
            }
            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Parameter, E> {
                Ok(Parameter::Bool(value))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Parameter, E> {
                Ok(Parameter::Int(value))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Parameter, E> {
                Ok(i64::try_from(value).map_or(Parameter::Float(value as f64), Parameter::Int))
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Parameter, E> {
                Ok(Parameter::Float(value))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<Parameter, E> {
                Ok(Parameter::Text(value.to_owned()))
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl Serialize for Parameter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Parameter::Bool(value) => serializer.serialize_bool(*value),
            Parameter::Int(value) => serializer.serialize_i64(*value),
            Parameter::Float(value) => serializer.serialize_f64(*value),
            Parameter::Text(value) => serializer.serialize_str(value),
        }
    }
}

/// An output that a request asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    pub name: String,
    /// Whether it is to come as binary; the request's own wish when none.
    pub binary: Option<bool>,
    /// Instead of the numbers, the largest so many as `value:index` text (the protocol's classification extension).
    pub classification: Option<usize>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct InferRequest {
    pub id: Option<String>,
    pub parameters: Parameters,
    pub inputs: Vec<Tensor>,
    /// All outputs when empty.
    pub outputs: Vec<Wanted>,
}

impl InferRequest {
    /// Whether an output without a wish of its own is to come as binary.
    pub fn binary_output(&self) -> bool {
        self.parameters.get("binary_data_output").and_then(Parameter::as_bool).unwrap_or(false)
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct InferResponse {
    pub model_name: String,
    pub model_version: String,
    pub id: Option<String>,
    pub parameters: Parameters,
    pub outputs: Vec<Tensor>,
}

/// Parameters that say how to deliver, not what to compute: no part of an answer's identity.
pub const DELIVERY_PARAMETERS: [&str; 5] = ["binary_data_output", "priority", "timeout", "headers", "content_type"];
