//! What a member does not do, however it is asked: reserve memory for promises, or keep what it refuses.

// Helpers of tests fail like tests.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use das_common::store_auth::{RequestDigest, StoreKey};
use das_testnet::http::Connection;
use das_testnet::load::bodies::unix_now;
use das_testnet::load::report::Report;
use das_testnet::load::{self, Bounds, Load, Mode};
use das_testnet::network::{Network, Plan, Who};
use das_testnet::process::{Usage, UsageMeter, wait_until_idle};

const MEMBER: Who = Who::Member(0);

const MB: u64 = 1_000_000;

struct Member {
    network: Network,
    pid: u32,
    poster: Arc<StoreKey>,
    // Last: it is removed when the process is gone.
    _dir: tempfile::TempDir,
}

impl Member {
    fn start() -> Self {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let plan = Plan { members: 1, honest: 1, shards: 1, base_port: 0 };
        let mut network = Network::open(dir.path(), &plan).unwrap();
        let pid = network.start(MEMBER).unwrap().id();
        let poster = std::fs::read_to_string(network.poster_key_file()).unwrap();
        let poster = Arc::new(StoreKey::from_hex(poster.trim()).unwrap());
        Self { network, pid, poster, _dir: dir }
    }

    fn load(&self, mode: Mode, size: usize, clients: usize, operations: u64) -> Report {
        let addresses = self.network.addresses(MEMBER).unwrap();
        let load = Load {
            mode,
            size,
            clients,
            bounds: Bounds { operations: Some(operations), ..Bounds::default() },
            rpc: vec![addresses.rpc],
            rest: vec![addresses.rest],
            key: self.poster.clone(),
            chunk_size: load::CHUNK_SIZE,
            set: 0,
            processes: vec![("das-node".to_owned(), self.pid)],
            data_dir: None,
            round_bytes: load::ROUND_BYTES,
            seed: 1,
        };
        load::run(&load, |_| {}).unwrap()
    }
}

#[test]
fn memory_is_bounded_when_idle_and_under_large_concurrent_stores() {
    let member = Member::start();
    let idle = Usage::of(member.pid).unwrap().rss;
    assert!(idle < 80 * MB, "idle, a member takes {idle} bytes");
    let report = member.load(Mode::Store, 2 * MB as usize, 32, 320);
    assert_eq!((report.ops, report.errors), (320, 0), "{report}");
    assert!(report.processes[0].peak_rss < 350 * MB, "{report}");
    assert!(report.processes[0].written_per_byte < 2.1, "{report}");
}

#[test]
fn refused_stores_leave_nothing_on_disk_and_little_in_memory() {
    let member = Member::start();
    // Two and a half megabytes are five of JSON, the most a body may have.
    let report = member.load(Mode::Refused, 2_600_000, 32, 320);
    assert_eq!((report.ops, report.errors), (320, 0), "{report}");
    assert!(report.processes[0].peak_rss < 350 * MB, "{report}");
    assert!(report.processes[0].write_bytes < 2 * MB, "{report}");
}

#[test]
fn a_chunked_start_reserves_nothing_for_what_it_promises() {
    let mut member = Member::start();
    let rpc = member.network.addresses(MEMBER).unwrap().rpc;
    let mut connection = Connection::new(&rpc).unwrap();
    wait_until_idle(&[member.pid], Duration::from_secs(1), Duration::from_secs(30)).unwrap();
    let before = Usage::of(member.pid).unwrap();
    let meter = UsageMeter::start(member.pid).unwrap();
    // From what is taken to what cannot be: one chunk of 16 MiB, gigabytes, and sizes whose product overflows.
    let shapes: [(u64, u64, u64); 6] = [
        (1, 16 << 20, 16 << 20),
        (1 << 24, 1, 1 << 24),
        (4096, 1 << 20, 4 << 30),
        (1_000_000_000_000, 1, 1_000_000_000_000),
        (1 << 40, 1 << 40, u64::MAX),
        (u64::MAX, u64::MAX, u64::MAX),
    ];
    for (index, (n_chunks, chunk_size, total)) in shapes.into_iter().enumerate() {
        let (now, timeout) = (unix_now(), unix_now() + 3600 + index as u64);
        let digest = RequestDigest::start_chunked(now, n_chunks, chunk_size, total, timeout);
        let signature = const_hex::encode(member.poster.sign(&digest));
        let numbers = [now, n_chunks, chunk_size, total, timeout].map(|n| format!(r#""{n:#x}""#)).join(",");
        let request = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"das_startChunkedStore","params":[{numbers},"0x{signature}"]}}"#
        );
        let answer = connection.post_json(&[request.as_bytes()]).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert!(json.get("result").is_some() || json.get("error").is_some(), "{json}");
        let fits = total <= 32 << 20;
        assert!(fits || json.get("error").is_some(), "{total} bytes were taken on: {json}");
    }
    let grown = meter.read().unwrap().peak_rss.saturating_sub(before.rss);
    assert!(grown < 8 * MB, "promises alone took {grown} bytes");
    member.network.stop(MEMBER).unwrap();
}
