//! Everything that lasts: blobs, the catalog, the decision log with its journal, streams of events, and the batch
//! engine. Knows nothing of HTTP or of models.

pub mod atomic;
pub mod blobs;
pub mod catalog;
pub mod engine;
#[cfg(test)]
mod expressions;
pub mod files;
pub mod journal;
pub mod log;
pub mod parquet_log;
pub mod parts;
pub mod streams;

pub use atomic::{replace, write_atomically};
pub use blobs::Blobs;
pub use catalog::Catalog;
pub use journal::{Durability, Journal, Record};
pub use log::DecisionLog;

/// What went wrong, where, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    #[error("{what} {path}: {source}{}", advice(.source))]
    Io { what: &'static str, path: String, source: std::io::Error },
    #[error("{path} is damaged: {what}; restore it from a copy")]
    Damaged { path: String, what: String },
    #[error("no blob {digest} under {path}; it was never stored here, or was deleted")]
    NoBlob { digest: String, path: String },
    #[error("catalog: {0}")]
    Catalog(#[from] sqlx::Error),
    #[error("catalog {path} can't be brought to this program's layout: {source}; it may be from a newer program")]
    Migrate { path: String, source: sqlx::migrate::MigrateError },
    #[error("{0}")]
    NotFound(String),
    /// What is needed can't be reached now; asking again later may help.
    #[error("{0}")]
    Unavailable(String),
    #[error("the journal's queue is full ({0} writes wait); slow down or give it a faster disk")]
    QueueFull(usize),
    #[error("{what} holds {bytes} bytes, {limit} at most; {remedy}")]
    Full { what: String, bytes: u64, limit: u64, remedy: &'static str },
    #[error("the journal has stopped: {0}")]
    Stopped(String),
    #[error("log partition {path}: {source}")]
    Partition { path: String, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("{0}")]
    Data(String),
}

fn advice(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::StorageFull => "; free some space on that disk",
        std::io::ErrorKind::PermissionDenied => "; check its owner and mode",
        _ => "",
    }
}

impl StorageError {
    pub fn io(what: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> StorageError {
        let path = path.display().to_string();
        move |source| StorageError::Io { what, path, source }
    }

    /// Whether the cause is a disk without space.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, StorageError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull)
    }
}
