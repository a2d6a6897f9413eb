//! Prometheus: everything is counted elsewhere; here it is only read out. Labels are bounded: model, version, and names
//! that the program itself gives.

use super::state::{App, ModelState};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use serving::row_cache::Tally;
use serving::spans::Exporter;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};

/// Labels and a count.
type Labelled = (Vec<(&'static str, String)>, u64);

/// Where a model's look-ups are counted.
type TallyOf = fn(&ModelState) -> &Tally;
type CountOf = fn(&Tally) -> &AtomicU64;

/// Everything that can be scraped, registered once.
pub fn registry(app: &Arc<App>, exporter: Option<&Exporter>) -> Registry {
    let mut registry = Registry::default();
    serving::metrics::register(&mut registry, Arc::clone(&app.plane));
    let ours = registry.sub_registry_with_prefix("homeostat");
    ours.register_collector(Box::new(Scrape(Arc::downgrade(app))));
    if let Some(exporter) = exporter {
        ours.register_collector(Box::new(exporter.clone()));
    }
    registry
}

pub fn render(app: &App) -> String {
    let mut text = String::new();
    let Some(registry) = app.registry.get() else { return text };
    if let Err(error) = prometheus_client::encoding::text::encode(&mut text, registry) {
        tracing::warn!("metrics could not be written: {error}");
    }
    text
}

struct Scrape(Weak<App>);

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scrape")
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let Some(app) = self.0.upgrade() else { return Ok(()) };
        let states = || app.models.iter();
        let each = |count: fn(&ModelState) -> u64| {
            states().map(|(model, state)| (vec![("model", model.clone())], count(state))).collect::<Vec<_>>()
        };
        let counters: [(&str, &str, Vec<Labelled>); 9] = [
            ("model_requests", "Requests to a declared model, answered or refused", each(|s| s.requests.load(Relaxed))),
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
        cached(&app, &mut encoder)?;
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
        counter(
            &mut encoder,
            "model_requests_refused",
            "Requests to a declared model that were not answered, by reason",
            &refused,
        )?;
        counter(&mut encoder, "contract_violations", "Values that broke their contract", &violations)?;
        counter(
            &mut encoder,
            "journal_failures",
            "Writes that the journal could not do",
            &[(vec![], app.journal.failures())],
        )?;
        let mut gauge = |name: &str, help: &str, value: f64| {
            encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
        };
        gauge("routing_number", "Number of the routing snapshot in force", app.routes.load().routing.number as f64)
    }
}

/// Look-ups of answers and features of declared models, in rows.
fn cached(app: &App, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let kinds: [(&str, TallyOf, u64); 2] = [
        ("prediction", |state| &state.answers, app.memories.answers.bytes()),
        ("feature", |state| &state.features.tally, app.memories.features.bytes()),
    ];
    for (kind, tally, bytes) in kinds {
        let counts: [(&str, &str, CountOf); 4] = [
            ("hits", "Rows found", |tally| &tally.hits),
            ("misses", "Rows looked up and not found", |tally| &tally.misses),
            ("evictions", "Rows that had to leave", |tally| &tally.evictions),
            ("bypassed", "Rows not looked up because it would cost more than it saves", |tally| &tally.bypassed),
        ];
        for (name, help, count) in counts {
            let each = app.models.iter();
            let each = each.map(|(model, state)| (vec![("model", model.clone())], count(tally(state)).load(Relaxed)));
            counter(encoder, &format!("{kind}_cache_{name}"), help, &each.collect::<Vec<_>>())?;
        }
        encoder
            .encode_descriptor(&format!("{kind}_cache_bytes"), "Memory of what is kept", None, MetricType::Gauge)?
            .encode_gauge(&bytes)?;
    }
    Ok(())
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
