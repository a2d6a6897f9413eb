//! Latency and load by model, version and tenant, in a bounded number of series: what comes after the limit is counted
//! together under `_other`, so that no caller can make the metrics grow.

use crate::call::{Call, Stage};
use crate::histogram::Histogram;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Most series: each has three histograms of 512 counters, so that a thousand take 12 MiB.
pub const SERIES_MAX: usize = 1000;

/// The label of everything beyond.
pub const OTHER: &str = "_other";

#[derive(Default)]
pub struct Series {
    pub request: Histogram,
    pub queue: Histogram,
    pub infer: Histogram,
    pub requests: AtomicU64,
    pub rows: AtomicU64,
    pub cpu_ns: AtomicU64,
}

impl Series {
    pub fn record(&self, call: &Call, rows: usize) {
        self.request.record(call.received.elapsed());
        self.requests.fetch_add(1, Relaxed);
        self.rows.fetch_add(rows as u64, Relaxed);
        self.cpu_ns.fetch_add(call.cpu.as_nanos() as u64, Relaxed);
        let infer = call.stage(Stage::Infer);
        if !infer.is_zero() {
            self.queue.record(call.stage(Stage::Queue));
            self.infer.record(infer);
        }
    }
}

/// Model, version, tenant.
pub type Labels = (String, String, String);

/// By model, version and tenant.
type Nested = HashMap<String, HashMap<String, HashMap<String, Arc<Series>>>>;

#[derive(Default)]
pub struct SeriesTable {
    // Nested, so that looking one up makes no string.
    series: RwLock<Nested>,
    count: AtomicU64,
}

impl SeriesTable {
    pub fn get(&self, model: &str, version: &str, tenant: &str) -> Arc<Series> {
        let find = |table: &Nested| table.get(model)?.get(version)?.get(tenant).cloned();
        if let Some(known) = find(&self.series.read()) {
            return known;
        }
        let mut table = self.series.write();
        if let Some(known) = find(&table) {
            return known;
        }
        let (model, version, tenant) = if self.count.fetch_add(1, Relaxed) < SERIES_MAX as u64 {
            (model, version, tenant)
        } else {
            (OTHER, OTHER, OTHER)
        };
        let versions = table.entry(model.to_owned()).or_default();
        let tenants = versions.entry(version.to_owned()).or_default();
        Arc::clone(tenants.entry(tenant.to_owned()).or_default())
    }

    /// All of them, in order.
    pub fn all(&self) -> Vec<(Labels, Arc<Series>)> {
        let mut all = Vec::new();
        for (model, versions) in self.series.read().iter() {
            for (version, tenants) in versions {
                for (tenant, series) in tenants {
                    all.push(((model.clone(), version.clone(), tenant.clone()), Arc::clone(series)));
                }
            }
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_series_is_bounded_and_nothing_is_lost() {
        let table = SeriesTable::default();
        for model in 0..SERIES_MAX + 50 {
            table.get(&format!("m{model}"), "1", "a").requests.fetch_add(1, Relaxed);
        }
        let all = table.all();
        assert_eq!(all.len(), SERIES_MAX + 1);
        let other = all.iter().find(|(labels, _)| labels.0 == OTHER).unwrap();
        assert_eq!(other.1.requests.load(Relaxed), 50);
        assert_eq!(table.get("m7", "1", "a").requests.load(Relaxed), 1);
    }
}
