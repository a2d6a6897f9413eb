//! Events in files: Parquet, CSV and JSON lines, one file or a folder of them in the order of their names. Files that
//! come later are picked up. A file appears whole (written elsewhere and renamed); only a file of JSON lines may grow
//! while it is read. The offset is a file's name and a row.

use super::lines::{Lines, Tail};
use super::{Lag, Offset, Pulled, Rows, Source};
use crate::StorageError;
use crate::files::csv_trouble;
use crate::parts::{Batches, ParquetFile};
use arrow::array::RecordBatch;
use arrow::csv::reader::Format;
use arrow::datatypes::{DataType, Field, Schema};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How often a folder is looked at while nothing is there.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What the end of the newest file means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// More may come.
    Open,
    /// What is there is all there is: an unfinished last line is one.
    Final,
}

/// Files, each partition a file or a folder.
pub struct Files {
    names: Vec<String>,
    places: Vec<Place>,
    columns: Vec<String>,
    ending: Ending,
}

struct Place {
    /// A file, a folder, or a folder and a pattern of names.
    path: PathBuf,
    open: Option<Open>,
}

/// Whether a name fits a pattern in which `*` stands for any letters.
pub fn fits(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(place) => rest = &rest[place + part.len()..],
            None => return false,
        }
    }
    true
}

/// A file under way.
struct Open {
    name: String,
    next: u64,
    bytes: u64,
    reader: Reader,
    /// Rows that were read and not yet taken.
    rest: Option<RecordBatch>,
}

enum Reader {
    Parquet { rows: u64, batches: Box<Batches> },
    Csv { path: PathBuf, reader: Box<arrow::csv::Reader<Counted>>, read: Arc<AtomicU64> },
    Lines(Lines),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Parquet,
    Csv,
    Tsv,
    Lines,
}

impl Files {
    /// `partitions`: name and place of each: a file, a folder, or a folder with a pattern of names (`events/*.csv`). Of
    /// Parquet files only `columns` are read, as far as they have them.
    pub fn new(partitions: Vec<(String, PathBuf)>, columns: Vec<String>, ending: Ending) -> Files {
        let (names, paths): (Vec<String>, Vec<PathBuf>) = partitions.into_iter().unzip();
        let places = paths.into_iter().map(|path| Place { path, open: None }).collect();
        Files { names, places, columns, ending }
    }
}

impl Source for Files {
    fn partitions(&self) -> &[String] {
        &self.names
    }

    fn read(
        &mut self,
        partition: usize,
        from: &Offset,
        most: usize,
        patience: Duration,
    ) -> Result<Option<Pulled>, StorageError> {
        let until = Instant::now() + patience;
        loop {
            let pulled = self.places[partition].pull(from, most, &self.columns, self.ending)?;
            let left = until.saturating_duration_since(Instant::now());
            if pulled.is_some() || left.is_zero() {
                return Ok(pulled);
            }
            std::thread::sleep(left.min(LOOK_EVERY));
        }
    }
}

impl Place {
    fn pull(
        &mut self,
        from: &Offset,
        most: usize,
        columns: &[String],
        ending: Ending,
    ) -> Result<Option<Pulled>, StorageError> {
        let files = self.files(ending)?;
        let Some(first) = files.first() else { return Ok(None) };
        let (name, row) = match from.place.as_str() {
            "" => (first.clone(), 0),
            place => (place.to_owned(), from.next),
        };
        let later = files.iter().find(|file| **file > name);
        let is_open = self.open.as_ref().is_some_and(|open| open.name == name && open.next == row);
        if !is_open {
            // Closed before the next one is opened: one reader's memory at a time.
            self.open = None;
            self.open = Some(Open::at(&self.file(&name), &name, row, columns)?);
        }
        let Some(open) = &mut self.open else { return Ok(None) };
        let tail = if later.is_some() || ending == Ending::Final { Tail::IsLine } else { Tail::Grows };
        let rows = open.take(most, tail)?;
        let mut lag = open.lag();
        if later.is_some() {
            lag.rows = None;
        }
        let next = match (rows.is_empty(), later) {
            (true, None) => return Ok(None),
            (true, Some(later)) => Offset { place: later.clone(), next: 0 },
            (false, _) => Offset { place: name.clone(), next: open.next },
        };
        let waiting = files.iter().filter(|file| **file > name).map(|file| {
            let size = std::fs::metadata(self.file(file)).map(|metadata| metadata.len());
            Lag { rows: None, bytes: Some(size.unwrap_or(0)) }
        });
        let lag = waiting.fold(lag, Lag::and);
        Ok(Some(Pulled { rows, next, lag }))
    }

