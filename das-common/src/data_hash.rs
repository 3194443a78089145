//! The data hash (spec section 1): a tree over bins of 64 KiB.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::keccak::{keccak256, keccak256_many};

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

    /// The hash of the concatenation of `parts`. Only bins that more than one part falls into are copied.
    pub fn of_parts(parts: &[&[u8]]) -> Self {
        let mut bins = Bins::default();
        parts.iter().for_each(|part| bins.push(part));
        bins.finish(|bins| fold(leaves(bins), |_, _| {}))
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

fn leaf_input(bin: &[u8; 32]) -> [u8; 33] {
    let mut input = [0xfe; 33];
    input[1..].copy_from_slice(bin);
    input
}

fn leaf(bin: &[u8; 32]) -> [u8; 32] {
    keccak256(&leaf_input(bin))
}

/// The leaves of bins, hashed side by side.
fn leaves(bins: &[&[u8]]) -> Vec<Node> {
    let inputs: Vec<_> = keccak256_many(bins).iter().map(leaf_input).collect();
    let inputs: Vec<&[u8]> = inputs.iter().map(|input| input.as_slice()).collect();
    let size = |bin: &&[u8]| u32::try_from(bin.len()).expect("a bin is small");
    keccak256_many(&inputs).into_iter().zip(bins.iter().map(size)).collect()
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
        let (pairs, odd) = nodes.as_chunks::<2>();
        let inputs: Vec<_> = pairs.iter().map(|[left, right]| node_input(left, right)).collect();
        let slices: Vec<&[u8]> = inputs.iter().map(|input| input.as_slice()).collect();
        let hashes = keccak256_many(&slices);
        hashes.iter().zip(&slices).for_each(|(hash, input)| seen(*hash, input));
        let sizes = pairs.iter().map(|[left, right]| left.1.wrapping_add(right.1));
        nodes = hashes.into_iter().zip(sizes).chain(odd.iter().copied()).collect();
    }
    root(nodes[0].0)
}

/// A message cut into bins without copying more than the bins that straddle two pieces.
#[derive(Default)]
struct Bins<'a> {
    /// The bins, in order; those of `None` are in `copied`, in their order.
    whole: Vec<Option<&'a [u8]>>,
    copied: Vec<Vec<u8>>,
    /// The bin that is not full yet.
    open: Open<'a>,
}

#[derive(Default)]
enum Open<'a> {
    #[default]
    Nothing,
    Borrowed(&'a [u8]),
    Copied(Vec<u8>),
}

impl<'a> Bins<'a> {
    fn push(&mut self, mut part: &'a [u8]) {
        if part.is_empty() {
            return;
        }
        if let Some(mut open) = self.take_open() {
            let (now, rest) = part.split_at(part.len().min(BIN - open.len()));
            open.extend_from_slice(now);
            part = rest;
            if open.len() < BIN {
                self.open = Open::Copied(open);
                return;
            }
            self.whole.push(None);
            self.copied.push(open);
        }
        let (full, rest) = part.as_chunks::<BIN>();
        self.whole.extend(full.iter().map(|bin| Some(bin.as_slice())));
        if !rest.is_empty() {
            self.open = Open::Borrowed(rest);
        }
    }

    fn take_open(&mut self) -> Option<Vec<u8>> {
        match std::mem::take(&mut self.open) {
            Open::Nothing => None,
            Open::Borrowed(bytes) => {
                let mut open = Vec::with_capacity(BIN);
                open.extend_from_slice(bytes);
                Some(open)
            }
            Open::Copied(open) => Some(open),
        }
    }

    fn finish<T>(self, then: impl FnOnce(&[&[u8]]) -> T) -> T {
        let mut copied = self.copied.iter().map(Vec::as_slice);
        let mut bins: Vec<&[u8]> =
            self.whole.iter().filter_map(|bin| bin.or_else(|| copied.next())).collect();
        match &self.open {
            Open::Borrowed(bytes) => bins.push(bytes),
            Open::Copied(bytes) => bins.push(bytes),
            // An empty message is one empty bin.
            Open::Nothing if bins.is_empty() => bins.push(&[]),
            Open::Nothing => {}
        }
        then(&bins)
    }
}

/// The flat hash, as certificates of version 0 have it.
pub fn flat_hash(message: &[u8]) -> [u8; 32] {
    keccak256(message)
}

/// Computes a data hash from pieces, in memory for one bin and a hash for each bin there was.
#[derive(Default)]
pub struct DataHasher {
    /// The beginning of the bin that is not full yet.
    open: Vec<u8>,
    leaves: Vec<Node>,
}

impl DataHasher {
    /// Starts with nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes more of the message. Pieces of several bins are hashed side by side and not copied.
    pub fn update(&mut self, piece: &[u8]) {
        let missing = BIN - self.open.len();
        if piece.len() < missing {
            self.open.extend_from_slice(piece);
            return;
        }
        let (first, rest) = if self.open.is_empty() { piece.split_at(0) } else { piece.split_at(missing) };
        let (full, rest) = rest.as_chunks::<BIN>();
        self.open.extend_from_slice(first);
        let begun = (!self.open.is_empty()).then_some(self.open.as_slice());
        let bins: Vec<&[u8]> = begun.into_iter().chain(full.iter().map(|bin| bin.as_slice())).collect();
        self.leaves.extend(leaves(&bins));
        self.open.clear();
        self.open.extend_from_slice(rest);
    }

    /// The hash of everything taken.
    pub fn finish(mut self) -> DataHash {
        if !self.open.is_empty() || self.leaves.is_empty() {
            self.leaves.extend(leaves(&[&self.open]));
        }
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
    for (bin, flat) in bins.iter().zip(keccak256_many(&bins)) {
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

#[cfg(test)]
mod tests;
