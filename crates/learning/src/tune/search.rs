//! Carries a search out: workers evaluate what the logic decides, the journal keeps what came of it, budgets end it.
//! Knows nothing of models, and reads no clock but the one that it is given.

use super::error::TuneError;
use super::journal::{Identity, Journal, Record};
use super::logic::{Job, Logic, Outcome, Settings};
use super::space::{Point, Space};
use super::trial::{Trial, best_of, trials_of};
use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What is made small. Called from several threads at once; the loss depends on the point and the rung alone.
pub trait Objective: Sync {
    fn evaluate(&self, call: &Call) -> Result<Measured, Failure>;
}

/// One point to be measured at one rung. That it was measured at a lower one before may be made use of, but must not
/// change the loss.
pub struct Call<'a> {
    pub trial: u32,
    pub space: &'a Space,
    pub point: &'a Point,
    pub rung: usize,
    /// Of the resource, above 0 and at most 1.
    pub share: f64,
    /// Which of the workers asks, from 0; for what is kept for each, such as threads.
    pub worker: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// The smaller, the better. One that is not finite counts as a failure.
    pub loss: f64,
    /// Used by this evaluation; what the budget in money counts.
    pub cpu_seconds: f64,
}

#[derive(Debug)]
pub enum Failure {
    /// This point cannot be measured (it diverged, say): it is kept as worse than any other.
    Trial { reason: String, cpu_seconds: f64 },
    /// The search was asked to stop; nothing is kept of this evaluation.
    Stopped,
    /// Nothing can be measured.
    Search(Box<dyn std::error::Error + Send + Sync>),
}

/// When a search ends. What was decided before the end is the same whatever the budget, so that a search may go on with
/// a larger one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    pub trials: u32,
    /// Seconds of [`Runtime::seconds`], earlier runs included, after which no evaluation begins. How many that are depends
    /// on the machine.
    pub seconds: Option<f64>,
    pub money: Option<Money>,
}

/// A budget in money. Each decision counts what the evaluations that it knows of cost, so that a search that goes on ends
/// where it would have ended; those in flight at the end come on top.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Money {
    pub limit: f64,
    pub price_per_cpu_hour: f64,
}

/// What a search runs with; nothing here changes its decisions.
pub struct Runtime<'a> {
    pub workers: usize,
    pub budget: Budget,
    /// A clock that never goes back, in seconds.
    pub seconds: &'a (dyn Fn() -> f64 + Sync),
    /// When set, evaluations in flight are given up and the search ends.
    pub stop: &'a AtomicBool,
    pub progress: &'a (dyn Fn(&Progress) + Sync),
}

/// An evaluation came to its end. Reports come in the order of the wall's clock.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    pub trial: u32,
    pub rung: usize,
    pub rungs: usize,
    /// None where the trial failed.
    pub loss: Option<f64>,
    /// The least loss at the highest rung reached so far, and that rung.
    pub best: Option<(usize, f64)>,
    /// Trials begun, of at most so many.
    pub trials: u32,
    pub trials_max: u32,
    /// Of the search, earlier runs included.
    pub elapsed_seconds: f64,
    pub cpu_seconds: f64,
}

/// Why a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All trials were made.
    Trials,
    Time,
    Money,
    /// The space holds no more points (256 even draws gave no new one).
    UsedUp,
    /// It was asked to stop; it can go on from its journal.
    Stopped,
}

impl Ending {
    /// As the end of a sentence that begins with "the search ended because".
    pub fn reason(self) -> &'static str {
        match self {
            Ending::Trials => "all trials were made",
            Ending::Time => "its time was up",
            Ending::Money => "its money was spent",
            Ending::UsedUp => "the space holds no more points",
            Ending::Stopped => "it was asked to stop",
        }
    }
}

#[derive(Debug)]
pub struct Searched {
    /// In order of their numbers; only those with a result.
    pub trials: Vec<Trial>,
    /// Place among `trials` of the one with the least loss at the highest rung that any reached.
    pub best: Option<usize>,
    pub ending: Ending,
    pub cpu_seconds: f64,
    /// Sentences for a person, such as that the journal was damaged.
    pub notes: Vec<String>,
}

/// A search and what it is for.
pub struct Search<'a> {
    pub space: &'a Space,
    pub settings: &'a Settings,
    /// Tried before any other and measured to the last rung, such as the values that are declared.
    pub first: &'a [Point],
    pub objective: &'a dyn Objective,
    /// What the losses depend on beside the point and the rung, by name: the data's digest, say.
    pub about: &'a [(&'a str, String)],
    /// Where to keep what was measured; an existing journal of the same search is gone on with.
    pub journal: Option<&'a Path>,
}

