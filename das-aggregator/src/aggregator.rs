//! An aggregator, put together, started, and shut down in order.

mod chain;
mod start_error;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use das_batches::index::Index;
use das_chain::parent::ParentChain;
use das_common::alarm::Alarms;
use das_common::aside::Aside;
use das_common::chunked::{Bounds, PendingStores};
use das_common::committee::Committee;
use das_common::config::Program as _;
use das_common::config::sections::{PerClientOptions, RestAggregatorOptions, ServerTimeouts, given};
use das_common::http::answers::AnswerBudget;
use das_common::http::body::Pace;
use das_common::http::client::{ClientLimits, Endpoint, HttpClient};
use das_common::http::per_client::{PerClientLimits, Ports};
use das_common::http::rest;
use das_common::http::server::{Door, Limits, serve_over};
use das_common::json_rpc::{self, RpcLimits};
use das_common::rest_reader::hedge::HedgeOptions;
use das_common::rest_reader::strategy::StrategyOptions;
use das_common::rest_reader::{RestReader, RestReaderOptions};
use das_common::server::{Served, Server};
use das_common::store_auth::{StoreKey, StoreSigners};
use das_common::telemetry::{LogFormat, LogLevel, MetricsHandle, watch_process};
use das_common::tls::{ServerTls, TlsOptions};
use das_common::traces::TraceSettings;
use das_dashboard::Dashboard;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use zeroize::Zeroizing;

pub use self::start_error::StartError;
use crate::api::metrics::metrics_router;
use crate::api::rest::RestSource;
use crate::api::rpc::DasMethods;
use crate::api::status::{StatusSource, unix_now};
use crate::canary::{Canary, CanaryTimes};
use crate::certificates::Certificates;
use crate::explorer::{self, Shown};
use crate::fan_out::{FanOut, FanOutLimits};
use crate::member::Member;
use crate::options::{AggregatorOptions, LimitOptions, ProviderServerOptions};
use crate::page::Page;
use crate::post::service::Poster;
use crate::post::status::events;
use crate::provider::gate::{Gate, guarded};
use crate::provider::keysets::Keysets;
use crate::provider::token::TokenSecret;
use crate::provider::{ProviderLimits, ProviderMethods, Writer};
use crate::read::{CacheLimits, Reads};
use crate::reports::Reports;
use crate::retry::Patience;
use crate::store::{Admission, Stores};
use crate::watch::Watch;

/// Chunked stores that nothing arrives for are looked for this often.
const IDLE_ROUND: Duration = Duration::from_secs(5);
/// The ports that strangers read from.
const READ_PORTS: [&str; 2] = ["rest", "explorer"];
/// A batch that is read may be larger than what this aggregator takes: another one may have taken it.
const MAX_READ_BYTES: usize = 64 << 20;

/// The addresses that an aggregator listens on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bound {
    /// JSON-RPC.
    pub rpc: Option<Served>,
    /// REST.
    pub rest: Option<Served>,
    /// The provider server.
    pub provider: Option<Served>,
    /// The batch explorer.
    pub explorer: Option<Served>,
    /// The dashboard.
    pub dashboard: Option<Served>,
    /// Metrics.
    pub metrics: Option<Served>,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("das-aggregator ready:")?;
        let Self { rpc, rest, provider, explorer, dashboard, metrics } = *self;
        let all = [
            ("rpc", rpc),
            ("rest", rest),
            ("provider", provider),
            ("explorer", explorer),
            ("dashboard", dashboard),
            ("metrics", metrics),
        ];
        for (name, served) in all {
            if let Some(served) = served {
                write!(f, " {name}={served}")?;
            }
        }
        Ok(())
    }
}

/// A running aggregator.
pub struct Aggregator {
    bound: Bound,
    fan_out: FanOut,
    limits: Limits,
    servers: JoinSet<io::Result<()>>,
    /// What clients may ask of each port.
    client_limits: LimitOptions,
    ports: Ports,
    /// Where reads of strangers are worked on, if not where stores are.
    readers: Option<Aside>,
    tls: Option<Tls>,
    /// What ends by itself when told to stop, and is waited for.
    background: JoinSet<()>,
    stop: CancellationToken,
}

