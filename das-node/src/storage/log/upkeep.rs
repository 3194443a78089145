//! What takes away: expiry, whole copies dropped, shards deleted. The index forgets first, synced; then the space goes
//! back.

use das_common::committee::CodingId;
use das_common::data_hash::DataHash;
use tokio::sync::oneshot;

use super::Writer;
use super::group::{Applied, Group};
use super::sweep::{Freed, Sweep};
use crate::storage::index::{BatchRecord, Note};
use crate::storage::segment::OpenSegment;
use crate::storage::{DropOutcome, StorageError};

type Reply<T> = oneshot::Sender<Result<T, StorageError>>;

/// Something to be taken away. Who asks hears of it when the space is free.
#[derive(Debug)]
pub(in crate::storage) enum Upkeep {
    /// Forget at most `limit` batches whose timeout is at most `until`.
    Expire { until: u64, limit: usize, reply: Reply<Vec<DataHash>> },
    /// Forget these batches, if these are still their timeouts.
    ExpireBatches { batches: Vec<(DataHash, u64)>, reply: Reply<Vec<DataHash>> },
    /// Keep only the shards of these batches, if these are still their timeouts.
    DropWhole { batches: Vec<(DataHash, u64)>, reply: Reply<Vec<DropOutcome>> },
    /// Keep these batches in the archive only; the answer is how many were whole here.
    DropArchived { batches: Vec<DataHash>, reply: Reply<usize> },
    /// Forget these shards.
    DeleteShards { shards: Vec<(DataHash, CodingId)>, reply: Reply<Vec<bool>> },
}

impl Writer {
    pub(super) fn upkeep(&mut self, upkeep: Upkeep) {
        match upkeep {
            Upkeep::Expire { until, limit, reply } => {
                let result = self.expire(until, limit);
                self.finish(result, reply);
            }
            Upkeep::ExpireBatches { batches, reply } => {
                let result = self.expire_batches(&batches);
                self.finish(result, reply);
            }
            Upkeep::DropWhole { batches, reply } => {
                let result = self.drop_whole(&batches);
                self.finish(result, reply);
            }
            Upkeep::DropArchived { batches, reply } => {
                let result = self.drop_archived(&batches);
                self.finish(result, reply);
            }
            Upkeep::DeleteShards { shards, reply } => {
                let result = self.delete_shards(&shards);
                self.finish(result, reply);
            }
        }
    }

