//! The HTTP interface: paths, bodies, status codes. What they mean is decided elsewhere.

use super::api::{
    ClockRequest, ClockResponse, ErrorResponse, OperatorRequest, OutcomesRequest, OutcomesResponse, PredictRequest,
    PredictResponse, PredictionOut,
};
use super::error::{ApiError, ApiResult};
use super::predict::{self, Ask};
use super::state::{App, Happened, ModelState};
use super::{assets, looping, metrics, oip, outcomes, status};
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::StreamExt;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use utoipa::OpenApi;
use vocabulary::{PredictionId, Task};

type Shared = State<Arc<App>>;

/// Of a body that is too large, so much is read and thrown away, so that the refusal reaches its sender.
const DRAIN_BYTES_MAX: usize = 1 << 30;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Homeostat",
        description = "Serves models from raw rows, takes their outcomes, and says what the loop does.",
        license(name = "Apache-2.0")
    ),
    paths(
        predict,
        take_outcomes,
        models,
        model,
        versions,
        routing,
        operate,
        prediction,
        findings,
        incidents,
        jobs,
        audit,
        cost,
        events,
        move_clock,
        metrics_text,
        server_metadata,
        live,
        ready,
        model_metadata,
        model_ready,
        infer
    ),
    components(schemas(ErrorResponse))
)]
struct ApiDoc;

pub fn openapi() -> utoipa::openapi::OpenApi {
    ApiDoc::openapi()
}

pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/models/{model}/predict", post(predict))
        .route("/v1/outcomes", post(take_outcomes))
        .route("/v1/models", get(models))
        .route("/v1/models/{model}", get(model))
        .route("/v1/models/{model}/versions", get(versions))
        .route("/v1/models/{model}/routing", get(routing).post(operate))
        .route("/v1/predictions/{id}", get(prediction))
        .route("/v1/findings", get(findings))
        .route("/v1/incidents", get(incidents))
        .route("/v1/jobs", get(jobs))
        .route("/v1/audit", get(audit))
        .route("/v1/cost", get(cost))
        .route("/v1/events", get(events))
        .route("/v1/clock", post(move_clock))
        .route("/metrics", get(metrics_text))
        .route("/openapi.json", get(|| async { Json(openapi()) }))
        .route("/v2", get(server_metadata))
        .route("/v2/", get(server_metadata))
        .route("/v2/health/live", get(live))
        .route("/v2/health/ready", get(ready))
        .route("/v2/models/{model}", get(model_metadata))
        .route("/v2/models/{model}/ready", get(model_ready))
        .route("/v2/models/{model}/infer", post(infer))
        .route("/v2/models/{model}/versions/{version}", get(version_metadata))
        .route("/v2/models/{model}/versions/{version}/ready", get(version_ready))
        .route("/v2/models/{model}/versions/{version}/infer", post(version_infer))
        .fallback(assets::serve)
        .method_not_allowed_fallback(|| async {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method", "this path takes another method; see /openapi.json")
        })
        .with_state(app)
}

/// The whole body, or 413 once it is larger than allowed.
async fn body_of(app: &App, headers: &HeaderMap, body: Body) -> ApiResult<Bytes> {
    let most = app.project.config.server.body_bytes_max;
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let refuse = || {
        let what = format!("the body is larger than {most} bytes ([server] body_bytes_max); send smaller requests");
        ApiError::too_large(what)
    };
    let mut whole = Vec::with_capacity(announced.unwrap_or(0).min(most));
    let mut read = 0usize;
    let mut stream = body.into_data_stream();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| ApiError::malformed(format!("the body broke off: {error}")))?;
        read += chunk.len();
        if read > DRAIN_BYTES_MAX {
            return Err(refuse());
        }
        if read <= most {
            whole.extend_from_slice(&chunk);
        } else {
            whole = Vec::new();
        }
    }
    if read > most { Err(refuse()) } else { Ok(whole.into()) }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> ApiResult<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        let text = vocabulary::suggest::explained(&error.to_string());
        ApiError::malformed(format!("the body is not what is expected here: {text}; see /openapi.json"))
    })
}

