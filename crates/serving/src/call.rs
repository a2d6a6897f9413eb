//! A request on its way: who asks, until when, in which trace, and what each stage took.

use crate::lane::Done;
use crate::tenant::Tenant;
use axum::http::HeaderMap;
use std::fmt::Write;
use std::hash::{BuildHasher, Hasher};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

/// The stages of a request, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Decode,
    Authorize,
    Admit,
    Queue,
    Cache,
    Transform,
    Infer,
    Postprocess,
    Encode,
}

impl Stage {
    pub const ALL: [Stage; 9] = [
        Stage::Decode,
        Stage::Authorize,
        Stage::Admit,
        Stage::Queue,
        Stage::Cache,
        Stage::Transform,
        Stage::Infer,
        Stage::Postprocess,
        Stage::Encode,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Stage::Decode => "decode",
            Stage::Authorize => "authorize",
            Stage::Admit => "admit",
            Stage::Queue => "queue",
            Stage::Cache => "cache",
            Stage::Transform => "transform",
            Stage::Infer => "infer",
            Stage::Postprocess => "postprocess",
            Stage::Encode => "encode",
        }
    }
}

/// What became of a look-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheUse {
    /// Not looked up: no cache, or it would cost more than it saves.
    #[default]
    Bypass,
    Hit,
    Miss,
}

impl CacheUse {
    pub fn name(self) -> &'static str {
        match self {
            CacheUse::Bypass => "bypass",
            CacheUse::Hit => "hit",
            CacheUse::Miss => "miss",
        }
    }
}

/// W3C trace context (https://www.w3.org/TR/trace-context/): the trace it belongs to, the caller's span and ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    pub trace: u128,
    pub parent: Option<u64>,
    pub span: u64,
    pub sampled: bool,
}

fn fresh() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let seed = *SEED.get_or_init(|| std::hash::RandomState::new().build_hasher().finish());
    // SplitMix64 (Steele, Lea and Flood 2014) over a counter: distinct in a process, unlike between processes.
    let mut z = seed.wrapping_add(NEXT.fetch_add(1, Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).max(1)
}

impl Trace {
    pub fn new() -> Trace {
        Trace { trace: u128::from(fresh()) << 64 | u128::from(fresh()), parent: None, span: fresh(), sampled: true }
    }

    /// Continues the caller's trace where it sent one.
    pub fn of(traceparent: Option<&str>) -> Trace {
        traceparent.and_then(Trace::parse).unwrap_or_default()
    }

    fn parse(text: &str) -> Option<Trace> {
        let mut parts = text.trim().split('-');
        let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let lower = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        let shaped = version.len() == 2 && trace.len() == 32 && parent.len() == 16 && flags.len() == 2;
        if !shaped || version == "ff" || ![version, trace, parent, flags].into_iter().all(lower) {
            return None;
        }
        let (trace, parent) = (u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(parent, 16).ok()?);
        let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
        (trace != 0 && parent != 0).then(|| Trace { trace, parent: Some(parent), span: fresh(), sampled })
    }

    pub fn of_headers(headers: &HeaderMap) -> Trace {
        Trace::of(headers.get("traceparent").and_then(|value| value.to_str().ok()))
    }

    /// A place below this one in the same trace.
    pub fn child(&self) -> Trace {
        Trace { parent: Some(self.span), span: fresh(), ..*self }
    }

    /// For the response, and for calls that we make.
    pub fn traceparent(&self) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }

    pub fn id(&self) -> String {
        format!("{:032x}", self.trace)
    }
}

impl Default for Trace {
    fn default() -> Self {
        Trace::new()
    }
}

/// A request at work, and what it has cost so far: its receipt.
pub struct Call {
    pub tenant: Arc<Tenant>,
    pub deadline: Option<Instant>,
    /// 0 is the default, 1 the most urgent.
    pub priority: u8,
    pub trace: Trace,
    pub received: Instant,
    pub received_at: SystemTime,
    pub cache: CacheUse,
    /// Rows of the batch that it was computed in.
    pub batch_rows: usize,
    /// CPU time of decoding, its part of computing, and encoding.
    pub cpu: Duration,
    /// A [`Meter`](crate::meter::Meter) measures what this thread spends on it: stages add nothing of their own.
    pub metered: bool,
    stages: [(Duration, Duration); Stage::ALL.len()],
}

impl Call {
    pub fn new(tenant: Arc<Tenant>, trace: Trace, received: Instant) -> Call {
        Call {
            tenant,
            deadline: None,
            priority: 0,
            trace,
            received,
            received_at: SystemTime::now() - received.elapsed(),
            cache: CacheUse::Bypass,
            batch_rows: 0,
            cpu: Duration::ZERO,
            metered: false,
            stages: Default::default(),
        }
    }

    /// A stage that began at `begun` has ended now.
    pub fn ended(&mut self, stage: Stage, begun: Instant) {
        self.took(stage, begun.saturating_duration_since(self.received), begun.elapsed());
    }

    /// A stage took so long; what it took before is added to.
    pub fn took(&mut self, stage: Stage, start: Duration, took: Duration) {
        let slot = &mut self.stages[stage as usize];
        if slot.1.is_zero() {
            slot.0 = start;
        }
        slot.1 += took;
    }

    /// A lane has answered a part of it.
    pub fn computed<T>(&mut self, done: &Done<T>) {
        let start = self.received.elapsed().saturating_sub(done.compute);
        self.took(Stage::Queue, start.saturating_sub(done.queue), done.queue);
        self.took(Stage::Infer, start, done.compute);
        if done.inline {
            self.spent(done.cpu);
        } else {
            self.cpu += done.cpu;
        }
        self.batch_rows = self.batch_rows.max(done.batch_rows);
    }

    /// A stage has used this thread's CPU time; left out where a meter counts it anyway.
    pub fn spent(&mut self, cpu: Duration) {
        if !self.metered {
            self.cpu += cpu;
        }
    }

    pub fn stage(&self, stage: Stage) -> Duration {
        self.stages[stage as usize].1
    }

    /// Stages that took place: start since the request came, and length.
    pub fn stages(&self) -> impl Iterator<Item = (Stage, Duration, Duration)> + '_ {
        let all = Stage::ALL.into_iter().zip(self.stages);
        all.filter(|(_, (_, took))| !took.is_zero()).map(|(stage, (start, took))| (stage, start, took))
    }

    /// The receipt as a `Server-Timing` header: milliseconds by stage, CPU time, cache, batch.
    pub fn server_timing(&self) -> String {
        let mut text = String::with_capacity(160);
        for (stage, _, took) in self.stages() {
            let us = took.as_micros();
            let _ = write!(text, "{};dur={}.{:03}, ", stage.name(), us / 1000, us % 1000);
        }
        let us = self.cpu.as_micros();
        let _ = write!(text, "cpu;dur={}.{:03}, cache;desc={}", us / 1000, us % 1000, self.cache.name());
        if self.batch_rows > 0 {
            let _ = write!(text, ", batch;desc={}", self.batch_rows);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_continued_or_begun() {
        let given = Trace::of(Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        assert_eq!((given.id().as_str(), given.parent), ("4bf92f3577b34da6a3ce929d0e0e4736", Some(0x00f067aa0ba902b7)));
        assert!(given.traceparent().starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && given.sampled);
        assert!(!given.traceparent().contains("00f067aa0ba902b7"));
        for broken in ["", "00-0-0-0", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "zz"] {
            let begun = Trace::of(Some(broken));
            assert!(begun.trace != 0 && begun.parent.is_none());
        }
        assert_ne!(Trace::new().trace, Trace::new().trace);
    }
}
