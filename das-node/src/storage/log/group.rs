//! The index entries that a group of records changes.

use std::collections::{BTreeMap, HashMap};

use das_common::committee::CodingId;
use das_common::data_hash::DataHash;

use crate::storage::StorageError;
use crate::storage::index::record::count;
use crate::storage::index::{
    Archived, BatchRecord, Change, Index, KeyUse, LogEnd, PackRecord, SegmentRecord, ShardRecord, Totals,
    state,
};
use crate::storage::sealing::{PLAIN, payload_length};
use crate::storage::segment::pack::FoundShard;
use crate::storage::segment::{Found, Hole, Place, RecordHeader, RecordKind};

/// Changes of the index that are made together. What it counts lies over the writer's own counts until the index has
/// taken it: a change that fails must leave nothing behind, or segments would seem emptier than they are.
pub(super) struct Group<'a> {
    pub(super) index: &'a Index,
    pub(super) change: Change<'a>,
    batches: HashMap<DataHash, Option<BatchRecord>>,
    shards: HashMap<(DataHash, CodingId), Option<ShardRecord>>,
    packs: HashMap<(u64, u64), PackRecord>,
    before: &'a BTreeMap<u64, SegmentRecord>,
    touched: BTreeMap<u64, SegmentRecord>,
    totals: Totals,
    totals_before: Totals,
    /// What changes of what is in the archive only: for each batch what was and what is.
    moved: Vec<(Option<BatchRecord>, Option<BatchRecord>)>,
    /// What changes of what is encrypted: key, bytes, and whether it is more.
    sealed: Vec<(u32, u64, bool)>,
    /// What is entered was here before, at another place: there is nothing for anybody to do about it.
    rewriting: bool,
    holes: Vec<Hole>,
}

/// What a group changed, once the index has it.
pub(super) struct Applied {
    /// How full the touched segments are now.
    pub(super) touched: BTreeMap<u64, SegmentRecord>,
    pub(super) totals: Totals,
    /// What nothing needs any more.
    pub(super) holes: Vec<Hole>,
}

impl<'a> Group<'a> {
    pub(super) fn new(index: &'a Index, before: &'a BTreeMap<u64, SegmentRecord>, totals: Totals) -> Self {
        Self {
            index,
            change: index.change(),
            batches: HashMap::new(),
            shards: HashMap::new(),
            packs: HashMap::new(),
            before,
            touched: BTreeMap::new(),
            totals,
            totals_before: totals,
            moved: Vec::new(),
            sealed: Vec::new(),
            rewriting: false,
            holes: Vec::new(),
        }
    }

    /// A group of records that were here before, at other places.
    pub(super) fn of_rewritten(self) -> Self {
        Self { rewriting: true, ..self }
    }

    pub(super) fn batch(&self, hash: &DataHash) -> Result<Option<BatchRecord>, StorageError> {
        match self.batches.get(hash) {
            Some(record) => Ok(*record),
            None => Ok(self.index.batch(hash)?),
        }
    }

    pub(super) fn shard(
        &self,
        hash: &DataHash,
        coding: &CodingId,
    ) -> Result<Option<ShardRecord>, StorageError> {
        match self.shards.get(&(*hash, *coding)) {
            Some(record) => Ok(*record),
            None => Ok(self.index.shard(hash, coding)?),
        }
    }

    /// All shards of a batch.
    pub(super) fn shards_of(&self, hash: &DataHash) -> Result<Vec<(CodingId, ShardRecord)>, StorageError> {
        let mut found = self.index.shards(hash)?;
        found.retain(|(coding, _)| !self.shards.contains_key(&(*hash, *coding)));
        let changed = self.shards.iter().filter(|((of, _), _)| of == hash);
        found.extend(changed.filter_map(|((_, coding), record)| record.map(|record| (*coding, record))));
        Ok(found)
    }

    /// Enters a record of the log.
    pub(super) fn enter(&mut self, found: &Found) -> Result<(), StorageError> {
        match found {
            Found::Batch { header, place } => self.enter_batch(header, place),
            Found::Pack { place, overhead, shards } => {
                shards.iter().try_for_each(|shard| self.enter_shard(shard, place, *overhead))
            }
        }
    }

