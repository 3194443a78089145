//! Names of the metrics.

/// Requests to the parent chain, by `endpoint` (its place and host) and `result` (ok, refused, failed).
pub const REQUESTS: &str = "das_chain_requests_total";
/// Time of a request that was answered, by `endpoint`.
pub const REQUEST_SECONDS: &str = "das_chain_request_duration_seconds";
/// Whether an endpoint is in use (1) or put aside (0), by `endpoint`.
pub const ENDPOINT_UP: &str = "das_chain_endpoint_up";
/// The newest block seen.
pub const HEAD: &str = "das_chain_head_block";
/// The newest block whose logs were taken.
pub const FOLLOWED: &str = "das_chain_followed_block";
/// Reorganizations and resets found, by `kind` (reorg, reset).
pub const REORGS: &str = "das_chain_reorgs_total";
/// Questions who may store, by `source` (known, refused, chain, stale, untold).
pub const SIGNER_CHECKS: &str = "das_chain_signer_checks_total";
