//! The plan against a chain that takes back what it took, and a poster that crashes between any two steps.

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::entry::{Attempt, FOR_EVER};
use super::*;

const LIMITS: FeeLimits = FeeLimits { max: 10_000, tip: 100, least_tip: 1 };
const POLICY: Policy = Policy {
    in_flight: 4,
    replace_after: 60,
    resend_after: 24,
    least_life: 1000,
    fees: LIMITS,
    accept_nonces: 0,
    accept_batches: 0,
};
/// Blocks that no reorganization reaches.
const DEPTH: usize = 24;

/// A transaction as the chain sees it: whose batch, under which numbers, at what price.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Tx {
    hash: TxHash,
    id: u64,
    nonce: u64,
    sequence: u64,
    fees: Fees,
    until: u64,
}

#[derive(Debug, Clone, Default)]
struct MinedBlock {
    hash: [u8; 32],
    txs: Vec<(Tx, bool)>,
}

/// A chain with one contract and one account.
struct Chain {
    blocks: Vec<MinedBlock>,
    pool: Vec<Tx>,
    random: StdRng,
    /// Batches that somebody else posted: their numbers count and they are nobody's of the queue.
    foreign: u64,
    base: u128,
    finalized: usize,
}

impl Chain {
    fn new(seed: u64) -> Self {
        let random = StdRng::seed_from_u64(seed);
        let blocks = vec![MinedBlock::default(); DEPTH + 1];
        Self { blocks, pool: Vec::new(), random, foreign: 0, base: 100, finalized: 0 }
    }

    fn done(&self) -> impl Iterator<Item = &Tx> {
        self.blocks.iter().flat_map(|block| &block.txs).filter(|(_, good)| *good).map(|(tx, _)| tx)
    }

    fn batches(&self) -> u64 {
        self.foreign + self.done().count() as u64
    }

    fn nonce(&self) -> u64 {
        self.blocks.iter().map(|block| block.txs.len() as u64).sum()
    }

    /// As a node does: one transaction a nonce, and a better one instead of it.
    fn send(&mut self, tx: Tx) {
        if tx.nonce < self.nonce() || self.random.random_bool(0.1) {
            return;
        }
        match self.pool.iter_mut().find(|known| known.nonce == tx.nonce) {
            Some(known)
                if tx.fees.max * 10 >= known.fees.max * 11 && tx.fees.tip * 10 >= known.fees.tip * 11 =>
            {
                *known = tx;
            }
            Some(_) => {}
            None => self.pool.push(tx),
        }
    }

    fn mine(&mut self, room: usize) {
        let mut block = MinedBlock { hash: self.random.random(), txs: Vec::new() };
        self.blocks.push(MinedBlock::default());
        for _ in 0..room {
            let nonce = self.nonce() + block.txs.len() as u64;
            let Some(at) = self.pool.iter().position(|tx| tx.nonce == nonce && tx.fees.max >= self.base)
            else {
                break;
            };
            let tx = self.pool.remove(at);
            let before = block.txs.iter().filter(|(_, good)| *good).count() as u64;
            block.txs.push((tx, tx.sequence == self.batches() + before));
        }
        let nonce = self.nonce() + block.txs.len() as u64;
        self.pool.retain(|tx| tx.nonce >= nonce);
        *self.blocks.last_mut().unwrap() = block;
        self.finalized = self.finalized.max((self.blocks.len() - 1).saturating_sub(DEPTH));
    }

    /// Takes blocks back; their transactions wait again, or are forgotten.
    fn reorganize(&mut self, depth: usize) {
        for _ in 0..depth.min(self.blocks.len() - 1 - self.finalized) {
            let block = self.blocks.pop().unwrap();
            if self.random.random_bool(0.5) {
                for (tx, _) in block.txs {
                    self.pool.retain(|other| other.nonce != tx.nonce);
                    self.pool.push(tx);
                }
            }
        }
        if self.random.random_bool(0.3) {
            self.pool.clear();
        }
    }

    fn view(&self) -> View {
        let receipts = self.blocks.iter().enumerate().flat_map(|(number, block)| {
            let at = Block { number: number as u64, hash: block.hash };
            block.txs.iter().map(move |(tx, good)| (tx.hash, (at, *good)))
        });
        View {
            finalized: self.finalized as u64,
            batches: self.batches(),
            nonce: self.nonce(),
            final_nonce: 0,
            market: Market { base: self.base, tip: 2 },
            keyset_valid: true,
            receipts: receipts.collect(),
        }
    }
}

