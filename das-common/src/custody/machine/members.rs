//! The other members: who they are now, whether they are heard, what is known of their lists.

use std::time::Duration;

use bincode::{Decode, Encode};

use super::super::coding::MemberKey;
use super::super::hello::{Hello, Known, MAX_CODINGS, Named, Position};
use super::super::statement::{SignedList, StorageId};
use super::clock::ClockSeen;
use super::ledger::{self, Ledger};
use super::record::{Form, Record};
use super::{Alarm, Effect, Machine, Mutant, Now, Result};

/// An answer to a question about lists that does not come is given up after this time.
const ASK_TIMEOUT: Duration = Duration::from_secs(15);
/// No birth of a storage id is longer.
const MAX_BIRTH_BYTES: usize = 256;

/// What is remembered of a member.
#[derive(Debug, Clone, Default, Encode, Decode)]
pub(super) struct MemberRecord {
    /// The witness that is the member with its latest storage id.
    pub(super) current: Option<u16>,
    /// How many storage ids it has had.
    pub(super) ids: u16,
    /// How many batches are remembered that are not here and that it states.
    pub(super) unheld: u64,
    /// For how many seconds it had not been heard of when this was written.
    pub(super) silent: u64,
}

/// What is remembered of a member with one of its storage ids.
#[derive(Debug, Clone, Encode, Decode)]
pub(super) struct WitnessRecord {
    pub(super) member: MemberKey,
    pub(super) storage_id: StorageId,
    /// The next list to be taken in.
    pub(super) next: u64,
    /// The highest list seen.
    pub(super) highest: u64,
    /// Its digest.
    pub(super) digest: [u8; 32],
    /// The member's signature that it took the storage id.
    pub(super) birth: SignedList,
    /// The list of which the member has made another version: nothing more is taken in until it has a new storage id.
    pub(super) contradicted: Option<(u64, [u8; 32])>,
}

#[derive(Debug, Clone)]
pub(super) struct Witness {
    /// Its place among the members.
    pub(super) member: usize,
    pub(super) record: WitnessRecord,
}

/// A member, as this start of the machine knows it.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    pub(super) key: MemberKey,
    pub(super) record: MemberRecord,
    /// When it last answered.
    pub(super) heard: Duration,
    /// Whether it said since the start that its storage id is the one known.
    pub(super) confirmed: bool,
    /// Whether it showed a storage id that had been replaced.
    pub(super) refused: bool,
    /// The nonce of the question that is out.
    nonce: Option<u64>,
    last_hello: Option<Duration>,
    /// When it was last asked for lists that have not come yet.
    asked: Option<Duration>,
    pub(super) clock: Option<ClockSeen>,
    /// It says that it knows a later list of this member than this member does; since when.
    pub(super) claim: Option<Duration>,
}

/// What is known of a member, for those who look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberView {
    /// Who.
    pub member: MemberKey,
    /// Its storage id in force.
    pub storage_id: Option<StorageId>,
    /// Whether it said since the start that this is its storage id.
    pub confirmed: bool,
    /// How long ago it was last heard.
    pub silent_for: Duration,
    /// Whether its statements count no more because of that.
    pub silent: bool,
    /// The next of its lists to be taken in.
    pub next_list: u64,
    /// Batches remembered that are not here and that it states.
    pub unheld: u64,
}

impl Peer {
    pub(super) fn new(key: MemberKey, record: MemberRecord, now: Duration) -> Self {
        let silent = Duration::from_secs(record.silent);
        Self {
            key,
            // The clock of this start may have begun only now: silence is counted from when it was heard, however long ago.
            heard: now.saturating_sub(silent),
            record,
            confirmed: false,
            refused: false,
            nonce: None,
            last_hello: None,
            asked: None,
            clock: None,
            claim: None,
        }
    }

    pub(super) fn record_key(key: &MemberKey) -> Vec<u8> {
        [ledger::MEMBERS, key.as_bytes()].concat()
    }
}

