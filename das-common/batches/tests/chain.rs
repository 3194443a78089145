//! Reading and following posted batches, from a JSON-RPC server on loopback.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "chain/fake.rs"]
mod fake;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use das_batches::follow::{ChainFollower, EVENTS, FollowOptions, Observer};
use das_batches::index::{Followed, Index};
use das_batches::reading::{BatchReader, ReadingError, ReadingOptions, sequencer_message};
use das_batches::types::{Batches, Content, Payload, PostedBatch};
use das_chain::ChainError;
use das_chain::follow::Step;
use das_chain::reader::{Log, LogFilter, Reader};
use das_common::fault;
use das_common::sequencer_message::SequencerMessage;
use fake::{CHAIN_ID, Fake, INBOX, WAYS, World};
use parking_lot::Mutex;
use rand::Rng;
use rand::seq::SliceRandom;
use tokio_util::sync::CancellationToken;

const WAIT: Duration = Duration::from_secs(120);

fn seed() -> u64 {
    let seed = std::env::var("DAS_SEED").ok().and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| rand::rng().random());
    println!("DAS_SEED={seed}");
    seed
}

async fn all_logs(reader: &Reader) -> Vec<Log> {
    let head = reader.head().await.unwrap().number;
    let mut logs = Vec::new();
    let mut next = 0;
    while next <= head {
        let read = reader.logs(&LogFilter::events(INBOX, &EVENTS), next, head, None).await.unwrap();
        logs.extend(read.logs);
        next = read.through.number + 1;
    }
    logs
}

