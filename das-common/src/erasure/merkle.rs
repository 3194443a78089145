//! The two levels of Merkle trees under a root; the module above draws them.

use super::{CODE_VERSION, Code, LEAF_BYTES, Root};
use crate::keccak::{keccak256, keccak256_many};

pub(super) type Hash = [u8; 32];

const LEAF: u8 = 0x10;
const NODE: u8 = 0x11;
const ROOT: u8 = 0x12;

/// How many leaves are hashed at once: enough to fill the lanes of the widest registers a few times over, few enough
/// that they stay in a core's cache.
pub(super) const RUN: usize = 32;

pub(super) fn leaf(bytes: &[u8]) -> Hash {
    debug_assert!(bytes.len() <= LEAF_BYTES);
    let mut input = [LEAF; 1 + LEAF_BYTES];
    input[1..=bytes.len()].copy_from_slice(bytes);
    keccak256(&input[..=bytes.len()])
}

/// The leaves of these bytes, of which only the last may be shorter than [`LEAF_BYTES`].
pub(super) fn leaves(bytes: &[u8]) -> Vec<Hash> {
    let mut hashes = Vec::with_capacity(bytes.len().div_ceil(LEAF_BYTES));
    let mut inputs = [[LEAF; 1 + LEAF_BYTES]; RUN];
    for run in bytes.chunks(RUN * LEAF_BYTES) {
        let mut prefixed: [&[u8]; RUN] = [&[]; RUN];
        for ((bytes, input), prefixed) in run.chunks(LEAF_BYTES).zip(&mut inputs).zip(&mut prefixed) {
            input[1..=bytes.len()].copy_from_slice(bytes);
            *prefixed = &input[..=bytes.len()];
        }
        hashes.extend(keccak256_many(&prefixed[..run.len().div_ceil(LEAF_BYTES)]));
    }
    hashes
}

fn node_input(left: &Hash, right: &Hash) -> [u8; 65] {
    let mut input = [NODE; 65];
    input[1..33].copy_from_slice(left);
    input[33..].copy_from_slice(right);
    input
}

fn node(left: &Hash, right: &Hash) -> Hash {
    keccak256(&node_input(left, right))
}

pub(super) fn root(code: &Code, data_length: u64, top: &Hash) -> Root {
    let mut input = Vec::with_capacity(44);
    input.extend([ROOT, CODE_VERSION, code.data_shards, code.shards]);
    input.extend(data_length.to_be_bytes());
    input.extend(top);
    Root(keccak256(&input))
}

/// The hash of the level above: pairs, and an odd last node as it is.
fn level_above(level: &[Hash]) -> Vec<Hash> {
    let (pairs, odd) = level.as_chunks::<2>();
    let inputs: Vec<[u8; 65]> = pairs.iter().map(|[left, right]| node_input(left, right)).collect();
    let inputs: Vec<&[u8]> = inputs.iter().map(<[u8; 65]>::as_slice).collect();
    let mut above = keccak256_many(&inputs);
    above.extend_from_slice(odd);
    above
}

/// The top of the tree over these nodes (at least one).
pub(super) fn top(nodes: &[Hash]) -> Hash {
    let mut level = level_above(nodes);
    while level.len() > 1 {
        level = level_above(&level);
    }
    level[0]
}

/// The neighbours that lead from node `index` to the top, lowest first.
pub(super) fn path(nodes: &[Hash], mut index: usize) -> Vec<Hash> {
    let mut path = Vec::new();
    let mut level = nodes.to_vec();
    while level.len() > 1 {
        // The odd last node has no neighbour on its level.
        path.extend(level.get(index ^ 1));
        level = level_above(&level);
        index /= 2;
    }
    path
}

/// How long the path of node `index` of `count` is.
pub(super) fn path_length(mut index: u64, mut count: u64) -> usize {
    let mut length = 0;
    while count > 1 {
        length += usize::from(index ^ 1 < count);
        index /= 2;
        count = count.div_ceil(2);
    }
    length
}

