//! A member killed at random instants under load keeps every promise it gave.
//!
//! `DAS_KILL_ROUNDS` sets the number of rounds, `DAS_SEED` repeats a run.

// A random test prints its seed, and helpers of tests fail like tests.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use das_common::bls::read_public_key_file;
use das_common::store_auth::StoreKey;
use das_testnet::network::{Network, Plan, Who};
use das_testnet::promises::{Ledger, Storm, check, test_seed};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Rounds in an ordinary test run.
const ROUNDS: u64 = 12;

/// After so many rounds everything is read back and the disk is given a new database: it bounds the space.
const ROUNDS_PER_DATABASE: u64 = 25;

const CLIENTS: u64 = 6;

const MEMBER: Who = Who::Member(0);

#[test]
fn every_signature_given_before_a_kill_is_backed_by_its_batch() {
    let rounds =
        std::env::var("DAS_KILL_ROUNDS").map_or(ROUNDS, |n| n.parse().expect("DAS_KILL_ROUNDS is a number"));
    let seed = test_seed();
    println!("{rounds} rounds, DAS_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut batches, mut answers) = (0, 0);
    let mut left = rounds;
    while left > 0 {
        let (more_batches, more_answers) = one_database(left.min(ROUNDS_PER_DATABASE), &mut rng);
        batches += more_batches;
        answers += more_answers;
        left = left.saturating_sub(ROUNDS_PER_DATABASE);
        println!("{} rounds left; {answers} signatures for {batches} batches so far, all kept", left);
    }
    assert!(answers > rounds, "the storm stored next to nothing: {answers} signatures in {rounds} rounds");
}

/// Kills a member so many times, each time in the middle of stores, and reads back what it had signed.
fn one_database(rounds: u64, rng: &mut StdRng) -> (usize, u64) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let plan = Plan { members: 1, honest: 1, shards: 1, base_port: 0 };
    let mut network = Network::open(dir.path(), &plan).unwrap();
    let addresses = network.addresses(MEMBER).unwrap();
    let poster = std::fs::read_to_string(network.poster_key_file()).unwrap();
    let poster = Arc::new(StoreKey::from_hex(poster.trim()).unwrap());
    let key = read_public_key_file(&dir.path().join("member-1/keys/das_bls.pub")).unwrap();
    let ledger = Arc::new(Ledger::default());

    let mut checked = 0;
    for round in 0..rounds {
        network.start(MEMBER).unwrap();
        // Everything promised since the last look, and some of what was promised long ago.
        let old = if checked == 0 { 0 } else { rng.random_range(0..checked) };
        let mut due = ledger.promises_from(old);
        due.truncate(50);
        due.extend(ledger.promises_from(checked));
        let broken = check(&addresses.rest, &key, &due);
        assert!(
            broken.is_empty(),
            "round {round}: {} of {} promises broken: {broken:#?}",
            broken.len(),
            due.len()
        );
        checked = ledger.batches();

        let storm = Storm::begin(&addresses.rpc, &poster, &ledger, CLIENTS, rng.random()).unwrap();
        std::thread::sleep(Duration::from_millis(rng.random_range(20..700)));
        network.kill(MEMBER).unwrap();
        storm.end();
        assert!(ledger.refusals().is_empty(), "round {round}: stores were refused: {:#?}", ledger.refusals());

        // Now and then the recovery is killed too.
        while rng.random_ratio(1, 4) {
            let mut recovering = network.launch(MEMBER).begin().unwrap();
            std::thread::sleep(Duration::from_millis(rng.random_range(1..120)));
            recovering.kill().unwrap();
        }
    }
    network.start(MEMBER).unwrap();
    let all = ledger.promises_from(0);
    let broken = check(&addresses.rest, &key, &all);
    assert!(
        broken.is_empty(),
        "at the end {} of {} promises are broken: {broken:#?}",
        broken.len(),
        all.len()
    );
    network.stop(MEMBER).unwrap();
    (ledger.batches(), ledger.answers())
}

#[test]
fn an_orderly_end_in_the_middle_of_stores_succeeds_and_keeps_every_promise() {
    let seed = test_seed();
    println!("DAS_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let plan = Plan { members: 1, honest: 1, shards: 1, base_port: 0 };
    let mut network = Network::open(dir.path(), &plan).unwrap();
    let addresses = network.addresses(MEMBER).unwrap();
    let poster = std::fs::read_to_string(network.poster_key_file()).unwrap();
    let poster = Arc::new(StoreKey::from_hex(poster.trim()).unwrap());
    let key = read_public_key_file(&dir.path().join("member-1/keys/das_bls.pub")).unwrap();
    let ledger = Arc::new(Ledger::default());
    for _ in 0..4 {
        network.start(MEMBER).unwrap();
        let storm = Storm::begin(&addresses.rpc, &poster, &ledger, CLIENTS, rng.random()).unwrap();
        std::thread::sleep(Duration::from_millis(rng.random_range(50..500)));
        // Clients with open connections and requests under way do not keep it from ending well.
        network.stop(MEMBER).unwrap();
        storm.end();
    }
    network.start(MEMBER).unwrap();
    let all = ledger.promises_from(0);
    let broken = check(&addresses.rest, &key, &all);
    assert!(
        broken.is_empty() && !all.is_empty(),
        "{} of {} promises broken: {broken:#?}",
        broken.len(),
        all.len()
    );
    network.stop(MEMBER).unwrap();
}
