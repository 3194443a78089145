//! A siege: does a poster's store take longer while strangers do their worst?
//!
//! A poster stores as a sequencer does, batch after batch with pauses, first alone, then while thousands of connections
//! that say nothing lie on both ports and readers ask as fast as they are answered; in turns, several times, since a
//! machine has its moods. Strangers have machines of their own; here they run with the least priority, so that what is
//! measured is what the server lets them take, and not what the kernel gives to their programs.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use das_common::aside::{self, Aside};
use das_common::store_auth::StoreKey;
use serde::Serialize;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpSocket;

use super::bodies::{BodyMaker, StoreBody};
use super::report::Latencies;
use super::table::TableError;
use super::{Bounds, Load, Mode, ROUND_BYTES};
use crate::http::Connection;
use crate::network::{Network, Plan, Who};

/// Between two stores of the poster.
const PAUSE: Duration = Duration::from_millis(50);
/// A connection that was closed is opened again after this.
const AGAIN: Duration = Duration::from_secs(1);
/// Time for the connections to be made and the readers' batches to be stored before the poster begins.
const SETTLE: Duration = Duration::from_secs(8);

/// How a siege is laid.
#[derive(Debug, Clone)]
pub struct Options {
    /// Connections that say nothing, half on each port.
    pub silent: usize,
    /// Addresses that they come from.
    pub addresses: usize,
    /// Clients that read as fast as they are answered.
    pub readers: usize,
    /// Time of each turn.
    pub turn: Duration,
    /// Turns of both kinds.
    pub turns: usize,
    /// Bytes in a batch.
    pub size: usize,
    /// Members of the committee behind the aggregator.
    pub members: usize,
    /// Seed of the batches.
    pub seed: u64,
}

/// What the poster met, in all turns of a kind.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Met {
    /// Stores that were answered.
    pub stores: usize,
    /// How long they took, in milliseconds.
    pub latency: Latencies,
    /// Stores that failed.
    pub errors: usize,
}

/// One server under siege.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// Which.
    pub server: &'static str,
    /// The poster alone.
    pub calm: Met,
    /// The poster among strangers.
    pub besieged: Met,
    /// Reads that were answered, a second.
    pub reads_per_second: f64,
    /// Reads that failed, and why.
    pub reads_failed: BTreeMap<String, u64>,
    /// Connections that said nothing, open at the end of the last turn.
    pub silent_open: usize,
    /// Tries to open one in all turns.
    pub silent_tried: usize,
}

impl Outcome {
    /// By how much the p99 grew.
    pub fn ratio(&self) -> f64 {
        self.besieged.latency.p99 / self.calm.latency.p99.max(1e-9)
    }

    /// The promise: at most doubled, and nothing failed.
    pub fn within(&self) -> bool {
        self.ratio() <= 2.0 && self.besieged.errors == 0 && self.calm.errors == 0
    }
}

impl Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:", self.server)?;
        for (name, met) in [("alone", &self.calm), ("besieged", &self.besieged)] {
            let Met { stores, latency: Latencies { p50, p90, p99, max }, errors } = met;
            writeln!(
                f,
                "  {name:<9} {stores:>5} stores, {errors} failed; ms: p50 {p50:.2}  p90 {p90:.2}  p99 {p99:.2}  max {max:.2}"
            )?;
        }
        let Self { reads_per_second, silent_open, silent_tried, .. } = self;
        writeln!(
            f,
            "  p99 {:.2} times (at most 2){}; strangers: {reads_per_second:.0} reads/s, {silent_open} silent connections \
             open after {silent_tried} tries",
            self.ratio(),
            if self.within() { "" } else { " MISSED" },
        )?;
        for (text, count) in &self.reads_failed {
            writeln!(f, "    {count} reads failed: {text}")?;
        }
        Ok(())
    }
}

/// Lays siege to a member and to an aggregator, each started below `dir`.
pub fn run(
    dir: &Path,
    options: &Options,
    mut progress: impl FnMut(&str),
) -> Result<Vec<Outcome>, TableError> {
    let lone = Plan { members: 1, honest: 1, shards: 1, base_port: 0 };
    let committee = Plan { members: options.members, honest: 2, shards: 2, base_port: 0 };
    let mut outcomes = Vec::new();
    for (server, who, plan) in
        [("a member", Who::Member(0), lone), ("an aggregator", Who::Aggregator, committee)]
    {
        progress(&format!("{server}: {} turns of {:?} each way ...", options.turns, options.turn));
        let home = dir.join(server.replace(' ', "-"));
        let mut network = Network::open(&home, &plan)?;
        match who {
            Who::Member(_) => drop(network.start(who)?),
            _ => network.start_all(|_, _| ())?,
        }
        let outcome = lay(&network, server, who, options)?;
        progress(&outcome.to_string());
        outcomes.push(outcome);
        network.stop_all();
        std::fs::remove_dir_all(&home).map_err(|source| TableError::Dir { dir: home, source })?;
    }
    Ok(outcomes)
}