/// The certificate of the servers, and which of them it is for.
struct Tls {
    server: ServerTls,
    options: TlsOptions,
}

impl Tls {
    fn open(options: &TlsOptions) -> Result<Option<Self>, StartError> {
        let Some(files) = options.server() else { return Ok(None) };
        let server = ServerTls::open(files).map_err(StartError::Tls)?;
        Ok(Some(Self { server, options: options.clone() }))
    }
}

impl Aggregator {
    /// Reads committee and keys, and opens the ports. When this returns, requests are served.
    async fn open(options: &AggregatorOptions, metrics: MetricsHandle) -> Result<Self, StartError> {
        let tls = Tls::open(&options.tls)?;
        let committee = load_committee(options)?;
        let key = load_store_key(options)?.map(Arc::new);
        let (alarms, stop) = (Alarms::new(), CancellationToken::new());
        let parent = chain::open(options, &alarms).await?;
        let admission = load_admission(options, parent.as_ref())?;
        let keyset = committee.keyset().hash();
        if let Some(parent) = &parent {
            chain::watch_keyset(parent, keyset, options.keyset_check, &alarms, &stop).await?;
            // Who follows the batches sees the rest too.
            if !options.explorer.enable {
                tokio::spawn(parent.clone().watch(stop.clone()));
            }
        }
        let files = options.tls.outgoing.files();
        let http = HttpClient::with_watched_tls(ClientLimits::default(), &files, &alarms)
            .map_err(StartError::OutgoingTls)?;
        let fan_out = fan_out(options, &committee, &http)?;
        let urls = committee.members().iter().filter_map(|member| member.rest.as_ref());
        let endpoints = urls.map(|url| Endpoint::parse(url.as_str())).collect::<Result<_, _>>()?;
        let rests = committee.members().iter().map(|member| {
            let rest = member.rest.as_ref().map(|url| Endpoint::parse(url.as_str())).transpose()?;
            Ok((member.name.clone(), rest))
        });
        let rests = rests.collect::<Result<Vec<_>, StartError>>()?;
        let certificates = Certificates::start(&fan_out, endpoints, http.clone(), &stop);
        let reading = reader_options(options, &committee);
        if options.require_tls {
            let rpc = committee.members().iter().map(|member| member.rpc.to_string());
            refuse_plain(rpc.chain(reading.urls.iter().cloned()).chain(reading.online_url_list.clone()))?;
        }
        let reader = RestReader::new(reading, http.clone())?;
        tokio::spawn(reader.keep_list_fresh(stop.clone()));
        let reads = Reads::new(reader, cache_limits(options));
        let patience = options.data_availability.request_timeout;
        let watch = Watch::new(fan_out.clone(), alarms.clone(), patience, key.clone());
        tokio::spawn(watch.clone().run(stop.clone()));
        let reports = Reports::new(rests, http.clone(), watch.clone());
        tokio::spawn(reports.clone().run(stop.clone()));
        let stores = Stores::new(
            fan_out.clone(),
            reads.clone(),
            admission,
            key.clone(),
            certificates.clone(),
            alarms.clone(),
        );
        let poster = chain::poster(options, parent.as_ref(), keyset, &stores, key.clone(), &alarms)?;
        let canary = key.clone().filter(|_| options.canary.enable).map(|key| {
            let times = CanaryTimes {
                interval: options.canary.interval,
                retention: options.canary.retention,
                patience: options.data_availability.request_timeout,
            };
            let (alarms, reports) = (alarms.clone(), reports.clone());
            Canary::new(stores.clone(), fan_out.clone(), reports, http, key, alarms, times)
        });
        canary.iter().for_each(|canary| drop(tokio::spawn(canary.clone().run(stop.clone()))));
        let mut status = StatusSource {
            fan_out: fan_out.clone(),
            watch: watch.clone(),
            reports,
            recent: stores.recent().clone(),
            canary,
            reads: reads.clone(),
            certificates,
            poster: poster.clone(),
            followed: None,
            ports: Ports::default(),
            alarms,
            started: unix_now(),
        };
        info!(
            %keyset,
            members = committee.members().len(),
            needed = committee.threshold(),
            "committee"
        );

        let (bound, servers) = (Bound::default(), JoinSet::new());
        let drain = options.limits.shutdown_grace;
        let limits = Limits { max_connections: options.limits.max_connections, drain, ..Limits::default() };
        let mut background = JoinSet::new();
        if let Some(tls) = &tls {
            background.spawn(tls.server.clone().watch(status.alarms.clone(), stop.clone()));
        }
        let mut aggregator = Self {
            bound,
            fan_out,
            limits,
            servers,
            client_limits: options.limits.clone(),
            ports: status.ports.clone(),
            readers: options.limits.reads.threads(),
            tls,
            background,
            stop,
        };
        let keysets = load_keysets(options, &committee, parent.as_ref())?;
        if let Some(parent) = parent.as_ref().filter(|_| options.explorer.enable) {
            let shown = Shown {
                chain: parent,
                committee: &committee,
                keysets: keysets.clone(),
                reads: reads.clone(),
                alarms: &status.alarms,
            };
            let (place, index) = aggregator.explorer(options, shown).await?;
            status.followed = Some(index);
            aggregator.bound.explorer = Some(place);
        }
        if options.provider_server.enable {
            let provider = provider_methods(options, keysets, stores.clone(), reads, key)?;
            let place = aggregator.provider(options, provider).await?;
            aggregator.bound.provider = Some(place);
        }
        if options.enable_rpc {
            let methods = aggregator.methods(options, stores, watch, poster.clone());
            let limits = rpc_limits(options, options.rpc_body_limit(), &options.rpc_server_timeouts);
            let place = listen("rpc-port", &options.rpc_addr, options.rpc_port).await?;
            let mut router = json_rpc::router(methods, limits);
            if let Some(poster) = &poster {
                router = router.merge(events(poster.clone(), aggregator.stop.clone()));
            }
            aggregator.bound.rpc = Some(aggregator.serve("rpc", place, router, &options.rpc_server_timeouts));
        }
        if options.enable_rest {
            let place = listen("rest-port", &options.rest_addr, options.rest_port).await?;
            let answers =
                AnswerBudget::new(bytes_of(options.limits.max_answer_memory.0), AnswerBudget::PATIENCE);
            let router = rest::router(Arc::new(RestSource(status.clone())), answers);
            aggregator.bound.rest =
                Some(aggregator.serve("rest", place, router, &options.rest_server_timeouts));
        }
        if let Some(poster) = poster {
            aggregator.background.spawn(poster.run(aggregator.stop.clone()));
        }
        tokio::spawn(watch_process(
            metrics.clone(),
            "das-aggregator",
            env!("CARGO_PKG_VERSION"),
            options.metrics_server.update_interval,
            aggregator.stop.clone(),
        ));
        if options.dashboard.enable {
            let place = aggregator.dashboard(options, metrics.clone(), status.clone()).await?;
            aggregator.bound.dashboard = Some(place);
        }
        if options.metrics {
            let server = &options.metrics_server;
            let place = listen("metrics-server.port", &server.addr, server.port).await?;
            let router = metrics_router(metrics, status);
            aggregator.bound.metrics =
                Some(aggregator.serve("metrics", place, router, &options.rest_server_timeouts));
        }
        Ok(aggregator)
    }

