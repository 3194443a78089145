//! A process that writes an index is killed at any instant, again and again: what is left is always what its position
//! says, and the next process goes on from there.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use alloy_primitives::{Address, B256};
use das_batches::index::{Followed, Index};
use das_batches::types::{Batches, Content, Payload, PostedBatch, TimeBounds};
use das_chain::follow::{Position, Step};
use das_chain::reader::{Block, BlockId};
use das_common::data_hash::DataHash;
use rand::Rng;

const FOLLOWED: Followed = Followed { chain_id: 7, inbox: Address::ZERO, start: 0 };
/// Tells the test below that it is the process to be killed.
const FOLDER: &str = "DAS_INDEX_TO_WRITE";
const TEST: &str = "what_a_killed_process_leaves_is_what_its_position_says";
/// Batches of a block.
const EACH: u64 = 3;

fn position(tip: Option<BlockId>) -> Position {
    let blocks: Vec<(u64, [u8; 32])> = tip.iter().map(|tip| (tip.number, tip.hash.0)).collect();
    let mut bytes = vec![1];
    let record = (FOLLOWED.chain_id, [0u8; 32], FOLLOWED.start, blocks);
    bincode::encode_into_std_write(record, &mut bytes, bincode::config::standard()).unwrap();
    Position::from_bytes(&bytes).unwrap()
}

fn batch(number: u64, block: BlockId) -> PostedBatch {
    PostedBatch {
        era: 0,
        number,
        block,
        timestamp: block.number,
        transaction: block.hash,
        log_index: 0,
        bounds: TimeBounds { min_timestamp: 0, max_timestamp: 0, min_block: 0, max_block: 0 },
        after_delayed: 0,
        before_acc: B256::ZERO,
        after_acc: B256::ZERO,
        content: Content::Certificate([&[0x88; 33][..], block.hash.as_slice(), &[0; 113]].concat()),
        payload: Payload::Waiting { attempts: 0, retry_at: 0, why: None },
    }
}

/// Writes for ever: new blocks, blocks that go away, payloads that come and fail.
fn write(folder: &Path) {
    let index = Index::open(folder, FOLLOWED).unwrap();
    println!("writing");
    let mut rng = rand::rng();
    loop {
        let tip = index.position().unwrap().and_then(|position| position.tip());
        let block = |number| BlockId { number, hash: B256::from(rand::rng().random::<[u8; 32]>()) };
        match (rng.random_range(0..10), tip) {
            (0..5, _) | (_, None) => {
                let from = tip.map_or(0, |tip| tip.number + 1);
                let blocks: Vec<BlockId> = (from..from + rng.random_range(1..50)).map(block).collect();
                let batches =
                    blocks.iter().flat_map(|block| (0..EACH).map(|i| batch(block.number * EACH + i, *block)));
                let batches: Vec<PostedBatch> = batches.collect();
                let tip = *blocks.last().unwrap();
                let to = Block { number: tip.number, hash: tip.hash, parent: B256::ZERO, timestamp: 0 };
                let position = position(Some(tip));
                index.apply(&Step::Advanced { from, to, logs: Vec::new(), position }, &batches).unwrap();
            }
            (5..8, Some(from)) => {
                // Deep now and then, so that what is looked at stays small.
                let deepest = if from.number > 2_000 { from.number + 2 } else { 60 };
                let to = from.number.checked_sub(rng.random_range(1..deepest));
                let to = to.map(|to| index.batch(0, to * EACH).unwrap().unwrap().block);
                index.apply(&Step::RolledBack { to, from, position: position(to) }, &[]).unwrap();
            }
            (_, Some(_)) => {
                for batch in index.due(1, 20).unwrap() {
                    let payload = match rng.random_range(0..2) {
                        0 => Payload::Fetched { length: 1 },
                        _ => Payload::Waiting { attempts: 1, retry_at: 2, why: None },
                    };
                    index.set_payload(0, batch.number, batch.block.hash, &payload).unwrap();
                }
            }
        }
    }
}

/// How many batches there are, all of them looked at.
fn check(folder: &Path) -> u64 {
    let index = Index::open(folder, FOLLOWED).unwrap();
    let Some(tip) = index.position().unwrap().and_then(|position| position.tip()) else {
        assert!(index.below(0, None, 1).unwrap().is_empty());
        return 0;
    };
    let batches = index.below(0, None, usize::MAX).unwrap();
    let count = (tip.number + 1) * EACH;
    assert!(batches.iter().rev().map(|batch| batch.number).eq(0..count));
    assert_eq!(batches[0].block, tip);
    let waiting = batches.iter().filter(|batch| matches!(batch.payload, Payload::Waiting { .. })).count();
    let failing =
        batches.iter().filter(|batch| matches!(batch.payload, Payload::Waiting { attempts: 1, .. })).count();
    let progress = index.progress();
    let counted = (progress.batches, progress.waiting, progress.failing);
    assert_eq!(counted, (count, waiting as u64, failing as u64));
    assert_eq!(index.due(u64::MAX, usize::MAX).unwrap().len(), waiting);
    for batches in batches.chunks(EACH as usize) {
        let block = batches[0].block;
        let expected: Vec<(u32, u64)> = batches.iter().map(|batch| (0, batch.number)).collect();
        assert_eq!(index.of_transaction(&block.hash, 10).unwrap(), expected);
        assert_eq!(index.with_data_hash(&DataHash::from_bytes(block.hash.0), 10).unwrap(), expected);
        assert_eq!(index.first_since(0, block.number).unwrap(), Some(block.number * EACH));
    }
    count
}

#[test]
fn what_a_killed_process_leaves_is_what_its_position_says() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return write(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let rounds = if std::env::var_os("DAS_LONG").is_some() { 200 } else { 15 };
    let mut most = 0;
    for _ in 0..rounds {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", TEST, "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(
            lines.any(|line| line.unwrap().ends_with("writing")),
            "the process to be killed does not start"
        );
        std::thread::sleep(Duration::from_millis(rand::rng().random_range(0..200)));
        // SIGKILL.
        child.kill().unwrap();
        child.wait().unwrap();
        most = most.max(check(folder.path()));
    }
    println!("{rounds} times killed, up to {most} batches");
    assert!(most > 0);
}
