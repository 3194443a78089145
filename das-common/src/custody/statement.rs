//! Statements of custody: what a member signs about the shards on its disk.
//!
//! **Guarantee.** A [`VerifiedList`] was signed by the peer key it was verified with. It says nothing about whether the
//! member told the truth.
//!
//! ```text
//! signed bytes   "das custody statements" || body
//! body           u8 version || bincode( coding id, member index, storage id, counter, previous, issued at, entries )
//! entry          data hash, length, root, until
//! digest         keccak256( body )
//! ```
//!
//! One list is one number of its member's sequence: a storage id uses each counter for one body only.

use std::fmt;
use std::sync::Arc;

use bincode::{Decode, Encode};
use ring::signature::{ED25519, UnparsedPublicKey};
use thiserror::Error;

use super::codec::{self, CodecError};
use crate::committee::CodingId;
use crate::data_hash::DataHash;
use crate::erasure::Root;
use crate::keccak::keccak256;
use crate::keyset::MAX_MEMBERS;

/// Most entries of a list.
pub const MAX_ENTRIES: usize = 4096;
/// Most bytes of a list's body, and of what it takes in memory.
pub const MAX_LIST_BYTES: usize = 512 << 10;

const DOMAIN: &[u8] = b"das custody statements";

/// Names a database: born with it, never given to another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct StorageId(pub [u8; 16]);

/// "I hold my shard of this batch on disk until then."
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Statement {
    /// The batch.
    pub hash: DataHash,
    /// Its length in bytes.
    pub length: u64,
    /// The root of its shards under the list's coding.
    pub root: Root,
    /// Unix seconds; [`FOR_EVER`](super::FOR_EVER) is without an end.
    pub until: u64,
}

/// What a member states at once.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct StatementList {
    /// The coding of all entries.
    pub coding: CodingId,
    /// The member's index in that coding's committee, which is its shard's index.
    pub member: u8,
    /// The member's database.
    pub storage_id: StorageId,
    /// From 1; rises by one with every list of the storage id, whatever the coding.
    pub counter: u64,
    /// The digest of the list before it; zeroes in the first. So a member that was rolled back and counts the same numbers
    /// again is found out by whoever has one of the lists of that number.
    pub previous: [u8; 32],
    /// Unix seconds.
    pub issued_at: u64,
    /// The statements.
    pub entries: Vec<Statement>,
}

/// A list as it travels and as it is stored: nothing about it is known to be true.
#[derive(Clone, PartialEq, Eq, Encode, Decode)]
pub struct SignedList {
    /// The list's bytes.
    pub body: Vec<u8>,
    /// Ed25519 over the domain and the body.
    pub signature: [u8; 64],
}

/// A list whose signature was checked. Cheap to clone.
#[derive(Clone, Debug)]
pub struct VerifiedList(Arc<Verified>);

#[derive(Debug)]
struct Verified {
    list: StatementList,
    signed: SignedList,
    digest: [u8; 32],
}

/// The Ed25519 key of a member's peer identity.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct PeerPublicKey(pub [u8; 32]);

/// What is no list of a member.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ListError {
    /// The bytes.
    #[error("the list is {0}")]
    Codec(#[from] CodecError),
    /// Too many entries, or none.
    #[error("a list of {got} statements; 1 to {MAX_ENTRIES} are allowed")]
    Entries {
        /// How many.
        got: usize,
    },
    /// No committee has such a member.
    #[error("member {got} of at most {MAX_MEMBERS}")]
    Member {
        /// The index.
        got: u8,
    },
    /// Counters begin at 1.
    #[error("counter 0")]
    Counter,
    /// The signature.
    #[error("not signed by this peer key")]
    Signature,
}

/// Signs lists with the member's own peer key.
pub trait SignLists: Send + Sync {
    /// The signed list. Takes microseconds; the machine calls it in its own thread.
    fn sign(&self, list: StatementList) -> VerifiedList;

