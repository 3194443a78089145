//! The launcher: a committee of real processes that stores, survives a restart of everything, and leaves nothing behind.

// Helpers of tests fail like tests.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use das_common::store_auth::StoreKey;
use das_testnet::custody::wait_until;
use das_testnet::http::Connection;
use das_testnet::load::bodies::{StoreBody, store_body, unix_now};
use das_testnet::network::{Network, Running};
use das_testnet::process::{Launch, ServerProcess, Usage, binary};
use das_testnet::promises::{Recipe, test_seed};
use serde_json::{Value, json};

/// Starts it with a small committee: 4 members, 3 honest, 2 shards, so 3 signatures make a certificate.
fn launch(dir: &Path, more: &[&str]) -> ServerProcess {
    let options = ["--members=4", "--honest=3", "--shards=2", "--base-port=0", "--dir"];
    Launch::new("das-testnet").args(options).arg(dir).args(more).start().unwrap()
}

fn poster(dir: &Path) -> StoreKey {
    StoreKey::from_hex(std::fs::read_to_string(dir.join("poster-key")).unwrap().trim()).unwrap()
}

fn store(rpc: &str, body: &StoreBody) {
    let answer = Connection::new(rpc).unwrap().post_json(&[&body.json]).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(json["result"]["dataHash"], format!("0x{}", body.hash), "{json}");
    let mask = json["result"]["signersMask"].as_str().unwrap().trim_start_matches("0x");
    assert!(u64::from_str_radix(mask, 16).unwrap().count_ones() >= 3, "{json}");
}

/// Everyone has the batch, stragglers a moment later.
fn everyone_serves(running: &[Running], body: &StoreBody, batch: &[u8]) {
    for process in running {
        let mut connection = Connection::new(&process.rest).unwrap();
        let served = (0..100).any(|_| {
            let answer = connection.get(&format!("/get-by-hash/{}", body.hash)).unwrap();
            if answer.status != 200 {
                std::thread::sleep(Duration::from_millis(50));
                return false;
            }
            let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            let data = base64_simd::STANDARD.decode_to_vec(json["data"].as_str().unwrap()).unwrap();
            assert!(data == batch, "{} served other bytes", process.name);
            true
        });
        assert!(served, "{} does not have {}", process.name, body.hash);
    }
}

fn all_gone(running: &[Running]) -> bool {
    // Zombies have no figures of memory, so they count as gone.
    (0..1000).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        running.iter().all(|process| Usage::of(process.pid).is_err())
    })
}

#[test]
fn a_committee_is_started_stores_survives_a_restart_and_ends_with_its_launcher() {
    let seed = test_seed();
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut launcher = launch(dir.path(), &["--no-chain"]);
    let batch = Recipe { seed, size: 300_000 }.batch();
    let body = store_body(&poster(dir.path()), &batch, unix_now() + 3600);
    store(&launcher.rpc_url(), &body);
    let first = Network::read_running(dir.path()).unwrap();
    assert_eq!(first.len(), 5);
    everyone_serves(&first, &body, &batch);
    let committee = std::fs::read(dir.path().join("committee.toml")).unwrap();

    launcher.stop().unwrap();
    assert!(all_gone(&first), "processes outlived the launcher: {first:?}");
    assert!(Network::read_running(dir.path()).is_err(), "the record of what runs is left behind");

    let mut launcher = launch(dir.path(), &["--no-chain"]);
    assert_eq!(std::fs::read(dir.path().join("committee.toml")).unwrap(), committee, "keys or ports changed");
    let second = Network::read_running(dir.path()).unwrap();
    everyone_serves(&second, &body, &batch);

    launcher.kill().unwrap();
    assert!(all_gone(&second), "processes outlived a killed launcher: {second:?}");
}

fn dastool(args: &[&str]) -> Value {
    let run = Command::new(binary("dastool").unwrap()).args(args).arg("--json").output().unwrap();
    let said = String::from_utf8_lossy(&run.stderr);
    serde_json::from_slice(&run.stdout).unwrap_or_else(|error| panic!("{args:?}: {error}; {said}"))
}

/// Hands a batch over and waits until it is in a block.
fn post(dir: &Path, rpc: &str, batch: &[u8]) -> Value {
    let (key, file) = (dir.join("poster-key"), dir.join("batch"));
    std::fs::write(&file, batch).unwrap();
    let (key, file) = (key.to_str().unwrap(), file.to_str().unwrap());
    dastool(&["post", "--rpc", rpc, "--signing-key", key, "--file", file])
}

/// What the explorers of aggregator and mirror recovered of the contract's batch.
fn recovered(dir: &Path, number: usize, batch: &[u8]) {
    let running = Network::read_running(dir).unwrap();
    let explorers: Vec<String> = running.into_iter().filter_map(|process| process.explorer).collect();
    assert_eq!(explorers.len(), 2);
    for explorer in explorers {
        let mut connection = Connection::new(&explorer).unwrap();
        let path = format!("/api/batches/{number}/payload");
        let found = wait_until(Duration::from_secs(60), || {
            let answer = connection.get(&path).unwrap();
            answer.status == 200 && answer.body == batch
        });
        assert!(found.is_some(), "{explorer}{path} is not the batch");
    }
}

#[test]
fn with_a_chain_batches_are_posted_in_order_through_restarts_and_a_kill_that_takes_blocks() {
    let seed = test_seed();
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let batches: Vec<_> = (0..3).map(|i| Recipe { seed: seed + i, size: 100_000 }.batch()).collect();

    let mut launcher = launch(dir.path(), &[]);
    let status = post(dir.path(), &launcher.rpc_url(), &batches[0]);
    assert_eq!((&status["stage"], &status["sequenceNumber"]), (&json!("included"), &json!(0)), "{status}");
    assert_eq!(status["postedAs"], "certificate", "{status}");
    recovered(dir.path(), 0, &batches[0]);
    let first = Network::read_running(dir.path()).unwrap();
    let names: Vec<_> = first.iter().map(|process| process.name.as_str()).collect();
    assert_eq!(names, ["member-1", "member-2", "member-3", "member-4", "aggregator", "mirror", "chain"]);
    launcher.stop().unwrap();
    assert!(all_gone(&first), "processes outlived the launcher: {first:?}");

    // The chain goes on where it was.
    let mut launcher = launch(dir.path(), &[]);
    let status = post(dir.path(), &launcher.rpc_url(), &batches[1]);
    assert_eq!(status["sequenceNumber"], 1, "{status}");
    recovered(dir.path(), 0, &batches[0]);
    recovered(dir.path(), 1, &batches[1]);
    let second = Network::read_running(dir.path()).unwrap();
    launcher.kill().unwrap();
    assert!(all_gone(&second), "processes outlived a killed launcher: {second:?}");

    // The last blocks were not written down: to the poster that is a reorganization, and the batch comes again.
    let launcher = launch(dir.path(), &[]);
    let status = post(dir.path(), &launcher.rpc_url(), &batches[2]);
    assert_eq!(status["sequenceNumber"], 2, "{status}");
    for (number, batch) in batches.iter().enumerate() {
        recovered(dir.path(), number, batch);
    }
    let again = dastool(&["batch-status", "--rpc", &launcher.rpc_url(), "1"]);
    assert_eq!((&again["sequenceNumber"], &again["problem"]), (&json!(1), &Value::Null), "{again}");
}
