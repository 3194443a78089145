//! Records: loading, changing, committing.

use std::time::Duration;

use bincode::{Decode, Encode};

use super::super::codec;
use super::super::coding::{Coding, MemberKey};
use super::super::statement::StorageId;
use super::ledger::{self, Ledger};
use super::members::{MemberRecord, Peer, Witness, WitnessRecord};
use super::record::{FORMS, Form, Part, Record};
use super::work::Kind;
use super::{Machine, MachineError, Mutant, Now, Result};
use crate::committee::CodingId;
use crate::data_hash::DataHash;
use crate::erasure::Root;
use crate::keccak::keccak256;

/// No record is longer, in memory either.
const RECORD_LIMIT: usize = 1 << 20;
/// Batches whose root is in dispute, remembered as such.
const MAX_SUSPECTS: usize = 64;
/// Numbers of codings fit a byte.
const MAX_CODINGS: usize = 200;

/// What the machine remembers of itself.
#[derive(Debug, Clone, Encode, Decode)]
pub(super) struct State {
    pub(super) storage_id: StorageId,
    /// The witness that is this member with its storage id.
    pub(super) own: u16,
    /// The counter of the last own list; 0 before.
    pub(super) counter: u64,
    pub(super) digest: [u8; 32],
    pub(super) next_witness: u16,
    /// How many records are in each form.
    pub(super) forms: [u64; FORMS],
    /// How many records have been taken over by the members of a coding.
    pub(super) good: (u8, u64),
}

impl Default for State {
    fn default() -> Self {
        Self {
            storage_id: StorageId([0; 16]),
            own: 0,
            counter: 0,
            digest: [0; 32],
            next_witness: 1,
            forms: [0; FORMS],
            good: (0, 0),
        }
    }
}

/// How many batches are in each form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Summary {
    /// Whole, and waiting to be encoded.
    pub to_encode: u64,
    /// Whole with the own shard, waiting for statements.
    pub waiting: u64,
    /// Being dropped now.
    pub dropping: u64,
    /// As the own shard only.
    pub sharded: u64,
    /// Should be here and are not.
    pub missing: u64,
    /// Whole, and to stay so.
    pub whole: u64,
    /// Stated by others only.
    pub unheld: u64,
    /// Whether K members of the newest coding have stated every batch that is held here; `None` unless this member leaves.
    pub free_to_go: Option<bool>,
}

/// What is known of one batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchView {
    /// In which form it is here.
    pub form: Form,
    /// The coding of that form.
    pub coding: Option<CodingId>,
    /// The latest timeout promised.
    pub promise: u64,
    /// The own root, if it is known.
    pub root: Option<Root>,
    /// How many members count for it under that coding, this one among them if its shard was made.
    pub count: usize,
}

impl<L: Ledger> Machine<L> {
    pub(super) fn load(&mut self, now: Now) -> Result<(), L> {
        self.load_codings()?;
        self.load_members(now)?;
        self.load_tallies()?;
        if let Some(state) = self.get::<State>(ledger::STATE)? {
            self.state = state;
            // With another peer key than the one that signed its lists: who missed one of them could not check it any more.
            let birth = self.witnesses.get(&self.state.own).map(|witness| &witness.record.birth);
            if birth.is_some_and(|birth| !self.signer.is_own(birth)) {
                self.take_new_storage_id(now)?;
            }
        } else {
            self.take_new_storage_id(now)?;
        }
        for key in self.ledger.keys(ledger::SUSPECTS, ledger::SUSPECTS, MAX_SUSPECTS)? {
            self.suspects.extend(ledger::hash_at_end(&key));
        }
        self.alarm(super::Alarm::Suspect, !self.suspects.is_empty());
        Ok(())
    }

    fn load_codings(&mut self) -> Result<(), L> {
        for key in self.ledger.keys(ledger::CODINGS, ledger::CODINGS, MAX_CODINGS + 1)? {
            let coding: Coding = self.get(&key)?.ok_or_else(|| damaged::<L>(&key))?;
            let number = *key.last().expect("the key begins with a letter");
            self.codings.insert(number, coding);
        }
        for coding in self.config.codings.clone() {
            let known = self.codings.iter().find(|(_, known)| known.id == coding.id);
            let number = match known {
                Some((number, _)) => *number,
                None => {
                    let got = self.codings.len() + 1;
                    if got > MAX_CODINGS || coding.members.len() > crate::keyset::MAX_MEMBERS {
                        return Err(MachineError::TooManyCodings { got, limit: MAX_CODINGS });
                    }
                    let number = u8::try_from(got).expect("MAX_CODINGS fits a byte");
                    self.put(&[ledger::CODINGS, &[number]].concat(), &coding);
                    self.codings.insert(number, coding);
                    number
                }
            };
            self.newest = number;
        }
        Ok(())
    }

