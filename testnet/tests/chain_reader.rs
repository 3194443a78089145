//! Reading and following a real chain with the real contracts, through endpoints that fail in every way.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::{SolCall, SolEvent};
use das_chain::ChainError;
use das_chain::contract::SequencerInbox as Inbox;
use das_chain::endpoints::{Backoff, Endpoints, Settings};
use das_chain::follow::{Filtered, Follower, Position, ResetReason, Settings as FollowSettings, Step};
use das_chain::reader::{Limits, Log, LogFilter, Reader};
use das_common::alarm::Alarms;
use das_common::fault;
use das_testnet::chain::{Behaviour, CHAIN_ID, DevChain, Proxy};

const WAIT: Duration = Duration::from_secs(60);

fn settings(urls: &[&str]) -> Settings {
    Settings {
        request_timeout: Duration::from_secs(2),
        backoff: Backoff { first: Duration::from_millis(10), most: Duration::from_millis(50) },
        alarm_after: Duration::ZERO,
        ..Settings::new(urls.iter().map(|url| (*url).to_owned()).collect(), CHAIN_ID)
    }
}

fn reader_of(urls: &[&str], limits: Limits) -> (Reader, Alarms) {
    let alarms = Alarms::new();
    (Reader::new(Endpoints::new(settings(urls), alarms.clone()).unwrap(), limits), alarms)
}

fn posters(chain: &DevChain) -> LogFilter {
    LogFilter::events(chain.inbox(), &[Inbox::BatchPosterSet::SIGNATURE_HASH])
}

fn follower(chain: &DevChain, reader: Reader, position: Option<Position>) -> Follower<Filtered> {
    let settings =
        FollowSettings { patience: Duration::ZERO, far_below: 200, ..FollowSettings::new(CHAIN_ID, 0) };
    Follower::new(Filtered { reader, filter: posters(chain) }, settings, position).unwrap()
}

/// Grants the right to post to an address of that number, which makes a log.
async fn grant(chain: &DevChain, n: u64) {
    chain.set_batch_poster(poster(n), true).await.unwrap();
}

fn poster(n: u64) -> Address {
    Address::left_padding_from(&n.to_be_bytes())
}

fn of(log: &Log) -> Address {
    log.decode::<Inbox::BatchPosterSet>().unwrap().batchPoster
}

/// Applies steps until there is nothing new; how often it went back, and the resets.
async fn catch_up(follower: &mut Follower<Filtered>, kept: &mut Vec<Log>) -> (usize, Vec<ResetReason>) {
    let (mut back, mut resets) = (0, vec![]);
    let deadline = Instant::now() + WAIT;
    loop {
        assert!(Instant::now() < deadline, "the follower does not come to the head");
        match follower.step().await.unwrap() {
            Step::Advanced { from, to, logs, .. } => {
                assert!(logs.iter().all(|log| (from..=to.number).contains(&log.block_number)));
                kept.extend(logs);
            }
            Step::RolledBack { to, .. } => {
                kept.retain(|log| to.is_some_and(|to| log.block_number <= to.number));
                back += 1;
            }
            Step::Reset { why, .. } => {
                kept.clear();
                resets.push(why);
            }
            Step::AtHead { .. } => return (back, resets),
        }
    }
}

/// All logs of the chain now, in one go.
async fn on_chain(chain: &DevChain) -> Vec<Log> {
    let (reader, _) = reader_of(&[chain.url()], Limits::default());
    let head = reader.head().await.unwrap().number;
    let read = reader.logs(&posters(chain), 0, head, None).await.unwrap();
    assert_eq!(read.through.number, head);
    read.logs
}

