//! Declared models in the Open Inference Protocol: the raw columns are the input tensors, one value a row; the pipeline
//! runs inside, and each answer is logged like any other.

use super::error::{ApiError, ApiResult};
use super::predict::{self, Ask};
use super::state::{App, versions_of};
use crate::artifact::Artifact;
use futures::FutureExt;
use futures::future::BoxFuture;
use inference::{Data, Datatype, Signature, Tensor, TensorSpec};
use serde_json::{Map, Number, Value, json};
use serving::call::Call;
use serving::registry::{Described, RowModel};
use serving::wire::json::Read;
use serving::wire::{InferResponse, Parameter};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};
use vocabulary::{ColumnKind, Task};

/// A model of the project's files.
pub struct Declared {
    pub app: Weak<App>,
    pub name: String,
}

fn datatype(kind: ColumnKind) -> Datatype {
    match kind {
        ColumnKind::Bool => Datatype::Bool,
        ColumnKind::Int => Datatype::Int64,
        ColumnKind::Float => Datatype::Fp64,
        ColumnKind::String | ColumnKind::Timestamp => Datatype::Bytes,
    }
}

fn output(task: Task) -> &'static str {
    match task {
        Task::Binary => "probability",
        Task::Regression => "value",
        Task::Multiclass => "probabilities",
    }
}

impl Declared {
    fn app(&self) -> ApiResult<Arc<App>> {
        self.app.upgrade().ok_or_else(|| ApiError::unavailable("stopping", "the server is stopping"))
    }

    /// The version that is asked for: the live one, or any that is deployed.
    fn artifact(&self, app: &App, version: Option<u32>) -> ApiResult<Arc<Artifact>> {
        let routes = app.routes.load();
        let found = match version {
            None => routes.live(&self.name),
            Some(number) => routes.artifact(&self.name, number),
        };
        let name = &self.name;
        found.cloned().ok_or_else(|| match version {
            None => ApiError::unavailable("no_version", format!("model \"{name}\" has no version yet")),
            Some(number) => ApiError::not_found(format!("version {number} of model \"{name}\" is not deployed")),
        })
    }

    async fn answer(&self, version: Option<u32>, read: Read, call: &mut Call) -> ApiResult<InferResponse> {
        let app = self.app()?;
        let artifact = self.artifact(&app, version)?;
        for wanted in &read.request.outputs {
            let known = output(artifact.spec.task);
            if wanted.name != known {
                let what = format!("there is no output \"{}\"; there is \"{known}\"", wanted.name);
                return Err(ApiError::malformed(what));
            }
        }
        let rows = rows(&artifact, &read)?;
        let ask = Ask { idempotency_key: None, version, explain: false };
        let state = app.model(&self.name)?;
        state.requests.fetch_add(1, Relaxed);
        let given = match predict::predict(&app, &self.name, &rows, &ask, call).await {
            Ok(given) => given,
            Err(refusal) => {
                state.refuse(refusal.reason);
                return Err(refusal);
            }
        };
        let answered = given.first().map_or(artifact.number, |first| first.version);
        state.answered(answered, call.received.elapsed());
        let ids = given.iter().map(|given| given.id.to_string()).collect::<Vec<_>>().join(",");
        let values = given.iter().flat_map(|given| given.value.values().iter().copied()).collect();
        let outputs = artifact.spec.outputs();
        let shape = if outputs == 1 { vec![given.len()] } else { vec![given.len(), outputs] };
        Ok(InferResponse {
            model_name: self.name.clone(),
            model_version: answered.to_string(),
            id: read.request.id,
            parameters: [("prediction_ids".to_owned(), Parameter::Text(ids))].into(),
            outputs: vec![Tensor::new(output(artifact.spec.task), shape, Data::Fp64(values))],
        })
    }
}

impl RowModel for Declared {
    fn describe(&self, version: Option<u32>) -> ApiResult<Described> {
        let app = self.app()?;
        let artifact = self.artifact(&app, version)?;
        let spec = |name: &str, datatype| TensorSpec { name: name.to_owned(), datatype, shape: vec![-1] };
        let mut answer = spec(output(artifact.spec.task), Datatype::Fp64);
        if artifact.spec.outputs() > 1 {
            answer.shape.push(artifact.spec.outputs() as i64);
        }
        let columns = artifact.columns.iter().filter_map(|column| artifact.contract.column(column));
        let signature = Signature {
            inputs: columns.map(|column| spec(&column.name, datatype(column.kind))).collect(),
            outputs: vec![answer],
            batches: true,
        };
        Ok(Described {
            version: artifact.number,
            platform: format!("homeostat_{}", artifact.manifest.learner),
            signature,
            properties: BTreeMap::from([
                ("digest".to_owned(), artifact.digest.to_string()),
                ("version".to_owned(), artifact.number.to_string()),
            ]),
            rows_max: app.project.config.server.rows_max,
        })
    }

    fn versions(&self) -> Vec<u32> {
        let Some(app) = self.app.upgrade() else { return Vec::new() };
        let routes = app.routes.load();
        routes.route(&self.name).map(versions_of).unwrap_or_default()
    }

