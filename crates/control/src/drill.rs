//! A drill: a playbook is rehearsed with made records in virtual time, through the same judgement that the server uses, with
//! the project's own promises, playbooks and limits. Nothing real is touched.

use crate::decide::{Jobs, World, assess, decide, lint};
use crate::gate::{Evidence, Verdict};
use crate::guard::{Arm, harm};
use crate::objective::{Counts, Facts, Objectives, rules};
use crate::playbook::{History, never_found, react};
use crate::{apply, finding};
use std::collections::BTreeMap;
use vocabulary::incident::{Line, What};
use vocabulary::plan::Step;
use vocabulary::playbook::Action;
use vocabulary::record::{Candidate, Deployed, Route, Stage};
use vocabulary::{Digest, Finding, FindingKind, ModelSpec, Plan, Playbook, Routing, Share, Span, Timestamp};

const MINUTE: Span = Span(60_000_000);
/// The trouble begins after this much quiet.
const QUIET: Span = Span::hours(1);
/// Requests of a minute, each of which gets its outcome.
const REQUESTS: u64 = 60;
/// A training that the drill pretends takes this long.
const TRAINING: Span = Span(10 * 60_000_000);
/// The trouble goes on for this long after the last step that the playbook would take.
const LINGER: Span = Span(5 * 60_000_000);
/// A drill lasts this long at most: the longest window of a quarter's error budget, and what a silence may take.
const LONGEST: Span = Span::days(40);
/// Time after the healing in which everything has to be taken back: the short window of the slowest budget, and more.
const HEALING: Span = Span::days(2);

/// How a rehearsal of one finding of one model went.
#[derive(Clone, Debug, PartialEq)]
pub struct Rehearsal {
    pub model: String,
    pub kind: FindingKind,
    /// The trouble begins at the beginning of 1970 and an hour.
    pub timeline: Vec<Line>,
    /// From the trouble to the finding, and from the finding to the first step that does something.
    pub found_after: Option<Span>,
    pub acted_after: Option<Span>,
    /// What went wrong; nothing where the playbook keeps its promise.
    pub problems: Vec<String>,
}

/// Rehearses every finding that starts `playbook` and that the model can find.
pub fn rehearse(playbook: &Playbook, playbooks: &[Playbook], spec: &ModelSpec) -> Vec<Rehearsal> {
    let never = never_found(playbook, spec);
    let kinds: Vec<FindingKind> = match playbook.when.findings.is_empty() {
        // It answers to any alarm: one that every model can have stands for them.
        true => vec![FindingKind::JobFailed],
        false => playbook.when.findings.iter().copied().filter(|kind| !never.contains(kind)).collect(),
    };
    kinds.into_iter().map(|kind| Drill::new(playbook, playbooks, spec, kind).run()).collect()
}

struct Drill<'a> {
    playbook: &'a Playbook,
    playbooks: &'a [Playbook],
    spec: &'a ModelSpec,
    kind: FindingKind,
    objectives: Objectives,
    history: History,
    routing: Routing,
    digests: BTreeMap<u32, Digest>,
    training_until: Option<Timestamp>,
    last_training: Timestamp,
    frozen_by: Option<String>,
    /// Both arms of a canary.
    arms: (Arm, Arm),
    told: Vec<String>,
    rehearsal: Rehearsal,
    found_at: Option<Timestamp>,
    undone: bool,
}

const BEGIN: Timestamp = Timestamp(0);