/// The batches are those of the chain, in its order.
fn assert_of(world: &World, batches: &[PostedBatch]) {
    let expected = (0u64..)
        .zip(&world.blocks)
        .flat_map(|(number, block)| block.batches.iter().map(move |batch| (number, block, batch)));
    assert_eq!(batches.len() as u64, world.number_of_batches());
    for (batch, (block_number, block, (number, transaction, index, content))) in batches.iter().zip(expected)
    {
        assert_eq!((batch.number, batch.transaction, batch.log_index), (*number, *transaction, *index));
        assert_eq!((batch.block.number, batch.block.hash), (block_number, block.hash));
        assert_eq!(batch.timestamp, block.timestamp);
        match (&batch.content, content) {
            (Content::Unreadable(why), Content::Unreadable(_)) => assert!(!why.is_empty()),
            (content, expected) => assert_eq!(content, expected, "batch {number}"),
        }
        let is_certificate = matches!(content, Content::Certificate(_));
        assert_eq!(matches!(batch.payload, Payload::Waiting { attempts: 0, .. }), is_certificate);
        let message = SequencerMessage::parse(&sequencer_message(batch)).unwrap();
        let bounds = (message.min_timestamp, message.max_timestamp, message.min_block, message.max_block);
        assert_eq!(bounds, (*number, number + 1, number + 2, number + 3));
        assert_eq!(message.after_delayed_messages_read, number / 2);
        match content {
            Content::Certificate(bytes) => assert_eq!(message.data, bytes),
            _ => assert!(message.data.is_empty()),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_read_whichever_way_they_were_posted_and_in_their_order() {
    let mut world = World::new(seed());
    for _ in 0..6 {
        let mut ways: Vec<u8> = (0..WAYS).chain(0..WAYS).collect();
        ways.shuffle(&mut world.rng);
        ways.chunks(7).for_each(|ways| world.mine(ways));
    }
    for tells_times in [true, false] {
        world.tells_times = tells_times;
        let (fake, reader, _) = Fake::start(world, 1_000).await;
        let logs = all_logs(&reader).await;
        fake.world.lock().fails_one_of = 40;
        let mut batches = BatchReader::new(reader.clone(), INBOX, ReadingOptions { in_flight: 16 });
        let read = batches.read(&logs).await.unwrap();
        assert_of(&fake.world.lock(), &read);

        // Without failures every block is asked for its data and its time once, and every transaction once.
        fake.world.lock().fails_one_of = 0;
        fake.world.lock().asked.clear();
        let read = BatchReader::new(reader, INBOX, ReadingOptions::default()).read(&logs).await.unwrap();
        assert_eq!(fake.most.load(Ordering::SeqCst), 16);
        let mut now = fake.world.lock();
        assert_of(&now, &read);
        let asked = |what: &str| now.asked.get(what).copied().unwrap_or_default();
        assert!(now.blocks.iter().all(|block| asked(&block.hash.to_string()) <= 1));
        assert!(asked("eth_getTransactionByHash") as u64 <= now.number_of_batches());
        assert_eq!(asked("eth_getBlockByHash"), if tells_times { 0 } else { now.blocks.len() - 1 });
        world = std::mem::replace(&mut *now, World::new(0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_not_known_yet_stops_the_reading_and_loses_nothing_of_it() {
    let mut world = World::new(seed());
    (0..20).for_each(|_| world.mine(&[0, 1, 0]));
    let late = world.blocks[7].batches[1].1;
    world.hidden.insert(late);
    let (fake, reader, _) = Fake::start(world, 1_000).await;
    let logs = all_logs(&reader).await;
    let mut batches = BatchReader::new(reader.clone(), INBOX, ReadingOptions::default());
    let error = batches.read(&logs).await.unwrap_err();
    assert!(
        matches!(&error, ReadingError::Chain(ChainError::Lacks { what, .. }) if what.contains(&late.to_string())),
        "{error}"
    );
    fake.world.lock().hidden.clear();
    fake.world.lock().asked.clear();
    let read = batches.read(&logs).await.unwrap();
    assert_of(&fake.world.lock(), &read);
    assert_eq!(fake.world.lock().asked["eth_getTransactionByHash"], 1);

    // A block that is gone is not read in part.
    let asked_for = all_logs(&reader).await;
    fake.world.lock().drop_blocks(3);
    let error = batches.read(&asked_for).await.unwrap_err();
    assert!(matches!(error, ReadingError::Chain(ChainError::Lacks { .. })), "{error}");
    let wrong = Log { data: Default::default(), ..logs[0].clone() };
    let error = batches.read(&[wrong]).await.unwrap_err();
    assert_eq!(error, ReadingError::Event { block: 1, index: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_no_endpoint_knows_raises_an_alarm_until_it_is_known() {
    let mut world = World::new(seed());
    (0..5).for_each(|_| world.mine(&[0, 7]));
    let late = world.blocks[3].batches[0].1;
    world.hidden.insert(late);
    let (fake, reader, alarms) = Fake::start(world, 1_000).await;
    let folder = tempfile::tempdir().unwrap();
    let followed = Followed { chain_id: CHAIN_ID, inbox: INBOX, start: 0 };
    let index = Arc::new(Index::open(folder.path(), followed).unwrap());
    let options = FollowOptions { alarm_after: Duration::ZERO, ..FollowOptions::default() };
    let stop = CancellationToken::new();
    let follower = ChainFollower::new(reader, Arc::clone(&index), options, alarms.clone());
    let running = tokio::spawn(follower.run(stop.clone()));
    let code = fault::CHAIN_REFUSED.code;
    let until = async |is_so: &dyn Fn() -> bool| {
        let deadline = Instant::now() + WAIT;
        while !is_so() {
            assert!(Instant::now() < deadline, "{:?} {:?}", alarms.list(), index.progress());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    until(&|| alarms.list().iter().any(|alarm| alarm.code == code && alarm.text.contains(&late.to_string())))
        .await;
    assert_eq!(index.progress().batches, 0);
    fake.world.lock().hidden.clear();
    until(&|| index.progress().batches == 10 && !alarms.is_raised(code)).await;
    stop.cancel();
    running.await.unwrap().unwrap();
}

/// Keeps the logs of the steps it hears of.
#[derive(Default)]
struct Hearer(Mutex<Vec<Log>>);

impl Observer for Hearer {
    fn observe<'a>(&'a self, step: &'a Step) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        let mut logs = self.0.lock();
        match step {
            Step::Advanced { logs: new, .. } => logs.extend(new.iter().cloned()),
            Step::RolledBack { to, .. } => {
                logs.retain(|log| to.is_some_and(|to| log.block_number <= to.number));
            }
            Step::Reset { .. } => logs.clear(),
            Step::AtHead { .. } => {}
        }
        Box::pin(std::future::ready(()))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_is_that_of_the_chain_however_it_changes_and_whenever_the_program_stops() {
    let mut world = World::new(seed());
    world.mine_at_random(150);
    world.tells_times = false;
    (world.fails_one_of, world.changes_one_of) = (60, 15);
    let (fake, reader, alarms) = Fake::start(world, 20).await;
    let options = FollowOptions {
        poll: Duration::from_millis(1),
        patience: Duration::ZERO,
        ..FollowOptions::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let followed = Followed { chain_id: CHAIN_ID, inbox: INBOX, start: 0 };
    let mut eras = 0;
    let rounds = 8;
    for round in 0..=rounds {
        if round == rounds / 2 {
            let mut world = fake.world.lock();
            world.start_anew();
            world.mine_at_random(60);
            eras += 1;
        }
        let is_last = round == rounds;
        if is_last {
            let mut world = fake.world.lock();
            (world.fails_one_of, world.changes_one_of) = (0, 0);
        }
        let index = Arc::new(Index::open(folder.path(), followed).unwrap());
        let hearer = Arc::new(Hearer(Mutex::new(Vec::new())));
        let stop = CancellationToken::new();
        let follower = ChainFollower::new(reader.clone(), Arc::clone(&index), options, alarms.clone());
        let running = tokio::spawn(follower.observed_by(hearer).run(stop.clone()));
        if is_last {
            let deadline = Instant::now() + WAIT;
            let is_done = |world: &World| {
                let (tip, progress) = (world.blocks.last().map(|block| block.hash), index.progress());
                progress.at.map(|at| at.hash) == tip && progress.head.is_some()
            };
            while !is_done(&fake.world.lock()) {
                assert!(Instant::now() < deadline, "it does not come to the head: {:?}", index.progress());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        } else {
            let pause = rand::rng().random_range(50..600);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        stop.cancel();
        running.await.unwrap().unwrap();
        if is_last {
            let world = fake.world.lock();
            let mut batches = index.below(eras, None, usize::MAX).unwrap();
            batches.reverse();
            assert_of(&world, &batches);
            let progress = index.progress();
            assert_eq!(progress.batches, world.number_of_batches());
            assert_eq!(progress.head, Some(world.blocks.len() as u64 - 1));
            assert_eq!((progress.era, index.eras().unwrap().len()), (Some(eras), eras as usize + 1));
            assert!(!index.below(0, None, 1).unwrap().is_empty(), "the first era is readable");
            assert!(alarms.is_raised(fault::CHAIN_RESET.code));
        }
    }
}

/// Whoever hears of the steps hears of each once it is in the index, and of what was reorganized away.
#[tokio::test(flavor = "multi_thread")]
async fn observers_hear_every_step() {
    let mut world = World::new(seed());
    world.mine_at_random(30);
    let (fake, reader, alarms) = Fake::start(world, 7).await;
    let options = FollowOptions { poll: Duration::from_millis(1), ..FollowOptions::default() };
    let folder = tempfile::tempdir().unwrap();
    let followed = Followed { chain_id: CHAIN_ID, inbox: INBOX, start: 0 };
    let index = Arc::new(Index::open(folder.path(), followed).unwrap());
    let hearer = Arc::new(Hearer::default());
    let stop = CancellationToken::new();
    let follower = ChainFollower::new(reader.clone(), Arc::clone(&index), options, alarms);
    let running = tokio::spawn(follower.observed_by(hearer.clone()).run(stop.clone()));
    for depth in 0..6 {
        {
            let mut world = fake.world.lock();
            world.drop_blocks(depth);
            world.mine_at_random(depth + 1);
        }
        let expected = all_logs(&reader).await;
        let deadline = Instant::now() + WAIT;
        while *hearer.0.lock() != expected {
            assert!(Instant::now() < deadline, "an observer has {} logs", hearer.0.lock().len());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    stop.cancel();
    running.await.unwrap().unwrap();
}
