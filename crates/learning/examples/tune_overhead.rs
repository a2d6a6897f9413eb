//! What a search costs beside its evaluations, and what it finds: analytic functions, no early stopping, one worker.
//!
//! ```sh
//! cargo run --release -p learning --example tune_overhead -- [seeds] > tune_overhead.json
//! ```
//! Prints a JSON list: for each function, number of trials and kind of search the microseconds a trial (all of them, the
//! journal's writing included) and the least value found, median over the seeds.

use learning::tune::{Budget, Call, Domain, Failure, Measured, Objective, Parameter, Runtime, Search, Settings, Space};
use std::f64::consts::PI;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

struct Function {
    name: &'static str,
    low: f64,
    high: f64,
    dimensions: usize,
    at: fn(&[f64]) -> f64,
}

const FUNCTIONS: [Function; 3] = [
    // Least value 0.397887.
    Function { name: "branin", low: 0.0, high: 1.0, dimensions: 2, at: branin },
    // Least value -3.32237.
    Function { name: "hartmann6", low: 0.0, high: 1.0, dimensions: 6, at: hartmann6 },
    // Least value 0.
    Function { name: "rosenbrock10", low: -5.0, high: 10.0, dimensions: 10, at: rosenbrock },
];

/// Over [-5, 10] x [0, 15], brought to the unit square.
fn branin(x: &[f64]) -> f64 {
    let (x, y) = (15.0 * x[0] - 5.0, 15.0 * x[1]);
    let a = y - 5.1 / (4.0 * PI * PI) * x * x + 5.0 / PI * x - 6.0;
    a * a + 10.0 * (1.0 - 1.0 / (8.0 * PI)) * x.cos() + 10.0
}

fn hartmann6(x: &[f64]) -> f64 {
    const A: [[f64; 6]; 4] = [
        [10.0, 3.0, 17.0, 3.5, 1.7, 8.0],
        [0.05, 10.0, 17.0, 0.1, 8.0, 14.0],
        [3.0, 3.5, 1.7, 10.0, 17.0, 8.0],
        [17.0, 8.0, 0.05, 10.0, 0.1, 14.0],
    ];
    const P: [[f64; 6]; 4] = [
        [0.1312, 0.1696, 0.5569, 0.0124, 0.8283, 0.5886],
        [0.2329, 0.4135, 0.8307, 0.3736, 0.1004, 0.9991],
        [0.2348, 0.1451, 0.3522, 0.2883, 0.3047, 0.6650],
        [0.4047, 0.8828, 0.8732, 0.5743, 0.1091, 0.0381],
    ];
    let term = |(row, weight): (usize, f64)| {
        let sum: f64 = (0..6).map(|d| A[row][d] * (x[d] - P[row][d]) * (x[d] - P[row][d])).sum();
        weight * (-sum).exp()
    };
    -[1.0, 1.2, 3.0, 3.2].into_iter().enumerate().map(term).sum::<f64>()
}

fn rosenbrock(x: &[f64]) -> f64 {
    let term = |pair: &[f64]| {
        let (valley, distance) = (pair[1] - pair[0] * pair[0], 1.0 - pair[0]);
        100.0 * valley * valley + distance * distance
    };
    x.windows(2).map(term).sum()
}

impl Objective for Function {
    fn evaluate(&self, call: &Call) -> Result<Measured, Failure> {
        let x: Vec<f64> = call.point.0.iter().map(|value| value.unwrap_or_default()).collect();
        Ok(Measured { loss: (self.at)(&x), cpu_seconds: 0.0 })
    }
}

/// Seconds, and the least value.
fn search(function: &Function, trials: u32, lanes: usize, startup: u32, seed: u64) -> (f64, f64) {
    let parameter = |d: usize| Parameter::always(&format!("x{d}"), Domain::real(function.low, function.high));
    let space = Space { parameters: (0..function.dimensions).map(parameter).collect() };
    let settings = Settings { seed, eta: 3, shares: vec![1.0], lanes, startup };
    let journal = std::env::temp_dir().join(format!("tune_overhead_{}.journal", std::process::id()));
    let stop = AtomicBool::new(false);
    let start = Instant::now();
    let runtime = Runtime {
        workers: 1,
        budget: Budget { trials, seconds: None, money: None },
        seconds: &|| start.elapsed().as_secs_f64(),
        stop: &stop,
        progress: &|_| {},
    };
    let search = Search {
        space: &space,
        settings: &settings,
        first: &[],
        objective: function,
        about: &[],
        journal: Some(&journal),
    };
    let searched = search.run(&runtime);
    let seconds = start.elapsed().as_secs_f64();
    if let Err(error) = std::fs::remove_file(&journal) {
        eprintln!("{}: {error}", journal.display());
    }
    match searched {
        Ok(searched) => {
            let least = searched.best.and_then(|best| searched.trials[best].loss());
            (seconds, least.unwrap_or(f64::NAN))
        }
        Err(error) => {
            eprintln!("{}: {error}", function.name);
            (seconds, f64::NAN)
        }
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let seeds: u64 = std::env::args().nth(1).and_then(|seeds| seeds.parse().ok()).unwrap_or(5);
    let mut rows = Vec::new();
    for function in &FUNCTIONS {
        for trials in [100, 1000, 5000] {
            // A startup as long as the search makes every point an even draw.
            for (kind, lanes, startup) in [("tpe", 1, 10), ("tpe, 8 lanes", 8, 10), ("even", 1, trials)] {
                if kind == "even" && trials > 1000 {
                    continue;
                }
                let runs: Vec<(f64, f64)> =
                    (0..seeds).map(|seed| search(function, trials, lanes, startup, seed)).collect();
                let seconds = median(runs.iter().map(|run| run.0).collect());
                rows.push(serde_json::json!({
                    "function": function.name, "dimensions": function.dimensions, "trials": trials, "search": kind,
                    "seeds": seeds, "us_per_trial": 1e6 * seconds / f64::from(trials),
                    "least": median(runs.iter().map(|run| run.1).collect()),
                }));
                eprintln!("{}", rows[rows.len() - 1]);
            }
        }
    }
    println!("{}", serde_json::Value::from(rows));
}
