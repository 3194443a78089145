//! A member whose machine loses power at random instants under load keeps every promise it gave.
//!
//! Needs root, loop devices and ext4. `DAS_POWER_CUTS` sets the number of cuts, `DAS_SEED` repeats a run.

// A random test prints its seed, and helpers of tests fail like tests.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use das_common::bls::read_public_key_file;
use das_common::store_auth::StoreKey;
use das_testnet::image::{Image, Journal};
use das_testnet::network::{Network, Plan, Who};
use das_testnet::promises::{Ledger, Storm, check, test_seed};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Cuts in an ordinary test run.
const CUTS: u64 = 4;

/// Size of the image: the database of all cuts of an ordinary run fits; it is sparse.
const IMAGE_BYTES: u64 = 6 << 30;

/// After so many cuts a new database is begun, so that the image is not filled.
const CUTS_PER_DATABASE: u64 = 5;

/// How long the member goes on without its disk before it is killed: a signature given then is a broken promise too.
const AFTERLIFE: Duration = Duration::from_millis(200);

const CLIENTS: u64 = 6;

const MEMBER: Who = Who::Member(0);

/// The method itself: what was synced is kept, what was not is lost. Without this the test below would prove little.
#[test]
fn a_power_cut_keeps_what_was_synced_and_nothing_else() {
    for journal in [Journal::AsItWas, Journal::JustCommitted] {
        keeps_what_was_synced(journal);
    }
}

fn keeps_what_was_synced(journal: Journal) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let image = Image::create(&dir.path().join("disk"), 64 << 20).unwrap();
    let write = |name: &str, sync: bool| {
        let mut file = std::fs::File::create(image.path().join(name)).unwrap();
        file.write_all(name.as_bytes()).unwrap();
        if sync {
            file.sync_all().unwrap();
        }
        file
    };
    write("synced", true);
    let mut lost = write("lost", false);
    image.cut_power(journal).unwrap();
    assert!(
        lost.write_all(b"more").and_then(|()| lost.sync_all()).is_err(),
        "a sync after the cut must fail"
    );
    drop(lost);
    image.copy_to(&dir.path().join("copy")).unwrap();
    image.discard().unwrap();
    let copy = Image::mount(&dir.path().join("copy")).unwrap();
    assert_eq!(std::fs::read(copy.path().join("synced")).unwrap(), b"synced");
    assert_ne!(std::fs::read(copy.path().join("lost")).unwrap_or_default(), b"lost", "{journal:?}");
}

#[test]
fn every_signature_given_before_a_power_cut_is_backed_by_its_batch() {
    let cuts =
        std::env::var("DAS_POWER_CUTS").map_or(CUTS, |n| n.parse().expect("DAS_POWER_CUTS is a number"));
    let seed = test_seed();
    println!("{cuts} power cuts, DAS_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut batches, mut answers) = (0, 0);
    let mut left = cuts;
    while left > 0 {
        let ledger = one_database(left.min(CUTS_PER_DATABASE), &mut rng);
        batches += ledger.batches();
        answers += ledger.answers();
        left = left.saturating_sub(CUTS_PER_DATABASE);
        println!("{left} cuts left; {answers} signatures for {batches} batches so far, all kept");
    }
    assert!(answers > cuts, "the storm stored next to nothing: {answers} signatures before {cuts} cuts");
}

fn one_database(cuts: u64, rng: &mut StdRng) -> Arc<Ledger> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let ledger = Arc::new(Ledger::default());
    let mut image = Image::create(&dir.path().join("disk-0"), IMAGE_BYTES).unwrap();
    for cut in 1..=cuts {
        let mut network = member_on(&image, dir.path());
        let addresses = network.addresses(MEMBER).unwrap();
        let poster = std::fs::read_to_string(network.poster_key_file()).unwrap();
        let poster = Arc::new(StoreKey::from_hex(poster.trim()).unwrap());
        network.start(MEMBER).unwrap();
        let storm = Storm::begin(&addresses.rpc, &poster, &ledger, CLIENTS, rng.random()).unwrap();
        std::thread::sleep(Duration::from_millis(rng.random_range(50..1500)));
        image.cut_power(if rng.random() { Journal::AsItWas } else { Journal::JustCommitted }).unwrap();
        std::thread::sleep(AFTERLIFE);
        network.kill(MEMBER).unwrap();
        storm.end();

        let copy = dir.path().join(format!("disk-{cut}"));
        image.copy_to(&copy).unwrap();
        image.discard().unwrap();
        image = Image::mount(&copy).unwrap();
        let mut network = member_on(&image, dir.path());
        network.start(MEMBER).unwrap();
        let key = read_public_key_file(&dir.path().join("member-1/keys/das_bls.pub")).unwrap();
        let all = ledger.promises_from(0);
        let broken = check(&addresses.rest, &key, &all);
        assert!(
            broken.is_empty(),
            "cut {cut}: {} of {} promises broken: {broken:#?}",
            broken.len(),
            all.len()
        );
        network.stop(MEMBER).unwrap();
    }
    image.discard().unwrap();
    ledger
}

/// A member with its keys beside the image and its database on it.
fn member_on(image: &Image, dir: &Path) -> Network {
    let data = image.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    let plan = Plan { members: 1, honest: 1, shards: 1, base_port: 0 };
    let network = Network::open(dir, &plan).unwrap();
    network.with_node_options([
        format!("--data-availability.local-file-storage.data-dir={}", data.display()),
        // The image is small.
        "--data-availability.local-file-storage.min-free=64MiB".to_owned(),
    ])
}
