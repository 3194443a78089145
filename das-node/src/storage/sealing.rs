//! Payloads at rest, encrypted: which keys there are, and what a sealed payload is bound to.
//!
//! ```text
//! sealed payload    see [`das_keys::storage_key`]; as long as the payload and 40 bytes
//! associated data   "das payload at rest 1" | 16 bytes storage id | u32 key id | kind | 32-byte data hash | u64 length of the batch
//!   kind            1, a whole batch; 3, a shard, then: 32-byte coding id | 32-byte root | u8 shard index | u64 length of the shard
//! ```
//!
//! **Guarantee.** What opens is the payload that this store sealed under this name: a record that was put in another's place,
//! cut, or taken from another disk does not open. Whoever asked checks it against its hash all the same: that is what makes it
//! the batch.
//!
//! Nothing here hides how many batches there are, their names, lengths and times: the index and the headers of records have
//! these in the clear.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use das_common::data_hash::DataHash;
use das_keys::storage_key::{KeyId, OVERHEAD, StorageKey};
use thiserror::Error;

use super::segment::StorageId;
use super::segment::pack::ShardHead;

/// The key id of what is not encrypted.
pub const PLAIN: u32 = 0;

const DOMAIN: &[u8] = b"das payload at rest 1";
const WHOLE: u8 = 1;
const SHARD: u8 = 3;

/// The bytes that a payload of `length` bytes takes under this key.
pub fn stored_length(length: u64, key_id: u32) -> u64 {
    if key_id == PLAIN { length } else { length.saturating_add(OVERHEAD as u64) }
}

/// The length of the payload of which `stored` bytes are on disk. `None`: no payload takes so few.
pub fn payload_length(stored: u64, key_id: u32) -> Option<u64> {
    if key_id == PLAIN { Some(stored) } else { stored.checked_sub(OVERHEAD as u64) }
}

/// A key id as it is shown to people.
pub fn name_of(key_id: u32) -> String {
    KeyId::from_record(key_id).map_or_else(|| "plain".to_owned(), |id| id.to_string())
}

/// A record needs a key that was not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a payload is encrypted with the storage key {}, which was not given", name_of(*key_id))]
pub struct UnknownKey {
    /// Its id.
    pub key_id: u32,
}

/// Two keys that records could not tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("two different storage keys have the id {0}; make another one in place of the newer of both")]
pub struct SameId(pub KeyId);

/// The keys of a store: one that it encrypts with, or none, and those that it decrypts with.
#[derive(Debug, Clone, Default)]
pub struct Keyring {
    active: Option<Arc<StorageKey>>,
    all: BTreeMap<u32, Arc<StorageKey>>,
}

impl Keyring {
    /// Encrypts with `active` (`None`: not at all) and decrypts with any of both.
    pub fn new(
        active: Option<StorageKey>,
        former: impl IntoIterator<Item = StorageKey>,
    ) -> Result<Self, SameId> {
        let mut ring = Self { active: active.map(Arc::new), all: BTreeMap::new() };
        let former: Vec<_> = former.into_iter().map(Arc::new).collect();
        for key in ring.active.iter().chain(&former) {
            if let Some(other) = ring.all.insert(key.id().get(), Arc::clone(key))
                && other != *key
            {
                return Err(SameId(key.id()));
            }
        }
        Ok(ring)
    }

    /// The id of the key that it encrypts with; [`PLAIN`] if it does not.
    pub fn active_id(&self) -> u32 {
        self.active.as_ref().map_or(PLAIN, |key| key.id().get())
    }

    /// The ids of all keys.
    pub fn ids(&self) -> impl Iterator<Item = u32> + '_ {
        self.all.keys().copied()
    }

    /// Whether records of this key can be read.
    pub fn has(&self, key_id: u32) -> bool {
        key_id == PLAIN || self.all.contains_key(&key_id)
    }

    fn seal(&self, payload: &Bytes, associated: impl FnOnce(u32) -> Vec<u8>) -> (Bytes, u32) {
        match &self.active {
            None => (payload.clone(), PLAIN),
            Some(key) => {
                let id = key.id().get();
                (key.seal(&associated(id), payload).into(), id)
            }
        }
    }

    fn open(
        &self,
        key_id: u32,
        mut stored: Vec<u8>,
        associated: impl FnOnce(u32) -> Vec<u8>,
    ) -> Result<Option<Bytes>, UnknownKey> {
        if key_id == PLAIN {
            return Ok(Some(stored.into()));
        }
        let key = self.all.get(&key_id).ok_or(UnknownKey { key_id })?;
        let opened = key.open(&associated(key_id), &mut stored);
        Ok(opened.map(|range| Bytes::from(stored).slice(range)))
    }
}

/// A store's keys, and which store it is.
#[derive(Debug, Clone)]
pub struct Sealer {
    /// The keys.
    pub keys: Arc<Keyring>,
    /// The store.
    pub storage: StorageId,
}

impl Sealer {
    /// The payload of a whole batch as it is stored, and the id of its key.
    pub fn seal_batch(&self, hash: &DataHash, payload: &Bytes) -> (Bytes, u32) {
        self.keys.seal(payload, |id| self.of_batch(id, hash, payload.len() as u64))
    }

    /// The payload of what was stored. `None`: it is not what was sealed under this name.
    pub fn open_batch(
        &self,
        hash: &DataHash,
        key_id: u32,
        stored: Vec<u8>,
    ) -> Result<Option<Bytes>, UnknownKey> {
        let length = (stored.len() as u64).saturating_sub(OVERHEAD as u64);
        self.keys.open(key_id, stored, |id| self.of_batch(id, hash, length))
    }

    /// A shard as it is stored, and the id of its key. That of the head does not matter.
    pub fn seal_shard(&self, head: &ShardHead, shard: &Bytes) -> (Bytes, u32) {
        self.keys.seal(shard, |id| self.of_shard(id, head))
    }

    /// The shard of what was stored. `None`: it is not what was sealed under this head.
    pub fn open_shard(&self, head: &ShardHead, stored: Bytes) -> Result<Option<Bytes>, UnknownKey> {
        if head.key_id == PLAIN {
            return Ok(Some(stored));
        }
        self.keys.open(head.key_id, stored.into(), |id| self.of_shard(id, head))
    }

    fn of(&self, key_id: u32, kind: u8, hash: &DataHash, data_length: u64) -> Vec<u8> {
        let mut words = Vec::with_capacity(DOMAIN.len() + 16 + 4 + 1 + 32 + 8 + 32 + 32 + 1 + 8);
        words.extend_from_slice(DOMAIN);
        words.extend_from_slice(&self.storage);
        words.extend_from_slice(&key_id.to_be_bytes());
        words.push(kind);
        words.extend_from_slice(hash.as_bytes());
        words.extend_from_slice(&data_length.to_be_bytes());
        words
    }

    fn of_batch(&self, key_id: u32, hash: &DataHash, length: u64) -> Vec<u8> {
        self.of(key_id, WHOLE, hash, length)
    }

    fn of_shard(&self, key_id: u32, head: &ShardHead) -> Vec<u8> {
        let mut words = self.of(key_id, SHARD, &head.hash, head.data_length);
        words.extend_from_slice(head.coding.as_bytes());
        words.extend_from_slice(head.root.as_bytes());
        words.push(head.index);
        words.extend_from_slice(&head.length.to_be_bytes());
        words
    }
}
