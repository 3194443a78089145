//! The members, the network between them, and what their machines want done.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;
use std::time::Duration;

use das_common::committee::CodingId;
use das_common::custody::evidence::Evidence;
use das_common::custody::machine::{Config, Effect, Event, Form, Machine, Mutant, Now};
use das_common::custody::{
    Coding, Hello, MemberKey, SignLists, SignedList, StatementList, StorageId, VerifiedList,
};
use das_common::data_hash::DataHash;
use das_common::erasure::Root;

use crate::disk::Disk;
use crate::rng::Rng;

/// Virtual time begins here; milliseconds since then are the world's clock.
pub(crate) const EPOCH: u64 = 1_700_000_000;
pub(crate) const SECOND: u64 = 1000;
/// Of every batch.
pub(crate) const LENGTH: u64 = 100;

/// What reaches a member.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Store { hash: DataHash, until: u64 },
    Certified { hash: DataHash, until: u64 },
    List(VerifiedList),
    Hello(Hello),
    HelloAnswer(Hello),
    AskLists { storage_id: StorageId, from: u64 },
    Lists { storage_id: StorageId, from: u64, lists: Vec<(MemberKey, VerifiedList)>, next: u64 },
}

/// What was stated, under which coding and storage id.
pub(crate) type Stated = (DataHash, CodingId, StorageId);

/// What happens at a moment.
#[derive(Clone, Debug)]
pub(crate) enum Happening {
    Tick { node: usize, life: u64 },
    Message { from: usize, to: usize, life: u64, message: Message },
    Done { node: usize, life: u64, effect: Effect },
    Changed { node: usize, hash: DataHash },
    Client,
    Fault,
    EndFault { node: usize, number: u64 },
    Committee,
    Upgrade { node: usize },
    Heal,
    Snapshot { node: usize },
}

/// A member as the world sees it.
pub(crate) struct Node {
    pub(crate) key: MemberKey,
    pub(crate) machine: Option<Machine<Disk>>,
    /// While it is down.
    pub(crate) disk: Option<Disk>,
    /// Rises at every start; what was on its way to an earlier life is lost.
    pub(crate) life: u64,
    pub(crate) codings: Vec<Coding>,
    pub(crate) lying: bool,
    pub(crate) withholding: bool,
    pub(crate) isolated: bool,
    pub(crate) departed: bool,
    /// Whether a fault ever took anything from it, or made it lie.
    pub(crate) struck: bool,
    /// Seconds that its clock is ahead.
    pub(crate) offset: i64,
    pub(crate) written_offset: i64,
    /// The fault that it suffers now, to be ended by the event of that number.
    pub(crate) fault: Option<u64>,
    pub(crate) snapshot: Option<Disk>,
    /// Timeouts that it signed for, as far as no fault took the batch.
    pub(crate) signed: BTreeMap<DataHash, u64>,
    /// What it stated.
    pub(crate) stated: BTreeMap<Stated, u64>,
    /// What it stated and lost to a fault.
    pub(crate) lost: BTreeMap<Stated, u64>,
    /// That of it on which others may rely still.
    pub(crate) owed: BTreeMap<Stated, u64>,
}

/// What a schedule went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reached {
    pub(crate) drops: u64,
    pub(crate) extensions: u64,
    pub(crate) wipes: u64,
    pub(crate) roll_backs: u64,
    pub(crate) changes: u64,
    pub(crate) lies: u64,
    pub(crate) gathers: u64,
    pub(crate) expired: u64,
    pub(crate) crashes: u64,
    pub(crate) jumps: u64,
    pub(crate) steps: u64,
    pub(crate) over_budget: u64,
}

/// What a schedule is made of.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) n: usize,
    pub(crate) h: u8,
    pub(crate) k: u8,
    pub(crate) loss: u64,
    pub(crate) duplicates: u64,
    pub(crate) batches: usize,
    pub(crate) hot: u64,
    pub(crate) for_ever: bool,
    pub(crate) change: bool,
    pub(crate) long: bool,
    pub(crate) faults_every: u64,
    pub(crate) slow_disks: bool,
}

pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) plan: Plan,
    pub(crate) mutant: Option<Mutant>,
    /// Milliseconds.
    pub(crate) now: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    happenings: BTreeMap<u64, Happening>,
    number: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) codings: Vec<Coding>,
    pub(crate) hashes: Vec<DataHash>,
    pub(crate) certified: BTreeSet<DataHash>,
    pub(crate) healed: bool,
    pub(crate) reached: Reached,
    pub(crate) violation: Option<String>,
    pub(crate) trace: bool,
}

pub(crate) struct NoSignature;

