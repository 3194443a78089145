//! Shards and leaves of the erasure code, as a peer or a disk gives them.

use std::sync::LazyLock;

use bytes::Bytes;
use das_common::erasure::{CheckedShard, Code, Encoded, LEAF_BYTES, LeafProof, Shard, reconstruct};

/// What is encoded: more than one leaf for each shard.
static DATA: LazyLock<Vec<u8>> =
    LazyLock::new(|| (0..LEAF_BYTES * 7 + 5).map(|i| ((i * 31) >> 3) as u8).collect());
static CODE: LazyLock<Code> = LazyLock::new(|| Code::new(3, 6).expect("3 of 6"));
static ENCODED: LazyLock<Encoded> = LazyLock::new(|| CODE.encode(&DATA));

/// One byte for the kind (leaf or shard), one for the index, the leaf's position, the data's length, the number of
/// hashes, the hashes, the bytes.
fn write(kind: u8, index: u8, leaf: u64, length: u64, proof: &[[u8; 32]], bytes: &[u8]) -> Vec<u8> {
    let count = [proof.len() as u8];
    [&[kind, index][..], &leaf.to_be_bytes(), &length.to_be_bytes(), &count, &proof.concat(), bytes].concat()
}

pub(crate) fn shard_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for index in [0, 5] {
        let shard = ENCODED.shards[index].as_shard();
        seeds.push(write(0, shard.index, 0, shard.data_length, &shard.proof, &shard.bytes));
        let leaf = ENCODED.shards[index].prove_leaf(2).expect("a leaf of it");
        seeds.push(write(1, leaf.shard, leaf.leaf, leaf.data_length, &leaf.path, &leaf.bytes));
    }
    seeds
}

/// Whatever proves itself under the root is what was encoded.
pub(crate) fn shard(data: &[u8]) {
    let mut rest = data;
    let mut take = |count: usize| {
        let (head, tail) = rest.split_at(count.min(rest.len()));
        rest = tail;
        head.to_vec()
    };
    let head = take(2);
    let [kind, index] = head[..] else { return };
    let mut number = || {
        let mut bytes = take(8);
        bytes.resize(8, 0);
        u64::from_be_bytes(bytes.try_into().expect("8 bytes"))
    };
    let (leaf, data_length) = (number(), number());
    let count = take(1).first().copied().unwrap_or(0);
    let proof: Vec<[u8; 32]> = (0..count).map_while(|_| take(32).try_into().ok()).collect();
    let bytes = Bytes::copy_from_slice(rest);
    let root = ENCODED.root;
    if kind % 2 == 0 {
        let given = Shard { index, data_length, bytes, proof };
        if let Ok(checked) = given.check(&CODE, &root) {
            assert_eq!(checked.as_shard(), ENCODED.shards[usize::from(index)].as_shard());
            let others = ENCODED.shards.iter().filter(|shard| shard.index() != usize::from(index)).take(2);
            let three: Vec<CheckedShard> = others.cloned().chain([checked]).collect();
            assert_eq!(reconstruct(&three).as_deref(), Ok(&DATA[..]));
        }
    } else {
        let given = LeafProof { shard: index, leaf, data_length, bytes, path: proof };
        if given.check(&CODE, &root).is_ok() {
            assert_eq!(Ok(given), ENCODED.shards[usize::from(index)].prove_leaf(leaf));
        }
    }
}
