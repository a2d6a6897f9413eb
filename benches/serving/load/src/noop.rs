//! A hyper server that reads each body and answers with the same bytes: the upper bound for any handler behind hyper.

use std::convert::Infallible;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

pub fn serve(port: u16, response_bytes: usize, lifetime: Duration) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let serving = runtime.block_on(async { tokio::time::timeout(lifetime, accept(port, response_bytes)).await });
    // Its time is over: that is how it is meant to stop.
    serving.unwrap_or(Ok(()))
}

async fn accept(port: u16, response_bytes: usize) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    println!("{}", serde_json::json!({ "port": listener.local_addr()?.port() }));
    let answer = Bytes::from(vec![b' '; response_bytes]);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let answer = answer.clone();
        let service = service_fn(move |request| respond(request, answer.clone()));
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn respond(request: Request<Incoming>, answer: Bytes) -> Result<Response<Full<Bytes>>, Infallible> {
    // Read frame by frame: a handler that has a use for the bytes would collect them.
    let mut body = request.into_body();
    let mut whole = true;
    while let Some(frame) = body.frame().await {
        whole &= frame.is_ok();
    }
    let mut response = Response::new(Full::new(answer));
    if !whole {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    Ok(response)
}