    fn methods(
        &self,
        options: &AggregatorOptions,
        stores: Stores,
        watch: Watch,
        poster: Option<Poster>,
    ) -> Arc<DasMethods> {
        let pending = PendingStores::new(chunked_bounds(options));
        let methods = Arc::new(DasMethods::new(stores, watch, pending).with_poster(poster));
        let idle = Arc::clone(&methods);
        self.every_idle_round(move || idle.drop_idle());
        methods
    }

    fn every_idle_round(&self, work: impl Fn() + Send + 'static) {
        tokio::spawn(self.stop.clone().run_until_cancelled_owned(async move {
            loop {
                tokio::time::sleep(IDLE_ROUND).await;
                work();
            }
        }));
    }

    async fn explorer(
        &mut self,
        options: &AggregatorOptions,
        shown: Shown<'_>,
    ) -> Result<(Served, Arc<Index>), StartError> {
        let server = &options.explorer;
        let place = listen("explorer.port", &server.addr, server.port).await?;
        let answers = AnswerBudget::new(bytes_of(options.limits.max_answer_memory.0), AnswerBudget::PATIENCE);
        let (background, stop) = (&mut self.background, &self.stop);
        let (router, index) = explorer::start(server, &options.data_dir, shown, answers, background, stop)?;
        Ok((self.serve("explorer", place, router, &options.rest_server_timeouts), index))
    }

