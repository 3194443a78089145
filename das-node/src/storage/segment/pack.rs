//! Packs: many shards in one record of the log.
//!
//! A record starts on a page of its own, which for shards of a few KB would cost as much as the shards. So they are
//! laid end to end, and only the pack is aligned.
//!
//! ```text
//! payload of a pack     table | shard record | shard record | ... (no gaps)
//! table                 u32 1 | u32 number of shards | u64 size of each shard's record
//!                       (the data hash in the pack's record header is keccak of the table)
//! shard record          head (160 bytes) | proof, 32 bytes each hash | shard
//!
//! head (integers big-endian)
//!   0  "DASH"               12  u32 zero            112  u64 length of the batch
//!   4  u8  version (1)      16  32-byte data hash   120  u64 length of the shard
//!   5  u8  shard index      48  32-byte coding id   128  u64 timeout, unix seconds
//!   6  u8  hashes of proof  80  32-byte root        136  u64 stored at, unix seconds
//!   7  u8  zero                                     144  16-byte check
//!   8  u32 key id (0 = plain)
//! ```
//!
//! The *check* is the start of `keccak(storage id || u64 segment id || the head before it || proof || keccak(shard))`: a
//! shard is whole or it is not, whatever became of its neighbours. Where the key id is not zero, the shard is encrypted, see
//! [`sealing`](crate::storage::sealing), each for itself; the check is of what is on disk and needs no key, the length in the
//! head is that of the shard in the clear.

use std::fs::File;
use std::io;

use bytes::Bytes;
use das_common::committee::CodingId;
use das_common::data_hash::DataHash;
use das_common::erasure::{Root, Shard};
use das_common::keccak::keccak256;

use super::{RECORD_HEADER, StorageId, read_exactly};
use crate::storage::sealing::stored_length;

/// The most shards of one pack.
pub const MAX_SHARDS: usize = 4096;
const HEAD: usize = 160;
const CHECKED: usize = 144;
const MAGIC: &[u8; 4] = b"DASH";
const VERSION: u8 = 1;
const TABLE_VERSION: u32 = 1;
/// The longest proof: the shards of a code are at most 64.
const MAX_PROOF: u8 = 6;

/// The bytes that a shard takes in its pack.
pub fn shard_record_size(proof_hashes: u8, length: u64, key_id: u32) -> u64 {
    (HEAD as u64 + 32 * u64::from(proof_hashes)).saturating_add(stored_length(length, key_id))
}

/// The bytes of the table of so many shards.
pub fn table_size(shards: usize) -> u64 {
    8 + 8 * shards as u64
}

/// What the head of a shard record says, apart from the shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardHead {
    /// The batch.
    pub hash: DataHash,
    /// How it was cut into shards.
    pub coding: CodingId,
    /// The root that the shard is proved under.
    pub root: Root,
    /// Bytes of the whole batch.
    pub data_length: u64,
    /// The batch is promised until then (unix seconds).
    pub timeout: u64,
    /// When the batch was stored (unix seconds).
    pub stored_at: u64,
    /// Which shard.
    pub index: u8,
    /// Hashes in the proof.
    pub proof_hashes: u8,
    /// Bytes of the shard, in the clear.
    pub length: u64,
    /// The key that it is encrypted with; 0 is plain.
    pub key_id: u32,
}

/// A shard to be packed.
#[derive(Debug, Clone)]
pub struct PackedShard {
    /// What it is of.
    pub head: ShardHead,
    /// The proof, lowest neighbour first.
    pub proof: Vec<[u8; 32]>,
    /// The shard as it is stored.
    pub bytes: Bytes,
}

/// Where the record of a shard is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundShard {
    /// What it is of.
    pub head: ShardHead,
    /// Offset of its record in the segment.
    pub offset: u64,
}

fn check(storage: &StorageId, segment: u64, head: &[u8], proof: &[u8], bytes: &[u8]) -> [u8; 16] {
    let mut input = Vec::with_capacity(16 + 8 + CHECKED + proof.len() + 32);
    input.extend_from_slice(storage);
    input.extend_from_slice(&segment.to_be_bytes());
    input.extend_from_slice(head);
    input.extend_from_slice(proof);
    input.extend_from_slice(&keccak256(bytes));
    let mut out = [0; 16];
    out.copy_from_slice(&keccak256(&input)[..16]);
    out
}

impl PackedShard {
    /// The bytes that it takes in its pack.
    pub fn disk_bytes(&self) -> u64 {
        shard_record_size(self.head.proof_hashes, self.head.length, self.head.key_id)
    }

    /// Head and proof.
    fn encode(&self, storage: &StorageId, segment: u64) -> Vec<u8> {
        let head = &self.head;
        let mut out = vec![0; HEAD];
        out[0..4].copy_from_slice(MAGIC);
        out[4..7].copy_from_slice(&[VERSION, head.index, head.proof_hashes]);
        out[8..12].copy_from_slice(&head.key_id.to_be_bytes());
        out[16..48].copy_from_slice(head.hash.as_bytes());
        out[48..80].copy_from_slice(head.coding.as_bytes());
        out[80..112].copy_from_slice(head.root.as_bytes());
        out[112..120].copy_from_slice(&head.data_length.to_be_bytes());
        out[120..128].copy_from_slice(&head.length.to_be_bytes());
        out[128..136].copy_from_slice(&head.timeout.to_be_bytes());
        out[136..144].copy_from_slice(&head.stored_at.to_be_bytes());
        let check = check(storage, segment, &out[..CHECKED], self.proof.as_flattened(), &self.bytes);
        out[CHECKED..].copy_from_slice(&check);
        out.extend_from_slice(self.proof.as_flattened());
        out
    }
}

