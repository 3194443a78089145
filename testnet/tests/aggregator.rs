//! The aggregator over real members: some hang, some are dead, some come back.

// A random test prints its seed, and helpers of tests fail like tests.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use das_common::certificate::Certificate;
use das_common::committee::Committee;
use das_common::data_hash::DataHash;
use das_common::keyset::NitroKeyset;
use das_common::store_auth::StoreKey;
use das_common::wire::{StoreResult, parse_get_by_hash};
use das_testnet::http::Connection;
use das_testnet::load::bodies::{BodyMaker, StoreBody};
use das_testnet::network::{Network, Plan, Who};
use das_testnet::process::Launch;
use das_testnet::promises::test_seed;
use serde_json::Value;

fn network(dir: &Path) -> Network {
    // A = H = 3: three of five signatures make a certificate.
    let plan = Plan { members: 5, honest: 3, shards: 1, base_port: 0 };
    let mut network = Network::open(dir, &plan).unwrap();
    network.start_all(|_, _| {}).unwrap();
    network
}

fn bodies(network: &Network, seed: u64) -> BodyMaker {
    let key = std::fs::read_to_string(network.poster_key_file()).unwrap();
    BodyMaker::new(StoreKey::from_hex(key.trim()).unwrap().into(), seed)
}

fn store(network: &Network, body: &StoreBody) -> Value {
    let rpc = network.addresses(Who::Aggregator).unwrap().rpc;
    let answer = Connection::new(&rpc).unwrap().post_json(&[&body.json]).unwrap();
    serde_json::from_slice(&answer.body).unwrap()
}

fn certificate(network: &Network, body: &StoreBody, answer: &Value) -> Certificate {
    let result: StoreResult =
        serde_json::from_value(answer["result"].clone()).unwrap_or_else(|_| panic!("{answer}"));
    let certificate = Certificate {
        version: 1,
        keyset_hash: DataHash::from_bytes(result.keyset_hash),
        data_hash: DataHash::from_bytes(result.data_hash),
        timeout: result.timeout,
        signers_mask: result.signers_mask,
        signature: result.sig.try_into().unwrap(),
    };
    assert_eq!((certificate.data_hash, certificate.timeout), (body.hash, body.timeout));
    let committee = Committee::load(network.committee_file()).unwrap();
    certificate.verify(committee.keyset()).unwrap();
    let keyset = NitroKeyset::parse(&committee.keyset().to_bytes()).unwrap();
    Certificate::parse_as_nitro(&certificate.to_bytes()).unwrap().verify_as_nitro(&keyset).unwrap();
    certificate
}

fn read(network: &Network, who: Who, hash: &DataHash) -> Option<DataHash> {
    let rest = network.addresses(who).unwrap().rest;
    let answer = Connection::new(&rest).unwrap().get(&format!("/get-by-hash/{hash}")).unwrap();
    (answer.status == 200).then(|| DataHash::of(&parse_get_by_hash(&answer.body).unwrap()))
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..3_000 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("never came: {what}");
}

fn status(network: &Network) -> Value {
    let rest = network.addresses(Who::Aggregator).unwrap().rest;
    let answer = Connection::new(&rest).unwrap().get("/status").unwrap();
    serde_json::from_slice(&answer.body).unwrap()
}