impl<L: Ledger> Machine<L> {
    pub(super) fn member_index(&self, key: &MemberKey) -> Option<usize> {
        self.members.iter().position(|peer| peer.key == *key)
    }

    pub(super) fn put_member(&mut self, index: usize) {
        let (key, record) = (Peer::record_key(&self.members[index].key), self.members[index].record.clone());
        self.put(&key, &record);
    }

    pub(super) fn put_witness(&mut self, number: u16) {
        if let Some(record) = self.witnesses.get(&number).map(|witness| witness.record.clone()) {
            self.put(&ledger::witness_key(number), &record);
        }
    }

    pub(super) fn witness_of(&self, member: usize, storage_id: &StorageId) -> Option<u16> {
        let mut all = self.witnesses.iter();
        let found =
            all.find(|(_, witness)| witness.member == member && witness.record.storage_id == *storage_id);
        found.map(|(number, _)| *number)
    }

    /// Gives a member with a storage id a number of its own.
    pub(super) fn intern(&mut self, member: usize, storage_id: StorageId, birth: SignedList) -> u16 {
        let number = self.state.next_witness;
        self.state.next_witness = number.saturating_add(1);
        self.state_changed = true;
        let record = WitnessRecord {
            member: self.members[member].key,
            storage_id,
            next: 1,
            highest: 0,
            digest: [0; 32],
            birth,
            contradicted: None,
        };
        self.witnesses.insert(number, Witness { member, record });
        self.put_witness(number);
        let peer = &mut self.members[member];
        peer.record.current = Some(number);
        peer.record.ids = peer.record.ids.saturating_add(1);
        self.put_member(member);
        number
    }

    pub(super) fn is_current(&self, witness: u16) -> bool {
        let Some(found) = self.witnesses.get(&witness) else { return false };
        self.members[found.member].record.current == Some(witness) || self.is(Mutant::IgnoresStorageId)
    }

    pub(super) fn is_silent(&self, member: usize, now: Now) -> bool {
        now.steady.saturating_sub(self.members[member].heard) > self.config.silence_limit
    }

    /// How many distinct shards of a coding count: the own one, and those of `witnesses`. `confirmed`: only members that
    /// said since the start who they are.
    pub(super) fn count_of(&self, coding: u8, witnesses: &[u16], now: Now, confirmed: bool) -> usize {
        let Some(coding) = self.codings.get(&coding) else { return 0 };
        let counts = |witness: &&u16| {
            let Some(found) = self.witnesses.get(witness) else { return false };
            let peer = &self.members[found.member];
            self.is_current(**witness)
                && (found.member != self.me || self.is(Mutant::CountsTwice))
                && (coding.index_of(&peer.key).is_some() || self.is(Mutant::MixesCodings))
                && !self.is_silent(found.member, now)
                && (!confirmed || peer.confirmed || found.member == self.me)
        };
        1 + witnesses.iter().filter(counts).count()
    }

    /// How many other members of a coding said since the start who they are.
    pub(super) fn heard_of(&self, coding: u8) -> usize {
        let Some(coding) = self.codings.get(&coding) else { return 0 };
        let others = self.members.iter().enumerate().filter(|(index, _)| *index != self.me);
        others.filter(|(_, peer)| peer.confirmed && coding.index_of(&peer.key).is_some()).count()
    }

    /// Keeps account of how many batches that are not here are remembered for the sake of each member.
    pub(super) fn count_unheld(&mut self, old: Option<&Record>, new: Option<&Record>) {
        let stating = |machine: &Self, record: Option<&Record>| {
            let unheld = record.filter(|record| record.form == Form::Unheld);
            let seen = unheld.into_iter().flat_map(|record| &record.parts).flat_map(|part| &part.seen);
            let mut members: Vec<usize> = seen
                .filter_map(|seen| machine.witnesses.get(&seen.witness).map(|witness| witness.member))
                .collect();
            members.sort_unstable();
            members.dedup();
            members
        };
        let (before, after) = (stating(self, old), stating(self, new));
        for member in before.iter().filter(|member| !after.contains(member)) {
            let count = &mut self.members[*member].record.unheld;
            *count = count.saturating_sub(1);
            self.put_member(*member);
        }
        for member in after.iter().filter(|member| !before.contains(member)) {
            self.members[*member].record.unheld += 1;
            self.put_member(*member);
        }
    }

