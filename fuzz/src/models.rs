//! Importing and asking models, with what must hold whatever the bytes were.

use inference::import::{Format, import, sniff};
use inference::{Data, Datatype, Tensor, TensorModel};
use libfuzzer_sys::Corpus;

/// Wider models are not asked: a damaged width is allowed to be large.
const ELEMENTS_MAX: usize = 4096;

/// Reads `bytes` as a model of this format, with `magic` before them where they don't show it; one that was read is
/// asked.
pub fn read(format: Format, magic: &[u8], bytes: &[u8]) -> Corpus {
    let marked;
    let bytes = if sniff(bytes) == Some(format) {
        bytes
    } else {
        marked = [magic, bytes].concat();
        if sniff(&marked) != Some(format) {
            return Corpus::Reject;
        }
        &marked
    };
    match import("fuzzed", bytes) {
        Ok(imported) => {
            assert!(imported.model.is_some() || imported.unsupported.is_some(), "neither a model nor a reason");
            if let Some(model) = imported.model {
                ask(&*model);
            }
        }
        Err(error) => assert!(!error.to_string().is_empty(), "an error without words"),
    }
    Corpus::Keep
}

/// Asks with one made-up row.
pub fn ask(model: &dyn TensorModel) {
    let signature = model.signature();
    let mut inputs = Vec::new();
    for spec in &signature.inputs {
        let shape: Vec<usize> = spec.shape.iter().map(|length| usize::try_from(*length).unwrap_or(1)).collect();
        let count = shape.iter().try_fold(1usize, |product, length| product.checked_mul(*length));
        let Some(count) = count.filter(|count| *count <= ELEMENTS_MAX) else { return };
        inputs.push(Tensor::new(spec.name.clone(), shape, made_up(spec.datatype, count)));
    }
    let wanted: Vec<usize> = (0..signature.outputs.len()).collect();
    if let Ok(outputs) = model.run(&inputs, &wanted) {
        assert_eq!(outputs.len(), wanted.len());
        for (output, spec) in outputs.iter().zip(&signature.outputs) {
            assert_eq!(output.shape.iter().product::<usize>(), output.data.len(), "output {}", output.name);
            assert_eq!((&output.name, output.datatype()), (&spec.name, spec.datatype));
        }
        // Where rows don't touch each other, the canonical row must have the same answer.
        let mut canonical = inputs.clone();
        if model.exact() && model.canonical(&mut canonical) {
            let again = model.run(&canonical, &wanted).expect("the canonical row has an answer");
            assert_eq!(format!("{again:?}"), format!("{outputs:?}"), "the canonical row has another answer");
        }
    }
}

fn made_up(datatype: Datatype, count: usize) -> Data {
    let number = |at: usize| [0.0, -1.5, f64::NAN, 3.0, 1e30, f64::NEG_INFINITY, 1e300][at % 7];
    let whole = |at: usize| at as i64 % 5 - 2;
    match datatype {
        Datatype::Bool => Data::Bool((0..count).map(|at| at % 2 == 0).collect()),
        Datatype::Uint8 => Data::Uint8((0..count).map(|at| at as u8).collect()),
        Datatype::Uint16 => Data::Uint16((0..count).map(|at| at as u16).collect()),
        Datatype::Uint32 => Data::Uint32((0..count).map(|at| at as u32).collect()),
        Datatype::Uint64 => Data::Uint64((0..count).map(|at| at as u64).collect()),
        Datatype::Int8 => Data::Int8((0..count).map(|at| whole(at) as i8).collect()),
        Datatype::Int16 => Data::Int16((0..count).map(|at| whole(at) as i16).collect()),
        Datatype::Int32 => Data::Int32((0..count).map(|at| whole(at) as i32).collect()),
        Datatype::Int64 => Data::Int64((0..count).map(whole).collect()),
        Datatype::Fp16 => Data::Fp16((0..count).map(|at| at as u16 * 0x0fff).collect()),
        Datatype::Bf16 => Data::Bf16((0..count).map(|at| at as u16 * 0x0fff).collect()),
        Datatype::Fp32 => Data::Fp32((0..count).map(|at| number(at) as f32).collect()),
        Datatype::Fp64 => Data::Fp64((0..count).map(number).collect()),
        Datatype::Bytes => Data::Bytes((0..count).map(|at| vec![b'a'; at % 3]).collect()),
    }
}
