//! Events handed in over the network, kept in segment files until the stream has taken them. Whoever hands in is told
//! only once they are kept. A frame is `length: u32, crc32: u32, payload`, little-endian; the payload is the instant of
//! arrival (i64, microseconds) and the event's JSON. A segment's name is the number of its first event, and the newest
//! one is never removed, so that numbers go on after a restart. A torn tail, which nobody was promised, is cut off when
//! the spool is opened again.

use super::frames::{Frames, HEADER, Opened, frames, row, scan, segment_path, segments};
use super::{JsonRow, Lag, Offset, Pulled, Rows, Source};
use crate::atomic::append_or_cut_back;
use crate::{Durability, StorageError};
use parking::{Parked, parked};
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;
use tokio::sync::oneshot;
use vocabulary::Timestamp;

/// Requests that wait for the disk; beyond it one is refused.
pub const QUEUE_MAX: usize = 1024;
/// A segment is closed at this size, or at a quarter of the spool's limit.
const SEGMENT_BYTES: u64 = 8 << 20;
/// Bytes of events handed over at a time.
const PULL_BYTES_MAX: usize = 8 << 20;

/// Handle to the writer's thread; clones share it.
#[derive(Clone)]
pub struct Spool {
    shared: Arc<Shared>,
    work: SyncSender<Work>,
}

struct Shared {
    folder: PathBuf,
    /// Held as long as some handle is there: one process writes.
    _lock: File,
    limit: u64,
    /// The number that the next event gets; all before it are kept.
    kept: AtomicU64,
    /// Bytes of all segments, and of what waits to be written.
    bytes: AtomicU64,
    /// Events refused for want of space.
    refused: AtomicU64,
    arrival: Parked,
}

struct Work {
    frames: Vec<u8>,
    events: u64,
    done: oneshot::Sender<Result<u64, StorageError>>,
}

impl Spool {
    /// Opens the spool in `folder`, which holds `limit` bytes at most.
    pub fn open(folder: &Path, limit: u64, durability: Durability) -> Result<Spool, StorageError> {
        fs::create_dir_all(folder).map_err(StorageError::io("can't create", folder))?;
        let lock = super::lock(folder, "the spool")?;
        let mut bytes = 0;
        for (_, path) in segments(folder)? {
            bytes += fs::metadata(&path).map_err(StorageError::io("can't read", &path))?.len();
        }
        let writer = Writer::open(folder, durability, SEGMENT_BYTES.min(limit / 4))?;
        let shared = Arc::new(Shared {
            folder: folder.to_owned(),
            _lock: lock,
            limit,
            kept: AtomicU64::new(writer.next),
            bytes: AtomicU64::new(bytes),
            refused: AtomicU64::new(0),
            arrival: parked(),
        });
        let (work, inbox) = sync_channel(QUEUE_MAX);
        let told = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("spool".into())
            .spawn(move || writer.run(&inbox, &told))
            .map_err(StorageError::io("can't start a thread for", folder))?;
        Ok(Spool { shared, work })
    }

    /// Keeps all events (one JSON object each) or none; returns the number of the first once they are kept.
    pub async fn append(&self, events: &[Vec<u8>], arrived: Timestamp) -> Result<u64, StorageError> {
        let frames = frames(events, arrived);
        let (bytes, events) = (frames.len() as u64, events.len() as u64);
        let before = self.shared.bytes.fetch_add(bytes, Ordering::AcqRel);
        let give_back = || self.shared.bytes.fetch_sub(bytes, Ordering::AcqRel);
        if before + bytes > self.shared.limit {
            give_back();
            self.shared.refused.fetch_add(events, Ordering::Relaxed);
            return Err(StorageError::Full {
                what: format!("the spool {}", self.shared.folder.display()),
                bytes: before,
                limit: self.shared.limit,
                remedy: "send again later, when the stream has caught up",
            });
        }
        let (done, answer) = oneshot::channel();
        let sent = self.work.try_send(Work { frames, events, done }).map_err(|error| match error {
            TrySendError::Full(_) => StorageError::QueueFull(QUEUE_MAX),
            TrySendError::Disconnected(_) => self.stopped(),
        });
        let answer = match sent {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(self.stopped())),
            Err(error) => Err(error),
        };
        if answer.is_err() {
            give_back();
        }
        answer
    }

    /// Bytes that one call may keep at most.
    pub fn request_bytes_max(&self) -> u64 {
        self.shared.limit / 2
    }

    /// Events refused because the spool was full, since it was opened.
    pub fn refused(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed)
    }

    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    fn stopped(&self) -> StorageError {
        StorageError::Stopped(format!("the spool {} can't be written any more", self.shared.folder.display()))
    }
}

