//! The way of an inference request: the model is found, its inputs are checked against the signature, the cache is asked,
//! the rest goes through the scheduler in pieces of a batch's size, and what it cost is written on the receipt.

use crate::cache::{AnswerCache, Identity, Key, LookupTimer};
use crate::call::{CacheUse, Call, Stage, Trace};
use crate::classification;
use crate::lane::{Done, Order};
use crate::refusal::{Answer, Refusal};
use crate::registry::{Described, Entry, Kind, Loaded, Registry, Slot};
use crate::schedule::Scheduler;
use crate::series::SeriesTable;
use crate::tenant::{InWork, Tenant, Tenants};
use crate::tensors::{TensorJob, append};
use crate::wire::json::Read;
use crate::wire::{InferRequest, InferResponse};
use axum::http::HeaderMap;
use inference::{Signature, Tensor};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Named limits of the data plane. What exceeds one is refused and counted.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a body, also after decompression.
    pub body_bytes_max: usize,
    /// From a request's head until all of its body must be there.
    pub body_time_max: Duration,
    /// Rows of one request.
    pub rows_max: usize,
    /// Requests in work at once.
    pub requests_max: usize,
    /// Connections open at once.
    pub connections_max: usize,
    /// Where the caller names no deadline; none waits as long as the queue allows.
    pub deadline: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            body_bytes_max: 16 << 20,
            body_time_max: Duration::from_secs(30),
            rows_max: 10_000,
            requests_max: 1024,
            connections_max: 4096,
            deadline: None,
        }
    }
}

pub struct Plane {
    pub registry: Registry,
    pub scheduler: Scheduler,
    pub tenants: Tenants,
    pub cache: AnswerCache,
    /// Whether tenants see each other's cached answers.
    pub cache_shared: bool,
    pub limits: Limits,
    pub series: SeriesTable,
    pub in_work: AtomicUsize,
    pub connections: AtomicUsize,
    /// Requests of tenants whose weight is below this, in thousandths, are refused: nobody's while it is 0.
    pub shed_below_milli: AtomicU32,
    /// Set once the server is told to stop: not ready, but still answering.
    pub draining: AtomicBool,
    /// Ready only while this says so, beside what the registry knows.
    pub ready: Box<dyn Fn() -> bool + Send + Sync>,
    /// Who gets each finished request, for traces.
    pub observer: Option<Box<dyn Observer>>,
    /// Whether a caller may load and unload models.
    pub may_operate: Gate,
    refused: Mutex<BTreeMap<&'static str, u64>>,
    /// CPU time of the process and of all receipts when it was last settled, in nanoseconds.
    settled: Mutex<(u64, u64)>,
    /// CPU time while nobody asked.
    pub idle_ns: AtomicU64,
}

/// Says whether the sender of these headers may do what it wants to.
pub type Gate = Box<dyn Fn(&HeaderMap) -> Answer<()> + Send + Sync>;

/// Takes note of finished requests.
pub trait Observer: Send + Sync {
    /// Whether it keeps a request's trace; decided before there is anything to keep.
    fn samples(&self, trace: &Trace) -> bool;
    fn finished(&self, model: &str, version: &str, call: &Call, outcome: Result<(), &Refusal>);
}

/// What a plane is made of.
pub struct Parts {
    pub registry: Registry,
    pub scheduler: Scheduler,
    pub cache: AnswerCache,
    pub cache_shared: bool,
    pub limits: Limits,
    pub ready: Box<dyn Fn() -> bool + Send + Sync>,
    pub observer: Option<Box<dyn Observer>>,
    pub may_operate: Gate,
}

/// A request that was let in.
pub struct Admitted<'a> {
    plane: &'a Plane,
    _tenant: InWork,
}

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.plane.in_work.fetch_sub(1, Relaxed);
    }
}

impl Plane {
    pub fn new(parts: Parts) -> Plane {
        let Parts { registry, scheduler, cache, cache_shared, limits, ready, observer, may_operate } = parts;
        Plane {
            registry,
            scheduler,
            tenants: Tenants::default(),
            cache,
            cache_shared,
            limits,
            series: SeriesTable::default(),
            in_work: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            shed_below_milli: AtomicU32::new(0),
            draining: AtomicBool::new(false),
            ready,
            observer,
            may_operate,
            refused: Mutex::default(),
            settled: Mutex::new((process_cpu_ns(), 0)),
            idle_ns: AtomicU64::new(0),
        }
    }

