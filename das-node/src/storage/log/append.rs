//! What adds to the log: stores, shards and later timeouts that came at the same time go in one write and one sync.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use das_common::data_hash::DataHash;
use tokio::sync::oneshot;
use tracing::error;

use super::group::Group;
use super::room::Purpose;
use super::{INDEX_SYNC_BYTES, Writer};
use crate::storage::index::LogEnd;
use crate::storage::sealing::PLAIN;
use crate::storage::segment::pack::{MAX_SHARDS, PackedShard, ShardHead};
use crate::storage::segment::{Append, OpenSegment, Place, RecordHeader, RecordKind};
use crate::storage::{NewShard, StorageError};

type Reply<T> = oneshot::Sender<Result<T, StorageError>>;

/// A pack is closed once it has so many bytes.
const PACK_BYTES: u64 = 16 << 20;

/// A batch to be stored.
#[derive(Debug)]
pub(in crate::storage) struct Put {
    pub(in crate::storage) hash: DataHash,
    /// As it is to be stored.
    pub(in crate::storage) payload: Bytes,
    /// The key that it is encrypted with.
    pub(in crate::storage) key_id: u32,
    pub(in crate::storage) timeout: u64,
    pub(in crate::storage) now: u64,
    /// The payload at this place was found damaged: write a new one.
    pub(in crate::storage) heal: Option<Place>,
    pub(in crate::storage) reply: Reply<()>,
}

/// A batch to be kept for longer, if it is here. The answer is the latest timeout.
#[derive(Debug)]
pub(in crate::storage) struct Extend {
    pub(in crate::storage) hash: DataHash,
    pub(in crate::storage) timeout: u64,
    pub(in crate::storage) now: u64,
    pub(in crate::storage) reply: Reply<Option<u64>>,
}

/// Shards to be stored. The answer says for each whether its batch was here to be a shard of.
#[derive(Debug)]
pub(in crate::storage) struct PutShards {
    pub(in crate::storage) shards: Vec<SealedShard>,
    pub(in crate::storage) reply: Reply<Vec<bool>>,
}

/// A shard to be stored, and its bytes as they are to be.
#[derive(Debug)]
pub(in crate::storage) struct SealedShard {
    pub(in crate::storage) new: NewShard,
    pub(in crate::storage) bytes: Bytes,
    pub(in crate::storage) key_id: u32,
}

/// What came at the same time.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) puts: Vec<Put>,
    pub(super) extends: Vec<Extend>,
    pub(super) shards: Vec<PutShards>,
}

impl Asked {
    pub(super) fn is_empty(&self) -> bool {
        self.puts.is_empty() && self.extends.is_empty() && self.shards.is_empty()
    }
}

/// The records that are asked for, and what to answer once they are on disk.
#[derive(Debug, Default)]
struct Decision {
    records: Vec<Append>,
    payloads: bool,
    /// Hashes whose stores are refused for want of room.
    refused: HashSet<DataHash>,
    extends: Vec<Option<u64>>,
    shards: Vec<Vec<bool>>,
}

impl Decision {
    fn bytes(&self) -> u64 {
        self.records.iter().map(Append::disk_bytes).sum()
    }
}

/// What will be known of a batch once the records decided on so far are on disk.
#[derive(Debug, Clone, Copy)]
struct Promised {
    timeout: u64,
    stored_at: u64,
}

