//! `/v1/models/{m}/predict`: named rows as JSON or Arrow, answered by the model's pipeline, or by an imported model whose
//! columns have names.

use super::api::{ErrorResponse, PredictOptions, PredictRequest, PredictResponse, PredictionOut};
use super::error::{ApiError, ApiResult};
use super::http::{Shared, body_of, parse};
use super::predict::{self, Ask, Given};
use super::state::{App, ModelState};
use crate::imported;
use arrow::array::{Float64Array, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema};
use arrow_ipc::reader::StreamReader;
use arrow_ipc::writer::StreamWriter;
use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use features::Strangers;
use inference::Tensor;
use serde_json::{Map, Value, json};
use serving::call::{Call, Stage};
use serving::http::stamp;
use serving::meter::{Meter, metered};
use serving::plane::Plane;
use serving::wire::InferRequest;
use serving::wire::json::Read;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use vocabulary::{Answer, Task};

/// Tables as a stream of Arrow's IPC format.
const ARROW: &str = "application/vnd.apache.arrow.stream";

/// Predictions from raw rows; the model's pipeline runs inside. Takes JSON, or a table as an Arrow IPC stream
/// (`content-type: application/vnd.apache.arrow.stream`), and answers with a table where `accept` names that type.
#[utoipa::path(post, path = "/v1/models/{model}/predict", request_body = PredictRequest, params(("model" = String, Path)),
    responses((status = 200, body = PredictResponse), (status = 400, body = ErrorResponse), (status = 401, body = ErrorResponse),
        (status = 403, body = ErrorResponse), (status = 404, body = ErrorResponse), (status = 408, body = ErrorResponse), (status = 413, body = ErrorResponse),
        (status = 415, body = ErrorResponse), (status = 422, body = ErrorResponse), (status = 429, body = ErrorResponse),
        (status = 503, body = ErrorResponse), (status = 504, body = ErrorResponse)))]
pub async fn predict(State(app): Shared, Path(name): Path<String>, headers: HeaderMap, body: Body) -> Response {
    let meter = Meter::default();
    metered(meter.clone(), counted(&app, name, &headers, body, &meter)).await
}

/// Answers, and counts what became of it.
async fn counted(app: &App, name: String, headers: &HeaderMap, body: Body, meter: &Meter) -> Response {
    let received = Instant::now();
    let tenant = match app.plane.tenants.of_headers(headers) {
        Ok(tenant) => tenant,
        Err(refusal) => {
            app.plane.refuse(None, &refusal);
            return refusal.into_response();
        }
    };
    let mut call = Call::new(tenant, app.plane.trace(headers), received);
    call.metered = true;
    call.ended(Stage::Authorize, received);
    let state = app.models.get(&name);
    if let Some(state) = state {
        state.requests.fetch_add(1, Ordering::Relaxed);
    }
    let answered = answer(app, &name, state, headers, body, &mut call).await;
    let (mut response, outcome, version, rows) = match answered {
        Ok((response, version, rows)) => {
            if let Some(state) = state {
                state.answered(version, received.elapsed());
            }
            (response, Ok(()), version, rows)
        }
        Err(refusal) => {
            if let Some(state) = state {
                state.refuse(refusal.reason);
            }
            (refusal.clone().into_response(), Err(refusal), 0, 0)
        }
    };
    call.cpu += meter.spent();
    app.plane.finish(&name, &version.to_string(), rows, &call, outcome.as_ref().copied());
    stamp(response.headers_mut(), &call);
    response
}

