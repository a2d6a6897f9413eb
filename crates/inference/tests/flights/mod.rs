//! The 2,000 flights that the shared model files were asked about, and what their own libraries answered.

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::{Float32Type, Float64Type};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

pub const NUMBERS: [&str; 14] = [
    "dow",
    "mins",
    "distance",
    "pyear",
    "seats",
    "temp",
    "dewp",
    "humid",
    "wind_dir",
    "wind_speed",
    "wind_gust",
    "precip",
    "pressure",
    "visib",
];

/// The rows, column by column.
pub struct Flights {
    columns: HashMap<String, ArrayRef>,
    pub rows: usize,
    /// Where the model files are.
    pub folder: PathBuf,
}

impl Flights {
    /// None where the shared data is not there.
    pub fn read() -> Option<Flights> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/tabular_models");
        let Ok(file) = std::fs::File::open(folder.join("expected.parquet")) else {
            println!("skipped: tabular_models (not found)");
            return None;
        };
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().with_batch_size(1 << 20);
        let batch = reader.build().unwrap().next().unwrap().unwrap();
        let schema = batch.schema();
        let columns = schema.fields().iter().zip(batch.columns());
        let columns = columns.map(|(field, column)| (field.name().clone(), column.clone())).collect();
        Some(Flights { columns, rows: batch.num_rows(), folder })
    }

    /// Missing numbers are NaN.
    pub fn numbers(&self, name: &str) -> Vec<f32> {
        let column = self.columns[name].as_primitive::<Float32Type>();
        column.iter().map(|value| value.unwrap_or(f32::NAN)).collect()
    }

    /// What a library answered.
    pub fn expected(&self, name: &str) -> Vec<f64> {
        let column = &self.columns[name];
        match column.as_primitive_opt::<Float64Type>() {
            Some(column) => column.values().to_vec(),
            None => column.as_primitive::<Float32Type>().values().iter().map(|value| f64::from(*value)).collect(),
        }
    }

    pub fn texts(&self, name: &str) -> Vec<Vec<u8>> {
        let column = arrow::compute::cast(&self.columns[name], &arrow::datatypes::DataType::Utf8).unwrap();
        column.as_string::<i32>().iter().map(|text| text.unwrap_or("").as_bytes().to_vec()).collect()
    }
}
