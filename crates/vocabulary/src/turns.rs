//! Sine and cosine of an angle in turns, from additions and multiplications alone: the platform's mathematics library
//! may differ in the last bit from one machine to the next, these do not.
//!
//! The polynomials are those of fdlibm's `k_sin.c` and `k_cos.c` (Copyright (C) 1993 by Sun Microsystems, Inc.;
//! permission to use, copy, modify, and distribute this software is freely granted, provided that this notice is
//! preserved). With turns instead of radians the reduction to an eighth of a turn is exact, however large the angle.

#![expect(clippy::excessive_precision, reason = "the constants stand as in the original")]

/// The sine of `turns` times a full circle, to about one unit in the last place; NaN for NaN and infinities.
pub fn sine(turns: f64) -> f64 {
    sine_cosine(turns).0
}

/// The cosine of `turns` times a full circle, to about one unit in the last place; NaN for NaN and infinities.
pub fn cosine(turns: f64) -> f64 {
    sine_cosine(turns).1
}

/// Both at the price of little more than one. Multiples of a quarter turn give exactly 0, 1 and -1.
pub fn sine_cosine(turns: f64) -> (f64, f64) {
    let part = turns - turns.round();
    let quarter = (part * 4.0).round();
    // Exact: both are multiples of the last place of `part`, and the difference is at most an eighth.
    let angle = (part - quarter * 0.25) * std::f64::consts::TAU;
    let (sine, cosine) = (sine_near_zero(angle), cosine_near_zero(angle));
    match quarter as i32 {
        0 => (sine, cosine),
        1 => (cosine, -sine),
        -1 => (-cosine, sine),
        _ => (-sine, -cosine),
    }
}

/// For angles up to an eighth of a turn, in radians.
fn sine_near_zero(x: f64) -> f64 {
    const S: [f64; 6] = [
        -1.666_666_666_666_663_243_48e-1,
        8.333_333_333_322_489_461_24e-3,
        -1.984_126_982_985_794_931_34e-4,
        2.755_731_370_707_006_767_89e-6,
        -2.505_076_025_340_686_341_95e-8,
        1.589_690_995_211_550_102_21e-10,
    ];
    let z = x * x;
    let r = S[1] + z * (S[2] + z * (S[3] + z * (S[4] + z * S[5])));
    x + z * x * (S[0] + z * r)
}

/// For angles up to an eighth of a turn, in radians.
fn cosine_near_zero(x: f64) -> f64 {
    const C: [f64; 6] = [
        4.166_666_666_666_660_190_37e-2,
        -1.388_888_888_887_410_957_49e-3,
        2.480_158_728_947_672_941_78e-5,
        -2.755_731_435_139_066_330_35e-7,
        2.087_572_321_298_174_827_90e-9,
        -1.135_964_755_778_819_482_65e-11,
    ];
    let z = x * x;
    let r = z * (C[0] + z * (C[1] + z * (C[2] + z * (C[3] + z * (C[4] + z * C[5])))));
    let half = 0.5 * z;
    let w = 1.0 - half;
    w + (((1.0 - w) - half) + z * r)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::f64::consts::TAU;

    #[test]
    fn agrees_with_the_platform_to_the_last_bits() {
        for i in -20_000..20_000 {
            let turns = f64::from(i) * 1.234e-4;
            let (ours, theirs) = (sine_cosine(turns), (turns * TAU).sin_cos());
            // The platform is given a rounded angle: its error grows with it.
            let allowed = 4.0 * f64::EPSILON * (1.0 + (turns * TAU).abs());
            assert!((ours.0 - theirs.0).abs() <= allowed, "sine of {turns} turns: {} {}", ours.0, theirs.0);
            assert!((ours.1 - theirs.1).abs() <= allowed, "cosine of {turns} turns: {} {}", ours.1, theirs.1);
            assert!((ours.0 * ours.0 + ours.1 * ours.1 - 1.0).abs() < 4.0 * f64::EPSILON);
        }
    }

    #[test]
    fn quarters_are_exact_and_whole_turns_change_nothing() {
        let quarters: Vec<(f64, f64)> = (-4..5).map(|quarter| sine_cosine(f64::from(quarter) * 0.25)).collect();
        let circle = [(0.0, 1.0), (1.0, 0.0), (0.0, -1.0), (-1.0, 0.0)];
        for (place, found) in quarters.iter().enumerate() {
            assert_eq!(*found, circle[place % 4]);
        }
        assert_eq!(sine_cosine(0.375 + 1e6), sine_cosine(0.375));
        assert!(sine(f64::INFINITY).is_nan() && cosine(f64::NAN).is_nan());
        // A twelfth of a turn is no binary fraction.
        assert!((sine(1.0 / 12.0) - 0.5).abs() <= f64::EPSILON);
    }
}
