//! From the state of the world to findings, from findings to a plan. Each step names the finding that caused it; at most
//! one step of a plan changes who answers.

use crate::finding::finding;
use crate::gate::{Evidence, Verdict};
use crate::retraining::Worth;
use std::collections::{BTreeMap, BTreeSet};
use vocabulary::model::RetrainingPolicy;
use vocabulary::plan::{PlannedStep, Step};
use vocabulary::record::{Route, Stage};
use vocabulary::{Finding, FindingKind, ModelSpec, Plan, Span, Timestamp};

/// After a job failed, the next one waits this long, doubled with each failure in a row.
const RETRY_AFTER: Span = Span::hours(6);
/// Doublings at most.
const RETRY_DOUBLINGS_MAX: u32 = 5;

/// Names of the steps that change a routing snapshot, as the audit log has them.
pub const STEPS_OF_ROUTING: [&str; 8] =
    ["start_shadow", "start_canary", "pause_canary", "promote", "roll_back", "discard", "freeze", "thaw"];

/// What there is to know about one model.
#[derive(Clone, Debug)]
pub struct World {
    pub model: String,
    /// Number of the routing snapshot in force.
    pub snapshot: u64,
    pub route: Route,
    /// Numbers of all registered versions.
    pub versions: BTreeSet<u32>,
    /// What the monitors of the live version have certified.
    pub alarms: Vec<Finding>,
    /// The candidate against the live version.
    pub trial: Option<Evidence>,
    /// The version that was replaced against the live one.
    pub watch: Option<Evidence>,
    pub jobs: Jobs,
    /// The newest registered version that never had its trial.
    pub untried: Option<u32>,
    pub outcomes_since_training: u64,
    pub last_training: Option<Timestamp>,
    /// Incoming data breaks its contract too often to learn from.
    pub data_bad: bool,
    /// The finding for which the loop itself stopped retraining, if it did and nobody has changed that since.
    pub frozen_by: Option<String>,
    /// With the retraining policy "value": what a retraining is worth.
    pub worth: Option<Worth>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Jobs {
    pub running: bool,
    pub failed_in_a_row: u32,
    pub last_failure: Option<Timestamp>,
}

/// Everything that is worth knowing at `now`: the monitors' alarms, and what moves the loop.
pub fn assess(world: &World, spec: &ModelSpec, now: Timestamp) -> Vec<Finding> {
    let mut found = world.alarms.clone();
    let live = world.route.live.version;
    let mut add =
        |kind: FindingKind, subject: Option<String>, since: Timestamp, message: String, evidence: Option<&Evidence>| {
            let evidence = evidence.map(figures).unwrap_or_default();
            found.push(finding(&world.model, kind, subject, now, since, message, evidence));
        };
    let trained = world.last_training.unwrap_or(world.route.live.since);
    let schedule = spec.retraining.policy == RetrainingPolicy::Schedule;
    if let Some(every) = spec.retraining.every.filter(|_| schedule)
        && now - trained >= every
    {
        add(FindingKind::RetrainDue, None, trained, format!("{every} have passed since the last training"), None);
    }
    if world.jobs.failed_in_a_row > 0
        && let Some(at) = world.jobs.last_failure
    {
        let count = world.jobs.failed_in_a_row;
        add(
            FindingKind::JobFailed,
            None,
            at,
            format!("a training job failed ({count} in a row); see the jobs for the reason"),
            None,
        );
    }
    if world.data_bad && world.alarms.iter().all(|alarm| alarm.kind != FindingKind::DataBad) {
        add(FindingKind::DataBad, None, trained, "too many rows break their contract to learn from them".into(), None);
    }
    match (&world.route.candidate, &world.trial) {
        (Some(candidate), Some(trial)) => {
            let subject = Some(format!("{}@{}", world.model, candidate.version));
            let kind = match trial.verdict {
                Verdict::NotEnough => None,
                Verdict::Better => Some(FindingKind::CandidateBetter),
                Verdict::Worse => Some(FindingKind::CandidateWorse),
                Verdict::Undecided => Some(FindingKind::CandidateUndecided),
            };
            if let Some(kind) = kind {
                let message = sentence(kind, candidate.version, live, trial);
                add(kind, subject, candidate.shadow_since, message, Some(trial));
            }
        }
        (None, _) => {}
        (Some(_), None) => {}
    }
    if let Some(version) = world.untried {
        let subject = Some(format!("{}@{version}", world.model));
        add(FindingKind::CandidateReady, subject, Timestamp(0), format!("version {version} waits for its trial"), None);
    }
    if let (Some(fallback), Some(watch)) = (&world.route.fallback, &world.watch)
        && watch.verdict == Verdict::Better
    {
        let subject = Some(format!("{}@{live}", world.model));
        let message = sentence(FindingKind::LiveWorseThanFallback, fallback.version, live, watch);
        add(FindingKind::LiveWorseThanFallback, subject, world.route.live.since, message, Some(watch));
    }
    found.extend(worth_it(world, spec, trained, now));
    found
}

/// With the policy "value": that a retraining is worth its price, or that nothing has been learned for so long that it is
/// time to see what one would gain.
fn worth_it(world: &World, spec: &ModelSpec, trained: Timestamp, now: Timestamp) -> Option<Finding> {
    if spec.retraining.policy != RetrainingPolicy::Value {
        return None;
    }
    let horizon = spec.retraining.horizon;
    let (message, evidence) = match world.worth {
        Some(worth) if worth.is_worth() => {
            let (gain, cost) = (worth.gain, worth.cost);
            let message = format!("a retraining is expected to save {gain:.2} over {horizon} and costs {cost:.2}");
            (message, vec![("gain", gain), ("cost", cost), ("gain_per_row", worth.gain_per_row)])
        }
        None if now - trained >= horizon => (
            format!("nothing is known of what a retraining gains, and {horizon} have passed since the last"),
            Vec::new(),
        ),
        _ => return None,
    };
    let evidence = evidence.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    Some(finding(&world.model, FindingKind::RetrainWorth, None, now, trained, message, evidence))
}

fn figures(evidence: &Evidence) -> BTreeMap<String, f64> {
    let optional = [
        ("mean_gain", evidence.mean_gain),
        ("low", evidence.low),
        ("high", evidence.high),
        ("incumbent_loss", evidence.incumbent_loss),
        ("newcomer_loss", evidence.newcomer_loss),
    ];
    let mut figures: BTreeMap<String, f64> =
        optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    figures.insert("rows".into(), evidence.rows as f64);
    figures.insert("blocks".into(), evidence.blocks as f64);
    figures
}

fn sentence(kind: FindingKind, newcomer: u32, live: u32, evidence: &Evidence) -> String {
    let gain = evidence.mean_gain.unwrap_or_default();
    let (low, high) = (evidence.low.unwrap_or(f64::NAN), evidence.high.unwrap_or(f64::NAN));
    let interval = format!("{:.4} [{low:.4}, {high:.4}] a row on the same {} rows", gain.abs(), evidence.rows);
    match kind {
        FindingKind::CandidateBetter => format!("version {newcomer} loses less than version {live}, by {interval}"),
        FindingKind::CandidateWorse => format!(
            "version {newcomer} is not better than version {live}: gain {gain:.4} [{low:.4}, {high:.4}] on the same {} rows",
            evidence.rows
        ),
        FindingKind::LiveWorseThanFallback => {
            format!("version {live} loses more than version {newcomer}, which it replaced, by {interval}")
        }
        _ => format!(
            "no verdict between version {newcomer} and version {live} within the horizon: gain {gain:.4} [{low:.4}, {high:.4}]"
        ),
    }
}

/// What to do about what was found.
pub fn decide(world: &World, findings: &[Finding], spec: &ModelSpec, now: Timestamp) -> Plan {
    let mut steps = Vec::new();
    let find = |kind: FindingKind| findings.iter().find(|finding| finding.kind == kind);
    let mut plan = |step: Step, because: &str| steps.push(PlannedStep::new(step, because));
    let worse = find(FindingKind::LiveWorseThanFallback);
    // What the loop stopped because of bad data goes on when the data is good again.
    let healed = world.frozen_by.as_deref().filter(|id| is_about(id, &world.model, FindingKind::DataBad));
    let healed = healed.filter(|_| world.route.retraining_frozen && !world.data_bad);
    if let (Some(finding), Some(fallback)) = (worse, &world.route.fallback) {
        plan(Step::RollBack { to: fallback.version }, &finding.id);
    } else if let Some(bad) = find(FindingKind::DataBad).filter(|_| !world.route.retraining_frozen) {
        plan(Step::Freeze, &bad.id);
    } else if let Some((step, because)) = about_candidate(world, findings, spec, now) {
        plan(step, &because.id);
    }
    if let Some(because) = healed {
        plan(Step::Thaw, because);
    } else if let Some(because) = reason_to_retrain(world, findings, spec, now) {
        plan(Step::Retrain, &because.id);
    }
    Plan { model: world.model.clone(), parent: world.snapshot, at: now, steps }
}

/// Whether a finding's id names this kind of this model's.
fn is_about(id: &str, model: &str, kind: FindingKind) -> bool {
    id.strip_prefix(model).and_then(|rest| rest.strip_prefix('/')).is_some_and(|rest| rest.starts_with(kind.name()))
}

/// The next step of the trial, if there is one.
fn about_candidate<'a>(
    world: &World,
    findings: &'a [Finding],
    spec: &ModelSpec,
    now: Timestamp,
) -> Option<(Step, &'a Finding)> {
    let find = |kind: FindingKind| findings.iter().find(|finding| finding.kind == kind);
    let ready = find(FindingKind::CandidateReady);
    let Some(candidate) = &world.route.candidate else {
        return Some((Step::StartShadow { version: world.untried? }, ready?));
    };
    let version = candidate.version;
    let harmful = find(FindingKind::CanaryHarmful).filter(|_| candidate.stage == Stage::Canary);
    if let Some(finding) = harmful.or(find(FindingKind::CandidateWorse)).or(find(FindingKind::CandidateUndecided)) {
        return Some((Step::Discard { version }, finding));
    }
    if let Some(finding) = find(FindingKind::CandidateBetter).filter(|_| spec.release.automatic) {
        let no_canary = spec.release.min_canary <= Span(0);
        return match candidate.stage {
            // The newest of the line has its own days in shadow before it answers anybody.
            Stage::Shadow if now - candidate.since < spec.release.min_shadow => None,
            Stage::Shadow if no_canary => Some((Step::Promote { version }, finding)),
            Stage::Shadow => Some((Step::StartCanary { version, share: spec.release.canary }, finding)),
            Stage::Canary if now - candidate.since >= spec.release.min_canary => {
                Some((Step::Promote { version }, finding))
            }
            Stage::Canary => None,
        };
    }
    // In shadow the newest version takes the older one's place; the evidence is about the line of them and goes on.
    match (ready, candidate.stage) {
        (Some(ready), Stage::Shadow) => Some((Step::StartShadow { version: world.untried? }, ready)),
        _ => None,
    }
}

