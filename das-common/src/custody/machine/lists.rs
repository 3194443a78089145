//! Taking in the lists of others.
//!
//! A member's lists are taken in one after the other, so that "the next one" is all there is to remember of them. What is
//! missing is asked for.

use std::ops::Range;

use super::super::coding::MemberKey;
use super::super::evidence::Evidence;
use super::super::message::MAX_LISTS;
use super::super::statement::{SignedList, Statement, StorageId, VerifiedList};
use super::ledger::{self, Ledger};
use super::record::{Form, Part, Record, Seen};
use super::settle::GRACE;
use super::{Alarm, Effect, Machine, Mutant, Now, Result};
use crate::committee::CodingId;
use crate::data_hash::DataHash;
use crate::keccak::keccak256;

/// A list that is kept for another reason than its statements is looked at again after so many seconds.
const LATEST_LIST: u64 = 24 * 3600;

impl<L: Ledger> Machine<L> {
    pub(super) fn take_list(&mut self, member: &MemberKey, list: &VerifiedList, now: Now) -> Result<(), L> {
        let Some(index) = self.member_index(member) else { return Ok(()) };
        if index == self.me {
            return self.own_list_came(list, now);
        }
        let witness = self.witness_of(index, &list.list().storage_id);
        let Some(witness) = witness.filter(|witness| self.members[index].record.current == Some(*witness))
        else {
            if witness.is_none() {
                // It may be new: only the member itself can say so.
                self.greet(index, now);
            }
            return Ok(());
        };
        if self.witnesses[&witness].record.contradicted.is_some() {
            return Ok(());
        }
        self.note_highest(index, witness, list)?;
        let next = self.witnesses[&witness].record.next;
        let counter = list.list().counter;
        if counter > next {
            self.ask_for_more(index, counter, now);
            return Ok(());
        }
        if counter < next {
            return self.compare_with_known(index, witness, list);
        }
        self.take_in(index, witness, list, now)
    }

    pub(super) fn lists_answered(
        &mut self,
        member: &MemberKey,
        storage_id: StorageId,
        range: Range<u64>,
        lists: &[(MemberKey, VerifiedList)],
        now: Now,
    ) -> Result<(), L> {
        let Some(asked) = self.member_index(member) else { return Ok(()) };
        self.lists_came(asked);
        let witness = self.witness_of(asked, &storage_id);
        // Only the member itself can say that something it stated has ended, and only about what it was asked.
        let from_owner = witness.filter(|witness| {
            self.members[asked].record.current == Some(*witness)
                && range.start <= self.witnesses[witness].record.next
        });
        for (signer, list) in lists {
            if let Some(witness) = from_owner
                && signer == member
                && list.list().storage_id == storage_id
            {
                self.skip_to(witness, list.list().counter);
            }
            self.take_list(signer, list, now)?;
            let stuck = from_owner.is_some_and(|witness| {
                list.list().storage_id == storage_id
                    && self.witnesses[&witness].record.next <= list.list().counter
            });
            if stuck {
                // It is not understood yet, so what comes behind it has to wait.
                return Ok(());
            }
        }
        if let Some(witness) = from_owner {
            self.skip_to(witness, range.end);
            let record = &self.witnesses[&witness].record;
            // Whoever has nothing new to say (it was rolled back, say) is asked again after its next hello only.
            if record.next > range.start {
                let highest = record.highest;
                self.ask_for_more(asked, highest, now);
            }
        }
        Ok(())
    }

    fn skip_to(&mut self, witness: u16, next: u64) {
        if let Some(found) = self.witnesses.get_mut(&witness)
            && next > found.record.next
        {
            found.record.next = next;
            self.put_witness(witness);
        }
    }

    /// Remembers the highest list of a storage id: it is shown to the member, which so learns that it was rolled back.
    fn note_highest(&mut self, index: usize, witness: u16, list: &VerifiedList) -> Result<(), L> {
        let counter = list.list().counter;
        let record = &self.witnesses[&witness].record;
        let (highest, next, digest) = (record.highest, record.next, record.digest);
        if counter == highest && digest != *list.digest() {
            return self.contradicts(index, witness, list);
        }
        if counter <= highest {
            return Ok(());
        }
        if highest >= next {
            // Not taken in yet, and kept only to be shown.
            self.forget_list(witness, highest)?;
        }
        let found = self.witnesses.get_mut(&witness).expect("looked up above");
        found.record.highest = counter;
        found.record.digest = *list.digest();
        self.put_witness(witness);
        self.keep_list(witness, list);
        Ok(())
    }

