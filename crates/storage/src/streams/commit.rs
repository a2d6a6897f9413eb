//! A stream's state, its offsets and the lengths of its tables in one file that is replaced whole: what a restart goes
//! on from is one instant of the stream, whenever it was cut off. No clock's time is in it, so that a run that was cut
//! off ends with the same bytes as one that was not.
//!
//! The file: a mark with the layout's version, the head's length (u64, little-endian), the head as JSON, the engine's
//! bytes, and the BLAKE3 digest of all before it.

use super::tables::Lengths;
use super::{Offset, sweep};
use crate::{StorageError, write_atomically};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

const MARK: &[u8; 8] = b"HOMESTR1";
const DIGEST: usize = 32;

/// What is known without reading the engine's bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Of each partition.
    pub offsets: BTreeMap<String, Offset>,
    pub tables: Lengths,
    /// What the engine does not count.
    #[serde(default)]
    pub counts: BTreeMap<String, u64>,
}

/// One instant of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub head: Head,
    pub engine: Vec<u8>,
}

/// Where one stream's state is kept. Whoever has it open is the only one that writes.
pub struct Store {
    folder: PathBuf,
    /// Held as long as the store is open.
    _lock: File,
}

impl Store {
    /// Opens the state in `folder`.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] where another process has it open.
    pub fn open(folder: &Path) -> Result<Store, StorageError> {
        std::fs::create_dir_all(folder).map_err(StorageError::io("can't create", folder))?;
        let lock = super::lock(folder, "the stream")?;
        // What a crash left of a file that was to be put in the place of another.
        sweep(folder, |name| name.starts_with('.') && name.ends_with(".tmp"))?;
        Ok(Store { folder: folder.to_owned(), _lock: lock })
    }

    /// Whether some process has the state in `folder` open.
    pub fn is_open(folder: &Path) -> bool {
        let lock = File::open(folder.join("lock"));
        lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
    }

    /// Where the tables are.
    pub fn tables(folder: &Path) -> PathBuf {
        folder.join("tables")
    }

    /// The state as it was last committed, also while another process goes on with it; none before the first time.
    pub fn read(folder: &Path) -> Result<Option<Committed>, StorageError> {
        let path = place(folder);
        match std::fs::read(&path) {
            Ok(bytes) => decode(&bytes)
                .map(Some)
                .map_err(|what| StorageError::Damaged { path: path.display().to_string(), what: what.to_owned() }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StorageError::io("can't read", &path)(error)),
        }
    }

    /// Puts this instant in the place of the one before, durably.
    pub fn commit(&self, head: &Head, engine: &[u8]) -> Result<(), StorageError> {
        write_atomically(&place(&self.folder), &encode(head, engine))
    }
}

fn place(folder: &Path) -> PathBuf {
    folder.join("state")
}

fn encode(head: &Head, engine: &[u8]) -> Vec<u8> {
    let head = serde_json::to_vec(head).expect("the head has string keys and is written to memory");
    let mut bytes = Vec::with_capacity(MARK.len() + 8 + head.len() + engine.len() + DIGEST);
    bytes.extend_from_slice(MARK);
    bytes.extend_from_slice(&(head.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(engine);
    let digest = blake3::hash(&bytes);
    bytes.extend_from_slice(digest.as_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Result<Committed, &'static str> {
    let rest = bytes.strip_prefix(MARK).ok_or("it does not begin as a stream's state of this program does")?;
    let whole = bytes.len().checked_sub(DIGEST).filter(|whole| *whole >= MARK.len() + 8).ok_or("it is cut off")?;
    if blake3::hash(&bytes[..whole]).as_bytes()[..] != bytes[whole..] {
        return Err("its digest does not fit");
    }
    let (length, rest) = rest[..whole - MARK.len()].split_first_chunk::<8>().ok_or("it is cut off")?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok().filter(|length| *length <= rest.len());
    let (head, engine) = rest.split_at(length.ok_or("its head is cut off")?);
    let head = serde_json::from_slice(head).map_err(|_| "its head is not understood")?;
    Ok(Committed { head, engine: engine.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head() -> Head {
        let offset = Offset { place: "b.jsonl".into(), next: 7 };
        Head {
            offsets: [("all".to_owned(), offset)].into(),
            tables: [("hour".to_owned(), 3)].into(),
            counts: [("malformed".to_owned(), 1)].into(),
        }
    }

    #[test]
    fn what_was_committed_is_read_and_only_one_may_write() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Store::read(folder.path()).unwrap(), None);
        let store = Store::open(folder.path()).unwrap();
        store.commit(&head(), b"engine").unwrap();
        store.commit(&head(), b"later").unwrap();
        let expected = Committed { head: head(), engine: b"later".to_vec() };
        assert_eq!(Store::read(folder.path()).unwrap(), Some(expected));
        assert!(Store::is_open(folder.path()));
        assert!(matches!(Store::open(folder.path()), Err(StorageError::Unavailable(_))));
        drop(store);
        assert!(!Store::is_open(folder.path()));
        Store::open(folder.path()).unwrap();
    }

    #[test]
    fn the_first_layout_is_read() {
        let bytes = encode(&head(), b"engine");
        assert_eq!(&bytes[..8], b"HOMESTR1");
        let text = r#"{"offsets":{"all":{"place":"b.jsonl","next":7}},"tables":{"hour":3},"counts":{"malformed":1}}"#;
        assert_eq!(bytes[16..16 + text.len()], *text.as_bytes());
        assert_eq!(decode(&bytes).unwrap(), Committed { head: head(), engine: b"engine".to_vec() });
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_found(place in any::<prop::sample::Index>(), bit in 0_u8..8, cut in any::<prop::sample::Index>()) {
            let mut bytes = encode(&head(), b"the engine's bytes");
            let shorter = &bytes[..cut.index(bytes.len())];
            prop_assert!(decode(shorter).is_err());
            let place = place.index(bytes.len());
            bytes[place] ^= 1 << bit;
            prop_assert!(decode(&bytes).is_err());
        }
    }
}