/// The queue as it is on disk, and what a poster does with it.
struct Poster {
    disk: Vec<Entry>,
    now: u64,
    sent: HashMap<TxHash, Tx>,
    random: StdRng,
}

impl Poster {
    /// One round; ends early in a crash with this probability before each step and between writing and sending.
    fn round(&mut self, chain: &mut Chain, crash: f64) -> Option<Hold> {
        let open: Vec<Entry> =
            self.disk.iter().filter(|entry| !matches!(entry.stage, Stage::Final { .. })).cloned().collect();
        let finals = self.disk.iter().filter_map(|entry| match entry.stage {
            Stage::Final { sequence, .. } => Some(sequence + 1),
            _ => None,
        });
        let plan = plan(&open, finals.max().unwrap_or(0), &chain.view(), &POLICY, self.now);
        for step in plan.steps {
            if self.random.random_bool(crash) {
                break;
            }
            let id = match step {
                Step::Certify { id }
                | Step::Submit { id, .. }
                | Step::Resend { id }
                | Step::Include { id, .. }
                | Step::Vanish { id }
                | Step::Revert { id, .. }
                | Step::Renumber { id }
                | Step::Finalize { id } => id,
            };
            let entry = self.disk.iter_mut().find(|entry| entry.id == id).unwrap();
            match step {
                Step::Certify { .. } => entry.certify(self.now + self.random.random_range(900..20_000)),
                Step::Submit { nonce, sequence, fees, .. } => {
                    let until = entry.certified.expect("nothing is sent without a certificate");
                    assert!(until >= self.now + POLICY.least_life, "nodes would ignore it");
                    let tx = Tx { hash: self.random.random(), id, nonce, sequence, fees, until };
                    let attempt = Attempt {
                        tx: tx.hash,
                        raw: Vec::new(),
                        fees,
                        sequence,
                        made: self.now,
                        sent: self.now,
                        until,
                    };
                    entry.submitted(nonce, attempt);
                    self.sent.insert(tx.hash, tx);
                    if self.random.random_bool(crash) {
                        break;
                    }
                    chain.send(tx);
                }
                Step::Resend { .. } => {
                    let Stage::Submitted { attempts, .. } = &entry.stage else { panic!("{entry:?}") };
                    let last = attempts.last().unwrap();
                    assert!(last.until >= self.now + POLICY.least_life, "nodes would ignore it");
                    let tx = self.sent[&last.tx];
                    entry.sent_again(self.now);
                    chain.send(tx);
                }
                Step::Include { tx, block, .. } => entry.included(tx, block),
                Step::Vanish { .. } => entry.vanished(),
                Step::Revert { .. } | Step::Renumber { .. } => entry.reverted(),
                Step::Finalize { .. } => entry.finalized(),
            }
        }
        plan.hold
    }

    fn all_final(&self) -> bool {
        self.disk.iter().all(|entry| matches!(entry.stage, Stage::Final { .. }))
    }
}

