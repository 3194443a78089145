//! Traffic between every pair of processes, with and without TLS.

use std::collections::BTreeMap;
use std::fs;

use das_common::data_hash::DataHash;
use das_common::store_auth::{RequestDigest, StoreKey};
use das_testnet::custody::wait_until;
use das_testnet::http::Connection;
use das_testnet::load::bodies::unix_now;
use das_testnet::network::{Network, Plan, Who};
use das_testnet::tls::know;
use serde_json::Value;

use super::server::{LONG, folder};
use super::tap::Tap;
use crate::common::sharded;

/// Stands in batches again and again. Its length is a multiple of three, so that it is the same in base64 wherever it is.
const UNIT: &[u8] = b"what-nobody-on-the-way-is-to-see";
const BATCH: usize = 300_000;

/// What shows that a wire carries something readable, and on which wires it must show without TLS.
fn marks(hash: &DataHash) -> Vec<(&'static str, Vec<u8>)> {
    let unit = &UNIT[..UNIT.len() - UNIT.len() % 3];
    vec![
        ("the batch", unit.to_vec()),
        ("the batch in hex", const_hex::encode(unit).into_bytes()),
        ("the batch in base64", base64_simd::STANDARD.encode_to_string(unit).into_bytes()),
        ("its hash", hash.to_string().into_bytes()),
        ("POST", b"POST /".to_vec()),
        ("GET", b"GET /".to_vec()),
        ("HTTP", b"HTTP/1.1".to_vec()),
        ("a header", b"content-type".to_vec()),
        ("a method", b"das_store".to_vec()),
        ("metrics", b"das_build_info".to_vec()),
        ("status", b"\"alarms\"".to_vec()),
    ]
}

/// Runs a committee whose every link is tapped; what was seen, by wire.
fn seen(with_tls: bool) -> (Vec<Tap>, DataHash) {
    let dir = folder();
    let plan = Plan { members: 3, honest: 2, shards: 2, base_port: 0 };
    let open = if with_tls { Network::open_with_tls } else { Network::open };
    let mut network = open(dir.path(), &plan).unwrap();
    let scheme = if with_tls { "https" } else { "http" };
    let ports = network.settings().clone();
    let committee = fs::read_to_string(network.committee_file()).unwrap();
    let mut taps = Vec::new();
    let mut tap = |name: String, port: u16| {
        taps.push(Tap::to(name, port));
        taps.last().unwrap().port
    };

    // Members reach each other's peer ports by wires of their own.
    for from in 0..3 {
        let mut own = committee.clone();
        for to in (0..3).filter(|to| *to != from) {
            let port = ports.members[to].peer;
            let wire = tap(format!("peer: {} to {}", Who::Member(from), Who::Member(to)), port);
            own = own.replace(&format!("/tcp/{port}\""), &format!("/tcp/{wire}\""));
        }
        let file = dir.path().join(format!("committee-{from}.toml"));
        fs::write(&file, own).unwrap();
        let options = ["--committee.file", file.to_str().unwrap(), "--peer.external-addresses"];
        network =
            network.with_member_options(from, options.into_iter().chain(["/ip4/127.0.0.1/tcp/1"])).unwrap();
    }
    network = network.with_node_options(["--custody.hot-retention", "1s", "--custody.reserve-percent", "0"]);
    // The aggregator likewise.
    let mut own = committee;
    for (index, member) in ports.members.iter().enumerate() {
        for (what, port) in [("rpc", member.rpc), ("rest", member.rest)] {
            let wire = tap(format!("{what}: aggregator to {}", Who::Member(index)), port);
            own = own.replace(&format!(":{port}\""), &format!(":{wire}\""));
        }
    }
    let file = dir.path().join("committee-of-aggregator.toml");
    fs::write(&file, own).unwrap();
    // And so do we.
    let front = [
        tap("rpc: client to aggregator".into(), ports.aggregator.rpc),
        tap("rest: client to aggregator".into(), ports.aggregator.rest),
        tap("metrics: client to aggregator".into(), ports.aggregator.metrics),
        tap("rest: client to member-1".into(), ports.members[0].rest),
        tap("metrics: client to member-1".into(), ports.members[0].metrics),
    ];
    if with_tls {
        know(dir.path(), front.map(|port| format!("127.0.0.1:{port}"))).unwrap();
    }
    let [rpc, rest, metrics, member_rest, member_metrics] =
        front.map(|port| Connection::new(&format!("{scheme}://127.0.0.1:{port}")).unwrap());
    for member in 0..3 {
        network.start(Who::Member(member)).unwrap();
    }
    let mut aggregator = network.launch(Who::Aggregator).arg("--committee.file").arg(&file).start().unwrap();

    let batch: Vec<u8> = UNIT.iter().copied().cycle().take(BATCH).collect();
    let hash = store(rpc, &network, &batch);
    let path = format!("/get-by-hash/{hash}");
    let mut member_rest = member_rest;
    assert_eq!(member_rest.get(&path).unwrap().status, 200);
    let mut rest = rest;
    assert_eq!(rest.get(&path).unwrap().status, 200);
    for (mut metrics, path) in [(metrics, "/metrics"), (member_metrics, "/status")] {
        assert_eq!(metrics.get(path).unwrap().status, 200);
        assert_eq!(metrics.get(if path == "/status" { "/metrics" } else { "/status" }).unwrap().status, 200);
    }
    assert_eq!(rest.get("/status").unwrap().status, 200);
    // What became shards is gathered from the others when it is asked for again; a new start has nothing in memory.
    wait_until(LONG, || (0..3).all(|member| sharded(&network, member) == 1)).expect("batches become shards");
    for member in 0..3 {
        network.stop(Who::Member(member)).unwrap();
        network.start(Who::Member(member)).unwrap();
    }
    let rest = network.addresses(Who::Member(0)).unwrap().rest;
    let read = || Connection::new(&rest).unwrap().get(&path).is_ok_and(|answer| answer.status == 200);
    wait_until(LONG, read).expect("it is gathered");
    // The aggregator, too, has nothing in memory after a start.
    aggregator.stop().unwrap();
    let mut aggregator = network.launch(Who::Aggregator).arg("--committee.file").arg(&file).start().unwrap();
    let rest = network.addresses(Who::Aggregator).unwrap().rest;
    assert_eq!(Connection::new(&rest).unwrap().get(&path).unwrap().status, 200);
    aggregator.stop().unwrap();
    assert!(network.stop_all().is_empty());
    (taps, hash)
}

