//! The decision log's tables as Parquet: `predictions`, `shadows` and `outcomes`, partitioned by model and by the date in
//! the prediction's id. Each file says which version of this layout it has.

use crate::StorageError;
use crate::journal::Record;
use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, ListArray, RecordBatch, StringArray, TimestampMicrosecondArray,
    UInt32Array, UInt64Array,
};
use arrow::datatypes::{DataType, Field, Float64Type, Schema, TimeUnit};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vocabulary::record::{Outcome, Prediction, ShadowScore};
use vocabulary::{Answer, Digest, PredictionId, Timestamp};

/// Version of the layout, written into each file.
pub const LAYOUT: &str = "1";
const LAYOUT_KEY: &str = "homeostat.layout";
const ROWS_A_BATCH: usize = 8192;

/// What to read of the `predictions` table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Columns {
    All,
    /// Without the raw row: a tenth of the bytes.
    WithoutRow,
}

fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn prediction_schema() -> Schema {
    Schema::new(vec![
        Field::new("id", DataType::Utf8, false),
        Field::new("at", instant(), false),
        Field::new("version", DataType::UInt32, false),
        Field::new("digest", DataType::Utf8, false),
        Field::new("snapshot", DataType::UInt64, false),
        Field::new("key", DataType::Utf8, true),
        Field::new("trace", DataType::Utf8, true),
        Field::new("value", DataType::Float64, false),
        Field::new("row", DataType::Utf8, false),
        classes_field(),
        // Files from before there were windows lack the column.
        Field::new("windows", DataType::Utf8, true),
    ])
}

/// The probability of each class; null where the answer is the one number in `value`, which for several classes is the
/// place of the most probable one. Files from before there were several classes lack the column.
fn classes_field() -> Field {
    Field::new("classes", DataType::List(Arc::new(Field::new("item", DataType::Float64, true))), true)
}

fn classes<'a>(answers: impl Iterator<Item = &'a Answer>) -> ArrayRef {
    let lists = answers.map(|answer| match answer {
        Answer::One(_) => None,
        Answer::Classes(probabilities) => Some(probabilities.iter().map(|p| Some(*p)).collect::<Vec<_>>()),
    });
    Arc::new(ListArray::from_iter_primitive::<Float64Type, _, _>(lists))
}

fn answer(values: &Float64Array, classes: Option<&ListArray>, row: usize) -> Option<Answer> {
    match classes.filter(|lists| lists.is_valid(row)) {
        None => Some(Answer::One(values.value(row))),
        Some(lists) => Some(Answer::Classes(lists.value(row).as_primitive_opt::<Float64Type>()?.values()[..].into())),
    }
}

fn shadow_schema() -> Schema {
    Schema::new(vec![
        Field::new("id", DataType::Utf8, false),
        Field::new("version", DataType::UInt32, false),
        Field::new("value", DataType::Float64, false),
        classes_field(),
    ])
}

fn outcome_schema() -> Schema {
    Schema::new(vec![
        Field::new("id", DataType::Utf8, false),
        Field::new("value", DataType::Float64, false),
        Field::new("at", instant(), false),
    ])
}

/// The folder of one partition.
pub fn partition(root: &Path, table: &str, model: &str, date: &str) -> PathBuf {
    root.join(table).join(format!("model={model}")).join(format!("date={date}"))
}

