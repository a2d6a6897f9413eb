//! Policies of retraining over the losses that `benches/judgement/retraining.py` left: what would each have cost?
//!
//!   cargo run --release -p simulation --example retraining -- benches/judgement/work
//!
//! Prints a table for each set of data. Ends with 1 where the policy by worth costs more than the best of the others.

use control::measures::{Adwin, PageHinkley};
use control::retraining::{Question, worth};
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
    /// Old model, new model, when.
    switches: Vec<(usize, usize, i64)>,
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
        let mut player = Player {
            run: self,
            policy,
            training_price,
            live: 0,
            told: self.row(self.trained[0]),
            adwin: Adwin::new(ADWIN_DELTA, ADWIN_CLOCK),
            page_hinkley: PageHinkley::new(PAGE_HINKLEY),
            alarm: false,
            switches: Vec::new(),
        };
        let mut errors = 0.0;
        for step in 1..=self.trained.len() {
            let from = self.row(self.trained[step - 1]);
            let to = self.trained.get(step).map_or(self.times.len(), |at| self.row(*at));
            errors += self.sum(player.live, from, to);
            if step < self.trained.len() && player.wants(step) {
                player.switches.push((player.live, step, self.trained[step]));
                player.live = step;
                player.alarm = false;
            }
        }
        Played { errors, trainings: player.switches.len() }
    }
}

impl Player<'_> {
    fn wants(&mut self, step: usize) -> bool {
        let now = self.run.trained[step];
        self.listen(now);
        match self.policy {
            Policy::Never => false,
            Policy::Always => true,
            Policy::Monthly => now - self.run.trained[self.live] >= Span::days(30).0,
            Policy::PageHinkley | Policy::Adwin => self.alarm,
            Policy::Worth => self.is_worth(now),
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

    fn is_worth(&self, now: i64) -> bool {
        let (run, known) = (self.run, self.run.row(now - DELAY.0));
        let since = run.trained[self.live];
        let (from, settled) = (run.row(since), run.row(since + REFERENCE.0).min(known));
        let reference = run.count(self.live, from, settled);
        let past: Vec<(f64, f64)> = self
            .switches
            .iter()
            .enumerate()
            .filter_map(|(i, (old, new, at))| {
                let until = self.switches.get(i + 1).map_or(known, |(_, _, next)| run.row(*next).min(known));
                let (from, age) = (run.row(*at), Span(*at - run.trained[*old]));
                let rows = until.checked_sub(from).filter(|rows| *rows > 0)? as f64;
                Some((age.as_days(), (run.sum(*old, from, until) - run.sum(*new, from, until)) / rows))
            })
            .collect();
        let question = Question {
            rows_per_day: (known - run.row(now - HORIZON.0).min(known)) as f64 / HORIZON.as_days(),
            outcomes: run.count(self.live, settled, known),
            reference: (reference.all > 0).then(|| reference.share()),
            age: Span(now - since),
            past: &past,
            horizon: HORIZON,
            error_price: 1.0,
            training_price: self.training_price,
        };
        worth(&question).is_some_and(|worth| worth.is_worth())
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
