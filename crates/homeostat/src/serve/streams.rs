//! Streams of events beside the data plane: a thread for each, what is handed in, and what is looked up.

use super::api::{EventsRequest, EventsResponse};
use super::error::{ApiError, ApiResult, stored};
use super::http::{Shared, body_of, parse};
use super::state::App;
use super::windows::Lookups;
use crate::clock;
use crate::project::Project;
use crate::streams::{self, Decoder, Live, keep_running};
use anyhow::Result;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use storage::StorageError;
use storage::streams::Spool;
use tokio::runtime::Handle;
use vocabulary::Timestamp;
use vocabulary::stream::SourceSpec;

/// Events beyond which a request is worked on outside the network threads.
const INLINE_EVENTS_MAX: usize = 64;

/// Offending values that a refusal names.
const PROBLEMS_LISTED_MAX: usize = 100;

/// The project's streams.
#[derive(Default)]
pub struct Streams {
    pub all: BTreeMap<String, Arc<Stream>>,
    stop: Arc<AtomicBool>,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
}

pub struct Stream {
    pub live: Arc<Live>,
    pub decoder: Decoder,
    /// There once the stream's thread has opened it.
    pub spool: Mutex<Option<Spool>>,
    /// Events taken over HTTP, and those refused for what they hold.
    pub handed_in: AtomicU64,
    pub broken: AtomicU64,
    /// What became of looking up for predictions.
    pub lookups: Lookups,
}

impl Streams {
    pub fn of(project: &Project) -> Result<Streams> {
        let mut all = BTreeMap::new();
        for (name, spec) in &project.streams {
            let stream = Stream {
                live: Arc::new(Live::new(spec)?),
                decoder: Decoder::new(spec)?,
                spool: Mutex::default(),
                handed_in: AtomicU64::new(0),
                broken: AtomicU64::new(0),
                lookups: Lookups::default(),
            };
            all.insert(name.clone(), Arc::new(stream));
        }
        Ok(Streams { all, ..Streams::default() })
    }

    /// Starts a thread for each.
    pub fn start(&self, project: &Project, runtime: &Handle) -> std::io::Result<()> {
        for (name, stream) in &self.all {
            let (stream, stop) = (Arc::clone(stream), Arc::clone(&self.stop));
            let (project, runtime) = (project.clone(), runtime.clone());
            let thread = std::thread::Builder::new()
                .name(format!("stream-{name}"))
                .spawn(move || keep_running(&project, &stream.live, &runtime, &stream.spool, &stop))?;
            self.threads.lock().push(thread);
        }
        Ok(())
    }

    /// Lets each commit and end.
    pub async fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        let threads = std::mem::take(&mut *self.threads.lock());
        let joined = tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join())));
        let _ = joined.await;
    }

    fn get(&self, name: &str) -> ApiResult<&Arc<Stream>> {
        self.all.get(name).ok_or_else(|| {
            let hint = vocabulary::suggest::hint(name, self.all.keys().map(String::as_str));
            ApiError::not_found(format!("no stream \"{name}\"{hint} (GET /v1/streams lists them)"))
        })
    }
}

/// Hands events in to a stream whose source is `http`. Answered once they are kept; each is taken exactly once, where the
/// stream declares an `id` also if a request is sent again.
#[utoipa::path(post, path = "/v1/events/{stream}", request_body = EventsRequest, params(("stream" = String, Path)),
    responses((status = 200, body = EventsResponse), (status = 400, body = super::api::ErrorResponse), (status = 404, body = super::api::ErrorResponse),
        (status = 408, body = super::api::ErrorResponse), (status = 409, body = super::api::ErrorResponse), (status = 413, body = super::api::ErrorResponse),
        (status = 422, body = super::api::ErrorResponse), (status = 429, body = super::api::ErrorResponse), (status = 503, body = super::api::ErrorResponse)))]
