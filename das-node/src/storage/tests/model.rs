//! Both forms against a map, whatever happens in whatever order.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::index::{KeyUse, state};
use super::*;

const BATCHES: u32 = 8;

/// Sizes around page boundaries and those of shards, and one larger than a segment.
fn length_of(number: u32) -> usize {
    [5, 0, 4000, 12_288, 65_537, 100_000, 300_000, 30_000][number as usize]
}

#[derive(Debug, Clone)]
enum Step {
    Put {
        number: u32,
        timeout: u64,
    },
    Extend {
        number: u32,
        timeout: u64,
    },
    PutShards {
        numbers: Vec<u32>,
        coding: u8,
        timeout: Option<u64>,
    },
    Drop {
        numbers: Vec<u32>,
        right: bool,
    },
    DeleteShard {
        number: u32,
        coding: u8,
    },
    Expire {
        until: u64,
    },
    Reopen,
    /// Started again with another key (0: none), the others being former ones.
    ChangeKey {
        to: u8,
    },
    /// Some of what is under another key is written anew.
    Rekey,
    /// All of it; then the former keys are forgotten, until the next change.
    RekeyAll,
    /// The power fails: of the index only what was synced is left.
    LoseIndexTail,
    /// The index is gone altogether.
    LoseIndex,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let number = || 0..BATCHES;
    let numbers = || prop::collection::vec(0..BATCHES, 1..6);
    let step = prop_oneof![
        8 => (number(), 0..100u64).prop_map(|(number, timeout)| Step::Put { number, timeout }),
        2 => (number(), 0..100u64).prop_map(|(number, timeout)| Step::Extend { number, timeout }),
        6 => (numbers(), 0..2u8, prop::option::weighted(0.3, 0..100u64))
            .prop_map(|(numbers, coding, timeout)| Step::PutShards { numbers, coding, timeout }),
        5 => (numbers(), prop::bool::weighted(0.9)).prop_map(|(numbers, right)| Step::Drop { numbers, right }),
        2 => (number(), 0..2u8).prop_map(|(number, coding)| Step::DeleteShard { number, coding }),
        1 => (0..60u64).prop_map(|until| Step::Expire { until }),
        1 => Just(Step::Reopen),
        2 => (0..3u8).prop_map(|to| Step::ChangeKey { to }),
        4 => Just(Step::Rekey),
        1 => Just(Step::RekeyAll),
        2 => Just(Step::LoseIndexTail),
        1 => Just(Step::LoseIndex),
    ];
    prop::collection::vec(step, 1..40)
}

fn shard(number: u32, coding: u8) -> NewShard {
    new_shard(&batch(number, length_of(number)), coding)
}

/// What the map says of a batch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Expected {
    whole: bool,
    shards: Vec<u8>,
    timeout: u64,
}

struct Model {
    runtime: Runtime,
    directory: TempDir,
    keys: Arc<Keyring>,
    cursor: Option<DataHash>,
    store: Option<Arc<BatchStore>>,
    map: BTreeMap<u32, Expected>,
    /// The index as it was when it was last synced: what a power cut leaves of it at worst.
    synced: TempDir,
}

impl Model {
    fn new(first: u8) -> Self {
        let (directory, keys) = (TempDir::new().unwrap(), keyring(first, true));
        let store = Some(open_with(&directory, &keys));
        let (runtime, map, synced) = (runtime(), BTreeMap::new(), TempDir::new().unwrap());
        let mut model = Self { runtime, directory, keys, cursor: None, store, map, synced };
        model.remember();
        model
    }

    fn active(&self) -> u8 {
        let active = self.keys.active_id();
        (0..3).find(|key| keyring(*key, true).active_id() == active).unwrap()
    }

    fn store(&self) -> &Arc<BatchStore> {
        self.store.as_ref().unwrap()
    }

    fn index(&self) -> PathBuf {
        self.directory.path().join("index")
    }

    fn remember(&mut self) {
        drop(self.store.take());
        std::fs::remove_dir_all(self.synced.path()).unwrap();
        copy_folder(&self.index(), self.synced.path());
        self.open();
    }

    fn open(&mut self) {
        self.store = Some(open_with(&self.directory, &self.keys));
    }

