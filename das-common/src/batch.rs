//! A batch whose hash was checked.

use bytes::Bytes;
use thiserror::Error;

use crate::data_hash::{DataHash, flat_hash, is_valid_for};

/// Bytes together with the name they were checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedBatch {
    bytes: Bytes,
    hash: DataHash,
}

/// Bytes that do not have the name they were said to have.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("{length} bytes do not have the hash {expected}")]
pub struct WrongData {
    /// The name.
    pub expected: DataHash,
    /// How many bytes there are.
    pub length: usize,
}

impl VerifiedBatch {
    /// Hashes the bytes.
    pub fn new(bytes: Bytes) -> Self {
        let hash = DataHash::of(&bytes);
        Self { bytes, hash }
    }

    /// Takes bytes that have this name: the data hash, the flat hash, or the tree form of the flat hash.
    pub fn check(bytes: Bytes, hash: &DataHash) -> Result<Self, WrongData> {
        if is_valid_for(&bytes, hash) || DataHash::of_flat(flat_hash(&bytes)) == *hash {
            Ok(Self { bytes, hash: *hash })
        } else {
            Err(WrongData { expected: *hash, length: bytes.len() })
        }
    }

    /// Its name.
    pub fn hash(&self) -> DataHash {
        self.hash
    }

    /// The bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The bytes alone.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }
}
