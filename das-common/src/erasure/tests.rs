//! The code against an oracle that computes each byte from the definition in the module's documentation.

use proptest::prelude::*;

use super::stripes;
use super::*;

/// Multiplication in GF(2^8) modulo x^8 + x^4 + x^3 + x^2 + 1, bit by bit.
fn times(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b != 0 {
        if b & 1 == 1 {
            product ^= a;
        }
        a = (a << 1) ^ if a & 0x80 == 0 { 0 } else { 0x1d };
        b >>= 1;
    }
    product
}

fn inverse(a: u8) -> u8 {
    (1..=255).find(|b| times(a, *b) == 1).unwrap()
}

/// Lagrange's weights: the value at `at` of the polynomial of degree < k is the sum of these times its values at 0 .. k-1.
fn weights(k: u8, at: u8) -> Vec<u8> {
    (0..k)
        .map(|i| (0..k).filter(|j| *j != i).fold(1, |weight, j| times(weight, times(at ^ j, inverse(i ^ j)))))
        .collect()
}

fn oracle_shards(data: &[u8], k: u8, n: u8) -> Vec<Vec<u8>> {
    let length = data.len().div_ceil(k.into()).max(1);
    let mut padded = data.to_vec();
    padded.resize(length * usize::from(k), 0);
    let rows: Vec<&[u8]> = padded.chunks(length).collect();
    (0..n)
        .map(|r| {
            let weights = weights(k, r);
            (0..length).map(|j| (0..k.into()).fold(0, |sum, i| sum ^ times(weights[i], rows[i][j]))).collect()
        })
        .collect()
}

fn oracle_root(shards: &[Vec<u8>], k: u8, data_length: u64) -> [u8; 32] {
    fn hash(parts: &[&[u8]]) -> Vec<u8> {
        crate::keccak::keccak256(&parts.concat()).to_vec()
    }
    fn tree(nodes: &[Vec<u8>]) -> Vec<u8> {
        match nodes {
            [one] => one.clone(),
            _ => {
                // The left part is the largest power of two below the number of nodes.
                let (left, right) = nodes.split_at(nodes.len().next_power_of_two() / 2);
                hash(&[&[0x11], &tree(left), &tree(right)])
            }
        }
    }
    let tops: Vec<Vec<u8>> = shards
        .iter()
        .map(|shard| tree(&shard.chunks(LEAF_BYTES).map(|leaf| hash(&[&[0x10], leaf])).collect::<Vec<_>>()))
        .collect();
    let n = u8::try_from(shards.len()).unwrap();
    let header = [&[0x12, CODE_VERSION, k, n], data_length.to_be_bytes().as_slice()].concat();
    hash(&[&header, &tree(&tops)]).try_into().unwrap()
}

