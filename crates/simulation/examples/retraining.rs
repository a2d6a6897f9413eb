//! Policies of retraining over the losses that `benches/judgement/retraining.py` left: what would each have cost?
//!
//!   cargo run --release -p simulation --example retraining -- benches/judgement/work
//!
//! Prints a table for each set of data. Ends with 1 where the policy by worth costs more than the best of the others.

use control::judge;
use control::measures::{Adwin, PageHinkley};
use control::retraining::{Past, Question, worth};
use control::share::Count;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use vocabulary::Span;

type Error = Box<dyn std::error::Error>;

/// Outcomes are known this long after their rows.
const DELAY: Span = Span::days(1);
const HORIZON: Span = Span::days(30);
/// A new model's first outcomes say what to expect of it.
const REFERENCE: Span = Span::days(7);
/// What retraining at every step costs, beside what the frozen model's errors cost.
const SHARES: [f64; 3] = [0.03, 0.1, 0.3];
/// The one that is judged by.
const JUDGED: f64 = 0.1;
/// The gate of the policy by worth: days of paired losses, what is tolerated, and what is to be gained at least.
const GATE: (f64, f64, f64, usize) = (0.05, 0.004, 0.002, 7);
const GATE_HORIZON: Span = Span::days(45);
/// The newest of a line has so long in shadow before it answers.
const MIN_SHADOW: Span = Span::days(3);
/// What the packages suggest.
const ADWIN_DELTA: f64 = 0.002;
const ADWIN_CLOCK: u64 = 32;
const PAGE_HINKLEY: f64 = 50.0;

/// Losses of all rows, in units of the price of an error, under all models.
struct Run {
    name: String,
    /// Of each row, in microseconds.
    times: Vec<i64>,
    /// When each model was trained, in the order of time.
    trained: Vec<i64>,
    /// By model, then by row; NaN where the model knew the row.
    losses: Vec<Vec<f32>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Policy {
    Never,
    Always,
    Monthly,
    PageHinkley,
    Adwin,
    Worth,
}

const POLICIES: [Policy; 6] =
    [Policy::Never, Policy::Always, Policy::Monthly, Policy::PageHinkley, Policy::Adwin, Policy::Worth];

/// What a policy did.
struct Played {
    errors: f64,
    trainings: usize,
}

/// A policy on its way through the rows.
struct Player<'a> {
    run: &'a Run,
    policy: Policy,
    training_price: f64,
    live: usize,
    /// Rows whose outcomes were told to the detectors.
    told: usize,
    adwin: Adwin,
    page_hinkley: PageHinkley,
    alarm: bool,
    /// Every training, whether it was released or not.
    trainings: Vec<Training>,
    /// The first training of the line that waits in shadow; the newest of it is the candidate.
    line: Option<usize>,
    /// What the live model replaced, and since when.
    fallback: Option<(usize, i64)>,
}

struct Training {
    replaces: usize,
    model: usize,
    /// What was wrong more often than expected when it was asked for.
    excess: f64,
    /// The row at which another took its place, or it was given up.
    until: Option<usize>,
}

