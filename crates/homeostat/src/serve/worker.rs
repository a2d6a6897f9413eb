//! What happens to a row after it was answered, off the hot path: other versions score it, and it is counted into the
//! profile. One thread a model; what doesn't fit into its queue is dropped and counted, never waited for.

use super::state::{App, Routes, versions_of};
use crate::transforms::Transforms;
use arrow::array::RecordBatch;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Weak};
use storage::Record;
use tokio::sync::oneshot;
use vocabulary::profile::FeatureReference;
use vocabulary::record::ShadowScore;
use vocabulary::{PredictionId, Timestamp};

/// Answered requests that wait for the worker. Beyond it the shadow scores and profile counts of a request are dropped.
pub const QUEUE_MAX: usize = 8192;

/// A request that was answered.
pub struct Answered {
    pub ids: Vec<PredictionId>,
    pub at: Vec<Timestamp>,
    pub batch: RecordBatch,
    /// The version that answered.
    pub version: u32,
}

enum Work {
    Answered(Answered),
    Flush(oneshot::Sender<()>),
}

/// One row's bins against the reference of `version`.
pub struct Profiled {
    pub at: Timestamp,
    pub version: u32,
    pub bins: Vec<u16>,
    /// What a cause is read from: see [`features::profile::raw`].
    pub numbers: Vec<f64>,
    pub unseen: Vec<(u16, String)>,
}

impl Profiled {
    /// Row `row` of a batch against a reference's features.
    pub fn of(at: Timestamp, version: u32, features: &[FeatureReference], batch: &RecordBatch, row: usize) -> Profiled {
        let (numbers, unseen) = features::profile::raw(features, batch, row);
        Profiled { at, version, bins: features::profile::bins(features, batch, row), numbers, unseen }
    }
}

pub struct Worker {
    sender: SyncSender<Work>,
    inbox: Mutex<Option<Receiver<Work>>>,
    pub dropped_rows: AtomicU64,
    pub scored_rows: AtomicU64,
    profiled: Arc<Mutex<Vec<Profiled>>>,
}

impl Default for Worker {
    fn default() -> Self {
        let (sender, inbox) = sync_channel(QUEUE_MAX);
        Worker {
            sender,
            inbox: Mutex::new(Some(inbox)),
            dropped_rows: AtomicU64::new(0),
            scored_rows: AtomicU64::new(0),
            profiled: Arc::default(),
        }
    }
}

impl Worker {
    /// Starts the thread, once.
    pub fn start(&self, app: &Arc<App>, model: &str) -> std::io::Result<()> {
        let Some(inbox) = self.inbox.lock().take() else { return Ok(()) };
        let (weak, model) = (Arc::downgrade(app), model.to_owned());
        std::thread::Builder::new().name(format!("worker-{model}")).spawn(move || run(&inbox, &weak, &model))?;
        Ok(())
    }

    pub fn hand(&self, answered: Answered) {
        let rows = answered.ids.len() as u64;
        match self.sender.try_send(Work::Answered(answered)) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.dropped_rows.fetch_add(rows, Ordering::Relaxed);
            }
        }
    }

    /// Waits until everything that was handed over before is done.
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        let mut work = Work::Flush(done);
        while let Err(error) = self.sender.try_send(work) {
            match error {
                TrySendError::Full(back) => work = back,
                TrySendError::Disconnected(_) => return,
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        let _ = wait.await;
    }

    /// Rows that were counted before, for the next look.
    pub fn put_back(&self, rows: Vec<Profiled>) {
        self.profiled.lock().extend(rows);
    }

    /// Rows of events before `now` that were counted since the last call.
    pub fn take_profiled(&self, now: Timestamp) -> Vec<Profiled> {
        let mut waiting = self.profiled.lock();
        let (taken, kept) = waiting.drain(..).partition(|profiled| profiled.at < now);
        *waiting = kept;
        taken
    }
}

fn run(inbox: &Receiver<Work>, app: &Weak<App>, model: &str) {
    for work in inbox {
        match work {
            Work::Flush(done) => {
                let _ = done.send(());
            }
            Work::Answered(answered) => {
                let Some(app) = app.upgrade() else { return };
                let routes = app.routes.load_full();
                if let Err(error) = score(&app, &routes, model, &answered) {
                    tracing::warn!("model \"{model}\": shadow scoring failed: {error:#}");
                }
            }
        }
    }
}

fn score(app: &App, routes: &Routes, model: &str, answered: &Answered) -> anyhow::Result<()> {
    let Some(route) = routes.route(model) else { return Ok(()) };
    let state = &app.models[model];
    let mut records = Vec::new();
    // Versions that share a pipeline share its work, and often that of the answer.
    let mut transforms = Transforms::cached(&answered.batch, &app.memories.features, &state.features);
    for version in versions_of(route) {
        let Some(artifact) = routes.artifact(model, version) else { continue };
        if version != answered.version {
            for (id, value) in answered.ids.iter().zip(artifact.answers_from(&mut transforms)?) {
                records.push(ShadowScore { id: *id, model: model.to_owned(), version, value });
            }
        }
        if version == route.live.version {
            let mut profiled = Vec::with_capacity(answered.ids.len());
            for (row, at) in answered.at.iter().enumerate() {
                profiled.push(Profiled::of(*at, version, &artifact.reference.features, &answered.batch, row));
            }
            state.worker.profiled.lock().extend(profiled);
        }
    }
    {
        let mut ledger = state.ledger();
        for record in &records {
            ledger.add_shadow(record.id, record.version, record.value.clone());
        }
    }
    state.worker.scored_rows.fetch_add(records.len() as u64, Ordering::Relaxed);
    let records: Vec<Record> = records.into_iter().map(Record::Shadow).collect();
    futures::executor::block_on(app.journal.append(&records))?;
    Ok(())
}
