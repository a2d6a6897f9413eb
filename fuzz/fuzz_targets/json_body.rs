//! An inference request as JSON, alone or with binary tensors behind it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serving::wire::InferResponse;
use serving::wire::json::{read, write};

// The first two bytes say how much of the end is binary tensors.
fuzz_target!(|data: &[u8]| {
    let Some((tail, body)) = fuzz::steered::<2>(data) else { return };
    let tail = usize::from(u16::from_le_bytes(tail)).min(body.len());
    let (head, blobs) = body.split_at(body.len() - tail);
    let read = match read(head, blobs) {
        Ok(read) => read,
        Err(refusal) => {
            assert!(refusal.status.is_client_error() && !refusal.error.is_empty());
            return;
        }
    };
    assert_eq!(read.nulls.len(), read.request.inputs.len());
    for (input, nulls) in read.request.inputs.iter().zip(&read.nulls) {
        assert_eq!(input.shape.iter().product::<usize>(), input.data.len());
        assert!(nulls.iter().all(|place| *place < input.data.len()));
    }
    // The same tensors as an answer are JSON, and with binary tensors a head of it.
    let (id, parameters, outputs) = (read.request.id, read.request.parameters, read.request.inputs);
    let response = InferResponse { id, parameters, outputs, ..InferResponse::default() };
    if let Ok((text, None)) = write(&response, |_| false) {
        serde_json::from_slice::<serde_json::Value>(&text).expect("an answer is JSON");
    }
    let (body, head) = write(&response, |_| true).expect("every tensor has a binary form");
    let head = &body[..head.unwrap_or(body.len())];
    serde_json::from_slice::<serde_json::Value>(head).expect("an answer's head is JSON");
});
