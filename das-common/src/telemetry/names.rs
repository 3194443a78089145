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

/// Time of a call at a JSON-RPC server, by `method` (without its namespace) and `result` (ok, error).
pub const RPC_SECONDS: &str = "das_rpc_duration_seconds";
/// Time of an answer at a REST server, by `route` and `code` (its HTTP status).
pub const REST_SECONDS: &str = "das_rest_duration_seconds";
/// Time of a store at this server, by `result` (ok, error) and `size` (the class of the batch, named by its upper end).
pub const STORE_SECONDS: &str = "das_store_duration_seconds";
/// Time of one stage of a store, by `stage` (authorize, hash, write, archive, sign).
pub const STORE_STAGE_SECONDS: &str = "das_store_stage_duration_seconds";
/// Time of a read at this server, by `result` and `size` as above.
pub const READ_SECONDS: &str = "das_read_duration_seconds";
/// Where reads found their batch, by `source` (cache, disk, shared, archive, committee, remote, none).
pub const READ_SOURCE: &str = "das_read_source_total";
/// Errors answered, by `code` of the registry.
pub const ERRORS: &str = "das_errors_total";

/// Signatures that a signer gave, by `kind` (certificate, binding, possession).
pub const SIGNER_SIGNATURES: &str = "das_signer_signatures_total";

/// Bytes of the files of RocksDB, by `family`.
pub const ROCKSDB_FILES: &str = "das_rocksdb_sst_bytes";
/// Bytes of what RocksDB has in memory and not in files yet, by `family`.
pub const ROCKSDB_MEMTABLES: &str = "das_rocksdb_memtable_bytes";
/// Bytes that RocksDB is behind with compacting, by `family`.
pub const ROCKSDB_BEHIND: &str = "das_rocksdb_pending_compaction_bytes";
/// Whether RocksDB holds up writes (1) or not (0).
pub const ROCKSDB_STOPPED: &str = "das_rocksdb_write_stopped";
/// Flushes and compactions of RocksDB under way.
pub const ROCKSDB_RUNNING: &str = "das_rocksdb_running_jobs";
/// Batches by `form` (hot, waiting, sharded, whole, missing, elsewhere).
pub const CUSTODY_BATCHES: &str = "das_custody_batches";
/// Batches that are covered, or by how little: `state` (covered, under_replicated, unreadable, missing).
pub const CUSTODY_COVERAGE: &str = "das_custody_coverage_batches";
/// Seconds that there has been something to repair without a pause; 0: nothing.
pub const CUSTODY_REPAIRING: &str = "das_custody_repairing_seconds";
/// Bytes of whole batches and shards on the disk, by `key` (the id of the storage key, or plain); where there is encryption.
pub const STORAGE_KEY_BYTES: &str = "das_storage_key_bytes";
/// Bytes that are still to be written anew under the active storage key.
pub const STORAGE_REKEY_LEFT: &str = "das_storage_rekey_left_bytes";
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
/// What was asked of the shared cache, by `result` (hit, miss, wrong: without a right tag, failed, skipped: it is away).
pub const SHARED_CACHE_READS: &str = "das_shared_cache_reads_total";
/// What was put into the shared cache, by `result` (ok, failed, left out).
pub const SHARED_CACHE_WRITES: &str = "das_shared_cache_writes_total";
/// What was asked of the archive, by `result` (found, absent, wrong: other bytes, failed).
pub const ARCHIVE_READS: &str = "das_archive_reads_total";
/// Uploads and deletions at the archive, by `kind` (upload, delete) and `result` (ok, error).
pub const ARCHIVE_ERRANDS: &str = "das_archive_errands_total";
/// Bytes brought to the archive.
pub const ARCHIVE_UPLOADED_BYTES: &str = "das_archive_uploaded_bytes_total";
/// Time of one upload.
pub const ARCHIVE_UPLOAD_SECONDS: &str = "das_archive_upload_duration_seconds";
/// Batches that wait to be brought to the archive, counted up to 10000.
pub const ARCHIVE_QUEUE: &str = "das_archive_queue";
/// Seconds that the first of them has waited.
pub const ARCHIVE_OLDEST_SECONDS: &str = "das_archive_oldest_upload_seconds";
/// Whether the last attempt at the archive went well (1) or not (0).
pub const ARCHIVE_UP: &str = "das_archive_up";
/// Payloads that left this disk in favour of the archive.
pub const ARCHIVE_DROPPED: &str = "das_archive_dropped_payloads_total";
/// Batches that are in the archive only.
pub const ARCHIVED_BATCHES: &str = "das_archive_only_batches";
/// Bytes of those.
pub const ARCHIVED_BYTES: &str = "das_archive_only_bytes";
/// Chunked stores begun and not finished.
pub const PENDING_MESSAGES: &str = "das_chunked_pending_messages";

/// Requests that were refused because their client asked too much, by `port` and `why` (connections,
/// rate, concurrent), or because there were too many of all clients (busy).
pub const CLIENTS_REFUSED: &str = "das_clients_refused_total";
/// Spans of traces, by `result` (sent, failed: the collector did not take them, dropped: the queue was full).
pub const TRACE_SPANS: &str = "das_trace_spans_total";
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
/// How far a member's clock is ahead of the aggregator's, in seconds, by `member`.
pub const MEMBER_CLOCK: &str = "das_member_clock_ahead_seconds";
/// Bytes free on a member's disk, as it says, by `member`.
pub const MEMBER_DISK_FREE: &str = "das_member_disk_free_bytes";
/// Alarms that a member says it has, by `member`.
pub const MEMBER_ALARMS: &str = "das_member_alarms";
/// Whether a member stood the last round of the canary (1) or not (0), by `member`.
pub const CANARY_MEMBER: &str = "das_canary_member_good";
/// Time of a member's part in the canary, by `member` and `step` (store, read).
pub const CANARY_SECONDS: &str = "das_canary_duration_seconds";
/// Rounds of the canary, by `result` (ok, error: no certificate).
pub const CANARY_ROUNDS: &str = "das_canary_rounds_total";
/// Unix time of the last round of the canary that ended with a certificate.
pub const CANARY_LAST: &str = "das_canary_last_success_timestamp_seconds";
/// Time from a batch to its certificate, by `result` (ok, error).
pub const CERTIFICATE_SECONDS: &str = "das_certificate_duration_seconds";
/// Bytes of the batches that certificates were made of.
pub const CERTIFICATE_BYTES: &str = "das_certificate_batch_bytes_total";
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
/// Bytes the process had read from disks; what the kernel had in its cache is not counted.
pub const PROCESS_READ: &str = "process_read_bytes_total";
/// Bytes that the process exchanged over its HTTP servers and clients and with its peers, by `direction` (in, out).
pub const PROCESS_NETWORK: &str = "process_network_bytes_total";
/// Threads of the process.
pub const PROCESS_THREADS: &str = "process_threads";
/// Unix time at which the process began to be watched.
pub const PROCESS_START: &str = "process_start_time_seconds";
