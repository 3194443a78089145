//! What is written at once.

use das_chain::follow::Position;
use rocksdb::WriteBatch;

use super::record::PayloadRecord;
use super::{
    Applied, BATCHES, BatchRecord, ERAS, EraRecord, FOLLOWING, FollowingRecord, HASHES, Index, IndexError,
    POSITION, QUEUE, STATE, TIMES, TRANSACTIONS, encode, era_key, failed, hash_key, now, queue_key,
    split_era_key,
};
use crate::types::{Payload, PostedBatch};

/// Changes of the database that are all made, or none. What is read meanwhile is the database without them.
pub(super) struct Change<'a> {
    index: &'a Index,
    batch: WriteBatch,
    following: FollowingRecord,
    pub(super) applied: Applied,
}

impl<'a> Change<'a> {
    /// Of an index in this state, by the holder of its lock.
    pub(super) fn new(index: &'a Index, following: FollowingRecord) -> Self {
        Self { index, batch: WriteBatch::default(), following, applied: Applied::default() }
    }

    /// Makes them; the state after them.
    pub(super) fn write(mut self) -> Result<FollowingRecord, IndexError> {
        self.put(STATE, FOLLOWING, &encode(&self.following));
        self.index.db.write(self.batch).map_err(failed)?;
        Ok(self.following)
    }

    fn put(&mut self, family: &'static str, key: &[u8], value: &[u8]) {
        self.batch.put_cf(self.index.family(family), key, value);
    }

    fn delete(&mut self, family: &'static str, key: &[u8]) {
        self.batch.delete_cf(self.index.family(family), key);
    }

    pub(super) fn set_position(&mut self, position: &Position) {
        self.put(STATE, POSITION, &position.to_bytes());
    }

    /// The era of the chain that a position is on is the one in force.
    pub(super) fn enter_era(&mut self, position: &Position) -> Result<(), IndexError> {
        let genesis = position.genesis().0;
        if let Some(era) = self.following.era {
            if self.index.era_record(era)?.genesis == genesis {
                return Ok(());
            }
            self.end_era()?;
        }
        let id = self.following.eras;
        let followed = self.index.followed;
        let record = EraRecord {
            chain_id: followed.chain_id,
            genesis,
            inbox: followed.inbox.into_array(),
            start: followed.start,
            began: now(),
            ended: None,
        };
        self.put(ERAS, &id.to_be_bytes(), &encode(&record));
        self.following.eras += 1;
        self.following.era = Some(id);
        self.applied.is_new_era = true;
        Ok(())
    }

    /// Nothing is followed any more; what was is kept, but for what there was to do.
    pub(super) fn end_era(&mut self) -> Result<(), IndexError> {
        self.delete(STATE, POSITION);
        let Some(era) = self.following.era else { return Ok(()) };
        let record = EraRecord { ended: Some(now()), ..self.index.era_record(era)? };
        self.put(ERAS, &era.to_be_bytes(), &encode(&record));
        let (first, last) = (queue_key(era, 0, 0), queue_key(era, u64::MAX, u64::MAX));
        self.batch.delete_range_cf(self.index.family(QUEUE), first, last);
        self.following = FollowingRecord { eras: self.following.eras, ..FollowingRecord::default() };
        Ok(())
    }

    /// Removes the batches above a block; `None`: all.
    pub(super) fn roll_back(&mut self, to: Option<u64>) -> Result<(), IndexError> {
        let Some(era) = self.following.era else { return Ok(()) };
        self.remove_while(era, |_, record| to.is_none_or(|to| record.block > to))
    }

    /// Removes the batches with the highest numbers, as long as they are unwanted.
    fn remove_while(
        &mut self,
        era: u32,
        is_unwanted: impl Fn(u64, &BatchRecord) -> bool,
    ) -> Result<(), IndexError> {
        let index = self.index;
        let mut lowest = None;
        for entry in index.batches_below(era, None) {
            let (number, record) = entry?;
            if !is_unwanted(number, &record) {
                break;
            }
            lowest = Some(number);
            self.count(&record.payload, -1);
            self.leave_queue(era, number, &record.payload);
            self.delete(BATCHES, &era_key(era, number));
            self.delete(TRANSACTIONS, &hash_key(&record.transaction, era, number));
            if let Some(hash) = record.data_hash() {
                self.delete(HASHES, &hash_key(&hash, era, number));
            }
            self.following.batches = self.following.batches.saturating_sub(1);
            self.applied.removed += 1;
        }
        let Some(lowest) = lowest else { return Ok(()) };
        for entry in self.times_from_the_last(era) {
            let (time, number) = entry?;
            if number < lowest {
                break;
            }
            self.delete(TIMES, &era_key(era, time));
        }
        Ok(())
    }

