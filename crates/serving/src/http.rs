//! The Open Inference Protocol v2 over HTTP: paths, headers, bodies, status codes. What they mean is decided elsewhere.

use crate::body::{Taken, request_in_time};
use crate::call::{Call, Stage};
use crate::described::{self, EXTENSIONS};
use crate::meter::{Meter, metered};
use crate::plane::{Plane, classified};
use crate::refusal::{Answer, Refusal};
use crate::registry::Kind;
use crate::wire::json::{self, Read};
use crate::wire::{InferRequest, Parameter, binary};
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use flate2::Compression;
use inference::Tensor;
use serde_json::{Value, json};
use std::io::Read as _;
use std::sync::Arc;
use std::time::Instant;
use utoipa::OpenApi;

type Shared = State<Arc<Plane>>;

/// Smaller answers are not compressed: it would cost more than it saves.
const COMPRESS_BYTES_MIN: usize = 1024;

pub use crate::body::{body_in_time, read_body};

pub const HEADER_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");
pub const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

#[derive(OpenApi)]
#[openapi(paths(
    server_metadata,
    live,
    ready,
    models,
    all_stats,
    model_metadata,
    version_metadata,
    model_ready,
    version_ready,
    model_config,
    version_config,
    model_stats,
    version_stats,
    infer,
    version_infer,
    repository_index,
    load,
    unload
))]
struct Api;

/// The description of these paths.
pub fn openapi() -> utoipa::openapi::OpenApi {
    Api::openapi()
}

pub fn router(plane: Arc<Plane>) -> Router {
    Router::new()
        .route("/v2", get(server_metadata))
        .route("/v2/", get(server_metadata))
        .route("/v2/health/live", get(live))
        .route("/v2/health/ready", get(ready))
        .route("/v2/models", get(models))
        .route("/v2/models/stats", get(all_stats))
        .route("/v2/models/{model}", get(model_metadata))
        .route("/v2/models/{model}/ready", get(model_ready))
        .route("/v2/models/{model}/config", get(model_config))
        .route("/v2/models/{model}/stats", get(model_stats))
        .route("/v2/models/{model}/infer", post(infer))
        .route("/v2/models/{model}/versions/{version}", get(version_metadata))
        .route("/v2/models/{model}/versions/{version}/ready", get(version_ready))
        .route("/v2/models/{model}/versions/{version}/config", get(version_config))
        .route("/v2/models/{model}/versions/{version}/stats", get(version_stats))
        .route("/v2/models/{model}/versions/{version}/infer", post(version_infer))
        .route("/v2/repository/index", post(repository_index))
        .route("/v2/repository/models/{model}/load", post(load))
        .route("/v2/repository/models/{model}/unload", post(unload))
        .with_state(plane)
}

/// This server and the protocol's extensions that it speaks.
#[utoipa::path(get, path = "/v2", responses((status = 200, body = Object)))]
async fn server_metadata() -> Json<Value> {
    Json(json!({ "name": "homeostat", "version": env!("CARGO_PKG_VERSION"), "extensions": EXTENSIONS }))
}

/// The process runs.
#[utoipa::path(get, path = "/v2/health/live", responses((status = 200, body = Object)))]
async fn live() -> Json<Value> {
    Json(json!({ "live": true }))
}

/// Every declared model has a warm version that answers, and the server is not stopping.
#[utoipa::path(get, path = "/v2/health/ready", responses((status = 200, body = Object), (status = 503, body = Object)))]
async fn ready(State(plane): Shared) -> Response {
    let ready = plane.is_ready();
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(json!({ "ready": ready }))).into_response()
}

/// Names of all models.
#[utoipa::path(get, path = "/v2/models", responses((status = 200, body = Object)))]
async fn models(State(plane): Shared) -> Json<Value> {
    let mut names: Vec<String> = plane.registry.entries().keys().cloned().collect();
    names.sort_unstable();
    Json(json!({ "models": names }))
}

async fn metadata_of(plane: &Plane, model: &str, version: Option<&str>) -> Answer<Json<Value>> {
    let (entry, described) = plane.describe(model, Plane::version(version)?).await?;
    Ok(Json(described::metadata(&entry, &described)))
}

