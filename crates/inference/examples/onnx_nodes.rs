//! Runs the ONNX standard's node tests on our ONNX Runtime engine, in this process. The tests are what
//! `scripts/conformance/onnx_nodes.py models FOLDER` writes; then `cargo run --release -p inference --example
//! onnx_nodes FOLDER`. Ends with 1 where a test fails.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use half::{bf16, f16};
use inference::{
    Data, Datatype, OnnxOptions, OnnxRuntimeModel, Rows, Tensor, TensorModel, TensorSpec, check_rows, open_library,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    rtol: f64,
    atol: f64,
    sets: Vec<Set>,
}

#[derive(Deserialize)]
struct Set {
    inputs: Vec<Described>,
    outputs: Vec<Described>,
}

#[derive(Deserialize)]
struct Described {
    name: String,
    datatype: String,
    shape: Vec<usize>,
    from: usize,
    to: usize,
}

fn main() -> ExitCode {
    let Some(folder) = std::env::args().nth(1) else {
        eprintln!("usage: onnx_nodes FOLDER");
        return ExitCode::from(2);
    };
    match open_library(None) {
        Ok(library) => println!("ONNX Runtime {} in {}", library.version, library.path.display()),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    let mut files: Vec<PathBuf> =
        fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "onnx"));
    files.sort();
    let mut failed = 0;
    let mut batches = 0;
    let mut rows = BTreeMap::new();
    for file in &files {
        match check(file) {
            Ok(model) if model.signature().batches => {
                batches += 1;
                let kind = match check_rows(&model) {
                    Rows::Same => "the same bits",
                    Rows::Close { .. } => "close",
                    Rows::Dependent { .. } => "dependent",
                    Rows::Unknown { .. } => "unknown",
                };
                *rows.entry(kind).or_insert(0) += 1;
            }
            Ok(_) => {}
            Err(why) => {
                failed += 1;
                println!("{}: {why}", file.file_stem().unwrap_or_default().display());
            }
        }
    }
    println!(
        "{} passed, {failed} failed; {batches} say that they batch, of which by trial: {rows:?}",
        files.len() - failed
    );
    if failed == 0 && !files.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn check(file: &Path) -> Result<OnnxRuntimeModel, String> {
    let read = |extension: &str| fs::read(file.with_extension(extension)).map_err(|error| error.to_string());
    let case: Case = serde_json::from_slice(&read("json")?).map_err(|error| error.to_string())?;
    let raw = read("bin")?;
    let model = OnnxRuntimeModel::open(&read("onnx")?, &OnnxOptions::default()).map_err(|error| error.to_string())?;
    for set in &case.sets {
        let inputs: Vec<Tensor> = set.inputs.iter().map(|input| tensor(input, &raw)).collect();
        signed(&inputs, &model.signature().inputs)?;
        let wanted: Vec<usize> = (0..set.outputs.len()).collect();
        let got = model.run(&inputs, &wanted).map_err(|error| error.to_string())?;
        signed(&got, &model.signature().outputs)?;
        for (got, wanted) in got.iter().zip(&set.outputs) {
            compare(got, &tensor(wanted, &raw), case.rtol, case.atol)?;
        }
    }
    Ok(model)
}

fn signed(tensors: &[Tensor], specs: &[TensorSpec]) -> Result<(), String> {
    if tensors.len() != specs.len() {
        return Err(format!("{} tensors for {} in the signature", tensors.len(), specs.len()));
    }
    let misses = |(tensor, spec): &(&Tensor, &TensorSpec)| {
        tensor.name != spec.name || tensor.datatype() != spec.datatype || !spec.takes(&tensor.shape)
    };
    match tensors.iter().zip(specs).find(misses) {
        Some((tensor, spec)) => Err(format!("{} of {:?} against {spec:?}", tensor.name, tensor.shape)),
        None => Ok(()),
    }
}

fn tensor(described: &Described, raw: &[u8]) -> Tensor {
    let mut raw = &raw[described.from..described.to];
    macro_rules! numbers {
        ($kind:ident, $type:ty) => {
            Data::$kind(
                raw.chunks_exact(size_of::<$type>())
                    .map(|bytes| <$type>::from_le_bytes(bytes.try_into().unwrap_or_default()))
                    .collect(),
            )
        };
    }
    let data = match Datatype::parse(&described.datatype).unwrap_or(Datatype::Bytes) {
        Datatype::Bool => Data::Bool(raw.iter().map(|byte| *byte != 0).collect()),
        Datatype::Uint8 => numbers!(Uint8, u8),
        Datatype::Uint16 => numbers!(Uint16, u16),
        Datatype::Uint32 => numbers!(Uint32, u32),
        Datatype::Uint64 => numbers!(Uint64, u64),
        Datatype::Int8 => numbers!(Int8, i8),
        Datatype::Int16 => numbers!(Int16, i16),
        Datatype::Int32 => numbers!(Int32, i32),
        Datatype::Int64 => numbers!(Int64, i64),
        Datatype::Fp16 => numbers!(Fp16, u16),
        Datatype::Bf16 => numbers!(Bf16, u16),
        Datatype::Fp32 => numbers!(Fp32, f32),
        Datatype::Fp64 => numbers!(Fp64, f64),
        Datatype::Bytes => {
            let mut texts = Vec::new();
            while let Some((length, rest)) = raw.split_first_chunk::<4>() {
                let (text, rest) = rest.split_at(u32::from_le_bytes(*length) as usize);
                texts.push(text.to_vec());
                raw = rest;
            }
            Data::Bytes(texts)
        }
    };
    Tensor::new(described.name.clone(), described.shape.clone(), data)
}

fn compare(got: &Tensor, wanted: &Tensor, relative: f64, absolute: f64) -> Result<(), String> {
    if got.shape != wanted.shape || got.datatype() != wanted.datatype() {
        return Err(format!(
            "{} is {:?} {}, not {:?} {}",
            got.name,
            got.shape,
            got.datatype(),
            wanted.shape,
            wanted.datatype()
        ));
    }
    // Two steps of bfloat16, as the standard's own tests allow.
    let relative = if got.datatype() == Datatype::Bf16 { relative.max(2f64.powi(-6)) } else { relative };
    let close =
        |(a, b): (&f64, &f64)| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= absolute + relative * b.abs();
    let same = match (numbers(&got.data), numbers(&wanted.data)) {
        (Some(got), Some(wanted)) => got.iter().zip(&wanted).all(close),
        _ => got.data == wanted.data,
    };
    if same { Ok(()) } else { Err(format!("{} differs", got.name)) }
}

fn numbers(data: &Data) -> Option<Vec<f64>> {
    match data {
        Data::Fp16(bits) => Some(bits.iter().map(|bits| f16::from_bits(*bits).to_f64()).collect()),
        Data::Bf16(bits) => Some(bits.iter().map(|bits| bf16::from_bits(*bits).to_f64()).collect()),
        Data::Fp32(values) => Some(values.iter().map(|value| f64::from(*value)).collect()),
        Data::Fp64(values) => Some(values.clone()),
        _ => None,
    }
}
