//! The rows of the table.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use das_common::store_auth::StoreKey;

use super::{Figure, Options, Table, TableError};
use crate::load::report::Report;
use crate::load::{self, Bounds, Load, LoadError, Mode, ROUND_BYTES};
use crate::network::{Network, Plan, Who};
use crate::process::Usage;

const KB: usize = 1000;
const MB: usize = 1000 * KB;
const GB: u64 = 1_000_000_000;

/// Clients of the store rows.
const CLIENTS: usize = 8;

/// Entries of the members' caches while reads "from the store" are measured: fewer than any set that is read.
const SMALL_CACHE: usize = 64;

/// One run and what is promised of it.
struct Row {
    name: &'static str,
    mode: Mode,
    size: usize,
    clients: usize,
    bytes: u64,
    promises: &'static [Promise],
}

/// Of which figure at most how much is promised.
struct Promise {
    what: &'static str,
    unit: &'static str,
    limit: f64,
    nitro: &'static str,
    of: fn(&Report) -> f64,
}

fn cpu(report: &Report) -> f64 {
    report.processes[0].cpu_ms_per_op
}

fn written(report: &Report) -> f64 {
    report.processes[0].written_per_byte
}

const fn cpu_at_most(limit: f64, nitro: &'static str) -> Promise {
    Promise { what: "server CPU", unit: "ms/op", limit, nitro, of: cpu }
}

const fn p99_at_most(limit: f64, nitro: &'static str) -> Promise {
    Promise { what: "p99", unit: "ms", limit, nitro, of: |report| report.latency.p99 }
}

const WRITTEN: Promise =
    Promise { what: "written", unit: "bytes/byte", limit: 2.1, nitro: "1 (never synced)", of: written };

const MEMBER_ROWS: &[Row] = &[
    Row {
        name: "store 1 MB",
        mode: Mode::Store,
        size: MB,
        clients: CLIENTS,
        bytes: 2 * GB,
        promises: &[cpu_at_most(3.0, "53-60 ms"), p99_at_most(40.0, "405 ms"), WRITTEN],
    },
    Row {
        name: "store 100 KB",
        mode: Mode::Store,
        size: 100 * KB,
        clients: CLIENTS,
        bytes: 2 * GB,
        promises: &[cpu_at_most(0.7, "6.7-8.6 ms"), WRITTEN],
    },
    Row {
        name: "store 10 KB",
        mode: Mode::Store,
        size: 10 * KB,
        clients: CLIENTS,
        bytes: GB / 2,
        promises: &[cpu_at_most(0.4, "2.0 ms"), WRITTEN],
    },
    Row {
        name: "chunked store 4 MB",
        mode: Mode::Chunked,
        size: 4 * MB,
        clients: CLIENTS,
        bytes: 2 * GB,
        promises: &[WRITTEN],
    },
    Row {
        name: "get-by-hash 1 MB from the store",
        mode: Mode::Read,
        size: MB,
        clients: CLIENTS,
        bytes: 2 * GB,
        promises: &[cpu_at_most(1.5, "4.4-5.4 ms")],
    },
    Row {
        name: "get-by-hash 1 MB from the cache",
        mode: Mode::ReadHot,
        size: MB,
        clients: CLIENTS,
        bytes: 2 * GB,
        promises: &[cpu_at_most(0.8, "4.4-5.4 ms")],
    },
    Row {
        name: "get-by-hash 100 KB from the store",
        mode: Mode::Read,
        size: 100 * KB,
        clients: CLIENTS,
        bytes: 2 * GB,
        promises: &[cpu_at_most(0.25, "0.53-0.88 ms")],
    },
    Row {
        name: "get-by-hash 10 KB from the store",
        mode: Mode::Read,
        size: 10 * KB,
        clients: CLIENTS,
        bytes: GB / 2,
        promises: &[cpu_at_most(0.08, "0.17 ms")],
    },
    Row {
        name: "refused store 1 MB",
        mode: Mode::Refused,
        size: MB,
        clients: CLIENTS,
        bytes: 2 * GB,
        promises: &[cpu_at_most(1.5, "53 ms")],
    },
];

fn wanted(options: &Options, name: &str) -> bool {
    options.only.is_empty() || options.only.iter().any(|part| name.contains(part.as_str()))
}

fn poster_key(network: &Network) -> Result<Arc<StoreKey>, TableError> {
    let file = network.poster_key_file();
    let text = std::fs::read_to_string(&file).map_err(|source| TableError::Dir { dir: file, source })?;
    Ok(Arc::new(StoreKey::from_hex(text.trim())?))
}

/// One member by itself, whole copies.
fn lone_member(dir: &Path) -> Result<Network, TableError> {
    let plan = Plan { members: 1, honest: 1, shards: 1, base_port: 0 };
    Ok(Network::open(dir, &plan)?)
}

