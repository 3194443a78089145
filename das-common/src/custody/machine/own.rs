//! The own sequence of lists: stating, and noticing that the database was rolled back.

use std::time::Duration;

use super::super::hello::Known;
use super::super::statement::{MAX_ENTRIES, SignedList, Statement, StatementList, StorageId, VerifiedList};
use super::ledger::{self, Ledger};
use super::record::{Form, queue};
use super::work::Kind;
use super::{Alarm, Effect, Machine, Mutant, Now, Result};
use crate::data_hash::DataHash;

/// A claim that this member was rolled back keeps it from stating for so long; then it must have been proved.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(60);

impl<L: Ledger> Machine<L> {
    /// Begins a new sequence of lists: what was stated under the old one counts at no other member any more, once they
    /// have heard of it.
    pub(super) fn take_new_storage_id(&mut self, now: Now) -> Result<(), L> {
        let drawn = self.draw();
        let id = StorageId(*drawn.first_chunk::<16>().expect("32 bytes were drawn"));
        let birth = self.signer.sign(StatementList::birth(id, now.wall));
        self.state.storage_id = id;
        self.state.counter = 0;
        self.state.digest = [0; 32];
        self.state.own = self.intern(self.me, id, birth.signed().clone());
        self.state_changed = true;
        for peer in &mut self.members {
            peer.claim = None;
            peer.say_hello_soon();
        }
        self.idle.clear();
        self.flush(true)
    }

    fn rolled_back(&mut self, now: Now) -> Result<(), L> {
        if self.is(Mutant::IgnoresRollBack) {
            return Ok(());
        }
        self.alarm(Alarm::RolledBack, true);
        self.take_new_storage_id(now)
    }

    /// This member once had a storage id that it does not know: it was rolled back, or lost its disk. Which came first
    /// cannot be told, so it takes another one, once.
    fn had(&mut self, id: StorageId, birth: &SignedList, now: Now) -> Result<(), L> {
        if !self.is(Mutant::IgnoresRollBack) {
            self.intern(self.me, id, birth.clone());
        }
        self.rolled_back(now)
    }

    /// A list that the own key signed came from somebody.
    pub(super) fn own_list_came(&mut self, list: &VerifiedList, now: Now) -> Result<(), L> {
        let content = list.list();
        if content.storage_id != self.state.storage_id {
            return Ok(());
        }
        if content.counter > self.state.counter {
            return self.rolled_back(now);
        }
        let known = self.stored_list(self.state.own, content.counter)?;
        if known.is_some_and(|known| known.body != list.signed().body) {
            return self.rolled_back(now);
        }
        Ok(())
    }

    /// A member says what it knows of this one. Its word is not enough; what this member signed is.
    pub(super) fn hear_of_myself(&mut self, index: usize, known: Option<&Known>, now: Now) -> Result<(), L> {
        self.members[index].claim = None;
        let Some(known) = known else { return Ok(()) };
        let (position, counter) = (known.position, self.state.counter);
        if position.storage_id != self.state.storage_id {
            let strange = self.witness_of(self.me, &position.storage_id).is_none();
            if strange && known.birth.is_birth_of(&position.storage_id) && self.signer.is_own(&known.birth) {
                return self.had(position.storage_id, &known.birth, now);
            }
            return Ok(());
        }
        let ask_from = if position.counter > counter {
            Some(counter + 1)
        } else if position.counter == 0 {
            None
        } else if position.counter == counter {
            (position.digest != self.state.digest).then_some(counter)
        } else {
            let stored = self.stored_list(self.state.own, position.counter)?;
            let digest = stored.map(|list| crate::keccak::keccak256(&list.body));
            digest.filter(|digest| *digest != position.digest).map(|_| position.counter)
        };
        if let Some(from) = ask_from {
            let member = self.members[index].key;
            self.members[index].claim = Some(now.steady);
            self.outbox.push_back(Effect::AskLists { member, storage_id: position.storage_id, from });
        }
        Ok(())
    }

    /// Whether statements under this coding may be made.
    fn may_state(&self, number: u8, now: Now) -> bool {
        let Some(coding) = self.codings.get(&number) else { return false };
        let others = coding.members.iter().filter(|key| **key != self.config.me).count();
        let heard = self.heard_of(number) >= coding.one_honest().min(others);
        let claimed = self
            .members
            .iter()
            .any(|peer| peer.claim.is_some_and(|since| now.steady.saturating_sub(since) < CLAIM_TIMEOUT));
        heard && (!claimed || self.is(Mutant::IgnoresRollBack))
    }

