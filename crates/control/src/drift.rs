//! Drift of the inputs: has a feature's distribution left its reference by more than the tolerance? The reference is
//! stratified by hour of the week and weighted as the live rows are, so that a night or a weekend is no drift.
//!
//! The statistic is the largest difference of cumulative shares over the feature's bins in a fixed order (null first,
//! then numbers ascending, or categories by reference frequency). For numbers that is the Kolmogorov-Smirnov distance
//! at the bins' edges; for categories the order makes it a distribution function too, so one band covers both.

use crate::sequential::{DkwBand, dkw_fixed};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use vocabulary::profile::{Bins, FeatureReference, HOURS_OF_WEEK, Reference};
use vocabulary::{Finding, FindingKind, Span, Timestamp};

/// Effective rows before which nothing is certified.
const ROWS_MIN: f64 = 200.0;
/// Rows of one hour count as this many at most: they share their weather and their traffic. A judgement, on the side of
/// alarming late; exchangeable rows would need no such limit.
const ROWS_AN_HOUR: f64 = 8.0;
/// A stratum with fewer reference rows is replaced by all hours together.
const STRATUM_ROWS_MIN: u64 = 30;

/// One feature's live counts beside its reference.
#[derive(Clone, Debug)]
struct Feature {
    name: String,
    bins: Bins,
    /// Reference shares by hour of week; hours with too few rows share the pooled ones.
    strata: Vec<Vec<f64>>,
    /// Reference rows behind each stratum.
    rows: Vec<f64>,
    live: Vec<u64>,
    certified: Option<Certified>,
}

#[derive(Clone, Debug)]
struct Certified {
    at: Timestamp,
    message: String,
    evidence: BTreeMap<String, f64>,
}

/// A feature as the page shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FeatureSummary {
    pub name: String,
    /// Largest difference of cumulative shares.
    pub distance: Option<f64>,
    /// Half width of the band, live and reference together; none while it is not yet finite.
    pub radius: Option<f64>,
    pub tolerance: f64,
    pub certified: bool,
    pub since: Option<Timestamp>,
}

#[derive(Clone, Debug)]
pub struct InputMonitor {
    features: Vec<Feature>,
    band: DkwBand,
    alpha_reference: f64,
    tolerance: f64,
    since: Timestamp,
    hours_seen: BTreeSet<i64>,
    strata_seen: Vec<u64>,
    rows: u64,
    looked_at_rows: u64,
}

impl InputMonitor {
    /// `alpha` is spent evenly over the features, half of each share on the reference's own uncertainty.
    pub fn new(reference: &Reference, tolerance: f64, alpha: f64, since: Timestamp) -> Self {
        let each = alpha / reference.features.len().max(1) as f64;
        InputMonitor {
            features: reference.features.iter().map(Feature::new).collect(),
            band: DkwBand::new(each / 2.0, ROWS_MIN),
            alpha_reference: each / 2.0,
            tolerance,
            since,
            hours_seen: BTreeSet::new(),
            strata_seen: vec![0; HOURS_OF_WEEK],
            rows: 0,
            looked_at_rows: 0,
        }
    }

    /// Counts one row; `bins` are in the order of the reference's features.
    pub fn observe(&mut self, at: Timestamp, bins: &[u16]) {
        debug_assert_eq!(bins.len(), self.features.len(), "a bin for each feature");
        self.rows += 1;
        self.hours_seen.insert(at.0.div_euclid(Span::hours(1).0));
        self.strata_seen[usize::from(at.hour_of_week())] += 1;
        for (feature, bin) in self.features.iter_mut().zip(bins) {
            if let Some(count) = feature.live.get_mut(usize::from(*bin)) {
                *count += 1;
            }
        }
    }

    fn effective_rows(&self) -> f64 {
        (self.rows as f64).min(ROWS_AN_HOUR * self.hours_seen.len() as f64)
    }

    /// Looks at all features; what is certain now stays certain.
    pub fn look(&mut self, now: Timestamp) {
        if self.rows == self.looked_at_rows {
            return;
        }
        self.looked_at_rows = self.rows;
        let (effective, rows) = (self.effective_rows(), self.rows as f64);
        let live_radius = self.band.radius(effective);
        if !live_radius.is_finite() {
            return;
        }
        for feature in self.features.iter_mut().filter(|feature| feature.certified.is_none()) {
            let seen = feature.compare(&self.strata_seen);
            let radius = live_radius + reference_radius(&seen, effective / rows, self.alpha_reference);
            if seen.distance - radius > self.tolerance {
                feature.certified = Some(feature.certificate(&seen, radius, self.tolerance, rows, now));
            }
        }
    }

