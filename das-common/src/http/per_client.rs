//! Bounds on what one client may ask of a port: connections, requests a second, and requests at once; and on what all
//! clients together may have worked on at once, so that who comes too many at least hears it soon.
//!
//! A client is an address, of IPv6 the first 64 bits: whoever has one of those has them all. Behind a proxy that is trusted it is
//! the address that the proxy names, the last one in `X-Forwarded-For` that is no trusted proxy's own; a header of anybody else
//! means nothing. Clients are remembered while they ask and a little longer, and no more of them than
//! [`MOST_CLIENTS`]; what comes above that shares one place.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use bytes::Bytes;
use http::header::{HeaderName, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body::{Frame, SizeHint};
use metrics::{Counter, counter};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::telemetry::names;

mod network;

pub use network::{Network, NotANetwork};

/// Clients that are remembered at once.
pub const MOST_CLIENTS: usize = 65_536;
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Addresses that are looked at in one request's `X-Forwarded-For`: more proxies in a row nobody has.
const MOST_HOPS: usize = 16;

/// The address of a connection, among the extensions of its requests.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// What one client may do.
#[derive(Debug, Clone, Default)]
pub struct PerClientLimits {
    /// Requests a second; 0: as many as it likes.
    pub rate: f64,
    /// Requests that it may make at once after a pause, on top of the rate.
    pub burst: u32,
    /// Requests under way, their answers included; 0: as many as it likes.
    pub concurrent: usize,
    /// Connections; 0: as many as the port takes. A trusted proxy is not bound by it.
    pub connections: usize,
    /// Requests of all clients that are worked on at once, until their answers begin; 0: any number.
    pub at_once: usize,
    /// How long a request waits to be among those before it is refused.
    pub patience: Duration,
    /// Whose word on the client's address counts.
    pub trusted_proxies: Vec<Network>,
}

impl PerClientLimits {
    /// Is there anything to keep?
    pub fn is_given(&self) -> bool {
        self.rate > 0.0 || self.concurrent > 0 || self.at_once > 0
    }

    fn is_trusted(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|network| network.contains(address))
    }

    /// Who asks.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let is_trusted = |address| self.is_trusted(address);
        if !is_trusted(peer) {
            return peer;
        }
        let values = headers.get_all(FORWARDED_FOR).iter().rev();
        let hops = values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.rsplit(','));
        for hop in hops.take(MOST_HOPS) {
            // What is no address was made up by whoever is behind it.
            let Ok(address) = hop.trim().parse::<IpAddr>() else { break };
            if !is_trusted(address) {
                return address;
            }
        }
        peer
    }
}

/// Who shares a bound.
fn place(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
    }
}

/// Why a request was refused.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Refusal {
    Rate { again_after: Duration },
    Concurrent,
    Busy,
}

/// Refusals for one reason.
struct Refused {
    metric: Counter,
    count: AtomicU64,
}

impl Refused {
    fn new(port: &'static str, why: &'static str) -> Self {
        let metric = counter!(names::CLIENTS_REFUSED, "port" => port, "why" => why);
        Self { metric, count: AtomicU64::new(0) }
    }

