//! What a stream gives beside its state: tables of rows that are only ever added to, as Parquet in parts of a fixed
//! number of rows. Which parts belong to a table is said by the committed state; whatever else lies in its folder was
//! cut off by a crash and is removed. The newest part is not full yet: it has the number of its rows in its name, and
//! gives way to a longer one with each commit. So the parts depend on the rows alone, not on when they were committed.

use super::sweep;
use crate::parquet_log::write;
use crate::parts::ParquetFile;
use crate::{StorageError, log};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Rows of a full part: large enough for a scan, small enough to write the newest part anew each second.
pub const ROWS_A_PART: usize = 32_768;

/// A table as it is committed: its name and rows. Everything else follows from them.
pub type Lengths = BTreeMap<String, u64>;

/// The tables of one stream.
pub struct Tables {
    folder: PathBuf,
    tables: BTreeMap<String, Table>,
}

/// A table under way.
#[derive(Default)]
pub struct Table {
    /// Rows in full parts.
    full: u64,
    /// The rows after them, not empty each.
    tail: Vec<RecordBatch>,
    /// Rows of the tail that are on the disk.
    written: usize,
    /// Whether files are there that give way with the next commit.
    stale: bool,
}

impl Tables {
    /// Opens the tables as they were committed; files that were not are removed.
    pub fn open(folder: &Path, committed: &Lengths) -> Result<Tables, StorageError> {
        let mut tables = BTreeMap::new();
        for (name, rows) in committed {
            tables.insert(name.clone(), Table::open(&folder.join(name), *rows)?);
        }
        for place in log::list(folder, "")? {
            let name = place.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            sweep_table(&place, committed.get(&name).copied().unwrap_or(0))?;
        }
        Ok(Tables { folder: folder.to_owned(), tables })
    }

    /// Adds rows. Parts that become full are written, and count once they are committed.
    pub fn append(&mut self, name: &str, batch: RecordBatch) -> Result<(), StorageError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let folder = self.folder.join(name);
        let table = self.tables.entry(name.to_owned()).or_default();
        table.tail.push(batch);
        table.write_full(&folder)
    }

    /// Writes what is not on the disk yet. The lengths are to be committed next.
    pub fn prepare(&mut self) -> Result<Lengths, StorageError> {
        let mut lengths = Lengths::new();
        for (name, table) in &mut self.tables {
            let rows = table.tail_rows();
            if rows > table.written {
                let path = open_part(&self.folder.join(name), table.full, rows);
                write(&path, &table.joined(&path)?)?;
                (table.written, table.stale) = (rows, true);
            }
            lengths.insert(name.clone(), table.full + rows as u64);
        }
        Ok(lengths)
    }

    /// Removes the first full parts of a table, which are counted still: what is let go by age. Done again, it removes
    /// what a crash left.
    pub fn let_go(&self, name: &str, parts: u64) -> Result<(), StorageError> {
        let folder = self.folder.join(name);
        if parts == 0 || !folder.is_dir() {
            return Ok(());
        }
        sweep(&folder, |file| full_number(file).is_some_and(|number| number < parts))
    }

    /// Rows of a table, those let go included.
    pub fn rows(&self, name: &str) -> u64 {
        self.tables.get(name).map_or(0, |table| table.full + table.tail_rows() as u64)
    }

    /// What was prepared is committed: newest parts that gave way are removed.
    pub fn committed(&mut self) -> Result<(), StorageError> {
        for (name, table) in self.tables.iter_mut().filter(|(_, table)| table.stale) {
            sweep_table(&self.folder.join(name), table.full + table.written as u64)?;
            table.stale = false;
        }
        Ok(())
    }
}

/// Removes what is not of a table's rows.
fn sweep_table(folder: &Path, rows: u64) -> Result<(), StorageError> {
    let belong = files(folder, rows);
    sweep(folder, |name| !belong.contains(&folder.join(name)))
}

impl Table {
    fn open(folder: &Path, rows: u64) -> Result<Table, StorageError> {
        let full = rows - rows % ROWS_A_PART as u64;
        let written = (rows - full) as usize;
        let mut tail = Vec::new();
        if written > 0 {
            let file = ParquetFile::open(&open_part(folder, full, written))?;
            let columns: Vec<String> = file.schema().fields().iter().map(|field| field.name().clone()).collect();
            let batches = file.batches(0..file.rows(), &columns)?.collect::<Result<Vec<_>, _>>()?;
            let schema = batches.first().map_or_else(|| file.schema().clone(), RecordBatch::schema);
            tail.push(concat_batches(&schema, &batches).map_err(|error| wrong(file.path(), error))?);
        }
        Ok(Table { full, tail, written, stale: false })
    }

    fn tail_rows(&self) -> usize {
        self.tail.iter().map(RecordBatch::num_rows).sum()
    }

    /// The tail as one batch: how it was put together must not show in the file's bytes.
    fn joined(&self, path: &Path) -> Result<RecordBatch, StorageError> {
        concat_batches(&self.tail[0].schema(), &self.tail).map_err(|error| wrong(path, error))
    }

    fn write_full(&mut self, folder: &Path) -> Result<(), StorageError> {
        while self.tail_rows() >= ROWS_A_PART {
            let path = full_part(folder, self.full);
            let all = self.joined(&path)?;
            write(&path, &all.slice(0, ROWS_A_PART))?;
            self.full += ROWS_A_PART as u64;
            let rest = all.slice(ROWS_A_PART, all.num_rows() - ROWS_A_PART);
            self.tail = if rest.num_rows() > 0 { vec![rest] } else { Vec::new() };
            // A shorter file of this part goes with the next commit.
            (self.written, self.stale) = (0, true);
        }
        Ok(())
    }
}

