//! `grpc.health.v1` over the plane's own readiness, which is asked and doesn't report: a watcher hears of a change
//! within [`LOOK_EVERY`].

use super::SERVICE;
use crate::plane::Plane;
use futures::StreamExt;
use futures::stream::{BoxStream, unfold};
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

const LOOK_EVERY: Duration = Duration::from_millis(100);

pub struct Readiness {
    pub plane: Arc<Plane>,
}

/// None where there is no such service.
fn state(plane: &Plane, service: &str) -> Option<ServingStatus> {
    let ready = || if plane.is_ready() { ServingStatus::Serving } else { ServingStatus::NotServing };
    (service.is_empty() || service == SERVICE).then(ready)
}

#[tonic::async_trait]
impl Health for Readiness {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let service = &request.get_ref().service;
        match state(&self.plane, service) {
            Some(status) => Ok(Response::new(HealthCheckResponse { status: status.into() })),
            None => Err(Status::not_found(format!("no service \"{service}\"; there is {SERVICE}"))),
        }
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let (plane, service) = (Arc::clone(&self.plane), request.into_inner().service);
        let changes = unfold((plane, service, None), |(plane, service, told)| async move {
            loop {
                // An unknown service stays watched: the protocol wants it so.
                let now = state(&plane, &service).unwrap_or(ServingStatus::ServiceUnknown);
                if told != Some(now) {
                    return Some((Ok(HealthCheckResponse { status: now.into() }), (plane, service, Some(now))));
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        Ok(Response::new(changes.boxed()))
    }
}
