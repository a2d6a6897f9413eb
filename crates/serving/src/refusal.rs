//! What a caller is told when something can't be answered: a status, `{"error": …}`, and nothing of our insides.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use std::time::Duration;

#[derive(Debug, Clone)]
pub struct Refusal {
    pub status: StatusCode,
    /// The label under which refusals are counted.
    pub reason: &'static str,
    pub error: String,
    /// More for a program, beside `error`.
    pub details: Option<Value>,
    pub retry_after_s: Option<u64>,
}

/// Metadata of a gRPC status: the reason's label, and the details as JSON.
pub const REASON: &str = "homeostat-reason";
pub const PROBLEMS: &str = "homeostat-problems";

/// Bytes of details in metadata at most: clients refuse large ones. A list is cut at its end.
const PROBLEMS_BYTES_MAX: usize = 4000;

pub type Answer<T> = Result<T, Refusal>;

impl Refusal {
    pub fn new(status: StatusCode, reason: &'static str, error: impl Into<String>) -> Self {
        Refusal { status, reason, error: error.into(), details: None, retry_after_s: None }
    }

    pub fn malformed(error: impl Into<String>) -> Self {
        Refusal::new(StatusCode::BAD_REQUEST, "malformed", error)
    }

    pub fn unauthorized(error: impl Into<String>) -> Self {
        Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", error)
    }

    pub fn not_found(error: impl Into<String>) -> Self {
        Refusal::new(StatusCode::NOT_FOUND, "not_found", error)
    }

    pub fn too_large(error: impl Into<String>) -> Self {
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", error)
    }

    pub fn contract(error: impl Into<String>, problems: Value) -> Self {
        let mut made = Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "contract", error);
        made.details = Some(problems);
        made
    }

    /// Too much is asked at once; `after` is when it is worth asking again.
    pub fn contended(reason: &'static str, error: impl Into<String>, after: Duration) -> Self {
        let mut made = Refusal::new(StatusCode::TOO_MANY_REQUESTS, reason, error);
        made.retry_after_s = Some(after.as_secs_f64().ceil().max(1.0) as u64);
        made
    }

    pub fn unavailable(reason: &'static str, error: impl Into<String>) -> Self {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, reason, error)
    }

    pub fn too_late() -> Self {
        let what = "the deadline passed before the answer was ready; allow more time or ask for less";
        Refusal::new(StatusCode::GATEWAY_TIMEOUT, "deadline", what)
    }

    /// A body that comes too slowly holds a place that others could use.
    pub fn too_slow(most: Duration) -> Self {
        let what = format!(
            "the request did not arrive within {} ms ([server] body_ms_max); send it faster, or in smaller parts",
            most.as_millis()
        );
        Refusal::new(StatusCode::REQUEST_TIMEOUT, "too_slow", what)
    }

    /// Something that is our fault: the log gets the cause, the caller gets its name.
    pub fn internal(error: impl std::fmt::Display) -> Self {
        tracing::error!("{error}");
        let what = "something failed inside the server; its log says what";
        Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", what)
    }

    /// What a model said: the caller's fault is told, ours is logged.
    pub fn of_run(model: &str, error: inference::RunError) -> Self {
        match error {
            inference::RunError::Input(what) => Refusal::malformed(format!("model \"{model}\": {what}")),
            inference::RunError::Model(what) => {
                tracing::error!("model \"{model}\": {what}");
                let said = format!("model \"{model}\" failed on this input; the server's log says how");
                Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "model", said)
            }
        }
    }

    /// The same as a status of gRPC.
    pub fn grpc(&self) -> tonic::Status {
        use tonic::Code;
        let code = match self.status {
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Code::InvalidArgument,
            StatusCode::UNAUTHORIZED => Code::Unauthenticated,
            StatusCode::FORBIDDEN => Code::PermissionDenied,
            StatusCode::NOT_FOUND => Code::NotFound,
            StatusCode::CONFLICT => Code::Aborted,
            StatusCode::PAYLOAD_TOO_LARGE => Code::InvalidArgument,
            StatusCode::TOO_MANY_REQUESTS => Code::ResourceExhausted,
            StatusCode::NOT_IMPLEMENTED => Code::Unimplemented,
            StatusCode::SERVICE_UNAVAILABLE => Code::Unavailable,
            StatusCode::GATEWAY_TIMEOUT | StatusCode::REQUEST_TIMEOUT => Code::DeadlineExceeded,
            _ => Code::Internal,
        };
        let mut status = tonic::Status::new(code, self.error.clone());
        if let Some(seconds) = self.retry_after_s {
            status.metadata_mut().insert("retry-after", tonic::metadata::MetadataValue::from(seconds));
        }
        status.metadata_mut().insert(REASON, tonic::metadata::MetadataValue::from_static(self.reason));
        if let Some(problems) = self.details.as_ref().and_then(|details| ascii(details).parse().ok()) {
            status.metadata_mut().insert(PROBLEMS, problems);
        }
        status
    }
}

/// The details as JSON in the letters that metadata may have.
fn ascii(details: &Value) -> String {
    let plain = |value: &Value| {
        let mut text = String::new();
        for letter in value.to_string().chars() {
            match letter {
                ' '..='~' => text.push(letter),
                _ => letter.encode_utf16(&mut [0; 2]).iter().for_each(|unit| text.push_str(&format!("\\u{unit:04x}"))),
            }
        }
        text
    };
    let Value::Array(listed) = details else {
        let whole = plain(details);
        return if whole.len() <= PROBLEMS_BYTES_MAX { whole } else { "null".to_owned() };
    };
    let mut text = String::from("[");
    for problem in listed {
        let next = plain(problem);
        if text.len() + next.len() + 2 > PROBLEMS_BYTES_MAX {
            break;
        }
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&next);
    }
    text.push(']');
    text
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut body = json!({ "error": self.error });
        if let Some(details) = self.details {
            body["problems"] = details;
        }
        let mut response = (self.status, Json(body)).into_response();
        if let Some(seconds) = self.retry_after_s {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grpc_status_tells_what_the_json_answer_tells() {
        let problems = json!([{ "row": 0, "column": "größe", "what": "5 m is \u{1f408} no \"number\"\n" }]);
        let status = Refusal::contract("row 0 breaks its contract", problems.clone()).grpc();
        let told = |name: &str| status.metadata().get(name).unwrap().to_str().unwrap().to_owned();
        assert_eq!(told(REASON), "contract");
        assert_eq!(serde_json::from_str::<Value>(&told(PROBLEMS)).unwrap(), problems);

        let many: Vec<Value> = (0..5000).map(|row| json!({ "row": row, "column": "price" })).collect();
        let status = Refusal::contract("all rows", Value::Array(many.clone())).grpc();
        let told = status.metadata().get(PROBLEMS).unwrap().to_str().unwrap();
        let read: Vec<Value> = serde_json::from_str(told).unwrap();
        assert!(told.len() <= PROBLEMS_BYTES_MAX && read.len() > 50 && read == many[..read.len()]);
        assert!(Refusal::not_found("nothing").grpc().metadata().get(PROBLEMS).is_none());
    }
}
