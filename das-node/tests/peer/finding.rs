//! Members find each other, and keep each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use das_common::binding::DEFAULT_LIFE;
use das_node::peer::{AskError, PeerIdentity, PublishError};

use crate::team::*;

const SIX: [u8; 6] = [0, 1, 2, 3, 4, 5];

async fn six_members_talk(listen: &'static str) {
    let mut members = team(&SIX, 4, 3, |_| options(listen)).await;
    for i in SIX {
        for j in SIX.iter().filter(|j| **j != i) {
            let text = format!("{i} to {j}");
            assert_eq!(members[&i].ask(*j, &text).await, text);
        }
    }
    // Gossip: to all, once each, under the author's name.
    let handle = members[&2].handle.clone();
    eventually("published", async || {
        handle.publish(Bytes::from_static(b"news")).await.map_err(|e| e.to_string())
    })
    .await;
    for i in [0, 1, 3, 4, 5] {
        let member = members.get_mut(&i).unwrap();
        let news = |event: &Seen| matches!(event, Seen::Gossip(..));
        assert_eq!(member.until(news).await, Seen::Gossip(id(2), Bytes::from_static(b"news")));
    }
    // One goes, and comes back with another peer key and address.
    members[&5].handle.stop().await;
    members.remove(&5);
    for i in [0, 1, 2, 3, 4] {
        members.get_mut(&i).unwrap().until(|event| *event == Seen::Down(id(5))).await;
    }
    let asked = members[&0].handle.ask(id(5), Bytes::new(), LONG).await;
    assert_eq!(asked, Err(AskError::NotConnected));
    // It knows where two of the others are.
    let known = [(0, members[&0].address().await), (1, members[&1].address().await)];
    let with_two = committee(&SIX, 4, 3, &known);
    // In the same second as before, its binding might not be newer than the old one.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let at = Arc::new(AtomicU64::new(now + 2));
    let back = das_node::peer::PeerOptions { clock: clock(&at), ..options(listen) };
    let back = Running::start(5, &[with_two], back).await;
    back.until_connected(&[0, 1, 2, 3, 4]).await;
    for i in [0, 1, 2, 3, 4] {
        members[&i].until_connected(&SIX.iter().copied().filter(|j| *j != i).collect::<Vec<_>>()).await;
        assert_eq!(members[&i].ask(5, "again").await, "again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn six_members_over_tcp() {
    six_members_talk(TCP).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn six_members_over_quic() {
    six_members_talk(QUIC).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_address_is_found_through_the_others() {
    // Only member 1's address is in the file, and nobody else's ever was.
    let start = |i, committee: Arc<_>| async move { Running::start(i, &[committee], options(TCP)).await };
    let middle = start(1, committee(&[0, 1, 2], 2, 2, &[])).await;
    let known = committee(&[0, 1, 2], 2, 2, &[(1, middle.address().await)]);
    let (first, last) = (start(0, Arc::clone(&known)).await, start(2, Arc::clone(&known)).await);
    for (member, others) in [(&first, [1, 2]), (&middle, [0, 2]), (&last, [0, 1])] {
        member.until_connected(&others).await;
    }
    assert_eq!(first.ask(2, "hello").await, "hello");
    // Both ends keep their keys and come back elsewhere, at about the same time.
    let mut folders = Vec::new();
    let mut again = Vec::new();
    for (member, i) in [(first, 0u8), (last, 2u8)] {
        member.handle.stop().await;
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("peer.key");
        let (identity, _) = PeerIdentity::load_or_make(&key).unwrap();
        let cards = das_node::peer::PeerOptions {
            cards_file: Some(folder.path().join("peer.cards")),
            clock: clock(&Arc::new(AtomicU64::new(now() + 5))),
            ..options(QUIC)
        };
        let both = das_node::peer::PeerOptions {
            listen: vec![QUIC.parse().unwrap(), TCP.parse().unwrap()],
            ..cards
        };
        again.push(Running::start_with(i, &[Arc::clone(&known)], both, identity).await);
        folders.push(folder);
    }
    again[0].until_connected(&[1, 2]).await;
    again[1].until_connected(&[0, 1]).await;
    assert_eq!(again[0].ask(2, "here").await, "here");
    // With member 1 gone, what is written down is enough.
    let address = again[1].address().await;
    again[0].handle.stop().await;
    middle.handle.stop().await;
    assert!(folders[0].path().join("peer.cards").exists());
    let nobody = committee(&[0, 1, 2], 2, 2, &[]);
    let (identity, _) = PeerIdentity::load_or_make(&folders[0].path().join("peer.key")).unwrap();
    let options = das_node::peer::PeerOptions {
        cards_file: Some(folders[0].path().join("peer.cards")),
        ..options(TCP)
    };
    let third = Running::start_with(0, &[nobody], options, identity).await;
    third.until_connected(&[2]).await;
    assert!(address.contains("127.0.0.1"));
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bindings_are_renewed_in_time() {
    let at = Arc::new(AtomicU64::new(now()));
    let members =
        team(&[0, 1, 2], 2, 2, |_| das_node::peer::PeerOptions { clock: clock(&at), ..options(TCP) }).await;
    let issued = |i: u8, of: u8| {
        let status = members[&i].handle.members().into_iter().find(|status| status.member == id(of)).unwrap();
        status.binding.unwrap().issued()
    };
    for round in 0..3 {
        let before = issued(0, 1);
        // A little more than half a life: two such steps without renewal, and the binding is over.
        at.fetch_add(DEFAULT_LIFE.as_secs() / 2 + 60, Ordering::Relaxed);
        eventually(&format!("renewal {round}"), async || {
            let all = [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)].map(|(i, of)| issued(i, of));
            if all.iter().all(|issued| *issued > before + 60) { Ok(()) } else { Err(format!("{all:?}")) }
        })
        .await;
    }
    for i in [0, 1, 2u8] {
        assert_eq!(members[&i].handle.connected().len(), 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_hangs_delays_nobody_else() {
    let members = team(&[0, 1, 2], 2, 2, |_| options(TCP)).await;
    let (asker, hanging) = (members[&0].handle.clone(), members[&0].handle.clone());
    let mut asks = Vec::new();
    for _ in 0..8 {
        let hanging = hanging.clone();
        asks.push(tokio::spawn(async move { hanging.ask(id(1), Bytes::from_static(b"hang"), LONG).await }));
    }
    for round in 0..50 {
        let text = format!("round {round}");
        assert_eq!(asker.ask(id(2), text.clone().into(), LONG).await.unwrap(), text);
        // Even the hanging member itself goes on answering the rest.
        assert_eq!(asker.ask(id(1), text.clone().into(), LONG).await.unwrap(), text);
    }
    assert!(asks.iter().all(|ask| !ask.is_finished()));
    let soon = std::time::Duration::from_millis(50);
    let late = asker.ask(id(1), Bytes::from_static(b"hang"), soon).await;
    assert_eq!(late, Err(AskError::Timeout { after: soon }));
    // The member goes: whoever waits is told at once.
    members[&1].handle.stop().await;
    for ask in asks {
        assert!(matches!(ask.await.unwrap(), Err(AskError::Lost { .. } | AskError::Refused)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gossip_goes_on_only_when_it_was_accepted() {
    // 0 and 2 say that they are where nobody is, so that all goes through 1.
    let hidden = |_| das_node::peer::PeerOptions {
        external: vec!["/ip4/127.0.0.1/tcp/1".parse().unwrap()],
        ..options(TCP)
    };
    let middle = Running::start(1, &[committee(&[0, 1, 2], 2, 2, &[])], options(TCP)).await;
    let known = committee(&[0, 1, 2], 2, 2, &[(1, middle.address().await)]);
    let first = Running::start(0, &[Arc::clone(&known)], hidden(0)).await;
    let mut last = Running::start(2, &[known], hidden(2)).await;
    middle.until_connected(&[0, 2]).await;
    let handle = first.handle.clone();
    eventually("published", async || {
        handle.publish(Bytes::from_static(b"bad news")).await.map_err(|error| error.to_string())
    })
    .await;
    let mut middle = middle;
    let bad = Seen::Gossip(id(0), Bytes::from_static(b"bad news"));
    middle.until(|event| *event == bad).await;
    // Good news travel on, as soon as 2 and 1 know of each other's interest.
    let mut count = 0;
    loop {
        count += 1;
        first.handle.publish(Bytes::from(format!("good news {count}"))).await.unwrap();
        let pause = tokio::time::sleep(std::time::Duration::from_millis(200));
        tokio::select! {
            event = last.until(|event| matches!(event, Seen::Gossip(..))) => {
                let Seen::Gossip(from, bytes) = event else { unreachable!() };
                assert_eq!(from, id(0), "the author's, not that of who passed it on");
                assert!(bytes.starts_with(b"good news"), "{bytes:?}");
                break;
            }
            () = pause => assert!(count < 200, "gossip does not arrive"),
        }
    }
    assert!(!last.handle.is_connected(id(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_committee_changes() {
    let members = team(&[0, 1, 2, 3], 3, 2, |_| options(TCP)).await;
    let old = committee(&[0, 1, 2, 3], 3, 2, &[]);
    let new = committee(&[3, 2, 1], 2, 2, &[]);
    // Both in force: nobody goes, and every binding names both places.
    for i in [0, 1, 2, 3u8] {
        members[&i].handle.set_committees(vec![Arc::clone(&old), Arc::clone(&new)]).await;
    }
    let places = |i: u8, of: u8| {
        let status = members[&i].handle.members().into_iter().find(|status| status.member == id(of));
        status.and_then(|status| Some(status.binding?.signed().binding.places.len()))
    };
    eventually("new bindings", async || {
        let seen = [places(0, 1), places(1, 2), places(2, 3), places(3, 0)];
        if seen == [Some(2), Some(2), Some(2), Some(1)] { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
    assert_eq!(members[&1].handle.connected().len(), 3);
    let index = |i: u8| members[&1].handle.members().iter().find(|s| s.member == id(i)).unwrap().index;
    assert_eq!((index(3), index(0)), (Some(0), Some(0)), "in the newest committee of each");
    // The old one is over.
    for i in [1, 2, 3u8] {
        members[&i].handle.set_committees(vec![Arc::clone(&new)]).await;
    }
    for (i, others) in [(1u8, [2, 3]), (2, [1, 3]), (3, [1, 2])] {
        members[&i].until_connected(&others).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mirrors_are_let_in_by_their_peer_id() {
    let (mirror, stranger) = (PeerIdentity::generate(), PeerIdentity::generate());
    let more = format!("[[mirror]]\nname = \"reader\"\npeer-id = \"{}\"\n", mirror.peer_key());
    let with = |addresses: &[(u8, String)]| committee_with(&[0, 1], 2, 2, addresses, &more);
    let first = Running::start(0, &[with(&[])], options(TCP)).await;
    let known = with(&[(0, first.address().await)]);
    let started = |identity: PeerIdentity, committee: Arc<_>| {
        das_node::peer::PeerNetwork::start(options(TCP), vec![committee], identity, None)
    };
    let error = started(stranger.clone(), Arc::clone(&known)).await.unwrap_err().to_string();
    assert!(error.contains(&stranger.peer_key().to_string()), "{error}");
    let reader = Running::of(started(mirror, known).await.unwrap());
    reader.until_connected(&[0]).await;
    assert_eq!(reader.ask(0, "a batch, please").await, "a batch, please");
    assert!(first.handle.connected()[0].mirror);
    assert_eq!(first.handle.connected()[0].name, "reader");
}

#[tokio::test]
async fn starts_that_cannot_work_say_why() {
    let three = committee(&[0, 1, 2], 2, 2, &[]);
    let start = |i, committee: &Arc<_>, listen: &str| {
        let signer = Arc::new(das_common::signer::LocalSigner::new(secret(i)));
        das_node::peer::PeerNetwork::start(
            options(listen),
            vec![Arc::clone(committee)],
            PeerIdentity::generate(),
            Some(signer),
        )
    };
    let error = start(7, &three, TCP).await.unwrap_err().to_string();
    assert_eq!(error, "the key is that of no member of the committee");
    let (first, _events) = start(0, &three, TCP).await.unwrap();
    let taken = eventually("listening", async || {
        first.listening().await.first().map(ToString::to_string).ok_or(String::new())
    })
    .await;
    let taken = taken.split("/p2p/").next().unwrap();
    let error = start(1, &three, taken).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot listen on {taken}: ")), "{error}");
    let odd = committee(&[0, 1, 2], 2, 2, &[(1, "/ip4/10.0.0.1/sctp/7".to_owned())]);
    let error = start(0, &odd, TCP).await.unwrap_err().to_string();
    assert!(error.starts_with("peer of m1: "), "{error}");
    assert_eq!(first.publish(Bytes::from_static(b"x")).await, Err(PublishError::NoPeers));
    assert_eq!(first.ask(id(9), Bytes::new(), LONG).await, Err(AskError::NotConnected));
    first.stop().await;
    assert_eq!(first.ask(id(1), Bytes::new(), LONG).await, Err(AskError::Stopped));
}
