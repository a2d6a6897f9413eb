//! A small model of serving: a minute's requests meet a queue with one rate of work. Fluid, not by single requests: what
//! matters here are shares of a minute's requests.

use crate::random::Random;

/// What a version is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Version {
    /// Milliseconds of work a request.
    pub service_ms: f64,
    /// Share of requests on which it fails.
    pub failing: f64,
    /// Share of answers that are wrong.
    pub wrong: f64,
}

/// The server: cores, and what it refuses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Server {
    pub cores: f64,
    /// Predicted wait beyond which a request is refused.
    pub wait_ms_max: f64,
    /// Answers later than this are slow.
    pub latency_ms: f64,
    /// Callers give up after this.
    pub deadline_ms: f64,
}

/// What became of a minute's requests.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Minute {
    pub requests: u64,
    pub answered: u64,
    pub slow: u64,
    pub failed: u64,
    pub contended: u64,
    pub late: u64,
    pub wrong: u64,
}

/// Requests that wait.
#[derive(Clone, Copy, Debug, Default)]
pub struct Queue {
    waiting: f64,
}

const MINUTE_MS: f64 = 60_000.0;

impl Queue {
    /// A minute in which `arrivals` requests come. `extra_ms` is what each answer waits for something else.
    pub fn minute(
        &mut self,
        random: &mut Random,
        arrivals: u64,
        version: &Version,
        server: &Server,
        extra_ms: f64,
    ) -> Minute {
        let capacity = server.cores * MINUTE_MS / version.service_ms;
        let room = capacity + server.wait_ms_max / MINUTE_MS * capacity - self.waiting;
        let taken = (arrivals as f64).min(room.max(0.0));
        let contended = arrivals - taken as u64;
        // Half of the minute's backlog is what an average request of it waits for, beside what waited before.
        let backlog = (self.waiting + taken - capacity).max(0.0);
        let wait_ms = (self.waiting + 0.5 * backlog) / capacity * MINUTE_MS;
        self.waiting = backlog;
        let typical = version.service_ms + wait_ms + extra_ms;
        let taken = taken as u64;
        let failing = binomial(random, taken, version.failing);
        let rest = taken - failing;
        // Latencies are spread like a logarithmic normal around the typical one.
        let late = binomial(random, rest, beyond(typical, server.deadline_ms));
        let answered = rest - late;
        let slow = binomial(random, answered, beyond(typical, server.latency_ms));
        let wrong = binomial(random, answered, version.wrong);
        Minute { requests: arrivals, answered, slow, failed: failing + late + contended, contended, late, wrong }
    }
}

/// Share of latencies above a limit where the median is `typical`: a logarithmic normal with deviation 0.4, about what
/// request latencies of a steady server show.
fn beyond(typical: f64, limit: f64) -> f64 {
    let z = (limit / typical).ln() / 0.4;
    // Logistic approximation of the normal's upper tail (Bowling et al. 2009): good to 1e-4.
    1.0 / (1.0 + (1.5976 * z + 0.07056 * z * z * z).exp())
}

/// How many of `count` events of probability `share` happen: exact for few, normal for many.
pub fn binomial(random: &mut Random, count: u64, share: f64) -> u64 {
    if share <= 0.0 || count == 0 {
        return 0;
    }
    if count <= 64 || count as f64 * share.min(1.0 - share) < 16.0 {
        return (0..count).filter(|_| random.chance(share)).count() as u64;
    }
    let mean = count as f64 * share;
    let drawn = mean + (mean * (1.0 - share)).sqrt() * random.normal();
    drawn.round().clamp(0.0, count as f64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: Version = Version { service_ms: 5.0, failing: 0.0, wrong: 0.2 };
    const SERVER: Server = Server { cores: 1.0, wait_ms_max: 1000.0, latency_ms: 50.0, deadline_ms: 2000.0 };

    #[test]
    fn a_queue_fills_refuses_and_drains() {
        let (mut random, mut queue) = (Random::new(1, 1), Queue::default());
        let calm = queue.minute(&mut random, 6000, &VERSION, &SERVER, 0.0);
        assert!(calm.answered == 6000 && calm.failed == 0 && calm.slow < 10, "{calm:?}");
        let surge = queue.minute(&mut random, 24_000, &VERSION, &SERVER, 0.0);
        assert!(surge.contended > 11_000 && surge.answered > 11_000 && surge.slow > 5000, "{surge:?}");
        queue.minute(&mut random, 6000, &VERSION, &SERVER, 0.0);
        let after = queue.minute(&mut random, 6000, &VERSION, &SERVER, 0.0);
        assert!(after.slow < 10 && after.contended == 0, "{after:?}");
        let slow = queue.minute(&mut random, 6000, &VERSION, &SERVER, 5000.0);
        assert!(slow.late > 5000, "{slow:?}");
    }

    #[test]
    fn draws_have_their_share() {
        let mut random = Random::new(3, 3);
        for (count, share) in [(50, 0.3), (10_000, 0.3), (10_000, 0.0005)] {
            let sum: u64 = (0..200).map(|_| binomial(&mut random, count, share)).sum();
            let mean = sum as f64 / 200.0 / count as f64;
            assert!((mean / share - 1.0).abs() < 0.1, "{count} {share}: {mean}");
        }
    }
}
