//! What a version loses and what it costs, beside the one that it was made from.

use super::variant::{Ground, Variant, answers};
use crate::error::LearnError;
use crate::metrics::evaluate;
use crate::paired::{Difference, paired};
use crate::train::Measured;
use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Instant;
use vocabulary::{Metrics, Task};

/// Rows that are timed one by one, and in batches.
const TIMED_ROWS: usize = 1024;
/// Rows of a timed batch: what a busy server scores at once.
const BATCH_ROWS: usize = 256;
/// Rounds of timing; the median counts, and parent and variant take turns.
const ROUNDS: usize = 7;
/// Slices with fewer rows say nothing.
const SLICE_ROWS_MIN: usize = 50;

/// Time and size of a version, pipeline and model together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Cost {
    /// Of the whole bundle.
    pub bytes: u64,
    /// Of the model alone.
    pub model_bytes: u64,
    /// Of one row by itself, in microseconds: median and 99th percentile.
    pub row_us: f64,
    pub row_p99_us: f64,
    /// Of a row in a batch of 256, in microseconds.
    pub batch_row_us: f64,
    /// Of the model alone in a batch of 256, in microseconds a row.
    pub batch_model_us: f64,
}

/// A variant beside its parent, on rows that neither has seen.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    pub metrics: Metrics,
    /// The variant's metric less the parent's, on the same rows.
    pub difference: BTreeMap<String, Difference>,
    /// By column and value.
    pub slices: BTreeMap<String, Metrics>,
    pub cost: Cost,
    pub parent_cost: Cost,
    /// CPU seconds of a prediction over the share of right ones; of a prediction for a regression.
    pub cpu_us_per_correct: f64,
    pub parent_cpu_us_per_correct: f64,
}

impl Ground<'_> {
    pub(super) fn metrics(&self, part: &Measured) -> Result<Metrics, LearnError> {
        let spec = self.spec();
        Ok(evaluate(spec.task, &answers(part, &self.test)?, &self.test_target, spec.objective.threshold))
    }

    /// Measures a variant beside its parent; `slices` are columns whose values make slices.
    pub fn measure(&self, variant: &Variant, slices: &[String]) -> Result<Measurement, LearnError> {
        let spec = self.spec();
        let said = answers(variant.measured(), &self.test)?;
        let parent = answers(self.measured(), &self.test)?;
        let difference = paired(spec.task, &said, &parent, &self.test_target);
        let metrics = variant.manifest.metrics.clone();
        let parent_metrics = evaluate(spec.task, &parent, &self.test_target, spec.objective.threshold);
        let (cost, parent_cost) = self.time(variant)?;
        let correct = |cost: &Cost, metrics: &Metrics| match spec.task {
            Task::Regression => cost.batch_row_us,
            _ => cost.batch_row_us / metrics.get("accuracy").unwrap_or(1.0).max(1e-9),
        };
        Ok(Measurement {
            difference,
            slices: self.slices(&said, slices)?,
            cpu_us_per_correct: correct(&cost, &metrics),
            parent_cpu_us_per_correct: correct(&parent_cost, &parent_metrics),
            metrics,
            cost,
            parent_cost,
        })
    }

    fn slices(&self, said: &[f64], columns: &[String]) -> Result<BTreeMap<String, Metrics>, LearnError> {
        let (spec, outputs) = (self.spec(), self.spec().outputs());
        let mut found = BTreeMap::new();
        for column in columns {
            let Some(values) = self.test.column_by_name(column) else {
                return Err(LearnError::Slice { model: spec.name.clone(), column: column.clone() });
            };
            let texts = cast(values, &DataType::Utf8)?;
            let texts = texts.as_string::<i32>();
            let mut groups: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
            for row in 0..texts.len() {
                groups.entry(if texts.is_null(row) { "(null)" } else { texts.value(row) }).or_default().push(row);
            }
            for (value, rows) in groups.into_iter().filter(|(_, rows)| rows.len() >= SLICE_ROWS_MIN) {
                let answers: Vec<f64> =
                    rows.iter().flat_map(|row| said[row * outputs..(row + 1) * outputs].iter().copied()).collect();
                let target: Vec<f64> = rows.iter().map(|row| self.test_target[*row]).collect();
                let metrics = evaluate(spec.task, &answers, &target, spec.objective.threshold);
                found.insert(format!("{column}={value}"), metrics);
            }
        }
        Ok(found)
    }

    /// The variant's cost and the parent's, timed in turns on one thread.
    fn time(&self, variant: &Variant) -> Result<(Cost, Cost), LearnError> {
        let rows = self.test.slice(0, self.test.num_rows().min(TIMED_ROWS));
        let mut clocks = [Clock::default(), Clock::default()];
        for _ in 0..ROUNDS {
            for (part, clock) in [&variant.whole, &self.whole].into_iter().zip(&mut clocks) {
                clock.round(part, &rows)?;
            }
        }
        let [variant_clock, parent_clock] = clocks;
        let parent_bytes = self.bytes()?;
        Ok((
            variant_clock.cost(variant.encoded.len() as u64, &variant.whole),
            parent_clock.cost(parent_bytes, &self.whole),
        ))
    }
}

/// Times of several rounds, in microseconds.
#[derive(Default)]
struct Clock {
    single: Vec<f64>,
    batch: Vec<f64>,
    model: Vec<f64>,
}

impl Clock {
    fn round(&mut self, part: &Measured, rows: &RecordBatch) -> Result<(), LearnError> {
        let mut out = Vec::new();
        for row in 0..rows.num_rows() {
            let begun = Instant::now();
            let inputs = part.pipeline.transform(&rows.slice(row, 1))?;
            part.predictor.predict(&inputs, &mut out)?;
            self.single.push(begun.elapsed().as_secs_f64() * 1e6);
        }
        for from in (0..rows.num_rows()).step_by(BATCH_ROWS) {
            let batch = rows.slice(from, BATCH_ROWS.min(rows.num_rows() - from));
            let begun = Instant::now();
            let inputs = part.pipeline.transform(&batch)?;
            let transformed = begun.elapsed();
            part.predictor.predict(&inputs, &mut out)?;
            let all = begun.elapsed();
            self.batch.push(all.as_secs_f64() * 1e6 / batch.num_rows() as f64);
            self.model.push((all - transformed).as_secs_f64() * 1e6 / batch.num_rows() as f64);
        }
        Ok(())
    }

    fn cost(mut self, bytes: u64, part: &Measured) -> Cost {
        let quantile = |values: &mut Vec<f64>, q: f64| {
            values.sort_unstable_by(f64::total_cmp);
            values.get(((values.len().max(1) - 1) as f64 * q) as usize).copied().unwrap_or(0.0)
        };
        Cost {
            bytes,
            model_bytes: part.predictor.model.to_bytes().len() as u64,
            row_us: quantile(&mut self.single, 0.5),
            row_p99_us: quantile(&mut self.single, 0.99),
            batch_row_us: quantile(&mut self.batch, 0.5),
            batch_model_us: quantile(&mut self.model, 0.5),
        }
    }
}
