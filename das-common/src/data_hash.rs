//! The data hash (spec section 1): a tree over bins of 64 KiB.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::keccak::{Keccak, keccak256};

/// Bytes of a bin.
pub const BIN: usize = 65_536;

/// Names a batch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DataHash([u8; 32]);

/// What is no data hash.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error(
    "a data hash is 64 hex digits (with or without 0x), not {got} characters of which some may be no hex"
)]
pub struct ParseDataHashError {
    /// Characters given.
    pub got: usize,
}

impl fmt::Display for DataHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(const_hex::Buffer::<32>::new().format(&self.0))
    }
}

impl fmt::Debug for DataHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for DataHash {
    type Err = ParseDataHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut hash = [0; 32];
        let digits = text.strip_prefix("0x").unwrap_or(text);
        const_hex::check_raw(digits)
            .then(|| const_hex::decode_to_slice(digits, &mut hash).ok())
            .flatten()
            .map(|()| Self(hash))
            .ok_or(ParseDataHashError { got: text.len() })
    }
}

impl DataHash {
    /// The hash of a message.
    pub fn of(message: &[u8]) -> Self {
        Self::of_parts(&[message])
    }

    /// The hash of the concatenation of `parts`.
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        let mut hasher = DataHasher::new();
        parts.iter().for_each(|part| hasher.update(part));
        hasher.finish()
    }

    /// The name under which servers keep a message of this flat hash.
    pub fn of_flat(flat: [u8; 32]) -> Self {
        root(leaf(&flat))
    }

    /// Takes the bytes of a hash.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

fn leaf(bin: &[u8; 32]) -> [u8; 32] {
    let mut input = [0xfe; 33];
    input[1..].copy_from_slice(bin);
    keccak256(&input)
}

fn root(mut node: [u8; 32]) -> DataHash {
    node[0] ^= 0x80;
    DataHash(node)
}

type Node = ([u8; 32], u32);

fn node_input(left: &Node, right: &Node) -> [u8; 69] {
    let mut input = [0xff; 69];
    input[1..33].copy_from_slice(&left.0);
    input[33..65].copy_from_slice(&right.0);
    input[65..].copy_from_slice(&left.1.wrapping_add(right.1).to_be_bytes());
    input
}

fn fold(mut nodes: Vec<Node>, mut seen: impl FnMut([u8; 32], &[u8])) -> DataHash {
    while nodes.len() > 1 {
        nodes = nodes
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => {
                    let input = node_input(left, right);
                    let hash = keccak256(&input);
                    seen(hash, &input);
                    (hash, left.1.wrapping_add(right.1))
                }
                _ => pair[0],
            })
            .collect();
    }
    root(nodes[0].0)
}

/// The flat hash, as certificates of version 0 have it.
pub fn flat_hash(message: &[u8]) -> [u8; 32] {
    keccak256(message)
}

/// Computes a data hash from pieces.
#[derive(Default)]
pub struct DataHasher {
    bin: Keccak,
    filled: usize,
    leaves: Vec<Node>,
}

impl DataHasher {
    /// Starts with nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes more of the message.
    pub fn update(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            if self.filled == BIN {
                self.close_bin();
            }
            let (now, rest) = data.split_at(data.len().min(BIN - self.filled));
            self.bin.update(now);
            self.filled += now.len();
            data = rest;
        }
    }

    fn close_bin(&mut self) {
        let bin = std::mem::take(&mut self.bin).finish();
        let size = u32::try_from(std::mem::take(&mut self.filled)).expect("a bin is small");
        self.leaves.push((leaf(&bin), size));
    }

    /// The hash of everything taken.
    pub fn finish(mut self) -> DataHash {
        self.close_bin();
        fold(self.leaves, |_, _| {})
    }
}

/// Keccak hash to what was hashed.
pub type Preimages = BTreeMap<[u8; 32], Vec<u8>>;

/// Every input that was hashed on the way to a message's data hash.
pub fn preimages(message: &[u8]) -> Preimages {
    let mut all = Preimages::new();
    let bins: Vec<&[u8]> = if message.is_empty() { vec![&[]] } else { message.chunks(BIN).collect() };
    let mut leaves = Vec::new();
    for bin in bins {
        let flat = keccak256(bin);
        all.insert(flat, bin.to_vec());
        let hash = leaf(&flat);
        all.insert(hash, [&[0xfe], &flat[..]].concat());
        leaves.push((hash, u32::try_from(bin.len()).expect("a bin is small")));
    }
    fold(leaves, |hash, input| {
        all.insert(hash, input.to_vec());
    });
    all
}

/// Whether a message may stand for a hash: the tree hash, or the flat hash of a message that is no tree node.
pub fn is_valid_for(message: &[u8], hash: &DataHash) -> bool {
    DataHash::of(message) == *hash
        || message.first().is_some_and(|first| !matches!(first, 0xfe | 0xff)) && flat_hash(message) == hash.0
}
