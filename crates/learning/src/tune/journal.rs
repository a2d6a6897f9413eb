//! What a search has measured, on disk: a line for each evaluation, so that a search that was killed goes on as if it had
//! not been. Lines are JSON and carry a checksum; the first says which search it is.
//!
//! The journal is a memory, not a log of decisions: a search that goes on makes all of its decisions again, which costs
//! little, and finds here what came of each. A line that is lost, whole or in part, is measured again with the same result.

use super::error::TuneError;
use super::logic::{Job, Outcome};
use super::trial::{Trial, trials_of};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// Raised when lines change their meaning; another format's journal is refused.
const FORMAT: u32 = 1;

/// What makes a search the one that it is, by name; two searches with the same identity measure the same.
pub(super) type Identity = Map<String, Value>;

/// One evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub trial: u32,
    pub rung: usize,
    pub point: Map<String, Value>,
    pub loss: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    pub cpu_seconds: f64,
    /// Of the search, earlier runs included.
    pub elapsed_seconds: f64,
}

impl Record {
    pub fn outcome(&self) -> Outcome {
        let failure = || self.failure.clone().unwrap_or_default();
        Outcome { loss: self.loss.ok_or_else(failure), cpu_seconds: self.cpu_seconds }
    }
}

/// The trials of a search by its journal, which may be running: what a page shows meanwhile. Damaged lines are left out.
pub fn trials_so_far(path: &Path) -> Result<Vec<Trial>, TuneError> {
    let bytes = std::fs::read(path).map_err(|source| TuneError::Journal { path: path.to_owned(), source })?;
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    let mut records: Vec<Record> = lines.skip(1).filter_map(body).collect();
    records.sort_by_key(|record| record.trial);
    let results = records.iter().map(|record| (Job { trial: record.trial, rung: record.rung }, record.outcome()));
    let values = |trial| match records.binary_search_by_key(&trial, |record| record.trial) {
        Ok(place) => records[place].point.clone(),
        Err(_) => Map::new(),
    };
    Ok(trials_of(results, values))
}

#[derive(Default)]
pub(super) struct Journal {
    kept: Option<(PathBuf, File)>,
    known: HashMap<(u32, usize), Record>,
    /// Seconds that earlier runs of the search took.
    pub elapsed_seconds: f64,
    /// Sentences for a person.
    pub notes: Vec<String>,
}

