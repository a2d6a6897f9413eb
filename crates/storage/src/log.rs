//! The decision log: the journal, the thread that turns its closed segments into Parquet, and reading both as one.

use crate::StorageError;
use crate::journal::{self, Durability, Journal, Record};
use crate::parquet_log::{self, Columns};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use vocabulary::PredictionId;
use vocabulary::record::{Outcome, Prediction, ShadowScore};

const TABLES: [&str; 3] = ["predictions", "shadows", "outcomes"];

/// The log of one project, open for writing by one process at a time.
pub struct DecisionLog {
    journal: Journal,
    compactor: Option<std::thread::JoinHandle<()>>,
}

impl DecisionLog {
    /// Opens the log under `root` for writing and starts the thread that turns closed segments into Parquet.
    pub fn open(root: &Path, durability: Durability) -> Result<DecisionLog, StorageError> {
        let (closed, segments) = channel::<PathBuf>();
        let journal = Journal::open(&root.join("journal"), durability, closed)?;
        let root = root.to_owned();
        let compactor = std::thread::Builder::new()
            .name("log-compactor".into())
            .spawn(move || {
                for segment in segments {
                    if let Err(error) = compact(&root, &segment) {
                        tracing::warn!("{} stays a journal segment: {error}", segment.display());
                    }
                }
            })
            .map_err(StorageError::io("can't start the compactor for", Path::new("log")))?;
        Ok(DecisionLog { journal, compactor: Some(compactor) })
    }

    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Writes what waits, and ends both threads. All clones of the journal must be gone.
    pub fn close(mut self) {
        let compactor = self.compactor.take();
        self.journal.close();
        if let Some(compactor) = compactor {
            let _ = compactor.join();
        }
    }
}

fn compact(root: &Path, segment: &Path) -> Result<(), StorageError> {
    let (records, _) = journal::read_segment(segment)?;
    let number = journal::segment_number(segment)
        .ok_or_else(|| StorageError::Data(format!("{} has no number in its name", segment.display())))?;
    parquet_log::write_segment(root, number, records)?;
    std::fs::remove_file(segment).map_err(StorageError::io("can't remove", segment))
}

/// Everything that the log holds about one model.
#[derive(Default, Debug)]
pub struct Logged {
    pub predictions: Vec<Prediction>,
    pub shadows: Vec<ShadowScore>,
    pub outcomes: Vec<Outcome>,
}

/// Reads the whole log of `model`, with no writer needed. Each record comes once, although a segment may be on its way
/// into Parquet while this reads.
pub fn read(root: &Path, model: &str, columns: Columns) -> Result<Logged, StorageError> {
    let mut logged = Logged::default();
    let mut seen_predictions = HashSet::new();
    let mut seen_shadows = HashSet::new();
    let mut seen_outcomes = HashSet::new();
    // Segments first: one that is compacted meanwhile is then met twice, never missed.
    let pending = pending(root)?;
    let mut take = |record: Record| match record {
        Record::Prediction(mut prediction) if prediction.model == model => {
            if columns == Columns::WithoutRow {
                prediction.row = String::new();
            }
            if seen_predictions.insert(prediction.id) {
                logged.predictions.push(prediction);
            }
        }
        Record::Shadow(shadow) if shadow.model == model && seen_shadows.insert((shadow.id, shadow.version)) => {
            logged.shadows.push(shadow);
        }
        // A correction of an outcome is another record: same id, later time or another value.
        Record::Outcome(outcome)
            if outcome.model == model && seen_outcomes.insert((outcome.id, outcome.at, outcome.value.to_bits())) =>
        {
            logged.outcomes.push(outcome);
        }
        _ => {}
    };
    for table in TABLES {
        for folder in list(&root.join(table).join(format!("model={model}")), "")? {
            parquet_log::read_partition(&folder, table, model, columns, &mut take)?;
        }
    }
    pending.into_iter().for_each(&mut take);
    Ok(logged)
}