    fn file(&self, name: &str) -> PathBuf {
        if self.path.is_file() { self.path.clone() } else { self.folder().0.join(name) }
    }

    /// The folder and the pattern of names.
    fn folder(&self) -> (&Path, Option<&str>) {
        let pattern = self.path.file_name().and_then(|name| name.to_str()).filter(|name| name.contains('*'));
        match (pattern, self.path.parent()) {
            (Some(pattern), Some(folder)) => (folder, Some(pattern)),
            _ => (&self.path, None),
        }
    }

    /// Names of the files that are there, in order. Of a folder, those that fit, whose name says what they are, and that
    /// are neither hidden nor under way.
    fn files(&self, ending: Ending) -> Result<Vec<String>, StorageError> {
        if self.path.is_file() {
            let name = self.path.file_name().map(|name| name.to_string_lossy().into_owned());
            return Ok(name.into_iter().collect());
        }
        let (folder, pattern) = self.folder();
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let what = format!("there is no {}; events are expected there", folder.display());
                return Err(match ending {
                    Ending::Open => StorageError::Unavailable(what),
                    Ending::Final => StorageError::Data(what),
                });
            }
            Err(error) => return Err(StorageError::io("can't list", folder)(error)),
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let wanted = |name: &String| {
            let hidden = name.starts_with(['.', '_']);
            !hidden && kind(Path::new(name)).is_some() && pattern.is_none_or(|pattern| fits(pattern, name))
        };
        let mut found: Vec<String> = names.filter(wanted).collect();
        found.sort();
        Ok(found)
    }
}

fn kind(path: &Path) -> Option<Kind> {
    match path.extension()?.to_str()? {
        "parquet" | "pq" => Some(Kind::Parquet),
        "csv" => Some(Kind::Csv),
        "tsv" => Some(Kind::Tsv),
        "jsonl" | "ndjson" | "json" => Some(Kind::Lines),
        _ => None,
    }
}

impl Open {
    fn at(path: &Path, name: &str, row: u64, columns: &[String]) -> Result<Open, StorageError> {
        let bytes = std::fs::metadata(path).map_err(StorageError::io("can't read", path))?.len();
        let reader = match kind(path) {
            Some(Kind::Parquet) => {
                let file = ParquetFile::open(path)?;
                if row > file.rows() {
                    let what = format!("it has {} rows, {row} were read of it before", file.rows());
                    return Err(StorageError::Damaged { path: path.display().to_string(), what });
                }
                Reader::Parquet { rows: file.rows(), batches: Box::new(file.batches(row..file.rows(), columns)?) }
            }
            Some(Kind::Csv) => csv(path, crate::files::delimiter(path)?, row)?,
            Some(Kind::Tsv) => csv(path, b'\t', row)?,
            Some(Kind::Lines) => Reader::Lines(Lines::open(path, row)?),
            None => {
                return Err(StorageError::Data(format!(
                    "{}: what kind of file this is can't be told from its name; .parquet, .csv, .tsv and .jsonl are read",
                    path.display()
                )));
            }
        };
        Ok(Open { name: name.to_owned(), next: row, bytes, reader, rest: None })
    }

    fn take(&mut self, most: usize, tail: Tail) -> Result<Rows, StorageError> {
        if let Reader::Lines(lines) = &mut self.reader {
            let rows = lines.take(most, tail)?;
            self.next = lines.next();
            return Ok(Rows::Json(rows));
        }
        let batch = match self.rest.take().map_or_else(|| self.batch().transpose(), |rest| Some(Ok(rest))) {
            Some(batch) => batch?,
            None => return Ok(Rows::Json(Vec::new())),
        };
        let taken = batch.slice(0, most.min(batch.num_rows()));
        if taken.num_rows() < batch.num_rows() {
            self.rest = Some(batch.slice(taken.num_rows(), batch.num_rows() - taken.num_rows()));
        }
        let first = self.next;
        self.next += taken.num_rows() as u64;
        Ok(Rows::Columns { first, batch: taken })
    }

