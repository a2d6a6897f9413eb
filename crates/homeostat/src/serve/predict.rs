//! The way of a prediction: rows are read strictly, the contract is enforced, the routing says who answers, the answer
//! is logged, and only then given.

use super::answers::{Asked, answers};
use super::error::{ApiError, ApiResult, stored};
use super::ledger::{Entry, key_hash};
use super::scoring::ScoringLane;
use super::state::{App, ModelState, Routes};
use super::windows;
use super::worker::Answered;
use crate::artifact::Artifact;
use crate::explain::{self, Parts};
use crate::windows::LookedUp;
use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType};
use features::{Strangers, Violations};
use serde_json::{Map, Value, json};
use serving::call::{Call, Stage as Span};
use serving::lane::{AskError, Order};
use serving::meter::thread_cpu;
use std::sync::Arc;
use std::time::Instant;
use storage::Record;
use vocabulary::record::{Prediction, Route, Stage};
use vocabulary::{Answer, Digest, PredictionId, Timestamp};

/// Rows beyond which a request is worked on outside the network threads.
const INLINE_ROWS_MAX: usize = 64;

/// What a request asks for beside its rows.
#[derive(Default)]
pub struct Ask {
    /// The same key again gets the same answer, and is logged once.
    pub idempotency_key: Option<String>,
    /// Only this version is to answer.
    pub version: Option<u32>,
    /// Say why, too.
    pub explain: bool,
}

/// What was answered for one row.
pub struct Given {
    pub id: PredictionId,
    pub version: u32,
    pub value: Answer,
    /// Where it was asked for.
    pub parts: Option<Parts>,
}

/// A request, and the routing that it is answered under.
struct Asking<'a> {
    app: &'a App,
    state: &'a ModelState,
    name: &'a str,
    routes: &'a Routes,
    rows: &'a [Map<String, Value>],
    ask: &'a Ask,
}

/// Rows that one version answers.
struct Part {
    artifact: Arc<Artifact>,
    /// Their places in the request.
    places: Vec<usize>,
    batch: RecordBatch,
    values: Vec<Answer>,
    /// Of each answer, where they are asked for.
    parts: Vec<Parts>,
    at: Vec<Timestamp>,
    keys: Vec<Option<String>>,
    ids: Vec<PredictionId>,
    /// What streams knew of each row, where the model asks any.
    looked: Vec<LookedUp>,
}

/// Answers all rows, or none with a reason.
pub async fn predict(
    app: &App,
    name: &str,
    rows: &[Map<String, Value>],
    ask: &Ask,
    call: &mut Call,
) -> ApiResult<Vec<Given>> {
    let begun = Instant::now();
    let state = app.model(name)?;
    call.tenant.may_ask(name)?;
    let most = app.project.config.server.rows_max;
    if rows.len() > most {
        let what = format!("{} rows in one request, {most} are allowed; send several requests", rows.len());
        return Err(ApiError::too_large(what));
    }
    call.tenant.spend(rows.len(), begun)?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let routes = app.routes.load_full();
    let Some(route) = routes.route(name) else {
        let what = format!("model \"{name}\" has no version yet; train one with `homeostat train {name}`");
        return Err(ApiError::unavailable("no_version", what));
    };
    call.ended(Span::Admit, begun);
    let asking = Asking { app, state, name, routes: &routes, rows, ask };
    let read = |call: &mut Call| prepare(&asking, route, call);
    let mut parts = if rows.len() > INLINE_ROWS_MAX { tokio::task::block_in_place(|| read(call)) } else { read(call) }?;
    for part in &mut parts {
        let asked = Asked { artifact: &part.artifact, batch: &part.batch, snapshot: routes.routing.number };
        let values = answers(app, state, asked, call).await.map_err(|error| {
            let told = error.told(name);
            if told.status.is_server_error() {
                state.arms.lock().entry(part.artifact.number).or_default().failed += 1;
            }
            told
        })?;
        part.values = Answer::of_rows(&values, part.artifact.spec.outputs());
        if ask.explain {
            let reasons = || explain::parts(&part.artifact, &part.batch, &part.values);
            part.parts = tokio::task::block_in_place(reasons).map_err(ApiError::internal)?;
        }
    }
    if call.deadline.is_some_and(|deadline| Instant::now() > deadline) {
        return Err(ApiError::too_late());
    }
    let begun = Instant::now();
    let given = log(&asking, parts, call).await?;
    call.ended(Span::Postprocess, begun);
    Ok(given)
}