struct Writer {
    folder: PathBuf,
    durability: Durability,
    segment_bytes: u64,
    path: PathBuf,
    file: File,
    length: u64,
    /// The number of the next event.
    next: u64,
}

impl Writer {
    fn open(folder: &Path, durability: Durability, segment_bytes: u64) -> Result<Writer, StorageError> {
        let (first, path) = match segments(folder)?.pop() {
            Some(newest) => newest,
            None => (0, segment_path(folder, 0)),
        };
        let (events, whole) = if path.exists() { scan(&path)? } else { (0, 0) };
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(StorageError::io("can't open", &path))?;
        let mended = (|| {
            file.set_len(whole)?;
            file.seek(SeekFrom::Start(whole))?;
            if whole == 0 {
                file.write_all(HEADER)?;
            }
            file.sync_all()?;
            File::open(folder)?.sync_all()
        })();
        mended.map_err(StorageError::io("can't mend", &path))?;
        let length = whole.max(HEADER.len() as u64);
        Ok(Writer { folder: folder.to_owned(), durability, segment_bytes, path, file, length, next: first + events })
    }

    fn run(mut self, inbox: &Receiver<Work>, shared: &Shared) {
        while let Ok(first) = inbox.recv() {
            let more = std::iter::from_fn(|| inbox.try_recv().ok()).take(QUEUE_MAX);
            let batch: Vec<Work> = std::iter::once(first).chain(more).collect();
            if let Err(error) = self.keep(batch, shared) {
                // After a failed flush nobody knows what the disk holds: reopening reads it again.
                tracing::error!("{error}");
                return;
            }
            if self.length >= self.segment_bytes
                && let Err(error) = self.rotate(shared)
            {
                tracing::warn!("the spool goes on in a large segment: {error}");
            }
        }
    }

    /// Writes what waits, makes it as durable as was asked for, and tells those who wait.
    fn keep(&mut self, batch: Vec<Work>, shared: &Shared) -> Result<(), StorageError> {
        let mut waiting = Vec::with_capacity(batch.len());
        for Work { frames, events, done } in batch {
            match self.write(&frames) {
                Ok(()) => {
                    waiting.push((self.next, done));
                    self.next += events;
                }
                Err(error) => drop(done.send(Err(error))),
            }
        }
        if self.durability == Durability::Disk && !waiting.is_empty() {
            self.file.sync_data().map_err(StorageError::io("can't flush", &self.path))?;
        }
        shared.kept.store(self.next, Ordering::Release);
        shared.arrival.wake();
        for (first, done) in waiting {
            let _ = done.send(Ok(first));
        }
        Ok(())
    }

    /// All of `frames`, or the segment as it was.
    fn write(&mut self, frames: &[u8]) -> Result<(), StorageError> {
        self.length = append_or_cut_back(&mut self.file, &self.path, self.length, frames)?;
        Ok(())
    }

    fn rotate(&mut self, shared: &Shared) -> Result<(), StorageError> {
        self.file.sync_data().map_err(StorageError::io("can't flush", &self.path))?;
        let path = segment_path(&self.folder, self.next);
        let mut file = File::create(&path).map_err(StorageError::io("can't create", &path))?;
        file.write_all(HEADER)
            .and_then(|()| file.sync_all())
            .and_then(|()| File::open(&self.folder)?.sync_all())
            .map_err(StorageError::io("can't write", &path))?;
        shared.bytes.fetch_add(HEADER.len() as u64, Ordering::AcqRel);
        (self.path, self.file, self.length) = (path, file, HEADER.len() as u64);
        Ok(())
    }
}

/// The spool as a stream's source: one partition, numbered from 0.
pub struct SpoolSource {
    spool: Spool,
    names: [String; 1],
    open: Option<Reading>,
}

struct Reading {
    frames: Frames,
    next: u64,
}

impl SpoolSource {
    pub fn new(spool: Spool, partition: &str) -> SpoolSource {
        SpoolSource { spool, names: [partition.to_owned()], open: None }
    }

