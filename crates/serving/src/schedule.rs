//! Who computes next: batches form from what waits while every inference thread is busy, and never otherwise.
//!
//! Among tenants the one that has used the least compute time for its weight is next (start-time fair queueing, Goyal,
//! Vin and Cheng 1996: what deficit round-robin does with a quantum of one batch); within a tenant the earliest
//! deadline. Its batch is filled up with requests that fit, its own first. Everything here is plain data under one lock;
//! [`lane`](crate::lane) brings typed requests in and runs the batches.

use crate::refusal::{Answer, Refusal};
use crate::tenant::Tenant;
use parking_lot::{Condvar, Mutex};
use std::any::Any;
use std::cmp::Ordering as Order;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Slack of a request without a deadline, when it is ordered beside others that have one.
const SLACK_DEFAULT: Duration = Duration::from_secs(1);

/// Cancelled requests are swept out of the queues when there are more than this and more than half are.
const CANCELLED_MAX: usize = 64;

#[derive(Clone, Debug)]
pub struct ScheduleOptions {
    /// Inference threads.
    pub threads: usize,
    /// CPUs that they are pinned to, one after the other; none where it is left to the system.
    pub cpus: Vec<usize>,
    /// A request whose predicted time is at most this runs where it arrives, if nothing waits for its model: handing it
    /// over to another thread would cost as much.
    pub inline: Duration,
    /// Rows that wait, of all tenants together.
    pub queue_rows_max: usize,
    /// Predicted wait beyond which a request without a deadline is refused.
    pub wait_max: Duration,
}

impl Default for ScheduleOptions {
    fn default() -> Self {
        ScheduleOptions {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            cpus: Vec::new(),
            inline: Duration::from_micros(50),
            queue_rows_max: 65_536,
            wait_max: Duration::from_secs(1),
        }
    }
}

/// What may share a batch: the model as loaded, and the shape of its rows.
pub(crate) type BatchKey = (u64, u64);

/// How far batches of one model may grow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct BatchLimits {
    pub rows_max: usize,
    /// Predicted time of a batch: what another tenant may have to wait.
    pub us_max: f64,
}

/// The side of a model that the scheduler sees.
pub(crate) trait Runs: Send + Sync {
    fn limits(&self) -> BatchLimits;
    fn predict_us(&self, rows: usize) -> f64;
    /// Answers all of them; returns the CPU time that it took, in microseconds.
    fn run(&self, batch: Vec<Waiter>) -> f64;
}

const WAITING: u8 = 0;
const TAKEN: u8 = 1;
const CANCELLED: u8 = 2;

/// A request that waits.
pub(crate) struct Waiter {
    pub tenant: Arc<Tenant>,
    pub rows: usize,
    pub lane: Arc<dyn Runs>,
    pub since: Instant,
    pub expires: Option<Instant>,
    /// What the lane gets back: the typed request with its way home.
    pub ticket: Box<dyn Any + Send>,
    /// Order within the tenant, in microseconds since the start: the deadline, moved by priority.
    due_us: u64,
    sequence: u64,
    /// Its part of the backlog, in microseconds.
    us: f64,
    state: Arc<AtomicU8>,
}

impl PartialEq for Waiter {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Order::Equal
    }
}
impl Eq for Waiter {}
impl PartialOrd for Waiter {
    fn partial_cmp(&self, other: &Self) -> Option<Order> {
        Some(self.cmp(other))
    }
}
impl Ord for Waiter {
    /// The largest is the first to go.
    fn cmp(&self, other: &Self) -> Order {
        (other.due_us, other.sequence).cmp(&(self.due_us, self.sequence))
    }
}

/// What a request brings to the queue.
pub(crate) struct Entry {
    pub tenant: Arc<Tenant>,
    pub rows: usize,
    pub key: BatchKey,
    pub lane: Arc<dyn Runs>,
    pub deadline: Option<Instant>,
    /// 0 is the default, 1 the most urgent, larger ones less.
    pub priority: u8,
    pub ticket: Box<dyn Any + Send>,
}

