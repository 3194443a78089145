//! Options of `das-node`: Nitro's `anytrustserver` options, and ours.
//!
//! Names, types and defaults of options that Nitro's server has are the same here (`options.json` of the vectors is
//! checked against this tree). What we do not need is in `replaced`: accepted, with a line that says what replaces
//! it.

pub(crate) mod archive;
mod check;
mod custody;
mod peer;
mod replaced;

use std::path::PathBuf;
use std::time::Duration;

use das_common::config::sections::{
    DashboardOptions, ExplorerOptions, MetricsServerOptions, ParentChainOptions, PerClientOptions,
    ReadOptions, RestAggregatorOptions, ServerTimeouts,
};
use das_common::config::{At, ByteSize, Field, Problem, Program, RawValue, Replaced, Schema, Values};
use das_common::options;
use das_common::telemetry::{LogFormat, LogLevel};
use das_common::tls::TlsOptions;
use das_common::traces::TraceOptions;
use das_keys::options::KeyOptions;
use das_keys::storage_options::StorageEncryptionOptions;

pub use archive::{ArchiveOptions, GoogleCloudStorageOptions, RedisCacheOptions, S3StorageOptions};
pub use custody::CustodySettings;
pub use peer::PeerSection;

options! {
    /// All options of a member or mirror.
    pub struct NodeOptions {
        ["Stores: the JSON-RPC server"]
        /// Serve the JSON-RPC calls das_*, by which batches are stored. Needs a key.
        enable_rpc: bool = "false",
        /// Address that JSON-RPC is served on.
        rpc_addr: String = "localhost",
        /// Port that JSON-RPC is served on; 0 picks a free one.
        rpc_port: u16 = "9876",
        /// Longest body of a JSON-RPC request in bytes; 0 is 5242880.
        rpc_server_body_limit: usize = "0",
        /// Timeouts of the JSON-RPC server.
        rpc_server_timeouts: ServerTimeouts,

        ["Reads: the REST server"]
        /// Serve batches by hash to anyone, with /health and /status.
        enable_rest: bool = "false",
        /// Address that REST is served on.
        rest_addr: String = "localhost",
        /// Port that REST is served on; 0 picks a free one.
        rest_port: u16 = "9877",
        /// Timeouts of the REST server.
        rest_server_timeouts: ServerTimeouts,

        ["Key"]
        /// Keys, storage and sources of batches.
        data_availability: DataAvailabilityOptions,

        ["Who may store"]
        /// The parent chain.
        parent_chain: ParentChainOptions,

        ["Batch explorer"]
        /// The batch explorer.
        explorer: ExplorerOptions,

        ["Dashboard"]
        /// The page of this node.
        dashboard: DashboardOptions,

        ["Committee"]
        /// The committee this member belongs to.
        committee: CommitteeOptions,
        /// Cold batches as shards over the committee.
        custody: CustodySettings,

        ["Encryption at rest"]
        /// Payloads at rest encrypted.
        storage_encryption: StorageEncryptionOptions,

        ["Archive"]
        /// Every batch in an object store too.
        archive: ArchiveOptions,

        ["Peers"]
        /// The connections to the other members of the committee.
        peer: PeerSection,

        ["TLS"]
        /// TLS of our servers and of what we call.
        tls: TlsOptions,
        /// End instead of serving plain HTTP, or of calling another server over it (the parent chain's nodes apart).
        require_tls: bool = "false",

        ["Traces"]
        /// Traces for an OpenTelemetry collector.
        traces: TraceOptions,

        ["Limits"]
        /// Bounds on what clients can make this server hold.
        limits: LimitOptions,

        ["dastool on the same machine"]
        /// The socket for dastool.
        admin: AdminOptions,

        ["Logs and metrics"]
        /// Least important kind of line that is logged: TRACE, DEBUG, INFO, WARN, ERROR or CRIT, or 5 to 0.
        log_level: LogLevel = "INFO",
        /// Form of log lines: plaintext or json.
        log_type: LogFormat = "plaintext",
        /// Levels of single parts of the program on top of log-level, as das_node::storage=debug,hyper=warn.
        log_filter: String,
        /// Serve metrics for Prometheus.
        metrics: bool = "false",
        /// The metrics server.
        metrics_server: MetricsServerOptions,
    }
}

