//! The figures of operations in full: `cargo run --release -p simulation --example operations [WORLDS]`. Ends with 1 where a
//! target is missed.

use simulation::operations::model;
use simulation::operations::release::{Outcome, Release, run};
use simulation::operations::scenario::{Scenario, Trouble, TroubleKind};
use simulation::operations::shift;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use vocabulary::{Playbook, Span};

struct Target {
    name: String,
    seen: f64,
    met: bool,
}

fn main() -> ExitCode {
    let worlds: u64 = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1000);
    let mut targets = gate(worlds);
    targets.extend(shifts(worlds));
    let mut missed = 0;
    for target in &targets {
        let verdict = if target.met { "met" } else { "MISSED" };
        missed += u32::from(!target.met);
        println!("{verdict:7} {:.4}  {}", target.seen, target.name);
    }
    if missed == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) }
}

fn outcomes(worlds: u64, release: Release) -> Vec<Outcome> {
    let model = model();
    (0..worlds).map(|seed| run(&release, &model, seed)).collect()
}

fn gate(worlds: u64) -> Vec<Target> {
    let tolerance = model().release.tolerance;
    let world = |gain: f64, rows_per_day: u64| Release { gain, rows_per_day, days: 35, at_once: false };
    let share = |all: &[Outcome], holds: fn(&Outcome) -> bool| {
        all.iter().filter(|outcome| holds(outcome)).count() as f64 / all.len().max(1) as f64
    };
    let worse = outcomes(worlds, world(-tolerance, 1000));
    let better = outcomes(worlds, world(2.0 * tolerance, 1000));
    let quiet_worse = outcomes(worlds, world(-tolerance, 20));
    let quiet_better = outcomes(worlds, world(2.0 * tolerance, 20));
    let bad = outcomes(worlds, Release { gain: -0.03, rows_per_day: 1000, days: 21, at_once: true });
    let all = [&worse, &better, &quiet_worse, &quiet_better, &bad];
    let broken: usize = all.iter().flat_map(|all| all.iter()).map(|outcome| outcome.broken.len()).sum();
    let flapping = all.iter().flat_map(|all| all.iter()).filter(|outcome| outcome.changes > 2).count();
    let promoted = |outcome: &Outcome| outcome.promoted.is_some();
    let wrong = share(&quiet_worse, |o| o.verdicts.contains(&"better"))
        + share(&quiet_better, |o| o.verdicts.contains(&"worse"));
    let mut days: Vec<f64> = better.iter().filter_map(|outcome| outcome.promoted).collect();
    days.sort_by(f64::total_cmp);
    if let Some(median) = days.get(days.len() / 2) {
        println!("        {median:.1} days until a better newcomer answers all, in the median");
    }
    let target = |name: &str, seen: f64, met: bool| Target { name: name.to_owned(), seen, met };
    let (p, q) = (share(&worse, promoted), share(&better, promoted));
    let back = share(&bad, |outcome| outcome.rolled_back.is_some_and(|day| day <= 14.0));
    vec![
        target("of newcomers that are worse by the tolerance promoted: at most 0.05", p, p <= 0.05),
        target(
            "of newcomers that are better by twice the tolerance promoted within the horizon: at least 0.90",
            q,
            q >= 0.90,
        ),
        target("of worlds with 20 rows a day given a wrong verdict: none", wrong, wrong == 0.0),
        target("of bad versions released by hand rolled back within 14 days: all", back, back == 1.0),
        target("rules of the lint broken: none", broken as f64, broken == 0),
        target("worlds in which who answers changes more than there and back: none", flapping as f64, flapping == 0),
    ]
}

fn built_in() -> Vec<Playbook> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../homeostat/src/playbooks");
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .collect();
    paths.sort();
    let read = |path: &PathBuf| toml::from_str(&std::fs::read_to_string(path).unwrap_or_default()).ok();
    paths.iter().filter_map(read).collect()
}

/// Random troubles over two days, one after the other.
fn random_scenario(seed: u64) -> Scenario {
    let mut random = simulation::random::Random::new(seed, 17);
    let kinds = [
        (TroubleKind::Surge, 12.0),
        (TroubleKind::SourceInterruption, 0.0),
        (TroubleKind::SlowRelease, 12.0),
        (TroubleKind::FailingRelease, 0.05),
        (TroubleKind::SlowDependency, 1500.0),
        (TroubleKind::FullDisk, 0.0),
        (TroubleKind::LabelOutage, 0.0),
        (TroubleKind::BadData, 0.4),
    ];
    let hour = Span::hours(1).0;
    let troubles = (0..4).map(|place| {
        let (kind, much) = kinds[random.below(kinds.len())];
        let from = Span((2 + 11 * place) * hour + random.below(180) as i64 * 60_000_000);
        Trouble { kind, from, to: Span(from.0 + (1 + random.below(5) as i64) * hour), much, every: None }
    });
    let objective = vocabulary::objective::ObjectiveSpec {
        latency_target: Some(0.99),
        availability: Some(0.999),
        outcomes_every: Some(Span::hours(3)),
        requests_every: Some(Span(600_000_000)),
        ..Default::default()
    };
    Scenario {
        name: format!("random {seed}"),
        about: String::new(),
        lasts: Span::days(2),
        seed,
        objective,
        requests: 4000.0,
        swing: 0.4,
        outcome_delay: Span::hours(1),
        light_tenants: 0.6,
        troubles: troubles.collect(),
    }
}

fn shifts(worlds: u64) -> Vec<Target> {
    let (playbooks, model, begun) = (built_in(), model(), Instant::now());
    let (mut broken, mut unanswered, mut troubles) = (0, 0, 0);
    for seed in 0..worlds {
        let scenario = random_scenario(seed);
        let timeline = shift::run(&scenario, &model, &playbooks, seed);
        broken += timeline.broken.len();
        for trouble in &scenario.troubles {
            let from = trouble.from.0 / 60_000_000;
            // Labels are missed after three hours; everything else within a quarter of one.
            let patience = if trouble.kind == TroubleKind::LabelOutage { 200 } else { 20 };
            let lasts = (trouble.to.0 - trouble.from.0) / 60_000_000;
            if lasts < patience {
                continue;
            }
            troubles += 1;
            let seen = timeline.alarms.iter().any(|(minute, _)| (from..=from + patience).contains(minute));
            unanswered += u32::from(!seen);
        }
        if seed == 0 {
            println!("{}", timeline.text());
        }
    }
    let took = begun.elapsed().as_secs_f64();
    println!("        {:.0} worlds of two days a minute on one thread", worlds as f64 / took * 60.0);
    let missed = f64::from(unanswered) / f64::from(troubles.max(1));
    vec![
        Target {
            name: "rules broken in worlds of random troubles: none".into(),
            seen: broken as f64,
            met: broken == 0,
        },
        Target {
            name: format!("of {troubles} troubles without an alarm in time: at most 0.05"),
            seen: missed,
            met: missed <= 0.05,
        },
    ]
}
