//! Refusals are the data plane's; here is only what storage's troubles mean to a caller.

pub use serving::{Answer as ApiResult, Refusal as ApiError};

/// What a caller is told when storing failed.
pub fn stored(error: storage::StorageError) -> ApiError {
    use storage::StorageError::{NotFound, QueueFull, Stopped};
    match &error {
        NotFound(what) => ApiError::not_found(what.clone()),
        QueueFull(_) => ApiError::contended("log_queue_full", error.to_string(), std::time::Duration::from_secs(1)),
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
