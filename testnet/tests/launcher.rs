//! The launcher: a committee of real processes that stores, survives a restart of everything, and leaves nothing behind.

// Helpers of tests fail like tests.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::Duration;

use das_common::store_auth::StoreKey;
use das_testnet::http::Connection;
use das_testnet::load::bodies::{StoreBody, store_body, unix_now};
use das_testnet::network::{Network, Running};
use das_testnet::process::{Launch, ServerProcess, Usage};
use das_testnet::promises::{Recipe, test_seed};

/// Starts it with a small committee: 4 members, 3 honest, 2 shards, so 3 signatures make a certificate.
fn launch(dir: &Path) -> ServerProcess {
    let options = ["--members=4", "--honest=3", "--shards=2", "--base-port=0", "--dir"];
    Launch::new("das-testnet").args(options).arg(dir).start().unwrap()
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
    let mut launcher = launch(dir.path());
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

    let mut launcher = launch(dir.path());
    assert_eq!(std::fs::read(dir.path().join("committee.toml")).unwrap(), committee, "keys or ports changed");
    let second = Network::read_running(dir.path()).unwrap();
    everyone_serves(&second, &body, &batch);

    launcher.kill().unwrap();
    assert!(all_gone(&second), "processes outlived a killed launcher: {second:?}");
}
