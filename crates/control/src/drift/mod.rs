//! Drift of the inputs: has a feature's distribution left its reference by more than the tolerance? The reference is
//! stratified by hour of the week, so that a night or a weekend is no drift, and rows of one hour or day count as far as
//! they say something of their own. Windows of many lengths are tested at each hour's end, so that a late change is found as
//! quickly as an early one; the budget of false alarms holds for all of them together (see [`spending`]).
//!
//! What is certain stays certain; its cause is read again while the change is young.

mod blocks;
mod expected;
mod naming;
mod recent;
mod report;
mod scope;
pub mod spending;
#[cfg(test)]
mod tests;

use expected::Expected;
use recent::Recent;
use scope::{Scope, ScopeOptions, Statistic};
use serde::Serialize;
use std::collections::BTreeMap;
use vocabulary::profile::{Bins, Dependence, FeatureReference, Reference};
use vocabulary::{Cause, Span, Timestamp};

use crate::profile::Heavy;

/// A stratum with fewer reference rows is replaced by a wider one: of all rows, and of a segment's.
const STRATUM_ROWS_MIN: u64 = 30;
const SEGMENT_STRATUM_ROWS_MIN: u64 = 8;
/// Where a reference does not say how much its rows resemble each other, those of one hour count as eight at most, those
/// of one day as sixty-four: a judgement, on the side of alarming late.
const UNKNOWN_DEPENDENCE: Dependence = Dependence { hour: 1.0 / 8.0, day: 1.0 / 64.0 };
/// A cause is read again for this many hours after it was first certain.
const YOUNG_HOURS: i64 = 48;
/// Segments that are watched at most; further ones of the reference are not.
pub const WATCHED_SEGMENTS_MAX: usize = 64;

/// How the budget is spent.
#[derive(Clone, Debug)]
pub struct InputOptions {
    /// How far cumulative shares may leave the reference.
    pub tolerance: f64,
    /// Chance that any feature of any scope is ever called drifted while it is within the tolerance.
    pub alpha: f64,
    /// Of the budget, for segments; the rest is for all rows together. Not used where there are none.
    pub segments_part: f64,
    /// Weights of single features; 1 where nothing is said.
    pub weights: BTreeMap<String, f64>,
}

impl InputOptions {
    pub fn new(tolerance: f64, alpha: f64) -> Self {
        InputOptions { tolerance, alpha, segments_part: 0.4, weights: BTreeMap::new() }
    }
}

/// One answered row.
#[derive(Clone, Copy, Debug)]
pub struct RowView<'a> {
    pub at: Timestamp,
    /// In the order of the reference's features.
    pub bins: &'a [u16],
    /// The same values as numbers, not a number where there is none; empty where they are not known.
    pub numbers: &'a [f64],
    /// Texts of categories in the last bin, by place of the feature.
    pub unseen: &'a [(u16, &'a str)],
    /// Places of the reference's segments that the row belongs to.
    pub segments: &'a [u16],
}

impl<'a> RowView<'a> {
    pub fn of_bins(at: Timestamp, bins: &'a [u16]) -> Self {
        RowView { at, bins, numbers: &[], unseen: &[], segments: &[] }
    }
}

#[derive(Clone, Debug)]
struct Feature {
    name: String,
    bins: Bins,
    certified: Option<Certified>,
    unlisted: Heavy,
}

#[derive(Clone, Debug)]
struct Segment {
    name: String,
    scope: Scope,
    /// By feature: its coarse bin for each fine one.
    coarse: Vec<Vec<u16>>,
    bins: Vec<Bins>,
    certified: BTreeMap<usize, Certified>,
}

/// A change that is certain.
#[derive(Clone, Debug)]
struct Certified {
    at: Timestamp,
    hour: i64,
    statistic: Statistic,
    message: String,
    evidence: BTreeMap<String, f64>,
    cause: Cause,
}

