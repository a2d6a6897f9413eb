//! The routing after a step. Pure; a step that is already done changes nothing.

use std::collections::BTreeMap;
use vocabulary::plan::Step;
use vocabulary::record::{Candidate, Deployed, Stage};
use vocabulary::{Digest, Routing, Share, Timestamp};

#[derive(Debug, PartialEq, Eq)]
pub enum ApplyError {
    NoModel(String),
    NoVersion(String, u32),
}

impl std::fmt::Display for ApplyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            ApplyError::NoModel(model) => write!(f, "model \"{model}\" is not routed"),
            ApplyError::NoVersion(model, version) => write!(f, "{model}@{version} is not registered"),
        }
    }
}

impl std::error::Error for ApplyError {}

/// The next snapshot: with the next number where `step` changes anything, otherwise as it was. `digests` are those of
/// the model's registered versions.
pub fn apply(
    routing: &Routing,
    model: &str,
    step: &Step,
    digests: &BTreeMap<u32, Digest>,
    at: Timestamp,
) -> Result<Routing, ApplyError> {
    let mut next = routing.clone();
    let route = next.models.get_mut(model).ok_or_else(|| ApplyError::NoModel(model.to_owned()))?;
    let digest =
        |version: u32| digests.get(&version).copied().ok_or_else(|| ApplyError::NoVersion(model.to_owned(), version));
    match step {
        // These change nothing about who answers.
        Step::Retrain | Step::Notify | Step::Page | Step::Shed { .. } | Step::AdmitAll | Step::Pass => {}
        Step::PauseCanary { version } => {
            if let Some(candidate) = route.candidate.as_mut().filter(|candidate| candidate.version == *version)
                && candidate.stage == Stage::Canary
            {
                (candidate.stage, candidate.share, candidate.since) = (Stage::Shadow, Share::NONE, at);
            }
        }
        Step::StartShadow { version } => {
            if route.candidate.as_ref().is_none_or(|candidate| candidate.version != *version) {
                // The evidence of a line of candidates runs from its first.
                let shadow_since = route.candidate.as_ref().map_or(at, |candidate| candidate.shadow_since);
                let (version, digest) = (*version, digest(*version)?);
                let (stage, share) = (Stage::Shadow, Share::NONE);
                route.candidate = Some(Candidate { version, digest, stage, share, since: at, shadow_since });
            }
        }
        Step::StartCanary { version, share } => {
            if let Some(candidate) = route.candidate.as_mut().filter(|candidate| candidate.version == *version)
                && (candidate.stage != Stage::Canary || candidate.share != *share)
            {
                (candidate.stage, candidate.share, candidate.since) = (Stage::Canary, *share, at);
            }
        }
        Step::Promote { version } => {
            if route.live.version != *version {
                let newcomer = Deployed { version: *version, digest: digest(*version)?, since: at };
                route.fallback = Some(std::mem::replace(&mut route.live, newcomer));
                route.candidate = route.candidate.take().filter(|candidate| candidate.version != *version);
            }
        }
        Step::RollBack { to } => {
            if route.live.version != *to {
                route.live = Deployed { version: *to, digest: digest(*to)?, since: at };
                route.fallback = None;
                route.candidate = None;
            }
        }
        Step::Discard { version } => {
            route.candidate = route.candidate.take().filter(|candidate| candidate.version != *version);
        }
        Step::Freeze => route.retraining_frozen = true,
        Step::Thaw => route.retraining_frozen = false,
    }
    if next.models != routing.models {
        next.number += 1;
        next.at = Some(at);
        next.reason = format!("{} of {model}", step.name().replace('_', " "));
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::route;
    use proptest::prelude::*;

    fn steps() -> impl Strategy<Value = Step> {
        let version = 1u32..6;
        prop_oneof![
            Just(Step::Retrain),
            Just(Step::Freeze),
            Just(Step::Thaw),
            version.clone().prop_map(|version| Step::StartShadow { version }),
            version.clone().prop_map(|version| Step::StartCanary { version, share: Share::from_bp(500) }),
            version.clone().prop_map(|version| Step::Promote { version }),
            version.clone().prop_map(|to| Step::RollBack { to }),
            version.clone().prop_map(|version| Step::PauseCanary { version }),
            Just(Step::Notify),
            version.prop_map(|version| Step::Discard { version }),
        ]
    }

    proptest! {
        #[test]
        fn twice_is_once_and_numbers_only_grow(steps in proptest::collection::vec(steps(), 1..20)) {
            let digests = (1..6).map(|version| (version, Digest::of(&[version as u8]))).collect();
            let mut routing = Routing { models: [("m".to_owned(), route())].into(), ..Routing::default() };
            for (i, step) in steps.iter().enumerate() {
                let at = Timestamp(i as i64);
                let next = apply(&routing, "m", step, &digests, at).unwrap();
                prop_assert_eq!(&apply(&next, "m", step, &digests, Timestamp(i as i64 + 100)).unwrap(), &next);
                prop_assert!(next.number - routing.number == u64::from(next.models != routing.models));
                prop_assert_eq!(&next.models["m"].frozen, &routing.models["m"].frozen);
                routing = next;
            }
        }
    }

    #[test]
    fn an_unknown_version_is_refused() {
        let routing = Routing { models: [("m".to_owned(), route())].into(), ..Routing::default() };
        let none = BTreeMap::new();
        let promoted = apply(&routing, "m", &Step::Promote { version: 9 }, &none, Timestamp(0));
        assert_eq!(promoted, Err(ApplyError::NoVersion("m".into(), 9)));
        assert!(apply(&routing, "x", &Step::Freeze, &none, Timestamp(0)).is_err());
    }
}
