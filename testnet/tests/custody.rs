//! Custody over real processes: whole copies become shards, and every batch comes back from any three members.

// A random test prints its seed, and helpers of tests fail like tests.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

mod common;

use std::path::Path;
use std::time::Duration;

use das_testnet::load::bodies::StoreBody;
use das_testnet::network::{Network, Plan, Who};
use das_testnet::promises::test_seed;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use common::{bodies, custody, peer_of, read, read_all, sharded, store, until};

fn network(dir: &Path) -> Network {
    network_with(dir, &[])
}

fn network_with(dir: &Path, more: &[&str]) -> Network {
    let plan = Plan { members: 6, honest: 4, shards: 3, base_port: 0 };
    let options = ["--custody.hot-retention", "0s", "--custody.demotion-patience", "2s"];
    let options = options.iter().chain(&["--custody.reserve-percent", "0"]).chain(more).copied();
    let mut network = Network::open(dir, &plan).unwrap().with_node_options(options);
    network.start_all(|_, _| {}).unwrap();
    network
}

/// `dastool storage` counts the same, and what was saved: two thirds, but for proofs and the smallest batches.
fn storage_is_told(network: &Network, batches: u64) {
    let program = das_testnet::process::binary("dastool").unwrap();
    let file = network.committee_file();
    let args =
        [std::ffi::OsStr::new("storage"), "--committee.file".as_ref(), file.as_ref(), "--json".as_ref()];
    let output = std::process::Command::new(program).args(args).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let members = told["members"].as_array().unwrap();
    assert_eq!(members.len(), 6);
    assert!(members.iter().all(|member| member["custody"]["batches"]["sharded"] == batches), "{told}");
    let (whole, held) = (told["keptWholeBytes"].as_u64().unwrap(), told["heldBytes"].as_u64().unwrap());
    assert!(held * 3 >= whole && held * 5 < whole * 2, "{told}");
}

#[test]
fn batches_become_shards_and_come_back_from_any_three_members() {
    let seed = test_seed();
    println!("seed {seed}");
    let dir = tempfile::tempdir().unwrap();
    let mut network = network(dir.path());
    let mut maker = bodies(&network, seed);
    let sizes = [0, 1, 500, 3000, 10_000, 100_000, 100_001, 300_000, 1_000_000, 2_000_000];
    let batches: Vec<StoreBody> = sizes.iter().map(|size| maker.store(*size)).collect();
    batches.iter().for_each(|body| store(&network, body));
    let all = batches.len() as u64;
    let took = until("every member has every batch as its shard only", &network, || {
        (0..6).all(|member| sharded(&network, member) == all)
    });
    println!("all shards after {took:?}");
    storage_is_told(&network, all);
    let everyone = network.everyone();
    read_all(&network, &everyone, &batches);
    for stopped in [[0, 1, 2], [3, 4, 5], [1, 3, 5]] {
        stopped.iter().for_each(|member| network.stop(Who::Member(*member)).unwrap());
        let left: Vec<Who> = (0..6).filter(|member| !stopped.contains(member)).map(Who::Member).collect();
        // Those that are left restart too: nothing is in their caches.
        for who in &left {
            network.stop(*who).unwrap();
            network.start(*who).unwrap();
        }
        until("those left are connected", &network, || {
            left.iter().all(|who| {
                let Who::Member(member) = who else { return true };
                let peers = custody(&network, *member).map(|report| report["peers"].clone());
                let connected = |peers: Value| {
                    peers.as_array().unwrap().iter().filter(|peer| peer["connected"] == true).count()
                };
                peers.map_or(0, connected) == 2
            })
        });
        read_all(&network, &left, &batches);
        for member in stopped {
            network.start(Who::Member(member)).unwrap();
        }
    }
}

#[test]
fn a_member_that_lost_its_disk_holds_everything_again_by_itself() {
    let seed = test_seed();
    println!("seed {seed}");
    let dir = tempfile::tempdir().unwrap();
    let mut network = network(dir.path());
    let mut maker = bodies(&network, seed);
    let batches: Vec<StoreBody> = (0..20).map(|number| maker.store(5_000 * number)).collect();
    batches.iter().for_each(|body| store(&network, body));
    let all = batches.len() as u64;
    until("shards everywhere", &network, || (0..6).all(|member| sharded(&network, member) == all));
    let lost = Who::Member(2);
    network.kill(lost).unwrap();
    let data = dir.path().join("member-3/data");
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::create_dir(&data).unwrap();
    network.start(lost).unwrap();
    let took = until("the lost shards are there again", &network, || sharded(&network, 2) == all);
    println!("{all} batches again after {took:?}");
    // The others had let go of their whole copies on the strength of what was lost.
    until("all are covered again", &network, || (0..6).all(|member| sharded(&network, member) == all));
    // Its shards are as good as anybody's: three members with it give every batch back.
    for stopped in [0, 1, 4] {
        network.stop(Who::Member(stopped)).unwrap();
    }
    read_all(&network, &[lost], &batches);
}

