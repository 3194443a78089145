//! Bindings good and bad.

use super::*;
use crate::bls::SecretKey;

fn secret(i: u8) -> SecretKey {
    SecretKey::from_bytes(&[i]).unwrap()
}

fn committee(h: i64, k: i64, keys: &[u8]) -> Committee {
    let mut text = format!("honest-members = {h}\ndata-shards = {k}\n");
    for i in keys {
        let key = base64_simd::STANDARD.encode_to_string(secret(*i).public_key().to_bytes());
        text += &format!(
            "[[member]]\nname = \"m{i}\"\npublic-key = \"{key}\"\nrpc = \"http://127.0.0.1:{}\"\nrest = \"http://127.0.0.1:{}\"\n",
            9000 + u32::from(*i),
            9500 + u32::from(*i)
        );
    }
    Committee::parse(&text).unwrap()
}

const NOW: u64 = 1_800_000_000;

fn binding(committees: &[(&Committee, usize)]) -> Binding {
    Binding {
        places: committees.iter().map(|(committee, index)| Place::of(committee, *index).unwrap()).collect(),
        peer_key: PeerKey::new([9; 32]),
        issued: NOW,
        not_after: NOW + DEFAULT_LIFE.as_secs(),
    }
}

fn sign(binding: Binding, key: u8) -> SignedBinding {
    let signature = secret(key).sign(&binding.digest());
    binding.signed(&signature)
}

#[test]
fn a_binding_travels_and_verifies() {
    let committee = committee(2, 2, &[1, 2, 3]);
    let signed = sign(binding(&[(&committee, 1)]), 2);
    let read = SignedBinding::decode(&signed.encode()).unwrap();
    assert_eq!(read, signed);
    let verified = read.verify(&committee, NOW).unwrap();
    assert_eq!(verified.member(), MemberId::of(&committee.members()[1].public_key));
    assert_eq!(read.claims(&committee), Some(verified.member()));
    assert_eq!((verified.index(), verified.peer_key()), (1, PeerKey::new([9; 32])));
    assert_eq!(verified.signed().binding.renewal(), NOW + DEFAULT_LIFE.as_secs() / 2);
    // Never a word that a certificate signs.
    assert!(![40, 41].contains(&signed.binding.digest().len()));
}

#[test]
fn time_is_checked() {
    let committee = committee(2, 2, &[1, 2, 3]);
    let signed = sign(binding(&[(&committee, 0)]), 1);
    let last = signed.binding.not_after;
    let ahead = NOW - MAX_AHEAD.as_secs();
    assert!(signed.verify(&committee, last).is_ok_and(|binding| !binding.is_in_force(last + 1)));
    assert_eq!(
        signed.verify(&committee, last + 1),
        Err(BindingError::Expired { not_after: last, now: last + 1 })
    );
    assert!(signed.verify(&committee, ahead).is_ok());
    assert_eq!(
        signed.verify(&committee, ahead - 1),
        Err(BindingError::Ahead { issued: NOW, now: ahead - 1 })
    );
    for not_after in [NOW, NOW - 1, NOW + MAX_LIFE.as_secs() + 1] {
        let odd = sign(Binding { not_after, ..binding(&[(&committee, 0)]) }, 1);
        let life = BindingError::Life { issued: NOW, not_after };
        assert_eq!(odd.verify(&committee, NOW), Err(life.clone()));
        assert_eq!(SignedBinding::decode(&odd.encode()), Err(life));
    }
}

#[test]
fn only_the_members_own_signature_counts() {
    let committee = committee(2, 2, &[1, 2, 3]);
    let wrong = BindingError::WrongSignature { index: 0 };
    assert_eq!(sign(binding(&[(&committee, 0)]), 2).verify(&committee, NOW), Err(wrong.clone()));
    let mut signed = sign(binding(&[(&committee, 0)]), 1);
    signed.binding.peer_key = PeerKey::new([8; 32]);
    assert_eq!(signed.verify(&committee, NOW), Err(wrong.clone()));
    // A signature over the plain digest of something else with this key, such as a certificate's words.
    let words = crate::certificate::signed_bytes_v1(&DataHash::of(b"x"), NOW);
    let other = binding(&[(&committee, 0)]).signed(&secret(1).sign(&words));
    assert_eq!(other.verify(&committee, NOW), Err(wrong));
    let mut signed = sign(binding(&[(&committee, 0)]), 1);
    signed.signature = [0; SIGNATURE_BYTES];
    assert!(matches!(signed.verify(&committee, NOW), Err(BindingError::Point(_))));
}

