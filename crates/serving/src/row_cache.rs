//! Numbers that were computed of a row before: answers of declared models, or features. Whoever keeps them makes the key
//! of everything that can change them. A row that somebody computes already is not computed again. Knows neither models
//! nor tables.

use crate::cache::{Key, Worth};
use crate::refusal::{Answer, Refusal};
use quick_cache::sync::{Cache, GuardResult, PlaceholderGuard};
use quick_cache::{DefaultHashBuilder, Lifecycle, Weighter};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// What became of look-ups, in rows, for one model.
#[derive(Default)]
pub struct Tally {
    pub hits: AtomicU64,
    pub misses: AtomicU64,
    /// Kept rows that had to leave for others.
    pub evictions: AtomicU64,
    /// Rows that were not looked up: it would have cost more than it saves.
    pub bypassed: AtomicU64,
    pub worth: Worth,
}

impl Tally {
    /// Rows were looked up, all together in `took`.
    pub fn looked_up(&self, hits: usize, rows: usize, took: Duration) {
        self.hits.fetch_add(hits as u64, Relaxed);
        self.misses.fetch_add((rows - hits) as u64, Relaxed);
        self.worth.observe_rows(hits, rows, took);
    }

    pub fn passed_by(&self, rows: usize) {
        self.bypassed.fetch_add(rows as u64, Relaxed);
    }
}

/// What is kept of a row.
#[derive(Clone)]
pub struct Kept<T> {
    pub values: Arc<[T]>,
    /// Whose row it is: told when it leaves.
    owner: Arc<Tally>,
}

/// What an entry takes beside its numbers, about: key, pointers, counts, and the table's own.
const ENTRY_BYTES: u64 = 136;

#[derive(Clone)]
pub struct BySize;

impl<T> Weighter<Key, Kept<T>> for BySize {
    fn weight(&self, _key: &Key, kept: &Kept<T>) -> u64 {
        ENTRY_BYTES + size_of_val(&*kept.values) as u64
    }
}

#[derive(Clone)]
pub struct CountLeaving;

impl<T> Lifecycle<Key, Kept<T>> for CountLeaving {
    type RequestState = ();

    fn on_evict(&self, (): &mut (), _key: Key, kept: Kept<T>) {
        kept.owner.evictions.fetch_add(1, Relaxed);
    }
}

pub type Guard<'a, T> = PlaceholderGuard<'a, Key, Kept<T>, BySize, DefaultHashBuilder, CountLeaving>;

pub struct RowCache<T> {
    cache: Cache<Key, Kept<T>, BySize, DefaultHashBuilder, CountLeaving>,
    secret: [u8; 32],
    bytes_max: u64,
}

/// Keys of rows that share everything but the row itself.
#[derive(Clone, Copy)]
pub struct Keys([u8; 32]);

impl Keys {
    /// The key of a row's bytes: 128 bits of a keyed BLAKE3 digest.
    pub fn of(&self, row: &[u8]) -> Key {
        let digest = blake3::keyed_hash(&self.0, row);
        let mut key = [0; 16];
        key.copy_from_slice(&digest.as_bytes()[..16]);
        key
    }
}

/// What was found of a request's rows.
pub struct Found<'a, T> {
    /// By place in the request; none where it is not known.
    pub known: Vec<Option<Arc<[T]>>>,
    /// Places that the caller is to compute, with the right to keep the result.
    pub mine: Vec<(usize, Guard<'a, T>)>,
    /// Places that somebody computes already.
    pub others: Vec<(usize, Key)>,
}

impl<T: Clone> RowCache<T> {
    /// A cache that takes `bytes_max`; `secret` is drawn anew by each process.
    pub fn new(bytes_max: u64, secret: [u8; 32]) -> RowCache<T> {
        let items = (bytes_max / (ENTRY_BYTES + 64)).clamp(16, 1 << 22) as usize;
        let cache = Cache::with(items, bytes_max, BySize, DefaultHashBuilder::default(), CountLeaving);
        RowCache { cache, secret, bytes_max }
    }

    pub fn is_on(&self) -> bool {
        self.bytes_max > 0
    }

    pub fn bytes(&self) -> u64 {
        self.cache.weight()
    }

    pub fn entries(&self) -> usize {
        self.cache.len()
    }

    /// Keys under everything that is the same for all rows of a request. Lengths go before contents, so that no two
    /// lists of parts give the same bytes.
    pub fn keys(&self, parts: &[&[u8]]) -> Keys {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Keys(*hasher.finalize().as_bytes())
    }

