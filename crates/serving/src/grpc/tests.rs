//! The service as its callers see it: a real listener on port 0, and the client that is generated beside it.

mod client;
mod faults;
mod streams;

use super::proto::infer_parameter::ParameterChoice;
use super::proto::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use super::proto::*;
use crate::plane::Limits;
use crate::tenant::{TenantSpec, digest_of};
use bytes::Bytes;
use client::{Server, server};
use std::time::Duration;
use tonic::Code;
use tonic::codec::CompressionEncoding::{Deflate, Gzip};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServiceResponse};

fn parameter(choice: ParameterChoice) -> InferParameter {
    InferParameter { parameter_choice: Some(choice) }
}

fn raw(values: &[f32]) -> Bytes {
    values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into()
}

fn numbers(raw: &[u8]) -> Vec<f32> {
    raw.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect()
}

/// Asks the model `double` about rows of two numbers.
fn ask(values: &[f32]) -> ModelInferRequest {
    let input = InferInputTensor {
        name: "x".into(),
        datatype: "FP32".into(),
        shape: vec![values.len() as i64 / 2, 2],
        ..Default::default()
    };
    ModelInferRequest {
        model_name: "double".into(),
        inputs: vec![input],
        raw_input_contents: vec![raw(values)],
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_and_typed_contents_get_the_same_answer() {
    let server = server(Duration::ZERO, Limits::default()).await;
    let mut client = server.client().await;
    let mut typed = ask(&[1.0, 2.0, 3.0, 4.0]);
    typed.raw_input_contents.clear();
    let contents = InferTensorContents { fp32_contents: vec![1.0, 2.0, 3.0, 4.0], ..Default::default() };
    typed.inputs[0].contents = Some(contents);
    for mut request in [ask(&[1.0, 2.0, 3.0, 4.0]), typed] {
        request.id = "one".into();
        let answer = client.model_infer(request).await.unwrap().into_inner();
        assert_eq!(
            (answer.model_name.as_str(), answer.model_version.as_str(), answer.id.as_str()),
            ("double", "1", "one")
        );
        let outputs: Vec<(&str, &str, &[i64])> =
            answer.outputs.iter().map(|o| (o.name.as_str(), o.datatype.as_str(), o.shape.as_slice())).collect();
        assert_eq!(outputs, [("y", "FP32", &[2, 2][..]), ("z", "FP32", &[2, 2][..])]);
        assert_eq!(numbers(&answer.raw_output_contents[0]), [2.0, 4.0, 6.0, 8.0]);
        assert_eq!(numbers(&answer.raw_output_contents[1]), [4.0, 8.0, 12.0, 16.0]);
        assert!(answer.outputs.iter().all(|output| output.contents.is_none()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_and_classes_come_as_asked() {
    let server = server(Duration::ZERO, Limits::default()).await;
    let mut request = ask(&[1.0, 2.0]);
    let k = parameter(ParameterChoice::Int64Param(1));
    let parameters = [("classification".to_owned(), k)].into();
    request.outputs = vec![InferRequestedOutputTensor { name: "z".into(), parameters }];
    let answer = server.client().await.model_infer(request).await.unwrap().into_inner();
    assert_eq!((answer.outputs[0].datatype.as_str(), answer.outputs[0].shape.as_slice()), ("BYTES", &[1, 1][..]));
    assert_eq!(&answer.raw_output_contents[..], [&b"\x03\0\0\x008:1"[..]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_carries_its_receipt_and_continues_the_trace() {
    let server = server(Duration::ZERO, Limits::default()).await;
    let mut request = tonic::Request::new(ask(&[1.0, 2.0]));
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    request.metadata_mut().insert("traceparent", trace.parse().unwrap());
    let answer = server.client().await.model_infer(request).await.unwrap();
    let text = |name: &str| answer.metadata().get(name).unwrap().to_str().unwrap().to_owned();
    assert!(text("server-timing").contains("infer;dur="), "{}", text("server-timing"));
    assert!(text("traceparent").starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"));
    assert!(!text("traceparent").contains("00f067aa0ba902b7"));
    let error = server.client().await.model_infer(ask(&[-1.0, 2.0])).await.unwrap_err();
    assert!(error.metadata().get("server-timing").is_some() && error.metadata().get("traceparent").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_and_its_models_describe_themselves() {
    let server = server(Duration::ZERO, Limits::default()).await;
    let mut client = server.client().await;
    assert!(client.server_live(ServerLiveRequest {}).await.unwrap().into_inner().live);
    assert!(client.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);
    let described = client.server_metadata(ServerMetadataRequest {}).await.unwrap().into_inner();
    assert!(described.name == "homeostat" && described.extensions.iter().any(|name| name == "statistics"));

    let (name, version) = ("double".to_owned(), String::new());
    let ready = |name: &str| ModelReadyRequest { name: name.to_owned(), version: String::new() };
    assert!(client.model_ready(ready("double")).await.unwrap().into_inner().ready);
    assert!(!client.model_ready(ready("broken")).await.unwrap().into_inner().ready, "known, but it can't be loaded");
    assert_eq!(client.model_ready(ready("nobody")).await.unwrap_err().code(), Code::NotFound);

    let request = ModelMetadataRequest { name: name.clone(), version: version.clone() };
    let metadata = client.model_metadata(request).await.unwrap().into_inner();
    assert_eq!((metadata.versions, metadata.platform.as_str()), (vec!["1".to_owned()], "test"));
    assert_eq!((metadata.inputs[0].datatype.as_str(), metadata.inputs[0].shape.as_slice()), ("FP32", &[-1, 2][..]));
    assert_eq!(metadata.properties["digest"], "0102");

    let request = ModelConfigRequest { name: name.clone(), version: version.clone() };
    let config = client.model_config(request).await.unwrap().into_inner().config.unwrap();
    assert!(config.max_batch_size > 0);
    assert_eq!((config.output[1].data_type(), config.output[1].dims.as_slice()), (DataType::TypeFp32, &[2][..]));

    client.model_infer(ask(&[1.0, 2.0, 3.0, 4.0])).await.unwrap();
    let request = ModelStatisticsRequest { name, version };
    let stats = client.model_statistics(request).await.unwrap().into_inner().model_stats;
    assert_eq!((stats.len(), stats[0].inference_count), (1, 2));
    assert_eq!(stats[0].inference_stats.unwrap().success.unwrap().count, 1);
    assert!(stats[0].batch_stats.iter().any(|batch| batch.batch_size == 2) && stats[0].memory_usage[0].byte_size > 0);
    let all = client.model_statistics(ModelStatisticsRequest::default()).await.unwrap().into_inner();
    assert!(all.model_stats.len() > 1);
    let none = ModelStatisticsRequest { name: "double".into(), version: "7".into() };
    assert_eq!(client.model_statistics(none).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn models_are_unloaded_and_loaded_by_either_client_s_message() {
    let server = server(Duration::ZERO, Limits::default()).await;
    let mut client = server.client().await;
    let unload = RepositoryModelUnloadRequest { model_name: "double".into(), ..Default::default() };
    assert!(client.repository_model_unload(unload).await.unwrap().into_inner().is_unloaded);
    assert_eq!(client.model_infer(ask(&[1.0, 2.0])).await.unwrap_err().code(), Code::Unavailable);
    let index = async |ready| {
        let request = RepositoryIndexRequest { ready, ..Default::default() };
        let index = server.client().await.repository_index(request).await.unwrap().into_inner();
        index.models.into_iter().find(|model| model.name == "double").map(|model| (model.state, model.reason))
    };
    assert_eq!(index(false).await, Some(("UNAVAILABLE".into(), "unloaded".into())));
    assert_eq!(index(true).await, None);

    let mut load = RepositoryModelLoadRequest { model_name: "double".into(), ..Default::default() };
    load.parameters.insert("config".into(), ModelRepositoryParameter::default());
    assert_eq!(client.repository_model_load(load).await.unwrap_err().code(), Code::InvalidArgument);
    // KServe's client has the model's name in the first field.
    let load = RepositoryModelLoadRequest { repository_name: "double".into(), ..Default::default() };
    assert!(client.repository_model_load(load).await.unwrap().into_inner().is_loaded);
    assert_eq!(index(true).await, Some(("READY".into(), String::new())));
    client.model_infer(ask(&[1.0, 2.0])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_name_the_tenant() {
    let server = server(Duration::ZERO, Limits::default()).await;
    let spec = TenantSpec { keys: vec![digest_of("secret")], ..TenantSpec::named("a") };
    server.plane.tenants.replace(&[spec]);
    let asked = async |name: Option<&'static str>, value: &str| {
        let mut request = tonic::Request::new(ask(&[1.0, 2.0]));
        if let Some(name) = name {
            request.metadata_mut().insert(name, value.parse().unwrap());
        }
        server.client().await.model_infer(request).await.map(|_| ()).map_err(|status| status.code())
    };
    assert_eq!(asked(None, "").await, Err(Code::Unauthenticated));
    assert_eq!(asked(Some("x-api-key"), "guess").await, Err(Code::Unauthenticated));
    assert_eq!(asked(Some("authorization"), "Bearer secret").await, Ok(()));
    assert_eq!(asked(Some("x-api-key"), "secret").await, Ok(()));
    let stream = server.client().await.model_stream_infer(futures::stream::iter([ask(&[1.0, 2.0])])).await;
    assert_eq!(stream.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(server.refused("unauthorized"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn health_follows_the_plane_and_reflection_tells_the_services() {
    let server = server(Duration::ZERO, Limits::default()).await;
    let mut health = HealthClient::with_origin(server.line().await, server.origin());
    let about = |service: &str| HealthCheckRequest { service: service.to_owned() };
    for service in ["", super::SERVICE] {
        assert_eq!(health.check(about(service)).await.unwrap().into_inner().status, 1);
    }
    assert_eq!(health.check(about("other")).await.unwrap_err().code(), Code::NotFound);
    let mut unknown = health.watch(about("other")).await.unwrap().into_inner();
    assert_eq!(unknown.message().await.unwrap().unwrap().status, 3, "SERVICE_UNKNOWN, and watched on");
    let mut watched = health.watch(about("")).await.unwrap().into_inner();
    assert_eq!(watched.message().await.unwrap().unwrap().status, 1);
    server.set_ready(false);
    assert_eq!(watched.message().await.unwrap().unwrap().status, 2);
    assert!(!server.client().await.server_ready(ServerReadyRequest {}).await.unwrap().into_inner().ready);

    let mut reflection = ServerReflectionClient::with_origin(server.line().await, server.origin());
    let message_request = Some(MessageRequest::ListServices(String::new()));
    let request = ServerReflectionRequest { host: String::new(), message_request };
    let mut answers = reflection.server_reflection_info(futures::stream::iter([request])).await.unwrap().into_inner();
    let listed = answers.message().await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(listed)) = listed else { panic!("{listed:?}") };
    for name in [super::SERVICE, "grpc.health.v1.Health"] {
        assert!(listed.service.contains(&ServiceResponse { name: name.into() }), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_compressed_as_the_request_was() {
    let server = server(Duration::ZERO, Limits::default()).await;
    let values = vec![1.0; 2000];
    let plain = server.client().await.accept_compressed(Gzip).model_infer(ask(&values)).await.unwrap();
    assert_eq!(plain.metadata().get("grpc-encoding"), None, "that it can be read does not mean that it is wanted");
    for encoding in [Gzip, Deflate] {
        let mut client =
            server.client().await.send_compressed(encoding).accept_compressed(Gzip).accept_compressed(Deflate);
        let answer = client.model_infer(ask(&values)).await.unwrap();
        assert_eq!(answer.metadata().get("grpc-encoding").unwrap().to_str().unwrap(), encoding.to_string());
        assert_eq!(numbers(&answer.get_ref().raw_output_contents[0]), vec![2.0; 2000]);
    }
}
