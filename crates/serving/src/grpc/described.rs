//! Metadata, configuration, statistics and the repository's index as messages. What they say is `crate::described`'s.

use super::proto::model_instance_group::Kind;
use super::proto::model_metadata_response::TensorMetadata;
use super::proto::model_version_policy::{Latest, PolicyChoice};
use super::proto::repository_index_response::ModelIndex;
use super::proto::*;
use crate::described::{self, IndexLine, config_dims, config_type};
use crate::http::stats_of;
use crate::plane::Plane;
use crate::refusal::Answer;
use crate::registry::{Described, Entry};
use inference::TensorSpec;
use serde_json::Value;

pub fn metadata(entry: &Entry, found: Described) -> ModelMetadataResponse {
    let tensor = |spec: TensorSpec| TensorMetadata {
        name: spec.name,
        datatype: spec.datatype.name().to_owned(),
        shape: spec.shape,
    };
    ModelMetadataResponse {
        name: entry.name.clone(),
        versions: described::versions(entry),
        platform: found.platform,
        inputs: found.signature.inputs.into_iter().map(tensor).collect(),
        outputs: found.signature.outputs.into_iter().map(tensor).collect(),
        properties: found.properties.into_iter().collect(),
    }
}

pub fn config(entry: &Entry, found: &Described) -> ModelConfig {
    let batches = found.rows_max > 0;
    let kind = |spec: &TensorSpec| DataType::from_str_name(config_type(spec.datatype)).unwrap_or_default().into();
    let input = |spec: &TensorSpec| ModelInput {
        name: spec.name.clone(),
        data_type: kind(spec),
        dims: config_dims(spec, batches),
    };
    let output = |spec: &TensorSpec| ModelOutput {
        name: spec.name.clone(),
        data_type: kind(spec),
        dims: config_dims(spec, batches),
    };
    let latest = PolicyChoice::Latest(Latest { num_versions: 1 });
    ModelConfig {
        name: entry.name.clone(),
        platform: found.platform.clone(),
        backend: found.platform.clone(),
        version_policy: Some(ModelVersionPolicy { policy_choice: Some(latest) }),
        max_batch_size: i32::try_from(found.rows_max).unwrap_or(i32::MAX),
        input: found.signature.inputs.iter().map(input).collect(),
        output: found.signature.outputs.iter().map(output).collect(),
        instance_group: vec![ModelInstanceGroup { name: "inference".to_owned(), count: 1, kind: Kind::Cpu.into() }],
        parameters: Default::default(),
    }
}

pub fn statistics(plane: &Plane, request: &ModelStatisticsRequest) -> Answer<ModelStatisticsResponse> {
    let listed = if request.name.is_empty() {
        let mut names: Vec<String> = plane.registry.entries().keys().cloned().collect();
        names.sort_unstable();
        names.iter().filter_map(|name| stats_of(plane, name, None).ok()).flatten().collect()
    } else {
        stats_of(plane, &request.name, Plane::version(Some(&request.version))?)?
    };
    Ok(ModelStatisticsResponse { model_stats: listed.iter().map(model_statistics).collect() })
}

fn number(value: &Value, field: &str) -> u64 {
    value[field].as_u64().unwrap_or_default()
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

fn duration(value: &Value, field: &str) -> Option<StatisticDuration> {
    value.get(field).map(|value| StatisticDuration { count: number(value, "count"), ns: number(value, "ns") })
}

fn each<T>(value: &Value, field: &str, one: impl Fn(&Value) -> T) -> Vec<T> {
    value[field].as_array().into_iter().flatten().map(one).collect()
}

fn model_statistics(value: &Value) -> ModelStatistics {
    let stats = &value["inference_stats"];
    ModelStatistics {
        name: text(value, "name"),
        version: text(value, "version"),
        last_inference: number(value, "last_inference"),
        inference_count: number(value, "inference_count"),
        execution_count: number(value, "execution_count"),
        inference_stats: Some(InferStatistics {
            success: duration(stats, "success"),
            fail: duration(stats, "fail"),
            queue: duration(stats, "queue"),
            compute_input: duration(stats, "compute_input"),
            compute_infer: duration(stats, "compute_infer"),
            compute_output: duration(stats, "compute_output"),
            cache_hit: duration(stats, "cache_hit"),
            cache_miss: duration(stats, "cache_miss"),
        }),
        batch_stats: each(value, "batch_stats", |batch| InferBatchStatistics {
            batch_size: number(batch, "batch_size"),
            compute_input: duration(batch, "compute_input"),
            compute_infer: duration(batch, "compute_infer"),
            compute_output: duration(batch, "compute_output"),
        }),
        memory_usage: each(value, "memory_usage", |usage| MemoryUsage {
            r#type: text(usage, "type"),
            id: usage["id"].as_i64().unwrap_or_default(),
            byte_size: number(usage, "byte_size"),
        }),
    }
}

pub fn index(plane: &Plane, ready_only: bool) -> RepositoryIndexResponse {
    let model = |line: IndexLine| ModelIndex {
        name: line.name,
        version: line.version,
        state: line.state.to_owned(),
        reason: line.reason,
    };
    RepositoryIndexResponse { models: described::index(plane, ready_only).into_iter().map(model).collect() }
}
