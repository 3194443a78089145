//! What to do next: repair before anything else, then drops, then statements, then new shards, oldest first.

use std::collections::BTreeMap;
use std::time::Duration;

use super::ledger::{self, Ledger, after};
use super::record::{Class, Form, queue, since_of};
use super::{Alarm, Effect, Machine, Mutant, Now, Result, Why};
use crate::committee::CodingId;
use crate::data_hash::DataHash;
use crate::erasure::Root;

/// Classes looked at in one go.
const MAX_CLASSES: usize = 1024;
/// Batches that wait for another try.
const MAX_BACKOFF: usize = 4096;
/// A try is put off for at most so long.
const LONGEST_BACKOFF: Duration = Duration::from_secs(600);
/// Arrivals and batches of another coding that are looked at in one go.
const AT_ONCE: usize = 64;

/// A kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Arrival,
    Recast,
    Repair,
    Keep,
    Drop,
    Sync,
    State,
    Encode,
    Expire,
}

/// Work on a batch that is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) kind: Kind,
}

/// A shard that was written and may be lost in a power cut.
#[derive(Debug, Clone)]
pub(super) struct Unsynced {
    pub(super) hash: DataHash,
    pub(super) coding: CodingId,
    pub(super) root: Root,
    pub(super) length: u64,
    /// Bytes of the shard.
    pub(super) bytes: u64,
    /// When it was made.
    pub(super) since: Duration,
}

/// Which batches are not to be tried again yet.
#[derive(Debug, Clone, Default)]
pub(super) struct Backoff(BTreeMap<DataHash, Pause>);

#[derive(Debug, Clone, Copy)]
struct Pause {
    until: Duration,
    length: Duration,
    /// What failed.
    kind: Option<Kind>,
}

impl Backoff {
    pub(super) fn failed(&mut self, hash: &DataHash, now: Duration, first: Duration, kind: Option<Kind>) {
        let length = self.0.get(hash).map_or(first, |pause| (pause.length * 2).min(LONGEST_BACKOFF));
        if self.0.len() >= MAX_BACKOFF && !self.0.contains_key(hash) {
            self.0.pop_first();
        }
        self.0.insert(*hash, Pause { until: now + length, length, kind });
    }

    pub(super) fn forget(&mut self, hash: &DataHash) {
        self.0.remove(hash);
    }

    pub(super) fn waits(&self, hash: &DataHash, now: Duration) -> bool {
        self.0.get(hash).is_some_and(|pause| pause.until > now)
    }

    /// Forgets what failed long ago.
    pub(super) fn tidy(&mut self, now: Duration) {
        self.0.retain(|_, pause| pause.until + pause.length * 2 + LONGEST_BACKOFF > now);
    }