#[derive(Default)]
struct Line {
    tenant: Option<Arc<Tenant>>,
    /// Compute time used, divided by the weight.
    virtual_us: f64,
    rows: usize,
    us: f64,
    cancelled: usize,
    queues: HashMap<BatchKey, BinaryHeap<Waiter>>,
}

impl Line {
    fn weight(&self) -> f64 {
        self.tenant.as_ref().map_or(1.0, |tenant| tenant.spec().weight)
    }

    /// The queue whose first request is due first.
    fn first(&mut self) -> Option<BatchKey> {
        self.queues.retain(|_, queue| {
            while queue.peek().is_some_and(|waiter| waiter.state.load(Ordering::Acquire) == CANCELLED) {
                queue.pop();
                self.cancelled = self.cancelled.saturating_sub(1);
            }
            !queue.is_empty()
        });
        let head = |queue: &BinaryHeap<Waiter>| queue.peek().map(|waiter| (waiter.due_us, waiter.sequence));
        self.queues.iter().min_by_key(|(_, queue)| head(queue)).map(|(key, _)| *key)
    }
}

#[derive(Default)]
struct State {
    lines: HashMap<Arc<str>, Line>,
    /// Virtual time of the tenant that was served last: a tenant that comes back starts from here.
    clock_us: f64,
    rows: usize,
    us: f64,
    /// When each thread's batch is expected to end.
    busy_until: Vec<Option<Instant>>,
    idle: usize,
    sequence: u64,
    stopping: bool,
}

struct Shared {
    options: ScheduleOptions,
    begun: Instant,
    state: Mutex<State>,
    wake: Condvar,
    /// Rows that wait, to be read without the lock.
    rows: AtomicUsize,
}

/// The queue and its threads. Dropping it ends the threads once the queue is empty.
pub struct Scheduler {
    shared: Arc<Shared>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Scheduler {
    pub fn start(options: ScheduleOptions) -> std::io::Result<Scheduler> {
        let threads = options.threads.max(1);
        let state = State { busy_until: vec![None; threads], ..State::default() };
        let shared = Arc::new(Shared {
            options,
            begun: Instant::now(),
            state: Mutex::new(state),
            wake: Condvar::new(),
            rows: AtomicUsize::new(0),
        });
        let spawn = |place: usize| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name(format!("inference-{place}")).spawn(move || work(&shared, place))
        };
        let threads = (0..threads).map(spawn).collect::<std::io::Result<_>>()?;
        Ok(Scheduler { shared, threads })
    }

    pub fn options(&self) -> &ScheduleOptions {
        &self.shared.options
    }

    /// Rows that wait.
    pub fn waiting_rows(&self) -> usize {
        self.shared.rows.load(Ordering::Relaxed)
    }

    /// Puts a request into the queue, or refuses it. What is returned takes it out again when dropped.
    pub(crate) fn submit(&self, entry: Entry) -> Answer<Place> {
        let now = Instant::now();
        let state = Arc::new(AtomicU8::new(WAITING));
        let tenant = Arc::clone(&entry.tenant);
        let us = self.shared.enqueue(entry, Arc::clone(&state), now)?;
        let rows = us.1;
        Ok(Place { shared: Arc::clone(&self.shared), tenant, state, rows, us: us.0 })
    }

    /// Counts compute time that a tenant used beside the queue.
    pub(crate) fn charge(&self, tenant: &Arc<Tenant>, us: f64) {
        // Where nothing waits, nobody's turn depends on it.
        if self.waiting_rows() > 0 {
            self.shared.state.lock().charge(tenant, us);
        }
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.shared.state.lock().stopping = true;
        self.shared.wake.notify_all();
        let me = std::thread::current().id();
        for thread in self.threads.drain(..).filter(|thread| thread.thread().id() != me) {
            let _ = thread.join();
        }
    }
}

