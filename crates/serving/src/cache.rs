//! Answers that were given before. A key holds everything that can change the answer: tenant, artifact, generation of
//! the loaded model, and of each input datatype, shape and values; the outputs asked for; parameters. Identical requests
//! in flight are computed once. Where looking up costs more than it saves, it is left out.

use crate::wire::{DELIVERY_PARAMETERS, Parameters, binary};
use inference::Tensor;
use quick_cache::Weighter;
use quick_cache::sync::{Cache, DefaultLifecycle, PlaceholderGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// 128 bits of a keyed BLAKE3 digest: the key of the process makes collisions impossible to prepare.
pub type Key = [u8; 16];

pub type Outputs = Arc<Vec<Tensor>>;

/// Entries count by the bytes of their answers.
#[derive(Clone)]
pub struct BySize;

/// What an entry takes beside its numbers, about.
const ENTRY_BYTES: u64 = 160;

impl Weighter<Key, Outputs> for BySize {
    fn weight(&self, _key: &Key, outputs: &Outputs) -> u64 {
        let size = |output: &Tensor| (binary::size(&output.data) + output.shape.len() * 8 + 64) as u64;
        ENTRY_BYTES + outputs.iter().map(size).sum::<u64>()
    }
}

pub type Guard<'a> =
    PlaceholderGuard<'a, Key, Outputs, BySize, quick_cache::DefaultHashBuilder, DefaultLifecycle<Key, Outputs>>;

pub struct AnswerCache {
    cache: Cache<Key, Outputs, BySize>,
    secret: [u8; 32],
    bytes_max: u64,
}

/// What goes into a key.
pub struct Identity<'a> {
    pub tenant: &'a str,
    /// Digest of the artifact.
    pub artifact: &'a [u8],
    pub generation: u64,
    /// In canonical form where the model knows one.
    pub inputs: &'a [Tensor],
    pub wanted: &'a [usize],
    pub parameters: &'a Parameters,
}

