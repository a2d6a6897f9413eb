//! Which trial goes on: asynchronous successive halving (L. Li et al., "A System for Massively Parallel Hyperparameter
//! Tuning", MLSys 2020). Knows losses and rungs, not when they came.
//!
//! One thing differs: no more than 1/eta of a rung's trials ever go on. In the paper, who is among the first 1/eta at some
//! time goes on; as guided proposals get better all along, most would, and early stopping would stop few.

use super::proposer::ordered;
use std::collections::BTreeSet;

/// Loss (in order) and trial.
type Place = (u64, u32);

/// What was measured at each rung, and who may go on from there.
pub(super) struct Halving {
    eta: u32,
    rungs: Vec<Rung>,
    /// Trials below this go on to the last rung whatever their loss.
    favoured: u32,
}

#[derive(Default)]
struct Rung {
    /// In order of loss.
    places: Vec<Place>,
    /// Those that neither failed nor went on.
    waiting: BTreeSet<Place>,
    favoured: BTreeSet<u32>,
    /// How many went on by their loss.
    gone_on: usize,
}

impl Halving {
    pub fn new(eta: u32, rungs: usize, favoured: u32) -> Halving {
        let rungs = (0..rungs).map(|_| Rung::default()).collect();
        Halving { eta, rungs, favoured }
    }

    pub fn learn(&mut self, trial: u32, rung: usize, loss: Option<f64>) {
        let place = (ordered(loss), trial);
        let rung = &mut self.rungs[rung];
        let at = rung.places.partition_point(|other| *other < place);
        rung.places.insert(at, place);
        if loss.is_some() {
            rung.waiting.insert(place);
            if trial < self.favoured {
                rung.favoured.insert(trial);
            }
        }
    }

    /// The trial that goes on, and the rung it goes on to, where one may: the best of a rung's first 1/eta, from the
    /// highest rung down.
    pub fn promote(&mut self) -> Option<(u32, usize)> {
        for rung in (0..self.rungs.len().saturating_sub(1)).rev() {
            let Rung { places, waiting, favoured, gone_on } = &mut self.rungs[rung];
            let favoured = favoured.first().and_then(|trial| waiting.iter().find(|place| place.1 == *trial));
            if let Some(place) = favoured.copied() {
                return Some(self.go_on(rung, place));
            }
            let room = places.len() / self.eta as usize;
            let first = |place: &&Place| places.partition_point(|other| other < *place) < room;
            if *gone_on < room
                && let Some(place) = waiting.first().filter(first).copied()
            {
                *gone_on += 1;
                return Some(self.go_on(rung, place));
            }
        }
        None
    }

    /// For a search that has no new trials left: the best of the highest rung goes on, until one trial was measured at
    /// the last rung.
    pub fn promote_last(&mut self) -> Option<(u32, usize)> {
        let last = self.rungs.len() - 1;
        if self.rungs[last].places.iter().any(|place| place.0 != ordered(None)) {
            return None;
        }
        let rung = (0..last).rev().find(|rung| !self.rungs[*rung].waiting.is_empty())?;
        let place = *self.rungs[rung].waiting.first()?;
        Some(self.go_on(rung, place))
    }

    fn go_on(&mut self, rung: usize, place: Place) -> (u32, usize) {
        self.rungs[rung].waiting.remove(&place);
        self.rungs[rung].favoured.remove(&place.1);
        (place.1, rung + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_third_goes_on_from_the_highest_rung_down() {
        let mut halving = Halving::new(3, 3, 0);
        let losses = [0.9, 0.5, 0.7, 0.4, 0.8, 0.6];
        let went: Vec<_> = losses
            .into_iter()
            .enumerate()
            .map(|(trial, loss)| {
                halving.learn(trial as u32, 0, Some(loss));
                halving.promote()
            })
            .collect();
        assert_eq!(went, [None, None, Some((1, 1)), None, None, Some((3, 1))]);

        for (trial, loss) in [(1, 0.45), (3, 0.35)] {
            halving.learn(trial, 1, Some(loss));
        }
        assert_eq!(halving.promote(), None, "two of a rung are too few for a third");
        halving.learn(7, 1, Some(0.5));
        assert_eq!(halving.promote(), Some((3, 2)));
    }

    #[test]
    fn failures_count_but_never_go_on() {
        let mut halving = Halving::new(3, 2, 0);
        (0..3).for_each(|trial| halving.learn(trial, 0, None));
        assert_eq!(halving.promote(), None);
        halving.learn(3, 0, Some(f64::MAX));
        assert_eq!(halving.promote(), Some((3, 1)), "the first of four");
        assert_eq!(halving.promote_last(), None);
    }

    #[test]
    fn the_declared_point_is_measured_to_the_end() {
        let mut halving = Halving::new(3, 3, 1);
        halving.learn(0, 0, Some(100.0));
        halving.learn(1, 0, Some(1.0));
        assert_eq!(halving.promote(), Some((0, 1)));
        assert_eq!(halving.promote(), None);
        halving.learn(0, 1, Some(90.0));
        assert_eq!(halving.promote(), Some((0, 2)));
    }

    #[test]
    fn a_search_too_short_for_the_last_rung_takes_its_best_there() {
        let mut halving = Halving::new(4, 3, 0);
        halving.learn(0, 0, Some(2.0));
        halving.learn(1, 0, Some(1.0));
        assert_eq!(halving.promote(), None);
        assert_eq!(halving.promote_last(), Some((1, 1)));
        halving.learn(1, 1, None);
        assert_eq!(halving.promote_last(), Some((0, 1)), "the best one failed");
        halving.learn(0, 1, Some(1.5));
        assert_eq!(halving.promote_last(), Some((0, 2)));
        halving.learn(0, 2, Some(1.4));
        assert_eq!(halving.promote_last(), None);
    }
}
