//! A node without a key and without a disk: it reads from an archive, and serves. Any number of them can stand behind a
//! load balancer.

use std::sync::Arc;

use das_common::alarm::Alarms;
use das_common::http::answers::AnswerBudget;
use das_common::http::per_client::Ports;
use das_common::http::rest;
use das_common::telemetry::{MetricsHandle, watch_process};
use das_common::tls::ServerTls;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Bound, Node, StartError, archive, bytes_of, listen, load_fallback, measure};
use crate::api::{RestPort, metrics_router};
use crate::health::{Health, Identity};
use crate::options::NodeOptions;
use crate::policy::RetentionPolicy;
use crate::retrieve::{Fetched, Retrieve, Times};

/// Opens the archive and the ports.
pub(super) async fn open(options: &NodeOptions, metrics: MetricsHandle) -> Result<Node, StartError> {
    let (alarms, stop) = (Alarms::new(), CancellationToken::new());
    let tls = options.tls.server().map(ServerTls::open).transpose().map_err(StartError::Tls)?;
    let mut background = JoinSet::new();
    if let Some(tls) = tls.clone() {
        background.spawn(tls.watch(alarms.clone(), stop.clone()));
    }
    let bucket = archive::open(options, None)?;
    let retrieve = Retrieve::new(
        None,
        load_fallback(options, &alarms, &stop)?,
        options.data_availability.local_cache.max_bytes.0,
        Fetched::Heals,
        alarms.clone(),
        Times::default(),
    );
    let base = archive::Base { options, store: None, retrieve: &retrieve, alarms: &alarms, stop: &stop };
    let started = archive::start(&base, bucket)?;
    let policy = RetentionPolicy {
        max_retention: options.data_availability.local_file_storage.max_retention,
        delete_expired: options.discards_after_timeout(),
    };
    let health = Health::new(None, alarms, 0, policy, Identity::default());
    let ports = Ports::default();
    let health = Arc::new(health.with_archive(started.bucket).with_ports(ports.clone()));
    tokio::spawn(stop.clone().run_until_cancelled_owned(measure(Arc::clone(&health), retrieve.clone())));
    let mut node = Node {
        bound: Bound::default(),
        store: None,
        custody: None,
        peers: None,
        servers: JoinSet::new(),
        ports,
        // There are no stores to give way to.
        readers: None,
        tls,
        background,
        stop,
    };
    if options.enable_rest {
        let answers = AnswerBudget::new(bytes_of(options.limits.max_answer_memory), AnswerBudget::PATIENCE);
        let port = RestPort::new(retrieve, Arc::clone(&health), policy);
        let address = listen("rest-port", &options.rest_addr, options.rest_port).await?;
        let router = rest::router(Arc::new(port), answers);
        node.bound.rest = Some(node.serve("rest", address, router, options));
    }
    let stop = node.stop.clone();
    let every = options.metrics_server.update_interval;
    tokio::spawn(watch_process(metrics.clone(), "das-node", env!("CARGO_PKG_VERSION"), every, stop));
    if options.dashboard.enable {
        let server = &options.dashboard;
        let address = listen("dashboard.port", &server.addr, server.port).await?;
        let router = node.dashboard(options, None, Arc::clone(&health), metrics.clone())?;
        node.bound.dashboard = Some(node.serve("dashboard", address, router, options));
    }
    if options.metrics {
        let server = &options.metrics_server;
        let address = listen("metrics-server.port", &server.addr, server.port).await?;
        node.bound.metrics = Some(node.serve("metrics", address, metrics_router(metrics, health), options));
    }
    Ok(node)
}
