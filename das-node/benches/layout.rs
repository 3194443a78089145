//! Why payloads are in segment files: what a durable store costs in each of the layouts RocksDB offers, and in ours.
//!
//! `cargo bench -p das-node --bench layout -- [folder]` prints a table: stores a second, the time of one, CPU and bytes
//! written to disk for each byte stored, counted until flushes and compactions are idle. The folder (default: the
//! current one) decides the disk.

// A benchmark is there to print.
#![allow(clippy::print_stdout)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use das_common::batch::VerifiedBatch;
use das_node::storage::{BatchStore, StorageOptions};
use rand::RngCore;
use rocksdb::{DB, Options, WriteOptions};

/// Bytes stored in one row.
const VOLUME: usize = 1 << 30;
const SEGMENT: u64 = 128 << 20;

trait Layout: Send + Sync {
    fn put(&self, batch: &VerifiedBatch);
    fn finish(&self);
}

struct InRocks(DB);

impl InRocks {
    fn open(folder: &Path, blobs: bool) -> Self {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_enable_blob_files(blobs);
        options.set_max_background_jobs(2);
        Self(DB::open(&options, folder).expect("the database opens"))
    }
}

impl Layout for InRocks {
    fn put(&self, batch: &VerifiedBatch) {
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.0.put_opt(batch.hash().as_bytes(), batch.bytes(), &options).expect("the put succeeds");
    }

    fn finish(&self) {
        self.0.flush().expect("the flush succeeds");
        while self.0.property_int_value("rocksdb.num-running-compactions").expect("known") != Some(0) {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

struct Segments(Arc<BatchStore>, tokio::runtime::Runtime);

impl Segments {
    fn open(folder: &Path) -> Self {
        let options = StorageOptions {
            directory: folder.to_path_buf(),
            segment_bytes: SEGMENT,
            reserve_bytes: 64 << 20,
            keys: Arc::default(),
        };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().expect("a runtime");
        Self(Arc::new(BatchStore::open(&options).expect("the store opens")), runtime)
    }
}

impl Layout for Segments {
    fn put(&self, batch: &VerifiedBatch) {
        self.1.block_on(self.0.put(batch, 1, 1)).expect("the put succeeds");
    }

    fn finish(&self) {
        self.0.close();
    }
}

fn cpu() -> Duration {
    let usage = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<u64> =
        usage.rsplit(") ").next().expect("fields").split(' ').filter_map(|f| f.parse().ok()).collect();
    // After the state letter: utime and stime are the 11th and 12th numbers, in hundredths of a second.
    Duration::from_millis(10 * (fields[10] + fields[11]))
}

fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").expect("Linux");
    let line = io.lines().find_map(|l| l.strip_prefix("write_bytes: ")).expect("write_bytes");
    line.parse().expect("a number")
}

fn measure(name: &str, layout: &dyn Layout, size: usize, writers: usize) {
    let count = VOLUME.min(size * 20_000) / size;
    let mut pool = vec![0; size + 4096];
    rand::rng().fill_bytes(&mut pool);
    // Hashing is not what is measured; names and bytes differ by a few bytes at the front.
    let batches: Vec<_> = (0..64.min(count)).map(|i| pool[i * 7..i * 7 + size].to_vec()).collect();
    let next = AtomicUsize::new(0);
    let (cpu_before, written_before) = (cpu(), written());
    let hashing = {
        let start = cpu();
        for bytes in &batches {
            std::hint::black_box(VerifiedBatch::new(Bytes::from(bytes.clone())));
        }
        (cpu() - start) / batches.len() as u32 * count as u32
    };
    let start = Instant::now();
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..writers)
            .map(|_| {
                scope.spawn(|| {
                    let mut times = Vec::new();
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= count {
                            return times;
                        }
                        let mut bytes = batches[number % batches.len()].clone();
                        bytes[..8].copy_from_slice(&(number as u64).to_be_bytes());
                        let batch = VerifiedBatch::new(Bytes::from(bytes));
                        let start = Instant::now();
                        layout.put(&batch);
                        times.push(start.elapsed());
                    }
                })
            })
            .collect();
        workers.into_iter().flat_map(|w| w.join().expect("no panic")).collect()
    });
    let elapsed = start.elapsed();
    layout.finish();
    times.sort_unstable();
    let at = |share: f64| times[(times.len() as f64 * share) as usize].as_secs_f64() * 1e3;
    let cpu = (cpu() - cpu_before).saturating_sub(hashing).as_secs_f64() * 1e3 / count as f64;
    println!(
        "{name:<10} {size:>8} {writers:>3} {:>8.0} {:>8.2} {:>8.2} {cpu:>8.3} {:>8.2}",
        count as f64 / elapsed.as_secs_f64(),
        at(0.5),
        at(0.99),
        (written() - written_before) as f64 / (count * size) as f64,
    );
}

fn main() {
    let folder =
        std::env::args().skip(1).find(|a| !a.starts_with("--")).map_or_else(PathBuf::new, PathBuf::from);
    println!("layout        bytes   n  stores/s   p50 ms   p99 ms  cpu ms/op  written/byte");
    for size in [1_000_000, 100_000, 10_000] {
        for writers in [1, 8] {
            for name in ["rocksdb", "blobdb", "segments"] {
                let directory = tempfile::Builder::new()
                    .prefix("layout")
                    .tempdir_in(if folder.as_os_str().is_empty() { Path::new(".") } else { &folder });
                let directory = directory.expect("a folder to write to");
                let layout: Box<dyn Layout> = match name {
                    "rocksdb" => Box::new(InRocks::open(directory.path(), false)),
                    "blobdb" => Box::new(InRocks::open(directory.path(), true)),
                    _ => Box::new(Segments::open(directory.path())),
                };
                measure(name, &*layout, size, writers);
            }
        }
    }
}
