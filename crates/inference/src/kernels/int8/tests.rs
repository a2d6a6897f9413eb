//! Every path of this machine against sums by the book.

use super::*;
use proptest::prelude::*;

/// Numbers between -1 and 1 that look like noise.
fn noise(count: usize, seed: u32) -> Vec<f32> {
    let number = |at: usize| {
        let bits = (at as u32).wrapping_add(seed).wrapping_mul(2_654_435_761);
        let bits = (bits ^ (bits >> 15)).wrapping_mul(0x2c1b_3c6d);
        ((bits ^ (bits >> 12)) >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..count).map(number).collect()
}

fn layer(inputs: usize, outputs: usize, finish: Finish) -> Int8Layer {
    Int8Layer::quantize(inputs, outputs, &noise(inputs * outputs, 7), &noise(outputs, 99), finish).unwrap()
}

fn run_on(path: Path, layer: &Int8Layer, x: &[f32]) -> Vec<u32> {
    let (mut rows, mut out) = (QuantizedRows::default(), Vec::new());
    rows.dynamic(x, layer.inputs());
    layer.run_on(path, &rows, &mut out);
    out.iter().map(|value| value.to_bits()).collect()
}

fn paths() -> impl Iterator<Item = Path> {
    Path::ALL.into_iter().filter(|path| path.is_here())
}

#[test]
fn every_path_gives_the_bits_of_exact_sums() {
    for (inputs, outputs) in [(1, 1), (3, 17), (4, 16), (5, 33), (64, 64), (333, 112), (128, 1), (1031, 80)] {
        for finish in [Finish::Linear, Finish::Relu] {
            let layer = layer(inputs, outputs, finish);
            let x = noise(19 * inputs, 3);
            let mut rows = QuantizedRows::default();
            rows.dynamic(&x, inputs);
            let integers = layer.integers();
            let mut expected = Vec::new();
            for row in 0..19 {
                let (scale, zero) = rows.scale_and_zero(row);
                for output in 0..outputs {
                    let product = |input: usize| {
                        (i64::from(rows.row(row)[input]) - i64::from(zero))
                            * i64::from(integers[input * outputs + output])
                    };
                    let sum: i64 = (0..inputs).map(product).sum();
                    let value = sum as i32 as f32 * (scale * layer.scales()[output]) + layer.bias()[output];
                    let value = if finish == Finish::Relu && value < 0.0 { 0.0 } else { value };
                    expected.push(value.to_bits());
                }
            }
            for path in paths() {
                assert_eq!(run_on(path, &layer, &x), expected, "{path:?}, {inputs} to {outputs}, {finish:?}");
            }
        }
    }
}

#[test]
fn a_row_gets_the_same_bits_in_any_batch() {
    let layer = layer(77, 50, Finish::Relu);
    let x = noise(41 * 77, 5);
    let whole = run_on(Path::best(), &layer, &x);
    for batch in [1, 2, 5, 6, 7, 40] {
        let parts: Vec<u32> = x.chunks(batch * 77).flat_map(|part| run_on(Path::best(), &layer, part)).collect();
        assert_eq!(parts, whole, "batches of {batch}");
    }
}

/// The largest products that there are, over the most inputs: no path may saturate or overflow.
#[test]
fn the_largest_sums_are_exact() {
    let weights: Vec<i8> = (0..INPUTS_MAX * 2).map(|at| if at % 2 == 0 { 127 } else { -127 }).collect();
    let layer = Int8Layer::from_integers(INPUTS_MAX, 2, &weights, &[1.0; 2], &[0.0; 2], Finish::Linear).unwrap();
    let (mut rows, mut out) = (QuantizedRows::default(), Vec::new());
    for (range, x, sum) in [
        (Range { low: 0.0, high: 255.0 }, 255.0, 255.0 * 127.0 * 65_536.0),
        (Range { low: -255.0, high: 0.0 }, -255.0, -255.0 * 127.0 * 65_536.0),
    ] {
        rows.within(range, &vec![x; INPUTS_MAX], INPUTS_MAX);
        for path in paths() {
            layer.run_on(path, &rows, &mut out);
            assert_eq!(out, [sum, -sum], "{path:?}");
        }
    }
}

#[test]
fn answers_are_near_those_of_the_unrounded_layer() {
    let (inputs, outputs, count) = (333, 128, 64);
    let (weights, bias) = (noise(inputs * outputs, 1), noise(outputs, 2));
    let layer = Int8Layer::quantize(inputs, outputs, &weights, &bias, Finish::Linear).unwrap();
    let x = noise(count * inputs, 4);
    let (mut rows, mut out) = (QuantizedRows::default(), Vec::new());
    rows.dynamic(&x, inputs);
    layer.run(&rows, &mut out);
    let mut squares = 0.0;
    for row in 0..count {
        for output in 0..outputs {
            let product = |at: usize| f64::from(x[row * inputs + at]) * f64::from(weights[at * outputs + output]);
            let exact = (0..inputs).map(product).sum::<f64>() + f64::from(bias[output]);
            squares += (f64::from(out[row * outputs + output]) - exact).powi(2);
        }
    }
    // The sums have a standard deviation of sqrt(333) / 3 = 6.1. Steps of 2/255 and of 1/127 err by their 12th root:
    // sqrt(333 * (1/3) * ((2/255)^2 + (1/127)^2) / 12) = 0.034.
    let error = (squares / (count * outputs) as f64).sqrt();
    assert!((0.02..0.05).contains(&error), "{error}");
}

#[test]
fn zero_is_met_exactly_and_what_is_no_number_stays_none() {
    let mut rows = QuantizedRows::default();
    let layer = layer(5, 3, Finish::Relu);
    let mut out = Vec::new();
    rows.dynamic(&[0.0; 5], 5);
    layer.run(&rows, &mut out);
    let positive: Vec<f32> = layer.bias().iter().map(|bias| bias.max(0.0)).collect();
    assert_eq!(out, positive);
    rows.dynamic(&[1e-45, 0.0, 0.0, 0.0, -1e-45], 5);
    layer.run(&rows, &mut out);
    assert_eq!(out, positive);
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
        rows.dynamic(&[1.0, bad, 0.0, -f32::MAX, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0], 5);
        layer.run(&rows, &mut out);
        assert!(out[..3].iter().all(|value| value.is_nan()), "{bad}: {out:?}");
        assert!(out[3..].iter().all(|value| value.is_finite()));
    }
    rows.within(Range { low: -51.0, high: 204.0 }, &[-51.0, 0.0, 204.0, 500.0, -500.0], 5);
    assert_eq!(rows.row(0)[..5], [0, 51, 255, 255, 0]);
}

