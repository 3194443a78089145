//! Finding the records of a segment again.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use das_common::batch::VerifiedBatch;
use tracing::warn;

use super::pack::{self, FoundShard};
use super::{ALIGNMENT, Place, RecordHeader, RecordKind, StorageId, path, read_payload};

/// A record of the log: one that was just written, or that a scan found.
#[derive(Debug)]
pub enum Found {
    /// A payload or an extension.
    Batch {
        /// What it says.
        header: RecordHeader,
        /// Where it is.
        place: Place,
    },
    /// A pack.
    Pack {
        /// Where it is.
        place: Place,
        /// Bytes of the record that belong to no shard.
        overhead: u64,
        /// The shards in it that are whole.
        shards: Vec<FoundShard>,
    },
}

/// Walks over the records of a segment from `from`, whole ones only: a payload that does not have its hash was
/// being written when the machine stopped, and nobody was promised anything about it, or it was let go; the same
/// holds for each shard of a pack. Pages that are no records (holes, torn headers) are stepped over one at a time.
/// Returns where the last record ends.
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
            match find(&file, storage, header, place)? {
                Some(found) => {
                    end = place.offset + place.disk_bytes();
                    take(found)?;
                }
                None => warn!(
                    hash = %header.hash,
                    segment = id,
                    offset = place.offset,
                    "a record that is not whole: it was being written when the machine stopped, or let go"
                ),
            }
            // A torn record's length is as trustworthy as a whole one's: the header's check holds it.
            inside = usize::try_from(place.disk_bytes()).map_or(usize::MAX, |s| inside.saturating_add(s));
        }
        at = at.saturating_add(inside as u64);
    }
    Ok(end)
}

/// The record of this header, if it is whole.
fn find(file: &File, storage: &StorageId, header: RecordHeader, place: Place) -> io::Result<Option<Found>> {
    match header.kind {
        RecordKind::Extension => Ok(Some(Found::Batch { header, place })),
        RecordKind::Payload => match read_payload(file, &place) {
            Ok(payload) => {
                let whole = VerifiedBatch::check(payload.into(), &header.hash).is_ok();
                Ok(whole.then_some(Found::Batch { header, place }))
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            // A disk that does not answer says nothing about what is on it.
            Err(error) => Err(error),
        },
        RecordKind::Pack => {
            let pack = pack::read(file, storage, place.segment, place.offset, place.length, &header.hash)?;
            Ok(pack.map(|pack| Found::Pack { place, overhead: pack.overhead, shards: pack.shards }))
        }
    }
}
