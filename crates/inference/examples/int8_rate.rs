//! Dense layers in 8-bit integers beside single precision: kernels on each path of this machine, and whole networks.
//! `cargo run --release -p inference --example int8_rate [ROWS]`

use std::hint::black_box;
use std::time::{Duration, Instant};

use inference::kernels::dense::{Packed, multiply};
use inference::kernels::int8::{Finish, Int8Layer, Path, QuantizedRows};
use inference::network::quantized::{DenseForm, QuantizeOptions, TableForm, quantize_network};
use inference::network::{Dense, Hidden, Numeric, Place, Table};
use inference::{Link, Model, NetworkModel, NetworkParts};
use vocabulary::inputs::{DenseColumn, Inputs, Layout};

/// How long each is repeated for; the best time counts.
const LASTING: Duration = Duration::from_millis(700);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let rows = std::env::args().nth(1).map_or(Ok(256), |rows| rows.parse())?;
    for widths in [&[333, 256, 128, 1][..], &[1024, 1024, 512, 256, 1]] {
        kernels(widths, rows)?;
        network(widths, rows)?;
    }
    Ok(())
}

/// Numbers between -1 and 1 that look like noise.
fn noise(count: usize, seed: u32) -> Vec<f32> {
    let number = |at: usize| {
        let bits = (at as u32).wrapping_add(seed.wrapping_mul(7919)).wrapping_mul(2_654_435_761);
        let bits = (bits ^ (bits >> 15)).wrapping_mul(0x2c1b_3c6d);
        ((bits ^ (bits >> 12)) >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..count).map(number).collect()
}

fn best(mut call: impl FnMut()) -> f64 {
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < LASTING {
        let one = Instant::now();
        call();
        best = best.min(one.elapsed().as_secs_f64() * 1e6);
    }
    best
}

/// The hidden layers alone, rounding of their inputs included.
fn kernels(widths: &[usize], rows: usize) -> Result<(), Box<dyn std::error::Error>> {
    let x = noise(rows * widths[0], 3);
    let hidden: Vec<(usize, usize)> =
        widths.windows(2).map(|pair| (pair[0], pair[1])).filter(|pair| pair.1 > 1).collect();
    let single: Vec<(Packed, Vec<f32>)> = hidden
        .iter()
        .map(|(inputs, outputs)| (Packed::new(&noise(inputs * outputs, 1), *inputs, *outputs), noise(*outputs, 2)))
        .collect();
    let (mut current, mut next, mut quantized) = (Vec::new(), Vec::new(), QuantizedRows::default());
    let fp32 = best(|| {
        current.clone_from(&x);
        for (packed, bias) in &single {
            next.resize(rows * packed.columns(), 0.0);
            multiply(&current, rows, packed, Some(bias), &mut next);
            next.iter_mut().for_each(|sum| *sum = if *sum > 0.0 { *sum } else { 0.0 });
            std::mem::swap(&mut current, &mut next);
        }
        black_box(&current);
    });
    println!("{widths:?}, {rows} rows: layers in single precision {fp32:.0} µs");
    let layer = |(inputs, outputs): &(usize, usize)| {
        Int8Layer::quantize(*inputs, *outputs, &noise(inputs * outputs, 1), &noise(*outputs, 2), Finish::Relu)
    };
    let layers: Vec<Int8Layer> = hidden.iter().map(layer).collect::<Result<_, _>>()?;
    for path in Path::ALL.into_iter().filter(|path| path.is_here()) {
        let int8 = best(|| {
            current.clone_from(&x);
            for layer in &layers {
                quantized.dynamic(&current, layer.inputs());
                layer.run_on(path, &quantized, &mut next);
                std::mem::swap(&mut current, &mut next);
            }
            black_box(&current);
        });
        println!("  {path:?}: {int8:.0} µs, {:.2} times as fast", fp32 / int8);
    }
    Ok(())
}

/// A network of plain columns and embeddings of 16 numbers, half of the inputs each.
fn network(widths: &[usize], rows: usize) -> Result<(), Box<dyn std::error::Error>> {
    let slots = widths[0] / 32;
    let plain = widths[0] - 16 * slots;
    let dense = |at: usize| {
        let (inputs, outputs) = (widths[at], widths[at + 1]);
        let weights = noise(inputs * outputs, at as u32).iter().map(|w| w * (3.0 / inputs as f32).sqrt()).collect();
        Dense { inputs: inputs as u32, outputs: outputs as u32, weights, bias: noise(outputs, 9) }
    };
    let table = |at: usize| Table {
        ids: 10_000,
        dimension: 16,
        place: Place::Direct,
        weights: noise(10_000 * 16, 20 + at as u32),
    };
    let last = widths.len() - 2;
    let parts = NetworkParts {
        link: Link::Logistic,
        numeric: vec![Numeric::Plain; plain],
        tables: (0..slots).map(table).collect(),
        slots: (0..slots).map(|slot| Some(slot as u32)).collect(),
        cross: Vec::new(),
        hidden: (0..last).map(|at| Hidden { dense: dense(at), residual: false }).collect(),
        output: dense(last),
        mean: 0.0,
        deviation: 1.0,
        baseline: vec![0.0; widths[0]],
    };
    let layout = Layout {
        dense: (0..plain).map(|at| DenseColumn { name: format!("c{at}"), categorical: false }).collect(),
        slots: (0..slots).map(|at| format!("s{at}")).collect(),
        table_bits: 0,
        tables: vec![10_000; slots],
    };
    let inputs = Inputs {
        rows,
        dense_width: plain,
        dense: noise(rows * plain, 5),
        slot_width: slots,
        slots: (0..rows * slots).map(|at| (at as u32).wrapping_mul(2_654_435_761) % 10_000).collect(),
    };
    let model = NetworkModel::new(parts, layout)?;
    let mut out = Vec::new();
    let mut time = |model: &dyn Model| best(|| model.predict(&inputs, &mut out).expect("the inputs fit"));
    let (fp32, bytes) = (time(&model), model.to_bytes().len());
    println!("  network of {slots} embeddings in single precision: {fp32:.0} µs, {bytes} bytes");
    for form in [DenseForm::Dynamic, DenseForm::Static] {
        for tables in [TableForm::F32, TableForm::Int8, TableForm::Int4] {
            let options = QuantizeOptions { dense: form, tables };
            let quantized = quantize_network(&model, &options, Some(&inputs))?;
            let (int8, bytes) = (time(&quantized), quantized.to_bytes().len());
            println!("    {form:?}, tables {tables:?}: {int8:.0} µs, {:.2} times as fast, {bytes} bytes", fp32 / int8);
        }
    }
    Ok(())
}
