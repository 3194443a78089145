use std::os::unix::fs::PermissionsExt;

use super::*;

fn signers(count: u8, message: &[u8]) -> Vec<(PublicKey, Signature)> {
    let key = |i: u8| SecretKey::from_bytes(&[9, i + 1]).unwrap();
    (0..count).map(key).map(|key| (key.public_key(), key.sign(message))).collect()
}

/// The order of the groups, and one more: a scalar that is 1.
const ORDER_AND_ONE: &str = "73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000002";

#[test]
fn a_secret_is_read_modulo_the_order_and_zero_is_none() {
    let one = SecretKey::from_bytes(&[1]).unwrap().public_key();
    assert_eq!(SecretKey::from_bytes(&const_hex::decode(ORDER_AND_ONE).unwrap()).unwrap().public_key(), one);
    let mut long = vec![0; 100];
    long[99] = 1;
    assert_eq!(SecretKey::from_bytes(&long).unwrap().public_key(), one);
    let mut order = const_hex::decode(ORDER_AND_ONE).unwrap();
    order[31] = 1;
    assert_eq!(SecretKey::from_bytes(&order).unwrap_err(), SecretKeyError::Zero);
    assert_eq!(SecretKey::from_bytes(&[]).unwrap_err(), SecretKeyError::Empty);
}

#[test]
fn all_right_is_right_and_exactly_the_wrong_ones_are_found() {
    let message = [5; 41];
    let right = signers(7, &message);
    assert_eq!(verify_same_message(&message, &right), [true; 7]);
    assert_eq!(verify_same_message(&message, &[]), [true; 0]);
    for wrong in 0_u32..128 {
        let is_wrong = |i: usize| wrong >> i & 1 == 1;
        let pairs: Vec<_> = right
            .iter()
            .enumerate()
            .map(|(i, (key, signature))| {
                let other = &right[(i + 1) % 7].1;
                (key.clone(), if is_wrong(i) { other.clone() } else { signature.clone() })
            })
            .collect();
        let expected: Vec<bool> = (0..7).map(|i| !is_wrong(i)).collect();
        assert_eq!(verify_same_message(&message, &pairs), expected, "wrong: {wrong:#b}");
    }
}

#[test]
fn errors_that_cancel_out_in_the_sum_are_still_errors() {
    let message = [6; 41];
    let mut pairs = signers(3, &message);
    // The first is given a point too much, the second the same point too little: the plain sum verifies.
    let point = SecretKey::from_bytes(&[77]).unwrap().sign(b"anything").0;
    let minus_one =
        const_hex::decode("73eda753299d7d483339d80809a1d80553bda402fffe5bfeffffffff00000000").unwrap();
    let minus_one: Vec<u8> = minus_one.into_iter().rev().collect();
    pairs[0].1 = Signature(pairs[0].1.0.plus(&point));
    pairs[1].1 = Signature(pairs[1].1.0.plus(&point.times(&minus_one)));
    let sum = AggregateSignature::sum(pairs.iter().map(|(_, signature)| signature)).unwrap();
    let keys = AggregateKey::sum(pairs.iter().map(|(key, _)| key)).unwrap();
    assert!(keys.verify(&message, &sum), "the sum hides the errors");
    assert_eq!(verify_same_message(&message, &pairs), [false, false, true]);
}

#[test]
fn a_proof_belongs_to_its_key_alone() {
    let (one, two) = (SecretKey::from_bytes(&[1]).unwrap(), SecretKey::from_bytes(&[2]).unwrap());
    let (bytes, other) = (one.public_key().to_bytes(), two.public_key().to_bytes());
    assert_eq!(PublicKey::parse(&bytes).unwrap(), one.public_key());
    let swapped = [&bytes[..97], &other[97..]].concat();
    assert_eq!(PublicKey::parse(&swapped).unwrap_err(), PublicKeyError::ProofWrong);
    // An ordinary signature over the key is no proof: the hash is another one.
    let signed = [&[96], &one.sign(&bytes[97..]).to_bytes()[..], &bytes[97..]].concat();
    assert_eq!(PublicKey::parse(&signed).unwrap_err(), PublicKeyError::ProofWrong);
    let without = [&[0], &bytes[97..]].concat();
    assert_eq!(PublicKey::parse(&without).unwrap_err(), PublicKeyError::ProofMissing);
    assert_eq!(PublicKey::parse_trusted(&without).unwrap(), one.public_key());
    for cut in 0..bytes.len() {
        assert!(PublicKey::parse_trusted(&bytes[..cut]).is_err(), "cut to {cut}");
    }
    assert!(PublicKey::parse_trusted(&[&bytes[..], &[0]].concat()).is_err(), "a byte behind it");
}

#[test]
fn key_files_are_nitros_private_and_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("made/on/the/way");
    let key = SecretKey::generate();
    let files = write_key_files(&folder, &key).unwrap();
    for file in [&files.secret, &files.public] {
        assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let (read, wide) = read_secret_key_file(&files.secret).unwrap();
    assert_eq!((read.to_bytes(), wide), (key.to_bytes(), None));
    assert_eq!(read_public_key_file(&files.public).unwrap(), key.public_key());
    assert!(write_key_files(&folder, &SecretKey::generate()).is_err());
    assert_eq!(read_secret_key_file(&files.secret).unwrap().0.to_bytes(), key.to_bytes());

    std::fs::set_permissions(&files.secret, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(read_secret_key_file(&files.secret).unwrap().1, Some(0o640));
    let text = std::fs::read_to_string(&files.secret).unwrap();
    std::fs::write(&files.secret, format!("{text}\n")).unwrap();
    assert!(read_secret_key_file(&files.secret).is_ok(), "an editor's line end");
    std::fs::write(&files.secret, "not base64!").unwrap();
    assert!(matches!(read_secret_key_file(&files.secret), Err(KeyFileError::Encoding { .. })));
    std::fs::write(&files.secret, vec![b'A'; 1 << 20]).unwrap();
    assert!(matches!(read_secret_key_file(&files.secret), Err(KeyFileError::TooLong { .. })));
}

#[test]
fn secrets_are_not_printed() {
    let key = SecretKey::from_bytes(&[0xab; 32]).unwrap();
    assert_eq!(format!("{key:?}"), "SecretKey(..)");
}