fn reason_to_retrain<'a>(
    world: &World,
    findings: &'a [Finding],
    spec: &ModelSpec,
    now: Timestamp,
) -> Option<&'a Finding> {
    let trained = world.last_training.unwrap_or(world.route.live.since);
    let canary = world.route.candidate.as_ref().is_some_and(|candidate| candidate.stage == Stage::Canary);
    let waiting = world.jobs.running || world.untried.is_some() || canary;
    let few = world.outcomes_since_training < spec.retraining.min_outcomes;
    if world.route.retraining_frozen || world.data_bad || waiting || few {
        return None;
    }
    if let Some(at) = world.jobs.last_failure.filter(|_| world.jobs.failed_in_a_row > 0) {
        let doublings = (world.jobs.failed_in_a_row - 1).min(RETRY_DOUBLINGS_MAX);
        if now - at < Span(RETRY_AFTER.0 << doublings) {
            return None;
        }
    }
    let due = |finding: &&Finding| matches!(finding.kind, FindingKind::RetrainDue | FindingKind::RetrainWorth);
    if let Some(due) = findings.iter().find(due) {
        return Some(due);
    }
    if spec.retraining.policy == RetrainingPolicy::Value {
        return None;
    }
    let cool = now - trained >= spec.retraining.cool_down;
    let causes = [FindingKind::LossHigh, FindingKind::Miscalibrated, FindingKind::InputDrift];
    // The alarm that says most: first by kind, then the earliest.
    let cause = |kind| findings.iter().filter(move |finding| finding.kind == kind).min_by_key(|finding| finding.at);
    if spec.retraining.on_alarm && cool { causes.into_iter().find_map(cause) } else { None }
}

