//! The data plane: requests of the Open Inference Protocol v2 over HTTP and gRPC, who computes next, caches, tenants and
//! what each answer cost. Knows no catalog, no contract and no disk: models come through a
//! [`Source`](registry::Source), or answer by themselves as a [`RowModel`](registry::RowModel).

pub mod body;
pub mod cache;
pub mod call;
mod classification;
pub mod cost;
pub mod described;
pub mod grpc;
pub mod histogram;
pub mod http;
pub mod lane;
pub mod listen;
pub mod meter;
pub mod metrics;
pub mod plane;
pub mod recorded;
pub mod refusal;
pub mod registry;
pub mod row_cache;
pub mod schedule;
pub mod series;
#[cfg(feature = "otlp")]
pub mod spans;
pub mod stats;
pub mod tenant;
pub mod tensors;
pub mod wire;

pub use refusal::{Answer, Refusal};
