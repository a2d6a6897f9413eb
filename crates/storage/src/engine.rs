//! The embedded batch engine: reads a file, or runs SQL over files, with DataFusion. The answer is one Arrow batch.

use crate::StorageError;
use crate::parts::ParquetFile;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::csv::reader::Format;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{CsvReadOptions, DataFrame, ParquetReadOptions, SessionConfig, SessionContext};
use futures::StreamExt;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vocabulary::model::DataSpec;

/// Rows of a CSV file that its types are inferred from: all of them, so that a late surprise is no error.
const CSV_ROWS_A_BATCH: usize = 8192;

/// Memory of a query whose rows are handed on batch by batch; what needs more, such as a sort, goes to disk.
const SCAN_BYTES_MAX: usize = 1 << 30;

/// Loads what `data` declares; paths are relative to `root`.
pub async fn load(root: &Path, data: &DataSpec) -> Result<RecordBatch, StorageError> {
    match (&data.file, &data.sql) {
        (Some(file), _) => read_file(&root.join(file)),
        (None, Some(sql)) => query(root, &root.join(sql), data).await,
        (None, None) => Err(StorageError::Data("the model declares no data; give it [data] file or sql".into())),
    }
}

/// The files that `data` reads, for its digest; those of its joins behind its own.
pub fn files(root: &Path, data: &DataSpec) -> Vec<PathBuf> {
    let own = |data: &DataSpec| -> Vec<PathBuf> {
        data.file.iter().chain(&data.sql).chain(data.tables.values()).map(|file| root.join(file)).collect()
    };
    let joined = data.joins.iter().flat_map(|join| own(&join.source()));
    own(data).into_iter().chain(joined).collect()
}

/// Hands the rows of what `data` declares to `each`, batch by batch in their order; memory does not depend on their
/// number. Of a Parquet file, the named columns alone. A query sorts and aggregates on disk where memory ends.
pub async fn scan<E: From<StorageError>>(
    root: &Path,
    data: &DataSpec,
    columns: &[String],
    each: &mut dyn FnMut(RecordBatch) -> Result<(), E>,
) -> Result<(), E> {
    match (&data.file, &data.sql) {
        (Some(file), _) => {
            let path = root.join(file);
            match kind(&path)? {
                Kind::Parquet => {
                    let file = ParquetFile::open(&path)?;
                    for batch in file.batches(0..file.rows(), columns)? {
                        each(batch?)?;
                    }
                }
                Kind::Csv(delimiter) => {
                    for batch in open_csv(&path, delimiter)?.1 {
                        each(batch.map_err(|error| bad_csv(&path, &error))?)?;
                    }
                }
            }
            Ok(())
        }
        (None, Some(sql)) => {
            // One partition: the order of the rows is the query's.
            let (frame, sql) = (frame(root, &root.join(sql), data, 1).await?, root.join(sql));
            let mut stream = frame.execute_stream().await.map_err(|error| bad_query(&sql, &error))?;
            while let Some(batch) = stream.next().await {
                each(batch.map_err(|error| bad_query(&sql, &error))?)?;
            }
            Ok(())
        }
        (None, None) => Err(StorageError::Data("no table is named; give it file or sql".into()).into()),
    }
}

/// Reads a whole Parquet or CSV file.
pub fn read_file(path: &Path) -> Result<RecordBatch, StorageError> {
    if !path.exists() {
        let missing = std::io::Error::new(std::io::ErrorKind::NotFound, "no such file");
        return Err(StorageError::io("can't read", path)(missing));
    }
    match kind(path)? {
        Kind::Parquet => read_parquet(path),
        Kind::Csv(delimiter) => read_csv(path, delimiter),
    }
}

/// Whether a file is Parquet, by its name.
pub fn is_parquet(path: &Path) -> Result<bool, StorageError> {
    Ok(matches!(kind(path)?, Kind::Parquet))
}

enum Kind {
    Parquet,
    Csv(u8),
}

fn kind(path: &Path) -> Result<Kind, StorageError> {
    match path.extension().and_then(|extension| extension.to_str()).map(str::to_ascii_lowercase).as_deref() {
        Some("parquet" | "pq") => Ok(Kind::Parquet),
        Some("csv") => Ok(Kind::Csv(b',')),
        Some("tsv") => Ok(Kind::Csv(b'\t')),
        _ => Err(StorageError::Data(format!(
            "{}: what kind of file this is can't be told from its name; .parquet, .csv and .tsv are read",
            path.display()
        ))),
    }
}

fn read_parquet(path: &Path) -> Result<RecordBatch, StorageError> {
    let bad = |error: &dyn std::fmt::Display| {
        StorageError::Data(format!("{} can't be read as Parquet: {error}", path.display()))
    };
    let file = File::open(path).map_err(StorageError::io("can't read", path))?;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| bad(&error))?;
    let schema = Arc::clone(builder.schema());
    let reader = builder.with_batch_size(64 * 1024).build().map_err(|error| bad(&error))?;
    let batches = reader.collect::<Result<Vec<_>, _>>().map_err(|error| bad(&error))?;
    concat_batches(&schema, &batches).map_err(|error| bad(&error))
}

fn read_csv(path: &Path, delimiter: u8) -> Result<RecordBatch, StorageError> {
    let (schema, reader) = open_csv(path, delimiter)?;
    let batches = reader.collect::<Result<Vec<_>, _>>().map_err(|error| bad_csv(path, &error))?;
    concat_batches(&schema, &batches).map_err(|error| bad_csv(path, &error))
}

fn bad_csv(path: &Path, error: &arrow::error::ArrowError) -> StorageError {
    let text = error.to_string();
    let text = text.strip_prefix("Csv error: ").unwrap_or(&text).to_owned();
    let advice = "mend that line, or quote the field that holds the delimiter";
    StorageError::Data(format!("{} can't be read as CSV: {text}; {advice}", path.display()))
}

