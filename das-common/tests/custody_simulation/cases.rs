//! What the schedules do not look at: what is found out about others, and what is kept to prove it.

use std::sync::Arc;
use std::time::Duration;

use das_common::custody::evidence::Evidence;
use das_common::custody::machine::{Alarm, Config, Effect, Event, Machine, Now};
use das_common::custody::{
    Coding, Hello, MemberKey, Position, Statement, StatementList, StorageId, VerifiedList,
};
use das_common::data_hash::DataHash;
use das_common::erasure::Root;

use crate::disk::Disk;
use crate::world::{EPOCH, LENGTH, NoSignature, coding, member_key, root_of};

/// Member 0 of four.
struct Case {
    coding: Coding,
    machine: Machine<Disk>,
    seconds: u64,
}

impl Case {
    fn new() -> Self {
        let coding = coding(0, 3, 2, (0..4).map(member_key).collect());
        let mut config = Config::new(member_key(0), vec![coding.clone()]);
        config.hot_retention = Duration::ZERO;
        config.sync_delay = Duration::ZERO;
        let now = now(0);
        let machine = Machine::start(Disk::default(), config, Arc::new(NoSignature), [1; 32], now).unwrap();
        let mut case = Self { coding, machine, seconds: 0 };
        case.pass(0);
        case
    }

    /// Lets time pass, in which the peers are heard.
    fn pass(&mut self, seconds: u64) -> Vec<Effect> {
        self.seconds += seconds;
        let mut effects = self.tell(Event::Tick);
        let hellos: Vec<_> = effects
            .iter()
            .filter_map(|effect| match effect {
                Effect::Hello { member, hello } => Some((*member, hello.nonce)),
                _ => None,
            })
            .collect();
        for (member, nonce) in hellos {
            let hello = self.hello(member, nonce);
            effects.extend(self.tell(Event::HelloAnswered { member, hello }));
        }
        effects.extend(self.tell(Event::Tick));
        effects
    }

    fn hello(&self, member: MemberKey, nonce: u64) -> Hello {
        let storage_id = id_of(&member);
        let birth = StatementList::birth(storage_id, EPOCH).sign_with(|_| [2; 64]).signed().clone();
        let mine = Position { storage_id, counter: 0, digest: [0; 32] };
        Hello { nonce, wall: now(self.seconds).wall, codings: Vec::new(), mine, birth, yours: None }
    }

    fn tell(&mut self, event: Event) -> Vec<Effect> {
        let now = now(self.seconds);
        self.machine.handle(event, now).unwrap();
        std::iter::from_fn(|| self.machine.poll(now).unwrap()).collect()
    }

    /// The batch comes, and the own shard of it is made and synced.
    fn store(&mut self, hash: DataHash, until: u64) -> Vec<Effect> {
        self.machine.ledger_mut().put(&hash, until, true, true);
        let effects = self.tell(Event::Arrived);
        assert!(matches!(effects[..], [Effect::Encode { .. }]), "{effects:?}");
        let (root, id) = (root_of(&hash, &self.coding), self.coding.id);
        self.machine.ledger_mut().add_shard(&hash, id, true);
        self.tell(Event::Encoded { hash, coding: id, root, length: LENGTH });
        self.machine.ledger_mut().sync_shards();
        self.tell(Event::ShardsSynced)
    }

    /// Another member's list of one statement.
    fn list(&self, index: u8, previous: &[u8; 32], counter: u64, root: Root, until: u64) -> VerifiedList {
        self.list_about(HASH, index, previous, counter, root, until)
    }

    fn list_about(
        &self,
        hash: DataHash,
        index: u8,
        previous: &[u8; 32],
        counter: u64,
        root: Root,
        until: u64,
    ) -> VerifiedList {
        let list = StatementList {
            coding: self.coding.id,
            member: index,
            storage_id: id_of(&member_key(index.into())),
            counter,
            previous: *previous,
            issued_at: EPOCH,
            entries: vec![Statement { hash, length: LENGTH, root, until }],
        };
        list.sign_with(|_| [2; 64])
    }
}

const HASH: DataHash = DataHash::from_bytes([77; 32]);

