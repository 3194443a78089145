//! Shards and leaves with their proofs.

use bytes::Bytes;

use super::merkle::{self, Accumulator, Hash, ShardTree};
use super::{Code, LEAF_BYTES, Root, stripes};

/// A shard as it travels and as it is stored: nothing about it is known to be true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which shard: the member's index in the committee.
    pub index: u8,
    /// The length of the data that was encoded, in bytes.
    pub data_length: u64,
    /// The shard itself.
    pub bytes: Bytes,
    /// The neighbours between the shard's top and the top of all shards, lowest first.
    pub proof: Vec<[u8; 32]>,
}

/// A shard that was proved to be the one of its index under its root.
#[derive(Clone, Debug)]
pub struct CheckedShard {
    code: Code,
    root: Root,
    shard: Shard,
}

/// One leaf of a shard and its proof: the answer to an audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafProof {
    /// Which shard.
    pub shard: u8,
    /// Which leaf of it.
    pub leaf: u64,
    /// The length of the data that was encoded, in bytes.
    pub data_length: u64,
    /// The leaf itself.
    pub bytes: Bytes,
    /// The neighbours between the leaf and the shard's top, then those up to the top of all shards.
    pub path: Vec<[u8; 32]>,
}

/// A shard or leaf does not prove what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShardError {
    /// There is no such shard.
    #[error("shard {got} of {shards}")]
    Index {
        /// The index given.
        got: u8,
        /// n.
        shards: u8,
    },
    /// There is no such leaf.
    #[error("leaf {got} of {leaves}")]
    Leaf {
        /// The position given.
        got: u64,
        /// How many leaves each shard has.
        leaves: u64,
    },
    /// The shard or leaf has not the length that follows from the data's.
    #[error("{got} bytes long, expected {expected} for data of {data_length}")]
    Length {
        /// The length of the bytes given.
        got: u64,
        /// The length they must have.
        expected: u64,
        /// The length stated for the data.
        data_length: u64,
    },
    /// The proof has too few or too many hashes.
    #[error("a proof of {got} hashes, expected {expected}")]
    ProofLength {
        /// How many hashes were given.
        got: usize,
        /// How many the tree's shape demands.
        expected: usize,
    },
    /// The proof leads to another root.
    #[error("proved under root {got}, expected {expected}")]
    Root {
        /// The root that the proof leads to.
        got: Root,
        /// The root asked for.
        expected: Root,
    },
}

/// Shards that do not rebuild anything together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReconstructError {
    /// Fewer than k distinct shards.
    #[error("{got} distinct shards, {expected} rebuild the data")]
    TooFew {
        /// How many distinct shards there are.
        got: usize,
        /// k; 1 if there is no shard at all to tell.
        expected: usize,
    },
    /// Shards of different data, or of different codes.
    #[error("shards of different roots: {got} beside {expected}")]
    DifferentRoots {
        /// The root of a later shard.
        got: Root,
        /// The root of the first.
        expected: Root,
    },
}

impl Shard {
    /// Checks that this is the shard of its index under the root. Costs one hash of the shard, and only after its length
    /// and the proof's were found right.
    pub fn check(self, code: &Code, root: &Root) -> Result<CheckedShard, ShardError> {
        let checked = self.prove(code)?;
        let (got, expected) = (checked.root, *root);
        if got == expected { Ok(checked) } else { Err(ShardError::Root { got, expected }) }
    }

    /// Finds the root that this is the shard of its index under. Whose root that is, nobody knows yet: every liar can
    /// make one. Costs what [`Shard::check`] costs.
    pub fn prove(self, code: &Code) -> Result<CheckedShard, ShardError> {
        check_index(code, self.index)?;
        check_length(self.bytes.len(), code.shard_length(self.data_length), self.data_length)?;
        check_proof_length(self.proof.len(), merkle::path_length(self.index.into(), code.shards.into()))?;
        let mut tree = Accumulator::default();
        tree.push_bytes(&self.bytes);
        let root = root_above(code, self.index, self.data_length, tree.top(), &self.proof);
        Ok(CheckedShard { code: code.clone(), root, shard: self })
    }
}

impl CheckedShard {
    /// The root that it was proved under.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The code that it belongs to.
    pub fn code(&self) -> &Code {
        &self.code
    }

    /// Which shard it is.
    pub fn index(&self) -> usize {
        self.shard.index.into()
    }

    /// The length of the data that was encoded.
    pub fn data_length(&self) -> u64 {
        self.shard.data_length
    }