/// A model's tensors.
#[utoipa::path(get, path = "/v2/models/{model}", params(("model" = String, Path)), responses((status = 200, body = Object), (status = 404, body = Object), (status = 503, body = Object)))]
async fn model_metadata(State(plane): Shared, Path(model): Path<String>) -> Answer<Json<Value>> {
    metadata_of(&plane, &model, None).await
}

/// A version's tensors.
#[utoipa::path(get, path = "/v2/models/{model}/versions/{version}", params(("model" = String, Path), ("version" = String, Path)), responses((status = 200, body = Object), (status = 404, body = Object), (status = 503, body = Object)))]
async fn version_metadata(State(plane): Shared, Path((model, version)): Path<(String, String)>) -> Answer<Json<Value>> {
    metadata_of(&plane, &model, Some(&version)).await
}

async fn ready_of(plane: &Plane, model: &str, version: Option<&str>) -> Answer<Json<Value>> {
    plane.describe(model, Plane::version(version)?).await?;
    Ok(Json(json!({ "name": model, "ready": true })))
}

/// Whether a model answers.
#[utoipa::path(get, path = "/v2/models/{model}/ready", params(("model" = String, Path)), responses((status = 200, body = Object), (status = 404, body = Object), (status = 503, body = Object)))]
async fn model_ready(State(plane): Shared, Path(model): Path<String>) -> Answer<Json<Value>> {
    ready_of(&plane, &model, None).await
}

/// Whether a version answers.
#[utoipa::path(get, path = "/v2/models/{model}/versions/{version}/ready", params(("model" = String, Path), ("version" = String, Path)), responses((status = 200, body = Object), (status = 404, body = Object), (status = 503, body = Object)))]
async fn version_ready(State(plane): Shared, Path((model, version)): Path<(String, String)>) -> Answer<Json<Value>> {
    ready_of(&plane, &model, Some(&version)).await
}

async fn config_of(plane: &Plane, model: &str, version: Option<&str>) -> Answer<Json<Value>> {
    let (entry, described) = plane.describe(model, Plane::version(version)?).await?;
    Ok(Json(described::config(&entry, &described)))
}

/// Model configuration extension.
#[utoipa::path(get, path = "/v2/models/{model}/config", params(("model" = String, Path)), responses((status = 200, body = Object), (status = 404, body = Object), (status = 503, body = Object)))]
async fn model_config(State(plane): Shared, Path(model): Path<String>) -> Answer<Json<Value>> {
    config_of(&plane, &model, None).await
}

/// Model configuration extension, of a version.
#[utoipa::path(get, path = "/v2/models/{model}/versions/{version}/config", params(("model" = String, Path), ("version" = String, Path)), responses((status = 200, body = Object), (status = 404, body = Object), (status = 503, body = Object)))]
async fn version_config(State(plane): Shared, Path((model, version)): Path<(String, String)>) -> Answer<Json<Value>> {
    config_of(&plane, &model, Some(&version)).await
}

/// Statistics of one model, or of one version.
pub(crate) fn stats_of(plane: &Plane, model: &str, version: Option<u32>) -> Answer<Vec<Value>> {
    let entry = plane.registry.entry(model)?;
    let listed: Vec<Value> = match &entry.kind {
        Kind::Rows(rows) => rows
            .versions()
            .into_iter()
            .filter(|number| version.is_none_or(|wanted| wanted == *number))
            .map(|number| rows.stats(number))
            .collect(),
        Kind::Tensors(_) => entry
            .slots()
            .iter()
            .filter(|slot| version.is_none_or(|wanted| wanted == slot.version))
            .map(|slot| described::stats(&entry, slot))
            .collect(),
    };
    if listed.is_empty() {
        let what = format!("model \"{model}\" has no version {}", version.unwrap_or_default());
        return Err(Refusal::not_found(what));
    }
    Ok(listed)
}

