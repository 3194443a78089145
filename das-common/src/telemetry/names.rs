//! Names of metrics.
//!
//! Names that begin with `arb_` are Nitro's. Its counters are ours too, with the type counter; its durations are
//! summaries in nanoseconds.

/// Alarms that are raised (1) or were and are not (0), by `code`.
pub const ALARM: &str = "das_alarm";
/// Build of the program, always 1, with its `program` and `version`.
pub const BUILD_INFO: &str = "das_build_info";

/// Nitro: prefix of the metrics of `das_store` at a member.
pub const RPC_STORE: &str = "arb_das_rpc_store";
/// Nitro: prefix of the metrics of reads at the REST server.
pub const REST_GET_BY_HASH: &str = "arb_das_rest_getbyhash";
/// Nitro: prefix of the metrics of an aggregator's calls to its members.
pub const RPC_AGGREGATOR_STORE: &str = "arb_das_rpc_aggregator_store";
/// Nitro: 1 while the last store of an aggregator failed, else 0.
pub const RPC_AGGREGATOR_STORE_ERROR: &str = "arb_das_rpc_aggregator_store_error_gauge";

/// Time of a store at this server, by `result` (ok, error).
pub const STORE_SECONDS: &str = "das_store_duration_seconds";
/// Time of one stage of a store, by `stage` (authorize, hash, write, sign).
pub const STORE_STAGE_SECONDS: &str = "das_store_stage_duration_seconds";
/// Time of a read at this server, by `result` (ok, error).
pub const READ_SECONDS: &str = "das_read_duration_seconds";
/// Where reads found their batch, by `source` (cache, disk, remote, none).
pub const READ_SOURCE: &str = "das_read_source_total";
/// Errors answered, by `code` of the registry.
pub const ERRORS: &str = "das_errors_total";

/// Signatures that a signer gave, by `kind` (certificate, binding, possession).
pub const SIGNER_SIGNATURES: &str = "das_signer_signatures_total";

/// Batches in the store.
pub const STORED_BATCHES: &str = "das_storage_batches";
/// Bytes that they take on disk.
pub const STORED_BYTES: &str = "das_storage_batch_bytes";
/// Bytes free on the disk of the store.
pub const DISK_FREE_BYTES: &str = "das_storage_free_bytes";
/// Batches deleted because their time was over.
pub const EXPIRED_BATCHES: &str = "das_storage_expired_total";
/// Bytes in the cache of batches.
pub const CACHE_BYTES: &str = "das_cache_bytes";
/// Chunked stores begun and not finished.
pub const PENDING_MESSAGES: &str = "das_chunked_pending_messages";

/// Connections open, to all ports together.
pub const CONNECTIONS: &str = "das_http_connections";
/// TLS connections that began, by `result` (ok, refused, slow: nothing came in time).
pub const TLS_HANDSHAKES: &str = "das_tls_handshakes_total";
/// Unix time at which the server's certificate ends.
pub const TLS_NOT_AFTER: &str = "das_tls_certificate_not_after_seconds";

/// Time of a member's answer to a store, by `member` and `result` (ok, error, late).
pub const MEMBER_STORE_SECONDS: &str = "das_member_store_duration_seconds";
/// Whether a member's last answer was right (1) or not (0), by `member`.
pub const MEMBER_UP: &str = "das_member_up";
/// Certificates made and failed, by `result` (ok, error).
pub const CERTIFICATES: &str = "das_certificates_total";
/// Certificates handed to members, by `result` (ok, error, unknown: the member keeps none, dropped: too many waited).
pub const CERTIFICATES_HANDED: &str = "das_certificates_handed_total";
/// Batches that members which failed are still to be given.
pub const RETRY_BATCHES: &str = "das_retry_batches";

/// Certificates that a member was handed or learnt, by `outcome` (kept, known, refused).
pub const CUSTODY_CERTIFICATES: &str = "das_custody_certificates_total";
/// Comparisons of a member's certificates with another member's.
pub const CUSTODY_RECONCILIATIONS: &str = "das_custody_reconciliations_total";

/// Members and mirrors that are connected.
pub const PEER_CONNECTED: &str = "das_peer_connected";
/// Whether a member or mirror is connected (1) or not (0), by `member`.
pub const PEER_UP: &str = "das_peer_up";
/// Time of a ping there and back, by `member`.
pub const PEER_RTT_SECONDS: &str = "das_peer_rtt_seconds";
/// Calls of members that failed, by `member`.
pub const PEER_DIALS_FAILED: &str = "das_peer_dials_failed_total";
/// Connections, requests and messages of peers that were refused, by `reason`.
pub const PEER_REFUSED: &str = "das_peer_refused_total";
/// Frames exchanged with peers, by `direction` (in, out) and `kind` (request, answer, gossip).
pub const PEER_FRAMES: &str = "das_peer_frames_total";
/// Bytes of those frames.
pub const PEER_BYTES: &str = "das_peer_bytes_total";

/// Resident memory of the process.
pub const PROCESS_MEMORY: &str = "process_resident_memory_bytes";
/// Files the process has open.
pub const PROCESS_FILES: &str = "process_open_fds";
/// CPU time the process has used.
pub const PROCESS_CPU: &str = "process_cpu_seconds_total";
/// Bytes the process had written to disks, of any kind; what was only in the kernel's cache is not counted.
pub const PROCESS_WRITTEN: &str = "process_written_bytes_total";
/// Threads of the process.
pub const PROCESS_THREADS: &str = "process_threads";
/// Unix time at which the process began to be watched.
pub const PROCESS_START: &str = "process_start_time_seconds";
