use std::os::unix::fs::FileExt;

use tempfile::TempDir;
use tokio::runtime::Runtime;

use das_common::committee::CodingId;
use das_common::erasure::Code;

use das_keys::storage_key::StorageKey;

use super::index::LogEnd;
use super::*;

mod archived;
mod backups;
mod forms;
mod keys;
mod measure;
mod model;

const SEGMENT: u64 = 256 << 10;

fn options(directory: &TempDir) -> StorageOptions {
    StorageOptions {
        directory: directory.path().to_path_buf(),
        segment_bytes: SEGMENT,
        reserve_bytes: 1 << 20,
        keys: Arc::default(),
    }
}

fn open(directory: &TempDir) -> Arc<BatchStore> {
    Arc::new(BatchStore::open(&options(directory)).expect("the store opens"))
}

fn open_with(directory: &TempDir, keys: &Arc<Keyring>) -> Arc<BatchStore> {
    let options = StorageOptions { keys: Arc::clone(keys), ..options(directory) };
    Arc::new(BatchStore::open(&options).expect("the store opens"))
}

/// Encrypts with the key of this number (0: not at all), and decrypts with those of the others or not.
fn keyring(active: u8, others: bool) -> Arc<Keyring> {
    let key = |number: u8| (number > 0).then(|| StorageKey::new(&[number; 32]));
    let former = (1..3).filter(|number| others && *number != active).filter_map(key);
    Arc::new(Keyring::new(key(active), former).unwrap())
}

