//! Options of the connections to other members.

use std::path::{Path, PathBuf};
use std::time::Duration;

use das_common::binding::MAX_LIFE;
use das_common::config::{ByteSize, Problem};
use das_common::options;
use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

use super::NodeOptions;
use super::check::problem;
use crate::peer::{AddressError, KEY_FILE, PeerLimits, PeerOptions, parse_address};

/// What an answer has around a batch.
const ANSWER_OVERHEAD: usize = 1 << 20;
/// File of what is known of the other members, beside the key.
const CARDS_FILE: &str = "peer.cards";
/// A shorter life is renewed all the time.
const MIN_LIFE: Duration = Duration::from_secs(3600);

options! {
    /// The connections to the other members of the committee. They are used when the committee file cuts cold batches
    /// into shards, or gives anybody a peer address.
    pub struct PeerSection {
        /// Addresses that other members connect to, in multiaddr notation, separated by commas; port 0 picks a free one.
        listen: Vec<String> = "/ip4/0.0.0.0/tcp/9879,/ip4/0.0.0.0/udp/9879/quic-v1",
        /// Addresses that other members are told to connect to, where they are not those listened on: behind a NAT or
        /// a proxy, as /dns4/das.example.org/tcp/9879.
        external_addresses: Vec<String>,
        /// File of the key that this machine speaks with, made at the first start. Without, peer.key in the directory of
        /// the batch store.
        key_file: PathBuf,
        /// How long the BLS key vouches for that key; renewed at half of it.
        binding_life: Duration = "720h0m0s",
        /// Longest time for an answer of another member.
        answer_timeout: Duration = "2m0s",
        /// Most memory for answers of other members that are arriving; as much again may be on its way to them.
        max_memory: ByteSize = "256MiB",
        /// Requests of one member that are worked on at once; further ones are told to come again.
        max_requests_per_member: usize = "32",
        /// Requests a second of one member in the long run; twice as many at once.
        request_rate: u32 = "1000",
        /// Connections at once of peers that have not yet shown a binding.
        max_strangers: usize = "32",
        /// First pause before a member that cannot be reached is called again; doubled each time.
        min_backoff: Duration = "500ms",
        /// Longest such pause.
        max_backoff: Duration = "1m0s",
    }
}

fn parse(addresses: &[String]) -> Result<Vec<Multiaddr>, AddressError> {
    addresses.iter().map(|text| parse_address(text)).collect()
}

impl PeerSection {
    /// The file of the peer key, where the batch store is in that directory.
    pub fn key_file(&self, data_dir: &Path) -> PathBuf {
        if self.key_file.as_os_str().is_empty() { data_dir.join(KEY_FILE) } else { self.key_file.clone() }
    }

    /// What the peer layer is started with.
    ///
    /// # Errors
    /// When an address is none; the checks of the options have found that before.
    pub fn peer_options(&self, data_dir: &Path, max_message: ByteSize) -> Result<PeerOptions, AddressError> {
        let limits = PeerLimits::default();
        let max_answer = limits.max_answer.max(max_message.as_usize().saturating_add(ANSWER_OVERHEAD));
        let rate = f64::from(self.request_rate);
        Ok(PeerOptions {
            listen: parse(&self.listen)?,
            external: parse(&self.external_addresses)?,
            cards_file: Some(data_dir.join(CARDS_FILE)),
            binding_life: self.binding_life,
            limits: PeerLimits {
                max_answer,
                answer_memory: self.max_memory.as_usize(),
                sending_memory: self.max_memory.as_usize(),
                requests_per_member: self.max_requests_per_member,
                request_rate: rate,
                request_burst: 2.0 * rate,
                max_strangers: self.max_strangers,
                answer_timeout: self.answer_timeout,
                min_backoff: self.min_backoff,
                max_backoff: self.max_backoff,
                ..limits
            },
            ..PeerOptions::default()
        })
    }
}

pub(super) fn problems(options: &NodeOptions, found: &mut Vec<Problem>) {
    let peer = &options.peer;
    let form = "give a list such as /ip4/0.0.0.0/tcp/9879,/ip4/0.0.0.0/udp/9879/quic-v1";
    match parse(&peer.listen) {
        Ok(addresses) => addresses.iter().for_each(|address| listened(options, address, found)),
        Err(error) => found.push(problem("peer.listen", error.to_string(), form)),
    }
    if let Err(error) = parse(&peer.external_addresses) {
        let form = "give a list such as /dns4/das.example.org/tcp/9879";
        found.push(problem("peer.external-addresses", error.to_string(), form));
    }
    if peer.binding_life < MIN_LIFE || peer.binding_life > MAX_LIFE {
        let most = MAX_LIFE.as_secs() / 3600;
        let text = format!("a binding lasts at least 1h and at most {most}h");
        found.push(problem("peer.binding-life", text, "leave it out, or give 720h"));
    }
    let needed = peer.peer_options(Path::new(""), options.limits.max_message_size);
    let needed = needed.map_or(0, |made| made.limits.max_answer as u64);
    if peer.max_memory.0 < needed {
        let text = format!("{} is below the longest answer, {needed} bytes", peer.max_memory);
        found.push(problem("peer.max-memory", text, "make it several times --limits.max-message-size"));
    }
    for (option, is_zero) in [
        ("peer.answer-timeout", peer.answer_timeout.is_zero()),
        ("peer.max-requests-per-member", peer.max_requests_per_member == 0),
        ("peer.request-rate", peer.request_rate == 0),
        ("peer.max-strangers", peer.max_strangers == 0),
        ("peer.min-backoff", peer.min_backoff.is_zero()),
    ] {
        if is_zero {
            found.push(problem(option, "it is 0", "leave it out, or give more"));
        }
    }
    if peer.max_backoff < peer.min_backoff {
        let text = "it is below --peer.min-backoff";
        found.push(problem("peer.max-backoff", text, "give the longest pause, such as 1m"));
    }
}

/// What is wrong with listening on an address.
fn listened(options: &NodeOptions, address: &Multiaddr, found: &mut Vec<Problem>) {
    let mut parts = address.iter();
    let host = parts.next();
    if !matches!(host, Some(Protocol::Ip4(_) | Protocol::Ip6(_))) {
        let text = format!("{address} is not an address of this machine");
        found.push(problem("peer.listen", text, "give /ip4/ or /ip6/ and the IP address, 0.0.0.0 for all"));
    }
    let Some(Protocol::Tcp(port)) = parts.next() else { return };
    let servers = [
        ("rpc-port", options.enable_rpc, options.rpc_port),
        ("rest-port", options.enable_rest, options.rest_port),
        ("metrics-server.port", options.metrics, options.metrics_server.port),
    ];
    if let Some((name, ..)) = servers.iter().find(|(_, on, other)| *on && *other == port && port != 0) {
        let text = format!("port {port} of {address} is that of --{name} too");
        found.push(problem("peer.listen", text, "give each server a port of its own"));
    }
}
