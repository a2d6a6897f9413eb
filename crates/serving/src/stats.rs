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

#[derive(Default)]
pub struct VersionStats {
    pub success: Timed,
    pub fail: Timed,
    pub queue: Timed,
    pub compute_input: Timed,
    pub compute_infer: Timed,
    pub compute_output: Timed,
    pub cache_hit: Timed,
    pub cache_miss: Timed,
    /// Rows that were answered, from the cache too.
    pub rows: AtomicU64,
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