#[test]
fn another_committee_or_coding_is_named() {
    let ours = committee(3, 2, &[1, 2, 3]);
    // The same keyset (A = 2) with whole copies.
    let coding = committee(2, 1, &[1, 2, 3]);
    assert_eq!(ours.keyset().hash(), coding.keyset().hash());
    let error = sign(binding(&[(&coding, 0)]), 1).verify(&ours, NOW).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, BindingError::OtherCoding { .. }), "{text}");
    assert!(text.contains("H = 2, k = 1") && text.contains("here: n = 3, H = 3, k = 2"), "{text}");
    let other = committee(3, 2, &[1, 2, 4]);
    let error = sign(binding(&[(&other, 0)]), 1).verify(&ours, NOW).unwrap_err();
    assert!(matches!(error, BindingError::OtherCommittee { .. }), "{error}");
    // One binding for two committees verifies for both.
    let both = sign(binding(&[(&other, 0), (&ours, 0)]), 1);
    assert!(both.verify(&ours, NOW).is_ok() && both.verify(&other, NOW).is_ok());
    assert_eq!(both.claims(&coding), None);
    let mut beyond = binding(&[(&ours, 0)]);
    beyond.places[0].index = 3;
    assert_eq!(sign(beyond, 1).verify(&ours, NOW), Err(BindingError::Index { index: 3 }));
}

#[test]
fn the_newest_supersedes_whatever_it_names() {
    let committee = committee(2, 2, &[1, 2, 3]);
    let verified = |issued, key| {
        let peer_key = PeerKey::new([key; 32]);
        sign(Binding { issued, peer_key, ..binding(&[(&committee, 0)]) }, 1).verify(&committee, NOW).unwrap()
    };
    let (old, new) = (verified(NOW - 10, 9), verified(NOW, 8));
    assert!(new.supersedes(&old) && !old.supersedes(&new) && !new.supersedes(&new));
    let same_second = verified(NOW, 7);
    assert_ne!(new.supersedes(&same_second), same_second.supersedes(&new));
    let other_member = sign(binding(&[(&committee, 1)]), 2).verify(&committee, NOW).unwrap();
    assert!(!other_member.supersedes(&old));
}

#[test]
fn there_is_one_encoding_of_a_binding() {
    let committee = committee(2, 2, &[1, 2, 3]);
    let bytes = sign(binding(&[(&committee, 0)]), 1).encode();
    for cut in 0..bytes.len() {
        assert!(SignedBinding::decode(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(SignedBinding::decode(&longer).is_err());
    assert_eq!(
        SignedBinding::decode(&vec![VERSION; MAX_BYTES + 1]),
        Err(BindingError::TooLong { got: MAX_BYTES + 1 })
    );
    let mut newer = bytes.clone();
    newer[0] = 2;
    assert_eq!(SignedBinding::decode(&newer), Err(BindingError::Version { got: Some(2) }));
    // The number of places in the form for larger numbers.
    let mut wide = bytes.clone();
    wide.splice(1..2, [251, 1, 0]);
    assert_eq!(SignedBinding::decode(&wide), Err(BindingError::Malformed));
    // A length that no memory holds.
    let mut huge = bytes;
    huge.splice(1..2, [253, 255, 255, 255, 255, 255, 255, 255, 127]);
    assert_eq!(SignedBinding::decode(&huge), Err(BindingError::Malformed));
    for places in [0, MAX_PLACES + 1] {
        let many = Binding {
            places: vec![Place::of(&committee, 0).unwrap(); places],
            ..binding(&[(&committee, 0)])
        };
        assert_eq!(SignedBinding::decode(&sign(many, 1).encode()), Err(BindingError::Places { got: places }));
    }
    let most = Binding {
        places: vec![Place::of(&committee, 0).unwrap(); MAX_PLACES],
        ..binding(&[(&committee, 0)])
    };
    assert!(SignedBinding::decode(&sign(most, 1).encode()).is_ok());
}

#[test]
fn peer_ids_are_those_of_libp2p() {
    // Of the public key of the all-zero Ed25519 seed.
    let key = "3b6a27bcceb6a42d62a3a8d02a6f0d73653215771de243a63ac048a18b59da29";
    let key = PeerKey::new(const_hex::decode_to_array(key).unwrap());
    let text = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    assert_eq!(key.to_string(), text);
    assert_eq!(text.parse(), Ok(key));
    for i in 0..=255 {
        let key = PeerKey::new([i; 32]);
        assert_eq!(key.to_string().parse(), Ok(key));
    }
    let long = format!("1{}", "z".repeat(51));
    for bad in ["", "1", "12D3KooW", &text[1..], &format!("{text}1"), &text.replace('D', "0"), "QmYyQ", &long]
    {
        assert_eq!(bad.parse::<PeerKey>(), Err(PeerKeyError), "{bad}");
    }
}