    async fn dashboard(
        &mut self,
        options: &AggregatorOptions,
        metrics: MetricsHandle,
        status: StatusSource,
    ) -> Result<Served, StartError> {
        let server = &options.dashboard;
        let place = listen("dashboard.port", &server.addr, server.port).await?;
        let bound = self.bound.explorer.map(|served| format!("{served}/"));
        let explorer = bound
            .map(|bound| if server.explorer_link.is_empty() { bound } else { server.explorer_link.clone() });
        let dashboard = Dashboard::open(Page::new(status, explorer), metrics, given(&options.data_dir))?;
        let router = dashboard.routes(self.stop.clone());
        self.background.spawn(dashboard.run(self.stop.clone()));
        Ok(self.serve("dashboard", place, router, &options.rest_server_timeouts))
    }

    async fn provider(
        &mut self,
        options: &AggregatorOptions,
        methods: ProviderMethods,
    ) -> Result<Served, StartError> {
        let server = &options.provider_server;
        let gate = load_gate(server)?;
        let place = listen("provider-server.port", &server.addr, server.port).await?;
        let methods = Arc::new(methods);
        let idle = Arc::clone(&methods);
        self.every_idle_round(move || idle.drop_idle());
        let limits = rpc_limits(options, server.body_limit(), &server.server_timeouts);
        let open = json_rpc::router(methods, limits);
        let router = match gate {
            Some(gate) => guarded(gate, open),
            None => open,
        };
        Ok(self.serve("provider", place, router, &server.server_timeouts))
    }

    fn serve(
        &mut self,
        name: &'static str,
        (listener, address): (TcpListener, SocketAddr),
        router: axum::Router,
        timeouts: &ServerTimeouts,
    ) -> Served {
        let clients = client_limits(&self.client_limits, name).map(|limits| self.ports.open(name, limits));
        let router = match &clients {
            Some(clients) => clients.around(router),
            None => router,
        };
        let limits = Limits {
            header_timeout: timeouts.read_header_timeout,
            idle_timeout: timeouts.idle_timeout,
            answer_pace: Pace { grace: timeouts.write_timeout, ..Pace::default() },
            ..self.limits
        };
        let tls = self.tls.as_ref().filter(|tls| tls.options.covers(name)).map(|tls| match name {
            "rpc" => tls.server.for_known(),
            _ => tls.server.for_everybody(),
        });
        let served = Served { address, tls: tls.is_some() };
        let serving = serve_over(Door { tls, clients }, listener, router, limits, self.stop.clone());
        match &self.readers {
            Some(readers) if READ_PORTS.contains(&name) => self.servers.spawn_on(serving, &readers.handle()),
            _ => self.servers.spawn(serving),
        };
        served
    }
}

impl Server for Aggregator {
    type Options = AggregatorOptions;
    type StartError = StartError;

    fn logging(options: &AggregatorOptions) -> (LogLevel, LogFormat, &str) {
        (options.log_level, options.log_type, &options.log_filter)
    }

    fn traces(options: &AggregatorOptions) -> Option<TraceSettings<'_>> {
        Some(TraceSettings {
            options: &options.traces,
            tls: options.tls.outgoing.files(),
            program: AggregatorOptions::NAME,
            version: AggregatorOptions::VERSION,
        })
    }

    async fn start(options: &AggregatorOptions, metrics: MetricsHandle) -> Result<Self, StartError> {
        Self::open(options, metrics).await
    }

    fn bound(&self) -> impl fmt::Display {
        self.bound
    }

    /// Stops accepting, lets requests in flight finish, then ends what is still under way for late members.
    async fn shut_down(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.servers.join_next().await {
            if let Err(error) = ended {
                warn!(%error, "a server ended unexpectedly");
            }
        }
        while self.background.join_next().await.is_some() {}
        let (bytes, batches) = self.fan_out.late();
        if batches > 0 {
            warn!(batches, bytes, "some members are left without batches that others certified");
        }
        self.fan_out.stop();
    }
}

