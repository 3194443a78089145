//! The fan-out against members that lie, hang, refuse, are slow, late or absent.

// Helpers of tests fail like tests.
#![allow(clippy::unwrap_used)]

#[path = "members/fakes.rs"]
mod fakes;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use das_aggregator::fan_out::{FanOutLimits, StoreError};
use das_aggregator::member::Authority;
use das_aggregator::retry::Patience;
use das_common::certificate::Certificate;
use das_common::data_hash::DataHash;
use das_common::keyset::{Keyset, NitroKeyset};
use das_common::store_auth::StoreKey;
use fakes::{Acts, Committee, TIMEOUT, fake, listener, misdeeds, serve, signed_by, until};

const HOUR: Duration = Duration::from_secs(3600);

/// A test in which a member's time were ever waited for would not end in time.
fn endless() -> FanOutLimits {
    FanOutLimits {
        member_timeout: HOUR,
        patience: Patience { delay: Duration::from_millis(20), total: HOUR },
        ..FanOutLimits::default()
    }
}

fn brief() -> FanOutLimits {
    FanOutLimits { member_timeout: Duration::from_millis(300), ..endless() }
}

fn check(certificate: &Certificate, keyset: &Keyset, hash: DataHash) {
    certificate.verify(keyset).unwrap();
    // And everybody else agrees, from the bytes alone.
    let read = Certificate::parse_as_nitro(&certificate.to_bytes()).unwrap();
    read.verify_as_nitro(&NitroKeyset::parse(&keyset.to_bytes()).unwrap()).unwrap();
    assert_eq!((read.data_hash, read.timeout, read.version), (hash, TIMEOUT, 1));
    assert_eq!(read.keyset_hash, keyset.hash());
}

#[tokio::test(flavor = "multi_thread")]
async fn honest_members_make_a_certificate_of_the_callers_own_signature() {
    let committee = Committee::new(&vec![Acts::Honest; 6], 2, endless()).await;
    let poster = StoreKey::generate();
    for length in [0_usize, 1, 70_000, 1_000_000] {
        let message = Bytes::from(vec![length as u8; length]);
        let hash = DataHash::of(&message);
        let authority = signed_by(&poster, &message);
        let certificate = committee.fan_out.store(message, hash, TIMEOUT, authority).await.unwrap();
        check(&certificate, &committee.keyset, hash);
        assert!(certificate.signers_mask.count_ones() >= 5);
        for fake in &committee.fakes {
            until("every member has the batch", || fake.has(&hash)).await;
        }
    }
    // The signature went through unchanged: the members saw the poster, nobody else.
    for fake in &committee.fakes {
        assert!(fake.stored.lock().iter().all(|(_, signer)| *signer == poster.address()));
    }
    until("nothing is kept", || committee.fan_out.late() == (0, 0)).await;
}

