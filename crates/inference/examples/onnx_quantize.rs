//! Quantizes an ONNX file, says what stayed and why, and times both on ONNX Runtime:
//! `cargo run --release -p inference --example onnx_quantize FILE dynamic|static reduced|full [NEW_FILE]`. Rows are made
//! up; a calibration for use needs real ones.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use inference::quantize_onnx::{Cut, WeightRange, quantize_dynamic, quantize_static};
use inference::{Data, Datatype, OnnxOptions, OnnxRuntimeModel, Tensor, TensorModel};

/// How long each batch size is repeated for.
const LASTING: Duration = Duration::from_secs(1);

const CALIBRATION_ROWS: usize = 512;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let range = match arguments.get(2).map(String::as_str) {
        Some("reduced") => WeightRange::Reduced,
        Some("full") => WeightRange::Full,
        _ => return usage(),
    };
    let form = arguments[1].as_str();
    if !["dynamic", "static"].contains(&form) {
        return usage();
    }
    match run(&arguments[0], form, range, arguments.get(3)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: onnx_quantize FILE dynamic|static reduced|full [NEW_FILE]");
    ExitCode::from(2)
}

fn run(file: &str, form: &str, range: WeightRange, to: Option<&String>) -> Result<(), Box<dyn std::error::Error>> {
    let bytes = std::fs::read(file)?;
    let before = OnnxRuntimeModel::open(&bytes, &OnnxOptions::default())?;
    let quantized = match form {
        "static" => quantize_static(&bytes, range, &[rows(&before, CALIBRATION_ROWS)?], Cut::MinMax)?,
        _ => quantize_dynamic(&bytes, range)?,
    };
    println!("{} nodes quantized, {} to {} bytes", quantized.report.quantized, bytes.len(), quantized.bytes.len());
    for left in &quantized.report.left {
        println!("left: {} {}: {}", left.operator, left.node, left.why);
    }
    if let Some(to) = to {
        std::fs::write(to, &quantized.bytes)?;
    }
    let after = OnnxRuntimeModel::open(&quantized.bytes, &OnnxOptions::default())?;
    for size in [1, 16, 256] {
        let inputs = rows(&before, size)?;
        let (slow, fast) = (best(&before, &inputs)?, best(&after, &inputs)?);
        println!("batch {size}: {slow:.0} µs before, {fast:.0} µs after, {:.2} times as fast", slow / fast);
    }
    Ok(())
}

fn best(model: &OnnxRuntimeModel, inputs: &[Tensor]) -> Result<f64, Box<dyn std::error::Error>> {
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < LASTING {
        let call = Instant::now();
        model.run(inputs, &[0])?;
        best = best.min(call.elapsed().as_secs_f64() * 1e6);
    }
    Ok(best)
}

/// Made-up rows: numbers between -3 and 3, whole numbers from 0 to 6.
fn rows(model: &OnnxRuntimeModel, count: usize) -> Result<Vec<Tensor>, String> {
    let tensor = |spec: &inference::TensorSpec| {
        let free = |(place, length): (usize, &i64)| {
            if *length >= 0 {
                *length as usize
            } else if place == 0 {
                count
            } else {
                1
            }
        };
        let shape: Vec<usize> = spec.shape.iter().enumerate().map(free).collect();
        let numbers = 0..shape.iter().product::<usize>();
        let data = match spec.datatype {
            Datatype::Fp32 => Data::Fp32(numbers.map(|at| ((at as f32 + 1.0) * 12.9898).sin() * 3.0).collect()),
            Datatype::Int64 => Data::Int64(numbers.map(|at| at as i64 % 7).collect()),
            other => return Err(format!("input {} of type {other} is not made up here", spec.name)),
        };
        Ok(Tensor::new(spec.name.clone(), shape, data))
    };
    model.signature().inputs.iter().map(tensor).collect()
}
