//! The data plane for Prometheus: everything is counted elsewhere, here it is only read out. Labels are bounded: series
//! by [`SERIES_MAX`], tenants and models the same way, and reasons by the program's own words.

mod latency;
mod process;

pub use process::ProcessCollector;

use crate::plane::Plane;
use crate::registry::Kind;
use crate::series::{Labels, OTHER, SERIES_MAX, Series};
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Registers the plane under `homeostat` and the process under the names that it has everywhere. `registry` itself has
/// no prefix, and lives as long as the plane.
pub fn register(registry: &mut Registry, plane: Arc<Plane>) {
    registry.register_collector(Box::new(ProcessCollector));
    registry.sub_registry_with_prefix("homeostat").register_collector(Box::new(PlaneCollector::new(plane)));
}

/// Reads the plane's counters out, to be registered under `homeostat`.
pub struct PlaneCollector {
    plane: Arc<Plane>,
    tenants: Shown,
    models: Shown,
}

impl PlaneCollector {
    pub fn new(plane: Arc<Plane>) -> PlaneCollector {
        PlaneCollector { plane, tenants: Shown::default(), models: Shown::default() }
    }
}

/// The names with a label of their own: the first [`SERIES_MAX`], which keep it while they exist.
#[derive(Default)]
struct Shown(Mutex<HashSet<Arc<str>>>);

impl Shown {
    /// Takes in the names that are new, while there is room, and lets those go that are no more.
    fn update<'a>(&self, names: impl Iterator<Item = &'a str>) -> HashSet<Arc<str>> {
        let names: HashSet<&str> = names.collect();
        let mut shown = self.0.lock();
        shown.retain(|name| names.contains(&**name));
        let mut new: Vec<&str> = names.into_iter().filter(|name| !shown.contains(*name)).collect();
        new.sort_unstable();
        let room = SERIES_MAX.saturating_sub(shown.len());
        shown.extend(new.into_iter().take(room).map(Arc::from));
        shown.clone()
    }

    /// The label of `name` among those that were taken in.
    fn label<'a>(taken: &HashSet<Arc<str>>, name: &'a str) -> &'a str {
        if taken.contains(name) { name } else { OTHER }
    }
}

impl fmt::Debug for PlaneCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlaneCollector")
    }
}

impl Collector for PlaneCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let series = self.plane.series.all();
        let histograms: [(&str, &str, latency::Of); 3] = [
            ("request_duration_seconds", "Time from a request's arrival to its answer", |s| &s.request),
            ("queue_duration_seconds", "Time that a request waited for an inference thread", |s| &s.queue),
            ("infer_duration_seconds", "Time in the model, of the whole batch", |s| &s.infer),
        ];
        for (name, help, of) in histograms {
            latency::encode(&mut encoder, name, help, &series, of)?;
        }
        answered(&mut encoder, &series)?;
        self.tenants(&mut encoder)?;
        self.models(&mut encoder)?;
        self.state(&mut encoder)
    }
}

/// Sums by their label values.
type Sums<'a, const N: usize> = BTreeMap<[&'a str; N], u64>;

/// What was answered, by tenant and model; versions are summed.
fn answered(encoder: &mut DescriptorEncoder, series: &[(Labels, Arc<Series>)]) -> fmt::Result {
    let (mut requests, mut rows, mut cpu) = (Sums::new(), Sums::new(), Sums::new());
    for ((model, _, tenant), counted) in series {
        let key = [tenant.as_str(), model.as_str()];
        *requests.entry(key).or_default() += counted.requests.load(Relaxed);
        *rows.entry(key).or_default() += counted.rows.load(Relaxed);
        *cpu.entry(key).or_default() += counted.cpu_ns.load(Relaxed);
    }
    let names = ["tenant", "model"];
    counter(encoder, "requests", "Requests answered", names, requests)?;
    counter(encoder, "rows", "Rows answered", names, rows)?;
    let help = "CPU time on the receipts of answered requests";
    counter(encoder, "compute_seconds", help, names, seconds(cpu))
}

