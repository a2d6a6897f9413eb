//! A message of gRPC, from its bytes to the status: nothing that is sent makes the server fail.
#![no_main]

use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use fuzz::plane::{answer, run};
use http_body_util::BodyExt;
use libfuzzer_sys::fuzz_target;
use serving::grpc::SERVICE;

const METHODS: [&str; 8] = [
    "ModelInfer",
    "ModelStreamInfer",
    "ModelReady",
    "ModelMetadata",
    "ModelConfig",
    "ModelStatistics",
    "RepositoryIndex",
    "RepositoryModelLoad",
];

const INTERNAL: &str = "13";

/// What our own failures say to the caller; the codec has the same status for bytes that are no message.
const FAILURES: [&str; 3] = ["something failed inside", "failed on this input", "past the gate"];

// The first byte picks the method, whether the message is framed already, and whether it says to be compressed.
fuzz_target!(|data: &[u8]| {
    let Some(([choice], message)) = fuzz::steered::<1>(data) else { return };
    let method = METHODS[usize::from(choice & 0x07)];
    let (framed, zipped) = (choice & 0x08 != 0, choice & 0x10 != 0);
    let body = if framed {
        message.to_vec()
    } else {
        [&[u8::from(zipped)][..], &(message.len() as u32).to_be_bytes(), message].concat()
    };
    let request = Request::post(format!("/{SERVICE}/{method}"))
        .header(header::CONTENT_TYPE, "application/grpc")
        .header("grpc-encoding", if zipped { "gzip" } else { "identity" });
    let response = answer(request.body(Body::from(body)).expect("a request"));
    let (head, mut body) = response.into_parts();
    let mut trailers = HeaderMap::new();
    // Trailers are the end, as for the connection: the codec would go on saying that a broken stream is broken.
    while let Some(frame) = run(body.frame()) {
        if let Ok(last) = frame.expect("a whole body").into_trailers() {
            trailers = last;
            break;
        }
    }
    let of = |name: &str| {
        trailers.get(name).or(head.headers.get(name)).map(|value| String::from_utf8_lossy(value.as_bytes()))
    };
    let status = of("grpc-status").expect("a status");
    let said = of("grpc-message").unwrap_or_default().replace("%20", " ");
    let failed = status == INTERNAL && FAILURES.iter().any(|failure| said.contains(failure));
    assert!(!failed, "{method}: {said}");
});
