//! What is encrypted on the disk, what is not, and what happens when a key is missing or the bytes are others.

use std::sync::atomic::Ordering;

use das_common::fault::{self, Coded};

use super::super::backup::verify_backup;
use super::*;

/// Bytes that nothing else has.
fn telling(number: u8) -> VerifiedBatch {
    let text = format!("the quick brown fox number {number} jumps over the lazy dog; ");
    VerifiedBatch::new(Bytes::from(text.repeat(400)))
}

/// Whether a file has what [`fill`] stores of this batch, a shard or the whole of it.
fn finds(directory: &TempDir, number: u8) -> bool {
    let batch = telling(number);
    let stored = if number.is_multiple_of(2) {
        new_shard(&batch, 0).shard.as_shard().bytes.clone()
    } else {
        batch.into_bytes()
    };
    let wanted = &stored[..48];
    ["segments", "index"].iter().any(|folder| {
        std::fs::read_dir(directory.path().join(folder)).unwrap().any(|entry| {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            bytes.windows(wanted.len()).any(|window| window == wanted)
        })
    })
}

fn fill(runtime: &Runtime, store: &Arc<BatchStore>) {
    for number in 0..20 {
        let batch = telling(number);
        runtime.block_on(store.put(&batch, 100, 1)).unwrap();
        if number % 2 == 0 {
            let shard = new_shard(&batch, 0);
            assert_eq!(runtime.block_on(store.put_shards(vec![shard])).unwrap(), [true]);
            let dropped = runtime.block_on(store.drop_whole(vec![(batch.hash(), 100)])).unwrap();
            assert_eq!(dropped, [DropOutcome::Dropped]);
        }
    }
}

#[test]
fn nothing_that_is_stored_can_be_read_on_the_disk_and_nothing_plain_is_left_after_switching_on() {
    let runtime = runtime();
    let (sealed, plain) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = open_with(&sealed, &keyring(1, false));
    fill(&runtime, &store);
    assert!((0..20).all(|number| !finds(&sealed, number)));

    let store = open(&plain);
    fill(&runtime, &store);
    assert!((0..20).all(|number| finds(&plain, number)), "what is plain is found");
    assert!(!store.keys().unwrap().is_of_use());
    drop(store);
    let store = open_with(&plain, &keyring(1, false));
    let before = store.keys().unwrap();
    assert_eq!((before.left_bytes, before.keys[0].records), (before.plain_bytes, 0));
    // As if the process ended before the old records were gone: the next start punches them.
    store.index.keep_holes.store(true, Ordering::Relaxed);
    rekey_all(&runtime, &store);
    assert!(finds(&plain, 1) && finds(&plain, 2));
    drop(store);
    let store = open_with(&plain, &keyring(1, false));
    assert!((0..20).all(|number| !finds(&plain, number)));
    let after = store.keys().unwrap();
    assert_eq!((after.plain_bytes, after.left_bytes, after.keys[0].records), (0, 0, 20));
    for number in 0..20 {
        let (batch, found) = (telling(number), runtime.block_on(store.get(telling(number).hash())).unwrap());
        assert_eq!(
            found,
            if number % 2 == 0 { Lookup::Sharded { hash: batch.hash() } } else { Lookup::Found(batch) }
        );
        assert_eq!(store.timeout(&telling(number).hash()).unwrap(), Some(100));
    }
    // And back.
    drop(store);
    let store = open_with(&plain, &keyring(0, true));
    rekey_all(&runtime, &store);
    drop(store);
    assert!(!open(&plain).keys().unwrap().is_of_use());
}

