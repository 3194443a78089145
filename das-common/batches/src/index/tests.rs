//! The index against lists of batches that are kept in memory.

#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;

use das_chain::follow::ResetReason;
use das_chain::reader::{Block, BlockId};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::types::{Content, TimeBounds};

const CHAIN: u64 = 7;
const OPERATIONS: usize = 60;

/// A follower's position (see its documented form).
fn position(followed: &Followed, genesis: B256, tip: Option<BlockId>) -> Position {
    let blocks: Vec<(u64, [u8; 32])> = tip.iter().map(|tip| (tip.number, tip.hash.0)).collect();
    let record = (followed.chain_id, genesis.0, followed.start, blocks);
    let mut bytes = vec![1];
    bincode::encode_into_std_write(record, &mut bytes, bincode::config::standard()).unwrap();
    Position::from_bytes(&bytes).unwrap()
}

struct Oracle {
    rng: StdRng,
    followed: Followed,
    eras: Vec<Vec<PostedBatch>>,
    /// Whether the last era is in force, and how far it was read.
    following: Option<(B256, Option<BlockId>)>,
}

impl Oracle {
    fn hash(&mut self) -> B256 {
        B256::from(self.rng.random::<[u8; 32]>())
    }

    /// One of few hashes.
    fn common_hash(&mut self) -> B256 {
        B256::repeat_byte(self.rng.random_range(0..5))
    }

    fn content(&mut self) -> Content {
        let hash = self.common_hash();
        match self.rng.random_range(0..10) {
            0 => Content::Nothing,
            1 => Content::Data { header: Some(0), length: 10 },
            2 => Content::Unreadable("drawn".into()),
            // Too short to have a data hash.
            3 => Content::Certificate(vec![0x88; 64]),
            _ => Content::Certificate([&[0x88; 33][..], hash.as_slice(), &[1; 50]].concat()),
        }
    }

    fn batch(&mut self, number: u64, block: BlockId, before_acc: B256) -> PostedBatch {
        let content = self.content();
        PostedBatch {
            era: 0,
            number,
            block,
            timestamp: self.rng.random_range(0..100),
            transaction: self.common_hash(),
            log_index: number,
            bounds: TimeBounds { min_timestamp: 1, max_timestamp: 2, min_block: 3, max_block: 4 },
            after_delayed: 5,
            before_acc,
            after_acc: self.hash(),
            payload: match &content {
                Content::Certificate(_) => Payload::Waiting { attempts: 0, retry_at: 0, why: None },
                _ => Payload::None,
            },
            content,
        }
    }

    /// New blocks with batches; now and then the contract counts again from a number that it had.
    fn advance(&mut self) -> (Step, Vec<PostedBatch>) {
        let (genesis, tip) = self.following.unwrap_or_else(|| (self.hash(), None));
        if self.following.is_none() {
            self.eras.push(Vec::new());
        }
        let era = self.eras.len() as u32 - 1;
        let (from, mut batches) = (tip.map_or(0, |tip| tip.number + 1), Vec::new());
        let last = self.eras.last().unwrap().last().cloned();
        let mut next = last.as_ref().map_or(self.rng.random_range(0..3), |last| last.number + 1);
        let mut accumulator = last.map_or(B256::ZERO, |last| last.after_acc);
        let (mut through, blocks) = (from, self.rng.random_range(1..6));
        let mut hash = B256::ZERO;
        for block in from..from + blocks {
            (through, hash) = (block, self.hash());
            for _ in 0..self.rng.random_range(0..4) {
                if self.rng.random_ratio(1, 25) {
                    next = next.saturating_sub(self.rng.random_range(1..5));
                }
                let batch = self.batch(next, BlockId { number: block, hash }, accumulator);
                (next, accumulator) = (next + 1, batch.after_acc);
                let known = self.eras.last_mut().unwrap();
                known.retain(|known| known.number < batch.number);
                known.push(PostedBatch { era, ..batch.clone() });
                batches.push(batch);
            }
        }
        let tip = BlockId { number: through, hash };
        self.following = Some((genesis, Some(tip)));
        let to = Block { number: through, hash, parent: B256::ZERO, timestamp: 0 };
        let position = position(&self.followed, genesis, Some(tip));
        (Step::Advanced { from, to, logs: Vec::new(), position }, batches)
    }

