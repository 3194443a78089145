//! Segment files: where the bytes of batches live.
//!
//! A segment is an append-only file. Everything in it starts on a 4096-byte boundary, so that no write ever touches a
//! page that already holds an acknowledged record: a torn page can cost only what nobody was promised.
//!
//! ```text
//! segment   | header page | record | record | ... | preallocated, never written |
//! header    | "DASSEG\0\1" | u64 segment id | 16 bytes storage id | 16 bytes check | zeroes to 4096 |
//! record    | 96-byte record header | payload | zeroes to the next multiple of 4096 |
//!
//! record header (integers big-endian)
//!   0  "DASR"             16  u64 segment id        64  u64 timeout, unix seconds
//!   4  u8  version (1)    24  u64 payload length    72  u64 stored at, unix seconds
//!   5  u8  kind           32  32-byte data hash     80  16-byte check
//!   6  u16 zero
//!   8  u32 key id (0 = plain)
//!  12  u32 zero
//! ```
//!
//! The *check* is the start of `keccak(storage id || the bytes before it)`. The storage id is random and never leaves
//! the machine, so a batch cannot contain bytes that would pass for a record of this store. The payload needs no
//! checksum of its own: its name is its hash. Where the key id is not zero, the payload is encrypted, see
//! [`sealing`](super::sealing), and its length is that of what is on disk.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use das_common::data_hash::DataHash;
use das_common::keccak::keccak256;
use rustix::fs::FallocateFlags;

mod append;
pub mod pack;
mod scan;

pub use append::{Append, OpenSegment};
pub use scan::{Found, scan};

/// Records start at multiples of this.
pub const ALIGNMENT: u64 = 4096;
const RECORD_HEADER: usize = 96;
const RECORD_MAGIC: &[u8; 4] = b"DASR";
const SEGMENT_MAGIC: &[u8; 8] = b"DASSEG\0\x01";
const RECORD_VERSION: u8 = 1;
/// Zeroes to pad the last page of a record with.
const PADDING: [u8; ALIGNMENT as usize] = [0; ALIGNMENT as usize];
/// Buffers of one vectored write; Linux takes at most 1024.
const MAX_SLICES: usize = 1020;

/// Names one database on one disk; drawn at random when it is made.
pub type StorageId = [u8; 16];

/// What a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// The payload of a batch follows.
    Payload,
    /// A later timeout for a batch that is in an earlier record.
    Extension,
    /// Shards of many batches follow, see [`pack`].
    Pack,
}

/// The header of a record, without what is derived from its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    /// What follows.
    pub kind: RecordKind,
    /// The key that the payload is encrypted with; 0 is plain.
    pub key_id: u32,
    /// Bytes of payload, as they are on disk.
    pub length: u64,
    /// The batch; of a pack, the hash of its table.
    pub hash: DataHash,
    /// The batch is promised until then (unix seconds); a pack's shards have their own.
    pub timeout: u64,
    /// When it was stored (unix seconds).
    pub stored_at: u64,
}

/// Where a record's payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Segment id.
    pub segment: u64,
    /// Offset of the record (not of its payload) in the segment.
    pub offset: u64,
    /// Bytes of payload, as they are on disk.
    pub length: u64,
}

impl Place {
    /// The bytes that the record takes on disk.
    pub fn disk_bytes(&self) -> u64 {
        record_size(self.length)
    }

    /// The bytes of the log that are free once nothing needs the record.
    pub fn hole(&self) -> Hole {
        Hole { segment: self.segment, offset: self.offset, length: self.disk_bytes() }
    }
}

/// A range of a segment that nothing needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hole {
    /// Segment id.
    pub segment: u64,
    /// Its first byte.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
}

/// The bytes that a record with a payload of `length` bytes takes.
pub fn record_size(length: u64) -> u64 {
    (RECORD_HEADER as u64).saturating_add(length).div_ceil(ALIGNMENT).saturating_mul(ALIGNMENT)
}

fn check(storage: &StorageId, before: &[u8]) -> [u8; 16] {
    let mut input = Vec::with_capacity(16 + before.len());
    input.extend_from_slice(storage);
    input.extend_from_slice(before);
    let mut out = [0; 16];
    out.copy_from_slice(&keccak256(&input)[..16]);
    out
}

impl RecordHeader {
    pub(super) fn encode(&self, storage: &StorageId, segment: u64) -> [u8; RECORD_HEADER] {
        let mut out = [0; RECORD_HEADER];
        out[0..4].copy_from_slice(RECORD_MAGIC);
        out[4] = RECORD_VERSION;
        out[5] = match self.kind {
            RecordKind::Payload => 1,
            RecordKind::Extension => 2,
            RecordKind::Pack => 3,
        };
        out[8..12].copy_from_slice(&self.key_id.to_be_bytes());
        out[16..24].copy_from_slice(&segment.to_be_bytes());
        out[24..32].copy_from_slice(&self.length.to_be_bytes());
        out[32..64].copy_from_slice(self.hash.as_bytes());
        out[64..72].copy_from_slice(&self.timeout.to_be_bytes());
        out[72..80].copy_from_slice(&self.stored_at.to_be_bytes());
        let check = check(storage, &out[..80]);
        out[80..].copy_from_slice(&check);
        out
    }