    /// Whether the own key signed this.
    fn is_own(&self, signed: &SignedList) -> bool;
}

impl StatementList {
    /// The list's bytes.
    pub fn to_body(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// A storage id's birth: a list of counter 0 without entries, which is never taken for one that states something.
    pub fn birth(storage_id: StorageId, issued_at: u64) -> Self {
        let coding = CodingId::from_bytes([0; 32]);
        Self { coding, member: 0, storage_id, counter: 0, previous: [0; 32], issued_at, entries: Vec::new() }
    }

    /// Signs it; `sign` is Ed25519 by the member's peer key over the bytes it is given.
    pub fn sign_with(self, sign: impl FnOnce(&[u8]) -> [u8; 64]) -> VerifiedList {
        let body = self.to_body();
        let signature = sign(&signed_bytes(&body));
        let digest = keccak256(&body);
        VerifiedList(Arc::new(Verified { list: self, signed: SignedList { body, signature }, digest }))
    }
}

impl SignedList {
    /// Whether this key signed it, whatever it says.
    pub fn is_signed_by(&self, key: &PeerPublicKey) -> bool {
        verify_signature(key, &signed_bytes(&self.body), &self.signature).is_some()
    }

    /// Whether it says that this storage id was taken.
    pub fn is_birth_of(&self, storage_id: &StorageId) -> bool {
        let list = codec::decode::<StatementList, MAX_LIST_BYTES>(&self.body);
        list.is_ok_and(|list| list.counter == 0 && list.entries.is_empty() && list.storage_id == *storage_id)
    }

    /// Checks form and signature.
    pub fn verify(self, key: &PeerPublicKey) -> Result<VerifiedList, ListError> {
        let list = self.read()?;
        verify_signature(key, &signed_bytes(&self.body), &self.signature).ok_or(ListError::Signature)?;
        Ok(self.into_verified(list))
    }

    /// What the list says. Nobody may have said so.
    pub fn read(&self) -> Result<StatementList, ListError> {
        let list: StatementList = codec::decode::<_, MAX_LIST_BYTES>(&self.body)?;
        if list.entries.is_empty() || list.entries.len() > MAX_ENTRIES {
            return Err(ListError::Entries { got: list.entries.len() });
        }
        if usize::from(list.member) >= MAX_MEMBERS {
            return Err(ListError::Member { got: list.member });
        }
        if list.counter == 0 {
            return Err(ListError::Counter);
        }
        Ok(list)
    }

    /// A list that was verified before it was written to the own disk.
    pub fn trust_own_disk(self) -> Result<VerifiedList, ListError> {
        let list = self.read()?;
        Ok(self.into_verified(list))
    }

    fn into_verified(self, list: StatementList) -> VerifiedList {
        let digest = keccak256(&self.body);
        VerifiedList(Arc::new(Verified { list, signed: self, digest }))
    }
}

impl VerifiedList {
    /// What it says.
    pub fn list(&self) -> &StatementList {
        &self.0.list
    }

    /// As it travels.
    pub fn signed(&self) -> &SignedList {
        &self.0.signed
    }

    /// Keccak-256 of the body.
    pub fn digest(&self) -> &[u8; 32] {
        &self.0.digest
    }

    /// When the last of its statements ends.
    pub fn until(&self) -> u64 {
        self.0.list.entries.iter().map(|entry| entry.until).max().unwrap_or(0)
    }
}

pub(super) fn verify_signature(key: &PeerPublicKey, bytes: &[u8], signature: &[u8; 64]) -> Option<()> {
    UnparsedPublicKey::new(&ED25519, key.0).verify(bytes, signature).ok()
}

fn signed_bytes(body: &[u8]) -> Vec<u8> {
    [DOMAIN, body].concat()
}

impl fmt::Debug for StorageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&const_hex::encode(&self.0[..4]))
    }
}

impl fmt::Debug for PeerPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&const_hex::encode(self.0))
    }
}

impl fmt::Debug for SignedList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignedList({} bytes)", self.body.len())
    }
}
