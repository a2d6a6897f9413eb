//! Requests that warm versions up, kept over a restart: a file for each artifact in the state folder, replaced whole.
//! They are a help, nothing more: a file that can't be read or written is noted and done without.

use inference::Tensor;
use serving::plane::hex;
use serving::recorded;
use std::path::PathBuf;
use std::time::SystemTime;

/// Files at most; the oldest go. With four requests of 64 KiB each these are 256 MB at the very most.
const FILES_MAX: usize = 1024;

#[derive(Clone)]
pub struct Warmth(PathBuf);

impl Warmth {
    pub fn at(folder: PathBuf) -> Warmth {
        Warmth(folder)
    }

    fn path(&self, artifact: &[u8]) -> PathBuf {
        self.0.join(format!("{}.requests", hex(artifact)))
    }

    /// What was kept for an artifact; nothing where there is nothing to be read.
    pub fn read(&self, artifact: &[u8]) -> Vec<Vec<Tensor>> {
        let path = self.path(artifact);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
            Err(error) => {
                tracing::warn!("{} can't be read: {error}; its model is warmed up without it", path.display());
                return Vec::new();
            }
        };
        recorded::from_bytes(&bytes).unwrap_or_else(|error| {
            tracing::warn!("{}: {error}; its model is warmed up without it", path.display());
            Vec::new()
        })
    }

    pub fn write(&self, artifact: &[u8], requests: &[Vec<Tensor>]) {
        let path = self.path(artifact);
        let written = std::fs::create_dir_all(&self.0).map_err(anyhow::Error::from).and_then(|()| {
            self.make_room()?;
            Ok(storage::replace(&path, &recorded::to_bytes(requests))?)
        });
        if let Err(error) = written {
            tracing::warn!("requests for warming up can't be kept in {}: {error:#}", path.display());
        }
    }

    /// Lets the oldest files go while there are too many for one more.
    fn make_room(&self) -> anyhow::Result<()> {
        let mut files: Vec<(SystemTime, PathBuf)> = std::fs::read_dir(&self.0)?
            .filter_map(|entry| {
                let entry = entry.ok()?;
                Some((entry.metadata().ok()?.modified().ok()?, entry.path()))
            })
            .collect();
        if files.len() >= FILES_MAX {
            files.sort_unstable();
            for (_, path) in &files[..=files.len() - FILES_MAX] {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use inference::Data;

    #[test]
    fn requests_are_kept_by_artifact_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let warmth = Warmth::at(folder.path().join("warm"));
        let requests = |value: f64| vec![vec![Tensor::new("x", vec![1], Data::Fp64(vec![value]))]];
        assert_eq!(warmth.read(&[1]), Vec::<Vec<Tensor>>::new());
        warmth.write(&[1], &requests(1.0));
        warmth.write(&[2], &requests(2.0));
        warmth.write(&[1], &requests(3.0));
        assert_eq!((warmth.read(&[1]), warmth.read(&[2])), (requests(3.0), requests(2.0)));
        std::fs::write(warmth.path(&[2]), b"something else").unwrap();
        assert_eq!(warmth.read(&[2]), Vec::<Vec<Tensor>>::new());
        for artifact in 0..FILES_MAX as u32 + 10 {
            warmth.write(&artifact.to_be_bytes(), &requests(0.0));
        }
        assert!(std::fs::read_dir(&warmth.0).unwrap().count() <= FILES_MAX);
        assert_eq!(warmth.read(&(FILES_MAX as u32).to_be_bytes()), requests(0.0));
    }
}
