//! Incidents from records: alarms of one model that overlap in time, what was done about them, and which figures moved
//! first. The same records give the same incidents.

use crate::decide::STEPS_OF_ROUTING;
use std::collections::BTreeMap;
use vocabulary::incident::{Deed, HEAL, Incident, Line, Moment, Move, What};
use vocabulary::{Finding, Severity, Span, Timestamp};

/// Alarms of one model belong together when the next begins before this much time has passed since the last one ended.
const JOIN: Span = Span::hours(1);
/// Figures are looked at from this long before the first alarm.
const BEFORE: Span = Span::hours(3);
/// A change counts when the two means differ by this many standard errors beyond what the best of all places shows by
/// chance, which grows with the square root of twice the logarithm of their number.
const ERRORS: f64 = 3.0;
/// … and by this part of the larger one: a steady figure's tiny change is certain, and means nothing.
const PART: f64 = 0.2;
/// Minutes on each side of a change at least.
const SIDE_MIN: usize = 3;

/// All incidents, the newest first. `moments` are each model's minutes in order of time.
pub fn incidents(
    findings: &[Finding],
    deeds: &[Deed],
    moments: &BTreeMap<String, Vec<Moment>>,
    now: Timestamp,
) -> Vec<Incident> {
    let healed: BTreeMap<&str, Timestamp> =
        deeds.iter().filter(|deed| deed.action == HEAL).map(|deed| (deed.because.as_str(), deed.at)).collect();
    let mut alarms: Vec<&Finding> = findings.iter().filter(|finding| finding.kind.is_alarm()).collect();
    alarms.sort_by(|a, b| (&a.model, a.at, &a.id).cmp(&(&b.model, b.at, &b.id)));
    let end = |finding: &Finding| healed.get(finding.id.as_str()).copied();
    let mut groups: Vec<(Vec<&Finding>, Option<Timestamp>)> = Vec::new();
    for alarm in alarms {
        let joins = groups.last().is_some_and(|(group, closed)| {
            group[0].model == alarm.model && closed.is_none_or(|closed| alarm.at - closed < JOIN)
        });
        match groups.last_mut() {
            Some((group, closed)) if joins => {
                group.push(alarm);
                *closed = closed.zip(end(alarm)).map(|(one, other)| one.max(other));
            }
            _ => groups.push((vec![alarm], end(alarm))),
        }
    }
    let none = Vec::new();
    let made = groups.iter().map(|(group, closed)| {
        let moments = moments.get(&group[0].model).unwrap_or(&none);
        incident(group, *closed, deeds, moments, now)
    });
    let mut all: Vec<Incident> = made.collect();
    all.sort_by(|a, b| b.opened.cmp(&a.opened).then(a.id.cmp(&b.id)));
    all
}

fn incident(
    group: &[&Finding],
    closed: Option<Timestamp>,
    deeds: &[Deed],
    moments: &[Moment],
    now: Timestamp,
) -> Incident {
    let (model, opened) = (group[0].model.clone(), group[0].at);
    let about = |deed: &&Deed| group.iter().any(|alarm| alarm.id == deed.because);
    let mine: Vec<&Deed> = deeds.iter().filter(about).collect();
    let by_hand = |deed: &&Deed| {
        let during = deed.at >= opened && deed.at <= closed.unwrap_or(now);
        deed.model == model && during && !about(deed) && STEPS_OF_ROUTING.contains(&deed.action.as_str())
    };
    let beside: Vec<&Deed> = deeds.iter().filter(by_hand).collect();
    let is_action = |deed: &&&Deed| deed.action != HEAL && deed.action != "alarm";
    let mut actions: Vec<Deed> = mine.iter().filter(is_action).chain(&beside).map(|deed| (**deed).clone()).collect();
    actions.sort_by_key(|deed| deed.at);
    let from = opened - BEFORE;
    let until = closed.unwrap_or(now);
    let window: Vec<Moment> =
        moments.iter().filter(|moment| moment.at >= from && moment.at <= until).copied().collect();
    let moved = moves(&window);
    let severity = group.iter().map(|alarm| alarm.severity()).max().unwrap_or(Severity::Ticket);
    let worst = group.iter().max_by_key(|alarm| alarm.severity()).map_or("", |alarm| alarm.message.as_str());
    Incident {
        id: format!("{model}-{}", opened.to_string().replace([':', '.'], "")),
        title: worst.to_owned(),
        severity,
        opened,
        closed,
        alarms: group.iter().map(|alarm| (alarm.id.clone(), alarm.kind)).collect(),
        timeline: timeline(group, &mine, &actions, &moved),
        ending: ending(closed, opened, &actions),
        moved,
        actions,
        model,
    }
}

