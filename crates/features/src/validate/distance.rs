//! How far two distributions over the same bins are apart.

use vocabulary::contract::Measure;

/// From 0 (the same) to 1 (nothing in common). Both hold one share a bin and add up to 1. Decides what a report says, and
/// reaches no model and no answer.
pub(super) fn distance(measure: Measure, found: &[f64], reference: &[f64]) -> f64 {
    let pairs = found.iter().zip(reference);
    match measure {
        Measure::LInfinity => pairs.fold(0.0, |most, (p, q)| (p - q).abs().max(most)),
        Measure::JensenShannon => {
            // A share of 0 adds nothing: x log x goes to 0.
            let part = |share: f64, mean: f64| if share > 0.0 { share * (share / mean).log2() } else { 0.0 };
            let sum: f64 = pairs.map(|(p, q)| 0.5 * (part(*p, 0.5 * (p + q)) + part(*q, 0.5 * (p + q)))).sum();
            sum.clamp(0.0, 1.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_alike_is_at_no_distance_and_strangers_are_at_one() {
        for measure in [Measure::LInfinity, Measure::JensenShannon] {
            assert_eq!(distance(measure, &[0.3, 0.7], &[0.3, 0.7]), 0.0);
            assert_eq!(distance(measure, &[1.0, 0.0], &[0.0, 1.0]), 1.0);
        }
        assert!((distance(Measure::LInfinity, &[0.5, 0.3, 0.2], &[0.2, 0.3, 0.5]) - 0.3).abs() < 1e-12);
        // By hand: 0.5 (1 log2 (1 / 0.75) + 0.5 log2 (0.5 / 0.75) + 0.5 log2 (0.5 / 0.25)).
        let known = distance(Measure::JensenShannon, &[1.0, 0.0], &[0.5, 0.5]);
        assert!((known - 0.311_278_124_459_132_8).abs() < 1e-12, "{known}");
    }
}
