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
//! checksum of its own: its name is its hash.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use das_common::batch::VerifiedBatch;
use das_common::data_hash::DataHash;
use das_common::keccak::keccak256;
use rustix::fs::FallocateFlags;
use tracing::warn;

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
    /// A later timeout for a batch whose payload is in an earlier record.
    Extension,
}

/// The header of a record, without what is derived from its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    /// What follows.
    pub kind: RecordKind,
    /// The key that the payload is encrypted with; 0 is plain.
    pub key_id: u32,
    /// Bytes of payload.
    pub length: u64,
    /// The batch.
    pub hash: DataHash,
    /// The batch is promised until then (unix seconds).
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
    /// Bytes of payload.
    pub length: u64,
}

impl Place {
    /// The bytes that the record takes on disk.
    pub fn disk_bytes(&self) -> u64 {
        record_size(self.length)
    }
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

/// The segment that is being written.
#[derive(Debug)]
pub struct OpenSegment {
    file: File,
    id: u64,
    storage: StorageId,
    /// Everything before this is written and synced.
    end: u64,
    capacity: u64,
}

/// One record to append.
#[derive(Debug)]
pub struct Append {
    /// What it is.
    pub header: RecordHeader,
    /// Its payload; empty for an extension.
    pub payload: Bytes,
}

impl OpenSegment {
    /// Makes a segment with room for `capacity` bytes, its name synced to the directory.
    pub fn create(directory: &Path, id: u64, storage: StorageId, capacity: u64) -> io::Result<Self> {
        let name = path(directory, id);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&name)?;
        let made =
            Self::initialize(&file, id, &storage, capacity).and_then(|()| File::open(directory)?.sync_all());
        if let Err(error) = made {
            // Half a segment is of no use; a leftover would only be skipped at the next start.
            let _ = std::fs::remove_file(&name);
            return Err(error);
        }
        Ok(Self { file, id, storage, end: ALIGNMENT, capacity })
    }

    fn initialize(file: &File, id: u64, storage: &StorageId, capacity: u64) -> io::Result<()> {
        // Preallocation makes the later syncs cheap (no new blocks to look for) and finds a full disk early. File
        // systems without it just grow the file.
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, capacity) {
            Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
        let mut page = [0; ALIGNMENT as usize];
        page[..8].copy_from_slice(SEGMENT_MAGIC);
        page[8..16].copy_from_slice(&id.to_be_bytes());
        page[16..32].copy_from_slice(storage);
        let check = check(storage, &page[..32]);
        page[32..48].copy_from_slice(&check);
        file.write_all_at(&page, 0)?;
        file.sync_all()
    }

    /// Segment id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Where the next record goes.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Whether records of `bytes` bytes in all still fit.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.end.saturating_add(bytes) <= self.capacity
    }

    /// Writes the records one behind the other and syncs once. On success all of them are on disk, and their places
    /// are returned; on an error none counts, and the segment must not be written again (a failed sync leaves
    /// nobody knowing what is on disk).
    pub fn append(&mut self, records: &[Append]) -> io::Result<Vec<Place>> {
        let headers: Vec<_> = records.iter().map(|r| r.header.encode(&self.storage, self.id)).collect();
        let mut places = Vec::with_capacity(records.len());
        let mut slices = Vec::with_capacity(3 * records.len());
        let mut end = self.end;
        for (record, header) in records.iter().zip(&headers) {
            let length = record.payload.len() as u64;
            let size = record_size(length);
            places.push(Place { segment: self.id, offset: end, length });
            slices.push(IoSlice::new(header));
            slices.push(IoSlice::new(&record.payload));
            slices.push(IoSlice::new(&PADDING[..(size - RECORD_HEADER as u64 - length) as usize]));
            end += size;
        }
        self.write_all(&mut slices)?;
        rustix::fs::fdatasync(&self.file)?;
        self.end = end;
        Ok(places)
    }

    fn write_all(&self, mut slices: &mut [IoSlice<'_>]) -> io::Result<()> {
        let mut at = self.end;
        IoSlice::advance_slices(&mut slices, 0);
        while !slices.is_empty() {
            let count = slices.len().min(MAX_SLICES);
            match rustix::io::pwritev(&self.file, &slices[..count], at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    at += written as u64;
                    IoSlice::advance_slices(&mut slices, written);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Gives back what was preallocated and not used.
    pub fn seal(self) -> io::Result<()> {
        self.file.set_len(self.end)?;
        self.file.sync_all()
    }
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

/// Reads the payload at a place. The bytes are as the disk gave them: whoever takes them checks them against the
/// hash.
pub fn read_payload(file: &File, place: &Place) -> io::Result<Vec<u8>> {
    let start = place.offset + RECORD_HEADER as u64;
    // The length comes from our own index, but a rotten index must not make us allocate what no file holds.
    if start.saturating_add(place.length) > file.metadata()?.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let length = usize::try_from(place.length).map_err(|_| io::ErrorKind::OutOfMemory)?;
    let mut payload = Vec::with_capacity(length);
    while payload.len() < length {
        let at = start + payload.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut payload), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // The allocator may have given more room than was asked for, and the read has filled it.
    payload.truncate(length);
    Ok(payload)
}

/// Gives the blocks of a record back to the file system. `Ok(false)`: this file system cannot, the space comes back
/// with the segment.
pub fn punch(file: &File, place: &Place) -> io::Result<bool> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match rustix::fs::fallocate(file, flags, place.offset, place.disk_bytes()) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::OPNOTSUPP) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// One record found by a scan.
#[derive(Debug)]
pub struct Found {
    /// What it says.
    pub header: RecordHeader,
    /// Where it is.
    pub place: Place,
}

/// Walks over the records of a segment from `from`, whole ones only: a payload that does not have its hash was
/// being written when the machine stopped, and nobody was promised anything about it. Pages that are no records
/// (holes, torn headers) are stepped over one at a time. Returns where the last record ends.
pub fn scan(
    directory: &Path,
    id: u64,
    storage: &StorageId,
    from: u64,
    mut take: impl FnMut(Found) -> io::Result<()>,
) -> io::Result<u64> {
    let file = OpenOptions::new().read(true).open(path(directory, id))?;
    let size = file.metadata()?.len();
    let mut window = vec![0; 64 * ALIGNMENT as usize];
    let mut at = from.max(ALIGNMENT);
    let mut end = at;
    while at < size {
        let read = file.read_at(&mut window, at)?;
        if read == 0 {
            break;
        }
        let mut inside = 0;
        while inside < read {
            let Some(header) = RecordHeader::decode(&window[inside..read], storage, id) else {
                inside += ALIGNMENT as usize;
                continue;
            };
            let place = Place { segment: id, offset: at + inside as u64, length: header.length };
            let whole = match header.kind {
                RecordKind::Extension => true,
                RecordKind::Payload => match read_payload(&file, &place) {
                    Ok(payload) => VerifiedBatch::check(payload.into(), &header.hash).is_ok(),
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
                    // A disk that does not answer says nothing about what is on it.
                    Err(error) => return Err(error),
                },
            };
            if whole {
                end = place.offset + place.disk_bytes();
                take(Found { header, place })?;
            } else {
                warn!(
                    hash = %header.hash,
                    segment = id,
                    offset = place.offset,
                    "a record without its whole payload: it was being written when the machine stopped"
                );
            }
            // A torn record's length is as trustworthy as a whole one's: the header's check holds it.
            inside = usize::try_from(place.disk_bytes()).map_or(usize::MAX, |s| inside.saturating_add(s));
        }
        at = at.saturating_add(inside as u64);
    }
    Ok(end)
}
