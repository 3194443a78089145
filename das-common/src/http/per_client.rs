//! Bounds on what one client may ask of a port: requests a second, and requests at once.
//!
//! A client is an address, of IPv6 the first 64 bits: whoever has one of those has them all. Behind a proxy that is trusted it is
//! the address that the proxy names, the last one in `X-Forwarded-For` that is no trusted proxy's own; a header of anybody else
//! means nothing. Clients are remembered while they ask and a little longer, and no more of them than
//! [`MOST_CLIENTS`]; what comes above that shares one place.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
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
use thiserror::Error;

use crate::telemetry::names;

/// Clients that are remembered at once.
pub const MOST_CLIENTS: usize = 65_536;
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Addresses that are looked at in one request's `X-Forwarded-For`: more proxies in a row nobody has.
const MOST_HOPS: usize = 16;

/// The address of a connection, among the extensions of its requests.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

/// A range of addresses: `10.0.0.0/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    base: IpAddr,
    bits: u8,
}

/// A text that is no range of addresses.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
#[error("{got:?} is no address and no range as 10.0.0.0/8")]
pub struct NotANetwork {
    /// The text.
    pub got: String,
}

impl FromStr for Network {
    type Err = NotANetwork;

    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let wrong = || NotANetwork { got: text.to_owned() };
        let (base, bits) = match text.split_once('/') {
            Some((base, bits)) => (base, Some(bits.parse::<u8>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let base: IpAddr = base.parse().map_err(|_| wrong())?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        if bits > most { Err(wrong()) } else { Ok(Self { base, bits }) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.base, self.bits)
    }
}

impl Network {
    /// Is the address in it?
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address.to_canonical()) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let shift = 32 - u32::from(self.bits);
                base.to_bits().checked_shr(shift).unwrap_or(0)
                    == address.to_bits().checked_shr(shift).unwrap_or(0)
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let shift = 128 - u32::from(self.bits);
                base.to_bits().checked_shr(shift).unwrap_or(0)
                    == address.to_bits().checked_shr(shift).unwrap_or(0)
            }
            _ => false,
        }
    }
}

/// What one client may do.
#[derive(Debug, Clone, Default)]
pub struct PerClientLimits {
    /// Requests a second; 0: as many as it likes.
    pub rate: f64,
    /// Requests that it may make at once after a pause, on top of the rate.
    pub burst: u32,
    /// Requests under way, their answers included; 0: as many as it likes.
    pub concurrent: usize,
    /// Whose word on the client's address counts.
    pub trusted_proxies: Vec<Network>,
}

impl PerClientLimits {
    /// Is there anything to keep?
    pub fn is_given(&self) -> bool {
        self.rate > 0.0 || self.concurrent > 0
    }

    /// Who asks.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let is_trusted =
            |address: IpAddr| self.trusted_proxies.iter().any(|network| network.contains(address));
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
}

#[derive(Debug)]
struct Client {
    /// When all that it asked for would have been asked at exactly the rate.
    paid_until: Instant,
    under_way: usize,
}

struct Shared {
    limits: PerClientLimits,
    clients: Mutex<HashMap<IpAddr, Client>>,
    refused_rate: Counter,
    refused_concurrent: Counter,
}

/// The bounds of one port. Cheap to clone.
#[derive(Clone)]
pub struct PerClient {
    shared: Arc<Shared>,
}

impl PerClient {
    /// Keeps these limits on the port of this name, which the metrics have.
    pub fn new(port: &'static str, limits: PerClientLimits) -> Self {
        let refused = |why: &'static str| counter!(names::CLIENTS_REFUSED, "port" => port, "why" => why);
        Self {
            shared: Arc::new(Shared {
                limits,
                clients: Mutex::default(),
                refused_rate: refused("rate"),
                refused_concurrent: refused("concurrent"),
            }),
        }
    }

    /// The same routes, within the limits.
    pub fn around(self, router: Router) -> Router {
        if !self.shared.limits.is_given() {
            return router;
        }
        router.layer(from_fn(move |request: Request, next: Next| {
            let limits = self.clone();
            async move { limits.answer(request, next).await }
        }))
    }

