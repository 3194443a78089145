//! Nodes, and what is asked of them.

use std::path::Path;
use std::time::Duration;

use das_common::data_hash::DataHash;
use das_testnet::http::{Answer, Connection};
use das_testnet::load::bodies::unix_now;
use das_testnet::process::{Launch, ServerProcess};
use serde_json::Value;

const KEY: &str = "F90HspUZooyBFBn6gJTAxtJ44QcnLQEtTbK95aDREro=";

/// A node with a disk and without a key.
pub(crate) fn mirror(data: &Path, more: &[String]) -> Launch {
    reader(more)
        .arg("--data-availability.local-file-storage.enable")
        .arg("--data-availability.local-file-storage.data-dir")
        .arg(data)
}

/// A node with neither.
pub(crate) fn reader(more: &[String]) -> Launch {
    Launch::new("das-node").args(["--enable-rest", "--rest-port", "0"]).args(more)
}

pub(crate) fn member(data: &Path, more: &[String]) -> Launch {
    mirror(data, more)
        .args(["--enable-rpc", "--rpc-port", "0", "--data-availability.key.priv-key", KEY])
        .arg("--data-availability.disable-signature-checking")
}

pub(crate) fn options(all: &[&str]) -> Vec<String> {
    all.iter().map(|&option| option.to_owned()).collect()
}

pub(crate) fn batch(number: u32, length: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..length).map(|i| (i as u8).wrapping_mul(31) ^ (i >> 8) as u8).collect();
    bytes.iter_mut().zip(number.to_be_bytes()).for_each(|(byte, number)| *byte = number);
    bytes
}

/// What a member answers to a store that is to be kept for `seconds`.
pub(crate) fn try_store(server: &ServerProcess, batch: &[u8], seconds: u64) -> Value {
    store_at(&server.rpc_url(), batch, seconds)
}

/// The same, where only the URL is known.
pub(crate) fn store_at(rpc: &str, batch: &[u8], seconds: u64) -> Value {
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"das_store","params":["{}","{:#x}","0x"]}}"#,
        const_hex::encode_prefixed(batch),
        unix_now() + seconds
    );
    let answer = Connection::new(rpc).unwrap().post_json(&[body.as_bytes()]).unwrap();
    serde_json::from_slice(&answer.body).unwrap()
}

#[track_caller]
pub(crate) fn store(server: &ServerProcess, batch: &[u8]) {
    let answer = try_store(server, batch, 3600);
    assert!(answer["result"]["sig"].is_string(), "{answer}");
}

pub(crate) fn get(server: &ServerProcess, batch: &[u8]) -> Answer {
    get_named(server, &DataHash::of(batch))
}

pub(crate) fn get_named(server: &ServerProcess, hash: &DataHash) -> Answer {
    get_at(&server.rest_url(), hash)
}

/// The same, where only the URL is known.
pub(crate) fn get_at(rest: &str, hash: &DataHash) -> Answer {
    let mut connection = Connection::new(rest).unwrap().stall_limit(Duration::from_secs(60));
    connection.get(&format!("/get-by-hash/{hash}")).unwrap()
}

#[track_caller]
pub(crate) fn assert_serves(server: &ServerProcess, batch: &[u8]) {
    assert_is(&get(server, batch), batch);
}

#[track_caller]
pub(crate) fn assert_is(answer: &Answer, batch: &[u8]) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(das_common::wire::parse_get_by_hash(&answer.body).unwrap(), batch);
}

pub(crate) fn status(server: &ServerProcess) -> Value {
    let answer = Connection::new(&server.rest_url()).unwrap().get("/status").unwrap();
    serde_json::from_slice(&answer.body).unwrap()
}

pub(crate) fn alarms(server: &ServerProcess) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let status = status(server);
    let alarms = status["alarms"].as_array().unwrap();
    alarms.iter().map(|alarm| (text(&alarm["code"]), text(&alarm["text"]))).collect()
}

pub(crate) fn has_alarm(server: &ServerProcess, code: &str) -> bool {
    alarms(server).iter().any(|(raised, _)| raised == code)
}
