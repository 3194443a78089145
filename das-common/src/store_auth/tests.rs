use std::sync::atomic::{AtomicU32, Ordering};

use futures::FutureExt;
use proptest::prelude::*;

use super::*;

fn key(i: u8) -> StoreKey {
    StoreKey::from_hex(&const_hex::encode([i; 32])).unwrap()
}

fn check(signers: &StoreSigners, digest: RequestDigest, signature: &[u8]) -> Result<(), AuthError> {
    signers.check(|| digest, signature).now_or_never().expect("nobody else is asked")
}

fn by_key() -> StoreSigners {
    StoreSigners::allowing(Vec::new())
        .with_key(SignerKey::parse(&const_hex::encode(key(1).public_key())).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// A signature is of one signer, one kind of request and its very values; no bit of it can change.
    #[test]
    fn signatures_hold_for_what_was_signed_only(data in prop::collection::vec(any::<u8>(), 0..300), a: u64, b: u64, bit in 0..64 * 8usize) {
        let requests = [
            RequestDigest::store(&data, a),
            RequestDigest::send_chunk(&data, a, b),
            RequestDigest::start_chunked(a, b, a, b, a),
            RequestDigest::commit_chunked(a),
            RequestDigest::store(&data, a.wrapping_add(1)),
        ];
        let by_address = StoreSigners::allowing(vec![key(1).address()]);
        for signers in [&by_address, &by_key()] {
            for signed in &requests {
                let signature = key(1).sign(signed);
                prop_assert_eq!(recover(signed, &signature).unwrap(), key(1).address());
                for request in &requests {
                    let expected = if request == signed { Ok(()) } else { Err(AuthError::NotProperlySigned) };
                    prop_assert_eq!(check(signers, *request, &signature), expected);
                }
                let stranger = key(2).sign(signed);
                prop_assert_eq!(check(signers, *signed, &stranger), Err(AuthError::NotProperlySigned));
                let mut changed = signature;
                changed[bit / 8] ^= 1 << (bit % 8);
                prop_assert_eq!(check(signers, *signed, &changed), Err(AuthError::NotProperlySigned));
                for length in [0, 64, 66] {
                    let mut other = signature.to_vec();
                    other.resize(length, 0);
                    prop_assert_eq!(check(signers, *signed, &other), Err(AuthError::NotProperlySigned));
                }
            }
        }
    }
}

#[test]
fn v_may_be_of_either_convention_and_nothing_else() {
    let digest = RequestDigest::store(b"batch", 1);
    let signature = key(1).sign(&digest);
    let signers = StoreSigners::allowing(vec![key(1).address()]);
    for v in 0..=255 {
        let mut other = signature;
        other[64] = v;
        let of_this_parity = v == signature[64] || v == signature[64] + 27;
        assert_eq!(check(&signers, digest, &other).is_ok(), of_this_parity, "by address, v = {v}");
        assert_eq!(check(&by_key(), digest, &other).is_ok(), matches!(v, 0 | 1 | 27 | 28), "by key, v = {v}");
    }
}

#[test]
fn nobody_may_store_until_somebody_is_named() {
    let digest = RequestDigest::store(b"batch", 1);
    let signature = key(1).sign(&digest);
    assert_eq!(check(&StoreSigners::default(), digest, &signature), Err(AuthError::NotConfigured));
    assert_eq!(check(&StoreSigners::unchecked(), digest, &[]), Ok(()));
}

#[test]
fn a_registry_is_asked_only_about_addresses_that_are_not_listed() {
    static ASKED: AtomicU32 = AtomicU32::new(0);
    struct Registry;
    impl SignerRegistry for Registry {
        fn may_store(
            &self,
            address: Address,
        ) -> Pin<Box<dyn Future<Output = Result<bool, Untold>> + Send + '_>> {
            ASKED.fetch_add(1, Ordering::Relaxed);
            let answer =
                if address == key(4).address() { Err(Untold) } else { Ok(address == key(2).address()) };
            Box::pin(std::future::ready(answer))
        }
    }
    let signers = StoreSigners::allowing(vec![key(1).address()]).with_registry(Registry);
    let digest = RequestDigest::store(b"batch", 1);
    assert_eq!(check(&signers, digest, &key(1).sign(&digest)), Ok(()));
    assert_eq!(check(&signers, digest, &[0; 65]), Err(AuthError::NotProperlySigned));
    assert_eq!(ASKED.load(Ordering::Relaxed), 0);
    assert_eq!(check(&signers, digest, &key(2).sign(&digest)), Ok(()));
    assert_eq!(check(&signers, digest, &key(3).sign(&digest)), Err(AuthError::NotProperlySigned));
    assert_eq!(check(&signers, digest, &key(4).sign(&digest)), Err(AuthError::Untold));
}

#[test]
fn addresses_are_shown_with_their_checksum() {
    // From the standard's own examples.
    for text in ["0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"] {
        assert_eq!(text.to_lowercase().parse::<Address>().unwrap().to_string(), text);
    }
    for wrong in [
        "",
        "0x",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAe",
        "0x0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    ] {
        assert!(wrong.parse::<Address>().is_err(), "{wrong}");
    }
}

#[test]
fn secrets_are_not_printed() {
    assert_eq!(format!("{:?}", key(7)), "StoreKey(..)");
}
