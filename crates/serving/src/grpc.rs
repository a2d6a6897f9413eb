//! The Open Inference Protocol v2 over gRPC, with Triton's extensions, health and reflection. Like `http`, it knows
//! messages, metadata and status codes; what they mean is decided elsewhere.

mod contents;
mod described;
mod gate;
mod health;
#[cfg(test)]
mod tests;
mod work;

use crate::described::EXTENSIONS;
use crate::http::NO_OVERRIDES;
use crate::plane::Plane;
use crate::refusal::{Answer, Refusal};
use axum::Router;
use axum::http::StatusCode;
use futures::StreamExt;
use futures::stream::BoxStream;
use gate::{Arrived, Gate};
use proto::grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer};
use proto::*;
use std::sync::Arc;
use tonic::codec::CompressionEncoding::{Deflate, Gzip};
use tonic::{Request, Response, Status, Streaming};
use tonic_health::pb::health_server::HealthServer;

/// The messages and the service, as `proto/inference.proto` has them.
pub mod proto {
    tonic::include_proto!("inference");
}

/// The service's full name, which health checks and paths use.
pub const SERVICE: &str = "inference.GRPCInferenceService";

const DESCRIPTION: &[u8] = tonic::include_file_descriptor_set!("inference");

/// Requests of one stream in work at once; more are read as answers leave.
const STREAM_REQUESTS_MAX: usize = 64;

/// Bytes of a status' message at most: it is a header, and clients refuse large ones.
const MESSAGE_BYTES_MAX: usize = 2000;

type Told<T> = Result<Response<T>, Status>;

/// The paths of the service, of `grpc.health.v1` and of reflection. Other paths are left alone, so that it can be merged
/// with the router of HTTP.
pub fn router(plane: Arc<Plane>) -> Router {
    let most = plane.limits.body_bytes_max;
    let front = GrpcInferenceServiceServer::new(Front { plane: Arc::clone(&plane) })
        .max_decoding_message_size(most)
        .max_encoding_message_size(most)
        .accept_compressed(Gzip)
        .accept_compressed(Deflate)
        .send_compressed(Gzip)
        .send_compressed(Deflate);
    let health = HealthServer::new(health::Readiness { plane: Arc::clone(&plane) });
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTION)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let v1 = reflection().build_v1().expect("the descriptions were made by compilers");
    let v1alpha = reflection().build_v1alpha().expect("the descriptions were made by compilers");
    Router::new()
        .route_service(&format!("/{SERVICE}/{{*method}}"), Gate { plane, inner: front })
        .route_service("/grpc.health.v1.Health/{*method}", health)
        .route_service("/grpc.reflection.v1.ServerReflection/{*method}", v1)
        .route_service("/grpc.reflection.v1alpha.ServerReflection/{*method}", v1alpha)
}

/// The refusal as a status, its message short enough for a header.
fn status(refusal: &Refusal) -> Status {
    let mut refusal = refusal.clone();
    if refusal.error.len() > MESSAGE_BYTES_MAX {
        let end = refusal.error.floor_char_boundary(MESSAGE_BYTES_MAX);
        refusal.error.truncate(end);
        refusal.error.push('…');
    }
    refusal.grpc()
}

fn told<T>(answer: Answer<T>) -> Told<T> {
    answer.map(Response::new).map_err(|refusal| status(&refusal))
}

/// What the gate has found out about the caller.
fn arrived<T>(request: &Request<T>) -> Result<Arrived, Status> {
    let found = request.extensions().get::<Arrived>().cloned();
    found.ok_or_else(|| status(&Refusal::internal("a gRPC request came past the gate")))
}

struct Front {
    plane: Arc<Plane>,
}

impl Front {
    fn version(text: &str) -> Answer<Option<u32>> {
        Plane::version(Some(text))
    }

    async fn is_ready(&self, request: &ModelReadyRequest) -> Answer<bool> {
        match self.plane.describe(&request.name, Self::version(&request.version)?).await {
            Ok(_) => Ok(true),
            Err(refusal) if refusal.status == StatusCode::SERVICE_UNAVAILABLE => Ok(false),
            Err(refusal) => Err(refusal),
        }
    }

    async fn metadata(&self, request: &ModelMetadataRequest) -> Answer<ModelMetadataResponse> {
        let (entry, found) = self.plane.describe(&request.name, Self::version(&request.version)?).await?;
        Ok(described::metadata(&entry, found))
    }

