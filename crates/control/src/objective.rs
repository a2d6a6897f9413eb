//! Objectives: error budgets with alerts on how fast they burn, and the plain limits beside them. Counts go in, findings
//! come out; how they were measured is not known here.

use crate::finding::finding;
use crate::share::{Count, Tally};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use vocabulary::finding::SLOW;
use vocabulary::objective::ObjectiveSpec;
use vocabulary::{Finding, FindingKind, ModelSpec, Span, Timestamp};

/// Share of the budget that may be gone before an alert, and the long window as a part of the period: 2 % in an hour, 5 %
/// in six hours, 10 % in three days of a month (Site Reliability Workbook, chapter 5, table 5-8).
const RULES: [(f64, i64); 3] = [(0.02, 720), (0.05, 120), (0.10, 10)];
/// The short window is a twelfth of the long one (same place): an alert ends soon after its cause.
const SHORT: i64 = 12;
/// No window is shorter than the minutes in which events are counted can tell.
const LONG_MIN: Span = Span(5 * 60_000_000);
const SHORT_MIN: Span = Span(60_000_000);
/// Chance that a window's share is certified to be above the budget where it is not: few requests prove nothing.
const ALPHA: f64 = 0.01;

/// When an alert fires: both windows burn `factor` times as fast as the budget allows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    pub long: Span,
    pub short: Span,
    pub factor: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// The budget is gone within days: a person has to look at once.
    Fast,
    /// It would not last for the period.
    Slow,
}

impl Rule {
    fn pace(&self) -> Pace {
        if self.factor > 2.0 { Pace::Fast } else { Pace::Slow }
    }
}

/// The rules for a period and a target; without those that no share of bad events could meet.
pub fn rules(period: Span, target: f64) -> Vec<Rule> {
    let rule = |(share, part): (f64, i64)| {
        let long = Span((period.0 / part).max(LONG_MIN.0));
        let short = Span((long.0 / SHORT).max(SHORT_MIN.0));
        Rule { long, short, factor: share * period.0 as f64 / long.0 as f64 }
    };
    RULES.map(rule).into_iter().filter(|rule| rule.factor * (1.0 - target) < 1.0).collect()
}

/// An alarm that stands.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Standing {
    since: Timestamp,
    /// What made it fire last; it ends when the rule's short window passed without firing.
    rule: Rule,
    fired: Timestamp,
}

/// One promise's error budget.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Budget {
    target: f64,
    period: Span,
    tally: Tally,
    /// What pages, and what is a ticket: a budget that burns slowly.
    standing: [Option<Standing>; 2],
}

/// Where a budget stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BudgetSummary {
    pub target: f64,
    pub events: u64,
    pub bad: u64,
    /// Part of the period's budget that is left; below zero when the promise is broken.
    pub left: f64,
    /// How many times faster than allowed it burns, by long window.
    pub burn: Vec<(Span, f64)>,
    pub alarmed_since: Option<Timestamp>,
}

impl Budget {
    pub fn new(target: f64, period: Span) -> Self {
        Budget { target, period, tally: Tally::default(), standing: [None; 2] }
    }

    pub fn add(&mut self, at: Timestamp, count: Count) {
        self.tally.add(at, count);
    }

    fn allowed(&self) -> f64 {
        1.0 - self.target
    }

    fn burn(&self, window: Span, now: Timestamp) -> f64 {
        self.tally.within(window, now).share() / self.allowed()
    }

    /// The first rule of one kind that fires at `now`.
    fn fires(&self, pace: Pace, now: Timestamp) -> Option<Rule> {
        let burns = |rule: &Rule| {
            rule.pace() == pace
                && self.burn(rule.long, now) >= rule.factor
                && self.burn(rule.short, now) >= rule.factor
                && self.tally.within(rule.long, now).bounds(ALPHA).0 > self.allowed()
        };
        rules(self.period, self.target).into_iter().find(burns)
    }

    /// What stands at `now`: since when, and by which rule.
    fn look(&mut self, now: Timestamp) -> Vec<(Timestamp, Rule)> {
        let mut stands = Vec::new();
        for (place, pace) in [Pace::Fast, Pace::Slow].into_iter().enumerate() {
            let fires = self.fires(pace, now);
            let standing = &mut self.standing[place];
            match (&mut *standing, fires) {
                (Some(standing), Some(rule)) => (standing.fired, standing.rule) = (now, rule),
                (None, Some(rule)) => *standing = Some(Standing { since: now, rule, fired: now }),
                (Some(stood), None) if now - stood.fired >= stood.rule.short => *standing = None,
                _ => {}
            }
            stands.extend(standing.map(|standing| (standing.since, standing.rule)));
        }
        stands
    }

