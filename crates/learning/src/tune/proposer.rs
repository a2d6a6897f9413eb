//! Which point to try next: a tree-structured Parzen estimator (J. Bergstra et al., "Algorithms for Hyper-Parameter
//! Optimization", NIPS 2011). Knows losses and rungs, not what they are of.
//!
//! The points measured so far are parted into good and other ones; the next point is the best of some draws from the good
//! ones' density by the ratio of the two densities. Points that reached a higher rung rank before those that did not, as
//! they were the best of theirs; within a rung the loss ranks. Points in flight count among the others, so that the same
//! place is not tried twice at once.
//!
//! The work of one proposal does not grow with the number of trials: ranks are kept in order, and beyond [`OTHERS_MAX`]
//! points that are not good, a drawn sample of them makes the second density. (Only those next in rank, or only the
//! newest, surround the good ones so closely that the ratio drives the search away from them.)

use super::parzen::Mixture;
use super::space::{Point, Space};
use crate::keyed::{Purpose, bits};
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};

/// Good points at most; Bergstra et al. and Optuna take 25 as well.
const GOOD_MAX: usize = 25;

/// Other points that make the second density, beside those in flight.
const OTHERS_MAX: usize = 200;

/// Draws from the good points' density for a proposal, as Bergstra et al.
const CANDIDATES: usize = 24;

/// Even draws after which a space counts as used up when none of them is new.
const EVEN_DRAWS_MAX: usize = 256;

/// Rung (higher first), loss and trial: the order in which points are good.
type Rank = (Reverse<u32>, u64, u32);

pub(super) struct Proposer<'a> {
    space: &'a Space,
    seed: u64,
    startup: u32,
    /// Of every trial, row-major; NaN where a parameter does not exist.
    coordinates: Vec<f64>,
    ranks: Vec<Option<Rank>>,
    ranked: BTreeSet<Rank>,
    /// Trials without a result.
    pending: BTreeSet<u32>,
    taken: HashSet<Vec<u64>>,
}

/// Orders losses as they compare; what failed comes last.
pub(super) fn ordered(loss: Option<f64>) -> u64 {
    match loss {
        Some(loss) => {
            let bits = (loss + 0.0).to_bits();
            if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
        }
        None => u64::MAX,
    }
}

