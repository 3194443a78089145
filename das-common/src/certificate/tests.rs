use proptest::prelude::*;

use super::*;
use crate::bls::SecretKey;

fn key(i: usize) -> SecretKey {
    SecretKey::from_bytes(&[3, u8::try_from(i).unwrap()]).unwrap()
}

fn keyset(members: usize, assumed_honest: u64) -> Keyset {
    Keyset::new(assumed_honest, (0..members).map(|i| key(i).public_key()).collect()).unwrap()
}

fn certificate(keyset: &Keyset, mask: u64, timeout: u64) -> Certificate {
    let data_hash = DataHash::of(b"a batch");
    let word = signed_bytes_v1(&data_hash, timeout);
    let signers = (0..64).filter(|i| mask >> i & 1 == 1);
    let signatures: Vec<_> = signers.map(|i| key(i).sign(&word)).collect();
    let sum = AggregateSignature::sum(&signatures);
    Certificate {
        version: 1,
        keyset_hash: keyset.hash(),
        data_hash,
        timeout,
        signers_mask: mask,
        signature: sum.map_or([0; SIGNATURE_BYTES], |sum| sum.to_bytes()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Any signers of any committee: enough of them make a certificate, fewer do not, and what we accept everybody does.
    #[test]
    fn enough_signers_and_no_fewer(members in 1..7usize, honest: u64, mask: u64, timeout: u64) {
        let assumed_honest = honest % members as u64 + 1;
        let keyset = keyset(members, assumed_honest);
        let mask = mask & ((1 << members) - 1);
        let certificate = certificate(&keyset, mask, timeout);
        let bytes = certificate.to_bytes();
        prop_assert_eq!(bytes.len(), CERTIFICATE_BYTES);
        prop_assert_eq!(&Certificate::parse_as_nitro(&bytes).unwrap(), &certificate);
        let enough = mask.count_ones() as usize >= keyset.threshold();
        prop_assert_eq!(certificate.verify_as_nitro(&NitroKeyset::from(&keyset)).is_ok(), enough);
        prop_assert_eq!(certificate.verify(&keyset).is_ok(), enough);
        if mask != 0 {
            prop_assert_eq!(Certificate::parse_strict(&bytes).unwrap(), certificate);
        }
    }

    /// No bit of a certificate can be changed without making it another one that does not hold, save the keyset hash for
    /// those who do not look at it.
    #[test]
    fn every_bit_counts(at in 0..CERTIFICATE_BYTES * 8) {
        let keyset = keyset(3, 2);
        let mut bytes = certificate(&keyset, 0b111, 1_900_000_000).to_bytes();
        bytes[at / 8] ^= 1 << (at % 8);
        let holds = Certificate::parse_strict(&bytes).is_ok_and(|certificate| certificate.verify(&keyset).is_ok());
        prop_assert!(!holds, "bit {} of byte {}", at % 8, at / 8);
    }
}

#[test]
fn strictly_there_is_one_form_only() {
    let keyset = keyset(3, 2);
    let good = certificate(&keyset, 0b101, 7);
    good.verify(&keyset).unwrap();
    let bytes = good.to_bytes();
    assert!(matches!(
        Certificate::parse_strict(&[&bytes[..], &[0]].concat()),
        Err(CertificateError::Length { expected: CERTIFICATE_BYTES, got: 179 })
    ));
    let beyond = Certificate { signers_mask: 0b1101, ..good.clone() };
    assert!(matches!(beyond.verify(&keyset), Err(CertificateError::UnknownSigners { members: 3, .. })));
    beyond.verify_as_nitro(&NitroKeyset::from(&keyset)).unwrap();
    let other = self::keyset(4, 2);
    assert!(matches!(good.verify(&other), Err(CertificateError::OtherKeyset { .. })));
    let version_0 = Certificate { version: 0, ..good };
    assert!(matches!(version_0.verify(&keyset), Err(CertificateError::Version { got: 0 })));
}