    fn batch(&mut self) -> Result<Option<RecordBatch>, StorageError> {
        loop {
            let batch = match &mut self.reader {
                Reader::Parquet { batches, .. } => batches.next().transpose()?,
                Reader::Csv { path, reader, .. } => {
                    reader.next().transpose().map_err(|error| csv_trouble(path, &error))?
                }
                Reader::Lines(_) => None,
            };
            match batch {
                Some(batch) if batch.num_rows() == 0 => continue,
                other => return Ok(other),
            }
        }
    }

    fn lag(&self) -> Lag {
        match &self.reader {
            Reader::Parquet { rows, .. } => {
                let left = rows.saturating_sub(self.next);
                let share = left as f64 / (*rows).max(1) as f64;
                Lag { rows: Some(left), bytes: Some((share * self.bytes as f64) as u64) }
            }
            Reader::Csv { read, .. } => Lag { rows: None, bytes: Some(self.bytes.saturating_sub(read.load(Relaxed))) },
            Reader::Lines(lines) => Lag { rows: None, bytes: Some(self.bytes.saturating_sub(lines.position())) },
        }
    }
}

/// All columns as text: what they mean is the contract's business.
fn csv(path: &Path, delimiter: u8, row: u64) -> Result<Reader, StorageError> {
    let format = || Format::default().with_header(true).with_delimiter(delimiter);
    let open = || File::open(path).map_err(StorageError::io("can't read", path));
    let (named, _) = format().infer_schema(open()?, Some(0)).map_err(|error| csv_trouble(path, &error))?;
    let text = |field: &Arc<Field>| Field::new(field.name(), DataType::Utf8, true);
    let schema = Arc::new(Schema::new(named.fields().iter().map(text).collect::<Vec<_>>()));
    let read = Arc::new(AtomicU64::new(0));
    let reader = arrow::csv::ReaderBuilder::new(schema)
        .with_format(format().with_null_regex(crate::files::nulls()))
        .with_batch_size(crate::parts::ROWS_A_BATCH)
        .with_bounds(row as usize, usize::MAX - 1)
        .build(Counted { file: open()?, read: Arc::clone(&read) })
        .map_err(|error| csv_trouble(path, &error))?;
    Ok(Reader::Csv { path: path.to_owned(), reader: Box::new(reader), read })
}

/// Counts the bytes that were read.
struct Counted {
    file: File,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.read.fetch_add(read as u64, Relaxed);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parts::TableWriter;
    use arrow::array::{ArrayRef, AsArray, Int64Array};
    use arrow::datatypes::Int64Type;

    const NOW: Duration = Duration::ZERO;