/// Reorganizations of every depth, with the transactions included again, in other blocks, or not at all.
#[tokio::test(flavor = "multi_thread")]
async fn the_follower_has_the_logs_of_the_chain_after_every_reorganization() {
    let chain = DevChain::start().await.unwrap();
    let (reader, _) = reader_of(&[chain.url()], Limits::default());
    let (mut follower, mut kept) = (follower(&chain, reader, None), Vec::new());
    catch_up(&mut follower, &mut kept).await;
    let mut n = 1000;
    for depth in 1..=20u64 {
        for keep in [0, 1, 2] {
            for _ in 0..depth.div_ceil(2) {
                n += 1;
                grant(&chain, n).await;
                chain.mine(1).await.unwrap();
            }
            assert_eq!(catch_up(&mut follower, &mut kept).await, (0, vec![]));
            assert_eq!(kept, on_chain(&chain).await);
            let head = chain.head().await.unwrap();
            let gone: Vec<B256> = kept
                .iter()
                .filter(|log| log.block_number > head - depth)
                .map(|log| log.transaction)
                .collect();
            let included = [0, gone.len().div_ceil(2), gone.len()][keep];
            let mut again = Vec::new();
            for (place, hash) in gone[..included].iter().enumerate() {
                again.push((chain.raw_transaction(*hash).await.unwrap(), place as u64));
            }
            chain.reorg(depth, &again).await.unwrap();
            let (back, resets) = catch_up(&mut follower, &mut kept).await;
            assert_eq!((back, resets), (1, vec![]), "depth {depth}");
            assert_eq!(kept, on_chain(&chain).await, "depth {depth}, {} included again", again.len());
        }
    }
    // Deeper still, and a program that was started anew in between.
    chain.mine(300).await.unwrap();
    grant(&chain, 1).await;
    catch_up(&mut follower, &mut kept).await;
    let position = follower.position().unwrap().to_bytes();
    chain.reorg(150, &[]).await.unwrap();
    let (reader, _) = reader_of(&[chain.url()], Limits::default());
    let mut follower = self::follower(&chain, reader, Some(Position::from_bytes(&position).unwrap()));
    assert_eq!(catch_up(&mut follower, &mut kept).await, (1, vec![]));
    assert_eq!(kept, on_chain(&chain).await);
}

