//! What tests of custody do with a committee over and over: store, read, look at `/custody`, wait.

// No test uses all of it, and helpers of tests fail like tests.
#![allow(dead_code, clippy::unwrap_used)]

use std::time::Duration;

use das_common::data_hash::DataHash;
use das_common::store_auth::StoreKey;
use das_common::wire::parse_get_by_hash;
use serde_json::Value;

/// What a member says at `/custody`; `None` when it does not answer or has no custody.
pub(crate) use das_testnet::custody::report as custody;
use das_testnet::custody::wait_until;
use das_testnet::http::Connection;
use das_testnet::load::bodies::{BodyMaker, StoreBody};
use das_testnet::network::{Network, Who};

/// Far more than anything takes; what is not there by then never comes.
const PATIENCE: Duration = Duration::from_secs(180);

/// Makes batches, and requests to store them with the network's key.
pub(crate) fn bodies(network: &Network, seed: u64) -> BodyMaker {
    let key = std::fs::read_to_string(network.poster_key_file()).expect("the network has a key");
    BodyMaker::new(StoreKey::from_hex(key.trim()).expect("which it made itself").into(), seed)
}

/// Stores a batch with the aggregator, which certifies it.
pub(crate) fn store(network: &Network, body: &StoreBody) {
    store_at(&network.addresses(Who::Aggregator).expect("there is an aggregator").rpc, body);
}

/// Stores a batch with whoever listens there.
pub(crate) fn store_at(rpc: &str, body: &StoreBody) {
    let answer = Connection::new(rpc).and_then(|mut it| it.post_json(&[&body.json])).expect("an answer");
    let answer: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert!(answer["result"]["sig"].is_string(), "{answer}");
}

/// Reads a batch; its hash as computed from what came, or what went wrong.
pub(crate) fn read(network: &Network, who: Who, hash: &DataHash) -> Result<DataHash, String> {
    read_from(&network.addresses(who).expect("it is one of the network").rest, hash)
}

/// [`read`] from any REST port.
pub(crate) fn read_from(rest: &str, hash: &DataHash) -> Result<DataHash, String> {
    let answer = Connection::new(rest).and_then(|mut it| it.get(&format!("/get-by-hash/{hash}")));
    let answer = answer.map_err(|error| error.to_string())?;
    match answer.status {
        200 => parse_get_by_hash(&answer.body).map(|batch| DataHash::of(&batch)).map_err(|e| e.to_string()),
        status => Err(format!("status {status}")),
    }
}

/// Reads every batch from each of them.
pub(crate) fn read_all(network: &Network, readers: &[Who], bodies: &[StoreBody]) {
    for who in readers {
        for body in bodies {
            assert_eq!(read(network, *who, &body.hash), Ok(body.hash), "from {who}");
        }
    }
}

/// What a report says of another member.
pub(crate) fn peer_of(report: &Value, member: usize) -> Option<Value> {
    let name = Who::Member(member).to_string();
    report["peers"].as_array()?.iter().find(|peer| peer["name"] == name.as_str()).cloned()
}

/// How many batches a member has as shards only.
pub(crate) fn sharded(network: &Network, member: usize) -> u64 {
    das_testnet::custody::batches(network, member, "sharded")
}

/// Waits until something is so, and says how long it took.
pub(crate) fn until(what: &str, network: &Network, is_so: impl FnMut() -> bool) -> Duration {
    wait_until(PATIENCE, is_so).unwrap_or_else(|| {
        let members = 0..network.settings().members.len();
        let reports: Vec<_> = members.map(|member| custody(network, member)).collect();
        panic!("never came: {what}\n{reports:#?}");
    })
}