    /// Of how many batches this kind of work failed last.
    pub(super) fn count(&self, kind: Kind) -> u64 {
        self.0.values().filter(|pause| pause.kind == Some(kind)).count() as u64
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

impl<L: Ledger> Machine<L> {
    /// Does or hands out one piece of work; `false` when there is none.
    pub(super) fn work(&mut self, now: Now) -> Result<bool, L> {
        for kind in [
            Kind::Arrival,
            Kind::Recast,
            Kind::Repair,
            Kind::Keep,
            Kind::Drop,
            Kind::Sync,
            Kind::State,
            Kind::Encode,
            Kind::Expire,
        ] {
            if self.idle.contains(&kind) {
                continue;
            }
            let some = match kind {
                Kind::Arrival => self.take_arrivals(now)?,
                Kind::Recast => self.recast(now)?,
                Kind::Repair => self.repair(now)?,
                Kind::Keep => self.keep(now)?,
                Kind::Drop => self.drop_some(now)?,
                Kind::Sync => self.sync(now),
                Kind::State => self.state_custody(now)?,
                Kind::Encode => self.encode(now)?,
                Kind::Expire => self.expire(now)?,
            };
            if some {
                return Ok(true);
            }
            self.idle.insert(kind);
        }
        Ok(false)
    }

    pub(super) fn busy_with(&self, kind: Kind) -> usize {
        self.busy.values().filter(|task| task.kind == kind).count()
    }

    /// A key of work was written.
    pub(super) fn wake(&mut self, key: &[u8]) {
        if key.first() != Some(&b'Q') {
            return;
        }
        match key.get(1).copied() {
            Some(queue::ENCODE) => self.idle.remove(&Kind::Encode),
            Some(queue::STATE) => self.idle.remove(&Kind::State),
            Some(queue::WAIT) => self.idle.remove(&Kind::Drop),
            Some(queue::DROPPED | queue::MISSING) => self.idle.remove(&Kind::Repair),
            Some(queue::KEEP) => self.idle.remove(&Kind::Keep),
            _ => false,
        };
    }

    /// The first batch under a prefix that nothing is done with; oldest first. `before`: came no later than this.
    fn first_free(&self, prefix: &[u8], before: u64, now: Now) -> Result<Option<DataHash>, L> {
        // At most so many can stand in the way.
        let limit = self.busy.len() + self.backoff.len() + 1;
        let mut from = prefix.to_vec();
        let mut left = limit;
        while left > 0 {
            let step = left.min(32);
            let keys = self.ledger.keys(prefix, &from, step)?;
            for key in &keys {
                if since_of(key).is_none_or(|since| since > before) {
                    return Ok(None);
                }
                let Some(hash) = ledger::hash_at_end(key) else { continue };
                if !self.busy.contains_key(&hash) && !self.backoff.waits(&hash, now.steady) {
                    return Ok(Some(hash));
                }
            }
            let Some(last) = keys.last().filter(|_| keys.len() == step) else { return Ok(None) };
            from = [last.as_slice(), &[0]].concat();
            left -= step;
        }
        Ok(None)
    }

    /// The classes of batches in a form.
    fn classes(&self, form: u8) -> Result<Vec<Class>, L> {
        let prefix = [b'Q', form];
        let mut from = prefix.to_vec();
        let mut found = Vec::new();
        while found.len() < MAX_CLASSES
            && let Some(key) = self.ledger.keys(&prefix, &from, 1)?.pop()
            && let Some(class) = Class::of_key(&key)
        {
            let next = after(&class.prefix);
            found.push(class);
            match next {
                Some(next) => from = next,
                None => break,
            }
        }
        Ok(found)
    }

    /// Batches that came while the clock was ahead would wait until it shows that time again.
    pub(super) fn mend_future(&mut self, now: Now) -> Result<(), L> {
        let mut prefixes: Vec<Vec<u8>> =
            self.codings.keys().map(|coding| vec![b'Q', queue::ENCODE, *coding]).collect();
        prefixes.extend(self.classes(queue::WAIT)?.into_iter().map(|class| class.prefix));
        for prefix in prefixes {
            let from = [prefix.as_slice(), &now.wall.saturating_add(1).to_be_bytes()].concat();
            for key in self.ledger.keys(&prefix, &from, AT_ONCE)? {
                if let Some(hash) = ledger::hash_at_end(&key) {
                    self.settle(&hash, now)?;
                }
            }
        }
        Ok(())
    }

    fn take_arrivals(&mut self, now: Now) -> Result<bool, L> {
        let keys = self.ledger.keys(ledger::ARRIVALS, ledger::ARRIVALS, AT_ONCE)?;
        for key in &keys {
            if let Some(hash) = ledger::hash_at_end(key) {
                self.settle(&hash, now)?;
            }
            self.remove(key.clone());
        }
        Ok(!keys.is_empty())
    }

    /// Moves whole batches that were to be coded by an earlier coding to the one in force.
    fn recast(&mut self, now: Now) -> Result<bool, L> {
        for form in [queue::ENCODE, queue::STATE, queue::WAIT, queue::WHOLE] {
            let earlier: Vec<u8> =
                self.codings.keys().copied().filter(|number| *number != self.newest).collect();
            for coding in earlier {
                let prefix = [b'Q', form, coding];
                let mut some = false;
                for key in self.ledger.keys(&prefix, &prefix, AT_ONCE)? {
                    let Some(hash) = ledger::hash_at_end(&key) else { continue };
                    let before = self.record(&hash)?;
                    if before.as_ref().is_some_and(|record| record.form == Form::Dropped)
                        || self.busy.contains_key(&hash)
                    {
                        continue;
                    }
                    self.settle(&hash, now)?;
                    some |= self.record(&hash)? != before;
                }
                if some {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Makes batches whole: those that too few statements cover, least covered first; those that should be here; those
    /// that are to be coded anew.
    fn repair(&mut self, now: Now) -> Result<bool, L> {
        if self.busy_with(Kind::Repair) >= self.config.limits.gathers {
            return Ok(false);
        }
        let mut uncovered = Vec::new();
        for class in self.classes(queue::DROPPED)? {
            let Some(coding) = self.codings.get(&class.coding) else { continue };
            let count = self.count_of(class.coding, &class.witnesses, now, false);
            if count + usize::from(self.is(Mutant::DropsEarly)) < coding.threshold() {
                uncovered.push((count, class));
            }
        }
        uncovered.sort_by_key(|(count, _)| *count);
        let mut found = None;
        for (count, class) in &uncovered {
            if let Some(hash) = self.first_free(&class.prefix, u64::MAX, now)? {
                found = Some((hash, Why::Uncovered { count: *count }));
                break;
            }
        }
        if found.is_none() {
            for coding in self.codings.keys() {
                let prefix = [b'Q', queue::MISSING, *coding];
                if let Some(hash) = self.first_free(&prefix, u64::MAX, now)? {
                    found = Some((hash, Why::Missing));
                    break;
                }
            }
        }
        if found.is_none()
            && let Some(target) = self.target_member()
        {
            for coding in self.codings.keys().copied().filter(|number| *number != target) {
                let prefix = [b'Q', queue::DROPPED, coding];
                if let Some(hash) = self.first_in_classes(&prefix, now)? {
                    found = Some((hash, Why::Recode));
                    break;
                }
            }
        }
        let starved = found.is_some() && !self.has_room;
        self.alarm(Alarm::NoRoom, starved);
        match found.filter(|_| !starved) {
            Some((hash, why)) => self.make_whole(hash, why, now),
            None => Ok(false),
        }
    }

    /// The first batch, in the order of classes, that nothing is done with.
    fn first_in_classes(&self, prefix: &[u8], now: Now) -> Result<Option<DataHash>, L> {
        for class in self.classes(queue::DROPPED)? {
            if class.prefix.starts_with(prefix)
                && let Some(hash) = self.first_free(&class.prefix, u64::MAX, now)?
            {
                return Ok(Some(hash));
            }
        }
        Ok(None)
    }

    fn make_whole(&mut self, hash: DataHash, why: Why, now: Now) -> Result<bool, L> {
        let before = self.record(&hash)?;
        self.settle(&hash, now)?;
        let Some(record) = self.record(&hash)? else { return Ok(true) };
        if !matches!(record.form, Form::Dropped | Form::Missing) || Some(&record) != before.as_ref() {
            // The queue knew less than the disk.
            return Ok(before.as_ref() != Some(&record));
        }
        let until = record.promise.max(record.authority);
        if until <= now.wall {
            self.backoff.failed(&hash, now.steady, LONGEST_BACKOFF, None);
            return Ok(true);
        }
        let mut roots: Vec<(usize, CodingId, Root)> = Vec::new();
        for part in &record.parts {
            let Some(coding) = self.codings.get(&part.coding) else { continue };
            for (index, root) in part.roots.iter().enumerate() {
                let own = part.own.is_some_and(|own| usize::from(own) == index);
                let stating = part.seen.iter().filter(|seen| usize::from(seen.root) == index).count();
                let weight = if own { usize::MAX } else { stating };
                roots.push((weight, coding.id, *root));
            }
        }
        roots.sort_by_key(|root| std::cmp::Reverse(root.0));
        let roots = roots.into_iter().map(|(_, coding, root)| (coding, root)).collect();
        self.busy.insert(hash, Task { kind: Kind::Repair });
        self.outbox.push_back(Effect::MakeWhole { hash, until, why, roots });
        Ok(true)
    }

    /// Extends promises as somebody with authority asked.
    fn keep(&mut self, now: Now) -> Result<bool, L> {
        if self.busy_with(Kind::Keep) >= self.config.limits.drops {
            return Ok(false);
        }
        for coding in self.codings.keys().copied() {
            if let Some(hash) = self.first_free(&[b'Q', queue::KEEP, coding], u64::MAX, now)?
                && let Some(record) = self.record(&hash)?
            {
                self.busy.insert(hash, Task { kind: Kind::Keep });
                self.outbox.push_back(Effect::Keep { hash, until: record.authority });
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Lets whole copies go that enough others stand in for: what is decided about many is written down with one sync.
    fn drop_some(&mut self, now: Now) -> Result<bool, L> {
        let room = self.config.limits.drops.saturating_sub(self.busy_with(Kind::Drop));
        let mut effects = Vec::new();
        let mut looked = false;
        for _ in 0..room.min(AT_ONCE) {
            let Some((hash, target, patient)) = self.next_to_drop(now)? else { break };
            looked = true;
            // The queue was wrong about this one, and is so until what was found is written down.
            let Some(effect) = self.drop_if_covered(&hash, target, patient, now)? else { break };
            effects.push(effect);
        }
        if !effects.is_empty() {
            self.flush(true)?;
            self.outbox.extend(effects);
        }
        Ok(looked)
    }

    /// The oldest whole copy that enough others seem to stand in for, under which coding, and since when K are enough.
    fn next_to_drop(&self, now: Now) -> Result<Option<(DataHash, u8, u64)>, L> {
        let Some(target) = self.target().filter(|_| self.suspects.is_empty()) else { return Ok(None) };
        let patient = now.wall.saturating_sub(self.config.demotion_patience.as_secs());
        for class in self.classes(queue::WAIT)? {
            if class.coding != target || class.stated_as != self.state.own {
                continue;
            }
            let count = self.count_of(target, &class.witnesses, now, true);
            let Some(before) = self.droppable(target, count, patient) else { continue };
            if let Some(hash) = self.first_free(&class.prefix, before, now)? {
                return Ok(Some((hash, target, patient)));
            }
        }
        Ok(None)
    }

    /// Which batches may be dropped that so many count for: those that came no later than this.
    fn droppable(&self, coding: u8, count: usize, patient: u64) -> Option<u64> {
        let coding = &self.codings[&coding];
        let enough = coding.threshold() - usize::from(self.is(Mutant::DropsEarly));
        if count >= coding.shards() { Some(u64::MAX) } else { (count >= enough).then_some(patient) }
    }

    /// The decision: everything is looked at once more, then it is to be written down, then carried out.
    fn drop_if_covered(
        &mut self,
        hash: &DataHash,
        target: u8,
        patient: u64,
        now: Now,
    ) -> Result<Option<Effect>, L> {
        self.settle(hash, now)?;
        let Some(old) = self.record(hash)? else { return Ok(None) };
        let held = self.ledger.held(hash)?;
        let Some(part) = old.part(target) else { return Ok(None) };
        let stated = part.stated_as == self.state.own && part.stated >= old.promise;
        let count = self.count_of(target, &self.reach(&old, part), now, true);
        let before = self.droppable(target, count, patient);
        // Of those in dispute only so many are remembered.
        let covered = before.is_some_and(|before| old.since <= before) && !self.is_disputed(&old);
        let Some(promise) = held.promise.filter(|_| old.form == Form::Wait && stated && covered) else {
            // The queue knew less than the record.
            self.backoff.failed(hash, now.steady, self.config.retry_delay, None);
            return Ok(None);
        };
        let mut record = old.clone();
        record.form = Form::Dropping;
        self.replace(hash, Some(&old), Some(&record));
        self.busy.insert(*hash, Task { kind: Kind::Drop });
        Ok(Some(Effect::Drop { hash: *hash, promise }))
    }

    /// Shards are written together: alone, a small one would take a whole page of the disk and a sync of its own.
    fn sync(&mut self, now: Now) -> bool {
        let first = self.unsynced.first();
        let waited =
            first.is_some_and(|first| now.steady.saturating_sub(first.since) >= self.config.sync_delay);
        let done = self.busy_with(Kind::Encode) == 0 && waited;
        if self.unsynced.is_empty() || !self.syncing.is_empty() || !(done || self.has_much_unsynced()) {
            return false;
        }
        self.syncing = std::mem::take(&mut self.unsynced);
        self.outbox.push_back(Effect::SyncShards);
        true
    }

    fn has_much_unsynced(&self) -> bool {
        let bytes: u64 = self.unsynced.iter().map(|shard| shard.bytes).sum();
        self.unsynced.len() >= self.config.limits.unsynced || bytes >= self.config.limits.unsynced_bytes
    }

    fn encode(&mut self, now: Now) -> Result<bool, L> {
        let limits = self.config.limits;
        if self.busy_with(Kind::Encode) >= limits.encodes || self.has_much_unsynced() {
            return Ok(false);
        }
        let before = now.wall.saturating_sub(self.config.hot_retention.as_secs());
        for (number, coding) in &self.codings {
            if let Some(hash) = self.first_free(&[b'Q', queue::ENCODE, *number], before, now)? {
                self.busy.insert(hash, Task { kind: Kind::Encode });
                self.outbox.push_back(Effect::Encode { hash, coding: coding.id });
                return Ok(true);
            }
        }
        // No more is coming now: what was written can be synced.
        self.idle.remove(&Kind::Sync);
        Ok(false)
    }
}
