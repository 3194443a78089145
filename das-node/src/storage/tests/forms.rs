//! Crash points, rot, space and room of the two forms.

use std::os::unix::fs::MetadataExt;
use std::sync::atomic::Ordering::Relaxed;

use super::super::index::Family;
use super::*;

fn blocks(directory: &TempDir) -> u64 {
    let segments = directory.path().join("segments");
    let ids = segment::list(&segments).unwrap();
    ids.iter().map(|id| std::fs::metadata(segment::path(&segments, *id)).unwrap().blocks() * 512).sum()
}

/// Stores batches, and their shards in one pack.
fn store_both(runtime: &Runtime, store: &Arc<BatchStore>, batches: &[VerifiedBatch], timeout: u64) {
    for batch in batches {
        runtime.block_on(store.put(batch, timeout, 1)).unwrap();
    }
    let shards = batches.iter().map(|batch| new_shard(batch, 0)).collect();
    assert!(!runtime.block_on(store.put_shards(shards)).unwrap().contains(&false));
}

fn drop_all(runtime: &Runtime, store: &Arc<BatchStore>, batches: &[VerifiedBatch], promise: u64) {
    let asked = batches.iter().map(|batch| (batch.hash(), promise)).collect();
    let outcomes = runtime.block_on(store.drop_whole(asked)).unwrap();
    assert!(outcomes.iter().all(|outcome| *outcome == DropOutcome::Dropped), "{outcomes:?}");
}

fn assert_shard(runtime: &Runtime, store: &Arc<BatchStore>, batch: &VerifiedBatch) {
    let found = runtime.block_on(store.read_shard(batch.hash(), coding_id(0), &code())).unwrap();
    let Lookup::Found(found) = found else { panic!("{found:?}") };
    assert_eq!(found.as_shard(), new_shard(batch, 0).shard.as_shard());
}

fn lose_index(directory: &TempDir) {
    std::fs::remove_dir_all(directory.path().join("index")).unwrap();
}

fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn a_drop_that_the_index_refuses_punches_nothing() {
    let runtime = runtime();
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let kept = [batch(1, 30_000)];
    store_both(&runtime, &store, &kept, 50);
    store.index.failures.store(1, Relaxed);
    assert!(runtime.block_on(store.drop_whole(vec![(kept[0].hash(), 50)])).is_err());
    assert_eq!(runtime.block_on(store.get(kept[0].hash())).unwrap(), Lookup::Found(kept[0].clone()));
    drop(store);
    let store = open(&directory);
    assert_eq!(runtime.block_on(store.get(kept[0].hash())).unwrap(), Lookup::Found(kept[0].clone()));
    assert_eq!(runtime.block_on(store.usage()).unwrap().whole_batches, 1);
}

#[test]
fn what_takes_away_is_synced_before_space_goes_back() {
    let runtime = runtime();
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let kept = [batch(1, 30_000), batch(2, 30_000)];
    store_both(&runtime, &store, &kept, 50);
    let shards = kept.iter().map(|batch| new_shard(batch, 1)).collect();
    runtime.block_on(store.put_shards(shards)).unwrap();
    let mut synced = store.index.synced.load(Relaxed);
    let mut assert_synced = || {
        let now = store.index.synced.load(Relaxed);
        assert!(now > synced);
        synced = now;
    };
    drop_all(&runtime, &store, &kept, 50);
    assert_synced();
    let deleted = store.delete_shards(vec![(kept[0].hash(), coding_id(1))]);
    assert_eq!(runtime.block_on(deleted).unwrap(), [true]);
    assert_synced();
    let last = store.delete_shards(vec![(kept[0].hash(), coding_id(0))]);
    assert_eq!(runtime.block_on(last).unwrap(), [false], "the last form of a batch stays");
    runtime.block_on(store.expire_batches(vec![(kept[0].hash(), 50)])).unwrap();
    assert_synced();
    runtime.block_on(store.expire(50, 10)).unwrap();
    assert_synced();
}

