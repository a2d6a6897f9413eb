//! The server: data plane, control loop and dashboard in one process. Training never runs in it; its jobs are children.

mod api;
mod assets;
mod book;
pub mod deploy;
mod error;
mod histogram;
mod http;
mod jobs;
mod ledger;
mod looping;
mod metrics;
mod oip;
mod outcomes;
mod predict;
mod rebuild;
mod state;
mod status;
mod worker;

use crate::client::{PLACE_FILE, Place};
use crate::project::{ClockKind, Project};
use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use state::{App, Happened, ModelState};
use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;
use storage::DecisionLog;
use tokio::net::TcpListener;

/// How often the page is told where things stand.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// Serves until SIGTERM or Ctrl-C.
pub async fn run(project: Project, port: Option<u16>) -> Result<()> {
    if project.models.is_empty() {
        bail!("the project declares no model; add one under {}", project.root.join("models").display());
    }
    let state = project.state();
    std::fs::create_dir_all(&state).with_context(|| format!("can't create {}", state.display()))?;
    let _lock = lock(&project)?;
    let host = project.config.server.host.clone();
    let port = port.unwrap_or(project.config.server.port);
    let listener = TcpListener::bind((host.as_str(), port)).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            anyhow::anyhow!(
                "port {port} of {host} is in use by another program; choose one with --port (0 takes any free one)"
            )
        }
        _ => anyhow::anyhow!("can't listen on {host}:{port}: {error}"),
    })?;
    let port = listener.local_addr()?.port();

    let catalog = project.catalog().await?;
    let log = DecisionLog::open(&project.log_path(), project.config.storage.durability)?;
    let models = project
        .models
        .iter()
        .map(|(name, spec)| (name.clone(), model_state(&project, spec)))
        .collect::<BTreeMap<_, _>>();
    let app = Arc::new(App::new(project, catalog, log.journal().clone(), models));
    rebuild::all(&app).await?;
    for (name, model) in &app.models {
        model.worker.start(&app, name).context("can't start a worker")?;
    }
    looping::resume_jobs(&app).await?;
    let place = Place { pid: std::process::id(), host: host.clone(), port };
    storage::write_atomically(&state.join(PLACE_FILE), &serde_json::to_vec(&place)?)?;
    eprintln!("serving on http://{host}:{port} (the page is there too)");

    let ticking = tokio::spawn(tick(Arc::clone(&app)));
    let telling = tokio::spawn(tell(Arc::clone(&app)));
    let served = axum::serve(listener, http::router(Arc::clone(&app)));
    let mut stop = std::pin::pin!(stop_asked());
    tokio::select! {
        result = served.into_future() => result.context("the listener failed")?,
        () = &mut stop => drain(&app).await,
    }
    ticking.abort();
    telling.abort();
    let _ = std::fs::remove_file(state.join(PLACE_FILE));
    app.journal.rotate().await.ok();
    Ok(())
}

fn model_state(project: &Project, spec: &vocabulary::ModelSpec) -> ModelState {
    ModelState {
        spec: spec.clone(),
        ledger: Mutex::new(ledger::Ledger::new(project.config.server.ledger_rows_max)),
        latency: Default::default(),
        requests: Default::default(),
        refused: Default::default(),
        violations: Default::default(),
        unknown_outcomes: Default::default(),
        duplicate_outcomes: Default::default(),
        worker: Default::default(),
        control: tokio::sync::Mutex::new(looping::Loop::new(spec, project.time_zone())),
    }
}

/// One server for a project: the journal has one writer.
fn lock(project: &Project) -> Result<File> {
    let path = project.state().join("lock");
    let file = File::create(&path).with_context(|| format!("can't create {}", path.display()))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(_) => {
            let other = Place::read(&project.state());
            let other = other.map(|place| format!(" (process {}, port {})", place.pid, place.port)).unwrap_or_default();
            bail!("another server runs for {} already{other}; stop it first", project.root.display())
        }
    }
}

async fn stop_asked() {
    use tokio::signal::unix::{SignalKind, signal};
    let interrupted = tokio::signal::ctrl_c();
    match signal(SignalKind::terminate()) {
        Ok(mut terminated) => {
            tokio::select! {
                _ = interrupted => {}
                _ = terminated.recv() => {}
            }
        }
        Err(_) => drop(interrupted.await),
    }
}

/// Waits until the requests in work are answered, five seconds at most.
async fn drain(app: &App) {
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while app.in_work.load(std::sync::atomic::Ordering::Acquire) > 0 && std::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for model in app.models.values() {
        let _ = tokio::time::timeout(Duration::from_secs(5), model.worker.flush()).await;
    }
}

/// The loop on the wall's clock.
async fn tick(app: Arc<App>) {
    if app.clock.kind == ClockKind::Event {
        return;
    }
    let every = Duration::from_micros(app.project.config.control.every.0.max(100_000) as u64);
    let mut interval = tokio::time::interval(every);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        if let Err(error) = looping::tick(&app, crate::clock::wall()).await {
            tracing::error!("the loop: {}", error.error);
        }
    }
}

async fn tell(app: Arc<App>) {
    let mut interval = tokio::time::interval(STATUS_EVERY);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        if app.happened.receiver_count() == 0 {
            continue;
        }
        if let Ok(status) = status::all(&app).await {
            let _ = app.happened.send(Happened::Status(Arc::new(status)));
        }
    }
}
