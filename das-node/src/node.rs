//! A member or mirror, put together, started, and shut down in order.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64_simd::STANDARD;
use das_batches::explorer::BadLink;
use das_batches::index::OpenError;
use das_chain::parent::{ParentChain, ParentError};
use das_common::alarm::Alarms;
use das_common::aside::Aside;
use das_common::bls::PublicKey;
use das_common::chunked::Bounds;
use das_common::committee::{Committee, CommitteeError};
use das_common::config::sections::PerClientOptions;
use das_common::config::{ByteSize, Program as _};
use das_common::fault::{self, Coded, Fault};
use das_common::http::answers::AnswerBudget;
use das_common::http::body::Pace;
use das_common::http::client::{ClientLimits, EndpointError, HttpClient};
use das_common::http::per_client::{PerClientLimits, Ports};
use das_common::http::rest;
use das_common::http::server::{Door, Limits, serve_over};
use das_common::json_rpc::{self, RpcLimits};
use das_common::keyset::Keyset;
use das_common::rest_reader::hedge::HedgeOptions;
use das_common::rest_reader::strategy::StrategyOptions;
use das_common::rest_reader::{RestReader, RestReaderOptions};
use das_common::server::{Served, Server};
use das_common::signer::Signer;
use das_common::store_auth::{SignersError, StoreSigners};
use das_common::telemetry::{LogFormat, LogLevel, MetricsHandle, names, watch_process};
use das_common::tls::{ServerTls, TlsError};
use das_common::traces::TraceSettings;
use das_dashboard::DashboardError;
use das_keys::source::{self, KeyError};
use das_keys::storage_file::StorageKeyError;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admin::{self, Admin};
use crate::api::{ChunkedStores, DasMethods, RestPort, metrics_router};
use crate::archive::ConnectError;
use crate::custody::{Custody, CustodyError};
use crate::expiry::{self, ClockWatch};
use crate::health::{Health, Identity};
use crate::options::{LimitOptions, NodeOptions};
use crate::peer::{AddressError, PeerError, PeerHandle, PeerKeyFileError};
use crate::policy::RetentionPolicy;
use crate::retrieve::{Fetched, Retrieve, Times};
use crate::rotation::Rotation;
use crate::shared_cache::CacheError;
use crate::storage::sealing::{Keyring, SameId};
use crate::storage::{BatchStore, StorageError, StorageOptions};
use crate::store::{StorePath, StoresUnderWay};

mod archive;
mod chain;
mod custody;
mod dashboard;
mod reader;

/// Chunked stores that nothing arrives for are looked for this often.
const IDLE_ROUND: Duration = Duration::from_secs(5);

/// Disk, store and cache are looked at this often.
const MEASURE_ROUND: Duration = Duration::from_secs(15);

/// The ports that strangers read from.
const READ_PORTS: [&str; 2] = ["rest", "explorer"];

