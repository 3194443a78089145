//! What a network is made of, and why it cannot be made.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use das_common::binding::MemberId;
use das_common::committee::{Committee, PeerAddress};
use das_common::fault::{self, Coded, Fault};
use das_common::signer::Signer;
use libp2p::request_response::{self, ProtocolSupport};
use libp2p::swarm::Swarm;
use libp2p::{Multiaddr, SwarmBuilder, connection_limits, gossipsub, identify, noise, ping, tcp, yamux};
use thiserror::Error;

use super::{GOSSIP_TOPIC, Wire};
use crate::peer::address::AddressError;
use crate::peer::door::Door;
use crate::peer::frames::{FRAME_PROTOCOL, FrameCodec};
use crate::peer::gated::Gated;
use crate::peer::hello;
use crate::peer::identity::PeerIdentity;
use crate::peer::options::PeerOptions;

/// Streams of one connection at once, all protocols together.
const MAX_STREAMS: usize = 96;
/// What a gossip message has around the bytes: topic, author, number, signature.
const GOSSIP_OVERHEAD: usize = 1024;
/// Messages that wait to be sent to one slow member.
const GOSSIP_QUEUE: usize = 64;

/// Why the peer layer cannot start.
#[derive(Debug, Error)]
pub enum PeerError {
    /// The key is of no member.
    #[error("the key is that of no member of the committee")]
    NotMember,
    /// A node without a BLS key that no committee file names.
    #[error("the committee file names no mirror with this node's peer id, {peer_id}")]
    NotMirror {
        /// This node's peer id.
        peer_id: String,
    },
    /// An address of the committee file.
    #[error("peer of {member}: {source}")]
    Address {
        /// Whose.
        member: String,
        /// What is wrong.
        source: AddressError,
    },
    /// An address that cannot be listened on.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: Multiaddr,
        /// The system's report.
        reason: String,
    },
    /// The transports cannot be set up.
    #[error("the peer protocols cannot be set up: {reason}")]
    Setup {
        /// What libp2p says.
        reason: String,
    },
}

impl Coded for PeerError {
    fn fault(&self) -> &'static Fault {
        match self {
            Self::NotMember | Self::NotMirror { .. } => fault::KEY_NOT_MEMBER,
            Self::Address { .. } => fault::CONFIG_COMMITTEE,
            Self::Listen { .. } | Self::Setup { .. } => fault::NET_BIND,
        }
    }
}

pub(super) fn own_id(
    committees: &[Arc<Committee>],
    identity: &PeerIdentity,
    signer: Option<&dyn Signer>,
) -> Result<MemberId, PeerError> {
    match signer {
        Some(signer) => {
            let key = signer.public_key();
            let named = committees.iter().any(|committee| committee.index_of(key).is_some());
            named.then(|| MemberId::of(key)).ok_or(PeerError::NotMember)
        }
        None => {
            let key = identity.peer_key();
            let named = |committee: &Arc<Committee>| committee.mirrors().iter().any(|m| m.peer_key == key);
            let is_mirror = committees.iter().any(named);
            let not_mirror = || PeerError::NotMirror { peer_id: key.to_string() };
            is_mirror.then(|| MemberId::of_mirror(&key)).ok_or_else(not_mirror)
        }
    }
}

/// libp2p shares its TCP ports with whoever asks for it; another program on the port would get half of the calls.
pub(super) fn check_free(address: &Multiaddr) -> io::Result<()> {
    use libp2p::multiaddr::Protocol;
    let mut parts = address.iter();
    let ip: std::net::IpAddr = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return Ok(()),
    };
    match parts.next() {
        Some(Protocol::Tcp(port)) if port != 0 => std::net::TcpListener::bind((ip, port)).map(drop),
        _ => Ok(()),
    }
}

pub(super) fn member_address(
    name: &str,
    address: Option<&PeerAddress>,
) -> Result<Option<Multiaddr>, PeerError> {
    let parsed = address.map(|address| crate::peer::address::parse_address(address.as_str())).transpose();
    parsed.map_err(|source| PeerError::Address { member: name.to_owned(), source })
}

