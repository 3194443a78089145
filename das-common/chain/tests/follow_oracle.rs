//! The follower against a chain that is reorganized at random, between and in the middle of its steps: whoever applies
//! its steps in order has the logs of the chain, and of no other.

#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::time::Duration;

use alloy_primitives::{Address, B256, Bytes};
use das_chain::ChainError;
use das_chain::follow::{ChainSource, Follower, Position, Settings, Step};
use das_chain::reader::{Block, BlockId, Log, LogsRead};
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const START: u64 = 3;
const STEPS: usize = 300;

struct World {
    rng: StdRng,
    blocks: Vec<(B256, u64)>,
    restless: bool,
}

/// A chain whose blocks have up to three logs, made of their hash.
struct FakeChain(Mutex<World>);

impl World {
    fn new(seed: u64) -> Self {
        let mut world = Self { rng: StdRng::seed_from_u64(seed), blocks: Vec::new(), restless: true };
        world.extend(1);
        world
    }

    fn extend(&mut self, count: u64) {
        for _ in 0..count {
            let block = (B256::from(self.rng.random::<[u8; 32]>()), self.rng.random_range(0..4));
            self.blocks.push(block);
        }
    }

    fn happen(&mut self) {
        if !self.restless {
            return;
        }
        let length = self.blocks.len() as u64;
        match self.rng.random_range(0..100) {
            0..40 => {
                let count = self.rng.random_range(1..4);
                self.extend(count);
            }
            40..43 => {
                let count = self.rng.random_range(1..300);
                self.extend(count);
            }
            // A reorg, now and then a deep one; the chain may be shorter afterwards, never without its first block.
            43..58 => {
                let deepest = if self.rng.random_ratio(1, 10) { length } else { 12.min(length) };
                let depth = self.rng.random_range(0..deepest);
                self.blocks.truncate((length - depth) as usize);
                let more = self.rng.random_range(0..=depth + 2);
                self.extend(more);
            }
            58 => {
                self.blocks.clear();
                self.extend(1);
            }
            _ => {}
        }
    }

    fn block(&self, number: u64) -> Option<Block> {
        let (hash, _) = *self.blocks.get(number as usize)?;
        let parent = number.checked_sub(1).map_or(B256::ZERO, |below| self.blocks[below as usize].0);
        Some(Block { number, hash, parent, timestamp: number })
    }

    fn logs(&self, from: u64, to: u64) -> Vec<Log> {
        let numbers = from..=to.min(self.blocks.len() as u64 - 1);
        let of_block = |number: u64| {
            let (hash, count) = self.blocks[number as usize];
            (0..count).map(move |index| Log {
                address: Address::ZERO,
                topics: vec![hash],
                data: Bytes::new(),
                block_number: number,
                block_hash: hash,
                transaction: hash,
                index,
                timestamp: None,
            })
        };
        numbers.flat_map(of_block).collect()
    }
}

impl ChainSource for FakeChain {
    async fn head(&self) -> Result<Block, ChainError> {
        let mut world = self.0.lock();
        world.happen();
        Ok(world.block(world.blocks.len() as u64 - 1).unwrap())
    }

    async fn block(&self, number: u64) -> Result<Option<Block>, ChainError> {
        let mut world = self.0.lock();
        world.happen();
        if world.restless && world.rng.random_ratio(1, 60) {
            return Err(ChainError::Failed { endpoint: "fake".into(), reason: "drawn".into() });
        }
        Ok(world.block(number))
    }

    async fn logs(&self, from: u64, to: u64, below: Option<BlockId>) -> Result<LogsRead, ChainError> {
        let mut world = self.0.lock();
        world.happen();
        if let Some(below) = below
            && world.block(below.number).map(|block| block.hash) != Some(below.hash)
        {
            return Err(ChainError::Unsettled { block: below.number });
        }
        let through = world.rng.random_range(from..=to);
        let Some(block) = world.block(through) else {
            return Err(ChainError::Beyond { endpoint: "fake".into(), asked: through, head: 0 });
        };
        Ok(LogsRead { through: block, logs: world.logs(from, through) })
    }
}

/// What somebody keeps who applies the steps, position included.
#[derive(Default)]
struct Kept {
    logs: Vec<Log>,
    position: Option<Vec<u8>>,
    rolled_back: usize,
    reset: usize,
}

impl Kept {
    fn apply(&mut self, step: Step) -> bool {
        let position = match step {
            Step::AtHead { .. } => return false,
            Step::Advanced { from, to, logs, position } => {
                assert!(self.logs.iter().all(|log| log.block_number < from));
                assert!(logs.iter().all(|log| (from..=to.number).contains(&log.block_number)));
                self.logs.extend(logs);
                position
            }
            Step::RolledBack { to, from, position } => {
                assert!(to.is_none_or(|to| to.number < from.number));
                self.logs.retain(|log| to.is_some_and(|to| log.block_number <= to.number));
                self.rolled_back += 1;
                position
            }
            Step::Reset { position, .. } => {
                self.logs.clear();
                self.reset += 1;
                position
            }
        };
        self.position = Some(position.to_bytes());
        true
    }
}

fn run(seed: u64) -> Kept {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let settings = Settings { patience: Duration::ZERO, far_below: 200, ..Settings::new(7, START) };
    let (mut kept, mut rng) = (Kept::default(), StdRng::seed_from_u64(!seed));
    let mut follower = Follower::new(FakeChain(Mutex::new(World::new(seed))), settings, None).unwrap();
    runtime.block_on(async {
        for _ in 0..STEPS {
            if let Ok(step) = follower.step().await {
                kept.apply(step);
            }
            if rng.random_ratio(1, 30) {
                // The program is started anew.
                let position = kept.position.as_deref().map(|bytes| Position::from_bytes(bytes).unwrap());
                let world = std::mem::replace(&mut *follower.source().0.lock(), World::new(0));
                follower = Follower::new(FakeChain(Mutex::new(world)), settings, position).unwrap();
            }
        }
        follower.source().0.lock().restless = false;
        while kept.apply(follower.step().await.unwrap()) {}
        let world = follower.source().0.lock();
        let expected =
            if world.blocks.len() as u64 > START { world.logs(START, u64::MAX - 1) } else { vec![] };
        assert!(kept.logs == expected, "{} logs kept, {} on the chain", kept.logs.len(), expected.len());
    });
    kept
}

#[test]
fn whoever_applies_the_steps_has_the_logs_of_the_chain() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let (first, count) = match number("DAS_SEED") {
        Some(seed) => (seed, 1),
        None => (rand::rng().random(), if number("DAS_LONG").is_some() { 20_000 } else { 1_000 }),
    };
    let (mut rolled_back, mut reset) = (0, 0);
    for seed in (0..count).map(|i| first.wrapping_add(i)) {
        match std::panic::catch_unwind(|| run(seed)) {
            Ok(kept) => {
                rolled_back += kept.rolled_back;
                reset += kept.reset;
            }
            Err(_) => panic!("DAS_SEED={seed} shows it again"),
        }
    }
    println!("{count} chains from seed {first}: {rolled_back} times back, {reset} resets");
    assert!(count == 1 || (rolled_back > 1000 && reset > 100));
}
