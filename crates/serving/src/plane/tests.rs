//! The faults that other servers are known for, told as stories, and the promises of the scheduler.

use super::*;
use crate::registry::{Listed, Opened, RegistryOptions, Source};
use crate::schedule::ScheduleOptions;
use crate::tenant::{TenantSpec, digest_of};
use crate::wire::{Parameters, Wanted};
use inference::{Data, Datatype, RunError, TensorModel, TensorSpec};
use std::sync::atomic::AtomicU32;

/// What the test changes while the model serves.
#[derive(Default)]
struct World {
    factor: AtomicU32,
    busy_us: AtomicU64,
    /// The first number of each request, in the order of computing.
    order: Mutex<Vec<f32>>,
    opened: AtomicU64,
    started: AtomicU64,
    /// By an earlier process.
    recorded: Mutex<Vec<Vec<Tensor>>>,
}

/// `sum` is each row's sum times a factor, `max` its largest number. Negative numbers are refused, 666 breaks it.
struct Sums {
    signature: Signature,
    world: Arc<World>,
    factor: f32,
}

impl TensorModel for Sums {
    fn signature(&self) -> &Signature {
        &self.signature
    }
    fn platform(&self) -> &'static str {
        "test"
    }
    fn run(&self, inputs: &[Tensor], wanted: &[usize]) -> Result<Vec<Tensor>, RunError> {
        let Data::Fp32(values) = &inputs[0].data else { return Err(RunError::Model("not FP32".into())) };
        let (begun, busy) = (Instant::now(), Duration::from_micros(self.world.busy_us.load(Relaxed)));
        self.world.started.fetch_add(1, Relaxed);
        while begun.elapsed() < busy {
            std::hint::spin_loop();
        }
        if values.iter().any(|value| *value < 0.0) {
            return Err(RunError::Input("a number is below zero".into()));
        }
        assert!(!values.contains(&666.0), "the model breaks");
        let width = inputs[0].row_len();
        let rows = || values.chunks(width);
        self.world.order.lock().extend(rows().map(|row| row[0]));
        let output = |place: &usize| match place {
            0 => rows().map(|row| row.iter().sum::<f32>() * self.factor).collect(),
            _ => rows().map(|row| row.iter().copied().fold(0.0, f32::max)).collect(),
        };
        let tensor = |place: &usize| {
            let name = self.signature.outputs[*place].name.as_str();
            Tensor::new(name, vec![inputs[0].rows()], Data::Fp32(output(place)))
        };
        Ok(wanted.iter().map(tensor).collect())
    }
    fn exact(&self) -> bool {
        true
    }
    fn bytes(&self) -> usize {
        1000
    }
}

struct Shelf(Arc<World>);

impl Source for Shelf {
    fn open(&self, model: &str, version: u32) -> Result<Opened, String> {
        if model == "broken" {
            return Err("its bytes are damaged".into());
        }
        self.0.opened.fetch_add(1, Relaxed);
        let spec = |name: &str, shape: &[i64]| TensorSpec {
            name: name.into(),
            datatype: Datatype::Fp32,
            shape: shape.to_vec(),
        };
        let signature = Signature {
            inputs: vec![spec("x", &[-1, -1])],
            outputs: vec![spec("sum", &[-1]), spec("max", &[-1])],
            batches: true,
        };
        let factor = f32::from_bits(self.0.factor.load(Relaxed)) * if model == "other" { 7.0 } else { version as f32 };
        let model = Box::new(Sums { signature, world: Arc::clone(&self.0), factor });
        Ok(Opened { model, digest: vec![version as u8], facts: Default::default() })
    }

    fn recorded(&self, _: &[u8]) -> Vec<Vec<Tensor>> {
        self.0.recorded.lock().clone()
    }
}