    fn roll_back(&mut self) -> Option<Step> {
        let (genesis, Some(from)) = self.following? else { return None };
        let to = from.number.checked_sub(self.rng.random_range(1..12));
        let to = to.map(|number| BlockId { number, hash: self.hash() });
        let known = self.eras.last_mut().unwrap();
        known.retain(|batch| to.is_some_and(|to| batch.block.number <= to.number));
        self.following = Some((genesis, to));
        Some(Step::RolledBack { to, from, position: position(&self.followed, genesis, to) })
    }

    fn reset(&mut self) -> Step {
        self.following = None;
        let genesis = self.hash();
        let position = position(&self.followed, genesis, None);
        Step::Reset { why: ResetReason::FarBelow { head: 0, seen: 0 }, position }
    }

    /// Sets some payload, of the right batch or not.
    fn set_payload(&mut self, index: &Index) {
        if self.eras.is_empty() {
            return;
        }
        let era = self.rng.random_range(0..self.eras.len());
        let number = self.rng.random_range(0..20.max(self.eras[era].len() as u64));
        let payload = match self.rng.random_range(0..4) {
            0 => Payload::Fetched { length: 3 },
            1 => Payload::Ignored { why: "drawn".into() },
            attempts => Payload::Waiting {
                attempts: attempts - 2,
                retry_at: self.rng.random_range(0..50),
                why: Some("drawn".into()),
            },
        };
        let other = self.hash();
        let is_other = self.rng.random_ratio(1, 5);
        let batch = self.eras[era].iter_mut().find(|batch| batch.number == number);
        let hash = batch.as_ref().map_or(other, |batch| if is_other { other } else { batch.block.hash });
        let is_there = batch.is_some() && !is_other;
        assert_eq!(index.set_payload(era as u32, number, hash, &payload).unwrap(), is_there);
        if let (Some(batch), true) = (batch, is_there) {
            batch.payload = payload;
        }
    }

    /// Every answer of the index is that of the lists.
    fn compare(&mut self, index: &Index) {
        let eras = index.eras().unwrap();
        assert_eq!(eras.len(), self.eras.len());
        assert!(eras.iter().rev().enumerate().all(|(id, era)| era.id as usize == id));
        let past = self.eras.len() - usize::from(self.following.is_some());
        assert_eq!(eras.iter().filter(|era| era.ended.is_some()).count(), past);
        for (era, known) in self.eras.iter().enumerate() {
            let id = era as u32;
            let below = self.rng.random_range(0..30);
            let newest = |below: u64, limit: usize| {
                known
                    .iter()
                    .rev()
                    .filter(|batch| batch.number < below)
                    .take(limit)
                    .cloned()
                    .collect::<Vec<_>>()
            };
            assert_eq!(index.below(id, None, 1000).unwrap(), newest(u64::MAX, 1000));
            assert_eq!(index.below(id, Some(below), 3).unwrap(), newest(below, 3));
            let found = known.iter().find(|batch| batch.number == below);
            assert_eq!(index.batch(id, below).unwrap().as_ref(), found);
            for time in (0..=100).step_by(4) {
                let first = known.iter().find(|batch| batch.timestamp >= time).map(|batch| batch.number);
                assert_eq!(index.first_since(id, time).unwrap(), first, "since {time}");
            }
        }
        let hash = self.common_hash();
        let limit = self.rng.random_range(1..40);
        let all = || self.eras.iter().flatten().rev();
        let place = |batch: &PostedBatch| (batch.era, batch.number);
        let of = all().filter(|batch| batch.transaction == hash).map(place).take(limit);
        assert_eq!(index.of_transaction(&hash, limit).unwrap(), of.collect::<Vec<_>>());
        let with = all().filter(
            |batch| matches!(&batch.content, Content::Certificate(bytes) if bytes.get(33..65) == Some(hash.as_slice())),
        );
        let with: Vec<_> = with.map(place).take(limit).collect();
        assert_eq!(index.with_data_hash(&DataHash::from_bytes(hash.0), limit).unwrap(), with);

        let mut due = BTreeMap::new();
        let mut failing = 0;
        let now = if self.following.is_some() { self.eras.last().unwrap().as_slice() } else { &[] };
        for batch in now {
            if let Payload::Waiting { attempts, retry_at, .. } = batch.payload {
                due.insert((retry_at, batch.number), batch.clone());
                failing += u64::from(attempts > 0);
            }
        }
        let progress = index.progress();
        assert_eq!(progress.era, self.following.map(|_| self.eras.len() as u32 - 1));
        assert_eq!(progress.at, self.following.and_then(|(_, tip)| tip));
        let counts = (progress.batches, progress.waiting, progress.failing);
        assert_eq!(counts, (now.len() as u64, due.len() as u64, failing));
        let time = self.rng.random_range(0..60);
        let due: Vec<_> =
            due.into_iter().filter(|((at, _), _)| *at <= time).map(|(_, batch)| batch).take(limit).collect();
        assert_eq!(index.due(time, limit).unwrap(), due);
        let expected = self.following.map(|(genesis, tip)| position(&self.followed, genesis, tip));
        assert_eq!(index.position().unwrap(), expected);
    }
}

