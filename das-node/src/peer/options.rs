//! What the peer layer is started with.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use das_common::committee::Committee;
use libp2p::Multiaddr;

/// Gives the time in unix seconds.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The machine's clock.
pub fn system_clock() -> Clock {
    Arc::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

/// How a node takes part.
#[derive(Clone)]
pub struct PeerOptions {
    /// Addresses to listen on; port 0 picks a free one.
    pub listen: Vec<Multiaddr>,
    /// Addresses that others are told; without, those listened on.
    pub external: Vec<Multiaddr>,
    /// File in which the cards of the others are kept, so that superseded bindings stay so after a restart.
    pub cards_file: Option<PathBuf>,
    /// How long a binding lasts that is signed here.
    pub binding_life: Duration,
    /// Bounds.
    pub limits: PeerLimits,
    /// The clock that bindings are judged by.
    pub clock: Clock,
}

impl std::fmt::Debug for PeerOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerOptions")
            .field("listen", &self.listen)
            .field("external", &self.external)
            .finish_non_exhaustive()
    }
}

impl Default for PeerOptions {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            external: Vec::new(),
            cards_file: None,
            binding_life: das_common::binding::DEFAULT_LIFE,
            limits: PeerLimits::default(),
            clock: system_clock(),
        }
    }
}

/// Bounds on what others can make this node hold or do.
#[derive(Clone, Debug)]
pub struct PeerLimits {
    /// Longest request, bytes.
    pub max_request: usize,
    /// Longest answer, bytes: a whole batch and its frame.
    pub max_answer: usize,
    /// Longest gossip message, bytes.
    pub max_gossip: usize,
    /// Memory for requests and gossip that arrive or wait to be worked on, of all members together.
    pub request_memory: usize,
    /// Memory for answers that arrive.
    pub answer_memory: usize,
    /// Memory for answers that are being sent.
    pub sending_memory: usize,
    /// Requests of one member that are worked on at once.
    pub requests_per_member: usize,
    /// Requests that wait for one member's answer at once.
    pub asks_per_member: usize,
    /// Requests a second of one member, in the long run.
    pub request_rate: f64,
    /// Requests of one member in a burst.
    pub request_burst: f64,
    /// Gossip messages a second of one member, in the long run.
    pub gossip_rate: f64,
    /// Gossip messages of one member in a burst.
    pub gossip_burst: f64,
    /// Connections a second from one address.
    pub connection_rate: f64,
    /// Connections from one address in a burst.
    pub connection_burst: f64,
    /// Unknown peers connected at once.
    pub max_strangers: usize,
    /// Connections of one peer at once.
    pub connections_per_peer: u32,
    /// Events that wait for the layer above.
    pub event_queue: usize,
    /// Time for a connection to exchange bindings.
    pub hello_timeout: Duration,
    /// Longest time that an answer may take, whoever asks.
    pub answer_timeout: Duration,
    /// First pause before an address is dialled again.
    pub min_backoff: Duration,
    /// Longest pause.
    pub max_backoff: Duration,
    /// Time between two exchanges of cards with a member.
    pub card_interval: Duration,
    /// Time between two pings.
    pub ping_interval: Duration,
}

impl Default for PeerLimits {
    fn default() -> Self {
        Self {
            max_request: 1 << 20,
            max_answer: 66 << 20,
            max_gossip: 256 << 10,
            request_memory: 64 << 20,
            answer_memory: 256 << 20,
            sending_memory: 256 << 20,
            requests_per_member: 32,
            asks_per_member: 64,
            request_rate: 1000.0,
            request_burst: 2000.0,
            gossip_rate: 20.0,
            gossip_burst: 200.0,
            connection_rate: 2.0,
            connection_burst: 100.0,
            max_strangers: 32,
            connections_per_peer: 4,
            event_queue: 1024,
            hello_timeout: Duration::from_secs(10),
            answer_timeout: Duration::from_secs(120),
            min_backoff: Duration::from_millis(500),
            max_backoff: Duration::from_secs(60),
            card_interval: Duration::from_secs(60),
            ping_interval: Duration::from_secs(15),
        }
    }
}

/// Whether a committee has any use for peers: cold batches are coded, or somebody has an address.
pub fn wants_peers(committee: &Committee) -> bool {
    let addresses = committee.members().iter().map(|member| &member.peer);
    committee.policy().is_coded()
        || addresses.chain(committee.mirrors().iter().map(|mirror| &mirror.peer)).any(Option::is_some)
}