impl AnswerCache {
    /// A cache that takes `bytes_max`; `secret` is drawn anew by each process.
    pub fn new(bytes_max: u64, secret: [u8; 32]) -> AnswerCache {
        let items = (bytes_max / (ENTRY_BYTES + 100)).clamp(16, 1 << 22) as usize;
        AnswerCache { cache: Cache::with_weighter(items, bytes_max, BySize), secret, bytes_max }
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

    pub fn key(&self, identity: &Identity) -> Key {
        let mut hasher = blake3::Hasher::new_keyed(&self.secret);
        // Lengths before contents, so that no two identities give the same bytes.
        let mut put = |bytes: &[u8]| {
            hasher.update(&(bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        put(identity.tenant.as_bytes());
        put(identity.artifact);
        put(&identity.generation.to_le_bytes());
        for place in identity.wanted {
            put(&(*place as u64).to_le_bytes());
        }
        for (name, value) in identity.parameters {
            if !DELIVERY_PARAMETERS.contains(&name.as_str()) {
                put(name.as_bytes());
                put(value.canonical().as_bytes());
            }
        }
        let mut scratch = Vec::new();
        for input in identity.inputs {
            put(input.datatype().name().as_bytes());
            for length in &input.shape {
                put(&(*length as u64).to_le_bytes());
            }
            scratch.clear();
            binary::write(&input.data, &mut scratch);
            put(&scratch);
        }
        let digest = hasher.finalize();
        let mut key = [0; 16];
        key.copy_from_slice(&digest.as_bytes()[..16]);
        key
    }

    /// The known answer, or the right to give it: others who ask the same wait until the guard is filled or dropped.
    pub async fn look(&self, key: &Key) -> Result<Outputs, Guard<'_>> {
        self.cache.get_value_or_guard_async(key).await
    }
}

/// Whether looking up pays, for one model: learned from its hits and from what looking up takes.
#[derive(Default)]
pub struct Worth {
    lookups: AtomicU64,
    hits: AtomicU64,
    lookup_us: AtomicU32,
    passed: AtomicU64,
}

/// Lookups before a verdict, and after which old ones count half.
const VERDICT_LOOKUPS: u64 = 256;

/// While it does not pay, one request in so many is looked up all the same, to notice when it does.
const PROBE: u64 = 32;

impl Worth {
    /// Whether to look this one up: its computation would take `cost_us`.
    pub fn pays(&self, cost_us: f64) -> bool {
        let lookup = f64::from(f32::from_bits(self.lookup_us.load(Relaxed)));
        let (lookups, hits) = (self.lookups.load(Relaxed), self.hits.load(Relaxed));
        let pays = lookups < VERDICT_LOOKUPS || cost_us * hits as f64 / lookups as f64 > lookup;
        pays || self.passed.fetch_add(1, Relaxed).is_multiple_of(PROBE)
    }

    pub fn observe(&self, hit: bool, took: Duration) {
        self.observe_rows(usize::from(hit), 1, took);
    }

    /// So many rows of a request were looked up, all together in `took`.
    pub fn observe_rows(&self, hits: usize, rows: usize, took: Duration) {
        let us = took.as_secs_f32() * 1e6 / rows.max(1) as f32;
        let before = f32::from_bits(self.lookup_us.load(Relaxed));
        let now = if before == 0.0 { us } else { before + 0.05 * (us - before) };
        self.lookup_us.store(now.to_bits(), Relaxed);
        let lookups = self.lookups.fetch_add(rows as u64, Relaxed) + rows as u64;
        let hits = self.hits.fetch_add(hits as u64, Relaxed) + hits as u64;
        if lookups >= 2 * VERDICT_LOOKUPS {
            self.lookups.store(lookups / 2, Relaxed);
            self.hits.store(hits / 2, Relaxed);
        }
    }
}

/// Times the making of a key and the look-up, without what was waited for.
pub struct LookupTimer(Instant);

impl LookupTimer {
    pub fn start() -> LookupTimer {
        LookupTimer(Instant::now())
    }

    pub fn took(&self) -> Duration {
        self.0.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Parameter;
    use inference::Data;

    fn cache() -> AnswerCache {
        AnswerCache::new(1 << 20, [7; 32])
    }

    #[test]
    fn everything_that_can_change_the_answer_is_in_the_key() {
        let cache = cache();
        let base = vec![Tensor::new("x", vec![2, 3], Data::Fp32(vec![1.0; 6]))];
        let none = Parameters::new();
        let reshaped = vec![Tensor::new("x", vec![3, 2], Data::Fp32(vec![1.0; 6]))];
        let retyped = vec![Tensor::new("x", vec![2, 3], Data::Int32(vec![1.0f32.to_bits() as i32; 6]))];
        let changed = vec![Tensor::new("x", vec![2, 3], Data::Fp32(vec![1.0, 1.0, 1.0, 1.0, 1.0, 2.0]))];
        let parameters = Parameters::from([("top".into(), Parameter::Int(3))]);
        let delivery = Parameters::from([("timeout".into(), Parameter::Int(3))]);
        let same = || Identity {
            tenant: "a",
            artifact: b"d",
            generation: 1,
            inputs: &base,
            wanted: &[0, 1],
            parameters: &none,
        };
        let keys = [
            cache.key(&same()),
            cache.key(&Identity { tenant: "b", ..same() }),
            cache.key(&Identity { artifact: b"e", ..same() }),
            cache.key(&Identity { generation: 2, ..same() }),
            cache.key(&Identity { wanted: &[0], ..same() }),
            cache.key(&Identity { wanted: &[1, 0], ..same() }),
            cache.key(&Identity { inputs: &reshaped, ..same() }),
            cache.key(&Identity { inputs: &retyped, ..same() }),
            cache.key(&Identity { inputs: &changed, ..same() }),
            cache.key(&Identity { parameters: &parameters, ..same() }),
        ];
        let different: std::collections::BTreeSet<_> = keys.iter().collect();
        assert_eq!(different.len(), keys.len());
        assert_eq!(keys[0], cache.key(&Identity { parameters: &delivery, ..same() }));
    }

    #[tokio::test]
    async fn the_same_request_in_flight_is_computed_once() {
        let cache = Arc::new(cache());
        let key = [1; 16];
        let Err(guard) = cache.look(&key).await else { panic!("nothing is there yet") };
        let other = {
            let cache = Arc::clone(&cache);
            tokio::spawn(async move { cache.look(&key).await.ok() })
        };
        tokio::task::yield_now().await;
        guard.insert(Arc::new(vec![Tensor::new("y", vec![1], Data::Int8(vec![5]))])).unwrap();
        assert_eq!(other.await.unwrap().unwrap()[0].data, Data::Int8(vec![5]));
        // Whoever had the right and fails hands it on.
        let key = [2; 16];
        let Err(guard) = cache.look(&key).await else { panic!() };
        drop(guard);
        assert!(cache.look(&key).await.is_err());
    }

    #[test]
    fn a_cache_that_never_hits_is_left_out() {
        let worth = Worth::default();
        assert!(worth.pays(100.0));
        for _ in 0..VERDICT_LOOKUPS {
            worth.observe(false, Duration::from_micros(2));
        }
        let looked = (0..320).filter(|_| worth.pays(100.0)).count();
        assert_eq!(looked, 10);
        for _ in 0..VERDICT_LOOKUPS {
            worth.observe(true, Duration::from_micros(2));
        }
        assert!(worth.pays(100.0) && worth.pays(100.0));
    }
}
