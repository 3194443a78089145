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
    let text = std::fs::read_to_string(&files.public).unwrap();
    let wrapped: Vec<&str> = text.as_bytes().chunks(76).map(|line| str::from_utf8(line).unwrap()).collect();
    std::fs::write(&files.public, wrapped.join("\r\n")).unwrap();
    assert_eq!(read_public_key_file(&files.public).unwrap(), key.public_key(), "wrapped lines");
    std::fs::write(&files.secret, "not base64!").unwrap();
    assert!(matches!(read_secret_key_file(&files.secret), Err(KeyFileError::Encoding { .. })));
    std::fs::write(&files.secret, vec![b'A'; 1 << 20]).unwrap();
    assert!(matches!(read_secret_key_file(&files.secret), Err(KeyFileError::TooLong { .. })));
    assert!(matches!(read_secret_key_file("/dev/zero".as_ref()), Err(KeyFileError::TooLong { .. })));
}

#[test]
fn no_half_of_a_key_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    // A link to nowhere: it does not exist, and yet cannot be created.
    std::os::unix::fs::symlink("nowhere/at/all", folder.path().join(PUBLIC_FILE)).unwrap();
    assert!(matches!(write_key_files(folder.path(), &SecretKey::generate()), Err(KeyFileError::Io { .. })));
    assert!(!folder.path().join(SECRET_FILE).exists());
}

/// A point of G1's curve (G2's) outside the subgroup: the first x of some for which there is a y, since nearly no point
/// of the curve is in the subgroup.
fn outside() -> (G1Point, G2Point) {
    let compressed = |x: u8, bytes: usize| {
        let mut out = vec![0; bytes];
        (out[0], out[bytes - 1]) = (0x80, x);
        out
    };
    let g1 = (1..).find_map(|x| {
        let mut affine = blst::blst_p1_affine::default();
        // SAFETY: 48 bytes are what is read of a compressed point.
        let error = unsafe { blst::blst_p1_uncompress(&mut affine, compressed(x, 48).as_ptr()) };
        let mut point = blst_p1::default();
        // SAFETY: both are live values of the types named.
        unsafe { blst::blst_p1_from_affine(&mut point, &affine) };
        (error == blst::BLST_ERROR::BLST_SUCCESS).then_some(G1Point(point))
    });
    let g2 = (1..).find_map(|x| {
        let mut affine = blst::blst_p2_affine::default();
        // SAFETY: 96 bytes are what is read of a compressed point.
        let error = unsafe { blst::blst_p2_uncompress(&mut affine, compressed(x, 96).as_ptr()) };
        let mut point = blst_p2::default();
        // SAFETY: both are live values of the types named.
        unsafe { blst::blst_p2_from_affine(&mut point, &affine) };
        (error == blst::BLST_ERROR::BLST_SUCCESS).then_some(G2Point(point))
    });
    (g1.unwrap(), g2.unwrap())
}

#[test]
fn other_groups_and_infinity_are_for_readers_of_the_chain_only() {
    let (g1, g2) = outside();
    let infinity = [0; SIGNATURE_BYTES];
    for (bytes, error) in [(g1.to_bytes(), PointError::Subgroup), (infinity, PointError::Infinity)] {
        NitroSignature::parse(&bytes).unwrap();
        assert_eq!(Signature::parse(&bytes).unwrap_err(), error);
        assert_eq!(AggregateSignature::parse(&bytes).unwrap_err(), error);
    }
    for (point, error) in [(g2.to_bytes(), PointError::Subgroup), ([0; POINT_BYTES], PointError::Infinity)] {
        let bytes = [&[0], &point[..]].concat();
        assert_eq!(NitroPublicKey::parse(&bytes, true).unwrap().to_bytes(), bytes);
        assert_eq!(PublicKey::parse_trusted(&bytes).unwrap_err(), PublicKeyError::Point(error));
    }
    // Infinity signs everything for the key at infinity, and its proof verifies: that is why it is refused.
    let nobody = [&[96], &infinity[..], &[0; POINT_BYTES]].concat();
    let key = NitroPublicKey::parse(&nobody, false).unwrap();
    assert!(NitroSignature::parse(&infinity).unwrap().verify(b"anything", [&key]));
    assert!(PublicKey::parse(&nobody).is_err());
}

#[test]
fn flags_are_no_part_of_an_encoding() {
    let key = SecretKey::from_bytes(&[5]).unwrap();
    for flag in 1..8 {
        let mut signature = key.sign(b"batch").to_bytes();
        signature[0] |= flag << 5;
        assert_eq!(NitroSignature::parse(&signature).unwrap_err(), PointError::Coordinate);
        let mut point = [&[0], &key.public_key().point_bytes()[..]].concat();
        point[1] |= flag << 5;
        assert!(NitroPublicKey::parse(&point, true).is_err());
        let mut infinity = [0; SIGNATURE_BYTES];
        infinity[0] = flag << 5;
        assert!(NitroSignature::parse(&infinity).is_err());
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 64, ..Default::default() })]

    /// Whatever is strictly taken is taken by every reader too, and is written back as it was.
    #[test]
    fn what_is_strictly_taken_is_taken_by_all(at: proptest::sample::Index, byte: u8) {
        let mut key = SecretKey::from_bytes(&[6]).unwrap().public_key().to_bytes();
        let place = at.index(key.len());
        key[place] = byte;
        if let Ok(strict) = PublicKey::parse(&key) {
            proptest::prop_assert_eq!(&strict.to_bytes(), &key);
            proptest::prop_assert_eq!(&NitroPublicKey::parse(&key, false).unwrap().to_bytes(), &key);
        }
        let mut signature = SecretKey::from_bytes(&[6]).unwrap().sign(b"batch").to_bytes();
        signature[at.index(SIGNATURE_BYTES)] = byte;
        if let Ok(strict) = Signature::parse(&signature) {
            proptest::prop_assert_eq!(strict.to_bytes(), signature);
            NitroSignature::parse(&signature).unwrap();
        }
    }
}

#[test]
fn secrets_are_not_printed() {
    let key = SecretKey::from_bytes(&[0xab; 32]).unwrap();
    assert_eq!(format!("{key:?}"), "SecretKey(..)");
}
