//! Where a run keeps its state, so that one that is cut off goes on where it was and ends with the same bytes.

use crate::error::LearnError;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use vocabulary::Digest;

/// State by the name of a stage. A stage is a learner in a phase; its state is the learner's own.
pub trait Checkpoints: Sync {
    /// What was kept last; none where nothing was, or where it is damaged: the stage then begins anew, and ends with
    /// the same bytes later.
    fn load(&self, stage: &str) -> Option<Vec<u8>>;

    /// Whether an offer would be kept now: for a learner that must leave its stride to make its state.
    fn due(&self) -> bool {
        true
    }

    /// Keeps `state()` if it is time to. Fails with [`LearnError::Stopped`] when the run was asked to stop; the state is
    /// kept then.
    fn offer(&self, stage: &str, state: &dyn Fn() -> Vec<u8>) -> Result<(), LearnError>;

    /// Keeps what a stage ended with, whatever the time.
    fn finish(&self, stage: &str, result: &[u8]) -> Result<(), LearnError>;
}

/// Checkpoints as files of a folder, each replaced whole and ended by its digest.
pub struct Folder {
    path: PathBuf,
    every: Duration,
    stop: &'static AtomicBool,
    last: Mutex<Instant>,
}

impl Folder {
    /// Uses `path`, which is made where it is missing. State is kept `every` so often, and when `stop` is set.
    pub fn open(path: &Path, every: Duration, stop: &'static AtomicBool) -> Result<Folder, LearnError> {
        std::fs::create_dir_all(path).map_err(|source| failed(path, source))?;
        Ok(Folder { path: path.to_owned(), every, stop, last: Mutex::new(Instant::now()) })
    }

    fn place(&self, stage: &str) -> PathBuf {
        self.path.join(format!("{stage}.checkpoint"))
    }

    fn write(&self, stage: &str, state: &[u8]) -> Result<(), LearnError> {
        let place = self.place(stage);
        let unfinished = place.with_extension("unfinished");
        let write = || -> std::io::Result<()> {
            let mut file = std::fs::File::create(&unfinished)?;
            std::io::Write::write_all(&mut file, state)?;
            std::io::Write::write_all(&mut file, &Digest::of(state).0)?;
            file.sync_data()?;
            std::fs::rename(&unfinished, &place)
        };
        write().map_err(|source| failed(&place, source))
    }
}

fn failed(path: &Path, source: std::io::Error) -> LearnError {
    LearnError::Checkpoint { path: path.to_owned(), source }
}

impl Checkpoints for Folder {
    fn load(&self, stage: &str) -> Option<Vec<u8>> {
        let mut bytes = std::fs::read(self.place(stage)).ok()?;
        let digest = bytes.split_off(bytes.len().checked_sub(32)?);
        (Digest::of(&bytes).0[..] == digest[..]).then_some(bytes)
    }

    fn due(&self) -> bool {
        let last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.stop.load(Ordering::Relaxed) || last.elapsed() >= self.every
    }

    fn offer(&self, stage: &str, state: &dyn Fn() -> Vec<u8>) -> Result<(), LearnError> {
        let stop = self.stop.load(Ordering::Relaxed);
        let due = {
            let mut last = self.last.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let due = stop || last.elapsed() >= self.every;
            if due {
                *last = Instant::now();
            }
            due
        };
        if due {
            self.write(stage, &state())?;
        }
        if stop { Err(LearnError::Stopped) } else { Ok(()) }
    }

    fn finish(&self, stage: &str, result: &[u8]) -> Result<(), LearnError> {
        self.write(stage, result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_damage_is_none() {
        static STOP: AtomicBool = AtomicBool::new(false);
        let folder = tempfile::tempdir().unwrap();
        let kept = Folder::open(&folder.path().join("run"), Duration::ZERO, &STOP).unwrap();
        assert_eq!(kept.load("trees.fit"), None);
        kept.offer("trees.fit", &|| vec![1, 2, 3]).unwrap();
        assert_eq!(kept.load("trees.fit"), Some(vec![1, 2, 3]));
        let mut bytes = std::fs::read(kept.place("trees.fit")).unwrap();
        bytes[1] ^= 1;
        std::fs::write(kept.place("trees.fit"), bytes).unwrap();
        assert_eq!(kept.load("trees.fit"), None);
        std::fs::write(kept.place("trees.fit"), b"short").unwrap();
        assert_eq!(kept.load("trees.fit"), None);
        STOP.store(true, Ordering::Relaxed);
        assert!(matches!(kept.offer("trees.fit", &|| vec![9]), Err(LearnError::Stopped)));
        assert_eq!(kept.load("trees.fit"), Some(vec![9]));
    }
}