pub async fn hand_in(
    State(app): Shared,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> ApiResult<Json<EventsResponse>> {
    let tenant = app.plane.tenants.of_headers(&headers).inspect_err(|refusal| app.plane.refuse(None, refusal))?;
    let _admitted = app.plane.admit(&tenant).inspect_err(|refusal| app.plane.refuse(Some(&tenant), refusal))?;
    let taken = take(&app, &name, &headers, body).await;
    taken.map(Json).inspect_err(|refusal| app.plane.refuse(Some(&tenant), refusal))
}

async fn take(app: &App, name: &str, headers: &HeaderMap, body: Body) -> ApiResult<EventsResponse> {
    let stream = app.streams.get(name)?;
    if !matches!(stream.live.spec.source, SourceSpec::Http { .. }) {
        let kind = streams::kind(&stream.live.spec.source);
        let what = format!("stream \"{name}\" takes its events from its source, \"{kind}\"; put them there");
        return Err(ApiError::new(StatusCode::CONFLICT, "other_source", what));
    }
    let body = body_of(app, headers, body).await?;
    let request: EventsRequest = parse(&body)?;
    let most = app.project.config.server.rows_max;
    let events = &request.events;
    if events.len() > most {
        let what = format!("{} events in one request, {most} are allowed; send several requests", events.len());
        return Err(ApiError::too_large(what));
    }
    let read = || checked(stream, events);
    let texts = if events.len() > INLINE_EVENTS_MAX { tokio::task::block_in_place(read) } else { read() }?;
    let spool = stream.spool.lock().clone();
    let Some(spool) = spool else {
        let what = format!("stream \"{name}\" is not ready to take events; GET /v1/streams says why");
        return Err(ApiError::unavailable("stream_not_ready", what));
    };
    let bytes: usize = texts.iter().map(Vec::len).sum();
    if bytes as u64 > spool.request_bytes_max() {
        let what = format!(
            "{bytes} bytes of events in one request, {} are allowed here (half of [source] spool_bytes_max); send several \
             requests",
            spool.request_bytes_max()
        );
        return Err(ApiError::too_large(what));
    }
    spool.append(&texts, clock::wall()).await.map_err(|error| match &error {
        StorageError::Full { .. } => {
            let what = format!("stream \"{name}\" is behind, and what waits for it has no more room ({error})");
            ApiError::contended("stream_behind", what, Duration::from_secs(1))
        }
        _ => stored(error),
    })?;
    stream.handed_in.fetch_add(texts.len() as u64, Ordering::Relaxed);
    Ok(EventsResponse { stream: name.to_owned(), accepted: texts.len() as u64 })
}

/// Each event as text, or all that is wrong with any.
fn checked(stream: &Stream, events: &[Map<String, Value>]) -> ApiResult<Vec<Vec<u8>>> {
    let mut listed: Vec<Value> = Vec::new();
    let (mut broken, mut first) = (0, String::new());
    for (row, event) in events.iter().enumerate() {
        let problems = stream.decoder.problems(event);
        broken += u64::from(!problems.is_empty());
        for problem in problems {
            if listed.is_empty() {
                first = format!("event {row}: column \"{}\": {}", problem.column, problem.what);
            }
            listed.push(json!({ "row": row, "column": problem.column, "what": problem.what }));
        }
    }
    if broken > 0 {
        stream.broken.fetch_add(broken, Ordering::Relaxed);
        let more = if listed.len() > 1 { format!(" (and {} more)", listed.len() - 1) } else { String::new() };
        listed.truncate(PROBLEMS_LISTED_MAX);
        return Err(ApiError::contract(format!("{first}{more}; no event was taken"), Value::Array(listed)));
    }
    events.iter().map(|event| serde_json::to_vec(event).map_err(ApiError::internal)).collect()
}

/// All streams: events by what became of them, lag, watermarks.
#[utoipa::path(get, path = "/v1/streams", responses((status = 200, body = Object)))]
pub async fn list(State(app): Shared) -> Json<Value> {
    let shown = |stream: &Arc<Stream>| {
        let mut shown = streams::shown(&stream.live);
        shown["lookups"] = stream.lookups.counts().into_iter().map(|(what, n)| (what, json!(n))).collect();
        shown
    };
    let listed: Vec<Value> = app.streams.all.values().map(shown).collect();
    Json(json!({ "streams": listed }))
}

/// What a stream knows about a key, of the events before an instant (now, when left out). `key` is the key column's
/// value; of several columns, a JSON array in their order.
#[utoipa::path(get, path = "/v1/streams/{stream}/features",
    params(("stream" = String, Path), ("key" = String, Query), ("at" = Option<String>, Query)),
    responses((status = 200, body = Object), (status = 400, body = super::api::ErrorResponse), (status = 404, body = super::api::ErrorResponse),
        (status = 503, body = super::api::ErrorResponse)))]
pub async fn features(
    State(app): Shared,
    Path(name): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
) -> ApiResult<Json<Value>> {
    // What is known about a key is for whoever may ask for predictions.
    app.plane.tenants.of_headers(&headers).inspect_err(|refusal| app.plane.refuse(None, refusal))?;
    let stream = app.streams.get(&name)?;
    if let Some(other) = query.keys().find(|asked| !["key", "at"].contains(&asked.as_str())) {
        let hint = vocabulary::suggest::hint(other, ["key", "at"]);
        return Err(ApiError::malformed(format!(
            "there is no parameter \"{other}\"{hint}; give key, and at if you like"
        )));
    }
    let spec = &stream.live.spec;
    let Some(key) = query.get("key") else {
        return Err(ApiError::malformed(format!("give key, the value of {}", spec.key.join(", "))));
    };
    let key = streams::key_of(spec, key).map_err(|error| ApiError::malformed(format!("{error:#}")))?;
    let at: Timestamp = match query.get("at") {
        Some(text) => text.parse().map_err(|error| ApiError::malformed(format!("at: {error}")))?,
        None => clock::wall(),
    };
    if !stream.live.is_open() {
        let what = format!("stream \"{name}\" is not ready; GET /v1/streams says why");
        return Err(ApiError::unavailable("stream_not_ready", what));
    }
    let engine = stream.live.engine.read();
    streams::features(&engine, &key, at).map(Json).map_err(|error| ApiError::malformed(format!("{error:#}")))
}
