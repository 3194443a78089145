//! Who may store and which keysets there are, by the real contract.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use alloy_sol_types::SolEvent;
use das_chain::contract::{SequencerInbox as Inbox, invalidate_keyset_calldata, set_keyset_calldata};
use das_chain::endpoints::{Backoff, Endpoints, Settings};
use das_chain::keysets::{DirKeysets, KeysetHistory, KeysetReadError, KeysetStore, Keysets};
use das_chain::permission::{InboxRegistry, Permission, PermissionError, Settings as PermissionSettings};
use das_chain::reader::{At, Limits, Log, LogFilter, Reader};
use das_common::alarm::Alarms;
use das_common::bls::SecretKey;
use das_common::data_hash::DataHash;
use das_common::keyset::Keyset;
use das_common::store_auth::Address;
use das_testnet::chain::{CHAIN_ID, DevChain};

fn reader(chain: &DevChain) -> Reader {
    let settings = Settings {
        backoff: Backoff { first: Duration::from_millis(5), most: Duration::from_millis(20) },
        ..Settings::new(vec![chain.url().to_owned()], CHAIN_ID)
    };
    Reader::new(Endpoints::new(settings, Alarms::new()).unwrap(), Limits::default())
}

async fn logs(reader: &Reader, chain: &DevChain, from: u64, events: &[alloy_primitives::B256]) -> Vec<Log> {
    let head = reader.head().await.unwrap().number;
    reader.logs(&LogFilter::events(chain.inbox(), events), from, head, None).await.unwrap().logs
}

/// The next block's number: events from here on are new.
async fn next(reader: &Reader) -> u64 {
    reader.head().await.unwrap().number + 1
}

