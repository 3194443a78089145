//! Erasure coding with Merkle-proved shards.
//!
//! **Guarantee.** A [`CheckedShard`] is the shard of its index under its root: nothing makes one but encoding the data or
//! verifying a proof. Encoding is deterministic: the same bytes, k and n give the same shards and root on every
//! machine. Any k distinct shards of one root rebuild the data that was encoded; they are refused when they belong to
//! different roots. A root made by a liar may commit to shards that are no code word, and different k of them then rebuild
//! different bytes: whoever rebuilds compares the data hash, and [`Code::root_of`] tells whether the root was honest.
//!
//! # Shards
//!
//! Data of `len` bytes is cut into k data shards of `S = max(1, ceil(len / k))` bytes, filled up with zeroes:
//!
//! ```text
//! data      |------------- len -------------|0000|
//! shards    |--- S ---|--- S ---|--- ... ---| S  |      0 .. k-1: data, as it is
//!           |--- S ---|--- ... ---|                     k .. n-1: parity
//! ```
//!
//! Byte j of shard r is `p_j(r)`, where `p_j` is the polynomial of degree below k over GF(2^8) (modulo
//! x^8 + x^4 + x^3 + x^2 + 1) that takes the value of byte j of data shard i at i, for i = 0 .. k-1. So with k = 1 every
//! shard is the data itself, and with n = k there is no parity.
//!
//! # Root
//!
//! Each shard is cut into leaves of [`LEAF_BYTES`] (the last may be shorter); leaves are paired left to right, level by
//! level, an odd last node moves up unchanged; the roots of the n shards are paired in the same way:
//!
//! ```text
//! leaf   keccak256( 0x10 || bytes )
//! node   keccak256( 0x11 || left (32) || right (32) )
//! root   keccak256( 0x12 || u8 version || u8 k || u8 n || u64 len || top (32) )          (integers big-endian)
//!
//!                          root
//!                           |  k, n, len
//!                          top
//!                   .-------+-------.
//!                 node             node                 over shards: the proof of a shard
//!               .--+--.          .--+--.
//!          shard 0   shard 1   ...   shard n-1
//!            .-+-.                                      over the leaves of one shard: the rest of the proof of a leaf
//!         leaf  leaf ...
//! ```
//!
//! The shape of both trees follows from k, n and len, which the root fixes; a leaf cannot pass for a node. A contract can
//! check the proof of a leaf with a handful of hashes.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use reed_solomon_erasure::galois_8::ReedSolomon;

use crate::keyset::MAX_MEMBERS;

mod merkle;
mod shard;
mod stripes;
#[cfg(test)]
mod tests;

pub use shard::{CheckedShard, LeafProof, ReconstructError, Shard, ShardError, reconstruct};

/// The version of the code: in every root and every coding id.
pub const CODE_VERSION: u8 = 1;

/// The length of a leaf: small enough for a contract's calldata, large enough that proofs stay short.
pub const LEAF_BYTES: usize = 1024;

/// A k-of-n code, `1 <= k <= n <= 64`. Cheap to clone.
#[derive(Clone)]
pub struct Code {
    data_shards: u8,
    shards: u8,
    /// `None` when n = k: there is nothing to compute.
    parity: Option<Arc<ReedSolomon>>,
}

/// k or n is out of range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no code has {data_shards} data shards of {shards}: 1 <= k <= n <= {limit} must hold")]
pub struct CodeError {
    /// k as given.
    pub data_shards: u64,
    /// n as given.
    pub shards: u64,
    /// The most shards.
    pub limit: u64,
}

/// What a batch was encoded into: the root, and all n shards with their proofs.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// The root that all shards are proved under.
    pub root: Root,
    /// The shards, by index.
    pub shards: Vec<CheckedShard>,
}

/// Commits to every byte of every shard, k, n and the length of the data.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Root([u8; 32]);

impl Code {
    /// The code that rebuilds from any `data_shards` of `shards`.
    pub fn new(data_shards: u64, shards: u64) -> Result<Self, CodeError> {
        let limit = MAX_MEMBERS as u64;
        if data_shards < 1 || data_shards > shards || shards > limit {
            return Err(CodeError { data_shards, shards, limit });
        }
        let small = |number| u8::try_from(number).expect("k <= n <= MAX_MEMBERS, which fits a byte");
        let (k, n) = (small(data_shards), small(shards));
        let parity = (k < n).then(|| {
            let code = ReedSolomon::new(k.into(), (n - k).into());
            Arc::new(code.expect("1 <= k < n <= 64 lies within the limits of GF(2^8)"))
        });
        Ok(Self { data_shards: k, shards: n, parity })
    }

    /// k.
    pub fn data_shards(&self) -> usize {
        self.data_shards.into()
    }

    /// n.
    pub fn shards(&self) -> usize {
        self.shards.into()
    }

    /// The length of each shard of data of this length, in bytes.
    pub fn shard_length(&self, data_length: u64) -> u64 {
        data_length.div_ceil(self.data_shards.into()).max(1)
    }

    /// How many leaves each shard of data of this length has.
    pub fn leaves(&self, data_length: u64) -> u64 {
        self.shard_length(data_length).div_ceil(LEAF_BYTES as u64)
    }

    /// All shards of the data. Needs n / k times the data's memory; see [`Code::encode_one`] for less.
    pub fn encode(&self, data: &[u8]) -> Encoded {
        let length = self.length_of_shards_of(data);
        let mut shards: Vec<Vec<u8>> = (0..self.shards()).map(|_| Vec::with_capacity(length)).collect();
        let tree = stripes::for_each(self, data, |index, bytes| shards[index].extend_from_slice(bytes));
        let root = tree.root();
        let shards = shards.into_iter().enumerate();
        let shards = shards.map(|(index, bytes)| tree.checked_shard(index, bytes.into())).collect();
        Encoded { root, shards }
    }

    /// One shard of the data with its proof and the root. Memory: that shard and one stripe of each other, whatever the
    /// length of the data.
    ///
    /// # Panics
    /// When `index` is not below n.
    pub fn encode_one(&self, data: &[u8], index: usize) -> CheckedShard {
        assert!(index < self.shards(), "shard {index} of {}", self.shards);
        let mut shard = Vec::with_capacity(self.length_of_shards_of(data));
        let keep = |of, bytes: &[u8]| {
            if of == index {
                shard.extend_from_slice(bytes);
            }
        };
        let tree = stripes::for_each(self, data, keep);
        tree.checked_shard(index, Bytes::from(shard))
    }

    /// The root of the data, keeping no shard.
    pub fn root_of(&self, data: &[u8]) -> Root {
        stripes::for_each(self, data, |_, _| ()).root()
    }

    fn length_of_shards_of(&self, data: &[u8]) -> usize {
        data.len().div_ceil(self.data_shards()).max(1)
    }
}

impl PartialEq for Code {
    fn eq(&self, other: &Self) -> bool {
        (self.data_shards, self.shards) == (other.data_shards, other.shards)
    }
}

impl Eq for Code {}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Code({} of {})", self.data_shards, self.shards)
    }
}

impl Root {
    /// A root as somebody stated it.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&const_hex::encode(self.0))
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