/// Why a plan must not be carried out.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    /// Made for another routing snapshot.
    Stale {
        made_for: u64,
        in_force: u64,
    },
    TwoRisks,
    NoSuchFinding(String),
    NoSuchVersion(u32),
    /// A promotion without the evidence for it.
    Unproven(u32),
    NoFallback,
    Frozen,
    NotTheCandidate(u32),
    /// Learning would begin and be stopped in the same plan, or from bad data.
    Contradiction,
}

/// Checks a plan against the world, whoever made it.
pub fn lint(plan: &Plan, world: &World, findings: &[Finding], spec: &ModelSpec) -> Vec<Refusal> {
    let mut refused = Vec::new();
    if plan.parent != world.snapshot {
        refused.push(Refusal::Stale { made_for: plan.parent, in_force: world.snapshot });
    }
    if plan.steps.iter().filter(|planned| planned.step.is_risky()).count() > 1 {
        refused.push(Refusal::TwoRisks);
    }
    let does = |step: &Step| plan.steps.iter().any(|planned| planned.step == *step);
    if does(&Step::Freeze) && (does(&Step::Retrain) || does(&Step::Thaw)) || does(&Step::Retrain) && world.data_bad {
        refused.push(Refusal::Contradiction);
    }
    let candidate = world.route.candidate.as_ref().map(|candidate| candidate.version);
    for planned in &plan.steps {
        let because = findings.iter().find(|finding| finding.id == planned.because);
        // What takes something back names the finding that is gone.
        let takes_back = matches!(planned.step, Step::Thaw | Step::AdmitAll | Step::Notify | Step::Pass)
            || planned.step == Step::Retrain && planned.playbook.is_some();
        if because.is_none() && !takes_back {
            refused.push(Refusal::NoSuchFinding(planned.because.clone()));
        }
        let proven =
            spec.release.automatic && because.is_some_and(|finding| finding.kind == FindingKind::CandidateBetter);
        match &planned.step {
            Step::StartShadow { version } if !world.versions.contains(version) => {
                refused.push(Refusal::NoSuchVersion(*version))
            }
            Step::StartCanary { version, .. } | Step::Promote { version } => {
                if candidate != Some(*version) {
                    refused.push(Refusal::NotTheCandidate(*version));
                }
                if !proven {
                    refused.push(Refusal::Unproven(*version));
                }
            }
            Step::Discard { version } | Step::PauseCanary { version } if candidate != Some(*version) => {
                refused.push(Refusal::NotTheCandidate(*version))
            }
            Step::RollBack { to } if !returns_to(&world.route).any(|version| version == *to) => {
                refused.push(Refusal::NoFallback);
            }
            Step::Retrain if world.route.retraining_frozen => refused.push(Refusal::Frozen),
            _ => {}
        }
    }
    refused
}