/// Writes the records of one closed segment into their partitions. Doing it again replaces the same files.
pub fn write_segment(root: &Path, segment: u64, records: Vec<Record>) -> Result<(), StorageError> {
    let mut parts: BTreeMap<(&'static str, String, String), Vec<Record>> = BTreeMap::new();
    for record in records {
        let (table, model, id) = match &record {
            Record::Prediction(p) => ("predictions", &p.model, p.id),
            Record::Shadow(s) => ("shadows", &s.model, s.id),
            Record::Outcome(o) => ("outcomes", &o.model, o.id),
        };
        let place = (table, model.clone(), id.at().date());
        parts.entry(place).or_default().push(record);
    }
    for ((table, model, date), records) in parts {
        let path = partition(root, table, &model, &date).join(format!("part-{segment:010}.parquet"));
        let batch = encode(table, &records).map_err(|error| wrong(&path, error))?;
        write(&path, &batch)?;
    }
    Ok(())
}

fn encode(table: &str, records: &[Record]) -> Result<RecordBatch, arrow::error::ArrowError> {
    match table {
        "predictions" => {
            let rows: Vec<&Prediction> =
                records.iter().filter_map(|r| if let Record::Prediction(p) = r { Some(p) } else { None }).collect();
            let columns: Vec<ArrayRef> = vec![
                Arc::new(StringArray::from_iter_values(rows.iter().map(|p| p.id.to_string()))),
                instants(rows.iter().map(|p| p.at)),
                Arc::new(UInt32Array::from_iter_values(rows.iter().map(|p| p.version))),
                Arc::new(StringArray::from_iter_values(rows.iter().map(|p| p.digest.to_string()))),
                Arc::new(UInt64Array::from_iter_values(rows.iter().map(|p| p.snapshot))),
                Arc::new(StringArray::from_iter(rows.iter().map(|p| p.key.as_deref()))),
                Arc::new(StringArray::from_iter(rows.iter().map(|p| p.trace.as_deref()))),
                Arc::new(Float64Array::from_iter_values(rows.iter().map(|p| p.value.value()))),
                Arc::new(StringArray::from_iter_values(rows.iter().map(|p| p.row.as_str()))),
                classes(rows.iter().map(|p| &p.value)),
                Arc::new(StringArray::from_iter(rows.iter().map(|p| p.windows.as_deref()))),
            ];
            RecordBatch::try_new(Arc::new(prediction_schema()), columns)
        }
        "shadows" => {
            let rows: Vec<&ShadowScore> =
                records.iter().filter_map(|r| if let Record::Shadow(s) = r { Some(s) } else { None }).collect();
            let columns: Vec<ArrayRef> = vec![
                Arc::new(StringArray::from_iter_values(rows.iter().map(|s| s.id.to_string()))),
                Arc::new(UInt32Array::from_iter_values(rows.iter().map(|s| s.version))),
                Arc::new(Float64Array::from_iter_values(rows.iter().map(|s| s.value.value()))),
                classes(rows.iter().map(|s| &s.value)),
            ];
            RecordBatch::try_new(Arc::new(shadow_schema()), columns)
        }
        _ => {
            let rows: Vec<&Outcome> =
                records.iter().filter_map(|r| if let Record::Outcome(o) = r { Some(o) } else { None }).collect();
            let columns: Vec<ArrayRef> = vec![
                Arc::new(StringArray::from_iter_values(rows.iter().map(|o| o.id.to_string()))),
                Arc::new(Float64Array::from_iter_values(rows.iter().map(|o| o.value))),
                instants(rows.iter().map(|o| o.at)),
            ];
            RecordBatch::try_new(Arc::new(outcome_schema()), columns)
        }
    }
}

fn instants(values: impl Iterator<Item = Timestamp>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(values.map(|t| t.0)).with_timezone("UTC"))
}

/// Writes one batch as a whole file, or leaves what was there.
pub fn write(path: &Path, batch: &RecordBatch) -> Result<(), StorageError> {
    let level = ZstdLevel::try_new(3).map_err(|error| wrong(path, error))?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_key_value_metadata(Some(vec![KeyValue::new(LAYOUT_KEY.to_owned(), LAYOUT.to_owned())]))
        .build();
    let mut writer =
        ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).map_err(|error| wrong(path, error))?;
    writer.write(batch).map_err(|error| wrong(path, error))?;
    let bytes = writer.into_inner().map_err(|error| wrong(path, error))?;
    crate::write_atomically(path, &bytes)
}

fn wrong(path: &Path, error: impl std::error::Error + Send + Sync + 'static) -> StorageError {
    StorageError::Partition { path: path.display().to_string(), source: Box::new(error) }
}

/// Reads the files of a partition folder, in the order of their segments, handing each record to `each`.
pub fn read_partition(
    folder: &Path,
    table: &str,
    model: &str,
    columns: Columns,
    each: &mut dyn FnMut(Record),
) -> Result<(), StorageError> {
    for path in crate::log::list(folder, "parquet")? {
        read_file(&path, table, model, columns, each)?;
    }
    Ok(())
}

