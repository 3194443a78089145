//! Who may connect at all, decided before anything is computed for him where possible.
//!
//! Connections are counted per address (of IPv6, per network of 64 bits) before any handshake. After the handshake,
//! peers whose binding is known come in; of others there is only a small number at a time, until they have shown one.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::net::IpAddr;
use std::task::{Context, Poll};
use std::time::Instant;

use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::{Endpoint, Multiaddr};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm, dummy,
};
use thiserror::Error;

use super::bucket::Bucket;

/// Most addresses whose connections are counted; beyond, a new one is refused until an old one is forgotten.
const MAX_ADDRESSES: usize = 4096;

/// Why somebody was turned away.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Too many connections from his address.
    #[error("too many connections from this address")]
    Rate,
    /// Too many strangers at a time.
    #[error("too many unknown peers are connected")]
    Strangers,
}

impl Refusal {
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Rate => "rate",
            Self::Strangers => "strangers",
        }
    }
}

/// The door.
pub(super) struct Door {
    known: HashSet<PeerId>,
    strangers: HashSet<ConnectionId>,
    max_strangers: usize,
    rate: f64,
    burst: f64,
    addresses: HashMap<[u8; 8], Bucket>,
}

impl Door {
    pub(super) fn new(max_strangers: usize, rate: f64, burst: f64) -> Self {
        Self {
            known: HashSet::new(),
            strangers: HashSet::new(),
            max_strangers,
            rate,
            burst,
            addresses: HashMap::new(),
        }
    }

    /// Says which peer ids are known by a binding.
    pub(super) fn set_known(&mut self, known: HashSet<PeerId>) {
        self.known = known;
    }

    /// Counts this connection as a member's from now on.
    pub(super) fn admit(&mut self, connection: ConnectionId) {
        self.strangers.remove(&connection);
    }

    fn knock(&mut self, remote: &Multiaddr, now: Instant) -> Result<(), Refusal> {
        let key = key_of(remote);
        if !self.addresses.contains_key(&key) && self.addresses.len() >= MAX_ADDRESSES {
            self.addresses.retain(|_, bucket| !bucket.is_full(now));
            if self.addresses.len() >= MAX_ADDRESSES {
                return Err(Refusal::Rate);
            }
        }
        let bucket = self.addresses.entry(key).or_insert_with(|| Bucket::new(self.rate, self.burst, now));
        if bucket.take(now) { Ok(()) } else { Err(Refusal::Rate) }
    }
}

/// What addresses are counted by.
fn key_of(address: &Multiaddr) -> [u8; 8] {
    let ip = address.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(IpAddr::V4(ip)),
        Protocol::Ip6(ip) => Some(ip.to_canonical()),
        _ => None,
    });
    let mut key = [0; 8];
    match ip {
        Some(IpAddr::V4(ip)) => {
            key[0] = 4;
            key[4..].copy_from_slice(&ip.octets());
        }
        Some(IpAddr::V6(ip)) => key.copy_from_slice(&ip.octets()[..8]),
        None => {}
    }
    key
}

impl NetworkBehaviour for Door {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.knock(remote, Instant::now()).map_err(ConnectionDenied::new)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        if !self.known.contains(&peer) {
            if self.strangers.len() >= self.max_strangers {
                return Err(ConnectionDenied::new(Refusal::Strangers));
            }
            self.strangers.insert(connection);
        }
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(closed) => self.admit(closed.connection_id),
            FromSwarm::ListenFailure(failed) => self.admit(failed.connection_id),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn connections_are_counted_by_address_or_network() {
        let mut door = Door::new(1, 1.0, 2.0);
        let now = Instant::now();
        let (one, other) = (address("/ip4/10.0.0.1/tcp/1"), address("/ip4/10.0.0.2/udp/1/quic-v1"));
        let again = address("/ip4/10.0.0.1/udp/77/quic-v1");
        assert_eq!(door.knock(&one, now), Ok(()));
        assert_eq!(door.knock(&again, now), Ok(()));
        assert_eq!(door.knock(&one, now), Err(Refusal::Rate));
        assert_eq!(door.knock(&other, now), Ok(()));
        assert_eq!(door.knock(&one, now + Duration::from_secs(1)), Ok(()));
        let network = ["/ip6/2001:db8::1/tcp/1", "/ip6/2001:db8::ffff:2/tcp/1", "/ip6/2001:db8::3/tcp/9"];
        let taken = network.map(|text| door.knock(&address(text), now).is_ok());
        assert_eq!(taken, [true, true, false]);
    }

    #[test]
    fn the_list_of_addresses_is_bounded() {
        let mut door = Door::new(1, 1.0, 2.0);
        let now = Instant::now();
        let numbered = |i: usize| address(&format!("/ip4/10.1.{}.{}/tcp/1", i / 256, i % 256));
        for i in 0..MAX_ADDRESSES {
            assert_eq!(door.knock(&numbered(i), now), Ok(()));
        }
        assert_eq!(door.knock(&numbered(MAX_ADDRESSES), now), Err(Refusal::Rate));
        assert_eq!(door.addresses.len(), MAX_ADDRESSES);
        // A second later all are as good as new, and forgotten.
        assert_eq!(door.knock(&numbered(MAX_ADDRESSES), now + Duration::from_secs(1)), Ok(()));
        assert_eq!(door.addresses.len(), 1);
    }
}
