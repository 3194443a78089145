//! The two forms of a batch: whole, and as a shard.

use std::io;
use std::sync::Arc;

use das_common::committee::CodingId;
use das_common::data_hash::DataHash;
use das_common::erasure::{CheckedShard, Code, Root, Shard};
use tokio::sync::oneshot;

use super::index::ShardRecord;
use super::log::{Command, Extend, PutShards, SealedShard, Upkeep};
use super::sealing::PLAIN;
use super::segment::pack::{self, ShardHead};
use super::{BatchStore, Lookup, StorageError, blocking};

/// The most batches or shards of one call.
pub const MAX_BATCHES: usize = 4096;

/// A shard to be stored.
#[derive(Debug, Clone)]
pub struct NewShard {
    /// The batch.
    pub hash: DataHash,
    /// How it was cut into shards.
    pub coding: CodingId,
    /// The shard with its proof.
    pub shard: CheckedShard,
    /// `None`: only if the batch is here in some form, so that one which expired meanwhile does not come back. Else it
    /// is kept until then (unix seconds) at least, also when nothing else of it is here.
    pub timeout: Option<u64>,
    /// When it is stored (unix seconds).
    pub now: u64,
}

impl NewShard {
    /// The head of its record, as far as it is known before it is written.
    pub(super) fn head(&self) -> ShardHead {
        let shard = self.shard.as_shard();
        ShardHead {
            hash: self.hash,
            coding: self.coding,
            root: *self.shard.root(),
            data_length: shard.data_length,
            timeout: self.timeout.unwrap_or(0),
            stored_at: self.now,
            index: shard.index,
            proof_hashes: u8::try_from(shard.proof.len()).expect("the proof of one of 64 shards"),
            length: shard.bytes.len() as u64,
            key_id: PLAIN,
        }
    }
}

/// What is here of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Whether it is here whole.
    pub whole: bool,
    /// The shards of it, by coding id.
    pub shards: Vec<HeldShard>,
    /// The latest time promised to anyone (unix seconds).
    pub timeout: u64,
    /// When it was first stored (unix seconds).
    pub stored_at: u64,
    /// Bytes of the whole batch.
    pub length: u64,
}

/// A shard that is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldShard {
    /// How the batch was cut into shards.
    pub coding: CodingId,
    /// The root that the shard is proved under.
    pub root: Root,
    /// Which shard.
    pub index: u8,
    /// Its bytes, without the proof.
    pub length: u64,
}

/// What became of a whole copy that was to be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DropOutcome {
    /// It is gone, only shards are left.
    Dropped,
    /// It was not here whole.
    NotWhole,
    /// No shard of it is here that carries its promise: it stays whole.
    NoShard,
    /// More was promised than its owner knew of: it stays whole.
    Promised {
        /// The latest timeout (unix seconds).
        timeout: u64,
    },
    /// Nothing of it is here.
    Absent,
}

impl BatchStore {
    /// What is here of a batch.
    pub fn held(&self, hash: &DataHash) -> Result<Option<Held>, StorageError> {
        let Some(record) = self.index.batch(hash)? else { return Ok(None) };
        let shards = if record.shards == 0 { Vec::new() } else { self.index.shards(hash)? };
        let shards = shards.iter().map(|(coding, shard)| HeldShard {
            coding: *coding,
            root: shard.root(),
            index: shard.index,
            length: shard.length,
        });
        Ok(Some(Held {
            whole: record.payload.is_some(),
            shards: shards.collect(),
            timeout: record.timeout,
            stored_at: record.stored_at,
            length: record.length,
        }))
    }

    /// Stores shards, many in one record: the more at once, the less room they take; but stores that come at the same
    /// time wait for them, so a MB or two is enough. Once this returns, a power cut
    /// takes nothing of them. A shard of the same batch and coding takes the place of an earlier one. The answer says
    /// for each whether it was stored; see [`NewShard::timeout`].
    pub async fn put_shards(&self, shards: Vec<NewShard>) -> Result<Vec<bool>, StorageError> {
        check_count(shards.len())?;
        if shards.is_empty() {
            return Ok(Vec::new());
        }
        let sealer = self.sealer.clone();
        let seal = move || -> Vec<SealedShard> {
            let sealed = shards.into_iter().map(|new| {
                let (bytes, key_id) = sealer.seal_shard(&new.head(), &new.shard.as_shard().bytes);
                SealedShard { new, bytes, key_id }
            });
            sealed.collect()
        };
        let shards = if self.sealer.keys.active_id() == PLAIN { seal() } else { blocking(seal).await? };
        let (reply, answer) = oneshot::channel();
        self.ask(Command::PutShards(PutShards { shards, reply }), answer).await
    }