/// A place in the queue.
pub(crate) struct Place {
    shared: Arc<Shared>,
    tenant: Arc<Tenant>,
    state: Arc<AtomicU8>,
    rows: usize,
    us: f64,
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.state.load(Ordering::Acquire) != WAITING {
            return;
        }
        let mut state = self.shared.state.lock();
        if self.state.compare_exchange(WAITING, CANCELLED, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            state.leave(&self.tenant.name, self.rows, self.us);
            state.sweep(&self.tenant.name);
            self.shared.rows.store(state.rows, Ordering::Relaxed);
        }
    }
}

impl Shared {
    /// Returns its part of the backlog and its rows.
    fn enqueue(&self, entry: Entry, waiting: Arc<AtomicU8>, now: Instant) -> Answer<(f64, usize)> {
        let Entry { tenant, rows, key, lane, deadline, priority, ticket } = entry;
        let limits = lane.limits();
        let alone_us = lane.predict_us(rows);
        // In the queue it will share a batch, where a row costs less.
        let full = limits.rows_max.min(256).max(rows);
        let us = lane.predict_us(full) * rows as f64 / full as f64;
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let spec = tenant.spec();
        state.admit(&self.options, &tenant.name, &spec, Wish { rows, alone_us, deadline, now })?;
        state.sequence += 1;
        let sequence = state.sequence;
        let clock = state.clock_us;
        let line = state.lines.entry(Arc::clone(&tenant.name)).or_default();
        if line.rows == 0 {
            line.virtual_us = line.virtual_us.max(clock);
        }
        line.tenant = Some(Arc::clone(&tenant));
        line.rows += rows;
        line.us += us;
        let due_us = due_us(self.begun, now, deadline, priority);
        let waiter =
            Waiter { tenant, rows, lane, since: now, expires: deadline, ticket, due_us, sequence, us, state: waiting };
        line.queues.entry(key).or_default().push(waiter);
        state.rows += rows;
        state.us += us;
        self.rows.store(state.rows, Ordering::Relaxed);
        let wake = state.idle > 0;
        drop(guard);
        if wake {
            self.wake.notify_one();
        }
        Ok((us, rows))
    }
}

/// When a request should be answered, moved by its priority: each step doubles or halves its slack, so that nothing
/// starves.
fn due_us(begun: Instant, now: Instant, deadline: Option<Instant>, priority: u8) -> u64 {
    let slack = deadline.map_or(SLACK_DEFAULT, |deadline| deadline.saturating_duration_since(now));
    let steps = if priority == 0 { 0 } else { i32::from(priority.min(8)) - 4 };
    let slack = slack.as_secs_f64() * f64::from(steps).exp2();
    ((now - begun).as_secs_f64() * 1e6 + slack * 1e6) as u64
}

/// What a request asks of the queue.
struct Wish {
    rows: usize,
    alone_us: f64,
    deadline: Option<Instant>,
    now: Instant,
}

