//! Links between the members of a committee: a proxy for each pair, with a delay, a bandwidth, a partition and flipped
//! bits.
//!
//! ```text
//!   member i ──► 127.0.0.1:(i→j) ──► link of the pair {i, j}: delay, rate, state ──► peer port of member j
//!   member j ──► 127.0.0.1:(j→i) ──► the same link, the other way               ──► peer port of member i
//! ```
//!
//! Each member is given a committee file of its own, in which the others have the addresses of its proxies. What members
//! tell about their own addresses is an address that nobody listens on, so no connection goes round a link.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use crate::network::{Network, NetworkError, Who};

/// Bytes that are carried at a time. At 100 Mbit/s these take 1.3 ms.
const PIECE: usize = 16 * 1024;
/// Pieces under way in one direction of a connection: what a link with delay can hold.
const UNDER_WAY: usize = 256;
/// The port that members say they are reached at: reserved, nobody listens.
const NOWHERE: &str = "/ip4/127.0.0.1/tcp/1";

/// What a link does now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Passage {
    /// It carries.
    #[default]
    Open,
    /// Connections are closed, and new ones too.
    Refused,
    /// Connections stay, and nothing arrives: what is sent meanwhile comes later.
    Silent,
}

/// The conditions of a link.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Conditions {
    /// Added to each byte's way, in each direction.
    pub delay: Duration,
    /// Bytes a second in each direction, all connections of the pair together; 0: no bound.
    pub rate: u64,
    /// Whether it carries.
    pub passage: Passage,
    /// In how many pieces of 16 KiB a bit is turned over, as a fraction.
    pub flips: f64,
}

/// One pair's link.
#[derive(Debug)]
struct Link {
    conditions: watch::Sender<Conditions>,
    /// When the last byte given to each direction will have left.
    busy_until: [Mutex<Option<Instant>>; 2],
}

impl Link {
    fn new() -> Self {
        Self { conditions: watch::Sender::new(Conditions::default()), busy_until: Default::default() }
    }

    /// When a piece of so many bytes that is given to the link now has left it.
    fn reserve(&self, direction: usize, bytes: usize, rate: u64) -> Instant {
        let now = Instant::now();
        if rate == 0 {
            return now;
        }
        let mut busy = self.busy_until[direction].lock().unwrap_or_else(PoisonError::into_inner);
        let left =
            busy.map_or(now, |busy| busy.max(now)) + Duration::from_secs_f64(bytes as f64 / rate as f64);
        *busy = Some(left);
        left
    }
}

/// The links of a committee. Dropping them closes everything that goes through them.
#[derive(Debug)]
pub struct Links {
    runtime: Option<tokio::runtime::Runtime>,
    links: BTreeMap<(usize, usize), Arc<Link>>,
    members: usize,
}

