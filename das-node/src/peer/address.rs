//! Addresses of peers in multiaddr notation.

use std::net::IpAddr;

use das_common::binding::PeerKey;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId, identity};
use thiserror::Error;

/// What is no address that a peer can be reached at.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum AddressError {
    /// It does not parse.
    #[error("{got:?} is no address in multiaddr notation ({reason})")]
    Syntax {
        /// The text.
        got: String,
        /// The parser's reason.
        reason: String,
    },
    /// Protocols that are not spoken here.
    #[error("{got:?} is not /ip4, /ip6, /dns, /dns4 or /dns6, then /tcp/PORT or /udp/PORT/quic-v1")]
    Protocols {
        /// The text.
        got: String,
    },
}

/// Reads an address: a host, then `/tcp/PORT` or `/udp/PORT/quic-v1`, then perhaps `/p2p/PEER-ID`.
///
/// # Errors
/// When it does not parse, or has other protocols than these.
pub fn parse_address(text: &str) -> Result<Multiaddr, AddressError> {
    let address: Multiaddr = text.parse().map_err(|error: libp2p::multiaddr::Error| {
        AddressError::Syntax { got: text.to_owned(), reason: error.to_string() }
    })?;
    if is_peer_address(&address) {
        Ok(address)
    } else {
        Err(AddressError::Protocols { got: text.to_owned() })
    }
}

/// Whether it is of the form that [`parse_address`] takes.
pub(super) fn is_peer_address(address: &Multiaddr) -> bool {
    let mut parts = address.iter();
    let host = matches!(
        parts.next(),
        Some(Protocol::Ip4(_) | Protocol::Ip6(_) | Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_))
    );
    let transport = match parts.next() {
        Some(Protocol::Tcp(_)) => true,
        Some(Protocol::Udp(_)) => parts.next() == Some(Protocol::QuicV1),
        _ => false,
    };
    let end = match parts.next() {
        None => true,
        Some(Protocol::P2p(_)) => parts.next().is_none(),
        Some(_) => false,
    };
    host && transport && end
}

/// The address without a peer id at its end, and the peer id.
pub(super) fn split_peer_id(mut address: Multiaddr) -> (Multiaddr, Option<PeerId>) {
    match address.pop() {
        Some(Protocol::P2p(peer)) => (address, Some(peer)),
        Some(other) => (address.with(other), None),
        None => (address, None),
    }
}

/// Whether it is one of this machine only.
pub(super) fn is_loopback(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => ip.is_loopback(),
        Some(Protocol::Ip6(ip)) => ip.is_loopback(),
        _ => false,
    }
}

/// Looks the host up, by the system's resolver; addresses with numbers are left as they are.
pub(super) async fn resolve(address: Multiaddr) -> Result<Vec<Multiaddr>, String> {
    let (host, wanted): (String, fn(&IpAddr) -> bool) = match address.iter().next() {
        Some(Protocol::Dns(host)) => (host.into_owned(), |_| true),
        Some(Protocol::Dns4(host)) => (host.into_owned(), IpAddr::is_ipv4),
        Some(Protocol::Dns6(host)) => (host.into_owned(), IpAddr::is_ipv6),
        _ => return Ok(vec![address]),
    };
    /// More are of no use.
    const MOST: usize = 4;
    let found = tokio::net::lookup_host((host.as_str(), 0)).await;
    let found = found.map_err(|error| format!("{host} cannot be looked up: {error}"))?;
    let ips = found.map(|socket| socket.ip()).filter(wanted).take(MOST);
    let resolved: Vec<Multiaddr> =
        ips.map(|ip| std::iter::once(Protocol::from(ip)).chain(address.iter().skip(1)).collect()).collect();
    if resolved.is_empty() { Err(format!("{host} has no address of this kind")) } else { Ok(resolved) }
}

/// libp2p's name for a peer key. `None` for 32 bytes that are no point of the curve.
pub(super) fn peer_id(key: &PeerKey) -> Option<PeerId> {
    let key = identity::ed25519::PublicKey::try_from_bytes(key.as_bytes()).ok()?;
    Some(identity::PublicKey::from(key).to_peer_id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_good_and_bad() {
        for good in [
            "/ip4/10.0.0.1/tcp/9879",
            "/ip6/::1/udp/9879/quic-v1",
            "/dns4/alice.example.org/tcp/9879",
            "/dns/a/udp/1/quic-v1/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN",
        ] {
            let address = parse_address(good).unwrap();
            assert_eq!(split_peer_id(address).1.is_some(), good.contains("p2p"), "{good}");
        }
        for bad in ["", "10.0.0.1:9879", "/ip4/10.0.0.1", "/ip4/10.0.0.1/udp/1", "/ip4/1.2.3.4/tcp/70000"] {
            assert!(parse_address(bad).is_err(), "{bad}");
        }
        let websocket = parse_address("/ip4/10.0.0.1/tcp/1/ws").unwrap_err().to_string();
        assert!(websocket.contains("quic-v1"), "{websocket}");
    }

    #[test]
    fn peer_ids_are_written_alike_here_and_in_libp2p() {
        let keypair = identity::Keypair::generate_ed25519();
        let key = PeerKey::new(keypair.clone().try_into_ed25519().unwrap().public().to_bytes());
        assert_eq!(peer_id(&key), Some(keypair.public().to_peer_id()));
        assert_eq!(key.to_string(), keypair.public().to_peer_id().to_string());
    }

    #[tokio::test]
    async fn host_names_are_looked_up() {
        let found = resolve("/dns4/localhost/udp/7/quic-v1".parse().unwrap()).await.unwrap();
        assert_eq!(found, ["/ip4/127.0.0.1/udp/7/quic-v1".parse().unwrap()]);
        assert!(resolve("/dns4/nothing.invalid/tcp/7".parse().unwrap()).await.is_err());
    }
}
