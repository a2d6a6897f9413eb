//! What the server holds: the routing in force with its opened versions, and for each model its ledger, counters and
//! worker. The hot path takes no lock that the loop holds for long.

use super::alerting::Alerting;
use super::answers::Memories;
use super::data_plane::Imported;
use super::error::{ApiError, ApiResult};
use super::ledger::Ledger;
use super::looping::Loop;
use super::scoring::{Scoring, ScoringLane};
use super::status::Ends;
use super::streams::Streams;
use super::worker::Worker;
use crate::artifact::Artifact;
use crate::clock;
use crate::project::{ClockKind, Project};
use crate::transforms::Worked;
use arc_swap::ArcSwap;
use control::guard::Arm;
use features::{Strangers, Violations};
use parking_lot::{Mutex, MutexGuard};
use prometheus_client::registry::Registry;
use serving::histogram::Histogram;
use serving::plane::Plane;
use serving::row_cache::Tally;
use serving::spans::Exporter;
use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use storage::{Catalog, Journal};
use tokio::sync::broadcast;
use vocabulary::model::WindowFeatures;
use vocabulary::record::Route;
use vocabulary::{ModelSpec, Routing, Timestamp};

/// The routing in force and its versions, opened. Swapped whole.
#[derive(Default)]
pub struct Routes {
    pub routing: Routing,
    pub artifacts: BTreeMap<(String, u32), Arc<Artifact>>,
    /// Of each model, every column that the contract of today or of a deployed version names: callers may send rows of
    /// before and of today while versions change.
    pub known: BTreeMap<String, HashSet<String>>,
    /// Of each model whose versions take any, the window features that they take together.
    pub windows: BTreeMap<String, Vec<WindowFeatures>>,
}

impl Routes {
    pub fn route(&self, model: &str) -> Option<&Route> {
        self.routing.models.get(model)
    }

    pub fn known(&self, model: &str) -> Strangers<'_> {
        self.known.get(model).map_or(Strangers::Refuse, Strangers::PassOver)
    }

    pub fn artifact(&self, model: &str, version: u32) -> Option<&Arc<Artifact>> {
        self.artifacts.get(&(model.to_owned(), version))
    }

    pub fn live(&self, model: &str) -> Option<&Arc<Artifact>> {
        self.artifact(model, self.route(model)?.live.version)
    }
}

/// Versions that a route names.
pub fn versions_of(route: &Route) -> Vec<u32> {
    let mut versions = vec![route.live.version];
    versions.extend(route.candidate.as_ref().map(|candidate| candidate.version));
    versions.extend([&route.fallback, &route.frozen].into_iter().flatten().map(|deployed| deployed.version));
    versions.sort_unstable();
    versions.dedup();
    versions
}

pub struct App {
    pub project: Project,
    pub streams: Streams,
    pub catalog: Catalog,
    pub journal: Journal,
    pub routes: Arc<ArcSwap<Routes>>,
    pub plane: Arc<Plane>,
    pub imported: Imported,
    pub memories: Arc<Memories>,
    pub models: BTreeMap<String, ModelState>,
    pub clock: LoopClock,
    /// One change of the routing at a time.
    pub applying: tokio::sync::Mutex<()>,
    pub happened: broadcast::Sender<Happened>,
    pub replay: Mutex<Option<serde_json::Value>>,
    pub job_cpu_us: AtomicU64,
    /// CPU time of earlier processes that served this project.
    cpu_before_us: u64,
    /// Versions whose turn is over.
    pub ends: tokio::sync::Mutex<Ends>,
    pub registry: OnceLock<Registry>,
    pub alerting: Alerting,
    /// Weights below which tenants are refused, in thousandths, as each model's playbooks want it.
    sheds: Mutex<BTreeMap<String, u32>>,
    /// Where spans go; nowhere without `[telemetry]`.
    pub exporter: OnceLock<Exporter>,
    ids: Ids,
}

/// What the event stream tells.
#[derive(Clone, Debug)]
pub enum Happened {
    Status(Arc<serde_json::Value>),
    Audit(Arc<serde_json::Value>),
    /// The server stops: streams end.
    Stopping,
}

pub struct ModelState {
    pub spec: ModelSpec,
    pub ledger: Mutex<Ledger>,
    pub latency: Histogram,
    /// Requests that came, answered or refused.
    pub requests: AtomicU64,
    pub refused: Mutex<BTreeMap<&'static str, u64>>,
    pub violations: Mutex<Violations>,
    /// What each version answered, late or not at all.
    pub arms: Mutex<BTreeMap<u32, Arm>>,
    pub unknown_outcomes: AtomicU64,
    pub duplicate_outcomes: AtomicU64,
    pub worker: Worker,
    /// What became of looking its answers up.
    pub answers: Arc<Tally>,
    /// The same of its features.
    pub features: Arc<Worked>,
    /// The lanes of the versions that answer, by version.
    pub lanes: Mutex<BTreeMap<u32, Arc<ScoringLane>>>,
    pub control: tokio::sync::Mutex<Loop>,
}

