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
            StatusCode::GATEWAY_TIMEOUT => Code::DeadlineExceeded,
            _ => Code::Internal,
        };
        let mut status = tonic::Status::new(code, self.error.clone());
        if let Some(seconds) = self.retry_after_s {
            status.metadata_mut().insert("retry-after", tonic::metadata::MetadataValue::from(seconds));
        }
        status
    }
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
