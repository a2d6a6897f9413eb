//! A table in a file, read in pieces: from any row on where the kind of file allows it. What the columns mean is not known
//! here.

use anyhow::Result;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::ops::Range;
use std::path::Path;
use storage::parts::{ParquetFile, ROWS_A_BATCH};

/// The rows of a file.
pub enum Input {
    Parquet(ParquetFile),
    /// A kind of file that can't be entered in the middle.
    Loaded(RecordBatch),
}

impl Input {
    pub fn open(path: &Path) -> Result<Input> {
        Ok(match storage::engine::is_parquet(path)? {
            true => Input::Parquet(ParquetFile::open(path)?),
            false => Input::Loaded(storage::engine::read_file(path)?),
        })
    }

    pub fn rows(&self) -> u64 {
        match self {
            Input::Parquet(file) => file.rows(),
            Input::Loaded(rows) => rows.num_rows() as u64,
        }
    }

    pub fn schema(&self) -> SchemaRef {
        match self {
            Input::Parquet(file) => file.schema().clone(),
            Input::Loaded(rows) => rows.schema(),
        }
    }

    /// Batches of some of the rows, with the named columns at least.
    pub fn batches(
        &self,
        rows: Range<u64>,
        columns: &[String],
    ) -> Result<Box<dyn Iterator<Item = Result<RecordBatch>> + '_>> {
        Ok(match self {
            Input::Parquet(file) => Box::new(file.batches(rows, columns)?.map(|batch| Ok(batch?))),
            Input::Loaded(whole) => {
                let (from, to) = (rows.start as usize, rows.end as usize);
                let cut = move |at| Ok(whole.slice(at, ROWS_A_BATCH.min(to - at)));
                Box::new((from..to).step_by(ROWS_A_BATCH).map(cut))
            }
        })
    }
}