    fn note(&self) {
        self.metric.increment(1);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

/// How the limits of a port are doing.
#[derive(Debug, Clone, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortReport {
    /// `rpc`, `rest` or `explorer`.
    pub port: &'static str,
    /// Connections that are open.
    pub connections: usize,
    /// Addresses that they are from.
    pub clients: usize,
    /// Most connections of one address; 0: no limit.
    pub connections_per_client: usize,
    /// Requests that wait until fewer are worked on.
    pub waiting: usize,
    /// Connections closed at once, because their address has as many as it may have.
    pub refused_connections: u64,
    /// Requests refused, because their address asked too often.
    pub refused_rate: u64,
    /// Requests refused, because their address has too many under way.
    pub refused_concurrent: u64,
    /// Requests refused, because too many were being worked on for too long.
    pub refused_busy: u64,
}

#[derive(Debug)]
struct Client {
    /// When all that it asked for would have been asked at exactly the rate.
    paid_until: Instant,
    under_way: usize,
}

struct Shared {
    port: &'static str,
    limits: PerClientLimits,
    clients: Mutex<HashMap<IpAddr, Client>>,
    /// Connections by address.
    connected: Mutex<HashMap<IpAddr, usize>>,
    /// One permit for each request that may be worked on.
    working: Semaphore,
    waiting: AtomicU64,
    refused_connections: Refused,
    refused_rate: Refused,
    refused_concurrent: Refused,
    refused_busy: Refused,
}

/// The bounds of one port. Cheap to clone.
#[derive(Clone)]
pub struct PerClient {
    shared: Arc<Shared>,
}

impl PerClient {
    /// Keeps these limits on the port of this name, which the metrics have.
    pub fn new(port: &'static str, limits: PerClientLimits) -> Self {
        Self {
            shared: Arc::new(Shared {
                port,
                working: Semaphore::new(limits.at_once.min(Semaphore::MAX_PERMITS)),
                waiting: AtomicU64::new(0),
                limits,
                clients: Mutex::default(),
                connected: Mutex::default(),
                refused_connections: Refused::new(port, "connections"),
                refused_rate: Refused::new(port, "rate"),
                refused_concurrent: Refused::new(port, "concurrent"),
                refused_busy: Refused::new(port, "busy"),
            }),
        }
    }

    /// One connection more, for as long as what is returned lives. None: this address has as many as it may have.
    pub fn connect(&self, peer: SocketAddr) -> Option<Connected> {
        let limits = &self.shared.limits;
        let place = place(peer.ip());
        let is_bound = limits.connections > 0 && !limits.is_trusted(peer.ip());
        let mut connected = self.shared.connected.lock();
        let count = connected.entry(place).or_insert(0);
        if is_bound && *count >= limits.connections {
            self.shared.refused_connections.note();
            return None;
        }
        *count += 1;
        Some(Connected { shared: Arc::clone(&self.shared), place })
    }

    /// How it is doing.
    pub fn report(&self) -> PortReport {
        let Shared { port, limits, connected, waiting, .. } = &*self.shared;
        let connected = connected.lock();
        PortReport {
            port,
            connections: connected.values().sum(),
            clients: connected.len(),
            connections_per_client: limits.connections,
            waiting: usize::try_from(waiting.load(Ordering::Relaxed)).unwrap_or(usize::MAX),
            refused_connections: self.shared.refused_connections.count(),
            refused_rate: self.shared.refused_rate.count(),
            refused_concurrent: self.shared.refused_concurrent.count(),
            refused_busy: self.shared.refused_busy.count(),
        }
    }

    /// The same routes, within the limits.
    pub fn around(&self, router: Router) -> Router {
        if !self.shared.limits.is_given() {
            return router;
        }
        let limits = self.clone();
        router.layer(from_fn(move |request: Request, next: Next| {
            let limits = limits.clone();
            async move { limits.answer(request, next).await }
        }))
    }

    async fn answer(&self, request: Request, next: Next) -> Response {
        // A probe of a busy server finds out that it works.
        let is_probe = request.uri().path().starts_with("/health");
        let peer =
            request.extensions().get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip());
        let client = place(self.shared.limits.client(peer, request.headers()));
        match self.shared.enter(client, Instant::now()) {
            Ok(place) => {
                let stay = Stay { shared: Arc::clone(&self.shared), place };
                let Some(working) = self.shared.turn(is_probe).await else {
                    return self.refuse(Refusal::Busy);
                };
                let response = next.run(request).await;
                drop(working);
                // The answer is part of the request: who takes it slowly has it under way for longer.
                response.map(|body| Body::new(Staying { body, _stay: stay }))
            }
            Err(refusal) => self.refuse(refusal),
        }
    }