fn run(seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let followed = Followed { chain_id: CHAIN, inbox: Address::ZERO, start: 0 };
    let mut oracle = Oracle { rng: StdRng::seed_from_u64(seed), followed, eras: Vec::new(), following: None };
    let mut index = Index::open(folder.path(), followed).unwrap();
    for _ in 0..OPERATIONS {
        match oracle.rng.random_range(0..100) {
            0..45 => {
                let (step, batches) = oracle.advance();
                let applied = index.apply(&step, &batches).unwrap();
                assert!(applied.added <= batches.len() as u64);
            }
            45..60 => {
                if let Some(step) = oracle.roll_back() {
                    index.apply(&step, &[]).unwrap();
                }
            }
            60..64 => {
                let step = oracle.reset();
                index.apply(&step, &[]).unwrap();
            }
            64..70 => {
                drop(index);
                index = Index::open(folder.path(), followed_by(&mut oracle)).unwrap();
            }
            _ => (0..5).for_each(|_| oracle.set_payload(&index)),
        }
        oracle.compare(&index);
    }
}

/// Seldom another contract.
fn followed_by(oracle: &mut Oracle) -> Followed {
    if oracle.rng.random_ratio(1, 5) {
        oracle.followed.inbox = Address::left_padding_from(&oracle.rng.random::<[u8; 4]>());
        oracle.following = None;
    }
    oracle.followed
}

#[test]
fn it_answers_what_lists_of_batches_would_through_reorganizations_resets_and_restarts() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (first, count) = match number("DAS_SEED") {
        Some(seed) => (seed, 1),
        None => (rand::rng().random(), if number("DAS_LONG").is_some() { 2_000 } else { 30 }),
    };
    println!("{count} indexes from seed {first}");
    for seed in (0..count).map(|i| first.wrapping_add(i)) {
        if std::panic::catch_unwind(|| run(seed)).is_err() {
            panic!("DAS_SEED={seed} shows it again");
        }
    }
}

#[test]
fn a_folder_has_one_owner_and_damage_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let followed = Followed { chain_id: CHAIN, inbox: Address::ZERO, start: 0 };
    let index = Index::open(folder.path(), followed).unwrap();
    let locked = Index::open(folder.path(), followed).unwrap_err();
    assert!(
        matches!(&locked, OpenError::Locked { folder: named } if *named == folder.path().display().to_string())
    );
    assert_eq!(locked.fault(), fault::DB_LOCKED);

    let mut oracle = Oracle { rng: StdRng::seed_from_u64(1), followed, eras: Vec::new(), following: None };
    let (step, batches) = std::iter::repeat_with(|| oracle.advance()).find(|(_, b)| !b.is_empty()).unwrap();
    index.apply(&step, &batches).unwrap();
    let newest = index.below(0, None, 1).unwrap()[0].number;
    let key = era_key(0, newest);
    let record = index.db.get_cf(index.family(BATCHES), key).unwrap().unwrap();
    for damaged in [&record[..record.len() - 1], &[9, 0], &[]] {
        index.db.put_cf(index.family(BATCHES), key, damaged).unwrap();
        assert!(matches!(index.batch(0, newest), Err(IndexError::Damaged { .. })));
        assert!(matches!(index.below(0, None, 1), Err(IndexError::Damaged { .. })));
    }
    index.db.put_cf(index.family(STATE), POSITION, [9]).unwrap();
    drop(index);
    let error = Index::open(folder.path(), followed).unwrap_err();
    assert!(matches!(error, OpenError::Index(IndexError::Damaged { .. })), "{error}");
}
