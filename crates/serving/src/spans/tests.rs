//! Spans against collectors that speak both protocols, turn batches away at first, or are not there.

use super::*;
use crate::call::{CacheUse, Stage};
use crate::tenant::Tenants;
use axum::http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use prost::Message;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::{Instant, UNIX_EPOCH};

const FLUSH: Duration = Duration::from_secs(10);

/// What a collector took, after it turned the first batches away.
#[derive(Default)]
struct Taken {
    turns_away: usize,
    attempts: usize,
    headers: HeaderMap,
    spans: Vec<Span>,
}

async fn collector(protocol: Protocol, turns_away: usize) -> (SpanOptions, Arc<Mutex<Taken>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Some(format!("http://{}", listener.local_addr().unwrap()));
    let taken = Arc::new(Mutex::new(Taken { turns_away, ..Taken::default() }));
    let state = Arc::clone(&taken);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let state = Arc::clone(&state);
            let service = hyper::service::service_fn(move |request| answer(request, Arc::clone(&state)));
            tokio::spawn(async move {
                let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    let headers = BTreeMap::from([("x-key".to_owned(), "k".to_owned())]);
    (SpanOptions { endpoint, protocol, headers, ..SpanOptions::default() }, taken)
}

type Body = http_body_util::combinators::BoxBody<Bytes, Infallible>;

async fn answer(request: Request<Incoming>, state: Arc<Mutex<Taken>>) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let grpc = head.headers[header::CONTENT_TYPE] == "application/grpc";
    assert_eq!(head.version, if grpc { Version::HTTP_2 } else { Version::HTTP_11 });
    let mut state = state.lock();
    state.attempts += 1;
    let refused = state.attempts <= state.turns_away;
    if !refused {
        let framed = if grpc { 5 } else { 0 };
        let message = ExportTraceServiceRequest::decode(&body[framed..]).unwrap();
        state.spans.extend(message.resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans));
        state.headers = head.headers;
    }
    if !grpc {
        let mut response = Response::new(Full::default().boxed());
        *response.status_mut() = if refused { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        return Ok(response);
    }
    let code = if refused { "14" } else { "0" };
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static(code))]);
    let empty = Full::new(Bytes::from_static(&[0; 5])).with_trailers(async { Some(Ok(trailers)) });
    Ok(Response::new(empty.boxed()))
}