    /// Makes one list of what is to be stated, if it is time; under the newest coding first.
    pub(super) fn state_custody(&mut self, now: Now) -> Result<bool, L> {
        let waited = now.steady.saturating_sub(self.last_list) >= self.config.list_delay;
        let codings: Vec<u8> = self.codings.keys().rev().copied().collect();
        for coding in codings {
            if self.my_index(coding).is_none() || !self.may_state(coding, now) {
                continue;
            }
            let candidates = self.to_state(coding)?;
            if candidates.is_empty() || !(waited || candidates.len() >= MAX_ENTRIES) {
                continue;
            }
            let mut entries = Vec::new();
            for hash in &candidates {
                entries.extend(self.statement(hash, coding, now)?);
            }
            if !entries.is_empty() {
                self.publish(coding, entries, now)?;
                return Ok(true);
            }
            if !self.changes.is_empty() {
                // What was found in the queue was settled anew.
                return Ok(true);
            }
        }
        self.idle.insert(Kind::State);
        Ok(false)
    }

    /// What is to be stated: new shards first, then what an earlier storage id stated.
    fn to_state(&self, coding: u8) -> Result<Vec<DataHash>, L> {
        let mut found = self.hashes_under(&[b'Q', queue::STATE, coding], MAX_ENTRIES)?;
        let mine = |witness: &super::Witness| witness.member == self.me;
        let earlier =
            self.witnesses.iter().filter(|(number, witness)| mine(witness) && **number != self.state.own);
        for (witness, _) in earlier {
            let [high, low] = witness.to_be_bytes();
            for form in [queue::DROPPED, queue::WAIT] {
                let left = MAX_ENTRIES - found.len();
                if left > 0 {
                    found.extend(self.hashes_under(&[b'Q', form, coding, high, low], left)?);
                }
            }
        }
        Ok(found)
    }

    fn hashes_under(&self, prefix: &[u8], limit: usize) -> Result<Vec<DataHash>, L> {
        let keys = self.ledger.keys(prefix, prefix, limit)?;
        Ok(keys.iter().filter_map(|key| ledger::hash_at_end(key)).collect())
    }

    /// The statement about a batch, if its shard is there; its record says from now on that it was made.
    fn statement(&mut self, hash: &DataHash, coding: u8, now: Now) -> Result<Option<Statement>, L> {
        self.settle(hash, now)?;
        let Some(old) = self.record(hash)? else { return Ok(None) };
        if !matches!(old.form, Form::Wait | Form::Dropped) || old.coding != coding {
            return Ok(None);
        }
        let mut record = old.clone();
        let (promise, length, own_witness) = (record.promise, record.length, self.state.own);
        let part = record.part_mut(coding);
        let Some(root) = part.own.map(|own| part.roots[usize::from(own)]) else { return Ok(None) };
        if part.stated_as == own_witness && part.stated >= promise {
            return Ok(None);
        }
        let until = if self.config.keep_for_ever { u64::MAX } else { promise.max(part.stated) };
        part.stated = until;
        part.stated_as = own_witness;
        self.replace(hash, Some(&old), Some(&record));
        Ok(Some(Statement { hash: *hash, length, root, until }))
    }

    fn publish(&mut self, number: u8, entries: Vec<Statement>, now: Now) -> Result<(), L> {
        let coding = self.codings[&number].id;
        let index = self.my_index(number).expect("only shards of codings that this member is in are made");
        let list = StatementList {
            coding,
            member: u8::try_from(index).expect("a committee has at most 64 members"),
            storage_id: self.state.storage_id,
            counter: self.state.counter + 1,
            previous: self.state.digest,
            issued_at: now.wall,
            entries,
        };
        let list = self.signer.sign(list);
        self.state.counter += 1;
        self.state.digest = *list.digest();
        self.state_changed = true;
        self.keep_list(self.state.own, &list);
        self.last_list = now.steady;
        // No list leaves whose counter could be given away a second time.
        self.flush(true)?;
        self.outbox.push_back(Effect::Publish(list));
        Ok(())
    }
}
