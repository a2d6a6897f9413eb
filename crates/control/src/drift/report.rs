//! What the input monitor says: findings with their causes, and the summary of the page.

use super::naming::{self, VALUES_MIN, alike, distance};
use super::scope::{Statistic, Window};
use super::{Certified, FeatureSummary, InputMonitor, hour_of};
use std::collections::BTreeMap;
use vocabulary::cause::{EXAMPLES_MAX, Place, Size};
use vocabulary::profile::Bins;
use vocabulary::{Cause, CauseKind, Finding, FindingKind, Interval, Span, Timestamp};

impl InputMonitor {
    /// Findings of all rows, and of segments in features that are quiet over all rows.
    pub fn findings(&self, model: &str) -> Vec<Finding> {
        let mut found: Vec<Finding> = Vec::new();
        for feature in &self.features {
            if let Some(certified) = &feature.certified {
                found.push(self.finding(model, &feature.name, certified));
            }
        }
        for segment in &self.segments {
            for (place, certified) in &segment.certified {
                let feature = &self.features[*place];
                if feature.certified.as_ref().is_none_or(|all| certified.at < all.at) {
                    found.push(self.finding(model, &format!("{}@{}", feature.name, segment.name), certified));
                }
            }
        }
        found
    }

    fn finding(&self, model: &str, subject: &str, certified: &Certified) -> Finding {
        Finding {
            id: format!("{model}/input_drift/{subject}/{}", self.since),
            model: model.to_owned(),
            kind: FindingKind::InputDrift,
            subject: Some(subject.to_owned()),
            at: certified.at,
            since: self.since,
            message: certified.message.clone(),
            evidence: certified.evidence.clone(),
            cause: Some(certified.cause.clone()),
        }
    }

    pub fn summary(&self) -> Vec<FeatureSummary> {
        let shown = |(place, feature): (usize, &super::Feature)| {
            let window = self.all.whole(place);
            let level = self.all.log_level(place, Statistic::Shape);
            let radius = window.as_ref().map(|window| (level / (2.0 * window.effective)).sqrt());
            FeatureSummary {
                name: feature.name.clone(),
                distance: window.as_ref().map(Window::distance),
                radius: radius.filter(|radius| *radius < 1.0),
                tolerance: self.tolerance,
                certified: feature.certified.is_some(),
                since: feature.certified.as_ref().map(|certified| certified.at),
                cause: feature.certified.as_ref().map(|certified| certified.cause.clone()),
            }
        };
        self.features.iter().enumerate().map(shown).collect()
    }

    /// Reads what happened to a feature, over all rows; `changed` are all features that changed lately.
    pub(super) fn read(
        &self,
        feature: usize,
        statistic: Statistic,
        changed: &[usize],
        at: Timestamp,
        hour: i64,
    ) -> Option<Certified> {
        let window = self.all.strongest(feature, statistic, hour)?;
        let kind = self.whole_cause(feature, statistic, changed, &window);
        Some(self.certificate(feature, None, statistic, &window, kind, at, hour))
    }

    fn whole_cause(&self, feature: usize, statistic: Statistic, changed: &[usize], window: &Window) -> CauseKind {
        let own = &self.features[feature];
        if let Some(kind) = naming::missing(window, self.tolerance) {
            return kind;
        }
        let values = self.recent.values(feature, window.begin);
        let expected = self.recent.expected(feature, window.begin, &self.all.expected);
        if let Some(kind) = naming::frozen(&values, &own.bins, &expected) {
            return kind;
        }
        if let Some(with) = self.exchanged(feature, changed, window) {
            return CauseKind::Swapped { with: self.features[with].name.clone() };
        }
        if let Some(hours) = self.recent.shift_of_clock(&self.all.expected, window.begin)
            && self.all.expected.numeric[feature]
        {
            return CauseKind::TimeZone { hours };
        }
        if let Some(kind) = naming::unit(&values, &own.bins, &expected) {
            return kind;
        }
        self.simple_cause(feature, &own.bins, statistic, window)
    }

    /// What bins alone can tell.
    pub(super) fn simple_cause(&self, feature: usize, bins: &Bins, statistic: Statistic, window: &Window) -> CauseKind {
        if let Some(kind) = naming::missing(window, self.tolerance) {
            return kind;
        }
        let (now, before) = window.shares(bins.len() - 1);
        if matches!(bins, Bins::Categories { .. }) && now - before > self.tolerance.max(0.4 * window.distance()) {
            let top = self.features[feature].unlisted.top();
            let values = top.into_iter().take(EXAMPLES_MAX).map(|(value, _)| value.to_owned()).collect();
            return CauseKind::UnseenValues { values };
        }
        naming::shape(statistic, window)
    }