#[test]
fn certificates_go_on_while_enough_members_live() {
    let seed = test_seed();
    println!("DAS_SEED={seed}");
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut network = network(dir.path());
    let mut bodies = bodies(&network, seed);

    let whole = bodies.store(400_000);
    certificate(&network, &whole, &store(&network, &whole));

    // One hangs with its connections open, one is dead.
    network.process(Who::Member(0)).unwrap().unwrap().pause().unwrap();
    network.kill(Who::Member(3)).unwrap();
    let stored: Vec<StoreBody> = [0, 10_000, 1_000_000].map(|size| bodies.store(size)).into();
    for body in &stored {
        let certificate = certificate(&network, body, &store(&network, body));
        assert_eq!(certificate.signers_mask, 0b1_0110);
        assert_eq!(read(&network, Who::Aggregator, &body.hash), Some(body.hash));
    }

    // A fresh aggregator has nothing cached, and asks the hanging and the dead member too.
    network.stop(Who::Aggregator).unwrap();
    network.start(Who::Aggregator).unwrap();
    for body in stored.iter().chain([&whole]) {
        assert_eq!(read(&network, Who::Aggregator, &body.hash), Some(body.hash));
    }
    assert_eq!(read(&network, Who::Aggregator, &DataHash::of(b"never stored")), None::<DataHash>);

    // With one more gone there are too few, and the error says who and why.
    network.kill(Who::Member(1)).unwrap();
    let answer = store(&network, &bodies.store(1_000));
    let text = answer["error"]["message"].as_str().unwrap_or_else(|| panic!("{answer}"));
    assert!(text.contains("at least 3 out of 5 AnyTrust backends (assuming 3 are honest)"), "{text}");
    assert!(text.contains("unable to batch to DAS"), "{text}");
    for member in ["member-1: ", "member-2: ", "member-4: "] {
        assert!(text.contains(member), "{text}");
    }
    assert!(!text.contains("member-3: ") && !text.contains("member-5: "), "{text}");
    let state = status(&network);
    assert!(state["alarms"].to_string().contains("DAS-QUORUM-001"), "{state}");
    assert!(state["members"][3]["lastFailure"].as_str().unwrap().contains("cannot connect"), "{state}");

    // Who comes back in time gets what was certified meanwhile.
    network.start(Who::Member(1)).unwrap();
    let late = bodies.store(200_000);
    certificate(&network, &late, &store(&network, &late));
    network.start(Who::Member(3)).unwrap();
    network.process(Who::Member(0)).unwrap().unwrap().resume().unwrap();
    for member in 0..5 {
        until("every member has the batch", || read(&network, Who::Member(member), &late.hash).is_some());
    }
    let metrics = network.addresses(Who::Aggregator).unwrap().metrics;
    let metrics = Connection::new(&metrics).unwrap().get("/debug/metrics/prometheus").unwrap().text();
    for name in ["arb_das_rpc_aggregator_store_127_0_0_1_success_total", "arb_das_rpc_store_requests"] {
        assert!(metrics.contains(name), "{name} is missing:\n{metrics}");
    }
    assert!(network.stop_all().is_empty());
}

/// Above the members' body limit a batch goes out in chunks that the aggregator signs; it may come whole or in chunks.
#[test]
fn batches_above_the_members_limit_go_in_chunks() {
    let seed = test_seed();
    println!("DAS_SEED={seed}");
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let plan = Plan { members: 3, honest: 2, shards: 1, base_port: 0 };
    let mut network = Network::open(dir.path(), &plan).unwrap();
    let members = [0, 1, 2].map(Who::Member);
    for member in members {
        network.start(member).unwrap();
    }
    let limit = ["--rpc-server-body-limit", "20000000"];
    let aggregator = network.launch(Who::Aggregator).args(limit).start().unwrap();
    let mut bodies = bodies(&network, seed);
    for size in [2_600_000, 4_000_000] {
        let body = bodies.store(size);
        certificate(&network, &body, &store(&network, &body));
        for member in members {
            until("every member has the batch", || read(&network, member, &body.hash).is_some());
        }
    }
    drop(aggregator);
    assert!(network.stop_all().is_empty());
}

#[test]
fn a_start_that_cannot_work_names_option_and_cure() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let missing = dir.path().join("nowhere.toml");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let network =
        Network::open(dir.path(), &Plan { members: 1, honest: 1, shards: 1, base_port: 0 }).unwrap();
    let committee = network.committee_file();
    let (committee, missing) = (committee.to_str().unwrap(), missing.to_str().unwrap());
    let bad_key = dir.path().join("bad-key");
    std::fs::write(&bad_key, "not a key").unwrap();
    let cases: [(&[&str], &[&str]); 4] = [
        (&["--committee.file", missing], &[missing, "DAS-CONFIG-005"]),
        (&["--committee.file", committee, "--rpc-port", &port], &["--rpc-port", &port, "DAS-NET-"]),
        (
            &["--committee.file", committee, "--data-availability.store-key.file", bad_key.to_str().unwrap()],
            &["--data-availability.store-key.file", "DAS-KEY-"],
        ),
        (
            &["--committee.file", committee, "--data-availability.rpc-aggregator.assumed-honest", "7"],
            &["assumed-honest", "DAS-CONFIG-006"],
        ),
    ];
    for (options, words) in cases {
        let launch = Launch::new("das-aggregator").args(["--enable-rpc", "--rpc-addr", "127.0.0.1"]);
        let (status, output) = launch.args(options).run_to_end(Duration::from_secs(30)).unwrap();
        assert!(!status.success(), "{options:?}: {output}");
        for word in words {
            assert!(output.contains(word), "{options:?} does not say {word}:\n{output}");
        }
    }
}
