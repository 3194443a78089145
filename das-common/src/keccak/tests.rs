use proptest::prelude::*;

use super::lanes::{in_lanes, one_by_one};
use super::*;

#[test]
fn known_answers() {
    let hex = |hash: [u8; 32]| const_hex::encode(hash);
    assert_eq!(hex(keccak256(b"")), "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470");
    assert_eq!(hex(keccak256(b"hello")), "1c8aff950685c2ed4bc3174f3472287b56d9517b9c948127319a09a7a36deac8");
}

/// The definition, slowly: the permutation by its loops over coordinates, constants from their shift register.
fn by_definition(message: &[u8]) -> [u8; 32] {
    let mut padded = message.to_vec();
    padded.push(1);
    padded.resize(padded.len().next_multiple_of(RATE), 0);
    *padded.last_mut().unwrap() |= 0x80;
    let mut a = [[0_u64; 5]; 5];
    for block in padded.chunks(RATE) {
        for (i, word) in block.chunks(8).enumerate() {
            a[i % 5][i / 5] ^= u64::from_le_bytes(word.try_into().unwrap());
        }
        permute_by_definition(&mut a);
    }
    let words = [a[0][0], a[1][0], a[2][0], a[3][0]];
    words.map(u64::to_le_bytes).concat().try_into().unwrap()
}

fn permute_by_definition(a: &mut [[u64; 5]; 5]) {
    let mut register = 1_u8;
    for _ in 0..24 {
        let c: [u64; 5] = std::array::from_fn(|x| a[x].iter().fold(0, |sum, word| sum ^ word));
        for x in 0..5 {
            a[x].iter_mut().for_each(|word| *word ^= c[(x + 4) % 5] ^ c[(x + 1) % 5].rotate_left(1));
        }
        let (mut x, mut y, mut moving) = (1, 0, a[1][0]);
        for t in 0..24 {
            (x, y) = (y, (2 * x + 3 * y) % 5);
            let distance = (t + 1) * (t + 2) / 2 % 64;
            (a[x][y], moving) = (moving.rotate_left(distance), a[x][y]);
        }
        for y in 0..5 {
            let row: [u64; 5] = std::array::from_fn(|x| a[x][y]);
            for (x, column) in a.iter_mut().enumerate() {
                column[y] = row[x] ^ (!row[(x + 1) % 5] & row[(x + 2) % 5]);
            }
        }
        for bit in 0..7 {
            if register & 1 == 1 {
                a[0][0] ^= 1 << ((1_u32 << bit) - 1);
            }
            register = register << 1 ^ if register & 0x80 == 0 { 0 } else { 0x71 };
        }
    }
}

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
        if let Some(absorb) = x86::four_short_lanes() {
            all.push(("four lanes with AVX-512", Box::new(move |inputs| in_lanes(inputs, absorb))));
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
    /// Inputs of any lengths in any number, in every implementation, against the definition.
    #[test]
    fn all_implementations_agree(lengths in prop::collection::vec(length(), 0..30), seed: u8) {
        let inputs: Vec<Vec<u8>> = lengths
            .iter()
            .enumerate()
            .map(|(n, length)| (0..*length).map(|i| (i as u8).wrapping_mul(31) ^ (n as u8) ^ seed).collect())
            .collect();
        let expected: Vec<[u8; 32]> = inputs.iter().map(|input| by_definition(input)).collect();
        let slices: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
        for (name, hash) in implementations() {
            prop_assert_eq!(&hash(&slices), &expected, "{}", name);
        }
    }

    /// It does not matter in which pieces an input comes.
    #[test]
    fn fed_in_pieces(input in prop::collection::vec(any::<u8>(), 0..900), piece in 1..300usize) {
        let mut keccak = Keccak::default();
        input.chunks(piece).for_each(|piece| keccak.update(piece));
        prop_assert_eq!(keccak.finish(), by_definition(&input));
    }
}