/// The top that a path leads to; `None` if the path is not as long as the tree's shape demands.
pub(super) fn climb(mut hash: Hash, mut index: u64, mut count: u64, path: &[Hash]) -> Option<Hash> {
    let mut path = path.iter();
    while count > 1 {
        if index ^ 1 < count {
            let neighbour = path.next()?;
            hash = if index.is_multiple_of(2) { node(&hash, neighbour) } else { node(neighbour, &hash) };
        }
        index /= 2;
        count = count.div_ceil(2);
    }
    path.next().is_none().then_some(hash)
}

/// Collects the leaves of one tree and keeps one node per level, however many leaves there are.
///
/// `peaks` are the tops of complete subtrees, highest first; subtree heights are the set bits of `count`.
#[derive(Clone, Default)]
pub(super) struct Accumulator {
    count: u64,
    peaks: Vec<Hash>,
}

impl Accumulator {
    /// Hashes the leaves of these bytes and takes them up; only the last leaf of a tree may be short.
    pub(super) fn push_bytes(&mut self, bytes: &[u8]) {
        for run in bytes.chunks(RUN * LEAF_BYTES) {
            self.extend(&leaves(run));
        }
    }

    /// Takes up leaves. As many as make a complete subtree at this position become one node level by level, because
    /// the nodes of one level do not wait for each other and are hashed in lanes.
    fn extend(&mut self, mut leaves: &[Hash]) {
        while !leaves.is_empty() {
            let aligned = self.count.trailing_zeros();
            let height = leaves.len().ilog2().min(aligned);
            let (subtree, rest) = leaves.split_at(1 << height);
            let hash = if height == 0 { subtree[0] } else { top(subtree) };
            self.push(hash, height);
            leaves = rest;
        }
    }

    /// Takes up the top of a complete subtree of this height; the leaves before it must be a multiple of its own.
    fn push(&mut self, mut hash: Hash, height: u32) {
        for _ in 0..(self.count >> height).trailing_ones() {
            let left = self.peaks.pop().expect("there is a peak for every set bit of the count");
            hash = node(&left, &hash);
        }
        self.peaks.push(hash);
        self.count += 1 << height;
    }

    /// The top; there must have been a leaf.
    pub(super) fn top(mut self) -> Hash {
        let mut hash = self.peaks.pop().expect("a tree has at least one leaf");
        while let Some(left) = self.peaks.pop() {
            hash = node(&left, &hash);
        }
        hash
    }
}

/// The tree over all shards of one encoding.
pub(super) struct ShardTree {
    pub(super) code: Code,
    pub(super) data_length: u64,
    pub(super) shard_tops: Vec<Hash>,
}

impl ShardTree {
    pub(super) fn root(&self) -> Root {
        root(&self.code, self.data_length, &top(&self.shard_tops))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accumulator_and_every_path_lead_to_the_same_top() {
        for count in 1..=70_u64 {
            let nodes: Vec<Hash> = (0..count).map(|i| leaf(&i.to_be_bytes())).collect();
            let expected = top(&nodes);
            for piece in [1, 2, 3, 5, 8, 32, 64, 70] {
                let mut accumulator = Accumulator::default();
                nodes.chunks(piece).for_each(|nodes| accumulator.extend(nodes));
                assert_eq!(accumulator.top(), expected, "{count} leaves, {piece} at a time");
            }
            for index in 0..count {
                let i = usize::try_from(index).unwrap();
                let path = path(&nodes, i);
                assert_eq!(path.len(), path_length(index, count));
                assert_eq!(climb(nodes[i], index, count, &path), Some(expected));
                let longer = [path.as_slice(), &[expected]].concat();
                assert_eq!(climb(nodes[i], index, count, &longer), None);
                if let Some((_, shorter)) = path.split_first() {
                    assert_eq!(climb(nodes[i], index, count, shorter), None);
                    assert_ne!(climb(nodes[i], index ^ 1, count, &path), Some(expected));
                }
            }
        }
    }
}