    pub fn findings(&self, model: &str) -> Vec<Finding> {
        let certified = self.features.iter().filter_map(|feature| Some((feature, feature.certified.as_ref()?)));
        certified
            .map(|(feature, certified)| Finding {
                id: format!("{model}/input_drift/{}/{}", feature.name, self.since),
                model: model.to_owned(),
                kind: FindingKind::InputDrift,
                subject: Some(feature.name.clone()),
                at: certified.at,
                since: self.since,
                message: certified.message.clone(),
                evidence: certified.evidence.clone(),
            })
            .collect()
    }

    pub fn summary(&self) -> Vec<FeatureSummary> {
        let (effective, rows) = (self.effective_rows(), self.rows as f64);
        let live_radius = self.band.radius(effective);
        let shown = |feature: &Feature| {
            let seen = (self.rows > 0).then(|| feature.compare(&self.strata_seen));
            let radius = seen
                .as_ref()
                .filter(|_| live_radius.is_finite())
                .map(|seen| live_radius + reference_radius(seen, effective / rows, self.alpha_reference));
            FeatureSummary {
                name: feature.name.clone(),
                distance: seen.map(|seen| seen.distance),
                radius,
                tolerance: self.tolerance,
                certified: feature.certified.is_some(),
                since: feature.certified.as_ref().map(|certified| certified.at),
            }
        };
        self.features.iter().map(shown).collect()
    }
}

/// Band of the reference: a mixture of strata with weights `w` and `n` rows each is at least as certain as
/// `1 / sum(w² / n)` rows, and those come in hours as the live ones do.
fn reference_radius(seen: &Comparison, clustering: f64, alpha: f64) -> f64 {
    dkw_fixed((seen.reference_rows * clustering).max(1.0), alpha)
}

/// Live shares beside the reference's, weighted alike.
struct Comparison {
    live: Vec<f64>,
    reference: Vec<f64>,
    distance: f64,
    reference_rows: f64,
}

impl Feature {
    fn new(reference: &FeatureReference) -> Feature {
        let width = reference.bins.len();
        let mut pooled = vec![0u64; width];
        for counts in &reference.counts {
            pooled.iter_mut().zip(counts).for_each(|(sum, count)| *sum += u64::from(*count));
        }
        let all: u64 = pooled.iter().sum();
        let shares = |counts: &[u64]| {
            let total = counts.iter().sum::<u64>().max(1) as f64;
            counts.iter().map(|count| *count as f64 / total).collect::<Vec<f64>>()
        };
        let (mut strata, mut rows) = (Vec::with_capacity(HOURS_OF_WEEK), Vec::with_capacity(HOURS_OF_WEEK));
        for hour in 0..HOURS_OF_WEEK {
            let counts: Vec<u64> =
                reference.counts.get(hour).into_iter().flatten().map(|count| u64::from(*count)).collect();
            let total: u64 = counts.iter().sum();
            if reference.stratified && total >= STRATUM_ROWS_MIN && counts.len() == width {
                strata.push(shares(&counts));
                rows.push(total as f64);
            } else {
                strata.push(shares(&pooled));
                rows.push(all as f64);
            }
        }
        let (name, bins) = (reference.name.clone(), reference.bins.clone());
        Feature { name, bins, strata, rows, live: vec![0; width], certified: None }
    }

    fn compare(&self, strata_seen: &[u64]) -> Comparison {
        let total = strata_seen.iter().sum::<u64>().max(1) as f64;
        let mut reference = vec![0.0; self.live.len()];
        let mut inverse_rows = 0.0;
        for ((seen, shares), rows) in strata_seen.iter().zip(&self.strata).zip(&self.rows) {
            if *seen > 0 {
                let weight = *seen as f64 / total;
                reference.iter_mut().zip(shares).for_each(|(sum, share)| *sum += weight * share);
                inverse_rows += weight * weight / rows.max(1.0);
            }
        }
        let counted = self.live.iter().sum::<u64>().max(1) as f64;
        let live: Vec<f64> = self.live.iter().map(|count| *count as f64 / counted).collect();
        let (mut distance, mut gap) = (0.0f64, 0.0f64);
        for (a, b) in live.iter().zip(&reference) {
            gap += a - b;
            distance = distance.max(gap.abs());
        }
        Comparison { live, reference, distance, reference_rows: 1.0 / inverse_rows.max(1e-12) }
    }

    fn certificate(&self, seen: &Comparison, radius: f64, tolerance: f64, rows: f64, at: Timestamp) -> Certified {
        let evidence = [
            ("distance", seen.distance),
            ("radius", radius),
            ("tolerance", tolerance),
            ("rows", rows),
            ("null_share", seen.live[0]),
            ("null_share_reference", seen.reference[0]),
        ];
        let evidence = evidence.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Certified { at, message: self.sentence(seen, tolerance), evidence }
    }