    /// Lets a request of this tenant in, or refuses it.
    pub fn admit(&self, tenant: &Arc<Tenant>) -> Answer<Admitted<'_>> {
        let most = self.limits.requests_max;
        let shed_below = self.shed_below_milli.load(Relaxed);
        if shed_below > 0 && tenant.spec().weight * 1000.0 < f64::from(shed_below) {
            let what = "there is more to do than can be done, and tenants of less weight wait until it is over";
            return Err(Refusal::contended("shed", what, Duration::from_secs(30)));
        }
        if self.in_work.fetch_add(1, Relaxed) >= most {
            self.in_work.fetch_sub(1, Relaxed);
            let what = format!("{most} requests are in work already ([server] requests_max); try again in a moment");
            return Err(Refusal::contended("contended", what, Duration::from_secs(1)));
        }
        match tenant.enter() {
            Ok(in_work) => Ok(Admitted { plane: self, _tenant: in_work }),
            Err(refusal) => {
                self.in_work.fetch_sub(1, Relaxed);
                Err(refusal)
            }
        }
    }

    /// The trace that a request belongs to: its caller's, or one of its own, which nobody samples that keeps none.
    pub fn trace(&self, headers: &HeaderMap) -> Trace {
        let trace = Trace::of_headers(headers);
        let sampled = match &self.observer {
            Some(observer) => observer.samples(&trace),
            None => trace.sampled && trace.parent.is_some(),
        };
        Trace { sampled, ..trace }
    }

    /// Whether each model that should answer does, and the server is not stopping.
    pub fn is_ready(&self) -> bool {
        !self.draining.load(Relaxed) && (self.ready)()
    }

    /// Counts a refusal by its reason, for the server and for the tenant.
    pub fn refuse(&self, tenant: Option<&Tenant>, refusal: &Refusal) {
        *self.refused.lock().entry(refusal.reason).or_default() += 1;
        if let Some(tenant) = tenant {
            tenant.usage.refuse(refusal.reason);
        }
    }

    pub fn refused(&self) -> Vec<(&'static str, u64)> {
        self.refused.lock().iter().map(|(reason, n)| (*reason, *n)).collect()
    }

    /// The version that a path names, as a number.
    pub fn version(text: Option<&str>) -> Answer<Option<u32>> {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
        let wrong = || Refusal::not_found(format!("\"{text}\" is no version; versions are numbers"));
        text.parse().map(Some).map_err(|_| wrong())
    }

    /// What the metadata of a version say. Loads it where it is not loaded.
    pub async fn describe(&self, model: &str, version: Option<u32>) -> Answer<(Arc<Entry>, Described)> {
        let entry = self.registry.entry(model)?;
        let described = match &entry.kind {
            Kind::Rows(rows) => rows.describe(version)?,
            Kind::Tensors(_) => {
                let (_, loaded) = self.registry.ready(&entry, version.unwrap_or(entry.live())).await?;
                let signature = loaded.model().signature().clone();
                Described {
                    version: loaded.version,
                    platform: loaded.model().platform().to_owned(),
                    rows_max: if signature.batches { loaded.lane.rows_max() } else { 0 },
                    signature,
                    properties: BTreeMap::from([
                        ("digest".to_owned(), hex(&loaded.digest)),
                        ("generation".to_owned(), loaded.generation.to_string()),
                    ]),
                }
            }
        };
        Ok((entry, described))
    }

    /// Answers an inference request, and counts it.
    pub async fn infer(&self, model: &str, version: Option<u32>, read: Read, call: &mut Call) -> Answer<InferResponse> {
        self.orders(&read.request, call)?;
        let entry = self.registry.entry(model)?;
        call.tenant.may_ask(model)?;
        if let Kind::Rows(rows) = &entry.kind {
            return rows.infer(version, read, call).await;
        }
        let number = version.unwrap_or_else(|| entry.chosen(draw(&read.request, call)));
        let (slot, loaded) = self.registry.ready(&entry, number).await?;
        let answer = self.tensors(&entry, &slot, &loaded, read, call).await;
        let took = call.received.elapsed();
        match &answer {
            Ok(_) => slot.stats.success.add(took),
            Err(_) => slot.stats.fail.add(took),
        }
        answer
    }

    /// Deadline and priority that the request's parameters name.
    fn orders(&self, request: &InferRequest, call: &mut Call) -> Answer<()> {
        let number = |name: &str| match request.parameters.get(name) {
            None => Ok(None),
            Some(value) => match value.as_int().filter(|value| *value >= 0) {
                Some(value) => Ok(Some(value as u64)),
                None => Err(Refusal::malformed(format!("parameter \"{name}\" is no number from 0 on"))),
            },
        };
        if let Some(us) = number("timeout")?.filter(|us| *us > 0) {
            let named = call.received + Duration::from_micros(us.min(1 << 40));
            call.deadline = Some(call.deadline.map_or(named, |before| before.min(named)));
        }
        if let Some(priority) = number("priority")? {
            call.priority = u8::try_from(priority).unwrap_or(u8::MAX);
        }
        if call.deadline.is_none() {
            call.deadline = self.limits.deadline.map(|limit| call.received + limit);
        }
        Ok(())
    }

    async fn tensors(
        &self,
        entry: &Entry,
        slot: &Arc<Slot>,
        loaded: &Arc<Loaded>,
        read: Read,
        call: &mut Call,
    ) -> Answer<InferResponse> {
        let begun = Instant::now();
        let model = loaded.model();
        let signature = model.signature();
        let InferRequest { id, parameters, inputs, outputs } = read.request;
        let inputs = ordered(&entry.name, signature, inputs, &read.nulls)?;
        let wanted = places(&entry.name, signature, &outputs)?;
        let job = TensorJob { inputs, wanted };
        let rows = if signature.batches { job.rows() } else { 1 };
        if rows > self.limits.rows_max {
            let most = self.limits.rows_max;
            let what = format!("{rows} rows in one request, {most} are allowed ([server] rows_max); send several");
            return Err(Refusal::too_large(what));
        }
        call.tenant.spend(rows, begun)?;
        call.ended(Stage::Admit, begun);
        slot.remember(&job.inputs, self.registry.options().recent_max);
        let cost = loaded.lane.cost.predict_us(rows).unwrap_or(f64::MAX);
        let outputs = if self.cache.is_on() && loaded.worth.pays(cost) {
            let timer = LookupTimer::start();
            let mut canonical = job.inputs.clone();
            model.canonical(&mut canonical);
            let key = self.cache.key(&Identity {
                tenant: if self.cache_shared { "" } else { &call.tenant.name },
                artifact: &loaded.digest,
                generation: loaded.generation,
                inputs: &canonical,
                wanted: &job.wanted,
                parameters: &parameters,
            });
            self.cached(slot, loaded, (key, timer), job, rows, call).await.map_err(|e| e.told(&entry.name))?
        } else {
            self.compute(slot, loaded, job, rows, call).await.map_err(|e| e.told(&entry.name))?
        };
        slot.stats.touch();
        Ok(InferResponse {
            model_name: entry.name.clone(),
            model_version: loaded.version.to_string(),
            id,
            parameters: Default::default(),
            outputs,
        })
    }

    async fn cached(
        &self,
        slot: &Slot,
        loaded: &Arc<Loaded>,
        (key, timer): (Key, LookupTimer),
        job: TensorJob,
        rows: usize,
        call: &mut Call,
    ) -> Result<Vec<Tensor>, crate::lane::AskError> {
        let looking = timer.took();
        let begun = Instant::now();
        let found = match call.deadline {
            None => self.cache.look(&key).await,
            Some(deadline) => match tokio::time::timeout_at(deadline.into(), self.cache.look(&key)).await {
                Ok(found) => found,
                Err(_) => return Err(Refusal::too_late().into()),
            },
        };
        call.took(Stage::Cache, begun.saturating_duration_since(call.received), looking + begun.elapsed());
        call.spent(looking);
        match found {
            Ok(outputs) => {
                loaded.worth.observe(true, looking);
                call.cache = CacheUse::Hit;
                slot.stats.cache_hit.add(looking + begun.elapsed());
                Ok(Vec::clone(&outputs))
            }
            Err(guard) => {
                loaded.worth.observe(false, looking + begun.elapsed());
                call.cache = CacheUse::Miss;
                slot.stats.cache_miss.add(looking);
                let outputs = self.compute(slot, loaded, job, rows, call).await?;
                // Refused only where another load of the same key came between, which the generation excludes.
                let _ = guard.insert(Arc::new(outputs.clone()));
                Ok(outputs)
            }
        }
    }

    /// Through the scheduler, in pieces of a batch's size.
    async fn compute(
        &self,
        slot: &Slot,
        loaded: &Arc<Loaded>,
        job: TensorJob,
        rows: usize,
        call: &mut Call,
    ) -> Result<Vec<Tensor>, crate::lane::AskError> {
        let size = loaded.lane.rows_max();
        let mut outputs = Vec::new();
        if rows <= size {
            let done = self.piece(loaded, job, rows, call).await?;
            note(slot, &done, rows, call);
            return Ok(done.output);
        }
        let pieces: Vec<(usize, usize)> = (0..rows).step_by(size).map(|from| (from, (from + size).min(rows))).collect();
        let asked = pieces.iter().map(|(from, to)| {
            let inputs = job.inputs.iter().map(|input| input.slice_rows(*from, *to)).collect();
            self.piece(loaded, TensorJob { inputs, wanted: job.wanted.clone() }, to - from, call)
        });
        for (done, (from, to)) in futures::future::try_join_all(asked).await?.into_iter().zip(&pieces) {
            note(slot, &done, to - from, call);
            append(&mut outputs, done.output);
        }
        Ok(outputs)
    }

    async fn piece(
        &self,
        loaded: &Arc<Loaded>,
        job: TensorJob,
        rows: usize,
        call: &Call,
    ) -> Result<Done<Vec<Tensor>>, crate::lane::AskError> {
        let order =
            Order { tenant: &call.tenant, rows, shape: job.shape(), deadline: call.deadline, priority: call.priority };
        loaded.lane.ask(&self.scheduler, job, order).await
    }

    /// Writes a finished request into the counters.
    pub fn finish(&self, model: &str, version: &str, rows: usize, call: &Call, outcome: Result<(), &Refusal>) {
        let usage = &call.tenant.usage;
        usage.requests.fetch_add(1, Relaxed);
        usage.compute_ns.fetch_add(call.cpu.as_nanos() as u64, Relaxed);
        match outcome {
            Ok(()) => {
                usage.rows.fetch_add(rows as u64, Relaxed);
                self.series.get(model, version, &call.tenant.name).record(call, rows);
                let entry = self.registry.entry(model).ok();
                if let Some(slot) = entry.and_then(|entry| entry.slot(version.parse().ok()?)) {
                    slot.stats.queue.add(call.stage(Stage::Queue));
                    if call.cache != CacheUse::Hit {
                        let parts = [Stage::Decode, Stage::Infer, Stage::Encode];
                        slot.stats.computed.add(parts.map(|stage| call.stage(stage)));
                    }
                }
            }
            Err(refusal) => self.refuse(Some(&call.tenant), refusal),
        }
        if let Some(observer) = &self.observer {
            observer.finished(model, version, call, outcome);
        }
    }

    /// Divides what the process spent beside the receipts among the tenants by their requests, so that receipts and
    /// shares add up to the measured CPU time. Called about once a second.
    pub fn settle(&self) {
        let tenants = self.tenants.all();
        let cpu = process_cpu_ns();
        let receipts: u64 = tenants.iter().map(|tenant| tenant.usage.compute_ns.load(Relaxed)).sum();
        let mut settled = self.settled.lock();
        let spent = cpu.saturating_sub(settled.0);
        let direct = receipts.saturating_sub(settled.1);
        *settled = (cpu, receipts);
        let rest = spent.saturating_sub(direct);
        let asked: Vec<u64> = tenants.iter().map(|tenant| tenant.unsettled()).collect();
        let total: u64 = asked.iter().sum();
        if total == 0 {
            self.idle_ns.fetch_add(rest, Relaxed);
            return;
        }
        for (tenant, asked) in tenants.iter().zip(asked) {
            let share = (rest as u128 * u128::from(asked) / u128::from(total)) as u64;
            tenant.usage.overhead_ns.fetch_add(share, Relaxed);
        }
    }
}

