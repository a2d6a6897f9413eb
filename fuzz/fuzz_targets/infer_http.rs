//! A request over HTTP, from its bytes to the answer: nothing that is sent makes the server fail.
#![no_main]

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use fuzz::plane::{MODELS, answer, run};
use http_body_util::BodyExt;
use libfuzzer_sys::fuzz_target;
use serving::http::HEADER_LENGTH;

// The first byte picks the model and whether the head's length is told, which is in the next two.
fuzz_target!(|data: &[u8]| {
    let Some(([choice, low, high], body)) = fuzz::steered::<3>(data) else { return };
    let model = MODELS[usize::from(choice & 0x0f)];
    let mut request = Request::post(format!("/v2/models/{model}/infer"));
    if choice & 0x10 != 0 {
        request = request.header(HEADER_LENGTH, u16::from_le_bytes([low, high]));
    }
    match choice >> 5 {
        1 => request = request.header(header::CONTENT_ENCODING, "gzip"),
        2 => request = request.header(header::ACCEPT_ENCODING, "deflate"),
        _ => {}
    }
    let response = answer(request.body(Body::from(body.to_vec())).expect("a request"));
    let (head, body) = response.into_parts();
    let body = run(body.collect()).expect("a whole body").to_bytes();
    let failed = head.status.is_server_error() && head.status != StatusCode::GATEWAY_TIMEOUT;
    assert!(!failed, "{}: {}", head.status, String::from_utf8_lossy(&body));
    if head.headers.get(header::CONTENT_ENCODING).is_some() {
        return;
    }
    let length = head.headers.get(HEADER_LENGTH).map(|value| value.to_str().ok().and_then(|text| text.parse().ok()));
    let json = match length {
        None => &body[..],
        Some(length) => &body[..length.expect("a number of bytes")],
    };
    serde_json::from_slice::<serde_json::Value>(json).expect("an answer is JSON");
});
