//! The records of the index: a version byte, then bincode.

use bincode::{Decode, Encode};
use das_common::committee::CodingId;
use das_common::data_hash::DataHash;
use das_common::erasure::Root;

use super::IndexError;
use crate::storage::sealing::{PLAIN, stored_length};
use crate::storage::segment::{Hole, Place, pack};

const VERSION: u8 = 1;
/// [`BatchRecord`] may be without a payload since this version.
const BATCH_VERSION: u8 = 2;
/// [`ShardRecord`] may have a key since this version.
const SHARD_VERSION: u8 = 2;
/// No record of this release has a later version.
pub(super) const NEWEST_VERSION: u8 = BATCH_VERSION;
/// A longer record than this is not one of ours.
const RECORD_LIMIT: usize = 1 << 16;

/// What is known of a batch that is here, whole or as shards, or in the archive only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct BatchRecord {
    /// Segment and offset of the record with the whole batch; `None`: only shards are here, or, where there are none, it
    /// is in the archive only.
    pub payload: Option<(u64, u64)>,
    /// Bytes of the whole batch.
    pub length: u64,
    /// The latest time promised to anyone (unix seconds).
    pub timeout: u64,
    /// When it was first stored (unix seconds).
    pub stored_at: u64,
    /// The key that the payload is encrypted with; 0 is plain, or that there is no payload.
    pub key_id: u32,
    /// Segment and offset of the record that gave the latest timeout, if it came after the payload's.
    pub extension: Option<(u64, u64)>,
    /// How many shards of it are in `shards`.
    pub shards: u32,
}

/// Version 1 of [`BatchRecord`].
#[derive(Encode, Decode)]
struct WholeBatchRecord {
    segment: u64,
    offset: u64,
    length: u64,
    timeout: u64,
    stored_at: u64,
    key_id: u32,
    extension: Option<(u64, u64)>,
}

impl BatchRecord {
    /// Where the whole batch is.
    pub fn place(&self) -> Option<Place> {
        let length = stored_length(self.length, self.key_id);
        self.payload.map(|(segment, offset)| Place { segment, offset, length })
    }

    /// What is left when the whole copy is let go.
    pub fn without_payload(self) -> Self {
        Self { payload: None, key_id: PLAIN, ..self }
    }

    /// Whether it is in the archive only.
    pub fn is_archived(&self) -> bool {
        self.payload.is_none() && self.shards == 0
    }

    /// Where the record of the latest timeout is, if it has one of its own.
    pub fn extension_place(&self) -> Option<Place> {
        self.extension.map(|(segment, offset)| Place { segment, offset, length: 0 })
    }

    /// The records of the log that this entry needs, should it have to be found again, shards apart.
    pub fn records(&self) -> impl Iterator<Item = Place> + use<> {
        self.place().into_iter().chain(self.extension_place())
    }

    pub(crate) fn decode(family: &'static str, bytes: &[u8]) -> Result<Self, IndexError> {
        if bytes.first() == Some(&VERSION) {
            let old: WholeBatchRecord = decode(family, bytes)?;
            let WholeBatchRecord { segment, offset, length, timeout, stored_at, key_id, extension } = old;
            let payload = Some((segment, offset));
            return Ok(Self { payload, length, timeout, stored_at, key_id, extension, shards: 0 });
        }
        decode_version(BATCH_VERSION, family, bytes)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        encode_version(BATCH_VERSION, self)
    }

    #[cfg(test)]
    pub(crate) fn encode_as_version_1(&self) -> Vec<u8> {
        let (segment, offset) = self.payload.expect("version 1 knows whole batches only");
        let Self { length, timeout, stored_at, key_id, extension, .. } = *self;
        encode(&WholeBatchRecord { segment, offset, length, timeout, stored_at, key_id, extension })
    }
}

