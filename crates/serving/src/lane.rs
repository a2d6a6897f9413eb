//! A loaded model's lane through the scheduler: typed requests go in, answers come back with what they cost. A request
//! that is cheap and alone runs where it arrives; everything else waits for an inference thread.

use crate::cost::CostTable;
use crate::meter::thread_cpu;
use crate::refusal::Refusal;
use crate::schedule::{BatchLimits, Entry, Runs, Scheduler, Waiter};
use crate::tenant::Tenant;
use inference::RunError;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// What computes: several requests as one batch.
pub trait Execute: Send + Sync + 'static {
    type Input: Send + 'static;
    type Output: Send + 'static;

    /// One result a part, in their order. What is wrong with one part must not touch the others, and nothing may panic.
    fn execute(&self, parts: &[&Self::Input]) -> Vec<Result<Self::Output, RunError>>;
}

/// An answer and what it took.
pub struct Done<T> {
    pub output: T,
    pub queue: Duration,
    /// Of the whole batch.
    pub compute: Duration,
    /// This request's part of the CPU time.
    pub cpu: Duration,
    pub batch_rows: usize,
    /// It was computed by the caller's own thread.
    pub inline: bool,
}

/// What a request brings beside its input.
pub struct Order<'a> {
    pub tenant: &'a Arc<Tenant>,
    pub rows: usize,
    /// Only requests of one shape share a batch.
    pub shape: u64,
    pub deadline: Option<Instant>,
    pub priority: u8,
}

/// How many batches of a size there were, and their time.
#[derive(Clone, Copy, Debug, Default)]
pub struct BatchCount {
    pub count: u64,
    pub compute: Duration,
}

pub struct Lane<E: Execute> {
    id: u64,
    pub executor: E,
    pub cost: CostTable,
    limits: BatchLimits,
    /// Whether requests may share a batch at all.
    joins: bool,
    waiting: AtomicUsize,
    batches: Mutex<BTreeMap<usize, BatchCount>>,
}

struct Ticket<E: Execute> {
    input: E::Input,
    reply: oneshot::Sender<Result<Done<E::Output>, RunError>>,
}

static LANES: AtomicU64 = AtomicU64::new(1);
/// Shapes of requests that share a batch with nobody.
static LONERS: AtomicU64 = AtomicU64::new(1);

impl<E: Execute> Lane<E> {
    /// `joins`: whether requests may share a batch. A batch has at most `rows_max` rows and is predicted to take at most
    /// `time_max`, unless a single request alone exceeds that.
    pub fn new(executor: E, joins: bool, rows_max: usize, time_max: Duration) -> Arc<Lane<E>> {
        Arc::new(Lane {
            id: LANES.fetch_add(1, Relaxed),
            executor,
            cost: CostTable::default(),
            limits: BatchLimits { rows_max, us_max: time_max.as_secs_f64() * 1e6 },
            joins,
            waiting: AtomicUsize::new(0),
            batches: Mutex::default(),
        })
    }

    pub fn rows_max(&self) -> usize {
        self.limits.rows_max
    }

    /// Requests that wait for it or are being computed.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// Batches by their rows; sizes above 64 are counted under the next power of two.
    pub fn batches(&self) -> BTreeMap<usize, BatchCount> {
        self.batches.lock().clone()
    }