impl Run {
    fn read(folder: &Path) -> Result<Run, Error> {
        let told: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("told.json"))?)?;
        let models = told["models"].as_array().ok_or("told.json: no models")?;
        let trained = models.iter().map(|model| model["at"].as_i64().ok_or("told.json: a model without a time"));
        let times = std::fs::read(folder.join("times.i64"))?;
        let times: Vec<i64> = times.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect();
        let losses = std::fs::read(folder.join("losses.f32"))?;
        let losses: Vec<f32> = losses.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        if losses.len() != models.len() * times.len() {
            return Err(format!("{}: losses of other rows or models than told.json names", folder.display()).into());
        }
        Ok(Run {
            name: folder.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            trained: trained.collect::<Result<_, _>>()?,
            losses: losses.chunks(times.len().max(1)).map(<[f32]>::to_vec).collect(),
            times,
        })
    }

    /// The first row at or after an instant.
    fn row(&self, at: i64) -> usize {
        self.times.partition_point(|time| *time < at)
    }

    fn sum(&self, model: usize, from: usize, to: usize) -> f64 {
        self.losses[model].get(from..to).unwrap_or_default().iter().map(|loss| f64::from(*loss)).sum()
    }

    fn count(&self, model: usize, from: usize, to: usize) -> Count {
        Count { all: to.saturating_sub(from) as u64, bad: self.sum(model, from, to).round() as u64 }
    }

    fn play(&self, policy: Policy, training_price: f64) -> Played {
        let first = self.row(self.trained[0]);
        let mut player = Player {
            run: self,
            policy,
            training_price,
            live: 0,
            told: first,
            adwin: Adwin::new(ADWIN_DELTA, ADWIN_CLOCK),
            page_hinkley: PageHinkley::new(PAGE_HINKLEY),
            alarm: false,
            trainings: Vec::new(),
            line: None,
            fallback: None,
        };
        let (mut errors, mut step, mut day) = (0.0, 1, self.trained[0]);
        for row in first..self.times.len() {
            while self.times[row] >= day + Span::days(1).0 {
                day += Span::days(1).0;
                player.judge(day);
            }
            if self.trained.get(step).is_some_and(|at| self.times[row] >= *at) {
                player.step(step);
                step += 1;
            }
            errors += f64::from(self.losses[player.live][row]);
        }
        Played { errors, trainings: player.trainings.len() }
    }
}

impl Player<'_> {
    fn step(&mut self, step: usize) {
        let now = self.run.trained[step];
        self.listen(now);
        let (wants, excess) = match self.policy {
            Policy::Never => (false, 0.0),
            Policy::Always => (true, 0.0),
            Policy::Monthly => (now - self.run.trained[self.live] >= Span::days(30).0, 0.0),
            Policy::PageHinkley | Policy::Adwin => (self.alarm, 0.0),
            Policy::Worth => self.is_worth(now),
        };
        if !wants {
            return;
        }
        let row = self.run.row(now);
        if let Some(last) = self.trainings.last_mut() {
            last.until.get_or_insert(row);
        }
        self.trainings.push(Training { replaces: self.live, model: step, excess, until: None });
        self.alarm = false;
        match self.policy {
            Policy::Worth => self.line = self.line.or(Some(self.trainings.len() - 1)),
            _ => self.live = step,
        }
    }

    /// At the end of a day: does what waits in shadow lose less than the live model, or does what the live one replaced?
    fn judge(&mut self, now: i64) {
        if self.policy != Policy::Worth {
            return;
        }
        if let Some((fallback, since)) = self.fallback
            && let Some(true) = self.verdict(since, now, |_| fallback)
        {
            (self.live, self.fallback, self.line) = (fallback, None, None);
            return;
        }
        let Some(line) = self.line else { return };
        let models: Vec<usize> = self.trainings[line..].iter().map(|training| training.model).collect();
        let (Some(first), Some(newest)) = (models.first(), models.last().copied()) else { return };
        let (run, since) = (self.run, self.run.trained[*first]);
        // Evidence belongs to the line: each day to what was its newest member then.
        let of_day = |at: i64| models.iter().copied().rfind(|model| run.trained[*model] <= at).unwrap_or(*first);
        let verdict = self.verdict(since, now, of_day);
        if verdict == Some(true) && now - run.trained[newest] >= MIN_SHADOW.0 {
            (self.fallback, self.live, self.line) = (Some((self.live, now)), newest, None);
        } else if verdict == Some(false) || now - since >= GATE_HORIZON.0 {
            self.line = None;
            if let Some(last) = self.trainings.last_mut() {
                last.until = Some(run.row(now - DELAY.0));
            }
        }
    }

    /// Whether another model (it may change with the day) is better than the live one on the days since; none without
    /// evidence either way.
    fn verdict(&self, since: i64, now: i64, other: impl Fn(i64) -> usize) -> Option<bool> {
        let (alpha, tolerance, min_gain, blocks_min) = GATE;
        let days = (now - DELAY.0 - since).div_euclid(Span::days(1).0).max(0);
        let block = |day: i64| {
            let at = since + day * Span::days(1).0;
            let (from, to) = (self.run.row(at), self.run.row(at + Span::days(1).0));
            ((to - from) as f64, self.run.sum(self.live, from, to) - self.run.sum(other(at), from, to))
        };
        let blocks: Vec<(f64, f64)> = (0..days).map(block).filter(|(rows, _)| *rows > 0.0).collect();
        let (mean, radius) = judge(&blocks, alpha).filter(|_| blocks.len() >= blocks_min)?;
        match () {
            () if mean - radius > -tolerance && mean > min_gain => Some(true),
            () if mean + radius < tolerance => Some(false),
            () => None,
        }
    }

    /// Tells the detectors the outcomes that have come since.
    fn listen(&mut self, now: i64) {
        let known = self.run.row(now - DELAY.0);
        for row in self.told..known.max(self.told) {
            let loss = f64::from(self.run.losses[self.live][row]);
            // A row that the live model had seen says nothing: it was answered by the one before.
            if loss.is_nan() {
                continue;
            }
            self.alarm |= match self.policy {
                Policy::PageHinkley => self.page_hinkley.push(loss),
                Policy::Adwin => self.adwin.push(loss),
                _ => false,
            };
        }
        self.told = self.told.max(known);
    }

    /// Whether a training is worth its price now, and the excess of errors that speaks for it.
    fn is_worth(&self, now: i64) -> (bool, f64) {
        let (run, known) = (self.run, self.run.row(now - DELAY.0));
        // What another training is to improve on: the candidate, where one waits.
        let base = self.line.and(self.trainings.last()).map_or(self.live, |training| training.model);
        let since = run.trained[base];
        let (from, settled) = (run.row(since), run.row(since + REFERENCE.0).min(known));
        let reference = run.count(base, from, settled);
        let past = |training: &Training| {
            let (from, until) = (run.row(run.trained[training.model]), training.until.unwrap_or(known).min(known));
            let rows = until.checked_sub(from).filter(|rows| *rows > 0)? as f64;
            let gain = run.sum(training.replaces, from, until) - run.sum(training.model, from, until);
            let age = Span(run.trained[training.model] - run.trained[training.replaces]);
            Some(Past { days: age.as_days(), gain: gain / rows, excess: training.excess })
        };
        let past: Vec<Past> = self.trainings.iter().filter_map(past).collect();
        let question = Question {
            rows_per_day: (known - run.row(now - HORIZON.0).min(known)) as f64 / HORIZON.as_days(),
            outcomes: run.count(base, settled, known),
            reference: (reference.all > 0).then(|| reference.share()),
            age: Span(now - since),
            past: &past,
            horizon: HORIZON,
            error_price: 1.0,
            training_price: self.training_price,
        };
        worth(&question).map_or((false, 0.0), |worth| (worth.is_worth(), worth.excess))
    }
}

