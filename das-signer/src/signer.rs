//! A signer, put together, started, and shut down in order.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use base64_simd::STANDARD;
use das_common::alarm::Alarms;
use das_common::fault::{self, Coded, Fault};
use das_common::http::server::{Door, Limits as ServerLimits, serve, serve_over};
use das_common::server::Server;
use das_common::signer::Signer as _;
use das_common::telemetry::{LogFormat, LogLevel, MetricsHandle, watch_process};
use das_common::tls::{AllowedClients, ServerTls, TlsError, TlsPeer};
use das_keys::audit_log::{AuditError, AuditLog};
use das_keys::source::{KeyError, guard_process, open_local};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::limits::Limits;
use crate::options::SignerOptions;
use crate::service::{self, Service};

/// Time between requests of one connection, and for a request's head. Clients hang up before.
const IDLE_TIME: Duration = Duration::from_secs(60);
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

impl Server for SignerServer {
    type Options = SignerOptions;
    type StartError = StartError;

    fn logging(options: &SignerOptions) -> (LogLevel, LogFormat, &str) {
        (options.log_level, options.log_type, &options.log_filter)
    }

    async fn start(options: &SignerOptions, metrics: MetricsHandle) -> Result<Self, StartError> {
        guard_process(options.debuggable);
        let tls = ServerTls::open(options.tls.server())?;
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
        let service = Arc::new(Service { signer, limits, audit });
        let router = router(service, AllowedClients::new(&options.allowed_clients));
        let limits = ServerLimits {
            max_connections: options.max_connections,
            header_timeout: IDLE_TIME,
            idle_timeout: IDLE_TIME,
            drain: DRAIN_TIME,
            ..ServerLimits::default()
        };
        let (listener, address) = listen("port", &options.addr, options.port).await?;
        let connections = TaskTracker::new();
        let door = Door { tls: Some(tls.for_known()), clients: None };
        connections.spawn(serve_over(door, listener, router, limits, stop.clone()));
        tokio::spawn(tls.watch(Alarms::new(), stop.clone()));
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
            connections.spawn(serve(listener, router, ServerLimits::default(), stop.clone()));
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

/// All paths. A client is named by its certificate.
fn router(service: Arc<Service>, allowed: AllowedClients) -> axum::Router {
    axum::Router::new().fallback(move |request: Request| {
        let client = request.extensions().get::<TlsPeer>().and_then(|peer| peer.name_among(&allowed));
        service::answer(Arc::clone(&service), client, request)
    })
}
