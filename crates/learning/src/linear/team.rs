//! Threads that go through phases in step. They are the learner's own, not the pool's: two fits that waited in one pool
//! for each other's threads would wait for ever.

use std::sync::atomic::{AtomicUsize, Ordering};

/// Where all members wait until the last has come. What one wrote before it, all see after it.
pub(super) struct Gate {
    members: usize,
    waiting: AtomicUsize,
    round: AtomicUsize,
}

/// Looks at the gate before the processor is left to others: some microseconds, in which a member that is running comes.
const SPINS: usize = 500;

impl Gate {
    pub(super) fn new(members: usize) -> Gate {
        Gate { members, waiting: AtomicUsize::new(0), round: AtomicUsize::new(0) }
    }

    pub(super) fn wait(&self) {
        if self.members == 1 {
            return;
        }
        let round = self.round.load(Ordering::Acquire);
        if self.waiting.fetch_add(1, Ordering::AcqRel) + 1 == self.members {
            self.waiting.store(0, Ordering::Relaxed);
            self.round.store(round.wrapping_add(1), Ordering::Release);
            return;
        }
        let mut looks = 0;
        while self.round.load(Ordering::Acquire) == round {
            looks += 1;
            if looks < SPINS {
                std::hint::spin_loop();
            } else {
                std::thread::yield_now();
            }
        }
    }
}

/// The part of `whole` that falls to one of `members`: contiguous, in order, as even as can be.
pub(super) fn share(whole: usize, member: usize, members: usize) -> std::ops::Range<usize> {
    whole * member / members..whole * (member + 1) / members
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_passes_before_all_have_come() {
        let (gate, sum) = (Gate::new(5), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..5 {
                scope.spawn(|| {
                    for round in 1..200 {
                        sum.fetch_add(1, Ordering::Relaxed);
                        gate.wait();
                        assert_eq!(sum.load(Ordering::Relaxed), 5 * round);
                        gate.wait();
                    }
                });
            }
        });
        let parts: Vec<usize> = (0..3).flat_map(|member| share(10, member, 3)).collect();
        assert_eq!(parts, (0..10).collect::<Vec<_>>());
    }
}