    fn stats(&self, version: u32) -> Value {
        let Some(state) = self.app.upgrade() else { return Value::Null };
        let Some(state) = state.models.get(&self.name) else { return Value::Null };
        let lanes = state.lanes.lock();
        let batches = lanes.get(&version).map(|lane| lane.batches()).unwrap_or_default();
        let timed = |count: u64, seconds: f64| json!({ "count": count, "ns": (seconds * 1e9) as u64 });
        let computed: u64 = batches.iter().map(|(rows, batch)| *rows as u64 * batch.count).sum();
        let seconds: f64 = batches.values().map(|batch| batch.compute.as_secs_f64()).sum();
        let success: u64 = state.latency.snapshot().iter().sum();
        let fail: u64 = state.refused.lock().values().sum();
        let executions: u64 = batches.values().map(|batch| batch.count).sum();
        let nothing = timed(0, 0.0);
        let sizes: Vec<Value> = batches
            .iter()
            .map(|(rows, batch)| {
                let infer = timed(batch.count, batch.compute.as_secs_f64());
                let nothing = timed(batch.count, 0.0);
                json!({ "batch_size": rows, "compute_input": nothing, "compute_infer": infer, "compute_output": nothing })
            })
            .collect();
        json!({
            "name": self.name,
            "version": version.to_string(),
            "last_inference": 0,
            "inference_count": computed,
            "execution_count": executions,
            "inference_stats": {
                "success": timed(success, state.latency.sum_seconds()),
                "fail": timed(fail, 0.0),
                "queue": timed(success, 0.0),
                "compute_input": timed(success, 0.0),
                "compute_infer": timed(success, seconds),
                "compute_output": timed(success, 0.0),
                "cache_hit": nothing,
                "cache_miss": nothing,
            },
            "response_stats": {},
            "batch_stats": sizes,
            "memory_usage": [],
        })
    }

    fn infer<'a>(
        &'a self,
        version: Option<u32>,
        read: Read,
        call: &'a mut Call,
    ) -> BoxFuture<'a, ApiResult<InferResponse>> {
        self.answer(version, read, call).boxed()
    }
}

/// The tensors as rows of raw columns.
fn rows(artifact: &Artifact, read: &Read) -> ApiResult<Vec<Map<String, Value>>> {
    let malformed = |what: String| ApiError::malformed(what);
    let mut rows: Vec<Map<String, Value>> = Vec::new();
    for (place, tensor) in read.request.inputs.iter().enumerate() {
        let name = &tensor.name;
        let declared = artifact.contract.column_or_alias(name);
        let column = declared.filter(|declared| artifact.columns.contains(&declared.name));
        let Some(column) = column else {
            let hint = vocabulary::suggest::hint(name, artifact.columns.iter().map(String::as_str));
            return Err(malformed(format!("there is no input \"{name}\"{hint}")));
        };
        if !matches!(tensor.shape[..], [_] | [_, 1]) {
            let shape = &tensor.shape;
            return Err(malformed(format!(
                "input \"{name}\": shape {shape:?}; a column has shape [rows] or [rows, 1]"
            )));
        }
        let given = tensor.data.len();
        if place == 0 {
            rows = vec![Map::new(); given];
        } else if rows.len() != given {
            let before = rows.len();
            return Err(malformed(format!("input \"{name}\" has {given} rows, the ones before have {before}")));
        }
        let values = values(name, column.kind, &tensor.data)?;
        let nulls = read.nulls.get(place).map_or(&[][..], Vec::as_slice);
        for (at, (row, value)) in rows.iter_mut().zip(values).enumerate() {
            let value = if nulls.contains(&at) { Value::Null } else { value };
            row.insert(name.clone(), value);
        }
    }
    if rows.is_empty() {
        return Err(malformed("no rows are given".into()));
    }
    Ok(rows)
}

/// The elements as a row has them; NaN is a missing value.
fn values(name: &str, kind: ColumnKind, data: &Data) -> ApiResult<Vec<Value>> {
    let number = |value: f64| match Number::from_f64(value) {
        Some(number) => Value::Number(number),
        None if value.is_nan() => Value::Null,
        None if value > 0.0 => Value::String("Infinity".into()),
        None => Value::String("-Infinity".into()),
    };
    macro_rules! integers {
        ($values:expr) => {
            Some($values.iter().map(|value| Value::from(*value)).collect())
        };
    }
    let made: Option<Vec<Value>> = match (kind, data) {
        (ColumnKind::Bool, Data::Bool(values)) => Some(values.iter().map(|value| Value::Bool(*value)).collect()),
        (ColumnKind::Float, Data::Fp64(values)) => Some(values.iter().map(|value| number(*value)).collect()),
        (ColumnKind::Float, Data::Fp32(values)) => Some(values.iter().map(|value| number(f64::from(*value))).collect()),
        (ColumnKind::Float | ColumnKind::Int, Data::Uint8(values)) => integers!(values),
        (ColumnKind::Float | ColumnKind::Int, Data::Uint16(values)) => integers!(values),
        (ColumnKind::Float | ColumnKind::Int, Data::Uint32(values)) => integers!(values),
        (ColumnKind::Float | ColumnKind::Int, Data::Uint64(values)) => integers!(values),
        (ColumnKind::Float | ColumnKind::Int, Data::Int8(values)) => integers!(values),
        (ColumnKind::Float | ColumnKind::Int, Data::Int16(values)) => integers!(values),
        (ColumnKind::Float | ColumnKind::Int, Data::Int32(values)) => integers!(values),
        (ColumnKind::Float | ColumnKind::Int, Data::Int64(values)) => integers!(values),
        (ColumnKind::String | ColumnKind::Timestamp, Data::Bytes(values)) => {
            let text = |value: &Vec<u8>| std::str::from_utf8(value).map(Value::from).ok();
            let texts: Option<Vec<Value>> = values.iter().map(text).collect();
            let broken = || ApiError::malformed(format!("input \"{name}\": an element is not UTF-8 text"));
            Some(texts.ok_or_else(broken)?)
        }
        _ => None,
    };
    made.ok_or_else(|| {
        let (given, wanted) = (data.datatype(), datatype(kind));
        ApiError::malformed(format!("input \"{name}\": datatype {given} given, {wanted} expected"))
    })
}
