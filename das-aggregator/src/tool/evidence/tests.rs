use das_common::binding::{Binding, Place};
use das_common::bls::SecretKey;
use das_common::custody::evidence::{AuditQuestion, Leaf, SignedAnswer};
use das_common::custody::{SignedList, StorageId};
use das_common::erasure::Root;
use ring::signature::{Ed25519KeyPair, KeyPair as _};

use super::*;

const BATCH: &[u8] = b"a batch of some length, to be cut into three";
const MEMBER: u8 = 2;

/// A committee of six, and the accused.
struct Case {
    dir: tempfile::TempDir,
    committee: Committee,
    coding: Coding,
    members: Vec<SecretKey>,
    key: Ed25519KeyPair,
}

impl Case {
    fn new() -> Self {
        let mut file = "honest-members = 4\ndata-shards = 3\n".to_owned();
        let members: Vec<SecretKey> = (0..6).map(|_| SecretKey::generate()).collect();
        for (i, member) in members.iter().enumerate() {
            let key = base64_simd::STANDARD.encode_to_string(member.public_key().to_bytes());
            let (rpc, rest) = (1000 + i, 2000 + i);
            file += &format!(
                "[[member]]\nname = \"m{i}\"\npublic-key = \"{key}\"\nrpc = \"http://127.0.0.1:{rpc}\"\n\
                 rest = \"http://127.0.0.1:{rest}\"\n"
            );
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("committee.toml"), &file).unwrap();
        std::fs::write(dir.path().join("batch"), BATCH).unwrap();
        let committee = Committee::parse(&file).unwrap();
        let (coding, key) = (Coding::of(&committee), Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap());
        Self { dir, committee, coding, members, key }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.key.sign(bytes).as_ref().try_into().unwrap()
    }

    fn peer_key(&self) -> PeerKey {
        PeerKey::new(self.key.public_key().as_ref().try_into().unwrap())
    }

    fn peer_id(&self) -> String {
        self.peer_key().to_string()
    }

    /// A member's word that the accused's peer key is its own.
    fn binding(&self, member: usize) -> Vec<u8> {
        let places = vec![Place::of(&self.committee, member).unwrap()];
        let binding = Binding { places, peer_key: self.peer_key(), issued: 900, not_after: 9000 };
        let signature = self.members[member].sign(&binding.digest());
        binding.signed(&signature).encode()
    }

    fn root(&self) -> Root {
        self.coding.code().unwrap().root_of(BATCH)
    }

    fn list(&self, counter: u64, root: Root) -> SignedList {
        let entry = Statement { hash: DataHash::of(BATCH), length: BATCH.len() as u64, root, until: 2000 };
        let list = StatementList {
            coding: self.coding.id,
            member: MEMBER,
            storage_id: StorageId([5; 16]),
            counter,
            previous: [0; 32],
            issued_at: 1000,
            entries: vec![entry],
        };
        list.sign_with(|bytes| self.sign(bytes)).signed().clone()
    }

    fn answer(&self, leaf: Option<Leaf>) -> SignedAnswer {
        let question = AuditQuestion { hash: DataHash::of(BATCH), coding: self.coding.id, leaf: 0 };
        AuditAnswer { question, answered_at: 1500, leaf }.sign_with(|bytes| self.sign(bytes))
    }

    /// Runs the command over a bundle: whether it is proved, and what is printed.
    #[track_caller]
    fn check(&self, evidence: &Evidence, key: &str, more: &[&str]) -> anyhow::Result<(bool, String)> {
        let bundle = Bundle { evidence: evidence.clone(), binding: None };
        std::fs::write(self.path("bundle"), bundle.to_bytes()).unwrap();
        self.check_file(key, more)
    }

    #[track_caller]
    fn check_file(&self, key: &str, more: &[&str]) -> anyhow::Result<(bool, String)> {
        let committee = self.path("committee.toml");
        let mut args = vec![self.path("bundle"), "--committee.file".into(), committee];
        if !key.is_empty() {
            args.extend(["--peer-key".to_owned(), key.to_owned()]);
        }
        args.extend(more.iter().map(ToString::to_string));
        let answer = run(&args)?;
        assert_eq!(answer.json["proved"], answer.good);
        Ok((answer.good, String::from_utf8(answer.text).unwrap()))
    }
}

