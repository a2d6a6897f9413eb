//! The budget of false alarms, spent so that it holds for all looks together: a window of any length may be tested at any
//! look, each test has its own small part, and the parts never add up to more than the whole (union bound). Knows only
//! counts of looks.

/// Lengths of windows are told apart by powers of two, up to this many: the longest begin some four years ago.
pub const SCALES: usize = 14;
/// Windows of one scale that are tested at one look at most.
pub const WINDOWS_A_SCALE: usize = 4;
/// Spending of the looks begins flat over about this many.
const FLAT: f64 = 8.0;

/// Looks between two tests of windows of scale `scale`: longer ones change slowly.
pub fn stride(scale: usize) -> u64 {
    1 << scale.saturating_sub(2)
}

/// The largest scale that is due at look `look`, counted from 1.
pub fn largest_due(look: u64) -> usize {
    (look.trailing_zeros() as usize + 2).min(SCALES - 1)
}

/// Logarithm of one over the share of a monitor's budget that one test gets. The sum of `1 / ((i + 8) ln²(i + 8))` over
/// `i >= 1` is below `1 / ln 8`.
pub fn log_cost(scale: usize, look: u64) -> f64 {
    let i = (look / stride(scale)) as f64 + FLAT;
    let looks = (i * i.ln() * i.ln() / FLAT.ln()).ln();
    looks + ((SCALES * WINDOWS_A_SCALE) as f64).ln()
}

/// Exponent of Bennett's bound: the mean of `m` independent observations with variance at most `variance`, none of them
/// above its mean by more than `most`, exceeds its expectation by `excess` with probability at most `exp(-exponent)`
/// (Bennett, "Probability inequalities for the sum of independent random variables", JASA 1962).
pub fn bennett(excess: f64, variance: f64, most: f64, m: f64) -> f64 {
    if excess <= 0.0 {
        return 0.0;
    }
    let u = most * excess / variance;
    m * variance / (most * most) * ((1.0 + u) * u.ln_1p() - u)
}

/// Exponent of Chernoff's bound for the mean `share` of `m` observations in [0, 1] whose expectation is `expected`
/// (Hoeffding, "Probability inequalities for sums of bounded random variables", JASA 1963, theorem 1).
pub fn chernoff(share: f64, expected: f64, m: f64) -> f64 {
    let part = |a: f64, b: f64| if a <= 0.0 { 0.0 } else { a * (a / b.max(1e-12)).ln() };
    m * (part(share, expected) + part(1.0 - share, 1.0 - expected)).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_looks_spend_together_is_not_more_than_there_is() {
        let looks = 1u64 << 16;
        let mut spent = 0.0;
        for look in 1..looks {
            for scale in 0..=largest_due(look) {
                assert_eq!(look % stride(scale), 0);
                spent += WINDOWS_A_SCALE as f64 * (-log_cost(scale, look)).exp();
            }
        }
        assert!(spent < 1.0 && spent > 0.5, "{spent}");
    }

    #[test]
    fn bounds_hold_where_the_probability_is_known() {
        // Binomial(100, .5): P(mean >= .65) = .00176; fair coins are bounded by Hoeffding too.
        for exponent in [chernoff(0.65, 0.5, 100.0), bennett(0.15, 0.25, 0.5, 100.0)] {
            let bound = (-exponent).exp();
            assert!(bound > 0.00176 && bound < 0.02, "{bound}");
        }
        assert_eq!(chernoff(0.2, 0.2, 1e6), 0.0);
        assert_eq!(bennett(-0.1, 0.25, 0.5, 1e6), 0.0);
    }
}
