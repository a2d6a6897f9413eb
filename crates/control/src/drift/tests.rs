//! Seasons, shifts and floods, as the input monitor sees them.

use super::*;
use crate::testing::Random;
use vocabulary::CauseKind;
use vocabulary::profile::{HOURS_OF_WEEK, ReferenceDetail};

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
    Reference { format: 1, rows: 80_000, features: vec![feature], loss: None, detail: None }
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
    let cause = found[0].cause.as_ref().unwrap();
    assert_eq!(cause.kind, CauseKind::Shifted);
    let size = cause.size.as_ref().unwrap();
    assert!(size.difference.low > 0.0 && size.difference.low < size.now - size.before, "{size:?}");
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

#[test]
fn a_late_change_is_found_and_dated_after_a_long_clean_time() {
    let mut random = Random(2);
    let mut reference = reference(&mut random);
    let independent = vec![Dependence { hour: 0.0, day: 0.0 }];
    reference.detail = Some(ReferenceDetail { dependence: independent, ..ReferenceDetail::default() });
    let mut monitor = InputMonitor::new(&reference, 0.1, 0.025, Timestamp(0));
    let begin = 3000;
    for hour in 0..begin + 72 {
        let at = Timestamp(hour * Span::hours(1).0);
        for _ in 0..20 {
            let shift = if hour < begin { 0.0 } else { 0.6 };
            monitor.observe(at, &[reference.features[0].bins.number(Some(draw(&mut random, at) + shift))]);
        }
        assert!(hour >= begin || monitor.findings("m").is_empty(), "hour {hour}");
    }
    let found = monitor.findings("m");
    let began = found[0].cause.as_ref().unwrap().began.unwrap();
    let off = (hour_of(began) - begin).abs();
    assert!(off <= 12, "the change is dated {off} hours off");
}

#[test]
fn coarse_bins_hold_the_fine_ones() {
    let fine = Bins::Numeric { edges: vec![1.0, 2.0, 3.0, 4.0] };
    let coarse = Bins::Numeric { edges: vec![2.0, 4.0] };
    assert_eq!(coarser(&fine, &coarse), [0, 1, 1, 2, 2, 3]);
    let values = |names: &[&str]| Bins::Categories { values: names.iter().map(|name| (*name).to_owned()).collect() };
    assert_eq!(coarser(&values(&["a", "b", "c"]), &values(&["a", "b"])), [0, 1, 2, 3, 3]);
}