    /// Keeps a batch that is here, in whatever form, until `timeout` (unix seconds) at least. The answer is the latest
    /// timeout; `None`: nothing of it is here.
    pub async fn extend(&self, hash: DataHash, timeout: u64, now: u64) -> Result<Option<u64>, StorageError> {
        let (reply, answer) = oneshot::channel();
        self.ask(Command::Extend(Extend { hash, timeout, now, reply }), answer).await
    }

    /// Drops the whole copies of batches of which a shard is here, if the promise given with each is still the latest,
    /// and gives their space back. The index is synced before the bytes go.
    pub async fn drop_whole(&self, batches: Vec<(DataHash, u64)>) -> Result<Vec<DropOutcome>, StorageError> {
        check_count(batches.len())?;
        let (reply, answer) = oneshot::channel();
        self.ask(Command::Upkeep(Upkeep::DropWhole { batches, reply }), answer).await
    }

    /// Deletes shards of codings no longer in force, or damaged ones, and gives their space back. `false`: it is not
    /// here, or nothing else that is here is enough for the promise.
    pub async fn delete_shards(&self, shards: Vec<(DataHash, CodingId)>) -> Result<Vec<bool>, StorageError> {
        check_count(shards.len())?;
        let (reply, answer) = oneshot::channel();
        self.ask(Command::Upkeep(Upkeep::DeleteShards { shards, reply }), answer).await
    }

    /// Removes batches in every form, if the promise given with each is still the latest, and gives their space back.
    /// Returns those that are gone.
    pub async fn expire_batches(&self, batches: Vec<(DataHash, u64)>) -> Result<Vec<DataHash>, StorageError> {
        check_count(batches.len())?;
        let (reply, answer) = oneshot::channel();
        self.ask(Command::Upkeep(Upkeep::ExpireBatches { batches, reply }), answer).await
    }

    /// Reads a shard, checked against its record and its root.
    pub async fn read_shard(
        self: &Arc<Self>,
        hash: DataHash,
        coding: CodingId,
        code: &Code,
    ) -> Result<Lookup<CheckedShard>, StorageError> {
        let (store, code) = (Arc::clone(self), code.clone());
        blocking(move || store.find_shard(&hash, &coding, &code)).await?
    }

    fn find_shard(
        &self,
        hash: &DataHash,
        coding: &CodingId,
        code: &Code,
    ) -> Result<Lookup<CheckedShard>, StorageError> {
        let mut damaged = false;
        // A second look tells a shard that was deleted or replaced while it was read from one that rotted.
        for _ in 0..2 {
            let Some(record) = self.index.shard(hash, coding)? else { return Ok(Lookup::Absent) };
            let shard = self.shard_at(hash, coding, &record)?;
            if let Some(shard) = shard.and_then(|(_, shard)| shard.check(code, &record.root()).ok()) {
                return Ok(Lookup::Found(shard));
            }
            damaged = true;
            self.files.invalidate(&record.segment);
        }
        Ok(if damaged { Lookup::Damaged } else { Lookup::Absent })
    }

    /// The shard that a record names with the head of its record, if it is whole and opens.
    pub(super) fn shard_at(
        &self,
        hash: &DataHash,
        coding: &CodingId,
        record: &ShardRecord,
    ) -> Result<Option<(ShardHead, Shard)>, StorageError> {
        let read = self.file(record.segment).and_then(|file| {
            let size = record.disk_bytes();
            pack::read_shard(&file, &self.sealer.storage, record.segment, record.offset, size)
        });
        match read {
            Ok(found) => {
                let found = found.filter(|(head, _)| {
                    head.hash == *hash && head.coding == *coding && head.root == record.root()
                });
                let Some((head, shard)) = found else { return Ok(None) };
                let opened = self.sealer.open_shard(&head, shard.bytes.clone())?;
                Ok(opened.map(|bytes| (head, Shard { bytes, ..shard })))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) => {
                Ok(None)
            }
            Err(source) => Err(StorageError::Read { source }),
        }
    }

    /// The batches that are here whole, oldest first: those stored before `before` (unix seconds) only, at most
    /// `limit`, with the times they were stored.
    pub fn oldest_whole(&self, before: u64, limit: usize) -> Result<Vec<(u64, DataHash)>, StorageError> {
        Ok(self.index.oldest_whole(before, limit.min(MAX_BATCHES))?)
    }

    /// From now on, across restarts, every store and every later timeout leaves a note for custody
    /// ([`arrival_key`](super::index::arrival_key)) in the same change of the index; or no longer.
    pub fn note_arrivals(&self, on: bool) -> Result<(), StorageError> {
        Ok(self.index.note_arrivals(on)?)
    }
}

pub(super) fn check_count(got: usize) -> Result<(), StorageError> {
    if got <= MAX_BATCHES { Ok(()) } else { Err(StorageError::TooMany { got, limit: MAX_BATCHES }) }
}