/// Where a shard is, and what it is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct ShardRecord {
    /// Segment id.
    pub segment: u64,
    /// Offset of the shard's record in the segment.
    pub offset: u64,
    /// Offset of the pack's record in the segment.
    pub pack: u64,
    /// Bytes of the shard itself.
    pub length: u64,
    /// Hashes in its proof.
    pub proof_hashes: u8,
    /// Which shard it is.
    pub index: u8,
    /// The root that it is proved under.
    pub root: [u8; 32],
    /// Bytes of the whole batch.
    pub data_length: u64,
    /// The timeout that its record in the log carries (unix seconds).
    pub timeout: u64,
    /// The key that it is encrypted with; 0 is plain.
    pub key_id: u32,
}

/// Version 1 of [`ShardRecord`]: what is plain is still written so.
#[derive(Encode, Decode)]
struct PlainShardRecord {
    segment: u64,
    offset: u64,
    pack: u64,
    length: u64,
    proof_hashes: u8,
    index: u8,
    root: [u8; 32],
    data_length: u64,
    timeout: u64,
}

impl ShardRecord {
    /// The bytes that it takes in its pack.
    pub fn disk_bytes(&self) -> u64 {
        pack::shard_record_size(self.proof_hashes, self.length, self.key_id)
    }

    pub(crate) fn decode(family: &'static str, bytes: &[u8]) -> Result<Self, IndexError> {
        if bytes.first() != Some(&VERSION) {
            return decode_version(SHARD_VERSION, family, bytes);
        }
        let plain: PlainShardRecord = decode(family, bytes)?;
        let PlainShardRecord {
            segment,
            offset,
            pack,
            length,
            proof_hashes,
            index,
            root,
            data_length,
            timeout,
        } = plain;
        let key_id = PLAIN;
        Ok(Self { segment, offset, pack, length, proof_hashes, index, root, data_length, timeout, key_id })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        if self.key_id != PLAIN {
            return encode_version(SHARD_VERSION, self);
        }
        let Self { segment, offset, pack, length, proof_hashes, index, root, data_length, timeout, .. } =
            *self;
        let plain = PlainShardRecord {
            segment,
            offset,
            pack,
            length,
            proof_hashes,
            index,
            root,
            data_length,
            timeout,
        };
        encode(&plain)
    }

    /// The bytes of the log that are free once it is gone.
    pub(crate) fn hole(&self) -> Hole {
        Hole { segment: self.segment, offset: self.offset, length: self.disk_bytes() }
    }

    /// The root that it is proved under.
    pub fn root(&self) -> Root {
        Root::from_bytes(self.root)
    }
}

/// A record of the log with many shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct PackRecord {
    /// Shards in it that the index names.
    pub live: u64,
    /// Bytes of the record on disk.
    pub disk_bytes: u64,
    /// Those of them that belong to no shard.
    pub overhead: u64,
}

/// How full a segment is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct SegmentRecord {
    /// Payloads, extensions and shards that an entry of the index needs.
    pub live_records: u64,
    /// Their bytes on disk.
    pub live_bytes: u64,
}

/// A position in the log of segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
pub struct LogEnd {
    /// Segment id.
    pub segment: u64,
    /// Offset of the first byte behind the last record.
    pub offset: u64,
}

/// What is held, by form. Changes with each change of the index, in the same step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Totals {
    /// Batches that are here whole, with or without shards.
    pub whole_batches: u64,
    /// Their bytes.
    pub whole_bytes: u64,
    /// Batches of which only shards are here.
    pub sharded_batches: u64,
    /// The bytes that these would take whole.
    pub payload_bytes_of_sharded: u64,
    /// All shards.
    pub shards: u64,
    /// Their bytes on disk, with proofs.
    pub shard_bytes: u64,
}

/// What is in the archive only. Changes with each change of the index, in the same step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Archived {
    /// Batches.
    pub batches: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Archived {
    /// Counts a batch if it is in the archive only, or no longer.
    pub(crate) fn count_batch(&mut self, record: &BatchRecord, more: bool) {
        if record.is_archived() {
            count(&mut self.batches, 1, more);
            count(&mut self.bytes, record.length, more);
        }
    }
}

