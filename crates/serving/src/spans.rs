//! Traces leave the server as OpenTelemetry's spans, by OTLP over gRPC or HTTP. Whoever finishes something leaves a
//! note in a bounded queue and goes on; shaping, sending and trying again is the affair of one task beside the requests.

mod options;
mod send;
mod shape;

pub use options::{Protocol, SpanOptions, SpanOptionsError};
pub use shape::{Attribute, Work};

use crate::call::{Call, Trace};
use crate::plane::Observer;
use crate::refusal::Refusal;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use shape::Finished;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, oneshot};

/// Spans that wait to be sent, at most; what comes beyond is dropped and counted. At ten spans a request these are 6,500
/// requests and some 3 MB: a second of work between two batches, or a short outage of the collector.
pub const QUEUE_SPANS_MAX: usize = 65_536;

/// What the task is told.
enum Note {
    Request(Box<Finished>),
    Work(Box<Work>),
    Flush(oneshot::Sender<()>),
}

#[derive(Default)]
struct Counts {
    waiting: AtomicUsize,
    sent: AtomicU64,
    overflowed: AtomicU64,
    undelivered: AtomicU64,
    rejected: AtomicU64,
}

/// What became of the spans so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpanCounts {
    pub waiting: u64,
    pub sent: u64,
    /// Dropped because [`QUEUE_SPANS_MAX`] waited already.
    pub overflowed: u64,
    /// Dropped because the collector could not be reached or refused them all.
    pub undelivered: u64,
    /// That the collector took the batch of, and refused themselves.
    pub rejected: u64,
}

/// Sends spans. Clones share one queue; the task ends with the last of them.
#[derive(Clone)]
pub struct Exporter {
    queue: mpsc::UnboundedSender<Note>,
    counts: Arc<Counts>,
    ratio: f64,
}

impl Exporter {
    /// Starts the task that sends, within Tokio's runtime. The collector need not be there yet.
    pub fn start(options: &SpanOptions) -> Result<Exporter, SpanOptionsError> {
        let target = options.target()?;
        let counts = Arc::new(Counts::default());
        let (queue, notes) = mpsc::unbounded_channel();
        let sender = send::Sender::new(target, &options.service_name, Arc::clone(&counts));
        tokio::spawn(sender.run(notes));
        Ok(Exporter { queue, counts, ratio: options.ratio })
    }

    /// Whether this trace is exported: as its caller decided, or by its id where it begins here.
    pub fn samples(&self, trace: &Trace) -> bool {
        trace.sampled && (trace.parent.is_some() || chosen(trace.trace, self.ratio))
    }

    /// Where work that begins now stands: in its parent's trace, or in one of its own.
    pub fn begin(&self, parent: Option<&Trace>) -> Trace {
        let trace = parent.map_or_else(Trace::new, Trace::child);
        let sampled = self.samples(parent.unwrap_or(&trace));
        Trace { sampled, ..trace }
    }

    /// A piece of work that has ended. Never waits.
    pub fn record(&self, work: Work) {
        if self.samples(&work.trace) && self.reserve(1) {
            self.put(Note::Work(Box::new(work)));
        }
    }

    /// Work that began and ended under this parent, or by itself; the answer is the parent of what happened within.
    pub fn span(
        &self,
        name: impl Into<String>,
        parent: Option<Trace>,
        start: SystemTime,
        end: SystemTime,
        attributes: Vec<(&'static str, Attribute)>,
    ) -> Trace {
        let trace = self.begin(parent.as_ref());
        self.record(Work { name: name.into(), trace, start, end, attributes, error: None });
        trace
    }

    /// Has everything sent that was noted before, and says whether there was time for that. What the collector did not
    /// take is in the counts.
    pub async fn flush(&self, within: Duration) -> bool {
        let (done, wait) = oneshot::channel();
        self.put(Note::Flush(done));
        matches!(tokio::time::timeout(within, wait).await, Ok(Ok(())))
    }

    pub fn counts(&self) -> SpanCounts {
        let Counts { waiting, sent, overflowed, undelivered, rejected } = &*self.counts;
        SpanCounts {
            waiting: waiting.load(Relaxed) as u64,
            sent: sent.load(Relaxed),
            overflowed: overflowed.load(Relaxed),
            undelivered: undelivered.load(Relaxed),
            rejected: rejected.load(Relaxed),
        }
    }

    /// Takes places in the queue; false where there are too few.
    fn reserve(&self, spans: usize) -> bool {
        let Counts { waiting, overflowed, .. } = &*self.counts;
        let fits = waiting.fetch_add(spans, Relaxed) + spans <= QUEUE_SPANS_MAX;
        if !fits {
            waiting.fetch_sub(spans, Relaxed);
            overflowed.fetch_add(spans as u64, Relaxed);
        }
        fits
    }

    fn put(&self, note: Note) {
        // Refused only once the runtime is gone, and with it everybody who could read the spans' fate.
        let _ = self.queue.send(note);
    }
}

impl Observer for Exporter {
    fn samples(&self, trace: &Trace) -> bool {
        Exporter::samples(self, trace)
    }

    fn finished(&self, model: &str, version: &str, call: &Call, outcome: Result<(), &Refusal>) {
        if !self.samples(&call.trace) {
            return;
        }
        let finished = Finished::of(model, version, call, outcome);
        if self.reserve(finished.spans()) {
            self.put(Note::Request(Box::new(finished)));
        }
    }
}

/// OpenTelemetry's consistent sampling: the trace id's last 56 bits are compared with a threshold, so that all services
/// with this ratio keep the same traces
/// (https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/).
fn chosen(trace: u128, ratio: f64) -> bool {
    const RANDOM_BITS: u32 = 56;
    let random = trace as u64 & ((1 << RANDOM_BITS) - 1);
    random >= ((1.0 - ratio) * (1_u64 << RANDOM_BITS) as f64) as u64
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exporter").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl Collector for Exporter {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let counts = self.counts();
        let help = "Spans that wait to be sent";
        encoder.encode_descriptor("spans_waiting", help, None, MetricType::Gauge)?.encode_gauge(&counts.waiting)?;
        let help = "Spans that the collector took";
        let mut sent = encoder.encode_descriptor("spans_sent", help, None, MetricType::Counter)?;
        sent.encode_counter::<NoLabelSet, _, u64>(&counts.sent, None)?;
        let help = "Spans that reached nobody, by reason";
        let mut dropped = encoder.encode_descriptor("spans_dropped", help, None, MetricType::Counter)?;
        let reasons =
            [("overflow", counts.overflowed), ("undelivered", counts.undelivered), ("rejected", counts.rejected)];
        for (reason, count) in reasons {
            dropped.encode_family(&[("reason", reason)])?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
