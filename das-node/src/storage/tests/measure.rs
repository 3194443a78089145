//! What a member's disk takes once its batches are shards, and what encryption costs. Run by hand: `cargo test --release -p das-node --lib measure --
//! --ignored --nocapture`.

// It is there to print.
#![allow(clippy::print_stdout)]

use rand::{Rng, RngCore, SeedableRng};

use super::*;

const BATCHES: usize = 2000;
const MEAN: f64 = 100_000.0;

fn disk_bytes(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => disk_bytes(&entry.path()),
            false => entry.metadata().unwrap().blocks() * 512,
        })
        .sum()
}

#[test]
#[ignore = "a measurement: stores and drops 200 MB"]
fn disk_bytes_per_payload_byte_of_one_member_of_six() {
    let runtime = runtime();
    let directory = TempDir::new().unwrap();
    let large = StorageOptions { segment_bytes: 128 << 20, ..options(&directory) };
    let store = Arc::new(BatchStore::open(&large).unwrap());
    let seed = 4;
    let mut random = rand::rngs::StdRng::seed_from_u64(seed);
    let mut payload = 0;
    let mut batches = Vec::new();
    for number in 0..BATCHES {
        // Mostly small, a few large, none above 10 MB.
        let length = match number {
            0 => 0,
            1 => 10_000_000,
            _ => (-MEAN * (1.0 - random.random::<f64>()).ln()).min(1e7) as usize,
        };
        let mut bytes = vec![0; length];
        random.fill_bytes(&mut bytes);
        let batch = VerifiedBatch::new(bytes.into());
        payload += length as u64;
        runtime.block_on(store.put(&batch, 1_000_000, 1)).unwrap();
        batches.push(batch.hash());
    }
    let row = |what: &str| {
        let disk = disk_bytes(directory.path());
        let usage = runtime.block_on(store.usage()).unwrap();
        println!(
            "{what:<22} {disk:>12} bytes on disk, {:.4} of the payload; {usage:?}",
            disk as f64 / payload as f64
        );
        disk
    };
    println!("seed {seed}: {BATCHES} batches, {payload} bytes, mean {}", payload / BATCHES as u64);
    row("whole");
    let mut encoding = std::time::Duration::ZERO;
    let mut writing = std::time::Duration::ZERO;
    for (list, hashes) in (0u64..).zip(batches.chunks(64)) {
        let begin = std::time::Instant::now();
        let shards = hashes.iter().map(|hash| {
            let Lookup::Found(batch) = runtime.block_on(store.get(*hash)).unwrap() else { panic!("{hash}") };
            new_shard(&batch, 0)
        });
        let shards = shards.collect();
        encoding += begin.elapsed();
        let begin = std::time::Instant::now();
        runtime.block_on(store.put_shards(shards)).unwrap();
        let asked = hashes.iter().map(|hash| (*hash, 1_000_000)).collect();
        runtime.block_on(store.drop_whole(asked)).unwrap();
        writing += begin.elapsed();
        // Six members' statements, about 90 bytes each, and a record of custody that changes a few times.
        for member in 0u8..6 {
            let mut statements = vec![0; 90 * hashes.len()];
            random.fill_bytes(&mut statements);
            let mut change = store.index.change();
            change
                .put_raw(
                    index::Family::Certificates,
                    &[&[member][..], &list.to_be_bytes()].concat(),
                    &statements,
                )
                .unwrap();
            for hash in hashes {
                change.put_raw(index::Family::Custody, hash.as_bytes(), &[member; 120]).unwrap();
                let key = |member: u8| [&[member; 16][..], hash.as_bytes()].concat();
                change.put_raw(index::Family::Committees, &key(member + 1), b"").unwrap();
                change.delete_raw(index::Family::Committees, &key(member));
            }
            change.apply(member == 0).unwrap();
        }
    }
    row("dropped");
    runtime.block_on(store.trim()).unwrap();
    // Compactions that the deletions have called for.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let disk = row("dropped and trimmed");
    println!("reading and encoding {encoding:?}, packs and drops {writing:?}");
    assert!(disk as f64 <= 0.35 * payload as f64);
}

/// Stores of 100 KB, one after the other, and reads of them, from the page cache and from the disk.
#[test]
#[ignore = "a measurement: stores and reads 200 MB, four times"]
fn what_encryption_at_rest_costs() {
    let runtime = runtime();
    let mut random = rand::rngs::StdRng::seed_from_u64(5);
    println!(
        "{:<10}{:>12}{:>12}{:>14}{:>18}{:>18}",
        "", "store p50", "store p99", "stores MB/s", "reads MB/s", "cold reads MB/s"
    );
    // Twice, so that what comes first has no part in it.
    for name in ["plain", "encrypted", "plain", "encrypted"] {
        let directory = TempDir::new_in(std::env::var_os("TMPDIR").unwrap_or("/var/tmp".into())).unwrap();
        let keys = keyring(u8::from(name == "encrypted"), false);
        let large = StorageOptions { segment_bytes: 128 << 20, keys, ..options(&directory) };
        let store = Arc::new(BatchStore::open(&large).unwrap());
        let batches: Vec<_> = (0..BATCHES)
            .map(|_| {
                let mut bytes = vec![0; 100_000];
                random.fill_bytes(&mut bytes);
                VerifiedBatch::new(bytes.into())
            })
            .collect();
        let mut times = Vec::with_capacity(BATCHES);
        for batch in &batches {
            let begin = std::time::Instant::now();
            runtime.block_on(store.put(batch, 1_000_000, 1)).unwrap();
            times.push(begin.elapsed());
        }
        let rate = |took: std::time::Duration| BATCHES as f64 / 10.0 / took.as_secs_f64();
        let stores = rate(times.iter().sum());
        times.sort_unstable();
        let read = || {
            let begin = std::time::Instant::now();
            for batch in &batches {
                let found = runtime.block_on(store.get(batch.hash())).unwrap();
                assert!(matches!(found, Lookup::Found(_)));
            }
            rate(begin.elapsed())
        };
        let warm = read();
        let segments = directory.path().join("segments");
        for id in segment::list(&segments).unwrap() {
            segment::forget_cached(&File::open(segment::path(&segments, id)).unwrap(), 0, 0);
        }
        let cold = read();
        let (p50, p99) = (times[BATCHES / 2], times[BATCHES * 99 / 100]);
        println!("{name:<10}{p50:>12.2?}{p99:>12.2?}{stores:>14.0}{warm:>18.0}{cold:>18.0}");
    }
}
