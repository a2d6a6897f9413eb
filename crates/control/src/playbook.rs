//! Playbooks at work: which steps are due for what was found. The plan that the loop made by itself comes in, and goes out
//! with the playbooks' steps. At most one step changes who answers; a rollback goes before a release.

use crate::decide::World;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use vocabulary::plan::{PlannedStep, PlaybookStepRef, Step};
use vocabulary::playbook::{Action, PlaybookStep, When};
use vocabulary::record::Stage;
use vocabulary::{Finding, FindingKind, ModelSpec, Plan, Playbook, Span, Timestamp};

/// Runs that are remembered of one model at most; beyond it the oldest are forgotten.
pub const RUNS_MAX: usize = 1024;
/// Findings that are remembered as true at most; what is beyond it cannot start a playbook, and is counted.
pub const OPEN_MAX: usize = 1024;

/// A playbook that was begun for a finding.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Run {
    pub playbook: String,
    pub because: String,
    pub at: Timestamp,
    /// Steps that were taken, those of `undo` counted after those of `do`.
    pub done: usize,
}

/// What has to be remembered of one model between looks. All of it can be read back from the audit log.
#[derive(Clone, Debug, Default)]
pub struct History {
    runs: VecDeque<Run>,
    /// Findings that are true, and when they were first seen.
    open: BTreeMap<String, Timestamp>,
    /// Findings for which a playbook was begun and that are no longer true, and since when.
    healed: BTreeMap<String, Timestamp>,
    /// Findings that found no room.
    pub overlooked: u64,
}

impl History {
    /// A playbook's step was taken.
    pub fn note(&mut self, step: &PlaybookStepRef, because: &str, at: Timestamp) {
        let known = self.runs.iter_mut().rev().find(|run| run.playbook == step.playbook && run.because == because);
        match known {
            Some(run) => run.done = run.done.max(step.place + 1),
            None => {
                let (playbook, because) = (step.playbook.clone(), because.to_owned());
                self.runs.push_back(Run { playbook, because, at, done: step.place + 1 });
                if self.runs.len() > RUNS_MAX
                    && let Some(gone) = self.runs.pop_front()
                    && self.runs.iter().all(|run| run.because != gone.because)
                {
                    self.healed.remove(&gone.because);
                }
            }
        }
    }

    /// A finding that was true when the loop last looked.
    pub fn recall(&mut self, finding: &str, at: Timestamp) {
        if self.open.len() < OPEN_MAX {
            self.open.insert(finding.to_owned(), at);
        }
    }

    /// A finding that was no longer true from `at` on.
    pub fn recall_healed(&mut self, finding: &str, at: Timestamp) {
        if self.runs.iter().any(|run| run.because == finding) {
            self.healed.insert(finding.to_owned(), at);
        }
    }

    /// Takes note of what is true at `now`. Returns the ids of those that no longer are.
    pub fn see(&mut self, findings: &[Finding], now: Timestamp) -> Vec<String> {
        let present: BTreeSet<&str> = findings.iter().map(|finding| finding.id.as_str()).collect();
        let healed: Vec<String> = self.open.keys().filter(|id| !present.contains(id.as_str())).cloned().collect();
        for id in &healed {
            self.open.remove(id);
            self.recall_healed(id, now);
        }
        for id in present {
            if self.open.contains_key(id) {
                continue;
            }
            if self.open.len() < OPEN_MAX {
                self.open.insert(id.to_owned(), now);
            } else {
                self.overlooked += 1;
            }
        }
        healed
    }

    pub fn runs(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter()
    }

    fn since(&self, finding: &str) -> Option<Timestamp> {
        self.open.get(finding).copied()
    }

