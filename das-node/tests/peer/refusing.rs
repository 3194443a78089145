//! Everybody else is turned away, and so is what members may not do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use das_common::binding::{DEFAULT_LIFE, MAX_AHEAD};
use das_common::committee::Committee;
use das_node::peer::hello::{self, Hello};
use das_node::peer::{AskError, Card, PeerIdentity, PeerLimits, PeerOptions, PublishError};
use libp2p::request_response::OutboundFailure;

use crate::rogue::*;
use crate::team::*;

/// Three members, of which only the first two run, and their committee. Member 2 is for the rogue to be.
struct Stage {
    committee: Arc<Committee>,
    first: Running,
    second: Running,
    address: String,
}

impl Stage {
    async fn set(limits: PeerLimits) -> Self {
        Self::set_at(TCP, limits, None).await
    }

    async fn set_at(listen: &str, limits: PeerLimits, at: Option<&Arc<AtomicU64>>) -> Self {
        let of = |listen: &str| {
            let options = PeerOptions { limits: limits.clone(), ..options(listen) };
            match at {
                Some(at) => PeerOptions { clock: clock(at), ..options },
                None => options,
            }
        };
        let without = committee(&[0, 1, 2], 2, 2, &[]);
        let first = Running::start(0, std::slice::from_ref(&without), of(listen)).await;
        let address = first.address().await;
        let known = committee(&[0, 1, 2], 2, 2, &[(0, address.clone())]);
        let second = Running::start(1, &[known], of(listen)).await;
        first.until_connected(&[1]).await;
        second.until_connected(&[0]).await;
        let address = address.split("/p2p/").next().unwrap().to_owned();
        Self { committee: without, first, second, address }
    }

    /// The members are as they were.
    async fn is_unharmed(&mut self) {
        assert_eq!(self.first.ask(1, "still there?").await, "still there?");
        assert_eq!(self.second.ask(0, "still there?").await, "still there?");
        while let Ok(event) = self.first.events.try_recv() {
            assert_ne!(event, Seen::Down(id(1)), "the connection broke in between");
        }
    }

    async fn stranger(&self) -> (Rogue, PeerIdentity) {
        let identity = PeerIdentity::generate();
        (Rogue::connect(&self.address, &identity).await.unwrap(), identity)
    }

    async fn member(&self) -> (Rogue, PeerIdentity) {
        let identity = PeerIdentity::generate();
        let mut rogue = Rogue::of_member(&self.address, &self.committee, 2, &identity, now()).await;
        rogue.during(self.first.until_connected(&[1, 2])).await;
        (rogue, identity)
    }
}