/// A request of the caller's span, 30 ms old, which decoded, waited and computed.
fn call() -> Call {
    let trace = Trace::of(Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
    let received = Instant::now() - Duration::from_millis(30);
    let mut call = Call::new(Tenants::default().of_key(None).unwrap(), trace, received);
    let ms = Duration::from_millis;
    call.took(Stage::Decode, ms(1), ms(2));
    call.took(Stage::Queue, ms(4), ms(6));
    call.took(Stage::Infer, ms(10), ms(9));
    (call.cache, call.batch_rows, call.cpu) = (CacheUse::Miss, 8, ms(7));
    call
}

fn text(span: &Span, name: &str) -> Option<Value> {
    span.attributes.iter().find(|attribute| attribute.key == name)?.value.clone()?.value
}

#[tokio::test]
async fn a_request_arrives_as_a_span_with_its_stages_over_both_protocols() {
    for protocol in [Protocol::Grpc, Protocol::Http] {
        let (options, taken) = collector(protocol, 1).await;
        let exporter = Exporter::start(&options).unwrap();
        let call = call();
        exporter.finished("delay", "3", &call, Ok(()));
        assert!(exporter.flush(FLUSH).await);
        assert_eq!(exporter.counts(), SpanCounts { sent: 4, ..SpanCounts::default() });
        let taken = taken.lock();
        assert_eq!((taken.attempts, &taken.headers["x-key"]), (2, &HeaderValue::from_static("k")), "{protocol:?}");
        let [request, stages @ ..] = &taken.spans[..] else { panic!("no spans") };
        assert_eq!((request.name.as_str(), request.kind, &request.status), ("infer delay", 2, &None));
        assert_eq!(request.span_id, call.trace.span.to_be_bytes());
        assert_eq!(request.parent_span_id, 0x00f0_67aa_0ba9_02b7_u64.to_be_bytes());
        assert_eq!(text(request, "homeostat.version"), Some(Value::StringValue("3".into())));
        assert_eq!(text(request, "homeostat.batch_rows"), Some(Value::IntValue(8)));
        assert_eq!(text(request, "homeostat.cpu_seconds"), Some(Value::DoubleValue(0.007)));
        let received = call.received_at.duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let ms = |time: u64| (time - received) / 1_000_000;
        assert!(request.start_time_unix_nano == received && ms(request.end_time_unix_nano) >= 30);
        let seen: Vec<_> = stages
            .iter()
            .map(|span| (span.name.as_str(), ms(span.start_time_unix_nano), ms(span.end_time_unix_nano)))
            .collect();
        assert_eq!(seen, [("decode", 1, 3), ("queue", 4, 10), ("infer", 10, 19)]);
        for stage in stages {
            assert_eq!((&stage.trace_id, &stage.parent_span_id), (&request.trace_id, &request.span_id));
        }
    }
}

#[tokio::test]
async fn a_failure_is_an_error_and_stages_end_with_their_request() {
    let (options, taken) = collector(Protocol::Http, 0).await;
    let exporter = Exporter::start(&options).unwrap();
    let mut call = call();
    call.took(Stage::Infer, Duration::ZERO, Duration::from_secs(60));
    exporter.finished("delay", "", &call, Err(&Refusal::too_late()));
    assert!(exporter.flush(FLUSH).await);
    let taken = taken.lock();
    let status = taken.spans[0].status.clone().unwrap();
    assert!(status.code == 2 && status.message.starts_with("deadline: the deadline passed"), "{status:?}");
    assert_eq!(text(&taken.spans[0], "http.response.status_code"), Some(Value::IntValue(504)));
    assert_eq!(text(&taken.spans[0], "homeostat.version"), None);
    assert_eq!(taken.spans[3].end_time_unix_nano, taken.spans[0].end_time_unix_nano);
}

#[tokio::test]
async fn a_callers_mistake_is_no_error_of_the_server() {
    let (options, taken) = collector(Protocol::Http, 0).await;
    let exporter = Exporter::start(&options).unwrap();
    exporter.finished("delay", "", &call(), Err(&Refusal::not_found("no model \"delay\"")));
    assert!(exporter.flush(FLUSH).await);
    let span = &taken.lock().spans[0];
    assert_eq!((&span.status, text(span, "error.type")), (&None, None));
    assert_eq!(text(span, "homeostat.refused"), Some(Value::StringValue("not_found".into())));
    assert_eq!(text(span, "http.response.status_code"), Some(Value::IntValue(404)));
}

#[tokio::test]
async fn other_work_makes_trees_of_spans() {
    let (options, taken) = collector(Protocol::Grpc, 0).await;
    let exporter = Exporter::start(&options).unwrap();
    let (start, job) = (SystemTime::now(), exporter.begin(None));
    let end = start + Duration::from_secs(1);
    let fit = exporter.span("fit", Some(job), start, end, vec![("rows", 100_usize.into()), ("auc", 0.75.into())]);
    exporter.span("tree", Some(fit), start, end, Vec::new());
    let error = Some("out of memory".to_owned());
    exporter.record(Work { name: "train".into(), trace: job, start, end, attributes: Vec::new(), error });
    assert!(exporter.flush(FLUSH).await);
    let taken = taken.lock();
    let [fit, tree, train] = &taken.spans[..] else { panic!("{} spans", taken.spans.len()) };
    assert!(train.parent_span_id.is_empty() && train.status.as_ref().unwrap().message == "out of memory");
    assert_eq!((&fit.parent_span_id, &tree.parent_span_id), (&train.span_id, &fit.span_id));
    assert_eq!(text(fit, "auc"), Some(Value::DoubleValue(0.75)));
}

#[tokio::test]
async fn the_queue_is_bounded_and_a_lost_collector_is_counted() {
    // Nobody listens there: the port was free a moment ago.
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let options = SpanOptions { endpoint: Some(format!("http://{free}")), ..SpanOptions::default() };
    let exporter = Exporter::start(&options).unwrap();
    let now = SystemTime::now();
    // The task does not run before this test waits for something.
    for _ in 0..QUEUE_SPANS_MAX + 100 {
        exporter.span("step", None, now, now, Vec::new());
    }
    let counts = exporter.counts();
    assert_eq!((counts.waiting, counts.overflowed), (QUEUE_SPANS_MAX as u64, 100));
    assert!(!exporter.flush(Duration::from_millis(50)).await);
    assert_eq!(exporter.counts().sent, 0);
}

#[tokio::test]
async fn a_trace_is_kept_or_left_out_as_a_whole() {
    let options = SpanOptions { ratio: 0.25, ..SpanOptions::default() };
    let exporter = Exporter::start(&options).unwrap();
    let roots: Vec<Trace> = (0..4000).map(|_| exporter.begin(None)).collect();
    let kept = roots.iter().filter(|root| exporter.samples(root)).count();
    // Five standard deviations of 4000 draws.
    assert!((kept as f64 - 1000.0).abs() < 5.0 * 27.4, "{kept}");
    for root in &roots {
        let child = exporter.begin(Some(root));
        assert_eq!(exporter.samples(&child), exporter.samples(root));
        assert_eq!(root.sampled, exporter.samples(root));
        assert_eq!((child.trace, child.parent), (root.trace, Some(root.span)));
    }
    let callers = |flags: &str| Trace::of(Some(&format!("00-{:032x}-00f067aa0ba902b7-{flags}", 1)));
    assert!(exporter.samples(&callers("01")) && !exporter.samples(&callers("00")));
}
