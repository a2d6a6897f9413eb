//! Searches over analytic functions: the same with any number of workers and after a kill, and better than chance.

use super::*;
use crate::keyed::{Purpose, bits};
use inference::elementary::exp;
use serde_json::Value;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

/// A bowl whose middle depends on a choice; lower rungs see it with an error of their own, and take chance time.
struct Bowl {
    /// Microseconds that an evaluation takes at most.
    time_us: u64,
    /// Points with x above this fail.
    fails_above: f64,
    evaluations: AtomicU32,
    stop_after: u32,
    stop: AtomicBool,
}

impl Default for Bowl {
    fn default() -> Self {
        Bowl {
            time_us: 0,
            fails_above: f64::INFINITY,
            evaluations: AtomicU32::new(0),
            stop_after: u32::MAX,
            stop: AtomicBool::new(false),
        }
    }
}

impl Objective for Bowl {
    fn evaluate(&self, call: &Call) -> Result<Measured, Failure> {
        let begun = self.evaluations.fetch_add(1, Ordering::Relaxed) + 1;
        if begun > self.stop_after {
            self.stop.store(true, Ordering::Relaxed);
            return Err(Failure::Stopped);
        }
        if self.time_us > 0 {
            let chance = bits(std::process::id().into(), Purpose::Split, u64::from(begun), call.worker as u64);
            std::thread::sleep(Duration::from_micros(chance % self.time_us));
        }
        let values = &call.point.0;
        let (kind, x) = (values[0].unwrap(), values[1].unwrap());
        if x > self.fails_above {
            return Err(Failure::Trial { reason: "too far".to_owned(), cpu_seconds: 1.0 });
        }
        let middle = values[2].or(values[3]).unwrap();
        let error = bits(1, Purpose::Split, call.rung as u64, u64::from(call.trial)) as f64 / u64::MAX as f64;
        let loss = (x - 0.3) * (x - 0.3) + 0.1 * (middle - 5.0) * (middle - 5.0) + 0.5 * kind;
        Ok(Measured { loss: loss + 0.1 * (1.0 - call.share) * error, cpu_seconds: 10.0 * call.share })
    }
}

fn space() -> Space {
    let when = |value| Some(Condition { parameter: 0, value });
    let values = ["near", "far"].map(Value::from).to_vec();
    Space {
        parameters: vec![
            Parameter::always("kind", Domain::Choice { values }),
            Parameter::always("x", Domain::real(0.0, 1.0)),
            Parameter { name: "a".to_owned(), domain: Domain::log_integer(1, 64), when: when(0) },
            Parameter { name: "b".to_owned(), domain: Domain::log_real(0.5, 50.0), when: when(1) },
        ],
    }
}

struct Attempt<'a> {
    seed: u64,
    trials: u32,
    workers: usize,
    journal: Option<&'a Path>,
    seconds: Option<f64>,
    money: Option<Money>,
}

const ATTEMPT: Attempt = Attempt { seed: 7, trials: 60, workers: 1, journal: None, seconds: None, money: None };

impl Attempt<'_> {
    fn of(&self, bowl: &Bowl) -> Result<Searched, TuneError> {
        let settings =
            Settings { seed: self.seed, eta: 3, shares: vec![1.0 / 9.0, 1.0 / 3.0, 1.0], lanes: 8, startup: 10 };
        let search = Search {
            space: &space(),
            settings: &settings,
            first: &[Point(vec![Some(1.0), Some(0.9), None, Some(20.0)])],
            objective: bowl,
            about: &[("data", "bowl".to_owned())],
            journal: self.journal,
        };
        // A clock that goes on by a second with each look.
        let looks = AtomicU32::new(0);
        search.run(&Runtime {
            workers: self.workers,
            budget: Budget { trials: self.trials, seconds: self.seconds, money: self.money },
            seconds: &|| f64::from(looks.fetch_add(1, Ordering::Relaxed)),
            stop: &bowl.stop,
            progress: &|_| {},
        })
    }
}

fn same(one: &Searched, other: &Searched) {
    assert_eq!(one.trials, other.trials);
    assert_eq!(one.best, other.best);
}

#[test]
fn any_number_of_workers_gives_the_same_trials_and_winner() {
    let bowl = Bowl { time_us: 2000, fails_above: 0.95, ..Bowl::default() };
    let one = ATTEMPT.of(&bowl).unwrap();
    assert_eq!((one.trials.len(), one.ending), (60, Ending::Trials));
    assert!(one.trials.iter().any(|trial| trial.failure.is_some()), "some fail");
    for workers in [2, 8, 20] {
        same(&one, &Attempt { workers, ..ATTEMPT }.of(&bowl).unwrap());
    }
    let other = Attempt { seed: 8, ..ATTEMPT }.of(&bowl).unwrap();
    assert_ne!(one.trials, other.trials, "the seed matters");
}