/// Statistics extension, of all models.
#[utoipa::path(get, path = "/v2/models/stats", responses((status = 200, body = Object)))]
async fn all_stats(State(plane): Shared) -> Answer<Json<Value>> {
    let mut names: Vec<String> = plane.registry.entries().keys().cloned().collect();
    names.sort_unstable();
    let all: Vec<Value> = names.iter().filter_map(|name| stats_of(&plane, name, None).ok()).flatten().collect();
    Ok(Json(json!({ "model_stats": all })))
}

/// Statistics extension.
#[utoipa::path(get, path = "/v2/models/{model}/stats", params(("model" = String, Path)), responses((status = 200, body = Object), (status = 404, body = Object)))]
async fn model_stats(State(plane): Shared, Path(model): Path<String>) -> Answer<Json<Value>> {
    Ok(Json(json!({ "model_stats": stats_of(&plane, &model, None)? })))
}

/// Statistics extension, of a version.
#[utoipa::path(get, path = "/v2/models/{model}/versions/{version}/stats", params(("model" = String, Path), ("version" = String, Path)), responses((status = 200, body = Object), (status = 404, body = Object)))]
async fn version_stats(State(plane): Shared, Path((model, version)): Path<(String, String)>) -> Answer<Json<Value>> {
    let number = Plane::version(Some(&version))?;
    Ok(Json(json!({ "model_stats": stats_of(&plane, &model, number)? })))
}

/// Inference with JSON or binary tensors.
#[utoipa::path(post, path = "/v2/models/{model}/infer", request_body = Object, params(("model" = String, Path)), responses((status = 200, body = Object),
    (status = 400, body = Object), (status = 401, body = Object), (status = 403, body = Object), (status = 404, body = Object), (status = 408, body = Object), (status = 413, body = Object), (status = 415, body = Object),
    (status = 422, body = Object), (status = 429, body = Object), (status = 503, body = Object), (status = 504, body = Object)))]
async fn infer(State(plane): Shared, Path(model): Path<String>, headers: HeaderMap, body: Body) -> Response {
    let meter = Meter::default();
    metered(meter.clone(), infer_with(&plane, &model, None, &headers, body, &meter)).await
}

/// Inference by one version.
#[utoipa::path(post, path = "/v2/models/{model}/versions/{version}/infer", request_body = Object, params(("model" = String, Path), ("version" = String, Path)), responses((status = 200, body = Object),
    (status = 400, body = Object), (status = 401, body = Object), (status = 403, body = Object), (status = 404, body = Object), (status = 408, body = Object), (status = 413, body = Object), (status = 415, body = Object),
    (status = 422, body = Object), (status = 429, body = Object), (status = 503, body = Object), (status = 504, body = Object)))]
async fn version_infer(
    State(plane): Shared,
    Path((model, version)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let meter = Meter::default();
    metered(meter.clone(), infer_with(&plane, &model, Some(&version), &headers, body, &meter)).await
}

/// Model and version that the path of an inference request names; none where it is another path, or needs decoding.
pub(crate) fn asked(path: &str) -> Option<(&str, Option<&str>)> {
    let named = path.strip_prefix("/v2/models/")?.strip_suffix("/infer")?;
    let plain = |part: &str| !part.is_empty() && !part.contains(['/', '%']);
    match named.split_once("/versions/") {
        Some((model, version)) => (plain(model) && plain(version)).then_some((model, Some(version))),
        None => plain(named).then_some((named, None)),
    }
}

/// Answers an inference request without the router's help: the way that most requests take.
pub(crate) async fn straight<B>(plane: &Plane, request: Request<B>) -> Response
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let (head, body) = request.into_parts();
    let Some((model, version)) = asked(head.uri.path()) else {
        return Refusal::not_found("this path asks for no inference").into_response();
    };
    let meter = Meter::default();
    metered(meter.clone(), infer_with(plane, model, version, &head.headers, body, &meter)).await
}

