//! Files that are either the old one or the new one, whatever happens in between.

use crate::StorageError;
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

/// Writes beside `path`, makes it durable, then renames it into place.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    put(path, bytes, true)
}

/// As [`write_atomically`], without waiting for the disk: after a loss of power the file may be the old one.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
    put(path, bytes, false)
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
