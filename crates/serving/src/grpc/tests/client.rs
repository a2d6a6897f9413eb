//! A server with the test model on a free port, and clients of it.

use crate::cache::AnswerCache;
use crate::grpc::proto::grpc_inference_service_client::GrpcInferenceServiceClient;
use crate::grpc::router;
use crate::listen::serve;
use crate::plane::{Limits, Parts, Plane};
use crate::refusal::Refusal;
use crate::registry::{Listed, Opened, Registry, RegistryOptions, Source};
use crate::schedule::{ScheduleOptions, Scheduler};
use crate::tensors::testing::Doubling;
use axum::http::{Request, Response, StatusCode, Uri};
use futures::future::BoxFuture;
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use inference::{RunError, Signature, Tensor, TensorModel};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tonic::body::Body;
use tonic::codegen::Service;

/// Doubles after a time that a test may change; the server has measured the one before.
struct Slow {
    doubling: Doubling,
    takes_ms: Arc<AtomicU64>,
}

impl TensorModel for Slow {
    fn signature(&self) -> &Signature {
        self.doubling.signature()
    }
    fn platform(&self) -> &'static str {
        self.doubling.platform()
    }
    fn run(&self, inputs: &[Tensor], wanted: &[usize]) -> Result<Vec<Tensor>, RunError> {
        std::thread::sleep(Duration::from_millis(self.takes_ms.load(Relaxed)));
        self.doubling.run(inputs, wanted)
    }
    fn exact(&self) -> bool {
        self.doubling.exact()
    }
    fn bytes(&self) -> usize {
        self.doubling.bytes()
    }
}

/// `double` doubles, `broken` can't be loaded.
struct Shelf(Arc<AtomicU64>);

impl Source for Shelf {
    fn open(&self, model: &str, _: u32) -> Result<Opened, String> {
        if model != "double" {
            return Err("its bytes are damaged".into());
        }
        let model = Box::new(Slow { doubling: Doubling::new(Duration::ZERO), takes_ms: Arc::clone(&self.0) });
        Ok(Opened { model, digest: vec![1, 2], facts: Default::default() })
    }
}

pub struct Server {
    pub plane: Arc<Plane>,
    address: SocketAddr,
    ready: Arc<AtomicBool>,
    takes_ms: Arc<AtomicU64>,
    _stop: watch::Sender<bool>,
}

/// Whoever sends this header may not load or unload.
pub const NO_OPERATOR: &str = "x-no-operator";

/// One inference thread, nothing inline: what waits is known. A batch takes `takes`.
pub async fn server(takes: Duration, limits: Limits) -> Server {
    let (ready, takes_ms) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(takes.as_millis() as u64)));
    let says = Arc::clone(&ready);
    let plane = Arc::new(Plane::new(Parts {
        registry: Registry::new(Arc::new(Shelf(Arc::clone(&takes_ms))), RegistryOptions::default()),
        scheduler: Scheduler::start(ScheduleOptions { threads: 1, inline: Duration::ZERO, ..Default::default() })
            .unwrap(),
        cache: AnswerCache::new(0, [7; 32]),
        cache_shared: false,
        limits,
        ready: Box::new(move || says.load(Relaxed)),
        observer: None,
        may_operate: Box::new(|headers| match headers.get(NO_OPERATOR) {
            None => Ok(()),
            Some(_) => Err(Refusal::new(StatusCode::FORBIDDEN, "forbidden", "no operator")),
        }),
    }));
    let listed = ["double", "broken"].map(|name| Listed {
        name: name.into(),
        versions: vec![(1, vec![1, 2])],
        live: 1,
        canary: None,
    });
    plane.registry.list(&listed);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(serve(
        listener,
        router(Arc::clone(&plane)),
        Arc::clone(&plane),
        None,
        stopped,
        Duration::from_secs(1),
    ));
    Server { plane, address, ready, takes_ms, _stop: stop }
}

impl Server {
    pub fn origin(&self) -> Uri {
        format!("http://{}", self.address).parse().unwrap()
    }

    pub async fn line(&self) -> Line {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Line(sender)
    }

    pub async fn client(&self) -> GrpcInferenceServiceClient<Line> {
        GrpcInferenceServiceClient::with_origin(self.line().await, self.origin())
    }

    pub fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Relaxed);
    }

    /// Batches take so long from now on.
    pub fn set_takes(&self, takes: Duration) {
        self.takes_ms.store(takes.as_millis() as u64, Relaxed);
    }

    /// How often a request was refused for this reason.
    pub fn refused(&self, reason: &str) -> u64 {
        self.plane.refused().into_iter().find(|(known, _)| *known == reason).map_or(0, |(_, count)| count)
    }

    /// Waits until `what` holds.
    pub async fn until(&self, what: &str, holds: impl Fn(&Plane) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !holds(&self.plane) {
            assert!(Instant::now() < deadline, "it never came to pass that {what}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// One connection. Unlike a channel it keeps no deadline and tries nothing again: what is seen is what the server did.
#[derive(Clone)]
pub struct Line(SendRequest<Body>);

impl Service<Request<Body>> for Line {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Response<Incoming>, hyper::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