/// Reads the rows for those who answer them.
fn prepare(asking: &Asking, route: &Route, call: &mut Call) -> ApiResult<Vec<Part>> {
    let Asking { app, state, name, routes, rows, ask } = *asking;
    let (begun, cpu) = (Instant::now(), thread_cpu());
    let mut parts: Vec<Part> = Vec::new();
    for (version, places) in who_answers(state, route, rows, ask, call) {
        let artifact = routes.artifact(name, version).ok_or_else(|| match ask.version {
            Some(_) => ApiError::not_found(format!("version {version} of model \"{name}\" is not deployed")),
            None => ApiError::unavailable(
                "no_version",
                format!("{name}@{version} is routed but not loaded; see the server's log"),
            ),
        })?;
        let batch = read(state, artifact, rows, &places, routes.known(name))?;
        let at = event_times(app, artifact, &batch);
        let windows::Seen { batch, looked } = windows::look(app, routes, name, batch, &at)?;
        let keys = keys(artifact, &batch);
        let ids = (0..places.len())
            .map(|i| {
                let unique = match &ask.idempotency_key {
                    Some(key) => derived(key, places[i]),
                    None => app.unique(),
                };
                PredictionId::new(at[i], unique)
            })
            .collect();
        parts.push(Part {
            artifact: Arc::clone(artifact),
            places,
            batch,
            values: Vec::new(),
            parts: Vec::new(),
            at,
            keys,
            ids,
            looked,
        });
    }
    call.spent(thread_cpu().saturating_sub(cpu));
    call.ended(Span::Transform, begun);
    Ok(parts)
}

/// Scores rows on a version's lane, in pieces of a batch's size.
pub async fn compute(
    app: &App,
    lane: &Arc<ScoringLane>,
    batch: &RecordBatch,
    call: &mut Call,
) -> Result<Vec<f64>, AskError> {
    let rows = batch.num_rows();
    let mut values = Vec::with_capacity(rows);
    for from in (0..rows).step_by(lane.rows_max()) {
        let piece = batch.slice(from, lane.rows_max().min(rows - from));
        let order = Order {
            tenant: &call.tenant,
            rows: piece.num_rows(),
            shape: 0,
            deadline: call.deadline,
            priority: call.priority,
        };
        let done = lane.ask(&app.plane.scheduler, piece, order).await?;
        call.computed(&done);
        values.extend(done.output);
    }
    Ok(values)
}

/// 80 bits that belong to one row of one named request.
fn derived(key: &str, place: usize) -> u128 {
    let digest = Digest::of(format!("{place}\0{key}").as_bytes());
    u128::from_le_bytes(digest.0[..16].try_into().unwrap_or_default())
}

/// Which version answers which rows. A canary's share is sticky: the same key goes to the same version.
fn who_answers(
    state: &ModelState,
    route: &Route,
    rows: &[Map<String, Value>],
    ask: &Ask,
    call: &Call,
) -> Vec<(u32, Vec<usize>)> {
    if let Some(version) = ask.version {
        return vec![(version, (0..rows.len()).collect())];
    }
    let canary = route.candidate.as_ref().filter(|candidate| candidate.stage == Stage::Canary);
    let Some(canary) = canary else { return vec![(route.live.version, (0..rows.len()).collect())] };
    let (mut live, mut candidate) = (Vec::new(), Vec::new());
    let trace = call.trace.id();
    for (place, row) in rows.iter().enumerate() {
        let key = state.spec.key.as_ref().and_then(|key| row.get(key));
        let hash = match key {
            Some(key) => key_hash(&key.to_string()),
            None => derived(&trace, place),
        };
        let basis_point = (hash % 10_000) as u16;
        if basis_point < canary.share.bp() { candidate.push(place) } else { live.push(place) }
    }
    [(route.live.version, live), (canary.version, candidate)]
        .into_iter()
        .filter(|(_, places)| !places.is_empty())
        .collect()
}