fn batch(length: usize, seed: u8) -> Vec<u8> {
    let mut state = u64::from(seed) + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

/// k and n, and the length of the data: short ones, ones about a leaf's and a stripe's end, and larger ones.
fn shapes() -> impl Strategy<Value = (u8, u8, usize)> {
    let length = prop_oneof![
        0_usize..200,
        (1_usize..4, 0_usize..4).prop_map(|(leaves, less)| leaves * LEAF_BYTES + 2 - less),
        (1_usize..3, 0_usize..4).prop_map(|(stripes, less)| stripes * 3 * 32 * LEAF_BYTES + 2 - less),
        0_usize..40_000,
    ];
    let kn = (1_u8..=64).prop_flat_map(|n| (1..=n, Just(n)));
    let small = (1_u8..=8).prop_flat_map(|n| (1..=n, Just(n)));
    (prop_oneof![small, kn], length).prop_map(|((k, n), length)| (k, n, length))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn shards_and_root_are_those_of_the_definition((k, n, length) in shapes(), seed: u8) {
        // The oracle multiplies bit by bit.
        let length = length.min(300_000 / usize::from(n));
        let data = batch(length, seed);
        let code = Code::new(k.into(), n.into()).unwrap();
        let encoded = code.encode(&data);
        let expected = oracle_shards(&data, k, n);
        for (shard, expected) in encoded.shards.iter().zip(&expected) {
            prop_assert_eq!(shard.bytes().as_ref(), expected.as_slice());
            prop_assert_eq!(shard.bytes().len() as u64, code.shard_length(data.len() as u64));
        }
        prop_assert_eq!(encoded.root.as_bytes(), &oracle_root(&expected, k, data.len() as u64));
    }

    #[test]
    fn any_k_shards_rebuild((k, n, length) in shapes(), seed: u8, pick: prop::sample::Index, extra in 0_usize..3) {
        let data = batch(length, seed);
        let code = Code::new(k.into(), n.into()).unwrap();
        let Encoded { root, shards } = code.encode(&data);
        prop_assert_eq!(code.root_of(&data), root);

        let mut order: Vec<usize> = (0..n.into()).collect();
        let mut state = pick.index(usize::MAX);
        for i in (1..order.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            order.swap(i, (state >> 33) % (i + 1));
        }
        // They travel: each is checked again by who receives it. One comes twice.
        let mut chosen: Vec<CheckedShard> = order[..(usize::from(k) + extra).min(n.into())]
            .iter()
            .map(|i| shards[*i].clone().into_shard().check(&code, &root).unwrap())
            .inspect(|shard| assert_eq!(shard.as_shard().clone().prove(&code).unwrap().root(), &root))
            .collect();
        chosen.push(chosen[0].clone());
        prop_assert_eq!(&reconstruct(&chosen).unwrap(), &data);

        let too_few: Vec<_> = order[1..k.into()].iter().map(|i| shards[*i].clone()).collect();
        let twice = [too_few.clone(), too_few].concat();
        assert!(matches!(reconstruct(&twice), Err(ReconstructError::TooFew { .. })));

        let one = code.encode_one(&data, order[0]);
        prop_assert_eq!(one.as_shard(), shards[order[0]].as_shard());
        prop_assert_eq!(one.root(), &root);
    }

    #[test]
    fn nothing_tampered_with_is_taken((k, n, length) in shapes(), seed: u8, at: prop::sample::Index, flip in 1_u8..) {
        let data = batch(length, seed);
        let code = Code::new(k.into(), n.into()).unwrap();
        let Encoded { root, shards } = code.encode(&data);
        let shard = shards[at.index(n.into())].as_shard();
        let refused = |change: &dyn Fn(&mut Shard)| {
            let mut changed = shard.clone();
            change(&mut changed);
            changed == *shard || changed.check(&code, &root).is_err()
        };
        let flipped = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            let position = at.index(bytes.len());
            bytes[position] ^= flip;
            bytes
        };
        assert!(refused(&|s| s.bytes = flipped(&s.bytes).into()));
        assert!(refused(&|s| s.bytes = s.bytes.slice(1..)));
        assert!(refused(&|s| s.bytes = [s.bytes.as_ref(), &[0]].concat().into()));
        assert!(refused(&|s| s.data_length += u64::from(flip)));
        assert!(refused(&|s| s.data_length = s.data_length.wrapping_sub(1)));
        assert!(refused(&|s| s.data_length = u64::MAX));
        assert!(refused(&|s| s.proof.push([flip; 32])));
        assert!(refused(&|s| s.proof.truncate(s.proof.len().saturating_sub(1))));
        assert!(refused(&|s| if let Some(hash) = s.proof.last_mut() { hash[7] ^= flip }));
        assert!(refused(&|s| s.index = n));
        assert!(refused(&|s| s.index = u8::MAX));
        // No shard passes for its neighbour, unless the two are the same bytes.
        let neighbour = shards.get(usize::from(shard.index ^ 1));
        if neighbour.is_some_and(|other| other.bytes() != &shard.bytes) {
            assert!(refused(&|s| s.index ^= 1));
        }
        // Another code or root.
        if n < 64 {
            let other = Code::new(k.into(), u64::from(n) + 1).unwrap();
            prop_assert!(shard.clone().check(&other, &root).is_err());
        }
        let mut other_root = *root.as_bytes();
        other_root[at.index(32)] ^= flip;
        prop_assert!(shard.clone().check(&code, &Root::from_bytes(other_root)).is_err());

        // The same for a leaf.
        let leaves = code.leaves(data.len() as u64);
        let leaf = at.index(usize::try_from(leaves).unwrap()) as u64;
        let proof = shards[usize::from(shard.index)].prove_leaf(leaf).unwrap();
        prop_assert_eq!(proof.check(&code, &root), Ok(()));
        let refused = |change: &dyn Fn(&mut LeafProof)| {
            let mut changed = proof.clone();
            change(&mut changed);
            changed == proof || changed.check(&code, &root).is_err()
        };
        assert!(refused(&|p| p.bytes = flipped(&p.bytes).into()));
        assert!(refused(&|p| p.bytes = p.bytes.slice(1..)));
        assert!(refused(&|p| p.leaf = leaves));
        assert!(refused(&|p| p.leaf = u64::MAX));
        assert!(refused(&|p| p.shard = n));
        assert!(refused(&|p| p.data_length = u64::MAX));
        assert!(refused(&|p| p.path.push([flip; 32])));
        assert!(refused(&|p| p.path.truncate(p.path.len().saturating_sub(1))));
        assert!(refused(&|p| if let Some(hash) = p.path.first_mut() { hash[0] ^= flip }));
        prop_assert!(shards[0].prove_leaf(leaves).is_err());
    }
}

