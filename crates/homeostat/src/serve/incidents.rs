//! Incidents over HTTP, and for the commands: gathered from the catalog, the audit log and the minutes.

use super::api::ErrorResponse;
use super::error::{ApiError, ApiResult, stored};
use super::http::Shared;
use super::state::App;
use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use storage::catalog::AuditEntry;
use storage::{Catalog, StorageError};
use vocabulary::Timestamp;
use vocabulary::incident::{Deed, Incident, Moment};

/// All incidents, from the catalog and each model's minutes; the newest first.
pub async fn all(
    catalog: &Catalog,
    moments: &BTreeMap<String, Vec<Moment>>,
    now: Timestamp,
) -> Result<Vec<Incident>, StorageError> {
    let deeds: Vec<Deed> = catalog.audit(0).await?.into_iter().map(deed).collect();
    Ok(control::incident::incidents(&catalog.findings().await?, &deeds, moments, now))
}

fn deed(entry: AuditEntry) -> Deed {
    let AuditEntry { at, actor, action, model, subject, because, detail, .. } = entry;
    Deed { at, actor, action, model, subject, because, detail }
}

async fn gathered(app: &App) -> ApiResult<(Vec<Incident>, BTreeMap<String, Vec<Moment>>)> {
    let mut moments = BTreeMap::new();
    for (name, state) in &app.models {
        moments.insert(name.clone(), state.control.lock().await.watching.moments());
    }
    let now = app.clock.now().unwrap_or_else(crate::clock::wall);
    Ok((all(&app.catalog, &moments, now).await.map_err(stored)?, moments))
}

/// What went wrong, the newest first: alarms of one model that overlap are one incident.
#[utoipa::path(get, path = "/v1/incidents", responses((status = 200, body = Object)))]
pub async fn list(State(app): Shared) -> ApiResult<Json<Value>> {
    Ok(Json(json!({ "incidents": gathered(&app).await?.0 })))
}

/// One incident with its timeline, and the figures of its minutes.
#[utoipa::path(get, path = "/v1/incidents/{id}", params(("id" = String, Path)),
    responses((status = 200, body = Object), (status = 404, body = ErrorResponse)))]
pub async fn one(State(app): Shared, Path(id): Path<String>) -> ApiResult<Json<Value>> {
    let (incidents, moments) = gathered(&app).await?;
    let found = incidents.into_iter().find(|incident| incident.id == id);
    let Some(incident) = found else {
        return Err(ApiError::not_found(format!("there is no incident \"{id}\" (GET /v1/incidents lists them)")));
    };
    let mut shown = serde_json::to_value(&incident).map_err(ApiError::internal)?;
    shown["moments"] = json!(around(&incident, moments.get(&incident.model).map_or(&[], Vec::as_slice)));
    Ok(Json(shown))
}

/// The minutes from an hour before an incident to an hour after it.
fn around<'a>(incident: &Incident, moments: &'a [Moment]) -> Vec<&'a Moment> {
    const HOUR: vocabulary::Span = vocabulary::Span::hours(1);
    let until = incident.closed.map(|closed| closed + HOUR);
    let near = |moment: &&Moment| moment.at >= incident.opened - HOUR && until.is_none_or(|until| moment.at <= until);
    moments.iter().filter(near).collect()
}
