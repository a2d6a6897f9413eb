//! Models made elsewhere: reads LightGBM text, XGBoost JSON and UBJSON, CatBoost JSON and cbm, and the ONNX files whose
//! operators are known here. What it gives answers with the arithmetic of the library that made the file. Knows neither
//! ONNX Runtime nor HTTP.

mod catboost;
mod error;
mod lightgbm;
mod links;
pub mod onnx;
mod tree_model;
mod xgboost;

#[cfg(test)]
mod damage;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod parity;

pub use error::ImportError;

use crate::tensor::TensorModel;
use std::fmt;

/// What kind of file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    LightgbmText,
    XgboostJson,
    XgboostUbjson,
    CatboostJson,
    CatboostCbm,
    Onnx,
}

impl Format {
    pub fn name(self) -> &'static str {
        match self {
            Format::LightgbmText => "LightGBM text",
            Format::XgboostJson => "XGBoost JSON",
            Format::XgboostUbjson => "XGBoost UBJSON",
            Format::CatboostJson => "CatBoost JSON",
            Format::CatboostCbm => "CatBoost cbm",
            Format::Onnx => "ONNX",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the model predicts, as far as the file tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskHint {
    Binary,
    /// Of this many classes.
    Multiclass(usize),
    Regression,
    Unknown,
}

/// Why an ONNX file cannot run here and needs ONNX Runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// The operator, or the part of the file.
    pub op: String,
    pub why: String,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.op, self.why)
    }
}

/// A file that was read.
pub struct Imported {
    pub format: Format,
    /// None for an ONNX file that needs ONNX Runtime: `unsupported` then says why.
    pub model: Option<Box<dyn TensorModel>>,
    pub unsupported: Option<Unsupported>,
    /// One for each column of the input `input`, where the file names them; for ONNX, the inputs' names.
    pub feature_names: Vec<String>,
    pub task: TaskHint,
    /// The names of the classes, in the order of the outputs; empty where the file has none.
    pub classes: Vec<String>,
    /// What a user should know: defaults taken, differences from the library.
    pub notes: Vec<String>,
}

impl fmt::Debug for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imported")
            .field("format", &self.format)
            .field("signature", &self.model.as_ref().map(|model| model.signature()))
            .field("unsupported", &self.unsupported)
            .field("task", &self.task)
            .field("classes", &self.classes)
            .field("notes", &self.notes)
            .finish_non_exhaustive()
    }
}

/// Reads a model. What it is, its bytes tell; `name`, the file's, is used in errors alone.
pub fn import(name: &str, bytes: &[u8]) -> Result<Imported, ImportError> {
    match sniff(bytes) {
        Some(Format::LightgbmText) => lightgbm::import(bytes),
        Some(Format::XgboostJson) => xgboost::import_json(bytes),
        Some(Format::XgboostUbjson) => xgboost::import_ubjson(bytes),
        Some(Format::CatboostJson) => catboost::import_json(bytes),
        Some(Format::CatboostCbm) => catboost::import_cbm(bytes),
        Some(Format::Onnx) => onnx::import(bytes),
        None => Err(ImportError::Unknown { name: name.to_owned(), begins: begins(bytes) }),
    }
}

/// How far into a file the keys are sought that tell whose JSON it is.
const SNIFF_BYTES: usize = 1 << 16;

/// What the first bytes look like.
pub fn sniff(bytes: &[u8]) -> Option<Format> {
    let start = bytes.iter().position(|byte| !byte.is_ascii_whitespace())?;
    let text = &bytes[start..];
    if bytes.starts_with(b"CBM1") {
        return Some(Format::CatboostCbm);
    }
    if let Some(rest) = text.strip_prefix(b"tree")
        && rest.first().is_some_and(u8::is_ascii_whitespace)
    {
        return Some(Format::LightgbmText);
    }
    if text.starts_with(b"{") {
        return sniff_braces(text);
    }
    onnx::looks_like(bytes).then_some(Format::Onnx)
}

fn sniff_braces(text: &[u8]) -> Option<Format> {
    let head = &text[..text.len().min(SNIFF_BYTES)];
    let has = |key: &[u8]| head.windows(key.len()).any(|window| window == key);
    // UBJSON writes the length of a key, or that the object's size is known, behind the brace.
    if matches!(text.get(1), Some(b'L' | b'l' | b'i' | b'U' | b'I' | b'#' | b'$')) {
        return has(b"learner").then_some(Format::XgboostUbjson);
    }
    if has(b"\"learner\"") || has(b"\"gradient_booster\"") {
        return Some(Format::XgboostJson);
    }
    if has(b"\"oblivious_trees\"") || has(b"\"features_info\"") || has(b"\"model_info\"") {
        return Some(Format::CatboostJson);
    }
    // A long list of attributes may stand before the keys that are sought.
    let whole = |key: &[u8]| text.windows(key.len()).any(|window| window == key);
    if whole(b"\"gradient_booster\"") {
        Some(Format::XgboostJson)
    } else if whole(b"\"oblivious_trees\"") {
        Some(Format::CatboostJson)
    } else {
        None
    }
}

/// The first bytes, for a person.
fn begins(bytes: &[u8]) -> String {
    match bytes {
        [] => "it is empty".to_owned(),
        [0x80, protocol @ 2..=5, ..] => format!("it is a Python pickle (protocol {protocol})"),
        [b'P', b'K', 3, 4, ..] => "it is a zip archive".to_owned(),
        [0x1f, 0x8b, ..] => "it is compressed with gzip".to_owned(),
        _ => {
            let start: String = bytes.iter().take(16).flat_map(|byte| byte.escape_ascii()).map(char::from).collect();
            format!("it begins with {start}")
        }
    }
}