    async fn answer(&self, request: Request, next: Next) -> Response {
        let peer =
            request.extensions().get::<Peer>().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip());
        let client = place(self.shared.limits.client(peer, request.headers()));
        match self.shared.enter(client, Instant::now()) {
            Ok(place) => {
                let stay = Stay { shared: Arc::clone(&self.shared), place };
                let response = next.run(request).await;
                // The answer is part of the request: who takes it slowly has it under way for longer.
                response.map(|body| Body::new(Staying { body, _stay: stay }))
            }
            Err(refusal) => self.refuse(refusal),
        }
    }

    fn refuse(&self, refusal: Refusal) -> Response {
        let (counter, text, seconds) = match refusal {
            Refusal::Rate { again_after } => {
                let text =
                    format!("more than {} requests a second from this address\n", self.shared.limits.rate);
                (&self.shared.refused_rate, text, again_after.as_secs() + 1)
            }
            Refusal::Concurrent => {
                let text = format!(
                    "more than {} requests at once from this address\n",
                    self.shared.limits.concurrent
                );
                (&self.shared.refused_concurrent, text, 1)
            }
        };
        counter.increment(1);
        let mut response = Response::new(Body::from(text));
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
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
mod tests {
    use proptest::prelude::*;
    use tower::ServiceExt as _;

    use super::*;

    fn limits(rate: f64, burst: u32, concurrent: usize) -> PerClientLimits {
        let trusted_proxies = vec!["10.0.0.0/8".parse().unwrap(), "fd00::1".parse().unwrap()];
        PerClientLimits { rate, burst, concurrent, trusted_proxies }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_trusted_proxies_say_who_asks() {
        let limits = limits(1.0, 0, 0);
        let client = |peer: &str, forwarded: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append(FORWARDED_FOR, HeaderValue::from_str(value).unwrap());
            }
            limits.client(ip(peer), &headers).to_string()
        };
        assert_eq!(client("1.2.3.4", &["5.6.7.8"]), "1.2.3.4", "a stranger's word");
        assert_eq!(client("10.1.1.1", &["5.6.7.8"]), "5.6.7.8");
        assert_eq!(
            client("10.1.1.1", &["9.9.9.9, 5.6.7.8, 10.2.2.2"]),
            "5.6.7.8",
            "what comes before may be made up"
        );
        assert_eq!(client("10.1.1.1", &["9.9.9.9", "5.6.7.8"]), "5.6.7.8");
        assert_eq!(client("::ffff:10.1.1.1", &["5.6.7.8"]), "5.6.7.8");
        assert_eq!(client("fd00::1", &["2001:db8::1"]), "2001:db8::1");
        assert_eq!(client("10.1.1.1", &["nonsense"]), "10.1.1.1");
        assert_eq!(client("10.1.1.1", &[]), "10.1.1.1");
        assert_eq!(place(ip("2001:db8::1:2:3:4")), ip("2001:db8::"));
        for wrong in ["", "10.0.0.0/33", "x/8", "::/129", "10.0.0.0/"] {
            assert!(wrong.parse::<Network>().is_err(), "{wrong}");
        }
        assert!("0.0.0.0/0".parse::<Network>().unwrap().contains(ip("200.1.1.1")));
        assert!(!"0.0.0.0/0".parse::<Network>().unwrap().contains(ip("2001::1")));
    }

    proptest! {
        /// Whatever the pattern: in no span of time does more come through than burst and rate allow, and one who keeps
        /// to the rate is never refused.
        #[test]
        fn no_more_comes_through_than_is_allowed(
            pauses in proptest::collection::vec(0_u64..400, 1..200),
            rate in 1_u32..50,
            burst in 0_u32..20,
        ) {
            let port = PerClient::new("test", limits(f64::from(rate), burst, 0));
            let (begin, client) = (Instant::now(), ip("1.1.1.1"));
            let mut now = begin;
            let mut through = Vec::new();
            for pause in pauses {
                now += Duration::from_millis(pause);
                if port.shared.enter(client, now).is_ok() {
                    through.push(now);
                }
            }
            for (n, from) in through.iter().enumerate() {
                for (m, to) in through.iter().enumerate().skip(n) {
                    let allowed = f64::from(burst) + 1.0 + (*to - *from).as_secs_f64() * f64::from(rate) + 1e-3;
                    prop_assert!((m - n + 1) as f64 <= allowed + 1e-6, "{} in {:?}", m - n + 1, *to - *from);
                }
            }
            let calm = PerClient::new("test", limits(f64::from(rate), burst, 0));
            for n in 0..50_u32 {
                let at = begin + Duration::from_secs_f64(1.0 / f64::from(rate)) * n + Duration::from_micros(u64::from(n));
                prop_assert_eq!(calm.shared.enter(client, at), Ok(client));
            }
        }
    }

    #[test]
    fn clients_beyond_the_bound_share_a_place_and_nobody_is_forgotten_while_he_asks() {
        let port = PerClient::new("test", limits(0.0, 0, 2));
        let now = Instant::now();
        let address = |n: usize| IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(n).unwrap() + 0x0100_0000));
        for n in 0..MOST_CLIENTS {
            port.shared.enter(address(n), now).unwrap();
        }
        let late = |n: usize| port.shared.enter(address(MOST_CLIENTS + n), now);
        let common = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        assert_eq!((late(0), late(1), late(2)), (Ok(common), Ok(common), Err(Refusal::Concurrent)));
        assert_eq!(port.shared.enter(address(5), now), Ok(address(5)), "who was there has his own");
        assert_eq!(port.shared.enter(address(5), now), Err(Refusal::Concurrent));
        port.shared.leave(common);
        assert_eq!(late(3), Ok(common));
    }

    #[tokio::test]
    async fn an_answer_is_under_way_until_it_was_taken() {
        let router = Router::new().fallback(|| async { "a batch" });
        let port = PerClient::new("test", limits(0.0, 0, 1)).around(router);
        let ask = |address: &str| {
            let mut request = http::Request::new(Body::empty());
            request.extensions_mut().insert(Peer(SocketAddr::new(ip(address), 1)));
            port.clone().oneshot(request)
        };
        let first = ask("1.1.1.1").await.unwrap();
        let second = ask("1.1.1.1").await.unwrap();
        assert_eq!((first.status(), second.status()), (StatusCode::OK, StatusCode::TOO_MANY_REQUESTS));
        assert_eq!(second.headers()[RETRY_AFTER], "1");
        assert_eq!(ask("1.1.1.2").await.unwrap().status(), StatusCode::OK, "another client");
        drop(first);
        assert_eq!(ask("1.1.1.1").await.unwrap().status(), StatusCode::OK);
    }
}
