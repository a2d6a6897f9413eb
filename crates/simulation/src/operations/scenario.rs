//! A scenario: a promise, a server, and troubles at their times. On disk: `scenarios/NAME.toml`, beside the timeline that
//! is expected of it.

use serde::Deserialize;
use vocabulary::Span;
use vocabulary::objective::ObjectiveSpec;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    pub name: String,
    /// What it is about, for a reader.
    pub about: String,
    pub lasts: Span,
    #[serde(default)]
    pub seed: u64,
    #[serde(default)]
    pub objective: ObjectiveSpec,
    /// Requests a minute on average over the day.
    #[serde(default = "rate")]
    pub requests: f64,
    /// How much the day's hours differ: the busiest has this much more than the average.
    #[serde(default = "swing")]
    pub swing: f64,
    /// How long after its answer an outcome becomes known.
    #[serde(default = "delay")]
    pub outcome_delay: Span,
    /// Share of requests by tenants whose weight is below 1.
    #[serde(default = "light")]
    pub light_tenants: f64,
    #[serde(default)]
    pub troubles: Vec<Trouble>,
}

fn rate() -> f64 {
    600.0
}

fn swing() -> f64 {
    0.5
}

fn delay() -> Span {
    Span::hours(1)
}

fn light() -> f64 {
    0.6
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trouble {
    pub kind: TroubleKind,
    pub from: Span,
    pub to: Span,
    /// How strong: requests times this, milliseconds, share of requests; as the kind says.
    #[serde(default)]
    pub much: f64,
    /// On and off again, each for this long.
    #[serde(default)]
    pub every: Option<Span>,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum TroubleKind {
    /// Requests times `much`.
    Surge,
    /// No requests.
    SourceInterruption,
    /// A version goes live at `from` that needs `much` times the work for a request.
    SlowRelease,
    /// A version goes live at `from` that fails on this share of requests.
    FailingRelease,
    /// A version goes live at `from` that is wrong on this share of answers.
    WrongRelease,
    /// Each answer waits this many milliseconds for something else.
    SlowDependency,
    /// The disk has no room.
    FullDisk,
    /// Outcomes do not arrive; afterwards they all do.
    LabelOutage,
    /// This share of requests breaks its contract.
    BadData,
    /// One request fails at `from`.
    OneError,
}

impl Trouble {
    /// Whether it is there at a time from the beginning.
    pub fn is_on(&self, at: Span) -> bool {
        let within = (self.from..self.to).contains(&at);
        within && self.every.is_none_or(|every| (at.0 - self.from.0).div_euclid(every.0.max(1)) % 2 == 0)
    }
}