    fn run(&mut self, step: Step) {
        // Deletions are synced before the bytes go.
        let syncs = matches!(
            step,
            Step::Expire { .. }
                | Step::Drop { .. }
                | Step::DeleteShard { .. }
                | Step::Reopen
                | Step::ChangeKey { .. }
                | Step::RekeyAll
                | Step::LoseIndex
        );
        match step {
            Step::Put { number, timeout } => self.put(number, timeout),
            Step::Extend { number, timeout } => {
                let hash = batch(number, length_of(number)).hash();
                let latest = self.runtime.block_on(self.store().extend(hash, timeout, 1)).unwrap();
                let expected = self.map.get_mut(&number).map(|expected| {
                    expected.timeout = expected.timeout.max(timeout);
                    expected.timeout
                });
                assert_eq!(latest, expected);
            }
            Step::PutShards { numbers, coding, timeout } => self.put_shards(&numbers, coding, timeout),
            Step::Drop { numbers, right } => self.drop_whole(&numbers, right),
            Step::DeleteShard { number, coding } => {
                let hash = batch(number, length_of(number)).hash();
                let deleted = self.store().delete_shards(vec![(hash, coding_id(coding))]);
                let deleted = self.runtime.block_on(deleted).unwrap()[0];
                if let Some(expected) = self.map.get_mut(&number) {
                    let had = expected.shards.contains(&coding);
                    assert!(!deleted || had);
                    assert!(deleted || !had || !expected.whole, "nothing keeps a shard beside a whole copy");
                    if deleted {
                        expected.shards.retain(|other| *other != coding);
                        assert!(expected.whole || !expected.shards.is_empty(), "the last form was deleted");
                    }
                } else {
                    assert!(!deleted);
                }
            }
            Step::Expire { until } => {
                while !self.runtime.block_on(self.store().expire(until, 3)).unwrap().is_empty() {}
                self.map.retain(|_, expected| expected.timeout > until);
            }
            Step::Reopen => {}
            Step::ChangeKey { to } => self.keys = keyring(to, true),
            Step::Rekey => {
                let step = self.runtime.block_on(self.store().rekey_step(self.cursor, 1)).unwrap();
                assert_eq!(step.damaged, []);
                self.cursor = step.next;
            }
            Step::RekeyAll => {
                rekey_all(&self.runtime, self.store());
                self.keys = keyring(self.active(), false);
            }
            Step::LoseIndexTail => {
                drop(self.store.take());
                std::fs::remove_dir_all(self.index()).unwrap();
                copy_folder(self.synced.path(), &self.index());
                self.open();
            }
            Step::LoseIndex => {
                drop(self.store.take());
                std::fs::remove_dir_all(self.index()).unwrap();
                // Where holes cannot be punched, what was let go is found again, under whatever key.
                self.keys = keyring(self.active(), true);
                self.open();
                self.adopt();
            }
        }
        if syncs {
            self.remember();
        }
        self.check();
    }

    fn put(&mut self, number: u32, timeout: u64) {
        let batch = batch(number, length_of(number));
        let outcome = self.runtime.block_on(self.store().put(&batch, timeout, 1)).unwrap();
        let before = self.map.get(&number);
        assert_eq!(
            outcome,
            match before {
                None => PutOutcome::Written,
                Some(expected) if expected.whole => PutOutcome::Present,
                Some(_) => PutOutcome::MadeWhole,
            }
        );
        let expected = self.map.entry(number).or_default();
        expected.whole = true;
        expected.timeout = timeout.max(expected.timeout);
    }

    fn put_shards(&mut self, numbers: &[u32], coding: u8, timeout: Option<u64>) {
        let shards = numbers.iter().map(|number| NewShard { timeout, ..shard(*number, coding) }).collect();
        let stored = self.runtime.block_on(self.store().put_shards(shards)).unwrap();
        for (number, stored) in numbers.iter().zip(stored) {
            assert_eq!(stored, timeout.is_some() || self.map.contains_key(number));
            if stored {
                let expected = self.map.entry(*number).or_default();
                expected.timeout = expected.timeout.max(timeout.unwrap_or(0));
                if !expected.shards.contains(&coding) {
                    expected.shards.push(coding);
                    expected.shards.sort_unstable();
                }
            }
        }
    }

    fn drop_whole(&mut self, numbers: &[u32], right: bool) {
        let promise = |number: &u32| self.map.get(number).map_or(0, |e| e.timeout) + u64::from(!right);
        let asked = numbers.iter().map(|n| (batch(*n, length_of(*n)).hash(), promise(n))).collect();
        let outcomes = self.runtime.block_on(self.store().drop_whole(asked)).unwrap();
        for (number, outcome) in numbers.iter().zip(outcomes) {
            match self.map.get_mut(number) {
                None => assert_eq!(outcome, DropOutcome::Absent),
                Some(expected) if !expected.whole => assert_eq!(outcome, DropOutcome::NotWhole),
                Some(expected) if !right => {
                    assert_eq!(outcome, DropOutcome::Promised { timeout: expected.timeout });
                }
                Some(expected) if expected.shards.is_empty() => assert_eq!(outcome, DropOutcome::NoShard),
                Some(expected) => {
                    assert_eq!(outcome, DropOutcome::Dropped);
                    expected.whole = false;
                }
            }
        }
    }

