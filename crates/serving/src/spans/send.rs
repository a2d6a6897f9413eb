//! The task that sends: batches of spans by OTLP, over gRPC or as protobuf over HTTP. Both are one POST of the same
//! bytes and differ in their frame and in where the answer stands.

use super::options::{Protocol, Target};
use super::shape::attribute;
use super::{Counts, Note};
use crate::call::Trace;
use axum::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tonic::Code;

/// A batch is sent when it has so many spans or is so old: OpenTelemetry's own size, and a second instead of its five,
/// so that a trace can be looked at soon.
const BATCH_SPANS: usize = 512;
const BATCH_AGE: Duration = Duration::from_secs(1);
/// For one attempt, and for a batch with everything that is tried again; then it is dropped.
const ATTEMPT_MAX: Duration = Duration::from_secs(5);
const DELIVERY_MAX: Duration = Duration::from_secs(15);
/// Between attempts: at first, doubled each time up to the largest.
const PAUSE_FIRST: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Of an answer.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Before a message in gRPC: whether it is compressed, and its length.
const FRAME: usize = 5;

pub(super) struct Sender {
    http: Client<HttpConnector, Full<Bytes>>,
    target: Target,
    resource: Resource,
    counts: Arc<Counts>,
    /// Whether the last batch was lost: that is logged when it changes, not each time.
    failing: bool,
}

/// Why a batch was not taken.
struct Trouble {
    what: String,
    /// Whether another attempt may help, and the least pause that the collector asks for.
    again: Option<Duration>,
}

#[derive(Default)]
struct Batch {
    spans: Vec<Span>,
    flushes: Vec<oneshot::Sender<()>>,
}

impl Batch {
    fn take(&mut self, note: Note, counts: &Counts) {
        let before = self.spans.len();
        match note {
            Note::Request(finished) => finished.shape(&mut self.spans),
            Note::Work(work) => self.spans.push(work.shape()),
            Note::Flush(done) => self.flushes.push(done),
        }
        counts.waiting.fetch_sub(self.spans.len() - before, Relaxed);
    }

    fn is_due(&self) -> bool {
        self.spans.len() >= BATCH_SPANS || !self.flushes.is_empty()
    }
}

impl Sender {
    pub fn new(target: Target, service: &str, counts: Arc<Counts>) -> Sender {
        let mut http = Client::builder(TokioExecutor::new());
        http.http2_only(target.protocol == Protocol::Grpc);
        let attributes =
            vec![attribute("service.name", service), attribute("service.version", env!("CARGO_PKG_VERSION"))];
        let resource = Resource { attributes, ..Resource::default() };
        Sender { http: http.build_http(), target, resource, counts, failing: false }
    }

    /// Until nobody can leave a note any more.
    pub async fn run(mut self, mut notes: mpsc::UnboundedReceiver<Note>) {
        while let Some(first) = notes.recv().await {
            let mut batch = Batch::default();
            batch.take(first, &self.counts);
            let fill = async {
                while !batch.is_due() {
                    let Some(note) = notes.recv().await else { return };
                    batch.take(note, &self.counts);
                }
            };
            // Of age is as good as full.
            let _ = tokio::time::timeout(BATCH_AGE, fill).await;
            self.deliver(batch.spans).await;
            for flush in batch.flushes {
                // Who asked may have stopped waiting.
                let _ = flush.send(());
            }
        }
    }