fn now(seconds: u64) -> Now {
    Now { wall: EPOCH + seconds, steady: Duration::from_secs(seconds), trusted: true }
}

fn id_of(member: &MemberKey) -> StorageId {
    StorageId([member.as_bytes()[0]; 16])
}

#[test]
fn a_wrong_root_stated_before_the_own_shard_was_made_is_found_out() {
    let mut case = Case::new();
    let (liar, until) = (member_key(1), EPOCH + 9000);
    let list = case.list(1, &[0; 32], 1, Root::from_bytes([9; 32]), until);
    let effects = case.tell(Event::List { member: liar, list: list.clone() });
    assert!(
        !effects.iter().any(|effect| matches!(effect, Effect::Evidence { .. })),
        "nothing to compare with"
    );

    let effects = case.store(HASH, until);
    let proof = effects.iter().find_map(|effect| match effect {
        Effect::Evidence { member, evidence: Evidence::WrongRoot { list, .. } } => {
            Some((*member, list.clone()))
        }
        _ => None,
    });
    assert_eq!(proof, Some((liar, list.signed().clone())));
    let alarm =
        |effect: &Effect| matches!(effect, Effect::Alarm { alarm: Alarm::WrongRoot { .. }, raised: true });
    assert!(effects.iter().any(alarm));
}

#[test]
fn the_latest_list_outlives_its_statements() {
    let mut case = Case::new();
    let (member, root) = (member_key(1), root_of(&HASH, &case.coding));
    let first = case.list(1, &[0; 32], 1, root, EPOCH + 1000);
    let second = case.list(1, first.digest(), 2, root, EPOCH + 2000);
    for list in [&first, &second] {
        case.tell(Event::List { member, list: list.clone() });
    }
    let lists = |case: &Case| case.machine.lists(&id_of(&member), 1).unwrap().0;
    assert_eq!(lists(&case).len(), 2);
    for _ in 0..3 {
        case.pass(100_000);
        assert_eq!(lists(&case), [second.signed().clone()], "the member may have to be shown it");
    }
    let third = case.list(1, second.digest(), 3, root, now(case.seconds).wall + 1000);
    case.tell(Event::List { member, list: third.clone() });
    case.pass(200_000);
    case.pass(200_000);
    assert_eq!(lists(&case), [third.signed().clone()]);
}

/// n - H + 1 = 2 of four disagree about one batch: nothing is dropped, not even what everybody covers.
#[test]
fn whoever_is_the_suspect_drops_nothing() {
    const OTHER: DataHash = DataHash::from_bytes([78; 32]);
    let drops = |effects: &[Effect]| effects.iter().any(|effect| matches!(effect, Effect::Drop { .. }));
    let suspect = |effects: &[Effect]| {
        let raised =
            |effect: &Effect| matches!(effect, Effect::Alarm { alarm: Alarm::Suspect, raised: true });
        effects.iter().any(raised)
    };
    for liars in [1, 2] {
        let mut case = Case::new();
        let until = EPOCH + 9000;
        case.store(HASH, until);
        case.store(OTHER, until);
        let mut effects = case.pass(2);
        for index in 1..4 {
            let lies = index <= liars;
            let root = if lies { Root::from_bytes([9; 32]) } else { root_of(&HASH, &case.coding) };
            let first = case.list(index, &[0; 32], 1, root, until);
            let root = root_of(&OTHER, &case.coding);
            let second = case.list_about(OTHER, index, first.digest(), 2, root, until);
            for list in [first, second] {
                effects.extend(case.tell(Event::List { member: member_key(index.into()), list }));
            }
        }
        assert_eq!(
            (suspect(&effects), drops(&effects)),
            (liars == 2, liars == 1),
            "{liars} liars: {effects:?}"
        );

        let config = Config::new(member_key(0), vec![case.coding.clone()]);
        let (disk, now) = (case.machine.into_ledger(), now(case.seconds));
        let mut machine = Machine::start(disk, config, Arc::new(NoSignature), [2; 32], now).unwrap();
        let effects: Vec<_> = std::iter::from_fn(|| machine.poll(now).unwrap()).collect();
        assert_eq!(suspect(&effects), liars == 2, "after a new start");
    }
}