    /// The shard's own bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.shard.bytes
    }

    /// The shard with its proof, as it travels.
    pub fn as_shard(&self) -> &Shard {
        &self.shard
    }

    /// The shard with its proof, as it travels.
    pub fn into_shard(self) -> Shard {
        self.shard
    }

    /// Proves one leaf. Hashes the whole shard.
    pub fn prove_leaf(&self, leaf: u64) -> Result<LeafProof, ShardError> {
        let leaves = self.code.leaves(self.shard.data_length);
        check_leaf(leaf, leaves)?;
        let position = usize::try_from(leaf).expect("the shard is in memory, so its leaves can be counted");
        let hashes: Vec<Hash> = merkle::leaves(&self.shard.bytes);
        let mut path = merkle::path(&hashes, position);
        path.extend_from_slice(&self.shard.proof);
        let start = position * LEAF_BYTES;
        let end = self.shard.bytes.len().min(start + LEAF_BYTES);
        Ok(LeafProof {
            shard: self.shard.index,
            leaf,
            data_length: self.shard.data_length,
            bytes: self.shard.bytes.slice(start..end),
            path,
        })
    }
}

impl LeafProof {
    /// Checks that this is the leaf of its shard and position under the root.
    pub fn check(&self, code: &Code, root: &Root) -> Result<(), ShardError> {
        check_index(code, self.shard)?;
        let leaves = code.leaves(self.data_length);
        check_leaf(self.leaf, leaves)?;
        let before = self.leaf * LEAF_BYTES as u64;
        let expected = (code.shard_length(self.data_length) - before).min(LEAF_BYTES as u64);
        check_length(self.bytes.len(), expected, self.data_length)?;
        let in_shard = merkle::path_length(self.leaf, leaves);
        let above = merkle::path_length(self.shard.into(), code.shards.into());
        check_proof_length(self.path.len(), in_shard + above)?;
        let (in_shard, above) = self.path.split_at(in_shard);
        let top = merkle::climb(merkle::leaf(&self.bytes), self.leaf, leaves, in_shard);
        let top = top.expect("the path was cut to the length that the tree's shape demands");
        let (got, expected) = (root_above(code, self.shard, self.data_length, top, above), *root);
        if got == expected { Ok(()) } else { Err(ShardError::Root { got, expected }) }
    }
}

impl ShardTree {
    /// A shard of the encoding that this tree is over.
    pub(super) fn checked_shard(&self, index: usize, bytes: Bytes) -> CheckedShard {
        let shard = Shard {
            index: u8::try_from(index).expect("index < n <= 64"),
            data_length: self.data_length,
            bytes,
            proof: merkle::path(&self.shard_tops, index),
        };
        CheckedShard { code: self.code.clone(), root: self.root(), shard }
    }
}

/// The data that k distinct shards of one root make; shards beyond k are not used. See the module's guarantee for what a
/// dishonest root can do.
pub fn reconstruct(shards: &[CheckedShard]) -> Result<Vec<u8>, ReconstructError> {
    let Some(first) = shards.first() else {
        return Err(ReconstructError::TooFew { got: 0, expected: 1 });
    };
    let mut distinct: Vec<(usize, &[u8])> = Vec::with_capacity(shards.len());
    for shard in shards {
        // The root fixes k, n and the data's length, so shards of one root agree in all of them.
        if shard.root != first.root {
            return Err(ReconstructError::DifferentRoots { got: shard.root, expected: first.root });
        }
        if distinct.iter().all(|(index, _)| *index != shard.index()) {
            distinct.push((shard.index(), shard.bytes()));
        }
    }
    let code = &first.code;
    if distinct.len() < code.data_shards() {
        return Err(ReconstructError::TooFew { got: distinct.len(), expected: code.data_shards() });
    }
    // Data shards are only copied, parity shards are computed with.
    distinct.sort_unstable_by_key(|(index, _)| *index);
    distinct.truncate(code.data_shards());
    let mut data = stripes::rebuild(code, &distinct);
    data.truncate(usize::try_from(first.data_length()).expect("k shards of this data are in memory"));
    Ok(data)
}

fn check_index(code: &Code, got: u8) -> Result<(), ShardError> {
    if got < code.shards { Ok(()) } else { Err(ShardError::Index { got, shards: code.shards }) }
}

fn check_leaf(got: u64, leaves: u64) -> Result<(), ShardError> {
    if got < leaves { Ok(()) } else { Err(ShardError::Leaf { got, leaves }) }
}

fn check_length(got: usize, expected: u64, data_length: u64) -> Result<(), ShardError> {
    let got = got as u64;
    if got == expected { Ok(()) } else { Err(ShardError::Length { got, expected, data_length }) }
}

fn check_proof_length(got: usize, expected: usize) -> Result<(), ShardError> {
    if got == expected { Ok(()) } else { Err(ShardError::ProofLength { got, expected }) }
}

/// The root over a shard's top; the proof must have the length that the tree's shape demands.
fn root_above(code: &Code, index: u8, data_length: u64, shard_top: Hash, proof: &[Hash]) -> Root {
    let top = merkle::climb(shard_top, index.into(), code.shards.into(), proof);
    merkle::root(code, data_length, &top.expect("the proof has the length that the tree's shape demands"))
}