    /// The entries of `times`, the last first, with their batches.
    fn times_from_the_last(
        &self,
        era: u32,
    ) -> impl Iterator<Item = Result<(u64, u64), IndexError>> + use<'a> {
        let index = self.index;
        let mut iterator = index.db.raw_iterator_cf(index.family(TIMES));
        iterator.seek_for_prev(era_key(era, u64::MAX));
        std::iter::from_fn(move || {
            let entry = match (iterator.key(), iterator.value()) {
                (Some(key), Some(value)) => match (split_era_key(key), value.try_into()) {
                    (Some((of, time)), Ok(number)) => {
                        (of == era).then_some(Ok((time, u64::from_be_bytes(number))))?
                    }
                    _ => Err(index.damaged(key)),
                },
                _ => return super::ended(&iterator),
            };
            iterator.prev();
            Some(entry)
        })
    }

    /// Adds batches of newer blocks than all that are known. A number that was there before takes the place of that
    /// batch and of all after it: the contract counts from there again.
    pub(super) fn add(&mut self, batches: &[PostedBatch]) -> Result<(), IndexError> {
        let Some(era) = self.following.era else { return Ok(()) };
        let mut kept: Vec<&PostedBatch> = Vec::with_capacity(batches.len());
        for batch in batches {
            while let Some(again) = kept.pop_if(|last| last.number >= batch.number) {
                self.applied.broken_at.get_or_insert(again.number);
            }
            kept.push(batch);
        }
        let Some(first) = kept.first().map(|batch| batch.number) else { return Ok(()) };
        self.remove_while(era, |number, _| number >= first)?;
        if self.applied.removed > 0 {
            self.applied.broken_at.get_or_insert(first);
        }
        let before = self.index.batches_below(era, Some(first)).next().transpose()?;
        let mut before = before.map(|(number, record)| (number, record.after_acc));
        let mut latest = None;
        for entry in self.times_from_the_last(era) {
            let (time, number) = entry?;
            if number < first {
                latest = Some(time);
                break;
            }
        }
        for batch in kept {
            let is_next = before.is_none_or(|(number, accumulator)| {
                number.checked_add(1) == Some(batch.number) && accumulator == batch.before_acc.0
            });
            if !is_next {
                self.applied.broken_at.get_or_insert(batch.number);
            }
            before = Some((batch.number, batch.after_acc.0));
            self.add_one(era, batch);
            if latest.is_none_or(|latest| latest < batch.timestamp) {
                latest = Some(batch.timestamp);
                self.put(TIMES, &era_key(era, batch.timestamp), &batch.number.to_be_bytes());
            }
        }
        Ok(())
    }

    fn add_one(&mut self, era: u32, batch: &PostedBatch) {
        let number = batch.number;
        let record = BatchRecord::from(batch);
        self.put(BATCHES, &era_key(era, number), &encode(&record));
        self.put(TRANSACTIONS, &hash_key(&record.transaction, era, number), &[]);
        if let Some(hash) = record.data_hash() {
            self.put(HASHES, &hash_key(&hash, era, number), &[]);
        }
        self.count(&record.payload, 1);
        self.enter_queue(era, number, &record.payload);
        self.following.batches += 1;
        self.applied.added += 1;
    }

    /// Sets what became of the payload of a batch that is there.
    pub(super) fn set_payload(&mut self, era: u32, number: u64, mut record: BatchRecord, payload: &Payload) {
        let is_in_force = self.following.era == Some(era);
        if is_in_force {
            self.count(&record.payload, -1);
            self.leave_queue(era, number, &record.payload);
        }
        record.payload = payload.into();
        if is_in_force {
            self.count(&record.payload, 1);
            self.enter_queue(era, number, &record.payload);
        }
        self.put(BATCHES, &era_key(era, number), &encode(&record));
    }

    fn count(&mut self, payload: &PayloadRecord, change: i64) {
        if let PayloadRecord::Waiting { attempts, .. } = payload {
            self.following.waiting = self.following.waiting.saturating_add_signed(change);
            let failing = if *attempts > 0 { change } else { 0 };
            self.following.failing = self.following.failing.saturating_add_signed(failing);
        }
    }

    fn enter_queue(&mut self, era: u32, number: u64, payload: &PayloadRecord) {
        if let PayloadRecord::Waiting { retry_at, .. } = payload {
            self.put(QUEUE, &queue_key(era, *retry_at, number), &[]);
        }
    }

    fn leave_queue(&mut self, era: u32, number: u64, payload: &PayloadRecord) {
        if let PayloadRecord::Waiting { retry_at, .. } = payload {
            self.delete(QUEUE, &queue_key(era, *retry_at, number));
        }
    }
}