    fn compare_with_known(&mut self, index: usize, witness: u16, list: &VerifiedList) -> Result<(), L> {
        let known = self.stored_list(witness, list.list().counter)?;
        if known.is_some_and(|known| known.body != list.signed().body) {
            return self.contradicts(index, witness, list);
        }
        Ok(())
    }

    /// There is another version of a list. The member is shown the version that is here: it learns that it was rolled back.
    fn freeze(&mut self, index: usize, witness: u16, counter: u64) -> Result<(), L> {
        let member = self.members[index].key;
        self.alarm(Alarm::SameCounter { member }, true);
        let Some(first) = self.stored_list(witness, counter)? else { return Ok(()) };
        let found = self.witnesses.get_mut(&witness).expect("looked up by the caller");
        found.record.contradicted.get_or_insert((counter, keccak256(&first.body)));
        self.put_witness(witness);
        Ok(())
    }

    fn contradicts(&mut self, index: usize, witness: u16, list: &VerifiedList) -> Result<(), L> {
        let member = self.members[index].key;
        if let Some(first) = self.stored_list(witness, list.list().counter)?
            && !self.alarms.contains(&Alarm::SameCounter { member })
        {
            let evidence = Evidence::SameCounter { first, second: list.signed().clone() };
            self.outbox.push_back(Effect::Evidence { member, evidence });
        }
        self.freeze(index, witness, list.list().counter)
    }

    fn take_in(&mut self, index: usize, witness: u16, list: &VerifiedList, now: Now) -> Result<(), L> {
        let content = list.list();
        if let Some(before) = self.stored_list(witness, content.counter - 1)?
            && keccak256(&before.body) != content.previous
        {
            return self.freeze(index, witness, content.counter - 1);
        }
        let clock_is_right = self.agrees_with_peers(now);
        let found = self.witnesses.get_mut(&witness).expect("looked up by the caller");
        if found.record.highest == content.counter && found.record.digest != *list.digest() {
            return Ok(());
        }
        let coding = self.codings.iter().find(|(_, coding)| coding.id == content.coding);
        // A list that cannot be judged yet (of a committee not known here; by a clock that is wrong) is not taken in, and
        // asked for again.
        let Some((number, coding)) = coding.filter(|_| clock_is_right) else { return Ok(()) };
        found.record.next = content.counter + 1;
        let mut number = *number;
        let right_index = coding.index_of(&self.members[index].key) == Some(usize::from(content.member));
        self.put_witness(witness);
        if !right_index {
            return Ok(());
        }
        if self.is(Mutant::MixesCodings) {
            number = self.newest;
        }
        self.keep_list(witness, list);
        for entry in &content.entries {
            self.take_statement(index, witness, number, entry, list, now)?;
        }
        Ok(())
    }

    fn take_statement(
        &mut self,
        index: usize,
        witness: u16,
        coding: u8,
        entry: &Statement,
        list: &VerifiedList,
        now: Now,
    ) -> Result<(), L> {
        let old = self.record(&entry.hash)?;
        let unheld = old.as_ref().is_none_or(|record| record.form == Form::Unheld);
        if unheld && (entry.until <= now.wall || self.has_too_many(index, old.as_ref())) {
            return Ok(());
        }
        let mut record = old.clone().unwrap_or_else(|| Record::new(now.wall));
        let twice = self.is(Mutant::CountsTwice);
        let witnesses = &self.witnesses;
        let part = record.part_mut(coding);
        let of_member =
            |seen: &Seen| witnesses.get(&seen.witness).is_some_and(|witness| witness.member == index);
        let Some(root) = part.root_index(entry.root) else { return Ok(()) };
        let before = part.seen.iter().find(|seen| seen.witness == witness && seen.root == root);
        let until = before.map_or(entry.until, |before| before.until.max(entry.until));
        if !twice {
            part.seen.retain(|seen| !of_member(seen));
        }
        part.seen.push(Seen { witness, until, root, failed: false });
        part.tidy();
        let wrong = wrong_root(part, entry);
        if record.form == Form::Unheld {
            record.length = entry.length;
        }
        let cap = self.latest_repair(now);
        record.forget = record.forget.max(entry.until.min(cap));
        self.authorize(&mut record, coding, now);
        self.judge_takeover(&mut record, now);
        self.replace(&entry.hash, old.as_ref(), Some(&record));
        if wrong {
            self.accuse_of_root(index, &entry.hash, Some(list.signed().clone()));
        }
        if record.form == Form::Unheld && record.authority > now.wall {
            self.settle(&entry.hash, now)?;
        }
        Ok(())
    }

