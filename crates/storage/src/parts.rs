//! Tables that need not fit into memory: a Parquet file read from any row on, and Parquet or CSV written batch by batch.
//! Knows nothing of contracts or models.

use crate::StorageError;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use std::fmt::Display;
use std::fs::File;
use std::io::BufWriter;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Rows of a batch at most.
pub const ROWS_A_BATCH: usize = 8192;

/// Rows of a row group that is written: what a reader must pass over at most to begin in the middle.
const ROWS_A_GROUP: usize = 1 << 18;

/// Bytes of a page and of a dictionary, each, as writers make them by default.
const PAGE_BYTES: u64 = 1 << 20;

/// A Parquet file, opened: its footer was read, its rows were not.
pub struct ParquetFile {
    path: PathBuf,
    metadata: ArrowReaderMetadata,
    /// The first row of each row group, and at the end the number of rows.
    starts: Vec<u64>,
}

impl ParquetFile {
    pub fn open(path: &Path) -> Result<ParquetFile, StorageError> {
        let file = File::open(path).map_err(StorageError::io("can't read", path))?;
        let metadata =
            ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(|error| unreadable(path, &error))?;
        let mut starts = vec![0];
        for group in metadata.metadata().row_groups() {
            starts.push(starts[starts.len() - 1] + group.num_rows().max(0) as u64);
        }
        Ok(ParquetFile { path: path.to_owned(), metadata, starts })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn rows(&self) -> u64 {
        self.starts[self.starts.len() - 1]
    }

    pub fn schema(&self) -> &SchemaRef {
        self.metadata.schema()
    }

    /// About what the rows take in memory at least: 8 bytes a value, or their uncompressed size in the file where that is
    /// more. (In the file, values that repeat take next to nothing.)
    pub fn memory_bytes(&self) -> u64 {
        let columns = self.metadata.metadata().row_groups().iter().flat_map(|group| group.columns());
        columns.map(|column| column.uncompressed_size().max(8 * column.num_values()).max(0) as u64).sum()
    }

    /// About what one reader of all columns holds at most: of each column a page and a dictionary.
    pub fn reader_bytes(&self) -> u64 {
        let groups = self.metadata.metadata().row_groups().iter();
        let bytes = |size: i64| (2 * PAGE_BYTES).min(size.max(0) as u64);
        groups
            .map(|group| group.columns().iter().map(|column| bytes(column.uncompressed_size())).sum())
            .max()
            .unwrap_or(0)
    }

    /// What the file's writer noted under a key.
    pub fn note(&self, key: &str) -> Option<&str> {
        let notes = self.metadata.metadata().file_metadata().key_value_metadata()?;
        notes.iter().find(|note| note.key == key)?.value.as_deref()
    }

    /// Batches of some rows, of those of the named columns that the file has. Groups before the first row are not
    /// touched; within its group, pages are passed over.
    pub fn batches(&self, rows: Range<u64>, columns: &[String]) -> Result<Batches, StorageError> {
        let end = rows.end.min(self.rows());
        let groups: Vec<usize> = (0..self.starts.len() - 1)
            .filter(|group| self.starts[*group] < end && self.starts[*group + 1] > rows.start)
            .collect();
        let before = groups.first().map_or(0, |group| rows.start.saturating_sub(self.starts[*group]));
        let fields = self.schema().fields().iter().enumerate();
        let wanted = fields.filter(|(_, field)| columns.contains(field.name())).map(|(place, _)| place);
        let mask = ProjectionMask::roots(self.metadata.parquet_schema(), wanted);
        let file = File::open(&self.path).map_err(StorageError::io("can't read", &self.path))?;
        let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone())
            .with_projection(mask)
            .with_row_groups(groups)
            .with_batch_size(ROWS_A_BATCH)
            .with_offset(before as usize)
            .with_limit(end.saturating_sub(rows.start) as usize)
            .build()
            .map_err(|error| unreadable(&self.path, &error))?;
        Ok(Batches { path: self.path.clone(), reader })
    }
}

/// Batches of up to [`ROWS_A_BATCH`] rows.
pub struct Batches {
    path: PathBuf,
    reader: ParquetRecordBatchReader,
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.reader.next()?.map_err(|error| unreadable(&self.path, &error)))
    }
}

fn unreadable(path: &Path, error: &dyn Display) -> StorageError {
    StorageError::Data(format!("{} can't be read as Parquet: {error}", path.display()))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Parquet,
    Csv,
}

impl Format {
    /// By the file's name; none where it says neither.
    pub fn of(path: &Path) -> Option<Format> {
        match path.extension()?.to_str()? {
            "parquet" => Some(Format::Parquet),
            "csv" => Some(Format::Csv),
            _ => None,
        }
    }
}

/// A table under way; it appears under its name, whole, when it is finished.
pub struct TableWriter {
    beside: PathBuf,
    sink: Sink,
}

enum Sink {
    Parquet(ArrowWriter<File>),
    Csv(arrow::csv::Writer<BufWriter<File>>),
}

