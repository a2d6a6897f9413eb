//! What happened during a run, and the figures made of it. Latencies are kept as they are: percentiles are exact.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::connection::Answer;

pub struct Record {
    until: Instant,
    in_time: u64,
    answered_ns: Vec<u64>,
    refused_ns: Vec<u64>,
    refused: BTreeMap<u16, u64>,
    errors: BTreeMap<String, u64>,
    response_bytes: u64,
    cpu_from: Duration,
}

/// Counts are of the measured seconds, in the open loop of all requests that fell due in them.
#[derive(Clone, Serialize)]
pub struct Report {
    pub connections: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    pub seconds: f64,
    pub requests: u64,
    /// Answers with a status of 2xx a second, of those that came within the measured seconds.
    pub throughput: f64,
    pub answered: u64,
    /// Other answers by status.
    pub refused: BTreeMap<u16, u64>,
    /// Requests without an answer, by reason.
    pub errors: BTreeMap<String, u64>,
    /// Open loop: due, but neither answered nor failed when the wait was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unanswered: Option<u64>,
    pub latency_ms: Latency,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refusal_ms: Option<Latency>,
    pub response_bytes_mean: f64,
    /// Of this process, warm-up included.
    pub client_cpu_seconds: f64,
}

#[derive(Clone, Serialize)]
pub struct Latency {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    #[serde(rename = "p99.9")]
    pub p999: f64,
    pub max: f64,
}

impl Record {
    /// Answers after `until` count in everything but the throughput.
    pub fn new(until: Instant) -> Self {
        Self {
            until,
            in_time: 0,
            answered_ns: Vec::new(),
            refused_ns: Vec::new(),
            refused: BTreeMap::new(),
            errors: BTreeMap::new(),
            response_bytes: 0,
            cpu_from: cpu_time(),
        }
    }

    /// A request that was to be sent at `due`, and how it ended `now`.
    pub fn add(&mut self, asked: io::Result<Answer>, due: Instant, now: Instant) {
        let ns = u64::try_from((now - due).as_nanos()).unwrap_or(u64::MAX);
        match asked {
            Ok(Answer { status: 200..=299, body_bytes }) => {
                self.in_time += u64::from(now <= self.until);
                self.answered_ns.push(ns);
                self.response_bytes += body_bytes as u64;
            }
            Ok(answer) => {
                self.refused_ns.push(ns);
                *self.refused.entry(answer.status).or_default() += 1;
            }
            Err(error) => *self.errors.entry(error.kind().to_string()).or_default() += 1,
        }
    }

    pub fn report(&self, span: Duration) -> Report {
        let answered = self.answered_ns.len() as u64;
        let seconds = span.as_secs_f64();
        Report {
            connections: 0,
            rate: None,
            seconds,
            requests: answered + self.refused_ns.len() as u64 + self.errors.values().sum::<u64>(),
            throughput: if seconds > 0.0 { self.in_time as f64 / seconds } else { 0.0 },
            answered,
            refused: self.refused.clone(),
            errors: self.errors.clone(),
            unanswered: None,
            latency_ms: Latency::of(&self.answered_ns).unwrap_or(Latency::UNKNOWN),
            refusal_ms: Latency::of(&self.refused_ns),
            response_bytes_mean: self.response_bytes as f64 / answered.max(1) as f64,
            client_cpu_seconds: cpu_time().saturating_sub(self.cpu_from).as_secs_f64(),
        }
    }
}

impl Report {
    /// Everything was answered, and with 2xx.
    pub fn is_clean(&self) -> bool {
        self.answered > 0 && self.refused.is_empty() && self.errors.is_empty()
    }
}

impl Latency {
    /// Nothing was answered; JSON shows it as null.
    const UNKNOWN: Self = Self { p50: f64::NAN, p90: f64::NAN, p99: f64::NAN, p999: f64::NAN, max: f64::NAN };

    /// Nearest rank: the smallest latency that at least this share of the answers kept.
    fn of(ns: &[u64]) -> Option<Self> {
        let mut sorted = ns.to_vec();
        sorted.sort_unstable();
        let last = sorted.len().checked_sub(1)?;
        let at = |share: f64| {
            let rank = (share * sorted.len() as f64).ceil() as usize;
            sorted[rank.saturating_sub(1).min(last)] as f64 / 1e6
        };
        Some(Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: at(1.0) })
    }
}

fn cpu_time() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(spent).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let ns: Vec<u64> = (1..=1000).rev().map(|ms| ms * 1_000_000).collect();
        let latency = Latency::of(&ns).unwrap();
        let figures = [latency.p50, latency.p90, latency.p99, latency.p999, latency.max];
        assert_eq!(figures, [500.0, 900.0, 990.0, 999.0, 1000.0]);
        assert!(Latency::of(&[]).is_none());
    }
}