/// The chain is reorganized all the time while it is read, in ranges of a few blocks.
#[tokio::test(flavor = "multi_thread")]
async fn reorganizations_in_the_middle_of_reading_mix_nothing() {
    let chain = DevChain::start().await.unwrap();
    let (reader, _) = reader_of(&[chain.url()], Limits { blocks: 7, ..Limits::default() });
    let (mut follower, mut kept) = (follower(&chain, reader, None), Vec::<Log>::new());
    let (mut back, is_changing) = (0, AtomicBool::new(true));
    let change = async {
        for n in 0..60u64 {
            grant(&chain, 10_000 + n).await;
            chain.mine(n % 5).await.unwrap();
            chain.reorg(1 + n % 9, &[]).await.unwrap();
        }
        is_changing.store(false, Ordering::Relaxed);
    };
    let follow = async {
        while is_changing.load(Ordering::Relaxed) {
            match follower.step().await {
                Ok(Step::Advanced { from, logs, .. }) => {
                    assert!(kept.iter().all(|log| log.block_number < from));
                    kept.extend(logs);
                }
                Ok(Step::RolledBack { to, .. }) => {
                    kept.retain(|log| to.is_some_and(|to| log.block_number <= to.number));
                    back += 1;
                }
                Ok(Step::AtHead { .. }) | Err(ChainError::Unsettled { .. } | ChainError::Beyond { .. }) => {}
                // A block asked for by its hash that has just gone.
                Err(ChainError::Refused { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
    };
    tokio::join!(change, follow);
    // One that is surely not mixed up with what was going on.
    grant(&chain, 1).await;
    catch_up(&mut follower, &mut kept).await;
    assert!(back > 0);
    assert_eq!(kept, on_chain(&chain).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_that_gets_shorter_or_is_another_one_is_noticed() {
    let mut chain = DevChain::start().await.unwrap();
    let (reader, _) = reader_of(&[chain.url()], Limits::default());
    let (mut follower, mut kept) = (follower(&chain, reader, None), Vec::new());
    grant(&chain, 1).await;
    chain.mine(3).await.unwrap();
    grant(&chain, 2).await;
    catch_up(&mut follower, &mut kept).await;
    assert_eq!(kept.len(), 3);
    // The blocks of the last grant and the three below it.
    chain.rollback(4).await.unwrap();
    let (back, resets) = catch_up(&mut follower, &mut kept).await;
    assert_eq!((back, resets.len(), kept.len()), (1, 0, 2));
    assert_eq!(kept, on_chain(&chain).await);

    // Anvil is away for a while: errors, then it goes on as if nothing had been.
    chain.stop().unwrap();
    assert!(follower.step().await.unwrap_err().is_away());
    chain.resume().await.unwrap();
    grant(&chain, 3).await;
    let deadline = Instant::now() + WAIT;
    while let Err(error) = follower.step().await.map(|step| match step {
        Step::Advanced { logs, .. } => kept.extend(logs),
        other => panic!("{other:?}"),
    }) {
        assert!(error.is_away() && Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    catch_up(&mut follower, &mut kept).await;
    assert_eq!(kept.iter().map(of).collect::<Vec<_>>(), [chain.poster(), poster(1), poster(3)]);

    // Another chain: another genesis block.
    chain.reset().await.unwrap();
    let (_, resets) = catch_up(&mut follower, &mut kept).await;
    assert!(matches!(resets[..], [ResetReason::OtherGenesis { .. }]), "{resets:?}");
    assert!(kept.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_far_below_what_was_seen_is_another_one_even_with_the_same_first_block() {
    let mut chain = DevChain::start().await.unwrap();
    let (reader, _) = reader_of(&[chain.url()], Limits::default());
    let (mut follower, mut kept) = (follower(&chain, reader, None), Vec::new());
    chain.mine(300).await.unwrap();
    catch_up(&mut follower, &mut kept).await;
    chain.restart_empty().await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (_, resets) = catch_up(&mut follower, &mut kept).await;
    assert!(matches!(resets[..], [ResetReason::FarBelow { head: 0, .. }]), "{resets:?}");
    assert!(kept.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_one_endpoint_does_the_next_one_is_used() {
    let chain = DevChain::start().await.unwrap();
    let proxy = Proxy::start(chain.url()).await.unwrap();
    let misbehaviours = [
        Behaviour::Silent,
        Behaviour::Body(b"<html>".to_vec()),
        Behaviour::Body(vec![]),
        Behaviour::Body(b"{}".to_vec()),
        Behaviour::Body(br#"{"jsonrpc":"2.0","id":1,"result":null}"#.to_vec()),
        Behaviour::Huge(40 << 20),
        Behaviour::Status(500),
        Behaviour::Status(429),
        Behaviour::ChainId(1),
    ];
    for behaviour in misbehaviours {
        proxy.behave(behaviour.clone());
        let (reader, alarms) = reader_of(&[proxy.url(), chain.url()], Limits::default());
        let read = reader.head().await;
        assert_eq!(read.unwrap().number, chain.head().await.unwrap(), "{behaviour:?}");
        assert_eq!(on_chain(&chain).await, reader.logs(&posters(&chain), 0, 9, None).await.unwrap().logs);
        assert_eq!(alarms.is_raised(fault::CHAIN_WRONG_ID.code), matches!(behaviour, Behaviour::ChainId(_)));
        let states = reader.endpoints().states();
        assert!(states[0].problem.is_some() && states[1].problem.is_none(), "{behaviour:?}: {states:?}");

        // Alone it is an error that says why, and an alarm; and when it is honest again it is used again.
        let (alone, alarms) = reader_of(&[proxy.url()], Limits::default());
        alone.head().await.unwrap_err();
        if !matches!(behaviour, Behaviour::Huge(_)) {
            let deadline = Instant::now() + WAIT;
            while !alarms.is_raised(fault::CHAIN_AWAY.code) {
                alone.head().await.unwrap_err();
                assert!(Instant::now() < deadline, "{behaviour:?}: no alarm");
            }
        }
    }
    // Its first block, its last block, and everything else are gone: the same error, at once.
    let (alone, alarms) = reader_of(&[proxy.url()], Limits::default());
    proxy.behave(Behaviour::Status(503));
    let error = alone.head().await.unwrap_err();
    assert!(matches!(&error, ChainError::Away { reasons, .. } if reasons.contains("503")), "{error}");
    proxy.behave(Behaviour::Honest);
    let deadline = Instant::now() + WAIT;
    while let Err(error) = alone.head().await {
        assert!(Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(alarms.list().is_empty());
}

/// An endpoint whose chain is exchanged for another while it is in use.
#[tokio::test(flavor = "multi_thread")]
async fn another_chain_behind_a_known_url_is_noticed_and_named() {
    let chain = DevChain::start().await.unwrap();
    let proxy = Proxy::start(chain.url()).await.unwrap();
    let alarms = Alarms::new();
    let quick = Settings { chain_id_every: Duration::from_millis(100), ..settings(&[proxy.url()]) };
    let reader = Reader::new(Endpoints::new(quick, alarms.clone()).unwrap(), Limits::default());
    reader.head().await.unwrap();
    proxy.behave(Behaviour::ChainId(5));
    let deadline = Instant::now() + WAIT;
    while !alarms.is_raised(fault::CHAIN_WRONG_ID.code) {
        let _ = reader.head().await;
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let text = alarms.list().iter().map(|alarm| alarm.text.clone()).collect::<String>();
    assert!(text.contains("127.0.0.1") && text.contains("chain 5") && text.contains(&CHAIN_ID.to_string()));
    proxy.calls("eth_getBlockByNumber");
    reader.head().await.unwrap_err();
    assert_eq!(proxy.calls("eth_getBlockByNumber"), 0, "nothing else is asked of it");
    proxy.behave(Behaviour::Honest);
    while alarms.is_raised(fault::CHAIN_WRONG_ID.code) {
        let _ = reader.head().await;
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_fit_themselves_to_what_the_endpoint_takes() {
    let chain = DevChain::start().await.unwrap();
    for n in 0..40 {
        grant(&chain, n).await;
        chain.mine(5).await.unwrap();
    }
    let proxy = Proxy::start(chain.url()).await.unwrap();
    proxy.behave(Behaviour::LogRange(10));
    let expected = on_chain(&chain).await;
    assert_eq!(expected.len(), 41);
    let (reader, _) = reader_of(&[proxy.url()], Limits::default());
    let (mut limited, mut kept) = (follower(&chain, reader, None), Vec::new());
    catch_up(&mut limited, &mut kept).await;
    assert_eq!(kept, expected);
    let requests = proxy.calls("eth_getLogs");
    assert!(requests < 60, "{requests} requests for {} blocks", chain.head().await.unwrap());

    // The same by the number of logs, and by the size of the answer.
    let (reader, _) = reader_of(&[chain.url()], Limits { blocks: 2000, logs: 3 });
    let (mut limited, mut kept) = (follower(&chain, reader, None), Vec::new());
    catch_up(&mut limited, &mut kept).await;
    assert_eq!(kept, expected);
    let small = Settings { max_answer_bytes: 5_000, ..settings(&[chain.url()]) };
    let reader = Reader::new(Endpoints::new(small, Alarms::new()).unwrap(), Limits::default());
    let (mut limited, mut kept) = (follower(&chain, reader, None), Vec::new());
    catch_up(&mut limited, &mut kept).await;
    assert_eq!(kept, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_that_are_not_of_the_chain_are_not_taken() {
    let chain = DevChain::start().await.unwrap();
    grant(&chain, 1).await;
    chain.mine(2).await.unwrap();
    let proxy = Proxy::start(chain.url()).await.unwrap();
    proxy.behave(Behaviour::OtherBlocks);
    let (reader, _) = reader_of(&[proxy.url()], Limits::default());
    let head = chain.head().await.unwrap();
    let error = reader.logs(&posters(&chain), 0, head, None).await.unwrap_err();
    assert!(matches!(error, ChainError::Unsettled { .. }), "{error}");
    let error = reader.logs(&posters(&chain), head - 2, head - 2, None).await.unwrap_err();
    assert!(matches!(error, ChainError::Unsettled { .. }), "{error}");
    // The next endpoint is asked then.
    let (both, _) = reader_of(&[proxy.url(), chain.url()], Limits::default());
    assert_eq!(both.logs(&posters(&chain), 0, head, None).await.unwrap().logs, on_chain(&chain).await);
    // Above the head there is nothing to read, and the endpoint's refusal is not taken for a limit of its range.
    let error = reader.logs(&posters(&chain), head + 5, head + 500, None).await.unwrap_err();
    assert!(matches!(error, ChainError::Beyond { head: got, .. } if got == head), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_url_holds_is_not_repeated() {
    let chain = DevChain::start().await.unwrap();
    let proxy = Proxy::start(chain.url()).await.unwrap();
    let url =
        format!("{}/v3/a-secret-key?token=other-secret", proxy.url().replace("//", "//me:third-secret@"));
    for behaviour in [Behaviour::EchoPath, Behaviour::Status(401), Behaviour::Body(b"x".to_vec())] {
        proxy.behave(behaviour.clone());
        let (reader, alarms) = reader_of(&[&url], Limits::default());
        let error = reader.head().await.unwrap_err();
        let all =
            format!("{error} {error:?} {:?} {:?} {reader:?}", alarms.list(), reader.endpoints().states());
        assert!(!all.contains("secret"), "{all}");
        assert!(all.contains("endpoint 1 (127.0.0.1:"), "{all}");
    }
}

/// A batch is found by its event, and its data in the calldata of its transaction, byte for byte.
#[tokio::test(flavor = "multi_thread")]
async fn blocks_transactions_and_calls() {
    let chain = DevChain::start().await.unwrap();
    let (reader, _) = reader_of(&[chain.url()], Limits::default());
    let data = Bytes::from_static(&[0, 1, 2, 3]);
    chain.post_batch(0, data.clone()).await.unwrap();
    chain.mine(70).await.unwrap();
    let head = reader.head().await.unwrap();
    assert_eq!(reader.finalized().await.unwrap().number, head.number - 64);
    assert_eq!(reader.safe().await.unwrap().number, head.number - 32);
    assert_eq!(reader.block_by_hash(head.hash).await.unwrap(), Some(head));
    assert_eq!(reader.block(head.number).await.unwrap(), Some(head));
    assert_eq!(reader.block(head.number - 1).await.unwrap().unwrap().hash, head.parent);
    assert_eq!(reader.block(head.number + 1).await.unwrap(), None);
    assert_eq!(reader.block_by_hash(B256::ZERO).await.unwrap(), None);

    let filter = LogFilter {
        address: chain.inbox(),
        events: vec![Inbox::SequencerBatchDelivered::SIGNATURE_HASH],
        topic1: Some(B256::ZERO),
    };
    let read = reader.logs(&filter, 0, head.number, None).await.unwrap();
    let [log] = &read.logs[..] else { panic!("{read:?}") };
    let event = log.decode::<Inbox::SequencerBatchDelivered>().unwrap();
    assert_eq!((event.batchSequenceNumber, event.dataLocation), (U256::ZERO, 0));
    let transaction = reader.transaction(log.transaction).await.unwrap().unwrap();
    assert_eq!((transaction.from, transaction.to), (chain.poster(), Some(chain.inbox())));
    assert_eq!(transaction.block_hash, Some(log.block_hash));
    let call = Inbox::addSequencerL2BatchFromOriginCall::abi_decode(&transaction.input).unwrap();
    assert_eq!(call.data, data);
    assert_eq!(reader.transaction(B256::ZERO).await.unwrap(), None);

    use das_chain::reader::At;
    let count = Inbox::batchCountCall {};
    let before = At::Hash(reader.block(log.block_number - 1).await.unwrap().unwrap().hash);
    assert_eq!(reader.call(chain.inbox(), &count, At::Latest).await.unwrap(), U256::from(1));
    assert_eq!(reader.call(chain.inbox(), &count, before).await.unwrap(), U256::ZERO);
    assert_eq!(
        reader.call(chain.inbox(), &count, At::Number(log.block_number)).await.unwrap(),
        U256::from(1)
    );
    let nowhere = reader.call(poster(77), &count, At::Latest).await.unwrap_err();
    assert_eq!(nowhere, ChainError::NoContract { address: poster(77) });
    let unknown = Inbox::getKeysetCreationBlockCall { ksHash: B256::ZERO };
    let reverted = reader.call(chain.inbox(), &unknown, At::Latest).await.unwrap_err();
    assert!(matches!(reverted, ChainError::Reverted { data, .. } if data.len() == 36));
}
