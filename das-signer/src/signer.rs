//! A signer, put together, started, and shut down in order.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use base64_simd::STANDARD;
use das_common::fault::{self, Coded, Fault};
use das_common::server::Server;
use das_common::signer::Signer as _;
use das_common::telemetry::{LogFormat, LogLevel, MetricsHandle, watch_process};
use das_keys::audit_log::{AuditError, AuditLog};
use das_keys::source::{KeyError, guard_process, open_local};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::clients::AllowedClients;
use crate::limits::Limits;
use crate::options::SignerOptions;
use crate::service::{self, Service};
use crate::tls::{TlsError, server_config};

/// Time for a client to say who it is.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// Time between requests of one connection, and for a request's head. Clients hang up before.
const IDLE_TIME: Duration = Duration::from_secs(60);
/// How long the accept loop rests after an error that is not a client's.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// For requests in flight at shutdown.
const DRAIN_TIME: Duration = Duration::from_secs(10);

/// Why a signer could not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The key.
    #[error("--key: {0}")]
    Key(#[from] KeyError),
    /// The TLS files.
    #[error("--tls: {0}")]
    Tls(#[from] TlsError),
    /// The audit log.
    #[error("--audit-log: {0}")]
    Audit(#[from] AuditError),
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
            Self::Tls(error) => error.fault(),
            Self::Audit(error) => error.fault(),
            Self::Bind { .. } => fault::NET_BIND,
        }
    }
}

/// A running signer.
pub struct SignerServer {
    address: SocketAddr,
    metrics: Option<SocketAddr>,
    connections: TaskTracker,
    stop: CancellationToken,
}

/// What all connections share.
struct Shared {
    service: Arc<Service>,
    clients: AllowedClients,
    acceptor: TlsAcceptor,
    stop: CancellationToken,
}

impl Server for SignerServer {
    type Options = SignerOptions;
    type StartError = StartError;

    fn logging(options: &SignerOptions) -> (LogLevel, LogFormat, &str) {
        (options.log_level, options.log_type, &options.log_filter)
    }

    async fn start(options: &SignerOptions, metrics: MetricsHandle) -> Result<Self, StartError> {
        guard_process(options.debuggable);
        let tls = server_config(&options.tls)?;
        let signer = match options.key.source() {
            Some(source) => open_local(&source).await?,
            // The options were checked.
            None => return Err(KeyError::BrokenOff.into()),
        };
        let (path, key) = (options.audit_log.clone(), signer.public_key().clone());
        let opened =
            tokio::task::spawn_blocking(move || AuditLog::open(path, &key, env!("CARGO_PKG_VERSION")));
        let audit = opened.await.unwrap_or(Err(AuditError::Ended))?;
        let found = audit.opened();
        if let Some(bytes) = found.torn {
            warn!(
                bytes,
                "the audit log's last write was cut short; no signature left for it, and it is recorded"
            );
        }
        info!(
            records = found.records,
            head = %found.head,
            public_key = %STANDARD.encode_to_string(signer.public_key().to_bytes()),
            "the audit log goes on; note its head elsewhere"
        );
        let rate = &options.rate_limit;
        let limits = Limits::new(options.max_retention, rate.per_second, rate.burst);
        let stop = CancellationToken::new();
        let shared = Shared {
            service: Arc::new(Service { signer, limits, audit }),
            clients: AllowedClients::new(&options.allowed_clients),
            acceptor: TlsAcceptor::from(Arc::new(tls)),
            stop: stop.clone(),
        };
        let (listener, address) = listen("port", &options.addr, options.port).await?;
        let connections = TaskTracker::new();
        connections.spawn(accept(
            listener,
            Arc::new(shared),
            Arc::new(Semaphore::new(options.max_connections)),
            connections.clone(),
        ));
        let interval = options.metrics_server.update_interval;
        tokio::spawn(watch_process(
            metrics.clone(),
            "das-signer",
            env!("CARGO_PKG_VERSION"),
            interval,
            stop.clone(),
        ));
        let mut measured = None;
        if options.metrics {
            let server = &options.metrics_server;
            let (listener, address) = listen("metrics-server.port", &server.addr, server.port).await?;
            let router = axum::Router::new().fallback(move || {
                let text = metrics.render();
                async move { text }
            });
            let limits = das_common::http::server::Limits::default();
            connections.spawn(das_common::http::server::serve(listener, router, limits, stop.clone()));
            measured = Some(address);
        }
        Ok(Self { address, metrics: measured, connections, stop })
    }

    fn bound(&self) -> impl fmt::Display {
        let metrics = self.metrics.map(|address| format!(" metrics=http://{address}"));
        format!("das-signer ready: signer=https://{}{}", self.address, metrics.unwrap_or_default())
    }

    async fn shut_down(self) {
        self.stop.cancel();
        self.connections.close();
        if tokio::time::timeout(DRAIN_TIME, self.connections.wait()).await.is_err() {
            warn!("requests in flight are cut off by the shutdown");
        }
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

async fn accept(listener: TcpListener, shared: Arc<Shared>, slots: Arc<Semaphore>, connections: TaskTracker) {
    let stop = shared.stop.clone();
    let accepting = async {
        while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, from)) => {
                    let shared = Arc::clone(&shared);
                    connections.spawn(async move {
                        converse(stream, from, &shared).await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    warn!(%error, "cannot accept connections, trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    stop.run_until_cancelled(accepting).await;
}

/// One connection, from its handshake to its end.
async fn converse(stream: TcpStream, from: SocketAddr, shared: &Shared) {
    // Requests and answers are written whole; a socket that refuses is broken and says so when it is read.
    let _ = stream.set_nodelay(true);
    let stream = match tokio::time::timeout(HANDSHAKE_TIME, shared.acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            fault::count(fault::SIGNER_CLIENT);
            warn!(code = fault::SIGNER_CLIENT.code, %from, %error, "no TLS connection");
            return;
        }
        Err(_) => {
            debug!(%from, "no TLS connection in time");
            return;
        }
    };
    let certificates = stream.get_ref().1.peer_certificates();
    let client: Option<Arc<str>> =
        certificates.and_then(|chain| shared.clients.name_of(chain.first()?)).map(Into::into);
    let service = service_fn(|request: http::Request<Incoming>| {
        let (service, client) = (Arc::clone(&shared.service), client.clone());
        async move {
            let answer: Result<Response, Infallible> =
                Ok(service::answer(service, client, request.map(Body::new)).await);
            answer
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(IDLE_TIME).max_buf_size(16 << 10);
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        ended = connection.as_mut() => {
            if let Err(error) = ended {
                debug!(%from, %error, "connection ended");
            }
            return;
        }
        () = shared.stop.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    // However it ends, the signer does.
    let _ = connection.await;
}
