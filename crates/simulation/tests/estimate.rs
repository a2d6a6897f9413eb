//! Quality without outcomes, and with late ones, in worlds where the truth is known.

use control::LossMonitor;
use control::delay::DelayedLoss;
use control::estimate::{Audit, Known, RateMap, density_ratio};
use simulation::random::Random;
use vocabulary::profile::{Dependence, LossReference};
use vocabulary::{Span, Timestamp};

/// A row: two features, what the model says, what comes true. The model knows only the first feature and is too timid.
struct Row {
    features: Vec<f64>,
    answer: f64,
    outcome: f64,
}

#[derive(Clone, Copy, Default)]
struct Shift {
    first: f64,
    second: f64,
    /// Added to the log odds of the truth: another world with the same inputs.
    concept: f64,
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn rows(random: &mut Random, count: usize, shift: Shift) -> Vec<Row> {
    let row = |_| {
        let (a, b) = (random.normal() + shift.first, random.normal() + shift.second);
        let truth = logistic(1.6 * a + 0.9 * b - 0.4 + shift.concept);
        let outcome = f64::from(u8::from(random.chance(truth)));
        Row { features: vec![a, b], answer: logistic(a - 0.2), outcome }
    };
    (0..count).map(row).collect()
}

/// Coverage of the intervals for accuracy over windows of a thousand rows, each with a reference of its own.
fn coverage(shift: Shift, weighted: bool) -> f64 {
    let mut audit = Audit::default();
    for seed in 0..300 {
        let mut random = Random::new(seed, 5);
        let (reference, live) = (rows(&mut random, 3000, Shift::default()), rows(&mut random, 1000, shift));
        let features = |rows: &[Row]| rows.iter().map(|row| row.features.clone()).collect::<Vec<_>>();
        let weights =
            if weighted { density_ratio(&features(&reference), &features(&live)) } else { vec![1.0; reference.len()] };
        let known = reference.iter().zip(weights);
        let known: Vec<Known> =
            known.map(|(row, weight)| Known { answer: row.answer, outcome: row.outcome, weight }).collect();
        let answers: Vec<f64> = live.iter().map(|row| row.answer).collect();
        let estimates = RateMap::fit(&known, 0.5).and_then(|map| map.estimate(&answers)).expect("there are rows");
        let right = live.iter().filter(|row| (row.answer >= 0.5) == (row.outcome == 1.0)).count();
        audit.observe(&estimates.accuracy, right as f64 / live.len() as f64);
    }
    audit.coverage().expect("there were windows")
}

#[test]
fn intervals_hold_the_truth_where_inputs_change() {
    let same = coverage(Shift::default(), false);
    assert!(same >= 0.93, "no change: {same}");
    let seen = coverage(Shift { first: 0.6, ..Shift::default() }, false);
    assert!(seen >= 0.93, "a change that the answers show: {seen}");
    let unseen = Shift { second: 0.6, ..Shift::default() };
    let (plain, weighted) = (coverage(unseen, false), coverage(unseen, true));
    assert!(plain < 0.9 && weighted >= 0.93, "a change that they do not show: plain {plain}, weighted {weighted}");
}

#[test]
fn a_change_of_meaning_is_not_seen_but_the_loss_watch_sees_it() {
    let changed = Shift { concept: -3.0, ..Shift::default() };
    let blind = coverage(changed, true);
    assert!(blind < 0.3, "the estimate cannot see it: {blind}");
    let mut random = Random::new(7, 6);
    let brier = |row: &Row| (row.answer - row.outcome).powi(2);
    let losses: Vec<f64> = rows(&mut random, 5000, Shift::default()).iter().map(brier).collect();
    let mean = losses.iter().sum::<f64>() / 5000.0;
    let variance = losses.iter().map(|loss| (loss - mean) * (loss - mean)).sum::<f64>() / 5000.0;
    let reference = LossReference { rows: 5000, mean, standard_deviation: variance.sqrt(), scale: 1.0 };
    let independent = Some(Dependence { hour: 0.0, day: 0.0 });
    let mut monitor = LossMonitor::with_dependence(&reference, independent, 0.01, 0.0125);
    for hour in 0..100 {
        let shift = if hour < 60 { Shift::default() } else { changed };
        for row in rows(&mut random, 50, shift) {
            monitor.observe(Timestamp(hour * Span::hours(1).0), brier(&row));
        }
    }
    let at = monitor.summary().certified.map(|at| at.0 / Span::hours(1).0);
    assert!(at.is_some_and(|hour| (61..100).contains(&hour)), "{at:?}");
}

#[test]
fn outcomes_that_come_early_do_not_bias_the_loss() {
    // One row in five loses, and that is known within hours; that nothing was lost is known after two to four days.
    let (mut naive, mut ours, mut covered) = (0.0, 0.0, 0);
    for seed in 0..40 {
        let mut random = Random::new(seed, 7);
        let mut losses = DelayedLoss::new(240);
        for hour in 0..240i64 {
            let at = Timestamp(hour * Span::hours(1).0);
            losses.predicted(at, 20);
            for _ in 0..20 {
                let lost = random.chance(0.2);
                let delay = if lost { random.below(6) } else { 48 + random.below(48) } as i64;
                if hour + delay < 240 {
                    losses.known(at, at + Span::hours(delay), f64::from(u8::from(lost)));
                }
            }
        }
        let found = losses.estimate(Timestamp(240 * Span::hours(1).0)).expect("much is settled");
        naive += found.naive / 40.0;
        ours += found.mean / 40.0;
        covered += usize::from(found.interval.low <= 0.2 && 0.2 <= found.interval.high);
    }
    assert!(naive > 0.25, "the plain mean is biased: {naive}");
    assert!((ours - 0.2).abs() < 0.004, "ours is not: {ours}");
    assert!(covered >= 34, "the intervals hold the truth: {covered} of 40");
}
