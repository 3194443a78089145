use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// A contract whose answers a test sets, which may be out of reach or slow.
#[derive(Clone, Default)]
struct FakeInbox(Arc<Fake>);

#[derive(Default)]
struct Fake {
    allowed: Mutex<HashSet<Address>>,
    away: Mutex<bool>,
    asked: AtomicUsize,
    gate: Mutex<Option<Arc<tokio::sync::Semaphore>>>,
}

impl Registry for FakeInbox {
    async fn may_store(&self, address: Address) -> Result<bool, ChainError> {
        self.0.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.0.allowed.lock().contains(&address);
        let gate = self.0.gate.lock().clone();
        if let Some(gate) = gate {
            let _passed = gate.acquire().await;
        }
        if *self.0.away.lock() {
            return Err(ChainError::Failed { endpoint: "fake".into(), reason: "away".into() });
        }
        Ok(answer)
    }
}

impl FakeInbox {
    fn asked(&self) -> usize {
        self.0.asked.swap(0, Ordering::SeqCst)
    }
}

fn address(n: u64) -> Address {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    Address::from_bytes(bytes)
}

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn answers_are_remembered_until_something_is_heard() {
    let inbox = FakeInbox::default();
    let permission = Permission::new(inbox.clone(), Settings { refused: HOUR, ..Settings::default() });
    inbox.0.allowed.lock().insert(address(1));
    for _ in 0..3 {
        assert_eq!(permission.may_store(address(1)).await, Ok(true));
        assert_eq!(permission.may_store(address(2)).await, Ok(false));
    }
    assert_eq!((inbox.asked(), permission.known()), (2, 1));
    // Who is refused is let in at once after being granted, who is known is out at once after being revoked.
    inbox.0.allowed.lock().insert(address(2));
    inbox.0.allowed.lock().remove(&address(1));
    permission.forget(address(1));
    permission.forget(address(2));
    assert_eq!(permission.may_store(address(1)).await, Ok(false));
    assert_eq!(permission.may_store(address(2)).await, Ok(true));
    permission.forget_all();
    inbox.asked();
    assert_eq!(permission.may_store(address(1)).await, Ok(false));
    assert_eq!(inbox.asked(), 1);
}

#[tokio::test]
async fn an_answer_asked_for_before_something_was_heard_is_not_remembered() {
    let inbox = FakeInbox::default();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    *inbox.0.gate.lock() = Some(Arc::clone(&gate));
    inbox.0.allowed.lock().insert(address(1));
    let permission = Permission::new(inbox.clone(), Settings::default());
    let early = tokio::spawn({
        let permission = permission.clone();
        async move { permission.may_store(address(1)).await }
    });
    while inbox.0.asked.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    inbox.0.allowed.lock().clear();
    permission.forget(address(1));
    gate.add_permits(10);
    assert_eq!(early.await.unwrap(), Ok(true));
    assert_eq!(permission.may_store(address(1)).await, Ok(false));
}

#[tokio::test]
async fn many_who_ask_about_one_address_ask_once() {
    let inbox = FakeInbox::default();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    *inbox.0.gate.lock() = Some(Arc::clone(&gate));
    let permission = Permission::new(inbox.clone(), Settings { refused: HOUR, ..Settings::default() });
    let asking: Vec<_> = (0..50)
        .map(|_| {
            let permission = permission.clone();
            async move { permission.may_store(address(1)).await }
        })
        .collect();
    let asking = tokio::spawn(futures::future::join_all(asking));
    while inbox.0.asked.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    gate.add_permits(10);
    assert!(asking.await.unwrap().into_iter().all(|answer| answer == Ok(false)));
    assert_eq!(inbox.asked(), 1);
}

#[tokio::test]
async fn strangers_neither_hammer_the_chain_nor_hold_up_those_who_are_known() {
    let inbox = FakeInbox::default();
    let settings = Settings {
        fresh: Duration::ZERO,
        lookups_per_second: 0.0,
        lookup_burst: 10.0,
        ..Settings::default()
    };
    let permission = Permission::new(inbox.clone(), settings);
    inbox.0.allowed.lock().insert(address(0));
    assert_eq!(permission.may_store(address(0)).await, Ok(true));
    let mut untold = 0;
    for n in 1..10_000 {
        match permission.may_store(address(n)).await {
            Ok(false) => {}
            Err(PermissionError::TooMany { .. }) => untold += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((untold, inbox.asked()), (9_990, 10));
    assert_eq!(permission.may_store(address(0)).await, Ok(true));
    assert_eq!(inbox.asked(), 1, "asked again, since nothing stays fresh here");
}

#[tokio::test]
async fn while_the_chain_is_away_those_who_are_known_stay_and_others_are_told_so() {
    let inbox = FakeInbox::default();
    let settings = Settings { fresh: Duration::ZERO, retry: HOUR, ..Settings::default() };
    let permission = Permission::new(inbox.clone(), settings);
    inbox.0.allowed.lock().insert(address(1));
    assert_eq!(permission.may_store(address(1)).await, Ok(true));
    *inbox.0.away.lock() = true;
    inbox.asked();
    for _ in 0..5 {
        assert_eq!(permission.may_store(address(1)).await, Ok(true));
    }
    assert_eq!(inbox.asked(), 1, "not asked with every request");
    assert!(matches!(permission.may_store(address(2)).await, Err(PermissionError::Away { .. })));
    // Older than it may be.
    let strict = Permission::new(inbox.clone(), Settings { stale: Duration::ZERO, ..settings });
    *inbox.0.away.lock() = false;
    assert_eq!(strict.may_store(address(1)).await, Ok(true));
    *inbox.0.away.lock() = true;
    assert!(matches!(strict.may_store(address(1)).await, Err(PermissionError::Away { .. })));
}

#[test]
fn what_is_remembered_is_bounded() {
    let now = Instant::now();
    let mut map = HashMap::new();
    for n in 0..5000 {
        make_room(&mut map, 100, |at| *at);
        map.insert(address(n), now + Duration::from_nanos(n));
        assert!(map.len() <= 100 && map.contains_key(&address(n)));
    }
    let mut same = HashMap::new();
    for n in 0..500 {
        make_room(&mut same, 100, |at| *at);
        same.insert(address(n), now);
        assert!(same.len() <= 100);
    }
}