    /// Asks every member who it is that was not asked for a while.
    pub(super) fn say_hello(&mut self, now: Now) {
        for index in 0..self.members.len() {
            let last = self.members[index].last_hello;
            if last.is_none_or(|last| now.steady.saturating_sub(last) >= self.config.hello_interval) {
                self.greet(index, now);
            }
        }
    }

    pub(super) fn say_hello_to(&mut self, member: &MemberKey, now: Now) {
        if let Some(index) = self.member_index(member) {
            self.greet(index, now);
        }
    }

    pub(super) fn greet(&mut self, index: usize, now: Now) {
        if index == self.me {
            return;
        }
        let nonce = self.draw();
        let nonce = nonce.first_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
        let hello = self.hello(index, nonce, now);
        let peer = &mut self.members[index];
        peer.nonce = Some(nonce);
        peer.last_hello = Some(now.steady);
        self.outbox.push_back(Effect::Hello { member: peer.key, hello });
    }

    fn hello(&self, to: usize, nonce: u64, now: Now) -> Hello {
        let peer = &self.members[to];
        let known = peer.record.current.and_then(|number| self.witnesses.get(&number));
        let latest = |record: &WitnessRecord| record.contradicted.unwrap_or((record.highest, record.digest));
        let position = |record: &WitnessRecord| {
            let (counter, digest) = latest(record);
            Position { storage_id: record.storage_id, counter, digest }
        };
        let yours = known.map(|witness| Known {
            position: position(&witness.record),
            birth: witness.record.birth.clone(),
            refused: peer.refused,
        });
        let mine = Position {
            storage_id: self.state.storage_id,
            counter: self.state.counter,
            digest: self.state.digest,
        };
        let codings = self.codings.values().rev().take(MAX_CODINGS).map(Named::from).collect();
        let birth = self.witnesses[&self.state.own].record.birth.clone();
        Hello { nonce, wall: now.wall, codings, mine, birth, yours }
    }

    /// The answer to a member that asked who this is.
    pub fn answer_hello(&mut self, member: &MemberKey, asked: &Hello, now: Now) -> Result<Option<Hello>, L> {
        let Some(index) = self.member_index(member).filter(|index| *index != self.me) else {
            return Ok(None);
        };
        let known = self.members[index].record.current.and_then(|number| self.witnesses.get(&number));
        let same = known.is_some_and(|witness| witness.record.storage_id == asked.mine.storage_id);
        if !same && self.members[index].nonce.is_none() {
            // A question proves nothing about the present; its answer to ours will.
            self.greet(index, now);
        }
        self.hear_of_myself(index, asked.yours.as_ref(), now)?;
        self.flush(false)?;
        Ok(Some(self.hello(index, asked.nonce, now)))
    }

    pub(super) fn hello_answered(&mut self, member: &MemberKey, hello: &Hello, now: Now) -> Result<(), L> {
        let Some(index) = self.member_index(member).filter(|index| *index != self.me) else { return Ok(()) };
        if self.members[index].nonce != Some(hello.nonce) {
            return Ok(());
        }
        if !self.members[index].confirmed || self.is_silent(index, now) {
            // It counts again, perhaps.
            self.idle.clear();
        }
        let peer = &mut self.members[index];
        peer.nonce = None;
        peer.heard = now.steady;
        peer.clock = Some(ClockSeen { wall: hello.wall, at: now.steady });
        let key = self.members[index].key;
        self.alarm(Alarm::Silent { member: key }, false);
        let newest = self.codings.get(&self.newest).map(|coding| coding.id);
        let agrees = hello.codings.iter().any(|named| Some(named.id) == newest)
            || hello.codings.is_empty()
            || self.codings.get(&self.newest).is_none_or(|coding| coding.index_of(&key).is_none());
        self.alarm(Alarm::OtherCoding { member: key }, !agrees);
        self.meet(index, hello, now)?;
        self.hear_of_myself(index, hello.yours.as_ref(), now)
    }

