//! Stories of streams.
