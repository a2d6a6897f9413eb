//! Rows for tests: departures whose lateness follows from the hour, the carrier and the wind.

use crate::checkpoint::{Checkpoints, Folder};
use crate::error::LearnError;
use crate::keyed::{Purpose, bits};
use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::record_batch::RecordBatch;
use inference::elementary::{exp, logistic};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;
use vocabulary::contract::{Column, ColumnKind, Contract, Scalar};
use vocabulary::model::{DataSpec, ModelSpec, Task};

fn uniform(row: usize, step: u64) -> f64 {
    (bits(11, Purpose::Split, step, row as u64) >> 11) as f64 / (1u64 << 53) as f64
}

/// One row each ten minutes; `late` is 0, 1 or, in each fiftieth row, null; `delay` is its quantity.
pub(crate) fn departures(rows: usize) -> RecordBatch {
    let all = || 0..rows;
    let carriers = ["AA", "B6", "DL", "EV", "UA"];
    let carrier = |row| (uniform(row, 1) * 5.0) as usize;
    let wind = |row| 20.0 * uniform(row, 2);
    let hour = |row: usize| (row / 6 % 24) as f64;
    let sum = |row| 0.15 * (hour(row) - 14.0) + 0.1 * (wind(row) - 10.0) + 0.4 * (carrier(row) as f64 - 2.0);
    let late = |row| i64::from(uniform(row, 3) < logistic(sum(row)));
    let known = |row: usize| !row.is_multiple_of(50);
    let at = TimestampMicrosecondArray::from_iter_values(all().map(|row| row as i64 * 600_000_000));
    let columns: [(&str, ArrayRef); 6] = [
        ("at", Arc::new(at.with_timezone("UTC"))),
        ("hour", Arc::new(Int64Array::from_iter_values(all().map(|row| hour(row) as i64)))),
        ("carrier", Arc::new(StringArray::from_iter_values(all().map(|row| carriers[carrier(row)])))),
        ("wind", Arc::new(Float64Array::from_iter(all().map(|row| (!row.is_multiple_of(13)).then(|| wind(row)))))),
        ("late", Arc::new(Int64Array::from_iter(all().map(|row| known(row).then(|| late(row)))))),
        ("delay", Arc::new(Float64Array::from_iter(all().map(|row| known(row).then(|| 30.0 * exp(0.3 * sum(row))))))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()
}

pub(crate) fn contract() -> Contract {
    use ColumnKind::*;
    let kinds =
        [("at", Timestamp), ("hour", Int), ("carrier", String), ("wind", Float), ("late", Int), ("delay", Float)];
    let column = |(name, kind): (&str, ColumnKind)| Column::new(name, kind);
    let columns = kinds.map(column).to_vec();
    Contract { time: Some("at".to_owned()), ..Contract::new("departures", columns) }
}

pub(crate) fn spec(task: Task) -> ModelSpec {
    let (target, other) = match task {
        Task::Binary => ("late", "delay"),
        Task::Regression => ("delay", "late"),
        Task::Multiclass => ("carrier", "delay"),
    };
    let classes = match task {
        Task::Multiclass => ["AA", "B6", "DL", "EV", "UA"].map(|name| Scalar::Text(name.to_owned())).to_vec(),
        _ => Vec::new(),
    };
    ModelSpec {
        name: "arrival".to_owned(),
        contract: "departures".to_owned(),
        task,
        target: target.to_owned(),
        positive: None,
        classes,
        weight: None,
        time: Some("at".to_owned()),
        key: None,
        outcome_at: None,
        data: DataSpec { file: Some("departures.parquet".to_owned()), ..DataSpec::default() },
        features: vocabulary::model::FeatureSpec { exclude: vec![other.to_owned()], ..Default::default() },
        learner: Default::default(),
        tuning: Default::default(),
        split: vocabulary::model::SplitSpec { refit: false, ..Default::default() },
        objective: Default::default(),
        monitors: Default::default(),
        retraining: Default::default(),
        release: Default::default(),
    }
}

/// Keeps state as a run does, and asks it to stop at the step boundary of a number.
pub(crate) struct StopAt {
    folder: Folder,
    stop: &'static AtomicBool,
    left: AtomicU32,
}

impl StopAt {
    pub(crate) fn new(path: &Path, stop: &'static AtomicBool, boundary: u32) -> StopAt {
        let folder = Folder::open(path, Duration::from_secs(3600), stop).unwrap();
        StopAt { folder, stop, left: AtomicU32::new(boundary) }
    }
}

impl Checkpoints for StopAt {
    fn load(&self, stage: &str) -> Option<Vec<u8>> {
        self.folder.load(stage)
    }

    fn offer(&self, stage: &str, state: &dyn Fn() -> Vec<u8>) -> Result<(), LearnError> {
        let now = self.left.fetch_sub(1, Ordering::Relaxed) == 0;
        self.stop.store(now, Ordering::Relaxed);
        self.folder.offer(stage, state)
    }

    fn finish(&self, stage: &str, result: &[u8]) -> Result<(), LearnError> {
        self.folder.finish(stage, result)
    }
}
