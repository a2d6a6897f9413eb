//! Where a fit stands between two rounds: its trees, and what the validation rows have said so far.

use super::Run;
use hessboost::model::{BoostedModel, ModelFormat};

const MAGIC: &[u8; 8] = b"HSTRFIT1";

/// What the watched rows have said so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Search {
    /// Rounds of the trees that the run goes on from.
    first: usize,
    /// Rounds with the least loss; `first` before the first of this run.
    best: usize,
    least: f64,
}

impl Default for Search {
    fn default() -> Self {
        Search::after(0)
    }
}

impl Search {
    pub(super) fn after(first: usize) -> Search {
        Search { first, best: first, least: f64::INFINITY }
    }

    /// Takes note of the loss after `round` rounds. Only a lower one is better; where none ever is, as with NaN, the
    /// first round stays the best.
    pub(super) fn observe(&mut self, round: usize, loss: f64) {
        if loss < self.least {
            *self = Search { best: round, least: loss, ..*self };
        } else if self.best == self.first {
            self.best = round;
        }
    }

    pub(super) fn is_over(&self, round: usize, patience: u32) -> bool {
        patience > 0 && round > self.first && round - self.best >= patience as usize
    }

    /// The rounds to keep of `done`.
    pub(super) fn rounds(&self, done: usize, patience: u32) -> usize {
        if patience == 0 { done } else { self.best }
    }
}

/// A state that was kept.
pub(super) struct Kept {
    pub(super) booster: BoostedModel,
    pub(super) search: Search,
}

impl Kept {
    /// The rounds with the least loss, that loss, and the trees. Empty where the trees cannot be written, which then is
    /// no state at all.
    pub(super) fn bytes(booster: &BoostedModel, search: &Search) -> Vec<u8> {
        let Ok(trees) = booster.encode(ModelFormat::Binary) else { return Vec::new() };
        [&MAGIC[..], &(search.best as u64).to_le_bytes(), &search.least.to_le_bytes(), &trees].concat()
    }

    /// None where the bytes are not the state of this run.
    pub(super) fn from_bytes(bytes: &[u8], run: &Run) -> Option<Kept> {
        let rest = bytes.strip_prefix(MAGIC)?;
        let (best, rest) = rest.split_first_chunk()?;
        let (least, trees) = rest.split_first_chunk()?;
        let (best, least) = (u64::from_le_bytes(*best) as usize, f64::from_le_bytes(*least));
        let search = Search { first: run.first, best, least };
        let booster = BoostedModel::decode(trees, ModelFormat::Binary).ok()?;
        (run.fits(&booster) && search.best <= booster.num_boost_rounds()).then_some(Kept { booster, search })
    }
}
