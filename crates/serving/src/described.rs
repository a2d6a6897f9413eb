//! What the protocol's metadata, configuration, statistics and repository extensions say, as JSON; gRPC tells the same.

use crate::plane::Plane;
use crate::registry::{Described, Entry, Kind, Slot};
use inference::{Datatype, TensorSpec};
use serde_json::{Value, json};
use std::sync::atomic::Ordering::Relaxed;

/// The protocol extensions that are spoken here.
pub const EXTENSIONS: [&str; 8] = [
    "classification",
    "model_repository",
    "model_repository(unload_dependents)",
    "schedule_policy",
    "model_configuration",
    "binary_tensor_data",
    "parameters",
    "statistics",
];

fn tensors(specs: &[TensorSpec]) -> Vec<Value> {
    specs
        .iter()
        .map(|spec| json!({ "name": spec.name, "datatype": spec.datatype.name(), "shape": spec.shape }))
        .collect()
}

/// The versions that can be asked for, as text.
pub fn versions(entry: &Entry) -> Vec<String> {
    match &entry.kind {
        Kind::Rows(rows) => rows.versions().iter().map(u32::to_string).collect(),
        Kind::Tensors(_) => entry.slots().iter().map(|slot| slot.version.to_string()).collect(),
    }
}

pub fn metadata(entry: &Entry, described: &Described) -> Value {
    json!({
        "name": entry.name,
        "versions": versions(entry),
        "platform": described.platform,
        "inputs": tensors(&described.signature.inputs),
        "outputs": tensors(&described.signature.outputs),
        "properties": described.properties,
    })
}

/// A datatype in the configuration's spelling.
pub fn config_type(datatype: Datatype) -> &'static str {
    match datatype {
        Datatype::Bool => "TYPE_BOOL",
        Datatype::Uint8 => "TYPE_UINT8",
        Datatype::Uint16 => "TYPE_UINT16",
        Datatype::Uint32 => "TYPE_UINT32",
        Datatype::Uint64 => "TYPE_UINT64",
        Datatype::Int8 => "TYPE_INT8",
        Datatype::Int16 => "TYPE_INT16",
        Datatype::Int32 => "TYPE_INT32",
        Datatype::Int64 => "TYPE_INT64",
        Datatype::Fp16 => "TYPE_FP16",
        Datatype::Bf16 => "TYPE_BF16",
        Datatype::Fp32 => "TYPE_FP32",
        Datatype::Fp64 => "TYPE_FP64",
        Datatype::Bytes => "TYPE_STRING",
    }
}

/// Lengths without the rows' where requests are joined: the configuration counts those by `max_batch_size`.
pub fn config_dims(spec: &TensorSpec, batches: bool) -> Vec<i64> {
    let lengths = if batches { spec.shape.get(1..).unwrap_or_default() } else { &spec.shape };
    // A row of one number is a dimension of one there.
    if lengths.is_empty() { vec![1] } else { lengths.to_vec() }
}

pub fn config(entry: &Entry, described: &Described) -> Value {
    let batches = described.rows_max > 0;
    let part = |spec: &TensorSpec| {
        json!({
            "name": spec.name,
            "data_type": config_type(spec.datatype),
            "dims": config_dims(spec, batches),
        })
    };
    json!({
        "name": entry.name,
        "platform": described.platform,
        "backend": described.platform,
        "version_policy": { "latest": { "num_versions": 1 } },
        "max_batch_size": described.rows_max,
        "input": described.signature.inputs.iter().map(part).collect::<Vec<_>>(),
        "output": described.signature.outputs.iter().map(part).collect::<Vec<_>>(),
        "instance_group": [{ "name": "inference", "kind": "KIND_CPU", "count": 1 }],
        "parameters": {},
    })
}

/// Statistics of one version.
pub fn stats(entry: &Entry, slot: &Slot) -> Value {
    let stats = &slot.stats;
    let timed = |timed: &crate::stats::Timed| json!({ "count": timed.count(), "ns": timed.ns() });
    let loaded = slot.loaded();
    let batches = loaded.as_ref().map(|loaded| loaded.lane.batches()).unwrap_or_default();
    let executions = stats.executions.load(Relaxed) + batches.values().map(|batch| batch.count).sum::<u64>();
    let computed = stats.computed.count();
    let [input, infer, output] = stats.computed.ns().map(|ns| json!({ "count": computed, "ns": ns }));
    let batch_stats: Vec<Value> = batches
        .iter()
        .map(|(rows, batch)| {
            let infer = json!({ "count": batch.count, "ns": batch.compute.as_nanos() as u64 });
            let nothing = json!({ "count": batch.count, "ns": 0 });
            json!({ "batch_size": rows, "compute_input": nothing, "compute_infer": infer, "compute_output": nothing })
        })
        .collect();
    let memory = loaded.map(|loaded| json!([{ "type": "CPU", "id": 0, "byte_size": loaded.model().bytes() }]));
    json!({
        "name": entry.name,
        "version": slot.version.to_string(),
        "last_inference": stats.last_inference_ms.load(Relaxed),
        "inference_count": stats.computed_rows.load(Relaxed),
        "execution_count": executions,
        "inference_stats": {
            "success": timed(&stats.success),
            "fail": timed(&stats.fail),
            "queue": timed(&stats.queue),
            "compute_input": input,
            "compute_infer": infer,
            "compute_output": output,
            "cache_hit": timed(&stats.cache_hit),
            "cache_miss": timed(&stats.cache_miss),
        },
        "response_stats": {},
        "batch_stats": batch_stats,
        "memory_usage": memory.unwrap_or_else(|| json!([])),
    })
}

/// A line of the repository's index.
#[derive(Clone, Debug, PartialEq)]
pub struct IndexLine {
    pub name: String,
    pub version: String,
    pub state: &'static str,
    pub reason: String,
}

/// All versions of all models, by name and number.
pub fn index(plane: &Plane, ready_only: bool) -> Vec<IndexLine> {
    let mut lines = Vec::new();
    for entry in plane.registry.entries().values() {
        match &entry.kind {
            Kind::Rows(rows) => lines.extend(rows.versions().into_iter().map(|version| IndexLine {
                name: entry.name.clone(),
                version: version.to_string(),
                state: "READY",
                reason: String::new(),
            })),
            Kind::Tensors(_) => lines.extend(entry.slots().iter().map(|slot| line(entry, slot))),
        }
    }
    lines.retain(|line| !ready_only || line.state == "READY");
    lines.sort_by(|a, b| (&a.name, a.version.len(), &a.version).cmp(&(&b.name, b.version.len(), &b.version)));
    lines
}

/// A version that is not in memory but can be loaded on request answers, and so is ready.
fn line(entry: &Entry, slot: &Slot) -> IndexLine {
    let failure = slot.failure();
    let (state, reason) = match (entry.is_unloaded(), failure) {
        (true, _) => ("UNAVAILABLE", "unloaded".to_owned()),
        (false, Some(failure)) => ("UNAVAILABLE", failure),
        (false, None) => ("READY", String::new()),
    };
    IndexLine { name: entry.name.clone(), version: slot.version.to_string(), state, reason }
}
