//! Segments to write to, and the reserve: stores are refused before the disk is full, so that what frees space never
//! lacks it.

use std::sync::atomic::Ordering;

use super::Writer;
use crate::storage::segment::{self, ALIGNMENT, OpenSegment};
use crate::storage::{StorageError, disk};

/// The largest segment that is made when the disk is in its reserve.
const RESERVE_SEGMENT_BYTES: u64 = 16 << 20;

/// What room is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// New batches: refused when the reserve is reached.
    Stores,
    /// What is here already, under another key: waits where new batches are refused.
    Rewriting,
    /// Shards, which are written so that more can be dropped, and later timeouts: may use most of the reserve.
    Upkeep,
}

impl Writer {
    pub(super) fn segment_with_room(
        &mut self,
        bytes: u64,
        purpose: Purpose,
    ) -> Result<OpenSegment, StorageError> {
        let free = || disk(&self.directory).map(|disk| disk.free).map_err(StorageError::write);
        let mut free_now = free()?;
        // Others may fill the disk while there is room in a segment: the index still needs a little.
        let (floor, least_for_open) = match purpose {
            Purpose::Stores | Purpose::Rewriting if self.open_in_reserve => {
                (self.reserve_bytes, self.reserve_bytes)
            }
            Purpose::Stores | Purpose::Rewriting => (self.reserve_bytes, self.reserve_bytes / 2),
            Purpose::Upkeep => (self.reserve_bytes / 4, self.reserve_bytes / 8),
        };
        if let Some(mut open) = self.open.take() {
            if open.has_room(bytes) {
                let least = if open.is_trimmed() { floor.saturating_add(bytes) } else { least_for_open };
                if free_now < least {
                    self.open = Some(open);
                    return Err(self.refuse(free_now, least, purpose));
                }
                let made = open.make_room();
                if let Err(error) = made {
                    self.open = Some(open);
                    return Err(StorageError::write(error));
                }
                return Ok(self.granted(open, purpose));
            }
            self.close_segment(open)?;
            // What it had not used is free now.
            free_now = disk(&self.directory).map_err(StorageError::write)?.free;
        }
        let least = bytes + ALIGNMENT;
        let spare = free_now.saturating_sub(floor);
        if spare < least {
            return Err(self.refuse(free_now, floor.saturating_add(least), purpose));
        }
        let in_reserve = free_now.saturating_sub(self.reserve_bytes) < least;
        // On a nearly full disk a smaller segment: never more than a quarter of what is left.
        let most =
            if in_reserve { self.segment_bytes.min(RESERVE_SEGMENT_BYTES) } else { self.segment_bytes };
        let capacity = most.min(spare / 4).max(least).next_multiple_of(ALIGNMENT);
        let id = self.next_id;
        self.next_id += 1;
        let open = OpenSegment::create(&self.directory, id, self.sealer.storage, capacity);
        let open = open.map_err(StorageError::write)?;
        self.open_in_reserve = in_reserve;
        Ok(self.granted(open, purpose))
    }

    fn granted(&self, open: OpenSegment, purpose: Purpose) -> OpenSegment {
        if purpose == Purpose::Stores {
            self.lacking.store(0, Ordering::Relaxed);
        }
        open
    }

    fn refuse(&self, free: u64, needed: u64, purpose: Purpose) -> StorageError {
        if purpose == Purpose::Stores {
            self.lacking.store(needed, Ordering::Relaxed);
        }
        StorageError::DiskFull { free, reserve: self.reserve_bytes }
    }

    fn close_segment(&mut self, open: OpenSegment) -> Result<(), StorageError> {
        let id = open.id();
        open.seal().map_err(StorageError::write)?;
        if self.segments.get(&id).is_some_and(|s| s.live_records == 0) {
            self.forget_segment(id)?;
            self.index.sync()?;
            let path = segment::path(&self.directory, id);
            std::fs::remove_file(path).map_err(StorageError::write)?;
        }
        Ok(())
    }

    pub(super) fn forget_segment(&mut self, id: u64) -> Result<(), StorageError> {
        self.segments.remove(&id);
        let mut change = self.index.change();
        change.set_segment(id, None);
        Ok(change.apply(false)?)
    }
}
