//! The engine with recoveries that fail in every way.

#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use alloy_primitives::Address;
use das_chain::follow::{Position, Step};
use das_chain::reader::{Block, BlockId};
use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::index::Followed;
use crate::types::{Content, TimeBounds};

const BATCHES: u64 = 400;
const FOLLOWED: Followed = Followed { chain_id: 7, inbox: Address::ZERO, start: 0 };
const WAIT: Duration = Duration::from_secs(120);

fn block(number: u64, fork: u8) -> BlockId {
    BlockId { number, hash: B256::left_padding_from(&[fork, (number >> 8) as u8, number as u8]) }
}

fn position(tip: BlockId) -> Position {
    let record = (FOLLOWED.chain_id, [0u8; 32], FOLLOWED.start, vec![(tip.number, tip.hash.0)]);
    let mut bytes = vec![1];
    bincode::encode_into_std_write(record, &mut bytes, bincode::config::standard()).unwrap();
    Position::from_bytes(&bytes).unwrap()
}

/// A batch in each of the blocks, with certificates.
fn advance(index: &Index, blocks: std::ops::Range<u64>, fork: u8) {
    let batches: Vec<PostedBatch> = blocks
        .clone()
        .map(|number| PostedBatch {
            era: 0,
            number,
            block: block(number, fork),
            timestamp: number,
            transaction: B256::ZERO,
            log_index: 0,
            bounds: TimeBounds { min_timestamp: 0, max_timestamp: unix_now(), min_block: 0, max_block: 0 },
            after_delayed: 0,
            before_acc: B256::ZERO,
            after_acc: B256::ZERO,
            content: Content::Certificate(vec![0x88; 178]),
            payload: Payload::Waiting { attempts: 0, retry_at: 0, why: None },
        })
        .collect();
    let tip = block(blocks.end - 1, fork);
    let to = Block { number: tip.number, hash: tip.hash, parent: B256::ZERO, timestamp: 0 };
    let step = Step::Advanced { from: blocks.start, to, logs: Vec::new(), position: position(tip) };
    index.apply(&step, &batches).unwrap();
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Nature {
    /// It fails, panics or hangs so many times in turn, and then is there.
    Comes {
        after: u32,
    },
    Ignored,
    NeverComes,
}

#[derive(Default)]
struct Seen {
    tries: BTreeMap<Name, u32>,
    fetched: BTreeMap<Name, u32>,
}

#[derive(Default)]
struct Fake {
    seed: u64,
    seen: Mutex<Seen>,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Fake {
    fn nature(&self, number: u64) -> Nature {
        match StdRng::seed_from_u64(self.seed ^ number).random_range(0..10) {
            0 => Nature::Ignored,
            1 => Nature::NeverComes,
            2..5 => Nature::Comes { after: (number % 4) as u32 },
            _ => Nature::Comes { after: 0 },
        }
    }
}

struct Counted<'a>(&'a AtomicUsize);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Recover for Arc<Fake> {
    async fn recover(&self, batch: &PostedBatch) -> Outcome {
        let _counted = Counted(&self.now);
        self.most.fetch_max(self.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let tries = {
            let mut seen = self.seen.lock();
            let tries = seen.tries.entry(name(batch)).or_default();
            *tries += 1;
            *tries
        };
        let pause = rand::rng().random_range(0..3);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        match self.nature(batch.number) {
            Nature::Comes { after } if tries > after => {
                *self.seen.lock().fetched.entry(name(batch)).or_default() += 1;
                Outcome::Fetched { length: batch.number }
            }
            Nature::Ignored => Outcome::Ignored { why: "drawn".into() },
            _ => match tries % 3 {
                // A panic, without the text on the console.
                0 => std::panic::resume_unwind(Box::new("drawn")),
                1 => std::future::pending().await,
                _ => Outcome::Failed { why: "drawn".into() },
            },
        }
    }
}

fn options() -> SyncOptions {
    SyncOptions {
        retry: Backoff { first: Duration::ZERO, most: Duration::ZERO },
        longest_try: Duration::from_millis(30),
        tell_every: Duration::from_millis(50),
        ..SyncOptions::default()
    }
}

async fn until(index: &Index, is_so: impl Fn(&Index) -> bool) {
    let deadline = Instant::now() + WAIT;
    while !is_so(index) {
        assert!(Instant::now() < deadline, "it does not come about: {:?}", index.progress());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_batches_hold_up_no_others_and_nothing_is_lost_or_done_twice() {
    let seed = std::env::var("DAS_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| rand::rng().random());
    println!("DAS_SEED={seed}");
    let folder = tempfile::tempdir().unwrap();
    let index = Arc::new(Index::open(folder.path(), FOLLOWED).unwrap());
    let fake = Arc::new(Fake { seed, ..Fake::default() });
    advance(&index, 0..BATCHES, 1);
    let stop = CancellationToken::new();
    let sync = PayloadSync::new(Arc::clone(&index), Arc::clone(&fake), options());
    let running = tokio::spawn(sync.run(stop.clone()));

    // While it works, blocks go away and others come.
    let back_to = BATCHES - 100;
    let back = Step::RolledBack {
        to: Some(block(back_to - 1, 1)),
        from: block(BATCHES - 1, 1),
        position: position(block(back_to - 1, 1)),
    };
    index.apply(&back, &[]).unwrap();
    assert_eq!(index.progress().batches, back_to);
    advance(&index, back_to..BATCHES + 50, 2);

    let total = BATCHES + 50;
    let never = (0..total).filter(|&number| fake.nature(number) == Nature::NeverComes).count() as u64;
    until(&index, |index| index.progress().waiting == never && index.progress().failing == never).await;
    stop.cancel();
    running.await.unwrap();
    for number in 0..total {
        let batch = index.batch(0, number).unwrap().unwrap();
        match fake.nature(number) {
            Nature::Comes { .. } => assert_eq!(batch.payload, Payload::Fetched { length: number }),
            Nature::Ignored => assert!(matches!(batch.payload, Payload::Ignored { .. })),
            Nature::NeverComes => assert!(
                matches!(batch.payload, Payload::Waiting { attempts: 1.., why: Some(_), .. }),
                "{batch:?}"
            ),
        }
    }
    assert!(fake.seen.lock().fetched.values().all(|times| *times == 1), "fetched twice");
    assert_eq!(fake.most.load(Ordering::SeqCst), 20);

    // What was left is done after a restart.
    drop(index);
    let index = Arc::new(Index::open(folder.path(), FOLLOWED).unwrap());
    assert_eq!(index.progress().waiting, never);
    let stop = CancellationToken::new();
    let running = tokio::spawn(PayloadSync::new(Arc::clone(&index), Done, options()).run(stop.clone()));
    until(&index, |index| index.progress().waiting == 0 && index.progress().failing == 0).await;
    stop.cancel();
    running.await.unwrap();
}

/// Never done with the batches of fork 1, at once with others.
struct Stuck;

impl Recover for Stuck {
    async fn recover(&self, batch: &PostedBatch) -> Outcome {
        match batch.block.hash == block(batch.number, 1).hash && tries(batch) > 0 {
            true => std::future::pending().await,
            false if batch.block.hash == block(batch.number, 1).hash => {
                Outcome::Failed { why: "drawn".into() }
            }
            false => Outcome::Fetched { length: 1 },
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_batches_find_a_place_when_all_others_hang() {
    let folder = tempfile::tempdir().unwrap();
    let index = Arc::new(Index::open(folder.path(), FOLLOWED).unwrap());
    advance(&index, 0..100, 1);
    let stop = CancellationToken::new();
    let options = SyncOptions { longest_try: WAIT * 10, ..options() };
    let running = tokio::spawn(PayloadSync::new(Arc::clone(&index), Stuck, options).run(stop.clone()));
    until(&index, |index| index.progress().failing == 100).await;
    advance(&index, 100..200, 2);
    until(&index, |index| index.progress().waiting == 100).await;
    assert!(
        (100..200).all(|n| index.batch(0, n).unwrap().unwrap().payload == Payload::Fetched { length: 1 })
    );
    stop.cancel();
    running.await.unwrap();
}

struct Done;

impl Recover for Done {
    async fn recover(&self, _: &PostedBatch) -> Outcome {
        Outcome::Fetched { length: 1 }
    }
}

#[test]
fn tries_grow_seldom_and_a_batch_whose_time_is_over_is_left_alone_for_a_day() {
    let options = SyncOptions::default();
    let now = 1_800_000_000;
    let pauses = (1..=12).map(|attempts| options.next_try(now - 60, attempts, now, 0.0) - now);
    assert_eq!(pauses.collect::<Vec<_>>(), [4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600, 3600]);
    let long_ago = now - options.retention.as_secs() - 1;
    assert_eq!(options.next_try(long_ago, 1, now, 0.0) - now, 24 * 3600);
    // Half a pause is the least, and never none.
    assert_eq!(options.next_try(now, 1, now, 1.0) - now, 2);
    assert_eq!(options.next_try(u64::MAX, u32::MAX, now, 0.5) - now, 2700);
}