/// One request in work; refused where too many are.
struct Admitted<'a>(&'a App);

impl<'a> Admitted<'a> {
    fn new(app: &'a App) -> ApiResult<Self> {
        let most = app.project.config.server.requests_max;
        if app.in_work.fetch_add(1, Ordering::AcqRel) >= most {
            app.in_work.fetch_sub(1, Ordering::AcqRel);
            return Err(ApiError::contended(format!("{most} requests are in work already; try again in a moment"), 1));
        }
        Ok(Admitted(app))
    }
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.0.in_work.fetch_sub(1, Ordering::AcqRel);
    }
}

fn trace_of(app: &App, headers: &HeaderMap) -> String {
    let given = headers.get("traceparent").and_then(|value| value.to_str().ok()).and_then(|text| {
        let id = text.split('-').nth(1)?;
        (id.len() == 32 && id.chars().all(|c| c.is_ascii_hexdigit()) && id.bytes().any(|b| b != b'0'))
            .then(|| id.to_owned())
    });
    given.unwrap_or_else(|| app.trace_id())
}

/// Counts and times a request to a model's data plane.
async fn counted<T>(state: &ModelState, work: impl Future<Output = ApiResult<T>>) -> ApiResult<T> {
    let started = Instant::now();
    state.requests.fetch_add(1, Ordering::Relaxed);
    let answer = work.await;
    match &answer {
        Ok(_) => state.latency.record(started.elapsed()),
        Err(error) => state.refuse(error.reason),
    }
    answer
}

/// Predictions from raw rows; the model's pipeline runs inside.
#[utoipa::path(post, path = "/v1/models/{model}/predict", request_body = PredictRequest, params(("model" = String, Path)),
    responses((status = 200, body = PredictResponse), (status = 400, body = ErrorResponse), (status = 404, body = ErrorResponse),
        (status = 413, body = ErrorResponse), (status = 422, body = ErrorResponse), (status = 429, body = ErrorResponse),
        (status = 503, body = ErrorResponse), (status = 504, body = ErrorResponse)))]
async fn predict(
    State(app): Shared,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> ApiResult<Json<PredictResponse>> {
    let state = app.model(&name)?;
    let work = async {
        let _admitted = Admitted::new(&app)?;
        let started = Instant::now();
        let request: PredictRequest = parse(&body_of(&app, &headers, body).await?)?;
        let deadline = match request.options.deadline_ms {
            Some(ms) if ms.is_finite() && ms > 0.0 => Some(started + Duration::from_secs_f64(ms.min(1e9) / 1e3)),
            Some(ms) => {
                return Err(ApiError::malformed(format!("deadline_ms = {ms} is no length of time; give milliseconds")));
            }
            None => None,
        };
        let idempotency_key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).map(str::to_owned);
        let ask = Ask { idempotency_key, trace: trace_of(&app, &headers), deadline };
        let given = predict::predict(&app, &name, &request.rows, &ask).await?;
        let routes = app.routes.load();
        let version = given.first().map(|first| first.version).or(routes.live(&name).map(|live| live.number));
        let threshold = state.spec.objective.threshold;
        let predictions = given
            .iter()
            .map(|given| PredictionOut {
                id: given.id.to_string(),
                value: given.value,
                probability: (state.spec.task == Task::Binary).then_some(given.value),
                label: (state.spec.task == Task::Binary).then(|| u8::from(given.value >= threshold)),
                version: given.version,
            })
            .collect();
        let version = format!("{name}@{}", version.unwrap_or_default());
        Ok(Json(PredictResponse { model: name.clone(), version, trace: ask.trace, predictions }))
    };
    counted(state, work).await
}

