//! Models made elsewhere, as versions: the file as it came, with what is known about it, in a bundle; opened by the
//! importers, or by ONNX Runtime where those do not know every operator.

use crate::project::Project;
use anyhow::{Context, Result, bail};
use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use inference::import::{self, TaskHint};
use inference::quantize_onnx;
use inference::{Bundle, Data, Datatype, Signature, Tensor, TensorModel, TensorSpec};
use inference::{OnnxOptions, OnnxRuntimeModel, Rows, check_rows, open_library};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use storage::catalog::Version;
use vocabulary::Digest;

/// Version of the section on disk.
const FORMAT: u32 = 1;
const ABOUT: &str = "imported.json";
const SOURCE: &str = "source";

/// What a bundle says about the file in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct About {
    pub format: u32,
    /// Name of the file that it came from, without its folders.
    pub file: String,
    /// `LightGBM text`, `ONNX`, ….
    pub kind: String,
    /// `binary`, `multiclass`, `regression` or `tensor`.
    pub task: String,
    /// The columns of the only input, where it is a matrix of them.
    pub features: Vec<String>,
    /// Names of the classes, in the order of the outputs.
    pub classes: Vec<String>,
    /// Rows were found to touch each other, whatever their shapes say: requests are never joined or split.
    #[serde(default)]
    pub rows_touch: bool,
}

/// An imported version, opened.
pub struct Opened {
    pub about: About,
    pub model: Box<dyn TensorModel>,
    /// What a user should know.
    pub notes: Vec<String>,
}

/// How ONNX Runtime is to run what needs it.
#[derive(Clone, Copy, Debug)]
pub struct Engine {
    /// Calls at once.
    pub sessions: usize,
}

/// Whether a registered version was imported.
pub fn is_imported(version: &Version) -> bool {
    version.lineage["imported"] == true
}

/// Reads a model file and packs it.
///
/// `names` are those of the input's columns, where the file does not say them.
pub fn pack(file: &str, bytes: &[u8], engine: Engine, names: &[String]) -> Result<(Bundle, Opened)> {
    let mut opened = open_source(file, bytes, engine)?;
    if !names.is_empty() {
        let width = match &opened.model.signature().inputs[..] {
            [only] if only.shape.len() == 2 => only.shape[1],
            _ => bail!("--inputs names the columns of one matrix; {file} has other inputs"),
        };
        if width >= 0 && width as usize != names.len() {
            bail!("--inputs names {} columns, {file} has {width}", names.len());
        }
        opened.about.features = names.to_vec();
    }
    let rows = opened.model.signature().batches.then(|| check_rows(&*opened.model));
    match rows.unwrap_or(Rows::Same) {
        Rows::Dependent { why } => {
            opened.about.rows_touch = true;
            opened.notes.push(format!("an answer depends on the rows beside it ({why}): requests are never joined"));
        }
        Rows::Close { difference } => {
            opened
                .notes
                .push(format!("beside other rows an answer may differ in its last bits (seen: {difference:e})"));
        }
        Rows::Same | Rows::Unknown { .. } => {}
    }
    let sections = BTreeMap::from([Bundle::json_section(ABOUT, &opened.about)?, (SOURCE.to_owned(), bytes.to_vec())]);
    Ok((Bundle::new(sections)?, opened))
}

/// Opens a bundle; every byte is checked first.
pub fn open(bytes: &[u8], engine: Engine) -> Result<Opened> {
    let bundle = Bundle::decode(bytes)?;
    let about: About = bundle.json(ABOUT)?;
    if about.format != FORMAT {
        bail!("the bundle's imported model has format {}, this program reads {FORMAT}", about.format);
    }
    let opened = open_source(&about.file, bundle.section(SOURCE)?, engine)?;
    Ok(Opened { about, ..opened })
}