    pub fn summary(&self, now: Timestamp) -> BudgetSummary {
        let all = self.tally.within(self.period, now);
        let spent = if all.all == 0 { 0.0 } else { all.share() / self.allowed() };
        let burn = rules(self.period, self.target).into_iter().map(|rule| (rule.long, self.burn(rule.long, now)));
        BudgetSummary {
            target: self.target,
            events: all.all,
            bad: all.bad,
            left: 1.0 - spent,
            burn: burn.collect(),
            alarmed_since: self.standing.iter().flatten().map(|standing| standing.since).min(),
        }
    }
}

/// A share that must stay below a limit: alarmed when the share in the window is certified to be above it, healed when
/// it is below half of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ShareWatch {
    limit: f64,
    window: Span,
    tally: Tally,
    since: Option<Timestamp>,
}

impl ShareWatch {
    pub fn new(limit: f64, window: Span) -> Self {
        ShareWatch { limit, window, tally: Tally::default(), since: None }
    }

    pub fn add(&mut self, at: Timestamp, count: Count) {
        self.tally.add(at, count);
    }

    /// Since when it is alarmed, if it is at `now`, with the window's counts.
    pub fn look(&mut self, now: Timestamp) -> Option<(Timestamp, Count)> {
        let count = self.tally.within(self.window, now);
        match self.since {
            None if count.bounds(ALPHA).0 > self.limit => self.since = Some(now),
            Some(_) if count.share() < 0.5 * self.limit || count.all == 0 => self.since = None,
            _ => {}
        }
        self.since.map(|since| (since, count))
    }
}

/// Share of requests refused for load, and of answers that miss their deadline, beyond which it is alarmed: a judgement.
const LOAD_MAX: f64 = 0.01;
const LOAD_WINDOW: Span = Span(5 * 60_000_000);
/// Requests that break their contract are looked at over this time.
const BAD_WINDOW: Span = Span::hours(1);
/// Spent again this far below the price, the alarm ends.
const PRICE_HEALED: f64 = 0.9;

/// What was counted since the last time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counts {
    pub requests: u64,
    /// Answered later than `latency_ms`.
    pub slow: u64,
    pub answered: u64,
    /// No answer through our fault, refusals for load among them.
    pub failed: u64,
    /// Refused for load.
    pub contended: u64,
    /// Given up because the deadline had passed.
    pub late: u64,
    /// Refused because the rows broke their contract.
    pub contract: u64,
    pub outcomes: u64,
    /// Outcomes that the answer missed.
    pub wrong: u64,
}

/// What is measured otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Facts {
    /// Up to when the live version learned.
    pub trained_to: Option<Timestamp>,
    /// What a million predictions cost lately.
    pub price_per_million: Option<f64>,
    /// Bytes free where the decision log is, and how many are to be kept free.
    pub disk_free: Option<(u64, u64)>,
}

/// All objectives of one model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Objectives {
    model: String,
    budgets: BTreeMap<FindingKind, Budget>,
    surge: ShareWatch,
    late: ShareWatch,
    bad_rows: ShareWatch,
    requests: Tally,
    /// Outcomes, and the wrong ones among them.
    outcomes: Tally,
    begun: Option<Timestamp>,
    /// Since when limits that are no shares are broken.
    broken: BTreeMap<FindingKind, Timestamp>,
}

impl Objectives {
    pub fn new(spec: &ModelSpec) -> Self {
        let budget = |(kind, target)| (kind, Budget::new(target, spec.objective.period));
        Objectives {
            model: spec.name.clone(),
            budgets: spec.objective.budgets().into_iter().map(budget).collect(),
            surge: ShareWatch::new(LOAD_MAX, LOAD_WINDOW),
            late: ShareWatch::new(LOAD_MAX, LOAD_WINDOW),
            bad_rows: ShareWatch::new(spec.retraining.bad_rows_max, BAD_WINDOW),
            requests: Tally::default(),
            outcomes: Tally::default(),
            begun: None,
            broken: BTreeMap::new(),
        }
    }

