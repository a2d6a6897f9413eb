//! Content-addressed blobs in a folder: a blob's name is its digest, and a changed byte is refused when it is read.

use crate::{StorageError, write_atomically};
use std::path::{Path, PathBuf};
use vocabulary::Digest;

#[derive(Clone, Debug)]
pub struct Blobs {
    root: PathBuf,
}

impl Blobs {
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Blobs { root: root.into() }
    }

    pub fn path(&self, digest: &Digest) -> PathBuf {
        let name = digest.to_string();
        self.root.join(&name[..2]).join(name)
    }

    /// Stores `bytes` and returns their digest. Storing the same bytes again changes nothing.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest, StorageError> {
        let digest = Digest::of(bytes);
        let path = self.path(&digest);
        if !intact(&path, &digest) {
            write_atomically(&path, bytes)?;
        }
        Ok(digest)
    }

    pub fn get(&self, digest: &Digest) -> Result<Vec<u8>, StorageError> {
        let path = self.path(digest);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(StorageError::NoBlob { digest: digest.to_string(), path: self.root.display().to_string() });
            }
            Err(error) => return Err(StorageError::io("can't read", &path)(error)),
        };
        if Digest::of(&bytes) != *digest {
            let what = "its content does not match its digest".to_owned();
            return Err(StorageError::Damaged { path: path.display().to_string(), what });
        }
        Ok(bytes)
    }
}

fn intact(path: &Path, digest: &Digest) -> bool {
    std::fs::read(path).is_ok_and(|bytes| Digest::of(&bytes) == *digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_comes_back_and_a_changed_byte_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::at(folder.path());
        let digest = blobs.put(b"model").unwrap();
        assert_eq!(blobs.put(b"model").unwrap(), digest);
        assert_eq!(blobs.get(&digest).unwrap(), b"model");
        std::fs::write(blobs.path(&digest), b"mode1").unwrap();
        assert!(blobs.get(&digest).unwrap_err().to_string().contains("damaged"));
        assert_eq!(blobs.put(b"model").unwrap(), digest);
        assert_eq!(blobs.get(&digest).unwrap(), b"model");
        assert!(matches!(blobs.get(&Digest::of(b"other")), Err(StorageError::NoBlob { .. })));
    }
}