    fn load_members(&mut self, now: Now) -> Result<(), L> {
        let mut keys = vec![self.config.me];
        keys.extend(self.codings.values().flat_map(|coding| coding.members.iter().copied()));
        for key in keys {
            if self.members.iter().all(|peer| peer.key != key) {
                let record: MemberRecord = self.get(&Peer::record_key(&key))?.unwrap_or_default();
                self.members.push(Peer::new(key, record, now.steady));
            }
        }
        let mut from = ledger::WITNESSES.to_vec();
        loop {
            let keys = self.ledger.keys(ledger::WITNESSES, &from, 1024)?;
            let Some(last) = keys.last() else { break };
            from = [last.as_slice(), &[0]].concat();
            for key in keys {
                let record: WitnessRecord = self.get(&key)?.ok_or_else(|| damaged::<L>(&key))?;
                let number = key.last_chunk::<2>().map(|bytes| u16::from_be_bytes(*bytes));
                let number = number.ok_or_else(|| damaged::<L>(&key))?;
                if let Some(member) = self.members.iter().position(|peer| peer.key == record.member) {
                    self.witnesses.insert(number, Witness { member, record });
                }
            }
        }
        Ok(())
    }

    /// 32 bytes that nobody can foresee.
    pub(super) fn draw(&mut self) -> [u8; 32] {
        self.drawn += 1;
        keccak256(&[&self.seed[..], &self.drawn.to_be_bytes()].concat())
    }

    pub(super) fn get<T: Decode<()>>(&self, key: &[u8]) -> Result<Option<T>, L> {
        let decode =
            |bytes: &[u8]| codec::decode::<T, RECORD_LIMIT>(bytes).map_err(|_| damaged::<L>(key)).map(Some);
        match self.changes.get(key) {
            Some(None) => Ok(None),
            Some(Some(bytes)) => decode(bytes),
            None => self.ledger.get(key)?.map_or(Ok(None), |bytes| decode(&bytes)),
        }
    }

    pub(super) fn put(&mut self, key: &[u8], value: &impl Encode) {
        self.changes.insert(key.to_vec(), Some(codec::encode(value)));
    }

    pub(super) fn mark(&mut self, key: Vec<u8>) {
        self.changes.insert(key, Some(Vec::new()));
    }

    pub(super) fn remove(&mut self, key: Vec<u8>) {
        self.changes.insert(key, None);
    }

    /// Commits what was changed.
    pub(super) fn flush(&mut self, synced: bool) -> Result<(), L> {
        if self.state_changed {
            let state = self.state.clone();
            self.put(ledger::STATE, &state);
            self.state_changed = false;
        }
        self.put_tallies();
        if synced || !self.changes.is_empty() {
            let changes = std::mem::take(&mut self.changes).into_iter().collect();
            self.ledger.commit(changes, synced)?;
        }
        Ok(())
    }

    pub(super) fn record(&self, hash: &DataHash) -> Result<Option<Record>, L> {
        self.get(&ledger::record_key(hash))
    }

    /// Whose statements reach to the promise, under the own root.
    pub(super) fn reach(&self, record: &Record, part: &Part) -> Vec<u16> {
        let Some(own) = part.own else { return Vec::new() };
        let far = |until| until >= record.promise || self.is(Mutant::IgnoresUntil);
        let seen = part.seen.iter().filter(|seen| seen.root == own && far(seen.until) && !seen.failed);
        let mut witnesses: Vec<u16> = seen.map(|seen| seen.witness).collect();
        witnesses.sort_unstable();
        witnesses
    }

    /// Puts a record in the place of another, with all keys that lead to it.
    pub(super) fn replace(&mut self, hash: &DataHash, old: Option<&Record>, new: Option<&Record>) {
        if old == new {
            return;
        }
        let keys = |machine: &Self, record: Option<&Record>| {
            record.map_or_else(Vec::new, |record| record.keys(hash, |part| machine.reach(record, part)))
        };
        let (before, after) = (keys(self, old), keys(self, new));
        self.tally((old, &before), (new, &after));
        for key in before.iter().filter(|key| !after.contains(key)) {
            self.remove(key.clone());
        }
        for key in after.into_iter().filter(|key| !before.contains(key)) {
            self.wake(&key);
            self.mark(key);
        }
        match new {
            Some(record) => self.put(&ledger::record_key(hash), record),
            None => self.remove(ledger::record_key(hash)),
        }
        self.count(old, new);
        self.judge_roots(hash, new);
    }

