//! What the aggregator serves: the `das_*` calls, the REST port, and its state.

pub mod metrics;
pub mod openapi;
pub mod rest;
pub mod rpc;
pub mod status;
