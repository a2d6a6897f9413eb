//! The models by name and version: which there are, which are loaded, who answers. Versions are loaded when they are
//! asked for, and the ones unused for longest leave when memory is short. A reload opens the version anew beside the
//! one in use and swaps it: requests in work keep what they began with.

use crate::lane::Lane;
use crate::refusal::{Answer, Refusal};
use crate::stats::VersionStats;
use crate::tensors::{TensorJob, Tensors};
use crate::wire::InferResponse;
use crate::wire::json::Read;
use crate::{cache::Worth, call::Call};
use arc_swap::{ArcSwap, ArcSwapOption};
use axum::http::StatusCode;
use futures::future::BoxFuture;
use inference::{Data, Datatype, Signature, Tensor, TensorModel};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Where tensor models come from.
pub trait Source: Send + Sync {
    /// Opens a version; every byte is checked.
    fn open(&self, model: &str, version: u32) -> Result<Opened, String>;

    /// Requests that were recorded of this artifact by an earlier process.
    fn recorded(&self, _artifact: &[u8]) -> Vec<Vec<Tensor>> {
        Vec::new()
    }
}

pub struct Opened {
    pub model: Box<dyn TensorModel>,
    /// Of the artifact.
    pub digest: Vec<u8>,
    pub facts: Facts,
}

/// What is known of a tensor model beside its signature.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Names of the columns of its only input; empty where there are none.
    pub features: Vec<String>,
    /// Names of the classes, in the order of the outputs.
    pub classes: Vec<String>,
    /// `binary`, `multiclass`, `regression` or `tensor`.
    pub task: String,
    /// Rows touch each other, whatever the signature says.
    pub rows_touch: bool,
}

/// A model that reads rows of raw columns and answers by itself: contract, pipeline and log are its own affair.
pub trait RowModel: Send + Sync {
    fn describe(&self, version: Option<u32>) -> Answer<Described>;
    /// The versions that answer.
    fn versions(&self) -> Vec<u32>;
    /// What the statistics extension says of a version.
    fn stats(&self, version: u32) -> serde_json::Value;
    fn infer<'a>(
        &'a self,
        version: Option<u32>,
        request: Read,
        call: &'a mut Call,
    ) -> BoxFuture<'a, Answer<InferResponse>>;
}

/// What the protocol's metadata say of a version.
#[derive(Clone, Debug)]
pub struct Described {
    pub version: u32,
    pub platform: String,
    pub signature: Signature,
    pub properties: BTreeMap<String, String>,
    /// Rows of a batch at most; 0 where requests are not joined.
    pub rows_max: usize,
}

/// Which versions a tensor model has and which of them answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    pub name: String,
    /// Numbers with the artifacts' digests.
    pub versions: Vec<(u32, Vec<u8>)>,
    pub live: u32,
    /// A version that answers some requests, with its share in basis points.
    pub canary: Option<(u32, u16)>,
}

#[derive(Clone, Debug)]
pub struct RegistryOptions {
    /// Memory of all loaded tensor models together, as far as they know it; beyond it idle ones leave.
    pub bytes_max: usize,
    /// Loaded versions at most.
    pub loaded_max: usize,
    /// Rows of a batch.
    pub batch_rows_max: usize,
    /// Predicted time of a batch: what another tenant may have to wait.
    pub batch_time_max: Duration,
    /// Whether requests are joined at all.
    pub batching: bool,
    /// Requests that are kept of each version, to warm it up when it is loaded again.
    pub recent_max: usize,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        RegistryOptions {
            bytes_max: 4 << 30,
            loaded_max: 1024,
            batch_rows_max: 256,
            batch_time_max: Duration::from_millis(10),
            batching: true,
            recent_max: 4,
        }
    }
}

/// A version in memory.
pub struct Loaded {
    pub version: u32,
    /// Unique to this load.
    pub generation: u64,
    pub digest: Vec<u8>,
    pub facts: Facts,
    pub lane: Arc<Lane<Tensors>>,
    pub worth: Worth,
    pub took: Duration,
}

impl Loaded {
    pub fn model(&self) -> &dyn TensorModel {
        &*self.lane.executor.model
    }
}

/// One version's place, loaded or not.
pub struct Slot {
    pub version: u32,
    digest: Vec<u8>,
    ready: ArcSwapOption<Loaded>,
    loading: tokio::sync::Mutex<()>,
    failed: Mutex<Option<String>>,
    last_used: AtomicU64,
    pub stats: VersionStats,
    recent: Mutex<Recent>,
}

