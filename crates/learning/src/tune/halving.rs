//! Which trial goes on: asynchronous successive halving (L. Li et al., "A System for Massively Parallel Hyperparameter
//! Tuning", MLSys 2020). Knows losses and rungs, not when they came.

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
            let Rung { places, waiting, favoured } = &self.rungs[rung];
            let first = |place: &&Place| {
                let rank = places.partition_point(|other| other < *place);
                rank < places.len() / self.eta as usize
            };
            let favoured = favoured.first().and_then(|trial| waiting.iter().find(|place| place.1 == *trial));
            if let Some(place) = favoured.or_else(|| waiting.first().filter(first)).copied() {
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
        for (trial, loss) in losses.into_iter().enumerate() {
            assert_eq!(halving.promote(), if trial == 3 { Some((1, 1)) } else { None }, "before {trial}");
            halving.learn(trial as u32, 0, Some(loss));
        }
        assert_eq!(halving.promote(), Some((3, 1)), "the two best of six, of which trial 1 went on before");
        assert_eq!(halving.promote(), None);
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