    fn refuse(&self, refusal: Refusal) -> Response {
        let (refused, status, text, seconds) = match refusal {
            Refusal::Rate { again_after } => {
                let text =
                    format!("more than {} requests a second from this address\n", self.shared.limits.rate);
                (&self.shared.refused_rate, StatusCode::TOO_MANY_REQUESTS, text, again_after.as_secs() + 1)
            }
            Refusal::Concurrent => {
                let text = format!(
                    "more than {} requests at once from this address\n",
                    self.shared.limits.concurrent
                );
                (&self.shared.refused_concurrent, StatusCode::TOO_MANY_REQUESTS, text, 1)
            }
            Refusal::Busy => {
                let PerClientLimits { at_once, patience, .. } = self.shared.limits;
                let text = format!("{at_once} requests have been worked on for {patience:?}\n");
                (&self.shared.refused_busy, StatusCode::SERVICE_UNAVAILABLE, text, 1)
            }
        };
        refused.note();
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = status;
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        response
    }
}

impl Shared {
    /// One request more; the place that it counts at.
    fn enter(&self, client: IpAddr, now: Instant) -> Result<IpAddr, Refusal> {
        let mut clients = self.clients.lock();
        let mut client = client;
        if clients.len() >= MOST_CLIENTS && !clients.contains_key(&client) {
            clients.retain(|_, known| known.under_way > 0 || known.paid_until > now);
            if clients.len() >= MOST_CLIENTS {
                client = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            }
        }
        let known = clients.entry(client).or_insert(Client { paid_until: now, under_way: 0 });
        if self.limits.concurrent > 0 && known.under_way >= self.limits.concurrent {
            return Err(Refusal::Concurrent);
        }
        if self.limits.rate > 0.0 {
            let each = Duration::from_secs_f64(1.0 / self.limits.rate.max(1e-6));
            let paid_until = known.paid_until.max(now) + each;
            let ahead = paid_until.duration_since(now);
            let allowed = each.saturating_mul(self.limits.burst.saturating_add(1));
            if ahead > allowed {
                return Err(Refusal::Rate { again_after: ahead - allowed });
            }
            known.paid_until = paid_until;
        }
        known.under_way += 1;
        Ok(client)
    }

    /// Waits until the request may be worked on. None: it took too long.
    async fn turn(&self, is_probe: bool) -> Option<Option<SemaphorePermit<'_>>> {
        if self.limits.at_once == 0 || is_probe {
            return Some(None);
        }
        if let Ok(permit) = self.working.try_acquire() {
            return Some(Some(permit));
        }
        let _waiting = Waiting::of(&self.waiting);
        let permit = tokio::time::timeout(self.limits.patience, self.working.acquire()).await;
        permit.ok()?.ok().map(Some)
    }

    fn leave(&self, place: IpAddr) {
        let mut clients = self.clients.lock();
        if let Some(known) = clients.get_mut(&place) {
            known.under_way = known.under_way.saturating_sub(1);
            if known.under_way == 0 && known.paid_until <= Instant::now() {
                clients.remove(&place);
            }
        }
    }
}

/// Counted while it waits, also when its client gives up.
struct Waiting<'a>(&'a AtomicU64);

impl<'a> Waiting<'a> {
    fn of(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that counts as its address's.
pub struct Connected {
    shared: Arc<Shared>,
    place: IpAddr,
}

impl Drop for Connected {
    fn drop(&mut self) {
        let mut connected = self.shared.connected.lock();
        if let Some(count) = connected.get_mut(&self.place) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                connected.remove(&self.place);
            }
        }
    }
}

/// The limits of all ports of a process, for its status. Cheap to clone.
#[derive(Clone, Default)]
pub struct Ports(Arc<Mutex<Vec<PerClient>>>);

impl Ports {
    /// The limits of one port more.
    pub fn open(&self, port: &'static str, limits: PerClientLimits) -> PerClient {
        let opened = PerClient::new(port, limits);
        self.0.lock().push(opened.clone());
        opened
    }

    /// How all of them are doing.
    pub fn report(&self) -> Vec<PortReport> {
        self.0.lock().iter().map(PerClient::report).collect()
    }
}

/// A request under way.
struct Stay {
    shared: Arc<Shared>,
    place: IpAddr,
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.shared.leave(self.place);
    }
}

/// An answer that counts as under way until it is gone.
struct Staying {
    body: Body,
    _stay: Stay,
}

impl http_body::Body for Staying {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
