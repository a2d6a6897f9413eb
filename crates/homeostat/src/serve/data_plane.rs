//! The data plane of a project: its limits from the configuration, its models from catalog and blobs, its tenants from
//! the file, which is read again whenever it changes.

use super::state::{App, Routes};
use super::warmth::Warmth;
use crate::imported::{self, Engine};
use crate::project::{Config, FILE, Project, ServerSection, read_toml};
use anyhow::{Context, Result, bail};
use arc_swap::ArcSwap;
use axum::http::HeaderMap;
use inference::Tensor;
use serving::cache::AnswerCache;
use serving::plane::{Limits, Observer, Parts, Plane, hex};
use serving::registry::{Facts, Listed, Opened, Registry, RegistryOptions, Source};
use serving::schedule::{ScheduleOptions, Scheduler};
use serving::spans::Exporter;
use serving::tenant::{ANONYMOUS, Tenants};
use serving::{Answer, Refusal};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use storage::catalog::Version;
use vocabulary::record::Stage;
use vocabulary::{Digest, Routing};

/// How often the tenants' file is looked at, and the CPU time is shared out.
const EVERY: Duration = Duration::from_secs(1);

/// Imported models that are loaded before the server says that it is ready; more are loaded when they are asked for.
const PRELOADED_MAX: usize = 64;

/// The header by which the command line shows that it may read the project's state folder.
pub const OPERATOR_HEADER: &str = "x-homeostat-operator";

/// Opens imported versions from the blobs.
struct Shelf {
    blobs: storage::Blobs,
    versions: Arc<ArcSwap<BTreeMap<(String, u32), Digest>>>,
    engine: Engine,
    warmth: Warmth,
}

impl Source for Shelf {
    fn open(&self, model: &str, version: u32) -> Result<Opened, String> {
        let digest = self.versions.load().get(&(model.to_owned(), version)).copied();
        let digest = digest.ok_or_else(|| format!("the catalog has no {model}@{version}"))?;
        let bytes = self.blobs.get(&digest).map_err(|error| error.to_string())?;
        let opened = imported::open(&bytes, self.engine).map_err(|error| format!("{error:#}"))?;
        let about = opened.about;
        let (features, classes, task) = (about.features, about.classes, about.task);
        let facts = Facts { features, classes, task, rows_touch: about.rows_touch };
        Ok(Opened { model: opened.model, digest: digest.0.to_vec(), facts })
    }

    fn recorded(&self, artifact: &[u8]) -> Vec<Vec<Tensor>> {
        self.warmth.read(artifact)
    }
}

/// What the server keeps of the data plane beside it.
pub struct Made {
    pub plane: Arc<Plane>,
    pub routes: Arc<ArcSwap<Routes>>,
    pub exporter: Option<Exporter>,
    /// Set once the imported models are loaded that should be.
    pub preloaded: Arc<AtomicBool>,
    pub imported: Imported,
    pub operator_key: String,
}

/// Names and digests of imported versions, shared with whoever opens them.
#[derive(Clone)]
pub struct Imported(Arc<ArcSwap<BTreeMap<(String, u32), Digest>>>);

pub fn threads(server: &ServerSection) -> usize {
    match server.inference_threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}

fn millis(ms: f64) -> Duration {
    Duration::from_secs_f64(ms.clamp(0.0, 1e9) / 1e3)
}

fn warmth(project: &Project) -> Warmth {
    Warmth::at(project.state().join("warm"))
}

/// Writes down the requests that were recorded since the last time.
pub fn keep_warm(app: &App) {
    let warmth = warmth(&app.project);
    for (artifact, requests) in app.plane.registry.freshly_recorded() {
        warmth.write(&artifact, &requests);
    }
}

pub fn make(project: &Project) -> Result<Made> {
    let server = &project.config.server;
    let routes: Arc<ArcSwap<Routes>> = Arc::default();
    let preloaded = Arc::new(AtomicBool::new(false));
    let imported = Imported(Arc::default());
    let shelf = Shelf {
        blobs: project.blobs(),
        versions: Arc::clone(&imported.0),
        engine: Engine { sessions: threads(server) },
        warmth: warmth(project),
    };
    let options = RegistryOptions {
        bytes_max: server.models_bytes_max,
        loaded_max: server.models_loaded_max,
        batch_rows_max: server.batch_rows_max,
        batch_time_max: millis(server.batch_ms_max),
        batching: server.batching,
        recent_max: server.warm_requests_max,
    };
    let schedule = ScheduleOptions {
        threads: threads(server),
        cpus: server.inference_cpus.clone(),
        inline: Duration::from_secs_f64(server.inline_us.clamp(0.0, 1e9) / 1e6),
        queue_rows_max: server.queue_rows_max,
        wait_max: millis(server.queue_ms_max),
    };
    let exporter = match &project.config.telemetry {
        Some(options) => {
            let file = project.root.join(FILE);
            Some(Exporter::start(options).with_context(|| format!("{}: [telemetry]", file.display()))?)
        }
        None => None,
    };
    let names: Vec<String> = project.models.keys().cloned().collect();
    let (known, loaded) = (Arc::clone(&routes), Arc::clone(&preloaded));
    let operator_key = hex(&secret());
    let (key, open) = (operator_key.clone(), Arc::new(AtomicBool::new(project.config.tenants.is_empty())));
    let plane = Plane::new(Parts {
        registry: Registry::new(Arc::new(shelf), options),
        scheduler: Scheduler::start(schedule).context("can't start inference threads")?,
        cache: AnswerCache::new(server.cache_bytes_max, secret()),
        cache_shared: server.cache_shared,
        limits: Limits {
            body_bytes_max: server.body_bytes_max,
            body_time_max: millis(server.body_ms_max),
            rows_max: server.rows_max,
            requests_max: server.requests_max,
            connections_max: server.connections_max,
            deadline: server.deadline_ms.map(millis),
        },
        ready: Box::new(move || {
            let routes = known.load();
            loaded.load(Ordering::Relaxed) && names.iter().all(|name| routes.live(name).is_some())
        }),
        observer: exporter.clone().map(|exporter| Box::new(exporter) as Box<dyn Observer>),
        may_operate: Box::new(move |headers| may_operate(headers, &key, open.load(Ordering::Relaxed))),
    });
    plane.tenants.replace(&project.config.tenants);
    Ok(Made { plane: Arc::new(plane), routes, exporter, preloaded, imported, operator_key })
}

