//! What counting costs: nanoseconds a value for profile and drift, and a report over a million rows of fifty features.
//!
//! `cargo run --release -p control --example overhead -- [ROWS]`

use control::profile::{Profile, Raw};
use control::{InputMonitor, RowView};
use std::time::Instant;
use vocabulary::profile::{Bins, FeatureReference, HOURS_OF_WEEK, Reference};
use vocabulary::{Span, Timestamp};

const FEATURES: usize = 50;
/// Values that are drawn once and used in turn, so that drawing is not what is measured.
const DRAWN: usize = 4096;

fn main() {
    let rows: usize = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let edges: Vec<f64> = (1..32).map(|edge| f64::from(edge) / 32.0).collect();
    let feature = |place: usize| {
        let bins = Bins::Numeric { edges: edges.clone() };
        let counts = vec![std::iter::once(0).chain([10; 32]).collect::<Vec<u32>>(); HOURS_OF_WEEK];
        FeatureReference { name: format!("x{place}"), bins, counts, stratified: true }
    };
    let features: Vec<FeatureReference> = (0..FEATURES).map(feature).collect();
    let reference = Reference { format: 2, rows: 320 * 168, features, loss: None, detail: None };
    let values: Vec<[f64; FEATURES]> = (0..DRAWN)
        .map(|row| std::array::from_fn(|place| ((row * 7919 + place * 104_729) % 65_537) as f64 / 65_537.0))
        .collect();
    let at = |row: usize| Timestamp((row / 1000) as i64 * Span::hours(1).0);
    let timed = |name: &str, begin: Instant| {
        let seconds = begin.elapsed().as_secs_f64();
        println!("{name}: {seconds:.2} s, {:.2} ns a value", seconds * 1e9 / (rows * FEATURES) as f64);
    };

    let begin = Instant::now();
    let mut profile = Profile::new(&reference.features);
    for row in 0..rows {
        let raw: [Raw<'_>; FEATURES] = std::array::from_fn(|place| Raw::Number(values[row % DRAWN][place]));
        profile.observe(at(row), &raw, &[]);
    }
    timed("profile", begin);
    println!("profile as bytes: {}", profile.to_bytes().len());

    let mut monitor = InputMonitor::new(&reference, 0.1, 0.025, Timestamp(0));
    let begin = Instant::now();
    let mut bins = [0u16; FEATURES];
    for row in 0..rows {
        let numbers = &values[row % DRAWN];
        for (bin, (feature, number)) in bins.iter_mut().zip(reference.features.iter().zip(numbers)) {
            *bin = feature.bins.number(Some(*number));
        }
        monitor.observe_row(&RowView { numbers, ..RowView::of_bins(at(row), &bins) });
    }
    monitor.look(at(rows + 1000));
    let report = monitor.summary();
    timed("bins, drift and report", begin);
    let widest = report.iter().filter_map(|feature| feature.distance).fold(0.0, f64::max);
    println!("{} findings, largest distance {widest:.4}", monitor.findings("m").len());
}