    /// A segment opened at an event.
    fn reading(&self, next: u64) -> Result<Reading, StorageError> {
        let shared = &self.spool.shared;
        let segments = segments(&shared.folder)?;
        let place = segments.partition_point(|(first, _)| *first <= next);
        let gone = || StorageError::Damaged {
            path: shared.folder.display().to_string(),
            what: format!("event {next}, which comes next, is not there"),
        };
        let (first, path) = &segments[place.checked_sub(1).ok_or_else(gone)?];
        let mut frames = Frames::open(path).map_err(|opened| match opened {
            Opened::Short => gone(),
            Opened::Failed(error) => error,
        })?;
        for _ in *first..next {
            frames.event()?.ok_or_else(gone)?;
        }
        Ok(Reading { frames, next })
    }

    fn take(&mut self, from: u64, until: u64) -> Result<Vec<JsonRow>, StorageError> {
        let mut reading = match self.open.take().filter(|reading| reading.next == from) {
            Some(reading) => reading,
            None => self.reading(from)?,
        };
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while reading.next < until && bytes < PULL_BYTES_MAX {
            let event = match reading.frames.event()? {
                Some(event) => event,
                None => self.beyond(&mut reading)?,
            };
            bytes += event.len();
            taken.push(row(reading.next, &event));
            reading.next += 1;
        }
        self.open = Some(reading);
        Ok(taken)
    }

    /// The next event, which is kept but not in what was seen of the segment: it grew, or another was begun.
    fn beyond(&self, reading: &mut Reading) -> Result<Vec<u8>, StorageError> {
        reading.frames.look_again()?;
        if let Some(event) = reading.frames.event()? {
            return Ok(event);
        }
        *reading = self.reading(reading.next)?;
        reading.frames.event()?.ok_or_else(|| StorageError::Damaged {
            path: reading.frames.path.display().to_string(),
            what: format!("event {} is not whole, though it was kept", reading.next),
        })
    }
}

impl Source for SpoolSource {
    fn partitions(&self) -> &[String] {
        &self.names
    }

    fn read(
        &mut self,
        _partition: usize,
        from: &Offset,
        most: usize,
        patience: Duration,
    ) -> Result<Option<Pulled>, StorageError> {
        let shared = Arc::clone(&self.spool.shared);
        shared.arrival.wait(patience, || shared.kept.load(Ordering::Acquire) > from.next);
        let kept = shared.kept.load(Ordering::Acquire);
        if kept < from.next {
            let what = format!("it ends before event {}, and {} were taken of it before", kept, from.next);
            return Err(StorageError::Damaged { path: shared.folder.display().to_string(), what });
        }
        if kept == from.next {
            return Ok(None);
        }
        let taken = self.take(from.next, kept.min(from.next + most as u64))?;
        let next = Offset { place: String::new(), next: from.next + taken.len() as u64 };
        let lag = Lag { rows: Some(kept - next.next), bytes: Some(self.spool.bytes()) };
        Ok(Some(Pulled { rows: Rows::Json(taken), next, lag }))
    }

    /// Removes the segments that lie wholly before the offset.
    fn release(&mut self, offsets: &[Offset]) -> Result<(), StorageError> {
        let next = offsets.first().map_or(0, |offset| offset.next);
        let segments = segments(&self.spool.shared.folder)?;
        for (segment, after) in segments.iter().zip(segments.iter().skip(1)) {
            if after.0 > next {
                break;
            }
            let path = &segment.1;
            let bytes = fs::metadata(path).map(|metadata| metadata.len()).unwrap_or(0);
            fs::remove_file(path).map_err(StorageError::io("can't remove", path))?;
            self.spool.shared.bytes.fetch_sub(bytes, Ordering::AcqRel);
        }
        Ok(())
    }
}

/// Waiting for something to arrive.
mod parking {
    use std::sync::{Condvar, Mutex, PoisonError};
    use std::time::Duration;

    pub struct Parked(Mutex<()>, Condvar);

    pub fn parked() -> Parked {
        Parked(Mutex::new(()), Condvar::new())
    }

    impl Parked {
        pub fn wake(&self) {
            drop(self.0.lock().unwrap_or_else(PoisonError::into_inner));
            self.1.notify_all();
        }

