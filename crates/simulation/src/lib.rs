//! Seeded worlds that drive the judgement of the loop in virtual time, for development only: what does it find, what does
//! it do, and how often is it wrong? Knows nothing of disk, network or clocks; the same seed gives the same world.

pub mod features;
pub mod operations;
pub mod random;
