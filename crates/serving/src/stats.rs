//! Counters of one version of a model, as the protocol's statistics extension and the metrics tell them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A number of events and their time.
#[derive(Default)]
pub struct Timed {
    count: AtomicU64,
    ns: AtomicU64,
}

impl Timed {
    pub fn add(&self, took: Duration) {
        self.count.fetch_add(1, Relaxed);
        self.ns.fetch_add(took.as_nanos() as u64, Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    pub fn ns(&self) -> u64 {
        self.ns.load(Relaxed)
    }
}

/// Requests that the model computed, and the time of their parts. All parts have one count: NVIDIA's perf_analyzer ends
/// with an error where it reads different ones.
#[derive(Default)]
pub struct Computed {
    count: AtomicU64,
    /// Reading inputs, the model, writing outputs.
    ns: [AtomicU64; 3],
}

impl Computed {
    pub fn add(&self, parts: [Duration; 3]) {
        self.count.fetch_add(1, Relaxed);
        for (sum, took) in self.ns.iter().zip(parts) {
            sum.fetch_add(took.as_nanos() as u64, Relaxed);
        }
    }

    pub fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    pub fn ns(&self) -> [u64; 3] {
        [0, 1, 2].map(|part: usize| self.ns[part].load(Relaxed))
    }
}

#[derive(Default)]
pub struct VersionStats {
    /// Also those that the cache answered.
    pub success: Timed,
    pub fail: Timed,
    /// Of the same requests as `success`.
    pub queue: Timed,
    pub computed: Computed,
    pub cache_hit: Timed,
    pub cache_miss: Timed,
    /// Rows that the model computed.
    pub computed_rows: AtomicU64,
    /// Batches that the model computed in lanes that are gone.
    pub executions: AtomicU64,
    /// Milliseconds since 1970.
    pub last_inference_ms: AtomicU64,
}

impl VersionStats {
    pub fn touch(&self) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        self.last_inference_ms.store(now.as_millis() as u64, Relaxed);
    }
}
