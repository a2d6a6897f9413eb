//! Exponential, logistic and softmax in single precision for the learner's gradients, from additions, multiplications
//! and divisions alone, so that their bits are the same on every machine. Relative errors are below 3e-7; what a model
//! answers goes through `inference::elementary`.

/// 1.5 * 2^23: adding it to a number leaves the nearest integer in the lowest bits.
const SHIFT: f32 = 12_582_912.0;
/// ln 2 in two parts; the first times a small integer is exact.
const LN2_HIGH: f32 = 0.693_359_4;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// e to the power of `x`, which is kept within -87 and 88. The polynomial is that of Cephes' `expf` (S. L. Moshier).
#[inline]
pub(super) fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + SHIFT;
    let k = shifted - SHIFT;
    let r = (x - k * LN2_HIGH) - k * LN2_LOW;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    (p * (r * r) + r + 1.0) * power
}

/// 1 / (1 + e^-x).
#[inline]
pub(super) fn logistic(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Replaces `row` by e to the power of each over the sum of all, without overflow.
pub(super) fn softmax(row: &mut [f32]) {
    let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    row.iter_mut().for_each(|sum| *sum = exp(*sum - most));
    let whole: f32 = row.iter().sum();
    row.iter_mut().for_each(|part| *part /= whole);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_to_the_platforms_double_precision() {
        for i in -8700..8800 {
            let x = i as f32 * 0.01;
            let (ours, theirs) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((ours - theirs).abs() <= 3e-7 * theirs, "exp({x}): {ours} {theirs}");
            let (ours, theirs) = (f64::from(logistic(x)), 1.0 / (1.0 + (-f64::from(x)).exp()));
            assert!((ours - theirs).abs() <= 5e-7 * theirs, "logistic({x}): {ours} {theirs}");
        }
        assert!(exp(f32::NAN).is_nan() && exp(1e9).is_finite() && logistic(-1e9) >= 0.0 && logistic(1e9) == 1.0);
        let mut row = [1000.0, 1000.0, -1000.0];
        softmax(&mut row);
        assert!((row[0] - 0.5).abs() < 1e-6 && row[2] < 1e-30);
    }
}