    fn enter_batch(&mut self, header: &RecordHeader, place: &Place) -> Result<(), StorageError> {
        let before = self.batch(&header.hash)?;
        let record = match (header.kind, before) {
            (RecordKind::Payload, before) => {
                // With shards the extension stays: it has to outlive this payload too.
                let later = before
                    .filter(|b| b.timeout > header.timeout || (b.timeout == header.timeout && b.shards > 0));
                BatchRecord {
                    payload: Some((place.segment, place.offset)),
                    length: payload_length(place.length, header.key_id).unwrap_or(0),
                    timeout: later.map_or(header.timeout, |b| b.timeout),
                    stored_at: before.map_or(header.stored_at, |b| b.stored_at),
                    key_id: header.key_id,
                    extension: later.and_then(|b| b.extension),
                    shards: before.map_or(0, |b| b.shards),
                }
            }
            (_, Some(before)) if header.timeout > before.timeout => BatchRecord {
                timeout: header.timeout,
                extension: Some((place.segment, place.offset)),
                ..before
            },
            // Its batch expired, or was never whole, or is promised for longer: a timeout for nothing.
            _ => return Ok(()),
        };
        if header.kind == RecordKind::Payload && !self.rewriting {
            self.change.note_written(&header.hash, &record);
        }
        self.set_batch(&header.hash, Some(record), before);
        if !self.rewriting {
            self.change.note_arrival(&header.hash);
        }
        Ok(())
    }

    fn enter_shard(&mut self, found: &FoundShard, pack: &Place, overhead: u64) -> Result<(), StorageError> {
        let head = &found.head;
        let record = ShardRecord {
            segment: pack.segment,
            offset: found.offset,
            pack: pack.offset,
            length: head.length,
            proof_hashes: head.proof_hashes,
            index: head.index,
            root: *head.root.as_bytes(),
            data_length: head.data_length,
            timeout: head.timeout,
            key_id: head.key_id,
        };
        let old = self.shard(&head.hash, &head.coding)?;
        if old == Some(record) {
            return Ok(());
        }
        let before = self.batch(&head.hash)?;
        let added = u32::from(old.is_none());
        let batch = match before {
            Some(b) => BatchRecord { timeout: b.timeout.max(head.timeout), shards: b.shards + added, ..b },
            None => {
                self.change.note_arrival(&head.hash);
                BatchRecord {
                    payload: None,
                    length: head.data_length,
                    timeout: head.timeout,
                    stored_at: head.stored_at,
                    key_id: PLAIN,
                    extension: None,
                    shards: added,
                }
            }
        };
        self.set_batch(&head.hash, Some(batch), before);
        self.set_shard(&head.hash, &head.coding, Some((record, pack.disk_bytes(), overhead)), old)
    }

    /// Sets what is known of a batch; `None` forgets it.
    pub(super) fn set_batch(
        &mut self,
        hash: &DataHash,
        record: Option<BatchRecord>,
        before: Option<BatchRecord>,
    ) {
        let places = |record: Option<BatchRecord>| -> Vec<Place> {
            record.iter().flat_map(BatchRecord::records).collect()
        };
        let (now, was) = (places(record), places(before));
        now.iter().for_each(|place| self.live(place.segment, place.disk_bytes(), 1, true));
        was.iter().for_each(|place| self.live(place.segment, place.disk_bytes(), 1, false));
        self.holes.extend(was.iter().filter(|place| !now.contains(place)).map(Place::hole));
        record.iter().for_each(|record| self.totals.count_batch(record, true));
        before.iter().for_each(|record| self.totals.count_batch(record, false));
        for (record, more) in [(record, true), (before, false)] {
            if let Some(record) = record.filter(|record| record.payload.is_some()) {
                self.count_sealed(record.key_id, record.length, more);
            }
        }
        match (record, before) {
            (Some(record), before) => self.change.set_batch(hash, &record, before.as_ref()),
            (None, Some(before)) => {
                self.change.delete_batch(hash, &before);
                self.change.note_forgotten(hash, &before);
            }
            (None, None) => {}
        }
        if [record, before].iter().flatten().any(BatchRecord::is_archived) {
            self.moved.push((before, record));
        }
        self.batches.insert(*hash, record);
    }

    /// Sets where a shard is (with the bytes of its pack, and those of them that belong to no shard); `None` forgets it.
    pub(super) fn set_shard(
        &mut self,
        hash: &DataHash,
        coding: &CodingId,
        record: Option<(ShardRecord, u64, u64)>,
        before: Option<ShardRecord>,
    ) -> Result<(), StorageError> {
        if let Some((record, disk_bytes, overhead)) = record {
            self.count_shard(&record, true, Some(PackRecord { live: 0, disk_bytes, overhead }))?;
        }
        if let Some(before) = before {
            self.count_shard(&before, false, None)?;
            self.holes.push(before.hole());
        }
        let record = record.map(|(record, ..)| record);
        self.change.set_shard(hash, coding, record.as_ref());
        self.shards.insert((*hash, *coding), record);
        Ok(())
    }

