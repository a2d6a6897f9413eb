//! Open Inference Protocol v2 over REST with JSON tensors: a model's raw columns are its input tensors, one value a row.

use super::error::{ApiError, ApiResult};
use super::predict::{self, Ask};
use super::state::App;
use crate::artifact::Artifact;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use vocabulary::{ColumnKind, Task};

fn datatype(kind: ColumnKind) -> &'static str {
    match kind {
        ColumnKind::Bool => "BOOL",
        ColumnKind::Int => "INT64",
        ColumnKind::Float => "FP64",
        ColumnKind::String | ColumnKind::Timestamp => "BYTES",
    }
}

fn accepts(kind: ColumnKind, datatype: &str) -> bool {
    let integer = datatype.starts_with("INT") || datatype.starts_with("UINT");
    match kind {
        ColumnKind::Bool => datatype == "BOOL",
        ColumnKind::Int => integer,
        ColumnKind::Float => integer || datatype == "FP64" || datatype == "FP32",
        ColumnKind::String | ColumnKind::Timestamp => datatype == "BYTES",
    }
}

fn output(task: Task) -> &'static str {
    match task {
        Task::Binary => "probability",
        Task::Regression => "value",
    }
}

/// The version that a path names: the live one, or any that is loaded.
pub fn version(app: &App, model: &str, version: Option<&str>) -> ApiResult<Arc<Artifact>> {
    app.model(model)?;
    let routes = app.routes.load();
    let found = match version {
        None => routes.live(model),
        Some(text) => text.parse().ok().and_then(|number| routes.artifact(model, number)),
    };
    found.cloned().ok_or_else(|| match version {
        None => ApiError::unavailable("no_version", format!("model \"{model}\" has no version yet")),
        Some(version) => ApiError::not_found(format!("version {version} of model \"{model}\" is not loaded")),
    })
}

pub fn metadata(app: &App, name: &str, artifact: &Artifact) -> Value {
    let routes = app.routes.load();
    let versions: Vec<String> =
        routes.artifacts.keys().filter(|(model, _)| model == name).map(|(_, version)| version.to_string()).collect();
    let inputs: Vec<Value> = artifact
        .columns
        .iter()
        .filter_map(|column| artifact.contract.column(column))
        .map(|column| json!({ "name": column.name, "datatype": datatype(column.kind), "shape": [-1] }))
        .collect();
    json!({
        "name": name,
        "versions": versions,
        "platform": format!("homeostat_{}", artifact.manifest.learner),
        "inputs": inputs,
        "outputs": [{ "name": output(artifact.spec.task), "datatype": "FP64", "shape": [-1] }],
        "properties": { "digest": artifact.digest.to_string(), "version": artifact.number.to_string() },
    })
}

/// Answers an infer request with the version that the routing names.
pub async fn infer(app: &App, name: &str, pinned: Option<&str>, request: &Value, trace: String) -> ApiResult<Value> {
    let artifact = version(app, name, pinned)?;
    if pinned.is_some() && app.routes.load().live(name).is_none_or(|live| live.number != artifact.number) {
        let what = "only the live version answers inference requests; leave the version out of the path";
        return Err(ApiError::malformed(what));
    }
    let rows = rows(&artifact, request)?;
    if let Some(outputs) = request.get("outputs").and_then(Value::as_array) {
        for wanted in outputs {
            let wanted = wanted["name"].as_str().unwrap_or_default();
            if wanted != output(artifact.spec.task) {
                let known = output(artifact.spec.task);
                return Err(ApiError::malformed(format!("there is no output \"{wanted}\"; there is \"{known}\"")));
            }
        }
    }
    let ask = Ask { idempotency_key: None, trace, deadline: None };
    let given = predict::predict(app, name, &rows, &ask).await?;
    let version = given.first().map_or(artifact.number, |first| first.version);
    let mut response = json!({
        "model_name": name,
        "model_version": version.to_string(),
        "outputs": [{
            "name": output(artifact.spec.task),
            "datatype": "FP64",
            "shape": [given.len()],
            "data": given.iter().map(|given| given.value).collect::<Vec<_>>(),
        }],
        "parameters": {
            "prediction_ids": given.iter().map(|given| given.id.to_string()).collect::<Vec<_>>().join(","),
        },
    });
    if let Some(id) = request.get("id") {
        response["id"] = id.clone();
    }
    Ok(response)
}

fn rows(artifact: &Artifact, request: &Value) -> ApiResult<Vec<Map<String, Value>>> {
    let malformed = |what: String| ApiError::malformed(what);
    let inputs = request["inputs"].as_array().ok_or_else(|| {
        malformed("\"inputs\" is missing: a list of tensors with name, datatype, shape and data".into())
    })?;
    let mut rows: Vec<Map<String, Value>> = Vec::new();
    for (place, tensor) in inputs.iter().enumerate() {
        let name = tensor["name"].as_str().ok_or_else(|| malformed(format!("input {place} has no name")))?;
        let kind = artifact.contract.column(name).filter(|_| artifact.columns.iter().any(|column| column == name));
        let Some(column) = kind else {
            let hint = vocabulary::suggest::hint(name, artifact.columns.iter().map(String::as_str));
            return Err(malformed(format!("there is no input \"{name}\"{hint}")));
        };
        let given = tensor["datatype"].as_str().unwrap_or_default();
        if !accepts(column.kind, given) {
            let wanted = datatype(column.kind);
            return Err(malformed(format!("input \"{name}\": datatype \"{given}\" given, {wanted} expected")));
        }
        let mut values = Vec::new();
        flatten(&tensor["data"], &mut values);
        let shape: Vec<u64> =
            tensor["shape"].as_array().map(|s| s.iter().filter_map(Value::as_u64).collect()).unwrap_or_default();
        let fits = matches!(shape[..], [n] | [n, 1] if n as usize == values.len());
        if !fits {
            return Err(malformed(format!(
                "input \"{name}\": shape {shape:?} and {} values; a column has shape [rows] and as many values",
                values.len()
            )));
        }
        if place == 0 {
            rows = vec![Map::new(); values.len()];
        } else if rows.len() != values.len() {
            return Err(malformed(format!(
                "input \"{name}\" has {} rows, the ones before have {}",
                values.len(),
                rows.len()
            )));
        }
        for (row, value) in rows.iter_mut().zip(values) {
            row.insert(name.to_owned(), value.clone());
        }
    }
    if rows.is_empty() {
        return Err(malformed("no rows are given".into()));
    }
    Ok(rows)
}

fn flatten<'a>(value: &'a Value, into: &mut Vec<&'a Value>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| flatten(value, into)),
        value => into.push(value),
    }
}