impl SignLists for NoSignature {
    fn sign(&self, list: StatementList) -> VerifiedList {
        list.sign_with(|_| [0; 64])
    }

    fn is_own(&self, signed: &SignedList) -> bool {
        signed.signature == [0; 64]
    }
}

pub(crate) fn root_of(hash: &DataHash, coding: &Coding) -> Root {
    let mut bytes = *hash.as_bytes();
    bytes[0] ^= coding.data_shards;
    bytes[1] ^= u8::try_from(coding.members.len()).unwrap();
    Root::from_bytes(bytes)
}

impl Plan {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let (n, h, k) = match rng.below(10) {
            0..=5 => (6, 4, 3),
            6 => (5, 4, 3),
            7 => (4, 3, 2),
            8 => (7, 5, 2),
            _ => (5, 3, 2),
        };
        let hot = if rng.percent(50) { 0 } else { rng.between(1, 300) };
        Self {
            n,
            h,
            k,
            loss: *rng.pick(&[0, 2, 10, 30]),
            duplicates: *rng.pick(&[0, 5, 20]),
            batches: usize::try_from(rng.between(1, 5)).unwrap(),
            hot,
            for_ever: rng.percent(8),
            change: rng.percent(25),
            long: rng.percent(4),
            faults_every: *rng.pick(&[60, 150, 400]),
            slow_disks: rng.percent(30),
        }
    }
}

impl World {
    pub(crate) fn new(seed: u64, mutant: Option<Mutant>) -> Self {
        let mut rng = Rng::new(seed);
        let plan = Plan::draw(&mut rng);
        let members: Vec<MemberKey> = (0..plan.n).map(member_key).collect();
        let coding = coding(0, plan.h, plan.k, members);
        let mut world = Self {
            rng,
            plan,
            mutant,
            now: 0,
            queue: BinaryHeap::new(),
            happenings: BTreeMap::new(),
            number: 0,
            nodes: Vec::new(),
            codings: vec![coding],
            hashes: Vec::new(),
            certified: BTreeSet::new(),
            healed: false,
            reached: Reached::default(),
            violation: None,
            trace: false,
        };
        for _ in 0..world.plan.n {
            world.add_node();
        }
        world
    }

    pub(crate) fn add_node(&mut self) -> usize {
        let index = self.nodes.len();
        self.nodes.push(Node {
            key: member_key(index),
            machine: None,
            disk: Some(Disk::default()),
            life: 0,
            codings: self.codings.clone(),
            lying: false,
            withholding: false,
            isolated: false,
            departed: false,
            struck: false,
            offset: 0,
            written_offset: 0,
            fault: None,
            snapshot: None,
            signed: BTreeMap::new(),
            stated: BTreeMap::new(),
            lost: BTreeMap::new(),
            owed: BTreeMap::new(),
        });
        self.nodes[index].offset = i64::try_from(self.rng.below(60)).unwrap() - 30;
        self.nodes[index].written_offset = self.nodes[index].offset;
        self.start(index);
        index
    }

    pub(crate) fn at(&mut self, delay: u64, happening: Happening) {
        self.number += 1;
        self.queue.push(Reverse((self.now + delay, self.number)));
        self.happenings.insert(self.number, happening);
    }

    pub(crate) fn next(&mut self) -> Option<Happening> {
        let Reverse((time, number)) = self.queue.pop()?;
        self.now = time;
        self.reached.steps += 1;
        self.happenings.remove(&number)
    }

    pub(crate) fn next_time(&self) -> Option<u64> {
        self.queue.peek().map(|Reverse((time, _))| *time)
    }

    /// The true time, unix seconds.
    pub(crate) fn wall(&self) -> u64 {
        EPOCH + self.now / SECOND
    }

    pub(crate) fn now_at(&self, node: usize) -> Now {
        let node = &self.nodes[node];
        Now {
            wall: self.wall().saturating_add_signed(node.offset),
            steady: Duration::from_millis(self.now),
            trusted: (node.offset - node.written_offset).abs() <= 3600,
        }
    }

    pub(crate) fn disk(&self, node: usize) -> &Disk {
        let node = &self.nodes[node];
        node.machine.as_ref().map_or_else(|| node.disk.as_ref().unwrap(), Machine::ledger)
    }

    pub(crate) fn disk_mut(&mut self, node: usize) -> &mut Disk {
        let node = &mut self.nodes[node];
        match &mut node.machine {
            Some(machine) => machine.ledger_mut(),
            None => node.disk.as_mut().unwrap(),
        }
    }