/// Versions that may be returned to without a trial: the one that was live before, and the first.
fn returns_to(route: &Route) -> impl Iterator<Item = u32> {
    [&route.fallback, &route.frozen].into_iter().flatten().map(|deployed| deployed.version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{evidence, spec, world};

    fn day(n: i64) -> Timestamp {
        Timestamp(0) + Span::days(n)
    }

    /// Names of the steps, after the plan passed the lint.
    fn planned(world: &World, spec: &ModelSpec, now: Timestamp) -> Vec<&'static str> {
        let findings = assess(world, spec, now);
        let plan = decide(world, &findings, spec, now);
        assert_eq!(lint(&plan, world, &findings, spec), []);
        plan.steps.iter().map(|planned| planned.step.name()).collect()
    }

    #[test]
    fn a_quiet_world_is_left_alone() {
        assert!(planned(&world(), &spec(), day(3)).is_empty());
    }

    #[test]
    fn the_schedule_asks_for_a_retraining_once_there_is_something_to_learn() {
        let mut world = world();
        world.outcomes_since_training = 5000;
        assert_eq!(planned(&world, &spec(), day(40)), ["retrain"]);
        world.jobs.running = true;
        assert!(planned(&world, &spec(), day(40)).is_empty());
        world.jobs = Jobs { running: false, failed_in_a_row: 2, last_failure: Some(day(40)) };
        assert!(planned(&world, &spec(), day(40) + Span::hours(11)).is_empty());
        assert_eq!(planned(&world, &spec(), day(40) + Span::hours(12)), ["retrain"]);
        world.route.retraining_frozen = true;
        assert!(planned(&world, &spec(), day(60)).is_empty());
    }

    #[test]
    fn a_newcomer_goes_through_shadow_and_canary_before_it_answers_all() {
        let (mut world, spec) = (world(), spec());
        world.untried = Some(2);
        assert_eq!(planned(&world, &spec, day(1)), ["start_shadow"]);
        world.untried = None;
        world.route.candidate = Some(crate::testing::candidate(2, Stage::Shadow, day(1)));
        world.trial = Some(evidence(Verdict::NotEnough));
        assert!(planned(&world, &spec, day(3)).is_empty());
        world.trial = Some(evidence(Verdict::Better));
        assert_eq!(planned(&world, &spec, day(8)), ["start_canary"]);
        world.untried = Some(3);
        world.trial = Some(evidence(Verdict::NotEnough));
        assert_eq!(planned(&world, &spec, day(8)), ["start_shadow"]);
        (world.untried, world.trial) = (None, Some(evidence(Verdict::Better)));
        world.route.candidate = Some(crate::testing::candidate(2, Stage::Canary, day(8)));
        assert!(planned(&world, &spec, day(8) + Span::hours(1)).is_empty());
        assert_eq!(planned(&world, &spec, day(9)), ["promote"]);
        world.trial = Some(evidence(Verdict::Worse));
        assert_eq!(planned(&world, &spec, day(9)), ["discard"]);
        world.trial = Some(evidence(Verdict::Undecided));
        assert_eq!(planned(&world, &spec, day(9)), ["discard"]);
    }

    #[test]
    fn what_turns_out_worse_is_rolled_back() {
        let mut world = world();
        world.route.fallback = Some(crate::testing::deployed(3));
        world.watch = Some(evidence(Verdict::Better));
        assert_eq!(planned(&world, &spec(), day(5)), ["roll_back"]);
    }

    #[test]
    fn a_plan_that_must_not_be_is_refused() {
        let (world, spec) = (world(), spec());
        let steps = vec![
            PlannedStep::new(Step::Promote { version: 9 }, "nothing"),
            PlannedStep::new(Step::RollBack { to: 2 }, "nothing"),
            PlannedStep::new(Step::Freeze, "nothing"),
            PlannedStep::new(Step::Retrain, "nothing"),
        ];
        let plan = Plan { model: "m".into(), parent: 6, at: day(1), steps };
        let refused = lint(&plan, &world, &[], &spec);
        for expected in [
            Refusal::Stale { made_for: 6, in_force: 7 },
            Refusal::TwoRisks,
            Refusal::Unproven(9),
            Refusal::NotTheCandidate(9),
            Refusal::NoFallback,
            Refusal::Contradiction,
        ] {
            assert!(refused.contains(&expected), "{expected:?} is not in {refused:?}");
        }
    }

    #[test]
    fn bad_data_stops_learning_until_it_has_healed() {
        let mut world = world();
        world.outcomes_since_training = 5000;
        world.data_bad = true;
        assert_eq!(planned(&world, &spec(), day(40)), ["freeze"]);
        world.route.retraining_frozen = true;
        world.frozen_by = Some("m/data_bad/1970-01-01T00:00:00Z".into());
        assert!(planned(&world, &spec(), day(41)).is_empty());
        world.data_bad = false;
        assert_eq!(planned(&world, &spec(), day(42)), ["thaw"]);
        // What an operator froze stays frozen.
        world.frozen_by = None;
        assert!(planned(&world, &spec(), day(42)).is_empty());
    }

    #[test]
    fn by_value_a_retraining_has_to_pay() {
        let (mut world, mut spec) = (world(), spec());
        spec.retraining.policy = RetrainingPolicy::Value;
        world.outcomes_since_training = 5000;
        let worth = |gain| Some(Worth { excess: 0.0, gain_per_row: 0.01, gain, cost: 2.0 });
        world.worth = worth(1.0);
        assert!(planned(&world, &spec, day(40)).is_empty());
        world.worth = worth(3.0);
        assert_eq!(planned(&world, &spec, day(8)), ["retrain"]);
        world.worth = None;
        assert!(planned(&world, &spec, day(29)).is_empty());
        assert_eq!(planned(&world, &spec, day(30)), ["retrain"]);
    }

    #[test]
    fn a_harmful_canary_is_withdrawn_whatever_its_loss() {
        let (mut world, spec) = (world(), spec());
        world.route.candidate = Some(crate::testing::candidate(2, Stage::Canary, day(8)));
        world.trial = Some(evidence(Verdict::Better));
        let (at, subject) = (day(9), Some("m@2".to_owned()));
        world.alarms.push(finding("m", FindingKind::CanaryHarmful, subject, at, at, "slow".into(), BTreeMap::new()));
        assert_eq!(planned(&world, &spec, day(9)), ["discard"]);
    }
}
