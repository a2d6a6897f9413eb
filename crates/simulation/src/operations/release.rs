//! Release worlds: a newcomer of known worth against the live version, through the gate and the whole loop, in virtual time.

use crate::random::Random;
use control::{Jobs, Trial, Verdict, World, apply, assess, decide, lint};
use std::collections::BTreeMap;
use vocabulary::elementary;
use vocabulary::plan::Step;
use vocabulary::record::{Deployed, Route};
use vocabulary::{Answer, Digest, ModelSpec, Routing, Span, Timestamp};

const MODEL: &str = "m";
/// How often the loop looks.
const LOOK: Span = Span::hours(6);
/// Variance of what both versions get wrong alike, and of what the live version gets wrong alone, in log odds.
const COMMON: f64 = 0.05;
const OWN: f64 = 0.08;
/// How far the rows' true log odds are apart.
const ODDS: f64 = 1.2;
/// The part of that which a whole day shares: rows of one day are not independent.
const DAY: f64 = 0.01;

/// What a world is like.
#[derive(Clone, Copy, Debug)]
pub struct Release {
    /// The live version's log loss less the newcomer's, a row, in expectation.
    pub gain: f64,
    pub rows_per_day: u64,
    pub days: i64,
    /// A person releases the newcomer at once, without a trial.
    pub at_once: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The days on which the newcomer was promoted and rolled back.
    pub promoted: Option<f64>,
    pub rolled_back: Option<f64>,
    pub discarded: Option<f64>,
    /// Verdicts that were ever given, other than "not enough".
    pub verdicts: Vec<&'static str>,
    /// Rules that were broken; none should be.
    pub broken: Vec<String>,
    /// Changes of who answers all.
    pub changes: u32,
}

/// Runs a world. The same seed gives the same world.
pub fn run(release: &Release, spec: &ModelSpec, seed: u64) -> Outcome {
    let own = own_variance(release.gain);
    let digests: BTreeMap<u32, Digest> = [1, 2].map(|n: u32| (n, Digest::of(&[n as u8]))).into();
    let deployed = |version: u32, since| Deployed { version, digest: digests[&version], since };
    let first = deployed(1, Timestamp(0) - Span::days(30));
    let mut route =
        Route { live: first.clone(), candidate: None, fallback: None, frozen: Some(first), retraining_frozen: false };
    if release.at_once {
        route.fallback = Some(std::mem::replace(&mut route.live, deployed(2, Timestamp(0))));
    }
    let mut routing = Routing { number: 1, models: [(MODEL.to_owned(), route)].into(), ..Routing::default() };
    let (mut random, mut outcome) = (Random::new(seed, 11), Outcome::default());
    // The gate compares the newcomer with the live version, whoever that is: here rows are kept by version.
    let mut rows: Vec<(Timestamp, f64, [f64; 2])> = Vec::new();
    let (mut trial, mut watch): (Option<Compared>, Option<Compared>) = (None, None);
    let mut tried = release.at_once;
    for look in 1..=release.days * 4 {
        let now = Timestamp(look * LOOK.0);
        draw(&mut rows, &mut random, (release, own, seed), now);
        let route = routing.models[MODEL].clone();
        trial = align(trial, route.candidate.as_ref().map(|c| (c.version, c.shadow_since)), &route, spec);
        watch = align(watch, route.fallback.as_ref().map(|f| (f.version, route.live.since)), &route, spec);
        for (at, came_true, said) in rows.drain(..) {
            for compared in [&mut trial, &mut watch].into_iter().flatten().filter(|c| at >= c.trial.since()) {
                let answer = |version: u32| Answer::One(said[version as usize - 1]);
                compared.trial.observe(at, came_true, &answer(compared.incumbent), &answer(compared.newcomer));
            }
        }
        let world = World {
            model: MODEL.to_owned(),
            snapshot: routing.number,
            route: route.clone(),
            versions: [1, 2].into(),
            alarms: Vec::new(),
            trial: trial.as_ref().map(|c| c.trial.evidence(now)),
            watch: watch.as_ref().map(|c| c.trial.evidence(now)),
            jobs: Jobs::default(),
            untried: (!tried).then_some(2),
            outcomes_since_training: 0,
            last_training: Some(Timestamp(0)),
            data_bad: false,
            frozen_by: None,
            worth: None,
        };
        note_verdict(&world, &mut outcome);
        let findings = assess(&world, spec, now);
        let plan = decide(&world, &findings, spec, now);
        outcome.broken.extend(lint(&plan, &world, &findings, spec).iter().map(|refusal| format!("{refusal:?}")));
        for planned in &plan.steps {
            let day = (now - Timestamp(0)).as_days();
            match &planned.step {
                Step::StartShadow { .. } => tried = true,
                Step::Promote { .. } => {
                    outcome.promoted.get_or_insert(day);
                    outcome.changes += 1;
                    if world.trial.as_ref().is_none_or(|trial| trial.verdict != Verdict::Better) {
                        outcome.broken.push(format!("promoted without evidence on day {day}"));
                    }
                }
                Step::RollBack { .. } => {
                    outcome.rolled_back.get_or_insert(day);
                    outcome.changes += 1;
                }
                Step::Discard { .. } => drop(outcome.discarded.get_or_insert(day)),
                _ => {}
            }
            match apply(&routing, MODEL, &planned.step, &digests, now) {
                Ok(next) => routing = next,
                Err(error) => outcome.broken.push(error.to_string()),
            }
        }
    }
    outcome
}