    /// What changed, in the words of the feature's own values.
    fn sentence(&self, seen: &Comparison, tolerance: f64) -> String {
        let name = &self.name;
        let percent = |share: f64| format!("{:.0}%", 100.0 * share);
        let last = seen.live.len() - 1;
        let moved = |bin: usize| seen.live[bin] - seen.reference[bin];
        if moved(0).abs() > tolerance {
            return format!(
                "{name}: missing values went from {} to {}",
                percent(seen.reference[0]),
                percent(seen.live[0])
            );
        }
        match &self.bins {
            Bins::Categories { values } => {
                if moved(last).abs() > tolerance {
                    let (before, after) = (percent(seen.reference[last]), percent(seen.live[last]));
                    return format!(
                        "{name}: values outside the {} known ones went from {before} to {after}",
                        values.len()
                    );
                }
                let most = (1..last).max_by(|a, b| moved(*a).abs().total_cmp(&moved(*b).abs())).unwrap_or(1);
                let (before, after) = (percent(seen.reference[most]), percent(seen.live[most]));
                format!("{name}: \"{}\" went from {before} to {after}", values.get(most - 1).map_or("", |v| v))
            }
            Bins::Numeric { edges } => {
                let (mut gap, mut widest, mut at) = (0.0f64, 0.0f64, 0);
                for bin in 0..last {
                    gap += moved(bin);
                    if gap.abs() > widest.abs() {
                        (widest, at) = (gap, bin);
                    }
                }
                let edge = edges.get(at.saturating_sub(1)).copied().unwrap_or_default();
                let above = |shares: &[f64]| percent(shares[at + 1..].iter().sum::<f64>());
                format!("{name}: values above {edge} went from {} to {}", above(&seen.reference), above(&seen.live))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    const EDGES: [f64; 9] = [-1.2, -0.8, -0.5, -0.2, 0.0, 0.2, 0.5, 0.8, 1.2];

    /// A value whose mean depends strongly on the hour of the day.
    fn draw(random: &mut Random, at: Timestamp) -> f64 {
        let season = if at.hour_of_week() % 24 < 12 { -1.0 } else { 1.0 };
        season + 0.5 * random.normal()
    }

    fn reference(random: &mut Random) -> Reference {
        let bins = Bins::Numeric { edges: EDGES.to_vec() };
        let mut counts = vec![vec![0u32; bins.len()]; HOURS_OF_WEEK];
        for row in 0..80_000i64 {
            let at = Timestamp(row % 2160 * Span::hours(1).0);
            let bin = bins.number(Some(draw(random, at)));
            counts[usize::from(at.hour_of_week())][usize::from(bin)] += 1;
        }
        let feature = FeatureReference { name: "x".into(), bins, counts, stratified: true };
        Reference { format: 1, rows: 80_000, features: vec![feature], loss: None }
    }

    /// Rows of mornings only: a season that the reference knows.
    fn live(seed: u64, shift: f64) -> InputMonitor {
        let mut random = Random(seed);
        let reference = reference(&mut random);
        let mut monitor = InputMonitor::new(&reference, 0.1, 0.025, Timestamp(0));
        for row in 0..40_000i64 {
            let hour = row / 40;
            let at = Timestamp((hour / 12 * 24 + hour % 12 + 4000 * 24) * Span::hours(1).0);
            let bins = reference.features[0].bins.number(Some(draw(&mut random, at) + shift));
            monitor.observe(at, &[bins]);
            if row % 40 == 0 {
                monitor.look(at);
            }
        }
        monitor
    }

    #[test]
    fn a_season_that_the_reference_knows_is_no_drift() {
        for seed in 0..20 {
            let monitor = live(seed, 0.0);
            assert!(monitor.findings("m").is_empty(), "seed {seed}: {:?}", monitor.summary());
        }
    }

    #[test]
    fn a_shift_is_found_and_named() {
        let found = live(3, 0.5).findings("m");
        assert_eq!(found.len(), 1);
        assert!(found[0].message.contains("x: values above"), "{}", found[0].message);
        assert!(found[0].evidence["distance"] > 0.2);
    }

    #[test]
    fn a_flood_of_nulls_is_called_that() {
        let mut random = Random(1);
        let reference = reference(&mut random);
        let mut monitor = InputMonitor::new(&reference, 0.1, 0.025, Timestamp(0));
        for row in 0..5000i64 {
            let at = Timestamp(row * Span::hours(1).0 / 10);
            let value = (row % 2 == 0).then(|| draw(&mut random, at));
            monitor.observe(at, &[reference.features[0].bins.number(value)]);
            monitor.look(at);
        }
        assert_eq!(monitor.findings("m")[0].message, "x: missing values went from 0% to 50%");
    }
}