async fn infer_with<B>(
    plane: &Plane,
    model: &str,
    version: Option<&str>,
    headers: &HeaderMap,
    body: B,
    meter: &Meter,
) -> Response
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let received = Instant::now();
    let tenant = match plane.tenants.of_headers(headers) {
        Ok(tenant) => tenant,
        Err(refusal) => {
            plane.refuse(None, &refusal);
            return refusal.into_response();
        }
    };
    let mut call = Call::new(tenant, plane.trace(headers), received);
    call.metered = true;
    call.ended(Stage::Authorize, received);
    let answered = answer(plane, model, version, headers, body, &mut call).await;
    let (mut response, outcome, rows, answering) = match answered {
        Ok((response, rows, version)) => (response, Ok(()), rows, version),
        Err(refusal) => (refusal.clone().into_response(), Err(refusal), 0, version.unwrap_or_default().to_owned()),
    };
    call.cpu += meter.spent();
    plane.finish(model, &answering, rows, &call, outcome.as_ref().copied());
    stamp(response.headers_mut(), &call);
    response
}

/// Adds the receipt and the trace.
pub fn stamp(headers: &mut HeaderMap, call: &Call) {
    if let Ok(value) = HeaderValue::from_str(&call.server_timing()) {
        headers.insert(SERVER_TIMING, value);
    }
    if let Ok(value) = HeaderValue::from_str(&call.trace.traceparent()) {
        headers.insert(TRACEPARENT, value);
    }
}

async fn answer<B>(
    plane: &Plane,
    model: &str,
    version: Option<&str>,
    headers: &HeaderMap,
    body: B,
    call: &mut Call,
) -> Answer<(Response, usize, String)>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: std::fmt::Display,
{
    let _admitted = plane.admit(&call.tenant)?;
    let head = head_length(headers)?;
    let body = request_in_time(&plane.limits, headers, head, body).await?;
    let version = Plane::version(version)?;
    let begun = Instant::now();
    let read = match (head, body) {
        (Some(0), body) => {
            let (_, described) = plane.describe(model, version).await?;
            match body {
                Taken::Whole(body) => raw(&described.signature.inputs, &body)?,
                Taken::Numbers { words, .. } => raw(&described.signature.inputs, &binary::bytes_of(&words))?,
            }
        }
        (None, Taken::Whole(body)) => json::read(&body, b"")?,
        (Some(length), Taken::Whole(body)) => {
            let parts = body.split_at_checked(length).ok_or_else(|| too_short(length, body.len()))?;
            json::read(parts.0, parts.1)?
        }
        (_, Taken::Numbers { head, words }) => json::read_words(&head, words)?,
    };
    call.ended(Stage::Decode, begun);
    let all_binary = read.request.binary_output();
    let wanted = read.request.outputs.clone();
    let mut response = plane.infer(model, version, read, call).await?;
    let begun = Instant::now();
    let rows = response.outputs.first().map_or(0, Tensor::rows);
    classified(&mut response, &wanted)?;
    let is_binary = |name: &str| {
        wanted.iter().find(|wanted| wanted.name == name).and_then(|wanted| wanted.binary).unwrap_or(all_binary)
    };
    let (body, head) = json::write(&response, is_binary)?;
    let made = delivered(headers, body, head);
    call.ended(Stage::Encode, begun);
    Ok((made, rows, response.model_version))
}

/// Length of the JSON at the head of a body with binary tensors.
fn head_length(headers: &HeaderMap) -> Answer<Option<usize>> {
    let Some(value) = headers.get(HEADER_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.trim().parse::<usize>().ok());
    length.map(Some).ok_or_else(|| Refusal::malformed("inference-header-content-length is no number of bytes"))
}

fn too_short(head: usize, body: usize) -> Refusal {
    Refusal::malformed(format!("inference-header-content-length is {head}, the body has only {body} bytes"))
}