impl<'a> Drill<'a> {
    fn new(playbook: &'a Playbook, playbooks: &'a [Playbook], spec: &'a ModelSpec, kind: FindingKind) -> Self {
        let digests: BTreeMap<u32, Digest> = (1..=3).map(|n| (n, Digest::of(&[n as u8]))).collect();
        // A playbook about releases is rehearsed after one; for the others nobody released anything lately.
        let since = if playbook.when.released_within.is_some() { BEGIN } else { BEGIN - Span::days(60) };
        let deployed = |version: u32| Deployed { version, digest: digests[&version], since };
        let has = |action: Action| playbook.steps.iter().any(|step| step.step == action);
        let canary = kind == FindingKind::CanaryHarmful || has(Action::PauseCanary) || has(Action::Discard);
        let candidate = Candidate {
            version: 3,
            digest: digests[&3],
            stage: Stage::Canary,
            share: Share::from_bp(1000),
            since: BEGIN,
            shadow_since: BEGIN,
        };
        let route = Route {
            live: deployed(2),
            candidate: canary.then_some(candidate),
            fallback: Some(deployed(1)),
            frozen: Some(deployed(1)),
            retraining_frozen: false,
        };
        let routing = Routing { number: 1, models: [(spec.name.clone(), route)].into(), ..Routing::default() };
        Drill {
            playbook,
            playbooks,
            spec,
            kind,
            objectives: Objectives::new(spec),
            history: History::default(),
            routing,
            digests,
            training_until: None,
            last_training: BEGIN,
            frozen_by: None,
            arms: Default::default(),
            told: Vec::new(),
            rehearsal: Rehearsal {
                model: spec.name.clone(),
                kind,
                timeline: Vec::new(),
                found_after: None,
                acted_after: None,
                problems: Vec::new(),
            },
            found_at: None,
            undone: playbook.undo.is_empty(),
        }
    }

    fn run(mut self) -> Rehearsal {
        let trouble = BEGIN + QUIET;
        let (mut now, mut healed_at) = (BEGIN, None);
        let last = self.playbook.steps.last().map_or(Span(0), |step| step.after);
        let lasting = Span(self.playbook.when.lasting.0 + last.0 + LINGER.0);
        self.line(trouble, What::Moved, format!("the trouble begins: {}", described(self.kind)));
        let patience = trouble + Span(self.longest_to_find().0 + QUIET.0);
        loop {
            now = now + MINUTE;
            if healed_at.is_none() && self.found_at.is_some_and(|found| now - found >= lasting) {
                healed_at = Some(now);
                self.line(now, What::Moved, "the trouble ends".to_owned());
            }
            let troubled = now >= trouble && healed_at.is_none();
            self.minute(now, troubled);
            let waits = self.found_at.is_none() && now > patience;
            let over = healed_at.is_some_and(|healed| self.undone || now - healed > HEALING);
            if waits || over || now - BEGIN > LONGEST {
                break;
            }
        }
        self.judge(trouble)
    }

    /// The longest that the trouble may have to last before it is certain.
    fn longest_to_find(&self) -> Span {
        let objective = &self.spec.objective;
        let target = objective.budgets().into_iter().find(|(kind, _)| *kind == self.kind).map(|(_, target)| target);
        let windows = target.map(|target| rules(objective.period, target));
        let longest = windows.and_then(|rules| rules.last().map(|rule| rule.long));
        let every = match self.kind {
            FindingKind::OutcomesSilent => objective.outcomes_every,
            FindingKind::SourceSilent => objective.requests_every,
            FindingKind::Stale => objective.freshness,
            _ => None,
        };
        longest.or(every).unwrap_or(QUIET)
    }

    /// A minute's records, and the look that follows them.
    fn minute(&mut self, now: Timestamp, troubled: bool) {
        let (counts, facts) = self.records(now, troubled);
        self.objectives.count(now, &counts);
        if self.training_until.is_some_and(|until| now >= until) {
            self.training_until = None;
        }
        let mut alarms = self.objectives.findings(&self.spec.objective, &facts, now);
        alarms.extend(self.guarded(now, troubled));
        let measured =
            [FindingKind::InputDrift, FindingKind::LossHigh, FindingKind::Miscalibrated, FindingKind::JobFailed];
        if troubled && measured.contains(&self.kind) {
            let since = BEGIN + QUIET;
            let message = format!("{} (made for the drill)", described(self.kind));
            alarms.push(finding(&self.spec.name, self.kind, None, since, since, message, BTreeMap::new()));
        }
        let world = self.world(alarms, troubled);
        let findings = assess(&world, self.spec, now);
        let healed = self.history.see(&findings, now);
        self.tell(&findings, &healed, now);
        let plan = decide(&world, &findings, self.spec, now);
        let plan = react(&world, &findings, self.spec, self.playbooks, &self.history, plan);
        for refusal in lint(&plan, &world, &findings, self.spec) {
            self.rehearsal.problems.push(format!("at {now} the plan was refused: {refusal:?}"));
        }
        self.carry_out(&plan, now);
    }