    pub fn count(&mut self, at: Timestamp, counts: &Counts) {
        self.begun.get_or_insert(at);
        let possible = counts.answered + counts.failed;
        for (kind, count) in [
            (FindingKind::LatencyBurn, Count { all: counts.answered, bad: counts.slow }),
            (FindingKind::AvailabilityBurn, Count { all: possible, bad: counts.failed }),
            (FindingKind::AccuracyBurn, Count { all: counts.outcomes, bad: counts.wrong }),
        ] {
            if let Some(budget) = self.budgets.get_mut(&kind) {
                budget.add(at, count);
            }
        }
        self.surge.add(at, Count { all: possible, bad: counts.contended });
        self.late.add(at, Count { all: possible, bad: counts.late });
        self.bad_rows.add(at, Count { all: counts.answered + counts.contract, bad: counts.contract });
        self.requests.add(at, Count { all: counts.requests, bad: 0 });
        self.outcomes.add(at, Count { all: counts.outcomes, bad: counts.wrong });
    }

    /// Outcomes in a window, and the wrong ones among them.
    pub fn outcomes_within(&self, window: Span, now: Timestamp) -> Count {
        self.outcomes.within(window, now)
    }

    pub fn requests_within(&self, window: Span, now: Timestamp) -> u64 {
        self.requests.within(window, now).all
    }

    pub fn summary(&self, now: Timestamp) -> BTreeMap<&'static str, BudgetSummary> {
        self.budgets.iter().map(|(kind, budget)| (promise(*kind), budget.summary(now))).collect()
    }

    /// Everything that is wrong at `now`.
    pub fn findings(&mut self, spec: &ObjectiveSpec, facts: &Facts, now: Timestamp) -> Vec<Finding> {
        let mut found = Vec::new();
        for (kind, budget) in &mut self.budgets {
            for (since, rule) in budget.look(now) {
                found.push(burning(&self.model, *kind, budget, since, rule, now));
            }
        }
        found.extend(self.shares(now));
        let silent = self.silences(spec, now);
        let mut limits = vec![silent[0].clone(), silent[1].clone()];
        limits.push((FindingKind::Stale, stale(spec, facts, now)));
        limits.push((FindingKind::CostHigh, self.dear(spec, facts)));
        limits.push((FindingKind::DiskFull, full(facts)));
        for (kind, said) in limits {
            let Some((message, evidence)) = said else {
                self.broken.remove(&kind);
                continue;
            };
            let since = *self.broken.entry(kind).or_insert(now);
            found.push(finding(&self.model, kind, None, since, since, message, evidence));
        }
        found
    }

    fn shares(&mut self, now: Timestamp) -> Vec<Finding> {
        let watches = [
            (FindingKind::Surge, &mut self.surge, "requests were refused because there are too many"),
            (FindingKind::DependencySlow, &mut self.late, "answers missed their deadline"),
            (FindingKind::DataBad, &mut self.bad_rows, "requests broke their contract: too many to learn from"),
        ];
        let mut found = Vec::new();
        for (kind, watch, what) in watches {
            if let Some((since, count)) = watch.look(now) {
                let message = format!("{} of {} {what} (at most {:.1} %)", count.bad, count.all, 100.0 * watch.limit);
                let evidence = [("all", count.all as f64), ("bad", count.bad as f64), ("limit", watch.limit)];
                found.push(finding(&self.model, kind, None, since, since, message, figures(&evidence)));
            }
        }
        found
    }

    fn silences(&self, spec: &ObjectiveSpec, now: Timestamp) -> [(FindingKind, Said); 2] {
        let silence = |every: Option<Span>, newest: Option<Timestamp>, what: &str| {
            let (every, last) = (every?, newest.or(self.begun)?);
            let passed = now - last;
            let message =
                format!("no {what} for {:.1} hours, where one in {every} was promised", passed.as_seconds() / 3600.0);
            (passed > every).then(|| (message, figures(&[("silent_seconds", passed.as_seconds())])))
        };
        // Without requests no outcome is expected.
        let asked = |every: &Span| self.requests.newest().is_some_and(|newest| now - newest <= *every);
        let outcomes = silence(spec.outcomes_every.filter(asked), self.outcomes.newest(), "outcome");
        let requests = silence(spec.requests_every, self.requests.newest(), "request");
        [(FindingKind::OutcomesSilent, outcomes), (FindingKind::SourceSilent, requests)]
    }

    fn dear(&self, spec: &ObjectiveSpec, facts: &Facts) -> Said {
        let (most, price) = (spec.price_max?, facts.price_per_million?);
        let healed = if self.broken.contains_key(&FindingKind::CostHigh) { PRICE_HEALED } else { 1.0 };
        let message = format!("a million predictions cost {price:.4}, {most} were promised at most");
        (price > most * healed).then(|| (message, figures(&[("price", price), ("limit", most)])))
    }
}

