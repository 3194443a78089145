//! In which form a batch is: decided by what the disk holds, never by what was meant to happen to it.

use super::ledger::{self, Held, Ledger};
use super::record::{Form, Record, queue};
use super::work::{Kind, Task, Unsynced};
use super::{Effect, Machine, Mutant, Now, Result};
use crate::committee::CodingId;
use crate::data_hash::DataHash;
use crate::erasure::Root;

/// Everything is kept for so many seconds beyond its end: clocks differ.
pub(super) const GRACE: u64 = 3600;

impl<L: Ledger> Machine<L> {
    /// The newest coding's number, if batches are coded by it and this member has a shard of it.
    pub(super) fn target(&self) -> Option<u8> {
        self.target_member().filter(|number| self.codings[number].is_coded())
    }

    /// The newest coding's number, if this member is in it.
    pub(super) fn target_member(&self) -> Option<u8> {
        self.my_index(self.newest).map(|_| self.newest)
    }

    pub(super) fn my_index(&self, coding: u8) -> Option<usize> {
        self.codings.get(&coding).and_then(|coding| coding.index_of(&self.config.me))
    }

    /// Until when a repair made now may keep its batch.
    pub(super) fn latest_repair(&self, now: Now) -> u64 {
        if self.config.keep_for_ever {
            u64::MAX
        } else {
            now.wall.saturating_add(self.config.max_retention.as_secs())
        }
    }

    /// What this member promises when its store promises so much.
    fn promise_of(&self, held: &Held) -> u64 {
        match held.promise {
            None => 0,
            Some(_) if self.config.keep_for_ever => u64::MAX,
            Some(promise) => promise,
        }
    }

    /// Looks at the disk and puts the batch where it belongs.
    pub(super) fn settle(&mut self, hash: &DataHash, now: Now) -> Result<(), L> {
        let keep_dropping = self.busy.get(hash).is_some_and(|task| task.kind == Kind::Drop);
        let held = self.ledger.held(hash)?;
        let old = self.record(hash)?;
        if old.is_none() && held.promise.is_none() && !held.whole {
            return Ok(());
        }
        let mut record = old.clone().unwrap_or_else(|| Record::new(now.wall));
        if (record.form == Form::Unheld && held.promise.is_some()) || record.since > now.wall {
            record.since = now.wall;
        }
        let promise = self.promise_of(&held);
        for part in &mut record.parts {
            let coding = self.codings.get(&part.coding);
            if coding.is_some_and(|coding| !held.shards.contains(&coding.id)) {
                // A shard that was lost is stated again once it is back: an audit may have found it missing meanwhile.
                part.stated_as = 0;
            }
        }
        let extended = promise > record.promise;
        record.promise = record.promise.max(promise);
        self.place(&mut record, &held, keep_dropping && !extended);
        if extended {
            record.good = None;
        }
        self.judge_takeover(&mut record, now);
        self.replace(hash, old.as_ref(), Some(&record));
        Ok(())
    }

    fn place(&self, record: &mut Record, held: &Held, keep_dropping: bool) {
        let has = |number: u8| {
            let known = record.part(number).is_some_and(|part| part.own.is_some());
            known && self.codings.get(&number).is_some_and(|coding| held.shards.contains(&coding.id))
        };
        let target = self.target();
        // A shard of an earlier coding that was stated and is lost: others may rely on it still.
        let mut stated = record.parts.iter().filter(|part| part.own.is_some() && part.stated > 0);
        let broken = stated.find(|part| !has(part.coding) && self.my_index(part.coding).is_some());
        let broken = broken.map(|part| part.coding);
        let (form, coding) = if held.whole {
            match target {
                _ if broken.is_some() => (Form::Encode, broken.unwrap_or(self.newest)),
                None => (Form::Whole, self.newest),
                Some(number) if !has(number) => (Form::Encode, number),
                Some(number) if record.form == Form::Dropping && record.coding == number && keep_dropping => {
                    (Form::Dropping, number)
                }
                Some(number) => (Form::Wait, number),
            }
        } else if let Some(number) = self.codings.keys().rev().copied().find(|number| has(*number))
            && broken.is_none()
        {
            (Form::Dropped, number)
        } else if record.promise.max(record.authority) > 0 {
            // Whether its time is over is a question for the expiry, which asks others about the clock first.
            (Form::Missing, self.newest)
        } else {
            (Form::Unheld, self.newest)
        };
        (record.form, record.coding) = (form, coding);
    }