#[test]
fn what_a_crash_left_unpunched_is_punched_by_the_next_start() {
    let runtime = runtime();
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let batches: Vec<_> = (0..5).map(|number| batch(number, 30_000)).collect();
    store_both(&runtime, &store, &batches, 50);
    store.index.keep_holes.store(true, Relaxed);
    drop_all(&runtime, &store, &batches, 50);
    drop(store);
    let before = blocks(&directory);
    // The same crash, and the index is lost with it: the whole copies are still there, and are found.
    let other = TempDir::new().unwrap();
    copy_folder(&directory.path().join("segments"), &other.path().join("segments"));
    let lost = open(&other);
    for batch in &batches {
        assert_eq!(runtime.block_on(lost.get(batch.hash())).unwrap(), Lookup::Found(batch.clone()));
        assert_shard(&runtime, &lost, batch);
    }
    drop(lost);

    let store = open(&directory);
    assert_eq!(store.index.holes().unwrap(), []);
    assert!(before - blocks(&directory) >= 5 * 32_768 - 4096, "{before} -> {}", blocks(&directory));
    drop(store);
    // Now the lost index finds the shards alone.
    lose_index(&directory);
    let store = open(&directory);
    for batch in &batches {
        let hash = batch.hash();
        assert_eq!(runtime.block_on(store.get(hash)).unwrap(), Lookup::Sharded { hash });
        assert_eq!(store.timeout(&hash).unwrap(), Some(50));
        assert_shard(&runtime, &store, batch);
    }
}

#[test]
fn a_later_timeout_outlives_the_whole_copy_that_brought_it_and_the_index() {
    let runtime = runtime();
    let directory = TempDir::new().unwrap();
    let kept = [batch(1, 30_000)];
    let store = open(&directory);
    store_both(&runtime, &store, &kept, 50);
    drop_all(&runtime, &store, &kept, 50);
    let outcome = runtime.block_on(store.put(&kept[0], 90, 2)).unwrap();
    assert_eq!(outcome, PutOutcome::MadeWhole);
    assert_eq!(runtime.block_on(store.put(&kept[0], 70, 2)).unwrap(), PutOutcome::Present);
    let late = runtime.block_on(store.drop_whole(vec![(kept[0].hash(), 50)])).unwrap();
    assert_eq!(late, [DropOutcome::Promised { timeout: 90 }], "what was counted for is not what is promised");
    drop_all(&runtime, &store, &kept, 90);
    assert_eq!(store.timeout(&kept[0].hash()).unwrap(), Some(90));
    drop(store);
    lose_index(&directory);
    let store = open(&directory);
    let held = store.held(&kept[0].hash()).unwrap().unwrap();
    assert_eq!((held.whole, held.timeout, held.stored_at), (false, 90, 1));
    assert_shard(&runtime, &store, &kept[0]);
}

#[test]
fn shards_that_share_pages_do_not_harm_each_other_and_leave_nothing() {
    let runtime = runtime();
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    // Shards of 3 to 9 KB, neither aligned nor alike.
    let batches: Vec<_> = (0..20).map(|number| batch(number, 9000 + 900 * number as usize)).collect();
    for (number, batch) in (0..).zip(&batches) {
        runtime.block_on(store.put(batch, 10 + number % 2, 1)).unwrap();
    }
    let shards = batches.iter().map(|batch| new_shard(batch, 0)).collect();
    runtime.block_on(store.put_shards(shards)).unwrap();
    let asked = (0..).zip(&batches).map(|(number, batch)| (batch.hash(), 10 + number % 2)).collect();
    runtime.block_on(store.drop_whole(asked)).unwrap();
    runtime.block_on(store.trim()).unwrap();
    let usage = runtime.block_on(store.usage()).unwrap();
    assert_eq!((usage.whole_batches, usage.sharded_batches, usage.shards), (0, 20, 20));
    assert!(usage.dead_bytes <= 4096, "whole copies leave no holes unpunched: {usage:?}");
    assert_eq!(runtime.block_on(store.expire(10, 100)).unwrap().len(), 10);
    for (number, batch) in batches.iter().enumerate() {
        match number % 2 {
            0 => assert_eq!(runtime.block_on(store.get(batch.hash())).unwrap(), Lookup::Absent),
            _ => assert_shard(&runtime, &store, batch),
        }
    }
    let usage = runtime.block_on(store.usage()).unwrap();
    assert!(usage.dead_bytes <= 20 * 4096 + 4096, "at most a page at each border is shared: {usage:?}");
    assert_eq!(runtime.block_on(store.expire(11, 100)).unwrap().len(), 10);
    let usage = runtime.block_on(store.usage()).unwrap();
    assert_eq!((usage.shards, usage.shard_bytes, usage.sharded_batches), (0, 0, 0));
    assert!(usage.dead_bytes <= 4096, "the pack is gone: {usage:?}");
}