/// Brings everything under the active key.
fn rekey_all(runtime: &Runtime, store: &Arc<BatchStore>) {
    let mut cursor = None;
    loop {
        let step = runtime.block_on(store.rekey_step(cursor, 1 << 20)).unwrap();
        assert_eq!(step.damaged, []);
        cursor = step.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(store.keys().unwrap().left_bytes, 0);
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// A batch told apart by `number`, of `length` bytes.
fn batch(number: u32, length: usize) -> VerifiedBatch {
    let bytes: Vec<u8> =
        (0..length).map(|i| (i as u32).wrapping_mul(31).wrapping_add(number * 7919) as u8).collect();
    let mut bytes = bytes;
    for (to, from) in bytes.iter_mut().zip(number.to_be_bytes()) {
        *to = from;
    }
    VerifiedBatch::new(Bytes::from(bytes))
}

/// The code that the tests cut batches into shards with.
fn code() -> Code {
    Code::new(3, 6).unwrap()
}

fn coding_id(coding: u8) -> CodingId {
    CodingId::from_bytes([coding; 32])
}

/// This member's shard of a batch.
fn new_shard(batch: &VerifiedBatch, coding: u8) -> NewShard {
    let shard = code().encode_one(batch.bytes(), 4);
    NewShard { hash: batch.hash(), coding: coding_id(coding), shard, timeout: None, now: 1 }
}

fn only_segment(directory: &TempDir) -> PathBuf {
    let segments = directory.path().join("segments");
    let ids = segment::list(&segments).unwrap();
    assert_eq!(ids.len(), 1, "{ids:?}");
    segment::path(&segments, ids[0])
}

/// Where the payload of a batch starts in the file of its segment.
fn payload_offset(store: &BatchStore, hash: &DataHash) -> u64 {
    store.index.batch(hash).unwrap().unwrap().place().unwrap().offset + 96
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn concurrent_stores_of_the_same_and_of_other_batches_all_hold() {
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut tasks = Vec::new();
        for i in 0..200u32 {
            let store = Arc::clone(&store);
            tasks.push(tokio::spawn(async move {
                store.put(&batch(i % 20, 10_000), u64::from(100 + i), 1).await.unwrap();
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        for number in 0..20 {
            let wanted = batch(number, 10_000);
            assert_eq!(store.timeout(&wanted.hash()).unwrap(), Some(u64::from(280 + number)));
            assert_eq!(store.get(wanted.hash()).await.unwrap(), Lookup::Found(wanted));
        }
    });
    let live: u64 = store.index.segments().unwrap().iter().map(|(_, s)| s.live_bytes).sum();
    assert!(live <= 20 * (12_288 + 4096), "one payload and one extension a batch at most: {live}");
}

#[test]
fn rot_is_noticed_and_healed_by_the_next_store() {
    let runtime = runtime();
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let whole = batch(1, 70_000);
    runtime.block_on(store.put(&whole, 50, 1)).unwrap();
    let at = payload_offset(&store, &whole.hash()) + 69_999;
    let file = File::options().read(true).write(true).open(only_segment(&directory)).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();

    assert_eq!(runtime.block_on(store.get(whole.hash())).unwrap(), Lookup::Damaged);
    assert_eq!(runtime.block_on(store.put(&whole, 40, 2)).unwrap(), PutOutcome::Healed);
    assert_eq!(runtime.block_on(store.get(whole.hash())).unwrap(), Lookup::Found(whole.clone()));
    assert_eq!(store.timeout(&whole.hash()).unwrap(), Some(50), "healing shortens no promise");
    assert_eq!(runtime.block_on(store.put(&whole, 40, 3)).unwrap(), PutOutcome::Present);
}

#[test]
fn a_torn_tail_is_stepped_over_and_a_forged_record_inside_a_batch_is_not_taken() {
    let runtime = runtime();
    let directory = TempDir::new().unwrap();
    let kept = batch(1, 5000);
    let torn = batch(2, 9000);
    // A batch whose bytes look like records of this very format, page by page, but for the check.
    let mut forged = vec![0; 3 * 4096];
    for page in 0..3 {
        let at = page * 4096 + 4000;
        if at + 96 <= forged.len() {
            forged[at..at + 6].copy_from_slice(b"DASR\x01\x01");
        }
    }
    let forged = VerifiedBatch::new(Bytes::from(forged));
    let torn_at;
    {
        let store = open(&directory);
        runtime.block_on(store.put(&kept, 10, 1)).unwrap();
        runtime.block_on(store.put(&torn, 10, 1)).unwrap();
        runtime.block_on(store.put(&forged, 10, 1)).unwrap();
        torn_at = payload_offset(&store, &torn.hash());
    }
    // The index forgets all, the second record loses its last page as if it had never reached the disk.
    std::fs::remove_dir_all(directory.path().join("index")).unwrap();
    let file = File::options().write(true).open(only_segment(&directory)).unwrap();
    file.write_all_at(&[0; 100], torn_at + 8900).unwrap();
    let store = open(&directory);
    assert_eq!(runtime.block_on(store.get(kept.hash())).unwrap(), Lookup::Found(kept));
    assert_eq!(runtime.block_on(store.get(torn.hash())).unwrap(), Lookup::Absent);
    assert_eq!(runtime.block_on(store.get(forged.hash())).unwrap(), Lookup::Found(forged));
    assert_eq!(store.index.segments().unwrap()[0].1.live_records, 2);
}

#[test]
fn space_comes_back_with_expiry() {
    use std::os::unix::fs::MetadataExt;
    let runtime = runtime();
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    // Two segments' worth; every other batch lives longer.
    for number in 0..40 {
        runtime.block_on(store.put(&batch(number, 10_000), 10 + u64::from(number % 2), 1)).unwrap();
    }
    let segments = directory.path().join("segments");
    let blocks = |segments: &Path| -> u64 {
        let ids = segment::list(segments).unwrap();
        ids.iter().map(|id| std::fs::metadata(segment::path(segments, *id)).unwrap().blocks() * 512).sum()
    };
    let before = blocks(&segments);
    let gone = runtime.block_on(store.expire(10, 100)).unwrap();
    assert_eq!(gone.len(), 20);
    // Less a block for each of the two files, whose list of extents has grown.
    assert!(before - blocks(&segments) >= 20 * 12_288 - 2 * 4096, "{before} -> {}", blocks(&segments));
    while !runtime.block_on(store.expire(11, 7)).unwrap().is_empty() {}
    assert_eq!(segment::list(&segments).unwrap().len(), 1, "only the segment being written is left");
    drop(store);
    let store = open(&directory);
    assert!(segment::list(&segments).unwrap().is_empty());
    assert_eq!(runtime.block_on(store.get(batch(3, 10_000).hash())).unwrap(), Lookup::Absent);
}

#[test]
fn a_locked_a_foreign_and_a_damaged_store_say_what_they_are() {
    let runtime = runtime();
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    runtime.block_on(store.put(&batch(1, 100), 10, 1)).unwrap();
    let error = BatchStore::open(&options(&directory)).unwrap_err();
    assert!(matches!(error, StorageError::Locked { .. }), "{error}");
    drop(store);

    let other = TempDir::new().unwrap();
    let store = open(&other);
    runtime.block_on(store.put(&batch(2, 100), 10, 1)).unwrap();
    drop(store);
    let foreign = segment::path(&directory.path().join("segments"), 7);
    std::fs::copy(only_segment(&other), foreign).unwrap();
    let error = BatchStore::open(&options(&directory)).unwrap_err();
    assert!(matches!(error, StorageError::ForeignSegment { .. }), "{error}");

    for entry in std::fs::read_dir(other.path().join("index")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("MANIFEST")) {
            std::fs::write(path, b"rot").unwrap();
        }
    }
    let error = BatchStore::open(&options(&other)).unwrap_err();
    assert!(matches!(error, StorageError::OpenIndex { .. }), "{error}");
}

#[test]
fn a_change_that_the_index_refuses_leaves_no_trace_in_the_counts() {
    let runtime = runtime();
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    // In one segment: batches that are due, and as many that are not. Then a segment behind it, so that it is sealed.
    for number in 0..10 {
        runtime.block_on(store.put(&batch(number, 500), 10 + u64::from(number % 2) * 100, 1)).unwrap();
    }
    for number in 10..60 {
        runtime.block_on(store.put(&batch(number, 10_000), 200, 1)).unwrap();
    }
    store.index.failures.store(3, std::sync::atomic::Ordering::Relaxed);
    for _ in 0..3 {
        assert!(runtime.block_on(store.expire(10, 100)).is_err());
    }
    assert_eq!(runtime.block_on(store.expire(10, 100)).unwrap().len(), 5);
    for number in [1, 3, 5, 7, 9] {
        let kept = batch(number, 500);
        assert_eq!(runtime.block_on(store.get(kept.hash())).unwrap(), Lookup::Found(kept));
    }
    drop(store);
    let store = open(&directory);
    for number in [1, 3, 5, 7, 9] {
        let kept = batch(number, 500);
        assert_eq!(runtime.block_on(store.get(kept.hash())).unwrap(), Lookup::Found(kept));
    }
}

#[test]
fn a_batch_stored_under_its_flat_hash_is_found_again_without_an_index() {
    let runtime = runtime();
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    let bytes = batch(1, 500).into_bytes();
    let flat = DataHash::from_bytes(das_common::data_hash::flat_hash(&bytes));
    let kept = VerifiedBatch::check(bytes, &flat).unwrap();
    runtime.block_on(store.put(&kept, 10, 1)).unwrap();
    drop(store);
    std::fs::remove_dir_all(directory.path().join("index")).unwrap();
    let store = open(&directory);
    assert_eq!(runtime.block_on(store.get(flat)).unwrap(), Lookup::Found(kept));
}

#[test]
fn a_full_disk_refuses_stores_and_serves_reads() {
    let runtime = runtime();
    let directory = TempDir::new().unwrap();
    let kept = batch(1, 5000);
    let store = open(&directory);
    runtime.block_on(store.put(&kept, 10, 1)).unwrap();
    drop(store);
    let full = StorageOptions { reserve_bytes: u64::MAX, ..options(&directory) };
    let store = Arc::new(BatchStore::open(&full).unwrap());
    let error = runtime.block_on(store.put(&batch(2, 5000), 10, 1)).unwrap_err();
    assert!(error.is_disk_full(), "{error}");
    assert_eq!(runtime.block_on(store.put(&kept, 10, 1)).unwrap(), PutOutcome::Present);
    assert_eq!(runtime.block_on(store.get(kept.hash())).unwrap(), Lookup::Found(kept));
}

#[test]
fn the_known_end_of_the_log_is_where_the_next_start_goes_on() {
    let runtime = runtime();
    let directory = TempDir::new().unwrap();
    let store = open(&directory);
    runtime.block_on(store.put(&batch(1, 5000), 10, 1)).unwrap();
    let end: LogEnd = store.index.state(state::LOG_END).unwrap().unwrap();
    assert_eq!(end, LogEnd { segment: 0, offset: 4096 + 8192 });
}