/// Why a member could not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The key.
    #[error("--data-availability.key: {0}")]
    Key(#[from] KeyError),
    /// Who may store.
    #[error(transparent)]
    Signers(#[from] SignersError),
    /// The parent chain.
    #[error(transparent)]
    ParentChain(#[from] ParentError),
    /// The index of batches.
    #[error("--data-availability.local-file-storage.data-dir: {0}")]
    Batches(#[from] OpenError),
    /// Links of the explorer.
    #[error("--explorer.transaction-link, .block-link: {0}")]
    Link(#[from] BadLink),
    /// The committee file.
    #[error("--committee.file: {0}")]
    Committee(#[from] CommitteeError),
    /// Too few members can be reached as peers.
    #[error(
        "--committee.file: {} has {got} members with a peer address, and {needed} must hold shards before a whole \
         copy may go", file.display()
    )]
    TooFewPeers {
        /// The committee file.
        file: PathBuf,
        /// Members with a peer address.
        got: usize,
        /// K.
        needed: u64,
    },
    /// The peer key.
    #[error("--peer.key-file: {0}")]
    PeerKey(#[from] PeerKeyFileError),
    /// An address of the peers.
    #[error("--peer.listen: {0}")]
    PeerAddress(#[from] AddressError),
    /// The peer layer.
    #[error("--peer.listen: {0}")]
    Peers(#[from] PeerError),
    /// Custody.
    #[error("custody: {0}")]
    Custody(#[from] CustodyError),
    /// The committee file is not that of this member.
    #[error("--committee.file: no member of {} has this key, {key}", file.display())]
    NotMember {
        /// The committee file.
        file: PathBuf,
        /// The public key in base64.
        key: String,
    },
    /// The database.
    #[error("--data-availability.local-file-storage.data-dir: {0}")]
    Storage(#[from] StorageError),
    /// A storage key.
    #[error("--storage-encryption: {0}")]
    StorageKey(#[from] StorageKeyError),
    /// Two storage keys.
    #[error("--storage-encryption.former-keys: {0}")]
    SameStorageKey(#[from] SameId),
    /// A storage key that is needed was not given.
    #[error("--storage-encryption.former-keys: {0}")]
    StorageKeyMissing(#[source] StorageError),
    /// Certificates and keys of our servers.
    #[error("--tls: {0}")]
    Tls(#[source] TlsError),
    /// Certificates and keys for what we call.
    #[error("--tls.outgoing: {0}")]
    OutgoingTls(#[source] TlsError),
    /// A URL to read from.
    #[error("--data-availability.rest-aggregator: {0}")]
    Endpoint(#[from] EndpointError),
    /// The dashboard.
    #[error("--data-availability.local-file-storage.data-dir: {0}")]
    Dashboard(#[from] DashboardError),
    /// The archive's options.
    #[error(transparent)]
    Archive(#[from] ConnectError),
    /// Batches are in an archive that is not named any more.
    #[error("--archive.url: {batches} batches are in {archive} only, and no archive is named")]
    ArchiveGone {
        /// How many.
        batches: u64,
        /// Where.
        archive: String,
    },
    /// Batches are in another archive than the one that is named.
    #[error("--archive.accept-move: {batches} batches are in {archive} only, and now {now} is named")]
    ArchiveMoved {
        /// How many.
        batches: u64,
        /// Where.
        archive: String,
        /// What is named.
        now: String,
    },
    /// The shared cache.
    #[error("--data-availability.redis-cache: {0}")]
    Cache(#[from] CacheError),
    /// A port.
    #[error("--{option}: cannot listen on {address}: {source}")]
    Bind {
        /// The option of the port.
        option: &'static str,
        /// The address.
        address: String,
        /// The system's report.
        source: io::Error,
    },
}

impl Coded for StartError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::Key(error) => error.fault(),
            Self::Signers(_) | Self::Endpoint(_) => fault::CONFIG_VALUE,
            Self::ParentChain(error) => error.fault(),
            Self::Tls(error) | Self::OutgoingTls(error) => error.fault(),
            Self::Batches(error) => error.fault(),
            Self::Link(_) => fault::CONFIG_VALUE,
            Self::Committee(_) => fault::CONFIG_COMMITTEE,
            Self::TooFewPeers { .. } => fault::PEER_TOO_FEW,
            Self::PeerKey(_) => fault::PEER_KEY,
            Self::PeerAddress(_) => fault::CONFIG_VALUE,
            Self::Peers(_) => fault::NET_BIND,
            Self::Custody(_) => fault::DB_RECORD,
            Self::NotMember { .. } => fault::KEY_NOT_MEMBER,
            Self::Storage(error) | Self::StorageKeyMissing(error) => error.fault(),
            Self::StorageKey(error) => error.fault(),
            Self::SameStorageKey(_) => fault::STORAGE_KEY_MALFORMED,
            Self::Dashboard(_) => fault::CONFIG_VALUE,
            Self::Archive(_) | Self::ArchiveGone { .. } | Self::ArchiveMoved { .. } => fault::ARCHIVE_OPTIONS,
            Self::Cache(_) => fault::CONFIG_VALUE,
            Self::Bind { .. } => fault::NET_BIND,
        }
    }
}

/// The addresses that a node listens on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bound {
    /// JSON-RPC.
    pub rpc: Option<Served>,
    /// REST.
    pub rest: Option<Served>,
    /// The batch explorer.
    pub explorer: Option<Served>,
    /// The dashboard.
    pub dashboard: Option<Served>,
    /// Metrics.
    pub metrics: Option<Served>,
    /// Whether other members are served as peers; their addresses are in [`Node::peer_addresses`].
    pub peers: bool,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("das-node ready:")?;
        let all = [
            ("rpc", self.rpc),
            ("rest", self.rest),
            ("explorer", self.explorer),
            ("dashboard", self.dashboard),
            ("metrics", self.metrics),
        ];
        for (name, served) in all {
            if let Some(served) = served {
                write!(f, " {name}={served}")?;
            }
        }
        Ok(())
    }
}

/// A running member or mirror.
pub struct Node {
    bound: Bound,
    /// None: a node that only reads from an archive.
    store: Option<Arc<BatchStore>>,
    custody: Option<Custody>,
    peers: Option<PeerHandle>,
    servers: JoinSet<io::Result<()>>,
    /// What clients may ask of each port.
    ports: Ports,
    /// Where reads of strangers are worked on, if not where stores are.
    readers: Option<Aside>,
    tls: Option<ServerTls>,
    /// What ends by itself when told to stop, and is waited for.
    background: JoinSet<()>,
    stop: CancellationToken,
}

impl Node {
    /// Opens the store and the ports. When this returns, requests are served.
    async fn open(options: &NodeOptions, metrics: MetricsHandle) -> Result<Self, StartError> {
        let alarms = Alarms::new();
        let tls = options.tls.server().map(ServerTls::open).transpose().map_err(StartError::Tls)?;
        let signer = source::open(&options.data_availability.key).await?;
        let public_key = signer.as_ref().map(|signer| signer.public_key().clone());
        let committee = load_committee(&options.committee.file)?;
        let files = &options.data_availability.local_file_storage;
        let debuggable = options.data_availability.key.debuggable;
        let keys = options.storage_encryption.keys().open(debuggable).await?;
        let storage = StorageOptions {
            directory: files.data_dir.clone(),
            segment_bytes: files.segment_size.0,
            reserve_bytes: reserve_bytes(options, committee.as_ref()),
            keys: Arc::new(Keyring::new(keys.active, keys.former)?),
        };
        warn_of_nitro_files(&files.data_dir);
        let store = Arc::new(open_store(&storage)?);
        let bucket = archive::open(options, Some(&store))?;
        if let (Some(committee), Some(signer)) = (&committee, &signer) {
            let former = || custody::former_committees(&store, options, committee);
            check_member(&options.committee.file, committee, former, signer.public_key())?;
        }
        let policy =
            RetentionPolicy { max_retention: files.max_retention, delete_expired: files.enable_expiry };
        let stop = CancellationToken::new();
        let chain = ParentChain::of(&options.parent_chain, &files.data_dir.join("chain"), &alarms).await?;
        let signers = Arc::new(load_signers(options, chain.as_ref())?);
        let retrieve = Retrieve::new(
            Some(Arc::clone(&store)),
            load_fallback(options, &alarms, &stop)?,
            options.data_availability.local_cache.max_bytes.0,
            fetched(signer.as_deref(), &storage, files.max_retention),
            alarms.clone(),
            Times::default(),
        );
        let rotation = Rotation {
            store: Arc::clone(&store),
            damage: retrieve.damage(),
            bytes_a_second: options.storage_encryption.rotation_speed.0,
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(rotation.run()));
        let archiving =
            archive::Base { options, store: Some(&store), retrieve: &retrieve, alarms: &alarms, stop: &stop };
        let archive = archive::start(&archiving, bucket)?;
        let health = Health::new(
            Some(Arc::clone(&store)),
            alarms.clone(),
            storage.reserve_bytes,
            policy,
            identity(signer.as_deref()),
        );
        let ports = Ports::default();
        let health = Arc::new(health.with_archive(archive.bucket).with_ports(ports.clone()));

        let clock = ClockWatch::start(Arc::clone(&store), alarms.clone(), files.accept_clock)?;
        let stores = StoresUnderWay::default();
        let base = custody::Base {
            options,
            store: &store,
            retrieve: &retrieve,
            alarms: &alarms,
            reserve_bytes: storage.reserve_bytes,
            stop: &stop,
        };
        let committee = committee.filter(|committee| custody::is_wanted(options, committee));
        let (custody, peers) = match (committee, &signer) {
            (Some(committee), Some(signer)) => {
                let started =
                    custody::start(&base, committee, Arc::clone(signer), clock, stores.clone()).await?;
                (Some(started.0), Some(started.1))
            }
            (committee, _) => {
                let forgetful = retrieve.clone();
                tokio::spawn(stop.clone().run_until_cancelled_owned(expiry::run(
                    Arc::clone(&store),
                    clock,
                    policy.delete_expired,
                    files.expiry_interval,
                    move |hash: &_| forgetful.forget(hash),
                )));
                let peers = match committee {
                    Some(committee) => custody::start_mirror(&base, committee).await?,
                    None => None,
                };
                (None, peers)
            }
        };

        let mut background = JoinSet::new();
        let mut index = None;
        if let Some(chain) = &chain {
            let follower = chain::Follower {
                options,
                chain,
                store: &store,
                retrieve: &retrieve,
                custody: custody.clone(),
                alarms: &alarms,
            };
            index = chain::follow(follower, &mut background, &stop)?;
            index.iter().for_each(|index| health.follows(Arc::clone(index)));
        }
        tokio::spawn(stop.clone().run_until_cancelled_owned(measure(Arc::clone(&health), retrieve.clone())));

        let bound = Bound { peers: peers.is_some(), ..Bound::default() };
        if let Some(tls) = tls.clone() {
            background.spawn(tls.watch(alarms.clone(), stop.clone()));
        }
        let (servers, readers) = (JoinSet::new(), options.limits.reads.threads());
        let mut node = Self {
            bound,
            store: Some(Arc::clone(&store)),
            custody,
            peers,
            servers,
            ports,
            readers,
            tls,
            background,
            stop,
        };
        if let Some(signer) = signer.filter(|_| options.enable_rpc) {
            let path = StorePath::new(
                Arc::clone(&store),
                Arc::clone(&signers),
                signer,
                policy.max_retention,
                retrieve.damage(),
            )
            .with_custody(stores, node.custody.clone())
            .with_archive(archive.required)
            .with_shared_cache(retrieve.shared());
            let methods = node.methods(options, path, signers, Arc::clone(&health), policy);
            let router = json_rpc::router(methods, rpc_limits(options));
            let address = listen("rpc-port", &options.rpc_addr, options.rpc_port).await?;
            node.bound.rpc = Some(node.serve("rpc", address, router, options));
        }
        if let (Some(chain), Some(index), true) = (&chain, index, options.explorer.enable) {
            let answers =
                AnswerBudget::new(bytes_of(options.limits.max_answer_memory), AnswerBudget::PATIENCE);
            let named = load_committee(&options.committee.file)?;
            let router = chain::pages(options, chain, named.as_ref(), index, retrieve.clone(), answers)?;
            let server = &options.explorer;
            let address = listen("explorer.port", &server.addr, server.port).await?;
            node.bound.explorer = Some(node.serve("explorer", address, router, options));
        }
        if options.admin.socket {
            let admin = Admin::of_store(Arc::clone(&store), node.stop.clone());
            node.open_socket(admin.of_node(retrieve.clone(), node.custody.clone()), options);
        }
        if options.enable_rest {
            let answers =
                AnswerBudget::new(bytes_of(options.limits.max_answer_memory), AnswerBudget::PATIENCE);
            let port = RestPort::new(retrieve, Arc::clone(&health), policy);
            let port = port.with_custody(node.custody.clone());
            let router = rest::router(Arc::new(port), answers);
            let address = listen("rest-port", &options.rest_addr, options.rest_port).await?;
            node.bound.rest = Some(node.serve("rest", address, router, options));
        }
        tokio::spawn(watch_process(
            metrics.clone(),
            "das-node",
            env!("CARGO_PKG_VERSION"),
            options.metrics_server.update_interval,
            node.stop.clone(),
        ));
        if options.dashboard.enable {
            let router =
                node.dashboard(options, public_key.as_ref(), Arc::clone(&health), metrics.clone())?;
            let server = &options.dashboard;
            let address = listen("dashboard.port", &server.addr, server.port).await?;
            node.bound.dashboard = Some(node.serve("dashboard", address, router, options));
        }
        if options.metrics {
            let server = &options.metrics_server;
            let address = listen("metrics-server.port", &server.addr, server.port).await?;
            node.bound.metrics =
                Some(node.serve("metrics", address, metrics_router(metrics, health), options));
        }
        Ok(node)
    }

    fn methods(
        &self,
        options: &NodeOptions,
        path: StorePath,
        signers: Arc<StoreSigners>,
        health: Arc<Health>,
        policy: RetentionPolicy,
    ) -> Arc<DasMethods> {
        let chunked = Arc::new(ChunkedStores::new(signers, chunked_bounds(options)));
        let idle = Arc::clone(&chunked);
        tokio::spawn(self.stop.clone().run_until_cancelled_owned(async move {
            loop {
                tokio::time::sleep(IDLE_ROUND).await;
                idle.drop_idle();
            }
        }));
        Arc::new(DasMethods::new(path, chunked, health, policy, self.custody.clone()))
    }

    fn serve(
        &mut self,
        name: &'static str,
        (listener, address): (TcpListener, SocketAddr),
        router: axum::Router,
        options: &NodeOptions,
    ) -> Served {
        let clients = client_limits(&options.limits, name).map(|limits| self.ports.open(name, limits));
        let router = match &clients {
            Some(clients) => clients.around(router),
            None => router,
        };
        let timeouts = &options.rpc_server_timeouts;
        let limits = Limits {
            max_connections: options.limits.max_connections,
            header_timeout: timeouts.read_header_timeout,
            idle_timeout: timeouts.idle_timeout,
            answer_pace: Pace { grace: timeouts.write_timeout, ..Pace::default() },
            drain: options.limits.shutdown_grace,
            ..Limits::default()
        };
        let tls = self.tls.as_ref().filter(|_| options.tls.covers(name));
        let tls = tls.map(|tls| if name == "rpc" { tls.for_known() } else { tls.for_everybody() });
        let served = Served { address, tls: tls.is_some() };
        let serving = serve_over(Door { tls, clients }, listener, router, limits, self.stop.clone());
        match &self.readers {
            Some(readers) if READ_PORTS.contains(&name) => self.servers.spawn_on(serving, &readers.handle()),
            _ => self.servers.spawn(serving),
        };
        served
    }

    /// Opens the socket for dastool. A file system without sockets is no reason not to serve.
    fn open_socket(&mut self, admin: Admin, options: &NodeOptions) {
        let directory = options.data_availability.local_file_storage.data_dir.clone();
        match admin::bind(&directory) {
            Ok(listener) => {
                let served = admin::serve(listener, directory, admin, options.limits.shutdown_grace);
                self.servers.spawn(served);
            }
            Err(error) => {
                warn!(%error, "no socket for dastool in {}: it works while the node is stopped", directory.display());
            }
        }
    }

    /// Where it listens for other members.
    pub async fn peer_addresses(&self) -> Vec<String> {
        let Some(peers) = &self.peers else { return Vec::new() };
        peers.listening().await.iter().map(ToString::to_string).collect()
    }
}

impl Server for Node {
    type Options = NodeOptions;
    type StartError = StartError;

    fn logging(options: &NodeOptions) -> (LogLevel, LogFormat, &str) {
        (options.log_level, options.log_type, &options.log_filter)
    }

    fn traces(options: &NodeOptions) -> Option<TraceSettings<'_>> {
        Some(TraceSettings {
            options: &options.traces,
            tls: options.tls.outgoing.files(),
            program: NodeOptions::NAME,
            version: NodeOptions::VERSION,
        })
    }

    async fn start(options: &NodeOptions, metrics: MetricsHandle) -> Result<Self, StartError> {
        if options.is_read_node() {
            return reader::open(options, metrics).await;
        }
        Self::open(options, metrics).await
    }

    fn bound(&self) -> impl fmt::Display {
        self.bound
    }

    /// Stops accepting, lets requests in flight finish, then closes the store.
    async fn shut_down(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.servers.join_next().await {
            if let Err(error) = ended {
                warn!(%error, "a server ended unexpectedly");
            }
        }
        while self.background.join_next().await.is_some() {}
        if let Some(peers) = self.peers.take() {
            peers.stop().await;
        }
        if let Some(custody) = self.custody.take()
            && tokio::task::spawn_blocking(move || custody.join()).await.is_err()
        {
            warn!("custody did not end in order; nothing that was stated is lost");
        }
        let Some(store) = self.store else { return };
        if tokio::task::spawn_blocking(move || store.close()).await.is_err() {
            warn!("the store could not be closed in order; nothing that was signed is lost");
        }
    }
}

/// A key that is missing is no fault of the data directory.
fn open_store(options: &StorageOptions) -> Result<BatchStore, StartError> {
    BatchStore::open(options).map_err(|error| match error {
        error if error.is_missing_key() => StartError::StorageKeyMissing(error),
        error => StartError::Storage(error),
    })
}

/// Looks at disk, store and cache now and then.
async fn measure(health: Arc<Health>, retrieve: Retrieve) {
    loop {
        // An alarm does not wait for somebody to ask. The outcome is in the alarms.
        let _ = health.can_store().await;
        let (health, retrieve) = (Arc::clone(&health), retrieve.clone());
        let look = tokio::task::spawn_blocking(move || {
            health.measure();
            metrics::gauge!(names::CACHE_BYTES).set(retrieve.cached_bytes() as f64);
        });
        if let Err(error) = look.await {
            warn!(%error, "the store could not be measured");
        }
        tokio::time::sleep(MEASURE_ROUND).await;
    }
}

async fn listen(
    option: &'static str,
    host: &str,
    port: u16,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let bound = async {
        let listener = TcpListener::bind((host, port)).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound.await.map_err(|source| StartError::Bind { option, address: format!("{host}:{port}"), source })
}

/// What clients may ask of a port; none for those that strangers do not see.
fn client_limits(limits: &LimitOptions, port: &str) -> Option<PerClientLimits> {
    let of = |client: &PerClientOptions| client.limits(&limits.trusted_proxies, limits.max_connections);
    match port {
        "rpc" => Some(of(&limits.rpc_client)),
        "rest" | "explorer" => Some(limits.reads.around(of(&limits.rest_client))),
        _ => None,
    }
}

fn rpc_limits(options: &NodeOptions) -> RpcLimits {
    RpcLimits {
        body_limit: options.rpc_body_limit(),
        body_pace: Pace { grace: options.rpc_server_timeouts.read_timeout, ..Pace::default() },
        bodies_in_flight: bytes_of(options.limits.max_request_memory),
        answers_in_flight: bytes_of(options.limits.max_answer_memory),
        ..RpcLimits::default()
    }
}

fn bytes_of(size: ByteSize) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}

fn chunked_bounds(options: &NodeOptions) -> Bounds {
    let limits = &options.limits;
    Bounds {
        max_pending: limits.max_pending_messages,
        max_message: limits.max_message_size.0,
        max_pending_bytes: limits.max_pending_bytes.0,
        idle: limits.pending_idle_timeout,
        ..Bounds::default()
    }
}

/// With a committee file, the key must be that of a member; a mirror has none.
fn load_committee(file: &Path) -> Result<Option<Committee>, StartError> {
    if file.as_os_str().is_empty() { Ok(None) } else { Ok(Some(Committee::load(file)?)) }
}

/// A key belongs to the committee file, or to a former one of which there are shards here: then its member is leaving.
fn check_member(
    file: &Path,
    committee: &Committee,
    former: impl FnOnce() -> Result<Vec<Committee>, StorageError>,
    key: &PublicKey,
) -> Result<(), StartError> {
    if let Some(index) = committee.index_of(key) {
        info!(member = %committee.members()[index].name, index, "member of the committee");
        return Ok(());
    }
    if former()?.iter().any(|committee| committee.index_of(key).is_some()) {
        info!(
            "this member leaves: what it holds stays readable; freeToGo at /custody says when it may be ended"
        );
        return Ok(());
    }
    let key = STANDARD.encode_to_string(key.to_bytes());
    Err(StartError::NotMember { file: file.to_owned(), key })
}

fn load_signers(options: &NodeOptions, chain: Option<&ParentChain>) -> Result<StoreSigners, StartError> {
    let data = &options.data_availability;
    if data.disable_signature_checking {
        return Ok(StoreSigners::unchecked());
    }
    let mut signers =
        StoreSigners::from_options(&data.allowed_signers, &data.extra_signature_checking_public_key)?;
    if let Some(chain) = chain {
        signers = signers.with_registry(chain.registry());
    }
    if !signers.is_configured() && options.enable_rpc {
        warn!(code = fault::STORE_NO_METHOD.code, "{}", fault::STORE_NO_METHOD);
    }
    Ok(signers)
}

fn load_fallback(
    options: &NodeOptions,
    alarms: &Alarms,
    stop: &CancellationToken,
) -> Result<Option<RestReader>, StartError> {
    let from = &options.data_availability.rest_aggregator.servers;
    if !from.enable {
        return Ok(None);
    }
    let reader = RestReader::new(
        RestReaderOptions {
            urls: from.urls.clone(),
            online_url_list: Some(from.online_url_list.clone()).filter(|url| !url.is_empty()),
            online_url_list_fetch_interval: from.online_url_list_fetch_interval,
            strategy: StrategyOptions {
                explore_reads: from.simple_explore_exploit_strategy.explore_iterations,
                exploit_reads: from.simple_explore_exploit_strategy.exploit_iterations,
                remembered_reads: from.max_per_endpoint_stats,
            },
            hedge: HedgeOptions { max_wait: from.wait_before_try_next, ..HedgeOptions::default() },
            ..RestReaderOptions::default()
        },
        HttpClient::with_watched_tls(ClientLimits::default(), &options.tls.outgoing.files(), alarms)
            .map_err(StartError::OutgoingTls)?,
    )?;
    tokio::spawn(reader.keep_list_fresh(stop.clone()));
    Ok(Some(reader))
}

/// A member's disk is for what it signs for. A mirror leaves the reserve free twice, so that its index and its expiry have
/// all of it.
fn fetched(signer: Option<&dyn Signer>, storage: &StorageOptions, retention: Duration) -> Fetched {
    match signer {
        Some(_) => Fetched::Heals,
        None => Fetched::Fills { free_above: storage.reserve_bytes.saturating_mul(2), retention },
    }
}

fn identity(signer: Option<&dyn Signer>) -> Identity {
    let Some(signer) = signer else { return Identity::default() };
    let key = signer.public_key().clone();
    Identity {
        public_key: Some(STANDARD.encode_to_string(key.to_bytes())),
        keyset_hash: Some(format!("0x{}", Keyset::single(key).hash())),
    }
}

/// What stores leave free: where batches become shards, enough for that to go on on a disk that is full.
fn reserve_bytes(options: &NodeOptions, committee: Option<&Committee>) -> u64 {
    let files = &options.data_availability.local_file_storage;
    if !committee.is_some_and(|committee| custody::is_wanted(options, committee)) {
        return files.min_free.0;
    }
    // The folder may be made only later; then it is on the disk of the first one above it that is there.
    let disk = files.data_dir.ancestors().find_map(|folder| {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        rustix::fs::statvfs(folder).ok()
    });
    let disk = disk.map_or(0, |disk| disk.f_blocks.saturating_mul(disk.f_frsize));
    files.min_free.0.max((disk / 100).saturating_mul(options.custody.reserve_percent.into()))
}

/// The folders of Nitro's file storage may be in the data directory of a member that was moved.
fn warn_of_nitro_files(directory: &Path) {
    if directory.join("by-data-hash").is_dir() {
        let folder = directory.display();
        info!(
            "batches in Nitro's file layout are beside ours in {folder}; they are not served from there. To take them in: \
             dastool import --from {folder} --data-dir {folder}"
        );
    }
}

#[cfg(test)]
mod tests {
    use das_common::bls::SecretKey;

    use super::*;

    #[test]
    fn a_committee_file_is_that_of_the_key_or_the_start_fails() {
        let key = SecretKey::from_bytes(&[7; 32]).unwrap();
        let public = STANDARD.encode_to_string(key.public_key().to_bytes());
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("committee.toml");
        let text = format!(
            "honest-members = 1\ndata-shards = 1\n[[member]]\nname = \"alice\"\npublic-key = \"{public}\"\n\
             rpc = \"http://127.0.0.1:1\"\nrest = \"http://127.0.0.1:2\"\n"
        );
        std::fs::write(&file, &text).unwrap();
        let other = SecretKey::from_bytes(&[8; 32]).unwrap().public_key().clone();
        let committee = load_committee(&file).unwrap().unwrap();
        let check =
            |former: Vec<Committee>, key: &PublicKey| check_member(&file, &committee, || Ok(former), key);
        check(Vec::new(), &key.public_key()).unwrap();
        let error = check(Vec::new(), &other).unwrap_err();
        assert_eq!(error.fault(), fault::KEY_NOT_MEMBER);
        let former = text.replace(&public, &STANDARD.encode_to_string(other.to_bytes()));
        check(vec![Committee::parse(&former).unwrap()], &other).expect("a member that leaves may stay");
        let missing = load_committee(&dir.path().join("nothing")).unwrap_err();
        assert_eq!(missing.fault(), fault::CONFIG_COMMITTEE);
        assert!(load_committee(Path::new("")).unwrap().is_none());
    }
}