    /// A member proved that this is its position now.
    fn meet(&mut self, index: usize, hello: &Hello, now: Now) -> Result<(), L> {
        let position = hello.mine;
        let (key, current) = (self.members[index].key, self.members[index].record.current);
        match self.witness_of(index, &position.storage_id) {
            Some(witness) if Some(witness) == current => {
                self.members[index].confirmed = true;
                self.members[index].refused = false;
                self.alarm(Alarm::OldStorageId { member: key }, false);
            }
            None if self.members[index].record.ids < self.config.limits.storage_ids
                && hello.birth.body.len() <= MAX_BIRTH_BYTES
                && hello.birth.is_birth_of(&position.storage_id) =>
            {
                self.intern(index, position.storage_id, hello.birth.clone());
                self.members[index].confirmed = true;
                self.members[index].refused = false;
                self.alarm(Alarm::SameCounter { member: key }, false);
                self.alarm(Alarm::OldStorageId { member: key }, false);
                self.idle.clear();
                self.flush(true)?;
                self.judge_suspects()?;
            }
            Some(_) | None => {
                self.members[index].confirmed = false;
                self.members[index].refused = true;
                self.alarm(Alarm::OldStorageId { member: key }, true);
                return Ok(());
            }
        }
        self.ask_for_more(index, position.counter, now);
        Ok(())
    }

    /// Asks a member for those of its lists up to `highest` that were missed.
    pub(super) fn ask_for_more(&mut self, index: usize, highest: u64, now: Now) {
        let peer = &self.members[index];
        let witness = peer.record.current.and_then(|number| self.witnesses.get(&number));
        let waiting = peer.asked.is_some_and(|asked| now.steady.saturating_sub(asked) < ASK_TIMEOUT);
        let Some(witness) = witness.filter(|witness| !waiting && witness.record.next <= highest) else {
            return;
        };
        let (storage_id, from) = (witness.record.storage_id, witness.record.next);
        let member = peer.key;
        self.members[index].asked = Some(now.steady);
        self.outbox.push_back(Effect::AskLists { member, storage_id, from });
    }

    pub(super) fn lists_came(&mut self, index: usize) {
        self.members[index].asked = None;
    }

    /// What is known of each other member.
    pub fn members(&self, now: Now) -> Vec<MemberView> {
        let others = self.members.iter().enumerate().filter(|(index, _)| *index != self.me);
        let view = |(index, peer): (usize, &Peer)| {
            let witness = peer.record.current.and_then(|number| self.witnesses.get(&number));
            MemberView {
                member: peer.key,
                storage_id: witness.map(|witness| witness.record.storage_id),
                confirmed: peer.confirmed,
                silent_for: now.steady.saturating_sub(peer.heard),
                silent: self.is_silent(index, now),
                next_list: witness.map_or(1, |witness| witness.record.next),
                unheld: peer.record.unheld,
            }
        };
        others.map(view).collect()
    }

    /// Whose storage id this is, if it is in force or was.
    pub fn member_with(&self, storage_id: &StorageId) -> Option<MemberKey> {
        let mut all = self.witnesses.values();
        let found = all.find(|witness| witness.record.storage_id == *storage_id);
        found.map(|witness| self.members[witness.member].key)
    }
}

impl Peer {
    /// Lets the next round of hellos include this member.
    pub(super) fn say_hello_soon(&mut self) {
        self.last_hello = None;
    }
}