impl Writer {
    pub(super) fn append_group(&mut self, asked: Asked) {
        match self.try_append_group(&asked) {
            Ok((decision, full)) => {
                for put in asked.puts {
                    let refused = full.as_ref().filter(|_| decision.refused.contains(&put.hash));
                    let _ = put.reply.send(refused.map_or(Ok(()), |error| Err(error.copy())));
                }
                for (extend, timeout) in asked.extends.into_iter().zip(decision.extends) {
                    let _ = extend.reply.send(Ok(timeout));
                }
                for (put, here) in asked.shards.into_iter().zip(decision.shards) {
                    let _ = put.reply.send(Ok(here));
                }
            }
            Err(error) => {
                error!(%error, stores = asked.puts.len(), shards = asked.shards.len(), "writes refused");
                asked.puts.into_iter().for_each(|put| drop(put.reply.send(Err(error.copy()))));
                asked.extends.into_iter().for_each(|extend| drop(extend.reply.send(Err(error.copy()))));
                asked.shards.into_iter().for_each(|put| drop(put.reply.send(Err(error.copy()))));
            }
        }
    }

    fn try_append_group(&mut self, asked: &Asked) -> Result<(Decision, Option<StorageError>), StorageError> {
        let mut decision = self.decide(asked, true)?;
        if decision.records.is_empty() {
            return Ok((decision, None));
        }
        let mut full = None;
        let purpose = if decision.payloads { Purpose::Stores } else { Purpose::Upkeep };
        let open = match self.segment_with_room(decision.bytes(), purpose) {
            // New batches have to wait, what is already here has not.
            Err(error) if error.is_disk_full() && decision.payloads => {
                error!(%error, stores = asked.puts.len(), "stores refused");
                decision = self.decide(asked, false)?;
                full = Some(error);
                if decision.records.is_empty() {
                    return Ok((decision, full));
                }
                self.segment_with_room(decision.bytes(), Purpose::Upkeep)?
            }
            other => other?,
        };
        self.write(open, &decision.records, false)?;
        Ok((decision, full))
    }

    /// Writes and syncs records, then enters them into the index. What was replaced is free then.
    pub(super) fn write(
        &mut self,
        mut open: OpenSegment,
        records: &[Append],
        rewriting: bool,
    ) -> Result<(), StorageError> {
        let found = match open.append(records) {
            Ok(found) => found,
            Err(error) => {
                // Nobody knows what a failed write or sync left: this segment ends here, the next group gets a new
                // one. The scan of the next start sorts out whole records.
                let _ = open.seal();
                return Err(StorageError::write(error));
            }
        };
        let end = LogEnd { segment: open.id(), offset: open.end() };
        self.open = Some(open);
        let group = Group::new(&self.index, &self.segments, self.totals);
        let mut group = if rewriting { group.of_rewritten() } else { group };
        found.iter().try_for_each(|record| group.enter(record))?;
        let applied = group.apply(Some(end), false)?;
        let freed = self.settle(applied)?;
        // What was replaced is free. Should a power cut take the index back to before this, then the log behind its end
        // says again what replaced it.
        if !freed.holes.is_empty() || !freed.segments.is_empty() {
            self.sweep(freed, Box::new(|| ()));
        }
        self.unsynced += records.iter().map(Append::disk_bytes).sum::<u64>();
        if self.unsynced >= INDEX_SYNC_BYTES {
            self.index.sync()?;
            self.unsynced = 0;
        }
        Ok(())
    }