    /// Whether another run, whose finding is true, did what `undo` would take back.
    fn held_by_another(&self, undo: Action, run: &Run, playbooks: &[Playbook]) -> bool {
        let taken_back = match undo {
            Action::Thaw => Action::Freeze,
            Action::AdmitAll => Action::Shed,
            _ => return false,
        };
        self.runs.iter().any(|other| {
            let playbook = playbooks.iter().find(|playbook| playbook.name == other.playbook);
            let did = |playbook: &Playbook| playbook.steps.iter().take(other.done).any(|step| step.step == taken_back);
            (other.playbook != run.playbook || other.because != run.because)
                && self.open.contains_key(&other.because)
                && playbook.is_some_and(did)
        })
    }
}

/// The plan with what the playbooks ask for. `history` has seen `findings`.
pub fn react(
    world: &World,
    findings: &[Finding],
    spec: &ModelSpec,
    playbooks: &[Playbook],
    history: &History,
    mut plan: Plan,
) -> Plan {
    let now = plan.at;
    for playbook in playbooks {
        let mut due: Vec<Due> = history
            .runs
            .iter()
            .filter(|run| run.playbook == playbook.name)
            .flat_map(|run| goes_on(playbook, run, history, playbooks, now))
            .collect();
        due.extend(begins(playbook, world, findings, history, now));
        for due in due {
            let step = PlaybookStepRef { playbook: playbook.name.clone(), place: due.place };
            if !put(&mut plan, world, spec, &due.step, step, due.because) {
                // Another step changes who answers in this plan; the run goes on at the next look.
                break;
            }
        }
    }
    if plan.steps.iter().any(|planned| planned.step == Step::Freeze) {
        plan.steps.retain(|planned| planned.step != Step::Retrain);
    }
    plan
}

struct Due {
    step: PlaybookStep,
    place: usize,
    because: String,
}

/// The steps of a run that was begun earlier: the next ones while its finding is true, the undoing when it no longer is.
fn goes_on(playbook: &Playbook, run: &Run, history: &History, playbooks: &[Playbook], now: Timestamp) -> Vec<Due> {
    let because = || run.because.clone();
    if history.open.contains_key(&run.because) {
        let next = playbook.steps.iter().enumerate().skip(run.done);
        let next = next.take_while(|(_, step)| now - run.at >= step.after);
        return next.map(|(place, step)| Due { step: step.clone(), place, because: because() }).collect();
    }
    // A finding that was forgotten healed long ago.
    let since = history.healed.get(&run.because).copied().unwrap_or(run.at);
    let first = playbook.steps.len();
    let undo = playbook.undo.iter().enumerate().skip(run.done.saturating_sub(first));
    undo.take_while(|(_, step)| now - since >= step.after && !history.held_by_another(step.step, run, playbooks))
        .map(|(place, step)| Due { step: step.clone(), place: first + place, because: because() })
        .collect()
}

/// The first steps, if something was found that starts the playbook and its limits allow it.
fn begins(playbook: &Playbook, world: &World, findings: &[Finding], history: &History, now: Timestamp) -> Vec<Due> {
    let begun: Vec<&Run> = history.runs.iter().filter(|run| run.playbook == playbook.name).collect();
    let limits = &playbook.limits;
    let recent = begun.iter().filter(|run| now - run.at < limits.within).count();
    if recent >= limits.at_most as usize || begun.iter().any(|run| now - run.at < limits.cool_down) {
        return Vec::new();
    }
    let fresh = findings.iter().find(|finding| {
        starts(&playbook.when, finding, world, history, now) && begun.iter().all(|run| run.because != finding.id)
    });
    let Some(finding) = fresh else { return Vec::new() };
    let first = playbook.steps.iter().enumerate().take_while(|(_, step)| step.after <= Span(0));
    first.map(|(place, step)| Due { step: step.clone(), place, because: finding.id.clone() }).collect()
}