    /// The feature whose values this one has, and which has this one's.
    fn exchanged(&self, feature: usize, changed: &[usize], window: &Window) -> Option<usize> {
        let looks_like = |from: usize, as_if: usize| -> Option<f64> {
            let values = self.recent.values(from, window.begin);
            if values.len() < VALUES_MIN || !self.all.expected.numeric[as_if] {
                return None;
            }
            let expected = self.recent.expected(as_if, window.begin, &self.all.expected);
            let d = distance(values.iter().copied(), &self.features[as_if].bins, &expected);
            (d <= alike(values.len())).then_some(d)
        };
        let others = changed.iter().copied().filter(|other| *other != feature);
        let both = others.filter_map(|other| Some((looks_like(feature, other)? + looks_like(other, feature)?, other)));
        // What still looks like itself was not exchanged.
        both.min_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, other)| other)
            .filter(|_| looks_like(feature, feature).is_none_or(|d| d > 0.5 * window.distance()))
    }

    #[expect(clippy::too_many_arguments, reason = "a certificate is made of what was seen, where and when")]
    pub(super) fn certificate(
        &self,
        feature: usize,
        segment: Option<usize>,
        statistic: Statistic,
        window: &Window,
        kind: CauseKind,
        at: Timestamp,
        hour: i64,
    ) -> Certified {
        let own = &self.features[feature];
        let segment = segment.map(|place| &self.segments[place]);
        let bins = segment.map_or(&own.bins, |segment| &segment.bins[feature]);
        let scope = segment.map_or(&self.all, |segment| &segment.scope);
        let level = scope.log_level(feature, statistic);
        let (words, before, now) = naming::place(window, bins);
        let where_ = segment.map(|segment| format!(" where {}", segment.name)).unwrap_or_default();
        let message = format!("{}{where_}: {}", own.name, sentence(&kind, &words, before, now));
        let begin = window.begin.max(hour_of(self.since));
        let place = Place {
            feature: Some(own.name.clone()),
            segment: segment.map(|segment| segment.name.clone()),
            bin: Some(words),
        };
        let mut cause = Cause::new(kind, place);
        cause.began = Some(Timestamp(begin * Span::hours(1).0));
        cause.size = Some(size(statistic, window, level));
        cause.examples = match &cause.kind {
            CauseKind::UnseenValues { values } => values.clone(),
            _ if segment.is_some() => Vec::new(),
            _ => {
                self.recent.values(feature, window.begin).iter().rev().take(EXAMPLES_MAX).map(f64::to_string).collect()
            }
        };
        let evidence = [
            ("distance", window.distance()),
            ("radius", (level / (2.0 * window.effective)).sqrt()),
            ("tolerance", self.tolerance),
            ("rows", window.rows),
            ("effective_rows", window.effective),
            ("null_share", window.shares(0).0),
            ("null_share_reference", window.shares(0).1),
        ];
        let evidence: BTreeMap<String, f64> =
            evidence.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Certified { at, hour, statistic, message, evidence, cause }
    }
}

/// How big, with an interval at the level of the test: Bernstein's for means and shares, Massart's for the distance.
fn size(statistic: Statistic, window: &Window, level: f64) -> Size {
    let m = window.effective;
    let bernstein = |variance: f64| (2.0 * level * variance / m).sqrt() + level / (3.0 * m);
    let around = |measure: &str, before: f64, now: f64, radius: f64| Size {
        measure: measure.to_owned(),
        before,
        now,
        difference: Interval { low: now - before - radius, high: now - before + radius },
    };
    let share = |measure: &str, bin: usize| {
        let (now, before) = window.shares(bin);
        around(measure, before, now, bernstein((now * (1.0 - now)).max(before * (1.0 - before))))
    };
    match statistic {
        Statistic::Nulls => share("null_share", 0),
        Statistic::Unseen => share("unseen_share", window.live.len() - 1),
        Statistic::Rank => around("rank", 0.5, 0.5 + window.rank, bernstein(window.variance)),
        Statistic::Shape => around("distance", 0.0, window.distance(), (level / (2.0 * m)).sqrt()),
    }
}

fn sentence(kind: &CauseKind, words: &str, before: f64, now: f64) -> String {
    let percent = |share: f64| format!("{:.0}%", 100.0 * share);
    let went = format!("{words} went from {} to {}", percent(before), percent(now));
    match kind {
        CauseKind::Schema => "the column has gone, every value is missing".into(),
        CauseKind::UnitChange { name: Some(name), .. } => format!("the unit changed ({name}); {went}"),
        CauseKind::UnitChange { factor, offset, .. } => {
            format!("values are {factor:.3} times what they were, plus {offset:.3}; {went}")
        }
        CauseKind::Swapped { with } => format!("it holds the values of {with}, and {with} those of it; {went}"),
        CauseKind::Frozen { value } => format!("it is stuck at {value}"),
        CauseKind::TimeZone { hours } => {
            let way = if *hours > 0 { "early" } else { "late" };
            format!("the pattern of the day comes {} h {way}; {went}", hours.abs())
        }
        CauseKind::UnseenValues { values } if !values.is_empty() => format!("{went}, such as \"{}\"", values[0]),
        _ => went,
    }
}