impl Journal {
    /// Opens or begins the journal at `path`. Refuses one of another search, or one that is in use.
    pub fn open(path: &Path, identity: &Identity) -> Result<Journal, TuneError> {
        let failed = |source| TuneError::Journal { path: path.to_owned(), source };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
        if file.try_lock().is_err() {
            return Err(TuneError::JournalInUse { path: path.to_owned() });
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let mut journal = Journal::default();
        let whole = journal.read(path, &bytes, identity)?;
        file.set_len(whole as u64).map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        if whole == 0 {
            let header =
                Map::from_iter([("format".to_owned(), FORMAT.into()), ("search".to_owned(), identity.clone().into())]);
            file.write_all(line(&header).as_bytes()).map_err(failed)?;
        }
        journal.kept = Some((path.to_owned(), file));
        Ok(journal)
    }

    /// Reads the lines; the number of bytes up to the last line's end.
    fn read(&mut self, path: &Path, bytes: &[u8], identity: &Identity) -> Result<usize, TuneError> {
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let mut lines = bytes[..whole].split_inclusive(|byte| *byte == b'\n');
        let Some(first) = lines.next() else {
            let start = &BEFORE.as_bytes()[..bytes.len().min(BEFORE.len())];
            if !bytes.starts_with(start) {
                return Err(TuneError::NoJournal { path: path.to_owned() });
            }
            return Ok(0);
        };
        let header: Map<String, Value> = body(first).ok_or_else(|| TuneError::NoJournal { path: path.to_owned() })?;
        check_header(path, &header, identity)?;
        let mut damaged = 0;
        for line in lines {
            match body::<Record>(line) {
                Some(record) => {
                    self.elapsed_seconds = self.elapsed_seconds.max(record.elapsed_seconds);
                    self.known.insert((record.trial, record.rung), record);
                }
                None => damaged += 1,
            }
        }
        if whole < bytes.len() {
            self.notes.push("the journal's last line was cut off; what it held is measured again".to_owned());
        }
        if damaged > 0 {
            self.notes.push(format!("{damaged} damaged lines of the journal were left out; they are measured again"));
        }
        Ok(whole)
    }

    /// What an earlier run measured. Fails where it measured another point: the journal is then none of this program's.
    pub fn known(&self, trial: u32, rung: usize, point: &Map<String, Value>) -> Result<Option<Outcome>, TuneError> {
        match self.known.get(&(trial, rung)) {
            Some(record) if record.point == *point => Ok(Some(record.outcome())),
            Some(_) => Err(TuneError::OtherPoint { trial }),
            None => Ok(None),
        }
    }

    pub fn append(&mut self, record: &Record) -> Result<(), TuneError> {
        let Some((path, file)) = &mut self.kept else { return Ok(()) };
        // Written, not synced: a killed process loses nothing, and what a power cut takes is measured again.
        file.write_all(line(record).as_bytes()).map_err(|source| TuneError::Journal { path: path.clone(), source })
    }
}

const BEFORE: &str = "{\"check\":\"";
const BETWEEN: &str = "\",\"body\":";
const CHECK_DIGITS: usize = 16;

/// A line of the journal: JSON, whose `check` is that of the bytes of its `body`.
fn line(body: &impl Serialize) -> String {
    let body = serde_json::to_string(body).unwrap_or_default();
    format!("{BEFORE}{}{BETWEEN}{body}}}\n", check(body.as_bytes()))
}

fn check(body: &[u8]) -> String {
    blake3::hash(body).to_hex()[..CHECK_DIGITS].to_owned()
}

fn body<T: for<'de> Deserialize<'de>>(line: &[u8]) -> Option<T> {
    let line = line.strip_prefix(BEFORE.as_bytes())?.strip_suffix(b"}\n")?;
    let (digits, line) = line.split_at_checked(CHECK_DIGITS)?;
    let body = line.strip_prefix(BETWEEN.as_bytes())?;
    (check(body).as_bytes() == digits).then(|| serde_json::from_slice(body).ok())?
}

fn check_header(path: &Path, header: &Map<String, Value>, identity: &Identity) -> Result<(), TuneError> {
    let path = || path.to_owned();
    let format = header.get("format").and_then(Value::as_u64).unwrap_or_default();
    if format != u64::from(FORMAT) {
        return Err(TuneError::JournalFormat { path: path(), found: format, known: FORMAT });
    }
    let empty = Map::new();
    let found = header.get("search").and_then(Value::as_object).unwrap_or(&empty);
    let names: std::collections::BTreeSet<&String> = found.keys().chain(identity.keys()).collect();
    let differ: Vec<&str> =
        names.into_iter().filter(|name| found.get(*name) != identity.get(*name)).map(String::as_str).collect();
    if differ.is_empty() { Ok(()) } else { Err(TuneError::OtherSearch { path: path(), differ: differ.join(", ") }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(seed: u64) -> Identity {
        Map::from_iter([("seed".to_owned(), seed.into()), ("space".to_owned(), "x".into())])
    }

    fn record(trial: u32, loss: Option<f64>) -> Record {
        let point = Map::from_iter([("x".to_owned(), Value::from(0.1 + f64::from(trial)))]);
        let failure = loss.is_none().then(|| "the learner left finite numbers".to_owned());
        Record { trial, rung: 0, point, loss, failure, cpu_seconds: 0.25, elapsed_seconds: f64::from(trial) }
    }

    /// A journal of two evaluations, and its bytes.
    fn kept(folder: &Path) -> (PathBuf, Vec<u8>) {
        let path = folder.join("search.journal");
        let mut journal = Journal::open(&path, &identity(1)).unwrap();
        journal.append(&record(0, Some(0.1 + 0.2))).unwrap();
        journal.append(&record(1, None)).unwrap();
        drop(journal);
        let bytes = std::fs::read(&path).unwrap();
        (path, bytes)
    }

    #[test]
    fn what_was_measured_comes_back_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let (path, bytes) = kept(folder.path());
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            serde_json::from_slice::<Value>(line).unwrap();
        }
        let journal = Journal::open(&path, &identity(1)).unwrap();
        let outcome = journal.known(0, 0, &record(0, None).point).unwrap().unwrap();
        assert_eq!(outcome.loss, Ok(0.1 + 0.2));
        let failed = journal.known(1, 0, &record(1, None).point).unwrap().unwrap();
        assert_eq!(failed.loss, Err("the learner left finite numbers".to_owned()));
        assert_eq!(journal.known(2, 0, &Map::new()).unwrap(), None);
        assert!(matches!(journal.known(0, 0, &Map::new()), Err(TuneError::OtherPoint { trial: 0 })));
        assert_eq!((journal.elapsed_seconds, journal.notes.len()), (1.0, 0));
    }

    #[test]
    fn a_journal_cut_at_any_byte_is_read_as_far_as_it_goes() {
        let folder = tempfile::tempdir().unwrap();
        let (path, bytes) = kept(folder.path());
        let ends: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] == b'\n').map(|at| at + 1).collect();
        for length in 0..=bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let mut journal = Journal::open(&path, &identity(1)).unwrap();
            assert_eq!(journal.known.len(), ends.iter().filter(|end| **end <= length).count().saturating_sub(1));
            let torn = length > ends[0] && !ends.contains(&length);
            assert_eq!(journal.notes.len(), usize::from(torn), "{length}");
            journal.append(&record(7, Some(1.0))).unwrap();
            drop(journal);
            let again = Journal::open(&path, &identity(1)).unwrap();
            assert!(again.known.contains_key(&(7, 0)) && again.notes.is_empty(), "{length}");
        }
    }

    #[test]
    fn damage_in_the_middle_costs_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let (path, mut bytes) = kept(folder.path());
        let at = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 40;
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let journal = Journal::open(&path, &identity(1)).unwrap();
        assert_eq!((journal.known.len(), journal.notes.len()), (1, 1));
    }

    #[test]
    fn what_is_not_this_searchs_journal_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (path, bytes) = kept(folder.path());
        let refusal = |seed| match Journal::open(&path, &identity(seed)) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("the journal should have been refused"),
        };
        assert!(refusal(2).contains("another search (other seed)"), "{}", refusal(2));
        let held = Journal::open(&path, &identity(1)).unwrap();
        assert!(refusal(1).contains("in use"), "{}", refusal(1));
        drop(held);
        std::fs::write(&path, b"some other file\n").unwrap();
        assert!(refusal(1).contains("not a journal"), "{}", refusal(1));
        std::fs::write(&path, b"no line").unwrap();
        assert!(refusal(1).contains("not a journal"), "{}", refusal(1));
        assert_eq!(std::fs::read(&path).unwrap(), b"no line", "and left as it was");
        drop(bytes);
    }
}