fn timeline(group: &[&Finding], mine: &[&Deed], actions: &[Deed], moved: &[Move]) -> Vec<Line> {
    let line = |at, what, text: String| Line { at, what, text };
    let mut lines: Vec<Line> = Vec::new();
    for moved in moved {
        let text = format!("{} went from {:.4} to {:.4}", moved.figure, moved.before, moved.after);
        lines.push(line(moved.at, What::Moved, text));
    }
    for alarm in group {
        lines.push(line(alarm.at, What::Found, format!("{}: {}", alarm.kind.name(), alarm.message)));
    }
    for deed in actions {
        let how = if deed.detail.is_empty() { String::new() } else { format!(" ({})", deed.detail) };
        lines.push(line(deed.at, What::Done, format!("{} {} by {}{how}", deed.action, deed.subject, deed.actor)));
    }
    for deed in mine.iter().filter(|deed| deed.action == HEAL) {
        let kind = group.iter().find(|alarm| alarm.id == deed.because).map_or("", |alarm| alarm.kind.name());
        lines.push(line(deed.at, What::Healed, format!("{kind} is no longer true")));
    }
    lines.sort_by_key(|line| (line.at, line.what));
    lines
}

fn ending(closed: Option<Timestamp>, opened: Timestamp, actions: &[Deed]) -> String {
    let Some(closed) = closed else { return "it lasts".to_owned() };
    let after = format!("healed after {:.1} minutes", (closed - opened).as_seconds() / 60.0);
    let told = |deed: &&Deed| !["notify", "page", "pass"].contains(&deed.action.as_str());
    match actions.iter().rev().find(told) {
        Some(last) => format!("{after}, the last step being {} of {}", last.action, last.subject),
        None => format!("{after}, without a step that changed anything"),
    }
}

/// The figures that moved in a stretch of minutes, the first one first.
pub fn moves(moments: &[Moment]) -> Vec<Move> {
    let mut found: Vec<Move> = Vec::new();
    for place in 0..Moment::default().figures().len() {
        let series: Vec<(Timestamp, f64)> = moments
            .iter()
            .filter_map(|moment| Some((moment.at, moment.figures()[place].2.filter(|value| value.is_finite())?)))
            .collect();
        if let Some((at, before, after)) = change(&series) {
            let (figure, side, _) = Moment::default().figures()[place];
            found.push(Move { at, figure: figure.to_owned(), side, before, after });
        }
    }
    found.sort_by_key(|moved| moved.at);
    found
}