    /// Answers once the space was given back.
    fn finish<T: Send + 'static>(&self, result: Result<(T, Freed), StorageError>, reply: Reply<T>) {
        match result {
            Ok((value, freed)) => self.sweep(freed, Box::new(move || drop(reply.send(Ok(value))))),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    pub(super) fn sweep(&self, freed: Freed, done: Box<dyn FnOnce() + Send>) {
        let sweep = Sweep { freed, done };
        match &self.sweeps {
            Some(sweeps) => {
                // The other end hangs up only when this thread has dropped its own.
                let _ = sweeps.send(sweep);
            }
            None => (sweep.done)(),
        }
    }

    fn expire(&mut self, until: u64, limit: usize) -> Result<(Vec<DataHash>, Freed), StorageError> {
        let due = self.index.expiring(until, limit)?;
        let mut group = Group::new(&self.index, &self.segments, self.totals);
        let mut gone = Vec::new();
        let mut stale = false;
        for (timeout, hash) in due {
            match group.batch(&hash)? {
                Some(record) if record.timeout == timeout => {
                    group.delete(&hash, record)?;
                    gone.push(hash);
                }
                _ => {
                    group.change.delete_expiry(timeout, &hash);
                    stale = true;
                }
            }
        }
        if gone.is_empty() && !stale {
            return Ok((gone, Freed::default()));
        }
        let applied = group.apply(None, true)?;
        Ok((gone, self.settle(applied)?))
    }

    fn expire_batches(
        &mut self,
        batches: &[(DataHash, u64)],
    ) -> Result<(Vec<DataHash>, Freed), StorageError> {
        let mut group = Group::new(&self.index, &self.segments, self.totals);
        let mut gone = Vec::new();
        for (hash, promise) in batches {
            if let Some(record) = group.batch(hash)?
                && record.timeout == *promise
            {
                group.delete(hash, record)?;
                gone.push(*hash);
            }
        }
        if gone.is_empty() {
            return Ok((gone, Freed::default()));
        }
        let applied = group.apply(None, true)?;
        Ok((gone, self.settle(applied)?))
    }

    fn drop_whole(&mut self, batches: &[(DataHash, u64)]) -> Result<(Vec<DropOutcome>, Freed), StorageError> {
        let mut group = Group::new(&self.index, &self.segments, self.totals);
        let mut outcomes = Vec::with_capacity(batches.len());
        for (hash, promise) in batches {
            outcomes.push(match group.batch(hash)? {
                None => DropOutcome::Absent,
                Some(record) if record.payload.is_none() => DropOutcome::NotWhole,
                Some(record) if record.timeout != *promise => {
                    DropOutcome::Promised { timeout: record.timeout }
                }
                Some(record) => {
                    let shards = group.shards_of(hash)?;
                    // A shard's record that carries the latest timeout makes one of its own needless. One of both must
                    // carry it through the loss of the index.
                    let carried = shards.iter().any(|(_, shard)| shard.timeout >= record.timeout);
                    let extension = record.extension.filter(|_| !carried);
                    if shards.is_empty() || !(carried || extension.is_some()) {
                        DropOutcome::NoShard
                    } else {
                        let sharded = BatchRecord { extension, ..record.without_payload() };
                        group.set_batch(hash, Some(sharded), Some(record));
                        DropOutcome::Dropped
                    }
                }
            });
        }
        if !outcomes.contains(&DropOutcome::Dropped) {
            return Ok((outcomes, Freed::default()));
        }
        let applied = group.apply(None, true)?;
        Ok((outcomes, self.settle(applied)?))
    }

    fn drop_archived(&mut self, batches: &[DataHash]) -> Result<(usize, Freed), StorageError> {
        let mut group = Group::new(&self.index, &self.segments, self.totals);
        let mut dropped = 0;
        for hash in batches {
            let Some(record) = group.batch(hash)? else { continue };
            // What is still to be uploaded was written again since the archive was looked at.
            if record.payload.is_some() && !self.index.has_note(&Note::upload(*hash, &record))? {
                group.set_batch(hash, Some(record.without_payload()), Some(record));
                dropped += 1;
            }
        }
        if dropped == 0 {
            return Ok((0, Freed::default()));
        }
        let applied = group.apply(None, true)?;
        Ok((dropped, self.settle(applied)?))
    }

    fn delete_shards(&mut self, shards: &[(DataHash, CodingId)]) -> Result<(Vec<bool>, Freed), StorageError> {
        let mut group = Group::new(&self.index, &self.segments, self.totals);
        let mut deleted = Vec::with_capacity(shards.len());
        for (hash, coding) in shards {
            let (Some(record), Some(shard)) = (group.batch(hash)?, group.shard(hash, coding)?) else {
                deleted.push(false);
                continue;
            };
            // What is left must be the batch, and must carry its promise through the loss of the index.
            let others = group.shards_of(hash)?;
            let mut others = others.iter().filter(|(other, _)| other != coding).peekable();
            let enough = record.payload.is_some()
                || (record.extension.is_some() && others.peek().is_some())
                || others.any(|(_, other)| other.timeout >= record.timeout);
            if enough {
                group.set_shard(hash, coding, None, Some(shard))?;
                let fewer = BatchRecord { shards: record.shards.saturating_sub(1), ..record };
                group.set_batch(hash, Some(fewer), Some(record));
            }
            deleted.push(enough);
        }
        if !deleted.contains(&true) {
            return Ok((deleted, Freed::default()));
        }
        let applied = group.apply(None, true)?;
        Ok((deleted, self.settle(applied)?))
    }

    /// Takes over what the index has taken, and says what is free now.
    pub(super) fn settle(&mut self, applied: Applied) -> Result<Freed, StorageError> {
        let Applied { touched, totals, holes } = applied;
        self.totals = totals;
        self.segments.extend(touched.iter().map(|(id, record)| (*id, *record)));
        let open = self.open.as_ref().map(OpenSegment::id);
        let mut freed = Freed { holes, segments: Vec::new() };
        for (id, record) in touched {
            if Some(id) != open && record.live_records == 0 {
                self.forget_segment(id)?;
                freed.segments.push(id);
            }
        }
        Ok(freed)
    }
}