/// A body without a head is the bytes of the model's only input; its shape follows from their number.
fn raw(inputs: &[inference::TensorSpec], body: &[u8]) -> Answer<Read> {
    let [spec] = inputs else {
        let what = format!("a body without a JSON head needs a model with one input; this one has {}", inputs.len());
        return Err(Refusal::malformed(what));
    };
    let count = match spec.datatype.size() {
        Some(size) => body.len() / size,
        None => binary::count_strings(&spec.name, body)?,
    };
    let open = spec.shape.iter().filter(|length| **length < 0).count();
    let fixed: usize = spec.shape.iter().filter_map(|length| usize::try_from(*length).ok()).product();
    let shape: Option<Vec<usize>> = match open {
        0 => Some(spec.shape.iter().map(|length| *length as usize).collect()),
        1 if fixed > 0 && count.is_multiple_of(fixed) => {
            let rest = count / fixed;
            Some(spec.shape.iter().map(|length| usize::try_from(*length).unwrap_or(rest)).collect())
        }
        // With rows and another open length, the body is one row.
        2 if spec.shape.first() == Some(&-1) && fixed > 0 && count.is_multiple_of(fixed) => {
            let rest = count / fixed;
            let length = |(place, length): (usize, &i64)| match usize::try_from(*length) {
                Ok(length) => length,
                Err(_) if place == 0 => 1,
                Err(_) => rest,
            };
            Some(spec.shape.iter().enumerate().map(length).collect())
        }
        _ => None,
    };
    let Some(shape) = shape else {
        let (name, wanted) = (&spec.name, &spec.shape);
        let what =
            format!("{count} elements don't fit input \"{name}\" of shape {wanted:?}; send a JSON head with a shape");
        return Err(Refusal::malformed(what));
    };
    let count = json::elements(&shape).unwrap_or(usize::MAX);
    let data = binary::read(&spec.name, spec.datatype, count, body)?;
    let parameters = [("binary_data_output".to_owned(), Parameter::Bool(true))].into();
    let inputs = vec![Tensor { name: spec.name.clone(), shape, data }];
    let request = InferRequest { id: None, parameters, inputs, outputs: Vec::new() };
    Ok(Read { request, nulls: Vec::new() })
}

fn delivered(headers: &HeaderMap, body: Vec<u8>, head: Option<usize>) -> Response {
    let kind = if head.is_some() { "application/octet-stream" } else { "application/json" };
    let (body, encoding) = compressed(headers, body);
    let mut response = Response::new(Body::from(body));
    let out = response.headers_mut();
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Some(head) = head {
        out.insert(HEADER_LENGTH, HeaderValue::from(head));
    }
    if let Some(encoding) = encoding {
        out.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    response
}

/// Compresses large answers for those who ask for it.
fn compressed(headers: &HeaderMap, body: Vec<u8>) -> (Vec<u8>, Option<&'static str>) {
    if body.len() < COMPRESS_BYTES_MIN {
        return (body, None);
    }
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let offers = |name: &str| {
        accepted.split(',').any(|part| {
            let mut parts = part.split(';').map(str::trim);
            parts.next() == Some(name) && !parts.any(|quality| matches!(quality, "q=0" | "q=0.0"))
        })
    };
    let level = Compression::fast();
    let (reader, name): (Box<dyn std::io::Read + '_>, _) = if offers("gzip") {
        (Box::new(flate2::read::GzEncoder::new(&body[..], level)), "gzip")
    } else if offers("deflate") {
        (Box::new(flate2::read::ZlibEncoder::new(&body[..], level)), "deflate")
    } else {
        return (body, None);
    };
    let mut out = Vec::new();
    let mut reader = reader;
    let done = reader.read_to_end(&mut out);
    drop(reader);
    // Compressing from memory to memory does not fail.
    if done.is_ok() { (out, Some(name)) } else { (body, None) }
}

/// Model repository extension: all models and their states.
#[utoipa::path(post, path = "/v2/repository/index", request_body = Object, responses((status = 200, body = Vec<Object>), (status = 400, body = Object)))]
async fn repository_index(State(plane): Shared, headers: HeaderMap, body: Body) -> Answer<Json<Value>> {
    let body = body_in_time(&plane.limits, &headers, body).await?;
    let request: Value = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&body).map_err(|error| Refusal::malformed(format!("the body is no JSON: {error}")))?
    };
    let ready_only = request.get("ready").and_then(Value::as_bool).unwrap_or(false);
    let lines: Vec<Value> = described::index(&plane, ready_only)
        .into_iter()
        .map(|line| json!({ "name": line.name, "version": line.version, "state": line.state, "reason": line.reason }))
        .collect();
    Ok(Json(Value::Array(lines)))
}

