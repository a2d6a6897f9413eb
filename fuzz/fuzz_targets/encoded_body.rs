//! A compressed body that comes in pieces: what is unpacked stays within the limit.
#![no_main]

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderValue, header};
use libfuzzer_sys::fuzz_target;
use serving::http::read_body;
use std::convert::Infallible;

const BODY_BYTES_MAX: usize = 1 << 16;

// The first byte picks the encoding, the second the length of a piece.
fuzz_target!(|data: &[u8]| {
    let Some(([encoding, piece], body)) = fuzz::steered::<2>(data) else { return };
    let name = ["gzip", "deflate", "identity", "x-gzip", "br"][usize::from(encoding) % 5];
    let headers = HeaderMap::from_iter([(header::CONTENT_ENCODING, HeaderValue::from_static(name))]);
    let piece = if piece == 0 { body.len().max(1) } else { usize::from(piece) };
    let pieces: Vec<Result<Bytes, Infallible>> = body.chunks(piece).map(|p| Ok(Bytes::copy_from_slice(p))).collect();
    let body_read = Body::from_stream(futures::stream::iter(pieces));
    match fuzz::plane::run(read_body(BODY_BYTES_MAX, &headers, body_read)) {
        Ok(whole) => {
            assert!(whole.len() <= BODY_BYTES_MAX);
            assert!(name != "identity" || whole == body);
        }
        Err(refusal) => assert!(refusal.status.is_client_error() && !refusal.error.is_empty()),
    }
});