options! {
    /// Keys, storage and sources of batches.
    pub struct DataAvailabilityOptions {
        ["Key"]
        /// The key that signs certificates.
        key: KeyOptions,

        ["Storage"]
        /// Keep a batch service in this process. Can only be true.
        enable: bool = "true",
        /// The batch store.
        local_file_storage: LocalFileStorageOptions,
        /// Batches kept in memory.
        local_cache: LocalCacheOptions,
        /// A cache that several servers share.
        redis_cache: RedisCacheOptions,

        ["Archive"]
        /// Batches on S3 and what speaks its language.
        s3_storage: S3StorageOptions,
        /// Batches on Google Cloud Storage.
        google_cloud_storage: GoogleCloudStorageOptions,

        ["Who may store"]
        /// Public key of a further signer whose store requests are accepted: 0x and the hex of the uncompressed
        /// secp256k1 key (65 bytes), or the path of a file with that hex without 0x.
        extra_signature_checking_public_key: String,
        /// Addresses of signers whose store requests are accepted (0x and 40 hex digits), separated by commas: the
        /// batch posters and the sequencer of the rollup.
        allowed_signers: Vec<String>,
        /// Accept store requests from anybody. For tests only: whoever reaches the port can fill the disk.
        disable_signature_checking: bool = "false",

        ["Reading from other servers"]
        /// Other servers that batches are read from when they are not here. A mirror stores what is found.
        rest_aggregator: ReadingOptions,
    }
}

options! {
    /// Keeping what is posted to the parent chain.
    pub struct SyncOptions {
        /// Batches of the chain.
        sync_to_storage: SyncToStorageOptions,
    }
}

options! {
    /// Batches of the chain.
    pub struct SyncToStorageOptions {
        /// Follow the contract (parent-chain.*), and fetch and keep every batch that is posted.
        eager: bool = "false",
        /// First block of the parent chain that is read; that of the contract's creation is right.
        eager_lower_bound_block: u64 = "0",
        /// How long batches are kept, from the latest time on that their messages can name.
        retention_period: Duration = "360h0m0s",
        /// Keep batches whose time has passed too.
        sync_expired_data: bool = "true",
        /// Most batches that are fetched at once.
        requests_in_flight: usize = "32",
    }
}

/// Reading from other servers, and what of it is kept: Nitro has both in one section.
#[derive(Debug, Clone)]
pub struct ReadingOptions {
    /// The servers.
    pub servers: RestAggregatorOptions,
    /// What is kept.
    pub sync: SyncToStorageOptions,
}

impl Field for ReadingOptions {
    fn declare(at: &At<'_>, schema: &mut Schema) {
        RestAggregatorOptions::declare(at, schema);
        SyncOptions::declare(at, schema);
    }

    fn read(at: &At<'_>, values: &mut Values) -> Self {
        let servers = RestAggregatorOptions::read(at, values);
        Self { servers, sync: SyncOptions::read(at, values).sync_to_storage }
    }

    fn dump(&self, name: &str, into: &mut Vec<(String, RawValue)>) {
        self.servers.dump(name, into);
        SyncOptions { sync_to_storage: self.sync.clone() }.dump(name, into);
    }
}

