//! Bringing everything under the key that is active now: what was plain when encryption was switched on, what is under a
//! former key, and, when encryption was switched off, everything.

use std::sync::Arc;

use das_common::batch::VerifiedBatch;
use das_common::data_hash::DataHash;
use das_common::erasure::Shard;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::oneshot;

use super::index::{BatchRecord, KeyUse, Totals, state};
use super::log::{Command, Piece, Rewrite};
use super::scrub::{Form, successor};
use super::sealing::{PLAIN, name_of};
use super::segment::pack::{PackedShard, ShardHead};
use super::{BatchStore, StorageError, blocking};

/// Index entries read at a time.
const ENTRIES: usize = 256;
/// Index entries looked at in one step.
const MAX_ENTRIES: usize = 4096;

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RekeyStep {
    /// Where the next step begins; `None`: everything was looked at.
    pub next: Option<DataHash>,
    /// Bytes that were read and written anew.
    pub bytes: u64,
    /// Batches and shards that were.
    pub rewritten: usize,
    /// What is damaged: it stays as it is, until it is healed.
    pub damaged: Vec<(DataHash, Form)>,
}

/// What is encrypted with which key.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeysReport {
    /// The key that is active, `plain` without one.
    pub active: String,
    /// Bytes of whole batches and shards that are not encrypted.
    pub plain_bytes: u64,
    /// What is encrypted, by key; those that were given and that nothing is under too.
    pub keys: Vec<KeyReport>,
    /// Bytes that are still to be written anew under the active key.
    pub left_bytes: u64,
}

/// What is encrypted with one key.
#[derive(Debug, Clone, PartialEq, Eq, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KeyReport {
    /// Its id.
    pub id: String,
    /// Whole batches and shards.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl KeysReport {
    /// Whether this says more than that there is no encryption.
    pub fn is_of_use(&self) -> bool {
        self.active != name_of(PLAIN) || !self.keys.is_empty()
    }
}

impl BatchStore {
    /// What is encrypted with which key, as the index has counted it.
    pub fn keys(&self) -> Result<KeysReport, StorageError> {
        let uses: Vec<KeyUse> = self.index.state(state::KEYS)?.unwrap_or_default();
        let totals: Totals = self.index.state(state::TOTALS)?.unwrap_or_default();
        let all = totals.whole_bytes.saturating_add(totals.shard_bytes);
        let sealed: u64 = uses.iter().map(|key| key.bytes).sum();
        let active = self.sealer.keys.active_id();
        let plain_bytes = all.saturating_sub(sealed);
        let done = if active == PLAIN {
            plain_bytes
        } else {
            uses.iter().filter(|key| key.key_id == active).map(|key| key.bytes).sum()
        };
        // A key that nothing is under (any more) is named too: that is what tells that it can go.
        let idle = self.sealer.keys.ids().filter(|id| uses.iter().all(|key| key.key_id != *id));
        let idle = idle.map(|key_id| KeyUse { key_id, records: 0, bytes: 0 });
        let report =
            |key: &KeyUse| KeyReport { id: name_of(key.key_id), records: key.records, bytes: key.bytes };
        Ok(KeysReport {
            active: name_of(active),
            plain_bytes,
            keys: uses.iter().copied().chain(idle).map(|key| report(&key)).collect(),
            left_bytes: all.saturating_sub(done),
        })
    }

    /// Refuses a store in which something is under a key that was not given.
    pub(super) fn check_keys(&self) -> Result<(), StorageError> {
        let uses: Vec<KeyUse> = self.index.state(state::KEYS)?.unwrap_or_default();
        match uses.iter().find(|key| !self.sealer.keys.has(key.key_id)) {
            None => Ok(()),
            Some(KeyUse { key_id, records, bytes }) => {
                Err(StorageError::MissingKey { key_id: *key_id, records: *records, bytes: *bytes })
            }
        }
    }

    /// Writes some of what is under another key than the active one anew, by data hash from `cursor` on, until `max_bytes`
    /// were read: at least one batch if there is one. Stores that come meanwhile go first.
    pub async fn rekey_step(
        self: &Arc<Self>,
        cursor: Option<DataHash>,
        max_bytes: u64,
    ) -> Result<RekeyStep, StorageError> {
        let store = Arc::clone(self);
        let cursor = cursor.unwrap_or(DataHash::from_bytes([0; 32]));
        let (mut step, pieces) = blocking(move || store.collect(cursor, max_bytes)).await??;
        if !pieces.is_empty() {
            let (reply, answer) = oneshot::channel();
            step.rewritten = self.ask(Command::Rewrite(Rewrite { pieces, reply }), answer).await?;
        }
        Ok(step)
    }

    fn collect(&self, mut cursor: DataHash, max_bytes: u64) -> Result<(RekeyStep, Vec<Piece>), StorageError> {
        let mut step = RekeyStep { next: None, bytes: 0, rewritten: 0, damaged: Vec::new() };
        let (mut pieces, mut seen) = (Vec::new(), 0);
        loop {
            let batches = self.index.batches_from(&cursor, ENTRIES)?;
            let more = batches.len() == ENTRIES;
            for (hash, record) in batches {
                if step.bytes >= max_bytes || seen >= MAX_ENTRIES {
                    step.next = Some(hash);
                    return Ok((step, pieces));
                }
                seen += 1;
                self.collect_batch(&hash, &record, &mut step, &mut pieces)?;
                let Some(next) = successor(&hash) else { return Ok((step, pieces)) };
                cursor = next;
            }
            if !more {
                return Ok((step, pieces));
            }
        }
    }

    fn collect_batch(
        &self,
        hash: &DataHash,
        record: &BatchRecord,
        step: &mut RekeyStep,
        pieces: &mut Vec<Piece>,
    ) -> Result<(), StorageError> {
        let active = self.sealer.keys.active_id();
        if let Some(place) = record.place().filter(|_| record.key_id != active) {
            step.bytes += place.disk_bytes();
            let payload = self.read(hash, record)?;
            match payload.and_then(|payload| VerifiedBatch::check(payload, hash).ok()) {
                Some(batch) => {
                    let (payload, key_id) = self.sealer.seal_batch(hash, batch.bytes());
                    pieces.push(Piece::Whole { hash: *hash, from: *record, payload, key_id });
                }
                // What was dropped or replaced meanwhile is not damaged.
                None if self.index.batch(hash)?.and_then(|now| now.place()) == Some(place) => {
                    step.damaged.push((*hash, Form::Whole));
                }
                None => {}
            }
        }
        let shards = if record.shards == 0 { Vec::new() } else { self.index.shards(hash)? };
        for (coding, from) in shards.into_iter().filter(|(_, shard)| shard.key_id != active) {
            step.bytes += from.disk_bytes();
            match self.shard_at(hash, &coding, &from)? {
                Some((head, shard)) => {
                    let Shard { bytes, proof, .. } = shard;
                    let (bytes, key_id) = self.sealer.seal_shard(&head, &bytes);
                    let head = ShardHead { key_id, ..head };
                    let shard = PackedShard { head, proof, bytes };
                    pieces.push(Piece::Shard { hash: *hash, coding, from, shard });
                }
                None if self.index.shard(hash, &coding)? == Some(from) => {
                    step.damaged.push((*hash, Form::Shard(coding)));
                }
                None => {}
            }
        }
        Ok(())
    }
}