/// The payload of a pack's record in pieces, the hash of its table, and where each shard is in the payload.
pub(super) fn lay_out(
    shards: &[PackedShard],
    storage: &StorageId,
    segment: u64,
) -> (Vec<Bytes>, DataHash, Vec<u64>) {
    let mut table = Vec::with_capacity(table_size(shards.len()) as usize);
    table.extend_from_slice(&TABLE_VERSION.to_be_bytes());
    table.extend_from_slice(&u32::try_from(shards.len()).unwrap_or(u32::MAX).to_be_bytes());
    let mut offsets = Vec::with_capacity(shards.len());
    let mut at = table_size(shards.len());
    for shard in shards {
        offsets.push(at);
        table.extend_from_slice(&shard.disk_bytes().to_be_bytes());
        at += shard.disk_bytes();
    }
    let hash = DataHash::from_bytes(keccak256(&table));
    let mut pieces = vec![Bytes::from(table)];
    for shard in shards {
        pieces.push(shard.encode(storage, segment).into());
        pieces.push(shard.bytes.clone());
    }
    (pieces, hash, offsets)
}

/// Reads the record of a shard, its bytes as they are stored. `None`: what is there is no whole shard of this store and
/// segment.
pub fn read_shard(
    file: &File,
    storage: &StorageId,
    segment: u64,
    offset: u64,
    size: u64,
) -> io::Result<Option<(ShardHead, Shard)>> {
    let bytes = Bytes::from(read_exactly(file, offset, size)?);
    let Some(head) = bytes.first_chunk::<HEAD>() else { return Ok(None) };
    let u64_at = |at: usize| u64::from_be_bytes(head[at..at + 8].try_into().expect("eight bytes"));
    let hash_at = |at: usize| -> [u8; 32] { head[at..at + 32].try_into().expect("32 bytes") };
    let (index, proof_hashes, length) = (head[5], head[6], u64_at(120));
    let key_id = u32::from_be_bytes(head[8..12].try_into().expect("four bytes"));
    if &head[0..4] != MAGIC
        || head[4] != VERSION
        || proof_hashes > MAX_PROOF
        || shard_record_size(proof_hashes, length, key_id) != size
    {
        return Ok(None);
    }
    let proof_end = HEAD + 32 * usize::from(proof_hashes);
    let (proof, shard) = (&bytes[HEAD..proof_end], bytes.slice(proof_end..));
    if head[CHECKED..] != check(storage, segment, &head[..CHECKED], proof, &shard) {
        return Ok(None);
    }
    let found = ShardHead {
        hash: DataHash::from_bytes(hash_at(16)),
        coding: CodingId::from_bytes(hash_at(48)),
        root: Root::from_bytes(hash_at(80)),
        data_length: u64_at(112),
        timeout: u64_at(128),
        stored_at: u64_at(136),
        index,
        proof_hashes,
        length,
        key_id,
    };
    let proof = proof.as_chunks::<32>().0.to_vec();
    Ok(Some((found, Shard { index, data_length: found.data_length, bytes: shard, proof })))
}

/// A pack as the scan finds it.
#[derive(Debug)]
pub(super) struct FoundPack {
    /// Bytes of its record that belong to no shard.
    pub(super) overhead: u64,
    /// The shards that are whole.
    pub(super) shards: Vec<FoundShard>,
}

/// Reads the pack whose record is at `offset`, with a payload of `length` bytes. `None`: its table is not what was
/// written.
pub(super) fn read(
    file: &File,
    storage: &StorageId,
    segment: u64,
    offset: u64,
    length: u64,
    hash: &DataHash,
) -> io::Result<Option<FoundPack>> {
    let start = offset + RECORD_HEADER as u64;
    let Some(sizes) = read_table(file, start, length, hash)? else { return Ok(None) };
    let mut at = start + table_size(sizes.len());
    let mut shards = Vec::with_capacity(sizes.len());
    for size in &sizes {
        match read_shard(file, storage, segment, at, *size) {
            Ok(Some((head, _))) => shards.push(FoundShard { head, offset: at }),
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(error),
        }
        at += size;
    }
    let overhead = super::record_size(length) - sizes.iter().sum::<u64>();
    Ok(Some(FoundPack { overhead, shards }))
}

fn read_table(file: &File, start: u64, length: u64, hash: &DataHash) -> io::Result<Option<Vec<u64>>> {
    let torn = |error: io::Error| {
        if error.kind() == io::ErrorKind::UnexpectedEof { Ok(None) } else { Err(error) }
    };
    let head = match read_exactly(file, start, table_size(0)) {
        Ok(head) => head,
        Err(error) => return torn(error),
    };
    let number = |at: usize| head[at..].first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes));
    let count = number(4).and_then(|count| usize::try_from(count).ok());
    let Some(count) = count.filter(|count| *count <= MAX_SHARDS && number(0) == Some(TABLE_VERSION)) else {
        return Ok(None);
    };
    let table = match read_exactly(file, start, table_size(count)) {
        Ok(table) => table,
        Err(error) => return torn(error),
    };
    let sizes: Vec<u64> =
        table[8..].as_chunks::<8>().0.iter().map(|bytes| u64::from_be_bytes(*bytes)).collect();
    let total = sizes.iter().try_fold(table_size(count), |sum, size| sum.checked_add(*size));
    Ok((keccak256(&table) == *hash.as_bytes() && total == Some(length)).then_some(sizes))
}