    fn records(&self, now: Timestamp, troubled: bool) -> (Counts, Facts) {
        let all = REQUESTS;
        let mut counts = Counts { requests: all, answered: all, outcomes: all, ..Counts::default() };
        let mut facts = Facts { trained_to: Some(now), price_per_million: Some(0.0), disk_free: Some((2, 1)) };
        if !troubled {
            return (counts, facts);
        }
        match self.kind {
            FindingKind::LatencyBurn => counts.slow = all,
            FindingKind::AvailabilityBurn => (counts.answered, counts.failed) = (all / 2, all / 2),
            FindingKind::AccuracyBurn => counts.wrong = all,
            FindingKind::Surge => {
                (counts.answered, counts.failed, counts.contended) = (all / 2, all / 2, all / 2);
            }
            FindingKind::DependencySlow => (counts.answered, counts.failed, counts.late) = (all / 2, all / 2, all / 2),
            FindingKind::DataBad => (counts.answered, counts.contract) = (all / 2, all / 2),
            FindingKind::OutcomesSilent => counts.outcomes = 0,
            FindingKind::SourceSilent => counts = Counts::default(),
            FindingKind::Stale => facts.trained_to = Some(BEGIN + QUIET),
            FindingKind::CostHigh => facts.price_per_million = Some(f64::MAX),
            FindingKind::DiskFull => facts.disk_free = Some((0, 1)),
            _ => {}
        }
        (counts, facts)
    }

    fn guarded(&mut self, now: Timestamp, troubled: bool) -> Option<Finding> {
        let route = &self.routing.models[&self.spec.name];
        let candidate = route.candidate.as_ref().filter(|candidate| candidate.stage == Stage::Canary)?;
        let slow = u64::from(troubled && self.kind == FindingKind::CanaryHarmful);
        let (canary, live) = (&mut self.arms.0, &mut self.arms.1);
        canary.answered += REQUESTS / 10;
        canary.slow += slow * REQUESTS / 10;
        live.answered += REQUESTS;
        harm(&self.spec.name, candidate.version, self.arms, &self.spec.release, (candidate.since, now))
    }

    fn world(&self, alarms: Vec<Finding>, troubled: bool) -> World {
        let route = self.routing.models[&self.spec.name].clone();
        let worse = troubled && self.kind == FindingKind::LiveWorseThanFallback && route.fallback.is_some();
        let watch = worse.then_some(Evidence {
            rows: 10_000,
            blocks: 10,
            mean_gain: Some(0.02),
            low: Some(0.01),
            high: Some(0.03),
            incumbent_loss: Some(0.52),
            newcomer_loss: Some(0.50),
            verdict: Verdict::Better,
        });
        World {
            model: self.spec.name.clone(),
            snapshot: self.routing.number,
            route,
            versions: self.digests.keys().copied().collect(),
            data_bad: alarms.iter().any(|alarm| alarm.kind == FindingKind::DataBad),
            alarms,
            trial: None,
            watch,
            jobs: Jobs { running: self.training_until.is_some(), ..Jobs::default() },
            untried: None,
            outcomes_since_training: u64::MAX,
            last_training: Some(self.last_training),
            frozen_by: self.frozen_by.clone(),
            worth: None,
        }
    }

    fn tell(&mut self, findings: &[Finding], healed: &[String], now: Timestamp) {
        for finding in findings.iter().filter(|finding| finding.kind.is_alarm()) {
            if self.told.contains(&finding.id) {
                continue;
            }
            self.told.push(finding.id.clone());
            self.line(now, What::Found, format!("{}: {}", finding.kind.name(), finding.message));
            if finding.kind == self.kind && self.found_at.is_none() {
                self.found_at = Some(now);
            }
        }
        for id in healed.iter().filter(|id| self.told.contains(id)).cloned().collect::<Vec<_>>() {
            self.line(now, What::Healed, format!("{} is no longer true", id.split('/').nth(1).unwrap_or_default()));
        }
    }

