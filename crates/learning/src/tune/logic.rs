//! What a search decides, and in which order: pure, without threads, clocks or files.
//!
//! **Logical time.** Asynchronous halving decides with whatever results have come in, so that its search depends on who
//! finishes first. Here the order comes from a clock of the search's own instead. The search runs on `lanes` imagined
//! workers, and an evaluation takes each of them exactly the time that its rung nominally costs. A decision is made when a
//! lane becomes free, and knows the results of what has finished by that clock, not by the wall's. Any number of real
//! workers carry the evaluations out; a decision waits for a result that it is to know and that is not there yet.
//!
//! So the trials, their losses and the winner follow from seed, space and settings, whatever the workers. Real workers up
//! to the number of lanes are kept busy as long as real times go with nominal ones: with fewer workers than lanes there is
//! always some evaluation decided ahead of its turn. A fixed window (decide step i when step i - W is done) is the same
//! thing where all costs are equal, and stalls behind each long evaluation where they are not: a last rung costs some ten
//! times the first. What it costs: a decision does not know what finished early, at most `lanes` evaluations.

use super::halving::Halving;
use super::proposer::{Begun, Proposer};
use super::space::{Point, Space};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What makes one search, beside its objective.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub seed: u64,
    /// The best of each `eta` trials of a rung goes on to the next.
    pub eta: u32,
    /// Share of the resource (rows, say) at each rung, ascending; the last is 1.
    pub shares: Vec<f64>,
    /// Evaluations in flight by the search's own clock.
    pub lanes: usize,
    /// Points spread over the space before losses guide the search.
    pub startup: u32,
}

/// One evaluation, in the order in which they were decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Job {
    pub trial: u32,
    pub rung: usize,
}

/// What came of an evaluation.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Outcome {
    /// None where the trial failed; the text says why.
    pub loss: Result<f64, String>,
    pub cpu_seconds: f64,
}

pub(super) struct Logic<'a> {
    settings: &'a Settings,
    space: &'a Space,
    first: std::vec::IntoIter<Point>,
    trials_max: u32,
    proposer: Proposer<'a>,
    halving: Halving,
    points: Vec<Point>,
    jobs: Vec<Job>,
    /// When each job in flight is finished, by the search's own clock, and its place among the jobs.
    in_flight: BinaryHeap<Reverse<(u64, usize)>>,
    now: u64,
    used_up: bool,
}

/// Ticks of the search's own clock that a measurement with the whole resource takes.
const WHOLE: f64 = 1_048_576.0;

impl<'a> Logic<'a> {
    /// `first` are points that are tried before any other, and measured at every rung.
    pub fn new(settings: &'a Settings, space: &'a Space, first: Vec<Point>, trials_max: u32) -> Logic<'a> {
        let favoured = first.len() as u32;
        Logic {
            settings,
            space,
            first: first.into_iter(),
            trials_max,
            proposer: Proposer::new(space, settings.seed, settings.startup),
            halving: Halving::new(settings.eta, settings.shares.len(), favoured),
            points: Vec::new(),
            jobs: Vec::new(),
            in_flight: BinaryHeap::new(),
            now: 0,
            used_up: false,
        }
    }

    pub fn space(&self) -> &'a Space {
        self.space
    }

    pub fn points(&self) -> &[Point] {
        &self.points
    }

    pub fn job(&self, place: usize) -> Job {
        self.jobs[place]
    }

    /// Whether the space had no new point left.
    pub fn used_up(&self) -> bool {
        self.used_up
    }

    /// Decides the next evaluation, if a lane is free and there is something to evaluate now.
    pub fn decide(&mut self) -> Option<usize> {
        if self.in_flight.len() >= self.settings.lanes.max(1) {
            return None;
        }
        let next = self.halving.promote().or_else(|| self.begin());
        let last = || (self.in_flight.is_empty()).then(|| self.halving.promote_last()).flatten();
        let (trial, rung) = next.or_else(last)?;
        let ticks = (self.settings.shares[rung] * WHOLE).ceil().max(1.0) as u64;
        let place = self.jobs.len();
        self.jobs.push(Job { trial, rung });
        self.in_flight.push(Reverse((self.now + ticks, place)));
        Some(place)
    }

    fn begin(&mut self) -> Option<(u32, usize)> {
        if self.points.len() as u32 >= self.trials_max || self.used_up {
            return None;
        }
        let trial = self.points.len() as u32;
        let declared = self.first.find(|point| self.proposer.begin(point) == Begun::New);
        let point = match declared {
            Some(point) => point,
            None => match self.proposer.propose() {
                Some(point) => {
                    self.proposer.begin(&point);
                    point
                }
                None => {
                    self.used_up = true;
                    return None;
                }
            },
        };
        self.points.push(point);
        Some((trial, 0))
    }

    /// The evaluation that finishes next by the search's own clock; none when nothing is in flight.
    pub fn next_finished(&self) -> Option<usize> {
        self.in_flight.peek().map(|Reverse((_, place))| *place)
    }

    /// Takes in the result of [`Logic::next_finished`], and moves the clock to it.
    pub fn learn(&mut self, loss: Option<f64>) {
        let Some(Reverse((finished, place))) = self.in_flight.pop() else { return };
        let Job { trial, rung } = self.jobs[place];
        self.now = finished;
        self.proposer.learn(trial, rung as u32, loss);
        self.halving.learn(trial, rung, loss);
    }
}