/// A feature as the page shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FeatureSummary {
    pub name: String,
    /// Largest difference of cumulative shares since the monitor began.
    pub distance: Option<f64>,
    /// Half width of its band; none while nothing can be certified.
    pub radius: Option<f64>,
    pub tolerance: f64,
    pub certified: bool,
    /// When it was first certain.
    pub since: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
}

#[derive(Clone, Debug)]
pub struct InputMonitor {
    features: Vec<Feature>,
    all: Scope,
    segments: Vec<Segment>,
    recent: Recent,
    tolerance: f64,
    since: Timestamp,
}

impl InputMonitor {
    /// `alpha` is spent evenly over the features, for all time.
    pub fn new(reference: &Reference, tolerance: f64, alpha: f64, since: Timestamp) -> Self {
        Self::with_options(reference, &InputOptions::new(tolerance, alpha), since)
    }

    pub fn with_options(reference: &Reference, options: &InputOptions, since: Timestamp) -> Self {
        let detail = reference.detail.as_ref();
        let count = reference.features.len();
        let known = detail.map(|detail| &detail.dependence).filter(|dependence| dependence.len() == count);
        let dependence = known.cloned().unwrap_or_else(|| vec![UNKNOWN_DEPENDENCE; count]);
        let named = detail.map(|detail| detail.segments.as_slice()).unwrap_or_default();
        let named = &named[..named.len().min(WATCHED_SEGMENTS_MAX)];
        let hours = detail.map(|detail| detail.hours.iter().sum::<u32>()).filter(|hours| *hours > 0);
        // Rows of one reference hour, and of one of its days with as many hours as a day has.
        let block = |rows: f64| hours.map(|hours| (rows / f64::from(hours), 24.0 * rows / f64::from(hours)));
        let segments_part = if named.is_empty() { 0.0 } else { options.segments_part };
        let budgets = |part: f64| {
            let weight = |f: &FeatureReference| options.weights.get(&f.name).copied().unwrap_or(1.0).max(1e-6);
            let all: f64 = reference.features.iter().map(weight).sum();
            reference.features.iter().map(|f| options.alpha * part * weight(f) / all).collect::<Vec<f64>>()
        };
        let scope = |features: &[FeatureReference], least: u64, part: f64, rows: f64| {
            let options = ScopeOptions {
                tolerance: options.tolerance,
                dependence: dependence.clone(),
                reference_block: block(rows),
                budgets: budgets(part),
            };
            Scope::new(Expected::new(features, least), options)
        };
        let segment = |own: &vocabulary::profile::SegmentReference| {
            let rows =
                own.features.first().map_or(0, |f| f.counts.iter().flatten().map(|n| u64::from(*n)).sum::<u64>());
            Segment {
                name: own.name.clone(),
                scope: scope(&own.features, SEGMENT_STRATUM_ROWS_MIN, segments_part / named.len() as f64, rows as f64),
                coarse: reference.features.iter().zip(&own.features).map(|(f, c)| coarser(&f.bins, &c.bins)).collect(),
                bins: own.features.iter().map(|feature| feature.bins.clone()).collect(),
                certified: BTreeMap::new(),
            }
        };
        let feature = |f: &FeatureReference| Feature {
            name: f.name.clone(),
            bins: f.bins.clone(),
            certified: None,
            unlisted: Heavy::default(),
        };
        InputMonitor {
            features: reference.features.iter().map(feature).collect(),
            all: scope(&reference.features, STRATUM_ROWS_MIN, 1.0 - segments_part, reference.rows as f64),
            segments: named.iter().map(segment).collect(),
            recent: Recent::new(count),
            tolerance: options.tolerance,
            since,
        }
    }

    /// Counts one row of which only the bins are known.
    pub fn observe(&mut self, at: Timestamp, bins: &[u16]) {
        self.observe_row(&RowView::of_bins(at, bins));
    }

