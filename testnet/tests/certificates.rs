//! Certificates over real processes: every member keeps them, and learns from them what it should hold.

// A random test prints its seed, and helpers of tests fail like tests.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

mod common;

use das_common::certificate::Certificate;
use das_common::committee::Committee;
use das_common::data_hash::DataHash;
use das_common::wire::parse_certificate_answer;
use das_testnet::http::Connection;
use das_testnet::load::bodies::StoreBody;
use das_testnet::network::{Network, Plan, Who};
use das_testnet::promises::test_seed;
use serde_json::{Value, json};

use common::{bodies, custody, read_all, sharded, store, until};

fn network(dir: &std::path::Path, hot_retention: &str) -> Network {
    let plan = Plan { members: 6, honest: 4, shards: 3, base_port: 0 };
    let options = ["--custody.reserve-percent", "0", "--custody.demotion-patience", "2s"];
    let options = options.into_iter().chain(["--custody.hot-retention", hot_retention]);
    let mut network = Network::open(dir, &plan).unwrap().with_node_options(options);
    network.start_all(|_, _| {}).unwrap();
    network
}

/// The certificate that somebody serves, or the status that he answers with.
fn certificate(network: &Network, who: Who, hash: &DataHash) -> Result<Vec<u8>, u16> {
    let rest = network.addresses(who).unwrap().rest;
    let answer = Connection::new(&rest).and_then(|mut it| it.get(&format!("/certificate/{hash}"))).unwrap();
    if answer.status != 200 {
        return Err(answer.status);
    }
    Ok(parse_certificate_answer(&answer.body).unwrap().to_vec())
}

fn keep(network: &Network, member: usize, certificate: &[u8]) -> Value {
    let rpc = network.addresses(Who::Member(member)).unwrap().rpc;
    let hex = const_hex::encode_prefixed(certificate);
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "das_keepCertificate", "params": [hex]});
    let answer =
        Connection::new(&rpc).and_then(|mut it| it.post_json(&[body.to_string().as_bytes()])).unwrap();
    serde_json::from_slice(&answer.body).unwrap()
}

/// How many batches a member holds whole, for now.
fn whole(network: &Network, member: usize) -> u64 {
    custody(network, member).map_or(0, |report| report["batches"]["hot"].as_u64().unwrap_or(0))
}

/// Certificates are everywhere a moment after a store; forged ones are refused; a member that was away while batches came,
/// and one whose disk is lost, hold all of them by themselves while every batch is still hot.
#[test]
fn certificates_tell_members_what_they_missed() {
    let seed = test_seed();
    println!("seed {seed}");
    let dir = tempfile::tempdir().unwrap();
    let mut network = network(dir.path(), "1h");
    let mut maker = bodies(&network, seed);
    let first: Vec<StoreBody> = (0..10).map(|number| maker.store(7_000 * number)).collect();
    first.iter().for_each(|body| store(&network, body));
    let everyone = network.everyone();
    let took = until("certificates everywhere", &network, || {
        everyone.iter().all(|who| first.iter().all(|body| certificate(&network, *who, &body.hash).is_ok()))
    });
    println!("certificates at all members after {took:?}");
    let committee = Committee::load(network.committee_file()).unwrap();
    let bytes = certificate(&network, Who::Member(3), &first[1].hash).unwrap();
    let good = Certificate::parse_strict(&bytes).unwrap();
    good.verify(committee.keyset()).unwrap();
    assert_eq!(good.data_hash, first[1].hash);
    assert_eq!(certificate(&network, Who::Member(0), &DataHash::of(b"nobody's")), Err(404));
    assert_eq!(certificate(&network, Who::Aggregator, &DataHash::of(b"nobody's")), Err(404));

    let refused = |forged: &Certificate, words: &str| {
        let answer = keep(&network, 2, &forged.to_bytes());
        let text = answer["error"]["message"].as_str().unwrap_or_default();
        assert!(text.contains(words), "{answer}");
    };
    refused(&Certificate { data_hash: DataHash::of(b"invented"), ..good.clone() }, "not that of the signers");
    refused(&Certificate { timeout: good.timeout + 60, ..good.clone() }, "not that of the signers");
    refused(&Certificate { timeout: 1000, ..good.clone() }, "has passed");
    refused(&Certificate { timeout: u64::MAX, ..good.clone() }, "s ahead");
    refused(&Certificate { keyset_hash: DataHash::of(b"other"), ..good.clone() }, "no committee known here");
    let few = Certificate { signers_mask: 1, timeout: good.timeout + 60, ..good.clone() };
    refused(&few, "members signed");
    assert!(keep(&network, 2, &bytes[..177])["error"]["message"].is_string());
    assert_eq!(keep(&network, 2, &bytes)["result"], Value::Null);
    assert_eq!(certificate(&network, Who::Member(2), &DataHash::of(b"invented")), Err(404));

    // Away while batches come, longer than the aggregator goes on trying.
    let away = Who::Member(4);
    network.kill(away).unwrap();
    let missed: Vec<StoreBody> = (0..25).map(|number| maker.store(4_000 * number + 1)).collect();
    missed.iter().for_each(|body| store(&network, body));
    network.stop(Who::Aggregator).unwrap();
    network.start(away).unwrap();
    let all = (first.len() + missed.len()) as u64;
    let took = until("what was missed is there whole", &network, || whole(&network, 4) == all);
    println!("{} batches missed, all there {took:?} after the start", missed.len());
    for body in &missed {
        assert!(certificate(&network, away, &body.hash).is_ok());
    }

    let lost = Who::Member(1);
    network.kill(lost).unwrap();
    let data = dir.path().join("member-2/data");
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::create_dir(&data).unwrap();
    network.start(lost).unwrap();
    let took = until("everything is there again", &network, || whole(&network, 1) == all);
    println!("{all} batches lost with a disk, all there {took:?} after the start");
    for stopped in [0, 2, 3, 4, 5] {
        network.stop(Who::Member(stopped)).unwrap();
    }
    read_all(&network, &[lost], &first);
    read_all(&network, &[lost], &missed);
}

/// Certificates are on disk: members have them after a kill, and an aggregator that has forgotten them asks.
#[test]
fn certificates_outlast_the_processes() {
    let seed = test_seed();
    println!("seed {seed}");
    let dir = tempfile::tempdir().unwrap();
    let mut network = network(dir.path(), "0s");
    let mut maker = bodies(&network, seed);
    let body = maker.store(50_000);
    store(&network, &body);
    until("shards everywhere", &network, || (0..6).all(|member| sharded(&network, member) == 1));
    until("and the certificate", &network, || {
        (0..6).all(|member| certificate(&network, Who::Member(member), &body.hash).is_ok())
    });
    // A member that is asked after a restart has it from its disk.
    network.kill(Who::Member(5)).unwrap();
    network.start(Who::Member(5)).unwrap();
    assert!(certificate(&network, Who::Member(5), &body.hash).is_ok());
    // The aggregator made it and has forgotten it.
    network.stop(Who::Aggregator).unwrap();
    network.start(Who::Aggregator).unwrap();
    assert!(certificate(&network, Who::Aggregator, &body.hash).is_ok());
}
