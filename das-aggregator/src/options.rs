//! Options of `das-aggregator`: the same names as the members' for the same things, Nitro's names for what Nitro's
//! aggregating client has (`data-availability.rpc-aggregator.*`), and those of its provider server
//! (`provider-server.*`).

mod backends;
mod check;
mod choices;
mod replaced;

use std::path::PathBuf;
use std::time::Duration;

use das_common::config::sections::{
    DashboardOptions, ExplorerOptions, MetricsServerOptions, ParentChainOptions, PerClientOptions,
    ReadOptions, RestAggregatorOptions, ServerTimeouts,
};
use das_common::config::{ByteSize, Problem, Program, Replaced, Secret};
use das_common::options;
use das_common::telemetry::{LogFormat, LogLevel};
use das_common::tls::TlsOptions;
use das_common::traces::TraceOptions;

pub use backends::{Backend, Backends};
pub use choices::{Fallback, KeysetCheck};

options! {
    /// All options of an aggregator.
    pub struct AggregatorOptions {
        ["Stores: the JSON-RPC server"]
        /// Serve the JSON-RPC calls das_*: a store goes to all members and is answered with a certificate.
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
        /// Serve batches by hash, read from the members, with /health and /status.
        enable_rest: bool = "false",
        /// Address that REST is served on.
        rest_addr: String = "localhost",
        /// Port that REST is served on; 0 picks a free one.
        rest_port: u16 = "9877",
        /// Timeouts of the REST server.
        rest_server_timeouts: ServerTimeouts,

        ["Committee"]
        /// The committee.
        committee: CommitteeOptions,

        ["Storing at the members"]
        /// Storing and reading.
        data_availability: DataAvailabilityOptions,

        ["Posting to the parent chain"]
        /// Folder of what this aggregator keeps: keysets of the chain, batches to be posted, and the index of those posted.
        data_dir: PathBuf,
        /// Posting.
        post: PostOptions,

        ["Batch explorer"]
        /// The batch explorer.
        explorer: ExplorerOptions,

        ["Dashboard"]
        /// The page of the committee. What its graphs show survives a restart if there is a data-dir.
        dashboard: DashboardOptions,
        /// A batch of our own every few minutes.
        canary: CanaryOptions,

        ["A Nitro node's provider"]
        /// The provider server.
        provider_server: ProviderServerOptions,

        ["Parent chain"]
        /// The parent chain.
        parent_chain: ParentChainOptions,
        /// What a keyset of the committee that the contract does not take is, at the start: fatal, warn, or off. Later it is an
        /// alarm.
        keyset_check: KeysetCheck = "fatal",

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

        ["Logs and metrics"]
        /// Least important kind of line that is logged: TRACE, DEBUG, INFO, WARN, ERROR or CRIT, or 5 to 0.
        log_level: LogLevel = "INFO",
        /// Form of log lines: plaintext or json.
        log_type: LogFormat = "plaintext",
        /// Levels of single parts of the program on top of log-level, as das_aggregator::read=debug,hyper=warn.
        log_filter: String,
        /// Serve metrics for Prometheus.
        metrics: bool = "false",
        /// The metrics server.
        metrics_server: MetricsServerOptions,
    }
}

options! {
    /// The committee.
    pub struct CommitteeOptions {
        /// The committee file: members and policy. Or give data-availability.rpc-aggregator.assumed-honest and
        /// .backends, for members that hold whole copies.
        file: PathBuf,
    }
}

options! {
    /// Storing at the members, and reading from them.
    pub struct DataAvailabilityOptions {
        ["Storing at the members"]
        /// Longest time for one member to answer a store; the certificate does not wait for members it does not
        /// need.
        request_timeout: Duration = "5s",
        /// Nitro's form of the committee, and how members are called.
        rpc_aggregator: RpcAggregatorOptions,
        /// The key that signs what goes to members in chunks, and what came in chunks.
        store_key: StoreKeyOptions,
        /// Largest batch, in bytes, that a batch poster is told to make (daprovider_getMaxMessageSize) and that
        /// daprovider_store takes. What das_store takes is bounded by rpc-server-body-limit.
        max_batch_size: usize = "1000000",

        ["Who may store"]
        /// Public key of a signer whose store requests are accepted: 0x and the hex of the uncompressed secp256k1 key
        /// (65 bytes), or the path of a file with that hex without 0x. Without this and allowed-signers the
        /// aggregator leaves the check to the members.
        extra_signature_checking_public_key: String,
        /// Addresses of signers whose store requests are accepted (0x and 40 hex digits), separated by commas.
        allowed_signers: Vec<String>,
        /// Pass every store request on, whoever signed it, also when signers are named. The members check too.
        disable_signature_checking: bool = "false",

        ["Reading"]
        /// Further servers that batches are read from, beside the members.
        rest_aggregator: RestAggregatorOptions,
        /// Batches kept in memory.
        local_cache: LocalCacheOptions,
    }
}