    /// Counts one row. Rows come in the order of their hours; a late one counts in the hour that is open.
    pub fn observe_row(&mut self, row: &RowView<'_>) {
        debug_assert_eq!(row.bins.len(), self.features.len(), "a bin for each feature");
        let (hour, of_week) = (hour_of(row.at), row.at.hour_of_week());
        if self.all.open_hour().is_some_and(|open| hour > open) {
            self.close();
        }
        self.all.count(hour, of_week, row.bins.iter().copied());
        for place in row.segments {
            if let Some(segment) = self.segments.get_mut(usize::from(*place)) {
                let bins = row.bins.iter().zip(&segment.coarse);
                segment.scope.count(
                    hour,
                    of_week,
                    bins.map(|(bin, coarse)| coarse[usize::from(*bin).min(coarse.len() - 1)]),
                );
            }
        }
        self.recent.row(hour, row.numbers);
        for (feature, text) in row.unseen {
            if let Some(feature) = self.features.get_mut(usize::from(*feature)) {
                feature.unlisted.push(text);
            }
        }
    }

    /// Looks at all features: ends the hour if `now` is past it.
    pub fn look(&mut self, now: Timestamp) {
        if self.all.open_hour().is_some_and(|open| hour_of(now) > open) {
            self.close();
        }
    }

    /// The end of an hour.
    fn close(&mut self) {
        let Some(hour) = self.all.open_hour() else { return };
        let at = Timestamp((hour + 1) * Span::hours(1).0);
        let features = &self.features;
        let hits = self.all.close(|feature| features[feature].certified.is_some());
        if let Some(ended) = self.all.last_hour() {
            self.recent.hour(ended);
        }
        let new: Vec<(usize, Statistic, Timestamp, i64)> =
            hits.iter().map(|hit| (hit.feature, hit.statistic, at, hour)).collect();
        let young = self.features.iter().enumerate().filter_map(|(place, feature)| {
            let certified = feature.certified.as_ref().filter(|certified| hour - certified.hour <= YOUNG_HOURS)?;
            Some((place, certified.statistic, certified.at, certified.hour))
        });
        let young: Vec<(usize, Statistic, Timestamp, i64)> = young.chain(new).collect();
        let places: Vec<usize> = young.iter().map(|(place, ..)| *place).collect();
        for (place, statistic, at, first) in young {
            if let Some(read) = self.read(place, statistic, &places, at, first) {
                self.features[place].certified = Some(read);
            }
        }
        for segment in 0..self.segments.len() {
            self.close_segment(segment, at, hour);
        }
    }

    fn close_segment(&mut self, place: usize, at: Timestamp, hour: i64) {
        let segment = &mut self.segments[place];
        let certified = &segment.certified;
        let hits = segment.scope.close(|feature| certified.contains_key(&feature));
        for hit in hits {
            let segment = &self.segments[place];
            let Some(window) = segment.scope.strongest(hit.feature, hit.statistic, hour) else { continue };
            let cause = self.simple_cause(hit.feature, &segment.bins[hit.feature], hit.statistic, &window);
            let read = self.certificate(hit.feature, Some(place), hit.statistic, &window, cause, at, hour);
            self.segments[place].certified.insert(hit.feature, read);
        }
    }

    pub fn rows(&self) -> u64 {
        self.all.rows
    }
}

fn hour_of(at: Timestamp) -> i64 {
    at.0.div_euclid(Span::hours(1).0)
}

/// The coarse bin that holds each fine one: a coarse reference's edges are among the fine one's, its categories the
/// first of them.
fn coarser(fine: &Bins, coarse: &Bins) -> Vec<u16> {
    let last = coarse.len() as u16 - 1;
    let bin = |bin: usize| match (fine, coarse) {
        _ if bin == 0 => 0,
        (Bins::Numeric { edges }, Bins::Numeric { .. }) => {
            edges.get(bin - 1).map_or(last, |edge| coarse.number(Some(*edge)))
        }
        (Bins::Categories { values }, Bins::Categories { .. }) => {
            coarse.category(values.get(bin - 1).map(String::as_str)).max(1)
        }
        _ => 0,
    };
    let unlisted = fine.len() - 1;
    (0..fine.len()).map(|place| if place == unlisted && place > 0 { last } else { bin(place) }).collect()
}
