//! Changes of the index.

use bincode::Encode;
use das_common::committee::CodingId;
use das_common::data_hash::DataHash;
use rocksdb::{WriteBatch, WriteOptions};

use super::record::{encode, position_key, shard_key, time_key};
use super::{
    BATCHES, BatchRecord, EXPIRY, Family, HOLES, HOT, Index, IndexError, PACKS, PackRecord, SEGMENTS, SHARDS,
    STATE, SegmentRecord, ShardRecord, arrival_key,
};
use crate::storage::segment::Hole;

/// Changes that are applied together or not at all.
#[must_use = "changes do nothing until they are applied"]
pub struct Change<'a> {
    pub(super) index: &'a Index,
    pub(super) batch: WriteBatch,
}

impl<'a> Change<'a> {
    pub(super) fn new(index: &'a Index) -> Self {
        Self { index, batch: WriteBatch::default() }
    }

    /// Puts a batch into the order of storing.
    pub(super) fn set_hot(&mut self, hash: &DataHash, record: &BatchRecord) {
        self.batch.put_cf(self.index.family(HOT), time_key(record.stored_at, hash), []);
    }

    /// Sets what is known of a batch, `before` being what was.
    pub fn set_batch(&mut self, hash: &DataHash, record: &BatchRecord, before: Option<&BatchRecord>) {
        let (expiry, hot) = (self.index.family(EXPIRY), self.index.family(HOT));
        if let Some(before) = before
            && before.timeout != record.timeout
        {
            self.batch.delete_cf(expiry, time_key(before.timeout, hash));
        }
        self.batch.put_cf(self.index.family(BATCHES), hash.as_bytes(), record.encode());
        self.batch.put_cf(expiry, time_key(record.timeout, hash), []);
        let hot_key = |record: &BatchRecord| record.payload.map(|_| time_key(record.stored_at, hash));
        let (was, is) = (before.and_then(hot_key), hot_key(record));
        if was != is {
            was.iter().for_each(|key| self.batch.delete_cf(hot, key));
            is.iter().for_each(|key| self.batch.put_cf(hot, key, []));
        }
    }

    /// Forgets a batch. Its shards are forgotten one by one.
    pub fn delete_batch(&mut self, hash: &DataHash, record: &BatchRecord) {
        self.batch.delete_cf(self.index.family(BATCHES), hash.as_bytes());
        self.batch.delete_cf(self.index.family(HOT), time_key(record.stored_at, hash));
        self.delete_expiry(record.timeout, hash);
    }

    /// Sets where a shard is; `None` forgets it.
    pub fn set_shard(&mut self, hash: &DataHash, coding: &CodingId, record: Option<&ShardRecord>) {
        let (family, key) = (self.index.family(SHARDS), shard_key(hash, coding));
        match record {
            Some(record) => self.batch.put_cf(family, key, record.encode()),
            None => self.batch.delete_cf(family, key),
        }
    }

    /// Sets what is known of a pack; `None` forgets it.
    pub fn set_pack(&mut self, segment: u64, offset: u64, record: Option<&PackRecord>) {
        let (family, key) = (self.index.family(PACKS), position_key(segment, offset));
        match record {
            Some(record) => self.batch.put_cf(family, key, encode(record)),
            None => self.batch.delete_cf(family, key),
        }
    }

    /// Remembers a range of the log that nothing needs.
    pub fn add_hole(&mut self, hole: &Hole) {
        let key = position_key(hole.segment, hole.offset);
        self.batch.put_cf(self.index.family(HOLES), key, hole.length.to_be_bytes());
    }

    /// Forgets a range of the log that was given back.
    pub fn delete_hole(&mut self, hole: &Hole) {
        self.batch.delete_cf(self.index.family(HOLES), position_key(hole.segment, hole.offset));
    }

    /// Notes that a batch was stored, or is to be kept for longer.
    pub fn note_arrival(&mut self, hash: &DataHash) {
        if self.index.notes_arrivals() {
            self.batch.put_cf(self.index.family(Family::Custody.name()), arrival_key(hash), []);
        }
    }

    /// Forgets an entry of the expiry order that belongs to no batch any more.
    pub fn delete_expiry(&mut self, timeout: u64, hash: &DataHash) {
        self.batch.delete_cf(self.index.family(EXPIRY), time_key(timeout, hash));
    }

    /// Sets how full a segment is; `None` forgets it.
    pub fn set_segment(&mut self, id: u64, record: Option<&SegmentRecord>) {
        let family = self.index.family(SEGMENTS);
        match record {
            Some(record) => self.batch.put_cf(family, id.to_be_bytes(), encode(record)),
            None => self.batch.delete_cf(family, id.to_be_bytes()),
        }
    }

    /// Sets a value of the node's state.
    pub fn set_state(&mut self, key: &[u8], value: &impl Encode) {
        self.batch.put_cf(self.index.family(STATE), key, encode(value));
    }

    /// Sets a record of the first release, which knew neither totals nor an order of storing.
    #[cfg(test)]
    pub(in crate::storage) fn set_first_release(&mut self, hash: &DataHash, record: &BatchRecord) {
        self.batch.put_cf(self.index.family(BATCHES), hash.as_bytes(), record.encode_as_version_1());
        self.batch.delete_cf(self.index.family(HOT), time_key(record.stored_at, hash));
        self.batch.delete_cf(self.index.family(STATE), super::state::TOTALS);
    }

    /// Applies the changes, surviving a crash of the process; with `synced` also a power cut.
    pub fn apply(self, synced: bool) -> Result<(), IndexError> {
        #[cfg(test)]
        self.index.fail_if_told()?;
        let mut options = WriteOptions::default();
        options.set_sync(synced);
        self.index.db.write_opt(self.batch, &options)?;
        #[cfg(test)]
        self.index.synced.fetch_add(synced.into(), std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }
}