impl Search<'_> {
    pub fn run(&self, runtime: &Runtime) -> Result<Searched, TuneError> {
        if self.space.parameters.is_empty() {
            return Err(TuneError::Space("the space has no parameters".to_owned()));
        }
        let journal = match self.journal {
            Some(path) => Journal::open(path, &self.identity())?,
            None => Journal::default(),
        };
        let logic = Logic::new(self.settings, self.space, self.first.to_vec(), runtime.budget.trials);
        let (sender, arrivals) = channel();
        let shared = Shared { queue: Mutex::default(), more: Condvar::new(), closed: AtomicBool::new(false) };
        let started = (runtime.seconds)();
        let before = journal.elapsed_seconds;
        let watch = Watch { runtime, started, before };
        std::thread::scope(|scope| {
            for worker in 0..runtime.workers.clamp(1, self.settings.lanes.max(1)) {
                let (sender, shared, watch) = (sender.clone(), &shared, &watch);
                scope.spawn(move || self.work(worker, shared, watch, &sender));
            }
            drop(sender);
            let carried = Carried { search: self, runtime, watch: &watch, shared: &shared, arrivals, journal, logic };
            let searched = catch_unwind(AssertUnwindSafe(|| carried.run()));
            shared.close();
            searched.unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    fn identity(&self) -> Identity {
        let Settings { seed, eta, shares, lanes, startup } = self.settings;
        let named = |(name, value): (&str, serde_json::Value)| (name.to_owned(), value);
        let first: Vec<_> = self.first.iter().map(|point| self.space.json(point)).collect();
        let settings = [
            ("seed", (*seed).into()),
            ("eta", (*eta).into()),
            ("rungs", shares.clone().into()),
            ("lanes", (*lanes).into()),
            ("startup", (*startup).into()),
            ("space", serde_json::to_value(self.space).unwrap_or_default()),
            ("first points", first.into_iter().map(serde_json::Value::from).collect()),
        ];
        let about = self.about.iter().map(|(name, value)| (*name, value.as_str().into()));
        settings.into_iter().chain(about).map(named).collect()
    }

    /// What one worker does until there is nothing more to do.
    fn work(&self, worker: usize, shared: &Shared, watch: &Watch, sender: &Sender<Arrival>) {
        while let Some((place, job, point)) = shared.take(watch) {
            let Job { trial, rung } = job;
            let call =
                Call { trial, space: self.space, point: &point, rung, share: self.settings.shares[rung], worker };
            let result = match catch_unwind(AssertUnwindSafe(|| self.objective.evaluate(&call))) {
                Ok(Ok(Measured { loss, cpu_seconds })) => {
                    let loss = if loss.is_finite() { Ok(loss) } else { Err(format!("the loss is {loss}")) };
                    Ok(Outcome { loss, cpu_seconds })
                }
                Ok(Err(Failure::Trial { reason, cpu_seconds })) => Ok(Outcome { loss: Err(reason), cpu_seconds }),
                Ok(Err(Failure::Stopped)) => Err(Trouble::Stopped),
                Ok(Err(Failure::Search(source))) => Err(Trouble::Error(TuneError::Objective(source))),
                Err(panic) => Err(Trouble::Panic(panic)),
            };
            if sender.send((place, result)).is_err() {
                return;
            }
        }
    }
}

type Arrival = (usize, Result<Outcome, Trouble>);

enum Trouble {
    Stopped,
    Error(TuneError),
    Panic(Box<dyn Any + Send>),
}

/// What the workers and the one who decides share.
struct Shared {
    queue: Mutex<VecDeque<(usize, Job, Point)>>,
    more: Condvar,
    /// No evaluation begins any more.
    closed: AtomicBool,
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, VecDeque<(usize, Job, Point)>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, place: usize, job: Job, point: Point) {
        self.queue().push_back((place, job, point));
        self.more.notify_one();
    }

    fn close(&self) {
        // Under the lock, so that no worker misses it between looking and waiting.
        let _queue = self.queue();
        self.closed.store(true, Ordering::Relaxed);
        self.more.notify_all();
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// The next evaluation; waits for one, and gives none after the end.
    fn take(&self, watch: &Watch) -> Option<(usize, Job, Point)> {
        let mut queue = self.queue();
        loop {
            if watch.is_over() {
                self.closed.store(true, Ordering::Relaxed);
                self.more.notify_all();
            }
            if self.is_closed() {
                return None;
            }
            if let Some(next) = queue.pop_front() {
                return Some(next);
            }
            queue = self.more.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

struct Watch<'a> {
    runtime: &'a Runtime<'a>,
    started: f64,
    before: f64,
}

impl Watch<'_> {
    fn elapsed(&self) -> f64 {
        self.before + (self.runtime.seconds)() - self.started
    }

    /// Whether the time is up, or the search was asked to stop.
    fn is_over(&self) -> bool {
        self.runtime.stop.load(Ordering::Relaxed)
            || self.runtime.budget.seconds.is_some_and(|seconds| self.elapsed() >= seconds)
    }
}

/// A search while it runs, as the one sees it who decides.
struct Carried<'a> {
    search: &'a Search<'a>,
    runtime: &'a Runtime<'a>,
    watch: &'a Watch<'a>,
    shared: &'a Shared,
    arrivals: Receiver<Arrival>,
    journal: Journal,
    logic: Logic<'a>,
}

impl Carried<'_> {
    fn run(mut self) -> Result<Searched, TuneError> {
        let mut book = Book { rungs: self.search.settings.shares.len(), ..Book::default() };
        let mut arrived: HashMap<usize, Outcome> = HashMap::new();
        let mut spent = 0.0;
        let mut money_is_gone = false;
        loop {
            while !money_is_gone && let Some(place) = self.logic.decide() {
                self.begin(place, &mut arrived, &mut book)?;
            }
            let Some(place) = self.logic.next_finished() else { break };
            if !self.wait_for(place, &mut arrived, &mut book)? {
                break;
            }
            let Some(outcome) = arrived.get(&place) else { break };
            spent += outcome.cpu_seconds;
            self.logic.learn(outcome.loss.as_ref().ok().copied());
            money_is_gone |=
                self.runtime.budget.money.is_some_and(|money| spent * money.price_per_cpu_hour / 3600.0 >= money.limit);
        }
        self.shared.close();
        // What was in flight at the end comes in too.
        while self.receive(&mut arrived, &mut book)? {}
        let cut_off = self.logic.next_finished().is_some();
        let ending = if cut_off && self.runtime.stop.load(Ordering::Relaxed) {
            Ending::Stopped
        } else if cut_off {
            Ending::Time
        } else if money_is_gone {
            Ending::Money
        } else if self.logic.used_up() {
            Ending::UsedUp
        } else {
            Ending::Trials
        };
        let (space, points) = (self.logic.space(), self.logic.points());
        let trials = trials_of(book.results, |trial| space.json(&points[trial as usize]));
        let best = best_of(&trials);
        Ok(Searched { best, trials, ending, cpu_seconds: book.cpu_seconds, notes: self.journal.notes })
    }

    /// Gives an evaluation to the workers, unless it is known what comes of it.
    fn begin(&mut self, place: usize, arrived: &mut HashMap<usize, Outcome>, book: &mut Book) -> Result<(), TuneError> {
        let job = self.logic.job(place);
        let point = &self.logic.points()[job.trial as usize];
        match self.journal.known(job.trial, job.rung, &self.logic.space().json(point))? {
            Some(outcome) => {
                book.enter(job, &outcome);
                arrived.insert(place, outcome);
            }
            None => self.shared.put(place, job, point.clone()),
        }
        Ok(())
    }

    /// Whether the result came; it does not where the search was closed before it began.
    fn wait_for(
        &mut self,
        place: usize,
        arrived: &mut HashMap<usize, Outcome>,
        book: &mut Book,
    ) -> Result<bool, TuneError> {
        while !arrived.contains_key(&place) {
            if !self.receive(arrived, book)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Takes in one result, keeps it and reports it; whether there was one to wait for.
    fn receive(&mut self, arrived: &mut HashMap<usize, Outcome>, book: &mut Book) -> Result<bool, TuneError> {
        let Ok((place, result)) = self.arrivals.recv() else { return Ok(false) };
        let outcome = match result {
            Ok(outcome) => outcome,
            Err(Trouble::Stopped) => {
                self.shared.close();
                return Ok(true);
            }
            Err(Trouble::Error(error)) => return Err(error),
            Err(Trouble::Panic(panic)) => resume_unwind(panic),
        };
        let job = self.logic.job(place);
        let elapsed_seconds = self.watch.elapsed();
        self.journal.append(&Record {
            trial: job.trial,
            rung: job.rung,
            point: self.logic.space().json(&self.logic.points()[job.trial as usize]),
            loss: outcome.loss.as_ref().ok().copied(),
            failure: outcome.loss.as_ref().err().cloned(),
            cpu_seconds: outcome.cpu_seconds,
            elapsed_seconds,
        })?;
        book.enter(job, &outcome);
        (self.runtime.progress)(&Progress {
            trial: job.trial,
            rung: job.rung,
            rungs: book.rungs,
            loss: outcome.loss.as_ref().ok().copied(),
            best: book.best,
            trials: self.logic.points().len() as u32,
            trials_max: self.runtime.budget.trials,
            elapsed_seconds,
            cpu_seconds: book.cpu_seconds,
        });
        arrived.insert(place, outcome);
        Ok(true)
    }
}

/// Results as they came in.
#[derive(Default)]
struct Book {
    rungs: usize,
    results: Vec<(Job, Outcome)>,
    best: Option<(usize, f64)>,
    cpu_seconds: f64,
}

impl Book {
    fn enter(&mut self, job: Job, outcome: &Outcome) {
        self.results.push((job, outcome.clone()));
        self.cpu_seconds += outcome.cpu_seconds;
        if let Ok(loss) = outcome.loss {
            let better = self.best.is_none_or(|(rung, least)| job.rung > rung || job.rung == rung && loss < least);
            if better {
                self.best = Some((job.rung, loss));
            }
        }
    }
}
