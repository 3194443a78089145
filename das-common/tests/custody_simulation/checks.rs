//! What must hold.
//!
//! A member is *faulty* while it is down, cut off, withholding or lying, while its clock is wrong, and while it lacks
//! something it stated on which a member in shard form may rely.

use std::collections::BTreeSet;

use das_common::committee::CodingId;
use das_common::custody::Coding;
use das_common::custody::machine::{Form, Health};
use das_common::data_hash::DataHash;

use crate::world::{LENGTH, Stated, World};

impl World {
    pub(crate) fn is_faulty(&self, index: usize) -> bool {
        let node = &self.nodes[index];
        node.machine.is_none()
            || node.lying
            || node.withholding
            || node.isolated
            || !node.owed.is_empty()
            || node.offset.abs() > 200
    }

    /// The members of this coding, by their place in the world.
    pub(crate) fn members_of(&self, coding: &Coding) -> Vec<usize> {
        (0..self.nodes.len()).filter(|index| coding.index_of(&self.nodes[*index].key).is_some()).collect()
    }

    /// The codings that somebody relies on, and the newest.
    pub(crate) fn codings_in_force(&self) -> Vec<Coding> {
        let newest = self.codings.last().unwrap().id;
        let mut used = BTreeSet::from([newest]);
        if self.codings.len() > 1 {
            for index in 0..self.nodes.len() {
                if self.nodes[index].machine.is_none() {
                    used.extend(self.codings.iter().map(|coding| coding.id));
                }
                for hash in self.nodes[index].signed.keys() {
                    if let Some((Form::Dropped | Form::Dropping, Some(coding), _)) = self.form_at(index, hash)
                    {
                        used.insert(coding);
                    }
                }
            }
        }
        self.codings.iter().filter(|coding| used.contains(&coding.id)).cloned().collect()
    }

    /// Whether as many members of each coding may fail as it allows, and no more do.
    pub(crate) fn within_budget(&self) -> bool {
        self.codings_in_force().iter().all(|coding| {
            let faulty = self.members_of(coding).into_iter().filter(|index| self.is_faulty(*index)).count();
            faulty <= coding.dishonest()
        })
    }

    /// A member that lost what it stated is well again when it has it back, or when everybody knows its new storage id,
    /// and whoever has let go of his whole copy counts enough others.
    pub(crate) fn tidy_owed(&mut self) {
        for index in 0..self.nodes.len() {
            if self.nodes[index].owed.is_empty() {
                continue;
            }
            let settled = |(what, until): &(&Stated, &u64)| {
                **until <= self.wall()
                    || self.is_true_again(index, what, **until)
                    || !self.relied_on(index, what)
            };
            let gone: Vec<_> = self.nodes[index].owed.iter().filter(settled).map(|(what, _)| *what).collect();
            for what in gone {
                self.nodes[index].owed.remove(&what);
            }
        }
    }

    fn is_true_again(&self, index: usize, (hash, coding, _): &Stated, until: u64) -> bool {
        let disk = self.disk(index);
        let promise = disk.promise(hash).unwrap_or(0);
        !self.nodes[index].lying
            && (disk.has_whole(hash) || disk.has_shard(hash, coding))
            && (promise >= until || (self.plan.for_ever && promise > 0))
    }

    /// Whether somebody relies, or may come to rely, on a statement of this member that is not true any more.
    fn relied_on(&self, index: usize, (hash, _, storage_id): &Stated) -> bool {
        let Some(machine) = &self.nodes[index].machine else { return true };
        let replaced = machine.storage_id() != *storage_id;
        (0..self.nodes.len()).any(|other| {
            let node = &self.nodes[other];
            if other == index || node.lying || node.departed {
                return false;
            }
            let disk = self.disk(index);
            let long_enough =
                !self.nodes[index].lying && self.promised(index, hash) >= self.promised(other, hash);
            let Some(machine) = &node.machine else {
                let all = disk.has_whole(hash) || disk.has_all_shards(hash);
                return !(long_enough && all);
            };
            let now = self.now_at(other);
            let view = machine.batch(hash, now).unwrap();
            let coding = view.as_ref().and_then(|view| view.coding);
            let coding = self.codings.iter().find(|known| Some(known.id) == coding);
            let has_again =
                disk.has_whole(hash) || coding.is_some_and(|coding| disk.has_shard(hash, &coding.id));
            if long_enough && has_again {
                return false;
            }
            let key = self.nodes[index].key;
            let known = machine.members(now).into_iter().find(|view| view.member == key);
            if !replaced || known.and_then(|view| view.storage_id) == Some(*storage_id) {
                return true;
            }
            let (Some(view), Some(coding)) = (view, coding) else { return false };
            matches!(view.form, Form::Dropped | Form::Dropping) && view.count < coding.threshold()
        })
    }