fn open_source(file: &str, bytes: &[u8], engine: Engine) -> Result<Opened> {
    let imported = import::import(file, bytes).with_context(|| format!("{file} can't be imported"))?;
    let mut notes = imported.notes;
    let model = match imported.model {
        Some(model) => model,
        None => {
            if let Some(why) = &imported.unsupported {
                notes.push(format!("runs on ONNX Runtime ({why})"));
            }
            open_library(None)?;
            let options = OnnxOptions { sessions: engine.sessions, ..OnnxOptions::default() };
            let model = OnnxRuntimeModel::open(bytes, &options).with_context(|| format!("{file} can't be opened"))?;
            notes.extend(model.notes().iter().cloned());
            Box::new(model)
        }
    };
    let task = match imported.task {
        TaskHint::Binary => "binary",
        TaskHint::Multiclass(_) => "multiclass",
        TaskHint::Regression => "regression",
        TaskHint::Unknown => "tensor",
    };
    let matrix = matches!(&model.signature().inputs[..], [only] if only.shape.len() == 2);
    let about = About {
        format: FORMAT,
        file: file.to_owned(),
        kind: imported.format.name().to_owned(),
        task: task.to_owned(),
        features: if matrix { imported.feature_names } else { Vec::new() },
        classes: imported.classes,
        rows_touch: false,
    };
    Ok(Opened { about, model, notes })
}

/// Input tensors from named rows: the columns of a matrix by the features' names, or one column for each input.
pub fn tensors(signature: &Signature, features: &[String], rows: &[Map<String, Value>]) -> Result<Vec<Tensor>, String> {
    let columns = columns(signature, features)?;
    let known: Vec<&str> = columns.iter().flat_map(|(_, names)| names.iter().map(String::as_str)).collect();
    for (place, row) in rows.iter().enumerate() {
        if let Some(stranger) = row.keys().find(|name| !known.contains(&name.as_str())) {
            let hint = vocabulary::suggest::hint(stranger, known.iter().copied());
            return Err(format!("row {place}: the model has no feature \"{stranger}\"{hint}"));
        }
    }
    columns.iter().map(|(spec, names)| tensor(spec, names, rows)).collect()
}

/// The names of all columns that the model reads.
pub fn columns_of(signature: &Signature, features: &[String]) -> Result<Vec<String>, String> {
    Ok(columns(signature, features)?.into_iter().flat_map(|(_, names)| names).collect())
}

/// For each input the names of its columns.
fn columns<'a>(signature: &'a Signature, features: &[String]) -> Result<Vec<(&'a TensorSpec, Vec<String>)>, String> {
    let of = |spec: &'a TensorSpec| match spec.shape[..] {
        [_] | [_, 1] if features.len() <= 1 || signature.inputs.len() > 1 => Ok((spec, vec![spec.name.clone()])),
        [_, width] if signature.inputs.len() == 1 && (width < 0 || width as usize == features.len()) => {
            Ok((spec, features.to_vec()))
        }
        [_, width] if signature.inputs.len() == 1 && features.is_empty() => Err(format!(
            "the model's file does not name the {width} columns of its input \"{}\"; import it with --inputs COL,…, or \
             ask it over /v2 with tensors",
            spec.name
        )),
        _ => Err(format!(
            "input \"{}\" of shape {:?} is no table of named columns; ask it over /v2 with tensors",
            spec.name, spec.shape
        )),
    };
    signature.inputs.iter().map(of).collect()
}