    /// After a start: the decisions to drop that were not carried out are taken back. What was carried out is seen as such.
    pub(super) fn cancel_drops(&mut self, now: Now) -> Result<(), L> {
        const AT_ONCE: usize = 256;
        let prefix = [b'Q', queue::DROPPING];
        loop {
            let keys = self.ledger.keys(&prefix, &prefix, AT_ONCE)?;
            if keys.is_empty() {
                return Ok(());
            }
            for hash in keys.iter().filter_map(|key| ledger::hash_at_end(key)) {
                self.settle(&hash, now)?;
            }
            self.flush(false)?;
        }
    }

    pub(super) fn encoded(
        &mut self,
        hash: DataHash,
        coding: CodingId,
        root: Root,
        length: u64,
        now: Now,
    ) -> Result<(), L> {
        if self.busy.get(&hash).is_none_or(|task| task.kind != Kind::Encode) {
            return Ok(());
        }
        let known = self.codings.values().find(|known| known.id == coding);
        let bytes = length.div_ceil(known.map_or(1, |known| u64::from(known.data_shards).max(1)));
        let shard = Unsynced { hash, coding, root, length, bytes, since: now.steady };
        if self.is(Mutant::StatesUnsynced) {
            return self.shard_is_safe(&shard, now);
        }
        // It stays busy until it is synced.
        self.busy.insert(hash, Task { kind: Kind::Sync });
        self.unsynced.push(shard);
        self.idle.remove(&Kind::Sync);
        self.idle.remove(&Kind::Encode);
        Ok(())
    }

    pub(super) fn shards_synced(&mut self, now: Now) -> Result<(), L> {
        for shard in std::mem::take(&mut self.syncing) {
            self.shard_is_safe(&shard, now)?;
        }
        self.idle.remove(&Kind::Sync);
        Ok(())
    }

    pub(super) fn sync_failed(&mut self, now: Now) -> Result<(), L> {
        for shard in std::mem::take(&mut self.syncing) {
            self.failed(&shard.hash, now)?;
        }
        Ok(())
    }

    fn shard_is_safe(&mut self, shard: &Unsynced, now: Now) -> Result<(), L> {
        let hash = shard.hash;
        self.release(&hash);
        let number = self.codings.iter().find(|(_, known)| known.id == shard.coding);
        let (Some((number, _)), Some(old)) = (number, self.record(&hash)?) else { return Ok(()) };
        let mut record = old.clone();
        record.length = shard.length;
        let part = record.part_mut(*number);
        part.own = part.root_index(shard.root);
        let part = part.clone();
        self.replace(&hash, Some(&old), Some(&record));
        self.compare_roots(&hash, &part)?;
        self.settle(&hash, now)
    }

    /// Work on a batch was done; what became of it is on the disk.
    pub(super) fn done(&mut self, hash: &DataHash, now: Now) -> Result<(), L> {
        self.release(hash);
        self.backoff.forget(hash);
        self.settle(hash, now)
    }

    pub(super) fn failed(&mut self, hash: &DataHash, now: Now) -> Result<(), L> {
        if self.busy.get(hash).is_some_and(|task| task.kind == Kind::Expire) {
            self.no_expiry_before = now.steady + self.config.retry_delay;
        } else {
            let kind = self.busy.get(hash).map(|task| task.kind);
            self.backoff.failed(hash, now.steady, self.config.retry_delay, kind);
        }
        self.release(hash);
        self.settle(hash, now)
    }

