//! What pipelines make of a batch: each distinct pipeline runs once, whichever versions share it, and rows that it has
//! seen before may come from a cache. A pipeline gives a row the same bits alone and in any company, so that both are
//! exact.

use crate::row_bytes::RowBytes;
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use features::{FeatureError, Pipeline};
use serving::cost::CostTable;
use serving::row_cache::{Found, RowCache, Tally, keep};
use std::sync::Arc;
use std::time::Instant;
use vocabulary::{Digest, Inputs};

/// A row's features: the dense ones' bits, then the slots.
pub type FeatureCache = RowCache<u32>;

/// What one model's pipelines cost, and what looking their results up saves.
#[derive(Default)]
pub struct Worked {
    pub tally: Arc<Tally>,
    cost: CostTable,
}

/// A batch and what it became so far.
pub struct Transforms<'a> {
    batch: &'a RecordBatch,
    cache: Option<(&'a FeatureCache, &'a Worked)>,
    made: Vec<(Digest, Arc<Inputs>)>,
}

impl<'a> Transforms<'a> {
    pub fn of(batch: &'a RecordBatch) -> Transforms<'a> {
        Transforms { batch, cache: None, made: Vec::new() }
    }

    /// With the features that are known already.
    pub fn cached(batch: &'a RecordBatch, cache: &'a FeatureCache, worked: &'a Worked) -> Transforms<'a> {
        Transforms { batch, cache: cache.is_on().then_some((cache, worked)), made: Vec::new() }
    }

    pub fn by(&mut self, pipeline: &Pipeline) -> Result<Arc<Inputs>, FeatureError> {
        let digest = pipeline.digest();
        if let Some((_, inputs)) = self.made.iter().find(|(made, _)| *made == digest) {
            return Ok(Arc::clone(inputs));
        }
        let inputs = Arc::new(match self.cache {
            Some((cache, worked)) => worked.inputs(cache, pipeline, self.batch)?,
            None => pipeline.transform(self.batch)?,
        });
        self.made.push((digest, Arc::clone(&inputs)));
        Ok(inputs)
    }
}

impl Worked {
    fn inputs(&self, cache: &FeatureCache, pipeline: &Pipeline, batch: &RecordBatch) -> Result<Inputs, FeatureError> {
        let rows = batch.num_rows();
        let cost = self.cost.predict_us(rows).map_or(f64::MAX, |us| us / rows.max(1) as f64);
        let bytes = if self.tally.worth.pays(cost) { RowBytes::of(batch, pipeline.input_columns()) } else { None };
        let Some(bytes) = bytes else {
            self.tally.passed_by(rows);
            return self.run(pipeline, batch);
        };
        let begun = Instant::now();
        let keys = cache.keys(&[&pipeline.digest().0]);
        let mut row_bytes = Vec::new();
        let Found { known, mine, others } = cache.look((0..rows).map(|row| {
            bytes.write(row, &mut row_bytes);
            keys.of(&row_bytes)
        }));
        // A thread that computes does not wait: a row that somebody else works on is made here too.
        let mut missing: Vec<usize> = mine.iter().map(|(place, _)| *place).chain(others.iter().map(|o| o.0)).collect();
        missing.sort_unstable();
        let mut looking = begun.elapsed();
        let made = if missing.len() == rows {
            self.run(pipeline, batch)?
        } else if missing.is_empty() {
            Inputs::default()
        } else {
            let places = UInt32Array::from_iter_values(missing.iter().map(|place| *place as u32));
            self.run(pipeline, &take_record_batch(batch, &places)?)?
        };
        let begun = Instant::now();
        for (place, guard) in mine {
            let row = missing.binary_search(&place).unwrap_or_default();
            let dense = made.dense_row(row).iter().map(|value| value.to_bits());
            keep(guard, &self.tally, dense.chain(made.slot_row(row).iter().copied()).collect());
        }
        let inputs = if missing.len() == rows { made } else { joined(pipeline, &known, &made) };
        looking += begun.elapsed();
        self.tally.looked_up(rows - missing.len(), rows, looking);
        Ok(inputs)
    }

    fn run(&self, pipeline: &Pipeline, batch: &RecordBatch) -> Result<Inputs, FeatureError> {
        let begun = Instant::now();
        let inputs = pipeline.transform(batch)?;
        self.cost.observe(batch.num_rows(), begun.elapsed());
        Ok(inputs)
    }
}

/// The known rows, and between them those that were made, in their order.
fn joined(pipeline: &Pipeline, known: &[Option<Arc<[u32]>>], made: &Inputs) -> Inputs {
    let (rows, dense_width, slot_width) = (known.len(), pipeline.layout().dense.len(), pipeline.layout().slots.len());
    let (mut dense, mut slots) = (Vec::with_capacity(rows * dense_width), Vec::with_capacity(rows * slot_width));
    let mut next = 0;
    for row in known {
        match row {
            Some(values) => {
                let (first, rest) = values.split_at(dense_width);
                dense.extend(first.iter().map(|bits| f32::from_bits(*bits)));
                slots.extend_from_slice(rest);
            }
            None => {
                dense.extend_from_slice(made.dense_row(next));
                slots.extend_from_slice(made.slot_row(next));
                next += 1;
            }
        }
    }
    Inputs { rows, dense_width, dense, slot_width, slots }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Float64Array, StringArray};
    use features::Recipe;
    use std::sync::atomic::Ordering::Relaxed;

    fn batch(rows: &[(f64, &str)]) -> RecordBatch {
        let prices: ArrayRef = Arc::new(rows.iter().map(|row| Some(row.0)).collect::<Float64Array>());
        let shops: ArrayRef = Arc::new(rows.iter().map(|row| Some(row.1)).collect::<StringArray>());
        RecordBatch::try_from_iter([("price", prices), ("shop", shops)]).unwrap()
    }

    fn pipeline(recipe: Recipe) -> Pipeline {
        let contract = r#"{"name": "orders", "column": [
            {"name": "price", "type": "float"}, {"name": "shop", "type": "string"}, {"name": "late", "type": "bool"}]}"#;
        let spec = r#"{"name": "m", "contract": "orders", "target": "late", "task": "binary",
            "data": {"file": "x.csv"}, "features": {"columns": ["price", "shop"]}}"#;
        let rows = batch(&[(1.0, "north"), (2.0, "south"), (3.5, "north")]);
        let (spec, contract) = (serde_json::from_str(spec).unwrap(), serde_json::from_str(contract).unwrap());
        Pipeline::fit(&spec, &contract, recipe, &rows, &[0, 1, 2], &[0.0, 1.0, 1.0], 1).unwrap().pipeline
    }

    #[test]
    fn a_pipeline_that_versions_share_runs_once() {
        let rows = batch(&[(1.0, "north"), (9.0, "web")]);
        let mut transforms = Transforms::of(&rows);
        let first = transforms.by(&pipeline(Recipe::Linear)).unwrap();
        assert!(Arc::ptr_eq(&first, &transforms.by(&pipeline(Recipe::Linear)).unwrap()));
        assert!(!Arc::ptr_eq(&first, &transforms.by(&pipeline(Recipe::Trees)).unwrap()));
    }

    #[test]
    fn known_and_new_rows_are_put_together_to_the_bit() {
        let (cache, worked) = (FeatureCache::new(1 << 20, [3; 32]), Worked::default());
        let seen = batch(&[(1.0, "north"), (f64::NAN, "web"), (-0.0, "")]);
        let mixed = batch(&[(7.0, "south"), (1.0, "north"), (1.0, "north"), (f64::NAN, "web"), (7.0, "south")]);
        for recipe in [Recipe::Linear, Recipe::Trees] {
            let pipeline = pipeline(recipe);
            for rows in [&seen, &mixed, &mixed] {
                let inputs = Transforms::cached(rows, &cache, &worked).by(&pipeline).unwrap();
                let plain = pipeline.transform(rows).unwrap();
                let bits = |inputs: &Inputs| inputs.dense.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&inputs), bits(&plain));
                assert_eq!(
                    (&inputs.slots, inputs.rows, inputs.dense_width),
                    (&plain.slots, plain.rows, plain.dense_width)
                );
            }
        }
        // Of each pipeline: three rows of the second batch were known, and all five of the third.
        let (hits, misses) = (worked.tally.hits.load(Relaxed), worked.tally.misses.load(Relaxed));
        assert_eq!((hits, misses), (2 * (3 + 5), 2 * (3 + 2)));
    }
}