    /// Looks all rows up without waiting for anybody: who holds the right to compute a row never waits for another's,
    /// so that no two requests can wait for each other.
    pub fn look(&self, keys: impl Iterator<Item = Key>) -> Found<'_, T> {
        let mut found = Found { known: Vec::new(), mine: Vec::new(), others: Vec::new() };
        for (place, key) in keys.enumerate() {
            let known = match self.cache.get_value_or_guard(&key, Some(Duration::ZERO)) {
                GuardResult::Value(kept) => Some(kept.values),
                GuardResult::Guard(guard) => {
                    found.mine.push((place, guard));
                    None
                }
                GuardResult::Timeout => {
                    found.others.push((place, key));
                    None
                }
            };
            found.known.push(known);
        }
        found
    }

    /// Waits for a row that somebody computes: its numbers, or the right to compute it where that failed.
    pub async fn wait(&self, key: &Key, until: Option<Instant>) -> Answer<Result<Arc<[T]>, Guard<'_, T>>> {
        let found = self.cache.get_value_or_guard_async(key);
        let found = match until {
            None => found.await,
            Some(until) => tokio::time::timeout_at(until.into(), found).await.map_err(|_| Refusal::too_late())?,
        };
        Ok(found.map(|kept| kept.values))
    }
}

/// Keeps what a row gave; who waits for it gets it.
pub fn keep<T: Clone>(guard: Guard<'_, T>, owner: &Arc<Tally>, values: Arc<[T]>) {
    // Refused only where the entry was taken away in between: then nobody waits for it.
    let _ = guard.insert(Kept { values, owner: Arc::clone(owner) });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known<T: Clone>(found: &Found<'_, T>) -> Vec<Option<Vec<T>>> {
        found.known.iter().map(|values| values.as_ref().map(|values| values.to_vec())).collect()
    }

    #[test]
    fn rows_are_computed_once_and_kept_by_key() {
        let (cache, owner) = (RowCache::<f64>::new(1 << 20, [7; 32]), Arc::new(Tally::default()));
        let keys = cache.keys(&[b"tenant", b"digest"]);
        let rows = [b"a", b"b", b"a"].map(|row| keys.of(row));
        let first = cache.look(rows.into_iter());
        assert_eq!(known(&first), [None, None, None]);
        assert_eq!(first.others.len(), 1, "the row that comes twice is computed once");
        for (place, guard) in first.mine {
            keep(guard, &owner, Arc::new([place as f64]));
        }
        let again = cache.look(rows.into_iter());
        assert_eq!(known(&again), [Some(vec![0.0]), Some(vec![1.0]), Some(vec![0.0])]);
        assert!(again.mine.is_empty() && again.others.is_empty());
        for other in [cache.keys(&[b"tenant", b"other"]), cache.keys(&[b"tenantd", b"igest"]), cache.keys(&[])] {
            assert_ne!(other.of(b"a"), rows[0]);
        }
    }

    #[tokio::test]
    async fn a_row_in_flight_is_waited_for_and_its_failure_hands_the_right_on() {
        let (cache, owner) = (Arc::new(RowCache::<f64>::new(1 << 20, [7; 32])), Arc::new(Tally::default()));
        let key = cache.keys(&[]).of(b"row");
        let mut first = cache.look([key].into_iter());
        let second = cache.look([key].into_iter());
        assert_eq!((second.mine.len(), second.others.len()), (0, 1));
        let soon = Some(Instant::now() + Duration::from_millis(5));
        assert_eq!(cache.wait(&key, soon).await.err().map(|refusal| refusal.reason), Some("deadline"));
        let waiting = {
            let cache = Arc::clone(&cache);
            tokio::spawn(async move { cache.wait(&key, None).await.unwrap().ok() })
        };
        tokio::task::yield_now().await;
        keep(first.mine.pop().unwrap().1, &owner, Arc::new([4.5]));
        assert_eq!(waiting.await.unwrap().as_deref(), Some(&[4.5][..]));

        let key = cache.keys(&[]).of(b"another");
        drop(cache.look([key].into_iter()));
        assert!(cache.wait(&key, None).await.unwrap().is_err(), "whoever had the right is gone");
    }

    #[test]
    fn what_leaves_is_counted_by_its_owner() {
        let (cache, owner) = (RowCache::<u8>::new(20_000, [7; 32]), Arc::new(Tally::default()));
        let keys = cache.keys(&[]);
        for row in 0..1000_u32 {
            for (_, guard) in cache.look([keys.of(&row.to_le_bytes())].into_iter()).mine {
                keep(guard, &owner, Arc::new([1]));
            }
        }
        assert!(cache.bytes() <= 20_000, "{}", cache.bytes());
        assert_eq!(owner.evictions.load(Relaxed) as usize + cache.entries(), 1000);
    }
}