    fn count_shard(
        &mut self,
        shard: &ShardRecord,
        more: bool,
        new: Option<PackRecord>,
    ) -> Result<(), StorageError> {
        self.totals.count_shard(shard, more);
        self.count_sealed(shard.key_id, shard.disk_bytes(), more);
        self.live(shard.segment, shard.disk_bytes(), 1, more);
        let key = (shard.segment, shard.pack);
        let known = match self.packs.get(&key) {
            Some(pack) => Some(*pack),
            None => self.index.pack(shard.segment, shard.pack)?,
        };
        let Some(mut pack) = known.or(new) else { return Ok(()) };
        let was = pack.live;
        count(&mut pack.live, 1, more);
        if (was == 0) != (pack.live == 0) {
            self.live(shard.segment, pack.overhead, 0, more);
        }
        if pack.live == 0 {
            let (segment, offset) = key;
            self.holes.push(Hole { segment, offset, length: pack.disk_bytes });
        }
        self.packs.insert(key, pack);
        Ok(())
    }

    fn count_sealed(&mut self, key_id: u32, bytes: u64, more: bool) {
        if key_id != PLAIN {
            self.sealed.push((key_id, bytes, more));
        }
    }

    fn live(&mut self, segment: u64, bytes: u64, records: u64, more: bool) {
        let before = || self.before.get(&segment).copied().unwrap_or_default();
        let record = self.touched.entry(segment).or_insert_with(before);
        count(&mut record.live_records, records, more);
        count(&mut record.live_bytes, bytes, more);
    }

    /// Forgets a batch in every form.
    pub(super) fn delete(&mut self, hash: &DataHash, record: BatchRecord) -> Result<(), StorageError> {
        if record.shards > 0 {
            for (coding, shard) in self.shards_of(hash)? {
                self.set_shard(hash, &coding, None, Some(shard))?;
            }
        }
        self.set_batch(hash, None, Some(record));
        Ok(())
    }

    /// Enters everything into the index.
    pub(super) fn apply(mut self, end: Option<LogEnd>, synced: bool) -> Result<Applied, StorageError> {
        for (id, record) in &self.touched {
            self.change.set_segment(*id, Some(record));
        }
        for ((segment, offset), record) in &self.packs {
            self.change.set_pack(*segment, *offset, Some(record).filter(|pack| pack.live > 0));
        }
        self.holes.iter().for_each(|hole| self.change.add_hole(hole));
        if self.totals != self.totals_before {
            self.change.set_state(state::TOTALS, &self.totals);
        }
        if !self.moved.is_empty() {
            let mut archived: Archived = self.index.state(state::ARCHIVED)?.unwrap_or_default();
            for (was, is) in &self.moved {
                was.iter().for_each(|record| archived.count_batch(record, false));
                is.iter().for_each(|record| archived.count_batch(record, true));
            }
            self.change.set_state(state::ARCHIVED, &archived);
        }
        if !self.sealed.is_empty() {
            let keys: Vec<KeyUse> = self.index.state(state::KEYS)?.unwrap_or_default();
            self.change.set_state(state::KEYS, &counted(keys, &self.sealed));
        }
        if let Some(end) = end {
            self.change.set_state(state::LOG_END, &end);
        }
        self.change.apply(synced)?;
        Ok(Applied { touched: self.touched, totals: self.totals, holes: self.holes })
    }
}

/// What is encrypted with each key, after these changes.
fn counted(mut keys: Vec<KeyUse>, changes: &[(u32, u64, bool)]) -> Vec<KeyUse> {
    // First what is more: the counts do not go below zero on the way.
    for more in [true, false] {
        for (key_id, bytes, _) in changes.iter().filter(|change| change.2 == more) {
            let known = keys.iter().position(|key| key.key_id == *key_id);
            let at = known.unwrap_or_else(|| {
                keys.push(KeyUse { key_id: *key_id, records: 0, bytes: 0 });
                keys.len() - 1
            });
            count(&mut keys[at].records, 1, more);
            count(&mut keys[at].bytes, *bytes, more);
        }
    }
    keys.retain(|key| key.records > 0);
    keys
}