/// Model repository extension: opens the answering version anew and swaps it in.
#[utoipa::path(post, path = "/v2/repository/models/{model}/load", request_body = Object, params(("model" = String, Path)), responses((status = 200, body = Object), (status = 400, body = Object), (status = 404, body = Object), (status = 503, body = Object)))]
async fn load(State(plane): Shared, Path(model): Path<String>, headers: HeaderMap, body: Body) -> Answer<Json<Value>> {
    (plane.may_operate)(&headers)?;
    let body = body_in_time(&plane.limits, &headers, body).await?;
    if !body.is_empty() {
        let request: Value = serde_json::from_slice(&body)
            .map_err(|error| Refusal::malformed(format!("the body is no JSON: {error}")))?;
        let overridden = request.get("parameters").and_then(Value::as_object).is_some_and(|p| !p.is_empty());
        if overridden {
            return Err(Refusal::malformed(NO_OVERRIDES));
        }
    }
    plane.registry.reload(&model).await?;
    Ok(Json(json!({})))
}

/// Why load takes no configuration and no files.
pub const NO_OVERRIDES: &str = "a load takes no configuration or files here: register a version with `homeostat import \
                                FILE --as MODEL` and release it";

/// Model repository extension: takes a model out of service.
#[utoipa::path(post, path = "/v2/repository/models/{model}/unload", request_body = Object, params(("model" = String, Path)), responses((status = 200, body = Object), (status = 404, body = Object), (status = 409, body = Object)))]
async fn unload(State(plane): Shared, Path(model): Path<String>, headers: HeaderMap) -> Answer<Json<Value>> {
    (plane.may_operate)(&headers)?;
    plane.registry.unload(&model)?;
    Ok(Json(json!({})))
}

#[cfg(test)]
mod tests {
    use super::*;
    use inference::Datatype;

    fn spec(name: &str, datatype: Datatype, shape: &[i64]) -> inference::TensorSpec {
        inference::TensorSpec { name: name.into(), datatype, shape: shape.to_vec() }
    }

    fn shape_of(inputs: &[inference::TensorSpec], body: &[u8]) -> Answer<Vec<usize>> {
        raw(inputs, body).map(|read| read.request.inputs[0].shape.clone())
    }

    #[test]
    fn a_raw_body_gets_its_shape_from_its_length() {
        let rows = [spec("x", Datatype::Fp32, &[-1, 2])];
        assert_eq!(shape_of(&rows, &[0; 24]).unwrap(), [3, 2]);
        assert!(shape_of(&rows, &[0; 20]).unwrap_err().error.contains("5 elements don't fit"));
        assert_eq!(shape_of(&[spec("x", Datatype::Bytes, &[1])], b"\x02\0\0\0ab").unwrap(), [1]);
        assert_eq!(shape_of(&[spec("x", Datatype::Uint8, &[-1, -1])], b"abc").unwrap(), [1, 3]);
        assert!(shape_of(&[], b"").is_err());
    }

    #[test]
    fn the_straight_way_knows_plain_paths_alone() {
        assert_eq!(asked("/v2/models/m/infer"), Some(("m", None)));
        assert_eq!(asked("/v2/models/m/versions/3/infer"), Some(("m", Some("3"))));
        let others = [
            "/v2/models//infer",
            "/v2/models/a%20b/infer",
            "/v2/models/m/x/infer",
            "/v2/models/m/infer/",
            "/v2/models/m",
        ];
        assert!(others.iter().all(|path| asked(path).is_none()));
    }

    #[test]
    fn answers_are_compressed_where_asked_and_worth_it() {
        let accepts =
            |text: &'static str| HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(text))]);
        let large = vec![b'x'; 5000];
        assert_eq!(compressed(&accepts("deflate, gzip"), large.clone()).1, Some("gzip"));
        assert_eq!(compressed(&accepts("gzip;q=0, deflate"), large.clone()).1, Some("deflate"));
        assert_eq!(compressed(&accepts("br"), large.clone()).1, None);
        assert_eq!(compressed(&accepts("gzip"), vec![b'x'; 100]).1, None);
    }
}
