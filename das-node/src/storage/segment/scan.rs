//! Finding the records of a segment again.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use das_common::batch::VerifiedBatch;
use das_common::data_hash::DataHash;
use tracing::warn;

use super::pack::{self, FoundShard};
use super::{ALIGNMENT, Place, RecordHeader, RecordKind, path, read_payload};
use crate::storage::sealing::Sealer;

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
/// Returns where the last record ends. A record whose key was not given is an error that carries
/// [`UnknownKey`](crate::storage::sealing::UnknownKey): nobody can say whether it is whole.
pub fn scan(
    directory: &Path,
    id: u64,
    sealer: &Sealer,
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
            let Some(header) = RecordHeader::decode(&window[inside..read], &sealer.storage, id) else {
                inside += ALIGNMENT as usize;
                continue;
            };
            let place = Place { segment: id, offset: at + inside as u64, length: header.length };
            match find(&file, sealer, header, place)? {
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
fn find(file: &File, sealer: &Sealer, header: RecordHeader, place: Place) -> io::Result<Option<Found>> {
    match header.kind {
        RecordKind::Extension => Ok(Some(Found::Batch { header, place })),
        RecordKind::Payload => match read_payload(file, &place) {
            Ok(stored) => {
                let whole = is_whole(sealer, &header.hash, header.key_id, stored)?;
                Ok(whole.then_some(Found::Batch { header, place }))
            }
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            // A disk that does not answer says nothing about what is on it.
            Err(error) => Err(error),
        },
        RecordKind::Pack => {
            let pack =
                pack::read(file, &sealer.storage, place.segment, place.offset, place.length, &header.hash)?;
            Ok(pack.map(|pack| Found::Pack { place, overhead: pack.overhead, shards: pack.shards }))
        }
    }
}

fn is_whole(sealer: &Sealer, hash: &DataHash, key_id: u32, stored: Vec<u8>) -> io::Result<bool> {
    let opened = sealer.open_batch(hash, key_id, stored).map_err(io::Error::other)?;
    Ok(opened.is_some_and(|payload| VerifiedBatch::check(payload, hash).is_ok()))
}