/// Requests for warming up.
#[derive(Default)]
struct Recent {
    requests: Vec<Vec<Tensor>>,
    /// Whether nobody has asked for them since the last one came.
    fresh: bool,
}

/// Larger requests are not kept for warming up.
const RECENT_BYTES_MAX: usize = 64 << 10;

impl Slot {
    fn new(version: u32, digest: Vec<u8>) -> Arc<Slot> {
        Arc::new(Slot {
            version,
            digest,
            ready: ArcSwapOption::empty(),
            loading: tokio::sync::Mutex::new(()),
            failed: Mutex::new(None),
            last_used: AtomicU64::new(0),
            stats: VersionStats::default(),
            recent: Mutex::default(),
        })
    }

    pub fn loaded(&self) -> Option<Arc<Loaded>> {
        self.ready.load_full()
    }

    /// Puts a load in the place of the one before, whose batches go on counting.
    fn put(&self, loaded: Option<Arc<Loaded>>) {
        if let Some(before) = self.ready.swap(loaded) {
            self.stats.executions.fetch_add(before.lane.batches().values().map(|b| b.count).sum(), Relaxed);
        }
    }

    pub fn failure(&self) -> Option<String> {
        self.failed.lock().clone()
    }

    /// Takes over what an earlier process recorded, where this one has nothing yet.
    fn recall(&self, requests: Vec<Vec<Tensor>>) {
        let mut recent = self.recent.lock();
        if recent.requests.is_empty() {
            recent.requests = requests;
        }
    }

    /// Keeps a request for warming up, while there are few.
    pub fn remember(&self, inputs: &[Tensor], most: usize) {
        let Some(mut recent) = self.recent.try_lock() else { return };
        let size: usize = inputs.iter().map(|input| crate::wire::binary::size(&input.data)).sum();
        if recent.requests.len() < most && size <= RECENT_BYTES_MAX {
            recent.requests.push(inputs.to_vec());
            recent.fresh = true;
        }
    }
}

pub enum Kind {
    Tensors(RwLock<BTreeMap<u32, Arc<Slot>>>),
    Rows(Arc<dyn RowModel>),
}

pub struct Entry {
    pub name: String,
    pub kind: Kind,
    route: ArcSwap<(u32, Option<(u32, u16)>)>,
    /// Taken out of service by the repository extension.
    unloaded: AtomicBool,
}

impl Entry {
    /// The version that answers without one being named; `draw` decides for a canary, below 10,000.
    pub fn chosen(&self, draw: u16) -> u32 {
        let route = self.route.load();
        match route.1 {
            Some((canary, share)) if draw < share => canary,
            _ => route.0,
        }
    }

    pub fn live(&self) -> u32 {
        self.route.load().0
    }

    pub fn is_unloaded(&self) -> bool {
        self.unloaded.load(Relaxed)
    }

    pub fn slot(&self, version: u32) -> Option<Arc<Slot>> {
        match &self.kind {
            Kind::Tensors(slots) => slots.read().get(&version).cloned(),
            Kind::Rows(_) => None,
        }
    }

    pub fn slots(&self) -> Vec<Arc<Slot>> {
        match &self.kind {
            Kind::Tensors(slots) => slots.read().values().cloned().collect(),
            Kind::Rows(_) => Vec::new(),
        }
    }
}

pub struct Registry {
    entries: ArcSwap<HashMap<String, Arc<Entry>>>,
    changing: Mutex<()>,
    source: Arc<dyn Source>,
    options: RegistryOptions,
    loaded: Mutex<Vec<(Arc<Slot>, usize)>>,
    begun: Instant,
    pub loads: AtomicU64,
    pub evictions: AtomicU64,
}

static GENERATIONS: AtomicU64 = AtomicU64::new(1);

impl Registry {
    pub fn new(source: Arc<dyn Source>, options: RegistryOptions) -> Registry {
        Registry {
            entries: ArcSwap::default(),
            changing: Mutex::new(()),
            source,
            options,
            loaded: Mutex::default(),
            begun: Instant::now(),
            loads: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
        }
    }

    pub fn options(&self) -> &RegistryOptions {
        &self.options
    }