fn main() -> Result<ExitCode, Error> {
    let folder = std::env::args().nth(1).map(PathBuf::from).ok_or("name the folder with the losses")?;
    let mut runs: Vec<PathBuf> =
        std::fs::read_dir(&folder)?.map(|entry| Ok(entry?.path())).collect::<Result<_, Error>>()?;
    runs.retain(|path| path.join("told.json").exists());
    runs.sort();
    let mut missed = false;
    for path in runs {
        let run = Run::read(&path)?;
        let frozen = run.play(Policy::Never, 0.0).errors;
        for share in SHARES {
            let price = share * frozen / (run.trained.len() - 1).max(1) as f64;
            println!("\n{}, all trainings {share} of the frozen model's errors ({frozen:.0})", run.name);
            println!("{:<12} {:>9} {:>10} {:>10}", "policy", "trainings", "errors", "cost");
            let mut best_other = f64::INFINITY;
            for policy in POLICIES {
                let played = run.play(policy, price);
                let cost = played.errors + price * played.trainings as f64;
                println!("{:<12} {:>9} {:>10.0} {cost:>10.0}", format!("{policy:?}"), played.trainings, played.errors);
                if policy != Policy::Worth {
                    best_other = best_other.min(cost);
                } else if share == JUDGED && cost > best_other {
                    println!("worth costs {:.4} of the best", cost / best_other);
                    missed = true;
                }
            }
        }
    }
    Ok(if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