    fn parquet(path: &Path, values: std::ops::Range<i64>) {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
        let batch = RecordBatch::try_from_iter([("n", numbers)]).unwrap();
        let beside = path.with_extension("tmp");
        let mut writer = TableWriter::create(&beside, crate::parts::Format::Parquet, &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        writer.finish(path, &[]).unwrap();
    }

    fn source(path: &Path, ending: Ending) -> Files {
        Files::new(vec![("all".to_owned(), path.to_owned())], vec!["n".to_owned()], ending)
    }

    /// The numbers that are read from an offset on, up to `most` a time, and where that ended.
    fn numbers(source: &mut Files, mut at: Offset, most: usize) -> (Vec<i64>, Offset) {
        let mut found = Vec::new();
        while let Some(pulled) = source.read(0, &at, most, NOW).unwrap() {
            assert!(pulled.rows.len() <= most);
            match pulled.rows {
                Rows::Columns { batch, .. } if batch.column(0).data_type() == &DataType::Utf8 => {
                    found.extend(batch.column(0).as_string::<i32>().iter().map(|n| n.unwrap().parse::<i64>().unwrap()));
                }
                Rows::Columns { batch, .. } => {
                    found.extend_from_slice(batch.column(0).as_primitive::<Int64Type>().values())
                }
                Rows::Json(rows) => found.extend(rows.iter().map(|row| {
                    let row: serde_json::Value = serde_json::from_slice(&row.text).unwrap();
                    row["n"].as_i64().unwrap()
                })),
            }
            at = pulled.next;
        }
        (found, at)
    }

    #[test]
    fn a_folder_is_read_in_order_of_names_from_any_row_on_and_new_files_are_picked_up() {
        let folder = tempfile::tempdir().unwrap();
        parquet(&folder.path().join("a.parquet"), 0..20_000);
        std::fs::write(folder.path().join("b.csv"), "n,x\n20000,1\n20001,\"a,b\"\n20002,\n").unwrap();
        std::fs::write(folder.path().join("c.jsonl"), "{\"n\":20003}\n{\"n\":20004}\n").unwrap();
        for ignored in ["README.md", ".d.jsonl", "_e.csv"] {
            std::fs::write(folder.path().join(ignored), "nothing").unwrap();
        }
        let mut files = source(folder.path(), Ending::Open);
        let (all, end) = numbers(&mut files, Offset::default(), 777);
        assert_eq!(all, (0..20_005).collect::<Vec<_>>());
        assert_eq!(end, Offset { place: "c.jsonl".into(), next: 2 });
        std::fs::write(folder.path().join("d.csv"), "n\n20005\n").unwrap();
        assert_eq!(numbers(&mut files, end, 10).0, [20_005]);
        for (place, next, first) in [("a.parquet", 19_999, 19_999), ("b.csv", 1, 20_001), ("c.jsonl", 1, 20_004)] {
            let from = Offset { place: place.into(), next };
            let (rest, _) = numbers(&mut source(folder.path(), Ending::Open), from, 5);
            assert_eq!(rest, (first..20_006).collect::<Vec<_>>(), "{place}");
        }
    }

    #[test]
    fn a_star_stands_for_any_letters() {
        for (pattern, name, fit) in [
            ("*.jsonl", "a.jsonl", true),
            ("*.jsonl", "a.csv", false),
            ("day-*-*.csv", "day-1-2.csv", true),
            ("day-*-*.csv", "day-1.csv", false),
            ("a", "ab", false),
            ("a*", "a", true),
            ("*aa*", "a", false),
        ] {
            assert_eq!(fits(pattern, name), fit, "{pattern} {name}");
        }
        let folder = tempfile::tempdir().unwrap();
        for name in ["x-1.csv", "x-2.csv", "y.csv"] {
            std::fs::write(folder.path().join(name), format!("n\n{}\n", name.len())).unwrap();
        }
        let mut files = source(&folder.path().join("x-*.csv"), Ending::Open);
        assert_eq!(numbers(&mut files, Offset::default(), 10).0, [7, 7]);
    }

    #[test]
    fn one_file_may_be_a_source_and_its_last_line_counts_when_nothing_more_comes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        std::fs::write(&path, "{\"n\":1}\n{\"n\":2}").unwrap();
        assert_eq!(numbers(&mut source(&path, Ending::Open), Offset::default(), 10).0, [1]);
        let mut files = source(&path, Ending::Final);
        let first = files.read(0, &Offset::default(), 1, NOW).unwrap().unwrap();
        assert!(first.lag.bytes.is_some());
        assert_eq!(numbers(&mut files, first.next, 10).0, [2]);
    }

    #[test]
    fn what_is_gone_or_shortened_is_an_error_that_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let said = |from: Offset| source(folder.path(), Ending::Open).read(0, &from, 1, NOW).unwrap_err().to_string();
        parquet(&folder.path().join("a.parquet"), 0..5);
        let said_shorter = said(Offset { place: "a.parquet".into(), next: 6 });
        assert!(said_shorter.contains("a.parquet") && said_shorter.contains("5 rows, 6 were read"), "{said_shorter}");
        let said_gone = said(Offset { place: "0.csv".into(), next: 6 });
        assert!(said_gone.contains("0.csv"), "{said_gone}");
        let missing = source(&folder.path().join("nowhere"), Ending::Open).read(0, &Offset::default(), 1, NOW);
        assert!(matches!(missing, Err(StorageError::Unavailable(_))));
    }
}
