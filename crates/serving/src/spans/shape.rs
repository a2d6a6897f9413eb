//! From what happened to OTLP's messages: a request becomes a span of its own and one for each stage that took place.

use crate::call::{CacheUse, Call, Stage, Trace};
use crate::refusal::Refusal;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{Span, Status, span::SpanKind, status::StatusCode};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Characters of a name or a value at most: callers choose some of them.
const TEXT_MAX: usize = 256;

/// Flags of a span (OTLP, trace.proto): sampled; it is known whether the parent is remote; it is.
const SAMPLED: u32 = 0x001;
const REMOTE_KNOWN: u32 = 0x100;
const REMOTE: u32 = 0x200;

/// A piece of work that is no request: a job, a step of a pipeline.
#[derive(Clone, Debug)]
pub struct Work {
    pub name: String,
    /// Its own place in the trace, from [`Exporter::begin`](super::Exporter::begin).
    pub trace: Trace,
    pub start: SystemTime,
    pub end: SystemTime,
    pub attributes: Vec<(&'static str, Attribute)>,
    /// Why it failed.
    pub error: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Attribute {
    Text(String),
    Int(i64),
    Float(f64),
    Flag(bool),
}

impl From<&str> for Attribute {
    fn from(text: &str) -> Self {
        Attribute::Text(text.to_owned())
    }
}

impl From<String> for Attribute {
    fn from(text: String) -> Self {
        Attribute::Text(text)
    }
}

impl From<i64> for Attribute {
    fn from(number: i64) -> Self {
        Attribute::Int(number)
    }
}

impl From<usize> for Attribute {
    fn from(number: usize) -> Self {
        Attribute::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<f64> for Attribute {
    fn from(number: f64) -> Self {
        Attribute::Float(number)
    }
}

impl From<bool> for Attribute {
    fn from(flag: bool) -> Self {
        Attribute::Flag(flag)
    }
}

pub(super) fn attribute(name: &str, value: impl Into<Attribute>) -> KeyValue {
    let value = match value.into() {
        Attribute::Text(text) => Value::StringValue(shortened(&text)),
        Attribute::Int(number) => Value::IntValue(number),
        Attribute::Float(number) => Value::DoubleValue(number),
        Attribute::Flag(flag) => Value::BoolValue(flag),
    };
    KeyValue { key: name.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

impl Work {
    pub(super) fn shape(self) -> Span {
        let Work { name, trace, start, end, attributes, error } = self;
        let mut span = named(&name, SpanKind::Internal, &trace, start, end);
        span.attributes = attributes.into_iter().map(|(name, value)| attribute(name, value)).collect();
        span.status = error.as_deref().map(failed);
        span
    }
}

/// What is kept of a request until its spans are shaped: as little as the hot path can do with.
pub(super) struct Finished {
    model: String,
    version: String,
    tenant: Arc<str>,
    trace: Trace,
    received_at: SystemTime,
    took: Duration,
    cache: CacheUse,
    batch_rows: usize,
    cpu: Duration,
    stages: Vec<(Stage, Duration, Duration)>,
    refusal: Option<Refused>,
}

struct Refused {
    status: u16,
    reason: &'static str,
    error: String,
}

impl Finished {
    pub fn of(model: &str, version: &str, call: &Call, outcome: Result<(), &Refusal>) -> Finished {
        let refused = |refusal: &Refusal| Refused {
            status: refusal.status.as_u16(),
            reason: refusal.reason,
            error: shortened(&refusal.error),
        };
        Finished {
            model: shortened(model),
            version: version.to_owned(),
            tenant: Arc::clone(&call.tenant.name),
            trace: call.trace,
            received_at: call.received_at,
            took: call.received.elapsed(),
            cache: call.cache,
            batch_rows: call.batch_rows,
            cpu: call.cpu,
            stages: call.stages().collect(),
            refusal: outcome.err().map(refused),
        }
    }

    /// How many spans it becomes.
    pub fn spans(&self) -> usize {
        1 + self.stages.len()
    }

    pub fn shape(self, spans: &mut Vec<Span>) {
        let end = self.received_at + self.took;
        let name = format!("infer {}", self.model);
        let mut span = named(&name, SpanKind::Server, &self.trace, self.received_at, end);
        if self.trace.parent.is_some() {
            span.flags |= REMOTE;
        }
        span.attributes = vec![
            attribute("homeostat.model", self.model),
            attribute("homeostat.tenant", &*self.tenant),
            attribute("homeostat.cache", self.cache.name()),
            attribute("homeostat.batch_rows", self.batch_rows),
            attribute("homeostat.cpu_seconds", self.cpu.as_secs_f64()),
        ];
        // Not known where the request was refused before a version was chosen.
        if !self.version.is_empty() {
            span.attributes.push(attribute("homeostat.version", self.version));
        }
        if let Some(Refused { status, reason, error }) = self.refusal {
            span.attributes.push(attribute("homeostat.refused", reason));
            span.attributes.push(attribute("http.response.status_code", i64::from(status)));
            // What its caller did wrong is no error of the server
            // (https://opentelemetry.io/docs/specs/semconv/http/http-spans/#status).
            if status >= 500 {
                span.attributes.push(attribute("error.type", reason));
                span.status = Some(failed(&format!("{reason}: {error}")));
            }
        }
        spans.push(span);
        for (stage, start, took) in self.stages {
            // Stages of a request that went in pieces are sums, which must not reach beyond the request.
            let (from, to) = (start.min(self.took), (start + took).min(self.took));
            let (from, to) = (self.received_at + from, self.received_at + to);
            spans.push(named(stage.name(), SpanKind::Internal, &self.trace.child(), from, to));
        }
    }
}

fn named(name: &str, kind: SpanKind, trace: &Trace, start: SystemTime, end: SystemTime) -> Span {
    Span {
        trace_id: trace.trace.to_be_bytes().to_vec(),
        span_id: trace.span.to_be_bytes().to_vec(),
        parent_span_id: trace.parent.map(|parent| parent.to_be_bytes().to_vec()).unwrap_or_default(),
        flags: SAMPLED | REMOTE_KNOWN,
        name: shortened(name),
        kind: kind as i32,
        start_time_unix_nano: nanos(start),
        end_time_unix_nano: nanos(end.max(start)),
        ..Span::default()
    }
}

fn failed(why: &str) -> Status {
    Status { message: shortened(why), code: StatusCode::Error as i32 }
}

fn nanos(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(TEXT_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
