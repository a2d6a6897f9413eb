//! Open loop: requests fall due at a rate of their own, and latency counts from then. A server that stalls delays the
//! requests behind the stall, and the figures show it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec};
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::connection::Connection;
use crate::report::{Record, Report};
use crate::requests::Requests;

pub struct Plan {
    pub rate: f64,
    pub seconds: Duration,
    pub arrivals: Arrivals,
    pub connections: usize,
    pub drain: Duration,
    pub seed: u64,
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub enum Arrivals {
    Poisson,
    Fixed,
}

/// Requests that are due and not yet sent.
#[derive(Default)]
struct Due {
    instants: RefCell<VecDeque<Instant>>,
    some: Notify,
    closed: Cell<bool>,
}

pub async fn run(address: SocketAddr, requests: Rc<Requests>, plan: Plan) -> Result<Report> {
    ensure!((1..=4096).contains(&plan.connections), "--connections {}: give 1 to 4096", plan.connections);
    let mut connections = Vec::with_capacity(plan.connections);
    for _ in 0..plan.connections {
        let mut connection = Connection::new(address);
        // Not a part of any request's latency; where it fails, the first request says so.
        let _ = connection.open().await;
        connections.push(connection);
    }
    let start = Instant::now();
    let (due, turn) = (Rc::new(Due::default()), Rc::new(Cell::new(0)));
    let record = Rc::new(RefCell::new(Record::new(start + plan.seconds)));
    let mut senders = JoinSet::new();
    for mut connection in connections {
        let (due, record, requests, turn) = (due.clone(), record.clone(), requests.clone(), turn.clone());
        senders.spawn_local(async move {
            let mut request = Vec::new();
            while let Some(instant) = due.next().await {
                let number = turn.replace(turn.get() + 1);
                requests.turn(number, &mut request);
                let asked = connection.ask(&request).await;
                record.borrow_mut().add(asked, instant, Instant::now());
            }
        });
    }
    let scheduled = schedule(&plan, start, &due).await?;
    due.close();
    let ends = tokio::time::Instant::now() + plan.drain;
    while let Ok(Some(_)) = tokio::time::timeout_at(ends, senders.join_next()).await {}
    let record = record.borrow();
    let report = record.report(plan.seconds);
    let unanswered = scheduled.saturating_sub(report.requests);
    Ok(Report { connections: plan.connections, rate: Some(plan.rate), unanswered: Some(unanswered), ..report })
}

/// Makes requests due until the time is over; returns how many.
async fn schedule(plan: &Plan, start: Instant, due: &Due) -> Result<u64> {
    let timer = Timer::new()?;
    let mut random = Random(plan.seed);
    let (mut at, mut scheduled) = (0.0, 0);
    loop {
        at += match plan.arrivals {
            Arrivals::Fixed => 1.0 / plan.rate,
            Arrivals::Poisson => -random.unit().ln() / plan.rate,
        };
        if at >= plan.seconds.as_secs_f64() {
            return Ok(scheduled);
        }
        let instant = start + Duration::from_secs_f64(at);
        if let Some(left) = instant.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            timer.sleep(left).await?;
        }
        scheduled += 1;
        due.push(instant);
        // At rates beyond what the timer can part, answers must still be read.
        if scheduled % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
}

impl Due {
    fn push(&self, instant: Instant) {
        self.instants.borrow_mut().push_back(instant);
        self.some.notify_one();
    }

    fn close(&self) {
        self.closed.set(true);
        self.some.notify_waiters();
    }

    async fn next(&self) -> Option<Instant> {
        loop {
            let notified = self.some.notified();
            if let Some(instant) = self.instants.borrow_mut().pop_front() {
                return Some(instant);
            }
            if self.closed.get() {
                return None;
            }
            notified.await;
        }
    }
}

/// The runtime's own timers tick in milliseconds, which is more than a small model takes.
struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    #[expect(
        deprecated,
        reason = "its successor is unsafe; what is handed over here owns its descriptor, which is all it asks"
    )]
    fn new() -> Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self(AsyncFd::new(rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?)?))
    }

    async fn sleep(&self, left: Duration) -> Result<()> {
        let once = Itimerspec { it_interval: Timespec::default(), it_value: Timespec::try_from(left)? };
        rustix::time::timerfd_settime(self.0.get_ref(), TimerfdTimerFlags::empty(), &once)?;
        loop {
            let mut ready = self.0.readable().await?;
            let rung = ready.try_io(|timer| Ok(rustix::io::read(timer.get_ref(), &mut [0; 8])?));
            if let Ok(rung) = rung {
                rung?;
                return Ok(());
            }
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014): arrivals are the same in each run with a seed.
struct Random(u64);

impl Random {
    /// In (0, 1].
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11).wrapping_add(1) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poisson_gaps_have_the_mean_and_the_spread_that_they_should() {
        let mut random = Random(7);
        let gaps: Vec<f64> = (0..100_000).map(|_| -random.unit().ln()).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // Six standard errors either way.
        assert!((mean - 1.0).abs() < 0.02, "mean {mean}");
        assert!((variance - 1.0).abs() < 0.06, "variance {variance}");
    }
}
