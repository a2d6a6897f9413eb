//! A data plane in memory: a model that gives its input back for each datatype, one of trees, and one with columns of
//! several types. Requests go through the routers as they come from a connection.

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use inference::import::import;
use inference::{Datatype, RunError, Signature, Tensor, TensorModel, TensorSpec};
use serving::cache::AnswerCache;
use serving::plane::{Limits, Parts, Plane};
use serving::registry::{Listed, Opened, Registry, RegistryOptions, Source};
use serving::schedule::{ScheduleOptions, Scheduler};
use std::sync::{Arc, LazyLock};
use std::time::Duration;
use tokio::runtime::Runtime;
use tower::ServiceExt;

/// The models' names: the datatypes', `TREES` and `COLUMNS`.
pub const MODELS: [&str; 16] = [
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16", "FP32", "FP64",
    "BYTES", "TREES", "COLUMNS",
];

const TREES: &[u8] = include_bytes!("../../crates/inference/testdata/import/lightgbm_multiclass.txt");
const COLUMNS: &[u8] = include_bytes!("../../crates/inference/testdata/import/onnx_sklearn_columns.onnx");

/// Small enough that a compressed body can exceed it. No deadline: who is never answered must be noticed.
const LIMITS: Limits = Limits {
    body_bytes_max: 1 << 16,
    body_time_max: Duration::from_secs(30),
    rows_max: 1000,
    requests_max: 1024,
    connections_max: 4096,
    deadline: None,
};

/// Gives its input back.
struct Echo(Signature);

impl TensorModel for Echo {
    fn signature(&self) -> &Signature {
        &self.0
    }
    fn platform(&self) -> &'static str {
        "echo"
    }
    fn run(&self, inputs: &[Tensor], wanted: &[usize]) -> Result<Vec<Tensor>, RunError> {
        let output = |_: &usize| Tensor { name: "y".to_owned(), ..inputs[0].clone() };
        Ok(wanted.iter().map(output).collect())
    }
    fn exact(&self) -> bool {
        true
    }
    fn bytes(&self) -> usize {
        1000
    }
}

struct Shelf;

impl Source for Shelf {
    fn open(&self, model: &str, version: u32) -> Result<Opened, String> {
        let imported = |bytes: &[u8]| import(model, bytes).ok().and_then(|imported| imported.model);
        let model: Option<Box<dyn TensorModel>> = match model {
            "TREES" => imported(TREES),
            "COLUMNS" => imported(COLUMNS),
            other => Datatype::parse(other).map(|datatype| {
                let spec = |name: &str| TensorSpec { name: name.to_owned(), datatype, shape: vec![-1, -1] };
                let signature = Signature { inputs: vec![spec("x")], outputs: vec![spec("y")], batches: true };
                Box::new(Echo(signature)) as Box<dyn TensorModel>
            }),
        };
        let model = model.ok_or("there is no such model")?;
        Ok(Opened { model, digest: vec![version as u8], facts: Default::default() })
    }
}

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime"));

static ROUTER: LazyLock<Router> = LazyLock::new(|| {
    // Nothing is answered where it arrives: each request takes the long way through the queue.
    let schedule = ScheduleOptions { threads: 1, inline: Duration::ZERO, ..ScheduleOptions::default() };
    let plane = Plane::new(Parts {
        registry: Registry::new(Arc::new(Shelf), RegistryOptions::default()),
        scheduler: Scheduler::start(schedule).expect("a thread"),
        cache: AnswerCache::new(1 << 20, [3; 32]),
        cache_shared: false,
        limits: LIMITS,
        ready: Box::new(|| true),
        observer: None,
        may_operate: Box::new(|_| Ok(())),
    });
    let listed = |name: &str| Listed { name: name.to_owned(), versions: vec![(1, vec![1])], live: 1, canary: None };
    plane.registry.list(&MODELS.map(listed));
    let plane = Arc::new(plane);
    serving::http::router(Arc::clone(&plane)).merge(serving::grpc::router(plane))
});

/// The answer to a request.
pub fn answer(request: Request<Body>) -> Response<Body> {
    let Ok(response) = run(ROUTER.clone().oneshot(request));
    response
}

pub fn run<F: Future>(future: F) -> F::Output {
    RUNTIME.block_on(future)
}