fn read_file(
    path: &Path,
    table: &str,
    model: &str,
    columns: Columns,
    each: &mut dyn FnMut(Record),
) -> Result<(), StorageError> {
    let file = File::open(path).map_err(StorageError::io("can't read", path))?;
    let mut builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| wrong(path, error))?;
    let layout = builder.schema().metadata().get(LAYOUT_KEY).cloned().or_else(|| {
        let metadata = builder.metadata().file_metadata().key_value_metadata()?;
        metadata.iter().find(|pair| pair.key == LAYOUT_KEY)?.value.clone()
    });
    if layout.as_deref() != Some(LAYOUT) {
        return Err(StorageError::Damaged {
            path: path.display().to_string(),
            what: format!("its layout is {layout:?}, this program reads \"{LAYOUT}\""),
        });
    }
    if table == "predictions" && columns == Columns::WithoutRow {
        let fields = builder.schema().fields();
        let wanted: Vec<usize> = (0..fields.len()).filter(|place| fields[*place].name() != "row").collect();
        let mask = ProjectionMask::roots(builder.parquet_schema(), wanted);
        builder = builder.with_projection(mask);
    }
    let reader = builder.with_batch_size(ROWS_A_BATCH).build().map_err(|error| wrong(path, error))?;
    for batch in reader {
        let batch = batch.map_err(|error| wrong(path, error))?;
        decode(&batch, table, model, each).ok_or_else(|| StorageError::Damaged {
            path: path.display().to_string(),
            what: format!("its columns are not those of the table {table}"),
        })?;
    }
    Ok(())
}

fn decode(batch: &RecordBatch, table: &str, model: &str, each: &mut dyn FnMut(Record)) -> Option<()> {
    let text = |name: &str| batch.column_by_name(name)?.as_any().downcast_ref::<StringArray>();
    let float = |name: &str| batch.column_by_name(name)?.as_any().downcast_ref::<Float64Array>();
    let time = |name: &str| batch.column_by_name(name)?.as_any().downcast_ref::<TimestampMicrosecondArray>();
    let optional = |array: &StringArray, row: usize| (!array.is_null(row)).then(|| array.value(row).to_owned());
    let (ids, values) = (text("id")?, float("value")?);
    let classes = batch.column_by_name("classes").and_then(|lists| lists.as_list_opt::<i32>());
    match table {
        "predictions" => {
            let version = batch.column_by_name("version")?.as_any().downcast_ref::<UInt32Array>()?;
            let snapshot = batch.column_by_name("snapshot")?.as_any().downcast_ref::<UInt64Array>()?;
            let (at, digests, keys, traces) = (time("at")?, text("digest")?, text("key")?, text("trace")?);
            let (rows, windows) = (text("row"), text("windows"));
            for i in 0..batch.num_rows() {
                let digest: Digest = digests.value(i).parse().ok()?;
                each(Record::Prediction(Prediction {
                    id: ids.value(i).parse().ok()?,
                    at: Timestamp(at.value(i)),
                    model: model.to_owned(),
                    version: version.value(i),
                    digest,
                    snapshot: snapshot.value(i),
                    key: optional(keys, i),
                    trace: optional(traces, i),
                    value: answer(values, classes, i)?,
                    row: rows.map(|rows| rows.value(i).to_owned()).unwrap_or_default(),
                    windows: windows.and_then(|windows| optional(windows, i)),
                }));
            }
        }
        "shadows" => {
            let version = batch.column_by_name("version")?.as_any().downcast_ref::<UInt32Array>()?;
            for i in 0..batch.num_rows() {
                let id: PredictionId = ids.value(i).parse().ok()?;
                let (model, version, value) = (model.to_owned(), version.value(i), answer(values, classes, i)?);
                each(Record::Shadow(ShadowScore { id, model, version, value }));
            }
        }
        _ => {
            let at = time("at")?;
            for i in 0..batch.num_rows() {
                let id: PredictionId = ids.value(i).parse().ok()?;
                let (value, at) = (values.value(i), Timestamp(at.value(i)));
                each(Record::Outcome(Outcome { id, model: model.to_owned(), value, at }));
            }
        }
    }
    Some(())
}
