//! Prometheus: everything is counted elsewhere; here it is only read out. Labels are bounded: model, version, and names
//! that the program itself gives.

use super::histogram::upper_ms;
use super::state::App;
use crate::clock;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Every so many of our fine buckets make one of Prometheus's: a factor of two.
const FINE_BUCKETS: usize = 16;
/// From 64 µs to 33 s.
const DOUBLINGS: std::ops::RangeInclusive<usize> = 6..=25;

/// Labels and a count.
type Labelled = (Vec<(&'static str, String)>, u64);

pub fn render(app: &Arc<App>) -> String {
    let mut registry = Registry::with_prefix("homeostat");
    registry.register_collector(Box::new(Scrape(Arc::clone(app))));
    let mut text = String::new();
    if let Err(error) = prometheus_client::encoding::text::encode(&mut text, &registry) {
        tracing::warn!("metrics could not be written: {error}");
    }
    text
}

struct Scrape(Arc<App>);

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let app = &self.0;
        let states = || app.models.iter();
        let each = |count: fn(&super::state::ModelState) -> u64| {
            states().map(|(model, state)| (vec![("model", model.clone())], count(state))).collect::<Vec<_>>()
        };
        let counters: [(&str, &str, Vec<Labelled>); 9] = [
            ("requests", "Requests to the data plane", each(|s| s.requests.load(Relaxed))),
            ("predictions", "Rows answered and logged", each(|s| s.ledger().predictions)),
            ("outcomes", "Outcomes joined to a prediction", each(|s| s.ledger().outcomes)),
            ("outcomes_corrected", "Outcomes that changed a known one", each(|s| s.ledger().corrected)),
            ("outcomes_duplicate", "Outcomes handed in again", each(|s| s.duplicate_outcomes.load(Relaxed))),
            ("outcomes_unknown", "Outcomes for no prediction of the model", each(|s| s.unknown_outcomes.load(Relaxed))),
            ("shadow_rows", "Rows scored off the hot path", each(|s| s.worker.scored_rows.load(Relaxed))),
            (
                "shadow_rows_dropped",
                "Rows not scored because the queue was full",
                each(|s| s.worker.dropped_rows.load(Relaxed)),
            ),
            ("ledger_rows_evicted", "Predictions no longer in memory", each(|s| s.ledger().evicted)),
        ];
        for (name, help, values) in counters {
            counter(&mut encoder, name, help, &values)?;
        }
        let mut refused = Vec::new();
        let mut violations = Vec::new();
        for (model, state) in states() {
            let counted = state.refused.lock();
            refused.extend(
                counted
                    .iter()
                    .map(|(reason, n)| (vec![("model", model.clone()), ("reason", (*reason).to_owned())], *n)),
            );
            let counted = state.violations.lock();
            for (column, kinds) in &counted.counts {
                for (kind, actions) in kinds {
                    for (action, n) in actions {
                        let labels = vec![
                            ("model", model.clone()),
                            ("column", column.clone()),
                            ("kind", label(kind)),
                            ("action", label(action)),
                        ];
                        violations.push((labels, *n));
                    }
                }
            }
        }
        counter(&mut encoder, "requests_refused", "Requests not answered, by reason", &refused)?;
        counter(&mut encoder, "contract_violations", "Values that broke their contract", &violations)?;
        counter(
            &mut encoder,
            "journal_failures",
            "Writes that the journal could not do",
            &[(vec![], app.journal.failures())],
        )?;
        self.latency(&mut encoder)?;
        let mut gauge = |name: &str, help: &str, value: f64| {
            encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
        };
        gauge("routing_number", "Number of the routing snapshot in force", app.routes.load().routing.number as f64)?;
        gauge("requests_in_work", "Requests being worked on", app.in_work.load(Relaxed) as f64)?;
        gauge("process_resident_bytes", "Memory of the process", resident_bytes())?;
        gauge("process_cpu_used_seconds", "CPU time of the process so far", clock::cpu_seconds())
    }
}

impl Scrape {
    fn latency(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        let name = "request_duration_seconds";
        let help = "Time to answer a request to the data plane";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (model, state) in &self.0.models {
            let fine = state.latency.snapshot();
            let mut buckets = Vec::new();
            let mut from = 0;
            for doubling in DOUBLINGS {
                let to = doubling * FINE_BUCKETS;
                buckets.push((upper_ms(to) / 1e3, fine[from..=to].iter().sum::<u64>()));
                from = to + 1;
            }
            buckets.push((f64::MAX, fine[from..].iter().sum()));
            let labels = [("model", model.as_str())];
            let total = fine.iter().sum();
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                state.latency.sum_seconds(),
                total,
                &buckets,
                None,
            )?;
        }
        Ok(())
    }
}

fn counter(encoder: &mut DescriptorEncoder, name: &str, help: &str, values: &[Labelled]) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (labels, value) in values {
        if labels.is_empty() {
            family.encode_counter::<NoLabelSet, _, u64>(value, None)?;
        } else {
            family.encode_family(labels)?.encode_counter::<NoLabelSet, _, u64>(value, None)?;
        }
    }
    Ok(())
}

fn label<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

/// Resident memory, where the system says it.
pub fn resident_bytes() -> f64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<f64>().ok());
    pages.unwrap_or(0.0) * rustix::param::page_size() as f64
}