    fn carry_out(&mut self, plan: &Plan, now: Timestamp) {
        for planned in &plan.steps {
            let by = planned.playbook.as_ref().map_or("the loop".to_owned(), |by| format!("playbook {}", by.playbook));
            self.line(now, What::Done, format!("{} by {by}", planned.step.name()));
            match apply(&self.routing, &self.spec.name, &planned.step, &self.digests, now) {
                Ok(next) => self.routing = next,
                Err(error) => self.rehearsal.problems.push(error.to_string()),
            }
            match &planned.step {
                Step::Retrain => {
                    (self.training_until, self.last_training) = (Some(now + TRAINING), now);
                }
                Step::Freeze => self.frozen_by = Some(planned.because.clone()),
                Step::Thaw => self.frozen_by = None,
                _ => {}
            }
            let Some(by) = &planned.playbook else { continue };
            self.history.note(by, &planned.because, now);
            if by.playbook != self.playbook.name {
                continue;
            }
            if by.place >= self.playbook.steps.len() {
                self.undone |= by.place + 1 == self.playbook.steps.len() + self.playbook.undo.len();
            } else if self.is_the_action(&planned.step)
                && let Some(found) = self.found_at
            {
                self.rehearsal.acted_after.get_or_insert(now - found);
            }
        }
    }

    /// Whether a step is what the playbook is there for: one that changes something, where it has any.
    fn is_the_action(&self, step: &Step) -> bool {
        let tells = |action: Action| matches!(action, Action::Notify | Action::Page);
        let only_tells = self.playbook.steps.iter().all(|step| tells(step.step));
        match step {
            Step::Pass => false,
            Step::Notify | Step::Page => only_tells,
            _ => true,
        }
    }

    fn judge(mut self, trouble: Timestamp) -> Rehearsal {
        self.rehearsal.found_after = self.found_at.map(|found| found - trouble);
        let most = self.playbook.limits.react_within;
        let due = self.playbook.when.lasting.0 + self.first_action().0 + most.0;
        let problem = match (self.found_at, self.rehearsal.acted_after) {
            (None, _) => Some(format!("{} was not found", self.kind.name())),
            (Some(_), None) => Some("the playbook did nothing that changes anything".to_owned()),
            (_, Some(after)) if after.0 > due => {
                Some(format!("the first step came {after} after the finding, {most} were stated (limits.react_within)"))
            }
            _ => None,
        };
        self.rehearsal.problems.extend(problem);
        if !self.undone && self.rehearsal.acted_after.is_some() {
            self.rehearsal.problems.push("what was done was not taken back after the trouble had ended".to_owned());
        }
        self.rehearsal
    }

    /// The delay that the playbook itself gives its first step that changes something.
    fn first_action(&self) -> Span {
        let acts = |action: Action| !matches!(action, Action::Notify | Action::Page);
        self.playbook.steps.iter().find(|step| acts(step.step)).map_or(Span(0), |step| step.after)
    }

    fn line(&mut self, at: Timestamp, what: What, text: String) {
        self.rehearsal.timeline.push(Line { at, what, text });
    }
}