/// Where a series changes its mean, if it does: the place where the two means differ by the most standard errors.
fn change(series: &[(Timestamp, f64)]) -> Option<(Timestamp, f64, f64)> {
    let count = series.len();
    if count < 2 * SIDE_MIN {
        return None;
    }
    let mut sums = vec![(0.0, 0.0)];
    for (_, value) in series {
        let (sum, squares) = sums[sums.len() - 1];
        sums.push((sum + value, squares + value * value));
    }
    let part = |from: usize, to: usize| {
        let n = (to - from) as f64;
        let mean = (sums[to].0 - sums[from].0) / n;
        (mean, (sums[to].1 - sums[from].1 - n * mean * mean).max(0.0))
    };
    let score = |place: usize| {
        let ((before, left), (after, right)) = (part(0, place), part(place, count));
        // Where a figure does not vary at all, a thousandth of it stands for its deviation.
        let floor = 1e-3 * before.abs().max(after.abs());
        let deviation = ((left + right) / (count - 2) as f64).sqrt().max(floor).max(1e-12);
        (after - before).abs() / (deviation * (1.0 / place as f64 + 1.0 / (count - place) as f64).sqrt())
    };
    let place = (SIDE_MIN..=count - SIDE_MIN).max_by(|a, b| score(*a).total_cmp(&score(*b)).then(b.cmp(a)))?;
    let ((before, _), (after, _)) = (part(0, place), part(place, count));
    let certain = score(place) > ERRORS + (2.0 * (count as f64).ln()).sqrt();
    let large = (after - before).abs() > PART * before.abs().max(after.abs());
    (certain && large).then(|| (series[place].0, before, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::finding;
    use crate::testing::Random;
    use vocabulary::FindingKind;

    fn minute(n: i64) -> Timestamp {
        Timestamp(n * 60_000_000)
    }

    fn alarm(kind: FindingKind, at: i64) -> Finding {
        finding("m", kind, None, minute(at), minute(at), format!("{} it is", kind.name()), BTreeMap::new())
    }

    fn deed(at: i64, action: &str, because: &str) -> Deed {
        let (actor, subject) = ("playbook bad_release#0".to_owned(), "m@3".to_owned());
        let (action, because, detail) = (action.to_owned(), because.to_owned(), String::new());
        Deed { at: minute(at), actor, action, model: "m".into(), subject, because, detail }
    }

    /// A release at 100 makes answers slow, at 103 requests fail, at 130 it is rolled back.
    fn moments() -> Vec<Moment> {
        let mut random = Random(3);
        let moment = |n: i64| Moment {
            at: minute(n),
            requests: Some(100.0 + 5.0 * random.normal()),
            p99_ms: Some(if (100..130).contains(&n) { 80.0 } else { 8.0 } + random.normal()),
            failed: Some(if (103..130).contains(&n) { 0.2 } else { 0.0 }),
            ..Moment::default()
        };
        (0..131).map(moment).collect()
    }

    #[test]
    fn an_incident_tells_what_moved_first_what_was_done_and_how_it_ended() {
        let slow = alarm(FindingKind::LatencyBurn, 104);
        let failing = alarm(FindingKind::AvailabilityBurn, 108);
        let later = alarm(FindingKind::Surge, 900);
        let deeds = [
            deed(104, "alarm", &slow.id),
            deed(108, "roll_back", &failing.id),
            deed(130, HEAL, &slow.id),
            deed(129, HEAL, &failing.id),
            deed(950, "freeze", "asked for"),
        ];
        let findings = [later, failing, slow, alarm(FindingKind::CandidateBetter, 50)];
        let all = incidents(&findings, &deeds, &[("m".to_owned(), moments())].into(), minute(1000));
        assert_eq!(all.len(), 2);
        let (open, past) = (&all[0], &all[1]);
        assert_eq!((open.closed, open.ending.as_str(), open.actions.len()), (None, "it lasts", 1));
        assert_eq!((past.opened, past.closed, past.alarms.len()), (minute(104), Some(minute(130)), 2));
        assert_eq!(past.severity, Severity::Page);
        let moved: Vec<(&str, Timestamp)> = past.moved.iter().map(|m| (m.figure.as_str(), m.at)).collect();
        assert_eq!(moved, [("p99_ms", minute(100)), ("failed", minute(103))]);
        let told: Vec<What> = past.timeline.iter().map(|line| line.what).collect();
        use What::*;
        assert_eq!(told, [Moved, Moved, Found, Found, Done, Healed, Healed]);
        assert_eq!(past.ending, "healed after 26.0 minutes, the last step being roll_back of m@3");
    }

    #[test]
    fn noise_moves_nothing() {
        for seed in 0..200 {
            let mut random = Random(seed);
            let series: Vec<(Timestamp, f64)> = (0..120).map(|n| (minute(n), 10.0 + random.normal())).collect();
            assert_eq!(change(&series), None, "seed {seed}");
        }
    }
}
