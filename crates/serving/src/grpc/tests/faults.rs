//! What callers are told when something is wrong, and what the server counts then.

use super::client::NO_OPERATOR;
use super::*;
use std::sync::atomic::Ordering::Relaxed;
use tonic::Request;

type Spoil = fn(&mut ModelInferRequest);

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_has_its_code() {
    let server = server(Duration::ZERO, Limits::default()).await;
    let cases: [(&str, Code, Spoil); 8] = [
        ("no model", Code::NotFound, |request| request.model_name = "triple".into()),
        ("no version", Code::NotFound, |request| request.model_version = "9".into()),
        ("is no version", Code::NotFound, |request| request.model_version = "latest".into()),
        ("can't be loaded", Code::Unavailable, |request| request.model_name = "broken".into()),
        ("no input", Code::InvalidArgument, |request| request.inputs[0].name = "w".into()),
        ("2 entries", Code::InvalidArgument, |request| request.raw_input_contents.push(Bytes::new())),
        ("below zero", Code::InvalidArgument, |request| request.raw_input_contents[0] = raw(&[-1.0, 0.0])),
        ("failed on this input", Code::Internal, |request| request.raw_input_contents[0] = raw(&[666.0, 0.0])),
    ];
    for (says, code, spoil) in cases {
        let mut request = ask(&[1.0, 2.0]);
        spoil(&mut request);
        let status = server.client().await.model_infer(request).await.unwrap_err();
        let told = status.message();
        assert_eq!(status.code(), code, "{told}");
        assert!(told.contains(says) || says == "no input" && told.contains("is missing"), "{told}");
    }
    let mut long = ask(&[1.0, 2.0]);
    long.model_name = "é".repeat(100_000);
    let status = server.client().await.model_infer(long).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "its message fits into a header");
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_alone_load_and_unload() {
    let server = server(Duration::ZERO, Limits::default()).await;
    let mut load = Request::new(RepositoryModelLoadRequest { model_name: "double".into(), ..Default::default() });
    load.metadata_mut().insert(NO_OPERATOR, "1".parse().unwrap());
    let mut unload = Request::new(RepositoryModelUnloadRequest { model_name: "double".into(), ..Default::default() });
    unload.metadata_mut().insert(NO_OPERATOR, "1".parse().unwrap());
    let mut client = server.client().await;
    assert_eq!(client.repository_model_load(load).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(client.repository_model_unload(unload).await.unwrap_err().code(), Code::PermissionDenied);
    client.model_infer(ask(&[1.0, 2.0])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused_and_counted() {
    let server = server(Duration::ZERO, Limits { body_bytes_max: 10_000, ..Limits::default() }).await;
    let status = server.client().await.model_infer(ask(&[1.0; 4000])).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    let small = server.client().await.send_compressed(Gzip).model_infer(ask(&[1.0; 4000])).await.unwrap_err();
    assert_eq!(small.code(), Code::ResourceExhausted, "a small message that unpacks to a large one");
    assert_eq!(server.refused("too_large"), 2);
    server.client().await.model_infer(ask(&[1.0, 2.0])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_of_the_header_or_the_parameters_is_kept() {
    let mut by_header = Request::new(ask(&[1.0, 2.0]));
    by_header.metadata_mut().insert("grpc-timeout", "300m".parse().unwrap());
    let mut by_parameter = ask(&[1.0, 2.0]);
    by_parameter.parameters.insert("timeout".into(), parameter(ParameterChoice::Int64Param(300_000)));
    for request in [by_header, Request::new(by_parameter)] {
        let server = server(Duration::ZERO, Limits::default()).await;
        server.client().await.model_infer(ask(&[1.0, 2.0])).await.unwrap();
        server.set_takes(Duration::from_millis(1500));
        let status = server.client().await.model_infer(request).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{}", status.message());
        assert_eq!(server.refused("deadline"), 1);
    }
    let server = server(Duration::ZERO, Limits::default()).await;
    let mut broken = Request::new(ask(&[1.0, 2.0]));
    broken.metadata_mut().insert("grpc-timeout", "soon".parse().unwrap());
    assert_eq!(server.client().await.model_infer(broken).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_away_leaves_the_queue_and_is_counted() {
    let server = server(Duration::from_millis(300), Limits::default()).await;
    let mut first = server.client().await;
    let busy = tokio::spawn(async move { first.model_infer(ask(&[1.0, 2.0])).await });
    server
        .until("the first is computed", |plane| plane.in_work.load(Relaxed) == 1 && plane.scheduler.waiting_rows() == 0)
        .await;
    let mut second = server.client().await;
    let waiting = tokio::spawn(async move { second.model_infer(ask(&[3.0, 4.0])).await });
    server.until("the second waits", |plane| plane.scheduler.waiting_rows() == 1).await;
    waiting.abort();
    server.until("nothing waits any more", |plane| plane.scheduler.waiting_rows() == 0).await;
    server.until("it is counted", |plane| plane.refused().contains(&("cancelled", 1))).await;
    busy.await.unwrap().unwrap();
    server.until("nothing is in work", |plane| plane.in_work.load(Relaxed) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_too_slowly_is_refused_and_gives_its_place_back() {
    let limits = Limits { body_time_max: Duration::from_millis(200), ..Limits::default() };
    let server = server(Duration::ZERO, limits).await;
    // A byte now and then, for longer than the test lasts.
    let bytes = futures::stream::unfold(0u8, |count| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Some((Ok::<_, tonic::Status>(hyper::body::Frame::data(Bytes::from_static(&[0]))), count.wrapping_add(1)))
    });
    let mut request = axum::http::Request::new(tonic::body::Body::new(http_body_util::StreamBody::new(bytes)));
    *request.method_mut() = axum::http::Method::POST;
    *request.uri_mut() = format!("{}inference.GRPCInferenceService/ModelInfer", server.origin()).parse().unwrap();
    request.headers_mut().insert("content-type", "application/grpc".parse().unwrap());
    let mut line = server.line().await;
    std::future::poll_fn(|context| tonic::codegen::Service::poll_ready(&mut line, context)).await.unwrap();
    let response = tonic::codegen::Service::call(&mut line, request).await.unwrap();
    let said = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(
        (said("grpc-status"), said("homeostat-reason")),
        (i32::from(Code::DeadlineExceeded).to_string(), "too_slow".into())
    );
    assert_eq!(server.refused("too_slow"), 1);
    server.until("nothing is in work", |plane| plane.in_work.load(Relaxed) == 0).await;
    server.client().await.model_infer(ask(&[1.0, 2.0])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_to_a_full_server_is_told_when_to_come_again() {
    let server = server(Duration::from_millis(300), Limits { requests_max: 1, ..Limits::default() }).await;
    let mut first = server.client().await;
    let busy = tokio::spawn(async move { first.model_infer(ask(&[1.0, 2.0])).await });
    server.until("one is in work", |plane| plane.in_work.load(Relaxed) == 1).await;
    let status = server.client().await.model_infer(ask(&[3.0, 4.0])).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(status.metadata().get("retry-after").unwrap(), "1");
    assert!(status.metadata().get("server-timing").is_some());
    assert_eq!(server.refused("contended"), 1);
    busy.await.unwrap().unwrap();
}
