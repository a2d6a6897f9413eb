//! The journal before the decision log: frames appended to a segment file and acknowledged only once they are written.
//! A frame is `length: u32, crc32: u32, payload`, little-endian; the payload is one [`Record`] as JSON. A torn tail,
//! which nobody was promised, is cut off when the journal is opened again.

use crate::StorageError;
use crate::atomic::append_or_cut_back;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use vocabulary::record::{Outcome, Prediction, ShadowScore};

/// Writes that wait for the journal; beyond it a write is refused and the caller answers 503.
pub const QUEUE_MAX: usize = 4096;
/// A segment is closed at this size and becomes Parquet.
pub const SEGMENT_BYTES_MAX: u64 = 24 << 20;
/// One frame at most; larger is damage.
pub const FRAME_BYTES_MAX: usize = 64 << 20;
/// With `Durability::Process`, the disk is asked to keep what was written at least this often.
const SYNC_EVERY: Duration = Duration::from_millis(200);
const HEADER: &[u8; 8] = b"HOMEOLG1";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "r", rename_all = "snake_case")]
pub enum Record {
    Prediction(Prediction),
    Shadow(ShadowScore),
    Outcome(Outcome),
}

/// When a write counts as done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Handed to the operating system: survives the death of the process. Reaches the disk within a fifth of a second.
    #[default]
    Process,
    /// On the disk: survives the loss of power. Writes that wait together share one flush.
    Disk,
}

enum Work {
    Append { frames: Vec<u8>, done: oneshot::Sender<Result<(), StorageError>> },
    Rotate { done: oneshot::Sender<Result<(), StorageError>> },
}

/// Handle to the writer thread; clones share it.
#[derive(Clone)]
pub struct Journal {
    folder: PathBuf,
    work: SyncSender<Work>,
    failures: Arc<AtomicU64>,
    thread: Arc<Mutex<Option<std::thread::JoinHandle<()>>>>,
}

/// Frames of `records`, ready to append.
pub fn frames(records: &[Record]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(records.len() * 512);
    for record in records {
        let start = bytes.len();
        bytes.extend_from_slice(&[0; 8]);
        serde_json::to_writer(&mut bytes, record).expect("records have string keys and write to memory");
        let length = (bytes.len() - start - 8) as u32;
        let crc = crc32fast::hash(&bytes[start + 8..]);
        bytes[start..start + 4].copy_from_slice(&length.to_le_bytes());
        bytes[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    }
    bytes
}

impl Journal {
    /// Opens the journal in `folder`, mends a torn tail, and sends each segment that is closed to `closed`.
    pub fn open(
        folder: &Path,
        durability: Durability,
        closed: std::sync::mpsc::Sender<PathBuf>,
    ) -> Result<Journal, StorageError> {
        fs::create_dir_all(folder).map_err(StorageError::io("can't create", folder))?;
        let mut segments = segments(folder)?;
        let newest = segments.pop();
        for segment in segments {
            let _ = closed.send(segment);
        }
        let writer = match newest {
            Some(path) => Writer::reopen(folder, path, durability)?,
            None => Writer::create(folder, 1, durability)?,
        };
        let (work, inbox) = sync_channel(QUEUE_MAX);
        let failures = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&failures);
        let syncer = syncer().map_err(StorageError::io("can't start the journal's threads in", folder))?;
        let thread = std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || writer.run(&inbox, &closed, &counted, &syncer))
            .map_err(StorageError::io("can't start the journal's thread in", folder))?;
        Ok(Journal { folder: folder.to_owned(), work, failures, thread: Arc::new(Mutex::new(Some(thread))) })
    }

    /// Appends all records or none; returns once they are as durable as was asked for.
    pub async fn append(&self, records: &[Record]) -> Result<(), StorageError> {
        if records.is_empty() {
            return Ok(());
        }
        let (done, answer) = oneshot::channel();
        self.send(Work::Append { frames: frames(records), done })?;
        self.wait(answer).await
    }

    /// Closes the current segment, so that it becomes Parquet.
    pub async fn rotate(&self) -> Result<(), StorageError> {
        let (done, answer) = oneshot::channel();
        self.send(Work::Rotate { done })?;
        self.wait(answer).await
    }

    /// Writes that failed since the journal was opened.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Waits until everything sent so far is written and stops the thread, once all other handles are gone.
    pub fn close(self) {
        let thread = self.thread.lock().ok().and_then(|mut thread| thread.take());
        drop(self.work);
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }

    fn send(&self, work: Work) -> Result<(), StorageError> {
        self.work.try_send(work).map_err(|error| match error {
            TrySendError::Full(_) => StorageError::QueueFull(QUEUE_MAX),
            TrySendError::Disconnected(_) => self.stopped(),
        })
    }

    async fn wait(&self, answer: oneshot::Receiver<Result<(), StorageError>>) -> Result<(), StorageError> {
        answer.await.unwrap_or_else(|_| Err(self.stopped()))
    }

    fn stopped(&self) -> StorageError {
        StorageError::Stopped(format!("its thread for {} is gone; restart the server", self.folder.display()))
    }
}