options! {
    /// The batch store.
    pub struct LocalFileStorageOptions {
        /// Keep batches on disk. Needs data-dir.
        enable: bool = "false",
        /// Directory of the batch store. It must exist, and belongs to one das-node at a time.
        data_dir: PathBuf,
        /// Delete batches some time after the latest timeout promised for them; off: keep them for ever.
        enable_expiry: bool = "false",
        /// Longest time from now for which a store request may ask that a batch is kept; others are refused.
        max_retention: Duration = "504h0m0s",
        /// Free space on the disk below which stores are refused, so that reads and deletions go on working.
        min_free: ByteSize = "64MiB",
        /// Size of one file of batches.
        segment_size: ByteSize = "128MiB",
        /// Time between two looks for batches to delete.
        expiry_interval: Duration = "1m0s",
        /// Take the clock as it is now for right, although it jumped. For one start, after checking it.
        accept_clock: bool = "false",
    }
}

options! {
    /// Batches kept in memory, encoded as they are served.
    pub struct LocalCacheOptions {
        /// Accepted for Nitro's configurations: the cache is always on, max-bytes bounds it.
        enable: bool = "false",
        /// Accepted for Nitro's configurations: the cache is bounded by max-bytes instead.
        capacity: usize = "20000",
        /// Most memory used for answers to recent reads; 0 turns the cache off.
        max_bytes: ByteSize = "64MiB",
    }
}

options! {
    /// The committee this member belongs to.
    pub struct CommitteeOptions {
        /// The committee file. With it the start checks that the key is that of a member; without, this is a plain
        /// AnyTrust server.
        file: PathBuf,
    }
}

options! {
    /// The socket for dastool.
    pub struct AdminOptions {
        /// Open a socket in the data directory, admin.sock, by which dastool imports, exports and backs up while the node runs.
        /// Only the node's own user and root are let in.
        socket: bool = "true",
    }
}

options! {
    /// Bounds on what clients can make this server hold.
    pub struct LimitOptions {
        /// Most connections to one port at once; further ones wait to be accepted.
        max_connections: usize = "1024",
        /// Most memory for bodies of requests that are being read or worked on; further requests wait, then are
        /// refused.
        max_request_memory: ByteSize = "256MiB",
        /// Most memory for the answers of one port that are being sent, apart from small ones; further ones wait, then are
        /// refused.
        max_answer_memory: ByteSize = "256MiB",
        /// Most chunked stores begun and not finished.
        max_pending_messages: usize = "10",
        /// Most memory for chunks of those.
        max_pending_bytes: ByteSize = "64MiB",
        /// Longest batch that a chunked store may announce.
        max_message_size: ByteSize = "32MiB",
        /// Time after which a chunked store that nothing arrives for is dropped.
        pending_idle_timeout: Duration = "1m0s",
        /// Longest wait at shutdown for requests that are being worked on.
        shutdown_grace: Duration = "30s",
        /// What one client may ask of the JSON-RPC port.
        rpc_client: PerClientOptions,
        /// What one client may ask of the REST port.
        rest_client: PerClientOptions,
        /// How reads give way to stores.
        reads: ReadOptions,
        /// Proxies whose X-Forwarded-For says who the client is: addresses or ranges as 10.0.0.0/8.
        trusted_proxies: Vec<String>,
    }
}

impl Program for NodeOptions {
    const NAME: &'static str = "das-node";
    const ABOUT: &'static str = "One member of a data availability committee, or a mirror: takes batches from the \
        sequencer, keeps them, signs that it does, and serves them to anyone by hash.";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const REPLACED: &'static [Replaced] = replaced::REPLACED;

    fn check(&self) -> Vec<Problem> {
        check::problems(self)
    }

    fn notices(&self) -> Vec<String> {
        check::notices(self)
    }
}

/// Body limit of the JSON-RPC server when the option says 0.
pub const DEFAULT_BODY_LIMIT: usize = 5 * 1024 * 1024;

impl NodeOptions {
    /// Longest body of a JSON-RPC request in bytes.
    pub fn rpc_body_limit(&self) -> usize {
        match self.rpc_server_body_limit {
            0 => DEFAULT_BODY_LIMIT,
            limit => limit,
        }
    }

    /// Is there a key to sign with?
    pub fn has_key(&self) -> bool {
        self.data_availability.key.is_given()
    }
}

#[cfg(test)]
mod tests;
