//! Backups of a member under load, and what becomes of them.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use das_common::data_hash::DataHash;
use das_testnet::http::Connection;
use das_testnet::load::bodies::unix_now;
use das_testnet::nitro::Generated;
use das_testnet::promises::test_seed;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::member::{Said, assert_serves, dastool, folder, launch, member, store};

fn backup(data: &Path, to: &Path, base: Option<&Path>) -> Said {
    let mut args = vec!["backup", "--data-dir", data.to_str().unwrap(), "--to", to.to_str().unwrap()];
    args.extend(base.iter().flat_map(|base| ["--base", base.to_str().unwrap()]));
    dastool(&args)
}

fn restore(from: &Path, data: &Path) -> Said {
    dastool(&["restore", "--from", from.to_str().unwrap(), "--data-dir", data.to_str().unwrap()])
}

fn verify(from: &Path) -> Said {
    dastool(&["restore", "--from", from.to_str().unwrap(), "--verify-only"])
}

/// Stores random batches from several clients until told to stop; the lists have what was signed for.
fn load(rpc: &str, seed: u64, during: impl FnOnce(&dyn Fn() -> Vec<Vec<u8>>)) -> Vec<Vec<u8>> {
    let (signed, stop) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for client in 0..3 {
            let (signed, stop) = (&signed, &stop);
            scope.spawn(move || {
                let mut random = StdRng::seed_from_u64(seed + client);
                while !stop.load(Ordering::Relaxed) {
                    let batch = Generated::make(random.random(), random.random_range(0..60_000));
                    if store(rpc, &batch, unix_now() + 7200).is_ok() {
                        signed.lock().unwrap().push(batch);
                    }
                }
            });
        }
        let so_far = || loop {
            let signed = signed.lock().unwrap().clone();
            if signed.len() > 30 {
                return signed;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        };
        during(&so_far);
        stop.store(true, Ordering::Relaxed);
    });
    signed.into_inner().unwrap()
}

#[test]
fn a_backup_under_load_has_everything_that_was_signed_before_it() {
    let seed = test_seed();
    println!("seed {seed}");
    let folder = folder();
    let at = |part: &str| folder.path().join(part);
    let small =
        ["--data-availability.local-file-storage.segment-size", "1MiB", "--limits.max-message-size", "1MiB"];
    let mut server = member(&at("data"), &small);
    let (mut before_first, mut before_second) = (Vec::new(), Vec::new());
    let all = load(&server.rpc_url(), seed, |so_far| {
        before_first = so_far();
        backup(&at("data"), &at("first"), None).good();
        before_second = so_far();
        let said = backup(&at("data"), &at("second"), Some(&at("first"))).good();
        let linked = said["backup"]["linkedBytes"].as_u64().unwrap();
        assert!(linked > 0 && linked < said["backup"]["bytes"].as_u64().unwrap(), "{said}");
        backup(&at("data"), &at("second"), None).fails_with("DAS-BACKUP-001");
        server.kill().unwrap();
    });
    println!(
        "{} batches, {} before the first backup, {} before the second",
        all.len(),
        before_first.len(),
        before_second.len()
    );
    // Each is complete in itself.
    let checked = verify(&at("first")).good();
    assert!(checked["whole"].as_u64().unwrap() >= before_first.len() as u64, "{checked}");
    fs::remove_dir_all(at("first")).unwrap();
    verify(&at("second")).good();
    restore(&at("second"), &at("data")).fails_with("DAS-BACKUP-003");
    restore(&at("second"), &at("restored")).good();
    let mut server = member(&at("restored"), &[]);
    for batch in before_first.iter().chain(&before_second) {
        assert_serves(&server.rest_url(), batch);
    }
    // It is a database like any other: it takes stores, and can be backed up when it is stopped.
    store(&server.rpc_url(), b"after the restore", unix_now() + 3600).unwrap();
    server.stop().unwrap();
    backup(&at("restored"), &at("third"), Some(&at("second"))).good();
    restore(&at("third"), &at("restored-again")).good();
    let server = member(&at("restored-again"), &[]);
    assert_serves(&server.rest_url(), b"after the restore");
    // What had lost nothing has everything.
    let server_of_old = member(&at("data"), &[]);
    all.iter().for_each(|batch| assert_serves(&server_of_old.rest_url(), batch));
}

