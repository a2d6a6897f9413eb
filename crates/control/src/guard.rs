//! Guardrails of a canary: it answers beside the live version, and must not answer later or fail more often than that
//! one does. The losses of both are compared by the gate; this knows nothing of outcomes.

use crate::finding::finding;
use crate::share::Count;
use vocabulary::model::ReleaseSpec;
use vocabulary::{Finding, FindingKind, Timestamp};

/// Chance that a harmless canary is ever certified as harmful, for both guardrails together: half of it each. It is no
/// part of the gate's `alpha`, which is about promoting what is worse: a guardrail can only withdraw.
const ALPHA: f64 = 0.02;

/// What one version did as long as both answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arm {
    pub answered: u64,
    pub slow: u64,
    pub failed: u64,
}

/// The finding that the canary does harm, if it is certain: the lower bound of its share is above the live version's
/// upper bound by more than is tolerated.
pub fn harm(
    model: &str,
    version: u32,
    (canary, live): (Arm, Arm),
    spec: &ReleaseSpec,
    (since, now): (Timestamp, Timestamp),
) -> Option<Finding> {
    let slow = |arm: Arm| Count { all: arm.answered, bad: arm.slow };
    let failed = |arm: Arm| Count { all: arm.answered + arm.failed, bad: arm.failed };
    for (what, canary, live, tolerated) in [
        ("slow", slow(canary), slow(live), spec.guard_slow),
        ("failed", failed(canary), failed(live), spec.guard_failed),
    ] {
        // Each guardrail has half of alpha, and each side of its comparison half of that.
        let (low, high) = (canary.bounds(ALPHA / 4.0).0, live.bounds(ALPHA / 4.0).1);
        if low > high + tolerated {
            let message = format!(
                "{what}: {:.1} % of the canary's {} answers (at least {:.1} %), {:.1} % of the live version's (at most {:.1} %)",
                100.0 * canary.share(),
                canary.all,
                100.0 * low,
                100.0 * live.share(),
                100.0 * high
            );
            let evidence = [("canary", canary.share()), ("live", live.share()), ("low", low), ("high", high)];
            let evidence = evidence.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            let subject = Some(format!("{model}@{version}"));
            return Some(finding(model, FindingKind::CanaryHarmful, subject, now, since, message, evidence));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    fn found(canary: Arm, live: Arm) -> bool {
        harm("m", 2, (canary, live), &ReleaseSpec::default(), (Timestamp(0), Timestamp(1))).is_some()
    }

    #[test]
    fn harm_is_found_and_few_requests_prove_none() {
        let live = Arm { answered: 9000, slow: 90, failed: 2 };
        assert!(!found(Arm { answered: 10, slow: 3, failed: 1 }, live));
        assert!(found(Arm { answered: 500, slow: 200, failed: 0 }, live));
        assert!(found(Arm { answered: 500, slow: 5, failed: 60 }, live));
        assert!(!found(Arm { answered: 1000, slow: 12, failed: 1 }, live));
    }

    #[test]
    fn a_canary_like_the_live_version_is_left_alone() {
        let mut alarms = 0;
        for seed in 0..200 {
            let mut random = Random(seed);
            let (mut canary, mut live) = (Arm::default(), Arm::default());
            let alarmed = (0..3000).any(|n| {
                let arm = if n % 10 == 0 { &mut canary } else { &mut live };
                arm.answered += 1;
                arm.slow += u64::from(random.unit() < 0.05);
                n % 20 == 0 && found(canary, live)
            });
            alarms += u32::from(alarmed);
        }
        assert!(alarms <= 4, "{alarms} of 200");
    }
}
