//! The server: data plane, control loop, streams and dashboard in one process. Training never runs in it; its jobs are children.

mod alerting;
mod answers;
mod api;
mod assets;
mod book;
pub mod data_plane;
mod declared;
pub mod deploy;
mod error;
mod http;
pub mod incidents;
mod jobs;
mod ledger;
mod looping;
mod metrics;
mod outcomes;
mod predict;
mod rebuild;
mod rows;
mod scoring;
mod state;
mod status;
mod steps;
mod streams;
mod warmth;
pub mod watching;
mod windows;
mod worker;

use crate::client::{OPERATOR_FILE, PLACE_FILE, Place};
use crate::project::{ClockKind, Project};
use anyhow::{Context, Result, bail};
use declared::Declared;
use parking_lot::Mutex;
use serving::listen;
use serving::registry::RowModel;
use state::{App, Happened, ModelState, Parts};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use storage::DecisionLog;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// How often the page is told where things stand.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// Serves until SIGTERM or Ctrl-C.
pub async fn run(project: Project, port: Option<u16>, grpc_port: Option<u16>) -> Result<()> {
    let state = project.state();
    std::fs::create_dir_all(&state).with_context(|| format!("can't create {}", state.display()))?;
    let _lock = lock(&project)?;
    let catalog = project.catalog().await?;
    if project.models.is_empty() && project.streams.is_empty() && project.routing()?.models.is_empty() {
        let models = project.root.join("models");
        bail!("there is no model; declare one under {} or register one with `homeostat import FILE`", models.display());
    }
    let server = project.config.server.clone();
    let tls = match &server.tls {
        Some(tls) => Some(listen::tls(&project.root.join(&tls.cert), &project.root.join(&tls.key))?),
        None => None,
    };
    // Whoever takes any free port for HTTP takes any for gRPC too.
    let grpc = grpc_port.unwrap_or(if port == Some(0) { 0 } else { server.grpc_port });
    let (listener, port) = bound(&server.host, port.unwrap_or(server.port), "--port").await?;
    let (grpc_listener, grpc_port) = bound(&server.host, grpc, "--grpc-port").await?;

    let log = DecisionLog::open(&project.log_path(), project.config.storage.durability)?;
    let models = project
        .models
        .iter()
        .map(|(name, spec)| (name.clone(), model_state(&project, spec)))
        .collect::<BTreeMap<_, _>>();
    let made = data_plane::make(&project)?;
    let plane = Arc::clone(&made.plane);
    keep_operator_key(&state.join(OPERATOR_FILE), &made.operator_key)?;
    let streams = streams::Streams::of(&project)?;
    let app = Arc::new(App::new(Parts {
        project,
        streams,
        catalog,
        journal: log.journal().clone(),
        models,
        plane: Arc::clone(&plane),
        routes: made.routes,
        imported: made.imported,
    }));
    let declared = app.models.keys().map(|name| {
        let model = Declared { app: Arc::downgrade(&app), name: name.clone() };
        (name.clone(), Arc::new(model) as Arc<dyn RowModel>)
    });
    plane.registry.add_rows(declared.collect());
    if let Some(exporter) = &made.exporter {
        let _ = app.exporter.set(exporter.clone());
    }
    let _ = app.registry.set(metrics::registry(&app, made.exporter.as_ref()));
    rebuild::all(&app).await?;
    for (name, model) in &app.models {
        model.worker.start(&app, name).context("can't start a worker")?;
    }
    looping::resume_jobs(&app).await?;
    alerting::Alerting::start(&app);
    app.streams.start(&app.project, &tokio::runtime::Handle::current()).context("can't start a stream's thread")?;
    let host = &server.host;
    let place = Place { pid: std::process::id(), host: host.clone(), port, grpc_port: Some(grpc_port) };
    storage::write_atomically(&state.join(PLACE_FILE), &serde_json::to_vec(&place)?)?;
    let scheme = if tls.is_some() { "https" } else { "http" };
    eprintln!("serving on {scheme}://{host}:{port} (the page is there too), gRPC on {host}:{grpc_port}");

    let tasks = [
        tokio::spawn(tick(Arc::clone(&app))),
        tokio::spawn(tell(Arc::clone(&app))),
        tokio::spawn(data_plane::tend(Arc::clone(&app))),
        tokio::spawn(data_plane::preload(Arc::clone(&app), made.preloaded)),
    ];
    let (stop, stopped) = watch::channel(false);
    let patience = Duration::from_millis(server.drain_ms_max);
    let router = http::router(Arc::clone(&app));
    let grpc = serving::grpc::router(Arc::clone(&plane));
    let listening = [
        tokio::spawn(listen::serve(listener, router, Arc::clone(&plane), tls.clone(), stopped.clone(), patience)),
        tokio::spawn(listen::serve(grpc_listener, grpc, Arc::clone(&plane), tls, stopped, patience)),
    ];
    stop_asked().await;
    // Not ready, but still answering: balancers get the time to look elsewhere.
    plane.draining.store(true, std::sync::atomic::Ordering::Relaxed);
    tokio::select! {
        () = tokio::time::sleep(Duration::from_millis(server.drain_grace_ms)) => {}
        () = stop_asked() => {}
    }
    let _ = stop.send(true);
    // The page's event streams would never end by themselves.
    app.happened.send(Happened::Stopping).ok();
    for task in listening {
        let _ = task.await;
    }
    for task in tasks {
        task.abort();
    }
    // Nothing is handed in any more.
    app.streams.stop().await;
    data_plane::keep_warm(&app);
    if app.clock.kind == ClockKind::Wall {
        for model in app.models.values() {
            model.control.lock().await.watching.keep(&app);
        }
    }
    for model in app.models.values() {
        let _ = tokio::time::timeout(Duration::from_secs(5), model.worker.flush()).await;
    }
    if let Some(exporter) = made.exporter {
        exporter.flush(Duration::from_secs(2)).await;
    }
    let _ = std::fs::remove_file(state.join(PLACE_FILE));
    let _ = std::fs::remove_file(state.join(OPERATOR_FILE));
    app.journal.rotate().await.ok();
    Ok(())
}

/// A listener and the port that it got.
async fn bound(host: &str, port: u16, flag: &str) -> Result<(TcpListener, u16)> {
    let listener = TcpListener::bind((host, port)).await.map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "port {port} of {host} is in use by another program; choose one with {flag} (0 takes any free one)"
        ),
        _ => anyhow::anyhow!("can't listen on {host}:{port}: {error}"),
    })?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

/// Writes the key that the command line shows, for its owner's eyes.
fn keep_operator_key(path: &Path, key: &str) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let _ = std::fs::remove_file(path);
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| std::io::Write::write_all(&mut file, key.as_bytes()));
    written.with_context(|| format!("can't write {}", path.display()))
}

fn model_state(project: &Project, spec: &vocabulary::ModelSpec) -> ModelState {
    ModelState {
        spec: spec.clone(),
        ledger: Mutex::new(ledger::Ledger::new(project.config.server.ledger_rows_max)),
        latency: Default::default(),
        requests: Default::default(),
        refused: Default::default(),
        violations: Default::default(),
        arms: Default::default(),
        unknown_outcomes: Default::default(),
        duplicate_outcomes: Default::default(),
        worker: Default::default(),
        answers: Default::default(),
        features: Default::default(),
        lanes: Default::default(),
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
