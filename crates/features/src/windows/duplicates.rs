//! The identifiers of events that were counted: a duplicate is known as long as it could be counted again, and where
//! there are too many, the oldest are forgotten together with the right to be that old.

use super::key::Key;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(super) struct Duplicates {
    /// How long behind the watermark an identifier is kept, at least.
    remembered: i64,
    max: usize,
    seen: HashSet<Arc<[u8]>>,
    /// By stretch of event time, so that what is old is found.
    stretches: BTreeMap<i64, Vec<Timed>>,
    stretch: i64,
    /// Identifiers of events before this may have been forgotten too early.
    pub(super) floor: i64,
}

/// An identifier with its event's time.
type Timed = (i64, Arc<[u8]>);

/// What is known about an identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    New,
    /// It may have been seen, and forgotten.
    Unsure,
}

/// An identifier outlives what it must by at most this share of it.
const STRETCHES: i64 = 64;

impl Duplicates {
    pub(super) fn new(remembered: i64, max: usize, floor: i64) -> Duplicates {
        let stretch = (remembered / STRETCHES).max(1);
        Duplicates { remembered, max, seen: HashSet::new(), stretches: BTreeMap::new(), stretch, floor }
    }

    pub(super) fn len(&self) -> usize {
        self.seen.len()
    }

    pub(super) fn has(&self, id: &Key) -> bool {
        self.seen.contains(id.as_bytes())
    }

    /// Whether an event that [`Duplicates::has`] does not know is new; makes room for it.
    pub(super) fn admit(&mut self, time: i64) -> Known {
        while time >= self.floor && self.seen.len() >= self.max {
            self.forget_oldest();
        }
        if time < self.floor { Known::Unsure } else { Known::New }
    }

    pub(super) fn insert(&mut self, time: i64, id: &Key) {
        let id: Arc<[u8]> = id.as_bytes().into();
        self.stretches.entry(time.div_euclid(self.stretch)).or_default().push((time, Arc::clone(&id)));
        self.seen.insert(id);
    }

    /// Forgets identifiers of events that are too late to be counted again.
    pub(super) fn expire(&mut self, watermark: i64) {
        while let Some(oldest) = self.stretches.first_entry()
            && (oldest.key() + 1) * self.stretch - 1 + self.remembered < watermark
        {
            oldest.remove().iter().for_each(|(_, id)| {
                self.seen.remove(id);
            });
        }
    }

    /// Forgets the older half of the oldest stretch.
    fn forget_oldest(&mut self) {
        let Some(mut oldest) = self.stretches.first_entry() else { return };
        let ids = oldest.get_mut();
        ids.sort_unstable();
        let cut = ids[(ids.len() - 1) / 2].0;
        let gone = ids.partition_point(|(time, _)| *time <= cut);
        for (_, id) in ids.drain(..gone) {
            self.seen.remove(&id);
        }
        if ids.is_empty() {
            oldest.remove();
        }
        self.floor = self.floor.max(cut + 1);
    }

    /// By time, then identifier.
    pub(super) fn sorted(&self) -> impl Iterator<Item = Timed> + '_ {
        self.stretches.values().flat_map(|ids| {
            let mut ids = ids.clone();
            ids.sort_unstable();
            ids
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::Part;
    use super::*;

    fn id(i: i64) -> Key {
        Key::of([Part::Int(i)])
    }

    #[test]
    fn what_is_forgotten_early_is_not_taken_for_new() {
        let mut ids = Duplicates::new(1000, 4, i64::MIN);
        for i in 0..10 {
            assert_eq!(ids.admit(i), Known::New);
            ids.insert(i, &id(i));
            assert!(ids.len() <= 4);
        }
        for i in 0..10 {
            assert!(ids.has(&id(i)) || ids.admit(i) == Known::Unsure, "{i}");
        }
    }

    #[test]
    fn identifiers_live_as_long_as_they_must() {
        let mut ids = Duplicates::new(640, 100, i64::MIN);
        ids.insert(5, &id(5));
        ids.expire(5 + 640);
        assert!(ids.has(&id(5)));
        ids.expire(10 + 640);
        assert!(!ids.has(&id(5)));
        assert_eq!((ids.len(), ids.admit(700)), (0, Known::New));
    }

    #[test]
    fn many_of_one_instant_end_it() {
        let mut ids = Duplicates::new(640, 3, i64::MIN);
        (0..3).for_each(|i| ids.insert(7, &id(i)));
        assert_eq!((ids.admit(7), ids.len(), ids.admit(8)), (Known::Unsure, 0, Known::New));
    }
}