    /// Somebody states another root than the own one. The first time it is worth an evidence bundle.
    fn accuse_of_root(&mut self, index: usize, hash: &DataHash, list: Option<SignedList>) {
        let member = self.members[index].key;
        if let Some(list) = list.filter(|_| !self.alarms.contains(&Alarm::WrongRoot { member })) {
            let evidence = Evidence::WrongRoot { list, hash: *hash };
            self.outbox.push_back(Effect::Evidence { member, evidence });
        }
        self.alarm(Alarm::WrongRoot { member }, true);
    }

    /// The own root is known now: whoever stated another one before is found out.
    pub(super) fn compare_roots(&mut self, hash: &DataHash, part: &Part) -> Result<(), L> {
        let Some(coding) = self.codings.get(&part.coding).map(|coding| coding.id) else { return Ok(()) };
        for seen in part.seen.iter().filter(|seen| Some(seen.root) != part.own) {
            let Some(index) = self.witnesses.get(&seen.witness).map(|witness| witness.member) else {
                continue;
            };
            let root = part.roots[usize::from(seen.root)];
            let entry = Statement { hash: *hash, length: 0, root, until: seen.until };
            let known = self.alarms.contains(&Alarm::WrongRoot { member: self.members[index].key });
            let list = if known { None } else { self.list_with(seen.witness, &coding, &entry)? };
            self.accuse_of_root(index, hash, list);
        }
        Ok(())
    }

    /// Whether this member already states as many batches that are not here as are remembered for its sake.
    fn has_too_many(&mut self, index: usize, record: Option<&Record>) -> bool {
        let witnesses = &self.witnesses;
        let of_member =
            |seen: &Seen| witnesses.get(&seen.witness).is_some_and(|witness| witness.member == index);
        let counted =
            record.is_some_and(|record| record.parts.iter().any(|part| part.seen.iter().any(of_member)));
        let member = self.members[index].key;
        let too_many = !counted && self.members[index].record.unheld >= self.config.limits.unheld;
        if too_many {
            self.alarm(Alarm::TooManyUnheld { member }, true);
        }
        too_many
    }

    /// Statements by n - H + 1 distinct members are authority to repair, as far as all of them reach.
    fn authorize(&self, record: &mut Record, coding: u8, now: Now) {
        let Some(one_honest) = self.codings.get(&coding).map(super::Coding::one_honest) else { return };
        let Some(part) = record.part(coding).filter(|_| self.target_member().is_some()) else { return };
        let current = part.seen.iter().filter(|seen| self.is_current(seen.witness));
        let mut ends: Vec<u64> = current.map(|seen| seen.until).collect();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        if let Some(until) = ends.get(one_honest - 1) {
            let until = (*until).min(self.latest_repair(now));
            if until > now.wall {
                record.authority = record.authority.max(until);
            }
        }
    }

    /// Marks a leaver's batch that K members of the newest coding have.
    pub(super) fn judge_takeover(&self, record: &mut Record, now: Now) {
        if self.target_member().is_some() || record.good == Some(self.newest) || !record.is_held() {
            return;
        }
        let Some(coding) = self.codings.get(&self.newest) else { return };
        let Some(part) = record.part(self.newest) else { return };
        let promise = record.promise;
        let count = |root: u8| {
            let far = part.seen.iter().filter(|seen| seen.root == root && seen.until >= promise);
            let witnesses: Vec<u16> = far.map(|seen| seen.witness).collect();
            self.count_of(self.newest, &witnesses, now, false) - 1
        };
        let most = part.seen.iter().map(|seen| count(seen.root)).max().unwrap_or(0);
        if most >= coding.threshold() {
            record.good = Some(self.newest);
        }
    }

