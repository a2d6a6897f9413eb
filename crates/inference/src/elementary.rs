//! Exponential, logarithm, sine, cosine and the logistic function from additions, multiplications and divisions alone: the platform's
//! mathematics library may differ in the last bit from one machine to the next, these do not.
//!
//! Ported from fdlibm's `k_sin.c` and `k_cos.c`, and by way of `vocabulary` from `e_exp.c` and `e_log.c` (Copyright (C) 1993 by Sun Microsystems, Inc.; permission to use, copy,
//! modify, and distribute this software is freely granted, provided that this notice is preserved). Errors are below
//! one unit in the last place.

#![expect(clippy::excessive_precision, reason = "the constants stand as in the original")]

pub use vocabulary::elementary::{exp, ln};

/// sin(2 pi u) and cos(2 pi u) by quarter turns: the quarter, and the kernels' values at what is left, within an eighth
/// of a turn, which is exact. Kernels from fdlibm's `k_sin.c` and `k_cos.c`.
fn quarter(u: f64) -> (i64, f64, f64) {
    const S: [f64; 6] = [
        -1.666_666_666_666_663_243_48e-1,
        8.333_333_333_322_489_461_24e-3,
        -1.984_126_982_985_794_931_34e-4,
        2.755_731_370_707_006_767_89e-6,
        -2.505_076_025_340_686_341_95e-8,
        1.589_690_995_211_550_102_21e-10,
    ];
    const C: [f64; 6] = [
        4.166_666_666_666_660_190_37e-2,
        -1.388_888_888_887_410_957_49e-3,
        2.480_158_728_947_672_941_78e-5,
        -2.755_731_435_139_066_330_35e-7,
        2.087_572_321_298_174_827_90e-9,
        -1.135_964_755_778_819_482_65e-11,
    ];
    let part = u - u.round();
    let quarter = (4.0 * part).round();
    let x = (part - 0.25 * quarter) * std::f64::consts::TAU;
    let z = x * x;
    let sine = x + x * z * (S[0] + z * (S[1] + z * (S[2] + z * (S[3] + z * (S[4] + z * S[5])))));
    let cosine = 1.0 - (0.5 * z - z * z * (C[0] + z * (C[1] + z * (C[2] + z * (C[3] + z * (C[4] + z * C[5]))))));
    (quarter as i64 & 3, sine, cosine)
}

/// sin(2 pi u); 0 where `u` is not finite.
pub fn sin_turns(u: f64) -> f64 {
    if !u.is_finite() {
        return 0.0;
    }
    match quarter(u) {
        (0, sine, _) => sine,
        (1, _, cosine) => cosine,
        (2, sine, _) => -sine,
        (_, _, cosine) => -cosine,
    }
}

/// cos(2 pi u); 1 where `u` is not finite.
pub fn cos_turns(u: f64) -> f64 {
    if !u.is_finite() {
        return 1.0;
    }
    match quarter(u) {
        (0, _, cosine) => cosine,
        (1, sine, _) => -sine,
        (2, _, cosine) => -cosine,
        (_, sine, _) => sine,
    }
}

/// 1 / (1 + e^-x), without overflow.
pub fn logistic(x: f64) -> f64 {
    if x >= 0.0 {
        1.0 / (1.0 + exp(-x))
    } else {
        let e = exp(x);
        e / (1.0 + e)
    }
}

/// The inverse of [`logistic`]; `p` is kept at least 1e-15 away from 0 and 1.
pub fn logit(p: f64) -> f64 {
    let p = p.clamp(1e-15, 1.0 - 1e-15);
    ln(p / (1.0 - p))
}

/// Replaces `row` by e to the power of each over the sum of all, without overflow.
pub fn softmax(row: &mut [f64]) {
    let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    row.iter_mut().for_each(|sum| *sum = exp(*sum - most));
    let whole: f64 = row.iter().sum();
    row.iter_mut().for_each(|part| *part /= whole);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_platform_to_the_last_bits() {
        for i in -70_000..70_000 {
            let x = f64::from(i) * 0.0101;
            let (ours, theirs) = (exp(x), x.exp());
            assert!((ours - theirs).abs() <= 4.0 * f64::EPSILON * theirs + 1e-320, "exp({x}): {ours} {theirs}");
            let y = theirs.max(1e-300);
            let error = (ln(y) - y.ln()).abs();
            assert!(error <= 4.0 * f64::EPSILON * y.ln().abs().max(1e-10), "ln({y}): {} {}", ln(y), y.ln());
        }
    }

    #[test]
    fn turns_agree_with_the_platform() {
        for i in -4000..4000 {
            let u = f64::from(i) * 0.001_7;
            let angle = (u - u.round()) * std::f64::consts::TAU;
            assert!((sin_turns(u) - angle.sin()).abs() < 4e-16, "sin {u}");
            assert!((cos_turns(u) - angle.cos()).abs() < 4e-16, "cos {u}");
        }
        assert_eq!([0.0, 0.25, 0.5, -0.25, 1e300].map(sin_turns), [0.0, 1.0, 0.0, -1.0, 0.0]);
        assert_eq!([0.0, 0.25, 0.5, 7.0, f64::NAN].map(cos_turns), [1.0, 0.0, -1.0, 1.0, 1.0]);
    }

    #[test]
    fn ends_of_the_range() {
        assert_eq!((exp(0.0), exp(f64::NEG_INFINITY), exp(800.0)), (1.0, 0.0, f64::INFINITY));
        assert_eq!((ln(1.0), ln(0.0), ln(f64::INFINITY)), (0.0, f64::NEG_INFINITY, f64::INFINITY));
        assert!(ln(-1.0).is_nan() && exp(f64::NAN).is_nan());
        assert!((ln(5e-324) - 5e-324_f64.ln()).abs() < 1e-12);
        assert_eq!((logistic(-1e9), logistic(0.0), logistic(1e9)), (0.0, 0.5, 1.0));
        assert!((logistic(logit(0.123)) - 0.123).abs() < 1e-15);
        assert!(logit(0.0).is_finite() && logit(1.0).is_finite());
    }
}
