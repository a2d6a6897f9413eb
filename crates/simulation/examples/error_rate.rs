//! How soon a step of a classifier's error rate is found, beside the detectors of the stream literature on the same
//! streams. Prints a table; ends with 1 when ours takes more than 1.1 times what the best of those takes that keep their
//! false alarms at 5 %.
//!
//! `cargo run --release -p simulation --example error_rate -- [WORLDS]`

use control::LossMonitor;
use control::measures::{Adwin, PageHinkley};
use simulation::random::Random;
use std::process::ExitCode;
use vocabulary::profile::{Dependence, LossReference};
use vocabulary::{Span, Timestamp};

const BEFORE: f64 = 0.10;
/// Rows that a detector may learn from, clean rows after them, and rows in which a change is looked for.
const REFERENCE: usize = 5_000;
const CLEAN: usize = 5_000;
const AFTER: usize = 20_000;
/// Rows without a change, for false alarms.
const NULL: usize = 50_000;
const ROWS_AN_HOUR: usize = 50;

/// Gives whether it alarms after an error (1) or none (0).
type Detector = Box<dyn FnMut(f64) -> bool>;

fn ours(reference: &[f64]) -> Detector {
    let rows = reference.len() as f64;
    let mean = reference.iter().sum::<f64>() / rows;
    let standard_deviation = (mean * (1.0 - mean)).sqrt();
    let reference = LossReference { rows: reference.len() as u64, mean, standard_deviation, scale: 1.0 };
    let independent = Some(Dependence { hour: 0.0, day: 0.0 });
    let mut monitor = LossMonitor::with_dependence(&reference, independent, 0.0, 0.05);
    let mut row = 0;
    Box::new(move |loss| {
        monitor.observe(Timestamp((row / ROWS_AN_HOUR) as i64 * Span::hours(1).0), loss);
        row += 1;
        row % ROWS_AN_HOUR == 1 && monitor.summary().certified.is_some()
    })
}

fn adwin(reference: &[f64]) -> Detector {
    let mut detector = Adwin::new(0.002, 32);
    reference.iter().for_each(|loss| _ = detector.push(*loss));
    Box::new(move |loss| detector.push(loss))
}

fn page_hinkley(reference: &[f64]) -> Detector {
    let mut detector = PageHinkley::new(50.0);
    reference.iter().for_each(|loss| _ = detector.push(*loss));
    Box::new(move |loss| detector.push(loss))
}

fn draw(random: &mut Random, rate: f64) -> f64 {
    f64::from(u8::from(random.chance(rate)))
}

/// From the reference's losses.
type Make = fn(&[f64]) -> Detector;

fn main() -> ExitCode {
    let Ok(worlds) = std::env::args().nth(1).map_or(Ok(200), |text| text.parse::<u64>()) else {
        eprintln!("usage: error_rate [WORLDS], a whole number");
        return ExitCode::from(2);
    };
    let detectors: [(&str, Make); 3] = [("ours", ours), ("ADWIN", adwin), ("Page-Hinkley", page_hinkley)];
    let mut missed = false;
    println!("| .10 to | detector | median delay, rows | missed | false alarms in {NULL} rows | before the change |");
    println!("|---|---|---|---|---|---|");
    for after in [0.12, 0.15, 0.20] {
        let mut medians = Vec::new();
        for (name, make) in detectors {
            let (mut delays, mut early, mut wolves) = (Vec::new(), 0u64, 0u64);
            for seed in 0..worlds {
                let mut random = Random::new(seed, 8);
                let reference: Vec<f64> = (0..REFERENCE).map(|_| draw(&mut random, BEFORE)).collect();
                let mut detector = make(&reference);
                if (0..CLEAN).any(|_| detector(draw(&mut random, BEFORE))) {
                    early += 1;
                } else if let Some(delay) = (0..AFTER).find(|_| detector(draw(&mut random, after))) {
                    delays.push(delay);
                }
                let mut detector = make(&reference);
                wolves += u64::from((0..NULL).any(|_| detector(draw(&mut random, BEFORE))));
            }
            delays.sort_unstable();
            let median = delays.get(delays.len() / 2).copied();
            let lost = worlds - early - delays.len() as u64;
            println!("| {after} | {name} | {median:?} | {lost} | {wolves} of {worlds} | {early} |");
            medians.push((median, wolves * 20 <= worlds && lost == 0));
        }
        let best = medians[1..].iter().filter(|(_, honest)| *honest).filter_map(|(median, _)| *median).min();
        if let (Some(own), Some(best)) = (medians[0].0, best) {
            missed |= own as f64 > 1.1 * best as f64 || !medians[0].1;
        }
    }
    ExitCode::from(u8::from(missed))
}