#[test]
fn a_rotten_shard_is_noticed_by_reads_and_scrub_and_healed() {
    let runtime = runtime();
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let batches: Vec<_> = (0..3).map(|number| batch(number, 30_000)).collect();
    store_both(&runtime, &store, &batches, 50);
    drop_all(&runtime, &store, &batches[..2], 50);
    let scrub = |store: &Arc<BatchStore>| {
        let (mut cursor, mut damaged, mut bytes) = (None, Vec::new(), 0);
        loop {
            let step = runtime.block_on(store.scrub_step(cursor, 1)).unwrap();
            damaged.extend(step.damaged);
            bytes += step.bytes;
            cursor = step.next;
            if cursor.is_none() {
                return (damaged, bytes);
            }
        }
    };
    let (damaged, bytes) = scrub(&store);
    assert_eq!(damaged, []);
    assert!((3 * 10_000 + 30_000..80_000).contains(&bytes), "{bytes}");

    let hash = batches[1].hash();
    let shard = store.index.shard(&hash, &coding_id(0)).unwrap().unwrap();
    flip(&only_segment(&directory), shard.offset + shard.disk_bytes() - 1);
    flip(&only_segment(&directory), payload_offset(&store, &batches[2].hash()));
    let found = runtime.block_on(store.read_shard(hash, coding_id(0), &code())).unwrap();
    assert!(matches!(found, Lookup::Damaged), "{found:?}");
    assert_shard(&runtime, &store, &batches[0]);
    let (mut damaged, _) = scrub(&store);
    damaged.sort_unstable_by_key(|(_, form)| *form);
    assert_eq!(damaged, [(batches[2].hash(), Form::Whole), (hash, Form::Shard(coding_id(0)))]);

    runtime.block_on(store.put_shards(vec![new_shard(&batches[1], 0)])).unwrap();
    runtime.block_on(store.put(&batches[2], 50, 1)).unwrap();
    assert_shard(&runtime, &store, &batches[1]);
    assert_eq!(scrub(&store).0, []);
    assert_eq!(runtime.block_on(store.usage()).unwrap().shards, 3);
}

#[test]
fn a_torn_pack_gives_back_the_shards_that_are_whole() {
    let runtime = runtime();
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let batches: Vec<_> = (0..3).map(|number| batch(number, 30_000)).collect();
    let shards = batches.iter().map(|b| NewShard { timeout: Some(40), ..new_shard(b, 0) }).collect();
    runtime.block_on(store.put_shards(shards)).unwrap();
    let torn = store.index.shard(&batches[1].hash(), &coding_id(0)).unwrap().unwrap();
    drop(store);
    lose_index(&directory);
    flip(&only_segment(&directory), torn.offset + 300);
    let store = open(&directory);
    assert_shard(&runtime, &store, &batches[0]);
    assert_eq!(store.held(&batches[1].hash()).unwrap(), None);
    assert_shard(&runtime, &store, &batches[2]);
    assert_eq!(runtime.block_on(store.usage()).unwrap().shards, 2);
}

#[test]
fn the_reserve_is_for_shards_and_later_timeouts() {
    let runtime = runtime();
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let kept: Vec<_> = (0..3).map(|number| batch(number, 30_000)).collect();
    for batch in &kept {
        runtime.block_on(store.put(batch, 50, 1)).unwrap();
    }
    let free = store.free_bytes().unwrap();
    drop(store);
    let full = StorageOptions { reserve_bytes: free + (free >> 1), ..options(&directory) };
    let store = Arc::new(BatchStore::open(&full).unwrap());
    // All at once, so that they meet in one group.
    let (refused, later, shards) = runtime.block_on(async {
        let new = batch(9, 30_000);
        let shards = kept.iter().map(|batch| new_shard(batch, 0)).collect();
        tokio::join!(store.put(&new, 50, 1), store.put(&kept[0], 60, 1), store.put_shards(shards))
    });
    let refused = refused.unwrap_err();
    assert!(refused.is_disk_full(), "{refused}");
    assert!(store.lacking_bytes().is_some_and(|bytes| bytes > full.reserve_bytes));
    assert_eq!(later.unwrap(), PutOutcome::Present);
    assert_eq!(shards.unwrap(), [true; 3]);
    assert_eq!(store.timeout(&kept[0].hash()).unwrap(), Some(60));
    drop_all(&runtime, &store, &kept[1..], 50);
    assert!(runtime.block_on(store.put(&batch(9, 30_000), 50, 1)).is_err(), "the room is not for stores");
    assert_eq!(runtime.block_on(store.extend(kept[1].hash(), 70, 1)).unwrap(), Some(70));
    assert_eq!(runtime.block_on(store.expire(60, 10)).unwrap().len(), 2);
    assert_shard(&runtime, &store, &kept[1]);
}

