//! Files that are either the old one or the new one, whatever happens in between, and appends that are whole or not there.

use crate::StorageError;
use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

/// Writes beside `path`, makes it durable, then renames it into place.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    put(path, bytes, true)
}

/// As [`write_atomically`], without waiting for the disk: after a loss of power the file may be the old one.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    put(path, bytes, false)
}

/// Writes all of `bytes` at the end of a file of `length` bytes, where it stands, or leaves it as it was. Gives the new
/// length.
pub(crate) fn append_or_cut_back(file: &mut File, path: &Path, length: u64, bytes: &[u8]) -> Result<u64, StorageError> {
    if let Err(error) = file.write_all(bytes) {
        let back = file.set_len(length).and_then(|()| file.seek(SeekFrom::Start(length)));
        if let Err(again) = back {
            tracing::error!("{} could not be cut back to {length} bytes: {again}", path.display());
        }
        return Err(StorageError::io("can't write", path)(error));
    }
    Ok(length + bytes.len() as u64)
}

fn put(path: &Path, bytes: &[u8], durable: bool) -> Result<(), StorageError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(directory).map_err(StorageError::io("can't create", directory))?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let beside = directory.join(format!(".{name}.{}.tmp", std::process::id()));
    let written = (|| {
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&beside, path)?;
        if durable { File::open(directory)?.sync_all() } else { Ok(()) }
    })();
    written.map_err(|source| {
        let _ = fs::remove_file(&beside);
        StorageError::io("can't write", path)(source)
    })
}