    /// A lost index may bring back what was let go (kept longer, never shorter), but must find all else.
    fn adopt(&mut self) {
        let mut found = BTreeMap::new();
        for number in 0..BATCHES {
            let hash = batch(number, length_of(number)).hash();
            let Some(held) = self.store().held(&hash).unwrap() else { continue };
            let mut shards: Vec<u8> = held.shards.iter().map(|s| s.coding.as_bytes()[0]).collect();
            shards.sort_unstable();
            found.insert(number, Expected { whole: held.whole, shards, timeout: held.timeout });
        }
        for (number, expected) in &self.map {
            let found = found.get(number).unwrap_or_else(|| panic!("batch {number} is lost"));
            assert!(found.whole || !expected.whole, "the whole copy of {number} is lost");
            assert!(expected.shards.iter().all(|s| found.shards.contains(s)), "a shard of {number} is lost");
            assert!(found.timeout >= expected.timeout, "the promise of {number} is lost");
        }
        self.map = found;
    }

    fn check(&self) {
        let store = self.store();
        let mut usage = Usage::default();
        let mut whole = Vec::new();
        for number in 0..BATCHES {
            let wanted = batch(number, length_of(number));
            let hash = wanted.hash();
            let found = self.runtime.block_on(store.get(hash)).unwrap();
            let Some(expected) = self.map.get(&number) else {
                assert_eq!(found, Lookup::Absent, "batch {number}");
                assert_eq!(store.held(&hash).unwrap(), None);
                continue;
            };
            let length = wanted.bytes().len() as u64;
            if expected.whole {
                whole.push(hash);
                usage.whole_batches += 1;
                usage.whole_bytes += length;
                assert_eq!(found, Lookup::Found(wanted.clone()), "batch {number}");
            } else {
                usage.sharded_batches += 1;
                usage.payload_bytes_of_sharded += length;
                assert_eq!(found, Lookup::Sharded { hash }, "batch {number}");
            }
            let held = store.held(&hash).unwrap().unwrap();
            assert_eq!(held.whole, expected.whole);
            assert_eq!(held.timeout, expected.timeout, "batch {number}");
            assert_eq!(held.length, length);
            let codings: Vec<CodingId> = expected.shards.iter().map(|coding| coding_id(*coding)).collect();
            assert_eq!(held.shards.iter().map(|s| s.coding).collect::<Vec<_>>(), codings);
            for coding in &expected.shards {
                usage.shards += 1;
                let code = code();
                let found = store.read_shard(hash, coding_id(*coding), &code);
                let Lookup::Found(found) = self.runtime.block_on(found).unwrap() else {
                    panic!("shard {coding} of batch {number}");
                };
                assert_eq!(found.as_shard(), shard(number, *coding).shard.as_shard());
            }
        }
        whole.sort_unstable();
        let oldest: Vec<DataHash> = store.oldest_whole(2, 100).unwrap().iter().map(|(_, h)| *h).collect();
        assert_eq!(oldest, whole);
        let by_key = |mut uses: Vec<KeyUse>| {
            uses.sort_unstable_by_key(|key| key.key_id);
            uses
        };
        let counted: Vec<KeyUse> = store.index.state(state::KEYS).unwrap().unwrap_or_default();
        assert_eq!(by_key(counted), by_key(recount(store)));
        let counted = self.runtime.block_on(store.usage()).unwrap();
        let Usage { shard_bytes, segment_bytes, dead_bytes, index_bytes, .. } = counted;
        assert_eq!(counted, Usage { shard_bytes, segment_bytes, dead_bytes, index_bytes, ..usage });
    }
}

/// What is encrypted, counted over the whole index.
fn recount(store: &BatchStore) -> Vec<KeyUse> {
    let mut uses: Vec<KeyUse> = Vec::new();
    let mut add = |key_id, bytes| {
        if let Some(known) = uses.iter_mut().find(|known| known.key_id == key_id) {
            known.records += 1;
            known.bytes += bytes;
        } else if key_id != sealing::PLAIN {
            uses.push(KeyUse { key_id, records: 1, bytes });
        }
    };
    for (hash, record) in store.index.batches_from(&DataHash::from_bytes([0; 32]), 1000).unwrap() {
        if record.payload.is_some() {
            add(record.key_id, record.length);
        }
        for (_, shard) in store.index.shards(&hash).unwrap() {
            add(shard.key_id, shard.disk_bytes());
        }
    }
    uses
}

/// As many as `PROPTEST_CASES` says, or a few: each starts the store over and over.
fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(16)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    /// Batches are here in the forms that a map says, until the time it says; what was lost of the index is found again
    /// in the log.
    #[test]
    fn both_forms_agree_with_a_map(first in 0..3u8, steps in steps()) {
        let mut model = Model::new(first);
        for step in steps {
            model.run(step);
        }
    }
}