#[test]
fn an_index_of_the_first_release_is_read_and_brought_up_to_date() {
    let runtime = runtime();
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let batches: Vec<_> = (0..3).map(|number| batch(number, 5000)).collect();
    for (now, batch) in (10..).zip(&batches) {
        runtime.block_on(store.put(batch, 50, now)).unwrap();
    }
    let mut change = store.index.change();
    for batch in &batches {
        let record = store.index.batch(&batch.hash()).unwrap().unwrap();
        change.set_first_release(&batch.hash(), &record);
    }
    change.apply(true).unwrap();
    assert_eq!(store.oldest_whole(100, 10).unwrap(), []);
    drop(store);
    let store = open(&directory);
    let oldest: Vec<_> = (10..).zip(&batches).map(|(now, batch)| (now, batch.hash())).collect();
    assert_eq!(store.oldest_whole(100, 10).unwrap(), oldest);
    assert_eq!(store.oldest_whole(12, 10).unwrap(), oldest[..2]);
    assert_eq!(store.oldest_whole(100, 1).unwrap(), oldest[..1]);
    let usage = runtime.block_on(store.usage()).unwrap();
    assert_eq!((usage.whole_batches, usage.whole_bytes), (3, 15_000));
    for batch in &batches {
        assert_eq!(runtime.block_on(store.get(batch.hash())).unwrap(), Lookup::Found(batch.clone()));
    }
}

#[test]
fn records_of_custody_are_ordered_and_bounded() {
    let runtime = runtime();
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let index = store.index();
    let mut change = index.change();
    for key in [&b"ab1"[..], b"ab3", b"ac", b"b", b"ab2"] {
        change.put_raw(Family::Committees, key, &key[..1]).unwrap();
    }
    let error = change.put_raw(Family::Committees, &[0; 513], b"").unwrap_err();
    assert!(matches!(error, IndexError::TooLong { got: 513, limit: 512, .. }), "{error}");
    assert!(change.put_raw(Family::Committees, b"x", &vec![0; (4 << 20) + 1]).is_err());
    change.apply(true).unwrap();
    let keys =
        |prefix: &[u8], from: &[u8], limit| index.keys(Family::Committees, prefix, from, limit).unwrap();
    assert_eq!(keys(b"ab", b"", 10), [b"ab1", b"ab2", b"ab3"]);
    assert_eq!(keys(b"ab", b"ab2", 10), [b"ab2", b"ab3"]);
    assert_eq!(keys(b"ab", b"ab2", 1), [b"ab2"]);
    assert_eq!(keys(b"", b"ac", 10), [&b"ac"[..], b"b"]);
    assert_eq!(keys(b"ab", b"b", 10), Vec::<Vec<u8>>::new());
    assert_eq!(index.seek(Family::Committees, b"ab4").unwrap(), Some((b"ac".to_vec(), b"a".to_vec())));
    assert_eq!(index.range(Family::Committees, b"ac", 10).unwrap().len(), 2);
    assert_eq!(index.raw(Family::Certificates, b"ac").unwrap(), None, "families are apart");

    let noted = batch(1, 100);
    runtime.block_on(store.put(&batch(2, 100), 50, 1)).unwrap();
    store.note_arrivals(true).unwrap();
    runtime.block_on(store.put(&noted, 50, 1)).unwrap();
    let arrival = super::super::index::arrival_key(&noted.hash()).to_vec();
    assert_eq!(index.keys(Family::Custody, b"A", b"", 10).unwrap(), [arrival]);
    drop(store);
    assert!(open(&directory).index().notes_arrivals());
}
