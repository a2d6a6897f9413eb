//! The HTTP interface: paths, bodies, status codes. What they mean is decided elsewhere.

use super::api::{ClockRequest, ClockResponse, ErrorResponse, OperatorRequest, OutcomesRequest, OutcomesResponse};
use super::error::{ApiError, ApiResult, stored};
use super::state::{App, Happened};
use super::{assets, incidents, looping, metrics, outcomes, rows, status, streams};
use crate::searches;
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
use utoipa::OpenApi;
use vocabulary::PredictionId;

pub type Shared = State<Arc<App>>;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Homeostat",
        description = "Serves models from raw rows, takes their outcomes, and says what the loop does.",
        license(name = "Apache-2.0")
    ),
    paths(
        super::rows::predict,
        super::streams::hand_in,
        super::streams::list,
        super::streams::features,
        take_outcomes,
        models,
        model,
        versions,
        routing,
        operate,
        prediction,
        findings,
        super::incidents::list,
        super::incidents::one,
        jobs,
        all_searches,
        one_search,
        search_plot,
        audit,
        cost,
        events,
        move_clock,
        metrics_text
    ),
    components(schemas(ErrorResponse))
)]
struct ApiDoc;

pub fn openapi() -> utoipa::openapi::OpenApi {
    ApiDoc::openapi().merge_from(serving::http::openapi())
}

pub fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/v1/models/{model}/predict", post(rows::predict))
        .route("/v1/outcomes", post(take_outcomes))
        .route("/v1/events/{stream}", post(streams::hand_in))
        .route("/v1/streams", get(streams::list))
        .route("/v1/streams/{stream}/features", get(streams::features))
        .route("/v1/models", get(models))
        .route("/v1/models/{model}", get(model))
        .route("/v1/models/{model}/versions", get(versions))
        .route("/v1/models/{model}/routing", get(routing).post(operate))
        .route("/v1/predictions/{id}", get(prediction))
        .route("/v1/findings", get(findings))
        .route("/v1/incidents", get(incidents::list))
        .route("/v1/incidents/{id}", get(incidents::one))
        .route("/v1/jobs", get(jobs))
        .route("/v1/searches", get(all_searches))
        .route("/v1/searches/{id}", get(one_search))
        .route("/v1/searches/{id}/plot", get(search_plot))
        .route("/v1/audit", get(audit))
        .route("/v1/cost", get(cost))
        .route("/v1/events", get(events))
        .route("/v1/clock", post(move_clock))
        .route("/metrics", get(metrics_text))
        .route("/openapi.json", get(|| async { Json(openapi()) }))
        .fallback(assets::serve)
        .method_not_allowed_fallback(|| async {
            ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "method", "this path takes another method; see /openapi.json")
        })
        .with_state(Arc::clone(&app))
        .merge(serving::http::router(Arc::clone(&app.plane)))
        .merge(serving::grpc::router(Arc::clone(&app.plane)))
}

/// The whole body, decompressed; refused where it is too large or too slow.
pub async fn body_of(app: &App, headers: &HeaderMap, body: Body) -> ApiResult<Bytes> {
    serving::http::body_in_time(&app.plane.limits, headers, body).await
}

pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> ApiResult<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        let text = vocabulary::suggest::explained(&error.to_string());
        ApiError::malformed(format!("the body is not what is expected here: {text}; see /openapi.json"))
    })
}

/// What really happened, by prediction id or by key.
#[utoipa::path(post, path = "/v1/outcomes", request_body = OutcomesRequest,
    responses((status = 200, body = OutcomesResponse), (status = 400, body = ErrorResponse), (status = 408, body = ErrorResponse), (status = 413, body = ErrorResponse),
        (status = 422, body = ErrorResponse), (status = 503, body = ErrorResponse)))]
async fn take_outcomes(State(app): Shared, headers: HeaderMap, body: Body) -> ApiResult<Json<OutcomesResponse>> {
    let tenant = app.plane.tenants.of_headers(&headers).inspect_err(|refusal| app.plane.refuse(None, refusal))?;
    let _admitted = app.plane.admit(&tenant).inspect_err(|refusal| app.plane.refuse(Some(&tenant), refusal))?;
    let body = body_of(&app, &headers, body).await;
    let body = body.inspect_err(|refusal| app.plane.refuse(Some(&tenant), refusal))?;
    let request: OutcomesRequest = parse(&body)?;
    Ok(Json(outcomes::take(&app, &request.outcomes).await?))
}