/// What is said of a broken limit: a sentence and its figures.
type Said = Option<(String, BTreeMap<String, f64>)>;

fn figures(figures: &[(&str, f64)]) -> BTreeMap<String, f64> {
    figures.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
}

fn stale(spec: &ObjectiveSpec, facts: &Facts, now: Timestamp) -> Said {
    let (most, trained) = (spec.freshness?, facts.trained_to?);
    let age = now - trained;
    let message = format!("the live version learned up to {:.1} days ago, {most} were promised at most", age.as_days());
    (age > most).then(|| (message, figures(&[("age_days", age.as_days())])))
}

fn full(facts: &Facts) -> Said {
    let (free, keep) = facts.disk_free?;
    let message = format!("{free} bytes are free on the disk of the decision log, {keep} are to be kept free");
    (free < keep).then(|| (message, figures(&[("free_bytes", free as f64), ("keep_bytes", keep as f64)])))
}

/// What a burning budget was about.
fn promise(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::LatencyBurn => "latency",
        FindingKind::AvailabilityBurn => "availability",
        _ => "accuracy",
    }
}

fn burning(model: &str, kind: FindingKind, budget: &Budget, since: Timestamp, rule: Rule, now: Timestamp) -> Finding {
    let (long, short) = (budget.burn(rule.long, now), budget.burn(rule.short, now));
    let summary = budget.summary(now);
    let message = format!(
        "the error budget of {} burns {long:.1} times as fast as allowed over {} and {short:.1} times over {}; {:.0} % of \
         it is left for {}",
        promise(kind),
        rule.long,
        rule.short,
        100.0 * summary.left,
        budget.period
    );
    let slow = rule.pace() == Pace::Slow;
    let subject = slow.then(|| SLOW.to_owned());
    let slow = f64::from(u8::from(slow));
    let evidence = figures(&[
        ("burn_long", long),
        ("burn_short", short),
        ("factor", rule.factor),
        ("budget_left", summary.left),
        ("bad", summary.bad as f64),
        ("events", summary.events as f64),
        (SLOW, slow),
    ]);
    finding(model, kind, subject, since, since, message, evidence)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::spec;
    use vocabulary::Severity;

    const MINUTE: i64 = 60_000_000;

    fn minute(n: i64) -> Timestamp {
        Timestamp(n * MINUTE)
    }

    fn promising(availability: f64) -> ModelSpec {
        let mut spec = spec();
        spec.objective.availability = Some(availability);
        spec
    }

    /// Looks at each minute; gives the kinds and severities of what is found.
    fn looks(
        spec: &ModelSpec,
        minutes: std::ops::Range<i64>,
        objectives: &mut Objectives,
        counts: impl Fn(i64) -> Counts,
    ) -> Vec<(i64, &'static str, Severity)> {
        let mut seen: Vec<(i64, &'static str, Severity)> = Vec::new();
        for n in minutes {
            objectives.count(minute(n), &counts(n));
            for found in objectives.findings(&spec.objective, &Facts::default(), minute(n)) {
                if seen
                    .last()
                    .is_none_or(|(_, kind, severity)| (*kind, *severity) != (found.kind.name(), found.severity()))
                {
                    seen.push((n, found.kind.name(), found.severity()));
                }
            }
        }
        seen
    }

    #[test]
    fn the_rules_are_the_workbooks() {
        let month = rules(Span::days(30), 0.999);
        let expected = [(60, 5, 14.4), (360, 30, 6.0), (4320, 360, 1.0)];
        for (rule, (long, short, factor)) in month.iter().zip(expected) {
            assert_eq!((rule.long, rule.short), (Span(long * MINUTE), Span(short * MINUTE)));
            assert!((rule.factor - factor).abs() < 1e-12);
        }
        assert_eq!(rules(Span::days(30), 0.7).len(), 1);
        assert!(rules(Span::days(1), 0.99).iter().all(|rule| rule.factor >= 1.0 && rule.long >= LONG_MIN));
    }

    #[test]
    fn a_fast_burn_pages_within_minutes_and_heals() {
        let spec = promising(0.999);
        let mut objectives = Objectives::new(&spec);
        let counts = |n: i64| {
            let failed = if (600..630).contains(&n) { 50 } else { 0 };
            Counts { requests: 100, answered: 100 - failed, failed, ..Counts::default() }
        };
        let seen = looks(&spec, 0..620, &mut objectives, counts);
        let page = seen.iter().find(|(_, kind, severity)| *kind == "availability_burn" && *severity == Severity::Page);
        assert!(page.is_some_and(|(minute, _, _)| *minute < 605), "{seen:?}");
        looks(&spec, 620..640, &mut objectives, counts);
        let later = minute(3 * 1440);
        assert!(objectives.findings(&spec.objective, &Facts::default(), later).is_empty());
    }

    #[test]
    fn a_slow_burn_is_a_ticket() {
        let spec = promising(0.999);
        let counts = |_| Counts { requests: 1000, answered: 998, failed: 2, ..Counts::default() };
        let seen = looks(&spec, 0..600, &mut Objectives::new(&spec), counts);
        assert!(seen.len() == 1 && seen[0].2 == Severity::Ticket, "{seen:?}");
    }

    #[test]
    fn one_error_at_night_pages_nobody() {
        let spec = promising(0.999);
        // Ten requests an hour, one of which fails in a night: a hundred times the budget, and no proof of anything.
        let counts = |n: i64| match n {
            _ if n % 6 != 0 => Counts::default(),
            180 => Counts { requests: 1, failed: 1, ..Counts::default() },
            _ => Counts { requests: 1, answered: 1, ..Counts::default() },
        };
        assert_eq!(looks(&spec, 0..1440, &mut Objectives::new(&spec), counts), []);
    }

    #[test]
    fn silence_is_found_and_ends() {
        let mut spec = spec();
        (spec.objective.outcomes_every, spec.objective.requests_every) = (Some(Span::hours(2)), Some(Span::hours(1)));
        let mut objectives = Objectives::new(&spec);
        let counts = |n: i64| Counts {
            requests: u64::from(n < 400),
            answered: u64::from(n < 400),
            outcomes: u64::from(n < 100),
            ..Counts::default()
        };
        let seen = looks(&spec, 0..1000, &mut objectives, counts);
        let kinds: Vec<(i64, &str)> = seen.iter().map(|(n, kind, _)| (*n, *kind)).collect();
        assert_eq!(kinds[0], (220, "outcomes_silent"));
        assert!(kinds.iter().any(|(n, kind)| *n == 460 && *kind == "source_silent"), "{kinds:?}");
        let back = Counts { requests: 1, answered: 1, outcomes: 1, ..Counts::default() };
        assert_eq!(looks(&spec, 1000..1030, &mut objectives, |_| back), []);
    }

    #[test]
    fn load_bad_rows_price_age_and_disk_are_found() {
        let mut spec = spec();
        (spec.objective.price_max, spec.objective.freshness) = (Some(1.0), Some(Span::days(2)));
        let mut objectives = Objectives::new(&spec);
        let counts = Counts {
            requests: 300,
            answered: 100,
            failed: 120,
            contended: 100,
            late: 20,
            contract: 80,
            ..Counts::default()
        };
        for n in 0..5 {
            objectives.count(minute(n), &counts);
        }
        let facts = Facts {
            trained_to: Some(Timestamp(0) - Span::days(3)),
            price_per_million: Some(1.5),
            disk_free: Some((5, 10)),
        };
        let found = objectives.findings(&spec.objective, &facts, minute(5));
        let kinds: Vec<&str> = found.iter().map(|finding| finding.kind.name()).collect();
        assert_eq!(kinds, ["surge", "dependency_slow", "data_bad", "stale", "cost_high", "disk_full"]);
        assert!(objectives.findings(&spec.objective, &Facts::default(), minute(120)).is_empty());
    }
}
