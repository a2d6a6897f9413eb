//! Exponential, logarithm and arcsine from additions, multiplications, divisions and square roots alone: the platform's
//! mathematics library may differ in the last bit from one machine to the next, these do not.
//!
//! Ported from fdlibm's `e_exp.c`, `e_log.c` and `e_asin.c` (Copyright (C) 1993 by Sun Microsystems, Inc.; permission to
//! use, copy, modify, and distribute this software is freely granted, provided that this notice is preserved). Errors are
//! below one unit in the last place; the arcsine's below two.

#![expect(clippy::excessive_precision, reason = "the constants stand as in the original")]

const LN2_HIGH: f64 = 6.931_471_803_691_238_16e-1;
const LN2_LOW: f64 = 1.908_214_929_270_587_70e-10;

/// e to the power of `x`.
#[inline]
pub fn exp(x: f64) -> f64 {
    const P: [f64; 5] = [
        1.666_666_666_666_660_2e-1,
        -2.777_777_777_701_559_3e-3,
        6.613_756_321_437_934e-5,
        -1.653_390_220_546_525_2e-6,
        4.138_136_797_057_238_5e-8,
    ];
    if x.is_nan() {
        return f64::NAN;
    }
    if x > 709.782_712_893_384 {
        return f64::INFINITY;
    }
    if x < -745.133_219_101_941_1 {
        return 0.0;
    }
    // x = k ln 2 + r, |r| <= ln 2 / 2
    let k = (x * std::f64::consts::LOG2_E + if x < 0.0 { -0.5 } else { 0.5 }).trunc();
    let high = x - k * LN2_HIGH;
    let low = k * LN2_LOW;
    let r = high - low;
    let t = r * r;
    let c = r - t * (P[0] + t * (P[1] + t * (P[2] + t * (P[3] + t * P[4]))));
    let y = 1.0 - ((low - (r * c) / (2.0 - c)) - high);
    scale(y, k as i32)
}

/// `y` times two to the power of `k`, for `k` from -1075 to 1024.
#[inline]
fn scale(y: f64, k: i32) -> f64 {
    let power = |k: i32| f64::from_bits(((1023 + k) as u64) << 52);
    if k > 1023 {
        y * power(1023) * power(k - 1023)
    } else if k < -1000 {
        y * power(-1000) * power(k + 1000)
    } else {
        y * power(k)
    }
}

/// Natural logarithm of `x`.
#[inline]
pub fn ln(x: f64) -> f64 {
    const L: [f64; 7] = [
        6.666_666_666_666_735_13e-1,
        3.999_999_999_940_941_908e-1,
        2.857_142_874_366_239_149e-1,
        2.222_219_843_214_978_396e-1,
        1.818_357_216_161_805_012e-1,
        1.531_383_769_920_937_332e-1,
        1.479_819_860_511_658_591e-1,
    ];
    if x.is_nan() || x < 0.0 {
        return f64::NAN;
    }
    if x == 0.0 {
        return f64::NEG_INFINITY;
    }
    if x == f64::INFINITY {
        return x;
    }
    // Subnormal numbers are brought into the normal range first.
    let (x, offset) = if x < f64::MIN_POSITIVE { (x * 18_014_398_509_481_984.0, -54) } else { (x, 0) };
    // x = 2^k m with m between sqrt(1/2) and sqrt(2)
    let bits = x.to_bits();
    let mut k = ((bits >> 52) as i32) - 1023 + offset;
    let mut m = f64::from_bits((bits & 0x000f_ffff_ffff_ffff) | 0x3ff0_0000_0000_0000);
    if m > std::f64::consts::SQRT_2 {
        m *= 0.5;
        k += 1;
    }
    let k = f64::from(k);
    let f = m - 1.0;
    let s = f / (2.0 + f);
    let z = s * s;
    let w = z * z;
    let odd = w * (L[1] + w * (L[3] + w * L[5]));
    let even = z * (L[0] + w * (L[2] + w * (L[4] + w * L[6])));
    let half = 0.5 * f * f;
    k * LN2_HIGH - ((half - (s * (half + (odd + even)) + k * LN2_LOW)) - f)
}

/// The angle in radians whose sine is `x`, for `x` from 0 to 1; NaN for any other.
pub fn arcsine(x: f64) -> f64 {
    if !(0.0..=1.0).contains(&x) {
        return f64::NAN;
    }
    if x < 0.5 {
        return x + x * arcsine_ratio(x * x);
    }
    // asin(x) = pi/2 - 2 asin(sqrt((1 - x) / 2))
    let t = (1.0 - x) * 0.5;
    let root = t.sqrt();
    std::f64::consts::FRAC_PI_2 - 2.0 * (root + root * arcsine_ratio(t))
}

/// (asin(x) - x) / x for the square `t` of `x`, up to 1/4.
fn arcsine_ratio(t: f64) -> f64 {
    const P: [f64; 6] = [
        1.666_666_666_666_666_574_15e-1,
        -3.255_658_186_224_009_154_05e-1,
        2.012_125_321_348_629_258_81e-1,
        -4.005_553_450_067_941_140_27e-2,
        7.915_349_942_898_145_321_76e-4,
        3.479_331_075_960_211_675_70e-5,
    ];
    const Q: [f64; 4] = [
        -2.403_394_911_734_414_218_78,
        2.020_945_760_233_505_694_71,
        -6.882_839_716_054_532_930_30e-1,
        7.703_815_055_590_193_527_91e-2,
    ];
    let p = t * (P[0] + t * (P[1] + t * (P[2] + t * (P[3] + t * (P[4] + t * P[5])))));
    let q = 1.0 + t * (Q[0] + t * (Q[1] + t * (Q[2] + t * Q[3])));
    p / q
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_platform_to_the_last_bits() {
        for i in 0..=40_000u32 {
            let x = f64::from(i) / 40_000.0;
            let off = (arcsine(x) - x.asin()).abs();
            assert!(off <= 4.0 * f64::EPSILON * x.asin().max(f64::MIN_POSITIVE), "arcsine of {x}: {off:e}");
            let x = f64::from(i) * 0.035 - 700.0;
            assert!((exp(x) / x.exp() - 1.0).abs() <= 2.0 * f64::EPSILON, "exp of {x}");
            let x = f64::from(i + 1) * 0.73;
            assert!((ln(x) - x.ln()).abs() <= 2.0 * f64::EPSILON * x.ln().abs().max(0.1), "ln of {x}");
        }
        assert!(arcsine(-0.1).is_nan() && arcsine(1.1).is_nan() && arcsine(f64::NAN).is_nan());
        assert_eq!((arcsine(0.0), arcsine(1.0)), (0.0, std::f64::consts::FRAC_PI_2));
    }
}