    fn promised(&self, index: usize, hash: &DataHash) -> u64 {
        let promise = self.disk(index).promise(hash).unwrap_or(0);
        if self.plan.for_ever && promise > 0 { u64::MAX } else { promise }
    }

    pub(crate) fn check_one(&mut self, hash: &DataHash) {
        self.check_held(hash);
        self.check_readable(hash);
    }

    pub(crate) fn check_all(&mut self) {
        self.tidy_owed();
        for hash in self.hashes.clone() {
            self.check_one(&hash);
        }
        self.check_health();
    }

    /// What the machines tell operators is what counting anew comes to.
    fn check_health(&mut self) {
        for index in 0..self.nodes.len() {
            let Some(machine) = &self.nodes[index].machine else { continue };
            let told = machine.health(self.now_at(index)).unwrap();
            let newest = self.nodes[index].codings.last().map(|coding| coding.id);
            let mut counted = Health::default();
            for hash in &self.hashes {
                match self.form_at(index, hash) {
                    Some((Form::Missing, _, _)) => counted.missing.batches += 1,
                    Some((Form::Dropped, coding, count)) => {
                        if coding != newest {
                            counted.earlier_coding.batches += 1;
                            counted.earlier_coding.bytes += LENGTH;
                        }
                        let coding = self.codings.iter().find(|known| Some(known.id) == coding).unwrap();
                        let amount = match count >= coding.threshold() {
                            true => &mut counted.covered,
                            false => &mut counted.under_replicated,
                        };
                        amount.batches += 1;
                        amount.bytes += LENGTH;
                        if count < usize::from(coding.data_shards) {
                            counted.unreadable.batches += 1;
                            counted.unreadable.bytes += LENGTH;
                        }
                    }
                    _ => {}
                }
            }
            // Of what is missing a liar may have told a wrong length.
            counted.missing.bytes = told.missing.bytes;
            (counted.failed_gathers, counted.oldest_demotion, counted.oldest_repair) =
                (told.failed_gathers, told.oldest_demotion, told.oldest_repair);
            let repairs = counted.under_replicated.batches + counted.missing.batches;
            if counted != told || told.oldest_repair.is_some() != (repairs > 0) {
                self.fail(format!("member {index} tells {told:?}, and it is {counted:?}"));
            }
        }
    }

    /// A member that no fault took anything from has what it signed and stated.
    fn check_held(&mut self, hash: &DataHash) {
        for index in 0..self.nodes.len() {
            let node = &self.nodes[index];
            if node.struck || node.departed {
                continue;
            }
            let alive = |until: &u64| *until > self.wall();
            let signed = node.signed.get(hash).is_some_and(alive);
            let of = |((stated, _, _), until): &(&Stated, &u64)| stated == hash && alive(until);
            let stated: Vec<CodingId> =
                node.stated.iter().filter(of).map(|((_, coding, _), _)| *coding).collect();
            let disk = self.disk(index);
            let lost_signed = signed && !disk.has_some(hash);
            let lost_stated =
                stated.iter().any(|coding| !disk.has_whole(hash) && !disk.has_shard(hash, coding));
            if lost_signed || lost_stated {
                self.fail(format!(
                    "member {index} lost {hash:?} without a fault (signed: {lost_signed}, stated: {lost_stated})"
                ));
            }
        }
    }

    /// A batch that anybody in shard form signed for stays readable whichever further members fail.
    fn check_readable(&mut self, hash: &DataHash) {
        let claimed = |index: usize| {
            let node = &self.nodes[index];
            !node.lying
                && !node.departed
                && node.signed.get(hash).is_some_and(|until| *until > self.wall())
                && !self.disk(index).has_whole(hash)
        };
        if !(0..self.nodes.len()).any(claimed) {
            return;
        }
        if !self.within_budget() {
            self.reached.over_budget += 1;
            return;
        }
        let codings = self.codings_in_force();
        let holders: Vec<usize> = (0..self.nodes.len())
            .filter(|index| !self.is_faulty(*index) && self.disk(*index).has_some(hash))
            .collect();
        if !self.robust(hash, &codings, &holders) {
            let text = self.describe(hash);
            self.fail(format!("{hash:?} can be lost: {text}"));
        }
    }