    /// A member was asked for a leaf, and showed it or did not.
    pub(super) fn audited(
        &mut self,
        member: &MemberKey,
        hash: &DataHash,
        coding: CodingId,
        passed: bool,
    ) -> Result<(), L> {
        let Some(index) = self.member_index(member) else { return Ok(()) };
        let Some(old) = self.record(hash)? else { return Ok(()) };
        let number = self.codings.iter().find(|(_, known)| known.id == coding).map(|(number, _)| *number);
        let mut record = old.clone();
        let parts = record.parts.iter_mut().filter(|part| Some(part.coding) == number);
        for seen in parts.flat_map(|part| &mut part.seen) {
            if self.witnesses.get(&seen.witness).is_some_and(|witness| witness.member == index) {
                seen.failed = !passed;
            }
        }
        self.replace(hash, Some(&old), Some(&record));
        Ok(())
    }

    pub(super) fn keep_list(&mut self, witness: u16, list: &VerifiedList) {
        let counter = list.list().counter;
        self.put(&ledger::list_key(witness, counter), list.signed());
        self.mark(ledger::list_end_key(list.until(), witness, counter));
    }

    pub(super) fn stored_list(&self, witness: u16, counter: u64) -> Result<Option<SignedList>, L> {
        self.get(&ledger::list_key(witness, counter))
    }

    fn forget_list(&mut self, witness: u16, counter: u64) -> Result<(), L> {
        if let Some(list) = self.stored_list(witness, counter)?
            && let Ok(list) = list.trust_own_disk()
        {
            self.remove(ledger::list_end_key(list.until(), witness, counter));
            self.remove(ledger::list_key(witness, counter));
        }
        Ok(())
    }

    /// Whether this is the list that its member is shown at each hello: should the member be rolled back, it is what
    /// proves that to it, however long ago its statements ended.
    fn shows_a_roll_back(&self, witness: u16, counter: u64) -> bool {
        let Some(found) = self.witnesses.get(&witness) else { return false };
        let record = &found.record;
        let shown = record.contradicted.map_or(record.highest, |(counter, _)| counter);
        self.members[found.member].record.current == Some(witness) && shown == counter
    }

    /// Other lists whose statements have all ended prove nothing that matters any more.
    pub(super) fn prune_lists(&mut self, now: Now) -> Result<(), L> {
        const AT_ONCE: usize = 32;
        for key in self.ledger.keys(ledger::LIST_ENDS, ledger::LIST_ENDS, AT_ONCE)? {
            let until = ledger::number_at(&key, 1).unwrap_or(u64::MAX);
            if until == u64::MAX || until.saturating_add(GRACE) >= now.wall {
                break;
            }
            let place = key.get(9..).unwrap_or_default().to_vec();
            let (witness, counter) = place.split_first_chunk::<2>().unwrap_or((&[0; 2], &[]));
            let (witness, counter) =
                (u16::from_be_bytes(*witness), ledger::number_at(counter, 0).unwrap_or(0));
            if self.shows_a_roll_back(witness, counter) {
                self.mark(ledger::list_end_key(now.wall.saturating_add(LATEST_LIST), witness, counter));
            } else {
                self.remove([b"L", place.as_slice()].concat());
            }
            self.remove(key);
        }
        Ok(())
    }

    /// The lists of a storage id, anybody's, from a counter on; and the counter below which nothing is left to ask for.
    pub fn lists(&self, storage_id: &StorageId, from: u64) -> Result<(Vec<SignedList>, u64), L> {
        let mut all = self.witnesses.iter();
        let found = all.find(|(_, witness)| witness.record.storage_id == *storage_id);
        let Some((number, witness)) = found else { return Ok((Vec::new(), from)) };
        let keys =
            self.ledger.keys(&ledger::lists_of(*number), &ledger::list_key(*number, from), MAX_LISTS + 1)?;
        let mut next = if *number == self.state.own { self.state.counter + 1 } else { witness.record.next };
        let mut lists = Vec::new();
        for key in keys {
            if lists.len() == MAX_LISTS {
                next = ledger::number_at(&key, 3).unwrap_or(next);
                break;
            }
            lists.extend(self.get::<SignedList>(&key)?);
        }
        Ok((lists, next))
    }
}

fn wrong_root(part: &Part, entry: &Statement) -> bool {
    part.own.is_some_and(|own| part.roots[usize::from(own)] != entry.root)
}