impl<'a> Proposer<'a> {
    pub fn new(space: &'a Space, seed: u64, startup: u32) -> Proposer<'a> {
        Proposer {
            space,
            seed,
            startup: startup.max(1),
            coordinates: Vec::new(),
            ranks: Vec::new(),
            ranked: BTreeSet::new(),
            pending: BTreeSet::new(),
            taken: HashSet::new(),
        }
    }

    /// Notes that a trial of `point` begins; whether the point is new. Trials are numbered in the order of the calls.
    pub fn begin(&mut self, point: &Point) -> Begun {
        if !self.taken.insert(point.key()) {
            return Begun::Known;
        }
        let trial = self.ranks.len() as u32;
        self.coordinates.extend(self.space.coordinates(point).into_iter().map(|u| u.unwrap_or(f64::NAN)));
        self.ranks.push(None);
        self.pending.insert(trial);
        Begun::New
    }

    /// Takes in the loss of a trial at a rung, higher than any before; none where it failed.
    pub fn learn(&mut self, trial: u32, rung: u32, loss: Option<f64>) {
        let rank = (Reverse(rung), ordered(loss), trial);
        // A failure says more than the rung that was passed before it.
        let rank = if loss.is_none() { (Reverse(0), rank.1, trial) } else { rank };
        self.pending.remove(&trial);
        if let Some(before) = self.ranks[trial as usize].replace(rank) {
            self.ranked.remove(&before);
        }
        self.ranked.insert(rank);
    }

    /// A point that no trial had; none where the space seems used up.
    pub fn propose(&self) -> Option<Point> {
        let trial = self.ranks.len() as u32;
        let mut drawn = 0;
        let mut draw = || {
            drawn += 1;
            (bits(self.seed, Purpose::Proposal, u64::from(trial), drawn) >> 11) as f64 / (1_u64 << 53) as f64
        };
        let point = if trial < self.startup { self.spread(trial) } else { self.guided(&mut draw) };
        point.filter(|point| self.is_new(point)).or_else(|| self.even(&mut draw))
    }

    fn is_new(&self, point: &Point) -> bool {
        !self.taken.contains(&point.key())
    }

    /// The first points: of each parameter, every one of `startup` equal parts of its range holds one point (Latin
    /// hypercube; M. D. McKay et al., Technometrics 1979).
    fn spread(&self, trial: u32) -> Option<Point> {
        let mut values = Vec::with_capacity(self.space.parameters.len());
        for (d, parameter) in self.space.parameters.iter().enumerate() {
            let draw = |row: u32| bits(self.seed, Purpose::Proposal, u64::MAX - d as u64, u64::from(row));
            let own = draw(trial);
            let place = (0..self.startup).filter(|other| (draw(*other), *other) < (own, trial)).count();
            let within = (bits(own, Purpose::Proposal, 0, 0) >> 11) as f64 / (1_u64 << 53) as f64;
            let coordinate = (place as f64 + within) / f64::from(self.startup);
            let coordinate = parameter.domain.choices().map_or(coordinate, |values| coordinate * values as f64);
            values.push(parameter.exists(&values).then(|| parameter.domain.value(coordinate)));
        }
        Some(Point(values))
    }

    /// The best new draw by the ratio of the densities.
    fn guided(&self, draw: &mut dyn FnMut() -> f64) -> Option<Point> {
        let good = good_of(self.ranked.len());
        let good: BTreeSet<u32> = self.ranked.iter().take(good).map(|rank| rank.2).collect();
        let others = self.others(&good, draw);
        let good = Mixture::new(self.space, &self.rows(good.into_iter()));
        let others = Mixture::new(self.space, &self.rows(others.into_iter()));
        let (mut best, mut most, mut sums) = (None, f64::NEG_INFINITY, Vec::new());
        for _ in 0..CANDIDATES {
            let point = Point(good.sample(draw));
            let at: Vec<f64> = self.space.coordinates(&point).into_iter().map(|u| u.unwrap_or(f64::NAN)).collect();
            let ratio = good.log_density(&at, &mut sums) - others.log_density(&at, &mut sums);
            if ratio > most && self.is_new(&point) {
                (best, most) = (Some(point), ratio);
            }
        }
        best
    }

    /// Trials that are not good: all, or a sample of them, and those in flight.
    fn others(&self, good: &BTreeSet<u32>, draw: &mut dyn FnMut() -> f64) -> BTreeSet<u32> {
        let begun = self.ranks.len();
        let mut others: BTreeSet<u32> = if begun <= OTHERS_MAX {
            (0..begun as u32).collect()
        } else {
            (0..OTHERS_MAX).map(|_| (draw() * begun as f64) as u32).collect()
        };
        others.extend(&self.pending);
        others.retain(|trial| !good.contains(trial));
        others
    }

    fn rows(&self, trials: impl Iterator<Item = u32>) -> Vec<f64> {
        let width = self.space.parameters.len();
        let row = |trial: u32| &self.coordinates[trial as usize * width..][..width];
        trials.flat_map(|trial| row(trial).iter().copied()).collect()
    }

    fn even(&self, draw: &mut dyn FnMut() -> f64) -> Option<Point> {
        let whole = Mixture::new(self.space, &[]);
        (0..EVEN_DRAWS_MAX).map(|_| Point(whole.sample(draw))).find(|point| self.is_new(point))
    }
}

/// Whether a point that was to begin is a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begun {
    New,
    Known,
}

/// How many of `measured` points are good: a tenth, as in Optuna; a fifth, and the square root, found larger values.
fn good_of(measured: usize) -> usize {
    measured.div_ceil(10).clamp(1, GOOD_MAX)
}