    async fn config(&self, request: &ModelConfigRequest) -> Answer<ModelConfigResponse> {
        let (entry, found) = self.plane.describe(&request.name, Self::version(&request.version)?).await?;
        Ok(ModelConfigResponse { config: Some(described::config(&entry, &found)) })
    }

    async fn load(&self, request: &Request<RepositoryModelLoadRequest>) -> Answer<RepositoryModelLoadResponse> {
        (self.plane.may_operate)(request.metadata().as_ref())?;
        let message = request.get_ref();
        if !message.parameters.is_empty() {
            return Err(Refusal::malformed(NO_OVERRIDES));
        }
        let name = named(&message.repository_name, &message.model_name);
        self.plane.registry.reload(name).await?;
        Ok(RepositoryModelLoadResponse { model_name: name.to_owned(), is_loaded: true })
    }

    fn unload(&self, request: &Request<RepositoryModelUnloadRequest>) -> Answer<RepositoryModelUnloadResponse> {
        (self.plane.may_operate)(request.metadata().as_ref())?;
        let message = request.get_ref();
        let name = named(&message.repository_name, &message.model_name);
        self.plane.registry.unload(name)?;
        Ok(RepositoryModelUnloadResponse { model_name: name.to_owned(), is_unloaded: true })
    }
}

/// KServe's client writes the model's name where Triton's writes the repository's.
fn named<'a>(repository: &'a str, model: &'a str) -> &'a str {
    if model.is_empty() { repository } else { model }
}

#[tonic::async_trait]
impl GrpcInferenceService for Front {
    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Told<ServerLiveResponse> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Told<ServerReadyResponse> {
        Ok(Response::new(ServerReadyResponse { ready: self.plane.is_ready() }))
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Told<ModelReadyResponse> {
        told(self.is_ready(request.get_ref()).await.map(|ready| ModelReadyResponse { ready }))
    }

    async fn server_metadata(&self, _: Request<ServerMetadataRequest>) -> Told<ServerMetadataResponse> {
        Ok(Response::new(ServerMetadataResponse {
            name: "homeostat".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            extensions: EXTENSIONS.map(str::to_owned).to_vec(),
        }))
    }

    async fn model_metadata(&self, request: Request<ModelMetadataRequest>) -> Told<ModelMetadataResponse> {
        told(self.metadata(request.get_ref()).await)
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Told<ModelInferResponse> {
        let arrived = arrived(&request)?;
        arrived.reached();
        let trace = self.plane.trace(request.metadata().as_ref());
        work::infer(&self.plane, &arrived, trace, request.into_inner()).await
    }

    type ModelStreamInferStream = BoxStream<'static, Result<ModelStreamInferResponse, Status>>;

    /// Answers come in the requests' order; what goes wrong with one request ends neither the others nor the stream.
    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Told<Self::ModelStreamInferStream> {
        let arrived = arrived(&request)?;
        let headers = request.metadata().as_ref().clone();
        let plane = Arc::clone(&self.plane);
        let one = move |message: Result<ModelInferRequest, Status>| {
            let (plane, arrived, trace) = (Arc::clone(&plane), arrived.again(), plane.trace(&headers));
            async move { Ok(work::streamed(&plane, &arrived, trace, message?).await) }
        };
        // Nothing is spawned: who goes away takes all of the stream's requests out of the queues, and who doesn't read
        // answers is read from no further.
        // After a frame that is none, the rest can't be read: its error is the last.
        let messages = request.into_inner().scan(false, |broken, message| {
            let ended = std::mem::replace(broken, message.is_err());
            std::future::ready((!ended).then_some(message))
        });
        Ok(Response::new(messages.map(one).buffered(STREAM_REQUESTS_MAX).boxed()))
    }

    async fn model_config(&self, request: Request<ModelConfigRequest>) -> Told<ModelConfigResponse> {
        told(self.config(request.get_ref()).await)
    }

    async fn model_statistics(&self, request: Request<ModelStatisticsRequest>) -> Told<ModelStatisticsResponse> {
        told(described::statistics(&self.plane, request.get_ref()))
    }

    async fn repository_index(&self, request: Request<RepositoryIndexRequest>) -> Told<RepositoryIndexResponse> {
        Ok(Response::new(described::index(&self.plane, request.get_ref().ready)))
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Told<RepositoryModelLoadResponse> {
        told(self.load(&request).await)
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Told<RepositoryModelUnloadResponse> {
        told(self.unload(&request))
    }
}