fn poster(seed: u64) -> Poster {
    Poster { disk: Vec::new(), now: 1_000_000, sent: HashMap::new(), random: StdRng::seed_from_u64(!seed) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whatever the chain takes back and wherever the poster crashes: in the end the list of batches is complete, in order, each
    /// exactly once.
    #[test]
    fn every_batch_is_posted_once_and_in_order(seed in any::<u64>(), batches in 1_u64..12, trouble in 10_usize..150) {
        let (mut chain, mut poster) = (Chain::new(seed), poster(seed));
        for turn in 0..trouble {
            if (poster.disk.len() as u64) < batches && poster.random.random_bool(0.3) {
                let id = poster.disk.len() as u64;
                poster.disk.push(Entry::new(id));
            }
            let hold = poster.round(&mut chain, 0.1);
            prop_assert!(!matches!(hold, Some(Hold::ForeignNonce { .. } | Hold::ForeignBatch { .. })), "turn {turn}: {hold:?}");
            poster.now += poster.random.random_range(0..40);
            chain.base = chain.random.random_range(1..200_u128).pow(if chain.random.random_bool(0.1) { 2 } else { 1 });
            if chain.random.random_bool(0.6) {
                let room = chain.random.random_range(0..4);
                chain.mine(room);
            }
            if chain.random.random_bool(0.15) {
                let depth = chain.random.random_range(1..20);
                chain.reorganize(depth);
            }
        }
        while (poster.disk.len() as u64) < batches {
            poster.disk.push(Entry::new(poster.disk.len() as u64));
        }
        chain.base = 1;
        let mut rounds = 0;
        while !poster.all_final() {
            let hold = poster.round(&mut chain, 0.0);
            poster.now += 12;
            chain.mine(10);
            rounds += 1;
            prop_assert!(rounds < 1000, "not final: {hold:?} {:?}", poster.disk);
        }
        let posted: Vec<u64> = chain.done().map(|tx| tx.id).collect();
        prop_assert_eq!(posted, (0..batches).collect::<Vec<_>>());
        for entry in &poster.disk {
            let Stage::Final { sequence, .. } = entry.stage else { unreachable!() };
            prop_assert_eq!(sequence, entry.id);
        }
    }
}

#[test]
fn what_others_did_with_our_key_or_our_right_stops_everything() {
    let (mut chain, mut poster) = (Chain::new(1), poster(1));
    poster.disk.extend([Entry::new(0), Entry::new(1)]);
    while !matches!(poster.disk[1].stage, Stage::Submitted { .. }) {
        assert_eq!(poster.round(&mut chain, 0.0), None);
    }
    // Another process with the key: the same nonce, and a batch that the queue does not know.
    chain.pool.clear();
    let Stage::Submitted { nonce, attempts } = &poster.disk[0].stage else { unreachable!() };
    let tx = Tx { hash: [9; 32], id: 77, nonce: *nonce, sequence: 0, fees: attempts[0].fees, until: 0 };
    chain.pool.push(tx);
    chain.mine(1);
    assert_eq!(poster.round(&mut chain, 0.0), Some(Hold::ForeignNonce { nonce: 0 }));
    let before = chain.pool.clone();
    poster.now += 1000;
    poster.round(&mut chain, 0.0);
    assert_eq!(chain.pool, before, "nothing more is sent");
    // Another nonce only for one that is named, and gone for good.
    for (accept_nonces, final_nonce, is_renumbered) in [(0, 1, false), (1, 0, false), (1, 1, true)] {
        let policy = Policy { accept_nonces, ..POLICY };
        let planned = plan(&poster.disk, 0, &View { final_nonce, ..chain.view() }, &policy, poster.now);
        assert_eq!(planned.steps.contains(&Step::Renumber { id: 0 }), is_renumbered, "{planned:?}");
        assert!(!planned.steps.contains(&Step::Renumber { id: 1 }));
        assert!(is_renumbered || planned.hold == Some(Hold::ForeignNonce { nonce: 0 }));
    }

    // Another poster with a key of its own.
    let (mut chain, mut poster) = (Chain::new(2), self::poster(2));
    poster.disk.push(Entry::new(0));
    while !matches!(poster.disk[0].stage, Stage::Submitted { .. }) {
        poster.round(&mut chain, 0.0);
    }
    chain.foreign = 1;
    assert_eq!(poster.round(&mut chain, 0.0), Some(Hold::ForeignBatch { sequence: 0 }));
    let policy = Policy { accept_batches: 1, ..POLICY };
    let planned = plan(&poster.disk, 0, &chain.view(), &policy, poster.now);
    assert!(
        matches!(planned.steps[..], [Step::Submit { id: 0, nonce: 0, sequence: 1, .. }])
            && planned.hold.is_none(),
        "{planned:?}"
    );
}

#[test]
fn no_gas_is_spent_where_it_would_be_wasted() {
    let (chain, entry) = (Chain::new(3), Entry { certified: Some(FOR_EVER - 1), ..Entry::new(5) });
    let good = chain.view();
    let submit = |view: &View| plan(std::slice::from_ref(&entry), 0, view, &POLICY, 1000);
    assert!(matches!(submit(&good).steps[..], [Step::Submit { id: 5, nonce: 0, sequence: 0, .. }]));
    let keyset = submit(&View { keyset_valid: false, ..good.clone() });
    assert_eq!((keyset.steps.len(), keyset.hold), (0, Some(Hold::Keyset)));
    // A batch that is posted itself names no keyset.
    let data = Entry { certified: Some(FOR_EVER), ..entry.clone() };
    let data = plan(&[data], 0, &View { keyset_valid: false, ..good.clone() }, &POLICY, 1000);
    assert!(matches!(data.steps[..], [Step::Submit { id: 5, .. }]) && data.hold.is_none());
    let reset = plan(std::slice::from_ref(&entry), 3, &good, &POLICY, 1000);
    assert_eq!((reset.steps.len(), reset.hold), (0, Some(Hold::Lost { batches: 0, least: 3 })));
    let dear = submit(&View { market: Market { base: 10_000, tip: 1 }, ..good });
    assert_eq!((dear.steps.len(), dear.hold), (0, Some(Hold::Fees)));
}