/// Whether a finding is what a playbook waits for.
fn starts(when: &When, finding: &Finding, world: &World, history: &History, now: Timestamp) -> bool {
    let Some(since) = history.since(&finding.id) else { return false };
    let kind = when.findings.contains(&finding.kind) || when.findings.is_empty() && finding.kind.is_alarm();
    let kind_of_cause = finding.cause.as_ref().map_or("", |cause| cause.kind.name());
    let subject = finding.subject.as_deref().unwrap_or_default();
    let text = || format!("{kind_of_cause} {subject} {}", finding.message).to_lowercase();
    let cause = when.causes.is_empty() || when.causes.iter().any(|cause| text().contains(&cause.to_lowercase()));
    let model = when.models.is_empty() || when.models.contains(&finding.model);
    let fresh = when.released_within.is_none_or(|most| since - world.route.live.since <= most);
    kind && cause && model && fresh && finding.severity() >= when.severity && now - since >= when.lasting
}

/// Puts a step into the plan; false where it has to wait because another one changes who answers.
fn put(
    plan: &mut Plan,
    world: &World,
    spec: &ModelSpec,
    wanted: &PlaybookStep,
    by: PlaybookStepRef,
    because: String,
) -> bool {
    let step = step_of(wanted, world, spec);
    // What the loop does by itself is done once, and belongs to the playbook that asks for the same.
    if let Some(planned) = plan.steps.iter_mut().find(|planned| planned.playbook.is_none() && planned.step == step) {
        planned.playbook = Some(by);
        planned.because = because;
        return true;
    }
    if step.is_risky() {
        let takes_back = |step: &Step| matches!(step, Step::RollBack { .. } | Step::PauseCanary { .. });
        plan.steps.retain(|planned| !planned.step.is_risky() || takes_back(&planned.step));
        if plan.steps.iter().any(|planned| planned.step.is_risky()) {
            return false;
        }
        // The candidate is dealt with at the next look, when it is clear who answers.
        plan.steps.retain(|planned| !matches!(planned.step, Step::Discard { .. } | Step::StartShadow { .. }));
    }
    plan.steps.push(PlannedStep { step, because, playbook: Some(by) });
    true
}

/// The step as this world allows it; `Pass` where there is nothing to do.
fn step_of(wanted: &PlaybookStep, world: &World, spec: &ModelSpec) -> Step {
    let route = &world.route;
    let fallback = route.fallback.as_ref().map(|fallback| fallback.version);
    let first = route.frozen.as_ref().map(|frozen| frozen.version).filter(|first| *first != route.live.version);
    let back = |to: Option<u32>| to.map_or(Step::Pass, |to| Step::RollBack { to });
    match wanted.step {
        Action::Notify => Step::Notify,
        Action::Page => Step::Page,
        Action::Freeze if !route.retraining_frozen => Step::Freeze,
        Action::Thaw if route.retraining_frozen => Step::Thaw,
        Action::RollBack => back(fallback),
        Action::FallBack => back(fallback.or(first)),
        Action::PauseCanary => match &route.candidate {
            Some(candidate) if candidate.stage == Stage::Canary => Step::PauseCanary { version: candidate.version },
            _ => Step::Pass,
        },
        Action::Discard => {
            route.candidate.as_ref().map_or(Step::Pass, |candidate| Step::Discard { version: candidate.version })
        }
        Action::Retrain => {
            let few = world.outcomes_since_training < spec.retraining.min_outcomes;
            let cannot =
                route.retraining_frozen || world.data_bad || world.jobs.running || world.untried.is_some() || few;
            if cannot { Step::Pass } else { Step::Retrain }
        }
        Action::Shed => {
            Step::Shed { weight_below_milli: (wanted.weight_below.unwrap_or_default() * 1000.0).ceil() as u32 }
        }
        Action::AdmitAll => Step::AdmitAll,
        Action::Freeze | Action::Thaw => Step::Pass,
    }
}