#[test]
fn a_backup_that_is_not_what_was_written_is_refused_or_says_what_is_damaged() {
    let folder = folder();
    let at = |part: &str| folder.path().join(part);
    let batches: Vec<Vec<u8>> = (0..10).map(|number| Generated::make(number, 20_000)).collect();
    let server = member(&at("data"), &[]);
    for batch in &batches {
        store(&server.rpc_url(), batch, unix_now() + 3600).unwrap();
    }
    backup(&at("data"), &at("backup"), None).good();
    assert!(!at("backup").join("peer.key").exists());

    // One batch rots.
    let segments = fs::read_dir(at("backup/segments")).unwrap();
    let segment = segments.map(|entry| entry.unwrap().path()).next().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let place = bytes.windows(20_000).position(|window| window == batches[3]).unwrap();
    bytes[place + 7] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    let rotten = format!("0x{}", DataHash::of(&batches[3]));
    let listing = fs::read_dir(at("backup/index")).unwrap().count();
    for said in [verify(&at("backup")), restore(&at("backup"), &at("restored"))] {
        assert_eq!((said.code, &said.json["damaged"]), (1, &1.into()), "{said:?}");
        assert_eq!(said.json["damagedBatches"][0]["hash"], rotten.as_str());
    }
    assert_eq!(
        fs::read_dir(at("backup/index")).unwrap().count(),
        listing,
        "a check leaves a backup as it is"
    );
    // A member with a damaged batch serves the others, and this one when somebody else has it.
    let urls = server.rest_url();
    let more =
        ["--data-availability.rest-aggregator.enable", "--data-availability.rest-aggregator.urls", &urls];
    let healed = member(&at("restored"), &more);
    batches.iter().for_each(|batch| assert_serves(&healed.rest_url(), batch));
    drop(healed);

    // A restore that was interrupted: no node starts, and the same again goes on.
    fs::write(at("restored/restore-unfinished"), b"").unwrap();
    let (status, output) =
        launch(&at("restored"), &[]).run_to_end(std::time::Duration::from_secs(60)).unwrap();
    assert!(!status.success() && output.contains("DAS-BACKUP-004"), "{output}");
    bytes[place + 7] ^= 1;
    fs::write(&segment, &bytes).unwrap();
    restore(&at("backup"), &at("restored")).good();

    // The index, a segment, the manifest.
    let table = fs::read_dir(at("backup/index")).unwrap().map(|entry| entry.unwrap().path());
    let table = table.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let whole = fs::read(&table).unwrap();
    let mut rotten = whole.clone();
    rotten[whole.len() / 2] ^= 1;
    fs::write(&table, rotten).unwrap();
    restore(&at("backup"), &at("restored-2")).fails_with("DAS-BACKUP-002");
    assert!(!at("restored-2").exists(), "nothing was begun");
    fs::write(&table, whole).unwrap();
    fs::write(&segment, &bytes[..bytes.len() - 1]).unwrap();
    verify(&at("backup")).fails_with("DAS-BACKUP-002");
    fs::remove_file(at("backup/manifest.json")).unwrap();
    restore(&at("backup"), &at("restored-2")).fails_with("manifest.json");
}

#[test]
fn a_backup_holds_up_neither_reads_nor_the_end_of_the_node() {
    let folder = folder();
    let at = |part: &str| folder.path().join(part);
    let mut server = member(&at("data"), &[]);
    let batch = Generated::make(1, 1_000_000);
    store(&server.rpc_url(), &batch, unix_now() + 3600).unwrap();
    let (data, to) = (at("data"), at("backup"));
    let made = std::thread::spawn(move || backup(&data, &to, None));
    assert_serves(&server.rest_url(), &batch);
    assert_eq!(Connection::new(&server.rest_url()).unwrap().get("/health").unwrap().status, 200);
    made.join().unwrap().good();
    server.stop().unwrap();
    verify(&at("backup")).good();
}