    fn robust(&self, hash: &DataHash, codings: &[Coding], holders: &[usize]) -> bool {
        let left: Vec<(u32, usize)> = codings
            .iter()
            .map(|coding| {
                let members = self.members_of(coding);
                let faulty = members.iter().filter(|index| self.is_faulty(**index)).count();
                let mask = members.iter().fold(0, |mask, index| mask | 1 << *index);
                (mask, coding.dishonest().saturating_sub(faulty))
            })
            .collect();
        let whole = holders.iter().filter(|index| self.disk(**index).has_whole(hash));
        let whole: u32 = whole.fold(0, |mask, index| mask | 1 << *index);
        let shards: Vec<(u32, u32)> = self
            .codings
            .iter()
            .map(|coding| {
                let has = holders.iter().filter(|index| {
                    coding.index_of(&self.nodes[**index].key).is_some()
                        && self.disk(**index).has_shard(hash, &coding.id)
                });
                (u32::from(coding.data_shards), has.fold(0, |mask, index| mask | 1 << *index))
            })
            .collect();
        let all: u32 = holders.iter().fold(0, |mask, index| mask | 1 << *index);
        // Every choice of members whose failing the committees allow.
        let mut removed = all;
        loop {
            let allowed = left.iter().all(|(mask, left)| (removed & mask).count_ones() as usize <= *left);
            if allowed {
                let rest = all & !removed;
                let readable =
                    rest & whole != 0 || shards.iter().any(|(k, mask)| (rest & mask).count_ones() >= *k);
                if !readable {
                    return false;
                }
            }
            if removed == 0 {
                return true;
            }
            removed = (removed - 1) & all;
        }
    }

    pub(crate) fn describe(&self, hash: &DataHash) -> String {
        let mut text = String::new();
        for index in 0..self.nodes.len() {
            let node = &self.nodes[index];
            let disk = self.disk(index);
            let shards: Vec<bool> =
                self.codings.iter().map(|coding| disk.has_shard(hash, &coding.id)).collect();
            text += &format!(
                "[{index}{}{}{}: counts {:?} whole {} shards {shards:?} promise {:?} signed {:?} owed {} form {:?}] ",
                if self.is_faulty(index) { " faulty" } else { "" },
                if node.lying { " lying" } else { "" },
                if node.departed { " departed" } else { "" },
                node.machine.as_ref().map(|machine| machine.counted(hash, self.now_at(index)).unwrap()),
                disk.has_whole(hash),
                disk.promise(hash),
                node.signed.get(hash),
                node.owed.len(),
                self.form_at(index, hash),
            );
        }
        text
    }

    /// Whether somebody counts a member for what it does not have, or not for as long.
    ///
    /// A list that was lost on its way to everybody, and whose member was rolled back to before it, is not heard of by
    /// anybody: no machine can make it true, and none counts it.
    fn is_counted_wrongly(&self, index: usize, (hash, coding, _): &Stated) -> bool {
        let (key, disk) = (self.nodes[index].key, self.disk(index));
        let has = disk.has_whole(hash) || disk.has_shard(hash, coding);
        (0..self.nodes.len()).any(|other| {
            let Some(machine) = &self.nodes[other].machine else { return false };
            let counts = machine.counted(hash, self.now_at(other)).unwrap().contains(&key);
            counts && !(has && self.promised(index, hash) >= self.promised(other, hash))
        })
    }

    /// After the faults: everybody is well, and everything that enough members have is covered everywhere.
    pub(crate) fn check_recovered(&mut self) {
        self.check_all();
        let newest = self.codings.last().unwrap().clone();
        let members = self.members_of(&newest);
        for hash in self.hashes.clone() {
            let mut promises: Vec<u64> = Vec::new();
            for index in &members {
                let disk = self.disk(*index);
                if disk.has_some(&hash) {
                    promises.extend(disk.promise(&hash).filter(|promise| *promise > self.wall() + 600));
                }
            }
            promises.sort_unstable_by(|a, b| b.cmp(a));
            let Some(common) = promises.get(newest.dishonest()).copied() else { continue };
            for index in &members {
                let Some((form, coding, count)) = self.form_at(*index, &hash) else {
                    let text = self.describe(&hash);
                    self.fail(format!("member {index} never learnt of {hash:?}: {text}"));
                    return;
                };
                let promise = self.disk(*index).promise(&hash).unwrap_or(0);
                let as_far = promise == common || self.plan.for_ever;
                let right = if as_far {
                    form == Form::Dropped && coding == Some(newest.id) && count == newest.shards()
                } else {
                    promise > common && self.disk(*index).has_some(&hash)
                };
                if !right {
                    let text = self.describe(&hash);
                    self.fail(format!("member {index} did not get well with {hash:?}: {text}"));
                    return;
                }
            }
        }
        for index in 0..self.nodes.len() {
            // What was in one place only, and was lost there, is nobody's to give back.
            let owed = self.nodes[index].owed.iter();
            let owed: Vec<_> = owed
                .filter(|(what, _)| self.can_gather(index, &what.0) && self.is_counted_wrongly(index, what))
                .collect();
            if !self.nodes[index].departed && !owed.is_empty() {
                let text: String = owed.iter().map(|((hash, _, _), _)| self.describe(hash)).collect();
                self.fail(format!("member {index} still owes {owed:?}: {text}"));
            }
        }
    }
}