impl ModelState {
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock()
    }

    /// The lane of a version; made when it is first asked.
    pub fn lane(&self, app: &App, artifact: &Arc<Artifact>) -> Arc<ScoringLane> {
        let mut lanes = self.lanes.lock();
        if let Some(lane) = lanes.get(&artifact.number) {
            return Arc::clone(lane);
        }
        let server = &app.project.config.server;
        let time_max = Duration::from_secs_f64(server.batch_ms_max / 1e3);
        let scoring = Scoring {
            artifact: Arc::clone(artifact),
            memories: Arc::clone(&app.memories),
            worked: Arc::clone(&self.features),
        };
        let lane = scoring.lane(server.batching, time_max);
        lanes.insert(artifact.number, Arc::clone(&lane));
        // Versions that are no longer deployed have no lane either.
        let routes = app.routes.load();
        let deployed = routes.route(&self.spec.name).map(versions_of).unwrap_or_default();
        lanes.retain(|number, _| *number == artifact.number || deployed.contains(number));
        lane
    }

    /// A version answered a request.
    pub fn answered(&self, version: u32, took: Duration) {
        self.latency.record(took);
        let mut arms = self.arms.lock();
        let arm = arms.entry(version).or_default();
        arm.answered += 1;
        arm.slow += u64::from(took.as_secs_f64() * 1e3 > self.spec.objective.latency_ms);
    }

    pub fn refuse(&self, reason: &'static str) {
        *self.refused.lock().entry(reason).or_default() += 1;
    }
}

/// What a server is put together from.
pub struct Parts {
    pub project: Project,
    pub streams: Streams,
    pub catalog: Catalog,
    pub journal: Journal,
    pub models: BTreeMap<String, ModelState>,
    pub plane: Arc<Plane>,
    pub routes: Arc<ArcSwap<Routes>>,
    pub imported: Imported,
}

impl App {
    pub fn new(parts: Parts) -> App {
        let Parts { project, streams, catalog, journal, models, plane, routes, imported } = parts;
        let clock = LoopClock::new(project.config.server.clock);
        let meter = Meter::read(&project);
        let alerts = project.config.alerts.clone();
        let memories = Arc::new(Memories::new(&project.config.server));
        App {
            project,
            streams,
            catalog,
            journal,
            routes,
            plane,
            imported,
            memories,
            models,
            clock,
            applying: tokio::sync::Mutex::new(()),
            happened: broadcast::channel(256).0,
            replay: Mutex::new(None),
            job_cpu_us: AtomicU64::new(meter.job_cpu_us),
            cpu_before_us: meter.serving_cpu_us,
            ends: Default::default(),
            registry: OnceLock::new(),
            alerting: Alerting::new(&alerts),
            sheds: Mutex::default(),
            exporter: OnceLock::new(),
            ids: Ids::new(),
        }
    }

    pub fn model(&self, name: &str) -> ApiResult<&ModelState> {
        self.models.get(name).ok_or_else(|| {
            let hint = vocabulary::suggest::hint(name, self.models.keys().map(String::as_str));
            ApiError::not_found(format!("no model \"{name}\"{hint} (GET /v1/models lists them)"))
        })
    }

    /// From now on requests of tenants whose weight is below this many thousandths are refused, as far as `model` is
    /// concerned: the most that any model wants holds for all.
    pub fn shed(&self, model: &str, weight_below_milli: u32) {
        let mut sheds = self.sheds.lock();
        sheds.insert(model.to_owned(), weight_below_milli);
        let most = sheds.values().copied().max().unwrap_or(0);
        self.plane.shed_below_milli.store(most, Ordering::Relaxed);
    }

    /// CPU time of serving so far, in seconds, of all processes that served this project.
    pub fn serving_cpu_seconds(&self) -> f64 {
        self.cpu_before_us as f64 / 1e6 + clock::cpu_seconds()
    }

    /// Writes the meter down, so that a restart does not lose what was spent.
    pub fn keep_meter(&self) {
        let meter = Meter {
            serving_cpu_us: (self.serving_cpu_seconds() * 1e6) as u64,
            job_cpu_us: self.job_cpu_us.load(Ordering::Relaxed),
        };
        if let Err(error) = meter.write(&self.project) {
            tracing::warn!("the meter could not be written down: {error:#}");
        }
    }

    /// 80 bits that no other prediction of this or another process has.
    pub fn unique(&self) -> u128 {
        self.ids.next()
    }
}

/// What was spent, as it is kept on disk. Not made durable at each step: after a loss of power a little may be missing.
#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Meter {
    serving_cpu_us: u64,
    job_cpu_us: u64,
}

impl Meter {
    fn read(project: &Project) -> Meter {
        let bytes = std::fs::read(project.state().join("meter.json")).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    fn write(&self, project: &Project) -> anyhow::Result<()> {
        Ok(storage::replace(&project.state().join("meter.json"), &serde_json::to_vec(self)?)?)
    }
}

struct Ids {
    process: u128,
    next: AtomicU64,
}

impl Ids {
    fn new() -> Self {
        let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
        hasher.write_i64(clock::wall().0);
        Ids { process: u128::from(hasher.finish() >> 16) << 32, next: AtomicU64::new(0) }
    }

    fn next(&self) -> u128 {
        self.process.wrapping_add(u128::from(self.next.fetch_add(1, Ordering::Relaxed)))
    }
}

/// The loop's clock: the machine's, or the one that `POST /v1/clock` moves.
pub struct LoopClock {
    pub kind: ClockKind,
    event_us: AtomicI64,
}

impl LoopClock {
    fn new(kind: ClockKind) -> Self {
        LoopClock { kind, event_us: AtomicI64::new(i64::MIN) }
    }

    /// Where the loop has got to; none before an event clock's first move.
    pub fn now(&self) -> Option<Timestamp> {
        match self.kind {
            ClockKind::Wall => Some(clock::wall()),
            ClockKind::Event => {
                let us = self.event_us.load(Ordering::Acquire);
                (us != i64::MIN).then_some(Timestamp(us))
            }
        }
    }

    /// Moves an event clock forward; it never goes back.
    pub fn advance(&self, to: Timestamp) {
        self.event_us.fetch_max(to.0, Ordering::AcqRel);
    }
}
