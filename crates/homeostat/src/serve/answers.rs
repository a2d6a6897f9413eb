//! Answers of declared models that were given before. A key holds everything that can change the answer: tenant,
//! artifact, number of the routing snapshot, and the row's columns that the answer follows from. A row that somebody
//! computes already is waited for. Only the numbers are kept: each answer is logged, and has an id of its own.

use super::data_plane::secret;
use super::predict::compute;
use super::scoring::ScoringLane;
use super::state::{App, ModelState};
use crate::artifact::Artifact;
use crate::project::ServerSection;
use crate::row_bytes::RowBytes;
use crate::transforms::FeatureCache;
use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use serving::Refusal;
use serving::call::{CacheUse, Call, Stage};
use serving::lane::AskError;
use serving::row_cache::{Found, Guard, RowCache, Tally, keep};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What is remembered of rows, for all declared models.
pub struct Memories {
    pub answers: RowCache<f64>,
    pub features: FeatureCache,
    /// Whether tenants see each other's answers.
    shared: bool,
}

impl Memories {
    pub fn new(server: &ServerSection) -> Memories {
        Memories {
            answers: RowCache::new(server.prediction_cache_bytes_max, secret()),
            features: RowCache::new(server.feature_cache_bytes_max, secret()),
            shared: server.cache_shared,
        }
    }
}

/// Rows that one version is to answer, under a routing snapshot.
pub struct Asked<'a> {
    pub artifact: &'a Arc<Artifact>,
    pub batch: &'a RecordBatch,
    pub snapshot: u64,
}

/// The answers to all rows, row-major: those that are known, and the rest computed.
pub async fn answers(app: &App, state: &ModelState, asked: Asked<'_>, call: &mut Call) -> Result<Vec<f64>, AskError> {
    let Asked { artifact, batch, .. } = asked;
    let lane = state.lane(app, artifact);
    let (cache, tally, rows) = (&app.memories.answers, &state.answers, batch.num_rows());
    if !cache.is_on() {
        return compute(app, &lane, batch, call).await;
    }
    let begun = Instant::now();
    let cost = lane.cost.predict_us(rows).map_or(f64::MAX, |us| us / rows.max(1) as f64);
    let bytes = if tally.worth.pays(cost) { RowBytes::of(batch, &artifact.follows) } else { None };
    let Some(bytes) = bytes else {
        tally.passed_by(rows);
        return compute(app, &lane, batch, call).await;
    };
    let tenant = if app.memories.shared { "" } else { &call.tenant.name };
    let keys = cache.keys(&[tenant.as_bytes(), &artifact.digest.0, &asked.snapshot.to_le_bytes()]);
    let mut row_bytes = Vec::new();
    let Found { mut known, mine, others } = cache.look((0..rows).map(|row| {
        bytes.write(row, &mut row_bytes);
        keys.of(&row_bytes)
    }));
    let mut looking = begun.elapsed();
    call.took(Stage::Cache, begun.saturating_duration_since(call.received), looking);
    call.spent(looking);
    let missed = mine.len();
    call.cache = if missed == 0 { CacheUse::Hit } else { CacheUse::Miss };
    let work = Work { app, lane: &lane, batch, tally };
    looking += work.fill(&mut known, mine, call).await?;
    tally.looked_up(rows - missed, rows, looking);
    for (place, key) in others {
        match cache.wait(&key, call.deadline).await? {
            Ok(values) => known[place] = Some(values),
            // Whoever computed it failed or went away.
            Err(guard) => {
                work.fill(&mut known, vec![(place, guard)], call).await?;
            }
        }
    }
    let mut values = Vec::with_capacity(rows);
    for row in known {
        let missing = || Refusal::internal("a row has neither a known answer nor a computed one");
        values.extend_from_slice(&row.ok_or_else(missing)?);
    }
    Ok(values)
}

struct Work<'a> {
    app: &'a App,
    lane: &'a Arc<ScoringLane>,
    batch: &'a RecordBatch,
    tally: &'a Arc<Tally>,
}

impl Work<'_> {
    /// Computes these rows and keeps their answers; says how long the keeping took.
    async fn fill(
        &self,
        known: &mut [Option<Arc<[f64]>>],
        missing: Vec<(usize, Guard<'_, f64>)>,
        call: &mut Call,
    ) -> Result<Duration, AskError> {
        if missing.is_empty() {
            return Ok(Duration::ZERO);
        }
        let values = if missing.len() == known.len() {
            compute(self.app, self.lane, self.batch, call).await?
        } else {
            let places = UInt32Array::from_iter_values(missing.iter().map(|(place, _)| *place as u32));
            let rows = take_record_batch(self.batch, &places).map_err(Refusal::internal)?;
            compute(self.app, self.lane, &rows, call).await?
        };
        let begun = Instant::now();
        let width = values.len() / missing.len();
        for ((place, guard), row) in missing.into_iter().zip(values.chunks_exact(width.max(1))) {
            let row: Arc<[f64]> = row.into();
            known[place] = Some(Arc::clone(&row));
            keep(guard, self.tally, row);
        }
        Ok(begun.elapsed())
    }
}
