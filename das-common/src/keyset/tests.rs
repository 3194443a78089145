use super::*;
use crate::bls::SecretKey;

fn keys(count: usize) -> Vec<PublicKey> {
    (0..count).map(|i| SecretKey::from_bytes(&[4, i as u8]).unwrap().public_key()).collect()
}

#[test]
fn what_we_publish_everybody_reads() {
    for (members, assumed_honest) in [(1, 1), (3, 2), (6, 6), (64, 1)] {
        let keyset = Keyset::new(assumed_honest, keys(members)).unwrap();
        assert_eq!(keyset.threshold() as u64, members as u64 + 1 - assumed_honest);
        let read = NitroKeyset::parse(&keyset.to_bytes()).unwrap();
        assert_eq!((read.keys().len(), read.assumed_honest()), (members, assumed_honest));
        assert_eq!((read.to_bytes(), read.hash()), (keyset.to_bytes(), keyset.hash()));
    }
}

#[test]
fn what_makes_no_sense_is_not_published() {
    let refused = |assumed_honest, keys| Keyset::new(assumed_honest, keys).unwrap_err();
    assert_eq!(refused(0, keys(3)), KeysetError::AssumedHonest { got: 0, members: 3 });
    assert_eq!(refused(4, keys(3)), KeysetError::AssumedHonest { got: 4, members: 3 });
    assert_eq!(refused(1, keys(0)), KeysetError::AssumedHonest { got: 1, members: 0 });
    assert_eq!(refused(1, keys(65)), KeysetError::TooManyKeys { got: 65 });
    let mut twice = keys(3);
    twice[2] = twice[0].clone();
    assert_eq!(refused(1, twice), KeysetError::RepeatedKey { first: 0, second: 2 });
    let mut unproved = keys(3);
    let without = [&[0], &unproved[1].point_bytes()[..]].concat();
    unproved[1] = PublicKey::parse_trusted(&without).unwrap();
    assert_eq!(refused(1, unproved), KeysetError::Unproved { index: 1 });
}

#[test]
fn a_keyset_that_ends_early_says_where() {
    let bytes = Keyset::new(1, keys(2)).unwrap().to_bytes();
    for cut in 0..bytes.len() {
        let error = NitroKeyset::parse(&bytes[..cut]).unwrap_err();
        assert!(matches!(error, KeysetError::Short { got, .. } if got == cut), "cut to {cut}: {error}");
    }
}
