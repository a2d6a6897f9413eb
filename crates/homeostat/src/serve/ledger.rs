//! The ledger of one model: which predictions were given, what other versions would have said, and what came true.
//! Outcomes are joined here, by id or by key; each arrives once, late, twice, corrected, or never.

use std::collections::{HashMap, VecDeque};
use vocabulary::{Answer, PredictionId, Timestamp};

/// An answered row.
#[derive(Clone, Debug)]
pub struct Entry {
    pub at: Timestamp,
    pub version: u32,
    pub value: Answer,
    /// What other versions said, by number.
    pub shadows: Vec<(u32, Answer)>,
    pub outcome: Option<(Timestamp, f64)>,
    /// Hash of the event's key: an order that does not depend on when requests were handled.
    pub order: u64,
}

impl Entry {
    /// What `version` said about this row.
    pub fn said(&self, version: u32) -> Option<&Answer> {
        if self.version == version {
            return Some(&self.value);
        }
        self.shadows.iter().find(|(number, _)| *number == version).map(|(_, value)| value)
    }
}

/// What became of an outcome that was handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Joined {
    Accepted(PredictionId),
    Duplicate,
    /// A later, different value for a row that had one.
    Corrected(PredictionId),
    Unknown,
}

pub struct Ledger {
    entries: HashMap<PredictionId, Entry>,
    by_key: HashMap<u128, PredictionId>,
    order: VecDeque<PredictionId>,
    rows_max: usize,
    /// Rows whose outcome arrived since the loop last looked.
    fresh: Vec<PredictionId>,
    pub predictions: u64,
    pub outcomes: u64,
    pub corrected: u64,
    /// Entries that left because the ledger was full.
    pub evicted: u64,
}

/// A key as the ledger knows it.
pub fn key_hash(key: &str) -> u128 {
    let digest = vocabulary::Digest::of(key.as_bytes());
    u128::from_le_bytes(digest.0[..16].try_into().unwrap_or_default())
}

impl Ledger {
    pub fn new(rows_max: usize) -> Self {
        Ledger {
            entries: HashMap::new(),
            by_key: HashMap::new(),
            order: VecDeque::new(),
            rows_max,
            fresh: Vec::new(),
            predictions: 0,
            outcomes: 0,
            corrected: 0,
            evicted: 0,
        }
    }

    pub fn get(&self, id: &PredictionId) -> Option<&Entry> {
        self.entries.get(id)
    }

    pub fn add(&mut self, id: PredictionId, key: Option<u128>, entry: Entry) {
        if self.entries.insert(id, entry).is_some() {
            return;
        }
        self.predictions += 1;
        self.order.push_back(id);
        if let Some(key) = key {
            self.by_key.insert(key, id);
        }
        if self.entries.len() > self.rows_max
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
            self.evicted += 1;
            if self.evicted.is_multiple_of(1 << 16) {
                self.by_key.retain(|_, id| self.entries.contains_key(id));
            }
        }
    }

    /// Takes back entries whose logging failed: they were never acknowledged.
    pub fn forget(&mut self, ids: &[PredictionId]) {
        for id in ids {
            if self.entries.remove(id).is_some() {
                self.predictions -= 1;
            }
        }
    }

    pub fn add_shadow(&mut self, id: PredictionId, version: u32, value: Answer) {
        if let Some(entry) = self.entries.get_mut(&id)
            && entry.said(version).is_none()
        {
            entry.shadows.push((version, value));
        }
    }

    pub fn by_key(&self, key: &str) -> Option<PredictionId> {
        self.by_key.get(&key_hash(key)).copied()
    }

    /// What handing in this outcome would do; [`Ledger::join`] does it.
    pub fn look(&self, id: &PredictionId, at: Timestamp, value: f64) -> Joined {
        match self.entries.get(id).map(|entry| entry.outcome) {
            None => Joined::Unknown,
            Some(None) => Joined::Accepted(*id),
            Some(Some((_, known))) if known == value => Joined::Duplicate,
            Some(Some((when, _))) if at < when => Joined::Duplicate,
            Some(Some(_)) => Joined::Corrected(*id),
        }
    }

    pub fn join(&mut self, id: PredictionId, at: Timestamp, value: f64) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        match entry.outcome.replace((at, value)) {
            None => {
                self.outcomes += 1;
                self.fresh.push(id);
            }
            Some((_, before)) if before != value => self.corrected += 1,
            Some(_) => {}
        }
    }

    /// Rows whose outcome became known up to `now` and that were not taken yet, in an order that is the same in every
    /// run: by when it became known, then by the event.
    pub fn take_joined(&mut self, now: Timestamp) -> Vec<(PredictionId, Entry)> {
        let mut taken = Vec::new();
        let entries = &self.entries;
        self.fresh.retain(|id| match entries.get(id) {
            Some(entry) if entry.outcome.is_some_and(|(at, _)| at <= now) => {
                taken.push((*id, entry.clone()));
                false
            }
            Some(_) => true,
            None => false,
        });
        taken.sort_by_key(|(id, entry)| (entry.outcome.map(|(at, _)| at), entry.at, entry.order, *id));
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(at: i64) -> Entry {
        Entry { at: Timestamp(at), version: 1, value: Answer::One(0.5), shadows: vec![], outcome: None, order: 0 }
    }

    #[test]
    fn outcomes_come_once_twice_corrected_or_for_nobody() {
        let mut ledger = Ledger::new(2);
        let ids: Vec<PredictionId> = (0..3).map(|i| PredictionId::new(Timestamp(i * 1000), 7)).collect();
        ledger.add(ids[0], Some(key_hash("a")), entry(0));
        let id = ledger.by_key("a").unwrap();
        assert_eq!(ledger.look(&id, Timestamp(5), 1.0), Joined::Accepted(id));
        ledger.join(id, Timestamp(5), 1.0);
        assert_eq!(ledger.look(&id, Timestamp(6), 1.0), Joined::Duplicate);
        assert_eq!(ledger.look(&id, Timestamp(6), 0.0), Joined::Corrected(id));
        assert_eq!(ledger.look(&ids[2], Timestamp(6), 0.0), Joined::Unknown);
        assert!(ledger.take_joined(Timestamp(4)).is_empty());
        assert_eq!(ledger.take_joined(Timestamp(5)).len(), 1);
        assert!(ledger.take_joined(Timestamp(9)).is_empty());
        ledger.add(ids[1], None, entry(1));
        ledger.add(ids[2], None, entry(2));
        assert_eq!((ledger.entries.len(), ledger.evicted, ledger.predictions, ledger.outcomes), (2, 1, 3, 1));
        assert!(ledger.get(&ids[0]).is_none());
    }

    #[test]
    fn another_version_is_remembered_once() {
        let mut ledger = Ledger::new(2);
        let id = PredictionId(1);
        ledger.add(id, None, entry(0));
        ledger.add_shadow(id, 2, Answer::One(0.25));
        ledger.add_shadow(id, 2, Answer::One(0.75));
        assert_eq!(ledger.get(&id).unwrap().said(2), Some(&Answer::One(0.25)));
        assert_eq!(ledger.get(&id).unwrap().said(1), Some(&Answer::One(0.5)));
        assert_eq!(ledger.get(&id).unwrap().said(3), None);
    }
}
