//! The spool's files: segments of frames, written whole and read while they grow. What a frame holds is said at
//! [`super::spool`].

use super::JsonRow;
use crate::StorageError;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use vocabulary::Timestamp;

pub const HEADER: &[u8; 8] = b"HOMESPL1";
const FRAME_HEAD: usize = 8;
/// Bytes of the instant of arrival.
const INSTANT: usize = 8;

/// The frames of events that came at an instant.
pub fn frames(events: &[Vec<u8>], arrived: Timestamp) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(events.iter().map(|event| event.len() + FRAME_HEAD + INSTANT).sum());
    for event in events {
        let start = bytes.len();
        bytes.extend_from_slice(&((event.len() + INSTANT) as u32).to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&arrived.0.to_le_bytes());
        bytes.extend_from_slice(event);
        let crc = crc32fast::hash(&bytes[start + FRAME_HEAD..]);
        bytes[start + 4..start + FRAME_HEAD].copy_from_slice(&crc.to_le_bytes());
    }
    bytes
}

/// A frame's payload as a row.
pub fn row(number: u64, payload: &[u8]) -> JsonRow {
    let (instant, text) = payload.split_at(INSTANT.min(payload.len()));
    let arrived = instant.try_into().ok().map(|bytes| Timestamp(i64::from_le_bytes(bytes)));
    JsonRow { number, arrived, text: text.to_vec() }
}

/// The segment that begins with an event.
pub fn segment_path(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("{first:020}.spool"))
}

/// The segments with the numbers of their first events, oldest first.
pub fn segments(folder: &Path) -> Result<Vec<(u64, PathBuf)>, StorageError> {
    let found = crate::log::list(folder, "spool")?;
    Ok(found.into_iter().filter_map(|path| Some((path.file_stem()?.to_str()?.parse().ok()?, path))).collect())
}

/// Whole events of a segment, and the length up to which it is whole.
pub fn scan(path: &Path) -> Result<(u64, u64), StorageError> {
    let mut frames = match Frames::open(path) {
        Ok(frames) => frames,
        Err(Opened::Short) => return Ok((0, 0)),
        Err(Opened::Failed(error)) => return Err(error),
    };
    let (mut events, mut whole) = (0, HEADER.len() as u64);
    while let Some(event) = frames.event()? {
        events += 1;
        whole += (FRAME_HEAD + event.len()) as u64;
    }
    Ok((events, whole))
}

/// Reads frame after frame of a segment that may grow; stays before the first that is not whole.
pub struct Frames {
    pub path: PathBuf,
    file: BufReader<File>,
    /// Where the next frame begins.
    position: u64,
    /// Bytes of the file, as far as is known.
    length: u64,
}

pub enum Opened {
    /// Not even its head is there.
    Short,
    Failed(StorageError),
}

impl Frames {
    pub fn open(path: &Path) -> Result<Frames, Opened> {
        let failed = |error| Opened::Failed(StorageError::io("can't read", path)(error));
        let file = File::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        if length < HEADER.len() as u64 {
            return Err(Opened::Short);
        }
        let mut file = BufReader::with_capacity(1 << 16, file);
        let mut head = [0; HEADER.len()];
        file.read_exact(&mut head).map_err(failed)?;
        if &head != HEADER {
            let what = "it does not begin as a spool of this program does".to_owned();
            return Err(Opened::Failed(StorageError::Damaged { path: path.display().to_string(), what }));
        }
        Ok(Frames { path: path.to_owned(), file, position: HEADER.len() as u64, length })
    }

    pub fn event(&mut self) -> Result<Option<Vec<u8>>, StorageError> {
        let frame = self.frame().map_err(StorageError::io("can't read", &self.path))?;
        match &frame {
            Some(payload) => self.position += (FRAME_HEAD + payload.len()) as u64,
            None => drop(
                self.file.seek(SeekFrom::Start(self.position)).map_err(StorageError::io("can't read", &self.path))?,
            ),
        }
        Ok(frame)
    }

    fn frame(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        let left = self.length - self.position;
        if left < FRAME_HEAD as u64 {
            return Ok(None);
        }
        let mut head = [0; FRAME_HEAD];
        self.file.read_exact(&mut head)?;
        let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]);
        let crc = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
        if u64::from(length) > left - FRAME_HEAD as u64 {
            return Ok(None);
        }
        let mut payload = vec![0; length as usize];
        self.file.read_exact(&mut payload)?;
        Ok((crc32fast::hash(&payload) == crc).then_some(payload))
    }

    /// Looks how far the file goes by now.
    pub fn look_again(&mut self) -> Result<(), StorageError> {
        let metadata = self.file.get_ref().metadata().map_err(StorageError::io("can't read", &self.path))?;
        self.length = metadata.len().max(self.position);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn events(range: std::ops::Range<u64>) -> Vec<Vec<u8>> {
        range.map(|n| format!("{{\"n\":{n}}}").into_bytes()).collect()
    }

    proptest! {
        #[test]
        fn damage_never_invents_an_event(place in 8_usize..200, bit in 0_u8..8) {
            let folder = tempfile::tempdir().unwrap();
            let path = segment_path(folder.path(), 0);
            let mut bytes = HEADER.to_vec();
            bytes.extend(super::frames(&events(0..6), Timestamp(7)));
            let place = place % bytes.len();
            prop_assume!(place >= HEADER.len());
            bytes[place] ^= 1 << bit;
            std::fs::write(&path, &bytes).unwrap();
            let mut frames = Frames::open(&path).ok().unwrap();
            let mut found = Vec::new();
            while let Some(event) = frames.event().unwrap() {
                found.push(row(0, &event).text);
            }
            prop_assert!(found.len() < 6);
            prop_assert_eq!(&found[..], &events(0..6)[..found.len()]);
        }
    }
}