struct Writer {
    folder: PathBuf,
    path: PathBuf,
    number: u64,
    file: File,
    length: u64,
    durability: Durability,
    last_sync: Instant,
    dirty: bool,
}

/// A thread that asks the disk to keep what was written, so that no append waits for it.
fn syncer() -> std::io::Result<SyncSender<(File, PathBuf)>> {
    let (sender, files) = sync_channel::<(File, PathBuf)>(1);
    std::thread::Builder::new().name("journal-sync".into()).spawn(move || {
        for (file, path) in files {
            if let Err(error) = file.sync_data() {
                tracing::warn!("can't flush {}: {error}", path.display());
            }
        }
    })?;
    Ok(sender)
}

impl Writer {
    fn create(folder: &Path, number: u64, durability: Durability) -> Result<Writer, StorageError> {
        let path = segment_path(folder, number);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .open(&path)
            .map_err(StorageError::io("can't create", &path))?;
        file.write_all(HEADER).map_err(StorageError::io("can't write", &path))?;
        let length = HEADER.len() as u64;
        Ok(Writer {
            folder: folder.to_owned(),
            path,
            number,
            file,
            length,
            durability,
            last_sync: Instant::now(),
            dirty: true,
        })
    }

    fn reopen(folder: &Path, path: PathBuf, durability: Durability) -> Result<Writer, StorageError> {
        let number = segment_number(&path).unwrap_or(1);
        let (_, whole) = read_segment(&path)?;
        if whole < HEADER.len() as u64 {
            return Writer::create(folder, number, durability);
        }
        let mut file = OpenOptions::new().write(true).open(&path).map_err(StorageError::io("can't open", &path))?;
        file.set_len(whole).map_err(StorageError::io("can't mend", &path))?;
        file.seek(SeekFrom::Start(whole)).map_err(StorageError::io("can't mend", &path))?;
        let folder = folder.to_owned();
        Ok(Writer { folder, path, number, file, length: whole, durability, last_sync: Instant::now(), dirty: true })
    }

    fn run(
        mut self,
        inbox: &Receiver<Work>,
        closed: &std::sync::mpsc::Sender<PathBuf>,
        failures: &AtomicU64,
        syncer: &SyncSender<(File, PathBuf)>,
    ) {
        loop {
            let first = match inbox.recv_timeout(SYNC_EVERY) {
                Ok(work) => work,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    self.sync_if_due(syncer);
                    continue;
                }
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => break,
            };
            let mut batch = vec![first];
            batch.extend(std::iter::from_fn(|| inbox.try_recv().ok()).take(QUEUE_MAX));
            self.handle(batch, closed, failures);
            self.sync_if_due(syncer);
        }
        let _ = self.file.sync_data();
    }

    fn handle(&mut self, batch: Vec<Work>, closed: &std::sync::mpsc::Sender<PathBuf>, failures: &AtomicU64) {
        let mut waiting = Vec::with_capacity(batch.len());
        for work in batch {
            match work {
                Work::Append { frames, done } => match self.append(&frames) {
                    Ok(()) => waiting.push(done),
                    Err(error) => {
                        failures.fetch_add(1, Ordering::Relaxed);
                        let _ = done.send(Err(error));
                    }
                },
                Work::Rotate { done } => {
                    let _ = done.send(self.rotate(closed));
                }
            }
        }
        let mut flushed = Ok(());
        if self.durability == Durability::Disk && !waiting.is_empty() {
            flushed = self.file.sync_data();
        }
        for done in waiting {
            let answer = match &flushed {
                Ok(()) => Ok(()),
                Err(error) => Err(StorageError::io("can't flush", &self.path)(error.kind().into())),
            };
            let _ = done.send(answer);
        }
        if self.length >= SEGMENT_BYTES_MAX
            && let Err(error) = self.rotate(closed)
        {
            tracing::warn!("the journal goes on in a large segment: {error}");
        }
    }

    /// Writes all of `frames` or leaves the segment as it was.
    fn append(&mut self, frames: &[u8]) -> Result<(), StorageError> {
        self.length = append_or_cut_back(&mut self.file, &self.path, self.length, frames)?;
        self.dirty = true;
        Ok(())
    }

    fn rotate(&mut self, closed: &std::sync::mpsc::Sender<PathBuf>) -> Result<(), StorageError> {
        if self.length <= HEADER.len() as u64 {
            return Ok(());
        }
        self.file.sync_data().map_err(StorageError::io("can't flush", &self.path))?;
        let next = Writer::create(&self.folder, self.number + 1, self.durability)?;
        let old = std::mem::replace(self, next);
        let _ = closed.send(old.path);
        Ok(())
    }

    fn sync_if_due(&mut self, syncer: &SyncSender<(File, PathBuf)>) {
        if self.dirty
            && self.last_sync.elapsed() >= SYNC_EVERY
            && let Ok(file) = self.file.try_clone()
            && syncer.try_send((file, self.path.clone())).is_ok()
        {
            self.last_sync = Instant::now();
            self.dirty = false;
        }
    }
}

fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:010}.journal"))
}

/// The number in a segment's name.
pub fn segment_number(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.parse().ok()
}

/// The segments in `folder`, oldest first.
pub fn segments(folder: &Path) -> Result<Vec<PathBuf>, StorageError> {
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(folder).map_err(StorageError::io("can't list", folder))?;
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "journal"))
        .collect();
    found.sort();
    Ok(found)
}

/// The whole records of a segment, and the length up to which it is whole.
pub fn read_segment(path: &Path) -> Result<(Vec<Record>, u64), StorageError> {
    let mut bytes = Vec::new();
    File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(StorageError::io("can't read", path))?;
    if bytes.len() < HEADER.len() {
        return Ok((Vec::new(), 0));
    }
    if &bytes[..HEADER.len()] != HEADER {
        let what = "it does not begin as a journal of this program does".to_owned();
        return Err(StorageError::Damaged { path: path.display().to_string(), what });
    }
    let mut records = Vec::new();
    let mut at = HEADER.len();
    while let Some(header) = bytes.get(at..at + 8) {
        let length = u32::from_le_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let crc = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
        let Some(payload) = bytes.get(at + 8..at + 8 + length) else { break };
        if length > FRAME_BYTES_MAX || crc32fast::hash(payload) != crc {
            break;
        }
        match serde_json::from_slice(payload) {
            Ok(record) => records.push(record),
            Err(error) => {
                let what = format!("the record at byte {at} is whole but not understood ({error})");
                return Err(StorageError::Damaged { path: path.display().to_string(), what });
            }
        }
        at += 8 + length;
    }
    Ok((records, at as u64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::mpsc::channel;
    use vocabulary::{PredictionId, Timestamp};

    fn outcome(n: u64) -> Record {
        Record::Outcome(Outcome {
            id: PredictionId::new(Timestamp(n as i64 * 1000), u128::from(n)),
            model: "m".into(),
            value: n as f64 / 3.0,
            at: Timestamp(n as i64),
        })
    }

    #[tokio::test]
    async fn what_was_acknowledged_is_there_after_reopening_and_a_torn_tail_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let (closed, _keep) = channel();
        let journal = Journal::open(folder.path(), Durability::Disk, closed.clone()).unwrap();
        let records: Vec<Record> = (0..10).map(outcome).collect();
        journal.append(&records).await.unwrap();
        journal.close();
        let segment = segments(folder.path()).unwrap().pop().unwrap();
        let torn = &frames(&[outcome(11)])[..20];
        OpenOptions::new().append(true).open(&segment).unwrap().write_all(torn).unwrap();
        assert_eq!(read_segment(&segment).unwrap().0, records);

        let journal = Journal::open(folder.path(), Durability::Process, closed).unwrap();
        journal.append(&[outcome(12)]).await.unwrap();
        journal.close();
        let read = read_segment(&segment).unwrap().0;
        assert_eq!(read.len(), 11);
        assert_eq!(read[10], outcome(12));
    }

    #[tokio::test]
    async fn a_closed_segment_is_handed_on() {
        let folder = tempfile::tempdir().unwrap();
        let (closed, handed) = channel();
        let journal = Journal::open(folder.path(), Durability::Process, closed).unwrap();
        journal.append(&[outcome(1)]).await.unwrap();
        journal.rotate().await.unwrap();
        journal.append(&[outcome(2)]).await.unwrap();
        let path = handed.recv().unwrap();
        assert_eq!(read_segment(&path).unwrap().0, [outcome(1)]);
        assert_eq!(segments(folder.path()).unwrap().len(), 2);
    }

    proptest! {
        #[test]
        fn damage_never_invents_a_record(at in 8usize..400, bit in 0u8..8) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("0000000001.journal");
            let records: Vec<Record> = (0..4).map(outcome).collect();
            let mut bytes = HEADER.to_vec();
            bytes.extend(frames(&records));
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            std::fs::write(&path, &bytes).unwrap();
            if let Ok((read, _)) = read_segment(&path) {
                prop_assert!(read.len() <= 4);
                prop_assert_eq!(&read[..], &records[..read.len()]);
            }
        }
    }
}