    fn count(&mut self, old: Option<&Record>, new: Option<&Record>) {
        let good = |record: &&Record| record.good == Some(self.newest);
        let (was, is) =
            (u64::from(old.as_ref().is_some_and(good)), u64::from(new.as_ref().is_some_and(good)));
        if was != is {
            if self.state.good.0 != self.newest {
                self.state.good = (self.newest, 0);
            }
            self.state.good.1 = (self.state.good.1 + is).saturating_sub(was);
            self.state_changed = true;
        }
        if old.map(|record| record.form) != new.map(|record| record.form) {
            if let Some(old) = old {
                let count = &mut self.state.forms[old.form as usize];
                *count = count.saturating_sub(1);
            }
            if let Some(new) = new {
                self.state.forms[new.form as usize] += 1;
            }
            self.state_changed = true;
        }
        self.count_unheld(old, new);
    }

    /// Notices a batch about whose root so many disagree that this member is the suspect.
    fn judge_roots(&mut self, hash: &DataHash, record: Option<&Record>) {
        let disputed = record.is_some_and(|record| self.is_disputed(record));
        if disputed == self.suspects.contains(hash) || (disputed && self.suspects.len() >= MAX_SUSPECTS) {
            return;
        }
        if disputed {
            self.suspects.insert(*hash);
            self.mark(ledger::suspect_key(hash));
        } else {
            self.suspects.remove(hash);
            self.remove(ledger::suspect_key(hash));
            self.idle.remove(&Kind::Drop);
        }
        self.alarm(super::Alarm::Suspect, !self.suspects.is_empty());
    }

    /// Whether so many disagree about a root that this member is the one to be suspected.
    pub(super) fn is_disputed(&self, record: &Record) -> bool {
        let disputed = |part: &Part| {
            let Some(own) = part.own else { return false };
            let Some(coding) = self.codings.get(&part.coding) else { return false };
            let others = part.seen.iter().filter(|seen| seen.root != own);
            others.filter(|seen| self.is_current(seen.witness)).count() >= coding.one_honest()
        };
        record.is_held() && record.parts.iter().any(disputed)
    }

    /// Looks again at the batches in dispute: the members that disagreed may have been replaced.
    pub(super) fn judge_suspects(&mut self) -> Result<(), L> {
        for hash in self.suspects.clone() {
            let record = self.record(&hash)?;
            self.judge_roots(&hash, record.as_ref());
        }
        Ok(())
    }

    /// How many batches are in each form.
    pub fn summary(&self) -> Summary {
        let [to_encode, waiting, dropping, sharded, missing, whole, unheld] = self.state.forms;
        let held = to_encode + waiting + dropping + sharded + whole;
        let leaver = self.target_member().is_none();
        let good = if self.state.good.0 == self.newest { self.state.good.1 } else { 0 };
        let free_to_go = leaver.then_some(good >= held);
        Summary { to_encode, waiting, dropping, sharded, missing, whole, unheld, free_to_go }
    }

    /// What is known of a batch; `None` when nothing is.
    pub fn batch(&self, hash: &DataHash, now: Now) -> Result<Option<BatchView>, L> {
        let Some(record) = self.record(hash)? else { return Ok(None) };
        let part = record.part(record.coding);
        let count = part.map_or(0, |part| {
            let reach = self.reach(&record, part);
            self.count_of(part.coding, &reach, now, false) - usize::from(part.own.is_none())
        });
        Ok(Some(BatchView {
            form: record.form,
            coding: self.codings.get(&record.coding).map(|coding| coding.id),
            promise: record.promise,
            root: part.and_then(|part| part.own.map(|own| part.roots[usize::from(own)])),
            count,
        }))
    }

    /// Which other members count for a batch now, under the coding of its form.
    pub fn counted(&self, hash: &DataHash, now: Now) -> Result<Vec<MemberKey>, L> {
        let Some(record) = self.record(hash)? else { return Ok(Vec::new()) };
        let Some(part) = record.part(record.coding) else { return Ok(Vec::new()) };
        let reach = self.reach(&record, part);
        let counting =
            reach.iter().filter(|witness| self.count_of(part.coding, &[**witness], now, false) > 1);
        let member = |witness: &u16| self.witnesses.get(witness).map(|found| self.members[found.member].key);
        Ok(counting.filter_map(member).collect())
    }

    /// Writes down now and then how long each member has been silent, so that a restart does not forget it.
    pub(super) fn save_silence(&mut self, now: Now) {
        const INTERVAL: Duration = Duration::from_secs(600);
        if now.steady.saturating_sub(self.last_saved) < INTERVAL {
            return;
        }
        self.last_saved = now.steady;
        for index in 0..self.members.len() {
            let silent = now.steady.saturating_sub(self.members[index].heard).as_secs();
            self.members[index].record.silent = silent;
            self.put_member(index);
        }
    }
}

pub(super) fn damaged<L: Ledger>(key: &[u8]) -> MachineError<L::Error> {
    MachineError::Damaged { key: const_hex::encode(key) }
}
