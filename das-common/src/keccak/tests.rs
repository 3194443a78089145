use proptest::prelude::*;

use super::lanes::{in_lanes, one_by_one};
use super::*;

#[test]
fn known_answers() {
    let hex = |hash: [u8; 32]| const_hex::encode(hash);
    assert_eq!(hex(keccak256(b"")), "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470");
    assert_eq!(hex(keccak256(b"hello")), "1c8aff950685c2ed4bc3174f3472287b56d9517b9c948127319a09a7a36deac8");
}

/// Hashes of several inputs.
type Implementation = Box<dyn Fn(&[&[u8]]) -> Vec<[u8; 32]>>;

/// Every implementation that this CPU has, by name.
fn implementations() -> Vec<(&'static str, Implementation)> {
    let mut all: Vec<(&str, Implementation)> =
        vec![("one by one", Box::new(one_by_one)), ("chosen", Box::new(keccak256_many))];
    #[cfg(target_arch = "x86_64")]
    {
        if let Some(absorb) = x86::eight_lanes() {
            all.push(("eight lanes", Box::new(move |inputs| in_lanes(inputs, absorb))));
        }
        if let Some(absorb) = x86::four_lanes() {
            all.push(("four lanes", Box::new(move |inputs| in_lanes(inputs, absorb))));
        }
    }
    all
}

/// Lengths around the ends of blocks, and some longer ones.
fn length() -> impl Strategy<Value = usize> {
    prop_oneof![0..3usize, 130..140usize, 268..276usize, 0..3000usize]
}

proptest! {
    /// Inputs of any lengths in any number, in every implementation, against one input fed byte by byte.
    #[test]
    fn all_implementations_agree(lengths in prop::collection::vec(length(), 0..30), seed: u8) {
        let inputs: Vec<Vec<u8>> = lengths
            .iter()
            .enumerate()
            .map(|(n, length)| (0..*length).map(|i| (i as u8).wrapping_mul(31) ^ (n as u8) ^ seed).collect())
            .collect();
        let expected: Vec<[u8; 32]> = inputs
            .iter()
            .map(|input| {
                let mut keccak = Keccak::default();
                input.iter().for_each(|byte| keccak.update(&[*byte]));
                keccak.finish()
            })
            .collect();
        let slices: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        for (name, hash) in implementations() {
            prop_assert_eq!(&hash(&slices), &expected, "{}", name);
        }
    }
}