        /// Until `arrived`, for `patience` at most.
        pub fn wait(&self, patience: Duration, arrived: impl Fn() -> bool) {
            let guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            drop(self.1.wait_timeout_while(guard, patience, |()| !arrived()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;
    const THEN: Timestamp = Timestamp(1_365_000_000_000_000);

    fn events(range: std::ops::Range<u64>) -> Vec<Vec<u8>> {
        range.map(|n| format!("{{\"n\":{n}}}").into_bytes()).collect()
    }

    fn at(next: u64) -> Offset {
        Offset { place: String::new(), next }
    }

    /// The numbers from an offset on.
    fn rest(source: &mut SpoolSource, mut from: Offset) -> Vec<u64> {
        let mut found = Vec::new();
        while let Some(pulled) = source.read(0, &from, 7, NOW).unwrap() {
            let Rows::Json(rows) = pulled.rows else { panic!("a spool holds JSON") };
            for row in rows {
                assert_eq!(row.text, format!("{{\"n\":{}}}", row.number).into_bytes());
                assert_eq!(row.arrived, Some(THEN));
                found.push(row.number);
            }
            from = pulled.next;
        }
        found
    }

    #[tokio::test]
    async fn what_was_acknowledged_is_read_after_reopening_and_a_torn_tail_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path(), 1 << 20, Durability::Disk).unwrap();
        assert_eq!(spool.append(&events(0..20), THEN).await.unwrap(), 0);
        assert_eq!(spool.append(&events(20..30), THEN).await.unwrap(), 20);
        drop(spool);
        let (_, newest) = segments(folder.path()).unwrap().pop().unwrap();
        OpenOptions::new().append(true).open(&newest).unwrap().write_all(&[9, 0, 0, 0, 1]).unwrap();
        let spool = Spool::open(folder.path(), 1 << 20, Durability::Process).unwrap();
        assert_eq!(spool.append(&events(30..31), THEN).await.unwrap(), 30);
        let mut source = SpoolSource::new(spool, "http");
        assert_eq!(rest(&mut source, at(0)), (0..31).collect::<Vec<_>>());
        assert_eq!(rest(&mut source, at(17)), (17..31).collect::<Vec<_>>());
        let said = source.read(0, &at(99), 1, NOW).unwrap_err().to_string();
        assert!(said.contains("ends before event 31"), "{said}");
    }

    #[tokio::test]
    async fn a_full_spool_refuses_and_takes_again_when_the_stream_has_caught_up() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path(), 40_000, Durability::Process).unwrap();
        let mut source = SpoolSource::new(spool.clone(), "http");
        let mut kept = 0;
        let refused = loop {
            match spool.append(&events(kept..kept + 100), THEN).await {
                Ok(first) => kept = first + 100,
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, StorageError::Full { limit: 40_000, .. }), "{refused}");
        assert_eq!(spool.refused(), 100);
        assert!((1000..3000).contains(&kept) && spool.bytes() <= 40_000, "{kept} in {}", spool.bytes());
        assert_eq!(rest(&mut source, at(0)).len() as u64, kept);
        source.release(&[at(kept)]).unwrap();
        assert!(spool.bytes() < 11_000, "{}", spool.bytes());
        assert_eq!(spool.append(&events(kept..kept + 100), THEN).await.unwrap(), kept);
        assert_eq!(rest(&mut source, at(kept)).len(), 100);
        // Numbers go on although all that was before is gone.
        drop((source, spool));
        let spool = Spool::open(folder.path(), 40_000, Durability::Process).unwrap();
        assert_eq!(spool.append(&events(0..1), THEN).await.unwrap(), kept + 100);
    }

    #[tokio::test]
    async fn a_reader_waits_for_what_comes_and_goes_on_into_the_next_segment() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path(), 4000, Durability::Process).unwrap();
        let mut source = SpoolSource::new(spool.clone(), "http");
        let reader = std::thread::spawn(move || {
            let (mut from, mut found) = (at(0), 0);
            while found < 200 {
                let pulled = source.read(0, &from, 1000, Duration::from_secs(20)).unwrap().expect("it comes");
                found += pulled.rows.len();
                from = pulled.next;
                source.release(std::slice::from_ref(&from)).unwrap();
            }
            from
        });
        for n in 0..200 {
            while let Err(error) = spool.append(&events(n..n + 1), THEN).await {
                assert!(matches!(error, StorageError::Full { .. }), "{error}");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        assert_eq!(reader.join().unwrap(), at(200));
    }
}
