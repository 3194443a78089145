//! What goes wrong, and when.

use std::collections::BTreeMap;

use das_common::custody::machine::{Event, Form, Mutant};
use das_common::data_hash::DataHash;

use crate::disk::Disk;
use crate::world::{Happening, Message, SECOND, World, coding, member_key};

/// No schedule takes a tenth of this.
const MAX_STEPS: u64 = 400_000;

impl World {
    /// One schedule, up to its end or its first violation.
    pub(crate) fn run(&mut self) {
        let rng = &mut self.rng;
        let chaos = rng.between(1500, 4000) * SECOND;
        self.at(0, Happening::Client);
        self.at(SECOND, Happening::Fault);
        if self.plan.change {
            let when = self.rng.between(200, chaos / SECOND) * SECOND;
            self.at(when, Happening::Committee);
        }
        for node in 0..self.nodes.len() {
            if self.rng.percent(50) {
                let when = self.rng.below(chaos);
                self.at(when, Happening::Snapshot { node });
            }
        }
        self.at(chaos, Happening::Heal);
        let recovered = chaos + 5000 * SECOND;
        self.run_until(recovered - 1500 * SECOND);
        self.audit_everything();
        self.run_until(recovered);
        let by_recovery = [Mutant::IgnoresRollBack, Mutant::MixesCodings];
        if self.mutant.is_some_and(|mutant| !by_recovery.contains(&mutant)) {
            // These have to be noticed by what can be lost.
            return;
        }
        if self.violation.is_none() {
            self.check_recovered();
        }
        if self.plan.long && !self.plan.for_ever && self.violation.is_none() {
            self.run_until(recovered + 30_000 * SECOND);
            self.check_forgotten();
        }
    }