/// Waits until a counter of refusals is at least that much above what it was.
async fn counted(reason: &str, before: u64, more: u64) {
    eventually(&format!("{more} refusals: {reason}"), async || {
        let got = refusals(reason) - before;
        if got >= more { Ok(()) } else { Err(format!("{got}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_gets_one_exchange_and_no_other_protocol() {
    for listen in [TCP, QUIC] {
        let mut stage = Stage::set_at(listen, limits(), None).await;
        let (silent, hello) = (refusals("silent"), refusals("hello"));
        let (mut rogue, _) = stage.stranger().await;
        for _ in 0..100 {
            let request = rogue.send(frame(b"give me"));
            let outcome = rogue.outcome(request).await;
            assert!(matches!(outcome, Err(OutboundFailure::UnsupportedProtocols)), "{outcome:?}");
        }
        rogue.gossip(gossip_message(&PeerIdentity::generate(), b"news", 1)).await;
        rogue.until_closed().await;
        assert!(refusals("silent") + refusals("hello") > silent + hello);
        stage.is_unharmed().await;
        assert_eq!(stage.first.handle.connected().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bindings_that_do_not_count_are_refused_with_the_reason() {
    let mut stage = Stage::set(limits()).await;
    let life = DEFAULT_LIFE.as_secs();
    let (ours, other) = (Arc::clone(&stage.committee), committee(&[0, 1, 3], 2, 2, &[]));
    // The same keyset, for A = 1, with H = k = 3.
    let coding = committee(&[0, 1, 2], 3, 3, &[]);
    assert_eq!(ours.keyset().hash(), coding.keyset().hash());
    let identity = PeerIdentity::generate();
    let cases = [
        (binding(&ours, 2, 2, &identity, now() - life - 10, life), "expired", "the binding expired at"),
        (binding(&ours, 2, 2, &identity, now() + 2 * MAX_AHEAD.as_secs(), life), "binding", "in the future"),
        (binding(&ours, 2, 1, &identity, now(), life), "binding", "signature is not that of member 2"),
        (binding(&other, 2, 3, &identity, now(), life), "other-committee", "is for another committee: n = 3"),
        (binding(&coding, 2, 2, &identity, now(), life), "other-coding", "H = 3, k = 3"),
        (binding(&ours, 0, 0, &identity, now(), life), "ourselves", "two programs run with one key"),
        (binding(&ours, 2, 2, &PeerIdentity::generate(), now(), life), "card", "another peer key"),
    ];
    for (binding, reason, text) in cases {
        let before = refusals(reason);
        let mut rogue = Rogue::connect(&stage.address, &identity).await.unwrap();
        let refused = rogue.refused(greeting(&identity, Some(&binding))).await;
        assert!(refused.contains(text), "{reason}: {refused}");
        rogue.until_closed().await;
        assert!(refusals(reason) > before, "{reason} is counted");
        stage.is_unharmed().await;
    }
    // Without a binding, and named nowhere.
    let before = refusals("unknown");
    let (mut rogue, nobody) = stage.stranger().await;
    let refused = rogue.refused(greeting(&nobody, None)).await;
    assert!(refused.contains("no mirror of the committee file"), "{refused}");
    counted("unknown", before, 1).await;
    // Somebody else's card, though it is a good one.
    let (mut rogue, _) = stage.stranger().await;
    let good = binding(&ours, 2, 2, &identity, now(), life);
    let refused = rogue.refused(greeting(&identity, Some(&good))).await;
    assert!(refused.contains("another peer key than the connection"), "{refused}");
    // Addresses that somebody else signed.
    let mut card = Card::sign(&identity, Some(&good), 1, &[]);
    card.sequence = 2;
    let mut rogue = Rogue::connect(&stage.address, &identity).await.unwrap();
    let bytes = hello::encode(&Hello { boot: 1, clock: 0, card: card.encode() });
    assert!(rogue.refused(bytes).await.contains("not signed by the peer key"));
    stage.is_unharmed().await;
    assert_eq!(stage.first.handle.connected().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn greetings_that_are_none_are_refused() {
    let mut stage = Stage::set(limits()).await;
    let before = refusals("malformed");
    for bytes in
        [vec![], vec![9], vec![1; 100], hello::encode(&Hello { boot: 1, clock: 2, card: vec![1; 3000] })]
    {
        let (mut rogue, _) = stage.stranger().await;
        assert!(rogue.refused(bytes).await.contains("malformed"));
        rogue.until_closed().await;
    }
    counted("malformed", before, 4).await;
    let before = refusals("hello");
    let (mut rogue, _) = stage.stranger().await;
    assert_eq!(rogue.greet(vec![1; 60_000]).await, None, "too long to be read");
    counted("hello", before, 1).await;
    stage.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newer_binding_ends_an_older_one() {
    let stage = Stage::set(limits()).await;
    let (old, new) = (PeerIdentity::generate(), PeerIdentity::generate());
    let mut first = Rogue::of_member(&stage.address, &stage.committee, 2, &old, now() - 10).await;
    first.during(stage.first.until_connected(&[1, 2])).await;
    let before = refusals("superseded");
    let mut second = Rogue::of_member(&stage.address, &stage.committee, 2, &new, now()).await;
    first.until_closed().await;
    counted("superseded", before, 1).await;
    let mut again = Rogue::connect(&stage.address, &old).await.unwrap();
    let older = binding(&stage.committee, 2, 2, &old, now() - 10, DEFAULT_LIFE.as_secs());
    assert!(again.refused(greeting(&old, Some(&older))).await.contains("is superseded by one issued at"));
    second.during(stage.first.until_connected(&[1, 2])).await;
    let key =
        stage.first.handle.connected().into_iter().find(|status| status.member == id(2)).unwrap().peer_id;
    assert_eq!(key, Some(new.peer_key().to_string()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_binding_that_ends_takes_its_connection_along() {
    let at = Arc::new(AtomicU64::new(now()));
    let mut stage = Stage::set_at(TCP, limits(), Some(&at)).await;
    let identity = PeerIdentity::generate();
    let mut rogue = Rogue::connect(&stage.address, &identity).await.unwrap();
    let short = binding(&stage.committee, 2, 2, &identity, now() - 100, 1000);
    let answer = rogue.greet(greeting(&identity, Some(&short))).await;
    assert_eq!(answer, Some(hello::Answer::Welcome));
    rogue.during(stage.first.until_connected(&[1, 2])).await;
    let request = rogue.send(frame(b"hello"));
    assert_eq!(rogue.outcome(request).await.unwrap(), frame(b"hello"));
    let before = refusals("expired");
    at.fetch_add(1001, Ordering::Relaxed);
    rogue.until_closed().await;
    counted("expired", before, 1).await;
    stage.first.until_connected(&[1]).await;
    stage.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_are_none_cost_a_refusal() {
    let mut stage = Stage::set(limits()).await;
    let (mut rogue, _) = stage.member().await;
    let (too_long, malformed) = (refusals("too-long"), refusals("malformed"));
    let huge = [&[0][..], &u32::MAX.to_be_bytes(), &[1; 1000]].concat();
    let request = rogue.send(huge);
    assert!(rogue.outcome(request).await.is_ok_and(|answer| answer.is_empty()), "no answer");
    counted("too-long", too_long, 1).await;
    let request = rogue.send(vec![77, 0, 0, 0, 1, 1]);
    assert!(rogue.outcome(request).await.is_ok_and(|answer| answer.is_empty()));
    // Cards that are none.
    for raw in [[&[1, 0, 0, 0, 3][..], b"abc"].concat(), vec![1, 0, 0, 0, 0]] {
        let request = rogue.send(raw);
        assert_eq!(rogue.outcome(request).await.unwrap(), [2, 0, 0, 0, 0], "refused");
    }
    counted("malformed", malformed, 3).await;
    // What is asked of him: answers that are too long, or none.
    let asks = |text: &'static [u8]| {
        let handle = stage.first.handle.clone();
        tokio::spawn(async move { handle.ask(id(2), Bytes::from_static(text), LONG).await })
    };
    for answer in [vec![0, 255, 255, 255, 255, 1], vec![9, 0, 0, 0, 0], vec![0, 0, 0, 0, 9, 1], vec![]] {
        rogue.answer = answer;
        let ask = asks(b"well?");
        let outcome = rogue.during(ask).await.unwrap();
        assert!(matches!(outcome, Err(AskError::Lost { .. })), "{outcome:?}");
    }
    counted("too-long", too_long, 2).await;
    counted("malformed", malformed, 4).await;
    // He is a member all the same.
    let request = rogue.send(frame(b"and now?"));
    assert_eq!(rogue.outcome(request).await.unwrap(), frame(b"and now?"));
    stage.is_unharmed().await;
    // Our own side keeps to the bounds too.
    let long = Bytes::from(vec![0; limits().max_request + 1]);
    let refused = stage.first.handle.ask(id(1), long, LONG).await;
    assert_eq!(refused, Err(AskError::TooLong { got: (1 << 20) + 1, limit: 1 << 20 }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_requests_costs_refusals() {
    let limits = PeerLimits {
        request_rate: 0.001,
        request_burst: 40.0,
        requests_per_member: 8,
        request_memory: 4 << 20,
        ..limits()
    };
    let mut stage = Stage::set(limits).await;
    let (mut rogue, _) = stage.member().await;
    let (concurrency, rate) = (refusals("concurrency"), refusals("rate"));
    let hanging: Vec<_> = (0..20).map(|_| rogue.send(frame(b"hang"))).collect();
    for request in hanging.into_iter().skip(8) {
        assert_eq!(rogue.outcome(request).await.unwrap()[0], 1, "busy");
    }
    counted("concurrency", concurrency, 12).await;
    for _ in 0..40 {
        let flood: Vec<_> = (0..25).map(|_| rogue.send(frame(&[1; 1000]))).collect();
        for request in flood {
            assert_eq!(rogue.outcome(request).await.unwrap(), [1, 0, 0, 0, 0], "busy");
        }
    }
    counted("rate", rate, 1000 - 20).await;
    // Promises cost nothing; bytes that arrive and are not finished fill the budget, and no more.
    let memory = refusals("memory");
    let half = [&[HOLD, 0][..], &(1u32 << 20).to_be_bytes(), &vec![1; 1 << 19]].concat();
    for _ in 0..30 {
        rogue.send(half.clone());
    }
    rogue.during(counted("memory", memory, 10)).await;
    drop(rogue);
    stage.first.until_connected(&[1]).await;
    stage.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gossip_that_is_none_goes_nowhere() {
    let mut stage = Stage::set(limits()).await;
    let (mut rogue, identity) = stage.member().await;
    // Longer than allowed, and garbage.
    rogue.gossip([varint(10 << 20), vec![1; 1000]].concat()).await;
    rogue.gossip([varint(100), vec![0xff; 100]].concat()).await;
    // A message whose author nobody knows, and one that is signed for other bytes. A good one arrives after them, and
    // is the first to do so. All on one stream: whoever opens many is not listened to any more.
    let author = refusals("author");
    let unknown = gossip_message(&PeerIdentity::generate(), b"from nobody", 1);
    let mut forged = gossip_message(&identity, b"forged", 2);
    let at = forged.windows(6).position(|window| window == b"forged").unwrap();
    forged[at] ^= 1;
    rogue.gossip([unknown, forged, gossip_message(&identity, b"good", 3)].concat()).await;
    let good = rogue.during(stage.first.until(|event| matches!(event, Seen::Gossip(..)))).await;
    assert_eq!(good, Seen::Gossip(id(2), Bytes::from_static(b"good")));
    rogue.during(counted("author", author, 1)).await;
    // A flood of good ones is cut off.
    let rate = refusals("rate");
    let flood: Vec<u8> = (10..400).flat_map(|i| gossip_message(&identity, b"again", i)).collect();
    rogue.gossip(flood).await;
    rogue.during(counted("rate", rate, 50)).await;
    assert!(!rogue.is_closed());
    let long = Bytes::from(vec![0; limits().max_gossip + 1]);
    let refused = stage.first.handle.publish(long).await;
    assert_eq!(refused, Err(PublishError::TooLong { got: (256 << 10) + 1, limit: 256 << 10 }));
    let most = Bytes::from(vec![5; limits().max_gossip]);
    let handle = stage.first.handle.clone();
    eventually("published", async || handle.publish(most.clone()).await.map_err(|e| e.to_string())).await;
    assert_eq!(
        stage.second.until(|event| matches!(event, Seen::Gossip(_, bytes) if bytes.len() > 100)).await,
        Seen::Gossip(id(0), most)
    );
    stage.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cards_that_were_tampered_with_are_not_believed() {
    let mut stage = Stage::set(limits()).await;
    let (mut rogue, identity) = stage.member().await;
    let before = refusals("binding");
    // "Member 1 is me now", signed with the wrong key.
    let thief = PeerIdentity::generate();
    let forged = binding(&stage.committee, 1, 2, &thief, now() + 100, 1000);
    let card = Card::sign(&thief, Some(&forged), 1, &[]).encode();
    let question = (None::<[u8; 32]>, vec![card]);
    let mut bytes = vec![1];
    bincode::encode_into_std_write(question, &mut bytes, bincode::config::standard()).unwrap();
    let mut raw = frame(&bytes);
    raw[0] = 1;
    let request = rogue.send(raw);
    assert_eq!(rogue.outcome(request).await.unwrap()[0], 0);
    counted("binding", before, 1).await;
    let of = |i: u8| stage.first.handle.members().into_iter().find(|status| status.member == id(i)).unwrap();
    assert_ne!(of(1).peer_id, Some(thief.peer_key().to_string()));
    assert_eq!(of(2).peer_id, Some(identity.peer_key().to_string()));
    stage.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_are_few_at_a_time_and_members_pass_them_by() {
    let mut stage = Stage::set(PeerLimits {
        max_strangers: 2,
        hello_timeout: std::time::Duration::from_secs(20),
        ..limits()
    })
    .await;
    // A member whose binding is known, before the crowd comes.
    let (rogue, identity) = stage.member().await;
    drop(rogue);
    stage.first.until_connected(&[1]).await;
    let before = refusals("strangers");
    let mut crowd = Vec::new();
    for _ in 0..6 {
        let nobody = PeerIdentity::generate();
        crowd.extend(Rogue::connect(&stage.address, &nobody).await);
    }
    let mut others = futures::future::join_all(crowd.iter_mut().skip(2).map(Rogue::until_closed));
    tokio::time::timeout(LONG, &mut others).await.unwrap();
    drop(others);
    assert_eq!(refusals("strangers") - before, 4);
    let mut again = Rogue::of_member(&stage.address, &stage.committee, 2, &identity, now() + 1).await;
    again.during(stage.first.until_connected(&[1, 2])).await;
    stage.is_unharmed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_from_one_address_are_rationed() {
    let limits = PeerLimits { connection_rate: 0.001, connection_burst: 10.0, ..limits() };
    let mut stage = Stage::set(limits).await;
    let before = refusals("rate");
    let mut connected = 0;
    for _ in 0..20 {
        connected += usize::from(Rogue::connect(&stage.address, &PeerIdentity::generate()).await.is_some());
    }
    assert!((1..10).contains(&connected), "{connected} of 20");
    assert!(refusals("rate") - before >= 10);
    stage.is_unharmed().await;
}