/// Members are killed again and again while batches come in and turn into shards.
#[test]
fn what_is_signed_survives_kills_at_any_moment_of_custody() {
    let seed = test_seed();
    println!("seed {seed}");
    let dir = tempfile::tempdir().unwrap();
    let mut network = network(dir.path());
    let mut maker = bodies(&network, seed);
    let mut random = StdRng::seed_from_u64(seed);
    let rounds: usize = std::env::var("DAS_KILL_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(6);
    let mut batches: Vec<StoreBody> = Vec::new();
    for round in 0..rounds {
        for _ in 0..8 {
            let body = maker.store(random.random_range(0..200_000));
            store(&network, &body);
            batches.push(body);
        }
        // One at a time: the committee of six signs with five.
        let killed = Who::Member(random.random_range(0..6));
        std::thread::sleep(Duration::from_millis(random.random_range(0..400)));
        network.kill(killed).unwrap();
        std::thread::sleep(Duration::from_millis(random.random_range(0..400)));
        network.start(killed).unwrap();
        let who = Who::Member(random.random_range(0..6));
        let body = &batches[random.random_range(0..batches.len())];
        let got = read(&network, who, &body.hash);
        assert!(got == Ok(body.hash) || got.is_err_and(|error| error.contains("503")), "round {round}");
    }
    let all = batches.len() as u64;
    until("every member has every batch as its shard only", &network, || {
        (0..6).all(|member| sharded(&network, member) == all)
    });
    read_all(&network, &network.everyone(), &batches);
    println!("{rounds} kills, {all} batches, all as shards and all readable");
}

/// Rot on one member's disk: the others notice, keep the proof of it, and the member mends itself from them.
#[test]
fn rot_is_found_by_audits_and_mended_from_the_others() {
    let seed = test_seed();
    println!("seed {seed}");
    let dir = tempfile::tempdir().unwrap();
    let mut network = network_with(dir.path(), &["--custody.audit-interval", "400ms"]);
    let mut maker = bodies(&network, seed);
    let batches: Vec<StoreBody> = (0..8).map(|number| maker.store(60_000 + number)).collect();
    batches.iter().for_each(|body| store(&network, body));
    let all = batches.len() as u64;
    until("shards everywhere", &network, || (0..6).all(|member| sharded(&network, member) == all));
    let audited = |member: usize, of: usize, outcome: &str| {
        let peer = custody(&network, member)
            .and_then(|report| peer_of(&report, of))
            .map(|peer| peer["audits"][outcome].as_u64().unwrap_or(0));
        peer.unwrap_or(0)
    };
    until("everybody showed everybody a leaf", &network, || {
        (0..6).all(|member| (0..6).all(|of| of == member || audited(member, of, "right") > 0))
    });
    assert!((0..6).all(|member| (0..6).all(|of| audited(member, of, "wrong") == 0)));

    network.kill(Who::Member(3)).unwrap();
    let spoilt = spoil(&dir.path().join("member-4/data/segments"), seed);
    assert!(spoilt > 0);
    network.start(Who::Member(3)).unwrap();
    let took = until("an audit failed and all is mended", &network, || {
        let report = custody(&network, 3).unwrap_or_default();
        let count = |of: &str| report["scrub"][of].as_u64().unwrap_or(0);
        count("mended") > 0 && count("waiting") == 0
    });
    // Whoever asked it for what rotted has its own signature that it does not have it, and its binding with that.
    let bundles = || -> Vec<std::path::PathBuf> {
        let folders = (1..=6).map(|member| dir.path().join(format!("member-{member}/data/evidence")));
        let files = folders.filter_map(|folder| std::fs::read_dir(folder).ok()).flatten();
        files.map(|entry| entry.unwrap().path()).collect()
    };
    for bundle in bundles() {
        let program = das_testnet::process::binary("dastool").unwrap();
        let mut command = std::process::Command::new(program);
        command.arg("verify-evidence").arg(&bundle).arg("--committee.file").arg(network.committee_file());
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("member-4"), "{}: {text}", bundle.display());
    }
    println!("{} bundles of evidence, all proved", bundles().len());
    println!("{spoilt} pages spoilt; mended after {took:?}: {}", custody(&network, 3).unwrap()["scrub"]);
    read_all(&network, &[Who::Member(3)], &batches);
}

/// Turns over a bit in every page of the second half of each segment: in shards, and in what is left of whole copies.
fn spoil(segments: &Path, seed: u64) -> usize {
    let mut random = StdRng::seed_from_u64(seed);
    let mut pages = 0;
    for entry in std::fs::read_dir(segments).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        // The header page stays: without it the store does not start at all.
        for page in bytes.chunks_mut(4096).skip(1).filter(|page| page.iter().any(|byte| *byte != 0)) {
            // Not in a record's header either: what a start takes for the end of the log is another matter.
            let at = random.random_range(1024..page.len().max(1025));
            if let Some(byte) = page.get_mut(at) {
                *byte ^= 1 << random.random_range(0..8);
                pages += 1;
            }
        }
        std::fs::write(&path, bytes).unwrap();
    }
    pages
}

/// A committee that kept whole copies until now: what it stored before becomes shards too.
#[test]
fn batches_from_before_custody_become_shards_too() {
    let seed = test_seed();
    println!("seed {seed}");
    let dir = tempfile::tempdir().unwrap();
    let mut network = network_with(dir.path(), &["--custody.whole-only"]);
    let mut maker = bodies(&network, seed);
    let batches: Vec<StoreBody> = (0..10).map(|number| maker.store(30_000 * number)).collect();
    batches.iter().for_each(|body| store(&network, body));
    assert_eq!(custody(&network, 0), None, "no custody, no report");
    assert!(network.stop_all().is_empty());
    drop(network);
    let network = network_with(dir.path(), &[]);
    let all = batches.len() as u64;
    until("shards everywhere", &network, || (0..6).all(|member| sharded(&network, member) == all));
    read_all(&network, &network.everyone(), &batches);
}