fn store(mut rpc: Connection, network: &Network, batch: &[u8]) -> DataHash {
    let key = fs::read_to_string(network.poster_key_file()).unwrap();
    let key = StoreKey::from_hex(key.trim()).unwrap();
    let timeout = unix_now() + 3600;
    let signature = key.sign(&RequestDigest::store(batch, timeout));
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"das_store","params":["{}","{timeout:#x}","{}"]}}"#,
        const_hex::encode_prefixed(batch),
        const_hex::encode_prefixed(signature),
    );
    let answer = rpc.post_json(&[body.as_bytes()]).unwrap();
    let answer: Value = serde_json::from_slice(&answer.body).unwrap();
    assert!(answer["result"]["sig"].is_string(), "{answer}");
    DataHash::of(batch)
}

/// Which marks are on which wires.
fn found(taps: &[Tap], hash: &DataHash) -> BTreeMap<String, Vec<&'static str>> {
    let marks = marks(hash);
    let found = taps.iter().map(|tap| {
        let seen = tap.seen();
        let lower = seen.to_ascii_lowercase();
        let has = |mark: &[u8]| {
            memchr::memmem::find(&seen, mark).is_some() || memchr::memmem::find(&lower, mark).is_some()
        };
        (tap.name.clone(), marks.iter().filter(|(_, mark)| has(mark)).map(|(name, _)| *name).collect())
    });
    found.collect()
}

#[test]
fn nothing_can_be_read_on_any_link_with_tls_and_all_of_it_without() {
    let (taps, hash) = seen(false);
    let plain = found(&taps, &hash);
    for (wire, expected) in [
        ("rpc: client to aggregator", &["the batch in hex", "POST", "HTTP", "a header", "a method"][..]),
        ("rpc: aggregator to member-1", &["the batch in hex", "POST", "HTTP", "a header", "a method"]),
        ("rpc: aggregator to member-3", &["the batch in hex", "POST", "HTTP", "a header", "a method"]),
        ("rest: client to aggregator", &["the batch in base64", "its hash", "GET", "HTTP", "status"]),
        ("rest: client to member-1", &["the batch in base64", "its hash", "GET", "HTTP"]),
        ("metrics: client to aggregator", &["GET", "HTTP", "metrics", "status"]),
        ("metrics: client to member-1", &["GET", "HTTP", "metrics", "status"]),
    ] {
        for mark in expected {
            assert!(plain[wire].contains(mark), "{mark} is to be found on {wire}: {:?}", plain[wire]);
        }
    }

    let (taps, hash) = seen(true);
    for (wire, marks) in found(&taps, &hash) {
        assert!(marks.is_empty(), "on {wire} there is {marks:?}");
    }
    // And something was carried: what was looked at is the traffic.
    for tap in &taps {
        let least = if tap.name.starts_with("rpc") { BATCH } else { 0 };
        let is_used = !tap.name.starts_with("rest: aggregator") && !tap.name.starts_with("peer");
        assert!(!is_used || tap.seen().len() > least, "{} carried {} bytes", tap.name, tap.seen().len());
    }
    let carried = |name: &str| {
        let between = taps.iter().filter(|tap| tap.name.starts_with(name));
        between.map(|tap| tap.seen().len()).sum::<usize>()
    };
    assert!(carried("rest: aggregator") > BATCH, "the aggregator read from members");
    assert!(carried("peer") > BATCH / 2, "shards went over peer links");
}