/// What really happened, by prediction id or by key.
#[utoipa::path(post, path = "/v1/outcomes", request_body = OutcomesRequest,
    responses((status = 200, body = OutcomesResponse), (status = 400, body = ErrorResponse), (status = 413, body = ErrorResponse),
        (status = 422, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
async fn take_outcomes(State(app): Shared, headers: HeaderMap, body: Body) -> ApiResult<Json<OutcomesResponse>> {
    let _admitted = Admitted::new(&app)?;
    let request: OutcomesRequest = parse(&body_of(&app, &headers, body).await?)?;
    Ok(Json(outcomes::take(&app, &request.outcomes).await?))
}

/// All models.
#[utoipa::path(get, path = "/v1/models", responses((status = 200, body = Object)))]
async fn models(State(app): Shared) -> Json<Value> {
    let routes = app.routes.load();
    let listed: Vec<Value> = app
        .models
        .iter()
        .map(|(name, state)| {
            let live = routes.route(name).map(|route| route.live.version);
            json!({ "model": name, "task": state.spec.task.name(), "live": live })
        })
        .collect();
    Json(json!({ "models": listed }))
}

/// Everything about one model: traffic, latency, accuracy, routing, trial, monitors, cost.
#[utoipa::path(get, path = "/v1/models/{model}", params(("model" = String, Path)), responses((status = 200, body = Object), (status = 404, body = ErrorResponse)))]
async fn model(State(app): Shared, Path(name): Path<String>) -> ApiResult<Json<Value>> {
    app.model(&name)?;
    Ok(Json(status::model(&app, &name).await?))
}

/// Its registered versions.
#[utoipa::path(get, path = "/v1/models/{model}/versions", params(("model" = String, Path)), responses((status = 200, body = Object), (status = 404, body = ErrorResponse)))]
async fn versions(State(app): Shared, Path(name): Path<String>) -> ApiResult<Json<Value>> {
    app.model(&name)?;
    Ok(Json(json!({ "versions": status::versions(&app, &name).await? })))
}

/// Who answers: the routing snapshot in force.
#[utoipa::path(get, path = "/v1/models/{model}/routing", params(("model" = String, Path)), responses((status = 200, body = Object), (status = 404, body = ErrorResponse)))]
async fn routing(State(app): Shared, Path(name): Path<String>) -> ApiResult<Json<Value>> {
    app.model(&name)?;
    Ok(Json(status::routing(&app, &name)))
}

/// An operator's deed: release, rollback, freeze, thaw.
#[utoipa::path(post, path = "/v1/models/{model}/routing", request_body = OperatorRequest, params(("model" = String, Path)),
    responses((status = 200, body = Object), (status = 400, body = ErrorResponse), (status = 404, body = ErrorResponse), (status = 409, body = ErrorResponse)))]
