//! The embedded batch engine: reads a file, or runs SQL over files, with DataFusion. The answer is one Arrow batch.

use crate::StorageError;
use crate::files::{Kind, batches, delimiter, is_packed, kind};
pub use crate::files::{is_parquet, read_file};
use crate::parts::ParquetFile;
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{CsvReadOptions, DataFrame, ParquetReadOptions, SessionConfig, SessionContext};
use futures::StreamExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vocabulary::model::DataSpec;

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
                _ => {
                    for batch in batches(&path)?.1 {
                        each(batch?)?;
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

fn bad_query(sql: &Path, error: &datafusion::error::DataFusionError) -> StorageError {
    StorageError::Data(format!("{}: {}", sql.display(), error.strip_backtrace()))
}

async fn query(root: &Path, sql: &Path, data: &DataSpec) -> Result<RecordBatch, StorageError> {
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let frame = frame(root, sql, data, threads).await?;
    let bad = |error: datafusion::error::DataFusionError| bad_query(sql, &error);
    let schema: SchemaRef = Arc::new(frame.schema().as_arrow().clone());
    let rows = frame.collect().await.map_err(bad)?;
    let schema = rows.first().map_or(schema, |batch| batch.schema());
    concat_batches(&schema, &rows).map_err(|error| bad(error.into()))
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
            Kind::Csv | Kind::Tsv if !is_packed(&path) => {
                let delimiter = delimiter(&path)?;
                let options = CsvReadOptions::new().delimiter(delimiter).schema_infer_max_records(1 << 20);
                context.register_csv(name, &place, options).await
            }
            _ => context.register_batch(name, read_file(&path)?).map(drop),
        }
        .map_err(bad)?;
    }
    context.sql(text.trim().trim_end_matches(';')).await.map_err(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_and_sql_over_files_are_read() {
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
        std::fs::write(folder.path().join("u.jsonl"), "{\"a\":1}\n{\"a\":3}\n").unwrap();
        std::fs::write(folder.path().join("q.sql"), "SELECT t.a FROM t JOIN u ON t.a = u.a").unwrap();
        let tables = [("t".to_owned(), "t.csv".to_owned()), ("u".to_owned(), "u.jsonl".to_owned())].into();
        let joined = DataSpec { sql: Some("q.sql".into()), tables, ..DataSpec::default() };
        assert_eq!(load(folder.path(), &joined).await.unwrap().num_rows(), 1);
        std::fs::write(folder.path().join("q.sql"), "SELECT sum(a) AS total FROM t;").unwrap();
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