#[test]
fn the_root_of_a_fixed_batch_never_changes() {
    let data: Vec<u8> = (0..100_000_u32).map(|i| (i * 7 + (i >> 8) * 13).to_le_bytes()[0]).collect();
    let root = |k, n, data| Code::new(k, n).unwrap().root_of(data).to_string();
    assert_eq!(root(3, 6, &data), GOLDEN_3_OF_6);
    assert_eq!(root(3, 6, &[]), GOLDEN_EMPTY);
}

const GOLDEN_3_OF_6: &str = "2591f0022d026c226646c5f8b99afd69a17b5c6000e80f4a661d0fed21a4a1c5";
const GOLDEN_EMPTY: &str = "1257bdc3e5ee38c764d1cea1db3b8116569a9d1a63b999f1acbec5b15151d1fc";

#[test]
fn trailing_zeroes_and_other_codes_give_other_roots() {
    let data = batch(5000, 1);
    let with_zero = [data.as_slice(), &[0]].concat();
    let mut roots: Vec<Root> = [(3, 6), (2, 6), (3, 5), (3, 3), (1, 1)]
        .into_iter()
        .flat_map(|(k, n)| {
            let code = Code::new(k, n).unwrap();
            [code.root_of(&data), code.root_of(&with_zero), code.root_of(&[]), code.root_of(&[0])]
        })
        .collect();
    let count = roots.len();
    roots.sort_unstable();
    roots.dedup();
    assert_eq!(roots.len(), count);
}

#[test]
fn shards_of_different_batches_rebuild_nothing() {
    let code = Code::new(2, 4).unwrap();
    let (one, other) = (code.encode(&batch(100, 1)), code.encode(&batch(100, 2)));
    let mixed = [one.shards[0].clone(), other.shards[1].clone()];
    let expected = ReconstructError::DifferentRoots { got: other.root, expected: one.root };
    assert_eq!(reconstruct(&mixed), Err(expected));
    assert_eq!(reconstruct(&[]), Err(ReconstructError::TooFew { got: 0, expected: 1 }));
}

/// What the module's guarantee says about liars: a root over shards that are no code word is found out by its rebuilder.
#[test]
fn a_dishonest_root_is_found_by_computing_the_root() {
    let code = Code::new(2, 3).unwrap();
    let honest = code.encode(&batch(100, 1));
    let mut bytes: Vec<Vec<u8>> = honest.shards.iter().map(|shard| shard.bytes().to_vec()).collect();
    bytes[2][0] ^= 1;
    let mut tree = stripes::for_each(&code, &batch(100, 1), |_, _| ());
    tree.shard_tops[2] = merkle::leaf(&bytes[2]);
    let lying: Vec<CheckedShard> = (0..3).map(|i| tree.checked_shard(i, bytes[i].clone().into())).collect();
    for shard in &lying {
        assert!(shard.as_shard().clone().check(&code, &tree.root()).is_ok());
    }
    let rebuilt = [reconstruct(&lying[..2]).unwrap(), reconstruct(&lying[1..]).unwrap()];
    assert_ne!(rebuilt[0], rebuilt[1]);
    assert!(rebuilt.iter().all(|data| code.root_of(data) != tree.root()));
}

#[test]
fn impossible_codes_are_refused() {
    for (k, n) in [(0, 0), (0, 1), (2, 1), (1, 65), (65, 65), (u64::MAX, u64::MAX), (1, u64::MAX)] {
        assert_eq!(Code::new(k, n), Err(CodeError { data_shards: k, shards: n, limit: 64 }));
    }
    assert!(Code::new(64, 64).is_ok() && Code::new(1, 64).is_ok() && Code::new(63, 64).is_ok());
}