type CsvRows = arrow::csv::reader::BufReader<std::io::BufReader<File>>;

fn open_csv(path: &Path, delimiter: u8) -> Result<(SchemaRef, CsvRows), StorageError> {
    let bad = |error: arrow::error::ArrowError| bad_csv(path, &error);
    let open = || File::open(path).map_err(StorageError::io("can't read", path));
    let format = || Format::default().with_header(true).with_delimiter(delimiter).with_null_regex(nulls());
    let (schema, _) = format().infer_schema(std::io::BufReader::new(open()?), None).map_err(bad)?;
    let schema = settle(schema);
    let reader = arrow::csv::ReaderBuilder::new(Arc::clone(&schema))
        .with_format(format())
        .with_batch_size(CSV_ROWS_A_BATCH)
        .build_buffered(std::io::BufReader::new(open()?))
        .map_err(bad)?;
    Ok((schema, reader))
}

/// What stands for null in a text file.
pub(crate) fn nulls() -> regex::Regex {
    regex::Regex::new("^(NA|N/A|NaN|nan|null|NULL|\\?)?$").expect("the expression is constant and valid")
}

/// A column without any value is taken as text; every column may hold nulls.
fn settle(schema: Schema) -> SchemaRef {
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .map(|field| {
            let kind = if field.data_type() == &DataType::Null { DataType::Utf8 } else { field.data_type().clone() };
            Field::new(field.name(), kind, true)
        })
        .collect();
    Arc::new(Schema::new(fields))
}

fn bad_query(sql: &Path, error: &datafusion::error::DataFusionError) -> StorageError {
    StorageError::Data(format!("{}: {}", sql.display(), error.strip_backtrace()))
}

async fn query(root: &Path, sql: &Path, data: &DataSpec) -> Result<RecordBatch, StorageError> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let frame = frame(root, sql, data, threads).await?;
    let bad = |error: datafusion::error::DataFusionError| bad_query(sql, &error);
    let schema: SchemaRef = Arc::new(frame.schema().as_arrow().clone());
    let batches = frame.collect().await.map_err(bad)?;
    let schema = batches.first().map_or(schema, |batch| batch.schema());
    concat_batches(&schema, &batches).map_err(|error| bad(error.into()))
}

/// A query over files, planned.
async fn frame(root: &Path, sql: &Path, data: &DataSpec, partitions: usize) -> Result<DataFrame, StorageError> {
    let text = std::fs::read_to_string(sql).map_err(StorageError::io("can't read", sql))?;
    let config = SessionConfig::new().with_target_partitions(partitions);
    let bad = |error: datafusion::error::DataFusionError| bad_query(sql, &error);
    let context = match partitions {
        1 => {
            let runtime = RuntimeEnvBuilder::new().with_memory_limit(SCAN_BYTES_MAX, 1.0).build_arc().map_err(bad)?;
            SessionContext::new_with_config_rt(config, runtime)
        }
        _ => SessionContext::new_with_config(config),
    };
    for (name, file) in &data.tables {
        let path = root.join(file);
        if !path.exists() {
            let what = format!("table \"{name}\" of {} needs {}, which is not there", sql.display(), path.display());
            return Err(StorageError::Data(what));
        }
        let place = path.display().to_string();
        match kind(&path)? {
            Kind::Parquet => context.register_parquet(name, &place, ParquetReadOptions::default()).await,
            Kind::Csv(delimiter) => {
                let options = CsvReadOptions::new().delimiter(delimiter).schema_infer_max_records(1 << 20);
                context.register_csv(name, &place, options).await
            }
        }
        .map_err(bad)?;
    }
    context.sql(text.trim().trim_end_matches(';')).await.map_err(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn csv_and_sql_are_read_and_a_ragged_row_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.csv");
        std::fs::write(&path, "a,b,when\n1,x,2013-01-01T00:00:00\n2.5,?,2013-01-02T00:00:00\n").unwrap();
        let batch = read_file(&path).unwrap();
        assert_eq!(batch.num_rows(), 2);
        assert_eq!(batch.column(1).null_count(), 1);
        std::fs::write(folder.path().join("q.sql"), "SELECT sum(a) AS total FROM t;").unwrap();
        let data = DataSpec {
            sql: Some("q.sql".into()),
            tables: [("t".to_owned(), "t.csv".to_owned())].into(),
            ..DataSpec::default()
        };
        assert_eq!(load(folder.path(), &data).await.unwrap().num_rows(), 1);
        let mut seen = 0;
        let mut each = |batch: RecordBatch| -> Result<(), StorageError> {
            seen += batch.num_rows();
            Ok(())
        };
        scan(folder.path(), &data, &[], &mut each).await.unwrap();
        let file = DataSpec { file: Some("u.tsv".into()), ..DataSpec::default() };
        std::fs::write(folder.path().join("u.tsv"), "a\tb\n1\tx\n2\ty\n").unwrap();
        scan(folder.path(), &file, &[], &mut each).await.unwrap();
        assert_eq!(seen, 3);
        std::fs::write(&path, "a,b\n1,x\n2\n3,y\n").unwrap();
        let ragged = read_file(&path).unwrap_err().to_string();
        assert!(ragged.contains("line 3"), "{ragged}");
        std::fs::write(folder.path().join("broken.parquet"), "no parquet").unwrap();
        assert!(read_file(&folder.path().join("broken.parquet")).unwrap_err().to_string().contains("as Parquet"));
        let unknown = DataSpec { sql: Some("q.sql".into()), ..DataSpec::default() };
        assert!(load(folder.path(), &unknown).await.unwrap_err().to_string().contains("q.sql"));
    }
}
