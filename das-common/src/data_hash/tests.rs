use proptest::prelude::*;

use super::*;

/// The definition, word for word, with plain recursion.
fn naive(message: &[u8]) -> DataHash {
    fn tree(nodes: &[Node]) -> Node {
        if let [node] = nodes {
            return *node;
        }
        let next: Vec<Node> = nodes
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => {
                    let size = left.1 + right.1;
                    let input = [&[0xff], &left.0[..], &right.0[..], &size.to_be_bytes()].concat();
                    (keccak256(&input), size)
                }
                _ => pair[0],
            })
            .collect();
        tree(&next)
    }
    let bins: Vec<&[u8]> = if message.is_empty() { vec![message] } else { message.chunks(65_536).collect() };
    let leaf = |bin: &&[u8]| (keccak256(&[&[0xfe], &keccak256(bin)[..]].concat()), bin.len() as u32);
    let mut root = tree(&bins.iter().map(leaf).collect::<Vec<_>>()).0;
    root[0] ^= 0x80;
    DataHash(root)
}

fn message(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|i| (i as u8).wrapping_mul(37) ^ ((i >> 8) as u8) ^ seed).collect()
}

/// Lengths around the ends of bins.
fn length() -> impl Strategy<Value = usize> {
    (0..12usize, -2..3isize).prop_map(|(bins, off)| (bins * BIN).saturating_add_signed(off))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whole, in parts, and piece by piece: always what the definition says.
    #[test]
    fn agrees_with_the_definition(length in length(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5), seed: u8) {
        let message = message(length, seed);
        let expected = naive(&message);
        prop_assert_eq!(DataHash::of(&message), expected);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(length + 1)).collect();
        cuts.push(length);
        cuts.sort_unstable();
        let mut from = 0;
        let parts: Vec<&[u8]> = cuts.iter().map(|to| &message[std::mem::replace(&mut from, *to)..*to]).collect();
        prop_assert_eq!(DataHash::of_parts(&parts), expected);
        let mut hasher = DataHasher::new();
        parts.iter().for_each(|part| hasher.update(part));
        prop_assert_eq!(hasher.finish(), expected);
    }

    /// The preimages are complete, and nothing but what was hashed: the message can be put together from them.
    #[test]
    fn preimages_give_the_message_back(length in length()) {
        fn read(all: &Preimages, node: &[u8; 32], out: &mut Vec<u8>) {
            let input = &all[node];
            assert_eq!(keccak256(input), *node);
            let child = |at: usize| input[at..at + 32].try_into().unwrap();
            match input[0] {
                0xfe => out.extend_from_slice(&all[&child(1)]),
                0xff => {
                    read(all, &child(1), out);
                    read(all, &child(33), out);
                }
                first => panic!("a node that starts with {first:#x}"),
            }
        }
        let message = message(length, 1);
        let all = preimages(&message);
        let mut root = *DataHash::of(&message).as_bytes();
        root[0] ^= 0x80;
        let mut out = Vec::new();
        read(&all, &root, &mut out);
        prop_assert_eq!(out, message);
    }
}

#[test]
fn a_name_is_64_hex_digits() {
    let hash = DataHash::of(b"batch");
    assert_eq!(hash.to_string().parse(), Ok(hash));
    assert_eq!(format!("0x{hash}").parse(), Ok(hash));
    for wrong in [
        "",
        "0x",
        "0x0x",
        &hash.to_string()[1..],
        &format!("{hash}0"),
        &format!("0x0x{hash}"),
        &"g".repeat(64),
    ] {
        assert!(wrong.parse::<DataHash>().is_err(), "{wrong}");
    }
}