#[test]
fn early_stopping_spends_little_and_finds_the_middle() {
    let searched = ATTEMPT.of(&Bowl::default()).unwrap();
    let best = &searched.trials[searched.best.unwrap()];
    assert!(best.loss().unwrap() < 0.05, "{best:?}");
    assert_eq!(best.values["kind"], "near");
    let reached = |rung| searched.trials.iter().filter(|trial| trial.losses.len() > rung).count();
    assert_eq!(reached(0), 60);
    assert!((15..=22).contains(&reached(1)) && (4..=9).contains(&reached(2)), "{} {}", reached(1), reached(2));
    assert_eq!(searched.trials[0].losses.len(), 3, "what was declared is measured to the end");
    let mut points: Vec<String> = searched.trials.iter().map(|trial| format!("{:?}", trial.values)).collect();
    points.sort();
    points.dedup();
    assert_eq!(points.len(), 60, "no point twice");
}

#[test]
fn a_killed_search_ends_as_if_it_had_not_been() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("search.journal");
    let kept = Attempt { journal: Some(&path), workers: 3, ..ATTEMPT };
    let bowl = || Bowl { fails_above: 0.95, ..Bowl::default() };
    let whole = kept.of(&bowl()).unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let evaluations =
        whole.trials.iter().map(|trial| trial.losses.len() + usize::from(trial.failure.is_some())).sum::<usize>();
    for cut in 0..40 {
        // Each cut at a byte of its own, and the last at the end.
        let chance = bits(5, Purpose::Split, 0, cut) as usize % bytes.len();
        let length = if cut == 39 { bytes.len() } else { chance };
        std::fs::write(&path, &bytes[..length]).unwrap();
        let bowl = bowl();
        let again = Attempt { workers: 1 + cut as usize % 4, ..kept }.of(&bowl).unwrap();
        same(&whole, &again);
        assert_eq!(trials_so_far(&path).unwrap(), whole.trials, "the journal shows what the search found");
        let lines = bytes[..length].iter().filter(|byte| **byte == b'\n').count().saturating_sub(1);
        assert_eq!(bowl.evaluations.into_inner() as usize, evaluations - lines, "nothing is measured twice");
    }
}

#[test]
fn one_that_was_asked_to_stop_goes_on_and_one_with_more_trials_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("search.journal");
    let kept = Attempt { journal: Some(&path), workers: 2, ..ATTEMPT };
    let stopped = kept.of(&Bowl { stop_after: 25, time_us: 500, ..Bowl::default() }).unwrap();
    assert_eq!(stopped.ending, Ending::Stopped);
    assert!(stopped.trials.len() < 40);
    let more = Attempt { trials: 80, journal: None, ..kept }.of(&Bowl::default()).unwrap();
    same(&kept.of(&Bowl::default()).unwrap(), &ATTEMPT.of(&Bowl::default()).unwrap());
    same(&Attempt { trials: 80, ..kept }.of(&Bowl::default()).unwrap(), &more);
    let refused = Attempt { seed: 8, ..kept }.of(&Bowl::default()).unwrap_err().to_string();
    assert!(refused.contains("other seed"), "{refused}");
}

#[test]
fn time_ends_a_search_and_going_on_with_as_much_time_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("search.journal");
    let short = Attempt { journal: Some(&path), seconds: Some(40.0), ..ATTEMPT };
    let first = short.of(&Bowl::default()).unwrap();
    assert_eq!(first.ending, Ending::Time);
    assert!((3..40).contains(&first.trials.len()), "{}", first.trials.len());
    let again = short.of(&Bowl::default()).unwrap();
    same(&first, &again);
    let whole = ATTEMPT.of(&Bowl::default()).unwrap();
    for trial in &first.trials {
        assert_eq!(trial.values, whole.trials[trial.number as usize].values, "what was decided before is the same");
    }
    same(&Attempt { seconds: None, ..short }.of(&Bowl::default()).unwrap(), &whole);
}

#[test]
fn money_ends_a_search_at_the_same_place_with_any_number_of_workers() {
    let money = Some(Money { limit: 0.05, price_per_cpu_hour: 3.0 });
    let one = Attempt { money, ..ATTEMPT }.of(&Bowl::default()).unwrap();
    assert_eq!(one.ending, Ending::Money);
    // 60 CPU seconds are 0.05; those in flight come on top.
    assert!((60.0..60.0 + 8.0 * 10.0).contains(&one.cpu_seconds), "{}", one.cpu_seconds);
    for workers in [2, 8] {
        same(&one, &Attempt { money, workers, ..ATTEMPT }.of(&Bowl { time_us: 500, ..Bowl::default() }).unwrap());
    }
}