    async fn deliver(&mut self, spans: Vec<Span>) {
        let count = spans.len() as u64;
        if count == 0 {
            return;
        }
        let body = self.encode(spans);
        let began = Instant::now();
        let mut pause = PAUSE_FIRST;
        let outcome = loop {
            let left = DELIVERY_MAX.saturating_sub(began.elapsed());
            let tried = tokio::time::timeout(ATTEMPT_MAX.min(left), self.attempt(body.clone())).await;
            let trouble = match tried.unwrap_or_else(|_| Err(Trouble::passing("it does not answer"))) {
                Ok(rejected) => break Ok(rejected),
                Err(trouble) => trouble,
            };
            // Half of the pause is left to chance, so that servers that lost a collector together return one by one.
            let chance = Trace::new().span as f64 / u64::MAX as f64;
            let wait = trouble.again.map(|least| least.max(pause.mul_f64(0.5 + chance / 2.0)));
            match wait.filter(|wait| began.elapsed() + *wait < DELIVERY_MAX) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => break Err(trouble.what),
            }
            pause = (pause * 2).min(PAUSE_MAX);
        };
        self.settle(count, outcome);
    }

    fn settle(&mut self, count: u64, outcome: Result<u64, String>) {
        let to = self.target.uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
        match outcome {
            Ok(rejected) => {
                let rejected = rejected.min(count);
                self.counts.sent.fetch_add(count - rejected, Relaxed);
                self.counts.rejected.fetch_add(rejected, Relaxed);
                if self.failing {
                    tracing::info!("spans reach the collector at {to} again");
                }
                self.failing = false;
            }
            Err(what) => {
                self.counts.undelivered.fetch_add(count, Relaxed);
                if !self.failing {
                    tracing::warn!(
                        "{count} spans did not reach the collector at {to}: {what}; more are dropped until it takes \
                         them, check that it runs there and speaks this protocol"
                    );
                }
                self.failing = true;
            }
        }
    }

    /// The request's body; over gRPC with the frame before it.
    fn encode(&self, spans: Vec<Span>) -> Bytes {
        let scope = InstrumentationScope {
            name: "homeostat".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            ..Default::default()
        };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
        let resource_spans =
            vec![ResourceSpans { resource: Some(self.resource.clone()), scope_spans, ..ResourceSpans::default() }];
        let message = ExportTraceServiceRequest { resource_spans };
        let mut body = BytesMut::with_capacity(FRAME + message.encoded_len());
        if self.target.protocol == Protocol::Grpc {
            body.put_u8(0);
            body.put_u32(message.encoded_len() as u32);
        }
        body.put_slice(&message.encode_to_vec());
        body.freeze()
    }

    /// Sends once; the answer is how many spans the collector rejected.
    async fn attempt(&self, body: Bytes) -> Result<u64, Trouble> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.target.uri.clone();
        let headers = request.headers_mut();
        headers.extend(self.target.headers.clone());
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("homeostat/", env!("CARGO_PKG_VERSION"))));
        match self.target.protocol {
            Protocol::Grpc => {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
                headers.insert(header::TE, HeaderValue::from_static("trailers"));
            }
            Protocol::Http => {
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
            }
        }
        let response = self.http.request(request).await.map_err(|error| Trouble::passing(&innermost(&error)))?;
        let (head, body) = response.into_parts();
        let answer = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let answer = answer.map_err(|error| Trouble::passing(&innermost(&*error)))?;
        let trailers = answer.trailers().cloned();
        let body = answer.to_bytes();
        match self.target.protocol {
            Protocol::Http => http_verdict(head.status, &head.headers)?,
            Protocol::Grpc => grpc_verdict(head.status, trailers.as_ref().unwrap_or(&head.headers))?,
        }
        let framed = if self.target.protocol == Protocol::Grpc { FRAME } else { 0 };
        Ok(rejected(body.get(framed..).unwrap_or_default()))
    }
}

impl Trouble {
    fn passing(what: &str) -> Trouble {
        Trouble { what: what.to_owned(), again: Some(Duration::ZERO) }
    }
}

/// Which answers are worth another attempt, OTLP sets down (https://opentelemetry.io/docs/specs/otlp/).
fn http_verdict(status: StatusCode, headers: &HeaderMap) -> Result<(), Trouble> {
    if status.is_success() {
        return Ok(());
    }
    let after = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let passing = matches!(status.as_u16(), 429 | 502 | 503 | 504);
    let again = passing.then(|| Duration::from_secs(after.unwrap_or(0)));
    Err(Trouble { what: format!("it answers {status}"), again })
}

fn grpc_verdict(status: StatusCode, trailers: &HeaderMap) -> Result<(), Trouble> {
    let Some(said) = tonic::Status::from_header_map(trailers) else {
        http_verdict(status, trailers)?;
        return Err(Trouble { what: "its answer is none of gRPC".to_owned(), again: None });
    };
    let passing = match said.code() {
        Code::Ok => return Ok(()),
        Code::Cancelled | Code::DeadlineExceeded | Code::Aborted => true,
        Code::OutOfRange | Code::Unavailable | Code::DataLoss => true,
        _ => false,
    };
    let what = format!("it answers {:?}: {}", said.code(), said.message());
    Err(Trouble { what, again: passing.then_some(Duration::ZERO) })
}

/// Spans that a collector which took the batch says it did not take. Some answer without a message: all are taken.
fn rejected(answer: &[u8]) -> u64 {
    let said = ExportTraceServiceResponse::decode(answer).ok().and_then(|answer| answer.partial_success);
    said.map_or(0, |partial| u64::try_from(partial.rejected_spans).unwrap_or(0))
}

/// The cause that says most: what the outer errors add are the layers of our client.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