/// Where no tenants are declared everybody is trusted; otherwise only who can read the project's state.
fn may_operate(headers: &HeaderMap, key: &str, open: bool) -> Answer<()> {
    let given = headers.get(OPERATOR_HEADER).map(|value| value.as_bytes());
    let right = given.is_some_and(|given| blake3::hash(given) == blake3::hash(key.as_bytes()));
    if open || right {
        return Ok(());
    }
    let what = "this changes what is served: use the command line on the server's machine, where the project is";
    Err(Refusal::new(axum::http::StatusCode::FORBIDDEN, "operator", what))
}

/// 256 bits that nobody else knows.
pub fn secret() -> [u8; 32] {
    let mut bytes = [0; 32];
    let mut filled = 0;
    while filled < bytes.len() {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("the system gives no random numbers: {error}"),
        }
    }
    bytes
}

impl Imported {
    /// Tells the registry which imported models there are and who answers.
    pub fn list(&self, plane: &Plane, versions: &[Version], routing: &Routing) {
        let imported: Vec<&Version> = versions.iter().filter(|version| imported::is_imported(version)).collect();
        let digests =
            imported.iter().map(|version| ((version.model.clone(), version.number), version.digest)).collect();
        self.0.store(Arc::new(digests));
        let mut listed: BTreeMap<&str, Listed> = BTreeMap::new();
        for version in imported {
            let Some(route) = routing.models.get(&version.model) else { continue };
            let canary = route.candidate.as_ref().filter(|candidate| candidate.stage == Stage::Canary);
            let model = listed.entry(&version.model).or_insert_with(|| Listed {
                name: version.model.clone(),
                versions: Vec::new(),
                live: route.live.version,
                canary: canary.map(|canary| (canary.version, canary.share.bp())),
            });
            model.versions.push((version.number, version.digest.0.to_vec()));
        }
        let listed: Vec<Listed> = listed.into_values().collect();
        plane.registry.list(&listed);
    }
}

/// Loads the imported models that answer, up to [`PRELOADED_MAX`], then lets the server be ready.
pub async fn preload(app: Arc<App>, preloaded: Arc<AtomicBool>) {
    let entries = app.plane.registry.entries();
    let mut names: Vec<&String> = entries.keys().filter(|name| !app.models.contains_key(*name)).collect();
    names.sort_unstable();
    for name in names.into_iter().take(PRELOADED_MAX) {
        if let Some(entry) = entries.get(name)
            && let Err(refusal) = app.plane.registry.ready(entry, entry.live()).await
        {
            tracing::warn!("{}", refusal.error);
        }
    }
    preloaded.store(true, Ordering::Relaxed);
}

/// Shares out the CPU time, writes recorded requests down and puts changed tenants into force, each second.
pub async fn tend(app: Arc<App>) {
    let path = app.project.root.join(FILE);
    let changed = |path: &PathBuf| -> Option<SystemTime> { std::fs::metadata(path).ok()?.modified().ok() };
    let mut seen = changed(&path);
    let mut interval = tokio::time::interval(EVERY);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        app.plane.settle();
        let keeping = Arc::clone(&app);
        let _ = tokio::task::spawn_blocking(move || keep_warm(&keeping)).await;
        let now = changed(&path);
        if now.is_some() && now != seen {
            seen = now;
            match tenants_of(&path, app.project.config.tenants.is_empty()) {
                Ok(config) => {
                    app.plane.tenants.replace(&config.tenants);
                    tracing::info!("{} tenants are in force", config.tenants.len());
                }
                Err(error) => tracing::error!("the tenants stay as they were: {error:#}"),
            }
        }
    }
}

fn tenants_of(path: &std::path::Path, began_open: bool) -> Result<Config> {
    let config: Config = read_toml(path)?;
    if let Some(problem) = Tenants::problems(&config.tenants).first() {
        bail!("{}: {problem}", path.display());
    }
    // Who may operate is settled at the start: a server that began with keys must not open up by a file's mistake.
    if config.tenants.is_empty() != began_open {
        let what = "the first tenant is added or the last one removed only by a restart";
        bail!("{}: {what} (for callers without a key declare one named \"{ANONYMOUS}\")", path.display());
    }
    Ok(config)
}
