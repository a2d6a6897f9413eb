//! CPU time of a request's handler, over all its polls: two looks at the thread's clock for a request that is answered in
//! one go, instead of two for each of its stages.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// CPU time of the calling thread.
pub fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.max(0) as u64, time.tv_nsec.clamp(0, 999_999_999) as u32)
}

thread_local! {
    /// The thread's CPU time when the handler that runs on it was polled.
    static BEGAN: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// What a handler has spent in polls that are over, in nanoseconds.
#[derive(Clone, Default)]
pub struct Meter(Arc<AtomicU64>);

impl Meter {
    /// CPU time so far. Only meaningful inside the future that [`metered`] drives.
    pub fn spent(&self) -> Duration {
        Duration::from_nanos(self.0.load(Relaxed)) + thread_cpu().saturating_sub(BEGAN.get())
    }
}

/// Drives `work`, so that `meter` knows what it spends.
pub async fn metered<T>(meter: Meter, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    poll_fn(|context| {
        let began = thread_cpu();
        BEGAN.set(began);
        let polled = work.as_mut().poll(context);
        if polled.is_pending() {
            meter.0.fetch_add(thread_cpu().saturating_sub(began).as_nanos() as u64, Relaxed);
        }
        polled
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn spin(time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            std::hint::spin_loop();
        }
    }

    #[tokio::test]
    async fn work_counts_in_every_poll_and_waiting_does_not() {
        let meter = Meter::default();
        let spent = metered(meter.clone(), async {
            spin(Duration::from_millis(5));
            tokio::time::sleep(Duration::from_millis(50)).await;
            spin(Duration::from_millis(5));
            meter.spent()
        })
        .await;
        assert!(spent > Duration::from_millis(2) && spent < Duration::from_millis(30), "{spent:?}");
    }
}