impl PlaneCollector {
    /// What each tenant used, refused requests too: with the idle time it adds up to the process's CPU time.
    fn tenants(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let tenants = self.plane.tenants.all();
        let taken = self.tenants.update(tenants.iter().map(|tenant| &*tenant.name));
        let (mut requests, mut compute, mut overhead) = (Sums::new(), Sums::new(), Sums::new());
        let mut refused = Sums::new();
        for tenant in &tenants {
            let (label, usage) = (Shown::label(&taken, &tenant.name), &tenant.usage);
            *requests.entry([label]).or_default() += usage.requests.load(Relaxed);
            *compute.entry([label]).or_default() += usage.compute_ns.load(Relaxed);
            *overhead.entry([label]).or_default() += usage.overhead_ns.load(Relaxed);
            for (reason, count) in usage.refused() {
                *refused.entry([label, reason]).or_default() += count;
            }
        }
        let names = ["tenant"];
        counter(encoder, "tenant_requests", "Requests answered or refused", names, requests)?;
        let help = "CPU time on all receipts of a tenant";
        counter(encoder, "tenant_compute_seconds", help, names, seconds(compute))?;
        let help = "CPU time beside the receipts, shared out by requests";
        counter(encoder, "overhead_seconds", help, names, seconds(overhead))?;
        let help = "Requests refused to a known tenant, by reason";
        counter(encoder, "tenant_requests_refused", help, ["tenant", "reason"], refused)?;
        let refused = self.plane.refused().into_iter().map(|(reason, count)| ([reason], count));
        counter(encoder, "requests_refused", "Requests refused, by reason", ["reason"], refused)?;
        let idle = self.plane.idle_ns.load(Relaxed) as f64 / 1e9;
        single(encoder, "idle_seconds", "CPU time while nobody asked", idle)
    }

    /// Of tensor models: what ran, and what the cache answered.
    fn models(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let entries = self.plane.registry.entries();
        let tensors = || entries.values().filter(|entry| matches!(entry.kind, Kind::Tensors(_)));
        let taken = self.models.update(tensors().map(|entry| entry.name.as_str()));
        let (mut executions, mut hits, mut misses) = (Sums::new(), Sums::new(), Sums::new());
        for entry in tensors() {
            let label = [Shown::label(&taken, &entry.name)];
            for slot in entry.slots() {
                let loaded = slot.loaded().map_or(0, |loaded| loaded.lane.batches().values().map(|b| b.count).sum());
                *executions.entry(label).or_default() += slot.stats.executions.load(Relaxed) + loaded;
                *hits.entry(label).or_default() += slot.stats.cache_hit.count();
                *misses.entry(label).or_default() += slot.stats.cache_miss.count();
            }
        }
        let names = ["model"];
        counter(encoder, "executions", "Batches that a model computed", names, executions)?;
        counter(encoder, "cache_hits", "Requests answered from the cache", names, hits)?;
        counter(encoder, "cache_misses", "Requests looked up in the cache in vain", names, misses)?;
        let registry = &self.plane.registry;
        single(encoder, "model_loads", "Versions loaded", registry.loads.load(Relaxed))?;
        single(encoder, "model_evictions", "Versions that left for want of memory", registry.evictions.load(Relaxed))?;
        let (loaded, bytes) = registry.in_memory();
        gauge(encoder, "loaded_versions", "Versions in memory", loaded as u64)?;
        gauge(encoder, "loaded_bytes", "Memory that they say they hold", bytes as u64)
    }

    fn state(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let Plane { scheduler, in_work, connections, cache, .. } = &*self.plane;
        gauge(encoder, "queue_rows", "Rows that wait to be computed", scheduler.waiting_rows() as u64)?;
        gauge(encoder, "requests_in_work", "Requests being worked on", in_work.load(Relaxed) as u64)?;
        gauge(encoder, "connections", "Open connections", connections.load(Relaxed) as u64)?;
        gauge(encoder, "cache_bytes", "Memory of cached answers", cache.bytes())?;
        gauge(encoder, "cache_entries", "Cached answers", cache.entries() as u64)
    }
}

fn seconds<K>(ns: BTreeMap<K, u64>) -> impl Iterator<Item = (K, f64)> {
    ns.into_iter().map(|(key, ns)| (key, ns as f64 / 1e9))
}

fn counter<'a, const N: usize, V: EncodeCounterValue>(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    labels: [&'static str; N],
    values: impl IntoIterator<Item = ([&'a str; N], V)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (texts, value) in values {
        let mut pairs = labels.map(|label| (label, ""));
        pairs.iter_mut().zip(texts).for_each(|(pair, text)| pair.1 = text);
        family.encode_family(&pairs)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
    }
    Ok(())
}

/// A counter without labels.
fn single(encoder: &mut DescriptorEncoder, name: &str, help: &str, value: impl EncodeCounterValue) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    family.encode_counter::<NoLabelSet, _, u64>(&value, None)
}

fn gauge(encoder: &mut DescriptorEncoder, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
    encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
}

#[cfg(test)]
mod tests;
