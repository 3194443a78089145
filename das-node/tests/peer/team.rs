//! A committee whose members run in this process.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use das_common::binding::MemberId;
use das_common::bls::SecretKey;
use das_common::committee::Committee;
use das_common::signer::LocalSigner;
use das_node::peer::{Clock, PeerEvent, PeerHandle, PeerIdentity, PeerLimits, PeerNetwork, PeerOptions};
use tokio::sync::mpsc;

/// Nothing in these tests takes as long; what does, hangs.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) fn secret(i: u8) -> SecretKey {
    SecretKey::from_bytes(&[i + 1]).unwrap()
}

pub(crate) fn id(i: u8) -> MemberId {
    MemberId::of(&secret(i).public_key())
}

/// A committee file with the peer addresses that are given.
pub(crate) fn committee(keys: &[u8], h: usize, k: usize, addresses: &[(u8, String)]) -> Arc<Committee> {
    committee_with(keys, h, k, addresses, "")
}

pub(crate) fn committee_with(
    keys: &[u8],
    h: usize,
    k: usize,
    addresses: &[(u8, String)],
    more: &str,
) -> Arc<Committee> {
    let mut text = format!("honest-members = {h}\ndata-shards = {k}\n");
    for i in keys {
        let key = base64_simd::STANDARD.encode_to_string(secret(*i).public_key().to_bytes());
        text += &format!(
            "[[member]]\nname = \"m{i}\"\npublic-key = \"{key}\"\nrpc = \"http://127.0.0.1:{}\"\n\
             rest = \"http://127.0.0.1:{}\"\n",
            10_000 + u32::from(*i),
            11_000 + u32::from(*i)
        );
        if let Some((_, address)) = addresses.iter().find(|(j, _)| j == i) {
            text += &format!("peer = \"{address}\"\n");
        }
    }
    Arc::new(Committee::parse(&(text + more)).unwrap())
}

/// Limits with short pauses.
pub(crate) fn limits() -> PeerLimits {
    PeerLimits {
        connection_burst: 1e6,
        min_backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(1),
        card_interval: Duration::from_secs(2),
        hello_timeout: Duration::from_secs(3),
        ..PeerLimits::default()
    }
}

pub(crate) fn options(listen: &str) -> PeerOptions {
    PeerOptions { listen: vec![listen.parse().unwrap()], limits: limits(), ..PeerOptions::default() }
}

pub(crate) const TCP: &str = "/ip4/127.0.0.1/tcp/0";
pub(crate) const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";

/// A clock that is set by hand.
pub(crate) fn clock(at: &Arc<AtomicU64>) -> Clock {
    let at = Arc::clone(at);
    Arc::new(move || at.load(Ordering::Relaxed))
}

/// One member. Questions are answered with the question; `hang` is never answered, `big N` with N bytes.
pub(crate) struct Running {
    pub(crate) handle: PeerHandle,
    pub(crate) events: mpsc::UnboundedReceiver<Seen>,
}

/// An event, as the test sees it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    Up(MemberId),
    Down(MemberId),
    Gossip(MemberId, Bytes),
    Asked(MemberId, Bytes),
}

impl Running {
    pub(crate) async fn start(i: u8, committees: &[Arc<Committee>], options: PeerOptions) -> Self {
        Self::start_with(i, committees, options, PeerIdentity::generate()).await
    }

    pub(crate) async fn start_with(
        i: u8,
        committees: &[Arc<Committee>],
        options: PeerOptions,
        identity: PeerIdentity,
    ) -> Self {
        let signer = Arc::new(LocalSigner::new(secret(i)));
        let started = PeerNetwork::start(options, committees.to_vec(), identity, Some(signer)).await;
        Self::of(started.unwrap())
    }

    pub(crate) fn of((handle, mut events): (PeerHandle, mpsc::Receiver<PeerEvent>)) -> Self {
        let (seen, out) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut hanging = Vec::new();
            while let Some(event) = events.recv().await {
                let event = match event {
                    PeerEvent::Up(member) => Seen::Up(member),
                    PeerEvent::Down(member) => Seen::Down(member),
                    PeerEvent::Gossip { from, bytes, verdict } => {
                        if bytes.starts_with(b"bad") {
                            verdict.reject();
                        } else {
                            verdict.accept();
                        }
                        Seen::Gossip(from, bytes)
                    }
                    PeerEvent::Asked { from, bytes, reply } => {
                        let text = String::from_utf8_lossy(&bytes).into_owned();
                        match text.strip_prefix("big ") {
                            Some(length) => reply.send(vec![7; length.parse().unwrap()].into()),
                            None if text == "hang" => hanging.push(reply),
                            None => reply.send(bytes.clone()),
                        }
                        Seen::Asked(from, bytes)
                    }
                };
                if seen.send(event).is_err() {
                    return;
                }
            }
        });
        Self { handle, events: out }
    }

    /// Waits for an event; others on the way are passed over.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Seen) -> bool) -> Seen {
        let found = async {
            loop {
                let event = self.events.recv().await.expect("the layer has ended");
                if wanted(&event) {
                    return event;
                }
            }
        };
        tokio::time::timeout(LONG, found).await.expect("the event does not come")
    }

    /// Waits until these, and only these, are connected.
    pub(crate) async fn until_connected(&self, members: &[u8]) {
        let mut wanted: Vec<MemberId> = members.iter().map(|i| id(*i)).collect();
        wanted.sort();
        let handle = self.handle.clone();
        eventually(&format!("{members:?} connected"), async || {
            let mut now: Vec<MemberId> = handle.connected().iter().map(|status| status.member).collect();
            now.sort();
            if now == wanted { Ok(()) } else { Err(format!("{:#?}", handle.members())) }
        })
        .await;
    }

    pub(crate) async fn ask(&self, i: u8, text: &str) -> Bytes {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        self.handle.ask(id(i), bytes, LONG).await.unwrap()
    }

    pub(crate) async fn address(&self) -> String {
        let handle = self.handle.clone();
        eventually("an address", async || {
            let listening = handle.listening().await;
            listening.first().map(ToString::to_string).ok_or("none".to_owned())
        })
        .await
    }
}

/// Tries until it succeeds.
pub(crate) async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Result<T, String>) -> T {
    let started = std::time::Instant::now();
    loop {
        match attempt().await {
            Ok(done) => return done,
            Err(error) if started.elapsed() > LONG => panic!("{what}: {error}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

/// Starts members that do not know any address yet, and then tells everybody all addresses.
pub(crate) async fn team(
    keys: &[u8],
    h: usize,
    k: usize,
    options: impl Fn(u8) -> PeerOptions,
) -> HashMap<u8, Running> {
    let without = committee(keys, h, k, &[]);
    let mut members = HashMap::new();
    for i in keys {
        members.insert(*i, Running::start(*i, std::slice::from_ref(&without), options(*i)).await);
    }
    let mut addresses = Vec::new();
    for i in keys {
        addresses.push((*i, members[i].address().await));
    }
    let with = committee(keys, h, k, &addresses);
    for member in members.values() {
        member.handle.set_committees(vec![Arc::clone(&with)]).await;
    }
    for i in keys {
        let others: Vec<u8> = keys.iter().copied().filter(|j| j != i).collect();
        members[i].until_connected(&others).await;
    }
    members
}

/// The value of a counter of refusals. Counters are of the whole process: tests compare before and after.
pub(crate) fn refusals(reason: &str) -> u64 {
    let text = das_common::telemetry::init_metrics().render();
    let name = format!("das_peer_refused_total{{reason=\"{reason}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&name)?.trim().parse().ok()).unwrap_or(0)
}
