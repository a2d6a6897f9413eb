//! Finds out by trying whether the rows of a batch touch each other in a model. Shapes alone don't tell: a sum over
//! the rows has the same ones as a sum over the columns. Works on any `TensorModel`.

use half::{bf16, f16};

use crate::{Data, Datatype, RunError, Tensor, TensorModel, TensorSpec};

/// What [`check_rows`] found.
#[derive(Clone, Debug, PartialEq)]
pub enum Rows {
    /// The same bits together as apart, in this trial.
    Same,
    /// The same up to rounding. `difference` is the largest, in parts of the row's largest number.
    Close { difference: f64 },
    /// A row's answer depends on the rows beside it, or the answer has no row for each row of the inputs.
    Dependent { why: String },
    /// The model does not take the inputs that were made up for it.
    Unknown { why: String },
}

const ROWS: usize = 4;
/// The other free lengths.
const LENGTH: usize = 8;
/// What rounding may cost: a thousand times what was measured on perceptrons, a tenth of what shared scales do.
const TOLERANCE: f64 = 1e-4;
/// The same for half precision, which has 8 to 11 bits.
const TOLERANCE_HALF: f64 = 2e-2;

/// Runs made-up rows together and then each alone. The rows differ in size, so that what scales them together shows.
pub fn check_rows(model: &dyn TensorModel) -> Rows {
    let outputs: Vec<usize> = (0..model.signature().outputs.len()).collect();
    let inputs: Vec<Tensor> = model.signature().inputs.iter().map(made_up).collect();
    let run = |inputs: &[Tensor]| {
        let why = |error: RunError| Rows::Unknown { why: error.to_string() };
        model.run(inputs, &outputs).map_err(why)
    };
    let found = || {
        let together = run(&inputs)?;
        let mut difference = 0.0f64;
        for row in 0..ROWS {
            let alone: Vec<Tensor> = inputs.iter().map(|input| input.slice_rows(row, row + 1)).collect();
            for (together, alone) in together.iter().zip(run(&alone)?) {
                difference = difference.max(compare(together, &alone, row)?);
            }
        }
        Ok(if difference == 0.0 { Rows::Same } else { Rows::Close { difference } })
    };
    found().unwrap_or_else(|trouble| trouble)
}

fn compare(together: &Tensor, alone: &Tensor, row: usize) -> Result<f64, Rows> {
    let name = &together.name;
    let dependent = |why: String| Err(Rows::Dependent { why: format!("output {name:?} {why}") });
    if together.shape.first() != Some(&ROWS) || alone.shape.first() != Some(&1) {
        return dependent(format!("has shape {:?} for {ROWS} rows and {:?} for one", together.shape, alone.shape));
    }
    let together = together.slice_rows(row, row + 1);
    if together.shape != alone.shape {
        return dependent(format!("has rows of shape {:?} and {:?}", together.shape, alone.shape));
    }
    let tolerance = match together.datatype() {
        Datatype::Fp16 | Datatype::Bf16 => TOLERANCE_HALF,
        _ => TOLERANCE,
    };
    let difference = match (numbers(&together.data), numbers(&alone.data)) {
        (Some(together), Some(alone)) => relative(&together, &alone),
        _ if together.data == alone.data => 0.0,
        _ => f64::INFINITY,
    };
    if difference > tolerance {
        return dependent(format!("gives row {row} another answer alone than with others (by {difference:.1e} of it)"));
    }
    Ok(difference)
}

/// The largest difference in parts of the largest number; infinite where one is a number and the other is none.
fn relative(a: &[f64], b: &[f64]) -> f64 {
    let largest = a.iter().chain(b).filter(|value| value.is_finite()).fold(f64::MIN_POSITIVE, |m, v| m.max(v.abs()));
    let difference = |(a, b): (&f64, &f64)| match (a - b).abs() / largest {
        _ if a == b || (a.is_nan() && b.is_nan()) => 0.0,
        difference if difference.is_finite() => difference,
        _ => f64::INFINITY,
    };
    a.iter().zip(b).map(difference).fold(0.0, f64::max)
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

/// A tensor of [`ROWS`] rows: numbers between -1 and 1 times the row's place squared, whole numbers 0 and 1, one text.
fn made_up(spec: &TensorSpec) -> Tensor {
    let free = |(place, length): (usize, &i64)| match (place, *length) {
        (0, _) => ROWS,
        (_, ..0) => LENGTH,
        (_, length) => length as usize,
    };
    let shape: Vec<usize> = spec.shape.iter().enumerate().map(free).collect();
    let length: usize = shape.iter().product();
    let width = (length / ROWS).max(1);
    let hash = |place: usize| {
        (place as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    };
    let real = move |place: usize| {
        let row = (place / width + 1) as f64;
        ((hash(place) >> 11) as f64 / (1u64 << 52) as f64 - 1.0) * row * row
    };
    let whole = |place: usize| (hash(place) >> 63) as u8;
    macro_rules! fill {
        ($kind:ident, $value:expr) => {
            Data::$kind((0..length).map($value).collect())
        };
    }
    let data = match spec.datatype {
        Datatype::Bool => fill!(Bool, |place| whole(place) == 1),
        Datatype::Uint8 => fill!(Uint8, whole),
        Datatype::Uint16 => fill!(Uint16, |place| whole(place).into()),
        Datatype::Uint32 => fill!(Uint32, |place| whole(place).into()),
        Datatype::Uint64 => fill!(Uint64, |place| whole(place).into()),
        Datatype::Int8 => fill!(Int8, |place| whole(place) as i8),
        Datatype::Int16 => fill!(Int16, |place| whole(place).into()),
        Datatype::Int32 => fill!(Int32, |place| whole(place).into()),
        Datatype::Int64 => fill!(Int64, |place| whole(place).into()),
        Datatype::Fp16 => fill!(Fp16, |place| f16::from_f64(real(place)).to_bits()),
        Datatype::Bf16 => fill!(Bf16, |place| bf16::from_f64(real(place)).to_bits()),
        Datatype::Fp32 => fill!(Fp32, |place| real(place) as f32),
        Datatype::Fp64 => fill!(Fp64, real),
        Datatype::Bytes => fill!(Bytes, |_| b"a".to_vec()),
    };
    Tensor::new(spec.name.clone(), shape, data)
}