async fn operate(
    State(app): Shared,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> ApiResult<Json<Value>> {
    app.model(&name)?;
    let request: OperatorRequest = parse(&body_of(&app, &headers, body).await?)?;
    looping::operate(&app, &name, &request).await?;
    Ok(Json(status::routing(&app, &name)))
}

/// One prediction as it was logged, with its outcomes.
#[utoipa::path(get, path = "/v1/predictions/{id}", params(("id" = String, Path)), responses((status = 200, body = Object), (status = 404, body = ErrorResponse)))]
async fn prediction(State(app): Shared, Path(id): Path<String>) -> ApiResult<Json<Value>> {
    let id: PredictionId = id.parse().map_err(|error| ApiError::malformed(format!("{error}")))?;
    let log = app.project.log_path();
    let found =
        tokio::task::spawn_blocking(move || storage::log::find(&log, id)).await.map_err(ApiError::internal)??;
    let Some((prediction, outcomes)) = found else {
        return Err(ApiError::not_found(format!("no prediction {id} in the log")));
    };
    let row: Value = serde_json::from_str(&prediction.row).map_err(ApiError::internal)?;
    let mut shown = serde_json::to_value(&prediction).map_err(ApiError::internal)?;
    shown["row"] = row;
    shown["outcomes"] = json!(outcomes);
    Ok(Json(shown))
}

/// What the monitors found, in order of time.
#[utoipa::path(get, path = "/v1/findings", responses((status = 200, body = Object)))]
async fn findings(State(app): Shared) -> ApiResult<Json<Value>> {
    let mut listed = Vec::new();
    for finding in app.catalog.findings().await? {
        let mut shown = serde_json::to_value(&finding).map_err(ApiError::internal)?;
        shown["alarm"] = json!(finding.kind.is_alarm());
        listed.push(shown);
    }
    Ok(Json(json!({ "findings": listed })))
}

/// Alarms with what was done about each.
#[utoipa::path(get, path = "/v1/incidents", responses((status = 200, body = Object)))]
async fn incidents(State(app): Shared) -> ApiResult<Json<Value>> {
    let audit = app.catalog.audit(0).await?;
    let mut listed = Vec::new();
    for finding in app.catalog.findings().await?.into_iter().filter(|finding| finding.kind.is_alarm()) {
        let deeds: Vec<_> = audit.iter().filter(|entry| entry.because == finding.id).collect();
        listed
            .push(json!({ "id": finding.id, "model": finding.model, "kind": finding.kind, "subject": finding.subject,
            "at": finding.at, "since": finding.since, "message": finding.message, "actions": deeds }));
    }
    Ok(Json(json!({ "incidents": listed })))
}

/// Work done by child processes.
#[utoipa::path(get, path = "/v1/jobs", responses((status = 200, body = Object)))]
async fn jobs(State(app): Shared) -> ApiResult<Json<Value>> {
    Ok(Json(json!({ "jobs": app.catalog.jobs().await? })))
}

/// The audit log: who did what, when and why. `after` gives the entries after that sequence number.
#[utoipa::path(get, path = "/v1/audit", params(("after" = Option<i64>, Query)), responses((status = 200, body = Object), (status = 400, body = ErrorResponse)))]
async fn audit(State(app): Shared, Query(query): Query<HashMap<String, String>>) -> ApiResult<Json<Value>> {
    let after = match query.get("after") {
        Some(text) => text.parse().map_err(|_| ApiError::malformed(format!("after = \"{text}\" is not a number")))?,
        None => 0,
    };
    Ok(Json(json!({ "entries": app.catalog.audit(after).await? })))
}

/// CPU time measured, and what it costs a correct prediction.
#[utoipa::path(get, path = "/v1/cost", responses((status = 200, body = Object)))]
async fn cost(State(app): Shared) -> ApiResult<Json<Value>> {
    let mut models = serde_json::Map::new();
    for name in app.models.keys() {
        models.insert(name.clone(), status::cost(&app, name).await);
    }
    Ok(Json(json!({ "models": models })))
}

/// Server-sent events: `status` about once a second, `audit` with each entry.
#[utoipa::path(get, path = "/v1/events", responses((status = 200, content_type = "text/event-stream", body = String)))]
async fn events(State(app): Shared) -> impl IntoResponse {
    let first = status::all(&app).await.ok();
    let first = futures::stream::iter(first.map(|status| Event::default().event("status").data(status.to_string())));
    let receiver = app.happened.subscribe();
    let rest = futures::stream::unfold(receiver, |mut receiver| async move {
        loop {
            return match receiver.recv().await {
                Ok(Happened::Status(status)) => {
                    Some((Event::default().event("status").data(status.to_string()), receiver))
                }
                Ok(Happened::Audit(entry)) => Some((Event::default().event("audit").data(entry.to_string()), receiver)),
                Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => continue,
                Err(tokio::sync::broadcast::error::RecvError::Closed) => None,
            };
        }
    });
    let stream = first.chain(rest).map(Ok::<_, std::convert::Infallible>);
    Sse::new(stream).keep_alive(KeepAlive::default())
}

/// Moves the loop's clock, where the server follows event time: the loop does what is due, then this returns.
#[utoipa::path(post, path = "/v1/clock", request_body = ClockRequest, responses((status = 200, body = ClockResponse), (status = 400, body = ErrorResponse), (status = 409, body = ErrorResponse)))]
async fn move_clock(State(app): Shared, headers: HeaderMap, body: Body) -> ApiResult<Json<ClockResponse>> {
    let request: ClockRequest = parse(&body_of(&app, &headers, body).await?)?;
    let now = request.now.parse().map_err(|error| ApiError::malformed(format!("{error}")))?;
    if let Some(replay) = request.replay {
        *app.replay.lock() = Some(replay);
    }
    let steps = looping::move_clock(&app, now).await?;
    Ok(Json(ClockResponse { now: now.to_string(), routing: app.routes.load().routing.number, steps }))
}

/// Prometheus.
#[utoipa::path(get, path = "/metrics", responses((status = 200, body = String)))]
async fn metrics_text(State(app): Shared) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], metrics::render(&app)).into_response()
}