fn lay(network: &Network, server: &'static str, who: Who, options: &Options) -> Result<Outcome, TableError> {
    let addresses = network.addresses(who)?;
    let file = network.poster_key_file();
    let key = std::fs::read_to_string(&file).map_err(|source| TableError::Dir { dir: file, source })?;
    let key = Arc::new(StoreKey::from_hex(key.trim())?);
    let failed = |source| TableError::Run { row: server.to_owned(), source };
    let mut maker = BodyMaker::new(Arc::clone(&key), options.seed);
    let mut poster = Connection::new(&addresses.rpc).map_err(|error| failed(error.into()))?;
    let per_turn = (options.turn.as_secs_f64() / PAUSE.as_secs_f64()).ceil() as usize;
    let mut turn = |poster: &mut Connection, tally: &mut (Vec<u64>, usize)| {
        let bodies: Vec<_> = (0..per_turn).map(|_| maker.store(options.size)).collect();
        post(poster, &bodies, options.turn, tally);
    };
    // What a process does only once is in neither.
    turn(&mut poster, &mut Default::default());
    let (mut calm, mut besieged) = (Default::default(), Default::default());
    let (mut reads, mut silent_open, mut silent_tried) = (0.0, 0, 0);
    let mut reads_failed = BTreeMap::new();
    for number in 0..options.turns {
        turn(&mut poster, &mut calm);
        let silent =
            Silent::lay(&[&addresses.rpc, &addresses.rest], options).map_err(|error| failed(error.into()))?;
        let read = Load {
            mode: Mode::ReadHot,
            size: options.size,
            clients: options.readers,
            bounds: Bounds { duration: Some(options.turn + SETTLE), ..Bounds::default() },
            rpc: vec![addresses.rpc.clone()],
            rest: vec![addresses.rest.clone()],
            key: Arc::clone(&key),
            chunk_size: super::CHUNK_SIZE,
            set: 64,
            processes: Vec::new(),
            data_dir: None,
            round_bytes: ROUND_BYTES,
            seed: options.seed.wrapping_add(1 + number as u64),
        };
        let readers = std::thread::spawn(move || {
            // The threads that it starts have its priority.
            let _ = rustix::process::setpriority_process(None, aside::MOST.cast_signed());
            super::run(&read, |_| ())
        });
        std::thread::sleep(SETTLE);
        turn(&mut poster, &mut besieged);
        let report = readers.join().expect("the load generator does not panic").map_err(failed)?;
        reads += report.ops_per_second();
        for (text, count) in report.error_texts {
            *reads_failed.entry(text).or_default() += count;
        }
        silent_tried += silent.tried();
        silent_open = silent.lift();
    }
    Ok(Outcome {
        server,
        calm: met(calm),
        besieged: met(besieged),
        reads_per_second: reads / options.turns.max(1) as f64,
        reads_failed,
        silent_open,
        silent_tried,
    })
}

fn met((latencies, errors): (Vec<u64>, usize)) -> Met {
    Met { stores: latencies.len(), latency: Latencies::of(latencies), errors }
}

/// Stores at a steady pace; one that takes longer than the pause delays the next.
fn post(poster: &mut Connection, bodies: &[StoreBody], limit: Duration, tally: &mut (Vec<u64>, usize)) {
    let begin = Instant::now();
    for (n, body) in bodies.iter().enumerate() {
        if begin.elapsed() > limit {
            break;
        }
        let due = PAUSE * u32::try_from(n).unwrap_or(u32::MAX);
        std::thread::sleep(due.saturating_sub(begin.elapsed()));
        let asked = Instant::now();
        let named = format!(r#""dataHash":"0x{}""#, body.hash);
        match poster.post_json(&[&body.json]) {
            Ok(answer) if memchr::memmem::find(&answer.body, named.as_bytes()).is_some() => {
                tally.0.push(u64::try_from(asked.elapsed().as_nanos()).unwrap_or(u64::MAX));
            }
            _ => tally.1 += 1,
        }
    }
}

/// Connections that say nothing.
struct Silent {
    threads: Aside,
    lifted: Arc<AtomicBool>,
    open: Arc<AtomicUsize>,
    tried: Arc<AtomicUsize>,
}

impl Silent {
    fn lay(urls: &[&String], options: &Options) -> Result<Self, crate::http::HttpError> {
        let threads = Aside::start(aside::MOST).map_err(|source| crate::http::HttpError::Connection {
            action: "starting threads for",
            address: "silent connections".to_owned(),
            source,
        })?;
        let silent = Self { threads, lifted: Arc::default(), open: Arc::default(), tried: Arc::default() };
        for n in 0..options.silent {
            let url = urls[n % urls.len()];
            let target = url.split("//").nth(1).unwrap_or_default().trim_end_matches('/').to_owned();
            let from = u32::try_from(n / urls.len() % options.addresses.max(1)).unwrap_or_default();
            // 127.0.1.0 and on: not the poster's.
            let from = Ipv4Addr::from_bits(Ipv4Addr::new(127, 0, 1, 0).to_bits() + from);
            let (lifted, open) = (Arc::clone(&silent.lifted), Arc::clone(&silent.open));
            let tried = Arc::clone(&silent.tried);
            silent.threads.handle().spawn(async move {
                let Ok(target) = target.replace("localhost", "127.0.0.1").parse::<SocketAddr>() else {
                    return;
                };
                while !lifted.load(Ordering::Relaxed) {
                    tried.fetch_add(1, Ordering::Relaxed);
                    let socket = TcpSocket::new_v4().and_then(|socket| {
                        socket.bind(SocketAddr::new(IpAddr::V4(from), 0)).map(|()| socket)
                    });
                    if let Ok(socket) = socket
                        && let Ok(Ok(mut stream)) = tokio::time::timeout(AGAIN, socket.connect(target)).await
                    {
                        open.fetch_add(1, Ordering::Relaxed);
                        // It ends when the server has had enough of it.
                        let _ = stream.read(&mut [0; 64]).await;
                        open.fetch_sub(1, Ordering::Relaxed);
                    }
                    tokio::time::sleep(AGAIN).await;
                }
            });
        }
        Ok(silent)
    }

    fn tried(&self) -> usize {
        self.tried.load(Ordering::Relaxed)
    }

    /// Ends them all; how many there were.
    fn lift(self) -> usize {
        self.lifted.store(true, Ordering::Relaxed);
        self.open.load(Ordering::Relaxed)
    }
}