    /// Adds models that answer by themselves.
    pub fn add_rows(&self, models: Vec<(String, Arc<dyn RowModel>)>) {
        let _changing = self.changing.lock();
        let mut entries = HashMap::clone(&self.entries.load());
        for (name, model) in models {
            let entry = Entry {
                name: name.clone(),
                kind: Kind::Rows(model),
                route: ArcSwap::from_pointee((0, None)),
                unloaded: AtomicBool::new(false),
            };
            entries.insert(name, Arc::new(entry));
        }
        self.entries.store(Arc::new(entries));
    }

    /// Makes the tensor models those of `listed`. What is loaded stays loaded where its artifact is the same.
    pub fn list(&self, listed: &[Listed]) {
        let _changing = self.changing.lock();
        let before = self.entries.load_full();
        let mut entries: HashMap<String, Arc<Entry>> = before
            .iter()
            .filter(|(_, entry)| matches!(entry.kind, Kind::Rows(_)))
            .map(|(name, entry)| (name.clone(), Arc::clone(entry)))
            .collect();
        for model in listed {
            if entries.contains_key(&model.name) {
                tracing::warn!("model \"{}\" is declared and imported; the declared one answers", model.name);
                continue;
            }
            let entry = match before.get(&model.name) {
                Some(entry) if matches!(entry.kind, Kind::Tensors(_)) => Arc::clone(entry),
                _ => Arc::new(Entry {
                    name: model.name.clone(),
                    kind: Kind::Tensors(RwLock::default()),
                    route: ArcSwap::from_pointee((model.live, None)),
                    unloaded: AtomicBool::new(false),
                }),
            };
            if let Kind::Tensors(slots) = &entry.kind {
                let mut slots = slots.write();
                slots.retain(|number, slot| model.versions.iter().any(|(n, d)| n == number && *d == slot.digest));
                for (number, digest) in &model.versions {
                    slots.entry(*number).or_insert_with(|| Slot::new(*number, digest.clone()));
                }
            }
            entry.route.store(Arc::new((model.live, model.canary)));
            entries.insert(model.name.clone(), entry);
        }
        self.entries.store(Arc::new(entries));
    }

    pub fn entries(&self) -> Arc<HashMap<String, Arc<Entry>>> {
        self.entries.load_full()
    }

    pub fn entry(&self, name: &str) -> Answer<Arc<Entry>> {
        let entries = self.entries.load();
        entries.get(name).cloned().ok_or_else(|| {
            // With very many models a search for a similar name would cost more than it helps.
            let near = if entries.len() <= 1000 {
                vocabulary::suggest::hint(name, entries.keys().map(String::as_str))
            } else {
                String::new()
            };
            Refusal::not_found(format!("no model \"{name}\"{near} (POST /v2/repository/index lists them)"))
        })
    }

    /// The loaded version, loading it where needed. Several callers wait for one load.
    pub async fn ready(&self, entry: &Entry, version: u32) -> Answer<(Arc<Slot>, Arc<Loaded>)> {
        let slot = self.slot(entry, version)?;
        slot.last_used.store(self.begun.elapsed().as_micros() as u64, Relaxed);
        if let Some(loaded) = slot.loaded() {
            return Ok((slot, loaded));
        }
        let loaded = self.load(entry, &slot, false).await?;
        Ok((slot, loaded))
    }

    fn slot(&self, entry: &Entry, version: u32) -> Answer<Arc<Slot>> {
        if entry.is_unloaded() {
            let what = format!("model \"{}\" was unloaded; load it with POST /v2/repository/models/…/load", entry.name);
            return Err(Refusal::unavailable("unloaded", what));
        }
        entry.slot(version).ok_or_else(|| {
            let known: Vec<String> = entry.slots().iter().map(|slot| slot.version.to_string()).collect();
            let what = format!("model \"{}\" has no version {version}; it has {}", entry.name, known.join(", "));
            Refusal::not_found(what)
        })
    }

    async fn load(&self, entry: &Entry, slot: &Arc<Slot>, anew: bool) -> Answer<Arc<Loaded>> {
        let _one_at_a_time = slot.loading.lock().await;
        if let (Some(loaded), false) = (slot.loaded(), anew) {
            return Ok(loaded);
        }
        let (source, name, version) = (Arc::clone(&self.source), entry.name.clone(), slot.version);
        let (options, recent, before) = (self.options.clone(), slot.recent.lock().requests.clone(), slot.loaded());
        let work = move || open(&*source, &name, version, &options, recent, before.as_deref());
        let opened = tokio::task::spawn_blocking(work).await;
        let opened = opened.unwrap_or_else(|_| Err("loading it panicked; see the log".to_owned()));
        match opened {
            Ok((loaded, recent)) => {
                *slot.failed.lock() = None;
                slot.recall(recent);
                let loaded = Arc::new(loaded);
                slot.put(Some(Arc::clone(&loaded)));
                self.loads.fetch_add(1, Relaxed);
                self.make_room(slot, loaded.model().bytes());
                Ok(loaded)
            }
            Err(error) => {
                tracing::error!("{}@{version} can't be loaded: {error}", entry.name);
                let what = format!("model \"{}\" version {version} can't be loaded: {error}", entry.name);
                *slot.failed.lock() = Some(error);
                Err(Refusal::unavailable("load_failed", what))
            }
        }
    }

