//! How many batches wait for what, and for how long: kept up with every change of a record, so that nobody has to count.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bincode::{Decode, Encode};

use super::ledger::{self, Ledger};
use super::record::{Class, Record, queue, since_of};
use super::state::damaged;
use super::work::Kind;
use super::{Machine, Now, Result};

/// The time and the hash at the end of a key of work.
const TAIL: usize = 40;

/// Batches, and their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Amount {
    /// How many.
    pub batches: u64,
    /// Their lengths as batches (not as shards) added up.
    pub bytes: u64,
}

/// How well the batches that are not whole here are covered, and how far the work on all of them is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Health {
    /// Here as the own shard only, and statements of at least K members count.
    pub covered: Amount,
    /// Here as the own shard only, and fewer than K count: gathered again, least covered first.
    pub under_replicated: Amount,
    /// Of those, the ones of which fewer than k count: as far as is known here, nobody can read them from shards that
    /// count. Somebody may hold a whole copy still.
    pub unreadable: Amount,
    /// Here as the own shard of an earlier coding only: waits to be coded anew, or for its end at a member that leaves.
    pub earlier_coding: Amount,
    /// Should be here and are not. A length that nobody told is taken for 0.
    pub missing: Amount,
    /// Batches whose last gathering failed and that wait for the next try; at most a few thousand are remembered.
    pub failed_gathers: u64,
    /// For how long beyond its hot window the oldest batch has waited to be encoded, stated and dropped; `None` when none
    /// waits beyond it.
    pub oldest_demotion: Option<Duration>,
    /// For how long without a pause there has been some batch under-replicated or missing, since the start at most.
    pub oldest_repair: Option<Duration>,
}

/// Amounts by the keys of work without their tails.
#[derive(Debug, Clone, Default)]
pub(super) struct Tallies {
    all: BTreeMap<Vec<u8>, Amount>,
    changed: BTreeSet<Vec<u8>>,
    /// Since when something has waited to be repaired.
    repairs_since: Option<Duration>,
}

impl Amount {
    fn add(&mut self, other: Self) {
        self.batches += other.batches;
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

impl<L: Ledger> Machine<L> {
    pub(super) fn load_tallies(&mut self) -> Result<(), L> {
        let mut from = ledger::TALLIES.to_vec();
        loop {
            let keys = self.ledger.keys(ledger::TALLIES, &from, 1024)?;
            let Some(last) = keys.last() else { return Ok(()) };
            from = [last.as_slice(), &[0]].concat();
            for key in keys {
                let amount: Amount = self.get(&key)?.ok_or_else(|| damaged::<L>(&key))?;
                self.tallies.all.insert(key[ledger::TALLIES.len()..].to_vec(), amount);
            }
        }
    }

    /// A record took the place of another: `before` and `after` are the keys that lead to them.
    pub(super) fn tally(
        &mut self,
        (old, before): (Option<&Record>, &[Vec<u8>]),
        (new, after): (Option<&Record>, &[Vec<u8>]),
    ) {
        let places = |record: Option<&Record>, keys: &[Vec<u8>]| -> BTreeSet<(Vec<u8>, u64)> {
            let length = record.map_or(0, |record| record.length);
            let work = keys.iter().filter(|key| key.first() == Some(&b'Q'));
            work.map(|key| (key[..key.len() - TAIL].to_vec(), length)).collect()
        };
        let (before, after) = (places(old, before), places(new, after));
        for (place, length) in before.difference(&after) {
            if let Some(amount) = self.tallies.all.get_mut(place) {
                amount.batches = amount.batches.saturating_sub(1);
                amount.bytes = amount.bytes.saturating_sub(*length);
            }
            self.tallies.changed.insert(place.clone());
        }
        for (place, length) in after.difference(&before) {
            self.tallies.all.entry(place.clone()).or_default().add(Amount { batches: 1, bytes: *length });
            self.tallies.changed.insert(place.clone());
        }
    }

    /// Puts the tallies that changed among what is committed.
    pub(super) fn put_tallies(&mut self) {
        for place in std::mem::take(&mut self.tallies.changed) {
            let key = [ledger::TALLIES, &place].concat();
            match self.tallies.all.get(&place).copied().filter(|amount| amount.batches > 0) {
                Some(amount) => self.put(&key, &amount),
                None => {
                    self.tallies.all.remove(&place);
                    self.remove(key);
                }
            }
        }
    }

    fn coverage(&self, now: Now) -> Health {
        let mut health = Health::default();
        for (place, amount) in &self.tallies.all {
            match place.get(1).copied() {
                Some(queue::MISSING) => health.missing.add(*amount),
                Some(queue::DROPPED) => {
                    let Some(class) = Class::of_key(place) else { continue };
                    let Some(coding) = self.codings.get(&class.coding) else { continue };
                    if class.coding != self.newest {
                        health.earlier_coding.add(*amount);
                    }
                    let count = self.count_of(class.coding, &class.witnesses, now, false);
                    if count >= coding.threshold() {
                        health.covered.add(*amount);
                    } else {
                        health.under_replicated.add(*amount);
                        if count < usize::from(coding.data_shards) {
                            health.unreadable.add(*amount);
                        }
                    }
                }
                _ => {}
            }
        }
        health
    }

    /// Notes since when there has been something to repair.
    pub(super) fn note_repairs(&mut self, now: Now) {
        let health = self.coverage(now);
        let waiting = health.under_replicated.batches + health.missing.batches > 0;
        let since = self.tallies.repairs_since.unwrap_or(now.steady);
        self.tallies.repairs_since = waiting.then_some(since);
    }

    /// How well the batches are covered. Looks at the classes of batches that there are, never at all batches.
    pub fn health(&self, now: Now) -> Result<Health, L> {
        let mut health = self.coverage(now);
        health.failed_gathers = self.backoff.count(Kind::Repair);
        if health.under_replicated.batches + health.missing.batches > 0 {
            let since = self.tallies.repairs_since.unwrap_or(now.steady);
            health.oldest_repair = Some(now.steady.saturating_sub(since));
        }
        let demotion = [queue::ENCODE, queue::STATE, queue::WAIT, queue::DROPPING];
        let mut oldest = u64::MAX;
        for place in self.tallies.all.keys() {
            if place.get(1).is_some_and(|form| demotion.contains(form))
                && let Some(first) = self.ledger.keys(place, place, 1)?.pop()
            {
                oldest = oldest.min(since_of(&first).unwrap_or(u64::MAX));
            }
        }
        let late = now.wall.checked_sub(oldest).map(Duration::from_secs);
        health.oldest_demotion = late.and_then(|age| age.checked_sub(self.config.hot_retention));
        Ok(health)
    }
}
