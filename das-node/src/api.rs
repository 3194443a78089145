//! What a member answers: the JSON-RPC calls `das_*`, the REST port, metrics.

mod chunked;
mod metrics;
pub mod openapi;
mod rest;
mod rpc;

pub use chunked::ChunkedStores;
pub use metrics::router as metrics_router;
pub use rest::RestPort;
pub use rpc::DasMethods;