    /// The records that are needed: a payload for what is not here whole or damaged, an extension for a later timeout,
    /// packs for the shards. Without `payloads` stores that need one are refused.
    fn decide(&self, asked: &Asked, payloads: bool) -> Result<Decision, StorageError> {
        let mut decision = Decision::default();
        let mut known: HashMap<DataHash, Promised> = HashMap::new();
        for put in &asked.puts {
            if decision.refused.contains(&put.hash) {
                continue;
            }
            if let Some(promised) = known.get_mut(&put.hash) {
                decision.extend(put.hash, promised, put.timeout, put.now);
                continue;
            }
            let indexed = self.index.batch(&put.hash)?;
            let damaged = indexed.is_some_and(|record| put.heal.is_some() && put.heal == record.place());
            let whole = indexed.is_some_and(|record| record.payload.is_some()) && !damaged;
            let mut promised = match indexed {
                Some(record) => Promised { timeout: record.timeout, stored_at: record.stored_at },
                None => Promised { timeout: put.timeout, stored_at: put.now },
            };
            if !whole && !payloads {
                decision.refused.insert(put.hash);
                continue;
            }
            if !whole {
                // A later timeout is the payload's own, unless shards will have to do without the payload again.
                if indexed.is_some_and(|record| record.shards == 0) {
                    promised.timeout = promised.timeout.max(put.timeout);
                }
                decision.payloads = true;
                let header = RecordHeader {
                    kind: RecordKind::Payload,
                    key_id: put.key_id,
                    length: put.payload.len() as u64,
                    hash: put.hash,
                    timeout: promised.timeout,
                    stored_at: promised.stored_at,
                };
                decision.records.push(Append::Batch { header, payload: put.payload.clone() });
            }
            decision.extend(put.hash, &mut promised, put.timeout, put.now);
            known.insert(put.hash, promised);
        }
        for extend in &asked.extends {
            let promised = self.promised(&mut known, &decision, &extend.hash)?;
            if let Some(promised) = promised {
                decision.extend(extend.hash, promised, extend.timeout, extend.now);
            }
            let timeout = known.get(&extend.hash).map(|promised| promised.timeout);
            decision.extends.push(timeout);
        }
        let mut pack = Vec::new();
        let mut pack_bytes = 0;
        for put in &asked.shards {
            let mut here = Vec::with_capacity(put.shards.len());
            for sealed in &put.shards {
                let new = &sealed.new;
                let promised = match (self.promised(&mut known, &decision, &new.hash)?, new.timeout) {
                    (Some(promised), timeout) => {
                        if let Some(timeout) = timeout {
                            decision.extend(new.hash, promised, timeout, new.now);
                        }
                        *promised
                    }
                    (None, Some(timeout)) => {
                        let promised = Promised { timeout, stored_at: new.now };
                        known.insert(new.hash, promised);
                        promised
                    }
                    (None, None) => {
                        here.push(false);
                        continue;
                    }
                };
                here.push(true);
                let packed = packed(sealed, promised);
                pack_bytes += packed.disk_bytes();
                pack.push(packed);
                if pack.len() == MAX_SHARDS || pack_bytes >= PACK_BYTES {
                    decision.records.push(Append::Pack(std::mem::take(&mut pack)));
                    pack_bytes = 0;
                }
            }
            decision.shards.push(here);
        }
        if !pack.is_empty() {
            decision.records.push(Append::Pack(pack));
        }
        Ok(decision)
    }

    /// What is promised of a batch that is here.
    fn promised<'a>(
        &self,
        known: &'a mut HashMap<DataHash, Promised>,
        decision: &Decision,
        hash: &DataHash,
    ) -> Result<Option<&'a mut Promised>, StorageError> {
        if !known.contains_key(hash)
            && !decision.refused.contains(hash)
            && let Some(record) = self.index.batch(hash)?
        {
            known.insert(*hash, Promised { timeout: record.timeout, stored_at: record.stored_at });
        }
        Ok(known.get_mut(hash))
    }
}

impl Decision {
    fn extend(&mut self, hash: DataHash, promised: &mut Promised, timeout: u64, now: u64) {
        if timeout > promised.timeout {
            promised.timeout = timeout;
            let (kind, key_id, length) = (RecordKind::Extension, PLAIN, 0);
            let header = RecordHeader { kind, key_id, length, hash, timeout, stored_at: now };
            self.records.push(Append::Batch { header, payload: Bytes::new() });
        }
    }
}

fn packed(sealed: &SealedShard, promised: Promised) -> PackedShard {
    let SealedShard { new, bytes, key_id } = sealed;
    let head = new.head();
    let head =
        ShardHead { timeout: promised.timeout, stored_at: promised.stored_at, key_id: *key_id, ..head };
    PackedShard { head, proof: new.shard.as_shard().proof.clone(), bytes: bytes.clone() }
}