    fn run_until(&mut self, end: u64) {
        while self.violation.is_none() && self.next_time().is_some_and(|time| time <= end) {
            let Some(happening) = self.next() else { return };
            if self.reached.steps > MAX_STEPS {
                self.fail("members do not come to rest".to_owned());
                return;
            }
            self.happen(happening);
        }
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Tick { node, life } if self.nodes[node].life == life => self.tick(node),
            Happening::Message { from, to, life, message } if self.nodes[to].life == life => {
                if !self.nodes[to].isolated || matches!(message, Message::Store { .. }) {
                    self.deliver(from, to, message);
                }
            }
            Happening::Done { node, life, effect } if self.nodes[node].life == life => {
                self.finish(node, effect);
            }
            Happening::Tick { .. } | Happening::Message { .. } | Happening::Done { .. } => {}
            Happening::Changed { node, hash } => {
                if self.nodes[node].machine.is_none() && !self.nodes[node].departed {
                    // The scrub comes by again.
                    self.at(100 * SECOND, Happening::Changed { node, hash });
                }
                self.tell(node, Event::Changed { hash });
            }
            Happening::Client => self.client(),
            Happening::Fault => self.next_fault(),
            Happening::EndFault { node, number } => self.end_fault(node, number),
            Happening::Committee => self.change_committee(),
            Happening::Upgrade { node } => self.upgrade(node),
            Happening::Heal => self.heal(),
            Happening::Snapshot { node } => {
                if !self.nodes[node].lying {
                    self.nodes[node].snapshot = Some(self.disk(node).clone());
                }
            }
        }
    }

    fn tick(&mut self, node: usize) {
        let life = self.nodes[node].life;
        if self.now_at(node).trusted {
            self.nodes[node].written_offset = self.nodes[node].offset;
        }
        self.tell(node, Event::Tick);
        if self.nodes[node].life == life {
            let step = if self.rng.percent(10) { 5 } else { 60 + 90 * u64::from(self.healed) };
            self.at(step * SECOND, Happening::Tick { node, life });
        }
        self.audit(node);
    }

    /// One member asks another for a leaf now and then.
    fn audit(&mut self, node: usize) {
        if !self.hashes.is_empty() && self.rng.percent(15) {
            let (hash, other) = (*self.rng.pick(&self.hashes), self.rng.index(self.nodes.len()));
            self.audit_one(node, other, &hash);
        }
    }

    fn audit_one(&mut self, node: usize, other: usize, hash: &DataHash) {
        let (asker, asked) = (&self.nodes[node], &self.nodes[other]);
        if other == node || asked.machine.is_none() || asked.isolated || asker.isolated || asked.withholding {
            return;
        }
        let (member, wall, disk) = (asked.key, self.wall(), self.disk(other));
        let stated = asked.stated.iter().filter(|((stated, _, _), until)| stated == hash && **until > wall);
        let stated = stated.map(|((_, coding, _), _)| *coding);
        let audits: BTreeMap<_, _> =
            stated.map(|coding| (coding, disk.has_whole(hash) || disk.has_shard(hash, &coding))).collect();
        for (coding, passed) in audits {
            let hash = *hash;
            if !passed && !self.nodes[other].lying {
                // Who cannot show what he is asked for looks at it anew.
                self.tell(other, Event::Changed { hash });
            }
            self.tell(
                node,
                match passed {
                    true => Event::AuditPassed { member, hash, coding },
                    false => Event::AuditFailed { member, hash, coding },
                },
            );
        }
    }

    /// Audits go on all the time: sooner or later every member has asked every other about everything.
    fn audit_everything(&mut self) {
        for node in 0..self.nodes.len() {
            for other in 0..self.nodes.len() {
                for hash in self.hashes.clone() {
                    self.audit_one(node, other, &hash);
                }
            }
        }
    }

    /// A batch is stored, or stored again for longer.
    fn client(&mut self) {
        if self.healed {
            return;
        }
        let again = !self.hashes.is_empty() && self.rng.percent(35);
        let full = self.hashes.len() >= self.plan.batches;
        if again || full {
            if !self.hashes.is_empty() {
                let hash = *self.rng.pick(&self.hashes);
                self.store_at_some(hash);
            }
        } else {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&self.rng.next().to_le_bytes());
            bytes[31] = u8::try_from(self.hashes.len() + 1).unwrap();
            let hash = DataHash::from_bytes(bytes);
            self.hashes.push(hash);
            self.store_at_some(hash);
        }
        let pause = self.rng.between(1, 500) * SECOND;
        self.at(pause, Happening::Client);
    }

    fn store_at_some(&mut self, hash: DataHash) {
        let until = self.wall() + *self.rng.pick(&[500, 2000, 9000, 15_000, 25_000]);
        let chance = *self.rng.pick(&[100, 100, 90, 60, 30]);
        let newest = self.codings.last().unwrap().clone();
        for to in self.members_of(&newest) {
            if self.rng.percent(chance) {
                let life = self.nodes[to].life;
                let delay = self.rng.between(1, 5 * SECOND);
                let message = Message::Store { hash, until };
                self.at(delay, Happening::Message { from: to, to, life, message });
            }
        }
    }

    fn next_fault(&mut self) {
        if self.healed {
            return;
        }
        let pause = self.rng.between(1, 2 * self.plan.faults_every) * SECOND;
        self.at(pause, Happening::Fault);
        if self.rng.percent(10) {
            // A power cut of everybody at once, over at once: nobody loses what it has.
            self.reached.crashes += 1;
            for node in 0..self.nodes.len() {
                if self.nodes[node].machine.is_some() {
                    self.crash(node);
                    self.start(node);
                }
            }
            self.check_all();
            return;
        }
        let node = self.rng.index(self.nodes.len());
        if self.nodes[node].fault.is_some() || self.nodes[node].departed {
            return;
        }
        if self.rng.percent(15) && self.nodes[node].machine.is_some() {
            self.reached.crashes += 1;
            self.crash(node);
            self.start(node);
            self.check_all();
            return;
        }
        self.check_all();
        if self.violation.is_some() || !self.may_strike(node) {
            return;
        }
        self.strike(node);
        self.check_all();
    }

    /// Whether this member may become faulty: no committee in force loses more than it allows.
    fn may_strike(&self, node: usize) -> bool {
        self.codings_in_force().iter().all(|coding| {
            let members = self.members_of(coding);
            let faulty = members.iter().filter(|index| **index == node || self.is_faulty(**index)).count();
            faulty <= coding.dishonest()
        })
    }

    fn strike(&mut self, node: usize) {
        let number = self.rng.next();
        self.nodes[node].fault = Some(number);
        let length = *self.rng.pick(&[1, 30, 300, 1500]);
        let end = self.rng.between(1, length) * SECOND;
        match self.rng.below(10) {
            0 => {
                self.reached.crashes += 1;
                self.crash(node);
            }
            1 | 2 => self.wipe(node),
            3 | 4 => self.roll_back(node),
            5 => {
                self.reached.lies += 1;
                let some = self.rng.below(100);
                let owner = &mut self.nodes[node];
                (owner.lying, owner.struck, owner.snapshot) = (true, true, None);
                let rng = &mut self.rng;
                let disk = match &mut self.nodes[node].machine {
                    Some(machine) => machine.ledger_mut(),
                    None => self.nodes[node].disk.as_mut().unwrap(),
                };
                for stored in disk.batches.values_mut() {
                    if rng.percent(some) {
                        stored.whole = stored.whole.map(|_| false);
                        stored.shards.iter_mut().for_each(|piece| piece.genuine = false);
                    }
                }
            }
            6 => self.nodes[node].withholding = true,
            7 => self.nodes[node].isolated = true,
            8 => {
                self.reached.jumps += 1;
                let by = *self.rng.pick(&[-20_000, -7200, -1800, 400, 1800, 3500, 7200, 40_000]);
                self.nodes[node].offset += by;
            }
            _ => self.rot(node),
        }
        self.at(end, Happening::EndFault { node, number });
    }

    /// What was stated and is gone is owed; what was signed and is gone is claimed no more.
    fn count_losses(&mut self, node: usize) {
        self.nodes[node].struck = true;
        let wall = self.wall();
        let disk = self.disk(node);
        let lacks = |hash: &DataHash, until: u64| {
            !disk.has_some(hash) || disk.promise(hash).is_none_or(|promise| promise < until)
        };
        let signed = &self.nodes[node].signed;
        let kept = signed.iter().filter(|(hash, _)| disk.has_some(hash));
        let kept = kept.map(|(hash, until)| (*hash, *until.min(&disk.promise(hash).unwrap_or(0)))).collect();
        let stated = &self.nodes[node].stated;
        let owed = stated.iter().filter(|((hash, coding, _), until)| {
            let there = disk.has_whole(hash) || disk.has_shard(hash, coding);
            **until > wall && (!there || lacks(hash, **until))
        });
        let owed: Vec<_> = owed.map(|(key, until)| (*key, *until)).collect();
        self.nodes[node].signed = kept;
        self.nodes[node].lost.extend(owed.iter().copied());
        self.nodes[node].owed.extend(owed);
    }

    fn wipe(&mut self, node: usize) {
        self.reached.wipes += 1;
        self.crash(node);
        self.nodes[node].disk = Some(Disk::default());
        self.nodes[node].lying = false;
        self.count_losses(node);
    }

    fn roll_back(&mut self, node: usize) {
        let Some(snapshot) = self.nodes[node].snapshot.clone() else { return };
        self.reached.roll_backs += 1;
        self.crash(node);
        let mut snapshot = snapshot;
        snapshot.crash(&mut self.rng);
        self.nodes[node].disk = Some(snapshot);
        self.count_losses(node);
        // It may count again what others said before they lost it.
        for other in &mut self.nodes {
            let lost = other.lost.clone();
            other.owed.extend(lost);
        }
    }

    /// One batch rots; the scrub finds it later.
    fn rot(&mut self, node: usize) {
        if self.hashes.is_empty() {
            return;
        }
        let hash = *self.rng.pick(&self.hashes);
        if let Some(stored) = self.disk_mut(node).batches.get_mut(&hash) {
            stored.whole = None;
            stored.shards.clear();
            self.count_losses(node);
            let delay = self.rng.between(1, 300) * SECOND;
            self.at(delay, Happening::Changed { node, hash });
        }
    }

    fn end_fault(&mut self, node: usize, number: u64) {
        if self.nodes[node].fault != Some(number) {
            return;
        }
        self.nodes[node].fault = None;
        if self.nodes[node].lying {
            // Whoever finds a liar among its machines sets it up anew.
            self.wipe(node);
        }
        let owner = &mut self.nodes[node];
        (owner.withholding, owner.isolated, owner.offset) =
            (false, false, owner.written_offset.clamp(-30, 30));
        owner.written_offset = owner.offset;
        self.start(node);
        self.check_all();
    }

    /// A committee of another order, with a member replaced, or with other numbers.
    fn change_committee(&mut self) {
        if self.codings.len() > 1 {
            return;
        }
        self.reached.changes += 1;
        let old = self.codings[0].clone();
        let mut members = old.members.clone();
        self.rng.shuffle(&mut members);
        let (mut h, mut k) = (old.honest_members, old.data_shards);
        let joins = self.rng.percent(60);
        if joins {
            let leaver = self.rng.index(members.len());
            members[leaver] = member_key(self.nodes.len());
        }
        if self.rng.percent(30) && k > 2 {
            k -= 1;
        } else if self.rng.percent(20) && usize::from(h) < members.len() {
            h += 1;
        }
        self.codings.push(coding(1, h, k, members));
        for node in 0..self.nodes.len() {
            let delay = self.rng.between(1, 400) * SECOND;
            self.at(delay, Happening::Upgrade { node });
        }
        if joins {
            let node = self.add_node();
            let life = self.nodes[node].life;
            self.at(SECOND, Happening::Tick { node, life });
        }
        self.check_all();
    }

    fn upgrade(&mut self, node: usize) {
        self.nodes[node].codings = self.codings.clone();
        if self.nodes[node].machine.is_some() {
            self.crash(node);
            self.start(node);
        }
    }

    /// The faults stop.
    fn heal(&mut self) {
        self.healed = true;
        for node in 0..self.nodes.len() {
            if let Some(number) = self.nodes[node].fault {
                self.end_fault(node, number);
            }
            self.upgrade(node);
        }
    }

    /// After their time, batches are deleted and nothing is remembered of them.
    fn check_forgotten(&mut self) {
        for node in 0..self.nodes.len() {
            for hash in self.hashes.clone() {
                // A liar may have stated it for ever: that it said so is remembered for as long as anything is.
                let form = self.form_at(node, &hash).map(|(form, _, _)| form);
                let known =
                    self.disk(node).promise(&hash).is_some() || form.is_some_and(|form| form != Form::Unheld);
                if known {
                    let text = self.describe(&hash);
                    self.fail(format!("member {node} never deletes {hash:?}: {text}"));
                    return;
                }
            }
        }
    }
}