#[tokio::test(flavor = "multi_thread")]
async fn rights_are_granted_and_revoked() {
    let mut chain = DevChain::start().await.unwrap();
    let reader = reader(&chain);
    let hour = Duration::from_secs(3600);
    let settings = PermissionSettings { refused: hour, ..PermissionSettings::default() };
    let registry = InboxRegistry { reader: reader.clone(), inbox: chain.inbox() };
    let permission = Permission::new(registry, settings);
    let alloy = alloy_primitives::Address::repeat_byte(7);
    let address = Address::from_bytes(alloy.into_array());
    let events = [Inbox::BatchPosterSet::SIGNATURE_HASH, Inbox::SequencerSet::SIGNATURE_HASH];

    assert_eq!(permission.may_store(Address::from_bytes(chain.poster().into_array())).await, Ok(true));
    assert_eq!(permission.may_store(address).await, Ok(false));
    // Each change is seen by its event, although answers are remembered for an hour.
    let changes: [(bool, bool, bool); 5] = [
        (true, true, true),
        (false, true, true),
        (true, false, true),
        (false, false, false),
        (false, true, true),
    ];
    for (is_poster, is_sequencer, expected) in changes {
        let from = next(&reader).await;
        chain.set_batch_poster(alloy, is_poster).await.unwrap();
        chain.set_sequencer(alloy, is_sequencer).await.unwrap();
        let logs = logs(&reader, &chain, from, &events).await;
        assert_eq!(logs.len(), 2);
        logs.iter().for_each(|log| permission.observe(log));
        assert_eq!(permission.may_store(address).await, Ok(expected), "{is_poster} {is_sequencer}");
    }
    // The last grant is in a block that goes away.
    chain.reorg(1, &[]).await.unwrap();
    permission.forget_all();
    assert_eq!(permission.may_store(address).await, Ok(false));

    chain.stop().unwrap();
    assert_eq!(permission.may_store(address).await, Ok(false), "remembered");
    let stranger = Address::from_bytes([9; 20]);
    let untold = permission.may_store(stranger).await.unwrap_err();
    assert!(matches!(untold, PermissionError::Away { .. }), "{untold}");
    chain.resume().await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match permission.may_store(stranger).await {
            Ok(answer) => break assert!(!answer),
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keysets_are_set_invalidated_and_set_again() {
    let mut chain = DevChain::start().await.unwrap();
    let reader = reader(&chain);
    let dir = tempfile::tempdir().unwrap();
    let open = || Keysets::new(reader.clone(), chain.inbox(), DirKeysets::open(dir.path()).unwrap());
    let keys = (0..3).map(|_| SecretKey::generate().public_key()).collect();
    let keyset = Keyset::new(2, keys).unwrap();
    let hash = keyset.hash();
    let keysets = open();
    let mut history = KeysetHistory::default();

    assert!(matches!(keysets.get(hash).await, Err(KeysetReadError::Unknown { .. })));
    let validity = keysets.validity(hash, At::Latest).await.unwrap();
    assert_eq!((validity.is_valid, validity.created_in), (false, None));

    let mut created = Vec::new();
    for round in 0..2 {
        let from = next(&reader).await;
        chain.send(chain.owner(), Some(chain.inbox()), set_keyset_calldata(&keyset)).await.unwrap();
        created.push(from);
        chain.mine(3).await.unwrap();
        let read = keysets.get(hash).await.unwrap();
        assert_eq!((&read.bytes, read.keyset.keys().len()), (&keyset.to_bytes(), 3));
        let validity = keysets.validity(hash, At::Latest).await.unwrap();
        assert_eq!((validity.is_valid, validity.created_in), (true, Some(from)));
        logs(&reader, &chain, from, &KeysetHistory::EVENTS).await.iter().for_each(|log| history.observe(log));
        assert_eq!(history.valid(), [(hash, from)]);
        if round == 0 {
            let from = next(&reader).await;
            let calldata = invalidate_keyset_calldata(hash);
            chain.send(chain.owner(), Some(chain.inbox()), calldata).await.unwrap();
            let validity = keysets.validity(hash, At::Latest).await.unwrap();
            assert_eq!((validity.is_valid, validity.created_in), (false, Some(created[0])));
            let news = logs(&reader, &chain, from, &KeysetHistory::EVENTS).await;
            news.iter().for_each(|log| history.observe(log));
            assert!(history.valid().is_empty());
        }
    }
    assert!(created[1] > created[0]);

    // A kept keyset that rots is read from the chain again.
    let file = dir.path().join(format!("{hash}.keyset"));
    assert_eq!(std::fs::read(&file).unwrap(), keyset.to_bytes());
    std::fs::write(&file, b"rot").unwrap();
    assert_eq!(open().get(hash).await.unwrap().bytes, keyset.to_bytes());
    assert_eq!(std::fs::read(&file).unwrap(), keyset.to_bytes());

    // Bytes that are no keyset.
    let other = b"no keyset".to_vec();
    chain.set_keyset(other.clone()).await.unwrap();
    let error = keysets.get(DataHash::of(&other)).await.unwrap_err();
    assert!(matches!(error, KeysetReadError::Form { .. }), "{error}");

    // An event is enough, without a question; and what is kept needs no chain.
    let next_keyset = Keyset::single(SecretKey::generate().public_key());
    let from = next(&reader).await;
    chain.own(Inbox::setValidKeysetCall { keysetBytes: next_keyset.to_bytes().into() }).await.unwrap();
    for log in logs(&reader, &chain, from, &KeysetHistory::EVENTS).await {
        keysets.observe(&log).await;
    }
    // The block of that setting goes away: the keyset is no longer valid, and what was kept of it stays.
    chain.reorg(1, &[]).await.unwrap();
    let gone = keysets.validity(next_keyset.hash(), At::Latest).await.unwrap();
    assert_eq!((gone.is_valid, gone.created_in), (false, None));
    let reopened = open();
    chain.stop().unwrap();
    for known in [hash, next_keyset.hash()] {
        assert_eq!(reopened.get(known).await.unwrap().hash, known);
    }
    let error = reopened.get(DataHash::of(b"unknown")).await.unwrap_err();
    assert!(matches!(error, KeysetReadError::Chain { .. }), "{error}");
    assert_eq!(DirKeysets::open(dir.path()).unwrap().get(DataHash::of(b"unknown")).unwrap(), None);
}
