//! How long indexing batches takes, what the index then weighs, and what a page of it costs.

#![allow(clippy::print_stdout, clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256, U256, keccak256};
use das_batches::index::{Followed, Index};
use das_batches::sync::{Outcome, PayloadSync, Recover, SyncOptions};
use das_batches::types::{Batches, Content, Payload, PostedBatch, TimeBounds};
use das_chain::follow::{Position, Step};
use das_chain::reader::{Block, BlockId};
use das_common::data_hash::DataHash;
use tokio_util::sync::CancellationToken;

const FOLLOWED: Followed = Followed { chain_id: 1, inbox: Address::ZERO, start: 0 };
/// Batches of one step: a range of logs.
const STEP: u64 = 1_000;
const PAGE: usize = 50;
const QUERIES: u64 = 1_000;

fn hash(kind: u64, number: u64) -> B256 {
    keccak256([kind.to_be_bytes(), number.to_be_bytes()].concat())
}

fn certificate(number: u64) -> Vec<u8> {
    let mut bytes = vec![0x88; 178];
    bytes[33..65].copy_from_slice(hash(2, number).as_slice());
    bytes
}

/// Each batch in a block of its own.
fn block(number: u64) -> BlockId {
    BlockId { number, hash: hash(1, number) }
}

fn batch(number: u64) -> PostedBatch {
    PostedBatch {
        era: 0,
        number,
        block: block(number),
        timestamp: 1_700_000_000 + 12 * number,
        transaction: hash(3, number),
        log_index: 1,
        bounds: TimeBounds { min_timestamp: 1, max_timestamp: u64::MAX, min_block: 1, max_block: u64::MAX },
        after_delayed: number,
        before_acc: if number == 0 { B256::ZERO } else { hash(4, number - 1) },
        after_acc: hash(4, number),
        content: Content::Certificate(certificate(number)),
        payload: Payload::Waiting { attempts: 0, retry_at: 0, why: None },
    }
}

/// A follower's position (see its documented form).
fn position(tip: BlockId) -> Position {
    let record = (FOLLOWED.chain_id, [0u8; 32], FOLLOWED.start, vec![(tip.number, tip.hash.0)]);
    let mut bytes = vec![1];
    bincode::encode_into_std_write(record, &mut bytes, bincode::config::standard()).unwrap();
    Position::from_bytes(&bytes).unwrap()
}

fn folder_bytes(folder: &Path) -> u64 {
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
}

fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

fn each(what: &str, count: u64, query: impl Fn(u64)) {
    let started = Instant::now();
    for i in 0..QUERIES {
        // Spread over all of them, in no order.
        query((U256::from_be_bytes(hash(9, i).0) % U256::from(count)).to());
    }
    println!("  {what}: {:.1} us", started.elapsed().as_secs_f64() * 1e6 / QUERIES as f64);
}

/// A payload that is had after some milliseconds.
struct After(Duration);

impl Recover for After {
    async fn recover(&self, _: &PostedBatch) -> Outcome {
        if !self.0.is_zero() {
            tokio::time::sleep(self.0).await;
        }
        Outcome::Fetched { length: 1 }
    }
}

/// Works off the list for a while: first with payloads that cost nothing, then with some that take their time.
fn fetch(index: Index) -> Index {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let index = Arc::new(index);
    for milliseconds in [0, 10] {
        let before = index.progress().waiting;
        if before == 0 {
            break;
        }
        let stop = CancellationToken::new();
        let recover = After(Duration::from_millis(milliseconds));
        let sync = PayloadSync::new(Arc::clone(&index), recover, SyncOptions::default());
        let started = Instant::now();
        runtime.block_on(async {
            let running = tokio::spawn(sync.run(stop.clone()));
            while index.progress().waiting > 0 && started.elapsed() < Duration::from_secs(5) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            stop.cancel();
            running.await.unwrap();
        });
        let done = before - index.progress().waiting;
        let per_second = done as f64 / started.elapsed().as_secs_f64();
        println!("  payloads that take {milliseconds} ms: {done} fetched, {per_second:.0} a second");
    }
    drop(runtime);
    Arc::into_inner(index).unwrap()
}

fn measure(count: u64) {
    let folder = tempfile::tempdir().unwrap();
    let index = Index::open(folder.path(), FOLLOWED).unwrap();
    let mut indexing = Duration::ZERO;
    for from in (0..count).step_by(STEP as usize) {
        let end = count.min(from + STEP);
        let batches: Vec<PostedBatch> = (from..end).map(batch).collect();
        let tip = block(end - 1);
        let to = Block { number: tip.number, hash: tip.hash, parent: B256::ZERO, timestamp: 0 };
        let step = Step::Advanced { from, to, logs: Vec::new(), position: position(tip) };
        let started = Instant::now();
        index.apply(&step, &batches).unwrap();
        indexing += started.elapsed();
    }
    println!(
        "{count} batches: indexed in {:.2} s ({:.0} a second), {} MB on disk, {} MB of memory",
        indexing.as_secs_f64(),
        count as f64 / indexing.as_secs_f64(),
        folder_bytes(folder.path()) >> 20,
        resident_bytes() >> 20,
    );
    each("page of 50 batches", count, |n| {
        index.below(0, Some(n + 1), PAGE).unwrap();
    });
    each("batch by number", count, |n| assert!(index.batch(0, n).unwrap().is_some()));
    each("numbers by data hash", count, |n| {
        let hash = DataHash::from_bytes(hash(2, n).0);
        assert_eq!(index.with_data_hash(&hash, PAGE).unwrap(), [(0, n)]);
    });
    each("numbers by transaction", count, |n| {
        assert_eq!(index.of_transaction(&hash(3, n), PAGE).unwrap(), [(0, n)]);
    });
    each("first since a time", count, |n| {
        assert_eq!(index.first_since(0, 1_700_000_000 + 12 * n).unwrap(), Some(n));
    });
    let index = fetch(index);
    let started = Instant::now();
    drop(index);
    let index = Index::open(folder.path(), FOLLOWED).unwrap();
    println!("  opened anew in {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
    let depth = count.min(10_000);
    let to = block(count - 1 - depth.min(count - 1));
    let back = Step::RolledBack { to: Some(to), from: block(count - 1), position: position(to) };
    let started = Instant::now();
    let removed = index.apply(&back, &[]).unwrap().removed;
    println!("  {removed} batches rolled back in {:.0} ms", started.elapsed().as_secs_f64() * 1e3);
}

fn main() {
    // `cargo test --benches` only wants to see that it runs.
    let is_test = !std::env::args().any(|argument| argument == "--bench");
    let sizes: &[u64] = if is_test { &[1_000] } else { &[10_000, 1_000_000] };
    sizes.iter().copied().for_each(measure);
}