/// Kinds that a playbook waits for and that nothing of this model can ever find, as its objective does not promise it.
pub fn never_found(playbook: &Playbook, spec: &ModelSpec) -> Vec<FindingKind> {
    let objective = &spec.objective;
    let cannot = |kind: &FindingKind| match kind {
        FindingKind::LatencyBurn => objective.latency_target.is_none(),
        FindingKind::AvailabilityBurn => objective.availability.is_none(),
        FindingKind::AccuracyBurn => objective.accuracy.is_none(),
        FindingKind::CostHigh => objective.price_max.is_none(),
        FindingKind::Stale => objective.freshness.is_none(),
        FindingKind::OutcomesSilent => objective.outcomes_every.is_none(),
        FindingKind::SourceSilent => objective.requests_every.is_none(),
        _ => false,
    };
    playbook.when.findings.iter().copied().filter(|kind| cannot(kind)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::finding;
    use crate::lint;
    use crate::testing::{candidate, deployed, spec, world};
    use vocabulary::cause::{Cause, CauseKind, Place};
    use vocabulary::playbook::Limits;

    fn at(minutes: i64) -> Timestamp {
        Timestamp(minutes * 60_000_000)
    }

    fn playbook(kind: FindingKind, actions: &[(Action, i64)], undo: &[Action]) -> Playbook {
        let step = |step, minutes: i64| PlaybookStep { step, after: Span(minutes * 60_000_000), weight_below: None };
        Playbook {
            name: "p".into(),
            description: String::new(),
            when: When { findings: vec![kind], ..When::default() },
            steps: actions.iter().map(|(action, after)| step(*action, *after)).collect(),
            undo: undo.iter().map(|action| step(*action, 0)).collect(),
            limits: Limits::default(),
        }
    }

    fn found(kind: FindingKind, since: Timestamp) -> Finding {
        finding("m", kind, None, since, since, "the reader broke off".into(), BTreeMap::new())
    }

    /// One look: sees, reacts, checks the lint, and takes note of what was done.
    fn look(
        world: &World,
        findings: &[Finding],
        playbooks: &[Playbook],
        history: &mut History,
        now: Timestamp,
    ) -> Vec<&'static str> {
        history.see(findings, now);
        let plan = Plan { model: "m".into(), parent: world.snapshot, at: now, steps: Vec::new() };
        let plan = react(world, findings, &spec(), playbooks, history, plan);
        assert_eq!(lint(&plan, world, findings, &spec()), []);
        for planned in &plan.steps {
            history.note(planned.playbook.as_ref().unwrap(), &planned.because, now);
        }
        plan.steps.iter().map(|planned| planned.step.name()).collect()
    }

    #[test]
    fn steps_come_in_their_time_and_are_taken_back() {
        use Action::*;
        let playbooks = [playbook(FindingKind::SourceSilent, &[(Notify, 0), (Freeze, 0), (Page, 30)], &[Thaw])];
        let (mut world, mut history) = (world(), History::default());
        let silent = [found(FindingKind::SourceSilent, at(0))];
        assert_eq!(look(&world, &silent, &playbooks, &mut history, at(0)), ["notify", "freeze"]);
        world.route.retraining_frozen = true;
        assert!(look(&world, &silent, &playbooks, &mut history, at(10)).is_empty());
        assert_eq!(look(&world, &silent, &playbooks, &mut history, at(30)), ["page"]);
        assert!(look(&world, &silent, &playbooks, &mut history, at(60)).is_empty());
        assert_eq!(look(&world, &[], &playbooks, &mut history, at(61)), ["thaw"]);
        world.route.retraining_frozen = false;
        assert!(look(&world, &[], &playbooks, &mut history, at(62)).is_empty());
    }

    #[test]
    fn a_flapping_finding_does_not_make_a_playbook_flap() {
        let mut playbook = playbook(FindingKind::Surge, &[(Action::Notify, 0)], &[]);
        (playbook.limits.at_most, playbook.limits.cool_down) = (3, Span::hours(1));
        let (world, mut history) = (world(), History::default());
        let mut begun = 0;
        // On and off every five minutes for a day.
        for n in 0..288 {
            let findings = if n % 2 == 0 { vec![found(FindingKind::Surge, at(5 * n))] } else { Vec::new() };
            begun += look(&world, &findings, std::slice::from_ref(&playbook), &mut history, at(5 * n)).len();
        }
        assert_eq!(begun, 3);
    }

    #[test]
    fn when_says_what_starts_it() {
        let (world, mut history) = (world(), History::default());
        let mut one = playbook(FindingKind::LossHigh, &[(Action::Notify, 0)], &[]);
        let mut findings = [found(FindingKind::LossHigh, at(0))];
        findings[0].cause = Some(Cause::new(CauseKind::NullFlood, Place::default()));
        history.see(&findings, at(0));
        let starts = |when: &When, now| starts(when, &findings[0], &world, &history, now);
        assert!(starts(&one.when, at(0)));
        one.when.lasting = Span::hours(1);
        assert!(!starts(&one.when, at(59)) && starts(&one.when, at(60)));
        one.when.causes = vec!["BROKE off".into()];
        assert!(starts(&one.when, at(60)));
        one.when.causes = vec!["null_flood".into()];
        assert!(starts(&one.when, at(60)));
        one.when.causes = vec!["unit".into()];
        assert!(!starts(&one.when, at(60)));
        one.when = When { severity: vocabulary::Severity::Page, ..When::default() };
        assert!(!starts(&one.when, at(60)));
        one.when = When { models: vec!["other".into()], ..When::default() };
        assert!(!starts(&one.when, at(60)));
        one.when = When { released_within: Some(Span::hours(1)), ..When::default() };
        assert!(starts(&one.when, at(0)));
    }

    #[test]
    fn a_rollback_goes_before_a_release_and_one_risk_is_enough() {
        let (mut world, mut history) = (world(), History::default());
        world.route.fallback = Some(deployed(3));
        world.route.candidate = Some(candidate(2, Stage::Canary, at(0)));
        let findings = [found(FindingKind::AvailabilityBurn, at(0)), found(FindingKind::CandidateBetter, at(0))];
        history.see(&findings, at(0));
        let promote = PlannedStep::new(Step::Promote { version: 2 }, &findings[1].id);
        let plan = Plan { model: "m".into(), parent: 7, at: at(0), steps: vec![promote] };
        let mut second = playbook(FindingKind::AvailabilityBurn, &[(Action::PauseCanary, 0)], &[]);
        second.name = "q".into();
        let both = [playbook(FindingKind::AvailabilityBurn, &[(Action::RollBack, 0)], &[]), second];
        let plan = react(&world, &findings, &spec(), &both, &history, plan);
        let names: Vec<_> = plan.steps.iter().map(|planned| planned.step.name()).collect();
        assert_eq!(names, ["roll_back"]);
        assert_eq!(lint(&plan, &world, &findings, &spec()), []);
    }

    #[test]
    fn what_cannot_be_done_is_passed_over() {
        let playbooks = [playbook(FindingKind::LatencyBurn, &[(Action::RollBack, 0), (Action::Page, 0)], &[])];
        let findings = [found(FindingKind::LatencyBurn, at(0))];
        let mut history = History::default();
        assert_eq!(look(&world(), &findings, &playbooks, &mut history, at(0)), ["pass", "page"]);
        assert!(look(&world(), &findings, &playbooks, &mut history, at(5)).is_empty());
        assert_eq!(never_found(&playbooks[0], &spec()), [FindingKind::LatencyBurn]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut history = History::default();
        for n in 0..RUNS_MAX + 10 {
            let step = PlaybookStepRef { playbook: "p".into(), place: 0 };
            history.note(&step, &format!("finding {n}"), at(0));
        }
        assert_eq!(history.runs().count(), RUNS_MAX);
        let many: Vec<Finding> = (0..OPEN_MAX as i64 + 5).map(|n| found(FindingKind::Surge, at(n))).collect();
        history.see(&many, at(0));
        assert_eq!(history.overlooked, 5);
    }
}
