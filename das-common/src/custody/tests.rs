use proptest::prelude::*;
use ring::signature::{Ed25519KeyPair, KeyPair};

use super::coding::{Coding, MemberKey};
use super::evidence::{AuditAnswer, AuditQuestion, Evidence, Leaf, NotProved, SignedAnswer};
use super::hello::{Hello, Known, Named, Position};
use super::message::{BucketDigest, MAX_REQUEST_BYTES, PeerRequest, PeerResponse};
use super::statement::{
    ListError, MAX_ENTRIES, PeerPublicKey, SignedList, Statement, StatementList, StorageId, VerifiedList,
};
use super::{CodecError, RECORD_VERSION};
use crate::committee::CodingId;
use crate::data_hash::DataHash;
use crate::erasure::Root;

const ISSUED: u64 = 1_700_000_000;

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn public(pair: &Ed25519KeyPair) -> PeerPublicKey {
    PeerPublicKey(pair.public_key().as_ref().try_into().unwrap())
}

fn signer(pair: &Ed25519KeyPair) -> impl Fn(&[u8]) -> [u8; 64] {
    |bytes| pair.sign(bytes).as_ref().try_into().unwrap()
}

fn coding() -> Coding {
    Coding {
        id: CodingId::from_bytes([3; 32]),
        honest_members: 4,
        data_shards: 3,
        members: (0..6).map(|index| MemberKey::from_bytes([index; 32])).collect(),
    }
}

fn list(entries: Vec<Statement>, counter: u64) -> StatementList {
    StatementList {
        coding: coding().id,
        member: 2,
        storage_id: StorageId([7; 16]),
        counter,
        previous: [0; 32],
        issued_at: ISSUED,
        entries,
    }
}

fn statement(data: &[u8]) -> Statement {
    let root = coding().code().unwrap().root_of(data);
    Statement { hash: DataHash::of(data), length: data.len() as u64, root, until: ISSUED + 1000 }
}

fn signed(list: StatementList, pair: &Ed25519KeyPair) -> VerifiedList {
    list.sign_with(signer(pair))
}

#[test]
fn a_list_is_what_its_key_signed_and_nothing_else() {
    let (key, other) = (pair(1), pair(2));
    let made = signed(list(vec![statement(b"data")], 1), &key);
    let read = made.signed().clone().verify(&public(&key)).unwrap();
    assert_eq!((read.list(), read.digest()), (made.list(), made.digest()));
    assert_eq!(made.signed().clone().verify(&public(&other)).unwrap_err(), ListError::Signature);
    for at in 0..made.signed().body.len() {
        let mut damaged = made.signed().clone();
        damaged.body[at] ^= 1;
        assert!(damaged.verify(&public(&key)).is_err(), "byte {at}");
    }
}

#[test]
fn lists_without_entries_counter_or_member_are_refused() {
    let key = pair(1);
    let read = |list: StatementList| signed(list, &key).signed().clone().verify(&public(&key)).unwrap_err();
    assert_eq!(read(list(Vec::new(), 1)), ListError::Entries { got: 0 });
    assert_eq!(read(list(vec![statement(b"")], 0)), ListError::Counter);
    let mut strange = list(vec![statement(b"")], 1);
    strange.member = 64;
    assert_eq!(read(strange), ListError::Member { got: 64 });
    let many = vec![statement(b""); MAX_ENTRIES + 1];
    assert_eq!(read(list(many, 1)), ListError::Entries { got: MAX_ENTRIES + 1 });
    let full = signed(list(vec![statement(b""); MAX_ENTRIES], 1), &key);
    assert_eq!(full.signed().clone().verify(&public(&key)).unwrap().list().entries.len(), MAX_ENTRIES);
}

