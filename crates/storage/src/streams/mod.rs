//! Streams of events: where they come from, and what a stream keeps on disk. A source is pulled from an offset that the
//! stream itself keeps, so that state and offsets are committed together and a broker's own bookkeeping is never
//! relied on. Knows nothing of windows, contracts or models.

pub mod commit;
pub mod files;
mod frames;
mod lines;
#[cfg(feature = "nats")]
pub mod nats;
pub mod spool;
pub mod tables;

pub use commit::{Committed, Head, Store};
pub use files::{Ending, Files, fits};
#[cfg(feature = "nats")]
pub use nats::{Address, JetStream};
pub use spool::{Spool, SpoolSource};
pub use tables::{Table, Tables};

use crate::StorageError;
use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;
use vocabulary::Timestamp;

/// How long another's lock is waited for: a tenth of a second.
const LOCK_TRIES: usize = 5;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// Where reading goes on in one partition: the first row that was not taken yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offset {
    /// A file's name, or what tells one history of a broker's stream from another. Empty at the beginning.
    pub place: String,
    /// A row of that file, or a sequence number.
    pub next: u64,
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place.as_str() {
            "" => write!(f, "{}", self.next),
            place => write!(f, "{place}:{}", self.next),
        }
    }
}

/// Rows as they came.
#[derive(Clone, Debug)]
pub enum Rows {
    /// Consecutive rows of a table from `first` on.
    Columns { first: u64, batch: RecordBatch },
    /// A blank line is no row.
    Json(Vec<JsonRow>),
}

/// A row as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonRow {
    /// Its place in the partition.
    pub number: u64,
    /// When it came to where it is read from, where that was noted. Part of the data: reading again gives the same.
    pub arrived: Option<Timestamp>,
    /// What should be one JSON object.
    pub text: Vec<u8>,
}

impl Rows {
    /// Rows and blank lines.
    pub fn len(&self) -> usize {
        match self {
            Rows::Columns { batch, .. } => batch.num_rows(),
            Rows::Json(texts) => texts.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What waits at a source beyond what was taken; none where the source can't tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Lag {
    pub rows: Option<u64>,
    pub bytes: Option<u64>,
}

impl Lag {
    /// Of two partitions together.
    pub fn and(self, other: Lag) -> Lag {
        let sum = |a: Option<u64>, b: Option<u64>| Some(a.unwrap_or(0) + b.unwrap_or(0)).filter(|_| a.or(b).is_some());
        Lag { rows: sum(self.rows, other.rows), bytes: sum(self.bytes, other.bytes) }
    }
}

/// What was taken from a partition.
#[derive(Clone, Debug)]
pub struct Pulled {
    pub rows: Rows,
    /// Where to go on.
    pub next: Offset,
    pub lag: Lag,
}

/// Where events come from. Nothing is ever pushed: what is not read stays where it is, which is all the backpressure
/// that files, the spool and JetStream need.
pub trait Source: Send {
    /// Names of the partitions, in an order that never changes.
    fn partitions(&self) -> &[String];

    /// Up to `most` rows (one at least) of a partition from `from` on; none where there is nothing now, after having
    /// waited for `patience` at most.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] where asking again later may help; anything else wants a person.
    fn read(
        &mut self,
        partition: usize,
        from: &Offset,
        most: usize,
        patience: Duration,
    ) -> Result<Option<Pulled>, StorageError>;

    /// Rows that the source removed before they could be read, since it was opened.
    fn missed(&self) -> u64 {
        0
    }

    /// What lies before these offsets, one for each partition, will not be asked for again.
    fn release(&mut self, _offsets: &[Offset]) -> Result<(), StorageError> {
        Ok(())
    }
}

/// Takes the lock of a folder. Who only asks whether it is taken has it for a moment, and a thread that ends soon may too.
fn lock(folder: &Path, what: &str) -> Result<File, StorageError> {
    let path = folder.join("lock");
    let lock = File::options().create(true).truncate(false).write(true).open(&path);
    let lock = lock.map_err(StorageError::io("can't create", &path))?;
    for _ in 0..LOCK_TRIES {
        match lock.try_lock() {
            Ok(()) => return Ok(lock),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(StorageError::io("can't lock", &path)(error)),
        }
    }
    let what = format!("another process has {what} in {} open; stop it first", folder.display());
    Err(StorageError::Unavailable(what))
}

/// Removes the files of a folder whose names are unwanted.
fn sweep(folder: &Path, unwanted: impl Fn(&str) -> bool) -> Result<(), StorageError> {
    for entry in std::fs::read_dir(folder).map_err(StorageError::io("can't list", folder))? {
        let path = entry.map_err(StorageError::io("can't list", folder))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy());
        if path.is_file() && name.is_some_and(|name| unwanted(&name)) {
            std::fs::remove_file(&path).map_err(StorageError::io("can't remove", &path))?;
        }
    }
    Ok(())
}