pub(super) fn make_swarm(options: &PeerOptions, identity: &PeerIdentity) -> Result<Swarm<Wire>, PeerError> {
    let setup = |reason: String| PeerError::Setup { reason };
    let keypair = libp2p::identity::Keypair::from(identity.keypair().clone());
    let wire = make_wire(options, &keypair).map_err(setup)?;
    let yamux = || {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(MAX_STREAMS);
        config
    };
    let quic = |mut config: libp2p::quic::Config| {
        config.max_concurrent_stream_limit = MAX_STREAMS as u32;
        config.max_idle_timeout = 20_000;
        config
    };
    let swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux)
        .map_err(|error| setup(error.to_string()))?
        .with_quic_config(quic)
        .with_behaviour(|_| wire)
        .map_err(|error| setup(error.to_string()))?
        .with_swarm_config(|config| {
            // Connections are closed by deadline or policy here, never because nothing is being said.
            config
                .with_idle_connection_timeout(Duration::from_secs(u64::MAX))
                .with_max_negotiating_inbound_streams(MAX_STREAMS)
        })
        .with_connection_timeout(options.limits.hello_timeout)
        .build();
    Ok(swarm)
}

fn make_wire(options: &PeerOptions, keypair: &libp2p::identity::Keypair) -> Result<Wire, String> {
    let limits = &options.limits;
    let most = das_common::keyset::MAX_MEMBERS + das_common::committee::MAX_MIRRORS;
    let most = u32::try_from(2 * most).unwrap_or(u32::MAX).saturating_mul(limits.connections_per_peer);
    let strangers = u32::try_from(limits.max_strangers).unwrap_or(u32::MAX);
    let connections = connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(strangers.saturating_mul(2).max(64)))
        .with_max_pending_outgoing(Some(most))
        .with_max_established_incoming(Some(most.saturating_add(strangers)))
        .with_max_established_outgoing(Some(most))
        .with_max_established_per_peer(Some(limits.connections_per_peer));
    let codec =
        FrameCodec::new(limits.max_request, limits.max_answer, limits.request_memory, limits.answer_memory);
    let frames = request_response::Behaviour::with_codec(
        codec,
        [(FRAME_PROTOCOL, ProtocolSupport::Full)],
        request_response::Config::default()
            .with_request_timeout(limits.answer_timeout)
            .with_max_concurrent_streams(limits.requests_per_member + limits.asks_per_member),
    );
    let gossip = gossipsub::ConfigBuilder::default()
        .validation_mode(gossipsub::ValidationMode::Strict)
        .validate_messages()
        .max_transmit_size(limits.max_gossip + GOSSIP_OVERHEAD)
        .flood_publish(true)
        // A message waits in the cache for the verdict of the layer above.
        .history_length(20)
        .duplicate_cache_time(Duration::from_secs(300))
        .connection_handler_queue_len(GOSSIP_QUEUE)
        .build()
        .map_err(|error| error.to_string())?;
    let authenticity = gossipsub::MessageAuthenticity::Signed(keypair.clone());
    let mut gossip: gossipsub::Behaviour =
        gossipsub::Behaviour::new(authenticity, gossip).map_err(str::to_owned)?;
    gossip.subscribe(&gossipsub::IdentTopic::new(GOSSIP_TOPIC)).map_err(|error| error.to_string())?;
    let ping = ping::Config::new().with_interval(limits.ping_interval).with_timeout(Duration::from_secs(10));
    let identify = identify::Config::new("/das/peer/1".to_owned(), keypair.public())
        .with_agent_version(format!("das-node/{}", env!("CARGO_PKG_VERSION")));
    Ok(Wire {
        limits: connection_limits::Behaviour::new(connections),
        door: Door::new(limits.max_strangers, limits.connection_rate, limits.connection_burst),
        hello: hello::Behaviour::default(),
        frames: Gated::new(frames),
        gossip: Gated::new(gossip),
        ping: Gated::new(ping::Behaviour::new(ping)),
        identify: Gated::new(identify::Behaviour::new(identify)),
    })
}