/// The rows as a canonical batch that keeps its contract, or 422 with every column that breaks it.
fn read(
    state: &ModelState,
    artifact: &Artifact,
    rows: &[Map<String, Value>],
    places: &[usize],
    strangers: Strangers<'_>,
) -> ApiResult<RecordBatch> {
    let chosen: Vec<Map<String, Value>>;
    let rows = if places.len() == rows.len() {
        rows
    } else {
        chosen = places.iter().map(|place| rows[*place].clone()).collect();
        &chosen
    };
    let broken = |problems: Vec<Value>| {
        let first = problems.first();
        let text = |name: &str| first.and_then(|p| p[name].as_str()).unwrap_or_default().to_owned();
        let row = first.and_then(|p| p["row"].as_u64()).unwrap_or_default();
        let more = match problems.len() {
            0 | 1 => String::new(),
            n => format!(" (and {} more)", n - 1),
        };
        let error = format!("row {row}: column \"{}\": {}{more}; no row was answered", text("column"), text("what"));
        ApiError::contract(error, Value::Array(problems))
    };
    let batch = artifact.reader.read_with(rows, strangers).map_err(|problems| {
        let listed = problems.iter().map(|p| json!({ "row": places[p.row], "column": p.column, "what": p.what }));
        broken(listed.collect())
    })?;
    let mut violations = Violations::default();
    let enforced = artifact.enforcer.enforce(&batch, &mut violations).map_err(ApiError::internal)?;
    if !violations.counts.is_empty() {
        state.violations.lock().merge(&violations);
    }
    let mut refused = enforced.rejected.iter().chain(&enforced.quarantined).peekable();
    if refused.peek().is_some() {
        let listed = refused.map(|r| json!({ "row": places[r.row], "column": r.column, "what": r.what }));
        return Err(broken(listed.collect()));
    }
    Ok(enforced.batch)
}

/// When each event happened: its time column, or now.
fn event_times(app: &App, artifact: &Artifact, batch: &RecordBatch) -> Vec<Timestamp> {
    let now = app.clock.now().unwrap_or_else(crate::clock::wall);
    let column = artifact.spec.time.as_ref().and_then(|time| batch.column_by_name(time));
    let times = column.and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
    (0..batch.num_rows())
        .map(|row| times.filter(|times| times.is_valid(row)).map_or(now, |times| Timestamp(times.value(row))))
        .collect()
}

/// The events' keys as text.
fn keys(artifact: &Artifact, batch: &RecordBatch) -> Vec<Option<String>> {
    let Some(column) = artifact.spec.key.as_ref().and_then(|key| batch.column_by_name(key)) else {
        return vec![None; batch.num_rows()];
    };
    let text = |row: usize| match column.data_type() {
        _ if column.is_null(row) => None,
        DataType::Utf8 => Some(column.as_string::<i32>().value(row).to_owned()),
        DataType::Int64 => Some(column.as_primitive::<Int64Type>().value(row).to_string()),
        _ => None,
    };
    (0..batch.num_rows()).map(text).collect()
}

/// Writes the answers to the journal, then gives them, in the order of the request.
async fn log(asking: &Asking<'_>, parts: Vec<Part>, call: &Call) -> ApiResult<Vec<Given>> {
    let Asking { app, state, name, rows, ask, .. } = *asking;
    let snapshot = asking.routes.routing.number;
    let mut given: Vec<Option<Given>> = rows.iter().map(|_| None).collect();
    let (mut records, mut added) = (Vec::new(), Vec::new());
    {
        let mut ledger = state.ledger();
        for part in &parts {
            for (i, place) in part.places.iter().enumerate() {
                let id = part.ids[i];
                let parts = part.parts.get(i).cloned();
                let known = ask.idempotency_key.as_ref().and_then(|_| ledger.get(&id));
                if let Some(entry) = known {
                    given[*place] = Some(Given { id, version: entry.version, value: entry.value.clone(), parts });
                    continue;
                }
                let (at, value, key) = (part.at[i], part.values[i].clone(), part.keys[i].clone());
                let order = key.as_deref().map_or(0, |key| key_hash(key) as u64);
                let version = part.artifact.number;
                let entry = Entry { at, version, value: value.clone(), shadows: Vec::new(), outcome: None, order };
                ledger.add(id, key.as_deref().map(key_hash), entry);
                added.push(id);
                let looked = part.looked.get(i).filter(|looked| !looked.is_empty());
                let windows = looked.map(serde_json::to_string);
                records.push(Record::Prediction(Prediction {
                    id,
                    at,
                    model: name.to_owned(),
                    version,
                    digest: part.artifact.digest,
                    snapshot,
                    key,
                    trace: Some(call.trace.id()),
                    value: value.clone(),
                    row: serde_json::to_string(&rows[*place]).map_err(ApiError::internal)?,
                    windows: windows.transpose().map_err(ApiError::internal)?,
                }));
                given[*place] = Some(Given { id, version, value, parts });
            }
        }
    }
    if let Err(error) = app.journal.append(&records).await {
        state.ledger().forget(&added);
        return Err(stored(error));
    }
    for part in parts {
        if added.len() == given.len() || part.ids.iter().any(|id| added.contains(id)) {
            state.worker.hand(Answered {
                ids: part.ids,
                at: part.at,
                batch: part.batch,
                version: part.artifact.number,
            });
        }
    }
    Ok(given.into_iter().flatten().collect())
}