/// What is encrypted with one key: whole batches by their bytes, shards by those on disk with their proofs, as in [`Totals`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct KeyUse {
    /// The key.
    pub key_id: u32,
    /// Whole batches and shards.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What stores and expiry note for the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Archiving {
    /// Every batch that is written whole is to be uploaded.
    pub uploads: bool,
    /// Every batch that expires is to be deleted there.
    pub deletes: bool,
}

impl Totals {
    /// Counts a batch, or no longer. What is in the archive only takes no room and counts in [`Archived`].
    pub(crate) fn count_batch(&mut self, record: &BatchRecord, more: bool) {
        if record.is_archived() {
            return;
        }
        let (batches, bytes) = match record.payload {
            Some(_) => (&mut self.whole_batches, &mut self.whole_bytes),
            None => (&mut self.sharded_batches, &mut self.payload_bytes_of_sharded),
        };
        count(batches, 1, more);
        count(bytes, record.length, more);
    }

    /// Counts a shard, or no longer.
    pub(crate) fn count_shard(&mut self, record: &ShardRecord, more: bool) {
        count(&mut self.shards, 1, more);
        count(&mut self.shard_bytes, record.disk_bytes(), more);
    }
}

/// Adds or takes away.
pub(crate) fn count(of: &mut u64, by: u64, more: bool) {
    *of = if more { of.saturating_add(by) } else { of.saturating_sub(by) };
}

fn encode_version(version: u8, record: &impl Encode) -> Vec<u8> {
    let mut out = vec![version];
    bincode::encode_into_std_write(record, &mut out, bincode::config::standard()).expect("writing to memory");
    out
}

fn decode_version<T: Decode<()>>(expected: u8, family: &'static str, bytes: &[u8]) -> Result<T, IndexError> {
    let damaged = || IndexError::Record { family, version: bytes.first().copied() };
    let (version, rest) = bytes.split_first().ok_or_else(damaged)?;
    if *version != expected {
        return Err(damaged());
    }
    let config = bincode::config::standard().with_limit::<RECORD_LIMIT>();
    match bincode::decode_from_slice(rest, config) {
        Ok((record, used)) if used == rest.len() => Ok(record),
        _ => Err(damaged()),
    }
}

pub(crate) fn encode(record: &impl Encode) -> Vec<u8> {
    encode_version(VERSION, record)
}

pub(crate) fn decode<T: Decode<()>>(family: &'static str, bytes: &[u8]) -> Result<T, IndexError> {
    decode_version(VERSION, family, bytes)
}

/// A time, then a data hash: entries in the order of time.
pub(super) fn time_key(time: u64, hash: &DataHash) -> [u8; 40] {
    let mut key = [0; 40];
    key[..8].copy_from_slice(&time.to_be_bytes());
    key[8..].copy_from_slice(hash.as_bytes());
    key
}

pub(super) fn split_time_key(family: &'static str, key: &[u8]) -> Result<(u64, DataHash), IndexError> {
    let damaged = || IndexError::Record { family, version: None };
    let (time, hash) = key.split_first_chunk::<8>().ok_or_else(damaged)?;
    Ok((u64::from_be_bytes(*time), DataHash::from_bytes(hash.try_into().map_err(|_| damaged())?)))
}

pub(super) fn shard_key(hash: &DataHash, coding: &CodingId) -> [u8; 64] {
    let mut key = [0; 64];
    key[..32].copy_from_slice(hash.as_bytes());
    key[32..].copy_from_slice(coding.as_bytes());
    key
}

/// Segment id, then offset.
pub(super) fn position_key(segment: u64, offset: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&segment.to_be_bytes());
    key[8..].copy_from_slice(&offset.to_be_bytes());
    key
}
