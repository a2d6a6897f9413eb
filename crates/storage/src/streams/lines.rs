//! A file of lines, read from any line on, also while it grows.

use super::JsonRow;
use crate::StorageError;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

/// Bytes of a line that are kept; what is longer is cut, and is no JSON then.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// Bytes of lines handed over at a time.
pub const PULL_BYTES_MAX: usize = 8 << 20;

/// Whether an unfinished last line is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// The file may grow: a line ends where its newline is.
    Grows,
    /// Nothing comes after.
    IsLine,
}

pub struct Lines {
    path: PathBuf,
    file: BufReader<File>,
    /// The number of the line that comes next.
    next: u64,
    /// Bytes read of the file.
    position: u64,
    /// What was read of the next line.
    partial: Vec<u8>,
}

impl Lines {
    pub fn open(path: &Path, next: u64) -> Result<Lines, StorageError> {
        let file = File::open(path).map_err(StorageError::io("can't read", path))?;
        let file = BufReader::with_capacity(1 << 16, file);
        let mut lines = Lines { path: path.to_owned(), file, next: 0, position: 0, partial: Vec::new() };
        while lines.next < next {
            if lines.line(Tail::IsLine)?.is_none() {
                let what = format!("it has {} lines, {next} were read of it before", lines.next);
                return Err(StorageError::Damaged { path: path.display().to_string(), what });
            }
        }
        Ok(lines)
    }

    pub fn next(&self) -> u64 {
        self.next
    }

    pub fn position(&self) -> u64 {
        self.position
    }

    /// Up to `most` lines with their numbers.
    pub fn take(&mut self, most: usize, tail: Tail) -> Result<Vec<JsonRow>, StorageError> {
        let (mut taken, mut bytes) = (Vec::new(), 0);
        while taken.len() < most && bytes < PULL_BYTES_MAX {
            let number = self.next;
            let Some(text) = self.line(tail)? else { break };
            bytes += text.len();
            taken.push(JsonRow { number, arrived: None, text });
        }
        Ok(taken)
    }

    fn line(&mut self, tail: Tail) -> Result<Option<Vec<u8>>, StorageError> {
        loop {
            let buffer = self.file.fill_buf().map_err(StorageError::io("can't read", &self.path))?;
            if buffer.is_empty() {
                if tail == Tail::Grows || self.partial.is_empty() {
                    return Ok(None);
                }
                break;
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let piece = &buffer[..end.unwrap_or(buffer.len())];
            let room = LINE_BYTES_MAX.saturating_sub(self.partial.len());
            self.partial.extend_from_slice(&piece[..piece.len().min(room)]);
            let used = end.map_or(buffer.len(), |end| end + 1);
            self.file.consume(used);
            self.position += used as u64;
            if end.is_some() {
                break;
            }
        }
        self.next += 1;
        let mut line = std::mem::take(&mut self.partial);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(Some(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn texts(lines: Vec<JsonRow>) -> Vec<(u64, String)> {
        lines.into_iter().map(|row| (row.number, String::from_utf8(row.text).unwrap())).collect()
    }

    #[test]
    fn a_line_is_whole_before_it_is_read_and_reading_goes_on_anywhere() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        std::fs::write(&path, "one\r\n\ntwo\nthr").unwrap();
        let mut lines = Lines::open(&path, 0).unwrap();
        let first = texts(lines.take(10, Tail::Grows).unwrap());
        assert_eq!(first, [(0, "one".into()), (1, String::new()), (2, "two".into())]);
        assert!(lines.take(10, Tail::Grows).unwrap().is_empty());
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"ee\nfour").unwrap();
        assert_eq!(texts(lines.take(10, Tail::Grows).unwrap()), [(3, "three".into())]);
        assert_eq!(texts(lines.take(10, Tail::IsLine).unwrap()), [(4, "four".into())]);
        let mut again = Lines::open(&path, 3).unwrap();
        assert_eq!(texts(again.take(1, Tail::Grows).unwrap()), [(3, "three".into())]);
        let said = Lines::open(&path, 9).err().unwrap().to_string();
        assert!(said.contains("has 5 lines, 9 were read"), "{said}");
    }

    #[test]
    fn an_endless_line_takes_no_more_memory_than_allowed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        std::fs::write(&path, format!("{}\nshort\n", "x".repeat(3 * LINE_BYTES_MAX))).unwrap();
        let taken = Lines::open(&path, 0).unwrap().take(2, Tail::Grows).unwrap();
        assert_eq!((taken[0].text.len(), taken[1].text.as_slice()), (LINE_BYTES_MAX, b"short".as_slice()));
    }
}