async fn answer(
    app: &App,
    name: &str,
    state: Option<&ModelState>,
    headers: &HeaderMap,
    body: Body,
    call: &mut Call,
) -> ApiResult<(Response, u32, usize)> {
    let _admitted = app.plane.admit(&call.tenant)?;
    let body = body_of(app, headers, body).await?;
    let begun = Instant::now();
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let request = if kind.starts_with(ARROW) { table(app, name, &body)? } else { parse::<PredictRequest>(&body)? };
    drop(body);
    orders(&request.options, call)?;
    call.ended(Stage::Decode, begun);
    let (version, predictions) = match state {
        Some(state) => {
            let idempotency_key = headers.get("idempotency-key").and_then(|key| key.to_str().ok()).map(str::to_owned);
            let ask = Ask { idempotency_key, version: None, explain: request.options.explain };
            let given = predict::predict(app, name, &request.rows, &ask, call).await?;
            let live = app.routes.load().live(name).map(|live| live.number);
            let version = given.first().map(|first| first.version).or(live).unwrap_or_default();
            (version, given.iter().map(|given| declared(state, given)).collect())
        }
        None if request.options.explain => {
            let what = format!(
                "\"{name}\" is an imported model, which cannot say why it answers what it does; leave explain out"
            );
            return Err(ApiError::malformed(what));
        }
        None => by_import(app, name, &request.rows, call).await?,
    };
    let begun = Instant::now();
    let rows = predictions.len();
    let response = if headers.get(header::ACCEPT).is_some_and(|accept| accept.as_bytes().starts_with(ARROW.as_bytes()))
    {
        arrow_response(&predictions)?
    } else {
        let (model, trace) = (name.to_owned(), call.trace.id());
        Json(PredictResponse { model, version: format!("{name}@{version}"), trace, predictions }).into_response()
    };
    call.ended(Stage::Encode, begun);
    Ok((response, version, rows))
}

fn orders(options: &PredictOptions, call: &mut Call) -> ApiResult<()> {
    match options.deadline_ms {
        Some(ms) if ms.is_finite() && ms > 0.0 => {
            call.deadline = Some(call.received + Duration::from_secs_f64(ms.min(1e9) / 1e3));
        }
        Some(ms) => {
            return Err(ApiError::malformed(format!("deadline_ms = {ms} is no length of time; give milliseconds")));
        }
        None => {}
    }
    call.priority = options.priority.unwrap_or(0);
    Ok(())
}

fn declared(state: &ModelState, given: &Given) -> PredictionOut {
    let value = given.value.value();
    let (probability, label, probabilities) = match &given.value {
        Answer::Classes(all) => {
            let names = state.spec.class_names();
            let label = state.spec.classes.get(value as usize).map(|class| json!(class));
            (Some(all[value as usize]), label, Some(names.into_iter().zip(all.iter().copied()).collect()))
        }
        Answer::One(p) if state.spec.task == Task::Binary => {
            (Some(*p), Some(Value::from(u8::from(*p >= state.spec.objective.threshold))), None)
        }
        Answer::One(_) => (None, None, None),
    };
    PredictionOut {
        id: Some(given.id.to_string()),
        value,
        probability,
        label,
        probabilities,
        contributions: given.parts.clone(),
        version: given.version,
    }
}

/// An imported model answers rows whose columns are its features; nothing is logged, so that there are no ids.
async fn by_import(
    app: &App,
    name: &str,
    rows: &[Map<String, Value>],
    call: &mut Call,
) -> ApiResult<(u32, Vec<PredictionOut>)> {
    let plane: &Plane = &app.plane;
    let entry = plane.registry.entry(name)?;
    let (_, loaded) = plane.registry.ready(&entry, entry.live()).await?;
    let signature = loaded.model().signature();
    if rows.is_empty() {
        return Ok((loaded.version, Vec::new()));
    }
    let begun = Instant::now();
    let inputs = imported::tensors(signature, &loaded.facts.features, rows).map_err(ApiError::malformed)?;
    call.ended(Stage::Transform, begun);
    let output = imported::primary(signature);
    let output =
        output.ok_or_else(|| ApiError::malformed(format!("model \"{name}\" gives no number; ask it over /v2")))?;
    let wanted = serving::wire::Wanted { name: signature.outputs[output].name.clone(), ..Default::default() };
    let request = InferRequest { inputs, outputs: vec![wanted], ..InferRequest::default() };
    let answer = plane.infer(name, None, Read { request, nulls: Vec::new() }, call).await?;
    let version: u32 = answer.model_version.parse().unwrap_or_default();
    let predictions = answer.outputs.first().map(|output| shaped(&loaded.facts, output, version));
    let many = || ApiError::malformed(format!("model \"{name}\" gives no number a row; ask it over /v2"));
    Ok((version, predictions.flatten().ok_or_else(many)?))
}