#[test]
fn a_store_does_not_open_without_a_key_that_it_needs() {
    let (runtime, directory) = (runtime(), TempDir::new().unwrap());
    let store = open_with(&directory, &keyring(1, false));
    fill(&runtime, &store);
    drop(store);
    for keys in [keyring(0, false), keyring(2, false)] {
        let options = StorageOptions { keys, ..options(&directory) };
        let refused = |at: &str| {
            let error = BatchStore::open(&options).unwrap_err();
            assert!(error.is_missing_key() && error.fault() == fault::STORAGE_KEY_MISSING, "{at}: {error}");
            assert!(error.to_string().contains(&StorageKey::new(&[1; 32]).id().to_string()), "{at}: {error}");
        };
        refused("as the index says");
        let (index, aside) = (directory.path().join("index"), directory.path().join("aside"));
        std::fs::rename(&index, &aside).unwrap();
        refused("as the log says");
        std::fs::remove_dir_all(&index).unwrap();
        std::fs::rename(&aside, &index).unwrap();
    }
    let store = open_with(&directory, &keyring(2, true));
    rekey_all(&runtime, &store);
    drop(store);
    let store = open_with(&directory, &keyring(2, false));
    assert_eq!(runtime.block_on(store.get(telling(1).hash())).unwrap(), Lookup::Found(telling(1)));
}

#[test]
fn what_was_changed_or_put_in_anothers_place_is_damaged_and_heals() {
    let (runtime, directory) = (runtime(), TempDir::new().unwrap());
    let store = open_with(&directory, &keyring(1, false));
    let (one, two) = (telling(1), telling(2));
    for batch in [&one, &two] {
        runtime.block_on(store.put(batch, 100, 1)).unwrap();
    }
    let file = std::fs::File::options().read(true).write(true).open(only_segment(&directory)).unwrap();
    let (at, other) = (payload_offset(&store, &one.hash()), payload_offset(&store, &two.hash()));
    let length = one.bytes().len() + 40;
    let read = |at| {
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, at).unwrap();
        bytes
    };
    let mut changed = read(at);
    changed[1000] ^= 1;
    // The second payload is whole, and sealed with the same key: it is another batch's.
    for bytes in [changed, read(other)] {
        file.write_all_at(&bytes, at).unwrap();
        assert_eq!(runtime.block_on(store.get(one.hash())).unwrap(), Lookup::Damaged);
        let scrubbed = runtime.block_on(store.scrub_step(None, u64::MAX)).unwrap();
        assert_eq!(scrubbed.damaged, [(one.hash(), Form::Whole)]);
    }
    assert_eq!(runtime.block_on(store.put(&one, 100, 1)).unwrap(), PutOutcome::Healed);
    assert_eq!(runtime.block_on(store.get(one.hash())).unwrap(), Lookup::Found(one));
}

#[test]
fn a_damaged_piece_is_left_and_named_when_the_key_changes() {
    let (runtime, directory) = (runtime(), TempDir::new().unwrap());
    let store = open_with(&directory, &keyring(1, false));
    fill(&runtime, &store);
    let (hash, damaged) = (telling(3).hash(), payload_offset(&store, &telling(3).hash()));
    let segment = store.index.batch(&hash).unwrap().unwrap().place().unwrap().segment;
    drop(store);
    let path = segment::path(&directory.path().join("segments"), segment);
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(b"rot", damaged + 500).unwrap();
    let store = open_with(&directory, &keyring(2, true));
    let step = runtime.block_on(store.rekey_step(None, u64::MAX)).unwrap();
    assert_eq!((step.damaged, step.next, step.rewritten), (vec![(hash, Form::Whole)], None, 19));
    assert!(store.keys().unwrap().left_bytes > 0);
    assert_eq!(runtime.block_on(store.put(&telling(3), 100, 1)).unwrap(), PutOutcome::Healed);
    assert_eq!(store.keys().unwrap().left_bytes, 0);
}

#[test]
fn a_backup_is_checked_with_the_keys_that_are_given() {
    let (runtime, directory, aside) = (runtime(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let store = open_with(&directory, &keyring(1, false));
    fill(&runtime, &store);
    let to = aside.path().join("backup");
    let (meter, stop) = (backup::Meter::default(), tokio_util::sync::CancellationToken::new());
    store.back_up(&to, None, &meter, &stop).unwrap();
    let scratch = aside.path().join("scratch");
    let read = verify_backup(&to, &scratch, &keyring(1, false), &meter).unwrap();
    assert_eq!((read.whole, read.shards, read.locked.len(), read.damaged.len()), (10, 10, 0, 0));
    let locked = verify_backup(&to, &scratch, &Arc::default(), &meter).unwrap();
    assert_eq!((locked.whole, locked.shards, locked.damaged.len()), (0, 0, 0));
    assert_eq!(locked.locked.values().sum::<u64>(), 20);
}