/// The trouble behind a finding, in a few words.
fn described(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::LatencyBurn => "every answer is slower than promised",
        FindingKind::AvailabilityBurn => "every second request fails",
        FindingKind::AccuracyBurn => "every answer is wrong",
        FindingKind::Surge => "every second request is refused for load",
        FindingKind::DependencySlow => "every second answer misses its deadline",
        FindingKind::DataBad => "every second request breaks its contract",
        FindingKind::OutcomesSilent => "no outcome arrives",
        FindingKind::SourceSilent => "no request arrives",
        FindingKind::Stale => "the live version gets older",
        FindingKind::CostHigh => "predictions become dear",
        FindingKind::DiskFull => "the disk is full",
        FindingKind::LiveWorseThanFallback => "the live version loses more than the one that it replaced",
        FindingKind::CanaryHarmful => "every answer of the canary is late",
        FindingKind::InputDrift => "an input has left its reference",
        FindingKind::LossHigh => "the loss is too high",
        FindingKind::Miscalibrated => "predictions are too high",
        FindingKind::JobFailed => "a training failed",
        _ => "the loop has found something",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::spec;
    use vocabulary::playbook::{Limits, PlaybookStep, When};

    fn playbook(kind: FindingKind, actions: &[(Action, i64)], undo: &[Action]) -> Playbook {
        let step = |step, minutes: i64| PlaybookStep { step, after: Span(minutes * MINUTE.0), weight_below: None };
        Playbook {
            name: "p".into(),
            description: String::new(),
            when: When { findings: vec![kind], ..When::default() },
            steps: actions.iter().map(|(action, after)| step(*action, *after)).collect(),
            undo: undo.iter().map(|action| step(*action, 0)).collect(),
            limits: Limits::default(),
        }
    }

    fn promising() -> ModelSpec {
        let mut spec = spec();
        let objective = &mut spec.objective;
        (objective.availability, objective.latency_target, objective.accuracy) = (Some(0.999), Some(0.99), Some(0.7));
        (objective.outcomes_every, objective.requests_every) = (Some(Span::hours(6)), Some(Span::hours(1)));
        (objective.freshness, objective.price_max) = (Some(Span::days(2)), Some(1.0));
        spec
    }

    fn rehearsed(playbook: &Playbook, spec: &ModelSpec) -> Rehearsal {
        rehearse(playbook, std::slice::from_ref(playbook), spec).remove(0)
    }

    #[test]
    fn every_trouble_is_found_acted_upon_and_taken_back() {
        use FindingKind::*;
        for kind in [
            LatencyBurn,
            AvailabilityBurn,
            AccuracyBurn,
            Surge,
            DependencySlow,
            DataBad,
            OutcomesSilent,
            SourceSilent,
            Stale,
            CostHigh,
            DiskFull,
            LiveWorseThanFallback,
            InputDrift,
        ] {
            let undone = playbook(kind, &[(Action::Freeze, 0), (Action::Page, 10)], &[Action::Thaw]);
            let seen = rehearsed(&undone, &promising());
            assert_eq!(seen.problems, Vec::<String>::new(), "{kind:?}: {:#?}", seen.timeline);
            let rolled = rehearsed(&playbook(kind, &[(Action::RollBack, 0)], &[]), &promising());
            assert_eq!(rolled.problems, Vec::<String>::new(), "{kind:?}: {:#?}", rolled.timeline);
        }
    }

    #[test]
    fn a_playbook_that_comes_too_late_or_does_nothing_fails() {
        let mut late = playbook(FindingKind::Surge, &[(Action::Notify, 0)], &[]);
        late.when.lasting = Span::hours(2);
        assert!(rehearsed(&late, &promising()).problems.is_empty());
        let canary_only = playbook(FindingKind::Surge, &[(Action::Thaw, 0)], &[]);
        assert!(rehearsed(&canary_only, &promising()).problems[0].contains("did nothing"));
        let unpromised = playbook(FindingKind::OutcomesSilent, &[(Action::Page, 0)], &[]);
        assert!(rehearse(&unpromised, &[], &spec()).is_empty());
    }

    #[test]
    fn a_harmful_canary_is_paused_instead_of_thrown_away() {
        let slow = playbook(FindingKind::CanaryHarmful, &[(Action::PauseCanary, 0), (Action::Page, 0)], &[]);
        let seen = rehearsed(&slow, &promising());
        assert_eq!(seen.problems, Vec::<String>::new(), "{:#?}", seen.timeline);
        assert!(seen.timeline.iter().any(|line| line.text == "pause_canary by playbook p"), "{:#?}", seen.timeline);
    }
}