fn note(slot: &Slot, done: &Done<Vec<Tensor>>, rows: usize, call: &mut Call) {
    call.computed(done);
    slot.stats.computed_rows.fetch_add(rows as u64, Relaxed);
}

/// CPU time of the whole process.
pub fn process_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A number below 10,000 that the same request id always gives; without an id the trace decides.
fn draw(request: &InferRequest, call: &Call) -> u16 {
    let mut hasher = DefaultHasher::new();
    match &request.id {
        Some(id) => id.hash(&mut hasher),
        None => call.trace.trace.hash(&mut hasher),
    }
    (hasher.finish() % 10_000) as u16
}

/// The inputs in the signature's order and datatypes, or what is wrong with them.
fn ordered(model: &str, signature: &Signature, inputs: Vec<Tensor>, nulls: &[Vec<usize>]) -> Answer<Vec<Tensor>> {
    let malformed = |what: String| Err(Refusal::malformed(format!("model \"{model}\": {what}")));
    if let Some(place) = nulls.iter().position(|nulls| !nulls.is_empty()) {
        let (name, at) = (&inputs[place].name, nulls[place][0]);
        return malformed(format!("input \"{name}\": element {at} is null; only numbers with a NaN may be"));
    }
    let mut given: Vec<Option<Tensor>> = inputs.into_iter().map(Some).collect();
    let mut ordered: Vec<Tensor> = Vec::with_capacity(signature.inputs.len());
    for spec in &signature.inputs {
        let same = |tensor: &Option<Tensor>| tensor.as_ref().is_some_and(|tensor| tensor.name == spec.name);
        let Some(mut tensor) = given.iter_mut().find(|tensor| same(tensor)).and_then(Option::take) else {
            let given: Vec<&str> = given.iter().flatten().map(|tensor| tensor.name.as_str()).collect();
            return malformed(format!("input \"{}\" is missing (given: {})", spec.name, given.join(", ")));
        };
        if tensor.datatype() != spec.datatype {
            let datatype = tensor.datatype();
            tensor.data = match tensor.data.widened(spec.datatype) {
                Ok(data) => data,
                Err(_) => {
                    let (name, wanted) = (&spec.name, spec.datatype);
                    return malformed(format!("input \"{name}\" has datatype {datatype}, {wanted} is expected"));
                }
            };
        }
        if !spec.takes(&tensor.shape) {
            let (name, given, wanted) = (&spec.name, &tensor.shape, &spec.shape);
            return malformed(format!(
                "input \"{name}\" has shape {given:?}, {wanted:?} is expected (-1 is any length)"
            ));
        }
        if signature.batches && tensor.rows() == 0 {
            return malformed(format!("input \"{}\" has no rows", spec.name));
        }
        if let Some(first) = ordered.first()
            && signature.batches
            && first.rows() != tensor.rows()
        {
            let (a, b) = (first.rows(), tensor.rows());
            return malformed(format!("inputs \"{}\" and \"{}\" have {a} and {b} rows", first.name, spec.name));
        }
        ordered.push(tensor);
    }
    if let Some(extra) = given.into_iter().flatten().next() {
        let names: Vec<&str> = signature.inputs.iter().map(|spec| spec.name.as_str()).collect();
        let hint = vocabulary::suggest::hint(&extra.name, names.iter().copied());
        return malformed(format!("there is no input \"{}\"{hint}, or it is given twice", extra.name));
    }
    Ok(ordered)
}

/// Places of the outputs that are asked for; all without any.
fn places(model: &str, signature: &Signature, wanted: &[crate::wire::Wanted]) -> Answer<Vec<usize>> {
    if wanted.is_empty() {
        return Ok((0..signature.outputs.len()).collect());
    }
    let place = |wanted: &crate::wire::Wanted| {
        signature.outputs.iter().position(|spec| spec.name == wanted.name).ok_or_else(|| {
            let names: Vec<&str> = signature.outputs.iter().map(|spec| spec.name.as_str()).collect();
            let hint = vocabulary::suggest::hint(&wanted.name, names.iter().copied());
            let known = names.join(", ");
            Refusal::malformed(format!(
                "model \"{model}\": there is no output \"{}\"{hint}; it has {known}",
                wanted.name
            ))
        })
    };
    wanted.iter().map(place).collect()
}

/// Applies the classification extension where an output asks for it.
pub fn classified(response: &mut InferResponse, wanted: &[crate::wire::Wanted]) -> Answer<()> {
    for wanted in wanted {
        if let Some(k) = wanted.classification
            && let Some(output) = response.outputs.iter_mut().find(|output| output.name == wanted.name)
        {
            *output = classification::largest(output, k)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