impl TableWriter {
    /// Writes to `beside`, in whose place a file may be left from before, on the disk where the table shall be.
    pub fn create(beside: &Path, format: Format, schema: &SchemaRef) -> Result<TableWriter, StorageError> {
        let file = File::create(beside).map_err(StorageError::io("can't write", beside))?;
        let sink = match format {
            Format::Parquet => {
                let level = ZstdLevel::try_new(3).map_err(|error| unwritable(beside, &error))?;
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(level))
                    .set_max_row_group_row_count(Some(ROWS_A_GROUP))
                    .build();
                let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties));
                Sink::Parquet(writer.map_err(|error| unwritable(beside, &error))?)
            }
            Format::Csv => Sink::Csv(arrow::csv::Writer::new(BufWriter::new(file))),
        };
        let mut writer = TableWriter { beside: beside.to_owned(), sink };
        // A CSV file's head is written with the first batch; a table without rows has one too.
        writer.write(&RecordBatch::new_empty(schema.clone()))?;
        Ok(writer)
    }

    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), StorageError> {
        match &mut self.sink {
            Sink::Parquet(writer) => writer.write(batch).map_err(|error| unwritable(&self.beside, &error)),
            Sink::Csv(writer) => writer.write(batch).map_err(|error| unwritable(&self.beside, &error)),
        }
    }

    /// Puts the table in the place of `path`, durably. The notes are kept where the format has a place for them.
    pub fn finish(self, path: &Path, notes: &[(&str, String)]) -> Result<(), StorageError> {
        let file = match self.sink {
            Sink::Parquet(mut writer) => {
                for (key, value) in notes {
                    writer.append_key_value_metadata(KeyValue::new((*key).to_owned(), value.clone()));
                }
                writer.into_inner().map_err(|error| unwritable(&self.beside, &error))?
            }
            Sink::Csv(writer) => {
                let flushed = writer.into_inner().into_inner().map_err(std::io::IntoInnerError::into_error);
                flushed.map_err(StorageError::io("can't write", &self.beside))?
            }
        };
        let kept = file.sync_all().and_then(|()| std::fs::rename(&self.beside, path));
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        kept.and_then(|()| File::open(folder)?.sync_all()).map_err(StorageError::io("can't write", path))
    }
}

fn unwritable(path: &Path, error: &dyn Display) -> StorageError {
    StorageError::Data(format!("can't write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
    use arrow::compute::concat_batches;
    use arrow::datatypes::Int64Type;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn table(rows: i64) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
        let texts: ArrayRef = Arc::new(StringArray::from_iter((0..rows).map(|n| (n % 7 > 0).then(|| n.to_string()))));
        RecordBatch::try_from_iter_with_nullable([("n", numbers, true), ("text", texts, true)]).unwrap()
    }

    fn write(folder: &Path, name: &str, batch: &RecordBatch) -> PathBuf {
        let path = folder.join(name);
        let mut writer =
            TableWriter::create(&folder.join("beside"), Format::of(&path).unwrap(), &batch.schema()).unwrap();
        writer.write(batch).unwrap();
        assert!(!path.exists(), "it is not there before it is whole");
        writer.finish(&path, &[("why", "a test".to_owned())]).unwrap();
        path
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_rows_are_read_as_from_the_whole(from in 0_u64..700_000, length in 0_u64..300_000) {
            use std::sync::OnceLock;
            static FILE: OnceLock<(tempfile::TempDir, PathBuf, RecordBatch)> = OnceLock::new();
            let (_, path, whole) = FILE.get_or_init(|| {
                let folder = tempfile::tempdir().unwrap();
                let whole = table(600_000);
                let path = write(folder.path(), "t.parquet", &whole);
                (folder, path, whole)
            });
            let file = ParquetFile::open(path).unwrap();
            prop_assert_eq!(file.rows(), 600_000);
            let names = ["text".to_owned(), "n".to_owned(), "absent".to_owned()];
            let batches: Vec<_> = file.batches(from..from + length, &names).unwrap().map(Result::unwrap).collect();
            prop_assert!(batches.iter().all(|batch| batch.num_rows() <= ROWS_A_BATCH));
            let read = concat_batches(&whole.schema(), &batches).unwrap();
            let from = (from as usize).min(600_000);
            prop_assert_eq!(&read, &whole.slice(from, (length as usize).min(600_000 - from)));
        }
    }

    #[test]
    fn columns_notes_and_sizes_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = ParquetFile::open(&write(folder.path(), "t.parquet", &table(1000))).unwrap();
        let batch = file.batches(998..2000, &["n".to_owned()]).unwrap().next().unwrap().unwrap();
        assert_eq!(batch.num_columns(), 1);
        assert_eq!(batch.column(0).as_primitive::<Int64Type>().values()[..], [998, 999]);
        assert_eq!((file.note("why"), file.note("who")), (Some("a test"), None));
        assert!(file.memory_bytes() >= 16_000, "{}", file.memory_bytes());
        assert!((4000..20_000).contains(&file.reader_bytes()), "{}", file.reader_bytes());
        std::fs::write(folder.path().join("broken.parquet"), "PAR1 no").unwrap();
        let said = ParquetFile::open(&folder.path().join("broken.parquet")).err().unwrap().to_string();
        assert!(said.contains("broken.parquet") && said.contains("as Parquet"), "{said}");
    }

    #[test]
    fn a_csv_table_has_a_head_even_without_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = write(folder.path(), "t.csv", &table(2));
        assert_eq!(std::fs::read_to_string(path).unwrap(), "n,text\n0,\n1,1\n");
        let path = write(folder.path(), "none.csv", &table(0));
        assert_eq!(std::fs::read_to_string(path).unwrap(), "n,text\n");
    }
}
