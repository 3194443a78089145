use alloy_primitives::{address, b256, hex};
use proptest::prelude::*;

use super::*;

/// A transaction of the main chain: a block builder (beaverbuild) pays the proposer's vault (Lido).
const MAINNET: &str = "02f872018307910d808507204d2cb1827d0094388c818ca8b9251b393131c08a736a67ccb19297880320d04823e2701c\
80c001a0cf024f4815304df2867a1a74e9d2707b6abda0337d2d54a4438d453f4160f190a07ac0e6b3bc9395b5b9c8b9e6d77204a236577a5b1846\
7b9175c01de4faa208d9";

fn key(byte: u8) -> SecretKey {
    SecretKey::from_byte_array([byte; 32]).unwrap()
}

fn example() -> Eip1559 {
    Eip1559 {
        chain_id: 31_337,
        nonce: 0,
        max_priority_fee_per_gas: 1,
        max_fee_per_gas: u128::from(u64::MAX) + 1,
        gas_limit: 100_000,
        to: Address::repeat_byte(7),
        value: U256::ZERO,
        data: Bytes::from_static(&[0x88; 100]),
    }
}

#[test]
fn a_transaction_of_the_main_chain_has_its_sender_and_hash() {
    let raw = hex::decode(MAINNET).unwrap();
    let parsed = Eip1559::parse_signed(&raw).unwrap();
    assert_eq!(parsed.sender, address!("95222290DD7278Aa3Ddd389Cc1E1d165CC4BAfe5"));
    assert_eq!(parsed.hash, b256!("86718885c4b4218c6af87d3d0b0d83e3cc465df2a05c048aa4db9f1a6f9de91f"));
    assert_eq!(
        parsed.transaction,
        Eip1559 {
            chain_id: 1,
            nonce: 0x7_910d,
            max_priority_fee_per_gas: 0,
            max_fee_per_gas: 0x7_204d_2cb1,
            gas_limit: 32_000,
            to: address!("388C818CA8B9251b393131C08a736A67ccB19297"),
            value: U256::from(0x0320_d048_23e2_701c_u64),
            data: Bytes::new(),
        }
    );
}

#[test]
fn what_is_not_exactly_a_signed_transaction_is_refused() {
    use TransactionError as E;
    let raw = hex::decode(MAINNET).unwrap();
    let refused = |raw: &[u8]| Eip1559::parse_signed(raw).unwrap_err();
    assert_eq!(refused(&[]), E::Empty);
    assert_eq!(refused(&[3, 0xc0]), E::Type { got: 3 });
    assert_eq!(refused(&raw[1..]), E::Type { got: 0 });
    let longer = [&raw[..], &[0, 0]].concat();
    assert_eq!(refused(&longer), E::Trailing { bytes: 2, after: "the end" });
    for length in 0..raw.len() {
        assert!(Eip1559::parse_signed(&raw[..length]).is_err(), "{length} bytes");
    }
    // The list's header is f8 72.
    let inner = |edit: &dyn Fn(&mut Vec<u8>)| {
        let mut fields = raw[3..].to_vec();
        edit(&mut fields);
        refused(&[&[TYPE, 0xf8, u8::try_from(fields.len()).unwrap()], &fields[..]].concat())
    };
    assert_eq!(inner(&|fields| fields.push(1)), E::Trailing { bytes: 1, after: "the field s" });
    let field_error = |error: E, name: &str| match error {
        E::Field { field, .. } => assert_eq!(field, name),
        error => panic!("{error}"),
    };
    // Chain id 1 with a leading zero; an empty receiver; numbers where the access list has to be.
    field_error(inner(&|fields| drop(fields.splice(0..1, [0x82, 0, 1]))), "chainId");
    let receiver = raw[3..].windows(2).position(|pair| pair == [0x94, 0x38]).unwrap();
    field_error(inner(&|fields| drop(fields.splice(receiver..receiver + 21, [0x80]))), "to");
    let access_list = raw.len() - 3 - 66 - 1 - 1;
    assert_eq!(raw[3 + access_list], 0xc0);
    field_error(inner(&|fields| fields[access_list] = 5), "accessList");
    assert_eq!(
        inner(&|fields| drop(fields.splice(access_list..=access_list, [0xc1, 0xc0]))),
        E::AccessList { bytes: 1 }
    );
    assert_eq!(inner(&|fields| fields[access_list + 1] = 2), E::Parity { got: 2 });
    // A signature that a stranger makes of the same transaction.
    let order = MAX_S * U256::from(2) + U256::ONE;
    let s = U256::from_be_slice(&raw[raw.len() - 32..]);
    let other = (order - s).to_be_bytes::<32>();
    let turned = inner(&|fields| {
        let at = fields.len() - 32;
        fields[access_list + 1] = 0x80;
        fields[at..].copy_from_slice(&other);
    });
    assert_eq!(turned, E::HighS);
    let zero_r = example().encode_signed(0, U256::ZERO, U256::ONE);
    assert_eq!(refused(&zero_r), E::Signature);
    let large_r = example().encode_signed(0, order, U256::ONE);
    assert_eq!(refused(&large_r), E::Signature);
    // The list's length in more bytes than it needs.
    let long_form = [&[TYPE, 0xf9, 0, 0x72], &raw[3..]].concat();
    assert!(matches!(refused(&long_form), E::Field { field: "list", .. }));
}

#[test]
fn a_changed_bit_changes_the_sender_or_is_refused() {
    let signed = example().sign(&key(5));
    let sender = address_of(&key(5).public_key(SECP256K1));
    for bit in 0..signed.raw.len() * 8 {
        let mut raw = signed.raw.to_vec();
        raw[bit / 8] ^= 1 << (bit % 8);
        assert!(Eip1559::parse_signed(&raw).map_or(true, |parsed| parsed.sender != sender), "bit {bit}");
    }
}

proptest! {
    #[test]
    fn what_is_signed_is_what_is_read(
        numbers: (u64, u64, u128, u128, u64),
        to: [u8; 20],
        value: [u8; 32],
        data in proptest::collection::vec(any::<u8>(), 0..300),
        byte in 1_u8..255,
    ) {
        let (chain_id, nonce, max_priority_fee_per_gas, max_fee_per_gas, gas_limit) = numbers;
        let transaction = Eip1559 {
            chain_id,
            nonce,
            max_priority_fee_per_gas,
            max_fee_per_gas,
            gas_limit,
            to: to.into(),
            value: U256::from_be_bytes(value),
            data: data.into(),
        };
        let signed = transaction.sign(&key(byte));
        let parsed = Eip1559::parse_signed(&signed.raw).unwrap();
        prop_assert_eq!(parsed.transaction, transaction);
        prop_assert_eq!(parsed.sender, address_of(&key(byte).public_key(SECP256K1)));
        prop_assert_eq!(parsed.hash, signed.hash);
    }

    #[test]
    fn no_bytes_make_parsing_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Eip1559::parse_signed(&[&[TYPE], &bytes[..]].concat());
        let _ = Eip1559::parse_signed(&bytes);
    }
}