fn full_part(folder: &Path, first: u64) -> PathBuf {
    folder.join(format!("part-{:010}.parquet", first / ROWS_A_PART as u64))
}

fn open_part(folder: &Path, first: u64, rows: usize) -> PathBuf {
    folder.join(format!("part-{:010}-{rows:05}.parquet", first / ROWS_A_PART as u64))
}

/// The number of a full part.
fn full_number(file: &str) -> Option<u64> {
    file.strip_prefix("part-")?.strip_suffix(".parquet")?.parse().ok()
}

/// The files of a table with so many rows, in order; the first of them may have been let go.
pub fn files(folder: &Path, rows: u64) -> Vec<PathBuf> {
    let part = ROWS_A_PART as u64;
    let mut files: Vec<PathBuf> = (0..rows / part).map(|number| full_part(folder, number * part)).collect();
    if !rows.is_multiple_of(part) {
        files.push(open_part(folder, rows - rows % part, (rows % part) as usize));
    }
    files
}

fn wrong(path: &Path, error: arrow::error::ArrowError) -> StorageError {
    StorageError::Partition { path: path.display().to_string(), source: Box::new(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;
    use std::sync::Arc;

    fn rows(range: std::ops::Range<i64>) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(range));
        RecordBatch::try_from_iter([("n", numbers)]).unwrap()
    }

    fn read(folder: &Path, rows: u64) -> Vec<i64> {
        let mut found = Vec::new();
        for path in files(folder, rows) {
            let file = ParquetFile::open(&path).unwrap();
            for batch in file.batches(0..file.rows(), &["n".to_owned()]).unwrap() {
                found.extend_from_slice(batch.unwrap().column(0).as_primitive::<Int64Type>().values());
            }
        }
        found
    }

    fn listing(folder: &Path) -> Vec<(String, Vec<u8>)> {
        let found = log::list(folder, "parquet").unwrap();
        found
            .iter()
            .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap()))
            .collect()
    }

    /// Adds 100,000 rows by `step`, commits at each `commits`, and forgets everything but what was committed at `crashes`.
    fn filled(folder: &Path, step: i64, commits: i64, crashes: &[i64]) {
        let (mut committed, mut next, mut crashes) = (Lengths::new(), 0, crashes.to_vec());
        let mut tables = Tables::open(folder, &committed).unwrap();
        while next < 100_000 {
            let to = (next + step).min(100_000);
            tables.append("t", rows(next..to)).unwrap();
            next = to;
            if crashes.first().is_some_and(|at| *at <= next) {
                crashes.remove(0);
                let _ = tables.prepare().unwrap();
                tables = Tables::open(folder, &committed).unwrap();
                next = committed.get("t").copied().unwrap_or(0) as i64;
            } else if next % commits < step {
                committed = tables.prepare().unwrap();
                tables.committed().unwrap();
            }
        }
        committed = tables.prepare().unwrap();
        tables.committed().unwrap();
        assert_eq!(committed["t"], 100_000);
    }

    #[test]
    fn parts_have_the_same_bytes_whenever_they_were_committed_and_whatever_broke_in_between() {
        let (calm, stormy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        filled(calm.path(), 10_000, 50_000, &[]);
        filled(stormy.path(), 777, 9_000, &[5_000, 5_100, 33_000, 66_000, 99_999]);
        assert_eq!(read(&calm.path().join("t"), 100_000), (0..100_000).collect::<Vec<_>>());
        let expected = listing(&calm.path().join("t"));
        let names: Vec<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "part-0000000000.parquet",
                "part-0000000001.parquet",
                "part-0000000002.parquet",
                "part-0000000003-01696.parquet"
            ]
        );
        assert_eq!(listing(&stormy.path().join("t")), expected);
    }

    #[test]
    fn parts_that_are_let_go_stay_gone_and_the_rest_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let part = ROWS_A_PART as i64;
        let mut tables = Tables::open(folder.path(), &Lengths::new()).unwrap();
        tables.append("t", rows(0..2 * part + 5)).unwrap();
        let committed = tables.prepare().unwrap();
        tables.committed().unwrap();
        tables.let_go("t", 1).unwrap();
        tables.let_go("never", 1).unwrap();
        let mut tables = Tables::open(folder.path(), &committed).unwrap();
        assert_eq!(tables.rows("t"), 2 * part as u64 + 5);
        tables.append("t", rows(2 * part + 5..2 * part + 9)).unwrap();
        tables.prepare().unwrap();
        tables.committed().unwrap();
        let names: Vec<String> = listing(&folder.path().join("t")).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["part-0000000001.parquet", "part-0000000002-00009.parquet"]);
    }

    #[test]
    fn a_part_that_just_became_full_leaves_no_shorter_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut tables = Tables::open(folder.path(), &Lengths::new()).unwrap();
        for to in [20_000, ROWS_A_PART as i64] {
            let from = if to == 20_000 { 0 } else { 20_000 };
            tables.append("t", rows(from..to)).unwrap();
            tables.prepare().unwrap();
            tables.committed().unwrap();
        }
        assert_eq!(listing(&folder.path().join("t")).len(), 1);
        assert_eq!(read(&folder.path().join("t"), ROWS_A_PART as u64).len(), ROWS_A_PART);
        // Not committed at all: nothing is left of it.
        Tables::open(folder.path(), &Lengths::new()).unwrap();
        assert!(listing(&folder.path().join("t")).is_empty());
    }
}