impl Links {
    /// Puts a link between each two members of a network that is not started yet.
    ///
    /// # Errors
    /// When no port is free, or a file cannot be written.
    pub fn between_members(network: Network) -> Result<(Self, Network), LinkError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.map_err(LinkError::Listen)?;
        let peers: Vec<u16> = network.settings().members.iter().map(|ports| ports.peer).collect();
        let members = peers.len();
        let mut links = BTreeMap::new();
        for low in 0..members {
            for high in low + 1..members {
                links.insert((low, high), Arc::new(Link::new()));
            }
        }
        let path = network.committee_file();
        let file = |source| LinkError::File { path: path.clone(), source };
        let committee = std::fs::read_to_string(&path).map_err(file)?;
        let mut network = network;
        for from in 0..members {
            let mut own = committee.clone();
            for to in (0..members).filter(|to| *to != from) {
                let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)));
                let listener = listener.map_err(LinkError::Listen)?;
                let port = listener.local_addr().map_err(LinkError::Listen)?.port();
                own = own.replace(&address(peers[to]), &address(port));
                let link = Arc::clone(&links[&(from.min(to), from.max(to))]);
                let target = SocketAddr::from((Ipv4Addr::LOCALHOST, peers[to]));
                runtime.spawn(serve(listener, link, target, usize::from(from > to)));
            }
            let path = network.dir().join(format!("committee-of-{}.toml", Who::Member(from)));
            std::fs::write(&path, own).map_err(|source| LinkError::File { path: path.clone(), source })?;
            let path = path.to_string_lossy().into_owned();
            let options = ["--committee.file", &path, "--peer.external-addresses", NOWHERE];
            network = network.with_member_options(from, options)?;
        }
        Ok((Self { runtime: Some(runtime), links, members }, network))
    }

    /// Changes the link of a pair.
    pub fn set(&self, one: usize, other: usize, change: impl FnOnce(&mut Conditions)) {
        if let Some(link) = self.links.get(&(one.min(other), one.max(other))) {
            link.conditions.send_modify(change);
        }
    }

    /// Changes all links.
    pub fn set_all(&self, change: impl Fn(&mut Conditions)) {
        self.links.values().for_each(|link| link.conditions.send_modify(&change));
    }

    /// Separates these members from all others; links on one side are open.
    pub fn partition(&self, side: &[usize], how: Passage) {
        for one in 0..self.members {
            for other in one + 1..self.members {
                let passage = if side.contains(&one) == side.contains(&other) { Passage::Open } else { how };
                self.set(one, other, |conditions| conditions.passage = passage);
            }
        }
    }

    /// Opens all links.
    pub fn heal(&self) {
        self.set_all(|conditions| conditions.passage = Passage::Open);
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Why there are no links.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No threads or no port.
    #[error("listen for links: {0}")]
    Listen(#[source] std::io::Error),
    /// A committee file.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The network.
    #[error(transparent)]
    Network(#[from] NetworkError),
}

/// As the committee file of a testnet has it, quotes included: a port that begins like another is another.
fn address(port: u16) -> String {
    format!("\"/ip4/127.0.0.1/tcp/{port}\"")
}

async fn serve(listener: TcpListener, link: Arc<Link>, target: SocketAddr, direction: usize) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let passage = link.conditions.borrow().passage;
        if passage != Passage::Refused {
            tokio::spawn(connection(stream, Arc::clone(&link), target, direction));
        }
    }
}

async fn connection(inside: TcpStream, link: Arc<Link>, target: SocketAddr, direction: usize) {
    let mut conditions = link.conditions.subscribe();
    if conditions.wait_for(|conditions| conditions.passage != Passage::Silent).await.is_err() {
        return;
    }
    let Ok(outside) = TcpStream::connect(target).await else { return };
    if inside.set_nodelay(true).and(outside.set_nodelay(true)).is_err() {
        return;
    }
    let (from_inside, to_inside) = inside.into_split();
    let (from_outside, to_outside) = outside.into_split();
    // One direction's end is the connection's.
    tokio::select! {
        () = carry(from_inside, to_outside, &link, direction) => {}
        () = carry(from_outside, to_inside, &link, 1 - direction) => {}
        _ = conditions.wait_for(|conditions| conditions.passage == Passage::Refused) => {}
    }
}

async fn carry(from: OwnedReadHalf, to: OwnedWriteHalf, link: &Link, direction: usize) {
    let (out, pieces) = mpsc::channel(UNDER_WAY);
    tokio::join!(take(from, out, link, direction), give(to, pieces, link));
}

/// Reads, no faster than the link carries, and says when each piece arrives.
async fn take(mut from: OwnedReadHalf, out: mpsc::Sender<(Instant, Vec<u8>)>, link: &Link, direction: usize) {
    loop {
        let mut piece = vec![0; PIECE];
        let Ok(read @ 1..) = from.read(&mut piece).await else { return };
        piece.truncate(read);
        let conditions = *link.conditions.borrow();
        if conditions.flips > 0.0 {
            let mut random = rand::rng();
            if random.random_bool(conditions.flips.min(1.0)) {
                let at = random.random_range(0..read);
                piece[at] ^= 1 << random.random_range(0..8);
            }
        }
        let left = link.reserve(direction, read, conditions.rate);
        if out.send((left + conditions.delay, piece)).await.is_err() {
            return;
        }
        // The next one is read when this one has left: the sender feels how fast the link is.
        sleep_until(left).await;
    }
}

async fn give(mut to: OwnedWriteHalf, mut pieces: mpsc::Receiver<(Instant, Vec<u8>)>, link: &Link) {
    let mut conditions = link.conditions.subscribe();
    while let Some((arrives, piece)) = pieces.recv().await {
        sleep_until(arrives).await;
        let open = conditions.wait_for(|conditions| conditions.passage != Passage::Silent).await.is_ok();
        if !open || to.write_all(&piece).await.is_err() {
            return;
        }
    }
    // The other side reads to the end of what was sent.
    let _ = to.shutdown().await;
}