fn plane_with(schedule: ScheduleOptions, registry: RegistryOptions, cache: u64) -> (Arc<Plane>, Arc<World>) {
    let world = Arc::new(World { factor: AtomicU32::new(1f32.to_bits()), ..World::default() });
    let plane = Plane::new(Parts {
        registry: Registry::new(Arc::new(Shelf(Arc::clone(&world))), registry),
        scheduler: Scheduler::start(schedule).unwrap(),
        cache: AnswerCache::new(cache, [3; 32]),
        cache_shared: false,
        limits: Limits { rows_max: 5000, ..Limits::default() },
        ready: Box::new(|| true),
        observer: None,
        may_operate: Box::new(|_| Ok(())),
    });
    let listed = ["a", "other", "broken"].map(|name| Listed {
        name: name.into(),
        versions: vec![(1, vec![1]), (2, vec![2])],
        live: 1,
        canary: None,
    });
    plane.registry.list(&listed);
    (Arc::new(plane), world)
}

/// One inference thread, nothing inline: what waits is known.
fn queued() -> ScheduleOptions {
    ScheduleOptions { threads: 1, inline: Duration::ZERO, ..ScheduleOptions::default() }
}

fn plane() -> (Arc<Plane>, Arc<World>) {
    plane_with(queued(), RegistryOptions::default(), 1 << 20)
}

fn request(shape: &[usize], values: &[f32]) -> InferRequest {
    let inputs = vec![Tensor::new("x", shape.to_vec(), Data::Fp32(values.to_vec()))];
    InferRequest { inputs, ..InferRequest::default() }
}

async fn ask_as(plane: &Plane, key: Option<&str>, model: &str, request: InferRequest) -> Answer<(InferResponse, Call)> {
    let tenant = plane.tenants.of_key(key)?;
    let mut call = Call::new(tenant, crate::call::Trace::new(), Instant::now());
    let _admitted = plane.admit(&call.tenant)?;
    let read = Read { request, nulls: Vec::new() };
    let answer = plane.infer(model, None, read, &mut call).await;
    plane.finish(model, "1", 1, &call, answer.as_ref().map(|_| ()));
    answer.map(|answer| (answer, call))
}

async fn ask(plane: &Plane, model: &str, request: InferRequest) -> Answer<Vec<f32>> {
    let (answer, _) = ask_as(plane, None, model, request).await?;
    let Data::Fp32(values) = &answer.outputs[0].data else { panic!("{answer:?}") };
    Ok(values.clone())
}

