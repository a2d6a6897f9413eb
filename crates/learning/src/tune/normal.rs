//! The normal distribution from elementary functions that are the same on every machine.

use inference::elementary::{exp, ln};

/// Share of a standard normal distribution below `x`: Abramowitz and Stegun, "Handbook of Mathematical Functions" (1964),
/// 26.2.17; the error is below 7.5e-8.
pub(super) fn below(x: f64) -> f64 {
    const B: [f64; 5] = [0.319_381_530, -0.356_563_782, 1.781_477_937, -1.821_255_978, 1.330_274_429];
    let t = 1.0 / (1.0 + 0.231_641_9 * x.abs());
    let tail = density(x) * t * (B[0] + t * (B[1] + t * (B[2] + t * (B[3] + t * B[4]))));
    if x > 0.0 { 1.0 - tail } else { tail }
}

fn density(x: f64) -> f64 {
    const ROOT: f64 = 0.398_942_280_401_432_7; // 1 / sqrt(2 pi)
    ROOT * exp(-0.5 * x * x)
}

/// The `x` below which the share `p` lies, 0 < p < 1: P. J. Acklam's rational approximations, "An algorithm for computing
/// the inverse normal cumulative distribution function" (2003); the relative error is below 1.2e-9.
pub(super) fn quantile(p: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 5] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 4] =
        [7.784_695_709_041_462e-3, 3.224_671_290_700_398e-1, 2.445_134_137_142_996, 3.754_408_661_907_416];
    const EDGE: f64 = 0.02425;
    let tail = |p: f64| {
        let q = (-2.0 * ln(p)).sqrt();
        (((((C[0] * q + C[1]) * q + C[2]) * q + C[3]) * q + C[4]) * q + C[5])
            / ((((D[0] * q + D[1]) * q + D[2]) * q + D[3]) * q + 1.0)
    };
    if p < EDGE {
        tail(p)
    } else if p > 1.0 - EDGE {
        -tail(1.0 - p)
    } else {
        let q = p - 0.5;
        let r = q * q;
        (((((A[0] * r + A[1]) * r + A[2]) * r + A[3]) * r + A[4]) * r + A[5]) * q
            / (((((B[0] * r + B[1]) * r + B[2]) * r + B[3]) * r + B[4]) * r + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_quantiles_agree_with_the_tables() {
        for (x, p) in [(0.0, 0.5), (1.0, 0.841_344_746), (-1.96, 0.024_997_895), (3.0, 0.998_650_102)] {
            assert!((below(x) - p).abs() < 1e-7, "{x}: {}", below(x));
        }
        for i in 1..1000 {
            let p = f64::from(i) / 1000.0;
            assert!((below(quantile(p)) - p).abs() < 2e-7, "{p}");
        }
        assert!((quantile(1e-6) + 4.753_424_309).abs() < 1e-7);
    }
}
