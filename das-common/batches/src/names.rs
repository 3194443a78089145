//! Names of the metrics.

/// Batches known of the chain that is followed.
pub const BATCHES: &str = "das_chain_batches";
/// Payloads that wait to be fetched.
pub const WAITING: &str = "das_sync_waiting";
/// Of them, those for which a try has failed.
pub const FAILING: &str = "das_sync_failing";
/// Payloads fetched and verified.
pub const FETCHED: &str = "das_sync_fetched_total";
/// Their bytes.
pub const BYTES: &str = "das_sync_bytes_total";