options! {
    /// Nitro's form of the committee, and how members are called.
    pub struct RpcAggregatorOptions {
        /// Store at the members of assumed-honest and backends. Implied when backends are given.
        enable: bool = "false",
        /// A: how many members are assumed honest. A certificate needs n + 1 - A signatures.
        assumed_honest: u64 = "0",
        /// The members, as a JSON list of objects with url and pubkey (base64, as in das_bls.pub). The order is that of
        /// the keyset.
        backends: Backends,
        /// How long a member that failed is tried again with a batch, after the certificate was made.
        retry_duration: Duration = "2m0s",
        /// First wait before a member is tried again; it doubles with every failure.
        retry_delay: Duration = "500ms",
        /// Calls to members.
        rpc_client: RpcClientOptions,
    }
}

options! {
    /// Calls to members.
    pub struct RpcClientOptions {
        /// Send batches that are too large for one request in chunks (das_startChunkedStore); needs a store key.
        enable_chunked_store: bool = "true",
        /// Chunked stores.
        data_stream: DataStreamOptions,
    }
}

options! {
    /// Chunked stores.
    pub struct DataStreamOptions {
        /// Longest request body that members take, in bytes; batches that would make a longer one go in chunks.
        max_store_chunk_body_size: usize = "5242880",
    }
}

options! {
    /// The secp256k1 key that signs store requests to members. One of the two, or none when every batch passes
    /// through in one piece.
    pub struct StoreKeyOptions {
        /// File with the key in hex; made by dastool keygen --ecdsa.
        file: PathBuf,
        /// The key itself in hex. A file is safer: arguments and environment are visible to others on the machine.
        hex: Secret,
    }
}

options! {
    /// Batches kept in memory, encoded as they are served.
    pub struct LocalCacheOptions {
        /// Keep recently stored and read batches in memory.
        enable: bool = "true",
        /// Most batches kept.
        capacity: usize = "20000",
        /// Most memory used for them.
        max_bytes: ByteSize = "128MiB",
    }
}

options! {
    /// Posting batches for a sequencer (das_postBatch).
    pub struct PostOptions {
        /// Take batches with das_postBatch, have the committee certify them, and post the certificates to the contract.
        enable: bool = "false",
        /// The account that posts.
        key: PosterKeyOptions,
        /// What becomes of a batch that too few members sign: hold (it is tried again until they do), or calldata (it is
        /// posted itself after post.fallback-after; only batches that begin with 0x00 are taken then).
        fallback: Fallback = "hold",
        /// How long members are asked before a batch is posted itself.
        fallback_after: Duration = "10m0s",
        /// Most transactions that are sent and in no block.
        max_in_flight: usize = "4",
        /// A transaction that is in no block for so long is replaced by one that offers more.
        replace_after: Duration = "2m0s",
        /// A transaction that is in no block is sent again this often.
        resend_after: Duration = "30s",
        /// Most that is paid for gas, base fee and tip together, gwei.
        max_fee_gwei: f64 = "200",
        /// Most tip, gwei; what others tip is paid up to this. A replacement may go beyond.
        max_tip_gwei: f64 = "3",
        /// Least tip, gwei.
        min_tip_gwei: f64 = "0",
        /// Gas on top of what is estimated, percent.
        gas_margin: u64 = "25",
        /// Raise an alarm when the account has less, ether.
        min_balance_ether: f64 = "0.1",
        /// Most batches that are not final.
        max_queue_batches: usize = "4096",
        /// Most bytes of batches that are not final.
        max_queue_bytes: ByteSize = "1GiB",
        /// Go on although others used nonces of the account below this one (after DAS-POST-002). A batch that loses its
        /// nonce gets another when that is final.
        accept_nonces_below: u64 = "0",
        /// Go on although others posted batches with numbers below this one (after DAS-POST-003).
        accept_batches_below: u64 = "0",
    }
}

