//! Runs a load: rounds of building bodies, sending them with all clients, and at the end waiting until the servers rest.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use das_common::store_auth::StoreKey;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::bodies::BodyMaker;
use super::operation::{Client, HASHED_READS, Operation, Stored, check_after};
use super::report::{Latencies, ProcessUse, Report};
use super::{Load, LoadError, Mode};
use crate::http::Connection;
use crate::process::{UsageMeter, wait_until_idle};

/// A server that has used nothing for so long is done with what it had to do after the last answer.
const STILL: Duration = Duration::from_secs(3);

/// A server that is not at rest by then is measured as it is, and the report says so.
const REST_WITHIN: Duration = Duration::from_secs(120);

/// Of one text of error so many examples are kept, of all texts together.
const ERROR_TEXTS: usize = 8;

/// Rounds of reads, which need no bodies.
const READS_PER_ROUND: u64 = 100_000;

/// A hot set is this many batches unless the caller says otherwise.
const HOT_SET: u64 = 8;

/// What came of the operations so far.
#[derive(Debug, Default)]
struct Tally {
    latencies: Vec<u64>,
    bytes: u64,
    errors: u64,
    error_texts: BTreeMap<String, u64>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.latencies.extend(other.latencies);
        self.bytes += other.bytes;
        self.errors += other.errors;
        for (text, count) in other.error_texts {
            self.note(text, count);
        }
    }

    fn note(&mut self, text: String, count: u64) {
        if self.error_texts.len() < ERROR_TEXTS || self.error_texts.contains_key(&text) {
            *self.error_texts.entry(text).or_default() += count;
        }
    }
}

/// Performs a run. `progress` hears now and then how many operations are done.
pub fn run(load: &Load, mut progress: impl FnMut(u64)) -> Result<Report, LoadError> {
    check_targets(load)?;
    let key = match load.mode {
        Mode::Refused => Arc::new(StoreKey::generate()),
        _ => load.key.clone(),
    };
    let mut maker = BodyMaker::new(key.clone(), load.seed);
    let mut clients = (0..load.clients.max(1)).map(|i| client(load, i)).collect::<Result<Vec<_>, _>>()?;
    let mut reads = Reads::prepare(load, &mut maker, &mut clients)?;

    let pids: Vec<u32> = load.processes.iter().map(|(_, pid)| *pid).collect();
    if !pids.is_empty() {
        wait_until_idle(&pids, STILL, REST_WITHIN)?;
    }
    let meters = pids.iter().map(|&pid| UsageMeter::start(pid)).collect::<Result<Vec<_>, _>>()?;

    let total = load.bounds.operations_of(load.size);
    let mut tally = Tally::default();
    let mut elapsed = Duration::ZERO;
    let mut begun = 0;
    while total.is_none_or(|total| begun < total) && load.bounds.duration.is_none_or(|limit| elapsed < limit)
    {
        let left = total.map_or(u64::MAX, |total| total - begun);
        let operations = next_round(load, &mut maker, &mut reads, left);
        let deadline = load.bounds.duration.map(|limit| limit - elapsed);
        let (round, took, performed) = play(&mut clients, &operations, &key, deadline);
        tally.add(round);
        elapsed += took;
        begun += performed;
        progress(begun);
    }

    let rested = pids.is_empty() || wait_until_idle(&pids, STILL, REST_WITHIN)?;
    let ops = tally.latencies.len() as u64;
    let processes = load.processes.iter().zip(&meters);
    let processes = processes
        .map(|((name, pid), meter)| Ok(ProcessUse::new(name, *pid, &meter.read()?, begun, tally.bytes)))
        .collect::<Result<Vec<_>, LoadError>>()?;
    Ok(Report {
        mode: load.mode.name(),
        size: load.size,
        clients: clients.len(),
        ops,
        bytes: tally.bytes,
        seconds: elapsed.as_secs_f64(),
        latency: Latencies::of(tally.latencies),
        errors: tally.errors,
        error_texts: tally.error_texts,
        processes,
        servers_rested: rested,
        seed: load.seed,
        file_system: load.data_dir.as_deref().map(super::report::file_system_of),
    })
}

fn check_targets(load: &Load) -> Result<(), LoadError> {
    let mode = load.mode;
    // Reads store their set first.
    if load.rpc.is_empty() {
        return Err(LoadError::NoTarget { mode, what: "JSON-RPC" });
    }
    if load.rest.is_empty() && matches!(mode, Mode::Read | Mode::ReadHot | Mode::Mixed) {
        return Err(LoadError::NoTarget { mode, what: "REST" });
    }
    if load.bounds.duration.is_none() && load.bounds.operations_of(load.size).is_none() {
        return Err(LoadError::NoBound);
    }
    Ok(())
}

fn client(load: &Load, index: usize) -> Result<Client, LoadError> {
    let open = |urls: &[String]| urls.iter().map(|url| Connection::new(url)).collect::<Result<Vec<_>, _>>();
    Ok(Client { rpc: open(&load.rpc)?, rest: open(&load.rest)?, turn: index })
}