#[test]
fn what_cannot_be_a_layer_is_refused() {
    let make = |weights: &[f32], bias: &[f32]| Int8Layer::quantize(2, 2, weights, bias, Finish::Linear).unwrap_err();
    assert_eq!(make(&[0.0; 3], &[0.0; 2]), LayerError::Count { what: "weights", found: 3, wanted: 4 });
    assert_eq!(make(&[0.0; 4], &[0.0; 1]), LayerError::Count { what: "biases", found: 1, wanted: 2 });
    assert_eq!(make(&[0.0, f32::NAN, 0.0, 0.0], &[0.0; 2]), LayerError::NotFinite);
    assert_eq!(make(&[0.0; 4], &[0.0, f32::INFINITY]), LayerError::NotFinite);
    assert!(Int8Layer::quantize(INPUTS_MAX + 1, 1, &[], &[], Finish::Linear).is_err());
    assert!(Int8Layer::quantize(1, 0, &[], &[], Finish::Linear).is_err());
    let low = Int8Layer::from_integers(1, 1, &[-128], &[1.0], &[0.0], Finish::Linear);
    assert_eq!(low.unwrap_err(), LayerError::Weight);
}

proptest! {
    #[test]
    fn paths_agree_on_any_row(
        x in prop::collection::vec(any::<f32>(), 1..80),
        outputs in 1usize..70,
    ) {
        let layer = layer(x.len(), outputs, Finish::Linear);
        let expected = run_on(Path::Portable, &layer, &x);
        for path in paths() {
            prop_assert_eq!(&run_on(path, &layer, &x), &expected);
        }
    }

    #[test]
    fn a_value_is_never_farther_than_half_a_step(x in prop::collection::vec(-1e3f32..1e3, 1..100)) {
        let mut rows = QuantizedRows::default();
        rows.dynamic(&x, x.len());
        let (scale, zero) = rows.scale_and_zero(0);
        for (value, step) in x.iter().zip(rows.row(0)) {
            let back = (i32::from(*step) - zero) as f32 * scale;
            // Half a step, and as much again at the ends, where the zero was rounded.
            prop_assert!((back - value).abs() <= scale * 1.001, "{value} became {back} in steps of {scale}");
        }
    }
}
