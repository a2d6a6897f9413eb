//! What the monitors make of a world: a month in which nothing happens, and a change in a world that was quiet before.

use super::change::Change;
use super::world::{World, WorldOptions};
use crate::random::Random;
use control::MonitorSet;
use vocabulary::profile::{Dependence, LossReference, Reference};
use vocabulary::{Answer, Finding, ModelSpec, Span};

/// Hours of a month of looks.
pub const MONTH: i64 = 720;
/// Hours within which a named change must be found and named: one day. A change of .2 standard deviations has rows instead.
pub const WINDOW: i64 = 24;
/// The declared tolerance of the worlds: half a percentage point of cumulative share.
pub const TOLERANCE: f64 = 0.005;
/// What the model of the worlds says: a chance of one in five, and a chance of one in two.
const CHANCES: [f64; 2] = [0.2, 0.5];

/// A model with the default budget of one false alarm in twenty lives.
pub fn declared() -> ModelSpec {
    let text = format!(
        r#"{{"name": "m", "contract": "c", "task": "binary", "target": "y", "data": {{}},
            "monitors": {{"drift_tolerance": {TOLERANCE}}}}}"#
    );
    serde_json::from_str(&text).expect("the declaration is whole")
}

/// The world's reference with the loss of a model that says what is true.
fn reference(world: &World) -> Reference {
    let mut reference = world.reference();
    // The Brier score of a chance p is p(1 - p) on average.
    let losses = CHANCES.map(|p| p * (1.0 - p));
    let squares = CHANCES.map(|p| p * (1.0 - p) * ((1.0 - p).powi(3) + p.powi(3)));
    let mean = losses.iter().sum::<f64>() / 2.0;
    let variance = squares.iter().sum::<f64>() / 2.0 - mean * mean;
    reference.loss = Some(LossReference { rows: 10_000, mean, standard_deviation: variance.sqrt(), scale: 1.0 });
    if let Some(detail) = &mut reference.detail {
        detail.loss = Some(Dependence { hour: 0.0, day: 0.0 });
    }
    reference
}

/// All alarms of a month in which nothing happens, looked at every hour, outcomes five hours late.
pub fn quiet_month(options: WorldOptions) -> Vec<Finding> {
    let mut outcomes = Random::new(options.seed, 4);
    let world = World::new(options);
    let reference = reference(&world);
    let mut monitors = MonitorSet::new(&reference, &declared(), World::at(0));
    let mut live = world.live(&reference, None);
    for hour in 0..MONTH {
        let known = World::at(hour) + Span::hours(5);
        let rows = live.hour(|row| monitors.observe_row(row));
        for _ in 0..rows {
            let p = CHANCES[outcomes.below(2)];
            monitors.observe_outcome(known, &Answer::One(p), f64::from(u8::from(outcomes.chance(p))));
        }
        monitors.findings(World::at(hour + 1));
    }
    monitors.findings(World::at(MONTH + 6))
}

/// How a change was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Alarms before the change.
    pub early: usize,
    /// Rows from the change to the first alarm.
    pub rows: Option<usize>,
    /// Hours from the change to the first alarm.
    pub hours: Option<i64>,
    /// Whether a finding named the true cause within [`WINDOW`] hours of the change, or by the end of the search if that is
    /// longer.
    pub named: bool,
    /// Hours between the change and the date that the finding gives it.
    pub dated_off: Option<i64>,
    /// What was said.
    pub said: Vec<String>,
}

/// Puts a change into a world that was quiet for `quiet` hours, and looks for it for `hours` more.
pub fn search(options: WorldOptions, change: &Change, quiet: i64, hours: i64) -> Found {
    let world = World::new(options);
    let reference = reference(&world);
    let mut monitors = MonitorSet::new(&reference, &declared(), World::at(0));
    let mut live = world.live(&reference, Some((change.clone(), quiet)));
    let (mut found, mut seen) = (Found::default(), 0);
    for hour in 0..quiet + hours {
        let rows = live.hour(|row| monitors.observe_row(row));
        let findings = monitors.findings(World::at(hour + 1));
        if hour < quiet {
            found.early = findings.len();
            continue;
        }
        seen += rows;
        if found.rows.is_none() && findings.len() > found.early {
            (found.rows, found.hours) = (Some(seen), Some(hour + 1 - quiet));
        }
        if hour - quiet < WINDOW.max(hours) {
            let names = |finding: &&Finding| {
                finding
                    .cause
                    .as_ref()
                    .is_some_and(|cause| change.is_named_by(&cause.kind, cause.place.feature.as_deref()))
            };
            let named = findings.iter().find(names);
            found.named = named.is_some();
            let began = named.and_then(|finding| finding.cause.as_ref()?.began);
            found.dated_off = began.map(|began| ((began - World::at(quiet)).0 / Span::hours(1).0).abs());
            found.said = findings.iter().map(|finding| finding.message.clone()).collect();
        }
    }
    found
}

/// The changes that must be found and named, by name.
pub fn named_changes() -> Vec<(&'static str, Change)> {
    vec![
        ("unit, thousandfold", Change::Unit { feature: 3, factor: 1000.0, offset: 0.0 }),
        ("celsius to fahrenheit", Change::Unit { feature: 2, factor: 1.8, offset: 32.0 }),
        ("null flood, 30 %", Change::Nulls { feature: 6, share: 0.3 }),
        ("new category, 20 %", Change::NewCategory { feature: 14, share: 0.2 }),
        ("swapped pair", Change::Swap { one: 0, other: 1 }),
        ("frozen sensor", Change::Frozen { feature: 20 }),
        ("time zone, 5 h", Change::TimeZone { hours: 5 }),
    ]
}
