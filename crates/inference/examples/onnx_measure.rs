//! Time, memory and rounding of an ONNX model on ONNX Runtime: `cargo run --release -p inference --example onnx_measure
//! FILE kept|shrinking|direct [LARGEST_BATCH]`. One process measures one way to keep memory.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use inference::{Data, Memory, OnnxOptions, OnnxRuntimeModel, Tensor, TensorModel};

/// How long each batch size is repeated for.
const LASTING: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (Some(file), Some(memory)) = (arguments.first(), arguments.get(1).and_then(|name| memory(name))) else {
        eprintln!("usage: onnx_measure FILE kept|shrinking|direct [LARGEST_BATCH]");
        return ExitCode::from(2);
    };
    let largest = arguments.get(2).and_then(|rows| rows.parse().ok()).unwrap_or(256);
    match measure(file, memory, largest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn memory(name: &str) -> Option<Memory> {
    match name {
        "kept" => Some(Memory::Kept),
        "shrinking" => Some(Memory::Shrinking),
        "direct" => Some(Memory::Direct),
        _ => None,
    }
}

fn measure(file: &str, memory: Memory, largest: usize) -> Result<(), Box<dyn std::error::Error>> {
    let model = OnnxRuntimeModel::open(&std::fs::read(file)?, &OnnxOptions { memory, ..OnnxOptions::default() })?;
    let mut shape: Vec<usize> =
        model.signature().inputs[0].shape.iter().map(|length| length.unsigned_abs() as usize).collect();
    shape[0] = largest;
    let numbers = (0..shape.iter().product()).map(|place: usize| ((place as f32 + 1.0) * 12.9898).sin()).collect();
    let rows = Tensor::new(model.signature().inputs[0].name.clone(), shape, Data::Fp32(numbers));
    println!("{file}, {memory:?}: {} MB when loaded", resident_mb());
    let sizes: Vec<usize> = [1, 4, 8, 64, 256].into_iter().filter(|size| *size <= largest).collect();
    for size in &sizes {
        let batch = [rows.slice_rows(0, *size)];
        let start = Instant::now();
        let mut times = Vec::new();
        while start.elapsed() < LASTING || times.len() < 3 {
            let call = Instant::now();
            model.run(&batch, &[0])?;
            times.push(call.elapsed());
        }
        times.sort();
        println!(
            "batch {size}: median {:.1} µs, {} MB afterwards",
            times[times.len() / 2].as_secs_f64() * 1e6,
            resident_mb()
        );
    }
    model.run(&[rows.slice_rows(0, 1)], &[0])?;
    println!("after one more row: {} MB", resident_mb());
    let alone: Vec<Tensor> = (0..largest.min(64))
        .map(|row| model.run(&[rows.slice_rows(row, row + 1)], &[0]).map(|mut outputs| outputs.remove(0)))
        .collect::<Result<_, _>>()?;
    for size in sizes.iter().filter(|size| **size <= 64) {
        let together = model.run(&[rows.slice_rows(0, *size)], &[0])?;
        let (mut differing, mut largest_part) = (0, 0.0f64);
        for (row, alone) in alone.iter().take(*size).enumerate() {
            let (Data::Fp32(a), Data::Fp32(b)) = (&together[0].slice_rows(row, row + 1).data, &alone.data) else {
                continue;
            };
            let scale = b.iter().fold(f32::MIN_POSITIVE, |scale, value| scale.max(value.abs()));
            let part = a.iter().zip(b).fold(0.0f32, |part, (a, b)| part.max((a - b).abs() / scale));
            differing += usize::from(a != b);
            largest_part = largest_part.max(f64::from(part));
        }
        println!("batch {size} against 1: {differing} rows differ, by at most {largest_part:.1e} of the row's largest");
    }
    Ok(())
}

/// 0 where the system does not tell.
fn resident_mb() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok()).unwrap_or(0) / 1024
}