/// The batches that reads ask for.
#[derive(Debug, Default)]
struct Reads {
    set: Vec<Stored>,
    next: usize,
}

impl Reads {
    /// Stores what will be read, without measuring it.
    fn prepare(load: &Load, maker: &mut BodyMaker, clients: &mut [Client]) -> Result<Self, LoadError> {
        let mode = load.mode;
        let wanted = match mode {
            Mode::Read if load.set > 0 => load.set,
            Mode::Read => load.bounds.operations_of(load.size).ok_or(LoadError::NoSet { mode })?,
            Mode::ReadHot if load.set > 0 => load.set,
            Mode::ReadHot => HOT_SET,
            Mode::Mixed => 1,
            Mode::Store | Mode::Chunked | Mode::Refused => 0,
        };
        let key = maker.key().clone();
        let mut set = Vec::new();
        while (set.len() as u64) < wanted {
            let n = round_length(load).min(wanted - set.len() as u64);
            let bodies: Vec<_> = (0..n).map(|_| maker.store(load.size)).collect();
            set.extend(bodies.iter().map(Stored::of));
            let operations: Vec<_> = bodies.into_iter().map(Operation::Store).collect();
            let (tally, ..) = play(clients, &operations, &key, None);
            if let Some(error) = tally.error_texts.into_keys().next() {
                return Err(LoadError::Preparation { error });
            }
        }
        // Not in the order of storing, which would be the order on the disk.
        set.shuffle(&mut StdRng::seed_from_u64(load.seed ^ 0x5eed));
        Ok(Self { set, next: 0 })
    }

    fn next(&mut self) -> Operation {
        let batch = self.set[self.next % self.set.len()].clone();
        self.next += 1;
        Operation::Read(batch)
    }
}

/// How many bodies of stores fit into a round's memory; enough that all clients have several.
fn round_length(load: &Load) -> u64 {
    let fit = load.round_bytes / (2 * load.size + 512);
    fit.clamp(4 * load.clients.max(1), 200_000) as u64
}

fn next_round(load: &Load, maker: &mut BodyMaker, reads: &mut Reads, left: u64) -> Vec<Operation> {
    let size = load.size;
    match load.mode {
        Mode::Read | Mode::ReadHot => (0..left.min(READS_PER_ROUND)).map(|_| reads.next()).collect(),
        Mode::Store => {
            (0..left.min(round_length(load))).map(|_| Operation::Store(maker.store(size))).collect()
        }
        Mode::Refused => {
            (0..left.min(round_length(load))).map(|_| Operation::Refused(maker.store(size))).collect()
        }
        Mode::Chunked => {
            let make = |_| Operation::Chunked(maker.chunked(size, load.chunk_size));
            (0..left.min(round_length(load))).map(make).collect()
        }
        Mode::Mixed => {
            let mut operations = Vec::new();
            let mut stored = Vec::new();
            for _ in 0..left.min(round_length(load)).div_ceil(2) {
                operations.push(reads.next());
                let body = maker.store(size);
                stored.push(Stored::of(&body));
                operations.push(Operation::Store(body));
            }
            // Read in the next round what this one stored.
            reads.set = stored;
            reads.next = 0;
            operations.truncate(left as usize);
            operations
        }
    }
}

/// All clients take from the list until it is empty or the time is up. Returns also how long it took and how many
/// operations were begun.
fn play(
    clients: &mut [Client],
    operations: &[Operation],
    key: &StoreKey,
    limit: Option<Duration>,
) -> (Tally, Duration, u64) {
    let taken = AtomicUsize::new(0);
    let tally = Mutex::new(Tally::default());
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for client in clients {
            let (taken, tally) = (&taken, &tally);
            scope.spawn(move || {
                let mut mine = Tally::default();
                while limit.is_none_or(|limit| begin.elapsed() < limit) {
                    let index = taken.fetch_add(1, Ordering::Relaxed);
                    let Some(operation) = operations.get(index) else { break };
                    perform(client, operation, key, (index as u64).is_multiple_of(HASHED_READS), &mut mine);
                }
                tally.lock().expect("no client panics while it holds the tally").add(mine);
            });
        }
    });
    let took = begin.elapsed();
    let tally = tally.into_inner().expect("no client panics while it holds the tally");
    let begun = tally.latencies.len() as u64 + tally.errors;
    (tally, took, begun)
}

fn perform(client: &mut Client, operation: &Operation, key: &StoreKey, hash_it: bool, tally: &mut Tally) {
    let begin = Instant::now();
    let result = client.perform(operation, key);
    let took = begin.elapsed();
    match result.and_then(|answer| check_after(operation, &answer, hash_it)) {
        Ok(()) => {
            tally.latencies.push(took.as_nanos() as u64);
            tally.bytes += operation.length() as u64;
        }
        Err(failure) => {
            tally.errors += 1;
            tally.note(failure.to_string(), 1);
        }
    }
}
