//! What the tests of this crate share: a seeded generator and a small world.

use crate::{Evidence, Jobs, Verdict, World};
use vocabulary::model::{DataSpec, RetrainingSpec};
use vocabulary::record::{Candidate, Deployed, Route, Stage};
use vocabulary::{Digest, ModelSpec, Share, Span, Task, Timestamp};

/// splitmix64 (Steele, Lea & Flood 2014).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// About standard normal: twelve uniforms.
    pub fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

pub fn deployed(version: u32) -> Deployed {
    Deployed { version, digest: Digest::of(&[version as u8]), since: Timestamp(0) }
}

pub fn candidate(version: u32, stage: Stage, since: Timestamp) -> Candidate {
    let share = if stage == Stage::Canary { Share::from_bp(1000) } else { Share::NONE };
    Candidate { version, digest: Digest::of(&[version as u8]), stage, share, since, shadow_since: since }
}

pub fn route() -> Route {
    Route { live: deployed(1), candidate: None, fallback: None, frozen: Some(deployed(1)), retraining_frozen: false }
}

/// A model that retrains every thirty days.
pub fn spec() -> ModelSpec {
    let retraining = RetrainingSpec { every: Some(Span::days(30)), ..RetrainingSpec::default() };
    ModelSpec {
        name: "m".into(),
        contract: "c".into(),
        task: Task::Binary,
        target: "y".into(),
        positive: None,
        classes: Vec::new(),
        weight: None,
        time: None,
        key: None,
        outcome_at: None,
        data: DataSpec::default(),
        features: Default::default(),
        learner: Default::default(),
        tuning: Default::default(),
        split: Default::default(),
        objective: Default::default(),
        monitors: Default::default(),
        retraining,
        release: Default::default(),
    }
}

pub fn world() -> World {
    World {
        model: "m".into(),
        snapshot: 7,
        route: route(),
        versions: [1, 2, 3].into(),
        alarms: Vec::new(),
        trial: None,
        watch: None,
        jobs: Jobs::default(),
        untried: None,
        outcomes_since_training: 0,
        last_training: Some(Timestamp(0)),
        data_bad: false,
        frozen_by: None,
        worth: None,
    }
}

pub fn evidence(verdict: Verdict) -> Evidence {
    Evidence {
        rows: 9000,
        blocks: 9,
        mean_gain: Some(0.01),
        low: Some(0.002),
        high: Some(0.018),
        incumbent_loss: Some(0.51),
        newcomer_loss: Some(0.50),
        verdict,
    }
}