#[test]
fn a_failed_audit_is_proved_and_a_right_answer_is_not() {
    let case = Case::new();
    let list = case.list(1, case.root());
    let silent = Evidence::FailedAudit { list: list.clone(), answer: case.answer(None) };
    let (proved, text) = case.check(&silent, &case.peer_id(), &[]).unwrap();
    assert!(proved && text.contains("2 (m2)") && text.contains("does not have it"), "{text}");
    // The key in hex is the same key.
    let key = hex(case.key.public_key().as_ref());
    assert!(case.check(&silent, &key, &[]).unwrap().0);

    let shard = case.coding.code().unwrap().encode_one(BATCH, MEMBER.into());
    let leaf = Leaf::of(&shard.prove_leaf(0).unwrap());
    let right = Evidence::FailedAudit { list: list.clone(), answer: case.answer(Some(leaf.clone())) };
    let (proved, text) = case.check(&right, &case.peer_id(), &[]).unwrap();
    assert!(!proved && text.contains("the answer is right"), "{text}");
    let wrong = Leaf { bytes: vec![0; leaf.bytes.len()], ..leaf };
    let wrong = Evidence::FailedAudit { list, answer: case.answer(Some(wrong)) };
    assert!(case.check(&wrong, &case.peer_id(), &[]).unwrap().0);
}

#[test]
fn a_binding_in_the_bundle_says_whose_key_it_is() {
    let case = Case::new();
    let evidence = Evidence::FailedAudit { list: case.list(1, case.root()), answer: case.answer(None) };
    let check = |binding: Option<Vec<u8>>, key: &str| {
        let bundle = Bundle { evidence: evidence.clone(), binding };
        std::fs::write(case.path("bundle"), bundle.to_bytes()).unwrap();
        case.check_file(key, &[])
    };
    let own = case.binding(MEMBER.into());
    let (proved, text) = check(Some(own.clone()), "").unwrap();
    assert!(proved && text.contains("BLS key vouched"), "{text}");
    assert!(check(Some(own.clone()), &case.peer_id()).unwrap().0);
    let (proved, text) = check(Some(own.clone()), &PeerKey::new([3; 32]).to_string()).unwrap();
    assert!(!proved && text.contains("--peer-key says"), "{text}");
    let (proved, text) = check(Some(case.binding(0)), "").unwrap();
    assert!(!proved && text.contains("the binding is that of member 0"), "{text}");
    let mut forged = own;
    *forged.last_mut().unwrap() ^= 1;
    assert!(!check(Some(forged), &case.peer_id()).unwrap().0, "not even with the right key given");
    assert!(check(None, "").unwrap_err().to_string().contains("--peer-key"));
}

#[test]
fn a_wrong_root_needs_the_batch() {
    let case = Case::new();
    let wrong =
        Evidence::WrongRoot { list: case.list(1, Root::from_bytes([9; 32])), hash: DataHash::of(BATCH) };
    let error = case.check(&wrong, &case.peer_id(), &[]).unwrap_err();
    assert!(error.to_string().contains("--batch"), "{error}");
    let batch = case.path("batch");
    let (proved, text) = case.check(&wrong, &case.peer_id(), &["--batch", &batch]).unwrap();
    assert!(proved && text.contains("a root that this batch does not have"), "{text}");
    let right = Evidence::WrongRoot { list: case.list(1, case.root()), hash: DataHash::of(BATCH) };
    assert!(!case.check(&right, &case.peer_id(), &["--batch", &batch]).unwrap().0);
    let error = case.check(&wrong, &case.peer_id(), &["--batch", &case.path("bundle")]).unwrap_err();
    assert!(error.to_string().contains("the bundle is about"), "{error}");
}

#[test]
fn two_lists_with_one_number_are_proved_if_they_differ() {
    let case = Case::new();
    let first = case.list(3, case.root());
    let second = case.list(3, Root::from_bytes([9; 32]));
    let both = Evidence::SameCounter { first: first.clone(), second };
    assert!(case.check(&both, &case.peer_id(), &[]).unwrap().0);
    let other = Evidence::SameCounter { first: first.clone(), second: case.list(4, case.root()) };
    assert!(!case.check(&other, &case.peer_id(), &[]).unwrap().0);
    let twice = Evidence::SameCounter { first: first.clone(), second: first };
    assert!(!case.check(&twice, &case.peer_id(), &[]).unwrap().0);
}

#[test]
fn nobody_is_accused_by_another_key_or_by_other_bytes() {
    let case = Case::new();
    let silent = Evidence::FailedAudit { list: case.list(1, case.root()), answer: case.answer(None) };
    let other = PeerKey::new([3; 32]).to_string();
    assert!(!case.check(&silent, &other, &[]).unwrap().0);
    assert!(case.check(&silent, "nobody", &[]).unwrap_err().to_string().contains("--peer-key"));
    let bundle = Bundle { evidence: silent, binding: Some(case.binding(MEMBER.into())) };
    let bytes = bundle.to_bytes();
    for cut in [0, 1, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(case.path("bundle"), &bytes[..cut]).unwrap();
        assert!(!case.check_file(&case.peer_id(), &[]).unwrap().0, "{cut} bytes");
    }
    for at in 0..bytes.len() {
        let mut bent = bytes.clone();
        bent[at] ^= 1;
        std::fs::write(case.path("bundle"), &bent).unwrap();
        assert!(!case.check_file(&case.peer_id(), &[]).unwrap().0, "byte {at}");
    }
}