/// The prediction with this id and all outcomes of it.
pub fn find(root: &Path, id: PredictionId) -> Result<Option<(Prediction, Vec<Outcome>)>, StorageError> {
    let mut found = None;
    let mut outcomes: Vec<Outcome> = Vec::new();
    let pending = pending(root)?;
    let mut take = |record: Record| match record {
        Record::Prediction(prediction) if prediction.id == id => found = Some(prediction),
        Record::Outcome(outcome) if outcome.id == id && !outcomes.contains(&outcome) => outcomes.push(outcome),
        _ => {}
    };
    pending.into_iter().for_each(&mut take);
    let date = format!("date={}", id.at().date());
    for table in ["predictions", "outcomes"] {
        for model_folder in list(&root.join(table), "")? {
            let Some(model) = model_folder.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_prefix("model="))
            else {
                continue;
            };
            parquet_log::read_partition(&model_folder.join(&date), table, model, Columns::All, &mut take)?;
        }
    }
    Ok(found.map(|prediction| (prediction, outcomes)))
}

fn pending(root: &Path) -> Result<Vec<Record>, StorageError> {
    let mut records = Vec::new();
    for segment in journal::segments(&root.join("journal"))? {
        match journal::read_segment(&segment) {
            Ok((read, _)) => records.extend(read),
            Err(StorageError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(records)
}

/// Entries of a folder in order of name: files with `extension`, or folders when it is empty. A missing folder is empty.
pub(crate) fn list(folder: &Path, extension: &str) -> Result<Vec<PathBuf>, StorageError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StorageError::io("can't list", folder)(error)),
    };
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| match extension {
            "" => path.is_dir(),
            _ => path.extension().is_some_and(|e| e == extension),
        })
        .collect();
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vocabulary::{Answer, Digest, Timestamp};

    fn prediction(n: u64) -> Prediction {
        let at = Timestamp(1_365_000_000_000_000 + n as i64 * 3_600_000_000);
        Prediction {
            id: PredictionId::new(at, u128::from(n)),
            at,
            model: "arrival".into(),
            version: 1,
            digest: Digest::of(b"x"),
            snapshot: 3,
            key: n.is_multiple_of(2).then(|| format!("key-{n}")),
            trace: None,
            value: match n % 3 {
                0 => Answer::Classes([0.25, 0.1 * n as f64, 0.5].into()),
                _ => Answer::One(0.1 + 0.2 * n as f64),
            },
            row: format!("{{\"x\":{n}}}"),
            windows: n.is_multiple_of(4).then(|| format!("{{\"clicks\":{n}}}")),
        }
    }

    #[tokio::test]
    async fn journal_and_parquet_read_as_one_and_a_record_is_found_by_its_id() {
        let folder = tempfile::tempdir().unwrap();
        let log = DecisionLog::open(folder.path(), Durability::Process).unwrap();
        let all: Vec<Prediction> = (0..100).map(prediction).collect();
        let records: Vec<Record> = all.iter().cloned().map(Record::Prediction).collect();
        log.journal().append(&records[..60]).await.unwrap();
        log.journal().rotate().await.unwrap();
        log.journal().append(&records[60..]).await.unwrap();
        let outcome = Outcome { id: all[5].id, model: "arrival".into(), value: 1.0, at: all[9].at };
        log.journal().append(&[Record::Outcome(outcome.clone())]).await.unwrap();
        log.close();
        let read = read(folder.path(), "arrival", Columns::All).unwrap();
        assert_eq!(read.predictions, all);
        assert_eq!(read.outcomes, std::slice::from_ref(&outcome));
        assert_eq!(find(folder.path(), all[5].id).unwrap(), Some((all[5].clone(), vec![outcome])));
        assert_eq!(find(folder.path(), all[99].id).unwrap().unwrap().0, all[99]);
        assert_eq!(find(folder.path(), PredictionId(7)).unwrap(), None);
        // The first sixty are Parquet by now.
        assert!(folder.path().join("predictions/model=arrival").is_dir());
        assert_eq!(journal::segments(&folder.path().join("journal")).unwrap().len(), 1);
    }
}