fn tensor(spec: &TensorSpec, names: &[String], rows: &[Map<String, Value>]) -> Result<Tensor, String> {
    let cells =
        || rows.iter().enumerate().flat_map(|(at, row)| names.iter().map(move |name| (at, name, row.get(name))));
    let wrong =
        |at: usize, name: &str, value: &Value| format!("row {at}: column \"{name}\": {value} is no {}", spec.datatype);
    let number = |(at, name, value): (usize, &String, Option<&Value>)| match value {
        None | Some(Value::Null) => Ok(f64::NAN),
        Some(Value::Bool(value)) => Ok(f64::from(u8::from(*value))),
        Some(Value::Number(number)) => Ok(number.as_f64().unwrap_or(f64::NAN)),
        Some(Value::String(text)) if text == "Infinity" => Ok(f64::INFINITY),
        Some(Value::String(text)) if text == "-Infinity" => Ok(f64::NEG_INFINITY),
        Some(other) => Err(wrong(at, name, other)),
    };
    let integer = |(at, name, value): (usize, &String, Option<&Value>)| match value {
        Some(Value::Number(number)) if number.is_i64() => Ok(number.as_i64().unwrap_or_default()),
        Some(Value::Bool(value)) => Ok(i64::from(*value)),
        other => Err(wrong(at, name, other.unwrap_or(&Value::Null))),
    };
    let data = match spec.datatype {
        Datatype::Fp64 => Data::Fp64(cells().map(number).collect::<Result<_, _>>()?),
        Datatype::Fp32 => {
            Data::Fp32(cells().map(|cell| number(cell).map(|value| value as f32)).collect::<Result<_, _>>()?)
        }
        Datatype::Int64 => Data::Int64(cells().map(integer).collect::<Result<_, _>>()?),
        Datatype::Int32 => {
            let narrow = |(at, name, value)| {
                let wide = integer((at, name, value))?;
                i32::try_from(wide).map_err(|_| wrong(at, name, &Value::from(wide)))
            };
            Data::Int32(cells().map(narrow).collect::<Result<_, _>>()?)
        }
        Datatype::Bool => {
            let flag = |(at, name, value): (usize, &String, Option<&Value>)| match value {
                Some(Value::Bool(value)) => Ok(*value),
                other => Err(wrong(at, name, other.unwrap_or(&Value::Null))),
            };
            Data::Bool(cells().map(flag).collect::<Result<_, _>>()?)
        }
        Datatype::Bytes => {
            let text = |(at, name, value): (usize, &String, Option<&Value>)| match value {
                Some(Value::String(text)) => Ok(text.as_bytes().to_vec()),
                other => Err(wrong(at, name, other.unwrap_or(&Value::Null))),
            };
            Data::Bytes(cells().map(text).collect::<Result<_, _>>()?)
        }
        other => return Err(format!("input \"{}\" is {other}; ask it over /v2 with tensors", spec.name)),
    };
    let shape = if spec.shape.len() == 1 { vec![rows.len()] } else { vec![rows.len(), names.len()] };
    Ok(Tensor::new(spec.name.as_str(), shape, data))
}

/// A table's columns as booleans, 64-bit numbers and text, whatever their width was.
pub fn plain(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let mut fields = Vec::new();
    let mut arrays = Vec::new();
    for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
        let kind = match field.data_type() {
            DataType::Boolean => DataType::Boolean,
            kind if kind.is_integer() && *kind != DataType::UInt64 => DataType::Int64,
            kind if kind.is_numeric() => DataType::Float64,
            _ => DataType::Utf8,
        };
        arrays.push(cast(array, &kind)?);
        fields.push(Field::new(field.name(), kind, true));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
}

/// The answer that stands for a model: what `/v1` gives as `value`, and what `--expect` compares.
pub fn primary(signature: &Signature) -> Option<usize> {
    let named = |name: &str| signature.outputs.iter().position(|spec| spec.name == name);
    ["probability", "probabilities", "value"].into_iter().find_map(named).or_else(|| {
        let number = |spec: &TensorSpec| matches!(spec.datatype, Datatype::Fp32 | Datatype::Fp64);
        // Classifiers give labels first and probabilities after them.
        signature.outputs.iter().rposition(number)
    })
}