#[test]
fn a_birth_is_never_a_list() {
    let key = pair(1);
    let birth = signed(StatementList::birth(StorageId([5; 16]), ISSUED), &key).signed().clone();
    assert!(birth.is_birth_of(&StorageId([5; 16])) && birth.is_signed_by(&public(&key)));
    assert!(!birth.is_birth_of(&StorageId([6; 16])) && !birth.is_signed_by(&public(&pair(2))));
    assert!(birth.verify(&public(&key)).is_err());
    assert!(!signed(list(vec![statement(b"")], 1), &key).signed().is_birth_of(&StorageId([7; 16])));
}

fn answer(data: &[u8], leaf: u64, shown: Option<u64>) -> AuditAnswer {
    let shard = coding().code().unwrap().encode_one(data, 2);
    AuditAnswer {
        question: AuditQuestion { hash: DataHash::of(data), coding: coding().id, leaf },
        answered_at: ISSUED + 500,
        leaf: shown.map(|leaf| Leaf::of(&shard.prove_leaf(leaf).unwrap())),
    }
}

#[test]
fn a_failed_audit_is_evidence_and_a_passed_one_is_not() {
    let key = pair(1);
    let data = vec![9; 20_000];
    let list = signed(list(vec![statement(b"other"), statement(&data)], 4), &key).signed().clone();
    let verify = |answer: SignedAnswer| {
        let bundle = Evidence::FailedAudit { list: list.clone(), answer };
        let read = Evidence::from_bytes(&bundle.to_bytes()).unwrap();
        assert_eq!(read, bundle);
        read.verify(&public(&key), &coding(), None)
    };
    assert_eq!(verify(answer(&data, 3, Some(3)).sign_with(signer(&key))), Err(NotProved::RightAnswer));
    assert_eq!(verify(answer(&data, 3, None).sign_with(signer(&key))), Ok(()));
    assert_eq!(verify(answer(&data, 3, Some(2)).sign_with(signer(&key))), Ok(()), "another leaf");
    let mut wrong = answer(&data, 3, Some(3));
    wrong.leaf.as_mut().unwrap().bytes[0] ^= 1;
    assert_eq!(verify(wrong.sign_with(signer(&key))), Ok(()));
    // Nobody else's words are held against it, nor words about what it never stated, or when it did not bind.
    let foreign = answer(&data, 3, None).sign_with(signer(&pair(2)));
    assert_eq!(verify(foreign), Err(NotProved::AnswerSignature));
    let elsewhere = answer(b"never stated", 0, None).sign_with(signer(&key));
    assert!(matches!(verify(elsewhere), Err(NotProved::OtherBatch { .. })));
    let mut late = answer(&data, 3, None);
    late.answered_at = ISSUED + 1001;
    assert!(matches!(verify(late.sign_with(signer(&key))), Err(NotProved::OutOfTime { .. })));
}

#[test]
fn a_wrong_root_is_proved_by_the_batch_itself() {
    let key = pair(1);
    let wrong = Statement { root: Root::from_bytes([8; 32]), ..statement(b"data") };
    let bundle = |entry: Statement| {
        let list = signed(list(vec![entry], 1), &key).signed().clone();
        Evidence::WrongRoot { list, hash: entry.hash }
    };
    let key = public(&key);
    assert_eq!(bundle(wrong).verify(&key, &coding(), Some(b"data")), Ok(()));
    assert_eq!(bundle(statement(b"data")).verify(&key, &coding(), Some(b"data")), Err(NotProved::RightRoot));
    assert!(matches!(bundle(wrong).verify(&key, &coding(), None), Err(NotProved::BatchNeeded { .. })));
    let other = Coding { id: CodingId::from_bytes([4; 32]), ..coding() };
    assert!(matches!(bundle(wrong).verify(&key, &other, Some(b"data")), Err(NotProved::OtherCoding { .. })));
}

