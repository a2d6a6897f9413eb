//! What a caller is told when something can't be answered: a status, `{"error": …}`, and nothing of our insides.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

#[derive(Debug)]
pub struct ApiError {
    pub status: StatusCode,
    /// The label under which refusals are counted.
    pub reason: &'static str,
    pub error: String,
    /// More for a program, beside `error`.
    pub details: Option<Value>,
    pub retry_after_s: Option<u64>,
}

pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    pub fn new(status: StatusCode, reason: &'static str, error: impl Into<String>) -> Self {
        ApiError { status, reason, error: error.into(), details: None, retry_after_s: None }
    }

    pub fn malformed(error: impl Into<String>) -> Self {
        ApiError::new(StatusCode::BAD_REQUEST, "malformed", error)
    }

    pub fn not_found(error: impl Into<String>) -> Self {
        ApiError::new(StatusCode::NOT_FOUND, "not_found", error)
    }

    pub fn too_large(error: impl Into<String>) -> Self {
        ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", error)
    }

    pub fn contract(error: impl Into<String>, problems: Value) -> Self {
        let mut made = ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "contract", error);
        made.details = Some(problems);
        made
    }

    pub fn contended(error: impl Into<String>, retry_after_s: u64) -> Self {
        let mut made = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "contended", error);
        made.retry_after_s = Some(retry_after_s);
        made
    }

    pub fn unavailable(reason: &'static str, error: impl Into<String>) -> Self {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, reason, error)
    }

    /// Something that is our fault: the log gets the cause, the caller gets its name.
    pub fn internal(error: impl std::fmt::Display) -> Self {
        tracing::error!("{error}");
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "something failed inside the server; its log says what",
        )
    }
}

impl From<storage::StorageError> for ApiError {
    fn from(error: storage::StorageError) -> Self {
        use storage::StorageError::{NotFound, QueueFull, Stopped};
        match &error {
            NotFound(what) => ApiError::not_found(what.clone()),
            QueueFull(_) => ApiError::contended(error.to_string(), 1),
            Stopped(_) => ApiError::unavailable("log_stopped", error.to_string()),
            _ if error.is_disk_full() => {
                tracing::error!("{error}");
                let what =
                    "the disk of the decision log is full: nothing that can't be logged is answered; free some space";
                ApiError::unavailable("disk_full", what)
            }
            _ => ApiError::internal(error),
        }
    }
}

impl IntoResponse for ApiError {
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