/// Waits until so many rows are in the queue.
async fn until_waiting(plane: &Plane, rows: usize) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while plane.scheduler.waiting_rows() != rows {
        assert!(Instant::now() < deadline, "{} rows wait, not {rows}", plane.scheduler.waiting_rows());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A request that holds the only thread for so long; returns once it is being computed.
async fn hold(plane: &Arc<Plane>, world: &World, busy: Duration) -> tokio::task::JoinHandle<Answer<Vec<f32>>> {
    world.busy_us.store(busy.as_micros() as u64, Relaxed);
    let started = world.started.load(Relaxed);
    let busy = tokio::spawn({
        let plane = Arc::clone(plane);
        async move { ask(&plane, "a", request(&[1, 1], &[5000.0])).await }
    });
    let deadline = Instant::now() + Duration::from_secs(10);
    while world.started.load(Relaxed) == started {
        assert!(Instant::now() < deadline, "the model does not start");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    busy
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_leaves_no_stale_answer_in_the_cache() {
    let (plane, world) = plane();
    world.busy_us.store(200, Relaxed);
    for _ in 0..2 {
        assert_eq!(ask(&plane, "a", request(&[2, 3], &[1., 2., 3., 4., 5., 6.])).await.unwrap(), [6.0, 15.0]);
    }
    let slot = plane.registry.entry("a").unwrap().slot(1).unwrap();
    assert_eq!(slot.stats.cache_hit.count(), 1);
    world.factor.store(100f32.to_bits(), Relaxed);
    plane.registry.reload("a").await.unwrap();
    assert_eq!(ask(&plane, "a", request(&[2, 3], &[1., 2., 3., 4., 5., 6.])).await.unwrap(), [600.0, 1500.0]);
    world.factor.store(10f32.to_bits(), Relaxed);
    plane.registry.unload("a").unwrap();
    let gone = ask(&plane, "a", request(&[1, 1], &[1.0])).await.unwrap_err();
    assert_eq!((gone.status.as_u16(), gone.reason), (503, "unloaded"));
    plane.registry.reload("a").await.unwrap();
    assert_eq!(ask(&plane, "a", request(&[2, 3], &[1., 2., 3., 4., 5., 6.])).await.unwrap(), [60.0, 150.0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_warmed_up_with_what_an_earlier_process_recorded() {
    let (plane, world) = plane();
    let row = |name: &str, value: f32| vec![Tensor::new(name, vec![1, 1], Data::Fp32(vec![value]))];
    *world.recorded.lock() = vec![row("another input", 1.0), row("x", 77.0)];
    assert_eq!(ask(&plane, "a", request(&[1, 1], &[5.0])).await.unwrap(), [5.0]);
    let order = world.order.lock().clone();
    assert_eq!((order.first(), order.last()), (Some(&77.0), Some(&5.0)), "what does not fit is left out");
    let fresh = plane.registry.freshly_recorded();
    assert_eq!(fresh, [(vec![1], vec![row("x", 77.0), row("x", 5.0)])]);
    assert!(plane.registry.freshly_recorded().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cache_knows_shapes_outputs_models_and_tenants_apart() {
    let (plane, world) = plane();
    world.busy_us.store(200, Relaxed);
    let values = [1., 2., 3., 4., 5., 6.];
    assert_eq!(ask(&plane, "a", request(&[2, 3], &values)).await.unwrap(), [6.0, 15.0]);
    assert_eq!(ask(&plane, "a", request(&[3, 2], &values)).await.unwrap(), [3.0, 7.0, 11.0]);
    let only = |name: &str| InferRequest {
        outputs: vec![Wanted { name: name.into(), ..Wanted::default() }],
        ..request(&[1, 2], &[8.0, 9.0])
    };
    let (answer, _) = ask_as(&plane, None, "a", only("max")).await.unwrap();
    assert_eq!((answer.outputs.len(), answer.outputs[0].name.as_str()), (1, "max"));
    let (answer, _) = ask_as(&plane, None, "a", only("sum")).await.unwrap();
    assert_eq!((answer.outputs[0].name.as_str(), &answer.outputs[0].data), ("sum", &Data::Fp32(vec![17.0])));
    assert_eq!(ask(&plane, "other", request(&[2, 3], &values)).await.unwrap(), [42.0, 105.0]);
    let key = |name: &str| TenantSpec { keys: vec![digest_of(name)], ..TenantSpec::named(name) };
    plane.tenants.replace(&[key("t1"), key("t2")]);
    for (tenant, cache) in [("t1", CacheUse::Miss), ("t2", CacheUse::Miss), ("t1", CacheUse::Hit)] {
        let (_, call) = ask_as(&plane, Some(tenant), "a", request(&[2, 3], &values)).await.unwrap();
        assert_eq!(call.cache, cache, "{tenant}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn identical_requests_in_flight_are_computed_once() {
    let (plane, world) = plane();
    world.busy_us.store(200, Relaxed);
    ask(&plane, "a", request(&[1, 1], &[1.0])).await.unwrap();
    world.busy_us.store(50_000, Relaxed);
    world.order.lock().clear();
    let asked = (0..8).map(|_| ask(&plane, "a", request(&[1, 1], &[42.0])));
    for answer in futures::future::join_all(asked).await {
        assert_eq!(answer.unwrap(), [42.0]);
    }
    assert_eq!(*world.order.lock(), [42.0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lone_request_does_not_wait_for_others() {
    let (plane, _) = plane_with(queued(), RegistryOptions::default(), 0);
    for value in 0..20 {
        let (_, call) = ask_as(&plane, None, "a", request(&[1, 1], &[value as f32])).await.unwrap();
        assert_eq!(call.batch_rows, 1);
        // Others pay a delay of 100 ms here.
        assert!(call.stage(Stage::Queue) < Duration::from_millis(50), "{:?}", call.stage(Stage::Queue));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_joined_and_one_bad_row_fails_alone() {
    let long = RegistryOptions { batch_time_max: Duration::from_secs(10), ..RegistryOptions::default() };
    let (plane, world) = plane_with(queued(), long, 0);
    ask(&plane, "a", request(&[1, 1], &[1.0])).await.unwrap();
    let busy = hold(&plane, &world, Duration::from_millis(200)).await;
    world.busy_us.store(0, Relaxed);
    let values = [10.0, 11.0, -1.0, 666.0, 12.0];
    let asked = values.map(|value| ask_as(&plane, None, "a", request(&[1, 1], &[value])));
    let answers = futures::future::join_all(asked).await;
    busy.await.unwrap().unwrap();
    let status = |place: usize| answers[place].as_ref().err().map(|refusal| refusal.status.as_u16());
    assert_eq!((status(2), status(3)), (Some(400), Some(500)));
    let mut joined = 0;
    for (place, value) in [(0, 10.0), (1, 11.0), (4, 12.0)] {
        let (answer, call) = answers[place].as_ref().unwrap();
        assert_eq!(answer.outputs[0].data, Data::Fp32(vec![value]));
        joined = joined.max(call.batch_rows);
    }
    assert!(joined > 1, "nothing was joined");
    // The thread that met the panic goes on.
    assert_eq!(ask(&plane, "a", request(&[1, 1], &[3.0])).await.unwrap(), [3.0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_larger_than_a_batch_is_split() {
    let (plane, _) = plane_with(queued(), RegistryOptions { batch_rows_max: 64, ..Default::default() }, 0);
    let values: Vec<f32> = (0..1000).map(|value| (value % 600) as f32).collect();
    let (answer, call) = ask_as(&plane, None, "a", request(&[1000, 1], &values)).await.unwrap();
    assert_eq!((answer.outputs[0].shape.as_slice(), &answer.outputs[0].data), (&[1000][..], &Data::Fp32(values)));
    assert!(call.batch_rows <= 64);
    let large = ask(&plane, "a", request(&[6000, 1], &[0.0; 6000])).await.unwrap_err();
    assert_eq!((large.status.as_u16(), large.reason), (413, "too_large"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_is_answered_when_it_passes_though_the_model_is_busy() {
    let (plane, world) = plane_with(queued(), RegistryOptions::default(), 0);
    ask(&plane, "a", request(&[1, 1], &[1.0])).await.unwrap();
    let busy = hold(&plane, &world, Duration::from_millis(600)).await;
    let timed = InferRequest {
        parameters: Parameters::from([("timeout".into(), crate::wire::Parameter::Int(100_000))]),
        ..request(&[1, 1], &[77.0])
    };
    let begun = Instant::now();
    let late = ask(&plane, "a", timed).await.unwrap_err();
    assert_eq!((late.status.as_u16(), late.reason), (504, "deadline"));
    assert!(begun.elapsed() < Duration::from_millis(400), "answered after {:?}", begun.elapsed());
    busy.await.unwrap().unwrap();
    ask(&plane, "a", request(&[1, 1], &[2.0])).await.unwrap();
    assert!(!world.order.lock().contains(&77.0), "it was computed all the same");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_goes_away_takes_the_work_along() {
    let (plane, world) = plane_with(queued(), RegistryOptions::default(), 0);
    ask(&plane, "a", request(&[1, 1], &[1.0])).await.unwrap();
    let busy = hold(&plane, &world, Duration::from_millis(300)).await;
    let gone = tokio::spawn({
        let plane = Arc::clone(&plane);
        async move { ask(&plane, "a", request(&[1, 1], &[88.0])).await }
    });
    until_waiting(&plane, 1).await;
    gone.abort();
    until_waiting(&plane, 0).await;
    busy.await.unwrap().unwrap();
    ask(&plane, "a", request(&[1, 1], &[2.0])).await.unwrap();
    assert!(!world.order.lock().contains(&88.0));
    assert_eq!(plane.in_work.load(Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_counts_and_says_when_to_come_again() {
    let (plane, world) = plane_with(ScheduleOptions { queue_rows_max: 2, ..queued() }, RegistryOptions::default(), 0);
    ask(&plane, "a", request(&[1, 1], &[1.0])).await.unwrap();
    let busy = hold(&plane, &world, Duration::from_millis(300)).await;
    let asked = (0..7).map(|value| ask(&plane, "a", request(&[1, 1], &[value as f32])));
    let answers = futures::future::join_all(asked).await;
    busy.await.unwrap().unwrap();
    let refused: Vec<&Refusal> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert_eq!(refused.len(), 5);
    for refusal in &refused {
        assert_eq!((refusal.status.as_u16(), refusal.reason), (429, "queue_full"));
        assert!(refusal.retry_after_s.is_some_and(|seconds| seconds >= 1));
    }
    assert_eq!(plane.refused(), [("queue_full", 5)]);
    let slot = plane.registry.entry("a").unwrap().slot(1).unwrap();
    assert_eq!(slot.stats.fail.count(), 5);
    assert_eq!(plane.tenants.of_key(None).unwrap().usage.refused(), [("queue_full", 5)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_in_time_is_refused_at_once() {
    let (plane, world) = plane_with(queued(), RegistryOptions::default(), 0);
    world.busy_us.store(30_000, Relaxed);
    ask(&plane, "a", request(&[1, 1], &[1.0])).await.unwrap();
    let timed = InferRequest {
        parameters: Parameters::from([("timeout".into(), crate::wire::Parameter::Int(1000))]),
        ..request(&[1, 1], &[77.0])
    };
    let late = ask(&plane, "a", timed).await.unwrap_err();
    assert_eq!((late.status.as_u16(), late.reason), (429, "late"));
    assert!(late.error.contains("ms after its deadline"), "{}", late.error);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flooding_tenant_does_not_go_before_the_others() {
    let four = RegistryOptions { batch_rows_max: 4, batch_time_max: Duration::from_secs(10), ..Default::default() };
    let (plane, world) = plane_with(queued(), four, 0);
    let key = |name: &str| TenantSpec { keys: vec![digest_of(name)], ..TenantSpec::named(name) };
    plane.tenants.replace(&[key("flood"), key("calm"), TenantSpec::named(crate::tenant::ANONYMOUS)]);
    ask(&plane, "a", request(&[1, 1], &[1.0])).await.unwrap();
    let busy = hold(&plane, &world, Duration::from_millis(300)).await;
    world.busy_us.store(2000, Relaxed);
    world.order.lock().clear();
    let mut flood = Vec::new();
    for value in 0..100 {
        let plane = Arc::clone(&plane);
        flood.push(tokio::spawn(
            async move { ask_as(&plane, Some("flood"), "a", request(&[1, 1], &[value as f32])).await },
        ));
    }
    until_waiting(&plane, 100).await;
    for value in 0..5 {
        ask_as(&plane, Some("calm"), "a", request(&[1, 1], &[1000.0 + value as f32])).await.unwrap();
    }
    for answer in flood {
        answer.await.unwrap().unwrap();
    }
    busy.await.unwrap().unwrap();
    let order = world.order.lock().clone();
    let places: Vec<usize> =
        (0..5).map(|value| order.iter().position(|first| *first == 1000.0 + value as f32).unwrap()).collect();
    // Each waits for the batch in work and shares the next one: at most two batches of four rows between two of them.
    let mut before = order.iter().position(|first| *first == 5000.0).map_or(0, |held| held + 1);
    for place in places {
        assert!(place <= before + 8, "{order:?}");
        before = place + 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_are_chosen_by_name_share_and_id() {
    let (plane, _) = plane();
    let tenant = plane.tenants.of_key(None).unwrap();
    let versions = vec![(1, vec![1]), (2, vec![2])];
    plane.registry.list(&[Listed { name: "a".into(), versions: versions.clone(), live: 1, canary: Some((2, 3000)) }]);
    let mut second = 0;
    for id in 0..300 {
        let request = InferRequest { id: Some(format!("user-{id}")), ..request(&[1, 1], &[1.0]) };
        let (answer, _) = ask_as(&plane, None, "a", request.clone()).await.unwrap();
        let (again, _) = ask_as(&plane, None, "a", request).await.unwrap();
        assert_eq!(answer.model_version, again.model_version, "the share is sticky");
        second += usize::from(answer.model_version == "2");
    }
    assert!((60..120).contains(&second), "{second} of 300 by the canary");
    let mut call = Call::new(tenant, crate::call::Trace::new(), Instant::now());
    let read = Read { request: request(&[1, 1], &[1.0]), nulls: Vec::new() };
    assert_eq!(plane.infer("a", Some(2), read, &mut call).await.unwrap().model_version, "2");
    let read = Read { request: request(&[1, 1], &[1.0]), nulls: Vec::new() };
    assert_eq!(plane.infer("a", Some(9), read, &mut call).await.unwrap_err().status, 404);
    // The other models are listed no longer.
    assert_eq!(ask(&plane, "other", request(&[1, 1], &[1.0])).await.unwrap_err().status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn models_unused_for_longest_leave_and_come_back() {
    let (plane, world) = plane_with(queued(), RegistryOptions { loaded_max: 2, ..RegistryOptions::default() }, 0);
    let listed: Vec<Listed> =
        (0..5).map(|n| Listed { name: format!("m{n}"), versions: vec![(1, vec![1])], live: 1, canary: None }).collect();
    plane.registry.list(&listed);
    for n in [0, 1, 2, 1, 0, 1] {
        ask(&plane, &format!("m{n}"), request(&[1, 1], &[1.0])).await.unwrap();
        assert!(plane.registry.in_memory().0 <= 2);
    }
    // m0, m1, m2 and m0 again were opened; m1 stayed.
    assert_eq!((world.opened.load(Relaxed), plane.registry.evictions.load(Relaxed)), (4, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_can_not_be_loaded_says_why() {
    let (plane, _) = plane();
    let refused = ask(&plane, "broken", request(&[1, 1], &[1.0])).await.unwrap_err();
    assert_eq!((refused.status.as_u16(), refused.reason), (503, "load_failed"));
    assert!(refused.error.contains("its bytes are damaged"));
    let line = crate::described::index(&plane, false).into_iter().find(|line| line.name == "broken").unwrap();
    assert_eq!((line.state, line.reason.as_str()), ("UNAVAILABLE", "its bytes are damaged"));
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_are_checked_in_words() {
    let (plane, _) = plane();
    let check = async |request: InferRequest, what: &str| {
        let refused = ask(&plane, "a", request).await.unwrap_err();
        assert_eq!(refused.status, 400);
        assert!(refused.error.contains(what), "{}", refused.error);
    };
    let tensor = |name: &str, data: Data| Tensor::new(name, vec![1, 1], data);
    let of = |inputs: Vec<Tensor>| InferRequest { inputs, ..InferRequest::default() };
    check(of(vec![]), "input \"x\" is missing").await;
    check(of(vec![tensor("x", Data::Fp64(vec![1.0]))]), "datatype FP64, FP32 is expected").await;
    check(request(&[2], &[1.0, 2.0]), "shape [2], [-1, -1] is expected").await;
    check(request(&[0, 2], &[]), "has no rows").await;
    let two = vec![tensor("x", Data::Fp32(vec![1.0])), tensor("y", Data::Fp32(vec![1.0]))];
    check(of(two), "there is no input \"y\"").await;
    let unknown =
        InferRequest { outputs: vec![Wanted { name: "sun".into(), ..Wanted::default() }], ..request(&[1, 1], &[1.0]) };
    check(unknown, "did you mean \"sum\"").await;
    // What has one exact value there is taken.
    assert_eq!(ask(&plane, "a", of(vec![tensor("x", Data::Int8(vec![3]))])).await.unwrap(), [3.0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_and_shares_add_up_to_the_process() {
    let (plane, world) = plane_with(queued(), RegistryOptions::default(), 0);
    world.busy_us.store(2000, Relaxed);
    let before = process_cpu_ns();
    plane.settle();
    for value in 0..50 {
        ask(&plane, "a", request(&[1, 1], &[value as f32])).await.unwrap();
    }
    plane.settle();
    let spent = process_cpu_ns() - before;
    let usage = &plane.tenants.of_key(None).unwrap().usage;
    let told = usage.compute_ns.load(Relaxed) + usage.overhead_ns.load(Relaxed) + plane.idle_ns.load(Relaxed);
    let ratio = told as f64 / spent as f64;
    assert!((0.9..1.1).contains(&ratio), "{told} of {spent} ns");
}