/// Whether there is such a model, declared or imported.
fn known(app: &App, name: &str) -> ApiResult<()> {
    if app.models.contains_key(name) { Ok(()) } else { app.plane.registry.entry(name).map(|_| ()) }
}

/// All models.
#[utoipa::path(get, path = "/v1/models", responses((status = 200, body = Object)))]
async fn models(State(app): Shared) -> Json<Value> {
    let routes = app.routes.load();
    let mut listed: Vec<Value> = app
        .models
        .iter()
        .map(|(name, state)| {
            let live = routes.route(name).map(|route| route.live.version);
            json!({ "model": name, "task": state.spec.task.name(), "live": live })
        })
        .collect();
    let entries = app.plane.registry.entries();
    let mut imported: Vec<_> = entries.iter().filter(|(name, _)| !app.models.contains_key(*name)).collect();
    imported.sort_by_key(|(name, _)| *name);
    listed.extend(
        imported.iter().map(|(name, entry)| json!({ "model": name, "task": "imported", "live": entry.live() })),
    );
    Json(json!({ "models": listed }))
}

/// Everything about one model: traffic, latency, accuracy, routing, trial, monitors, cost.
#[utoipa::path(get, path = "/v1/models/{model}", params(("model" = String, Path)), responses((status = 200, body = Object), (status = 404, body = ErrorResponse)))]
async fn model(State(app): Shared, Path(name): Path<String>) -> ApiResult<Json<Value>> {
    app.model(&name)?;
    Ok(Json(status::model(&app, &name).await.map_err(stored)?))
}

/// Its registered versions.
#[utoipa::path(get, path = "/v1/models/{model}/versions", params(("model" = String, Path)), responses((status = 200, body = Object), (status = 404, body = ErrorResponse)))]
async fn versions(State(app): Shared, Path(name): Path<String>) -> ApiResult<Json<Value>> {
    known(&app, &name)?;
    Ok(Json(json!({ "versions": status::versions(&app, &name).await.map_err(stored)? })))
}

/// Who answers: the routing snapshot in force.
#[utoipa::path(get, path = "/v1/models/{model}/routing", params(("model" = String, Path)), responses((status = 200, body = Object), (status = 404, body = ErrorResponse)))]
async fn routing(State(app): Shared, Path(name): Path<String>) -> ApiResult<Json<Value>> {
    known(&app, &name)?;
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
    (app.plane.may_operate)(&headers)?;
    let request: OperatorRequest = parse(&body_of(&app, &headers, body).await?)?;
    looping::operate(&app, &name, &request).await?;
    Ok(Json(status::routing(&app, &name)))
}

/// One prediction as it was logged, with its outcomes.
#[utoipa::path(get, path = "/v1/predictions/{id}", params(("id" = String, Path)), responses((status = 200, body = Object), (status = 404, body = ErrorResponse)))]
async fn prediction(State(app): Shared, Path(id): Path<String>) -> ApiResult<Json<Value>> {
    let id: PredictionId = id.parse().map_err(|error| ApiError::malformed(format!("{error}")))?;
    let log = app.project.log_path();
    let found = tokio::task::spawn_blocking(move || storage::log::find(&log, id))
        .await
        .map_err(ApiError::internal)?
        .map_err(stored)?;
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
    for finding in app.catalog.findings().await.map_err(stored)? {
        let mut shown = serde_json::to_value(&finding).map_err(ApiError::internal)?;
        shown["alarm"] = json!(finding.kind.is_alarm());
        shown["severity"] = json!(finding.severity());
        listed.push(shown);
    }
    Ok(Json(json!({ "findings": listed })))
}

/// Work done by child processes.
#[utoipa::path(get, path = "/v1/jobs", responses((status = 200, body = Object)))]
async fn jobs(State(app): Shared) -> ApiResult<Json<Value>> {
    Ok(Json(json!({ "jobs": app.catalog.jobs().await.map_err(stored)? })))
}

