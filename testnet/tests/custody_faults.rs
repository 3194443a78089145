//! Custody with links that are cut and slow, and members that are killed in every window of a batch's way into shards.

// A random test prints its seed, and helpers of tests fail like tests.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

mod common;

use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use das_testnet::custody::connected;
use das_testnet::link::{Links, Passage};
use das_testnet::load::bodies::StoreBody;
use das_testnet::network::{Network, Plan, Who};
use das_testnet::promises::test_seed;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use common::{bodies, custody, read, read_all, sharded, store, store_at, until};

const OPTIONS: [&str; 10] = [
    "--custody.hot-retention",
    "0s",
    "--custody.demotion-patience",
    "2s",
    "--custody.reserve-percent",
    "0",
    "--peer.max-backoff",
    "1s",
    "--data-availability.local-cache.max-bytes",
    "0",
];

fn network(dir: &Path) -> Network {
    let plan = Plan { members: 6, honest: 4, shards: 3, base_port: 0 };
    Network::open(dir, &plan).unwrap().with_node_options(OPTIONS)
}

fn all_sharded(network: &Network, batches: usize) -> bool {
    (0..6).all(|member| sharded(network, member) == batches as u64)
}

/// Members are parted three to three and five to one while batches come in, and everything is late: what they cannot be sure
/// of they keep whole, and when they see each other again they need nobody's hand.
#[test]
fn parted_members_lose_nothing_and_find_together_by_themselves() {
    let seed = test_seed();
    println!("seed {seed}");
    let dir = tempfile::tempdir().unwrap();
    let (links, mut network) = Links::between_members(network(dir.path())).unwrap();
    network.start_all(|_, _| {}).unwrap();
    until("all see all over their links", &network, || (0..6).all(|member| connected(&network, member) == 5));
    links.set_all(|conditions| conditions.delay = Duration::from_millis(40));
    let mut random = StdRng::seed_from_u64(seed);
    let mut maker = bodies(&network, seed);
    let mut batches: Vec<StoreBody> = Vec::new();
    let mut some = |network: &Network, count: usize| -> Vec<StoreBody> {
        let new: Vec<_> = (0..count).map(|_| maker.store(random.random_range(1..150_000))).collect();
        new.iter().for_each(|body| store(network, body));
        new
    };
    batches.extend(some(&network, 10));
    let took = until("shards, though everything is late", &network, || all_sharded(&network, batches.len()));
    println!("40 ms late each way: shards after {took:?}");

    let partings = [
        (vec![0, 1, 2], Passage::Silent),
        (vec![4], Passage::Refused),
        (vec![1, 3, 5], Passage::Refused),
        (vec![2], Passage::Silent),
    ];
    for (side, passage) in partings {
        links.partition(&side, passage);
        let new = some(&network, 10);
        // Long enough for every decision that could be wrong.
        std::thread::sleep(Duration::from_secs(6));
        let readers: Vec<Who> = (0..6).map(Who::Member).collect();
        read_all(&network, &readers, &new);
        if side.len() == 3 {
            let whole = |member| custody(&network, member).unwrap()["bytes"]["whole"].as_u64().unwrap();
            let bytes: usize = new.iter().map(|body| body.length).sum();
            assert!(
                (0..6).all(|member| whole(member) >= bytes as u64),
                "three of six let go of a whole copy"
            );
        }
        batches.extend(new);
        links.heal();
        let took = until("shards everywhere", &network, || all_sharded(&network, batches.len()));
        println!(
            "parted {} to {}, {passage:?}: shards {took:?} after they saw each other again",
            side.len(),
            6 - side.len()
        );
    }
    read_all(&network, &network.everyone(), &batches);
}

/// What a member says at debug level when it gets into each window.
const WINDOWS: [&str; 7] = [
    "a batch is to be encoded",
    "shards are being written",
    "shards are on disk",
    "a list of statements goes out",
    "whole copies are being dropped",
    "whole copies are dropped",
    // And some time after the last, when nothing is under way.
    "",
];

/// Waits for words in what a log has from this place on; false after a while.
fn appears(log: &Path, from: u64, words: &str) -> bool {
    let began = Instant::now();
    let mut text = String::new();
    let mut file = std::fs::File::open(log).unwrap();
    file.seek(SeekFrom::Start(from)).unwrap();
    while began.elapsed() < Duration::from_secs(20) {
        let _ = file.read_to_string(&mut text);
        if text.contains(words) {
            return true;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    false
}

/// kill -9 at the moment when a member enters each window of a batch's way into shards, several times each, while batches
/// come in: nothing that was signed is lost, and the committee is whole again without a hand.
#[test]
fn killed_in_every_window_nothing_is_lost() {
    let seed = test_seed();
    println!("seed {seed}");
    let dir = tempfile::tempdir().unwrap();
    let mut network = network(dir.path()).with_node_options(["--log-filter", "das_node::custody=debug"]);
    network.start_all(|_, _| {}).unwrap();
    let mut maker = bodies(&network, seed);
    let mut random = StdRng::seed_from_u64(seed);
    let rounds: usize = std::env::var("DAS_KILL_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(3);
    let pool: Vec<StoreBody> = (0..rounds * WINDOWS.len() * 12)
        .map(|number| maker.store(random.random_range(number..150_000)))
        .collect();
    let mut pool = pool.into_iter();
    let rpc = network.addresses(Who::Aggregator).unwrap().rpc;
    let mut batches: Vec<StoreBody> = Vec::new();
    for round in 0..rounds {
        for window in WINDOWS {
            let member = random.random_range(0..6);
            let who = Who::Member(member);
            let log = dir.path().join(who.to_string()).join("log");
            let from = std::fs::metadata(&log).unwrap().len();
            let new: Vec<StoreBody> = pool.by_ref().take(12).collect();
            let stop = AtomicBool::new(false);
            let stored = std::thread::scope(|scope| {
                let storing = scope.spawn(|| {
                    let go_on = |_: &&StoreBody| !stop.load(Ordering::Relaxed);
                    new.iter().take_while(go_on).map(|body| store_at(&rpc, body)).count()
                });
                assert!(appears(&log, from, window), "round {round}: never came: {window}");
                // The aggregator goes on with five of six.
                network.kill(who).unwrap();
                stop.store(true, Ordering::Relaxed);
                storing.join().unwrap()
            });
            network.start(who).unwrap();
            batches.extend(new.into_iter().take(stored));
            let body = &batches[random.random_range(0..batches.len())];
            let got = read(&network, who, &body.hash);
            assert!(got == Ok(body.hash) || got.is_err_and(|error| error.contains("503")), "round {round}");
        }
    }
    let took = until("every member has every batch as its shard only", &network, || {
        all_sharded(&network, batches.len())
    });
    println!(
        "{} kills, {rounds} in each window; {} batches all shards after {took:?}",
        rounds * WINDOWS.len(),
        batches.len()
    );
    read_all(&network, &network.everyone(), &batches);
}