    /// Opens the answering version anew and swaps it in; or brings an unloaded model back.
    pub async fn reload(&self, name: &str) -> Answer<()> {
        let entry = self.entry(name)?;
        let was = entry.unloaded.swap(false, Relaxed);
        if let Kind::Rows(_) = entry.kind {
            return Ok(());
        }
        let slot = self.slot(&entry, entry.live())?;
        self.load(&entry, &slot, true).await.map(|_| ()).inspect_err(|_| entry.unloaded.store(was, Relaxed))
    }

    /// Takes a model out of service and out of memory. Requests in work end with what they began.
    pub fn unload(&self, name: &str) -> Answer<()> {
        let entry = self.entry(name)?;
        if let Kind::Rows(_) = entry.kind {
            let what = format!("model \"{name}\" belongs to the project's files and is not unloaded by request");
            return Err(Refusal::new(StatusCode::CONFLICT, "declared", what));
        }
        entry.unloaded.store(true, Relaxed);
        for slot in entry.slots() {
            self.drop_loaded(&slot);
        }
        Ok(())
    }

    fn drop_loaded(&self, slot: &Arc<Slot>) {
        slot.put(None);
        self.loaded.lock().retain(|(other, _)| !Arc::ptr_eq(other, slot));
    }

    /// Notes a load, and lets the versions unused for longest go while there are too many.
    fn make_room(&self, newest: &Arc<Slot>, bytes: usize) {
        let mut loaded = self.loaded.lock();
        loaded.retain(|(slot, _)| !Arc::ptr_eq(slot, newest));
        loaded.push((Arc::clone(newest), bytes));
        loop {
            let total: usize = loaded.iter().map(|(_, bytes)| bytes).sum();
            if total <= self.options.bytes_max && loaded.len() <= self.options.loaded_max {
                return;
            }
            let busy = |slot: &Slot| slot.loaded().is_some_and(|loaded| loaded.lane.waiting() > 0);
            let oldest = loaded
                .iter()
                .enumerate()
                .filter(|(_, (slot, _))| !Arc::ptr_eq(slot, newest) && !busy(slot))
                .min_by_key(|(_, (slot, _))| slot.last_used.load(Relaxed))
                .map(|(place, _)| place);
            let Some(place) = oldest else { return };
            let (slot, _) = loaded.swap_remove(place);
            slot.put(None);
            self.evictions.fetch_add(1, Relaxed);
        }
    }

    /// Artifacts of loaded versions of which requests were recorded since the last call, with all that are kept.
    pub fn freshly_recorded(&self) -> Vec<(Vec<u8>, Vec<Vec<Tensor>>)> {
        let slots: Vec<Arc<Slot>> = self.loaded.lock().iter().map(|(slot, _)| Arc::clone(slot)).collect();
        let fresh = |slot: Arc<Slot>| {
            let mut recent = slot.recent.lock();
            std::mem::take(&mut recent.fresh).then(|| (slot.digest.clone(), recent.requests.clone()))
        };
        slots.into_iter().filter_map(fresh).collect()
    }

    /// Loaded versions, and the memory that they say they hold.
    pub fn in_memory(&self) -> (usize, usize) {
        let loaded = self.loaded.lock();
        (loaded.len(), loaded.iter().map(|(_, bytes)| bytes).sum())
    }
}