/// What an output says of each row, in the words of the model's task.
fn shaped(facts: &serving::registry::Facts, output: &Tensor, version: u32) -> Option<Vec<PredictionOut>> {
    let class = |place: usize| facts.classes.get(place).map_or(Value::from(place), |name| Value::from(name.as_str()));
    if output.row_len() > 2 {
        // Of several classes the most probable one.
        let width = output.row_len();
        let flat = Tensor::new("", vec![output.data.len()], output.data.clone());
        let all = imported::values(&flat)?;
        let best = |row: &[f64]| {
            let place = (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b]).then(b.cmp(a))).unwrap_or(0);
            let (value, label) = (row[place], Some(class(place)));
            PredictionOut {
                id: None,
                value,
                probability: Some(value),
                label,
                probabilities: None,
                contributions: None,
                version,
            }
        };
        return Some(all.chunks_exact(width).map(best).collect());
    }
    let binary = facts.task == "binary";
    let one = |value: f64| PredictionOut {
        id: None,
        value,
        probability: binary.then_some(value),
        label: binary.then(|| class(usize::from(value >= 0.5))),
        probabilities: None,
        contributions: None,
        version,
    };
    Some(imported::values(output)?.into_iter().map(one).collect())
}

/// The rows of an Arrow IPC stream.
fn table(app: &App, name: &str, body: &Bytes) -> ApiResult<PredictRequest> {
    let broken =
        |error: arrow::error::ArrowError| ApiError::malformed(format!("the body is no Arrow IPC stream: {error}"));
    let reader = StreamReader::try_new(&body[..], None).map_err(broken)?;
    let routes = app.routes.load();
    let artifact = routes.live(name);
    let mut rows = Vec::new();
    for batch in reader {
        let batch = batch.map_err(broken)?;
        let batch = match artifact {
            // Declared columns take their canonical types; others are refused with the rows.
            Some(artifact) => {
                let given = batch.schema();
                let strange =
                    |column: &str| matches!(routes.known(name), Strangers::PassOver(known) if known.contains(column));
                let declared =
                    |name: &String| artifact.contract.column_or_alias(name).map(|column| column.name.clone());
                let names = given.fields().iter().map(|field| field.name());
                // What other versions know is passed over, as in rows; what nobody knows is refused below.
                let columns: Vec<String> = names
                    .filter_map(|name| declared(name).or_else(|| (!strange(name)).then(|| name.clone())))
                    .collect();
                features::canonical_columns(&batch, &artifact.contract, &columns)
                    .map_err(|error| ApiError::contract(error.to_string(), Value::Array(Vec::new())))?
            }
            None => imported::plain(&batch).map_err(broken)?,
        };
        rows.extend((0..batch.num_rows()).map(|row| features::row_to_json(&batch, row)));
    }
    Ok(PredictRequest { rows, options: PredictOptions::default() })
}

/// Predictions as a table: id, value, label as text, version.
fn arrow_response(predictions: &[PredictionOut]) -> ApiResult<Response> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let ids: StringArray = predictions.iter().map(|prediction| prediction.id.clone()).collect();
    let values: Float64Array = predictions.iter().map(|prediction| Some(prediction.value)).collect();
    let labels: StringArray = predictions.iter().map(|prediction| prediction.label.as_ref().map(text)).collect();
    let versions: UInt32Array = predictions.iter().map(|prediction| Some(prediction.version)).collect();
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Utf8, true),
        Field::new("value", DataType::Float64, false),
        Field::new("label", DataType::Utf8, true),
        Field::new("version", DataType::UInt32, false),
    ]));
    let made = RecordBatch::try_new(
        Arc::clone(&schema),
        vec![Arc::new(ids), Arc::new(values), Arc::new(labels), Arc::new(versions)],
    );
    let written = made.and_then(|batch| {
        let mut writer = StreamWriter::try_new(Vec::new(), &schema)?;
        writer.write(&batch)?;
        writer.into_inner()
    });
    let mut response = Response::new(Body::from(written.map_err(ApiError::internal)?));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(ARROW));
    Ok(response)
}