/// Two of six may do what they like: five... that is, K = 4 honest members suffice, and no bad bit is in the mask.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_delays_or_spoils_what_enough_others_can_make() {
    for misdeed in misdeeds() {
        for positions in [[0_usize, 1], [2, 5]] {
            let mut acts = vec![Acts::Honest; 6];
            for position in positions {
                acts[position] = misdeed.clone();
            }
            let committee = Committee::new(&acts, 3, endless()).await;
            let message = Bytes::from_static(b"a batch");
            let hash = DataHash::of(&message);
            let authority = signed_by(&StoreKey::generate(), &message);
            let certificate = committee.fan_out.store(message, hash, TIMEOUT, authority).await;
            let certificate = certificate.unwrap_or_else(|error| panic!("{misdeed:?}: {error}"));
            check(&certificate, &committee.keyset, hash);
            let bad = 1 << positions[0] | 1 << positions[1];
            assert_eq!(certificate.signers_mask, 0b11_1111 & !bad, "{misdeed:?} at {positions:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_is_an_error_that_names_every_member_and_its_reason() {
    let acts = [
        Acts::Honest,
        Acts::Hangs,
        Acts::Refuses("no space left on device"),
        Acts::SignsWithAnotherKey,
        Acts::NamesAnotherTimeout,
        Acts::SignsWithGarbage,
    ];
    let committee = Committee::new(&acts, 1, endless()).await;
    let message = Bytes::from_static(b"a batch");
    let hash = DataHash::of(&message);
    let authority = signed_by(&StoreKey::generate(), &message);
    let error = committee.fan_out.store(message, hash, TIMEOUT, authority).await.unwrap_err();
    let StoreError::TooFew { failures, .. } = &error else { panic!("{error}") };
    assert_eq!(failures.len(), 5, "{error}");
    let text = error.to_string();
    assert!(text.contains("to at least 6 out of 6 AnyTrust backends (assuming 1 are honest)"), "{text}");
    assert!(text.contains("unable to batch to DAS"), "{text}");
    assert!(text.contains("member-2: no space left on device"), "{text}");
    assert!(text.contains("member-4: it promised timeout 4102444801, not 4102444800"), "{text}");
    assert!(text.contains("member-3: its signature is wrong under its own key"), "{text}");
    assert!(text.contains("member-5: its signature does not decode (95 bytes)"), "{text}");
    assert!(text.contains("member-1: no answer in time"), "{text}");
    assert!(!text.contains("member-0"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committee_that_hangs_is_given_up() {
    let committee = Committee::new(&[Acts::Honest, Acts::Hangs, Acts::Hangs], 2, brief()).await;
    let message = Bytes::from_static(b"a batch");
    let hash = DataHash::of(&message);
    let authority = signed_by(&StoreKey::generate(), &message);
    let text = committee.fan_out.store(message, hash, TIMEOUT, authority).await.unwrap_err().to_string();
    assert!(text.contains("member-1: ") && text.contains("member-2: "), "{text}");
}

/// A member that was down when the certificate was made gets the batch when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn late_members_get_the_batch_too() {
    let (mut places, mut listeners) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let (listener, url) = listener().await;
        listeners.push(listener);
        places.push((fake(Acts::Honest), url));
    }
    let (down, address) = (places[2].0.clone(), listeners[2].local_addr().unwrap());
    drop(listeners.pop());
    for (listener, (fake, _)) in listeners.into_iter().zip(&places) {
        serve(listener, fake.clone(), fakes::PLAIN_LIMIT);
    }
    let committee = Committee::of(places, 2, endless());
    let message = Bytes::from(vec![9; 100_000]);
    let hash = DataHash::of(&message);
    let authority = signed_by(&StoreKey::generate(), &message);
    let certificate = committee.fan_out.store(message, hash, TIMEOUT, authority).await.unwrap();
    assert_eq!(certificate.signers_mask, 0b011);
    until("the batch is kept for the late member", || committee.fan_out.late().1 == 1).await;
    assert!(committee.fan_out.late().0 >= 300_000, "message and request body");
    let back = tokio::net::TcpListener::bind(address).await.unwrap();
    serve(back, down.clone(), fakes::PLAIN_LIMIT);
    until("the late member has it", || down.has(&hash)).await;
    until("nothing is kept", || committee.fan_out.late() == (0, 0)).await;
    assert_eq!(committee.fan_out.members()[2].health.report().stored, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_for_late_members_is_bounded() {
    let limits = FanOutLimits { late_bytes: 1_000_000, ..endless() };
    let committee = Committee::new(&[Acts::Honest, Acts::Honest, Acts::Hangs], 2, limits).await;
    for i in 0..20_u8 {
        let message = Bytes::from(vec![i; 100_000]);
        let hash = DataHash::of(&message);
        let authority = signed_by(&StoreKey::generate(), &message);
        committee.fan_out.store(message, hash, TIMEOUT, authority).await.unwrap();
        assert!(committee.fan_out.late().0 <= 1_000_000);
    }
    until("three batches of 300 KB are kept", || committee.fan_out.late().1 == 3).await;
    committee.fan_out.stop();
    until("nothing is kept", || committee.fan_out.late() == (0, 0)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_takes_nothing_along() {
    let committee = Committee::new(&vec![Acts::Slow(Duration::from_millis(100)); 3], 2, endless()).await;
    let message = Bytes::from_static(b"a batch");
    let hash = DataHash::of(&message);
    let authority = signed_by(&StoreKey::generate(), &message);
    let store = committee.fan_out.store(message, hash, TIMEOUT, authority);
    assert!(tokio::time::timeout(Duration::from_millis(20), store).await.is_err());
    for fake in &committee.fakes {
        until("every member has the batch", || fake.has(&hash)).await;
    }
}

/// A member with a small body limit gets chunks, signed by the aggregator; the others get the caller's own request.
#[tokio::test(flavor = "multi_thread")]
async fn chunks_go_only_where_the_whole_does_not_fit() {
    const SMALL: usize = 100_000;
    let mut places = Vec::new();
    for limit in [fakes::PLAIN_LIMIT, fakes::PLAIN_LIMIT, SMALL] {
        let (listener, url) = listener().await;
        let fake = fake(Acts::Honest);
        serve(listener, fake.clone(), limit);
        places.push((fake, url));
    }
    let committee = Committee::of(places, 1, endless());
    let (poster, own) = (StoreKey::generate(), Arc::new(StoreKey::generate()));
    // Two batches of equal length and timeout in one second: chunked starts must differ all the same.
    for fill in [1_u8, 2] {
        let message = Bytes::from(vec![fill; 200_000]);
        let hash = DataHash::of(&message);
        let Authority::Caller { signature, .. } = signed_by(&poster, &message) else { unreachable!() };
        let authority = Authority::Caller { signature, key: Some(own.clone()) };
        let certificate = committee.fan_out.store(message, hash, TIMEOUT, authority).await.unwrap();
        check(&certificate, &committee.keyset, hash);
    }
    let signers =
        |i: usize| -> Vec<_> { committee.fakes[i].stored.lock().iter().map(|(_, signer)| *signer).collect() };
    assert_eq!(signers(0), [poster.address(); 2]);
    assert_eq!(signers(1), [poster.address(); 2]);
    assert_eq!(signers(2), [own.address(); 2]);
    assert!(!committee.fakes[0].methods.lock().iter().any(|method| method != "store"));

    let message = Bytes::from(vec![3; 200_000]);
    let hash = DataHash::of(&message);
    let authority = signed_by(&poster, &message);
    let text = committee.fan_out.store(message, hash, TIMEOUT, authority).await.unwrap_err().to_string();
    assert!(text.contains("member-2: ") && text.contains("store-key.file"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_above_the_usual_limit_go_in_chunks_without_being_refused_first() {
    let committee = Committee::new(&vec![Acts::Honest; 3], 2, endless()).await;
    let own = Arc::new(StoreKey::generate());
    let message = Bytes::from(vec![5; 6_000_000]);
    let hash = DataHash::of(&message);
    let authority = Authority::Own(own.clone());
    let certificate = committee.fan_out.store(message, hash, TIMEOUT, authority).await.unwrap();
    check(&certificate, &committee.keyset, hash);
    for fake in &committee.fakes {
        until("every member has the batch", || fake.has(&hash)).await;
        let methods = fake.methods.lock().clone();
        assert_eq!(methods[0], "startChunkedStore");
        assert_eq!(methods.iter().filter(|method| *method == "sendChunk").count(), 3);
    }
}