    /// The header at the start of `page`, if there is one of this store and segment.
    pub fn decode(page: &[u8], storage: &StorageId, segment: u64) -> Option<Self> {
        let bytes: &[u8; RECORD_HEADER] = page.first_chunk()?;
        if &bytes[0..4] != RECORD_MAGIC
            || bytes[4] != RECORD_VERSION
            || bytes[80..] != check(storage, &bytes[..80])
        {
            return None;
        }
        let u64_at = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        if u64_at(16) != segment {
            return None;
        }
        Some(Self {
            kind: match bytes[5] {
                1 => RecordKind::Payload,
                2 => RecordKind::Extension,
                3 => RecordKind::Pack,
                _ => return None,
            },
            key_id: u32::from_be_bytes(bytes[8..12].try_into().expect("four bytes")),
            length: u64_at(24),
            hash: DataHash::from_bytes(bytes[32..64].try_into().expect("32 bytes")),
            timeout: u64_at(64),
            stored_at: u64_at(72),
        })
    }
}

/// The file name of a segment.
pub fn path(directory: &Path, id: u64) -> PathBuf {
    directory.join(format!("{id:016x}.segment"))
}

/// The ids of the segments in a directory, ascending.
pub fn list(directory: &Path) -> io::Result<Vec<u64>> {
    let mut ids = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let id = name
            .to_str()
            .and_then(|n| n.strip_suffix(".segment"))
            .and_then(|n| u64::from_str_radix(n, 16).ok());
        ids.extend(id);
    }
    ids.sort_unstable();
    Ok(ids)
}

/// What the first page of a segment file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentHeader {
    /// A segment of this store.
    Valid(StorageId),
    /// Nothing: the machine stopped before the segment was made, so no record is in it.
    Blank,
    /// Another name, another format, or rot.
    Invalid,
}

/// Reads the header page of a segment.
pub fn read_header(directory: &Path, id: u64) -> io::Result<SegmentHeader> {
    let mut page = [0; 48];
    match File::open(path(directory, id))?.read_exact(&mut page) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(SegmentHeader::Blank),
        Err(error) => return Err(error),
    }
    if page == [0; 48] {
        return Ok(SegmentHeader::Blank);
    }
    let storage: StorageId = page[16..32].try_into().expect("16 bytes");
    let valid = &page[..8] == SEGMENT_MAGIC
        && page[8..16] == id.to_be_bytes()
        && page[32..] == check(&storage, &page[..32]);
    Ok(if valid { SegmentHeader::Valid(storage) } else { SegmentHeader::Invalid })
}

/// Reads the payload at a place. The bytes are as the disk gave them: whoever takes them opens them, if they are encrypted,
/// and checks them against the hash.
pub fn read_payload(file: &File, place: &Place) -> io::Result<Vec<u8>> {
    read_exactly(file, place.offset + RECORD_HEADER as u64, place.length)
}

fn read_exactly(file: &File, start: u64, length: u64) -> io::Result<Vec<u8>> {
    // The length comes from our own index, but a rotten index must not make us allocate what no file holds.
    if start.saturating_add(length) > file.metadata()?.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let length = usize::try_from(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        let at = start + bytes.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut bytes), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // The allocator may have given more room than was asked for, and the read has filled it.
    bytes.truncate(length);
    Ok(bytes)
}

/// Gives the whole pages of a range back to the file system. `Ok(false)`: this file system cannot, the space comes back
/// with the segment.
pub fn punch(file: &File, hole: &Hole) -> io::Result<bool> {
    let start = hole.offset.next_multiple_of(ALIGNMENT);
    let end = (hole.offset + hole.length) / ALIGNMENT * ALIGNMENT;
    if start >= end {
        return Ok(true);
    }
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match rustix::fs::fallocate(file, flags, start, end - start) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::OPNOTSUPP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Makes the next read of a range (of the whole file, if it is empty) come from the disk. Only advice: a kernel that does
/// not take it reads as before.
pub fn forget_cached(file: &File, start: u64, length: u64) {
    // Whole pages: the kernel keeps those of which only a part is named.
    let end = (start + length).next_multiple_of(ALIGNMENT);
    let start = start / ALIGNMENT * ALIGNMENT;
    let length = std::num::NonZeroU64::new(if length == 0 { 0 } else { end - start });
    let _ = rustix::fs::fadvise(file, start, length, rustix::fs::Advice::DontNeed);
}