struct Compared {
    incumbent: u32,
    newcomer: u32,
    trial: Trial,
}

/// The comparison that fits the routing: the one before goes on where it still does.
fn align(
    before: Option<Compared>,
    newcomer: Option<(u32, Timestamp)>,
    route: &Route,
    spec: &ModelSpec,
) -> Option<Compared> {
    let (newcomer, since) = newcomer?;
    let incumbent = route.live.version;
    let fits = |c: &Compared| c.incumbent == incumbent && c.newcomer == newcomer && c.trial.since() == since;
    let new = || Compared { incumbent, newcomer, trial: Trial::new(&spec.release, spec.task, 1.0, since) };
    Some(before.filter(fits).unwrap_or_else(new))
}

fn note_verdict(world: &World, outcome: &mut Outcome) {
    let verdict = match world.trial.as_ref().map(|trial| trial.verdict) {
        Some(Verdict::Better) => "better",
        Some(Verdict::Worse) => "worse",
        Some(Verdict::Undecided) => "undecided",
        Some(Verdict::NotEnough) | None => return,
    };
    if !outcome.verdicts.contains(&verdict) {
        outcome.verdicts.push(verdict);
    }
}

/// The rows of a look: what came true, and what both versions said.
fn draw(
    rows: &mut Vec<(Timestamp, f64, [f64; 2])>,
    random: &mut Random,
    (release, own, seed): (&Release, f64, u64),
    now: Timestamp,
) {
    let from = now - LOOK;
    let day = from.0.div_euclid(Span::days(1).0) as u64;
    // What a day shares is the same in all its looks.
    let mut shared = Random::new(seed.wrapping_mul(1009).wrapping_add(day), 13);
    let shifts = [DAY.sqrt() * shared.normal(), DAY.sqrt() * shared.normal()];
    let count = release.rows_per_day / 4;
    for row in 0..count {
        let at = from + Span(LOOK.0 / count.max(1) as i64 * row as i64);
        let odds = ODDS * random.normal() - 0.5;
        let came_true = f64::from(u8::from(random.chance(logistic(odds))));
        let common = COMMON.sqrt() * random.normal();
        let mut said = |variance: f64, shift: f64| {
            logistic(odds + common + shift + (variance - DAY).max(0.0).sqrt() * random.normal())
        };
        let said = [said(OWN, shifts[0]), said(own, shifts[1])];
        rows.push((at, came_true, said));
    }
}

fn logistic(odds: f64) -> f64 {
    1.0 / (1.0 + elementary::exp(-odds))
}

/// The variance of the newcomer's own errors for which it loses less by `gain` a row: by bisection over the expected loss,
/// which grows with it.
fn own_variance(gain: f64) -> f64 {
    let wanted = expected_loss(OWN) - gain;
    let (mut low, mut high) = (0.0, 4.0);
    for _ in 0..50 {
        let middle = 0.5 * (low + high);
        if expected_loss(middle) < wanted { low = middle } else { high = middle }
    }
    0.5 * (low + high)
}

/// Expected log loss of a version whose own errors have this variance: over odds and errors on a fixed grid.
fn expected_loss(own: f64) -> f64 {
    const POINTS: i32 = 40;
    let grid = || (-POINTS..=POINTS).map(|i| f64::from(i) * 4.0 / f64::from(POINTS));
    let weight = |z: f64| elementary::exp(-0.5 * z * z);
    let total: f64 = grid().map(weight).sum();
    let mut loss = 0.0;
    for z in grid() {
        let p = logistic(ODDS * z - 0.5);
        for e in grid() {
            let q = logistic(ODDS * z - 0.5 + (COMMON + own).sqrt() * e);
            loss -= weight(z) * weight(e) * (p * q.ln() + (1.0 - p) * (1.0 - q).ln());
        }
    }
    loss / (total * total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newcomer_is_as_much_better_as_asked_for() {
        for gain in [-0.004, 0.0, 0.004] {
            assert!((expected_loss(OWN) - expected_loss(own_variance(gain)) - gain).abs() < 1e-9, "{gain}");
        }
        assert!((own_variance(0.0) - OWN).abs() < 1e-9);
    }
}