#[test]
fn a_small_space_is_used_up_and_no_point_comes_twice() {
    struct Count(Mutex<Vec<Vec<u64>>>);
    impl Objective for Count {
        fn evaluate(&self, call: &Call) -> Result<Measured, Failure> {
            self.0.lock().unwrap().push(call.point.key());
            Ok(Measured { loss: call.point.0[0].unwrap(), cpu_seconds: 0.0 })
        }
    }
    let count = Count(Mutex::default());
    let space = Space { parameters: vec![Parameter::always("n", Domain::integer(1, 12))] };
    let settings = Settings { seed: 1, eta: 3, shares: vec![1.0], lanes: 4, startup: 5 };
    let search =
        Search { space: &space, settings: &settings, first: &[], objective: &count, about: &[], journal: None };
    let runtime = Runtime {
        workers: 2,
        budget: Budget { trials: 100, seconds: None, money: None },
        seconds: &|| 0.0,
        stop: &AtomicBool::new(false),
        progress: &|_| {},
    };
    let searched = search.run(&runtime).unwrap();
    assert_eq!((searched.trials.len(), searched.ending), (12, Ending::UsedUp));
    assert_eq!(searched.trials[searched.best.unwrap()].values["n"], 1);
    assert_eq!(count.0.into_inner().unwrap().len(), 12);
}

#[test]
#[should_panic(expected = "a bug in the objective")]
fn a_panic_of_the_objective_is_not_swallowed() {
    struct Broken;
    impl Objective for Broken {
        fn evaluate(&self, call: &Call) -> Result<Measured, Failure> {
            assert!(call.trial != 9, "a bug in the objective");
            Ok(Measured { loss: 1.0, cpu_seconds: 0.0 })
        }
    }
    let settings = Settings { seed: 1, eta: 3, shares: vec![1.0], lanes: 4, startup: 5 };
    let search =
        Search { space: &space(), settings: &settings, first: &[], objective: &Broken, about: &[], journal: None };
    let budget = Budget { trials: 100, seconds: None, money: None };
    let stop = AtomicBool::new(false);
    search.run(&Runtime { workers: 2, budget, seconds: &|| 0.0, stop: &stop, progress: &|_| {} }).unwrap();
}

/// Hartmann's function of six dimensions; its least value is -3.32237.
fn hartmann(x: &[f64]) -> f64 {
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
        weight * exp(-sum)
    };
    -[1.0, 1.2, 3.0, 3.2].into_iter().enumerate().map(term).sum::<f64>()
}

/// Branin's function over the unit square; its least value is 0.397887.
fn branin(x: &[f64]) -> f64 {
    use std::f64::consts::PI;
    let (x, y) = (15.0 * x[0] - 5.0, 15.0 * x[1]);
    let a = y - 5.1 / (4.0 * PI * PI) * x * x + 5.0 / PI * x - 6.0;
    a * a + 10.0 * (1.0 - 1.0 / (8.0 * PI)) * x.cos() + 10.0
}

#[test]
fn guided_trials_find_less_than_as_many_even_ones() {
    struct Function(fn(&[f64]) -> f64);
    impl Objective for Function {
        fn evaluate(&self, call: &Call) -> Result<Measured, Failure> {
            let x: Vec<f64> = call.point.0.iter().flatten().copied().collect();
            Ok(Measured { loss: (self.0)(&x), cpu_seconds: 0.0 })
        }
    }
    let median = |function: fn(&[f64]) -> f64, dimensions: usize, startup: u32| {
        let parameter = |d: usize| Parameter::always(&format!("x{d}"), Domain::real(0.0, 1.0));
        let space = Space { parameters: (0..dimensions).map(parameter).collect() };
        let least = |seed| {
            let settings = Settings { seed, eta: 3, shares: vec![1.0], lanes: 8, startup };
            let objective = &Function(function);
            let search =
                Search { space: &space, settings: &settings, first: &[], objective, about: &[], journal: None };
            let budget = Budget { trials: 80, seconds: None, money: None };
            let stop = AtomicBool::new(false);
            let runtime = Runtime { workers: 1, budget, seconds: &|| 0.0, stop: &stop, progress: &|_| {} };
            let searched = search.run(&runtime).unwrap();
            searched.trials[searched.best.unwrap()].loss().unwrap()
        };
        let mut all: Vec<f64> = (0..20).map(least).collect();
        all.sort_by(f64::total_cmp);
        all[10]
    };
    // As many startup points as trials are spread evenly to the end.
    for (function, dimensions, margin) in [(branin as fn(&[f64]) -> f64, 2, 0.02), (hartmann, 6, 0.3)] {
        let (guided, even) = (median(function, dimensions, 10), median(function, dimensions, 80));
        assert!(guided < even - margin, "{dimensions} dimensions: {guided} guided, {even} even");
    }
}
