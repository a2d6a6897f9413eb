//! The real binary, spoken to as a user would: commands, HTTP on a free port, signals.

#[path = "end_to_end/bad_input.rs"]
mod bad_input;
#[cfg(feature = "nats")]
#[path = "end_to_end/broker.rs"]
mod broker;
#[path = "end_to_end/caching.rs"]
mod caching;
#[path = "end_to_end/clients.rs"]
mod clients;
#[path = "end_to_end/contracts.rs"]
mod contracts;
#[path = "end_to_end/crash.rs"]
mod crash;
#[path = "end_to_end/encodings.rs"]
mod encodings;
#[path = "end_to_end/joins.rs"]
mod joins;
#[path = "end_to_end/judging.rs"]
mod judging;
#[path = "end_to_end/large.rs"]
mod large;
#[path = "end_to_end/learning.rs"]
mod learning;
#[path = "end_to_end/lifecycle.rs"]
mod lifecycle;
#[path = "end_to_end/loop_runs.rs"]
mod loop_runs;
#[path = "end_to_end/operating.rs"]
mod operating;
#[path = "end_to_end/streams.rs"]
mod streams;
#[cfg(feature = "nats")]
#[path = "end_to_end/streams_nats.rs"]
mod streams_nats;
#[path = "end_to_end/support.rs"]
mod support;
#[path = "end_to_end/windows.rs"]
mod windows;