#[test]
fn one_counter_for_two_lists_is_evidence() {
    let key = pair(1);
    let make = |data: &[u8], counter| signed(list(vec![statement(data)], counter), &key).signed().clone();
    let verify = |first: SignedList, second: SignedList| {
        Evidence::SameCounter { first, second }.verify(&public(&key), &coding(), None)
    };
    assert_eq!(verify(make(b"a", 3), make(b"b", 3)), Ok(()));
    assert_eq!(verify(make(b"a", 3), make(b"a", 3)), Err(NotProved::NoContradiction));
    assert_eq!(verify(make(b"a", 3), make(b"b", 4)), Err(NotProved::NoContradiction));
}

fn hello() -> Hello {
    let birth = signed(StatementList::birth(StorageId([5; 16]), ISSUED), &pair(1)).signed().clone();
    let position = Position { storage_id: StorageId([5; 16]), counter: 9, digest: [1; 32] };
    Hello {
        nonce: 77,
        wall: ISSUED,
        codings: vec![Named::from(&coding()); 16],
        mine: position,
        birth: birth.clone(),
        yours: Some(Known { position, birth, refused: true }),
    }
}

#[test]
fn messages_come_back_as_they_were() {
    let requests = [
        PeerRequest::Hello(hello()),
        PeerRequest::Lists { storage_id: StorageId([1; 16]), from: 3 },
        PeerRequest::Shard { hash: DataHash::of(b"x"), coding: coding().id },
        PeerRequest::AskCertificates(vec![DataHash::of(b"x"); 64]),
    ];
    for request in requests {
        assert_eq!(PeerRequest::from_bytes(&request.to_bytes()).unwrap(), request);
    }
    let response = PeerResponse::Whole(Some(vec![5; 1_000_000]));
    let bytes = response.to_bytes();
    assert_eq!(PeerResponse::from_bytes(&bytes, bytes.len()).unwrap(), response);
    assert!(matches!(PeerResponse::from_bytes(&bytes, 999_999), Err(CodecError::TooLong { .. })));
    let list = signed(list(vec![statement(b""); MAX_ENTRIES], 1), &pair(1)).signed().clone();
    let response = PeerResponse::Lists { lists: vec![list; 8], next: 9 };
    let ask = PeerRequest::Lists { storage_id: StorageId([1; 16]), from: 1 };
    assert!(response.to_bytes().len() <= ask.answer_limit(0));
}

#[test]
fn buckets_of_equal_sets_are_equal_in_any_order() {
    let (mut one, mut other) = (BucketDigest::default(), BucketDigest::default());
    let hashes = [DataHash::of(b"1"), DataHash::of(b"2"), DataHash::of(b"3")];
    hashes.iter().for_each(|hash| one.toggle(hash, 5, true));
    hashes.iter().rev().for_each(|hash| other.toggle(hash, 5, true));
    assert_eq!(one, other);
    other.toggle(&hashes[1], 5, false);
    assert_ne!(one, other);
    one.toggle(&hashes[1], 5, false);
    assert_eq!(one, other);
    one.toggle(&hashes[1], 6, true);
    other.toggle(&hashes[1], 7, true);
    assert_ne!(one, other, "the timeout is part of it");
}

proptest! {
    #[test]
    fn any_bytes_are_refused_or_read(mut bytes in prop::collection::vec(any::<u8>(), 0..400), version: bool) {
        if version && !bytes.is_empty() {
            bytes[0] = RECORD_VERSION;
        }
        let _ = PeerRequest::from_bytes(&bytes);
        let _ = PeerResponse::from_bytes(&bytes, 1 << 16);
        let _ = Evidence::from_bytes(&bytes);
        let _ = SignedList { body: bytes, signature: [0; 64] }.read();
    }

    #[test]
    fn a_length_that_is_not_there_allocates_nothing(length in 1u64 << 32..u64::MAX) {
        // A list of certificates of that length.
        let mut bytes = vec![RECORD_VERSION, 7, 253];
        bytes.extend_from_slice(&length.to_le_bytes());
        prop_assert_eq!(PeerRequest::from_bytes(&bytes), Err(CodecError::Damaged));
        prop_assert!(bytes.len() < MAX_REQUEST_BYTES);
    }
}