fn load_of(network: &Network, who: Who, options: &Options, row: &Row) -> Result<Load, TableError> {
    let addresses = network.addresses(who)?;
    let bytes = if options.quick { row.bytes / 10 } else { row.bytes };
    Ok(Load {
        mode: row.mode,
        size: row.size,
        clients: row.clients,
        bounds: Bounds { bytes: Some(bytes), ..Bounds::default() },
        rpc: vec![addresses.rpc],
        rest: vec![addresses.rest],
        key: poster_key(network)?,
        chunk_size: load::CHUNK_SIZE,
        set: 0,
        processes: Vec::new(),
        data_dir: Some(network.dir().to_owned()),
        round_bytes: ROUND_BYTES,
        seed: options.seed,
    })
}

fn run_row(
    table: &mut Table,
    row: &Row,
    load: &Load,
    progress: &mut impl FnMut(&str),
) -> Result<(), TableError> {
    progress(&format!("{} ...", row.name));
    let failed = |source: LoadError| TableError::Run { row: row.name.to_owned(), source };
    let report = load::run(load, |_| {}).map_err(failed)?;
    for promise in row.promises {
        let figure = Figure {
            row: row.name.to_owned(),
            what: promise.what,
            unit: promise.unit,
            got: (promise.of)(&report),
            limit: promise.limit,
            nitro: promise.nitro,
        };
        progress(&format!("  {} {:.3} {} (at most {})", figure.what, figure.got, figure.unit, figure.limit));
        table.figures.push(figure);
    }
    table.runs.push((row.name.to_owned(), report));
    Ok(())
}

/// The rows of one member; each begins with an empty database and a fresh process.
pub(super) fn member_rows(
    table: &mut Table,
    options: &Options,
    dir: &Path,
    progress: &mut impl FnMut(&str),
) -> Result<(), TableError> {
    for (index, row) in MEMBER_ROWS.iter().enumerate().filter(|(_, row)| wanted(options, row.name)) {
        let home = dir.join(format!("row-{index}"));
        let mut network = lone_member(&home)?;
        if row.mode == Mode::Read {
            network = network
                .with_node_options([format!("--data-availability.local-cache.capacity={SMALL_CACHE}")]);
        }
        let who = Who::Member(0);
        let pid = network.start(who)?.id();
        let mut load = load_of(&network, who, options, row)?;
        // Each row has batches of its own.
        load.seed = options.seed.wrapping_add(index as u64);
        load.processes.push(("das-node".to_owned(), pid));
        run_row(table, row, &load, progress)?;
        network.stop(who)?;
        remove(&home)?;
    }
    Ok(())
}

/// What a member takes when it does nothing, and when 32 clients store 2 MB each.
pub(super) fn memory_rows(
    table: &mut Table,
    options: &Options,
    dir: &Path,
    progress: &mut impl FnMut(&str),
) -> Result<(), TableError> {
    const ROW: Row = Row {
        name: "32 concurrent stores of 2 MB",
        mode: Mode::Store,
        size: 2_000_000,
        clients: 32,
        bytes: 2 * GB,
        promises: &[Promise {
            what: "peak RSS",
            unit: "MB",
            limit: 350.0,
            nitro: "704-775 MB",
            of: |report| report.processes[0].peak_rss as f64 / 1e6,
        }],
    };
    if !wanted(options, ROW.name) {
        return Ok(());
    }
    let who = Who::Member(0);
    let mut network = lone_member(dir)?;
    let pid = network.start(who)?.id();
    let mut load = load_of(&network, who, options, &ROW)?;
    load.processes.push(("das-node".to_owned(), pid));
    let usage = Usage::of(pid).map_err(|e| TableError::Run { row: ROW.name.to_owned(), source: e.into() })?;
    table.figures.push(Figure {
        row: "idle".to_owned(),
        what: "RSS",
        unit: "MB",
        got: usage.rss as f64 / 1e6,
        limit: 80.0,
        nitro: "",
    });
    run_row(table, &ROW, &load, progress)?;
    network.stop(who)?;
    remove(dir)
}

/// What the aggregator itself needs for a certificate from six members.
pub(super) fn aggregator_row(
    table: &mut Table,
    options: &Options,
    dir: &Path,
    progress: &mut impl FnMut(&str),
) -> Result<(), TableError> {
    const ROW: Row = Row {
        name: "certificate over 1 MB, 6 members",
        mode: Mode::Store,
        size: MB,
        clients: 2,
        bytes: 2 * GB,
        promises: &[Promise { what: "aggregator CPU", unit: "ms/op", limit: 12.0, nitro: "", of: cpu }],
    };
    if !wanted(options, ROW.name) {
        return Ok(());
    }
    let mut network = Network::open(dir, &Plan { base_port: 0, ..Plan::default() })?;
    let mut processes = Vec::new();
    network.start_all(|who, process| processes.push((who.to_string(), process.id())))?;
    // The aggregator was started last; the row's promise is about the first process.
    processes.rotate_right(1);
    let mut load = load_of(&network, Who::Aggregator, options, &ROW)?;
    load.processes = processes;
    run_row(table, &ROW, &load, progress)?;
    let failures = network.stop_all();
    remove(dir)?;
    failures.into_iter().next().map_or(Ok(()), |failure| Err(failure.into()))
}

fn remove(dir: &Path) -> Result<(), TableError> {
    std::fs::remove_dir_all(dir).map_err(|source| TableError::Dir { dir: PathBuf::from(dir), source })
}