    pub(super) fn release(&mut self, hash: &DataHash) {
        self.busy.remove(hash);
        self.idle.clear();
    }

    pub(super) fn certified(&mut self, hash: &DataHash, until: u64, now: Now) -> Result<(), L> {
        let until = until.min(self.latest_repair(now));
        let old = self.record(hash)?;
        if self.target_member().is_none() || (until <= now.wall && self.agrees_with_peers(now)) {
            return Ok(());
        }
        let mut record = old.clone().unwrap_or_else(|| Record::new(now.wall));
        if record.authority >= until {
            return Ok(());
        }
        record.authority = until;
        record.forget = record.forget.max(until);
        self.replace(hash, old.as_ref(), Some(&record));
        if record.form == Form::Unheld {
            self.settle(hash, now)?;
        }
        Ok(())
    }

    pub(super) fn expired(&mut self, hash: &DataHash, done: bool, now: Now) -> Result<(), L> {
        self.release(hash);
        let held = self.ledger.held(hash)?;
        if !done || held.promise.is_some() {
            return self.settle(hash, now);
        }
        let old = self.record(hash)?;
        // Others may have stated it for longer than it was promised here. When enough of them do it is to be held again, and
        // what they have stated so far they will not state a second time.
        let left = old.as_ref().filter(|old| old.forget > now.wall).map(|old| {
            let mut left = Record { form: Form::Unheld, coding: self.newest, promise: 0, ..old.clone() };
            for part in &mut left.parts {
                (part.own, part.stated, part.stated_as) = (None, 0, 0);
            }
            if left.authority <= now.wall {
                left.authority = 0;
            }
            left
        });
        self.replace(hash, old.as_ref(), left.as_ref());
        if left.is_some_and(|left| left.authority > 0) {
            self.settle(hash, now)?;
        }
        Ok(())
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, now: Now) -> Result<(), L> {
        self.idle.clear();
        self.backoff.tidy(now.steady);
        self.say_hello(now);
        self.save_silence(now);
        self.note_repairs(now);
        for index in 0..self.members.len() {
            if index != self.me && self.is_silent(index, now) {
                let member = self.members[index].key;
                self.alarm(super::Alarm::Silent { member }, true);
            }
        }
        self.judge_suspects()?;
        self.mend_future(now)?;
        if self.may_delete(now) {
            self.prune_lists(now)?;
        }
        Ok(())
    }

    /// Deletes what has ended, or only forgets it when there is nothing on the disk.
    pub(super) fn expire(&mut self, now: Now) -> Result<bool, L> {
        let limit = self.config.limits.expiries;
        if self.busy_with(Kind::Expire) >= limit
            || now.steady < self.no_expiry_before
            || !self.may_delete(now)
        {
            self.idle.insert(Kind::Expire);
            return Ok(false);
        }
        let keys = self.ledger.keys(ledger::EXPIRY, ledger::EXPIRY, limit + self.busy.len())?;
        let mut some = false;
        for key in keys {
            let end = ledger::number_at(&key, 1).unwrap_or(u64::MAX);
            if end == u64::MAX || end.saturating_add(GRACE) >= now.wall {
                break;
            }
            let Some(hash) = ledger::hash_at_end(&key).filter(|hash| !self.busy.contains_key(hash)) else {
                continue;
            };
            let held = self.ledger.held(&hash)?;
            some = true;
            if held.promise.is_none() && !held.whole && held.shards.is_empty() {
                let old = self.record(&hash)?;
                self.replace(&hash, old.as_ref(), None);
            } else if self.promise_of(&held) > end {
                self.settle(&hash, now)?;
            } else {
                self.busy.insert(hash, Task { kind: Kind::Expire });
                self.outbox.push_back(Effect::Expire { hash, promise: held.promise.unwrap_or(0) });
                break;
            }
        }
        if !some {
            self.idle.insert(Kind::Expire);
        }
        Ok(some)
    }
}
