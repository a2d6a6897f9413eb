//! Prometheus: everything is counted elsewhere; here it is only read out. Labels are bounded: model, version, and names
//! that the program itself gives.

use super::state::{App, ModelState};
use super::streams::Stream;
use crate::streams::Doing;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use serving::row_cache::Tally;
use serving::spans::Exporter;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use storage::streams::Spool;
use vocabulary::Timestamp;

/// Labels and a count.
type Labelled = (Vec<(&'static str, String)>, u64);

/// Where a model's look-ups are counted.
type TallyOf = fn(&ModelState) -> &Tally;
type CountOf = fn(&Tally) -> &AtomicU64;
/// A count of a stream.
type StreamCountOf = fn(&Stream) -> u64;
/// A stream's gauge at an instant; none where it is not known.
type GaugeOf = fn(&Stream, Timestamp) -> Option<f64>;

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
        alerted(&app, &mut encoder)?;
        cached(&app, &mut encoder)?;
        streamed(&app, &mut encoder)?;
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

/// Of each stream: events, how far it is behind, and what waits and is held.
fn streamed(app: &App, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let all = &app.streams.all;
    let label = |name: &String| ("stream", name.clone());
    let mut events = Vec::new();
    for (name, stream) in all {
        let outcomes = crate::streams::outcomes(&stream.live);
        events.extend(outcomes.into_iter().map(|(what, n)| (vec![label(name), ("outcome", what.to_owned())], n)));
    }
    counter(encoder, "stream_events", "Events by what became of them", &events)?;
    let lookups = all.iter().flat_map(|(name, stream)| {
        let outcome = |(what, n): (&'static str, u64)| (vec![label(name), ("outcome", what.to_owned())], n);
        stream.lookups.counts().into_iter().map(outcome).collect::<Vec<_>>()
    });
    let help = "Rows of predictions that the stream was asked about, by what became of it";
    counter(encoder, "stream_lookups", help, &lookups.collect::<Vec<_>>())?;
    let each = |count: StreamCountOf| all.iter().map(|(name, s)| (vec![label(name)], count(s))).collect::<Vec<_>>();
    let counts: [(&str, &str, StreamCountOf); 4] = [
        ("stream_events_handed_in", "Events kept that came over HTTP", |s| s.handed_in.load(Relaxed)),
        ("stream_events_broken", "Events refused over HTTP for what they hold", |s| s.broken.load(Relaxed)),
        ("stream_events_contended", "Events refused over HTTP because too many wait", |s| {
            s.spool.lock().as_ref().map_or(0, Spool::refused)
        }),
        ("stream_rows_missed", "Rows that the source removed before they were read", |s| s.live.standing.lock().missed),
    ];
    for (name, help, count) in counts {
        counter(encoder, name, help, &each(count))?;
    }
    let now = crate::clock::wall();
    let gauges: [(&str, &str, GaugeOf); 7] = [
        ("stream_running", "Whether events are taken in: 1, or 0 where the stream waits or failed", |s, _| {
            Some(f64::from(u8::from(s.live.standing.lock().doing == Doing::Running)))
        }),
        ("stream_lag_rows", "Rows that wait at the source", |s, _| s.live.standing.lock().lag.rows.map(|n| n as f64)),
        ("stream_lag_bytes", "Bytes that wait at the source", |s, _| {
            s.live.standing.lock().lag.bytes.map(|n| n as f64)
        }),
        ("stream_watermark_age_seconds", "How far the watermark is behind the clock", |s, now| {
            let watermark = s.live.engine.read().watermark();
            (watermark != Timestamp::MIN).then(|| (now - watermark).as_seconds())
        }),
        ("stream_commit_age_seconds", "Since the last commit", |s, now| {
            s.live.standing.lock().committed_at.map(|at| (now - at).as_seconds())
        }),
        ("stream_keys", "Keys with live state", |s, _| Some(s.live.engine.read().sizes().keys as f64)),
        ("stream_tiles", "Tiles held", |s, _| Some(s.live.engine.read().sizes().tiles as f64)),
    ];
    for (name, help, value) in gauges {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (stream, state) in all {
            if let Some(value) = value(state, now) {
                family.encode_family(&[label(stream)])?.encode_gauge(&value)?;
            }
        }
    }
    Ok(())
}

/// Alerts by receiver and by what became of them.
fn alerted(app: &App, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let mut alerts = Vec::new();
    for (receiver, sent) in app.alerting.counts() {
        for (end, n) in [("sent", &sent.sent), ("failed", &sent.failed), ("dropped", &sent.dropped)] {
            alerts.push((vec![("receiver", receiver.to_owned()), ("end", end.to_owned())], n.load(Relaxed)));
        }
    }
    counter(encoder, "alerts", "Alerts to each receiver", &alerts)
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
