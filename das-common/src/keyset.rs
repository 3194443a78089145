//! Keysets (spec section 3): who signs, and how many of them are assumed honest.
//!
//! ```text
//! u64 assumed honest || u64 n || n * (u16 length || public key)
//! ```
//!
//! [`Keyset`] is one that we would publish; [`NitroKeyset`] is one as a reader of the chain has to take it.

use thiserror::Error;

use crate::bls::{NitroPublicKey, PublicKey, PublicKeyError};
use crate::data_hash::DataHash;

/// Most keys of a keyset: the signers mask has a bit for each.
pub const MAX_MEMBERS: usize = 64;
/// A keyset is shorter than this many bytes, so that its data hash is of one bin.
pub const MAX_BYTES: usize = 65_536;

/// What is no keyset.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum KeysetError {
    /// The bytes end early.
    #[error("the keyset ends after {got} bytes, in the middle of {part}")]
    Short {
        /// Bytes there are.
        got: usize,
        /// What they end in.
        part: &'static str,
    },
    /// Too many keys.
    #[error("the keyset has {got} keys; at most {MAX_MEMBERS} are possible")]
    TooManyKeys {
        /// Keys announced.
        got: u64,
    },
    /// A public key.
    #[error("key {index} of the keyset: {source}")]
    Key {
        /// Its place, from 0.
        index: usize,
        /// What is wrong.
        source: PublicKeyError,
    },
    /// An assumed-honest count that makes no sense.
    #[error("assumed honest is {got}; with {members} members it must be from 1 to {members}")]
    AssumedHonest {
        /// The count.
        got: u64,
        /// Members.
        members: usize,
    },
    /// One key twice.
    #[error("keys {first} and {second} of the keyset are the same")]
    RepeatedKey {
        /// One place, from 0.
        first: usize,
        /// The other.
        second: usize,
    },
    /// A key whose possession nobody proved: no node would read such a keyset.
    #[error("key {index} of the keyset has no proof of possession")]
    Unproved {
        /// Its place, from 0.
        index: usize,
    },
    /// Longer than can be published.
    #[error("the keyset is {got} bytes long; it must be shorter than {MAX_BYTES}")]
    TooLong {
        /// Bytes.
        got: usize,
    },
}

/// A keyset that we would publish: `1 <= assumed honest <= n <= 64`, every key proved, none twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keyset {
    assumed_honest: u64,
    keys: Vec<PublicKey>,
    bytes: Vec<u8>,
}

fn write(assumed_honest: u64, keys: impl ExactSizeIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&assumed_honest.to_be_bytes());
    out.extend_from_slice(&(keys.len() as u64).to_be_bytes());
    for key in keys {
        let length = u16::try_from(key.len()).expect("a serialized key has 193 or 289 bytes");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(&key);
    }
    out
}

impl Keyset {
    /// Puts a keyset together.
    pub fn new(assumed_honest: u64, keys: Vec<PublicKey>) -> Result<Self, KeysetError> {
        if keys.len() > MAX_MEMBERS {
            return Err(KeysetError::TooManyKeys { got: keys.len() as u64 });
        }
        if assumed_honest == 0 || assumed_honest > keys.len() as u64 {
            return Err(KeysetError::AssumedHonest { got: assumed_honest, members: keys.len() });
        }
        for (second, key) in keys.iter().enumerate() {
            if !key.has_proof() {
                return Err(KeysetError::Unproved { index: second });
            }
            if let Some(first) = keys[..second].iter().position(|other| other == key) {
                return Err(KeysetError::RepeatedKey { first, second });
            }
        }
        let bytes = write(assumed_honest, keys.iter().map(PublicKey::to_bytes));
        if bytes.len() >= MAX_BYTES {
            return Err(KeysetError::TooLong { got: bytes.len() });
        }
        Ok(Self { assumed_honest, keys, bytes })
    }

    /// The keyset of one member alone, as its own answers name it.
    ///
    /// # Panics
    /// When the key is without its proof of possession, which a member has of its own key.
    pub fn single(key: PublicKey) -> Self {
        Self::new(1, vec![key]).expect("one key with its proof, of which one is honest, is a keyset")
    }

    /// The bytes that are published.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.bytes.clone()
    }

    /// Names the keyset.
    pub fn hash(&self) -> DataHash {
        DataHash::of(&self.bytes)
    }

    /// The keys, in the order of their bits in the signers mask.
    pub fn keys(&self) -> &[PublicKey] {
        &self.keys
    }

    /// How many members are assumed honest.
    pub fn assumed_honest(&self) -> u64 {
        self.assumed_honest
    }

    /// Signatures that make a certificate.
    pub fn threshold(&self) -> usize {
        self.keys.len() + 1 - usize::try_from(self.assumed_honest).expect("at most 64")
    }
}

/// A keyset as Nitro's readers take it: any assumed-honest count, any points.
#[derive(Debug, Clone)]
pub struct NitroKeyset {
    assumed_honest: u64,
    keys: Vec<NitroPublicKey>,
}

impl NitroKeyset {
    /// Reads a keyset from the chain, whose bytes were named by their hash; proofs are verified. Bytes behind it are
    /// ignored.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeysetError> {
        Self::parse_from(bytes, false)
    }

    /// Reads a keyset; from a trusted source proofs may be missing and are not verified.
    pub fn parse_from(bytes: &[u8], trusted: bool) -> Result<Self, KeysetError> {
        let mut rest = bytes;
        let mut take = |count: usize, part: &'static str| {
            let (taken, left) =
                rest.split_at_checked(count).ok_or(KeysetError::Short { got: bytes.len(), part })?;
            rest = left;
            Ok::<_, KeysetError>(taken)
        };
        let number = |bytes: &[u8]| bytes.iter().fold(0, |sum: u64, byte| sum << 8 | u64::from(*byte));
        let assumed_honest = number(take(8, "the assumed-honest count")?);
        let count = number(take(8, "the number of keys")?);
        if count > MAX_MEMBERS as u64 {
            return Err(KeysetError::TooManyKeys { got: count });
        }
        let mut keys = Vec::new();
        for index in 0..usize::try_from(count).expect("at most 64") {
            let length = number(take(2, "the length of a key")?);
            let key = take(usize::try_from(length).expect("two bytes"), "a key")?;
            keys.push(
                NitroPublicKey::parse(key, trusted).map_err(|source| KeysetError::Key { index, source })?,
            );
        }
        Ok(Self { assumed_honest, keys })
    }

    /// The bytes, written anew.
    pub fn to_bytes(&self) -> Vec<u8> {
        write(self.assumed_honest, self.keys.iter().map(NitroPublicKey::to_bytes))
    }

    /// Names the keyset.
    pub fn hash(&self) -> DataHash {
        DataHash::of(&self.to_bytes())
    }

    /// How many members are assumed honest.
    pub fn assumed_honest(&self) -> u64 {
        self.assumed_honest
    }

    /// The keys, in the order of their bits in the signers mask.
    pub fn keys(&self) -> &[NitroPublicKey] {
        &self.keys
    }
}

impl From<&Keyset> for NitroKeyset {
    fn from(keyset: &Keyset) -> Self {
        Self::parse(&keyset.bytes).expect("a strict keyset is a lenient one")
    }
}

#[cfg(test)]
mod tests;