/// One number a row: of two columns the second (the positive class), otherwise the only one.
pub fn values(output: &Tensor) -> Option<Vec<f64>> {
    let width = output.row_len();
    let all: Vec<f64> = match &output.data {
        Data::Fp32(values) => values.iter().map(|value| f64::from(*value)).collect(),
        Data::Fp64(values) => values.clone(),
        Data::Int64(values) => values.iter().map(|value| *value as f64).collect(),
        _ => return None,
    };
    match width {
        1 => Some(all),
        2 => Some(all.chunks_exact(2).map(|row| row[1]).collect()),
        _ => None,
    }
}

/// The catalog's line for an imported bundle.
pub fn version(model: &str, bundle: &Bundle, opened: &Opened, source: &[u8], seconds: f64) -> Version {
    Version {
        model: model.to_owned(),
        number: 0,
        digest: bundle.digest(),
        learner: opened.model.platform().to_owned(),
        task: opened.about.task.clone(),
        created_at: crate::clock::wall(),
        trained_from: None,
        trained_to: None,
        rows: 0,
        bytes: source.len() as u64,
        seconds,
        metrics: Default::default(),
        lineage: serde_json::json!({
            "imported": true,
            "file": opened.about.file,
            "kind": opened.about.kind,
            "source": Digest::of(source),
            "program": env!("CARGO_PKG_VERSION"),
            "notes": opened.notes,
        }),
        run: None,
    }
}

/// What an imported version says of rows that have its columns: one number a row, or, where `outputs` are asked for, the
/// probability of each class, row-major.
pub fn answers(project: &Project, version: &Version, rows: &RecordBatch, outputs: usize) -> Result<Vec<f64>> {
    const ROWS: usize = 2048;
    let opened = open(&project.blobs().get(&version.digest)?, Engine { sessions: 1 })?;
    let signature = opened.model.signature();
    let output = primary(signature).with_context(|| format!("{} gives no number", version.name()))?;
    let mut all = Vec::with_capacity(rows.num_rows() * outputs);
    for from in (0..rows.num_rows()).step_by(ROWS) {
        let part = rows.slice(from, ROWS.min(rows.num_rows() - from));
        let maps: Vec<Map<String, Value>> = (0..part.num_rows()).map(|row| features::row_to_json(&part, row)).collect();
        let inputs = tensors(signature, &opened.about.features, &maps)
            .map_err(|what| anyhow::anyhow!("{} cannot read the rows: {what}", version.name()))?;
        let said = opened.model.run(&inputs, &[output])?;
        let said = said.first().context("the model gave no output")?;
        let flat = if outputs > 1 && said.row_len() == outputs {
            values(&Tensor::new("", vec![said.data.len()], said.data.clone()))
        } else {
            values(said)
        };
        all.extend(flat.with_context(|| format!("{} gives no number a row", version.name()))?);
    }
    if all.len() != rows.num_rows() * outputs {
        bail!(
            "{} gives {} numbers for {} rows, {outputs} a row are expected",
            version.name(),
            all.len(),
            rows.num_rows()
        );
    }
    Ok(all)
}

/// An imported ONNX version with its weights in 8 bits: the new file's bytes, and what was done in words.
pub fn quantized(project: &Project, version: &Version) -> Result<(About, Vec<u8>, Vec<String>)> {
    let bundle = project.bundle(&version.digest)?;
    let about: About = bundle.json(ABOUT)?;
    if about.kind != "ONNX" {
        bail!("{} is a {} file; only ONNX files have a form in 8 bits", version.name(), about.kind);
    }
    let made = quantize_onnx::quantize_dynamic(bundle.section(SOURCE)?, quantize_onnx::WeightRange::default())
        .with_context(|| format!("{} cannot be quantized", version.name()))?;
    let mut notes = vec![format!("{} operators are in 8 bits", made.report.quantized)];
    notes.extend(
        made.report.left.iter().map(|left| format!("{} ({}) stays as it was: {}", left.node, left.operator, left.why)),
    );
    Ok((about, made.bytes, notes))
}