fn open(
    source: &dyn Source,
    name: &str,
    version: u32,
    options: &RegistryOptions,
    mut recent: Vec<Vec<Tensor>>,
    before: Option<&Loaded>,
) -> Result<(Loaded, Vec<Vec<Tensor>>), String> {
    let started = Instant::now();
    let opened = source.open(name, version)?;
    if recent.is_empty() {
        recent = source.recorded(&opened.digest);
        recent.truncate(options.recent_max);
        recent.retain(|inputs| fits(opened.model.signature(), inputs));
    }
    let apart = opened.model.signature().batches && !opened.facts.rows_touch;
    let joins = apart && options.batching;
    let rows_max = if apart { options.batch_rows_max } else { usize::MAX };
    let lane = Lane::new(Tensors { model: opened.model }, joins, rows_max, options.batch_time_max);
    match before {
        // Loaded anew while it serves: its costs are known, and measuring them would take what its callers need.
        Some(before) => {
            lane.cost.adopt(&before.lane.cost);
            warm(&lane, 1, &recent);
        }
        None => warm(&lane, options.batch_rows_max, &recent),
    }
    let loaded = Loaded {
        version,
        generation: GENERATIONS.fetch_add(1, Relaxed),
        digest: opened.digest,
        facts: opened.facts,
        lane,
        worth: Worth::default(),
        took: started.elapsed(),
    };
    Ok((loaded, recent))
}

/// Whether these are inputs of this model.
fn fits(signature: &Signature, inputs: &[Tensor]) -> bool {
    let fit = |(spec, input): (&inference::TensorSpec, &Tensor)| {
        spec.name == input.name && spec.datatype == input.datatype() && spec.takes(&input.shape)
    };
    signature.inputs.len() == inputs.len() && signature.inputs.iter().zip(inputs).all(fit)
}

/// Longest that measuring a model's batches may take when it is loaded.
const WARM_TIME_MAX: Duration = Duration::from_millis(200);

/// Runs recorded requests, or made-up ones, in growing batches: afterwards the first caller pays for nothing, and what a
/// batch costs is known. A model that refuses them is measured by its real requests.
fn warm(lane: &Lane<Tensors>, rows_max: usize, recent: &[Vec<Tensor>]) {
    let signature = lane.executor.model.signature();
    let wanted: Vec<usize> = (0..signature.outputs.len()).collect();
    let Some(one) = recent.first().cloned().or_else(|| made_up(signature)) else { return };
    let began = Instant::now();
    // Each as it came: other shapes may be other work.
    for inputs in recent.iter().skip(1).take_while(|_| began.elapsed() < WARM_TIME_MAX) {
        let job = TensorJob { inputs: inputs.clone(), wanted: wanted.clone() };
        let rows = if signature.batches { job.rows() } else { 1 };
        if rows <= rows_max && lane.here(&job, rows).is_err() {
            return;
        }
    }
    let mut rows = 1;
    while rows <= rows_max && began.elapsed() < WARM_TIME_MAX {
        let inputs =
            if signature.batches { one.iter().map(|input| repeated(input, rows)).collect() } else { one.clone() };
        let job = TensorJob { inputs, wanted: wanted.clone() };
        for _ in 0..3 {
            if lane.here(&job, rows).is_err() {
                return;
            }
        }
        if !signature.batches {
            return;
        }
        rows *= 2;
    }
}

/// `rows` copies of the first row.
fn repeated(input: &Tensor, rows: usize) -> Tensor {
    let width = input.row_len();
    let mut data = Data::empty(input.datatype());
    if input.data.len() >= width {
        (0..rows).for_each(|_| data.extend(&input.data, 0, width));
    }
    let mut shape = input.shape.clone();
    if let Some(length) = shape.first_mut() {
        *length = rows;
    }
    Tensor { name: input.name.clone(), shape, data }
}

/// Elements of a made-up input at most.
const MADE_UP_ELEMENTS_MAX: usize = 1 << 22;

/// One row of zeros for each input; none where a length is left open beside the rows.
fn made_up(signature: &Signature) -> Option<Vec<Tensor>> {
    let one = |spec: &inference::TensorSpec| {
        let mut shape: Vec<usize> = Vec::with_capacity(spec.shape.len());
        for (place, length) in spec.shape.iter().enumerate() {
            match usize::try_from(*length) {
                Ok(length) => shape.push(length),
                Err(_) if place == 0 && signature.batches => shape.push(1),
                Err(_) => return None,
            }
        }
        let count = crate::wire::json::elements(&shape).filter(|count| *count <= MADE_UP_ELEMENTS_MAX)?;
        let data = match spec.datatype {
            Datatype::Bytes => Data::Bytes(vec![Vec::new(); count]),
            datatype => {
                let zeros = vec![0; count * datatype.size().unwrap_or(1)];
                crate::wire::binary::read(&spec.name, datatype, count, &zeros).ok()?
            }
        };
        Some(Tensor::new(spec.name.as_str(), shape, data))
    };
    signature.inputs.iter().map(one).collect()
}