impl State {
    /// Refuses what would wait too long, and says when to come again.
    fn admit(
        &self,
        options: &ScheduleOptions,
        name: &Arc<str>,
        spec: &crate::tenant::TenantSpec,
        wish: Wish,
    ) -> Answer<()> {
        let mine = self.lines.get(name);
        let wait_us = self.wait_us(options.threads, mine, spec.weight, wish.now);
        let after = |us: f64| Duration::from_secs_f64(us.max(1.0) / 1e6);
        let queued = mine.map_or(0, |line| line.rows);
        if queued > 0 && queued + wish.rows > spec.queue_rows_max {
            let most = spec.queue_rows_max;
            let what = format!("{queued} rows of tenant \"{name}\" wait already, {most} may (queue_rows_max)");
            return Err(Refusal::contended("tenant_queue_full", what, after(wait_us)));
        }
        if self.rows > 0 && self.rows + wish.rows > options.queue_rows_max {
            let (waiting, most) = (self.rows, options.queue_rows_max);
            let what = format!("{waiting} rows wait already, {most} may ([server] queue_rows_max)");
            return Err(Refusal::contended("queue_full", what, after(wait_us)));
        }
        match wish.deadline {
            Some(deadline) if deadline <= wish.now => return Err(Refusal::too_late()),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(wish.now).as_secs_f64() * 1e6;
                let late = wait_us + wish.alone_us - left;
                if late > 0.0 {
                    let what = format!(
                        "the answer would come {:.1} ms after its deadline: {:.1} ms of other work is before it",
                        late / 1e3,
                        wait_us / 1e3
                    );
                    return Err(Refusal::contended("late", what, after(late)));
                }
            }
            None if wait_us > options.wait_max.as_secs_f64() * 1e6 => {
                let what = format!("{:.0} ms of work waits already; ask again later", wait_us / 1e3);
                return Err(Refusal::contended("queue_full", what, after(wait_us / 2.0)));
            }
            None => {}
        }
        Ok(())
    }

    /// Predicted wait of a new request: its tenant's backlog at its tenant's share of the threads, or everybody's backlog
    /// at all of them, whichever is less; and until a thread is free.
    fn wait_us(&self, threads: usize, mine: Option<&Line>, weight: f64, now: Instant) -> f64 {
        let threads = threads.max(1) as f64;
        let free_in = |until: &Option<Instant>| {
            until.map_or(0.0, |until| until.saturating_duration_since(now).as_secs_f64() * 1e6)
        };
        let residual = self.busy_until.iter().map(free_in).fold(f64::INFINITY, f64::min);
        let residual = if residual.is_finite() { residual } else { 0.0 };
        let others: f64 = self.lines.values().filter(|line| line.rows > 0).map(Line::weight).sum();
        let mine_us = mine.map_or(0.0, |line| line.us);
        let others = others + if mine.is_some_and(|line| line.rows > 0) { 0.0 } else { weight };
        residual + (self.us / threads).min(mine_us * others / weight / threads)
    }

    fn leave(&mut self, name: &Arc<str>, rows: usize, us: f64) {
        self.rows = self.rows.saturating_sub(rows);
        self.us = if self.rows == 0 { 0.0 } else { (self.us - us).max(0.0) };
        if let Some(line) = self.lines.get_mut(name) {
            line.rows = line.rows.saturating_sub(rows);
            line.us = if line.rows == 0 { 0.0 } else { (line.us - us).max(0.0) };
        }
    }

    /// Removes cancelled requests where they have become many.
    fn sweep(&mut self, name: &Arc<str>) {
        let Some(line) = self.lines.get_mut(name) else { return };
        line.cancelled += 1;
        let waiting: usize = line.queues.values().map(BinaryHeap::len).sum();
        if line.cancelled > CANCELLED_MAX && line.cancelled * 2 > waiting {
            for queue in line.queues.values_mut() {
                queue.retain(|waiter| waiter.state.load(Ordering::Acquire) != CANCELLED);
            }
            line.queues.retain(|_, queue| !queue.is_empty());
            line.cancelled = 0;
        }
    }

    fn charge(&mut self, tenant: &Arc<Tenant>, us: f64) {
        let clock = self.clock_us;
        let line = self.lines.entry(Arc::clone(&tenant.name)).or_default();
        if line.rows == 0 {
            line.virtual_us = line.virtual_us.max(clock);
        }
        line.tenant.get_or_insert_with(|| Arc::clone(tenant));
        line.virtual_us += us / line.weight();
    }

    /// The next batch; empty when nothing waits. Expired requests are dropped on the way.
    fn pick(&mut self, now: Instant) -> Vec<Waiter> {
        loop {
            let next = self
                .lines
                .iter()
                .filter(|(_, line)| line.rows > 0)
                .min_by(|a, b| a.1.virtual_us.total_cmp(&b.1.virtual_us))
                .map(|(name, _)| Arc::clone(name));
            let Some(name) = next else { return Vec::new() };
            let Some(line) = self.lines.get_mut(&name) else { return Vec::new() };
            let Some(key) = line.first() else {
                line.rows = 0;
                continue;
            };
            self.clock_us = line.virtual_us;
            let mut batch = Vec::new();
            let mut rows = 0;
            self.take(&name, key, now, &mut rows, &mut batch);
            if batch.is_empty() {
                continue;
            }
            let mut others: Vec<(f64, Arc<str>)> = self
                .lines
                .iter()
                .filter(|(other, line)| **other != name && line.queues.contains_key(&key))
                .map(|(other, line)| (line.virtual_us, Arc::clone(other)))
                .collect();
            others.sort_by(|a, b| a.0.total_cmp(&b.0));
            for (_, other) in others {
                self.take(&other, key, now, &mut rows, &mut batch);
            }
            self.charge_batch(&batch, batch[0].lane.predict_us(rows), rows);
            return batch;
        }
    }

    /// Moves what fits from one tenant's queue into the batch.
    fn take(&mut self, name: &Arc<str>, key: BatchKey, now: Instant, rows: &mut usize, batch: &mut Vec<Waiter>) {
        loop {
            let Some(queue) = self.lines.get_mut(name).and_then(|line| line.queues.get_mut(&key)) else { return };
            let Some(head) = queue.peek() else { return };
            let limits = head.lane.limits();
            let more = *rows + head.rows;
            if !batch.is_empty() && (more > limits.rows_max || head.lane.predict_us(more) > limits.us_max) {
                return;
            }
            let Some(waiter) = queue.pop() else { return };
            if waiter.state.compare_exchange(WAITING, TAKEN, Ordering::AcqRel, Ordering::Acquire).is_err() {
                continue;
            }
            self.leave(name, waiter.rows, waiter.us);
            // Too late: its caller has been told so by its own timer.
            if waiter.expires.is_some_and(|expires| expires <= now) {
                continue;
            }
            *rows = more;
            batch.push(waiter);
        }
    }

    /// Each tenant pays for its rows.
    fn charge_batch(&mut self, batch: &[Waiter], us: f64, rows: usize) {
        for waiter in batch {
            let share = us * waiter.rows as f64 / rows.max(1) as f64;
            if let Some(line) = self.lines.get_mut(&waiter.tenant.name) {
                line.virtual_us += share / line.weight();
            }
        }
    }
}

