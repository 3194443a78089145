//! The segment that is being written.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use bytes::Bytes;
use rustix::fs::FallocateFlags;

use super::pack::{self, FoundShard, PackedShard};
use super::{
    ALIGNMENT, Found, MAX_SLICES, PADDING, Place, RECORD_HEADER, RecordHeader, RecordKind, SEGMENT_MAGIC,
    StorageId, check, path, record_size,
};

/// The segment that is being written.
#[derive(Debug)]
pub struct OpenSegment {
    file: File,
    id: u64,
    storage: StorageId,
    /// Everything before this is written and synced.
    end: u64,
    capacity: u64,
    /// What is behind `end` was given back.
    trimmed: bool,
}

/// One record to append.
#[derive(Debug)]
pub enum Append {
    /// A payload, or an extension without one.
    Batch {
        /// What it is.
        header: RecordHeader,
        /// Its payload; empty for an extension.
        payload: Bytes,
    },
    /// Shards of many batches.
    Pack(Vec<PackedShard>),
}

impl Append {
    /// The bytes that the record will take on disk.
    pub fn disk_bytes(&self) -> u64 {
        match self {
            Self::Batch { payload, .. } => record_size(payload.len() as u64),
            Self::Pack(shards) => record_size(pack_length(shards)),
        }
    }

    /// The header, the pieces of the payload, and what will be found.
    fn lay_out(&self, storage: &StorageId, segment: u64, offset: u64) -> (RecordHeader, Vec<Bytes>, Found) {
        match self {
            Self::Batch { header, payload } => {
                let place = Place { segment, offset, length: payload.len() as u64 };
                (*header, vec![payload.clone()], Found::Batch { header: *header, place })
            }
            Self::Pack(shards) => {
                let length = pack_length(shards);
                let place = Place { segment, offset, length };
                let (pieces, hash, offsets) = pack::lay_out(shards, storage, segment);
                let (timeout, stored_at) = (0, 0);
                let kind = RecordKind::Pack;
                let header = RecordHeader { kind, key_id: 0, length, hash, timeout, stored_at };
                let start = offset + RECORD_HEADER as u64;
                let overhead = place.disk_bytes() - shards.iter().map(PackedShard::disk_bytes).sum::<u64>();
                let found = shards.iter().zip(offsets);
                let shards = found.map(|(s, at)| FoundShard { head: s.head, offset: start + at }).collect();
                (header, pieces, Found::Pack { place, overhead, shards })
            }
        }
    }
}

fn pack_length(shards: &[PackedShard]) -> u64 {
    pack::table_size(shards.len()) + shards.iter().map(PackedShard::disk_bytes).sum::<u64>()
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
        Ok(Self { file, id, storage, end: ALIGNMENT, capacity, trimmed: false })
    }

    fn initialize(file: &File, id: u64, storage: &StorageId, capacity: u64) -> io::Result<()> {
        preallocate(file, 0, capacity)?;
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

    /// Whether what was preallocated and not used was given back.
    pub fn is_trimmed(&self) -> bool {
        self.trimmed
    }

    /// Gives back what was preallocated and not used, for now.
    pub fn trim(&mut self) -> io::Result<()> {
        if !self.trimmed {
            self.file.set_len(self.end)?;
            self.trimmed = true;
        }
        Ok(())
    }

    /// Preallocates again what [`OpenSegment::trim`] gave back.
    pub fn make_room(&mut self) -> io::Result<()> {
        if self.trimmed {
            preallocate(&self.file, self.end, self.capacity - self.end)?;
            self.trimmed = false;
        }
        Ok(())
    }

    /// Writes the records one behind the other and syncs once. On success all of them are on disk, and their places
    /// are returned; on an error none counts, and the segment must not be written again (a failed sync leaves
    /// nobody knowing what is on disk).
    pub fn append(&mut self, records: &[Append]) -> io::Result<Vec<Found>> {
        let mut found = Vec::with_capacity(records.len());
        let mut laid_out = Vec::with_capacity(records.len());
        let mut end = self.end;
        for record in records {
            let (header, pieces, place) = record.lay_out(&self.storage, self.id, end);
            laid_out.push((header.encode(&self.storage, self.id), pieces, record_size(header.length)));
            found.push(place);
            end += record_size(header.length);
        }
        let mut slices = Vec::with_capacity(3 * records.len());
        for (header, pieces, size) in &laid_out {
            slices.push(IoSlice::new(header));
            slices.extend(pieces.iter().map(|piece| IoSlice::new(piece)));
            let length: u64 = pieces.iter().map(|piece| piece.len() as u64).sum();
            slices.push(IoSlice::new(&PADDING[..(size - RECORD_HEADER as u64 - length) as usize]));
        }
        self.write_all(&mut slices)?;
        rustix::fs::fdatasync(&self.file)?;
        self.end = end;
        Ok(found)
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

/// Makes the later syncs cheap (no new blocks to look for) and finds a full disk early. File systems that cannot do it
/// just grow the file.
fn preallocate(file: &File, from: u64, bytes: u64) -> io::Result<()> {
    if bytes == 0 {
        return Ok(());
    }
    match rustix::fs::fallocate(file, FallocateFlags::empty(), from, bytes) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