    pub(crate) fn start(&mut self, index: usize) {
        if self.nodes[index].machine.is_some() || self.nodes[index].departed {
            return;
        }
        let seconds = Duration::from_secs;
        let mut config = Config::new(self.nodes[index].key, self.nodes[index].codings.clone());
        config.hot_retention = seconds(self.plan.hot);
        config.demotion_patience = seconds(400);
        config.silence_limit = seconds(900);
        config.keep_for_ever = self.plan.for_ever;
        config.hello_interval = seconds(240);
        config.list_delay = seconds(2);
        config.retry_delay = seconds(30);
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.rng.next().to_le_bytes());
        let now = self.now_at(index);
        let node = &mut self.nodes[index];
        let disk = node.disk.take().unwrap();
        let signer = Arc::new(NoSignature);
        let machine = Machine::start_mutant(disk, config, signer, seed, now, self.mutant).unwrap();
        node.machine = Some(machine);
        node.life += 1;
        let life = node.life;
        let jitter = self.rng.below(SECOND);
        self.at(jitter, Happening::Tick { node: index, life });
    }

    /// A power cut.
    pub(crate) fn crash(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        if let Some(machine) = node.machine.take() {
            let mut disk = machine.into_ledger();
            disk.crash(&mut self.rng);
            node.disk = Some(disk);
            node.life += 1;
        }
    }

    /// Tells a machine what happened, and does what it wants then.
    pub(crate) fn tell(&mut self, index: usize, event: Event) {
        let now = self.now_at(index);
        if self.trace {
            eprintln!("{:>9} node {index} <- {event:?}", self.now);
        }
        let Some(machine) = &mut self.nodes[index].machine else { return };
        machine.handle(event, now).unwrap();
        self.drain(index);
    }

    pub(crate) fn drain(&mut self, index: usize) {
        let now = self.now_at(index);
        for _ in 0..10_000 {
            let Some(machine) = &mut self.nodes[index].machine else { return };
            let Some(effect) = machine.poll(now).unwrap() else { return };
            if self.trace {
                eprintln!("{:>9} node {index} -> {effect:?}", self.now);
            }
            self.carry_out(index, effect);
        }
        self.fail(format!("node {index} never stops working"));
    }

    fn carry_out(&mut self, index: usize, effect: Effect) {
        match effect {
            Effect::Publish(list) => self.publish(index, &list),
            Effect::Hello { member, hello } => {
                let mut hello = hello;
                self.lie_about(index, &mut hello);
                self.send_to(index, &member, Message::Hello(hello));
            }
            Effect::AskLists { member, storage_id, from } => {
                self.send_to(index, &member, Message::AskLists { storage_id, from });
            }
            Effect::Evidence { member, evidence } => {
                let accused = self.nodes.iter().position(|node| node.key == member).unwrap();
                let rolled = matches!(evidence, Evidence::SameCounter { .. });
                if self.mutant.is_none() && !self.nodes[accused].struck && !self.nodes[index].lying {
                    self.fail(format!(
                        "{accused} was accused by {index} and did nothing wrong (counter: {rolled})"
                    ));
                }
            }
            Effect::Alarm { .. } => {}
            Effect::Encode { .. }
            | Effect::SyncShards
            | Effect::Drop { .. }
            | Effect::MakeWhole { .. }
            | Effect::Keep { .. }
            | Effect::Expire { .. } => {
                let slow = if self.plan.slow_disks { 60 * SECOND } else { 2 * SECOND };
                let delay = self.rng.between(1, slow);
                let life = self.nodes[index].life;
                self.at(delay, Happening::Done { node: index, life, effect });
            }
        }
    }

    fn publish(&mut self, index: usize, list: &VerifiedList) {
        let content = list.list();
        for entry in &content.entries {
            let what = (entry.hash, content.coding, content.storage_id);
            let until = self.nodes[index].stated.entry(what).or_default();
            *until = (*until).max(entry.until);
        }
        for to in 0..self.nodes.len() {
            let mut list = list.clone();
            if self.nodes[index].lying && self.rng.percent(30) {
                list = self.another_list(&list);
            }
            if to != index {
                self.send(index, to, Message::List(list));
            }
        }
    }

    /// A liar tells different members different things.
    fn another_list(&mut self, list: &VerifiedList) -> VerifiedList {
        let mut content = list.list().clone();
        for entry in &mut content.entries {
            match self.rng.below(4) {
                0 => entry.until = u64::MAX,
                1 => entry.root = Root::from_bytes([9; 32]),
                2 => entry.hash = *self.rng.pick(&self.hashes),
                _ => entry.length ^= 1,
            }
        }
        content.sign_with(|_| [1; 64])
    }

    pub(crate) fn lie_about(&mut self, index: usize, hello: &mut Hello) {
        if !self.nodes[index].lying {
            return;
        }
        if self.rng.percent(50) {
            hello.wall =
                hello.wall.saturating_add_signed(20_000 - i64::try_from(self.rng.below(40_000)).unwrap());
        }
        if self.rng.percent(30)
            && let Some(known) = &mut hello.yours
        {
            known.position.counter += self.rng.below(3);
            if self.rng.percent(20) {
                known.position.storage_id = StorageId([8; 16]);
                known.birth =
                    StatementList::birth(StorageId([8; 16]), 1).sign_with(|_| [1; 64]).signed().clone();
            }
            known.refused = self.rng.percent(50);
        }
    }

    fn send_to(&mut self, from: usize, member: &MemberKey, message: Message) {
        if let Some(to) = self.nodes.iter().position(|node| node.key == *member) {
            self.send(from, to, message);
        }
    }

    /// A message on its way: lost, late, twice, in any order.
    pub(crate) fn send(&mut self, from: usize, to: usize, message: Message) {
        if self.nodes[from].isolated || self.nodes[to].isolated {
            return;
        }
        let loss = if self.healed { 0 } else { self.plan.loss };
        let copies = 1 + u64::from(self.rng.percent(self.plan.duplicates));
        for _ in 0..copies {
            if self.rng.percent(loss) {
                continue;
            }
            let delay = match self.rng.below(20) {
                0 => self.rng.between(1, 120 * SECOND),
                1..4 => self.rng.between(1, 10 * SECOND),
                _ => self.rng.between(1, SECOND),
            };
            let life = self.nodes[to].life;
            self.at(delay, Happening::Message { from, to, life, message: message.clone() });
        }
    }

    pub(crate) fn deliver(&mut self, from: usize, to: usize, message: Message) {
        let now = self.now_at(to);
        let sender = self.nodes[from].key;
        match message {
            Message::Store { hash, until } => self.store(to, &hash, until),
            Message::Certified { hash, until } => self.tell(to, Event::Certified { hash, until }),
            Message::List(list) => self.tell(to, Event::List { member: sender, list }),
            Message::Hello(hello) => {
                let Some(machine) = &mut self.nodes[to].machine else { return };
                let answer = machine.answer_hello(&sender, &hello, now).unwrap();
                self.drain(to);
                if let Some(mut answer) = answer {
                    self.lie_about(to, &mut answer);
                    self.send(to, from, Message::HelloAnswer(answer));
                }
            }
            Message::HelloAnswer(hello) => {
                self.tell(to, Event::HelloAnswered { member: sender, hello });
            }
            Message::AskLists { storage_id, from: first } => {
                let Some(machine) = &self.nodes[to].machine else { return };
                let (lists, next) = machine.lists(&storage_id, first).unwrap();
                let mut signed = Vec::new();
                for list in lists {
                    let list = list.trust_own_disk().unwrap();
                    let signer = self.signer_of(list.list());
                    signed.extend(signer.map(|signer| (signer, list)));
                }
                self.send(to, from, Message::Lists { storage_id, from: first, lists: signed, next });
            }
            Message::Lists { storage_id, from, lists, next } => {
                self.tell(to, Event::ListsAnswered { member: sender, storage_id, from, lists, next });
            }
        }
    }

    /// Whose key verifies a list.
    fn signer_of(&self, list: &StatementList) -> Option<MemberKey> {
        let coding = self.codings.iter().find(|coding| coding.id == list.coding)?;
        coding.members.get(usize::from(list.member)).copied()
    }

    /// A store request reaches a member: written first, then signed.
    fn store(&mut self, index: usize, hash: &DataHash, until: u64) {
        if self.nodes[index].machine.is_none() {
            return;
        }
        let genuine = !self.nodes[index].lying || self.rng.percent(30);
        let promised = self.disk(index).promise(hash);
        let has = self.disk(index).has_some(hash) || self.nodes[index].lying;
        if promised.is_none_or(|promised| promised < until) || !has {
            self.disk_mut(index).put(hash, until, genuine, true);
        }
        if promised.is_some_and(|promised| promised < until) {
            self.reached.extensions += 1;
        }
        if !self.nodes[index].lying {
            let signed = self.nodes[index].signed.entry(*hash).or_default();
            *signed = (*signed).max(until);
        }
        self.tell(index, Event::Arrived);
        self.check_one(hash);
        self.perhaps_certify(hash, until);
    }

    fn perhaps_certify(&mut self, hash: &DataHash, until: u64) {
        let coding = self.codings.last().unwrap().clone();
        let signers = self.nodes.iter().filter(|node| {
            coding.index_of(&node.key).is_some() && node.signed.get(hash).is_some_and(|to| *to >= until)
        });
        if signers.count() < coding.threshold() || !self.rng.percent(40) {
            return;
        }
        self.certified.insert(*hash);
        for to in 0..self.nodes.len() {
            if self.rng.percent(60) {
                let life = self.nodes[to].life;
                let delay = self.rng.between(1, 60 * SECOND);
                let message = Message::Certified { hash: *hash, until };
                self.at(delay, Happening::Message { from: to, to, life, message });
            }
        }
    }

    /// An effect comes to its end.
    pub(crate) fn finish(&mut self, index: usize, effect: Effect) {
        match effect {
            Effect::Encode { hash, coding } => {
                let stored = self.disk(index).batches.get(&hash).and_then(|stored| stored.whole);
                let Some(genuine) = stored else { return self.tell(index, Event::Failed { hash }) };
                self.disk_mut(index).add_shard(&hash, coding, genuine);
                let of = self.codings.iter().find(|known| known.id == coding).unwrap();
                let mut root = root_of(&hash, of);
                if self.nodes[index].lying && self.rng.percent(20) {
                    root = Root::from_bytes([7; 32]);
                }
                self.tell(index, Event::Encoded { hash, coding, root, length: LENGTH });
            }
            Effect::SyncShards => {
                self.disk_mut(index).sync_shards();
                self.tell(index, Event::ShardsSynced);
            }
            Effect::Drop { hash, promise } => {
                let done = self.disk(index).promise(&hash) == Some(promise);
                if done {
                    self.disk_mut(index).batches.get_mut(&hash).unwrap().whole = None;
                    self.reached.drops += 1;
                }
                self.tell(index, Event::Dropped { hash, done });
                self.check_one(&hash);
            }
            Effect::MakeWhole { hash, until, .. } => {
                if !self.can_gather(index, &hash) {
                    return self.tell(index, Event::Failed { hash });
                }
                self.reached.gathers += 1;
                let genuine = !self.nodes[index].lying;
                self.disk_mut(index).put(&hash, until, genuine, true);
                self.tell(index, Event::Whole { hash });
            }
            Effect::Keep { hash, until } => {
                let there = self.disk(index).promise(&hash).is_some();
                if there {
                    self.disk_mut(index).put(&hash, until, true, false);
                }
                let event = if there { Event::Kept { hash } } else { Event::Failed { hash } };
                self.tell(index, event);
            }
            Effect::Expire { hash, promise } => {
                let known = self.disk(index).promise(&hash).unwrap_or(0);
                if known == promise {
                    self.disk_mut(index).batches.remove(&hash);
                    self.reached.expired += 1;
                }
                self.tell(index, Event::Expired { hash, done: known == promise });
                self.check_one(&hash);
            }
            _ => {}
        }
    }

    /// Whether a member can put a batch together from what the others serve.
    pub(crate) fn can_gather(&self, index: usize, hash: &DataHash) -> bool {
        let serves = |other: &usize| {
            let node = &self.nodes[*other];
            *other == index || (node.machine.is_some() && !node.withholding && !node.isolated)
        };
        if self.nodes[index].isolated {
            return false;
        }
        let serving: Vec<usize> = (0..self.nodes.len()).filter(serves).collect();
        serving.iter().any(|other| self.disk(*other).has_whole(hash))
            || self.codings.iter().any(|coding| {
                let has = |other: &&usize| self.disk(**other).has_shard(hash, &coding.id);
                serving.iter().filter(has).count() >= usize::from(coding.data_shards)
            })
    }

    pub(crate) fn form_at(&self, index: usize, hash: &DataHash) -> Option<(Form, Option<CodingId>, usize)> {
        let machine = self.nodes[index].machine.as_ref()?;
        let view = machine.batch(hash, self.now_at(index)).unwrap()?;
        Some((view.form, view.coding, view.count))
    }

    pub(crate) fn fail(&mut self, what: String) {
        if self.violation.is_none() {
            self.violation = Some(format!("at {} s: {what}; {:?}", self.now / SECOND, self.plan));
        }
    }
}

pub(crate) fn member_key(index: usize) -> MemberKey {
    let mut bytes = [0; 32];
    bytes[0] = u8::try_from(index + 1).unwrap();
    MemberKey::from_bytes(bytes)
}

pub(crate) fn coding(number: u8, honest_members: u8, data_shards: u8, members: Vec<MemberKey>) -> Coding {
    let mut id = [0; 32];
    id[0] = number;
    Coding { id: CodingId::from_bytes(id), honest_members, data_shards, members }
}