fn work(shared: &Arc<Shared>, place: usize) {
    if let Some(cpu) = shared.options.cpus.get(place % shared.options.cpus.len().max(1)) {
        pin(*cpu);
    }
    let mut guard = shared.state.lock();
    loop {
        let batch = guard.pick(Instant::now());
        shared.rows.store(guard.rows, Ordering::Relaxed);
        if batch.is_empty() {
            if guard.stopping {
                return;
            }
            guard.idle += 1;
            shared.wake.wait(&mut guard);
            guard.idle -= 1;
            continue;
        }
        let rows: usize = batch.iter().map(|waiter| waiter.rows).sum();
        let lane = Arc::clone(&batch[0].lane);
        let predicted = lane.predict_us(rows);
        guard.busy_until[place] = Some(Instant::now() + Duration::from_secs_f64(predicted.max(0.0) / 1e6));
        let payers: Vec<(Arc<Tenant>, f64)> =
            batch.iter().map(|waiter| (Arc::clone(&waiter.tenant), waiter.rows as f64 / rows.max(1) as f64)).collect();
        drop(guard);
        let took = lane.run(batch);
        guard = shared.state.lock();
        guard.busy_until[place] = None;
        for (tenant, share) in payers {
            guard.charge(&tenant, (took - predicted) * share);
        }
    }
}

fn pin(cpu: usize) {
    let mut set = rustix::thread::CpuSet::new();
    set.set(cpu);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::warn!("an inference thread can't be pinned to CPU {cpu}: {error}");
    }
}
