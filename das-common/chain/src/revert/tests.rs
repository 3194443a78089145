use std::collections::BTreeSet;

use alloy_primitives::hex;

use super::*;

/// Selectors as they stand in the code of the deployed contracts.
const SELECTORS: &[(&str, u32)] = &[
    ("NotBatchPoster", 0x2dd9fc97),
    ("NotOrigin", 0xfeb3d071),
    ("NotCodelessOrigin", 0xc8958ead),
    ("BadSequencerNumber", 0xac7411c9),
    ("BadSequencerMessageNumber", 0xe2051feb),
    ("DelayedBackwards", 0x7d73e6fa),
    ("DelayedTooFar", 0x925f8bd3),
    ("DelayProofRequired", 0x0e5da8fb),
    ("InvalidDelayedAccPreimage", 0xc334542d),
    ("NotDelayBufferable", 0x8c959cc8),
    ("InvalidHeaderFlag", 0x6b333356),
    ("NoSuchKeyset", 0x00f20c5d),
    ("DataTooLarge", 0x4634691b),
    ("DataBlobsNotSupported", 0x86657a53),
    ("MissingDataHashes", 0x3cd27eb6),
    ("ExtraGasNotUint64", 0x04d55012),
    ("Deprecated", 0xc73b9d7c),
    ("AlreadyInit", 0xef34ca5c),
    ("HadZeroInit", 0x1ad0f743),
    ("NotForked", 0xa301bb06),
    ("NotSequencerInbox", 0x88f84f04),
    ("NotDelayedInbox", 0xb6c60ea3),
    ("NotOwner", 0x23295f0e),
    ("NotBatchPosterManager", 0x660b3b42),
    ("AlreadyValidDASKeyset", 0xfa2fddda),
    ("KeysetTooLarge", 0xb3d1f412),
];

/// A selector and as many words, 1, 2 and so on, as it has arguments at most.
fn data(selector: u32, words: usize) -> Vec<u8> {
    let mut data = selector.to_be_bytes().to_vec();
    (0..words).for_each(|word| data.extend(U256::from(word + 1).to_be_bytes::<32>()));
    data
}

#[test]
fn every_error_is_known_by_the_selector_of_the_real_contracts() {
    let mut seen = BTreeSet::new();
    for (name, selector) in SELECTORS {
        // As many arguments as it has, all zero.
        let zeros = |words: usize| [&selector.to_be_bytes()[..], &vec![0; 32 * words]].concat();
        let revert = (0..=2).map(|words| Revert::decode(&zeros(words)));
        let known: Vec<_> = revert.filter(|revert| !matches!(revert, Revert::Unknown(_))).collect();
        assert!(!known.is_empty(), "{name}");
        for revert in known {
            assert!(revert.to_string().starts_with(&format!("{name}(")), "{name}: {revert}");
            assert!(revert.advice().len() > 10 && !revert.advice().ends_with('.'));
        }
        seen.insert(*selector);
    }
    let declared: BTreeSet<u32> =
        Contracts::ContractsErrors::SELECTORS.iter().map(|selector| u32::from_be_bytes(*selector)).collect();
    assert_eq!(seen, declared);
}

#[test]
fn arguments_are_read_and_shown() {
    let (one, two) = (U256::from(1), U256::from(2));
    let number = Revert::decode(&data(0xac7411c9, 2));
    assert_eq!(number, Revert::BadSequencerNumber { stored: one, received: two });
    assert_eq!(number.to_string(), "BadSequencerNumber(stored 1, received 2)");
    let large = Revert::decode(&data(0x4634691b, 2));
    assert_eq!(large, Revert::DataTooLarge { data_length: one, max_data_length: two });
    let keyset = Revert::decode(&data(0x00f20c5d, 1));
    assert_eq!(keyset, Revert::NoSuchKeyset { keyset: B256::with_last_byte(1) });
    assert_eq!(keyset.to_string(), format!("NoSuchKeyset(keyset 0x{}1)", "0".repeat(63)));
    let flag = [&0x6b333356_u32.to_be_bytes()[..], &[0x51], &[0; 31]].concat();
    assert_eq!(Revert::decode(&flag).to_string(), "InvalidHeaderFlag(flag 0x51)");
    assert_eq!(Revert::decode(&data(0x2dd9fc97, 0)).to_string(), "NotBatchPoster()");
}

#[test]
fn texts_panics_and_what_is_unknown() {
    let text = "08c379a00000000000000000000000000000000000000000000000000000000000000020\
                00000000000000000000000000000000000000000000000000000000000000066e6f7420\
                796f000000000000000000000000000000000000000000000000000000000000";
    let text = hex::decode(&text[..2 * (4 + 96)]).unwrap();
    assert_eq!(Revert::decode(&text), Revert::Text("not yo".into()));
    assert_eq!(Revert::decode(&data(0x4e487b71, 1)), Revert::Panic(U256::ONE));
    assert_eq!(Revert::decode(&data(0x4e487b71, 1)).to_string(), "Panic(0x1)");
    assert_eq!(Revert::decode(&[]), Revert::Silent);
    let long = ErrorText { reason: "line\n".repeat(1000) }.abi_encode();
    let Revert::Text(shown) = Revert::decode(&long) else { panic!("a text") };
    assert!(shown.len() == 300 && !shown.contains('\n'));
    // A selector with too little behind it, one that nobody knows, and less than one.
    for data in [&text[..70], &data(0xac7411c9, 1), &data(0xdeadbeef, 3), &[0x2d, 0xd9]] {
        let revert = Revert::decode(data);
        assert_eq!(revert, Revert::Unknown(Bytes::copy_from_slice(data)));
        assert!(revert.to_string().len() < 200);
    }
}