    /// Computes one request; waits where it must.
    pub async fn ask(
        self: &Arc<Self>,
        scheduler: &Scheduler,
        input: E::Input,
        order: Order<'_>,
    ) -> Result<Done<E::Output>, AskError> {
        if order.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(AskError::Refused(Refusal::too_late()));
        }
        let inline = scheduler.options().inline.as_secs_f64() * 1e6;
        if self.waiting() == 0 && self.cost.predict_us(order.rows).is_some_and(|us| us <= inline) {
            let done = self.here(&input, order.rows)?;
            scheduler.charge(order.tenant, done.cpu.as_secs_f64() * 1e6);
            return Ok(done);
        }
        self.queued(scheduler, input, order).await
    }

    /// Computes on the calling thread.
    pub fn here(&self, input: &E::Input, rows: usize) -> Result<Done<E::Output>, RunError> {
        let (mut results, compute) = self.timed(&[input], rows);
        let output = results.pop().unwrap_or_else(|| Err(RunError::Model("no answer".into())))?;
        // So short that another look at the thread's clock would distort it.
        Ok(Done { output, queue: Duration::ZERO, compute, cpu: compute, batch_rows: rows, inline: true })
    }

    async fn queued(
        self: &Arc<Self>,
        scheduler: &Scheduler,
        input: E::Input,
        order: Order<'_>,
    ) -> Result<Done<E::Output>, AskError> {
        let (reply, answer) = oneshot::channel();
        let shape = if self.joins { order.shape } else { LONERS.fetch_add(1, Relaxed) };
        let entry = Entry {
            tenant: Arc::clone(order.tenant),
            // What has no rows takes its turn all the same.
            rows: order.rows.max(1),
            key: (self.id, shape),
            lane: Arc::clone(self) as Arc<dyn Runs>,
            deadline: order.deadline,
            priority: order.priority,
            ticket: Box::new(Ticket::<E> { input, reply }),
        };
        let _waiting = Counted::new(&self.waiting);
        // Dropped with this future: a caller that goes away takes its request out of the queue.
        let _place = scheduler.submit(entry)?;
        let answer = match order.deadline {
            None => answer.await,
            Some(deadline) => match tokio::time::timeout_at(deadline.into(), answer).await {
                Ok(answer) => answer,
                Err(_) => return Err(AskError::Refused(Refusal::too_late())),
            },
        };
        match answer {
            Ok(result) => Ok(result?),
            Err(_) if order.deadline.is_some_and(|deadline| deadline <= Instant::now()) => {
                Err(AskError::Refused(Refusal::too_late()))
            }
            Err(_) => Err(AskError::Refused(Refusal::unavailable("stopping", "the server is stopping"))),
        }
    }

    /// Runs the parts as one batch, and measures it.
    fn timed(&self, parts: &[&E::Input], rows: usize) -> (Vec<Result<E::Output, RunError>>, Duration) {
        let started = Instant::now();
        let results = self.executor.execute(parts);
        let took = started.elapsed();
        self.cost.observe(rows, took);
        let size = if rows > 64 { rows.next_power_of_two() } else { rows };
        let mut batches = self.batches.lock();
        let counted = batches.entry(size).or_default();
        counted.count += 1;
        counted.compute += took;
        (results, took)
    }
}

struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Relaxed);
        Counted(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub enum AskError {
    Refused(Refusal),
    Run(RunError),
}

impl From<Refusal> for AskError {
    fn from(refusal: Refusal) -> Self {
        AskError::Refused(refusal)
    }
}

impl From<RunError> for AskError {
    fn from(error: RunError) -> Self {
        AskError::Run(error)
    }
}

impl AskError {
    pub fn told(self, model: &str) -> Refusal {
        match self {
            AskError::Refused(refusal) => refusal,
            AskError::Run(error) => Refusal::of_run(model, error),
        }
    }
}

impl<E: Execute> Runs for Lane<E> {
    fn limits(&self) -> BatchLimits {
        self.limits
    }

    fn predict_us(&self, rows: usize) -> f64 {
        self.cost.predict_us(rows).unwrap_or(0.0)
    }

    fn run(&self, batch: Vec<Waiter>) -> f64 {
        let begun = Instant::now();
        let mut tickets = Vec::with_capacity(batch.len());
        for waiter in batch {
            let (since, rows) = (waiter.since, waiter.rows);
            if let Ok(ticket) = waiter.ticket.downcast::<Ticket<E>>() {
                tickets.push((since, rows, *ticket));
            }
        }
        let rows: usize = tickets.iter().map(|(_, rows, _)| rows).sum();
        let parts: Vec<&E::Input> = tickets.iter().map(|(_, _, ticket)| &ticket.input).collect();
        let before = thread_cpu();
        let (results, compute) = self.timed(&parts, rows);
        let cpu = thread_cpu().saturating_sub(before);
        let mut results = results.into_iter();
        for (since, part, ticket) in tickets {
            let result = results.next().unwrap_or_else(|| Err(RunError::Model("no answer".into())));
            let share = cpu.mul_f64(part as f64 / rows.max(1) as f64);
            let queue = begun.saturating_duration_since(since);
            let done =
                result.map(|output| Done { output, queue, compute, cpu: share, batch_rows: rows, inline: false });
            // Nobody there any more is no failure.
            let _ = ticket.reply.send(done);
        }
        cpu.as_secs_f64() * 1e6
    }
}
