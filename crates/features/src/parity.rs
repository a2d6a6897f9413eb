//! The release gate of the pipeline: a row gives the same bits in a batch, alone, and after a journey through JSON.

use crate::rows::RowReader;
use crate::{FeatureError, Pipeline, row_to_json};
use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use vocabulary::inputs::Inputs;

/// What the comparison found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ParityReport {
    /// Rows compared, each along both ways.
    pub rows: u64,
    /// Rows with at least one different value.
    pub differences: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Difference>,
}

/// The first different value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    pub row: u64,
    /// The layout's name of the dense or slot column; empty where the row could not be read back at all.
    pub column: String,
    /// `single` for a batch of one, `json` for a row that was written and read.
    pub way: String,
    /// Bits of the value in the whole batch, in hexadecimal.
    pub whole: String,
    /// Bits of the value along `way`, or why there is none.
    pub other: String,
}

impl ParityReport {
    /// With what was found in rows behind these; the first difference is that of the lowest row.
    pub fn and(self, later: ParityReport) -> ParityReport {
        ParityReport {
            rows: self.rows + later.rows,
            differences: self.differences + later.differences,
            first: self.first.or(later.first),
        }
    }
}

/// Compares the transform of the whole batch with that of each row alone, and of each row written to JSON text and
/// read as a request would be.
pub fn compare(pipeline: &Pipeline, batch: &RecordBatch) -> Result<ParityReport, FeatureError> {
    let whole = pipeline.transform(batch)?;
    let indices: Vec<usize> = pipeline
        .input_columns()
        .iter()
        .map(|name| crate::columns::column_index(batch.schema_ref(), name, usize::MAX))
        .collect::<Result<_, _>>()?;
    let inputs = batch.project(&indices)?;
    let reader = RowReader::of_kinds(pipeline.input_kinds());
    let mut report = ParityReport { rows: batch.num_rows() as u64, ..ParityReport::default() };
    for row in 0..batch.num_rows() {
        let single = inputs.slice(row, 1);
        let found = differing(pipeline, &whole, row, &pipeline.transform(&single)?, "single").or_else(|| {
            match through_json(&reader, &single) {
                Ok(read) => match pipeline.transform(&read) {
                    Ok(other) => differing(pipeline, &whole, row, &other, "json"),
                    Err(error) => Some(unread(row, error.to_string())),
                },
                Err(why) => Some(unread(row, why)),
            }
        });
        report.differences += u64::from(found.is_some());
        report.first = report.first.take().or(found);
    }
    Ok(report)
}

fn through_json(reader: &RowReader, single: &RecordBatch) -> Result<RecordBatch, String> {
    let text = serde_json::to_string(&row_to_json(single, 0)).map_err(|error| error.to_string())?;
    let map: Map<String, Value> = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    reader.read(&[map]).map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
}

fn unread(row: usize, why: String) -> Difference {
    let (column, whole) = (String::new(), String::new());
    Difference { row: row as u64, column, way: "json".to_owned(), whole, other: why }
}

fn differing(pipeline: &Pipeline, whole: &Inputs, row: usize, other: &Inputs, way: &str) -> Option<Difference> {
    let layout = pipeline.layout();
    let dense = whole.dense_row(row).iter().zip(other.dense_row(0)).zip(&layout.dense);
    let dense = dense.map(|((a, b), column)| (a.to_bits(), b.to_bits(), &column.name));
    let slots = whole.slot_row(row).iter().zip(other.slot_row(0)).zip(&layout.slots);
    let slots = slots.map(|((a, b), name)| (*a, *b, name));
    let (a, b, name) = dense.chain(slots).find(|(a, b, _)| a != b)?;
    let (way, column) = (way.to_owned(), name.clone());
    Some(Difference { row: row as u64, column, way, whole: format!("{a:08x}"), other: format!("{b:08x}") })
}
