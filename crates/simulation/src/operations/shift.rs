//! The loop at work over a scenario, minute by minute, and the timeline of what it found and did.

use super::scenario::{Scenario, Trouble, TroubleKind};
use super::serving::{Minute, Queue, Server, Version, binomial};
use crate::random::Random;
use control::objective::{Counts, Facts, Objectives};
use control::playbook::{History, react};
use control::{Evidence, Jobs, Verdict, World, apply, assess, decide, lint};
use std::collections::{BTreeMap, VecDeque};
use vocabulary::plan::Step;
use vocabulary::record::{Deployed, Route};
use vocabulary::{Digest, Finding, ModelSpec, Playbook, Routing, Span, Timestamp};

const MINUTE: Span = Span(60_000_000);
const MODEL: &str = "m";
/// A machine of four cores that is busy to a third, as servers are.
const SERVER: Server = Server { cores: 4.0, wait_ms_max: 1000.0, latency_ms: 50.0, deadline_ms: 1000.0 };
const GOOD: Version = Version { service_ms: 8.0, failing: 0.0, wrong: 0.15 };

/// What happened.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    pub lines: Vec<String>,
    /// Rules that were broken; none should be.
    pub broken: Vec<String>,
    /// Steps that were taken, by name, with their minute.
    pub steps: Vec<(i64, &'static str)>,
    /// Alarms, by kind, with their minute.
    pub alarms: Vec<(i64, &'static str)>,
}

impl Timeline {
    pub fn text(&self) -> String {
        self.lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// The minute of the first step of a name.
    pub fn first(&self, step: &str) -> Option<i64> {
        self.steps.iter().find(|(_, name)| *name == step).map(|(minute, _)| *minute)
    }
}

/// Runs a scenario with another seed than its own where one is given.
pub fn run(scenario: &Scenario, spec: &ModelSpec, playbooks: &[Playbook], seed: u64) -> Timeline {
    let mut shift = Shift::new(scenario, spec, playbooks, seed);
    for minute in 1..=scenario.lasts.0 / MINUTE.0 {
        shift.minute(minute);
    }
    shift.timeline
}

struct Shift<'a> {
    scenario: &'a Scenario,
    spec: ModelSpec,
    playbooks: &'a [Playbook],
    random: Random,
    queue: Queue,
    objectives: Objectives,
    history: History,
    routing: Routing,
    digests: BTreeMap<u32, Digest>,
    /// What versions that went live are like, by number.
    versions: BTreeMap<u32, Version>,
    /// Answers whose outcomes are to come: minute, answers, wrong ones.
    owed: VecDeque<(i64, u64, u64)>,
    /// Shed: requests of tenants of less weight are refused.
    shedding: bool,
    frozen_by: Option<String>,
    told: Vec<String>,
    /// The live version's answers since it went live, and wrong ones.
    since_release: (u64, u64),
    timeline: Timeline,
}

impl<'a> Shift<'a> {
    fn new(scenario: &'a Scenario, spec: &ModelSpec, playbooks: &'a [Playbook], seed: u64) -> Self {
        let mut spec = spec.clone();
        (spec.name, spec.objective) = (MODEL.to_owned(), scenario.objective.clone());
        let digests: BTreeMap<u32, Digest> = (1..=9).map(|n| (n, Digest::of(&[n as u8]))).collect();
        let live = Deployed { version: 1, digest: digests[&1], since: Timestamp(0) - Span::days(30) };
        let route =
            Route { live: live.clone(), candidate: None, fallback: None, frozen: Some(live), retraining_frozen: false };
        Shift {
            scenario,
            objectives: Objectives::new(&spec),
            spec,
            playbooks,
            random: Random::new(seed, 7),
            queue: Queue::default(),
            history: History::default(),
            routing: Routing { number: 1, models: [(MODEL.to_owned(), route)].into(), ..Routing::default() },
            digests,
            versions: [(1, GOOD)].into(),
            owed: VecDeque::new(),
            shedding: false,
            frozen_by: None,
            told: Vec::new(),
            since_release: (0, 0),
            timeline: Timeline::default(),
        }
    }

    fn route(&self) -> &Route {
        &self.routing.models[MODEL]
    }

    fn is_on(&self, minute: i64, kind: TroubleKind) -> Option<&'a Trouble> {
        let at = Span(minute * MINUTE.0);
        self.scenario.troubles.iter().find(|trouble| trouble.kind == kind && trouble.is_on(at))
    }

    fn minute(&mut self, minute: i64) {
        self.release(minute);
        let served = self.serve(minute);
        let counts = self.counts(minute, &served);
        let now = Timestamp(minute * MINUTE.0);
        self.objectives.count(now, &counts);
        self.look(minute, now);
    }

    /// A person releases a version at once, as people do.
    fn release(&mut self, minute: i64) {
        let at = Span(minute * MINUTE.0);
        for trouble in &self.scenario.troubles {
            let version = match trouble.kind {
                TroubleKind::SlowRelease => Version { service_ms: GOOD.service_ms * trouble.much, ..GOOD },
                TroubleKind::FailingRelease => Version { failing: trouble.much, ..GOOD },
                TroubleKind::WrongRelease => Version { wrong: trouble.much, ..GOOD },
                _ => continue,
            };
            if trouble.from != at {
                continue;
            }
            let number = self.versions.len() as u32 + 1;
            self.versions.insert(number, version);
            let digest = Digest::of(&[number as u8]);
            let next = Deployed { version: number, digest, since: Timestamp(at.0) };
            if let Some(route) = self.routing.models.get_mut(MODEL) {
                route.fallback = Some(std::mem::replace(&mut route.live, next));
            }
            self.routing.number += 1;
            self.since_release = (0, 0);
            self.say(minute, "release", format!("version {number} by a person"));
        }
    }

    fn serve(&mut self, minute: i64) -> Minute {
        let hour = (minute as f64 / 60.0).rem_euclid(24.0);
        let season = 1.0 + self.scenario.swing * ((hour - 15.0) / 24.0 * std::f64::consts::TAU).cos();
        let surge = self.is_on(minute, TroubleKind::Surge).map_or(1.0, |trouble| trouble.much);
        let quiet = self.is_on(minute, TroubleKind::SourceInterruption).is_some();
        let shed = if self.shedding { 1.0 - self.scenario.light_tenants } else { 1.0 };
        let mean = if quiet { 0.0 } else { self.scenario.requests * season * surge * shed };
        let arrivals = poisson(&mut self.random, mean);
        let version = self.versions.get(&self.route().live.version).copied().unwrap_or(GOOD);
        let extra = self.is_on(minute, TroubleKind::SlowDependency).map_or(0.0, |trouble| trouble.much);
        self.queue.minute(&mut self.random, arrivals, &version, &SERVER, extra)
    }

    fn counts(&mut self, minute: i64, served: &Minute) -> Counts {
        let mut served = *served;
        let bad = self.is_on(minute, TroubleKind::BadData).map_or(0.0, |trouble| trouble.much);
        let contract = binomial(&mut self.random, served.answered, bad);
        served.answered -= contract;
        if self.is_on(minute, TroubleKind::OneError).is_some_and(|trouble| trouble.from.0 == minute * MINUTE.0) {
            (served.answered, served.failed) = (served.answered.saturating_sub(1), served.failed + 1);
        }
        self.owed.push_back((minute, served.answered, served.wrong.min(served.answered)));
        let (mut outcomes, mut wrong) = (0, 0);
        let due = minute - self.scenario.outcome_delay.0 / MINUTE.0;
        while self.is_on(minute, TroubleKind::LabelOutage).is_none()
            && let Some((_, all, missed)) = self.owed.pop_front_if(|(of, _, _)| *of <= due)
        {
            (outcomes, wrong) = (outcomes + all, wrong + missed);
        }
        self.since_release.0 += outcomes;
        self.since_release.1 += wrong;
        Counts {
            requests: served.requests,
            answered: served.answered,
            slow: served.slow.min(served.answered),
            failed: served.failed,
            contended: served.contended,
            late: served.late,
            contract,
            outcomes,
            wrong,
        }
    }

    fn look(&mut self, minute: i64, now: Timestamp) {
        let full = self.is_on(minute, TroubleKind::FullDisk).is_some();
        let facts = Facts { trained_to: Some(now), price_per_million: None, disk_free: Some((u64::from(!full), 1)) };
        let alarms = self.objectives.findings(&self.spec.objective, &facts, now);
        let world = self.world(alarms);
        let findings = assess(&world, &self.spec, now);
        let healed = self.history.see(&findings, now);
        for finding in findings.iter().filter(|finding| finding.kind.is_alarm()) {
            if !self.told.contains(&finding.id) {
                self.told.push(finding.id.clone());
                self.timeline.alarms.push((minute, finding.kind.name()));
                self.say(minute, "found", format!("{} ({})", finding.kind.name(), finding.severity().name()));
            }
        }
        for id in healed.iter().filter(|id| self.told.contains(id)).cloned().collect::<Vec<_>>() {
            self.say(minute, "healed", id.split('/').nth(1).unwrap_or_default().to_owned());
        }
        let plan = decide(&world, &findings, &self.spec, now);
        let plan = react(&world, &findings, &self.spec, self.playbooks, &self.history, plan);
        for refusal in lint(&plan, &world, &findings, &self.spec) {
            self.timeline.broken.push(format!("minute {minute}: the plan was refused: {refusal:?}"));
        }
        if plan.steps.iter().filter(|planned| planned.step.is_risky()).count() > 1 {
            self.timeline.broken.push(format!("minute {minute}: two steps change who answers"));
        }
        for planned in &plan.steps {
            match apply(&self.routing, MODEL, &planned.step, &self.digests, now) {
                Ok(next) => self.routing = next,
                Err(error) => self.timeline.broken.push(format!("minute {minute}: {error}")),
            }
            match &planned.step {
                Step::Shed { .. } => self.shedding = true,
                Step::AdmitAll => self.shedding = false,
                Step::Freeze => self.frozen_by = Some(planned.because.clone()),
                Step::Thaw => self.frozen_by = None,
                Step::RollBack { .. } => self.since_release = (0, 0),
                _ => {}
            }
            let by = planned.playbook.as_ref().map_or("the loop", |by| by.playbook.as_str());
            self.timeline.steps.push((minute, planned.step.name()));
            self.say(minute, "did", format!("{} ({by})", planned.step.name()));
            if let Some(by) = &planned.playbook {
                self.history.note(by, &planned.because, now);
            }
        }
    }

    fn world(&self, alarms: Vec<Finding>) -> World {
        World {
            model: MODEL.to_owned(),
            snapshot: self.routing.number,
            route: self.route().clone(),
            versions: self.digests.keys().copied().collect(),
            data_bad: alarms.iter().any(|alarm| alarm.kind == vocabulary::FindingKind::DataBad),
            alarms,
            trial: None,
            watch: self.watch(),
            jobs: Jobs::default(),
            untried: None,
            outcomes_since_training: 0,
            last_training: Some(Timestamp(0)),
            frozen_by: self.frozen_by.clone(),
            worth: None,
        }
    }

    /// The version that was replaced is scored on the same rows: where the live one is certainly wrong more often, the
    /// gate says so. Here by the shares of wrong answers alone.
    fn watch(&self) -> Option<Evidence> {
        let fallback = self.route().fallback.as_ref()?;
        let (all, wrong) = self.since_release;
        let expected = self.versions.get(&fallback.version).map_or(GOOD.wrong, |version| version.wrong);
        let (low, _) = control::share::share_bounds(wrong as f64, all as f64, self.spec.release.alpha);
        let gain = if all == 0 { 0.0 } else { wrong as f64 / all as f64 - expected };
        Some(Evidence {
            rows: all,
            blocks: 0,
            mean_gain: Some(gain),
            low: Some(low - expected),
            high: None,
            incumbent_loss: None,
            newcomer_loss: None,
            verdict: if low > expected + self.spec.release.tolerance { Verdict::Better } else { Verdict::NotEnough },
        })
    }

    fn say(&mut self, minute: i64, what: &str, text: String) {
        let (day, hour, minute) = (minute / 1440, minute / 60 % 24, minute % 60);
        self.timeline.lines.push(format!("day {day} {hour:02}:{minute:02}  {what:7} {text}"));
    }
}

/// Requests of a minute: Poisson, by the normal where there are many.
fn poisson(random: &mut Random, mean: f64) -> u64 {
    if mean <= 0.0 {
        return 0;
    }
    if mean > 50.0 {
        return (mean + mean.sqrt() * random.normal()).round().max(0.0) as u64;
    }
    let (limit, mut product, mut count) = ((-mean).exp(), random.unit(), 0);
    while product > limit {
        product *= random.unit();
        count += 1;
    }
    count
}