/// Every URL is https, if TLS is required.
fn refuse_plain(mut urls: impl Iterator<Item = String>) -> Result<(), StartError> {
    match urls.find(|url| url.starts_with("http://")) {
        Some(url) => Err(StartError::PlainUrl { url }),
        None => Ok(()),
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

/// The committee file, or Nitro's options, which must agree with it where both are given.
fn load_committee(options: &AggregatorOptions) -> Result<Committee, StartError> {
    let nitro = &options.data_availability.rpc_aggregator;
    let backends = serde_json::to_string(&nitro.backends.0).expect("a list of texts has a JSON form");
    let backends = (!nitro.backends.0.is_empty()).then_some(backends.as_str());
    let Some(file) = given(&options.committee.file) else {
        return Ok(Committee::from_nitro(nitro.assumed_honest, backends.unwrap_or("[]"))?);
    };
    let committee = Committee::load(file)?;
    let assumed_honest = (nitro.assumed_honest != 0).then_some(nitro.assumed_honest);
    committee.check_agrees_with_nitro(assumed_honest, backends)?;
    Ok(committee)
}

fn load_store_key(options: &AggregatorOptions) -> Result<Option<StoreKey>, StartError> {
    let key = &options.data_availability.store_key;
    if !key.hex.is_empty() {
        let parsed = StoreKey::from_hex(key.hex.expose().trim());
        return parsed.map(Some).map_err(|source| StartError::StoreKey { option: "hex", source });
    }
    let Some(path) = given(&key.file) else { return Ok(None) };
    let text = std::fs::read_to_string(path)
        .map_err(|source| StartError::StoreKeyFile { path: path.to_owned(), source })?;
    let text = Zeroizing::new(text);
    let parsed = StoreKey::from_hex(text.trim());
    parsed.map(Some).map_err(|source| StartError::StoreKey { option: "file", source })
}

fn load_admission(options: &AggregatorOptions, chain: Option<&ParentChain>) -> Result<Admission, StartError> {
    let data = &options.data_availability;
    if data.disable_signature_checking {
        return Ok(Admission::Anybody);
    }
    let mut signers =
        StoreSigners::from_options(&data.allowed_signers, &data.extra_signature_checking_public_key)?;
    if let Some(chain) = chain {
        signers = signers.with_registry(chain.registry());
    }
    Ok(if signers.is_configured() { Admission::Signers(signers) } else { Admission::Members })
}

fn load_keysets(
    options: &AggregatorOptions,
    committee: &Committee,
    chain: Option<&ParentChain>,
) -> Result<Keysets, StartError> {
    let chain = chain.map(|chain| chain.keysets.clone());
    let mut keysets = Keysets::of(committee.keyset()).with_chain(chain);
    for file in &options.provider_server.keyset_files {
        let hash = keysets.add_file(Path::new(file))?;
        info!(file, keyset = %hash, "keyset of a former committee");
    }
    Ok(keysets)
}

fn provider_methods(
    options: &AggregatorOptions,
    keysets: Keysets,
    stores: Stores,
    reads: Reads,
    key: Option<Arc<StoreKey>>,
) -> Result<ProviderMethods, StartError> {
    let server = &options.provider_server;
    let writer = match key.filter(|_| server.enable_da_writer) {
        Some(key) => Some(Writer::new(stores, key, PendingStores::new(chunked_bounds(options)))),
        None if server.enable_da_writer => return Err(StartError::WriterWithoutKey),
        None => None,
    };
    let header_bytes = const_hex::decode(&server.supported_header_bytes)
        .map_err(|_| StartError::HeaderBytes { got: server.supported_header_bytes.clone() })?;
    let limits = ProviderLimits { header_bytes, max_batch_bytes: options.data_availability.max_batch_size };
    Ok(ProviderMethods::new(limits, reads, keysets, writer))
}

fn load_gate(server: &ProviderServerOptions) -> Result<Option<Gate>, StartError> {
    let Some(path) = given(&server.jwtsecret) else { return Ok(None) };
    let text = std::fs::read_to_string(path)
        .map_err(|source| StartError::TokenSecretFile { path: path.to_owned(), source })?;
    let secret = TokenSecret::parse(&Zeroizing::new(text))
        .map_err(|source| StartError::TokenSecret { path: path.to_owned(), source })?;
    Ok(Some(Gate::new(secret, &server.allowed_hosts)))
}

fn fan_out(
    options: &AggregatorOptions,
    committee: &Committee,
    http: &HttpClient,
) -> Result<FanOut, StartError> {
    let data = &options.data_availability;
    let calls = &data.rpc_aggregator.rpc_client;
    let body_limit = calls.enable_chunked_store.then_some(calls.data_stream.max_store_chunk_body_size);
    let members = committee.members().iter().enumerate().map(|(index, member)| {
        let endpoint = Endpoint::parse(member.rpc.as_str())?;
        let (name, key) = (member.name.clone(), member.public_key.clone());
        Ok(Arc::new(Member::new(index, name, key, endpoint, body_limit, http.clone())))
    });
    let limits = FanOutLimits {
        member_timeout: data.request_timeout,
        patience: Patience {
            delay: data.rpc_aggregator.retry_delay,
            total: data.rpc_aggregator.retry_duration,
        },
        late_bytes: bytes_of(options.limits.max_retry_memory.0),
    };
    let members = members.collect::<Result<Vec<_>, StartError>>()?;
    Ok(FanOut::new(members, committee.keyset().clone(), limits))
}

/// The members' REST ports, and whatever else is configured.
fn reader_options(options: &AggregatorOptions, committee: &Committee) -> RestReaderOptions {
    let from: &RestAggregatorOptions = &options.data_availability.rest_aggregator;
    let members = committee.members().iter().filter_map(|member| member.rest.as_ref());
    let mut urls: Vec<String> = members.map(ToString::to_string).collect();
    let mut online_url_list = None;
    if from.enable || !from.urls.is_empty() {
        urls.extend(from.urls.iter().cloned());
        online_url_list = Some(from.online_url_list.clone()).filter(|url| !url.is_empty());
    }
    if urls.is_empty() && online_url_list.is_none() && options.enable_rest {
        warn!("no REST endpoints are known (rest of the members, --data-availability.rest-aggregator.urls)");
    }
    let strategy = &from.simple_explore_exploit_strategy;
    RestReaderOptions {
        urls,
        online_url_list,
        online_url_list_fetch_interval: from.online_url_list_fetch_interval,
        max_batch_bytes: MAX_READ_BYTES,
        strategy: StrategyOptions {
            explore_reads: strategy.explore_iterations,
            exploit_reads: strategy.exploit_iterations,
            remembered_reads: from.max_per_endpoint_stats,
        },
        hedge: HedgeOptions { max_wait: from.wait_before_try_next, ..HedgeOptions::default() },
        ..RestReaderOptions::default()
    }
}

fn cache_limits(options: &AggregatorOptions) -> CacheLimits {
    let cache = &options.data_availability.local_cache;
    if !cache.enable {
        return CacheLimits { bytes: 0, batches: 0 };
    }
    CacheLimits { bytes: cache.max_bytes.0, batches: cache.capacity as u64 }
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

fn rpc_limits(options: &AggregatorOptions, body_limit: usize, timeouts: &ServerTimeouts) -> RpcLimits {
    RpcLimits {
        body_limit,
        body_pace: Pace { grace: timeouts.read_timeout, ..Pace::default() },
        bodies_in_flight: bytes_of(options.limits.max_request_memory.0),
        answers_in_flight: bytes_of(options.limits.max_answer_memory.0),
        ..RpcLimits::default()
    }
}

fn chunked_bounds(options: &AggregatorOptions) -> Bounds {
    let limits = &options.limits;
    Bounds {
        max_pending: limits.max_pending_messages,
        max_message: limits.max_pending_bytes.0.min(Bounds::default().max_message),
        max_pending_bytes: limits.max_pending_bytes.0,
        idle: limits.pending_idle_timeout,
        ..Bounds::default()
    }
}

fn bytes_of(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