/// Searches for better values of a declaration, the newest first, without their trials.
#[utoipa::path(get, path = "/v1/searches", responses((status = 200, body = Object)))]
async fn all_searches(State(app): Shared) -> ApiResult<Json<Value>> {
    let listed = aside(move || Ok(searches::list(&app.project))).await?;
    Ok(Json(json!({ "searches": listed.iter().map(searches::Search::summary).collect::<Vec<_>>() })))
}

/// One search with its trials.
#[utoipa::path(get, path = "/v1/searches/{id}", params(("id" = String, Path)),
    responses((status = 200, body = Object), (status = 404, body = ErrorResponse)))]
async fn one_search(State(app): Shared, Path(id): Path<String>) -> ApiResult<Json<searches::Search>> {
    aside(move || search(&app, &id)).await.map(Json)
}

/// One search as a figure.
#[utoipa::path(get, path = "/v1/searches/{id}/plot", params(("id" = String, Path)),
    responses((status = 200, body = String, content_type = "image/svg+xml"), (status = 404, body = ErrorResponse)))]
async fn search_plot(State(app): Shared, Path(id): Path<String>) -> ApiResult<Response> {
    let plot = aside(move || Ok(search(&app, &id)?.plot())).await?;
    Ok(([(header::CONTENT_TYPE, "image/svg+xml")], plot).into_response())
}

/// Reads files where no network thread waits for them.
async fn aside<T: Send + 'static>(read: impl FnOnce() -> ApiResult<T> + Send + 'static) -> ApiResult<T> {
    tokio::task::spawn_blocking(read).await.map_err(ApiError::internal)?
}

fn search(app: &App, id: &str) -> ApiResult<searches::Search> {
    let found = searches::find(&app.project, id).map_err(|error| ApiError::internal(format!("{error:#}")))?;
    found.ok_or_else(|| ApiError::not_found(searches::unknown(&app.project, id)))
}

/// The audit log: who did what, when and why. `after` gives the entries after that sequence number.
#[utoipa::path(get, path = "/v1/audit", params(("after" = Option<i64>, Query)), responses((status = 200, body = Object), (status = 400, body = ErrorResponse)))]
async fn audit(State(app): Shared, Query(query): Query<HashMap<String, String>>) -> ApiResult<Json<Value>> {
    let after = match query.get("after") {
        Some(text) => text.parse().map_err(|_| ApiError::malformed(format!("after = \"{text}\" is not a number")))?,
        None => 0,
    };
    Ok(Json(json!({ "entries": app.catalog.audit(after).await.map_err(stored)? })))
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
                Ok(Happened::Stopping) | Err(tokio::sync::broadcast::error::RecvError::Closed) => None,
            };
        }
    });
    let stream = first.chain(rest).map(Ok::<_, std::convert::Infallible>);
    Sse::new(stream).keep_alive(KeepAlive::default())
}

/// Moves the loop's clock, where the server follows event time: the loop does what is due, then this returns.
#[utoipa::path(post, path = "/v1/clock", request_body = ClockRequest, responses((status = 200, body = ClockResponse), (status = 400, body = ErrorResponse), (status = 409, body = ErrorResponse)))]
async fn move_clock(State(app): Shared, headers: HeaderMap, body: Body) -> ApiResult<Json<ClockResponse>> {
    (app.plane.may_operate)(&headers)?;
    let request: ClockRequest = parse(&body_of(&app, &headers, body).await?)?;
    let now = request.now.parse().map_err(|error| ApiError::malformed(format!("{error}")))?;
    if let Some(replay) = request.replay {
        *app.replay.lock() = Some(replay);
    }
    let steps = looping::move_clock(&app, now).await?;
    Ok(Json(ClockResponse { now: now.to_string(), routing: app.routes.load().routing.number, steps }))
}

/// Prometheus.
#[utoipa::path(get, path = "/metrics", responses((status = 200, content_type = "application/openmetrics-text", body = String)))]
async fn metrics_text(State(app): Shared) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], metrics::render(&app)).into_response()
}
