//! The scrub: everything that is held is read from the disk and checked, a bounded piece at a time.

use std::sync::Arc;

use das_common::batch::VerifiedBatch;
use das_common::committee::CodingId;
use das_common::data_hash::DataHash;

use super::index::{BatchRecord, ShardRecord};
use super::segment::{Place, forget_cached};
use super::{BatchStore, StorageError, blocking};

/// Index entries read at a time.
const ENTRIES: usize = 64;

/// A form of a batch on this disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// The whole batch.
    Whole,
    /// The shard of this coding.
    Shard(CodingId),
}

/// What a step of the scrub came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScrubStep {
    /// Where the next step begins; `None`: everything was read.
    pub next: Option<DataHash>,
    /// Bytes read.
    pub bytes: u64,
    /// What is not as it was written.
    pub damaged: Vec<(DataHash, Form)>,
}

impl BatchStore {
    /// Reads and checks what is held, by data hash from `cursor` on, until `max_bytes` were read: at least one batch if
    /// there is one.
    pub async fn scrub_step(
        self: &Arc<Self>,
        cursor: Option<DataHash>,
        max_bytes: u64,
    ) -> Result<ScrubStep, StorageError> {
        let store = Arc::clone(self);
        blocking(move || store.scrub(cursor.unwrap_or(DataHash::from_bytes([0; 32])), max_bytes)).await?
    }

    fn scrub(&self, mut cursor: DataHash, max_bytes: u64) -> Result<ScrubStep, StorageError> {
        let mut step = ScrubStep { next: None, bytes: 0, damaged: Vec::new() };
        loop {
            let batches = self.index.batches_from(&cursor, ENTRIES)?;
            let more = batches.len() == ENTRIES;
            for (hash, record) in batches {
                if step.bytes >= max_bytes {
                    step.next = Some(hash);
                    return Ok(step);
                }
                self.scrub_batch(&hash, &record, &mut step)?;
                let Some(next) = successor(&hash) else { return Ok(step) };
                cursor = next;
            }
            if !more {
                return Ok(step);
            }
        }
    }

    fn scrub_batch(
        &self,
        hash: &DataHash,
        record: &BatchRecord,
        step: &mut ScrubStep,
    ) -> Result<(), StorageError> {
        if let Some(place) = record.place() {
            step.bytes += place.disk_bytes();
            // What was dropped or replaced meanwhile is not damaged.
            if !self.is_whole(hash, record, &place)?
                && self.index.batch(hash)?.and_then(|now| now.place()) == Some(place)
            {
                step.damaged.push((*hash, Form::Whole));
            }
        }
        if record.shards == 0 {
            return Ok(());
        }
        for (coding, shard) in self.index.shards(hash)? {
            step.bytes += shard.disk_bytes();
            if !self.is_shard_whole(hash, &coding, &shard)? && self.index.shard(hash, &coding)? == Some(shard)
            {
                step.damaged.push((*hash, Form::Shard(coding)));
            }
        }
        Ok(())
    }

    fn is_whole(&self, hash: &DataHash, record: &BatchRecord, place: &Place) -> Result<bool, StorageError> {
        self.forget_cached(place.segment, place.offset, place.disk_bytes());
        let payload = self.read(hash, record)?;
        Ok(payload.is_some_and(|payload| VerifiedBatch::check(payload, hash).is_ok()))
    }

    fn is_shard_whole(
        &self,
        hash: &DataHash,
        coding: &CodingId,
        record: &ShardRecord,
    ) -> Result<bool, StorageError> {
        self.forget_cached(record.segment, record.offset, record.disk_bytes());
        Ok(self.shard_at(hash, coding, record)?.is_some())
    }

    /// Rot is on the disk, not in memory.
    fn forget_cached(&self, segment: u64, start: u64, length: u64) {
        if let Ok(file) = self.file(segment) {
            forget_cached(&file, start, length);
        }
    }
}

/// The next hash in order; `None` behind the last.
pub(super) fn successor(hash: &DataHash) -> Option<DataHash> {
    let mut bytes = *hash.as_bytes();
    for byte in bytes.iter_mut().rev() {
        let (next, overflow) = byte.overflowing_add(1);
        *byte = next;
        if !overflow {
            return Some(DataHash::from_bytes(bytes));
        }
    }
    None
}
