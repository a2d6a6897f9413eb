//! Two to the power of an age in half-lives, from multiplications alone: the same bits on every machine.

/// `2^(-age / half_life)`, both in microseconds; above 1 for a negative age. Within one unit in the last place or two.
pub(super) fn weight(age: i64, half_life: i64) -> f64 {
    let (whole, rest) = (age.div_euclid(half_life), age.rem_euclid(half_life));
    if whole > 1100 {
        return 0.0;
    }
    let fraction = exp_of_minus(rest as f64 / half_life as f64 * std::f64::consts::LN_2);
    scale(fraction, (-whole).min(1023) as i32)
}

/// `y * 2^k` for `y` from 1/2 to 1 and `k` from -1100 to 1023.
fn scale(y: f64, k: i32) -> f64 {
    let power = |k: i32| f64::from_bits(((1023 + k) as u64) << 52);
    if k < -1000 { y * power(-1000) * power(k + 1000) } else { y * power(k) }
}

/// e to the power of `-x` for `x` from 0 to ln 2: the kernel of fdlibm's `e_exp.c` (Copyright (C) 1993 by Sun
/// Microsystems, Inc.; permission to use, copy, modify, and distribute this software is freely granted, provided that
/// this notice is preserved), on half of `x`, so that it stays within the kernel's range, and squared.
fn exp_of_minus(x: f64) -> f64 {
    const P: [f64; 5] = [
        1.666_666_666_666_660_2e-1,
        -2.777_777_777_701_559_3e-3,
        6.613_756_321_437_934e-5,
        -1.653_390_220_546_525_2e-6,
        4.138_136_797_057_238_5e-8,
    ];
    let r = -0.5 * x;
    let t = r * r;
    let c = r - t * (P[0] + t * (P[1] + t * (P[2] + t * (P[3] + t * P[4]))));
    let half = 1.0 - (-(r * c) / (2.0 - c) - r);
    half * half
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_agree_with_the_platform_and_halve_exactly() {
        for age in -5000..5000 {
            let (ours, theirs) = (weight(age * 7, 1000), (-(age * 7) as f64 / 1000.0).exp2());
            // The platform's argument is rounded: an error that grows with the age.
            assert!((ours - theirs).abs() <= 32.0 * f64::EPSILON * theirs, "{age}: {ours} {theirs}");
        }
        assert_eq!([0, 10, 20, -10, -320].map(|age| weight(age, 10)), [1.0, 0.5, 0.25, 2.0, 4_294_967_296.0]);
        assert_eq!(weight(i64::MAX / 4, 1), 0.0);
        assert!(weight(1099, 1) == 0.0 && weight(1074, 1) == 5e-324);
    }
}
