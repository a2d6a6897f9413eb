//! Changes of the routing that an operator asks for, as pure functions; the loop's own come from `control`.

use anyhow::{Result, bail};
use vocabulary::record::{Candidate, Deployed, Route, Stage};
use vocabulary::{Digest, Routing, Share, Timestamp};

/// Version of the snapshot's format on disk.
pub const FORMAT: u32 = 1;

/// What an operator asks for.
#[derive(Clone, Debug)]
pub enum Deed {
    Shadow { version: u32, digest: Digest },
    Canary { version: u32, digest: Digest, share: Share },
    Now { version: u32, digest: Digest },
    RollBack { to: Option<(u32, Digest)> },
    Freeze,
    Thaw,
}

impl Deed {
    pub fn name(&self) -> &'static str {
        match self {
            Deed::Shadow { .. } => "start_shadow",
            Deed::Canary { .. } => "start_canary",
            Deed::Now { .. } => "promote",
            Deed::RollBack { .. } => "roll_back",
            Deed::Freeze => "freeze",
            Deed::Thaw => "thaw",
        }
    }
}

/// The routing after `deed`, with the next number.
pub fn operated(routing: &Routing, model: &str, deed: &Deed, at: Timestamp) -> Result<Routing> {
    let mut next = routing.clone();
    next.format = FORMAT;
    next.number += 1;
    next.at = Some(at);
    next.reason = format!("{} of {model} by an operator", deed.name());
    if let (Deed::Now { version, digest }, false) = (deed, next.models.contains_key(model)) {
        next.models.insert(model.to_owned(), first(*version, *digest, at));
        return Ok(next);
    }
    let Some(route) = next.models.get_mut(model) else {
        bail!("model \"{model}\" has no live version yet; release one with --now");
    };
    let deployed = |version, digest| Deployed { version, digest, since: at };
    match deed {
        Deed::Shadow { version, digest } | Deed::Canary { version, digest, .. } => {
            if *version == route.live.version {
                bail!("{model}@{version} is live already");
            }
            let (stage, share) = match deed {
                Deed::Canary { share, .. } => (Stage::Canary, *share),
                _ => (Stage::Shadow, Share::NONE),
            };
            let before = route.candidate.as_ref().filter(|candidate| candidate.version == *version);
            let shadow_since = before.map_or(at, |candidate| candidate.shadow_since);
            route.candidate =
                Some(Candidate { version: *version, digest: *digest, stage, share, since: at, shadow_since });
        }
        Deed::Now { version, digest } => {
            if *version == route.live.version {
                bail!("{model}@{version} is live already");
            }
            route.fallback = Some(std::mem::replace(&mut route.live, deployed(*version, *digest)));
            route.candidate = route.candidate.take().filter(|candidate| candidate.version != *version);
        }
        Deed::RollBack { to } => {
            let target = match (to, &route.fallback) {
                (Some((version, digest)), _) => deployed(*version, *digest),
                (None, Some(fallback)) => deployed(fallback.version, fallback.digest),
                (None, None) => bail!("model \"{model}\" has no fallback; name a version with --to"),
            };
            if target.version == route.live.version {
                bail!("{model}@{} is live already", target.version);
            }
            route.live = target;
            route.fallback = None;
            route.candidate = None;
        }
        Deed::Freeze => route.retraining_frozen = true,
        Deed::Thaw => route.retraining_frozen = false,
    }
    Ok(next)
}

/// The route of a model whose first version goes live.
pub fn first(version: u32, digest: Digest, at: Timestamp) -> Route {
    let deployed = Deployed { version, digest, since: at };
    Route { live: deployed.clone(), candidate: None, fallback: None, frozen: Some(deployed), retraining_frozen: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_and_rollback_lead_back_to_where_it_began() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let at = Timestamp(0);
        let empty = Routing::default();
        assert!(operated(&empty, "m", &Deed::Freeze, at).is_err());
        let one = operated(&empty, "m", &Deed::Now { version: 1, digest: a }, at).unwrap();
        let two = operated(&one, "m", &Deed::Now { version: 2, digest: b }, at).unwrap();
        assert_eq!((two.number, two.models["m"].live.version), (2, 2));
        assert_eq!(two.models["m"].fallback.as_ref().unwrap().version, 1);
        let back = operated(&two, "m", &Deed::RollBack { to: None }, at).unwrap();
        assert_eq!(back.models["m"].live.version, 1);
        assert!(operated(&back, "m", &Deed::RollBack { to: None }, at).is_err());
        assert_eq!(back.models["m"].frozen.as_ref().unwrap().version, 1);
    }
}