options! {
    /// The account that posts: a key file, a keystore, or a remote signer.
    pub struct PosterKeyOptions {
        /// File with its key in hex.
        file: PathBuf,
        /// Encrypted keystore with its key (Web3 Secret Storage, version 3).
        keystore: PathBuf,
        /// File with the keystore's password.
        password_file: PathBuf,
        /// Environment variable with the keystore's password, if there is no file.
        password_env: String,
        /// A signer on another machine.
        remote: RemoteSignerOptions,
    }
}

options! {
    /// A signer on another machine, asked with eth_signTransaction over https.
    pub struct RemoteSignerOptions {
        /// Its URL.
        url: Secret,
        /// The account that it signs for.
        address: String,
        /// Certificates (PEM) of the authority of its certificate; without, those that the system trusts.
        ca: PathBuf,
        /// Our certificate (PEM), by which it knows us.
        cert: PathBuf,
        /// The secret key (PEM) of our certificate.
        cert_key: PathBuf,
        /// Time for one signature.
        timeout: Duration = "5s",
    }
}

options! {
    /// A small batch of our own, stored, certified and read back through every member, so that a member that would fail
    /// is found before the sequencer's next batch comes. Needs a store key that the members admit.
    pub struct CanaryOptions {
        /// Try the members.
        enable: bool = "false",
        /// Time between two rounds; after one that failed the next comes sooner.
        interval: Duration = "5m0s",
        /// How long members are asked to keep each batch.
        retention: Duration = "1h0m0s",
    }
}

options! {
    /// The daprovider_* calls for Nitro nodes (spec section 10).
    pub struct ProviderServerOptions {
        /// Serve the daprovider_* calls.
        enable: bool = "false",
        /// Address that they are served on.
        addr: String = "localhost",
        /// Port that they are served on; 0 picks a free one.
        port: u16 = "9880",
        /// Serve daprovider_store and its chunked form too. Needs a store key.
        enable_da_writer: bool = "false",
        /// File with the secret (32 bytes in hex) of the tokens that callers must show; without, anybody may call.
        jwtsecret: PathBuf,
        /// Names, beside IP addresses, that callers with a token may use in the Host header.
        allowed_hosts: Vec<String>,
        /// Header bytes that this provider says it recovers, in hex. Empty for a node that has its own AnyTrust reader
        /// (node.da.anytrust.enable): two readers of one byte stop it.
        supported_header_bytes: String = "8088",
        /// Files with keysets of former committees, whose batches are to be recovered too: the bytes, or their hex as
        /// dastool dump-keyset prints it.
        keyset_files: Vec<String>,
        /// Longest body of a request in bytes; 0 is 5242880.
        rpc_server_body_limit: usize = "0",
        /// Timeouts of the provider server.
        server_timeouts: ServerTimeouts,
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
        /// Most memory for batches that members which failed are still to be given.
        max_retry_memory: ByteSize = "256MiB",
        /// Most chunked stores begun and not finished.
        max_pending_messages: usize = "10",
        /// Most memory for chunks of those.
        max_pending_bytes: ByteSize = "64MiB",
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

impl Program for AggregatorOptions {
    const NAME: &'static str = "das-aggregator";
    const ABOUT: &'static str = "The front of a data availability committee: hands a batch to all members at once, makes \
        a certificate of enough signatures, and reads batches back from whoever has them.";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const REPLACED: &'static [Replaced] = replaced::REPLACED;

    fn check(&self) -> Vec<Problem> {
        check::problems(self)
    }

    fn notices(&self) -> Vec<String> {
        check::notices(self)
    }
}

/// Body limit of a JSON-RPC server when the option says 0.
pub const DEFAULT_BODY_LIMIT: usize = 5 * 1024 * 1024;

impl AggregatorOptions {
    /// Longest body of a JSON-RPC request in bytes.
    pub fn rpc_body_limit(&self) -> usize {
        body_limit(self.rpc_server_body_limit)
    }

    /// Is there a key to sign store requests with?
    pub fn has_store_key(&self) -> bool {
        let key = &self.data_availability.store_key;
        !key.file.as_os_str().is_empty() || !key.hex.is_empty()
    }
}

impl ProviderServerOptions {
    /// Longest body of a request in bytes.
    pub fn body_limit(&self) -> usize {
        body_limit(self.rpc_server_body_limit)
    }
}

fn body_limit(option: usize) -> usize {
    if option == 0 { DEFAULT_BODY_LIMIT } else { option }
}

#[cfg(test)]
mod tests;
