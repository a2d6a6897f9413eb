//! The embedded batch engine: reads a file, or runs SQL over files, with DataFusion. The answer is one Arrow batch.

use crate::StorageError;
use crate::files::{Kind, delimiter, is_packed, kind};
pub use crate::files::{is_parquet, read_file};
use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use datafusion::prelude::{CsvReadOptions, ParquetReadOptions, SessionConfig, SessionContext};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vocabulary::model::DataSpec;

/// Loads what `data` declares; paths are relative to `root`.
pub async fn load(root: &Path, data: &DataSpec) -> Result<RecordBatch, StorageError> {
    match (&data.file, &data.sql) {
        (Some(file), _) => read_file(&root.join(file)),
        (None, Some(sql)) => query(root, &root.join(sql), data).await,
        (None, None) => Err(StorageError::Data("the model declares no data; give it [data] file or sql".into())),
    }
}

/// The files that `data` reads, for its digest.
pub fn files(root: &Path, data: &DataSpec) -> Vec<PathBuf> {
    data.file.iter().chain(&data.sql).chain(data.tables.values()).map(|file| root.join(file)).collect()
}

async fn query(root: &Path, sql: &Path, data: &DataSpec) -> Result<RecordBatch, StorageError> {
    let text = std::fs::read_to_string(sql).map_err(StorageError::io("can't read", sql))?;
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(threads));
    let bad = |error: datafusion::error::DataFusionError| {
        StorageError::Data(format!("{}: {}", sql.display(), error.strip_backtrace()))
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
            Kind::Csv if !is_packed(&path) => {
                let delimiter = delimiter(&path)?;
                let options = CsvReadOptions::new().delimiter(delimiter).schema_infer_max_records(1 << 20);
                context.register_csv(name, &place, options).await
            }
            _ => context.register_batch(name, read_file(&path)?).map(drop),
        }
        .map_err(bad)?;
    }
    let frame = context.sql(text.trim().trim_end_matches(';')).await.map_err(bad)?;
    let schema: SchemaRef = Arc::new(frame.schema().as_arrow().clone());
    let batches = frame.collect().await.map_err(bad)?;
    let schema = batches.first().map_or(schema, |batch| batch.schema());
    concat_batches(&schema, &batches).map_err(|error| bad(error.into()))
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
        let unknown = DataSpec { sql: Some("q.sql".into()), ..DataSpec::default() };
        assert!(load(folder.path(), &unknown).await.unwrap_err().to_string().contains("q.sql"));
    }
}