/// Open Inference Protocol: what this server is.
#[utoipa::path(get, path = "/v2", responses((status = 200, body = Object)))]
async fn server_metadata() -> Json<Value> {
    Json(json!({ "name": "homeostat", "version": env!("CARGO_PKG_VERSION"), "extensions": [] }))
}

/// The process runs.
#[utoipa::path(get, path = "/v2/health/live", responses((status = 200, body = Object)))]
async fn live() -> Json<Value> {
    Json(json!({ "live": true }))
}

/// Every declared model has a version that answers.
#[utoipa::path(get, path = "/v2/health/ready", responses((status = 200, body = Object), (status = 503, body = Object)))]
async fn ready(State(app): Shared) -> Response {
    let routes = app.routes.load();
    let ready = app.models.keys().all(|name| routes.live(name).is_some());
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({ "ready": ready }))).into_response()
}

/// A model's tensors.
#[utoipa::path(get, path = "/v2/models/{model}", params(("model" = String, Path)), responses((status = 200, body = Object), (status = 404, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
async fn model_metadata(State(app): Shared, Path(name): Path<String>) -> ApiResult<Json<Value>> {
    let artifact = oip::version(&app, &name, None)?;
    Ok(Json(oip::metadata(&app, &name, &artifact)))
}

/// Whether a model answers.
#[utoipa::path(get, path = "/v2/models/{model}/ready", params(("model" = String, Path)), responses((status = 200, body = Object), (status = 404, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
async fn model_ready(State(app): Shared, Path(name): Path<String>) -> ApiResult<Json<Value>> {
    oip::version(&app, &name, None)?;
    Ok(Json(json!({ "name": name, "ready": true })))
}

/// Inference with one tensor a column.
#[utoipa::path(post, path = "/v2/models/{model}/infer", request_body = Object, params(("model" = String, Path)), responses((status = 200, body = Object),
    (status = 400, body = ErrorResponse), (status = 404, body = ErrorResponse), (status = 413, body = ErrorResponse), (status = 422, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
async fn infer(State(app): Shared, Path(name): Path<String>, headers: HeaderMap, body: Body) -> ApiResult<Json<Value>> {
    infer_with(&app, &name, None, &headers, body).await
}

async fn version_metadata(State(app): Shared, Path((name, version)): Path<(String, String)>) -> ApiResult<Json<Value>> {
    let artifact = oip::version(&app, &name, Some(&version))?;
    Ok(Json(oip::metadata(&app, &name, &artifact)))
}

async fn version_ready(State(app): Shared, Path((name, version)): Path<(String, String)>) -> ApiResult<Json<Value>> {
    oip::version(&app, &name, Some(&version))?;
    Ok(Json(json!({ "name": name, "ready": true })))
}

async fn version_infer(
    State(app): Shared,
    Path((name, version)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> ApiResult<Json<Value>> {
    infer_with(&app, &name, Some(&version), &headers, body).await
}

async fn infer_with(
    app: &App,
    name: &str,
    version: Option<&str>,
    headers: &HeaderMap,
    body: Body,
) -> ApiResult<Json<Value>> {
    let state = app.model(name)?;
    let work = async {
        let _admitted = Admitted::new(app)?;
        if headers.contains_key("inference-header-content-length") {
            let what = "binary tensors are not taken; send the tensors' data as JSON (tritonclient: binary_data=False)";
            return Err(ApiError::malformed(what));
        }
        let request: Value = parse(&body_of(app, headers, body).await?)?;
        Ok(Json(oip::infer(app, name, version, &request, trace_of(app, headers)).await?))
    };
    counted(state, work).await
}
